/* A run as a Minari dataset. */
#ifndef CLI_MINARI_H
#define CLI_MINARI_H

#include "args.h"
#include "place.h"

/* esker export minari RUN DIR: writes DIR/data, which appears whole or not at all. */
int cli_export_minari(const cli_args *args, cli_place *place);

#endif
