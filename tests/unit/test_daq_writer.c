/* The background writer: every record lands exactly once, in either layout. */
#include "daq_writer_support.h"

/* ---- what it does ---- */

static void batches_of_several_instruments_become_streams(void **state)
{
	esk_ring *ring = make_ring("r", ESK_BLOCK);
	esk_daq_writer *writer = open_writer(ring, "run", ESK_DAQ_COLUMNS);
	for (int64_t i = 0; i < 300; i++) {
		write_rows(ring, NULL, 3 * i, 3);
		write_rows(ring, "scope", i, 1);
	}
	check_ok(esk_daq_write(ring, "raw", 3, err));
	check_ok(esk_daq_write(ring, "bytes", 5, err));
	check_ok(esk_daq_writer_flush(writer, err));
	esk_daq_writer_stats stats = stats_of(writer);
	assert_int_equal(stats.records, 602);
	assert_int_equal(stats.rows, 1202);
	assert_int_equal(stats.lag_bytes, 0);
	assert_int_equal(stats.flushes, 1);
	assert_true(stats.batches >= 3 && stats.batches < 20);
	assert_int_equal(stats.batches, esk_daq_writer_batch_count(writer));
	expect_series("run", ESK_DAQ_DEFAULT_INSTRUMENT, 900);
	expect_series("run", "scope", 300);
	check_ok(esk_daq_writer_close(writer, err));
	esk_ring_detach(ring);
	assert_int_equal(account_sum("run", "records"), 602);
	esk_store *store;
	esk_reader *reader = open_run(&store, "run");
	uint8_t *bytes = daq_read(reader, "bytes/data/values", 8, 1);
	assert_memory_equal(bytes, "rawbytes", 8);
	free(bytes);
	close_run(store, reader);
}

static void a_flush_of_nothing_changes_nothing(void **state)
{
	esk_ring *ring = make_ring("r", ESK_BLOCK);
	esk_daq_writer *writer = open_writer(ring, "run", ESK_DAQ_COLUMNS);
	for (int i = 0; i < 5; i++) {
		check_ok(esk_daq_writer_step(writer, err));
		check_ok(esk_daq_writer_flush(writer, err));
	}
	assert_int_equal(stats_of(writer).flushes, 0);
	assert_int_equal(stats_of(writer).batches, 0);
	check_ok(esk_daq_writer_close(writer, err));
	esk_ring_detach(ring);
}

static void a_writer_goes_on_where_it_was(void **state)
{
	esk_ring *ring = make_ring("r", ESK_BLOCK);
	int64_t row = 0;
	for (int session = 0; session < 5; session++) {
		esk_daq_writer *writer = open_writer(ring, "run", ESK_DAQ_COLUMNS);
		for (int i = 0; i < 40; i++, row += 5)
			write_rows(ring, NULL, row, 5);
		if (session % 2 == 0)
			check_ok(esk_daq_writer_step(writer, err));
		write_rows(ring, NULL, row, 7);
		row += 7;
		check_ok(esk_daq_writer_close(writer, err));
	}
	esk_ring_detach(ring);
	expect_series("run", ESK_DAQ_DEFAULT_INSTRUMENT, (uint64_t)row);
}

/* What was taken in one layout is accounted for where the other does not look. */
static void a_run_keeps_its_layout(void **state)
{
	static const esk_daq_layout layouts[2] = {ESK_DAQ_COLUMNS, ESK_DAQ_BATCHES};
	static const char *const runs[2] = {"store/columns.h5", "store/batches.h5"};
	esk_error why = {0};
	esk_ring *ring = make_ring("r", ESK_BLOCK);
	for (int i = 0; i < 2; i++) {
		esk_daq_writer *writer = NULL;
		esk_daq_writer_options options = ESK_DAQ_WRITER_OPTIONS_INIT;
		options.layout = layouts[i];
		check_ok(esk_daq_writer_open(daq_path(runs[i]), ring, &options, &writer, err));
		write_rows(ring, "scope", 0, 10);
		check_ok(esk_daq_writer_step(writer, err));
		check_ok(esk_daq_writer_close(writer, err));
		options.layout = layouts[1 - i];
		assert_int_equal(
			esk_daq_writer_open(daq_path(runs[i]), ring, &options, &writer, &why), ESK_EEXIST);
		assert_non_null(
			strstr(why.message, i == 0 ? "in the columns layout" : "in the batches layout"));
		options.layout = layouts[i];
		check_ok(esk_daq_writer_open(daq_path(runs[i]), ring, &options, &writer, err));
		check_ok(esk_daq_writer_close(writer, err));
	}
	esk_ring_detach(ring);
}

static void two_writers_take_the_same_records_and_one_name_is_for_one(void **state)
{
	esk_ring *ring = make_ring("r", ESK_BLOCK);
	esk_daq_writer *first = open_writer(ring, "first", ESK_DAQ_COLUMNS), *third;
	esk_daq_writer_options options = ESK_DAQ_WRITER_OPTIONS_INIT;
	options.consumer = "first";
	check_fails(
		esk_daq_writer_open(daq_path("store/third.h5"), ring, &options, &third, err), ESK_EBUSY, "");
	write_rows(ring, NULL, 0, 100);
	esk_daq_writer *second = open_writer(ring, "second", ESK_DAQ_COLUMNS);
	write_rows(ring, NULL, 100, 100);
	check_ok(esk_daq_writer_close(first, err));
	check_ok(esk_daq_writer_close(second, err));
	esk_ring_detach(ring);
	expect_series("first", ESK_DAQ_DEFAULT_INSTRUMENT, 200);
	expect_series("second", ESK_DAQ_DEFAULT_INSTRUMENT, 200);
}

/* A batch of 4096 rows of one column of lists takes more than a record of a small run's ring. */
static void a_batch_larger_than_a_record_of_the_run_is_taken_in_pieces(void **state)
{
	static double values[4096 * 16];
	static int32_t ends[4097];
	esk_ring *ring;
	esk_ring_options options = ESK_RING_OPTIONS_INIT;
	check_ok(esk_daq_ring_create(daq_path("r"), 8, &options, &ring, err));
	const void *value_buffers[2] = {NULL, values}, *list_buffers[2] = {NULL, ends}, *none[1] = {NULL};
	struct ArrowSchema item = {.format = "g", .name = "item", .release = daq_release_schema};
	struct ArrowSchema *items[] = {&item};
	struct ArrowSchema list = {.format = "+w:16",
		.name = "wave",
		.n_children = 1,
		.children = items,
		.release = daq_release_schema};
	struct ArrowSchema *columns[] = {&list};
	struct ArrowSchema schema = {.format = "+s",
		.name = "",
		.n_children = 1,
		.children = columns,
		.release = daq_release_schema};
	struct ArrowArray item_array = {
		.length = 4096 * 16, .n_buffers = 2, .buffers = value_buffers, .release = daq_release_array};
	struct ArrowArray *item_arrays[] = {&item_array};
	struct ArrowArray list_array = {.length = 4096,
		.n_buffers = 1,
		.buffers = list_buffers,
		.n_children = 1,
		.children = item_arrays,
		.release = daq_release_array};
	struct ArrowArray *list_arrays[] = {&list_array};
	struct ArrowArray batch = {.length = 4096,
		.n_buffers = 1,
		.buffers = none,
		.n_children = 1,
		.children = list_arrays,
		.release = daq_release_array};
	for (size_t i = 0; i < sizeof values / sizeof *values; i++)
		values[i] = (double)i;
	esk_daq_writer *writer;
	esk_daq_writer_options small = ESK_DAQ_WRITER_OPTIONS_INIT;
	small.ring_bytes = 256 << 10;
	check_ok(esk_daq_writer_open(daq_path("store/run.h5"), ring, &small, &writer, err));
	check_ok(esk_daq_write_arrow(ring, "scope", &schema, &batch, err));
	check_ok(esk_daq_writer_close(writer, err));
	esk_ring_detach(ring);
	assert_int_equal(account_sum("run", "rows"), 4096);
	assert_int_equal(account_sum("run", "records"), 1);
	assert_true(rows_in("run", "ring/rows") > 5);
	esk_store *store;
	esk_reader *reader = open_run(&store, "run");
	double *found = daq_read(reader, "scope/wave", 4096, 16 * sizeof *found);
	assert_memory_equal(found, values, sizeof values);
	free(found);
	close_run(store, reader);
}

static void a_thousand_channels_are_recorded(void **state)
{
	enum { CHANNELS = 1000, ROUNDS = 20 };
	static struct ArrowSchema channels[CHANNELS], *schemas[CHANNELS];
	static struct ArrowArray arrays[CHANNELS], *children[CHANNELS];
	static const void *buffers[CHANNELS][2], *none[1];
	static float cells[CHANNELS][8];
	static char names[CHANNELS][16];
	esk_ring *ring;
	check_ok(esk_daq_ring_create(daq_path("r"), 16, NULL, &ring, err));
	for (int c = 0; c < CHANNELS; c++) {
		snprintf(names[c], sizeof names[c], "ch%04d", c);
		channels[c] =
			(struct ArrowSchema){.format = "f", .name = names[c], .release = daq_release_schema};
		buffers[c][1] = cells[c];
		arrays[c] = (struct ArrowArray){
			.length = 8, .n_buffers = 2, .buffers = buffers[c], .release = daq_release_array};
		schemas[c] = &channels[c];
		children[c] = &arrays[c];
	}
	struct ArrowSchema schema = {.format = "+s",
		.name = "",
		.n_children = CHANNELS,
		.children = schemas,
		.release = daq_release_schema};
	struct ArrowArray batch = {.length = 8,
		.n_buffers = 1,
		.buffers = none,
		.n_children = CHANNELS,
		.children = children,
		.release = daq_release_array};
	esk_daq_source *source;
	check_ok(esk_daq_source_open(ring, "rack", &schema, &source, err));
	esk_daq_writer *writer = open_writer(ring, "run", ESK_DAQ_COLUMNS);
	check_ok(esk_daq_writer_start(writer, err));
	for (int round = 0; round < ROUNDS; round++) {
		for (int c = 0; c < CHANNELS; c++)
			for (int i = 0; i < 8; i++)
				cells[c][i] = (float)(c * 1000 + round * 8 + i);
		check_ok(esk_daq_source_write(source, &batch, err));
	}
	check_ok(esk_daq_writer_close(writer, err));
	esk_daq_source_close(source);
	esk_ring_detach(ring);
	esk_store *store;
	esk_reader *reader = open_run(&store, "run");
	for (int c = 0; c < CHANNELS; c += 37) {
		char path[32];
		snprintf(path, sizeof path, "rack/%s", names[c]);
		float *found = daq_read(reader, path, 8 * ROUNDS, sizeof *found);
		for (int i = 0; i < 8 * ROUNDS; i++)
			assert_true(found[i] == (float)(c * 1000 + i));
		free(found);
	}
	close_run(store, reader);
}

/* ---- the batches layout ---- */

static void each_flush_is_a_batch_and_numbers_go_on(void **state)
{
	esk_ring *ring = make_ring("r", ESK_BLOCK);
	int64_t row = 0;
	uint64_t rows, batches;
	for (int session = 0; session < 3; session++) {
		esk_daq_writer *writer = open_writer(ring, "run", ESK_DAQ_BATCHES);
		for (int flush = 0; flush < 4; flush++) {
			for (int i = 0; i < 30; i++, row += 3) {
				write_rows(ring, NULL, row, 3);
				write_rows(ring, "scope", i, 1);
			}
			check_ok(esk_daq_writer_step(writer, err));
		}
		assert_int_equal(esk_daq_writer_batch_count(writer), 8 * (session + 1));
		check_ok(esk_daq_writer_close(writer, err));
	}
	esk_ring_detach(ring);
	int64_t *all = batch_rows("run", ESK_DAQ_DEFAULT_INSTRUMENT, &rows, &batches);
	assert_int_equal(batches, 12);
	assert_int_equal(rows, row);
	for (int64_t i = 0; i < row; i++)
		assert_int_equal(all[i], i);
	free(all);
	assert_int_equal(query_integer("SELECT sum(json_extract(attributes, '$.row_count')) FROM items "
				       "WHERE path LIKE 'measurements/%'"),
		row);
	assert_int_equal(query_integer("SELECT sum(json_extract(attributes, '$.records')) FROM items"), 720);
}

static void a_writer_that_keeps_a_few_segments_goes_on_behind_those_that_are_gone(void **state)
{
	esk_ring *ring = make_ring("r", ESK_BLOCK);
	esk_daq_writer_options options = ESK_DAQ_WRITER_OPTIONS_INIT;
	options.ring_bytes = 1 << 20;
	options.codec = "none";
	options.segment_bytes = 150 << 10;
	options.keep_segments = 2;
	uint64_t row = 0;
	for (int session = 0; session < 4; session++) {
		esk_daq_writer *writer;
		check_ok(esk_daq_writer_open(daq_path("store/run.h5"), ring, &options, &writer, err));
		for (int i = 0; i < 8; i++, row += DAQ_BATCH_ROWS) {
			write_rows(ring, NULL, (int64_t)row, DAQ_BATCH_ROWS);
			check_ok(esk_daq_writer_step(writer, err));
		}
		check_ok(esk_daq_writer_close(writer, err));
	}
	esk_ring_detach(ring);
	esk_store *store;
	esk_reader *reader = open_run(&store, "run");
	esk_dataset *dataset;
	int64_t last[1000];
	check_ok(esk_reader_find(reader, "measurements/timestamp", &dataset, err));
	assert_int_equal(esk_dataset_rows(dataset), row);
	check_ok(esk_dataset_read(dataset, (int64_t)row - 1000, (int64_t)row, 1, last, sizeof last, err));
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(last[i], row - 1000 + i);
	check_fails(esk_dataset_read(dataset, 0, 1000, 1, last, sizeof last, err), ESK_ENOTFOUND, "");
	close_run(store, reader);
}

/* ---- the thread ---- */

static void the_thread_drains_while_producers_write(void **state)
{
	esk_ring *ring = make_ring("r", ESK_BLOCK);
	esk_daq_source *source;
	daq_batch batch;
	check_ok(esk_daq_source_open(ring, NULL, daq_schema(), &source, err));
	esk_daq_writer *writer = open_writer(ring, "run", ESK_DAQ_COLUMNS);
	check_ok(esk_daq_writer_start(writer, err));
	check_fails(esk_daq_writer_start(writer, err), ESK_EBUSY, "started");
	uint64_t rows = 2000ull * daq_rounds(50);
	for (uint64_t row = 0; row < rows; row += 2) {
		check_ok(esk_daq_source_write(source, daq_fill(&batch, (int64_t)row, 2), err));
		if (row % 20000 == 0) {
			check_ok(esk_daq_writer_flush(writer, err));
			assert_true(rows_in("run", "measurements/timestamp") >= row + 2);
		}
	}
	check_ok(esk_daq_writer_close(writer, err));
	esk_daq_source_close(source);
	esk_ring_detach(ring);
	expect_series("run", ESK_DAQ_DEFAULT_INSTRUMENT, rows);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(batches_of_several_instruments_become_streams),
		TEST(a_flush_of_nothing_changes_nothing),
		TEST(a_writer_goes_on_where_it_was),
		TEST(a_run_keeps_its_layout),
		TEST(two_writers_take_the_same_records_and_one_name_is_for_one),
		TEST(a_batch_larger_than_a_record_of_the_run_is_taken_in_pieces),
		TEST(a_thousand_channels_are_recorded),
		TEST(each_flush_is_a_batch_and_numbers_go_on),
		TEST(a_writer_that_keeps_a_few_segments_goes_on_behind_those_that_are_gone),
		TEST(the_thread_drains_while_producers_write),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
