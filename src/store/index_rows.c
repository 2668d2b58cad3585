/* Rows of indexed streams, read back from the files: after a commit that the catalogue could not be told,
 * after a crash, and for reindex. A table has a run's rows in their order, so its last one says where to go
 * on. */
#include "store/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_ROWS 16384u /* of a read */
#define TRANSACTION_ROWS (8 * BATCH_ROWS)

/* Rows [first_row, first_row + rows) of the stream are in this file. */
typedef struct part {
	char file[ESK_FILE_NAME_BYTES];
	uint64_t first_row;
	uint64_t rows;
} part;

typedef struct filling {
	const esk_index_target *target;
	int64_t run_id;
	uint32_t stream;
	const char *stream_name;
	const esk_column *columns;
	const esk_index_spec *spec;
	part *parts;
	size_t part_count;
	esk_h5 *file; /* of the part opened last */
	const part *opened;
	esk_index_source *sources;
	void **cells; /* buffers of a batch, per field */
	uint8_t **valid;
	char **texts;
	esk_index_buffer packed;
} filling;

/* ---- where the rows are ---- */

static esk_status list_parts(filling *f, esk_error *err)
{
	esk_segment_record *segments = NULL;
	esk_extent_record *extents = NULL;
	size_t segment_count, extent_count = 0;
	esk_catalog *catalog = f->target->catalog;
	esk_status status = esk_catalog_get_segments(catalog, f->run_id, &segments, &segment_count, err);
	if (status == ESK_OK)
		status = esk_catalog_get_extents(catalog, f->run_id, &extents, &extent_count, err);
	if (status == ESK_OK && (f->parts = calloc(extent_count + 1, sizeof *f->parts)) == NULL)
		status = esk_fail_memory(err, extent_count * sizeof *f->parts, "segments");
	for (size_t e = 0; e < extent_count && status == ESK_OK; e++) {
		for (size_t s = 0; s < segment_count && extents[e].stream == f->stream; s++) {
			if (segments[s].number != extents[e].segment)
				continue;
			part *added = &f->parts[f->part_count++];
			*added = (part){.first_row = extents[e].first_row, .rows = extents[e].rows};
			snprintf(added->file, sizeof added->file, "%s", segments[s].file);
		}
	}
	free(segments);
	free(extents);
	return status;
}

/* The part with row `*row`, or the first behind it, whose first row *row becomes; NULL: there is none. */
static const part *find_part(const filling *f, uint64_t *row)
{
	const part *found = NULL;
	for (size_t p = 0; p < f->part_count; p++) {
		const part *at = &f->parts[p];
		if (*row < at->first_row + at->rows && (found == NULL || at->first_row < found->first_row))
			found = at;
	}
	if (found != NULL)
		*row = esk_max_u64(*row, found->first_row);
	return found;
}

static esk_status open_part(filling *f, const part *wanted, esk_error *err)
{
	char path[ESK_PATH_BYTES];
	if (f->opened == wanted)
		return ESK_OK;
	esk_h5_close(f->file, NULL);
	f->file = NULL;
	f->opened = NULL;
	if (!esk_store_file_path(f->target->directory, wanted->file, path))
		return esk_fail(err, ESK_EINVAL, "path too long: %s", f->target->directory);
	esk_status status = esk_segment_open_read(f->target->os, path, &f->file, err);
	if (status == ESK_OK)
		f->opened = wanted;
	return status;
}

/* ---- reading a batch ---- */

static esk_status read_bytes(
	filling *f, const char *path, uint64_t row, uint64_t rows, void *out, esk_error *err)
{
	esk_h5_dataset *dataset;
	esk_h5_rows piece = {.row = row, .count = rows, .out = out};
	esk_status status = esk_h5_dataset_open(f->file, path, &dataset, err);
	return status == ESK_OK ? esk_h5_read_rows(dataset, f->target->pool, &piece, 1, err) : status;
}

/* Strings as the ring has them: sizes, and bytes one behind the other. */
static esk_status read_strings(
	filling *f, size_t field, const char *path, uint64_t row, uint64_t rows, esk_error *err)
{
	esk_h5_dataset *dataset;
	esk_string *strings = NULL;
	uint64_t bytes = 0;
	uint32_t *sizes = f->cells[field];
	esk_status status = esk_h5_dataset_open(f->file, path, &dataset, err);
	if (status == ESK_OK)
		status = esk_h5_read_strings(dataset, row, rows, &strings, err);
	if (status != ESK_OK)
		return status;
	for (uint64_t i = 0; i < rows; i++) {
		sizes[i] = (uint32_t)strings[i].size;
		bytes += strings[i].size;
	}
	char *text = malloc(bytes + 1), *at = text;
	if (text == NULL) {
		free(strings);
		return esk_fail_memory(err, bytes, "texts");
	}
	for (uint64_t i = 0; i < rows; i++) {
		if (strings[i].size > 0)
			memcpy(at, strings[i].data, strings[i].size);
		at += strings[i].size;
	}
	free(strings);
	free(f->texts[field]);
	f->texts[field] = text;
	f->sources[field].text = text;
	return ESK_OK;
}

static esk_status read_field(filling *f, size_t number, uint64_t row, uint64_t rows, esk_error *err)
{
	const esk_index_field *field = &f->spec->fields[number];
	const char *name = f->columns[field->column].name;
	char path[2 * ESK_MAX_NAME + 16];
	esk_status status = ESK_OK;
	f->sources[number] = (esk_index_source){.cells = f->cells[number], .text = ""};
	if (field->nullable) {
		esk_segment_column_path(f->stream_name, name, true, path, sizeof path);
		status = read_bytes(f, path, row, rows, f->valid[number], err);
		f->sources[number].valid = f->valid[number];
	}
	esk_segment_column_path(f->stream_name, name, false, path, sizeof path);
	if (status != ESK_OK || field->presence)
		return status;
	return field->dtype.kind == ESK_STRING ? read_strings(f, number, path, row, rows, err)
					       : read_bytes(f, path, row, rows, f->cells[number], err);
}

static esk_status put_batch(filling *f, uint64_t row, uint64_t rows, const part *from, esk_error *err)
{
	esk_status status = open_part(f, from, err);
	for (size_t n = 0; n < f->spec->count && status == ESK_OK; n++)
		status = read_field(f, n, row - from->first_row, rows, err);
	if (status != ESK_OK)
		return status;
	f->packed.size = 0;
	if (!esk_index_pack(f->spec, f->sources, rows, &f->packed))
		return esk_fail_memory(err, f->packed.capacity, "indexed rows");
	return esk_catalog_index_put(
		f->target->catalog, f->spec, f->run_id, row, rows, f->packed.data, f->packed.size, err);
}

/* ---- filling ---- */

/* One transaction's rows; *ret_done: there are none left below `stop`. */
static esk_status fill_some(filling *f, uint64_t stop, bool *ret_done, esk_error *err)
{
	uint64_t row;
	esk_status status = esk_catalog_index_rows(f->target->catalog, f->spec, f->run_id, &row, err);
	for (uint64_t put = 0; status == ESK_OK && put < TRANSACTION_ROWS;) {
		const part *from = find_part(f, &row);
		if (from == NULL || row >= stop) {
			*ret_done = true;
			break;
		}
		uint64_t end = esk_min_u64(stop, from->first_row + from->rows);
		uint64_t rows = esk_min_u64(BATCH_ROWS, end - row);
		status = put_batch(f, row, rows, from, err);
		row += rows;
		put += rows;
	}
	return status;
}

static esk_status allocate(filling *f, esk_error *err)
{
	size_t count = f->spec->count;
	f->sources = calloc(count, sizeof *f->sources);
	f->cells = calloc(count, sizeof *f->cells);
	f->valid = calloc(count, sizeof *f->valid);
	f->texts = calloc(count, sizeof *f->texts);
	bool failed = f->sources == NULL || f->cells == NULL || f->valid == NULL || f->texts == NULL;
	for (size_t n = 0; n < count && !failed; n++) {
		const esk_index_field *field = &f->spec->fields[n];
		size_t cell_bytes =
			field->presence ? 1 : esk_max_u64(sizeof(uint32_t), field->dtype.size_bytes);
		f->cells[n] = malloc(BATCH_ROWS * cell_bytes);
		f->valid[n] = malloc(BATCH_ROWS);
		failed = f->cells[n] == NULL || f->valid[n] == NULL;
	}
	return failed ? esk_fail_memory(err, BATCH_ROWS, "indexed rows") : ESK_OK;
}

static void release(filling *f)
{
	for (size_t n = 0; n < f->spec->count; n++) {
		free(f->cells != NULL ? f->cells[n] : NULL);
		free(f->valid != NULL ? f->valid[n] : NULL);
		free(f->texts != NULL ? f->texts[n] : NULL);
	}
	free(f->sources);
	free(f->cells);
	free(f->valid);
	free(f->texts);
	free(f->packed.data);
	free(f->parts);
	esk_h5_close(f->file, NULL);
}

esk_status esk_index_fill(const esk_index_target *target, int64_t run_id, uint32_t stream,
	const char *stream_name, const esk_column *columns, const esk_index_spec *spec, uint64_t stop,
	esk_error *err)
{
	filling f = {.target = target,
		.run_id = run_id,
		.stream = stream,
		.stream_name = stream_name,
		.columns = columns,
		.spec = spec};
	bool done = false;
	esk_status status = list_parts(&f, err);
	if (status == ESK_OK)
		status = allocate(&f, err);
	while (status == ESK_OK && !done) {
		status = esk_catalog_begin(target->catalog, err);
		if (status != ESK_OK)
			break;
		status = fill_some(&f, stop, &done, err);
		if (status == ESK_OK)
			status = esk_catalog_commit(target->catalog, err);
		if (status != ESK_OK)
			esk_catalog_rollback(target->catalog);
	}
	release(&f);
	return status;
}
