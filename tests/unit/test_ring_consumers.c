/* Named consumers and declarations within one process. Several processes and their deaths:
 * test_ring_consumer_deaths.c. */
#include "ring_support.h"

#include <sys/stat.h>

/* ---- places ---- */

static void every_consumer_reads_every_record(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_BLOCK, 3);
	esk_consumer *a = open_as(ring, "a", false, false);
	esk_consumer *b = open_as(ring, "b", true, false);
	write_records(ring, 1, 50);
	esk_consumer *late = open_as(ring, "late", false, false);
	for (uint64_t n = 1; n <= 50; n++) {
		expect_record(a, n);
		expect_record(b, n);
		expect_record(late, n);
	}
	esk_ring_record record;
	assert_false(next_record(a, &record));
	assert_int_equal(stats_of(a).read_records, 50);
	assert_int_equal(stats_of(a).read_bytes, 5000);
	assert_int_equal(stats_of(a).lag_bytes, 0);
	esk_consumer_close(a);
	esk_consumer_close(b);
	esk_consumer_close(late);
	drop_ring(ring);
}

static void a_place_is_kept_under_its_name(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_BLOCK, 2);
	write_records(ring, 1, 10);
	esk_consumer *consumer = open_as(ring, "writer", false, false);
	esk_ring_record record = {0};
	for (int i = 0; i < 4; i++)
		assert_true(next_record(consumer, &record));
	esk_consumer_release(consumer, record.next_position);
	assert_true(next_record(consumer, &record));
	esk_consumer_close(consumer);
	esk_ring_detach(ring);
	check_ok(esk_ring_attach(ring_path(), &ring, err));
	consumer = open_as(ring, "writer", false, false);
	expect_record(consumer, 5); /* read by the first, not released */
	expect_record(consumer, 6);
	esk_consumer_rewind(consumer);
	for (uint64_t n = 5; n <= 10; n++)
		expect_record(consumer, n);
	esk_consumer_close(consumer);
	drop_ring(ring);
}

static void a_record_in_the_middle_may_be_released(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_BLOCK, 1);
	esk_consumer *consumer = open_as(ring, "c", false, false);
	esk_ring_slot slot;
	esk_ring_record record, third = {0};
	write_records(ring, 1, 2);
	check_ok(esk_ring_reserve(ring, 0, 0, 64, &slot, err));
	esk_ring_abandon(ring, &slot); /* sequence 3 */
	write_records(ring, 4, 8);
	for (int i = 0; i < 7; i++) {
		assert_true(next_record(consumer, &record));
		if (i == 3)
			third = record; /* sequence 5 */
	}
	esk_consumer_release(consumer, third.next_position);
	esk_consumer_rewind(consumer);
	expect_record(consumer, 6);
	esk_consumer_release(consumer, 0); /* before what is released: nothing */
	esk_consumer_rewind(consumer);
	expect_record(consumer, 6);
	esk_consumer_close(consumer);
	drop_ring(ring);
}

static void a_mark_is_kept_with_what_was_released(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_BLOCK, 1);
	esk_consumer *consumer = open_as(ring, "c", false, false);
	esk_ring_record record;
	assert_int_equal(esk_consumer_mark(consumer), 0);
	esk_consumer_set_mark(consumer, 17);
	write_records(ring, 1, 3);
	esk_consumer_close(consumer);
	consumer = open_as(ring, "c", false, false);
	assert_int_equal(esk_consumer_mark(consumer), 17);
	assert_true(next_record(consumer, &record));
	esk_consumer_release_marked(consumer, record.next_position, 60);
	esk_consumer_close(consumer);
	consumer = open_as(ring, "c", false, false);
	assert_int_equal(esk_consumer_mark(consumer), 60);
	expect_record(consumer, 2);
	esk_consumer_release_marked(consumer, record.next_position, 61); /* the same place */
	assert_int_equal(esk_consumer_mark(consumer), 61);
	esk_consumer_release(consumer, UINT64_MAX);
	assert_int_equal(esk_consumer_mark(consumer), 0);
	esk_consumer_close(consumer);
	check_ok(esk_consumer_remove(ring, "c", err));
	consumer = open_as(ring, "c", false, false);
	assert_int_equal(esk_consumer_mark(consumer), 0);
	esk_consumer_close(consumer);
	drop_ring(ring);
}

static void a_name_is_read_by_one_living_consumer(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_BLOCK, 2);
	esk_consumer *first = open_as(ring, "a", false, false);
	esk_consumer *second = NULL;
	esk_error error = {0};
	assert_int_equal(esk_consumer_open(ring, "a", NULL, &second, &error), ESK_EBUSY);
	assert_non_null(strstr(error.message, "\"a\""));
	assert_int_equal(esk_consumer_remove(ring, "a", NULL), ESK_EBUSY);
	check_ok(esk_consumer_open(ring, "b", NULL, &second, err));
	esk_consumer *third = NULL;
	assert_int_equal(esk_consumer_open(ring, "c", NULL, &third, &error), ESK_EFULL);
	assert_int_equal(esk_consumer_remove(ring, "c", NULL), ESK_ENOTFOUND);
	esk_consumer_close(second);
	check_ok(esk_consumer_remove(ring, "b", err));
	check_ok(esk_consumer_open(ring, "c", NULL, &third, err));
	static const char *const bad[] = {"", "a/b", "a\nb", ".x"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(esk_consumer_open(ring, bad[i], NULL, &second, NULL), ESK_EINVAL);
	char longest[66];
	memset(longest, 'n', sizeof longest);
	longest[64] = '\0';
	assert_int_equal(esk_consumer_open(ring, longest, NULL, &second, NULL), ESK_EINVAL);
	longest[63] = '\0';
	esk_consumer_close(third);
	check_ok(esk_consumer_remove(ring, "c", err));
	check_ok(esk_consumer_open(ring, longest, NULL, &third, err));
	esk_consumer_info info = {.struct_size = sizeof info};
	assert_true(esk_ring_consumer_at(ring, 1, &info));
	assert_string_equal(info.name, longest);
	assert_int_equal(info.pid, getpid());
	assert_int_equal(esk_ring_consumer_places(ring), 2);
	assert_false(esk_ring_consumer_at(ring, 2, &info));
	esk_consumer_close(third);
	esk_consumer_close(first);
	drop_ring(ring);
}

/* ---- the tail ---- */

static void the_tail_follows_the_slowest_that_must_not_lose(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_REJECT, 3);
	esk_consumer *fast = open_as(ring, "fast", false, false);
	esk_consumer *slow = open_as(ring, "slow", false, false);
	uint64_t written = 0, read = 0;
	while (put(ring, 100, 0, written + 1, NULL) == ESK_OK)
		written++;
	esk_ring_record record = {0};
	while (next_record(fast, &record))
		assert_int_equal(record.sequence, ++read);
	assert_int_equal(read, written);
	esk_consumer_release(fast, record.next_position);
	assert_int_equal(put(ring, 100, 0, 0, NULL), ESK_EFULL); /* the slow one holds it */
	expect_record(slow, 1);
	assert_true(next_record(slow, &record));
	esk_consumer_release(slow, record.next_position);
	write_records(ring, written + 1, written + 2);
	assert_int_equal(put(ring, 100, 0, 0, NULL), ESK_EFULL);
	esk_consumer_close(slow); /* closed, and still holding it */
	assert_int_equal(put(ring, 100, 0, 0, NULL), ESK_EFULL);
	check_ok(esk_consumer_remove(ring, "slow", err));
	write_records(ring, written + 3, 2 * written);
	assert_int_equal(put(ring, 100, 0, 0, NULL), ESK_EFULL);
	esk_consumer_close(fast);
	drop_ring(ring);
}

static void nothing_is_given_back_that_nobody_read(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_REJECT, 2);
	uint64_t written = 0;
	while (put(ring, 100, 0, written + 1, NULL) == ESK_OK)
		written++;
	esk_consumer *lossy = open_as(ring, "lossy", true, false);
	esk_ring_record record = {0};
	while (next_record(lossy, &record))
		;
	esk_consumer_release(lossy, record.next_position);
	assert_int_equal(put(ring, 100, 0, 0, NULL), ESK_EFULL);
	esk_consumer_close(lossy);
	esk_consumer *first = open_as(ring, "first", false, false);
	for (uint64_t n = 1; n <= written; n++)
		expect_record(first, n);
	esk_consumer_close(first);
	drop_ring(ring);
}

static void lossy_consumers_are_told_what_they_missed(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_REJECT, 2);
	esk_consumer *keeper = open_as(ring, "keeper", false, false);
	esk_consumer *lossy = open_as(ring, "lossy", true, false);
	esk_ring_record record = {0};
	uint64_t written = 0, released = 0;
	write_records(ring, 1, 3);
	written = 3;
	expect_record(lossy, 1);
	uint64_t stood = stats_of(lossy).position;
	while (written < 2000) {
		while (put(ring, 100, 0, written + 1, NULL) == ESK_OK)
			written++;
		while (next_record(keeper, &record))
			released = record.sequence;
		esk_consumer_release(keeper, record.next_position);
		check_ok(put(ring, 100, 0, ++written, err)); /* makes the tail follow */
	}
	uint64_t tail = atomic_load(&ring->trailer->tail.position);
	assert_true(next_record(lossy, &record));
	assert_int_equal(record.lost_before_records, record.sequence - 2);
	assert_int_equal(record.lost_before_bytes, tail - stood);
	assert_true(record.sequence <= released + 1);
	assert_int_equal(stats_of(lossy).lost_records, record.sequence - 2);
	uint64_t last = record.sequence;
	while (next_record(lossy, &record)) {
		assert_int_equal(record.sequence, ++last);
		assert_int_equal(record.lost_before_records, 0);
	}
	assert_int_equal(last, written);
	esk_consumer_close(lossy);
	esk_consumer_close(keeper);
	drop_ring(ring);
}

static void overwriting_tells_every_consumer_exactly(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_OVERWRITE, 3);
	esk_consumer *consumers[3] = {open_as(ring, "a", false, false), open_as(ring, "b", true, false),
		open_as(ring, "c", false, false)};
	uint64_t read[3] = {0}, lost[3] = {0};
	uint64_t written = 0, published = 0;
	static const char *const names[] = {"a", "b", "c"};
	for (int round = 0; round < 4000; round++) {
		for (uint64_t n = next_random() % 30; n > 0; n--) {
			esk_ring_slot slot;
			uint32_t size = 16 + (uint32_t)(next_random() % 2000);
			check_ok(esk_ring_reserve(ring, 0, 0, size, &slot, err));
			write_proof(slot.payload, size, 0, ++written);
			if (next_random() % 7 == 0) {
				esk_ring_abandon(ring, &slot);
			} else {
				esk_ring_publish(ring, &slot);
				published++;
			}
		}
		int who = (int)(next_random() % 3);
		esk_ring_record record = {0};
		uint64_t most = next_random() % (who == 0 ? 60 : 20);
		while (most-- > 0 && next_record(consumers[who], &record)) {
			lost[who] += record.lost_before_records;
			if (esk_consumer_still_valid(consumers[who], &record)) {
				read[who]++;
				assert_int_equal(
					read_proof(record.payload, record.size_bytes).n, record.sequence);
			}
			esk_consumer_release(consumers[who], record.next_position);
		}
		if (next_random() % 50 == 0) {
			esk_consumer_close(consumers[who]);
			consumers[who] = open_as(ring, names[who], who == 1, false);
		}
	}
	for (int who = 0; who < 3; who++) {
		esk_ring_record record;
		while (next_record(consumers[who], &record)) {
			lost[who] += record.lost_before_records;
			read[who]++;
		}
		assert_int_equal(read[who] + lost[who], published);
		assert_int_equal(stats_of(consumers[who]).lost_records, lost[who]);
		assert_true(lost[who] > 0);
		esk_consumer_close(consumers[who]);
	}
	drop_ring(ring);
}

static void a_refuted_record_is_told_as_lost_with_the_next(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_OVERWRITE, 1);
	esk_consumer *consumer = open_as(ring, "c", false, false);
	esk_ring_record first, record;
	write_records(ring, 1, 1);
	assert_true(next_record(consumer, &first));
	assert_true(esk_consumer_still_valid(consumer, &first));
	write_records(ring, 2, 3000);
	assert_false(esk_consumer_still_valid(consumer, &first));
	assert_false(esk_consumer_still_valid(consumer, &first));
	assert_true(next_record(consumer, &record));
	assert_int_equal(record.lost_before_records, record.sequence - 1);
	assert_int_equal(record.lost_before_bytes, record.position);
	esk_consumer_close(consumer);
	drop_ring(ring);
}

static void a_consumer_from_the_head_sees_only_what_comes(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_REJECT, 2);
	uint64_t written = 0;
	while (put(ring, 100, 0, written + 1, NULL) == ESK_OK)
		written++;
	esk_consumer *consumer = open_as(ring, "new", false, true);
	esk_ring_record record;
	assert_false(next_record(consumer, &record));
	write_records(ring, written + 1, written + 3); /* what was there before is given back */
	expect_record(consumer, written + 1);
	assert_int_equal(stats_of(consumer).lost_records, 0);
	esk_consumer_close(consumer);
	consumer = open_as(ring, "new", false, true); /* not new any more */
	expect_record(consumer, written + 1);
	esk_consumer_close(consumer);
	drop_ring(ring);
}

static void a_lossy_consumer_may_become_lossless_and_back(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_REJECT, 2);
	esk_consumer *keeper = open_as(ring, "keeper", false, false);
	esk_consumer *other = open_as(ring, "other", true, false);
	esk_ring_record record = {0};
	uint64_t written = 0;
	esk_consumer_close(other);
	while (put(ring, 100, 0, written + 1, NULL) == ESK_OK)
		written++;
	while (next_record(keeper, &record))
		;
	esk_consumer_release(keeper, record.next_position);
	check_ok(put(ring, 100, 0, ++written, err));
	other = open_as(ring, "other", false, false);
	assert_true(next_record(other, &record)); /* all but the newest are given back by now */
	assert_int_equal(record.sequence, written);
	assert_int_equal(record.lost_before_records, written - 1);
	while (put(ring, 100, 0, written + 1, NULL) == ESK_OK)
		written++;
	while (next_record(keeper, &record))
		;
	esk_consumer_release(keeper, record.next_position);
	assert_int_equal(put(ring, 100, 0, 0, NULL), ESK_EFULL); /* lossless now: it holds the tail */
	esk_consumer_close(other);
	other = open_as(ring, "other", true, false);
	check_ok(put(ring, 100, 0, ++written, err));
	esk_consumer_close(other);
	esk_consumer_close(keeper);
	drop_ring(ring);
}

/* ---- declarations ---- */

static void declarations_are_known_by_number_and_bytes(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_OVERWRITE, 1);
	uint32_t number = 0;
	const void *bytes;
	size_t size;
	assert_int_equal(esk_ring_declaration_count(ring), 0);
	check_ok(esk_ring_declare(ring, "schema a", 8, &number, err));
	assert_int_equal(number, 1);
	check_ok(esk_ring_declare(ring, "schema b, longer", 16, &number, err));
	assert_int_equal(number, 2);
	check_ok(esk_ring_declare(ring, "schema a", 8, &number, err));
	assert_int_equal(number, 1);
	check_ok(esk_ring_declare(ring, "schema", 6, &number, err)); /* a part of another is another */
	assert_int_equal(number, 3);
	esk_ring *second;
	check_ok(esk_ring_attach(ring_path(), &second, err));
	assert_int_equal(esk_ring_declaration_count(second), 3);
	check_ok(esk_ring_declaration(second, 2, &bytes, &size, err));
	assert_int_equal(size, 16);
	assert_memory_equal(bytes, "schema b, longer", 16);
	assert_int_equal((uintptr_t)bytes % 8, 0);
	assert_int_equal(esk_ring_declaration(second, 0, &bytes, &size, NULL), ESK_ENOTFOUND);
	assert_int_equal(esk_ring_declaration(second, 4, &bytes, &size, NULL), ESK_ENOTFOUND);
	esk_ring_detach(second);
	drop_ring(ring);
}

static void declarations_end_with_their_room(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_OVERWRITE, 1);
	unsigned char text[4096];
	uint32_t number = 0, count = 0;
	esk_error error = {0};
	memset(text, 'x', sizeof text);
	assert_int_equal(esk_ring_declare(ring, text, 4089, &number, &error), ESK_ENOSPC);
	assert_non_null(strstr(error.message, "declarations_bytes"));
	assert_int_equal(esk_ring_declare(ring, text, 0, &number, NULL), ESK_ERANGE);
	for (;; count++) {
		memcpy(text, &count, sizeof count);
		if (esk_ring_declare(ring, text, 100, &number, &error) != ESK_OK)
			break;
		assert_int_equal(number, count + 1);
	}
	assert_int_equal(error.code, ESK_ENOSPC);
	assert_int_equal(count, 4096 / (8 + 104));
	assert_int_equal(esk_ring_declaration_count(ring), count);
	check_ok(esk_ring_declare(ring, text, 56, &number, err)); /* a smaller one fits */
	drop_ring(ring);
}

static void rings_of_runs_have_neither(void **state)
{
	esk_ring *ring = make_ring(ESK_RING_MIN_BYTES, ESK_BLOCK);
	esk_consumer *consumer;
	uint32_t number;
	esk_error error = {0};
	assert_int_equal(esk_consumer_open(ring, "a", NULL, &consumer, &error), ESK_EUNSUPPORTED);
	assert_int_equal(esk_ring_declare(ring, "a", 1, &number, &error), ESK_ENOSPC);
	assert_int_equal(esk_ring_declaration_count(ring), 0);
	assert_int_equal(esk_ring_consumer_places(ring), 0);
	assert_int_equal(ring->header->version, 1);
	struct stat file;
	assert_int_equal(stat(ring_path(), &file), 0);
	assert_int_equal(file.st_size, 128 + 65536 + 4096 - 128 + 7616);
	assert_int_equal(file.st_mode & 0777, 0600);
	drop_ring(ring);
	ring = make_consumed(ESK_RING_MIN_BYTES, ESK_BLOCK, 1);
	assert_int_equal(ring->header->version, 2);
	assert_int_equal(esk_ring_drain_begin(ring, &error), ESK_EUNSUPPORTED);
	drop_ring(ring);
}

/* ---- waiting ---- */

static void *publish_later(void *arg)
{
	usleep(20000);
	put(arg, 100, 0, 1, NULL);
	return NULL;
}

static void *ask_later(void *arg)
{
	usleep(20000);
	esk_ring_wake(arg);
	return NULL;
}

static void a_consumer_waits_for_a_record_a_call_or_its_time(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_BLOCK, 1);
	esk_consumer *consumer = open_as(ring, "c", false, false);
	pthread_t thread;
	assert_false(esk_consumer_wait(consumer, 1000000));
	pthread_create(&thread, NULL, publish_later, ring);
	assert_true(esk_consumer_wait(consumer, UINT64_MAX));
	expect_record(consumer, 1);
	pthread_join(thread, NULL);
	pthread_create(&thread, NULL, ask_later, ring);
	assert_false(esk_consumer_wait(consumer, UINT64_MAX));
	pthread_join(thread, NULL);
	esk_ring_slot slot;
	check_ok(esk_ring_reserve(ring, 0, 0, 64, &slot, err));
	esk_ring_abandon(ring, &slot);
	assert_false(esk_consumer_wait(consumer, 1000000)); /* nothing that it will be given */
	esk_consumer_close(consumer);
	drop_ring(ring);
}

static void *release_all_later(void *arg)
{
	esk_consumer *consumer = arg;
	esk_ring_record record;
	bool found = true;
	usleep(20000);
	while (esk_consumer_read(consumer, &record, &found, NULL) == ESK_OK && found)
		esk_consumer_release(consumer, record.next_position);
	return NULL;
}

static void a_blocked_producer_goes_on_when_the_slowest_releases(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_BLOCK, 1);
	esk_consumer *consumer = open_as(ring, "c", false, false);
	esk_error error = {0};
	uint64_t written = 0;
	while (put(ring, 1000, 0, written + 1, &error) == ESK_OK)
		written++;
	assert_int_equal(error.code, ESK_ETIMEDOUT);
	assert_non_null(strstr(error.message, "slowest consumer"));
	ring->block_timeout_ns = UINT64_MAX;
	pthread_t thread;
	pthread_create(&thread, NULL, release_all_later, consumer);
	check_ok(put(ring, 1000, 0, written + 1, err));
	pthread_join(thread, NULL);
	esk_consumer_close(consumer);
	drop_ring(ring);
}

int main(int argc, char **argv)
{
	start_random(argc > 1 ? argv[1] : NULL);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_consumer_reads_every_record),
		cmocka_unit_test(a_place_is_kept_under_its_name),
		cmocka_unit_test(a_record_in_the_middle_may_be_released),
		cmocka_unit_test(a_mark_is_kept_with_what_was_released),
		cmocka_unit_test(a_name_is_read_by_one_living_consumer),
		cmocka_unit_test(the_tail_follows_the_slowest_that_must_not_lose),
		cmocka_unit_test(nothing_is_given_back_that_nobody_read),
		cmocka_unit_test(lossy_consumers_are_told_what_they_missed),
		cmocka_unit_test(overwriting_tells_every_consumer_exactly),
		cmocka_unit_test(a_refuted_record_is_told_as_lost_with_the_next),
		cmocka_unit_test(a_consumer_from_the_head_sees_only_what_comes),
		cmocka_unit_test(a_lossy_consumer_may_become_lossless_and_back),
		cmocka_unit_test(declarations_are_known_by_number_and_bytes),
		cmocka_unit_test(declarations_end_with_their_room),
		cmocka_unit_test(rings_of_runs_have_neither),
		cmocka_unit_test(a_consumer_waits_for_a_record_a_call_or_its_time),
		cmocka_unit_test(a_blocked_producer_goes_on_when_the_slowest_releases),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
