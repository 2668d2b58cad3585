/* Values of a leaf as cells of its column. */
#include "store/arrow_sink.h"

#include <string.h>

/* One column's part of an append. */
typedef struct leaf_call {
	esk_arrow_sink *sink;
	const esk_map_node *node;
	const void *values; /* the array's second buffer */
	const char *text;   /* the third */
	uint64_t first;
	uint64_t count;
	uint64_t per_row;
	const uint8_t *mask;
} leaf_call;

static esk_status no_memory(const leaf_call *call, uint64_t bytes, esk_error *err)
{
	esk_fail_memory(err, bytes, "cells");
	return esk_fail_in(err, ESK_ENOMEM, "column \"%s\"", call->node->path);
}

static void zero_missing(uint8_t *cells, const uint8_t *mask, uint64_t count, uint64_t bytes)
{
	for (uint64_t i = esk_bytes_find_zero(mask, count); i < count;
		i += 1 + esk_bytes_find_zero(mask + i + 1, count - i - 1))
		memset(cells + i * bytes, 0, bytes);
}

/* Missing cells hold anything in Arrow, and zeros in a file. */
static esk_status plain(const leaf_call *call, const void **ret_cells, esk_error *err)
{
	uint64_t bytes = call->node->type.width_bytes;
	const uint8_t *values = (const uint8_t *)call->values + call->first * bytes;
	if (call->mask == NULL) {
		*ret_cells = values;
		return ESK_OK;
	}
	uint8_t *cells = esk_arena_take(&call->sink->arena, call->count, bytes);
	if (cells == NULL)
		return no_memory(call, call->count * bytes, err);
	memcpy(cells, values, call->count * bytes);
	zero_missing(cells, call->mask, call->count, bytes);
	*ret_cells = cells;
	return ESK_OK;
}

static esk_status bits(const leaf_call *call, const void **ret_cells, esk_error *err)
{
	uint8_t *cells = esk_arena_take(&call->sink->arena, call->count, 1);
	if (cells == NULL)
		return no_memory(call, call->count, err);
	esk_bits_to_bytes(call->values, call->first, call->count, cells);
	for (uint64_t i = 0; i < call->count && call->mask != NULL; i++)
		cells[i] &= call->mask[i];
	*ret_cells = cells;
	return ESK_OK;
}

/* ---- text ---- */

static bool has(const leaf_call *call, uint64_t i)
{
	return call->mask == NULL || call->mask[i] != 0;
}

static esk_status bad_text(const leaf_call *call, const esk_string *string, uint64_t i, esk_error *err)
{
	size_t at = esk_text_sound_bytes(string->data, string->size);
	return esk_fail(err, ESK_EINVAL, "column \"%s\", row %llu of the append: the text %s at byte %zu",
		call->node->path, (unsigned long long)(i / call->per_row),
		string->data[at] == '\0' ? "has a NUL byte" : "is no UTF-8", at);
}

/* Where texts are sound as a whole, each is, if none begins within a character: in what follows another
 * text's end, bytes that go on with one would not be sound. */
static bool all_sound(const leaf_call *call, const esk_string *strings)
{
	const char *begin = strings[0].data;
	const char *end = strings[call->count - 1].data + strings[call->count - 1].size;
	if (esk_text_sound_bytes(begin, (size_t)(end - begin)) != (size_t)(end - begin))
		return false;
	for (uint64_t i = 0; i < call->count; i++)
		if (strings[i].size > 0 && (strings[i].data[0] & 0xC0) == 0x80)
			return false;
	return true;
}

static esk_status check_texts(const leaf_call *call, const esk_string *strings, esk_error *err)
{
	if (call->mask == NULL && all_sound(call, strings))
		return ESK_OK;
	for (uint64_t i = 0; i < call->count; i++)
		if (esk_text_sound_bytes(strings[i].data, strings[i].size) != strings[i].size)
			return bad_text(call, &strings[i], i, err);
	return ESK_OK;
}

static bool span_of(const leaf_call *call, bool large, uint64_t i, int64_t *ret_begin, int64_t *ret_end)
{
	if (large) {
		const int64_t *offsets = (const int64_t *)call->values + call->first + i;
		*ret_begin = offsets[0];
		*ret_end = offsets[1];
	} else {
		const int32_t *offsets = (const int32_t *)call->values + call->first + i;
		*ret_begin = offsets[0];
		*ret_end = offsets[1];
	}
	return *ret_begin >= 0 && *ret_end >= *ret_begin && *ret_end - *ret_begin <= UINT32_MAX;
}

static esk_status text(const leaf_call *call, const void **ret_cells, esk_error *err)
{
	bool large = call->node->type.layout == ESK_ARROW_LARGE_BINARY;
	esk_string *strings = esk_arena_take(&call->sink->arena, call->count, sizeof *strings);
	int64_t begin, end;
	if (strings == NULL)
		return no_memory(call, call->count * sizeof *strings, err);
	for (uint64_t i = 0; i < call->count; i++) {
		if (!span_of(call, large, i, &begin, &end) || (end > begin && call->text == NULL))
			return esk_fail(err, ESK_EINVAL,
				"column \"%s\", row %llu of the append: its text is from byte %lld to %lld",
				call->node->path, (unsigned long long)(i / call->per_row), (long long)begin,
				(long long)end);
		const char *data = call->text != NULL ? call->text + begin : "";
		strings[i] = (esk_string){data, has(call, i) ? (size_t)(end - begin) : 0};
	}
	*ret_cells = strings;
	return check_texts(call, strings, err);
}

/* ---- decimals ---- */

static __int128 decimal_at(const void *values, uint64_t i, uint32_t bytes)
{
	__int128 value;
	int64_t narrow;
	int32_t narrower;
	const char *at = (const char *)values + i * bytes;
	switch (bytes) {
	case 4:
		memcpy(&narrower, at, sizeof narrower);
		return narrower;
	case 8:
		memcpy(&narrow, at, sizeof narrow);
		return narrow;
	default:
		memcpy(&value, at, sizeof value);
		return value;
	}
}

static esk_status decimals(const leaf_call *call, const void **ret_cells, esk_error *err)
{
	const esk_arrow_type *type = &call->node->type;
	uint32_t bytes = esk_decimal_text_bytes(type->precision, type->scale);
	char *cells = esk_arena_take(&call->sink->arena, call->count, bytes);
	if (cells == NULL)
		return no_memory(call, call->count * bytes, err);
	for (uint64_t i = 0; i < call->count; i++) {
		char *cell = cells + i * bytes;
		if (!has(call, i))
			memset(cell, 0, bytes);
		else if (!esk_decimal_format(decimal_at(call->values, call->first + i, type->width_bytes),
				 type->precision, type->scale, cell, bytes))
			return esk_fail(err, ESK_EINVAL,
				"column \"%s\", row %llu of the append: a decimal of more than %d digits",
				call->node->path, (unsigned long long)(i / call->per_row), type->precision);
	}
	*ret_cells = cells;
	return ESK_OK;
}

esk_status esk_sink_leaf(esk_arrow_sink *sink, const esk_map_node *node, const struct ArrowArray *array,
	uint64_t first, uint64_t count, uint64_t per_row, const uint8_t *mask, const void **ret_cells,
	esk_error *err)
{
	leaf_call call = {.sink = sink,
		.node = node,
		.values = array->buffers[1],
		.text = node->kind == ESK_MAP_TEXT ? array->buffers[2] : NULL,
		.first = first,
		.count = count,
		.per_row = per_row,
		.mask = mask};
	if (call.values == NULL)
		return esk_fail(err, ESK_ETYPE, "column \"%s\": the array has no values", node->path);
	switch (node->kind) {
	case ESK_MAP_BITS:
		return bits(&call, ret_cells, err);
	case ESK_MAP_TEXT:
		return text(&call, ret_cells, err);
	case ESK_MAP_DECIMAL:
		return decimals(&call, ret_cells, err);
	default:
		return plain(&call, ret_cells, err);
	}
}
