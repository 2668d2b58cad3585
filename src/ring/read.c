/* Reading: a reader walks over records in place, in their order, and counts what was lost before it came.
 *
 *        released      tail          cursor         head
 *           v            v              v             v
 *   ........|~~evicted~~~|==read=======|==unread=====|
 *
 * The drain of a run's ring is a reader, and so is each consumer.
 *
 * Counting is by difference, so that nothing is counted twice or forgotten whoever dies when: the number of
 * published records before a position is its sequence - 1 less the skipped ones before it, which the tail
 * carries with it in one 128-bit word. What lies between two known places and was not read is lost.
 *
 * Uses: base. */
#include "ring/inside.h"

#include <string.h>

/* ---- accounts ---- */

uint64_t esk_ring_reader_published(const ring_reader *reader)
{
	return reader->known ? reader->expected - 1 - reader->skipped : reader->published;
}

static void show_cursor(ring_reader *reader)
{
	if (reader->shown == NULL)
		return;
	ring_account *shown = &reader->shown->cursor;
	/* Relaxed, for get_stats and wake_at_quarter: numbers a moment old do no harm there. */
	atomic_store_explicit(&shown->published, esk_ring_reader_published(reader), memory_order_relaxed);
	atomic_store_explicit(&shown->position, reader->cursor, memory_order_relaxed);
}

void esk_ring_reader_show_losses(ring_reader *reader)
{
	if (reader->shown == NULL)
		return;
	ring_account *shown = &reader->shown->cursor;
	atomic_store_explicit(&shown->lost_records, reader->lost_records, memory_order_relaxed);
	atomic_store_explicit(&shown->lost_bytes, reader->lost_bytes, memory_order_relaxed);
	atomic_store_explicit(&reader->losses->lost_records, reader->lost_records, memory_order_relaxed);
	atomic_store_explicit(&reader->losses->lost_bytes, reader->lost_bytes, memory_order_relaxed);
}

void esk_ring_reader_note_loss(ring_reader *reader, ring_gap gap)
{
	if (reader->gap_count == RING_GAPS) {
		/* The last two become one that reaches over both: a release between them then counts less. */
		const ring_gap *last = &reader->gaps[--reader->gap_count];
		gap.from = last->from;
		gap.published = last->published;
		gap.records += last->records;
		gap.bytes += last->bytes;
	}
	reader->gaps[reader->gap_count++] = gap;
}

ring_gap esk_ring_reader_losses_from(ring_reader *reader, uint64_t position)
{
	ring_gap sum = {.position = position};
	uint32_t kept = 0;
	for (uint32_t i = 0; i < reader->gap_count; i++) {
		ring_gap gap = reader->gaps[i];
		if (gap.position < position)
			continue;
		sum.records += gap.records;
		sum.bytes += gap.bytes;
		reader->gaps[kept++] = gap;
	}
	reader->gap_count = kept;
	return sum;
}

bool esk_ring_reader_account_at(const esk_ring *ring, const ring_reader *reader, ring_pair_value base,
	uint64_t position, uint64_t *ret_skipped, uint64_t *ret_sequence)
{
	if (position == reader->cursor) {
		*ret_skipped = reader->skipped;
		*ret_sequence = reader->expected;
		return reader->known;
	}
	if (base.position > position)
		return false;
	*ret_skipped = ring_skipped(base);
	/* Nothing was skipped between base and cursor as a rule; then there is nothing to count. */
	uint64_t at = reader->skipped == ring_skipped(base) ? position : base.position;
	while (at < reader->cursor) {
		ring_view view;
		ring_verdict verdict = esk_ring_inspect(ring, at, &view);
		if (verdict == RING_AT_BROKEN || verdict == RING_AT_PENDING)
			return false;
		if (at >= position && verdict != RING_AT_PAD) {
			*ret_sequence = view.sequence;
			return true;
		}
		if (at < position && verdict == RING_AT_SKIPPED)
			++*ret_skipped;
		at = view.next;
	}
	*ret_sequence = reader->expected;
	return reader->known;
}

void esk_ring_reader_start(esk_ring *ring, ring_reader *reader, const ring_start *start)
{
	ring_pair_value tail = ring_pair_load(&ring->trailer->tail);
	bool evicted = tail.position > start->position;
	reader->cursor = evicted ? tail.position : start->position;
	reader->head = reader->cursor;
	reader->skipped = evicted || start->skipped == RING_UNKNOWN ? ring_skipped(tail) : start->skipped;
	reader->known = false;
	reader->published = start->published;
	reader->expected = 1;
	reader->lost_records = start->lost_records;
	reader->lost_bytes = start->lost_bytes;
	reader->pending_records = 0;
	reader->pending_bytes =
		evicted && start->published != RING_UNKNOWN ? tail.position - start->position : 0;
	reader->lost_bytes += reader->pending_bytes;
	reader->gap_count = 0;
	reader->jump = (ring_gap){.from = start->position, .published = reader->published};
	reader->refuted = 0;
	esk_ring_reader_show_losses(reader);
	show_cursor(reader);
}

/* ---- walking ---- */

bool esk_ring_reader_holds(const esk_ring *ring, const ring_reader *reader, uint64_t position)
{
	if (!reader->evictable)
		return true;
	/* Pairs with the release of the tail's swap and the producers' fence behind it: if a byte that was
	 * read came from a later record, the tail is seen behind this one. */
	RING_FENCE(memory_order_acquire);
	return atomic_load_explicit(&ring->trailer->tail.position, memory_order_acquire) <= position;
}

/* Jumps to the tail; how many records that cost is known at the next header (meet). */
static void catch_up(const esk_ring *ring, ring_reader *reader)
{
	/* A load of one word, and only where it moved the costlier one of both. */
	if (atomic_load_explicit(&ring->trailer->tail.position, memory_order_acquire) <= reader->cursor)
		return;
	ring_pair_value tail = ring_pair_load(&ring->trailer->tail);
	reader->published = esk_ring_reader_published(reader);
	if (reader->pending_bytes == 0)
		reader->jump = (ring_gap){.from = reader->cursor, .published = reader->published};
	reader->known = false;
	reader->skipped = ring_skipped(tail);
	reader->pending_bytes += tail.position - reader->cursor;
	reader->lost_bytes += tail.position - reader->cursor;
	reader->cursor = tail.position;
}

/* The cursor stands at a header with `sequence`. */
static void meet(ring_reader *reader, uint64_t sequence)
{
	if (reader->known)
		return;
	uint64_t published = sequence - 1 - reader->skipped;
	if (reader->published != RING_UNKNOWN && published > reader->published) {
		reader->pending_records += published - reader->published;
		reader->lost_records += published - reader->published;
	}
	reader->known = true;
	reader->expected = sequence;
	esk_ring_reader_show_losses(reader);
}

void esk_ring_reader_pass(ring_reader *reader, const ring_view *view)
{
	reader->cursor = view->next;
	if ((view->kind_flags & RING_RECORD_PAD) == 0)
		reader->expected = view->sequence + 1;
	show_cursor(reader);
}

/* Moves on to the next readable record: `sequence` is the least it can have. */
static void move_on(ring_reader *reader, uint64_t position, uint64_t sequence)
{
	reader->cursor = position;
	reader->expected = sequence;
	reader->known = false;
	reader->published = RING_UNKNOWN; /* what was passed is corrupt, not lost */
	show_cursor(reader);
}

static esk_status fail_broken(esk_ring *ring, ring_reader *reader, esk_error *err)
{
	uint64_t position = reader->cursor;
	uint64_t sequence = reader->expected;
	move_on(reader, esk_ring_resync(ring, position, sequence), sequence);
	return esk_fail(err, ESK_ECORRUPT,
		"ring %s: at position %llu, where the record with sequence %llu or a later one must be, "
		"there is no valid header; reading goes on at position %llu",
		ring->path, (unsigned long long)position, (unsigned long long)sequence,
		(unsigned long long)reader->cursor);
}

static esk_status fail_sequence(esk_ring *ring, ring_reader *reader, const ring_view *view, esk_error *err)
{
	uint64_t sequence = reader->expected;
	bool ahead = view->sequence > sequence &&
		     view->sequence < (atomic_load(&ring->header->reserve.count) & ~RING_SEALED);
	move_on(reader, ahead ? view->position : esk_ring_resync(ring, view->position, sequence), sequence);
	return esk_fail(err, ESK_ECORRUPT,
		"ring %s: the record at position %llu has sequence %llu; expected %llu; reading goes on at "
		"position %llu",
		ring->path, (unsigned long long)view->position, (unsigned long long)view->sequence,
		(unsigned long long)sequence, (unsigned long long)reader->cursor);
}

static esk_status fail_payload(esk_ring *ring, ring_reader *reader, const ring_view *view, esk_error *err)
{
	esk_ring_reader_pass(reader, view);
	return esk_fail(err, ESK_ECORRUPT,
		"ring %s: the payload (%u bytes) of the record at position %llu, sequence %llu, does not "
		"have its checksum %08x; reading goes on behind it",
		ring->path, view->payload_bytes, (unsigned long long)view->position,
		(unsigned long long)view->sequence, view->payload_check);
}

static void give_out(ring_reader *reader, const ring_view *view, esk_ring_record *ret_record)
{
	*ret_record = (esk_ring_record){
		.payload = view->payload,
		.sequence = view->sequence,
		.position = view->position,
		.next_position = view->next,
		.size_bytes = view->payload_bytes,
		.stream = view->stream,
		.kind = (uint16_t)view->kind_flags,
		.lost_before_records = reader->pending_records,
		.lost_before_bytes = reader->pending_bytes,
		.published_before = esk_ring_reader_published(reader),
	};
	if (reader->pending_bytes != 0) {
		reader->jump.position = view->position;
		reader->jump.records = reader->pending_records;
		reader->jump.bytes = reader->pending_bytes;
		esk_ring_reader_note_loss(reader, reader->jump);
	}
	reader->pending_records = 0;
	reader->pending_bytes = 0;
	esk_ring_reader_pass(reader, view);
}

static bool sequence_fits(const esk_ring *ring, const ring_reader *reader, const ring_view *view)
{
	return reader->known
		       ? view->sequence == reader->expected
		       : view->sequence >= reader->expected &&
				 view->sequence < (atomic_load(&ring->header->reserve.count) & ~RING_SEALED);
}

esk_status esk_ring_reader_find(
	esk_ring *ring, ring_reader *reader, ring_view *ret_view, ring_verdict *ret_verdict, esk_error *err)
{
	*ret_verdict = RING_AT_PENDING;
	for (;;) {
		if (reader->evictable)
			catch_up(ring, reader);
		if (reader->cursor >= reader->head) {
			reader->head =
				atomic_load_explicit(&ring->header->reserve.position, memory_order_acquire);
			if (reader->cursor >= reader->head)
				return ESK_OK;
		}
		ring_verdict verdict = esk_ring_inspect(ring, reader->cursor, ret_view);
		if (verdict == RING_AT_PENDING)
			return ESK_OK;
		bool broken = verdict == RING_AT_BROKEN || ret_view->next > reader->head;
		if (broken || !sequence_fits(ring, reader, ret_view)) {
			if (!esk_ring_reader_holds(ring, reader, reader->cursor))
				continue;
			return broken ? fail_broken(ring, reader, err)
				      : fail_sequence(ring, reader, ret_view, err);
		}
		meet(reader, ret_view->sequence);
		if (verdict == RING_AT_RECORD) {
			*ret_verdict = verdict;
			return ESK_OK;
		}
		if (verdict == RING_AT_SKIPPED)
			reader->skipped++;
		esk_ring_reader_pass(reader, ret_view);
	}
}

esk_status esk_ring_reader_next(
	esk_ring *ring, ring_reader *reader, esk_ring_record *ret_record, bool *ret_found, esk_error *err)
{
	ring_view view;
	ring_verdict verdict;
	*ret_found = false;
	for (;;) {
		esk_status status = esk_ring_reader_find(ring, reader, &view, &verdict, err);
		if (status != ESK_OK || verdict != RING_AT_RECORD)
			return status;
		if (esk_ring_payload_matches(ring, &view))
			break;
		if (esk_ring_reader_holds(ring, reader, reader->cursor))
			return fail_payload(ring, reader, &view, err);
	}
	give_out(reader, &view, ret_record);
	*ret_found = true;
	return ESK_OK;
}
