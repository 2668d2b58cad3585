/* The table of named consumers: finding, making and giving up places, and the tail that follows them.
 *
 * Invariants 8 to 11 of shared.h are upheld here: claim_tail writes the place before it changes the tail's
 * epoch; esk_ring_follow reads the tail before the places. Uses: base, os (processes). */
#include "ring/places.h"

#include <sched.h>
#include <string.h>

#define RING_LOCK_NS 2000000000u /* how long a living process may stand still with the lock */

#define RING_START_TRIES 1000u

/* ---- the lock ---- */

esk_status esk_ring_lock(esk_ring *ring, const char *what, ring_pair_value *ret_mine, esk_error *err)
{
	ring_pair *lock = &ring->extension->lock;
	uint64_t deadline = esk_monotonic_ns() + RING_LOCK_NS;
	for (unsigned tries = 0;; tries++) {
		ring_pair_value now = ring_pair_load(lock);
		bool is_free = now.position >> 32 == 0;
		/* Asking for a process costs some microseconds: not at every turn. */
		if (is_free || (tries % 64 == 63 && !esk_ring_process_lives(ring, now))) {
			ring_pair_value mine = esk_ring_own_place(ring, now);
			if (ring_pair_swap(lock, now, mine)) {
				*ret_mine = mine;
				return ESK_OK;
			}
		}
		if (esk_monotonic_ns() >= deadline)
			return esk_fail(err, ESK_EBUSY,
				"ring %s: process %llu stands still while it changes consumers or "
				"declarations; %s waited %u s for it",
				ring->path, (unsigned long long)(now.position >> 32), what,
				RING_LOCK_NS / 1000000000u);
		sched_yield();
	}
}

void esk_ring_unlock(esk_ring *ring, ring_pair_value mine)
{
	ring_pair_swap(
		&ring->extension->lock, mine, (ring_pair_value){.position = mine.position & UINT32_MAX});
}

/* ---- the tail ---- */

static bool holds_tail(const ring_place *place)
{
	/* Sequentially consistent with claim_tail. */
	return atomic_load(&place->state) == RING_PLACE_USED;
}

/* The slowest lossless consumer's {position, skipped}; false if there is none. */
static bool slowest(const esk_ring *ring, ring_pair_value *ret_held)
{
	bool found = false;
	for (uint32_t i = 0; i < ring->consumers; i++) {
		const ring_place *place = &ring->places[i];
		if (!holds_tail(place))
			continue;
		ring_pair_value held = ring_pair_load(&place->held);
		if (!found || held.position < ret_held->position)
			*ret_held = held;
		found = true;
	}
	return found;
}

bool esk_ring_follow(esk_ring *ring)
{
	ring_pair_value tail = ring_pair_load(&ring->trailer->tail); /* before the places: invariant 9 */
	ring_pair_value held = {0};
	/* The head bounds what a damaged place may say. */
	if (!slowest(ring, &held) || held.position <= tail.position ||
		held.position > atomic_load(&ring->header->reserve.position))
		return false;
	if (!ring_pair_swap(&ring->trailer->tail, tail, ring_tail_at(tail, held.position, held.count)))
		return true; /* somebody else moved it */
	esk_ring_tail_moved(ring, held.position);
	return true;
}

uint64_t esk_ring_kept_from(const esk_ring *ring)
{
	uint64_t tail = atomic_load(&ring->trailer->tail.position);
	ring_pair_value held = {0};
	return ring->consumers > 0 && slowest(ring, &held) ? esk_max_u64(tail, held.position) : tail;
}

/* Makes the place lossless. First it holds the tail wherever that is; then the tail's epoch changes, so that
 * nobody can move it any more who did not see the place; so what it holds then is there. */
static ring_pair_value claim_tail(esk_ring *ring, ring_place *place)
{
	ring_pair_value held = ring_pair_load(&place->held);
	ring_pair_value tail = ring_pair_load(&ring->trailer->tail);
	if (held.position > tail.position)
		ring_pair_swap(&place->held, held,
			(ring_pair_value){.position = tail.position, .count = ring_skipped(tail)});
	atomic_store(&place->state, RING_PLACE_USED);
	do {
		tail = ring_pair_load(&ring->trailer->tail);
	} while (!ring_pair_swap(&ring->trailer->tail, tail,
		(ring_pair_value){.position = tail.position, .count = tail.count + RING_EPOCH}));
	return tail;
}

/* ---- accounts ---- */

ring_start esk_ring_place_account(const ring_place *place)
{
	const ring_progress *account = &place->accounts[atomic_load(&place->account_index) & 1];
	return (ring_start){
		.position = atomic_load(&account->position),
		.published = atomic_load(&account->published),
		.skipped = atomic_load(&account->skipped),
		.lost_records = atomic_load(&account->lost_records),
		.lost_bytes = atomic_load(&account->lost_bytes),
		.mark = atomic_load(&account->mark),
	};
}

void esk_ring_place_keep(ring_place *place, const ring_start *start)
{
	uint32_t other = 1 - (atomic_load_explicit(&place->account_index, memory_order_relaxed) & 1);
	ring_progress *account = &place->accounts[other];
	/* Relaxed: the release of the index carries them. */
	atomic_store_explicit(&account->position, start->position, memory_order_relaxed);
	atomic_store_explicit(&account->published, start->published, memory_order_relaxed);
	atomic_store_explicit(&account->skipped, start->skipped, memory_order_relaxed);
	atomic_store_explicit(&account->lost_records, start->lost_records, memory_order_relaxed);
	atomic_store_explicit(&account->lost_bytes, start->lost_bytes, memory_order_relaxed);
	atomic_store_explicit(&account->mark, start->mark, memory_order_relaxed);
	atomic_store_explicit(&place->account_index, other, memory_order_release);
}

void esk_ring_place_hold(ring_place *place, uint64_t position, uint64_t skipped)
{
	/* Only the owner moves it. The swap is the barrier behind which a waiting producer is seen. */
	ring_pair_value held = ring_pair_load(&place->held);
	ring_pair_swap(&place->held, held, (ring_pair_value){.position = position, .count = skipped});
}

/* ---- names ---- */

static ring_place *find_place(const esk_ring *ring, const char *name)
{
	for (uint32_t i = 0; i < ring->consumers; i++) {
		ring_place *place = &ring->places[i];
		if (atomic_load(&place->state) != 0 && strncmp(place->name, name, RING_PLACE_NAME_BYTES) == 0)
			return place;
	}
	return NULL;
}

static esk_status check_name(const esk_ring *ring, const char *name, esk_error *err)
{
	if (ring->consumers == 0)
		return esk_fail(err, ESK_EUNSUPPORTED,
			"ring %s was made without consumers; make it with a number of them", ring->path);
	if (!ring->writable)
		return esk_fail(err, ESK_EACCES, "ring %s was attached for reading only", ring->path);
	if (name == NULL)
		return esk_fail(err, ESK_EINVAL, "ring %s: a consumer has no name", ring->path);
	esk_status status = esk_name_check(name, "consumer", err);
	if (status == ESK_OK && strlen(name) > ESK_MAX_CONSUMER_NAME)
		return esk_fail(err, ESK_EINVAL, "the consumer's name \"%s\" is longer than %d bytes", name,
			ESK_MAX_CONSUMER_NAME);
	return status;
}

static esk_status fail_taken(const esk_ring *ring, const char *name, ring_pair_value owner, esk_error *err)
{
	return esk_fail(err, ESK_EBUSY,
		"ring %s: consumer \"%s\" is read by process %llu already; close it there or take another "
		"name",
		ring->path, name, (unsigned long long)(owner.position >> 32));
}

static ring_place *free_place(const esk_ring *ring)
{
	for (uint32_t i = 0; i < ring->consumers; i++)
		if (atomic_load(&ring->places[i].state) == 0)
			return &ring->places[i];
	return NULL;
}

/* The sequence at the tail; 0 if that cannot be told now: its header is being written, or the tail moved. */
static uint64_t sequence_at(const esk_ring *ring, ring_pair_value tail)
{
	ring_pair_value reserve = ring_pair_load(&ring->header->reserve);
	if (reserve.position == tail.position)
		return reserve.count & ~RING_SEALED;
	ring_view view = {.sequence = 0};
	esk_ring_inspect(ring, tail.position, &view);
	return atomic_load(&ring->trailer->tail.position) == tail.position ? view.sequence : 0;
}

/* Where a consumer begins that begins with the oldest record, at or behind `tail`. */
static ring_start start_at(const esk_ring *ring, ring_pair_value tail)
{
	uint64_t sequence = sequence_at(ring, tail);
	for (unsigned tries = 0; sequence == 0 && tries < RING_START_TRIES; tries++) {
		sched_yield();
		tail = ring_pair_load(&ring->trailer->tail);
		sequence = sequence_at(ring, tail);
	}
	uint64_t skipped = ring_skipped(tail);
	return (ring_start){
		.position = tail.position,
		.published = sequence > skipped ? sequence - 1 - skipped : RING_UNKNOWN,
		.skipped = skipped,
	};
}

/* Under the lock. A new place has everything but its state, which makes it exist; if this process dies
 * before, it is as free as it was. */
static ring_place *make_place(esk_ring *ring, const char *name, const esk_consumer_options *options)
{
	ring_place *place = free_place(ring);
	if (place == NULL)
		return NULL;
	ring_start start = start_at(ring, ring_pair_load(&ring->trailer->tail));
	memset(place->name, 0, sizeof place->name);
	memcpy(place->name, name, strlen(name));
	uint64_t next = atomic_load(&ring->header->reserve.count) & ~RING_SEALED;
	atomic_store(&place->first, options->from_head ? next : 1);
	esk_ring_place_keep(place, &start);
	esk_ring_place_hold(place, start.position, start.skipped);
	if (options->lossy)
		atomic_store(&place->state, RING_PLACE_USED | RING_PLACE_LOSSY);
	return place;
}

/* Brings the place to what the options say, and returns where its consumer begins. */
static ring_start settle_place(esk_ring *ring, ring_place *place, bool is_new, bool lossy)
{
	if (lossy) {
		atomic_store(&place->state, RING_PLACE_USED | RING_PLACE_LOSSY);
		esk_ring_follow(ring);
		return esk_ring_place_account(place);
	}
	ring_pair_value tail = claim_tail(ring, place);
	ring_start start = esk_ring_place_account(place);
	if (is_new && tail.position > start.position) {
		start = start_at(ring, tail); /* what went while the place was made was nobody's loss */
		esk_ring_place_keep(place, &start);
	}
	if (start.position < tail.position)
		esk_ring_place_hold(place, tail.position, ring_skipped(tail));
	else
		esk_ring_place_hold(place, start.position, start.skipped);
	return start;
}

esk_status esk_ring_place_take(esk_ring *ring, const char *name, const esk_consumer_options *options,
	ring_place **ret_place, ring_pair_value *ret_owner, ring_start *ret_start, esk_error *err)
{
	esk_status status = check_name(ring, name, err);
	ring_pair_value lock;
	if (status == ESK_OK)
		status = esk_ring_lock(ring, "opening a consumer", &lock, err);
	if (status != ESK_OK)
		return status;
	ring_place *place = find_place(ring, name);
	bool is_new = place == NULL;
	if (is_new)
		place = make_place(ring, name, options);
	if (place == NULL) {
		status = esk_fail(err, ESK_EFULL,
			"ring %s: its %u places for consumers have other names than \"%s\"; remove one of "
			"them",
			ring->path, ring->consumers, name);
		goto locked;
	}
	ring_pair_value owner = ring_pair_load(&place->owner);
	if (!is_new && esk_ring_process_lives(ring, owner)) {
		status = fail_taken(ring, name, owner, err);
		goto locked;
	}
	ring_pair_value mine = esk_ring_own_place(ring, owner);
	ring_pair_swap(&place->owner, owner, mine); /* under the lock nobody else takes it */
	*ret_start = settle_place(ring, place, is_new, options->lossy);
	*ret_place = place;
	*ret_owner = mine;
locked:
	esk_ring_unlock(ring, lock);
	return status;
}

void esk_ring_place_leave(ring_place *place, ring_pair_value mine)
{
	ring_pair_swap(&place->owner, mine, (ring_pair_value){.position = mine.position & UINT32_MAX});
}

esk_status esk_consumer_remove(esk_ring *ring, const char *name, esk_error *err)
{
	esk_status status = check_name(ring, name, err);
	ring_pair_value lock;
	if (status == ESK_OK)
		status = esk_ring_lock(ring, "removing a consumer", &lock, err);
	if (status != ESK_OK)
		return status;
	ring_place *place = find_place(ring, name);
	ring_pair_value owner = place != NULL ? ring_pair_load(&place->owner) : (ring_pair_value){0};
	if (place == NULL)
		status = esk_fail(
			err, ESK_ENOTFOUND, "ring %s has no consumer named \"%s\"", ring->path, name);
	else if (esk_ring_process_lives(ring, owner))
		status = fail_taken(ring, name, owner, err);
	else
		atomic_store(&place->state, 0);
	esk_ring_unlock(ring, lock);
	if (status == ESK_OK) {
		esk_ring_follow(ring);
		esk_ring_wake_space(ring); /* who waits looks again, even where nothing was given back */
	}
	return status;
}

/* ---- describing ---- */

uint32_t esk_ring_consumer_places(const esk_ring *ring)
{
	return ring->consumers;
}

bool esk_ring_consumer_at(const esk_ring *ring, uint32_t i, esk_consumer_info *ret_info)
{
	if (i >= ring->consumers || ret_info->struct_size < sizeof ret_info->struct_size)
		return false;
	const ring_place *place = &ring->places[i];
	uint32_t state = atomic_load(&place->state);
	if (state == 0)
		return false;
	ring_start start = esk_ring_place_account(place);
	ring_pair_value owner = ring_pair_load(&place->owner);
	uint64_t head = atomic_load(&ring->header->reserve.position);
	esk_consumer_info info = {
		.lossy = (state & RING_PLACE_LOSSY) != 0,
		.pid = esk_ring_process_lives(ring, owner) ? (int64_t)(owner.position >> 32) : 0,
		.released_position = start.position,
		.lag_bytes = head > start.position ? head - start.position : 0,
		.lost_records = start.lost_records,
		.lost_bytes = start.lost_bytes,
	};
	memcpy(info.name, place->name, sizeof info.name - 1);
	esk_struct_give(ret_info, &info, sizeof info);
	return true;
}

/* ---- checking what a file says ---- */

static bool is_place_position(const esk_ring *ring, uint64_t position, uint64_t head)
{
	return position <= head && position % 8 == 0 &&
	       ring->capacity - position % ring->capacity >= RING_RECORD_BYTES;
}

static esk_status check_place(const esk_ring *ring, uint32_t i, esk_error *err)
{
	const ring_place *place = &ring->places[i];
	uint32_t state = atomic_load(&place->state);
	if (state == 0)
		return ESK_OK;
	if ((state & ~(RING_PLACE_USED | RING_PLACE_LOSSY)) != 0 || (state & RING_PLACE_USED) == 0)
		return esk_fail(err, ESK_ECORRUPT,
			"ring %s: its place %u for a consumer has state %u, which is none", ring->path, i,
			state);
	if (memchr(place->name, '\0', sizeof place->name) == NULL || place->name[0] == '\0')
		return esk_fail(err, ESK_ECORRUPT,
			"ring %s: its place %u for a consumer has a name that does not end", ring->path, i);
	/* The place first: the head does not fall behind it meanwhile. */
	uint64_t held = ring_pair_load(&place->held).position;
	uint64_t released = esk_ring_place_account(place).position;
	uint64_t head = atomic_load(&ring->header->reserve.position);
	if (!is_place_position(ring, held, head) || !is_place_position(ring, released, head))
		return esk_fail(err, ESK_ECORRUPT,
			"ring %s: consumer \"%s\" stands at %llu and holds %llu, where no record starts "
			"before the head %llu",
			ring->path, place->name, (unsigned long long)released, (unsigned long long)held,
			(unsigned long long)head);
	return ESK_OK;
}

esk_status esk_ring_check_extension(const esk_ring *ring, esk_error *err)
{
	ring_pair_value declared = ring_pair_load(&ring->extension->declared);
	if (declared.position > ring->declarations_bytes || declared.position % 8 != 0 ||
		declared.count > declared.position / sizeof(ring_declaration))
		return esk_fail(err, ESK_ECORRUPT,
			"ring %s: %llu declarations in %llu bytes are not possible; it has room for %llu "
			"bytes",
			ring->path, (unsigned long long)declared.count, (unsigned long long)declared.position,
			(unsigned long long)ring->declarations_bytes);
	for (uint32_t i = 0; i < ring->consumers; i++) {
		esk_status status = check_place(ring, i, err);
		if (status != ESK_OK)
			return status;
	}
	return ESK_OK;
}
