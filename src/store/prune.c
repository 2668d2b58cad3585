/* Segments beyond those that a run keeps: the catalogue marks them in the transaction that tells of the
 * rotation, then their files are deleted, then the marks say so. A crash between is finished by whoever opens
 * the store. */
#include "store/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* While a segment is encrypted it has two names, and the catalogue one of them (seal.c, K2). */
static esk_status remove_other(const esk_store *store, const char *path, esk_error *err)
{
	char other[ESK_PATH_BYTES + 2];
	size_t size = strlen(path);
	snprintf(other, sizeof other, "%sx", path);
	if (path[size - 1] == 'x')
		other[size - 1] = '\0';
	return esk_os_exists(other) ? esk_os_unlink(store->environment.os, other, err) : ESK_OK;
}

static esk_status remove_file(const esk_store *store, const esk_pruned_record *segment, esk_error *err)
{
	char path[ESK_PATH_BYTES], journal[ESK_PATH_BYTES + 16];
	if (!esk_store_file_path(store->path, segment->file, path))
		return esk_fail(err, ESK_EINVAL, "path too long: %s", store->path);
	snprintf(journal, sizeof journal, "%s-journal", path);
	esk_status status = esk_os_unlink(store->environment.os, path, err);
	if (status == ESK_OK)
		status = remove_other(store, path, err);
	if (status == ESK_OK && esk_os_exists(journal))
		status = esk_os_unlink(store->environment.os, journal, err);
	return status == ESK_OK ? esk_os_sync_parent(store->environment.os, path, err) : status;
}

void esk_store_finish_pruning(esk_store *store)
{
	esk_pruned_record *segments = NULL;
	size_t count = 0;
	esk_error why = {0};
	esk_status status = esk_catalog_get_pruned(store->catalog, &segments, &count, &why);
	for (size_t i = 0; i < count && status == ESK_OK; i++) {
		status = remove_file(store, &segments[i], &why);
		if (status == ESK_OK)
			status = esk_catalog_put_gone(
				store->catalog, segments[i].run_id, segments[i].number, &why);
		if (status == ESK_OK)
			esk_log(&store->logger, ESK_LOG_INFO, "%s was pruned", segments[i].file);
	}
	if (status != ESK_OK)
		esk_log(&store->logger, ESK_LOG_WARNING, "a pruned segment stays for the time being: %s",
			why.message);
	free(segments);
}

esk_status esk_dataset_fail_gone(const esk_dataset *dataset, uint64_t row, esk_error *err)
{
	if (dataset->parts.count == 0)
		return esk_fail(err, ESK_ENOTFOUND,
			"\"%s\": the segment that had it was pruned or taken away", dataset->path);
	if (row < dataset->parts.items[0].first_row)
		return esk_fail(err, ESK_ENOTFOUND,
			"\"%s\": row %llu was pruned: the first that is kept is %llu", dataset->path,
			(unsigned long long)row, (unsigned long long)dataset->parts.items[0].first_row);
	return esk_fail(err, ESK_ENOTFOUND, "\"%s\": row %llu is in a segment whose file is missing",
		dataset->path, (unsigned long long)row);
}
