/* Two arrays of one type behind each other, in new memory: what a delta does to a dictionary. Arrays that
 * were decoded begin at row 0, so buffers are joined as they are. */
#include "arrow/decoder.h"
#include "arrow/kernels.h"
#include <string.h>

#define BUFFER_ALIGN 64

typedef struct joining {
	const esk_arrow_subject *subject;
	esk_arrow_block *block;
	esk_error *err;
} joining;

static uint64_t bit_bytes(uint64_t bits)
{
	return bits / 8 + (bits % 8 != 0);
}

static bool has_nulls(const struct ArrowArray *array)
{
	return array->null_count != 0 && array->buffers[0] != NULL;
}

/* What the offsets of a variable type end at; width 4 or 8. */
static uint64_t last_offset(const struct ArrowArray *array, uint32_t width)
{
	if (array->length == 0)
		return 0;
	const uint8_t *at = (const uint8_t *)array->buffers[1] + (uint64_t)array->length * width;
	return width == 4 ? (uint64_t)esk_load_i32(at) : (uint64_t)esk_load_i64(at);
}

static uint32_t offset_width(esk_arrow_layout layout)
{
	switch (layout) {
	case ESK_ARROW_BINARY:
	case ESK_ARROW_LIST:
	case ESK_ARROW_MAP:
		return 4;
	case ESK_ARROW_LARGE_BINARY:
	case ESK_ARROW_LARGE_LIST:
		return 8;
	default:
		return 0;
	}
}

static bool is_binary(esk_arrow_layout layout)
{
	return layout == ESK_ARROW_BINARY || layout == ESK_ARROW_LARGE_BINARY;
}

/* ---- counting ---- */

static uint64_t padded(uint64_t bytes)
{
	return esk_round_up(bytes, BUFFER_ALIGN) + BUFFER_ALIGN;
}

static esk_status cannot(const joining *j, const esk_arrow_node *node, const char *why)
{
	return esk_arrow_wrong(j->subject, NULL, ESK_EUNSUPPORTED, j->err,
		"it adds to a dictionary of type %s, %s", esk_arrow_format_name(node->schema->format), why);
}

/* Adds the structs and bytes that the joined array takes. Its arrays have been checked, so the sums of
 * their lengths are far from overflowing. */
static esk_status count_joined(const joining *j, const esk_arrow_node *node, const struct ArrowArray *one,
	const struct ArrowArray *other, esk_arrow_census *census, uint64_t *bytes)
{
	uint64_t rows = (uint64_t)one->length + (uint64_t)other->length;
	uint32_t width = offset_width(node->type.layout);
	if (node->slot != ESK_ARROW_NO_SLOT || node->type.layout == ESK_ARROW_SPARSE_UNION ||
		node->type.layout == ESK_ARROW_DENSE_UNION || node->type.layout == ESK_ARROW_RUN_END)
		return cannot(j, node, "whose values are not joined");
	census->arrays++;
	census->buffers += node->type.buffers;
	census->children += node->child_count;
	*bytes +=
		padded(bit_bytes(rows)) + padded(rows * node->type.width_bytes) + padded((rows + 1) * width);
	if (node->type.layout == ESK_ARROW_BOOL)
		*bytes += padded(bit_bytes(rows));
	if (is_binary(node->type.layout))
		*bytes += padded(last_offset(one, width) + last_offset(other, width));
	if (width == 4 && last_offset(one, width) + last_offset(other, width) > INT32_MAX)
		return cannot(j, node, "whose values become more than 32-bit offsets reach");
	esk_status status = ESK_OK;
	for (uint32_t i = 0; i < node->child_count && status == ESK_OK; i++)
		status = count_joined(
			j, &node->children[i], one->children[i], other->children[i], census, bytes);
	return status;
}

/* ---- joining ---- */

static void set_bits(uint8_t *to, uint64_t at, const uint8_t *bits, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++, at++) {
		if (bits == NULL || esk_arrow_bit(bits, i))
			to[at >> 3] |= (uint8_t)(1u << (at & 7));
	}
}

/* The bits of both; `bits` NULL stands for all set. NULL: no room, which was counted. */
static const uint8_t *join_bits(
	const joining *j, const uint8_t *one, uint64_t one_bits, const uint8_t *other, uint64_t other_bits)
{
	uint64_t bytes = bit_bytes(one_bits + other_bits);
	uint8_t *to = esk_arrow_block_room(j->block, bytes, BUFFER_ALIGN);
	if (to == NULL)
		return NULL;
	memset(to, 0, bytes);
	set_bits(to, 0, one, one_bits);
	set_bits(to, one_bits, other, other_bits);
	return to;
}

static const uint8_t *join_bytes(
	const joining *j, const uint8_t *one, uint64_t one_bytes, const uint8_t *other, uint64_t other_bytes)
{
	uint8_t *to = esk_arrow_block_room(j->block, one_bytes + other_bytes, BUFFER_ALIGN);
	if (to == NULL)
		return NULL;
	if (one_bytes > 0)
		memcpy(to, one, one_bytes);
	if (other_bytes > 0)
		memcpy(to + one_bytes, other, other_bytes);
	return to;
}

static int64_t offset_at(const struct ArrowArray *array, uint32_t width, uint64_t row)
{
	const uint8_t *at = (const uint8_t *)array->buffers[1] + row * width;
	return width == 4 ? esk_load_i32(at) : esk_load_i64(at);
}

static void put_offset(uint8_t *to, uint32_t width, uint64_t row, uint64_t value)
{
	memcpy(to + row * width, &value, width); /* little-endian, as everything here */
}

static const uint8_t *join_offsets(
	const joining *j, uint32_t width, const struct ArrowArray *one, const struct ArrowArray *other)
{
	uint64_t first = (uint64_t)one->length, second = (uint64_t)other->length;
	uint8_t *to = esk_arrow_block_room(j->block, (first + second + 1) * width, BUFFER_ALIGN);
	if (to == NULL)
		return NULL;
	uint64_t base = last_offset(one, width);
	put_offset(to, width, 0, 0);
	for (uint64_t row = 0; row <= first && first > 0; row++)
		put_offset(to, width, row, (uint64_t)offset_at(one, width, row));
	/* The first offset of `one` may be above 0, that of `other` as well: both children are joined whole.
	 */
	for (uint64_t row = first == 0 ? 0 : 1; row <= second && second > 0; row++)
		put_offset(to, width, first + row, base + (uint64_t)offset_at(other, width, row));
	return to;
}

static esk_status join_node(const joining *j, const esk_arrow_node *node, const struct ArrowArray *one,
	const struct ArrowArray *other, struct ArrowArray *to);

static bool join_buffers(const joining *j, const esk_arrow_node *node, const struct ArrowArray *one,
	const struct ArrowArray *other, struct ArrowArray *to)
{
	uint64_t first = (uint64_t)one->length, second = (uint64_t)other->length;
	uint32_t width = offset_width(node->type.layout), value = node->type.width_bytes;
	bool room = true;
	if (node->type.validity && (has_nulls(one) || has_nulls(other))) {
		to->buffers[0] = join_bits(j, has_nulls(one) ? one->buffers[0] : NULL, first,
			has_nulls(other) ? other->buffers[0] : NULL, second);
		room = to->buffers[0] != NULL;
	}
	if (node->type.layout == ESK_ARROW_BOOL)
		to->buffers[1] = join_bits(j, one->buffers[1], first, other->buffers[1], second);
	else if (node->type.layout == ESK_ARROW_FIXED)
		to->buffers[1] =
			join_bytes(j, one->buffers[1], first * value, other->buffers[1], second * value);
	else if (width > 0)
		to->buffers[1] = join_offsets(j, width, one, other);
	if (is_binary(node->type.layout))
		to->buffers[2] = join_bytes(j, one->buffers[2], last_offset(one, width), other->buffers[2],
			last_offset(other, width));
	for (uint32_t i = 1; i < node->type.buffers; i++)
		room &= to->buffers[i] != NULL;
	return room;
}

static esk_status join_node(const joining *j, const esk_arrow_node *node, const struct ArrowArray *one,
	const struct ArrowArray *other, struct ArrowArray *to)
{
	if (!esk_arrow_array_lay(j->block, to, node->type.buffers, node->child_count, false))
		return esk_fail(j->err, ESK_EINTERNAL, "the memory of an Arrow dictionary was counted short");
	esk_arrow_array_own(to, j->block);
	to->length = one->length + other->length;
	to->null_count = one->null_count + other->null_count;
	if (!join_buffers(j, node, one, other, to))
		return esk_fail(j->err, ESK_EINTERNAL, "the memory of an Arrow dictionary was counted short");
	esk_status status = ESK_OK;
	for (uint32_t i = 0; i < node->child_count && status == ESK_OK; i++)
		status = join_node(
			j, &node->children[i], one->children[i], other->children[i], to->children[i]);
	return status;
}

esk_status esk_arrow_join(esk_arrow_decoder *decoder, const esk_arrow_subject *subject,
	const esk_arrow_node *node, const struct ArrowArray *one, const struct ArrowArray *other,
	struct ArrowArray *ret_array, esk_error *err)
{
	joining j = {.subject = subject, .err = err};
	esk_arrow_census census = {0};
	struct ArrowArray joined = {0};
	uint64_t bytes = 0;
	esk_status status = count_joined(&j, node, one, other, &census, &bytes);
	if (status != ESK_OK)
		return status;
	if (bytes > decoder->max_bytes)
		return esk_arrow_wrong(subject, NULL, ESK_ERANGE, err,
			"the dictionary becomes more than %llu bytes, which is the limit",
			(unsigned long long)decoder->max_bytes);
	status = esk_arrow_block_take(
		decoder->pool, esk_arrow_census_bytes(&census) + bytes, 0, &j.block, err);
	if (status != ESK_OK)
		return status;
	status = join_node(&j, node, one, other, &joined);
	esk_arrow_block_drop(j.block);
	if (status == ESK_OK)
		*ret_array = joined;
	else if (joined.release != NULL)
		joined.release(&joined);
	return status;
}
