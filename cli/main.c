/* esker: the command-line tool. Uses the public API only.
 *
 * Exit status: 0 success, 1 failure, 2 the command line was not understood. Results go to standard output,
 * everything else to standard error. */
#include "commands.h"

#include <stdlib.h>
#include <string.h>

/* Options that may stand before the command: their values have to be skipped on the way to it. */
static bool takes_next(const char *text)
{
	return strcmp(text, "-C") == 0 || strcmp(text, "--store") == 0 || strcmp(text, "--key") == 0;
}

/* The index of the command in argv, or argc. */
static int find_command(int argc, char **argv)
{
	int i = 1;
	while (i < argc && argv[i][0] == '-' && argv[i][1] != '\0')
		i += takes_next(argv[i]) ? 2 : 1;
	return i < argc ? i : argc;
}

static int run_command(const cli_command *command, int argc, char **argv)
{
	cli_args args;
	int code = cli_args_parse(command, argc, argv, &args);
	if (code == CLI_OK && cli_flag(&args, "help"))
		cli_print_help(stdout, command);
	else if (code == CLI_OK)
		code = command->run(&args);
	cli_args_clear(&args);
	int finished = cli_finish_output();
	return code != CLI_OK ? code : finished;
}

static int without_command(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--version") == 0 || strcmp(argv[i], "-V") == 0) {
			printf("esker %s\n", esk_version());
			return cli_finish_output();
		}
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			cli_print_overview(stdout);
			return cli_finish_output();
		}
	}
	if (argc > 1)
		return cli_usage(NULL, "no command after \"%s\"", argv[argc - 1]);
	cli_print_overview(stderr);
	return CLI_USAGE;
}

int main(int argc, char **argv)
{
	cli_catch_closed_pipe();
	int at = find_command(argc, argv);
	if (at == argc)
		return without_command(argc, argv);
	const cli_command *command = cli_command_find(argv[at]);
	if (command == NULL) {
		const char *like = cli_command_like(argv[at]);
		if (like != NULL)
			return cli_usage(NULL, "no command \"%s\"; did you mean '%s'?", argv[at], like);
		return cli_usage(NULL, "no command \"%s\"", argv[at]);
	}
	/* What stood before the command is parsed with it. */
	char **rest = cli_alloc((size_t)argc * sizeof *rest);
	int rest_count = 0;
	for (int i = 1; i < argc; i++)
		if (i != at)
			rest[rest_count++] = argv[i];
	int code = run_command(command, rest_count, rest);
	free(rest);
	return code;
}
