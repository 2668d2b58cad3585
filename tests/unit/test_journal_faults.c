/* The journalled file when every single call fails, when the power goes, when it is killed, and when threads
 * run beside each other.
 *
 * The model is the list of images that were committed. Whatever happened, a file that is opened again must be
 * exactly the last image whose finish returned ESK_OK, or the one whose commit was under way. */
#include "journal/journal.h"
#include "support/fault_os.h"
#include "support/journal_files.h"
#include "support/journal_model.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

/* ---- failures ---- */

static void a_failed_file_swallows_writes_and_changes_nothing(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	esk_fault *fault = esk_fault_new(2);
	esk_jfile *file = committed_file(esk_fault_os(fault), path, 9000);
	esk_fault_clear(fault);
	esk_fault_set_space(fault, 0);
	esk_error err;
	assert_int_equal(esk_jfile_write(file, 9000, "more", 4, &err), ESK_ENOSPC);
	assert_int_equal(esk_jfile_status(file, &err), ESK_ENOSPC);
	put(file, 100, 'q', 20000);
	assert_int_equal(byte_at(file, 99), 'a');
	assert_int_equal(byte_at(file, 100), 'q');
	assert_int_equal(byte_at(file, 20099), 'q');
	assert_int_equal(esk_jfile_freeze(file, 30000, &err), ESK_ENOSPC);
	assert_int_equal(esk_jfile_close(file, NULL), ESK_OK);
	assert_int_equal(raw_byte_at(path, 100), 'a');
	assert_true(size_raw(path) <= 9004);
	esk_fault_free(fault);
}

static void a_full_disk_fails_the_commit_and_the_next_try_succeeds(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	esk_fault *fault = esk_fault_new(3);
	esk_jfile *file = committed_file(esk_fault_os(fault), path, 9000);
	put(file, 0, 'b', 9000);
	esk_fault_set_space(fault, 100);
	assert_int_equal(esk_jfile_freeze(file, 9000, NULL), ESK_OK);
	esk_error err;
	assert_int_equal(esk_jfile_finish(file, NULL, &err), ESK_ENOSPC);
	assert_int_equal(byte_at(file, 0), 'b');
	esk_jfile_close(file, NULL);
	file = open_again(esk_fault_os(fault), path, ESK_JFILE_WRITE, NULL);
	assert_int_equal(byte_at(file, 0), 'a');
	esk_fault_set_space(fault, UINT64_MAX);
	put(file, 0, 'b', 9000);
	commit(file, 9000);
	assert_int_equal(esk_jfile_close(file, NULL), ESK_OK);
	assert_int_equal(raw_byte_at(path, 8999), 'b');
	esk_fault_free(fault);
}

static void every_single_failing_call_leaves_a_committed_state(void **state)
{
	test_dir *dir = *state;
	static const int errnums[] = {EIO, ENOSPC};
	uint64_t runs = 0;
	for (uint64_t k = 1;; k++) {
		bool reached = false;
		for (int way = 0; way < 4; way++) {
			esk_fault *fault = esk_fault_new(test_seed() + k);
			model m = model_new(fault, test_path(dir, "a"), 7, 12);
			esk_fault_fail_at(fault, k, errnums[way & 1], way >= 2);
			m.deaf = way >= 2;
			model_run(&m);
			reached = reached || esk_fault_calls(fault) >= k;
			esk_fault_clear(fault);
			model_check_recovery(&m);
			model_free(&m);
			esk_fault_free(fault);
			runs++;
		}
		if (!reached)
			break;
	}
	assert_true(runs > 400);
	print_message("  %llu failures\n", (unsigned long long)runs);
}

static void every_power_cut_leaves_a_committed_state(void **state)
{
	test_dir *dir = *state;
	uint64_t wanted = test_scale(2400);
	uint64_t cuts = 0;
	uint64_t again = 0;
	for (uint64_t seed = test_seed(); cuts < wanted; seed++) {
		esk_fault *fault = esk_fault_new(seed);
		model m = model_new(fault, test_path(dir, "a"), seed, 6);
		esk_fault_cut_at(fault, 1 + seed * 7919 % 260);
		m.deaf = true;
		model_run(&m);
		cuts += esk_fault_is_cut(fault); /* the others ended before */
		esk_fault_reboot(fault);
		if (seed % 3 == 0) { /* and once more while it recovers */
			esk_fault_cut_at(fault, 1 + seed / 3 % 25);
			esk_jfile *file = NULL;
			if (esk_jfile_open(esk_fault_os(fault), m.path, ESK_JFILE_WRITE, &file, NULL, NULL) ==
				ESK_OK)
				esk_jfile_close(file, NULL);
			again += esk_fault_is_cut(fault);
			m.closing = true;
			esk_fault_reboot(fault);
		}
		model_check_recovery(&m);
		model_free(&m);
		esk_fault_free(fault);
	}
	assert_true(again > wanted / 10);
	print_message("  %llu power cuts, %llu of them again while recovering\n", (unsigned long long)cuts,
		(unsigned long long)again);
}

static void short_counts_and_interruptions_change_nothing(void **state)
{
	test_dir *dir = *state;
	for (uint64_t i = 0; i < 20; i++) {
		esk_fault *fault = esk_fault_new(test_seed() + i);
		model m = model_new(fault, test_path(dir, "a"), test_seed() + i, 10);
		esk_fault_set_hiccups(fault, 30);
		model_run(&m);
		assert_true(m.finished);
		model_check_recovery(&m);
		model_free(&m);
		esk_fault_free(fault);
	}
}

/* A child that commits numbered states without pause is killed; every page of the file must tell the same
 * number, not lower than the last one that the child reported. */
#define KILL_PAGES 40
static void commit_for_ever(const char *path, int report)
{
	uint64_t page[512];
	esk_jfile *file = NULL;
	if (esk_jfile_open(esk_os_posix(), path, ESK_JFILE_CREATE, &file, NULL, NULL) != ESK_OK)
		_exit(2);
	for (uint64_t number = 1;; number++) {
		for (uint64_t i = 0; i < 512; i++)
			page[i] = number;
		for (uint64_t i = 0; i < KILL_PAGES; i++)
			esk_jfile_write(file, i * sizeof(page), page, sizeof(page), NULL);
		if (esk_jfile_freeze(file, KILL_PAGES * sizeof(page), NULL) != ESK_OK ||
			esk_jfile_finish(file, NULL, NULL) != ESK_OK ||
			write(report, &number, sizeof(number)) != sizeof(number))
			_exit(3);
	}
}

static void committed_states_survive_kill(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	uint64_t random = test_seed();
	for (int turn = 0; turn < 25; turn++) {
		int ends[2];
		assert_int_equal(pipe(ends), 0);
		unlink(path);
		pid_t child = fork();
		if (child == 0)
			commit_for_ever(path, ends[1]);
		close(ends[1]);
		usleep(5000 + (useconds_t)(model_draw(&random) % 40000));
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		uint64_t last = 0;
		uint64_t number;
		while (read(ends[0], &number, sizeof(number)) == sizeof(number))
			last = number;
		close(ends[0]);
		esk_jfile *file = NULL;
		esk_status status = esk_jfile_open(esk_os_posix(), path, ESK_JFILE_WRITE, &file, NULL, NULL);
		if (status == ESK_ENOTFOUND && last == 0)
			continue;
		assert_int_equal(status, ESK_OK);
		uint64_t first = 0;
		assert_int_equal(esk_jfile_read(file, 0, &first, sizeof(first), NULL), ESK_OK);
		assert_true(first >= last && first <= last + 1);
		for (uint64_t at = 0; at < esk_jfile_end(file); at += 4096 - 8) {
			assert_int_equal(esk_jfile_read(file, at & ~UINT64_C(7), &number, 8, NULL), ESK_OK);
			assert_int_equal(number, first);
		}
		esk_jfile_close(file, NULL);
	}
}

/* ---- threads ---- */

static void *finish_in_thread(void *arg)
{
	esk_error err;
	assert_ok(esk_jfile_finish(arg, NULL, &err), &err);
	return NULL;
}

static void writing_goes_on_while_a_commit_finishes(void **state)
{
	test_dir *dir = *state;
	model m = model_new(NULL, test_path(dir, "a"), test_seed(), 0);
	esk_error err;
	assert_ok(esk_jfile_open(m.os, m.path, ESK_JFILE_CREATE, &m.file, NULL, &err), &err);
	for (int turn = 0; turn < 60; turn++) {
		for (int i = 0; i < 30; i++)
			assert_true(model_write(&m));
		uint64_t end = model_end_to_commit(&m);
		assert_ok(esk_jfile_freeze(m.file, end, &err), &err);
		model_frozen(&m, end);
		pthread_t thread;
		assert_int_equal(pthread_create(&thread, NULL, finish_in_thread, m.file), 0);
		for (int i = 0; i < 60; i++) {
			assert_true(model_write(&m));
			model_check_reads(&m);
		}
		pthread_join(thread, NULL);
		model_committed(&m);
		m.number++;
		model_check_reads(&m);
	}
	esk_jfile_close(m.file, NULL);
	m.file = NULL;
	model_check_recovery(&m);
	model_free(&m);
}

typedef struct watch {
	const char *path;
	pthread_mutex_t lock;
	bool stop;
	uint64_t good;
	uint64_t mixed;
} watch;

static bool watch_stopped(watch *w)
{
	pthread_mutex_lock(&w->lock);
	bool stop = w->stop;
	pthread_mutex_unlock(&w->lock);
	return stop;
}

static void *watch_commits(void *arg)
{
	watch *w = arg;
	uint64_t page[512];
	while (!watch_stopped(w)) {
		esk_jfile *file = NULL;
		if (esk_jfile_open(esk_os_posix(), w->path, ESK_JFILE_READ, &file, NULL, NULL) != ESK_OK)
			continue;
		for (int turn = 0; turn < 50; turn++) {
			uint64_t before = esk_jfile_change_counter(file);
			uint64_t first = 0;
			bool same = true;
			for (uint64_t i = 0; i < KILL_PAGES; i++) {
				assert_int_equal(esk_jfile_read(file, i * 4096, page, 4096, NULL), ESK_OK);
				first = i == 0 ? page[0] : first;
				same = same && page[0] == first && page[511] == first;
			}
			if (before % 2 != 0 || esk_jfile_change_counter(file) != before)
				continue;
			w->good += same;
			w->mixed += !same;
		}
		esk_jfile_close(file, NULL);
	}
	return NULL;
}

static void a_reader_with_a_steady_counter_sees_one_commit(void **state)
{
	test_dir *dir = *state;
	watch w = {.path = test_path(dir, "a"), .lock = PTHREAD_MUTEX_INITIALIZER};
	esk_jfile *file = committed_file(esk_os_posix(), w.path, KILL_PAGES * 4096);
	uint64_t page[512];
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, watch_commits, &w), 0);
	for (uint64_t number = 1; number < 150; number++) {
		for (uint64_t i = 0; i < 512; i++)
			page[i] = number;
		for (uint64_t i = 0; i < KILL_PAGES; i++)
			assert_int_equal(esk_jfile_write(file, i * 4096, page, sizeof(page), NULL), ESK_OK);
		commit(file, KILL_PAGES * 4096);
		usleep(500);
	}
	pthread_mutex_lock(&w.lock);
	w.stop = true;
	pthread_mutex_unlock(&w.lock);
	pthread_join(thread, NULL);
	esk_jfile_close(file, NULL);
	assert_int_equal(w.mixed, 0);
	assert_true(w.good > 20);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, test_dir_make, test_dir_remove)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(a_failed_file_swallows_writes_and_changes_nothing),
		TEST(a_full_disk_fails_the_commit_and_the_next_try_succeeds),
		TEST(every_single_failing_call_leaves_a_committed_state),
		TEST(every_power_cut_leaves_a_committed_state),
		TEST(short_counts_and_interruptions_change_nothing),
		TEST(committed_states_survive_kill),
		TEST(writing_goes_on_while_a_commit_finishes),
		TEST(a_reader_with_a_steady_counter_sees_one_commit),
	};
	test_begin(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
