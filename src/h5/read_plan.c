/* Which chunks a read needs, and which rows of them: pure arithmetic, no I/O and no libhdf5.
 *
 * Pieces are cut at the borders of bands into entries, entries are sorted by band, and each run of entries of
 * one band becomes one task per chunk of the band. */
#include "h5/read_internal.h"
#include <stdlib.h>
#include <string.h>

static esk_status fail_geometry(const esk_h5_dataset *dataset, const char *what, esk_error *err)
{
	return esk_fail(err, ESK_ECORRUPT,
		"%s: dataset %s: %s do not fit together; check the file with esker verify",
		esk_h5_path(dataset->file), esk_h5_dataset_info(dataset)->path, what);
}

/* Bytes of one cell, checked: the shape comes from a file. */
static bool cell_bytes_of(const esk_column *column, uint64_t element_bytes, uint64_t *ret_bytes)
{
	uint64_t bytes = element_bytes;
	for (uint32_t i = 0; i < column->rank; i++)
		if (!esk_mul_u64(bytes, column->shape[i], &bytes))
			return false;
	*ret_bytes = bytes;
	return true;
}

esk_status esk_h5_grid_make(const esk_h5_dataset *dataset, esk_h5_grid *ret_grid, esk_error *err)
{
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	const esk_column *column = &info->column;
	esk_h5_grid grid = {
		.rank = column->rank,
		.element_bytes = info->chunked ? info->pipeline.element_bytes : column->dtype.size_bytes,
		.rows = info->rows,
		.shape = column->shape,
		.chunk_shape = info->chunk_shape + 1,
		.band_chunks = 1,
		.whole_cells = true,
	};
	uint64_t total;
	if (dataset->id < 0)
		return esk_fail(err, ESK_ENOTFOUND, "%s: dataset %s was deleted", esk_h5_path(dataset->file),
			info->path);
	if (!cell_bytes_of(column, grid.element_bytes, &grid.cell_bytes) ||
		!esk_mul_u64(grid.cell_bytes, grid.rows, &total))
		return fail_geometry(dataset, "its dimensions and 64 bits of size", err);
	if (info->chunked) {
		grid.chunk_rows = info->chunk_shape[0];
		grid.chunk_row_bytes = grid.element_bytes;
		for (uint32_t i = 0; i < grid.rank; i++) {
			uint64_t side = grid.chunk_shape[i];
			if (side == 0 || !esk_mul_u64(grid.chunk_row_bytes, side, &grid.chunk_row_bytes) ||
				!esk_mul_u64(grid.band_chunks, esk_h5_across(grid.shape[i], side),
					&grid.band_chunks))
				return fail_geometry(dataset, "its dimensions and its chunks", err);
			grid.whole_cells = grid.whole_cells && side == grid.shape[i];
		}
		if (grid.chunk_rows == 0 ||
			!esk_mul_u64(grid.chunk_row_bytes, grid.chunk_rows, &grid.chunk_bytes) ||
			grid.chunk_bytes != info->pipeline.chunk_bytes)
			return fail_geometry(dataset, "its element size and its chunks", err);
		grid.band_count = grid.rows / grid.chunk_rows + (grid.rows % grid.chunk_rows != 0);
		if (!esk_mul_u64(grid.band_count, grid.band_chunks, &total))
			return fail_geometry(dataset, "its dimensions and its chunks", err);
	}
	*ret_grid = grid;
	return ESK_OK;
}

uint64_t esk_h5_band_rows(const esk_h5_grid *grid, uint64_t band)
{
	return esk_min_u64(grid->chunk_rows, grid->rows - band * grid->chunk_rows);
}

/* Makes room for `count` elements, by doubling, so that a warm caller allocates nothing. */
static esk_status reserve(
	void **array, size_t *capacity, uint64_t count, size_t element_bytes, esk_error *err)
{
	if (count <= *capacity)
		return ESK_OK;
	uint64_t wanted = esk_max_u64(count, *capacity * 2), bytes;
	void *grown = NULL;
	if (esk_mul_u64(wanted, element_bytes, &bytes) && bytes <= SIZE_MAX)
		grown = realloc(*array, bytes);
	if (!grown)
		return esk_fail_memory(err, count * element_bytes, "the plan of a read");
	*array = grown;
	*capacity = wanted;
	return ESK_OK;
}

static esk_status entries_add(esk_h5_read *read, const esk_h5_rows *piece, esk_error *err)
{
	const esk_h5_grid *grid = &read->grid;
	if (piece->count == 0)
		return ESK_OK;
	uint64_t first = piece->row / grid->chunk_rows;
	uint64_t bands = (piece->row + piece->count - 1) / grid->chunk_rows - first + 1;
	esk_status status = reserve((void **)&read->entries, &read->entry_capacity, read->entry_count + bands,
		sizeof *read->entries, err);
	if (status != ESK_OK)
		return status;
	uint64_t row = piece->row, left = piece->count;
	unsigned char *out = piece->out;
	for (uint64_t i = 0; i < bands; i++) {
		uint64_t within = row % grid->chunk_rows;
		uint64_t count = esk_min_u64(left, grid->chunk_rows - within);
		read->entries[read->entry_count++] =
			(esk_h5_entry){.band = first + i, .row = within, .count = count, .out = out};
		row += count;
		left -= count;
		out += count * grid->cell_bytes;
	}
	return ESK_OK;
}

static int entry_compare(const void *a, const void *b)
{
	const esk_h5_entry *left = a, *right = b;
	if (left->band != right->band)
		return left->band < right->band ? -1 : 1;
	return (left->row > right->row) - (left->row < right->row);
}

static void entries_sort(esk_h5_read *read)
{
	for (size_t i = 1; i < read->entry_count; i++) {
		if (read->entries[i - 1].band > read->entries[i].band) {
			qsort(read->entries, read->entry_count, sizeof *read->entries, entry_compare);
			return;
		}
	}
}

static esk_status tasks_make(esk_h5_read *read, esk_error *err)
{
	const esk_h5_grid *grid = &read->grid;
	for (size_t first = 0; first < read->entry_count;) {
		uint64_t band = read->entries[first].band;
		size_t end = first + 1;
		while (end < read->entry_count && read->entries[end].band == band)
			end++;
		uint64_t wanted;
		if (!esk_add_u64(read->task_count, grid->band_chunks, &wanted))
			return esk_fail_memory(err, SIZE_MAX, "the plan of a read");
		esk_status status = reserve(
			(void **)&read->tasks, &read->task_capacity, wanted, sizeof *read->tasks, err);
		if (status != ESK_OK)
			return status;
		for (uint64_t part = 0; part < grid->band_chunks; part++)
			read->tasks[read->task_count++] =
				(esk_h5_task){.chunk = band * grid->band_chunks + part,
					.part = part,
					.first = first,
					.count = end - first};
		first = end;
	}
	return ESK_OK;
}

esk_status esk_h5_plan(esk_h5_read *read, const esk_h5_rows *pieces, size_t piece_count, esk_error *err)
{
	read->entry_count = 0;
	read->task_count = 0;
	for (size_t i = 0; i < piece_count; i++) {
		esk_status status = entries_add(read, &pieces[i], err);
		if (status != ESK_OK)
			return status;
	}
	entries_sort(read);
	return tasks_make(read, err);
}

void esk_h5_elements_fill(
	unsigned char *out, uint64_t bytes, const unsigned char *fill, uint32_t element_bytes)
{
	if (!fill) {
		memset(out, 0, bytes);
		return;
	}
	for (uint64_t at = 0; at < bytes; at += element_bytes)
		memcpy(out + at, fill, element_bytes);
}

/* The box of a cell that one chunk of a band covers, as strides in bytes. */
typedef struct {
	uint32_t rank; /* dimensions to loop over; the run is behind them */
	uint64_t run_bytes;
	uint64_t count[ESK_MAX_RANK];
	uint64_t out_stride[ESK_MAX_RANK];
	uint64_t chunk_stride[ESK_MAX_RANK];
	uint64_t out_offset;
} part_box;

static void part_box_make(const esk_h5_grid *grid, uint64_t part, part_box *ret_box)
{
	part_box box = {.run_bytes = grid->element_bytes};
	uint64_t out_stride = grid->element_bytes, chunk_stride = grid->element_bytes;
	uint64_t count[ESK_MAX_RANK], out_strides[ESK_MAX_RANK], chunk_strides[ESK_MAX_RANK];
	for (uint32_t i = grid->rank; i-- > 0;) {
		uint64_t side = grid->chunk_shape[i], across = esk_h5_across(grid->shape[i], side);
		uint64_t start = part % across * side;
		part /= across;
		count[i] = esk_min_u64(side, grid->shape[i] - start);
		out_strides[i] = out_stride;
		chunk_strides[i] = chunk_stride;
		box.out_offset += start * out_stride;
		out_stride *= grid->shape[i];
		chunk_stride *= side;
	}
	/* Inner dimensions that both sides hold without gaps, and the one before them, are one run. */
	uint32_t rank = grid->rank;
	while (rank > 0 && out_strides[rank - 1] == box.run_bytes && chunk_strides[rank - 1] == box.run_bytes)
		box.run_bytes *= count[--rank];
	box.rank = rank;
	memcpy(box.count, count, rank * sizeof *count);
	memcpy(box.out_stride, out_strides, rank * sizeof *count);
	memcpy(box.chunk_stride, chunk_strides, rank * sizeof *count);
	*ret_box = box;
}

static void part_row_copy(const part_box *box, unsigned char *out, const unsigned char *data,
	const unsigned char *fill, uint32_t element_bytes)
{
	uint64_t index[ESK_MAX_RANK] = {0};
	for (;;) {
		uint64_t out_at = box->out_offset, chunk_at = 0;
		for (uint32_t i = 0; i < box->rank; i++) {
			out_at += index[i] * box->out_stride[i];
			chunk_at += index[i] * box->chunk_stride[i];
		}
		if (data)
			memcpy(out + out_at, data + chunk_at, box->run_bytes);
		else
			esk_h5_elements_fill(out + out_at, box->run_bytes, fill, element_bytes);
		uint32_t i = box->rank;
		while (i > 0 && ++index[i - 1] == box->count[i - 1])
			index[--i] = 0;
		if (i == 0)
			return;
	}
}

void esk_h5_entry_copy(const esk_h5_grid *grid, const esk_h5_entry *entry, uint64_t part,
	const unsigned char *data, const unsigned char *fill)
{
	if (data)
		data += entry->row * grid->chunk_row_bytes;
	if (grid->whole_cells) {
		if (data)
			memcpy(entry->out, data, entry->count * grid->cell_bytes);
		else
			esk_h5_elements_fill(
				entry->out, entry->count * grid->cell_bytes, fill, grid->element_bytes);
		return;
	}
	part_box box;
	part_box_make(grid, part, &box);
	for (uint64_t row = 0; row < entry->count; row++) {
		part_row_copy(&box, entry->out + row * grid->cell_bytes, data, fill, grid->element_bytes);
		if (data)
			data += grid->chunk_row_bytes;
	}
}
