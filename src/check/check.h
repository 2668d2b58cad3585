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
void esk_walk_find(esk_walk *walk, const char *dataset, uint64_t first_row, uint64_t row_count,
	esk_status code, const char *format, ...) ESK_PRINTF(6, 7);
/* False once the caller cancelled. */
bool esk_walk_progress(esk_walk *walk, uint64_t more_bytes);

/* Checks every chunk of every dataset of an open file: damage is found, not failed. `bad` (may be NULL) is
 * called for each damaged chunk. */
typedef void (*esk_bad_chunk_fn)(void *arg, esk_h5_dataset *dataset, uint64_t chunk);
/* The rows that are worth reading of a dataset that is read by rows: all, or those of the chunks that are
 * stored where its dimensions claim far more than the file holds. */
typedef struct esk_row_walk {
	const esk_h5_info *info;
	esk_h5_chunk_list chunks; /* fault: as esk_h5_list_chunks says */
	uint64_t next_chunk;
	uint64_t row; /* up to `end` is to come */
	uint64_t end;
} esk_row_walk;
esk_status esk_row_walk_begin(esk_row_walk *walk, esk_h5_dataset *dataset, esk_error *err);
/* The next rows, `most` at most; false at the end. */
bool esk_row_walk_next(esk_row_walk *walk, uint64_t most, uint64_t *ret_row, uint64_t *ret_count);
void esk_row_walk_end(esk_row_walk *walk);

esk_status esk_verify_file(
	esk_walk *walk, esk_pool *pool, esk_h5 *file, esk_bad_chunk_fn bad, void *arg, esk_error *err);

#endif
