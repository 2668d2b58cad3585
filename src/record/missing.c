/* Rows that were promised an index and never came.
 *
 * A producer's rows get their indices when room is reserved for them (stream.c). A reservation may be
 * abandoned, its producer may die, and its record may be damaged: the ring passes over it. Where rows behind
 * it were promised later indices, those hold: the file gets rows without content in its place (zeros, marked
 * as missing where the column is nullable, empty strings), and a gap says which and why. Each record carries
 * the index of its first row, so what lacks shows when the next record of the stream is drained, and recovery
 * sees it as the recorder would have.
 *
 * Records that were overwritten (ESK_OVERWRITE) are not made up for: there may be any number of them. From
 * then on the index that was promised is ahead of the row in the file, as store.h says.
 *
 *   R6  stream->promised is the index that the next row of the stream was promised, as far as records tell.
 *       Without eviction it equals stream->rows.
 *
 * Drain thread only (R1). */
#include "record/internal.h"

#include <stdlib.h>

#define FILL_BYTES (64u << 10) /* appended at once, at least one cell */

/* Cells without content, as long as the stream lives: large ones are not copied but pointed to. */
static esk_status make_zeros(esk_stream *stream, esk_error *err)
{
	if (stream->zeros != NULL)
		return ESK_OK;
	uint64_t bytes = FILL_BYTES;
	for (size_t c = 0; c < stream->column_count; c++)
		bytes = esk_max_u64(bytes, esk_column_cell_bytes(&stream->columns[c]));
	stream->zeros = calloc(1, bytes);
	if (stream->zeros == NULL)
		return esk_fail_memory(err, bytes, "missing rows");
	stream->zeros_bytes = bytes;
	return ESK_OK;
}

static esk_status fill_column(
	esk_recorder *r, const esk_stream *stream, esk_column_writer *writer, uint64_t rows, esk_error *err)
{
	uint64_t step = stream->zeros_bytes / writer->cell_bytes; /* a string's cell is an empty esk_string */
	esk_status status = ESK_OK;
	for (uint64_t done = 0; done < rows && status == ESK_OK; done += step) {
		uint64_t count = esk_min_u64(step, rows - done);
		status = writer->strings ? esk_writer_append_strings(r, writer, stream->zeros, count, err)
					 : esk_writer_append(r, writer, stream->zeros, count, err);
	}
	return status;
}

static void add_gap(
	esk_recorder *r, const esk_stream *stream, uint64_t sequence, uint64_t rows, uint64_t cause)
{
	esk_gap gap = {.stream = stream->id,
		.row = stream->rows,
		.rows = rows,
		.first_sequence = sequence,
		.last_sequence = sequence,
		.time_ns = (uint64_t)esk_now_ns(),
		.cause = cause};
	esk_drain_add_gap(r, &gap, sequence);
}

static esk_status fill_rows(
	esk_recorder *r, esk_stream *stream, uint64_t sequence, uint64_t rows, esk_error *err)
{
	bool damaged = r->damaged_sequence > stream->sequence;
	esk_status status = make_zeros(stream, err);
	for (size_t w = 0; w < stream->writer_count && status == ESK_OK; w++)
		status = fill_column(r, stream, &stream->writers[w], rows, err);
	if (status != ESK_OK)
		return status;
	add_gap(r, stream, sequence, rows, damaged ? ESK_CAUSE_DAMAGED : ESK_CAUSE_ABANDONED);
	esk_log(&r->logger, ESK_LOG_WARNING,
		"run \"%s\", stream \"%s\": rows %llu to %llu are missing: %s; rows behind them keep their "
		"index",
		r->name, stream->name, (unsigned long long)stream->rows,
		(unsigned long long)(stream->rows + rows - 1),
		damaged ? "their record was damaged in the ring" : "they were reserved and not published");
	stream->rows += rows;
	esk_index_restart(stream); /* its table gets what the file has */
	return ESK_OK;
}

/* Rows that the ring can have held: an index that is further ahead is not to be believed. */
static uint64_t most_rows(const esk_recorder *r, const esk_stream *stream)
{
	return esk_ring_capacity(r->ring) / esk_max_u64(1, stream->row_bytes);
}

esk_status esk_missing_fill(
	esk_recorder *r, esk_stream *stream, uint64_t sequence, uint64_t row, esk_error *err)
{
	if (row == stream->promised)
		return ESK_OK;
	bool passed = esk_max_u64(r->skipped_sequence, r->damaged_sequence) > stream->sequence;
	bool evicted = r->evicted_sequence > stream->sequence;
	esk_status status = ESK_OK;
	if (row > stream->promised && evicted) {
		/* The loss is told already. */
	} else if (row > stream->promised && passed && row - stream->promised <= most_rows(r, stream)) {
		status = fill_rows(r, stream, sequence, row - stream->promised, err);
	} else {
		add_gap(r, stream, sequence, 0, ESK_CAUSE_DAMAGED);
		esk_log(&r->logger, ESK_LOG_ERROR,
			"run \"%s\", stream \"%s\": ring record %llu says that it begins with row %llu where "
			"row %llu must come; its rows are kept where they come",
			r->name, stream->name, (unsigned long long)sequence, (unsigned long long)row,
			(unsigned long long)stream->promised);
	}
	if (status == ESK_OK)
		stream->promised = row;
	return status;
}

void esk_missing_begin(esk_recorder *r)
{
	esk_ring_stats stats = {0};
	if (r->ring != NULL)
		esk_ring_get_stats(r->ring, &stats);
	/* What was passed over before the commit from which the ring is read is not known any more. */
	r->skipped_sequence = r->head.sequence;
	r->evicted_sequence = stats.lost_records > 0 ? r->head.sequence : 0;
	r->damaged_sequence = 0;
	uint32_t count = atomic_load_explicit(
		&r->stream_count, memory_order_acquire); /* with the release in drain.c */
	for (uint32_t s = 0; s < count; s++) {
		r->streams[s]->promised = r->streams[s]->rows;
		r->streams[s]->sequence = 0;
	}
}
