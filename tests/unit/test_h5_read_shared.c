/* Reading beside others: threads on one handle, and readers beside a writer, who see one commit. */
#include "unit/h5_read_support.h"

#include <pthread.h>
#include <stdatomic.h>

/* ---- many threads on one handle ---- */

enum { SHARED_ROWS = 600, SHARED_ROW_BYTES = 2000 };

typedef struct {
	esk_h5_dataset *dataset;
	const unsigned char *expected;
	uint64_t random;
	int wrong;
} reader_thread;

static void *read_at_random(void *arg)
{
	reader_thread *self = arg;
	unsigned char *out = malloc(SHARED_ROWS * SHARED_ROW_BYTES);
	for (int i = 0; i < 300; i++) {
		self->random = self->random * UINT64_C(6364136223846793005) + 1;
		uint64_t row = (self->random >> 40) % SHARED_ROWS, count = 1;
		if (i % 10 == 0)
			count = 1 + (self->random >> 20) % (SHARED_ROWS - row);
		if (esk_h5_read_rows(self->dataset, pool, &(esk_h5_rows){row, count, out}, 1, NULL) !=
				ESK_OK ||
			memcmp(out, self->expected + row * SHARED_ROW_BYTES, count * SHARED_ROW_BYTES) != 0)
			self->wrong++;
	}
	free(out);
	return NULL;
}

static void threads_share_a_reader(void **unused)
{
	(void)unused;
	enum { THREADS = 4 };
	const char *path = path_of("shared.h5");
	unsigned char *expected = plain_make(path, SHARED_ROWS, SHARED_ROW_BYTES, 25, 1);
	esk_h5 *file = open_file(path);
	reader_thread readers[THREADS];
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; i++) {
		readers[i] = (reader_thread){open_dataset(file, "x"), expected, seed + (uint64_t)i, 0};
		assert_int_equal(pthread_create(&threads[i], NULL, read_at_random, &readers[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(readers[i].wrong, 0);
	}
	close_file(file);
	free(expected);
}

/* ---- beside a writer ---- */

enum { LIVE_ROW_BYTES = 512, LIVE_CHUNK_ROWS = 8 };

static void live_row(uint64_t row, unsigned char *out)
{
	for (size_t i = 0; i < LIVE_ROW_BYTES; i++)
		out[i] = (unsigned char)(row * 7 + i / 32);
}

/* Sets the number of rows and writes every chunk that rows [from, to) touch. */
static void live_write(esk_h5_dataset *dataset, uint64_t from, uint64_t to)
{
	esk_error err;
	const esk_pipeline *pipeline = &esk_h5_dataset_info(dataset)->pipeline;
	esk_scratch *scratch = esk_scratch_create();
	unsigned char rows[LIVE_CHUNK_ROWS * LIVE_ROW_BYTES];
	unsigned char *packed = malloc(esk_pipeline_bound(pipeline));
	ok(esk_h5_set_rows(dataset, to, &err), &err);
	for (uint64_t chunk = from / LIVE_CHUNK_ROWS; chunk * LIVE_CHUNK_ROWS < to; chunk++) {
		uint64_t first = chunk * LIVE_CHUNK_ROWS, count = esk_min_u64(LIVE_CHUNK_ROWS, to - first);
		for (uint64_t i = 0; i < count; i++)
			live_row(first + i, rows + i * LIVE_ROW_BYTES);
		esk_span span = {rows, count * LIVE_ROW_BYTES};
		size_t size;
		uint32_t mask;
		ok(esk_pipeline_encode(pipeline, scratch, &span, 1, packed, esk_pipeline_bound(pipeline),
			   &size, &mask, &err),
			&err);
		ok(esk_h5_write_chunk(dataset, chunk, mask, packed, size, &err), &err);
	}
	free(packed);
	esk_scratch_destroy(scratch);
}

static void live_commit(esk_h5 *file)
{
	esk_error err;
	ok(esk_h5_commit_begin(file, &err), &err);
	ok(esk_h5_commit_finish(file, NULL, &err), &err);
}

static esk_h5 *live_create(const char *path, const char *codec, esk_h5_dataset **ret_dataset)
{
	esk_error err;
	esk_h5 *file = NULL;
	esk_column column = {.name = "x", .dtype = {ESK_U8, 1}, .rank = 1, .shape = {LIVE_ROW_BYTES}};
	esk_pipeline pipeline;
	ok(esk_pipeline_build(codec, &column, LIVE_CHUNK_ROWS, &pipeline, &err), &err);
	ok(esk_h5_create(esk_os_posix(), path, &file, &err), &err);
	ok(esk_h5_dataset_create(file, "x", &column, LIVE_CHUNK_ROWS, &pipeline, ret_dataset, &err), &err);
	return file;
}

static bool live_row_right(const unsigned char *got, uint64_t row)
{
	unsigned char expected[LIVE_ROW_BYTES];
	live_row(row, expected);
	return memcmp(got, expected, LIVE_ROW_BYTES) == 0;
}

static void a_writer_reads_what_it_has_not_committed_yet(void **unused)
{
	(void)unused;
	esk_h5_dataset *dataset;
	esk_h5 *file = live_create(path_of("own.h5"), "gzip:1", &dataset);
	unsigned char out[3 * LIVE_ROW_BYTES];
	esk_error err;
	for (uint64_t rows = 3; rows < 40; rows += 3) {
		live_write(dataset, rows - 3, rows);
		if (rows % 4 == 0)
			live_commit(file);
		ok(esk_h5_read_rows(dataset, pool, &(esk_h5_rows){rows - 3, 3, out}, 1, &err), &err);
		for (uint64_t i = 0; i < 3; i++)
			assert_true(live_row_right(out + i * LIVE_ROW_BYTES, rows - 3 + i));
	}
	live_commit(file);
	close_file(file);
}

static void a_stale_reader_serves_whole_chunks_and_refuses_the_last(void **unused)
{
	(void)unused;
	const char *codecs[] = {"gzip:1", "none"};
	for (size_t i = 0; i < 2; i++) {
		char path[128];
		snprintf(path, sizeof path, "%s", path_of("stale.h5"));
		esk_h5_dataset *dataset;
		esk_h5 *writer = live_create(path, codecs[i], &dataset);
		unsigned char out[20 * LIVE_ROW_BYTES];
		esk_error err;
		live_write(dataset, 0, 20);
		live_commit(writer);
		esk_h5 *reader = open_file(path);
		esk_h5_dataset *seen = open_dataset(reader, "x");
		ok(esk_h5_read_rows(seen, pool, &(esk_h5_rows){0, 20, out}, 1, &err), &err);
		for (uint64_t row = 0; row < 20; row++)
			assert_true(live_row_right(out + row * LIVE_ROW_BYTES, row));
		live_write(dataset, 20, 30);
		ok(esk_h5_read_rows(seen, pool, &(esk_h5_rows){0, 20, out}, 1, &err), &err);
		live_commit(writer);
		assert_true(esk_h5_is_stale(reader));
		memset(out, 0, sizeof out);
		ok(esk_h5_read_rows(seen, pool, &(esk_h5_rows){0, 16, out}, 1, &err), &err);
		for (uint64_t row = 0; row < 16; row++)
			assert_true(live_row_right(out + row * LIVE_ROW_BYTES, row));
		assert_int_equal(
			esk_h5_read_rows(seen, pool, &(esk_h5_rows){17, 1, out}, 1, &err), ESK_EBUSY);
		assert_int_equal(esk_h5_check_chunk(seen, 2, NULL, NULL, NULL, &err), ESK_EBUSY);
		close_file(reader);
		reader = open_file(path);
		ok(esk_h5_read_rows(open_dataset(reader, "x"), pool, &(esk_h5_rows){14, 16, out}, 1, &err),
			&err);
		for (uint64_t row = 14; row < 30; row++)
			assert_true(live_row_right(out + (row - 14) * LIVE_ROW_BYTES, row));
		close_file(reader);
		close_file(writer);
	}
}

typedef struct {
	char path[128];
	atomic_bool stop;
	atomic_ullong committed;
	uint64_t reads, busy, wrong, short_of;
	esk_error error;
} beside;

/* Opens, reads everything, compares; what was committed before opening must be there. */
static void *read_beside(void *arg)
{
	beside *self = arg;
	unsigned char *out = NULL;
	while (!atomic_load(&self->stop)) {
		uint64_t least = atomic_load(&self->committed);
		esk_h5 *file = NULL;
		esk_h5_dataset *dataset;
		esk_status status = esk_h5_open_read(esk_os_posix(), self->path, &file, &self->error);
		if (status == ESK_OK)
			status = esk_h5_dataset_open(file, "x", &dataset, &self->error);
		uint64_t rows = status == ESK_OK ? esk_h5_dataset_info(dataset)->rows : 0;
		out = realloc(out, rows * LIVE_ROW_BYTES + 1);
		if (status == ESK_OK)
			status = esk_h5_read_rows(
				dataset, pool, &(esk_h5_rows){0, rows, out}, 1, &self->error);
		esk_h5_close(file, NULL);
		self->busy += status == ESK_EBUSY;
		if (status == ESK_EBUSY)
			continue;
		if (status != ESK_OK)
			break;
		self->reads++;
		self->short_of += rows < least;
		for (uint64_t row = 0; row < rows; row++)
			self->wrong += !live_row_right(out + row * LIVE_ROW_BYTES, row);
	}
	free(out);
	return (void *)(uintptr_t)!atomic_load(&self->stop);
}

static void readers_beside_a_committing_writer_see_whole_commits(void **unused)
{
	(void)unused;
	beside shared = {.reads = 0};
	snprintf(shared.path, sizeof shared.path, "%s", path_of("beside.h5"));
	esk_h5_dataset *dataset;
	esk_h5 *writer = live_create(shared.path, "gzip:1", &dataset);
	live_commit(writer);
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, read_beside, &shared), 0);
	uint64_t rows = 0;
	for (int i = 0; i < 400 && rows < 4000; i++) {
		uint64_t more = 1 + draw(15);
		live_write(dataset, rows, rows + more);
		rows += more;
		live_commit(writer);
		atomic_store(&shared.committed, rows);
		if (draw(2))
			usleep((useconds_t)draw(4000));
	}
	atomic_store(&shared.stop, true);
	void *broke;
	pthread_join(thread, &broke);
	if (broke)
		fail_msg("%s", shared.error.message);
	print_message("%llu whole reads, %llu told to come again\n", (unsigned long long)shared.reads,
		(unsigned long long)shared.busy);
	assert_int_equal(shared.wrong, 0);
	assert_int_equal(shared.short_of, 0);
	assert_true(shared.reads > 0);
	close_file(writer);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_share_a_reader),
		cmocka_unit_test(a_writer_reads_what_it_has_not_committed_yet),
		cmocka_unit_test(a_stale_reader_serves_whole_chunks_and_refuses_the_last),
		cmocka_unit_test(readers_beside_a_committing_writer_see_whole_commits),
	};
	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
