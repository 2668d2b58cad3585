/* Messages as they are on the wire (docs/PROTOCOL.md): the head of 16 bytes, and a growing buffer to make
 * them in. Nothing here waits, reads or writes. */
#ifndef ESK_DAQ_DAEMON_FRAME_H
#define ESK_DAQ_DAEMON_FRAME_H

#include <esker/status.h>

#define ESK_FRAME_MAGIC 0x4D4B5345u /* "ESKM" */
#define ESK_FRAME_VERSION 1u
#define ESK_FRAME_HEAD_BYTES 16u
#define ESK_FRAME_UNIT 8u
#define ESK_FRAME_MOST_HEADER_BYTES (64u << 10)
#define ESK_FRAME_LEAST_MESSAGE_BYTES (64ull << 10)
#define ESK_FRAME_MOST_MESSAGE_BYTES (1ull << 30)
#define ESK_FRAME_DEFAULT_MESSAGE_BYTES (64ull << 20)

typedef struct esk_frame {
	uint32_t header_bytes;
	uint32_t body_bytes;
} esk_frame;

static inline uint64_t esk_frame_bytes(const esk_frame *frame)
{
	return (uint64_t)ESK_FRAME_HEAD_BYTES + frame->header_bytes + frame->body_bytes;
}

/* Reads the head at `data` (ESK_FRAME_HEAD_BYTES of it). Errors: ESK_ECORRUPT (magic, sizes that are no
 * multiples of 8, no header), ESK_EVERSION, ESK_ERANGE (larger than `max_message_bytes`). */
esk_status esk_frame_read(const void *data, uint64_t max_message_bytes, esk_frame *ret_frame, esk_error *err);
void esk_frame_write(const esk_frame *frame, uint8_t ret_head[ESK_FRAME_HEAD_BYTES]);

static inline uint64_t esk_frame_round(uint64_t bytes)
{
	return (bytes + ESK_FRAME_UNIT - 1) & ~(uint64_t)(ESK_FRAME_UNIT - 1);
}

/* Bytes that grow at the end and are taken at the front. */
typedef struct esk_bytes {
	uint8_t *data;
	size_t begin; /* of what is in it */
	size_t end;
	size_t capacity;
} esk_bytes;

static inline size_t esk_bytes_size(const esk_bytes *bytes)
{
	return bytes->end - bytes->begin;
}
/* Makes room for `size` bytes at data + end. Errors: ESK_ENOMEM. */
esk_status esk_bytes_reserve(esk_bytes *bytes, size_t size, esk_error *err);
void esk_bytes_take(esk_bytes *bytes, size_t size);
void esk_bytes_clear(esk_bytes *bytes);

/* Adds a message: head, `header` (JSON text) and `body` (may be NULL), each filled up with blanks. Errors:
 * ESK_ENOMEM, ESK_ERANGE (the header is too large). */
esk_status esk_bytes_add_message(
	esk_bytes *bytes, const char *header, const char *body, size_t body_bytes, esk_error *err);

#endif
