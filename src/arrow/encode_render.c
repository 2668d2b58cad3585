/* The bytes of a message from what was laid out. Nothing here can fail, allocate or wait. */
#include "arrow/encode.h"

#include <string.h>

/* From here on a buffer is larger than the caches nearby: what is written is not looked at again here. */
#define PAST_CACHE_BYTES (1u << 20)

static void put_i64(uint8_t *to, int64_t value)
{
	memcpy(to, &value, sizeof value);
}

void esk_encode_head(const esk_encode_tree *tree, bool delta, uint8_t *to)
{
	const esk_build_template *head = &tree->head;
	memcpy(to, head->data, head->bytes);
	put_i64(to + head->body_at, (int64_t)tree->body_bytes);
	put_i64(to + head->length_at, tree->rows);
	if (head->delta_at != 0)
		to[head->delta_at] = delta;
	memcpy(to + head->nodes_at, tree->counts, tree->node_count * sizeof *tree->counts);
	uint8_t *buffer = to + head->buffers_at;
	for (uint32_t i = 0; i < tree->buffer_count; i++, buffer += 2 * sizeof(int64_t)) {
		put_i64(buffer, (int64_t)tree->pieces[i].at);
		put_i64(buffer + sizeof(int64_t), (int64_t)tree->pieces[i].bytes);
	}
}

static void copy(uint8_t *to, const uint8_t *from, uint64_t bytes)
{
	if (bytes >= PAST_CACHE_BYTES)
		esk_copy_past_cache(to, from, bytes);
	else if (bytes > 0)
		memcpy(to, from, bytes);
}

/* `bytes` bytes of a bitmap that begins `shift` bits behind *from. Reads no byte of the source that holds
 * none of the `bits` bits still to come. */
static void copy_bits(uint8_t *to, const uint8_t *from, uint32_t shift, uint64_t bytes, uint64_t bits)
{
	uint64_t source_bytes = (shift + bits + 7) / 8, i = 0;
	if (shift == 0) {
		copy(to, from, bytes);
	} else {
		for (; i + 8 <= bytes && i + 9 <= source_bytes; i += 8) {
			uint64_t word;
			memcpy(&word, from + i, sizeof word);
			word = word >> shift | (uint64_t)from[i + 8] << (64 - shift);
			memcpy(to + i, &word, sizeof word);
		}
		for (; i < bytes; i++) {
			unsigned low = from[i], high = i + 1 < source_bytes ? from[i + 1] : 0;
			to[i] = (uint8_t)(low >> shift | high << (8 - shift));
		}
	}
	if (bits < 8 * bytes)
		to[bytes - 1] &= (uint8_t)((1u << (bits % 8)) - 1); /* bits end within the last byte */
}

static void rebase32(uint8_t *to, const uint8_t *from, uint64_t bytes, uint32_t base)
{
	for (uint64_t i = 0; i < bytes; i += sizeof base) {
		uint32_t offset;
		memcpy(&offset, from + i, sizeof offset);
		offset -= base;
		memcpy(to + i, &offset, sizeof offset);
	}
}

static void rebase64(uint8_t *to, const uint8_t *from, uint64_t bytes, uint64_t base)
{
	for (uint64_t i = 0; i < bytes; i += sizeof base) {
		uint64_t offset;
		memcpy(&offset, from + i, sizeof offset);
		offset -= base;
		memcpy(to + i, &offset, sizeof offset);
	}
}

void esk_encode_render(const esk_encode_piece *piece, uint64_t from, uint64_t bytes, uint8_t *to)
{
	if (bytes == 0)
		return;
	switch (piece->op) {
	case ESK_PIECE_COPY:
		copy(to, piece->source + from, bytes);
		break;
	case ESK_PIECE_ZERO:
		memset(to, 0, bytes);
		break;
	case ESK_PIECE_BITS:
		copy_bits(to, piece->source + from, piece->shift, bytes, piece->bits - 8 * from);
		break;
	case ESK_PIECE_REBASE32:
		rebase32(to, piece->source + from, bytes, (uint32_t)piece->base);
		break;
	case ESK_PIECE_REBASE64:
		rebase64(to, piece->source + from, bytes, (uint64_t)piece->base);
		break;
	}
}

void esk_encode_message(const esk_encode_tree *tree, bool delta, uint8_t *to)
{
	esk_encode_head(tree, delta, to);
	uint8_t *body = to + tree->head.bytes;
	for (uint32_t i = 0; i < tree->buffer_count; i++) {
		const esk_encode_piece *piece = &tree->pieces[i];
		uint64_t end = i + 1 < tree->buffer_count ? tree->pieces[i + 1].at : tree->body_bytes;
		esk_encode_render(piece, 0, piece->bytes, body + piece->at);
		memset(body + piece->at + piece->bytes, 0, end - piece->at - piece->bytes);
	}
}
