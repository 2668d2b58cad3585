/* Snapshots of a ring: the payloads that were not advanced over, as one run of bytes.
 *
 * Their place is that of the consumer "snapshot", which is opened for the length of a call: so any thread of
 * any process may take one, and advance. A snapshot releases what was overwritten before its first record, so
 * that whoever advances afterwards is told what was overwritten since. What was advanced over inside a record
 * is kept in the consumer's mark, with the record's position, so that it does not count for another record
 * where that one was overwritten. */
#include "rings.h"
#include <esker/profile.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONSUMER "snapshot"
#define RECORD_HEADER_BYTES 32u /* FORMAT.md, "Records" */
#define OPEN_TRIES 5000
#define OPEN_NAP_NS 1000000

static esk_status open_place(esk_ring *ring, esk_consumer **ret_consumer, esk_error *err)
{
	esk_status status = esk_consumer_open(ring, CONSUMER, NULL, ret_consumer, err);
	for (int i = 0; i < OPEN_TRIES && status == ESK_EBUSY; i++) {
		struct timespec nap = {.tv_nsec = OPEN_NAP_NS};
		nanosleep(&nap, NULL);
		status = esk_consumer_open(ring, CONSUMER, NULL, ret_consumer, err);
	}
	return status;
}

/* The mark: which record (its position in units of 8 bytes, cut to 32 bits), and how many of its bytes. */
static uint64_t make_mark(uint64_t position, uint32_t offset)
{
	return (position / 8 & UINT32_MAX) << 32 | offset;
}

/* Bytes of `record` that were advanced over. */
static uint32_t offset_in(const esk_consumer *consumer, const esk_ring_record *record)
{
	uint64_t mark = esk_consumer_mark(consumer);
	uint32_t offset = (uint32_t)mark;
	bool is_this = offset > 0 && mark == make_mark(record->position, offset);
	return is_this && offset <= record->size_bytes ? offset : 0;
}

/* The next record before `stop`; damaged ones are stepped over. */
static esk_status next_record(
	esk_consumer *consumer, uint64_t stop, esk_ring_record *ret_record, bool *ret_found, esk_error *err)
{
	esk_status status;
	do
		status = esk_consumer_read(consumer, ret_record, ret_found, NULL);
	while (status == ESK_ECORRUPT);
	if (status != ESK_OK)
		return esk_consumer_read(consumer, ret_record, ret_found, err);
	if (*ret_found && ret_record->position >= stop)
		*ret_found = false;
	return ESK_OK;
}

typedef struct copy {
	uint8_t *data;
	size_t size, capacity;
} copy;

static esk_status put(copy *c, const uint8_t *from, size_t size, esk_error *err)
{
	if (c->capacity - c->size < size) {
		size_t capacity = c->capacity * 2 > c->size + size ? c->capacity * 2 : c->size + size;
		uint8_t *grown = realloc(c->data, capacity);
		if (grown == NULL)
			return esk_fail_memory(err, capacity, "a snapshot");
		c->data = grown;
		c->capacity = capacity;
	}
	if (size > 0)
		esk_ring_copy(c->data + c->size, from, size);
	c->size += size;
	return ESK_OK;
}

static esk_status copy_records(esk_consumer *consumer, uint64_t stop, copy *c, esk_error *err)
{
	for (;;) {
		esk_ring_record record;
		bool found;
		esk_status status = next_record(consumer, stop, &record, &found, err);
		if (status != ESK_OK || !found)
			return status;
		if (c->size == 0 && record.lost_before_records > 0)
			esk_consumer_release(consumer, record.position);
		uint32_t skip = offset_in(consumer, &record);
		size_t before = c->size;
		status = put(c, (const uint8_t *)record.payload + skip, record.size_bytes - skip, err);
		if (status != ESK_OK)
			return status;
		if (!esk_consumer_still_valid(consumer, &record))
			c->size = before;
	}
}

esk_status esk_daq_read_snapshot(esk_ring *ring, void **ret_data, size_t *ret_size, esk_error *err)
{
	esk_consumer *consumer;
	esk_ring_stats stats;
	copy c = {.capacity = 4096};
	esk_status status = open_place(ring, &consumer, err);
	if (status != ESK_OK)
		return status;
	esk_ring_get_stats(ring, &stats);
	c.data = malloc(c.capacity);
	status = c.data == NULL ? esk_fail_memory(err, c.capacity, "a snapshot")
				: copy_records(consumer, stats.head_position, &c, err);
	esk_consumer_close(consumer);
	if (status != ESK_OK) {
		free(c.data);
		return status;
	}
	*ret_data = c.data;
	*ret_size = c.size;
	return ESK_OK;
}

void esk_daq_snapshot_free(void *data)
{
	free(data);
}

/* Payload of the records that were overwritten before `record`: at least as much as there was. */
static uint64_t overwritten_bytes(const esk_ring_record *record)
{
	uint64_t headers = record->lost_before_records * RECORD_HEADER_BYTES;
	return record->lost_before_bytes > headers ? record->lost_before_bytes - headers : 0;
}

static esk_status advance(esk_consumer *consumer, uint64_t stop, uint64_t bytes, esk_error *err)
{
	bool overwritten = false;
	while (bytes > 0) {
		esk_ring_record record;
		bool found;
		esk_status status = next_record(consumer, stop, &record, &found, err);
		if (status != ESK_OK || !found)
			return status;
		overwritten |= record.lost_before_records > 0;
		bytes -= overwritten_bytes(&record) < bytes ? overwritten_bytes(&record) : bytes;
		uint32_t skip = offset_in(consumer, &record);
		uint32_t left = record.size_bytes - skip;
		if (bytes < left) {
			if (!overwritten) /* else the bytes are about; the record is seen whole again */
				esk_consumer_set_mark(
					consumer, make_mark(record.position, skip + (uint32_t)bytes));
			return ESK_OK;
		}
		bytes -= left;
		esk_consumer_release(consumer, record.next_position);
	}
	return ESK_OK;
}

esk_status esk_daq_advance_tail(esk_ring *ring, uint64_t bytes, esk_error *err)
{
	esk_consumer *consumer;
	esk_ring_stats stats;
	esk_status status = open_place(ring, &consumer, err);
	if (status != ESK_OK)
		return status;
	esk_ring_get_stats(ring, &stats);
	status = advance(consumer, stats.head_position, bytes, err);
	esk_consumer_close(consumer);
	return status;
}
