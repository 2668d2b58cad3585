/* Printing a JSON value. */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include <jansson.h>

/* Indented, on standard output; what would steer a terminal is written as \\uNNNN. Takes the reference. */
void cli_print_json(json_t *value);

#endif
