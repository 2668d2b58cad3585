/* esker verify, repair, reindex: looking after the files. */
#include "catalogue.h"
#include "checker.h"
#include "commands.h"
#include "json.h"
#include "place.h"
#include "progress.h"

#include <string.h>

static json_t *report_as_json(const esk_check_report *report, json_t *findings)
{
	return json_pack("{s:O, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "findings", findings,
		"finding_count", (json_int_t)report->findings, "runs", (json_int_t)report->runs, "files",
		(json_int_t)report->files, "datasets", (json_int_t)report->datasets, "chunks",
		(json_int_t)report->chunks, "bytes", (json_int_t)report->bytes, "salvaged_rows",
		(json_int_t)report->salvaged_rows, "gap_rows", (json_int_t)report->gap_rows);
}

static void print_checked(const esk_check_report *report, uint64_t ns)
{
	cli_buf files, datasets, chunks, bytes, span, rate;
	printf("%s, %s, %s, %s read in %s (%s/s)\n", cli_counted(report->files, "file", &files),
		cli_counted(report->datasets, "dataset", &datasets),
		cli_counted(report->chunks, "chunk", &chunks), cli_bytes(report->bytes, &bytes),
		cli_span(ns, &span),
		cli_bytes((uint64_t)((double)report->bytes * 1e9 / (double)(ns + 1)), &rate));
}

static int parse_threads(const cli_args *args, uint32_t *ret_threads)
{
	const char *text = cli_value(args, "threads");
	uint64_t threads = 0;
	if (text != NULL && (!cli_parse_u64(text, &threads) || threads > 1024))
		return cli_usage(args, "--threads: a number up to 1024 was expected, found \"%s\"", text);
	*ret_threads = (uint32_t)threads;
	return CLI_OK;
}

/* Options, and the names of the runs: all, or the one on the command line. The store is closed again. */
static int prepare(const cli_args *args, cli_checker *ret_checker, json_t **ret_names)
{
	cli_place place;
	*ret_checker = (cli_checker){.quiet = cli_flag(args, "json")};
	int code = parse_threads(args, &ret_checker->threads);
	if (code == CLI_OK)
		code = cli_place_open(args, true, &place);
	if (code != CLI_OK)
		return code;
	const char *run = place.word_count > 0 ? place.words[0] : NULL;
	ret_checker->path = place.path;
	ret_checker->verbose = place.verbose;
	code = cli_sql(&place,
		"SELECT name FROM runs WHERE ?1 IS NULL OR name = ?1 ORDER BY created_ns, name", run,
		ret_names);
	if (code == CLI_OK && run != NULL && json_array_size(*ret_names) == 0) {
		json_decref(*ret_names);
		code = cli_fail("%s: there is no run \"%s\"; 'esker ls' lists them", place.path, run);
	}
	cli_catch_signals();
	return cli_place_close(&place, code);
}

/* ---- verify ---- */

static int run_verify(cli_args *args)
{
	cli_checker checker;
	json_t *names;
	int code = prepare(args, &checker, &names);
	if (code != CLI_OK)
		return code;
	int64_t begun = cli_now_ns();
	code = cli_check(&checker, "verify", names);
	uint64_t found = checker.sum.findings;
	if (code == CLI_OK && checker.quiet) {
		cli_print_json(report_as_json(&checker.sum, checker.findings));
	} else if (code == CLI_OK) {
		cli_buf count;
		print_checked(&checker.sum, (uint64_t)(cli_now_ns() - begun));
		if (found > 0)
			printf("%s; 'esker repair' salvages what is readable\n",
				cli_counted(found, "finding", &count));
		else
			puts("no findings");
	}
	cli_checker_clear(&checker);
	json_decref(names);
	return code == CLI_OK && found > 0 ? CLI_FAILED : code;
}

static const cli_option check_options[] = {
	{"threads", 'j', "N", NULL, "decode with N threads (default: one per core)"},
	{"json", 0, NULL, NULL, "print findings and sums as JSON"},
	{0},
};

const cli_command cli_verify = {
	.name = "verify",
	.summary = "read and check every chunk",
	.usage = "[STORE] [RUN] [-j N] [--json]",
	.description = "Reads and decodes every chunk of every committed file (of RUN alone, if named) and "
		       "compares checksums, row counts and catalogue. Changes nothing. Exits with 1 where "
		       "something is found.",
	.options = check_options,
	.examples = (const cli_example[]){{"esker verify data", "the whole store"},
		{"esker verify data game --json", "one run, for scripts"}, {0}},
	.needs = CLI_STORE,
	.words_most = 1,
	.complete = "run",
	.run = run_verify,
};

/* ---- repair ---- */

static void print_repaired(const cli_checker *done, const cli_checker *after, uint64_t ns)
{
	cli_buf a, b, c;
	print_checked(&done->sum, ns);
	if (done->sum.findings == 0) {
		puts("no damage: nothing was changed");
		return;
	}
	printf("%s; %s kept, %s recorded as gaps; old files stay as *.damaged\n",
		cli_counted(done->sum.findings, "finding", &a),
		cli_counted(done->sum.salvaged_rows, "row", &b), cli_counted(done->sum.gap_rows, "row", &c));
	if (after->sum.findings > 0)
		printf("left: %s\n", cli_counted(after->sum.findings, "finding", &a));
}

static void print_repaired_json(const cli_checker *done, const cli_checker *after)
{
	json_t *all = json_copy(done->findings);
	if (after->findings != NULL)
		json_array_extend(all, after->findings);
	json_t *object = report_as_json(&done->sum, all);
	json_object_set_new(object, "remaining", json_integer((json_int_t)after->sum.findings));
	json_decref(all);
	cli_print_json(object);
}

/* What is still wrong after the repair is what counts: the faults it met are gone or recorded as gaps. */
static int run_repair(cli_args *args)
{
	cli_checker done;
	json_t *names;
	int code = prepare(args, &done, &names);
	if (code != CLI_OK)
		return code;
	int64_t begun = cli_now_ns();
	done.repair = true;
	cli_checker after = done;
	after.repair = false;
	code = cli_check(&done, "repair", names);
	uint64_t ns = (uint64_t)(cli_now_ns() - begun);
	if (code == CLI_OK && done.sum.findings > 0)
		code = cli_check(&after, "verify", names);
	if (code == CLI_OK && done.quiet)
		print_repaired_json(&done, &after);
	else if (code == CLI_OK)
		print_repaired(&done, &after, ns);
	if (code == CLI_OK && after.sum.findings > 0)
		code = CLI_FAILED;
	cli_checker_clear(&done);
	cli_checker_clear(&after);
	json_decref(names);
	return code;
}

const cli_command cli_repair = {
	.name = "repair",
	.summary = "salvage what is readable of damaged files",
	.usage = "[STORE] [RUN] [-j N] [--json]",
	.description = "Recovers what a crash left, then copies every readable chunk of each damaged file "
		       "into a new one, records the rows of unreadable chunks as gaps, verifies the new file "
		       "and only then replaces the old one, which stays beside it as FILE.damaged. Sound "
		       "files are left alone. Exits with 1 where findings remain.",
	.options = check_options,
	.examples = (const cli_example[]){{"esker repair data", "the whole store"}, {0}},
	.needs = CLI_STORE,
	.words_most = 1,
	.complete = "run",
	.run = run_repair,
};

/* ---- reindex ---- */

static int reindex(
	const cli_args *args, const cli_place *place, json_t *findings, esk_check_report *ret_report)
{
	esk_check_options options = ESK_CHECK_OPTIONS_INIT;
	int code = parse_threads(args, &options.threads);
	if (code != CLI_OK)
		return code;
	options.finding = cli_collect_finding;
	options.progress = cli_progress_step;
	options.arg = findings;
	esk_error err = {0};
	cli_catch_signals();
	cli_progress_begin("reindex");
	esk_status status = esk_store_reindex(place->path, &options, ret_report, &err);
	cli_progress_end();
	if (status != ESK_OK && cli_stop_requested())
		return cli_fail("interrupted: the catalogue is as it was");
	return status == ESK_OK ? CLI_OK : cli_fail_with(&err);
}

static int run_reindex(cli_args *args)
{
	cli_place place;
	int code = cli_place_find(args, &place);
	if (code != CLI_OK)
		return code;
	esk_check_report report = {0};
	json_t *findings = json_array();
	code = reindex(args, &place, findings, &report);
	if (code == CLI_OK && cli_flag(args, "json")) {
		cli_print_json(report_as_json(&report, findings));
	} else if (code == CLI_OK) {
		size_t i;
		json_t *finding;
		json_array_foreach(findings, i, finding) cli_print_finding(finding);
		cli_buf runs, files;
		printf("in the new catalogue: %s in %s\n", cli_counted(report.runs, "run", &runs),
			cli_counted(report.files, "file", &files));
	}
	json_decref(findings);
	return code == CLI_OK && report.findings > 0 ? CLI_FAILED : code;
}

const cli_command cli_reindex = {
	.name = "reindex",
	.summary = "rebuild the catalogue from the HDF5 files",
	.usage = "[STORE] [-j N] [--json]",
	.description = "Makes a new esker.db from the HDF5 files in the directory alone; the old one is kept "
		       "as esker.db.old. Nobody else may have the store open.",
	.options = check_options,
	.examples = (const cli_example[]){{"esker reindex data", "after esker.db was lost or damaged"}, {0}},
	.needs = CLI_DIRECTORY,
	.complete = "dir",
	.run = run_reindex,
};
