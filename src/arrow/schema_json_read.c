/* Schemas from JSON: see esker/arrow_encode.h. The text may come from a file or a client: every member is
 * checked, and messages name the column and the member. */
#include "arrow/build.h"
#include "arrow/schema.h"
#include "arrow/schema_json.h"
#include <esker/arrow_encode.h>

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Where we are: for messages. */
typedef struct place {
	const char *path;
	esk_error *err;
} place;

static esk_status expected(const place *at, const char *member, const char *what)
{
	return esk_fail(at->err, ESK_EINVAL, "Arrow schema JSON, column \"%s\": \"%s\" must be %s", at->path,
		member, what);
}

static esk_status no_memory(const place *at)
{
	return esk_fail_memory(at->err, 1, "an Arrow schema from JSON");
}

/* ---- members ---- */

static esk_status take_text(const place *at, json_t *object, const char *member, const char **ret_text)
{
	json_t *value = json_object_get(object, member);
	if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value))
		return expected(at, member, "a text");
	*ret_text = json_string_value(value);
	return ESK_OK;
}

static esk_status take_i32(const place *at, json_t *object, const char *member, int32_t *ret_number)
{
	json_t *value = json_object_get(object, member);
	json_int_t number = json_integer_value(value);
	if (!json_is_integer(value) || number < INT32_MIN || number > INT32_MAX)
		return expected(at, member, "an integer of 32 bits");
	*ret_number = (int32_t)number;
	return ESK_OK;
}

static esk_status take_bool(const place *at, json_t *object, const char *member, bool *ret_value)
{
	json_t *value = json_object_get(object, member);
	if (!json_is_boolean(value))
		return expected(at, member, "true or false");
	*ret_value = json_is_true(value);
	return ESK_OK;
}

static esk_status take_unit(const place *at, json_t *type, char *ret_unit)
{
	const char *name;
	esk_status status = take_text(at, type, "unit", &name);
	if (status != ESK_OK)
		return status;
	*ret_unit = esk_schema_unit_letter(name);
	return *ret_unit != 0 ? ESK_OK
			      : expected(at, "unit", "SECOND, MILLISECOND, MICROSECOND or NANOSECOND");
}

/* Which of `count` texts the member is. */
static esk_status take_choice(const place *at, json_t *object, const char *member, const char *const *choices,
	size_t count, size_t *ret_choice)
{
	const char *text;
	esk_status status = take_text(at, object, member, &text);
	for (size_t i = 0; i < count && status == ESK_OK; i++)
		if (strcmp(text, choices[i]) == 0) {
			*ret_choice = i;
			return ESK_OK;
		}
	esk_text list = {0};
	for (size_t i = 0; i < count; i++)
		esk_text_add(&list, "%s%s", i == 0 ? "" : i + 1 < count ? ", " : " or ", choices[i]);
	status = expected(at, member, list.data != NULL ? list.data : "another text");
	esk_text_free(&list);
	return status;
}

/* ---- types: each becomes a format string ---- */

static esk_status int_format(const place *at, json_t *type, esk_text *format)
{
	int32_t bits = 0;
	bool is_signed = false;
	esk_status status = take_i32(at, type, "bitWidth", &bits);
	if (status == ESK_OK)
		status = take_bool(at, type, "isSigned", &is_signed);
	if (status != ESK_OK)
		return status;
	if (bits != 8 && bits != 16 && bits != 32 && bits != 64)
		return expected(at, "bitWidth", "8, 16, 32 or 64");
	size_t size = bits == 8 ? 0 : bits == 16 ? 1 : bits == 32 ? 2 : 3;
	esk_text_add(format, "%c", (is_signed ? "csil" : "CSIL")[size]);
	return ESK_OK;
}

static esk_status float_format(const place *at, json_t *type, esk_text *format)
{
	static const char *const choices[] = {"HALF", "SINGLE", "DOUBLE"};
	size_t choice = 0;
	esk_status status = take_choice(at, type, "precision", choices, 3, &choice);
	if (status == ESK_OK)
		esk_text_add(format, "%c", "efg"[choice]);
	return status;
}

static esk_status decimal_format(const place *at, json_t *type, esk_text *format)
{
	int32_t precision = 0, scale = 0, bits = 128;
	esk_status status = take_i32(at, type, "precision", &precision);
	if (status == ESK_OK)
		status = take_i32(at, type, "scale", &scale);
	if (status == ESK_OK && json_object_get(type, "bitWidth") != NULL)
		status = take_i32(at, type, "bitWidth", &bits);
	if (status != ESK_OK)
		return status;
	esk_text_add(format, "d:%" PRId32 ",%" PRId32, precision, scale);
	if (bits != 128)
		esk_text_add(format, ",%" PRId32, bits);
	return ESK_OK;
}

static esk_status sized_format(
	const place *at, json_t *type, const char *member, const char *prefix, esk_text *format)
{
	int32_t size = 0;
	esk_status status = take_i32(at, type, member, &size);
	if (status == ESK_OK && size < 0)
		status = expected(at, member, "0 or more");
	if (status == ESK_OK)
		esk_text_add(format, "%s%" PRId32, prefix, size);
	return status;
}

static esk_status fixed_binary_format(const place *at, json_t *type, esk_text *format)
{
	return sized_format(at, type, "byteWidth", "w:", format);
}

static esk_status fixed_list_format(const place *at, json_t *type, esk_text *format)
{
	return sized_format(at, type, "listSize", "+w:", format);
}

static esk_status date_format(const place *at, json_t *type, esk_text *format)
{
	static const char *const choices[] = {"DAY", "MILLISECOND"};
	size_t choice = 0;
	esk_status status = take_choice(at, type, "unit", choices, 2, &choice);
	if (status == ESK_OK)
		esk_text_add(format, "td%c", "Dm"[choice]);
	return status;
}

static esk_status time_format(const place *at, json_t *type, esk_text *format)
{
	int32_t bits = 0;
	char unit;
	esk_status status = take_unit(at, type, &unit);
	if (status != ESK_OK)
		return status;
	int32_t right = unit == 's' || unit == 'm' ? 32 : 64;
	if (json_object_get(type, "bitWidth") != NULL) {
		status = take_i32(at, type, "bitWidth", &bits);
		if (status == ESK_OK && bits != right)
			status = expected(
				at, "bitWidth", right == 32 ? "32 for this unit" : "64 for this unit");
	}
	esk_text_add(format, "tt%c", unit);
	return status;
}

static esk_status timestamp_format(const place *at, json_t *type, esk_text *format)
{
	const char *zone = "";
	char unit;
	esk_status status = take_unit(at, type, &unit);
	if (status == ESK_OK && json_object_get(type, "timezone") != NULL)
		status = take_text(at, type, "timezone", &zone);
	if (status == ESK_OK)
		esk_text_add(format, "ts%c:%s", unit, zone);
	return status;
}

static esk_status duration_format(const place *at, json_t *type, esk_text *format)
{
	char unit;
	esk_status status = take_unit(at, type, &unit);
	if (status == ESK_OK)
		esk_text_add(format, "tD%c", unit);
	return status;
}

static esk_status interval_format(const place *at, json_t *type, esk_text *format)
{
	static const char *const choices[] = {"YEAR_MONTH", "DAY_TIME", "MONTH_DAY_NANO"};
	size_t choice = 0;
	esk_status status = take_choice(at, type, "unit", choices, 3, &choice);
	if (status == ESK_OK)
		esk_text_add(format, "ti%c", "MDn"[choice]);
	return status;
}

static esk_status union_format(const place *at, json_t *type, esk_text *format)
{
	static const char *const choices[] = {"SPARSE", "DENSE"};
	size_t choice = 0;
	json_t *ids = json_object_get(type, "typeIds"), *id;
	esk_status status = take_choice(at, type, "mode", choices, 2, &choice);
	if (status != ESK_OK)
		return status;
	if (!json_is_array(ids) || json_array_size(ids) > 128)
		return expected(at, "typeIds", "an array of up to 128 numbers");
	esk_text_add(format, "+u%c:", "sd"[choice]);
	size_t i;
	json_array_foreach(ids, i, id)
	{
		if (!json_is_integer(id))
			return expected(at, "typeIds", "an array of up to 128 numbers");
		esk_text_add(format, "%s%" PRId64, i > 0 ? "," : "", (int64_t)json_integer_value(id));
	}
	return ESK_OK;
}

/* keysSorted is a flag of the field: see type_flags. */
static const struct {
	const char *name;
	const char *format; /* NULL: made by `make` */
	esk_status (*make)(const place *at, json_t *type, esk_text *format);
} types[] = {
	{"null", "n", NULL},
	{"bool", "b", NULL},
	{"utf8", "u", NULL},
	{"largeutf8", "U", NULL},
	{"binary", "z", NULL},
	{"largebinary", "Z", NULL},
	{"list", "+l", NULL},
	{"largelist", "+L", NULL},
	{"struct", "+s", NULL},
	{"map", "+m", NULL},
	{"int", NULL, int_format},
	{"floatingpoint", NULL, float_format},
	{"decimal", NULL, decimal_format},
	{"fixedsizebinary", NULL, fixed_binary_format},
	{"fixedsizelist", NULL, fixed_list_format},
	{"date", NULL, date_format},
	{"time", NULL, time_format},
	{"timestamp", NULL, timestamp_format},
	{"duration", NULL, duration_format},
	{"interval", NULL, interval_format},
	{"union", NULL, union_format},
};

static esk_status type_format(const place *at, json_t *type, const char *member, esk_text *format)
{
	const char *name;
	if (!json_is_object(type))
		return expected(at, member, "an object");
	esk_status status = take_text(at, type, "name", &name);
	if (status != ESK_OK)
		return status;
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (strcmp(types[i].name, name) == 0) {
			if (types[i].format != NULL)
				esk_text_add(format, "%s", types[i].format);
			else
				status = types[i].make(at, type, format);
			return status == ESK_OK && format->failed ? no_memory(at) : status;
		}
	return esk_fail(at->err, ESK_EUNSUPPORTED,
		"Arrow schema JSON, column \"%s\": the type \"%.60s\" is not known", at->path, name);
}

static esk_status type_flags(const place *at, json_t *type, int64_t *flags)
{
	bool sorted = false;
	if (json_object_get(type, "keysSorted") == NULL)
		return ESK_OK;
	esk_status status = take_bool(at, type, "keysSorted", &sorted);
	*flags |= sorted ? ARROW_FLAG_MAP_KEYS_SORTED : 0;
	return status;
}

/* ---- metadata ---- */

static uint8_t *put_i32(uint8_t *to, size_t number)
{
	int32_t value = (int32_t)number;
	memcpy(to, &value, sizeof value);
	return to + sizeof value;
}

/* The key or value of a pair, behind its size. Base64 is shorter than its text. */
static esk_status put_text(
	const place *at, json_t *pair, const char *name, const char *name_base64, uint8_t **to)
{
	json_t *text = json_object_get(pair, name), *coded = json_object_get(pair, name_base64);
	size_t bytes;
	uint8_t *body = *to + sizeof(int32_t);
	if (json_is_string(text)) {
		bytes = json_string_length(text);
		memcpy(body, json_string_value(text), bytes);
	} else if (!json_is_string(coded) ||
		   !esk_base64_decode(json_string_value(coded), json_string_length(coded), body, &bytes)) {
		return expected(at, "metadata", "an array of objects with the texts \"key\" and \"value\"");
	}
	*to = put_i32(*to, bytes) + bytes;
	return ESK_OK;
}

static size_t text_room(json_t *pair, const char *name, const char *name_base64)
{
	return json_string_length(json_object_get(pair, name)) +
	       json_string_length(json_object_get(pair, name_base64)) + sizeof(int32_t);
}

/* Encoded as the C data interface has it; *ret_metadata is malloc'ed, NULL for none. */
static esk_status take_metadata(const place *at, json_t *object, uint8_t **ret_metadata, size_t *ret_bytes)
{
	json_t *list = json_object_get(object, "metadata"), *pair;
	size_t i, room = sizeof(int32_t);
	if (list == NULL || json_is_null(list) || (json_is_array(list) && json_array_size(list) == 0))
		return ESK_OK;
	if (!json_is_array(list))
		return expected(at, "metadata", "an array");
	json_array_foreach(list, i, pair) room +=
		text_room(pair, "key", "key_base64") + text_room(pair, "value", "value_base64");
	if (room > INT32_MAX)
		return expected(at, "metadata", "smaller than 2 GiB");
	uint8_t *metadata = malloc(room), *to = metadata;
	if (metadata == NULL)
		return no_memory(at);
	esk_status status = ESK_OK;
	to = put_i32(to, json_array_size(list));
	for (i = 0; i < json_array_size(list) && status == ESK_OK; i++) {
		status = put_text(at, json_array_get(list, i), "key", "key_base64", &to);
		if (status == ESK_OK)
			status = put_text(at, json_array_get(list, i), "value", "value_base64", &to);
	}
	if (status != ESK_OK) {
		free(metadata);
		return status;
	}
	*ret_metadata = metadata;
	*ret_bytes = (size_t)(to - metadata);
	return ESK_OK;
}

/* ---- fields ---- */

static esk_status take_field(
	json_t *object, const char *parent, unsigned depth, struct ArrowSchema *ret_schema, esk_error *err);

/* The fields in `list` become the children of `schema`, which has room for them. */
static esk_status take_fields(
	json_t *list, const char *path, unsigned depth, struct ArrowSchema *schema, esk_error *err)
{
	esk_status status = ESK_OK;
	for (size_t i = 0; i < json_array_size(list) && status == ESK_OK; i++)
		status = take_field(json_array_get(list, i), path, depth, schema->children[i], err);
	return status;
}

static esk_status child_list(const place *at, json_t *object, const char *member, json_t **ret_list)
{
	json_t *list = json_object_get(object, member);
	if (list != NULL && !json_is_array(list))
		return expected(at, member, "an array of fields");
	if (json_array_size(list) > ESK_BUILD_MAX_FIELDS)
		return expected(at, member, "shorter: so many columns are not taken");
	*ret_list = list;
	return ESK_OK;
}

/* Makes the node of a type in place, with its children below it, and checks that they fit. */
static esk_status make_type(const place *at, const esk_arrow_field *field, json_t *children, unsigned depth,
	struct ArrowSchema *ret_schema)
{
	esk_arrow_field node = *field;
	node.children = (uint32_t)json_array_size(children);
	esk_arrow_type type;
	esk_status status = esk_arrow_schema_make(ret_schema, &node, at->err);
	if (status == ESK_OK)
		status = esk_build_type_of(ret_schema, at->path, depth, &type, at->err);
	return status == ESK_OK ? take_fields(children, at->path, depth + 1, ret_schema, at->err) : status;
}

/* A field with a dictionary: the indices, and below them the values with the children. */
static esk_status make_dictionary(const place *at, esk_arrow_field *field, json_t *dictionary,
	json_t *children, const char *value_format, int64_t value_flags, unsigned depth,
	struct ArrowSchema *ret_schema)
{
	esk_text format = {0};
	bool ordered = false;
	if (!json_is_object(dictionary))
		return expected(at, "dictionary", "an object");
	esk_status status = type_format(at, json_object_get(dictionary, "indexType"), "indexType", &format);
	if (status == ESK_OK && json_object_get(dictionary, "isOrdered") != NULL)
		status = take_bool(at, dictionary, "isOrdered", &ordered);
	field->flags |= ordered ? ARROW_FLAG_DICTIONARY_ORDERED : 0;
	field->format = format.data;
	field->dictionary = true;
	if (status == ESK_OK)
		status = esk_arrow_schema_make(ret_schema, field, at->err);
	esk_arrow_field values = {
		.format = value_format, .name = "", .flags = value_flags | ARROW_FLAG_NULLABLE};
	if (status == ESK_OK)
		status = make_type(at, &values, children, depth, ret_schema->dictionary);
	esk_arrow_type type;
	if (status == ESK_OK)
		status = esk_build_type_of(ret_schema, at->path, depth, &type, at->err);
	esk_text_free(&format);
	return status;
}

static esk_status fill_field(
	const place *at, json_t *object, const char *name, unsigned depth, struct ArrowSchema *ret_schema)
{
	esk_arrow_field field = {.name = name, .name_bytes = strlen(name)};
	json_t *type = json_object_get(object, "type"), *dictionary = json_object_get(object, "dictionary");
	json_t *children = NULL;
	esk_text format = {0};
	uint8_t *metadata = NULL;
	int64_t type_flag = 0;
	bool nullable = false;
	esk_status status = take_bool(at, object, "nullable", &nullable);
	if (status == ESK_OK)
		status = type_format(at, type, "type", &format);
	if (status == ESK_OK)
		status = type_flags(at, type, &type_flag);
	if (status == ESK_OK)
		status = child_list(at, object, "children", &children);
	if (status == ESK_OK)
		status = take_metadata(at, object, &metadata, &field.metadata_bytes);
	field.metadata = (const char *)metadata;
	field.flags = nullable ? ARROW_FLAG_NULLABLE : 0;
	field.format = format.data;
	if (status == ESK_OK && dictionary != NULL && !json_is_null(dictionary)) {
		status = make_dictionary(
			at, &field, dictionary, children, format.data, type_flag, depth, ret_schema);
	} else if (status == ESK_OK) {
		field.flags |= type_flag;
		status = make_type(at, &field, children, depth, ret_schema);
	}
	free(metadata);
	esk_text_free(&format);
	return status;
}

static esk_status take_field(
	json_t *object, const char *parent, unsigned depth, struct ArrowSchema *ret_schema, esk_error *err)
{
	place at = {parent != NULL ? parent : "", err};
	const char *name;
	if (depth > ESK_ARROW_DEPTH)
		return esk_fail(err, ESK_EUNSUPPORTED,
			"Arrow schema JSON, column \"%.100s\": nested more than %d deep", at.path,
			ESK_ARROW_DEPTH);
	esk_status status = take_text(&at, object, "name", &name);
	if (status != ESK_OK)
		return status;
	char *path = esk_build_path(parent, name);
	if (path == NULL)
		return no_memory(&at);
	at.path = path;
	status = fill_field(&at, object, name, depth, ret_schema);
	free(path);
	return status;
}

static esk_status take_schema(json_t *root, struct ArrowSchema *ret_schema, esk_error *err)
{
	place at = {"", err};
	json_t *fields = NULL;
	uint8_t *metadata = NULL;
	esk_arrow_field field = {.format = "+s", .name = ""};
	if (!json_is_array(json_object_get(root, "fields")))
		return esk_fail(err, ESK_EINVAL,
			"Arrow schema JSON: an object with an array \"fields\" was expected");
	esk_status status = child_list(&at, root, "fields", &fields);
	if (status == ESK_OK)
		status = take_metadata(&at, root, &metadata, &field.metadata_bytes);
	field.metadata = (const char *)metadata;
	if (status == ESK_OK)
		status = make_type(&at, &field, fields, 0, ret_schema);
	free(metadata);
	return status;
}

esk_status esk_arrow_schema_from_json(const char *text, struct ArrowSchema *ret_schema, esk_error *err)
{
	struct ArrowSchema schema = {0};
	json_error_t fault;
	if (text == NULL)
		return esk_fail(err, ESK_EINVAL, "the JSON of an Arrow schema is missing");
	json_t *root = json_loads(text, JSON_ALLOW_NUL, &fault);
	if (root == NULL)
		return esk_fail(err, ESK_EINVAL, "Arrow schema JSON, line %d, column %d: %s", fault.line,
			fault.column, fault.text);
	esk_status status = take_schema(root, &schema, err);
	json_decref(root);
	if (status == ESK_OK)
		*ret_schema = schema;
	else if (schema.release != NULL)
		schema.release(&schema);
	return status;
}
