/* Arbitrary bytes as a ring: attach, tap, drain, skip, produce. Nothing may crash or go on forever.
 *
 * The first byte of the input says how the rest is used:
 *   even: it is the file;
 *   odd:  it changes a sound ring, so that the fuzzer gets past the checksums. Each change is 24 bytes:
 *         u8 what; u8 size; u16 unused; u32 offset; u64 a; u64 b
 *         what even: pokes the low `size` bytes of a at file offset `offset`;
 *         what odd:  puts a record header with a valid checksum at data offset `offset`: sequence a, length
 * and stream from b, kind, flags and state from `what` and `size`. */
#include "ring/inside.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CAPACITY ESK_RING_MIN_BYTES
#define FILE_MAX (1u << 20)
#define READS_MAX (CAPACITY / 4)

#define SOUND 6 /* a ring of each policy, without consumers and with */
static unsigned char *sound[SOUND];
static size_t sound_bytes[SOUND];
static int file = -1;
static char path[64];

static void must(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "does not hold: %s\n", what);
	abort();
}

static void fill(esk_ring *ring, esk_consumer *consumer)
{
	for (uint32_t n = 0; n < 150; n++) {
		esk_ring_slot slot;
		if (esk_ring_reserve(ring, n % 3, 1, n * 37 % 900, &slot, NULL) != ESK_OK)
			break;
		memset(slot.payload, (int)n, slot.size_bytes);
		if (n % 11 == 5)
			esk_ring_abandon(ring, &slot);
		else
			esk_ring_publish(ring, &slot);
		esk_ring_record record;
		bool found;
		if (n % 3 != 0)
			continue;
		if (consumer != NULL && esk_consumer_read(consumer, &record, &found, NULL) == ESK_OK && found)
			esk_consumer_release_marked(consumer, record.next_position, n);
		if (consumer == NULL && esk_ring_read(ring, &record, &found, NULL) == ESK_OK && found)
			esk_ring_release(ring, record.next_position);
	}
}

static void prepare(void)
{
	char name[64];
	snprintf(name, sizeof name, "/dev/shm/esker-fuzz-ring-%ld", (long)getpid());
	for (int kind = 0; kind < SOUND; kind++) {
		int policy = kind % 3;
		esk_ring_options options = {.struct_size = sizeof options,
			.capacity_bytes = CAPACITY,
			.policy = (esk_policy)policy,
			.block_timeout_ns = 1,
			.payload_checksums = policy == ESK_REJECT,
			.stream_id = 99,
			.blob = "fuzz",
			.blob_bytes = 4,
			.consumers = kind < 3 ? 0 : 3,
			.declarations_bytes = kind < 3 ? 0 : 512};
		esk_ring *ring;
		must(esk_ring_create(name, &options, &ring, NULL) == ESK_OK, "a ring can be made");
		esk_consumer *consumer = NULL;
		uint32_t number;
		if (kind < 3) {
			must(esk_ring_drain_begin(ring, NULL) == ESK_OK, "it can be drained");
		} else {
			must(esk_consumer_open(ring, "fuzz", NULL, &consumer, NULL) == ESK_OK,
				"it has places");
			must(esk_ring_declare(ring, "what", 4, &number, NULL) == ESK_OK, "and declarations");
		}
		fill(ring, consumer);
		esk_consumer_close(consumer);
		esk_ring_drain_end(ring);
		sound_bytes[kind] = ring->mapped_bytes;
		sound[kind] = malloc(sound_bytes[kind]);
		must(sound[kind] != NULL, "memory");
		memcpy(sound[kind], ring->header, sound_bytes[kind]);
		esk_ring_detach(ring);
		unlink(name);
	}
	file = memfd_create("fuzz_ring_attach", 0);
	must(file >= 0, "a file");
	snprintf(path, sizeof path, "/proc/self/fd/%d", file);
}

static void write_file(const void *data, size_t size)
{
	must(ftruncate(file, (off_t)size) == 0, "truncate");
	must(pwrite(file, data, size, 0) == (ssize_t)size, "write");
}

typedef struct change {
	uint8_t what;
	uint8_t size;
	uint16_t unused;
	uint32_t offset;
	uint64_t a;
	uint64_t b;
} change;

static void put_header(esk_ring *ring, const change *c)
{
	uint64_t offset = c->offset % (CAPACITY / 8 - 4) * 8;
	/* The position that this offset has in the lap that is read. */
	uint64_t tail = atomic_load(&ring->trailer->tail.position);
	uint64_t position = tail - tail % CAPACITY + offset;
	if (position < tail)
		position += CAPACITY;
	uint32_t payload_bytes = (uint32_t)c->b % (2 * CAPACITY);
	uint32_t kind_flags =
		(c->what & 2 ? RING_RECORD_PAD : 0) | (c->what & 4 ? RING_RECORD_CHECKSUM : 0) | c->size;
	ring_record record = {.sequence = c->a % 400,
		.payload_bytes = payload_bytes,
		.stream = (uint32_t)(c->b >> 32),
		.kind_flags = kind_flags,
		.state = (uint32_t)(c->what >> 3),
		.check = esk_ring_record_check(
			ring, position, c->a % 400, payload_bytes, (uint32_t)(c->b >> 32), kind_flags)};
	memcpy(ring->data + offset, &record, sizeof record);
}

static void change_sound(const uint8_t *data, size_t size)
{
	size_t kind = size > 0 ? data[0] % SOUND : 0;
	write_file(sound[kind], sound_bytes[kind]);
	esk_ring *ring;
	must(esk_ring_attach(path, &ring, NULL) == ESK_OK, "a sound ring can be attached");
	for (size_t at = 1; at + sizeof(change) <= size; at += sizeof(change)) {
		change c;
		memcpy(&c, data + at, sizeof c);
		if (c.what % 2 == 1)
			put_header(ring, &c);
		else
			must(pwrite(file, &c.a, c.size % 9, (off_t)(c.offset % sound_bytes[kind])) >= 0,
				"poke");
	}
	esk_ring_detach(ring);
	/* A poke at the very end may have made the file longer. */
	must(ftruncate(file, (off_t)sound_bytes[kind]) == 0, "truncate");
}

static void use_declarations(esk_ring *ring)
{
	uint32_t number;
	uint64_t sum = 0;
	for (uint32_t i = 1; i <= 20; i++) {
		const void *bytes;
		size_t size;
		if (esk_ring_declaration(ring, i, &bytes, &size, NULL) == ESK_OK)
			for (size_t at = 0; at < size; at++)
				sum += ((const unsigned char *)bytes)[at];
	}
	esk_ring_declare(ring, &sum, sizeof sum, &number, NULL);
}

static void use_consumers(esk_ring *ring)
{
	static const char *const names[] = {"fuzz", "new", "fuzz"};
	for (uint32_t i = 0; i < esk_ring_consumer_places(ring); i++) {
		esk_consumer_info info = {.struct_size = sizeof info};
		esk_ring_consumer_at(ring, i, &info);
	}
	for (int i = 0; i < 3; i++) {
		esk_consumer *consumer;
		esk_consumer_options options = ESK_CONSUMER_OPTIONS_INIT;
		options.lossy = i == 2;
		options.from_head = i == 1;
		if (esk_consumer_open(ring, names[i], &options, &consumer, NULL) != ESK_OK)
			continue;
		esk_ring_record record;
		bool found = true;
		uint64_t reads = 0, sum = 0;
		while (esk_consumer_read(consumer, &record, &found, NULL) != ESK_OK || found) {
			must(++reads < READS_MAX, "reading ends");
			for (uint32_t at = 0; found && at < record.size_bytes; at += 61)
				sum += ((const unsigned char *)record.payload)[at];
			if (found && reads % 5 == 0)
				esk_consumer_release(consumer, record.position);
		}
		esk_consumer_wait(consumer, 0);
		esk_consumer_release_marked(consumer, UINT64_MAX, sum);
		esk_consumer_rewind(consumer);
		esk_consumer_close(consumer);
	}
	esk_consumer_remove(ring, "new", NULL);
}

static void use(void)
{
	static unsigned char buf[4096];
	esk_ring *ring;
	esk_tap *tap = NULL;
	esk_error err;
	if (esk_ring_attach(path, &ring, &err) != ESK_OK)
		return;
	must(esk_tap_open(path, 1, &tap, &err) == ESK_OK, "what can be attached can be tapped");
	esk_ring_record record;
	esk_ring_stats stats;
	bool found = true;
	uint64_t bytes = 0;
	if (esk_ring_drain_begin(ring, &err) == ESK_OK) {
		for (int round = 0; round < 2; round++) {
			uint64_t reads = 0;
			while (esk_ring_read(ring, &record, &found, &err) != ESK_OK || found) {
				must(++reads < READS_MAX, "reading ends");
				for (uint32_t i = 0; found && i < record.size_bytes; i += 61)
					bytes += ((const unsigned char *)record.payload)[i];
				if (found && record.size_bytes > 0)
					bytes += ((
						const unsigned char *)record.payload)[record.size_bytes - 1];
			}
			esk_ring_get_stats(ring, &stats);
			esk_ring_rewind(ring);
			esk_ring_skip_to(ring, stats.last_sequence / 2, NULL);
		}
		esk_ring_drain_wait(ring, 0);
		esk_ring_release(ring, UINT64_MAX);
		esk_ring_rewind(ring);
	}
	use_declarations(ring);
	use_consumers(ring);
	for (int i = 0; i < 20; i++) {
		esk_ring_slot slot;
		if (esk_ring_reserve(ring, 0, 0, 1000, &slot, NULL) != ESK_OK)
			break;
		memset(slot.payload, (int)bytes, slot.size_bytes);
		esk_ring_publish(ring, &slot);
		esk_ring_read(ring, &record, &found, NULL);
		esk_tap_read(tap, buf, sizeof buf, &record, &found, NULL);
	}
	esk_tap_close(tap);
	esk_ring_detach(ring);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (file < 0)
		prepare();
	if (size == 0 || size > FILE_MAX)
		return 0;
	if (data[0] % 2 == 1)
		change_sound(data + 1, size - 1);
	else
		write_file(data + 1, size - 1);
	use();
	return 0;
}
