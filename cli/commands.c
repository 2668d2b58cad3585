/* The commands in the order that help shows. */
#include "commands.h"

const cli_command *const cli_commands[] = {
	&cli_init,
	&cli_record,
	&cli_ls,
	&cli_info,
	&cli_get,
	&cli_cat,
	&cli_query,
	&cli_plot,
	&cli_top,
	&cli_daemon,
	&cli_send,
	&cli_status,
	&cli_episodes,
	&cli_replay,
	&cli_export,
	&cli_migrate,
	&cli_verify,
	&cli_repair,
	&cli_reindex,
	&cli_config,
	&cli_doctor,
	&cli_completion,
	&cli_help,
	NULL,
};
