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
#define LOOK_ROWS 4096
#define PANEL_LEAST 30.0    /* pixels of height */
#define CLOCK_LEAST_NS 1e17 /* 1973: what is smaller is a duration */
#define CLOCK_LEAST_S 1e9   /* of plain numbers: 2001 to 2128 */
#define CLOCK_MOST_S 5e9

/* What the x axis shows. */
typedef enum axis { AXIS_NONE, AXIS_ROW, AXIS_CLOCK, AXIS_SECONDS, AXIS_NUMBER } axis;

typedef struct plot {
	const cli_args *args;
	cli_place place;
	cli_chart chart;
	cli_selection x; /* without text: the rows' numbers */
	axis axis;       /* of the refs so far */
	double unit_ns;  /* of x, where it is a time */
	bool several;    /* runs */
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

/* Loads the piece of x that belongs to `count` rows first, first + step, … */
static int load_x(plot *p, uint64_t first, uint64_t step, uint64_t count)
{
	return p->x.text == NULL ? CLI_OK : cli_rows_load(&p->x.rows, first, step, count);
}

/* The first finite value of x; NaN where there is none. */
static int first_x(plot *p, const cli_selection *y, double *ret_value)
{
	*ret_value = NAN;
	for (uint64_t at = 0; at < y->count && isnan(*ret_value); at += p->x.rows.count) {
		uint64_t count = y->count - at < LOOK_ROWS ? y->count - at : LOOK_ROWS;
		int code = load_x(p, y->first + at * y->step, y->step, count);
		if (code != CLI_OK)
			return code;
		for (uint64_t i = 0; i < count && isnan(*ret_value); i++) {
			const void *cell = cli_rows_cell(&p->x.rows, i);
			double value = cell != NULL ? cli_real(p->x.rows.info.column.dtype, cell) : NAN;
			*ret_value = isfinite(value) ? value : NAN;
		}
	}
	return CLI_OK;
}

/* Nanoseconds of the unit that "ms" or "s since 1970-01-01" begins with; 0 where it is none of time. */
static double unit_of_time(const char *units)
{
	static const struct {
		const char *name;
		double ns;
	} known[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"min", 6e10}, {"h", 3.6e12},
		{"days", 8.64e13}};
	size_t size = strcspn(units, " ");
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strlen(known[i].name) == size && memcmp(known[i].name, units, size) == 0)
			return known[i].ns;
	return 0;
}

/* What x is follows from its units and from how large it is: nobody measures a duration of fifty years. */
static axis axis_of(const plot *p, double first, double *ret_unit_ns)
{
	const esk_column *column = &p->x.rows.info.column;
	bool named = is_time(&p->x.rows.info), real = column->dtype.kind == ESK_F64;
	*ret_unit_ns = unit_of_time(column->units);
	if (column->units[0] == '\0' && column->dtype.kind == ESK_I64 && first > CLOCK_LEAST_NS)
		*ret_unit_ns = 1;
	if (column->units[0] == '\0' && named && real && first > CLOCK_LEAST_S && first < CLOCK_MOST_S)
		*ret_unit_ns = 1e9;
	if (*ret_unit_ns == 0)
		return AXIS_NUMBER;
	bool since = strstr(column->units, " since 1970") != NULL;
	bool other = !since && strchr(column->units, ' ') != NULL;
	return since || (!other && first * *ret_unit_ns > CLOCK_LEAST_NS) ? AXIS_CLOCK : AXIS_SECONDS;
}

static const char *axis_name(axis kind)
{
	static const char *const names[] = {[AXIS_NONE] = "nothing",
		[AXIS_ROW] = "the rows' numbers",
		[AXIS_CLOCK] = "dates",
		[AXIS_SECONDS] = "a duration",
		[AXIS_NUMBER] = "numbers"};
	return names[kind];
}

/* All refs share one x axis. */
static int set_axis(plot *p, const cli_selection *y)
{
	double first = 0;
	axis kind = AXIS_ROW;
	if (p->x.text != NULL) {
		int code = first_x(p, y, &first);
		if (code != CLI_OK)
			return code;
		kind = axis_of(p, first, &p->unit_ns);
		if (isnan(first)) /* nothing to tell by, and nothing to draw */
			kind = p->axis != AXIS_NONE ? p->axis : AXIS_NUMBER;
	}
	if (p->axis != AXIS_NONE && p->axis != kind)
		return cli_fail(
			"%s: its x axis is %s, that of the refs before it %s; --x COLUMN, or --x row, "
			"gives them one",
			y->text, axis_name(kind), axis_name(p->axis));
	if (p->axis == AXIS_NONE && kind == AXIS_CLOCK)
		p->chart.x_zero = floor(first * p->unit_ns / 1e9) * 1e9;
	p->axis = kind;
	p->chart.clock = kind == AXIS_CLOCK;
	p->chart.x_whole = kind == AXIS_ROW;
	return CLI_OK;
}

/* x of the i-th row of a piece. Times since 1970 do not fit a double: they are counted from the first. */
static double x_of(const plot *p, uint64_t i, uint64_t first, uint64_t step)
{
	if (p->x.text == NULL)
		return (double)(first + i * step);
	esk_dtype dtype = p->x.rows.info.column.dtype;
	const void *cell = cli_rows_cell(&p->x.rows, i);
	if (cell == NULL)
		return NAN;
	if (p->axis == AXIS_CLOCK && dtype.kind == ESK_I64)
		return (double)(*(const int64_t *)cell - (int64_t)(p->chart.x_zero / p->unit_ns)) *
		       p->unit_ns;
	double value = cli_real(dtype, cell);
	if (p->axis == AXIS_CLOCK)
		return (value - p->chart.x_zero / p->unit_ns) * p->unit_ns;
	return p->axis == AXIS_SECONDS ? value * p->unit_ns / 1e9 : value;
}

static int measure_x(plot *p, cli_selection *y)
{
	cli_chart *chart = &p->chart;
	uint64_t piece = cli_rows_piece(&y->rows, PIECE_BYTES);
	for (uint64_t at = 0; at < y->count && !cli_stop_requested(); at += piece) {
		uint64_t count = y->count - at < piece ? y->count - at : piece,
			 first = y->first + at * y->step;
		int code = load_x(p, first, y->step, count);
		if (code != CLI_OK)
			return code;
		for (uint64_t i = 0; i < count; i++) {
			double x = x_of(p, i, first, y->step);
			if (!isfinite(x))
				continue;
			chart->x_least = x < chart->x_least ? x : chart->x_least;
			chart->x_greatest = x > chart->x_greatest ? x : chart->x_greatest;
		}
	}
	return CLI_OK;
}

/* ---- y ---- */

/* y: NaN where it is missing. */
static void put_value(const cli_chart *chart, cli_bucket *buckets, double x, double y)
{
	if (!isfinite(x))
		return;
	double part = (x - chart->x_least) / (chart->x_greatest - chart->x_least);
	size_t at = (size_t)(fmax(part, 0) * (double)chart->bucket_count);
	cli_bucket *b = &buckets[at < chart->bucket_count ? at : chart->bucket_count - 1];
	if (!isfinite(y)) {
		b->missing = true;
		return;
	}
	if (b->least > b->greatest)
		*b = (cli_bucket){y, y, y, y, b->missing};
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
			double x = x_of(p, i, first, y->step);
			for (uint64_t e = 0; e < y->rows.elements; e++)
				put_value(&p->chart, series[e].buckets, x,
					cell == NULL ? NAN
						     : cli_real(column->dtype,
							       cell + e * column->dtype.size_bytes));
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

static void add_series(plot *p, const cli_selection *y)
{
	cli_chart *chart = &p->chart;
	const esk_column *column = &y->rows.info.column;
	char *run = cli_escaped(y->ref.run, strlen(y->ref.run));
	char *name = cli_escaped(y->rows.info.path, strlen(y->rows.info.path));
	char *units = cli_escaped(column->units, strlen(column->units));
	size_t panel = panel_of(chart, units);
	for (uint64_t e = 0; e < y->rows.elements; e++) {
		cli_series *s = &chart->series[chart->series_count++];
		*s = (cli_series){
			.panel = panel, .buckets = cli_alloc(chart->bucket_count * sizeof(cli_bucket))};
		char element[32] = "";
		if (y->rows.elements > 1)
			snprintf(element, sizeof element, "[%" PRIu64 "]", e);
		snprintf(s->units, sizeof s->units, "%s", units);
		snprintf(s->label, sizeof s->label, "%s%s%s%s", p->several ? run : "", p->several ? "  " : "",
			name, element);
		for (size_t b = 0; b < chart->bucket_count; b++)
			s->buckets[b] = (cli_bucket){DBL_MAX, -DBL_MAX, 0, 0, false};
	}
	free(run);
	free(name);
	free(units);
}

static void day_text(double ns, char *buf, size_t size)
{
	time_t at = (time_t)floor(ns / 1e9);
	struct tm utc;
	gmtime_r(&at, &utc);
	strftime(buf, size, "%Y-%m-%d", &utc);
}

/* Of the column that is at hand. */
static void name_axis(plot *p)
{
	cli_chart *chart = &p->chart;
	const esk_column *column = &p->x.rows.info.column;
	const char *units = p->axis == AXIS_SECONDS ? "s" : column->units;
	if (p->axis == AXIS_ROW)
		snprintf(chart->x_label, sizeof chart->x_label, "row");
	else
		snprintf(chart->x_label, sizeof chart->x_label, "%s%s%s%s", column->name,
			units[0] != '\0' ? " (" : "", units, units[0] != '\0' ? ")" : "");
}

/* The days of a clock, once all refs were measured. */
static void name_days(cli_chart *chart)
{
	char begin[32], end[32];
	day_text(chart->x_zero + chart->x_least, begin, sizeof begin);
	day_text(chart->x_zero + chart->x_greatest, end, sizeof end);
	bool one = strcmp(begin, end) == 0;
	snprintf(chart->x_label, sizeof chart->x_label, "%s%s%s, UTC", begin, one ? "" : " to ",
		one ? "" : end);
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
		if (code == CLI_OK)
			code = set_axis(p, &y);
		if (code == CLI_OK && measure) {
			code = measure_x(p, &y);
			add_series(p, &y);
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

/* As was asked for; else the ref, or what several refs have in common. */
static void name_chart(plot *p)
{
	const char *title = cli_value(p->args, "title");
	esk_ref first = {0};
	if (title == NULL && p->place.word_count > 1 && !p->several &&
		esk_ref_parse(p->place.words[0], &first, NULL) == ESK_OK)
		title = first.run;
	const char *text = title != NULL ? title : p->place.words[0];
	char *escaped = cli_escaped(text, strlen(text));
	snprintf(p->chart.title, sizeof p->chart.title, "%s%s", escaped,
		title == NULL && p->several ? ", …" : "");
	free(escaped);
}

static int write_chart(plot *p)
{
	cli_target target;
	name_chart(p);
	if (p->chart.clock)
		name_days(&p->chart);
	if (p->chart.height == 0)
		p->chart.height = (unsigned)(120 + 220 * p->chart.panel_count);
	unsigned least = cli_chart_height(p->chart.panel_count, PANEL_LEAST);
	if (p->chart.height < least)
		return cli_fail("--size: %zu panels need a height of %u pixels at least, %u were asked for",
			p->chart.panel_count, least, p->chart.height);
	int code = cli_target_open(cli_value(p->args, "output"), &target);
	if (code == CLI_OK)
		code = cli_target_close(&target, cli_chart_write(target.out, &p->chart, p->svg));
	return code;
}

/* One row, or all at one time: it stands in the middle. */
static void widen_x(cli_chart *chart)
{
	double half = chart->clock ? 5e8 : 0.5;
	if (chart->x_greatest > chart->x_least)
		return;
	double middle = chart->x_least == chart->x_greatest ? chart->x_least : 0;
	half = fmax(half, fabs(middle) * 1e-9);
	chart->x_least = middle - half;
	chart->x_greatest = middle + half;
}

/* Whether the refs are of several runs, so that labels have to name them. */
static bool of_several_runs(const cli_place *place)
{
	esk_ref first = {0}, other;
	for (size_t i = 0; i < place->word_count; i++) {
		if (esk_ref_parse(place->words[i], i == 0 ? &first : &other, NULL) != ESK_OK)
			return false; /* said where it is opened */
		if (i > 0 && strcmp(first.run, other.run) != 0)
			return true;
	}
	return false;
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
	p.several = of_several_runs(&p.place);
	p.chart.x_least = DBL_MAX;
	p.chart.x_greatest = -DBL_MAX;
	p.chart.bucket_count = cli_chart_buckets(p.chart.width);
	p.chart.series = cli_alloc(SERIES_MOST * sizeof *p.chart.series);
	code = plot_refs(&p, every, true);
	widen_x(&p.chart);
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
	.description =
		"Draws the columns that the refs name, one line each (one for each number where a "
		"cell has several), "
		"over the column of their stream that is called time or timestamp, or over the rows' "
		"numbers. Columns "
		"of the same units share a panel. Each column of pixels shows the extremes of what "
		"falls on it, so that "
		"no spike is lost however many rows there are. A line breaks where values are missing. "
		"Times since 1970 are shown as UTC, durations in seconds.",
	.options = (const cli_option[]){{"output", 'o', "FILE", "file",
						"the picture; its ending says which kind"},
		{"x", 'x', "COLUMN", NULL, "the column for the x axis; \"row\": the rows' numbers"},
		{"every", 0, "N", NULL, "take every N-th row"},
		{"size", 0, "WxH", NULL, "in pixels; default: 1000 wide, as high as the panels need"},
		{"title", 0, "TEXT", NULL, "default: the ref; of several, their run"}, {0}},
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
