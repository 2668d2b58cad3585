/* Where `esker get` writes: standard output, or a file that appears whole or not at all. */
#ifndef CLI_TARGET_H
#define CLI_TARGET_H

#include "text.h"

typedef struct cli_target {
	FILE *out;
	const char *path; /* NULL for standard output */
	char *temporary; /* renamed to path at the end; NULL where path is written as it is (a device, a pipe)
			  */
} cli_target;

/* `path` NULL or "-" is standard output. */
int cli_target_open(const char *path, cli_target *ret_target);
/* With CLI_OK the file takes its name; else it goes. Returns the code to go on with. */
int cli_target_close(cli_target *target, int code);

#endif
