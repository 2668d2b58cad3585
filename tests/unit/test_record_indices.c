/* The index that append returns is the row's index in the file, whatever becomes of reservations made before:
 * abandoned, held until the run is closed, held by a process that is killed, damaged in the ring; and when
 * commits fail meanwhile.
 *
 *     test_record_indices [SEED]  */
#include "support/ordeal.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

/* Of every kind: small and copied, large and referred to in the ring, nullable, and (append only) of variable
 * length. */
#define COLUMNS "id:i64 cell:u8[5000] maybe:f64[2]? label:str8"
#define TEXT_COLUMNS "id:i64 text:str? more:str[2]"
#define CELL_BYTES 5000

typedef struct sample {
	int64_t id;
	uint8_t cell[CELL_BYTES];
	double maybe[2];
	char label[8];
} sample;

static void sample_fill(sample *s, int64_t id)
{
	*s = (sample){.id = id, .maybe = {(double)id, 0.5}};
	memset(s->cell, (int)(mix((uint64_t)id) & 0xFF) | 1, sizeof s->cell);
	snprintf(s->label, sizeof s->label, "n%u", (unsigned)(id % 100000));
}

/* Ids are not indices: the id of a row is its index plus this. */
#define ID_BASE 1000

static uint64_t append_sample(esk_stream *stream, int64_t id)
{
	sample s;
	esk_error err = {0};
	uint64_t row = UINT64_MAX;
	sample_fill(&s, id);
	assert_ok(esk_stream_append(stream, (const void *[]){&s.id, s.cell, s.maybe, s.label}, &row, &err),
		&err);
	return row;
}

/* Appends `count` rows whose ids follow from the index they must get. */
static void append_from(esk_stream *stream, uint64_t first, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(append_sample(stream, (int64_t)(first + i) + ID_BASE), first + i);
}

/* Rows [first, first + count) are what append_from appended. */
static void check_present(esk_reader *reader, const char *stream, uint64_t first, uint64_t count)
{
	char path[32];
	esk_error err = {0};
	sample want;
	snprintf(path, sizeof path, "%s/id", stream);
	int64_t *ids = place_read(reader, path, first, count, 8);
	snprintf(path, sizeof path, "%s/cell", stream);
	uint8_t *cells = place_read(reader, path, first, count, CELL_BYTES);
	snprintf(path, sizeof path, "%s/maybe", stream);
	double *maybe = place_read(reader, path, first, count, 16);
	snprintf(path, sizeof path, "%s/label", stream);
	char *labels = place_read(reader, path, first, count, 8);
	for (uint64_t i = 0; i < count; i++) {
		uint64_t row = first + i;
		uint8_t valid = 0;
		sample_fill(&want, (int64_t)row + ID_BASE);
		if (ids[i] != want.id)
			fail_msg("row %llu of \"%s\" has id %lld", (unsigned long long)row, stream,
				(long long)ids[i]);
		assert_memory_equal(cells + i * CELL_BYTES, want.cell, CELL_BYTES);
		assert_memory_equal(maybe + 2 * i, want.maybe, 16);
		assert_memory_equal(labels + 8 * i, want.label, 8);
		assert_ok(esk_dataset_read_valid(
				  recording_find(reader, stream, "maybe"), &row, 1, &valid, &err),
			&err);
		assert_int_equal(valid, 1);
	}
	free(ids);
	free(cells);
	free(maybe);
	free(labels);
}

/* Rows [first, first + count) are there and have no content. */
static void check_missing(esk_reader *reader, const char *stream, uint64_t first, uint64_t count)
{
	static const char *const names[] = {"id", "cell", "maybe", "label"};
	static const size_t bytes[] = {8, CELL_BYTES, 16, 8};
	esk_error err = {0};
	for (int c = 0; c < 4; c++) {
		char path[32];
		snprintf(path, sizeof path, "%s/%s", stream, names[c]);
		uint8_t *found = place_read(reader, path, first, count, bytes[c]);
		for (size_t b = 0; b < count * bytes[c]; b++)
			assert_int_equal(found[b], 0);
		free(found);
	}
	for (uint64_t row = first; row < first + count; row++) {
		uint8_t valid = 1;
		assert_ok(esk_dataset_read_valid(
				  recording_find(reader, stream, "maybe"), &row, 1, &valid, &err),
			&err);
		assert_int_equal(valid, 0);
	}
}

static uint64_t rows_of(esk_reader *reader, const char *stream)
{
	return esk_dataset_rows(recording_find(reader, stream, "id"));
}

/* The one gap of a cause in the catalogue: `rows` rows from `row`. */
static void check_gap(place *p, const char *stream, const char *cause, uint64_t row, uint64_t rows)
{
	char where[160], sql[300];
	snprintf(where, sizeof where, "FROM v_gaps WHERE stream = '%s' AND cause = '%s' AND rows > 0", stream,
		cause);
	snprintf(sql, sizeof sql, "SELECT count(*) %s", where);
	assert_int_equal(place_query(p, sql), 1);
	snprintf(sql, sizeof sql, "SELECT row %s", where);
	assert_int_equal(place_query(p, sql), row);
	snprintf(sql, sizeof sql, "SELECT rows %s", where);
	assert_int_equal(place_query(p, sql), rows);
}

/* The catalogue made from the files alone says the same of gaps. */
static void check_reindexed(place *p, const char *stream, const char *cause, uint64_t row, uint64_t rows)
{
	esk_check_report report;
	esk_error err = {0};
	place_close(p);
	assert_ok(esk_store_reindex(p->path, NULL, &report, &err), &err);
	place_open(p);
	check_gap(p, stream, cause, row, rows);
}

static uint64_t lost_records(esk_run *run)
{
	esk_run_stats stats = {.struct_size = sizeof stats};
	esk_error err = {0};
	assert_ok(esk_run_get_stats(run, &stats, &err), &err);
	return stats.lost_records;
}

/* ---- abandoned ---- */

static void rows_behind_an_abandoned_reservation_keep_their_index(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(512u << 10);
	esk_error err = {0};
	esk_reservation slot;
	esk_watermark mark;
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", COLUMNS);
	append_from(stream, 0, 4);
	assert_ok(esk_stream_reserve(stream, 3, &slot, &err), &err);
	assert_int_equal(slot.row, 4);
	append_from(stream, 7, 2);
	esk_stream_abandon(stream, &slot);
	append_from(stream, 9, 3);
	assert_ok(esk_stream_reserve(stream, 5, &slot, &err), &err); /* nobody comes after: never was */
	esk_stream_abandon(stream, &slot);
	append_from(stream, 12, 2);
	assert_ok(esk_stream_commit(stream, &mark, &err), &err);
	assert_int_equal(mark.rows, 14);
	assert_int_equal(lost_records(run), 0);
	place_run_close(run);
	esk_reader *reader = place_reader(&p, "run");
	assert_int_equal(rows_of(reader, "s"), 14);
	check_present(reader, "s", 0, 4);
	check_missing(reader, "s", 4, 3);
	check_present(reader, "s", 7, 7);
	esk_reader_close(reader);
	recording_verify(p.store);
	check_gap(&p, "s", "abandoned", 4, 3);
	check_reindexed(&p, "s", "abandoned", 4, 3);
	place_close(&p);
}

static void missing_rows_may_span_chunks_and_segments(void **state)
{
	enum { MANY = 60 };
	place p = place_make(*state);
	esk_run_options options = place_options(2u << 20);
	esk_error err = {0};
	esk_reservation slot;
	uint64_t total = 0;
	options.segment_bytes = 24u << 10;
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", "id:i64 cell:u8[5000]@none maybe:f64[2]? label:str8");
	for (int turn = 0; turn < 4; turn++) {
		assert_ok(esk_stream_reserve(stream, MANY, &slot, &err), &err);
		assert_int_equal(slot.row, total);
		append_from(stream, total + MANY, 5);
		esk_stream_abandon(stream, &slot);
		total += MANY + 5;
		assert_ok(esk_run_commit(run, NULL, &err), &err);
	}
	place_run_close(run);
	assert_true(place_files(&p) > 1);
	esk_reader *reader = place_reader(&p, "run");
	assert_int_equal(rows_of(reader, "s"), total);
	for (uint64_t row = 0; row < total; row += MANY + 5) {
		check_missing(reader, "s", row, MANY);
		check_present(reader, "s", row + MANY, 5);
	}
	esk_reader_close(reader);
	recording_verify(p.store);
	assert_int_equal(
		place_query(&p, "SELECT total(rows) FROM v_gaps WHERE cause = 'abandoned'"), 4 * MANY);
	place_close(&p);
}

static void overwriting_without_loss_keeps_indices_too(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(512u << 10);
	esk_error err = {0};
	esk_reservation slot;
	options.policy = ESK_OVERWRITE;
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", COLUMNS);
	assert_ok(esk_stream_reserve(stream, 2, &slot, &err), &err);
	append_from(stream, 2, 3);
	esk_stream_abandon(stream, &slot);
	append_from(stream, 5, 3);
	assert_ok(esk_run_commit(run, NULL, &err), &err);
	assert_int_equal(lost_records(run), 0);
	place_run_close(run);
	esk_reader *reader = place_reader(&p, "run");
	check_missing(reader, "s", 0, 2);
	check_present(reader, "s", 2, 6);
	esk_reader_close(reader);
	place_close(&p);
}

/* What is behind a reservation that is still held is drained when the run is closed. */
static void rows_behind_a_reservation_that_is_held_at_the_close_are_there(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(512u << 10);
	esk_error err = {0};
	esk_reservation slot, last;
	options.append = true;
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", COLUMNS), *other = place_stream(run, "t", COLUMNS);
	append_from(stream, 0, 2);
	assert_ok(esk_stream_reserve(stream, 4, &slot, &err), &err);
	append_from(stream, 6, 2);
	append_from(other, 0, 3);
	assert_ok(esk_stream_reserve(other, 1, &last, &err), &err);
	place_run_close(run);
	run = place_run(&p, "run", &options);
	append_from(place_stream(run, "s", COLUMNS), 8, 1);
	append_from(place_stream(run, "t", COLUMNS), 3, 1);
	place_run_close(run);
	esk_reader *reader = place_reader(&p, "run");
	assert_int_equal(rows_of(reader, "s"), 9);
	check_present(reader, "s", 0, 2);
	check_missing(reader, "s", 2, 4);
	check_present(reader, "s", 6, 3);
	assert_int_equal(rows_of(reader, "t"), 4);
	check_present(reader, "t", 0, 4);
	esk_reader_close(reader);
	check_gap(&p, "s", "abandoned", 2, 4);
	place_close(&p);
}

/* ---- several threads ---- */

#define THREADS 4

typedef struct worker {
	pthread_t thread;
	esk_stream *stream;
	int64_t number;
	uint64_t count;
	uint64_t *rows; /* index that each append was given */
	uint64_t abandoned;
	char why[300];
} worker;

static void *append_from_thread(void *arg)
{
	worker *w = arg;
	esk_error err = {0};
	for (uint64_t i = 0; i < w->count; i++) {
		sample s;
		sample_fill(&s, w->number * 100000 + (int64_t)i);
		if (esk_stream_append(w->stream, (const void *[]){&s.id, s.cell, s.maybe, s.label},
			    &w->rows[i], &err) != ESK_OK) {
			snprintf(w->why, sizeof w->why, "%.250s", err.message);
			return NULL;
		}
	}
	return NULL;
}

static void *abandon_from_thread(void *arg)
{
	worker *w = arg;
	esk_error err = {0};
	for (uint64_t i = 0; i < w->count; i++) {
		esk_reservation slot;
		if (esk_stream_reserve(w->stream, 1 + i % 7, &slot, &err) != ESK_OK) {
			snprintf(w->why, sizeof w->why, "%.250s", err.message);
			return NULL;
		}
		if (i % 3 == 0)
			sched_yield();
		esk_stream_abandon(w->stream, &slot);
	}
	return NULL;
}

static void indices_hold_while_another_thread_abandons(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(1u << 20);
	esk_error err = {0};
	worker workers[THREADS + 1];
	uint64_t count = test_scale(400), total = 0;
	options.commit_interval_ns = 3000000;
	options.segment_bytes = 256u << 10;
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", COLUMNS);
	for (int t = 0; t <= THREADS; t++) {
		workers[t] = (worker){.stream = stream, .number = t, .count = count};
		workers[t].rows = calloc(count, sizeof(uint64_t));
		assert_int_equal(pthread_create(&workers[t].thread, NULL,
					 t < THREADS ? append_from_thread : abandon_from_thread, &workers[t]),
			0);
	}
	for (int t = 0; t <= THREADS; t++) {
		pthread_join(workers[t].thread, NULL);
		if (workers[t].why[0] != '\0')
			fail_msg("thread %d: %s", t, workers[t].why);
	}
	assert_ok(esk_run_commit(run, NULL, &err), &err);
	place_run_close(run);
	esk_reader *reader = place_reader(&p, "run");
	uint64_t rows = rows_of(reader, "s");
	int64_t *ids = place_read(reader, "s/id", 0, rows, 8);
	uint8_t *cells = place_read(reader, "s/cell", 0, rows, CELL_BYTES);
	for (int t = 0; t < THREADS; t++) {
		for (uint64_t i = 0; i < count; i++) {
			sample want;
			uint64_t row = workers[t].rows[i];
			assert_true(row < rows);
			sample_fill(&want, t * 100000 + (int64_t)i);
			assert_int_equal(ids[row], want.id);
			assert_memory_equal(cells + row * CELL_BYTES, want.cell, CELL_BYTES);
			total++;
		}
	}
	uint64_t missing =
		(uint64_t)place_query(&p, "SELECT total(rows) FROM v_gaps WHERE cause = 'abandoned'");
	print_message(
		"%llu rows, %llu of them missing\n", (unsigned long long)rows, (unsigned long long)missing);
	assert_int_equal(rows, total + missing);
	for (int t = 0; t <= THREADS; t++)
		free(workers[t].rows);
	free(ids);
	free(cells);
	esk_reader_close(reader);
	recording_verify(p.store);
	place_close(&p);
}

/* ---- death ---- */

/* What a child and its parent share. */
typedef struct shared {
	_Atomic int64_t ready; /* to die */
	atomic_uint acknowledged;
	struct {
		uint64_t row;
		int64_t id;
	} rows[64];
} shared;

static uint64_t first_missing; /* row that the child's reservation was of */

static void acknowledge(shared *s, esk_stream *stream, int64_t id)
{
	unsigned at = atomic_load(&s->acknowledged);
	s->rows[at].row = append_sample(stream, id);
	s->rows[at].id = id;
	atomic_store(&s->acknowledged, at + 1);
}

static esk_stream *open_to_die(place *p, const char *path, esk_run **ret_run, uint64_t interval_ns)
{
	esk_run_options options = place_options(1u << 20);
	snprintf(p->path, sizeof p->path, "%s", path);
	options.append = true;
	options.commit_interval_ns = interval_ns;
	place_open(p);
	*ret_run = place_run(p, "run", &options);
	return place_stream(*ret_run, "s", COLUMNS);
}

static void wait_to_be_killed(shared *s)
{
	atomic_store(&s->ready, 1);
	for (;;)
		pause();
}

/* Holds a reservation while other rows are acknowledged; nothing of it is committed. */
static void die_with_a_reservation(const char *path, void *arg)
{
	shared *s = arg;
	place p = {0};
	esk_run *run;
	esk_reservation slot;
	esk_error err = {0};
	esk_stream *stream = open_to_die(&p, path, &run, UINT64_MAX);
	acknowledge(s, stream, 11);
	acknowledge(s, stream, 12);
	assert_ok(esk_stream_reserve(stream, 5, &slot, &err), &err);
	memset(slot.cells[0], 0xAA, 8); /* half filled */
	for (int64_t id = 20; id < 30; id++)
		acknowledge(s, stream, id);
	wait_to_be_killed(s);
}

/* As before, but what was committed ends between the reservation, which was abandoned, and the rows behind
 * it: whoever reads the ring from there on does not meet the reservation. */
static void die_behind_a_commit(const char *path, void *arg)
{
	shared *s = arg;
	place p = {0};
	esk_run *run;
	esk_reservation slot, hold;
	esk_error err = {0};
	esk_stream *stream = open_to_die(&p, path, &run, 5000000);
	esk_stream *other = place_stream(run, "t", COLUMNS), *holder = place_stream(run, "h", "x:i64");
	esk_run_stats stats = {.struct_size = sizeof stats};
	assert_ok(esk_stream_reserve(stream, 5, &slot, &err), &err);
	append_from(other, 0, 3);
	assert_ok(esk_stream_reserve(holder, 1, &hold, &err), &err);
	for (int64_t id = 40; id < 50; id++)
		acknowledge(s, stream, id);
	esk_stream_abandon(stream, &slot);
	while (esk_run_get_stats(run, &stats, &err) == ESK_OK && stats.committed_rows < 3)
		recording_sleep_ms(1);
	*(int64_t *)hold.cells[0] = 1;
	atomic_store(&s->ready, 1);
	esk_stream_publish(holder, &hold);
	kill(getpid(), SIGKILL);
}

/* Two that die one after the other, both before anything is recovered by hand. */
static void check_after_death(const char *path, void *arg)
{
	shared *s = arg;
	place p = place_at(path); /* recovers */
	esk_reader *reader = place_reader(&p, "run");
	unsigned count = atomic_load(&s->acknowledged);
	assert_true(count >= 10);
	uint64_t last = 0;
	for (unsigned i = 0; i < count; i++) {
		sample want;
		uint64_t row = s->rows[i].row;
		sample_fill(&want, s->rows[i].id);
		if (row >= rows_of(reader, "s"))
			fail_msg("acknowledged row %llu is not there", (unsigned long long)row);
		int64_t *id = place_read(reader, "s/id", row, 1, 8);
		uint8_t *cell = place_read(reader, "s/cell", row, 1, CELL_BYTES);
		if (*id != want.id)
			fail_msg("row %llu has id %lld where %lld was acknowledged", (unsigned long long)row,
				(long long)*id, (long long)want.id);
		assert_memory_equal(cell, want.cell, CELL_BYTES);
		free(id);
		free(cell);
		last = row;
	}
	assert_int_equal(rows_of(reader, "s"), last + 1);
	check_missing(reader, "s", first_missing, 5);
	esk_reader_close(reader);
	recording_verify(p.store);
	check_gap(&p, "s", "abandoned", first_missing, 5);
	check_reindexed(&p, "s", "abandoned", first_missing, 5);
	/* Recording goes on behind them. */
	esk_run *run;
	place_close(&p);
	esk_stream *stream = open_to_die(&p, path, &run, UINT64_MAX);
	assert_int_equal(append_sample(stream, 7), last + 1);
	place_run_close(run);
	place_close(&p);
}

static void acknowledged_rows_are_at_their_index_after_death(void **state)
{
	ordeal ways[] = {{.live = die_with_a_reservation}, {.live = die_behind_a_commit}};
	static const uint64_t missing[] = {2, 0};
	for (int way = 0; way < 2; way++) {
		ways[way].look = check_after_death;
		ways[way].shared_bytes = sizeof(shared);
		ways[way].most = 1;
		first_missing = missing[way];
		ordeal_run(*state, &ways[way], 1);
	}
}

/* ---- failing commits ---- */

/* After a failure the ring is read again from the last commit, which is behind the reservation. */
static void missing_rows_are_counted_once_when_commits_fail(void **state)
{
	esk_fault *fault;
	place p = ordeal_place_make(*state, &fault);
	esk_run_options options = place_options(1u << 20);
	esk_reservation slot, hold;
	esk_error err = {0};
	esk_run_stats stats = {.struct_size = sizeof stats};
	options.commit_interval_ns = 5000000;
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", COLUMNS), *other = place_stream(run, "t", COLUMNS),
		   *holder = place_stream(run, "h", "x:i64");
	assert_ok(esk_stream_reserve(stream, 6, &slot, &err), &err);
	append_from(other, 0, 3);
	assert_ok(esk_stream_reserve(holder, 1, &hold, &err), &err);
	append_from(stream, 6, 8);
	esk_stream_abandon(stream, &slot);
	while (esk_run_get_stats(run, &stats, &err) == ESK_OK && stats.committed_rows < 3)
		recording_sleep_ms(1);
	esk_fault_set_space(fault, 0);
	*(int64_t *)hold.cells[0] = 1;
	esk_stream_publish(holder, &hold);
	for (int turn = 0; turn < 3; turn++)
		assert_int_equal(esk_run_commit(run, NULL, &err), ESK_ENOSPC);
	esk_fault_set_space(fault, UINT64_MAX);
	append_from(stream, 14, 2);
	assert_ok(esk_run_commit(run, NULL, &err), &err);
	place_run_close(run);
	ordeal_place_end(&p, fault);
	esk_reader *reader = place_reader(&p, "run");
	assert_int_equal(rows_of(reader, "s"), 16);
	check_missing(reader, "s", 0, 6);
	check_present(reader, "s", 6, 10);
	check_present(reader, "t", 0, 3);
	esk_reader_close(reader);
	recording_verify(p.store);
	check_gap(&p, "s", "abandoned", 0, 6);
	check_reindexed(&p, "s", "abandoned", 0, 6);
	place_close(&p);
}

/* ---- damage ---- */

static void append_text(esk_stream *stream, int64_t id, const char *text)
{
	esk_error err = {0};
	esk_string one = {text, strlen(text)}, more[2] = {{"left", 4}, {text, strlen(text)}};
	assert_ok(esk_stream_append(stream, (const void *[]){&id, &one, more}, NULL, &err), &err);
}

/* A record whose strings do not fit it is not applied by half: its row is missing, in every column. */
static void a_damaged_record_leaves_its_rows_missing(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(256u << 10);
	esk_error err = {0};
	esk_reservation hold;
	size_t bytes;
	options.commit_interval_ns = UINT64_MAX;
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", TEXT_COLUMNS), *holder = place_stream(run, "h", "x:i64");
	append_text(stream, 1, "first");
	assert_ok(esk_stream_reserve(holder, 1, &hold, &err), &err); /* the drain stops here */
	append_text(stream, 2, "the-damaged-one");
	append_text(stream, 3, "third");
	unsigned char *ring = ordeal_map_ring(&p, &bytes);
	unsigned char *at = memmem(ring, bytes, "the-damaged-oneleft", 19);
	assert_non_null(at);
	static const uint32_t sizes[2] = {4, 15}; /* of `more` */
	unsigned char *size = memmem(at - 64, 64, sizes, sizeof sizes);
	assert_non_null(size);
	memset(size + 4, 0xFF, 4);
	munmap(ring, bytes);
	*(int64_t *)hold.cells[0] = 1;
	esk_stream_publish(holder, &hold);
	assert_ok(esk_run_commit(run, NULL, &err), &err);
	assert_int_equal(lost_records(run), 1);
	place_run_close(run);
	esk_reader *reader = place_reader(&p, "run");
	int64_t *ids = place_read(reader, "s/id", 0, 3, 8);
	assert_int_equal(ids[0], 1);
	assert_int_equal(ids[1], 0);
	assert_int_equal(ids[2], 3);
	free(ids);
	static const char *const columns[] = {"text", "more"};
	for (int c = 0; c < 2; c++) {
		static const uint64_t rows[] = {0, 1, 2};
		esk_string *strings;
		uint8_t valid[3];
		esk_dataset *dataset = recording_find(reader, "s", columns[c]);
		assert_int_equal(esk_dataset_rows(dataset), 3);
		assert_ok(esk_dataset_read_strings(dataset, rows, 3, &strings, &err), &err);
		assert_int_equal(strings[c == 0 ? 1 : 2].size, 0);
		assert_string_equal(strings[c == 0 ? 2 : 5].data, "third");
		esk_strings_free(strings);
		assert_ok(esk_dataset_read_valid(dataset, rows, 3, valid, &err), &err);
		assert_int_equal(valid[1], c == 0 ? 0 : 1);
	}
	esk_reader_close(reader);
	recording_verify(p.store);
	check_gap(&p, "s", "damaged", 1, 1);
	assert_int_equal(place_query(&p, "SELECT total(records) FROM v_gaps WHERE cause = 'damaged'"), 1);
	place_close(&p);
}

/* A record that claims an index which nothing explains: its rows are kept, and it is told. */
static void an_index_that_nothing_explains_moves_no_row(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(256u << 10);
	esk_error err = {0};
	esk_reservation hold;
	size_t bytes;
	options.commit_interval_ns = UINT64_MAX;
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", "id:u64"), *holder = place_stream(run, "h", "x:i64");
	assert_ok(esk_stream_reserve(holder, 1, &hold, &err), &err);
	for (uint64_t i = 0; i < 9; i++) {
		uint64_t id = 0xE5CE600000000000u + i;
		assert_ok(esk_stream_append(stream, (const void *[]){&id}, NULL, &err), &err);
	}
	unsigned char *ring = ordeal_map_ring(&p, &bytes);
	uint64_t id = 0xE5CE600000000000u + 4, wrong = UINT64_MAX / 3;
	unsigned char *at = memmem(ring, bytes, &id, 8);
	assert_non_null(at);
	memcpy(at - 8, &wrong, 8); /* the head ends with the row */
	munmap(ring, bytes);
	*(int64_t *)hold.cells[0] = 1;
	esk_stream_publish(holder, &hold);
	assert_ok(esk_run_commit(run, NULL, &err), &err);
	place_run_close(run);
	esk_reader *reader = place_reader(&p, "run");
	assert_int_equal(rows_of(reader, "s"), 9);
	uint64_t *ids = place_read(reader, "s/id", 0, 9, 8);
	for (uint64_t i = 0; i < 9; i++)
		assert_int_equal(ids[i], 0xE5CE600000000000u + i);
	free(ids);
	esk_reader_close(reader);
	assert_int_equal(
		place_query(&p, "SELECT count(*) FROM v_gaps WHERE cause = 'damaged' AND rows = 0"), 2);
	place_close(&p);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		ONE(acknowledged_rows_are_at_their_index_after_death),
		ONE(rows_behind_an_abandoned_reservation_keep_their_index),
		ONE(missing_rows_may_span_chunks_and_segments),
		ONE(overwriting_without_loss_keeps_indices_too),
		ONE(rows_behind_a_reservation_that_is_held_at_the_close_are_there),
		ONE(indices_hold_while_another_thread_abandons),
		ONE(missing_rows_are_counted_once_when_commits_fail),
		ONE(a_damaged_record_leaves_its_rows_missing),
		ONE(an_index_that_nothing_explains_moves_no_row),
	};
	return test_run(tests);
}
