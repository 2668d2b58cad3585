/* IPC streams as C streams: from memory, a mapped file, a descriptor.
 *
 *   memory, mapping ─▶ source block, which arrays in place rest on
 *   descriptor      ─▶ a source block per message
 *
 * May include: base, os. */
#include "arrow/footer.h"
#include "os/os.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct stream {
	esk_arrow_decoder *decoder;
	esk_arrow_block *source; /* of memory and mappings; NULL: read from `fd` */
	const uint8_t *data;
	uint64_t size;
	uint64_t position;
	esk_arrow_blocks blocks; /* of an IPC file: its batches */
	uint64_t next_block;
	bool is_file;
	bool ended;
	int fd;
	uint8_t head[ESK_ARROW_HEAD_BYTES]; /* read ahead from the descriptor, to see whether it begins with
					       magic */
	uint64_t head_bytes;
	esk_error err; /* the last */
} stream;

/* ---- a descriptor ---- */

/* Reads up to `size` bytes, fewer only at the end of the file. */
static esk_status read_fully(int fd, uint8_t *to, uint64_t size, uint64_t *ret_size, esk_error *err)
{
	uint64_t used = 0;
	while (used < size) {
		ssize_t got = read(fd, to + used, size - used);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return esk_fail_errno(err, errno, "reading an Arrow stream");
		if (got == 0)
			break;
		used += (uint64_t)got;
	}
	*ret_size = used;
	return ESK_OK;
}

/* The same, but what was read ahead comes first. */
static esk_status pull(stream *s, uint8_t *to, uint64_t size, uint64_t *ret_size, esk_error *err)
{
	uint64_t ahead = esk_min_u64(s->head_bytes, size), got = 0;
	memcpy(to, s->head, ahead);
	memmove(s->head, s->head + ahead, s->head_bytes - ahead);
	s->head_bytes -= ahead;
	esk_status status = ahead == size ? ESK_OK : read_fully(s->fd, to + ahead, size - ahead, &got, err);
	if (status == ESK_OK)
		*ret_size = ahead + got;
	return status;
}

/* A message that grows as its bytes arrive: memory is taken for at most as much again as has come. */
typedef struct arriving {
	esk_arrow_pool *pool;
	esk_arrow_block *block;
	uint8_t *data;
	uint64_t size;
	uint64_t room;
} arriving;

#define FIRST_ROOM ((uint64_t)1 << 20)

static esk_status grow(arriving *a, uint64_t want, esk_error *err)
{
	if (want <= a->room)
		return ESK_OK;
	esk_arrow_block *block;
	uint64_t room = esk_min_u64(want, esk_max_u64(FIRST_ROOM, 2 * a->size));
	esk_status status = esk_arrow_block_take(a->pool, room, 0, &block, err);
	if (status != ESK_OK)
		return status;
	uint8_t *data = esk_arrow_block_room(block, room, 64);
	if (a->size > 0)
		memcpy(data, a->data, a->size);
	esk_arrow_block_drop(a->block);
	a->block = block;
	a->data = data;
	a->room = room;
	return ESK_OK;
}

/* Reads until the message has `want` bytes; ESK_ECORRUPT where the stream ends before. */
static esk_status arrive(stream *s, arriving *a, uint64_t want, esk_error *err)
{
	while (a->size < want) {
		uint64_t got;
		esk_status status = grow(a, want, err);
		uint64_t ask = esk_min_u64(want, a->room) - a->size;
		if (status == ESK_OK)
			status = pull(s, a->data + a->size, ask, &got, err);
		if (status != ESK_OK)
			return status;
		a->size += got;
		if (got < ask)
			return esk_fail(err, ESK_ECORRUPT,
				"it ends after %llu bytes of a message: %llu were expected",
				(unsigned long long)a->size, (unsigned long long)want);
	}
	return ESK_OK;
}

/* The next message into `a`, whole; *ret_size 0 at the end of the file. */
static esk_status read_message(stream *s, arriving *a, esk_error *err)
{
	uint64_t bytes, got;
	esk_status status = grow(a, 8, err);
	if (status == ESK_OK)
		status = pull(s, a->data, 4, &got, err);
	if (status != ESK_OK || got == 0)
		return status;
	if (got < 4)
		return esk_fail(err, ESK_ECORRUPT, "it ends within a message");
	a->size = 4;
	/* A continuation marker and a length, or in old streams a length, which may be that of the end. */
	uint64_t head = esk_load_u32(a->data) == UINT32_MAX ? 8 : 4;
	status = arrive(s, a, head, err);
	if (status != ESK_OK)
		return status;
	uint64_t metadata = esk_load_u32(a->data + head - 4);
	status = esk_arrow_message_bytes(a->data, head, s->decoder->max_bytes, &bytes, err);
	if (status == ESK_OK && bytes == 0)
		status = arrive(s, a, head + metadata, err);
	if (status == ESK_OK && bytes == 0)
		status = esk_arrow_message_bytes(a->data, a->size, s->decoder->max_bytes, &bytes, err);
	return status == ESK_OK ? arrive(s, a, bytes, err) : status;
}

/* An IPC file begins with its magic, behind which it is a stream. Every message has as many bytes, so nothing
 * is read that belongs to others. */
static esk_status read_head(stream *s, esk_error *err)
{
	esk_status status = read_fully(s->fd, s->head, sizeof s->head, &s->head_bytes, err);
	if (status == ESK_OK && esk_arrow_has_magic(s->head, s->head_bytes)) {
		s->decoder->bytes = s->head_bytes;
		s->head_bytes = 0;
	}
	return status;
}

static esk_status fd_next(
	stream *s, esk_arrow_message_kind *ret_kind, struct ArrowArray *ret_array, esk_error *err)
{
	arriving a = {.pool = s->decoder->pool};
	uint64_t used;
	esk_status status = read_message(s, &a, err);
	if (status != ESK_OK) {
		status = esk_fail_in(err, status, "Arrow message %llu at byte %llu",
			(unsigned long long)s->decoder->messages, (unsigned long long)s->decoder->bytes);
	} else if (a.size == 0) {
		*ret_kind = ESK_ARROW_END;
	} else {
		status = esk_arrow_decoder_take(
			s->decoder, a.data, a.size, a.block, &used, ret_kind, ret_array, err);
	}
	esk_arrow_block_drop(a.block);
	return status;
}

/* ---- memory ---- */

static esk_status memory_next(
	stream *s, esk_arrow_message_kind *ret_kind, struct ArrowArray *ret_array, esk_error *err)
{
	uint64_t used, at = s->position, end = s->size;
	if (s->is_file) {
		if (s->next_block == s->blocks.count) {
			*ret_kind = ESK_ARROW_END;
			return ESK_OK;
		}
		esk_arrow_place place = esk_arrow_blocks_get(&s->blocks, s->next_block);
		at = place.offset;
		end = at + place.bytes;
		s->decoder->bytes = at;
	} else if (at == end) { /* the end-of-stream mark may be missing */
		*ret_kind = ESK_ARROW_END;
		return ESK_OK;
	}
	esk_status status = esk_arrow_decoder_take(
		s->decoder, s->data + at, end - at, s->source, &used, ret_kind, ret_array, err);
	if (status != ESK_OK)
		return status;
	s->position += used;
	s->next_block++;
	return ESK_OK;
}

static esk_status next_message(
	stream *s, esk_arrow_message_kind *ret_kind, struct ArrowArray *ret_array, esk_error *err)
{
	return s->source == NULL ? fd_next(s, ret_kind, ret_array, err)
				 : memory_next(s, ret_kind, ret_array, err);
}

/* ---- the C stream interface ---- */

static int stream_schema(struct ArrowArrayStream *self, struct ArrowSchema *out)
{
	stream *s = self->private_data;
	esk_status status = esk_arrow_schema_copy(esk_arrow_decoder_schema(s->decoder), out, &s->err);
	return esk_arrow_errno(status);
}

static int stream_next(struct ArrowArrayStream *self, struct ArrowArray *out)
{
	stream *s = self->private_data;
	struct ArrowArray array = {0};
	while (!s->ended && array.release == NULL) {
		esk_arrow_message_kind kind;
		esk_status status = next_message(s, &kind, &array, &s->err);
		if (status != ESK_OK)
			return esk_arrow_errno(status);
		s->ended = kind == ESK_ARROW_END;
	}
	*out = array;
	return 0;
}

static const char *stream_error(struct ArrowArrayStream *self)
{
	stream *s = self->private_data;
	return s->err.message[0] == '\0' ? NULL : s->err.message;
}

static void stream_free(stream *s)
{
	if (s == NULL)
		return;
	esk_arrow_decoder_destroy(s->decoder);
	esk_arrow_block_drop(s->source);
	free(s);
}

static void stream_release(struct ArrowArrayStream *self)
{
	stream_free(self->private_data);
	self->release = NULL;
}

static esk_status stream_create(stream **ret_stream, esk_error *err)
{
	stream *s = calloc(1, sizeof(*s));
	if (s == NULL)
		return esk_fail_memory(err, sizeof(*s), "an Arrow stream");
	esk_status status = esk_arrow_decoder_create(&s->decoder, err);
	if (status == ESK_OK)
		*ret_stream = s;
	else
		free(s);
	return status;
}

/* Reads the schema, which must be the first message. */
static esk_status read_schema(stream *s, esk_error *err)
{
	esk_arrow_message_kind kind;
	struct ArrowArray none;
	esk_status status = next_message(s, &kind, &none, err);
	if (status == ESK_OK && kind != ESK_ARROW_SCHEMA)
		return esk_fail(err, ESK_ECORRUPT, "an Arrow stream without a schema");
	return status;
}

static void stream_give(stream *s, struct ArrowArrayStream *ret_stream)
{
	*ret_stream = (struct ArrowArrayStream){.get_schema = stream_schema,
		.get_next = stream_next,
		.get_last_error = stream_error,
		.release = stream_release,
		.private_data = s};
}

/* ---- opening ---- */

esk_status esk_arrow_open_fd(int fd, struct ArrowArrayStream *ret_stream, esk_error *err)
{
	stream *s;
	esk_status status = stream_create(&s, err);
	if (status != ESK_OK)
		return status;
	s->fd = fd;
	status = read_head(s, err);
	if (status == ESK_OK)
		status = read_schema(s, err);
	if (status == ESK_OK)
		stream_give(s, ret_stream);
	else
		stream_free(s);
	return status;
}

/* Opens what `s` has as its memory. */
static esk_status open_source(stream *s, esk_error *err)
{
	if (!esk_arrow_has_magic(s->data, s->size))
		return read_schema(s, err);
	s->is_file = true;
	return esk_arrow_footer_read(s->decoder, s->data, s->size, s->source, &s->blocks, err);
}

esk_status esk_arrow_open_memory(const void *data, size_t size, void (*release)(void *arg), void *arg,
	struct ArrowArrayStream *ret_stream, esk_error *err)
{
	stream *s;
	esk_status status = stream_create(&s, err);
	if (status != ESK_OK)
		return status;
	s->data = data;
	s->size = size;
	status = esk_arrow_block_foreign(release, arg, &s->source, err);
	if (status == ESK_OK)
		status = open_source(s, err);
	if (status == ESK_OK) {
		stream_give(s, ret_stream);
		return ESK_OK;
	}
	if (s->source != NULL)
		esk_arrow_block_disarm(s->source); /* the caller keeps its memory */
	stream_free(s);
	return status;
}

typedef struct mapping {
	void *address;
	uint64_t size;
} mapping;

static void mapping_release(void *arg)
{
	mapping *m = arg;
	munmap(m->address, m->size);
	free(m);
}

static esk_status map_file(const char *path, mapping *ret_mapping, esk_error *err)
{
	const esk_os *os = esk_os_posix();
	int fd;
	uint64_t size;
	void *address;
	esk_status status = esk_os_open(os, path, O_RDONLY, 0, &fd, err);
	if (status != ESK_OK)
		return status;
	status = esk_os_size(os, fd, path, &size, err);
	if (status == ESK_OK && size == 0)
		status = esk_fail(err, ESK_ECORRUPT, "%s is empty: an Arrow stream was expected", path);
	if (status == ESK_OK)
		status = esk_os_map(fd, path, size, false, &address, err);
	os->close(os, fd);
	if (status == ESK_OK)
		*ret_mapping = (mapping){address, size};
	return status;
}

esk_status esk_arrow_open_file(const char *path, struct ArrowArrayStream *ret_stream, esk_error *err)
{
	mapping *m = malloc(sizeof(*m));
	if (m == NULL)
		return esk_fail_memory(err, sizeof(*m), path);
	esk_status status = map_file(path, m, err);
	if (status != ESK_OK) {
		free(m);
		return status;
	}
	status = esk_arrow_open_memory(m->address, m->size, mapping_release, m, ret_stream, err);
	if (status == ESK_OK)
		return ESK_OK;
	mapping_release(m);
	return esk_fail_in(err, status, "%s", path);
}
