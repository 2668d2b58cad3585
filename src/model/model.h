/* The vocabulary of arrays: dtype, column, ref. What esker/column.h and esker/ref.h promise is implemented in
 * this folder; this header adds what only the library needs. May include: base, os. */
#ifndef ESK_MODEL_H
#define ESK_MODEL_H

#include "base/base.h"
#include <esker/column.h>
#include <esker/query.h>
#include <esker/ref.h>

#define ESK_CHUNK_TARGET_BYTES (1u << 20)
#define ESK_COLUMN_NAME_BYTES 240 /* of a path whole; "_valid" fits behind it */

/* True if kind and size_bytes belong together. */
bool esk_dtype_valid(esk_dtype dtype);

/* The name of a column: a name, or a path of names ("goal/position"). */
esk_status esk_column_name_check(const char *name, esk_error *err);

/* The name of a stream or of another group of a segment: "/", a name, or a path of names ("scope/waveform"),
 * of ESK_COLUMN_NAME_BYTES at most. */
esk_status esk_group_name_check(const char *name, const char *what, esk_error *err);

/* True if `path` is `top` or lies below it. */
bool esk_path_at_or_below(const char *path, const char *top);

/* Checks a column from outside: name, dtype, shape, product without overflow (below 2^40 bytes a cell). */
esk_status esk_column_check(const esk_column *column, esk_error *err);

/* Rows per chunk: the column's wish, else max(1, 1 MiB / cell bytes). */
uint64_t esk_column_chunk_rows(const esk_column *column);

/* ESK_OK if `found` can be appended to where `expected` was made: dtype, shape, nullable. Names the column.
 */
esk_status esk_column_match(const esk_column *expected, const esk_column *found, esk_error *err);

/* ---- which columns of a stream go into a table of the catalogue (index_spec.c) ---- */

typedef struct esk_index_field {
	char name[64]; /* of the table */
	size_t column; /* of the stream */
	esk_dtype dtype;
	bool nullable; /* of the column */
	bool presence; /* "COLUMN?": whether the cell is there, and not the cell */
} esk_index_field;

typedef struct esk_index_spec {
	char table[64];
	esk_index_field *fields;
	size_t count;
} esk_index_spec;

/* Parses "TABLE(FIELD = COLUMN, FIELD = COLUMN?, …)" (esk_stream_options.index) against the columns. Free
 * with esk_index_spec_free. Errors: ESK_EINVAL names the position and what was expected; ESK_ENOTFOUND,
 * ESK_ETYPE, ESK_ESHAPE (of a column); ESK_ENOMEM. */
esk_status esk_index_spec_parse(const char *text, const esk_column *columns, size_t column_count,
	esk_index_spec *ret_spec, esk_error *err);
void esk_index_spec_free(esk_index_spec *spec);

/* Where the cells of one field lie: `rows` of them, contiguous. */
typedef struct esk_index_source {
	const uint8_t *cells; /* variable strings: a u32 size each */
	const uint8_t *valid; /* a byte each; NULL: all are there */
	const char *text;     /* variable strings: their bytes, one behind the other */
} esk_index_source;

/* Rows packed one behind the other, a field behind the other: a byte, whether there is a value; then the
 * cell, or a u32 size and a string's bytes. Nothing follows where there is none, and for presence. */
typedef struct esk_index_buffer {
	uint8_t *data;
	size_t size;
	size_t capacity;
	uint64_t first_row;
	uint64_t rows;
} esk_index_buffer;

/* Adds rows; false where memory runs out (the buffer is as it was). Moves on what `sources` point to. */
bool esk_index_pack(
	const esk_index_spec *spec, esk_index_source *sources, uint64_t rows, esk_index_buffer *buffer);

/* Reads the next field at *at, which moves on: a value as the table takes it. Text is borrowed from the
 * buffer, not terminated. False where it does not end before `end`. */
bool esk_index_unpack(
	const esk_index_field *field, const uint8_t **at, const uint8_t *end, esk_value *ret_value);

/* Bytes that a codec sees as one element (for shuffle): of one dtype element; parts of a complex number count
 * together, as HDF5 has it. */
static inline uint32_t esk_column_element_bytes(const esk_column *column)
{
	return column->dtype.size_bytes;
}

#endif
