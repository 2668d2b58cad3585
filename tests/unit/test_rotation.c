/* Segments that follow hours and days, and runs that keep the newest ones only: what is kept keeps its index,
 * what is gone is said to be gone, and a crash in between is made good.
 *
 *     test_rotation [SEED]  */
#include "unit/recording_place.h"

#include <errno.h>
#include <stdatomic.h>

#define HOUR_NS (3600 * (int64_t)1000000000)

/* ---- a clock and a disk of ours ---- */

static _Atomic int64_t clock_ns;
static atomic_bool unlink_fails;

static int64_t our_now_ns(const esk_os *os)
{
	(void)os;
	return atomic_load(&clock_ns);
}

static int our_unlink(const esk_os *os, const char *path)
{
	size_t size = strlen(path);
	if (atomic_load(&unlink_fails) && size > 3 && strcmp(path + size - 3, ".h5") == 0)
		return -EACCES;
	return esk_os_posix()->unlink(os, path);
}

static esk_os our_os;

static place make_place(test_dir *dir)
{
	place p = {.dir = dir};
	esk_error err = {0};
	our_os = *esk_os_posix();
	our_os.now_ns = our_now_ns;
	our_os.unlink = our_unlink;
	atomic_store(&unlink_fails, false);
	snprintf(p.path, sizeof p.path, "%s/store", dir->path);
	assert_ok(esk_store_create(p.path, &err), &err);
	return p;
}

static void open_place(place *p)
{
	esk_store_environment environment = {.os = &our_os};
	esk_store_options options = ESK_STORE_OPTIONS_INIT;
	esk_error err = {0};
	options.codec_threads = 1;
	options.log = recording_log;
	assert_ok(esk_store_open_in(&environment, p->path, &options, &p->store, &err), &err);
}

/* ---- what is appended ---- */

static void append(esk_stream *stream, int64_t first, int64_t count)
{
	esk_error err = {0};
	for (int64_t i = first; i < first + count; i++)
		assert_ok(esk_stream_append(stream, (const void *[]){&i}, NULL, &err), &err);
}

static void commit(esk_run *run)
{
	esk_error err = {0};
	assert_ok(esk_run_commit(run, NULL, &err), &err);
}

/* The drain looks at the clock when it wakes, and a commit wakes it: `wanted` segments, at some time. */
static void wait_for_segments(esk_run *run, uint64_t wanted)
{
	esk_run_stats stats = {.struct_size = sizeof stats};
	esk_error err = {0};
	for (int i = 0; i < 3000; i++) {
		commit(run);
		assert_ok(esk_run_get_stats(run, &stats, &err), &err);
		if (stats.segments == wanted)
			return;
		recording_sleep_ms(1);
	}
	fail_msg("%llu segments where %llu were expected", (unsigned long long)stats.segments,
		(unsigned long long)wanted);
}

static void check_rows(place *p, int64_t first, int64_t count)
{
	esk_reader *reader = place_reader(p, "run");
	assert_int_equal(esk_dataset_rows(recording_find(reader, "s", "x")), first + count);
	int64_t *found = place_read(reader, "s/x", (uint64_t)first, (uint64_t)count, 8);
	for (int64_t i = 0; i < count; i++)
		assert_int_equal(found[i], first + i);
	free(found);
	esk_reader_close(reader);
}

/* ---- hours and days ---- */

static void segments_follow_the_hours_of_their_rows(void **state)
{
	place p = make_place(*state);
	esk_run_options options = place_options(1u << 20);
	esk_error err = {0};
	options.append = true;
	options.segment_period = ESK_PERIOD_HOUR;
	options.commit_interval_ns = 5000000;
	atomic_store(&clock_ns, 1000 * HOUR_NS + 5);
	open_place(&p);
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", "x:i64");
	append(stream, 0, 10);
	commit(run);
	atomic_store(&clock_ns, 1001 * HOUR_NS - 1); /* the same hour */
	append(stream, 10, 10);
	wait_for_segments(run, 1);
	atomic_store(&clock_ns, 1001 * HOUR_NS);
	wait_for_segments(run, 2);               /* also where nobody appends */
	atomic_store(&clock_ns, 1005 * HOUR_NS); /* hours without rows have no segment */
	for (int i = 0; i < 20; i++) {
		commit(run);
		recording_sleep_ms(1);
	}
	wait_for_segments(run, 2);
	append(stream, 20, 10);
	commit(run);
	wait_for_segments(run, 2);
	atomic_store(&clock_ns, 1006 * HOUR_NS + 1);
	append(stream, 30, 10);
	wait_for_segments(run, 3);
	esk_item item = ESK_ITEM_INIT; /* an item makes a segment worth sealing too */
	item.path = "an/item";
	place_run_close(run);
	int64_t last = place_query(&p, "SELECT updated_ns FROM runs") / HOUR_NS;
	atomic_store(&clock_ns, (last + 1) * HOUR_NS);
	run = place_run(&p, "run", &options);
	wait_for_segments(run, 4);
	assert_ok(esk_run_put(run, &item, &err), &err);
	commit(run);
	atomic_store(&clock_ns, (last + 2) * HOUR_NS);
	wait_for_segments(run, 5);
	place_run_close(run);
	check_rows(&p, 0, 40);
	recording_verify(p.store);
	assert_int_equal(
		place_query(&p, "SELECT count(*) FROM extents WHERE first_row = 20 AND rows > 0"), 1);
	place_close(&p);
}

static void days_are_longer_than_hours(void **state)
{
	place p = make_place(*state);
	esk_run_options options = place_options(1u << 20);
	esk_error err = {0};
	esk_run *run;
	options.commit_interval_ns = 5000000;
	atomic_store(&clock_ns, 24 * 700 * HOUR_NS);
	open_place(&p);
	options.segment_period = (esk_period)3;
	assert_int_equal(esk_run_open(p.store, "run", &options, &run, &err), ESK_EINVAL);
	options.segment_period = ESK_PERIOD_DAY;
	run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", "x:i64");
	append(stream, 0, 10);
	commit(run);
	atomic_store(&clock_ns, (24 * 700 + 23) * HOUR_NS);
	append(stream, 10, 10);
	wait_for_segments(run, 1);
	atomic_store(&clock_ns, (24 * 701) * HOUR_NS);
	wait_for_segments(run, 2);
	append(stream, 20, 1);
	place_run_close(run);
	check_rows(&p, 0, 21);
	place_close(&p);
}

/* ---- keeping the newest ---- */

/* One segment more: an hour later. */
static void next_segment(esk_run *run, esk_stream *stream, int64_t *rows)
{
	esk_run_stats stats = {.struct_size = sizeof stats};
	esk_error err = {0};
	append(stream, *rows, 10);
	*rows += 10;
	commit(run);
	assert_ok(esk_run_get_stats(run, &stats, &err), &err);
	atomic_fetch_add(&clock_ns, HOUR_NS);
	wait_for_segments(run, stats.segments + 1);
}

static void check_gone(place *p, int64_t row, int64_t first_kept)
{
	char ref[64], number[32];
	esk_array array;
	esk_error err = {0};
	snprintf(ref, sizeof ref, "h5://run/s/x/%lld", (long long)row);
	assert_int_equal(esk_store_resolve(p->store, ref, &array, &err), ESK_ENOTFOUND);
	assert_non_null(strstr(err.message, "pruned"));
	snprintf(number, sizeof number, "kept is %lld", (long long)first_kept);
	assert_non_null(strstr(err.message, number));
}

static void segments_beyond_those_kept_are_deleted_and_rows_keep_their_index(void **state)
{
	place p = make_place(*state);
	esk_run_options options = place_options(1u << 20);
	esk_check_report report;
	esk_error err = {0};
	int64_t rows = 0;
	options.append = true;
	options.segment_period = ESK_PERIOD_HOUR;
	options.keep_segments = 2;
	atomic_store(&clock_ns, 1000 * HOUR_NS);
	open_place(&p);
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", "x:i64");
	esk_item item = ESK_ITEM_INIT;
	item.path = "an/item";
	assert_ok(esk_run_put(run, &item, &err), &err);
	esk_reader *reader = place_reader(&p, "run"); /* open all the while */
	for (int segment = 0; segment < 5; segment++) {
		next_segment(run, stream, &rows);
		assert_int_equal(place_files(&p), segment < 2 ? segment + 2 : 3);
	}
	append(stream, rows, 4);
	rows += 4;
	commit(run);
	check_rows(&p, 30, 24);
	check_gone(&p, 0, 30);
	check_gone(&p, 29, 30);
	assert_ok(esk_reader_refresh(reader, &err), &err);
	assert_int_equal(esk_dataset_rows(recording_find(reader, "s", "x")), rows);
	int64_t found[24];
	assert_int_equal(esk_dataset_read(recording_find(reader, "s", "x"), 25, 35, 1, found, 80, &err),
		ESK_ENOTFOUND);
	esk_reader_close(reader);
	place_run_close(run);
	recording_verify(p.store);
	assert_int_equal(place_query(&p, "SELECT rows FROM runs"), rows);
	assert_int_equal(place_query(&p, "SELECT segments FROM v_runs"), 3);
	assert_int_equal(place_query(&p, "SELECT count(*) FROM v_segments WHERE pruned"), 3);
	assert_int_equal(place_query(&p, "SELECT count(*) FROM v_items WHERE file IS NULL"), 1);
	int64_t created = place_query(&p, "SELECT created_ns FROM runs");
	place_close(&p);
	open_place(&p); /* going on, without the first segments */
	run = place_run(&p, "run", &options);
	stream = place_stream(run, "s", "x:i64");
	assert_int_equal(esk_stream_rows(stream), rows);
	append(stream, rows, 2);
	rows += 2;
	place_run_close(run);
	check_rows(&p, 30, rows - 30);
	assert_int_equal(place_query(&p, "SELECT created_ns FROM runs"), created);
	place_close(&p);
	assert_ok(esk_store_reindex(p.path, NULL, &report, &err), &err);
	assert_int_equal(report.findings, 0);
	open_place(&p);
	check_rows(&p, 30, rows - 30);
	check_gone(&p, 12, 30);
	assert_int_equal(place_query(&p, "SELECT rows FROM runs"), rows);
	recording_verify(p.store);
	place_close(&p);
}

/* The catalogue knows before the file goes: what a crash, or a disk that refuses, leaves is deleted later. */
static void a_deletion_that_failed_is_made_good_when_the_store_is_opened(void **state)
{
	place p = make_place(*state);
	esk_run_options options = place_options(1u << 20);
	int64_t rows = 0;
	options.append = true;
	options.segment_period = ESK_PERIOD_HOUR;
	options.keep_segments = 1;
	atomic_store(&clock_ns, 1000 * HOUR_NS);
	open_place(&p);
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", "x:i64");
	atomic_store(&unlink_fails, true);
	for (int segment = 0; segment < 3; segment++)
		next_segment(run, stream, &rows);
	append(stream, rows, 1);
	place_run_close(run);
	assert_int_equal(place_files(&p), 4);
	check_gone(&p, 5, 20); /* for readers they are gone already */
	check_rows(&p, 20, 11);
	place_close(&p);
	open_place(&p); /* still refused: the store opens all the same */
	assert_int_equal(place_files(&p), 4);
	place_close(&p);
	atomic_store(&unlink_fails, false);
	open_place(&p);
	assert_int_equal(place_files(&p), 2);
	check_gone(&p, 5, 20);
	check_rows(&p, 20, 11);
	recording_verify(p.store);
	place_close(&p);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		ONE(segments_follow_the_hours_of_their_rows),
		ONE(days_are_longer_than_hours),
		ONE(segments_beyond_those_kept_are_deleted_and_rows_keep_their_index),
		ONE(a_deletion_that_failed_is_made_good_when_the_store_is_opened),
	};
	return test_run(tests);
}
