/* The background writer: what is lost or cannot be taken is accounted for, and marked where it would have
 * been.
 */
#include "daq_writer_support.h"

#include "store/store.h"
#include "support/fault_os.h"

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

/* ---- where ---- */

/* Losses before the writer's first look, between looks, twice between two, and before a successor's first. */
static void losses_between_looks(esk_daq_layout layout)
{
	uint64_t next = 0;
	esk_ring *ring = make_ring("r", ESK_OVERWRITE);
	esk_daq_writer *writer = open_writer(ring, "run", layout);
	for (int look = 0; look < 6; look++) {
		write_numbers(ring, &next, 20);
		overwrite_all(ring);
		if (look == 4) {
			write_numbers(ring, &next, 9);
			overwrite_all(ring);
		}
		write_numbers(ring, &next, look == 3 ? 0 : 25);
		check_ok(esk_daq_writer_step(writer, err));
		if (look == 2) {
			check_ok(esk_daq_writer_close(writer, err));
			writer = open_writer(ring, "run", layout);
		}
	}
	check_ok(esk_daq_writer_close(writer, err));
	esk_ring_detach(ring);
	assert_int_equal(account_sum("run", "lost_records"), 6 * 20 + 9);
	expect_every_number("run", layout, next);
}

static void losses_between_looks_are_marked_in_front_of_the_row_that_follows(void **state)
{
	losses_between_looks(ESK_DAQ_COLUMNS);
	assert_int_equal(query_integer("SELECT row FROM v_gaps WHERE cause = 'overwritten'"), 0);
}

static void losses_between_looks_are_told_by_the_batch_that_follows(void **state)
{
	losses_between_looks(ESK_DAQ_BATCHES);
}

/* Losses while the writer is in the midst of a look: when it says that a record cannot be taken, what follows
 * it is overwritten, up to the middle of the next group. */
enum { GROUPS = 4, HALF = 7 };
#define PAUSE_BYTES 60000u /* between halves: more than producers evict at once */

typedef struct interruption {
	esk_ring *ring;
	uint64_t middles[GROUPS]; /* positions */
	unsigned next;            /* group */
} interruption;

static void abandon(esk_ring *ring, uint32_t bytes)
{
	esk_ring_slot slot;
	check_ok(esk_ring_reserve(ring, 1, ESK_DAQ_BATCH, bytes, &slot, err));
	esk_ring_abandon(ring, &slot);
}

static void interrupt(void *arg, esk_log_level level, const char *message)
{
	interruption *i = arg;
	esk_ring_stats stats;
	if (i->next == GROUPS || strstr(message, "is skipped") == NULL)
		return;
	for (esk_ring_get_stats(i->ring, &stats); stats.tail_position < i->middles[i->next];
		esk_ring_get_stats(i->ring, &stats))
		abandon(i->ring, 8);
	i->next++;
}

static void write_groups(interruption *i, uint64_t *next)
{
	for (unsigned g = 0; g < GROUPS; g++) {
		esk_ring_stats stats;
		write_numbers(i->ring, next, HALF);
		esk_ring_get_stats(i->ring, &stats);
		i->middles[g] = stats.head_position;
		abandon(i->ring, PAUSE_BYTES);
		write_numbers(i->ring, next, HALF);
		abandon(i->ring, PAUSE_BYTES);
	}
	i->next = 1;
}

static void losses_within_a_look(esk_daq_layout layout)
{
	uint64_t next = 0;
	esk_ring *ring = make_ring("r", ESK_OVERWRITE);
	interruption between = {.ring = ring};
	esk_daq_writer_options options = ESK_DAQ_WRITER_OPTIONS_INIT;
	esk_daq_writer *writer;
	options.layout = layout;
	options.ring_bytes = RUN_RING_BYTES;
	options.log = interrupt;
	options.log_arg = &between;
	check_ok(esk_daq_writer_open(daq_path("store/run.h5"), ring, &options, &writer, err));
	for (unsigned look = 0; look < 3; look++) {
		write_groups(&between, &next);
		check_ok(esk_daq_writer_step(writer, err));
		assert_int_equal(between.next, GROUPS);
	}
	check_ok(esk_daq_writer_close(writer, err));
	esk_ring_detach(ring);
	/* Behind the garbage in the midst of each half there are three. */
	assert_int_equal(account_sum("run", "lost_records"), 3 * (3 + HALF + HALF + 2 * (3 + HALF)));
	expect_every_number("run", layout, next);
}

static void losses_within_a_look_are_marked_between_its_rows(void **state)
{
	losses_within_a_look(ESK_DAQ_COLUMNS);
	assert_int_equal(
		query_integer("SELECT count(DISTINCT row) FROM v_gaps WHERE cause = 'overwritten'"), 9);
}

static void losses_within_a_look_are_told_by_the_batches_between(void **state)
{
	losses_within_a_look(ESK_DAQ_BATCHES);
}

/* Far more losses in a look than marks are kept, from threads, as they come. */
typedef struct flood {
	esk_ring *ring;
	uint64_t count;
} flood;

static void *write_flood(void *arg)
{
	flood *f = arg;
	uint64_t next = 0;
	write_numbers(f->ring, &next, f->count);
	return NULL;
}

static void flood_the_writer(esk_daq_layout layout)
{
	pthread_t thread;
	flood f = {.ring = make_ring("r", ESK_OVERWRITE), .count = 1000ull * daq_rounds(200)};
	esk_daq_writer *writer = open_writer(f.ring, "run", layout);
	check_ok(esk_daq_writer_start(writer, err));
	assert_int_equal(pthread_create(&thread, NULL, write_flood, &f), 0);
	pthread_join(thread, NULL);
	esk_status status = ESK_ETIMEDOUT; /* the run's ring may be full for longer than a writer waits */
	while (status == ESK_ETIMEDOUT)
		status = esk_daq_writer_flush(writer, NULL);
	assert_int_equal(status, ESK_OK);
	check_ok(esk_daq_writer_close(writer, err));
	esk_ring_detach(f.ring);
	printf("%llu records, %llu lost, %lld gaps\n", (unsigned long long)f.count,
		(unsigned long long)account_sum("run", "lost_records"),
		(long long)query_integer("SELECT count(*) FROM v_gaps WHERE cause = 'overwritten'"));
	expect_every_number("run", layout, f.count);
}

static void in_a_flood_every_loss_is_marked_where_it_was(void **state)
{
	flood_the_writer(ESK_DAQ_COLUMNS);
}

static void in_a_flood_every_loss_is_told_by_its_batch(void **state)
{
	flood_the_writer(ESK_DAQ_BATCHES);
}

static void losses_of_raw_bytes_are_marked_in_their_stream(void **state)
{
	esk_ring *ring = make_ring("r", ESK_OVERWRITE);
	esk_daq_writer *writer = open_writer(ring, "run", ESK_DAQ_COLUMNS);
	for (int look = 0; look < 3; look++) {
		for (int i = 0; i < 5; i++)
			check_ok(esk_daq_write(ring, "lost", 4, err));
		overwrite_all(ring);
		check_ok(esk_daq_write(ring, "kept", 4, err));
		check_ok(esk_daq_writer_step(writer, err));
	}
	check_ok(esk_daq_writer_close(writer, err));
	esk_ring_detach(ring);
	uint64_t *before = gaps_before("bytes", 3, "cause = 'overwritten'");
	for (int i = 0; i < 3; i++)
		assert_int_equal(before[i], 5);
	free(before);
}

/* The ring cannot say whose the records were: the gap is in front of the account's row of it. */
static void losses_of_several_instruments_are_marked_in_the_account(void **state)
{
	esk_ring *ring = make_ring("r", ESK_OVERWRITE);
	esk_daq_writer *writer = open_writer(ring, "run", ESK_DAQ_COLUMNS);
	write_rows(ring, "scope", 0, 1);
	write_rows(ring, "psu", 0, 1);
	overwrite_all(ring);
	write_rows(ring, "scope", 1, 1); /* nothing of the other was ever read: it is declared */
	check_ok(esk_daq_writer_step(writer, err));
	check_ok(esk_daq_writer_close(writer, err));
	writer = open_writer(ring, "run", ESK_DAQ_COLUMNS);
	for (int i = 0; i < 3; i++)
		write_rows(ring, "psu", 1, 1);
	overwrite_all(ring);
	write_rows(ring, "psu", 2, 1);
	write_rows(ring, "scope", 2, 1);
	check_ok(esk_daq_writer_step(writer, err));
	check_ok(esk_daq_writer_close(writer, err));
	esk_ring_detach(ring);
	assert_int_equal(query_integer("SELECT count(*) FROM v_gaps WHERE stream != 'ring'"), 0);
	uint64_t rows = rows_in("run", "ring/lost_records");
	uint64_t *before = gaps_before("ring", rows, "cause = 'overwritten'");
	esk_store *store;
	esk_reader *reader = open_run(&store, "run");
	uint64_t *lost = daq_read(reader, "ring/lost_records", rows, sizeof *lost);
	close_run(store, reader);
	assert_memory_equal(before, lost, rows * sizeof *lost);
	assert_int_equal(lost[0], 2); /* in front of all that was taken */
	assert_int_equal(account_sum("run", "lost_records"), 5);
	free(lost);
	free(before);
}

/* Raw bytes have no declaration; from the first that was read, also by a predecessor, they are an instrument.
 */
static void raw_bytes_beside_an_instrument_make_two(void **state)
{
	esk_ring *ring = make_ring("r", ESK_OVERWRITE);
	esk_daq_writer *writer = open_writer(ring, "run", ESK_DAQ_COLUMNS);
	write_rows(ring, NULL, 0, 1);
	check_ok(esk_daq_write(ring, "raw", 3, err));
	check_ok(esk_daq_writer_close(writer, err));
	writer = open_writer(ring, "run", ESK_DAQ_COLUMNS);
	check_ok(esk_daq_write(ring, "raw", 3, err));
	overwrite_all(ring);
	write_rows(ring, NULL, 1, 1);
	check_ok(esk_daq_writer_close(writer, err));
	esk_ring_detach(ring);
	assert_int_equal(query_integer("SELECT records FROM v_gaps WHERE stream = 'ring'"), 1);
	assert_int_equal(query_integer("SELECT count(*) FROM gaps"), 1);
}

/* What a batch of one instrument tells is what was lost in front of its first record, whoever is put first.
 */
static void the_batch_of_the_record_that_follows_tells_of_a_loss(void **state)
{
	esk_ring *ring = make_ring("r", ESK_OVERWRITE);
	esk_daq_writer *writer = open_writer(ring, "run", ESK_DAQ_BATCHES);
	write_rows(ring, "psu", 0, 1);
	write_rows(ring, "scope", 0, 1);
	overwrite_all(ring);
	write_rows(ring, "scope", 1, 1);
	write_rows(ring, "psu", 1, 1);
	check_ok(esk_daq_writer_close(writer, err));
	esk_ring_detach(ring);
	assert_int_equal(query_integer("SELECT json_extract(attributes, '$.lost_records') FROM items WHERE "
				       "path = 'scope/batch_000001'"),
		2);
	assert_int_equal(query_integer("SELECT json_extract(attributes, '$.lost_records') FROM items WHERE "
				       "path = 'psu/batch_000001'"),
		0);
}

/* Whose a record is that cannot be taken, its declaration says: also among several instruments. */
static void bad_records_are_marked_in_their_instruments_stream_where_they_came(void **state)
{
	uint64_t next = 0;
	esk_ring *ring = make_ring("r", ESK_BLOCK);
	esk_daq_writer *writer = open_writer(ring, "run", ESK_DAQ_COLUMNS);
	for (int look = 0; look < 3; look++) {
		for (int i = 0; i < 30; i++) {
			write_numbers(ring, &next, 1);
			write_rows(ring, "scope", 30 * look + i, 1);
		}
		check_ok(esk_daq_writer_step(writer, err));
	}
	check_ok(esk_daq_writer_close(writer, err));
	esk_ring_detach(ring);
	expect_series("run", "scope", 90);
	assert_int_equal(query_integer("SELECT count(*) FROM v_gaps WHERE stream != 'measurements'"), 0);
	assert_int_equal(account_sum("run", "bad_records"), garbage_between(-1, 90));
	expect_every_number("run", ESK_DAQ_COLUMNS, next);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(bad_records_are_counted_and_the_others_land),
		TEST(a_valid_batch_with_flipped_bits_never_does_harm),
		TEST(a_row_that_cannot_be_stored_spoils_its_own_record_only),
		TEST(another_schema_under_the_same_name_is_refused_and_counted),
		TEST(what_is_overwritten_is_accounted_for_to_the_record),
		TEST(a_lossy_writer_does_not_hold_the_ring),
		TEST(batches_account_for_what_is_overwritten),
		TEST(losses_between_looks_are_marked_in_front_of_the_row_that_follows),
		TEST(losses_between_looks_are_told_by_the_batch_that_follows),
		TEST(losses_within_a_look_are_marked_between_its_rows),
		TEST(losses_within_a_look_are_told_by_the_batches_between),
		TEST(in_a_flood_every_loss_is_marked_where_it_was),
		TEST(in_a_flood_every_loss_is_told_by_its_batch),
		TEST(losses_of_raw_bytes_are_marked_in_their_stream),
		TEST(losses_of_several_instruments_are_marked_in_the_account),
		TEST(raw_bytes_beside_an_instrument_make_two),
		TEST(the_batch_of_the_record_that_follows_tells_of_a_loss),
		TEST(bad_records_are_marked_in_their_instruments_stream_where_they_came),
		TEST(what_was_reserved_and_never_published_is_no_loss),
		TEST(on_a_full_disk_records_stay_in_the_ring_and_recording_goes_on_by_itself),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
