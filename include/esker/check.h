/* Verify, repair, reindex: works on files with no recorder running on them.
 *
 * `options` may be NULL. *ret_report is filled when a call succeeds. Each call blocks its thread until it is
 * done, and decodes on `options.threads` others; callbacks come from the calling thread. Safe from any
 * thread. Errors of all: ESK_ENOTFOUND (no such run), ESK_ECLOSED (cancelled), ESK_EIO, ESK_ENOMEM.
 *
 * libhdf5 does not survive every damage. So each file is tried out first in a child process that these calls
 * fork and wait for: one for all files, which reads their metadata, and one more for each file that it dies
 * of. Such a file is a finding with ESK_ECORRUPT, and is not opened. Opening a store does the same with files
 * that its catalogue does not know. Where no process can be forked, or each that is stands still, files are
 * opened untried. */
#ifndef ESKER_CHECK_H
#define ESKER_CHECK_H

#include <esker/store.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct esk_finding {
	const char *run; /* all borrowed during the call */
	const char *file;
	const char *dataset; /* NULL where the finding is about the whole file */
	uint64_t first_row;
	uint64_t row_count;
	esk_status code;
	const char *message; /* what, expected, found */
} esk_finding;

typedef struct esk_check_options {
	size_t struct_size;
	const char *run;                                        /* NULL for all */
	uint32_t threads;                                       /* 0: one per core */
	void (*finding)(void *arg, const esk_finding *finding); /* called for each fault; may be NULL */
	/* Called about ten times a second from the calling thread; returning false cancels: the call then
	 * fails with ESK_ECLOSED. May be NULL. */
	bool (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes);
	void *arg;
	bool untried; /* no process is forked: the caller lives with the end of its own, or has one for this
		       */
} esk_check_options;
#define ESK_CHECK_OPTIONS_INIT                           \
	{                                                \
		.struct_size = sizeof(esk_check_options) \
	}

typedef struct esk_check_report {
	uint64_t runs;
	uint64_t files;
	uint64_t datasets;
	uint64_t chunks;
	uint64_t bytes; /* stored bytes read */
	uint64_t findings;
	uint64_t salvaged_rows; /* repair: rows kept */
	uint64_t gap_rows;      /* repair: rows recorded as gaps */
} esk_check_report;

/* Reads and decodes every chunk of every committed file and checks checksums, the counts in the file and in
 * the catalogue, and that the columns of a stream have the same number of rows. Changes nothing. Returns
 * ESK_OK when the check was carried out (see findings), an error only when it could not be. */
ESK_API esk_status esk_store_verify(
	esk_store *store, const esk_check_options *options, esk_check_report *ret_report, esk_error *err);

/* Salvages damaged files: copies every readable chunk into a new file, goes on past each bad chunk and
 * records it as a gap, verifies the new file, and only then replaces the old one, which is kept beside it as
 * <file>.damaged. Files without damage are left alone, and so are runs that somebody records. The name has a
 * file at every moment; what a repair that was killed left is finished or removed by the next one, and when
 * the store is opened for writing. Errors besides: ESK_EACCES (the store is open for reading only),
 * ESK_ENOSPC (the file is as it was). */
ESK_API esk_status esk_store_repair(
	esk_store *store, const esk_check_options *options, esk_check_report *ret_report, esk_error *err);

/* Rebuilds the catalogue at `path` from the HDF5 files alone; the old one is kept as esker.db.old until the
 * new one is complete. Errors besides: ESK_EBUSY (the store is open elsewhere), ESK_EACCES, ESK_ENOSPC. */
ESK_API esk_status esk_store_reindex(
	const char *path, const esk_check_options *options, esk_check_report *ret_report, esk_error *err);

#ifdef __cplusplus
}
#endif
#endif
