/* Steps to look at: see tape.h. */
#include "tape.h"

#include <stdlib.h>
#include <string.h>

#define REWARDS_AT_ONCE 65536
#define PICTURE_BYTES (4u << 20)
#define PICTURES_AT_ONCE 64

int cli_tape_open(cli_place *place, const char *name, cli_tape *ret_tape)
{
	*ret_tape = (cli_tape){.name = name};
	int code = cli_replay_open(place, name, &ret_tape->reader);
	if (code == CLI_OK)
		ret_tape->episodes = esk_replay_reader_episodes(ret_tape->reader);
	else
		ret_tape->reader = NULL;
	return code;
}

/* Takes the episode out. */
static void clear(cli_tape *tape)
{
	if (tape->has_pictures) {
		cli_image_close(&tape->image);
		cli_select_close(&tape->pictures);
	}
	tape->has_pictures = false;
	for (size_t i = 0; i < tape->action_count; i++)
		cli_rows_close(&tape->actions[i]);
	tape->action_count = 0;
	free(tape->numbers);
	free(tape->totals);
	free(tape->action);
	tape->numbers = NULL;
	tape->totals = NULL;
	tape->action = NULL;
}

void cli_tape_close(cli_tape *tape)
{
	clear(tape);
	esk_replay_reader_close(tape->reader);
	tape->reader = NULL;
}

int cli_tape_refresh(cli_tape *tape)
{
	esk_error err = {0};
	clear(tape);
	if (esk_replay_reader_refresh(tape->reader, &err) != ESK_OK)
		return cli_fail_with(&err);
	tape->episodes = esk_replay_reader_episodes(tape->reader);
	return CLI_OK;
}

/* ---- an episode ---- */

static int number_rows(cli_tape *tape)
{
	esk_error err = {0};
	if (tape->episode.contiguous)
		return CLI_OK;
	tape->numbers = cli_alloc(tape->episode.length * sizeof *tape->numbers);
	if (esk_replay_reader_episode_rows(tape->reader, tape->episode.id, tape->numbers, &err) != ESK_OK)
		return cli_fail_with(&err);
	return CLI_OK;
}

/* The dataset `path`, or NULL. */
static esk_dataset *dataset_at(cli_tape *tape, const char *path)
{
	esk_dataset *dataset;
	return esk_reader_find(esk_replay_reader_base(tape->reader), path, &dataset, NULL) == ESK_OK ? dataset
												     : NULL;
}

static int sum_rewards(cli_tape *tape)
{
	esk_dataset *dataset = dataset_at(tape, "/rewards");
	cli_selection s;
	if (dataset == NULL || tape->episode.length == 0)
		return CLI_OK;
	int code = cli_select_episode(&s, tape->reader, &tape->episode, dataset, tape->name, 1);
	if (code == CLI_OK && s.rows.elements == 1 && cli_is_number(s.rows.info.column.dtype)) {
		tape->totals = cli_alloc(s.count * sizeof *tape->totals);
		double total = 0;
		for (uint64_t i = 0; i < s.count && code == CLI_OK; i += REWARDS_AT_ONCE) {
			code = cli_select_load(&s, i, REWARDS_AT_ONCE);
			for (uint64_t k = 0; k < s.rows.count && code == CLI_OK; k++) {
				const void *cell = cli_rows_cell(&s.rows, k);
				total += cell != NULL ? cli_real(s.rows.info.column.dtype, cell) : 0;
				tape->totals[i + k] = total;
			}
		}
	}
	cli_select_close(&s);
	return code;
}

static int open_pictures(cli_tape *tape)
{
	esk_dataset *dataset = cli_replay_pictures(tape->reader);
	if (dataset == NULL || tape->episode.length == 0)
		return CLI_OK;
	tape->has_pictures = true;
	tape->loaded = UINT64_MAX;
	const cli_look look = {.eight_bits = true};
	int code = cli_select_episode(&tape->pictures, tape->reader, &tape->episode, dataset, tape->name, 1);
	if (code == CLI_OK)
		code = cli_image_open(&tape->pictures, &look, &tape->image);
	if (code == CLI_OK)
		code = cli_image_measure(&tape->image, &tape->pictures);
	return code;
}

static int open_actions(cli_tape *tape)
{
	esk_reader *base = esk_replay_reader_base(tape->reader);
	for (size_t i = 0; i < esk_reader_dataset_count(base) && tape->action_count < CLI_TAPE_ACTIONS; i++) {
		esk_dataset *dataset = esk_reader_dataset_at(base, i);
		cli_rows *rows = &tape->actions[tape->action_count];
		int code = cli_rows_open(dataset, rows);
		if (code != CLI_OK)
			return code;
		bool is_action = strcmp(rows->info.path, "actions") == 0 ||
				 strncmp(rows->info.path, "actions/", 8) == 0;
		if (is_action && rows->info.rows >= esk_replay_reader_steps(tape->reader))
			tape->action_count++;
		else
			cli_rows_close(rows);
	}
	return CLI_OK;
}

int cli_tape_take(cli_tape *tape, uint64_t id)
{
	clear(tape);
	int code = cli_episode_get(tape->reader, id, &tape->episode);
	if (code == CLI_OK)
		code = number_rows(tape);
	if (code == CLI_OK)
		code = sum_rewards(tape);
	if (code == CLI_OK)
		code = open_pictures(tape);
	if (code == CLI_OK)
		code = open_actions(tape);
	return code;
}

/* ---- a step ---- */

static int load_picture(cli_tape *tape, uint64_t step)
{
	cli_selection *s = &tape->pictures;
	uint64_t piece = cli_rows_piece(&s->rows, PICTURE_BYTES);
	piece = piece > PICTURES_AT_ONCE ? PICTURES_AT_ONCE : piece;
	uint64_t first = step / piece * piece;
	if (first != tape->loaded) {
		tape->loaded = UINT64_MAX;
		int code = cli_select_load(s, first, piece);
		if (code != CLI_OK)
			return code;
		tape->loaded = first;
	}
	cli_image_convert(&tape->image, cli_rows_cell(&s->rows, step - first));
	return CLI_OK;
}

static int write_action(cli_tape *tape, uint64_t row, FILE *out)
{
	for (size_t i = 0; i < tape->action_count; i++) {
		cli_rows *rows = &tape->actions[i];
		const esk_column *column = &rows->info.column;
		int code = cli_rows_load_these(rows, &row, 1);
		if (code != CLI_OK)
			return code;
		const void *cell = cli_rows_cell(rows, 0);
		if (i > 0)
			fputs(", ", out);
		if (strlen(rows->info.path) > strlen("actions/"))
			fprintf(out, "%s: ", rows->info.path + strlen("actions/"));
		if (cell == NULL)
			fputs("none", out);
		else
			cli_put_json_array(out, column->dtype, column->shape, column->rank, cell);
	}
	return CLI_OK;
}

static int load_action(cli_tape *tape, uint64_t row)
{
	char *text = NULL;
	size_t size;
	FILE *memory = open_memstream(&text, &size);
	if (memory == NULL)
		return cli_fail("out of memory for an action");
	int code = write_action(tape, row, memory);
	fclose(memory);
	free(tape->action);
	tape->action = cli_escaped(text, size);
	free(text);
	return code;
}

int cli_tape_step(cli_tape *tape, uint64_t step, cli_step *ret_step)
{
	uint64_t row = tape->numbers != NULL ? tape->numbers[step] : tape->episode.start + step;
	int code = load_action(tape, row);
	if (code == CLI_OK && tape->has_pictures)
		code = load_picture(tape, step);
	if (code != CLI_OK)
		return code;
	*ret_step = (cli_step){.row = row, .action = tape->action};
	if (tape->totals != NULL) {
		ret_step->has_reward = true;
		ret_step->total = tape->totals[step];
		ret_step->reward = tape->totals[step] - (step > 0 ? tape->totals[step - 1] : 0);
	}
	if (tape->has_pictures)
		ret_step->frame = &tape->image.pixels;
	return CLI_OK;
}
