/* The Schema message and the footer of a file. */
#include "arrow/build.h"

#include <stdlib.h>
#include <string.h>

/* Members of the union Type in Schema.fbs. */
enum {
	TYPE_NULL = 1,
	TYPE_INT = 2,
	TYPE_FLOAT = 3,
	TYPE_BINARY = 4,
	TYPE_UTF8 = 5,
	TYPE_BOOL = 6,
	TYPE_DECIMAL = 7,
	TYPE_DATE = 8,
	TYPE_TIME = 9,
	TYPE_TIMESTAMP = 10,
	TYPE_INTERVAL = 11,
	TYPE_LIST = 12,
	TYPE_STRUCT = 13,
	TYPE_UNION = 14,
	TYPE_FIXED_BINARY = 15,
	TYPE_FIXED_LIST = 16,
	TYPE_MAP = 17,
	TYPE_DURATION = 18,
	TYPE_LARGE_BINARY = 19,
	TYPE_LARGE_UTF8 = 20,
	TYPE_LARGE_LIST = 21,
};

typedef struct maker {
	esk_builder flat;
	int64_t next_dictionary; /* ids are given in the order in which fields are met, a field before its
				    children */
	esk_status status;
	esk_error *err;
} maker;

/* ---- types ---- */

static void add_i32(maker *m, esk_builder_table *table, unsigned slot, int32_t value)
{
	esk_builder_add(&m->flat, table, slot, &value, sizeof value);
}

static void add_i16(maker *m, esk_builder_table *table, unsigned slot, int16_t value)
{
	esk_builder_add(&m->flat, table, slot, &value, sizeof value);
}

static void add_bool(maker *m, esk_builder_table *table, unsigned slot, bool value)
{
	uint8_t byte = value;
	esk_builder_add(&m->flat, table, slot, &byte, sizeof byte);
}

static int16_t time_unit(char unit)
{
	return unit == 's' ? 0 : unit == 'm' ? 1 : unit == 'u' ? 2 : 3;
}

static uint8_t fixed_type_id(const esk_arrow_type *type)
{
	static const uint8_t ids[] = {
		[ESK_ARROW_SIGNED] = TYPE_INT,
		[ESK_ARROW_UNSIGNED] = TYPE_INT,
		[ESK_ARROW_FLOAT] = TYPE_FLOAT,
		[ESK_ARROW_DECIMAL] = TYPE_DECIMAL,
		[ESK_ARROW_FIXED_BINARY] = TYPE_FIXED_BINARY,
		[ESK_ARROW_DATE] = TYPE_DATE,
		[ESK_ARROW_TIME] = TYPE_TIME,
		[ESK_ARROW_TIMESTAMP] = TYPE_TIMESTAMP,
		[ESK_ARROW_DURATION] = TYPE_DURATION,
		[ESK_ARROW_INTERVAL] = TYPE_INTERVAL,
	};
	return ids[type->kind];
}

static uint8_t type_id(const esk_arrow_type *type)
{
	bool text = type->kind == ESK_ARROW_UTF8;
	switch (type->layout) {
	case ESK_ARROW_NULL:
		return TYPE_NULL;
	case ESK_ARROW_BOOL:
		return TYPE_BOOL;
	case ESK_ARROW_FIXED:
		return fixed_type_id(type);
	case ESK_ARROW_BINARY:
		return text ? TYPE_UTF8 : TYPE_BINARY;
	case ESK_ARROW_LARGE_BINARY:
		return text ? TYPE_LARGE_UTF8 : TYPE_LARGE_BINARY;
	case ESK_ARROW_LIST:
		return TYPE_LIST;
	case ESK_ARROW_LARGE_LIST:
		return TYPE_LARGE_LIST;
	case ESK_ARROW_MAP:
		return TYPE_MAP;
	case ESK_ARROW_FIXED_LIST:
		return TYPE_FIXED_LIST;
	case ESK_ARROW_STRUCT:
		return TYPE_STRUCT;
	case ESK_ARROW_SPARSE_UNION:
	case ESK_ARROW_DENSE_UNION:
		return TYPE_UNION;
	case ESK_ARROW_RUN_END:
		break;
	}
	return 0; /* refused by esk_build_type_of */
}

static void add_fixed(maker *m, esk_builder_table *table, const esk_arrow_type *type)
{
	int32_t bits = (int32_t)(8 * type->width_bytes);
	switch (type->kind) {
	case ESK_ARROW_SIGNED:
	case ESK_ARROW_UNSIGNED:
		add_i32(m, table, 0, bits);
		add_bool(m, table, 1, type->kind == ESK_ARROW_SIGNED);
		break;
	case ESK_ARROW_FLOAT:
		add_i16(m, table, 0, bits == 16 ? 0 : bits == 32 ? 1 : 2);
		break;
	case ESK_ARROW_DECIMAL:
		add_i32(m, table, 0, type->precision);
		add_i32(m, table, 1, type->scale);
		add_i32(m, table, 2, bits);
		break;
	case ESK_ARROW_FIXED_BINARY:
		add_i32(m, table, 0, (int32_t)type->width_bytes);
		break;
	case ESK_ARROW_DATE:
		add_i16(m, table, 0, type->unit == 'D' ? 0 : 1);
		break;
	case ESK_ARROW_TIME:
		add_i16(m, table, 0, time_unit(type->unit));
		add_i32(m, table, 1, bits);
		break;
	case ESK_ARROW_INTERVAL:
		add_i16(m, table, 0, type->unit == 'M' ? 0 : type->unit == 'D' ? 1 : 2);
		break;
	default: /* timestamp, duration */
		add_i16(m, table, 0, time_unit(type->unit));
		break;
	}
}

/* The type ids of a union, in the order of its children, as a vector of i32. */
static esk_builder_ref make_type_ids(maker *m, const esk_arrow_type *type, int64_t children)
{
	int16_t child_of[128];
	int32_t ids[128];
	if (m->status != ESK_OK)
		return 0;
	m->status = esk_arrow_type_ids(type, children, child_of, m->err);
	if (m->status != ESK_OK)
		return 0;
	for (int32_t id = 0; id < 128; id++)
		if (child_of[id] >= 0)
			ids[child_of[id]] = id;
	return esk_builder_numbers(&m->flat, ids, (size_t)children);
}

static esk_builder_ref make_type(maker *m, const esk_arrow_type *type, const struct ArrowSchema *schema)
{
	esk_builder_table table;
	esk_builder_ref inner = 0;
	if (type->kind == ESK_ARROW_TIMESTAMP && type->rest[0] != '\0')
		inner = esk_builder_string(&m->flat, type->rest, strlen(type->rest));
	bool is_union = type->layout == ESK_ARROW_SPARSE_UNION || type->layout == ESK_ARROW_DENSE_UNION;
	if (is_union)
		inner = make_type_ids(m, type, schema->n_children);
	esk_builder_begin(&m->flat, &table);
	esk_builder_add_ref(&m->flat, &table, 1, inner);
	if (type->layout == ESK_ARROW_FIXED)
		add_fixed(m, &table, type);
	else if (type->layout == ESK_ARROW_FIXED_LIST)
		add_i32(m, &table, 0, type->list_size);
	else if (type->layout == ESK_ARROW_MAP)
		add_bool(m, &table, 0, (schema->flags & ARROW_FLAG_MAP_KEYS_SORTED) != 0);
	else if (is_union)
		add_i16(m, &table, 0, type->layout == ESK_ARROW_DENSE_UNION);
	return esk_builder_end(&m->flat, &table);
}

/* ---- fields ---- */

static esk_builder_ref make_pair(
	maker *m, const char *key, int32_t key_bytes, const char *value, int32_t value_bytes)
{
	esk_builder_table table;
	esk_builder_ref key_ref = esk_builder_string(&m->flat, key, (size_t)key_bytes);
	esk_builder_ref value_ref = esk_builder_string(&m->flat, value, (size_t)value_bytes);
	esk_builder_begin(&m->flat, &table);
	esk_builder_add_ref(&m->flat, &table, 0, key_ref);
	esk_builder_add_ref(&m->flat, &table, 1, value_ref);
	return esk_builder_end(&m->flat, &table);
}

static esk_builder_ref make_metadata(maker *m, const char *metadata)
{
	const char *key, *value;
	int32_t key_bytes, value_bytes;
	esk_build_pairs pairs = esk_build_pairs_begin(metadata);
	if (pairs.left <= 0 || m->flat.failed)
		return 0;
	esk_builder_ref *refs = calloc((size_t)pairs.left, sizeof *refs);
	size_t count = 0;
	if (refs == NULL) {
		m->flat.failed = true;
		return 0;
	}
	while (esk_build_pairs_next(&pairs, &key, &key_bytes, &value, &value_bytes))
		refs[count++] = make_pair(m, key, key_bytes, value, value_bytes);
	esk_builder_ref vector = esk_builder_refs(&m->flat, refs, count);
	free(refs);
	return vector;
}

static esk_builder_ref make_dictionary(maker *m, const esk_arrow_type *index, int64_t id, bool ordered)
{
	esk_builder_table table;
	esk_builder_ref index_ref = make_type(m, index, NULL);
	esk_builder_begin(&m->flat, &table);
	esk_builder_add(&m->flat, &table, 0, &id, sizeof id);
	esk_builder_add_ref(&m->flat, &table, 1, index_ref);
	add_bool(m, &table, 2, ordered);
	return esk_builder_end(&m->flat, &table);
}

static esk_builder_ref make_fields(
	maker *m, const struct ArrowSchema *schema, const char *path, unsigned depth);

static esk_builder_ref finish_field(maker *m, const struct ArrowSchema *schema, uint8_t type,
	const esk_builder_ref refs[4] /* type, dictionary, children, metadata */)
{
	esk_builder_table table;
	const char *name = schema->name != NULL ? schema->name : "";
	esk_builder_ref name_ref = esk_builder_string(&m->flat, name, strlen(name));
	esk_builder_begin(&m->flat, &table);
	esk_builder_add_ref(&m->flat, &table, 0, name_ref);
	esk_builder_add_ref(&m->flat, &table, 3, refs[0]);
	esk_builder_add_ref(&m->flat, &table, 4, refs[1]);
	esk_builder_add_ref(&m->flat, &table, 5, refs[2]);
	esk_builder_add_ref(&m->flat, &table, 6, refs[3]);
	add_bool(m, &table, 1, (schema->flags & ARROW_FLAG_NULLABLE) != 0);
	esk_builder_add(&m->flat, &table, 2, &type, sizeof type);
	return esk_builder_end(&m->flat, &table);
}

/* A field; where it has a dictionary, IPC gives it the type and children of the values, and the type of the
 * indices beside them. */
static esk_builder_ref make_field(
	maker *m, const struct ArrowSchema *schema, const char *parent, unsigned depth)
{
	esk_arrow_type type, values;
	esk_builder_ref refs[4] = {0}, field = 0;
	char *path = esk_build_path(parent, schema != NULL ? schema->name : NULL);
	if (path == NULL) {
		m->flat.failed = true;
		return 0;
	}
	m->status = esk_build_type_of(schema, path, depth, &type, m->err);
	const struct ArrowSchema *held = schema;
	values = type;
	if (m->status == ESK_OK && schema->dictionary != NULL) {
		held = schema->dictionary;
		m->status = esk_build_type_of(held, path, depth, &values, m->err);
	}
	if (m->status == ESK_OK) {
		if (schema->dictionary != NULL)
			refs[1] = make_dictionary(m, &type, m->next_dictionary++,
				(schema->flags & ARROW_FLAG_DICTIONARY_ORDERED) != 0);
		refs[2] = make_fields(m, held, path, depth + 1);
		refs[0] = make_type(m, &values, held);
		refs[3] = make_metadata(m, schema->metadata);
		field = finish_field(m, schema, type_id(&values), refs);
	}
	free(path);
	return field;
}

static esk_builder_ref make_fields(
	maker *m, const struct ArrowSchema *schema, const char *path, unsigned depth)
{
	size_t count = (size_t)schema->n_children;
	esk_builder_ref *refs = calloc(count + 1, sizeof *refs), vector = 0;
	m->flat.failed |= refs == NULL;
	for (size_t i = 0; i < count && m->status == ESK_OK && !m->flat.failed; i++)
		refs[i] = make_field(m, schema->children[i], path, depth);
	if (m->status == ESK_OK && !m->flat.failed)
		vector = esk_builder_refs(&m->flat, refs, count);
	free(refs);
	return vector;
}

static esk_builder_ref make_schema(maker *m, const struct ArrowSchema *schema)
{
	esk_builder_table table;
	m->status = esk_build_check_root(schema, m->err);
	if (m->status != ESK_OK)
		return 0;
	esk_builder_ref fields = make_fields(m, schema, NULL, 1);
	if (m->status != ESK_OK || m->flat.failed)
		return 0;
	esk_builder_ref metadata = make_metadata(m, schema->metadata);
	esk_builder_begin(&m->flat, &table);
	esk_builder_add_ref(&m->flat, &table, 1, fields);
	esk_builder_add_ref(&m->flat, &table, 2, metadata);
	add_i16(m, &table, 0, 0); /* Endianness.Little */
	return esk_builder_end(&m->flat, &table);
}

/* What came of it: the status of what was refused, or memory. */
static esk_status made(const maker *m)
{
	if (m->status != ESK_OK)
		return m->status;
	return m->flat.failed ? esk_fail_memory(m->err, m->flat.size, "the metadata of an Arrow schema")
			      : ESK_OK;
}

/* ---- messages ---- */

esk_status esk_build_schema(const struct ArrowSchema *schema, uint32_t align, uint32_t before,
	uint8_t **ret_message, size_t *ret_bytes, esk_error *err)
{
	static const int16_t version = ESK_BUILD_VERSION;
	static const uint8_t header_type = ESK_BUILD_HEADER_SCHEMA;
	static const int64_t no_body = 0;
	maker m = {.err = err};
	esk_builder_table table;
	esk_builder_ref header = make_schema(&m, schema);
	esk_builder_begin(&m.flat, &table);
	esk_builder_add(&m.flat, &table, 3, &no_body, sizeof no_body);
	esk_builder_add_ref(&m.flat, &table, 2, header);
	esk_builder_add(&m.flat, &table, 0, &version, sizeof version);
	esk_builder_add(&m.flat, &table, 1, &header_type, sizeof header_type);
	esk_builder_finish(&m.flat, esk_builder_end(&m.flat, &table));
	esk_status status = made(&m);
	if (status == ESK_OK) {
		size_t total = esk_round_up(before + ESK_BUILD_FRAME_BYTES + m.flat.size, align) - before;
		uint8_t *message = malloc(total);
		if (message != NULL) {
			memcpy(message + ESK_BUILD_FRAME_BYTES, esk_builder_bytes(&m.flat), m.flat.size);
			esk_build_frame(message, (uint32_t)m.flat.size, (uint32_t)total);
			*ret_message = message;
			*ret_bytes = total;
		} else {
			status = esk_fail_memory(err, total, "an Arrow schema message");
		}
	}
	esk_builder_free(&m.flat);
	return status;
}

/* ---- the footer ---- */

#define TRAILER_BYTES (sizeof(uint32_t) + ESK_BUILD_MAGIC_BYTES)
#define TRAILER_ROOM 16 /* a multiple of 8, so that what stands before it stays aligned */

esk_status esk_build_footer_begin(
	const struct ArrowSchema *schema, esk_build_footer *ret_footer, esk_error *err)
{
	maker m = {.err = err};
	esk_builder_room(&m.flat, TRAILER_ROOM);
	esk_builder_ref ref = make_schema(&m, schema);
	esk_status status = made(&m);
	if (status != ESK_OK) {
		esk_builder_free(&m.flat);
		return status;
	}
	*ret_footer = (esk_build_footer){m.flat, ref};
	return ESK_OK;
}

/* The flatbuffer is followed by its size and the magic, for which there is room behind it. */
static void put_trailer(esk_builder *flat, uint32_t footer_bytes)
{
	uint8_t *trailer = esk_builder_bytes(flat) + footer_bytes;
	memcpy(trailer, &footer_bytes, sizeof footer_bytes);
	memcpy(trailer + sizeof footer_bytes, ESK_BUILD_MAGIC, ESK_BUILD_MAGIC_BYTES);
}

esk_status esk_build_footer_finish(esk_build_footer *footer, const esk_build_block *dictionaries,
	size_t dictionary_count, const esk_build_block *batches, size_t batch_count,
	const uint8_t **ret_footer, size_t *ret_bytes, esk_error *err)
{
	static const int16_t version = ESK_BUILD_VERSION;
	esk_builder *flat = &footer->flat;
	esk_builder_table table;
	esk_builder_ref dictionary_ref =
		esk_builder_structs(flat, dictionaries, sizeof *dictionaries, dictionary_count);
	esk_builder_ref batch_ref = esk_builder_structs(flat, batches, sizeof *batches, batch_count);
	esk_builder_begin(flat, &table);
	esk_builder_add_ref(flat, &table, 1, footer->schema);
	esk_builder_add_ref(flat, &table, 2, dictionary_ref);
	esk_builder_add_ref(flat, &table, 3, batch_ref);
	esk_builder_add(flat, &table, 0, &version, sizeof version);
	esk_builder_finish(flat, esk_builder_end(flat, &table));
	if (flat->failed)
		return esk_fail_memory(err, flat->size, "the footer of an Arrow file");
	uint32_t footer_bytes = (uint32_t)flat->size - TRAILER_ROOM;
	put_trailer(flat, footer_bytes);
	*ret_footer = esk_builder_bytes(flat);
	*ret_bytes = footer_bytes + TRAILER_BYTES;
	return ESK_OK;
}

void esk_build_footer_free(esk_build_footer *footer)
{
	esk_builder_free(&footer->flat);
}
