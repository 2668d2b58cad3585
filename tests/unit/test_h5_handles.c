/* h5: handles beside each other: a commit that finishes while writing goes on, readers that are stale,
 * children of a writer. */
#include "unit/h5_lines.h"

#include <pthread.h>
#include <sys/wait.h>

static void *finish(void *arg)
{
	esk_error error;
	lines *l = arg;
	return esk_h5_commit_finish(l->file, NULL, &error) == ESK_OK ? arg : NULL;
}

static void writing_goes_on_while_a_commit_finishes(void **state)
{
	char path[128];
	lines l = {0};

	strcpy(path, test_path(*state, "threads.h5"));
	assert_ok(lines_create(esk_os_posix(), path, &l), &err);
	for (int i = 0; i < 40; i++) {
		esk_h5 *reader = NULL;
		pthread_t thread;
		void *result = NULL;
		uint64_t begun;
		int64_t n = 0;

		assert_ok(lines_write(&l), &err);
		begun = l.n;
		assert_ok(esk_h5_commit_begin(l.file, &err), &err);
		pthread_create(&thread, NULL, finish, &l);
		for (int k = 0; k < 3; k++)
			assert_ok(lines_write(&l), &err);
		pthread_join(thread, &result);
		assert_non_null(result);
		assert_ok(esk_h5_open_read(esk_os_posix(), path, &reader, &err), &err);
		assert_ok(esk_h5_get_i64(reader, "/", "n", &n, &err), &err);
		assert_int_equal(n, begun);
		assert_false(esk_h5_is_stale(reader));
		assert_ok(esk_h5_close(reader, &err), &err);
		if (i % 10 == 0)
			assert_int_equal(lines_verify(path), begun);
	}
	commit(l.file);
	assert_ok(esk_h5_close(l.file, &err), &err);
	assert_int_equal(lines_verify(path), l.n);
}

static void a_reader_knows_that_it_is_stale(void **state)
{
	char path[128];
	lines l = {0};
	esk_h5 *reader = NULL;
	esk_h5_dataset *dataset = NULL;

	strcpy(path, test_path(*state, "stale.h5"));
	assert_ok(lines_create(esk_os_posix(), path, &l), &err);
	assert_ok(lines_commit(&l), &err);
	assert_ok(esk_h5_open_read(esk_os_posix(), path, &reader, &err), &err);
	assert_ok(esk_h5_dataset_open(reader, line_path(0), &dataset, &err), &err);
	assert_ok(lines_commit(&l), &err);
	assert_true(esk_h5_is_stale(reader));
	assert_int_equal(esk_h5_dataset_open(reader, line_path(1), &dataset, &err), ESK_EBUSY);
	assert_ok(esk_h5_dataset_open(reader, line_path(0), &dataset, &err), &err); /* known already */
	assert_int_equal(esk_h5_dataset_info(dataset)->rows, rows_at(1, 0));
	assert_ok(esk_h5_close(reader, &err), &err);
	assert_ok(esk_h5_close(l.file, &err), &err);
}

static void a_reader_notices_a_writer_that_came_and_went(void **state)
{
	char path[128];
	lines l = {0};
	esk_h5 *reader = NULL;
	esk_h5_dataset *dataset = NULL;

	strcpy(path, test_path(*state, "between.h5"));
	assert_ok(lines_create(esk_os_posix(), path, &l), &err);
	assert_ok(lines_commit(&l), &err);
	assert_ok(esk_h5_close(l.file, &err), &err);
	assert_ok(esk_h5_open_read(esk_os_posix(), path, &reader, &err), &err);
	assert_false(esk_h5_is_stale(reader));
	usleep(20000); /* the file system's clock ticks */
	assert_ok(lines_open(esk_os_posix(), path, &l), &err);
	assert_ok(lines_commit(&l), &err);
	assert_ok(esk_h5_close(l.file, &err), &err);
	assert_true(esk_h5_is_stale(reader));
	assert_int_equal(esk_h5_dataset_open(reader, line_path(1), &dataset, &err), ESK_EBUSY);
	assert_ok(esk_h5_close(reader, &err), &err);
}

/* The child of a writer: what it inherited does nothing, at its exit either. */
static int child_of_a_writer(lines *l, const char *path)
{
	esk_h5 *reader = NULL;
	bool right = esk_h5_status(l->file, NULL) == ESK_ECLOSED && lines_write(l) == ESK_ECLOSED &&
		     esk_h5_commit_begin(l->file, NULL) == ESK_ECLOSED &&
		     esk_h5_open_read(esk_os_posix(), path, &reader, NULL) == ESK_OK;
	esk_h5_close(reader, NULL);
	return right ? 0 : 1;
}

static void children_leave_the_file_to_their_parent(void **state)
{
	char path[128];
	lines l = {0};

	strcpy(path, test_path(*state, "fork.h5"));
	assert_ok(lines_create(esk_os_posix(), path, &l), &err);
	assert_ok(lines_commit(&l), &err);
	for (int turn = 0; turn < 9; turn++) {
		int status = 0;
		assert_ok(lines_write(&l), &err); /* libhdf5 has something unwritten */
		pid_t child = fork();
		if (child == 0) {
			int code = child_of_a_writer(&l, path);
			if (turn % 3 == 0)
				esk_h5_close(l.file, NULL);
			else if (turn % 3 == 1)
				esk_h5_abandon(l.file);
			H5close(); /* as at exit: flushes what is open */
			_exit(code);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
		assert_ok(lines_commit(&l), &err);
	}
	assert_ok(esk_h5_close(l.file, &err), &err);
	assert_int_equal(lines_verify(path), l.n);
}

static _Atomic bool stop;

static void *look(void *arg)
{
	while (!stop)
		esk_h5_exists(arg, "s0/x0");
	return NULL;
}

static void *look_again(void *arg)
{
	while (!stop)
		esk_h5_is_stale(arg);
	return NULL;
}

static void a_fork_beside_busy_threads_leaves_libhdf5_usable(void **state)
{
	char path[128];
	lines l = {0};
	esk_h5 *reader = NULL;
	pthread_t threads[2];

	strcpy(path, test_path(*state, "busy.h5"));
	assert_ok(lines_create(esk_os_posix(), path, &l), &err);
	assert_ok(lines_commit(&l), &err);
	assert_ok(esk_h5_open_read(esk_os_posix(), path, &reader, &err), &err);
	stop = false;
	pthread_create(&threads[0], NULL, look, l.file);
	pthread_create(&threads[1], NULL, look_again, reader);
	for (int turn = 0; turn < 60; turn++) {
		int status = 0;
		pid_t child = fork();
		if (child == 0) {
			alarm(20);
			esk_h5_close(reader, NULL); /* whose locks may be held by threads that are not here */
			_exit(child_of_a_writer(&l, path));
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	stop = true;
	for (size_t i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_ok(esk_h5_close(reader, &err), &err);
	assert_ok(esk_h5_close(l.file, &err), &err);
}

static void an_exit_without_closing_leaves_the_last_commit(void **state)
{
	char path[128];
	int status = 0;

	strcpy(path, test_path(*state, "exit.h5"));
	pid_t child = fork();
	if (child == 0) {
		lines l = {0};
		if (lines_create(esk_os_posix(), path, &l) != ESK_OK || lines_commit(&l) != ESK_OK ||
			lines_write(&l) != ESK_OK)
			_exit(1);
		H5close(); /* what libhdf5 does at exit */
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_true(recover(path, 1));
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* stock libhdf5 is asked for what is not there, too */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writing_goes_on_while_a_commit_finishes),
		cmocka_unit_test(a_reader_knows_that_it_is_stale),
		cmocka_unit_test(a_reader_notices_a_writer_that_came_and_went),
		cmocka_unit_test(children_leave_the_file_to_their_parent),
		cmocka_unit_test(a_fork_beside_busy_threads_leaves_libhdf5_usable),
		cmocka_unit_test(an_exit_without_closing_leaves_the_last_commit),
	};
	return cmocka_run_group_tests_name("h5_handles", tests, test_dir_make, test_dir_remove);
}
