/* esker completion: scripts that complete commands, options and run names, made from the commands' tables. */
#include "commands.h"

#include <stdlib.h>
#include <string.h>

/* Calls `visit` for each option of a command, its own first. */
static void each_option(FILE *out, const cli_command *command,
	void (*visit)(FILE *out, const cli_command *command, const cli_option *option))
{
	for (const cli_option *o = command->options; o != NULL && o->name != NULL; o++)
		visit(out, command, o);
	for (const cli_option *o = cli_common_options; o->name != NULL; o++)
		if (cli_command_takes(command, o))
			visit(out, command, o);
}

static void put_names(FILE *out)
{
	for (size_t i = 0; cli_commands[i] != NULL; i++)
		fprintf(out, "%s%s", i > 0 ? " " : "", cli_commands[i]->name);
}

/* Copies `words` with blanks for the bars between them. */
static void put_words(FILE *out, const char *words)
{
	for (; *words != '\0'; words++)
		fputc(*words == '|' ? ' ' : *words, out);
}

/* Text inside single quotes of a shell; `colon` escapes what zsh would take for a separator. */
static void put_quoted(FILE *out, const char *text, bool zsh)
{
	for (; *text != '\0'; text++) {
		if (*text == '\'')
			fputs("'\\''", out);
		else if (zsh && strchr(":[]", *text) != NULL)
			fprintf(out, "\\%c", *text);
		else
			fputc(*text, out);
	}
}

/* ---- bash ---- */

static const char bash_head[] =
	"# bash completion for esker; load it with: source <(esker completion bash)\n"
	"_esker_store()\n"
	"{\n"
	"\tlocal i\n"
	"\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	"\t\tcase ${COMP_WORDS[i]} in\n"
	"\t\t-C | --store)\n"
	"\t\t\tprintf '%s' \"${COMP_WORDS[i + 1]}\"\n"
	"\t\t\treturn\n"
	"\t\t\t;;\n"
	"\t\tesac\n"
	"\tdone\n"
	"\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	"\t\tif [[ -f ${COMP_WORDS[i]}/esker.db ]]; then\n"
	"\t\t\tprintf '%s' \"${COMP_WORDS[i]}\"\n"
	"\t\t\treturn\n"
	"\t\tfi\n"
	"\tdone\n"
	"\tprintf '%s' \"${ESKER_STORE:-.}\"\n"
	"}\n"
	"\n"
	"# Adds every run whose name begins with $2, with $1 in front and $3 behind.\n"
	"_esker_runs()\n"
	"{\n"
	"\tlocal name\n"
	"\twhile IFS= read -r name; do\n"
	"\t\tif [[ $1$name == \"$2\"* ]]; then\n"
	"\t\t\tCOMPREPLY+=(\"$(printf '%q' \"$1$name\")$3\")\n"
	"\t\tfi\n"
	"\tdone < <(\"${COMP_WORDS[0]}\" ls --names -C \"$(_esker_store)\" 2>/dev/null)\n"
	"}\n"
	"\n"
	"_esker_files()\n"
	"{\n"
	"\tlocal name\n"
	"\tcompopt -o filenames 2>/dev/null\n"
	"\twhile IFS= read -r name; do\n"
	"\t\tCOMPREPLY+=(\"$name\")\n"
	"\tdone < <(compgen \"$1\" -- \"$2\")\n"
	"}\n"
	"\n"
	"_esker_complete()\n"
	"{\n"
	"\tcase $1 in\n"
	"\tdir) _esker_files -d \"$2\" ;;\n"
	"\tfile) _esker_files -f \"$2\" ;;\n"
	"\trun)\n"
	"\t\t_esker_runs '' \"$2\" ''\n"
	"\t\t_esker_files -d \"$2\"\n"
	"\t\t;;\n"
	"\tref)\n"
	"\t\t# The colon of h5:// separates words in bash: what stands behind it is a word of its own.\n"
	"\t\tcompopt -o nospace 2>/dev/null\n"
	"\t\tif [[ $2 == //* ]]; then\n"
	"\t\t\t_esker_runs // \"$2\" /\n"
	"\t\telse\n"
	"\t\t\t_esker_runs '' \"$2\" ''\n"
	"\t\t\t[[ h5: == \"$2\"* ]] && COMPREPLY+=(h5://)\n"
	"\t\t\t_esker_files -f \"$2\"\n"
	"\t\tfi\n"
	"\t\t;;\n"
	"\t'') ;;\n"
	"\t*) COMPREPLY=($(compgen -W \"$1\" -- \"$2\")) ;;\n"
	"\tesac\n"
	"}\n"
	"\n"
	"_esker()\n"
	"{\n"
	"\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command='' i\n"
	"\tCOMPREPLY=()\n"
	"\t[[ $cur == : ]] && cur=''\n"
	"\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	"\t\tcase ${COMP_WORDS[i]} in\n"
	"\t\t-C | --store) ((i++)) ;;\n"
	"\t\t-*) ;;\n"
	"\t\t*)\n"
	"\t\t\tcommand=${COMP_WORDS[i]}\n"
	"\t\t\tbreak\n"
	"\t\t\t;;\n"
	"\t\tesac\n"
	"\tdone\n";

static void bash_value(FILE *out, const cli_command *command, const cli_option *o)
{
	if (o->argument == NULL)
		return;
	fprintf(out, "\t\"%s --%s\"", command->name, o->name);
	if (o->letter != 0)
		fprintf(out, " | \"%s -%c\"", command->name, o->letter);
	fputs(")\n\t\t_esker_complete '", out);
	put_words(out, o->complete != NULL ? o->complete : "");
	fputs("' \"$cur\"\n\t\treturn\n\t\t;;\n", out);
}

static void bash_option(FILE *out, const cli_command *command, const cli_option *o)
{
	fprintf(out, " --%s", o->name);
}

static void bash_script(FILE *out)
{
	fputs(bash_head, out);
	fputs("\tif [[ -z $command ]]; then\n\t\tcase $prev in\n\t\t-C | --store) _esker_complete dir "
	      "\"$cur\" ;;\n"
	      "\t\t*) _esker_complete '",
		out);
	put_names(out);
	fputs(" --store --help --version' \"$cur\" ;;\n\t\tesac\n\t\treturn\n\tfi\n", out);
	fputs("\tcase \"$command $prev\" in\n", out);
	for (size_t i = 0; cli_commands[i] != NULL; i++)
		each_option(out, cli_commands[i], bash_value);
	fputs("\tesac\n\tcase $command in\n", out);
	for (size_t i = 0; cli_commands[i] != NULL; i++) {
		const cli_command *command = cli_commands[i];
		fprintf(out, "\t%s)\n\t\tif [[ $cur == -* ]]; then\n\t\t\t_esker_complete '", command->name);
		each_option(out, command, bash_option);
		fputs("' \"$cur\"\n\t\telse\n", out);
		if (command->first != NULL) {
			fputs("\t\t\t_esker_complete '", out);
			put_words(out, command->first);
			fputs("' \"$cur\"\n", out);
		}
		fputs("\t\t\t_esker_complete '", out);
		if (command->complete != NULL && strcmp(command->complete, "command") == 0)
			put_names(out);
		else
			put_words(out, command->complete != NULL ? command->complete : "");
		fputs("' \"$cur\"\n\t\tfi\n\t\t;;\n", out);
	}
	fputs("\tesac\n}\n\ncomplete -F _esker esker\n", out);
}

/* ---- zsh ---- */

static const char *zsh_action(const char *complete)
{
	if (complete == NULL)
		return " ";
	if (strcmp(complete, "dir") == 0)
		return "_files -/";
	if (strcmp(complete, "file") == 0)
		return "_files";
	if (strcmp(complete, "run") == 0)
		return "_esker_runs";
	if (strcmp(complete, "ref") == 0)
		return "_esker_refs";
	return NULL;
}

static void zsh_argument(FILE *out, const char *complete)
{
	const char *action = zsh_action(complete);
	if (action != NULL) {
		fputs(action, out);
		return;
	}
	fputc('(', out);
	if (strcmp(complete, "command") == 0)
		put_names(out);
	else
		put_words(out, complete);
	fputc(')', out);
}

static void zsh_option(FILE *out, const cli_command *command, const cli_option *o)
{
	if (o->letter != 0)
		fprintf(out, "\t\t\t'(-%c --%s)'{-%c,--%s}'[", o->letter, o->name, o->letter, o->name);
	else
		fprintf(out, "\t\t\t'--%s[", o->name);
	put_quoted(out, o->help, true);
	fputc(']', out);
	if (o->argument != NULL) {
		fprintf(out, ":%s:", o->argument);
		zsh_argument(out, o->complete);
	}
	fputs("' \\\n", out);
}

static const char zsh_head[] =
	"#compdef esker\n"
	"# zsh completion for esker; load it with: source <(esker completion zsh)\n"
	"\n"
	"# Puts the names of the runs into reply; all_words is the whole line.\n"
	"_esker_names()\n"
	"{\n"
	"\tlocal store word\n"
	"\tlocal -i i=${all_words[(I)(-C|--store)]}\n"
	"\tif ((i > 0)); then\n"
	"\t\tstore=${(Q)all_words[i+1]}\n"
	"\telse\n"
	"\t\tfor word in ${all_words[2,-2]}; do\n"
	"\t\t\t[[ -f ${(Q)word}/esker.db ]] && store=${(Q)word} && break\n"
	"\t\tdone\n"
	"\tfi\n"
	"\treply=(${(f)\"$(esker ls --names -C ${store:-${ESKER_STORE:-.}} 2>/dev/null)\"})\n"
	"}\n"
	"\n"
	"_esker_runs()\n"
	"{\n"
	"\tlocal -a reply\n"
	"\t_esker_names\n"
	"\tcompadd -a reply\n"
	"\t_files -/\n"
	"}\n"
	"\n"
	"_esker_refs()\n"
	"{\n"
	"\tlocal -a reply\n"
	"\t_esker_names\n"
	"\tcompadd -a reply\n"
	"\tcompadd -S / -- h5://${^reply}\n"
	"\t_files\n"
	"}\n"
	"\n"
	"_esker()\n"
	"{\n"
	"\tlocal -a commands all_words\n"
	"\tlocal -i i\n"
	"\tall_words=(\"${words[@]}\")\n"
	"\tfor ((i = 2; i < CURRENT; i++)); do\n"
	"\t\tcase $words[i] in\n"
	"\t\t(-C | --store) ((i++)) ;;\n"
	"\t\t(-*) ;;\n"
	"\t\t(*) break ;;\n"
	"\t\tesac\n"
	"\tdone\n"
	"\tif ((i >= CURRENT)); then\n"
	"\t\tcase ${words[CURRENT-1]} in\n"
	"\t\t(-C | --store)\n"
	"\t\t\t_files -/\n"
	"\t\t\treturn\n"
	"\t\t\t;;\n"
	"\t\tesac\n"
	"\t\tcommands=(\n";

static void zsh_script(FILE *out)
{
	fputs(zsh_head, out);
	for (size_t i = 0; cli_commands[i] != NULL; i++) {
		fprintf(out, "\t\t\t'%s:", cli_commands[i]->name);
		put_quoted(out, cli_commands[i]->summary, true);
		fputs("'\n", out);
	}
	fputs("\t\t)\n\t\t_describe command commands\n\t\tcompadd -- --store --help "
	      "--version\n\t\treturn\n\tfi\n"
	      "\twords=(\"${(@)words[i,-1]}\")\n\t((CURRENT -= i - 1))\n\tcase $words[1] in\n",
		out);
	for (size_t i = 0; cli_commands[i] != NULL; i++) {
		fprintf(out, "\t(%s)\n\t\t_arguments \\\n", cli_commands[i]->name);
		each_option(out, cli_commands[i], zsh_option);
		if (cli_commands[i]->first != NULL) {
			fputs("\t\t\t'1:kind:", out);
			zsh_argument(out, cli_commands[i]->first);
			fputs("' \\\n", out);
		}
		fputs("\t\t\t'*:argument:", out);
		zsh_argument(out, cli_commands[i]->complete);
		fputs("'\n\t\t;;\n", out);
	}
	fputs("\tesac\n}\n\n"
	      "if [[ $funcstack[1] == _esker ]]; then\n\t_esker \"$@\"\nelse\n\tcompdef _esker esker\nfi\n",
		out);
}

/* ---- fish ---- */

static void fish_action(FILE *out, const char *complete)
{
	if (complete == NULL)
		return;
	if (strcmp(complete, "dir") == 0) {
		fputs(" -a '(__fish_complete_directories)'", out);
	} else if (strcmp(complete, "file") == 0) {
		fputs(" -F", out);
	} else if (strcmp(complete, "run") == 0) {
		fputs(" -a '(__esker_runs)'", out);
	} else if (strcmp(complete, "ref") == 0) {
		fputs(" -F -a '(__esker_runs) h5://(__esker_runs)/'", out);
	} else {
		fputs(" -a '", out);
		if (strcmp(complete, "command") == 0)
			put_names(out);
		else
			put_words(out, complete);
		fputc('\'', out);
	}
}

static void fish_option(FILE *out, const cli_command *command, const cli_option *o)
{
	fprintf(out, "complete -c esker -n '__fish_seen_subcommand_from %s' -l %s", command->name, o->name);
	if (o->letter != 0)
		fprintf(out, " -s %c", o->letter);
	if (o->argument != NULL) {
		fputs(" -r", out);
		fish_action(out, o->complete);
	}
	fputs(" -d '", out);
	for (const char *at = o->help; *at != '\0'; at++) {
		if (*at == '\'' || *at == '\\')
			fputc('\\', out);
		fputc(*at, out);
	}
	fputs("'\n", out);
}

static void fish_script(FILE *out)
{
	fputs("# fish completion for esker; load it with: esker completion fish | source\n"
	      "function __esker_store\n"
	      "\tset -l words (commandline -opc)\n"
	      "\tfor i in (seq (count $words))\n"
	      "\t\tif contains -- $words[$i] -C --store; and test $i -lt (count $words)\n"
	      "\t\t\techo $words[(math $i + 1)]\n\t\t\treturn\n\t\tend\n"
	      "\t\tif test -f \"$words[$i]/esker.db\"\n\t\t\techo $words[$i]\n\t\t\treturn\n\t\tend\n"
	      "\tend\n"
	      "\tif test -n \"$ESKER_STORE\"\n\t\techo $ESKER_STORE\n\telse\n\t\techo .\n\tend\n"
	      "end\n\n"
	      "function __esker_runs\n\tesker ls --names -C (__esker_store) 2>/dev/null\nend\n\n"
	      "complete -c esker -f\n"
	      "complete -c esker -n __fish_use_subcommand -l version -d 'print the version'\n",
		out);
	for (size_t i = 0; cli_commands[i] != NULL; i++) {
		const cli_command *command = cli_commands[i];
		fprintf(out, "complete -c esker -n __fish_use_subcommand -a %s -d '%s'\n", command->name,
			command->summary);
		each_option(out, command, fish_option);
		const char *const arguments[] = {command->first, command->complete};
		for (size_t k = 0; k < 2; k++) {
			if (arguments[k] == NULL)
				continue;
			fprintf(out, "complete -c esker -n '__fish_seen_subcommand_from %s'", command->name);
			fish_action(out, arguments[k]);
			fputc('\n', out);
		}
	}
}

/* ---- completion ---- */

static int run_completion(cli_args *args)
{
	if (args->word_count != 1)
		return cli_usage(args, "completion: for which shell? bash, zsh or fish");
	if (strcmp(args->words[0], "bash") == 0)
		bash_script(stdout);
	else if (strcmp(args->words[0], "zsh") == 0)
		zsh_script(stdout);
	else if (strcmp(args->words[0], "fish") == 0)
		fish_script(stdout);
	else
		return cli_usage(
			args, "completion: bash, zsh or fish was expected, found \"%s\"", args->words[0]);
	return CLI_OK;
}

const cli_command cli_completion = {
	.name = "completion",
	.summary = "print a completion script for a shell",
	.usage = "bash | zsh | fish",
	.description = "Completes commands, options, and the names of runs in the store at hand.",
	.examples = (const cli_example[]){{"source <(esker completion bash)", "for the bash at hand"},
		{"esker completion fish > ~/.config/fish/completions/esker.fish", "for fish, for good"}, {0}},
	.needs = CLI_NO_STORE,
	.words_most = 1,
	.complete = "bash|zsh|fish",
	.run = run_completion,
};
