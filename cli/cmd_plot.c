/* esker plot: columns over time, as PNG or SVG. */
#include "chart.h"
#include "commands.h"
#include "progress.h"
#include "select.h"
#include "target.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PIECE_BYTES (8u << 20)
#define SERIES_MOST 64
#define CLOCK_LEAST_NS 1e17 /* 1973: what is smaller is a duration */

typedef struct plot {
	const cli_args *args;
	cli_place place;
	cli_chart chart;
	cli_selection x; /* without text: the rows' numbers */
	bool svg;
} plot;

/* ---- x ---- */

/* The x axis of a column: a column of its stream that is called time, timestamp(s) or t, or has times as
 * units. */
static bool is_time(const esk_dataset_info *info)
{
	static const char *const names[] = {"time", "timestamp", "timestamps", "arrived", "t", "time_ns"};
	const char *slash = strrchr(info->path, '/');
	const char *name = slash != NULL ? slash + 1 : info->path;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(name, names[i]) == 0)
			return info->column.rank == 0 && cli_is_number(info->column.dtype);
	return false;
}

static int find_x(plot *p, const cli_selection *y)
{
	const char *wish = cli_value(p->args, "x");
	char stream[ESK_MAX_NAME + 2], other[ESK_MAX_NAME + 2];
	cli_stream_of(&y->rows.info, stream, sizeof stream);
	for (size_t i = 0; i < esk_reader_dataset_count(y->reader); i++) {
		esk_dataset_info info = {.struct_size = sizeof info};
		esk_dataset *dataset = esk_reader_dataset_at(y->reader, i);
		esk_error err = {0};
		if (esk_dataset_get_info(dataset, &info, &err) != ESK_OK)
			return cli_fail_with(&err);
		cli_stream_of(&info, other, sizeof other);
		bool here = wish != NULL ? strcmp(info.path, wish) == 0 || strcmp(info.column.name, wish) == 0
					 : is_time(&info);
		if (!here || strcmp(stream, other) != 0)
			continue;
		if (info.column.rank != 0 || !cli_is_number(info.column.dtype))
			return cli_fail("--x: \"%s\" is no column of single numbers", info.path);
		if (info.rows < y->rows.info.rows)
			return cli_fail("--x: \"%s\" has %" PRIu64 " rows, \"%s\" has %" PRIu64, info.path,
				info.rows, y->rows.info.path, y->rows.info.rows);
		return cli_select_dataset(dataset, info.path, 1, &p->x);
	}
	if (wish != NULL && strcmp(wish, "row") != 0)
		return cli_fail("--x: there is no column \"%s\" beside \"%s\"", wish, y->rows.info.path);
	return CLI_OK;
}

/* x of the rows of a piece. Times since 1970 do not fit a double: they are counted from the first. */
static void x_of(const plot *p, uint64_t i, uint64_t first, uint64_t step, double *ret_x)
{
	if (p->x.text == NULL) {
		*ret_x = (double)(first + i * step);
		return;
	}
	const void *cell = cli_rows_cell(&p->x.rows, i);
	if (cell == NULL)
		*ret_x = NAN;
	else if (p->chart.clock && p->x.rows.info.column.dtype.kind == ESK_I64)
		*ret_x = (double)(*(const int64_t *)cell - (int64_t)p->chart.x_zero);
	else
		*ret_x = cli_real(p->x.rows.info.column.dtype, cell) - p->chart.x_zero;
}

/* Loads the piece of x that belongs to `count` rows first, first + step, … */
static int load_x(plot *p, uint64_t first, uint64_t step, uint64_t count)
{
	return p->x.text == NULL ? CLI_OK : cli_rows_load(&p->x.rows, first, step, count);
}

static int measure_x(plot *p, cli_selection *y)
{
	cli_chart *chart = &p->chart;
	uint64_t piece = cli_rows_piece(&y->rows, PIECE_BYTES);
	bool begun = chart->x_least <= chart->x_greatest;
	for (uint64_t at = 0; at < y->count && !cli_stop_requested(); at += piece) {
		uint64_t count = y->count - at < piece ? y->count - at : piece,
			 first = y->first + at * y->step;
		int code = load_x(p, first, y->step, count);
		if (code != CLI_OK)
			return code;
		if (!begun && p->x.text != NULL) {
			const void *cell = cli_rows_cell(&p->x.rows, 0);
			double value = cell != NULL ? cli_real(p->x.rows.info.column.dtype, cell) : 0;
			chart->clock = p->x.rows.info.column.dtype.kind == ESK_I64 && value > CLOCK_LEAST_NS;
			chart->x_zero = chart->clock ? floor(value / 1e9) * 1e9 : 0;
		}
		begun = true;
		for (uint64_t i = 0; i < count; i++) {
			double x;
			x_of(p, i, first, y->step, &x);
			chart->x_least = x < chart->x_least ? x : chart->x_least;
			chart->x_greatest = x > chart->x_greatest ? x : chart->x_greatest;
		}
	}
	return CLI_OK;
}

/* ---- y ---- */

static void put_value(const cli_chart *chart, cli_bucket *buckets, double x, double y)
{
	if (!isfinite(x) || !isfinite(y))
		return;
	double part = (x - chart->x_least) / (chart->x_greatest - chart->x_least);
	size_t at = (size_t)(part * (double)chart->bucket_count);
	cli_bucket *b = &buckets[at < chart->bucket_count ? at : chart->bucket_count - 1];
	if (b->least > b->greatest)
		*b = (cli_bucket){y, y, y, y};
	b->least = fmin(b->least, y);
	b->greatest = fmax(b->greatest, y);
	b->last = y;
}

static int fill_series(plot *p, cli_selection *y, cli_series *series)
{
	uint64_t piece = cli_rows_piece(&y->rows, PIECE_BYTES);
	const esk_column *column = &y->rows.info.column;
	for (uint64_t at = 0; at < y->count && !cli_stop_requested(); at += piece) {
		int code = cli_select_load(y, at, piece);
		uint64_t first = y->first + at * y->step;
		if (code == CLI_OK)
			code = load_x(p, first, y->step, y->rows.count);
		if (code != CLI_OK)
			return code;
		cli_progress_draw(at * y->rows.cell_bytes, y->count * y->rows.cell_bytes, "");
		for (uint64_t i = 0; i < y->rows.count; i++) {
			const unsigned char *cell = cli_rows_cell(&y->rows, i);
			double x;
			x_of(p, i, first, y->step, &x);
			for (uint64_t e = 0; cell != NULL && e < y->rows.elements; e++)
				put_value(&p->chart, series[e].buckets, x,
					cli_real(column->dtype, cell + e * column->dtype.size_bytes));
		}
	}
	return CLI_OK;
}

static int check_column(const cli_selection *y)
{
	const esk_column *column = &y->rows.info.column;
	char type[128];
	cli_format_type(column, type, sizeof type);
	if (!cli_is_number(column->dtype))
		return cli_fail("%s: %s; numbers were expected", y->text, type);
	if (y->rows.elements > SERIES_MOST)
		return cli_fail("%s: a cell has %" PRIu64 " numbers (%s); plot draws up to %d lines", y->text,
			y->rows.elements, type, SERIES_MOST);
	if (y->count == 0)
		return cli_fail("%s: no rows", y->text);
	if (y->numbers != NULL)
		return cli_fail("%s: rows one behind the other were expected", y->text);
	return CLI_OK;
}

/* Lines of the same units share a panel. */
static size_t panel_of(cli_chart *chart, const char *units)
{
	for (size_t i = 0; i < chart->series_count; i++)
		if (strcmp(chart->series[i].units, units) == 0)
			return chart->series[i].panel;
	return chart->panel_count++;
}

static void add_series(cli_chart *chart, const cli_selection *y)
{
	const esk_column *column = &y->rows.info.column;
	char *name = cli_escaped(y->rows.info.path, strlen(y->rows.info.path));
	char *units = cli_escaped(column->units, strlen(column->units));
	size_t panel = panel_of(chart, units);
	for (uint64_t e = 0; e < y->rows.elements; e++) {
		cli_series *s = &chart->series[chart->series_count++];
		*s = (cli_series){
			.panel = panel, .buckets = cli_alloc(chart->bucket_count * sizeof(cli_bucket))};
		snprintf(s->units, sizeof s->units, "%s", units);
		if (y->rows.elements > 1)
			snprintf(s->label, sizeof s->label, "%s[%" PRIu64 "]", name, e);
		else
			snprintf(s->label, sizeof s->label, "%s", name);
		for (size_t b = 0; b < chart->bucket_count; b++)
			s->buckets[b] = (cli_bucket){DBL_MAX, -DBL_MAX, 0, 0};
	}
	free(name);
	free(units);
}

static void name_axis(plot *p)
{
	cli_chart *chart = &p->chart;
	if (p->x.text == NULL) {
		snprintf(chart->x_label, sizeof chart->x_label, "row");
		return;
	}
	if (chart->clock) {
		time_t at = (time_t)(chart->x_zero / 1e9);
		struct tm utc;
		gmtime_r(&at, &utc);
		strftime(chart->x_label, sizeof chart->x_label, "%Y-%m-%d, UTC", &utc);
		return;
	}
	const char *units = p->x.rows.info.column.units;
	snprintf(chart->x_label, sizeof chart->x_label, "%s%s%s%s", p->x.rows.info.column.name,
		units[0] != '\0' ? " (" : "", units, units[0] != '\0' ? ")" : "");
}

/* ---- the command ---- */

static int parse_look(plot *p)
{
	const char *path = cli_value(p->args, "output"), *size = cli_value(p->args, "size");
	const char *dot = path != NULL ? strrchr(path, '.') : NULL;
	if (dot == NULL || (strcmp(dot, ".png") != 0 && strcmp(dot, ".svg") != 0))
		return cli_usage(p->args, "plot: -o FILE.png or -o FILE.svg is needed");
	p->svg = strcmp(dot, ".svg") == 0;
	uint32_t width = 1000, height = 0;
	if (size != NULL && (!cli_parse_size(size, &width, &height) || width < 200 || height < 120 ||
				    width > 16384 || height > 16384))
		return cli_usage(p->args,
			"--size: WIDTHxHEIGHT from 200x120 to 16384x16384 was expected, found \"%s\"", size);
	p->chart.width = width;
	p->chart.height = height;
	return CLI_OK;
}

static int every_of(const cli_args *args, uint64_t *ret_every)
{
	const char *text = cli_value(args, "every");
	*ret_every = 1;
	if (text != NULL && (!cli_parse_u64(text, ret_every) || *ret_every == 0))
		return cli_usage(args, "--every: a number from 1 on was expected, found \"%s\"", text);
	return CLI_OK;
}

/* Two rounds, so that all lines have one x axis: where it begins and ends, then what lies on it. */
static int plot_refs(plot *p, uint64_t every, bool measure)
{
	int code = CLI_OK;
	size_t at = 0;
	for (size_t w = 0; w < p->place.word_count && code == CLI_OK && !cli_stop_requested(); w++) {
		cli_selection y = {0};
		code = cli_select_open(&p->place, p->place.words[w], every, &y);
		if (code == CLI_OK)
			code = check_column(&y);
		if (code == CLI_OK && p->chart.series_count + y.rows.elements > SERIES_MOST && measure)
			code = cli_fail("more than %d lines in one chart", SERIES_MOST);
		if (code == CLI_OK)
			code = find_x(p, &y);
		if (code == CLI_OK && measure) {
			code = measure_x(p, &y);
			add_series(&p->chart, &y);
			name_axis(p);
		} else if (code == CLI_OK) {
			code = fill_series(p, &y, &p->chart.series[at]);
			at += y.rows.elements;
		}
		if (p->x.text != NULL) {
			p->x.reader = NULL; /* it is y's */
			cli_select_close(&p->x);
			p->x = (cli_selection){0};
		}
		cli_select_close(&y);
	}
	return code;
}

static int write_chart(plot *p)
{
	cli_target target;
	const char *title = cli_value(p->args, "title");
	snprintf(p->chart.title, sizeof p->chart.title, "%s", title != NULL ? title : p->place.words[0]);
	if (p->chart.height == 0)
		p->chart.height = (unsigned)(120 + 220 * p->chart.panel_count);
	int code = cli_target_open(cli_value(p->args, "output"), &target);
	if (code == CLI_OK)
		code = cli_target_close(&target, cli_chart_write(target.out, &p->chart, p->svg));
	return code;
}

static int run_plot(cli_args *args)
{
	plot p = {.args = args};
	uint64_t every;
	int code = cli_place_find(args, &p.place);
	if (code == CLI_OK)
		code = parse_look(&p);
	if (code == CLI_OK)
		code = every_of(args, &every);
	if (code == CLI_OK)
		code = cli_place_open_store(&p.place, true);
	if (code != CLI_OK)
		return code;
	cli_catch_signals();
	cli_progress_begin("plot");
	p.chart.x_least = DBL_MAX;
	p.chart.x_greatest = -DBL_MAX;
	p.chart.bucket_count = cli_chart_buckets(p.chart.width);
	p.chart.series = cli_alloc(SERIES_MOST * sizeof *p.chart.series);
	code = plot_refs(&p, every, true);
	if (!(p.chart.x_greatest > p.chart.x_least)) { /* one row, or all at one time */
		p.chart.x_least =
			isfinite(p.chart.x_least) && p.chart.x_least < DBL_MAX ? p.chart.x_least - 0.5 : 0;
		p.chart.x_greatest = p.chart.x_least + 1;
	}
	if (code == CLI_OK)
		code = plot_refs(&p, every, false);
	cli_progress_end();
	if (code == CLI_OK && cli_stop_requested())
		code = cli_fail("stopped: nothing was written");
	if (code == CLI_OK)
		code = write_chart(&p);
	for (size_t i = 0; i < p.chart.series_count; i++)
		free(p.chart.series[i].buckets);
	free(p.chart.series);
	return cli_place_close(&p.place, code);
}

const cli_command cli_plot = {
	.name = "plot",
	.summary = "draw columns over time, as PNG or SVG",
	.usage = "[STORE] REF... -o FILE.png|FILE.svg [--x COLUMN] [--every N]",
	.description = "Draws the columns that the refs name, one line each (one for each number where a "
		       "cell has several), "
		       "over the column of their stream that is called time or timestamp, or over the rows' "
		       "numbers. Columns "
		       "of the same units share a panel. Each column of pixels shows the extremes of what "
		       "falls on it, so that "
		       "no spike is lost however many rows there are. Times since 1970 are shown as UTC.",
	.options = (const cli_option[]){{"output", 'o', "FILE", "file",
						"the picture; its ending says which kind"},
		{"x", 'x', "COLUMN", NULL, "the column for the x axis; \"row\": the rows' numbers"},
		{"every", 0, "N", NULL, "take every N-th row"},
		{"size", 0, "WxH", NULL, "in pixels; default: 1000 wide, as high as the panels need"},
		{"title", 0, "TEXT", NULL, "default: the first ref"}, {0}},
	.examples = (const cli_example[]){{"esker plot data h5://plant/voltage -o voltage.png",
						  "one column over time"},
		{"esker plot data h5://sys/cpu/cpu0/user h5://sys/memory/MemFree -o sys.svg", "two panels"},
		{"esker plot data h5://imu/acc/0:5000 -x row -o acc.png", "the first rows, by number"}, {0}},
	.needs = CLI_STORE,
	.words_least = 1,
	.words_most = SERIES_MOST,
	.complete = "ref",
	.run = run_plot,
};
