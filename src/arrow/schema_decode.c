/* Schema messages: fields of a flatbuffer to ArrowSchema and plan. The numbers of fields, types and units are
 * those of Schema.fbs of the Arrow format. */
#include "arrow/kernels.h"
#include "arrow/schema.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SCHEMA_ENDIANNESS, SCHEMA_FIELDS, SCHEMA_METADATA };
enum {
	FIELD_NAME,
	FIELD_NULLABLE,
	FIELD_TYPE_KIND,
	FIELD_TYPE,
	FIELD_DICTIONARY,
	FIELD_CHILDREN,
	FIELD_METADATA
};
enum { PAIR_KEY, PAIR_VALUE };
enum { ENCODING_ID, ENCODING_INDEX, ENCODING_ORDERED };

/* Members of the union Type. */
enum {
	TYPE_NONE,
	TYPE_NULL,
	TYPE_INT,
	TYPE_FLOAT,
	TYPE_BINARY,
	TYPE_UTF8,
	TYPE_BOOL,
	TYPE_DECIMAL,
	TYPE_DATE,
	TYPE_TIME,
	TYPE_TIMESTAMP,
	TYPE_INTERVAL,
	TYPE_LIST,
	TYPE_STRUCT,
	TYPE_UNION,
	TYPE_FIXED_BINARY,
	TYPE_FIXED_LIST,
	TYPE_MAP,
	TYPE_DURATION,
	TYPE_LARGE_BINARY,
	TYPE_LARGE_UTF8,
	TYPE_LARGE_LIST,
	TYPE_RUN_END,
	TYPE_BINARY_VIEW,
	TYPE_UTF8_VIEW,
	TYPE_LIST_VIEW,
	TYPE_LARGE_LIST_VIEW,
	TYPE_COUNT
};

/* Formats of the types without parameters; NULL: it has some. */
static const char *const plain_formats[TYPE_COUNT] = {[TYPE_NULL] = "n",
	[TYPE_BINARY] = "z",
	[TYPE_UTF8] = "u",
	[TYPE_BOOL] = "b",
	[TYPE_LIST] = "+l",
	[TYPE_STRUCT] = "+s",
	[TYPE_MAP] = "+m",
	[TYPE_LARGE_BINARY] = "Z",
	[TYPE_LARGE_UTF8] = "U",
	[TYPE_LARGE_LIST] = "+L",
	[TYPE_RUN_END] = "+r",
	[TYPE_BINARY_VIEW] = "vz",
	[TYPE_UTF8_VIEW] = "vu",
	[TYPE_LIST_VIEW] = "+vl",
	[TYPE_LARGE_LIST_VIEW] = "+vL"};

/* The way down to a field, for messages. */
typedef struct path {
	const struct path *up;
	const char *name;
	size_t name_bytes;
	unsigned depth;
} path;

/* What one decoding may spend: an honest tree has at least so many bytes of metadata per field, and does not
 * refer to the same text over and over. */
#define FIELD_BYTES 8
#define TEXT_SHARING 16
#define TEXT_FREE ((uint64_t)64 << 10)

/* They are searched one after the other. */
#define DICTIONARIES 16384

typedef struct decoding {
	esk_flatbuffer *buffer;
	esk_arrow_plan *plan;
	uint64_t fields_left;
	uint64_t text_left;
	esk_error *err;
} decoding;

static void path_format(const path *at, esk_text *text)
{
	if (at == NULL)
		return;
	path_format(at->up, text);
	if (at->depth > 0)
		esk_text_add(text, "%s%.*s", at->depth > 1 ? "." : "",
			(int)(at->name_bytes < 60 ? at->name_bytes : 60), at->name);
}

static esk_status refuse(const decoding *d, const path *at, esk_status code, const char *format, ...)
	ESK_PRINTF(4, 5);

static esk_status refuse(const decoding *d, const path *at, esk_status code, const char *format, ...)
{
	char message[300];
	va_list args;
	va_start(args, format);
	vsnprintf(message, sizeof message, format, args);
	va_end(args);
	esk_text text = {0};
	path_format(at, &text);
	esk_status status = text.data == NULL || text.failed
				    ? esk_fail(d->err, code, "the schema: %s", message)
				    : esk_fail(d->err, code, "field \"%s\": %s", text.data, message);
	esk_text_free(&text);
	return status;
}

static esk_status damaged(const decoding *d, const path *at)
{
	return refuse(d, at, ESK_ECORRUPT, "%s (byte %llu of %llu)", d->buffer->fault,
		(unsigned long long)d->buffer->fault_at, (unsigned long long)d->buffer->size);
}

/* A text of the buffer; its bytes count against what may be copied. */
static const char *text_of(decoding *d, const esk_flatbuffer_table *table, unsigned field, size_t *ret_bytes)
{
	esk_flatbuffer_vector vector = esk_flatbuffer_vector_of(d->buffer, table, field, 1);
	*ret_bytes = vector.count;
	if (vector.count > d->text_left) {
		if (d->buffer->fault == NULL) {
			d->buffer->fault = "the same texts are referred to too often";
			d->buffer->fault_at = vector.at;
		}
		*ret_bytes = 0;
	}
	d->text_left -= *ret_bytes;
	return vector.present ? (const char *)d->buffer->data + vector.at : "";
}

/* ---- types ---- */

static const char *int_format(int32_t bits, bool is_signed)
{
	switch (bits) {
	case 8:
		return is_signed ? "c" : "C";
	case 16:
		return is_signed ? "s" : "S";
	case 32:
		return is_signed ? "i" : "I";
	case 64:
		return is_signed ? "l" : "L";
	default:
		return NULL;
	}
}

static const char *read_int(const decoding *d, const esk_flatbuffer_table *type)
{
	return int_format(
		esk_flatbuffer_i32(d->buffer, type, 0, 0), esk_flatbuffer_u8(d->buffer, type, 1, 0) != 0);
}

/* One of the letters of a unit that is stored as a number; 0 where there is none. */
static char unit_of(int16_t number, const char *letters)
{
	return number < 0 || (size_t)number >= strlen(letters) ? '\0' : letters[number];
}

static bool read_time(const decoding *d, const esk_flatbuffer_table *type, esk_text *format)
{
	char unit = unit_of(esk_flatbuffer_i16(d->buffer, type, 0, 1), "smun");
	int32_t bits = esk_flatbuffer_i32(d->buffer, type, 1, 32);
	esk_text_add(format, "tt%c", unit);
	return unit != '\0' && bits == (unit == 's' || unit == 'm' ? 32 : 64);
}

static bool read_timestamp(decoding *d, const esk_flatbuffer_table *type, esk_text *format)
{
	char unit = unit_of(esk_flatbuffer_i16(d->buffer, type, 0, 0), "smun");
	size_t zone_bytes;
	const char *zone = text_of(d, type, 1, &zone_bytes);
	if (unit == '\0' || memchr(zone, '\0', zone_bytes) != NULL || zone_bytes > 1000)
		return false;
	esk_text_add(format, "ts%c:%.*s", unit, (int)zone_bytes, zone);
	return true;
}

static bool read_union(decoding *d, const esk_flatbuffer_table *type, uint32_t children, esk_text *format)
{
	int16_t mode = esk_flatbuffer_i16(d->buffer, type, 0, 0);
	esk_flatbuffer_vector ids = esk_flatbuffer_vector_of(d->buffer, type, 1, 4);
	uint32_t count = ids.present ? ids.count : children;
	if (mode < 0 || mode > 1 || count != children || count > 128)
		return false;
	esk_text_add(format, mode == 0 ? "+us:" : "+ud:");
	for (uint32_t i = 0; i < count; i++)
		esk_text_add(format, "%s%d", i == 0 ? "" : ",",
			ids.present ? esk_load_i32(d->buffer->data + ids.at + 4 * (uint64_t)i) : (int)i);
	return true;
}

static bool read_unit(const decoding *d, const esk_flatbuffer_table *type, int16_t absent, const char *prefix,
	const char *letters, esk_text *format)
{
	char unit = unit_of(esk_flatbuffer_i16(d->buffer, type, 0, absent), letters);
	esk_text_add(format, "%s%c", prefix, unit);
	return unit != '\0';
}

/* The format of a type with parameters; false where they are not sound. */
static bool read_parameters(
	decoding *d, uint8_t kind, const esk_flatbuffer_table *type, uint32_t children, esk_text *format)
{
	esk_flatbuffer *b = d->buffer;
	const char *known;
	switch (kind) {
	case TYPE_INT:
		known = read_int(d, type);
		esk_text_add(format, "%s", known == NULL ? "" : known);
		return known != NULL;
	case TYPE_FLOAT:
		return read_unit(d, type, 0, "", "efg", format);
	case TYPE_DECIMAL:
		esk_text_add(format, "d:%d,%d", esk_flatbuffer_i32(b, type, 0, 0),
			esk_flatbuffer_i32(b, type, 1, 0));
		if (esk_flatbuffer_i32(b, type, 2, 128) != 128)
			esk_text_add(format, ",%d", esk_flatbuffer_i32(b, type, 2, 128));
		return true;
	case TYPE_DATE:
		return read_unit(d, type, 1, "td", "Dm", format);
	case TYPE_TIME:
		return read_time(d, type, format);
	case TYPE_TIMESTAMP:
		return read_timestamp(d, type, format);
	case TYPE_INTERVAL:
		return read_unit(d, type, 0, "ti", "MDn", format);
	case TYPE_UNION:
		return read_union(d, type, children, format);
	case TYPE_FIXED_BINARY:
		esk_text_add(format, "w:%d", esk_flatbuffer_i32(b, type, 0, 0));
		return true;
	case TYPE_FIXED_LIST:
		esk_text_add(format, "+w:%d", esk_flatbuffer_i32(b, type, 0, 0));
		return true;
	case TYPE_DURATION:
		return read_unit(d, type, 1, "tD", "smun", format);
	default:
		return false;
	}
}

static esk_status read_type(
	decoding *d, const path *at, const esk_flatbuffer_table *field, uint32_t children, esk_text *format)
{
	uint8_t kind = esk_flatbuffer_u8(d->buffer, field, FIELD_TYPE_KIND, TYPE_NONE);
	esk_flatbuffer_table type = esk_flatbuffer_child(d->buffer, field, FIELD_TYPE);
	if (d->buffer->fault != NULL)
		return damaged(d, at);
	if (kind == TYPE_NONE || !esk_flatbuffer_there(&type))
		return refuse(d, at, ESK_ECORRUPT, "it has no type");
	if (kind >= TYPE_COUNT)
		return refuse(d, at, ESK_EUNSUPPORTED,
			"type number %d is newer than this version of Esker, which knows %d", kind,
			TYPE_COUNT - 1);
	if (plain_formats[kind] != NULL)
		esk_text_add(format, "%s", plain_formats[kind]);
	else if (!read_parameters(d, kind, &type, children, format))
		return d->buffer->fault != NULL
			       ? damaged(d, at)
			       : refuse(d, at, ESK_ECORRUPT, "the parameters of type number %d are not sound",
					 kind);
	if (format->failed)
		return esk_fail_memory(d->err, 100, "an Arrow schema");
	return ESK_OK;
}

/* ---- metadata ---- */

static void add_bytes(char *blob, size_t *used, const void *bytes, size_t count)
{
	if (blob != NULL && count > 0)
		memcpy(blob + *used, bytes, count);
	*used += count;
}

/* Encodes key-value pairs as the C data interface has them; without a blob it counts their bytes. */
static size_t encode_pairs(decoding *d, const esk_flatbuffer_vector *pairs, char *blob)
{
	size_t used = 0;
	int32_t count = (int32_t)pairs->count;
	add_bytes(blob, &used, &count, 4);
	for (uint32_t i = 0; i < pairs->count; i++) {
		esk_flatbuffer_table pair = esk_flatbuffer_element(d->buffer, pairs, i);
		for (unsigned part = PAIR_KEY; part <= PAIR_VALUE; part++) {
			esk_flatbuffer_vector text = esk_flatbuffer_vector_of(d->buffer, &pair, part, 1);
			int32_t bytes = (int32_t)text.count;
			add_bytes(blob, &used, &bytes, 4);
			add_bytes(blob, &used, d->buffer->data + text.at, text.count);
		}
		if (used > d->text_left)
			break;
	}
	return used;
}

static esk_status read_metadata(decoding *d, const path *at, const esk_flatbuffer_table *table,
	unsigned field, char **ret_blob, size_t *ret_bytes)
{
	*ret_blob = NULL;
	*ret_bytes = 0;
	esk_flatbuffer_vector pairs = esk_flatbuffer_vector_of(d->buffer, table, field, 4);
	if (d->buffer->fault != NULL)
		return damaged(d, at);
	if (pairs.count == 0)
		return ESK_OK;
	size_t bytes = encode_pairs(d, &pairs, NULL);
	if (d->buffer->fault != NULL)
		return damaged(d, at);
	if (bytes > d->text_left)
		return refuse(d, at, ESK_ECORRUPT, "the same metadata is referred to too often");
	d->text_left -= bytes;
	char *blob = malloc(bytes);
	if (blob == NULL)
		return esk_fail_memory(d->err, bytes, "the metadata of an Arrow field");
	*ret_bytes = encode_pairs(d, &pairs, blob);
	*ret_blob = blob;
	return ESK_OK;
}

/* ---- dictionaries ---- */

static void node_free(esk_arrow_node *node)
{
	for (uint32_t i = 0; i < node->child_count; i++)
		node_free(&node->children[i]);
	free(node->children);
	free(node->child_of);
}

/* The slot of dictionary `id`; takes over `values`, the plan of its values, also on failure. */
static esk_status take_slot(
	decoding *d, const path *at, int64_t id, esk_arrow_node *values, uint32_t *ret_slot)
{
	esk_arrow_plan *plan = d->plan;
	uint32_t slot = 0;
	while (slot < plan->slot_count && plan->slots[slot].id != id)
		slot++;
	if (slot < plan->slot_count) {
		bool same = esk_arrow_schema_same(plan->slots[slot].values->schema, values->schema);
		node_free(values);
		free(values);
		if (!same)
			return refuse(d, at, ESK_ECORRUPT,
				"dictionary %lld has values of another type in an earlier field",
				(long long)id);
		*ret_slot = slot;
		return ESK_OK;
	}
	if (slot >= DICTIONARIES) {
		node_free(values);
		free(values);
		return refuse(d, at, ESK_EUNSUPPORTED, "there are more than %d dictionaries", DICTIONARIES);
	}
	esk_arrow_slot *slots = realloc(plan->slots, (slot + 1) * sizeof(*slots));
	if (slots == NULL) {
		node_free(values);
		free(values);
		return esk_fail_memory(d->err, (slot + 1) * sizeof(*slots), "the dictionaries of a schema");
	}
	plan->slots = slots;
	slots[slot] = (esk_arrow_slot){.id = id, .values = values};
	plan->slot_count++;
	*ret_slot = slot;
	return ESK_OK;
}

/* ---- fields ---- */

static esk_status read_field(decoding *d, const path *at, const esk_flatbuffer_table *table,
	struct ArrowSchema *schema, esk_arrow_node *node);

/* Makes schema and node from `field`, and its children from the field's table. */
static esk_status read_nested(decoding *d, const path *at, const esk_flatbuffer_vector *children,
	const esk_arrow_field *field, struct ArrowSchema *schema, esk_arrow_node *node)
{
	if (field->children > d->fields_left)
		return refuse(d, at, ESK_ECORRUPT, "the same fields are referred to again and again");
	d->fields_left -= field->children;
	esk_status status = esk_arrow_schema_make(schema, field, d->err);
	if (status != ESK_OK)
		return status;
	node->schema = schema;
	node->slot = ESK_ARROW_NO_SLOT;
	esk_error reason = {0};
	status = esk_arrow_type_parse(schema->format, &node->type, &reason); /* it borrows from the format */
	if (status != ESK_OK)
		return refuse(d, at, status, "%s", reason.message);
	if (!node->type.variable_children && node->type.children != field->children)
		return refuse(d, at, ESK_ECORRUPT, "a type %s has %u children: %u were expected",
			esk_arrow_format_name(field->format), field->children, node->type.children);
	if (field->children > 0) {
		node->children = calloc(field->children, sizeof(*node->children));
		if (node->children == NULL)
			return esk_fail_memory(
				d->err, field->children * sizeof(*node->children), "an Arrow schema");
	}
	node->child_count = field->children;
	for (uint32_t i = 0; i < field->children && status == ESK_OK; i++) {
		esk_flatbuffer_table child = esk_flatbuffer_element(d->buffer, children, i);
		status = d->buffer->fault != NULL
				 ? damaged(d, at)
				 : read_field(d, at, &child, schema->children[i], &node->children[i]);
	}
	if (status == ESK_OK && node->type.layout == ESK_ARROW_MAP &&
		(node->children[0].type.layout != ESK_ARROW_STRUCT || node->children[0].child_count != 2))
		return refuse(d, at, ESK_ECORRUPT, "the child of a map is no struct of key and value");
	if (status == ESK_OK && node->type.layout == ESK_ARROW_RUN_END &&
		(node->children[0].type.kind != ESK_ARROW_SIGNED || node->children[0].type.width_bytes < 2 ||
			node->children[0].slot != ESK_ARROW_NO_SLOT))
		return refuse(d, at, ESK_ECORRUPT,
			"run ends are of type %s: int16, int32 or int64 were expected",
			esk_arrow_format_name(schema->children[0]->format));
	if (status == ESK_OK && node->type.rest != NULL && node->type.variable_children) {
		node->child_of = malloc(128 * sizeof(*node->child_of));
		if (node->child_of == NULL)
			return esk_fail_memory(d->err, 256, "an Arrow schema");
		status = esk_arrow_type_ids(&node->type, node->child_count, node->child_of, &reason);
		if (status != ESK_OK)
			return refuse(d, at, status, "%s", reason.message);
	}
	return status;
}

/* A field whose values are in a dictionary: the format is that of the indices. */
static esk_status read_encoded(decoding *d, const path *at, const esk_flatbuffer_table *encoding,
	const esk_flatbuffer_vector *children, const esk_arrow_field *values, struct ArrowSchema *schema,
	esk_arrow_node *node)
{
	esk_flatbuffer_table index = esk_flatbuffer_child(d->buffer, encoding, ENCODING_INDEX);
	const char *format = esk_flatbuffer_there(&index) ? read_int(d, &index) : "i";
	int64_t id = esk_flatbuffer_i64(d->buffer, encoding, ENCODING_ID, 0);
	bool ordered = esk_flatbuffer_u8(d->buffer, encoding, ENCODING_ORDERED, 0) != 0;
	if (d->buffer->fault != NULL)
		return damaged(d, at);
	if (format == NULL)
		return refuse(
			d, at, ESK_ECORRUPT, "the indices of a dictionary are no integers of 8 to 64 bits");
	esk_arrow_field outer = *values;
	outer.format = format;
	outer.children = 0;
	outer.dictionary = true;
	outer.flags = (values->flags & ARROW_FLAG_NULLABLE) | (ordered ? ARROW_FLAG_DICTIONARY_ORDERED : 0);
	esk_status status = esk_arrow_schema_make(schema, &outer, d->err);
	if (status != ESK_OK)
		return status;
	node->schema = schema;
	node->slot = ESK_ARROW_NO_SLOT;
	status = esk_arrow_type_parse(format, &node->type, d->err);
	if (status != ESK_OK)
		return status;
	esk_arrow_field inner = *values;
	inner.name_bytes = 0;
	inner.metadata = NULL;
	inner.metadata_bytes = 0;
	inner.flags |= ARROW_FLAG_NULLABLE;
	esk_arrow_node *dictionary = calloc(1, sizeof(*dictionary));
	if (dictionary == NULL)
		return esk_fail_memory(d->err, sizeof(*dictionary), "an Arrow schema");
	status = read_nested(d, at, children, &inner, schema->dictionary, dictionary);
	if (status != ESK_OK) {
		node_free(dictionary);
		free(dictionary);
		return status;
	}
	return take_slot(d, at, id, dictionary, &node->slot);
}

static esk_status read_described(decoding *d, const path *at, const esk_flatbuffer_table *table,
	struct ArrowSchema *schema, esk_arrow_node *node)
{
	esk_text format = {0};
	char *metadata = NULL;
	esk_flatbuffer_vector children = esk_flatbuffer_vector_of(d->buffer, table, FIELD_CHILDREN, 4);
	esk_flatbuffer_table encoding = esk_flatbuffer_child(d->buffer, table, FIELD_DICTIONARY);
	uint8_t kind = esk_flatbuffer_u8(d->buffer, table, FIELD_TYPE_KIND, TYPE_NONE);
	esk_arrow_field field = {.name = at->name, .name_bytes = at->name_bytes, .children = children.count};
	if (esk_flatbuffer_u8(d->buffer, table, FIELD_NULLABLE, 0) != 0)
		field.flags |= ARROW_FLAG_NULLABLE;
	esk_status status = read_type(d, at, table, children.count, &format);
	if (status != ESK_OK)
		goto out;
	if (kind == TYPE_MAP) {
		esk_flatbuffer_table map = esk_flatbuffer_child(d->buffer, table, FIELD_TYPE);
		if (esk_flatbuffer_u8(d->buffer, &map, 0, 0) != 0)
			field.flags |= ARROW_FLAG_MAP_KEYS_SORTED;
	}
	status = read_metadata(d, at, table, FIELD_METADATA, &metadata, &field.metadata_bytes);
	if (status != ESK_OK)
		goto out;
	field.metadata = metadata;
	field.format = format.data;
	status = esk_flatbuffer_there(&encoding)
			 ? read_encoded(d, at, &encoding, &children, &field, schema, node)
			 : read_nested(d, at, &children, &field, schema, node);
out:
	free(metadata);
	esk_text_free(&format);
	return status;
}

static esk_status read_field(decoding *d, const path *up, const esk_flatbuffer_table *table,
	struct ArrowSchema *schema, esk_arrow_node *node)
{
	path at = {.up = up, .depth = up->depth + 1};
	node->slot = ESK_ARROW_NO_SLOT;
	if (at.depth > ESK_ARROW_DEPTH)
		return refuse(d, up, ESK_EUNSUPPORTED, "it is nested more than %d deep", ESK_ARROW_DEPTH);
	at.name = text_of(d, table, FIELD_NAME, &at.name_bytes);
	if (d->buffer->fault != NULL)
		return damaged(d, up);
	if (memchr(at.name, '\0', at.name_bytes) != NULL)
		return refuse(d, up, ESK_EUNSUPPORTED, "the name of a field has a NUL in it");
	if (!esk_arrow_utf8((const uint8_t *)at.name, at.name_bytes))
		return refuse(d, up, ESK_ECORRUPT, "the name of a field is not UTF-8");
	return read_described(d, &at, table, schema, node);
}

static esk_status read_schema(decoding *d, const esk_flatbuffer_table *table)
{
	const path at = {0};
	char *metadata = NULL;
	esk_arrow_field field = {.format = "+s", .name = ""};
	esk_flatbuffer_vector fields = esk_flatbuffer_vector_of(d->buffer, table, SCHEMA_FIELDS, 4);
	int16_t endianness = esk_flatbuffer_i16(d->buffer, table, SCHEMA_ENDIANNESS, 0);
	if (d->buffer->fault != NULL)
		return damaged(d, &at);
	if (endianness != 0)
		return refuse(d, &at, ESK_EUNSUPPORTED,
			"its data are big-endian: write them on a little-endian machine");
	field.children = fields.count;
	esk_status status = read_metadata(d, &at, table, SCHEMA_METADATA, &metadata, &field.metadata_bytes);
	if (status != ESK_OK)
		return status;
	field.metadata = metadata;
	status = read_nested(d, &at, &fields, &field, &d->plan->schema, &d->plan->root);
	free(metadata);
	return status;
}

esk_status esk_arrow_plan_decode(
	esk_flatbuffer *buffer, const esk_flatbuffer_table *table, esk_arrow_plan *ret_plan, esk_error *err)
{
	memset(ret_plan, 0, sizeof(*ret_plan));
	decoding d = {.buffer = buffer,
		.plan = ret_plan,
		.fields_left = buffer->size / FIELD_BYTES,
		.text_left = buffer->size * TEXT_SHARING + TEXT_FREE,
		.err = err};
	esk_status status = read_schema(&d, table);
	if (status != ESK_OK)
		esk_arrow_plan_free(ret_plan);
	return status;
}

void esk_arrow_plan_free(esk_arrow_plan *plan)
{
	for (uint32_t i = 0; i < plan->slot_count; i++) {
		node_free(plan->slots[i].values);
		free(plan->slots[i].values);
	}
	free(plan->slots);
	node_free(&plan->root);
	if (plan->schema.release != NULL)
		plan->schema.release(&plan->schema);
	memset(plan, 0, sizeof(*plan));
}
