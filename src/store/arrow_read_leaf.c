/* Leaves of record batches, from a column's cells. */
#include "store/arrow_read.h"

#include <stdlib.h>
#include <string.h>

typedef struct leaf {
	const esk_map_node *node;
	esk_dataset *dataset;
	esk_selection *rows;
	uint64_t count;           /* of values */
	struct ArrowArray *array; /* of the values */
} leaf;

static esk_status no_memory(const esk_map_node *node, uint64_t bytes, esk_error *err)
{
	esk_fail_memory(err, bytes, "cells");
	return esk_fail_in(err, ESK_ENOMEM, "column \"%s\"", node->path);
}

static esk_status plain(const leaf *l, esk_error *err)
{
	uint64_t bytes = l->count * l->node->type.width_bytes;
	void *values = esk_owned_buffer(l->array, 1, bytes);
	return values != NULL ? esk_selection_read(l->rows, l->dataset, values, bytes, err)
			      : no_memory(l->node, bytes, err);
}

static esk_status bits(const leaf *l, esk_error *err)
{
	uint8_t *bytes = malloc(l->count + 1), *bitmap = esk_owned_buffer(l->array, 1, l->count / 8 + 1);
	esk_status status = bytes != NULL && bitmap != NULL
				    ? esk_selection_read(l->rows, l->dataset, bytes, l->count, err)
				    : no_memory(l->node, l->count, err);
	if (status == ESK_OK) {
		bitmap[l->count / 8] = 0;
		esk_bytes_to_bits(bytes, l->count, bitmap);
	}
	free(bytes);
	return status;
}

/* ---- text ---- */

static esk_status set_offset(
	const leaf *l, bool large, void *offsets, uint64_t i, uint64_t at, esk_error *err)
{
	if (large)
		((int64_t *)offsets)[i] = (int64_t)at;
	else
		((int32_t *)offsets)[i] = (int32_t)at;
	return large || at <= INT32_MAX ? ESK_OK
					: esk_fail(err, ESK_ERANGE,
						  "column \"%s\": the batch has more than 2 GiB of text: ask "
						  "for fewer rows at once",
						  l->node->path);
}

/* Texts one behind the other. */
static esk_status join(const leaf *l, const esk_string *strings, esk_error *err)
{
	bool large = l->node->type.layout == ESK_ARROW_LARGE_BINARY;
	uint64_t width = large ? sizeof(int64_t) : sizeof(int32_t), at = 0;
	void *offsets = esk_owned_buffer(l->array, 1, (l->count + 1) * width);
	if (offsets == NULL)
		return no_memory(l->node, l->count * width, err);
	esk_status status = set_offset(l, large, offsets, 0, 0, err);
	for (uint64_t i = 0; i < l->count && status == ESK_OK; i++) {
		at += strings[i].size;
		status = set_offset(l, large, offsets, i + 1, at, err);
	}
	char *text = status == ESK_OK ? esk_owned_buffer(l->array, 2, at) : NULL;
	if (status == ESK_OK && text == NULL)
		status = no_memory(l->node, at, err);
	if (status != ESK_OK)
		return status;
	for (uint64_t i = 0; i < l->count; i++) {
		if (strings[i].size > 0)
			memcpy(text, strings[i].data, strings[i].size);
		text += strings[i].size;
	}
	return ESK_OK;
}

static esk_status variable_text(const leaf *l, esk_error *err)
{
	const uint64_t *list;
	esk_string *strings;
	esk_status status = esk_selection_list(l->rows, &list, err);
	if (status == ESK_OK)
		status = esk_dataset_read_strings(l->dataset, list, l->rows->count, &strings, err);
	if (status != ESK_OK)
		return status;
	status = join(l, strings, err);
	esk_strings_free(strings);
	return status;
}

/* Text in cells of one size, padded with NUL. */
static esk_status padded_text(const leaf *l, esk_error *err)
{
	uint64_t width = l->dataset->column.dtype.size_bytes;
	char *cells = malloc(l->count * width + 1);
	esk_string *strings = malloc((l->count + 1) * sizeof *strings);
	esk_status status = cells != NULL && strings != NULL
				    ? esk_selection_read(l->rows, l->dataset, cells, l->count * width, err)
				    : no_memory(l->node, l->count * width, err);
	for (uint64_t i = 0; i < l->count && status == ESK_OK; i++)
		strings[i] = (esk_string){cells + i * width, strnlen(cells + i * width, width)};
	if (status == ESK_OK)
		status = join(l, strings, err);
	free(cells);
	free(strings);
	return status;
}

/* ---- decimals ---- */

static void put_decimal(void *values, uint64_t i, uint32_t bytes, __int128 value)
{
	memcpy((char *)values + i * bytes, &value, bytes); /* little-endian: the low bytes come first */
}

static esk_status decimals(const leaf *l, esk_error *err)
{
	const esk_arrow_type *type = &l->node->type;
	uint32_t width = l->dataset->column.dtype.size_bytes;
	char *cells = malloc(l->count * width + 1);
	void *values = esk_owned_buffer(l->array, 1, l->count * type->width_bytes);
	esk_status status = cells != NULL && values != NULL
				    ? esk_selection_read(l->rows, l->dataset, cells, l->count * width, err)
				    : no_memory(l->node, l->count * width, err);
	for (uint64_t i = 0; i < l->count && status == ESK_OK; i++) {
		__int128 value = 0;
		const char *cell = cells + i * width;
		if (*cell != '\0' && !esk_decimal_parse(cell, width, type->scale, &value))
			status = esk_fail(err, ESK_ECORRUPT, "column \"%s\": \"%.*s\" is no decimal(%d, %d)",
				l->node->path, (int)width, cell, type->precision, type->scale);
		else
			put_decimal(values, i, type->width_bytes, value);
	}
	free(cells);
	return status;
}

static esk_status read_values(const leaf *l, esk_error *err)
{
	bool text = l->node->kind == ESK_MAP_TEXT;
	esk_status status = esk_owned_array(l->array, l->count, text ? 3 : 2, 0, err);
	if (status != ESK_OK)
		return status;
	switch (l->node->kind) {
	case ESK_MAP_BITS:
		return bits(l, err);
	case ESK_MAP_TEXT:
		return l->dataset->column.dtype.kind == ESK_STRING ? variable_text(l, err)
								   : padded_text(l, err);
	case ESK_MAP_DECIMAL:
		return decimals(l, err);
	default:
		return plain(l, err);
	}
}

/* ---- validity ---- */

/* Of the rows themselves. */
static esk_status read_row_validity(const leaf *l, struct ArrowArray *array, esk_error *err)
{
	const uint64_t *list;
	if (!l->dataset->column.nullable)
		return ESK_OK;
	uint8_t *valid = malloc(l->rows->count + 1);
	esk_status status = valid != NULL ? esk_selection_list(l->rows, &list, err)
					  : no_memory(l->node, l->rows->count, err);
	if (status == ESK_OK)
		status = esk_dataset_read_valid(l->dataset, list, l->rows->count, valid, err);
	if (status == ESK_OK)
		status = esk_owned_validity(array, valid, err);
	free(valid);
	return status;
}

/* Of a level's items. */
static esk_status read_items_validity(
	const leaf *l, esk_dataset *dataset, struct ArrowArray *array, esk_error *err)
{
	uint64_t count = (uint64_t)array->length;
	uint8_t *valid = malloc(count + 1);
	esk_status status = valid != NULL ? esk_selection_read(l->rows, dataset, valid, count, err)
					  : no_memory(l->node, count, err);
	if (status == ESK_OK)
		status = esk_owned_validity(array, valid, err);
	free(valid);
	return status;
}

/* The arrays of the levels, from the outermost; *ret_values is where the innermost items go. */
static esk_status make_levels(const leaf *l, struct ArrowArray *array, struct ArrowArray **ret_values,
	uint64_t *ret_count, esk_error *err)
{
	uint64_t count = l->rows->count;
	esk_status status = ESK_OK;
	for (uint32_t i = 0; i < l->node->level_count && status == ESK_OK; i++) {
		status = esk_owned_array(array, count, 1, 1, err);
		if (status == ESK_OK && !esk_mul_u64(count, l->node->levels[i].size, &count))
			status = esk_fail(err, ESK_ERANGE, "column \"%s\": too many items", l->node->path);
		if (status == ESK_OK)
			array = array->children[0];
	}
	*ret_values = array;
	*ret_count = count;
	return status;
}

esk_status esk_source_read_leaf(const esk_arrow_source *source, const esk_map_node *node, esk_selection *rows,
	struct ArrowArray *ret_array, esk_error *err)
{
	leaf l = {.node = node, .dataset = source->datasets[node->table][node->column], .rows = rows};
	struct ArrowArray array = {0}, *level = &array;
	esk_status status = make_levels(&l, &array, &l.array, &l.count, err);
	if (status == ESK_OK)
		status = read_values(&l, err);
	if (status == ESK_OK)
		status = read_row_validity(&l, &array, err);
	for (uint32_t i = 0; i < node->level_count && status == ESK_OK; i++) {
		level = level->children[0];
		if (node->levels[i].valid != ESK_MAP_NONE)
			status = read_items_validity(
				&l, source->datasets[node->table][node->levels[i].valid], level, err);
	}
	if (status != ESK_OK) {
		esk_owned_release(&array);
		return status;
	}
	*ret_array = array;
	return ESK_OK;
}
