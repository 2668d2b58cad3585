/* os: whole reads and writes, locks, shared memory, futexes, processes. Faults are in test_fault_os. */
#include "os/os.h"
#include "support/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct place {
	char directory[64];
	char path[96];
} place;

static int make_place(void **state)
{
	place *p = calloc(1, sizeof *p);
	strcpy(p->directory, "/tmp/esk-os-XXXXXX");
	if (mkdtemp(p->directory) == NULL)
		return -1;
	snprintf(p->path, sizeof p->path, "%s/file", p->directory);
	*state = p;
	return 0;
}

static int remove_place(void **state)
{
	place *p = *state;
	unlink(p->path);
	rmdir(p->directory);
	free(p);
	return 0;
}

static void what_was_written_is_read(void **state)
{
	place *p = *state;
	const esk_os *os = esk_os_posix();
	esk_error err = {0};
	int fd;
	char buf[16] = "";
	size_t got;
	uint64_t size;
	assert_int_equal(esk_os_open(os, p->path, O_RDWR | O_CREAT, 0600, &fd, &err), ESK_OK);
	assert_int_equal(esk_os_write(os, fd, p->path, "hello", 5, 3, &err), ESK_OK);
	assert_int_equal(esk_os_size(os, fd, p->path, &size, &err), ESK_OK);
	assert_int_equal(size, 8);
	assert_int_equal(esk_os_read(os, fd, p->path, buf, 5, 3, &err), ESK_OK);
	assert_string_equal(buf, "hello");
	assert_int_equal(esk_os_read_some(os, fd, p->path, buf, 16, 6, &got, &err), ESK_OK);
	assert_int_equal(got, 2);
	assert_int_equal(esk_os_read(os, fd, p->path, buf, 16, 6, &err), ESK_ECORRUPT);
	assert_non_null(strstr(err.message, p->path));
	assert_int_equal(esk_os_sync(os, fd, p->path, &err), ESK_OK);
	assert_int_equal(esk_os_truncate(os, fd, p->path, 1, &err), ESK_OK);
	assert_int_equal(esk_os_sync_parent(os, p->path, &err), ESK_OK);
	os->close(os, fd);
}

static void what_is_not_there_is_named(void **state)
{
	place *p = *state;
	esk_error err = {0};
	int fd = -7;
	assert_int_equal(esk_os_open(esk_os_posix(), p->path, O_RDWR, 0, &fd, &err), ESK_ENOTFOUND);
	assert_int_equal(fd, -7);
	assert_non_null(strstr(err.message, p->path));
	assert_int_equal(esk_os_unlink(esk_os_posix(), p->path, &err), ESK_OK);
}

static void a_lock_excludes_a_second_descriptor(void **state)
{
	place *p = *state;
	const esk_os *os = esk_os_posix();
	int first = os->open(os, p->path, O_RDWR | O_CREAT, 0600), second = os->open(os, p->path, O_RDWR, 0);
	assert_int_equal(os->lock(os, first), 0);
	assert_int_equal(os->lock(os, second), -EWOULDBLOCK);
	os->close(os, first);
	assert_int_equal(os->lock(os, second), 0);
	os->close(os, second);
}

static void mapped_memory_is_shared_with_the_file(void **state)
{
	place *p = *state;
	const esk_os *os = esk_os_posix();
	esk_error err = {0};
	void *map;
	char buf[4];
	int fd = os->open(os, p->path, O_RDWR | O_CREAT, 0600);
	assert_int_equal(esk_os_allocate(fd, p->path, 8192, &err), ESK_OK);
	assert_int_equal(esk_os_map(fd, p->path, 8192, true, &map, &err), ESK_OK);
	esk_os_prefault(map, 8192);
	memcpy((char *)map + 5000, "ring", 4);
	assert_int_equal(esk_os_read(os, fd, p->path, buf, 4, 5000, &err), ESK_OK);
	assert_memory_equal(buf, "ring", 4);
	esk_os_unmap(map, 8192);
	os->close(os, fd);
}

static void what_was_unmapped_aside_is_gone_after_the_wait(void **state)
{
	place *p = *state;
	const esk_os *os = esk_os_posix();
	esk_error err = {0};
	size_t size = 64u << 20;
	void *map;
	int fd = os->open(os, p->path, O_RDWR | O_CREAT, 0600);
	assert_int_equal(os->truncate(os, fd, size), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(esk_os_map(fd, p->path, size, true, &map, &err), ESK_OK);
		esk_os_unmap_aside(map, size);
		esk_os_unmap_wait();
		unsigned char pages[1];
		assert_int_equal(mincore(map, 1, pages), -1); /* ENOMEM: nothing is mapped there */
		assert_int_equal(errno, ENOMEM);
	}
	esk_os_unmap_wait(); /* with nothing to wait for */
	os->close(os, fd);
}

static _Atomic uint32_t word;

static void *wake(void *arg)
{
	usleep(20000);
	atomic_store(&word, 1);
	esk_os_futex_wake(&word, INT_MAX);
	return NULL;
}

static void a_futex_wakes_its_waiter_and_times_out(void **state)
{
	pthread_t thread;
	atomic_store(&word, 0);
	pthread_create(&thread, NULL, wake, NULL);
	while (atomic_load(&word) == 0)
		esk_os_futex_wait(&word, 0, 10000000000u);
	pthread_join(thread, NULL);
	uint64_t start = esk_monotonic_ns();
	esk_os_futex_wait(&word, 1, 5000000);
	assert_true(esk_monotonic_ns() - start < 5000000000u);
}

static void a_dead_process_is_told_from_a_living_one(void **state)
{
	uint64_t own = esk_os_process_start(getpid());
	assert_true(own != 0);
	assert_true(esk_os_process_alive(getpid(), own));
	assert_false(esk_os_process_alive(getpid(), own + 1)); /* the id was used again */
	pid_t child = fork();
	if (child == 0)
		for (;;)
			pause();
	uint64_t start = esk_os_process_start(child);
	assert_true(esk_os_process_alive(child, start));
	kill(child, SIGKILL);
	while (esk_os_process_alive(child, start)) /* a zombie counts as dead */
		usleep(1000);
	waitpid(child, NULL, 0);
	assert_false(esk_os_process_alive(child, start));
	assert_false(esk_os_process_alive(-1, 0));
}

static void a_forked_child_counts_itself(void **state)
{
	uint64_t before = esk_os_fork_count();
	int status;
	pid_t child = fork();
	if (child == 0)
		_exit(esk_os_fork_count() == before + 1 ? 0 : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(esk_os_fork_count(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_was_written_is_read, make_place, remove_place),
		cmocka_unit_test_setup_teardown(what_is_not_there_is_named, make_place, remove_place),
		cmocka_unit_test_setup_teardown(
			a_lock_excludes_a_second_descriptor, make_place, remove_place),
		cmocka_unit_test_setup_teardown(
			mapped_memory_is_shared_with_the_file, make_place, remove_place),
		cmocka_unit_test_setup_teardown(
			what_was_unmapped_aside_is_gone_after_the_wait, make_place, remove_place),
		cmocka_unit_test(a_futex_wakes_its_waiter_and_times_out),
		cmocka_unit_test(a_dead_process_is_told_from_a_living_one),
		cmocka_unit_test(a_forked_child_counts_itself),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
