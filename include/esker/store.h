/* Stores, runs and streams: recording.
 *
 * Caveats first:
 *  - A run is recorded by one process, which holds it until esk_run_close; other processes may read it all
 *    the while, and record other runs into the same store.
 *  - Handles may be used from any thread, as long as nobody closes them meanwhile.
 *  - After fork, a child must not use a store, run or stream that it inherited for recording; it gets
 *    ESK_ECLOSED. Readers (reader.h) work in children.
 *  - An acknowledged row is safe from the death of every process (it is in shared memory); a committed row
 *    is safe from power loss as well. */
#ifndef ESKER_STORE_H
#define ESKER_STORE_H

#include <esker/column.h>
#include <esker/key.h>
#include <esker/log.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct esk_store esk_store;
typedef struct esk_run esk_run;
typedef struct esk_stream esk_stream;

/* ---- stores ------------------------------------------------------------------------------------------- */

typedef struct esk_store_options {
	size_t struct_size;
	bool read_only; /* never writes; what a crash left is read as far as it is committed */
	uint32_t
		codec_threads; /* workers shared by all that this handle records and reads; 0: one per core */
	esk_log_fn log;        /* NULL for silence */
	void *log_arg;
	const esk_key *
		key; /* encrypted segments are read with it, and those of runs that ask for it encrypted;
			shared: the caller may free it at once. NULL: that of the environment (esker/key.h) */
} esk_store_options;
#define ESK_STORE_OPTIONS_INIT                           \
	{                                                \
		.struct_size = sizeof(esk_store_options) \
	}

/* Makes the directory `path` (its parent must exist) with an empty catalogue. Errors: ESK_EEXIST where there
 * is a store already; ESK_EIO, ESK_EACCES, ESK_ENOSPC. */
ESK_API esk_status esk_store_create(const char *path, esk_error *err);

/* Opens the store at `path` and, unless read_only, recovers what a crash left there: journal, then ring, then
 * catalogue; each step is logged. `options` may be NULL. The caller owns *ret_store and closes it.
 * Errors: ESK_ENOTFOUND, ESK_EVERSION, ESK_EIO, ESK_EACCES, ESK_ENOMEM. */
ESK_API esk_status esk_store_open(
	const char *path, const esk_store_options *options, esk_store **ret_store, esk_error *err);

/* Closes every run of this handle (committing it), then the store. NULL is allowed. The first error is
 * returned, but everything is freed. Not to be called while another thread uses the handle. */
ESK_API esk_status esk_store_close(esk_store *store, esk_error *err);

/* The store's directory, borrowed until close. */
ESK_API const char *esk_store_path(const esk_store *store);

/* ---- runs --------------------------------------------------------------------------------------------- */

typedef enum esk_policy {
	ESK_BLOCK = 0,     /* wait up to block_timeout_ns for room, then ESK_ETIMEDOUT */
	ESK_OVERWRITE = 1, /* the oldest records go, whole, and are counted as a gap */
	ESK_REJECT = 2     /* ESK_EFULL at once; the caller keeps the row */
} esk_policy;

/* When a new segment begins beside for size. In UTC. */
typedef enum esk_period { ESK_PERIOD_NONE = 0, ESK_PERIOD_HOUR = 1, ESK_PERIOD_DAY = 2 } esk_period;

typedef struct esk_run_options {
	size_t struct_size;
	const char *metadata_json; /* an object of free metadata; NULL for none */
	const char *codec;         /* default codec of its columns; NULL for "gzip:1" */
	uint64_t ring_bytes;       /* 0: 256 MiB; rounded up to a whole number of pages */
	esk_policy policy;
	uint64_t block_timeout_ns;   /* 0: 30 s */
	uint64_t commit_interval_ns; /* 0: 1 s; UINT64_MAX: only on request, and when the ring fills */
	uint64_t segment_bytes;      /* rotate when the live file grows beyond; 0: never */
	bool payload_checksums;      /* crc32c of every record's payload in the ring */
	bool append;                 /* go on with a run of that name if there is one */
	const char *attributes_json; /* an object of numbers, texts and booleans that become attributes of the
					file's root, beside `metadata`; NULL for none */
	esk_period segment_period; /* rotate when the hour or day is another than that of the segment's first
				      rows; a segment without rows or items is not sealed */
	uint64_t keep_segments; /* 0: all; else, after a rotation, the oldest sealed segments beyond so many
				   are deleted. Rows of later ones keep their index; reading what was deleted
				   is ESK_ENOTFOUND */
	/* Sealed segments are encrypted (esker/key.h), those that the run has already as well: by a thread of
	 * its own after a rotation, and the last one by esk_run_close, which takes as long as that takes. A
	 * store opened for writing, with the key, goes on where a crash ended it. */
	bool encrypt;
} esk_run_options;
#define ESK_RUN_OPTIONS_INIT                           \
	{                                              \
		.struct_size = sizeof(esk_run_options) \
	}

/* Starts (or, with options.append, continues) the run `name`; the file is <store>/<name>.h5. `options` may be
 * NULL. The caller owns *ret_run and closes it before the store.
 * Errors: ESK_EINVAL (name, metadata, codec), ESK_ENOTFOUND (encrypt without a key), ESK_EACCES (the run has
 * encrypted segments, and the key is lacking), ESK_EEXIST (without append), ESK_EBUSY (recorded by another
 * process), ESK_ENOSPC, ESK_EIO, ESK_ENOMEM. */
ESK_API esk_status esk_run_open(esk_store *store, const char *name, const esk_run_options *options,
	esk_run **ret_run, esk_error *err);

/* Commits, closes the file and frees the handle and its streams. A run that encrypts is sealed: its last file
 * is then <run>_<stamp>.h5x, and whoever appends begins a new one; where the encryption alone failed, the
 * call says so, and opening the store tries it again. NULL is allowed. On failure to commit the handle is
 * freed all the same; the rows stay in the ring and the next open of the store recovers them. */
ESK_API esk_status esk_run_close(esk_run *run, esk_error *err);

/* What commit reached. */
typedef struct esk_watermark {
	uint64_t rows;     /* rows committed: of the stream, or of all streams of the run */
	uint64_t commit;   /* number of the commit, counting from 1 in the run */
	uint64_t sequence; /* ring sequence up to which everything is committed */
	int64_t time_ns;   /* when */
} esk_watermark;

/* Commits every row that was appended to any stream of the run before the call. On success they survive power
 * loss and are visible to any HDF5 reader that opens the file from now on. Blocks for the file
 * synchronisation; concurrent commits coalesce. `ret_watermark` may be NULL. Safe from any thread.
 * Errors: ESK_ENOSPC, ESK_EIO (nothing changed: rows stay in the ring and the next commit tries them again),
 * ESK_ECLOSED. */
ESK_API esk_status esk_run_commit(esk_run *run, esk_watermark *ret_watermark, esk_error *err);

typedef struct esk_run_stats {
	size_t struct_size;
	uint64_t appended_rows;  /* acknowledged */
	uint64_t appended_bytes; /* of payload in the ring */
	uint64_t committed_rows;
	uint64_t commits;
	uint64_t lost_records; /* overwritten before they were drained */
	uint64_t lost_bytes;
	uint64_t ring_bytes;      /* capacity */
	uint64_t ring_used_bytes; /* not yet committed */
	uint64_t file_bytes;      /* of the live segment */
	uint64_t segments;
	int64_t last_commit_ns; /* time of the last commit; 0: none yet */
	uint64_t last_commit_duration_ns;
	esk_status status; /* ESK_OK, or why commits fail at present (ESK_ENOSPC, …) */
} esk_run_stats;

/* Fills `ret_stats` (set its struct_size first). Safe from any thread; takes no lock on the data path. */
ESK_API esk_status esk_run_get_stats(esk_run *run, esk_run_stats *ret_stats, esk_error *err);

/* The run's name and the path of its live file; borrowed until close. */
ESK_API const char *esk_run_name(const esk_run *run);
ESK_API const char *esk_run_file(const esk_run *run);

/* Replaces the run's free metadata by the JSON object `json`; kept in file and catalogue by the next commit.
 * Errors: ESK_EINVAL, ESK_ECLOSED, ESK_ENOMEM. */
ESK_API esk_status esk_run_set_metadata(esk_run *run, const char *json, esk_error *err);

/* Sets attributes of the group `object`, which is made if it is not there: of a stream, an item or none; "/"
 * is the root. `json` is an object of numbers, texts and booleans: integers become i64, others f64, texts
 * variable UTF-8 strings. One of the same name is replaced. When it returns they survive the death of the
 * process, and they are in the file with the next commit; every later segment of the run has them too, except
 * those of items. Names that begin with "esker_", and of the root `metadata`, `created_at` and counts of
 * rows, are not the caller's. Safe from any thread. Errors: ESK_EINVAL, ESK_EEXIST (a dataset is in the way),
 * ESK_ERANGE (larger than a record of the ring), and by the ring's policy as esk_stream_append. */
ESK_API esk_status esk_run_set_attributes(esk_run *run, const char *object, const char *json, esk_error *err);

/* Sets the text of the dataset `path`, a scalar of one variable UTF-8 string (h5py: f[path].asstr()[()]), as
 * esk_run_set_attributes sets attributes; every later segment has it too. The text is UTF-8 without NUL. For
 * what changes seldom: each change makes the file grow. Errors: as esk_run_set_attributes; ESK_EEXIST where
 * the path is a group's or another dataset's. */
ESK_API esk_status esk_run_set_text(esk_run *run, const char *path, const char *text, esk_error *err);

/* ---- items -------------------------------------------------------------------------------------------- */

/* A named array of an item. */
typedef struct esk_item_array {
	const esk_column
		*column; /* name (may be a path), dtype, shape of a row, nullable, codec, chunk_rows, units */
	uint64_t rows;   /* the dataset's first dimension, which does not grow; may be 0 */
	const void *cells;    /* contiguous, as in esk_stream_append_rows; NULL: all are missing */
	const uint8_t *valid; /* NULL: all are there; else a byte a row, 0 where the cell is missing */
} esk_item_array;

typedef struct esk_item {
	size_t struct_size;
	const char *path; /* of its group, which must be new in the run: "measurements/batch_000001" */
	const esk_item_array *arrays;
	size_t array_count;
	const char *attributes_json; /* of the group: an object of numbers, texts and booleans; NULL: none */
	const char *join; /* NULL, or the group in which arrays of the same name of all items that are put
			     with it are joined, in their order, as virtual
					datasets ("measurements/all"); see below */
} esk_item;
#define ESK_ITEM_INIT                           \
	{                                       \
		.struct_size = sizeof(esk_item) \
	}

/* Puts an item: a group of its own with arrays and attributes, in the live segment. When it returns, the item
 * survives the death of the process; the next commit has it whole, once, in the file and in the catalogue's
 * table `items`. Everything is copied before it returns. Nothing else can be made below an item's group.
 * Items of one join have the same arrays, of the same dtype and shape, and none is empty; the first one
 * decides. A join shows the items of its segment; commits bring it up to date, as often
 * as takes a twentieth of the time, and the one that seals the segment or closes the run in any case. libhdf5
 * reads virtual datasets from 1.10 on; everything else in the file is as readable as without them. Arrays of
 * 4 KiB and more are compressed by their codec where that makes them smaller. Safe from any thread. Errors:
 * ESK_EINVAL; ESK_EEXIST (the path is taken, says by what), ESK_ETYPE, ESK_ESHAPE (not like the others of its
 * join: names the difference), ESK_ERANGE (larger than one record of the ring: put less at
 * once or give the run a larger ring), and by the ring's policy as esk_stream_append. */
ESK_API esk_status esk_run_put(esk_run *run, const esk_item *item, esk_error *err);

/* ---- streams ------------------------------------------------------------------------------------------ */

/* Adds the stream `name` with `column_count` columns, or opens it if the run has it with the same columns.
 * Its columns are datasets in the group `name`; the name "/" puts them at the root of the file, a path of
 * names ("scope/waveform", at most 240 bytes) in a group of groups. Streams may lie in each other's groups,
 * as long as no two datasets have one path and none lies below another. The datasets are committed before the
 * call returns. The handle lives as long as the run. Errors: ESK_EINVAL; ESK_ETYPE, ESK_ESHAPE (exists with
 * other columns: names the first that differs); ESK_EEXIST (a dataset is in the way); ESK_ENOSPC, ESK_EIO,
 * ESK_ECLOSED. */
ESK_API esk_status esk_run_stream(esk_run *run, const char *name, const esk_column *columns,
	size_t column_count, esk_stream **ret_stream, esk_error *err);

typedef struct esk_stream_options {
	size_t struct_size;
	/* Keeps scalar columns of the stream in the catalogue, row by row, in the transaction of the commit
	 * that made the rows durable: "TABLE(FIELD = COLUMN, FIELD = COLUMN?, …)". TABLE is one of the
	 * catalogue's tables with the fields run_id and row (FORMAT.md); COLUMN? stands for whether the cell
	 * of a nullable column is there. A column may be a number, a bool or a string. Kept in the file as
	 * well, so that recovery and reindex fill the table again. One stream of a run per table. NULL: none.
	 */
	const char *index;
	/* Name of an attribute of the file's root that holds the number of rows of the stream, over all
	 * segments, as of each commit ("total_steps"). NULL: none. */
	const char *rows_attribute;
} esk_stream_options;
#define ESK_STREAM_OPTIONS_INIT                           \
	{                                                 \
		.struct_size = sizeof(esk_stream_options) \
	}

/* As esk_run_stream, with options (may be NULL). A stream that the run has keeps what it was made with.
 * Errors besides: ESK_EINVAL (index: position and what was expected; a field or table that the catalogue
 * lacks), ESK_ENOTFOUND (a column). */
ESK_API esk_status esk_run_stream_with(esk_run *run, const char *name, const esk_column *columns,
	size_t column_count, const esk_stream_options *options, esk_stream **ret_stream, esk_error *err);

/* Appends one row. cells[c] points to esk_column_cell_bytes bytes of column c, in the order of the columns,
 * or is NULL for a missing cell of a nullable column. The cells are copied before the call returns; from then
 * on the row survives the death of the process. `ret_row` (may be NULL) receives the row's index in the
 * stream, in the file as well, after a crash and its recovery too: exact unless the policy is ESK_OVERWRITE
 * and rows were lost. Safe from any thread; no system call while the ring has room. Errors: ESK_ETIMEDOUT,
 * ESK_EFULL (by policy), ESK_EINVAL (NULL for a column that is not nullable), ESK_ERANGE (larger than the
 * ring takes), ESK_ECLOSED. */
ESK_API esk_status esk_stream_append(
	esk_stream *stream, const void *const *cells, uint64_t *ret_row, esk_error *err);

/* Appends `rows` rows, each column contiguous: cells[c] points to rows * cell bytes. valid[c], where `valid`
 * and valid[c] are not NULL, points to `rows` bytes, 0 where the cell of a nullable column is missing.
 * `ret_row` receives the first row's index. All rows or none; large appends are split into several records,
 * and then a failure says how many rows were taken in *ret_taken (may be NULL). Safe from any thread. Errors:
 * as esk_stream_append. */
ESK_API esk_status esk_stream_append_rows(esk_stream *stream, uint64_t rows, const void *const *cells,
	const uint8_t *const *valid, uint64_t *ret_row, uint64_t *ret_taken, esk_error *err);

/* Room in the ring for `rows` rows that the producer fills itself. */
typedef struct esk_reservation {
	uint64_t rows;
	uint64_t row; /* index of the first */
	void **cells; /* cells[c]: where column c's rows go, contiguous, 8-byte aligned; owned by the library
		       */
	uint8_t **valid; /* valid[c]: one byte a row, preset to 1; NULL for columns that are not nullable */
	void *internal;
} esk_reservation;

/* Reserves room; between this and publish (or abandon) the ring behind it waits, so be quick. One reservation
 * per stream handle at a time. Not for streams with variable-length strings (ESK_EUNSUPPORTED). Errors as
 * esk_stream_append. */
ESK_API esk_status esk_stream_reserve(
	esk_stream *stream, uint64_t rows, esk_reservation *ret_reservation, esk_error *err);

/* Makes the reserved rows acknowledged. Cannot fail. */
ESK_API void esk_stream_publish(esk_stream *stream, esk_reservation *reservation);

/* Gives the room back unused. If no later row of the stream was reserved or appended meanwhile, the rows
 * never were. Else later rows keep the index that they were given, and these are in the file without content:
 * zeros, missing where the column is nullable, with a gap of cause "abandoned" in file and catalogue. A
 * reservation that is neither published nor abandoned when the run is closed, or when the process dies, is
 * abandoned. */
ESK_API void esk_stream_abandon(esk_stream *stream, esk_reservation *reservation);

/* As esk_run_commit; the watermark's rows are this stream's. */
ESK_API esk_status esk_stream_commit(esk_stream *stream, esk_watermark *ret_watermark, esk_error *err);

/* Index that the next row of the stream gets: rows appended so far, by this session and earlier ones. Safe
 * from any thread; another thread may append before the caller does anything with it. */
ESK_API uint64_t esk_stream_rows(const esk_stream *stream);

/* ---- several streams at once -------------------------------------------------------------------------- */

/* Rows of one stream in an append to several. */
typedef struct esk_rows_part {
	esk_stream *stream;          /* of the run; each at most once */
	uint64_t rows;               /* 0: nothing is appended, but `row` is told */
	const void *const *cells;    /* as esk_stream_append_rows; not looked at without rows */
	const uint8_t *const *valid; /* the same */
	uint64_t row;                /* out: index of the first of them */
} esk_rows_part;

/* Appends the rows of all parts as one: they are acknowledged together, become durable in the same commit,
 * and survive a crash together or not at all. Under ESK_OVERWRITE they are overwritten together. Order of
 * parts is free; appends from several threads to the same streams do not wait for each other in a circle. On
 * failure nothing was appended. Safe from any thread; no system call while the ring has room. Errors: as
 * esk_stream_append; ESK_EINVAL (no rows at all, a stream twice or of another run), ESK_ERANGE (together
 * larger than one record of the ring: it is not split). */
ESK_API esk_status esk_run_append(esk_run *run, esk_rows_part *parts, size_t part_count, esk_error *err);

/* Bytes of the ring that such an append takes, to compare with esk_run_max_record_bytes. UINT64_MAX where
 * that cannot be said (a text with a NUL byte). */
ESK_API uint64_t esk_run_append_bytes(const esk_rows_part *parts, size_t part_count);
ESK_API uint64_t esk_run_max_record_bytes(const esk_run *run);

/* Tells of records that were lost before they reached the stream, by what feeds it (a ring that overwrote its
 * oldest): a gap of cause "overwritten" at the stream's present end, in file and catalogue with the next
 * commit. The sequences are the source's. In the order of the calling thread's appends. Safe from any thread.
 * Errors: by the ring's policy as esk_stream_append. */
ESK_API esk_status esk_stream_note_loss(esk_stream *stream, uint64_t records, uint64_t bytes,
	uint64_t first_sequence, uint64_t last_sequence, esk_error *err);

typedef enum esk_loss_cause {
	ESK_LOSS_OVERWRITTEN = 0, /* by what came later, before it was taken */
	ESK_LOSS_DAMAGED = 1      /* it was taken, and could not be recorded */
} esk_loss_cause;

/* A loss in an append. */
typedef struct esk_loss_part {
	esk_stream *stream; /* of the run; several may be of one */
	esk_loss_cause cause;
	uint64_t records, bytes;
	uint64_t first_sequence, last_sequence; /* the source's */
} esk_loss_part;

/* esk_run_append and losses as by esk_stream_note_loss, all as one: the gaps stand in front of the rows, and
 * a crash leaves both or neither. There may be no rows, if there is a loss. Errors: as esk_run_append;
 * ESK_EINVAL (a loss of another run's stream, or of a cause that there is not). */
ESK_API esk_status esk_run_append_with_losses(esk_run *run, const esk_loss_part *losses, size_t loss_count,
	esk_rows_part *parts, size_t part_count, esk_error *err);

/* The stream's columns, *ret_count of them, borrowed until the run is closed. */
ESK_API const esk_column *esk_stream_columns(const esk_stream *stream, size_t *ret_count);

#ifdef __cplusplus
}
#endif
#endif
