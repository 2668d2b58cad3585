/* Columns of streams as arrays: lists, structs, dictionaries. */
#include "store/arrow_read.h"

#include <stdlib.h>
#include <string.h>

/* ---- selections ---- */

esk_status esk_selection_read(
	const esk_selection *rows, esk_dataset *dataset, void *buf, uint64_t bytes, esk_error *err)
{
	if (rows->rows != NULL)
		return esk_dataset_read_rows(dataset, rows->rows, rows->count, buf, bytes, err);
	return esk_dataset_read(
		dataset, (int64_t)rows->start, (int64_t)(rows->start + rows->count), 1, buf, bytes, err);
}

esk_status esk_selection_list(esk_selection *rows, const uint64_t **ret_list, esk_error *err)
{
	if (rows->rows == NULL) {
		rows->rows = malloc((rows->count + 1) * sizeof *rows->rows);
		if (rows->rows == NULL)
			return esk_fail_memory(err, rows->count * sizeof *rows->rows, "rows");
		for (uint64_t i = 0; i < rows->count; i++)
			rows->rows[i] = rows->start + i;
	}
	*ret_list = rows->rows;
	return ESK_OK;
}

/* ---- what several kinds need ---- */

static esk_status read_column(const esk_arrow_source *source, const esk_map_node *node, uint32_t column,
	uint64_t cell_bytes, const esk_selection *rows, void **ret_cells, esk_error *err)
{
	uint64_t bytes = rows->count * cell_bytes;
	void *cells = malloc(bytes + 1);
	esk_status status = cells != NULL ? esk_selection_read(rows, source->datasets[node->table][column],
						    cells, bytes, err)
					  : esk_fail_memory(err, bytes, "cells");
	if (status != ESK_OK) {
		free(cells);
		return esk_fail_in(err, status, "column \"%s\"", node->path);
	}
	*ret_cells = cells;
	return ESK_OK;
}

/* The explicit validity of the node; *ret_valid is to free, NULL where it has none. */
static esk_status read_validity(const esk_arrow_source *source, const esk_map_node *node,
	const esk_selection *rows, struct ArrowArray *array, uint8_t **ret_valid, esk_error *err)
{
	void *valid = NULL;
	esk_status status = node->valid == ESK_MAP_NONE
				    ? ESK_OK
				    : read_column(source, node, node->valid, 1, rows, &valid, err);
	if (status == ESK_OK)
		status = esk_owned_validity(array, valid, err);
	if (status != ESK_OK) {
		free(valid);
		return status;
	}
	*ret_valid = valid;
	return ESK_OK;
}

/* ---- lists ---- */

/* Where the lists of some rows are. */
typedef struct extents {
	int64_t *offsets;
	int64_t *lengths; /* 0 where the row is missing */
	uint64_t count;
	uint64_t values; /* of all */
	uint64_t limit;  /* rows of the child table */
	bool in_order;   /* one behind the other, without holes */
} extents;

/* In what was recorded no value belongs to two lists, so a file whose lengths add up to more is damaged. */
static esk_status measure(const esk_map_node *node, extents *e, esk_error *err)
{
	bool begun = false;
	int64_t next = 0;
	e->in_order = true;
	for (uint64_t i = 0; i < e->count; i++) {
		uint64_t offset = (uint64_t)e->offsets[i], length = (uint64_t)e->lengths[i];
		if (length == 0)
			continue;
		if (offset > e->limit || length > e->limit - offset || length > e->limit - e->values)
			return esk_fail(err, ESK_ECORRUPT,
				"column \"%s\": a list of %lld values from row %lld on, of %llu that there "
				"are",
				node->path, (long long)e->lengths[i], (long long)e->offsets[i],
				(unsigned long long)e->limit);
		e->in_order = e->in_order && (!begun || e->offsets[i] == next);
		next = e->offsets[i] + e->lengths[i];
		begun = true;
		e->values += length;
	}
	return ESK_OK;
}

static esk_status read_extents(const esk_arrow_source *source, const esk_map_node *node,
	const esk_selection *rows, const uint8_t *valid, extents *e, esk_error *err)
{
	void *offsets = NULL, *lengths = NULL;
	esk_status status = read_column(source, node, node->column, sizeof(int64_t), rows, &offsets, err);
	if (status == ESK_OK)
		status = read_column(source, node, node->column + 1, sizeof(int64_t), rows, &lengths, err);
	*e = (extents){.offsets = offsets,
		.lengths = lengths,
		.count = rows->count,
		.limit = esk_dataset_rows(source->datasets[node->child_table][0])};
	for (uint64_t i = 0; valid != NULL && i < e->count && status == ESK_OK; i++)
		if (valid[i] == 0)
			e->lengths[i] = 0;
	return status == ESK_OK ? measure(node, e, err) : status;
}

static void clear_extents(extents *e)
{
	free(e->offsets);
	free(e->lengths);
}

/* The rows of the child table that are the lists' values, in the lists' order. */
static esk_status select_values(const extents *e, esk_selection *ret_values, esk_error *err)
{
	*ret_values = (esk_selection){.count = e->values};
	for (uint64_t i = 0; i < e->count; i++)
		if (e->lengths[i] > 0) {
			ret_values->start = (uint64_t)e->offsets[i];
			break;
		}
	if (e->in_order)
		return ESK_OK;
	uint64_t *rows = malloc((e->values + 1) * sizeof *rows), at = 0;
	if (rows == NULL)
		return esk_fail_memory(err, e->values * sizeof *rows, "rows");
	for (uint64_t i = 0; i < e->count; i++)
		for (int64_t k = 0; k < e->lengths[i]; k++)
			rows[at++] = (uint64_t)(e->offsets[i] + k);
	ret_values->rows = rows;
	return ESK_OK;
}

static esk_status build_offsets(
	const esk_map_node *node, const extents *e, struct ArrowArray *array, esk_error *err)
{
	bool large = node->type.layout == ESK_ARROW_LARGE_LIST || node->type.layout == ESK_ARROW_LARGE_BINARY;
	uint64_t width = large ? sizeof(int64_t) : sizeof(int32_t), at = 0;
	if (!large && e->values > INT32_MAX)
		return esk_fail(err, ESK_ERANGE,
			"column \"%s\": the batch has more than 2^31 values: ask for fewer rows at once",
			node->path);
	void *offsets = esk_owned_buffer(array, 1, (e->count + 1) * width);
	if (offsets == NULL)
		return esk_fail_memory(err, (e->count + 1) * width, "offsets");
	for (uint64_t i = 0; i <= e->count; i++) {
		if (large)
			((int64_t *)offsets)[i] = (int64_t)at;
		else
			((int32_t *)offsets)[i] = (int32_t)at;
		at += i < e->count ? (uint64_t)e->lengths[i] : 0;
	}
	return ESK_OK;
}

static esk_status read_bytes(const esk_arrow_source *source, const esk_map_node *node,
	const esk_selection *values, struct ArrowArray *array, esk_error *err)
{
	void *bytes = esk_owned_buffer(array, 2, values->count);
	return bytes != NULL ? esk_selection_read(values, source->datasets[node->child_table][0], bytes,
				       values->count, err)
			     : esk_fail_memory(err, values->count, "bytes");
}

static esk_status read_list(const esk_arrow_source *source, const esk_map_node *node, esk_selection *rows,
	struct ArrowArray *array, esk_error *err)
{
	bool bytes = node->kind == ESK_MAP_BYTES;
	uint8_t *valid = NULL;
	extents e = {0};
	esk_selection values = {0};
	esk_status status = esk_owned_array(array, rows->count, bytes ? 3 : 2, bytes ? 0 : 1, err);
	if (status == ESK_OK)
		status = read_validity(source, node, rows, array, &valid, err);
	if (status == ESK_OK)
		status = read_extents(source, node, rows, valid, &e, err);
	if (status == ESK_OK)
		status = build_offsets(node, &e, array, err);
	if (status == ESK_OK)
		status = select_values(&e, &values, err);
	if (status == ESK_OK)
		status =
			bytes ? read_bytes(source, node, &values, array, err)
			      : esk_source_read(source, &node->children[0], &values, array->children[0], err);
	free(values.rows);
	clear_extents(&e);
	free(valid);
	return status;
}

/* ---- structs, dictionaries, nothing ---- */

static esk_status read_struct(const esk_arrow_source *source, const esk_map_node *node, esk_selection *rows,
	struct ArrowArray *array, esk_error *err)
{
	uint8_t *valid = NULL;
	esk_status status = esk_owned_array(array, rows->count, 1, node->child_count, err);
	if (status == ESK_OK)
		status = read_validity(source, node, rows, array, &valid, err);
	for (size_t i = 0; i < node->child_count && status == ESK_OK; i++)
		status = esk_source_read(source, &node->children[i], rows, array->children[i], err);
	free(valid);
	return status;
}

static esk_status put_indices(const esk_map_node *node, const int32_t *codes, const uint8_t *valid,
	uint64_t count, uint64_t categories, void *indices, esk_error *err)
{
	uint32_t width = node->type.width_bytes;
	for (uint64_t i = 0; i < count; i++) {
		int64_t code = valid != NULL && valid[i] == 0 ? 0 : codes[i];
		if (code < 0 || (code > 0 && (uint64_t)code >= categories) ||
			(code == 0 && categories == 0 && (valid == NULL || valid[i] != 0)))
			return esk_fail(err, ESK_ECORRUPT, "column \"%s\": code %lld of %llu categories",
				node->path, (long long)code, (unsigned long long)categories);
		memcpy((char *)indices + i * width, &code, width); /* little-endian */
	}
	return ESK_OK;
}

static esk_status read_dictionary(const esk_arrow_source *source, const esk_map_node *node,
	esk_selection *rows, struct ArrowArray *array, esk_error *err)
{
	uint8_t *valid = NULL;
	void *codes = NULL, *indices = NULL;
	struct ArrowArray *dictionary = NULL;
	esk_status status = esk_owned_array(array, rows->count, 2, 0, err);
	if (status == ESK_OK)
		status = read_validity(source, node, rows, array, &valid, err);
	if (status == ESK_OK)
		status = read_column(source, node, node->column, sizeof(int32_t), rows, &codes, err);
	if (status == ESK_OK) {
		indices = esk_owned_buffer(array, 1, rows->count * node->type.width_bytes);
		dictionary = esk_owned_dictionary(array);
	}
	if (status == ESK_OK && (indices == NULL || dictionary == NULL))
		status = esk_fail_memory(err, rows->count * node->type.width_bytes, "indices");
	if (status == ESK_OK) {
		esk_shared_take(source->categories[node->child_table], dictionary);
		status = put_indices(
			node, codes, valid, rows->count, (uint64_t)dictionary->length, indices, err);
	}
	free(codes);
	free(valid);
	return status;
}

static esk_status read_missing(const esk_selection *rows, struct ArrowArray *array, esk_error *err)
{
	esk_status status = esk_owned_array(array, rows->count, 0, 0, err);
	if (status == ESK_OK)
		array->null_count = array->length;
	return status;
}

esk_status esk_source_read(const esk_arrow_source *source, const esk_map_node *node, esk_selection *rows,
	struct ArrowArray *ret_array, esk_error *err)
{
	struct ArrowArray array = {0};
	esk_status status;
	switch (node->kind) {
	case ESK_MAP_STRUCT:
		status = read_struct(source, node, rows, &array, err);
		break;
	case ESK_MAP_LIST:
	case ESK_MAP_BYTES:
		status = read_list(source, node, rows, &array, err);
		break;
	case ESK_MAP_DICTIONARY:
		status = read_dictionary(source, node, rows, &array, err);
		break;
	case ESK_MAP_MISSING:
		status = read_missing(rows, &array, err);
		break;
	default:
		status = esk_source_read_leaf(source, node, rows, &array, err);
	}
	if (status != ESK_OK) {
		esk_owned_release(&array);
		return status;
	}
	*ret_array = array;
	return ESK_OK;
}
