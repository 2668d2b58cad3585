/* Items, the producers' side: an item is checked, its path claimed, and all of it put into one record of the
 * ring. Runs in the callers' threads. docs/FORMAT.md has the bytes (kind 3). */
#include "record/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALID_NAME_BYTES (ESK_MAX_NAME + 16)

/* Writes where `at` is not NULL, and counts in any case: one function measures and fills. */
typedef struct packer {
	uint8_t *at;
	uint64_t bytes;
	bool overflow;
} packer;

static void put(packer *p, const void *data, uint64_t bytes)
{
	if (p->at != NULL && bytes > 0)
		memcpy(p->at + p->bytes, data, bytes);
	p->overflow = p->overflow || !esk_add_u64(p->bytes, bytes, &p->bytes);
}

static void pad(packer *p)
{
	static const uint8_t zeros[8];
	if (!p->overflow)
		put(p, zeros, (8 - p->bytes % 8) % 8);
}

/* ---- arrays ---- */

static uint64_t elements_of(const esk_column *column)
{
	return esk_column_cell_bytes(column) / column->dtype.size_bytes;
}

/* Sizes of all texts, then their bytes. */
static void put_texts(packer *p, const esk_string *strings, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		uint32_t size = strings != NULL ? (uint32_t)strings[i].size : 0;
		put(p, &size, sizeof size);
	}
	for (uint64_t i = 0; i < count && strings != NULL; i++)
		put(p, strings[i].data, strings[i].size);
}

static void put_cells(packer *p, const esk_item_array *array, uint64_t bytes)
{
	static const uint8_t zeros[256];
	if (array->cells != NULL) {
		put(p, array->cells, bytes);
		return;
	}
	for (uint64_t done = 0; done < bytes; done += sizeof zeros) /* all are missing */
		put(p, zeros, esk_min_u64(sizeof zeros, bytes - done));
}

static void put_marks(packer *p, const esk_item_array *array)
{
	for (uint64_t i = 0; i < array->rows; i++) {
		uint8_t mark = array->cells != NULL && (array->valid == NULL || array->valid[i] != 0);
		put(p, &mark, 1);
	}
	pad(p);
}

static void put_array(packer *p, const esk_item_array *array)
{
	const esk_column *column = array->column;
	esk_item_array_head head = {.kind = (uint32_t)column->dtype.kind,
		.element_bytes = column->dtype.size_bytes,
		.rank = column->rank,
		.nullable = column->nullable,
		.name_bytes = (uint16_t)strlen(column->name),
		.codec_bytes = (uint16_t)strlen(column->codec),
		.units_bytes = (uint16_t)strlen(column->units),
		.long_name_bytes = (uint16_t)strlen(column->long_name),
		.rows = array->rows,
		.chunk_rows = column->chunk_rows};
	packer texts = {0};
	uint64_t bytes = array->rows * esk_column_cell_bytes(column); /* checked */
	bool strings = column->dtype.kind == ESK_STRING;
	if (strings)
		put_texts(&texts, array->cells, array->rows * elements_of(column));
	head.data_bytes = strings ? texts.bytes : bytes;
	p->overflow = p->overflow || texts.overflow;
	put(p, &head, sizeof head);
	put(p, column->shape, column->rank * sizeof *column->shape);
	put(p, column->name, head.name_bytes);
	put(p, column->codec, head.codec_bytes);
	put(p, column->units, head.units_bytes);
	put(p, column->long_name, head.long_name_bytes);
	pad(p);
	if (strings)
		put_texts(p, array->cells, array->rows * elements_of(column));
	else
		put_cells(p, array, bytes);
	pad(p);
	if (column->nullable)
		put_marks(p, array);
}

static esk_status check_texts(const esk_item_array *array, esk_error *err)
{
	const esk_string *strings = array->cells;
	uint64_t count = strings != NULL ? array->rows * elements_of(array->column) : 0;
	for (uint64_t i = 0; i < count; i++)
		if (strings[i].size > UINT32_MAX || (strings[i].size > 0 && strings[i].data == NULL) ||
			(strings[i].size > 0 && memchr(strings[i].data, '\0', strings[i].size) != NULL))
			return esk_fail(err, ESK_EINVAL,
				"array \"%s\", row %llu: a string holds a NUL byte or is no string",
				array->column->name, (unsigned long long)(i / elements_of(array->column)));
	return ESK_OK;
}

static esk_status check_array(const esk_item_array *array, esk_error *err)
{
	uint64_t bytes;
	if (array->column == NULL)
		return esk_fail(err, ESK_EINVAL, "an array needs a column");
	esk_status status = esk_column_check(array->column, err);
	if (status == ESK_OK && array->column->codec[0] != '\0')
		status = esk_codec_check(array->column->codec, err);
	if (status != ESK_OK)
		return status;
	if (array->cells == NULL && array->rows > 0 && !array->column->nullable)
		return esk_fail(err, ESK_EINVAL, "array \"%s\" has no cells and is not nullable",
			array->column->name);
	if (!esk_mul_u64(array->rows, esk_column_cell_bytes(array->column), &bytes) || bytes > UINT64_MAX / 4)
		return esk_fail(err, ESK_ERANGE, "array \"%s\": %llu rows", array->column->name,
			(unsigned long long)array->rows);
	return array->column->dtype.kind == ESK_STRING ? check_texts(array, err) : ESK_OK;
}

/* A '/' comes before all else, so that what lies below a name follows it at once. */
static int compare_names(const void *a, const void *b)
{
	const char *left = *(const char *const *)a, *right = *(const char *const *)b;
	while (*left != '\0' && *left == *right) {
		left++;
		right++;
	}
	int l = *left == '/' ? 1 : *left == '\0' ? 0 : (unsigned char)*left + 2;
	int r = *right == '/' ? 1 : *right == '\0' ? 0 : (unsigned char)*right + 2;
	return l - r;
}

/* Names that cannot stand beside each other are neighbours once they are sorted: there may be thousands, and
 * each with each other would take longer than writing them. */
static esk_status check_names(const esk_item *item, const char **names, char *marks, esk_error *err)
{
	size_t count = 0;
	for (size_t a = 0; a < item->array_count; a++) {
		const esk_column *column = item->arrays[a].column;
		names[count++] = column->name;
		if (!column->nullable)
			continue;
		snprintf(marks, VALID_NAME_BYTES, "%s_valid", column->name);
		names[count++] = marks;
		marks += VALID_NAME_BYTES;
	}
	qsort(names, count, sizeof *names, compare_names);
	for (size_t i = 1; i < count; i++) {
		esk_status status = esk_names_apart(item->path, names[i - 1], names[i], err);
		if (status != ESK_OK)
			return status;
	}
	return ESK_OK;
}

static esk_status check_arrays(const esk_item *item, esk_error *err)
{
	size_t nullable = 0;
	if (item->array_count > ESK_MAX_COLUMNS)
		return esk_fail(err, ESK_EINVAL, "%zu arrays, at most %d are possible", item->array_count,
			ESK_MAX_COLUMNS);
	for (size_t a = 0; a < item->array_count; a++) {
		esk_status status = check_array(&item->arrays[a], err);
		if (status != ESK_OK)
			return status;
		nullable += item->arrays[a].column->nullable ? 1 : 0;
	}
	size_t bytes = (item->array_count + nullable) * sizeof(char *) + nullable * VALID_NAME_BYTES;
	if (item->array_count < 2)
		return ESK_OK;
	const char **names = malloc(bytes);
	if (names == NULL)
		return esk_fail_memory(err, bytes, "names of arrays");
	esk_status status = check_names(item, names, (char *)(names + item->array_count + nullable), err);
	free(names);
	return status;
}

/* ---- the record ---- */

static void put_item(packer *p, const esk_item *item, const esk_attribute *attributes, size_t count)
{
	const char *join = item->join != NULL ? item->join : "";
	esk_item_head head = {.path_bytes = (uint32_t)strlen(item->path),
		.join_bytes = (uint32_t)strlen(join),
		.arrays = (uint32_t)item->array_count,
		.attributes = (uint32_t)count,
		.time_ns = esk_now_ns()};
	put(p, &head, sizeof head);
	put(p, item->path, head.path_bytes);
	put(p, join, head.join_bytes);
	pad(p);
	if (p->at != NULL)
		esk_attributes_pack(p->at + p->bytes, attributes, count);
	p->overflow = p->overflow ||
		      !esk_add_u64(p->bytes, esk_attributes_packed_bytes(attributes, count), &p->bytes);
	for (size_t a = 0; a < item->array_count; a++)
		put_array(p, &item->arrays[a]);
}

static esk_status publish(
	esk_recorder *r, const esk_item *item, const esk_attribute *attributes, size_t count, esk_error *err)
{
	packer size = {0};
	esk_ring_slot slot;
	put_item(&size, item, attributes, count);
	esk_status status = esk_record_reserve(
		r, 0, ESK_RECORD_ITEM, size.overflow ? UINT64_MAX : size.bytes, item->path, &slot, err);
	if (status != ESK_OK)
		return status;
	packer filled = {.at = slot.payload};
	put_item(&filled, item, attributes, count);
	esk_ring_publish(r->ring, &slot);
	return ESK_OK;
}

/* Items of a join are alike, and none is empty whole: the first that was put says what they are like. */
static esk_status check_join(esk_recorder *r, const esk_item *item, esk_error *err)
{
	uint64_t rows = 0;
	for (size_t a = 0; a < item->array_count; a++)
		rows |= item->arrays[a].rows;
	if (rows == 0)
		return esk_fail(err, ESK_EINVAL, "join \"%s\": the item is empty", item->join);
	const esk_column **columns = malloc(item->array_count * sizeof *columns);
	if (columns == NULL)
		return esk_fail_memory(err, item->array_count * sizeof *columns, "a join");
	for (size_t a = 0; a < item->array_count; a++)
		columns[a] = item->arrays[a].column;
	esk_status status =
		esk_join_shapes_check(&r->join_shapes, item->join, columns, item->array_count, err);
	free(columns);
	return status;
}

/* The name of a join stays taken: others may have put items into it meanwhile. */
static esk_status claim(esk_recorder *r, const esk_item *item, esk_error *err)
{
	bool new;
	esk_status status = ESK_OK;
	if (item->join != NULL)
		status = esk_names_claim(&r->names, item->join, ESK_NAME_JOIN, &new, err);
	if (status == ESK_OK && item->join != NULL)
		status = check_join(r, item, err);
	return status == ESK_OK ? esk_names_claim(&r->names, item->path, ESK_NAME_ITEM, &new, err) : status;
}

static esk_status check_item(const esk_recorder *r, const esk_item *item, esk_error *err)
{
	if (r->fork_count != esk_os_fork_count())
		return esk_fail(err, ESK_ECLOSED, "it belongs to the parent process");
	esk_status status = esk_group_name_check(item->path, "item", err);
	if (status == ESK_OK && item->join != NULL)
		status = esk_group_name_check(item->join, "join", err);
	if (status == ESK_OK &&
		(strcmp(item->path, "/") == 0 || (item->join != NULL && strcmp(item->join, "/") == 0)))
		status = esk_fail(err, ESK_EINVAL, "the root is no group of an item");
	return status == ESK_OK ? check_arrays(item, err) : status;
}

esk_status esk_recorder_put(
	esk_recorder *r, const esk_item *item, const esk_attribute *attributes, size_t count, esk_error *err)
{
	esk_status status = check_item(r, item, err);
	if (status == ESK_OK)
		status = claim(r, item, err);
	if (status != ESK_OK)
		return esk_fail_in(err, status, "run \"%s\", item \"%.240s\"", r->name,
			item->path != NULL ? item->path : "");
	status = publish(r, item, attributes, count, err);
	if (status != ESK_OK)
		esk_names_release(&r->names, item->path);
	return status;
}
