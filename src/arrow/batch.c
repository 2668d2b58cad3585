/* Record batches: from a message to arrays. See decoder.h. */
#include "arrow/decoder.h"
#include "arrow/kernels.h"
#include <string.h>

/* What empty buffers point to, and offsets of arrays without rows: never NULL, for readers that look. */
static const _Alignas(64) uint8_t nothing[64];

/* Where a buffer lies once it can be used. */
typedef struct extent {
	const uint8_t *data;
	uint64_t bytes;
} extent;

/* What a plan asks of a batch. */
typedef struct demand {
	uint64_t nodes;   /* in the message */
	uint64_t buffers; /* in the message */
	uint32_t parents; /* blocks of dictionaries */
	esk_arrow_census census;
} demand;

typedef struct filling {
	esk_arrow_decoder *decoder;
	const esk_arrow_subject *subject;
	const esk_arrow_message *message;
	const esk_arrow_batch *batch;
	bool in_place;
	esk_arrow_block *block;
	extent *extents;
	uint32_t node;   /* the next of the message */
	uint32_t buffer; /* the next of the message */
	esk_error *err;
} filling;

#define wrong(f, path, ...) esk_arrow_wrong((f)->subject, path, ESK_ECORRUPT, (f)->err, __VA_ARGS__)

static bool is_union(const esk_arrow_node *node)
{
	return node->type.layout == ESK_ARROW_SPARSE_UNION || node->type.layout == ESK_ARROW_DENSE_UNION;
}

/* ---- counting ---- */

/* The structs of empty values, for a dictionary that has not come yet. */
static void count_empty(
	const esk_arrow_decoder *decoder, const esk_arrow_node *node, esk_arrow_census *census)
{
	census->arrays++;
	census->buffers += node->type.buffers;
	census->children += node->child_count;
	for (uint32_t i = 0; i < node->child_count; i++)
		count_empty(decoder, &node->children[i], census);
	if (node->slot != ESK_ARROW_NO_SLOT)
		count_empty(decoder, decoder->plan.slots[node->slot].values, census);
}

static void count_node(const filling *f, const esk_arrow_node *node, demand *ret)
{
	ret->nodes++;
	ret->buffers += node->type.buffers + (f->message->old_unions && is_union(node));
	ret->census.arrays++;
	ret->census.buffers += node->type.buffers;
	ret->census.children += node->child_count;
	if (node->slot != ESK_ARROW_NO_SLOT) {
		const struct ArrowArray *values = &f->decoder->dictionaries[node->slot];
		ret->parents++;
		if (values->release != NULL)
			esk_arrow_count(values, &ret->census);
		else
			count_empty(f->decoder, f->decoder->plan.slots[node->slot].values, &ret->census);
	}
	for (uint32_t i = 0; i < node->child_count; i++)
		count_node(f, &node->children[i], ret);
}

/* ---- buffers ---- */

/* Buffer `index` as the message has it. */
static esk_status stored(const filling *f, uint32_t index, extent *ret_extent)
{
	const uint8_t *entry = f->message->metadata.data + f->batch->buffers.at + 16 * (uint64_t)index;
	int64_t offset = esk_load_i64(entry), bytes = esk_load_i64(entry + 8);
	if (offset < 0 || bytes < 0 || (uint64_t)offset > f->message->body_bytes ||
		(uint64_t)bytes > f->message->body_bytes - (uint64_t)offset)
		return wrong(f, NULL, "buffer %u is bytes %lld to %lld + %lld of a body that has %llu", index,
			(long long)offset, (long long)offset, (long long)bytes,
			(unsigned long long)f->message->body_bytes);
	*ret_extent = (extent){f->message->body + offset, (uint64_t)bytes};
	return ESK_OK;
}

/* A compressed buffer begins with the bytes it becomes, or -1 where it was left as it is: *ret_made is then
 * ESK_ARROW_SIZE_UNKNOWN and the extent is what follows. */
static esk_status unwrap(const filling *f, uint32_t index, extent *ret_extent, uint64_t *ret_made)
{
	*ret_made = ESK_ARROW_SIZE_UNKNOWN;
	if (f->batch->codec == ESK_ARROW_RAW || ret_extent->bytes == 0)
		return ESK_OK;
	if (ret_extent->bytes < 8)
		return wrong(f, NULL, "compressed buffer %u has %llu bytes, fewer than its size takes", index,
			(unsigned long long)ret_extent->bytes);
	int64_t made = esk_load_i64(ret_extent->data);
	ret_extent->data += 8;
	ret_extent->bytes -= 8;
	if (made == -1)
		return ESK_OK;
	if (made < 0 || !esk_arrow_ratio_possible(f->batch->codec, ret_extent->bytes, (uint64_t)made))
		return wrong(f, NULL, "compressed buffer %u of %llu bytes says it becomes %lld", index,
			(unsigned long long)ret_extent->bytes, (long long)made);
	*ret_made = (uint64_t)made;
	return ESK_OK;
}

static bool must_copy(const filling *f, const extent *at)
{
	return at->bytes > 0 && (!f->in_place || ((uintptr_t)at->data & 7) != 0);
}

#define BUFFER_ALIGN 64

/* Bytes that the buffers take which are decompressed or copied: none where all are used in place.
 * *ret_stays: some are. */
static esk_status measure(const filling *f, uint64_t buffers, uint64_t *ret_bytes, bool *ret_stays)
{
	uint64_t total = 0, copied = 0;
	bool stays = false;
	for (uint32_t i = 0; i < buffers; i++) {
		extent at;
		uint64_t made;
		esk_status status = stored(f, i, &at);
		if (status == ESK_OK)
			status = unwrap(f, i, &at, &made);
		if (status != ESK_OK)
			return status;
		if (made == ESK_ARROW_SIZE_UNKNOWN && !must_copy(f, &at)) {
			stays |= at.bytes > 0;
			continue;
		}
		if (made == ESK_ARROW_SIZE_UNKNOWN)
			made = at.bytes;
		copied += at.bytes;
		if (copied > f->message->body_bytes)
			return wrong(f, NULL, "its buffers overlap");
		if (made > f->decoder->max_bytes || total > f->decoder->max_bytes - made)
			return esk_arrow_wrong(f->subject, NULL, ESK_ERANGE, f->err,
				"its buffers become more than %llu bytes, which is the limit",
				(unsigned long long)f->decoder->max_bytes);
		total += esk_round_up(made, BUFFER_ALIGN);
	}
	*ret_bytes = total;
	*ret_stays = stays;
	return ESK_OK;
}

static esk_status room_is_short(const filling *f)
{
	return esk_fail(f->err, ESK_EINTERNAL, "the memory of an Arrow batch was counted short");
}

/* A buffer to be decompressed. */
typedef struct piece {
	uint32_t index;
	extent from;
} piece;

typedef struct pieces {
	filling *f;
	const piece *list;
} pieces;

/* The extent of buffer `index`, in place or in the block; *ret_piece where it is to be decompressed. */
static esk_status resolve(filling *f, uint32_t index, piece *ret_piece, bool *ret_is_piece)
{
	extent at;
	uint64_t made;
	esk_status status = stored(f, index, &at);
	if (status == ESK_OK)
		status = unwrap(f, index, &at, &made);
	if (status != ESK_OK)
		return status;
	f->extents[index] = at;
	*ret_is_piece = made != ESK_ARROW_SIZE_UNKNOWN;
	if (!*ret_is_piece && !must_copy(f, &at))
		return ESK_OK;
	uint64_t bytes = *ret_is_piece ? made : at.bytes;
	uint8_t *to = esk_arrow_block_room(f->block, bytes, BUFFER_ALIGN);
	if (to == NULL)
		return room_is_short(f);
	f->extents[index] = (extent){to, bytes};
	*ret_piece = (piece){index, at};
	if (!*ret_is_piece)
		memcpy(to, at.data, bytes);
	return ESK_OK;
}

static esk_status decompress_piece(void *arg, uint32_t index, uint32_t member, esk_error *err)
{
	const pieces *all = arg;
	filling *f = all->f;
	const piece *one = &all->list[index];
	const extent *to = &f->extents[one->index];
	esk_error reason = {0};
	/* The room is the block's own: what is const is for readers. */
	esk_status status = esk_arrow_decompress(&f->decoder->codecs[member], f->batch->codec, one->from.data,
		one->from.bytes, (uint8_t *)(uintptr_t)to->data, to->bytes, &reason);
	return status == ESK_OK ? ESK_OK
				: esk_arrow_wrong(f->subject, NULL, status, err, "buffer %u: %s", one->index,
					  reason.message);
}

/* Waking the team takes some microseconds, in which a member decompresses about this much. */
#define TEAM_BYTES ((uint64_t)256 << 10)

static esk_status resolve_all(filling *f)
{
	uint32_t count = 0;
	uint64_t bytes = 0;
	/* Behind the extents, which prepare made room for. */
	piece *list = (piece *)(void *)(f->extents + f->batch->buffers.count);
	for (uint32_t i = 0; i < f->batch->buffers.count; i++) {
		bool is_piece;
		esk_status status = resolve(f, i, &list[count], &is_piece);
		if (status != ESK_OK)
			return status;
		bytes += is_piece ? f->extents[i].bytes : 0;
		count += is_piece;
	}
	if (bytes >= TEAM_BYTES && count > 1 && !f->decoder->team_tried) {
		f->decoder->team = esk_arrow_team_create();
		f->decoder->team_tried = true;
	}
	pieces all = {f, list};
	return esk_arrow_team_run(
		bytes >= TEAM_BYTES ? f->decoder->team : NULL, count, decompress_piece, &all, f->err);
}

/* ---- arrays ---- */

static esk_status fill_empty(filling *f, const esk_arrow_node *node, struct ArrowArray *array)
{
	if (!esk_arrow_array_lay(
		    f->block, array, node->type.buffers, node->child_count, node->slot != ESK_ARROW_NO_SLOT))
		return room_is_short(f);
	esk_arrow_array_own(array, f->block);
	for (uint32_t i = node->type.validity ? 1 : 0; i < node->type.buffers; i++)
		array->buffers[i] = nothing;
	esk_status status = ESK_OK;
	for (uint32_t i = 0; i < node->child_count && status == ESK_OK; i++)
		status = fill_empty(f, &node->children[i], array->children[i]);
	if (status == ESK_OK && node->slot != ESK_ARROW_NO_SLOT)
		status = fill_empty(f, f->decoder->plan.slots[node->slot].values, array->dictionary);
	return status;
}

static esk_status fill_dictionary(filling *f, const esk_arrow_node *node, struct ArrowArray *array)
{
	const struct ArrowArray *values = &f->decoder->dictionaries[node->slot];
	if (values->release == NULL)
		return fill_empty(f, f->decoder->plan.slots[node->slot].values, array);
	esk_arrow_block_rest_on(f->block, values->private_data);
	return esk_arrow_array_clone(f->block, values, array) ? ESK_OK : room_is_short(f);
}

/* The array's buffers from the next extents; *ret_sizes their bytes. */
static esk_status fill_buffers(filling *f, const esk_arrow_path *path, const esk_arrow_node *node,
	struct ArrowArray *array, uint64_t ret_sizes[3])
{
	if (f->message->old_unions && is_union(node)) {
		f->buffer++;
		if (array->null_count != 0)
			return esk_arrow_wrong(f->subject, path, ESK_EUNSUPPORTED, f->err,
				"a union with a validity bitmap, as before Arrow 1.0, is not supported");
	}
	for (uint32_t i = 0; i < node->type.buffers; i++) {
		const extent *at = &f->extents[f->buffer++];
		bool empty = at->bytes == 0 || (array->length == 0 && i > 0);
		bool validity = node->type.validity && i == 0;
		array->buffers[i] = !empty ? at->data : validity ? NULL : nothing;
		ret_sizes[i] = empty ? 0 : at->bytes;
	}
	return ESK_OK;
}

/* Some writers (the one in JavaScript) leave it open how many values are missing, and say -1. A bitmap that
 * is too short is left to be refused. */
static void count_nulls(const esk_arrow_node *node, struct ArrowArray *array, uint64_t bitmap_bytes)
{
	uint64_t rows = (uint64_t)array->length;
	if (!node->type.validity || array->buffers[0] == NULL)
		array->null_count = 0;
	else if (bitmap_bytes >= rows / 8 + (rows % 8 != 0))
		array->null_count = (int64_t)(rows - esk_arrow_count_bits(array->buffers[0], 0, rows));
}

static esk_status fill_node(
	filling *f, const esk_arrow_path *up, const esk_arrow_node *node, struct ArrowArray *array)
{
	const esk_arrow_path path = {.up = up, .name = node->schema->name};
	uint64_t sizes[3] = {0};
	const uint8_t *entry = f->message->metadata.data + f->batch->nodes.at + 16 * (uint64_t)f->node++;
	if (!esk_arrow_array_lay(
		    f->block, array, node->type.buffers, node->child_count, node->slot != ESK_ARROW_NO_SLOT))
		return room_is_short(f);
	esk_arrow_array_own(array, f->block);
	array->length = esk_load_i64(entry);
	array->null_count = esk_load_i64(entry + 8);
	if (array->length < 0 || array->null_count < -1)
		return wrong(f, &path, "it has %lld rows and %lld nulls", (long long)array->length,
			(long long)array->null_count);
	esk_status status = fill_buffers(f, &path, node, array, sizes);
	if (status == ESK_OK && array->null_count < 0)
		count_nulls(node, array, sizes[0]);
	for (uint32_t i = 0; i < node->child_count && status == ESK_OK; i++)
		status = fill_node(f, &path, &node->children[i], array->children[i]);
	if (status == ESK_OK && node->slot != ESK_ARROW_NO_SLOT)
		status = fill_dictionary(f, node, array->dictionary);
	if (status == ESK_OK)
		status = esk_arrow_check(f->subject, &path, node, array, sizes, f->err);
	if (status != ESK_OK)
		return status;
	if (node->type.layout == ESK_ARROW_NULL)
		array->null_count = array->length;
	else if (node->type.validity && array->null_count == 0)
		array->buffers[0] = NULL;
	return ESK_OK;
}

static esk_status fill_root(filling *f, const esk_arrow_node *nodes, uint32_t count, struct ArrowArray *root)
{
	if (!esk_arrow_array_lay(f->block, root, 1, count, false))
		return room_is_short(f);
	esk_arrow_array_own(root, f->block);
	root->length = f->batch->length;
	for (uint32_t i = 0; i < count; i++) {
		esk_status status = fill_node(f, NULL, &nodes[i], root->children[i]);
		if (status != ESK_OK)
			return status;
		if (root->children[i]->length != root->length) {
			const esk_arrow_path path = {.name = nodes[i].schema->name};
			return wrong(f, &path, "it has %lld rows, and its batch %lld",
				(long long)root->children[i]->length, (long long)root->length);
		}
	}
	return ESK_OK;
}

/* Counts what the message has against what the plan demands, and takes the block. */
static esk_status prepare(filling *f, const esk_arrow_node *nodes, uint32_t count, esk_arrow_block *source)
{
	demand need = {.census = {.arrays = 1, .buffers = 1, .children = count}};
	for (uint32_t i = 0; i < count; i++)
		count_node(f, &nodes[i], &need);
	if (need.nodes != f->batch->nodes.count || need.buffers != f->batch->buffers.count)
		return wrong(f, NULL, "it has %u nodes and %u buffers: its schema demands %llu and %llu",
			f->batch->nodes.count, f->batch->buffers.count, (unsigned long long)need.nodes,
			(unsigned long long)need.buffers);
	if ((uint64_t)f->batch->length > f->subject->most_rows)
		return wrong(f, NULL, "it has %lld rows: at most %llu are possible",
			(long long)f->batch->length, (unsigned long long)f->subject->most_rows);
	uint64_t data_bytes;
	bool stays;
	esk_status status = measure(f, need.buffers, &data_bytes, &stays);
	if (status != ESK_OK)
		return status;
	/* Extents for all, and one piece more than there can be, which is written before it is known to be
	 * none. */
	uint64_t notes = need.buffers * (sizeof(extent) + sizeof(piece)) + sizeof(piece);
	uint64_t bytes = esk_arrow_census_bytes(&need.census) + notes + BUFFER_ALIGN;
	status = esk_arrow_block_take(
		f->decoder->pool, bytes + data_bytes, need.parents + 1, &f->block, f->err);
	if (status != ESK_OK)
		return status;
	if (source != NULL && stays)
		esk_arrow_block_rest_on(f->block, source);
	f->extents = esk_arrow_block_room(f->block, notes, _Alignof(extent));
	return f->extents == NULL ? room_is_short(f) : ESK_OK;
}

esk_status esk_arrow_batch_decode(esk_arrow_decoder *decoder, const esk_arrow_subject *subject,
	const esk_arrow_message *message, const esk_arrow_batch *batch, const esk_arrow_node *nodes,
	uint32_t count, esk_arrow_block *source, bool in_place, struct ArrowArray *ret_root, esk_error *err)
{
	filling f = {.decoder = decoder,
		.subject = subject,
		.message = message,
		.batch = batch,
		.in_place = in_place,
		.err = err};
	struct ArrowArray root = {0};
	esk_status status = prepare(&f, nodes, count, in_place ? source : NULL);
	if (status != ESK_OK) {
		esk_arrow_block_drop(f.block);
		return status;
	}
	status = resolve_all(&f);
	if (status == ESK_OK)
		status = fill_root(&f, nodes, count, &root);
	esk_arrow_block_drop(f.block); /* the arrays hold it now */
	if (status == ESK_OK)
		*ret_root = root;
	else if (root.release != NULL)
		root.release(&root);
	return status;
}
