/* esk_replay_migrate: the phases one after the other, each over all runs, so that everything is verified
 * before anything is dropped. */
#include "migrate.h"

#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ASK_NS 100000000

/* ---- telling ---- */

/* Asks the caller whether to go on, at most ten times a second. */
static bool go_on(void *arg)
{
	esk_migrate_work *work = arg;
	int64_t now = esk_monotonic_ns();
	if (work->options.progress == NULL || work->stopped || now - work->asked_ns < ASK_NS)
		return !work->stopped;
	work->asked_ns = now;
	work->stopped =
		!work->options.progress(work->options.arg, work->phase, work->done_bytes, work->total_bytes);
	return !work->stopped;
}

static esk_status fail_stopped(const esk_migrate_work *work, esk_error *err)
{
	return esk_fail(err, ESK_ECLOSED,
		"the migration of %s was stopped in the phase \"%s\"; the same call goes on from there",
		work->path, work->phase);
}

esk_status esk_migrate_tell(esk_migrate_work *work, uint64_t bytes, esk_error *err)
{
	work->done_bytes += bytes;
	return go_on(work) ? ESK_OK : fail_stopped(work, err);
}

static bool needs_move(const esk_migrate_work *work, const esk_migrate_step *step)
{
	return step->row == ESK_MIGRATE_NO_ROW;
}

/* A phase, and the bytes of the steps that it has to do with. */
static void begin_phase(esk_migrate_work *work, const char *phase,
	bool (*needs)(const esk_migrate_work *work, const esk_migrate_step *step))
{
	work->phase = phase;
	work->done_bytes = work->total_bytes = 0;
	for (size_t i = 0; needs != NULL && i < work->plan.step_count; i++)
		if (needs(work, &work->plan.steps[i]))
			work->total_bytes += work->plan.steps[i].bytes;
}

void esk_migrate_find(esk_migrate_work *work, const esk_migrate_run *run, int64_t rowid, const char *column,
	const char *message)
{
	esk_replay_migrate_finding finding = {
		.run = run->name, .rowid = rowid, .column = column, .message = message};
	work->report.findings++;
	if (work->options.finding != NULL)
		work->options.finding(work->options.arg, &finding);
}

void esk_migrate_find_faults(esk_migrate_work *work, const esk_migrate_run *run, const esk_migrate_row *row)
{
	esk_migrate_step *step = &work->plan.steps[row->step];
	for (size_t i = 0; i < row->fault_count && !step->told; i++)
		esk_migrate_find(work, run, step->rowid, esk_legacy_column_name(row->faults[i].column),
			row->faults[i].message);
	step->told = true;
}

/* ---- runs ---- */

/* The run's reader without its rows; NULL where the store has no such run. */
static esk_status open_base(
	esk_migrate_work *work, const esk_migrate_run *run, esk_reader **ret_reader, esk_error *err)
{
	esk_error inner;
	*ret_reader = NULL;
	esk_status status = esk_reader_open(work->store, run->name, ret_reader, &inner);
	if (status == ESK_ENOTFOUND)
		return ESK_OK;
	return status == ESK_OK ? ESK_OK : esk_fail(err, status, "%s", inner.message);
}

esk_status esk_migrate_open_run(
	esk_migrate_work *work, const esk_migrate_run *run, esk_replay_reader **ret_reader, esk_error *err)
{
	esk_reader *base;
	*ret_reader = NULL;
	esk_status status = open_base(work, run, &base, err);
	if (status != ESK_OK || base == NULL)
		return status;
	bool empty = esk_reader_dataset_count(base) == 0;
	esk_reader_close(base);
	return empty ? ESK_OK : esk_replay_reader_open(work->store, run->name, ret_reader, err);
}

/* What the run's columns are, and which steps it has. */
static esk_status prepare_run(esk_migrate_work *work, size_t number, esk_error *err)
{
	const esk_migrate_run *run = &work->plan.runs[number];
	esk_migrate_layout *layout = &work->layouts[number];
	esk_reader *base;
	esk_status status = open_base(work, run, &base, err);
	if (status != ESK_OK)
		return status;
	if (base == NULL)
		return esk_migrate_layout_survey(work->legacy, &work->plan, run, layout, err);
	status = esk_migrate_layout_load(esk_reader_metadata(base), run->name, layout, err);
	esk_reader_close(base);
	esk_replay_reader *reader = NULL;
	if (status == ESK_OK)
		status = esk_migrate_open_run(work, run, &reader, err);
	if (status == ESK_OK && reader != NULL)
		status = esk_migrate_match(work, run, reader, err);
	esk_replay_reader_close(reader);
	return status;
}

typedef esk_status (*run_fn)(
	esk_migrate_work *work, const esk_migrate_run *run, esk_replay_reader *reader, esk_error *err);

static esk_status each_run(esk_migrate_work *work, run_fn act, esk_error *err)
{
	esk_status status = ESK_OK;
	for (size_t i = 0; i < work->plan.run_count && status == ESK_OK; i++) {
		esk_replay_reader *reader;
		status = esk_migrate_open_run(work, &work->plan.runs[i], &reader, err);
		if (status == ESK_OK)
			status = act(work, &work->plan.runs[i], reader, err);
		esk_replay_reader_close(reader);
	}
	return status;
}

/* ---- phases ---- */

static esk_status prepare(esk_migrate_work *work, esk_error *err)
{
	const char *slash = strrchr(work->path, '/');
	char fallback[ESK_MAX_NAME + 1];
	snprintf(fallback, sizeof fallback, "%s", slash != NULL ? slash + 1 : work->path);
	char *point = strrchr(fallback, '.');
	if (point != NULL && point != fallback)
		*point = '\0';
	const char *wanted = work->options.run;
	bool named = esk_legacy_has(work->legacy, ESK_LEGACY_RUN);
	esk_status status = esk_migrate_plan_make(
		work->legacy, wanted != NULL ? wanted : fallback, named ? wanted : NULL, &work->plan, err);
	if (status != ESK_OK)
		return status;
	work->layouts = calloc(work->plan.run_count, sizeof *work->layouts);
	if (work->layouts == NULL)
		return esk_fail_memory(err, work->plan.run_count * sizeof *work->layouts, "layouts");
	for (size_t i = 0; i < work->plan.run_count && status == ESK_OK; i++)
		status = prepare_run(work, i, err);
	work->report.runs = work->plan.run_count;
	work->report.episodes = work->plan.episode_count;
	work->report.steps = work->plan.step_count;
	return status;
}

static esk_status settle(esk_migrate_work *work, esk_error *err)
{
	esk_status status = esk_legacy_add_columns(work->legacy, err);
	for (size_t i = 0; i < work->plan.run_count && status == ESK_OK; i++)
		status = esk_migrate_settle(work, &work->plan.runs[i], err);
	return status;
}

static esk_status shrink(esk_migrate_work *work, esk_error *err)
{
	uint64_t bytes;
	esk_status status = esk_legacy_free_bytes(work->legacy, &bytes, err);
	if (status != ESK_OK || bytes == 0)
		return status;
	return esk_legacy_vacuum(work->legacy, err);
}

static esk_status run_phases(esk_migrate_work *work, esk_error *err)
{
	begin_phase(work, "read", NULL);
	esk_status status = prepare(work, err);
	begin_phase(work, "move", needs_move);
	if (status == ESK_OK)
		status = each_run(work, esk_migrate_move, err);
	begin_phase(work, "verify", esk_migrate_needs_verify);
	if (status == ESK_OK)
		status = each_run(work, esk_migrate_verify, err);
	begin_phase(work, work->options.drop_blobs ? "drop" : "refs", esk_migrate_needs_settle);
	if (status == ESK_OK && !work->options.no_refs)
		status = settle(work, err);
	begin_phase(work, "shrink", NULL);
	if (status == ESK_OK && work->options.drop_blobs)
		status = shrink(work, err);
	return status;
}

static void clear(esk_migrate_work *work)
{
	for (size_t i = 0; work->layouts != NULL && i < work->plan.run_count; i++)
		esk_migrate_layout_clear(&work->layouts[i]);
	free(work->layouts);
	esk_migrate_plan_clear(&work->plan);
	esk_legacy_close(work->legacy);
}

esk_status esk_replay_migrate(esk_store *store, const char *legacy_path,
	const esk_replay_migrate_options *options, esk_replay_migrate_report *ret_report, esk_error *err)
{
	esk_migrate_work work = {.store = store,
		.path = legacy_path,
		.options = ESK_REPLAY_MIGRATE_OPTIONS_INIT,
		.phase = "read"};
	if (options != NULL)
		esk_struct_take(&work.options, sizeof work.options, options);
	if (work.options.drop_blobs && work.options.no_refs)
		return esk_fail(err, ESK_EINVAL,
			"drop_blobs and no_refs: a database without refs would not tell where its arrays "
			"are");
	esk_status status = esk_legacy_open(legacy_path, !work.options.no_refs, &work.legacy, err);
	if (status != ESK_OK)
		return status;
	esk_legacy_watch(work.legacy, go_on, &work);
	work.report.bytes_before = esk_legacy_file_bytes(work.legacy);
	esk_error inner = {0};
	status = run_phases(&work, &inner);
	work.report.bytes_after = esk_legacy_file_bytes(work.legacy);
	if (status != ESK_OK && work.stopped)
		status = fail_stopped(&work, err);
	else if (status != ESK_OK && err != NULL)
		*err = inner;
	if (status == ESK_OK && ret_report != NULL)
		*ret_report = work.report;
	clear(&work);
	return status;
}
