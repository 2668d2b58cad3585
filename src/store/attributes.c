/* Attributes of a file's root as a JSON object of single values: those that a caller gives a run, and those
 * that a file has. */
#include "store/internal.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Integers beyond int64 become reals, as in a run's metadata. */
static json_t *parse(const char *json, json_error_t *why)
{
	json_t *object = json_loads(json, 0, why);
	if (object == NULL && json_error_code(why) == json_error_numeric_overflow)
		object = json_loads(json, JSON_DECODE_INT_AS_REAL, why);
	return object;
}

static esk_status read_value(const char *name, const json_t *value, esk_h5_scalar *ret, esk_error *err)
{
	*ret = (esk_h5_scalar){.kind = ESK_H5_INTEGER};
	switch (json_typeof(value)) {
	case JSON_STRING:
		ret->kind = ESK_H5_TEXT;
		ret->text = strdup(json_string_value(value));
		return ret->text != NULL ? ESK_OK : esk_fail_memory(err, json_string_length(value), name);
	case JSON_INTEGER:
		ret->integer = json_integer_value(value);
		return ESK_OK;
	case JSON_REAL:
		ret->kind = ESK_H5_REAL;
		ret->real = json_real_value(value);
		return ESK_OK;
	case JSON_TRUE:
	case JSON_FALSE:
		ret->kind = ESK_H5_TRUTH;
		ret->integer = json_is_true(value);
		return ESK_OK;
	default:
		return esk_fail(err, ESK_EINVAL,
			"attribute \"%s\": expected a number, a text, true or false, found %s; keep it in "
			"the metadata",
			name,
			json_is_object(value)  ? "an object"
			: json_is_array(value) ? "an array"
					       : "null");
	}
}

esk_status esk_attributes_parse(const char *object_path, const char *json, esk_attribute **ret_attributes,
	size_t *ret_count, esk_error *err)
{
	json_error_t why;
	json_t *object = parse(json, &why);
	if (object == NULL)
		return esk_fail(
			err, ESK_EINVAL, "attributes, line %d column %d: %s", why.line, why.column, why.text);
	esk_status status = ESK_OK;
	size_t count = 0;
	esk_attribute *attributes = calloc(json_object_size(object) + 1, sizeof *attributes);
	if (attributes == NULL)
		status = esk_fail_memory(err, sizeof *attributes, "attributes");
	else if (!json_is_object(object))
		status = esk_fail(err, ESK_EINVAL, "attributes are no JSON object: \"%.60s\"", json);
	const char *name;
	json_t *value;
	json_object_foreach(object, name, value)
	{
		if (status == ESK_OK)
			status = esk_attribute_check(object_path, name, err);
		if (status == ESK_OK)
			status = read_value(name, value, &attributes[count].value, err);
		if (status == ESK_OK)
			snprintf(attributes[count++].name, sizeof attributes->name, "%s", name);
	}
	json_decref(object);
	if (status != ESK_OK) {
		esk_attributes_free(attributes, count);
		return status;
	}
	*ret_attributes = attributes;
	*ret_count = count;
	return ESK_OK;
}

/* ---- reading ---- */

static json_t *json_of(const esk_h5_scalar *value)
{
	switch (value->kind) {
	case ESK_H5_INTEGER:
		return json_integer(value->integer);
	case ESK_H5_REAL: /* NaN and infinities are no JSON */
		return isfinite(value->real) ? json_real(value->real) : json_null();
	case ESK_H5_TRUTH:
		return json_boolean(value->integer);
	default:
		return json_string(value->text);
	}
}

/* Adds an attribute to the object; Esker's own, and what is no UTF-8, are passed over. */
static esk_status add_attribute(void *arg, const char *name, const esk_h5_scalar *value, esk_error *err)
{
	if (strncmp(name, "esker_", 6) == 0)
		return ESK_OK;
	json_t *json = json_of(value);
	if (json == NULL && value->kind == ESK_H5_TEXT)
		return ESK_OK;
	if (json == NULL)
		return esk_fail_memory(err, sizeof *value, name);
	json_object_set_new(arg, name, json);
	return ESK_OK;
}

static esk_status dump(json_t *object, esk_status status, char **ret_json, esk_error *err)
{
	char *json = status == ESK_OK ? json_dumps(object, 0) : NULL;
	json_decref(object);
	if (status == ESK_OK && json == NULL)
		status = esk_fail_memory(err, 64, "attributes");
	if (status == ESK_OK)
		*ret_json = json;
	return status;
}

esk_status esk_attributes_json(const esk_attribute *attributes, size_t count, char **ret_json, esk_error *err)
{
	json_t *object = json_object();
	esk_status status = ESK_OK;
	if (object == NULL)
		return esk_fail_memory(err, 64, "attributes");
	for (size_t i = 0; i < count && status == ESK_OK; i++)
		status = add_attribute(object, attributes[i].name, &attributes[i].value, err);
	return dump(object, status, ret_json, err);
}

esk_status esk_attributes_read_group(esk_h5 *file, const char *path, char **ret_json, esk_error *err)
{
	json_t *object = json_object();
	if (object == NULL)
		return esk_fail_memory(err, 64, "attributes");
	return dump(object, esk_h5_each_scalar(file, path, add_attribute, object, err), ret_json, err);
}

esk_status esk_attributes_read(esk_h5 *file, char **ret_json, esk_error *err)
{
	json_t *object = json_object();
	if (object == NULL)
		return esk_fail_memory(err, 64, "attributes");
	esk_status status = esk_h5_each_scalar(file, "/", add_attribute, object, err);
	const char *metadata = json_string_value(json_object_get(object, "metadata"));
	if (metadata != NULL && esk_metadata_check(metadata, NULL) == ESK_OK)
		json_object_del(object, "metadata");
	return dump(object, status, ret_json, err);
}
