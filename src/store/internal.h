/* The handles of src/store. */
#ifndef ESK_STORE_INTERNAL_H
#define ESK_STORE_INTERNAL_H

#include "store/store.h"

#include <pthread.h>

#define ESK_RESOLVE_READERS 16 /* runs that esk_store_resolve keeps open */

typedef struct esk_sealer esk_sealer;

struct esk_run {
	esk_store *store;
	esk_recorder *recorder;
	int64_t id;            /* in the catalogue; 0 until it was put. Sink only */
	uint32_t streams_put;  /* sink only */
	esk_index_spec *specs; /* of the streams, as far as they are indexed; sink only */
	uint32_t spec_count;
	int64_t created_ns;
	uint64_t keep_segments; /* sealed; 0: all */
	esk_run *next;
	esk_sealer *sealer; /* of a run that encrypts; else NULL */
};

struct esk_store {
	char path[ESK_PATH_BYTES];
	esk_store_environment environment;
	esk_logger logger;
	esk_pool *pool;
	bool read_only;
	uint64_t id;
	pthread_mutex_t lock; /* of everything below */
	esk_catalog *catalog;
	uint64_t fork_count;     /* when catalog was opened */
	esk_store *next_watched; /* fork.c's */
	esk_key *key; /* that of esk_store_options, or that a run found in the environment; else NULL */
	esk_run *runs;
	esk_reader *readers[ESK_RESOLVE_READERS]; /* most recently used first */
};

/* Puts gaps, as a segment keeps them, into the catalogue. */
esk_status esk_store_put_gaps(
	esk_catalog *catalog, int64_t id, const esk_gap *gaps, size_t count, esk_error *err);

/* ESK_OK if `json` is an object. */
esk_status esk_metadata_check(const char *json, esk_error *err);

/* Reads a JSON object of single values as attributes of the group `object` ("/": the root). *ret_attributes
 * is to free with esk_attributes_free. */
esk_status esk_attributes_parse(const char *object, const char *json, esk_attribute **ret_attributes,
	size_t *ret_count, esk_error *err);

/* Single values at the root of `file`, without Esker's own and the metadata, as a JSON object to free. */
esk_status esk_attributes_read(esk_h5 *file, char **ret_json, esk_error *err);

/* Attributes as a JSON object to free. */
esk_status esk_attributes_json(
	const esk_attribute *attributes, size_t count, char **ret_json, esk_error *err);
/* Single values of a group, without Esker's own, as a JSON object to free. ESK_ENOTFOUND. */
esk_status esk_attributes_read_group(esk_h5 *file, const char *path, char **ret_json, esk_error *err);

/* ---- prune.c ---- */
/* Deletes the files of segments that the catalogue has as pruned. What cannot be deleted now is the next
 * time. */
void esk_store_finish_pruning(esk_store *store);
/* ESK_ENOTFOUND where a row lies before the first one that is kept, or in a file that was taken away. */
esk_status esk_dataset_fail_gone(const esk_dataset *dataset, uint64_t row, esk_error *err);

/* ---- items.c ---- */
/* Puts what a commit made durable of items; *ret_behind where the catalogue lacks some before those. */
esk_status esk_store_put_items(esk_catalog *catalog, int64_t run_id, const esk_commit_state *state,
	bool *ret_behind, esk_error *err);

/* One segment of a reader. */
typedef struct esk_reader_segment {
	uint64_t number;
	char path[ESK_PATH_BYTES];
	bool sealed;
	bool shared; /* another list has the file too, and closes it */
	esk_h5 *file;
} esk_reader_segment;

/* Rows [first_row, first_row + rows) of a dataset are in one segment. */
typedef struct esk_dataset_part {
	uint64_t first_row;
	uint64_t rows;
	esk_h5_dataset *data;
	esk_h5_dataset *valid; /* NULL: not nullable */
} esk_dataset_part;

/* Where the rows of a dataset are; in the order of the segments. */
typedef struct esk_parts {
	esk_dataset_part *items;
	size_t count;
	uint64_t rows; /* of all segments */
} esk_parts;

struct esk_dataset {
	esk_reader *reader;
	char path[2 * ESK_MAX_NAME + ESK_MAX_PATH];
	esk_column column;
	bool scalar;
	bool readable;
	uint64_t cell_bytes;
	esk_parts parts; /* under the reader's lock */
};

/* ---- tether.c: for what may outlive its reader ---- */
typedef struct esk_tether esk_tether;
esk_status esk_tether_make(esk_reader *reader, esk_error *err);
/* The reader is being closed: waits for who uses it by the tether. */
void esk_tether_cut(esk_reader *reader);
esk_tether *esk_tether_hold(esk_reader *reader);
void esk_tether_drop(esk_tether *tether); /* NULL is allowed */
/* ESK_ECLOSED where the reader is gone; else it stays until unuse. */
esk_status esk_tether_use(esk_tether *tether, esk_error *err);
void esk_tether_unuse(esk_tether *tether);

struct esk_reader {
	esk_tether *tether;
	esk_store *store; /* NULL: one file */
	const esk_os *os;
	esk_pool *pool;
	bool owns_pool;
	char name[ESK_MAX_NAME + 1];
	char path[ESK_PATH_BYTES]; /* of the one file */
	uint64_t references;       /* of the store's resolve cache; under the store's lock */
	esk_reader *next_watched;  /* fork.c's */
	pthread_mutex_t loading;   /* held by who makes a new view: only he changes what is under `lock` */
	pthread_rwlock_t lock; /* of everything below: reads share it, the end of a refresh has it alone */
	bool inherited;        /* in a child: the files are its parent's, to be opened again */
	uint64_t loads;        /* how often it was loaded */
	esk_reader_segment *segments;
	size_t segment_count;
	esk_dataset **datasets; /* never shrinks while open: datasets are borrowed */
	size_t dataset_count;
	esk_dataset **alone; /* found by path, each in one segment: arrays of items, texts; never shrinks */
	size_t alone_count;
	char *metadata; /* JSON, as is the next */
	char *attributes;
};

/* ---- reader.c ---- */
typedef esk_status (*esk_reader_fn)(void *arg, esk_error *err);
/* Calls `read` with the reader's state held; where that says ESK_EBUSY, because the writer moved what it was
 * to read, refreshes and calls it again. */
esk_status esk_reader_read(esk_reader *reader, esk_reader_fn read, void *arg, esk_error *err);
/* Holds the reader's state until unshare. In a child whose files cannot be opened it is what its parent saw.
 */
void esk_reader_share(esk_reader *reader);
void esk_reader_unshare(esk_reader *reader);

/* ---- dataset.c: the second and third under the reader's lock ---- */
esk_status esk_dataset_check_readable(const esk_dataset *dataset, bool strings, esk_error *err);
esk_status esk_dataset_out_of_range(const esk_dataset *dataset, uint64_t row, esk_error *err);
/* ESK_ENOTFOUND where a row is in a file that was taken away: it leaves a hole between those that are there.
 */
esk_status esk_dataset_check_covered(
	const esk_dataset *dataset, uint64_t row, uint64_t count, esk_error *err);
/* Reads pieces of rows of the dataset. */
esk_status esk_dataset_read_pieces(
	esk_dataset *dataset, const esk_h5_rows *pieces, size_t piece_count, esk_error *err);

/* ---- scan.c: names of files ---- */
/* The run that a file belongs to as far as its name tells: a sealed segment that cannot be read is its run's
 * all the same. */
void esk_run_of_name(const char *name, char ret_run[ESK_MAX_NAME + 1]);
/* Names of the files that may be `run`'s (NULL: of all), in order; *ret_names is to free. */
esk_status esk_index_names(const char *directory, const char *run, char (**ret_names)[ESK_FILE_NAME_BYTES],
	size_t *ret_count, esk_error *err);
/* A trial of files in the directory. */
esk_status esk_index_try_names(const char *directory, char (*names)[ESK_FILE_NAME_BYTES], size_t count,
	esk_h5_trial **ret_trial, esk_error *err);

/* ---- seal.c: encryption at rest ---- */
/* Marks the run, whose recorder is open, as one whose sealed segments are encrypted with store->key, and
 * starts what does it. */
esk_status esk_sealer_start(esk_store *store, const char *run, esk_sealer **ret_sealer, esk_error *err);
/* The catalogue knows a newly sealed segment. */
void esk_sealer_wake(esk_sealer *sealer);
/* Ends its thread, which finishes the file that it is at. */
void esk_sealer_stop(esk_sealer *sealer);
/* After stop, and once the recorder is closed in peace: seals the last segment and encrypts what is left. */
esk_status esk_sealer_finish(esk_sealer *sealer, esk_error *err);
void esk_sealer_free(esk_sealer *sealer); /* NULL is allowed */
/* Goes on where a crash ended it, in every run of the store that nobody records. Failures are logged. */
void esk_seal_resume(esk_store *store);

/* ---- fork.c ---- */
/* Until unwatch, a child finds the locks free, and a reader knows that it was inherited. */
void esk_store_watch(esk_store *store);
void esk_store_unwatch(esk_store *store);
void esk_reader_watch(esk_reader *reader);
void esk_reader_unwatch(esk_reader *reader);
/* Between the two no fork happens: for a few instructions. */
void esk_fork_hold_off(void);
void esk_fork_allow(void);

#endif
