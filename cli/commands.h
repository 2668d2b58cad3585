/* One declaration per command; commands.c puts them in order. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "args.h"

extern const cli_command cli_init, cli_record, cli_ls, cli_info, cli_get, cli_cat, cli_query, cli_verify,
	cli_repair, cli_reindex, cli_config, cli_doctor, cli_completion, cli_help, cli_episodes, cli_export,
	cli_replay, cli_migrate;

/* esker without a command, `esker help`. */
void cli_print_overview(FILE *out);
void cli_print_help(FILE *out, const cli_command *command);
/* The manual page in man(7) macros, made from the same tables. */
void cli_print_man(FILE *out);

#endif
