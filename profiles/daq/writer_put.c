/* Rows into the run, with the entry that accounts for them, in either layout (writer.h, W2). */
#include "runs.h"
#include "writer.h"
#include <esker/profile.h>

/* ---- one append ---- */

static esk_status open_sink(esk_daq_writer *writer, esk_daq_lane *lane, esk_error *err)
{
	esk_arrow_sink_options options = ESK_ARROW_SINK_OPTIONS_INIT;
	options.columns = lane->columns;
	return lane->sink != NULL ? ESK_OK
				  : esk_run_arrow(writer->run, lane->instrument, lane->schema, &options,
					    &lane->sink, err);
}

esk_status esk_daq_lane_stream(
	esk_daq_writer *writer, esk_daq_lane *lane, esk_stream **ret_stream, esk_error *err)
{
	esk_status status = open_sink(writer, lane, err);
	if (status == ESK_OK)
		*ret_stream = esk_arrow_sink_stream(lane->sink);
	return status;
}

static esk_status append_columns(esk_daq_writer *writer, esk_daq_lane *lane, const struct ArrowArray *batch,
	uint64_t first, const esk_daq_entry *entry, esk_error *err)
{
	const void *cells[ESK_DAQ_RING_COLUMNS];
	esk_daq_entry_cells(entry, cells);
	esk_rows_part extra = {.stream = writer->ring_stream, .rows = 1, .cells = cells};
	return esk_arrow_sink_append(lane->sink, batch, first, entry->rows, &extra, 1, NULL, err);
}

static esk_status append_item(esk_daq_writer *writer, esk_daq_lane *lane, const struct ArrowArray *batch,
	uint64_t first, const esk_daq_entry *entry, uint64_t first_sequence, esk_error *err)
{
	struct ArrowArray slice = *batch; /* a struct array's offset counts for its columns too */
	slice.offset += (int64_t)first;
	slice.length = (int64_t)entry->rows;
	return esk_daq_batches_put(writer, lane, &slice, entry, first_sequence, err);
}

/* Rows of a batch that are not in the run yet, and the records that they are of. */
typedef struct rest {
	const struct ArrowArray *batch;
	const esk_daq_span *spans;
	uint64_t begin; /* the row with which the first record begins */
	uint64_t first; /* the first row of those that are not in the run */
	size_t at;      /* the record that it is of */
} rest;

/* The entry for rows [r->first, stop); *ret_at is the first record that they do not complete. */
static esk_daq_entry make_entry(const esk_daq_writer *writer, const esk_daq_lane *lane, const rest *r,
	uint64_t stop, size_t span_count, size_t *ret_at)
{
	size_t at = r->at;
	while (at < span_count && r->spans[at].end <= stop)
		at++;
	uint64_t begin = at > 0 ? r->spans[at - 1].end : r->begin;
	bool in_part = at < span_count && begin < stop;
	const esk_daq_span *last = &r->spans[in_part ? at : at - 1];
	*ret_at = at;
	return (esk_daq_entry){.ring_id = esk_ring_stream_id(writer->ring),
		.declaration = lane->declaration,
		.sequence = last->sequence,
		.position = last->position,
		.piece = in_part ? stop - begin : 0,
		.records = at - r->at,
		.rows = stop - r->first,
		.flush_position = writer->bite.flush_position,
		.time_ns = esk_now_ns()};
}

static void count(esk_daq_writer *writer, const esk_daq_entry *entry)
{
	pthread_mutex_lock(&writer->lock);
	writer->stats.records += entry->records;
	writer->stats.rows += entry->rows;
	writer->stats.batches++;
	pthread_mutex_unlock(&writer->lock);
}

static esk_status append(esk_daq_writer *writer, esk_daq_lane *lane, const struct ArrowArray *batch,
	uint64_t first, const esk_daq_entry *entry, uint64_t first_sequence, esk_error *err)
{
	esk_status status = writer->options.layout == ESK_DAQ_BATCHES
				    ? append_item(writer, lane, batch, first, entry, first_sequence, err)
				    : append_columns(writer, lane, batch, first, entry, err);
	if (status != ESK_OK)
		return status;
	count(writer, entry);
	esk_daq_account_add(&writer->account, entry);
	return ESK_OK;
}

/* ---- all rows ---- */

/* How many rows to try at once. */
static uint64_t rows_at_once(
	const esk_daq_writer *writer, const esk_daq_lane *lane, const struct ArrowArray *batch, uint64_t rows)
{
	uint64_t fit = writer->options.layout == ESK_DAQ_COLUMNS
			       ? esk_arrow_sink_rows_per_record(lane->sink, batch)
			       : rows;
	return fit < rows ? fit : rows;
}

/* Puts the rest up to the end of record `to` - 1, in as few appends as the run's ring takes. `r` says how far
 * it came. */
static esk_status put_until(esk_daq_writer *writer, esk_daq_lane *lane, rest *r, size_t to, esk_error *err)
{
	uint64_t limit = UINT64_MAX;
	while (r->first < r->spans[to - 1].end) {
		size_t at;
		uint64_t left = r->spans[to - 1].end - r->first;
		uint64_t rows = rows_at_once(writer, lane, r->batch, left < limit ? left : limit);
		esk_daq_entry entry = make_entry(writer, lane, r, r->first + rows, to, &at);
		esk_status status =
			append(writer, lane, r->batch, r->first, &entry, r->spans[r->at].sequence, err);
		if (status == ESK_ERANGE && rows > 1) { /* it does not fit one record after all */
			limit = rows / 2;
			continue;
		}
		if (status != ESK_OK)
			return status;
		r->first += rows;
		r->at = at;
	}
	r->at = to;
	return ESK_OK;
}

/* The lane's stream cannot be had: none of its records can be taken. */
static esk_status give_up(esk_daq_writer *writer, esk_daq_lane *lane, const esk_daq_span *spans,
	size_t span_count, const esk_error *why, esk_error *err)
{
	esk_daq_span all = spans[span_count - 1];
	all.bad = span_count;
	all.first = spans[0].sequence;
	lane->dead = true;
	lane->why = *why;
	for (size_t i = 0; i < span_count; i++)
		esk_daq_log_bad(writer, lane->instrument, spans[i].sequence, why);
	return esk_daq_account_bad(writer, lane, &all, err);
}

/* The record cannot be stored. */
static esk_status pass_over(
	esk_daq_writer *writer, esk_daq_lane *lane, rest *r, const esk_error *why, esk_error *err)
{
	esk_daq_span bad = r->spans[r->at];
	bad.bad = 1;
	bad.first = bad.sequence;
	esk_daq_log_bad(writer, lane->instrument, bad.sequence, why);
	r->first = bad.end;
	r->at++;
	return esk_daq_account_bad(writer, lane, &bad, err);
}

/* Records that are no good spoil those that were gathered with them: after a failure they are put one by one.
 */
static esk_status put_sound(
	esk_daq_writer *writer, esk_daq_lane *lane, rest *r, size_t span_count, esk_error *err)
{
	esk_error why = {0};
	size_t to = span_count;
	while (r->at < span_count) {
		esk_status status = put_until(writer, lane, r, to, &why);
		if (status != ESK_OK && esk_daq_is_passing(status))
			return esk_fail(err, status, "%s", why.message);
		if (status != ESK_OK && to == r->at + 1)
			status = pass_over(writer, lane, r, &why, err);
		else
			status = ESK_OK;
		if (status != ESK_OK)
			return status;
		to = r->at + 1;
	}
	return ESK_OK;
}

static esk_status put_rows(
	esk_daq_writer *writer, esk_daq_lane *lane, rest *r, size_t span_count, esk_error *err)
{
	esk_error why = {0};
	const esk_daq_span *spans = r->spans;
	if (spans[span_count - 1].end == r->first) /* no rows */
		return ESK_OK;
	esk_status status =
		writer->options.layout == ESK_DAQ_COLUMNS ? open_sink(writer, lane, &why) : ESK_OK;
	if (status != ESK_OK && esk_daq_is_passing(status))
		return esk_fail(err, status, "%s", why.message);
	return status == ESK_OK ? put_sound(writer, lane, r, span_count, err)
				: give_up(writer, lane, spans, span_count, &why, err);
}

esk_status esk_daq_put(esk_daq_writer *writer, esk_daq_lane *lane, const struct ArrowArray *batch,
	uint64_t first, uint64_t begin, const esk_daq_span *spans, size_t span_count, esk_error *err)
{
	esk_status status = ESK_OK;
	for (size_t at = 0, to; at < span_count && status == ESK_OK; at = to) {
		if (spans[at].bad > 0) {
			to = at + 1;
			status = esk_daq_account_bad(writer, lane, &spans[at], err);
			continue;
		}
		for (to = at + 1; to < span_count && spans[to].bad == 0; to++)
			;
		rest r = {.batch = batch,
			.spans = spans + at,
			.begin = at > 0 ? spans[at - 1].end : begin,
			.first = at > 0 ? spans[at - 1].end : first};
		status = put_rows(writer, lane, &r, to - at, err);
	}
	return status;
}
