/* The command line: what a command is, its table of options, and the parser.
 *
 * A cli_command describes itself wholly; help, the man page and the shell completions are made from it, so
 * none of them can say anything else than the parser does. */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include "text.h"

typedef struct cli_option {
	const char *name;     /* long, without "--"; NULL ends a table */
	char letter;          /* 0: none */
	const char *argument; /* its placeholder; NULL for a flag */
	const char *complete; /* "file", "dir", "run", or words separated by '|'; NULL for nothing */
	const char *help;
} cli_option;

typedef struct cli_example {
	const char *line; /* NULL ends a list */
	const char *what;
} cli_example;

/* How the command finds its store; see place.h. */
typedef enum cli_needs { CLI_NO_STORE = 0, CLI_STORE, CLI_DIRECTORY } cli_needs;

typedef struct cli_args cli_args;

typedef struct cli_command {
	const char *name;
	const char *summary;
	const char *usage; /* behind "esker NAME " */
	const char *description;
	const cli_option *options; /* its own; NULL for none */
	const cli_example *examples;
	cli_needs needs;
	size_t words_least; /* arguments that are neither options nor the store */
	size_t words_most;
	const char *first;    /* words that its first argument is one of, separated by '|'; NULL: none */
	const char *complete; /* what its (other) arguments are: as for an option, also "ref", "command" */
	int (*run)(cli_args *args);
} cli_command;

/* Every command, in the order that help shows; ends with NULL. */
extern const cli_command *const cli_commands[];
/* Options that each command takes (those about the store only where it needs one); ends with name NULL. */
extern const cli_option cli_common_options[];
bool cli_command_takes(const cli_command *command, const cli_option *common);

const cli_command *cli_command_find(const char *name);
/* The name most like `name` among the commands, or NULL when none is near. */
const char *cli_command_like(const char *name);

typedef struct cli_given {
	const cli_option *option;
	const char *value;
} cli_given;

struct cli_args {
	const cli_command *command;
	cli_given *given;
	size_t given_count;
	const char **words;
	size_t word_count;
};

/* Sorts argv (without program and command name) into options and words. Returns CLI_OK or, after a message,
 * CLI_USAGE. The strings are borrowed; cli_args_clear frees the rest. */
int cli_args_parse(const cli_command *command, int argc, char **argv, cli_args *ret_args);
void cli_args_clear(cli_args *args);

/* The last value given, or NULL. The option must be in the command's table. */
const char *cli_value(const cli_args *args, const char *name);
bool cli_flag(const cli_args *args, const char *name);

/* Prints a message and where to read on; returns CLI_USAGE. */
int cli_usage(const cli_args *args, const char *format, ...) ESK_PRINTF(2, 3);
/* The same for a value that the library refused. */
int cli_usage_with(const cli_args *args, const char *option, const esk_error *err);

#endif
