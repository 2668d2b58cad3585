/* Bites: from the ring to the lanes, what the ring says was lost, and the release (writer.h, W1, W3). */
#include "runs.h"
#include "writer.h"
#include <esker/profile.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BITE_RECORDS (1u << 20) /* a bite is done when it has read as many, */
#define BITE_PART 8u            /* or this part of the ring: so much is given back at once */
#define SCRATCH_BYTES (64u << 10)
#define AGAIN_NAP_NS 1000000u /* until the ring tells again that a producer is dead, */
#define AGAIN_NAPS 100u       /* this many times at most */

static esk_status begin(esk_daq_writer *writer, esk_error *err)
{
	esk_consumer_stats place = {.struct_size = sizeof place};
	esk_status status = esk_consumer_get_stats(writer->consumer, &place, err);
	if (status == ESK_OK)
		writer->bite = (esk_daq_bite){.flush_position = place.released_position,
			.end = place.released_position,
			.expected = writer->resuming ? writer->account.unreleased : 0};
	return status;
}

/* Whether it may end here: not before all that was done before is behind it, since only then it is known what
 * was lost. */
static bool is_full(const esk_daq_writer *writer)
{
	const esk_daq_bite *bite = &writer->bite;
	bool large = bite->records >= BITE_RECORDS ||
		     bite->end - bite->flush_position > esk_ring_capacity(writer->ring) / BITE_PART;
	return large && (bite->expected == 0 || bite->end >= writer->account.done_before);
}

/* What is missing between the record read before and this one. */
static void note_loss(esk_daq_writer *writer, const esk_ring_record *record)
{
	esk_daq_loss loss = {.records = record->lost_before_records, .bytes = record->lost_before_bytes};
	loss.first = record->sequence - loss.records;
	loss.last = record->sequence - 1;
	esk_daq_loss_add(&writer->held, &loss);
}

/* A copy of the payload, since whoever has the ring may write there while it is looked at. */
static esk_status copy_payload(esk_daq_writer *writer, const esk_ring_record *record, esk_error *err)
{
	if (record->size_bytes > writer->scratch_bytes) {
		size_t bytes = record->size_bytes > SCRATCH_BYTES ? record->size_bytes : SCRATCH_BYTES;
		free(writer->scratch);
		writer->scratch_bytes = 0;
		writer->scratch = aligned_alloc(64, (bytes + 63) / 64 * 64);
		if (writer->scratch == NULL)
			return esk_fail_memory(err, bytes, "a record of a ring");
		writer->scratch_bytes = bytes;
	}
	if (record->size_bytes > 0)
		esk_ring_copy(writer->scratch, record->payload, record->size_bytes);
	return ESK_OK;
}

/* The ring tells of losses behind the place that it kept, which lies behind the bite's end where that was
 * evicted: what counts is how many were published since the last record that was accounted for. Sequences do
 * not tell: the dead leave gaps. */
static void settle_loss(esk_daq_writer *writer, const esk_ring_record *record)
{
	uint64_t since = writer->published > 0 && record->published_before > writer->published
				 ? record->published_before - writer->published
				 : 0;
	if (since <= writer->held.records)
		return;
	writer->held.records = since;
	writer->held.first = record->sequence - since;
	writer->held.last = record->sequence - 1;
}

static void past(esk_daq_writer *writer, const esk_ring_record *record)
{
	esk_daq_bite *bite = &writer->bite;
	settle_loss(writer, record);
	esk_daq_loss_add(&bite->lost, &writer->held);
	writer->held = (esk_daq_loss){0};
	writer->published = record->published_before + 1;
	bite->records++;
	bite->end = record->next_position;
	bite->last_sequence = record->sequence;
	bite->last_position = record->position;
}

/* A record of no lane: it cannot be taken. */
static void note_stray(esk_daq_writer *writer, uint64_t sequence, const esk_error *why)
{
	esk_daq_loss one = {.records = 1, .first = sequence, .last = sequence};
	esk_daq_loss_add(&writer->bite.stray, &one);
	esk_daq_log_bad(writer, NULL, sequence, why);
}

static esk_status take_record(esk_daq_writer *writer, const esk_ring_record *record, esk_error *err)
{
	esk_daq_bite *bite = &writer->bite;
	esk_daq_lane *lane = NULL;
	uint64_t piece;
	uint32_t declaration = record->kind == ESK_DAQ_BYTES ? 0 : record->stream;
	note_loss(writer, record);
	bool known = record->kind == ESK_DAQ_BYTES || (record->kind == ESK_DAQ_BATCH && declaration > 0);
	if (esk_daq_account_done(
		    &writer->account, known ? declaration : ESK_DAQ_EVERY_LANE, record->position, &piece)) {
		bite->skipped++;
		past(writer, record);
		return ESK_OK;
	}
	esk_status status = copy_payload(writer, record, err);
	if (status != ESK_OK)
		return status;
	if (!esk_consumer_still_valid(writer->consumer, record)) /* the loss is told with the next record */
		return ESK_OK;
	status = known ? esk_daq_lane_find(writer, declaration, &lane, err) : ESK_OK;
	if (status != ESK_OK)
		return status;
	past(writer, record);
	status = esk_daq_mark_losses(writer, record, err);
	if (status != ESK_OK)
		return status;
	bite->bytes += record->size_bytes;
	if (lane != NULL)
		return esk_daq_lane_take(writer, lane, record, piece, err);
	esk_error why;
	esk_fail(&why, ESK_ECORRUPT, "kind %u, declaration %u: there is no such", record->kind,
		record->stream);
	note_stray(writer, record->sequence, &why);
	return ESK_OK;
}

/* Behind what is damaged; the consumer has moved on. */
static esk_status step_over(esk_daq_writer *writer, const esk_error *why)
{
	esk_daq_bite *bite = &writer->bite;
	esk_error err;
	esk_consumer_stats place = {.struct_size = sizeof place};
	esk_status status = esk_consumer_get_stats(writer->consumer, &place, &err);
	if (status != ESK_OK || place.position == 0)
		return status;
	bite->records++;
	bite->end = place.position;
	bite->last_position = place.position - 1;
	writer->published = 0;
	note_stray(writer, ++bite->last_sequence, why);
	return ESK_OK;
}

/* Whether there must be more: what was read before, and is read again, ends further on. In between may lie
 * what a dead producer reserved; rings do not ask at once whether it lives. */
static bool must_have_more(const esk_daq_writer *writer, unsigned *naps)
{
	const esk_daq_bite *bite = &writer->bite;
	if (bite->expected == 0 || bite->end >= writer->account.done_before || *naps >= AGAIN_NAPS)
		return false;
	struct timespec nap = {.tv_nsec = AGAIN_NAP_NS};
	nanosleep(&nap, NULL);
	++*naps;
	return true;
}

/* Reads until the ring has no more before `stop`, or the bite is full. */
static esk_status read_records(esk_daq_writer *writer, uint64_t stop, bool *ret_more, esk_error *err)
{
	for (unsigned naps = 0;;) {
		esk_ring_record record;
		bool found;
		esk_error why = {0};
		*ret_more = is_full(writer);
		if (*ret_more || (writer->bite.end >= stop && writer->bite.records > 0))
			return ESK_OK;
		esk_status status = esk_consumer_read(writer->consumer, &record, &found, &why);
		bool damaged = status == ESK_ECORRUPT;
		if (damaged)
			status = step_over(writer, &why);
		else if (status == ESK_OK && found)
			status = take_record(writer, &record, &why);
		if (status != ESK_OK)
			return esk_fail(err, status, "%s", why.message);
		if (!found && !damaged && !must_have_more(writer, &naps))
			return ESK_OK;
	}
}

/* W1: what the run has acknowledged is given back. */
static void release(esk_daq_writer *writer)
{
	esk_consumer_release_marked(writer->consumer, writer->bite.end, writer->published);
	/* Where the bite's end was evicted the place may stay where it was: then this bite is not past. */
	esk_consumer_stats place = {.struct_size = sizeof place};
	if (esk_consumer_get_stats(writer->consumer, &place, NULL) == ESK_OK &&
		place.released_position > writer->bite.flush_position)
		esk_daq_account_released(&writer->account);
	pthread_mutex_lock(&writer->lock);
	writer->stats.bytes += writer->bite.bytes;
	pthread_mutex_unlock(&writer->lock);
}

/* How far the ring was looked at, for lag and flushes: beyond the last record there may be pads, and
 * reservations of the dead. */
static void note_position(esk_daq_writer *writer)
{
	esk_consumer_stats place = {.struct_size = sizeof place};
	if (esk_consumer_get_stats(writer->consumer, &place, NULL) == ESK_OK)
		atomic_store(&writer->taken_position, place.position);
}

/* What is read next is the first behind the consumer's place; the mark goes with that. */
void esk_daq_begin_again(esk_daq_writer *writer)
{
	writer->held = (esk_daq_loss){0};
	writer->published = esk_consumer_mark(writer->consumer);
	writer->resuming = true;
}

/* The bite is read again from its beginning; what of it the run has is skipped then. */
static void give_back(esk_daq_writer *writer)
{
	for (uint32_t i = 0; i < writer->lane_count; i++)
		if (writer->lanes[i] != NULL)
			esk_daq_lane_forget(writer->lanes[i]);
	writer->mark_count = 0;
	esk_consumer_rewind(writer->consumer);
	esk_daq_begin_again(writer);
}

esk_status esk_daq_take(esk_daq_writer *writer, uint64_t stop, bool *ret_any, esk_error *err)
{
	bool more = true;
	*ret_any = false;
	while (more) {
		esk_status status = begin(writer, err);
		if (status == ESK_OK)
			status = read_records(writer, stop, &more, err);
		if (status == ESK_OK)
			status = esk_daq_lanes_flush(writer, err);
		if (status == ESK_OK)
			status = esk_daq_account_rest(writer, err);
		if (status != ESK_OK) {
			give_back(writer);
			return status;
		}
		*ret_any |= writer->bite.records > 0;
		writer->resuming = writer->resuming && writer->bite.records == 0;
		if (writer->bite.end > writer->bite.flush_position)
			release(writer);
		note_position(writer);
	}
	return ESK_OK;
}
