/* Values of a dictionary that were seen. A table with linear probing; the newest values can be taken out
 * again, since they are at the ends of the ways that lead to them. */
#include "store/arrow_sink.h"

#include <stdlib.h>
#include <string.h>

#define MAX_CATEGORIES (UINT32_MAX / 4) /* codes are i32 */

static uint64_t hash(const void *value, uint64_t size)
{
	const uint8_t *at = value;
	uint64_t h = size * 0x9E3779B97F4A7C15ull, word;
	for (; size >= 8; size -= 8, at += 8) {
		memcpy(&word, at, 8);
		h = (h ^ word) * 0xFF51AFD7ED558CCDull;
		h ^= h >> 32;
	}
	word = 0;
	memcpy(&word, at, size);
	h = (h ^ word) * 0xC4CEB9FE1A85EC53ull;
	return h ^ h >> 29;
}

/* The slot of a value, or the free one where it would be. */
static uint64_t slot_of(const esk_categories *c, const void *value, uint64_t size)
{
	uint64_t at = hash(value, size) & (c->slot_count - 1), found_size;
	for (; c->slots[at] != 0; at = (at + 1) & (c->slot_count - 1)) {
		const char *found = esk_category(c, c->slots[at] - 1, &found_size);
		if (found_size == size && memcmp(found, value, size) == 0)
			break;
	}
	return at;
}

/* At most half full. Values go in by their order, so that the newest are still at the ends. */
static esk_status grow_slots(esk_categories *c, esk_error *err)
{
	uint64_t count = c->slot_count == 0 ? 64 : 2 * c->slot_count, size;
	uint32_t *slots = calloc(count, sizeof *slots);
	if (slots == NULL)
		return esk_fail_memory(err, count * sizeof *slots, "categories");
	free(c->slots);
	c->slots = slots;
	c->slot_count = count;
	for (uint64_t i = 0; i < c->count; i++) {
		const char *value = esk_category(c, i, &size);
		c->slots[slot_of(c, value, size)] = (uint32_t)i + 1;
	}
	return ESK_OK;
}

static esk_status make_room(esk_categories *c, uint64_t size, esk_error *err)
{
	if (c->count >= MAX_CATEGORIES)
		return esk_fail(err, ESK_ERANGE, "more than %u categories", MAX_CATEGORIES);
	if (c->count == c->capacity) {
		uint64_t capacity = c->capacity == 0 ? 32 : 2 * c->capacity;
		uint64_t *ends = realloc(c->ends, capacity * sizeof *ends);
		if (ends == NULL)
			return esk_fail_memory(err, capacity * sizeof *ends, "categories");
		c->ends = ends;
		c->capacity = capacity;
	}
	if (size > c->bytes_capacity - c->bytes_size || c->bytes == NULL) {
		uint64_t capacity = 2 * c->bytes_capacity + size + 256;
		char *bytes = realloc(c->bytes, capacity);
		if (bytes == NULL)
			return esk_fail_memory(err, capacity, "categories");
		c->bytes = bytes;
		c->bytes_capacity = capacity;
	}
	return 2 * (c->count + 1) > c->slot_count ? grow_slots(c, err) : ESK_OK;
}

esk_status esk_categories_find(
	esk_categories *categories, const void *value, uint64_t size, uint32_t *ret_index, esk_error *err)
{
	esk_categories *c = categories;
	if (c->slot_count > 0) {
		uint32_t found = c->slots[slot_of(c, value, size)];
		if (found != 0) {
			*ret_index = found - 1;
			return ESK_OK;
		}
	}
	esk_status status = make_room(c, size, err);
	if (status != ESK_OK)
		return status;
	c->slots[slot_of(c, value, size)] = (uint32_t)c->count + 1;
	if (size > 0)
		memcpy(c->bytes + c->bytes_size, value, size);
	c->bytes_size += size;
	c->ends[c->count] = c->bytes_size;
	*ret_index = (uint32_t)c->count++;
	return ESK_OK;
}

esk_status esk_categories_know(esk_categories *categories, uint64_t count, esk_error *err)
{
	esk_categories *c = categories;
	if (count <= c->known_capacity)
		return ESK_OK;
	uint64_t capacity = esk_max_u64(count, 2 * c->known_capacity);
	uint32_t *known = calloc(capacity, sizeof *known);
	uint64_t *known_in = calloc(capacity, sizeof *known_in);
	if (known == NULL || known_in == NULL) {
		free(known);
		free(known_in);
		return esk_fail_memory(err, capacity * sizeof *known_in, "a dictionary's indices");
	}
	free(c->known);
	free(c->known_in);
	c->known = known;
	c->known_in = known_in;
	c->known_capacity = capacity;
	return ESK_OK;
}

void esk_categories_rollback(esk_categories *categories)
{
	esk_categories *c = categories;
	while (c->count > c->committed) {
		uint64_t size;
		const char *value = esk_category(c, c->count - 1, &size);
		c->slots[slot_of(c, value, size)] = 0;
		c->bytes_size -= size;
		c->count--;
	}
}

void esk_categories_free(esk_categories *categories)
{
	free(categories->ends);
	free(categories->bytes);
	free(categories->slots);
	free(categories->known);
	free(categories->known_in);
	*categories = (esk_categories){0};
}
