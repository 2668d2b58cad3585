/* Verify: reads and decodes every chunk, compares counts of file and catalogue. Changes nothing. */
#include "check/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROGRESS_INTERVAL_NS 100000000u

esk_check_options esk_check_defaults(const esk_check_options *options)
{
	esk_check_options defaults = ESK_CHECK_OPTIONS_INIT;
	if (options != NULL)
		esk_struct_take(&defaults, sizeof defaults, options);
	return defaults;
}

esk_status esk_check_try(
	const char *store_path, const esk_check_options *options, esk_h5_trial **ret_trial, esk_error *err)
{
	return options->untried ? esk_index_try_none(ret_trial, err)
				: esk_index_try(store_path, options->run, ret_trial, err);
}

void esk_walk_find(esk_walk *walk, const char *dataset, uint64_t first_row, uint64_t row_count,
	esk_status code, const char *format, ...)
{
	char message[512];
	va_list args;
	va_start(args, format);
	vsnprintf(message, sizeof message, format, args);
	va_end(args);
	walk->report.findings++;
	esk_finding finding = {.run = walk->run,
		.file = walk->file,
		.dataset = dataset,
		.first_row = first_row,
		.row_count = row_count,
		.code = code,
		.message = message};
	if (walk->options->finding != NULL)
		walk->options->finding(walk->options->arg, &finding);
}

bool esk_walk_progress(esk_walk *walk, uint64_t more_bytes)
{
	walk->report.bytes += more_bytes;
	uint64_t now = esk_monotonic_ns();
	if (walk->options->progress != NULL && now - walk->last_progress_ns >= PROGRESS_INTERVAL_NS) {
		walk->last_progress_ns = now;
		if (!walk->options->progress(walk->options->arg, walk->report.bytes, walk->total_bytes))
			walk->cancelled = true;
	}
	return !walk->cancelled;
}

/* ---- chunks of a file, in parallel ---- */

#define JOBS 32

typedef struct chunk_job {
	esk_job job;
	esk_h5_dataset *dataset;
	uint64_t chunk;
	void *decoded;
	uint64_t stored_bytes;
	esk_status status;
	esk_error error;
} chunk_job;

typedef struct file_walk {
	esk_walk *walk;
	esk_pool *pool;
	esk_bad_chunk_fn bad;
	void *arg;
	chunk_job *jobs;
} file_walk;

static void check_job(esk_job *job, esk_scratch *scratch)
{
	chunk_job *j = (chunk_job *)job;
	j->status =
		esk_h5_check_chunk(j->dataset, j->chunk, scratch, j->decoded, &j->stored_bytes, &j->error);
}

static esk_status note_chunk(file_walk *w, const chunk_job *j, bool listed, esk_error *err)
{
	const esk_h5_info *info = esk_h5_dataset_info(j->dataset);
	uint64_t first, rows;
	w->walk->report.chunks++;
	if (j->status == ESK_EBUSY || j->status == ESK_ENOMEM) {
		if (err != NULL)
			*err = j->error;
		return j->status;
	}
	bool missed = j->status == ESK_OK && listed && j->stored_bytes == 0;
	if (j->status == ESK_OK && !missed)
		return ESK_OK;
	esk_h5_chunk_rows(info, j->chunk, &first, &rows);
	esk_walk_find(w->walk, info->path, first, rows, missed ? ESK_ECORRUPT : j->status, "chunk %llu: %s",
		(unsigned long long)j->chunk,
		missed ? "it is in the index of chunks, but cannot be found through it" : j->error.message);
	if (w->bad != NULL)
		w->bad(w->arg, j->dataset, j->chunk);
	return ESK_OK;
}

static esk_status check_listed(
	file_walk *w, esk_h5_dataset *dataset, const esk_h5_chunk_list *list, esk_error *err)
{
	for (uint64_t next = 0; next < list->count;) {
		esk_batch batch;
		size_t used = (size_t)esk_min_u64(JOBS, list->count - next);
		esk_batch_init(&batch, w->pool);
		for (size_t i = 0; i < used; i++) {
			w->jobs[i].job.run = check_job;
			w->jobs[i].dataset = dataset;
			w->jobs[i].chunk = esk_h5_chunk_at(list, next + i);
			w->jobs[i].stored_bytes = 0;
			esk_batch_submit(&batch, &w->jobs[i].job);
		}
		esk_batch_wait(&batch);
		for (size_t i = 0; i < used; i++) {
			esk_status status = note_chunk(w, &w->jobs[i], list->sparse, err);
			if (status != ESK_OK || !esk_walk_progress(w->walk, w->jobs[i].stored_bytes))
				return status;
		}
		next += used;
	}
	return ESK_OK;
}

static void note_fault(file_walk *w, esk_h5_dataset *dataset, const esk_h5_chunk_list *list)
{
	if (list->fault.code != ESK_OK)
		esk_walk_find(w->walk, esk_h5_dataset_info(dataset)->path, 0, 0, list->fault.code, "%s",
			list->fault.message);
}

static esk_status check_chunks(file_walk *w, esk_h5_dataset *dataset, esk_error *err)
{
	esk_h5_chunk_list list;
	esk_status status = esk_h5_list_chunks(dataset, &list, err);
	if (status != ESK_OK)
		return status;
	note_fault(w, dataset, &list);
	status = check_listed(w, dataset, &list, err);
	esk_h5_chunk_list_free(&list);
	return status;
}

static esk_status read_piece(file_walk *w, esk_h5_dataset *dataset, const esk_h5_rows *piece, esk_error *err)
{
	if (esk_h5_dataset_info(dataset)->column.dtype.kind != ESK_STRING)
		return esk_h5_read_rows(dataset, w->pool, piece, 1, err);
	esk_string *strings = NULL;
	esk_status status = esk_h5_read_strings(dataset, piece->row, piece->count, &strings, err);
	free(strings);
	return status;
}

#define LARGEST_CELL_BYTES (1u << 30)

static esk_status check_pieces(
	file_walk *w, esk_h5_dataset *dataset, uint64_t most, esk_h5_rows *piece, esk_error *err)
{
	esk_h5_row_walk rows;
	uint64_t cell_bytes = esk_column_cell_bytes(&esk_h5_dataset_info(dataset)->column);
	esk_status status = esk_h5_row_walk_begin(&rows, dataset, err);
	if (status != ESK_OK)
		return status;
	note_fault(w, dataset, &rows.chunks);
	while (status == ESK_OK && !w->walk->cancelled &&
		esk_h5_row_walk_next(&rows, most, &piece->row, &piece->count)) {
		status = read_piece(w, dataset, piece, err);
		esk_walk_progress(w->walk, piece->count * cell_bytes);
	}
	esk_h5_row_walk_end(&rows);
	return status;
}

/* What is not chunked, or chunked in a way that only libhdf5 decodes, is read as rows. */
static esk_status check_rows(file_walk *w, esk_h5_dataset *dataset, esk_error *err)
{
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	uint64_t cell_bytes = esk_max_u64(1, esk_column_cell_bytes(&info->column));
	uint64_t most = esk_max_u64(1, ESK_CHUNK_TARGET_BYTES / cell_bytes);
	esk_error why = {0};
	if (cell_bytes > LARGEST_CELL_BYTES) {
		esk_walk_find(w->walk, info->path, 0, 0, ESK_EUNSUPPORTED,
			"not checked: a row of it takes %llu bytes", (unsigned long long)cell_bytes);
		return ESK_OK;
	}
	esk_h5_rows piece = {.out = malloc(most * cell_bytes)};
	if (piece.out == NULL)
		return esk_fail_memory(err, most * cell_bytes, "rows");
	esk_status status = check_pieces(w, dataset, most, &piece, &why);
	free(piece.out);
	if (status == ESK_EBUSY || status == ESK_ENOMEM)
		return esk_fail(err, status, "%s", why.message);
	if (status != ESK_OK)
		esk_walk_find(
			w->walk, info->path, piece.row, info->rows - piece.row, status, "%s", why.message);
	return ESK_OK;
}

static esk_status check_dataset(void *arg, esk_h5_dataset *dataset, esk_error *err)
{
	file_walk *w = arg;
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	if (w->walk->cancelled || !info->readable)
		return ESK_OK;
	w->walk->report.datasets++;
	return info->raw_readable && info->chunked ? check_chunks(w, dataset, err)
						   : check_rows(w, dataset, err);
}

/* The columns of a stream have the same number of rows. */
static void check_streams(esk_walk *walk, esk_h5 *file)
{
	esk_segment_stream *streams;
	size_t count;
	esk_error why = {0};
	char path[2 * ESK_MAX_NAME + 16];
	esk_status status = esk_segment_read_streams(file, &streams, &count, &why);
	if (status != ESK_OK) {
		esk_walk_find(walk, NULL, 0, 0, status, "%s", why.message);
		return;
	}
	for (size_t s = 0; s < count; s++) {
		for (size_t c = 0; c < 2 * streams[s].column_count; c++) {
			const esk_column *column = &streams[s].columns[c / 2];
			esk_h5_dataset *dataset;
			if (c % 2 == 1 && !column->nullable)
				continue;
			esk_segment_column_path(streams[s].name, column->name, c % 2 == 1, path, sizeof path);
			status = esk_h5_dataset_open(file, path, &dataset, &why);
			uint64_t rows = status == ESK_OK ? esk_h5_dataset_info(dataset)->rows : 0;
			if (status != ESK_OK)
				esk_walk_find(walk, path, 0, 0, status, "%s", why.message);
			else if (rows != streams[s].rows)
				esk_walk_find(walk, path, streams[s].rows, rows - streams[s].rows,
					ESK_ECORRUPT, "%llu rows where its stream has %llu",
					(unsigned long long)rows, (unsigned long long)streams[s].rows);
		}
	}
	esk_segment_streams_free(streams, count);
}

esk_status esk_verify_file(
	esk_walk *walk, esk_pool *pool, esk_h5 *file, esk_bad_chunk_fn bad, void *arg, esk_error *err)
{
	esk_segment_head head;
	esk_error why = {0};
	file_walk w = {.walk = walk, .pool = pool, .bad = bad, .arg = arg};
	walk->report.files++;
	w.jobs = calloc(JOBS, sizeof *w.jobs);
	if (w.jobs == NULL)
		return esk_fail_memory(err, JOBS * sizeof *w.jobs, "jobs");
	esk_status status = esk_segment_read_head(file, &head, &why);
	if (status == ESK_OK)
		check_streams(walk, file);
	else if (status != ESK_ENOTFOUND)
		esk_walk_find(walk, NULL, 0, 0, status, "%s", why.message);
	status = esk_h5_visit(file, check_dataset, &w, &why);
	free(w.jobs);
	if (status == ESK_EBUSY || status == ESK_ENOMEM) {
		if (err != NULL)
			*err = why;
		return status;
	}
	if (status != ESK_OK)
		esk_walk_find(walk, NULL, 0, 0, status, "%s", why.message);
	return ESK_OK;
}

/* ---- the store ---- */

/* Rows of a file that the catalogue has no extent for. */
static void check_unknown(
	esk_walk *walk, const esk_index_file *file, const esk_extent_record *extents, size_t count)
{
	for (size_t s = 0; s < file->stream_count; s++) {
		const esk_segment_stream *stream = &file->streams[s];
		bool known = false;
		for (size_t e = 0; e < count && !known; e++)
			known = extents[e].segment == file->head.number &&
				extents[e].stream == stream->stream;
		walk->file = file->name;
		if (!known)
			esk_walk_find(walk, stream->name, stream->first_row, stream->rows, ESK_ENOTFOUND,
				"the catalogue does not know these rows: run `esker reindex`");
	}
}

static bool is_key_lacking(const esk_index_file *files, size_t count)
{
	for (size_t f = 0; f < count; f++)
		if (files[f].status == ESK_EACCES)
			return true;
	return false;
}

/* Rows that the catalogue has and no file that could be read. */
static void find_missing(esk_walk *walk, const char *store_path, const esk_extent_record *extent,
	const esk_segment_record *segments, size_t count)
{
	char path[ESK_PATH_BYTES];
	const char *there = NULL;
	for (size_t s = 0; s < count && there == NULL; s++)
		if (segments[s].number == extent->segment &&
			esk_store_file_path(store_path, segments[s].file, path) && esk_os_exists(path))
			there = segments[s].file;
	walk->file = there != NULL ? there : "";
	esk_walk_find(walk, extent->stream_name, extent->first_row, extent->rows,
		there != NULL ? ESK_ECORRUPT : ESK_ENOTFOUND,
		there != NULL ? "segment %llu is in the catalogue, but its file does not tell of these rows"
			      : "segment %llu is in the catalogue, but there is no file that has it",
		(unsigned long long)extent->segment);
}

/* The stream of a file that the extent is about, or NULL. */
static const esk_segment_stream *find_stream(
	const esk_index_file *files, size_t count, const esk_extent_record *extent, const char **ret_file)
{
	for (size_t f = 0; f < count; f++)
		for (size_t s = 0; s < files[f].stream_count; s++)
			if (files[f].head.number == extent->segment &&
				files[f].streams[s].stream == extent->stream) {
				*ret_file = files[f].name;
				return &files[f].streams[s];
			}
	return NULL;
}

/* A run that is being recorded has moved on meanwhile: its catalogue may only be behind. */
static void compare_extent(esk_walk *walk, const esk_extent_record *extent, const esk_segment_stream *stream,
	const char *file, bool recording)
{
	bool behind = recording && extent->rows <= stream->rows;
	if (stream->first_row == extent->first_row && (stream->rows == extent->rows || behind))
		return;
	walk->file = file;
	esk_walk_find(walk, stream->name, extent->first_row, extent->rows, ESK_ECORRUPT,
		"the catalogue has rows %llu+%llu, the file %llu+%llu: run `esker reindex`",
		(unsigned long long)extent->first_row, (unsigned long long)extent->rows,
		(unsigned long long)stream->first_row, (unsigned long long)stream->rows);
}

/* What the catalogue says of the run against what its files say. */
static esk_status check_catalogue(esk_walk *walk, esk_store *store, const esk_run_record *run,
	const esk_index_file *files, size_t count, esk_error *err)
{
	esk_catalog *catalog;
	esk_extent_record *extents = NULL;
	esk_segment_record *segments = NULL;
	size_t extent_count = 0, segment_count = 0;
	bool recording = run->state == ESK_RUN_RECORDING;
	esk_status status = esk_store_catalog(store, &catalog, err);
	if (status == ESK_OK)
		status = esk_catalog_get_extents(catalog, run->id, &extents, &extent_count, err);
	if (status == ESK_OK)
		status = esk_catalog_get_segments(catalog, run->id, &segments, &segment_count, err);
	for (size_t e = 0; e < extent_count && status == ESK_OK; e++) {
		const char *file;
		const esk_segment_stream *stream = find_stream(files, count, &extents[e], &file);
		if (stream != NULL)
			compare_extent(walk, &extents[e], stream, file, recording);
		else if (!is_key_lacking(files, count)) /* else that is what is found, file by file */
			find_missing(walk, esk_store_path(store), &extents[e], segments, segment_count);
	}
	for (size_t f = 0; f < count && status == ESK_OK && !recording; f++)
		check_unknown(walk, &files[f], extents, extent_count);
	free(segments);
	free(extents);
	return status;
}

typedef struct store_walk {
	esk_walk walk;
	esk_store *store;
	esk_pool *pool;
	esk_h5_trial *trial;
	char (*runs)[ESK_MAX_NAME + 1];
	size_t run_count;
} store_walk;

static esk_status collect_run(void *arg, const esk_run_record *record, esk_error *err)
{
	store_walk *w = arg;
	if (w->walk.options->run != NULL && strcmp(w->walk.options->run, record->name) != 0)
		return ESK_OK;
	void *grown = realloc(w->runs, (w->run_count + 1) * sizeof *w->runs);
	if (grown == NULL)
		return esk_fail_memory(err, sizeof *w->runs, "runs");
	w->runs = grown;
	memcpy(w->runs[w->run_count++], record->name, sizeof record->name);
	return ESK_OK;
}

#define STALE_TRIES 50

/* A file that is being recorded moves under the walk: then the walk of this file begins again. */
static esk_status verify_path(store_walk *w, const char *path, esk_error *err)
{
	esk_status status = ESK_EBUSY;
	for (int i = 0; i < STALE_TRIES && status == ESK_EBUSY && !w->walk.cancelled; i++) {
		esk_check_report before = w->walk.report;
		esk_h5 *file;
		esk_error why = {0};
		status = esk_h5_open_read(esk_store_os(w->store), path, &file, &why);
		if (status == ESK_EBUSY)
			continue;
		if (status != ESK_OK) {
			w->walk.report.files++;
			esk_walk_find(&w->walk, NULL, 0, 0, status, "%s", why.message);
			return ESK_OK;
		}
		status = esk_verify_file(&w->walk, w->pool, file, NULL, NULL, err);
		esk_h5_close(file, NULL);
		if (status == ESK_EBUSY)
			w->walk.report = before;
	}
	return status;
}

esk_status esk_visit_unread(esk_store *store, const char *run, const esk_index_file *files, size_t count,
	esk_status (*visit)(void *arg, const char *name, esk_error *err), void *arg, esk_error *err)
{
	esk_catalog *catalog;
	esk_run_record record = {0};
	esk_segment_record *segments = NULL;
	size_t segment_count = 0;
	char path[ESK_PATH_BYTES];
	esk_status status = esk_store_catalog(store, &catalog, err);
	if (status == ESK_OK)
		status = esk_catalog_get_run(catalog, run, &record, err);
	if (status == ESK_ENOTFOUND)
		return ESK_OK;
	if (status == ESK_OK)
		status = esk_catalog_get_segments(catalog, record.id, &segments, &segment_count, err);
	for (size_t s = 0; s < segment_count && status == ESK_OK; s++) {
		bool known = false;
		for (size_t f = 0; f < count && !known; f++)
			known = strcmp(files[f].name, segments[s].file) == 0;
		if (!known && esk_store_file_path(esk_store_path(store), segments[s].file, path) &&
			esk_os_exists(path))
			status = visit(arg, segments[s].file, err);
	}
	free(segments);
	esk_run_record_clear(&record);
	return status;
}

static void find_untouchable(esk_walk *walk, const esk_error *why)
{
	walk->report.files++;
	esk_walk_find(walk, NULL, 0, 0, why->code, "%s", why->message);
}

static esk_status verify_unread(void *arg, const char *name, esk_error *err)
{
	store_walk *w = arg;
	char path[ESK_PATH_BYTES];
	esk_error why = {0};
	w->walk.file = name;
	if (!esk_store_file_path(esk_store_path(w->store), name, path))
		return ESK_OK;
	if (esk_h5_trial_verdict(w->trial, path, &why) == ESK_OK)
		return verify_path(w, path, err);
	find_untouchable(&w->walk, &why);
	return ESK_OK;
}

static esk_status verify_files(
	store_walk *w, const char *run, const esk_index_file *files, size_t count, esk_error *err)
{
	esk_status status = ESK_OK;
	for (size_t f = 0; f < count && status == ESK_OK && !w->walk.cancelled; f++) {
		char path[ESK_PATH_BYTES];
		w->walk.file = files[f].name;
		if (files[f].untouchable)
			find_untouchable(&w->walk, &files[f].error);
		else if (esk_store_file_path(esk_store_path(w->store), files[f].name, path))
			status = verify_path(w, path, err);
	}
	if (status == ESK_OK && !w->walk.cancelled)
		status = esk_visit_unread(w->store, run, files, count, verify_unread, w, err);
	return status;
}

static esk_status verify_run(store_walk *w, const char *name, esk_error *err)
{
	esk_catalog *catalog;
	esk_run_record run = {0};
	esk_index_file *files;
	size_t count;
	w->walk.run = name;
	w->walk.report.runs++;
	esk_status status = esk_store_catalog(w->store, &catalog, err);
	if (status == ESK_OK)
		status = esk_catalog_get_run(catalog, name, &run, err);
	if (status != ESK_OK)
		return status;
	status = esk_index_scan(
		esk_store_os(w->store), esk_store_path(w->store), name, w->trial, &files, &count, err);
	if (status == ESK_OK) {
		status = check_catalogue(&w->walk, w->store, &run, files, count, err);
		if (status == ESK_OK)
			status = verify_files(w, name, files, count, err);
		esk_index_free(files, count);
	}
	esk_run_record_clear(&run);
	return status;
}

static uint64_t total_bytes(esk_store *store, const char *run)
{
	esk_query *query;
	bool row = false;
	uint64_t bytes = 0;
	char database[ESK_PATH_BYTES];
	esk_store_catalog_path(esk_store_path(store), database);
	const char *sql =
		"SELECT total(s.bytes) FROM segments s JOIN runs r ON r.id = s.run_id WHERE pruned = 0 "
		"AND (?1 IS NULL OR r.name = ?1)";
	if (esk_catalog_query(database, sql, &query, NULL) != ESK_OK)
		return 0;
	if (run != NULL) {
		esk_value value = {.kind = ESK_TEXT, .data = run, .size = strlen(run)};
		esk_query_bind(query, 1, &value, NULL);
	}
	if (esk_query_step(query, &row, NULL) == ESK_OK && row)
		bytes = (uint64_t)esk_query_value(query, 0).real;
	esk_query_close(query);
	return bytes;
}

esk_status esk_store_verify(
	esk_store *store, const esk_check_options *options, esk_check_report *ret_report, esk_error *err)
{
	esk_check_options defaults = esk_check_defaults(options);
	store_walk w = {.walk = {.options = &defaults}, .store = store};
	esk_catalog *catalog;
	esk_status status = esk_store_catalog(store, &catalog, err);
	if (status == ESK_OK)
		status = esk_pool_create(defaults.threads, JOBS, &w.pool, err);
	if (status != ESK_OK)
		return status;
	w.walk.total_bytes = total_bytes(store, defaults.run);
	status = esk_catalog_visit_runs(catalog, collect_run, &w, err);
	if (status == ESK_OK && defaults.run != NULL && w.run_count == 0)
		status = esk_fail(err, ESK_ENOTFOUND, "the store has no run \"%s\"", defaults.run);
	if (status == ESK_OK)
		status = esk_check_try(esk_store_path(store), &defaults, &w.trial, err);
	for (size_t i = 0; i < w.run_count && status == ESK_OK && !w.walk.cancelled; i++)
		status = verify_run(&w, w.runs[i], err);
	if (status == ESK_OK && w.walk.cancelled)
		status = esk_fail(err, ESK_ECLOSED, "cancelled");
	if (status == ESK_OK)
		*ret_report = w.walk.report;
	free(w.runs);
	esk_h5_trial_end(w.trial);
	esk_pool_destroy(w.pool);
	return status;
}
