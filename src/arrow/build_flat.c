/* Flatbuffers, from their end to their beginning.
 *
 *   data                                capacity
 *   |        free        |  size bytes used      |
 *                        ^ the next goes in front
 *
 * An object is aligned by its distance from the end, and the whole is padded to 8 bytes when it is finished,
 * so everything is aligned where the first byte is. */
#include "arrow/build.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_BYTES 1024u
#define MAX_BYTES ((size_t)INT32_MAX)

void esk_builder_free(esk_builder *flat)
{
	free(flat->data);
	*flat = (esk_builder){0};
}

static bool make_room(esk_builder *flat, size_t bytes)
{
	if (flat->failed || bytes > MAX_BYTES - flat->size) {
		flat->failed = true;
		return false;
	}
	if (bytes <= flat->capacity - flat->size)
		return true;
	size_t capacity = esk_max_u64(FIRST_BYTES, 2 * (flat->size + bytes));
	uint8_t *data = malloc(capacity);
	if (data == NULL) {
		flat->failed = true;
		return false;
	}
	if (flat->size > 0)
		memcpy(data + capacity - flat->size, esk_builder_bytes(flat), flat->size);
	free(flat->data);
	flat->data = data;
	flat->capacity = capacity;
	return true;
}

/* Puts `bytes` bytes in front; zeros where `data` is NULL. */
static void push(esk_builder *flat, const void *data, size_t bytes)
{
	if (!make_room(flat, bytes) || bytes == 0)
		return;
	flat->size += bytes;
	if (data != NULL)
		memcpy(esk_builder_bytes(flat), data, bytes);
	else
		memset(esk_builder_bytes(flat), 0, bytes);
}

/* Pads so that what comes, once `bytes` bytes were put in front, begins at a multiple of `align`. */
static void align(esk_builder *flat, size_t bytes, size_t alignment)
{
	push(flat, NULL, -(flat->size + bytes) & (alignment - 1));
}

static void push_u32(esk_builder *flat, uint32_t value)
{
	push(flat, &value, sizeof value);
}

static esk_builder_ref here(const esk_builder *flat)
{
	return flat->failed ? 0 : (esk_builder_ref)flat->size;
}

void esk_builder_room(esk_builder *flat, size_t bytes)
{
	push(flat, NULL, bytes);
}

esk_builder_ref esk_builder_string(esk_builder *flat, const char *text, size_t bytes)
{
	if (bytes >= MAX_BYTES) {
		flat->failed = true;
		return 0;
	}
	align(flat, bytes + 1, sizeof(uint32_t));
	push(flat, NULL, 1);
	push(flat, text, bytes);
	push_u32(flat, (uint32_t)bytes);
	return here(flat);
}

/* A ref is stored as the distance from where it stands to what it refers to. */
static void push_ref(esk_builder *flat, esk_builder_ref ref)
{
	push_u32(flat, (uint32_t)flat->size + (uint32_t)sizeof ref - ref);
}

esk_builder_ref esk_builder_refs(esk_builder *flat, const esk_builder_ref *refs, size_t count)
{
	align(flat, 0, sizeof(uint32_t));
	for (size_t i = count; i-- > 0;)
		push_ref(flat, refs[i]);
	push_u32(flat, (uint32_t)count);
	return here(flat);
}

esk_builder_ref esk_builder_structs(esk_builder *flat, const void *data, size_t bytes, size_t count)
{
	uint64_t all;
	if (!esk_mul_u64(bytes, count, &all) || all >= MAX_BYTES) {
		flat->failed = true;
		return 0;
	}
	align(flat, 0,
		sizeof(uint64_t)); /* the structs begin at a multiple of 8; their count stands before them */
	push(flat, data, all);
	push_u32(flat, (uint32_t)count);
	return here(flat);
}

esk_builder_ref esk_builder_numbers(esk_builder *flat, const int32_t *numbers, size_t count)
{
	align(flat, 0, sizeof *numbers);
	push(flat, numbers, count * sizeof *numbers);
	push_u32(flat, (uint32_t)count);
	return here(flat);
}

void esk_builder_begin(esk_builder *flat, esk_builder_table *table)
{
	*table = (esk_builder_table){.start = (uint32_t)flat->size};
}

esk_builder_ref esk_builder_add(
	esk_builder *flat, esk_builder_table *table, unsigned slot, const void *value, size_t bytes)
{
	align(flat, bytes, bytes);
	push(flat, value, bytes);
	table->slots[slot] = here(flat);
	if (slot >= table->slot_count)
		table->slot_count = slot + 1;
	return here(flat);
}

void esk_builder_add_ref(esk_builder *flat, esk_builder_table *table, unsigned slot, esk_builder_ref ref)
{
	if (ref == 0)
		return;
	align(flat, sizeof ref, sizeof ref);
	uint32_t distance = (uint32_t)flat->size + (uint32_t)sizeof ref - ref;
	esk_builder_add(flat, table, slot, &distance, sizeof distance);
}

esk_builder_ref esk_builder_end(esk_builder *flat, esk_builder_table *table)
{
	uint16_t vtable[2 + ESK_BUILDER_SLOTS];
	align(flat, sizeof(int32_t), sizeof(int32_t));
	uint32_t end = (uint32_t)flat->size + (uint32_t)sizeof(int32_t);
	vtable[0] = (uint16_t)((2 + table->slot_count) * sizeof *vtable);
	vtable[1] = (uint16_t)(end - table->start);
	for (uint32_t i = 0; i < table->slot_count; i++)
		vtable[2 + i] = table->slots[i] != 0 ? (uint16_t)(end - table->slots[i]) : 0;
	push_u32(flat, vtable[0]); /* the vtable lies right before the table */
	push(flat, vtable, vtable[0]);
	return flat->failed ? 0 : end;
}

void esk_builder_finish(esk_builder *flat, esk_builder_ref root)
{
	align(flat, sizeof root, sizeof(uint64_t));
	push_ref(flat, root);
}
