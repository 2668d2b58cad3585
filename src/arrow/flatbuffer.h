/* Reading flatbuffers from anyone: every access is checked against the buffer.
 *
 * A read outside the buffer, or of a table that is not sound, gives the default and leaves a fault behind:
 * read what is needed, then ask once whether there was one. Counts of vectors are bounded by the bytes that
 * are there, so loops over them end. What is not bounded is how often the same bytes are referred to: who
 * walks a tree bounds its size. May include: base. */
#ifndef ESK_ARROW_FLATBUFFER_H
#define ESK_ARROW_FLATBUFFER_H

#include "base/base.h"

typedef struct esk_flatbuffer {
	const uint8_t *data; /* need not be aligned */
	uint64_t size;
	const char *fault; /* the first; NULL: none so far */
	uint64_t fault_at;
} esk_flatbuffer;

/* A table within a buffer; size 0: not there. */
typedef struct esk_flatbuffer_table {
	uint64_t at;
	uint64_t vtable;
	uint32_t vtable_bytes;
	uint32_t bytes;
} esk_flatbuffer_table;

/* The elements of a vector or the bytes of a text, within the buffer. */
typedef struct esk_flatbuffer_vector {
	uint64_t at;
	uint32_t count;
	bool present;
} esk_flatbuffer_vector;

static inline bool esk_flatbuffer_there(const esk_flatbuffer_table *table)
{
	return table->bytes != 0;
}

esk_flatbuffer_table esk_flatbuffer_root(esk_flatbuffer *buffer);

/* Field number `field` of a table: the default where it is absent. */
int64_t esk_flatbuffer_i64(
	esk_flatbuffer *buffer, const esk_flatbuffer_table *table, unsigned field, int64_t absent);
int32_t esk_flatbuffer_i32(
	esk_flatbuffer *buffer, const esk_flatbuffer_table *table, unsigned field, int32_t absent);
int16_t esk_flatbuffer_i16(
	esk_flatbuffer *buffer, const esk_flatbuffer_table *table, unsigned field, int16_t absent);
uint8_t esk_flatbuffer_u8(
	esk_flatbuffer *buffer, const esk_flatbuffer_table *table, unsigned field, uint8_t absent);
esk_flatbuffer_table esk_flatbuffer_child(
	esk_flatbuffer *buffer, const esk_flatbuffer_table *table, unsigned field);

/* A vector whose elements have `element_bytes` each; absent: not present, count 0. A text is a vector of
 * bytes. */
esk_flatbuffer_vector esk_flatbuffer_vector_of(
	esk_flatbuffer *buffer, const esk_flatbuffer_table *table, unsigned field, uint32_t element_bytes);

/* Element `index` (below the count) of a vector of tables, which has elements of 4 bytes. */
esk_flatbuffer_table esk_flatbuffer_element(
	esk_flatbuffer *buffer, const esk_flatbuffer_vector *vector, uint32_t index);

/* Little-endian integers at any address. */
static inline int64_t esk_load_i64(const void *from)
{
	int64_t value;
	__builtin_memcpy(&value, from, sizeof value);
	return value;
}
static inline int32_t esk_load_i32(const void *from)
{
	int32_t value;
	__builtin_memcpy(&value, from, sizeof value);
	return value;
}
static inline uint32_t esk_load_u32(const void *from)
{
	return (uint32_t)esk_load_i32(from);
}

#endif
