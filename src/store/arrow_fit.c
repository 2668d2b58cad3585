/* How many rows of a batch fit one record of the ring. The bytes of any range of rows follow from the offsets
 * at its ends alone, so that many ranges can be asked for. */
#include "store/arrow_sink.h"

#define SPARE_BYTES 4096u /* for other parts */
#define PART_BYTES 64u    /* heads and rounding of a part, and of a column */
#define COLUMN_BYTES 16u

/* Adds bytes for rows [first, first + rows) of the array; false where it is not sound, or memory has no such
 * bytes. */
static bool add_bytes(const esk_arrow_sink *sink, const esk_map_node *node, const struct ArrowArray *array,
	uint64_t first, uint64_t rows, uint64_t *bytes);

static bool add(uint64_t count, uint64_t each, uint64_t *bytes)
{
	uint64_t product;
	return esk_mul_u64(count, each, &product) && esk_add_u64(*bytes, product, bytes);
}

/* Where the values of rows [first, first + rows) are; `first` is in the buffers. */
static bool span(const struct ArrowArray *array, const esk_arrow_type *type, uint64_t first, uint64_t rows,
	uint64_t *ret_first, uint64_t *ret_count)
{
	bool large = type->layout == ESK_ARROW_LARGE_BINARY || type->layout == ESK_ARROW_LARGE_LIST;
	const void *raw = array->buffers[1];
	if (raw == NULL)
		return false;
	int64_t begin = large ? ((const int64_t *)raw)[first] : ((const int32_t *)raw)[first];
	int64_t end = large ? ((const int64_t *)raw)[first + rows] : ((const int32_t *)raw)[first + rows];
	*ret_first = (uint64_t)begin;
	*ret_count = (uint64_t)(end - begin);
	return begin >= 0 && end >= begin;
}

static bool add_leaf(const esk_arrow_sink *sink, const esk_map_node *node, const struct ArrowArray *array,
	uint64_t first, uint64_t rows, uint64_t *bytes)
{
	const esk_column *columns = sink->map.tables[node->table].columns;
	uint64_t count = rows, values, text;
	bool fits = true;
	first += (uint64_t)array->offset;
	for (uint32_t i = 0; i < node->level_count && fits; i++) {
		uint64_t size = node->levels[i].size;
		bool last = i + 1 == node->level_count;
		fits = esk_mul_u64(count, size, &count) && esk_mul_u64(first, size, &first) &&
		       esk_sink_check_array(node, array->children[0],
			       !last                        ? 1
			       : node->kind == ESK_MAP_TEXT ? 3
							    : 2,
			       !last, first, count, NULL) == ESK_OK;
		if (fits && node->levels[i].valid != ESK_MAP_NONE)
			fits = add(count, 1, bytes);
		array = array->children[0];
		first += fits ? (uint64_t)array->offset : 0;
	}
	if (!fits || node->kind != ESK_MAP_TEXT)
		return fits && add(rows, esk_column_cell_bytes(&columns[node->column]) + 1, bytes);
	return span(array, &node->type, first, count, &values, &text) &&
	       add(count, sizeof(uint32_t), bytes) && add(rows, 1, bytes) && add(text, 1, bytes);
}

/* At worst every row brings the longest category, or the dictionary comes whole. */
static bool add_categories(const esk_arrow_sink *sink, const esk_map_node *node,
	const struct ArrowArray *dictionary, uint64_t rows, uint64_t *bytes)
{
	const esk_map_node *values = &node->children[0];
	uint64_t first, all = 0, count;
	if (dictionary == NULL || dictionary->length < 0 ||
		esk_sink_check_array(values, dictionary, values->kind == ESK_MAP_TEXT ? 3 : 2, 0, 0,
			(uint64_t)dictionary->length, NULL) != ESK_OK)
		return false;
	count = (uint64_t)dictionary->length;
	if (values->kind != ESK_MAP_TEXT)
		return add(esk_min_u64(rows, count),
			esk_column_cell_bytes(&sink->map.tables[values->table].columns[0]), bytes);
	if (count == 0)
		return true;
	if (!span(dictionary, &values->type, (uint64_t)dictionary->offset, count, &first, &all))
		return false;
	if (rows < count) {
		uint64_t longest = 0, size;
		for (uint64_t i = 0; i < count; i++) {
			if (!span(dictionary, &values->type, (uint64_t)dictionary->offset + i, 1, &first,
				    &size))
				return false;
			longest = esk_max_u64(longest, size);
		}
		uint64_t worst;
		all = esk_mul_u64(rows, longest, &worst) ? esk_min_u64(worst, all) : all;
	}
	return add(esk_min_u64(rows, count), sizeof(uint32_t), bytes) && add(all, 1, bytes);
}

static bool add_list(const esk_arrow_sink *sink, const esk_map_node *node, const struct ArrowArray *array,
	uint64_t first, uint64_t rows, uint64_t *bytes)
{
	uint64_t from, count;
	if (!add(rows, 2 * sizeof(int64_t) + 1, bytes) ||
		!span(array, &node->type, (uint64_t)array->offset + first, rows, &from, &count))
		return false;
	if (node->kind == ESK_MAP_BYTES)
		return add(count, 1, bytes);
	return add_bytes(sink, &node->children[0], array->children[0], from, count, bytes);
}

static bool add_fields(const esk_arrow_sink *sink, const esk_map_node *node, const struct ArrowArray *array,
	uint64_t first, uint64_t rows, uint64_t *bytes)
{
	bool fits = true;
	for (size_t i = 0; i < node->child_count && fits; i++)
		fits = add_bytes(sink, &node->children[i], array->children[i],
			(uint64_t)array->offset + first, rows, bytes);
	return fits;
}

static bool add_bytes(const esk_arrow_sink *sink, const esk_map_node *node, const struct ArrowArray *array,
	uint64_t first, uint64_t rows, uint64_t *bytes)
{
	bool text = node->kind == ESK_MAP_TEXT && node->level_count == 0;
	int64_t buffers = node->kind == ESK_MAP_MISSING                           ? 0
			  : node->kind == ESK_MAP_STRUCT || node->level_count > 0 ? 1
			  : text || node->kind == ESK_MAP_BYTES                   ? 3
										  : 2;
	int64_t children = node->kind == ESK_MAP_STRUCT                          ? (int64_t)node->child_count
			   : node->kind == ESK_MAP_LIST || node->level_count > 0 ? 1
										 : 0;
	if (rows == 0)
		return true;
	if (esk_sink_check_array(node, array, buffers, children, first, rows, NULL) != ESK_OK)
		return false;
	switch (node->kind) {
	case ESK_MAP_STRUCT:
		return add(rows, 1, bytes) && add_fields(sink, node, array, first, rows, bytes);
	case ESK_MAP_LIST:
	case ESK_MAP_BYTES:
		return add_list(sink, node, array, first, rows, bytes);
	case ESK_MAP_DICTIONARY:
		return add(rows, sizeof(int32_t) + 1, bytes) &&
		       add_categories(sink, node, array->dictionary, rows, bytes);
	case ESK_MAP_MISSING:
		return add(rows, 2, bytes);
	default:
		return add_leaf(sink, node, array, first, rows, bytes);
	}
}

/* True where every range of `rows` rows fits: each lies in one of those that are half as long again and begin
 * at every half of it. */
static bool all_fit(const esk_arrow_sink *sink, const struct ArrowArray *batch, uint64_t rows, uint64_t room)
{
	uint64_t length = (uint64_t)batch->length, step = rows > 1 ? rows / 2 : 1;
	for (uint64_t at = 0; at < length; at += step) {
		uint64_t bytes = 0, count = esk_min_u64(rows + step, length - at);
		if (!add_fields(sink, &sink->map.root, batch, at, count, &bytes) || bytes > room)
			return false;
	}
	return true;
}

uint64_t esk_arrow_sink_rows_per_record(const esk_arrow_sink *sink, const struct ArrowArray *batch)
{
	const esk_map_node *root = &sink->map.root;
	uint64_t bytes = 0, most = esk_run_max_record_bytes(sink->run);
	uint64_t heads = SPARE_BYTES + PART_BYTES * (sink->map.table_count + 1) +
			 COLUMN_BYTES * sink->map.column_count;
	if (batch == NULL || batch->length <= 1 || most <= heads ||
		esk_sink_check_array(root, batch, 1, (int64_t)root->child_count, 0, (uint64_t)batch->length,
			NULL) != ESK_OK)
		return 1;
	uint64_t rows = (uint64_t)batch->length;
	if (add_fields(sink, root, batch, 0, rows, &bytes) && bytes <= most - heads)
		return rows;
	do
		rows /= 2;
	while (rows > 1 && !all_fit(sink, batch, rows, most - heads));
	return rows;
}
