/* Rows of a stream as an Arrow IPC stream on standard output. */
#ifndef CLI_CAT_ARROW_H
#define CLI_CAT_ARROW_H

#include <esker/reader.h>

/* Rows [start, stop) of `stream` ("/" for the root); `stop` beyond the last row: all there are. Returns the
 * exit code. */
int cli_cat_arrow(esk_reader *reader, const char *stream, uint64_t start, uint64_t stop);

#endif
