/* What this machine and this build offer: `esker doctor`. */
#include "check/check.h"
#include <esker/machine.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SYNC_TRIES 21
#define COPY_BYTES (32u << 20)
#define PASSES 5

static int compare_u64(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
	return (a > b) - (a < b);
}

static esk_status measure_sync(const char *directory, uint64_t *ret_ns, esk_error *err)
{
	const esk_os *os = esk_os_posix();
	char path[ESK_PATH_BYTES];
	uint64_t times[SYNC_TRIES];
	static const char page[4096];
	int fd;
	if (snprintf(path, sizeof path, "%s/.esker-doctor-%d", directory, (int)getpid()) >= (int)sizeof path)
		return esk_fail(err, ESK_EINVAL, "path too long: %.60s...", directory);
	esk_status status = esk_os_open(os, path, O_RDWR | O_CREAT | O_EXCL, 0600, &fd, err);
	if (status != ESK_OK)
		return status;
	for (size_t i = 0; i < SYNC_TRIES && status == ESK_OK; i++) {
		uint64_t start = esk_monotonic_ns();
		status = esk_os_write(os, fd, path, page, sizeof page, i * sizeof page, err);
		if (status == ESK_OK)
			status = esk_os_sync(os, fd, path, err);
		times[i] = esk_monotonic_ns() - start;
	}
	os->close(os, fd);
	esk_os_unlink(os, path, NULL);
	if (status == ESK_OK) {
		qsort(times, SYNC_TRIES, sizeof *times, compare_u64);
		*ret_ns = times[SYNC_TRIES / 2];
	}
	return status;
}

/* Best of a few passes: the machine may be busy with other things. */
static esk_status measure_copy(double *ret_bytes_per_s, esk_error *err)
{
	char *from = malloc(COPY_BYTES), *to = malloc(COPY_BYTES);
	uint64_t best = UINT64_MAX;
	if (from == NULL || to == NULL) {
		free(from);
		free(to);
		return esk_fail_memory(err, COPY_BYTES, "a copy");
	}
	memset(from, 1, COPY_BYTES);
	memset(to, 2, COPY_BYTES);
	for (int i = 0; i < PASSES; i++) {
		uint64_t start = esk_monotonic_ns();
		memcpy(to, from, COPY_BYTES);
		__asm__ volatile("" : : "r"(to) : "memory");
		best = esk_min_u64(best, esk_monotonic_ns() - start);
	}
	*ret_bytes_per_s = COPY_BYTES / (best / 1e9);
	free(from);
	free(to);
	return ESK_OK;
}

/* Bytes that repeat like a picture does: runs, with a little noise. */
static void fill_mixed(uint8_t *bytes, size_t size)
{
	uint32_t seed = 1;
	for (size_t i = 0; i < size; i++) {
		if (i % 64 == 0)
			seed = seed * 1664525u + 1013904223u;
		bytes[i] = (uint8_t)(seed >> 24);
	}
}

static esk_status measure_deflate(double *ret_bytes_per_s, esk_error *err)
{
	esk_pipeline pipeline;
	esk_column column = {.name = "x", .dtype = {ESK_U8, 1}, .rank = 1, .shape = {ESK_CHUNK_TARGET_BYTES}};
	esk_status status = esk_pipeline_build("gzip:1", &column, 1, &pipeline, err);
	if (status != ESK_OK)
		return status;
	size_t bound = esk_pipeline_bound(&pipeline), size;
	uint8_t *bytes = malloc(ESK_CHUNK_TARGET_BYTES), *out = malloc(bound);
	esk_scratch *scratch = esk_scratch_create();
	uint64_t best = UINT64_MAX;
	uint32_t mask;
	if (bytes == NULL || out == NULL || scratch == NULL) {
		status = esk_fail_memory(err, bound, "a chunk");
		goto scratch;
	}
	fill_mixed(bytes, ESK_CHUNK_TARGET_BYTES);
	for (int i = 0; i < 4 * PASSES && status == ESK_OK; i++) {
		esk_span span = {bytes, ESK_CHUNK_TARGET_BYTES};
		uint64_t start = esk_monotonic_ns();
		status = esk_pipeline_encode(&pipeline, scratch, &span, 1, out, bound, &size, &mask, err);
		best = esk_min_u64(best, esk_monotonic_ns() - start);
	}
	*ret_bytes_per_s = ESK_CHUNK_TARGET_BYTES / (best / 1e9);
scratch:
	esk_scratch_destroy(scratch);
	free(bytes);
	free(out);
	return status;
}

esk_status esk_machine_inspect(const char *directory, esk_machine *ret_machine, esk_error *err)
{
	esk_machine machine = {.cores = esk_os_cores()};
	struct statvfs shm;
	snprintf(machine.simd, sizeof machine.simd, "%s", esk_codec_simd());
	snprintf(machine.hdf5_version, sizeof machine.hdf5_version, "%s", esk_h5_version());
	snprintf(machine.sqlite_version, sizeof machine.sqlite_version, "%s", esk_catalog_engine_version());
	snprintf(machine.plugin_path, sizeof machine.plugin_path, "%s", esk_h5_plugin_path());
	machine.memory_bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	if (statvfs("/dev/shm", &shm) == 0) {
		machine.shm_free_bytes = (uint64_t)shm.f_bavail * shm.f_frsize;
		machine.shm_total_bytes = (uint64_t)shm.f_blocks * shm.f_frsize;
	}
	esk_status status = measure_sync(directory, &machine.fsync_median_ns, err);
	if (status == ESK_OK)
		status = measure_copy(&machine.memcpy_bytes_per_s, err);
	if (status == ESK_OK)
		status = measure_deflate(&machine.deflate_bytes_per_s, err);
	if (status == ESK_OK)
		esk_struct_give(ret_machine, &machine, sizeof machine);
	return status;
}
