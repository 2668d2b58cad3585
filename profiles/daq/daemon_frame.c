/* Heads and buffers of messages: see daemon_frame.h. */
#include "daemon_frame.h"

#include <esker/profile.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_CAPACITY 512

static uint32_t load_u32(const uint8_t *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void store_u32(uint8_t *at, uint32_t value)
{
	for (unsigned i = 0; i < 4; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

esk_status esk_frame_read(const void *data, uint64_t max_message_bytes, esk_frame *ret_frame, esk_error *err)
{
	const uint8_t *head = data;
	uint32_t magic = load_u32(head), version = load_u32(head + 4);
	esk_frame frame = {load_u32(head + 8), load_u32(head + 12)};
	if (magic != ESK_FRAME_MAGIC)
		return esk_fail(err, ESK_ECORRUPT,
			"a message begins with 0x%08" PRIX32
			", expected 0x%08X: the peer does not speak this protocol, or lost its place in it",
			magic, ESK_FRAME_MAGIC);
	if ((version & 0xFFFF) != ESK_FRAME_VERSION || version >> 16 != 0)
		return esk_fail(err, ESK_EVERSION,
			"a message of protocol version %" PRIu32 ", flags 0x%" PRIX32
			"; this side speaks version %u without flags",
			version & 0xFFFF, version >> 16, ESK_FRAME_VERSION);
	if (frame.header_bytes == 0 || frame.header_bytes % ESK_FRAME_UNIT != 0 ||
		frame.body_bytes % ESK_FRAME_UNIT != 0)
		return esk_fail(err, ESK_ECORRUPT,
			"a message with a header of %" PRIu32 " and a body of %" PRIu32
			" bytes: both must be multiples of %u, and there must be a header",
			frame.header_bytes, frame.body_bytes, ESK_FRAME_UNIT);
	if (frame.header_bytes > ESK_FRAME_MOST_HEADER_BYTES)
		return esk_fail(err, ESK_ERANGE,
			"a message with a header of %" PRIu32 " bytes; at most %u are taken",
			frame.header_bytes, ESK_FRAME_MOST_HEADER_BYTES);
	if ((uint64_t)frame.header_bytes + frame.body_bytes > max_message_bytes)
		return esk_fail(err, ESK_ERANGE,
			"a message of %" PRIu64 " bytes; at most %" PRIu64
			" are taken: send smaller batches, or start the daemon with a larger --max-message",
			(uint64_t)frame.header_bytes + frame.body_bytes, max_message_bytes);
	*ret_frame = frame;
	return ESK_OK;
}

void esk_frame_write(const esk_frame *frame, uint8_t ret_head[ESK_FRAME_HEAD_BYTES])
{
	store_u32(ret_head, ESK_FRAME_MAGIC);
	store_u32(ret_head + 4, ESK_FRAME_VERSION);
	store_u32(ret_head + 8, frame->header_bytes);
	store_u32(ret_head + 12, frame->body_bytes);
}

esk_status esk_bytes_reserve(esk_bytes *bytes, size_t size, esk_error *err)
{
	size_t used = esk_bytes_size(bytes), need;
	if (bytes->capacity - bytes->end >= size)
		return ESK_OK;
	if (__builtin_add_overflow(used, size, &need) || need > SIZE_MAX / 2)
		return esk_fail_memory(err, size, "a message");
	if (bytes->begin > 0) {
		memmove(bytes->data, bytes->data + bytes->begin, used);
		bytes->begin = 0;
		bytes->end = used;
	}
	if (bytes->capacity >= need)
		return ESK_OK;
	size_t capacity = bytes->capacity > 0 ? bytes->capacity : LEAST_CAPACITY;
	while (capacity < need)
		capacity *= 2;
	uint8_t *grown = realloc(bytes->data, capacity);
	if (grown == NULL)
		return esk_fail_memory(err, capacity, "a message");
	bytes->data = grown;
	bytes->capacity = capacity;
	return ESK_OK;
}

void esk_bytes_take(esk_bytes *bytes, size_t size)
{
	bytes->begin += size;
	if (bytes->begin == bytes->end)
		bytes->begin = bytes->end = 0;
}

void esk_bytes_clear(esk_bytes *bytes)
{
	free(bytes->data);
	*bytes = (esk_bytes){0};
}

static void put_filled(esk_bytes *bytes, const char *text, size_t size)
{
	size_t filled = (size_t)esk_frame_round(size);
	if (size > 0)
		memcpy(bytes->data + bytes->end, text, size);
	memset(bytes->data + bytes->end + size, ' ', filled - size);
	bytes->end += filled;
}

esk_status esk_bytes_add_message(
	esk_bytes *bytes, const char *header, const char *body, size_t body_bytes, esk_error *err)
{
	size_t header_bytes = strlen(header);
	if (header_bytes > ESK_FRAME_MOST_HEADER_BYTES)
		return esk_fail(err, ESK_ERANGE, "a header of %zu bytes; at most %u fit a message",
			header_bytes, ESK_FRAME_MOST_HEADER_BYTES);
	if (body_bytes > ESK_FRAME_MOST_MESSAGE_BYTES)
		return esk_fail(err, ESK_ERANGE, "a body of %zu bytes; at most %llu fit a message",
			body_bytes, ESK_FRAME_MOST_MESSAGE_BYTES);
	esk_frame frame = {(uint32_t)esk_frame_round(header_bytes), (uint32_t)esk_frame_round(body_bytes)};
	esk_status status = esk_bytes_reserve(bytes, (size_t)esk_frame_bytes(&frame), err);
	if (status != ESK_OK)
		return status;
	esk_frame_write(&frame, bytes->data + bytes->end);
	bytes->end += ESK_FRAME_HEAD_BYTES;
	put_filled(bytes, header, header_bytes);
	put_filled(bytes, body, body_bytes);
	return ESK_OK;
}
