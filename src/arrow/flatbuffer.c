/* Flatbuffers, bounds-checked: see flatbuffer.h.
 *
 * A buffer begins with the 32-bit position of its root table. A table begins with the signed distance back to
 * its vtable: 16-bit sizes of vtable and table, then per field its 16-bit place within the table, 0 where it
 * is absent. References are 32-bit distances forward from where they stand. */
#include "arrow/flatbuffer.h"

#define VTABLE_HEADER 4

static const uint8_t *view(esk_flatbuffer *buffer, uint64_t at, uint64_t bytes, const char *what)
{
	if (at <= buffer->size && bytes <= buffer->size - at)
		return buffer->data + at;
	if (buffer->fault == NULL) {
		buffer->fault = what;
		buffer->fault_at = at;
	}
	return NULL;
}

static void fault(esk_flatbuffer *buffer, uint64_t at, const char *what)
{
	if (buffer->fault == NULL) {
		buffer->fault = what;
		buffer->fault_at = at;
	}
}

static uint32_t load_u16(const uint8_t *from)
{
	return (uint32_t)from[0] | (uint32_t)from[1] << 8;
}

static esk_flatbuffer_table table_at(esk_flatbuffer *buffer, uint64_t at)
{
	const esk_flatbuffer_table none = {0};
	const uint8_t *start = view(buffer, at, 4, "a table lies outside the metadata");
	if (start == NULL)
		return none;
	int64_t vtable = (int64_t)at - esk_load_i32(start);
	if (vtable < 0) {
		fault(buffer, at, "a vtable lies before the metadata");
		return none;
	}
	const uint8_t *sizes =
		view(buffer, (uint64_t)vtable, VTABLE_HEADER, "a vtable lies outside the metadata");
	if (sizes == NULL)
		return none;
	esk_flatbuffer_table table = {.at = at,
		.vtable = (uint64_t)vtable,
		.vtable_bytes = load_u16(sizes),
		.bytes = load_u16(sizes + 2)};
	if (table.vtable_bytes < VTABLE_HEADER || table.vtable_bytes % 2 != 0 || table.bytes < 4) {
		fault(buffer, table.vtable, "the sizes in a vtable are not sound");
		return none;
	}
	if (view(buffer, table.vtable, table.vtable_bytes, "a vtable ends outside the metadata") == NULL ||
		view(buffer, at, table.bytes, "a table ends outside the metadata") == NULL)
		return none;
	return table;
}

esk_flatbuffer_table esk_flatbuffer_root(esk_flatbuffer *buffer)
{
	const uint8_t *start = view(buffer, 0, 4, "the metadata is shorter than its first field");
	return start == NULL ? (esk_flatbuffer_table){0} : table_at(buffer, esk_load_u32(start));
}

/* Where a field of `bytes` bytes lies; 0 where it is absent or outside its table. */
static uint64_t field_at(
	esk_flatbuffer *buffer, const esk_flatbuffer_table *table, unsigned field, uint32_t bytes)
{
	uint32_t entry = VTABLE_HEADER + 2 * field;
	if (!esk_flatbuffer_there(table) || entry + 2 > table->vtable_bytes)
		return 0;
	uint32_t place = load_u16(buffer->data + table->vtable + entry);
	if (place == 0)
		return 0;
	if (place < 4 || place + bytes > table->bytes) {
		fault(buffer, table->at, "a field lies outside its table");
		return 0;
	}
	return table->at + place;
}

int64_t esk_flatbuffer_i64(
	esk_flatbuffer *buffer, const esk_flatbuffer_table *table, unsigned field, int64_t absent)
{
	uint64_t at = field_at(buffer, table, field, 8);
	return at == 0 ? absent : esk_load_i64(buffer->data + at);
}

int32_t esk_flatbuffer_i32(
	esk_flatbuffer *buffer, const esk_flatbuffer_table *table, unsigned field, int32_t absent)
{
	uint64_t at = field_at(buffer, table, field, 4);
	return at == 0 ? absent : esk_load_i32(buffer->data + at);
}

int16_t esk_flatbuffer_i16(
	esk_flatbuffer *buffer, const esk_flatbuffer_table *table, unsigned field, int16_t absent)
{
	uint64_t at = field_at(buffer, table, field, 2);
	return at == 0 ? absent : (int16_t)load_u16(buffer->data + at);
}

uint8_t esk_flatbuffer_u8(
	esk_flatbuffer *buffer, const esk_flatbuffer_table *table, unsigned field, uint8_t absent)
{
	uint64_t at = field_at(buffer, table, field, 1);
	return at == 0 ? absent : buffer->data[at];
}

/* Where the reference in a field leads; 0 where it is absent. */
static uint64_t follow(esk_flatbuffer *buffer, const esk_flatbuffer_table *table, unsigned field)
{
	uint64_t at = field_at(buffer, table, field, 4);
	return at == 0 ? 0 : at + esk_load_u32(buffer->data + at);
}

esk_flatbuffer_table esk_flatbuffer_child(
	esk_flatbuffer *buffer, const esk_flatbuffer_table *table, unsigned field)
{
	uint64_t at = follow(buffer, table, field);
	return at == 0 ? (esk_flatbuffer_table){0} : table_at(buffer, at);
}

esk_flatbuffer_vector esk_flatbuffer_vector_of(
	esk_flatbuffer *buffer, const esk_flatbuffer_table *table, unsigned field, uint32_t element_bytes)
{
	const esk_flatbuffer_vector none = {0};
	uint64_t at = follow(buffer, table, field);
	if (at == 0)
		return none;
	const uint8_t *start = view(buffer, at, 4, "a vector lies outside the metadata");
	if (start == NULL)
		return none;
	esk_flatbuffer_vector vector = {.at = at + 4, .count = esk_load_u32(start), .present = true};
	if (view(buffer, vector.at, (uint64_t)vector.count * element_bytes,
		    "a vector ends outside the metadata") == NULL)
		return none;
	return vector;
}

esk_flatbuffer_table esk_flatbuffer_element(
	esk_flatbuffer *buffer, const esk_flatbuffer_vector *vector, uint32_t index)
{
	uint64_t at = vector->at + 4 * (uint64_t)index;
	return table_at(buffer, at + esk_load_u32(buffer->data + at));
}
