/* What the tests of the ring share: rings in shared memory, records whose payload proves itself, seeds. */
#ifndef RING_SUPPORT_H
#define RING_SUPPORT_H

#include "ring/inside.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka needs the four above it */
#include <cmocka.h>

#define check_ok(call)                                                  \
	do {                                                            \
		esk_error check_error = {.code = ESK_OK};               \
		esk_error *err = &check_error;                          \
		if ((call) != ESK_OK)                                   \
			fail_msg("%s: %s", #call, check_error.message); \
	} while (0)

static inline const char *ring_path(void)
{
	static char path[96];
	snprintf(path, sizeof path, "%s/esker-test-ring-%ld",
		access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (long)getpid());
	return path;
}

static inline esk_ring *make_ring(uint64_t capacity_bytes, esk_policy policy)
{
	esk_ring_options options = {
		.struct_size = sizeof options,
		.capacity_bytes = capacity_bytes,
		.policy = policy,
		.block_timeout_ns = 50000000,
		.stream_id = 0x0123456789ABCDEFu,
		.blob = "blob",
		.blob_bytes = 4,
	};
	esk_ring *ring = NULL;
	unlink(ring_path());
	check_ok(esk_ring_create(ring_path(), &options, &ring, err));
	return ring;
}

static inline void drop_ring(esk_ring *ring)
{
	esk_ring_detach(ring);
	unlink(ring_path());
}

/* ---- payloads: {who, n, bytes that follow from both} ---- */

typedef struct proof {
	uint64_t who;
	uint64_t n;
} proof;

static inline void write_proof(void *payload, uint32_t size_bytes, uint64_t who, uint64_t n)
{
	unsigned char *bytes = payload;
	memcpy(bytes, &(proof){who, n}, sizeof(proof));
	memset(bytes + sizeof(proof), (int)((who * 31 + n * 7) & 0xFF), size_bytes - sizeof(proof));
}

static inline proof read_proof(const void *payload, uint32_t size_bytes)
{
	proof p;
	const unsigned char *bytes = payload;
	assert_true(size_bytes >= sizeof p);
	memcpy(&p, payload, sizeof p);
	for (uint32_t i = sizeof p; i < size_bytes; i++)
		if (bytes[i] != ((p.who * 31 + p.n * 7) & 0xFF))
			fail_msg("byte %u of record %llu of producer %llu is %u", i, (unsigned long long)p.n,
				(unsigned long long)p.who, bytes[i]);
	return p;
}

static inline esk_status put(esk_ring *ring, uint32_t size_bytes, uint64_t who, uint64_t n, esk_error *err)
{
	esk_ring_slot slot;
	esk_status status = esk_ring_reserve(ring, (uint32_t)who, 7, size_bytes, &slot, err);
	if (status != ESK_OK)
		return status;
	write_proof(slot.payload, size_bytes, who, n);
	esk_ring_publish(ring, &slot);
	return ESK_OK;
}

/* Reads the next record; false if there is none. */
static inline bool take(esk_ring *ring, esk_ring_record *ret_record)
{
	bool found = false;
	check_ok(esk_ring_read(ring, ret_record, &found, err));
	return found;
}

/* ---- named consumers ---- */

static inline esk_ring *make_consumed(uint64_t capacity_bytes, esk_policy policy, uint32_t consumers)
{
	esk_ring_options options = ESK_RING_OPTIONS_INIT;
	options.capacity_bytes = capacity_bytes;
	options.policy = policy;
	options.block_timeout_ns = 50000000;
	options.consumers = consumers;
	options.declarations_bytes = 4096;
	esk_ring *ring = NULL;
	unlink(ring_path());
	check_ok(esk_ring_create(ring_path(), &options, &ring, err));
	return ring;
}

static inline esk_consumer *open_as(esk_ring *ring, const char *name, bool lossy, bool from_head)
{
	esk_consumer_options options = ESK_CONSUMER_OPTIONS_INIT;
	esk_consumer *consumer = NULL;
	options.lossy = lossy;
	options.from_head = from_head;
	check_ok(esk_consumer_open(ring, name, &options, &consumer, err));
	return consumer;
}

static inline bool next_record(esk_consumer *consumer, esk_ring_record *ret_record)
{
	bool found = false;
	check_ok(esk_consumer_read(consumer, ret_record, &found, err));
	return found;
}

static inline void expect_record(esk_consumer *consumer, uint64_t n)
{
	esk_ring_record record;
	assert_true(next_record(consumer, &record));
	assert_int_equal(record.sequence, n);
	assert_int_equal(read_proof(record.payload, record.size_bytes).n, n);
}

static inline void write_records(esk_ring *ring, uint64_t from, uint64_t to)
{
	for (uint64_t n = from; n <= to; n++)
		check_ok(put(ring, 100, 0, n, err));
}

static inline esk_consumer_stats stats_of(const esk_consumer *consumer)
{
	esk_consumer_stats stats = {.struct_size = sizeof stats};
	check_ok(esk_consumer_get_stats(consumer, &stats, err));
	return stats;
}

/* ---- random numbers from a printed seed ---- */

static uint64_t random_state;

static inline uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static inline uint64_t start_random(const char *seed_argument)
{
	const char *text = seed_argument != NULL ? seed_argument : getenv("ESK_SEED");
	uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : esk_random_u64();
	printf("seed 0x%llx\n", (unsigned long long)seed);
	random_state = seed | 1;
	return seed;
}

/* ---- a producing thread ---- */

typedef struct race {
	esk_ring *ring;
	uint64_t who;
	uint64_t records;
	uint64_t seed;
	_Atomic bool done; /* set by the producer; or by who wants it to stop */
} race;

static inline void *produce_fast(void *arg)
{
	race *r = arg;
	uint64_t random = r->seed | 1;
	for (uint64_t n = 1; n <= r->records && !r->done; n++) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		if (put(r->ring, 16 + (uint32_t)(random >> 40) % 1000, r->who, n, NULL) != ESK_OK)
			break;
	}
	r->done = true;
	return NULL;
}

#endif
