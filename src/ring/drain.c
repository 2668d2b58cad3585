/* Draining: the one reader of a run's ring, which gives back what is committed.
 *
 * Block and reject: released = tail, only the drain moves it. Overwrite: producers move the tail as well,
 * past `released` and past the cursor; what they passed unread is lost (read.c counts it).
 *
 * Uses: base, os (futex, processes). */
#include "ring/inside.h"

#include <limits.h>
#include <string.h>

#define RING_STALLED_NAP_NS 1000000u /* while the record at the cursor keeps a filled ring waiting */

/* ---- beginning and ending ---- */

esk_status esk_ring_drain_begin(esk_ring *ring, esk_error *err)
{
	if (ring->consumers > 0)
		return esk_fail(err, ESK_EUNSUPPORTED,
			"ring %s has named consumers, and its tail follows them; open one instead of "
			"draining it",
			ring->path);
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
	ring_trailer *trailer = ring->trailer;
	ring_reader *reader = &ring->drain.reader;
	ring_pair_value tail = ring_pair_load(&trailer->tail);
	const ring_account *released = &trailer->released[atomic_load(&trailer->released_index) & 1];
	uint64_t from = atomic_load(&released->position);
	bool counted = ring->policy == ESK_OVERWRITE && tail.position >= from;
	reader->evictable = ring->policy == ESK_OVERWRITE;
	reader->shown = trailer;
	reader->losses = ring->header;
	esk_ring_reader_start(ring, reader,
		&(ring_start){
			.position = counted ? from : tail.position,
			.published = counted ? atomic_load(&released->published) : RING_UNKNOWN,
			.skipped = RING_UNKNOWN,
			.lost_records = atomic_load(&released->lost_records),
			.lost_bytes = atomic_load(&released->lost_bytes),
		});
}

/* ---- reading ---- */

static esk_status fail_idle(const esk_ring *ring, esk_error *err)
{
	return esk_fail(err, ESK_EINVAL, "ring %s is read without esk_ring_drain_begin", ring->path);
}

esk_status esk_ring_read(esk_ring *ring, esk_ring_record *ret_record, bool *ret_found, esk_error *err)
{
	*ret_found = false;
	if (!ring->drain.active)
		return fail_idle(ring, err);
	return esk_ring_reader_next(ring, &ring->drain.reader, ret_record, ret_found, err);
}

bool esk_ring_still_valid(esk_ring *ring, const esk_ring_record *record)
{
	ring_reader *reader = &ring->drain.reader;
	if (ring->policy != ESK_OVERWRITE || esk_ring_reader_holds(ring, reader, record->position))
		return true;
	if (reader->refuted != record->position + 1) {
		reader->refuted = record->position + 1;
		uint64_t bytes = record->next_position - record->position;
		reader->lost_records++;
		reader->lost_bytes += bytes;
		esk_ring_reader_note_loss(reader, (ring_gap){.from = record->position,
							  .published = record->sequence - 1 - reader->skipped,
							  .position = record->position,
							  .records = 1,
							  .bytes = bytes});
		esk_ring_reader_show_losses(reader);
	}
	return false;
}

/* What was evicted up to `sequence` is committed, not lost. */
static void forgive(esk_ring *ring, uint64_t sequence, uint64_t found)
{
	ring_reader *reader = &ring->drain.reader;
	uint64_t most = found > sequence ? found - 1 - sequence : 0;
	if (reader->pending_records > most) {
		reader->lost_records -= reader->pending_records - most;
		reader->pending_records = most;
	}
	if (most == 0) {
		reader->lost_bytes -= reader->pending_bytes;
		reader->pending_bytes = 0;
	}
	esk_ring_reader_show_losses(reader);
}

esk_status esk_ring_skip_to(esk_ring *ring, uint64_t sequence, esk_error *err)
{
	if (!ring->drain.active)
		return fail_idle(ring, err);
	esk_error damage = {.code = ESK_OK};
	ring_view view;
	ring_verdict verdict;
	for (;;) {
		if (esk_ring_reader_find(ring, &ring->drain.reader, &view, &verdict, &damage) != ESK_OK)
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
		esk_ring_reader_pass(&ring->drain.reader, &view);
		if (found == sequence)
			return ESK_OK;
	}
}

/* ---- releasing ---- */

/* Remembers the account at `position` for who drains after this one; two copies, so that it is whole if this
 * process dies here. */
static void remember_release(esk_ring *ring, uint64_t position, uint64_t published)
{
	ring_reader *reader = &ring->drain.reader;
	ring_gap later = esk_ring_reader_losses_from(reader, position);
	uint32_t other = 1 - (atomic_load(&ring->trailer->released_index) & 1);
	ring_account *account = &ring->trailer->released[other];
	atomic_store(&account->position, position);
	atomic_store(&account->published, published);
	atomic_store(&account->lost_records, reader->lost_records - reader->pending_records - later.records);
	atomic_store(&account->lost_bytes, reader->lost_bytes - reader->pending_bytes - later.bytes);
	atomic_store(&ring->trailer->released_index, other);
}

/* `position` was evicted: the next place behind it whose account is known. Between the two, the drain read
 * all. */
static ring_gap next_known_place(const ring_reader *reader, uint64_t position)
{
	for (uint32_t i = 0; i < reader->gap_count; i++)
		if (reader->gaps[i].from >= position)
			return reader->gaps[i];
	return (ring_gap){.from = reader->cursor, .published = esk_ring_reader_published(reader)};
}

static void release_overwritten(esk_ring *ring, uint64_t position)
{
	for (;;) {
		ring_pair_value tail = ring_pair_load(&ring->trailer->tail);
		uint64_t skipped;
		uint64_t sequence;
		if (!esk_ring_reader_account_at(
			    ring, &ring->drain.reader, tail, position, &skipped, &sequence)) {
			if (ring_pair_load(&ring->trailer->tail).position <= position)
				return; /* damage between tail and cursor: its bytes come back by eviction */
			ring_gap place = next_known_place(&ring->drain.reader, position);
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
	position = esk_min_u64(position, ring->drain.reader.cursor);
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
	uint64_t read = esk_max_u64(tail, ring->drain.reader.cursor);
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
		bool ready = filled && esk_ring_inspect(ring, drain->reader.cursor, &view) != RING_AT_PENDING;
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
		esk_os_futex_wake(&wake->word, INT_MAX);
	if (ring->extension == NULL)
		return;
	atomic_fetch_add(&ring->extension->asked, 1);
	esk_ring_tell_news(ring);
}
