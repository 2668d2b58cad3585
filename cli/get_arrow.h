/* What `esker get` selects, as Arrow IPC. */
#ifndef CLI_GET_ARROW_H
#define CLI_GET_ARROW_H

#include "place.h"

/* Writes rows of what the first word names: a REF of a dataset, of a field or of a stream, or a RUN, which
 * means its only stream (with --episode: its root). To --output, as a file, or as a stream where `as_stream`
 * or to standard output. Opens the store. */
int cli_get_arrow(const cli_args *args, cli_place *place, bool as_stream);

#endif
