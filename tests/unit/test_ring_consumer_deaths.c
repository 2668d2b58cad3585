/* Named consumers in several processes that are killed at random moments, while producers go on. */
#include "ring_support.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#define MARKS (1u << 22)
#define BATCH 8u

static void *shared_bytes(size_t size)
{
	void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(bytes != MAP_FAILED);
	return bytes;
}

static void nap_us(uint64_t us)
{
	nanosleep(&(struct timespec){.tv_nsec = (long)us * 1000}, NULL);
}

/* A child that does not outlive a failed test. */
static pid_t fork_child(void)
{
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static void kill_and_wait(pid_t pid)
{
	int status;
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFSIGNALED(status))
		fail_msg("a child ended by itself with %d", WEXITSTATUS(status));
}

static pid_t start_producer(esk_ring *ring, uint64_t who, uint64_t records)
{
	uint64_t random = next_random() | 1;
	fflush(NULL);
	pid_t pid = fork_child();
	if (pid != 0)
		return pid;
	for (uint64_t n = 1; n <= records; n++) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		uint32_t size = 16 + (uint32_t)(random >> 40) % ((random >> 33) % 16 == 0 ? 6000 : 64);
		if (put(ring, size, who, n, NULL) != ESK_OK)
			_exit(1);
	}
	for (;;)
		pause();
}

/* Runs in a child: reads as `name`, marks what it read whole just before it releases it. */
static void mark_until_killed(esk_ring *ring, const char *name, bool lossy, unsigned char *marks)
{
	static unsigned char copy[8192];
	esk_consumer_options options = ESK_CONSUMER_OPTIONS_INIT;
	esk_consumer *consumer;
	uint64_t batch[BATCH];
	uint32_t count = 0;
	options.lossy = lossy;
	if (esk_consumer_open(ring, name, &options, &consumer, NULL) != ESK_OK)
		_exit(1);
	for (;;) {
		esk_ring_record record;
		bool found;
		if (esk_consumer_read(consumer, &record, &found, NULL) != ESK_OK)
			_exit(2);
		if (!found) {
			esk_consumer_wait(consumer, 1000000);
			continue;
		}
		esk_ring_copy(copy, record.payload, record.size_bytes);
		if (!esk_consumer_still_valid(consumer, &record))
			continue;
		read_proof(copy, record.size_bytes);
		batch[count++] = record.sequence;
		if (count < BATCH)
			continue;
		for (uint32_t i = 0; i < BATCH; i++)
			if (batch[i] < MARKS)
				marks[batch[i]] = 1;
		esk_consumer_release(consumer, record.next_position);
		count = 0;
	}
}

static pid_t start_marking(esk_ring *ring, const char *name, bool lossy, unsigned char *marks)
{
	fflush(NULL);
	pid_t pid = fork_child();
	if (pid == 0)
		mark_until_killed(ring, name, lossy, marks);
	return pid;
}

/* Reads the rest as `name` and returns how many records up to the last were never marked. */
static uint64_t unread_in_the_end(
	esk_ring *ring, const char *name, bool lossy, unsigned char *marks, uint64_t *ret_lost)
{
	esk_consumer *consumer = open_as(ring, name, lossy, false);
	esk_ring_stats stats;
	esk_ring_record record;
	nap_us(3000); /* the dead are asked for every few milliseconds */
	esk_ring_get_stats(ring, &stats);
	assert_true(stats.last_sequence < MARKS);
	while (next_record(consumer, &record))
		marks[record.sequence] = 1;
	uint64_t unread = 0;
	for (uint64_t sequence = 1; sequence <= stats.last_sequence; sequence++)
		unread += marks[sequence] == 0;
	*ret_lost = stats_of(consumer).lost_records;
	printf("%s: %llu records, %llu unread, %llu told as lost\n", name,
		(unsigned long long)stats.last_sequence, (unsigned long long)unread,
		(unsigned long long)*ret_lost);
	esk_consumer_close(consumer);
	return unread;
}

static void killed_consumers_are_followed_without_a_loss(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_BLOCK, 4);
	static const char *const names[] = {"a", "b"};
	unsigned char *marks[2] = {shared_bytes(MARKS), shared_bytes(MARKS)};
	ring->block_timeout_ns = UINT64_MAX;
	for (int i = 0; i < 2; i++)
		esk_consumer_close(open_as(ring, names[i], false, false));
	pid_t producers[2] = {start_producer(ring, 1, MARKS / 3), start_producer(ring, 2, MARKS / 3)};
	pid_t readers[2] = {
		start_marking(ring, "a", false, marks[0]), start_marking(ring, "b", false, marks[1])};
	for (int round = 0; round < 60; round++) {
		int who = (int)(next_random() % 2);
		nap_us(200 + next_random() % 4000);
		kill_and_wait(readers[who]);
		readers[who] = start_marking(ring, names[who], false, marks[who]);
	}
	for (int i = 0; i < 2; i++)
		kill_and_wait(producers[i]);
	for (int i = 0; i < 2; i++)
		kill_and_wait(readers[i]);
	for (int i = 0; i < 2; i++) {
		uint64_t lost;
		assert_in_range(unread_in_the_end(ring, names[i], false, marks[i], &lost), 0, 2);
		assert_int_equal(lost, 0);
		munmap(marks[i], MARKS);
	}
	drop_ring(ring);
}

static void losses_are_told_across_killed_consumers(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_OVERWRITE, 4);
	static const char *const names[] = {"keeps", "lossy"};
	unsigned char *marks[2] = {shared_bytes(MARKS), shared_bytes(MARKS)};
	uint64_t kills[2] = {1, 1};
	for (int i = 0; i < 2; i++)
		esk_consumer_close(open_as(ring, names[i], i == 1, false));
	pid_t producer = start_producer(ring, 1, MARKS - 2);
	pid_t readers[2] = {
		start_marking(ring, "keeps", false, marks[0]), start_marking(ring, "lossy", true, marks[1])};
	for (int round = 0; round < 60; round++) {
		int who = (int)(next_random() % 2);
		nap_us(200 + next_random() % 4000);
		kill_and_wait(readers[who]);
		kills[who]++;
		readers[who] = start_marking(ring, names[who], who == 1, marks[who]);
	}
	kill_and_wait(producer);
	for (int i = 0; i < 2; i++)
		kill_and_wait(readers[i]);
	for (int i = 0; i < 2; i++) {
		uint64_t lost;
		uint64_t unread = unread_in_the_end(ring, names[i], i == 1, marks[i], &lost);
		/* The last one may have been skipped. A batch may have been marked by one that did not live
		 * to release it; if it was overwritten then, it is lost to the next. */
		assert_in_range(lost + 1, unread, unread + 1 + BATCH * kills[i]);
		munmap(marks[i], MARKS);
	}
	drop_ring(ring);
}

/* Runs in a child: opens, reads a little, closes and removes places of random names, until killed. */
static void come_and_go(const char *path, uint64_t seed)
{
	esk_ring *ring;
	random_state = seed | 1;
	if (esk_ring_attach(path, &ring, NULL) != ESK_OK)
		_exit(1);
	for (;;) {
		char name[8];
		esk_consumer *consumer;
		esk_consumer_options options = ESK_CONSUMER_OPTIONS_INIT;
		snprintf(name, sizeof name, "n%llu", (unsigned long long)(next_random() % 3));
		options.lossy = next_random() % 3 == 0;
		options.from_head = next_random() % 4 == 0;
		esk_status status = esk_consumer_open(ring, name, &options, &consumer, NULL);
		if (status != ESK_OK && status != ESK_EBUSY)
			_exit(2);
		esk_ring_record record = {0};
		bool found = status == ESK_OK;
		for (int i = 0; i < 20 && found; i++) {
			if (esk_consumer_read(consumer, &record, &found, NULL) != ESK_OK)
				_exit(3);
			if (found && !options.lossy) /* in place: nobody may overwrite it */
				read_proof(record.payload, record.size_bytes);
			if (found)
				esk_consumer_release(consumer, record.next_position);
		}
		if (status == ESK_OK)
			esk_consumer_close(consumer);
		esk_consumer_remove(ring, name, NULL);
	}
}

static void places_that_come_and_go_do_not_disturb_the_one_that_stays(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_BLOCK, 5);
	esk_consumer *consumer = open_as(ring, "stays", false, false);
	ring->block_timeout_ns = UINT64_MAX;
	pid_t producer = start_producer(ring, 1, UINT64_MAX);
	pid_t guests[2] = {0, 0};
	uint64_t expected = 0;
	uint64_t deadline = esk_monotonic_ns() + 2000000000u;
	for (uint64_t turn = 0; esk_monotonic_ns() < deadline || expected < 2000; turn++) {
		int who = (int)(next_random() % 2);
		if (guests[who] != 0)
			kill_and_wait(guests[who]);
		uint64_t seed = next_random();
		fflush(NULL);
		guests[who] = fork_child();
		if (guests[who] == 0)
			come_and_go(esk_ring_path(ring), seed);
		/* What the killed one still holds is given up, so that the producer goes on. */
		uint64_t until = esk_monotonic_ns() + 1000000 * (1 + next_random() % 8);
		while (esk_monotonic_ns() < until) {
			esk_ring_record record;
			if (!next_record(consumer, &record))
				continue;
			assert_int_equal(record.sequence, ++expected);
			assert_int_equal(read_proof(record.payload, record.size_bytes).n, expected);
			assert_int_equal(record.lost_before_records, 0);
			esk_consumer_release(consumer, record.next_position);
		}
		for (int i = 0; i < 3; i++) {
			char name[8];
			snprintf(name, sizeof name, "n%d", i);
			esk_consumer_remove(ring, name, NULL);
		}
	}
	kill_and_wait(producer);
	for (int i = 0; i < 2; i++)
		if (guests[i] != 0)
			kill_and_wait(guests[i]);
	printf("%llu records\n", (unsigned long long)expected);
	esk_consumer_close(consumer);
	drop_ring(ring);
}

/* ---- who looks on ---- */

/* Runs in a child: maps the ring, looks and lets go, as live views do, until killed. */
static void look_on(const char *path, bool as_tap, _Atomic uint64_t *looks)
{
	static unsigned char copy[8192];
	for (;; atomic_fetch_add(looks, 1)) {
		esk_tap *tap;
		esk_ring *ring;
		esk_ring_stats stats;
		if (!as_tap) {
			if (esk_ring_attach(path, &ring, NULL) != ESK_OK)
				_exit(1);
			esk_ring_get_stats(ring, &stats);
			esk_ring_detach(ring);
			continue;
		}
		if (esk_tap_open(path, 1 + atomic_load(looks) % 3, &tap, NULL) != ESK_OK)
			_exit(2);
		for (int i = 0; i < 50; i++) {
			esk_ring_record record;
			bool found;
			if (esk_tap_read(tap, copy, sizeof copy, &record, &found, NULL) != ESK_OK)
				_exit(3);
			if (found)
				read_proof(copy, record.size_bytes);
		}
		esk_tap_close(tap);
	}
}

static pid_t start_looking(esk_ring *ring, bool as_tap, _Atomic uint64_t *looks)
{
	atomic_store(looks, 0);
	pid_t pid = fork_child();
	if (pid == 0)
		look_on(esk_ring_path(ring), as_tap, looks);
	while (atomic_load(looks) == 0)
		nap_us(100);
	return pid;
}

static unsigned char *bytes_of_file(const char *path, size_t *ret_size)
{
	FILE *file = fopen(path, "rb");
	assert_non_null(file);
	assert_int_equal(fseek(file, 0, SEEK_END), 0);
	long size = ftell(file);
	assert_true(size > 0);
	unsigned char *bytes = malloc((size_t)size);
	assert_non_null(bytes);
	rewind(file);
	assert_int_equal(fread(bytes, 1, (size_t)size, file), size);
	fclose(file);
	*ret_size = (size_t)size;
	return bytes;
}

static void who_looked_on_and_was_killed_left_not_a_byte_in_the_ring(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_BLOCK, 4);
	_Atomic uint64_t *looks = shared_bytes(sizeof *looks);
	size_t size, size_after;
	esk_consumer_close(open_as(ring, "hdf5", false, false));
	write_records(ring, 1, 100);
	unsigned char *before = bytes_of_file(ring_path(), &size);
	for (int round = 0; round < 20; round++) {
		pid_t pid = start_looking(ring, round % 2 == 0, looks);
		nap_us(next_random() % 2000);
		kill_and_wait(pid);
		unsigned char *after = bytes_of_file(ring_path(), &size_after);
		assert_int_equal(size_after, size);
		assert_memory_equal(after, before, size);
		free(after);
	}
	free(before);
	munmap((void *)looks, sizeof *looks);
	drop_ring(ring);
}

static uint32_t places_used(const esk_ring *ring)
{
	uint32_t used = 0;
	for (uint32_t i = 0; i < esk_ring_consumer_places(ring); i++) {
		esk_consumer_info info = {.struct_size = sizeof info};
		used += esk_ring_consumer_at(ring, i, &info);
	}
	return used;
}

static void killing_who_looks_on_holds_up_neither_producer_nor_tail(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_BLOCK, 4);
	_Atomic uint64_t *looks[2] = {
		shared_bytes(sizeof(_Atomic uint64_t)), shared_bytes(sizeof(_Atomic uint64_t))};
	esk_consumer *consumer = open_as(ring, "hdf5", false, false);
	ring->block_timeout_ns = 30000000000u; /* a producer that waits longer ends, and fails the test */
	pid_t producer = start_producer(ring, 1, UINT64_MAX), lookers[2];
	uint64_t expected = 0;
	for (int i = 0; i < 2; i++)
		lookers[i] = start_looking(ring, i == 0, looks[i]);
	for (int round = 0; round < 60; round++) {
		int who = (int)(next_random() % 2);
		kill_and_wait(lookers[who]);
		/* Twice round the ring, which only goes on as the tail does. */
		esk_ring_record record;
		uint64_t until = stats_of(consumer).position + 2 * esk_ring_capacity(ring);
		while (stats_of(consumer).position < until) {
			if (!next_record(consumer, &record)) {
				esk_consumer_wait(consumer, 1000000);
				continue;
			}
			assert_int_equal(record.sequence, ++expected);
			assert_int_equal(record.lost_before_records, 0);
			assert_int_equal(read_proof(record.payload, record.size_bytes).n, expected);
			esk_consumer_release(consumer, record.next_position);
		}
		lookers[who] = start_looking(ring, who == 0, looks[who]);
	}
	for (int i = 0; i < 2; i++)
		kill_and_wait(lookers[i]);
	kill_and_wait(producer);
	assert_int_equal(places_used(ring), 1);
	printf("%llu records\n", (unsigned long long)expected);
	for (int i = 0; i < 2; i++)
		munmap((void *)looks[i], sizeof *looks[i]);
	esk_consumer_close(consumer);
	drop_ring(ring);
}

/* ---- declarations ---- */

static void text_of(uint64_t who, uint64_t n, unsigned char *text, size_t *ret_size)
{
	*ret_size = 8 + (who * 13 + n * 7) % 90;
	memset(text, (int)(who * 31 + n), *ret_size);
	memcpy(text, &(uint64_t){who << 32 | n}, 8);
}

static void declare_until_killed(const char *path, uint64_t who, _Atomic uint32_t *numbers)
{
	esk_ring *ring;
	if (esk_ring_attach(path, &ring, NULL) != ESK_OK)
		_exit(1);
	for (uint64_t n = 0;; n = (n + 1) % 200) {
		unsigned char text[128];
		size_t size;
		uint32_t number;
		text_of(who, n, text, &size);
		if (esk_ring_declare(ring, text, size, &number, NULL) != ESK_OK)
			_exit(2);
		uint32_t before = atomic_exchange(&numbers[n], number);
		if (before != 0 && before != number)
			_exit(3); /* the same bytes, another number */
	}
}

static void declarations_survive_killed_declarers(void **state)
{
	esk_ring_options options = ESK_RING_OPTIONS_INIT;
	esk_ring *ring;
	options.capacity_bytes = ESK_RING_MIN_BYTES;
	options.declarations_bytes = 1 << 20;
	unlink(ring_path());
	check_ok(esk_ring_create(ring_path(), &options, &ring, err));
	_Atomic uint32_t *numbers = shared_bytes(2 * 200 * sizeof *numbers);
	for (int round = 0; round < 40; round++) {
		pid_t pids[2];
		for (uint64_t who = 0; who < 2; who++) {
			fflush(NULL);
			pids[who] = fork_child();
			if (pids[who] == 0)
				declare_until_killed(esk_ring_path(ring), who, numbers + 200 * who);
		}
		nap_us(200 + next_random() % 3000);
		kill_and_wait(pids[0]);
		kill_and_wait(pids[1]);
	}
	uint32_t count = esk_ring_declaration_count(ring);
	assert_in_range(count, 1, 400);
	for (uint64_t i = 0; i < 400; i++) {
		unsigned char text[128];
		const void *bytes;
		size_t size, found_size;
		uint32_t number = atomic_load(&numbers[i]);
		if (number == 0)
			continue;
		assert_in_range(number, 1, count);
		text_of(i / 200, i % 200, text, &size);
		check_ok(esk_ring_declaration(ring, number, &bytes, &found_size, err));
		assert_int_equal(found_size, size);
		assert_memory_equal(bytes, text, size);
	}
	munmap((void *)numbers, 2 * 200 * sizeof *numbers);
	drop_ring(ring);
}

static void a_consumer_that_a_child_inherits_is_closed_to_it(void **state)
{
	esk_ring *ring = make_consumed(ESK_RING_MIN_BYTES, ESK_BLOCK, 1);
	esk_consumer *consumer = open_as(ring, "c", false, false);
	write_records(ring, 1, 2);
	fflush(NULL);
	pid_t pid = fork_child();
	if (pid == 0) {
		esk_ring_record record;
		bool found;
		bool refused = esk_consumer_read(consumer, &record, &found, NULL) == ESK_ECLOSED;
		esk_consumer_release(consumer, UINT64_MAX);
		esk_consumer_close(consumer);
		_exit(refused ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	esk_consumer_info info = {.struct_size = sizeof info};
	assert_true(esk_ring_consumer_at(ring, 0, &info));
	assert_int_equal(info.pid, getpid()); /* still this process's */
	expect_record(consumer, 1);
	expect_record(consumer, 2);
	esk_consumer_close(consumer);
	drop_ring(ring);
}

int main(int argc, char **argv)
{
	start_random(argc > 1 ? argv[1] : NULL);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(killed_consumers_are_followed_without_a_loss),
		cmocka_unit_test(losses_are_told_across_killed_consumers),
		cmocka_unit_test(places_that_come_and_go_do_not_disturb_the_one_that_stays),
		cmocka_unit_test(who_looked_on_and_was_killed_left_not_a_byte_in_the_ring),
		cmocka_unit_test(killing_who_looks_on_holds_up_neither_producer_nor_tail),
		cmocka_unit_test(declarations_survive_killed_declarers),
		cmocka_unit_test(a_consumer_that_a_child_inherits_is_closed_to_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
