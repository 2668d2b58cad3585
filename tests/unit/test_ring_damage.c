/* The ring's taps, and what attaching and reading make of damage. */
#include "ring_support.h"

#include <fcntl.h>

/* ---- taps ---- */

static void tap_sees_every_nth_record(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_OVERWRITE);
	for (uint64_t n = 1; n <= 3; n++)
		check_ok(put(ring, 100, 0, n, err));
	esk_tap *tap;
	assert_int_equal(esk_tap_open(ring_path(), 0, &tap, NULL), ESK_EINVAL);
	check_ok(esk_tap_open(ring_path(), 3, &tap, err));
	esk_ring_record record;
	bool found;
	unsigned char buf[64];
	check_ok(esk_tap_read(tap, buf, sizeof buf, &record, &found, err));
	assert_false(found);
	uint64_t seen = 0;
	for (uint64_t n = 4; n < 3000; n++) {
		check_ok(put(ring, 100, 0, n, err));
		check_ok(esk_tap_read(tap, buf, sizeof buf, &record, &found, err));
		assert_int_equal(found, (n - 4) % 3 == 0);
		if (!found)
			continue;
		assert_int_equal(record.sequence, n);
		assert_int_equal(record.size_bytes, 100); /* more than fits into buf */
		assert_int_equal(read_proof(buf, sizeof buf).n, n);
		assert_int_equal(record.lost_before_records, 0);
		seen++;
	}
	assert_int_equal(seen, 999);
	esk_tap_close(tap);
	drop_ring(ring);
}

static void slow_tap_is_dropped_behind_and_told_so(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_OVERWRITE);
	esk_tap *tap;
	check_ok(esk_tap_open(ring_path(), 1, &tap, err));
	for (uint64_t n = 1; n <= 500; n++)
		check_ok(put(ring, 1000, 0, n, err));
	esk_ring_record record;
	bool found;
	unsigned char buf[1000];
	check_ok(esk_tap_read(tap, buf, sizeof buf, &record, &found, err));
	assert_false(found);
	check_ok(put(ring, 1000, 0, 501, err));
	check_ok(esk_tap_read(tap, buf, sizeof buf, &record, &found, err));
	assert_true(found);
	assert_int_equal(record.sequence, 501);
	assert_int_equal(record.lost_before_records, 500);
	assert_int_equal(read_proof(buf, 1000).n, 501);
	esk_tap_close(tap);
	drop_ring(ring);
}

static void tap_racing_with_a_producer_never_sees_torn_records(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_OVERWRITE);
	esk_tap *tap;
	check_ok(esk_tap_open(ring_path(), 1, &tap, err));
	race r = {.ring = ring, .who = 1, .records = UINT64_MAX, .seed = next_random()};
	pthread_t thread;
	pthread_create(&thread, NULL, produce_fast, &r);
	unsigned char buf[2048];
	uint64_t next = 1;
	for (uint64_t seen = 0; seen < 3000;) {
		esk_ring_record record;
		bool found;
		check_ok(esk_tap_read(tap, buf, sizeof buf, &record, &found, err));
		if (!found)
			continue;
		assert_int_equal(record.sequence, next + record.lost_before_records);
		assert_int_equal(read_proof(buf, record.size_bytes).n, record.sequence);
		next = record.sequence + 1;
		seen++;
	}
	r.done = true;
	pthread_join(thread, NULL);
	esk_tap_close(tap);
	drop_ring(ring);
}

/* ---- damage ---- */

static void expect_attach(esk_status status, const char *words)
{
	esk_ring *ring = NULL;
	esk_error failure = {.code = ESK_OK};
	assert_int_equal(esk_ring_attach(ring_path(), &ring, &failure), status);
	assert_null(ring);
	if (strstr(failure.message, words) == NULL || strstr(failure.message, ring_path()) == NULL)
		fail_msg("expected \"%s\" and the path in: %s", words, failure.message);
	esk_tap *tap;
	assert_int_equal(esk_tap_open(ring_path(), 1, &tap, NULL), status);
}

static void poke(uint64_t offset, uint64_t value, size_t size)
{
	int fd = open(ring_path(), O_RDWR);
	assert_int_equal(pwrite(fd, &value, size, (off_t)offset), size);
	close(fd);
}

static void attach_refuses_what_is_not_a_sound_ring(void **state)
{
	static const struct {
		uint64_t offset, value;
		size_t size;
		esk_status status;
		const char *words;
	} cases[] = {
		{0, 0x1234, 8, ESK_ECORRUPT, "is not a ring"},
		{8, 0, 8, ESK_ECORRUPT, "capacity"},
		{8, UINT64_MAX, 8, ESK_ECORRUPT, "capacity"},
		{8, ESK_RING_MIN_BYTES + 1, 8, ESK_ECORRUPT, "capacity"},
		{8, 2 * ESK_RING_MIN_BYTES, 8, ESK_ECORRUPT, "trailer"},
		{40, 5000, 4, ESK_ECORRUPT, "blob"},
		{40, 3, 4, ESK_ECORRUPT, "checksum"},
		{44, 3, 4, ESK_ECORRUPT, "policy"},
		{48, 1, 8, ESK_ECORRUPT, "checksum"},
		{56, 3, 4, ESK_EVERSION, "version 3"},
		{56, 2, 4, ESK_EVERSION, "layout"},
		{60, 2, 4, ESK_EVERSION, "layout"},
		{64, UINT64_MAX & ~7ull, 8, ESK_ECORRUPT, "head"},
		{64, 2 * ESK_RING_MIN_BYTES, 8, ESK_ECORRUPT, "head"},
		{64, 4, 8, ESK_ECORRUPT, "head"},
		{64, ESK_RING_MIN_BYTES - 8, 8, ESK_ECORRUPT, "head"},
		{72, 0, 8, ESK_ECORRUPT, "sequence"},
		{72, 1000000, 8, ESK_ECORRUPT, "sequence"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_BLOCK);
		check_ok(put(ring, 100, 0, 1, err));
		esk_ring_detach(ring);
		poke(cases[i].offset, cases[i].value, cases[i].size);
		expect_attach(cases[i].status, cases[i].words);
	}
	drop_ring(make_ring(ESK_RING_MIN_BYTES, ESK_BLOCK));
	expect_attach(ESK_ENOTFOUND, "");
	esk_ring_detach(make_ring(ESK_RING_MIN_BYTES, ESK_BLOCK));
	assert_int_equal(truncate(ring_path(), 100000), 0);
	expect_attach(ESK_ECORRUPT, "bytes");
	assert_int_equal(truncate(ring_path(), 100), 0);
	expect_attach(ESK_ECORRUPT, "");
	assert_int_equal(truncate(ring_path(), 0), 0);
	expect_attach(ESK_ECORRUPT, "");
	unlink(ring_path());
}

#define EXTENSION (128 + ESK_RING_MIN_BYTES + RING_PAGE_BYTES - 128 + 2 * RING_PAGE_BYTES)
#define FIRST_PLACE (EXTENSION + sizeof(ring_extension))

static void attach_refuses_damaged_consumers_and_declarations(void **state)
{
	const uint64_t trailer = EXTENSION - 2 * RING_PAGE_BYTES;
	const struct {
		uint64_t offset, value;
		size_t size;
		const char *words;
	} cases[] = {
		{trailer + 20, 65, 4, "consumers"},
		{trailer + 20, 2, 4, "checksum"},
		{trailer + 20, 60, 4, "bytes"},
		{trailer + 24, 4097, 8, "declarations"},
		{trailer + 24, UINT64_MAX - 7, 8, "declarations"},
		{trailer + 24, 4096 - 8, 8, "checksum"},
		{trailer + 24, 1 << 20, 8, "bytes"},
		{EXTENSION + 64, 4096 + 8, 8, "declarations"},
		{EXTENSION + 64, 4, 8, "declarations"},
		{EXTENSION + 72, 1000, 8, "declarations"},
		{FIRST_PLACE + 16, 7, 4, "state"},
		{FIRST_PLACE + 16, 2, 4, "state"},
		{FIRST_PLACE + 64, 0, 1, "name"},
		{FIRST_PLACE + 128, 1 << 20, 8, "\"c\""},
		{FIRST_PLACE + 128, 4, 8, "\"c\""},
		{FIRST_PLACE + 192, UINT64_MAX, 8, "\"c\""},
		{FIRST_PLACE + 256, ESK_RING_MIN_BYTES - 8, 8, "\"c\""},
		{64, 1 << 30, 8, "head"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_BLOCK, 3);
		uint32_t number;
		check_ok(esk_ring_declare(ring, "schema", 6, &number, err));
		write_records(ring, 1, 3);
		esk_consumer_close(open_as(ring, "c", false, false));
		if (cases[i].offset == FIRST_PLACE + 192) /* the other copy of the account holds */
			atomic_store(&ring->places[0].account_index, 0);
		if (cases[i].offset == FIRST_PLACE + 256)
			atomic_store(&ring->places[0].account_index, 1);
		esk_ring_detach(ring);
		poke(cases[i].offset, cases[i].value, cases[i].size);
		expect_attach(ESK_ECORRUPT, cases[i].words);
	}
	esk_ring_detach(make_consumed(ESK_RING_MIN_BYTES, ESK_BLOCK, 3));
	assert_int_equal(truncate(ring_path(), EXTENSION + 100), 0);
	expect_attach(ESK_ECORRUPT, "bytes");
	assert_int_equal(truncate(ring_path(), trailer + 10), 0);
	expect_attach(ESK_ECORRUPT, "");
	unlink(ring_path());
}

static void damaged_declarations_are_named_and_not_read(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_BLOCK, 1);
	uint32_t number;
	const void *bytes;
	size_t size;
	esk_error error = {0};
	check_ok(esk_ring_declare(ring, "first", 5, &number, err));
	check_ok(esk_ring_declare(ring, "second", 6, &number, err));
	ring->declarations[8] ^= 1;
	assert_int_equal(esk_ring_declaration(ring, 1, &bytes, &size, &error), ESK_ECORRUPT);
	assert_non_null(strstr(error.message, "declaration 1 has checksum"));
	check_ok(esk_ring_declaration(ring, 2, &bytes, &size, err));
	((ring_declaration *)(void *)ring->declarations)->size_bytes = UINT32_MAX;
	assert_int_equal(esk_ring_declaration(ring, 2, &bytes, &size, &error), ESK_ECORRUPT);
	assert_non_null(strstr(error.message, "does not fit"));
	drop_ring(ring);
}

static void a_place_beyond_the_head_does_not_move_the_tail(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_REJECT, 2);
	esk_consumer *consumer = open_as(ring, "c", false, false);
	while (put(ring, 1000, 0, 0, NULL) == ESK_OK)
		;
	atomic_store(&ring->places[0].held.position, 1ull << 40);
	assert_int_equal(put(ring, 1000, 0, 0, NULL), ESK_EFULL);
	assert_int_equal(atomic_load(&ring->trailer->tail.position), 0);
	esk_consumer_close(consumer);
	drop_ring(ring);
}

static void random_damage_of_a_consumed_ring_never_crashes_nor_hangs(void **state)
{
	uint64_t size = FIRST_PLACE + 2 * sizeof(ring_place) + 4096;
	for (int round = 0; round < 300; round++) {
		esk_policy policy = (esk_policy)(next_random() % 3);
		esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, policy, 2);
		uint32_t number;
		esk_ring_declare(ring, "one", 3, &number, NULL);
		esk_consumer_close(open_as(ring, "c", round % 2 == 0, false));
		while (put(ring, 16 + (uint32_t)(next_random() % 4000), 0, 0, NULL) == ESK_OK &&
			atomic_load(&ring->header->reserve.position) < 100000 && policy != ESK_BLOCK)
			;
		esk_ring_detach(ring);
		uint64_t from = round % 4 == 0 ? EXTENSION : 128;
		for (uint64_t n = 1 + next_random() % 300; n > 0; n--)
			poke(from + next_random() % (size - from), next_random(), 1);
		if (esk_ring_attach(ring_path(), &ring, NULL) != ESK_OK)
			continue;
		const void *bytes;
		size_t bytes_size;
		esk_consumer *consumer;
		esk_ring_declaration(ring, 1, &bytes, &bytes_size, NULL);
		esk_ring_declare(ring, "another", 7, &number, NULL);
		if (esk_consumer_open(ring, "c", NULL, &consumer, NULL) == ESK_OK) {
			bool found = true;
			esk_ring_record record;
			uint64_t reads = 0;
			while (esk_consumer_read(consumer, &record, &found, NULL) != ESK_OK || found)
				assert_true(++reads <= ESK_RING_MIN_BYTES / 8);
			esk_consumer_release(consumer, UINT64_MAX);
			esk_consumer_close(consumer);
		}
		esk_ring_stats stats;
		esk_ring_get_stats(ring, &stats);
		esk_ring_detach(ring);
	}
	unlink(ring_path());
}

static void create_refuses_bad_options_and_taken_names(void **state)
{
	esk_ring *ring = NULL;
	esk_ring_options options = {.struct_size = sizeof options, .capacity_bytes = 1000};
	assert_int_equal(esk_ring_create(ring_path(), &options, &ring, NULL), ESK_EINVAL);
	options.capacity_bytes = ESK_RING_MIN_BYTES;
	options.blob_bytes = 5;
	assert_int_equal(esk_ring_create(ring_path(), &options, &ring, NULL), ESK_EINVAL);
	options.blob_bytes = 0;
	esk_ring *first = make_ring(ESK_RING_MIN_BYTES, ESK_BLOCK);
	assert_int_equal(esk_ring_create(ring_path(), &options, &ring, NULL), ESK_EEXIST);
	assert_null(ring);
	check_ok(put(first, 100, 0, 0, err)); /* the other's ring is untouched */
	drop_ring(first);
}

static void damaged_record_is_reported_and_passed(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_BLOCK);
	esk_ring_slot slots[5];
	for (int i = 0; i < 5; i++) {
		check_ok(esk_ring_reserve(ring, 0, 0, 100, &slots[i], err));
		write_proof(slots[i].payload, 100, 0, (uint64_t)i + 1);
		esk_ring_publish(ring, &slots[i]);
	}
	((ring_record *)slots[1].payload - 1)->payload_bytes ^= 0x40;
	((ring_record *)slots[4].payload - 1)->check ^= 1;
	check_ok(esk_ring_drain_begin(ring, err));
	esk_ring_record record;
	bool found;
	esk_error failure;
	assert_true(take(ring, &record));
	assert_int_equal(esk_ring_read(ring, &record, &found, &failure), ESK_ECORRUPT);
	char words[32];
	snprintf(words, sizeof words, "position %llu", (unsigned long long)slots[1].position);
	assert_non_null(strstr(failure.message, words));
	assert_false(found);
	for (uint64_t n = 3; n <= 4; n++) {
		assert_true(take(ring, &record));
		assert_int_equal(record.sequence, n);
		assert_int_equal(record.lost_before_records, 0);
	}
	assert_int_equal(esk_ring_read(ring, &record, &found, &failure), ESK_ECORRUPT);
	assert_false(take(ring, &record));
	check_ok(put(ring, 100, 0, 6, err));
	assert_true(take(ring, &record));
	assert_int_equal(record.sequence, 6);
	esk_ring_rewind(ring);
	check_ok(esk_ring_skip_to(ring, 2, err)); /* the damage is committed already */
	assert_true(take(ring, &record));
	assert_int_equal(record.sequence, 3);
	assert_int_equal(esk_ring_skip_to(ring, 4, &failure), ESK_OK);
	assert_int_equal(esk_ring_read(ring, &record, &found, &failure), ESK_ECORRUPT);
	esk_ring_rewind(ring);
	assert_int_equal(esk_ring_skip_to(ring, 1, &failure), ESK_OK);
	assert_int_equal(esk_ring_read(ring, &record, &found, &failure), ESK_ECORRUPT);
	drop_ring(ring);
}

static void record_that_reaches_beyond_the_head_is_damage(void **state)
{
	for (int policy = ESK_BLOCK; policy <= ESK_OVERWRITE; policy++) {
		esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, (esk_policy)policy);
		esk_ring_slot slot;
		check_ok(esk_ring_reserve(ring, 0, 0, 100, &slot, err));
		esk_ring_publish(ring, &slot);
		ring_record *record = (ring_record *)slot.payload - 1;
		record->payload_bytes = 60000;
		record->check = esk_ring_record_check(ring, 0, 1, 60000, 0, 0);
		check_ok(esk_ring_drain_begin(ring, err));
		esk_ring_record out;
		bool found;
		assert_int_equal(esk_ring_read(ring, &out, &found, NULL), ESK_ECORRUPT);
		for (uint64_t n = 2; n < 30; n++) {
			check_ok(put(ring, 4000, 0, n, err));
			assert_true(take(ring, &out));
			assert_int_equal(out.sequence, n);
			esk_ring_release(ring, policy == ESK_BLOCK ? out.next_position : 0);
		}
		drop_ring(ring);
	}
}

static void overwriting_goes_on_over_damage(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_OVERWRITE);
	for (uint64_t n = 1; n <= 1000; n++) {
		esk_ring_slot slot;
		check_ok(esk_ring_reserve(ring, 0, 0, 1000, &slot, err));
		write_proof(slot.payload, 1000, 0, n);
		esk_ring_publish(ring, &slot);
		if (next_random() % 8 == 0)
			((ring_record *)slot.payload - 1)->check ^= 1u << next_random() % 32;
	}
	check_ok(esk_ring_drain_begin(ring, err));
	uint64_t damaged = 0;
	uint64_t last = 0;
	for (bool found = true; found;) {
		esk_ring_record record;
		if (esk_ring_read(ring, &record, &found, NULL) != ESK_OK) {
			damaged++;
			found = true;
		} else if (found) {
			proof p = read_proof(record.payload, record.size_bytes);
			assert_int_equal(p.n, record.sequence);
			assert_true(p.n > last);
			last = p.n;
		}
	}
	assert_true(last + damaged >= 1000 - 8);
	drop_ring(ring);
}

static void damaged_payload_is_found_by_its_checksum(void **state)
{
	esk_ring_options options = {.struct_size = sizeof options,
		.capacity_bytes = ESK_RING_MIN_BYTES,
		.payload_checksums = true,
		.prefault = true};
	esk_ring *ring;
	unlink(ring_path());
	check_ok(esk_ring_create(ring_path(), &options, &ring, err));
	esk_ring_slot slot;
	for (uint64_t n = 1; n <= 3; n++) {
		check_ok(esk_ring_reserve(ring, 0, 0, 5000, &slot, err));
		write_proof(slot.payload, 5000, 0, n);
		esk_ring_publish(ring, &slot);
		if (n == 2)
			((unsigned char *)slot.payload)[4999] ^= 1;
	}
	check_ok(esk_ring_drain_begin(ring, err));
	esk_ring_record record;
	bool found;
	assert_true(take(ring, &record));
	assert_int_equal(esk_ring_read(ring, &record, &found, NULL), ESK_ECORRUPT);
	assert_true(take(ring, &record));
	assert_int_equal(record.sequence, 3);
	drop_ring(ring);
}

static void random_damage_never_crashes_nor_hangs(void **state)
{
	for (int round = 0; round < 300; round++) {
		esk_policy policy = (esk_policy)(next_random() % 3);
		esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, policy);
		while (put(ring, 16 + (uint32_t)(next_random() % 4000), 0, 0, NULL) == ESK_OK &&
			atomic_load(&ring->header->reserve.position) < 100000 && policy != ESK_BLOCK)
			;
		esk_ring_detach(ring);
		uint64_t size = RING_HEADER_BYTES + ESK_RING_MIN_BYTES + RING_PAGE_BYTES +
				sizeof(ring_trailer) - 4096;
		for (uint64_t n = 1 + next_random() % 2000; n > 0; n--)
			poke(128 + next_random() % (size - 128), next_random(), 1);
		if (esk_ring_attach(ring_path(), &ring, NULL) != ESK_OK)
			continue;
		if (esk_ring_drain_begin(ring, NULL) == ESK_OK) {
			bool found = true;
			esk_ring_record record;
			uint64_t reads = 0;
			while (esk_ring_read(ring, &record, &found, NULL) != ESK_OK || found)
				assert_true(++reads <= ESK_RING_MIN_BYTES / 8);
			esk_ring_release(ring, UINT64_MAX);
		}
		esk_ring_detach(ring);
	}
	unlink(ring_path());
}

int main(int argc, char **argv)
{
	start_random(argc > 1 ? argv[1] : NULL);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tap_sees_every_nth_record),
		cmocka_unit_test(slow_tap_is_dropped_behind_and_told_so),
		cmocka_unit_test(tap_racing_with_a_producer_never_sees_torn_records),
		cmocka_unit_test(attach_refuses_what_is_not_a_sound_ring),
		cmocka_unit_test(attach_refuses_damaged_consumers_and_declarations),
		cmocka_unit_test(damaged_declarations_are_named_and_not_read),
		cmocka_unit_test(a_place_beyond_the_head_does_not_move_the_tail),
		cmocka_unit_test(random_damage_of_a_consumed_ring_never_crashes_nor_hangs),
		cmocka_unit_test(create_refuses_bad_options_and_taken_names),
		cmocka_unit_test(damaged_record_is_reported_and_passed),
		cmocka_unit_test(record_that_reaches_beyond_the_head_is_damage),
		cmocka_unit_test(overwriting_goes_on_over_damage),
		cmocka_unit_test(damaged_payload_is_found_by_its_checksum),
		cmocka_unit_test(random_damage_never_crashes_nor_hangs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
