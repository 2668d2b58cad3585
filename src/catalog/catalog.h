/* The catalogue: an index over the files, in SQLite, that can be rebuilt from them.
 *
 * No SQLite type appears here, so that a second backend fits behind it. SQL lives in sql/ (numbered
 * migrations). WAL mode, synchronous FULL, busy timeout 10 s: several processes may write. Times are int64
 * nanoseconds since the Unix epoch. One esk_catalog is one connection with its own mutex: safe from several
 * threads. After fork a child must not use it: it gets ESK_ECLOSED (readers open their own, which works at
 * once). Nobody may open and close the database file by other means in a process that has a catalogue open:
 * POSIX drops the process's locks on it with the first descriptor closed. May include: base, os, model. */
#ifndef ESK_CATALOG_H
#define ESK_CATALOG_H

#include "model/model.h"
#include <esker/query.h>

typedef struct esk_catalog esk_catalog;

typedef enum esk_catalog_mode { ESK_CATALOG_CREATE, ESK_CATALOG_WRITE, ESK_CATALOG_READ } esk_catalog_mode;

/* Opens (and migrates, when writing) the database file. `vfs` names a SQLite VFS for tests; NULL for the
 * default. ESK_ENOTFOUND, ESK_EEXIST, ESK_EVERSION (made by a newer Esker), ESK_ECORRUPT (says: esker
 * reindex), ESK_EIO. */
esk_status esk_catalog_open(
	const char *path, esk_catalog_mode mode, const char *vfs, esk_catalog **ret_catalog, esk_error *err);
void esk_catalog_close(esk_catalog *catalog); /* NULL is allowed */

/* Groups the calls between into one transaction (recursive use is an error). Rollback after a failure: commit
 * refuses where a writing call between failed. A commit that fails has rolled back. Other threads wait from
 * begin to commit. */
esk_status esk_catalog_begin(esk_catalog *catalog, esk_error *err);
esk_status esk_catalog_commit(esk_catalog *catalog, esk_error *err);
void esk_catalog_rollback(esk_catalog *catalog);

/* Key-value facts about the store: "store_id", "format", …. */
esk_status esk_catalog_set_fact(esk_catalog *catalog, const char *key, const char *value, esk_error *err);
/* *ret_value is malloc'ed; ESK_ENOTFOUND. */
esk_status esk_catalog_get_fact(esk_catalog *catalog, const char *key, char **ret_value, esk_error *err);

typedef enum esk_run_state { ESK_RUN_RECORDING = 0, ESK_RUN_FINISHED = 1, ESK_RUN_FOREIGN = 2 } esk_run_state;

typedef struct esk_run_record {
	int64_t id; /* 0 until stored */
	char name[ESK_MAX_NAME + 1];
	esk_run_state state;
	int64_t created_ns;
	int64_t updated_ns;
	uint64_t rows;     /* committed, all streams */
	uint64_t commit;   /* number of the last one */
	uint64_t sequence; /* ring sequence committed */
	uint64_t ring_id;  /* stream id of its ring; 0: none */
	int64_t pid;       /* recorder */
	uint64_t pid_start;
	char *metadata; /* JSON object or NULL; owned by the record: esk_run_record_clear */
} esk_run_record;
void esk_run_record_clear(esk_run_record *record);

/* Inserts or updates by name; sets record->id. The top-level scalar members of the metadata object are
 * mirrored in the table `metadata` (run_id, key, value) for queries. NULL metadata leaves what is stored.
 * ESK_EINVAL where it is no JSON object. */
esk_status esk_catalog_put_run(esk_catalog *catalog, esk_run_record *record, esk_error *err);
esk_status esk_catalog_get_run(
	esk_catalog *catalog, const char *name, esk_run_record *ret_record, esk_error *err);
/* Calls visit for each run in order of creation; *record is borrowed during the call. */
esk_status esk_catalog_visit_runs(esk_catalog *catalog,
	esk_status (*visit)(void *arg, const esk_run_record *record, esk_error *err), void *arg,
	esk_error *err);
/* Removes a run and all that belongs to it from the catalogue (not its files). */
esk_status esk_catalog_delete_run(esk_catalog *catalog, const char *name, esk_error *err);

/* Removes segments, streams and gaps of a run; the run itself and its rows in indexed tables stay. */
esk_status esk_catalog_clear_run(esk_catalog *catalog, int64_t run_id, esk_error *err);
/* Sets the state of a run that is put as being recorded by nobody (pid 0), if it still is. */
esk_status esk_catalog_finish_run(esk_catalog *catalog, int64_t run_id, esk_run_state state, esk_error *err);

typedef struct esk_segment_record {
	uint64_t number;              /* 0, 1, … in the run */
	char file[ESK_MAX_NAME + 48]; /* file name in the store's directory */
	bool sealed;
	int64_t created_ns;
	int64_t sealed_ns;
	uint64_t bytes;
} esk_segment_record;
esk_status esk_catalog_put_segment(
	esk_catalog *catalog, int64_t run_id, const esk_segment_record *segment, esk_error *err);
/* *ret_segments is malloc'ed, in order of number. */
esk_status esk_catalog_get_segments(esk_catalog *catalog, int64_t run_id, esk_segment_record **ret_segments,
	size_t *ret_count, esk_error *err);

/* Segments beyond the `keep` newest sealed ones are to be deleted: from here on they, and what extents have
 * of them, are not among what is got. */
esk_status esk_catalog_prune(esk_catalog *catalog, int64_t run_id, uint64_t keep, esk_error *err);
typedef struct esk_pruned_record {
	int64_t run_id;
	uint64_t number;
	char file[ESK_MAX_NAME + 48];
} esk_pruned_record;
/* Those of all runs whose files are still to be deleted. *ret_segments is malloc'ed. */
esk_status esk_catalog_get_pruned(
	esk_catalog *catalog, esk_pruned_record **ret_segments, size_t *ret_count, esk_error *err);
/* The file of a pruned segment is gone. */
esk_status esk_catalog_put_gone(esk_catalog *catalog, int64_t run_id, uint64_t number, esk_error *err);

/* A stream and its columns (group = its name, "/" for the root). */
esk_status esk_catalog_put_stream(esk_catalog *catalog, int64_t run_id, uint32_t stream, const char *name,
	const esk_column *columns, size_t column_count, esk_error *err);
/* Rows of a stream within one segment: rows [first_row, first_row + rows) of the stream. ESK_ENOTFOUND unless
 * the stream and the segment were put before. */
esk_status esk_catalog_put_extent(esk_catalog *catalog, int64_t run_id, uint32_t stream, uint64_t segment,
	uint64_t first_row, uint64_t rows, esk_error *err);

typedef struct esk_extent_record {
	uint32_t stream;
	char stream_name[ESK_MAX_NAME + 1];
	uint64_t segment;
	uint64_t first_row;
	uint64_t rows;
} esk_extent_record;
/* *ret_extents is malloc'ed, ordered by stream, segment. */
esk_status esk_catalog_get_extents(esk_catalog *catalog, int64_t run_id, esk_extent_record **ret_extents,
	size_t *ret_count, esk_error *err);

typedef enum esk_gap_cause {
	ESK_GAP_OVERWRITTEN = 0,
	ESK_GAP_DAMAGED = 1,
	ESK_GAP_ABANDONED = 2
} esk_gap_cause;
typedef struct esk_gap_record {
	int64_t stream;   /* -1: not known (records of a lossy ring) */
	uint64_t row;     /* before this row */
	uint64_t records; /* ring records lost; 0 where rows are counted */
	uint64_t rows;    /* rows lost (damaged, abandoned: rows that read as missing); 0 if not known */
	uint64_t bytes;
	uint64_t first_sequence;
	uint64_t last_sequence;
	int64_t time_ns;
	esk_gap_cause cause;
} esk_gap_record;
/* A gap that is known already (same stream, row, first_sequence, cause) is updated. */
esk_status esk_catalog_put_gap(
	esk_catalog *catalog, int64_t run_id, const esk_gap_record *gap, esk_error *err);

/* ---- items ---- */

typedef struct esk_item_record {
	uint64_t number; /* in the run, from 0 */
	const char *path;
	uint64_t segment;
	int64_t time_ns;
	uint64_t rows;
	const char *join;       /* "": none */
	const char *attributes; /* JSON object */
} esk_item_record;
/* Numbers [0, *ret_count) are those that the catalogue has of the run, as far as its files have them. */
esk_status esk_catalog_item_count(esk_catalog *catalog, int64_t run_id, uint64_t *ret_count, esk_error *err);
/* One of the same number is replaced. */
esk_status esk_catalog_put_item(
	esk_catalog *catalog, int64_t run_id, const esk_item_record *item, esk_error *err);
/* Takes away those from number `count` on. */
esk_status esk_catalog_cut_items(esk_catalog *catalog, int64_t run_id, uint64_t count, esk_error *err);

/* ---- indexed streams: rows of a stream in a table with the fields run_id and row ---- */

/* ESK_EINVAL, ESK_ETYPE unless the table is one whose key is (run_id, row), has the fields, and takes what
 * the columns hold. */
esk_status esk_catalog_index_check(esk_catalog *catalog, const esk_index_spec *spec, esk_error *err);
/* The rows [0, *ret_rows) are those that the table has of the run, as far as its files have them: rows are
 * put in their order. */
esk_status esk_catalog_index_rows(
	esk_catalog *catalog, const esk_index_spec *spec, int64_t run_id, uint64_t *ret_rows, esk_error *err);
/* Takes away rows from `rows` on. */
esk_status esk_catalog_index_cut(
	esk_catalog *catalog, const esk_index_spec *spec, int64_t run_id, uint64_t rows, esk_error *err);
/* Puts packed rows (esk_index_pack) from `first_row` on, which the table does not have. */
esk_status esk_catalog_index_put(esk_catalog *catalog, const esk_index_spec *spec, int64_t run_id,
	uint64_t first_row, uint64_t rows, const uint8_t *packed, size_t packed_bytes, esk_error *err);

/* ---- read-only SQL: implements esker/query.h over a connection of its own that can only read ---- */
esk_status esk_catalog_query(const char *path, const char *sql, esk_query **ret_query, esk_error *err);

const char *esk_catalog_engine_version(void);

#endif
