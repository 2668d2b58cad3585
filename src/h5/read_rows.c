/* One call of esk_h5_read_rows from front to end: checks, plan, places, jobs, verdict. */
#include "h5/read_internal.h"
#include <stdlib.h>

/* A job holds chunks worth at least this much, so that handing it to another thread costs little beside its
 * work; a read that is worth less than two jobs stays in the calling thread. */
#define JOB_BYTES (512u << 10)
/* Reads of more than this many decoded bytes are not kept in slots: they would push everything else out. */
#define KEEP_BYTES (2u << 20)
/* Reads of more than this many bytes go past the caches: a chunk is decoded where the cache holds it and
 * streamed to its place, for decoding into memory that no cache holds waits for every line twice. */
#define PAST_CACHE_BYTES (32u << 20)

static void job_run(esk_job *job, esk_scratch *scratch)
{
	esk_h5_read_job *self = (esk_h5_read_job *)job;
	esk_h5_read *read = self->read;
	esk_error error;
	esk_status status = ESK_OK;
	esk_h5_buffers *buffers = esk_h5_buffers_take(read->reader);
	if (!buffers)
		status = esk_fail_memory(&error, sizeof *buffers, "a reader's buffers");
	for (size_t i = 0; i < self->task_count && status == ESK_OK; i++)
		status = esk_h5_task_run(read, &read->tasks[self->first_task + i], buffers, scratch, &error);
	esk_h5_buffers_give(read->reader, buffers);
	if (status == ESK_OK)
		return;
	pthread_mutex_lock(&read->reader->lock);
	if (read->status == ESK_OK) {
		read->status = status;
		read->error = error;
	}
	pthread_mutex_unlock(&read->reader->lock);
}

static esk_status jobs_reserve(esk_h5_read *read, size_t count, esk_error *err)
{
	if (count <= read->job_capacity)
		return ESK_OK;
	esk_h5_read_job *jobs = realloc(read->jobs, count * sizeof *jobs);
	if (!jobs)
		return esk_fail_memory(err, count * sizeof *jobs, "the jobs of a read");
	read->jobs = jobs;
	read->job_capacity = count;
	return ESK_OK;
}

/* The first job runs in this thread, beside the others; a single one hands nothing over. */
static esk_status tasks_run(esk_h5_read *read, esk_pool *pool, esk_error *err)
{
	size_t per_job = read->task_count;
	if (pool && !read->dataset->file->writable && esk_pool_threads(pool) > 0)
		per_job = esk_max_u64(1, JOB_BYTES / esk_max_u64(1, read->grid.chunk_bytes));
	size_t count = (read->task_count + per_job - 1) / per_job;
	esk_status status = jobs_reserve(read, count, err);
	if (status != ESK_OK)
		return status;
	esk_batch batch;
	if (count > 1)
		esk_batch_init(&batch, pool);
	for (size_t i = 0; i < count; i++) {
		esk_h5_read_job *job = &read->jobs[i];
		*job = (esk_h5_read_job){.job.run = job_run, .read = read, .first_task = i * per_job};
		job->task_count = esk_min_u64(per_job, read->task_count - job->first_task);
		if (i > 0)
			esk_batch_submit(&batch, &job->job);
	}
	job_run(&read->jobs[0].job, NULL);
	if (count > 1)
		esk_batch_wait(&batch);
	if (read->status != ESK_OK && err)
		*err = read->error;
	return read->status;
}

/* Every row outside what exists, and every size that overflows, ends here. */
static esk_status pieces_check(
	const esk_h5_dataset *dataset, const esk_h5_rows *pieces, size_t piece_count, esk_error *err)
{
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	if (!info->readable)
		return esk_fail(err, ESK_EUNSUPPORTED,
			"%s: dataset %s has an HDF5 type that Esker has no dtype for",
			esk_h5_path(dataset->file), info->path);
	if (info->column.dtype.kind == ESK_STRING)
		return esk_fail(err, ESK_ETYPE, "%s: dataset %s holds variable strings: read them as strings",
			esk_h5_path(dataset->file), info->path);
	for (size_t i = 0; i < piece_count; i++) {
		uint64_t end;
		if (!esk_add_u64(pieces[i].row, pieces[i].count, &end) || end > info->rows)
			return esk_fail(err, ESK_ERANGE,
				"%s: dataset %s has %llu rows, wanted %llu from row %llu",
				esk_h5_path(dataset->file), info->path, (unsigned long long)info->rows,
				(unsigned long long)pieces[i].count, (unsigned long long)pieces[i].row);
	}
	return ESK_OK;
}

static esk_status read_contiguous(esk_h5_dataset *dataset, const esk_h5_grid *grid, const esk_h5_rows *pieces,
	size_t piece_count, esk_error *err)
{
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	esk_jfile *jfile = dataset->file->jfile;
	uint64_t end;
	if (!esk_add_u64(info->contiguous_address, grid->rows * grid->cell_bytes, &end) ||
		end > esk_jfile_end(jfile))
		return esk_fail(err, ESK_ECORRUPT,
			"%s: dataset %s: %llu rows of %llu bytes at %llu reach beyond the end of the file "
			"(%llu): it was cut or damaged",
			esk_h5_path(dataset->file), info->path, (unsigned long long)grid->rows,
			(unsigned long long)grid->cell_bytes, (unsigned long long)info->contiguous_address,
			(unsigned long long)esk_jfile_end(jfile));
	for (size_t i = 0; i < piece_count; i++) {
		esk_status status =
			esk_jfile_read(jfile, info->contiguous_address + pieces[i].row * grid->cell_bytes,
				pieces[i].out, pieces[i].count * grid->cell_bytes, err);
		if (status != ESK_OK)
			return status;
	}
	return ESK_OK;
}

/* *ret_volatile: whether any of the bytes may have been those of a later commit. */
static esk_status read_chunked(esk_h5_read *read, esk_pool *pool, const esk_h5_rows *pieces,
	size_t piece_count, bool *ret_volatile, esk_error *err)
{
	esk_h5_dataset *dataset = read->dataset;
	esk_status status = esk_h5_plan(read, pieces, piece_count, err);
	if (status != ESK_OK || read->task_count == 0)
		return status;
	status = esk_h5_locate_tasks(dataset, &read->grid, read->tasks, read->task_count, err);
	if (status != ESK_OK)
		return status;
	bool unwritten = false;
	for (size_t i = 0; i < read->task_count; i++) {
		unwritten = unwritten || read->tasks[i].place.size_bytes == 0;
		*ret_volatile = *ret_volatile || read->tasks[i].volatile_bytes;
	}
	read->fill = NULL;
	if (unwritten)
		status = esk_h5_fill_value(dataset, read->grid.element_bytes, &read->fill, err);
	if (status != ESK_OK)
		return status;
	read->keep = !dataset->file->writable && read->grid.chunk_bytes <= KEEP_BYTES / read->task_count;
	read->past_cache = read->grid.chunk_bytes >= PAST_CACHE_BYTES / read->task_count &&
			   read->grid.chunk_bytes <= KEEP_BYTES;
	read->status = ESK_OK;
	return tasks_run(read, pool, err);
}

/* HDF5 lets an enum of a byte hold anything. */
static void bools_clamp(const esk_h5_grid *grid, const esk_h5_rows *pieces, size_t piece_count)
{
	for (size_t i = 0; i < piece_count; i++) {
		unsigned char *out = pieces[i].out;
		for (uint64_t at = 0; at < pieces[i].count * grid->cell_bytes; at++)
			out[at] = out[at] != 0;
	}
}

esk_status esk_h5_read_raw(esk_h5_dataset *dataset, esk_pool *pool, const esk_h5_grid *grid,
	const esk_h5_rows *pieces, size_t piece_count, bool *ret_volatile, esk_error *err)
{
	if (!esk_h5_dataset_info(dataset)->chunked)
		return read_contiguous(dataset, grid, pieces, piece_count, err);
	esk_h5_read *read = esk_h5_read_take(dataset->file->reader);
	if (!read)
		return esk_fail_memory(err, sizeof *read, "the plan of a read");
	read->dataset = dataset;
	read->grid = *grid;
	esk_status status = read_chunked(read, pool, pieces, piece_count, ret_volatile, err);
	esk_h5_read_give(dataset->file->reader, read);
	return status;
}

esk_status esk_h5_read_rows(esk_h5_dataset *dataset, esk_pool *pool, const esk_h5_rows *pieces,
	size_t piece_count, esk_error *err)
{
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	esk_h5_grid grid;
	esk_status status = pieces_check(dataset, pieces, piece_count, err);
	if (status == ESK_OK)
		status = esk_h5_grid_make(dataset, &grid, err);
	if (status != ESK_OK || grid.cell_bytes == 0)
		return status;
	bool volatile_bytes = false;
	if (info->raw_readable && (info->chunked || info->contiguous_address != UINT64_MAX)) {
		status = esk_h5_read_raw(dataset, pool, &grid, pieces, piece_count, &volatile_bytes, err);
	} else {
		volatile_bytes = true;
		status = esk_h5_read_slowly(dataset, pieces, piece_count, err);
		if (status == ESK_EUNSUPPORTED)
			status = esk_h5_read_converted(
				dataset, pool, pieces, piece_count, &volatile_bytes, err);
	}
	/* Invariant 1. Damage on a stale handle is no proof of damage: the next handle tells. */
	if ((volatile_bytes || status == ESK_ECORRUPT) && esk_h5_is_stale(dataset->file))
		return esk_h5_fail_stale(dataset->file, err);
	if (status == ESK_OK && info->column.dtype.kind == ESK_BOOL)
		bools_clamp(&grid, pieces, piece_count);
	return status;
}
