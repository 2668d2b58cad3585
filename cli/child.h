/* Another program that this one feeds through a pipe. No shell is between them. */
#ifndef CLI_CHILD_H
#define CLI_CHILD_H

#include "text.h"

#include <sys/types.h>

typedef struct cli_child {
	const char *program;
	pid_t pid;
	int in;     /* its standard input */
	FILE *said; /* its standard error */
} cli_child;

/* Starts `program`, looked for in PATH, with `argv` (ends with NULL); its standard output goes nowhere.
 * `way_out` is said where there is no such program. */
int cli_child_start(const char *program, const char *const *argv, const char *way_out, cli_child *ret_child);
/* Writes all of `data`; false if the child takes no more, or a signal asks to stop (progress.h). */
bool cli_child_write(cli_child *child, const void *data, size_t size);
/* Closes its input and waits for its end; where it failed, what it said is the message. With `code` not
 * CLI_OK it is killed, and `code` returned. */
int cli_child_end(cli_child *child, int code);

#endif
