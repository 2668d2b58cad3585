/* Runs on the real operating system: what a full ring does by policy, rotation, going on with an earlier run,
 * metadata, names, fork and death.
 *
 *     test_record_runs [SEED]  */
#include "support/ordeal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>

#define SALT 5

/* ---- policies ---- */

typedef struct numbered {
	uint64_t id;
	uint8_t cell[1000];
} numbered;

static esk_status append_numbered(esk_stream *stream, uint64_t i, esk_error *err)
{
	numbered row = {.id = i};
	memset(row.cell, (int)(mix(i) & 0xFF), sizeof row.cell);
	return esk_stream_append(stream, (const void *[]){&row.id, row.cell}, NULL, err);
}

/* Every row is whole, and ids rise. Returns how many there are. */
static uint64_t check_numbered(place *p, const char *run)
{
	esk_reader *reader = place_reader(p, run);
	uint64_t rows = esk_dataset_rows(recording_find(reader, "s", "id"));
	assert_int_equal(esk_dataset_rows(recording_find(reader, "s", "cell")), rows);
	uint64_t *ids = place_read(reader, "s/id", 0, rows, 8);
	uint8_t *cells = place_read(reader, "s/cell", 0, rows, 1000), want[1000];
	for (uint64_t i = 0; i < rows; i++) {
		assert_true(i == 0 || ids[i] > ids[i - 1]);
		memset(want, (int)(mix(ids[i]) & 0xFF), sizeof want);
		assert_memory_equal(cells + 1000 * i, want, sizeof want);
	}
	free(ids);
	free(cells);
	esk_reader_close(reader);
	return rows;
}

/* Sum of records in /.esker/gaps of a file. */
static uint64_t gaps_in_file(const place *p, const char *file)
{
	char path[300];
	esk_h5 *h5;
	esk_h5_dataset *dataset;
	esk_pool *pool;
	esk_error err = {0};
	uint64_t records = 0;
	snprintf(path, sizeof path, "%s/%s", p->path, file);
	assert_ok(esk_h5_open_read(esk_os_posix(), path, &h5, &err), &err);
	assert_ok(esk_pool_create(1, 8, &pool, &err), &err);
	if (esk_h5_exists(h5, ESK_GAPS_PATH)) {
		assert_ok(esk_h5_dataset_open(h5, ESK_GAPS_PATH, &dataset, &err), &err);
		uint64_t rows = esk_h5_dataset_info(dataset)->rows;
		esk_gap *gaps = calloc(rows + 1, sizeof *gaps);
		esk_h5_rows piece = {.row = 0, .count = rows, .out = gaps};
		assert_ok(esk_h5_read_rows(dataset, pool, &piece, 1, &err), &err);
		for (uint64_t i = 0; i < rows; i++) {
			records += gaps[i].records;
			assert_int_equal(gaps[i].cause, 0);
			assert_true(i == 0 || gaps[i].first_sequence > gaps[i - 1].last_sequence);
		}
		free(gaps);
	}
	esk_h5_close(h5, NULL);
	esk_pool_destroy(pool);
	return records;
}

static void overwritten_records_are_counted_exactly(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(64u << 10);
	esk_error err = {0};
	uint64_t total = test_scale(20000);
	options.policy = ESK_OVERWRITE;
	options.commit_interval_ns = 10000000;
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", "id:u64 cell:u8[1000]");
	for (uint64_t i = 0; i < total; i++) {
		assert_ok(append_numbered(stream, i, &err), &err);
		if (i % 4000 == 3999)
			assert_ok(esk_run_commit(run, NULL, &err), &err);
	}
	assert_ok(esk_run_commit(run, NULL, &err), &err);
	esk_run_stats stats = {.struct_size = sizeof stats};
	assert_ok(esk_run_get_stats(run, &stats, &err), &err);
	place_run_close(run);
	uint64_t rows = check_numbered(&p, "run");
	if (rows + stats.lost_records != total)
		fail_msg("%llu rows and %llu lost records of %llu", (unsigned long long)rows,
			(unsigned long long)stats.lost_records, (unsigned long long)total);
	assert_true(stats.lost_records > 0);
	assert_true(stats.lost_bytes >= stats.lost_records * 1008);
	assert_int_equal(place_query(&p, "SELECT total(records) FROM gaps"), stats.lost_records);
	assert_int_equal(gaps_in_file(&p, "run.h5"), stats.lost_records);
	recording_verify(p.store);
	place_close(&p);
}

/* Until the ring is full: no commit runs by itself before a quarter is filled, and none can while a
 * reservation is held. */
static uint64_t fill_behind_reservation(esk_stream *stream, esk_stream *holder, esk_status expected)
{
	esk_reservation slot;
	esk_error err = {0};
	uint64_t count = 0;
	esk_status status;
	assert_ok(esk_stream_reserve(holder, 1, &slot, &err), &err);
	while ((status = append_numbered(stream, count, &err)) == ESK_OK)
		assert_true(++count < 1000);
	assert_int_equal(status, expected);
	*(int64_t *)slot.cells[0] = 1;
	esk_stream_publish(holder, &slot);
	return count;
}

#define WAITING_ROWS 100u /* more than the ring takes */

static void *append_until_all(void *arg)
{
	esk_error err = {0};
	uint64_t count = 0;
	while (count < WAITING_ROWS && append_numbered(arg, count, &err) == ESK_OK)
		count++;
	return (void *)(uintptr_t)count;
}

/* Once the statistics waited for a producer that itself waited for room. */
static void statistics_do_not_wait_for_a_producer_that_waits(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(64u << 10);
	esk_run_stats stats = {.struct_size = sizeof stats};
	esk_reservation slot;
	esk_error err = {0};
	pthread_t producer;
	void *appended;
	options.block_timeout_ns = 5000000000;
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", "id:u64 cell:u8[1000]");
	esk_stream *holder = place_stream(run, "h", "x:i64");
	assert_ok(esk_stream_reserve(holder, 1, &slot, &err), &err);
	assert_int_equal(pthread_create(&producer, NULL, append_until_all, stream), 0);
	while (stats.ring_used_bytes + 2048 < stats.ring_bytes || stats.ring_bytes == 0)
		assert_ok(esk_run_get_stats(run, &stats, &err), &err);
	recording_sleep_ms(20); /* it waits by now */
	assert_ok(esk_run_get_stats(run, &stats, &err), &err);
	assert_true(stats.appended_rows < WAITING_ROWS);
	*(int64_t *)slot.cells[0] = 1;
	esk_stream_publish(holder, &slot);
	pthread_join(producer, &appended);
	assert_int_equal(
		(uintptr_t)appended, WAITING_ROWS); /* its time was not over when the statistics came */
	place_run_close(run);
	place_close(&p);
}

static void a_full_ring_rejects_or_times_out_and_recording_goes_on(void **state)
{
	static const esk_policy policies[] = {ESK_REJECT, ESK_BLOCK};
	static const esk_status expected[] = {ESK_EFULL, ESK_ETIMEDOUT};
	place p = place_make(*state);
	for (int i = 0; i < 2; i++) {
		esk_run_options options = place_options(64u << 10);
		esk_error err = {0};
		esk_watermark mark;
		options.policy = policies[i];
		options.block_timeout_ns = 30000000;
		esk_run *run = place_run(&p, i == 0 ? "reject" : "block", &options);
		esk_stream *stream = place_stream(run, "s", "id:u64 cell:u8[1000]");
		esk_stream *holder = place_stream(run, "h", "x:i64");
		uint64_t begin = esk_monotonic_ns();
		uint64_t count = fill_behind_reservation(stream, holder, expected[i]);
		uint64_t waited = esk_monotonic_ns() - begin;
		assert_true(count > 30);
		if (policies[i] == ESK_BLOCK)
			assert_true(waited >= 30000000);
		assert_ok(esk_stream_commit(stream, &mark, &err), &err);
		assert_int_equal(mark.rows, count);
		assert_ok(append_numbered(stream, count++, &err), &err);
		place_run_close(run);
		assert_int_equal(check_numbered(&p, i == 0 ? "reject" : "block"), count);
	}
	assert_int_equal(place_query(&p, "SELECT count(*) FROM gaps"), 0);
	place_close(&p);
}

/* ---- sessions ---- */

static void a_run_is_rotated_closed_and_gone_on_with(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(128u << 10);
	esk_error err = {0};
	uint64_t total = 0;
	options.segment_bytes = 32u << 10;
	options.append = true;
	for (int session = 0; session < 4; session++) {
		esk_run *run = place_run(&p, "run", &options);
		esk_stream *stream;
		esk_watermark mark;
		assert_ok(recording_stream(run, "/", &stream, &err), &err);
		assert_ok(esk_stream_commit(stream, &mark, &err), &err);
		assert_int_equal(mark.rows, total);
		for (int i = 0; i < 25; i++) {
			uint64_t row;
			assert_ok(recording_append(stream, total, SALT, &row, &err), &err);
			assert_int_equal(row, total++);
			if (i % 8 == 7)
				assert_ok(esk_run_commit(run, NULL, &err), &err);
		}
		place_run_close(run);
		if (session == 1)
			place_reopen(&p);
	}
	assert_true(place_files(&p) > 4);
	esk_reader *reader = place_reader(&p, "run");
	assert_int_equal(recording_rows(reader, "/"), total);
	recording_check_rows(reader, "/", 0, total, SALT);
	recording_check_rows(reader, "/", 13, 55, SALT);
	esk_reader_close(reader);
	assert_int_equal(place_query(&p, "SELECT rows FROM runs"), total);
	recording_verify(p.store);
	place_close(&p);
}

static void a_run_has_one_recorder_and_one_shape(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(128u << 10);
	esk_error err = {0};
	esk_run *run = place_run(&p, "run", &options), *other;
	esk_column *columns;
	esk_stream *stream;
	size_t count;
	place_stream(run, "s", "x:i32 y:f64[2]?");
	assert_int_equal(esk_run_open(p.store, "run", &options, &other, &err), ESK_EBUSY);
	options.append = true;
	assert_int_equal(esk_run_open(p.store, "run", &options, &other, &err), ESK_EBUSY);
	place_run_close(run);
	options.append = false;
	assert_int_equal(esk_run_open(p.store, "run", &options, &other, &err), ESK_EEXIST);
	options.append = true;
	run = place_run(&p, "run", &options);
	static const struct {
		const char *spec;
		esk_status status;
		const char *said;
	} wrong[] = {
		{"x:i64 y:f64[2]?", ESK_ETYPE, "\"x\""},
		{"x:i32 y:f64[3]?", ESK_ESHAPE, "\"y\""},
		{"x:i32", ESK_ESHAPE, "2 columns"},
		{"x:i32 z:f64[2]?", ESK_EINVAL, "\"z\""},
		{"x:i32 x:f64", ESK_EINVAL, "twice"},
		{"a:i32? a_valid:bool", ESK_EINVAL, "twice"},
	};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		if (esk_columns_parse(wrong[i].spec, &columns, &count, &err) != ESK_OK)
			continue;
		esk_status status = esk_run_stream(run, "s", columns, count, &stream, &err);
		if (status == ESK_OK || strstr(err.message, wrong[i].said) == NULL)
			fail_msg("%s: %s: %s", wrong[i].spec, esk_status_name(status), err.message);
		esk_columns_free(columns);
	}
	place_stream(run, "s", "x:i32 y:f64[2]?");
	place_run_close(run);
	place_close(&p);
}

static void names_that_lead_elsewhere_are_refused(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(128u << 10);
	esk_error err = {0};
	esk_run *run;
	esk_stream *stream;
	esk_column column = {.name = "x", .dtype = {ESK_I32, 4}};
	char too_long[300] = {0};
	memset(too_long, 'a', 201);
	const char *names[] = {"", "../x", "a/b", "/", ".", "..", ".hidden", "a\\b", "a:b", "a\nb", too_long,
		"\xff\xfe", "x\x7f"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		assert_int_equal(esk_run_open(p.store, names[i], &options, &run, &err), ESK_EINVAL);
		assert_non_null(strstr(err.message, "run"));
	}
	too_long[200] = '\0';
	run = place_run(&p, too_long, &options);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (strcmp(names[i], "/") == 0 || names[i] == too_long)
			continue;
		esk_column bad = column;
		snprintf(bad.name, sizeof bad.name, "%s", names[i]);
		if (strcmp(names[i], "a/b") == 0) /* a stream, a column may lie in a group */
			continue;
		assert_int_equal(esk_run_stream(run, names[i], &column, 1, &stream, &err), ESK_EINVAL);
		assert_int_equal(esk_run_stream(run, "ok", &bad, 1, &stream, &err), ESK_EINVAL);
	}
	assert_int_equal(esk_run_stream(run, "ok", &column, 0, &stream, &err), ESK_EINVAL);
	place_run_close(run);
	assert_int_equal(place_files(&p), 1);
	place_close(&p);
}

static void metadata_is_kept_in_file_and_catalogue(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(128u << 10);
	esk_error err = {0};
	esk_run *run;
	options.metadata_json = "[1]";
	assert_int_equal(esk_run_open(p.store, "run", &options, &run, &err), ESK_EINVAL);
	options.metadata_json = "{\"game\": \"Breakout\", \"seed\": 3}";
	run = place_run(&p, "run", &options);
	assert_int_equal(esk_run_set_metadata(run, "{", &err), ESK_EINVAL);
	assert_int_equal(esk_run_set_metadata(run, NULL, &err), ESK_EINVAL);
	esk_reader *reader = place_reader(&p, "run");
	assert_string_equal(esk_reader_metadata(reader), options.metadata_json);
	assert_ok(esk_run_set_metadata(run, "{\"seed\": 4}", &err), &err);
	assert_ok(esk_run_commit(run, NULL, &err), &err);
	assert_ok(esk_reader_refresh(reader, &err), &err);
	assert_string_equal(esk_reader_metadata(reader), "{\"seed\": 4}");
	assert_int_equal(
		place_query(&p, "SELECT CAST(value AS INTEGER) FROM metadata WHERE key = 'seed'"), 4);
	assert_int_equal(place_query(&p, "SELECT count(*) FROM metadata WHERE key = 'game'"), 0);
	place_run_close(run);
	options.append = true;
	options.metadata_json = NULL;
	place_run_close(place_run(&p, "run", &options));
	assert_ok(esk_reader_refresh(reader, &err), &err);
	assert_string_equal(esk_reader_metadata(reader), "{\"seed\": 4}");
	esk_reader_close(reader);
	place_close(&p);
}

static void rows_that_no_commit_covered_are_there_after_closing_the_store(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(256u << 10);
	esk_error err = {0};
	esk_stream *stream;
	options.commit_interval_ns = UINT64_MAX;
	esk_run *run = place_run(&p, "run", &options);
	assert_ok(recording_stream(run, "deep", &stream, &err), &err);
	for (uint64_t i = 0; i < 6; i++)
		assert_ok(recording_append(stream, i, SALT, NULL, &err), &err);
	place_reopen(&p); /* closes the run */
	esk_reader *reader = place_reader(&p, "run");
	assert_int_equal(recording_rows(reader, "deep"), 6);
	recording_check_rows(reader, "deep", 0, 6, SALT);
	esk_reader_close(reader);
	assert_int_equal(place_query(&p, "SELECT state FROM runs"), 1);
	place_close(&p);
}

/* ---- fork and death ---- */

static void a_forked_child_cannot_record_and_the_parent_goes_on(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(256u << 10);
	esk_error err = {0};
	esk_stream *stream;
	esk_run *run = place_run(&p, "run", &options);
	assert_ok(recording_stream(run, "/", &stream, &err), &err);
	assert_ok(recording_append(stream, 0, SALT, NULL, &err), &err);
	assert_ok(esk_run_commit(run, NULL, &err), &err);
	pid_t child = fork();
	if (child == 0) {
		esk_run *none;
		esk_reservation slot;
		esk_run_stats stats = {.struct_size = sizeof stats};
		int bad = recording_append(stream, 1, SALT, NULL, &err) != ESK_ECLOSED;
		bad += esk_run_commit(run, NULL, &err) != ESK_ECLOSED;
		bad += esk_stream_reserve(stream, 1, &slot, &err) != ESK_ECLOSED;
		bad += esk_run_set_metadata(run, "{}", &err) != ESK_ECLOSED;
		bad += esk_run_get_stats(run, &stats, &err) != ESK_ECLOSED;
		bad += esk_run_open(p.store, "other", &options, &none, &err) != ESK_ECLOSED;
		bad += esk_run_close(run, &err) != ESK_OK;
		bad += esk_store_close(p.store, &err) != ESK_OK;
		_exit(bad);
	}
	int code = -1;
	assert_int_equal(waitpid(child, &code, 0), child);
	assert_int_equal(code, 0);
	for (uint64_t i = 1; i < 9; i++)
		assert_ok(recording_append(stream, i, SALT, NULL, &err), &err);
	place_run_close(run);
	esk_reader *reader = place_reader(&p, "run");
	assert_int_equal(recording_rows(reader, "/"), 9);
	recording_check_rows(reader, "/", 0, 9, SALT);
	esk_reader_close(reader);
	place_close(&p);
}

/* Records until it is killed; what was acknowledged is counted in shared memory. */
static void record_until_killed(const char *path, void *shared)
{
	_Atomic int64_t *acknowledged = shared;
	esk_store *store;
	esk_run *run;
	esk_stream *stream;
	esk_watermark mark;
	esk_error err = {0};
	esk_run_options options = place_options(256u << 10);
	options.append = true;
	options.commit_interval_ns = 4000000;
	options.segment_bytes = 200u << 10;
	if (esk_store_open(path, NULL, &store, &err) != ESK_OK ||
		esk_run_open(store, "run", &options, &run, &err) != ESK_OK ||
		recording_stream(run, "/", &stream, &err) != ESK_OK ||
		esk_stream_commit(stream, &mark, &err) != ESK_OK ||
		(int64_t)mark.rows < atomic_load(acknowledged))
		_exit(1);
	for (uint64_t row = mark.rows;; row++) {
		if (recording_append(stream, row, SALT, NULL, &err) != ESK_OK)
			_exit(2);
		atomic_store(acknowledged, (int64_t)row + 1);
	}
}

static void check_after_death(const char *path, void *shared)
{
	place p = place_at(path);
	esk_reader *reader = place_reader(&p, "run");
	uint64_t rows = recording_rows(reader, "/"), from = rows > 60 ? rows - 60 : 0;
	ordeal_found(shared, (int64_t)rows);
	recording_check_rows(reader, "/", from, rows - from, SALT);
	esk_reader_close(reader);
	recording_verify(p.store);
	place_close(&p);
}

static void acknowledged_rows_survive_kill(void **state)
{
	ordeal o = {.live = record_until_killed,
		.look = check_after_death,
		.most = 1,
		.most_ms = 120,
		.dies_young = true};
	ordeal_run(*state, &o, test_scale(9));
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		ONE(acknowledged_rows_survive_kill),
		ONE(overwritten_records_are_counted_exactly),
		ONE(a_full_ring_rejects_or_times_out_and_recording_goes_on),
		ONE(statistics_do_not_wait_for_a_producer_that_waits),
		ONE(a_run_is_rotated_closed_and_gone_on_with),
		ONE(a_run_has_one_recorder_and_one_shape),
		ONE(names_that_lead_elsewhere_are_refused),
		ONE(metadata_is_kept_in_file_and_catalogue),
		ONE(rows_that_no_commit_covered_are_there_after_closing_the_store),
		ONE(a_forked_child_cannot_record_and_the_parent_goes_on),
	};
	return test_run(tests);
}
