/* What takes batches in (arrow_map.h): memory that is kept between appends, dictionaries' categories.
 *
 *   F1  Filling (arrow_fill.c) changes nothing but the sink's own memory. What is not appended after all is
 * taken back by esk_categories_rollback.
 *
 *   F2  Cells point into the batch's buffers or into the arena; both last until the append returns. */
#ifndef ESK_STORE_ARROW_SINK_H
#define ESK_STORE_ARROW_SINK_H

#include "store/arrow_map.h"

/* ---- arrow_arena.c: memory of one append ---- */

typedef struct esk_arena_block esk_arena_block;
typedef struct esk_arena {
	esk_arena_block *blocks; /* the newest first; one, once sizes have settled */
	size_t used;             /* of the newest */
	size_t total;            /* of all */
} esk_arena;

/* 16-byte aligned; NULL where memory runs out. Lasts until reset. */
void *esk_arena_take(esk_arena *arena, uint64_t count, uint64_t element_bytes);
void esk_arena_reset(esk_arena *arena);
void esk_arena_free(esk_arena *arena);

/* ---- arrow_categories.c: values that were seen, in the order in which they came ---- */

typedef struct esk_categories {
	uint64_t count;
	uint64_t committed; /* of them are in the run */
	uint64_t *ends;     /* of each value's bytes */
	uint64_t capacity;
	char *bytes;
	uint64_t bytes_size, bytes_capacity;
	uint32_t *slots; /* 1 + the index of a value; 0: free */
	uint64_t slot_count;
	/* which index of the batch's dictionary stands for which of them, as far as it was asked in this
	 * append */
	uint32_t *known;
	uint64_t *known_in; /* number of that append */
	uint64_t known_capacity;
} esk_categories;

/* The index of a value, which is added if it is new. */
esk_status esk_categories_find(
	esk_categories *categories, const void *value, uint64_t size, uint32_t *ret_index, esk_error *err);
static inline const char *esk_category(const esk_categories *categories, uint64_t i, uint64_t *ret_size)
{
	uint64_t begin = i > 0 ? categories->ends[i - 1] : 0;
	*ret_size = categories->ends[i] - begin;
	return categories->bytes + begin;
}
/* Room to remember `count` indices. */
esk_status esk_categories_know(esk_categories *categories, uint64_t count, esk_error *err);
void esk_categories_rollback(esk_categories *categories);
void esk_categories_free(esk_categories *categories);

/* ---- the sink ---- */

typedef struct esk_sink_table {
	esk_stream *stream;
	uint64_t rows;      /* of this append */
	uint64_t base;      /* index of the first of them */
	const void **cells; /* as esk_rows_part */
	const uint8_t **valid;
	esk_categories categories; /* of a dictionary's table */
} esk_sink_table;

struct esk_arrow_sink {
	esk_run *run;
	struct ArrowSchema schema;
	esk_map map;
	esk_sink_table *tables;
	esk_rows_part *parts; /* table_count, then room for others */
	size_t part_capacity;
	esk_arena arena;
	uint8_t *ones; /* validity of cells that are all there */
	uint64_t ones_count;
	uint64_t ones_wanted;
	uint64_t append; /* number of the present one */
};

/* arrow_sink.c: all of a sink but the run and its streams; closed as others are. */
esk_status esk_sink_prepare(const char *name, const struct ArrowSchema *schema,
	const esk_arrow_sink_options *options, esk_arrow_sink **ret_sink, esk_error *err);
/* Before an append is filled: forgets what the one before needed. */
esk_status esk_sink_begin(esk_arrow_sink *sink, esk_error *err);

/* arrow_fill.c: cells for rows [first, first + rows) of a batch. */
esk_status esk_sink_fill(
	esk_arrow_sink *sink, const struct ArrowArray *batch, uint64_t first, uint64_t rows, esk_error *err);

/* arrow_fill_dictionary.c: the codes of one dictionary-encoded column. `valid` says which rows are there,
 * NULL: all; *ret_valid the same, without those whose category is missing. */
esk_status esk_sink_fill_codes(esk_arrow_sink *sink, const esk_map_node *node, const struct ArrowArray *array,
	uint64_t first, uint64_t rows, const uint8_t *valid, const uint8_t **ret_valid, esk_error *err);
/* The categories that the run does not have, as cells of their table. */
esk_status esk_sink_fill_categories(esk_arrow_sink *sink, const esk_map_node *node, esk_error *err);

/* arrow_leaf.c: `count` values from `first` on (in the array's buffers, not counted from its offset) of a
 * leaf's array, as cells of the column. `mask`: which of them are there; NULL: all. `per_row` of them make a
 * row, for messages. */
esk_status esk_sink_leaf(esk_arrow_sink *sink, const esk_map_node *node, const struct ArrowArray *array,
	uint64_t first, uint64_t count, uint64_t per_row, const uint8_t *mask, const void **ret_cells,
	esk_error *err);

/* What an array must have before it is looked at: room for rows [first, first + rows), buffers, children. */
esk_status esk_sink_check_array(const esk_map_node *node, const struct ArrowArray *array, int64_t buffers,
	int64_t children, uint64_t first, uint64_t rows, esk_error *err);

#endif
