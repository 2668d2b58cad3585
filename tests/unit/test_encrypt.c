/* Encryption at rest: runs whose sealed segments are encrypted, as recorded, read, checked, repaired, pruned
 * and killed. */
#include "support/ordeal.h"
#include "unit/encrypt_support.h"

#include "record/record.h"
#include "store/store.h"

#define SALT 3

static esk_store *open_store(const char *path, const esk_key *key)
{
	esk_store_options options = ESK_STORE_OPTIONS_INIT;
	esk_store *store = NULL;
	esk_error err = {0};
	options.codec_threads = 2;
	options.log = recording_log;
	options.key = key;
	if (access(path, F_OK) != 0)
		assert_ok(esk_store_create(path, &err), &err);
	assert_ok(esk_store_open(path, &options, &store, &err), &err);
	return store;
}

/* Appends rows [first, first + rows), a commit every ten, so that segments rotate. */
static void record(esk_store *store, uint64_t first, uint64_t rows, bool encrypt)
{
	esk_run_options options = ESK_RUN_OPTIONS_INIT;
	esk_run *run;
	esk_stream *stream;
	esk_error err = {0};
	options.append = first > 0;
	options.commit_interval_ns = UINT64_MAX; /* what lies where in a file does not depend on time */
	options.ring_bytes = 4u << 20;
	options.segment_bytes = 60000;
	options.encrypt = encrypt;
	assert_ok(esk_run_open(store, "run", &options, &run, &err), &err);
	assert_ok(recording_stream(run, "/", &stream, &err), &err);
	for (uint64_t i = 0; i < rows; i++) {
		assert_ok(recording_append(stream, first + i, SALT, NULL, &err), &err);
		if (i % 10 == 9)
			assert_ok(esk_stream_commit(stream, NULL, &err), &err);
	}
	assert_ok(esk_run_close(run, &err), &err);
}

static void check_rows(esk_store *store, uint64_t rows)
{
	esk_reader *reader;
	esk_error err = {0};
	assert_ok(esk_reader_open(store, "run", &reader, &err), &err);
	assert_int_equal(recording_rows(reader, "/"), rows);
	recording_check_rows(reader, "/", 0, rows, SALT);
	recording_check_index(store, "run", rows, SALT);
	esk_reader_close(reader);
}

static void a_closed_run_is_encrypted_whole_and_read_as_before(void **state)
{
	test_dir *dir = *state;
	esk_key *key = make_key(dir, "key");
	const char *path = test_path(dir, "store");
	esk_error err = {0};
	esk_store *store = open_store(path, key);
	record(store, 0, 100, true);
	assert_int_equal(count_files(path, "*.h5"), 0);
	assert_int_equal(count_files(path, "spool/*"), 0);
	assert_true(count_files(path, "run_*.h5x") >= 3);
	check_rows(store, 100);
	recording_verify(store);
	esk_array array;
	assert_ok(esk_store_resolve(store, "h5://run/id/57", &array, &err), &err);
	assert_int_equal(*(int64_t *)array.data, 57 + SALT * 1000000);
	esk_array_release(&array);
	assert_ok(esk_store_close(store, &err), &err);
	/* Opened again, nothing is recovered or made: there is nothing to do. */
	size_t files = count_files(path, "*.h5x");
	store = open_store(path, key);
	assert_int_equal(count_files(path, "*.h5"), 0);
	assert_int_equal(count_files(path, "*.h5x"), files);
	check_rows(store, 100);
	assert_ok(esk_store_close(store, &err), &err);
	esk_key_free(key);
}

static void appending_to_an_encrypted_run_begins_a_new_segment(void **state)
{
	test_dir *dir = *state;
	esk_key *key = make_key(dir, "key");
	const char *path = test_path(dir, "store");
	esk_error err = {0};
	esk_store *store = open_store(path, key);
	record(store, 0, 45, true);
	size_t before = count_files(path, "*.h5x");
	record(store, 45, 5, false);
	assert_int_equal(count_files(path, "*.h5x"), before);
	assert_int_equal(count_files(path, "run.h5"), 1);
	check_rows(store, 50);
	record(store, 50, 50, true);
	assert_int_equal(count_files(path, "*.h5"), 0);
	check_rows(store, 100);
	recording_verify(store);
	assert_ok(esk_store_close(store, &err), &err);
	esk_key_free(key);
}

static void a_reindexed_store_knows_encrypted_segments_and_needs_the_key(void **state)
{
	test_dir *dir = *state;
	esk_key *key = make_key(dir, "key");
	const char *path = test_path(dir, "store");
	esk_check_report report;
	esk_error err = {0};
	esk_store *store = open_store(path, key);
	record(store, 0, 60, true);
	assert_ok(esk_store_close(store, &err), &err);
	assert_int_equal(esk_store_reindex(path, NULL, &report, &err), ESK_EACCES);
	assert_non_null(strstr(err.message, esk_key_id(key)));
	assert_non_null(strstr(err.message, "nothing was changed"));
	setenv("ESKER_KEY_FILE", test_path(dir, "key"), 1);
	assert_ok(esk_store_reindex(path, NULL, &report, &err), &err);
	assert_int_equal(report.findings, 0);
	unsetenv("ESKER_KEY_FILE");
	store = open_store(path, key);
	check_rows(store, 60);
	recording_verify(store);
	assert_ok(esk_store_close(store, &err), &err);
	esk_key_free(key);
}

static void without_the_key_a_store_opens_and_its_encrypted_runs_say_what_they_need(void **state)
{
	test_dir *dir = *state;
	esk_key *key = make_key(dir, "key");
	const char *path = test_path(dir, "store");
	esk_error err = {0};
	esk_reader *reader;
	esk_run *run;
	esk_run_options options = ESK_RUN_OPTIONS_INIT;
	options.append = true;
	esk_store *store = open_store(path, key);
	record(store, 0, 60, true);
	assert_ok(esk_store_close(store, &err), &err);
	store = open_store(path, NULL);
	assert_int_equal(esk_reader_open(store, "run", &reader, &err), ESK_EACCES);
	assert_non_null(strstr(err.message, esk_key_id(key)));
	assert_int_equal(esk_run_open(store, "run", &options, &run, &err), ESK_EACCES);
	options.append = false;
	assert_int_equal(esk_run_open(store, "run", &options, &run, &err), ESK_EEXIST);
	options.encrypt = true;
	assert_int_equal(esk_run_open(store, "other", &options, &run, &err), ESK_ENOTFOUND);
	esk_check_report report;
	assert_ok(esk_store_verify(store, NULL, &report, &err), &err);
	assert_int_equal(report.findings, report.files);
	assert_int_equal(count_files(path, "other*"), 0);
	assert_ok(esk_store_close(store, &err), &err);
	store = open_store(path, key);
	check_rows(store, 60);
	assert_ok(esk_store_close(store, &err), &err);
	esk_key_free(key);
}

static void readers_see_every_row_while_segments_are_encrypted(void **state)
{
	test_dir *dir = *state;
	esk_key *key = make_key(dir, "key");
	const char *path = test_path(dir, "store");
	esk_run_options options = ESK_RUN_OPTIONS_INIT;
	esk_run *run;
	esk_stream *stream;
	esk_error err = {0};
	options.segment_bytes = 60000;
	options.ring_bytes = 4u << 20;
	options.encrypt = true;
	esk_store *store = open_store(path, key);
	assert_ok(esk_run_open(store, "run", &options, &run, &err), &err);
	assert_ok(recording_stream(run, "/", &stream, &err), &err);
	for (uint64_t i = 0; i < 120; i++) {
		esk_reader *reader;
		assert_ok(recording_append(stream, i, SALT, NULL, &err), &err);
		assert_ok(esk_stream_commit(stream, NULL, &err), &err);
		assert_ok(esk_reader_open(store, "run", &reader, &err), &err);
		assert_int_equal(recording_rows(reader, "/"), i + 1);
		recording_check_rows(reader, "/", i / 2, i + 1 - i / 2, SALT);
		esk_reader_close(reader);
	}
	assert_ok(esk_run_close(run, &err), &err);
	check_rows(store, 120);
	assert_ok(esk_store_close(store, &err), &err);
	esk_key_free(key);
}

static void segments_that_are_pruned_while_others_are_encrypted_are_gone_under_both_names(void **state)
{
	test_dir *dir = *state;
	esk_key *key = make_key(dir, "key");
	const char *path = test_path(dir, "store");
	esk_run_options options = ESK_RUN_OPTIONS_INIT;
	esk_run *run;
	esk_stream *stream;
	esk_reader *reader;
	esk_error err = {0};
	options.segment_bytes = 30000;
	options.ring_bytes = 4u << 20;
	options.encrypt = true;
	options.keep_segments = 3;
	esk_store *store = open_store(path, key);
	assert_ok(esk_run_open(store, "run", &options, &run, &err), &err);
	assert_ok(recording_stream(run, "/", &stream, &err), &err);
	for (uint64_t i = 0; i < 150; i++) {
		assert_ok(recording_append(stream, i, SALT, NULL, &err), &err);
		if (i % 5 == 4)
			assert_ok(esk_stream_commit(stream, NULL, &err), &err);
	}
	assert_ok(esk_run_close(run, &err), &err);
	assert_int_equal(count_files(path, "*.h5"), 0);
	assert_int_equal(count_files(path, "*.h5x"), 4); /* three that are kept, and the last one */
	recording_verify(store);
	assert_ok(esk_reader_open(store, "run", &reader, &err), &err);
	assert_int_equal(recording_rows(reader, "/"), 150);
	recording_check_rows(reader, "/", 140, 10, SALT);
	esk_reader_close(reader);
	assert_ok(esk_store_close(store, &err), &err);
	esk_key_free(key);
}

static void a_damaged_encrypted_segment_is_repaired_into_an_encrypted_one(void **state)
{
	test_dir *dir = *state;
	esk_key *key = make_key(dir, "key");
	const char *path = test_path(dir, "store");
	char pattern[300];
	glob_t found;
	size_t size;
	esk_check_report report;
	esk_reader *reader;
	esk_error err = {0};
	esk_store *store = open_store(path, key);
	record(store, 0, 100, true);
	snprintf(pattern, sizeof pattern, "%s/run_*.h5x", path);
	assert_int_equal(glob(pattern, 0, NULL, &found), 0);
	uint8_t *data = read_file(found.gl_pathv[0], &size);
	data[size - 40] ^= 4; /* of the last page: rows of the end */
	write_file(found.gl_pathv[0], data, size, 0644);
	free(data);
	assert_ok(esk_store_verify(store, NULL, &report, &err), &err);
	assert_true(report.findings > 0);
	assert_ok(esk_store_repair(store, NULL, &report, &err), &err);
	assert_true(report.findings > 0);
	assert_int_equal(count_files(path, "*.h5"), 0);
	assert_int_equal(count_files(path, "spool/*.repair*"), 0);
	assert_int_equal(count_files(path, "*.h5x.damaged"), 1);
	recording_verify(store);
	assert_ok(esk_reader_open(store, "run", &reader, &err), &err);
	assert_int_equal(recording_rows(reader, "/"), 100);
	recording_check_rows(reader, "/", 90, 10, SALT); /* of an undamaged segment */
	esk_reader_close(reader);
	globfree(&found);
	assert_ok(esk_store_close(store, &err), &err);
	esk_key_free(key);
}

/* ---- death ---- */

typedef struct shared {
	_Atomic int64_t acknowledged; /* committed rows */
	_Atomic int64_t plain;        /* sealed segments that death left plain, in all */
} shared;

static esk_key *key_of_children;

static void record_until_killed(const char *path, void *arg)
{
	shared *s = arg;
	esk_store *store = open_store(path, key_of_children);
	esk_run_options options = ESK_RUN_OPTIONS_INIT;
	esk_run *run;
	esk_stream *stream;
	esk_error err = {0};
	options.append = true;
	options.ring_bytes = 1u << 20;
	options.segment_bytes = 40000;
	options.encrypt = true;
	for (int64_t i = atomic_load(&s->acknowledged);;) {
		assert_ok(esk_run_open(store, "run", &options, &run, &err), &err);
		assert_ok(recording_stream(run, "/", &stream, &err), &err);
		for (int64_t end = i + 25; i < end; i++) {
			assert_ok(recording_append(stream, (uint64_t)i, SALT, NULL, &err), &err);
			assert_ok(esk_stream_commit(stream, NULL, &err), &err);
			atomic_store(&s->acknowledged, i + 1);
		}
		assert_ok(esk_run_close(run, &err), &err);
	}
}

/* By whatever step it died at, every committed row is there, once, and the store's next opening with the key
 * finishes the encryption. */
static void check_after_death(const char *path, void *arg)
{
	shared *s = arg;
	esk_reader *reader;
	esk_error err = {0};
	atomic_fetch_add(&s->plain, (int64_t)count_files(path, "run_*.h5"));
	esk_store *store = open_store(path, key_of_children);
	assert_ok(esk_reader_open(store, "run", &reader, &err), &err);
	uint64_t rows = recording_rows(reader, "/");
	esk_reader_close(reader);
	ordeal_found(&s->acknowledged, (int64_t)rows);
	check_rows(store, rows);
	recording_verify(store);
	assert_int_equal(count_files(path, "*.h5"), 0);
	assert_int_equal(count_files(path, "spool/*.encrypt*"), 0);
	assert_int_equal(count_files(path, "spool/*.new"), 0);
	assert_ok(esk_store_close(store, &err), &err);
	print_message("%lld rows, %lld sealed segments were still plain\n", (long long)rows,
		(long long)atomic_load(&s->plain));
}

#define KILLS_PER_STORE 6 /* verify reads all of it each time */

static void kills_at_any_moment_lose_no_row_and_the_encryption_is_finished(void **state)
{
	ordeal o = {.live = record_until_killed,
		.look = check_after_death,
		.shared_bytes = sizeof(shared),
		.most = 40,
		.most_ms = 6,
		.dies_young = true};
	key_of_children = make_key(*state, "key");
	for (uint64_t kills = test_scale(24); kills > 0; kills -= esk_min_u64(kills, KILLS_PER_STORE))
		ordeal_run(*state, &o, esk_min_u64(kills, KILLS_PER_STORE));
	esk_key_free(key_of_children);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	unsetenv("ESKER_KEY");
	unsetenv("ESKER_KEY_FILE");
#define TEST(name) cmocka_unit_test_setup_teardown(name, test_dir_make, test_dir_remove)
	const struct CMUnitTest tests[] = {
		/* It forks: before there are threads. */
		TEST(kills_at_any_moment_lose_no_row_and_the_encryption_is_finished),
		TEST(a_closed_run_is_encrypted_whole_and_read_as_before),
		TEST(appending_to_an_encrypted_run_begins_a_new_segment),
		TEST(a_reindexed_store_knows_encrypted_segments_and_needs_the_key),
		TEST(without_the_key_a_store_opens_and_its_encrypted_runs_say_what_they_need),
		TEST(readers_see_every_row_while_segments_are_encrypted),
		TEST(segments_that_are_pruned_while_others_are_encrypted_are_gone_under_both_names),
		TEST(a_damaged_encrypted_segment_is_repaired_into_an_encrypted_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
