/* Where the rows of `esker record --source` come from: each source says which columns it has and hands their
 * rows to the recorder until it ends or a signal comes. */
#ifndef CLI_SOURCE_H
#define CLI_SOURCE_H

#include "recorder.h"

typedef struct cli_source {
	esk_column *columns; /* owned, as is state */
	size_t column_count;
	void *state; /* NULL: not open */
	/* Makes the stream itself, in the run of `r`, which gets stream and columns; NULL: it is made of the
	 * columns. */
	int (*attach)(struct cli_source *source, cli_recorder *r, const char *stream);
	int (*run)(struct cli_source *source, cli_recorder *r);
	void (*close)(struct cli_source *source);
} cli_source;

/* This machine: CPU times, memory, disk and network counters, pressure, temperatures. */
int cli_source_open_system(const cli_args *args, cli_source *ret_source);
/* CSV lines with a header on standard input. `columns` (may be NULL) says which of its fields are wanted, and
 * their dtypes; else the first lines decide. */
int cli_source_open_csv(
	const cli_args *args, const esk_column *columns, size_t column_count, cli_source *ret_source);
/* Raw pictures on standard input, as ffmpeg -f rawvideo writes them. */
int cli_source_open_video(const cli_args *args, cli_source *ret_source);

/* An Arrow IPC stream on standard input. */
int cli_source_open_arrow(const cli_args *args, cli_source *ret_source);

void cli_source_close(cli_source *source);

/* A scalar column; ends the program where the name is too long to be one. */
void cli_source_column(
	cli_source *source, const char *name, esk_kind kind, const char *units, const char *long_name);
/* Waits until standard input has bytes, its end or a signal came, and reads once into [buffer, buffer +
 * size): *ret_got 0 without *ret_ended: nothing yet. */
int cli_source_read(void *buffer, size_t size, size_t *ret_got, bool *ret_ended);
int64_t cli_source_now_ns(void); /* since the Unix epoch */

#endif
