/* One declaration per command; commands.c puts them in order. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "args.h"

extern const cli_command cli_cat;
extern const cli_command cli_completion;
extern const cli_command cli_config;
extern const cli_command cli_daemon;
extern const cli_command cli_decrypt;
extern const cli_command cli_keygen;
extern const cli_command cli_doctor;
extern const cli_command cli_episodes;
extern const cli_command cli_export;
extern const cli_command cli_get;
extern const cli_command cli_help;
extern const cli_command cli_info;
extern const cli_command cli_init;
extern const cli_command cli_ls;
extern const cli_command cli_migrate;
extern const cli_command cli_plot;
extern const cli_command cli_query;
extern const cli_command cli_record;
extern const cli_command cli_reindex;
extern const cli_command cli_repair;
extern const cli_command cli_replay;
extern const cli_command cli_send;
extern const cli_command cli_status;
extern const cli_command cli_top;
extern const cli_command cli_verify;

/* esker without a command, `esker help`. */
void cli_print_overview(FILE *out);
void cli_print_help(FILE *out, const cli_command *command);
/* The manual page in man(7) macros, made from the same tables. */
void cli_print_man(FILE *out);

#endif
