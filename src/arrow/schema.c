/* ArrowSchema trees: see schema.h. Each node is one allocation, so that a child may be moved out of its
 * parent, as the C data interface permits. */
#include "arrow/schema.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define METADATA_BYTES ((size_t)1 << 30)

static void schema_release(struct ArrowSchema *schema)
{
	for (int64_t i = 0; i < schema->n_children; i++) {
		if (schema->children[i]->release != NULL)
			schema->children[i]->release(schema->children[i]);
	}
	if (schema->dictionary != NULL && schema->dictionary->release != NULL)
		schema->dictionary->release(schema->dictionary);
	schema->release = NULL;
	free(schema->private_data);
}

esk_status esk_arrow_schema_make(struct ArrowSchema *ret_schema, const esk_arrow_field *field, esk_error *err)
{
	size_t format_bytes = strlen(field->format) + 1;
	size_t structs = (size_t)field->children + field->dictionary;
	size_t bytes = structs * sizeof(struct ArrowSchema) + field->children * sizeof(void *) +
		       format_bytes + field->name_bytes + 1 + field->metadata_bytes;
	uint8_t *block = calloc(1, bytes);
	if (block == NULL)
		return esk_fail_memory(err, bytes, "an Arrow schema");
	struct ArrowSchema *inner = (struct ArrowSchema *)(void *)block;
	struct ArrowSchema **children = (struct ArrowSchema **)(void *)(inner + structs);
	char *text = (char *)(children + field->children);
	struct ArrowSchema schema = {.flags = field->flags, .n_children = field->children};
	schema.format = memcpy(text, field->format, format_bytes);
	text += format_bytes;
	schema.name = text;
	if (field->name_bytes > 0)
		memcpy(text, field->name, field->name_bytes);
	text += field->name_bytes + 1;
	if (field->metadata_bytes > 0)
		schema.metadata = memcpy(text, field->metadata, field->metadata_bytes);
	for (uint32_t i = 0; i < field->children; i++)
		children[i] = &inner[i];
	schema.children = field->children == 0 ? NULL : children;
	schema.dictionary = field->dictionary ? &inner[field->children] : NULL;
	schema.release = schema_release;
	schema.private_data = block;
	*ret_schema = schema;
	return ESK_OK;
}

bool esk_arrow_metadata_bytes(const char *metadata, size_t *ret_bytes)
{
	size_t bytes = 0;
	if (metadata != NULL) {
		int64_t texts = 2 * (int64_t)esk_load_i32(metadata);
		if (texts < 0)
			return false;
		bytes = 4;
		for (int64_t i = 0; i < texts; i++) {
			int32_t length = esk_load_i32(metadata + bytes);
			if (length < 0 || bytes + 4 + (size_t)length > METADATA_BYTES)
				return false;
			bytes += 4 + (size_t)length;
		}
	}
	*ret_bytes = bytes;
	return true;
}

static esk_status copy_node(
	const struct ArrowSchema *from, struct ArrowSchema *ret_to, unsigned depth, esk_error *err)
{
	if (from->release == NULL || from->format == NULL)
		return esk_fail(err, ESK_EINVAL, "an Arrow schema was released, or has no format");
	size_t metadata_bytes;
	if (!esk_arrow_metadata_bytes(from->metadata, &metadata_bytes))
		return esk_fail(err, ESK_EINVAL, "the metadata of the Arrow field \"%.60s\" is not sound",
			from->name);
	if (depth > ESK_ARROW_DEPTH)
		return esk_fail(
			err, ESK_EINVAL, "an Arrow schema is nested more than %d deep", ESK_ARROW_DEPTH);
	if (from->n_children < 0 || from->n_children > INT32_MAX ||
		(from->n_children > 0 && from->children == NULL))
		return esk_fail(err, ESK_EINVAL, "an Arrow schema says it has %lld children and has none",
			(long long)from->n_children);
	const char *name = from->name == NULL ? "" : from->name;
	esk_arrow_field field = {.format = from->format,
		.name = name,
		.name_bytes = strlen(name),
		.metadata = from->metadata,
		.metadata_bytes = metadata_bytes,
		.flags = from->flags,
		.children = (uint32_t)from->n_children,
		.dictionary = from->dictionary != NULL};
	struct ArrowSchema schema;
	esk_status status = esk_arrow_schema_make(&schema, &field, err);
	if (status != ESK_OK)
		return status;
	for (int64_t i = 0; i < from->n_children && status == ESK_OK; i++) {
		status = from->children[i] == NULL
				 ? esk_fail(err, ESK_EINVAL, "child %lld of an Arrow schema is NULL",
					   (long long)i)
				 : copy_node(from->children[i], schema.children[i], depth + 1, err);
	}
	if (status == ESK_OK && from->dictionary != NULL)
		status = copy_node(from->dictionary, schema.dictionary, depth + 1, err);
	if (status == ESK_OK)
		*ret_to = schema;
	else
		schema.release(&schema);
	return status;
}

esk_status esk_arrow_schema_copy(
	const struct ArrowSchema *schema, struct ArrowSchema *ret_schema, esk_error *err)
{
	return copy_node(schema, ret_schema, 0, err);
}

static bool same_text(const char *one, const char *other)
{
	return strcmp(one == NULL ? "" : one, other == NULL ? "" : other) == 0;
}

static bool same_metadata(const char *one, const char *other)
{
	size_t one_bytes, other_bytes;
	if (!esk_arrow_metadata_bytes(one, &one_bytes) || !esk_arrow_metadata_bytes(other, &other_bytes))
		return false;
	return one_bytes == other_bytes && (one_bytes == 0 || memcmp(one, other, one_bytes) == 0);
}

bool esk_arrow_schema_same(const struct ArrowSchema *one, const struct ArrowSchema *other)
{
	if (!same_text(one->format, other->format) || !same_text(one->name, other->name) ||
		one->flags != other->flags || !same_metadata(one->metadata, other->metadata) ||
		one->n_children != other->n_children ||
		(one->dictionary == NULL) != (other->dictionary == NULL))
		return false;
	for (int64_t i = 0; i < one->n_children; i++) {
		if (!esk_arrow_schema_same(one->children[i], other->children[i]))
			return false;
	}
	return one->dictionary == NULL || esk_arrow_schema_same(one->dictionary, other->dictionary);
}

int esk_arrow_errno(esk_status status)
{
	switch (status) {
	case ESK_OK:
		return 0;
	case ESK_ENOMEM:
		return ENOMEM;
	case ESK_EIO:
		return EIO;
	case ESK_EUNSUPPORTED:
		return ENOTSUP;
	default:
		return EINVAL;
	}
}
