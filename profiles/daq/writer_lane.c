/* Lanes: what comes under one declaration of the ring. Decoding, gathering, and what is done with bytes that
 * do not hold what they should. */
#include "writer.h"
#include <esker/profile.h>

#include <esker/arrow_encode.h>

#include <stdlib.h>
#include <string.h>

#define LOGGED 8u /* bad records of a bite that the log names */
#define MAX_LANES (1u << 22)
#define GATHER_BYTES (4ull << 20) /* gathered at most, about, before it is put */
#define GATHER_SPANS 65536u
#define DIRECT_BYTES (64u << 10)    /* larger records are not gathered: a copy would not pay */
#define DECODED_FACTOR 4u           /* a compressed batch may be this much larger than the largest record, */
#define DECODED_BYTES (16ull << 20) /* and this */

bool esk_daq_is_passing(esk_status status)
{
	switch (status) {
	case ESK_ENOMEM:
	case ESK_EIO:
	case ESK_ENOSPC:
	case ESK_EBUSY:
	case ESK_ECLOSED:
	case ESK_EFULL:
	case ESK_ETIMEDOUT:
	case ESK_EACCES:
	case ESK_EINTERNAL:
		return true;
	default:
		return false;
	}
}

void esk_daq_log_bad(esk_daq_writer *writer, const char *instrument, uint64_t sequence, const esk_error *why)
{
	if (writer->bite.bad_logged++ >= LOGGED)
		return;
	esk_daq_writer_log(writer, ESK_LOG_WARNING, "ring %s: record %llu%s%s is skipped: %s",
		esk_ring_path(writer->ring), (unsigned long long)sequence, instrument != NULL ? " of " : "",
		instrument != NULL ? instrument : "", why->message);
}

/* ---- opening ---- */

static esk_status open_declared(esk_daq_writer *writer, esk_daq_lane *lane, esk_error *err)
{
	esk_status status = esk_arrow_decoder_create(&lane->decoder, err);
	if (status == ESK_OK)
		status = esk_arrow_decoder_limit(lane->decoder,
			DECODED_FACTOR * esk_ring_max_payload(writer->ring) + DECODED_BYTES, err);
	if (status == ESK_OK)
		status = esk_daq_declaration_feed(
			writer->ring, lane->declaration, lane->decoder, lane->instrument, err);
	if (status == ESK_OK && strcmp(lane->instrument, ESK_DAQ_RING_STREAM) == 0)
		status = esk_fail(
			err, ESK_EINVAL, "an instrument \"%s\": the name is the account's", lane->instrument);
	lane->schema = status == ESK_OK ? esk_arrow_decoder_schema(lane->decoder) : NULL;
	return status;
}

/* Items of one instrument are numbered together, whatever declaration they are of. */
static esk_status begin_numbers(esk_daq_writer *writer, esk_daq_lane *lane, esk_error *err)
{
	lane->first = lane;
	for (uint32_t i = 0; i < writer->lane_count; i++) {
		esk_daq_lane *other = writer->lanes[i];
		if (other != NULL && !other->dead && strcmp(other->instrument, lane->instrument) == 0) {
			lane->first = other->first;
			return ESK_OK;
		}
	}
	return esk_daq_batches_last(writer, lane->instrument, &lane->batches, err);
}

static esk_status open_lane(esk_daq_writer *writer, esk_daq_lane *lane, esk_error *err)
{
	esk_status status = ESK_OK;
	if (lane->declaration == 0) {
		lane->schema = writer->bytes_schema;
		memcpy(lane->instrument, ESK_DAQ_BYTES_STREAM, sizeof ESK_DAQ_BYTES_STREAM);
	} else {
		status = open_declared(writer, lane, err);
	}
	if (status == ESK_OK)
		status = esk_daq_gather_create(lane->schema, &lane->gather, err);
	if (status == ESK_OK)
		status =
			esk_daq_rules_for(writer->rules, lane->instrument, lane->schema, &lane->columns, err);
	if (status == ESK_OK && writer->options.layout == ESK_DAQ_BATCHES)
		status = esk_arrow_schema_to_json(lane->schema, &lane->schema_json, err);
	if (status == ESK_OK && writer->options.layout == ESK_DAQ_BATCHES)
		status = begin_numbers(writer, lane, err);
	return status;
}

void esk_daq_lane_close(esk_daq_lane *lane)
{
	if (lane == NULL)
		return;
	esk_arrow_sink_close(lane->sink);
	esk_daq_gather_destroy(lane->gather);
	esk_arrow_decoder_destroy(lane->decoder);
	esk_arrow_text_free(lane->schema_json);
	free(lane->columns);
	free(lane->spans);
	free(lane);
}

static esk_status make_lane(esk_daq_writer *writer, uint32_t declaration, esk_error *err)
{
	esk_error why = {0};
	esk_daq_lane *lane = calloc(1, sizeof *lane);
	if (lane == NULL)
		return esk_fail_memory(err, sizeof *lane, "a declaration's records");
	lane->declaration = declaration;
	esk_status status = open_lane(writer, lane, &why);
	if (status != ESK_OK && esk_daq_is_passing(status)) {
		esk_daq_lane_close(lane);
		return esk_fail(err, status, "%s", why.message);
	}
	lane->dead = status != ESK_OK;
	lane->why = why;
	writer->lanes[declaration] = lane;
	return ESK_OK;
}

esk_status esk_daq_lane_find(
	esk_daq_writer *writer, uint32_t declaration, esk_daq_lane **ret_lane, esk_error *err)
{
	*ret_lane = NULL;
	if (declaration > esk_ring_declaration_count(writer->ring) || declaration >= MAX_LANES)
		return ESK_OK;
	if (declaration >= writer->lane_count) {
		uint32_t count = declaration + 1;
		esk_daq_lane **grown = realloc(writer->lanes, count * sizeof *grown);
		if (grown == NULL)
			return esk_fail_memory(err, count * sizeof *grown, "declarations");
		memset(grown + writer->lane_count, 0, (count - writer->lane_count) * sizeof *grown);
		writer->lanes = grown;
		writer->lane_count = count;
	}
	esk_status status = esk_daq_account_room(&writer->account, declaration, err);
	if (status == ESK_OK && writer->lanes[declaration] == NULL)
		status = make_lane(writer, declaration, err);
	if (status == ESK_OK)
		*ret_lane = writer->lanes[declaration];
	return status;
}

/* ---- taking ---- */

/* Raw bytes as a batch of one row. */
static esk_status take_bytes(esk_daq_writer *writer, const esk_ring_record *record,
	esk_status (*take)(esk_daq_writer *, esk_daq_lane *, const struct ArrowArray *,
		const esk_ring_record *, uint64_t, esk_error *),
	esk_daq_lane *lane, uint64_t piece, esk_error *err)
{
	int64_t offsets[2] = {0, record->size_bytes};
	const void *cell_buffers[3] = {NULL, offsets, writer->scratch};
	const void *no_validity[1] = {NULL};
	struct ArrowArray cell = {.length = 1, .n_buffers = 3, .buffers = cell_buffers};
	struct ArrowArray *columns[1] = {&cell};
	struct ArrowArray batch = {
		.length = 1, .n_buffers = 1, .buffers = no_validity, .n_children = 1, .children = columns};
	return take(writer, lane, &batch, record, piece, err);
}

static esk_status push_span(esk_daq_lane *lane, const esk_daq_span *span, esk_error *err)
{
	if (lane->span_count == lane->span_capacity) {
		size_t capacity = lane->span_capacity == 0 ? 256 : 2 * lane->span_capacity;
		esk_daq_span *grown = realloc(lane->spans, capacity * sizeof *grown);
		if (grown == NULL)
			return esk_fail_memory(err, capacity * sizeof *grown, "places of records");
		lane->spans = grown;
		lane->span_capacity = capacity;
	}
	lane->spans[lane->span_count++] = *span;
	return ESK_OK;
}

/* Records that cannot be taken and follow one another become one span, unless something was lost between. */
static esk_daq_span *last_bad(const esk_daq_writer *writer, const esk_daq_lane *lane)
{
	uint64_t after = writer->mark_count > 0 ? writer->marks[writer->mark_count - 1].position : 0;
	esk_daq_span *last = lane->span_count > lane->spans_put ? &lane->spans[lane->span_count - 1] : NULL;
	return last != NULL && last->bad > 0 && last->position >= after ? last : NULL;
}

static esk_status take_bad(esk_daq_writer *writer, esk_daq_lane *lane, const esk_ring_record *record,
	const esk_error *why, esk_error *err)
{
	esk_daq_span span = {.sequence = record->sequence,
		.position = record->position,
		.end = lane->gather != NULL ? esk_daq_gather_rows(lane->gather) : 0,
		.bad = 1,
		.first = record->sequence};
	esk_daq_span *last = last_bad(writer, lane);
	esk_daq_log_bad(writer, lane->instrument, record->sequence, why);
	if (last == NULL)
		return push_span(lane, &span, err);
	last->bad++;
	last->sequence = record->sequence;
	last->position = record->position;
	return ESK_OK;
}

static esk_status gather(esk_daq_writer *writer, esk_daq_lane *lane, const struct ArrowArray *batch,
	const esk_ring_record *record, esk_error *err)
{
	esk_status status = esk_daq_gather_add(lane->gather, batch, err);
	if (status == ESK_ERANGE) {
		status = esk_daq_lane_flush(writer, lane, err);
		if (status == ESK_OK)
			status = esk_daq_gather_add(lane->gather, batch, err);
	}
	if (status != ESK_OK)
		return status;
	esk_daq_span span = {.sequence = record->sequence,
		.position = record->position,
		.end = esk_daq_gather_rows(lane->gather)};
	status = push_span(lane, &span, err);
	if (status != ESK_OK)
		return status;
	bool full = esk_daq_gather_bytes(lane->gather) >= GATHER_BYTES || lane->span_count >= GATHER_SPANS;
	return full ? esk_daq_lane_flush(writer, lane, err) : ESK_OK;
}

/* In the batches layout what is put is a group: few and large ones are better than a copy saved. */
static bool is_gathered(const esk_daq_writer *writer, const esk_daq_lane *lane, const esk_ring_record *record)
{
	uint64_t most = writer->options.layout == ESK_DAQ_BATCHES ? GATHER_BYTES : DIRECT_BYTES;
	return lane->gather != NULL && record->size_bytes < most;
}

/* Small batches are gathered; the others, and those of which a part is done, are put as they are. */
static esk_status take_batch(esk_daq_writer *writer, esk_daq_lane *lane, const struct ArrowArray *batch,
	const esk_ring_record *record, uint64_t piece, esk_error *err)
{
	if (piece == 0 && is_gathered(writer, lane, record))
		return gather(writer, lane, batch, record, err);
	esk_daq_span span = {
		.sequence = record->sequence, .position = record->position, .end = (uint64_t)batch->length};
	esk_status status = esk_daq_lane_flush(writer, lane, err);
	if (status == ESK_OK && piece < span.end)
		status = esk_daq_put(writer, lane, batch, piece, 0, &span, 1, err);
	return status;
}

/* Dictionaries first, then one batch, then nothing. */
static esk_status decode(
	esk_daq_writer *writer, esk_daq_lane *lane, size_t size, struct ArrowArray *ret_batch, esk_error *err)
{
	size_t at = 0, used;
	ret_batch->release = NULL;
	while (at < size && ret_batch->release == NULL) {
		esk_status status = esk_arrow_decoder_feed(
			lane->decoder, writer->scratch + at, size - at, &used, ret_batch, err);
		if (status != ESK_OK)
			return status;
		at += used;
	}
	if (ret_batch->release == NULL)
		return esk_fail(err, ESK_ECORRUPT, "it holds no record batch");
	if (at == size)
		return ESK_OK;
	ret_batch->release(ret_batch);
	ret_batch->release = NULL;
	return esk_fail(err, ESK_ECORRUPT, "%zu bytes follow its record batch", size - at);
}

esk_status esk_daq_lane_take(esk_daq_writer *writer, esk_daq_lane *lane, const esk_ring_record *record,
	uint64_t piece, esk_error *err)
{
	struct ArrowArray batch = {0};
	esk_error why = {0};
	if (lane->dead)
		return take_bad(writer, lane, record, &lane->why, err);
	if (lane->declaration == 0)
		return take_bytes(writer, record, take_batch, lane, piece, err);
	esk_status status = decode(writer, lane, record->size_bytes, &batch, &why);
	if (status == ESK_ENOMEM)
		return esk_fail(err, status, "%s", why.message);
	if (status != ESK_OK)
		return take_bad(writer, lane, record, &why, err);
	status = take_batch(writer, lane, &batch, record, piece, err);
	if (batch.release != NULL)
		batch.release(&batch);
	return status;
}

/* ---- putting ---- */

void esk_daq_lane_forget(esk_daq_lane *lane)
{
	if (lane->gather != NULL)
		esk_daq_gather_empty(lane->gather);
	lane->span_count = lane->spans_put = 0;
	lane->rows_put = 0;
}

/* Puts the records in front of `position`. A failure gives the bite back, and with it all that is gathered.
 */
static esk_status flush_until(esk_daq_writer *writer, esk_daq_lane *lane, uint64_t position, esk_error *err)
{
	size_t from = lane->spans_put, to = from;
	while (to < lane->span_count && lane->spans[to].position < position)
		to++;
	if (to == from)
		return ESK_OK;
	const struct ArrowArray *batch = lane->gather != NULL ? esk_daq_gather_batch(lane->gather) : NULL;
	esk_status status = esk_daq_put(
		writer, lane, batch, lane->rows_put, lane->rows_put, lane->spans + from, to - from, err);
	if (status != ESK_OK)
		return status;
	lane->spans_put = to;
	lane->rows_put = lane->spans[to - 1].end;
	if (to == lane->span_count)
		esk_daq_lane_forget(lane);
	return ESK_OK;
}

static esk_daq_lane *earliest_lane(const esk_daq_writer *writer, uint64_t position)
{
	esk_daq_lane *earliest = NULL;
	for (uint32_t i = 0; i < writer->lane_count; i++) {
		esk_daq_lane *lane = writer->lanes[i];
		if (lane == NULL || lane->spans_put == lane->span_count ||
			lane->spans[lane->spans_put].position >= position)
			continue;
		position = lane->spans[lane->spans_put].position;
		earliest = lane;
	}
	return earliest;
}

/* Batches: the item that begins with the record behind a loss says how much it was, and comes first. */
static esk_status tell_losses(esk_daq_writer *writer, uint64_t position, esk_error *err)
{
	esk_daq_lane *lane;
	esk_status status = ESK_OK;
	if (writer->options.layout != ESK_DAQ_BATCHES)
		return ESK_OK;
	while (status == ESK_OK && writer->untold_lost > 0 &&
		(lane = earliest_lane(writer, position)) != NULL)
		status = flush_until(writer, lane, position, err);
	return status;
}

esk_status esk_daq_lanes_flush_until(esk_daq_writer *writer, uint64_t position, esk_error *err)
{
	esk_status status = tell_losses(writer, position, err);
	for (uint32_t i = 0; i < writer->lane_count && status == ESK_OK; i++)
		if (writer->lanes[i] != NULL)
			status = flush_until(writer, writer->lanes[i], position, err);
	return status;
}

esk_status esk_daq_lanes_flush(esk_daq_writer *writer, esk_error *err)
{
	esk_status status = esk_daq_settle_marks(writer, err);
	return status == ESK_OK ? esk_daq_lanes_flush_until(writer, UINT64_MAX, err) : status;
}

esk_status esk_daq_lane_flush(esk_daq_writer *writer, esk_daq_lane *lane, esk_error *err)
{
	esk_status status = esk_daq_settle_marks(writer, err);
	if (status == ESK_OK)
		status = tell_losses(writer, UINT64_MAX, err);
	return status == ESK_OK ? flush_until(writer, lane, UINT64_MAX, err) : status;
}
