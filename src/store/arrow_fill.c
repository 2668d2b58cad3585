/* A batch's rows as cells of the tables' columns (arrow_sink.h). */
#include "store/arrow_sink.h"

#include <string.h>

/* Rows [first, first + rows) of an array, counted from its offset. `parent`: which of them are in a row of a
 * struct that is there; NULL: all. */
typedef struct range {
	uint64_t first;
	uint64_t rows;
	const uint8_t *parent;
} range;

static esk_status fill_node(esk_arrow_sink *sink, const esk_map_node *node, const struct ArrowArray *array,
	const range *at, esk_error *err);

static esk_status no_memory(const esk_map_node *node, uint64_t bytes, esk_error *err)
{
	esk_fail_memory(err, bytes, "cells");
	return esk_fail_in(err, ESK_ENOMEM, "column \"%s\"", node->path);
}

esk_status esk_sink_check_array(const esk_map_node *node, const struct ArrowArray *array, int64_t buffers,
	int64_t children, uint64_t first, uint64_t rows, esk_error *err)
{
	if (array == NULL)
		return esk_fail(err, ESK_ETYPE, "column \"%s\" has no array", node->path);
	if (array->n_buffers != buffers || (buffers > 0 && array->buffers == NULL) ||
		array->n_children != children || (children > 0 && array->children == NULL))
		return esk_fail(err, ESK_ETYPE,
			"column \"%s\": an array of its type has %lld buffers and %lld children, this one "
			"%lld and %lld",
			node->path, (long long)buffers, (long long)children, (long long)array->n_buffers,
			(long long)array->n_children);
	uint64_t end, length = (uint64_t)array->length;
	if (array->length < 0 || array->offset < 0 || array->offset > INT64_MAX / 32 ||
		array->length > INT64_MAX / 32 || !esk_add_u64(first, rows, &end) || end > length)
		return esk_fail(err, ESK_ERANGE,
			"column \"%s\": %llu rows from row %llu on, of an array of %lld from offset %lld",
			node->path, (unsigned long long)rows, (unsigned long long)first,
			(long long)array->length, (long long)array->offset);
	return ESK_OK;
}

/* ---- validity ---- */

/* *ret_valid: a byte for each row, or NULL where all are there. */
static esk_status take_validity(esk_arrow_sink *sink, const esk_map_node *node,
	const struct ArrowArray *array, uint64_t first, uint64_t rows, const uint8_t **ret_valid,
	esk_error *err)
{
	*ret_valid = NULL;
	const uint8_t *bitmap = array->buffers[0];
	uint64_t at = (uint64_t)array->offset + first;
	if (bitmap == NULL || array->null_count == 0 || esk_bits_all_set(bitmap, at, rows))
		return ESK_OK;
	uint8_t *valid = esk_arena_take(&sink->arena, rows, 1);
	if (valid == NULL)
		return no_memory(node, rows, err);
	esk_bits_to_bytes(bitmap, at, rows, valid);
	*ret_valid = valid;
	return ESK_OK;
}

/* As many bytes of 1, to be kept from the next append on where there are not as many yet. */
static const uint8_t *take_ones(esk_arrow_sink *sink, uint64_t count)
{
	if (count <= sink->ones_count)
		return sink->ones;
	sink->ones_wanted = esk_max_u64(sink->ones_wanted, count);
	uint8_t *ones = esk_arena_take(&sink->arena, count, 1);
	if (ones != NULL)
		memset(ones, 1, count);
	return ones;
}

/* Cells that are missing where the field is not nullable are an error, but in rows of a struct or list that
 * is missing itself: `outer` says so, a byte for `per` of them. */
static esk_status check_present(const esk_map_node *node, const uint8_t *valid, uint64_t count,
	const uint8_t *outer, uint64_t per, uint64_t per_row, esk_error *err)
{
	for (uint64_t i = esk_bytes_find_zero(valid, count); i < count;
		i += 1 + esk_bytes_find_zero(valid + i + 1, count - i - 1))
		if (outer == NULL || outer[i / per] != 0)
			return esk_fail(err, ESK_EINVAL,
				"column \"%s\", row %llu of the append: %s missing and the field is not "
				"nullable",
				node->path, (unsigned long long)(i / per_row),
				per_row > 1 ? "an item is" : "the cell is");
	return ESK_OK;
}

/* What is there in itself and in what it is part of: NULL where everything is. */
static esk_status both(esk_arrow_sink *sink, const esk_map_node *node, const uint8_t *valid,
	const uint8_t *outer, uint64_t count, uint64_t per, const uint8_t **ret_both, esk_error *err)
{
	if (outer == NULL || (valid == NULL && per == 1)) {
		*ret_both = outer == NULL ? valid : outer;
		return ESK_OK;
	}
	uint8_t *bytes = esk_arena_take(&sink->arena, count, 1);
	if (bytes == NULL)
		return no_memory(node, count, err);
	for (uint64_t i = 0; i < count; i += per)
		memset(bytes + i, outer[i / per], per);
	for (uint64_t i = 0; i < count && valid != NULL; i++)
		bytes[i] &= valid[i];
	*ret_both = bytes;
	return ESK_OK;
}

/* The explicit column of a validity, where the node has one; checks that nothing lacks where it has none. */
static esk_status fill_validity(
	esk_arrow_sink *sink, const esk_map_node *node, const uint8_t *valid, const range *at, esk_error *err)
{
	if (node->valid == ESK_MAP_NONE)
		return valid == NULL ? ESK_OK : check_present(node, valid, at->rows, at->parent, 1, 1, err);
	const uint8_t *cells = valid != NULL ? valid : take_ones(sink, at->rows);
	if (cells == NULL)
		return no_memory(node, at->rows, err);
	sink->tables[node->table].cells[node->valid] = cells;
	return ESK_OK;
}

/* ---- leaves ---- */

/* Goes down the levels of fixed-size lists. In: array, first and count of the rows, their mask. Out: the same
 * of the innermost items. */
typedef struct descent {
	const struct ArrowArray *array;
	uint64_t first; /* in the buffers */
	uint64_t count;
	uint64_t per_row;
	const uint8_t *mask;
} descent;

static esk_status descend(esk_arrow_sink *sink, const esk_map_node *node, uint32_t level,
	const uint8_t *parent, descent *d, esk_error *err)
{
	const esk_map_level *l = &node->levels[level];
	esk_sink_table *table = &sink->tables[node->table];
	const struct ArrowArray *items = d->array->children[0];
	const uint8_t *valid = NULL, *outer = d->mask;
	uint64_t first, count;
	if (!esk_mul_u64(d->first, l->size, &first) || !esk_mul_u64(d->count, l->size, &count))
		return esk_fail(err, ESK_ERANGE, "column \"%s\": too many items", node->path);
	bool last = level + 1 == node->level_count;
	int64_t buffers = !last ? 1 : node->kind == ESK_MAP_TEXT ? 3 : 2;
	esk_status status = esk_sink_check_array(node, items, buffers, last ? 0 : 1, first, count, err);
	if (status == ESK_OK)
		status = take_validity(sink, node, items, first, count, &valid, err);
	if (status != ESK_OK)
		return status;
	d->per_row *= l->size;
	if (l->valid != ESK_MAP_NONE) {
		table->cells[l->valid] = valid != NULL ? valid : take_ones(sink, count);
		if (table->cells[l->valid] == NULL)
			return no_memory(node, count, err);
	} else if (valid != NULL) {
		/* The row's struct speaks where nothing nearer lacks. */
		const uint8_t *by = outer != NULL ? outer : parent;
		uint64_t per = outer != NULL ? l->size : d->per_row;
		status = check_present(node, valid, count, by, per, d->per_row, err);
	}
	if (status == ESK_OK)
		status = both(sink, node, valid, outer, count, l->size, &d->mask, err);
	d->array = items;
	d->first = (uint64_t)items->offset + first;
	d->count = count;
	return status;
}

static esk_status fill_leaf(esk_arrow_sink *sink, const esk_map_node *node, const struct ArrowArray *array,
	const range *at, esk_error *err)
{
	esk_sink_table *table = &sink->tables[node->table];
	bool list = node->level_count > 0;
	int64_t buffers = list ? 1 : node->kind == ESK_MAP_TEXT ? 3 : 2;
	const uint8_t *valid = NULL;
	esk_status status = esk_sink_check_array(node, array, buffers, list, at->first, at->rows, err);
	if (status == ESK_OK)
		status = take_validity(sink, node, array, at->first, at->rows, &valid, err);
	if (status == ESK_OK && !node->nullable && valid != NULL)
		status = check_present(node, valid, at->rows, at->parent, 1, 1, err);
	if (status != ESK_OK)
		return status;
	table->valid[node->column] = node->nullable ? valid : NULL;
	descent d = {.array = array,
		.first = (uint64_t)array->offset + at->first,
		.count = at->rows,
		.per_row = 1,
		.mask = valid};
	for (uint32_t i = 0; i < node->level_count && status == ESK_OK; i++)
		status = descend(sink, node, i, at->parent, &d, err);
	if (status != ESK_OK)
		return status;
	return esk_sink_leaf(
		sink, node, d.array, d.first, d.count, d.per_row, d.mask, &table->cells[node->column], err);
}

static esk_status fill_missing(esk_arrow_sink *sink, const esk_map_node *node, const struct ArrowArray *array,
	const range *at, esk_error *err)
{
	sink->tables[node->table].cells[node->column] = NULL;
	return esk_sink_check_array(node, array, 0, 0, at->first, at->rows, err);
}

/* ---- lists ---- */

/* Offsets of an array as positions from the first, which is where its values are in the child: *ret_values of
 * them from *ret_first on. */
static esk_status fill_offsets(esk_arrow_sink *sink, const esk_map_node *node, const void *raw,
	uint64_t first, uint64_t rows, const uint8_t *valid, uint64_t *ret_first, uint64_t *ret_values,
	esk_error *err)
{
	bool large = node->type.layout == ESK_ARROW_LARGE_LIST || node->type.layout == ESK_ARROW_LARGE_BINARY;
	const int32_t *narrow = (const int32_t *)raw + first;
	const int64_t *wide = (const int64_t *)raw + first;
	esk_sink_table *table = &sink->tables[node->table];
	uint64_t base = sink->tables[node->child_table].base;
	int64_t *offsets = esk_arena_take(&sink->arena, rows, sizeof *offsets);
	int64_t *lengths = esk_arena_take(&sink->arena, rows, sizeof *lengths);
	if (offsets == NULL || lengths == NULL)
		return no_memory(node, rows * sizeof *offsets, err);
	if (raw == NULL)
		return esk_fail(err, ESK_ETYPE, "column \"%s\": the array has no offsets", node->path);
	int64_t begin = large ? wide[0] : narrow[0], at = begin;
	for (uint64_t i = 0; i < rows; i++) {
		int64_t end = large ? wide[i + 1] : narrow[i + 1];
		if (at < 0 || end < at)
			return esk_fail(err, ESK_EINVAL,
				"column \"%s\", row %llu of the append: its list is from %lld to %lld",
				node->path, (unsigned long long)i, (long long)at, (long long)end);
		offsets[i] = (int64_t)base + at - begin;
		lengths[i] = valid == NULL || valid[i] != 0 ? end - at : 0;
		at = end;
	}
	table->cells[node->column] = offsets;
	table->cells[node->column + 1] = lengths;
	*ret_first = (uint64_t)begin;
	*ret_values = (uint64_t)(at - begin);
	return ESK_OK;
}

static esk_status fill_bytes(esk_arrow_sink *sink, const esk_map_node *node, const struct ArrowArray *array,
	uint64_t first, uint64_t bytes, esk_error *err)
{
	const uint8_t *data = array->buffers[2];
	if (data == NULL && bytes > 0)
		return esk_fail(err, ESK_ETYPE, "column \"%s\": the array has no bytes", node->path);
	sink->tables[node->child_table].cells[0] = data != NULL ? data + first : NULL;
	return ESK_OK;
}

static esk_status fill_list(esk_arrow_sink *sink, const esk_map_node *node, const struct ArrowArray *array,
	const range *at, esk_error *err)
{
	bool bytes = node->kind == ESK_MAP_BYTES;
	const uint8_t *valid = NULL;
	uint64_t first = 0, values = 0;
	esk_status status =
		esk_sink_check_array(node, array, bytes ? 3 : 2, bytes ? 0 : 1, at->first, at->rows, err);
	if (status == ESK_OK)
		status = take_validity(sink, node, array, at->first, at->rows, &valid, err);
	if (status == ESK_OK)
		status = fill_validity(sink, node, valid, at, err);
	if (status == ESK_OK)
		status = fill_offsets(sink, node, array->buffers[1], (uint64_t)array->offset + at->first,
			at->rows, valid, &first, &values, err);
	if (status != ESK_OK)
		return status;
	sink->tables[node->child_table].rows = values;
	if (bytes)
		return fill_bytes(sink, node, array, first, values, err);
	return fill_node(
		sink, &node->children[0], array->children[0], &(range){.first = first, .rows = values}, err);
}

/* ---- structs, dictionaries ---- */

static esk_status fill_fields(esk_arrow_sink *sink, const esk_map_node *node, const struct ArrowArray *array,
	const range *at, esk_error *err)
{
	esk_status status = ESK_OK;
	for (size_t i = 0; i < node->child_count && status == ESK_OK; i++)
		status = fill_node(sink, &node->children[i], array->children[i], at, err);
	return status;
}

static esk_status fill_struct(esk_arrow_sink *sink, const esk_map_node *node, const struct ArrowArray *array,
	const range *at, esk_error *err)
{
	const uint8_t *valid = NULL;
	range fields = {.rows = at->rows};
	esk_status status =
		esk_sink_check_array(node, array, 1, (int64_t)node->child_count, at->first, at->rows, err);
	if (status == ESK_OK)
		status = take_validity(sink, node, array, at->first, at->rows, &valid, err);
	if (status == ESK_OK)
		status = fill_validity(sink, node, valid, at, err);
	if (status == ESK_OK)
		status = both(sink, node, valid, at->parent, at->rows, 1, &fields.parent, err);
	if (status != ESK_OK)
		return status;
	fields.first = (uint64_t)array->offset + at->first;
	return fill_fields(sink, node, array, &fields, err);
}

static esk_status fill_dictionary(esk_arrow_sink *sink, const esk_map_node *node,
	const struct ArrowArray *array, const range *at, esk_error *err)
{
	const uint8_t *valid = NULL;
	esk_status status = esk_sink_check_array(node, array, 2, 0, at->first, at->rows, err);
	if (status == ESK_OK)
		status = take_validity(sink, node, array, at->first, at->rows, &valid, err);
	if (status == ESK_OK)
		status = esk_sink_fill_codes(
			sink, node, array, (uint64_t)array->offset + at->first, at->rows, valid, &valid, err);
	if (status == ESK_OK)
		status = fill_validity(sink, node, valid, at, err);
	return status == ESK_OK ? esk_sink_fill_categories(sink, node, err) : status;
}

static esk_status fill_node(esk_arrow_sink *sink, const esk_map_node *node, const struct ArrowArray *array,
	const range *at, esk_error *err)
{
	if (at->rows == 0) /* nothing below it gets rows either */
		return ESK_OK;
	switch (node->kind) {
	case ESK_MAP_MISSING:
		return fill_missing(sink, node, array, at, err);
	case ESK_MAP_LIST:
	case ESK_MAP_BYTES:
		return fill_list(sink, node, array, at, err);
	case ESK_MAP_STRUCT:
		return fill_struct(sink, node, array, at, err);
	case ESK_MAP_DICTIONARY:
		return fill_dictionary(sink, node, array, at, err);
	default:
		return fill_leaf(sink, node, array, at, err);
	}
}

esk_status esk_sink_fill(
	esk_arrow_sink *sink, const struct ArrowArray *batch, uint64_t first, uint64_t rows, esk_error *err)
{
	const esk_map_node *root = &sink->map.root;
	esk_status status =
		esk_sink_check_array(root, batch, 1, (int64_t)root->child_count, first, rows, err);
	if (status != ESK_OK)
		return esk_fail_in(err, status, "the batch");
	if (batch->buffers[0] != NULL && batch->null_count != 0 &&
		!esk_bits_all_set(batch->buffers[0], (uint64_t)batch->offset + first, rows))
		return esk_fail(err, ESK_EINVAL, "the batch has rows that are missing as a whole");
	sink->tables[0].rows = rows;
	return fill_fields(
		sink, root, batch, &(range){.first = (uint64_t)batch->offset + first, .rows = rows}, err);
}
