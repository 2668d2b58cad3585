/* Arrow schemas and arrays made by hand, as the C data interface lays them out. */
#ifndef ESK_TESTS_ARROW_SUPPORT_H
#define ESK_TESTS_ARROW_SUPPORT_H

#include "unit/recording_place.h"

#include <esker/arrow_store.h>

/* ---- schemas ---- */

static inline void arrow_release_schema(struct ArrowSchema *schema)
{
	for (int64_t i = 0; i < schema->n_children; i++) {
		if (schema->children[i]->release != NULL)
			schema->children[i]->release(schema->children[i]);
		free(schema->children[i]);
	}
	if (schema->dictionary != NULL) {
		if (schema->dictionary->release != NULL)
			schema->dictionary->release(schema->dictionary);
		free(schema->dictionary);
	}
	free(schema->children);
	free((void *)(uintptr_t)schema->format);
	free((void *)(uintptr_t)schema->name);
	free((void *)(uintptr_t)schema->metadata);
	schema->release = NULL;
}

/* A field; `flags` as the interface has them. */
static inline struct ArrowSchema *arrow_field(const char *name, const char *format, int64_t flags)
{
	struct ArrowSchema *schema = calloc(1, sizeof *schema);
	schema->name = strdup(name);
	schema->format = strdup(format);
	schema->flags = flags;
	schema->release = arrow_release_schema;
	return schema;
}

static inline struct ArrowSchema *arrow_with(struct ArrowSchema *parent, struct ArrowSchema *child)
{
	parent->children =
		realloc(parent->children, (size_t)(parent->n_children + 1) * sizeof *parent->children);
	parent->children[parent->n_children++] = child;
	return parent;
}

static inline struct ArrowSchema *arrow_with_dictionary(struct ArrowSchema *field, struct ArrowSchema *values)
{
	field->dictionary = values;
	return field;
}

/* Adds a pair to the metadata. */
static inline struct ArrowSchema *arrow_with_metadata(
	struct ArrowSchema *field, const char *key, const char *value)
{
	size_t size = 4;
	int32_t pairs = 0, sizes[2] = {(int32_t)strlen(key), (int32_t)strlen(value)};
	if (field->metadata != NULL) {
		memcpy(&pairs, field->metadata, 4);
		for (int i = 0; i < 2 * pairs; i++) {
			int32_t text;
			memcpy(&text, field->metadata + size, 4);
			size += 4 + (size_t)text;
		}
	}
	char *grown = calloc(1, size + 8 + strlen(key) + strlen(value));
	if (field->metadata != NULL)
		memcpy(grown, field->metadata, size);
	pairs++;
	memcpy(grown, &pairs, 4);
	memcpy(grown + size, &sizes[0], 4);
	memcpy(grown + size + 4, key, strlen(key));
	memcpy(grown + size + 4 + strlen(key), &sizes[1], 4);
	memcpy(grown + size + 8 + strlen(key), value, strlen(value));
	free((void *)(uintptr_t)field->metadata);
	field->metadata = grown;
	return field;
}

static inline struct ArrowSchema *arrow_schema(void)
{
	return arrow_field("", "+s", 0);
}

static inline void arrow_free_schema(struct ArrowSchema *schema)
{
	if (schema->release != NULL)
		schema->release(schema);
	free(schema);
}

/* ---- arrays: they own copies of the buffers ---- */

static inline void arrow_release_array(struct ArrowArray *array)
{
	for (int64_t i = 0; i < array->n_buffers; i++)
		free((void *)(uintptr_t)array->buffers[i]);
	for (int64_t i = 0; i < array->n_children; i++) {
		if (array->children[i]->release != NULL)
			array->children[i]->release(array->children[i]);
		free(array->children[i]);
	}
	if (array->dictionary != NULL) {
		if (array->dictionary->release != NULL)
			array->dictionary->release(array->dictionary);
		free(array->dictionary);
	}
	free(array->buffers);
	free(array->children);
	array->release = NULL;
}

static inline struct ArrowArray *arrow_array(int64_t length, int64_t buffers)
{
	struct ArrowArray *array = calloc(1, sizeof *array);
	array->length = length;
	array->null_count = 0;
	array->n_buffers = buffers;
	array->buffers = calloc((size_t)buffers + 1, sizeof *array->buffers);
	array->release = arrow_release_array;
	return array;
}

/* A copy that is exactly as large, so that a sanitizer sees what reads beyond it. */
static inline void arrow_set_buffer(struct ArrowArray *array, int i, const void *data, size_t bytes)
{
	free((void *)(uintptr_t)array->buffers[i]);
	void *copy = malloc(bytes);
	if (bytes > 0)
		memcpy(copy, data, bytes);
	array->buffers[i] = copy;
}

/* Validity from bytes, of which 0 is missing; NULL: all are there. `bits` of them, from the beginning of the
 * buffer. */
static inline struct ArrowArray *arrow_set_valid(struct ArrowArray *array, const uint8_t *valid, int64_t bits)
{
	uint8_t *bitmap = calloc(1, (size_t)bits / 8 + 1);
	array->null_count = valid != NULL ? -1 : 0;
	for (int64_t i = 0; i < bits && valid != NULL; i++)
		bitmap[i / 8] |= (uint8_t)((valid[i] != 0) << (i % 8));
	if (valid != NULL)
		arrow_set_buffer(array, 0, bitmap, ((size_t)bits + 7) / 8);
	free(bitmap);
	return array;
}

static inline struct ArrowArray *arrow_fixed(
	int64_t length, const uint8_t *valid, const void *values, size_t value_bytes)
{
	struct ArrowArray *array = arrow_array(length, 2);
	arrow_set_buffer(array, 1, values, (size_t)length * value_bytes);
	return arrow_set_valid(array, valid, length);
}

static inline struct ArrowArray *arrow_bits(int64_t length, const uint8_t *valid, const uint8_t *values)
{
	struct ArrowArray *array = arrow_array(length, 2);
	uint8_t *bitmap = calloc(1, (size_t)length / 8 + 1);
	for (int64_t i = 0; i < length; i++)
		bitmap[i / 8] |= (uint8_t)((values[i] != 0) << (i % 8));
	arrow_set_buffer(array, 1, bitmap, ((size_t)length + 7) / 8);
	free(bitmap);
	return arrow_set_valid(array, valid, length);
}

/* Texts with 32-bit offsets; NULL is an empty one. */
static inline struct ArrowArray *arrow_texts(int64_t length, const uint8_t *valid, const char *const *texts)
{
	struct ArrowArray *array = arrow_array(length, 3);
	int32_t *offsets = calloc((size_t)length + 1, sizeof *offsets);
	char *bytes = NULL;
	for (int64_t i = 0; i < length; i++) {
		size_t size = texts[i] != NULL ? strlen(texts[i]) : 0;
		bytes = realloc(bytes, (size_t)offsets[i] + size + 1);
		if (size > 0)
			memcpy(bytes + offsets[i], texts[i], size);
		offsets[i + 1] = offsets[i] + (int32_t)size;
	}
	arrow_set_buffer(array, 1, offsets, ((size_t)length + 1) * sizeof *offsets);
	arrow_set_buffer(array, 2, bytes, (size_t)offsets[length]);
	free(offsets);
	free(bytes);
	return arrow_set_valid(array, valid, length);
}

static inline struct ArrowArray *arrow_with_child(struct ArrowArray *parent, struct ArrowArray *child)
{
	parent->children =
		realloc(parent->children, (size_t)(parent->n_children + 1) * sizeof *parent->children);
	parent->children[parent->n_children++] = child;
	return parent;
}

/* Lists with 32-bit offsets, length + 1 of them. */
static inline struct ArrowArray *arrow_list(
	int64_t length, const uint8_t *valid, const int32_t *offsets, struct ArrowArray *values)
{
	struct ArrowArray *array = arrow_array(length, 2);
	arrow_set_buffer(array, 1, offsets, ((size_t)length + 1) * sizeof *offsets);
	return arrow_with_child(arrow_set_valid(array, valid, length), values);
}

/* A struct, or a fixed-size list: one buffer. */
static inline struct ArrowArray *arrow_struct(int64_t length, const uint8_t *valid)
{
	return arrow_set_valid(arrow_array(length, 1), valid, length);
}

static inline void arrow_free_array(struct ArrowArray *array)
{
	if (array->release != NULL)
		array->release(array);
	free(array);
}

#endif
