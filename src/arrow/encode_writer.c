/* Writers of IPC streams and files.
 *
 * A batch is written in two steps. First it is laid out, and for each dictionary it is decided what must be
 * written, by comparing its message with the one that is in force: all that can be refused is refused here,
 * and nothing has changed then. Then everything goes out; what fails now breaks the writer, since readers
 * would see half a message. */
#include "arrow/encode_writer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef enum action {
	KEEP,  /* the one in force */
	WHOLE, /* write the new one */
	DELTA, /* write what was added */
} action;

/* One dictionary: as a message, which is equal where its values are. */
typedef struct dictionary {
	uint8_t *message; /* in force; NULL: none was written */
	uint64_t bytes;
	uint64_t rows;
	uint8_t *next; /* of the batch that is being written; NULL: none */
	uint64_t next_bytes;
	uint64_t next_rows;
	action action;
} dictionary;

typedef struct blocks {
	esk_build_block *items;
	size_t count;
	size_t room;
} blocks;

struct esk_arrow_writer {
	esk_arrow_encoder *encoder;
	esk_outlet outlet;
	bool is_file;
	esk_build_footer footer;  /* is_file */
	dictionary *dictionaries; /* encoder->tree_count; the first is none */
	uint8_t *head;            /* room for the largest head of a message */
	blocks dictionary_blocks, batch_blocks;
	esk_error broken; /* code ESK_OK: it is not */
};

/* ---- blocks ---- */

static esk_status reserve_block(blocks *list, size_t more, esk_error *err)
{
	if (list->room - list->count >= more)
		return ESK_OK;
	size_t room = 2 * list->room + more + 16;
	esk_build_block *items = realloc(list->items, room * sizeof *items);
	if (items == NULL)
		return esk_fail_memory(err, room * sizeof *items, "the footer of an Arrow file");
	list->items = items;
	list->room = room;
	return ESK_OK;
}

/* ---- dictionaries ---- */

static void drop_next(esk_arrow_writer *writer)
{
	for (uint32_t i = 1; i < writer->encoder->tree_count; i++) {
		free(writer->dictionaries[i].next);
		writer->dictionaries[i].next = NULL;
	}
}

static esk_status render(const esk_encode_tree *tree, uint8_t **ret_message, esk_error *err)
{
	uint64_t bytes = esk_encode_message_bytes(tree);
	uint8_t *message = malloc(bytes);
	if (message == NULL)
		return esk_fail_memory(err, bytes, "a dictionary of an Arrow writer");
	esk_encode_message(tree, false, message);
	*ret_message = message;
	return ESK_OK;
}

/* Whether the new values begin with all that are in force. */
static esk_status grew(esk_arrow_writer *writer, uint32_t index, bool *ret_grew, esk_error *err)
{
	const dictionary *d = &writer->dictionaries[index];
	const esk_encode_tree *tree = &writer->encoder->trees[index];
	uint8_t *front;
	if (d->next_rows <= d->rows) {
		*ret_grew = false;
		return ESK_OK;
	}
	esk_status status = esk_encode_lay_dictionary(writer->encoder, index, 0, d->rows, err);
	if (status != ESK_OK)
		return status;
	if (esk_encode_message_bytes(tree) != d->bytes) {
		*ret_grew = false;
		return ESK_OK;
	}
	status = render(tree, &front, err);
	if (status == ESK_OK) {
		*ret_grew = memcmp(front, d->message, d->bytes) == 0;
		free(front);
	}
	return status;
}

/* Readers hold dictionaries with the dictionaries in them: where an inner one changes, those around it are
 * written again, and none of them grows by deltas. */
static bool inner_changed(const esk_arrow_writer *writer, uint32_t index)
{
	for (uint32_t i = index + 1; i < writer->encoder->tree_count; i++)
		if (writer->encoder->trees[i].outer == index && writer->dictionaries[i].action != KEEP)
			return true;
	return false;
}

static esk_status decide(esk_arrow_writer *writer, uint32_t index, esk_error *err)
{
	dictionary *d = &writer->dictionaries[index];
	const esk_encode_tree *tree = &writer->encoder->trees[index];
	esk_status status = render(tree, &d->next, err);
	if (status != ESK_OK)
		return status;
	d->next_bytes = esk_encode_message_bytes(tree);
	d->next_rows = (uint64_t)tree->rows;
	d->action = WHOLE;
	if (d->message == NULL)
		return ESK_OK;
	bool changed = inner_changed(writer, index), longer = false;
	if (!changed && d->bytes == d->next_bytes && memcmp(d->message, d->next, d->bytes) == 0) {
		d->action = KEEP;
		return ESK_OK;
	}
	if (!tree->has_inner && tree->outer == 0)
		status = grew(writer, index, &longer, err);
	if (status != ESK_OK)
		return status;
	if (longer)
		d->action = DELTA;
	else if (writer->is_file)
		return esk_fail(err, ESK_EUNSUPPORTED,
			"column \"%s\": the dictionary of this batch is another one than before, and an "
			"Arrow file has one per column; write a stream, or unify the dictionaries",
			tree->nodes[0].path);
	return ESK_OK;
}

static void settle(dictionary *d)
{
	free(d->message);
	d->message = d->next;
	d->bytes = d->next_bytes;
	d->rows = d->next_rows;
	d->next = NULL;
}

/* ---- writing ---- */

static esk_status put_body(esk_outlet *outlet, const esk_encode_tree *tree, esk_error *err)
{
	for (uint32_t i = 0; i < tree->buffer_count; i++) {
		const esk_encode_piece *piece = &tree->pieces[i];
		uint64_t end = i + 1 < tree->buffer_count ? tree->pieces[i + 1].at : tree->body_bytes;
		esk_status status = esk_outlet_put_piece(outlet, piece, err);
		if (status == ESK_OK)
			status = esk_outlet_put_zeros(outlet, end - piece->at - piece->bytes, err);
		if (status != ESK_OK)
			return status;
	}
	return ESK_OK;
}

/* Writes the message of a tree as it is laid out, and notes it in `list`, which has room. */
static esk_status put_message(
	esk_arrow_writer *writer, const esk_encode_tree *tree, bool delta, blocks *list, esk_error *err)
{
	list->items[list->count++] = (esk_build_block){.offset = (int64_t)writer->outlet.position,
		.head_bytes = (int32_t)tree->head.bytes,
		.body_bytes = (int64_t)tree->body_bytes};
	esk_encode_head(tree, delta, writer->head);
	esk_status status = esk_outlet_put(&writer->outlet, writer->head, tree->head.bytes, err);
	return status == ESK_OK ? put_body(&writer->outlet, tree, err) : status;
}

static esk_status put_dictionary(esk_arrow_writer *writer, uint32_t index, esk_error *err)
{
	dictionary *d = &writer->dictionaries[index];
	if (d->action == KEEP)
		return ESK_OK;
	bool delta = d->action == DELTA;
	uint64_t first = delta ? d->rows : 0;
	esk_status status =
		esk_encode_lay_dictionary(writer->encoder, index, first, d->next_rows - first, err);
	if (status == ESK_OK)
		status = put_message(
			writer, &writer->encoder->trees[index], delta, &writer->dictionary_blocks, err);
	if (status == ESK_OK)
		settle(d);
	return status;
}

static esk_status put_batch(esk_arrow_writer *writer, esk_error *err)
{
	esk_status status = ESK_OK;
	for (uint32_t i = writer->encoder->tree_count; i-- > 1 && status == ESK_OK;)
		status = put_dictionary(writer, i, err);
	if (status == ESK_OK)
		status = put_message(writer, &writer->encoder->trees[0], false, &writer->batch_blocks, err);
	if (!writer->is_file) /* only the footer of a file tells where they are */
		writer->dictionary_blocks.count = writer->batch_blocks.count = 0;
	return status;
}

static esk_status prepare(esk_arrow_writer *writer, const struct ArrowArray *batch, esk_error *err)
{
	uint32_t trees = writer->encoder->tree_count;
	esk_status status = esk_encode_lay(writer->encoder, batch, err);
	for (uint32_t i = trees; i-- > 1 && status == ESK_OK;)
		status = decide(writer, i, err);
	if (status == ESK_OK)
		status = reserve_block(&writer->dictionary_blocks, trees, err);
	if (status == ESK_OK)
		status = reserve_block(&writer->batch_blocks, 1, err);
	return status;
}

/* Keeps why a writer is broken. */
static esk_status broke(esk_arrow_writer *writer, esk_status status, const esk_error *error, esk_error *err)
{
	writer->broken = *error;
	writer->broken.code = status;
	return esk_fail(err, status, "%s", error->message);
}

static esk_status flush_callback(esk_arrow_writer *writer, esk_error *err)
{
	return writer->outlet.os != NULL ? ESK_OK : esk_outlet_flush(&writer->outlet, err);
}

esk_status esk_arrow_writer_append(esk_arrow_writer *writer, const struct ArrowArray *batch, esk_error *err)
{
	esk_error error = {0};
	if (writer->broken.code != ESK_OK)
		return esk_fail(err, ESK_ECLOSED, "the writer failed before: %s", writer->broken.message);
	esk_status status = prepare(writer, batch, err);
	if (status == ESK_OK) {
		status = put_batch(writer, &error);
		if (status == ESK_OK)
			status = flush_callback(writer, &error);
		if (status != ESK_OK)
			broke(writer, status, &error, err);
	}
	drop_next(writer);
	return status;
}

/* ---- opening and closing ---- */

static void free_writer(esk_arrow_writer *writer)
{
	for (uint32_t i = 1; writer->dictionaries != NULL && i < writer->encoder->tree_count; i++) {
		free(writer->dictionaries[i].message);
		free(writer->dictionaries[i].next);
	}
	free(writer->dictionaries);
	free(writer->head);
	free(writer->dictionary_blocks.items);
	free(writer->batch_blocks.items);
	esk_build_footer_free(&writer->footer);
	esk_arrow_encoder_destroy(writer->encoder);
	free(writer);
}

static esk_status equip_writer(esk_arrow_writer *writer, esk_error *err)
{
	const esk_arrow_encoder *encoder = writer->encoder;
	uint32_t most = 0;
	for (uint32_t i = 0; i < encoder->tree_count; i++)
		most = (uint32_t)esk_max_u64(most, encoder->trees[i].head.bytes);
	writer->head = malloc(most);
	writer->dictionaries = calloc(encoder->tree_count, sizeof *writer->dictionaries);
	return writer->head != NULL && writer->dictionaries != NULL
		       ? ESK_OK
		       : esk_fail_memory(err, most, "an Arrow writer");
}

/* A writer that has nowhere to write to yet. */
static esk_status prepare_writer(
	unsigned format, const struct ArrowSchema *schema, esk_arrow_writer **ret_writer, esk_error *err)
{
	if ((format & ~(ESK_ARROW_FILE | ESK_ARROW_ALIGN_64)) != 0)
		return esk_fail(err, ESK_EINVAL, "the format 0x%x of an Arrow writer is not known", format);
	esk_arrow_writer *writer = calloc(1, sizeof *writer);
	if (writer == NULL)
		return esk_fail_memory(err, sizeof *writer, "an Arrow writer");
	writer->is_file = (format & ESK_ARROW_FILE) != 0;
	uint32_t align = (format & ESK_ARROW_ALIGN_64) != 0 ? 64 : 8;
	esk_status status = esk_encode_create(schema, align, writer->is_file ? 8 : 0, &writer->encoder, err);
	if (status == ESK_OK && writer->is_file)
		status = esk_build_footer_begin(schema, &writer->footer, err);
	if (status == ESK_OK)
		status = equip_writer(writer, err);
	if (status != ESK_OK) {
		free_writer(writer);
		return status;
	}
	*ret_writer = writer;
	return ESK_OK;
}

static esk_status put_beginning(esk_arrow_writer *writer, esk_error *err)
{
	static const char magic[8] = ESK_BUILD_MAGIC;
	const esk_arrow_encoder *encoder = writer->encoder;
	esk_status status = ESK_OK;
	if (writer->is_file)
		status = esk_outlet_put(&writer->outlet, magic, sizeof magic, err);
	if (status == ESK_OK)
		status = esk_outlet_put(&writer->outlet, encoder->schema_message, encoder->schema_bytes, err);
	return status == ESK_OK ? flush_callback(writer, err) : status;
}

/* Takes the writer, which has its outlet or (where `status` says so) none. */
static esk_status begin(
	esk_arrow_writer *writer, esk_status status, esk_arrow_writer **ret_writer, esk_error *err)
{
	if (status == ESK_OK) {
		status = put_beginning(writer, err);
		if (status != ESK_OK)
			esk_outlet_close(&writer->outlet);
	}
	if (status != ESK_OK) {
		free_writer(writer);
		return status;
	}
	*ret_writer = writer;
	return ESK_OK;
}

esk_status esk_encode_writer_open_file(const esk_os *os, const char *path, unsigned format,
	const struct ArrowSchema *schema, esk_arrow_writer **ret_writer, esk_error *err)
{
	esk_arrow_writer *writer;
	esk_status status = prepare_writer(format, schema, &writer, err);
	if (status != ESK_OK)
		return status;
	return begin(writer, esk_outlet_open_file(os, path, &writer->outlet, err), ret_writer, err);
}

esk_status esk_arrow_writer_open_file(const char *path, unsigned format, const struct ArrowSchema *schema,
	esk_arrow_writer **ret_writer, esk_error *err)
{
	return esk_encode_writer_open_file(esk_os_posix(), path, format, schema, ret_writer, err);
}

esk_status esk_arrow_writer_open(esk_arrow_write_fn write, void *arg, unsigned format,
	const struct ArrowSchema *schema, esk_arrow_writer **ret_writer, esk_error *err)
{
	esk_arrow_writer *writer;
	if (write == NULL)
		return esk_fail(err, ESK_EINVAL, "an Arrow writer has no function to write with");
	esk_status status = prepare_writer(format, schema, &writer, err);
	if (status != ESK_OK)
		return status;
	return begin(writer, esk_outlet_open(write, arg, &writer->outlet, err), ret_writer, err);
}

static esk_status put_footer(esk_arrow_writer *writer, esk_error *err)
{
	const uint8_t *footer;
	size_t bytes;
	esk_status status = esk_build_footer_finish(&writer->footer, writer->dictionary_blocks.items,
		writer->dictionary_blocks.count, writer->batch_blocks.items, writer->batch_blocks.count,
		&footer, &bytes, err);
	return status == ESK_OK ? esk_outlet_put(&writer->outlet, footer, bytes, err) : status;
}

esk_status esk_arrow_writer_close(esk_arrow_writer *writer, esk_error *err)
{
	if (writer == NULL)
		return ESK_OK;
	esk_status status = writer->broken.code;
	if (status != ESK_OK)
		esk_fail(err, status, "%s", writer->broken.message);
	else
		status = esk_outlet_put(&writer->outlet, esk_build_end, sizeof esk_build_end, err);
	if (status == ESK_OK && writer->is_file)
		status = put_footer(writer, err);
	if (status == ESK_OK)
		status = esk_outlet_finish(&writer->outlet, err);
	esk_arrow_writer_discard(writer);
	return status;
}

void esk_arrow_writer_discard(esk_arrow_writer *writer)
{
	if (writer == NULL)
		return;
	esk_outlet_close(&writer->outlet);
	free_writer(writer);
}
