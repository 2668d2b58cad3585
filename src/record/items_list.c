/* The list of a segment's items, /.esker/items, as it is read: by recorders that go on, readers, check and
 * reindex. */
#include "record/internal.h"

#include <stdlib.h>
#include <string.h>

#define BATCH_ITEMS 1024u

/* ESK_ECORRUPT unless it is the column that it must be. */
static esk_status open_column(esk_h5 *file, size_t number, esk_h5_dataset **ret_dataset, esk_error *err)
{
	static const char *const paths[ESK_ITEM_WRITERS] = {
		ESK_ITEMS_PATH "/path", ESK_ITEMS_PATH "/join", ESK_ITEMS_PATH "/numbers"};
	static const uint64_t bytes[ESK_ITEM_WRITERS] = {
		ESK_COLUMN_NAME_BYTES, ESK_COLUMN_NAME_BYTES, 3 * sizeof(uint64_t)};
	esk_status status = esk_h5_dataset_open(file, paths[number], ret_dataset, err);
	if (status != ESK_OK)
		return status;
	const esk_h5_info *info = esk_h5_dataset_info(*ret_dataset);
	esk_kind kind = number < 2 ? ESK_STRING_N : ESK_U64;
	return info->readable && info->column.dtype.kind == kind && !info->scalar &&
			       esk_column_cell_bytes(&info->column) == bytes[number]
		       ? ESK_OK
		       : esk_fail(err, ESK_ECORRUPT, "%s: /%s is no column of a list of items",
				 esk_h5_path(file), paths[number]);
}

esk_status esk_segment_item_range(esk_h5 *file, uint64_t *ret_first, uint64_t *ret_count, esk_error *err)
{
	bool any = false;
	uint64_t first = 0, count = 0;
	esk_status status = esk_h5_get_u64s(file, "/", ESK_ITEMS_ATTRIBUTE, &first, 1, err);
	if (status == ESK_OK || status == ESK_ENOTFOUND)
		status = esk_h5_find(file, ESK_ITEMS_PATH, &any, err);
	for (size_t i = 0; i < ESK_ITEM_WRITERS && status == ESK_OK && any; i++) {
		esk_h5_dataset *dataset;
		status = open_column(file, i, &dataset, err);
		if (status == ESK_OK)
			count = i == 0 ? esk_h5_dataset_info(dataset)->rows
				       : esk_min_u64(count, esk_h5_dataset_info(dataset)->rows);
	}
	if (status != ESK_OK)
		return status;
	*ret_first = first;
	*ret_count = count;
	return ESK_OK;
}

esk_status esk_segment_read_items(esk_h5 *file, esk_pool *pool, uint64_t first, uint64_t count,
	esk_item_entry *ret_items, esk_error *err)
{
	static const uint64_t bytes[ESK_ITEM_WRITERS] = {
		ESK_COLUMN_NAME_BYTES, ESK_COLUMN_NAME_BYTES, 3 * sizeof(uint64_t)};
	uint8_t *cells[ESK_ITEM_WRITERS] = {NULL};
	esk_status status = ESK_OK;
	for (size_t i = 0; i < ESK_ITEM_WRITERS && status == ESK_OK; i++) {
		esk_h5_dataset *dataset;
		cells[i] = malloc(count * bytes[i] + 1);
		if (cells[i] == NULL)
			status = esk_fail_memory(err, count * bytes[i], "items");
		if (status == ESK_OK)
			status = open_column(file, i, &dataset, err);
		esk_h5_rows piece = {.row = first, .count = count, .out = cells[i]};
		if (status == ESK_OK)
			status = esk_h5_read_rows(dataset, pool, &piece, 1, err);
	}
	for (uint64_t i = 0; i < count && status == ESK_OK; i++) {
		uint64_t numbers[3];
		memcpy(numbers, cells[2] + i * bytes[2], bytes[2]);
		ret_items[i] = (esk_item_entry){
			.time_ns = (int64_t)numbers[0], .rows = numbers[1], .even = numbers[2] != 0};
		memcpy(ret_items[i].path, cells[0] + i * bytes[0], bytes[0]);
		memcpy(ret_items[i].join, cells[1] + i * bytes[1], bytes[1]);
	}
	for (size_t i = 0; i < ESK_ITEM_WRITERS; i++)
		free(cells[i]);
	return status;
}

esk_status esk_segment_visit_items(
	esk_h5 *file, esk_pool *pool, uint64_t from, esk_item_fn visit, void *arg, esk_error *err)
{
	uint64_t first, count;
	esk_item_entry *items = malloc(BATCH_ITEMS * sizeof *items);
	esk_status status = items == NULL ? esk_fail_memory(err, BATCH_ITEMS * sizeof *items, "items")
					  : esk_segment_item_range(file, &first, &count, err);
	uint64_t at = 0;
	if (status == ESK_OK && from > first)
		at = esk_min_u64(from - first, count);
	while (status == ESK_OK && at < count) {
		uint64_t some = esk_min_u64(BATCH_ITEMS, count - at);
		status = esk_segment_read_items(file, pool, at, some, items, err);
		for (uint64_t i = 0; i < some && status == ESK_OK; i++)
			if (items[i].path[0] != '\0') /* else of a chunk that was lost */
				status = visit(arg, first + at + i, &items[i], err);
		at += some;
	}
	free(items);
	return status;
}
