/* What the tests of the background writer share: rings, writers, and what is found in the run afterwards. */
#ifndef DAQ_WRITER_SUPPORT_H
#define DAQ_WRITER_SUPPORT_H

#include "daq_support.h"

#include <esker/check.h>

#define RUN_RING_BYTES (4u << 20)

static inline esk_ring *make_ring(const char *name, esk_policy policy)
{
	esk_ring *ring = NULL;
	esk_ring_options options = ESK_RING_OPTIONS_INIT;
	options.policy = policy;
	check_ok(esk_daq_ring_create(daq_path(name), 1, &options, &ring, err));
	return ring;
}

static inline esk_daq_writer *open_writer(esk_ring *ring, const char *run, esk_daq_layout layout)
{
	esk_daq_writer *writer = NULL;
	esk_daq_writer_options options = ESK_DAQ_WRITER_OPTIONS_INIT;
	options.layout = layout;
	options.flush_interval_ns = 20000000;
	options.ring_bytes = RUN_RING_BYTES;
	options.consumer = run; /* several writers have several names */
	char file[64];
	snprintf(file, sizeof file, "store/%s.h5", run);
	check_ok(esk_daq_writer_open(daq_path(file), ring, &options, &writer, err));
	return writer;
}

static inline esk_daq_writer_stats stats_of(esk_daq_writer *writer)
{
	esk_daq_writer_stats stats = {.struct_size = sizeof stats};
	check_ok(esk_daq_writer_get_stats(writer, &stats, err));
	return stats;
}

static inline void write_rows(esk_ring *ring, const char *instrument, int64_t first, int64_t rows)
{
	daq_batch batch;
	check_ok(esk_daq_write_arrow(ring, instrument, daq_schema(), daq_fill(&batch, first, rows), err));
}

/* ---- reading back ---- */

static inline esk_reader *open_run(esk_store **ret_store, const char *run)
{
	esk_reader *reader;
	esk_store_options options = ESK_STORE_OPTIONS_INIT;
	options.read_only = true;
	check_ok(esk_store_open(daq_path("store"), &options, ret_store, err));
	check_ok(esk_reader_open(*ret_store, run, &reader, err));
	return reader;
}

static inline void close_run(esk_store *store, esk_reader *reader)
{
	esk_reader_close(reader);
	check_ok(esk_store_close(store, err));
}

static inline uint64_t rows_in(const char *run, const char *path)
{
	esk_store *store;
	esk_reader *reader = open_run(&store, run);
	uint64_t rows = daq_rows(reader, path);
	close_run(store, reader);
	return rows;
}

/* The instrument has rows 0, 1, …, rows - 1 of the series. */
static inline void expect_series(const char *run, const char *instrument, uint64_t rows)
{
	char path[256];
	esk_store *store;
	esk_reader *reader = open_run(&store, run);
	snprintf(path, sizeof path, "%s/timestamp", instrument);
	assert_int_equal(daq_rows(reader, path), rows);
	int64_t *timestamps = daq_read(reader, path, rows, sizeof *timestamps);
	snprintf(path, sizeof path, "%s/voltage", instrument);
	assert_int_equal(daq_rows(reader, path), rows);
	double *voltages = daq_read(reader, path, rows, sizeof *voltages);
	for (uint64_t i = 0; i < rows; i++) {
		assert_int_equal(timestamps[i], i);
		assert_true(voltages[i] == daq_voltage((int64_t)i));
	}
	free(voltages);
	free(timestamps);
	close_run(store, reader);
}

/* Sum of a column of the account. */
static inline uint64_t account_sum(const char *run, const char *column)
{
	char path[64];
	esk_store *store;
	esk_reader *reader = open_run(&store, run);
	snprintf(path, sizeof path, "ring/%s", column);
	uint64_t rows = daq_rows(reader, path), sum = 0;
	uint64_t *values = daq_read(reader, path, rows, sizeof *values);
	for (uint64_t i = 0; i < rows; i++)
		sum += values[i];
	free(values);
	close_run(store, reader);
	return sum;
}

static inline int64_t query_integer(const char *sql)
{
	esk_store *store;
	esk_query *query;
	bool found;
	esk_store_options options = ESK_STORE_OPTIONS_INIT;
	options.read_only = true;
	check_ok(esk_store_open(daq_path("store"), &options, &store, err));
	check_ok(esk_query_open(store, sql, &query, err));
	check_ok(esk_query_step(query, &found, err));
	assert_true(found);
	int64_t value = esk_query_value(query, 0).integer;
	esk_query_close(query);
	check_ok(esk_store_close(store, err));
	return value;
}

/* Rows of all batches of an instrument, in their order, to free; their number. */
static inline int64_t *batch_rows(
	const char *run, const char *instrument, uint64_t *ret_rows, uint64_t *ret_batches)
{
	esk_store *store;
	esk_reader *reader = open_run(&store, run);
	uint64_t rows = 0, batches = 0, count;
	int64_t *all = NULL;
	for (;; batches++, rows += count) {
		char path[300];
		esk_dataset *dataset;
		snprintf(path, sizeof path, "%s/batch_%06llu/timestamp", instrument,
			(unsigned long long)batches + 1);
		if (esk_reader_find(reader, path, &dataset, NULL) != ESK_OK)
			break;
		count = esk_dataset_rows(dataset);
		all = realloc(all, (rows + count) * sizeof *all);
		check_ok(esk_dataset_read(
			dataset, 0, (int64_t)count, 1, all + rows, count * sizeof *all, err));
	}
	close_run(store, reader);
	*ret_rows = rows;
	*ret_batches = batches;
	return all;
}

/* Rows of the series with holes: each is one that was written, in order, none twice. */
static inline uint64_t expect_part_of_series(const char *run)
{
	esk_store *store;
	esk_reader *reader = open_run(&store, run);
	uint64_t rows = daq_rows(reader, "measurements/timestamp");
	int64_t *timestamps = daq_read(reader, "measurements/timestamp", rows, sizeof *timestamps);
	double *voltages = daq_read(reader, "measurements/voltage", rows, sizeof *voltages);
	for (uint64_t i = 0; i < rows; i++) {
		assert_true(i == 0 || timestamps[i] > timestamps[i - 1]);
		assert_true(voltages[i] == daq_voltage(timestamps[i]));
	}
	free(timestamps);
	free(voltages);
	close_run(store, reader);
	return rows;
}

/* ---- numbered records, of which any may be overwritten ---- */

/* Record n is a row with that number. Every seventh is a record that cannot be taken. */
static inline bool is_garbage(uint64_t number)
{
	return number % 7 == 3;
}

static inline void write_number(esk_ring *ring, uint64_t number)
{
	if (is_garbage(number))
		check_ok(esk_ring_write(ring, 1, ESK_DAQ_BATCH, "garbage", 7, NULL, err));
	else
		write_rows(ring, NULL, (int64_t)number, 1);
}

static inline void write_numbers(esk_ring *ring, uint64_t *next, uint64_t count)
{
	for (; count > 0; count--)
		write_number(ring, (*next)++);
}

/* Everything that is in the ring is overwritten, by what consumers step over. */
static inline void overwrite_all(esk_ring *ring)
{
	uint64_t most = esk_ring_max_payload(ring);
	for (uint64_t done = 0; done <= esk_ring_capacity(ring); done += most) {
		esk_ring_slot slot;
		check_ok(esk_ring_reserve(ring, 1, ESK_DAQ_BATCH, (uint32_t)most, &slot, err));
		esk_ring_abandon(ring, &slot);
	}
}

/* What catalogue or file say is missing in front of rows of a stream: result[row] for row < rows. */
static inline uint64_t *gaps_before(const char *stream, uint64_t rows, const char *condition)
{
	char sql[256];
	esk_store *store;
	esk_query *query;
	bool found;
	uint64_t *before = calloc(rows + 1, sizeof *before);
	esk_store_options options = ESK_STORE_OPTIONS_INIT;
	options.read_only = true;
	snprintf(sql, sizeof sql, "SELECT row, records FROM v_gaps WHERE stream = '%s' AND %s", stream,
		condition);
	check_ok(esk_store_open(daq_path("store"), &options, &store, err));
	check_ok(esk_query_open(store, sql, &query, err));
	for (;;) {
		check_ok(esk_query_step(query, &found, err));
		if (!found)
			break;
		uint64_t row = (uint64_t)esk_query_value(query, 0).integer;
		assert_true(row < rows); /* there is no gap behind the last row */
		before[row] += (uint64_t)esk_query_value(query, 1).integer;
	}
	esk_query_close(query);
	check_ok(esk_store_close(store, err));
	return before;
}

/* The catalogue is made anew, from what the files say. */
static inline void reindex(void)
{
	esk_check_report report = {0};
	check_ok(esk_store_reindex(daq_path("store"), NULL, &report, err));
}

static inline uint64_t garbage_between(int64_t after, int64_t before)
{
	uint64_t count = 0;
	for (int64_t n = after + 1; n < before; n++)
		count += is_garbage((uint64_t)n);
	return count;
}

/* Columns: numbers are missing in front of exactly those rows that have gaps in front of them, and as many as
 * the gaps say; what of them is garbage may be told as such. */
static inline void expect_gaps_where_numbers_are_missing(const char *run)
{
	esk_store *store;
	esk_reader *reader = open_run(&store, run);
	uint64_t rows = daq_rows(reader, "measurements/timestamp");
	int64_t *numbers = daq_read(reader, "measurements/timestamp", rows, sizeof *numbers);
	close_run(store, reader);
	uint64_t *lost = gaps_before("measurements", rows, "cause = 'overwritten'");
	uint64_t *bad = gaps_before("measurements", rows, "cause = 'damaged'");
	for (uint64_t i = 0; i < rows; i++) {
		int64_t before = i > 0 ? numbers[i - 1] : -1;
		assert_int_equal(lost[i] + bad[i], numbers[i] - before - 1);
		assert_true(bad[i] <= garbage_between(before, numbers[i]));
	}
	free(bad);
	free(lost);
	free(numbers);
}

/* Batches: the same, of the attribute `lost_records` of each and its first row. */
static inline void expect_losses_where_numbers_are_missing(const char *run)
{
	int64_t before = -1;
	uint64_t count = (uint64_t)query_integer("SELECT count(*) FROM items");
	esk_store *store;
	esk_reader *reader = open_run(&store, run);
	for (uint64_t b = 1; b <= count; b++) {
		char path[64], sql[160];
		snprintf(path, sizeof path, "measurements/batch_%06llu/timestamp", (unsigned long long)b);
		snprintf(sql, sizeof sql,
			"SELECT json_extract(attributes, '$.lost_records') FROM items WHERE path = "
			"'measurements/batch_%06llu'",
			(unsigned long long)b);
		uint64_t lost = (uint64_t)query_integer(sql), rows = daq_rows(reader, path);
		int64_t *numbers = daq_read(reader, path, rows, sizeof *numbers);
		for (uint64_t i = 0; i < rows; i++, lost = 0) {
			uint64_t missing = (uint64_t)(numbers[i] - before - 1);
			assert_true(lost <= missing);
			assert_true(missing - lost <= garbage_between(before, numbers[i]));
			before = numbers[i];
		}
		free(numbers);
	}
	close_run(store, reader);
}

/* All `written` numbers are rows, lost, or garbage that was met; file, catalogue and account agree. */
static inline void expect_every_number(const char *run, esk_daq_layout layout, uint64_t written)
{
	for (int turn = 0; turn < 2; turn++) {
		uint64_t lost = account_sum(run, "lost_records"), bad = account_sum(run, "bad_records");
		uint64_t rows = layout == ESK_DAQ_COLUMNS
					? rows_in(run, "measurements/timestamp")
					: (uint64_t)query_integer("SELECT ifnull(sum(rows), 0) FROM items");
		assert_int_equal(rows + lost + bad, written);
		assert_int_equal(
			query_integer(
				"SELECT ifnull(sum(records), 0) FROM v_gaps WHERE cause = 'overwritten'"),
			lost);
		assert_int_equal(
			query_integer("SELECT ifnull(sum(records), 0) FROM v_gaps WHERE cause = 'damaged'"),
			bad);
		if (layout == ESK_DAQ_COLUMNS) {
			expect_gaps_where_numbers_are_missing(run);
		} else {
			expect_losses_where_numbers_are_missing(run);
			assert_int_equal(query_integer("SELECT ifnull(sum(json_extract(attributes, "
						       "'$.lost_records')), 0) FROM items"),
				lost);
		}
		reindex();
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, daq_enter, daq_leave)

#endif
