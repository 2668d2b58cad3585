/* esker verify, repair, reindex: looking after the files. */
#include "commands.h"
#include "json.h"
#include "place.h"
#include "progress.h"

#include <inttypes.h>
#include <string.h>

typedef struct findings {
	bool json;
	json_t *list; /* with json */
} findings;

static void put_range(FILE *out, const esk_finding *f)
{
	if (f->row_count > 0)
		fprintf(out, " rows %" PRIu64 ":%" PRIu64, f->first_row, f->first_row + f->row_count);
}

static const char *or_empty(const char *text)
{
	return text != NULL ? text : "";
}

static json_t *text_or_null(const char *text)
{
	json_t *value = text != NULL ? json_string(text) : NULL;
	return value != NULL ? value : json_null();
}

/* Called for each fault, while the progress line may be drawn. */
static void on_finding(void *arg, const esk_finding *f)
{
	findings *found = arg;
	if (found->json) {
		json_t *object = json_object();
		json_object_set_new(object, "run", text_or_null(f->run));
		json_object_set_new(object, "file", text_or_null(f->file));
		json_object_set_new(object, "dataset", text_or_null(f->dataset));
		json_object_set_new(object, "first_row", json_integer((json_int_t)f->first_row));
		json_object_set_new(object, "row_count", json_integer((json_int_t)f->row_count));
		json_object_set_new(object, "code", json_string(esk_status_name(f->code)));
		json_object_set_new(object, "message", text_or_null(f->message));
		json_array_append_new(found->list, object);
		return;
	}
	cli_progress_clear();
	const char *where = or_empty(f->file)[0] != '\0' ? f->file : or_empty(f->run);
	cli_put_escaped(stdout, where, strlen(where));
	if (f->dataset != NULL) {
		fputs(f->dataset[0] == '/' ? "" : "/", stdout);
		cli_put_escaped(stdout, f->dataset, strlen(f->dataset));
	}
	put_range(stdout, f);
	printf(": %s: ", esk_status_name(f->code));
	cli_put_escaped(stdout, or_empty(f->message), strlen(or_empty(f->message)));
	fputc('\n', stdout);
	fflush(stdout);
}

static json_t *report_as_json(const esk_check_report *report, json_t *list)
{
	return json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "findings", list, "finding_count",
		(json_int_t)report->findings, "runs", (json_int_t)report->runs, "files",
		(json_int_t)report->files, "datasets", (json_int_t)report->datasets, "chunks",
		(json_int_t)report->chunks, "bytes", (json_int_t)report->bytes, "salvaged_rows",
		(json_int_t)report->salvaged_rows, "gap_rows", (json_int_t)report->gap_rows);
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

static int fill_options(
	const cli_args *args, const cli_place *place, findings *found, esk_check_options *ret_options)
{
	*ret_options = (esk_check_options)ESK_CHECK_OPTIONS_INIT;
	int code = parse_threads(args, &ret_options->threads);
	if (code != CLI_OK)
		return code;
	found->json = cli_flag(args, "json");
	found->list = json_array();
	ret_options->run = place->word_count > 0 ? place->words[0] : NULL;
	ret_options->finding = on_finding;
	ret_options->progress = cli_progress_step;
	ret_options->arg = found;
	cli_catch_signals();
	return CLI_OK;
}

static int failed(esk_status status, const esk_error *err, const char *what)
{
	if (status != ESK_OK && cli_stop_requested())
		return cli_fail("%s was interrupted before its end", what);
	return cli_fail_with(err);
}

static void print_checked(const esk_check_report *report, uint64_t ns)
{
	cli_buf files, datasets, chunks, bytes, span, rate;
	printf("%s files, %s datasets, %s chunks, %s read in %s (%s/s)\n", cli_count(report->files, &files),
		cli_count(report->datasets, &datasets), cli_count(report->chunks, &chunks),
		cli_bytes(report->bytes, &bytes), cli_span(ns, &span),
		cli_bytes((uint64_t)((double)report->bytes * 1e9 / (double)(ns + 1)), &rate));
}

/* ---- verify ---- */

static int verify(cli_place *place, const esk_check_options *options, findings *found)
{
	esk_check_report report = {0};
	esk_error err = {0};
	int64_t begun = cli_now_ns();
	cli_progress_begin("verify");
	esk_status status = esk_store_verify(place->store, options, &report, &err);
	cli_progress_end();
	if (status != ESK_OK)
		return failed(status, &err, "the check");
	if (found->json) {
		cli_print_json(report_as_json(&report, json_incref(found->list)));
	} else {
		print_checked(&report, (uint64_t)(cli_now_ns() - begun));
		cli_buf count;
		if (report.findings > 0)
			printf("%s findings; 'esker repair' salvages what is readable\n",
				cli_count(report.findings, &count));
		else
			puts("no findings");
	}
	return report.findings > 0 ? CLI_FAILED : CLI_OK;
}

static int run_verify(cli_args *args)
{
	cli_place place;
	findings found = {0};
	esk_check_options options;
	int code = cli_place_open(args, true, &place);
	if (code != CLI_OK)
		return code;
	code = fill_options(args, &place, &found, &options);
	if (code == CLI_OK)
		code = verify(&place, &options, &found);
	json_decref(found.list);
	return cli_place_close(&place, code);
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
	.description =
		"Reads and decodes every chunk of every committed file (of RUN alone, if named) and compares "
		"checksums, row counts and catalogue. Changes nothing. Exits with 1 where something is "
		"found.",
	.options = check_options,
	.examples = (const cli_example[]){{"esker verify data", "the whole store"},
		{"esker verify data game --json", "one run, for scripts"}, {0}},
	.needs = CLI_STORE,
	.words_most = 1,
	.complete = "run",
	.run = run_verify,
};

/* ---- repair ---- */

/* What is still wrong after a repair is what counts: the faults it met are gone or recorded as gaps. */
static int verify_again(
	cli_place *place, const esk_check_options *options, findings *found, esk_check_report *ret_report)
{
	esk_error err = {0};
	cli_progress_begin("verify");
	if (!found->json)
		fflush(stdout);
	esk_status status = esk_store_verify(place->store, options, ret_report, &err);
	cli_progress_end();
	return status == ESK_OK ? CLI_OK : failed(status, &err, "the check of the repaired files");
}

static int repair(cli_place *place, const esk_check_options *options, findings *found)
{
	esk_check_report report = {0}, after = {0};
	esk_error err = {0};
	int64_t begun = cli_now_ns();
	cli_progress_begin("repair");
	esk_status status = esk_store_repair(place->store, options, &report, &err);
	cli_progress_end();
	if (status != ESK_OK)
		return failed(status, &err, "the repair");
	uint64_t repaired = report.findings;
	if (repaired > 0) {
		findings rest = {.json = found->json, .list = json_array()};
		esk_check_options again = *options;
		again.arg = &rest;
		int code = verify_again(place, &again, &rest, &after);
		if (code == CLI_OK && found->json)
			json_array_extend(found->list, rest.list);
		json_decref(rest.list);
		if (code != CLI_OK)
			return code;
	}
	if (found->json) {
		json_t *object = report_as_json(&report, json_incref(found->list));
		json_object_set_new(object, "remaining", json_integer((json_int_t)after.findings));
		cli_print_json(object);
	} else {
		cli_buf a, b, c;
		print_checked(&report, (uint64_t)(cli_now_ns() - begun));
		if (repaired == 0)
			puts("no damage: nothing was changed");
		else
			printf("%s findings; %s rows kept, %s rows recorded as gaps; old files stay as "
			       "*.damaged\n",
				cli_count(repaired, &a), cli_count(report.salvaged_rows, &b),
				cli_count(report.gap_rows, &c));
		if (after.findings > 0)
			printf("%s findings remain\n", cli_count(after.findings, &a));
	}
	return after.findings > 0 ? CLI_FAILED : CLI_OK;
}

static int run_repair(cli_args *args)
{
	cli_place place;
	findings found = {0};
	esk_check_options options;
	int code = cli_place_open(args, false, &place);
	if (code != CLI_OK)
		return code;
	code = fill_options(args, &place, &found, &options);
	if (code == CLI_OK)
		code = repair(&place, &options, &found);
	json_decref(found.list);
	return cli_place_close(&place, code);
}

const cli_command cli_repair = {
	.name = "repair",
	.summary = "salvage what is readable of damaged files",
	.usage = "[STORE] [RUN] [-j N] [--json]",
	.description = "Recovers what a crash left, then copies every readable chunk of each damaged file "
		       "into a new one, records "
		       "the rows of unreadable chunks as gaps, verifies the new file and only then replaces "
		       "the old one, which "
		       "stays beside it as FILE.damaged. Sound files are left alone. Exits with 1 where "
		       "findings remain.",
	.options = check_options,
	.examples = (const cli_example[]){{"esker repair data", "the whole store"}, {0}},
	.needs = CLI_STORE,
	.words_most = 1,
	.complete = "run",
	.run = run_repair,
};

/* ---- reindex ---- */

static int run_reindex(cli_args *args)
{
	cli_place place;
	findings found = {0};
	esk_check_options options;
	int code = cli_place_find(args, &place);
	if (code == CLI_OK)
		code = fill_options(args, &place, &found, &options);
	if (code != CLI_OK) {
		json_decref(found.list);
		return code;
	}
	esk_check_report report = {0};
	esk_error err = {0};
	cli_progress_begin("reindex");
	esk_status status = esk_store_reindex(place.path, &options, &report, &err);
	cli_progress_end();
	if (status != ESK_OK) {
		code = failed(status, &err, "the reindex");
	} else if (found.json) {
		cli_print_json(report_as_json(&report, json_incref(found.list)));
	} else {
		cli_buf runs, files;
		printf("%s runs in %s files are in the new catalogue\n", cli_count(report.runs, &runs),
			cli_count(report.files, &files));
	}
	json_decref(found.list);
	return code == CLI_OK && report.findings > 0 ? CLI_FAILED : code;
}

const cli_command cli_reindex = {
	.name = "reindex",
	.summary = "rebuild the catalogue from the HDF5 files",
	.usage = "[STORE] [-j N] [--json]",
	.description =
		"Makes a new esker.db from the HDF5 files in the directory alone; the old one is kept as "
		"esker.db.old. Nobody else may have the store open.",
	.options = check_options,
	.examples = (const cli_example[]){{"esker reindex data", "after esker.db was lost or damaged"}, {0}},
	.needs = CLI_DIRECTORY,
	.complete = "dir",
	.run = run_reindex,
};
