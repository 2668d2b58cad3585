/* The vocabulary of arrays: dtype, column, ref. What esker/column.h and esker/ref.h promise is implemented in
 * this folder; this header adds what only the library needs. May include: base, os. */
#ifndef ESK_MODEL_H
#define ESK_MODEL_H

#include "base/base.h"
#include <esker/column.h>
#include <esker/ref.h>

#define ESK_CHUNK_TARGET_BYTES (1u << 20)
#define ESK_COLUMN_NAME_BYTES 240 /* of a path whole; "_valid" fits behind it */

/* True if kind and size_bytes belong together. */
bool esk_dtype_valid(esk_dtype dtype);

/* The name of a column: a name, or a path of names ("goal/position"). */
esk_status esk_column_name_check(const char *name, esk_error *err);

/* True if `path` is `top` or lies below it. */
bool esk_path_at_or_below(const char *path, const char *top);

/* Checks a column from outside: name, dtype, shape, product without overflow (below 2^40 bytes a cell). */
esk_status esk_column_check(const esk_column *column, esk_error *err);

/* Rows per chunk: the column's wish, else max(1, 1 MiB / cell bytes). */
uint64_t esk_column_chunk_rows(const esk_column *column);

/* ESK_OK if `found` can be appended to where `expected` was made: dtype, shape, nullable. Names the column.
 */
esk_status esk_column_match(const esk_column *expected, const esk_column *found, esk_error *err);

/* Bytes that a codec sees as one element (for shuffle): of one dtype element; parts of a complex number count
 * together, as HDF5 has it. */
static inline uint32_t esk_column_element_bytes(const esk_column *column)
{
	return column->dtype.size_bytes;
}

#endif
