/* Whether two schemas take the same batches, and where they first differ; whether one can be stored at all.
 */
#include "store/arrow_map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static esk_status compare(
	const struct ArrowSchema *a, const struct ArrowSchema *b, const char *path, esk_error *err);

static const char *name_of(const struct ArrowSchema *schema)
{
	return schema->name != NULL ? schema->name : "";
}

static int64_t place_of(const struct ArrowSchema *parent, const char *name)
{
	for (int64_t i = 0; i < parent->n_children; i++)
		if (strcmp(name_of(parent->children[i]), name) == 0)
			return i;
	return -1;
}

/* What differs where the fields of two structs have not the same names in the same order. */
static esk_status name_difference(
	const struct ArrowSchema *a, const struct ArrowSchema *b, const char *path, esk_error *err)
{
	const char *in = *path != '\0' ? path : "the schema";
	for (int64_t i = 0; i < a->n_children; i++)
		if (place_of(b, name_of(a->children[i])) < 0)
			return esk_fail(err, ESK_ENOTFOUND, "column \"%s\" is missing in %s",
				name_of(a->children[i]), in);
	for (int64_t i = 0; i < b->n_children; i++)
		if (place_of(a, name_of(b->children[i])) < 0)
			return esk_fail(
				err, ESK_ETYPE, "column \"%s\" was added to %s", name_of(b->children[i]), in);
	for (int64_t i = 0; i < a->n_children && i < b->n_children; i++) {
		const char *name = name_of(a->children[i]);
		if (strcmp(name, name_of(b->children[i])) != 0)
			return esk_fail(err, ESK_ETYPE,
				"column \"%s\" of %s was column number %lld and is number %lld: the order "
				"has changed",
				name, in, (long long)i + 1, (long long)place_of(b, name) + 1);
	}
	return ESK_OK;
}

static bool same_names(const struct ArrowSchema *a, const struct ArrowSchema *b)
{
	if (a->n_children != b->n_children)
		return false;
	for (int64_t i = 0; i < a->n_children; i++)
		if (strcmp(name_of(a->children[i]), name_of(b->children[i])) != 0)
			return false;
	return true;
}

static esk_status compare_children(
	const struct ArrowSchema *a, const struct ArrowSchema *b, const char *path, esk_error *err)
{
	bool named = strcmp(a->format, "+s") == 0;
	if (named && !same_names(a, b))
		return name_difference(a, b, path, err);
	if (a->n_children != b->n_children)
		return esk_fail(err, ESK_ETYPE, "column \"%s\" had %lld children and has %lld", path,
			(long long)a->n_children, (long long)b->n_children);
	esk_status status = ESK_OK;
	for (int64_t i = 0; i < a->n_children && status == ESK_OK; i++) {
		char *below = esk_map_join(path, named ? name_of(a->children[i]) : "values");
		status = below != NULL ? compare(a->children[i], b->children[i], below, err)
				       : esk_fail_memory(err, strlen(path), "a column's path");
		free(below);
	}
	return status;
}

/* Extension types that are one tell the same story of the same storage; a tensor's is its shape. */
static esk_status compare_extension(
	const struct ArrowSchema *a, const struct ArrowSchema *b, const char *path, esk_error *err)
{
	static const char *const keys[] = {"ARROW:extension:name", "ARROW:extension:metadata"};
	esk_status status = ESK_OK;
	for (int k = 0; k < 2 && status == ESK_OK; k++) {
		char *was = esk_map_metadata(a, keys[k]), *is = esk_map_metadata(b, keys[k]);
		if (strcmp(was != NULL ? was : "", is != NULL ? is : "") != 0)
			status = esk_fail(err, ESK_ETYPE,
				"column \"%s\": the extension type was \"%.80s\" and is \"%.80s\"", path,
				was != NULL ? was : "none", is != NULL ? is : "none");
		free(was);
		free(is);
	}
	return status;
}

static esk_status compare(
	const struct ArrowSchema *a, const struct ArrowSchema *b, const char *path, esk_error *err)
{
	if (a->format == NULL || b == NULL || b->format == NULL)
		return esk_fail(err, ESK_EINVAL, "column \"%s\" has no type", path);
	if (strcmp(a->format, b->format) != 0)
		return esk_fail(err, ESK_ETYPE,
			"column \"%s\": the type was %s (\"%.40s\") and is %s (\"%.40s\")", path,
			esk_arrow_format_name(a->format), a->format, esk_arrow_format_name(b->format),
			b->format);
	if (*path != '\0' && ((a->flags ^ b->flags) & ARROW_FLAG_NULLABLE) != 0)
		return esk_fail(err, ESK_ETYPE, "column \"%s\" was %s and is %s", path,
			(a->flags & ARROW_FLAG_NULLABLE) != 0 ? "nullable" : "not nullable",
			(b->flags & ARROW_FLAG_NULLABLE) != 0 ? "nullable" : "not nullable");
	if ((a->dictionary == NULL) != (b->dictionary == NULL))
		return esk_fail(err, ESK_ETYPE, "column \"%s\" was %sa dictionary and is %s", path,
			a->dictionary != NULL ? "" : "not ", b->dictionary != NULL ? "one" : "none");
	esk_status status = *path != '\0' ? compare_extension(a, b, path, err) : ESK_OK;
	if (status == ESK_OK)
		status = compare_children(a, b, path, err);
	if (status != ESK_OK || a->dictionary == NULL)
		return status;
	status = compare(a->dictionary, b->dictionary, path, err);
	return status == ESK_OK ? ESK_OK : esk_fail_in(err, status, "the dictionary's values");
}

esk_status esk_map_same_schema(
	const struct ArrowSchema *expected, const struct ArrowSchema *found, esk_error *err)
{
	if (found == NULL || found->release == NULL)
		return esk_fail(err, ESK_EINVAL, "there is no Arrow schema, or it was released");
	return compare(expected, found, "", err);
}

esk_status esk_arrow_same_schema(
	const struct ArrowSchema *expected, const struct ArrowSchema *found, esk_error *err)
{
	if (expected == NULL || expected->release == NULL)
		return esk_fail(err, ESK_EINVAL, "there is no Arrow schema to compare with");
	return esk_map_same_schema(expected, found, err);
}

esk_status esk_arrow_storable(const char *stream, const struct ArrowSchema *schema, esk_error *err)
{
	struct ArrowSchema copy; /* of what is sound */
	esk_map map;
	if (schema == NULL || schema->release == NULL)
		return esk_fail(err, ESK_EINVAL, "there is no Arrow schema, or it was released");
	esk_status status = esk_arrow_schema_copy(schema, &copy, err);
	if (status != ESK_OK)
		return status;
	status = esk_map_make(stream, &copy, &map, err);
	if (status == ESK_OK)
		esk_map_clear(&map);
	copy.release(&copy);
	return status;
}
