/* Where records lie, and what stands at a position: a record, a pad, something skipped, something still to
 * come. Everything here only reads the ring (taps map it read-only). Uses: base (crc32c, clock), os
 * (processes). */
#include "ring/inside.h"

#include <string.h>
#include <unistd.h>

#define RING_PROBE_NS 2000000u
#define RING_COPY_BYTES 4096u

/* ---- places ---- */

uint64_t esk_ring_offset(const esk_ring *ring, uint64_t position)
{
	/* Relaxed: any value is a guess that the comparison checks. */
	uint64_t offset = position - atomic_load_explicit(&ring->lap_base, memory_order_relaxed);
	if (offset < ring->capacity)
		return offset;
	offset = position % ring->capacity;
	atomic_store_explicit(
		(_Atomic uint64_t *)&((esk_ring *)ring)->lap_base, position - offset, memory_order_relaxed);
	return offset;
}

/* A record of `payload_bytes` whose reservation starts at `position`:
 *
 *   |....... end of the region, too small |     or     |.......| record |rest|
 *           ^position: pad                |                    ^end if rest holds a header, else the next lap
 *   | record |
 *   ^start   ^end
 *
 * A reservation never starts where less than a header is left, so a pad always has room for its own. */
ring_extent esk_ring_extent(const esk_ring *ring, uint64_t position, uint64_t payload_bytes)
{
	uint64_t size = RING_RECORD_BYTES + esk_round_up(payload_bytes, 8);
	uint64_t offset = esk_ring_offset(ring, position);
	ring_extent extent = {.start = position};
	if (size > ring->capacity - offset) {
		extent.start += ring->capacity - offset;
		extent.wraps = true;
		offset = 0;
	}
	extent.end = extent.start + size;
	if (ring->capacity - (offset + size) < RING_RECORD_BYTES) {
		extent.end += ring->capacity - (offset + size);
		extent.wraps = true;
	}
	return extent;
}

/* ---- who lives ---- */

ring_pair_value esk_ring_own_place(const esk_ring *ring, ring_pair_value taken)
{
	uint64_t pid = (uint64_t)getpid();
	uint32_t times = (uint32_t)taken.position + 1;
	/* A token keeps 23 bits of this, and 0 must not be one. */
	if ((times & 0x7FFFFF) == 0)
		times++;
	return (ring_pair_value){
		.position = pid << 32 | times,
		.count = esk_os_process_start((int64_t)pid) ^ ring->boot_id,
	};
}

bool esk_ring_process_lives(const esk_ring *ring, ring_pair_value place)
{
	uint64_t pid = place.position >> 32;
	if (pid == 0)
		return false;
	uint64_t now = esk_os_process_start((int64_t)pid);
	/* The start time was mixed with the boot, so that nobody of an earlier boot lives. 1: the system does
	 * not tell start times; then the id alone must do. */
	uint64_t start = place.count ^ ring->boot_id;
	return now != 0 && (now == start || now == 1 || start == 1);
}

bool esk_ring_may_probe(const esk_ring *ring)
{
	_Atomic uint64_t *probed = &((esk_ring *)ring)->probed_ns;
	uint64_t last =
		atomic_load_explicit(probed, memory_order_relaxed); /* relaxed: a clock, orders nothing */
	uint64_t now = esk_monotonic_ns();
	return now - last >= RING_PROBE_NS && atomic_compare_exchange_strong_explicit(probed, &last, now,
						      memory_order_relaxed, memory_order_relaxed);
}

static bool token_place(const esk_ring *ring, uint32_t token, ring_pair_value *ret_place)
{
	*ret_place = ring_pair_load(&ring->trailer->producers[token % RING_PRODUCERS]);
	return ret_place->position >> 32 != 0 && (ret_place->position & 0x7FFFFF) == token / RING_PRODUCERS;
}

bool esk_ring_token_lives(const esk_ring *ring, uint32_t token)
{
	ring_pair_value place;
	return token_place(ring, token, &place) && esk_ring_process_lives(ring, place);
}

/* As esk_ring_token_lives, but takes a process for living until it is time to ask; *probe remembers that over
 * several questions. */
static bool token_may_live(const esk_ring *ring, uint32_t token, int *probe)
{
	ring_pair_value place;
	if (!token_place(ring, token, &place))
		return false;
	if (*probe < 0)
		*probe = esk_ring_may_probe(ring);
	return *probe == 0 || esk_ring_process_lives(ring, place);
}

/* ---- headers ---- */

uint32_t esk_ring_record_check(const esk_ring *ring, uint64_t position, uint64_t sequence,
	uint32_t payload_bytes, uint32_t stream, uint32_t kind_flags)
{
	const uint64_t words[4] = {
		ring->stream_id ^ position, sequence, payload_bytes | (uint64_t)stream << 32, kind_flags};
	return esk_crc32c(0, words, sizeof words);
}

static const ring_record *record_at(const esk_ring *ring, uint64_t position)
{
	uint64_t offset = esk_ring_offset(ring, position);
	if (position % 8 != 0 || ring->capacity - offset < RING_RECORD_BYTES)
		return NULL;
	return (const ring_record *)(const void *)(ring->data + offset);
}

/* Reads the header at `position`; false unless it is one of this lap that fits its place. Every field is
 * loaded once, since it may change under us. Acquire of `check` pairs with write_record's release: the header
 * is complete. Acquire of `state` pairs with publish's: the payload is complete. */
RING_RACY static bool load_header(
	const esk_ring *ring, uint64_t position, ring_view *ret_view, uint32_t *ret_state)
{
	const ring_record *record = record_at(ring, position);
	if (record == NULL)
		return false;
	uint32_t check = RING_RACY_LOAD(record->check);
	uint64_t sequence = RING_RACY_LOAD(record->sequence);
	uint32_t payload_bytes = RING_RACY_LOAD(record->payload_bytes);
	uint32_t stream = RING_RACY_LOAD(record->stream);
	uint32_t kind_flags = RING_RACY_LOAD(record->kind_flags);
	*ret_state = RING_RACY_LOAD(record->state);
	uint32_t payload_check = RING_RACY_LOAD(record->payload_check);
	if (check != esk_ring_record_check(ring, position, sequence, payload_bytes, stream, kind_flags))
		return false;
	RING_TSAN_ACQUIRE(&record->check);
	RING_TSAN_ACQUIRE(&record->state);

	uint64_t left = ring->capacity - esk_ring_offset(ring, position);
	uint64_t size = RING_RECORD_BYTES + esk_round_up(payload_bytes, 8);
	if (size > left || ((kind_flags & RING_RECORD_PAD) != 0 && size != left))
		return false;
	*ret_view = (ring_view){
		.payload = record + 1,
		.position = position,
		.next = esk_ring_extent(ring, position, payload_bytes).end,
		.sequence = sequence,
		.payload_bytes = payload_bytes,
		.stream = stream,
		.kind_flags = kind_flags,
		.payload_check = payload_check,
	};
	return true;
}

bool esk_ring_header_stands(const esk_ring *ring, uint64_t position)
{
	ring_view view;
	uint32_t state;
	return load_header(ring, position, &view, &state);
}

static ring_verdict judge_header(const esk_ring *ring, ring_view *view, uint32_t state, int *probe)
{
	if (view->kind_flags & RING_RECORD_PAD)
		return RING_AT_PAD;
	if ((state & RING_STATE_MASK) == RING_RESERVED) {
		if (token_may_live(ring, state / (RING_STATE_MASK + 1), probe))
			return RING_AT_PENDING;
		/* It may have published just before it died: from here on the state cannot change any more.
		 */
		if (!load_header(ring, view->position, view, &state))
			return RING_AT_BROKEN;
	}
	switch (state & RING_STATE_MASK) {
	case RING_RESERVED:
	case RING_ABANDONED:
		return RING_AT_SKIPPED;
	case RING_PUBLISHED:
		return RING_AT_RECORD;
	default:
		return RING_AT_BROKEN;
	}
}

/* ---- where there is no header ---- */

static uint64_t intent_place(const ring_intent *intent)
{
	/* Acquire: pairs with reserve's release, so that sequence and length go with the place. */
	return atomic_load_explicit(&intent->place, memory_order_acquire);
}

/* Invariant 5: does a reservation start, or will the next one start, at `end` with `sequence`? The order of
 * the three questions matters: who reserves at `end` puts his cell before he moves the head and writes the
 * header before he clears the cell, so one of them sees him. */
static bool boundary_stands(const esk_ring *ring, uint64_t end, uint64_t sequence)
{
	ring_pair_value reserve = ring_pair_load(&ring->header->reserve);
	if (reserve.position == end)
		return (reserve.count & ~RING_SEALED) == sequence;
	for (size_t i = 0; i < RING_INTENTS; i++) {
		const ring_intent *intent = &ring->trailer->intents[i];
		if (intent_place(intent) == (end | 1) &&
			atomic_load_explicit(&intent->sequence, memory_order_relaxed) == sequence &&
			intent_place(intent) == (end | 1))
			return true;
	}
	ring_view view;
	uint32_t state;
	return load_header(ring, end, &view, &state) && view.sequence == sequence;
}

/* Fills `view` from a dead owner's cell if what he meant to reserve is what was reserved. */
static bool view_from_intent(
	const esk_ring *ring, uint64_t position, const ring_intent *intent, ring_view *view)
{
	/* Relaxed: ordered by the acquire of place; a dead owner changes nothing any more. */
	uint64_t sequence = atomic_load_explicit(&intent->sequence, memory_order_relaxed);
	uint64_t payload_bytes = atomic_load_explicit(&intent->payload_bytes, memory_order_relaxed);
	if (payload_bytes > ring->max_payload)
		return false;
	uint64_t end = esk_ring_extent(ring, position, payload_bytes).end;
	if (!boundary_stands(ring, end, sequence + 1))
		return false;
	*view = (ring_view){.position = position, .next = end, .sequence = sequence};
	return true;
}

ring_verdict esk_ring_inspect(const esk_ring *ring, uint64_t position, ring_view *ret_view)
{
	int probe = -1;
	uint32_t state;
	if (load_header(ring, position, ret_view, &state))
		return judge_header(ring, ret_view, state, &probe);

	bool skipped = false;
	ring_view view;
	for (size_t i = 0; i < RING_INTENTS; i++) {
		const ring_intent *intent = &ring->trailer->intents[i];
		if (intent_place(intent) != (position | 1))
			continue;
		if (token_may_live(ring, atomic_load_explicit(&intent->owner, memory_order_acquire), &probe))
			return RING_AT_PENDING;
		skipped = skipped || view_from_intent(ring, position, intent, &view);
	}
	/* Who owed this header may have written it, and cleared his cell, while we looked. */
	if (load_header(ring, position, ret_view, &state))
		return judge_header(ring, ret_view, state, &probe);
	if (!skipped)
		return RING_AT_BROKEN;
	*ret_view = view;
	return RING_AT_SKIPPED;
}

RING_RACY static bool sequence_within(const esk_ring *ring, uint64_t position, uint64_t from, uint64_t to)
{
	const ring_record *record = record_at(ring, position);
	uint64_t sequence = record != NULL ? RING_RACY_LOAD(record->sequence) : 0;
	return record != NULL && sequence >= from && sequence < to;
}

uint64_t esk_ring_resync(const esk_ring *ring, uint64_t position, uint64_t sequence)
{
	ring_pair_value reserve = ring_pair_load(&ring->header->reserve);
	uint64_t count = reserve.count & ~RING_SEALED;
	/* At most one lap, whatever the head says. */
	uint64_t end = esk_min_u64(reserve.position, position + ring->capacity);
	ring_view view;
	uint32_t state;
	for (uint64_t at = esk_round_up(position + 1, 8); at < end; at += 8) {
		if (sequence_within(ring, at, sequence, count) && load_header(ring, at, &view, &state))
			return at;
	}
	return reserve.position;
}

/* ---- payloads that may be overwritten while they are read ---- */

RING_RACY void esk_ring_copy(void *to, const void *from, size_t size_bytes)
{
#if RING_TSAN
	volatile const unsigned char *bytes = from;
	volatile unsigned char *out = to;
	for (size_t i = 0; i < size_bytes; i++)
		out[i] = bytes[i];
#else
	memcpy(to, from, size_bytes);
#endif
}

bool esk_ring_payload_matches(const esk_ring *ring, const ring_view *view)
{
	if ((view->kind_flags & RING_RECORD_CHECKSUM) == 0)
		return true;
	if (ring->policy != ESK_OVERWRITE && ring->writable)
		return esk_crc32c(0, view->payload, view->payload_bytes) == view->payload_check;
	unsigned char piece[RING_COPY_BYTES];
	uint32_t check = 0;
	for (uint64_t at = 0; at < view->payload_bytes; at += sizeof piece) {
		size_t size = (size_t)esk_min_u64(sizeof piece, view->payload_bytes - at);
		esk_ring_copy(piece, (const unsigned char *)view->payload + at, size);
		check = esk_crc32c(check, piece, size);
	}
	return check == view->payload_check;
}
