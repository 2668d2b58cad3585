/* Producing: taking a place among the producers, reserving, publishing, and making room by policy.
 * No system call while the ring has room and nobody waits. Uses: base, os (processes, futex). */
#include "ring/inside.h"

#include <limits.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#define RING_EVICT_WAIT_NS 100000000u /* how long overwriting waits for the oldest record to be published */
#define RING_BLOCK_NAP_NS 50000000u   /* a blocked producer looks at least this often */
#define RING_SHORT_NAP_NS 5000000u /* where consumers wake it only when there is room for more than a few */
#define RING_TOKEN_TIMES 0x7FFFFFu /* bits of a token above its place in the table */
#define RING_SPINS 64u

/* ---- places among the producers ---- */

static uint32_t take_place(esk_ring *ring, bool from_dead)
{
	for (uint32_t i = 0; i < RING_PRODUCERS; i++) {
		ring_pair *place = &ring->trailer->producers[i];
		ring_pair_value now = ring_pair_load(place);
		bool is_free = now.position >> 32 == 0;
		if (from_dead ? is_free || esk_ring_process_lives(ring, now) : !is_free)
			continue;
		ring_pair_value mine = esk_ring_own_place(ring, now);
		if (ring_pair_swap(place, now, mine))
			return (uint32_t)(mine.position & RING_TOKEN_TIMES) * RING_PRODUCERS + i;
	}
	return 0;
}

static void leave_place(esk_ring *ring, uint32_t token)
{
	ring_pair *place = &ring->trailer->producers[token % RING_PRODUCERS];
	ring_pair_value now = ring_pair_load(place);
	ring_pair_swap(place, now, (ring_pair_value){.position = now.position & UINT32_MAX});
}

static esk_status join(esk_ring *ring, uint64_t have, uint32_t fork, uint32_t *ret_token, esk_error *err)
{
	if (!ring->writable)
		return esk_fail(err, ESK_EACCES, "ring %s was attached for reading only", ring->path);
	uint32_t token = take_place(ring, false);
	if (token == 0)
		token = take_place(ring, true);
	if (token == 0)
		return esk_fail(err, ESK_EBUSY,
			"ring %s: all %u places of producing processes are taken by living ones; close some",
			ring->path, RING_PRODUCERS);
	if (!atomic_compare_exchange_strong(&ring->producer, &have, (uint64_t)fork << 32 | token)) {
		leave_place(ring, token); /* another thread of this process was faster */
		token = (uint32_t)have;
	}
	*ret_token = token;
	return ESK_OK;
}

/* This process's token. After fork the child is another producer: it takes a place of its own. */
static esk_status own_token(esk_ring *ring, uint32_t *ret_token, esk_error *err)
{
	uint64_t have =
		atomic_load_explicit(&ring->producer, memory_order_acquire); /* pairs with join's swap */
	uint32_t fork = (uint32_t)esk_os_fork_count();
	if ((uint32_t)have == 0 || (uint32_t)(have >> 32) != fork)
		return join(ring, have, fork, ret_token, err);
	*ret_token = (uint32_t)have;
	return ESK_OK;
}

void esk_ring_producer_leave(esk_ring *ring)
{
	uint64_t have = atomic_load(&ring->producer);
	if ((uint32_t)have != 0 && (uint32_t)(have >> 32) == (uint32_t)esk_os_fork_count())
		leave_place(ring, (uint32_t)have);
}

/* ---- intent cells ---- */

/* A dead owner's cell that has said all it had to: what it names never was reserved, has its header, or is
 * released. */
static bool intent_is_spent(const esk_ring *ring, const ring_intent *intent)
{
	uint64_t place = atomic_load_explicit(&intent->place, memory_order_acquire);
	uint64_t position = place & ~(uint64_t)1;
	return place == 0 || atomic_load(&ring->header->reserve.position) <= position ||
	       position < atomic_load(&ring->trailer->tail.position) ||
	       esk_ring_header_stands(ring, position);
}

static ring_intent *take_dead_intent(esk_ring *ring, uint32_t token)
{
	if (!esk_ring_may_probe(ring))
		return NULL;
	for (size_t i = 0; i < RING_INTENTS; i++) {
		ring_intent *intent = &ring->trailer->intents[i];
		uint32_t owner = atomic_load(&intent->owner);
		if (owner == 0 || esk_ring_token_lives(ring, owner) || !intent_is_spent(ring, intent))
			continue;
		if (atomic_compare_exchange_strong(&intent->owner, &owner, token)) {
			atomic_store_explicit(&intent->place, 0, memory_order_release);
			return intent;
		}
	}
	return NULL;
}

static ring_intent *take_intent(esk_ring *ring, uint32_t token)
{
	static _Thread_local uint32_t hint = UINT32_MAX;
	if (hint == UINT32_MAX)
		hint = token * 7 + (uint32_t)((uintptr_t)&hint >> 12); /* threads and processes start apart */
	for (uint32_t i = 0; i < RING_INTENTS; i++) {
		uint32_t at = (hint + i) % RING_INTENTS;
		ring_intent *intent = &ring->trailer->intents[at];
		uint32_t owner = 0;
		if (atomic_load_explicit(&intent->owner, memory_order_relaxed) == 0 &&
			atomic_compare_exchange_strong_explicit(
				&intent->owner, &owner, token, memory_order_acquire, memory_order_relaxed)) {
			hint = at;
			return intent;
		}
	}
	return take_dead_intent(ring, token);
}

static void drop_intent(ring_intent *intent)
{
	/* Release: the headers written before are seen by who sees the cell cleared; then, by who takes it.
	 */
	atomic_store_explicit(&intent->place, 0, memory_order_release);
	atomic_store_explicit(&intent->owner, 0, memory_order_release);
}

/* ---- reserving ---- */

static bool room_until(esk_ring *ring, uint64_t end)
{
	/* Acquire: pairs with the release below, and through it with the release of the tail: whoever read or
	 * evicted those bytes is done with them. */
	if (end - atomic_load_explicit(&ring->tail_seen, memory_order_acquire) <= ring->capacity)
		return true;
	uint64_t tail = atomic_load(&ring->trailer->tail.position);
	if (end - tail > ring->capacity && ring->consumers > 0 && esk_ring_follow(ring))
		tail = atomic_load(&ring->trailer->tail.position);
	atomic_store_explicit(&ring->tail_seen, tail, memory_order_release);
	return end - tail <= ring->capacity;
}

static bool room_for(esk_ring *ring, uint32_t payload_bytes)
{
	uint64_t head = atomic_load(&ring->header->reserve.position);
	return room_until(ring, esk_ring_extent(ring, head, payload_bytes).end);
}

static ring_record *write_record(esk_ring *ring, uint64_t position, uint64_t sequence, uint32_t payload_bytes,
	uint32_t stream, uint32_t kind_flags, uint32_t state)
{
	ring_record *record = (ring_record *)(void *)(ring->data + esk_ring_offset(ring, position));
	/* Relaxed: the release of `check` makes them visible together (load_header acquires it). */
	atomic_store_explicit(&record->sequence, sequence, memory_order_relaxed);
	atomic_store_explicit(&record->payload_bytes, payload_bytes, memory_order_relaxed);
	atomic_store_explicit(&record->stream, stream, memory_order_relaxed);
	atomic_store_explicit(&record->kind_flags, kind_flags, memory_order_relaxed);
	atomic_store_explicit(&record->payload_check, 0, memory_order_relaxed);
	atomic_store_explicit(&record->state, state, memory_order_relaxed);
	atomic_store_explicit(&record->check,
		esk_ring_record_check(ring, position, sequence, payload_bytes, stream, kind_flags),
		memory_order_release);
	return record;
}

typedef enum attempt { TAKEN, SEALED, FULL, CROWDED } attempt;

static attempt try_reserve(esk_ring *ring, uint32_t token, uint32_t stream, uint16_t kind,
	uint32_t payload_bytes, esk_ring_slot *ret_slot)
{
	ring_intent *intent = take_intent(ring, token);
	if (intent == NULL)
		return CROWDED;
	ring_pair_value at;
	ring_extent extent;
	for (;;) {
		at = ring_pair_load(&ring->header->reserve);
		extent = esk_ring_extent(ring, at.position, payload_bytes);
		if ((at.count & RING_SEALED) != 0 || !room_until(ring, extent.end)) {
			drop_intent(intent);
			return (at.count & RING_SEALED) != 0 ? SEALED : FULL;
		}
		/* Relaxed: the release of place carries them. The swap is a barrier behind all three, so who
		 * sees the head moved sees the cell. */
		atomic_store_explicit(&intent->sequence, at.count, memory_order_relaxed);
		atomic_store_explicit(&intent->payload_bytes, payload_bytes, memory_order_relaxed);
		atomic_store_explicit(&intent->place, at.position | 1, memory_order_release);
		if (ring_pair_swap(&ring->header->reserve, at,
			    (ring_pair_value){.position = extent.end, .count = at.count + 1}))
			break;
		/* Withdrawn before sequence and length change: a cell never says a mixture. */
		atomic_store_explicit(&intent->place, 0, memory_order_release);
	}
	/* Pairs with the acquire fence of esk_ring_reader_holds: who saw a byte written from here on sees the
	 * tail that made room for it. */
	RING_FENCE(memory_order_release);
	uint32_t kind_flags = kind | (ring->checksums ? RING_RECORD_CHECKSUM : 0);
	ring_record *record = write_record(ring, extent.start, at.count, payload_bytes, stream, kind_flags,
		token * (RING_STATE_MASK + 1) | RING_RESERVED);
	if (extent.start != at.position)
		write_record(ring, at.position, at.count,
			(uint32_t)(extent.start - at.position - RING_RECORD_BYTES), 0, RING_RECORD_PAD,
			RING_PUBLISHED);
	drop_intent(intent);
	if (extent.wraps)
		ring_raise(&ring->header->write_epoch, extent.end / ring->capacity);
	*ret_slot = (esk_ring_slot){
		.payload = record + 1,
		.sequence = at.count,
		.position = extent.start,
		.size_bytes = payload_bytes,
	};
	return TAKEN;
}

/* ---- making room ---- */

/* One waiting producer for each share of the ring that is free: woken all at once for little room, most would
 * sleep again, and those that run would take the cores from the consumer that makes room. */
static uint32_t producers_to_wake(const esk_ring *ring)
{
	if (ring->consumers == 0)
		return INT_MAX;
	uint64_t tail = atomic_load(&ring->trailer->tail.position);
	uint64_t used = atomic_load(&ring->header->reserve.position) - tail;
	return used < ring->capacity ? (uint32_t)((ring->capacity - used) / ring_wake_share(ring)) : 0;
}

static void wake_space(esk_ring *ring, uint32_t count)
{
	/* Sequentially consistent with wait_for_room: either it sees the tail moved, or this sees it waiting.
	 */
	ring_futex *space = &ring->trailer->space;
	if (count == 0 || atomic_load(&space->waiting) == 0 || atomic_exchange(&space->waiting, 0) == 0)
		return;
	atomic_fetch_add(&space->word, 1);
	if (esk_os_futex_wake(&space->word, count) == count)
		atomic_store(&space->waiting, 1); /* more may wait */
}

void esk_ring_wake_space(esk_ring *ring)
{
	wake_space(ring, INT_MAX);
}

void esk_ring_tail_moved(esk_ring *ring, uint64_t tail)
{
	ring_raise(&ring->header->read_tail, tail);
	wake_space(ring, producers_to_wake(ring));
}

static uint64_t deadline_after(uint64_t wait_ns)
{
	uint64_t deadline = UINT64_MAX;
	esk_add_u64(esk_monotonic_ns(), wait_ns, &deadline);
	return deadline;
}

static esk_status fail_timeout(esk_ring *ring, uint32_t payload_bytes, esk_error *err)
{
	uint64_t used =
		atomic_load(&ring->header->reserve.position) - atomic_load(&ring->trailer->tail.position);
	bool drained = atomic_load(&ring->trailer->drain.position) >> 32 != 0;
	return esk_fail(err, ESK_ETIMEDOUT,
		"ring %s had no room for a record of %u bytes for %.3f s: %llu of %llu bytes are not %s and "
		"%s; %s faster, make the ring larger, or let it overwrite",
		ring->path, payload_bytes, (double)ring->block_timeout_ns / 1e9, (unsigned long long)used,
		(unsigned long long)ring->capacity, ring->consumers > 0 ? "released" : "committed",
		ring->consumers > 0 ? "its slowest consumer is behind, or there is none that may not lose"
		: drained           ? "its drain is behind"
				    : "nobody drains it",
		ring->consumers > 0 ? "release" : "commit");
}

static esk_status wait_for_room(esk_ring *ring, uint32_t payload_bytes, uint64_t *deadline, esk_error *err)
{
	if (*deadline == 0) {
		*deadline = deadline_after(ring->block_timeout_ns);
		esk_ring_wake(ring);
	}
	ring_futex *space = &ring->trailer->space;
	uint32_t word = atomic_load(&space->word);
	atomic_store(&space->waiting, 1);
	if (room_for(ring, payload_bytes))
		return ESK_OK;
	uint64_t now = esk_monotonic_ns();
	if (now >= *deadline)
		return fail_timeout(ring, payload_bytes, err);
	uint64_t nap = ring->consumers > 0 ? RING_SHORT_NAP_NS : RING_BLOCK_NAP_NS;
	esk_os_futex_wait(&space->word, word, esk_min_u64(*deadline - now, nap));
	return ESK_OK;
}

/* How much to evict at once. With consumers, a 64th of the ring: one swap serves many records, and a consumer
 * that was overtaken has some time before the tail reaches it again. */
static uint64_t bytes_to_evict(const esk_ring *ring)
{
	return ring->consumers > 0 ? ring->capacity / 64 : 1;
}

/* Moves the tail over the oldest records; false if the oldest is neither published nor dead yet. */
static bool evict_oldest(esk_ring *ring)
{
	const ring_pair_value tail = ring_pair_load(&ring->trailer->tail);
	uint64_t head = atomic_load(&ring->header->reserve.position);
	uint64_t wanted = tail.position + bytes_to_evict(ring);
	ring_pair_value next = tail;
	while (next.position < wanted && next.position < head) {
		ring_view view = {.next = 0};
		ring_verdict verdict = esk_ring_inspect(ring, next.position, &view);
		if (atomic_load(&ring->trailer->tail.position) != tail.position)
			return true; /* another producer evicted it, and its bytes may be in use again */
		if (verdict == RING_AT_PENDING)
			break;
		if (verdict == RING_AT_BROKEN || view.next > head)
			view.next = esk_ring_resync(ring, next.position, 0);
		next = ring_tail_at(tail, view.next, ring_skipped(next) + (verdict == RING_AT_SKIPPED));
	}
	if (next.position == tail.position)
		return false;
	if (ring_pair_swap(&ring->trailer->tail, tail, next))
		esk_ring_tail_moved(ring, next.position);
	return true;
}

static esk_status evict_for(esk_ring *ring, uint32_t payload_bytes, uint64_t *deadline, esk_error *err)
{
	for (unsigned spins = 0; !room_for(ring, payload_bytes); spins++) {
		if (evict_oldest(ring)) {
			spins = 0;
			continue;
		}
		if (*deadline == 0)
			*deadline = deadline_after(RING_EVICT_WAIT_NS);
		if (esk_monotonic_ns() >= *deadline)
			return esk_fail(err, ESK_ETIMEDOUT,
				"ring %s is full and its oldest record was reserved but not published for %u "
				"ms; publish or abandon reservations quickly, or make the ring larger",
				ring->path, RING_EVICT_WAIT_NS / 1000000);
		if (spins < RING_SPINS)
			sched_yield();
		else
			nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	}
	return ESK_OK;
}

/* Every cell is taken: by threads that are at it, or by dead ones whose records are not drained yet. */
static esk_status wait_for_intent(esk_ring *ring, uint64_t *deadline, esk_error *err)
{
	if (*deadline == 0)
		*deadline = deadline_after(esk_max_u64(ring->block_timeout_ns, RING_EVICT_WAIT_NS));
	if (esk_monotonic_ns() >= *deadline)
		return esk_fail(err, ESK_ETIMEDOUT,
			"ring %s: all %u reservations at a time are taken, by threads that stand still or by "
			"processes that died; drain it",
			ring->path, RING_INTENTS);
	sched_yield();
	return ESK_OK;
}

static esk_status make_room(esk_ring *ring, uint32_t payload_bytes, uint64_t *deadline, esk_error *err)
{
	switch (ring->policy) {
	case ESK_BLOCK:
		return wait_for_room(ring, payload_bytes, deadline, err);
	case ESK_OVERWRITE:
		return evict_for(ring, payload_bytes, deadline, err);
	default:
		return esk_fail(err, ESK_EFULL,
			"ring %s has no room for a record of %u bytes and its policy is to reject; keep the "
			"row and try again once more is committed",
			ring->path, payload_bytes);
	}
}

static esk_status fail_large(const esk_ring *ring, uint64_t payload_bytes, esk_error *err)
{
	return esk_fail(err, ESK_ERANGE,
		"a record of %llu bytes is too large for ring %s, which takes up to %llu; make the ring "
		"larger",
		(unsigned long long)payload_bytes, ring->path, (unsigned long long)ring->max_payload);
}

esk_status esk_ring_reserve(esk_ring *ring, uint32_t stream, uint16_t kind, uint32_t payload_bytes,
	esk_ring_slot *ret_slot, esk_error *err)
{
	if (payload_bytes > ring->max_payload)
		return fail_large(ring, payload_bytes, err);
	uint32_t token = 0;
	esk_status status = own_token(ring, &token, err);
	uint64_t deadline = 0;
	while (status == ESK_OK) {
		switch (try_reserve(ring, token, stream, kind, payload_bytes, ret_slot)) {
		case TAKEN:
			return ESK_OK;
		case SEALED:
			return esk_fail(
				err, ESK_ECLOSED, "ring %s is sealed: its run is closing", ring->path);
		case FULL:
			status = make_room(ring, payload_bytes, &deadline, err);
			break;
		case CROWDED:
			status = wait_for_intent(ring, &deadline, err);
			break;
		}
	}
	return status;
}

/* ---- publishing ---- */

void esk_ring_tell_news(esk_ring *ring)
{
	ring_futex *news = &ring->extension->news;
	if (atomic_load(&news->waiting) != 0 && atomic_exchange(&news->waiting, 0) != 0) {
		atomic_fetch_add(&news->word, 1);
		esk_os_futex_wake(&news->word, INT_MAX);
	}
}

static void wake_at_quarter(esk_ring *ring)
{
	uint64_t read =
		esk_max_u64(atomic_load_explicit(&ring->trailer->cursor.position, memory_order_relaxed),
			atomic_load_explicit(&ring->trailer->tail.position, memory_order_relaxed));
	uint64_t head = atomic_load_explicit(&ring->header->reserve.position, memory_order_relaxed);
	if (head - read >= ring->capacity / 4)
		esk_ring_wake(ring);
}

static void settle(esk_ring *ring, const esk_ring_slot *slot, uint32_t state)
{
	ring_record *record = (ring_record *)slot->payload - 1;
	if (ring->checksums && state == RING_PUBLISHED)
		atomic_store_explicit(&record->payload_check, esk_crc32c(0, slot->payload, slot->size_bytes),
			memory_order_relaxed); /* carried by the release of state */
	uint32_t owner = atomic_load_explicit(&record->state, memory_order_relaxed) & ~RING_STATE_MASK;
	/* Release: pairs with load_header's acquire; the payload is complete. */
	atomic_store_explicit(&record->state, owner | state, memory_order_release);
	uint64_t end = esk_ring_extent(ring, slot->position, slot->size_bytes).end;
	if (atomic_load_explicit(&ring->header->write_head, memory_order_relaxed) < end)
		atomic_store_explicit(
			&ring->header->write_head, end, memory_order_relaxed); /* for onlookers */
	/* Relaxed: the swap that reserved this record is the barrier behind which a waiting reader is seen;
	 * one that goes to sleep because of this very record naps briefly (esk_ring_drain_wait,
	 * esk_consumer_wait). */
	if (ring->extension != NULL) {
		if (atomic_load_explicit(&ring->extension->news.waiting, memory_order_relaxed) != 0)
			esk_ring_tell_news(ring);
		return;
	}
	if (atomic_load_explicit(&ring->trailer->wake.waiting, memory_order_relaxed) != 0)
		wake_at_quarter(ring);
}

void esk_ring_publish(esk_ring *ring, const esk_ring_slot *slot)
{
	settle(ring, slot, RING_PUBLISHED);
}

void esk_ring_abandon(esk_ring *ring, const esk_ring_slot *slot)
{
	settle(ring, slot, RING_ABANDONED);
}

esk_status esk_ring_write(esk_ring *ring, uint32_t stream, uint16_t kind, const void *data, size_t size,
	uint64_t *ret_sequence, esk_error *err)
{
	if (size > UINT32_MAX)
		return fail_large(ring, size, err);
	esk_ring_slot slot;
	esk_status status = esk_ring_reserve(ring, stream, kind, (uint32_t)size, &slot, err);
	if (status != ESK_OK)
		return status;
	if (size > 0)
		memcpy(slot.payload, data, size);
	esk_ring_publish(ring, &slot);
	if (ret_sequence != NULL)
		*ret_sequence = slot.sequence;
	return ESK_OK;
}

bool esk_ring_is_sealed(const esk_ring *ring)
{
	return (atomic_load(&ring->header->reserve.count) & RING_SEALED) != 0;
}

void esk_ring_seal(esk_ring *ring)
{
	ring_pair_value at;
	do {
		at = ring_pair_load(&ring->header->reserve);
	} while (!ring_pair_swap(&ring->header->reserve, at,
		(ring_pair_value){.position = at.position, .count = at.count | RING_SEALED}));
	atomic_fetch_add(&ring->trailer->space.word, 1);
	esk_os_futex_wake(&ring->trailer->space.word, INT_MAX);
	if (ring->extension != NULL)
		esk_ring_wake(ring);
}
