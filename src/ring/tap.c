/* Taps: live views that read every n-th record from a read-only mapping and never slow anybody.
 *
 * A tap does not hold the tail back. A record it reads is whole as long as the head is at most one capacity
 * past the record's position: producers move the head over bytes before they write them. A tap that falls
 * behind is put at the head. Uses: base, os (through ring.c). */
#include "ring/inside.h"

#include <stdlib.h>

struct esk_tap {
	esk_ring *ring;
	uint64_t cursor;
	uint64_t expected;
	uint64_t first; /* sequence of the first record it could see */
	uint64_t every;
	uint64_t lost_records;
	uint64_t lost_bytes;
};

esk_status esk_tap_open(const char *path, uint64_t every, esk_tap **ret_tap, esk_error *err)
{
	if (every == 0)
		return esk_fail(err, ESK_EINVAL,
			"a tap on ring %s sees every n-th record, and n must not be 0", path);
	esk_tap *tap = calloc(1, sizeof *tap);
	if (tap == NULL)
		return esk_fail_memory(err, sizeof *tap, "a tap");
	esk_status status = esk_ring_map(path, false, &tap->ring, err);
	if (status != ESK_OK) {
		free(tap);
		return status;
	}
	ring_pair_value reserve = ring_pair_load(&tap->ring->header->reserve);
	tap->cursor = reserve.position;
	tap->expected = reserve.count & ~RING_SEALED;
	tap->first = tap->expected;
	tap->every = every;
	*ret_tap = tap;
	return ESK_OK;
}

void esk_tap_close(esk_tap *tap)
{
	if (tap == NULL)
		return;
	esk_ring_detach(tap->ring);
	free(tap);
}

static bool overrun(const esk_tap *tap, uint64_t position)
{
	/* Pairs with the swap of the head, which comes before the bytes it claims are written. */
	RING_FENCE(memory_order_acquire);
	uint64_t head = atomic_load_explicit(&tap->ring->header->reserve.position, memory_order_acquire);
	return head - position > tap->ring->capacity;
}

static void drop_behind(esk_tap *tap)
{
	ring_pair_value reserve = ring_pair_load(&tap->ring->header->reserve);
	uint64_t sequence = reserve.count & ~RING_SEALED;
	tap->lost_records += sequence - tap->expected;
	tap->lost_bytes += reserve.position - tap->cursor;
	tap->cursor = reserve.position;
	tap->expected = sequence;
}

/* Where there is no valid record although nobody has overwritten it: released and reused cells and bytes are
 * no damage, since a tap does not hold the tail. */
static esk_status stumble(esk_tap *tap, esk_error *err)
{
	uint64_t position = tap->cursor;
	uint64_t sequence = tap->expected;
	bool released = atomic_load(&tap->ring->trailer->tail.position) > position;
	bool behind = overrun(tap, position);
	drop_behind(tap);
	if (released || behind)
		return ESK_OK;
	return esk_fail(err, ESK_ECORRUPT,
		"ring %s: at position %llu, where the record with sequence %llu must be, there is none that "
		"is valid; the tap goes on at the newest record",
		tap->ring->path, (unsigned long long)position, (unsigned long long)sequence);
}

static void give_copy(const ring_view *view, void *buf, size_t buf_bytes, esk_ring_record *ret_record)
{
	esk_ring_copy(buf, view->payload, (size_t)esk_min_u64(buf_bytes, view->payload_bytes));
	*ret_record = (esk_ring_record){
		.payload = buf,
		.sequence = view->sequence,
		.position = view->position,
		.next_position = view->next,
		.size_bytes = view->payload_bytes,
		.stream = view->stream,
		.kind = (uint16_t)view->kind_flags,
	};
}

esk_status esk_tap_read(esk_tap *tap, void *buf, size_t buf_bytes, esk_ring_record *ret_record,
	bool *ret_found, esk_error *err)
{
	*ret_found = false;
	/* The head as it is now bounds the call, however fast the producers are. */
	uint64_t head = atomic_load_explicit(&tap->ring->header->reserve.position, memory_order_acquire);
	while (tap->cursor < head) {
		if (overrun(tap, tap->cursor)) {
			drop_behind(tap);
			return ESK_OK;
		}
		ring_view view;
		ring_verdict verdict = esk_ring_inspect(tap->ring, tap->cursor, &view);
		if (verdict == RING_AT_PENDING)
			return ESK_OK;
		if (verdict == RING_AT_BROKEN || view.next > head || view.sequence != tap->expected)
			return stumble(tap, err);
		bool wanted = verdict == RING_AT_RECORD && (view.sequence - tap->first) % tap->every == 0;
		if (wanted) {
			give_copy(&view, buf, buf_bytes, ret_record);
			bool matches = esk_ring_payload_matches(tap->ring, &view);
			if (overrun(tap, tap->cursor)) {
				drop_behind(tap);
				return ESK_OK;
			}
			if (!matches)
				return stumble(tap, err);
			ret_record->lost_before_records = tap->lost_records;
			ret_record->lost_before_bytes = tap->lost_bytes;
			tap->lost_records = 0;
			tap->lost_bytes = 0;
			*ret_found = true;
		}
		tap->cursor = view.next;
		if (verdict != RING_AT_PAD)
			tap->expected = view.sequence + 1;
		if (wanted)
			return ESK_OK;
	}
	return ESK_OK;
}
