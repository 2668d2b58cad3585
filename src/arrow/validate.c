/* esk_arrow_validate: arrays of callers, walked with the checks of check.c. */
#include "arrow/check.h"
#include <string.h>

static const esk_arrow_subject subject = {.code = ESK_EINVAL, .most_rows = INT64_MAX};

#define wrong(path, err, ...) esk_arrow_wrong(&subject, path, ESK_EINVAL, err, __VA_ARGS__)

static esk_status walk(const esk_arrow_path *up, const struct ArrowSchema *schema,
	const struct ArrowArray *array, unsigned depth, esk_arrow_node *node, esk_error *err);

static esk_status match(const esk_arrow_path *path, const struct ArrowSchema *schema,
	const struct ArrowArray *array, const esk_arrow_type *type, esk_error *err)
{
	bool encoded = schema->dictionary != NULL;
	if (schema->n_children != array->n_children || schema->n_children < 0 ||
		array->n_children > INT32_MAX)
		return wrong(path, err, "its schema has %lld children and its array %lld",
			(long long)schema->n_children, (long long)array->n_children);
	if (!type->variable_children && array->n_children != type->children)
		return wrong(path, err, "a type %s has %lld children: %u were expected",
			esk_arrow_format_name(schema->format), (long long)array->n_children, type->children);
	if (array->n_children > 0 && (schema->children == NULL || array->children == NULL))
		return wrong(path, err, "its children are not there");
	if (array->n_buffers != type->buffers)
		return wrong(path, err, "a type %s has %lld buffers: %u were expected",
			esk_arrow_format_name(schema->format), (long long)array->n_buffers, type->buffers);
	if (type->buffers > 0 && array->buffers == NULL)
		return wrong(path, err, "its buffers are not there");
	if (encoded != (array->dictionary != NULL))
		return wrong(path, err, "only one of its schema and its array has a dictionary");
	if (encoded && type->kind != ESK_ARROW_SIGNED && type->kind != ESK_ARROW_UNSIGNED)
		return wrong(path, err, "its dictionary has indices of type %s",
			esk_arrow_format_name(schema->format));
	return ESK_OK;
}

/* What the format says of the children, beyond how many they are. */
static esk_status match_children(const esk_arrow_path *path, const esk_arrow_node *node,
	const struct ArrowSchema *schema, const esk_arrow_node *first_child, esk_error *err)
{
	if (node->type.layout == ESK_ARROW_MAP &&
		(first_child->type.layout != ESK_ARROW_STRUCT || schema->children[0]->n_children != 2))
		return wrong(path, err, "the child of a map is no struct of key and value");
	if (node->type.layout == ESK_ARROW_RUN_END &&
		(first_child->type.kind != ESK_ARROW_SIGNED || first_child->type.width_bytes < 2 ||
			schema->children[0]->dictionary != NULL))
		return wrong(path, err, "run ends are of type %s: int16, int32 or int64 were expected",
			esk_arrow_format_name(schema->children[0]->format));
	return ESK_OK;
}

static esk_status walk_children(const esk_arrow_path *path, const struct ArrowSchema *schema,
	const struct ArrowArray *array, unsigned depth, esk_arrow_node *ret_first, esk_error *err)
{
	for (int64_t i = 0; i < array->n_children; i++) {
		esk_arrow_node child;
		if (schema->children[i] == NULL || array->children[i] == NULL)
			return wrong(path, err, "child %lld is not there", (long long)i);
		esk_status status =
			walk(path, schema->children[i], array->children[i], depth + 1, &child, err);
		if (status != ESK_OK)
			return status;
		if (i == 0)
			*ret_first = child;
	}
	return ESK_OK;
}

static esk_status walk(const esk_arrow_path *up, const struct ArrowSchema *schema,
	const struct ArrowArray *array, unsigned depth, esk_arrow_node *node, esk_error *err)
{
	const esk_arrow_path path = {.up = up, .name = schema->name};
	const esk_arrow_path *at = depth == 0 ? NULL : &path; /* a batch itself has no name */
	esk_arrow_node first_child = {0}, values;
	int16_t child_of[128];
	esk_error reason = {0};
	*node = (esk_arrow_node){.schema = schema, .slot = ESK_ARROW_NO_SLOT, .children = &first_child};
	if (depth > ESK_ARROW_DEPTH)
		return wrong(up, err, "it is nested more than %d deep", ESK_ARROW_DEPTH);
	if (schema->release == NULL || array->release == NULL)
		return wrong(at, err, "it was released");
	esk_status status = esk_arrow_type_parse(schema->format, &node->type, &reason);
	if (status != ESK_OK)
		return esk_arrow_wrong(&subject, at, status, err, "%s", reason.message);
	status = match(at, schema, array, &node->type, err);
	if (status == ESK_OK)
		status = walk_children(at, schema, array, depth, &first_child, err);
	if (status == ESK_OK)
		status = match_children(at, node, schema, &first_child, err);
	if (status == ESK_OK && schema->dictionary != NULL)
		status = walk(at, schema->dictionary, array->dictionary, depth + 1, &values, err);
	if (status != ESK_OK)
		return status;
	if (node->type.layout == ESK_ARROW_SPARSE_UNION || node->type.layout == ESK_ARROW_DENSE_UNION) {
		status = esk_arrow_type_ids(&node->type, array->n_children, child_of, &reason);
		if (status != ESK_OK)
			return esk_arrow_wrong(&subject, at, status, err, "%s", reason.message);
		node->child_of = child_of;
	}
	status = esk_arrow_check(&subject, at, node, array, NULL, err);
	node->child_of = NULL;
	node->children = NULL;
	return status;
}

esk_status esk_arrow_validate(
	const struct ArrowSchema *schema, const struct ArrowArray *array, esk_error *err)
{
	esk_arrow_node node;
	return walk(NULL, schema, array, 0, &node, err);
}
