/* Rows back as record batches (arrow_map.h). */
#ifndef ESK_STORE_ARROW_READ_H
#define ESK_STORE_ARROW_READ_H

#include "store/arrow_map.h"

/* ---- arrow_owned.c: arrays that own their buffers ---- */

/* Makes an array of `buffers` buffers (NULL for now) and `children` children (released for now). */
esk_status esk_owned_array(
	struct ArrowArray *ret_array, uint64_t length, uint32_t buffers, size_t children, esk_error *err);
/* A buffer of the array, 64-byte aligned; never NULL, but where memory runs out. */
void *esk_owned_buffer(struct ArrowArray *array, uint32_t i, uint64_t bytes);
/* Room for a dictionary, released for now; NULL where memory runs out. */
struct ArrowArray *esk_owned_dictionary(struct ArrowArray *array);
/* Validity from bytes: no bitmap where all are there. NULL: all are. */
esk_status esk_owned_validity(struct ArrowArray *array, const uint8_t *valid, esk_error *err);
void esk_owned_release(struct ArrowArray *array); /* if it is not yet */

/* An array without children that several others have as their dictionary. */
typedef struct esk_shared_array esk_shared_array;
/* Takes the array over. */
esk_status esk_shared_make(struct ArrowArray *array, esk_shared_array **ret_shared, esk_error *err);
void esk_shared_take(esk_shared_array *shared, struct ArrowArray *ret_array);
void esk_shared_drop(esk_shared_array *shared); /* NULL is allowed */

/* ---- arrow_schema.c: kept beside the datasets ---- */

/* ESK_ENOTFOUND where the stream was not made from Arrow. The caller releases *ret_schema, which is a copy by
 * esk_arrow_schema_copy: its nodes own nothing but their block. */
esk_status esk_stored_schema(
	esk_reader *reader, const char *stream, struct ArrowSchema *ret_schema, esk_error *err);
/* Keeps the schema with the stream, and commits. */
esk_status esk_store_schema(
	esk_run *run, const char *stream, const struct ArrowSchema *schema, esk_error *err);

/* ---- arrow_columns.c: the schema of what was not made from Arrow ---- */

/* *ret_datasets are those of the schema's leaves, depth first; one allocation to free. Errors: as
 * esk_reader_arrow. */
esk_status esk_columns_schema(esk_reader *reader, const char *stream, struct ArrowSchema *ret_schema,
	esk_dataset ***ret_datasets, esk_error *err);

/* ---- arrow_project.c ---- */

/* Leaves only the fields of a schema that `columns` name (esk_arrow_rows), in their order; `count` 0: all.
 * Of `datasets` (NULL: none), one for each leaf that is not a struct, depth first, only those that stay are
 * left at the front. The schema's nodes own nothing but their blocks. ESK_ENOTFOUND names the column that no
 * field is; the schema has then to be released. */
esk_status esk_schema_project(struct ArrowSchema *schema, const char *const *columns, size_t count,
	esk_dataset **datasets, esk_error *err);

/* ---- arrow_read.c ---- */

/* What batches are read from. */
typedef struct esk_arrow_source {
	esk_map map;
	esk_dataset ***datasets;       /* of each table's columns */
	esk_shared_array **categories; /* of dictionaries' tables, else NULL */
} esk_arrow_source;

/* Rows of one stream: `count` from `start` on, or those that are listed. */
typedef struct esk_selection {
	uint64_t start;
	uint64_t count;
	uint64_t *rows; /* NULL: those from `start` on, until somebody needs the list; owned */
} esk_selection;

/* The array of a node for the selected rows of its table. The caller releases it. */
esk_status esk_source_read(const esk_arrow_source *source, const esk_map_node *node, esk_selection *rows,
	struct ArrowArray *ret_array, esk_error *err);
/* Reads bytes of a dataset's cells. */
esk_status esk_selection_read(
	const esk_selection *rows, esk_dataset *dataset, void *buf, uint64_t bytes, esk_error *err);
/* *ret_list: the rows' indices, borrowed from the selection. */
esk_status esk_selection_list(esk_selection *rows, const uint64_t **ret_list, esk_error *err);

/* ---- arrow_read_leaf.c ---- */
/* Levels and values of a leaf. */
esk_status esk_source_read_leaf(const esk_arrow_source *source, const esk_map_node *node, esk_selection *rows,
	struct ArrowArray *ret_array, esk_error *err);

#endif
