/* What the arrays of a batch rest on: one block of memory, counted, that goes when the last array goes.
 *
 * A batch takes one block: its array structs, their pointers, and the buffers that are not used in place.
 * A block may rest on others: the message, the dictionaries. Blocks go back to the pool of their decoder,
 * since memory fresh from the system costs a fault per page.
 *
 *   array ─┐
 *   child ─┼─▶ block ──▶ parents: source (mapping, caller's memory, a message), blocks of dictionaries
 *   dictionary ─┘
 *
 * May include: base. */
#ifndef ESK_ARROW_MEMORY_H
#define ESK_ARROW_MEMORY_H

#include "base/base.h"
#include <esker/arrow.h>

typedef struct esk_arrow_pool esk_arrow_pool;
typedef struct esk_arrow_block esk_arrow_block;

/* NULL: no memory. */
esk_arrow_pool *esk_arrow_pool_create(void);
/* Frees what it keeps; blocks in use stay, and are freed when they are released. NULL is allowed. */
void esk_arrow_pool_close(esk_arrow_pool *pool);

/* A block of `bytes` bytes with one reference, on up to `parents` others. */
esk_status esk_arrow_block_take(
	esk_arrow_pool *pool, uint64_t bytes, uint32_t parents, esk_arrow_block **ret_block, esk_error *err);
/* A block without memory of its own that stands for foreign memory: `release(arg)` at its end. */
esk_status esk_arrow_block_foreign(
	void (*release)(void *arg), void *arg, esk_arrow_block **ret_block, esk_error *err);
/* Takes the release from a foreign block: its memory stays with who had it. */
void esk_arrow_block_disarm(esk_arrow_block *block);
/* `bytes` bytes, aligned to `align` (a power of two up to 64); NULL where more is asked for than was taken,
 * which is a fault of the caller's arithmetic. */
void *esk_arrow_block_room(esk_arrow_block *block, uint64_t bytes, uint64_t align);
/* Holds `parent` until the block ends. */
void esk_arrow_block_rest_on(esk_arrow_block *block, esk_arrow_block *parent);
void esk_arrow_block_hold(esk_arrow_block *block);
/* NULL is allowed. */
void esk_arrow_block_drop(esk_arrow_block *block);

/* Makes `array` the owner of one more reference: its release drops it, after its children and dictionary. */
void esk_arrow_array_own(struct ArrowArray *array, esk_arrow_block *block);

/* Bytes of the room for the structs of `arrays` arrays with `buffers` buffers and `children` children. */
typedef struct esk_arrow_census {
	uint64_t arrays;
	uint64_t buffers;
	uint64_t children;
} esk_arrow_census;
void esk_arrow_count(const struct ArrowArray *array, esk_arrow_census *census);
uint64_t esk_arrow_census_bytes(const esk_arrow_census *census);
/* The pointers of an array, and the structs of its children and dictionary, all zero, within the block. */
bool esk_arrow_array_lay(esk_arrow_block *block, struct ArrowArray *array, uint32_t buffers,
	uint32_t children, bool dictionary);
/* The same array with structs of its own in `block`, on the same buffers: the block must rest on them. */
bool esk_arrow_array_clone(esk_arrow_block *block, const struct ArrowArray *from, struct ArrowArray *to);

#endif
