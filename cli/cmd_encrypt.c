/* esker keygen, esker decrypt: keys, and encrypted segments for programs that read plain HDF5. */
#include "commands.h"
#include "json.h"
#include "place.h"
#include "progress.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- keygen ---- */

static int run_keygen(cli_args *args)
{
	if (args->word_count != 1)
		return cli_usage(
			args, args->word_count == 0 ? "keygen: name the file" : "keygen: one file at a time");
	const char *file = args->words[0];
	esk_error err = {0};
	esk_key *key = NULL;
	if (esk_key_make(file, &err) != ESK_OK || esk_key_load(file, &key, &err) != ESK_OK)
		return cli_fail_with(&err);
	printf("%s\n", esk_key_id(key));
	cli_note("keep a copy of %s elsewhere: without it, what is encrypted with it is lost", file);
	esk_key_free(key);
	return CLI_OK;
}

const cli_command cli_keygen = {
	.name = "keygen",
	.summary = "make a key for encrypted segments",
	.usage = "FILE",
	.description =
		"Writes a new random key into FILE, which must not exist, readable by its owner alone, and "
		"prints the key's name, which says nothing of the key. Runs are encrypted with it by 'esker "
		"record --encrypt', sessions by the setting storage.encrypt; every command reads encrypted "
		"segments where --key FILE, ESKER_KEY_FILE or ESKER_KEY gives it.",
	.examples = (const cli_example[]){{"esker keygen ~/.esker.key", "a key of one's own"},
		{"ESKER_KEY_FILE=~/.esker.key esker record data cam frames.npy --encrypt", "record with it"},
		{0}},
	.needs = CLI_NO_STORE,
	.complete = "file",
	.run = run_keygen,
};

/* ---- decrypt ---- */

/* The name that the plain file has: "….h5x" without its last letter. */
static char *plain_name(const char *path)
{
	char *name = cli_copy(path);
	size_t size = strlen(name);
	if (size > 4 && strcmp(name + size - 4, ".h5x") == 0)
		name[size - 1] = '\0';
	return name;
}

static int decrypt_one(const char *from, const char *to)
{
	esk_error err = {0};
	cli_progress_begin("decrypt");
	esk_status status = esk_segment_decrypt(from, to, NULL, cli_progress_step, NULL, &err);
	cli_progress_end();
	if (status != ESK_OK)
		return cli_fail_with(&err);
	printf("%s\n", to);
	return CLI_OK;
}

static int decrypt_file(cli_args *args, const char *from)
{
	const char *output = cli_value(args, "output");
	char *beside = plain_name(from);
	int code = CLI_OK;
	if (output == NULL && strcmp(beside, from) == 0)
		code = cli_usage(
			args, "decrypt: \"%s\" does not end in .h5x: name the output with -o FILE", from);
	else
		code = decrypt_one(from, output != NULL ? output : beside);
	free(beside);
	return code;
}

/* ---- a run of a store ---- */

typedef struct files {
	char **names;
	size_t count;
} files;

static int list_files(esk_store *store, const char *run, files *ret_files)
{
	static const char sql[] = "SELECT s.file FROM segments s JOIN runs r ON r.id = s.run_id WHERE r.name "
				  "= ?1 AND s.pruned = 0 ORDER BY s.number";
	esk_query *query = NULL;
	esk_error err = {0};
	esk_value name = {.kind = ESK_TEXT, .data = run, .size = strlen(run)};
	bool row = false;
	esk_status status = esk_query_open(store, sql, &query, &err);
	if (status == ESK_OK)
		status = esk_query_bind(query, 1, &name, &err);
	while (status == ESK_OK && (status = esk_query_step(query, &row, &err)) == ESK_OK && row) {
		esk_value file = esk_query_value(query, 0);
		char **grown = realloc(ret_files->names, (ret_files->count + 1) * sizeof *grown);
		if (grown == NULL) {
			esk_query_close(query);
			return cli_fail("memory is out");
		}
		ret_files->names = grown;
		ret_files->names[ret_files->count++] = cli_copy(file.data);
	}
	esk_query_close(query);
	if (status != ESK_OK)
		return cli_fail_with(&err);
	return ret_files->count > 0 ? CLI_OK : cli_fail("the store has no run \"%s\"", run);
}

static void free_files(files *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->names[i]);
	free(list->names);
}

static char *join(const char *directory, const char *name)
{
	size_t size = strlen(directory) + strlen(name) + 2;
	char *path = cli_alloc(size);
	snprintf(path, size, "%s/%s", directory, name);
	return path;
}

static int decrypt_listed(const char *store, const char *directory, const files *list)
{
	size_t encrypted = 0;
	cli_buf plain;
	for (size_t i = 0; i < list->count; i++) {
		char *from = join(store, list->names[i]), *name = plain_name(list->names[i]),
		     *to = join(directory, name);
		int code = CLI_OK;
		if (strcmp(name, list->names[i]) != 0) {
			code = decrypt_one(from, to);
			encrypted++;
		}
		free(to);
		free(name);
		free(from);
		if (code != CLI_OK)
			return code;
	}
	if (encrypted == 0)
		cli_note("no segment of the run is encrypted: nothing was written");
	else if (encrypted < list->count)
		cli_note("plain already, and left where it is: %s",
			cli_counted(list->count - encrypted, "segment", &plain));
	return CLI_OK;
}

static int decrypt_run(cli_args *args, cli_place *place)
{
	const char *directory = cli_value(args, "output");
	struct stat st;
	files list = {0};
	if (directory == NULL)
		return cli_usage(args, "decrypt: name the directory for the plain files with -o DIR");
	if (stat(directory, &st) != 0 || !S_ISDIR(st.st_mode))
		return cli_fail("%s: no such directory to write to", directory);
	int code = cli_place_open_store(place, true);
	if (code != CLI_OK)
		return code;
	code = list_files(place->store, place->words[0], &list);
	if (code == CLI_OK)
		code = decrypt_listed(esk_store_path(place->store), directory, &list);
	free_files(&list);
	return cli_place_close(place, code);
}

static bool is_encrypted(const char *path)
{
	bool encrypted = false;
	return esk_segment_is_encrypted(path, &encrypted, NULL, NULL) == ESK_OK && encrypted;
}

static int run_decrypt(cli_args *args)
{
	cli_catch_signals();
	if (args->word_count == 1) {
		cli_take_key(args);
		const char *word = args->words[0];
		size_t size = strlen(word);
		if (is_encrypted(word) || (size > 4 && strcmp(word + size - 4, ".h5x") == 0))
			return decrypt_file(args, word);
	}
	cli_place place;
	int code = cli_place_find(args, &place);
	return code != CLI_OK ? code : decrypt_run(args, &place);
}

const cli_command cli_decrypt = {
	.name = "decrypt",
	.summary = "write encrypted segments as plain HDF5 files",
	.usage = "([STORE] RUN -o DIR | FILE.h5x [-o FILE]) [--key FILE]",
	.description =
		"Writes the plain file that was encrypted, byte for byte, for programs that read HDF5: each "
		"encrypted segment of RUN into DIR, or one file, by default beside it. It is complete and "
		"durable before it has its name, and nothing is overwritten. Esker itself needs no plain "
		"files: every command reads encrypted segments where the key is given.",
	.options =
		(const cli_option[]){
			{"output", 'o', "PATH", "file", "the directory, or the file, to write"}, {0}},
	.examples =
		(const cli_example[]){{"esker decrypt data cam -o plain --key ~/.esker.key", "all of a run"},
			{"esker decrypt data/cam_20261121T063100.123456Z.h5x -o cam.h5", "one segment"}, {0}},
	.needs = CLI_STORE,
	.words_least = 1,
	.words_most = 1,
	.complete = "run",
	.run = run_decrypt,
};
