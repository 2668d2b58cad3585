/* HDF5 files on the journalled driver: the only folder that calls libhdf5, under one process-wide lock.
 *
 * Two kinds of handles: an esk_h5 for writing (one per live segment, used by one drain thread; commit_finish
 * from another) and an esk_h5 for reading (shared by any threads). libhdf5's error stack is turned into one
 * message. Across fork the lock is held by pthread_atfork, so that a child's libhdf5 is in a sane state. May
 * include: base, os, model, codec, journal. */
#ifndef ESK_H5_H
#define ESK_H5_H

#include "codec/codec.h"
#include "codec/pool.h"
#include "journal/journal.h"
#include "model/model.h"

typedef struct esk_h5 esk_h5;                 /* a file */
typedef struct esk_h5_dataset esk_h5_dataset; /* a dataset of it; freed with the file */

/* ---- files -------------------------------------------------------------------------------------------- */

/* Creates `path` (must not exist) with format bounds (EARLIEST, V18). Nothing is durable before the first
 * commit. */
esk_status esk_h5_create(const esk_os *os, const char *path, esk_h5 **ret_file, esk_error *err);
/* Opens for writing after journal recovery. `ret_recovery` may be NULL. Errors: ESK_ENOTFOUND where there is
 * no file, or nothing was ever committed to it; ESK_EBUSY where it has a writer; ESK_EUNSUPPORTED for
 * superblock version 3 (the latest format), which a killed writer leaves marked as open; ESK_ECORRUPT;
 * ESK_EIO. */
esk_status esk_h5_open_write(const esk_os *os, const char *path, esk_h5 **ret_file,
	esk_jfile_recovery *ret_recovery, esk_error *err);
/* Opens for reading, also while another handle writes it: takes the state of one commit (retries by the
 * journal's change counter). Files that anything else wrote open too. */
esk_status esk_h5_open_read(const esk_os *os, const char *path, esk_h5 **ret_file, esk_error *err);
/* Files that may be damaged are tried out in a child process, for what is about to look into them: libhdf5
 * does not survive every damage. The child reads what verify and repair will; it is forked at the first
 * verdict, and goes over the files in the order of their paths, ahead of the caller. `paths` are copied. A
 * trial is one thread's. No lock of this process may be held, and no copy of it is made but the fork's. */
typedef struct esk_h5_trial esk_h5_trial;
esk_status esk_h5_trial_begin(
	const char *const *paths, size_t count, esk_h5_trial **ret_trial, esk_error *err);
/* Waits until the file was tried. ESK_ECORRUPT: the child did not survive it. ESK_EIO: the child was killed.
 * ESK_OK says no more than that nothing speaks against opening it. A file that is not of the trial is tried
 * by itself, unless others are left alone. */
esk_status esk_h5_trial_verdict(esk_h5_trial *trial, const char *path, esk_error *err);
/* From now on nothing speaks against files that are not of the trial. */
void esk_h5_trial_leave_others(esk_h5_trial *trial);
void esk_h5_trial_end(esk_h5_trial *trial); /* NULL is allowed */
/* A trial of one file. */
esk_status esk_h5_probe(const char *path, esk_error *err);
/* Commits nothing. A writer whose last commit finished and who wrote nothing since leaves a clean file
 * without journal. A reader closes. NULL is allowed. Everything is freed in any case. */
esk_status esk_h5_close(esk_h5 *file, esk_error *err);
/* Rolls back to the last commit: closes libhdf5's handles with writes swallowed; the journal stays for the
 * next open. */
void esk_h5_abandon(esk_h5 *file);
/* ESK_OK, or why the file is failed (a write, a synchronisation): abandon it and open it again. */
esk_status esk_h5_status(esk_h5 *file, esk_error *err);

uint64_t esk_h5_file_bytes(esk_h5 *file);    /* end of allocation */
uint64_t esk_h5_overlay_bytes(esk_h5 *file); /* held in memory for the next commit */
const char *esk_h5_path(const esk_h5 *file);

/* First half of a commit: flushes libhdf5's caches into the driver and freezes the overlay. */
esk_status esk_h5_commit_begin(esk_h5 *file, esk_error *err);
/* Second half, without libhdf5's lock: may run in another thread while this file is written to. */
esk_status esk_h5_commit_finish(esk_h5 *file, uint64_t *ret_commit, esk_error *err);

/* Readers: true if the writer has committed since this handle was opened (open a new one to see it). */
bool esk_h5_is_stale(esk_h5 *file);

/* ---- attributes: `object` is a group or dataset path, "/" for the root; groups in it must exist ---------
 */

/* Fixed UTF-8 strings, beyond 60,000 bytes variable ones (a fixed one has room for less than 64 KiB). What is
 * there already is not written again, what has the same size is overwritten in place; only rewriting a long
 * text makes the file grow. */
esk_status esk_h5_set_text(
	esk_h5 *file, const char *object, const char *name, const char *text, esk_error *err);
esk_status esk_h5_set_u64s(esk_h5 *file, const char *object, const char *name, const uint64_t *values,
	size_t count, esk_error *err);
esk_status esk_h5_set_i64(esk_h5 *file, const char *object, const char *name, int64_t value, esk_error *err);
/* ESK_ENOTFOUND if there is none. *ret_text is malloc'ed; fixed and variable strings are read. */
esk_status esk_h5_get_text(
	esk_h5 *file, const char *object, const char *name, char **ret_text, esk_error *err);
/* ESK_ENOTFOUND; ESK_ESHAPE unless it has exactly `count` elements. */
esk_status esk_h5_get_u64s(esk_h5 *file, const char *object, const char *name, uint64_t *ret_values,
	size_t count, esk_error *err);
esk_status esk_h5_get_i64(
	esk_h5 *file, const char *object, const char *name, int64_t *ret_value, esk_error *err);
/* One value of the kinds that h5py shows as int, float, bool and str. */
typedef enum esk_h5_scalar_kind { ESK_H5_INTEGER, ESK_H5_REAL, ESK_H5_TRUTH, ESK_H5_TEXT } esk_h5_scalar_kind;
typedef struct esk_h5_scalar {
	esk_h5_scalar_kind kind;
	int64_t integer; /* of a truth: 0 or 1 */
	double real;
	char *text; /* owned: esk_h5_scalar_clear */
} esk_h5_scalar;
void esk_h5_scalar_clear(esk_h5_scalar *scalar);
/* As int64, float64, bool (h5py's enumeration), or a variable string, which h5py shows as str where it shows
 * a fixed one as bytes. */
esk_status esk_h5_set_scalar(
	esk_h5 *file, const char *object, const char *name, const esk_h5_scalar *value, esk_error *err);
/* ESK_ENOTFOUND; ESK_ETYPE, ESK_ESHAPE where it is none of the kinds or not one value. */
esk_status esk_h5_get_scalar(
	esk_h5 *file, const char *object, const char *name, esk_h5_scalar *ret_value, esk_error *err);
/* Calls `visit` with every attribute that esk_h5_get_scalar reads, by name, until one fails. */
typedef esk_status (*esk_h5_scalar_fn)(
	void *arg, const char *name, const esk_h5_scalar *value, esk_error *err);
esk_status esk_h5_each_scalar(
	esk_h5 *file, const char *object, esk_h5_scalar_fn visit, void *arg, esk_error *err);
/* A dataset of one text: a scalar of a variable UTF-8 string; groups are made. What it has already is not
 * written again. */
esk_status esk_h5_set_text_dataset(esk_h5 *file, const char *path, const char *text, esk_error *err);
/* ESK_ENOTFOUND; ESK_ETYPE where it is none. *ret_text is malloc'ed. */
esk_status esk_h5_get_text_dataset(esk_h5 *file, const char *path, char **ret_text, esk_error *err);
bool esk_h5_exists(esk_h5 *file, const char *object);
/* The same where it matters that a read which failed does not say that there is nothing. */
esk_status esk_h5_find(esk_h5 *file, const char *object, bool *ret_exists, esk_error *err);
/* What a path leads to. */
typedef enum esk_h5_object { ESK_H5_NOTHING, ESK_H5_GROUP, ESK_H5_DATASET } esk_h5_object;
esk_status esk_h5_look(esk_h5 *file, const char *path, esk_h5_object *ret_object, esk_error *err);
/* Makes a group and those above it; one that exists is success. */
esk_status esk_h5_make_group(esk_h5 *file, const char *path, esk_error *err);
/* Unlinks a group or dataset. */
esk_status esk_h5_delete(esk_h5 *file, const char *path, esk_error *err);

/* ---- datasets ----------------------------------------------------------------------------------------- */

typedef struct esk_h5_info {
	char *path;        /* full, no leading '/'; owned by the dataset */
	esk_column column; /* name = last part of the path, dtype, cell shape, units, long_name, codec text */
	uint64_t rows;
	bool scalar;   /* a dataset without dimensions: rows is 1, the cell is it */
	bool readable; /* the dtype has a kind in Esker */
	bool chunked;
	bool raw_readable; /* chunks (or contiguous bytes) can be read and decoded outside libhdf5 */
	uint64_t chunk_shape[ESK_MAX_RANK + 1]; /* chunked: rows first, then of the cell */
	esk_pipeline pipeline;                  /* chunked */
	uint64_t contiguous_address;            /* not chunked and allocated, else UINT64_MAX */
} esk_h5_info;

/* Creates a growing dataset of `column` at `path` (groups are made), 0 rows, chunks of chunk_rows whole rows,
 * filters as `pipeline`, attributes units and long_name. Variable strings get no filters. ESK_EEXIST. */
esk_status esk_h5_dataset_create(esk_h5 *file, const char *path, const esk_column *column,
	uint64_t chunk_rows, const esk_pipeline *pipeline, esk_h5_dataset **ret_dataset, esk_error *err);
/* ESK_ENOTFOUND. The same handle is given for the same path. */
esk_status esk_h5_dataset_open(esk_h5 *file, const char *path, esk_h5_dataset **ret_dataset, esk_error *err);
/* Borrowed, valid until the file is closed; rows are as of opening or the last set_rows. */
const esk_h5_info *esk_h5_dataset_info(const esk_h5_dataset *dataset);
/* Frees a handle that nobody else uses before the file is closed: for files of very many datasets. */
void esk_h5_dataset_close(esk_h5_dataset *dataset);
/* Calls `visit` for every dataset in the file (hidden group "/.esker" too), in the order of their paths;
 * stops at its first error. */
esk_status esk_h5_visit(esk_h5 *file, esk_status (*visit)(void *arg, esk_h5_dataset *dataset, esk_error *err),
	void *arg, esk_error *err);

/* The same for the datasets at and below the group `path`. */
esk_status esk_h5_visit_below(esk_h5 *file, const char *path,
	esk_status (*visit)(void *arg, esk_h5_dataset *dataset, esk_error *err), void *arg, esk_error *err);

/* Writing (chunks of whole rows). Sets the number of rows. */
esk_status esk_h5_set_rows(esk_h5_dataset *dataset, uint64_t rows, esk_error *err);
/* Writes chunk number `chunk` (rows chunk * chunk_rows …) as it is; the rows must have been set to reach into
 * it. */
esk_status esk_h5_write_chunk(esk_h5_dataset *dataset, uint64_t chunk, uint32_t filter_mask, const void *data,
	size_t size, esk_error *err);
/* Writes variable strings into rows [row, row + rows): rows * elements of the cell. */
esk_status esk_h5_write_strings(
	esk_h5_dataset *dataset, uint64_t row, uint64_t rows, const esk_string *strings, esk_error *err);

/* ---- items (item.c) ------------------------------------------------------------------------------------ */

/* An attribute of a group, beside the engine's own. */
typedef struct esk_attribute {
	char name[ESK_MAX_NAME + 1];
	esk_h5_scalar value;
} esk_attribute;

typedef struct esk_h5_encoded {
	const void *data;
	size_t size;
	uint32_t filter_mask;
} esk_h5_encoded;

/* An array of a fixed number of rows; its column's name is a path below the item's group. */
typedef struct esk_h5_array {
	const esk_column *column;
	uint64_t rows;
	const void *cells;         /* contiguous; not for texts, not where it is chunked */
	const esk_string *strings; /* texts of variable length */
	/* Chunked: all chunks, encoded. NULL: stored in one piece, without filters. */
	const esk_h5_encoded *chunks;
	uint64_t chunk_count;
	uint64_t chunk_rows;
	const esk_pipeline *pipeline;
} esk_h5_array;

/* Makes the group `path`, and those above it, with the arrays and attributes. ESK_EEXIST. After a failure
 * parts of it may be there: abandon the file. */
esk_status esk_h5_put_item(esk_h5 *file, const char *path, const esk_h5_array *arrays, size_t array_count,
	const esk_attribute *attributes, size_t attribute_count, esk_error *err);

/* Rows of a join come from all of a dataset. */
typedef struct esk_h5_source {
	const char *path; /* with a leading '/' */
	uint64_t rows;
} esk_h5_source;
/* Makes the virtual dataset `path`, or makes it anew, that shows the sources one behind the other: all of the
 * column's dtype and cell shape. libhdf5 from 1.10 on reads it; groups are made. */
esk_status esk_h5_write_join(esk_h5 *file, const char *path, const esk_column *column,
	const esk_h5_source *sources, size_t count, esk_error *err);

/* ---- reading (read.c): parallel, raw ------------------------------------------------------------------- */

/* Where a chunk is. *ret_size is 0 when it was never written (reads as zeros or the fill value). `chunk`
 * counts in the dataset's chunk grid, C order. Cached per dataset. */
esk_status esk_h5_locate_chunk(esk_h5_dataset *dataset, uint64_t chunk, uint64_t *ret_address,
	uint64_t *ret_size, uint32_t *ret_filter_mask, esk_error *err);
/* Number of chunks in the grid that the present rows span; 0 where the dataset is not chunked. */
uint64_t esk_h5_chunk_count(const esk_h5_dataset *dataset);

/* The chunks that what goes over all of a dataset has to look at. */
typedef struct esk_h5_chunk_list {
	uint64_t count;
	bool sparse;       /* the grid is far larger than the file: only what is stored is listed */
	uint64_t *numbers; /* where sparse: ascending */
	esk_error fault;   /* where sparse: code is not ESK_OK where the index is damaged, and chunks may be
			      missing */
} esk_h5_chunk_list;
/* All of the grid where that is cheap beside reading the file, else those that are stored, in a time that the
 * file's size bounds, whatever its dimensions say. */
esk_status esk_h5_list_chunks(esk_h5_dataset *dataset, esk_h5_chunk_list *ret_list, esk_error *err);
void esk_h5_chunk_list_free(esk_h5_chunk_list *list);
static inline uint64_t esk_h5_chunk_at(const esk_h5_chunk_list *list, uint64_t i)
{
	return list->sparse ? list->numbers[i] : i;
}

/* Chunks of length `side` that lie side by side along a dimension. */
static inline uint64_t esk_h5_across(uint64_t extent, uint64_t side)
{
	return extent / side + (extent % side != 0);
}
/* First row of a chunk, and how many rows of the dataset it spans. */
static inline void esk_h5_chunk_rows(
	const esk_h5_info *info, uint64_t chunk, uint64_t *ret_first, uint64_t *ret_rows)
{
	uint64_t band_chunks = 1; /* that have the same rows */
	for (uint32_t i = 0; i < info->column.rank; i++)
		band_chunks *= esk_h5_across(info->column.shape[i], info->chunk_shape[i + 1]);
	*ret_first = chunk / band_chunks * info->chunk_shape[0];
	*ret_rows = *ret_first < info->rows ? esk_min_u64(info->chunk_shape[0], info->rows - *ret_first) : 0;
}

/* The rows that are worth reading of a dataset that is read by rows: all, or those of the chunks that are
 * stored where its dimensions claim far more than the file holds. */
typedef struct esk_h5_row_walk {
	const esk_h5_info *info;
	esk_h5_chunk_list chunks; /* fault: as esk_h5_list_chunks says */
	uint64_t next_chunk;
	uint64_t row; /* up to `end` is to come */
	uint64_t end;
} esk_h5_row_walk;
esk_status esk_h5_row_walk_begin(esk_h5_row_walk *walk, esk_h5_dataset *dataset, esk_error *err);
/* The next rows, `most` at most; false at the end. */
bool esk_h5_row_walk_next(esk_h5_row_walk *walk, uint64_t most, uint64_t *ret_row, uint64_t *ret_count);
void esk_h5_row_walk_end(esk_h5_row_walk *walk);

/* Bytes that the dataset takes in the file. */
esk_status esk_h5_stored_bytes(esk_h5_dataset *dataset, uint64_t *ret_bytes, esk_error *err);

/* Piece of a read: `count` consecutive rows from `row` go to `out`, C-contiguous. */
typedef struct esk_h5_rows {
	uint64_t row;
	uint64_t count;
	void *out;
} esk_h5_rows;

/* Reads the pieces (any order, repeats allowed): each chunk is read and decoded once per call, chunks in
 * parallel on `pool`, decoded straight into `out` where a piece covers it whole, as far as needed where it
 * does not. What HDF5 alone can decode (virtual, external, unknown filters with a plugin) goes through
 * H5Dread. bool and numbers of other byte order come out native. Not for variable strings. Errors:
 * ESK_ERANGE, ESK_ECORRUPT (names dataset and chunk), ESK_EIO, ESK_EUNSUPPORTED (names the filter), and
 * ESK_EBUSY from a reader that became stale, unless all it needs are chunks that were full when it was opened
 * and whose places it knows: open a new one and read again. The same holds for the calls below. */
esk_status esk_h5_read_rows(esk_h5_dataset *dataset, esk_pool *pool, const esk_h5_rows *pieces,
	size_t piece_count, esk_error *err);
/* Variable strings of rows [row, row + rows): *ret_strings is one allocation (free()). */
esk_status esk_h5_read_strings(
	esk_h5_dataset *dataset, uint64_t row, uint64_t rows, esk_string **ret_strings, esk_error *err);
/* Reads chunk `chunk` as stored, decodes it whole and checks every checksum: for verify. *ret_stored_bytes
 * may be NULL. `decoded` (may be NULL) has room for the pipeline's chunk_bytes. ESK_EUNSUPPORTED unless
 * raw_readable: read the rows. */
esk_status esk_h5_check_chunk(esk_h5_dataset *dataset, uint64_t chunk, esk_scratch *scratch, void *decoded,
	uint64_t *ret_stored_bytes, esk_error *err);
/* Reads chunk `chunk` as stored, for copying: *ret_data is malloc'ed. */
esk_status esk_h5_read_raw_chunk(esk_h5_dataset *dataset, uint64_t chunk, void **ret_data, size_t *ret_size,
	uint32_t *ret_filter_mask, esk_error *err);

/* ---- copying around damage (copy.c): for repair ----------------------------------------------------------
 */

/* Makes every group of `from` in `to`, with attributes; the root's too. */
esk_status esk_h5_copy_groups(esk_h5 *from, esk_h5 *to, esk_error *err);
#define ESK_H5_ATTRIBUTES UINT64_MAX
typedef struct esk_h5_copying {
	bool (*keep)(void *arg, uint64_t chunk);
	/* A chunk (or ESK_H5_ATTRIBUTES) that could not be read after all; copying goes on. */
	void (*lost)(void *arg, uint64_t chunk, const esk_error *why);
	void *arg;
} esk_h5_copying;

/* Makes `from` in `to`, with attributes. Chunks are copied as stored where `keep` says so; the others read as
 * missing (fill value). What has no raw chunks is copied whole. A failure says that `to` is not to be used,
 * or that there is no such dataset in it: nothing of `from` is in it then. */
esk_status esk_h5_copy_dataset(
	esk_h5_dataset *from, esk_h5 *to, const esk_h5_copying *copying, esk_error *err);

/* "1.10.8", and where plugins are looked for. Static storage. */
const char *esk_h5_version(void);
const char *esk_h5_plugin_path(void);

#endif
