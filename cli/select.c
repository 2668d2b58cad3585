/* What a ref selects: see select.h. */
#include "select.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int find_rows(cli_selection *s, uint64_t every)
{
	uint64_t rows = s->rows.info.rows, stop = rows;
	if (s->ref.kind != ESK_REF_WHOLE) {
		s->first = s->ref.start;
		stop = s->ref.stop;
		if (stop > rows)
			return cli_fail("%s: rows %" PRIu64 ":%" PRIu64
					" were asked for, \"%s\" has %" PRIu64,
				s->text, s->first, stop, s->rows.info.path, rows);
	}
	s->step = every;
	s->count = stop > s->first ? (stop - s->first + every - 1) / every : 0;
	return CLI_OK;
}

int cli_select_open(cli_place *place, const char *text, uint64_t every, cli_selection *ret_selection)
{
	*ret_selection = (cli_selection){.text = text};
	cli_selection *s = ret_selection;
	esk_error err = {0};
	esk_dataset *dataset;
	if (esk_ref_parse(text, &s->ref, &err) != ESK_OK)
		return cli_fail_with(&err);
	if (esk_reader_open(place->store, s->ref.run, &s->reader, &err) != ESK_OK) {
		s->reader = NULL;
		return cli_fail_with(&err);
	}
	if (esk_reader_find(s->reader, s->ref.path, &dataset, &err) != ESK_OK)
		return cli_fail_with(&err);
	int code = cli_rows_open(dataset, &s->rows);
	return code == CLI_OK ? find_rows(s, every) : code;
}

int cli_select_dataset(esk_dataset *dataset, const char *text, uint64_t every, cli_selection *ret_selection)
{
	*ret_selection = (cli_selection){.text = text};
	int code = cli_rows_open(dataset, &ret_selection->rows);
	return code == CLI_OK ? find_rows(ret_selection, every) : code;
}

void cli_select_close(cli_selection *selection)
{
	cli_rows_close(&selection->rows);
	free(selection->numbers);
	selection->numbers = NULL;
	esk_reader_close(selection->reader);
	esk_replay_reader_close(selection->replay);
	selection->reader = NULL;
	selection->replay = NULL;
}

int cli_select_load(cli_selection *s, uint64_t i, uint64_t piece_rows)
{
	uint64_t count = s->count - i < piece_rows ? s->count - i : piece_rows;
	if (s->numbers != NULL)
		return cli_rows_load_these(&s->rows, s->numbers + i, count);
	return cli_rows_load(&s->rows, s->first + i * s->step, s->step, count);
}

uint32_t cli_select_shape(const cli_selection *s, uint64_t ret_shape[ESK_MAX_RANK + 1])
{
	const esk_column *column = &s->rows.info.column;
	uint32_t rank = 0;
	if (s->ref.kind != ESK_REF_INDEX)
		ret_shape[rank++] = s->count;
	for (uint32_t i = 0; i < column->rank; i++)
		ret_shape[rank++] = column->shape[i];
	return rank;
}

static bool parse_end(const char *text, const char *end, uint64_t rows, uint64_t missing, uint64_t *ret_value)
{
	if (text == end) {
		*ret_value = missing;
		return true;
	}
	char *after;
	errno = 0;
	long long value = strtoll(text, &after, 10);
	if (after != end || errno != 0 || strchr("-0123456789", text[0]) == NULL)
		return false;
	if (value < 0)
		*ret_value = (uint64_t) - (value + 1) >= rows ? 0 : rows - (uint64_t)-value;
	else
		*ret_value = (uint64_t)value > rows ? rows : (uint64_t)value;
	return true;
}

bool cli_parse_rows(const char *text, uint64_t rows, uint64_t *ret_first, uint64_t *ret_stop)
{
	const char *colon = strchr(text, ':');
	if (colon == NULL)
		return false;
	return parse_end(text, colon, rows, 0, ret_first) &&
	       parse_end(colon + 1, text + strlen(text), rows, rows, ret_stop);
}
