/* What this machine and this build offer. */
#ifndef ESKER_MACHINE_H
#define ESKER_MACHINE_H

#include <esker/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct esk_machine {
	size_t struct_size;
	uint32_t cores;
	char simd[64]; /* instruction set that the shuffle uses at run time: "avx2", "sse2", … */
	char hdf5_version[32];
	char sqlite_version[32];
	char plugin_path[512]; /* where libhdf5 looks for filter plugins */
	uint64_t memory_bytes;
	uint64_t shm_free_bytes; /* in /dev/shm; 0 where there is none */
	uint64_t shm_total_bytes;
	uint64_t fsync_median_ns; /* fdatasync of 4 KiB in the directory asked about */
	double memcpy_bytes_per_s;
	double deflate_bytes_per_s; /* gzip:1 of this build on one core, mixed bytes */
} esk_machine;

/* Looks at the machine, and measures in `directory` (writes and removes one small file there). Takes under a
 * second. Fills *ret_machine (set its struct_size first). Any thread. Errors: ESK_ENOTFOUND, ESK_EACCES,
 * ESK_ENOSPC, ESK_EIO (the directory), ESK_ENOMEM. */
ESK_API esk_status esk_machine_inspect(const char *directory, esk_machine *ret_machine, esk_error *err);

/* The library's version, "0.1.0". Static storage. */
ESK_API const char *esk_version(void);

#ifdef __cplusplus
}
#endif
#endif
