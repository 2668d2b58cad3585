/* The mirror of a run's metadata that queries look into. May include: base, os, model. */
#include "catalog/connection.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Integers beyond int64 (a seed, say) are valid JSON: they become reals. */
static json_t *parse(const char *text, json_error_t *fault)
{
	size_t flags = JSON_ALLOW_NUL;
	json_t *object = json_loads(text, flags | JSON_DECODE_ANY, fault);
	if (object == NULL && json_error_code(fault) == json_error_numeric_overflow)
		object = json_loads(text, flags | JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, fault);
	return object;
}

static esk_status parse_object(const char *text, json_t **ret_object, esk_error *err)
{
	json_error_t fault;
	json_t *object = parse(text, &fault);
	if (object == NULL)
		return esk_fail(err, ESK_EINVAL, "metadata is not JSON at line %d, column %d (byte %d): %s",
			fault.line, fault.column, fault.position, fault.text);
	if (!json_is_object(object)) {
		json_decref(object);
		return esk_fail(err, ESK_EINVAL,
			"metadata: expected a JSON object at byte %zu, found \"%.20s\"",
			strspn(text, " \t\r\n"), text + strspn(text, " \t\r\n"));
	}
	*ret_object = object;
	return ESK_OK;
}

static void bind_number(esk_sql *sql, double value)
{
	/* Whole numbers that were read as reals beside one that is too big for an integer. */
	if (trunc(value) == value && fabs(value) <= 9007199254740992.0)
		esk_sql_bind_i64(sql, (int64_t)value);
	else
		esk_sql_bind_real(sql, value);
}

static esk_status add_member(
	esk_catalog *catalog, int64_t run_id, const char *key, const json_t *value, esk_error *err)
{
	if (!json_is_string(value) && !json_is_number(value) && !json_is_boolean(value))
		return ESK_OK;
	esk_sql sql;
	esk_status status = esk_sql_start(&sql, catalog, ESK_SQL_ADD_METADATA, "storing metadata", err);
	if (status != ESK_OK)
		return status;
	esk_sql_bind_i64(&sql, run_id);
	esk_sql_bind_text(&sql, key);
	if (json_is_string(value))
		esk_sql_bind_bytes(&sql, json_string_value(value), json_string_length(value));
	else if (json_is_integer(value))
		esk_sql_bind_i64(&sql, json_integer_value(value));
	else if (json_is_real(value))
		bind_number(&sql, json_real_value(value));
	else
		esk_sql_bind_i64(&sql, json_is_true(value));
	return esk_sql_run(&sql, err);
}

esk_status esk_sql_mirror_metadata(esk_catalog *catalog, int64_t run_id, const char *text, esk_error *err)
{
	json_t *object = NULL;
	esk_status status = parse_object(text, &object, err);
	if (status != ESK_OK)
		return status;
	esk_sql sql;
	status = esk_sql_start(&sql, catalog, ESK_SQL_CLEAR_METADATA, "storing metadata", err);
	if (status == ESK_OK) {
		esk_sql_bind_i64(&sql, run_id);
		status = esk_sql_run(&sql, err);
	}
	const char *key;
	json_t *value;
	json_object_foreach(object, key, value)
	{
		if (status == ESK_OK)
			status = add_member(catalog, run_id, key, value, err);
	}
	json_decref(object);
	return status;
}
