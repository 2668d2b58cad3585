/* One record of the ring -> columns. Its kind says what it holds; nothing of a record is taken before all of
 * it was checked, so that what belongs together is in the file together or not at all. Drain thread only
 * (R1).
 *
 *   kind ESK_RECORD_ROWS    | rows of one stream |
 *   kind ESK_RECORD_GROUP   | head | part: head, rows of one stream | part | … |
 *   kind ESK_RECORD_GROUP_LOSSES   | head | losses | part | part | … |
 *
 * A kind that is not known comes from a newer Esker, for a record's header has a checksum of its own: reading
 * stops, and the ring stays. */
#include "record/internal.h"

#include <stdlib.h>
#include <string.h>

#define INLINE_COLUMNS 64

/* Rows of one stream: all of a record, or a part of it. */
typedef struct rows_block {
	const esk_ring_record *record;
	esk_stream *stream;
	const uint8_t *payload;
	uint64_t size_bytes;
	esk_rows_head head;
	uint64_t *at; /* offsets of cells, then of validity, per column */
	uint64_t inline_at[2 * INLINE_COLUMNS];
	esk_rows_layout layout;
} rows_block;

static esk_status bad_record(
	const esk_recorder *r, const esk_ring_record *record, const char *what, esk_error *err)
{
	return esk_fail(err, ESK_ECORRUPT, "run \"%s\": ring record %llu: %s", r->name,
		(unsigned long long)record->sequence, what);
}

static esk_stream *stream_of(esk_recorder *r, uint32_t number)
{
	uint32_t streams = atomic_load_explicit(
		&r->stream_count, memory_order_acquire); /* with the release in drain.c */
	return number < streams ? r->streams[number] : NULL;
}

/* ---- rows ---- */

/* Makes r->strings the `count` strings of a block of sizes; their bytes start at *bytes, which moves on. */
static esk_status take_strings(esk_recorder *r, const uint8_t *payload, const uint8_t *sizes, uint64_t count,
	uint64_t *bytes_at, esk_error *err)
{
	if (count > r->strings_capacity) {
		esk_string *grown = realloc(r->strings, count * sizeof *grown);
		if (grown == NULL)
			return esk_fail_memory(err, count * sizeof *grown, "strings");
		r->strings = grown;
		r->strings_capacity = count;
	}
	for (uint64_t i = 0; i < count; i++) {
		uint32_t size;
		memcpy(&size, sizes + i * sizeof size, sizeof size);
		r->strings[i] = (esk_string){(const char *)payload + *bytes_at, size};
		*bytes_at += size;
	}
	return ESK_OK;
}

static esk_status check_strings(const esk_recorder *r, const rows_block *block, esk_error *err)
{
	const esk_stream *stream = block->stream;
	uint64_t room = block->size_bytes - block->layout.strings_offset;
	for (size_t c = 0; c < stream->column_count && stream->has_strings; c++) {
		uint64_t count =
			stream->writers[c].strings ? block->head.rows * stream->writers[c].elements : 0;
		for (uint64_t i = 0; i < count; i++) {
			uint32_t size;
			memcpy(&size, block->payload + block->at[c] + i * sizeof size, sizeof size);
			if (size > room)
				return bad_record(r, block->record, "a string reaches beyond it", err);
			room -= size;
		}
	}
	return ESK_OK;
}

/* Fills the block's head and offsets, after the first four members: every byte that it claims is there. */
static esk_status open_block(esk_recorder *r, rows_block *block, esk_error *err)
{
	block->at = block->inline_at;
	if (block->size_bytes < sizeof block->head)
		return bad_record(r, block->record, "shorter than its head", err);
	memcpy(&block->head, block->payload, sizeof block->head);
	size_t n = block->stream->column_count;
	if (n > INLINE_COLUMNS && (block->at = malloc(2 * n * sizeof *block->at)) == NULL)
		return esk_fail_memory(err, 2 * n * sizeof *block->at, "offsets");
	if (block->head.rows == 0 ||
		!esk_rows_layout_compute(
			block->stream, block->head.rows, block->at, block->at + n, &block->layout) ||
		block->layout.total_bytes > block->size_bytes)
		return bad_record(r, block->record, "its rows do not fit it", err);
	return check_strings(r, block, err);
}

static void close_block(rows_block *block)
{
	if (block->at != block->inline_at)
		free(block->at);
}

static esk_status apply_columns(esk_recorder *r, const rows_block *block, esk_error *err)
{
	esk_stream *stream = block->stream;
	const uint8_t *payload = block->payload;
	uint64_t bytes_at = block->layout.strings_offset, rows = block->head.rows;
	esk_status status = ESK_OK;
	for (size_t c = 0; c < stream->column_count && status == ESK_OK; c++) {
		esk_column_writer *writer = &stream->writers[c];
		const uint8_t *cells = payload + block->at[c];
		if (writer->strings) {
			status = take_strings(r, payload, cells, rows * writer->elements, &bytes_at, err);
			if (status == ESK_OK)
				status = esk_writer_append_strings(r, writer, r->strings, rows, err);
		} else {
			status = esk_writer_append(r, writer, cells, rows, err);
		}
		size_t valid = stream->valid_writer[c];
		if (status == ESK_OK && valid != SIZE_MAX)
			status = esk_writer_append(r, &stream->writers[valid],
				payload + block->at[stream->column_count + c], rows, err);
	}
	return status;
}

static esk_status apply_block(esk_recorder *r, const rows_block *block, esk_error *err)
{
	esk_stream *stream = block->stream;
	uint64_t rows = block->head.rows, sequence = block->record->sequence;
	esk_status status = esk_missing_fill(r, stream, sequence, block->head.row, err);
	if (status == ESK_OK)
		status = apply_columns(r, block, err);
	if (status == ESK_ECORRUPT) /* of the file: the record was found sound, and is taken again */
		return esk_fail_in(err, ESK_EIO, "run \"%s\", stream \"%s\"", r->name, stream->name);
	if (status != ESK_OK)
		return status;
	stream->promised += rows;
	stream->sequence = sequence;
	esk_index_keep(stream, block->payload, rows, block->at, &block->layout);
	stream->rows += rows;
	r->replayed_rows += rows;
	return ESK_OK;
}

static esk_status apply_rows(
	esk_recorder *r, const esk_ring_record *record, const uint8_t *payload, esk_error *err)
{
	rows_block block = {.record = record,
		.stream = stream_of(r, record->stream),
		.payload = payload,
		.size_bytes = record->size_bytes};
	if (block.stream == NULL)
		return bad_record(r, record, "of a stream that there is not", err);
	esk_status status = open_block(r, &block, err);
	if (status == ESK_OK)
		status = apply_block(r, &block, err);
	close_block(&block);
	return status;
}

/* ---- rows of several streams ---- */

/* The part at *at, which moves behind it. */
static esk_status next_part(esk_recorder *r, const esk_ring_record *record, const uint8_t *payload,
	uint64_t *at, rows_block *ret_block, esk_error *err)
{
	esk_part_head part;
	if (record->size_bytes - *at < sizeof part)
		return bad_record(r, record, "a part reaches beyond it", err);
	memcpy(&part, payload + *at, sizeof part);
	*at += sizeof part;
	uint64_t bytes = esk_round_up(part.size_bytes, 8);
	if (part.size_bytes > record->size_bytes || bytes > record->size_bytes - *at)
		return bad_record(r, record, "a part reaches beyond it", err);
	ret_block->record = record;
	ret_block->stream = stream_of(r, part.stream);
	ret_block->payload = payload + *at;
	ret_block->size_bytes = part.size_bytes;
	*at += bytes;
	return ret_block->stream != NULL ? ESK_OK
					 : bad_record(r, record, "of a stream that there is not", err);
}

static esk_status apply_group_loss(esk_recorder *r, const esk_ring_record *record, const esk_group_loss *loss,
	bool apply, esk_error *err)
{
	const esk_stream *stream = stream_of(r, loss->stream);
	if (stream == NULL)
		return bad_record(r, record, "of a stream that there is not", err);
	if (loss->cause != ESK_CAUSE_OVERWRITTEN && loss->cause != ESK_CAUSE_DAMAGED)
		return bad_record(r, record, "a loss of an unknown cause", err);
	if (apply)
		esk_apply_loss_of(r, stream, &loss->loss, loss->cause, record->sequence);
	return ESK_OK;
}

/* Losses stand where their streams end, which is in front of the record's rows. *at moves behind them. */
static esk_status for_each_loss(esk_recorder *r, const esk_ring_record *record, const uint8_t *payload,
	uint32_t count, uint64_t *at, bool apply, esk_error *err)
{
	esk_status status = ESK_OK;
	for (uint32_t i = 0; i < count && status == ESK_OK; i++) {
		esk_group_loss loss;
		if (record->size_bytes - *at < sizeof loss)
			return bad_record(r, record, "a loss reaches beyond it", err);
		memcpy(&loss, payload + *at, sizeof loss);
		*at += sizeof loss;
		status = apply_group_loss(r, record, &loss, apply, err);
	}
	return status;
}

static esk_status for_each_part(
	esk_recorder *r, const esk_ring_record *record, const uint8_t *payload, bool apply, esk_error *err)
{
	esk_group_head head;
	uint64_t at = sizeof head;
	if (record->size_bytes < sizeof head)
		return bad_record(r, record, "shorter than its head", err);
	memcpy(&head, payload, sizeof head);
	uint32_t losses = record->kind == ESK_RECORD_GROUP_LOSSES ? head.losses : 0;
	esk_status status = for_each_loss(r, record, payload, losses, &at, apply, err);
	for (uint32_t i = 0; i < head.parts && status == ESK_OK; i++) {
		rows_block block;
		status = next_part(r, record, payload, &at, &block, err);
		if (status != ESK_OK)
			break;
		status = open_block(r, &block, err);
		if (status == ESK_OK && apply)
			status = apply_block(r, &block, err);
		close_block(&block);
	}
	return status;
}

static esk_status apply_group(
	esk_recorder *r, const esk_ring_record *record, const uint8_t *payload, esk_error *err)
{
	esk_status status = for_each_part(r, record, payload, false, err);
	return status == ESK_OK ? for_each_part(r, record, payload, true, err) : status;
}

/* ---- any record ---- */

/* Overwrite: copies the record out of harm's way; false if it was overwritten meanwhile. */
static bool copy_out(esk_recorder *r, const esk_ring_record *record, esk_status *status, esk_error *err)
{
	if (record->size_bytes > r->bounce_bytes) {
		void *grown = realloc(r->bounce, record->size_bytes);
		if (grown == NULL) {
			*status = esk_fail_memory(err, record->size_bytes, "a record");
			return false;
		}
		r->bounce = grown;
		r->bounce_bytes = record->size_bytes;
	}
	esk_ring_copy(r->bounce, record->payload, record->size_bytes);
	return esk_ring_still_valid(r->ring, record);
}

static esk_status apply_kind(
	esk_recorder *r, const esk_ring_record *record, const uint8_t *payload, esk_error *err)
{
	switch (record->kind) {
	case ESK_RECORD_ROWS:
		return apply_rows(r, record, payload, err);
	case ESK_RECORD_GROUP:
	case ESK_RECORD_GROUP_LOSSES:
		return apply_group(r, record, payload, err);
	case ESK_RECORD_ITEM:
		return esk_apply_item(r, payload, record->size_bytes, err);
	case ESK_RECORD_ATTRIBUTES:
		return esk_apply_attributes(r, payload, record->size_bytes, err);
	case ESK_RECORD_TEXT:
		return esk_apply_text(r, payload, record->size_bytes, err);
	case ESK_RECORD_LOSS:
		return esk_apply_loss(
			r, stream_of(r, record->stream), payload, record->size_bytes, record->sequence, err);
	default:
		return esk_fail(err, ESK_EVERSION,
			"run \"%s\": ring record %llu is of kind %u, this Esker knows kinds up to %u: use a "
			"newer one",
			r->name, (unsigned long long)record->sequence, record->kind, ESK_RECORD_LAST);
	}
}

/* Of which stream a loss in the ring is told. */
static const esk_stream *stream_for_losses(esk_recorder *r, const esk_ring_record *record)
{
	return record->kind == ESK_RECORD_ROWS ? stream_of(r, record->stream) : NULL;
}

esk_status esk_drain_apply(esk_recorder *r, const esk_ring_record *record, esk_error *err)
{
	const esk_stream *stream = stream_for_losses(r, record);
	esk_status status = ESK_OK;
	if (record->lost_before_records > 0)
		esk_drain_note_lost(r, stream, record->lost_before_records, record->lost_before_bytes,
			record->sequence - record->lost_before_records, ESK_CAUSE_OVERWRITTEN);
	const uint8_t *payload = record->payload;
	if (r->options.policy == ESK_OVERWRITE) {
		if (!copy_out(r, record, &status, err)) {
			if (status == ESK_OK)
				esk_drain_note_lost(r, stream, 1, record->size_bytes, record->sequence,
					ESK_CAUSE_OVERWRITTEN);
			return status;
		}
		payload = r->bounce;
	}
	esk_error why = {0};
	status = apply_kind(r, record, payload, &why);
	if (status != ESK_OK && err != NULL)
		*err = why;
	if (status == ESK_ECORRUPT) { /* of the record: it is counted, and recording goes on */
		esk_drain_note_lost(r, stream, 1, record->size_bytes, record->sequence, ESK_CAUSE_DAMAGED);
		return ESK_OK;
	}
	return status;
}
