/* Plain HDF5 files for exports: see esker/plain.h.
 *
 * Rows gather in the buffers of up to SLOTS_MOST chunks; when all are full they are encoded side by side and
 * written in order. The buffers are kept for the next array. Nothing is committed before the file is closed,
 * so everything goes straight to its place and the journal stays empty. */
#include "h5/h5.h"
#include "store/store.h"

#include <esker/plain.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_MOST 16
#define QUEUE_JOBS 32

typedef struct plain_chunk {
	esk_job job; /* first: the pool gives it back */
	const esk_pipeline *pipeline;
	unsigned char *raw;
	unsigned char *encoded;
	size_t raw_room, encoded_room;
	size_t used; /* bytes of raw */
	size_t size; /* bytes of encoded */
	uint32_t filter_mask;
	esk_status status;
	esk_error error;
} plain_chunk;

struct esk_plain {
	char *path;
	esk_h5 *h5;
	esk_pool *pool;
	uint32_t slots;
	plain_chunk chunks[SLOTS_MOST];
	/* The array that was begun. */
	esk_h5_dataset *array; /* NULL: none */
	esk_pipeline pipeline;
	bool strings;
	uint64_t row_bytes;
	uint64_t rows;    /* appended */
	uint64_t written; /* chunks */
	uint32_t full;    /* chunks waiting to be encoded; the one behind them is being filled */
};

/* ---- files ---- */

static void free_file(esk_plain *file)
{
	for (uint32_t i = 0; i < SLOTS_MOST; i++) {
		free(file->chunks[i].raw);
		free(file->chunks[i].encoded);
	}
	esk_pool_destroy(file->pool);
	free(file->path);
	free(file);
}

static void remove_file(const char *path)
{
	char journal[ESK_PATH_BYTES + 16];
	snprintf(journal, sizeof journal, "%s-journal", path);
	esk_os_unlink(esk_os_posix(), path, NULL);
	esk_os_unlink(esk_os_posix(), journal, NULL);
}

esk_status esk_plain_create(const char *path, esk_plain **ret_file, esk_error *err)
{
	if (path == NULL || path[0] == '\0' || strlen(path) >= ESK_PATH_BYTES)
		return esk_fail(err, ESK_EINVAL, "the path of a file is missing or too long");
	esk_plain *file = calloc(1, sizeof *file);
	if (file == NULL || (file->path = strdup(path)) == NULL) {
		free(file);
		return esk_fail_memory(err, sizeof *file, path);
	}
	esk_status status = esk_pool_create(0, QUEUE_JOBS, &file->pool, err);
	if (status == ESK_OK)
		status = esk_h5_create(esk_os_posix(), path, &file->h5, err);
	if (status != ESK_OK) {
		free_file(file);
		return status;
	}
	file->slots = (uint32_t)esk_min_u64(2 * esk_pool_threads(file->pool), SLOTS_MOST);
	*ret_file = file;
	return ESK_OK;
}

void esk_plain_discard(esk_plain *file)
{
	if (file == NULL)
		return;
	esk_h5_abandon(file->h5);
	remove_file(file->path);
	free_file(file);
}

esk_status esk_plain_close(esk_plain *file, esk_error *err)
{
	if (file == NULL)
		return ESK_OK;
	esk_status status = esk_plain_end(file, err);
	if (status == ESK_OK)
		status = esk_h5_commit_begin(file->h5, err);
	if (status == ESK_OK)
		status = esk_h5_commit_finish(file->h5, NULL, err);
	if (status != ESK_OK) {
		esk_plain_discard(file);
		return status;
	}
	status = esk_h5_close(file->h5, err);
	if (status != ESK_OK)
		remove_file(file->path);
	free_file(file);
	return status;
}

/* ---- groups and attributes ---- */

esk_status esk_plain_group(esk_plain *file, const char *path, esk_error *err)
{
	return esk_h5_make_group(file->h5, path, err);
}

esk_status esk_plain_set_text(
	esk_plain *file, const char *object, const char *name, const char *text, esk_error *err)
{
	return esk_h5_set_text(file->h5, object, name, text, err);
}

esk_status esk_plain_set_integer(
	esk_plain *file, const char *object, const char *name, int64_t value, esk_error *err)
{
	return esk_h5_set_i64(file->h5, object, name, value, err);
}

/* ---- arrays ---- */

static void encode(esk_job *job, esk_scratch *scratch)
{
	plain_chunk *chunk = (plain_chunk *)job;
	esk_span span = {chunk->raw, chunk->used};
	chunk->status = esk_pipeline_encode(chunk->pipeline, scratch, &span, 1, chunk->encoded,
		chunk->encoded_room, &chunk->size, &chunk->filter_mask, &chunk->error);
}

static esk_status make_room(
	unsigned char **buf, size_t *room, size_t wanted, const char *what, esk_error *err)
{
	if (*room >= wanted)
		return ESK_OK;
	free(*buf);
	*buf = malloc(wanted);
	*room = *buf != NULL ? wanted : 0;
	return *buf != NULL ? ESK_OK : esk_fail_memory(err, wanted, what);
}

static esk_status write_chunk(esk_plain *file, const plain_chunk *chunk, esk_error *err)
{
	if (chunk->status != ESK_OK)
		return esk_fail(err, chunk->status, "%s: %s", file->path, chunk->error.message);
	return esk_h5_write_chunk(
		file->array, file->written, chunk->filter_mask, chunk->encoded, chunk->size, err);
}

/* Encodes and writes the chunks that are full. */
static esk_status flush(esk_plain *file, esk_error *err)
{
	esk_batch batch;
	esk_status status = esk_h5_set_rows(file->array, file->rows, err);
	for (uint32_t i = 0; i < file->full && status == ESK_OK; i++)
		status = make_room(&file->chunks[i].encoded, &file->chunks[i].encoded_room,
			esk_pipeline_bound(&file->pipeline), "a chunk", err);
	if (status != ESK_OK)
		return status;
	esk_batch_init(&batch, file->pool);
	for (uint32_t i = 0; i < file->full; i++) {
		file->chunks[i].job.run = encode;
		file->chunks[i].pipeline = &file->pipeline;
		esk_batch_submit(&batch, &file->chunks[i].job);
	}
	esk_batch_wait(&batch);
	for (uint32_t i = 0; i < file->full && status == ESK_OK; i++) {
		status = write_chunk(file, &file->chunks[i], err);
		file->written++;
		file->chunks[i].used = 0;
	}
	file->full = 0;
	return status;
}

static esk_status check_array(const esk_column *column, esk_column *ret_column, esk_error *err)
{
	*ret_column = *column;
	snprintf(ret_column->name, sizeof ret_column->name, "array");
	esk_status status = esk_column_check(ret_column, err);
	if (status == ESK_OK && column->nullable)
		status = esk_fail(err, ESK_EINVAL,
			"an array of a plain file has no missing cells: give its validity as one more");
	return status;
}

esk_status esk_plain_begin(esk_plain *file, const char *path, const esk_column *column, esk_error *err)
{
	esk_column checked;
	esk_pipeline pipeline = {0};
	esk_h5_dataset *array;
	esk_status status = esk_plain_end(file, err);
	if (status == ESK_OK)
		status = check_array(column, &checked, err);
	if (status != ESK_OK)
		return status;
	bool strings = checked.dtype.kind == ESK_STRING;
	uint64_t chunk_rows = esk_column_chunk_rows(&checked);
	if (!strings)
		status = esk_pipeline_build(checked.codec[0] != '\0' ? checked.codec : "gzip:1", &checked,
			chunk_rows, &pipeline, err);
	if (status == ESK_OK)
		status = esk_h5_dataset_create(file->h5, path, &checked, chunk_rows, &pipeline, &array, err);
	if (status != ESK_OK)
		return status;
	file->array = array;
	file->pipeline = pipeline;
	file->strings = strings;
	file->row_bytes = esk_column_cell_bytes(&checked);
	file->rows = 0;
	file->written = 0;
	return ESK_OK;
}

static esk_status append_strings(esk_plain *file, const void *cells, uint64_t rows, esk_error *err)
{
	esk_status status = esk_h5_set_rows(file->array, file->rows + rows, err);
	if (status == ESK_OK)
		status = esk_h5_write_strings(file->array, file->rows, rows, cells, err);
	if (status == ESK_OK)
		file->rows += rows;
	return status;
}

esk_status esk_plain_append(esk_plain *file, const void *cells, uint64_t rows, esk_error *err)
{
	if (file->array == NULL)
		return esk_fail(err, ESK_EINVAL, "%s: no array was begun", file->path);
	if (file->strings)
		return append_strings(file, cells, rows, err);
	const unsigned char *at = cells;
	esk_status status = ESK_OK;
	while (rows > 0 && status == ESK_OK) {
		plain_chunk *chunk = &file->chunks[file->full];
		status = make_room(&chunk->raw, &chunk->raw_room, file->pipeline.chunk_bytes, "a chunk", err);
		if (status != ESK_OK)
			return status;
		uint64_t taken =
			esk_min_u64(rows, (file->pipeline.chunk_bytes - chunk->used) / file->row_bytes);
		memcpy(chunk->raw + chunk->used, at, taken * file->row_bytes);
		chunk->used += taken * file->row_bytes;
		at += taken * file->row_bytes;
		rows -= taken;
		file->rows += taken;
		if (chunk->used == file->pipeline.chunk_bytes && ++file->full == file->slots)
			status = flush(file, err);
	}
	return status;
}

esk_status esk_plain_end(esk_plain *file, esk_error *err)
{
	if (file->array == NULL)
		return ESK_OK;
	esk_status status = ESK_OK;
	if (!file->strings) {
		file->full += file->full < file->slots && file->chunks[file->full].used > 0;
		status = flush(file, err);
	}
	for (uint32_t i = 0; i < file->slots; i++)
		file->chunks[i].used = 0;
	file->full = 0;
	esk_h5_dataset_close(file->array);
	file->array = NULL;
	return status;
}
