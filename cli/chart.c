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
} frame;

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

static void number_text(double value, double step, char *buf, size_t size)
{
	int digits = step > 0 && step < 1 ? (int)ceil(-log10(step) - 1e-9) : 0;
	if (fabs(value) < step * 1e-6)
		value = 0;
	if (fabs(value) >= 1e6 || (value != 0 && digits > 6))
		snprintf(buf, size, "%.*g", 7, value);
	else
		snprintf(buf, size, "%.*f", digits, value);
}

static void clock_text(double seconds, double step, char *buf, size_t size)
{
	double whole = floor(seconds + step * 1e-6);
	time_t at = (time_t)whole;
	struct tm utc;
	gmtime_r(&at, &utc);
	if (step >= 86400) {
		strftime(buf, size, "%m-%d", &utc);
		return;
	}
	size_t used = strftime(buf, size, step >= 60 ? "%H:%M" : "%H:%M:%S", &utc);
	int digits = step < 1 ? (int)ceil(-log10(step) - 1e-9) : 0;
	char part[32];
	snprintf(part, sizeof part, "%.*f", digits, fmax(0, seconds - whole));
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

static void draw_x_ticks(cairo_t *c, const cli_chart *chart, const frame *f, bool labels)
{
	double scale = chart->clock ? 1e-9 : 1; /* ticks of a clock are counted in seconds */
	double least = chart->x_least * scale, range = (chart->x_greatest - chart->x_least) * scale;
	double apart = range / fmax(1, floor(f->width / TICKS_APART_X));
	double step = chart->clock ? clock_step(apart) : round_step(apart);
	double zero = chart->clock ? fmod(chart->x_zero * scale, step) : 0;
	for (double at = ceil((least + zero) / step) * step - zero; at <= least + range * (1 + 1e-9);
		at += step) {
		double x = place_x(chart, f, at / scale);
		char text[64];
		cairo_set_source_rgb(c, 0.88, 0.88, 0.88);
		cairo_move_to(c, x, f->y);
		cairo_line_to(c, x, f->y + f->height);
		cairo_stroke(c);
		if (chart->clock)
			clock_text(at + chart->x_zero * scale, step, text, sizeof text);
		else
			number_text(at, step, text, sizeof text);
		cairo_set_source_rgb(c, 0.2, 0.2, 0.2);
		if (labels)
			put_text(c, x, f->y + f->height + 15, 0.5, text);
	}
}

static void draw_y_ticks(cairo_t *c, const frame *f)
{
	double step = round_step((f->greatest - f->least) / fmax(1, floor(f->height / TICKS_APART_Y)));
	for (double at = ceil(f->least / step) * step; at <= f->greatest; at += step) {
		char text[64];
		double y = place_y(f, at);
		cairo_set_source_rgb(c, 0.88, 0.88, 0.88);
		cairo_move_to(c, f->x, y);
		cairo_line_to(c, f->x + f->width, y);
		cairo_stroke(c);
		number_text(at, step, text, sizeof text);
		cairo_set_source_rgb(c, 0.2, 0.2, 0.2);
		put_text(c, f->x - 6, y + 4, 1, text);
	}
}

/* From each column of pixels to the next, and up and down between the extremes of each. */
static void draw_series(
	cairo_t *c, const cli_chart *chart, const cli_series *s, const frame *f, size_t colour)
{
	const double *rgb = colours[colour % COUNT(colours)];
	double apart = f->width / (double)chart->bucket_count;
	bool pen = false;
	size_t points = 0;
	cairo_set_source_rgb(c, rgb[0], rgb[1], rgb[2]);
	cairo_set_line_width(c, 1.3);
	for (size_t i = 0; i < chart->bucket_count; i++) {
		const cli_bucket *b = &s->buckets[i];
		if (b->least > b->greatest)
			continue;
		double x = f->x + ((double)i + 0.5) * apart;
		(pen ? cairo_line_to : cairo_move_to)(c, x, place_y(f, b->first));
		pen = true;
		points++;
		if (b->least < b->greatest) {
			cairo_line_to(c, x, place_y(f, b->least));
			cairo_line_to(c, x, place_y(f, b->greatest));
			cairo_line_to(c, x, place_y(f, b->last));
		}
	}
	if (points == 1) { /* a line of one point would not be seen */
		cairo_line_to(c, f->x + f->width / 2 + 2, f->y + f->height / 2);
	}
	cairo_stroke(c);
}

static void draw_legend(cairo_t *c, const cli_chart *chart, size_t panel, const frame *f)
{
	double y = f->y + 14;
	for (size_t i = 0; i < chart->series_count; i++) {
		const cli_series *s = &chart->series[i];
		if (s->panel != panel || y > f->y + f->height)
			continue;
		const double *rgb = colours[i % COUNT(colours)];
		cairo_text_extents_t size;
		cairo_text_extents(c, s->label, &size);
		double x = f->x + f->width - size.x_advance - 8;
		cairo_set_source_rgba(c, 1, 1, 1, 0.8);
		cairo_rectangle(c, x - 26, y - 11, size.x_advance + 30, 15);
		cairo_fill(c);
		cairo_set_source_rgb(c, rgb[0], rgb[1], rgb[2]);
		cairo_set_line_width(c, 2.5);
		cairo_move_to(c, x - 22, y - 4);
		cairo_line_to(c, x - 6, y - 4);
		cairo_stroke(c);
		cairo_set_source_rgb(c, 0.1, 0.1, 0.1);
		put_text(c, x, y, 0, s->label);
		y += 16;
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
			if (one->least <= one->greatest) {
				f->least = fmin(f->least, one->least);
				f->greatest = fmax(f->greatest, one->greatest);
			}
		}
	if (f->least > f->greatest)
		f->least = f->greatest = 0;
	double margin = (f->greatest - f->least) * 0.05;
	if (!(margin > 0) || f->least + margin == f->least) /* all the same */
		margin = f->least != 0 ? fabs(f->least) * 0.05 : 1;
	f->least -= margin;
	f->greatest += margin;
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
	draw_y_ticks(c, &f);
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
	for (size_t i = 0; i < chart->series_count; i++)
		if (chart->series[i].panel == panel && chart->series[i].units[0] != '\0') {
			cairo_save(c);
			cairo_translate(c, 14, f.y + f.height / 2);
			cairo_rotate(c, -M_PI / 2);
			put_text(c, 0, 0, 0.5, chart->series[i].units);
			cairo_restore(c);
			break;
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
