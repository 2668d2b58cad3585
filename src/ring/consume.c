/* Named consumers: readers whose place is kept in the ring.
 *
 * A release keeps the account first and then what the place holds, so that a successor never goes on before
 * or behind what was released, and producers never get bytes that are not (invariant 10 of shared.h).
 *
 * Uses: base, os (futex, processes). */
#include "ring/places.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RING_PENDING_NAP_NS 200000u /* while the next record is reserved and not published */
/* Before a consumer asks to be woken, which costs a producer a system call, it looks a few times and takes a
 * few naps: in a fast stream there is something by then, and no producer ever pays. */
#define RING_WAIT_SPINS 64u
#define RING_WAIT_NAP_NS 50000u

struct esk_consumer {
	esk_ring *ring;
	ring_place *place;
	ring_pair_value owner;
	uint32_t fork; /* esk_os_fork_count when it was opened */
	bool lossy;
	uint64_t first; /* least sequence that it gives out */
	ring_reader reader;
	ring_start released;
	uint64_t read_records;
	uint64_t read_bytes;
	uint32_t asked_seen;
};

static bool is_inherited(const esk_consumer *consumer)
{
	return consumer->fork != (uint32_t)esk_os_fork_count();
}

/* ---- opening and closing ---- */

/* A new one that begins at the head passes what was there before, as far as it is settled. */
static void pass_earlier(esk_consumer *consumer)
{
	esk_ring *ring = consumer->ring;
	ring_reader *reader = &consumer->reader;
	ring_view view;
	ring_verdict verdict = RING_AT_RECORD;
	if (consumer->first <= 1)
		return;
	while (verdict == RING_AT_RECORD) {
		if (esk_ring_reader_find(ring, reader, &view, &verdict, NULL) != ESK_OK) {
			verdict = RING_AT_RECORD; /* damage among what it is not given; the reader moved on */
			continue;
		}
		if (verdict == RING_AT_RECORD && view.sequence >= consumer->first)
			break;
		if (verdict == RING_AT_RECORD)
			esk_ring_reader_pass(reader, &view);
	}
	reader->lost_records -= reader->pending_records;
	reader->lost_bytes -= reader->pending_bytes;
	reader->pending_records = 0;
	reader->pending_bytes = 0;
	esk_consumer_release(consumer, reader->cursor);
}

esk_status esk_consumer_open(esk_ring *ring, const char *name, const esk_consumer_options *options,
	esk_consumer **ret_consumer, esk_error *err)
{
	esk_consumer_options settled = ESK_CONSUMER_OPTIONS_INIT;
	if (options != NULL)
		esk_struct_take(&settled, sizeof settled, options);
	esk_consumer *consumer = calloc(1, sizeof *consumer);
	if (consumer == NULL)
		return esk_fail_memory(err, sizeof *consumer, "a consumer");
	esk_status status = esk_ring_place_take(
		ring, name, &settled, &consumer->place, &consumer->owner, &consumer->released, err);
	if (status != ESK_OK) {
		free(consumer);
		return status;
	}
	consumer->ring = ring;
	consumer->fork = (uint32_t)esk_os_fork_count();
	consumer->lossy = settled.lossy;
	consumer->first = atomic_load(&consumer->place->first);
	consumer->reader.evictable = settled.lossy || ring->policy == ESK_OVERWRITE;
	consumer->asked_seen = atomic_load(&ring->extension->asked);
	esk_ring_reader_start(ring, &consumer->reader, &consumer->released);
	pass_earlier(consumer);
	*ret_consumer = consumer;
	return ESK_OK;
}

void esk_consumer_close(esk_consumer *consumer)
{
	if (consumer == NULL)
		return;
	if (!is_inherited(consumer)) {
		esk_ring_follow(consumer->ring);
		esk_ring_place_leave(consumer->place, consumer->owner);
	}
	free(consumer);
}

/* ---- reading ---- */

/* What was lost of the time before it began is not its loss. */
static void forgive_earlier(esk_consumer *consumer, esk_ring_record *record)
{
	ring_reader *reader = &consumer->reader;
	uint64_t most = record->sequence - consumer->first;
	if (record->lost_before_records <= most)
		return;
	reader->lost_records -= record->lost_before_records - most;
	record->lost_before_records = most;
}

esk_status esk_consumer_read(
	esk_consumer *consumer, esk_ring_record *ret_record, bool *ret_found, esk_error *err)
{
	*ret_found = false;
	if (is_inherited(consumer))
		return esk_fail(err, ESK_ECLOSED,
			"ring %s: a consumer was opened by the parent process; open one in this process",
			consumer->ring->path);
	do {
		esk_status status =
			esk_ring_reader_next(consumer->ring, &consumer->reader, ret_record, ret_found, err);
		if (status != ESK_OK || !*ret_found)
			return status;
	} while (ret_record->sequence < consumer->first);
	if (ret_record->lost_before_records > 0)
		forgive_earlier(consumer, ret_record);
	consumer->read_records++;
	consumer->read_bytes += ret_record->size_bytes;
	return ESK_OK;
}

bool esk_consumer_still_valid(esk_consumer *consumer, const esk_ring_record *record)
{
	ring_reader *reader = &consumer->reader;
	if (esk_ring_reader_holds(consumer->ring, reader, record->position))
		return true;
	if (reader->refuted == record->position + 1)
		return false;
	reader->refuted = record->position + 1;
	uint64_t bytes = record->next_position - record->position;
	if (reader->pending_bytes == 0)
		reader->jump = (ring_gap){
			.from = record->position, .published = record->sequence - 1 - reader->skipped};
	reader->pending_records++;
	reader->pending_bytes += bytes;
	reader->lost_records++;
	reader->lost_bytes += bytes;
	consumer->read_records--;
	consumer->read_bytes -= record->size_bytes;
	return false;
}

void esk_consumer_rewind(esk_consumer *consumer)
{
	esk_ring_reader_start(consumer->ring, &consumer->reader, &consumer->released);
}

/* ---- releasing ---- */

/* What was to be released was evicted after it was read: the next place whose account is known, which is the
 * tail, or where the consumer stands if that is evicted too. */
static bool place_behind_eviction(const esk_consumer *consumer, ring_start *ret_start)
{
	const esk_ring *ring = consumer->ring;
	const ring_reader *reader = &consumer->reader;
	ring_pair_value tail = ring_pair_load(&ring->trailer->tail);
	while (tail.position < reader->cursor) {
		ring_view view = {.sequence = 0};
		ring_verdict verdict = esk_ring_inspect(ring, tail.position, &view);
		ring_pair_value now = ring_pair_load(&ring->trailer->tail);
		if (now.position == tail.position) {
			*ret_start = (ring_start){.position = tail.position,
				.published = view.sequence - 1 - ring_skipped(tail),
				.skipped = ring_skipped(tail)};
			return verdict != RING_AT_BROKEN && view.sequence > ring_skipped(tail);
		}
		tail = now;
	}
	*ret_start = (ring_start){.position = reader->cursor,
		.published = esk_ring_reader_published(reader),
		.skipped = reader->skipped};
	return reader->known;
}

static bool account_to_release(const esk_consumer *consumer, uint64_t position, ring_start *ret_start)
{
	const ring_reader *reader = &consumer->reader;
	const ring_start *released = &consumer->released;
	ring_pair_value tail = {0};
	if (reader->evictable)
		tail = ring_pair_load(&consumer->ring->trailer->tail);
	ring_pair_value base = {.position = released->position, .count = released->skipped};
	if (tail.position > base.position)
		base = tail;
	uint64_t skipped;
	uint64_t sequence;
	if (esk_ring_reader_account_at(consumer->ring, reader, base, position, &skipped, &sequence)) {
		*ret_start = (ring_start){
			.position = position, .published = sequence - 1 - skipped, .skipped = skipped};
		return true;
	}
	return reader->evictable && position < reader->cursor && place_behind_eviction(consumer, ret_start);
}

/* Producers wait for room. They are woken for a share of the ring, or when there is no more to come: woken
 * for each record, they would sleep again at once, and both sides would do little else. In between they look
 * by themselves. */
static void make_room(const esk_consumer *consumer)
{
	esk_ring *ring = consumer->ring;
	uint64_t position = consumer->released.position;
	uint64_t tail = atomic_load(&ring->trailer->tail.position);
	bool is_much = position > tail && position - tail >= ring_wake_share(ring);
	if (is_much || position >= atomic_load(&ring->header->reserve.position))
		esk_ring_follow(ring);
}

void esk_consumer_release_marked(esk_consumer *consumer, uint64_t position, uint64_t mark)
{
	esk_ring *ring = consumer->ring;
	ring_reader *reader = &consumer->reader;
	ring_start start;
	if (position == consumer->released.position) {
		if (mark != consumer->released.mark)
			esk_consumer_set_mark(consumer, mark);
		return;
	}
	position = esk_min_u64(position, reader->cursor);
	if (position <= consumer->released.position || is_inherited(consumer) ||
		!account_to_release(consumer, position, &start))
		return;
	ring_gap later = esk_ring_reader_losses_from(reader, start.position);
	start.lost_records = reader->lost_records - reader->pending_records - later.records;
	start.lost_bytes = reader->lost_bytes - reader->pending_bytes - later.bytes;
	start.mark = mark;
	esk_ring_place_keep(consumer->place, &start);
	consumer->released = start;
	if (consumer->lossy)
		return;
	esk_ring_place_hold(consumer->place, start.position, start.skipped);
	/* Sequentially consistent with wait_for_room: either it sees what is held now, or this sees it
	 * waiting. */
	if (atomic_load(&ring->trailer->space.waiting) != 0)
		make_room(consumer);
}

void esk_consumer_release(esk_consumer *consumer, uint64_t position)
{
	if (position != consumer->released.position)
		esk_consumer_release_marked(consumer, position, 0);
}

uint64_t esk_consumer_mark(const esk_consumer *consumer)
{
	return consumer->released.mark;
}

void esk_consumer_set_mark(esk_consumer *consumer, uint64_t mark)
{
	if (is_inherited(consumer))
		return;
	consumer->released.mark = mark;
	esk_ring_place_keep(consumer->place, &consumer->released);
}

/* ---- waiting ---- */

/* True if the reader has a record, damage or a loss to tell; else *ret_pending says whether a record is being
 * written. */
static bool is_ready(const esk_consumer *consumer, bool *ret_pending)
{
	const esk_ring *ring = consumer->ring;
	uint64_t position = consumer->reader.cursor;
	uint64_t head = atomic_load(&ring->header->reserve.position);
	*ret_pending = false;
	while (position < head) {
		ring_view view;
		ring_verdict verdict = esk_ring_inspect(ring, position, &view);
		if (verdict == RING_AT_PENDING) {
			*ret_pending = true;
			return false;
		}
		if (verdict == RING_AT_BROKEN ||
			(verdict == RING_AT_RECORD && view.sequence >= consumer->first))
			return true;
		position = view.next;
	}
	return false;
}

static bool is_soon_ready(const esk_consumer *consumer, uint64_t timeout_ns)
{
	bool pending;
	for (uint32_t i = 0; i < RING_WAIT_SPINS; i++) {
		if (is_ready(consumer, &pending))
			return true;
		ring_pause();
	}
	esk_ring_follow(consumer->ring);
	for (uint64_t nap = RING_WAIT_NAP_NS; nap <= 4 * RING_WAIT_NAP_NS && nap <= timeout_ns; nap *= 2) {
		nanosleep(&(struct timespec){.tv_nsec = (long)nap}, NULL);
		if (is_ready(consumer, &pending))
			return true;
	}
	return false;
}

bool esk_consumer_wait(esk_consumer *consumer, uint64_t timeout_ns)
{
	ring_extension *extension = consumer->ring->extension;
	uint64_t deadline = UINT64_MAX;
	esk_add_u64(esk_monotonic_ns(), timeout_ns, &deadline);
	bool pending;
	if (is_inherited(consumer))
		return false;
	if (is_soon_ready(consumer, timeout_ns))
		return true;
	while (!is_ready(consumer, &pending)) {
		uint32_t word = atomic_load(&extension->news.word);
		uint32_t asked = atomic_load(&extension->asked);
		bool is_asked = asked != consumer->asked_seen;
		consumer->asked_seen = asked;
		uint64_t now = esk_monotonic_ns();
		if (is_asked || now >= deadline)
			return false;
		/* Sequentially consistent, as the swap of the head is: who reserves after this is seen below,
		 * or sees that somebody waits. */
		atomic_store(&extension->news.waiting, 1);
		if (is_ready(consumer, &pending))
			return true;
		/* A record that is being written may be published unseen, and its producer may die: look
		 * again soon. */
		esk_os_futex_wait(&extension->news.word, word,
			esk_min_u64(deadline - now, pending ? RING_PENDING_NAP_NS : UINT64_MAX));
	}
	return true;
}

/* ---- describing ---- */

esk_status esk_consumer_get_stats(const esk_consumer *consumer, esk_consumer_stats *ret_stats, esk_error *err)
{
	if (ret_stats->struct_size < sizeof ret_stats->struct_size)
		return esk_fail(err, ESK_EINVAL, "struct_size of the statistics is not set");
	const ring_reader *reader = &consumer->reader;
	uint64_t head = atomic_load(&consumer->ring->header->reserve.position);
	esk_consumer_stats stats = {
		.position = reader->cursor,
		.released_position = consumer->released.position,
		.read_records = consumer->read_records,
		.read_bytes = consumer->read_bytes,
		.lost_records = reader->lost_records,
		.lost_bytes = reader->lost_bytes,
		.lag_bytes = head > reader->cursor ? head - reader->cursor : 0,
	};
	esk_struct_give(ret_stats, &stats, sizeof stats);
	return ESK_OK;
}
