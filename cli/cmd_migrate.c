/* esker migrate: data of other systems into a store. */
#include "commands.h"
#include "json.h"
#include "place.h"
#include "progress.h"

#include <errno.h>
#include <esker/replay.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SHOWN_FINDINGS 20

typedef struct migration {
	bool json;
	json_t *findings; /* all of them, with --json */
	uint64_t shown;
	const char *phase;
} migration;

/* ---- what the library calls ---- */

static void print_finding(const esk_replay_migrate_finding *finding)
{
	char *run = cli_escaped(finding->run, strlen(finding->run));
	char *message = cli_escaped(finding->message, strlen(finding->message));
	cli_progress_clear();
	printf("%s, rowid %lld, %s: %s\n", run, (long long)finding->rowid, finding->column, message);
	free(run);
	free(message);
}

static void on_finding(void *arg, const esk_replay_migrate_finding *finding)
{
	migration *m = arg;
	if (m->json)
		json_array_append_new(m->findings, json_pack("{s:s, s:I, s:s, s:s}", "run", finding->run,
							   "rowid", (json_int_t)finding->rowid, "column",
							   finding->column, "message", finding->message));
	else if (m->shown < SHOWN_FINDINGS)
		print_finding(finding);
	m->shown++;
}

static bool on_progress(void *arg, const char *phase, uint64_t done_bytes, uint64_t total_bytes)
{
	migration *m = arg;
	if (m->phase == NULL || strcmp(m->phase, phase) != 0) {
		cli_progress_end();
		cli_progress_begin(phase);
		m->phase = phase;
	}
	if (cli_progress_due())
		cli_progress_draw(done_bytes, total_bytes, "");
	return !cli_stop_requested();
}

/* ---- output ---- */

static void print_json(const migration *m, const esk_replay_migrate_report *r)
{
	cli_print_json(json_pack("{s:O, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
		"findings", m->findings, "finding_count", (json_int_t)r->findings, "runs",
		(json_int_t)r->runs, "episodes", (json_int_t)r->episodes, "steps", (json_int_t)r->steps,
		"moved", (json_int_t)r->moved, "text_bytes", (json_int_t)r->text_bytes, "array_bytes",
		(json_int_t)r->array_bytes, "verified", (json_int_t)r->verified, "refs", (json_int_t)r->refs,
		"dropped", (json_int_t)r->dropped, "bytes_before", (json_int_t)r->bytes_before, "bytes_after",
		(json_int_t)r->bytes_after));
}

static void print_report(const migration *m, const esk_replay_migrate_report *r, bool drop, uint64_t ns)
{
	cli_buf a, b, c, d, e;
	if (m->shown > SHOWN_FINDINGS)
		printf("... and %s more; --json lists all of them\n",
			cli_count(m->shown - SHOWN_FINDINGS, &a));
	printf("%s of %s moved (%s, %s): %s of JSON", cli_count(r->moved, &a),
		cli_counted(r->steps, "step", &b), cli_counted(r->runs, "run", &c),
		cli_counted(r->episodes, "episode", &d), cli_bytes(r->text_bytes, &e));
	printf(" became %s of arrays; %s in all\n", cli_bytes(r->array_bytes, &a), cli_span(ns, &b));
	printf("%s compared with what was read back: equal\n", cli_counted(r->verified, "payload", &a));
	if (r->refs > 0)
		printf("%s of the database got refs\n", cli_counted(r->refs, "step", &a));
	if (drop)
		printf("%s dropped: the database went from %s to %s\n",
			cli_counted(r->dropped, "payload", &a), cli_bytes(r->bytes_before, &b),
			cli_bytes(r->bytes_after, &c));
	if (r->findings > 0)
		printf("%s: what could not be moved stays in the database\n",
			cli_counted(r->findings, "finding", &a));
}

/* ---- the command ---- */

/* The store named on the command line is made if there is nothing of that name. */
static int open_store(const cli_args *args, cli_place *ret_place)
{
	const char *named = args->word_count > 2 ? args->words[2] : cli_value(args, "store");
	cli_args rest = *args;
	struct stat st;
	esk_error err = {0};
	rest.words += 2; /* behind the kind and the database: the store, if it is there */
	rest.word_count -= 2;
	if (args->word_count > 2 && cli_value(args, "store") != NULL)
		return cli_usage(
			args, "migrate: two stores: \"%s\" and --store %s", named, cli_value(args, "store"));
	if (named != NULL && stat(named, &st) != 0 && errno == ENOENT &&
		esk_store_create(named, &err) != ESK_OK)
		return cli_fail_with(&err);
	if (args->word_count <= 2) {
		int code = cli_place_find(&rest, ret_place);
		return code == CLI_OK ? cli_place_open_store(ret_place, false) : code;
	}
	*ret_place = (cli_place){.path = named, .verbose = cli_flag(args, "verbose")};
	return cli_place_open_store(ret_place, false);
}

static int parse_options(const cli_args *args, esk_replay_migrate_options *options)
{
	const char *text = cli_value(args, "threads");
	uint64_t threads = 0;
	if (text != NULL && (!cli_parse_u64(text, &threads) || threads > 64))
		return cli_usage(args, "--threads: a number up to 64 was expected, found \"%s\"", text);
	options->threads = (uint32_t)threads;
	options->run = cli_value(args, "run");
	options->drop_blobs = cli_flag(args, "drop-blobs");
	options->no_refs = cli_flag(args, "no-refs");
	if (options->drop_blobs && options->no_refs)
		return cli_usage(args, "--drop-blobs and --no-refs exclude each other: without refs the "
				       "database would not tell where its arrays are");
	return CLI_OK;
}

static int migrate(
	const cli_place *place, const char *path, const esk_replay_migrate_options *options, migration *m)
{
	esk_error err = {0};
	esk_replay_migrate_report report;
	int64_t begun = cli_now_ns();
	cli_catch_signals();
	esk_status status = esk_replay_migrate(place->store, path, options, &report, &err);
	cli_progress_end();
	if (status == ESK_ECLOSED && cli_stop_requested())
		return cli_fail("interrupted in the phase \"%s\": what was done stays done, and the same "
				"command goes on from there",
			m->phase != NULL ? m->phase : "read");
	if (status != ESK_OK)
		return cli_fail_with(&err);
	if (m->json)
		print_json(m, &report);
	else
		print_report(m, &report, options->drop_blobs, (uint64_t)(cli_now_ns() - begun));
	return report.findings > 0 ? CLI_FAILED : CLI_OK;
}

static int run_migrate(cli_args *args)
{
	cli_place place;
	migration m = {.json = cli_flag(args, "json"), .findings = json_array()};
	esk_replay_migrate_options options = ESK_REPLAY_MIGRATE_OPTIONS_INIT;
	int code = CLI_OK;
	if (args->word_count == 0 || strcmp(args->words[0], "telemetry") != 0)
		code = cli_usage(args, "migrate: telemetry was expected, found \"%s\"",
			args->word_count == 0 ? "" : args->words[0]);
	else if (args->word_count < 2)
		code = cli_usage(args, "migrate telemetry: which database?");
	else if (args->word_count > 3)
		code = cli_usage(args, "migrate: one argument too many: \"%s\"", args->words[3]);
	if (code == CLI_OK)
		code = parse_options(args, &options);
	if (code == CLI_OK)
		code = open_store(args, &place);
	if (code == CLI_OK) {
		options.finding = on_finding;
		options.progress = on_progress;
		options.arg = &m;
		code = cli_place_close(&place, migrate(&place, args->words[1], &options, &m));
	}
	json_decref(m.findings);
	return code;
}

const cli_command cli_migrate = {
	.name = "migrate",
	.summary = "move arrays out of a telemetry database",
	.usage = "telemetry DATABASE [STORE] [--run NAME] [--drop-blobs] [OPTIONS]",
	.description =
		"Moves the arrays of an SQLite database, whose table steps holds observation and "
		"render_payload as JSON, into a run per run_id; STORE is made if it is not there. Every "
		"array is parsed again and compared with what is read back. Then the table gets the columns "
		"frame_ref, obs_ref and replay_row, and with --drop-blobs what was moved becomes NULL and "
		"the file shrinks. May be stopped or killed at any moment: the same command goes on. What "
		"cannot be parsed is listed and stays; then the command exits with 1.",
	.options =
		(const cli_option[]){
			{"run", 'r', "NAME", NULL,
				"only the run_id NAME; where steps have none, the name of their run"},
			{"drop-blobs", 0, NULL, NULL, "set what was moved NULL, and shrink the database"},
			{"no-refs", 0, NULL, NULL, "only read the database"},
			{"threads", 'j', "N", NULL, "parse with N threads (default: one per core)"},
			{"json", 0, NULL, NULL, "print findings and sums as JSON"}, {0}},
	.examples = (const cli_example[]){{"esker migrate telemetry telemetry.sqlite data",
						  "move everything, keep the BLOBs too"},
		{"esker migrate telemetry telemetry.sqlite data --drop-blobs",
			"later on: compare once more, then shrink the database"},
		{0}},
	.needs = CLI_STORE,
	.words_most = 1, /* behind kind and database */
	.first = "telemetry",
	.complete = "file",
	.run = run_migrate,
};
