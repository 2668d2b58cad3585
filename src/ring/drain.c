/* Draining: reading records in place in their order, giving their bytes back, and counting what was lost.
 *
 *        released      tail          cursor         head
 *           v            v              v             v
 *   ........|~~evicted~~~|==read=======|==unread=====|
 *
 * Block and reject: released = tail, only the drain moves it. Overwrite: producers move the tail as well,
 * past `released` and past the cursor; what they passed unread is lost.
 *
 * Counting is by difference, so that nothing is counted twice or forgotten whoever dies when: the number of
 * published records before a position is its sequence - 1 less the skipped ones before it, which the tail
 * carries with it in one 128-bit word. What lies between two known places and was not read is lost.
 *
 * Uses: base, os (futex, processes). */
#include "ring/inside.h"

#include <string.h>

#define RING_STALLED_NAP_NS 1000000u /* while the record at the cursor keeps a filled ring waiting */

/* ---- accounts ---- */

static uint64_t published_before_cursor(const ring_drain *drain)
{
	return drain->known ? drain->expected - 1 - drain->skipped : drain->published;
}

static void show_cursor(esk_ring *ring)
{
	ring_drain *drain = &ring->drain;
	ring_account *shown = &ring->trailer->cursor;
	/* Relaxed, for get_stats and wake_at_quarter: numbers a moment old do no harm there. */
	atomic_store_explicit(&shown->published, published_before_cursor(drain), memory_order_relaxed);
	atomic_store_explicit(&shown->position, drain->cursor, memory_order_relaxed);
}

static void show_losses(esk_ring *ring)
{
	ring_drain *drain = &ring->drain;
	atomic_store_explicit(&ring->trailer->cursor.lost_records, drain->lost_records, memory_order_relaxed);
	atomic_store_explicit(&ring->trailer->cursor.lost_bytes, drain->lost_bytes, memory_order_relaxed);
	atomic_store_explicit(&ring->header->lost_records, drain->lost_records, memory_order_relaxed);
	atomic_store_explicit(&ring->header->lost_bytes, drain->lost_bytes, memory_order_relaxed);
}

static void note_loss(ring_drain *drain, ring_gap gap)
{
	if (drain->gap_count == RING_GAPS) {
		/* The last two become one that reaches over both: a release between them then counts less. */
		const ring_gap *last = &drain->gaps[--drain->gap_count];
		gap.from = last->from;
		gap.published = last->published;
		gap.records += last->records;
		gap.bytes += last->bytes;
	}
	drain->gaps[drain->gap_count++] = gap;
}

/* Losses at or behind `position`; those before it are forgotten. */
static ring_gap losses_from(ring_drain *drain, uint64_t position)
{
	ring_gap sum = {.position = position};
	uint32_t kept = 0;
	for (uint32_t i = 0; i < drain->gap_count; i++) {
		ring_gap gap = drain->gaps[i];
		if (gap.position < position)
			continue;
		sum.records += gap.records;
		sum.bytes += gap.bytes;
		drain->gaps[kept++] = gap;
	}
	drain->gap_count = kept;
	return sum;
}

/* ---- beginning and ending ---- */

esk_status esk_ring_drain_begin(esk_ring *ring, esk_error *err)
{
	ring_pair *place = &ring->trailer->drain;
	for (;;) {
		ring_pair_value now = ring_pair_load(place);
		if (esk_ring_process_lives(ring, now))
			return esk_fail(err, ESK_EBUSY, "ring %s is drained by process %llu already",
				ring->path, (unsigned long long)(now.position >> 32));
		ring_pair_value mine = esk_ring_own_place(ring, now);
		if (!ring_pair_swap(place, now, mine))
			continue;
		memset(&ring->drain, 0, sizeof ring->drain);
		ring->drain.active = true;
		ring->drain.fork = (uint32_t)esk_os_fork_count();
		ring->drain.place = mine;
		ring->drain.wake_seen = atomic_load(&ring->trailer->wake.word);
		esk_ring_rewind(ring);
		return ESK_OK;
	}
}

void esk_ring_drain_end(esk_ring *ring)
{
	ring_drain *drain = &ring->drain;
	if (drain->active && drain->fork == (uint32_t)esk_os_fork_count())
		ring_pair_swap(&ring->trailer->drain, drain->place,
			(ring_pair_value){.position = drain->place.position & UINT32_MAX});
	drain->active = false;
}

void esk_ring_rewind(esk_ring *ring)
{
	ring_drain *drain = &ring->drain;
	ring_trailer *trailer = ring->trailer;
	ring_pair_value tail = ring_pair_load(&trailer->tail);
	ring_account *released = &trailer->released[atomic_load(&trailer->released_index) & 1];
	uint64_t from = atomic_load(&released->position);
	bool evicted = ring->policy == ESK_OVERWRITE && tail.position > from;
	drain->cursor = tail.position;
	drain->head = tail.position;
	drain->skipped = tail.count;
	drain->known = false;
	drain->published = ring->policy == ESK_OVERWRITE && tail.position >= from
				   ? atomic_load(&released->published)
				   : RING_UNKNOWN;
	drain->expected = 1;
	drain->lost_records = atomic_load(&released->lost_records);
	drain->lost_bytes = atomic_load(&released->lost_bytes);
	drain->pending_records = 0;
	drain->pending_bytes = evicted ? tail.position - from : 0;
	drain->lost_bytes += drain->pending_bytes;
	drain->gap_count = 0;
	drain->jump = (ring_gap){.from = from, .published = drain->published};
	drain->refuted = 0;
	show_losses(ring);
	show_cursor(ring);
}

/* ---- reading ---- */

static bool overtaken(const esk_ring *ring)
{
	return ring->policy == ESK_OVERWRITE &&
	       atomic_load_explicit(&ring->trailer->tail.position, memory_order_acquire) > ring->drain.cursor;
}

/* Jumps to the tail; how many records that cost is known at the next header (meet). */
static void catch_up(esk_ring *ring)
{
	ring_drain *drain = &ring->drain;
	ring_pair_value tail = ring_pair_load(&ring->trailer->tail);
	if (tail.position <= drain->cursor)
		return;
	drain->published = published_before_cursor(drain);
	if (drain->pending_bytes == 0)
		drain->jump = (ring_gap){.from = drain->cursor, .published = drain->published};
	drain->known = false;
	drain->skipped = tail.count;
	drain->pending_bytes += tail.position - drain->cursor;
	drain->lost_bytes += tail.position - drain->cursor;
	drain->cursor = tail.position;
}

/* The cursor stands at a header with `sequence`. */
static void meet(esk_ring *ring, uint64_t sequence)
{
	ring_drain *drain = &ring->drain;
	if (drain->known)
		return;
	uint64_t published = sequence - 1 - drain->skipped;
	if (drain->published != RING_UNKNOWN && published > drain->published) {
		drain->pending_records += published - drain->published;
		drain->lost_records += published - drain->published;
	}
	drain->known = true;
	drain->expected = sequence;
	show_losses(ring);
}

static void pass(esk_ring *ring, const ring_view *view)
{
	ring->drain.cursor = view->next;
	if ((view->kind_flags & RING_RECORD_PAD) == 0)
		ring->drain.expected = view->sequence + 1;
	show_cursor(ring);
}

/* Moves on to the next readable record: `sequence` is the least it can have. */
static void move_on(esk_ring *ring, uint64_t position, uint64_t sequence)
{
	ring_drain *drain = &ring->drain;
	drain->cursor = position;
	drain->expected = sequence;
	drain->known = false;
	drain->published = RING_UNKNOWN; /* what was passed is corrupt, not lost */
	show_cursor(ring);
}

static esk_status fail_broken(esk_ring *ring, esk_error *err)
{
	uint64_t position = ring->drain.cursor;
	uint64_t sequence = ring->drain.expected;
	move_on(ring, esk_ring_resync(ring, position, sequence), sequence);
	return esk_fail(err, ESK_ECORRUPT,
		"ring %s: at position %llu, where the record with sequence %llu or a later one must be, "
		"there is no "
		"valid header; reading goes on at position %llu",
		ring->path, (unsigned long long)position, (unsigned long long)sequence,
		(unsigned long long)ring->drain.cursor);
}

static esk_status fail_sequence(esk_ring *ring, const ring_view *view, esk_error *err)
{
	uint64_t sequence = ring->drain.expected;
	bool ahead = view->sequence > sequence &&
		     view->sequence < (atomic_load(&ring->header->reserve.count) & ~RING_SEALED);
	move_on(ring, ahead ? view->position : esk_ring_resync(ring, view->position, sequence), sequence);
	return esk_fail(err, ESK_ECORRUPT,
		"ring %s: the record at position %llu has sequence %llu; expected %llu; reading goes on at "
		"position %llu",
		ring->path, (unsigned long long)view->position, (unsigned long long)view->sequence,
		(unsigned long long)sequence, (unsigned long long)ring->drain.cursor);
}

static esk_status fail_payload(esk_ring *ring, const ring_view *view, esk_error *err)
{
	pass(ring, view);
	return esk_fail(err, ESK_ECORRUPT,
		"ring %s: the payload (%u bytes) of the record at position %llu, sequence %llu, does not "
		"have its "
		"checksum %08x; reading goes on behind it",
		ring->path, view->payload_bytes, (unsigned long long)view->position,
		(unsigned long long)view->sequence, view->payload_check);
}

static void give_out(esk_ring *ring, const ring_view *view, esk_ring_record *ret_record)
{
	ring_drain *drain = &ring->drain;
	*ret_record = (esk_ring_record){
		.payload = view->payload,
		.sequence = view->sequence,
		.position = view->position,
		.next_position = view->next,
		.size_bytes = view->payload_bytes,
		.stream = view->stream,
		.kind = (uint16_t)view->kind_flags,
		.lost_before_records = drain->pending_records,
		.lost_before_bytes = drain->pending_bytes,
	};
	if (drain->pending_bytes != 0) {
		drain->jump.position = view->position;
		drain->jump.records = drain->pending_records;
		drain->jump.bytes = drain->pending_bytes;
		note_loss(drain, drain->jump);
	}
	drain->pending_records = 0;
	drain->pending_bytes = 0;
	pass(ring, view);
}

static bool sequence_fits(const esk_ring *ring, const ring_view *view)
{
	const ring_drain *drain = &ring->drain;
	return drain->known
		       ? view->sequence == drain->expected
		       : view->sequence >= drain->expected &&
				 view->sequence < (atomic_load(&ring->header->reserve.count) & ~RING_SEALED);
}

/* Finds the record at or behind the cursor and leaves the cursor at it: *ret_verdict is RING_AT_RECORD, or
 * RING_AT_PENDING when there is none yet. */
static esk_status find(esk_ring *ring, ring_view *ret_view, ring_verdict *ret_verdict, esk_error *err)
{
	ring_drain *drain = &ring->drain;
	*ret_verdict = RING_AT_PENDING;
	for (;;) {
		if (ring->policy == ESK_OVERWRITE)
			catch_up(ring);
		if (drain->cursor >= drain->head) {
			drain->head =
				atomic_load_explicit(&ring->header->reserve.position, memory_order_acquire);
			if (drain->cursor >= drain->head)
				return ESK_OK;
		}
		ring_verdict verdict = esk_ring_inspect(ring, drain->cursor, ret_view);
		if (verdict == RING_AT_PENDING)
			return ESK_OK;
		bool broken = verdict == RING_AT_BROKEN || ret_view->next > drain->head;
		if (broken || !sequence_fits(ring, ret_view)) {
			if (overtaken(ring))
				continue;
			return broken ? fail_broken(ring, err) : fail_sequence(ring, ret_view, err);
		}
		meet(ring, ret_view->sequence);
		if (verdict == RING_AT_RECORD) {
			*ret_verdict = verdict;
			return ESK_OK;
		}
		if (verdict == RING_AT_SKIPPED)
			drain->skipped++;
		pass(ring, ret_view);
	}
}

static esk_status fail_idle(const esk_ring *ring, esk_error *err)
{
	return esk_fail(err, ESK_EINVAL, "ring %s is read without esk_ring_drain_begin", ring->path);
}

esk_status esk_ring_read(esk_ring *ring, esk_ring_record *ret_record, bool *ret_found, esk_error *err)
{
	*ret_found = false;
	if (!ring->drain.active)
		return fail_idle(ring, err);
	ring_view view;
	ring_verdict verdict;
	for (;;) {
		esk_status status = find(ring, &view, &verdict, err);
		if (status != ESK_OK || verdict != RING_AT_RECORD)
			return status;
		if (esk_ring_payload_matches(ring, &view))
			break;
		if (!overtaken(ring))
			return fail_payload(ring, &view, err);
	}
	give_out(ring, &view, ret_record);
	*ret_found = true;
	return ESK_OK;
}

bool esk_ring_still_valid(esk_ring *ring, const esk_ring_record *record)
{
	if (ring->policy != ESK_OVERWRITE)
		return true;
	/* Pairs with the release of the tail's swap and the fence of evict_for: if a byte that was read came
	 * from a later record, the tail is seen behind this one. */
	RING_FENCE(memory_order_acquire);
	if (atomic_load_explicit(&ring->trailer->tail.position, memory_order_acquire) <= record->position)
		return true;
	ring_drain *drain = &ring->drain;
	if (drain->refuted != record->position + 1) {
		drain->refuted = record->position + 1;
		uint64_t bytes = record->next_position - record->position;
		drain->lost_records++;
		drain->lost_bytes += bytes;
		note_loss(drain, (ring_gap){.from = record->position,
					 .published = record->sequence - 1 - drain->skipped,
					 .position = record->position,
					 .records = 1,
					 .bytes = bytes});
		show_losses(ring);
	}
	return false;
}

/* What was evicted up to `sequence` is committed, not lost. */
static void forgive(esk_ring *ring, uint64_t sequence, uint64_t found)
{
	ring_drain *drain = &ring->drain;
	uint64_t most = found > sequence ? found - 1 - sequence : 0;
	if (drain->pending_records > most) {
		drain->lost_records -= drain->pending_records - most;
		drain->pending_records = most;
	}
	if (most == 0) {
		drain->lost_bytes -= drain->pending_bytes;
		drain->pending_bytes = 0;
	}
	show_losses(ring);
}

esk_status esk_ring_skip_to(esk_ring *ring, uint64_t sequence, esk_error *err)
{
	if (!ring->drain.active)
		return fail_idle(ring, err);
	esk_error damage = {.code = ESK_OK};
	ring_view view;
	ring_verdict verdict;
	for (;;) {
		if (find(ring, &view, &verdict, &damage) != ESK_OK)
			continue; /* the cursor has moved on; it only matters if it was not committed */
		uint64_t found = verdict == RING_AT_RECORD
					 ? view.sequence
					 : atomic_load(&ring->header->reserve.count) & ~RING_SEALED;
		if (verdict == RING_AT_RECORD)
			forgive(ring, sequence, found);
		if (damage.code != ESK_OK && found > sequence + 1)
			return esk_fail(err, damage.code, "%s", damage.message);
		if (verdict != RING_AT_RECORD || found > sequence)
			return ESK_OK;
		damage.code = ESK_OK;
		pass(ring, &view);
		if (found == sequence)
			return ESK_OK;
	}
}

/* ---- releasing ---- */

/* Finds how many records before `position` were skipped, and the sequence at it. False if the ring does not
 * show it any more, because it was evicted. */
static bool account_at(esk_ring *ring, ring_pair_value tail, uint64_t position, uint64_t *ret_skipped,
	uint64_t *ret_sequence)
{
	const ring_drain *drain = &ring->drain;
	if (position == drain->cursor) {
		*ret_skipped = drain->skipped;
		*ret_sequence = drain->expected;
		return drain->known;
	}
	if (tail.position > position)
		return false;
	*ret_skipped = tail.count;
	/* Nothing was skipped between tail and cursor as a rule; then there is nothing to count. */
	uint64_t at = drain->skipped == tail.count ? position : tail.position;
	while (at < drain->cursor) {
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
	*ret_sequence = drain->expected;
	return drain->known;
}

/* Remembers the account at `position` for who drains after this one; two copies, so that it is whole if this
 * process dies here. */
static void remember_release(esk_ring *ring, uint64_t position, uint64_t published)
{
	ring_drain *drain = &ring->drain;
	ring_gap later = losses_from(drain, position);
	uint32_t other = 1 - (atomic_load(&ring->trailer->released_index) & 1);
	ring_account *account = &ring->trailer->released[other];
	atomic_store(&account->position, position);
	atomic_store(&account->published, published);
	atomic_store(&account->lost_records, drain->lost_records - drain->pending_records - later.records);
	atomic_store(&account->lost_bytes, drain->lost_bytes - drain->pending_bytes - later.bytes);
	atomic_store(&ring->trailer->released_index, other);
}

/* `position` was evicted: the next place behind it whose account is known. Between the two, the drain read
 * all. */
static ring_gap next_known_place(const ring_drain *drain, uint64_t position)
{
	for (uint32_t i = 0; i < drain->gap_count; i++)
		if (drain->gaps[i].from >= position)
			return drain->gaps[i];
	return (ring_gap){.from = drain->cursor, .published = published_before_cursor(drain)};
}

static void release_overwritten(esk_ring *ring, uint64_t position)
{
	for (;;) {
		ring_pair_value tail = ring_pair_load(&ring->trailer->tail);
		uint64_t skipped;
		uint64_t sequence;
		if (!account_at(ring, tail, position, &skipped, &sequence)) {
			if (ring_pair_load(&ring->trailer->tail).position <= position)
				return; /* damage between tail and cursor: its bytes come back by eviction */
			ring_gap place = next_known_place(&ring->drain, position);
			remember_release(ring, place.from, place.published);
			return;
		}
		/* Before the tail moves: if this process dies between, records are read again, not taken for
		 * lost. */
		remember_release(ring, position, sequence - 1 - skipped);
		if (tail.position >= position)
			return;
		if (ring_pair_swap(&ring->trailer->tail, tail,
			    (ring_pair_value){.position = position, .count = skipped})) {
			esk_ring_tail_moved(ring, position);
			return;
		}
	}
}

void esk_ring_release(esk_ring *ring, uint64_t position)
{
	position = esk_min_u64(position, ring->drain.cursor);
	if (!ring->drain.active)
		return;
	if (ring->policy == ESK_OVERWRITE) {
		release_overwritten(ring, position);
		return;
	}
	ring_pair_value tail = ring_pair_load(&ring->trailer->tail);
	/* Only the drain moves this tail: the swap cannot fail. Its barrier orders the reads before it. */
	if (position > tail.position && ring_pair_swap(&ring->trailer->tail, tail,
						(ring_pair_value){.position = position, .count = tail.count}))
		esk_ring_tail_moved(ring, position);
}

/* ---- waiting ---- */

static bool quarter_is_filled(const esk_ring *ring)
{
	uint64_t tail = atomic_load(&ring->trailer->tail.position);
	uint64_t head = atomic_load(&ring->header->reserve.position);
	uint64_t read = esk_max_u64(tail, ring->drain.cursor);
	return head > read && head - read >= ring->capacity / 4;
}

void esk_ring_drain_wait(esk_ring *ring, uint64_t timeout_ns)
{
	ring_drain *drain = &ring->drain;
	ring_futex *wake = &ring->trailer->wake;
	uint64_t deadline = UINT64_MAX;
	esk_add_u64(esk_monotonic_ns(), timeout_ns, &deadline);
	for (;;) {
		uint32_t word = atomic_load(&wake->word);
		/* Sequentially consistent, as the swap of the head and esk_ring_wake are: whoever fills the
		 * quarter or asks for a flush after this is seen below, or sees that the drain waits. */
		atomic_store(&wake->waiting, 1);
		bool filled = quarter_is_filled(ring);
		ring_view view;
		bool ready = filled && esk_ring_inspect(ring, drain->cursor, &view) != RING_AT_PENDING;
		uint64_t now = esk_monotonic_ns();
		bool asked = word != drain->wake_seen;
		if (asked || ready || now >= deadline) {
			atomic_store(&wake->waiting, 0);
			drain->wake_seen = word;
			return;
		}
		/* A producer holds back the record that everything waits for: look again soon, since its
		 * publishing may have passed unseen, and since it may die. */
		uint64_t nap = esk_min_u64(deadline - now, filled ? RING_STALLED_NAP_NS : UINT64_MAX);
		esk_os_futex_wait(&wake->word, word, nap);
	}
}

void esk_ring_wake(esk_ring *ring)
{
	ring_futex *wake = &ring->trailer->wake;
	atomic_fetch_add(&wake->word, 1);
	if (atomic_load(&wake->waiting) != 0 && atomic_exchange(&wake->waiting, 0) != 0)
		esk_os_futex_wake_all(&wake->word);
}
