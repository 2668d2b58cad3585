/* Rows of a stream as Arrow IPC: what refs and columns mean for it, and the writing. */
#ifndef CLI_ARROW_OUT_H
#define CLI_ARROW_OUT_H

#include "text.h"

#include <esker/arrow_store.h>
#include <esker/ref.h>

/* What a path names: a stream, or one field of a stream. */
typedef struct cli_arrow_source {
	char stream[ESK_MAX_PATH + 1]; /* "/" for the root */
	char column[ESK_MAX_PATH + 1]; /* below the stream; "": all */
	uint64_t rows;                 /* that all of the stream's columns have */
} cli_arrow_source;

/* Finds a stream ("/" for the root), a dataset, or a group of datasets in a stream (a struct, a list). */
int cli_arrow_find(esk_reader *reader, const char *path, cli_arrow_source *ret_source);
/* Rows that every dataset of a stream has at present. */
uint64_t cli_stream_rows(esk_reader *reader, const char *stream);
/* The only stream of the run `run`; CLI_USAGE, with nothing said, and its names in `list`, where it has
 * several. */
int cli_only_stream(
	esk_reader *reader, const char *run, char *buf, size_t size, char *list, size_t list_size);

/* Opens the rows that `rows` chooses of what `source` names, and of a whole stream only the columns "A,B,C"
 * (NULL: all). *ret_stream is to be released. */
int cli_arrow_open(esk_reader *reader, const cli_arrow_source *source, const char *columns,
	esk_arrow_rows *rows, struct ArrowArrayStream *ret_stream);

typedef struct cli_arrow_out {
	FILE *out;
	uint64_t bytes; /* written */
	struct esk_arrow_writer *writer;
} cli_arrow_out;

/* Begins an IPC stream, or file, of those batches on `out`. On success cli_arrow_end is called once. */
int cli_arrow_begin(FILE *out, bool as_file, struct ArrowArrayStream *from, cli_arrow_out *ret_out);
/* Writes all batches. Of `rows` rows tells the progress line, where one is drawn (0: not). */
int cli_arrow_write(cli_arrow_out *to, struct ArrowArrayStream *from, uint64_t rows);
/* Ends it. Returns `code`, or what closing gave. */
int cli_arrow_end(cli_arrow_out *to, int code);

#endif
