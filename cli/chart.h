/* Line charts with axes, as PNG or SVG: panels one below the other over one x axis. Uses cairo. */
#ifndef CLI_CHART_H
#define CLI_CHART_H

#include "text.h"

/* What falls on one column of pixels: its extremes, so that no spike is lost whatever the number of rows. */
typedef struct cli_bucket {
	double least, greatest, first, last; /* least > greatest: nothing */
	bool missing; /* a value that is missing or not finite: where there is no other, the line breaks */
} cli_bucket;

typedef struct cli_series {
	char label[320]; /* escaped */
	char units[64];
	size_t panel;
	cli_bucket *buckets; /* bucket_count of the chart */
} cli_series;

typedef struct cli_chart {
	unsigned width, height; /* in pixels */
	size_t bucket_count;
	char title[320];
	char x_label[128];
	bool clock;   /* x is nanoseconds since 1970 */
	bool x_whole; /* x is a number that counts: no ticks between */
	double x_least, x_greatest;
	double x_zero; /* of what was left out of the x values, for precision: nanoseconds since 1970 of x = 0
			*/
	cli_series *series;
	size_t series_count;
	size_t panel_count;
} cli_chart;

/* Columns of pixels that a chart of this width has for data. */
size_t cli_chart_buckets(unsigned width);

/* The height that so many panels of `panel_height` pixels need. */
unsigned cli_chart_height(size_t panels, double panel_height);

/* Writes the chart to `out`. */
int cli_chart_write(FILE *out, const cli_chart *chart, bool svg);

#endif
