/* Hand-made Arrow messages for tests: what no writer would write included. */
#ifndef ESK_TESTS_ARROW_MADE_H
#define ESK_TESTS_ARROW_MADE_H

#include "arrow/build.h"
#include "support/arrow_walk.h"
#include "support/unit.h"

/* A field: the number of its type in Schema.fbs, and the scalars of its type's table. */
typedef struct made_scalar {
	unsigned slot;
	int64_t value;
	size_t bytes; /* 0: none */
} made_scalar;
typedef struct made_field {
	const char *name;
	uint8_t type;
	made_scalar scalar[3];
	const struct made_field *children[3];
	int64_t dictionary; /* its id plus one; 0: not encoded */
} made_field;

typedef struct made_message {
	uint8_t *data; /* aligned to 64 bytes; free */
	size_t size;
} made_message;

enum { MADE_INT = 2, MADE_FLOAT = 3, MADE_BINARY = 4, MADE_UTF8 = 5, MADE_LIST = 12, MADE_STRUCT = 13 };
#define MADE_I32 .type = MADE_INT, .scalar = {{0, 32, 4}, {1, 1, 1}}

static inline void made_add(esk_builder *b, esk_builder_table *table, const made_scalar *scalar)
{
	if (scalar->bytes > 0)
		esk_builder_add(b, table, scalar->slot, &scalar->value, scalar->bytes);
}

static inline esk_builder_ref made_type(esk_builder *b, const made_field *field)
{
	esk_builder_table table;
	esk_builder_begin(b, &table);
	for (size_t i = 0; i < 3; i++)
		made_add(b, &table, &field->scalar[i]);
	return esk_builder_end(b, &table);
}

static inline esk_builder_ref made_encoding(esk_builder *b, int64_t id)
{
	esk_builder_table table;
	esk_builder_begin(b, &table);
	esk_builder_add(b, &table, 0, &id, 8);
	return esk_builder_end(b, &table);
}

static inline esk_builder_ref made_field_table(esk_builder *b, const made_field *field)
{
	esk_builder_ref children[3], list, type, name, encoding = 0;
	esk_builder_table table;
	size_t count = 0;
	const uint8_t nullable = 1;
	while (count < 3 && field->children[count] != NULL) {
		children[count] = made_field_table(b, field->children[count]);
		count++;
	}
	list = esk_builder_refs(b, children, count);
	type = made_type(b, field);
	name = esk_builder_string(b, field->name, strlen(field->name));
	if (field->dictionary != 0)
		encoding = made_encoding(b, field->dictionary - 1);
	esk_builder_begin(b, &table);
	esk_builder_add_ref(b, &table, 0, name);
	esk_builder_add(b, &table, 1, &nullable, 1);
	esk_builder_add(b, &table, 2, &field->type, 1);
	esk_builder_add_ref(b, &table, 3, type);
	esk_builder_add_ref(b, &table, 4, encoding);
	esk_builder_add_ref(b, &table, 5, list);
	return esk_builder_end(b, &table);
}

/* Frames what was built and puts the body behind it; frees the builder. */
static inline made_message made_finish(esk_builder *b, int16_t version, uint8_t kind, esk_builder_ref header,
	const void *body, int64_t body_bytes)
{
	esk_builder_table table;
	made_message message;
	esk_builder_begin(b, &table);
	esk_builder_add(b, &table, 0, &version, 2);
	esk_builder_add(b, &table, 1, &kind, 1);
	esk_builder_add_ref(b, &table, 2, header);
	esk_builder_add(b, &table, 3, &body_bytes, 8);
	esk_builder_finish(b, esk_builder_end(b, &table));
	assert_false(b->failed);
	message.size = 8 + b->size + (body == NULL ? 0 : (size_t)body_bytes);
	message.data = aligned_alloc(64, (message.size + 63) / 64 * 64);
	assert_non_null(message.data);
	int32_t length = (int32_t)b->size;
	memset(message.data, 0xFF, 4);
	memcpy(message.data + 4, &length, 4);
	memcpy(message.data + 8, esk_builder_bytes(b), b->size);
	if (body != NULL && body_bytes > 0)
		memcpy(message.data + 8 + b->size, body, (size_t)body_bytes);
	esk_builder_free(b);
	return message;
}

static inline made_message made_schema(
	const made_field *const *fields, size_t count, int16_t version, int16_t endianness)
{
	esk_builder b = {0};
	esk_builder_ref refs[8];
	esk_builder_table table;
	for (size_t i = 0; i < count; i++)
		refs[i] = made_field_table(&b, fields[i]);
	esk_builder_ref list = esk_builder_refs(&b, refs, count);
	esk_builder_begin(&b, &table);
	esk_builder_add(&b, &table, 0, &endianness, 2);
	esk_builder_add_ref(&b, &table, 1, list);
	return made_finish(&b, version, 1, esk_builder_end(&b, &table), NULL, 0);
}

/* A record batch's numbers; `codec` -1: not compressed. */
typedef struct made_batch {
	int64_t rows;
	int64_t nodes[8][2];
	size_t node_count;
	int64_t buffers[16][2];
	size_t buffer_count;
	int8_t codec;
	bool compressed;
} made_batch;

static inline esk_builder_ref made_batch_table(esk_builder *b, const made_batch *batch)
{
	esk_builder_table table;
	esk_builder_ref compression = 0;
	if (batch->compressed) {
		esk_builder_begin(b, &table);
		esk_builder_add(b, &table, 0, &batch->codec, 1);
		compression = esk_builder_end(b, &table);
	}
	esk_builder_ref buffers = esk_builder_structs(b, batch->buffers, 16, batch->buffer_count);
	esk_builder_ref nodes = esk_builder_structs(b, batch->nodes, 16, batch->node_count);
	esk_builder_begin(b, &table);
	esk_builder_add(b, &table, 0, &batch->rows, 8);
	esk_builder_add_ref(b, &table, 1, nodes);
	esk_builder_add_ref(b, &table, 2, buffers);
	esk_builder_add_ref(b, &table, 3, compression);
	return esk_builder_end(b, &table);
}

static inline made_message made_record_batch(const made_batch *batch, const void *body, int64_t body_bytes)
{
	esk_builder b = {0};
	return made_finish(&b, 4, 3, made_batch_table(&b, batch), body, body_bytes);
}

static inline made_message made_dictionary(
	int64_t id, bool delta, const made_batch *batch, const void *body, int64_t body_bytes)
{
	esk_builder b = {0};
	esk_builder_table table;
	uint8_t is_delta = delta;
	esk_builder_ref values = made_batch_table(&b, batch);
	esk_builder_begin(&b, &table);
	esk_builder_add(&b, &table, 0, &id, 8);
	esk_builder_add_ref(&b, &table, 1, values);
	esk_builder_add(&b, &table, 2, &is_delta, 1);
	return made_finish(&b, 4, 2, esk_builder_end(&b, &table), body, body_bytes);
}

/* Feeds a message; a batch is touched and kept by the caller where `ret_array` is not NULL. */
static inline esk_status made_feed(
	esk_arrow_decoder *decoder, made_message message, struct ArrowArray *ret_array, esk_error *err)
{
	size_t used = 0;
	struct ArrowArray array = {0};
	memset(err, 0, sizeof(*err));
	esk_status status = esk_arrow_decoder_feed(decoder, message.data, message.size, &used, &array, err);
	if (status == ESK_OK && array.release != NULL) {
		arrow_touch_all(esk_arrow_decoder_schema(decoder), &array);
		if (ret_array != NULL)
			*ret_array = array;
		else
			array.release(&array);
	}
	if (ret_array == NULL || status != ESK_OK || array.release == NULL)
		free(message.data);
	return status;
}

#endif
