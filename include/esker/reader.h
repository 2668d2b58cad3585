/* Reading: a run's columns by row, refs, batches of refs.
 *
 * A reader sees the rows that were committed when it was opened or last refreshed; the run may be growing. It
 * works on runs that are being recorded by this or another process, on finished runs and on plain HDF5 files
 * (a file in the store's directory that something else wrote is a run of one segment). Readers are safe from
 * several threads and in forked children, which open the files again by themselves. */
#ifndef ESKER_READER_H
#define ESKER_READER_H

#include <esker/ref.h>
#include <esker/store.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct esk_reader esk_reader;
typedef struct esk_dataset esk_dataset;

/* Opens the run `name` for reading. The caller owns *ret_reader and closes it before the store.
 * Errors: ESK_ENOTFOUND (lists near names), ESK_ECORRUPT, ESK_EIO, ESK_ENOMEM. */
ESK_API esk_status esk_reader_open(
	esk_store *store, const char *name, esk_reader **ret_reader, esk_error *err);

/* Opens one HDF5 file by path, with no store around it. The caller owns *ret_reader. Errors: as
 * esk_reader_open. */
ESK_API esk_status esk_reader_open_file(const char *path, esk_reader **ret_reader, esk_error *err);

/* Frees the reader and its datasets, with which nobody may be reading. NULL is allowed. */
ESK_API void esk_reader_close(esk_reader *reader);

/* Sees what was committed since. Datasets stay valid; their rows may grow. On failure the reader stays as it
 * was, and what it saw can be read as far as its files are there. Errors: as esk_reader_open. */
ESK_API esk_status esk_reader_refresh(esk_reader *reader, esk_error *err);

/* The run's free metadata as JSON, borrowed until close or esk_reader_refresh; "{}" where there is none. */
ESK_API const char *esk_reader_metadata(esk_reader *reader);

/* The attributes of the (newest) file's root that are one number, text or truth value, without Esker's own
 * and the metadata, as a JSON object; borrowed until close or refresh. NaN and infinities are null. */
ESK_API const char *esk_reader_attributes(esk_reader *reader);

/* Number of datasets, and the i-th in the file's order; borrowed until the reader is closed. NULL out of
 * range. */
ESK_API size_t esk_reader_dataset_count(esk_reader *reader);
ESK_API esk_dataset *esk_reader_dataset_at(esk_reader *reader, size_t i);

/* Finds a dataset by full path ("imu/acc", "/frames"), else by a column name that one stream alone has, else,
 * by full path, an array of an item or a text: these are not among esk_reader_dataset_at, since there may be
 * very many. Borrowed until the reader is closed. Errors: ESK_ENOTFOUND (lists what there is). */
ESK_API esk_status esk_reader_find(
	esk_reader *reader, const char *path, esk_dataset **ret_dataset, esk_error *err);

typedef struct esk_dataset_info {
	size_t struct_size;
	const char *path;      /* borrowed until the reader is closed */
	esk_column column;     /* dtype, cell shape, codec as found in the file */
	uint64_t rows;         /* over all segments */
	uint64_t stored_bytes; /* in the files, compressed */
} esk_dataset_info;

/* Fills `ret_info` (set its struct_size first). Asks every file for its stored bytes. Errors: ESK_EIO,
 * ESK_ECORRUPT. */
ESK_API esk_status esk_dataset_get_info(esk_dataset *dataset, esk_dataset_info *ret_info, esk_error *err);

/* Rows of the dataset over all segments, as of the reader's opening or last refresh. */
ESK_API uint64_t esk_dataset_rows(esk_dataset *dataset);

/* Reads rows start, start + step, … below stop into `buf`, C-contiguous; buf_bytes must be exactly the number
 * of rows times the cell's bytes. step may be negative (then start > stop as in Python). Missing cells read
 * as zeros. Chunks are decoded in parallel, straight into `buf` where whole. Not for variable-length strings:
 * esk_dataset_read_strings. Errors: ESK_ERANGE, ESK_ESHAPE (buf_bytes), ESK_ECORRUPT (names the chunk),
 * ESK_EIO, ESK_EUNSUPPORTED. */
ESK_API esk_status esk_dataset_read(esk_dataset *dataset, int64_t start, int64_t stop, int64_t step,
	void *buf, size_t buf_bytes, esk_error *err);

/* Reads the rows in `rows`, in any order, repeats allowed, into `buf` in the order given; each chunk is read
 * and decoded once. buf_bytes must be exactly row_count times the cell's bytes. Errors: as esk_dataset_read.
 */
ESK_API esk_status esk_dataset_read_rows(esk_dataset *dataset, const uint64_t *rows, size_t row_count,
	void *buf, size_t buf_bytes, esk_error *err);

/* Validity of rows, in the order given: row_count bytes, 1 present, 0 missing; all 1 for a column that is not
 * nullable. Errors: ESK_ERANGE, ESK_ECORRUPT, ESK_EIO. */
ESK_API esk_status esk_dataset_read_valid(
	esk_dataset *dataset, const uint64_t *rows, size_t row_count, uint8_t *ret_valid, esk_error *err);

/* Reads variable-length strings of the rows given. On success *ret_strings is an array of row_count times the
 * cell's elements; one allocation, the caller's to free with esk_strings_free. Errors: ESK_ETYPE (not such a
 * column), ESK_ERANGE, ESK_ECORRUPT, ESK_EIO, ESK_ENOMEM. */
ESK_API esk_status esk_dataset_read_strings(esk_dataset *dataset, const uint64_t *rows, size_t row_count,
	esk_string **ret_strings, esk_error *err);
ESK_API void esk_strings_free(esk_string *strings); /* NULL is allowed */

/* An array that the library allocated. Release it with esk_array_release. */
typedef struct esk_array {
	esk_dtype dtype;
	uint32_t rank;
	uint64_t shape[ESK_MAX_RANK + 1];
	uint64_t size_bytes;
	void *data; /* C-contiguous; for ESK_STRING an array of esk_string */
} esk_array;

/* Resolves a ref: an index gives one cell (its shape), a range or the whole gives rows first. *ret_array is
 * the caller's to release. Keeps files and chunks open between calls. Errors: as esk_ref_parse,
 * esk_reader_find, esk_dataset_read; ESK_ENOMEM. Safe from any thread. */
ESK_API esk_status esk_store_resolve(esk_store *store, const char *ref, esk_array *ret_array, esk_error *err);

/* Resolves `ref_count` refs in any order over any runs; each chunk is read and decoded once. `ret_arrays` has
 * room for as many arrays, each the caller's to release. All or none: on failure the message names the ref,
 * and nothing is to be released. Errors: as esk_store_resolve. Safe from any thread. */
ESK_API esk_status esk_store_resolve_batch(
	esk_store *store, const char *const *refs, size_t ref_count, esk_array *ret_arrays, esk_error *err);

/* Frees the array's memory and clears it. NULL is allowed. */
ESK_API void esk_array_release(esk_array *array);

#ifdef __cplusplus
}
#endif
#endif
