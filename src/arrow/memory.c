/* Counted blocks: see memory.h.
 *
 * Invariants
 * B1  A block's references are one of its maker, until dropped, and one per array that was made its owner.
 * B2  Whoever drops the last reference frees; until then nothing in the block changes but array structs, each
 *     by who holds it. The decrement releases, the last one acquires: all that was done with the block
 *     happens before it is freed or used again.
 * B3  A pool lives while its decoder or a block of it lives; its list is under its lock. */
#include "arrow/memory.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define POOL_BLOCKS 4
#define POOL_BYTES ((uint64_t)64 << 20)
#define ALIGN 64

struct esk_arrow_pool {
	pthread_mutex_t lock;
	uint64_t users; /* the decoder, and every block that came from here */
	bool closed;
	uint32_t count;
	uint64_t spare_bytes;
	esk_arrow_block *spare[POOL_BLOCKS];
};

struct esk_arrow_block {
	_Atomic uint64_t refs;
	esk_arrow_pool *pool;
	void (*release)(void *arg);
	void *arg;
	uint64_t capacity; /* bytes at `data` */
	uint64_t used;
	uint32_t parent_count;
	uint32_t parent_room;
	esk_arrow_block **parents; /* at the start of `data` */
	_Alignas(ALIGN) uint8_t data[];
};

esk_arrow_pool *esk_arrow_pool_create(void)
{
	esk_arrow_pool *pool = calloc(1, sizeof(*pool));
	if (pool == NULL)
		return NULL;
	pool->users = 1;
	pthread_mutex_init(&pool->lock, NULL);
	return pool;
}

/* One user less; to be called under the lock, which it gives up. */
static void pool_leave(esk_arrow_pool *pool)
{
	bool last = --pool->users == 0;
	pthread_mutex_unlock(&pool->lock);
	if (last) {
		pthread_mutex_destroy(&pool->lock);
		free(pool);
	}
}

void esk_arrow_pool_close(esk_arrow_pool *pool)
{
	if (pool == NULL)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->closed = true;
	for (uint32_t i = 0; i < pool->count; i++)
		free(pool->spare[i]);
	pool->count = 0;
	pool_leave(pool);
}

/* A spare block that fits without wasting more than it holds; NULL: none. */
static esk_arrow_block *pool_find(esk_arrow_pool *pool, uint64_t bytes)
{
	for (uint32_t i = 0; i < pool->count; i++) {
		esk_arrow_block *block = pool->spare[i];
		if (block->capacity < bytes || block->capacity / 4 > bytes + 4096)
			continue;
		pool->spare[i] = pool->spare[--pool->count];
		pool->spare_bytes -= block->capacity;
		return block;
	}
	return NULL;
}

static esk_arrow_block *pool_take(esk_arrow_pool *pool, uint64_t bytes)
{
	pthread_mutex_lock(&pool->lock);
	esk_arrow_block *block = pool_find(pool, bytes);
	pool->users++;
	pthread_mutex_unlock(&pool->lock);
	if (block != NULL)
		return block;
	/* A little more than asked for: the next batch may be a little larger. */
	uint64_t capacity = esk_round_up(bytes + bytes / 16 + ALIGN, ALIGN);
	block = aligned_alloc(ALIGN, sizeof(*block) + capacity);
	if (block == NULL) {
		pthread_mutex_lock(&pool->lock);
		pool_leave(pool);
		return NULL;
	}
	block->capacity = capacity;
	return block;
}

static void pool_give(esk_arrow_pool *pool, esk_arrow_block *block)
{
	pthread_mutex_lock(&pool->lock);
	if (!pool->closed && pool->count < POOL_BLOCKS && block->capacity <= POOL_BYTES - pool->spare_bytes) {
		pool->spare_bytes += block->capacity;
		pool->spare[pool->count++] = block;
		block = NULL;
	}
	free(block);
	pool_leave(pool);
}

esk_status esk_arrow_block_take(
	esk_arrow_pool *pool, uint64_t bytes, uint32_t parents, esk_arrow_block **ret_block, esk_error *err)
{
	uint64_t want;
	if (!esk_add_u64(bytes, esk_round_up(parents * sizeof(void *), ALIGN), &want) || want > SIZE_MAX / 4)
		return esk_fail_memory(err, SIZE_MAX, "the buffers of an Arrow message");
	esk_arrow_block *block = pool_take(pool, want);
	if (block == NULL)
		return esk_fail_memory(err, want, "the buffers of an Arrow message");
	atomic_init(&block->refs, 1);
	block->pool = pool;
	block->release = NULL;
	block->arg = NULL;
	block->parent_count = 0;
	block->parent_room = parents;
	block->parents = (esk_arrow_block **)(void *)block->data;
	block->used = parents * sizeof(void *);
	*ret_block = block;
	return ESK_OK;
}

esk_status esk_arrow_block_foreign(
	void (*release)(void *arg), void *arg, esk_arrow_block **ret_block, esk_error *err)
{
	esk_arrow_block *block = aligned_alloc(ALIGN, esk_round_up(sizeof(*block), ALIGN));
	if (block == NULL)
		return esk_fail_memory(err, sizeof(*block), "the source of an Arrow stream");
	memset(block, 0, sizeof(*block));
	atomic_init(&block->refs, 1);
	block->release = release;
	block->arg = arg;
	*ret_block = block;
	return ESK_OK;
}

void esk_arrow_block_disarm(esk_arrow_block *block)
{
	block->release = NULL;
}

void *esk_arrow_block_room(esk_arrow_block *block, uint64_t bytes, uint64_t align)
{
	uint64_t at = esk_round_up(block->used, align);
	if (at > block->capacity || bytes > block->capacity - at)
		return NULL;
	block->used = at + bytes;
	return block->data + at;
}

void esk_arrow_block_hold(esk_arrow_block *block)
{
	/* Relaxed: who holds may count one more; nothing is published by it. */
	atomic_fetch_add_explicit(&block->refs, 1, memory_order_relaxed);
}

void esk_arrow_block_rest_on(esk_arrow_block *block, esk_arrow_block *parent)
{
	if (block->parent_count >= block->parent_room)
		abort(); /* a reference that is not counted would be used after its end */
	esk_arrow_block_hold(parent);
	block->parents[block->parent_count++] = parent;
}

void esk_arrow_block_drop(esk_arrow_block *block)
{
	/* B2: pairs with the decrements of the others. */
	if (block == NULL || atomic_fetch_sub_explicit(&block->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (uint32_t i = 0; i < block->parent_count; i++)
		esk_arrow_block_drop(block->parents[i]);
	if (block->release != NULL)
		block->release(block->arg);
	if (block->pool != NULL)
		pool_give(block->pool, block);
	else
		free(block);
}

static void array_release(struct ArrowArray *array)
{
	esk_arrow_block *block = array->private_data;
	for (int64_t i = 0; i < array->n_children; i++) {
		if (array->children[i]->release != NULL)
			array->children[i]->release(array->children[i]);
	}
	if (array->dictionary != NULL && array->dictionary->release != NULL)
		array->dictionary->release(array->dictionary);
	array->release = NULL;
	esk_arrow_block_drop(block);
}

void esk_arrow_array_own(struct ArrowArray *array, esk_arrow_block *block)
{
	esk_arrow_block_hold(block);
	array->private_data = block;
	array->release = array_release;
}

void esk_arrow_count(const struct ArrowArray *array, esk_arrow_census *census)
{
	census->arrays++;
	census->buffers += (uint64_t)array->n_buffers;
	census->children += (uint64_t)array->n_children;
	for (int64_t i = 0; i < array->n_children; i++)
		esk_arrow_count(array->children[i], census);
	if (array->dictionary != NULL)
		esk_arrow_count(array->dictionary, census);
}

uint64_t esk_arrow_census_bytes(const esk_arrow_census *census)
{
	return census->arrays * sizeof(struct ArrowArray) +
	       (census->buffers + census->children) * sizeof(void *);
}

bool esk_arrow_array_lay(esk_arrow_block *block, struct ArrowArray *array, uint32_t buffers,
	uint32_t children, bool dictionary)
{
	uint64_t structs = (uint64_t)children + dictionary;
	uint64_t pointers = (uint64_t)buffers + children;
	void **at = esk_arrow_block_room(block, pointers * sizeof(void *), sizeof(void *));
	struct ArrowArray *inner =
		esk_arrow_block_room(block, structs * sizeof(*inner), _Alignof(struct ArrowArray));
	if (at == NULL || inner == NULL)
		return false;
	memset(inner, 0, structs * sizeof(*inner));
	memset(array, 0, sizeof(*array));
	array->n_buffers = buffers;
	array->n_children = children;
	array->buffers = (const void **)at;
	array->children = children == 0 ? NULL : (struct ArrowArray **)(at + buffers);
	for (uint32_t i = 0; i < buffers; i++)
		array->buffers[i] = NULL;
	for (uint32_t i = 0; i < children; i++)
		array->children[i] = &inner[i];
	array->dictionary = dictionary ? &inner[children] : NULL;
	return true;
}

bool esk_arrow_array_clone(esk_arrow_block *block, const struct ArrowArray *from, struct ArrowArray *to)
{
	if (!esk_arrow_array_lay(block, to, (uint32_t)from->n_buffers, (uint32_t)from->n_children,
		    from->dictionary != NULL))
		return false;
	to->length = from->length;
	to->null_count = from->null_count;
	to->offset = from->offset;
	for (int64_t i = 0; i < from->n_buffers; i++)
		to->buffers[i] = from->buffers[i];
	esk_arrow_array_own(to, block);
	for (int64_t i = 0; i < from->n_children; i++) {
		if (!esk_arrow_array_clone(block, from->children[i], to->children[i]))
			return false;
	}
	return from->dictionary == NULL || esk_arrow_array_clone(block, from->dictionary, to->dictionary);
}
