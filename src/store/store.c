/* Opening and closing stores and runs; what a commit tells the catalogue. */
#include "store/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STORE_FORMAT "1"
#define POOL_QUEUE_JOBS 64

void esk_store_catalog_path(const char *store_path, char ret_path[ESK_PATH_BYTES])
{
	snprintf(ret_path, ESK_PATH_BYTES, "%s/esker.db", store_path);
}

bool esk_store_file_path(const char *store_path, const char *file, char ret_path[ESK_PATH_BYTES])
{
	return snprintf(ret_path, ESK_PATH_BYTES, "%s/%s", store_path, file) < ESK_PATH_BYTES;
}

/* ---- creating ---- */

/* Removes what an earlier attempt left: nobody has it open. */
static esk_status remove_unfinished(const esk_os *os, const char *database, esk_error *err)
{
	static const char *const endings[] = {"", "-wal", "-shm", "-journal"};
	esk_status status = ESK_OK;
	for (size_t i = 0; i < sizeof endings / sizeof *endings && status == ESK_OK; i++) {
		char name[ESK_PATH_BYTES + 16];
		snprintf(name, sizeof name, "%s%s", database, endings[i]);
		if (esk_os_exists(name))
			status = esk_os_unlink(os, name, err);
	}
	return status;
}

static esk_status fill_catalog(const esk_store_environment *environment, const char *database, esk_error *err)
{
	esk_catalog *catalog;
	char id[32];
	esk_status status =
		esk_catalog_open(database, ESK_CATALOG_CREATE, environment->sqlite_vfs, &catalog, err);
	if (status != ESK_OK)
		return status;
	snprintf(id, sizeof id, "%" PRIu64, esk_random_u64());
	status = esk_catalog_set_fact(catalog, "store_id", id, err);
	if (status == ESK_OK)
		status = esk_catalog_set_fact(catalog, "format", STORE_FORMAT, err);
	esk_catalog_close(catalog);
	return status;
}

esk_status esk_store_check_made(const char *making, esk_error *err)
{
	char log[ESK_PATH_BYTES + 8];
	snprintf(log, sizeof log, "%s-wal", making);
	if (esk_os_exists(log))
		return esk_fail(
			err, ESK_EIO, "the new catalogue %s could not be completed: try again", making);
	return ESK_OK;
}

/* The catalogue is complete before it has its name: a directory with esker.db in it is a store. */
esk_status esk_store_create_in(const esk_store_environment *environment, const char *path, esk_error *err)
{
	char database[ESK_PATH_BYTES], making[ESK_PATH_BYTES], spool[ESK_PATH_BYTES];
	const esk_os *os = environment->os;
	if (path == NULL || *path == '\0' || strlen(path) > ESK_PATH_BYTES - 512)
		return esk_fail(err, ESK_EINVAL, "the path of a store is empty or too long");
	esk_store_catalog_path(path, database);
	if (esk_os_exists(database))
		return esk_fail(err, ESK_EEXIST, "%s is a store already", path);
	snprintf(spool, sizeof spool, "%s/spool", path);
	snprintf(making, sizeof making, "%s/esker.db.new", path);
	esk_status status = esk_os_mkdir(os, path, err);
	if (status == ESK_OK)
		status = esk_os_mkdir(os, spool, err);
	if (status == ESK_OK)
		status = remove_unfinished(os, making, err);
	if (status == ESK_OK)
		status = fill_catalog(environment, making, err);
	if (status == ESK_OK && esk_os_exists(database))
		status = esk_fail(err, ESK_EEXIST, "%s was made a store by somebody else meanwhile", path);
	if (status == ESK_OK)
		status = esk_store_check_made(making, err);
	if (status == ESK_OK)
		status = esk_os_rename(os, making, database, err);
	if (status != ESK_OK)
		remove_unfinished(os, making, NULL);
	if (status == ESK_OK)
		status = esk_os_sync_parent(os, database, err);
	return status == ESK_OK ? esk_os_sync_parent(os, path, err) : status;
}

/* ---- opening ---- */

static esk_status read_facts(esk_store *store, esk_error *err)
{
	char *id = NULL, *format = NULL;
	esk_status status = esk_catalog_get_fact(store->catalog, "store_id", &id, err);
	if (status == ESK_OK)
		status = esk_catalog_get_fact(store->catalog, "format", &format, err);
	if (status == ESK_OK && strcmp(format, STORE_FORMAT) != 0)
		status = esk_fail(err, ESK_EVERSION, "%s has store format %s; this Esker knows %s",
			store->path, format, STORE_FORMAT);
	if (status == ESK_OK)
		store->id = strtoull(id, NULL, 10);
	else if (status == ESK_ENOTFOUND)
		status = esk_fail(err, ESK_ECORRUPT, "%s: the catalogue lacks its facts; run `esker reindex`",
			store->path);
	free(id);
	free(format);
	return status;
}

/* From now on files are read with `key`. */
static esk_status take_key(esk_store *store, const esk_key *key, esk_error *err)
{
	esk_status status = esk_keyring_add(key, err);
	if (status == ESK_OK)
		store->key = esk_key_share(key);
	return status;
}

esk_status esk_store_open_in(const esk_store_environment *environment, const char *path,
	const esk_store_options *options, esk_store **ret_store, esk_error *err)
{
	char database[ESK_PATH_BYTES], spool[ESK_PATH_BYTES];
	esk_store_options defaults = ESK_STORE_OPTIONS_INIT;
	if (options != NULL)
		esk_struct_take(&defaults, sizeof defaults, options);
	if (path == NULL || *path == '\0' || strlen(path) > ESK_PATH_BYTES - 512)
		return esk_fail(err, ESK_EINVAL, "the path of a store is empty or too long");
	esk_store_catalog_path(path, database);
	if (!esk_os_exists(database))
		return esk_fail(err, ESK_ENOTFOUND,
			"%s is no store (no esker.db in it): make one with `esker init %s`", path, path);
	esk_store *store = calloc(1, sizeof *store);
	if (store == NULL)
		return esk_fail_memory(err, sizeof *store, "a store");
	pthread_mutex_init(&store->lock, NULL);
	esk_store_watch(store);
	store->environment = *environment;
	store->logger = (esk_logger){defaults.log, defaults.log_arg};
	store->read_only = defaults.read_only;
	store->fork_count = esk_os_fork_count();
	esk_status status = defaults.key != NULL ? take_key(store, defaults.key, err) : ESK_OK;
	if (status == ESK_OK && realpath(path, store->path) == NULL)
		status = esk_fail(err, ESK_ENOTFOUND, "cannot find %s", path);
	if (status == ESK_OK)
		status = esk_pool_create(defaults.codec_threads, POOL_QUEUE_JOBS, &store->pool, err);
	if (status == ESK_OK)
		status = esk_catalog_open(database, store->read_only ? ESK_CATALOG_READ : ESK_CATALOG_WRITE,
			environment->sqlite_vfs, &store->catalog, err);
	if (status == ESK_OK)
		status = read_facts(store, err);
	if (status == ESK_OK && !store->read_only) {
		snprintf(spool, sizeof spool, "%s/spool", store->path);
		status = esk_os_mkdir(environment->os, spool, err);
		if (status == ESK_OK)
			status = esk_store_reconcile(store, err);
		if (status == ESK_OK)
			esk_seal_resume(store);
	}
	if (status != ESK_OK) {
		esk_store_close(store, NULL);
		return status;
	}
	*ret_store = store;
	return ESK_OK;
}

esk_status esk_store_catalog(esk_store *store, esk_catalog **ret_catalog, esk_error *err)
{
	esk_status status = ESK_OK;
	pthread_mutex_lock(&store->lock);
	if (store->fork_count != esk_os_fork_count()) { /* a child: SQLite's connection stays the parent's */
		char database[ESK_PATH_BYTES];
		esk_store_catalog_path(store->path, database);
		status = esk_catalog_open(
			database, ESK_CATALOG_READ, store->environment.sqlite_vfs, &store->catalog, err);
		if (status == ESK_OK) {
			store->fork_count = esk_os_fork_count();
			store->read_only = true;
			store->runs = NULL;
		}
	}
	if (status == ESK_OK)
		*ret_catalog = store->catalog;
	pthread_mutex_unlock(&store->lock);
	return status;
}

esk_status esk_store_close(esk_store *store, esk_error *err)
{
	if (store == NULL)
		return ESK_OK;
	esk_status status = ESK_OK;
	bool inherited = store->fork_count != esk_os_fork_count();
	while (store->runs != NULL && !inherited) {
		esk_status closed = esk_run_close(store->runs, status == ESK_OK ? err : NULL);
		status = status == ESK_OK ? closed : status;
	}
	for (size_t i = 0; i < ESK_RESOLVE_READERS; i++)
		esk_reader_close(store->readers[i]);
	if (!inherited)
		esk_catalog_close(store->catalog);
	esk_pool_destroy(store->pool);
	if (store->key != NULL)
		esk_keyring_drop(store->key);
	esk_key_free(store->key);
	esk_store_unwatch(store);
	pthread_mutex_destroy(&store->lock);
	free(store);
	return status;
}

const char *esk_store_path(const esk_store *store)
{
	return store->path;
}

const esk_os *esk_store_os(const esk_store *store)
{
	return store->environment.os;
}

esk_pool *esk_store_pool(const esk_store *store)
{
	return store->pool;
}

const esk_logger *esk_store_logger(const esk_store *store)
{
	return &store->logger;
}

uint64_t esk_store_id(const esk_store *store)
{
	return store->id;
}

bool esk_store_is_read_only(const esk_store *store)
{
	return store->read_only;
}

/* ---- what a commit tells the catalogue ---- */

static esk_status put_segments(
	esk_catalog *catalog, int64_t id, const esk_commit_state *state, esk_error *err)
{
	esk_segment_record live = {
		.number = state->segment, .created_ns = state->created_ns, .bytes = state->file_bytes};
	snprintf(live.file, sizeof live.file, "%s", state->file);
	if (state->sealed_file != NULL) {
		esk_segment_record sealed = {.number = state->segment - 1,
			.sealed = true,
			.created_ns = state->sealed_created_ns,
			.sealed_ns = state->created_ns,
			.bytes = state->sealed_bytes};
		snprintf(sealed.file, sizeof sealed.file, "%s", state->sealed_file);
		esk_status status = esk_catalog_put_segment(catalog, id, &sealed, err);
		if (status != ESK_OK)
			return status;
	}
	return esk_catalog_put_segment(catalog, id, &live, err);
}

static esk_status put_streams(
	esk_catalog *catalog, esk_run *run, const esk_commit_state *state, esk_error *err)
{
	esk_status status = ESK_OK;
	for (size_t i = 0; i < state->stream_count && status == ESK_OK; i++) {
		const esk_stream_state *stream = &state->streams[i];
		if (i >= run->streams_put)
			status = esk_catalog_put_stream(catalog, run->id, stream->stream, stream->name,
				stream->columns, stream->column_count, err);
		if (status == ESK_OK)
			status = esk_catalog_put_extent(catalog, run->id, stream->stream, state->segment,
				stream->first_row, stream->rows, err);
	}
	return status;
}

static esk_gap_cause cause_of(const esk_gap *gap)
{
	return gap->cause == ESK_CAUSE_OVERWRITTEN ? ESK_GAP_OVERWRITTEN
	       : gap->cause == ESK_CAUSE_ABANDONED ? ESK_GAP_ABANDONED
						   : ESK_GAP_DAMAGED;
}

esk_status esk_store_put_gaps(
	esk_catalog *catalog, int64_t id, const esk_gap *gaps, size_t count, esk_error *err)
{
	esk_status status = ESK_OK;
	for (size_t i = 0; i < count && status == ESK_OK; i++) {
		const esk_gap *g = &gaps[i];
		esk_gap_record gap = {.stream = (int64_t)g->stream,
			.row = g->row,
			.records = g->records,
			.rows = g->rows,
			.bytes = g->bytes,
			.first_sequence = g->first_sequence,
			.last_sequence = g->last_sequence,
			.time_ns = (int64_t)g->time_ns,
			.cause = cause_of(g)};
		status = esk_catalog_put_gap(catalog, id, &gap, err);
	}
	return status;
}

/* Reads the specs of streams that are new. */
static esk_status read_specs(esk_run *run, const esk_commit_state *state, esk_error *err)
{
	if (run->spec_count >= state->stream_count)
		return ESK_OK;
	esk_index_spec *grown = realloc(run->specs, state->stream_count * sizeof *grown);
	if (grown == NULL)
		return esk_fail_memory(err, state->stream_count * sizeof *grown, "indexes");
	run->specs = grown;
	for (; run->spec_count < state->stream_count; run->spec_count++) {
		const esk_stream_state *stream = &state->streams[run->spec_count];
		esk_index_spec *spec = &grown[run->spec_count];
		esk_error why = {0};
		*spec = (esk_index_spec){0};
		if (stream->index == NULL)
			continue;
		esk_status status = esk_index_spec_parse(
			stream->index, stream->columns, stream->column_count, spec, &why);
		if (status == ESK_OK)
			status = esk_catalog_index_check(run->store->catalog, spec, &why);
		if (status == ESK_EINVAL || status == ESK_ETYPE) { /* made by another version of Esker */
			esk_log(&run->store->logger, ESK_LOG_WARNING,
				"run \"%s\", stream \"%s\": its rows are not indexed: %s", state->run,
				stream->name, why.message);
			esk_index_spec_free(spec);
		} else if (status != ESK_OK) {
			if (err != NULL)
				*err = why;
			esk_index_spec_free(spec);
			return status;
		}
	}
	return ESK_OK;
}

/* Puts the rows of the commit into the stream's table, if it has all rows before them; *ret_behind where not.
 */
static esk_status put_indexed(esk_catalog *catalog, const esk_run *run, const esk_stream_state *stream,
	const esk_index_spec *spec, bool *ret_behind, esk_error *err)
{
	const esk_index_buffer *indexed = stream->indexed;
	uint64_t rows, end = stream->first_row + stream->rows;
	if (spec->count == 0)
		return ESK_OK;
	esk_status status = esk_catalog_index_rows(catalog, spec, run->id, &rows, err);
	if (status != ESK_OK || rows == end)
		return status;
	if (rows > end)
		return esk_catalog_index_cut(catalog, spec, run->id, end, err);
	if (indexed->rows == 0 || rows != indexed->first_row || indexed->first_row + indexed->rows != end) {
		*ret_behind = true;
		return ESK_OK;
	}
	return esk_catalog_index_put(
		catalog, spec, run->id, indexed->first_row, indexed->rows, indexed->data, indexed->size, err);
}

static esk_status put_run(
	esk_catalog *catalog, esk_run *run, const esk_commit_state *state, bool finished, esk_error *err)
{
	if (run->created_ns == 0) /* a new run is as old as its first segment */
		run->created_ns = state->created_ns;
	esk_run_record record = {.state = finished ? ESK_RUN_FINISHED : ESK_RUN_RECORDING,
		.created_ns = run->created_ns,
		.updated_ns = state->time_ns,
		.rows = state->rows,
		.commit = state->commit,
		.sequence = state->sequence,
		.ring_id = state->ring_id,
		.pid = getpid(),
		.pid_start = esk_os_process_start(getpid()),
		.metadata = (char *)state->metadata};
	snprintf(record.name, sizeof record.name, "%s", state->run);
	esk_status status = esk_catalog_put_run(catalog, &record, err);
	run->id = record.id;
	return status;
}

/* What the catalogue has of a run of that name whose files are gone is another run's. */
static esk_status forget_namesake(
	esk_catalog *catalog, esk_run *run, const esk_commit_state *state, esk_error *err)
{
	if (run->id != 0 || state->commit != 1 || state->segment != 0)
		return ESK_OK;
	run->created_ns = state->created_ns;
	esk_error why = {0};
	esk_status status = esk_catalog_delete_run(catalog, state->run, &why);
	if (status != ESK_OK && status != ESK_ENOTFOUND && err != NULL)
		*err = why;
	return status == ESK_ENOTFOUND ? ESK_OK : status;
}

/* *ret_behind: tables of indexed streams, or that of items, lack rows of earlier commits; until they have
 * them, the run is not put as finished. */
static esk_status put_commit(
	esk_catalog *catalog, esk_run *run, const esk_commit_state *state, bool *ret_behind, esk_error *err)
{
	esk_status status = forget_namesake(catalog, run, state, err);
	if (status == ESK_OK)
		status = put_run(catalog, run, state, false, err);
	if (status == ESK_OK)
		status = put_segments(catalog, run->id, state, err);
	if (status == ESK_OK && state->sealed_file != NULL && run->keep_segments > 0)
		status = esk_catalog_prune(catalog, run->id, run->keep_segments, err);
	if (status == ESK_OK)
		status = put_streams(catalog, run, state, err);
	if (status == ESK_OK)
		status = esk_store_put_gaps(catalog, run->id, state->gaps, state->gap_count, err);
	if (status == ESK_OK)
		status = esk_store_put_items(catalog, run->id, state, ret_behind, err);
	for (size_t i = 0; i < state->stream_count && status == ESK_OK; i++)
		status = put_indexed(catalog, run, &state->streams[i], &run->specs[i], ret_behind, err);
	if (status == ESK_OK && state->finished && !*ret_behind)
		status = put_run(catalog, run, state, true, err);
	return status;
}

static esk_status tell(esk_run *run, const esk_commit_state *state, bool *ret_behind, esk_error *err)
{
	esk_catalog *catalog = run->store->catalog;
	esk_status status = read_specs(run, state, err);
	if (status == ESK_OK)
		status = esk_catalog_begin(catalog, err);
	if (status != ESK_OK)
		return status;
	status = put_commit(catalog, run, state, ret_behind, err);
	if (status == ESK_OK)
		status = esk_catalog_commit(catalog, err);
	if (status != ESK_OK)
		esk_catalog_rollback(catalog);
	else
		run->streams_put = (uint32_t)state->stream_count;
	return status;
}

/* Rows of commits that the catalogue was not told of come from the files, which have them. */
static esk_status catch_up(esk_run *run, const esk_commit_state *state, esk_error *err)
{
	esk_store *store = run->store;
	esk_index_target target = {.os = store->environment.os,
		.pool = store->pool,
		.logger = &store->logger,
		.directory = store->path,
		.catalog = store->catalog};
	esk_status status = ESK_OK;
	for (size_t i = 0; i < state->stream_count && status == ESK_OK; i++) {
		const esk_stream_state *stream = &state->streams[i];
		if (run->specs[i].count > 0)
			status = esk_index_fill(&target, run->id, stream->stream, stream->name,
				stream->columns, &run->specs[i], stream->first_row + stream->rows, err);
	}
	if (status == ESK_OK)
		status = esk_index_fill_items(&target, run->id, state->item_count, err);
	if (status == ESK_OK && state->finished)
		status = put_run(store->catalog, run, state, true, err);
	return status;
}

/* The recorder's sink. The catalogue's connection is shared by all runs of the store; its own lock makes it
 * one transaction at a time. */
static esk_status run_committed(void *arg, const esk_commit_state *state, esk_error *err)
{
	esk_run *run = arg;
	bool behind = false;
	esk_status status = tell(run, state, &behind, err);
	if (status == ESK_OK && state->sealed_file != NULL && run->keep_segments > 0)
		esk_store_finish_pruning(run->store);
	if (status == ESK_OK && behind)
		status = catch_up(run, state, err);
	if (status == ESK_OK && state->sealed_file != NULL && run->sealer != NULL)
		esk_sealer_wake(run->sealer);
	return status;
}

/* ---- runs ---- */

static esk_status check_run_options(
	const esk_store *store, const char *name, const esk_run_options *options, esk_error *err)
{
	if (store->fork_count != esk_os_fork_count() || store->read_only)
		return esk_fail(err, ESK_ECLOSED,
			"store %s is open for reading only (or was opened before fork): open it again to "
			"record",
			store->path);
	if (options->policy < ESK_BLOCK || options->policy > ESK_REJECT)
		return esk_fail(err, ESK_EINVAL, "run \"%s\": policy %d is none", name != NULL ? name : "",
			(int)options->policy);
	if (options->segment_period < ESK_PERIOD_NONE || options->segment_period > ESK_PERIOD_DAY)
		return esk_fail(err, ESK_EINVAL, "run \"%s\": period %d is none", name != NULL ? name : "",
			(int)options->segment_period);
	return options->metadata_json != NULL ? esk_metadata_check(options->metadata_json, err) : ESK_OK;
}

static void free_specs(esk_run *run)
{
	for (uint32_t i = 0; i < run->spec_count; i++)
		esk_index_spec_free(&run->specs[i]);
	free(run->specs);
}

static esk_status open_recorder(
	esk_run *run, const char *name, const esk_run_options *options, esk_error *err)
{
	esk_store *store = run->store;
	esk_run_record known = {0};
	if (name != NULL && esk_catalog_get_run(store->catalog, name, &known, NULL) == ESK_OK)
		run->created_ns = known.created_ns;
	esk_run_record_clear(&known);
	esk_attribute *attributes = NULL;
	size_t count = 0;
	esk_status status =
		options->attributes_json != NULL
			? esk_attributes_parse("/", options->attributes_json, &attributes, &count, err)
			: ESK_OK;
	esk_recorder_options recorder = {.os = store->environment.os,
		.logger = store->logger,
		.pool = store->pool,
		.directory = store->path,
		.name = name,
		.store_id = store->id,
		.run = *options,
		.attributes = attributes,
		.attribute_count = count,
		.sink = {.arg = run, .committed = run_committed}};
	if (status == ESK_OK)
		status = esk_recorder_open(&recorder, &run->recorder, err);
	esk_attributes_free(attributes, count);
	return status;
}

/* The key that a run encrypts with: the store's, else that of the environment. */
static esk_status find_key(esk_store *store, esk_error *err)
{
	esk_status status = ESK_OK;
	esk_key *key = NULL;
	pthread_mutex_lock(&store->lock);
	if (store->key == NULL) {
		status = esk_key_load(NULL, &key, err);
		if (status == ESK_OK)
			status = take_key(store, key, err);
		esk_key_free(key);
	}
	pthread_mutex_unlock(&store->lock);
	return status;
}

esk_status esk_run_open(
	esk_store *store, const char *name, const esk_run_options *options, esk_run **ret_run, esk_error *err)
{
	esk_run_options defaults = ESK_RUN_OPTIONS_INIT;
	if (options != NULL)
		esk_struct_take(&defaults, sizeof defaults, options);
	esk_status status = check_run_options(store, name, &defaults, err);
	if (status != ESK_OK)
		return status;
	esk_run *run = calloc(1, sizeof *run);
	if (run == NULL)
		return esk_fail_memory(err, sizeof *run, "a run");
	run->store = store;
	run->keep_segments = defaults.keep_segments;
	if (defaults.encrypt)
		status = find_key(store, err);
	if (status == ESK_OK)
		status = open_recorder(run, name, &defaults, err);
	if (status == ESK_OK && defaults.encrypt) {
		status = esk_sealer_start(store, esk_recorder_name(run->recorder), &run->sealer, err);
		if (status != ESK_OK)
			esk_recorder_close(run->recorder, NULL);
	}
	if (status != ESK_OK) {
		free_specs(run);
		free(run);
		return status;
	}
	pthread_mutex_lock(&store->lock);
	run->next = store->runs;
	store->runs = run;
	pthread_mutex_unlock(&store->lock);
	*ret_run = run;
	return ESK_OK;
}

esk_status esk_run_close(esk_run *run, esk_error *err)
{
	if (run == NULL)
		return ESK_OK;
	esk_store *store = run->store;
	if (store->fork_count != esk_os_fork_count())
		return ESK_OK;
	esk_status status = esk_recorder_close(run->recorder, err);
	if (run->sealer != NULL) {
		esk_sealer_stop(run->sealer);
		if (status == ESK_OK)
			status = esk_sealer_finish(run->sealer, err);
		esk_sealer_free(run->sealer);
	}
	free_specs(run);
	pthread_mutex_lock(&store->lock);
	for (esk_run **at = &store->runs; *at != NULL; at = &(*at)->next) {
		if (*at == run) {
			*at = run->next;
			break;
		}
	}
	pthread_mutex_unlock(&store->lock);
	free(run);
	return status;
}

esk_status esk_run_commit(esk_run *run, esk_watermark *ret_watermark, esk_error *err)
{
	return esk_recorder_commit(run->recorder, NULL, ret_watermark, err);
}

esk_status esk_run_get_stats(esk_run *run, esk_run_stats *ret_stats, esk_error *err)
{
	return esk_recorder_stats(run->recorder, ret_stats, err);
}

esk_status esk_run_append(esk_run *run, esk_rows_part *parts, size_t part_count, esk_error *err)
{
	return esk_recorder_append(run->recorder, NULL, 0, parts, part_count, err);
}

esk_status esk_run_append_with_losses(esk_run *run, const esk_loss_part *losses, size_t loss_count,
	esk_rows_part *parts, size_t part_count, esk_error *err)
{
	return esk_recorder_append(run->recorder, losses, loss_count, parts, part_count, err);
}

uint64_t esk_run_max_record_bytes(const esk_run *run)
{
	return esk_recorder_max_record_bytes(run->recorder);
}

const char *esk_run_name(const esk_run *run)
{
	return esk_recorder_name(run->recorder);
}

const char *esk_run_file(const esk_run *run)
{
	return esk_recorder_file(run->recorder);
}

esk_status esk_run_set_metadata(esk_run *run, const char *json, esk_error *err)
{
	esk_status status = esk_metadata_check(json, err);
	return status == ESK_OK ? esk_recorder_set_metadata(run->recorder, json, err) : status;
}

esk_status esk_run_put(esk_run *run, const esk_item *item, esk_error *err)
{
	esk_item whole = ESK_ITEM_INIT;
	esk_attribute *attributes = NULL;
	size_t count = 0;
	if (item == NULL || item->struct_size < sizeof item->struct_size)
		return esk_fail(err, ESK_EINVAL, "an item's struct_size is not set");
	esk_struct_take(&whole, sizeof whole, item);
	if (whole.array_count > 0 && whole.arrays == NULL)
		return esk_fail(err, ESK_EINVAL, "an item's arrays are NULL");
	esk_status status = whole.attributes_json != NULL ? esk_attributes_parse("", whole.attributes_json,
								    &attributes, &count, err)
							  : ESK_OK;
	if (status == ESK_OK)
		status = esk_recorder_put(run->recorder, &whole, attributes, count, err);
	esk_attributes_free(attributes, count);
	return status;
}

esk_status esk_run_set_attributes(esk_run *run, const char *object, const char *json, esk_error *err)
{
	esk_attribute *attributes = NULL;
	size_t count = 0;
	if (json == NULL)
		return esk_fail(err, ESK_EINVAL, "attributes are NULL: expected a JSON object");
	esk_status status = esk_group_name_check(object, "group", err);
	if (status == ESK_OK)
		status = esk_attributes_parse(object, json, &attributes, &count, err);
	if (status == ESK_OK)
		status = esk_recorder_set_attributes(run->recorder, object, attributes, count, err);
	esk_attributes_free(attributes, count);
	return status;
}

esk_status esk_run_set_text(esk_run *run, const char *path, const char *text, esk_error *err)
{
	if (path == NULL || text == NULL)
		return esk_fail(err, ESK_EINVAL, "a text needs a path and a text");
	esk_status status = esk_column_name_check(path, err);
	return status == ESK_OK ? esk_recorder_set_text(run->recorder, path, text, err) : status;
}

esk_status esk_run_stream(esk_run *run, const char *name, const esk_column *columns, size_t column_count,
	esk_stream **ret_stream, esk_error *err)
{
	return esk_run_stream_with(run, name, columns, column_count, NULL, ret_stream, err);
}

static esk_status check_index(esk_catalog *catalog, const char *index, const esk_column *columns,
	size_t column_count, esk_error *err)
{
	esk_index_spec spec;
	esk_status status = ESK_OK;
	for (size_t c = 0; c < column_count && status == ESK_OK; c++)
		status = esk_column_check(&columns[c], err);
	if (status == ESK_OK)
		status = esk_index_spec_parse(index, columns, column_count, &spec, err);
	if (status != ESK_OK)
		return status;
	status = esk_catalog_index_check(catalog, &spec, err);
	esk_index_spec_free(&spec);
	return status;
}

esk_status esk_run_stream_with(esk_run *run, const char *name, const esk_column *columns, size_t column_count,
	const esk_stream_options *options, esk_stream **ret_stream, esk_error *err)
{
	esk_stream_options defaults = ESK_STREAM_OPTIONS_INIT;
	if (options != NULL)
		esk_struct_take(&defaults, sizeof defaults, options);
	if (name == NULL || columns == NULL)
		return esk_fail(err, ESK_EINVAL, "a stream needs a name and columns");
	esk_status status = defaults.rows_attribute != NULL
				    ? esk_attribute_check("/", defaults.rows_attribute, err)
				    : ESK_OK;
	if (status == ESK_OK && defaults.index != NULL)
		status = check_index(run->store->catalog, defaults.index, columns, column_count, err);
	if (status != ESK_OK)
		return esk_fail_in(err, status, "stream \"%s\"", name);
	return esk_recorder_stream(run->recorder, name, columns, column_count, &defaults, ret_stream, err);
}
