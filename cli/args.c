/* The command line: see args.h. */
#include "args.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const cli_option cli_common_options[] = {
	{"store", 'C', "DIR", "dir",
		"the store; else the first argument that is one, $ESKER_STORE, or the current directory"},
	{"key", 0, "FILE", "file",
		"the key of encrypted segments; else the file that $ESKER_KEY_FILE names, or $ESKER_KEY"},
	{"verbose", 'v', NULL, NULL, "print what the library logs (recovery, rotation) on standard error"},
	{"help", 'h', NULL, NULL, "show this help with examples"},
	{NULL, 0, NULL, NULL, NULL},
};

bool cli_command_takes(const cli_command *command, const cli_option *common)
{
	return command->needs != CLI_NO_STORE || common->letter == 'h';
}

const cli_command *cli_command_find(const char *name)
{
	for (size_t i = 0; cli_commands[i] != NULL; i++)
		if (strcmp(cli_commands[i]->name, name) == 0)
			return cli_commands[i];
	return NULL;
}

const char *cli_command_like(const char *name)
{
	esk_nearest like = {.wanted = name};
	for (size_t i = 0; cli_commands[i] != NULL; i++)
		esk_nearest_consider(&like, cli_commands[i]->name);
	return like.found;
}

int cli_usage(const cli_args *args, const char *format, ...)
{
	char message[2048];
	va_list list;
	va_start(list, format);
	vsnprintf(message, sizeof message, format, list);
	va_end(list);
	cli_fail("%s", message);
	if (args != NULL)
		fprintf(stderr, "usage: esker %s %s\nTry 'esker help %s'.\n", args->command->name,
			args->command->usage, args->command->name);
	else
		fputs("Try 'esker help'.\n", stderr);
	return CLI_USAGE;
}

int cli_usage_with(const cli_args *args, const char *option, const esk_error *err)
{
	return cli_usage(args, "%s: %s", option, err->message);
}

/* Finds by letter (when `name` is NULL) or by the first `size` bytes of `name`. */
static const cli_option *find_option(const cli_command *command, char letter, const char *name, size_t size)
{
	for (int table = 0; table < 2; table++) {
		const cli_option *o = table == 0 ? command->options : cli_common_options;
		for (; o != NULL && o->name != NULL; o++) {
			if (table == 1 && !cli_command_takes(command, o))
				continue;
			if (name == NULL ? o->letter == letter
					 : strlen(o->name) == size && memcmp(o->name, name, size) == 0)
				return o;
		}
	}
	return NULL;
}

static const char *like_option(const cli_command *command, const char *name)
{
	esk_nearest like = {.wanted = name};
	for (const cli_option *o = command->options; o != NULL && o->name != NULL; o++)
		esk_nearest_consider(&like, o->name);
	for (const cli_option *o = cli_common_options; o->name != NULL; o++)
		if (cli_command_takes(command, o))
			esk_nearest_consider(&like, o->name);
	return like.found;
}

typedef struct cursor {
	int argc;
	char **argv;
	int at;
} cursor;

static int give(cli_args *args, const cli_option *option, const char *attached, cursor *c)
{
	const char *value = attached;
	if (option->argument != NULL && value == NULL) {
		if (c->at + 1 >= c->argc)
			return cli_usage(args, "--%s needs %s behind it", option->name, option->argument);
		value = c->argv[++c->at];
	}
	if (option->argument == NULL && value != NULL)
		return cli_usage(args, "--%s takes no value", option->name);
	args->given[args->given_count++] = (cli_given){.option = option, .value = value};
	return CLI_OK;
}

static int parse_long(cli_args *args, const char *text, cursor *c)
{
	const char *equals = strchr(text, '=');
	size_t size = equals != NULL ? (size_t)(equals - text) : strlen(text);
	const cli_option *option = find_option(args->command, 0, text, size);
	if (option != NULL)
		return give(args, option, equals != NULL ? equals + 1 : NULL, c);
	char name[64];
	snprintf(name, sizeof name, "%.*s", (int)(size < 60 ? size : 60), text);
	const char *like = like_option(args->command, name);
	if (like != NULL)
		return cli_usage(args, "no option --%s; did you mean --%s?", name, like);
	return cli_usage(args, "no option --%s", name);
}

static int parse_letters(cli_args *args, const char *text, cursor *c)
{
	for (; *text != '\0'; text++) {
		const cli_option *option = find_option(args->command, *text, NULL, 0);
		if (option == NULL)
			return cli_usage(args, "no option -%c", *text);
		bool takes = option->argument != NULL;
		int code = give(args, option, takes && text[1] != '\0' ? text + 1 : NULL, c);
		if (code != CLI_OK || takes)
			return code;
	}
	return CLI_OK;
}

int cli_args_parse(const cli_command *command, int argc, char **argv, cli_args *ret_args)
{
	size_t letters = 0;
	for (int i = 0; i < argc; i++)
		letters += strlen(argv[i]) + 1;
	*ret_args = (cli_args){
		.command = command,
		.given = cli_alloc(letters * sizeof(cli_given)),
		.words = cli_alloc((size_t)argc * sizeof(char *)),
	};
	cursor c = {.argc = argc, .argv = argv};
	bool options = true;
	for (; c.at < argc; c.at++) {
		const char *text = argv[c.at];
		int code = CLI_OK;
		if (options && strcmp(text, "--") == 0)
			options = false;
		else if (options && text[0] == '-' && text[1] == '-')
			code = parse_long(ret_args, text + 2, &c);
		else if (options && text[0] == '-' && text[1] != '\0')
			code = parse_letters(ret_args, text + 1, &c);
		else
			ret_args->words[ret_args->word_count++] = text;
		if (code != CLI_OK)
			return code;
	}
	return CLI_OK;
}

void cli_args_clear(cli_args *args)
{
	free(args->given);
	free(args->words);
	*args = (cli_args){0};
}

const char *cli_value(const cli_args *args, const char *name)
{
	assert(find_option(args->command, 0, name, strlen(name)) != NULL);
	for (size_t i = args->given_count; i-- > 0;)
		if (strcmp(args->given[i].option->name, name) == 0)
			return args->given[i].value;
	return NULL;
}

bool cli_flag(const cli_args *args, const char *name)
{
	assert(find_option(args->command, 0, name, strlen(name)) != NULL);
	for (size_t i = 0; i < args->given_count; i++)
		if (strcmp(args->given[i].option->name, name) == 0)
			return true;
	return false;
}
