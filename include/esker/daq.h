/* Instruments: rings that hardware loops write to, the background writer that drains them, and sessions.
 *
 * Three ways into a file, all on the same engine:
 *
 *   hardware loop ──▶ ring ──▶ writer ──▶ <run>.h5    esk_daq_write…, esk_daq_writer_…
 *   program       ──────────▶ session ──▶ <run>.h5    esk_session_…
 *   program ──▶ socket ──▶ daemon ──▶ session         daemon.h
 *
 * Caveats first:
 *  - A ring is shared memory: whoever may open it (its owner, mode 0600) may write into it. The writer checks
 *    every byte it takes from there; what does not hold is counted, logged and skipped.
 *  - A ring of default policy overwrites: a producer never waits, and what a slow writer misses is counted,
 *    catalogued as a gap and marked in the file.
 *  - A record is acknowledged when the call that wrote it returns: from there it survives the death of
 *    every process, in the ring, until the writer has it in the file. */
#ifndef ESKER_DAQ_H
#define ESKER_DAQ_H

#include <esker/arrow.h>
#include <esker/ring.h>
#include <esker/storage_config.h>
#include <esker/store.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- instruments' rings ------------------------------------------------------------------------------- */

/* Kinds of the records in an instrument's ring. */
#define ESK_DAQ_BYTES 1 /* bytes as they are; stream 0 */
#define ESK_DAQ_BATCH \
	2 /* dictionary messages and one record batch of Arrow's IPC format; stream: a declaration */

#define ESK_DAQ_MAX_INSTRUMENT 200                /* bytes of an instrument's name */
#define ESK_DAQ_DEFAULT_INSTRUMENT "measurements" /* where none is named */
#define ESK_DAQ_BYTES_STREAM "bytes"              /* where records of raw bytes land: its column `data` */
#define ESK_DAQ_RING_STREAM "ring"                /* the writer's own account; no instrument has this name */
#define ESK_DAQ_MAX_CAPACITY_MB (1u << 20)

/* Makes the ring file `path`, which must not exist, of `capacity_mb` MiB (1..ESK_DAQ_MAX_CAPACITY_MB), mode
 * 0600, with room for 32 consumers and 1 MiB of declarations. Policy: overwrite. `overrides` (NULL: none) may
 * say otherwise, field by field; its capacity is not looked at, and fields that are zero keep these defaults,
 * the policy excepted. The caller owns *ret_ring: esk_ring_detach. Errors: ESK_ERANGE (capacity), ESK_EEXIST,
 * ESK_ENOSPC, ESK_EACCES, ESK_EIO. */
ESK_API esk_status esk_daq_ring_create(const char *path, uint64_t capacity_mb,
	const esk_ring_options *overrides, esk_ring **ret_ring, esk_error *err);

/* The same as ring `name` of the store at `store_path`: STORE/spool/daq/NAME.ring, where the daemon finds it;
 * in /dev/shm behind a link of that name where that has room. Errors besides: ESK_EINVAL (name),
 * ESK_ENOTFOUND (no store). */
ESK_API esk_status esk_daq_ring_create_in(const char *store_path, const char *name, uint64_t capacity_mb,
	const esk_ring_options *overrides, esk_ring **ret_ring, esk_error *err);

/* Maps a ring that is there, for producing, reading, draining. Safe from several threads, in any number of
 * processes. Errors: ESK_ENOTFOUND, ESK_ECORRUPT (no ring, truncated, out of bounds), ESK_EVERSION,
 * ESK_EACCES. */
ESK_API esk_status esk_daq_ring_open(const char *path, esk_ring **ret_ring, esk_error *err);

/* The path of ring `name` of a store, into `buf`. Errors: ESK_EINVAL (name), ESK_ERANGE (`buf_bytes`). */
ESK_API esk_status esk_daq_ring_path(
	const char *store_path, const char *name, char *buf, size_t buf_bytes, esk_error *err);

/* Writes one record of raw bytes. Acknowledged on return; no system call while there is room or the policy
 * overwrites. Errors: ESK_ERANGE (larger than esk_ring_max_payload), by policy ESK_EFULL or ESK_ETIMEDOUT;
 * ESK_ECLOSED. */
ESK_API esk_status esk_daq_write(esk_ring *ring, const void *data, size_t size, esk_error *err);

/* Writes one record batch of an instrument (NULL: "measurements"): its schema is declared in the ring if it
 * was not, the batch is encoded straight into the record. For one batch; producers of many use a source. The
 * caller keeps schema and array. Errors: as esk_daq_write; ESK_EINVAL (instrument; arrays that contradict the
 * schema), ESK_ENOSPC (no room for the declaration), ESK_EUNSUPPORTED (a type that has no place in HDF5),
 * ESK_ENOMEM. */
ESK_API esk_status esk_daq_write_arrow(esk_ring *ring, const char *instrument,
	const struct ArrowSchema *schema, const struct ArrowArray *array, esk_error *err);

/* A producer of many batches of one schema: declared once. For one thread at a time; a ring may have any
 * number. */
typedef struct esk_daq_source esk_daq_source;

/* The schema is copied. The caller owns *ret_source, and closes it before the ring is detached. Errors: as
 * esk_daq_write_arrow. */
ESK_API esk_status esk_daq_source_open(esk_ring *ring, const char *instrument,
	const struct ArrowSchema *schema, esk_daq_source **ret_source, esk_error *err);
/* Writes one record batch, a struct array of the source's schema, which stays the caller's. Acknowledged on
 * return. Errors: as esk_daq_write; ESK_EINVAL (an array that contradicts the schema). */
ESK_API esk_status esk_daq_source_write(
	esk_daq_source *source, const struct ArrowArray *array, esk_error *err);
/* ESK_OK if arrays of `schema` may be written; else names the first column that differs, as
 * esk_arrow_same_schema. An array does not tell its types: ask where others made it. */
ESK_API esk_status esk_daq_source_check(
	const esk_daq_source *source, const struct ArrowSchema *schema, esk_error *err);
ESK_API void esk_daq_source_close(esk_daq_source *source); /* NULL is allowed */

/* What declaration `number` of a ring says (a record's `stream` is such a number): the instrument's name,
 * into ESK_DAQ_MAX_INSTRUMENT + 1 bytes, and the schema of its batches, which the caller releases. Errors:
 * ESK_ENOTFOUND, ESK_ECORRUPT (no instrument declared it), ESK_EUNSUPPORTED (a type), ESK_ENOMEM. */
ESK_API esk_status esk_daq_read_declaration(const esk_ring *ring, uint32_t number, char *ret_instrument,
	struct ArrowSchema *ret_schema, esk_error *err);

/* The record batch in the payload of one record of kind ESK_DAQ_BATCH, by its declaration; for live views:
 * schema and payload are copied and decoded each time. The caller releases *ret_array, which owns what it
 * points to. The payload may be anything. Errors: as above; ESK_ECORRUPT (the payload). */
ESK_API esk_status esk_daq_read_batch(const esk_ring *ring, uint32_t number, const void *payload, size_t size,
	struct ArrowArray *ret_array, esk_error *err);

/* A consistent copy of the payloads of all records that were not advanced over, oldest first, one after the
 * other. Producers write, and overwrite, meanwhile: a record is in the copy whole or not at all. *ret_data is
 * the caller's: esk_daq_snapshot_free. The first snapshot makes a consumer named "snapshot", which keeps the
 * tail where it is until esk_daq_advance_tail (a ring that overwrites goes on overwriting). Safe from any
 * thread and process: they share the place. Errors: ESK_ENOMEM, ESK_EFULL (no place for the consumer),
 * ESK_EBUSY (others kept reading for seconds). */
ESK_API esk_status esk_daq_read_snapshot(esk_ring *ring, void **ret_data, size_t *ret_size, esk_error *err);
ESK_API void esk_daq_snapshot_free(void *data); /* NULL is allowed */

/* Moves the place of the snapshots on by `bytes` of payload; what is inside a record then is kept, by the
 * ring, for the next snapshot. More than there is: to the end of what is there. Where records were
 * overwritten since the snapshot, their bytes count among those, the place is at the beginning of a record,
 * and part of one may be seen again. Errors: as esk_daq_read_snapshot. */
ESK_API esk_status esk_daq_advance_tail(esk_ring *ring, uint64_t bytes, esk_error *err);

/* ---- the background writer ---------------------------------------------------------------------------- */

/* Drains one ring into one run. It has a place of its own in the ring, under its consumer's name, so several
 * writers (with several names) take the same records into several runs. Every record lands exactly once,
 * whatever dies when: with the rows goes, in the same atomic append, how far the ring was taken. */
typedef struct esk_daq_writer esk_daq_writer;

/* A run keeps the layout that it began with: another is ESK_EEXIST. */
typedef enum esk_daq_layout {
	/* A stream per instrument: <instrument>/<column>, growing; and `ring/…`, the account. */
	ESK_DAQ_COLUMNS = 0,
	/* Each flush is a group <instrument>/batch_000001 with an array per column and attributes; virtual
	 * datasets <instrument>/all/<column> join them. */
	ESK_DAQ_BATCHES = 1
} esk_daq_layout;

typedef struct esk_daq_writer_options {
	size_t struct_size;
	esk_daq_layout layout;
	uint64_t flush_interval_ns; /* 0: 1 s */
	const char *codec;          /* default of its columns; NULL: "gzip:1" */
	const char *
		columns; /* per column codec and chunk rows, as esk_arrow_sink_options has them; NULL: none */
	const char *consumer;      /* its name in the ring; NULL: "hdf5" */
	bool lossy;                /* does not keep the ring's tail: what it misses is counted */
	uint64_t ring_bytes;       /* of the run's own ring; 0: 256 MiB */
	const char *metadata_json; /* of the run; NULL: none */
	const char *application;   /* root attribute `application`; NULL: "Esker" */
	uint64_t segment_bytes;    /* rotation, as esk_run_options */
	esk_period segment_period;
	uint64_t keep_segments;
	bool encrypt;
	const char *key_file; /* esk_daq_writer_open with `encrypt`: the key; NULL: from the environment */
	esk_log_fn log;       /* bad records, losses, full disks; NULL for silence */
	void *log_arg;
} esk_daq_writer_options;
#define ESK_DAQ_WRITER_OPTIONS_INIT                           \
	{                                                     \
		.struct_size = sizeof(esk_daq_writer_options) \
	}

/* Writes to `output_path`, "dir/experiment_data.h5": the store is its directory (made if it is none, and with
 * it the directory), the run its stem; a run of that name goes on where it was. `options` may be NULL. The
 * ring is borrowed until close. The caller owns *ret_writer. Errors: as esk_store_open, esk_run_open,
 * esk_consumer_open (ESK_EBUSY: a living writer has the name). */
ESK_API esk_status esk_daq_writer_open(const char *output_path, esk_ring *ring,
	const esk_daq_writer_options *options, esk_daq_writer **ret_writer, esk_error *err);

/* The same in a store that is open; closed before it. The caller owns *ret_writer. */
ESK_API esk_status esk_daq_writer_open_in(esk_store *store, const char *run, esk_ring *ring,
	const esk_daq_writer_options *options, esk_daq_writer **ret_writer, esk_error *err);

/* Starts a thread that flushes every interval, and earlier when a quarter of the ring is filled. It lives
 * until close: failures (a full disk) are kept in the statistics, and it tries again. Errors: ESK_ENOMEM,
 * ESK_EBUSY (started before). */
ESK_API esk_status esk_daq_writer_start(esk_daq_writer *writer, esk_error *err);

/* Takes what the ring holds now into the run, and commits it: for callers with a loop of their own.
 * Errors: ESK_ENOSPC, ESK_EIO, ESK_ETIMEDOUT: nothing is lost, records stay in the ring for the next step. */
ESK_API esk_status esk_daq_writer_step(esk_daq_writer *writer, esk_error *err);

/* Every record that was written to the ring before the call is in the file, or counted as lost, when this
 * returns. Safe from any thread, with or without a thread of the writer. Errors: as esk_daq_writer_step. */
ESK_API esk_status esk_daq_writer_flush(esk_daq_writer *writer, esk_error *err);

typedef struct esk_daq_writer_stats {
	size_t struct_size;
	/* Since the writer was opened: */
	uint64_t records;      /* taken from the ring into the run */
	uint64_t rows;         /* of instruments */
	uint64_t bytes;        /* payload of those records */
	uint64_t bad_records;  /* that could not be taken */
	uint64_t lost_records; /* overwritten before they were taken */
	uint64_t lost_bytes;   /* of the ring: payloads, headers, padding */
	uint64_t flushes;      /* that had something to take */
	/* Of the run, earlier sessions included: */
	uint64_t batches; /* groups (batches layout) or appends (columns layout) */
	/* At present: */
	uint64_t lag_bytes;    /* of the ring, written and not yet taken */
	int64_t last_flush_ns; /* time of the last successful flush; 0: none */
	esk_status status;     /* ESK_OK, or why the last flush failed, or commits fail at present */
	char error[256];       /* what it said; "" */
} esk_daq_writer_stats;

/* Fills `ret_stats` (set its struct_size first). Safe from any thread; never waits for the disk. */
ESK_API esk_status esk_daq_writer_get_stats(
	esk_daq_writer *writer, esk_daq_writer_stats *ret_stats, esk_error *err);

/* Groups or appends so far, earlier sessions included. Safe from any thread. */
ESK_API uint64_t esk_daq_writer_batch_count(esk_daq_writer *writer);

/* The run below, borrowed until close. */
ESK_API esk_run *esk_daq_writer_run(esk_daq_writer *writer);

/* Stops the thread, flushes, closes the run (and the store that esk_daq_writer_open opened) and frees the
 * handle; the place in the ring stays. The first error is returned; what could not be taken stays in the
 * ring. NULL is allowed. */
ESK_API esk_status esk_daq_writer_close(esk_daq_writer *writer, esk_error *err);

/* ---- session storage ---------------------------------------------------------------------------------- */

/* One run with a stream per instrument, for programs that hand over record batches:
 *
 *   /                 attributes created_at (ISO 8601), created_timestamp_ns, application, and the metadata
 *   /<instrument>/    attributes instrument_id, created_at, and the instrument's metadata
 *   /<instrument>/<column>   a growing dataset
 *   /<instrument>/schema     the Arrow schema as JSON, one text
 *
 * Safe from several threads. */
typedef struct esk_session esk_session;

typedef struct esk_session_options {
	size_t struct_size;
	const char
		*name; /* of a new run; NULL: daq_session_YYYYMMDD_HHMMSS (UTC), "_2" … where that is taken */
	const char *append_to;   /* go on with this run (a name, or the file's name); NULL: a new one */
	const char *application; /* root attribute; NULL: "Esker" */
	const char *codec;       /* NULL: "gzip:6" */
	const char *
		columns; /* per column codec and chunk rows, as esk_arrow_sink_options has them; NULL: none */
	uint64_t auto_flush_interval_ns; /* 0: by esk_session_flush alone, and when the ring fills */
	uint64_t ring_bytes;             /* 0: 256 MiB */
	esk_policy policy;               /* of the run's ring when it is full: ESK_BLOCK or ESK_REJECT */
	uint64_t block_timeout_ns;       /* 0: 30 s */
	const char *metadata_json;       /* an object, set as by esk_session_set_metadata_json; NULL: none */
	uint64_t segment_bytes;          /* rotation, as esk_run_options */
	esk_period segment_period;
	uint64_t keep_segments;
	bool encrypt;
} esk_session_options;
#define ESK_SESSION_OPTIONS_INIT                                                                     \
	{                                                                                            \
		.struct_size = sizeof(esk_session_options), .auto_flush_interval_ns = 30000000000ull \
	}

/* Opens a session as `config` says (storage_config.h; NULL: esk_storage_config_load's): in the store
 * `output_dir`, which is made if needed. `append_to`: name of an earlier session's run, or of its file; NULL:
 * a new one. The caller owns *ret_session. Errors: as esk_storage_config_load, esk_store_open, esk_run_open;
 * ESK_ENOTFOUND (append_to). */
ESK_API esk_status esk_session_open(
	const esk_storage_config *config, const char *append_to, esk_session **ret_session, esk_error *err);

/* The same in a store that is open, and is closed after it. `options` may be NULL. */
ESK_API esk_status esk_session_open_in(
	esk_store *store, const esk_session_options *options, esk_session **ret_session, esk_error *err);

/* Appends a record batch (a struct array) to an instrument's stream, which is made by its first. Acknowledged
 * on return: it survives the death of the process; all rows or none where the batch fits one record of the
 * run's ring, which esk_run_max_record_bytes tells. The caller keeps schema and array. Small batches cost
 * what their bytes cost: they are gathered into whole chunks. Errors: ESK_EINVAL (instrument's name, arrays
 * that contradict the schema), ESK_ETYPE, ESK_ENOTFOUND (the schema is not the stream's: names the first
 * column that was added, is missing, or has another type), ESK_EUNSUPPORTED (a type), ESK_ETIMEDOUT (disk
 * full or too slow: nothing was taken), ESK_ECLOSED. */
ESK_API esk_status esk_session_write_batch(esk_session *session, const char *instrument,
	const struct ArrowSchema *schema, const struct ArrowArray *array, esk_error *err);

/* The same from row `first_row` of the batch on; *ret_taken (may be NULL) is the number of rows taken, also
 * on failure, so that a caller may go on there: a batch larger than a record of the run's ring is taken in
 * several. With ESK_REJECT, and the instrument known, the call does not wait: ESK_EFULL. Errors besides:
 * ESK_ERANGE (first_row). */
ESK_API esk_status esk_session_write(esk_session *session, const char *instrument,
	const struct ArrowSchema *schema, const struct ArrowArray *array, uint64_t first_row,
	uint64_t *ret_taken, esk_error *err);

/* The same from bytes of Arrow's IPC format: a stream or a file with any number of batches, each of which is
 * checked before it is taken. *ret_rows (may be NULL) is the number of rows taken, also on failure. Errors
 * besides: ESK_ECORRUPT. */
ESK_API esk_status esk_session_write_ipc(esk_session *session, const char *instrument, const void *data,
	size_t size, uint64_t *ret_rows, esk_error *err);

#define ESK_SESSION_MAX_KEY 200           /* bytes of a key */
#define ESK_SESSION_MAX_VALUE (32u << 10) /* bytes of a value */
#define ESK_SESSION_MAX_METADATA \
	(1u << 20) /* bytes of all keys and values, of the session or of one instrument */

/* Keeps key = value (a text) with the session: an attribute of the root, and the run's metadata, which can be
 * searched. In file and catalogue with the next flush. Setting a key again replaces it. Errors: ESK_EINVAL (a
 * key that is empty, not UTF-8, or Esker's own), ESK_ERANGE (key, value, or all together too large). */
ESK_API esk_status esk_session_set_metadata(
	esk_session *session, const char *key, const char *value, esk_error *err);

/* The same for an instrument: attributes of its group. Before its first batch too. */
ESK_API esk_status esk_session_set_instrument_metadata(
	esk_session *session, const char *instrument, const char *key, const char *value, esk_error *err);

/* The same with the members of a JSON object: texts, numbers, truth values. `instrument` NULL: of the
 * session. All or none. Errors: as esk_session_set_metadata; ESK_EINVAL (no object, or a member of another
 * kind). */
ESK_API esk_status esk_session_set_metadata_json(
	esk_session *session, const char *instrument, const char *json, esk_error *err);

/* Commits: everything so far survives power loss and is visible to any HDF5 reader. Errors: as
 * esk_run_commit. */
ESK_API esk_status esk_session_flush(esk_session *session, esk_error *err);

typedef struct esk_session_stats {
	size_t struct_size;
	uint64_t
		bytes_written; /* of the batches, as Arrow has them in memory; since the session was opened */
	uint64_t batches_written;
	uint64_t rows_written;
	uint64_t flushes;          /* commits, automatic ones included */
	uint64_t instruments;      /* streams of the run */
	uint64_t metadata_entries; /* of the session; of instruments, those set since it was opened */
	int64_t created_ns;        /* of the run */
	int64_t last_flush_ns;     /* 0: none yet */
	uint64_t auto_flush_interval_ns;
	uint64_t pending_bytes; /* acknowledged and not yet committed */
	uint64_t file_bytes;    /* of the live file */
	uint64_t segments;
	bool is_open;           /* false once the file failed for good */
	esk_status status;      /* ESK_OK, or why commits fail at present */
	const char *file_path;  /* of the live file */
	const char *output_dir; /* the store */
	const char *run;        /* its name; all three borrowed until close */
	const char *codec;
} esk_session_stats;

/* Fills `ret_stats` (set its struct_size first). Never waits for the disk. Errors: ESK_EINVAL (struct_size).
 */
ESK_API esk_status esk_session_get_stats(esk_session *session, esk_session_stats *ret_stats, esk_error *err);

/* The run's name, and the run; borrowed until close. */
ESK_API const char *esk_session_name(const esk_session *session);
ESK_API esk_run *esk_session_run(esk_session *session);

/* Commits, closes the file (and the store that esk_session_open opened), frees the handle, on failure too:
 * the rows then wait in shared memory for whoever opens the store. NULL is allowed. Errors: as esk_run_close.
 */
ESK_API esk_status esk_session_close(esk_session *session, esk_error *err);

#ifdef __cplusplus
}
#endif
#endif
