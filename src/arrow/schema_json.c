/* Schemas as JSON: see esker/arrow_encode.h. */
#include "arrow/schema_json.h"
#include "arrow/build.h"
#include "arrow/kernels.h"
#include <esker/arrow_encode.h>

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

typedef struct maker {
	int64_t next_dictionary; /* ids as in the Schema message */
	esk_error *err;
} maker;

static esk_status no_memory(const maker *m)
{
	return esk_fail_memory(m->err, 1, "the JSON of an Arrow schema");
}

/* ---- types ---- */

static json_t *fixed_type(const esk_arrow_type *type)
{
	static const char *const precisions[] = {[2] = "HALF", [4] = "SINGLE", [8] = "DOUBLE"};
	int bits = 8 * (int)type->width_bytes;
	switch (type->kind) {
	case ESK_ARROW_SIGNED:
	case ESK_ARROW_UNSIGNED:
		return json_pack("{s:s, s:b, s:i}", "name", "int", "isSigned", type->kind == ESK_ARROW_SIGNED,
			"bitWidth", bits);
	case ESK_ARROW_FLOAT:
		return json_pack(
			"{s:s, s:s}", "name", "floatingpoint", "precision", precisions[type->width_bytes]);
	case ESK_ARROW_DECIMAL:
		return json_pack("{s:s, s:i, s:i, s:i}", "name", "decimal", "precision", type->precision,
			"scale", type->scale, "bitWidth", bits);
	case ESK_ARROW_FIXED_BINARY:
		return json_pack(
			"{s:s, s:i}", "name", "fixedsizebinary", "byteWidth", (int)type->width_bytes);
	case ESK_ARROW_DATE:
		return json_pack(
			"{s:s, s:s}", "name", "date", "unit", type->unit == 'D' ? "DAY" : "MILLISECOND");
	case ESK_ARROW_TIME:
		return json_pack("{s:s, s:s, s:i}", "name", "time", "unit", esk_schema_unit_name(type->unit),
			"bitWidth", bits);
	case ESK_ARROW_TIMESTAMP:
		return json_pack("{s:s, s:s, s:s*}", "name", "timestamp", "unit",
			esk_schema_unit_name(type->unit), "timezone",
			type->rest[0] != '\0' ? type->rest : NULL);
	case ESK_ARROW_DURATION:
		return json_pack("{s:s, s:s}", "name", "duration", "unit", esk_schema_unit_name(type->unit));
	default:
		return json_pack("{s:s, s:s}", "name", "interval", "unit",
			type->unit == 'M'   ? "YEAR_MONTH"
			: type->unit == 'D' ? "DAY_TIME"
					    : "MONTH_DAY_NANO");
	}
}

/* The ids of a union stand in its format, in the order of its children. */
static json_t *union_type(const esk_arrow_type *type)
{
	json_t *ids = json_array();
	for (const char *at = type->rest; ids != NULL && *at != '\0'; at += *at == ',')
		json_array_append_new(ids, json_integer(strtol(at, (char **)&at, 10)));
	return json_pack("{s:s, s:s, s:o}", "name", "union", "mode",
		type->layout == ESK_ARROW_DENSE_UNION ? "DENSE" : "SPARSE", "typeIds", ids);
}

static json_t *type_json(const esk_arrow_type *type, int64_t flags)
{
	static const char *const names[] = {[ESK_ARROW_NULL] = "null",
		[ESK_ARROW_BOOL] = "bool",
		[ESK_ARROW_BINARY] = "binary",
		[ESK_ARROW_LARGE_BINARY] = "largebinary",
		[ESK_ARROW_LIST] = "list",
		[ESK_ARROW_LARGE_LIST] = "largelist",
		[ESK_ARROW_STRUCT] = "struct"};
	bool text = type->kind == ESK_ARROW_UTF8;
	switch (type->layout) {
	case ESK_ARROW_FIXED:
		return fixed_type(type);
	case ESK_ARROW_FIXED_LIST:
		return json_pack("{s:s, s:i}", "name", "fixedsizelist", "listSize", type->list_size);
	case ESK_ARROW_MAP:
		return json_pack(
			"{s:s, s:b}", "name", "map", "keysSorted", (flags & ARROW_FLAG_MAP_KEYS_SORTED) != 0);
	case ESK_ARROW_SPARSE_UNION:
	case ESK_ARROW_DENSE_UNION:
		return union_type(type);
	case ESK_ARROW_BINARY:
		return json_pack("{s:s}", "name", text ? "utf8" : "binary");
	case ESK_ARROW_LARGE_BINARY:
		return json_pack("{s:s}", "name", text ? "largeutf8" : "largebinary");
	default:
		return json_pack("{s:s}", "name", names[type->layout]);
	}
}

/* ---- fields ---- */

/* Adds "key" or "value", as it is or in base64. */
static bool add_text(
	json_t *object, const char *name, const char *name_base64, const char *text, int32_t bytes)
{
	if (esk_arrow_utf8((const uint8_t *)text, (uint64_t)bytes))
		return json_object_set_new(object, name, json_stringn_nocheck(text, (size_t)bytes)) == 0;
	char *coded = esk_base64_encode(text, (size_t)bytes);
	bool added = coded != NULL && json_object_set_new(object, name_base64, json_string(coded)) == 0;
	free(coded);
	return added;
}

static esk_status add_metadata(maker *m, json_t *object, const char *metadata)
{
	const char *key, *value;
	int32_t key_bytes, value_bytes;
	esk_build_pairs pairs = esk_build_pairs_begin(metadata);
	if (pairs.left <= 0)
		return ESK_OK;
	json_t *list = json_array();
	bool good = json_object_set_new(object, "metadata", list) == 0;
	while (good && esk_build_pairs_next(&pairs, &key, &key_bytes, &value, &value_bytes)) {
		json_t *pair = json_object();
		good = json_array_append_new(list, pair) == 0 &&
		       add_text(pair, "key", "key_base64", key, key_bytes) &&
		       add_text(pair, "value", "value_base64", value, value_bytes);
	}
	return good ? ESK_OK : no_memory(m);
}

static esk_status add_fields(maker *m, json_t *object, const char *member, const struct ArrowSchema *schema,
	const char *path, unsigned depth);

static esk_status fill_field(
	maker *m, json_t *field, const struct ArrowSchema *schema, const char *path, unsigned depth)
{
	esk_arrow_type type, values;
	const char *name = schema->name != NULL ? schema->name : "";
	const struct ArrowSchema *held = schema;
	esk_status status = esk_build_type_of(schema, path, depth, &type, m->err);
	values = type;
	if (status == ESK_OK && schema->dictionary != NULL) {
		held = schema->dictionary;
		status = esk_build_type_of(held, path, depth, &values, m->err);
	}
	if (status != ESK_OK)
		return status;
	if (!esk_arrow_utf8((const uint8_t *)name, strlen(name)))
		return esk_fail(m->err, ESK_EINVAL, "the name of the Arrow field \"%s\" is not UTF-8", path);
	bool good = json_object_set_new(field, "name", json_string(name)) == 0 &&
		    json_object_set_new(
			    field, "nullable", json_boolean(schema->flags & ARROW_FLAG_NULLABLE)) == 0 &&
		    json_object_set_new(field, "type", type_json(&values, held->flags)) == 0;
	if (good && held != schema)
		good = json_object_set_new(field, "dictionary",
			       json_pack("{s:I, s:o, s:b}", "id", (json_int_t)m->next_dictionary++,
				       "indexType", type_json(&type, 0), "isOrdered",
				       (schema->flags & ARROW_FLAG_DICTIONARY_ORDERED) != 0)) == 0;
	if (!good)
		return no_memory(m);
	status = add_fields(m, field, "children", held, path, depth + 1);
	return status == ESK_OK ? add_metadata(m, field, schema->metadata) : status;
}

static esk_status add_field(
	maker *m, json_t *list, const struct ArrowSchema *schema, const char *parent, unsigned depth)
{
	json_t *field = json_object();
	if (json_array_append_new(list, field) != 0)
		return no_memory(m);
	char *path = esk_build_path(parent, schema != NULL ? schema->name : NULL);
	if (path == NULL)
		return no_memory(m);
	esk_arrow_type type;
	esk_status status = schema == NULL ? esk_build_type_of(schema, path, depth, &type, m->err)
					   : fill_field(m, field, schema, path, depth);
	free(path);
	return status;
}

static esk_status add_fields(maker *m, json_t *object, const char *member, const struct ArrowSchema *schema,
	const char *path, unsigned depth)
{
	json_t *list = json_array();
	if (json_object_set_new(object, member, list) != 0)
		return no_memory(m);
	for (int64_t i = 0; i < schema->n_children; i++) {
		esk_status status = add_field(m, list, schema->children[i], path, depth);
		if (status != ESK_OK)
			return status;
	}
	return ESK_OK;
}

esk_status esk_arrow_schema_to_json(const struct ArrowSchema *schema, char **ret_text, esk_error *err)
{
	maker m = {.err = err};
	esk_status status = esk_build_check_root(schema, err);
	if (status != ESK_OK)
		return status;
	json_t *root = json_object();
	status = root != NULL ? add_fields(&m, root, "fields", schema, NULL, 1) : no_memory(&m);
	if (status == ESK_OK)
		status = add_metadata(&m, root, schema->metadata);
	if (status == ESK_OK) {
		char *text = json_dumps(root, 0);
		if (text != NULL)
			*ret_text = text;
		else
			status = no_memory(&m);
	}
	json_decref(root);
	return status;
}

void esk_arrow_text_free(char *text)
{
	free(text);
}
