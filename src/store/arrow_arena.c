/* Memory of one append, kept for the next. */
#include "store/arrow_sink.h"

#include <stdlib.h>

struct esk_arena_block {
	esk_arena_block *next;
	size_t size;
	_Alignas(16) uint8_t data[];
};

#define FIRST_BLOCK_BYTES 4096u

static bool add_block(esk_arena *arena, uint64_t bytes)
{
	uint64_t size = esk_max_u64(bytes, esk_max_u64(FIRST_BLOCK_BYTES, arena->total));
	esk_arena_block *block = size < SIZE_MAX / 2 ? malloc(sizeof *block + size) : NULL;
	if (block == NULL)
		return false;
	block->next = arena->blocks;
	block->size = size;
	arena->blocks = block;
	arena->total += size;
	arena->used = 0;
	return true;
}

void *esk_arena_take(esk_arena *arena, uint64_t count, uint64_t element_bytes)
{
	uint64_t bytes;
	if (!esk_mul_u64(count, element_bytes, &bytes) || bytes > UINT64_MAX / 4)
		return NULL;
	bytes = esk_round_up(bytes + (bytes == 0), 16);
	if ((arena->blocks == NULL || arena->blocks->size - arena->used < bytes) && !add_block(arena, bytes))
		return NULL;
	void *taken = arena->blocks->data + arena->used;
	arena->used += bytes;
	return taken;
}

void esk_arena_reset(esk_arena *arena)
{
	size_t total = arena->total;
	arena->used = 0;
	if (arena->blocks == NULL || arena->blocks->next == NULL)
		return;
	esk_arena_free(arena); /* several: one that holds as much takes their place */
	add_block(arena, total);
}

void esk_arena_free(esk_arena *arena)
{
	for (esk_arena_block *next; arena->blocks != NULL; arena->blocks = next) {
		next = arena->blocks->next;
		free(arena->blocks);
	}
	*arena = (esk_arena){0};
}
