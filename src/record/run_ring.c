/* The ring of a run, and the link by which it is found again (L2). */
#include "record/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHM_DIRECTORY "/dev/shm"
#define SHM_SPARE_BYTES (16ull << 20)

static esk_status try_ring(esk_recorder *r, const char *directory, esk_error *err)
{
	if (snprintf(r->ring_path, sizeof r->ring_path, "%s/esker-%016llx-%016llx.ring", directory,
		    (unsigned long long)r->store_id,
		    (unsigned long long)r->ring_id) >= (int)sizeof r->ring_path)
		return esk_fail(err, ESK_EINVAL, "path too long: %s", directory);
	if (symlink(r->ring_path, r->link_path) < 0)
		return esk_fail_errno(err, errno, "cannot make %s", r->link_path);
	esk_ring_options options = {.struct_size = sizeof options,
		.capacity_bytes = r->options.ring_bytes,
		.policy = r->options.policy,
		.block_timeout_ns = r->options.block_timeout_ns,
		.payload_checksums = r->options.payload_checksums,
		.prefault = true,
		.stream_id = r->ring_id,
		.blob = r->name,
		.blob_bytes = (uint32_t)strlen(r->name)};
	esk_status status = esk_ring_create(r->ring_path, &options, &r->ring, err);
	if (status != ESK_OK)
		esk_os_unlink(r->os, r->link_path, NULL);
	return status;
}

esk_status esk_run_ring_make(esk_recorder *r, esk_error *err)
{
	char spool[ESK_PATH_BYTES], real[ESK_PATH_BYTES];
	r->ring_id = esk_random_u64() | 1;
	esk_status status = ESK_ENOSPC;
	esk_os_unmap_wait(); /* a ring that was closed a moment ago may hold the memory that this one needs */
	if (esk_os_free_bytes(SHM_DIRECTORY) >= r->options.ring_bytes + SHM_SPARE_BYTES)
		status = try_ring(r, SHM_DIRECTORY, err);
	if (status != ESK_OK) { /* a small or missing /dev/shm: a mapped disk file works, with stalls during
				   write-back */
		if (snprintf(spool, sizeof spool, "%s/spool", r->directory) >= (int)sizeof spool ||
			realpath(spool, real) == NULL)
			return esk_fail_errno(err, errno, "cannot find %s", spool);
		esk_log(&r->logger, ESK_LOG_WARNING,
			"run \"%s\": " SHM_DIRECTORY
			" has no room for a ring of %llu bytes; it is made in %s",
			r->name, (unsigned long long)r->options.ring_bytes, spool);
		status = try_ring(r, real, err);
	}
	if (status == ESK_OK)
		status = esk_ring_drain_begin(r->ring, err);
	return status;
}

esk_status esk_run_ring_find(esk_recorder *r, esk_error *err)
{
	esk_error why = {0};
	ssize_t size = readlink(r->link_path, r->ring_path, sizeof r->ring_path - 1);
	if (size < 0) {
		r->ring_path[0] = '\0';
		return errno == ENOENT ? ESK_OK : esk_fail_errno(err, errno, "cannot read %s", r->link_path);
	}
	r->ring_path[size] = '\0';
	if (!esk_os_exists(r->ring_path)) {
		esk_log(&r->logger, ESK_LOG_WARNING,
			"run \"%s\": its ring %s is gone (a restart of the machine?): rows that were not "
			"committed are lost",
			r->name, r->ring_path);
		return ESK_OK;
	}
	esk_status status = esk_ring_attach(r->ring_path, &r->ring, &why);
	if (status == ESK_OK)
		status = esk_ring_drain_begin(r->ring, &why);
	if (status == ESK_EBUSY || status == ESK_EACCES || status == ESK_ENOMEM || status == ESK_EVERSION) {
		if (err != NULL)
			*err = why;
		return status;
	}
	if (status != ESK_OK) {
		esk_log(&r->logger, ESK_LOG_ERROR, "run \"%s\": its ring cannot be read: %s", r->name,
			why.message);
		esk_ring_detach(r->ring);
		r->ring = NULL;
	}
	return ESK_OK;
}

bool esk_run_ring_is_linked(const esk_recorder *r)
{
	char target[ESK_PATH_BYTES];
	return readlink(r->link_path, target, sizeof target) >= 0;
}

esk_status esk_run_ring_remove(esk_recorder *r, esk_error *err)
{
	esk_status status = r->ring_path[0] != '\0' ? esk_os_unlink(r->os, r->ring_path, err) : ESK_OK;
	return status == ESK_OK ? esk_os_unlink(r->os, r->link_path, err) : status;
}

esk_status esk_run_ring_discard(esk_recorder *r, esk_error *err)
{
	ssize_t size = readlink(r->link_path, r->ring_path, sizeof r->ring_path - 1);
	r->ring_path[size > 0 ? size : 0] = '\0';
	return esk_run_ring_remove(r, err);
}
