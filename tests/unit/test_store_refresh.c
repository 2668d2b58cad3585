/* Readers from one state to the next: a refresh that fails changes nothing, threads that read see one state
 * or the other, and every thread of a forked child may be the first to use what was inherited.
 *
 *     test_store_refresh [SEED]  */
#include "unit/recording_place.h"

#include "support/fault_os.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

#define SALT 13

/* The child of a process with threads starts some of its own. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "die_after_fork=0";
}

/* Adds rows [first, first + count) to a run; with `segment_bytes` in several segments. */
static void record_rows(place *p, const char *name, uint64_t first, uint64_t count, uint64_t segment_bytes,
	const char *metadata)
{
	esk_run_options options = place_options(128u << 10);
	esk_error err = {0};
	esk_stream *stream;
	options.append = true;
	options.segment_bytes = segment_bytes;
	options.metadata_json = metadata;
	esk_run *run = place_run(p, name, &options);
	assert_ok(recording_stream(run, "/", &stream, &err), &err);
	for (uint64_t i = 0; i < count; i++) {
		assert_ok(recording_append(stream, first + i, SALT, NULL, &err), &err);
		if (i % 10 == 9)
			assert_ok(esk_run_commit(run, NULL, &err), &err);
	}
	place_run_close(run);
}

/* ---- refreshes that fail ---- */

/* Rows [0, count) that sealed segments hold. */
static uint64_t sealed_rows(place *p)
{
	return (uint64_t)place_query(p, "SELECT total(extents.rows) FROM extents JOIN segments ON "
					"extents.run_id = segments.run_id AND "
					"segment = number WHERE sealed");
}

static void a_refresh_that_meets_a_fault_changes_nothing(void **state)
{
	place p = place_make(*state);
	esk_error err = {0};
	esk_fault *fault = esk_fault_new(test_seed());
	esk_store_environment environment = {.os = esk_fault_os(fault)};
	esk_store_options options = ESK_STORE_OPTIONS_INIT;
	esk_store *store;
	esk_reader *reader;
	uint64_t rows = 45, total = 70, call = 1, failed = 0;
	record_rows(&p, "run", 0, rows, 48u << 10, "{\"turn\": 1}");
	uint64_t sealed = sealed_rows(&p);
	assert_true(sealed > 0);
	options.read_only = true;
	options.codec_threads = 1;
	assert_ok(esk_store_open_in(&environment, p.path, &options, &store, &err), &err);
	assert_ok(esk_reader_open(store, "run", &reader, &err), &err);
	esk_dataset *id = recording_find(reader, "/", "id");
	const char *metadata = esk_reader_metadata(reader);
	record_rows(&p, "run", rows, total - rows, 48u << 10, "{\"turn\": 2}");
	for (bool met = true; met; call++) {
		esk_fault_clear(fault);
		esk_fault_fail_at(fault, call, EIO, false);
		esk_status status = esk_reader_refresh(reader, &err);
		met = esk_fault_calls(fault) >= call;
		esk_fault_clear(fault);
		assert_int_equal(esk_dataset_rows(id), status == ESK_OK ? total : rows);
		assert_int_equal(esk_reader_dataset_count(reader), 8);
		if (status != ESK_OK) {
			failed++;
			assert_ptr_equal(esk_reader_metadata(reader), metadata);
			recording_check_rows(reader, "/", 0, sealed, SALT);
			continue;
		}
		recording_check_rows(reader, "/", 0, total, SALT);
		metadata = esk_reader_metadata(reader);
		rows = total; /* that call was not needed: once more, for the next one */
		total += 5;
		sealed = sealed_rows(&p);
		record_rows(&p, "run", rows, total - rows, 48u << 10, NULL);
	}
	print_message(
		"%llu of %llu calls were needed\n", (unsigned long long)failed, (unsigned long long)call - 1);
	assert_true(failed > 10);
	assert_ptr_equal(recording_find(reader, "/", "id"), id);
	assert_string_equal(esk_reader_metadata(reader), "{\"turn\": 2}");
	esk_reader_close(reader);
	assert_ok(esk_store_close(store, &err), &err);
	esk_fault_free(fault);
	place_close(&p);
}

/* As long as a file is such that no refresh can succeed, its chunks that were full are read where they are.
 */
static void a_reader_outlives_a_file_that_cannot_be_refreshed(void **state)
{
	place p = place_make(*state);
	esk_error err = {0};
	char path[200];
	int64_t ids[32];
	esk_h5 *file;
	record_rows(&p, "run", 0, 40, 0, NULL); /* chunks of `id` have 16 rows */
	esk_reader *reader = place_reader(&p, "run");
	esk_dataset *id = recording_find(reader, "/", "id");
	assert_ok(esk_dataset_read(id, 0, 32, 1, ids, sizeof ids, &err), &err);
	snprintf(path, sizeof path, "%s/run.h5", p.path);
	assert_ok(esk_h5_open_write(esk_os_posix(), path, &file, NULL, &err), &err);
	assert_ok(esk_h5_delete(file, "tag", &err), &err);
	assert_ok(esk_h5_commit_begin(file, &err), &err);
	assert_ok(esk_h5_commit_finish(file, NULL, &err), &err);
	for (int turn = 0; turn < 3; turn++) {
		assert_int_not_equal(esk_reader_refresh(reader, &err), ESK_OK);
		assert_non_null(strstr(err.message, "tag"));
		assert_int_equal(esk_dataset_rows(id), 40);
		memset(ids, 0, sizeof ids);
		assert_ok(esk_dataset_read(id, 0, 32, 1, ids, sizeof ids, &err), &err);
		for (int i = 0; i < 32; i++)
			assert_int_equal(ids[i], i + SALT * 1000000);
	}
	assert_ok(esk_h5_close(file, &err), &err);
	esk_reader_close(reader);
	place_close(&p);
}

/* ---- one state or the other ---- */

typedef struct looker {
	pthread_t thread;
	esk_reader *reader;
	esk_store *store;
	const char *run;
	uint64_t rows; /* at least */
	atomic_bool *stop;
	pthread_barrier_t *start;
	char why[300];
} looker;

static bool looker_fails(looker *l, const char *what, const char *why)
{
	snprintf(l->why, sizeof l->why, "%s: %.250s", what, why);
	return false;
}

/* Every row that there is, is there. Without cmocka, for threads of a child. */
static bool looks_sound(looker *l)
{
	esk_error err = {0};
	esk_dataset *id;
	esk_array array;
	int64_t found;
	char ref[80];
	if (esk_reader_find(l->reader, "id", &id, &err) != ESK_OK)
		return looker_fails(l, "find", err.message);
	uint64_t rows = esk_dataset_rows(id);
	if (rows < l->rows)
		return looker_fails(l, "rows", "there were more of them");
	for (uint64_t row = 0; row < rows; row += rows / 3) {
		if (esk_dataset_read_rows(id, &row, 1, &found, sizeof found, &err) != ESK_OK)
			return looker_fails(l, "read", err.message);
		if (found != (int64_t)row + SALT * 1000000)
			return looker_fails(l, "read", "not what was recorded");
	}
	snprintf(ref, sizeof ref, "h5://%s/id/%llu", l->run, (unsigned long long)rows / 2);
	if (esk_store_resolve(l->store, ref, &array, &err) != ESK_OK)
		return looker_fails(l, "resolve", err.message);
	found = *(int64_t *)array.data;
	esk_array_release(&array);
	return found == (int64_t)rows / 2 + SALT * 1000000 ? true : looker_fails(l, "resolve", "another row");
}

static void *look_without_end(void *arg)
{
	looker *l = arg;
	while (!atomic_load(l->stop) && looks_sound(l))
		;
	return NULL;
}

static void *refresh_without_end(void *arg)
{
	looker *l = arg;
	esk_error err = {0};
	while (!atomic_load(l->stop))
		if (esk_reader_refresh(l->reader, &err) != ESK_OK) {
			looker_fails(l, "refresh", err.message);
			break;
		}
	return NULL;
}

static void reads_go_on_while_others_refresh(void **state)
{
	enum { LOOKERS = 3 };
	place p = place_make(*state);
	atomic_bool stop = false;
	looker lookers[LOOKERS];
	record_rows(&p, "run", 0, 30, 48u << 10, NULL);
	esk_reader *reader = place_reader(&p, "run");
	for (int i = 0; i < LOOKERS; i++) {
		lookers[i] =
			(looker){.reader = reader, .store = p.store, .run = "run", .rows = 30, .stop = &stop};
		pthread_create(&lookers[i].thread, NULL, i == 0 ? refresh_without_end : look_without_end,
			&lookers[i]);
	}
	for (uint64_t turn = 0; turn < 4; turn++)
		record_rows(&p, "run", 30 + 10 * turn, 10, 48u << 10, NULL);
	atomic_store(&stop, true);
	for (int i = 0; i < LOOKERS; i++) {
		pthread_join(lookers[i].thread, NULL);
		if (lookers[i].why[0] != '\0')
			fail_msg("thread %d: %s", i, lookers[i].why);
	}
	esk_error err = {0};
	assert_ok(esk_reader_refresh(reader, &err), &err);
	recording_check_rows(reader, "/", 0, 70, SALT);
	esk_reader_close(reader);
	place_close(&p);
}

/* ---- the first call in a child ---- */

static void *look_at_once(void *arg)
{
	looker *l = arg;
	pthread_barrier_wait(l->start);
	looks_sound(l);
	return NULL;
}

/* In a child: every thread makes the first call. Ends the process. */
static void look_in_child(place *p, esk_reader *left, esk_reader *right)
{
	enum { LOOKERS = 4 };
	pthread_barrier_t start;
	looker lookers[LOOKERS];
	int bad = 0;
	pthread_attr_t large;
	alarm(120); /* a lock that nobody releases */
	pthread_barrier_init(&start, NULL, LOOKERS);
	/* None of the stacks that the parent's threads left is as large: ThreadSanitizer still knows their
	 * owners. */
	pthread_attr_init(&large);
	pthread_attr_setstacksize(&large, 64u << 20);
	for (int i = 0; i < LOOKERS; i++) {
		bool other = i == 3;
		lookers[i] = (looker){.reader = other ? right : left,
			.store = p->store,
			.run = other ? "right" : "left",
			.rows = other ? 15 : 30,
			.start = &start};
		if (pthread_create(&lookers[i].thread, &large, look_at_once, &lookers[i]) != 0)
			_exit(2);
	}
	for (int i = 0; i < LOOKERS; i++) {
		pthread_join(lookers[i].thread, NULL);
		if (lookers[i].why[0] != '\0') {
			fprintf(stderr, "thread %d of a child: %s\n", i, lookers[i].why);
			bad = 1;
		}
	}
	_exit(bad);
}

static void every_thread_of_a_child_may_be_the_first(void **state)
{
	place p = place_make(*state);
	atomic_bool stop = false;
	esk_error err = {0};
	record_rows(&p, "left", 0, 30, 48u << 10, NULL);
	record_rows(&p, "right", 0, 15, 0, NULL);
	esk_reader *left = place_reader(&p, "left"), *right = place_reader(&p, "right");
	looker busy[2];
	esk_array array;
	assert_ok(esk_store_resolve(p.store, "h5://left/id/7", &array, &err), &err);
	esk_array_release(&array);
	/* Threads of the parent are in the middle of it when it forks; a sanitizer's own allocator does not
	 * survive that. */
	for (int i = 0; i < 2 && !SANITIZED; i++) {
		busy[i] =
			(looker){.reader = left, .store = p.store, .run = "left", .rows = 30, .stop = &stop};
		pthread_create(
			&busy[i].thread, NULL, i == 0 ? refresh_without_end : look_without_end, &busy[i]);
	}
	for (uint64_t turn = 0; turn < test_scale(60); turn++) {
		int code = -1;
		pid_t child = fork();
		if (child == 0)
			look_in_child(&p, left, right);
		assert_int_equal(waitpid(child, &code, 0), child);
		if (code != 0)
			fail_msg("child %llu ended with %d", (unsigned long long)turn, code);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < 2 && !SANITIZED; i++) {
		pthread_join(busy[i].thread, NULL);
		if (busy[i].why[0] != '\0')
			fail_msg("thread %d: %s", i, busy[i].why);
	}
	esk_reader_close(left);
	esk_reader_close(right);
	place_close(&p);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		ONE(a_refresh_that_meets_a_fault_changes_nothing),
		ONE(a_reader_outlives_a_file_that_cannot_be_refreshed),
		ONE(reads_go_on_while_others_refresh),
		ONE(every_thread_of_a_child_may_be_the_first),
	};
	return test_run(tests);
}
