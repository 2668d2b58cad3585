/* Laying out: what of an array's buffers goes where in the body of a message.
 *
 * An array shows `length` elements behind `offset`; what holds it may show fewer of them again: everything
 * below speaks of the `rows` elements that begin `first` behind the array's own offset. */
#include "arrow/encode.h"
#include "arrow/kernels.h"

#include <inttypes.h>
#include <string.h>

/* Bounds under which sums and multiples of lengths by 64 cannot overflow; memory ends far below. */
#define MAX_ROWS (INT64_C(1) << 56)
#define MAX_BODY_BYTES (UINT64_C(1) << 62)

typedef struct walk {
	esk_arrow_encoder *encoder;
	esk_encode_tree *tree;
	esk_error *err;
} walk;

static esk_status unsound(const walk *w, const esk_encode_node *node, const char *what)
{
	return esk_fail(w->err, ESK_EINVAL, "column \"%s\": %s", node->path, what);
}

/* ---- pieces ---- */

static esk_status place(walk *w, const esk_encode_node *node, const esk_encode_piece *piece)
{
	esk_encode_tree *tree = w->tree;
	if (piece->bytes > MAX_BODY_BYTES - tree->body_bytes)
		return unsound(w, node, "a buffer is larger than memory can be");
	if (piece->bytes > 0 && piece->source == NULL && piece->op != ESK_PIECE_ZERO)
		return unsound(w, node, "a buffer that holds values is NULL");
	esk_encode_piece *placed = &tree->pieces[tree->piece_count++];
	*placed = *piece;
	placed->at = tree->body_bytes;
	tree->body_bytes = esk_round_up(tree->body_bytes + piece->bytes, w->encoder->align);
	return ESK_OK;
}

static const uint8_t *behind(const void *buffer, uint64_t bytes)
{
	return buffer != NULL ? (const uint8_t *)buffer + bytes : NULL;
}

static esk_status place_bits(
	walk *w, const esk_encode_node *node, const void *buffer, uint64_t first, uint64_t bits)
{
	esk_encode_piece piece = {.source = behind(buffer, first / 8),
		.bytes = (bits + 7) / 8,
		.op = ESK_PIECE_BITS,
		.shift = first % 8,
		.bits = bits};
	return place(w, node, &piece);
}

static esk_status place_values(walk *w, const esk_encode_node *node, const void *buffer, uint64_t first,
	uint64_t count, uint32_t width)
{
	esk_encode_piece piece = {.op = ESK_PIECE_COPY};
	uint64_t skip;
	if (!esk_mul_u64(first, width, &skip) || !esk_mul_u64(count, width, &piece.bytes))
		return unsound(w, node, "a buffer is larger than memory can be");
	piece.source = behind(buffer, skip);
	return place(w, node, &piece);
}

/* The validity bitmap, which is left out where nothing is missing. */
static esk_status place_validity(walk *w, const esk_encode_node *node, const struct ArrowArray *array,
	uint64_t first, uint64_t rows, int64_t *ret_nulls)
{
	static const esk_encode_piece nothing = {.op = ESK_PIECE_ZERO};
	const uint8_t *bitmap = array->buffers[0];
	uint64_t nulls = 0;
	if (bitmap == NULL && array->null_count > 0)
		return unsound(w, node, "values are missing and there is no validity bitmap");
	if (bitmap != NULL && array->null_count != 0)
		nulls = rows - esk_arrow_count_bits(bitmap, first, rows);
	*ret_nulls = (int64_t)nulls;
	return nulls == 0 ? place(w, node, &nothing) : place_bits(w, node, bitmap, first, rows);
}

/* The offsets of `rows` lists or texts; *ret_first and *ret_count: what they refer to. */
static esk_status place_offsets(walk *w, const esk_encode_node *node, const void *buffer, uint64_t first,
	uint64_t rows, uint32_t width, uint64_t *ret_first, uint64_t *ret_count)
{
	esk_encode_piece piece = {.bytes = (rows + 1) * width, .op = ESK_PIECE_ZERO};
	int64_t low = 0, high = 0;
	if (rows > 0) {
		if (buffer == NULL)
			return unsound(w, node, "the buffer of offsets is NULL");
		piece.source = behind(buffer, first * width);
		const uint8_t *last = piece.source + rows * width;
		if (width == sizeof(int32_t)) {
			int32_t ends[2];
			memcpy(&ends[0], piece.source, sizeof *ends);
			memcpy(&ends[1], last, sizeof *ends);
			low = ends[0], high = ends[1];
		} else {
			memcpy(&low, piece.source, sizeof low);
			memcpy(&high, last, sizeof high);
		}
		piece.op = low == 0                   ? ESK_PIECE_COPY
			   : width == sizeof(int32_t) ? ESK_PIECE_REBASE32
						      : ESK_PIECE_REBASE64;
		piece.base = low;
	}
	if (low < 0 || high < low || high > MAX_ROWS)
		return unsound(w, node, "offsets are negative or fall");
	*ret_first = (uint64_t)low;
	*ret_count = (uint64_t)(high - low);
	return place(w, node, &piece);
}

/* ---- arrays ---- */

static esk_status check(const walk *w, const esk_encode_node *node, const struct ArrowArray *array,
	uint64_t first, uint64_t rows)
{
	if (array == NULL || array->release == NULL)
		return unsound(w, node, "the array is missing or was released");
	if (array->length < 0 || array->length > MAX_ROWS || array->offset < 0 || array->offset > MAX_ROWS)
		return unsound(
			w, node, "length or offset of the array is negative or larger than memory can be");
	if (first > (uint64_t)array->length || rows > (uint64_t)array->length - first)
		return esk_fail(w->err, ESK_EINVAL,
			"column \"%s\": the array has %" PRId64 " elements, %" PRIu64 " behind %" PRIu64
			" are needed",
			node->path, array->length, rows, first);
	if (array->n_buffers != node->buffers || (node->buffers > 0 && array->buffers == NULL))
		return esk_fail(w->err, ESK_EINVAL,
			"column \"%s\": the array has %" PRId64 " buffers, its type %u", node->path,
			array->n_buffers, node->buffers);
	if (array->n_children != node->child_count || (node->child_count > 0 && array->children == NULL))
		return esk_fail(w->err, ESK_EINVAL,
			"column \"%s\": the array has %" PRId64 " children, its type %u", node->path,
			array->n_children, node->child_count);
	if (node->dictionary != 0 && array->dictionary == NULL)
		return unsound(w, node, "the array has no dictionary, its type has");
	return ESK_OK;
}

static esk_status lay(walk *w, uint32_t index, const struct ArrowArray *array, uint64_t first, uint64_t rows);

static esk_status lay_children(
	walk *w, uint32_t index, const struct ArrowArray *array, uint64_t first, uint64_t rows)
{
	uint32_t child = index + 1;
	for (uint32_t i = 0; i < w->tree->nodes[index].child_count; i++) {
		esk_status status = lay(w, child, array->children[i], first, rows);
		if (status != ESK_OK)
			return status;
		child = w->tree->nodes[child].end;
	}
	return ESK_OK;
}

static esk_status lay_binary(walk *w, const esk_encode_node *node, const struct ArrowArray *array,
	uint64_t at, uint64_t rows, uint32_t width)
{
	uint64_t first, bytes;
	esk_status status = place_offsets(w, node, array->buffers[1], at, rows, width, &first, &bytes);
	return status == ESK_OK ? place_values(w, node, array->buffers[2], first, bytes, 1) : status;
}

static esk_status lay_list(
	walk *w, uint32_t index, const struct ArrowArray *array, uint64_t at, uint64_t rows, uint32_t width)
{
	uint64_t first, items;
	esk_status status =
		place_offsets(w, &w->tree->nodes[index], array->buffers[1], at, rows, width, &first, &items);
	return status == ESK_OK ? lay_children(w, index, array, first, items) : status;
}

static esk_status lay_fixed_list(
	walk *w, uint32_t index, const struct ArrowArray *array, uint64_t at, uint64_t rows)
{
	const esk_encode_node *node = &w->tree->nodes[index];
	uint64_t first, items;
	if (!esk_mul_u64(at, node->list_size, &first) || !esk_mul_u64(rows, node->list_size, &items))
		return unsound(w, node, "it has more items than memory can hold");
	return lay_children(w, index, array, first, items);
}

/* The children of a dense union are not cut: its offsets point anywhere into them. */
static esk_status lay_dense_union(
	walk *w, uint32_t index, const struct ArrowArray *array, uint64_t at, uint64_t rows)
{
	const esk_encode_node *node = &w->tree->nodes[index];
	esk_status status = place_values(w, node, array->buffers[0], at, rows, 1);
	if (status == ESK_OK)
		status = place_values(w, node, array->buffers[1], at, rows, sizeof(int32_t));
	uint32_t child = index + 1;
	for (uint32_t i = 0; i < node->child_count && status == ESK_OK; i++) {
		const struct ArrowArray *values = array->children[i];
		bool sound = values != NULL && values->length >= 0;
		status = lay(w, child, values, 0, sound ? (uint64_t)values->length : 0);
		child = w->tree->nodes[child].end;
	}
	return status;
}

static esk_status lay_buffers(
	walk *w, uint32_t index, const struct ArrowArray *array, uint64_t at, uint64_t rows)
{
	const esk_encode_node *node = &w->tree->nodes[index];
	switch (node->layout) {
	case ESK_ARROW_BOOL:
		return place_bits(w, node, array->buffers[1], at, rows);
	case ESK_ARROW_FIXED:
		return place_values(w, node, array->buffers[1], at, rows, node->width_bytes);
	case ESK_ARROW_BINARY:
		return lay_binary(w, node, array, at, rows, sizeof(int32_t));
	case ESK_ARROW_LARGE_BINARY:
		return lay_binary(w, node, array, at, rows, sizeof(int64_t));
	case ESK_ARROW_LIST:
	case ESK_ARROW_MAP:
		return lay_list(w, index, array, at, rows, sizeof(int32_t));
	case ESK_ARROW_LARGE_LIST:
		return lay_list(w, index, array, at, rows, sizeof(int64_t));
	case ESK_ARROW_FIXED_LIST:
		return lay_fixed_list(w, index, array, at, rows);
	case ESK_ARROW_STRUCT:
		return lay_children(w, index, array, at, rows);
	case ESK_ARROW_SPARSE_UNION: {
		esk_status status = place_values(w, node, array->buffers[0], at, rows, 1);
		return status == ESK_OK ? lay_children(w, index, array, at, rows) : status;
	}
	case ESK_ARROW_DENSE_UNION:
		return lay_dense_union(w, index, array, at, rows);
	case ESK_ARROW_NULL:
	case ESK_ARROW_RUN_END: /* refused with the schema */
		break;
	}
	return ESK_OK;
}

static esk_status lay(walk *w, uint32_t index, const struct ArrowArray *array, uint64_t first, uint64_t rows)
{
	const esk_encode_node *node = &w->tree->nodes[index];
	int64_t *count = w->tree->counts[index];
	esk_status status = check(w, node, array, first, rows);
	if (status != ESK_OK)
		return status;
	uint64_t at = (uint64_t)array->offset + first;
	count[0] = (int64_t)rows;
	count[1] = node->layout == ESK_ARROW_NULL ? (int64_t)rows : 0;
	if (node->validity)
		status = place_validity(w, node, array, at, rows, &count[1]);
	if (status == ESK_OK)
		status = lay_buffers(w, index, array, at, rows);
	if (node->dictionary != 0)
		w->encoder->trees[node->dictionary].array = array->dictionary;
	return status;
}

/* ---- batches ---- */

static esk_status check_batch(
	const esk_arrow_encoder *encoder, const struct ArrowArray *batch, esk_error *err)
{
	if (batch == NULL || batch->release == NULL)
		return esk_fail(err, ESK_EINVAL, "the record batch is missing or was released");
	if (batch->n_children != encoder->column_count || (batch->n_children > 0 && batch->children == NULL))
		return esk_fail(err, ESK_EINVAL, "the record batch has %" PRId64 " columns, its schema %u",
			batch->n_children, encoder->column_count);
	if (batch->length < 0 || batch->length > MAX_ROWS || batch->offset < 0 || batch->offset > MAX_ROWS)
		return esk_fail(err, ESK_EINVAL, "the record batch has %" PRId64 " rows behind %" PRId64,
			batch->length, batch->offset);
	if (batch->n_buffers != 1 || batch->buffers == NULL)
		return esk_fail(err, ESK_EINVAL, "the record batch has %" PRId64 " buffers, a struct has 1",
			batch->n_buffers);
	const uint8_t *bitmap = batch->buffers[0];
	if (bitmap != NULL && batch->null_count != 0 &&
		esk_arrow_count_bits(bitmap, (uint64_t)batch->offset, (uint64_t)batch->length) !=
			(uint64_t)batch->length)
		return esk_fail(err, ESK_EINVAL,
			"rows of the record batch are missing as a whole: columns have missing values, "
			"batches have none");
	return ESK_OK;
}

static void clear(esk_encode_tree *tree, int64_t rows)
{
	tree->rows = rows;
	tree->piece_count = 0;
	tree->body_bytes = 0;
}

esk_status esk_encode_lay_dictionary(
	esk_arrow_encoder *encoder, uint32_t tree, uint64_t first, uint64_t rows, esk_error *err)
{
	walk w = {encoder, &encoder->trees[tree], err};
	clear(w.tree, (int64_t)rows);
	return lay(&w, 0, w.tree->array, first, rows);
}

esk_status esk_encode_lay(esk_arrow_encoder *encoder, const struct ArrowArray *batch, esk_error *err)
{
	walk w = {encoder, &encoder->trees[0], err};
	esk_status status = check_batch(encoder, batch, err);
	if (status != ESK_OK)
		return status;
	clear(w.tree, batch->length);
	uint32_t node = 0;
	for (uint32_t i = 0; i < encoder->column_count && status == ESK_OK; i++) {
		status = lay(&w, node, batch->children[i], (uint64_t)batch->offset, (uint64_t)batch->length);
		node = w.tree->nodes[node].end;
	}
	/* A dictionary's array is known once what refers to it was laid out: its tree has a lower number. */
	for (uint32_t i = 1; i < encoder->tree_count && status == ESK_OK; i++) {
		const struct ArrowArray *values = encoder->trees[i].array;
		bool sound = values->length >= 0;
		status = esk_encode_lay_dictionary(encoder, i, 0, sound ? (uint64_t)values->length : 0, err);
	}
	return status;
}
