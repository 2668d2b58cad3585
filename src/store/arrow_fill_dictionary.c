/* Dictionary-encoded columns: the batch's indices as codes of the run's categories. */
#include "store/arrow_sink.h"

#include <string.h>

#define MISSING UINT32_MAX

/* One column's part of an append. */
typedef struct codes_call {
	esk_arrow_sink *sink;
	const esk_map_node *node;
	const struct ArrowArray *values; /* the dictionary */
	esk_categories *categories;
} codes_call;

static esk_status bad_row(const codes_call *call, uint64_t row, esk_status status, esk_error *err)
{
	return esk_fail_in(err, status, "column \"%s\", row %llu of the append", call->node->path,
		(unsigned long long)row);
}

/* ---- one value of the dictionary ---- */

static esk_status text_value(
	const codes_call *call, uint64_t at, const void **ret_value, uint64_t *ret_size, esk_error *err)
{
	bool large = call->node->children[0].type.layout == ESK_ARROW_LARGE_BINARY;
	const int32_t *narrow = call->values->buffers[1];
	const int64_t *wide = call->values->buffers[1];
	const char *text = call->values->buffers[2];
	int64_t begin = large ? wide[at] : narrow[at], end = large ? wide[at + 1] : narrow[at + 1];
	if (begin < 0 || end < begin || end - begin > UINT32_MAX || (text == NULL && end > begin))
		return esk_fail(err, ESK_EINVAL, "a category is from byte %lld to %lld", (long long)begin,
			(long long)end);
	*ret_size = (uint64_t)(end - begin);
	*ret_value = text != NULL ? text + begin : "";
	size_t sound = esk_text_sound_bytes(*ret_value, *ret_size);
	return sound == *ret_size ? ESK_OK
				  : esk_fail(err, ESK_EINVAL,
					    "a category has a NUL byte or is no UTF-8 at byte %zu", sound);
}

/* The bytes of a cell of `categories` for value number `at` of the dictionary's buffers. */
static esk_status value_of(
	const codes_call *call, uint64_t at, const void **ret_value, uint64_t *ret_size, esk_error *err)
{
	const esk_map_node *node = &call->node->children[0];
	if (node->kind == ESK_MAP_TEXT)
		return text_value(call, at, ret_value, ret_size, err);
	const esk_column *column = &call->sink->map.tables[node->table].columns[node->column];
	*ret_size = esk_column_cell_bytes(column);
	return esk_sink_leaf(call->sink, node, call->values, at, 1, 1, NULL, ret_value, err);
}

static bool is_there(const struct ArrowArray *array, uint64_t at)
{
	const uint8_t *bitmap = array->buffers[0];
	return bitmap == NULL || array->null_count == 0 || esk_bits_all_set(bitmap, at, 1);
}

/* The code for index `index` of the dictionary, asked for the first time in this append. */
static esk_status learn(const codes_call *call, uint64_t index, uint32_t *ret_code, esk_error *err)
{
	uint64_t at = (uint64_t)call->values->offset + index, size;
	const void *value;
	esk_status status = ESK_OK;
	uint32_t code = MISSING;
	if (is_there(call->values, at)) {
		status = value_of(call, at, &value, &size, err);
		if (status == ESK_OK)
			status = esk_categories_find(call->categories, value, size, &code, err);
	}
	if (status != ESK_OK)
		return status;
	call->categories->known[index] = code;
	call->categories->known_in[index] = call->sink->append;
	*ret_code = code;
	return ESK_OK;
}

/* ---- the column ---- */

/* UINT64_MAX where the index is below 0. */
static uint64_t index_at(const esk_arrow_type *type, const void *indices, uint64_t at)
{
	bool is_signed = type->kind == ESK_ARROW_SIGNED;
	int64_t value;
	switch (type->width_bytes) {
	case 1:
		value = is_signed ? ((const int8_t *)indices)[at] : ((const uint8_t *)indices)[at];
		break;
	case 2:
		value = is_signed ? ((const int16_t *)indices)[at] : ((const uint16_t *)indices)[at];
		break;
	case 4:
		value = is_signed ? (int64_t)((const int32_t *)indices)[at]
				  : (int64_t)((const uint32_t *)indices)[at];
		break;
	default:
		return ((const uint64_t *)indices)[at]; /* what is below 0 is beyond every dictionary */
	}
	return value < 0 ? UINT64_MAX : (uint64_t)value;
}

/* Codes of the rows; `lacks` is set where a category itself is missing. */
static esk_status fill(const codes_call *call, const void *indices, uint64_t first, uint64_t rows,
	const uint8_t *valid, int32_t *codes, bool *ret_lacks, esk_error *err)
{
	const esk_categories *categories = call->categories;
	uint64_t length = (uint64_t)call->values->length;
	for (uint64_t i = 0; i < rows; i++) {
		uint32_t code = MISSING;
		codes[i] = -1;
		if (valid != NULL && valid[i] == 0)
			continue;
		uint64_t index = index_at(&call->node->type, indices, first + i);
		esk_status status = ESK_OK;
		if (index >= length)
			status = esk_fail(err, ESK_EINVAL, "index %lld of a dictionary of %llu",
				(long long)index, (unsigned long long)length);
		else if (categories->known_in[index] == call->sink->append)
			code = categories->known[index];
		else
			status = learn(call, index, &code, err);
		if (status != ESK_OK)
			return bad_row(call, i, status, err);
		if (code != MISSING)
			codes[i] = (int32_t)code;
		else
			*ret_lacks = true;
	}
	return ESK_OK;
}

esk_status esk_sink_fill_codes(esk_arrow_sink *sink, const esk_map_node *node, const struct ArrowArray *array,
	uint64_t first, uint64_t rows, const uint8_t *valid, const uint8_t **ret_valid, esk_error *err)
{
	codes_call call = {.sink = sink,
		.node = node,
		.values = array->dictionary,
		.categories = &sink->tables[node->child_table].categories};
	int64_t buffers = node->children[0].kind == ESK_MAP_TEXT ? 3 : 2;
	uint64_t length = call.values != NULL && call.values->length > 0 ? (uint64_t)call.values->length : 0;
	int32_t *codes = esk_arena_take(&sink->arena, rows, sizeof *codes);
	bool lacks = false;
	esk_status status = esk_sink_check_array(&node->children[0], call.values, buffers, 0, 0, length, err);
	if (status == ESK_OK && array->buffers[1] == NULL)
		status = esk_fail(err, ESK_ETYPE, "column \"%s\": the array has no indices", node->path);
	if (status == ESK_OK && length > 0 && call.values->buffers[1] == NULL)
		status = esk_fail(err, ESK_ETYPE, "column \"%s\": its dictionary has no values", node->path);
	if (status == ESK_OK && codes == NULL)
		status = esk_fail_memory(err, rows * sizeof *codes, "codes");
	if (status == ESK_OK)
		status = esk_categories_know(call.categories, length, err);
	if (status == ESK_OK)
		status = fill(&call, array->buffers[1], first, rows, valid, codes, &lacks, err);
	if (status != ESK_OK)
		return status;
	sink->tables[node->table].cells[node->column] = codes;
	*ret_valid = valid;
	if (!lacks)
		return ESK_OK;
	uint8_t *present = esk_arena_take(&sink->arena, rows, 1);
	if (present == NULL)
		return esk_fail_memory(err, rows, "validity");
	for (uint64_t i = 0; i < rows; i++)
		present[i] = codes[i] >= 0;
	*ret_valid = present;
	return ESK_OK;
}

esk_status esk_sink_fill_categories(esk_arrow_sink *sink, const esk_map_node *node, esk_error *err)
{
	esk_sink_table *table = &sink->tables[node->child_table];
	const esk_categories *categories = &table->categories;
	uint64_t size, count = categories->count - categories->committed;
	table->rows = count;
	if (count == 0)
		return ESK_OK;
	if (node->children[0].kind != ESK_MAP_TEXT) { /* cells of one size lie one behind the other */
		table->cells[0] = esk_category(categories, categories->committed, &size);
		return ESK_OK;
	}
	esk_string *strings = esk_arena_take(&sink->arena, count, sizeof *strings);
	if (strings == NULL)
		return esk_fail_memory(err, count * sizeof *strings, "categories");
	for (uint64_t i = 0; i < count; i++) {
		strings[i].data = esk_category(categories, categories->committed + i, &size);
		strings[i].size = size;
	}
	table->cells[0] = strings;
	return ESK_OK;
}
