/* Where the store is, and what the words of a command line name in it.
 *
 * One rule for every command. The store is the first of: -C/--store DIR; the first argument, if it is a
 * directory that holds a catalogue (esker.db); the environment variable ESKER_STORE; the current directory.
 */
#ifndef CLI_PLACE_H
#define CLI_PLACE_H

#include "args.h"

typedef struct cli_place {
	const char *path;         /* borrowed from the command line or the environment */
	const char *const *words; /* the arguments behind the store */
	size_t word_count;
	esk_store *store; /* NULL until opened */
	bool verbose;
} cli_place;

/* --key FILE becomes the key of this process. */
void cli_take_key(const cli_args *args);
/* Finds the store's path and checks the number of words left. Opens nothing. */
int cli_place_find(const cli_args *args, cli_place *ret_place);
/* cli_place_find, then opens the store. */
int cli_place_open(const cli_args *args, bool read_only, cli_place *ret_place);
/* Opens the store of a place that was found, unless it is open. */
int cli_place_open_store(cli_place *place, bool read_only);
/* Reports a failing close, unless `code` is a failure already; returns the code to exit with. */
int cli_place_close(cli_place *place, int code);

#endif
