/* esker cat: rows of a stream or of one dataset, as a table, CSV or JSON lines. */
#include "arrow_out.h"
#include "commands.h"
#include "place.h"
#include "progress.h"
#include "select.h"
#include "table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PIECE_BYTES (4u << 20)
#define PIECE_MOST_ROWS 65536
#define INLINE_ELEMENTS 16 /* larger cells are shown as the ref that gets them */
#define FOLLOW_NS 200000000

typedef struct column {
	cli_rows rows;
	char *name;
	bool as_ref;
	bool spread; /* CSV: a field per element */
} column;

typedef struct cat {
	const cli_args *args;
	esk_reader *reader;
	const char *run;
	cli_format format;
	column *columns;
	size_t column_count;
	cli_head *heads; /* text: "row" and the columns */
	cli_table *table;
	uint64_t first; /* rows still to be printed */
	uint64_t stop;
	uint64_t limit;
} cat;

/* ---- choosing columns ---- */

/* True if `name` stands in the list "a,b,c" (NULL: everything does). */
static bool listed(const char *list, const char *name)
{
	size_t length = strlen(name);
	if (list == NULL)
		return true;
	for (const char *at = list; at != NULL; at = strchr(at, ',')) {
		at += *at == ',';
		if (strncmp(at, name, length) == 0 && (at[length] == ',' || at[length] == '\0'))
			return true;
	}
	return false;
}

static void add_column(cat *c, const cli_rows *rows)
{
	column *col = &c->columns[c->column_count++];
	*col = (column){.rows = *rows};
	col->name = cli_copy(rows->info.column.name);
	col->as_ref = rows->elements > INLINE_ELEMENTS && !cli_flag(c->args, "full");
	col->spread = rows->elements > 1 && !col->as_ref;
}

/* The only stream of a run, or a message that lists them. */
static int only_stream(const cat *c, char *buf, size_t size)
{
	char list[1024] = "";
	int code = cli_only_stream(c->reader, c->run, buf, size, list, sizeof list);
	if (code == CLI_USAGE)
		return cli_usage(c->args, "run \"%s\" has several streams; name one: %s", c->run, list);
	return code;
}

static int add_stream(cat *c, const char *stream)
{
	char only[ESK_MAX_PATH + 1] = "", name[ESK_MAX_PATH + 1];
	if (stream == NULL) {
		int code = only_stream(c, only, sizeof only);
		if (code != CLI_OK)
			return code;
		stream = only;
	}
	while (stream[0] == '/' && stream[1] != '\0')
		stream++;
	const char *wanted = cli_value(c->args, "columns");
	bool found = false;
	for (size_t i = 0; i < esk_reader_dataset_count(c->reader); i++) {
		cli_rows rows;
		int code = cli_rows_open(esk_reader_dataset_at(c->reader, i), &rows);
		if (code != CLI_OK)
			return code;
		cli_stream_of(&rows.info, name, sizeof name);
		if (strcmp(name, stream) != 0)
			continue;
		found = true;
		if (listed(wanted, rows.info.column.name))
			add_column(c, &rows);
	}
	if (!found)
		return cli_fail("run \"%s\" has no stream \"%s\"; 'esker ls RUN' lists them", c->run, stream);
	if (c->column_count == 0)
		return cli_fail("stream \"%s\" has no column of \"%s\"", stream, wanted);
	return CLI_OK;
}

static int add_ref(cat *c, const esk_ref *ref)
{
	esk_dataset *dataset;
	cli_rows rows;
	esk_error err = {0};
	if (esk_reader_find(c->reader, ref->path, &dataset, &err) != ESK_OK)
		return cli_fail_with(&err);
	int code = cli_rows_open(dataset, &rows);
	if (code == CLI_OK)
		add_column(c, &rows);
	return code;
}

/* Rows that every column has. */
static uint64_t common_rows(const cat *c)
{
	uint64_t rows = UINT64_MAX;
	for (size_t i = 0; i < c->column_count; i++) {
		uint64_t has = esk_dataset_rows(c->columns[i].rows.dataset);
		rows = has < rows ? has : rows;
	}
	return rows;
}

/* ---- printing ---- */

static void put_ref(FILE *out, const cat *c, const column *col, uint64_t row)
{
	esk_ref ref = {.kind = ESK_REF_INDEX, .start = row, .stop = row + 1};
	snprintf(ref.run, sizeof ref.run, "%s", c->run);
	snprintf(ref.path, sizeof ref.path, "%s", col->rows.info.path);
	char text[4 * (ESK_MAX_PATH + ESK_MAX_NAME)];
	esk_ref_format(&ref, text, sizeof text);
	fputs(text, out);
}

static void put_json_row(const cat *c, uint64_t row, uint64_t k)
{
	printf("{\"row\": %" PRIu64, row);
	for (size_t i = 0; i < c->column_count; i++) {
		const column *col = &c->columns[i];
		const esk_column *info = &col->rows.info.column;
		fputs(", ", stdout);
		cli_put_json_string(stdout, col->name, strlen(col->name));
		fputs(": ", stdout);
		const void *cell = cli_rows_cell(&col->rows, k);
		if (cell == NULL) {
			fputs("null", stdout);
		} else if (col->as_ref) {
			fputc('"', stdout);
			put_ref(stdout, c, col, row);
			fputc('"', stdout);
		} else {
			cli_put_json_array(stdout, info->dtype, info->shape, info->rank, cell);
		}
	}
	fputs("}\n", stdout);
}

static void put_csv_element(esk_dtype dtype, const void *element)
{
	if (dtype.kind == ESK_STRING) {
		const esk_string *string = element;
		cli_put_csv(stdout, string->data, string->size);
	} else if (dtype.kind == ESK_STRING_N) {
		cli_put_csv(stdout, element, strnlen(element, dtype.size_bytes));
	} else {
		cli_put_text(stdout, dtype, element);
	}
}

static void put_csv_row(const cat *c, uint64_t row, uint64_t k)
{
	printf("%" PRIu64, row);
	for (size_t i = 0; i < c->column_count; i++) {
		const column *col = &c->columns[i];
		esk_dtype dtype = col->rows.info.column.dtype;
		const unsigned char *cell = cli_rows_cell(&col->rows, k);
		if (col->as_ref) {
			fputc(',', stdout);
			if (cell != NULL)
				put_ref(stdout, c, col, row);
			continue;
		}
		for (uint64_t e = 0; e < col->rows.elements; e++) {
			fputc(',', stdout);
			if (cell != NULL)
				put_csv_element(dtype, cell + e * dtype.size_bytes);
		}
	}
	fputc('\n', stdout);
}

static void put_csv_name(const column *col, uint64_t element)
{
	char *name = NULL;
	size_t size = 0;
	FILE *memory = open_memstream(&name, &size);
	if (memory == NULL)
		return;
	fputs(col->name, memory);
	const esk_column *info = &col->rows.info.column;
	uint64_t below = col->rows.elements;
	for (uint32_t d = 0; col->spread && d < info->rank; d++) {
		below /= info->shape[d];
		fprintf(memory, "%c%" PRIu64, d == 0 ? '[' : ',', element / below % info->shape[d]);
	}
	fputs(col->spread ? "]" : "", memory);
	fclose(memory);
	fputc(',', stdout);
	cli_put_csv(stdout, name, size);
	free(name);
}

static void put_csv_head(const cat *c)
{
	fputs("row", stdout);
	for (size_t i = 0; i < c->column_count; i++)
		for (uint64_t e = 0; e < (c->columns[i].spread ? c->columns[i].rows.elements : 1); e++)
			put_csv_name(&c->columns[i], e);
	fputc('\n', stdout);
}

static void put_text_row(const cat *c, uint64_t row, uint64_t k)
{
	cli_table_integer(c->table, (int64_t)row);
	for (size_t i = 0; i < c->column_count; i++) {
		const column *col = &c->columns[i];
		const esk_column *info = &col->rows.info.column;
		const void *cell = cli_rows_cell(&col->rows, k);
		char *text = NULL;
		size_t size = 0;
		FILE *memory = cell != NULL ? open_memstream(&text, &size) : NULL;
		if (memory == NULL) {
			cli_table_null(c->table);
			continue;
		}
		if (col->as_ref)
			put_ref(memory, c, col, row);
		else if (col->spread)
			cli_put_json_array(memory, info->dtype, info->shape, info->rank, cell);
		else
			cli_put_text(memory, info->dtype, cell);
		fclose(memory);
		cli_table_text_size(c->table, text, size);
		free(text);
	}
}

/* ---- reading ---- */

static uint64_t piece_rows(const cat *c)
{
	uint64_t piece = PIECE_MOST_ROWS;
	for (size_t i = 0; i < c->column_count; i++) {
		if (c->columns[i].as_ref)
			continue; /* not read */
		uint64_t rows = cli_rows_piece(&c->columns[i].rows, PIECE_BYTES);
		piece = rows < piece ? rows : piece;
	}
	return piece;
}

/* Loads `count` rows of every column; of those shown as refs only which are there. */
static int load(cat *c, uint64_t first, uint64_t count)
{
	int code = CLI_OK;
	for (size_t i = 0; i < c->column_count && code == CLI_OK; i++) {
		column *col = &c->columns[i];
		code = col->as_ref ? cli_rows_load_valid(&col->rows, first, count)
				   : cli_rows_load(&col->rows, first, 1, count);
	}
	return code;
}

static int print_rows(cat *c)
{
	uint64_t piece = piece_rows(c);
	while (c->first < c->stop && !cli_output_broken() && !cli_stop_requested()) {
		uint64_t count = c->stop - c->first < piece ? c->stop - c->first : piece;
		int code = load(c, c->first, count);
		if (code != CLI_OK)
			return code;
		for (uint64_t k = 0; k < count; k++) {
			if (c->format == CLI_JSON)
				put_json_row(c, c->first + k, k);
			else if (c->format == CLI_CSV)
				put_csv_row(c, c->first + k, k);
			else
				put_text_row(c, c->first + k, k);
		}
		c->first += count;
	}
	return CLI_OK;
}

/* Goes on with rows as they are committed, until a signal comes or nobody reads any more. */
static int follow(cat *c)
{
	while (!cli_stop_requested()) {
		if (c->format == CLI_TEXT)
			cli_table_flush(c->table);
		fflush(stdout);
		if (cli_output_broken())
			break;
		esk_error err = {0};
		if (esk_reader_refresh(c->reader, &err) != ESK_OK)
			return cli_fail_with(&err);
		uint64_t rows = common_rows(c);
		c->stop = rows < c->limit ? rows : c->limit;
		if (c->first >= c->limit)
			break;
		int code = print_rows(c);
		if (code != CLI_OK)
			return code;
		nanosleep(&(struct timespec){.tv_nsec = FOLLOW_NS}, NULL);
	}
	return CLI_OK;
}

static void begin_output(cat *c)
{
	if (c->format == CLI_CSV)
		put_csv_head(c);
	if (c->format != CLI_TEXT)
		return;
	c->heads = cli_alloc((c->column_count + 1) * sizeof *c->heads);
	c->heads[0] = (cli_head){.key = "row", .title = "row", .right = true};
	for (size_t i = 0; i < c->column_count; i++) {
		const column *col = &c->columns[i];
		bool number = cli_is_number(col->rows.info.column.dtype) && !col->as_ref && !col->spread;
		c->heads[i + 1] = (cli_head){.key = col->name, .title = col->name, .right = number};
	}
	c->table = cli_table_begin(stdout, CLI_TEXT, c->heads, c->column_count + 1);
}

static int choose_rows(cat *c, const esk_ref *ref, uint64_t rows)
{
	uint64_t head;
	const char *range = cli_value(c->args, "rows"), *count = cli_value(c->args, "head");
	c->stop = rows;
	c->limit = UINT64_MAX;
	if (ref->kind != ESK_REF_WHOLE) {
		if (range != NULL)
			return cli_usage(c->args, "--rows or a range in the ref, not both");
		if (ref->stop > rows)
			return cli_fail("rows %" PRIu64 ":%" PRIu64 " were asked for, \"%s\" has %" PRIu64,
				ref->start, ref->stop, ref->path, rows);
		c->first = ref->start;
		c->limit = c->stop = ref->stop;
	}
	if (range != NULL && !cli_parse_rows(range, rows, &c->first, &c->stop))
		return cli_usage(
			c->args, "--rows: START:STOP was expected, as 10:20 or -5:, found \"%s\"", range);
	if (range != NULL && range[strlen(range) - 1] != ':')
		c->limit = c->stop;
	if (count != NULL && !cli_parse_u64(count, &head))
		return cli_usage(c->args, "--head: a number was expected, found \"%s\"", count);
	if (count != NULL && head < UINT64_MAX - c->first) {
		c->limit = c->first + head < c->limit ? c->first + head : c->limit;
		c->stop = c->stop < c->limit ? c->stop : c->limit;
	}
	return CLI_OK;
}

static int parse_source(cat *c, const cli_place *place, esk_ref *ret_ref)
{
	const char *word = place->words[0];
	*ret_ref = (esk_ref){.kind = ESK_REF_WHOLE};
	c->run = word;
	if (strncmp(word, "h5://", 5) != 0)
		return CLI_OK;
	esk_error err = {0};
	if (place->word_count > 1)
		return cli_usage(c->args, "cat: a ref names its stream already");
	if (esk_ref_parse(word, ret_ref, &err) != ESK_OK)
		return cli_fail_with(&err);
	c->run = ret_ref->run;
	return CLI_OK;
}

static int print_all(cat *c, const cli_place *place, const esk_ref *ref)
{
	int code = ref->path[0] != '\0' ? add_ref(c, ref)
					: add_stream(c, place->word_count > 1 ? place->words[1] : NULL);
	if (code == CLI_OK)
		code = choose_rows(c, ref, common_rows(c));
	if (code == CLI_OK) {
		begin_output(c);
		code = print_rows(c);
	}
	if (code == CLI_OK && cli_flag(c->args, "follow"))
		code = follow(c);
	if (c->table != NULL)
		cli_table_end(c->table);
	return code;
}

/* ---- Arrow ---- */

static int open_arrow(cat *c, const cli_arrow_source *source, struct ArrowArrayStream *ret_from)
{
	esk_arrow_rows rows = ESK_ARROW_ROWS_INIT;
	rows.start = c->first;
	rows.stop = c->stop > c->first ? c->stop : c->first;
	return cli_arrow_open(c->reader, source, cli_value(c->args, "columns"), &rows, ret_from);
}

/* Goes on with rows as they are committed; each time that there are some is a record batch. */
static int follow_arrow(cat *c, cli_arrow_source *source, cli_arrow_out *to)
{
	int code = CLI_OK;
	while (code == CLI_OK && !cli_stop_requested() && !cli_output_broken() && c->first < c->limit) {
		esk_error err = {0};
		struct ArrowArrayStream from;
		nanosleep(&(struct timespec){.tv_nsec = FOLLOW_NS}, NULL);
		if (esk_reader_refresh(c->reader, &err) != ESK_OK)
			return cli_fail_with(&err);
		uint64_t rows = cli_stream_rows(c->reader, source->stream);
		c->stop = rows < c->limit ? rows : c->limit;
		if (c->stop <= c->first)
			continue;
		code = open_arrow(c, source, &from);
		if (code != CLI_OK)
			break;
		code = cli_arrow_write(to, &from, 0);
		from.release(&from);
		c->first = c->stop;
	}
	return code;
}

static int write_arrow(cat *c, cli_arrow_source *source)
{
	struct ArrowArrayStream from;
	cli_arrow_out to;
	int code = open_arrow(c, source, &from);
	if (code != CLI_OK)
		return code;
	code = cli_arrow_begin(stdout, false, &from, &to);
	if (code == CLI_OK) {
		code = cli_arrow_write(&to, &from, 0);
		c->first = c->stop > c->first ? c->stop : c->first;
		if (code == CLI_OK && cli_flag(c->args, "follow"))
			code = follow_arrow(c, source, &to);
		code = cli_arrow_end(&to, code);
	}
	from.release(&from);
	return code;
}

static int print_arrow(cat *c, const cli_place *place, const esk_ref *ref)
{
	char only[ESK_MAX_PATH + 1] = "";
	cli_arrow_source source;
	const char *path = place->word_count > 1 ? place->words[1] : ref->path[0] != '\0' ? ref->path : NULL;
	if (isatty(STDOUT_FILENO))
		return cli_usage(c->args, "binary data does not go to a terminal: use a pipe or a file");
	if (path == NULL) {
		int code = only_stream(c, only, sizeof only);
		if (code != CLI_OK)
			return code;
		path = only;
	}
	int code = cli_arrow_find(c->reader, path, &source);
	if (code == CLI_OK && source.column[0] != '\0' && cli_value(c->args, "columns") != NULL)
		return cli_usage(c->args, "--columns chooses among those of a stream, and \"%s\" is one",
			source.column);
	if (code == CLI_OK)
		code = choose_rows(c, ref, source.rows);
	return code == CLI_OK ? write_arrow(c, &source) : code;
}

static int choose_format(const cli_args *args, cli_format *ret_format, bool *ret_arrow)
{
	const char *name = cli_value(args, "format");
	if ((name != NULL) + cli_flag(args, "json") + cli_flag(args, "csv") > 1)
		return cli_usage(args, "cat: one of --json, --csv and --format");
	bool json = cli_flag(args, "json") || (name != NULL && strcmp(name, "json") == 0);
	bool csv = cli_flag(args, "csv") || (name != NULL && strcmp(name, "csv") == 0);
	*ret_arrow = name != NULL && strcmp(name, "arrow") == 0;
	if (name != NULL && !json && !csv && !*ret_arrow && strcmp(name, "text") != 0)
		return cli_usage(args, "--format: text, csv, json or arrow was expected, found \"%s\"", name);
	*ret_format = json ? CLI_JSON : csv ? CLI_CSV : CLI_TEXT;
	return CLI_OK;
}

static void close_columns(cat *c)
{
	for (size_t i = 0; i < c->column_count; i++) {
		cli_rows_close(&c->columns[i].rows);
		free(c->columns[i].name);
	}
	free(c->columns);
	free(c->heads);
}

static int run_cat(cli_args *args)
{
	cat c = {.args = args};
	bool arrow = false;
	int code = choose_format(args, &c.format, &arrow);
	if (code != CLI_OK)
		return code;
	cli_place place;
	code = cli_place_find(args, &place);
	if (code != CLI_OK)
		return code;
	esk_ref ref;
	code = parse_source(&c, &place, &ref);
	if (code == CLI_OK)
		code = cli_place_open_store(&place, true);
	if (code != CLI_OK)
		return code;
	esk_error err = {0};
	if (cli_flag(args, "follow"))
		cli_catch_signals();
	if (esk_reader_open(place.store, c.run, &c.reader, &err) != ESK_OK)
		return cli_place_close(&place, cli_fail_with(&err));
	c.columns = cli_alloc((esk_reader_dataset_count(c.reader) + 1) * sizeof *c.columns);
	code = arrow ? print_arrow(&c, &place, &ref) : print_all(&c, &place, &ref);
	close_columns(&c);
	esk_reader_close(c.reader);
	return cli_place_close(&place, code);
}

const cli_command cli_cat = {
	.name = "cat",
	.summary = "print rows as a table, CSV, JSON lines or Arrow",
	.usage = "[STORE] REF | RUN [STREAM] [--csv | --json | -f FORMAT] [OPTIONS]",
	.description = "Prints the rows of a stream, or of one dataset. STREAM may be left out where a run "
		       "has only one; / is the root. A cell of more than 16 elements is printed as the ref "
		       "that gets it, unless --full is given. In CSV, a smaller array becomes a field per "
		       "element. Missing cells are - in text, empty in CSV, null in JSON.",
	.options = (const cli_option[]){{"csv", 0, NULL, NULL, "print CSV"},
		{"json", 0, NULL, NULL, "print JSON lines: an object per row"},
		{"format", 'f', "FORMAT", "text|csv|json|arrow",
			"text, csv, json or arrow (an Arrow IPC stream; cells are whole)"},
		{"rows", 'r', "A:B", NULL, "rows A up to B, as in Python: 10:20, :5, -5: for the last five"},
		{"head", 'n', "N", NULL, "at most N rows"},
		{"columns", 'c', "A,B", NULL, "these columns of the stream alone"},
		{"full", 0, NULL, NULL, "print large cells whole"},
		{"follow", 'F', NULL, NULL, "go on as rows are committed, until Ctrl-C"}, {0}},
	.examples = (const cli_example[]){{"esker cat data game --rows -5:", "the last five rows"},
		{"esker cat data imu --csv -c t,acc > acc.csv", "two columns for a spreadsheet"},
		{"esker cat data h5://game/reward/0:100 --json", "a range of one dataset"},
		{"esker cat data imu -f arrow > imu.arrows", "a stream for pyarrow, polars, JavaScript"},
		{"esker cat data imu -f arrow -c t,acc -r -1000: | python3 plot.py",
			"the last rows of two columns, into a pipe"},
		{"esker cat data game -F", "watch a recording"}, {0}},
	.needs = CLI_STORE,
	.words_least = 1,
	.words_most = 2,
	.complete = "ref",
	.run = run_cat,
};
