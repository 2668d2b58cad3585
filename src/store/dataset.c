/* Datasets as callers see them: their rows over all segments, read in pieces. Each call sees one state of the
 * reader, and another one where the writer moved what it was to read (esk_reader_read). */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct measure {
	const esk_dataset *dataset;
	esk_dataset_info *info;
} measure;

static esk_status measure_parts(void *arg, esk_error *err)
{
	measure *m = arg;
	esk_status status = ESK_OK;
	m->info->rows = m->dataset->parts.rows;
	m->info->stored_bytes = 0;
	for (size_t p = 0; p < m->dataset->parts.count && status == ESK_OK; p++) {
		uint64_t bytes = 0;
		status = esk_h5_stored_bytes(m->dataset->parts.items[p].data, &bytes, err);
		m->info->stored_bytes += bytes;
	}
	return status;
}

esk_status esk_dataset_get_info(esk_dataset *dataset, esk_dataset_info *ret_info, esk_error *err)
{
	esk_dataset_info info = {.path = dataset->path, .column = dataset->column};
	esk_status status = esk_reader_read(
		dataset->reader, measure_parts, &(measure){.dataset = dataset, .info = &info}, err);
	if (status == ESK_OK)
		esk_struct_give(ret_info, &info, sizeof info);
	return status;
}

uint64_t esk_dataset_rows(esk_dataset *dataset)
{
	esk_reader_share(dataset->reader);
	uint64_t rows = dataset->parts.rows;
	esk_reader_unshare(dataset->reader);
	return rows;
}

/* ---- reading pieces over segments ---- */

esk_status esk_dataset_out_of_range(const esk_dataset *dataset, uint64_t row, esk_error *err)
{
	if (dataset->parts.count == 0)
		return esk_dataset_fail_gone(dataset, row, err);
	return esk_fail(err, ESK_ERANGE, "\"%s\" has %llu rows, row %llu was asked for", dataset->path,
		(unsigned long long)dataset->parts.rows, (unsigned long long)row);
}

/* Cuts pieces at segment bounds: those of `part` go to `cut`; returns how many. */
static size_t cut_for_part(const esk_dataset_part *part, const esk_h5_rows *pieces, size_t count,
	uint64_t cell_bytes, esk_h5_rows *cut)
{
	size_t used = 0;
	for (size_t i = 0; i < count; i++) {
		uint64_t start = esk_max_u64(pieces[i].row, part->first_row);
		uint64_t stop = esk_min_u64(pieces[i].row + pieces[i].count, part->first_row + part->rows);
		if (start < stop)
			cut[used++] = (esk_h5_rows){.row = start - part->first_row,
				.count = stop - start,
				.out = (char *)pieces[i].out + (start - pieces[i].row) * cell_bytes};
	}
	return used;
}

esk_status esk_dataset_check_covered(const esk_dataset *dataset, uint64_t row, uint64_t count, esk_error *err)
{
	for (size_t p = 0; p < dataset->parts.count && count > 0; p++) {
		const esk_dataset_part *part = &dataset->parts.items[p];
		if (row < part->first_row || row >= part->first_row + part->rows)
			continue;
		uint64_t here = esk_min_u64(count, part->first_row + part->rows - row);
		row += here;
		count -= here;
	}
	return count == 0 ? ESK_OK : esk_dataset_fail_gone(dataset, row, err);
}

typedef struct read_call {
	const esk_dataset *dataset;
	bool valid; /* of the validity */
	const esk_h5_rows *pieces;
	size_t count;
} read_call;

static esk_status read_part(const read_call *call, const esk_dataset_part *part, const esk_h5_rows *pieces,
	size_t count, esk_error *err)
{
	return esk_h5_read_rows(
		call->valid ? part->valid : part->data, call->dataset->reader->pool, pieces, count, err);
}

static esk_status read_parts(void *arg, esk_error *err)
{
	const read_call *call = arg;
	const esk_dataset *dataset = call->dataset;
	const esk_h5_rows *pieces = call->pieces;
	size_t count = call->count;
	uint64_t cell_bytes = call->valid ? 1 : dataset->cell_bytes;
	for (size_t i = 0; i < count; i++)
		if (pieces[i].row > dataset->parts.rows ||
			pieces[i].count > dataset->parts.rows - pieces[i].row)
			return esk_dataset_out_of_range(
				dataset, esk_max_u64(dataset->parts.rows, pieces[i].row), err);
	if (dataset->parts.count == 1 && dataset->parts.items[0].first_row == 0)
		return read_part(call, &dataset->parts.items[0], pieces, count, err);
	esk_status status = ESK_OK;
	for (size_t i = 0; i < count && status == ESK_OK; i++)
		status = esk_dataset_check_covered(dataset, pieces[i].row, pieces[i].count, err);
	if (status != ESK_OK)
		return status;
	esk_h5_rows *cut = malloc((count + 1) * sizeof *cut);
	if (cut == NULL)
		return esk_fail_memory(err, count * sizeof *cut, "pieces");
	for (size_t p = 0; p < dataset->parts.count && status == ESK_OK; p++) {
		size_t used = cut_for_part(&dataset->parts.items[p], pieces, count, cell_bytes, cut);
		if (used > 0)
			status = read_part(call, &dataset->parts.items[p], cut, used, err);
	}
	free(cut);
	return status;
}

static esk_status read_pieces(
	esk_dataset *dataset, bool valid, const esk_h5_rows *pieces, size_t count, esk_error *err)
{
	read_call call = {.dataset = dataset, .valid = valid, .pieces = pieces, .count = count};
	return esk_reader_read(dataset->reader, read_parts, &call, err);
}

esk_status esk_dataset_check_readable(const esk_dataset *dataset, bool strings, esk_error *err)
{
	if (!dataset->readable)
		return esk_fail(
			err, ESK_EUNSUPPORTED, "\"%s\" has a type that Esker does not read", dataset->path);
	if (strings != (dataset->column.dtype.kind == ESK_STRING))
		return esk_fail(err, ESK_ETYPE, "\"%s\" holds %s", dataset->path,
			strings ? "no variable-length strings: use esk_dataset_read"
				: "variable-length strings: use esk_dataset_read_strings");
	return ESK_OK;
}

esk_status esk_dataset_read_pieces(
	esk_dataset *dataset, const esk_h5_rows *pieces, size_t piece_count, esk_error *err)
{
	esk_status status = esk_dataset_check_readable(dataset, false, err);
	return status == ESK_OK ? read_pieces(dataset, false, pieces, piece_count, err) : status;
}

static esk_status check_size(const esk_dataset *dataset, uint64_t rows, size_t buf_bytes, esk_error *err)
{
	uint64_t bytes;
	if (!esk_mul_u64(rows, dataset->cell_bytes, &bytes) || bytes != buf_bytes)
		return esk_fail(err, ESK_ESHAPE,
			"\"%s\": %llu rows of %llu bytes do not fit a buffer of %zu bytes exactly",
			dataset->path, (unsigned long long)rows, (unsigned long long)dataset->cell_bytes,
			buf_bytes);
	return ESK_OK;
}

esk_status esk_dataset_read(esk_dataset *dataset, int64_t start, int64_t stop, int64_t step, void *buf,
	size_t buf_bytes, esk_error *err)
{
	esk_status status = esk_dataset_check_readable(dataset, false, err);
	if (status != ESK_OK)
		return status;
	if (step == 0 || start < 0 || (step > 0 && stop < 0))
		return esk_fail(err, ESK_ERANGE, "\"%s\": rows %lld:%lld:%lld", dataset->path,
			(long long)start, (long long)stop, (long long)step);
	uint64_t span = step > 0 ? (stop > start ? (uint64_t)(stop - start) : 0)
				 : (start > stop ? (uint64_t)(start - stop) : 0);
	uint64_t stride = step > 0 ? (uint64_t)step : -(uint64_t)step;
	uint64_t rows = span / stride + (span % stride != 0);
	status = check_size(dataset, rows, buf_bytes, err);
	if (status != ESK_OK || rows == 0)
		return status;
	if (step == 1) {
		esk_h5_rows piece = {.row = (uint64_t)start, .count = rows, .out = buf};
		return read_pieces(dataset, false, &piece, 1, err);
	}
	esk_h5_rows *pieces = malloc(rows * sizeof *pieces);
	if (pieces == NULL)
		return esk_fail_memory(err, rows * sizeof *pieces, "pieces");
	for (uint64_t i = 0; i < rows; i++)
		pieces[i] = (esk_h5_rows){.row = (uint64_t)start + i * (uint64_t)step,
			.count = 1,
			.out = (char *)buf + i * dataset->cell_bytes};
	status = read_pieces(dataset, false, pieces, rows, err);
	free(pieces);
	return status;
}

/* Pieces for a list of rows: neighbours are joined. *ret_count pieces; NULL when memory runs out. */
static esk_h5_rows *pieces_of_rows(
	const uint64_t *rows, size_t count, char *out, uint64_t cell_bytes, size_t *ret_count)
{
	esk_h5_rows *pieces = malloc((count + 1) * sizeof *pieces);
	size_t used = 0;
	for (size_t i = 0; pieces != NULL && i < count; i++) {
		if (used > 0 && pieces[used - 1].row + pieces[used - 1].count == rows[i])
			pieces[used - 1].count++;
		else
			pieces[used++] =
				(esk_h5_rows){.row = rows[i], .count = 1, .out = out + i * cell_bytes};
	}
	*ret_count = used;
	return pieces;
}

esk_status esk_dataset_read_rows(esk_dataset *dataset, const uint64_t *rows, size_t row_count, void *buf,
	size_t buf_bytes, esk_error *err)
{
	size_t count;
	esk_status status = esk_dataset_check_readable(dataset, false, err);
	if (status == ESK_OK)
		status = check_size(dataset, row_count, buf_bytes, err);
	if (status != ESK_OK || row_count == 0)
		return status;
	esk_h5_rows *pieces = pieces_of_rows(rows, row_count, buf, dataset->cell_bytes, &count);
	if (pieces == NULL)
		return esk_fail_memory(err, row_count * sizeof *pieces, "pieces");
	status = read_pieces(dataset, false, pieces, count, err);
	free(pieces);
	return status;
}

esk_status esk_dataset_read_valid(
	esk_dataset *dataset, const uint64_t *rows, size_t row_count, uint8_t *ret_valid, esk_error *err)
{
	size_t count;
	if (!dataset->column.nullable) {
		uint64_t total = esk_dataset_rows(dataset);
		for (size_t i = 0; i < row_count; i++)
			if (rows[i] >= total)
				return esk_dataset_out_of_range(dataset, rows[i], err);
		memset(ret_valid, 1, row_count);
		return ESK_OK;
	}
	if (row_count == 0)
		return ESK_OK;
	esk_h5_rows *pieces = pieces_of_rows(rows, row_count, (char *)ret_valid, 1, &count);
	if (pieces == NULL)
		return esk_fail_memory(err, row_count * sizeof *pieces, "pieces");
	esk_status status = read_pieces(dataset, true, pieces, count, err);
	free(pieces);
	return status;
}
