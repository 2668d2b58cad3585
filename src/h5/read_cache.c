/* What outlives a read: chunks decoded lately, working buffers, and the arrays of plans. No I/O, no libhdf5.
 *
 * Slots serve neighbouring small reads. A chunk that was touched once is on probation: at most two of those
 * are kept, so that random frames pass through memory that stays in the processor's cache and do not push out
 * the chunks of scalar columns, which every step of a random batch touches again. */
#include "h5/read_internal.h"
#include <stdlib.h>

#define PROBATION_SLOTS 2

struct esk_h5_reader *esk_h5_reader_create(void)
{
	struct esk_h5_reader *reader = calloc(1, sizeof *reader);
	if (reader && pthread_mutex_init(&reader->lock, NULL) != 0) {
		free(reader);
		return NULL;
	}
	return reader;
}

static void buffers_free(esk_h5_buffers *buffers)
{
	esk_scratch_destroy(buffers->scratch);
	free(buffers->decoded);
	free(buffers->stored);
	free(buffers);
}

static void read_free(esk_h5_read *read)
{
	free(read->jobs);
	free(read->tasks);
	free(read->entries);
	free(read);
}

void esk_h5_reader_destroy(struct esk_h5_reader *reader)
{
	if (!reader)
		return;
	for (size_t i = 0; i < ESK_H5_SLOT_COUNT; i++)
		free(reader->slots[i].data);
	while (reader->buffers) {
		esk_h5_buffers *next = reader->buffers->next;
		buffers_free(reader->buffers);
		reader->buffers = next;
	}
	while (reader->reads) {
		esk_h5_read *next = reader->reads->next;
		read_free(reader->reads);
		reader->reads = next;
	}
	pthread_mutex_destroy(&reader->lock);
	free(reader);
}

void esk_h5_chunk_cache_destroy(struct esk_h5_chunk_cache *cache)
{
	if (!cache)
		return;
	free(cache->fill);
	free(cache->entries);
	free(cache);
}

/* ---- slots ---- */

static void slot_touch(struct esk_h5_reader *reader, esk_h5_slot *slot)
{
	slot->pins++;
	slot->uses++;
	slot->last_use = ++reader->clock;
}

esk_h5_slot *esk_h5_slot_find(struct esk_h5_reader *reader, const struct esk_h5_chunk_cache *owner,
	uint64_t chunk, uint64_t need_bytes, bool *ret_again)
{
	esk_h5_slot *found = NULL;
	*ret_again = false;
	pthread_mutex_lock(&reader->lock);
	for (size_t i = 0; i < ESK_H5_SLOT_COUNT && !found; i++) {
		esk_h5_slot *slot = &reader->slots[i];
		if (slot->owner != owner || slot->chunk != chunk)
			continue;
		if (slot->valid_bytes >= need_bytes) {
			slot_touch(reader, slot);
			found = slot;
		} else {
			*ret_again = true;
			if (slot->pins == 0) /* what is decoded next replaces it */
				slot->owner = NULL;
		}
	}
	pthread_mutex_unlock(&reader->lock);
	return found;
}

/* The slot to give up next: an empty one that is large enough, else the oldest on probation when there are
 * enough of those, else (with `any`) the oldest of all. */
static esk_h5_slot *slot_victim(struct esk_h5_reader *reader, uint64_t bytes, bool any)
{
	esk_h5_slot *oldest = NULL, *probation = NULL;
	uint32_t on_probation = 0;
	for (size_t i = 0; i < ESK_H5_SLOT_COUNT; i++) {
		esk_h5_slot *slot = &reader->slots[i];
		if (slot->pins > 0 || !slot->data)
			continue;
		if (!slot->owner && slot->capacity_bytes >= bytes)
			return slot;
		if (!oldest || slot->last_use < oldest->last_use)
			oldest = slot;
		if (slot->owner && slot->uses == 1) {
			on_probation++;
			if (!probation || slot->last_use < probation->last_use)
				probation = slot;
		}
	}
	if (on_probation >= PROBATION_SLOTS && probation->capacity_bytes >= bytes)
		return probation;
	return any ? oldest : NULL;
}

static void slot_empty(struct esk_h5_reader *reader, esk_h5_slot *slot)
{
	free(slot->data);
	reader->slots_bytes -= slot->capacity_bytes;
	*slot = (esk_h5_slot){0};
}

static esk_h5_slot *slot_without_memory(struct esk_h5_reader *reader)
{
	for (size_t i = 0; i < ESK_H5_SLOT_COUNT; i++)
		if (!reader->slots[i].data && reader->slots[i].pins == 0)
			return &reader->slots[i];
	return NULL;
}

/* Under the lock. */
static esk_h5_slot *slot_take(struct esk_h5_reader *reader, uint64_t bytes)
{
	esk_h5_slot *slot = slot_victim(reader, bytes, false);
	while (!slot) {
		slot = slot_without_memory(reader);
		if (slot && reader->slots_bytes + bytes <= ESK_H5_SLOTS_BYTES)
			break;
		slot = slot_victim(reader, bytes, true);
		if (!slot)
			return NULL;
		if (slot->capacity_bytes >= bytes)
			break;
		slot_empty(reader, slot);
		slot = NULL;
	}
	if (!slot->data) {
		slot->data = malloc(bytes);
		if (!slot->data)
			return NULL;
		slot->capacity_bytes = bytes;
		reader->slots_bytes += bytes;
	}
	slot->owner = NULL;
	slot->uses = 0;
	slot_touch(reader, slot);
	return slot;
}

esk_h5_slot *esk_h5_slot_take(struct esk_h5_reader *reader, uint64_t bytes)
{
	if (bytes == 0 || bytes > ESK_H5_SLOT_BYTES_MAX)
		return NULL;
	pthread_mutex_lock(&reader->lock);
	esk_h5_slot *slot = slot_take(reader, bytes);
	pthread_mutex_unlock(&reader->lock);
	return slot;
}

void esk_h5_slot_publish(struct esk_h5_reader *reader, esk_h5_slot *slot,
	const struct esk_h5_chunk_cache *owner, uint64_t chunk, uint64_t valid_bytes)
{
	pthread_mutex_lock(&reader->lock);
	slot->owner = owner;
	slot->chunk = chunk;
	slot->valid_bytes = valid_bytes;
	pthread_mutex_unlock(&reader->lock);
}

void esk_h5_slot_release(struct esk_h5_reader *reader, esk_h5_slot *slot)
{
	pthread_mutex_lock(&reader->lock);
	slot->pins--;
	pthread_mutex_unlock(&reader->lock);
}

/* ---- buffers and plans ---- */

esk_h5_buffers *esk_h5_buffers_take(struct esk_h5_reader *reader)
{
	pthread_mutex_lock(&reader->lock);
	esk_h5_buffers *buffers = reader->buffers;
	if (buffers)
		reader->buffers = buffers->next;
	pthread_mutex_unlock(&reader->lock);
	return buffers ? buffers : calloc(1, sizeof *buffers);
}

static void buffer_trim(unsigned char **buffer, size_t *capacity_bytes)
{
	if (*capacity_bytes <= ESK_H5_BUFFER_KEEP_BYTES)
		return;
	free(*buffer);
	*buffer = NULL;
	*capacity_bytes = 0;
}

void esk_h5_buffers_give(struct esk_h5_reader *reader, esk_h5_buffers *buffers)
{
	if (!buffers)
		return;
	buffer_trim(&buffers->stored, &buffers->stored_bytes);
	buffer_trim(&buffers->decoded, &buffers->decoded_bytes);
	pthread_mutex_lock(&reader->lock);
	buffers->next = reader->buffers;
	reader->buffers = buffers;
	pthread_mutex_unlock(&reader->lock);
}

esk_status esk_h5_buffer_grow(
	unsigned char **buffer, size_t *capacity_bytes, uint64_t bytes, const char *what, esk_error *err)
{
	if (bytes <= *capacity_bytes)
		return ESK_OK;
	uint64_t rounded;
	if (!esk_add_u64(bytes, bytes / 4, &rounded))
		rounded = bytes;
	unsigned char *grown = rounded <= SIZE_MAX ? malloc(rounded) : NULL;
	if (!grown)
		return esk_fail_memory(err, bytes, what);
	free(*buffer);
	*buffer = grown;
	*capacity_bytes = rounded;
	return ESK_OK;
}

esk_h5_read *esk_h5_read_take(struct esk_h5_reader *reader)
{
	pthread_mutex_lock(&reader->lock);
	esk_h5_read *read = reader->reads;
	if (read)
		reader->reads = read->next;
	pthread_mutex_unlock(&reader->lock);
	if (!read)
		read = calloc(1, sizeof *read);
	if (read)
		read->reader = reader;
	return read;
}

void esk_h5_read_give(struct esk_h5_reader *reader, esk_h5_read *read)
{
	if (!read)
		return;
	pthread_mutex_lock(&reader->lock);
	read->next = reader->reads;
	reader->reads = read;
	pthread_mutex_unlock(&reader->lock);
}
