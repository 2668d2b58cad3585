/* The producers' side of a stream: append, reserve, publish. Runs in the callers' threads.
 *
 * One mutex per stream makes the order of reservations the order of rows, so that an append knows its row; it
 * is held while room is reserved, not while cells are copied, and costs no system call while nobody contends.
 */
#include "record/internal.h"

#include <stdlib.h>
#include <string.h>

#define PAST_CACHE_RING_BYTES (32ull << 20) /* about what last-level caches hold */

static esk_status take_options(
	esk_stream *stream, const esk_stream_options *options, const esk_column *columns, esk_error *err)
{
	if (options->rows_attribute != NULL &&
		(stream->rows_attribute = strdup(options->rows_attribute)) == NULL)
		return esk_fail_memory(err, strlen(options->rows_attribute), "a stream's options");
	if (options->index == NULL)
		return ESK_OK;
	esk_status status =
		esk_index_spec_parse(options->index, columns, stream->column_count, &stream->index_spec, err);
	if (status != ESK_OK)
		return esk_fail_in(err, status, "stream \"%s\"", stream->name);
	stream->index = strdup(options->index);
	stream->index_sources = calloc(stream->index_spec.count, sizeof *stream->index_sources);
	return stream->index != NULL && stream->index_sources != NULL
		       ? ESK_OK
		       : esk_fail_memory(err, strlen(options->index), "a stream's options");
}

esk_status esk_stream_create(esk_recorder *recorder, const char *name, const esk_column *columns,
	size_t column_count, const esk_stream_options *options, esk_stream **ret_stream, esk_error *err)
{
	esk_stream *stream = calloc(1, sizeof *stream);
	if (stream == NULL)
		return esk_fail_memory(err, sizeof *stream, "a stream");
	stream->recorder = recorder;
	pthread_mutex_init(&stream->producer, NULL);
	strncpy(stream->name, name, ESK_MAX_NAME);
	stream->column_count = column_count;
	stream->columns = calloc(column_count, sizeof *columns);
	stream->cell_bytes = calloc(column_count, sizeof *stream->cell_bytes);
	stream->elements = calloc(column_count, sizeof *stream->elements);
	stream->reserved_cells = calloc(column_count, sizeof *stream->reserved_cells);
	stream->reserved_valid = calloc(column_count, sizeof *stream->reserved_valid);
	stream->writers = calloc(2 * column_count, sizeof *stream->writers);
	stream->valid_writer = calloc(column_count, sizeof *stream->valid_writer);
	if (stream->columns == NULL || stream->cell_bytes == NULL || stream->elements == NULL ||
		stream->reserved_cells == NULL || stream->reserved_valid == NULL || stream->writers == NULL ||
		stream->valid_writer == NULL) {
		esk_stream_destroy(stream);
		return esk_fail_memory(err, column_count * sizeof *columns, "a stream's columns");
	}
	esk_status status = options != NULL ? take_options(stream, options, columns, err) : ESK_OK;
	if (status != ESK_OK) {
		esk_stream_destroy(stream);
		return status;
	}
	memcpy(stream->columns, columns, column_count * sizeof *columns);
	for (size_t c = 0; c < column_count; c++) {
		uint64_t bytes = esk_column_cell_bytes(&columns[c]);
		stream->elements[c] = bytes / columns[c].dtype.size_bytes;
		bool strings = columns[c].dtype.kind == ESK_STRING;
		stream->has_strings = stream->has_strings || strings;
		stream->cell_bytes[c] = strings ? stream->elements[c] * sizeof(uint32_t) : bytes;
		stream->row_bytes += stream->cell_bytes[c] + (columns[c].nullable ? 1 : 0);
	}
	*ret_stream = stream;
	return ESK_OK;
}

void esk_stream_destroy(esk_stream *stream)
{
	if (stream == NULL)
		return;
	for (size_t i = 0; i < stream->writer_count; i++)
		esk_writer_clear(&stream->writers[i]);
	pthread_mutex_destroy(&stream->producer);
	free(stream->index);
	free(stream->index_sources);
	free(stream->indexed.data);
	esk_index_spec_free(&stream->index_spec);
	free(stream->rows_attribute);
	free(stream->columns);
	free(stream->cell_bytes);
	free(stream->elements);
	free(stream->reserved_cells);
	free(stream->reserved_valid);
	free(stream->writers);
	free(stream->valid_writer);
	free(stream->zeros);
	free(stream);
}

esk_status esk_stream_check_open(const esk_stream *stream, esk_error *err)
{
	const esk_recorder *r = stream->recorder;
	if (r->fork_count != esk_os_fork_count())
		return esk_fail(err, ESK_ECLOSED,
			"run \"%s\" belongs to the parent process: after fork, record from the parent or "
			"open a run of your own",
			r->name);
	if (atomic_load_explicit(
		    &r->closed, memory_order_relaxed)) /* only a hint: the ring is sealed as well */
		return esk_fail(err, ESK_ECLOSED, "run \"%s\" is closed", r->name);
	return ESK_OK;
}

/* Reserves a record for `rows` rows and claims their indices. */
static esk_status claim(esk_stream *stream, uint64_t rows, uint64_t bytes, esk_ring_slot *ret_slot,
	uint64_t *ret_row, esk_error *err)
{
	if (bytes > esk_ring_max_payload(stream->recorder->ring))
		return esk_fail(err, ESK_ERANGE,
			"stream \"%s\": %llu rows take %llu bytes, a record takes at most %llu: append fewer "
			"rows at once or give the run a larger ring (ring_bytes)",
			stream->name, (unsigned long long)rows, (unsigned long long)bytes,
			(unsigned long long)esk_ring_max_payload(stream->recorder->ring));
	pthread_mutex_lock(&stream->producer);
	esk_status status = esk_ring_reserve(
		stream->recorder->ring, stream->id, ESK_RECORD_ROWS, (uint32_t)bytes, ret_slot, err);
	if (status == ESK_OK) {
		*ret_row = atomic_load_explicit(&stream->next_row, memory_order_relaxed);
		atomic_store_explicit(&stream->next_row, *ret_row + rows, memory_order_relaxed);
	}
	pthread_mutex_unlock(&stream->producer);
	return status;
}

static esk_status missing_cell(const esk_stream *stream, size_t c, esk_error *err)
{
	return esk_fail(err, ESK_EINVAL,
		"stream \"%s\": the cell of column \"%s\" is missing and the column is not nullable",
		stream->name, stream->columns[c].name);
}

/* Bytes of all strings in `rows` rows; checks each. */
static esk_status measure_strings(const esk_stream *stream, uint64_t rows, const void *const *cells,
	uint64_t *ret_bytes, esk_error *err)
{
	uint64_t total = 0;
	for (size_t c = 0; c < stream->column_count; c++) {
		if (stream->columns[c].dtype.kind != ESK_STRING || cells[c] == NULL)
			continue;
		const esk_string *strings = cells[c];
		for (uint64_t i = 0; i < rows * stream->elements[c]; i++) {
			if (strings[i].size > UINT32_MAX ||
				(strings[i].size > 0 && strings[i].data == NULL) ||
				(strings[i].size > 0 &&
					memchr(strings[i].data, '\0', strings[i].size) != NULL))
				return esk_fail(err, ESK_EINVAL,
					"column \"%s\", row %llu of the append: a string holds a NUL byte or "
					"is no string",
					stream->columns[c].name,
					(unsigned long long)(i / stream->elements[c]));
			total += strings[i].size;
		}
	}
	*ret_bytes = total;
	return ESK_OK;
}

/* Copies one column's variable strings: their sizes to `sizes`, their bytes to *bytes, which moves on. */
static void fill_strings(uint8_t *sizes, uint8_t **bytes, const esk_string *strings, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		uint32_t size = strings != NULL ? (uint32_t)strings[i].size : 0;
		memcpy(sizes + i * sizeof size, &size, sizeof size);
		if (size > 0)
			memcpy(*bytes, strings[i].data, size);
		*bytes += size;
	}
}

/* A large cell is not touched again before the codec reads it, and by then a ring larger than the caches has
 * pushed it out of them. */
static void copy_cells(const esk_stream *stream, uint8_t *to, const void *from, uint64_t bytes)
{
	if (bytes >= ESK_BY_REFERENCE_BYTES &&
		esk_ring_capacity(stream->recorder->ring) >= PAST_CACHE_RING_BYTES)
		esk_copy_past_cache(to, from, bytes);
	else
		memcpy(to, from, bytes);
}

void esk_stream_fill(const esk_stream *stream, uint8_t *payload, uint64_t rows, uint64_t row,
	const uint64_t *cell_at, const uint64_t *valid_at, const esk_rows_layout *layout,
	const void *const *cells, const uint8_t *const *valid)
{
	esk_rows_head head = {.rows = (uint32_t)rows, .row = row};
	memcpy(payload, &head, sizeof head);
	uint8_t *string_bytes = payload + layout->strings_offset;
	for (size_t c = 0; c < stream->column_count; c++) {
		uint64_t bytes = rows * stream->cell_bytes[c];
		if (stream->columns[c].dtype.kind == ESK_STRING)
			fill_strings(
				payload + cell_at[c], &string_bytes, cells[c], rows * stream->elements[c]);
		else if (cells[c] != NULL)
			copy_cells(stream, payload + cell_at[c], cells[c], bytes);
		else
			memset(payload + cell_at[c], 0, bytes);
		if (!stream->columns[c].nullable)
			continue;
		uint8_t *marks = payload + valid_at[c];
		if (cells[c] == NULL)
			memset(marks, 0, rows);
		else if (valid != NULL && valid[c] != NULL)
			for (uint64_t i = 0; i < rows; i++)
				marks[i] = valid[c][i] != 0;
		else
			memset(marks, 1, rows);
	}
}

esk_status esk_stream_measure(const esk_stream *stream, uint64_t rows, const void *const *cells,
	uint64_t *cell_at, uint64_t *valid_at, esk_rows_layout *ret_layout, uint64_t *ret_bytes,
	esk_error *err)
{
	uint64_t string_bytes = 0;
	if (rows > UINT32_MAX || !esk_rows_layout_compute(stream, rows, cell_at, valid_at, ret_layout))
		return esk_fail(err, ESK_ERANGE, "stream \"%s\": %llu rows at once", stream->name,
			(unsigned long long)rows);
	esk_status status =
		stream->has_strings ? measure_strings(stream, rows, cells, &string_bytes, err) : ESK_OK;
	if (status == ESK_OK)
		*ret_bytes = ret_layout->total_bytes + string_bytes;
	return status;
}

#define INLINE_COLUMNS 64

/* One record: all `rows` rows. */
static esk_status append_record(esk_stream *stream, uint64_t rows, const void *const *cells,
	const uint8_t *const *valid, uint64_t *ret_row, esk_error *err)
{
	uint64_t inline_at[2 * INLINE_COLUMNS];
	uint64_t *at = inline_at;
	size_t n = stream->column_count;
	if (n > INLINE_COLUMNS) {
		at = malloc(2 * n * sizeof *at);
		if (at == NULL)
			return esk_fail_memory(err, 2 * n * sizeof *at, "offsets");
	}
	esk_rows_layout layout;
	esk_ring_slot slot;
	uint64_t row, bytes;
	esk_status status = esk_stream_measure(stream, rows, cells, at, at + n, &layout, &bytes, err);
	if (status == ESK_OK)
		status = claim(stream, rows, bytes, &slot, &row, err);
	if (status == ESK_OK) {
		esk_stream_fill(stream, slot.payload, rows, row, at, at + n, &layout, cells, valid);
		esk_ring_publish(stream->recorder->ring, &slot);
		if (ret_row != NULL)
			*ret_row = row;
	}
	if (at != inline_at)
		free(at);
	return status;
}

esk_status esk_stream_check_cells(const esk_stream *stream, const void *const *cells, esk_error *err)
{
	for (size_t c = 0; c < stream->column_count; c++)
		if (cells[c] == NULL && !stream->columns[c].nullable)
			return missing_cell(stream, c, err);
	return ESK_OK;
}

esk_status esk_stream_append(esk_stream *stream, const void *const *cells, uint64_t *ret_row, esk_error *err)
{
	esk_status status = esk_stream_check_open(stream, err);
	if (status == ESK_OK)
		status = esk_stream_check_cells(stream, cells, err);
	if (status == ESK_OK)
		status = append_record(stream, 1, cells, NULL, ret_row, err);
	return status;
}

/* Rows that fit one record: strings are counted at their present mean. */
static esk_status rows_per_record(
	const esk_stream *stream, uint64_t rows, const void *const *cells, uint64_t *ret_rows, esk_error *err)
{
	uint64_t string_bytes = 0;
	if (stream->has_strings) {
		esk_status status = measure_strings(stream, rows, cells, &string_bytes, err);
		if (status != ESK_OK)
			return status;
	}
	uint64_t room = esk_ring_max_payload(stream->recorder->ring) - sizeof(esk_rows_head) -
			16 * stream->column_count;
	uint64_t row_bytes = stream->row_bytes + string_bytes / rows + 1;
	if (string_bytes > 0 && stream->row_bytes * rows + string_bytes > room)
		row_bytes = stream->row_bytes + 4 * (string_bytes / rows + 1); /* strings differ in length */
	/* Records of about a sixteenth of the ring (max_payload is a quarter) keep drain and producer working
	 * side by side. */
	uint64_t target = esk_max_u64(room / 4, row_bytes);
	*ret_rows = esk_max_u64(1, esk_min_u64(target / row_bytes, rows));
	return ESK_OK;
}

esk_status esk_stream_append_rows(esk_stream *stream, uint64_t rows, const void *const *cells,
	const uint8_t *const *valid, uint64_t *ret_row, uint64_t *ret_taken, esk_error *err)
{
	esk_status status = esk_stream_check_open(stream, err);
	if (status == ESK_OK)
		status = esk_stream_check_cells(stream, cells, err);
	uint64_t taken = 0, step = 0, first = 0;
	if (status == ESK_OK && rows > 0)
		status = rows_per_record(stream, rows, cells, &step, err);
	if (status != ESK_OK || rows == 0)
		goto taken;
	if (step >= rows) { /* the usual case: no arrays of moved pointers */
		status = append_record(stream, rows, cells, valid, &first, err);
		taken = status == ESK_OK ? rows : 0;
		goto taken;
	}
	size_t n = stream->column_count;
	const void **part = malloc(2 * n * sizeof *part);
	if (part == NULL) {
		status = esk_fail_memory(err, 2 * n * sizeof *part, "cell pointers");
		goto taken;
	}
	const uint8_t **part_valid = (const uint8_t **)(part + n);
	while (taken < rows && status == ESK_OK) {
		uint64_t count = esk_min_u64(step, rows - taken), row;
		for (size_t c = 0; c < n; c++) {
			uint64_t bytes = esk_column_cell_bytes(&stream->columns[c]);
			part[c] = cells[c] != NULL ? (const char *)cells[c] + taken * bytes : NULL;
			part_valid[c] = valid != NULL && valid[c] != NULL ? valid[c] + taken : NULL;
		}
		status = append_record(stream, count, part, part_valid, &row, err);
		if (status == ESK_OK) {
			first = taken == 0 ? row : first;
			taken += count;
		}
	}
	free(part);
taken:
	if (ret_taken != NULL)
		*ret_taken = taken;
	if (status == ESK_OK && ret_row != NULL)
		*ret_row = first;
	return status;
}

esk_status esk_stream_reserve(
	esk_stream *stream, uint64_t rows, esk_reservation *ret_reservation, esk_error *err)
{
	esk_status status = esk_stream_check_open(stream, err);
	if (status != ESK_OK)
		return status;
	if (stream->has_strings)
		return esk_fail(err, ESK_EUNSUPPORTED,
			"stream \"%s\" has variable-length strings: their room is not known before they are; "
			"use append",
			stream->name);
	if (stream->reserved)
		return esk_fail(err, ESK_EINVAL, "stream \"%s\" has a reservation that was not published yet",
			stream->name);
	if (rows == 0 || rows > UINT32_MAX)
		return esk_fail(err, ESK_EINVAL, "stream \"%s\": cannot reserve %llu rows", stream->name,
			(unsigned long long)rows);
	size_t n = stream->column_count;
	uint64_t *at = malloc(2 * n * sizeof *at);
	if (at == NULL)
		return esk_fail_memory(err, 2 * n * sizeof *at, "offsets");
	esk_rows_layout layout;
	uint64_t row;
	if (!esk_rows_layout_compute(stream, rows, at, at + n, &layout))
		status = esk_fail(err, ESK_ERANGE, "stream \"%s\": %llu rows at once", stream->name,
			(unsigned long long)rows);
	else
		status = claim(stream, rows, layout.total_bytes, &stream->slot, &row, err);
	if (status != ESK_OK)
		goto claim;
	uint8_t *payload = stream->slot.payload;
	esk_rows_head head = {.rows = (uint32_t)rows, .row = row};
	memcpy(payload, &head, sizeof head);
	for (size_t c = 0; c < n; c++) {
		stream->reserved_cells[c] = payload + at[c];
		stream->reserved_valid[c] = stream->columns[c].nullable ? payload + at[n + c] : NULL;
		if (stream->reserved_valid[c] != NULL)
			memset(stream->reserved_valid[c], 1, rows);
	}
	stream->reserved = true;
	*ret_reservation = (esk_reservation){.rows = rows,
		.row = row,
		.cells = stream->reserved_cells,
		.valid = stream->reserved_valid,
		.internal = &stream->slot};
claim:
	free(at);
	return status;
}

static bool holds(const esk_stream *stream, const esk_reservation *reservation)
{
	return stream->reserved && reservation->internal == &stream->slot &&
	       stream->recorder->fork_count == esk_os_fork_count();
}

void esk_stream_publish(esk_stream *stream, esk_reservation *reservation)
{
	if (!holds(stream, reservation))
		return;
	esk_ring_publish(stream->recorder->ring, &stream->slot);
	stream->reserved = false;
	reservation->internal = NULL;
}

void esk_stream_abandon(esk_stream *stream, esk_reservation *reservation)
{
	if (!holds(stream, reservation))
		return;
	/* First: who holds the lock may be waiting for the room behind this record. */
	esk_ring_abandon(stream->recorder->ring, &stream->slot);
	pthread_mutex_lock(&stream->producer);
	/* The indices are given back only if nobody came after; else the file gets rows without content for
	 * them (missing.c), so that later rows are where they were promised to be. */
	if (atomic_load_explicit(&stream->next_row, memory_order_relaxed) ==
		reservation->row + reservation->rows)
		atomic_store_explicit(&stream->next_row, reservation->row, memory_order_relaxed);
	pthread_mutex_unlock(&stream->producer);
	stream->reserved = false;
	reservation->internal = NULL;
}

void esk_stream_drop_reservation(esk_stream *stream)
{
	if (stream->reserved)
		esk_ring_abandon(stream->recorder->ring, &stream->slot);
	stream->reserved = false;
}

uint64_t esk_stream_rows(const esk_stream *stream)
{
	return atomic_load_explicit(&stream->next_row, memory_order_relaxed); /* an onlooker */
}

const esk_column *esk_stream_columns(const esk_stream *stream, size_t *ret_count)
{
	if (ret_count != NULL)
		*ret_count = stream->column_count;
	return stream->columns;
}
