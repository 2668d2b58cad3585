/* Repair: a damaged file's sound chunks go to a new file, its bad ones become gaps; the new file is verified
 * before it takes the old one's place, which is kept beside it.
 *
 *   A1  nothing of the old file is changed, except that a commit which a crash left in its journal is
 *       completed; it stays, as <file>.damaged (or .damaged.2, …).
 *   A2  the new file is committed, read back by verify without a finding, closed, and only then renamed.
 *   A3  the name is never without a file. The old file has its second name, durably, before the new file
 *       replaces it under the first, in one rename.
 *   A4  a repair that dies is repeated, or is finished already. It holds the run's lock from before the first
 *       touch; what it leaves in spool/ is removed by whoever takes the lock next, here or when the store is
 *       opened, and a mark there, made before the rename, says that the catalogue has to be told.
 *
 *       spool/<run>.repair          the new file
 *       spool/<run>.repaired        the mark */
#include "check/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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
	esk_h5_trial *trial;
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

static esk_status check_memory(const repair *r, esk_error *err)
{
	return r->no_memory ? esk_fail_memory(err, r->bad_count * sizeof *r->bad, "the list of bad chunks")
			    : ESK_OK;
}

static bool is_sound(void *arg, uint64_t chunk)
{
	const repair *r = arg;
	for (size_t i = 0; i < r->bad_count; i++)
		if (r->bad[i].dataset == r->copying && r->bad[i].chunk == chunk)
			return false;
	return true;
}

/* What verify read, copying could not. */
static void note_lost(void *arg, uint64_t chunk, const esk_error *why)
{
	repair *r = arg;
	const char *path = esk_h5_dataset_info(r->copying)->path;
	if (chunk == ESK_H5_ATTRIBUTES) {
		esk_walk_find(r->walk, path, 0, 0, why->code, "attributes are lost: %s", why->message);
		return;
	}
	esk_walk_find(r->walk, path, 0, 0, why->code, "chunk %llu is lost: %s", (unsigned long long)chunk,
		why->message);
	note_bad(r, r->copying, chunk);
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
	esk_h5_row_walk walk;
	if (status == ESK_OK)
		status = esk_h5_row_walk_begin(&walk, from, err);
	if (status != ESK_OK)
		return status;
	uint64_t row, count;
	while (status == ESK_OK && esk_h5_row_walk_next(&walk, STRING_ROWS, &row, &count))
		status = copy_string_rows(r, from, to, row, count, err);
	esk_h5_row_walk_end(&walk);
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
	esk_h5_copying copying = {.keep = is_sound, .lost = note_lost, .arg = r};
	bool strings = info->readable && info->column.dtype.kind == ESK_STRING && !info->scalar;
	esk_status status = strings ? copy_strings(r, dataset, &why)
				    : esk_h5_copy_dataset(dataset, r->to, &copying, &why);
	if (status == ESK_OK)
		r->walk->report.salvaged_rows += info->rows;
	if (status == ESK_OK)
		return ESK_OK;
	if (status == ESK_ENOSPC || status == ESK_ENOMEM || esk_h5_exists(r->to, info->path))
		return esk_fail(err, status, "%s", why.message);
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
	esk_error why;
	esk_status status = esk_h5_dataset_open(r->from, ESK_GAPS_PATH, &dataset, &why);
	if (status == ESK_ENOTFOUND)
		return ESK_OK;
	if (status != ESK_OK) {
		esk_walk_find(r->walk, ESK_GAPS_PATH, 0, 0, status, "lost: %s", why.message);
		return ESK_OK;
	}
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	if (info->column.dtype.kind != ESK_U64 || esk_column_cell_bytes(&info->column) != sizeof(esk_gap))
		return ESK_OK;
	esk_h5_row_walk walk;
	uint64_t row, count;
	status = esk_h5_row_walk_begin(&walk, dataset, err);
	while (status == ESK_OK && esk_h5_row_walk_next(&walk, 1, &row, &count)) {
		esk_gap gap;
		esk_h5_rows piece = {.row = row, .count = 1, .out = &gap};
		if (esk_h5_read_rows(dataset, r->pool, &piece, 1, NULL) == ESK_OK && gap.time_ns != 0)
			status = add_gap(r, &gap, err);
	}
	esk_h5_row_walk_end(&walk);
	return status;
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
		uint64_t first, rows;
		esk_h5_chunk_rows(esk_h5_dataset_info(r->bad[i].dataset), r->bad[i].chunk, &first, &rows);
		status = add_lost_rows(r, streams, count, r->bad[i].dataset, first, rows, err);
	}
	for (size_t i = 0; i < r->lost_count && status == ESK_OK; i++)
		status = add_lost_rows(
			r, streams, count, r->lost[i].dataset, r->lost[i].first, r->lost[i].count, err);
	if (streams != NULL)
		esk_segment_streams_free(streams, count);
	return status;
}

/* A gap that repair made, now or earlier: those of the ring know records. */
static bool is_of_repair(const esk_gap *gap)
{
	return gap->cause == 1 && gap->records == 0 && gap->first_sequence == 0;
}

static int compare_gaps(const void *left, const void *right)
{
	const esk_gap *a = left, *b = right;
	int order = is_of_repair(a) - is_of_repair(b);
	if (order == 0)
		order = (a->stream > b->stream) - (a->stream < b->stream);
	return order != 0 ? order : (a->row > b->row) - (a->row < b->row);
}

/* Several columns may lack the same rows, and rows may have been lost before: a row is in one gap. Sorts the
 * gaps from number `first` on and makes one of those of repair that overlap. Returns the rows in them. */
static uint64_t merge_gaps(repair *r, size_t first)
{
	size_t kept = first;
	uint64_t rows = 0;
	if (r->gap_count > first)
		qsort(r->gaps + first, r->gap_count - first, sizeof *r->gaps, compare_gaps);
	for (size_t i = first; i < r->gap_count; i++) {
		const esk_gap *gap = &r->gaps[i];
		esk_gap *last = kept > first ? &r->gaps[kept - 1] : NULL;
		if (last == NULL || !is_of_repair(last) || last->stream != gap->stream ||
			gap->row >= last->row + last->rows) {
			rows += is_of_repair(gap) ? gap->rows : 0;
			r->gaps[kept++] = *gap;
			continue;
		}
		uint64_t end = esk_max_u64(last->row + last->rows, gap->row + gap->rows);
		rows += end - (last->row + last->rows);
		last->rows = end - last->row;
		last->bytes += gap->bytes;
		last->time_ns = esk_max_u64(last->time_ns, gap->time_ns);
	}
	r->gap_count = kept;
	return rows;
}

static esk_status collect_gaps(repair *r, esk_error *err)
{
	esk_status status = take_old_gaps(r, err);
	size_t old = r->gap_count;
	if (status == ESK_OK)
		status = add_new_gaps(r, err);
	if (status == ESK_OK) {
		r->walk->report.gap_rows += merge_gaps(r, old);
		merge_gaps(r, 0);
	}
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
		status = check_memory(r, err);
	if (status == ESK_OK)
		status = collect_gaps(r, err);
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

/* ---- the old file's second name (A1) ---- */

#define COPY_BYTES (1u << 20)

static bool same_file(const char *a, const char *b)
{
	struct stat of_a, of_b;
	return stat(a, &of_a) == 0 && stat(b, &of_b) == 0 && of_a.st_dev == of_b.st_dev &&
	       of_a.st_ino == of_b.st_ino;
}

static void kept_name(const char *path, int turn, char ret_kept[ESK_PATH_BYTES + 32])
{
	if (turn == 1)
		snprintf(ret_kept, ESK_PATH_BYTES + 32, "%s.damaged", path);
	else
		snprintf(ret_kept, ESK_PATH_BYTES + 32, "%s.damaged.%d", path, turn);
}

static esk_status copy_bytes(
	const esk_os *os, int from, const char *path, int to, const char *copy, esk_error *err)
{
	char *piece = malloc(COPY_BYTES);
	esk_status status = piece != NULL ? ESK_OK : esk_fail_memory(err, COPY_BYTES, "a copy");
	size_t got = COPY_BYTES;
	for (uint64_t at = 0; status == ESK_OK && got == COPY_BYTES; at += got) {
		status = esk_os_read_some(os, from, path, piece, COPY_BYTES, at, &got, err);
		if (status == ESK_OK)
			status = esk_os_write(os, to, copy, piece, got, at, err);
	}
	free(piece);
	return status == ESK_OK ? esk_os_sync(os, to, copy, err) : status;
}

/* Where the file system knows no links: a copy, complete before it has its name. */
static esk_status keep_copy(
	const esk_os *os, const char *path, const char *copy, const char *kept, esk_error *err)
{
	int from = -1, to = -1;
	esk_status status = esk_os_open(os, path, O_RDONLY, 0, &from, err);
	if (status == ESK_OK)
		status = esk_os_open(os, copy, O_RDWR | O_CREAT | O_TRUNC, 0666, &to, err);
	if (status == ESK_OK)
		status = copy_bytes(os, from, path, to, copy, err);
	if (to >= 0)
		os->close(os, to);
	if (from >= 0)
		os->close(os, from);
	return status == ESK_OK ? esk_os_rename(os, copy, kept, err) : status;
}

/* Gives the old file another name, the first that is free. That it has one already is what a repair left that
 * died right behind. `copy` is where a copy is made if need be. */
static esk_status keep(const esk_os *os, const char *path, const char *copy,
	char ret_kept[ESK_PATH_BYTES + 32], esk_error *err)
{
	int linked = -EEXIST;
	for (int turn = 1; linked == -EEXIST; turn++) {
		kept_name(path, turn, ret_kept);
		linked = os->link(os, path, ret_kept);
		if (linked == -EEXIST && same_file(path, ret_kept))
			linked = 0;
	}
	if (linked == 0)
		return ESK_OK;
	if (linked != -EPERM && linked != -EOPNOTSUPP && linked != -ENOSYS && linked != -EMLINK)
		return esk_fail_errno(err, -linked, "cannot give %s the name %s", path, ret_kept);
	for (int turn = 1; esk_os_exists(ret_kept); turn++)
		kept_name(path, turn, ret_kept);
	return keep_copy(os, path, copy, ret_kept, err);
}

/* ---- one name after the other (A3, A4) ---- */

static esk_status make_mark(const esk_os *os, const char *mark, esk_error *err)
{
	int fd;
	esk_status status = esk_os_open(os, mark, O_RDWR | O_CREAT, 0666, &fd, err);
	if (status == ESK_OK)
		os->close(os, fd);
	return status == ESK_OK ? esk_os_sync_parent(os, mark, err) : status;
}

static esk_status swap(repair *r, const char *path, const char *copy, esk_error *err)
{
	const esk_os *os = esk_store_os(r->store);
	const char *store = esk_store_path(r->store), *run = r->walk->run;
	char mark[ESK_PATH_BYTES], old[ESK_PATH_BYTES], kept[ESK_PATH_BYTES + 32];
	if (!esk_store_spool_path(store, run, ESK_SPOOL_REPAIRED, mark) ||
		!esk_store_spool_path(store, run, ESK_SPOOL_DAMAGED, old))
		return esk_fail(err, ESK_EINVAL, "path too long: %s", store);
	esk_status status = make_mark(os, mark, err);
	if (status == ESK_OK)
		status = keep(os, path, old, kept, err);
	if (status == ESK_OK)
		status = esk_os_sync_parent(os, path, err);
	if (status == ESK_OK)
		status = esk_os_rename(os, copy, path, err);
	return status == ESK_OK ? esk_os_sync_parent(os, path, err) : status;
}

/* A journal belongs to the file that it lies beside, and must not lie beside the new one. */
static esk_status settle_journal(const esk_os *os, const char *path, esk_error *err)
{
	char journal[ESK_PATH_BYTES + 16];
	esk_jfile *file;
	snprintf(journal, sizeof journal, "%s-journal", path);
	if (!esk_os_exists(journal))
		return ESK_OK;
	esk_status status = esk_jfile_open(os, path, ESK_JFILE_WRITE, &file, NULL, err);
	return status == ESK_OK ? esk_jfile_close(file, err) : status;
}

/* The copy of an encrypted file becomes one as well, with the same key. */
static esk_status encrypt_copy(repair *r, const char *copy, const esk_key *key, esk_error *err)
{
	const esk_os *os = esk_store_os(r->store);
	char aside[ESK_PATH_BYTES];
	if (!esk_store_spool_path(esk_store_path(r->store), r->walk->run, ESK_SPOOL_REPAIR_SEALING, aside))
		return esk_fail(err, ESK_EINVAL, "path too long: %s", esk_store_path(r->store));
	esk_status status = esk_vault_encrypt(os, copy, aside, copy, key, NULL, NULL, err);
	if (status != ESK_OK)
		esk_os_unlink(os, copy, NULL);
	return status;
}

/* `key`: of an encrypted file; else NULL. */
static esk_status repair_open_file(repair *r, const char *path, const esk_key *key, esk_error *err)
{
	char copy[ESK_PATH_BYTES];
	uint64_t before = r->walk->report.findings;
	r->bad_count = r->gap_count = r->lost_count = 0;
	esk_status status = esk_verify_file(r->walk, r->pool, r->from, note_bad, r, err);
	if (status == ESK_OK)
		status = check_memory(r, err);
	if (status != ESK_OK || r->walk->report.findings == before || r->walk->cancelled)
		return status;
	if (!esk_store_spool_path(esk_store_path(r->store), r->walk->run, ESK_SPOOL_REPAIR, copy))
		return esk_fail(err, ESK_EINVAL, "path too long: %s", esk_store_path(r->store));
	status = make_copy(r, copy, err);
	if (status == ESK_OK && key != NULL)
		status = encrypt_copy(r, copy, key, err);
	return status == ESK_OK ? swap(r, path, copy, err) : status;
}

static void find_hopeless(repair *r, const esk_error *why)
{
	r->walk->report.files++;
	esk_walk_find(r->walk, NULL, 0, 0, why->code, "%s; nothing can be salvaged from it", why->message);
}

static esk_status repair_file(repair *r, const char *name, esk_error *err)
{
	char path[ESK_PATH_BYTES];
	esk_error why = {0};
	const esk_os *os = esk_store_os(r->store);
	if (!esk_store_file_path(esk_store_path(r->store), name, path))
		return esk_fail(err, ESK_EINVAL, "path too long: %s", esk_store_path(r->store));
	esk_status status = settle_journal(os, path, &why);
	if (status == ESK_OK)
		status = esk_h5_open_read(os, path, &r->from, &why);
	if (status == ESK_EBUSY)
		return ESK_OK; /* being written, by another program */
	if (status == ESK_ENOSPC || status == ESK_ENOMEM) {
		if (err != NULL)
			*err = why;
		return status;
	}
	if (status != ESK_OK) {
		find_hopeless(r, &why);
		return ESK_OK;
	}
	esk_key *key = NULL;
	status = esk_vault_key_of(os, path, &key, err);
	if (status == ESK_OK)
		status = repair_open_file(r, path, key, err);
	esk_key_free(key);
	esk_h5_close(r->from, NULL);
	r->from = NULL;
	return status;
}

static esk_status repair_unread(void *arg, const char *name, esk_error *err)
{
	repair *r = arg;
	char path[ESK_PATH_BYTES];
	esk_error why = {0};
	r->walk->file = name;
	if (!esk_store_file_path(esk_store_path(r->store), name, path) ||
		esk_h5_trial_verdict(r->trial, path, &why) == ESK_OK)
		return repair_file(r, name, err);
	find_hopeless(r, &why);
	return ESK_OK;
}

/* ---- the store ---- */

/* Tells the catalogue of what was repaired, now or by a repair that died, also where this one failed. */
static esk_status tell_catalogue(repair *r, esk_error *err)
{
	char mark[ESK_PATH_BYTES];
	esk_index_target target = {.os = esk_store_os(r->store),
		.pool = r->pool,
		.logger = esk_store_logger(r->store),
		.directory = esk_store_path(r->store),
		.trial = r->trial};
	if (!esk_store_spool_path(target.directory, r->walk->run, ESK_SPOOL_REPAIRED, mark) ||
		!esk_os_exists(mark))
		return ESK_OK;
	bool told = false;
	esk_status status = esk_store_catalog(r->store, &target.catalog, err);
	if (status == ESK_OK)
		status = esk_index_run(&target, r->walk->run, &told, err);
	if (status == ESK_OK && !told)
		status = esk_fail(err, ESK_EIO,
			"run \"%s\" was repaired, but its files cannot be read at present to tell the "
			"catalogue: repair it again",
			r->walk->run);
	return status;
}

static esk_status repair_run(repair *r, const esk_index_file *files, size_t count, esk_error *err)
{
	const esk_os *os = esk_store_os(r->store);
	const char *store = esk_store_path(r->store), *run = files[0].head.run;
	esk_run_hold hold;
	esk_error why = {0};
	r->walk->run = run;
	r->walk->report.runs++;
	esk_status status = esk_run_hold_take(os, store, run, &hold, &why);
	if (status == ESK_EBUSY) {
		esk_log(esk_store_logger(r->store), ESK_LOG_INFO, "not repaired: %s", why.message);
		return ESK_OK;
	}
	if (status != ESK_OK)
		return esk_fail(err, status, "%s", why.message);
	status = esk_store_clean_spool(os, store, run, err);
	for (size_t i = 0; i < count && status == ESK_OK && !r->walk->cancelled; i++) {
		r->walk->file = files[i].name;
		if (files[i].untouchable)
			find_hopeless(r, &files[i].error);
		else
			status = repair_file(r, files[i].name, err);
	}
	/* Of all runs, the scan has it as a run of its own name. */
	if (status == ESK_OK && !r->walk->cancelled && r->walk->options->run != NULL)
		status = esk_visit_unread(r->store, run, files, count, repair_unread, r, err);
	if (status != ESK_OK)
		esk_store_clean_spool(os, store, run, NULL);
	esk_status told = tell_catalogue(r, status == ESK_OK ? err : NULL);
	esk_run_hold_drop(&hold);
	return status == ESK_OK ? told : status;
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
	status = esk_check_try(esk_store_path(store), &defaults, &r.trial, err);
	if (status == ESK_OK)
		status = esk_index_scan(esk_store_os(store), esk_store_path(store), defaults.run, r.trial,
			&files, &count, err);
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
	esk_h5_trial_end(r.trial);
	esk_pool_destroy(r.pool);
	free(r.bad);
	free(r.lost);
	free(r.gaps);
	return status;
}
