/* Where a writer's bytes go: see encode_writer.h.
 *
 * A file is written under another name beside its own and renamed when all of it is on the disk: its name
 * shows what was there before, or all of the new one, whenever the process dies. What a death leaves is the
 * other name, which ends in ".part". */
#include "arrow/encode_writer.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

esk_status esk_outlet_open(esk_arrow_write_fn write, void *arg, esk_outlet *ret_outlet, esk_error *err)
{
	uint8_t *buffer = malloc(ESK_OUTLET_BYTES);
	if (buffer == NULL)
		return esk_fail_memory(err, ESK_OUTLET_BYTES, "the buffer of an Arrow writer");
	*ret_outlet = (esk_outlet){.write = write, .arg = arg, .buffer = buffer, .fd = -1};
	return ESK_OK;
}

static esk_status write_file(void *arg, const void *data, size_t size, esk_error *err)
{
	esk_outlet *outlet = arg;
	esk_status status =
		esk_os_write(outlet->os, outlet->fd, outlet->path, data, size, outlet->written, err);
	if (status == ESK_OK)
		outlet->written += size;
	return status;
}

esk_status esk_outlet_open_file(const esk_os *os, const char *path, esk_outlet *ret_outlet, esk_error *err)
{
	if (path == NULL || path[0] == '\0')
		return esk_fail(err, ESK_EINVAL, "the path of an Arrow file is missing");
	size_t room = strlen(path) + 32;
	char *name = strdup(path), *aside = malloc(room);
	int fd;
	esk_outlet outlet;
	esk_status status = ESK_OK;
	if (name == NULL || aside == NULL)
		status = esk_fail_memory(err, room, path);
	if (status == ESK_OK) {
		snprintf(aside, room, "%s.%016" PRIx64 ".part", path, esk_random_u64());
		status = esk_outlet_open(write_file, NULL, &outlet, err);
	}
	if (status != ESK_OK)
		goto memory;
	status = esk_os_open(os, aside, O_WRONLY | O_CREAT | O_EXCL, 0666, &fd, err);
	if (status != ESK_OK)
		goto file;
	outlet.os = os;
	outlet.path = name;
	outlet.aside = aside;
	outlet.fd = fd;
	*ret_outlet = outlet;
	return ESK_OK;

file:
	free(outlet.buffer);
memory:
	free(name);
	free(aside);
	return status;
}

static esk_status hand_over(esk_outlet *outlet, const void *data, size_t bytes, esk_error *err)
{
	return outlet->write(outlet->os != NULL ? outlet : outlet->arg, data, bytes, err);
}

esk_status esk_outlet_flush(esk_outlet *outlet, esk_error *err)
{
	if (outlet->used == 0)
		return ESK_OK;
	esk_status status = hand_over(outlet, outlet->buffer, outlet->used, err);
	if (status == ESK_OK)
		outlet->used = 0;
	return status;
}

/* Room for at least one byte; *ret_room says how much there is. */
static esk_status make_room(esk_outlet *outlet, uint64_t *ret_room, esk_error *err)
{
	esk_status status = outlet->used == ESK_OUTLET_BYTES ? esk_outlet_flush(outlet, err) : ESK_OK;
	*ret_room = ESK_OUTLET_BYTES - outlet->used;
	return status;
}

esk_status esk_outlet_put(esk_outlet *outlet, const void *data, uint64_t bytes, esk_error *err)
{
	if (bytes > ESK_OUTLET_BYTES - outlet->used) {
		esk_status status = esk_outlet_flush(outlet, err);
		if (status != ESK_OK)
			return status;
	}
	outlet->position += bytes;
	if (bytes >= ESK_OUTLET_BYTES)
		return hand_over(outlet, data, bytes, err);
	if (bytes > 0)
		memcpy(outlet->buffer + outlet->used, data, bytes);
	outlet->used += bytes;
	return ESK_OK;
}

esk_status esk_outlet_put_zeros(esk_outlet *outlet, uint64_t bytes, esk_error *err)
{
	static const uint8_t zeros[64];
	for (uint64_t part; bytes > 0; bytes -= part) {
		part = esk_min_u64(bytes, sizeof zeros);
		esk_status status = esk_outlet_put(outlet, zeros, part, err);
		if (status != ESK_OK)
			return status;
	}
	return ESK_OK;
}

/* What is changed on its way is rendered right into the buffer. Pieces begin at multiples of 8 of what was
 * put, and so does every part of them, since the buffer's size is one. */
esk_status esk_outlet_put_piece(esk_outlet *outlet, const esk_encode_piece *piece, esk_error *err)
{
	if (piece->op == ESK_PIECE_COPY)
		return esk_outlet_put(outlet, piece->source, piece->bytes, err);
	for (uint64_t from = 0, room; from < piece->bytes;) {
		esk_status status = make_room(outlet, &room, err);
		if (status != ESK_OK)
			return status;
		uint64_t part = esk_min_u64(room, piece->bytes - from);
		esk_encode_render(piece, from, part, outlet->buffer + outlet->used);
		outlet->used += part;
		outlet->position += part;
		from += part;
	}
	return ESK_OK;
}

esk_status esk_outlet_finish(esk_outlet *outlet, esk_error *err)
{
	esk_status status = esk_outlet_flush(outlet, err);
	if (outlet->os == NULL || status != ESK_OK)
		return status;
	status = esk_os_sync(outlet->os, outlet->fd, outlet->path, err);
	if (status != ESK_OK)
		return status;
	int closed = outlet->os->close(outlet->os, outlet->fd);
	outlet->fd = -1;
	if (closed < 0)
		return esk_fail_errno(err, -closed, "%s: closing", outlet->path);
	status = esk_os_rename(outlet->os, outlet->aside, outlet->path, err);
	if (status != ESK_OK)
		return status;
	free(outlet->aside);
	outlet->aside = NULL;
	return esk_os_sync_parent(outlet->os, outlet->path, err);
}

void esk_outlet_close(esk_outlet *outlet)
{
	if (outlet->fd >= 0)
		outlet->os->close(outlet->os, outlet->fd);
	if (outlet->aside != NULL)
		esk_os_unlink(outlet->os, outlet->aside, NULL);
	free(outlet->path);
	free(outlet->aside);
	free(outlet->buffer);
	*outlet = (esk_outlet){.fd = -1};
}
