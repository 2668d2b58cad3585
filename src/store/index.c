/* Files -> catalogue: after a crash, for files that others put there, and for reindex. The files are the
 * truth. */
#include "store/internal.h"

#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

esk_status esk_metadata_check(const char *json, esk_error *err)
{
	json_error_t why;
	if (json == NULL)
		return esk_fail(err, ESK_EINVAL, "metadata is NULL: expected a JSON object");
	json_t *value = json_loads(json, 0, &why);
	if (value == NULL)
		return esk_fail(
			err, ESK_EINVAL, "metadata, line %d column %d: %s", why.line, why.column, why.text);
	bool object = json_is_object(value);
	json_decref(value);
	return object ? ESK_OK : esk_fail(err, ESK_EINVAL, "metadata is no JSON object: \"%.60s\"", json);
}

/* ---- putting ---- */

static esk_status put_file(
	esk_catalog *catalog, int64_t id, const esk_index_file *file, bool last, esk_error *err)
{
	bool sealed = !last || file->name[strlen(file->name) - 1] == 'x';
	esk_segment_record segment = {.number = file->head.number,
		.sealed = sealed,
		.created_ns = file->head.created_ns,
		.sealed_ns = sealed ? file->head.commit_ns : 0,
		.bytes = file->bytes};
	snprintf(segment.file, sizeof segment.file, "%s", file->name);
	esk_status status = esk_catalog_put_segment(catalog, id, &segment, err);
	for (size_t i = 0; i < file->stream_count && status == ESK_OK; i++) {
		const esk_segment_stream *s = &file->streams[i];
		status = esk_catalog_put_stream(
			catalog, id, s->stream, s->name, s->columns, s->column_count, err);
		if (status == ESK_OK)
			status = esk_catalog_put_extent(
				catalog, id, s->stream, file->head.number, s->first_row, s->rows, err);
	}
	if (status == ESK_OK)
		status = esk_store_put_gaps(catalog, id, file->gaps, file->gap_count, err);
	return status;
}

/* What the newest file says of an indexed stream, and where its rows end in the run. */
typedef struct indexed_stream {
	const esk_segment_stream *stream;
	esk_index_spec spec;
	uint64_t rows;
} indexed_stream;

/* The indexed streams of the run, each once; those whose index is none in this catalogue are told to the log
 * and left out. *ret_streams is to free with free_indexed. */
static esk_status find_indexed(const esk_index_target *target, const esk_index_file *files, size_t count,
	indexed_stream **ret_streams, size_t *ret_count, esk_error *err)
{
	indexed_stream *streams = NULL;
	size_t used = 0;
	const esk_index_file *last = &files[count - 1];
	if (last->stream_count > 0 && (streams = calloc(last->stream_count, sizeof *streams)) == NULL)
		return esk_fail_memory(err, last->stream_count * sizeof *streams, "streams");
	for (size_t i = 0; i < last->stream_count; i++) {
		const esk_segment_stream *stream = &last->streams[i];
		indexed_stream *added = &streams[used];
		esk_error why = {0};
		if (stream->index == NULL)
			continue;
		esk_status status = esk_index_spec_parse(
			stream->index, stream->columns, stream->column_count, &added->spec, &why);
		if (status == ESK_OK &&
			(status = esk_catalog_index_check(target->catalog, &added->spec, &why)) != ESK_OK)
			esk_index_spec_free(&added->spec);
		if (status != ESK_OK) {
			esk_log(target->logger, ESK_LOG_WARNING,
				"%s, stream \"%s\": its rows are not indexed: %s", last->name, stream->name,
				why.message);
			continue;
		}
		added->stream = stream;
		added->rows = stream->first_row + stream->rows;
		used++;
	}
	*ret_streams = streams;
	*ret_count = used;
	return ESK_OK;
}

static void free_indexed(indexed_stream *streams, size_t count)
{
	for (size_t i = 0; i < count; i++)
		esk_index_spec_free(&streams[i].spec);
	free(streams);
}

/* Makes room for what the files say: rows in tables stay where the run is the one that the catalogue has. */
static esk_status clear_old(esk_catalog *catalog, const esk_run_record *record, bool rebuild, esk_error *err)
{
	esk_run_record known = {0};
	esk_status status = esk_catalog_get_run(catalog, record->name, &known, err);
	if (status == ESK_ENOTFOUND)
		return ESK_OK;
	if (status == ESK_OK)
		status = rebuild || known.created_ns != record->created_ns
				 ? esk_catalog_delete_run(catalog, record->name, err)
				 : esk_catalog_clear_run(catalog, known.id, err);
	esk_run_record_clear(&known);
	return status;
}

/* Number behind that of the run's last item. */
static uint64_t item_count(const esk_index_file *files, size_t count)
{
	uint64_t items = 0;
	for (size_t f = 0; f < count; f++)
		items = esk_max_u64(items, files[f].first_item + files[f].item_count);
	return items;
}

static esk_status settle_items(esk_catalog *catalog, int64_t run_id, const esk_index_file *files,
	size_t count, bool *ret_behind, esk_error *err)
{
	uint64_t items = item_count(files, count), known;
	esk_status status = esk_catalog_item_count(catalog, run_id, &known, err);
	if (status == ESK_OK && known > items)
		status = esk_catalog_cut_items(catalog, run_id, items, err);
	*ret_behind = *ret_behind || (status == ESK_OK && known < items);
	return status;
}

/* The run, its files, and the end of its tables, in one transaction. *ret_behind: tables lack rows. */
static esk_status put_run(esk_catalog *catalog, esk_run_record *record, const esk_index_file *files,
	size_t count, const indexed_stream *streams, size_t stream_count, bool rebuild, bool *ret_behind,
	esk_error *err)
{
	esk_run_state state = record->state;
	esk_status status = esk_catalog_begin(catalog, err);
	if (status != ESK_OK)
		return status;
	status = clear_old(catalog, record, rebuild, err);
	if (status == ESK_OK)
		status = esk_catalog_put_run(catalog, record, err);
	for (size_t f = 0; f < count && status == ESK_OK; f++)
		status = put_file(catalog, record->id, &files[f], f + 1 == count, err);
	for (size_t i = 0; i < stream_count && status == ESK_OK; i++) {
		uint64_t rows;
		status = esk_catalog_index_rows(catalog, &streams[i].spec, record->id, &rows, err);
		if (status == ESK_OK && rows > streams[i].rows)
			status = esk_catalog_index_cut(
				catalog, &streams[i].spec, record->id, streams[i].rows, err);
		*ret_behind = *ret_behind || (status == ESK_OK && rows < streams[i].rows);
	}
	if (status == ESK_OK)
		status = settle_items(catalog, record->id, files, count, ret_behind, err);
	if (status == ESK_OK && *ret_behind) {
		record->state = ESK_RUN_RECORDING;
		status = esk_catalog_put_run(catalog, record, err);
		record->state = state;
	}
	if (status == ESK_OK)
		status = esk_catalog_commit(catalog, err);
	if (status != ESK_OK)
		esk_catalog_rollback(catalog);
	return status;
}

static void describe_run(const esk_index_file *files, size_t count, esk_run_record *record)
{
	const esk_index_file *first = &files[0], *last = &files[count - 1];
	*record = (esk_run_record){.state = last->foreign ? ESK_RUN_FOREIGN : ESK_RUN_FINISHED,
		.created_ns = first->head.created_ns,
		.updated_ns = last->head.commit_ns,
		.commit = last->head.commit,
		.sequence = last->head.sequence,
		.ring_id = last->head.ring_id,
		.metadata = last->metadata};
	snprintf(record->name, sizeof record->name, "%s", first->head.run);
	for (size_t s = 0; s < last->stream_count; s++) /* those of segments that were pruned too */
		record->rows += last->streams[s].first_row + last->streams[s].rows;
}

/* A run whose first segments were pruned is as old as the catalogue has it. */
static esk_status keep_age(
	esk_catalog *catalog, const esk_index_file *first, esk_run_record *record, esk_error *err)
{
	esk_run_record known = {0};
	if (first->head.number == 0)
		return ESK_OK;
	esk_status status = esk_catalog_get_run(catalog, record->name, &known, err);
	if (status == ESK_OK && known.created_ns < record->created_ns)
		record->created_ns = known.created_ns;
	esk_run_record_clear(&known);
	return status == ESK_ENOTFOUND ? ESK_OK : status;
}

/* A file whose head could not be read stands last, and is taken for nobody's, which it is where it is the
 * only one; beside others of its run nothing is known of it, not even its number. */
static size_t known_count(const esk_index_file *files, size_t count)
{
	while (count > 1 && files[count - 1].foreign && files[count - 1].status != ESK_OK)
		count--;
	return count;
}

esk_status esk_index_put(const esk_index_target *target, const esk_index_file *files, size_t all_count,
	bool rebuild, esk_error *err)
{
	esk_run_record record;
	indexed_stream *streams = NULL;
	size_t stream_count = 0, count = known_count(files, all_count);
	bool behind = false;
	char empty[] = "{}";
	describe_run(files, count, &record);
	if (record.metadata == NULL)
		record.metadata = empty;
	esk_status status = keep_age(target->catalog, &files[0], &record, err);
	if (status == ESK_OK)
		status = find_indexed(target, files, count, &streams, &stream_count, err);
	if (status == ESK_OK)
		status = put_run(
			target->catalog, &record, files, count, streams, stream_count, rebuild, &behind, err);
	for (size_t i = 0; i < stream_count && status == ESK_OK && behind; i++) {
		const esk_segment_stream *s = streams[i].stream;
		status = esk_index_fill(target, record.id, s->stream, s->name, s->columns, &streams[i].spec,
			streams[i].rows, err);
	}
	if (status == ESK_OK && behind)
		status = esk_index_fill_items(target, record.id, item_count(files, count), err);
	if (status == ESK_OK && behind)
		status = esk_catalog_finish_run(target->catalog, record.id, record.state, err);
	free_indexed(streams, stream_count);
	return status;
}

/* ---- what a repair leaves ---- */

bool esk_store_spool_path(
	const char *store_path, const char *run, const char *suffix, char ret_path[ESK_PATH_BYTES])
{
	return snprintf(ret_path, ESK_PATH_BYTES, "%s/spool/%s%s", store_path, run, suffix) < ESK_PATH_BYTES;
}

static const char *const leftovers[] = {
	ESK_SPOOL_REPAIR, ESK_SPOOL_REPAIR "-journal", ESK_SPOOL_REPAIR_SEALING, ESK_SPOOL_DAMAGED};

esk_status esk_store_clean_spool(const esk_os *os, const char *store_path, const char *run, esk_error *err)
{
	char path[ESK_PATH_BYTES];
	esk_status status = ESK_OK;
	for (size_t i = 0; i < sizeof leftovers / sizeof *leftovers && status == ESK_OK; i++)
		if (esk_store_spool_path(store_path, run, leftovers[i], path) && esk_os_exists(path))
			status = esk_os_unlink(os, path, err);
	return status;
}

/* False while somebody records or repairs the run. */
static bool clean_up(esk_store *store, const char *run)
{
	const esk_os *os = store->environment.os;
	char path[ESK_PATH_BYTES];
	esk_run_hold hold;
	esk_error why = {0};
	bool any = false;
	for (size_t i = 0; i < sizeof leftovers / sizeof *leftovers; i++)
		any = any ||
		      (esk_store_spool_path(store->path, run, leftovers[i], path) && esk_os_exists(path));
	if (!any)
		return true;
	esk_status status = esk_run_hold_take(os, store->path, run, &hold, &why);
	if (status == ESK_OK) {
		status = esk_store_clean_spool(os, store->path, run, &why);
		esk_run_hold_drop(&hold);
	}
	if (status != ESK_OK && status != ESK_EBUSY)
		esk_log(&store->logger, ESK_LOG_WARNING, "what a repair of run \"%s\" left stays: %s", run,
			why.message);
	return status != ESK_EBUSY;
}

/* ---- reconciling an opened store ---- */

typedef struct known_runs {
	esk_store *store;
	char (*suspects)[ESK_MAX_NAME + 1]; /* runs that may need recovery */
	size_t suspect_count;
	char (*files)[ESK_FILE_NAME_BYTES]; /* files that the catalogue knows */
	size_t file_count;
	esk_h5_trial *trial; /* of the other files */
} known_runs;

static esk_status add_suspect(known_runs *k, const char *run, size_t size, esk_error *err)
{
	for (size_t i = 0; i < k->suspect_count; i++)
		if (strlen(k->suspects[i]) == size && strncmp(k->suspects[i], run, size) == 0)
			return ESK_OK;
	void *grown = realloc(k->suspects, (k->suspect_count + 1) * sizeof *k->suspects);
	if (grown == NULL || size > ESK_MAX_NAME) {
		k->suspects = grown != NULL ? grown : k->suspects;
		return grown == NULL ? esk_fail_memory(err, size, "runs") : ESK_OK;
	}
	k->suspects = grown;
	snprintf(k->suspects[k->suspect_count++], ESK_MAX_NAME + 1, "%.*s", (int)size, run);
	return ESK_OK;
}

static esk_status visit_known(void *arg, const esk_run_record *record, esk_error *err)
{
	known_runs *k = arg;
	return record->state == ESK_RUN_RECORDING ? add_suspect(k, record->name, strlen(record->name), err)
						  : ESK_OK;
}

static esk_status collect_files(known_runs *k, esk_error *err)
{
	esk_query *query;
	char database[ESK_PATH_BYTES];
	bool row = false;
	esk_store_catalog_path(k->store->path, database);
	esk_status status = esk_catalog_query(database, "SELECT file FROM segments", &query, err);
	if (status != ESK_OK)
		return status;
	size_t capacity = 0;
	while ((status = esk_query_step(query, &row, err)) == ESK_OK && row) {
		if (k->file_count == capacity) {
			capacity = capacity == 0 ? 64 : 2 * capacity;
			void *grown = realloc(k->files, capacity * sizeof *k->files);
			if (grown == NULL) {
				status = esk_fail_memory(err, capacity * sizeof *k->files, "files");
				break;
			}
			k->files = grown;
		}
		snprintf(
			k->files[k->file_count++], ESK_FILE_NAME_BYTES, "%s", esk_query_value(query, 0).data);
	}
	esk_query_close(query);
	if (k->file_count > 0)
		qsort(k->files, k->file_count, sizeof *k->files, (int (*)(const void *, const void *))strcmp);
	return status;
}

/* Adds runs by what lies in `directory`: names that end in `suffix`. */
static esk_status collect_suspects(known_runs *k, const char *directory, const char *suffix, esk_error *err)
{
	DIR *dir = opendir(directory);
	if (dir == NULL)
		return ESK_OK;
	esk_status status = ESK_OK;
	size_t tail = strlen(suffix);
	for (struct dirent *entry; status == ESK_OK && (entry = readdir(dir)) != NULL;) {
		size_t size = strlen(entry->d_name);
		if (size > tail && entry->d_name[0] != '.' &&
			strcmp(entry->d_name + size - tail, suffix) == 0)
			status = add_suspect(k, entry->d_name, size - tail, err);
	}
	closedir(dir);
	return status;
}

/* The run of a file that the catalogue does not know: a segment has it in its head, where it can be read. */
static esk_status add_run_of(known_runs *k, const char *name, esk_error *err)
{
	const esk_store *store = k->store;
	char path[ESK_PATH_BYTES];
	esk_segment_head head;
	esk_h5 *h5;
	bool ours = false;
	if (esk_store_file_path(store->path, name, path) &&
		esk_h5_trial_verdict(k->trial, path, NULL) == ESK_OK &&
		esk_h5_open_read(store->environment.os, path, &h5, NULL) == ESK_OK) {
		ours = esk_segment_read_head(h5, &head, NULL) == ESK_OK;
		esk_h5_close(h5, NULL);
	}
	if (!ours)
		esk_run_of_name(name, head.run);
	return add_suspect(k, head.run, strlen(head.run), err);
}

/* Adds the runs of files that the catalogue does not know. Nobody knows where these come from, either: they
 * are tried out first. */
static esk_status collect_unknown(known_runs *k, esk_error *err)
{
	char(*names)[ESK_FILE_NAME_BYTES];
	size_t count, unknown = 0;
	esk_status status = esk_index_names(k->store->path, NULL, &names, &count, err);
	if (status != ESK_OK)
		return status;
	for (size_t i = 0; i < count; i++)
		if (k->file_count == 0 || bsearch(names[i], k->files, k->file_count, sizeof *k->files,
						  (int (*)(const void *, const void *))strcmp) == NULL)
			memmove(names[unknown++], names[i], sizeof *names);
	status = esk_index_try_names(k->store->path, names, unknown, &k->trial, err);
	if (status == ESK_OK)
		esk_h5_trial_leave_others(k->trial);
	for (size_t i = 0; i < unknown && status == ESK_OK; i++)
		status = add_run_of(k, names[i], err);
	free(names);
	return status;
}

static bool has_esker_file(const esk_index_file *files, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!files[i].foreign || files[i].status != ESK_OK)
			return true;
	return false;
}

/* A file that nobody knows, and that libhdf5 does not survive: no recorder of this store left it. */
static bool has_untouchable(const esk_index_file *files, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (files[i].untouchable)
			return true;
	return false;
}

/* What may be gone the next time: a failing disk, no memory, a permission. Nothing follows from it. */
static bool is_passing(esk_status status)
{
	return status == ESK_EIO || status == ESK_ENOSPC || status == ESK_ENOMEM || status == ESK_EACCES ||
	       status == ESK_EBUSY;
}

static esk_status put_or_delete(const esk_index_target *target, const char *run, const esk_index_file *files,
	size_t count, bool rebuild, esk_error *err)
{
	if (count > 0)
		return esk_index_put(target, files, count, rebuild, err);
	esk_status status = esk_catalog_delete_run(target->catalog, run, err);
	return status == ESK_ENOTFOUND ? ESK_OK : status;
}

esk_status esk_index_run(const esk_index_target *target, const char *run, bool *ret_told, esk_error *err)
{
	esk_index_file *files;
	size_t count;
	char mark[ESK_PATH_BYTES];
	bool told = true;
	bool repaired =
		esk_store_spool_path(target->directory, run, ESK_SPOOL_REPAIRED, mark) && esk_os_exists(mark);
	esk_status status =
		esk_index_scan(target->os, target->directory, run, target->trial, &files, &count, err);
	if (status != ESK_OK)
		return status;
	for (size_t i = 0; i < count; i++) {
		if (files[i].status != ESK_OK)
			esk_log(target->logger, ESK_LOG_ERROR, "%s cannot be read: %s", files[i].name,
				files[i].error.message);
		told = told && !is_passing(files[i].status);
	}
	if (told)
		status = put_or_delete(target, run, files, count, repaired, err);
	esk_index_free(files, count);
	if (told && status == ESK_OK && repaired)
		status = esk_os_unlink(target->os, mark, err);
	if (status == ESK_OK)
		*ret_told = told;
	return status;
}

/* Damage in one run's files must not keep the others from being opened. */
static esk_status put_settled(esk_store *store, const char *run, esk_h5_trial *trial, esk_error *err)
{
	esk_index_target target = {.os = store->environment.os,
		.pool = store->pool,
		.logger = &store->logger,
		.directory = store->path,
		.catalog = store->catalog,
		.trial = trial};
	esk_error why = {0};
	bool told;
	esk_status status = esk_index_run(&target, run, &told, &why);
	if (status == ESK_ECORRUPT || status == ESK_ENOTFOUND || status == ESK_EUNSUPPORTED) {
		esk_log(&store->logger, ESK_LOG_ERROR,
			"run \"%s\": not all of its rows are indexed: %s; `esker verify` shows what is wrong",
			run, why.message);
		return ESK_OK;
	}
	if (status != ESK_OK && err != NULL)
		*err = why;
	return status;
}

/* Recovers a run if its files are Esker's and nobody records it: then *ret_free is true, whatever came of
 * it. */
static esk_status recover(
	esk_store *store, const char *run, esk_h5_trial *trial, bool *ret_free, esk_error *err)
{
	esk_recorder_options options = {.os = store->environment.os,
		.logger = store->logger,
		.pool = store->pool,
		.directory = store->path,
		.name = run,
		.store_id = store->id,
		.run = ESK_RUN_OPTIONS_INIT};
	esk_index_file *files;
	size_t count;
	esk_error why = {0};
	bool recovered = false;
	esk_status status =
		esk_index_scan(store->environment.os, store->path, run, trial, &files, &count, err);
	if (status != ESK_OK)
		return status;
	if (!has_untouchable(files, count) && (has_esker_file(files, count) || count == 0))
		status = esk_recorder_recover(&options, &recovered, &why);
	esk_index_free(files, count);
	*ret_free = status != ESK_EBUSY; /* else it is being recorded */
	if (status != ESK_OK && status != ESK_EBUSY)
		esk_log(&store->logger, ESK_LOG_ERROR, "run \"%s\" could not be recovered: %s", run,
			why.message);
	else if (recovered)
		esk_log(&store->logger, ESK_LOG_INFO, "run \"%s\" was recovered", run);
	return ESK_OK;
}

static esk_status put_held(esk_store *store, const char *run, esk_h5_trial *trial, esk_error *err)
{
	esk_run_hold hold;
	esk_status status = esk_run_hold_take(store->environment.os, store->path, run, &hold, err);
	if (status == ESK_EBUSY) /* somebody was quicker, and tells the catalogue */
		return ESK_OK;
	if (status != ESK_OK)
		return status;
	status = put_settled(store, run, trial, err);
	esk_run_hold_drop(&hold);
	return status;
}

/* Recovers one run if nobody records it, and puts what its files say. */
static esk_status settle_run(esk_store *store, const char *run, esk_h5_trial *trial, esk_error *err)
{
	char live[ESK_PATH_BYTES], name[ESK_FILE_NAME_BYTES];
	esk_error why = {0};
	bool is_free = false;
	snprintf(name, sizeof name, "%s.h5", run);
	if (esk_name_check(run, "run", &why) != ESK_OK || !esk_store_file_path(store->path, name, live)) {
		esk_log(&store->logger, ESK_LOG_WARNING, "%s/%s is not catalogued: %s", store->path, name,
			why.message);
		return ESK_OK;
	}
	if (!clean_up(store, run))
		return ESK_OK;
	esk_status status = recover(store, run, trial, &is_free, err);
	return status == ESK_OK && is_free ? put_held(store, run, trial, err) : status;
}

esk_status esk_store_reconcile(esk_store *store, esk_error *err)
{
	known_runs k = {.store = store};
	char spool[ESK_PATH_BYTES];
	esk_store_finish_pruning(store);
	esk_status status = esk_catalog_visit_runs(store->catalog, visit_known, &k, err);
	if (status == ESK_OK)
		status = collect_files(&k, err);
	static const char *const in_spool[] = {".ring", ESK_SPOOL_REPAIRED, ESK_SPOOL_REPAIR,
		ESK_SPOOL_REPAIR "-journal", ESK_SPOOL_REPAIR_SEALING, ESK_SPOOL_DAMAGED};
	bool fits = esk_store_file_path(store->path, "spool", spool);
	for (size_t i = 0; fits && status == ESK_OK && i < sizeof in_spool / sizeof *in_spool; i++)
		status = collect_suspects(&k, spool, in_spool[i], err);
	if (status == ESK_OK)
		status = collect_suspects(&k, store->path, ".h5-journal", err);
	if (status == ESK_OK)
		status = collect_unknown(&k, err);
	for (size_t i = 0; i < k.suspect_count && status == ESK_OK; i++)
		status = settle_run(store, k.suspects[i], k.trial, err);
	esk_h5_trial_end(k.trial);
	free(k.suspects);
	free(k.files);
	return status;
}
