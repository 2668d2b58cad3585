/* Recording on an operating system that fails: every call once, a full disk, a synchronisation that fails. No
 * acknowledgement is false, and recording goes on.
 *
 *     test_faults [SEED]     ESK_TEST_SCALE below 100 skips calls; ESK_FAULT_CALL is the one that fails */
#include "unit/fault_rig.h"

/* ---- every call fails once ---- */

#define TRIES 8

/* A step of the workload: tried again after a failure, as a program would. */
#define persist(g, call)                                                                                \
	do {                                                                                            \
		esk_error why_ = {0};                                                                   \
		int tries_ = 0;                                                                         \
		while ((call) != ESK_OK) {                                                              \
			(g)->failures++;                                                                \
			if (why_.message[0] == '\0' || why_.code == ESK_EINTERNAL || ++tries_ == TRIES) \
				fail_msg("%s keeps failing: %s", #call, why_.message);                  \
		}                                                                                       \
	} while (0)

static void append_rows(rig *g, esk_stream *stream, uint64_t count)
{
	uint64_t row = 0;
	for (uint64_t i = 0; i < count; i++) {
		persist(g, recording_append(stream, g->appended, SALT, &row, &why_));
		assert_int_equal(row, g->appended);
		g->appended++;
	}
}

static void commit_rows(rig *g, esk_stream *stream)
{
	esk_watermark mark = {0};
	persist(g, esk_stream_commit(stream, &mark, &why_));
	assert_int_equal(mark.rows, g->appended);
	g->committed = mark.rows;
}

/* A store that was made, but not known to be durable, is there when it is made again. */
static esk_status create_store(rig *g, esk_error *err)
{
	esk_status status = esk_store_create_in(&g->environment, g->store, err);
	return status == ESK_EEXIST && g->failures > 0 ? ESK_OK : status;
}

/* Create, record, rotate, close: all that touches the disk. */
static void whole_life(rig *g)
{
	esk_store *store = NULL;
	esk_run *run = NULL;
	esk_stream *stream = NULL;
	rig_pair pair = {0};
	esk_run_options options = run_options();
	esk_error err = {0};
	persist(g, create_store(g, &why_));
	persist(g, open_store(g, &store, &why_));
	persist(g, esk_run_open(store, "run", &options, &run, &why_));
	persist(g, recording_stream(run, "/", &stream, &why_));
	append_rows(g, stream, 5);
	commit_rows(g, stream);
	persist(g, pair_streams(run, &pair, &why_));
	persist(g, append_pair(g, run, &pair, &why_));
	persist(g, put_item(g, run, &why_));
	persist(g, esk_run_set_metadata(run, "{\"who\": \"me\"}", &why_));
	g->metadata = "{\"who\": \"me\"}";
	append_rows(g, stream, 6);
	commit_rows(g, stream);
	persist(g, append_pair(g, run, &pair, &why_));
	persist(g, put_item(g, run, &why_));
	persist(g, esk_run_set_text(run, "pair/schema", "{}", &why_));
	persist(g, esk_run_set_attributes(run, "pair", "{\"of\": \"two\"}", &why_));
	append_rows(g, stream, 7);
	commit_rows(g, stream);
	append_rows(g, stream, 2);
	persist(g, append_pair(g, run, &pair, &why_));
	persist(g, put_item(g, run, &why_));
	if (esk_run_close(run, &err) != ESK_OK)
		g->failures++;
	if (esk_store_close(store, &err) != ESK_OK)
		g->failures++;
}

/* Returns how many calls the workload made. */
static uint64_t life_with_fault(test_dir *dir, uint64_t call, int errnum, uint64_t *failures)
{
	rig g;
	rig_begin(&g, dir, test_seed());
	esk_fault_fail_at(g.fault, call, errnum, false);
	whole_life(&g);
	uint64_t calls = esk_fault_calls(g.fault);
	esk_fault_clear(g.fault);
	uint64_t pairs = g.pairs, items = g.items;
	uint64_t rows = check_store(&g);
	if (g.pairs != pairs || g.items != items)
		fail_msg("call %llu fails with %s: %llu pairs of %llu and %llu items of %llu are there",
			(unsigned long long)call, strerrorname_np(errnum), (unsigned long long)g.pairs,
			(unsigned long long)pairs, (unsigned long long)g.items, (unsigned long long)items);
	if (rows != g.appended)
		fail_msg("call %llu fails with %s: %llu rows of %llu are there", (unsigned long long)call,
			strerrorname_np(errnum), (unsigned long long)rows, (unsigned long long)g.appended);
	if (rig_key != NULL)
		rig_check_encrypted(&g, call);
	*failures += g.failures;
	rig_end(&g);
	return calls;
}

static void recording_goes_on_after_any_call_failed(test_dir *dir, int errnum)
{
	uint64_t failures = 0;
	uint64_t calls = life_with_fault(dir, 0, errnum, &failures);
	assert_int_equal(failures, 0);
	uint64_t step = 100 / esk_min_u64(test_scale(99), 100), done = 0;
	uint64_t only = getenv("ESK_FAULT_CALL") != NULL ? strtoull(getenv("ESK_FAULT_CALL"), NULL, 10) : 0;
	for (uint64_t call = only > 0 ? only : 1; call <= calls; call += step, done++) {
		life_with_fault(dir, call, errnum, &failures);
		if (only > 0)
			break;
	}
	print_message("%llu of %llu calls failed with %s, %llu were told\n", (unsigned long long)done,
		(unsigned long long)calls, strerrorname_np(errnum), (unsigned long long)failures);
	assert_true(failures > 0);
}

static void recording_goes_on_after_any_call_failed_with_eio(void **state)
{
	recording_goes_on_after_any_call_failed(*state, EIO);
}

static void recording_goes_on_after_any_call_failed_with_enospc(void **state)
{
	recording_goes_on_after_any_call_failed(*state, ENOSPC);
}

static void encryption_is_finished_after_any_call_failed_with_eio(void **state)
{
	rig_make_key(*state);
	recording_goes_on_after_any_call_failed(*state, EIO);
	rig_drop_key();
}

static void encryption_is_finished_after_any_call_failed_with_enospc(void **state)
{
	rig_make_key(*state);
	recording_goes_on_after_any_call_failed(*state, ENOSPC);
	rig_drop_key();
}

/* ---- a full disk, a failing synchronisation ---- */

static void begin_recording(rig *g, esk_store **ret_store, esk_run **ret_run, esk_stream **ret_stream,
	const esk_run_options *options)
{
	esk_error err = {0};
	assert_ok(esk_store_create_in(&g->environment, g->store, &err), &err);
	assert_ok(open_store(g, ret_store, &err), &err);
	assert_ok(esk_run_open(*ret_store, "run", options, ret_run, &err), &err);
	assert_ok(recording_stream(*ret_run, "/", ret_stream, &err), &err);
}

/* Appends until the ring is full; returns the status that ended it. */
static esk_status append_until_full(rig *g, esk_stream *stream, esk_error *err)
{
	for (int i = 0; i < 1000; i++) {
		uint64_t row;
		esk_status status = recording_append(stream, g->appended, SALT, &row, err);
		if (status != ESK_OK)
			return status;
		assert_int_equal(row, g->appended++);
	}
	fail_msg("a ring of 128 KiB took a thousand rows of 9 KB without a commit");
	return ESK_OK;
}

static void wait_until_committed(rig *g, esk_run *run)
{
	esk_run_stats stats = {.struct_size = sizeof stats};
	esk_error err = {0};
	for (int i = 0; i < 500; i++) {
		assert_ok(esk_run_get_stats(run, &stats, &err), &err);
		if (stats.committed_rows == g->appended && stats.status == ESK_OK)
			return;
		recording_sleep_ms(10);
	}
	fail_msg("%llu rows of %llu are committed, status %s", (unsigned long long)stats.committed_rows,
		(unsigned long long)g->appended, esk_status_name(stats.status));
}

static void a_full_disk_fails_commits_and_loses_nothing(void **state)
{
	rig g;
	esk_store *store;
	esk_run *run;
	esk_stream *stream;
	esk_error err = {0};
	esk_run_options options = run_options();
	options.commit_interval_ns = 5000000;
	rig_begin(&g, *state, test_seed());
	begin_recording(&g, &store, &run, &stream, &options);
	append_rows(&g, stream, 5);
	commit_rows(&g, stream);
	for (int round = 0; round < 3; round++) {
		esk_watermark mark = {.rows = 12345};
		esk_run_stats stats = {.struct_size = sizeof stats};
		esk_fault_set_space(g.fault, 100);
		append_rows(&g, stream, 3);
		assert_int_equal(esk_stream_commit(stream, &mark, &err), ESK_ENOSPC);
		assert_non_null(strstr(err.message, "No space left"));
		assert_non_null(strstr(err.message, "run \"run\""));
		assert_int_equal(mark.rows, 12345);
		assert_ok(esk_run_get_stats(run, &stats, &err), &err);
		assert_int_equal(stats.status, ESK_ENOSPC);
		assert_int_equal(append_until_full(&g, stream, &err), ESK_ETIMEDOUT);
		esk_fault_set_space(g.fault, UINT64_MAX);
		wait_until_committed(&g, run); /* by itself */
		append_rows(&g, stream, 4);
		commit_rows(&g, stream);
	}
	assert_ok(esk_run_close(run, &err), &err);
	assert_ok(esk_store_close(store, &err), &err);
	assert_int_equal(check_store(&g), g.appended);
	rig_end(&g);
}

static void a_run_closed_on_a_full_disk_is_recovered_when_there_is_space(void **state)
{
	rig g;
	esk_store *store;
	esk_run *run;
	esk_stream *stream;
	esk_error err = {0};
	esk_run_options options = run_options();
	rig_begin(&g, *state, test_seed());
	begin_recording(&g, &store, &run, &stream, &options);
	append_rows(&g, stream, 7);
	esk_fault_set_space(g.fault, 0);
	assert_int_equal(esk_run_close(run, &err), ESK_ENOSPC);
	esk_store_close(store, &err);
	esk_fault_set_space(g.fault, UINT64_MAX);
	assert_int_equal(check_store(&g), 7);
	rig_end(&g);
}

/* Fails whatever synchronises, for a while. */
static int failing_sync(const esk_os *os, int fd);
static int (*true_sync)(const esk_os *os, int fd);
static _Atomic int syncs_to_fail;

static int failing_sync(const esk_os *os, int fd)
{
	if (syncs_to_fail > 0) {
		syncs_to_fail--;
		return -EIO;
	}
	return true_sync(os, fd);
}

static void a_commit_whose_synchronisation_failed_is_not_acknowledged(void **state)
{
	rig g;
	esk_store *store;
	esk_run *run;
	esk_stream *stream;
	esk_error err = {0};
	esk_run_options options = run_options();
	rig_begin(&g, *state, test_seed());
	true_sync = g.os.sync;
	g.os.sync = failing_sync;
	syncs_to_fail = 0;
	begin_recording(&g, &store, &run, &stream, &options);
	for (int count = 1; count <= 4; count++) {
		append_rows(&g, stream, 3);
		syncs_to_fail = count;
		esk_watermark mark;
		int failed = 0;
		while (esk_stream_commit(stream, &mark, &err) != ESK_OK) {
			assert_int_equal(err.code, ESK_EIO);
			assert_true(++failed <= count);
		}
		assert_true(failed > 0);
		assert_int_equal(mark.rows, g.appended);
		g.committed = mark.rows;
	}
	assert_ok(esk_run_close(run, &err), &err);
	assert_ok(esk_store_close(store, &err), &err);
	assert_int_equal(check_store(&g), g.appended);
	rig_end(&g);
}

/* Rows are overwritten while nothing can be written, and the segment is opened again and again meanwhile. */
static void what_is_overwritten_on_a_full_disk_is_counted_once(void **state)
{
	rig g;
	esk_store *store;
	esk_run *run;
	esk_stream *stream;
	esk_error err = {0};
	esk_run_options options = run_options();
	options.policy = ESK_OVERWRITE;
	options.segment_bytes = 0;
	rig_begin(&g, *state, test_seed());
	begin_recording(&g, &store, &run, &stream, &options);
	for (int round = 0; round < 6; round++) {
		for (int i = 0; i < 60; i++, g.appended++) {
			assert_ok(recording_append(stream, g.appended, SALT, NULL, &err), &err);
			if (i % 20 == 7)
				esk_fault_set_space(g.fault, 2000 * (uint64_t)round);
			if (i % 6 == 5)
				esk_run_commit(run, NULL, &err);
		}
		esk_fault_set_space(g.fault, UINT64_MAX);
		persist(&g, esk_run_commit(run, NULL, &why_));
	}
	esk_run_stats stats = {.struct_size = sizeof stats};
	assert_ok(esk_run_get_stats(run, &stats, &err), &err);
	assert_ok(esk_run_close(run, &err), &err);
	esk_reader *reader;
	assert_ok(esk_reader_open(store, "run", &reader, &err), &err);
	uint64_t rows = recording_rows(reader, "/");
	int64_t *ids = malloc((rows + 1) * sizeof *ids);
	assert_ok(
		esk_dataset_read(recording_find(reader, "/", "id"), 0, (int64_t)rows, 1, ids, rows * 8, &err),
		&err);
	for (uint64_t i = 1; i < rows; i++)
		assert_true(ids[i] > ids[i - 1]);
	free(ids);
	esk_reader_close(reader);
	esk_query *query;
	bool found = false;
	assert_ok(esk_query_open(store, "SELECT CAST(total(records) AS INTEGER) FROM gaps", &query, &err),
		&err);
	assert_ok(esk_query_step(query, &found, &err), &err);
	uint64_t lost = (uint64_t)esk_query_value(query, 0).integer;
	esk_query_close(query);
	esk_index_file *files;
	size_t files_count;
	uint64_t in_file = 0;
	assert_ok(esk_index_scan(&g.os, g.store, "run", NULL, &files, &files_count, &err), &err);
	assert_int_equal(files_count, 1);
	for (size_t i = 0; i < files[0].gap_count; i++)
		in_file += files[0].gaps[i].records;
	esk_index_free(files, files_count);
	assert_int_equal(in_file, lost);
	if (rows + lost != g.appended || stats.lost_records != lost)
		fail_msg("%llu rows and %llu lost records (%llu in the statistics) of %llu",
			(unsigned long long)rows, (unsigned long long)lost,
			(unsigned long long)stats.lost_records, (unsigned long long)g.appended);
	assert_true(lost > 0);
	assert_ok(esk_store_close(store, &err), &err);
	rig_end(&g);
}

static void short_reads_writes_and_interrupts_do_no_harm(void **state)
{
	rig g;
	rig_begin(&g, *state, test_seed());
	esk_fault_set_hiccups(g.fault, 40);
	whole_life(&g);
	assert_int_equal(g.failures, 0);
	assert_int_equal(check_store(&g), g.appended);
	rig_end(&g);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		ONE(encryption_is_finished_after_any_call_failed_with_eio),
		ONE(encryption_is_finished_after_any_call_failed_with_enospc),
		ONE(a_full_disk_fails_commits_and_loses_nothing),
		ONE(a_run_closed_on_a_full_disk_is_recovered_when_there_is_space),
		ONE(a_commit_whose_synchronisation_failed_is_not_acknowledged),
		ONE(what_is_overwritten_on_a_full_disk_is_counted_once),
		ONE(short_reads_writes_and_interrupts_do_no_harm),
		ONE(recording_goes_on_after_any_call_failed_with_eio),
		ONE(recording_goes_on_after_any_call_failed_with_enospc),
	};
	return test_run(tests);
}
