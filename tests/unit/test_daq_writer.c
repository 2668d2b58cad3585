/* The background writer: every record lands exactly once, whatever dies when; what is lost or bad is
 * accounted for. */
#include "daq_support.h"

#include "store/store.h"
#include "support/fault_os.h"

#include <sched.h>

#define RUN_RING_BYTES (4u << 20)

static esk_ring *make_ring(const char *name, esk_policy policy)
{
	esk_ring *ring = NULL;
	esk_ring_options options = ESK_RING_OPTIONS_INIT;
	options.policy = policy;
	check_ok(esk_daq_ring_create(daq_path(name), 1, &options, &ring, err));
	return ring;
}

static esk_daq_writer *open_writer(esk_ring *ring, const char *run, esk_daq_layout layout)
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

static esk_daq_writer_stats stats_of(esk_daq_writer *writer)
{
	esk_daq_writer_stats stats = {.struct_size = sizeof stats};
	check_ok(esk_daq_writer_get_stats(writer, &stats, err));
	return stats;
}

static void write_rows(esk_ring *ring, const char *instrument, int64_t first, int64_t rows)
{
	daq_batch batch;
	check_ok(esk_daq_write_arrow(ring, instrument, daq_schema(), daq_fill(&batch, first, rows), err));
}

/* ---- reading back ---- */

static esk_reader *open_run(esk_store **ret_store, const char *run)
{
	esk_reader *reader;
	esk_store_options options = ESK_STORE_OPTIONS_INIT;
	options.read_only = true;
	check_ok(esk_store_open(daq_path("store"), &options, ret_store, err));
	check_ok(esk_reader_open(*ret_store, run, &reader, err));
	return reader;
}

static void close_run(esk_store *store, esk_reader *reader)
{
	esk_reader_close(reader);
	check_ok(esk_store_close(store, err));
}

static uint64_t rows_in(const char *run, const char *path)
{
	esk_store *store;
	esk_reader *reader = open_run(&store, run);
	uint64_t rows = daq_rows(reader, path);
	close_run(store, reader);
	return rows;
}

/* The instrument has rows 0, 1, …, rows - 1 of the series. */
static void expect_series(const char *run, const char *instrument, uint64_t rows)
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
static uint64_t account_sum(const char *run, const char *column)
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

static int64_t query_integer(const char *sql)
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

/* Rows of all batches of an instrument, in their order, to free; their number. */
static int64_t *batch_rows(const char *run, const char *instrument, uint64_t *ret_rows, uint64_t *ret_batches)
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

static void batches_account_for_what_is_overwritten(void **state)
{
	uint64_t seed = 12, written = 0;
	esk_ring *ring = make_ring("r", ESK_OVERWRITE);
	esk_daq_writer *writer = open_writer(ring, "run", ESK_DAQ_BATCHES);
	for (unsigned round = 0; round < daq_rounds(20); round++) {
		for (unsigned n = round == 0 ? 5000 : daq_random(&seed) % 4000; n > 0; n--)
			write_rows(ring, NULL, (int64_t)written++, 1);
		check_ok(esk_daq_writer_step(writer, err));
		if (round % 6 == 5) {
			check_ok(esk_daq_writer_close(writer, err));
			writer = open_writer(ring, "run", ESK_DAQ_BATCHES);
		}
	}
	check_ok(esk_daq_writer_close(writer, err));
	esk_ring_detach(ring);
	uint64_t rows, batches, lost = account_sum("run", "lost_records");
	int64_t *all = batch_rows("run", ESK_DAQ_DEFAULT_INSTRUMENT, &rows, &batches);
	for (uint64_t i = 1; i < rows; i++)
		assert_true(all[i] > all[i - 1]);
	free(all);
	assert_true(lost > 0);
	assert_int_equal(rows + lost, written);
	assert_int_equal(
		query_integer("SELECT sum(json_extract(attributes, '$.lost_records')) FROM items"), lost);
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

/* ---- what is bad, what is lost ---- */

static void bad_records_are_counted_and_the_others_land(void **state)
{
	uint64_t seed = 4;
	uint8_t garbage[200];
	esk_ring *ring = make_ring("r", ESK_BLOCK);
	esk_daq_writer *writer = open_writer(ring, "run", ESK_DAQ_COLUMNS);
	int64_t row = 0;
	unsigned bad = 0;
	for (unsigned i = 0; i < 400; i++) {
		write_rows(ring, NULL, row, 2);
		row += 2;
		for (size_t b = 0; b < sizeof garbage; b++)
			garbage[b] = (uint8_t)daq_random(&seed);
		if (i % 5 == 0) /* no message; no declaration; no kind */
			check_ok(esk_ring_write(ring, i % 10 == 0 ? 1 : 1000, i % 15 == 0 ? 9 : ESK_DAQ_BATCH,
				garbage, daq_random(&seed) % sizeof garbage, NULL, err));
		bad += i % 5 == 0;
	}
	check_ok(esk_daq_writer_flush(writer, err));
	assert_int_equal(stats_of(writer).bad_records, bad);
	assert_int_equal(stats_of(writer).records, 400);
	assert_int_equal(stats_of(writer).status, ESK_OK);
	check_ok(esk_daq_writer_close(writer, err));
	esk_ring_detach(ring);
	expect_series("run", ESK_DAQ_DEFAULT_INSTRUMENT, (uint64_t)row);
	assert_int_equal(account_sum("run", "bad_records"), bad);
	assert_int_equal(query_integer("SELECT sum(records) FROM gaps"), bad);
}

static void a_valid_batch_with_flipped_bits_never_does_harm(void **state)
{
	uint64_t seed = 5;
	esk_ring *ring = make_ring("r", ESK_OVERWRITE), *source = make_ring("s", ESK_BLOCK);
	write_rows(source, NULL, 0, 16);
	void *message;
	size_t size;
	check_ok(esk_daq_read_snapshot(source, &message, &size, err));
	write_rows(ring, NULL, 0, 16);
	esk_daq_writer *writer = open_writer(ring, "run", ESK_DAQ_COLUMNS);
	unsigned rounds = daq_rounds(3000);
	for (unsigned i = 0; i < rounds; i++) {
		uint8_t *copy = malloc(size);
		memcpy(copy, message, size);
		for (unsigned flips = 1 + daq_random(&seed) % 3; flips > 0; flips--)
			copy[daq_random(&seed) % size] ^= (uint8_t)(1u << daq_random(&seed) % 8);
		check_ok(esk_ring_write(ring, 1, ESK_DAQ_BATCH, copy, size, NULL, err));
		free(copy);
		if (i % 100 == 0)
			check_ok(esk_daq_writer_step(writer, err));
	}
	check_ok(esk_daq_writer_flush(writer, err));
	esk_daq_writer_stats stats = stats_of(writer);
	assert_true(stats.bad_records > 0);
	assert_int_equal(stats.records + stats.bad_records, rounds + 1);
	check_ok(esk_daq_writer_close(writer, err));
	esk_daq_snapshot_free(message);
	esk_ring_detach(source);
	esk_ring_detach(ring);
}

/* A text with a NUL byte cannot be a string of HDF5's: it spoils its own record and no other. */
static void a_row_that_cannot_be_stored_spoils_its_own_record_only(void **state)
{
	esk_ring *ring = make_ring("r", ESK_BLOCK);
	esk_daq_writer *writer = open_writer(ring, "run", ESK_DAQ_COLUMNS);
	struct ArrowSchema text = {.format = "u", .name = "note", .release = daq_release_schema};
	struct ArrowSchema *columns[] = {&text};
	struct ArrowSchema schema = {.format = "+s",
		.name = "",
		.n_children = 1,
		.children = columns,
		.release = daq_release_schema};
	for (int i = 0; i < 50; i++) {
		char note[8];
		int32_t ends[2] = {0, snprintf(note, sizeof note, "n%d", i)};
		if (i % 7 == 3)
			note[1] = '\0';
		const void *buffers[3] = {NULL, ends, note}, *none[1] = {NULL};
		struct ArrowArray array = {
			.length = 1, .n_buffers = 3, .buffers = buffers, .release = daq_release_array};
		struct ArrowArray *arrays[] = {&array};
		struct ArrowArray batch = {.length = 1,
			.n_buffers = 1,
			.buffers = none,
			.n_children = 1,
			.children = arrays,
			.release = daq_release_array};
		check_ok(esk_daq_write_arrow(ring, "log", &schema, &batch, err));
	}
	check_ok(esk_daq_writer_flush(writer, err));
	assert_int_equal(stats_of(writer).bad_records, 7);
	assert_int_equal(stats_of(writer).records, 43);
	check_ok(esk_daq_writer_close(writer, err));
	esk_ring_detach(ring);
	assert_int_equal(rows_in("run", "log/note"), 43);
}

static void another_schema_under_the_same_name_is_refused_and_counted(void **state)
{
	esk_ring *ring = make_ring("r", ESK_BLOCK);
	esk_daq_writer *writer = open_writer(ring, "run", ESK_DAQ_COLUMNS);
	struct ArrowSchema schema = *daq_schema();
	daq_batch batch;
	write_rows(ring, NULL, 0, 10);
	schema.n_children = 1;
	struct ArrowArray array = *daq_fill(&batch, 0, 10);
	array.n_children = 1;
	check_ok(esk_daq_write_arrow(ring, NULL, &schema, &array, err));
	check_ok(esk_daq_write_arrow(ring, NULL, &schema, &array, err));
	write_rows(ring, NULL, 10, 10);
	check_ok(esk_daq_writer_flush(writer, err));
	assert_int_equal(stats_of(writer).bad_records, 2);
	check_ok(esk_daq_writer_close(writer, err));
	esk_ring_detach(ring);
	expect_series("run", ESK_DAQ_DEFAULT_INSTRUMENT, 20);
}

/* Rows of the series with holes: each is one that was written, in order, none twice. */
static uint64_t expect_part_of_series(const char *run)
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

static void what_is_overwritten_is_accounted_for_to_the_record(void **state)
{
	uint64_t seed = 11;
	esk_ring *ring = make_ring("r", ESK_OVERWRITE);
	esk_daq_source *source;
	daq_batch batch;
	check_ok(esk_daq_source_open(ring, NULL, daq_schema(), &source, err));
	esk_daq_writer *writer = open_writer(ring, "run", ESK_DAQ_COLUMNS);
	uint64_t written = 0;
	for (unsigned round = 0; round < daq_rounds(30); round++) {
		for (unsigned n = round == 0 ? 12000 : daq_random(&seed) % 6000; n > 0; n--)
			check_ok(esk_daq_source_write(source, daq_fill(&batch, (int64_t)written++, 1), err));
		if (round % 7 == 6) {
			check_ok(esk_daq_writer_close(writer, err));
			writer = open_writer(ring, "run", ESK_DAQ_COLUMNS);
		} else {
			check_ok(esk_daq_writer_step(writer, err));
		}
	}
	check_ok(esk_daq_writer_close(writer, err));
	esk_daq_source_close(source);
	esk_ring_detach(ring);
	uint64_t rows = expect_part_of_series("run");
	uint64_t lost = account_sum("run", "lost_records");
	assert_int_equal(rows + lost, written);
	assert_true(lost > 0);
	assert_int_equal(query_integer("SELECT sum(records) FROM gaps"), lost);
}

static void a_lossy_writer_does_not_hold_the_ring(void **state)
{
	esk_ring *ring = make_ring("r", ESK_BLOCK);
	esk_daq_writer_options options = ESK_DAQ_WRITER_OPTIONS_INIT;
	options.lossy = true;
	options.consumer = "view";
	options.ring_bytes = RUN_RING_BYTES;
	esk_daq_writer *keeps = open_writer(ring, "run", ESK_DAQ_COLUMNS), *view;
	check_ok(esk_daq_writer_open(daq_path("store2/view.h5"), ring, &options, &view, err));
	uint64_t written = 0;
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 1000; i++, written += 2)
			write_rows(ring, NULL, (int64_t)written, 2);
		check_ok(esk_daq_writer_step(keeps, err));
	}
	check_ok(esk_daq_writer_step(view, err));
	esk_daq_writer_stats stats = stats_of(view);
	assert_int_equal(stats.records + stats.lost_records, 20000);
	assert_true(stats.lost_records > 0);
	check_ok(esk_daq_writer_close(view, err));
	check_ok(esk_daq_writer_close(keeps, err));
	esk_ring_detach(ring);
	expect_series("run", ESK_DAQ_DEFAULT_INSTRUMENT, written);
}

/* ---- a full disk ---- */

static void on_a_full_disk_records_stay_in_the_ring_and_recording_goes_on_by_itself(void **state)
{
	esk_fault *fault = esk_fault_new(1);
	esk_store_environment environment = {.os = esk_fault_os(fault)};
	esk_store *store;
	esk_daq_writer *writer;
	esk_daq_writer_options options = ESK_DAQ_WRITER_OPTIONS_INIT;
	esk_error why = {0};
	int64_t row = 0;
	esk_ring *ring = make_ring("r", ESK_REJECT);
	options.ring_bytes = 128 << 10;
	check_ok(esk_store_create_in(&environment, daq_path("store"), err));
	check_ok(esk_store_open_in(&environment, daq_path("store"), NULL, &store, err));
	check_ok(esk_daq_writer_open_in(store, "run", ring, &options, &writer, err));
	write_rows(ring, NULL, row, 100);
	row += 100;
	check_ok(esk_daq_writer_flush(writer, err));
	esk_fault_set_space(fault, 0);
	daq_batch batch;
	while (esk_daq_write_arrow(ring, NULL, daq_schema(), daq_fill(&batch, row, 50), NULL) == ESK_OK) {
		row += 50;
		if (row % 5000 == 0)
			assert_int_not_equal(esk_daq_writer_step(writer, &why), ESK_OK);
	}
	esk_daq_writer_stats stats = stats_of(writer);
	assert_int_not_equal(stats.status, ESK_OK);
	assert_string_not_equal(stats.error, "");
	assert_true(stats.lag_bytes > 500000);
	assert_int_equal(stats.lost_records + stats.bad_records, 0);
	esk_fault_set_space(fault, UINT64_MAX);
	check_ok(esk_daq_writer_flush(writer, err));
	assert_int_equal(stats_of(writer).status, ESK_OK);
	assert_int_equal(stats_of(writer).lag_bytes, 0);
	check_ok(esk_daq_writer_close(writer, err));
	check_ok(esk_store_close(store, err));
	esk_fault_free(fault);
	esk_ring_detach(ring);
	expect_series("run", ESK_DAQ_DEFAULT_INSTRUMENT, (uint64_t)row);
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

/* ---- deaths ---- */

/* What producers acknowledged, in memory that outlives them. A producer that dies may have published a batch
 * that it did not live to take note of: rows [rows, begun) are then there, or not, and the next one begins
 * behind them. */
typedef struct acks {
	_Atomic uint64_t rows;
	_Atomic uint64_t begun;
	_Atomic uint64_t records;
	uint64_t open_count;
	struct {
		uint64_t first, end;
	} open[256];
} acks;

static void produce_until_killed(const char *path, acks *acked, uint64_t seed)
{
	esk_ring *ring;
	esk_daq_source *source;
	static daq_batch batch;
	if (esk_daq_ring_open(path, &ring, NULL) != ESK_OK ||
		esk_daq_source_open(ring, NULL, daq_schema(), &source, NULL) != ESK_OK)
		_exit(1);
	for (;;) {
		uint64_t row = atomic_load(&acked->rows);
		uint64_t rows = 1 + daq_random(&seed) % 9;
		atomic_store(&acked->begun, row + rows);
		if (esk_daq_source_write(source, daq_fill(&batch, (int64_t)row, (int64_t)rows), NULL) ==
			ESK_OK) {
			atomic_store(&acked->rows, row + rows);
			atomic_fetch_add(&acked->records, 1);
		}
		if (daq_random(&seed) % 64 == 0)
			sched_yield();
	}
}

/* After a producer's death: what it left open. */
static void note_open(acks *acked)
{
	uint64_t rows = atomic_load(&acked->rows), begun = atomic_load(&acked->begun);
	if (begun <= rows)
		return;
	assert_true(acked->open_count < 256);
	acked->open[acked->open_count].first = rows;
	acked->open[acked->open_count++].end = begun;
	atomic_store(&acked->rows, begun);
}

/* Every row that was acknowledged is there once, in order; of those left open, all of a batch or none. */
static void expect_acknowledged(const acks *acked, const int64_t *timestamps, uint64_t count)
{
	uint64_t expected = 0, open = 0;
	for (uint64_t i = 0; i < count; i++, expected++) {
		while (open < acked->open_count && acked->open[open].first < expected)
			open++;
		while ((uint64_t)timestamps[i] != expected && open < acked->open_count &&
			acked->open[open].first == expected)
			expected = acked->open[open++].end;
		assert_int_equal(timestamps[i], expected);
	}
	for (; open < acked->open_count; open++)
		if (acked->open[open].first == expected)
			expected = acked->open[open].end;
	assert_int_equal(expected, atomic_load(&acked->rows));
}

static void write_until_killed(const char *path, const char *output, esk_daq_layout layout)
{
	esk_ring *ring;
	esk_daq_writer *writer;
	esk_daq_writer_options options = ESK_DAQ_WRITER_OPTIONS_INIT;
	options.layout = layout;
	options.flush_interval_ns = 3000000;
	options.ring_bytes = 1 << 20;
	if (esk_daq_ring_open(path, &ring, NULL) != ESK_OK)
		_exit(1);
	esk_error err;
	if (esk_daq_writer_open(output, ring, &options, &writer, &err) != ESK_OK) {
		fprintf(stderr, "a writer did not open: %s\n", err.message);
		_exit(2);
	}
	if (esk_daq_writer_start(writer, NULL) != ESK_OK)
		_exit(3);
	for (;;)
		pause();
}

static void nap_us(uint32_t us)
{
	struct timespec nap = {.tv_nsec = (long)us * 1000};
	nanosleep(&nap, NULL);
}

static void kill_child(pid_t child)
{
	int result;
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &result, 0), child);
	assert_true(WIFSIGNALED(result)); /* it had not ended by itself */
}

typedef struct deaths {
	acks *acked;
	char path[256], output[256];
	esk_daq_layout layout;
	pid_t producer, writer;
	uint64_t seed;
} deaths;

static void start_producer(deaths *d)
{
	uint64_t seed = daq_random(&d->seed);
	d->producer = fork();
	if (d->producer == 0)
		produce_until_killed(d->path, d->acked, seed);
}

static void start_writer(deaths *d)
{
	d->writer = fork();
	if (d->writer == 0)
		write_until_killed(d->path, d->output, d->layout);
}

static acks *deaths_of_both(esk_daq_layout layout, uint64_t seed)
{
	deaths d = {.layout = layout, .seed = seed};
	printf("seed %llu\n", (unsigned long long)seed);
	snprintf(d.path, sizeof d.path, "%s", daq_path("r"));
	snprintf(d.output, sizeof d.output, "%s", daq_path("store/run.h5"));
	d.acked = mmap(NULL, sizeof *d.acked, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(d.acked != MAP_FAILED);
	esk_ring_detach(make_ring("r", ESK_BLOCK));
	start_writer(&d);
	start_producer(&d);
	for (unsigned round = 0; round < daq_rounds(60); round++) {
		nap_us(1000 + daq_random(&d.seed) % 40000);
		uint32_t who = daq_random(&d.seed) % 3;
		if (who != 0)
			kill_child(d.writer);
		if (who != 1) {
			kill_child(d.producer);
			note_open(d.acked);
			start_producer(&d);
		}
		if (who != 0)
			start_writer(&d);
	}
	kill_child(d.producer);
	kill_child(d.writer);
	note_open(d.acked);
	esk_ring *ring;
	check_ok(esk_daq_ring_open(d.path, &ring, err));
	esk_daq_writer_options options = ESK_DAQ_WRITER_OPTIONS_INIT;
	options.layout = layout;
	options.ring_bytes = 1 << 20;
	esk_daq_writer *writer;
	check_ok(esk_daq_writer_open(d.output, ring, &options, &writer, err));
	check_ok(esk_daq_writer_close(writer, err));
	esk_ring_detach(ring);
	printf("%llu rows acknowledged, %llu batches left open\n",
		(unsigned long long)atomic_load(&d.acked->rows), (unsigned long long)d.acked->open_count);
	return d.acked;
}

static void deaths_of_producer_and_writer_lose_no_row_and_double_none(void **state)
{
	acks *acked = deaths_of_both(ESK_DAQ_COLUMNS, 20261124);
	esk_store *store;
	esk_reader *reader = open_run(&store, "run");
	uint64_t rows = daq_rows(reader, "measurements/timestamp");
	int64_t *timestamps = daq_read(reader, "measurements/timestamp", rows, sizeof *timestamps);
	expect_acknowledged(acked, timestamps, rows);
	free(timestamps);
	close_run(store, reader);
	assert_true(rows > 0);
	munmap(acked, sizeof *acked);
}

static void deaths_lose_and_double_no_batch(void **state)
{
	acks *acked = deaths_of_both(ESK_DAQ_BATCHES, 20261125);
	uint64_t rows, batches;
	int64_t *all = batch_rows("run", ESK_DAQ_DEFAULT_INSTRUMENT, &rows, &batches);
	expect_acknowledged(acked, all, rows);
	assert_true(rows > 0 && batches > 1);
	free(all);
	munmap(acked, sizeof *acked);
}

/* A sequence is used up there, and nothing was lost: guards against losses told from the numbers. */
static void what_was_reserved_and_never_published_is_no_loss(void **state)
{
	esk_ring *ring = make_ring("r", ESK_BLOCK);
	for (int life = 0; life < 3; life++) {
		esk_daq_writer *writer = open_writer(ring, "run", ESK_DAQ_COLUMNS);
		esk_ring_slot slot;
		check_ok(esk_ring_reserve(ring, 1, ESK_DAQ_BATCH, 100, &slot, err));
		esk_ring_abandon(ring, &slot);
		write_rows(ring, NULL, 2 * life, 1);
		check_ok(esk_daq_writer_step(writer, err));
		check_ok(esk_ring_reserve(ring, 1, ESK_DAQ_BATCH, 100, &slot, err));
		esk_ring_abandon(ring, &slot);
		write_rows(ring, NULL, 2 * life + 1, 1);
		assert_int_equal(stats_of(writer).lost_records, 0);
		check_ok(esk_daq_writer_close(writer, err));
	}
	esk_ring_detach(ring);
	assert_int_equal(account_sum("run", "records"), 6);
	assert_int_equal(account_sum("run", "lost_records"), 0);
	expect_series("run", "measurements", 6);
}

/* The writer dies again and again while the ring is overwritten: records that are in the file and records
 * that are accounted for as lost are as many as were written. */
static void what_is_overwritten_around_deaths_is_accounted_for_too(void **state)
{
	deaths d = {.layout = ESK_DAQ_COLUMNS, .seed = 10};
	printf("seed %llu\n", (unsigned long long)d.seed);
	snprintf(d.path, sizeof d.path, "%s", daq_path("r"));
	snprintf(d.output, sizeof d.output, "%s", daq_path("store/run.h5"));
	d.acked = mmap(NULL, sizeof *d.acked, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	esk_ring *ring = make_ring("r", ESK_OVERWRITE);
	esk_daq_writer *writer;
	esk_daq_writer_options options = ESK_DAQ_WRITER_OPTIONS_INIT;
	options.ring_bytes = 1 << 20;
	/* What was overwritten before a writer had its place is not its loss. */
	check_ok(esk_daq_writer_open(d.output, ring, &options, &writer, err));
	check_ok(esk_daq_writer_close(writer, err));
	start_producer(&d);
	for (unsigned round = 0; round < daq_rounds(40); round++) {
		start_writer(&d);
		nap_us(5000 + daq_random(&d.seed) % 80000);
		kill_child(d.writer);
	}
	kill_child(d.producer);
	check_ok(esk_daq_writer_open(d.output, ring, &options, &writer, err));
	check_ok(esk_daq_writer_close(writer, err));
	esk_ring_detach(ring);
	uint64_t written = atomic_load(&d.acked->records);
	uint64_t records = account_sum("run", "records"), lost = account_sum("run", "lost_records");
	printf("%llu records written, %llu in the file, %llu lost\n", (unsigned long long)written,
		(unsigned long long)records, (unsigned long long)lost);
	/* The producer may have died between publishing its last one and taking note of it. */
	assert_true(records + lost == written || records + lost == written + 1);
	expect_part_of_series("run");
	munmap(d.acked, sizeof *d.acked);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, daq_enter, daq_leave)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(batches_of_several_instruments_become_streams),
		TEST(a_flush_of_nothing_changes_nothing),
		TEST(a_writer_goes_on_where_it_was),
		TEST(two_writers_take_the_same_records_and_one_name_is_for_one),
		TEST(a_batch_larger_than_a_record_of_the_run_is_taken_in_pieces),
		TEST(a_thousand_channels_are_recorded),
		TEST(a_writer_that_keeps_a_few_segments_goes_on_behind_those_that_are_gone),
		TEST(each_flush_is_a_batch_and_numbers_go_on),
		TEST(batches_account_for_what_is_overwritten),
		TEST(bad_records_are_counted_and_the_others_land),
		TEST(a_valid_batch_with_flipped_bits_never_does_harm),
		TEST(a_row_that_cannot_be_stored_spoils_its_own_record_only),
		TEST(another_schema_under_the_same_name_is_refused_and_counted),
		TEST(what_is_overwritten_is_accounted_for_to_the_record),
		TEST(a_lossy_writer_does_not_hold_the_ring),
		TEST(on_a_full_disk_records_stay_in_the_ring_and_recording_goes_on_by_itself),
		TEST(the_thread_drains_while_producers_write),
		TEST(deaths_of_producer_and_writer_lose_no_row_and_double_none),
		TEST(deaths_lose_and_double_no_batch),
		TEST(what_was_reserved_and_never_published_is_no_loss),
		TEST(what_is_overwritten_around_deaths_is_accounted_for_too),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
