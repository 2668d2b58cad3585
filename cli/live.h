/* What is being recorded in a store at this moment: streams of runs, and rings that wait to be drained.
 *
 * Two looks make a rate, so a cli_live is kept between them. Rings are attached as onlookers: nothing is held
 * back and nothing is read from them but their state; the values of a sparkline come from committed rows. */
#ifndef CLI_LIVE_H
#define CLI_LIVE_H

#include "place.h"

#define CLI_LIVE_POINTS 48

typedef struct cli_live_row {
	char *name;            /* "run/stream", or a ring's */
	bool ring;             /* a ring of an instrument, with no run of its own */
	uint64_t rows;         /* committed; a ring's: records written */
	double rate;           /* rows (records) a second, of the last seconds; NaN: not known yet */
	double fill;           /* of the ring, 0 … 1; NaN: none */
	uint64_t lag_bytes;    /* in the ring, not yet committed (not yet taken by the slowest that must not
				  lose) */
	uint64_t lost_records; /* that who should have had them knows of */
	uint64_t lost_bytes;   /* of the ring; with those that were overwritten and not yet missed */
	char *consumers;       /* of an instrument's ring: who reads it, and how far behind; else NULL */
	int64_t age_ns;        /* since the last commit; INT64_MIN: not known */
	char *column;          /* of the sparkline; NULL: none */
	double points[CLI_LIVE_POINTS]; /* oldest first; NaN: none */
	size_t point_count;
	double last; /* its last value */
} cli_live_row;

typedef struct cli_live cli_live;

/* `column` (may be NULL) chooses the column of the sparklines: the end of a dataset's path. */
cli_live *cli_live_open(cli_place *place, const char *column);
/* Looks again. The rows are valid until the next look. */
int cli_live_look(cli_live *live, const cli_live_row **ret_rows, size_t *ret_count);
void cli_live_close(cli_live *live);

#endif
