/* esker init, ls, info: the store and what it holds. */
#include "catalogue.h"
#include "commands.h"
#include "table.h"
#include "value.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- init ---- */

static int run_init(cli_args *args)
{
	cli_place place;
	int code = cli_place_find(args, &place);
	if (code != CLI_OK)
		return code;
	if (args->word_count == 0 && cli_value(args, "store") == NULL)
		return cli_usage(args, "init: which directory?");
	esk_error err = {0};
	if (esk_store_create(place.path, &err) != ESK_OK)
		return cli_fail_with(&err);
	if (!cli_flag(args, "quiet")) {
		fputs("made the store ", stdout);
		cli_put_escaped(stdout, place.path, strlen(place.path));
		fputc('\n', stdout);
	}
	return CLI_OK;
}

const cli_command cli_init = {
	.name = "init",
	.summary = "make an empty store",
	.usage = "DIR [-q]",
	.description =
		"Makes the directory DIR (the one above it must exist) with an empty catalogue, esker.db. "
		"HDF5 files and the catalogue of every run that is recorded into the store lie in it.",
	.options = (const cli_option[]){{"quiet", 'q', NULL, NULL, "print nothing"}, {0}},
	.examples = (const cli_example[]){{"esker init data", "make the store \"data\""}, {0}},
	.needs = CLI_DIRECTORY,
	.complete = "dir",
	.run = run_init,
};

/* ---- ls ---- */

static int list_names(cli_place *place)
{
	json_t *names;
	int code = cli_sql(place, "SELECT name FROM runs ORDER BY name", NULL, &names);
	if (code != CLI_OK)
		return code;
	size_t i;
	json_t *row;
	json_array_foreach(names, i, row)
	{
		const char *name = cli_json_text(row, "name");
		cli_put_escaped(stdout, name, strlen(name));
		fputc('\n', stdout);
	}
	json_decref(names);
	return CLI_OK;
}

static void print_runs(const json_t *runs)
{
	static const cli_head heads[] = {{"name", "RUN", false}, {"rows", "ROWS", true},
		{"bytes", "SIZE", true}, {"segments", "FILES", true}, {"created_ns", "CREATED", false},
		{"state", "STATE", false}};
	cli_table *table = cli_table_begin(stdout, CLI_TEXT, heads, sizeof heads / sizeof *heads);
	size_t i;
	json_t *run;
	json_array_foreach(runs, i, run)
	{
		cli_table_text(table, cli_json_text(run, "name"));
		cli_table_count(table, cli_json_number(run, "rows"));
		cli_table_bytes(table, cli_json_number(run, "bytes"));
		cli_table_count(table, cli_json_number(run, "segments"));
		cli_table_time(table, (int64_t)cli_json_number(run, "created_ns"));
		cli_table_text(table, cli_json_text(run, "state"));
	}
	cli_table_end(table);
}

static int list_runs(cli_place *place, bool json)
{
	json_t *runs;
	int code = cli_runs(place, NULL, &runs);
	if (code != CLI_OK)
		return code;
	if (json) {
		cli_print_json(runs);
		return CLI_OK;
	}
	print_runs(runs);
	json_decref(runs);
	return CLI_OK;
}

static int list_run(cli_place *place, const char *name, bool json)
{
	esk_error err = {0};
	esk_reader *reader;
	if (esk_reader_open(place->store, name, &reader, &err) != ESK_OK)
		return cli_fail_with(&err);
	json_t *datasets = NULL, *segments = NULL;
	int code = cli_datasets(reader, &datasets);
	if (code == CLI_OK)
		code = cli_segments(place, name, &segments);
	if (code == CLI_OK && json) {
		cli_print_json(
			json_pack("{s:s, s:O, s:O}", "run", name, "columns", datasets, "segments", segments));
	} else if (code == CLI_OK) {
		cli_print_datasets(datasets);
		fputc('\n', stdout);
		cli_print_segments(segments);
	}
	json_decref(datasets);
	json_decref(segments);
	esk_reader_close(reader);
	return code;
}

static int run_ls(cli_args *args)
{
	cli_place place;
	int code = cli_place_open(args, true, &place);
	if (code != CLI_OK)
		return code;
	if (cli_flag(args, "names"))
		code = list_names(&place);
	else if (place.word_count == 0)
		code = list_runs(&place, cli_flag(args, "json"));
	else
		code = list_run(&place, place.words[0], cli_flag(args, "json"));
	return cli_place_close(&place, code);
}

const cli_command cli_ls = {
	.name = "ls",
	.summary = "list runs, or the columns and files of one",
	.usage = "[STORE] [RUN] [--json] [--names]",
	.description =
		"Without RUN: every run with its rows, size, time and state: recording, finished, "
		"interrupted (its recorder is gone; opening the store for writing recovers it) or foreign (a "
		"file that something else wrote). With RUN: its streams, columns and segments.",
	.options = (const cli_option[]){{"json", 0, NULL, NULL, "print JSON"},
		{"names", 0, NULL, NULL, "print the names of the runs alone, one a line"}, {0}},
	.examples = (const cli_example[]){{"esker ls data", "the runs of the store \"data\""},
		{"esker ls data game", "what the run \"game\" holds"},
		{"esker ls data --json | jq '.[].name'", "for scripts"}, {0}},
	.needs = CLI_STORE,
	.words_most = 1,
	.complete = "run",
	.run = run_ls,
};

/* ---- info ---- */

static void print_field(const char *name, const char *value)
{
	fprintf(stdout, "%-12s ", name);
	cli_put_escaped(stdout, value, strlen(value));
	fputc('\n', stdout);
}

/* Pretty JSON, indented below its title; escaped, so that no string steers the terminal. */
static void print_metadata(const json_t *metadata)
{
	if (json_object_size(metadata) == 0)
		return;
	fputs("\nmetadata\n", stdout);
	json_t *copy = json_deep_copy(metadata);
	cli_print_json(copy);
}

static void print_needs(const json_t *datasets)
{
	size_t i, j;
	json_t *d, *e;
	json_array_foreach(datasets, i, d)
	{
		const char *needs = cli_json_text(d, "needs");
		bool first = needs[0] != '\0';
		for (j = 0; j < i && first; j++) {
			e = json_array_get(datasets, j);
			first = strcmp(cli_json_text(e, "needs"), needs) != 0;
		}
		if (first)
			printf("\nwarning: a stock HDF5 reader needs %s to read \"%s\"%s\n", needs,
				cli_json_text(d, "path"),
				" and columns like it (in Python: import hdf5plugin)");
	}
}

static int info_store(cli_place *place, bool json)
{
	json_t *sums;
	int code = cli_sql(place,
		"SELECT (SELECT count(*) FROM runs) AS runs, (SELECT ifnull(sum(rows), 0) FROM runs) AS "
		"rows, (SELECT count(*) FROM segments WHERE pruned = 0) AS files, (SELECT ifnull(sum(bytes), "
		"0) FROM segments WHERE pruned = 0) AS bytes, (SELECT count(*) FROM gaps) AS gaps",
		NULL, &sums);
	if (code != CLI_OK)
		return code;
	json_t *sum = json_array_get(sums, 0);
	json_object_set_new(sum, "store", json_string(place->path));
	if (json) {
		json_incref(sum);
		cli_print_json(sum);
	} else {
		cli_buf buf;
		print_field("store", place->path);
		print_field("runs", cli_count(cli_json_number(sum, "runs"), &buf));
		print_field("rows", cli_count(cli_json_number(sum, "rows"), &buf));
		print_field("files", cli_count(cli_json_number(sum, "files"), &buf));
		print_field("size", cli_bytes(cli_json_number(sum, "bytes"), &buf));
		print_field("gaps", cli_count(cli_json_number(sum, "gaps"), &buf));
	}
	json_decref(sums);
	return CLI_OK;
}

static void print_run(const json_t *run)
{
	cli_buf buf;
	print_field("run", cli_json_text(run, "name"));
	print_field("state", cli_json_text(run, "state"));
	print_field("created", cli_time((int64_t)cli_json_number(run, "created_ns"), &buf));
	print_field("updated", cli_time((int64_t)cli_json_number(run, "updated_ns"), &buf));
	print_field("rows", cli_count(cli_json_number(run, "rows"), &buf));
	print_field("commits", cli_count(cli_json_number(run, "commits"), &buf));
	print_field("size", cli_bytes(cli_json_number(run, "bytes"), &buf));
	fputc('\n', stdout);
}

static int info_run(cli_place *place, const char *name, bool json)
{
	esk_error err = {0};
	esk_reader *reader;
	if (esk_reader_open(place->store, name, &reader, &err) != ESK_OK)
		return cli_fail_with(&err);
	json_t *datasets = NULL, *segments = NULL, *gaps = NULL, *runs = NULL;
	int code = cli_runs(place, name, &runs);
	if (code == CLI_OK)
		code = cli_datasets(reader, &datasets);
	if (code == CLI_OK)
		code = cli_segments(place, name, &segments);
	if (code == CLI_OK)
		code = cli_gaps(place, name, &gaps);
	if (code == CLI_OK) {
		json_t *run =
			json_array_size(runs) > 0 ? json_incref(json_array_get(runs, 0)) : json_object();
		if (json) {
			json_object_set(run, "columns", datasets);
			json_object_set(run, "segment_list", segments);
			json_object_set(run, "gap_list", gaps);
			cli_print_json(run);
		} else {
			print_run(run);
			cli_print_datasets(datasets);
			fputc('\n', stdout);
			cli_print_segments(segments);
			if (json_array_size(gaps) > 0) {
				fputs("\ngaps\n", stdout);
				cli_print_gaps(gaps);
			}
			print_needs(datasets);
			print_metadata(json_object_get(run, "metadata"));
			json_decref(run);
		}
	}
	json_decref(runs);
	json_decref(gaps);
	json_decref(segments);
	json_decref(datasets);
	esk_reader_close(reader);
	return code;
}

static int info_file(const char *path, bool json)
{
	esk_error err = {0};
	esk_reader *reader;
	if (esk_reader_open_file(path, &reader, &err) != ESK_OK)
		return cli_fail_with(&err);
	json_t *datasets;
	int code = cli_datasets(reader, &datasets);
	if (code == CLI_OK) {
		json_t *metadata = json_loads(esk_reader_metadata(reader), JSON_ALLOW_NUL, NULL);
		if (metadata == NULL)
			metadata = json_object();
		if (json) {
			cli_print_json(json_pack(
				"{s:s, s:O, s:O}", "file", path, "columns", datasets, "metadata", metadata));
		} else {
			print_field("file", path);
			fputc('\n', stdout);
			cli_print_datasets(datasets);
			print_needs(datasets);
			print_metadata(metadata);
		}
		json_decref(metadata);
		json_decref(datasets);
	}
	esk_reader_close(reader);
	return code;
}

static void print_dataset(const json_t *d)
{
	cli_buf buf;
	print_field("path", cli_json_text(d, "path"));
	print_field("type", cli_json_text(d, "type"));
	print_field("rows", cli_count(cli_json_number(d, "rows"), &buf));
	print_field("chunk rows", cli_count(cli_json_number(d, "chunk_rows"), &buf));
	print_field("codec", cli_json_text(d, "codec"));
	print_field("stored", cli_bytes(cli_json_number(d, "stored_bytes"), &buf));
	if (json_object_get(d, "raw_bytes") != NULL) {
		print_field("raw", cli_bytes(cli_json_number(d, "raw_bytes"), &buf));
		print_field("ratio",
			cli_ratio(cli_json_number(d, "raw_bytes"), cli_json_number(d, "stored_bytes"), &buf));
	}
	if (cli_json_text(d, "units")[0] != '\0')
		print_field("units", cli_json_text(d, "units"));
	if (cli_json_text(d, "long_name")[0] != '\0')
		print_field("long name", cli_json_text(d, "long_name"));
}

static int info_ref(cli_place *place, const char *text, bool json)
{
	esk_error err = {0};
	esk_ref ref;
	esk_reader *reader;
	esk_dataset *dataset;
	if (esk_ref_parse(text, &ref, &err) != ESK_OK ||
		esk_reader_open(place->store, ref.run, &reader, &err) != ESK_OK)
		return cli_fail_with(&err);
	json_t *all = NULL;
	int code = esk_reader_find(reader, ref.path, &dataset, &err) == ESK_OK ? CLI_OK : cli_fail_with(&err);
	if (code == CLI_OK)
		code = cli_datasets(reader, &all);
	cli_rows rows = {0};
	if (code == CLI_OK)
		code = cli_rows_open(dataset, &rows);
	if (code == CLI_OK && ref.kind != ESK_REF_WHOLE && ref.stop > rows.info.rows)
		code = cli_fail("%s: rows up to %llu were asked for, \"%s\" has %llu", text,
			(unsigned long long)ref.stop, rows.info.path, (unsigned long long)rows.info.rows);
	size_t i;
	json_t *d;
	json_array_foreach(all, i, d)
	{
		if (code != CLI_OK || strcmp(cli_json_text(d, "path"), rows.info.path) != 0)
			continue;
		json_object_set_new(d, "run", json_string(ref.run));
		json_object_set_new(d, "ref", json_string(text));
		if (json) {
			cli_print_json(json_incref(d));
			continue;
		}
		print_field("run", ref.run);
		print_dataset(d);
		json_t *one = json_pack("[O]", d);
		print_needs(one);
		json_decref(one);
	}
	json_decref(all);
	cli_rows_close(&rows);
	esk_reader_close(reader);
	return code;
}

/* A word with a slash or the ending of an HDF5 file, that is a file, is meant as one. */
static bool is_file(const char *word)
{
	struct stat st;
	const char *dot = strrchr(word, '.');
	bool named = strchr(word, '/') != NULL ||
		     (dot != NULL && (strcmp(dot, ".h5") == 0 || strcmp(dot, ".h5x") == 0 ||
					     strcmp(dot, ".hdf5") == 0 || strcmp(dot, ".nwb") == 0));
	return named && stat(word, &st) == 0 && !S_ISDIR(st.st_mode);
}

static int run_info(cli_args *args)
{
	cli_place place;
	int code = cli_place_find(args, &place);
	if (code != CLI_OK)
		return code;
	bool json = cli_flag(args, "json");
	if (place.word_count == 1 && is_file(place.words[0]))
		return info_file(place.words[0], json);
	code = cli_place_open_store(&place, true);
	if (code != CLI_OK)
		return code;
	if (place.word_count == 0)
		code = info_store(&place, json);
	else if (strncmp(place.words[0], "h5://", 5) == 0)
		code = info_ref(&place, place.words[0], json);
	else
		code = info_run(&place, place.words[0], json);
	return cli_place_close(&place, code);
}

const cli_command cli_info = {
	.name = "info",
	.summary = "describe a store, a run, a dataset or an HDF5 file",
	.usage = "[STORE] [RUN | REF | FILE.h5] [--json]",
	.description = "Tells everything about a run: state, times, commits, columns with dtype, chunk rows, "
		       "codec and compression, segments, gaps, metadata; and what a stock HDF5 reader needs "
		       "for its codecs. FILE.h5 may be any HDF5 file, in a store or not.",
	.options = (const cli_option[]){{"json", 0, NULL, NULL, "print JSON"}, {0}},
	.examples = (const cli_example[]){{"esker info data game", "the run \"game\" of the store \"data\""},
		{"esker info -C data h5://game/frames", "one of its columns"},
		{"esker info measurement.h5", "a file without a store"}, {0}},
	.needs = CLI_STORE,
	.words_most = 1,
	.complete = "ref",
	.run = run_info,
};
