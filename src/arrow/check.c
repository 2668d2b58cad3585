/* Checks of single arrays: see check.h. */
#include "arrow/check.h"
#include "arrow/kernels.h"
#include <stdio.h>
#include <string.h>

typedef struct checking {
	const esk_arrow_subject *subject;
	const esk_arrow_path *path;
	const esk_arrow_node *node;
	const struct ArrowArray *array;
	const uint64_t *sizes;
	uint64_t end; /* offset + length: how many values the buffers must hold */
	esk_error *err;
} checking;

static void path_add(const esk_arrow_path *path, esk_text *text)
{
	if (path == NULL)
		return;
	path_add(path->up, text);
	const char *name = path->name == NULL || path->name[0] == '\0' ? "item" : path->name;
	esk_text_add(text, "%s%.60s", text->size > 0 ? "." : "", name);
}

esk_status esk_arrow_wrong(const esk_arrow_subject *subject, const esk_arrow_path *path, esk_status code,
	esk_error *err, const char *format, ...)
{
	if (err == NULL)
		return code;
	char message[300];
	va_list args;
	va_start(args, format);
	vsnprintf(message, sizeof message, format, args);
	va_end(args);
	char place[100] = "Arrow array";
	if (subject->kind != NULL)
		snprintf(place, sizeof place, "Arrow message %llu (%s) at byte %llu",
			(unsigned long long)subject->number, subject->kind,
			(unsigned long long)subject->at_byte);
	esk_text text = {0};
	path_add(path, &text);
	if (text.data != NULL && !text.failed)
		esk_fail(err, code, "%s: column \"%.150s\": %s", place, text.data, message);
	else
		esk_fail(err, code, "%s: %s", place, message);
	esk_text_free(&text);
	return code;
}

#define wrong(c, ...) esk_arrow_wrong((c)->subject, (c)->path, (c)->subject->code, (c)->err, __VA_ARGS__)

/* ---- buffers ---- */

/* Buffer `index` must hold `count` values of `width` bytes; what they are begins the message. */
static esk_status need(const checking *c, unsigned index, uint64_t count, uint32_t width, const char *what)
{
	uint64_t bytes;
	if (!esk_mul_u64(count, width, &bytes))
		return wrong(c, "%llu %s of %u bytes are more than any memory holds",
			(unsigned long long)count, what, width);
	const void *buffer = c->array->buffers[index];
	if (bytes > 0 && buffer == NULL)
		return wrong(c, "its %s are not there", what);
	if (c->sizes != NULL && c->sizes[index] < bytes)
		return wrong(c, "its %s need %llu bytes and have %llu", what, (unsigned long long)bytes,
			(unsigned long long)c->sizes[index]);
	uint32_t align = width > 8 ? 8 : width;
	if (align > 1 && (width & (width - 1)) == 0 && c->node->type.kind != ESK_ARROW_FIXED_BINARY &&
		((uintptr_t)buffer & (align - 1)) != 0)
		return wrong(c, "its %s are not aligned to %u bytes", what, align);
	return ESK_OK;
}

static esk_status check_bits(const checking *c, unsigned index, const char *what)
{
	return need(c, index, c->end / 8 + (c->end % 8 != 0), 1, what);
}

/* True where the array may have nulls, which its bitmap then shows. */
static bool has_nulls(const checking *c)
{
	return c->node->type.validity && c->array->null_count != 0 && c->array->buffers[0] != NULL;
}

static bool is_valid(const checking *c, uint64_t row)
{
	return !has_nulls(c) || esk_arrow_bit(c->array->buffers[0], (uint64_t)c->array->offset + row);
}

static esk_status check_validity(const checking *c)
{
	const struct ArrowArray *array = c->array;
	if (array->null_count < -1 || array->null_count > array->length)
		return wrong(c, "it has %lld nulls in %lld rows", (long long)array->null_count,
			(long long)array->length);
	if (!c->node->type.validity)
		return c->node->type.layout == ESK_ARROW_NULL || array->null_count <= 0
			       ? ESK_OK
			       : wrong(c, "it has %lld nulls, and a type without validity",
					 (long long)array->null_count);
	if (array->buffers[0] == NULL)
		return array->null_count <= 0 ? ESK_OK
					      : wrong(c, "it has %lld nulls and no validity bitmap",
							(long long)array->null_count);
	if (array->null_count == 0 && c->sizes == NULL)
		return ESK_OK; /* the interface leaves it open what the bitmap holds then */
	esk_status status = check_bits(c, 0, "validity bits");
	if (status != ESK_OK || array->null_count < 0)
		return status;
	uint64_t valid =
		esk_arrow_count_bits(array->buffers[0], (uint64_t)array->offset, (uint64_t)array->length);
	if (valid + (uint64_t)array->null_count != (uint64_t)array->length)
		return wrong(c, "it says %lld nulls, and its bitmap has %llu", (long long)array->null_count,
			(unsigned long long)array->length - valid);
	return ESK_OK;
}

/* ---- offsets ---- */

static int64_t offset_at(const checking *c, unsigned index, uint32_t width, uint64_t row)
{
	const uint8_t *at =
		(const uint8_t *)c->array->buffers[index] + ((uint64_t)c->array->offset + row) * width;
	return width == 4 ? esk_load_i32(at) : esk_load_i64(at);
}

static esk_status find_fall(const checking *c, uint32_t width)
{
	for (uint64_t row = 0; row < (uint64_t)c->array->length; row++) {
		int64_t one = offset_at(c, 1, width, row), next = offset_at(c, 1, width, row + 1);
		if (next < one)
			return wrong(c, "offset %llu is %lld, below the %lld before it",
				(unsigned long long)row + 1, (long long)next, (long long)one);
	}
	return ESK_OK;
}

/* Offsets rise from 0 or above to at most `limit`; *ret_first and *ret_last are the outermost. */
static esk_status check_offsets(const checking *c, uint32_t width, uint64_t limit, const char *what,
	uint64_t *ret_first, uint64_t *ret_last)
{
	*ret_first = *ret_last = 0;
	if (c->array->length == 0)
		return ESK_OK; /* the format lets an array without rows lack its offsets */
	esk_status status = need(c, 1, c->end + 1, width, "offsets");
	if (status != ESK_OK)
		return status;
	const uint8_t *offsets = (const uint8_t *)c->array->buffers[1] + (uint64_t)c->array->offset * width;
	uint64_t rows = (uint64_t)c->array->length;
	if (width == 4 ? !esk_arrow_rising_32(offsets, rows) : !esk_arrow_rising_64(offsets, rows))
		return find_fall(c, width);
	int64_t first = offset_at(c, 1, width, 0), last = offset_at(c, 1, width, rows);
	if (first < 0)
		return wrong(c, "its first offset is %lld", (long long)first);
	if ((uint64_t)last > limit)
		return wrong(c, "its last offset is %lld, above the %llu %s that are there", (long long)last,
			(unsigned long long)limit, what);
	*ret_first = (uint64_t)first;
	*ret_last = (uint64_t)last;
	return ESK_OK;
}

/* ---- texts ---- */

/* Text by text, leaving out the null rows, whose bytes may be anything. */
static esk_status check_each_text(const checking *c, uint32_t width, const uint8_t *bytes)
{
	for (uint64_t row = 0; row < (uint64_t)c->array->length; row++) {
		int64_t from = offset_at(c, 1, width, row), to = offset_at(c, 1, width, row + 1);
		if (is_valid(c, row) && !esk_arrow_utf8(bytes + from, (uint64_t)(to - from)))
			return wrong(c, "the text in row %llu is not UTF-8", (unsigned long long)row);
	}
	return ESK_OK;
}

/* True where no text begins within a character. */
static bool texts_begin_with_characters(
	const checking *c, uint32_t width, const uint8_t *bytes, uint64_t last)
{
	for (uint64_t row = 0; row < (uint64_t)c->array->length; row++) {
		uint64_t at = (uint64_t)offset_at(c, 1, width, row);
		if (at < last && (bytes[at] & 0xC0) == 0x80)
			return false;
	}
	return true;
}

static esk_status check_texts(const checking *c, uint32_t width, uint64_t first, uint64_t last)
{
	const uint8_t *bytes = c->array->buffers[2];
	uint64_t ascii = esk_arrow_ascii_prefix(bytes + first, last - first);
	if (ascii == last - first)
		return ESK_OK;
	if (esk_arrow_utf8(bytes + first + ascii, last - first - ascii) &&
		texts_begin_with_characters(c, width, bytes, last))
		return ESK_OK;
	return check_each_text(c, width, bytes);
}

static esk_status check_binary(const checking *c, uint32_t width)
{
	uint64_t first, last;
	uint64_t limit = c->sizes == NULL ? INT64_MAX : c->sizes[2];
	esk_status status = check_offsets(c, width, limit, "bytes", &first, &last);
	if (status != ESK_OK || last == first)
		return status;
	if (c->array->buffers[2] == NULL)
		return wrong(c, "its bytes are not there");
	return c->node->type.kind == ESK_ARROW_UTF8 ? check_texts(c, width, first, last) : ESK_OK;
}

/* ---- nested ---- */

static esk_status check_list(const checking *c, uint32_t width)
{
	uint64_t first, last;
	return check_offsets(
		c, width, (uint64_t)c->array->children[0]->length, "items of its child", &first, &last);
}

static esk_status check_map(const checking *c)
{
	const struct ArrowArray *entries = c->array->children[0];
	if (entries->null_count > 0 || entries->children[0]->null_count > 0)
		return wrong(c, "a map has entries or keys that are null");
	return check_list(c, 4);
}

/* Every child of a struct or sparse union has a value per row; `each` says how many per row. */
static esk_status check_children(const checking *c, uint64_t each)
{
	uint64_t want;
	if (!esk_mul_u64(c->end, each, &want))
		return wrong(c, "%llu rows of %llu items are more than any memory holds",
			(unsigned long long)c->end, (unsigned long long)each);
	for (int64_t i = 0; i < c->array->n_children; i++) {
		if ((uint64_t)c->array->children[i]->length < want)
			return wrong(c, "child %lld has %lld values: at least %llu were expected",
				(long long)i, (long long)c->array->children[i]->length,
				(unsigned long long)want);
	}
	return ESK_OK;
}

static esk_status check_union(const checking *c, bool dense)
{
	esk_status status = need(c, 0, c->end, 1, "type ids");
	if (status == ESK_OK && dense)
		status = need(c, 1, c->end, 4, "offsets");
	if (status == ESK_OK && !dense)
		status = check_children(c, 1);
	if (status != ESK_OK)
		return status;
	const uint8_t *ids = (const uint8_t *)c->array->buffers[0] + c->array->offset;
	for (uint64_t row = 0; row < (uint64_t)c->array->length; row++) {
		int child = ids[row] > 127 ? -1 : c->node->child_of[ids[row]];
		if (child < 0)
			return wrong(c, "row %llu has type id %d, which is none of \"%.60s\"",
				(unsigned long long)row, (int)(int8_t)ids[row], c->node->type.rest);
		if (!dense)
			continue;
		int64_t at = offset_at(c, 1, 4, row);
		if (at < 0 || at >= c->array->children[child]->length)
			return wrong(c, "row %llu is value %lld of child %d, which has %lld",
				(unsigned long long)row, (long long)at, child,
				(long long)c->array->children[child]->length);
	}
	return ESK_OK;
}

static int64_t run_end_at(const struct ArrowArray *ends, uint32_t width, int64_t run)
{
	const uint8_t *at = (const uint8_t *)ends->buffers[1] + (uint64_t)(ends->offset + run) * width;
	if (width == 2)
		return (int16_t)((uint32_t)at[0] | (uint32_t)at[1] << 8);
	return width == 4 ? esk_load_i32(at) : esk_load_i64(at);
}

static esk_status check_runs(const checking *c)
{
	const struct ArrowArray *ends = c->array->children[0], *values = c->array->children[1];
	if (ends->null_count > 0)
		return wrong(c, "%lld of its run ends are null", (long long)ends->null_count);
	if (values->length < ends->length)
		return wrong(c, "it has %lld run ends and %lld values", (long long)ends->length,
			(long long)values->length);
	int64_t last = 0;
	for (int64_t run = 0; run < ends->length; run++) {
		int64_t end = run_end_at(ends, c->node->children[0].type.width_bytes, run);
		if (end <= last)
			return wrong(c, "run end %lld is %lld, not above the %lld before it", (long long)run,
				(long long)end, (long long)last);
		last = end;
	}
	if ((uint64_t)last < c->end)
		return wrong(c, "its last run ends at %lld, before its %llu rows do", (long long)last,
			(unsigned long long)c->end);
	return ESK_OK;
}

/* ---- dictionary ---- */

static uint64_t index_at(const checking *c, uint32_t width, uint64_t row)
{
	uint64_t value = 0;
	memcpy(&value, (const uint8_t *)c->array->buffers[1] + ((uint64_t)c->array->offset + row) * width,
		width);
	return value;
}

static esk_status check_indices(const checking *c)
{
	uint32_t width = c->node->type.width_bytes;
	uint64_t values = (uint64_t)c->array->dictionary->length;
	/* Below the sign bit as well: a negative index is a large one here. */
	uint64_t limit = c->node->type.kind == ESK_ARROW_SIGNED
				 ? esk_min_u64(values, UINT64_C(1) << (width * 8 - 1))
				 : values;
	uint64_t rows = (uint64_t)c->array->length;
	const uint8_t *indices = (const uint8_t *)c->array->buffers[1] + (uint64_t)c->array->offset * width;
	if (rows == 0 || esk_arrow_largest(indices, width, rows) < limit)
		return ESK_OK;
	for (uint64_t row = 0; row < rows; row++) { /* those of null rows may be anything */
		uint64_t index = index_at(c, width, row);
		if (index >= limit && is_valid(c, row))
			return wrong(c, "row %llu has index %lld, and the dictionary %llu values",
				(unsigned long long)row,
				c->node->type.kind == ESK_ARROW_SIGNED && width < 8
					? (long long)(int64_t)(index << (64 - 8 * width)) >> (64 - 8 * width)
					: (long long)index,
				(unsigned long long)values);
	}
	return ESK_OK;
}

static esk_status check_values(const checking *c)
{
	const struct ArrowArray *array = c->array;
	esk_status status;
	switch (c->node->type.layout) {
	case ESK_ARROW_NULL:
		return ESK_OK;
	case ESK_ARROW_BOOL:
		return check_bits(c, 1, "bits");
	case ESK_ARROW_FIXED:
		status = need(c, 1, c->end, c->node->type.width_bytes, "values");
		return status == ESK_OK && array->dictionary != NULL ? check_indices(c) : status;
	case ESK_ARROW_BINARY:
		return check_binary(c, 4);
	case ESK_ARROW_LARGE_BINARY:
		return check_binary(c, 8);
	case ESK_ARROW_LIST:
		return check_list(c, 4);
	case ESK_ARROW_LARGE_LIST:
		return check_list(c, 8);
	case ESK_ARROW_MAP:
		return check_map(c);
	case ESK_ARROW_FIXED_LIST:
		return check_children(c, (uint64_t)c->node->type.list_size);
	case ESK_ARROW_STRUCT:
		return check_children(c, 1);
	case ESK_ARROW_SPARSE_UNION:
		return check_union(c, false);
	case ESK_ARROW_DENSE_UNION:
		return check_union(c, true);
	case ESK_ARROW_RUN_END:
		return check_runs(c);
	}
	return esk_fail(c->err, ESK_EINTERNAL, "an Arrow layout that is none");
}

esk_status esk_arrow_check(const esk_arrow_subject *subject, const esk_arrow_path *path,
	const esk_arrow_node *node, const struct ArrowArray *array, const uint64_t *sizes, esk_error *err)
{
	checking c = {
		.subject = subject, .path = path, .node = node, .array = array, .sizes = sizes, .err = err};
	if (array->length < 0 || array->offset < 0)
		return wrong(&c, "its length is %lld and its offset %lld", (long long)array->length,
			(long long)array->offset);
	if (!esk_add_u64((uint64_t)array->length, (uint64_t)array->offset, &c.end) ||
		c.end > subject->most_rows)
		return wrong(&c, "it has %lld rows from row %lld on: at most %llu are possible",
			(long long)array->length, (long long)array->offset,
			(unsigned long long)subject->most_rows);
	esk_status status = check_validity(&c);
	return status == ESK_OK ? check_values(&c) : status;
}
