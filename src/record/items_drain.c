/* Items, the drain thread's side (R1): record -> group with arrays; the list of a segment's items; what the
 * sink is told of them.
 *
 * Arrays of more than SMALL_BYTES are encoded by the pool, all chunks of an item at once, and stored in
 * chunks where that is smaller; else in one piece. An item is taken whole: nothing of it is made before all
 * of its record was checked.
 *
 *   R7  The list in /.esker/items has an entry for each item that the segment has, in the order of their
 *       records, and r->item_count counts those of the run, drained. */
#include "record/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL_BYTES 4096u
#define CHUNKED_OVERHEAD_BYTES 2560u /* index and messages of a chunked dataset */
#define FLETCHER32 3u

/* Reads a record's payload; what is not there is not read. */
typedef struct unpacker {
	const uint8_t *at;
	const uint8_t *end;
} unpacker;

static const uint8_t *take(unpacker *u, uint64_t bytes)
{
	const uint8_t *from = u->at;
	if (bytes > (uint64_t)(u->end - u->at))
		return NULL;
	u->at += bytes;
	return from;
}

/* Padding is relative to the payload, which is aligned to 8 bytes. */
static const uint8_t *take_padded(unpacker *u, const uint8_t *payload, uint64_t bytes)
{
	const uint8_t *from = take(u, bytes);
	uint64_t over = (uint64_t)(u->at - payload) % 8;
	return from != NULL && (over == 0 || take(u, 8 - over) != NULL) ? from : NULL;
}

/* One array of an item that is being taken. */
typedef struct item_array {
	esk_column column;
	uint64_t rows;
	const uint8_t *data;
	uint64_t data_bytes;
	const uint8_t *marks; /* NULL: not nullable */
	esk_string *strings;
	esk_pipeline pipeline;
	uint64_t first_chunk; /* of the item's */
	uint64_t chunk_count; /* 0: in one piece */
} item_array;

typedef struct item_chunk {
	esk_job job;
	const esk_pipeline *pipeline;
	esk_span span;
	void *out;
	size_t capacity;
	esk_h5_encoded encoded;
	esk_status status;
	esk_error error;
} item_chunk;

typedef struct taking {
	esk_recorder *r;
	char path[ESK_MAX_NAME + 1];
	char join[ESK_MAX_NAME + 1];
	esk_item_head head;
	esk_attribute *attributes;
	item_array *arrays; /* with those of validity: up to 2 * head.arrays */
	size_t array_count;
	item_chunk *chunks;
	uint64_t chunk_count;
	esk_h5_array *out;
	esk_h5_encoded *encoded;
} taking;

/* ---- reading the record ---- */

static bool copy_name(char *to, size_t room, const uint8_t **from, uint64_t bytes)
{
	if (bytes >= room || memchr(*from, '\0', bytes) != NULL)
		return false;
	memcpy(to, *from, bytes);
	to[bytes] = '\0';
	*from += bytes;
	return true;
}

static esk_status read_texts(item_array *array, esk_error *err)
{
	uint64_t count = array->rows * (esk_column_cell_bytes(&array->column) / sizeof(esk_string));
	if (count > array->data_bytes / sizeof(uint32_t))
		return ESK_ECORRUPT;
	uint64_t room = array->data_bytes - count * sizeof(uint32_t);
	const char *text = (const char *)array->data + count * sizeof(uint32_t);
	array->strings = malloc((count + 1) * sizeof *array->strings);
	if (array->strings == NULL)
		return esk_fail_memory(err, count * sizeof *array->strings, "texts");
	for (uint64_t i = 0; i < count; i++) {
		uint32_t size;
		memcpy(&size, array->data + i * sizeof size, sizeof size);
		if (size > room)
			return ESK_ECORRUPT;
		array->strings[i] = (esk_string){text, size};
		text += size;
		room -= size;
	}
	return ESK_OK;
}

static bool read_column(
	unpacker *u, const uint8_t *payload, const esk_item_array_head *head, esk_column *column)
{
	uint64_t names =
		(uint64_t)head->name_bytes + head->codec_bytes + head->units_bytes + head->long_name_bytes;
	*column = (esk_column){.dtype = {(esk_kind)head->kind, head->element_bytes},
		.rank = head->rank,
		.nullable = head->nullable != 0,
		.chunk_rows = head->chunk_rows};
	if (head->rank > ESK_MAX_RANK)
		return false;
	const uint8_t *from = take(u, head->rank * sizeof *column->shape);
	if (from == NULL)
		return false;
	memcpy(column->shape, from, head->rank * sizeof *column->shape);
	from = take_padded(u, payload, names);
	return from != NULL && copy_name(column->name, sizeof column->name, &from, head->name_bytes) &&
	       copy_name(column->codec, sizeof column->codec, &from, head->codec_bytes) &&
	       copy_name(column->units, sizeof column->units, &from, head->units_bytes) &&
	       copy_name(column->long_name, sizeof column->long_name, &from, head->long_name_bytes) &&
	       esk_column_check(column, NULL) == ESK_OK;
}

static esk_status read_array(unpacker *u, const uint8_t *payload, item_array *array, esk_error *err)
{
	esk_item_array_head head;
	uint64_t bytes;
	const uint8_t *from = take(u, sizeof head);
	if (from == NULL)
		return ESK_ECORRUPT;
	memcpy(&head, from, sizeof head);
	if (!read_column(u, payload, &head, &array->column))
		return ESK_ECORRUPT;
	bool strings = array->column.dtype.kind == ESK_STRING;
	if (!esk_mul_u64(head.rows, esk_column_cell_bytes(&array->column), &bytes) ||
		(!strings && bytes != head.data_bytes))
		return ESK_ECORRUPT;
	array->rows = head.rows;
	array->data_bytes = head.data_bytes;
	array->data = take_padded(u, payload, head.data_bytes);
	if (array->data == NULL)
		return ESK_ECORRUPT;
	if (array->column.nullable && (array->marks = take_padded(u, payload, head.rows)) == NULL)
		return ESK_ECORRUPT;
	return strings ? read_texts(array, err) : ESK_OK;
}

/* The array of a nullable one's validity. */
static void add_validity(taking *t, const item_array *of)
{
	item_array *valid = &t->arrays[t->array_count++];
	*valid = (item_array){.column = {.dtype = {ESK_BOOL, 1}, .codec = "gzip:1"},
		.rows = of->rows,
		.data = of->marks,
		.data_bytes = of->rows};
	snprintf(valid->column.name, sizeof valid->column.name, "%.249s_valid", of->column.name);
}

static esk_status read_head(unpacker *u, const uint8_t *payload, taking *t)
{
	const uint8_t *from = take(u, sizeof t->head);
	if (from == NULL)
		return ESK_ECORRUPT;
	memcpy(&t->head, from, sizeof t->head);
	uint64_t names = (uint64_t)t->head.path_bytes + t->head.join_bytes;
	if ((from = take_padded(u, payload, names)) == NULL ||
		!copy_name(t->path, sizeof t->path, &from, t->head.path_bytes) ||
		!copy_name(t->join, sizeof t->join, &from, t->head.join_bytes) ||
		esk_group_name_check(t->path, "item", NULL) != ESK_OK || strcmp(t->path, "/") == 0 ||
		(t->join[0] != '\0' && esk_group_name_check(t->join, "join", NULL) != ESK_OK) ||
		t->head.arrays > ESK_MAX_COLUMNS)
		return ESK_ECORRUPT;
	return ESK_OK;
}

static esk_status read_item(taking *t, const uint8_t *payload, uint64_t size_bytes, esk_error *err)
{
	unpacker u = {.at = payload, .end = payload + size_bytes};
	esk_status status = read_head(&u, payload, t);
	if (status == ESK_OK)
		status =
			esk_attributes_unpack(&u.at, u.end, t->head.attributes, t->path, &t->attributes, err);
	if (status != ESK_OK)
		return status;
	t->arrays = calloc(2 * (size_t)t->head.arrays + 1, sizeof *t->arrays);
	if (t->arrays == NULL)
		return esk_fail_memory(err, t->head.arrays * sizeof *t->arrays, "an item");
	for (uint32_t i = 0; i < t->head.arrays && status == ESK_OK; i++) {
		item_array *array = &t->arrays[t->array_count++];
		status = read_array(&u, payload, array, err);
		if (status == ESK_OK && array->column.nullable)
			add_validity(t, array);
	}
	return status;
}

/* ---- encoding ---- */

static void encode_job(esk_job *job, esk_scratch *scratch)
{
	item_chunk *chunk = (item_chunk *)job;
	chunk->encoded.data = chunk->out;
	chunk->status = esk_pipeline_encode(chunk->pipeline, scratch, &chunk->span, 1, chunk->out,
		chunk->capacity, &chunk->encoded.size, &chunk->encoded.filter_mask, &chunk->error);
}

static bool has_checksum(const esk_pipeline *pipeline)
{
	for (uint32_t i = 0; i < pipeline->count; i++)
		if (pipeline->filters[i].id == FLETCHER32)
			return true;
	return false;
}

/* Decides whether the array is tried in chunks: then it has its place among the item's. */
static esk_status plan_array(taking *t, item_array *array, esk_error *err)
{
	esk_column *column = &array->column;
	const char *codec = column->codec[0] != '\0' ? column->codec : t->r->codec;
	if (column->dtype.kind == ESK_STRING || array->data_bytes <= SMALL_BYTES)
		return ESK_OK;
	column->chunk_rows = esk_min_u64(esk_column_chunk_rows(column), array->rows);
	esk_status status = esk_pipeline_build(codec, column, column->chunk_rows, &array->pipeline, err);
	if (status != ESK_OK) /* the codec was checked at the call */
		return status == ESK_ENOMEM ? status : ESK_ECORRUPT;
	if (array->pipeline.count == 0)
		return ESK_OK;
	array->first_chunk = t->chunk_count;
	array->chunk_count = (array->rows + column->chunk_rows - 1) / column->chunk_rows;
	t->chunk_count += array->chunk_count;
	return ESK_OK;
}

static esk_status submit(
	taking *t, const item_array *array, uint64_t number, esk_batch *batch, esk_error *err)
{
	item_chunk *chunk = &t->chunks[array->first_chunk + number];
	uint64_t chunk_bytes = array->pipeline.chunk_bytes, offset = number * chunk_bytes;
	size_t bound = esk_pipeline_bound(&array->pipeline);
	chunk->job.run = encode_job;
	chunk->pipeline = &array->pipeline;
	chunk->span = (esk_span){array->data + offset, esk_min_u64(chunk_bytes, array->data_bytes - offset)};
	chunk->out = esk_buffer_take(t->r, bound, &chunk->capacity);
	if (chunk->out == NULL)
		return esk_fail_memory(err, bound, "an encoded chunk");
	esk_batch_submit(batch, &chunk->job);
	return ESK_OK;
}

/* Encodes what is to be encoded. */
static esk_status encode(taking *t, esk_error *err)
{
	esk_status status = ESK_OK;
	esk_batch batch;
	for (size_t i = 0; i < t->array_count && status == ESK_OK; i++)
		status = plan_array(t, &t->arrays[i], err);
	if (status != ESK_OK || t->chunk_count == 0)
		return status;
	t->chunks = calloc(t->chunk_count, sizeof *t->chunks);
	t->encoded = calloc(t->chunk_count, sizeof *t->encoded);
	if (t->chunks == NULL || t->encoded == NULL)
		return esk_fail_memory(err, t->chunk_count * sizeof *t->chunks, "chunks");
	esk_batch_init(&batch, t->r->pool);
	for (size_t i = 0; i < t->array_count && status == ESK_OK; i++)
		for (uint64_t n = 0; n < t->arrays[i].chunk_count && status == ESK_OK; n++)
			status = submit(t, &t->arrays[i], n, &batch, err);
	esk_batch_wait(&batch);
	for (uint64_t n = 0; n < t->chunk_count && status == ESK_OK; n++) {
		if (t->chunks[n].status != ESK_OK && err != NULL)
			*err = t->chunks[n].error;
		status = t->chunks[n].status;
		t->encoded[n] = t->chunks[n].encoded;
	}
	return status;
}

static bool worth_chunks(const taking *t, const item_array *array)
{
	uint64_t bytes = CHUNKED_OVERHEAD_BYTES;
	for (uint64_t n = 0; n < array->chunk_count; n++)
		bytes += t->encoded[array->first_chunk + n].size;
	return array->chunk_count > 0 && (bytes < array->data_bytes || has_checksum(&array->pipeline));
}

/* ---- the list of a segment's items ---- */

static esk_status make_list_writers(esk_recorder *r, esk_error *err)
{
	esk_column *columns = NULL;
	size_t count = 0;
	if (r->item_writers[0].cell_bytes != 0)
		return ESK_OK;
	esk_status status = esk_columns_parse(ESK_ITEM_COLUMNS, &columns, &count, err);
	for (size_t i = 0; status == ESK_OK && i < ESK_ITEM_WRITERS; i++) {
		columns[i].chunk_rows = ESK_ITEM_CHUNK_ROWS;
		status = esk_writer_init(
			&r->item_writers[i], &columns[i], "gzip:1", ESK_CHUNK_TARGET_BYTES, false, err);
	}
	esk_columns_free(columns);
	return status;
}

static esk_status attach_list(esk_recorder *r, bool create, esk_error *err)
{
	esk_status status = make_list_writers(r, err);
	for (size_t i = 0; i < ESK_ITEM_WRITERS && status == ESK_OK; i++) {
		esk_column_writer *writer = &r->item_writers[i];
		char path[ESK_MAX_NAME + 32];
		esk_h5_dataset *dataset;
		snprintf(path, sizeof path, ESK_ITEMS_PATH "/%s", writer->column.name);
		status = create ? esk_h5_dataset_create(r->file, path, &writer->column, writer->chunk_rows,
					  &writer->pipeline, &dataset, err)
				: esk_h5_dataset_open(r->file, path, &dataset, err);
		if (status == ESK_OK)
			status = esk_writer_attach(r, writer, dataset, err);
	}
	return status;
}

esk_status esk_items_attach(esk_recorder *r, esk_h5 *file, bool attach, esk_error *err)
{
	uint64_t first = 0, rows = 0;
	esk_status status = esk_segment_item_range(file, &first, &rows, err);
	if (status == ESK_OK && attach && esk_h5_exists(file, ESK_ITEMS_PATH))
		status = attach_list(r, false, err);
	if (status != ESK_OK)
		return status;
	r->first_item = first;
	r->item_count = first + rows;
	esk_items_forget(r);
	return attach ? esk_joins_adopt(r, file, err) : ESK_OK;
}

esk_status esk_items_begin_segment(esk_recorder *r, esk_error *err)
{
	r->first_item = r->item_count;
	esk_joins_forget(r);
	return r->item_count > 0 ? esk_h5_set_u64s(r->file, "/", ESK_ITEMS_ATTRIBUTE, &r->item_count, 1, err)
				 : ESK_OK;
}

static bool is_even(const taking *t, uint64_t rows)
{
	for (size_t i = 0; i < t->array_count; i++)
		if (t->arrays[i].rows != rows)
			return false;
	return true;
}

static esk_status list_item(taking *t, uint64_t rows, esk_error *err)
{
	esk_recorder *r = t->r;
	char path[ESK_COLUMN_NAME_BYTES] = {0}, join[ESK_COLUMN_NAME_BYTES] = {0};
	uint64_t numbers[3] = {(uint64_t)t->head.time_ns, rows, is_even(t, rows)};
	const void *cells[ESK_ITEM_WRITERS] = {path, join, numbers};
	memcpy(path, t->path, strlen(t->path)); /* of 240 bytes at most */
	memcpy(join, t->join, strlen(t->join));
	esk_status status = r->item_writers[0].dataset == NULL ? attach_list(r, true, err) : ESK_OK;
	for (size_t i = 0; i < ESK_ITEM_WRITERS && status == ESK_OK; i++)
		status = esk_writer_append(r, &r->item_writers[i], cells[i], 1, err);
	return status;
}

/* ---- paths that are taken ---- */

static esk_status claim_item(void *arg, uint64_t number, const esk_item_entry *item, esk_error *err)
{
	esk_recorder *r = arg;
	bool new;
	(void)number;
	esk_status status = esk_names_claim(&r->names, item->path, ESK_NAME_ITEM, &new, err);
	if ((status == ESK_OK || status == ESK_EEXIST) && item->join[0] != '\0')
		status = esk_names_claim(&r->names, item->join, ESK_NAME_JOIN, &new, err);
	return status == ESK_EEXIST ? ESK_OK : status;
}

static esk_status claim_of_sealed(void *arg, esk_h5 *file, const esk_segment_head *head, esk_error *err)
{
	esk_recorder *r = arg;
	esk_error why = {0};
	if (head->number >= r->head.number)
		return ESK_OK;
	esk_status status = esk_segment_visit_items(file, r->pool, 0, claim_item, r, &why);
	if (status != ESK_OK &&
		status != ESK_ENOMEM) { /* a damaged segment does not keep others from coming */
		esk_log(&r->logger, ESK_LOG_WARNING, "run \"%s\": %s", r->name, why.message);
		status = ESK_OK;
	}
	return status == ESK_OK ? status : esk_fail(err, status, "%s", why.message);
}

esk_status esk_items_claim(esk_recorder *r, esk_error *err)
{
	esk_status status = r->item_count > r->first_item
				    ? esk_segment_visit_items(r->file, r->pool, 0, claim_item, r, err)
				    : ESK_OK;
	if (status == ESK_OK)
		status = esk_joins_keep_shapes(r, err);
	return status == ESK_OK && r->first_item > 0 ? esk_segment_visit_sealed(r, claim_of_sealed, r, err)
						     : status;
}

/* ---- what the sink is told ---- */

void esk_item_states_free(esk_item_state *items, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(items[i].path);
		free(items[i].join);
		esk_attributes_free(items[i].attributes, items[i].attribute_count);
	}
	free(items);
}

void esk_items_forget(esk_recorder *r)
{
	esk_item_states_free(r->new_items, r->new_item_count);
	r->new_items = NULL;
	r->new_item_count = r->new_item_capacity = 0;
}

/* What is not kept, for want of memory or since the sink is behind, is read from the files. */
static void keep_for_sink(taking *t, uint64_t rows)
{
	esk_recorder *r = t->r;
	if (r->new_item_count == ESK_NEW_ITEMS_MOST)
		esk_items_forget(r);
	if (r->new_item_count == r->new_item_capacity) {
		size_t capacity = r->new_item_capacity == 0 ? 64 : 2 * r->new_item_capacity;
		esk_item_state *grown = realloc(r->new_items, capacity * sizeof *grown);
		if (grown == NULL) {
			esk_items_forget(r);
			return;
		}
		r->new_items = grown;
		r->new_item_capacity = capacity;
	}
	esk_item_state *item = &r->new_items[r->new_item_count];
	*item = (esk_item_state){.path = strdup(t->path),
		.join = strdup(t->join),
		.time_ns = t->head.time_ns,
		.rows = rows,
		.attributes = t->attributes,
		.attribute_count = t->head.attributes};
	t->attributes = NULL;
	r->new_item_count++;
	if (item->path == NULL || item->join == NULL)
		esk_items_forget(r);
}

/* ---- taking one ---- */

static esk_status store_item(taking *t, esk_error *err)
{
	t->out = calloc(t->array_count + 1, sizeof *t->out);
	if (t->out == NULL)
		return esk_fail_memory(err, t->array_count * sizeof *t->out, "arrays");
	for (size_t i = 0; i < t->array_count; i++) {
		const item_array *array = &t->arrays[i];
		t->out[i] = (esk_h5_array){.column = &array->column,
			.rows = array->rows,
			.cells = array->data,
			.strings = array->strings};
		if (!worth_chunks(t, array))
			continue;
		t->out[i].chunks = t->encoded + array->first_chunk;
		t->out[i].chunk_count = array->chunk_count;
		t->out[i].chunk_rows = array->column.chunk_rows;
		t->out[i].pipeline = &array->pipeline;
	}
	return esk_h5_put_item(
		t->r->file, t->path, t->out, t->array_count, t->attributes, t->head.attributes, err);
}

static void end(taking *t)
{
	for (uint64_t n = 0; t->chunks != NULL && n < t->chunk_count; n++)
		if (t->chunks[n].out != NULL)
			esk_buffer_give(t->r, t->chunks[n].out, t->chunks[n].capacity);
	for (size_t i = 0; t->arrays != NULL && i < t->array_count; i++)
		free(t->arrays[i].strings);
	if (t->attributes != NULL)
		esk_attributes_free(t->attributes, t->head.attributes);
	free(t->chunks);
	free(t->encoded);
	free(t->arrays);
	free(t->out);
}

esk_status esk_apply_item(esk_recorder *r, const uint8_t *payload, uint64_t size_bytes, esk_error *err)
{
	taking t = {.r = r};
	uint64_t rows = 0;
	esk_status status = read_item(&t, payload, size_bytes, err);
	if (status != ESK_OK) {
		end(&t);
		return status;
	}
	for (size_t i = 0; i < t.array_count; i++)
		rows = esk_max_u64(rows, t.arrays[i].rows);
	status = encode(&t, err);
	if (status == ESK_ECORRUPT) {
		end(&t);
		return status;
	}
	if (status == ESK_OK)
		status = store_item(&t, err);
	if (status == ESK_OK)
		status = list_item(&t, rows, err);
	if (status == ESK_OK && t.join[0] != '\0')
		status = esk_joins_add(r, t.join, t.path, t.out, t.array_count, err);
	status = esk_apply_outcome(r, status, err);
	if (status == ESK_OK) {
		r->item_count++;
		keep_for_sink(&t, rows);
	}
	end(&t);
	return status;
}
