/* Readers: a run's segments seen as one. Opening, refreshing, closing, finding; trying again while somebody
 * writes. */
#include "store/view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOVED_TRIES 20 /* a chunk that the writer moved while it was read: look again */

/* ---- refreshing ---- */

/* Under `loading`. Commits and rotations may fall between any two steps of it: then it begins again. */
static esk_status load(esk_reader *reader, bool with_metadata, esk_error *err)
{
	esk_view view;
	esk_status status = ESK_EBUSY;
	for (int i = 0; i < MOVED_TRIES && (status == ESK_EBUSY || (status == ESK_ENOTFOUND && i < 3)); i++) {
		if (i > 0)
			nanosleep(&(struct timespec){.tv_nsec = 1000000 << (i < 5 ? i : 5)}, NULL);
		status = esk_view_make(reader, &view, err);
	}
	if (status != ESK_OK)
		return status;
	pthread_rwlock_wrlock(&reader->lock);
	esk_fork_hold_off();
	esk_view_exchange(reader, &view, with_metadata);
	reader->inherited = false;
	reader->loads++;
	esk_fork_allow();
	pthread_rwlock_unlock(&reader->lock);
	esk_view_clear(&view);
	return ESK_OK;
}

esk_status esk_reader_refresh(esk_reader *reader, esk_error *err)
{
	pthread_mutex_lock(&reader->loading);
	esk_status status = load(reader, true, err);
	pthread_mutex_unlock(&reader->loading);
	return status;
}

/* Loads, unless another thread has since there were `loads` of them. */
static esk_status load_since(esk_reader *reader, uint64_t loads, esk_error *err)
{
	pthread_mutex_lock(&reader->loading);
	esk_status status = reader->loads == loads ? load(reader, false, err) : ESK_OK;
	pthread_mutex_unlock(&reader->loading);
	return status;
}

esk_status esk_reader_read(esk_reader *reader, esk_reader_fn read, void *arg, esk_error *err)
{
	for (int i = 0;; i++) {
		pthread_rwlock_rdlock(&reader->lock);
		uint64_t loads = reader->loads;
		esk_status status = reader->inherited ? ESK_EBUSY : read(arg, err);
		pthread_rwlock_unlock(&reader->lock);
		if (status != ESK_EBUSY || i == MOVED_TRIES)
			return status;
		status = load_since(reader, loads, err);
		if (status != ESK_OK)
			return status;
	}
}

void esk_reader_share(esk_reader *reader)
{
	pthread_rwlock_rdlock(&reader->lock);
	if (!reader->inherited)
		return;
	uint64_t loads = reader->loads;
	pthread_rwlock_unlock(&reader->lock);
	load_since(reader, loads, NULL);
	pthread_rwlock_rdlock(&reader->lock);
}

void esk_reader_unshare(esk_reader *reader)
{
	pthread_rwlock_unlock(&reader->lock);
}

/* ---- opening, closing ---- */

static esk_reader *make_reader(const esk_os *os, esk_pool *pool, esk_error *err)
{
	esk_reader *reader = calloc(1, sizeof *reader);
	if (reader == NULL) {
		esk_fail_memory(err, sizeof *reader, "a reader");
		return NULL;
	}
	if (esk_tether_make(reader, err) != ESK_OK) {
		free(reader);
		return NULL;
	}
	pthread_mutex_init(&reader->loading, NULL);
	pthread_rwlock_init(&reader->lock, NULL);
	reader->os = os;
	reader->pool = pool;
	esk_reader_watch(reader);
	return reader;
}

static esk_status no_such_run(esk_store *store, const char *name, esk_error *err)
{
	esk_catalog *catalog;
	esk_run_record run = {0};
	esk_status status = esk_store_catalog(store, &catalog, err);
	if (status == ESK_OK)
		status = esk_catalog_get_run(catalog, name, &run, err);
	esk_run_record_clear(&run);
	return status;
}

esk_status esk_reader_open(esk_store *store, const char *name, esk_reader **ret_reader, esk_error *err)
{
	esk_status status = esk_name_check(name, "run", err);
	if (status == ESK_OK)
		status = no_such_run(store, name, err);
	if (status != ESK_OK)
		return status;
	esk_reader *reader = make_reader(store->environment.os, store->pool, err);
	if (reader == NULL)
		return ESK_ENOMEM;
	reader->store = store;
	snprintf(reader->name, sizeof reader->name, "%s", name);
	status = esk_reader_refresh(reader, err);
	if (status != ESK_OK) {
		esk_reader_close(reader);
		return status;
	}
	*ret_reader = reader;
	return ESK_OK;
}

esk_status esk_reader_open_file(const char *path, esk_reader **ret_reader, esk_error *err)
{
	esk_pool *pool;
	if (path == NULL || strlen(path) >= ESK_PATH_BYTES)
		return esk_fail(err, ESK_EINVAL, "the path of a file is missing or too long");
	esk_status status = esk_pool_create(0, 64, &pool, err);
	if (status != ESK_OK)
		return status;
	esk_reader *reader = make_reader(esk_os_posix(), pool, err);
	if (reader == NULL) {
		esk_pool_destroy(pool);
		return ESK_ENOMEM;
	}
	reader->owns_pool = true;
	snprintf(reader->path, sizeof reader->path, "%s", path);
	status = esk_reader_refresh(reader, err);
	if (status != ESK_OK) {
		esk_reader_close(reader);
		return status;
	}
	*ret_reader = reader;
	return ESK_OK;
}

void esk_reader_close(esk_reader *reader)
{
	if (reader == NULL)
		return;
	esk_tether_cut(reader);
	esk_reader_unwatch(reader);
	esk_view all = {.segments = reader->segments, .segment_count = reader->segment_count};
	esk_view_clear(&all);
	for (size_t i = 0; i < reader->dataset_count; i++) {
		free(reader->datasets[i]->parts.items);
		free(reader->datasets[i]);
	}
	free(reader->datasets);
	for (size_t i = 0; i < reader->alone_count; i++) {
		free(reader->alone[i]->parts.items);
		free(reader->alone[i]);
	}
	free(reader->alone);
	free(reader->metadata);
	free(reader->attributes);
	if (reader->owns_pool)
		esk_pool_destroy(reader->pool);
	pthread_rwlock_destroy(&reader->lock);
	pthread_mutex_destroy(&reader->loading);
	free(reader);
}

/* ---- finding ---- */

const char *esk_reader_metadata(esk_reader *reader)
{
	esk_reader_share(reader);
	const char *metadata = reader->metadata;
	esk_reader_unshare(reader);
	return metadata;
}

const char *esk_reader_attributes(esk_reader *reader)
{
	esk_reader_share(reader);
	const char *attributes = reader->attributes;
	esk_reader_unshare(reader);
	return attributes;
}

/* The list of datasets grows when a refresh finds new ones: looking at it shares the lock. */
size_t esk_reader_dataset_count(esk_reader *reader)
{
	esk_reader_share(reader);
	size_t count = reader->dataset_count;
	esk_reader_unshare(reader);
	return count;
}

esk_dataset *esk_reader_dataset_at(esk_reader *reader, size_t i)
{
	esk_reader_share(reader);
	esk_dataset *dataset = i < reader->dataset_count ? reader->datasets[i] : NULL;
	esk_reader_unshare(reader);
	return dataset;
}

static esk_dataset *find_path(const esk_reader *reader, const char *path)
{
	for (size_t i = 0; i < reader->alone_count; i++)
		if (strcmp(reader->alone[i]->path, path) == 0)
			return reader->alone[i];
	for (size_t i = 0; i < reader->dataset_count; i++)
		if (strcmp(reader->datasets[i]->path, path) == 0)
			return reader->datasets[i];
	return NULL;
}

static esk_status not_found(esk_reader *reader, const char *path, bool ambiguous, esk_error *err)
{
	esk_text list = {0};
	for (size_t i = 0; i < reader->dataset_count && list.size < 300; i++)
		esk_text_add(&list, "%s%s", i > 0 ? ", " : "", reader->datasets[i]->path);
	esk_status status = esk_fail(err, ESK_ENOTFOUND, "%s%s%s has %s \"%s\"; it has: %s",
		reader->store != NULL ? "run \"" : "", reader->store != NULL ? reader->name : reader->path,
		reader->store != NULL ? "\"" : "", ambiguous ? "several datasets named" : "no dataset", path,
		list.data != NULL ? list.data : "none");
	esk_text_free(&list);
	return status;
}

/* True if `path` ends with `name`, from the beginning of a part. */
static bool ends_with(const char *path, const char *name)
{
	size_t size = strlen(path), tail = strlen(name);
	return tail < size && path[size - tail - 1] == '/' && strcmp(path + size - tail, name) == 0;
}

static esk_status find(esk_reader *reader, const char *path, esk_dataset **ret_dataset, esk_error *err)
{
	esk_dataset *found = find_path(reader, path);
	size_t matches = 0;
	for (size_t i = 0; (found == NULL || matches > 0) && i < reader->dataset_count; i++) {
		if (ends_with(reader->datasets[i]->path, path)) {
			found = reader->datasets[i];
			matches++;
		}
	}
	if (found == NULL || matches > 1)
		return not_found(reader, path, matches > 1, err);
	*ret_dataset = found;
	return ESK_OK;
}

/* Under `loading`: only then it grows. */
static esk_status keep_alone(esk_reader *reader, esk_dataset *dataset, esk_error *err)
{
	esk_dataset **grown = NULL;
	pthread_rwlock_wrlock(&reader->lock);
	esk_fork_hold_off();
	grown = realloc(reader->alone, (reader->alone_count + 1) * sizeof *grown);
	if (grown != NULL) {
		reader->alone = grown;
		reader->alone[reader->alone_count++] = dataset;
	}
	esk_fork_allow();
	pthread_rwlock_unlock(&reader->lock);
	if (grown != NULL)
		return ESK_OK;
	free(dataset->parts.items);
	free(dataset);
	return esk_fail_memory(err, sizeof *grown, "datasets");
}

/* Under `loading`: looks in the files, again after a refresh where something was committed since. */
static esk_status look_in_files(
	esk_reader *reader, const char *path, esk_dataset **ret_dataset, esk_error *err)
{
	esk_status status = ESK_EBUSY;
	for (int i = 0; i < MOVED_TRIES && status == ESK_EBUSY; i++) {
		bool stale = reader->segment_count > 0 &&
			     esk_h5_is_stale(reader->segments[reader->segment_count - 1].file);
		*ret_dataset = find_path(reader, path);
		status = *ret_dataset != NULL ? ESK_OK
			 : reader->inherited  ? ESK_EBUSY
					      : esk_view_find_alone(reader, path, ret_dataset, err);
		if (status == ESK_OK)
			return find_path(reader, path) != NULL ? ESK_OK
							       : keep_alone(reader, *ret_dataset, err);
		if (status == ESK_EBUSY || (status == ESK_ENOTFOUND && stale)) {
			status = load(reader, false, err);
			status = status == ESK_OK ? ESK_EBUSY : status;
		}
	}
	return status;
}

/* A dataset that no stream has: of an item, or a text. There may be very many, so they are not listed. */
static esk_status find_alone(esk_reader *reader, const char *path, esk_dataset **ret_dataset, esk_error *err)
{
	if (*path == '\0' || *path == '.')
		return ESK_ENOTFOUND;
	pthread_mutex_lock(&reader->loading);
	esk_status status = look_in_files(reader, path, ret_dataset, err);
	pthread_mutex_unlock(&reader->loading);
	return status == ESK_EINVAL ? ESK_ENOTFOUND : status; /* a path that no file can have */
}

esk_status esk_reader_find(esk_reader *reader, const char *path, esk_dataset **ret_dataset, esk_error *err)
{
	esk_dataset *found = NULL;
	esk_error why = {0};
	if (path == NULL)
		return esk_fail(err, ESK_EINVAL, "the path of a dataset is NULL");
	while (*path == '/')
		path++;
	esk_reader_share(reader);
	esk_status status = find(reader, path, ret_dataset, err);
	esk_reader_unshare(reader);
	if (status != ESK_ENOTFOUND)
		return status;
	esk_status alone = find_alone(reader, path, &found, &why);
	if (alone == ESK_OK)
		*ret_dataset = found;
	else if (alone != ESK_ENOTFOUND && err != NULL)
		*err = why;
	return alone != ESK_ENOTFOUND ? alone : status;
}
