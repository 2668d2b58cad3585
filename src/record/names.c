/* Which paths of a run's segments are taken, as producers see it: also by what is acknowledged and not yet in
 * the file. What could not be made where it is wanted is refused at the call, and not found out by the drain
 * thread, which has nobody to tell.
 *
 * A path is kept as 61 bits of a hash and three that say what it is: eight bytes for each of a million items.
 * Two paths of one hash are to be expected among four thousand million, and then one of them is refused.
 *
 * Safe from any thread. */
#include "record/internal.h"

#include <stdlib.h>
#include <string.h>

#define KIND_MASK 7u
#define KIND_BITS 3
#define FIRST_CAPACITY 64u

void esk_names_init(esk_names *names)
{
	*names = (esk_names){0};
	pthread_mutex_init(&names->lock, NULL);
}

void esk_names_clear(esk_names *names)
{
	pthread_mutex_destroy(&names->lock);
	free(names->slots);
	*names = (esk_names){0};
}

/* FNV-1a, mixed so that the low bits that find the slot depend on all; never 0. */
static uint64_t hash_of(const char *path, size_t size)
{
	uint64_t hash = 0xcbf29ce484222325u;
	for (size_t i = 0; i < size; i++)
		hash = (hash ^ (unsigned char)path[i]) * 0x100000001b3u;
	hash = (hash ^ (hash >> 32)) * 0xd6e8feb86659fd93u;
	hash = (hash ^ (hash >> 32)) & ~(uint64_t)KIND_MASK;
	return hash != 0 ? hash : KIND_MASK + 1;
}

/* The slot of the path, or the free one where it belongs. */
static size_t slot_of(const esk_names *names, uint64_t hash)
{
	size_t at = (size_t)(hash >> KIND_BITS) & (names->capacity - 1);
	while (names->slots[at] != 0 && (names->slots[at] & ~(uint64_t)KIND_MASK) != hash)
		at = (at + 1) & (names->capacity - 1);
	return at;
}

static bool find(const esk_names *names, const char *path, size_t size, esk_name_kind *ret_kind)
{
	if (names->capacity == 0)
		return false;
	uint64_t found = names->slots[slot_of(names, hash_of(path, size))];
	*ret_kind = (esk_name_kind)(found & KIND_MASK);
	return found != 0;
}

/* Room for `more` names: at most half of the slots are taken. */
static esk_status make_room(esk_names *names, size_t more, esk_error *err)
{
	size_t capacity = names->capacity > 0 ? names->capacity : FIRST_CAPACITY;
	while (capacity / 2 < names->count + more)
		capacity *= 2;
	if (capacity == names->capacity)
		return ESK_OK;
	esk_names grown = {.slots = calloc(capacity, sizeof *grown.slots), .capacity = capacity};
	if (grown.slots == NULL)
		return esk_fail_memory(err, capacity * sizeof *grown.slots, "names");
	for (size_t i = 0; i < names->capacity; i++)
		if (names->slots[i] != 0)
			grown.slots[slot_of(&grown, names->slots[i] & ~(uint64_t)KIND_MASK)] =
				names->slots[i];
	free(names->slots);
	names->slots = grown.slots;
	names->capacity = capacity;
	return ESK_OK;
}

static void put(esk_names *names, const char *path, size_t size, esk_name_kind kind)
{
	uint64_t hash = hash_of(path, size);
	size_t at = slot_of(names, hash);
	names->count += names->slots[at] == 0;
	names->slots[at] = hash | kind;
}

static void put_with_groups(esk_names *names, const char *path, esk_name_kind kind)
{
	esk_name_kind found;
	for (const char *end = strchr(path, '/'); end != NULL; end = strchr(end + 1, '/'))
		if (!find(names, path, (size_t)(end - path), &found))
			put(names, path, (size_t)(end - path), ESK_NAME_GROUP);
	put(names, path, strlen(path), kind);
}

static esk_status taken(const char *path, size_t size, esk_name_kind found, esk_error *err)
{
	static const char *const kinds[] = {
		"a group", "a dataset", "a text", "an item", "where items are joined"};
	return esk_fail(err, ESK_EEXIST, "has \"%.*s\" already, %s: choose another name", (int)size, path,
		kinds[found]);
}

/* ESK_EEXIST where `kind` cannot be made at `path`. *ret_new: nothing is there. */
static esk_status check(
	const esk_names *names, const char *path, esk_name_kind kind, bool *ret_new, esk_error *err)
{
	esk_name_kind found;
	for (const char *end = strchr(path, '/'); end != NULL; end = strchr(end + 1, '/'))
		if (find(names, path, (size_t)(end - path), &found) && found != ESK_NAME_GROUP)
			return taken(path, (size_t)(end - path), found, err);
	*ret_new = !find(names, path, strlen(path), &found);
	bool fits = *ret_new ||
		    (kind == ESK_NAME_GROUP && found != ESK_NAME_DATASET && found != ESK_NAME_TEXT) ||
		    (kind == found && (kind == ESK_NAME_JOIN || kind == ESK_NAME_TEXT));
	return fits ? ESK_OK : taken(path, strlen(path), found, err);
}

static size_t parts_of(const char *path)
{
	size_t parts = 1;
	for (; *path != '\0'; path++)
		parts += *path == '/';
	return parts;
}

esk_status esk_names_claim(
	esk_names *names, const char *path, esk_name_kind kind, bool *ret_new, esk_error *err)
{
	pthread_mutex_lock(&names->lock);
	bool new = false;
	esk_status status = check(names, path, kind, &new, err);
	if (status == ESK_OK && new)
		status = make_room(names, parts_of(path), err);
	if (status == ESK_OK && new)
		put_with_groups(names, path, kind);
	pthread_mutex_unlock(&names->lock);
	if (status == ESK_OK)
		*ret_new = new;
	return status;
}

/* What stands behind a slot that becomes free moves up, so that it is still found. */
static void take_out(esk_names *names, size_t at)
{
	size_t mask = names->capacity - 1;
	for (size_t next = (at + 1) & mask; names->slots[next] != 0; next = (next + 1) & mask) {
		size_t home = (size_t)(names->slots[next] >> KIND_BITS) & mask;
		if (((next - home) & mask) < ((next - at) & mask))
			continue;
		names->slots[at] = names->slots[next];
		at = next;
	}
	names->slots[at] = 0;
	names->count--;
}

void esk_names_release(esk_names *names, const char *path)
{
	pthread_mutex_lock(&names->lock);
	size_t at = names->capacity > 0 ? slot_of(names, hash_of(path, strlen(path))) : 0;
	if (names->capacity > 0 && names->slots[at] != 0)
		take_out(names, at);
	pthread_mutex_unlock(&names->lock);
}

bool esk_names_find(esk_names *names, const char *path, esk_name_kind *ret_kind)
{
	pthread_mutex_lock(&names->lock);
	bool found = find(names, path, strlen(path), ret_kind);
	pthread_mutex_unlock(&names->lock);
	return found;
}

/* ---- a stream's ---- */

/* Calls with each dataset of the stream until one fails; returns how many did not. */
static size_t claim_datasets(esk_names *names, const esk_stream *stream, size_t most, bool release,
	esk_status *ret_status, esk_error *err)
{
	char path[2 * ESK_MAX_NAME + 16];
	size_t done = 0;
	for (size_t c = 0; c < 2 * stream->column_count && done < most; c++) {
		const esk_column *column = &stream->columns[c / 2];
		bool new;
		if (c % 2 == 1 && !column->nullable)
			continue;
		esk_segment_column_path(stream->name, column->name, c % 2 == 1, path, sizeof path);
		if (release)
			esk_names_release(names, path);
		else if ((*ret_status = esk_names_claim(names, path, ESK_NAME_DATASET, &new, err)) != ESK_OK)
			break;
		done++;
	}
	return done;
}

esk_status esk_names_claim_stream(esk_names *names, const esk_stream *stream, esk_error *err)
{
	esk_status status = ESK_OK;
	size_t done = claim_datasets(names, stream, SIZE_MAX, false, &status, err);
	if (status != ESK_OK)
		claim_datasets(names, stream, done, true, NULL, NULL);
	return status;
}

void esk_names_release_stream(esk_names *names, const esk_stream *stream)
{
	claim_datasets(names, stream, SIZE_MAX, true, NULL, NULL);
}
