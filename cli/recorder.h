/* What both sources of `esker record` (standard input and .npy files) share: handing rows to the library,
 * waiting where the ring is full, and telling how it goes. */
#ifndef CLI_RECORDER_H
#define CLI_RECORDER_H

#include "npy.h"
#include "place.h"

typedef struct cli_recorder {
	esk_run *run;
	esk_stream *stream;
	const esk_column *columns;
	size_t column_count;
	uint64_t *cell_bytes; /* per column */
	uint64_t row_bytes;   /* of all columns */
	uint64_t rows;        /* handed over */
	uint64_t dropped;     /* refused by a full ring, policy reject */
	uint64_t total_rows;  /* 0: not known */
	esk_status trouble;   /* why commits fail at present, as last told */
	int64_t looked_ns;
} cli_recorder;

/* Appends `rows` rows, cells[c] contiguous; `valid` (may be NULL) as for esk_stream_append_rows. While the
 * ring is full and its policy is to block, waits until there is room or a signal comes. *ret_taken says how
 * many rows were taken (or dropped by policy). */
int cli_recorder_append(cli_recorder *r, uint64_t rows, const void *const *cells, const uint8_t *const *valid,
	uint64_t *ret_taken);
/* Draws progress and tells of commits that fail; cheap, to be called often. */
void cli_recorder_tick(cli_recorder *r);

/* Rows from standard input until it ends or a signal comes. */
int cli_record_stdin(cli_recorder *r);
/* Rows of all files side by side: file c is column c. */
int cli_record_npy(cli_recorder *r, const cli_npy *files);

#endif
