/* Schema objects of callers, checked before anything is built from them; the metadata pairs of a schema. */
#include "arrow/build.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static bool children_fit(const struct ArrowSchema *schema, const esk_arrow_type *type)
{
	if (schema->n_children < 0 || schema->n_children > ESK_BUILD_MAX_FIELDS)
		return false;
	if (!type->variable_children && schema->n_children != type->children)
		return false;
	return schema->n_children == 0 || schema->children != NULL;
}

static esk_status check_layout(
	const esk_arrow_type *type, const struct ArrowSchema *schema, const char *path, esk_error *err)
{
	int16_t child_of[128];
	if (type->layout == ESK_ARROW_RUN_END)
		return esk_fail(err, ESK_EUNSUPPORTED, "column \"%s\": the Arrow type %s is not encoded",
			path, esk_arrow_format_name(schema->format));
	if (!children_fit(schema, type))
		return esk_fail(err, ESK_EINVAL, "column \"%s\": a %s with %" PRId64 " children", path,
			esk_arrow_format_name(schema->format), schema->n_children);
	if (type->layout == ESK_ARROW_SPARSE_UNION || type->layout == ESK_ARROW_DENSE_UNION) {
		esk_status status = esk_arrow_type_ids(type, schema->n_children, child_of, err);
		if (status != ESK_OK)
			return esk_fail_in(err, status, "column \"%s\"", path);
	}
	return ESK_OK;
}

esk_status esk_build_type_of(const struct ArrowSchema *schema, const char *path, unsigned depth,
	esk_arrow_type *ret_type, esk_error *err)
{
	esk_arrow_type type;
	if (depth > ESK_ARROW_DEPTH)
		return esk_fail(err, ESK_EUNSUPPORTED,
			"column \"%.100s\": fields are nested more than %d deep", path, ESK_ARROW_DEPTH);
	if (schema == NULL || schema->release == NULL || schema->format == NULL)
		return esk_fail(err, ESK_EINVAL,
			"column \"%s\": the Arrow schema was released or has no format", path);
	esk_status status = esk_arrow_type_parse(schema->format, &type, err);
	if (status != ESK_OK)
		return esk_fail_in(err, status, "column \"%s\"", path);
	status = check_layout(&type, schema, path, err);
	if (status != ESK_OK)
		return status;
	if (schema->dictionary != NULL && type.kind != ESK_ARROW_SIGNED && type.kind != ESK_ARROW_UNSIGNED)
		return esk_fail(err, ESK_EINVAL,
			"column \"%s\": the indices of a dictionary are integers, not %s", path,
			esk_arrow_format_name(schema->format));
	if (schema->dictionary != NULL && schema->dictionary->dictionary != NULL)
		return esk_fail(err, ESK_EUNSUPPORTED,
			"column \"%s\": the values of a dictionary are from a dictionary again, which IPC "
			"cannot say",
			path);
	*ret_type = type;
	return ESK_OK;
}

esk_status esk_build_check_root(const struct ArrowSchema *schema, esk_error *err)
{
	esk_arrow_type type;
	if (schema == NULL || schema->release == NULL)
		return esk_fail(err, ESK_EINVAL, "the Arrow schema is missing or was released");
	if (schema->format == NULL || strcmp(schema->format, "+s") != 0 || schema->dictionary != NULL)
		return esk_fail(err, ESK_EINVAL,
			"the schema of record batches is a struct of columns, not %s",
			esk_arrow_format_name(schema->format));
	return esk_build_type_of(schema, "", 0, &type, err);
}

char *esk_build_path(const char *parent, const char *name)
{
	size_t front = parent != NULL && parent[0] != '\0' ? strlen(parent) + 1 : 0;
	size_t bytes = name != NULL ? strlen(name) : 0;
	char *path = malloc(front + bytes + 1);
	if (path == NULL)
		return NULL;
	if (front > 0) {
		memcpy(path, parent, front - 1);
		path[front - 1] = '.';
	}
	memcpy(path + front, name != NULL ? name : "", bytes);
	path[front + bytes] = '\0';
	return path;
}

static int32_t take_i32(const char **at)
{
	int32_t number;
	memcpy(&number, *at, sizeof number);
	*at += sizeof number;
	return number;
}

esk_build_pairs esk_build_pairs_begin(const char *metadata)
{
	esk_build_pairs pairs = {.at = metadata};
	if (metadata != NULL)
		pairs.left = take_i32(&pairs.at);
	return pairs;
}

bool esk_build_pairs_next(esk_build_pairs *pairs, const char **ret_key, int32_t *ret_key_bytes,
	const char **ret_value, int32_t *ret_value_bytes)
{
	if (pairs->left <= 0)
		return false;
	int32_t key_bytes = take_i32(&pairs->at);
	const char *key = pairs->at;
	if (key_bytes < 0)
		return false;
	pairs->at += key_bytes;
	int32_t value_bytes = take_i32(&pairs->at);
	if (value_bytes < 0)
		return false;
	*ret_key = key;
	*ret_key_bytes = key_bytes;
	*ret_value = pairs->at;
	*ret_value_bytes = value_bytes;
	pairs->at += value_bytes;
	pairs->left--;
	return true;
}
