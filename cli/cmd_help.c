/* esker help: the overview, the help of each command and the manual page, all made from the commands' tables.
 */
#include "commands.h"

#include <stdlib.h>
#include <string.h>

#define WIDTH 80

static const char store_rule[] =
	"The store is the first of: -C DIR; the first argument, if it is a directory that holds a catalogue "
	"(esker.db); the environment variable ESKER_STORE; the current directory.";
static const char ref_rule[] =
	"A REF names rows of a dataset: h5://RUN/PATH/INDEX, h5://RUN/PATH/START:STOP, or h5://RUN/PATH for "
	"all of it. PATH is STREAM/COLUMN, or an end of it that only one column has. Characters that a URI "
	"reserves are percent-encoded.";

/* Writes `text` broken into lines of WIDTH, each after `indent` blanks; the first begins at column `at`. */
static void put_wrapped(FILE *out, const char *text, size_t indent, size_t at)
{
	while (*text != '\0') {
		size_t word = strcspn(text, " ");
		if (at > indent && at + 1 + word > WIDTH) {
			fputc('\n', out);
			at = 0;
		}
		if (at < indent) {
			fprintf(out, "%*s", (int)(indent - at), "");
			at = indent;
		} else if (at > indent) {
			fputc(' ', out);
			at++;
		}
		fwrite(text, 1, word, out);
		at += word;
		text += word + (text[word] == ' ');
	}
	fputc('\n', out);
}

/* "  -C, --store DIR" and its help beside or below it. */
static void put_option(FILE *out, const cli_option *o)
{
	char text[80];
	int length = snprintf(text, sizeof text, "  %c%c%s --%s%s%s", o->letter != 0 ? '-' : ' ',
		o->letter != 0 ? o->letter : ' ', o->letter != 0 ? "," : " ", o->name,
		o->argument != NULL ? " " : "", o->argument != NULL ? o->argument : "");
	fputs(text, out);
	size_t at = (size_t)length;
	if (at > 26) {
		fputc('\n', out);
		at = 0;
	} else {
		fprintf(out, "%*s", (int)(27 - at), "");
		at = 27;
	}
	put_wrapped(out, o->help, 27, at);
}

static void put_title(FILE *out, const char *title)
{
	bool colour = cli_colour(out);
	fprintf(out, "\n%s%s%s\n", colour ? "\033[1m" : "", title, colour ? "\033[0m" : "");
}

void cli_print_help(FILE *out, const cli_command *command)
{
	fprintf(out, "esker %s: %s\n", command->name, command->summary);
	fprintf(out, "\nusage: esker %s %s\n\n", command->name, command->usage);
	put_wrapped(out, command->description, 0, 0);
	put_title(out, "options");
	for (const cli_option *o = command->options; o != NULL && o->name != NULL; o++)
		put_option(out, o);
	for (const cli_option *o = cli_common_options; o->name != NULL; o++)
		if (cli_command_takes(command, o))
			put_option(out, o);
	if (command->complete != NULL && strcmp(command->complete, "ref") == 0) {
		fputc('\n', out);
		put_wrapped(out, ref_rule, 0, 0);
	}
	if (command->examples != NULL && command->examples->line != NULL)
		put_title(out, "examples");
	for (const cli_example *e = command->examples; e != NULL && e->line != NULL; e++)
		fprintf(out, "  %s\n      %s\n", e->line, e->what);
}

void cli_print_overview(FILE *out)
{
	fputs("esker records fast streams of arrays into ordinary HDF5 files, and finds them again.\n", out);
	put_title(out, "usage");
	fputs("  esker COMMAND [STORE] [ARGUMENTS] [OPTIONS]\n", out);
	put_title(out, "commands");
	for (size_t i = 0; cli_commands[i] != NULL; i++)
		fprintf(out, "  %-11s %s\n", cli_commands[i]->name, cli_commands[i]->summary);
	fputc('\n', out);
	put_wrapped(out, store_rule, 0, 0);
	put_wrapped(out, ref_rule, 0, 0);
	fputs("\nExit status: 0 success, 1 failure, 2 the command line was not understood.\n", out);
	fputs("'esker help COMMAND' tells more, with examples; 'esker --version' the version.\n", out);
}

/* ---- the manual page ---- */

static void put_roff(FILE *out, const char *text)
{
	if (text[0] == '.' || text[0] == '\'')
		fputs("\\&", out);
	for (; *text != '\0'; text++) {
		if (*text == '\\')
			fputs("\\e", out);
		else if (*text == '-')
			fputs("\\-", out);
		else if (*text == '\'')
			fputs("\\(aq", out);
		else
			fputc(*text, out);
	}
}

static void put_roff_option(FILE *out, const cli_option *o)
{
	fputs(".TP\n", out);
	if (o->letter != 0)
		fprintf(out, "\\fB\\-%c\\fR, ", o->letter);
	fputs("\\fB", out);
	put_roff(out, "--");
	put_roff(out, o->name);
	fputs("\\fR", out);
	if (o->argument != NULL) {
		fputs(" \\fI", out);
		put_roff(out, o->argument);
		fputs("\\fR", out);
	}
	fputc('\n', out);
	put_roff(out, o->help);
	fputc('\n', out);
}

static void put_roff_command(FILE *out, const cli_command *command)
{
	fprintf(out, ".SS \"esker %s\"\n\\fBesker %s\\fR ", command->name, command->name);
	put_roff(out, command->usage);
	fputs("\n.PP\n", out);
	put_roff(out, command->description);
	fputc('\n', out);
	for (const cli_option *o = command->options; o != NULL && o->name != NULL; o++)
		put_roff_option(out, o);
	for (const cli_example *e = command->examples; e != NULL && e->line != NULL; e++) {
		fputs(".PP\n", out);
		put_roff(out, e->what);
		fputs(":\n.PP\n.RS 4\n.EX\n", out);
		put_roff(out, e->line);
		fputs("\n.EE\n.RE\n", out);
	}
}

static void put_roff_section(FILE *out, const char *title, const char *text)
{
	fprintf(out, ".SH %s\n", title);
	put_roff(out, text);
	fputc('\n', out);
}

void cli_print_man(FILE *out)
{
	fprintf(out, ".TH ESKER 1 \"\" \"esker %s\" \"User Commands\"\n", esk_version());
	fputs(".SH NAME\nesker \\- record streams of arrays into HDF5 files and find them again\n", out);
	fputs(".SH SYNOPSIS\n\\fBesker\\fR \\fICOMMAND\\fR [\\fISTORE\\fR] [\\fIARGUMENTS\\fR] "
	      "[\\fIOPTIONS\\fR]\n",
		out);
	fputs(".SH DESCRIPTION\n", out);
	put_roff(out, "Esker records fast streams of arrays into ordinary HDF5 files, without stalling the "
		      "producer and without losing an acknowledged record, and finds any row again.");
	fputs("\n.PP\n", out);
	put_roff(out, store_rule);
	fputs("\n.PP\n", out);
	put_roff(out, ref_rule);
	fputs("\n.SH COMMON OPTIONS\n", out);
	for (const cli_option *o = cli_common_options; o->name != NULL; o++)
		put_roff_option(out, o);
	fputs(".SH COMMANDS\n", out);
	for (size_t i = 0; cli_commands[i] != NULL; i++)
		put_roff_command(out, cli_commands[i]);
	fputs(".SH ENVIRONMENT\n.TP\n\\fBESKER_STORE\\fR\nThe store, where no other is named.\n", out);
	fputs(".TP\n\\fBESKER_CONFIG\\fR\nThe configuration file, instead of esker.toml in the current "
	      "directory.\n",
		out);
	fputs(".TP\n\\fBESKER_STORAGE_\\fIKEY\\fR, \\fBESKER_DAEMON_\\fIKEY\\fR\nSettings, over those of the "
	      "file; \\(aqesker config\\(aq shows them.\n",
		out);
	fputs(".TP\n\\fBESKER_KEY_FILE\\fR, \\fBESKER_KEY\\fR\nThe file of the key for encrypted segments, "
	      "or the key as 64 hexadecimal digits.\n",
		out);
	fputs(".TP\n\\fBNO_COLOR\\fR\nIf set and not empty, nothing is coloured.\n", out);
	fputs(".TP\n\\fBHDF5_PLUGIN_PATH\\fR\nWhere libhdf5 looks for filter plugins.\n", out);
	put_roff_section(out, "EXIT STATUS", "0 success; 1 failure; 2 the command line was not understood.");
	put_roff_section(out, "SEE ALSO", "h5dump(1), h5ls(1), sqlite3(1)");
}

/* ---- help ---- */

static int run_help(cli_args *args)
{
	if (args->word_count > 1)
		return cli_usage(args, "help: one command at a time");
	if (cli_flag(args, "man")) {
		cli_print_man(stdout);
		return CLI_OK;
	}
	if (args->word_count == 0) {
		cli_print_overview(stdout);
		return CLI_OK;
	}
	const cli_command *command = cli_command_find(args->words[0]);
	if (command != NULL) {
		cli_print_help(stdout, command);
		return CLI_OK;
	}
	const char *like = cli_command_like(args->words[0]);
	if (like != NULL)
		return cli_usage(args, "no command \"%s\"; did you mean '%s'?", args->words[0], like);
	return cli_usage(args, "no command \"%s\"", args->words[0]);
}

const cli_command cli_help = {
	.name = "help",
	.summary = "explain a command, with examples",
	.usage = "[COMMAND] [--man]",
	.description =
		"Without COMMAND: all commands in a line each. With --man: the manual page as troff source.",
	.options = (const cli_option[]){{"man", 0, NULL, NULL, "print the manual page's source"}, {0}},
	.examples = (const cli_example[]){{"esker help record", "all about recording"},
		{"esker help --man | man -l -", "the manual, installed or not"}, {0}},
	.needs = CLI_NO_STORE,
	.words_most = 1,
	.complete = "command",
	.run = run_help,
};
