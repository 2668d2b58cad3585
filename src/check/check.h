/* Verify, repair, reindex: works on files that no recorder has. What esker/check.h promises is implemented in
 * this folder; this header is what its files share. May include: everything but api. */
#ifndef ESK_CHECK_H
#define ESK_CHECK_H

#include "store/store.h"
#include <esker/check.h>

/* Counts, reports, progress: one walk over a store. */
typedef struct esk_walk {
	const esk_check_options *options;
	esk_check_report report;
	const char *run;
	const char *file;
	uint64_t total_bytes;
	uint64_t last_progress_ns;
	bool cancelled;
} esk_walk;

esk_check_options esk_check_defaults(const esk_check_options *options);
/* A trial of the files that `options` are about, unless it is waived. */
esk_status esk_check_try(
	const char *store_path, const esk_check_options *options, esk_h5_trial **ret_trial, esk_error *err);
void esk_walk_find(esk_walk *walk, const char *dataset, uint64_t first_row, uint64_t row_count,
	esk_status code, const char *format, ...) ESK_PRINTF(6, 7);
/* False once the caller cancelled. */
bool esk_walk_progress(esk_walk *walk, uint64_t more_bytes);

/* Files of `run` that the catalogue names and a scan does not have: what they are cannot be read. Calls visit
 * for each; stops at its first error. */
esk_status esk_visit_unread(esk_store *store, const char *run, const esk_index_file *files, size_t count,
	esk_status (*visit)(void *arg, const char *name, esk_error *err), void *arg, esk_error *err);

/* Checks every chunk of every dataset of an open file: damage is found, not failed. `bad` (may be NULL) is
 * called for each damaged chunk. */
typedef void (*esk_bad_chunk_fn)(void *arg, esk_h5_dataset *dataset, uint64_t chunk);
esk_status esk_verify_file(
	esk_walk *walk, esk_pool *pool, esk_h5 *file, esk_bad_chunk_fn bad, void *arg, esk_error *err);

#endif
