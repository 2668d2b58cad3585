/* Stores: the directory, its catalogue, its runs, and reading them.
 *
 *   <store>/esker.db             catalogue
 *   <store>/<run>.h5             live or last segment of a run
 *   <store>/<run>_<stamp>.h5     sealed segments
 *   <store>/<run>_<stamp>.h5x    and encrypted ones
 *   <store>/spool/               locks, links to rings, segments and repaired files in the making
 *
 * May include: everything below src/check. The public handles esk_store, esk_run, esk_reader and esk_dataset
 * live here. */
#ifndef ESK_STORE_H
#define ESK_STORE_H

#include "catalog/catalog.h"
#include "h5/h5.h"
#include "record/record.h"
#include "vault/vault.h"
#include <esker/reader.h>
#include <esker/store.h>

/* What tests replace. */
typedef struct esk_store_environment {
	const esk_os *os;
	const char *sqlite_vfs; /* NULL: the default */
} esk_store_environment;

esk_status esk_store_create_in(const esk_store_environment *environment, const char *path, esk_error *err);
esk_status esk_store_open_in(const esk_store_environment *environment, const char *path,
	const esk_store_options *options, esk_store **ret_store, esk_error *err);

/* Parts that check and api use. */
const esk_os *esk_store_os(const esk_store *store);
esk_pool *esk_store_pool(const esk_store *store);
const esk_logger *esk_store_logger(const esk_store *store);
uint64_t esk_store_id(const esk_store *store);
bool esk_store_is_read_only(const esk_store *store);
/* The catalogue connection of this process: in a forked child a new, read-only one. */
esk_status esk_store_catalog(esk_store *store, esk_catalog **ret_catalog, esk_error *err);
/* ESK_OK if a new catalogue, made and closed at `making`, is whole in that one file. Closing takes SQLite's
 * log into the database and removes it; where that failed, the log is left, and would not go with a new name.
 */
esk_status esk_store_check_made(const char *making, esk_error *err);
void esk_store_catalog_path(const char *store_path, char ret_path[ESK_PATH_BYTES]);
/* A path in the store; false if it is too long. */
bool esk_store_file_path(const char *store_path, const char *file, char ret_path[ESK_PATH_BYTES]);

/* What a repair of `run` has in spool/ until it is done: the new file (with a journal while it is written);
 * where the file system knows no links, the copy of the old one; and, from before the new file takes its
 * name, a mark that the catalogue has to be told. */
#define ESK_SPOOL_REPAIR ".repair"
#define ESK_SPOOL_REPAIR_SEALING ".repair-sealing" /* the new file, while it is being encrypted */
#define ESK_SPOOL_DAMAGED ".damaged"
#define ESK_SPOOL_REPAIRED ".repaired"
/* False if the path is too long. */
bool esk_store_spool_path(
	const char *store_path, const char *run, const char *suffix, char ret_path[ESK_PATH_BYTES]);
/* Removes what a repair that died left there, but for the mark. The caller holds the run's lock. */
esk_status esk_store_clean_spool(const esk_os *os, const char *store_path, const char *run, esk_error *err);

/* ---- scan.c: what the files say ---- */

/* One HDF5 file of the directory. */
typedef struct esk_index_file {
	char name[ESK_FILE_NAME_BYTES];
	esk_segment_head head; /* foreign: run is the file's stem, the rest 0 */
	bool foreign;
	uint64_t bytes;
	char *metadata;
	esk_segment_stream *streams;
	size_t stream_count;
	esk_gap *gaps;
	size_t gap_count;
	uint64_t first_item; /* number in the run */
	uint64_t item_count;
	esk_status status; /* not ESK_OK: it could not be read, and `error` says why */
	bool untouchable;  /* for libhdf5 does not survive it, as a child process found out: not to be opened
			    */
	esk_error error;
} esk_index_file;

/* A trial (h5.h) of every file in the directory that may be `run`'s (NULL: of all). */
esk_status esk_index_try(const char *directory, const char *run, esk_h5_trial **ret_trial, esk_error *err);
/* One that tries no file, for who lives with a crash. */
esk_status esk_index_try_none(esk_h5_trial **ret_trial, esk_error *err);
/* Reads what the catalogue needs of every *.h5 in the directory whose run is `run` (NULL: all), ordered by
 * run and number, once `trial` says that it may be opened; NULL: one of its own. *ret_files is to free with
 * esk_index_free. */
esk_status esk_index_scan(const esk_os *os, const char *directory, const char *run, esk_h5_trial *trial,
	esk_index_file **ret_files, size_t *ret_count, esk_error *err);
void esk_index_free(esk_index_file *files, size_t count);
/* In a file that Esker did not write: the column's name, behind the group of the root that its stream is. */
const char *esk_foreign_column(const char *path);

/* ---- index.c: files -> catalogue ---- */

/* Where files are read from and what they say is put. */
typedef struct esk_index_target {
	const esk_os *os;
	esk_pool *pool;
	const esk_logger *logger;
	const char *directory;
	esk_catalog *catalog;
	esk_h5_trial *trial; /* that esk_index_run asks; may be NULL */
} esk_index_target;
/* Replaces what the catalogue says of the run whose files these are (all of one run), in one transaction, and
 * then fills the tables of its indexed streams in transactions of bounded size, from where they are, or from
 * the beginning with `rebuild`. Until that is done the run counts as being recorded, so that whoever opens
 * the store after a crash goes on. */
esk_status esk_index_put(const esk_index_target *target, const esk_index_file *files, size_t count,
	bool rebuild, esk_error *err);
/* Reads the run's files and replaces what the catalogue says of it; takes repair's mark away. Where a file
 * cannot be read at present (which is not damage) nothing changes, and *ret_told is false. The caller holds
 * the run's lock. */
esk_status esk_index_run(const esk_index_target *target, const char *run, bool *ret_told, esk_error *err);

/* ---- index_rows.c: rows of indexed streams, from the files to the catalogue ---- */

/* Puts rows of a stream that its table lacks, below `stop`, from the files that the catalogue knows; each
 * batch is a transaction. */
esk_status esk_index_fill(const esk_index_target *target, int64_t run_id, uint32_t stream,
	const char *stream_name, const esk_column *columns, const esk_index_spec *spec, uint64_t stop,
	esk_error *err);
/* Puts the run's items below number `stop` that the catalogue lacks, from the files that it knows; in
 * transactions of bounded size. */
esk_status esk_index_fill_items(
	const esk_index_target *target, int64_t run_id, uint64_t stop, esk_error *err);
/* After opening a store: recovers runs that nobody records, and puts files that the catalogue does not know.
 */
esk_status esk_store_reconcile(esk_store *store, esk_error *err);

#endif
