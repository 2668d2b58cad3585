/* The ring within one process: places, policies, draining. Taps and damage: test_ring_damage.c; several
 * processes: test_ring_processes.c. */
#include "ring_support.h"

#include <time.h>

/* ---- order, places ---- */

static void records_come_back_in_order_and_in_place(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_BLOCK);
	assert_int_equal(esk_ring_stream_id(ring), 0x0123456789ABCDEFu);
	assert_int_equal(esk_ring_boot_id(ring), esk_os_posix()->boot_id(esk_os_posix()));
	uint32_t blob_bytes;
	assert_memory_equal(esk_ring_blob(ring, &blob_bytes), "blob", 4);
	assert_int_equal(blob_bytes, 4);
	for (uint64_t n = 1; n <= 5; n++)
		check_ok(put(ring, (uint32_t)(16 + n), 3, n, err));
	check_ok(esk_ring_drain_begin(ring, err));
	esk_ring_record record;
	for (uint64_t n = 1; n <= 5; n++) {
		assert_true(take(ring, &record));
		assert_int_equal(record.sequence, n);
		assert_int_equal(record.stream, 3);
		assert_int_equal(record.kind, 7);
		assert_int_equal(record.size_bytes, 16 + n);
		assert_int_equal((uintptr_t)record.payload % 8, 0);
		assert_int_equal(read_proof(record.payload, record.size_bytes).n, n);
		assert_int_equal(record.lost_before_records, 0);
	}
	assert_false(take(ring, &record));
	drop_ring(ring);
}

static void records_are_never_split_at_the_end_of_the_region(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_REJECT);
	check_ok(esk_ring_drain_begin(ring, err));
	uint64_t written = 0;
	uint64_t read = 0;
	esk_ring_record record;
	while (written < 20000) {
		uint32_t size = 16 + (uint32_t)(next_random() % (next_random() % 8 == 0 ? 16000 : 200));
		esk_status status = put(ring, size, size, written + 1, NULL);
		written += status == ESK_OK;
		if (status == ESK_OK && next_random() % 4 != 0)
			continue;
		while (take(ring, &record)) {
			assert_int_equal(record.sequence, ++read);
			proof p = read_proof(record.payload, record.size_bytes);
			assert_int_equal(p.n, read);
			assert_int_equal(p.who, record.size_bytes);
			if (next_random() % 3 == 0)
				break;
		}
		esk_ring_release(ring, read > 0 ? record.next_position : 0);
	}
	esk_ring_stats stats;
	esk_ring_get_stats(ring, &stats);
	assert_int_equal(stats.last_sequence, written);
	assert_true(stats.head_position > 20 * ESK_RING_MIN_BYTES);
	assert_int_equal(atomic_load(&ring->header->write_head), stats.head_position);
	assert_int_equal(atomic_load(&ring->header->read_tail), stats.tail_position);
	assert_int_equal(atomic_load(&ring->header->write_epoch), stats.head_position / ESK_RING_MIN_BYTES);
	drop_ring(ring);
}

static void largest_payload_fits_and_one_byte_more_does_not(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_REJECT);
	uint32_t most = (uint32_t)esk_ring_max_payload(ring);
	esk_ring_slot slot;
	assert_int_equal(esk_ring_reserve(ring, 0, 0, most + 1, &slot, NULL), ESK_ERANGE);
	for (int i = 0; i < 4; i++)
		check_ok(put(ring, most, 0, 0, err));
	assert_int_equal(put(ring, 16, 0, 0, NULL), ESK_EFULL);
	drop_ring(ring);
}

static void empty_payloads_are_records_too(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_REJECT);
	check_ok(esk_ring_drain_begin(ring, err));
	esk_ring_record record;
	for (uint64_t n = 1; n < 10000; n++) {
		esk_ring_slot slot;
		check_ok(esk_ring_reserve(ring, 0, 0, 0, &slot, err));
		esk_ring_publish(ring, &slot);
		assert_true(take(ring, &record));
		assert_int_equal(record.sequence, n);
		assert_int_equal(record.size_bytes, 0);
		esk_ring_release(ring, record.next_position);
	}
	drop_ring(ring);
}

/* ---- policies ---- */

static void reject_refuses_when_full_and_takes_again_after_release(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_REJECT);
	uint64_t n = 0;
	esk_error failure;
	while (put(ring, 1000, 0, n, &failure) == ESK_OK)
		n++;
	assert_int_equal(n, ESK_RING_MIN_BYTES / 1032);
	assert_int_equal(failure.code, ESK_EFULL);
	assert_int_equal(put(ring, 1000, 0, n, NULL), ESK_EFULL);
	check_ok(esk_ring_drain_begin(ring, err));
	esk_ring_record record;
	assert_true(take(ring, &record));
	assert_int_equal(put(ring, 1000, 0, n, NULL), ESK_EFULL); /* read is not released */
	for (int i = 0; i < 3; i++)
		assert_true(take(ring, &record));
	esk_ring_release(ring, record.next_position);
	assert_int_equal(put(ring, 1000, 0, n, NULL), ESK_OK);
	drop_ring(ring);
}

static void block_gives_up_after_its_time_limit(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_BLOCK);
	esk_error failure;
	uint64_t start = 0;
	esk_status status = ESK_OK;
	while (status == ESK_OK) {
		start = esk_monotonic_ns();
		status = put(ring, 8000, 0, 0, &failure);
	}
	assert_int_equal(status, ESK_ETIMEDOUT);
	assert_true(esk_monotonic_ns() - start >= 50000000);
	assert_non_null(strstr(failure.message, "nobody drains it"));
	drop_ring(ring);
}

static void *release_later(void *arg)
{
	esk_ring *ring = arg;
	nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	esk_ring_record record;
	bool found = false;
	for (int i = 0; i < 4; i++)
		esk_ring_read(ring, &record, &found, NULL);
	if (found)
		esk_ring_release(ring, record.next_position);
	return NULL;
}

static void block_goes_on_as_soon_as_there_is_room(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_BLOCK);
	check_ok(esk_ring_drain_begin(ring, err));
	for (int i = 0; i < 8; i++)
		check_ok(put(ring, 8000, 0, 0, err));
	pthread_t thread;
	pthread_create(&thread, NULL, release_later, ring);
	check_ok(put(ring, 8000, 0, 8, err));
	pthread_join(thread, NULL);
	drop_ring(ring);
}

static void *reserve_one(void *arg)
{
	esk_ring_slot slot;
	return (void *)(uintptr_t)esk_ring_reserve(arg, 0, 0, 8000, &slot, NULL);
}

static void seal_refuses_reservations_and_releases_blocked_ones(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_BLOCK);
	ring->block_timeout_ns = UINT64_MAX;
	for (int i = 0; i < 8; i++)
		check_ok(put(ring, 8000, 0, 0, err));
	pthread_t thread;
	pthread_create(&thread, NULL, reserve_one, ring);
	nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	esk_ring_seal(ring);
	void *status;
	pthread_join(thread, &status);
	assert_int_equal((uintptr_t)status, ESK_ECLOSED);
	esk_ring *other;
	check_ok(esk_ring_attach(ring_path(), &other, err));
	assert_int_equal(put(other, 16, 0, 0, NULL), ESK_ECLOSED);
	esk_ring_stats stats;
	esk_ring_get_stats(other, &stats);
	assert_int_equal(stats.last_sequence, 8);
	esk_ring_detach(other);
	drop_ring(ring);
}

/* ---- overwriting ---- */

static void overwrite_evicts_whole_oldest_records_and_counts_them(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_OVERWRITE);
	esk_ring_stats stats;
	for (uint64_t n = 1; n <= 100; n++)
		check_ok(put(ring, 1000, 0, n, err));
	esk_ring_get_stats(ring, &stats);
	uint64_t held = ESK_RING_MIN_BYTES / 1032;
	assert_in_range(100 - stats.lost_records, held - 1, held);
	uint64_t lost = stats.lost_records;
	check_ok(esk_ring_drain_begin(ring, err));
	esk_ring_record record;
	assert_true(take(ring, &record));
	assert_int_equal(record.lost_before_records, lost);
	assert_int_equal(record.lost_before_bytes, stats.tail_position);
	assert_int_equal(record.sequence, lost + 1);
	for (uint64_t n = lost + 2; n <= 100; n++) {
		assert_true(take(ring, &record));
		assert_int_equal(record.sequence, n);
		assert_int_equal(record.lost_before_records, 0);
	}
	assert_false(take(ring, &record));
	esk_ring_get_stats(ring, &stats);
	assert_int_equal(stats.lost_records, lost);
	drop_ring(ring);
}

static void evicted_abandoned_records_are_not_lost(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_OVERWRITE);
	check_ok(esk_ring_drain_begin(ring, err));
	uint64_t published = 0;
	uint64_t read = 0;
	uint64_t lost = 0;
	esk_ring_record record;
	esk_ring_stats stats;
	for (int i = 0; i < 20000; i++) {
		esk_ring_slot slot;
		check_ok(esk_ring_reserve(ring, 0, 0, (uint32_t)(next_random() % 3000), &slot, err));
		if (next_random() % 3 == 0) {
			esk_ring_abandon(ring, &slot);
		} else {
			esk_ring_publish(ring, &slot);
			published++;
		}
		for (uint64_t n = next_random() % 64 == 0 ? next_random() % 60 : 0;
			n > 0 && take(ring, &record); n--) {
			read++;
			lost += record.lost_before_records;
			if (next_random() % 4 == 0)
				esk_ring_release(ring, record.next_position);
		}
		if (next_random() % 512 == 0) {
			while (take(ring, &record)) {
				read++;
				lost += record.lost_before_records;
			}
			esk_ring_get_stats(ring, &stats);
			assert_int_equal(read + lost, published);
			assert_int_equal(stats.lost_records, lost);
		}
	}
	assert_true(lost > 100 && read > 100);
	drop_ring(ring);
}

static void oldest_unpublished_record_is_not_evicted(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_OVERWRITE);
	esk_ring_slot slot;
	check_ok(esk_ring_reserve(ring, 0, 0, 16, &slot, err));
	esk_status status = ESK_OK;
	for (int i = 0; i < 9 && status == ESK_OK; i++)
		status = put(ring, 8000, 0, 0, NULL);
	assert_int_equal(status, ESK_ETIMEDOUT);
	write_proof(slot.payload, 16, 5, 5);
	esk_ring_publish(ring, &slot);
	check_ok(put(ring, 8000, 0, 0, err));
	drop_ring(ring);
}

static void evicted_record_is_not_valid_and_counts_as_lost(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_OVERWRITE);
	check_ok(esk_ring_drain_begin(ring, err));
	check_ok(put(ring, 100, 0, 1, err));
	esk_ring_record record;
	assert_true(take(ring, &record));
	unsigned char copy[100];
	esk_ring_copy(copy, record.payload, record.size_bytes);
	assert_true(esk_ring_still_valid(ring, &record));
	for (uint64_t n = 2; n < 100; n++)
		check_ok(put(ring, 1000, 0, n, err));
	assert_false(esk_ring_still_valid(ring, &record));
	assert_false(esk_ring_still_valid(ring, &record));
	esk_ring_stats stats;
	uint64_t read = 0;
	uint64_t lost = 1;
	while (take(ring, &record)) {
		read++;
		lost += record.lost_before_records;
	}
	assert_int_equal(read + lost, 99);
	esk_ring_get_stats(ring, &stats);
	assert_int_equal(stats.lost_records, lost);
	drop_ring(ring);
}

static void rewind_reads_again_and_reports_what_was_evicted(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_OVERWRITE);
	check_ok(esk_ring_drain_begin(ring, err));
	esk_ring_record record;
	for (uint64_t n = 1; n <= 10; n++)
		check_ok(put(ring, 1000, 0, n, err));
	for (uint64_t n = 1; n <= 6; n++)
		assert_true(take(ring, &record));
	uint64_t sixth = record.next_position;
	for (uint64_t n = 7; n <= 10; n++)
		assert_true(take(ring, &record));
	esk_ring_release(ring, sixth);
	esk_ring_rewind(ring);
	assert_true(take(ring, &record));
	assert_int_equal(record.sequence, 7);
	assert_int_equal(record.lost_before_records, 0);
	esk_ring_rewind(ring);
	for (uint64_t n = 11; n <= 80; n++)
		check_ok(put(ring, 1000, 0, n, err));
	assert_true(take(ring, &record));
	assert_int_equal(record.lost_before_records, record.sequence - 7);
	assert_true(record.lost_before_records > 3);
	uint64_t lost = record.lost_before_records;
	esk_ring_rewind(ring);
	assert_true(take(ring, &record));
	assert_int_equal(record.lost_before_records, lost);
	esk_ring_stats stats;
	esk_ring_get_stats(ring, &stats);
	assert_int_equal(stats.lost_records, lost);
	drop_ring(ring);
}

static void losses_behind_a_release_are_counted_once(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_OVERWRITE);
	check_ok(esk_ring_drain_begin(ring, err));
	esk_ring_record record;
	uint64_t n = 0;
	while (n < 100)
		check_ok(put(ring, 1000, 0, ++n, err));
	assert_true(take(ring, &record));
	uint64_t lost = record.lost_before_records;
	uint64_t released = record.sequence;
	uint64_t position = record.next_position;
	while (n < 200)
		check_ok(put(ring, 1000, 0, ++n, err));
	assert_true(take(ring, &record));
	assert_true(lost > 0 && record.lost_before_records > 0);
	/* The second loss lies behind what is released: after rewinding it is found again. */
	esk_ring_release(ring, position);
	esk_ring_rewind(ring);
	esk_ring_stats stats;
	assert_true(take(ring, &record));
	esk_ring_get_stats(ring, &stats);
	assert_true(record.sequence > released + 1);
	if (record.lost_before_records >
		0) /* else the ring did not show the place that was released any more */
		assert_int_equal(stats.lost_records, lost + record.sequence - released - 1);
	/* The one before the released place is not. */
	esk_ring_release(ring, record.next_position);
	uint64_t all = stats.lost_records;
	esk_ring_rewind(ring);
	esk_ring_get_stats(ring, &stats);
	assert_int_equal(stats.lost_records, all);
	assert_true(take(ring, &record));
	assert_int_equal(record.lost_before_records, 0);
	drop_ring(ring);
}

static void overwrite_race_is_counted_exactly(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_OVERWRITE);
	check_ok(esk_ring_drain_begin(ring, err));
	race races[2];
	pthread_t threads[2];
	for (uint64_t i = 0; i < 2; i++) {
		races[i] = (race){.ring = ring, .who = i, .records = 60000, .seed = next_random()};
		pthread_create(&threads[i], NULL, produce_fast, &races[i]);
	}
	unsigned char copy[2048];
	uint64_t last[2] = {0};
	uint64_t read = 0;
	uint64_t lost = 0;
	for (;;) {
		bool done = races[0].done && races[1].done;
		esk_ring_record record;
		if (!take(ring, &record)) {
			if (done)
				break;
			sched_yield();
			continue;
		}
		lost += record.lost_before_records;
		assert_true(record.size_bytes <= sizeof copy);
		esk_ring_copy(copy, record.payload, record.size_bytes);
		if (!esk_ring_still_valid(ring, &record)) {
			lost++;
			continue;
		}
		read++;
		proof p = read_proof(copy, record.size_bytes);
		assert_true(p.who < 2 && p.n > last[p.who]);
		last[p.who] = p.n;
		if (read % 64 == 0)
			esk_ring_release(ring, record.next_position);
		if (read % 5000 == 0)
			nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(read + lost, 120000);
	esk_ring_stats stats;
	esk_ring_get_stats(ring, &stats);
	assert_int_equal(stats.lost_records, lost);
	printf("overwrite: read %llu, lost %llu\n", (unsigned long long)read, (unsigned long long)lost);
	drop_ring(ring);
}

/* ---- threads ---- */

static void threads_are_drained_exactly(void **state)
{
	esk_ring *ring = make_ring(4 * ESK_RING_MIN_BYTES, ESK_BLOCK);
	ring->block_timeout_ns = 20000000000u;
	check_ok(esk_ring_drain_begin(ring, err));
	race races[4];
	pthread_t threads[4];
	for (uint64_t i = 0; i < 4; i++) {
		races[i] = (race){.ring = ring, .who = i, .records = 20000, .seed = next_random()};
		pthread_create(&threads[i], NULL, produce_fast, &races[i]);
	}
	uint64_t last[4] = {0};
	for (uint64_t n = 1; n <= 80000; n++) {
		esk_ring_record record;
		while (!take(ring, &record))
			esk_ring_drain_wait(ring, 1000000);
		assert_int_equal(record.sequence, n);
		proof p = read_proof(record.payload, record.size_bytes);
		assert_true(p.who < 4);
		assert_int_equal(p.n, ++last[p.who]);
		if (n % 16 == 0 || n == 80000)
			esk_ring_release(ring, record.next_position);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	drop_ring(ring);
}

/* ---- the drain ---- */

static void unreleased_records_are_read_again_after_rewind(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_BLOCK);
	check_ok(esk_ring_drain_begin(ring, err));
	esk_ring_record record;
	for (uint64_t n = 1; n <= 6; n++)
		check_ok(put(ring, 100, 0, n, err));
	for (uint64_t n = 1; n <= 4; n++)
		assert_true(take(ring, &record));
	uint64_t fourth = record.next_position;
	for (uint64_t n = 5; n <= 6; n++)
		assert_true(take(ring, &record));
	esk_ring_release(ring, fourth);
	esk_ring_rewind(ring);
	for (uint64_t n = 5; n <= 6; n++) {
		assert_true(take(ring, &record));
		assert_int_equal(record.sequence, n);
	}
	assert_false(take(ring, &record));
	esk_ring_release(ring, record.next_position);
	esk_ring_stats stats;
	esk_ring_get_stats(ring, &stats);
	assert_int_equal(stats.used_bytes, 0);
	assert_int_equal(stats.unread_bytes, 0);
	drop_ring(ring);
}

static void skip_to_passes_what_is_committed(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_OVERWRITE);
	for (uint64_t n = 1; n <= 100; n++)
		check_ok(put(ring, 1000, 0, n, err));
	esk_ring_record record;
	esk_ring_stats stats;
	check_ok(esk_ring_drain_begin(ring, err));
	check_ok(esk_ring_skip_to(ring, 60, err));
	assert_true(take(ring, &record));
	assert_int_equal(record.sequence, 61);
	assert_int_equal(record.lost_before_records, 0); /* the evicted ones were committed */
	esk_ring_get_stats(ring, &stats);
	assert_int_equal(stats.lost_records, 0);
	esk_ring_rewind(ring);
	check_ok(esk_ring_skip_to(ring, 7, err));
	assert_true(take(ring, &record));
	assert_int_equal(record.lost_before_records, record.sequence - 8);
	check_ok(esk_ring_skip_to(ring, 1000, err));
	assert_false(take(ring, &record));
	check_ok(put(ring, 1000, 0, 101, err));
	assert_true(take(ring, &record));
	assert_int_equal(record.sequence, 101);
	drop_ring(ring);
}

static void *wake_later(void *arg)
{
	nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	esk_ring_wake(arg);
	return NULL;
}

static void *fill_quarter_later(void *arg)
{
	nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	for (int i = 0; i < 3; i++)
		put(arg, 8000, 0, 0, NULL);
	return NULL;
}

static uint64_t time_of_wait(esk_ring *ring, uint64_t timeout_ns)
{
	uint64_t start = esk_monotonic_ns();
	esk_ring_drain_wait(ring, timeout_ns);
	return esk_monotonic_ns() - start;
}

static void drain_waits_for_a_flush_a_quarter_or_its_interval(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_BLOCK);
	check_ok(esk_ring_drain_begin(ring, err));
	assert_true(time_of_wait(ring, 20000000) >= 20000000);
	pthread_t thread;
	pthread_create(&thread, NULL, wake_later, ring);
	assert_true(time_of_wait(ring, 10000000000u) < 5000000000u);
	pthread_join(thread, NULL);
	pthread_create(&thread, NULL, fill_quarter_later, ring);
	assert_true(time_of_wait(ring, 10000000000u) < 5000000000u);
	pthread_join(thread, NULL);
	assert_true(time_of_wait(ring, 10000000000u) < 5000000000u); /* still a quarter */
	esk_ring_record record;
	while (take(ring, &record))
		;
	assert_true(time_of_wait(ring, 20000000) >= 20000000); /* read, though not released */
	esk_ring_wake(ring);
	assert_true(time_of_wait(ring, 10000000000u) < 5000000000u);
	drop_ring(ring);
}

static void filled_ring_behind_an_open_reservation_does_not_spin(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_BLOCK);
	check_ok(esk_ring_drain_begin(ring, err));
	esk_ring_slot slot;
	check_ok(esk_ring_reserve(ring, 0, 0, 16, &slot, err));
	for (int i = 0; i < 4; i++)
		check_ok(put(ring, 8000, 0, 0, err));
	assert_true(time_of_wait(ring, 20000000) >= 20000000);
	write_proof(slot.payload, 16, 0, 0);
	esk_ring_publish(ring, &slot);
	assert_true(time_of_wait(ring, 10000000000u) < 5000000000u);
	drop_ring(ring);
}

int main(int argc, char **argv)
{
	start_random(argc > 1 ? argv[1] : NULL);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_come_back_in_order_and_in_place),
		cmocka_unit_test(records_are_never_split_at_the_end_of_the_region),
		cmocka_unit_test(largest_payload_fits_and_one_byte_more_does_not),
		cmocka_unit_test(empty_payloads_are_records_too),
		cmocka_unit_test(reject_refuses_when_full_and_takes_again_after_release),
		cmocka_unit_test(block_gives_up_after_its_time_limit),
		cmocka_unit_test(block_goes_on_as_soon_as_there_is_room),
		cmocka_unit_test(seal_refuses_reservations_and_releases_blocked_ones),
		cmocka_unit_test(overwrite_evicts_whole_oldest_records_and_counts_them),
		cmocka_unit_test(evicted_abandoned_records_are_not_lost),
		cmocka_unit_test(oldest_unpublished_record_is_not_evicted),
		cmocka_unit_test(evicted_record_is_not_valid_and_counts_as_lost),
		cmocka_unit_test(rewind_reads_again_and_reports_what_was_evicted),
		cmocka_unit_test(losses_behind_a_release_are_counted_once),
		cmocka_unit_test(overwrite_race_is_counted_exactly),
		cmocka_unit_test(threads_are_drained_exactly),
		cmocka_unit_test(unreleased_records_are_read_again_after_rewind),
		cmocka_unit_test(skip_to_passes_what_is_committed),
		cmocka_unit_test(drain_waits_for_a_flush_a_quarter_or_its_interval),
		cmocka_unit_test(filled_ring_behind_an_open_reservation_does_not_spin),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
