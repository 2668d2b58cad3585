/* esker get: rows of a dataset as a picture, as .npy, as Arrow, as raw bytes, as JSON. */
#include "commands.h"
#include "episode.h"
#include "get_arrow.h"
#include "npy.h"
#include "raster.h"
#include "select.h"
#include "target.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define PIECE_BYTES (16u << 20)
#define SHOWN_ELEMENTS 64
#define SHEET_FRAMES 48 /* of an episode */

typedef enum format {
	FORMAT_SUMMARY,
	FORMAT_JSON,
	FORMAT_PNG,
	FORMAT_NPY,
	FORMAT_RAW,
	FORMAT_ARROW,
	FORMAT_ARROWS,
	FORMAT_UNKNOWN
} format;

static format format_named(const char *name)
{
	static const char *const names[] = {[FORMAT_SUMMARY] = "summary",
		[FORMAT_JSON] = "json",
		[FORMAT_PNG] = "png",
		[FORMAT_NPY] = "npy",
		[FORMAT_RAW] = "raw",
		[FORMAT_ARROW] = "arrow",
		[FORMAT_ARROWS] = "arrows"};
	for (int i = 0; i < FORMAT_UNKNOWN; i++)
		if (strcasecmp(names[i], name) == 0)
			return (format)i;
	return FORMAT_UNKNOWN;
}

/* By --format, else by the file's ending, else what suits where it goes. */
static int choose_format(const cli_args *args, format *ret_format)
{
	const char *name = cli_value(args, "format"), *path = cli_value(args, "output");
	if (cli_flag(args, "json"))
		name = "json";
	bool file = path != NULL && strcmp(path, "-") != 0;
	if (name == NULL && file) {
		const char *dot = strrchr(path, '.');
		*ret_format = dot != NULL ? format_named(dot + 1) : FORMAT_UNKNOWN;
		if (*ret_format == FORMAT_UNKNOWN || *ret_format == FORMAT_SUMMARY)
			return cli_usage(args,
				"%s: .png, .npy, .arrow, .arrows, .raw or .json was expected; or say "
				"--format",
				path);
		return CLI_OK;
	}
	*ret_format = name != NULL                            ? format_named(name)
		      : path == NULL && isatty(STDOUT_FILENO) ? FORMAT_SUMMARY
							      : FORMAT_JSON;
	if (*ret_format == FORMAT_UNKNOWN)
		return cli_usage(args,
			"--format: png, npy, arrow, arrows, raw, json or summary was expected, found \"%s\"",
			name);
	bool binary = *ret_format != FORMAT_JSON && *ret_format != FORMAT_SUMMARY;
	if (binary && !file && isatty(STDOUT_FILENO))
		return cli_usage(args, "binary data does not go to a terminal: give -o FILE");
	return CLI_OK;
}

/* Calls `visit` for each cell (NULL where missing), reading in pieces. */
static int each_cell(cli_selection *s,
	void (*visit)(void *arg, const cli_selection *s, uint64_t i, const void *cell), void *arg)
{
	uint64_t piece = cli_rows_piece(&s->rows, PIECE_BYTES);
	for (uint64_t i = 0; i < s->count && !cli_output_broken(); i += piece) {
		int code = cli_select_load(s, i, piece);
		if (code != CLI_OK)
			return code;
		for (uint64_t k = 0; k < s->rows.count; k++)
			visit(arg, s, i + k, cli_rows_cell(&s->rows, k));
	}
	return CLI_OK;
}

/* ---- JSON ---- */

static void json_cell(void *arg, const cli_selection *s, uint64_t i, const void *cell)
{
	FILE *out = arg;
	const esk_column *column = &s->rows.info.column;
	if (s->ref.kind != ESK_REF_INDEX)
		fputs(i == 0 ? "\n    " : ",\n    ", out);
	if (cell == NULL)
		fputs("null", out);
	else
		cli_put_json_array(out, column->dtype, column->shape, column->rank, cell);
}

static int write_json(FILE *out, cli_selection *s)
{
	uint64_t shape[ESK_MAX_RANK + 1];
	char dtype[32];
	uint32_t rank = cli_select_shape(s, shape);
	esk_dtype_format(s->rows.info.column.dtype, dtype, sizeof dtype);
	fputs("{\n  \"ref\": ", out);
	cli_put_json_string(out, s->text, strlen(s->text));
	fprintf(out, ",\n  \"dtype\": \"%s\",\n  \"shape\": [", dtype);
	for (uint32_t i = 0; i < rank; i++)
		fprintf(out, "%s%" PRIu64, i > 0 ? ", " : "", shape[i]);
	fputs("],\n  \"data\": ", out);
	bool many = s->ref.kind != ESK_REF_INDEX;
	fputs(many ? "[" : "", out);
	int code = each_cell(s, json_cell, out);
	fputs(many ? "\n  ]\n}\n" : "\n}\n", out);
	return code;
}

/* ---- bytes ---- */

typedef struct bytes_job {
	FILE *out;
	uint64_t missing;
	void *zeros;
} bytes_job;

static void write_cell(void *arg, const cli_selection *s, uint64_t i, const void *cell)
{
	bytes_job *job = arg;
	(void)i;
	job->missing += cell == NULL;
	fwrite(cell != NULL ? cell : job->zeros, 1, s->rows.cell_bytes, job->out);
}

static int write_bytes(FILE *out, cli_selection *s, bool npy)
{
	uint64_t shape[ESK_MAX_RANK + 1];
	uint32_t rank = cli_select_shape(s, shape);
	if (s->rows.info.column.dtype.kind == ESK_STRING)
		return cli_fail(
			"%s: strings of any length have no place in .npy or .raw; take .json or 'esker cat'",
			s->text);
	if (npy)
		cli_npy_write_header(out, s->rows.info.column.dtype, shape, rank);
	bytes_job job = {.out = out, .zeros = calloc(1, s->rows.cell_bytes)};
	if (job.zeros == NULL)
		return cli_fail("out of memory for a cell of %" PRIu64 " bytes", s->rows.cell_bytes);
	int code = each_cell(s, write_cell, &job);
	free(job.zeros);
	cli_buf missing, cells;
	if (code == CLI_OK && job.missing > 0)
		cli_note("%s: %s of %s missing: written as zeros", s->text, cli_count(job.missing, &missing),
			cli_counted(s->count, "cell", &cells));
	return code;
}

/* ---- summary ---- */

typedef struct sums {
	double least, greatest, sum;
	uint64_t elements, missing;
} sums;

static void sum_cell(void *arg, const cli_selection *s, uint64_t i, const void *cell)
{
	sums *all = arg;
	(void)i;
	if (cell == NULL) {
		all->missing++;
		return;
	}
	esk_dtype dtype = s->rows.info.column.dtype;
	for (uint64_t e = 0; cli_is_number(dtype) && e < s->rows.elements; e++) {
		double value = cli_real(dtype, (const unsigned char *)cell + e * dtype.size_bytes);
		all->least = value < all->least ? value : all->least;
		all->greatest = value > all->greatest ? value : all->greatest;
		all->sum += value;
		all->elements++;
	}
}

static int write_summary(FILE *out, cli_selection *s)
{
	sums all = {.least = INFINITY, .greatest = -INFINITY};
	char type[512];
	cli_buf count, bytes;
	const esk_column *column = &s->rows.info.column;
	int code = each_cell(s, sum_cell, &all);
	if (code != CLI_OK)
		return code;
	cli_format_type(column, type, sizeof type);
	cli_put_escaped(out, s->text, strlen(s->text));
	fprintf(out, "\n%s of %s", cli_counted(s->count, "row", &count), type);
	if (column->dtype.kind != ESK_STRING)
		fprintf(out, ", %s", cli_bytes(s->count * s->rows.cell_bytes, &bytes));
	if (all.missing > 0)
		fprintf(out, ", %s missing", cli_count(all.missing, &count));
	fputc('\n', out);
	if (all.elements > 0)
		fprintf(out, "least %g, greatest %g, mean %g\n", all.least, all.greatest,
			all.sum / (double)all.elements);
	if (s->count > 0 && s->rows.elements <= SHOWN_ELEMENTS) {
		uint64_t shown = SHOWN_ELEMENTS / s->rows.elements;
		code = cli_select_load(s, 0, shown);
		for (uint64_t k = 0; code == CLI_OK && k < s->rows.count; k++) {
			json_cell(out, s, k, cli_rows_cell(&s->rows, k));
		}
		fputs(s->count > shown ? ",\n    ...\n" : "\n", out);
	} else if (cli_is_image(column)) {
		fputs("-o FILE.png makes a picture of it\n", out);
	}
	return code;
}

/* ---- get ---- */

static int parse_picture(const cli_args *args, cli_picture *p)
{
	*p = (cli_picture){.scale = 1};
	const char *per_row = cli_value(args, "columns-per-row"), *scale = cli_value(args, "scale");
	if (per_row != NULL && (!cli_parse_u64(per_row, &p->per_row) || p->per_row == 0))
		return cli_usage(
			args, "--columns-per-row: a number from 1 was expected, found \"%s\"", per_row);
	if (scale != NULL && !cli_parse_scale(scale, &p->scale))
		return cli_usage(args,
			"--scale: a factor from 0.001 to 64, as 2 or 1/4, was expected, found \"%s\"", scale);
	return cli_parse_look(args, &p->look);
}

static int write_selection(cli_selection *s, format f, const cli_picture *picture, FILE *out)
{
	switch (f) {
	case FORMAT_PNG:
		return cli_write_png(out, s, picture);
	case FORMAT_NPY:
		return write_bytes(out, s, true);
	case FORMAT_RAW:
		return write_bytes(out, s, false);
	case FORMAT_JSON:
		return write_json(out, s);
	default:
		return write_summary(out, s);
	}
}

static int get(const cli_args *args, cli_place *place, format f, const cli_picture *picture)
{
	cli_selection s;
	cli_target target;
	int code = cli_select_given(args, place, place->words[0], f == FORMAT_PNG ? SHEET_FRAMES : 0, &s);
	if (code == CLI_OK) {
		code = cli_target_open(cli_value(args, "output"), &target);
		if (code == CLI_OK)
			code = write_selection(&s, f, picture, target.out);
		code = cli_target_close(&target, code);
	}
	cli_select_close(&s);
	return code;
}

static int run_get(cli_args *args)
{
	format f = FORMAT_UNKNOWN;
	cli_picture picture;
	cli_place place;
	int code = cli_place_find(args, &place);
	if (code == CLI_OK)
		code = choose_format(args, &f);
	if (code == CLI_OK)
		code = parse_picture(args, &picture);
	if (code != CLI_OK)
		return code;
	if (f == FORMAT_ARROW || f == FORMAT_ARROWS)
		code = cli_get_arrow(args, &place, f == FORMAT_ARROWS);
	else
		code = get(args, &place, f, &picture);
	return cli_place_close(&place, code);
}

const cli_command cli_get = {
	.name = "get",
	.summary = "get rows as a picture, .npy, Arrow, raw bytes or JSON",
	.usage = "[STORE] REF [-o FILE] [-f FORMAT] [OPTIONS], [STORE] RUN --episode N [-o FILE] [OPTIONS]",
	.description =
		"The file's ending says the format. Without -o: a summary on a terminal, else JSON on "
		"standard output. PNG takes cells of height x width, with 1, 3 or 4 channels (channels "
		"first, too), 8 or 16 bits; other numbers are stretched from their least to their greatest "
		"value. A stack of pictures (84x84x4) is shown side by side, a range of rows as a contact "
		"sheet. Arrow (.arrow: an IPC file, .arrows: an IPC stream, and so to standard output) also "
		"takes the REF of a whole stream (h5://RUN/STREAM/A:B), or a RUN of one stream: then it has "
		"all columns. --episode gives all columns of its steps. Missing cells are null.",
	.options = (const cli_option[]){{"output", 'o', "FILE", "file", "write there; - is standard output"},
		{"format", 'f', "FORMAT", "png|npy|arrow|arrows|raw|json|summary",
			"png, npy, arrow, arrows, raw, json or summary"},
		{"json", 0, NULL, NULL, "the same as --format json"},
		{"every", 'n', "N", NULL, "take every N-th row of the range"},
		{"episode", 'e', "N", NULL,
			"the pictures of an episode (-1: the last); as PNG about 48 of them"},
		{"columns-per-row", 0, "N", NULL, "frames in a row of the sheet; default: about 4:3 in all"},
		{"scale", 0, "X", NULL, "enlarge (2) or reduce (1/4) each frame"},
		{"channels", 0, "WHAT", "auto|rgba|stack",
			"what four channels are: a colour with alpha, or a stack; auto looks whether alpha "
			"is opaque"},
		{"stretch", 0, NULL, NULL, "spread values over black to white (dark 16-bit frames)"}, {0}},
	.examples = (const cli_example[]){{"esker get data h5://game/frames/120 -o frame.png",
						  "one frame as a picture"},
		{"esker get data h5://game/frames/0:2000 --every 50 --scale 1/2 -o sheet.png",
			"a contact sheet"},
		{"esker get data game --episode 3 -o sheet.png", "a contact sheet of an episode"},
		{"esker get data h5://game/action -o - -f npy | python3 plot.py", "an array into a pipe"},
		{"esker get data h5://imu/acc/0:100000 -o acc.arrow", "rows for pyarrow, polars, DuckDB"},
		{"esker get data game --episode -1 -o last.arrow",
			"the steps of the last episode, all columns"},
		{"esker get -C data h5://imu/acc/10:20 | jq .data", "values as JSON"}, {0}},
	.needs = CLI_STORE,
	.words_least = 1,
	.words_most = 1,
	.complete = "ref",
	.run = run_get,
};
