/* The catalogue: read-only SQL, and lists of what the store holds.
 *
 * docs/FORMAT.md has the tables (runs, segments, streams, columns, extents, gaps, items, metadata, and those
 * of profiles) and the views on them. Times are int64 nanoseconds since the Unix epoch.
 *
 * A query has a connection of its own: several may be open beside each other and beside recorders, each for
 * one thread at a time. A child of fork opens its own (ESK_ECLOSED). */
#ifndef ESKER_QUERY_H
#define ESKER_QUERY_H

#include <esker/store.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct esk_query esk_query;

typedef enum esk_value_kind { ESK_NULL = 0, ESK_INTEGER, ESK_REAL, ESK_TEXT, ESK_BLOB } esk_value_kind;

typedef struct esk_value {
	esk_value_kind kind;
	int64_t integer;
	double real;
	const char *data; /* text (NUL-terminated) or blob; borrowed until the next step or close */
	size_t size;      /* bytes of data */
} esk_value;

/* Prepares one SELECT (or WITH, EXPLAIN, read-only PRAGMA) over the catalogue. Anything that would write is
 * refused. The caller owns *ret_query and closes it before the store. Errors: ESK_EINVAL with SQLite's
 * message, ESK_EBUSY, ESK_EIO, ESK_ENOMEM. */
ESK_API esk_status esk_query_open(esk_store *store, const char *sql, esk_query **ret_query, esk_error *err);

/* Binds parameter `index` (from 1) of the statement, which begins anew. Text and blobs are copied. Errors:
 * ESK_ERANGE (no such parameter), ESK_EINVAL (the kind), ESK_ENOMEM. */
ESK_API esk_status esk_query_bind(esk_query *query, int index, const esk_value *value, esk_error *err);

/* How many columns a row has, and the name of one, counted from 0; borrowed until close, "" where there is no
 * such column. */
ESK_API int esk_query_column_count(const esk_query *query);
ESK_API const char *esk_query_column_name(const esk_query *query, int column);

/* Steps to the next row; *ret_row is false behind the last. Errors: ESK_EBUSY (a writer held the catalogue
 * for too long), ESK_EIO, ESK_ECORRUPT, ESK_ENOMEM. */
ESK_API esk_status esk_query_step(esk_query *query, bool *ret_row, esk_error *err);

/* The value of a column of the present row; ESK_NULL where there is no such column or row. */
ESK_API esk_value esk_query_value(const esk_query *query, int column);

/* NULL is allowed. */
ESK_API void esk_query_close(esk_query *query);

#ifdef __cplusplus
}
#endif
#endif
