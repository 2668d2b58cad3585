/* Where the store is: see place.h. */
#include "place.h"

#include "progress.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool is_directory(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool is_store(const char *path)
{
	char catalogue[4096];
	int length = snprintf(catalogue, sizeof catalogue, "%s/esker.db", path);
	struct stat st;
	return length > 0 && (size_t)length < sizeof catalogue && stat(catalogue, &st) == 0 &&
	       S_ISREG(st.st_mode);
}

static int check_words(const cli_args *args, const cli_place *place)
{
	const cli_command *command = args->command;
	if (place->word_count > command->words_most)
		return cli_usage(args, "%s: one argument too many: \"%s\"", command->name,
			place->words[command->words_most]);
	if (place->word_count < command->words_least)
		return cli_usage(args, "%s: an argument is missing", command->name);
	return CLI_OK;
}

/* A first argument with a slash can be nothing but a path: say so rather than look for a run of that name. */
static int check_first_word(const cli_args *args, const cli_place *place)
{
	if (place->word_count == 0 || args->command->needs != CLI_STORE)
		return CLI_OK;
	const char *word = place->words[0];
	if (is_directory(word) && (strchr(word, '/') != NULL || !is_store(place->path)))
		return cli_fail("%s: a directory, but no store (it holds no esker.db): 'esker init %s' makes "
				"an empty one, 'esker reindex %s' a catalogue for the HDF5 files in it",
			word, word, word);
	return CLI_OK;
}

void cli_take_key(const cli_args *args)
{
	const char *key = cli_value(args, "key");
	if (key != NULL)
		setenv("ESKER_KEY_FILE", key, 1);
}

int cli_place_find(const cli_args *args, cli_place *ret_place)
{
	*ret_place = (cli_place){.words = args->words, .word_count = args->word_count};
	cli_take_key(args);
	ret_place->verbose = cli_flag(args, "verbose");
	ret_place->path = cli_value(args, "store");
	if (ret_place->path == NULL && args->word_count > 0) {
		const char *first = args->words[0];
		if (args->command->needs == CLI_DIRECTORY ? true : is_store(first)) {
			ret_place->path = first;
			ret_place->words++;
			ret_place->word_count--;
		}
	}
	if (ret_place->path == NULL) {
		const char *environment = getenv("ESKER_STORE");
		ret_place->path = environment != NULL && environment[0] != '\0' ? environment : ".";
		int code = check_first_word(args, ret_place);
		if (code != CLI_OK)
			return code;
	}
	return check_words(args, ret_place);
}

int cli_place_open_store(cli_place *place, bool read_only)
{
	if (place->store != NULL)
		return CLI_OK;
	if (!is_store(place->path)) {
		const char *what = is_directory(place->path) ? "holds no esker.db" : "is no directory";
		return cli_fail("%s: no store here (it %s): name one with -C DIR, as the first argument or "
				"in ESKER_STORE; 'esker init DIR' makes one",
			place->path, what);
	}
	esk_store_options options = ESK_STORE_OPTIONS_INIT;
	options.read_only = read_only;
	options.log = cli_log;
	options.log_arg = &place->verbose;
	esk_error err = {0};
	if (esk_store_open(place->path, &options, &place->store, &err) != ESK_OK) {
		place->store = NULL;
		return cli_fail_with(&err);
	}
	return CLI_OK;
}

int cli_place_open(const cli_args *args, bool read_only, cli_place *ret_place)
{
	int code = cli_place_find(args, ret_place);
	if (code != CLI_OK)
		return code;
	return cli_place_open_store(ret_place, read_only);
}

int cli_place_close(cli_place *place, int code)
{
	esk_error err = {0};
	esk_status status = esk_store_close(place->store, &err);
	place->store = NULL;
	if (status != ESK_OK && code == CLI_OK)
		return cli_fail_with(&err);
	return code;
}
