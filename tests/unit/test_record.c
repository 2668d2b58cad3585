/* Recording on the real operating system: dtypes, ways to append, several streams and threads, commits,
 * rotation, names, death and fork.
 *
 *     test_record [SEED]  */
#include "unit/recording_place.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

#define SALT 3

/* ---- dtypes ---- */

#define ALL_COLUMNS                                                                                          \
	"a:bool b:i8 c:i16[3] d:i32[2,2] e:i64 f:u8[5] g:u16 h:u32[1] i:u64[7] j:f16[4] k:f32[2,3,4] l:f64 " \
	"m:c64[2] n:c128 o:str12[2] p:u8[4096] q:f64[600]? r:i16[1,2,1,2]@none s:u8[33]@lzf t:f32@zstd:3"

static void fill_cell(const esk_column *column, uint64_t row, uint8_t *out)
{
	uint64_t bytes = esk_column_cell_bytes(column), seed = mix(row * 131 + (uint8_t)column->name[0]);
	for (uint64_t b = 0; b < bytes; b++) {
		uint8_t noise = (uint8_t)(mix(seed + b / 3) >> 11);
		out[b] = column->dtype.kind == ESK_BOOL       ? noise & 1
			 : column->dtype.kind == ESK_STRING_N ? (uint8_t)('a' + noise % 26)
							      : noise;
	}
}

static bool is_missing(const esk_column *column, uint64_t row)
{
	return column->nullable && row % 4 == 1;
}

static void every_dtype_and_shape_comes_back(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(512u << 10);
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "all", ALL_COLUMNS);
	esk_error err = {0};
	size_t n;
	const esk_column *columns = esk_stream_columns(stream, &n);
	const uint64_t steps[] = {1, 1, 7, 1, 40, 3, 1, 64};
	uint64_t total = 0;
	assert_int_equal(n, 20);
	for (size_t s = 0; s < 16; s++) {
		uint64_t rows = steps[s % 8];
		uint8_t *cells[20], *valid[20] = {0};
		for (size_t c = 0; c < n; c++) {
			uint64_t bytes = esk_column_cell_bytes(&columns[c]);
			cells[c] = malloc(rows * bytes);
			valid[c] = malloc(rows);
			for (uint64_t i = 0; i < rows; i++) {
				fill_cell(&columns[c], total + i, cells[c] + i * bytes);
				valid[c][i] = !is_missing(&columns[c], total + i);
				if (!valid[c][i])
					memset(cells[c] + i * bytes, 0, bytes);
			}
		}
		uint64_t row = 99, taken = 0;
		assert_ok(esk_stream_append_rows(stream, rows, (const void *const *)cells,
				  (const uint8_t *const *)valid, &row, &taken, &err),
			&err);
		assert_int_equal(row, total);
		assert_int_equal(taken, rows);
		total += rows;
		for (size_t c = 0; c < n; c++) {
			free(cells[c]);
			free(valid[c]);
		}
	}
	place_run_close(run);
	esk_reader *reader = place_reader(&p, "run");
	for (size_t c = 0; c < 20; c++) {
		char path[16];
		esk_column *all;
		size_t count;
		assert_ok(esk_columns_parse(ALL_COLUMNS, &all, &count, &err), &err);
		uint64_t bytes = esk_column_cell_bytes(&all[c]);
		snprintf(path, sizeof path, "all/%s", all[c].name);
		uint8_t *found = place_read(reader, path, 0, total, bytes), *want = malloc(bytes);
		for (uint64_t i = 0; i < total; i++) {
			memset(want, 0, bytes);
			if (!is_missing(&all[c], i))
				fill_cell(&all[c], i, want);
			if (memcmp(found + i * bytes, want, bytes) != 0)
				fail_msg("column %s, row %llu differs", all[c].name, (unsigned long long)i);
		}
		free(found);
		free(want);
		esk_columns_free(all);
	}
	esk_reader_close(reader);
	recording_verify(p.store);
	place_close(&p);
}

/* ---- ways to append ---- */

static void appends_larger_than_a_record_are_split(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(128u << 10);
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream;
	esk_error err = {0};
	uint64_t row = 99, taken = 0, total = 0;
	assert_ok(recording_stream(run, "/", &stream, &err), &err);
	for (uint64_t count = 1; count < 100; count = count * 3 + 1) {
		assert_ok(recording_append_many(stream, total, count, SALT, &row, &taken, &err), &err);
		assert_int_equal(row, total);
		assert_int_equal(taken, count);
		total += count;
		assert_ok(recording_append(stream, total, SALT, &row, &err), &err);
		assert_int_equal(row, total++);
	}
	place_run_close(run);
	esk_reader *reader = place_reader(&p, "run");
	assert_int_equal(recording_rows(reader, "/"), total);
	recording_check_rows(reader, "/", 0, total, SALT);
	esk_reader_close(reader);
	place_close(&p);
}

static void reserved_rows_are_recorded_and_abandoned_ones_never_were(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(256u << 10);
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", "id:i64 cell:u8[5000]? odd:u8[3]");
	esk_stream *strings = place_stream(run, "t", "x:str");
	esk_error err = {0};
	esk_reservation slot, second;
	uint64_t total = 0;
	assert_int_equal(esk_stream_reserve(strings, 1, &slot, &err), ESK_EUNSUPPORTED);
	assert_int_equal(esk_stream_reserve(stream, 0, &slot, &err), ESK_EINVAL);
	assert_int_equal(esk_stream_reserve(stream, 1000, &slot, &err), ESK_ERANGE);
	for (int turn = 0; turn < 60; turn++) {
		uint64_t rows = 1 + (uint64_t)turn % 4;
		assert_ok(esk_stream_reserve(stream, rows, &slot, &err), &err);
		assert_int_equal(slot.row, total);
		assert_int_equal(slot.rows, rows);
		assert_int_equal(esk_stream_reserve(stream, 1, &second, &err), ESK_EINVAL);
		assert_int_equal((uintptr_t)slot.cells[1] % 8, 0);
		for (uint64_t i = 0; i < rows; i++) {
			((int64_t *)slot.cells[0])[i] = (int64_t)(total + i);
			memset((uint8_t *)slot.cells[1] + i * 5000, (int)(total + i), 5000);
			memset((uint8_t *)slot.cells[2] + i * 3, (int)(total + i) * 3, 3);
			assert_int_equal(slot.valid[1][i], 1);
			slot.valid[1][i] = (total + i) % 3 != 0;
		}
		assert_null(slot.valid[0]);
		if (turn % 5 == 3) {
			esk_stream_abandon(stream, &slot);
		} else {
			esk_stream_publish(stream, &slot);
			total += rows;
		}
		esk_stream_publish(stream, &slot); /* once more: nothing happens */
		esk_stream_abandon(stream, &slot);
	}
	place_run_close(run);
	esk_reader *reader = place_reader(&p, "run");
	int64_t *ids = place_read(reader, "s/id", 0, total, 8);
	uint8_t *odd = place_read(reader, "s/odd", 0, total, 3);
	uint8_t valid[400];
	uint64_t rows[400];
	for (uint64_t i = 0; i < total; i++)
		rows[i] = i;
	esk_dataset *cell = recording_find(reader, "s", "cell");
	assert_int_equal(esk_dataset_rows(cell), total);
	assert_ok(esk_dataset_read_valid(cell, rows, total, valid, &err), &err);
	for (uint64_t i = 0; i < total; i++) {
		assert_int_equal(ids[i], i);
		assert_int_equal(odd[3 * i + 2], (uint8_t)(i * 3));
		assert_int_equal(valid[i], i % 3 != 0);
	}
	free(ids);
	free(odd);
	esk_reader_close(reader);
	place_close(&p);
}

static void bad_appends_are_refused_and_change_nothing(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(128u << 10);
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", "id:i64 note:str?");
	esk_stream *large = place_stream(run, "large", "x:u8[40000]");
	esk_error err = {0};
	esk_watermark mark;
	int64_t id = 0;
	char nul[] = "a\0b";
	esk_string bad = {nul, 3}, good = {"x", 1}, lost = {NULL, 4};
	uint8_t *bytes = calloc(1, 40000);
	assert_int_equal(esk_stream_append(stream, (const void *[]){NULL, &good}, NULL, &err), ESK_EINVAL);
	assert_non_null(strstr(err.message, "\"id\""));
	assert_int_equal(esk_stream_append(stream, (const void *[]){&id, &bad}, NULL, &err), ESK_EINVAL);
	assert_non_null(strstr(err.message, "\"note\""));
	assert_int_equal(esk_stream_append(stream, (const void *[]){&id, &lost}, NULL, &err), ESK_EINVAL);
	assert_int_equal(esk_stream_append(large, (const void *[]){bytes}, NULL, &err), ESK_ERANGE);
	assert_non_null(strstr(err.message, "ring_bytes"));
	assert_ok(esk_stream_append(stream, (const void *[]){&id, &good}, NULL, &err), &err);
	assert_ok(esk_stream_commit(stream, &mark, &err), &err);
	assert_int_equal(mark.rows, 1);
	free(bytes);
	place_run_close(run);
	place_close(&p);
}

/* ---- several streams, several threads ---- */

#define THREADS 4

typedef struct worker {
	pthread_t thread;
	esk_run *run;
	esk_stream *stream;
	uint64_t number;
	uint64_t count;
	uint64_t *rows; /* index that each append was given */
} worker;

static void worker_row(uint64_t number, uint64_t i, uint64_t out[3], uint8_t cell[4100])
{
	out[0] = number;
	out[1] = i;
	out[2] = mix(number * 1000003 + i);
	memset(cell, (int)(out[2] & 0xFF), 4100);
}

static void *append_from_thread(void *arg)
{
	worker *w = arg;
	esk_error err = {0};
	uint64_t id[3];
	uint8_t cell[4100];
	for (uint64_t i = 0; i < w->count; i++) {
		worker_row(w->number, i, id, cell);
		if (esk_stream_append(w->stream, (const void *[]){id, cell}, &w->rows[i], &err) != ESK_OK)
			return strdup(err.message);
		if (i % 97 == 96 && esk_stream_commit(w->stream, NULL, &err) != ESK_OK)
			return strdup(err.message);
	}
	return NULL;
}

static void threads_append_to_streams_at_once(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(512u << 10);
	options.commit_interval_ns = 3000000;
	options.segment_bytes = 40u << 10;
	esk_run *run = place_run(&p, "run", &options);
	worker workers[2 * THREADS] = {0};
	esk_stream *streams[2] = {place_stream(run, "one", "id:u64[3] cell:u8[4100]"),
		place_stream(run, "two", "id:u64[3] cell:u8[4100]")};
	uint64_t count = test_scale(400);
	for (uint64_t t = 0; t < 2 * THREADS; t++) {
		workers[t] =
			(worker){.run = run, .stream = streams[t / THREADS], .number = t, .count = count};
		workers[t].rows = calloc(count, sizeof(uint64_t));
		assert_int_equal(
			pthread_create(&workers[t].thread, NULL, append_from_thread, &workers[t]), 0);
	}
	for (int t = 0; t < 2 * THREADS; t++) {
		void *why = NULL;
		pthread_join(workers[t].thread, &why);
		if (why != NULL)
			fail_msg("%s", (char *)why);
	}
	place_run_close(run);
	assert_true(count < 400 || place_files(&p) > 1);
	esk_reader *reader = place_reader(&p, "run");
	for (uint64_t t = 0; t < 2 * THREADS; t++) {
		const char *name = t < THREADS ? "one" : "two";
		char path[16];
		snprintf(path, sizeof path, "%s/id", name);
		uint64_t *ids = place_read(reader, path, 0, THREADS * count, 24), want[3];
		uint8_t cell[4100], found[4100];
		esk_dataset *cells = recording_find(reader, name, "cell");
		esk_error err = {0};
		assert_int_equal(esk_dataset_rows(cells), THREADS * count);
		for (uint64_t i = 0; i < count; i++) {
			uint64_t row = workers[t].rows[i];
			worker_row(t, i, want, cell);
			assert_true(i == 0 || row > workers[t].rows[i - 1]);
			assert_memory_equal(ids + 3 * row, want, 24);
			if (i % 16 == 0) {
				assert_ok(esk_dataset_read_rows(cells, &row, 1, found, 4100, &err), &err);
				assert_memory_equal(found, cell, 4100);
			}
		}
		free(ids);
		free(workers[t].rows);
	}
	esk_reader_close(reader);
	recording_verify(p.store);
	place_close(&p);
}

static void *open_same_stream(void *arg)
{
	worker *w = arg;
	esk_error err = {0};
	esk_column *columns;
	size_t count;
	esk_columns_parse("x:i32 y:f64[2]", &columns, &count, NULL);
	esk_status status = esk_run_stream(w->run, "same", columns, count, &w->stream, &err);
	esk_columns_free(columns);
	return status == ESK_OK ? NULL : strdup(err.message);
}

static void threads_that_open_one_stream_get_one(void **state)
{
	place p = place_make(*state);
	for (int turn = 0; turn < 5; turn++) {
		char name[16];
		worker workers[THREADS] = {0};
		esk_run_options options = place_options(128u << 10);
		snprintf(name, sizeof name, "run%d", turn);
		esk_run *run = place_run(&p, name, &options);
		for (int t = 0; t < THREADS; t++) {
			workers[t].run = run;
			pthread_create(&workers[t].thread, NULL, open_same_stream, &workers[t]);
		}
		for (int t = 0; t < THREADS; t++) {
			void *why = NULL;
			pthread_join(workers[t].thread, &why);
			if (why != NULL)
				fail_msg("%s", (char *)why);
		}
		for (int t = 1; t < THREADS; t++)
			assert_ptr_equal(workers[t].stream, workers[0].stream);
		place_run_close(run);
	}
	place_close(&p);
}

/* ---- commits ---- */

typedef struct waiter {
	pthread_t thread;
	esk_stream *stream;
	esk_status status;
	esk_watermark mark;
	esk_error err;
	atomic_bool done;
} waiter;

static void *commit_from_thread(void *arg)
{
	waiter *w = arg;
	w->status = esk_stream_commit(w->stream, &w->mark, &w->err);
	atomic_store(&w->done, true);
	return NULL;
}

/* An acknowledged row that lies behind another producer's unpublished record is not in the file yet. */
static void a_commit_waits_for_rows_behind_a_reservation(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(128u << 10);
	options.commit_interval_ns = UINT64_MAX;
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *slow = place_stream(run, "slow", "x:i64"), *fast = place_stream(run, "fast", "x:i64");
	esk_error err = {0};
	esk_reservation slot;
	int64_t value = 7;
	waiter w = {.stream = fast};
	assert_ok(esk_stream_reserve(slow, 1, &slot, &err), &err);
	assert_ok(esk_stream_append(fast, (const void *[]){&value}, NULL, &err), &err);
	pthread_create(&w.thread, NULL, commit_from_thread, &w);
	recording_sleep_ms(60);
	assert_false(atomic_load(&w.done));
	*(int64_t *)slot.cells[0] = 8;
	esk_stream_publish(slow, &slot);
	pthread_join(w.thread, NULL);
	assert_ok(w.status, &w.err);
	assert_int_equal(w.mark.rows, 1);
	esk_reader *reader = place_reader(&p, "run");
	assert_int_equal(esk_dataset_rows(recording_find(reader, "fast", "x")), 1);
	esk_reader_close(reader);
	place_run_close(run);
	place_close(&p);
}

static void a_commit_behind_a_forgotten_reservation_says_so(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(128u << 10);
	options.commit_interval_ns = UINT64_MAX;
	options.block_timeout_ns = 50000000;
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", "x:i64");
	esk_error err = {0};
	esk_reservation slot;
	esk_watermark mark;
	assert_ok(esk_stream_reserve(stream, 1, &slot, &err), &err);
	assert_int_equal(esk_stream_commit(stream, &mark, &err), ESK_ETIMEDOUT);
	assert_non_null(strstr(err.message, "published"));
	*(int64_t *)slot.cells[0] = 1;
	esk_stream_publish(stream, &slot);
	assert_ok(esk_stream_commit(stream, &mark, &err), &err);
	assert_int_equal(mark.rows, 1);
	place_run_close(run);
	place_close(&p);
}

static uint64_t committed_rows(esk_run *run)
{
	esk_run_stats stats = {.struct_size = sizeof stats};
	esk_error err = {0};
	assert_ok(esk_run_get_stats(run, &stats, &err), &err);
	return stats.committed_rows;
}

static void rows_are_committed_by_themselves_within_the_interval(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(128u << 10);
	options.commit_interval_ns = 20000000;
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", "x:i64");
	esk_error err = {0};
	for (int64_t i = 0; i < 5; i++) {
		assert_ok(esk_stream_append(stream, (const void *[]){&i}, NULL, &err), &err);
		for (int wait = 0; wait < 300 && committed_rows(run) != (uint64_t)i + 1; wait++)
			recording_sleep_ms(10);
		assert_int_equal(committed_rows(run), i + 1);
	}
	place_run_close(run);
	place_close(&p);
}

static void commits_at_once_coalesce(void **state)
{
	enum { MANY = 16 };
	place p = place_make(*state);
	esk_run_options options = place_options(128u << 10);
	options.commit_interval_ns = UINT64_MAX;
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", "x:i64");
	esk_error err = {0};
	esk_watermark first, last;
	waiter waiters[MANY] = {0};
	assert_ok(esk_run_commit(run, &first, &err), &err);
	assert_ok(esk_run_commit(run, &last, &err), &err);
	assert_int_equal(first.commit, last.commit); /* nothing to commit */
	for (int64_t i = 0; i < MANY; i++) {
		assert_ok(esk_stream_append(stream, (const void *[]){&i}, NULL, &err), &err);
		waiters[i].stream = stream;
		pthread_create(&waiters[i].thread, NULL, commit_from_thread, &waiters[i]);
	}
	for (uint64_t i = 0; i < MANY; i++) {
		pthread_join(waiters[i].thread, NULL);
		assert_ok(waiters[i].status, &waiters[i].err);
		assert_true(waiters[i].mark.rows >= i + 1);
		assert_true(waiters[i].mark.time_ns > 0);
	}
	assert_ok(esk_run_commit(run, &last, &err), &err);
	assert_int_equal(last.rows, MANY);
	assert_true(last.commit - first.commit <= MANY);
	place_run_close(run);
	place_close(&p);
}

static void a_thousand_columns_stay_within_bounds(void **state)
{
	place p = place_make(*state);
	esk_text spec = {0};
	esk_error err = {0};
	enum { COLUMNS = 1000, ROWS = 300 };
	for (int c = 0; c < COLUMNS; c++)
		esk_text_add(&spec, "c%d:f64 ", c);
	FILE *statm = fopen("/proc/self/statm", "r");
	unsigned long before = 0, after = 0;
	assert_int_equal(fscanf(statm, "%*u %lu", &before), 1);
	esk_run_options options = place_options(1u << 20);
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", spec.data);
	double *row = malloc(COLUMNS * sizeof *row);
	const void **cells = malloc(COLUMNS * sizeof *cells);
	for (int r = 0; r < ROWS; r++) {
		for (int c = 0; c < COLUMNS; c++) {
			row[c] = r * 1e3 + c;
			cells[c] = &row[c];
		}
		assert_ok(esk_stream_append(stream, cells, NULL, &err), &err);
	}
	assert_ok(esk_run_commit(run, NULL, &err), &err);
	statm = freopen("/proc/self/statm", "r", statm);
	assert_int_equal(fscanf(statm, "%*u %lu", &after), 1);
	fclose(statm);
	if (!SANITIZED && (after - before) * 4096 > (97u << 20))
		fail_msg("1,000 columns take %lu MiB", (after - before) * 4096 >> 20);
	place_run_close(run);
	esk_reader *reader = place_reader(&p, "run");
	for (int c = 0; c < COLUMNS; c += 333) {
		char path[16];
		snprintf(path, sizeof path, "s/c%d", c);
		double *found = place_read(reader, path, 0, ROWS, 8);
		for (int r = 0; r < ROWS; r++)
			assert_true(found[r] == r * 1e3 + c);
		free(found);
	}
	esk_reader_close(reader);
	free(row);
	free(cells);
	esk_text_free(&spec);
	place_close(&p);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		ONE(every_dtype_and_shape_comes_back),
		ONE(appends_larger_than_a_record_are_split),
		ONE(reserved_rows_are_recorded_and_abandoned_ones_never_were),
		ONE(bad_appends_are_refused_and_change_nothing),
		ONE(threads_append_to_streams_at_once),
		ONE(threads_that_open_one_stream_get_one),
		ONE(a_commit_waits_for_rows_behind_a_reservation),
		ONE(a_commit_behind_a_forgotten_reservation_says_so),
		ONE(rows_are_committed_by_themselves_within_the_interval),
		ONE(commits_at_once_coalesce),
		ONE(a_thousand_columns_stay_within_bounds),
	};
	return test_run(tests);
}
