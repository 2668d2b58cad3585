/* The encoder: a schema compiled into trees, and batches written into memory. */
#include "arrow/encode.h"

#include <stdlib.h>
#include <string.h>

/* ---- compiling ---- */

typedef struct compiler {
	esk_arrow_encoder *encoder;
	esk_error *err;
} compiler;

static esk_status add_tree(compiler *c, uint32_t outer, uint32_t *ret_tree)
{
	esk_arrow_encoder *e = c->encoder;
	esk_encode_tree *trees = realloc(e->trees, (e->tree_count + 1) * sizeof *trees);
	if (trees == NULL)
		return esk_fail_memory(
			c->err, (e->tree_count + 1) * sizeof *trees, "the trees of an Arrow schema");
	e->trees = trees;
	trees[e->tree_count] = (esk_encode_tree){.outer = outer};
	*ret_tree = e->tree_count++;
	if (outer != 0)
		trees[outer].has_inner = true;
	return ESK_OK;
}

/* Takes `path`, also where it fails. */
static esk_status add_node(
	compiler *c, uint32_t tree_index, const esk_arrow_type *type, char *path, uint32_t *ret_node)
{
	esk_encode_tree *tree = &c->encoder->trees[tree_index];
	if (tree->node_count == tree->node_room) {
		uint32_t room = 2 * tree->node_room + 4;
		esk_encode_node *nodes =
			room <= 2 * ESK_BUILD_MAX_FIELDS ? realloc(tree->nodes, room * sizeof *nodes) : NULL;
		if (nodes == NULL) {
			free(path);
			return esk_fail_memory(c->err, room * sizeof *nodes, "the fields of an Arrow schema");
		}
		tree->nodes = nodes;
		tree->node_room = room;
	}
	tree->nodes[tree->node_count] = (esk_encode_node){.layout = type->layout,
		.validity = type->validity,
		.width_bytes = type->width_bytes,
		.list_size = (uint32_t)type->list_size,
		.buffers = type->buffers,
		.path = path};
	tree->buffer_count += type->buffers;
	*ret_node = tree->node_count++;
	return ESK_OK;
}

static esk_status compile_field(
	compiler *c, uint32_t tree, const struct ArrowSchema *schema, char *path, unsigned depth);

static esk_status compile_children(
	compiler *c, uint32_t tree, const struct ArrowSchema *schema, const char *parent, unsigned depth)
{
	for (int64_t i = 0; i < schema->n_children; i++) {
		const struct ArrowSchema *child = schema->children[i];
		char *path = esk_build_path(parent, child != NULL ? child->name : NULL);
		if (path == NULL)
			return esk_fail_memory(c->err, 1, "the name of an Arrow field");
		esk_status status = compile_field(c, tree, child, path, depth);
		if (status != ESK_OK)
			return status;
	}
	return ESK_OK;
}

/* The values of a dictionary field: a tree of their own, in which they are the only column. */
static esk_status compile_dictionary(compiler *c, uint32_t outer, const struct ArrowSchema *values,
	const char *path, unsigned depth, uint32_t *ret_tree)
{
	char *copy = strdup(path);
	if (copy == NULL)
		return esk_fail_memory(c->err, strlen(path), "the name of an Arrow field");
	esk_status status = add_tree(c, outer, ret_tree);
	if (status != ESK_OK) {
		free(copy);
		return status;
	}
	return compile_field(c, *ret_tree, values, copy, depth);
}

/* Takes `path`, also where it fails. */
static esk_status compile_field(
	compiler *c, uint32_t tree, const struct ArrowSchema *schema, char *path, unsigned depth)
{
	esk_arrow_type type;
	uint32_t node = 0, dictionary = 0;
	esk_status status = esk_build_type_of(schema, path, depth, &type, c->err);
	if (status != ESK_OK) {
		free(path);
		return status;
	}
	status = add_node(c, tree, &type, path, &node);
	if (status == ESK_OK && schema->dictionary != NULL)
		status = compile_dictionary(c, tree, schema->dictionary, path, depth, &dictionary);
	if (status == ESK_OK)
		status = compile_children(c, tree, schema, path, depth + 1);
	if (status != ESK_OK)
		return status;
	esk_encode_tree *in = &c->encoder->trees[tree];
	in->nodes[node].child_count = (uint32_t)schema->n_children;
	in->nodes[node].dictionary = dictionary;
	in->nodes[node].end = in->node_count;
	return ESK_OK;
}

/* What a tree needs per batch. */
static esk_status equip(esk_arrow_encoder *encoder, uint32_t index, esk_error *err)
{
	esk_encode_tree *tree = &encoder->trees[index];
	int64_t id = index == 0 ? ESK_BUILD_NO_DICTIONARY : (int64_t)index - 1;
	tree->counts = calloc(tree->node_count + 1, sizeof *tree->counts);
	tree->pieces = calloc(tree->buffer_count + 1, sizeof *tree->pieces);
	if (tree->counts == NULL || tree->pieces == NULL)
		return esk_fail_memory(err, tree->buffer_count * sizeof *tree->pieces, "an Arrow encoder");
	return esk_build_batch(id, tree->node_count, tree->buffer_count, encoder->align, &tree->head, err);
}

esk_status esk_encode_create(const struct ArrowSchema *schema, uint32_t align, uint32_t before,
	esk_arrow_encoder **ret_encoder, esk_error *err)
{
	esk_arrow_encoder *encoder = calloc(1, sizeof *encoder);
	uint32_t batch;
	if (encoder == NULL)
		return esk_fail_memory(err, sizeof *encoder, "an Arrow encoder");
	encoder->align = align;
	compiler c = {encoder, err};
	/* The message first: it refuses whatever is malformed, unions included. */
	esk_status status = esk_build_schema(
		schema, align, before, &encoder->schema_message, &encoder->schema_bytes, err);
	if (status == ESK_OK)
		status = add_tree(&c, 0, &batch);
	if (status == ESK_OK)
		status = compile_children(&c, batch, schema, NULL, 1);
	for (uint32_t i = 0; i < encoder->tree_count && status == ESK_OK; i++)
		status = equip(encoder, i, err);
	if (status != ESK_OK) {
		esk_arrow_encoder_destroy(encoder);
		return status;
	}
	encoder->column_count = (uint32_t)schema->n_children;
	*ret_encoder = encoder;
	return ESK_OK;
}

esk_status esk_arrow_encoder_create(
	const struct ArrowSchema *schema, unsigned flags, esk_arrow_encoder **ret_encoder, esk_error *err)
{
	if (flags != 0 && flags != ESK_ARROW_ALIGN_64)
		return esk_fail(err, ESK_EINVAL, "the flags 0x%x of an Arrow encoder are not known", flags);
	return esk_encode_create(schema, flags == 0 ? 8 : 64, 0, ret_encoder, err);
}

void esk_arrow_encoder_destroy(esk_arrow_encoder *encoder)
{
	if (encoder == NULL)
		return;
	for (uint32_t i = 0; i < encoder->tree_count; i++) {
		esk_encode_tree *tree = &encoder->trees[i];
		for (uint32_t k = 0; k < tree->node_count; k++)
			free(tree->nodes[k].path);
		free(tree->nodes);
		free(tree->counts);
		free(tree->pieces);
		free(tree->head.data);
	}
	free(encoder->trees);
	free(encoder->schema_message);
	free(encoder);
}

const void *esk_arrow_encoder_schema(const esk_arrow_encoder *encoder, size_t *ret_bytes)
{
	*ret_bytes = encoder->schema_bytes;
	return encoder->schema_message;
}

/* ---- batches ---- */

esk_status esk_arrow_encoder_batch_bytes(
	esk_arrow_encoder *encoder, const struct ArrowArray *array, size_t *ret_bytes, esk_error *err)
{
	uint64_t bytes = 0;
	esk_status status = esk_encode_lay(encoder, array, err);
	for (uint32_t i = 0; i < encoder->tree_count && status == ESK_OK; i++)
		if (!esk_add_u64(bytes, esk_encode_message_bytes(&encoder->trees[i]), &bytes))
			status = esk_fail(err, ESK_EINVAL, "the record batch is larger than memory can be");
	if (status == ESK_OK)
		*ret_bytes = bytes;
	return status;
}

esk_status esk_arrow_encoder_batch(esk_arrow_encoder *encoder, const struct ArrowArray *array, void *buf,
	size_t buf_bytes, size_t *ret_bytes, esk_error *err)
{
	size_t bytes;
	esk_status status = esk_arrow_encoder_batch_bytes(encoder, array, &bytes, err);
	if (status != ESK_OK)
		return status;
	if (bytes > buf_bytes)
		return esk_fail(err, ESK_ERANGE, "the record batch takes %zu bytes, there is room for %zu",
			bytes, buf_bytes);
	uint8_t *to = buf;
	for (uint32_t i = encoder->tree_count; i-- > 0;) {
		esk_encode_message(&encoder->trees[i], false, to);
		to += esk_encode_message_bytes(&encoder->trees[i]);
	}
	*ret_bytes = bytes;
	return ESK_OK;
}

/* ---- for once ---- */

esk_status esk_arrow_schema_message_bytes(const struct ArrowSchema *schema, size_t *ret_bytes, esk_error *err)
{
	uint8_t *message;
	esk_status status = esk_build_schema(schema, 8, 0, &message, ret_bytes, err);
	if (status == ESK_OK)
		free(message);
	return status;
}

esk_status esk_arrow_encode_schema(
	const struct ArrowSchema *schema, void *buf, size_t buf_bytes, size_t *ret_bytes, esk_error *err)
{
	uint8_t *message;
	size_t bytes;
	esk_status status = esk_build_schema(schema, 8, 0, &message, &bytes, err);
	if (status != ESK_OK)
		return status;
	if (bytes <= buf_bytes) {
		memcpy(buf, message, bytes);
		*ret_bytes = bytes;
	} else {
		status = esk_fail(err, ESK_ERANGE,
			"the schema message takes %zu bytes, there is room for %zu", bytes, buf_bytes);
	}
	free(message);
	return status;
}

esk_status esk_arrow_batch_message_bytes(
	const struct ArrowSchema *schema, const struct ArrowArray *array, size_t *ret_bytes, esk_error *err)
{
	esk_arrow_encoder *encoder;
	esk_status status = esk_arrow_encoder_create(schema, 0, &encoder, err);
	if (status != ESK_OK)
		return status;
	status = esk_arrow_encoder_batch_bytes(encoder, array, ret_bytes, err);
	esk_arrow_encoder_destroy(encoder);
	return status;
}

esk_status esk_arrow_encode_batch(const struct ArrowSchema *schema, const struct ArrowArray *array, void *buf,
	size_t buf_bytes, size_t *ret_bytes, esk_error *err)
{
	esk_arrow_encoder *encoder;
	esk_status status = esk_arrow_encoder_create(schema, 0, &encoder, err);
	if (status != ESK_OK)
		return status;
	status = esk_arrow_encoder_batch(encoder, array, buf, buf_bytes, ret_bytes, err);
	esk_arrow_encoder_destroy(encoder);
	return status;
}
