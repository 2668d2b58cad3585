/* Rows become chunks: one open chunk per column; full ones go to the pool, encoded ones to the segment. Drain
 * thread only (R1).
 *
 *   chunk of a by-reference column            chunk of a copied column
 *   | buffer: rows owned | span | span | …    | buffer: rows                    | (zeros)
 *     from before the      cells where they
 *     last commit          lie in the ring
 *
 * A job reads the chunk's bytes and fills out_*; until its `done` is seen, nobody else touches the chunk. */
#include "record/internal.h"

#include <stdlib.h>
#include <string.h>

#define STRINGS_CHUNK_BYTES (64ull << 10)

/* ---- output buffers ---- */

void *esk_buffer_take(esk_recorder *r, size_t bytes, size_t *ret_capacity)
{
	uint32_t best = r->buffer_count;
	for (uint32_t i = 0; i < r->buffer_count; i++)
		if (r->buffers[i].capacity >= bytes &&
			(best == r->buffer_count || r->buffers[i].capacity < r->buffers[best].capacity))
			best = i;
	if (best < r->buffer_count && r->buffers[best].capacity / 4 <= bytes) {
		void *data = r->buffers[best].data;
		*ret_capacity = r->buffers[best].capacity;
		r->buffers[best] = r->buffers[--r->buffer_count];
		return data;
	}
	void *data = malloc(bytes);
	*ret_capacity = data != NULL ? bytes : 0;
	return data;
}

void esk_buffer_give(esk_recorder *r, void *data, size_t capacity)
{
	if (data != NULL && r->buffer_count < ESK_BUFFER_CACHE)
		r->buffers[r->buffer_count++] = (esk_buffer){data, capacity};
	else
		free(data);
}

/* ---- writers ---- */

esk_status esk_writer_init(esk_column_writer *writer, const esk_column *column, const char *default_codec,
	uint64_t chunk_target_bytes, bool may_reference, esk_error *err)
{
	*writer = (esk_column_writer){.column = *column};
	writer->cell_bytes = esk_column_cell_bytes(column);
	writer->elements = writer->cell_bytes / column->dtype.size_bytes;
	writer->strings = column->dtype.kind == ESK_STRING;
	writer->chunk_rows = esk_column_chunk_rows(column);
	/* Texts are references of a fixed size, stored without filters: a chunk takes all its room at once.
	 */
	if (writer->strings)
		chunk_target_bytes = esk_min_u64(chunk_target_bytes, STRINGS_CHUNK_BYTES);
	if (column->chunk_rows == 0 && chunk_target_bytes < ESK_CHUNK_TARGET_BYTES)
		writer->chunk_rows = esk_max_u64(1, chunk_target_bytes / writer->cell_bytes);
	if (!esk_mul_u64(writer->chunk_rows, writer->cell_bytes, &writer->chunk_bytes) ||
		writer->chunk_bytes > UINT32_MAX)
		return esk_fail(err, ESK_ERANGE,
			"column \"%s\": a chunk of %llu rows of %llu bytes is larger than HDF5's limit of 4 "
			"GiB; give a smaller chunk_rows",
			column->name, (unsigned long long)writer->chunk_rows,
			(unsigned long long)writer->cell_bytes);
	writer->by_reference =
		may_reference && !writer->strings && writer->cell_bytes >= ESK_BY_REFERENCE_BYTES;
	if (writer->strings)
		return ESK_OK;
	const char *codec = column->codec[0] != '\0' ? column->codec : default_codec;
	esk_status status = esk_pipeline_build(codec, column, writer->chunk_rows, &writer->pipeline, err);
	return status == ESK_OK ? status : esk_fail_in(err, status, "column \"%s\"", column->name);
}

static void chunk_destroy(esk_chunk *chunk)
{
	if (chunk == NULL)
		return;
	free(chunk->buffer);
	free(chunk->spans);
	free(chunk->out);
	free(chunk);
}

/* Puts a chunk among the free ones. Only an open chunk owns rows of a by-reference column: were its buffer
 * left to it, memory would grow until every chunk in flight had been open at some commit. */
static void chunk_free(esk_chunk *chunk)
{
	esk_column_writer *writer = chunk->writer;
	if (writer->by_reference && writer->spare == NULL) {
		writer->spare = chunk->buffer;
		chunk->buffer = NULL;
	} else if (writer->by_reference) {
		free(chunk->buffer);
		chunk->buffer = NULL;
	}
	chunk->next = writer->free_chunks;
	writer->free_chunks = chunk;
}

static void chunk_recycle(esk_recorder *r, esk_chunk *chunk)
{
	esk_buffer_give(r, chunk->out, chunk->out_capacity);
	chunk->out = NULL;
	chunk_free(chunk);
}

/* Gives a chunk a buffer for rows of its own. */
static esk_status chunk_own(esk_chunk *chunk, esk_error *err)
{
	esk_column_writer *writer = chunk->writer;
	if (chunk->buffer != NULL)
		return ESK_OK;
	chunk->buffer = writer->spare != NULL ? writer->spare : malloc(writer->chunk_bytes);
	writer->spare = NULL;
	return chunk->buffer != NULL ? ESK_OK : esk_fail_memory(err, writer->chunk_bytes, "a chunk");
}

static esk_chunk *chunk_take(esk_column_writer *writer, uint64_t index, esk_error *err)
{
	esk_chunk *chunk = writer->free_chunks;
	if (chunk != NULL) {
		writer->free_chunks = chunk->next;
	} else {
		chunk = calloc(1, sizeof *chunk);
		if (chunk == NULL) {
			esk_fail_memory(err, sizeof *chunk, "a chunk");
			return NULL;
		}
		size_t spans = writer->by_reference ? writer->chunk_rows + 1 : 1;
		chunk->spans = calloc(spans, sizeof *chunk->spans);
		if (!writer->by_reference)
			chunk->buffer = malloc(writer->chunk_bytes);
		if (chunk->spans == NULL || (!writer->by_reference && chunk->buffer == NULL)) {
			chunk_destroy(chunk);
			esk_fail_memory(err, writer->chunk_bytes, "a chunk");
			return NULL;
		}
		chunk->writer = writer;
	}
	chunk->index = index;
	chunk->rows = 0;
	chunk->owned_bytes = 0;
	chunk->span_count = 0;
	chunk->next = NULL;
	return chunk;
}

/* Frees what no chunk in use has. */
static void drop_free(esk_column_writer *writer)
{
	while (writer->free_chunks != NULL) {
		esk_chunk *next = writer->free_chunks->next;
		chunk_destroy(writer->free_chunks);
		writer->free_chunks = next;
	}
	free(writer->spare);
	writer->spare = NULL;
}

void esk_writer_reset(esk_column_writer *writer)
{
	if (writer->open != NULL)
		chunk_free(writer->open);
	writer->open = NULL;
	writer->dataset = NULL;
	writer->rows = writer->written_rows = writer->partial_rows = 0;
	writer->pending_count = writer->pending_size = 0;
}

void esk_writer_clear(esk_column_writer *writer)
{
	chunk_destroy(writer->open);
	drop_free(writer);
	free(writer->pending);
	free(writer->pending_bytes);
	*writer = (esk_column_writer){0};
}

esk_status esk_writer_attach(
	esk_recorder *r, esk_column_writer *writer, esk_h5_dataset *dataset, esk_error *err)
{
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	writer->dataset = dataset;
	writer->rows = writer->written_rows = info->rows;
	writer->partial_rows = 0;
	if (writer->strings)
		return ESK_OK;
	if (!info->chunked || info->chunk_shape[0] == 0)
		return esk_fail(err, ESK_EUNSUPPORTED,
			"dataset \"%s\" is not chunked: Esker cannot append to it", info->path);
	for (uint32_t i = 0; i < writer->column.rank; i++)
		if (info->chunk_shape[i + 1] != writer->column.shape[i])
			return esk_fail(err, ESK_EUNSUPPORTED,
				"dataset \"%s\" has chunks of parts of cells: Esker cannot append to it",
				info->path);
	writer->chunk_rows = info->chunk_shape[0];
	writer->chunk_bytes = writer->chunk_rows * writer->cell_bytes;
	writer->pipeline = info->pipeline;
	esk_status status = esk_pipeline_check(&writer->pipeline, err);
	if (status != ESK_OK)
		return esk_fail_in(err, status, "dataset \"%s\"", info->path);
	drop_free(writer); /* made for another chunk shape, perhaps */
	esk_chunk *chunk = writer->open = chunk_take(writer, info->rows / writer->chunk_rows, err);
	if (chunk == NULL)
		return err != NULL ? err->code : ESK_ENOMEM;
	uint64_t partial = info->rows % writer->chunk_rows;
	if (partial == 0)
		return ESK_OK;
	status = chunk_own(chunk, err);
	if (status != ESK_OK)
		return status;
	esk_h5_rows piece = {.row = info->rows - partial, .count = partial, .out = chunk->buffer};
	status = esk_h5_read_rows(dataset, r->pool, &piece, 1, err);
	chunk->rows = partial;
	chunk->owned_bytes = partial * writer->cell_bytes;
	writer->partial_rows = partial;
	return status;
}

/* ---- encoding ---- */

static void encode_job(esk_job *job, esk_scratch *scratch)
{
	esk_chunk *chunk = (esk_chunk *)((char *)job - offsetof(esk_chunk, job));
	const esk_span *spans = chunk->spans;
	size_t count = chunk->span_count + 1u;
	if (chunk->owned_bytes == 0) {
		spans++;
		count--;
	}
	chunk->status = esk_pipeline_encode(&chunk->writer->pipeline, scratch, spans, count, chunk->out,
		chunk->out_capacity, &chunk->out_size, &chunk->filter_mask, &chunk->error);
	atomic_store_explicit(
		&chunk->done, true, memory_order_release); /* with the acquire in write_encoded */
}

static esk_status submit(esk_recorder *r, esk_chunk *chunk, esk_error *err)
{
	chunk->spans[0] = (esk_span){chunk->buffer, chunk->owned_bytes};
	size_t bound = esk_pipeline_bound(&chunk->writer->pipeline);
	chunk->out = esk_buffer_take(r, bound, &chunk->out_capacity);
	if (chunk->out == NULL)
		return esk_fail_memory(err, bound, "an encoded chunk");
	atomic_store_explicit(
		&chunk->done, false, memory_order_relaxed); /* the pool's queue orders it before the job */
	chunk->job.run = encode_job;
	chunk->next = NULL;
	if (r->encoded_last != NULL)
		r->encoded_last->next = chunk;
	else
		r->encoded_first = chunk;
	r->encoded_last = chunk;
	r->inflight_bytes += chunk->writer->chunk_bytes;
	esk_batch_submit(&r->batch, &chunk->job);
	return ESK_OK;
}

static esk_status write_one(esk_chunk *chunk, uint64_t rows, esk_error *err)
{
	esk_column_writer *writer = chunk->writer;
	if (chunk->status != ESK_OK) {
		if (err != NULL)
			*err = chunk->error;
		return chunk->status;
	}
	if (rows > writer->written_rows) {
		esk_status status = esk_h5_set_rows(writer->dataset, rows, err);
		if (status != ESK_OK)
			return status;
		writer->written_rows = rows;
	}
	return esk_h5_write_chunk(
		writer->dataset, chunk->index, chunk->filter_mask, chunk->out, chunk->out_size, err);
}

/* Writes chunks whose jobs are done, oldest first, while more than `left_bytes` are in flight. */
static esk_status write_done(esk_recorder *r, uint64_t left_bytes, esk_error *err)
{
	esk_status status = ESK_OK;
	while (r->inflight_bytes > left_bytes && r->encoded_first != NULL &&
		atomic_load_explicit(&r->encoded_first->done, memory_order_acquire)) {
		esk_chunk *chunk = r->encoded_first;
		r->encoded_first = chunk->next;
		if (r->encoded_first == NULL)
			r->encoded_last = NULL;
		r->inflight_bytes -= chunk->writer->chunk_bytes;
		if (status == ESK_OK)
			status = write_one(
				chunk, (chunk->index * chunk->writer->chunk_rows) + chunk->rows, err);
		if (chunk == chunk->writer->open) { /* written as far as it is; it stays open */
			chunk->writer->partial_rows = chunk->rows;
			esk_buffer_give(r, chunk->out, chunk->out_capacity);
			chunk->out = NULL;
			chunk->next = NULL;
		} else {
			chunk_recycle(r, chunk);
		}
	}
	return status;
}

esk_status esk_assembler_write_encoded(esk_recorder *r, bool all, esk_error *err)
{
	if (all && r->encoded_first != NULL)
		esk_batch_wait(&r->batch);
	return write_done(r, 0, err);
}

/* With too much in flight: waits for and writes as much as is too much, and no more, so that the pool always
 * has jobs while this thread writes. */
static esk_status keep_bounded(esk_recorder *r, esk_error *err)
{
	esk_status status = write_done(r, ESK_INFLIGHT_BYTES, err);
	while (status == ESK_OK && r->inflight_bytes > ESK_INFLIGHT_BYTES) {
		esk_batch_wait_one(&r->batch);
		status = write_done(r, ESK_INFLIGHT_BYTES, err);
	}
	return status;
}

/* ---- taking rows ---- */

static esk_status close_full_chunk(esk_recorder *r, esk_column_writer *writer, esk_error *err)
{
	esk_chunk *full = writer->open;
	writer->open = chunk_take(writer, full->index + 1, err);
	writer->partial_rows = 0;
	if (writer->open == NULL) {
		writer->open = full;
		return ESK_ENOMEM;
	}
	esk_status status = submit(r, full, err);
	if (status != ESK_OK) {
		chunk_recycle(r, full);
		return status;
	}
	return keep_bounded(r, err);
}

esk_status esk_writer_append(
	esk_recorder *r, esk_column_writer *writer, const void *cells, uint64_t rows, esk_error *err)
{
	const uint8_t *from = cells;
	writer->rows += rows;
	while (rows > 0) {
		esk_chunk *chunk = writer->open;
		uint64_t count = esk_min_u64(rows, writer->chunk_rows - chunk->rows);
		uint64_t bytes = count * writer->cell_bytes;
		if (writer->by_reference) {
			chunk->spans[1 + chunk->span_count++] = (esk_span){from, bytes};
		} else {
			memcpy(chunk->buffer + chunk->owned_bytes, from, bytes);
			chunk->owned_bytes += bytes;
		}
		chunk->rows += count;
		from += bytes;
		rows -= count;
		if (chunk->rows == writer->chunk_rows) {
			esk_status status = close_full_chunk(r, writer, err);
			if (status != ESK_OK)
				return status;
		}
	}
	return ESK_OK;
}

/* Hands the pending strings to libhdf5: it is as slow for one as for a thousand. */
static esk_status write_pending(esk_recorder *r, esk_column_writer *writer, esk_error *err)
{
	if (!writer->strings || writer->pending_count == 0)
		return ESK_OK;
	uint64_t rows = writer->pending_count / writer->elements;
	uint64_t first = writer->written_rows;
	for (uint64_t i = 0; i < writer->pending_count; i++)
		writer->pending[i].data = writer->pending_bytes + (uintptr_t)writer->pending[i].data;
	writer->pending_count = writer->pending_size = 0;
	esk_status status = esk_h5_set_rows(writer->dataset, first + rows, err);
	if (status != ESK_OK)
		return status;
	writer->written_rows = first + rows;
	return esk_h5_write_strings(writer->dataset, first, rows, writer->pending, err);
}

static esk_status make_room_for_string(esk_column_writer *writer, size_t size, esk_error *err)
{
	uint64_t wanted = writer->pending_size + size;
	if (writer->pending == NULL) {
		uint64_t count = esk_max_u64(ESK_PENDING_STRINGS, writer->elements);
		writer->pending = malloc(count * sizeof *writer->pending);
		if (writer->pending == NULL)
			return esk_fail_memory(err, count * sizeof *writer->pending, "strings");
	}
	if (wanted <= writer->pending_capacity)
		return ESK_OK;
	uint64_t capacity = esk_max_u64(2 * wanted, 4096);
	char *grown = realloc(writer->pending_bytes, capacity);
	if (grown == NULL)
		return esk_fail_memory(err, capacity, "strings");
	writer->pending_bytes = grown;
	writer->pending_capacity = capacity;
	return ESK_OK;
}

esk_status esk_writer_append_strings(
	esk_recorder *r, esk_column_writer *writer, const esk_string *strings, uint64_t rows, esk_error *err)
{
	esk_status status = ESK_OK;
	writer->rows += rows;
	for (uint64_t i = 0; i < rows * writer->elements && status == ESK_OK; i++) {
		bool whole_rows = writer->pending_count % writer->elements == 0;
		if (whole_rows && (writer->pending_count + writer->elements >
						  esk_max_u64(ESK_PENDING_STRINGS, writer->elements) ||
					  writer->pending_size > ESK_PENDING_BYTES))
			status = write_pending(r, writer, err);
		if (status == ESK_OK)
			status = make_room_for_string(writer, strings[i].size, err);
		if (status != ESK_OK)
			break;
		if (strings[i].size > 0)
			memcpy(writer->pending_bytes + writer->pending_size, strings[i].data,
				strings[i].size);
		writer->pending[writer->pending_count++] =
			(esk_string){(const char *)(uintptr_t)writer->pending_size, strings[i].size};
		writer->pending_size += strings[i].size;
	}
	return status;
}

/* ---- commits ---- */

static esk_status for_each_writer(esk_recorder *r,
	esk_status (*visit)(esk_recorder *, esk_column_writer *, esk_error *), esk_error *err)
{
	esk_status status = ESK_OK;
	uint32_t count = atomic_load_explicit(
		&r->stream_count, memory_order_acquire); /* with the release in drain.c */
	for (uint32_t s = 0; s < count && status == ESK_OK; s++) {
		esk_stream *stream = r->streams[s];
		for (size_t w = 0; w < stream->writer_count && status == ESK_OK; w++)
			status = visit(r, &stream->writers[w], err);
	}
	if (status == ESK_OK && r->gap_writer.dataset != NULL)
		status = visit(r, &r->gap_writer, err);
	for (size_t i = 0; i < ESK_ITEM_WRITERS && status == ESK_OK; i++)
		if (r->item_writers[i].dataset != NULL)
			status = visit(r, &r->item_writers[i], err);
	return status;
}

static esk_status submit_partial(esk_recorder *r, esk_column_writer *writer, esk_error *err)
{
	esk_chunk *chunk = writer->open;
	if (writer->strings || chunk == NULL || chunk->rows == writer->partial_rows)
		return ESK_OK;
	esk_status status = submit(r, chunk, err);
	return status == ESK_OK ? keep_bounded(r, err) : status;
}

esk_status esk_assembler_write_partials(esk_recorder *r, esk_error *err)
{
	esk_status status = for_each_writer(r, write_pending, err);
	if (status == ESK_OK)
		status = for_each_writer(r, submit_partial, err);
	esk_status written = esk_assembler_write_encoded(r, true, status == ESK_OK ? err : NULL);
	return status == ESK_OK ? written : status;
}

static esk_status own_spans(esk_recorder *r, esk_column_writer *writer, esk_error *err)
{
	esk_chunk *chunk = writer->open;
	if (writer->strings || chunk == NULL || chunk->span_count == 0)
		return ESK_OK;
	esk_status status = chunk_own(chunk, err);
	if (status != ESK_OK)
		return status;
	for (uint32_t i = 1; i <= chunk->span_count; i++) {
		memcpy(chunk->buffer + chunk->owned_bytes, chunk->spans[i].data, chunk->spans[i].size_bytes);
		chunk->owned_bytes += chunk->spans[i].size_bytes;
	}
	chunk->span_count = 0;
	return ESK_OK;
}

esk_status esk_assembler_own_spans(esk_recorder *r, esk_error *err)
{
	return for_each_writer(r, own_spans, err);
}

static esk_status reset_writer(esk_recorder *r, esk_column_writer *writer, esk_error *err)
{
	esk_writer_reset(writer);
	return ESK_OK;
}

void esk_assembler_reset(esk_recorder *r)
{
	if (r->encoded_first != NULL)
		esk_batch_wait(&r->batch);
	while (r->encoded_first != NULL) {
		esk_chunk *chunk = r->encoded_first;
		r->encoded_first = chunk->next;
		if (chunk != chunk->writer->open) {
			chunk_recycle(r, chunk);
		} else {
			esk_buffer_give(r, chunk->out, chunk->out_capacity);
			chunk->out = NULL;
		}
	}
	r->encoded_last = NULL;
	r->inflight_bytes = 0;
	for_each_writer(r, reset_writer, NULL);
}
