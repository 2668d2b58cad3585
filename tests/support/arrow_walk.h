/* Arrow messages in tests: reading files, taking every message of a stream, touching all that an array lets
 * one touch, so that sanitizers see a step outside. */
#ifndef ESK_TESTS_ARROW_WALK_H
#define ESK_TESTS_ARROW_WALK_H

#include "arrow/type.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline uint64_t arrow_touch(const uint8_t *bytes, uint64_t count)
{
	uint64_t sum = 0;
	for (uint64_t i = 0; i < count; i++)
		sum = sum * 31 + bytes[i];
	return sum;
}

static inline int64_t arrow_offset(const struct ArrowArray *array, unsigned width, int64_t row)
{
	const uint8_t *at = (const uint8_t *)array->buffers[1] + (array->offset + row) * width;
	int64_t wide;
	int32_t narrow;
	memcpy(&wide, at, width == 8 ? 8 : 0);
	memcpy(&narrow, at, width == 4 ? 4 : 0);
	return width == 8 ? wide : narrow;
}

/* The values of one array, as its layout says; lengths that nothing backs (null, empty structs) are not
 * walked. */
static inline uint64_t arrow_touch_values(const esk_arrow_type *type, const struct ArrowArray *array)
{
	uint64_t rows = (uint64_t)(array->offset + array->length), sum = 0;
	unsigned width =
		type->layout == ESK_ARROW_LARGE_BINARY || type->layout == ESK_ARROW_LARGE_LIST ? 8 : 4;
	if (type->validity && array->buffers[0] != NULL)
		sum += arrow_touch(array->buffers[0], (rows + 7) / 8);
	switch (type->layout) {
	case ESK_ARROW_BOOL:
		return sum + arrow_touch(array->buffers[1], (rows + 7) / 8);
	case ESK_ARROW_FIXED:
		return sum + arrow_touch(array->buffers[1], rows * type->width_bytes);
	case ESK_ARROW_BINARY:
	case ESK_ARROW_LARGE_BINARY:
		for (int64_t row = 0; row < array->length; row++) {
			int64_t from = arrow_offset(array, width, row),
				to = arrow_offset(array, width, row + 1);
			sum += arrow_touch((const uint8_t *)array->buffers[2] + from, (uint64_t)(to - from));
		}
		return sum;
	case ESK_ARROW_LIST:
	case ESK_ARROW_LARGE_LIST:
	case ESK_ARROW_MAP:
		return array->length == 0
			       ? sum
			       : sum + arrow_touch(array->buffers[1], (rows + 1) * (uint64_t)width);
	case ESK_ARROW_SPARSE_UNION:
	case ESK_ARROW_DENSE_UNION:
		sum += arrow_touch(array->buffers[0], rows);
		return type->buffers == 1 ? sum : sum + arrow_touch(array->buffers[1], rows * 4);
	default:
		return sum;
	}
}

/* Everything below `array`; aborts where the schema has no such array. */
static inline uint64_t arrow_touch_all(const struct ArrowSchema *schema, const struct ArrowArray *array)
{
	esk_arrow_type type;
	if (esk_arrow_type_parse(schema->format, &type, NULL) != ESK_OK || array->release == NULL ||
		schema->n_children != array->n_children || (int64_t)type.buffers != array->n_buffers ||
		(schema->dictionary == NULL) != (array->dictionary == NULL))
		abort();
	uint64_t sum = arrow_touch_values(&type, array);
	for (int64_t i = 0; i < array->n_children; i++)
		sum += arrow_touch_all(schema->children[i], array->children[i]);
	if (array->dictionary != NULL)
		sum += arrow_touch_all(schema->dictionary, array->dictionary);
	return sum;
}

/* Reads all batches of `size` bytes, a copy of exactly that size, and touches them. What is taken must be
 * found sound by esk_arrow_validate; what is refused must say why. */
static inline esk_status arrow_read_all(const uint8_t *data, size_t size, esk_error *err)
{
	struct ArrowArrayStream stream;
	struct ArrowSchema schema;
	struct ArrowArray array;
	uint8_t *exact = malloc(size + (size == 0));
	if (exact == NULL)
		abort();
	memcpy(exact, data, size);
	memset(err, 0, sizeof(*err));
	esk_status status = esk_arrow_open_memory(exact, size, free, exact, &stream, err);
	if (status != ESK_OK) {
		if (err->code != status || err->message[0] == '\0' || status == ESK_EINTERNAL)
			abort();
		free(exact);
		return status;
	}
	if (stream.get_schema(&stream, &schema) != 0)
		abort();
	for (;;) {
		if (stream.get_next(&stream, &array) != 0) {
			if (stream.get_last_error(&stream) == NULL)
				abort();
			status = ESK_ECORRUPT;
			snprintf(err->message, sizeof err->message, "%s", stream.get_last_error(&stream));
			break;
		}
		if (array.release == NULL)
			break;
		esk_error found = {0};
		if (esk_arrow_validate(&schema, &array, &found) != ESK_OK) {
			fprintf(stderr, "taken, and then found wrong: %s\n", found.message);
			abort();
		}
		volatile uint64_t sum = arrow_touch_all(&schema, &array);
		(void)sum;
		array.release(&array);
	}
	schema.release(&schema);
	stream.release(&stream);
	return status;
}

#endif
