/* Reindex: a new catalogue from the files alone, complete before it takes the old one's place. */
#include "check/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Refuses while a run is being recorded: its recorder would go on with the old database. */
static esk_status check_unused(const char *path, esk_error *err)
{
	char database[ESK_PATH_BYTES];
	esk_query *query = NULL;
	bool row = false;
	esk_store_catalog_path(path, database);
	if (!esk_os_exists(database))
		return ESK_OK;
	esk_status status = ESK_OK;
	/* A catalogue that cannot be read is what reindex is for. */
	if (esk_catalog_query(database, "SELECT name, pid, pid_start FROM runs WHERE state = 0", &query,
		    NULL) != ESK_OK)
		return ESK_OK;
	while (status == ESK_OK && esk_query_step(query, &row, NULL) == ESK_OK && row) {
		int64_t pid = esk_query_value(query, 1).integer;
		if (esk_os_process_alive(pid, (uint64_t)esk_query_value(query, 2).integer))
			status = esk_fail(err, ESK_EBUSY,
				"run \"%s\" is being recorded by process %lld: close it first",
				esk_query_value(query, 0).data, (long long)pid);
	}
	esk_query_close(query);
	return status;
}

/* A catalogue without the rows of encrypted files would not be the store's. */
static esk_status check_keys(const esk_index_file *files, size_t count, esk_error *err)
{
	for (size_t i = 0; i < count; i++)
		if (files[i].status == ESK_EACCES && files[i].name[strlen(files[i].name) - 1] == 'x')
			return esk_fail(err, ESK_EACCES, "nothing was changed: %s", files[i].error.message);
	return ESK_OK;
}

static esk_status put_runs(esk_walk *walk, const esk_index_target *target, const esk_index_file *files,
	size_t count, uint64_t *ret_store_id, esk_error *err)
{
	esk_status status = ESK_OK;
	for (size_t first = 0; first < count && status == ESK_OK && !walk->cancelled;) {
		size_t group = 1;
		while (first + group < count &&
			strcmp(files[first + group].head.run, files[first].head.run) == 0)
			group++;
		walk->run = files[first].head.run;
		walk->report.runs++;
		for (size_t i = first; i < first + group; i++) {
			walk->file = files[i].name;
			walk->report.files++;
			if (!files[i].foreign)
				*ret_store_id = files[i].head.store_id;
			if (files[i].status != ESK_OK)
				esk_walk_find(
					walk, NULL, 0, 0, files[i].status, "%s", files[i].error.message);
			esk_walk_progress(walk, files[i].bytes);
		}
		esk_error why = {0};
		status = esk_index_put(target, &files[first], group, false, &why);
		walk->file = files[first].name;
		if (status == ESK_ECORRUPT || status == ESK_ENOTFOUND || status == ESK_EUNSUPPORTED) {
			esk_walk_find(
				walk, NULL, 0, 0, status, "not all of its rows are indexed: %s", why.message);
			status = ESK_OK;
		} else if (status != ESK_OK && err != NULL) {
			*err = why;
		}
		first += group;
	}
	return status;
}

static esk_status remove_database(const esk_os *os, const char *path, esk_error *err)
{
	static const char *const suffixes[] = {"", "-wal", "-shm"};
	esk_status status = ESK_OK;
	for (size_t i = 0; i < 3 && status == ESK_OK; i++) {
		char name[ESK_PATH_BYTES + 8];
		snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
		status = esk_os_unlink(os, name, err);
	}
	return status;
}

/* The new database takes the place: old one to .old, new one to the name. */
static esk_status replace(const esk_os *os, const char *database, const char *making, esk_error *err)
{
	char old[ESK_PATH_BYTES + 8], wal[ESK_PATH_BYTES + 8], shm[ESK_PATH_BYTES + 8];
	snprintf(old, sizeof old, "%s.old", database);
	snprintf(wal, sizeof wal, "%s-wal", database);
	snprintf(shm, sizeof shm, "%s-shm", database);
	esk_status status = esk_store_check_made(making, err);
	if (status == ESK_OK && esk_os_exists(database))
		status = esk_os_rename(os, database, old, err);
	if (status == ESK_OK)
		status = esk_os_unlink(os, wal, err);
	if (status == ESK_OK)
		status = esk_os_unlink(os, shm, err);
	if (status == ESK_OK)
		status = esk_os_rename(os, making, database, err);
	return status == ESK_OK ? esk_os_sync_parent(os, database, err) : status;
}

/* Of all runs. */
static esk_status scan(const esk_os *os, const char *path, bool untried, esk_index_file **ret_files,
	size_t *ret_count, esk_error *err)
{
	esk_h5_trial *trial = NULL;
	esk_status status =
		untried ? esk_index_try_none(&trial, err) : esk_index_try(path, NULL, &trial, err);
	if (status == ESK_OK)
		status = esk_index_scan(os, path, NULL, trial, ret_files, ret_count, err);
	esk_h5_trial_end(trial);
	return status;
}

esk_status esk_store_reindex(
	const char *path, const esk_check_options *options, esk_check_report *ret_report, esk_error *err)
{
	const esk_os *os = esk_os_posix();
	esk_check_options defaults = esk_check_defaults(options);
	esk_walk walk = {.options = &defaults};
	char database[ESK_PATH_BYTES], making[ESK_PATH_BYTES], spool[ESK_PATH_BYTES], id[32];
	if (path == NULL || strlen(path) > ESK_PATH_BYTES - 512)
		return esk_fail(err, ESK_EINVAL, "the path of a store is missing or too long");
	esk_store_catalog_path(path, database);
	snprintf(making, sizeof making, "%s.new", database);
	snprintf(spool, sizeof spool, "%s/spool", path);
	if (!esk_os_exists(path))
		return esk_fail(err, ESK_ENOTFOUND, "there is no directory %s", path);
	esk_status status = check_unused(path, err);
	if (status == ESK_OK)
		status = remove_database(os, making, err);
	esk_index_file *files = NULL;
	size_t count = 0;
	if (status == ESK_OK)
		status = scan(os, path, defaults.untried, &files, &count, err);
	if (status != ESK_OK)
		return status;
	status = check_keys(files, count, err);
	if (status != ESK_OK) {
		esk_index_free(files, count);
		return status;
	}
	for (size_t i = 0; i < count; i++)
		walk.total_bytes += files[i].bytes;
	uint64_t store_id = esk_random_u64();
	esk_catalog *catalog = NULL;
	esk_pool *pool = NULL;
	esk_logger silent = {0};
	status = esk_pool_create(defaults.threads, 64, &pool, err);
	if (status == ESK_OK)
		status = esk_catalog_open(making, ESK_CATALOG_CREATE, NULL, &catalog, err);
	esk_index_target target = {
		.os = os, .pool = pool, .logger = &silent, .directory = path, .catalog = catalog};
	if (status == ESK_OK)
		status = put_runs(&walk, &target, files, count, &store_id, err);
	snprintf(id, sizeof id, "%" PRIu64, store_id);
	if (status == ESK_OK)
		status = esk_catalog_set_fact(catalog, "store_id", id, err);
	if (status == ESK_OK)
		status = esk_catalog_set_fact(catalog, "format", "1", err);
	esk_catalog_close(catalog);
	esk_pool_destroy(pool);
	esk_index_free(files, count);
	if (status == ESK_OK && walk.cancelled)
		status = esk_fail(err, ESK_ECLOSED, "cancelled: the catalogue is as it was");
	if (status == ESK_OK)
		status = esk_os_mkdir(os, spool, err);
	if (status == ESK_OK)
		status = replace(os, database, making, err);
	else
		remove_database(os, making, NULL);
	if (status == ESK_OK)
		*ret_report = walk.report;
	return status;
}
