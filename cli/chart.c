/* Line charts: see chart.h. */
#include "chart.h"

#include <cairo-svg.h>
#include <cairo.h>
#include <float.h>
#include <math.h>
#include <string.h>
#include <time.h>

#define LEFT 90.0
#define RIGHT 18.0
#define TOP 34.0
#define BOTTOM 44.0
#define GAP 14.0
#define FONT "DejaVu Sans"
#define TICKS_APART_X 110.0
#define TICKS_APART_Y 42.0
#define TICKS_MOST 1000  /* far more than any picture has room for */
#define DOTS_APART 12    /* columns of pixels between points, from which on they are dots */
#define LEGEND_LINE 16.0 /* height */
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Colours that people with any colour vision tell apart (Okabe and Ito). */
static const double colours[][3] = {
	{0.00, 0.45, 0.70},
	{0.84, 0.37, 0.00},
	{0.00, 0.62, 0.45},
	{0.80, 0.47, 0.65},
	{0.90, 0.62, 0.00},
	{0.34, 0.71, 0.91},
	{0.20, 0.20, 0.20},
};

typedef struct frame { /* a panel's place and range */
	double x, y, width, height;
	double least, greatest;
	bool empty; /* no value to draw */
} frame;

unsigned cli_chart_height(size_t panels, double panel_height)
{
	return (unsigned)(TOP + BOTTOM + GAP * (double)(panels - 1) + panel_height * (double)panels);
}

size_t cli_chart_buckets(unsigned width)
{
	return width > LEFT + RIGHT + 10 ? (size_t)(width - LEFT - RIGHT) : 10;
}

/* ---- ticks ---- */

/* 1, 2 or 5 times a power of ten, at least `least`. */
static double round_step(double least)
{
	double power = pow(10, floor(log10(least)));
	double times = least / power;
	return power * (times <= 1 ? 1 : times <= 2 ? 2 : times <= 5 ? 5 : 10);
}

/* Seconds between ticks of a clock. */
static double clock_step(double least)
{
	static const double steps[] = {
		1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400};
	for (size_t i = 0; i < COUNT(steps) && least > 1; i++)
		if (steps[i] >= least)
			return steps[i];
	return least > 1 ? 86400 * round_step(least / 86400) : round_step(least);
}

/* With as many digits as tell one tick from the next. */
static void number_text(double value, double step, char *buf, size_t size)
{
	int digits = step > 0 && step < 1 ? (int)ceil(-log10(step) - 1e-9) : 0;
	if (fabs(value) < step * 1e-6)
		value = 0;
	if (fabs(value) >= 1e7 || (value != 0 && digits > 6)) {
		int whole = value != 0 ? (int)floor(log10(fabs(value))) - (int)floor(log10(step)) + 1 : 1;
		snprintf(buf, size, "%.*g", whole < 3 ? 3 : whole > 15 ? 15 : whole, value);
	} else {
		snprintf(buf, size, "%.*f", digits, value);
	}
}

/* A time of the day, and where a day begins the day, for ticks `step` seconds apart. */
static void clock_text(double seconds, double step, char *buf, size_t size)
{
	double whole = floor(seconds + fmin(step, 1) * 1e-3);
	time_t at = (time_t)whole;
	struct tm utc;
	gmtime_r(&at, &utc);
	if (step >= 27 * 86400.0 || (step >= 86400 && utc.tm_yday == 0)) {
		strftime(buf, size, "%Y-%m-%d", &utc);
		return;
	}
	if (step >= 86400 || (step >= 60 && utc.tm_hour == 0 && utc.tm_min == 0)) {
		strftime(buf, size, "%m-%d", &utc);
		return;
	}
	size_t used = strftime(buf, size, step >= 60 ? "%H:%M" : "%H:%M:%S", &utc);
	int digits = step < 1 ? (int)ceil(-log10(step) - 1e-9) : 0;
	char part[32];
	snprintf(part, sizeof part, "%.*f", digits, fmin(fmax(0, seconds - whole), 0.999999999));
	if (digits > 0)
		snprintf(buf + used, size - used, "%s", part + 1);
}

/* ---- drawing ---- */

static void put_text(cairo_t *c, double x, double y, double align, const char *text)
{
	cairo_text_extents_t size;
	cairo_text_extents(c, text, &size);
	cairo_move_to(c, x - align * size.x_advance, y);
	cairo_show_text(c, text);
}

static double place_x(const cli_chart *chart, const frame *f, double x)
{
	return f->x + (x - chart->x_least) / (chart->x_greatest - chart->x_least) * f->width;
}

static double place_y(const frame *f, double y)
{
	return f->y + f->height - (y - f->least) / (f->greatest - f->least) * f->height;
}

/* The first multiple of `step` that is no less than `least`, where multiples are counted from -zero. */
static double first_tick(double least, double step, double zero)
{
	return ceil((least + zero) / step - 1e-9) * step - zero;
}

static void draw_line(cairo_t *c, double x, double y, double to_x, double to_y)
{
	cairo_set_source_rgb(c, 0.88, 0.88, 0.88);
	cairo_move_to(c, x, y);
	cairo_line_to(c, to_x, to_y);
	cairo_stroke(c);
	cairo_set_source_rgb(c, 0.2, 0.2, 0.2);
}

/* A label below the axis, within the picture; left out where the one before it is in the way. */
static void put_x_label(cairo_t *c, const cli_chart *chart, double x, double y, const char *text, double *end)
{
	cairo_text_extents_t size;
	cairo_text_extents(c, text, &size);
	double begin = fmin(x - size.x_advance / 2, chart->width - 4 - size.x_advance);
	if (begin < *end)
		return;
	put_text(c, begin, y, 0, text);
	*end = begin + size.x_advance + 8;
}

static void draw_x_ticks(cairo_t *c, const cli_chart *chart, const frame *f, bool labels)
{
	double scale = chart->clock ? 1e-9 : 1; /* ticks of a clock are counted in seconds */
	double least = chart->x_least * scale, range = (chart->x_greatest - chart->x_least) * scale;
	double apart = range / fmax(1, floor(f->width / TICKS_APART_X));
	double step = chart->clock ? clock_step(apart) : round_step(apart);
	if (!chart->clock && chart->x_whole && step < 1)
		step = 1;
	/* Seconds since 1970 in whole ones: ticks below a second are counted from there. */
	double zero = chart->clock && step > 1 ? fmod(chart->x_zero * scale, step) : 0;
	double end = 0, first = first_tick(least, step, zero);
	for (size_t i = 0; i < TICKS_MOST && first + (double)i * step <= least + range * (1 + 1e-9); i++) {
		double at = first + (double)i * step, x = place_x(chart, f, at / scale);
		char text[64];
		draw_line(c, x, f->y, x, f->y + f->height);
		if (chart->clock)
			clock_text(at + chart->x_zero * scale, step, text, sizeof text);
		else
			number_text(at, step, text, sizeof text);
		if (labels)
			put_x_label(c, chart, x, f->y + f->height + 15, text, &end);
	}
}

/* What is left out of the labels, where the values hardly differ for their size. */
static double y_offset(const frame *f, double step)
{
	double size = fmax(fabs(f->least), fabs(f->greatest));
	double unit = pow(10, ceil(log10(f->greatest - f->least)));
	return size / step >= 1e6 && isfinite(unit) ? floor(f->least / unit) * unit : 0;
}

/* The units beside the axis, and what its labels leave out. */
static void draw_y_name(cairo_t *c, const frame *f, const char *units, double offset)
{
	char text[128], left_out[48] = "";
	if (offset != 0)
		snprintf(left_out, sizeof left_out, " (%+.15g)", offset);
	snprintf(text, sizeof text, "%s%s", units, left_out);
	cairo_set_source_rgb(c, 0.2, 0.2, 0.2);
	cairo_save(c);
	cairo_translate(c, 14, f->y + f->height / 2);
	cairo_rotate(c, -M_PI / 2);
	put_text(c, 0, 0, 0.5, text);
	cairo_restore(c);
}

static void draw_y_axis(cairo_t *c, const frame *f, const char *units)
{
	double step = round_step((f->greatest - f->least) / fmax(1, floor(f->height / TICKS_APART_Y)));
	double offset = y_offset(f, step), first = first_tick(f->least - offset, step, 0);
	char text[64];
	for (size_t i = 0; i < TICKS_MOST && first + (double)i * step <= f->greatest - offset; i++) {
		double at = first + (double)i * step, y = place_y(f, at + offset);
		draw_line(c, f->x, y, f->x + f->width, y);
		number_text(at, step, text, sizeof text);
		put_text(c, f->x - 6, y + 4, 1, text);
	}
	draw_y_name(c, f, units, offset);
}

static bool has_values(const cli_bucket *b)
{
	return b->least <= b->greatest;
}

static size_t count_points(const cli_chart *chart, const cli_series *s)
{
	size_t points = 0;
	for (size_t i = 0; i < chart->bucket_count; i++)
		points += has_values(&s->buckets[i]);
	return points;
}

/* Whether a line leads on from the i-th column of pixels. */
static bool goes_on(const cli_chart *chart, const cli_series *s, size_t i)
{
	while (++i < chart->bucket_count && !s->buckets[i].missing)
		if (has_values(&s->buckets[i]))
			return true;
	return i < chart->bucket_count && has_values(&s->buckets[i]);
}

/* A line from each column of pixels to the next, and up and down between the extremes of each. It breaks
 * where values are missing. */
static void draw_line_of(cairo_t *c, const cli_chart *chart, const cli_series *s, const frame *f)
{
	double apart = f->width / (double)chart->bucket_count;
	bool pen = false;
	for (size_t i = 0; i < chart->bucket_count; i++) {
		const cli_bucket *b = &s->buckets[i];
		if (!has_values(b)) {
			pen = pen && !b->missing;
			continue;
		}
		double x = f->x + ((double)i + 0.5) * apart;
		(pen ? cairo_line_to : cairo_move_to)(c, x, place_y(f, b->first));
		if (b->least < b->greatest) {
			cairo_line_to(c, x, place_y(f, b->least));
			cairo_line_to(c, x, place_y(f, b->greatest));
			cairo_line_to(c, x, place_y(f, b->last));
		}
		pen = true;
	}
	cairo_stroke(c);
}

/* A point that no line leads to or from is a dot, and so are all where they are far apart. */
static void draw_dots_of(cairo_t *c, const cli_chart *chart, const cli_series *s, const frame *f)
{
	double apart = f->width / (double)chart->bucket_count;
	bool all = count_points(chart, s) * DOTS_APART <= chart->bucket_count, before = false;
	cairo_set_line_cap(c, CAIRO_LINE_CAP_ROUND);
	for (size_t i = 0; i < chart->bucket_count; i++) {
		const cli_bucket *b = &s->buckets[i];
		if (!has_values(b)) {
			before = before && !b->missing;
			continue;
		}
		double x = f->x + ((double)i + 0.5) * apart, y = place_y(f, b->last);
		if (all || (!before && b->least == b->greatest && !goes_on(chart, s, i))) {
			cairo_move_to(c, x, y);
			cairo_line_to(c, x, y);
		}
		before = true;
	}
	cairo_stroke(c);
	cairo_set_line_cap(c, CAIRO_LINE_CAP_BUTT);
}

/* Each colour once, then with dashes, and again. */
static void choose_pen(cairo_t *c, size_t number, double width)
{
	static const double dashes[][2] = {{0, 0}, {6, 3}, {2, 2}};
	const double *rgb = colours[number % COUNT(colours)];
	size_t turn = number / COUNT(colours) % COUNT(dashes);
	cairo_set_source_rgb(c, rgb[0], rgb[1], rgb[2]);
	cairo_set_line_width(c, width);
	cairo_set_dash(c, dashes[turn], turn > 0 ? 2 : 0, 0);
}

static void draw_series(
	cairo_t *c, const cli_chart *chart, const cli_series *s, const frame *f, size_t number)
{
	choose_pen(c, number, 1.3);
	draw_line_of(c, chart, s, f);
	cairo_set_dash(c, NULL, 0, 0);
	cairo_set_line_width(c, 4);
	draw_dots_of(c, chart, s, f);
}

/* ---- legends ---- */

typedef struct box {
	double x, y, width, height;
} box;

/* Lines of a panel that a legend of it has room for, at most; the widest label. */
static size_t measure_legend(
	cairo_t *c, const cli_chart *chart, size_t panel, const frame *f, double *ret_width)
{
	size_t lines = 0;
	*ret_width = 0;
	for (size_t i = 0; i < chart->series_count; i++) {
		cairo_text_extents_t size;
		if (chart->series[i].panel != panel)
			continue;
		cairo_text_extents(c, chart->series[i].label, &size);
		*ret_width = fmax(*ret_width, size.x_advance);
		lines++;
	}
	size_t room = f->height > 2 * LEGEND_LINE ? (size_t)((f->height - 8) / LEGEND_LINE) : 1;
	return lines < room ? lines : room;
}

/* How many columns of pixels have a line below the box. */
static size_t covered(const cli_chart *chart, size_t panel, const frame *f, const box *b)
{
	size_t count = 0;
	double apart = f->width / (double)chart->bucket_count;
	for (size_t s = 0; s < chart->series_count; s++)
		for (size_t i = 0; i < chart->bucket_count && chart->series[s].panel == panel; i++) {
			const cli_bucket *one = &chart->series[s].buckets[i];
			double x = f->x + ((double)i + 0.5) * apart;
			if (has_values(one) && x >= b->x && x <= b->x + b->width &&
				place_y(f, one->least) >= b->y &&
				place_y(f, one->greatest) <= b->y + b->height)
				count++;
		}
	return count;
}

/* The corner in which it hides least; the upper right one where that is the same. */
static box place_legend(
	const cli_chart *chart, size_t panel, const frame *f, double label_width, size_t lines)
{
	box best = {0};
	size_t least = SIZE_MAX;
	for (int corner = 0; corner < 4; corner++) {
		box b = {.width = label_width + 34, .height = (double)lines * LEGEND_LINE + 2};
		b.x = corner % 2 == 0 ? f->x + f->width - b.width - 4 : f->x + 4;
		b.y = corner < 2 ? f->y + 3 : f->y + f->height - b.height - 3;
		size_t hidden = covered(chart, panel, f, &b);
		if (hidden < least) {
			least = hidden;
			best = b;
		}
	}
	return best;
}

static void draw_legend(cairo_t *c, const cli_chart *chart, size_t panel, const frame *f)
{
	double width;
	size_t lines = measure_legend(c, chart, panel, f, &width), line = 0;
	box b = place_legend(chart, panel, f, width, lines);
	cairo_set_source_rgba(c, 1, 1, 1, 0.8);
	cairo_rectangle(c, b.x, b.y, b.width, b.height);
	cairo_fill(c);
	for (size_t i = 0; i < chart->series_count && line < lines; i++) {
		if (chart->series[i].panel != panel)
			continue;
		double y = b.y + (double)line++ * LEGEND_LINE + 12;
		choose_pen(c, i, 2);
		cairo_move_to(c, b.x + 4, y - 4);
		cairo_line_to(c, b.x + 24, y - 4);
		cairo_stroke(c);
		cairo_set_dash(c, NULL, 0, 0);
		cairo_set_source_rgb(c, 0.1, 0.1, 0.1);
		put_text(c, b.x + 30, y, 0, chart->series[i].label);
	}
}

/* The range of a panel's values, a little wider than they are. */
static void find_range(const cli_chart *chart, size_t panel, frame *f)
{
	f->least = DBL_MAX;
	f->greatest = -DBL_MAX;
	for (size_t i = 0; i < chart->series_count; i++)
		for (size_t b = 0; b < chart->bucket_count && chart->series[i].panel == panel; b++) {
			const cli_bucket *one = &chart->series[i].buckets[b];
			if (has_values(one)) {
				f->least = fmin(f->least, one->least);
				f->greatest = fmax(f->greatest, one->greatest);
			}
		}
	f->empty = f->least > f->greatest;
	if (f->empty)
		f->least = f->greatest = 0;
	double margin = (f->greatest - f->least) * 0.05;
	if (!(margin > 0) || f->least + margin == f->least) /* all the same */
		margin = f->least != 0 ? fabs(f->least) * 0.05 : 1;
	f->least -= margin;
	f->greatest += margin;
}

/* All lines of a panel have the same. */
static const char *units_of(const cli_chart *chart, size_t panel)
{
	for (size_t i = 0; i < chart->series_count; i++)
		if (chart->series[i].panel == panel)
			return chart->series[i].units;
	return "";
}

static void draw_panel(cairo_t *c, const cli_chart *chart, size_t panel)
{
	double room = chart->height - TOP - BOTTOM - GAP * (double)(chart->panel_count - 1);
	double height = room / (double)chart->panel_count;
	frame f = {.x = LEFT,
		.y = TOP + (height + GAP) * (double)panel,
		.width = chart->width - LEFT - RIGHT,
		.height = height};
	find_range(chart, panel, &f);
	cairo_set_line_width(c, 1);
	draw_x_ticks(c, chart, &f, panel + 1 == chart->panel_count);
	draw_y_axis(c, &f, units_of(chart, panel));
	cairo_save(c);
	cairo_rectangle(c, f.x, f.y, f.width, f.height);
	cairo_clip(c);
	for (size_t i = 0; i < chart->series_count; i++)
		if (chart->series[i].panel == panel)
			draw_series(c, chart, &chart->series[i], &f, i);
	cairo_restore(c);
	cairo_set_source_rgb(c, 0.3, 0.3, 0.3);
	cairo_set_line_width(c, 1);
	cairo_rectangle(c, f.x, f.y, f.width, f.height);
	cairo_stroke(c);
	draw_legend(c, chart, panel, &f);
	if (f.empty) {
		cairo_set_source_rgb(c, 0.4, 0.4, 0.4);
		put_text(c, f.x + f.width / 2, f.y + f.height / 2 - 6, 0.5, "no values");
	}
}

static void draw(cairo_t *c, const cli_chart *chart)
{
	cairo_set_source_rgb(c, 1, 1, 1);
	cairo_paint(c);
	cairo_select_font_face(c, FONT, CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_BOLD);
	cairo_set_font_size(c, 13);
	cairo_set_source_rgb(c, 0.1, 0.1, 0.1);
	put_text(c, LEFT, 21, 0, chart->title);
	cairo_select_font_face(c, FONT, CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
	cairo_set_font_size(c, 11);
	put_text(c, LEFT + (chart->width - LEFT - RIGHT) / 2, chart->height - 8, 0.5, chart->x_label);
	for (size_t panel = 0; panel < chart->panel_count; panel++)
		draw_panel(c, chart, panel);
}

static cairo_status_t write_bytes(void *arg, const unsigned char *data, unsigned size)
{
	FILE *out = arg;
	return fwrite(data, 1, size, out) == size ? CAIRO_STATUS_SUCCESS : CAIRO_STATUS_WRITE_ERROR;
}

int cli_chart_write(FILE *out, const cli_chart *chart, bool svg)
{
	cairo_surface_t *surface =
		svg ? cairo_svg_surface_create_for_stream(write_bytes, out, chart->width, chart->height)
		    : cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)chart->width, (int)chart->height);
	cairo_t *c = cairo_create(surface);
	draw(c, chart);
	cairo_status_t status = cairo_status(c);
	cairo_destroy(c);
	if (status == CAIRO_STATUS_SUCCESS && !svg)
		status = cairo_surface_write_to_png_stream(surface, write_bytes, out);
	cairo_surface_finish(surface);
	if (status == CAIRO_STATUS_SUCCESS)
		status = cairo_surface_status(surface);
	cairo_surface_destroy(surface);
	return status == CAIRO_STATUS_SUCCESS ? CLI_OK
					      : cli_fail("the chart: %s", cairo_status_to_string(status));
}
