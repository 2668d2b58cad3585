/* Repair: a damaged file's sound chunks go to a new file, its bad ones become gaps; the new file is verified
 * before it takes the old one's place, which is kept beside it.
 *
 *   A1  nothing of the old file is changed; it is renamed, last, to <file>.damaged (or .damaged.2, …).
 *   A2  the new file is committed, read back by verify without a finding, closed, and only then renamed. */
#include "check/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct bad_chunk {
	esk_h5_dataset *dataset;
	uint64_t chunk;
} bad_chunk;

/* Rows of variable strings that cannot be read. */
typedef struct lost_rows {
	esk_h5_dataset *dataset;
	uint64_t first;
	uint64_t count;
} lost_rows;

typedef struct repair {
	esk_walk *walk;
	esk_store *store;
	esk_pool *pool;
	esk_h5 *from;
	esk_h5 *to;
	bad_chunk *bad;
	size_t bad_count;
	size_t bad_capacity;
	lost_rows *lost;
	size_t lost_count;
	bool no_memory;
	esk_gap *gaps;
	size_t gap_count;
	esk_h5_dataset *copying;
} repair;

static void note_bad(void *arg, esk_h5_dataset *dataset, uint64_t chunk)
{
	repair *r = arg;
	if (r->bad_count == r->bad_capacity) {
		size_t capacity = r->bad_capacity == 0 ? 64 : 2 * r->bad_capacity;
		bad_chunk *grown = realloc(r->bad, capacity * sizeof *grown);
		if (grown == NULL) {
			r->no_memory = true;
			return;
		}
		r->bad = grown;
		r->bad_capacity = capacity;
	}
	r->bad[r->bad_count++] = (bad_chunk){dataset, chunk};
}

static bool is_sound(void *arg, uint64_t chunk)
{
	const repair *r = arg;
	for (size_t i = 0; i < r->bad_count; i++)
		if (r->bad[i].dataset == r->copying && r->bad[i].chunk == chunk)
			return false;
	return true;
}

static esk_status note_lost_row(repair *r, esk_h5_dataset *dataset, uint64_t row, esk_error *err)
{
	lost_rows *last = r->lost_count > 0 ? &r->lost[r->lost_count - 1] : NULL;
	if (last != NULL && last->dataset == dataset && last->first + last->count == row) {
		last->count++;
		return ESK_OK;
	}
	lost_rows *grown = realloc(r->lost, (r->lost_count + 1) * sizeof *grown);
	if (grown == NULL)
		return esk_fail_memory(err, sizeof *grown, "the list of lost rows");
	r->lost = grown;
	r->lost[r->lost_count++] = (lost_rows){dataset, row, 1};
	return ESK_OK;
}

/* Copies rows [row, row + count) of strings; where they cannot be read, halves them until only what is
 * damaged is left out. Rows left out read as empty. */
static esk_status copy_string_rows(
	repair *r, esk_h5_dataset *from, esk_h5_dataset *to, uint64_t row, uint64_t count, esk_error *err)
{
	esk_string *strings = NULL;
	esk_status status = esk_h5_read_strings(from, row, count, &strings, NULL);
	if (status == ESK_OK) {
		status = esk_h5_write_strings(to, row, count, strings, err);
		free(strings);
		return status;
	}
	if (count == 1)
		return note_lost_row(r, from, row, err);
	status = copy_string_rows(r, from, to, row, count / 2, err);
	return status == ESK_OK ? copy_string_rows(r, from, to, row + count / 2, count - count / 2, err)
				: status;
}

#define STRING_ROWS 1024

/* Row by row, not by H5Ocopy: libhdf5 1.10 dies of a damaged heap of strings while copying it. */
static esk_status copy_strings(repair *r, esk_h5_dataset *from, esk_error *err)
{
	const esk_h5_info *info = esk_h5_dataset_info(from);
	esk_h5_dataset *to;
	uint64_t chunk_rows = info->chunked && info->chunk_shape[0] > 0 ? info->chunk_shape[0] : STRING_ROWS;
	esk_status status = esk_h5_dataset_create(
		r->to, info->path, &info->column, chunk_rows, &info->pipeline, &to, err);
	if (status == ESK_OK)
		status = esk_h5_set_rows(to, info->rows, err);
	for (uint64_t row = 0; row < info->rows && status == ESK_OK; row += STRING_ROWS)
		status = copy_string_rows(r, from, to, row, esk_min_u64(STRING_ROWS, info->rows - row), err);
	return status;
}

static esk_status copy_dataset(void *arg, esk_h5_dataset *dataset, esk_error *err)
{
	repair *r = arg;
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	if (strcmp(info->path, ESK_GAPS_PATH) == 0)
		return ESK_OK; /* written anew, with the new gaps */
	r->copying = dataset;
	esk_error why = {0};
	bool strings = info->readable && info->column.dtype.kind == ESK_STRING && !info->scalar;
	esk_status status = strings ? copy_strings(r, dataset, &why)
				    : esk_h5_copy_dataset(dataset, r->to, is_sound, r, &why);
	if (status == ESK_OK || status == ESK_ENOSPC || status == ESK_ENOMEM) {
		if (status == ESK_OK)
			r->walk->report.salvaged_rows += info->rows;
		else if (err != NULL)
			*err = why;
		return status;
	}
	/* A dataset that cannot be copied at all is lost; the rest is not. */
	esk_walk_find(r->walk, info->path, 0, info->rows, status, "lost: %s", why.message);
	return ESK_OK;
}

/* ---- gaps ---- */

static esk_status add_gap(repair *r, const esk_gap *gap, esk_error *err)
{
	esk_gap *grown = realloc(r->gaps, (r->gap_count + 1) * sizeof *grown);
	if (grown == NULL)
		return esk_fail_memory(err, sizeof *grown, "gaps");
	r->gaps = grown;
	r->gaps[r->gap_count++] = *gap;
	return ESK_OK;
}

/* Gaps that the old file had, as far as they can be read. */
static esk_status take_old_gaps(repair *r, esk_error *err)
{
	esk_h5_dataset *dataset;
	if (!esk_h5_exists(r->from, ESK_GAPS_PATH) ||
		esk_h5_dataset_open(r->from, ESK_GAPS_PATH, &dataset, NULL) != ESK_OK)
		return ESK_OK;
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	if (info->column.dtype.kind != ESK_U64 || esk_column_cell_bytes(&info->column) != sizeof(esk_gap))
		return ESK_OK;
	for (uint64_t row = 0; row < info->rows; row++) {
		esk_gap gap;
		esk_h5_rows piece = {.row = row, .count = 1, .out = &gap};
		if (esk_h5_read_rows(dataset, r->pool, &piece, 1, NULL) == ESK_OK) {
			esk_status status = add_gap(r, &gap, err);
			if (status != ESK_OK)
				return status;
		}
	}
	return ESK_OK;
}

static uint64_t stream_of(const esk_segment_stream *streams, size_t count, const char *path)
{
	char column[2 * ESK_MAX_NAME + 16];
	for (size_t s = 0; s < count; s++)
		for (size_t c = 0; c < 2 * streams[s].column_count; c++) {
			esk_segment_column_path(streams[s].name, streams[s].columns[c / 2].name, c % 2 == 1,
				column, sizeof column);
			if (strcmp(column, path) == 0)
				return s;
		}
	return UINT64_MAX;
}

/* A gap for `count` rows of a dataset from `first`. */
static esk_status add_lost_rows(repair *r, const esk_segment_stream *streams, size_t stream_count,
	esk_h5_dataset *dataset, uint64_t first, uint64_t count, esk_error *err)
{
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	uint64_t stream = streams != NULL ? stream_of(streams, stream_count, info->path) : UINT64_MAX;
	esk_gap gap = {.stream = stream != UINT64_MAX ? streams[stream].stream : UINT64_MAX,
		.row = first + (stream != UINT64_MAX ? streams[stream].first_row : 0),
		.rows = count,
		.bytes = count * esk_column_cell_bytes(&info->column),
		.time_ns = (uint64_t)esk_now_ns(),
		.cause = 1};
	r->walk->report.gap_rows += count;
	return add_gap(r, &gap, err);
}

static esk_status add_new_gaps(repair *r, esk_error *err)
{
	esk_segment_stream *streams = NULL;
	size_t count = 0;
	esk_status status = ESK_OK;
	if (esk_segment_read_streams(r->from, &streams, &count, NULL) != ESK_OK)
		streams = NULL;
	for (size_t i = 0; i < r->bad_count && status == ESK_OK; i++) {
		const esk_h5_info *info = esk_h5_dataset_info(r->bad[i].dataset);
		uint64_t across =
			esk_max_u64(1, esk_h5_chunk_count(r->bad[i].dataset) /
					       esk_max_u64(1, (info->rows + info->chunk_shape[0] - 1) /
								      info->chunk_shape[0]));
		uint64_t first = r->bad[i].chunk / across * info->chunk_shape[0];
		uint64_t rows =
			first < info->rows ? esk_min_u64(info->chunk_shape[0], info->rows - first) : 0;
		status = add_lost_rows(r, streams, count, r->bad[i].dataset, first, rows, err);
	}
	for (size_t i = 0; i < r->lost_count && status == ESK_OK; i++)
		status = add_lost_rows(
			r, streams, count, r->lost[i].dataset, r->lost[i].first, r->lost[i].count, err);
	if (streams != NULL)
		esk_segment_streams_free(streams, count);
	return status;
}

static esk_status write_gaps(repair *r, esk_error *err)
{
	esk_column *column;
	size_t columns, size;
	esk_pipeline pipeline;
	esk_h5_dataset *dataset;
	uint32_t mask;
	if (r->gap_count == 0)
		return ESK_OK;
	esk_status status = esk_columns_parse(ESK_GAP_COLUMN, &column, &columns, err);
	if (status != ESK_OK)
		return status;
	column->chunk_rows = r->gap_count > 256 ? r->gap_count : 256;
	status = esk_pipeline_build("gzip:1", column, column->chunk_rows, &pipeline, err);
	if (status == ESK_OK)
		status = esk_h5_dataset_create(
			r->to, ESK_GAPS_PATH, column, column->chunk_rows, &pipeline, &dataset, err);
	esk_columns_free(column);
	if (status != ESK_OK)
		return status;
	size_t bound = esk_pipeline_bound(&pipeline);
	void *out = malloc(bound);
	esk_scratch *scratch = esk_scratch_create();
	esk_span span = {r->gaps, r->gap_count * sizeof *r->gaps};
	if (out == NULL || scratch == NULL)
		status = esk_fail_memory(err, bound, "gaps");
	if (status == ESK_OK)
		status = esk_pipeline_encode(&pipeline, scratch, &span, 1, out, bound, &size, &mask, err);
	if (status == ESK_OK)
		status = esk_h5_set_rows(dataset, r->gap_count, err);
	if (status == ESK_OK)
		status = esk_h5_write_chunk(dataset, 0, mask, out, size, err);
	esk_scratch_destroy(scratch);
	free(out);
	return status;
}

/* ---- one file ---- */

static esk_status fill_copy(repair *r, esk_error *err)
{
	esk_status status = esk_h5_copy_groups(r->from, r->to, err);
	if (status == ESK_OK)
		status = esk_h5_visit(r->from, copy_dataset, r, err);
	if (status == ESK_OK)
		status = take_old_gaps(r, err);
	if (status == ESK_OK)
		status = add_new_gaps(r, err);
	if (status == ESK_OK)
		status = write_gaps(r, err);
	if (status == ESK_OK)
		status = esk_h5_commit_begin(r->to, err);
	return status == ESK_OK ? esk_h5_commit_finish(r->to, NULL, err) : status;
}

/* A2: reads the copy back; a finding in it is a failure of the repair. */
static esk_status verify_copy(repair *r, const char *path, esk_error *err)
{
	esk_check_options options = ESK_CHECK_OPTIONS_INIT;
	esk_walk walk = {.options = &options, .run = r->walk->run, .file = r->walk->file};
	esk_h5 *file;
	esk_status status = esk_h5_open_read(esk_store_os(r->store), path, &file, err);
	if (status != ESK_OK)
		return status;
	status = esk_verify_file(&walk, r->pool, file, NULL, NULL, err);
	esk_h5_close(file, NULL);
	if (status == ESK_OK && walk.report.findings > 0)
		status = esk_fail(err, ESK_ECORRUPT,
			"the salvaged copy of %s has %llu findings itself; nothing was replaced",
			r->walk->file, (unsigned long long)walk.report.findings);
	return status;
}

static esk_status make_copy(repair *r, const char *path, esk_error *err)
{
	const esk_os *os = esk_store_os(r->store);
	char journal[ESK_PATH_BYTES + 16];
	snprintf(journal, sizeof journal, "%s-journal", path);
	esk_status status = esk_os_unlink(os, path, err);
	if (status == ESK_OK)
		status = esk_os_unlink(os, journal, err);
	if (status == ESK_OK)
		status = esk_h5_create(os, path, &r->to, err);
	if (status != ESK_OK)
		return status;
	status = fill_copy(r, err);
	if (status == ESK_OK)
		status = esk_h5_close(r->to, err);
	else
		esk_h5_abandon(r->to);
	r->to = NULL;
	if (status == ESK_OK)
		status = verify_copy(r, path, err);
	if (status != ESK_OK) {
		esk_os_unlink(os, path, NULL);
		esk_os_unlink(os, journal, NULL);
	}
	return status;
}

/* A1. */
static esk_status swap(const esk_os *os, const char *path, const char *copy, esk_error *err)
{
	char kept[ESK_PATH_BYTES + 24];
	snprintf(kept, sizeof kept, "%s.damaged", path);
	for (int i = 2; esk_os_exists(kept); i++)
		snprintf(kept, sizeof kept, "%s.damaged.%d", path, i);
	esk_status status = esk_os_rename(os, path, kept, err);
	if (status == ESK_OK)
		status = esk_os_rename(os, copy, path, err);
	return status == ESK_OK ? esk_os_sync_parent(os, path, err) : status;
}

static esk_status repair_file(repair *r, const char *name, bool *ret_repaired, esk_error *err)
{
	char path[ESK_PATH_BYTES], copy[ESK_PATH_BYTES];
	const esk_os *os = esk_store_os(r->store);
	esk_error why = {0};
	snprintf(path, sizeof path, "%s/%s", esk_store_path(r->store), name);
	snprintf(copy, sizeof copy, "%s/spool/%s.repair", esk_store_path(r->store), name);
	if (esk_jfile_has_writer(os, path))
		return ESK_OK; /* being recorded */
	esk_status status = esk_h5_open_read(os, path, &r->from, &why);
	if (status != ESK_OK) {
		r->walk->report.files++;
		esk_walk_find(
			r->walk, NULL, 0, 0, status, "%s; nothing can be salvaged from it", why.message);
		return ESK_OK;
	}
	uint64_t before = r->walk->report.findings;
	r->bad_count = r->gap_count = r->lost_count = 0;
	status = esk_verify_file(r->walk, r->pool, r->from, note_bad, r, err);
	if (status == ESK_OK && r->no_memory)
		status = esk_fail_memory(err, r->bad_count * sizeof *r->bad, "the list of bad chunks");
	bool damaged = status == ESK_OK && r->walk->report.findings > before && !r->walk->cancelled;
	if (damaged && esk_h5_probe(os, path, &why) == ESK_ECORRUPT) {
		esk_walk_find(r->walk, NULL, 0, 0, ESK_ECORRUPT, "%s; nothing can be salvaged from it",
			why.message);
	} else if (damaged) {
		status = make_copy(r, copy, err);
		if (status == ESK_OK)
			status = swap(os, path, copy, err);
		*ret_repaired = status == ESK_OK;
	}
	esk_h5_close(r->from, NULL);
	r->from = NULL;
	return status;
}

/* ---- the store ---- */

static esk_status repair_run(repair *r, const esk_index_file *files, size_t count, esk_error *err)
{
	esk_status status = ESK_OK;
	bool any = false;
	r->walk->run = files[0].head.run;
	r->walk->report.runs++;
	for (size_t i = 0; i < count && status == ESK_OK && !r->walk->cancelled; i++) {
		r->walk->file = files[i].name;
		status = repair_file(r, files[i].name, &any, err);
	}
	if (status != ESK_OK || !any)
		return status;
	esk_index_file *again;
	size_t again_count;
	esk_catalog *catalog;
	status = esk_store_catalog(r->store, &catalog, err);
	if (status == ESK_OK)
		status = esk_index_scan(esk_store_os(r->store), esk_store_path(r->store), files[0].head.run,
			&again, &again_count, err);
	if (status == ESK_OK) {
		esk_index_target target = {.os = esk_store_os(r->store),
			.pool = r->pool,
			.logger = esk_store_logger(r->store),
			.directory = esk_store_path(r->store),
			.catalog = catalog};
		status = esk_index_put(&target, again, again_count, true, err);
		esk_index_free(again, again_count);
	}
	return status;
}

esk_status esk_store_repair(
	esk_store *store, const esk_check_options *options, esk_check_report *ret_report, esk_error *err)
{
	esk_check_options defaults = esk_check_defaults(options);
	esk_walk walk = {.options = &defaults};
	repair r = {.walk = &walk, .store = store};
	esk_index_file *files = NULL;
	size_t count = 0;
	if (esk_store_is_read_only(store))
		return esk_fail(err, ESK_EACCES,
			"%s is open for reading only: open it for writing to repair it",
			esk_store_path(store));
	esk_status status = esk_pool_create(defaults.threads, 64, &r.pool, err);
	if (status != ESK_OK)
		return status;
	status =
		esk_index_scan(esk_store_os(store), esk_store_path(store), defaults.run, &files, &count, err);
	for (size_t i = 0; status == ESK_OK && i < count; i++)
		walk.total_bytes += files[i].bytes;
	if (status == ESK_OK && defaults.run != NULL && count == 0)
		status = esk_fail(err, ESK_ENOTFOUND, "the store has no run \"%s\"", defaults.run);
	for (size_t first = 0; first < count && status == ESK_OK && !walk.cancelled;) {
		size_t group = 1;
		while (first + group < count &&
			strcmp(files[first + group].head.run, files[first].head.run) == 0)
			group++;
		status = repair_run(&r, &files[first], group, err);
		first += group;
	}
	if (status == ESK_OK && walk.cancelled)
		status = esk_fail(err, ESK_ECLOSED, "cancelled: files that were repaired before stay so");
	if (status == ESK_OK)
		*ret_report = walk.report;
	esk_index_free(files, count);
	esk_pool_destroy(r.pool);
	free(r.bad);
	free(r.lost);
	free(r.gaps);
	return status;
}
