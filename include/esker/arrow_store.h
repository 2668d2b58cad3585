/* Arrow record batches into the streams of a run, and rows back as record batches.
 *
 * A schema becomes ordinary datasets (FORMAT.md, "Arrow types in HDF5"), so that readers of HDF5 see arrays
 * and never Arrow; the schema itself is kept beside them, so that what went in as Arrow comes out as it was.
 *
 * What a field x of the stream "S" becomes; where it is nullable there is "x_valid" besides:
 *
 *     ints, floats, f16, bool        x: the same dtype
 *     null                           x: bool, every cell missing
 *     utf8, large_utf8               x: str
 *     binary, large_binary           as a list of u8
 *     fixed-size binary(n)           x: u8[n]
 *     date, time, timestamp,
 *     duration                       x: i32 or i64, with units
 *     decimal32, -64, -128(p, s)     x: str<p + 3>, the decimal text
 *     fixed-size list(n)             x: the items' dtype, [n, …]; nullable items: x_items_valid: bool[n]
 *     arrow.fixed_shape_tensor       x: the items' dtype, the tensor's shape; items are never missing
 *     list, large_list, map          x/offsets, x/lengths: i64; stream "S/x" with the column "values"
 *     struct                         the fields' columns, below x/
 *     dictionary                     x/codes: i32 (-1: missing); stream "S/x" with the column
 *                                    "categories", unified over batches and sessions
 *
 * Everything else is refused with ESK_EUNSUPPORTED before anything is made. Offsets count rows of the stream
 * "S/x" from the beginning of the run, over all segments.
 *
 * Names of fields become names of datasets. What a dataset's name cannot hold is escaped: '/', '\\', ':',
 * control characters, a '.' in front, and a '%' that two hexadecimal digits follow become "%2F" and so on.
 * Fields without a name, two of the same name, and names that would give one dataset to two fields are
 * refused.
 *
 * Caveat: a stream with lists or dictionaries needs a run whose policy is not ESK_OVERWRITE, since rows that
 * are overwritten would move the rows that offsets and codes point to. */
#ifndef ESKER_ARROW_STORE_H
#define ESKER_ARROW_STORE_H

#include <esker/arrow.h>
#include <esker/reader.h>
#include <esker/store.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- record batches into streams ---------------------------------------------------------------------- */

/* Takes the batches of one schema into one stream of a run, and the streams below it. */
typedef struct esk_arrow_sink esk_arrow_sink;

typedef struct esk_arrow_sink_options {
	size_t struct_size;
	const char *codec;   /* of columns that nothing else gives one; NULL: the run's default */
	uint64_t chunk_rows; /* of columns that nothing else gives one; 0: about 1 MiB */
	/* What single fields are stored with: "PATH@CODEC#CHUNK_ROWS …", separated by blanks, ',' or ';';
	 * either part may be left out. PATH is a field ("wave", "imu/acc") and speaks for every column of it;
	 * the longest one that fits counts. Bytes that separate are written as %20 and so on. NULL: none. */
	const char *columns;
	const char *units_json;      /* {"PATH": "V", …}; NULL: none */
	const char *long_names_json; /* {"PATH": "voltage at the sample", …}; NULL: none */
} esk_arrow_sink_options;
#define ESK_ARROW_SINK_OPTIONS_INIT                           \
	{                                                     \
		.struct_size = sizeof(esk_arrow_sink_options) \
	}

/* Opens the stream `name` ("/" for the root of the file) for record batches of `schema`, a struct type whose
 * children are the columns; the stream, and those below it, are made where the run lacks them. The fields'
 * metadata may say `units`, `long_name`, `codec` and `chunk_rows`; options come before it. `options` may be
 * NULL. The schema is not kept: it may be released afterwards. The caller owns *ret_sink and closes it before
 * the run.
 *
 * A sink is for one thread at a time, and the only writer of its streams.
 *
 * Errors: ESK_EUNSUPPORTED (names the column and its type), ESK_EINVAL (names, options, a schema that is not
 * sound), ESK_ERANGE (more than 4096 columns), ESK_ETYPE, ESK_ENOTFOUND (the run has the stream with another
 * schema, or was not made from Arrow and differs: names the column that was added, is missing or is another),
 * and those of esk_run_stream. But for the last, nothing was made then. */
ESK_API esk_status esk_run_arrow(esk_run *run, const char *name, const struct ArrowSchema *schema,
	const esk_arrow_sink_options *options, esk_arrow_sink **ret_sink, esk_error *err);

/* ESK_OK if batches of `schema` can be appended. Metadata does not count. Else ESK_ENOTFOUND (a column is
 * missing) or ESK_ETYPE (one was added, has another type, place or nullability), naming the first that
 * differs. */
ESK_API esk_status esk_arrow_sink_check(
	const esk_arrow_sink *sink, const struct ArrowSchema *schema, esk_error *err);

/* ESK_OK if `found` takes the same batches as `expected`; else as esk_arrow_sink_check. */
ESK_API esk_status esk_arrow_same_schema(
	const struct ArrowSchema *expected, const struct ArrowSchema *found, esk_error *err);

/* ESK_OK if batches of `schema` have a place in a stream of that name, in whatever run: for who takes batches
 * before there is one. Errors: ESK_EUNSUPPORTED, ESK_EINVAL, ESK_ERANGE, as esk_run_arrow. */
ESK_API esk_status esk_arrow_storable(const char *stream, const struct ArrowSchema *schema, esk_error *err);

/* Appends rows [first, first + rows) of `batch`, a struct array of the sink's schema, which stays the
 * caller's. With them, in the same record of the ring, go the parts `extra` (streams of the same run; may be
 * none): all are acknowledged together, as by esk_run_append. *ret_row (may be NULL) gets the index of the
 * first row in the stream. No memory is taken once the sizes of batches have settled; fixed-width columns
 * without missing cells are copied once, from the batch's buffer to the ring.
 *
 * The batch must hold what the C data interface demands; its structure, offsets, indices and texts are
 * checked as far as that can be done (esk_arrow_validate).
 *
 * Errors: ESK_ERANGE (the rows take more than one record of the ring: see esk_arrow_sink_rows_per_record; or
 * there are not that many in the batch), ESK_EINVAL (names column and row: a text with a NUL byte or that is
 * no UTF-8, a missing cell of a field that is not nullable, …), ESK_ETYPE (an array that is not of the
 * schema), and those of esk_run_append. Nothing was appended then. */
ESK_API esk_status esk_arrow_sink_append(esk_arrow_sink *sink, const struct ArrowArray *batch, uint64_t first,
	uint64_t rows, const esk_rows_part *extra, size_t extra_count, uint64_t *ret_row, esk_error *err);

/* How many rows of this batch, wherever they begin, are sure to fit one record, with 4 KiB to spare for
 * `extra`; at least 1, which may not fit. */
ESK_API uint64_t esk_arrow_sink_rows_per_record(const esk_arrow_sink *sink, const struct ArrowArray *batch);

/* The stream that the batches' rows are in; borrowed until the run is closed. */
ESK_API esk_stream *esk_arrow_sink_stream(const esk_arrow_sink *sink);

/* Frees the sink; the streams stay. NULL is allowed. */
ESK_API void esk_arrow_sink_close(esk_arrow_sink *sink);

/* ---- a record batch as an item ------------------------------------------------------------------------ */

/* Puts `batch` whole as an item (esk_run_put): the arrays are its columns, by the rules above, all of them in
 * the item's group. The values of a list `x` are the array "x/values", the categories of a dictionary
 * "x/categories"; offsets and codes count their rows. Of `item` path, attributes_json and join count.
 * `options` may be NULL.
 *
 * Errors: those of esk_run_put, and of esk_arrow_sink_append as far as they are about the batch. */
ESK_API esk_status esk_run_put_arrow(esk_run *run, const esk_item *item, const struct ArrowSchema *schema,
	const struct ArrowArray *batch, const esk_arrow_sink_options *options, esk_error *err);

/* ---- rows back as record batches ---------------------------------------------------------------------- */

/* Which rows of which columns. */
typedef struct esk_arrow_rows {
	size_t struct_size;
	uint64_t start;
	uint64_t stop;       /* beyond the last row: all rows there are now */
	uint64_t step;       /* every step-th row from start on; 0: 1 */
	uint64_t batch_rows; /* of a record batch at most; 0: about 4 MiB each */
	/* Some of the fields alone, by the paths of datasets below the stream: "x" is the field x, "imu/acc"
	 * the field acc of the struct imu, "wave/offsets" the list wave. They keep the schema's order. NULL:
	 * all. */
	const char *const *columns;
	size_t column_count;
} esk_arrow_rows;
#define ESK_ARROW_ROWS_INIT                                               \
	{                                                                 \
		.struct_size = sizeof(esk_arrow_rows), .stop = UINT64_MAX \
	}

/* Rows of the stream `stream` ("/" for the root) as record batches; rows that come later are not seen.
 * `rows` may be NULL: all. Of columns that were not asked for, nothing is read. The schema is the one that
 * the stream was made with; only where a unified dictionary has outgrown its index type is that one larger.
 * Where the stream was not made from Arrow it follows from the columns, and `stream` may be a group of
 * datasets of one length in any HDF5 file:
 *
 *     str, str<N>         utf8
 *     c64, c128           fixed-size list(2) of f32, f64, with the metadata "esker:dtype"
 *     cells of rank 1     fixed-size list; of higher rank: arrow.fixed_shape_tensor
 *     "a/b"               a struct "a" with the field "b"
 *     units, long_name    the field's metadata
 *
 * *ret_stream belongs to the caller, who releases it, before or after the reader is closed: from then on
 * get_next fails. The batches it gave live on.
 * It is for one thread at a time. Memory is bounded by the batch. Works beside a run that grows. Its
 * callbacks return an errno, and get_last_error has the message.
 *
 * Errors: ESK_ENOTFOUND (no such stream or column), ESK_ERANGE (start is behind the last row),
 * ESK_EUNSUPPORTED (a column whose type Esker does not read), ESK_ESHAPE (datasets of several lengths),
 * ESK_EINVAL, ESK_ECORRUPT, ESK_ENOMEM. */
ESK_API esk_status esk_reader_arrow_select(esk_reader *reader, const char *stream, const esk_arrow_rows *rows,
	struct ArrowArrayStream *ret_stream, esk_error *err);

/* The same for rows [start, stop) of all columns. */
ESK_API esk_status esk_reader_arrow(esk_reader *reader, const char *stream, uint64_t start, uint64_t stop,
	uint64_t batch_rows, struct ArrowArrayStream *ret_stream, esk_error *err);

#ifdef __cplusplus
}
#endif
#endif
