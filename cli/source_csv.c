/* CSV lines with a header (RFC 4180) from standard input, a row each, as they come.
 *
 * A field may be quoted, and a quoted one may hold line ends. Which fields become columns, and of which
 * dtype, -c says; without it each field is a column: i64 where the first lines hold whole numbers beyond 2^53
 * (times in nanoseconds), f64 where they hold numbers, else text. */
#include "source.h"

#include "progress.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BUFFER_BYTES (4u << 20)
#define ROWS_AT_ONCE 4096
#define FIELDS_MOST 4096
#define EXACT_MOST 9007199254740992.0 /* 2^53: whole numbers up to here are themselves as f64 */

typedef struct csv_field {
	char *data; /* in the buffer, NUL-terminated, quotes taken off */
	size_t size;
} csv_field;

typedef struct csv {
	char delimiter;
	bool stamp; /* column 0 is the time of arrival */
	char *buffer;
	size_t start, filled; /* [start, filled): not parsed yet */
	bool ended;
	uint64_t line;     /* number of the line at `start` */
	uint64_t lines;    /* line ends in the record that was parsed last */
	csv_field *fields; /* of the record parsed last */
	size_t field_count;
	char **names;          /* of the header */
	size_t name_count;     /* fields of every line */
	size_t *column_of;     /* per field; SIZE_MAX: not wanted */
	unsigned char **cells; /* per column, ROWS_AT_ONCE of them */
	uint8_t **valid;
	size_t column_count;
	uint64_t rows;
} csv;

/* ---- lines ---- */

/* Takes the record at `start` apart. False where it is not whole yet (and more may come). */
static bool parse_record(csv *s)
{
	char *in = s->buffer + s->start, *end = s->buffer + s->filled, *out = in;
	s->field_count = 0;
	s->lines = 1;
	bool quoted = false;
	csv_field field = {.data = in};
	for (; in < end; in++) {
		if (quoted && *in == '"' && in + 1 < end && in[1] == '"') {
			*out++ = *in++;
		} else if (*in == '"') {
			quoted = !quoted;
		} else if (!quoted && (*in == s->delimiter || *in == '\n')) {
			char here = *in;
			field.size = (size_t)(out - field.data);
			if (here == '\n' && field.size > 0 && out[-1] == '\r')
				field.size--;
			field.data[field.size] = '\0';
			if (s->field_count < FIELDS_MOST)
				s->fields[s->field_count++] = field;
			field.data = out = in + 1;
			if (here == '\n') {
				s->start = (size_t)(in + 1 - s->buffer);
				return true;
			}
		} else {
			s->lines += *in == '\n';
			*out++ = *in;
		}
	}
	return false;
}

/* Whether all of the next record is there; false at the end, when more has to come, or after a message
 * (*code). A record is parsed in place, and so only once it is whole: where its end is not there yet, the
 * buffer must stay as it is. */
static bool is_whole(csv *s, int *code)
{
	size_t at = s->start;
	bool quoted = false;
	for (; at < s->filled && (quoted || s->buffer[at] != '\n'); at++)
		quoted ^= s->buffer[at] == '"';
	if (at == s->filled && s->ended && s->start < s->filled && !quoted) {
		s->buffer[s->filled++] = '\n'; /* the last line may lack its end: there is room for it */
	} else if (at == s->filled) {
		if (s->filled - s->start >= BUFFER_BYTES)
			*code = cli_fail("line %" PRIu64 ": longer than %u bytes%s", s->line, BUFFER_BYTES,
				quoted ? "; a quote is not closed" : "");
		else if (s->ended && quoted)
			*code = cli_fail("line %" PRIu64 ": a quote is not closed", s->line);
		return false;
	}
	return true;
}

static bool next_record(csv *s, int *code)
{
	return is_whole(s, code) && parse_record(s);
}

static int fill(csv *s)
{
	memmove(s->buffer, s->buffer + s->start, s->filled - s->start);
	s->filled -= s->start;
	s->start = 0;
	size_t got = 0;
	int code = CLI_OK;
	if (s->filled < BUFFER_BYTES)
		code = cli_source_read(s->buffer + s->filled, BUFFER_BYTES - s->filled, &got, &s->ended);
	s->filled += got;
	return code;
}

static bool is_blank(const csv *s)
{
	return s->field_count == 1 && s->fields[0].size == 0;
}

/* ---- values ---- */

static bool parse_integer(const char *text, esk_dtype dtype, void *to)
{
	static const uint64_t most[] = {[1] = INT8_MAX, [2] = INT16_MAX, [4] = INT32_MAX, [8] = INT64_MAX};
	bool is_signed = dtype.kind <= ESK_I64;
	char *end;
	errno = 0;
	uint64_t bits;
	if (is_signed) {
		int64_t value = strtoll(text, &end, 10);
		if (value > (int64_t)most[dtype.size_bytes] || value < -(int64_t)most[dtype.size_bytes] - 1)
			return false;
		bits = (uint64_t)value;
	} else {
		bits = strtoull(text, &end, 10);
		if (strchr(text, '-') != NULL || bits > 2 * most[dtype.size_bytes] + 1)
			return false;
	}
	memcpy(to, &bits, dtype.size_bytes); /* little-endian */
	return end != text && *end == '\0' && errno == 0;
}

static bool parse_real(const char *text, double *ret_value)
{
	char *end;
	*ret_value = strtod(text, &end);
	return end != text && *end == '\0';
}

static bool parse_truth(const char *text, uint8_t *ret_value)
{
	*ret_value = strcasecmp(text, "true") == 0 || strcmp(text, "1") == 0;
	return *ret_value || strcasecmp(text, "false") == 0 || strcmp(text, "0") == 0;
}

static bool parse_cell(const esk_column *column, const csv_field *field, unsigned char *to)
{
	double real;
	float single;
	switch (column->dtype.kind) {
	case ESK_BOOL:
		return parse_truth(field->data, to);
	case ESK_F64:
		if (!parse_real(field->data, &real))
			return false;
		memcpy(to, &real, sizeof real);
		return true;
	case ESK_F32:
		if (!parse_real(field->data, &real))
			return false;
		single = (float)real;
		memcpy(to, &single, sizeof single);
		return true;
	case ESK_STRING:
		*(esk_string *)(void *)to = (esk_string){.data = field->data, .size = field->size};
		return memchr(field->data, '\0', field->size) == NULL;
	case ESK_STRING_N:
		if (field->size > column->dtype.size_bytes)
			return false;
		memset(to, 0, column->dtype.size_bytes);
		memcpy(to, field->data, field->size);
		return true;
	default:
		return parse_integer(field->data, column->dtype, to);
	}
}

/* An empty field is a missing cell where the column allows one, NaN, or an empty text. */
static bool put_empty(const esk_column *column, unsigned char *to, uint8_t *valid)
{
	static char empty[] = "", no_number[] = "nan";
	const csv_field nothing = {.data = empty}, not_a_number = {.data = no_number, .size = 3};
	if (valid != NULL) {
		*valid = 0;
		memset(to, 0, column->dtype.size_bytes);
		return true;
	}
	bool real = column->dtype.kind == ESK_F64 || column->dtype.kind == ESK_F32;
	bool words = column->dtype.kind == ESK_STRING || column->dtype.kind == ESK_STRING_N;
	return (real || words) && parse_cell(column, real ? &not_a_number : &nothing, to);
}

static int put_row(const cli_source *source, csv *s)
{
	if (s->field_count != s->name_count)
		return cli_fail("line %" PRIu64 ": %zu fields; the header has %zu", s->line, s->field_count,
			s->name_count);
	for (size_t f = 0; f < s->field_count; f++) {
		size_t c = s->column_of[f];
		if (c == SIZE_MAX)
			continue;
		const esk_column *column = &source->columns[c];
		unsigned char *to = s->cells[c] + s->rows * column->dtype.size_bytes;
		uint8_t *valid = s->valid[c] != NULL ? s->valid[c] + s->rows : NULL;
		if (valid != NULL)
			*valid = 1;
		bool good = s->fields[f].size == 0 ? put_empty(column, to, valid)
						   : parse_cell(column, &s->fields[f], to);
		char type[64];
		if (!good) {
			esk_dtype_format(column->dtype, type, sizeof type);
			return cli_fail("line %" PRIu64 ", field \"%s\": %s was expected, found \"%s\"",
				s->line, s->names[f], type, s->fields[f].data);
		}
	}
	if (s->stamp) {
		int64_t now = cli_source_now_ns();
		memcpy(s->cells[0] + s->rows * sizeof now, &now, sizeof now);
	}
	s->rows++;
	return CLI_OK;
}

/* ---- header and columns ---- */

/* "voltage (V)" and "voltage [V]" are a name and its units. */
static void split_units(char *name, char units[64])
{
	size_t size = strlen(name);
	char last = size > 0 ? name[size - 1] : '\0';
	char *open = last == ')' ? strrchr(name, '(') : last == ']' ? strrchr(name, '[') : NULL;
	units[0] = '\0';
	if (open == NULL || open == name)
		return;
	snprintf(units, 64, "%.*s", (int)(name + size - 1 - (open + 1)), open + 1);
	while (open > name && open[-1] == ' ')
		open--;
	*open = '\0';
}

/* i64 for times in nanoseconds and the like, which f64 would round; f64 for numbers; text for the rest. */
static esk_kind kind_of(const csv_field *field)
{
	double value;
	if (field->size == 0)
		return ESK_F64;
	if (!parse_real(field->data, &value))
		return ESK_STRING;
	bool whole = strspn(field->data, "+-0123456789") == field->size;
	return whole && fabs(value) > EXACT_MOST ? ESK_I64 : ESK_F64;
}

/* Waits until a record is whole. False at the end of the input, after a signal, or after a message. */
static bool await_record(csv *s, int *code)
{
	while (*code == CLI_OK && !cli_stop_requested()) {
		if (is_whole(s, code))
			return true;
		if (s->ended || *code != CLI_OK)
			return false;
		*code = fill(s);
	}
	return false;
}

static int read_header(csv *s)
{
	int code = CLI_OK;
	if (!await_record(s, &code) || !parse_record(s))
		return code != CLI_OK
			       ? code
			       : cli_fail(
					 "standard input: a line with the names of the columns was expected, "
					 "and there is none");
	if (s->field_count > FIELDS_MOST - 1)
		return cli_fail("the header has more than %d fields", FIELDS_MOST - 1);
	s->name_count = s->field_count;
	s->names = cli_alloc(s->name_count * sizeof *s->names);
	s->column_of = cli_alloc(s->name_count * sizeof *s->column_of);
	for (size_t f = 0; f < s->name_count; f++) {
		const char *name = s->fields[f].data;
		if (f == 0 && strncmp(name, "\xEF\xBB\xBF", 3) == 0)
			name += 3; /* a byte order mark */
		name += strspn(name, " ");
		s->names[f] = cli_copy(name);
		for (char *end = s->names[f] + strlen(s->names[f]); end > s->names[f] && end[-1] == ' ';)
			*--end = '\0';
		s->column_of[f] = SIZE_MAX;
	}
	s->line += s->lines;
	return CLI_OK;
}

/* A run is not begun for a header that gives two columns one name, or one none. */
static int check_name(const cli_source *source, const char *name, size_t field)
{
	if (*name == '\0')
		return cli_fail("the header's field %zu has no name", field + 1);
	for (size_t c = 0; c < source->column_count; c++)
		if (strcmp(source->columns[c].name, name) == 0)
			return cli_fail("the header's field %zu: \"%s\" is the name of another column too",
				field + 1, name);
	return CLI_OK;
}

/* Each field of the header is a column; the first record behind it says of which kind. That is parsed in
 * place, put back, and parsed again as a row. */
static int columns_by_look(cli_source *source, csv *s)
{
	int code = CLI_OK;
	bool found = await_record(s, &code);
	size_t start = s->start, size = s->filled - start;
	char *kept = cli_alloc(size + 1);
	memcpy(kept, s->buffer + start, size);
	found = found && parse_record(s);
	for (size_t f = 0; f < s->name_count && code == CLI_OK; f++) {
		char units[64];
		esk_kind kind = found && f < s->field_count ? kind_of(&s->fields[f]) : ESK_F64;
		s->column_of[f] = source->column_count;
		split_units(s->names[f], units);
		code = check_name(source, s->names[f], f);
		if (code == CLI_OK)
			cli_source_column(source, s->names[f], kind, units, "");
	}
	memcpy(s->buffer + start, kept, size);
	s->start = start;
	free(kept);
	return code;
}

static int columns_given(
	const cli_args *args, cli_source *source, csv *s, const esk_column *columns, size_t column_count)
{
	for (size_t c = 0; c < column_count; c++) {
		size_t f = 0;
		while (f < s->name_count && strcmp(s->names[f], columns[c].name) != 0)
			f++;
		if (f == s->name_count)
			return cli_usage(args, "--columns: the header has no field \"%s\"", columns[c].name);
		if (columns[c].rank != 0 || columns[c].dtype.kind == ESK_F16 ||
			columns[c].dtype.kind == ESK_C64 || columns[c].dtype.kind == ESK_C128)
			return cli_usage(args,
				"--columns: \"%s\": a field of CSV is one value: bool, an integer, f32, "
				"f64, str or str<N> was expected",
				columns[c].name);
		s->column_of[f] = source->column_count;
		cli_source_column(source, columns[c].name, columns[c].dtype.kind, "", "");
		source->columns[source->column_count - 1] = columns[c];
	}
	return CLI_OK;
}

/* ---- recording ---- */

static int hand_over(csv *s, cli_recorder *r)
{
	uint64_t taken = 0;
	int code = CLI_OK;
	if (s->rows > 0)
		code = cli_recorder_append(
			r, s->rows, (const void *const *)s->cells, (const uint8_t *const *)s->valid, &taken);
	s->rows = 0;
	return code;
}

static int run_csv(cli_source *source, cli_recorder *r)
{
	csv *s = source->state;
	int code = CLI_OK;
	while (code == CLI_OK && !cli_stop_requested()) {
		while (s->rows < ROWS_AT_ONCE && next_record(s, &code)) {
			if (!is_blank(s))
				code = put_row(source, s);
			s->line += s->lines;
			if (code != CLI_OK)
				break;
		}
		bool more = s->rows == ROWS_AT_ONCE;
		int handed = hand_over(s, r); /* rows before a bad line are kept */
		code = code == CLI_OK ? handed : code;
		if (code != CLI_OK || (s->ended && !more && s->start == s->filled))
			break;
		if (!more)
			code = fill(s);
		cli_recorder_tick(r);
	}
	return code;
}

static void close_csv(cli_source *source)
{
	csv *s = source->state;
	for (size_t f = 0; f < s->name_count; f++)
		free(s->names[f]);
	for (size_t c = 0; c < s->column_count; c++) {
		free(s->cells[c]);
		free(s->valid[c]);
	}
	free(s->names);
	free(s->column_of);
	free(s->cells);
	free(s->valid);
	free(s->fields);
	free(s->buffer);
}

static void make_room(const cli_source *source, csv *s)
{
	s->column_count = source->column_count;
	s->cells = cli_alloc(s->column_count * sizeof *s->cells);
	s->valid = cli_alloc(s->column_count * sizeof *s->valid);
	for (size_t c = 0; c < s->column_count; c++) {
		s->cells[c] = cli_alloc(ROWS_AT_ONCE * (size_t)source->columns[c].dtype.size_bytes);
		s->valid[c] = source->columns[c].nullable ? cli_alloc(ROWS_AT_ONCE) : NULL;
	}
}

int cli_source_open_csv(
	const cli_args *args, const esk_column *columns, size_t column_count, cli_source *ret_source)
{
	const char *delimiter = cli_value(args, "delimiter");
	if (delimiter != NULL && strcmp(delimiter, "\\t") == 0)
		delimiter = "\t";
	if (delimiter != NULL && (strlen(delimiter) != 1 || strchr("\"\r\n", delimiter[0]) != NULL))
		return cli_usage(
			args, "--delimiter: one character, or \\t, was expected, found \"%s\"", delimiter);
	csv *s = cli_alloc(sizeof *s);
	*s = (csv){.delimiter = delimiter != NULL ? delimiter[0] : ',',
		.stamp = cli_flag(args, "stamp"),
		.line = 1,
		.buffer = cli_alloc(BUFFER_BYTES + 1),
		.fields = cli_alloc(FIELDS_MOST * sizeof(csv_field))};
	*ret_source = (cli_source){.state = s, .run = run_csv, .close = close_csv};
	if (s->stamp)
		cli_source_column(ret_source, "arrived", ESK_I64, "ns", "since 1970-01-01 UTC");
	int code = read_header(s);
	if (code == CLI_OK)
		code = columns != NULL ? columns_given(args, ret_source, s, columns, column_count)
				       : columns_by_look(ret_source, s);
	if (code == CLI_OK)
		make_room(ret_source, s);
	return code;
}
