/* One chunk: its stored bytes are read, decoded as far as anyone wants them, and handed out. Runs in the
 * calling thread or in one of the pool's; calls no libhdf5. */
#include "h5/read_internal.h"
#include <stdlib.h>
#include <string.h>

static esk_status fail_chunk(const esk_h5_dataset *dataset, uint64_t chunk, esk_status status, esk_error *err)
{
	return esk_fail_in(err, status, "%s: dataset %s, chunk %llu", esk_h5_path(dataset->file),
		esk_h5_dataset_info(dataset)->path, (unsigned long long)chunk);
}

/* Before anything is read or allocated: hostile files name chunks beyond their end. */
static esk_status place_check(
	const esk_h5_dataset *dataset, uint64_t chunk, const esk_h5_place *place, esk_error *err)
{
	uint64_t end, file_end = esk_jfile_end(dataset->file->jfile);
	if (esk_add_u64(place->address, place->size_bytes, &end) && end <= file_end)
		return ESK_OK;
	esk_fail(err, ESK_ECORRUPT,
		"%llu bytes at %llu reach beyond the end of the file (%llu): it was cut or damaged; esker "
		"repair salvages the rest",
		(unsigned long long)place->size_bytes, (unsigned long long)place->address,
		(unsigned long long)file_end);
	return fail_chunk(dataset, chunk, ESK_ECORRUPT, err);
}

/* True if the bytes in the file are the chunk itself. */
static bool stored_plain(const esk_pipeline *pipeline, const esk_h5_place *place)
{
	uint32_t all = (1u << pipeline->count) - 1;
	return (place->filter_mask & all) == all;
}

static esk_status plain_check(const esk_h5_dataset *dataset, uint64_t chunk, const esk_h5_place *place,
	uint64_t chunk_bytes, esk_error *err)
{
	if (place->size_bytes == chunk_bytes)
		return ESK_OK;
	esk_fail(err, ESK_ECORRUPT, "stored without filters in %llu bytes, expected %llu",
		(unsigned long long)place->size_bytes, (unsigned long long)chunk_bytes);
	return fail_chunk(dataset, chunk, ESK_ECORRUPT, err);
}

/* The scratch of a thread that has none of the pool's, made on first use; NULL when memory runs out. */
static esk_scratch *scratch_of(esk_h5_buffers *buffers)
{
	if (!buffers->scratch)
		buffers->scratch = esk_scratch_create();
	return buffers->scratch;
}

/* Reads the stored bytes and decodes the first want_bytes of the chunk into `out`, which has room for
 * out_bytes. */
static esk_status chunk_decode(esk_h5_dataset *dataset, uint64_t chunk, const esk_h5_place *place,
	esk_h5_buffers *buffers, esk_scratch *scratch, unsigned char *out, uint64_t out_bytes,
	uint64_t want_bytes, esk_error *err)
{
	const esk_pipeline *pipeline = &esk_h5_dataset_info(dataset)->pipeline;
	esk_status status = place_check(dataset, chunk, place, err);
	if (status != ESK_OK)
		return status;
	if (stored_plain(pipeline, place)) {
		status = plain_check(dataset, chunk, place, pipeline->chunk_bytes, err);
		if (status != ESK_OK)
			return status;
		return esk_jfile_read(dataset->file->jfile, place->address, out, want_bytes, err);
	}
	if (!scratch)
		scratch = scratch_of(buffers);
	if (!scratch)
		return esk_fail_memory(err, 0, "a decoder");
	status = esk_h5_buffer_grow(
		&buffers->stored, &buffers->stored_bytes, place->size_bytes, "a chunk as stored", err);
	if (status != ESK_OK)
		return status;
	status =
		esk_jfile_read(dataset->file->jfile, place->address, buffers->stored, place->size_bytes, err);
	if (status != ESK_OK)
		return status;
	status = esk_pipeline_decode_roomy(pipeline, scratch, place->filter_mask, buffers->stored,
		place->size_bytes, out, out_bytes, want_bytes, err);
	return status == ESK_OK ? ESK_OK : fail_chunk(dataset, chunk, status, err);
}

/* Chunks without filters are read where they are wanted, and only what is wanted. */
static esk_status task_run_plain(esk_h5_read *read, const esk_h5_task *task, esk_error *err)
{
	esk_h5_dataset *dataset = read->dataset;
	const esk_h5_grid *grid = &read->grid;
	esk_status status = place_check(dataset, task->chunk, &task->place, err);
	if (status == ESK_OK)
		status = plain_check(dataset, task->chunk, &task->place, grid->chunk_bytes, err);
	for (size_t i = 0; i < task->count && status == ESK_OK; i++) {
		const esk_h5_entry *entry = &read->entries[task->first + i];
		status = esk_jfile_read(dataset->file->jfile,
			task->place.address + entry->row * grid->chunk_row_bytes, entry->out,
			entry->count * grid->cell_bytes, err);
	}
	return status;
}

static void task_fill(esk_h5_read *read, const esk_h5_task *task, const unsigned char *fill)
{
	for (size_t i = 0; i < task->count; i++)
		esk_h5_entry_copy(&read->grid, &read->entries[task->first + i], task->part, NULL, fill);
}

static void task_copy(esk_h5_read *read, const esk_h5_task *task, const unsigned char *data)
{
	const esk_h5_grid *grid = &read->grid;
	for (size_t i = 0; i < task->count; i++) {
		const esk_h5_entry *entry = &read->entries[task->first + i];
		if (entry->out == data)
			continue;
		if (read->past_cache && grid->whole_cells)
			esk_copy_past_cache(entry->out, data + entry->row * grid->chunk_row_bytes,
				entry->count * grid->cell_bytes);
		else
			esk_h5_entry_copy(grid, entry, task->part, data, NULL);
	}
}

/* An entry that is the whole chunk, so that it can be decoded where it is to go in the end. NULL if there is
 * none, or if that is not worth it. */
static const esk_h5_entry *task_direct_entry(const esk_h5_read *read, const esk_h5_task *task)
{
	for (size_t i = 0; i < task->count && read->grid.whole_cells && !read->past_cache; i++)
		if (read->entries[task->first + i].count == read->grid.chunk_rows)
			return &read->entries[task->first + i];
	return NULL;
}

/* Bytes of a shuffled chunk's first row come from all over it: everything is decompressed anyway. */
static bool shuffled(const esk_pipeline *pipeline)
{
	for (uint32_t i = 0; i < pipeline->count; i++)
		if (pipeline->filters[i].id == ESK_FILTER_SHUFFLE)
			return true;
	return false;
}

/* Decodes into a slot, or into the thread's buffer where the chunk is not worth keeping or too large. */
static esk_status task_run_apart(esk_h5_read *read, const esk_h5_task *task, uint64_t want_rows,
	esk_h5_buffers *buffers, esk_scratch *scratch, bool again, esk_error *err)
{
	const esk_h5_grid *grid = &read->grid;
	/* A chunk that comes back for more rows is decoded whole, lest each row after another cost a longer
	 * prefix. */
	bool whole = read->keep && (again || shuffled(&esk_h5_dataset_info(read->dataset)->pipeline));
	uint64_t want_bytes = want_rows * grid->chunk_row_bytes;
	if (whole || grid->chunk_bytes - want_bytes < ESK_DECODE_SLACK)
		want_bytes = grid->chunk_bytes;
	uint64_t out_bytes = esk_min_u64(grid->chunk_bytes, want_bytes + ESK_DECODE_SLACK);
	esk_h5_slot *slot = read->keep ? esk_h5_slot_take(read->reader, grid->chunk_bytes) : NULL;
	esk_status status = ESK_OK;
	if (!slot)
		status = esk_h5_buffer_grow(
			&buffers->decoded, &buffers->decoded_bytes, out_bytes, "a decoded chunk", err);
	unsigned char *data = slot ? slot->data : buffers->decoded;
	if (status == ESK_OK)
		status = chunk_decode(read->dataset, task->chunk, &task->place, buffers, scratch, data,
			out_bytes, want_bytes, err);
	if (status == ESK_OK)
		task_copy(read, task, data);
	if (slot) {
		if (status == ESK_OK)
			esk_h5_slot_publish(
				read->reader, slot, read->dataset->chunk_cache, task->chunk, want_bytes);
		esk_h5_slot_release(read->reader, slot);
	}
	return status;
}

esk_status esk_h5_task_run(esk_h5_read *read, const esk_h5_task *task, esk_h5_buffers *buffers,
	esk_scratch *scratch, esk_error *err)
{
	const esk_h5_grid *grid = &read->grid;
	if (task->place.size_bytes == 0) {
		task_fill(read, task, read->fill);
		return ESK_OK;
	}
	const esk_pipeline *pipeline = &esk_h5_dataset_info(read->dataset)->pipeline;
	if (grid->whole_cells && stored_plain(pipeline, &task->place))
		return task_run_plain(read, task, err);

	const esk_h5_entry *direct = task_direct_entry(read, task);
	if (direct) {
		esk_status status = chunk_decode(read->dataset, task->chunk, &task->place, buffers, scratch,
			direct->out, grid->chunk_bytes, grid->chunk_bytes, err);
		if (status == ESK_OK)
			task_copy(read, task, direct->out);
		return status;
	}
	uint64_t want_rows = 0;
	for (size_t i = 0; i < task->count; i++) {
		const esk_h5_entry *entry = &read->entries[task->first + i];
		want_rows = esk_max_u64(want_rows, entry->row + entry->count);
	}
	bool again = false;
	esk_h5_slot *slot = esk_h5_slot_find(read->reader, read->dataset->chunk_cache, task->chunk,
		want_rows * grid->chunk_row_bytes, &again);
	if (!slot)
		return task_run_apart(read, task, want_rows, buffers, scratch, again, err);
	task_copy(read, task, slot->data);
	esk_h5_slot_release(read->reader, slot);
	return ESK_OK;
}

/* ---- one chunk by its number: verify and copy ---- */

static esk_status chunk_place(
	esk_h5_dataset *dataset, uint64_t chunk, esk_h5_grid *ret_grid, esk_h5_task *ret_task, esk_error *err)
{
	esk_status status = esk_h5_grid_make(dataset, ret_grid, err);
	if (status != ESK_OK)
		return status;
	if (chunk >= ret_grid->band_count * ret_grid->band_chunks)
		return esk_fail(err, ESK_ERANGE,
			"%s: dataset %s has %llu chunks, chunk %llu is not one of them",
			esk_h5_path(dataset->file), esk_h5_dataset_info(dataset)->path,
			(unsigned long long)(ret_grid->band_count * ret_grid->band_chunks),
			(unsigned long long)chunk);
	*ret_task = (esk_h5_task){.chunk = chunk, .part = chunk % ret_grid->band_chunks};
	return esk_h5_locate_tasks(dataset, ret_grid, ret_task, 1, err);
}

esk_status esk_h5_locate_chunk(esk_h5_dataset *dataset, uint64_t chunk, uint64_t *ret_address,
	uint64_t *ret_size, uint32_t *ret_filter_mask, esk_error *err)
{
	esk_h5_grid grid;
	esk_h5_task task;
	esk_status status = chunk_place(dataset, chunk, &grid, &task, err);
	if (status != ESK_OK)
		return status;
	*ret_address = task.place.address;
	*ret_size = task.place.size_bytes;
	*ret_filter_mask = task.place.filter_mask;
	return ESK_OK;
}

/* The verdict on bytes that were read: damage, or a commit that came between. */
static esk_status verdict(esk_h5_dataset *dataset, bool volatile_bytes, esk_status status, esk_error *err)
{
	if ((volatile_bytes || status == ESK_ECORRUPT) && esk_h5_is_stale(dataset->file))
		return esk_h5_fail_stale(dataset->file, err);
	return status;
}

static esk_status check_located(esk_h5_dataset *dataset, const esk_h5_grid *grid, const esk_h5_task *task,
	esk_scratch *scratch, unsigned char *decoded, esk_error *err)
{
	esk_h5_buffers *buffers = esk_h5_buffers_take(dataset->file->reader);
	if (!buffers)
		return esk_fail_memory(err, sizeof *buffers, "a reader's buffers");
	esk_status status = ESK_OK;
	if (!scratch)
		scratch = scratch_of(buffers);
	if (!scratch)
		status = esk_fail_memory(err, 0, "a decoder");
	if (status == ESK_OK && !decoded) {
		status = esk_h5_buffer_grow(&buffers->decoded, &buffers->decoded_bytes, grid->chunk_bytes,
			"a decoded chunk", err);
		decoded = buffers->decoded;
	}
	if (status == ESK_OK) {
		esk_scratch_set_strict(scratch, true);
		status = chunk_decode(dataset, task->chunk, &task->place, buffers, scratch, decoded,
			grid->chunk_bytes, grid->chunk_bytes, err);
		esk_scratch_set_strict(scratch, false);
	}
	esk_h5_buffers_give(dataset->file->reader, buffers);
	return status;
}

static esk_status chunk_fill(
	esk_h5_dataset *dataset, const esk_h5_grid *grid, unsigned char *out, esk_error *err)
{
	const unsigned char *fill;
	esk_status status = esk_h5_fill_value(dataset, grid->element_bytes, &fill, err);
	if (status == ESK_OK)
		esk_h5_elements_fill(out, grid->chunk_bytes, fill, grid->element_bytes);
	return status;
}

esk_status esk_h5_check_chunk(esk_h5_dataset *dataset, uint64_t chunk, esk_scratch *scratch, void *decoded,
	uint64_t *ret_stored_bytes, esk_error *err)
{
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	esk_h5_grid grid;
	esk_h5_task task;
	esk_status status = chunk_place(dataset, chunk, &grid, &task, err);
	if (status != ESK_OK)
		return status;
	if (!info->raw_readable)
		return esk_fail(err, ESK_EUNSUPPORTED,
			"%s: dataset %s: its chunks can be checked by reading its rows only",
			esk_h5_path(dataset->file), info->path);
	if (task.place.size_bytes > 0)
		status = check_located(dataset, &grid, &task, scratch, decoded, err);
	else if (decoded)
		status = chunk_fill(dataset, &grid, decoded, err);
	status = verdict(dataset, task.volatile_bytes, status, err);
	if (status == ESK_OK && ret_stored_bytes)
		*ret_stored_bytes = task.place.size_bytes;
	return status;
}

esk_status esk_h5_read_raw_chunk(esk_h5_dataset *dataset, uint64_t chunk, void **ret_data, size_t *ret_size,
	uint32_t *ret_filter_mask, esk_error *err)
{
	esk_h5_grid grid;
	esk_h5_task task;
	esk_status status = chunk_place(dataset, chunk, &grid, &task, err);
	if (status != ESK_OK)
		return status;
	status = place_check(dataset, chunk, &task.place, err);
	if (status != ESK_OK)
		return verdict(dataset, task.volatile_bytes, status, err);
	void *data = malloc(task.place.size_bytes ? task.place.size_bytes : 1);
	if (!data)
		return esk_fail_memory(err, task.place.size_bytes, "a chunk as stored");
	if (task.place.size_bytes > 0)
		status = esk_jfile_read(
			dataset->file->jfile, task.place.address, data, task.place.size_bytes, err);
	status = verdict(dataset, task.volatile_bytes, status, err);
	if (status != ESK_OK) {
		free(data);
		return status;
	}
	*ret_data = data;
	*ret_size = task.place.size_bytes;
	*ret_filter_mask = task.place.filter_mask;
	return ESK_OK;
}
