/* Arrays of the C data interface that own their buffers. */
#include "store/arrow_read.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64u

/* What release frees, beside children, which may have been moved out. */
typedef struct block {
	const void *buffers[3];
	struct ArrowArray **children;
	struct ArrowArray *dictionary;
} block;

static void release_child(struct ArrowArray *child)
{
	if (child != NULL)
		esk_owned_release(child);
	free(child);
}

static void release(struct ArrowArray *array)
{
	block *b = array->private_data;
	for (int i = 0; i < 3; i++)
		free((void *)(uintptr_t)b->buffers[i]);
	for (int64_t i = 0; i < array->n_children; i++)
		release_child(b->children[i]);
	release_child(b->dictionary);
	free(b->children);
	free(b);
	array->release = NULL;
}

void esk_owned_release(struct ArrowArray *array)
{
	if (array->release != NULL)
		array->release(array);
}

esk_status esk_owned_array(
	struct ArrowArray *ret_array, uint64_t length, uint32_t buffers, size_t children, esk_error *err)
{
	block *b = calloc(1, sizeof *b);
	struct ArrowArray **list = calloc(children + 1, sizeof *list);
	bool enough = b != NULL && list != NULL;
	for (size_t i = 0; i < children && enough; i++)
		enough = (list[i] = calloc(1, sizeof **list)) != NULL;
	if (!enough) {
		for (size_t i = 0; i < children && list != NULL; i++)
			free(list[i]);
		free(list);
		free(b);
		return esk_fail_memory(err, children * sizeof *list, "an Arrow array");
	}
	b->children = list;
	*ret_array = (struct ArrowArray){.length = (int64_t)length,
		.n_buffers = buffers,
		.n_children = (int64_t)children,
		.buffers = b->buffers,
		.children = children > 0 ? list : NULL,
		.release = release,
		.private_data = b};
	return ESK_OK;
}

void *esk_owned_buffer(struct ArrowArray *array, uint32_t i, uint64_t bytes)
{
	block *b = array->private_data;
	uint64_t room = esk_round_up(bytes + (bytes == 0), ALIGNMENT);
	if (room < bytes || room > SIZE_MAX / 2)
		return NULL;
	void *buffer = aligned_alloc(ALIGNMENT, room);
	if (buffer != NULL)
		memset((char *)buffer + bytes, 0, room - bytes);
	free((void *)(uintptr_t)b->buffers[i]);
	b->buffers[i] = buffer;
	return buffer;
}

struct ArrowArray *esk_owned_dictionary(struct ArrowArray *array)
{
	block *b = array->private_data;
	b->dictionary = calloc(1, sizeof *b->dictionary);
	array->dictionary = b->dictionary;
	return b->dictionary;
}

esk_status esk_owned_validity(struct ArrowArray *array, const uint8_t *valid, esk_error *err)
{
	uint64_t count = (uint64_t)array->length, missing = 0;
	for (uint64_t i = 0; valid != NULL && i < count; i++)
		missing += valid[i] == 0;
	array->null_count = (int64_t)missing;
	if (missing == 0)
		return ESK_OK;
	uint8_t *bitmap = esk_owned_buffer(array, 0, count / 8 + 1);
	if (bitmap == NULL)
		return esk_fail_memory(err, count / 8 + 1, "validity");
	memset(bitmap, 0, count / 8 + 1);
	esk_bytes_to_bits(valid, count, bitmap);
	return ESK_OK;
}

/* ---- shared ones ---- */

struct esk_shared_array {
	struct ArrowArray array;
	atomic_uint_fast64_t
		references; /* acquire-release when dropped: who frees sees what all others did */
};

static void release_shared(struct ArrowArray *array)
{
	esk_shared_drop(array->private_data);
	array->release = NULL;
}

esk_status esk_shared_make(struct ArrowArray *array, esk_shared_array **ret_shared, esk_error *err)
{
	esk_shared_array *shared = calloc(1, sizeof *shared);
	if (shared == NULL)
		return esk_fail_memory(err, sizeof *shared, "a dictionary");
	shared->array = *array;
	array->release = NULL;
	atomic_init(&shared->references, 1);
	*ret_shared = shared;
	return ESK_OK;
}

void esk_shared_take(esk_shared_array *shared, struct ArrowArray *ret_array)
{
	atomic_fetch_add_explicit(&shared->references, 1, memory_order_relaxed);
	*ret_array = shared->array;
	ret_array->private_data = shared;
	ret_array->release = release_shared;
}

void esk_shared_drop(esk_shared_array *shared)
{
	if (shared == NULL || atomic_fetch_sub_explicit(&shared->references, 1, memory_order_acq_rel) > 1)
		return;
	esk_owned_release(&shared->array);
	free(shared);
}
