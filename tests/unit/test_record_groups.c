/* Appends to several streams as one: the rows of a record's parts are in the file together, at the index that
 * was promised, or missing together; whatever dies, fails, is overwritten or damaged.
 *
 *     test_record_groups [SEED]  */
#include "support/ordeal.h"

#include "ring/ring.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Small and large cells, validity, texts; `b` has two rows where `a` has one. */
#define A_COLUMNS "id:i64 cell:u8[5000] note:str?"
#define B_COLUMNS "id:i64 half:f32[3]?"
#define CELL_BYTES 5000

typedef struct pair {
	esk_stream *a, *b;
} pair;

static pair open_pair(esk_run *run)
{
	return (pair){.a = place_stream(run, "a", A_COLUMNS), .b = place_stream(run, "b", B_COLUMNS)};
}

/* One row of `a` and two of `b`, all of number `id`. */
static esk_status append_pair(
	esk_run *run, const pair *p, int64_t id, bool b_first, uint64_t ret_rows[2], esk_error *err)
{
	uint8_t cell[CELL_BYTES];
	char text[32];
	int64_t ids[2] = {id, id};
	float halves[6] = {(float)id, 1, 2, (float)id, 1, 2};
	static const uint8_t half_valid[2] = {1, 0};
	memset(cell, (int)(mix((uint64_t)id) & 0xFF) | 1, sizeof cell);
	esk_string note = {text, (size_t)snprintf(text, sizeof text, "n%lld", (long long)id)};
	const void *a_cells[] = {&id, cell, id % 3 == 0 ? NULL : &note}, *b_cells[] = {ids, halves};
	const uint8_t *b_valid[] = {NULL, half_valid};
	esk_rows_part parts[2] = {{.stream = p->a, .rows = 1, .cells = a_cells},
		{.stream = p->b, .rows = 2, .cells = b_cells, .valid = b_valid}};
	if (b_first) {
		esk_rows_part first = parts[0];
		parts[0] = parts[1];
		parts[1] = first;
	}
	esk_status status = esk_run_append(run, parts, 2, err);
	if (status == ESK_OK && ret_rows != NULL) {
		ret_rows[0] = parts[b_first].row;
		ret_rows[1] = parts[!b_first].row;
	}
	return status;
}

static void append_pairs(esk_run *run, const pair *p, int64_t first, int64_t count)
{
	esk_error err = {0};
	for (int64_t i = first; i < first + count; i++) {
		uint64_t rows[2];
		assert_ok(append_pair(run, p, i, i % 2, rows, &err), &err);
		assert_int_equal(rows[0], i);
		assert_int_equal(rows[1], 2 * i);
	}
}

/* Row i of `a` goes with rows 2 i and 2 i + 1 of `b`; returns the ids of `a`, which are to be freed. */
static int64_t *check_pairs(esk_reader *reader, uint64_t *ret_rows)
{
	esk_error err = {0};
	uint64_t rows = esk_dataset_rows(recording_find(reader, "a", "id"));
	if (esk_dataset_rows(recording_find(reader, "b", "id")) != 2 * rows)
		fail_msg("%llu rows of b to %llu of a",
			(unsigned long long)esk_dataset_rows(recording_find(reader, "b", "id")),
			(unsigned long long)rows);
	int64_t *ids = place_read(reader, "a/id", 0, rows, 8),
		*others = place_read(reader, "b/id", 0, 2 * rows, 8);
	uint8_t *cells = place_read(reader, "a/cell", 0, rows, CELL_BYTES), want[CELL_BYTES];
	float *halves = place_read(reader, "b/half", 0, 2 * rows, 12);
	for (uint64_t i = 0; i < rows; i++) {
		uint64_t row = i, halves_at[2] = {2 * i, 2 * i + 1};
		uint8_t valid[2];
		esk_string *notes;
		char text[32];
		if (others[2 * i] != ids[i] || others[2 * i + 1] != ids[i])
			fail_msg("row %llu: %lld in a, %lld and %lld in b", (unsigned long long)i,
				(long long)ids[i], (long long)others[2 * i], (long long)others[2 * i + 1]);
		bool missing = ids[i] == 0 && cells[i * CELL_BYTES] == 0;
		memset(want, missing ? 0 : (int)(mix((uint64_t)ids[i]) & 0xFF) | 1, sizeof want);
		assert_memory_equal(cells + i * CELL_BYTES, want, sizeof want);
		assert_true(missing || halves[6 * i] == (float)ids[i]);
		assert_ok(
			esk_dataset_read_strings(recording_find(reader, "a", "note"), &row, 1, &notes, &err),
			&err);
		snprintf(text, sizeof text, "n%lld", (long long)ids[i]);
		assert_string_equal(notes->data, ids[i] % 3 == 0 ? "" : text);
		esk_strings_free(notes);
		assert_ok(esk_dataset_read_valid(
				  recording_find(reader, "b", "half"), halves_at, 2, valid, &err),
			&err);
		assert_int_equal(valid[0], !missing);
		assert_int_equal(valid[1], 0);
	}
	free(others);
	free(cells);
	free(halves);
	*ret_rows = rows;
	return ids;
}

/* Rows [0, count) have the number of their index. */
static void check_numbered(place *p, const char *run, uint64_t count)
{
	esk_reader *reader = place_reader(p, run);
	uint64_t rows;
	int64_t *ids = check_pairs(reader, &rows);
	assert_int_equal(rows, count);
	for (uint64_t i = 0; i < rows; i++)
		assert_int_equal(ids[i], i);
	free(ids);
	esk_reader_close(reader);
	recording_verify(p->store);
}

/* ---- what is taken, what is refused ---- */

static void parts_are_in_the_file_together(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(1u << 20);
	esk_error err = {0};
	esk_watermark mark;
	options.segment_bytes = 32u << 10;
	esk_run *run = place_run(&p, "run", &options);
	pair s = open_pair(run);
	append_pairs(run, &s, 0, 40);
	assert_ok(esk_stream_commit(s.b, &mark, &err), &err);
	assert_int_equal(mark.rows, 80);
	append_pairs(run, &s, 40, 40);
	assert_int_equal(esk_stream_rows(s.a), 80);
	assert_int_equal(esk_stream_rows(s.b), 160);
	esk_rows_part parts[2] = {{.stream = s.b}, {.stream = s.a}};
	int64_t id = 80;
	uint8_t cell[CELL_BYTES];
	memset(cell, (int)(mix(80) & 0xFF) | 1, sizeof cell);
	const void *cells[] = {&id, cell, &(esk_string){"n80", 3}};
	parts[1].rows = 1; /* and none of b: it is only told where the next would be */
	parts[1].cells = cells;
	assert_ok(esk_run_append(run, parts, 2, &err), &err);
	assert_int_equal(parts[0].row, 160);
	assert_int_equal(parts[1].row, 80);
	int64_t ids[2] = {80, 80};
	float halves[6] = {80};
	assert_ok(esk_stream_append_rows(s.b, 2, (const void *[]){ids, halves},
			  (const uint8_t *[]){NULL, (const uint8_t[]){1, 0}}, NULL, NULL, &err),
		&err);
	place_run_close(run);
	assert_true(place_files(&p) > 1);
	check_numbered(&p, "run", 81);
	options.append = true;
	run = place_run(&p, "run", &options);
	s = open_pair(run);
	append_pairs(run, &s, 81, 3);
	place_run_close(run);
	check_numbered(&p, "run", 84);
	place_close(&p);
}

static void what_cannot_be_one_record_is_refused_whole(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(128u << 10);
	esk_error err = {0};
	esk_run *run = place_run(&p, "run", &options), *other = place_run(&p, "other", &options);
	pair s = open_pair(run);
	esk_stream *foreign = place_stream(other, "a", A_COLUMNS);
	int64_t id = 0;
	uint8_t *cells = calloc(8, CELL_BYTES);
	esk_string text = {"with\0NUL", 8}, good = {"", 0};
	esk_string texts[8] = {good, good, good, good, good, good, good, good};
	int64_t ids[8] = {0};
	esk_rows_part parts[2] = {{.stream = s.a, .rows = 1, .cells = (const void *[]){&id, cells, NULL}},
		{.stream = s.a, .rows = 1, .cells = (const void *[]){&id, cells, NULL}}};
	assert_int_equal(esk_run_append(run, parts, 0, &err), ESK_EINVAL);
	assert_int_equal(esk_run_append(run, parts, 2, &err), ESK_EINVAL);
	assert_non_null(strstr(err.message, "two parts"));
	parts[1].stream = foreign;
	assert_int_equal(esk_run_append(run, parts, 2, &err), ESK_EINVAL);
	parts[1] = (esk_rows_part){.stream = s.b, .rows = 1, .cells = (const void *[]){NULL, NULL}};
	assert_int_equal(esk_run_append(run, parts, 2, &err), ESK_EINVAL);
	assert_non_null(strstr(err.message, "not nullable"));
	assert_int_equal(esk_run_append(run, (esk_rows_part[]){{.stream = s.a}, {.stream = s.b}}, 2, &err),
		ESK_EINVAL);
	parts[1].cells = (const void *[]){&id, NULL};
	parts[0].cells = (const void *[]){&id, cells, &text};
	assert_int_equal(esk_run_append(run, parts, 2, &err), ESK_EINVAL);
	assert_int_equal(esk_run_append_bytes(parts, 2), UINT64_MAX);
	parts[0] = (esk_rows_part){.stream = s.a, .rows = 8, .cells = (const void *[]){ids, cells, texts}};
	assert_true(esk_run_append_bytes(parts, 2) > esk_run_max_record_bytes(run));
	assert_int_equal(esk_run_append(run, parts, 2, &err), ESK_ERANGE);
	assert_non_null(strstr(err.message, "ring_bytes"));
	parts[0].rows = 6;
	assert_true(esk_run_append_bytes(parts, 2) <= esk_run_max_record_bytes(run));
	assert_int_equal(esk_stream_rows(s.a), 0);
	assert_int_equal(esk_stream_rows(s.b), 0);
	assert_ok(esk_run_append(run, parts, 2, &err), &err);
	assert_int_equal(esk_stream_rows(s.a), 6);
	free(cells);
	place_run_close(run);
	place_run_close(other);
	place_close(&p);
}

/* More columns and parts than fit the stack's arrays. */
static void wide_and_many_parts_are_one_append(void **state)
{
	enum { STREAMS = 40, COLUMNS = 70, ROUNDS = 5 };
	place p = place_make(*state);
	esk_run_options options = place_options(2u << 20);
	esk_error err = {0};
	esk_text spec = {0};
	esk_rows_part parts[STREAMS];
	int64_t values[COLUMNS];
	const void *cells[COLUMNS];
	for (int c = 0; c < COLUMNS; c++) {
		esk_text_add(&spec, "c%d:i64 ", c);
		cells[c] = &values[c];
	}
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *streams[STREAMS];
	for (int s = 0; s < STREAMS; s++) {
		char name[16];
		snprintf(name, sizeof name, "s%d", s);
		streams[s] = place_stream(run, name, spec.data);
	}
	for (int round = 0; round < ROUNDS; round++) {
		for (int c = 0; c < COLUMNS; c++)
			values[c] = 1000 * round + c;
		for (int s = 0; s < STREAMS; s++) /* in any order */
			parts[s] = (esk_rows_part){
				.stream = streams[(s * 7 + round) % STREAMS], .rows = 1, .cells = cells};
		assert_ok(esk_run_append(run, parts, STREAMS, &err), &err);
	}
	place_run_close(run);
	esk_reader *reader = place_reader(&p, "run");
	for (int s = 0; s < STREAMS; s += 13) {
		char path[32];
		snprintf(path, sizeof path, "s%d/c69", s);
		int64_t *found = place_read(reader, path, 0, ROUNDS, 8);
		for (int round = 0; round < ROUNDS; round++)
			assert_int_equal(found[round], 1000 * round + 69);
		free(found);
	}
	esk_reader_close(reader);
	esk_text_free(&spec);
	place_close(&p);
}

/* ---- several threads ---- */

#define THREADS 4

typedef struct worker {
	pthread_t thread;
	esk_run *run;
	const pair *streams;
	int number;
	int64_t count;
	uint64_t (*rows)[2];
	char why[300];
} worker;

static void *append_from_thread(void *arg)
{
	worker *w = arg;
	esk_error err = {0};
	for (int64_t i = 0; i < w->count; i++)
		if (append_pair(w->run, w->streams, w->number * 100000 + i, (i + w->number) % 2, w->rows[i],
			    &err) != ESK_OK) {
			snprintf(w->why, sizeof w->why, "%.250s", err.message);
			break;
		}
	return NULL;
}

static void threads_that_name_streams_in_other_orders_get_pairs_of_rows(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(1u << 20);
	options.commit_interval_ns = 5000000;
	esk_run *run = place_run(&p, "run", &options);
	pair s = open_pair(run);
	worker workers[THREADS];
	int64_t count = (int64_t)test_scale(300);
	for (int w = 0; w < THREADS; w++) {
		workers[w] = (worker){.run = run, .streams = &s, .number = w + 1, .count = count};
		workers[w].rows = calloc((size_t)count, sizeof *workers[w].rows);
		pthread_create(&workers[w].thread, NULL, append_from_thread, &workers[w]);
	}
	for (int w = 0; w < THREADS; w++) {
		pthread_join(workers[w].thread, NULL);
		if (workers[w].why[0] != '\0')
			fail_msg("%s", workers[w].why);
	}
	place_run_close(run);
	esk_reader *reader = place_reader(&p, "run");
	uint64_t rows;
	int64_t *ids = check_pairs(reader, &rows);
	assert_int_equal(rows, THREADS * count);
	for (int w = 0; w < THREADS; w++) {
		for (int64_t i = 0; i < count; i++) {
			assert_int_equal(ids[workers[w].rows[i][0]], (w + 1) * 100000 + i);
			assert_int_equal(workers[w].rows[i][1], 2 * workers[w].rows[i][0]);
		}
		free(workers[w].rows);
	}
	free(ids);
	esk_reader_close(reader);
	place_close(&p);
}

/* ---- lost and damaged ---- */

static void what_is_overwritten_is_overwritten_in_all_streams(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(64u << 10);
	esk_error err = {0};
	int64_t total = (int64_t)test_scale(3000);
	options.policy = ESK_OVERWRITE;
	options.commit_interval_ns = 10000000;
	esk_run *run = place_run(&p, "run", &options);
	pair s = open_pair(run);
	for (int64_t i = 1; i <= total; i++)
		assert_ok(append_pair(run, &s, i, i % 2, NULL, &err), &err);
	assert_ok(esk_run_commit(run, NULL, &err), &err);
	esk_run_stats stats = {.struct_size = sizeof stats};
	assert_ok(esk_run_get_stats(run, &stats, &err), &err);
	place_run_close(run);
	esk_reader *reader = place_reader(&p, "run");
	uint64_t rows;
	int64_t *ids = check_pairs(reader, &rows);
	for (uint64_t i = 1; i < rows; i++)
		assert_true(ids[i] > ids[i - 1]);
	free(ids);
	esk_reader_close(reader);
	if (rows + stats.lost_records != (uint64_t)total)
		fail_msg("%llu rows and %llu lost records of %lld", (unsigned long long)rows,
			(unsigned long long)stats.lost_records, (long long)total);
	assert_true(stats.lost_records > 0);
	place_close(&p);
}

/* Damage in the second part: nothing of the first is taken either, and rows behind keep their index. */
static void a_damaged_part_leaves_the_rows_of_all_parts_missing(void **state)
{
	static const uint32_t damage[] = {0xFFFFFFFFu, 0, 999, 0x7FFFFFFFu};
	for (size_t d = 0; d < sizeof damage / sizeof *damage; d++) {
		test_dir *dir;
		void *inner = NULL;
		assert_int_equal(test_dir_make(&inner), 0);
		dir = inner;
		place p = place_make(dir);
		esk_run_options options = place_options(256u << 10);
		esk_error err = {0};
		esk_reservation hold;
		size_t bytes;
		options.commit_interval_ns = UINT64_MAX;
		esk_run *run = place_run(&p, "run", &options);
		esk_stream *b = place_stream(run, "b", "id:i64 note:str?"),
			   *a = place_stream(run, "a", "id:i64"), *holder = place_stream(run, "h", "x:i64");
		assert_ok(esk_stream_reserve(holder, 1, &hold, &err), &err); /* the drain stops here */
		for (int64_t i = 0; i < 3; i++) {
			char text[32];
			esk_string note = {
				text, (size_t)snprintf(text, sizeof text, "the-note-%lld", (long long)i)};
			esk_rows_part parts[2] = {{.stream = a, .rows = 1, .cells = (const void *[]){&i}},
				{.stream = b, .rows = 1, .cells = (const void *[]){&i, &note}}};
			assert_ok(esk_run_append(run, parts, 2, &err), &err);
			assert_int_equal(parts[0].row, i);
		}
		unsigned char *ring = ordeal_map_ring(&p, &bytes);
		unsigned char *at = memmem(ring, bytes, "the-note-1", 10);
		assert_non_null(at);
		/* size of the text; rows; size of the part; its stream */
		static const int field[] = {16, 40, 48, 56};
		memcpy(at - field[d], &damage[d], sizeof damage[d]);
		munmap(ring, bytes);
		*(int64_t *)hold.cells[0] = 1;
		esk_stream_publish(holder, &hold);
		assert_ok(esk_run_commit(run, NULL, &err), &err);
		place_run_close(run);
		esk_reader *reader = place_reader(&p, "run");
		int64_t *ids[2] = {place_read(reader, "a/id", 0, 3, 8), place_read(reader, "b/id", 0, 3, 8)};
		for (int s = 0; s < 2; s++) {
			assert_int_equal(ids[s][0], 0);
			assert_int_equal(ids[s][1], 0); /* missing */
			assert_int_equal(ids[s][2], 2);
			free(ids[s]);
		}
		assert_int_equal(esk_dataset_rows(recording_find(reader, "a", "id")), 3);
		esk_reader_close(reader);
		recording_verify(p.store);
		assert_int_equal(
			place_query(&p, "SELECT count(*) FROM v_gaps WHERE cause = 'damaged' AND row = 1 AND "
					"rows = 1 AND stream IN ('a', 'b')"),
			2);
		assert_int_equal(
			place_query(&p, "SELECT total(records) FROM v_gaps WHERE cause = 'damaged'"), 1);
		place_close(&p);
		test_dir_remove(&inner);
	}
}

/* After a failure the ring is read again from the last commit: each record's rows land once. */
static void groups_land_once_when_commits_fail(void **state)
{
	esk_fault *fault;
	place p = ordeal_place_make(*state, &fault);
	esk_run_options options = place_options(1u << 20);
	esk_run *run = place_run(&p, "run", &options);
	pair s = open_pair(run);
	int64_t next = 0;
	for (int round = 0; round < 12; round++) {
		append_pairs(run, &s, next, 5);
		next += 5;
		ordeal_commit_without_room(run, fault, 3000 * (uint64_t)(round % 4));
		append_pairs(run, &s, next, 3);
		next += 3;
		ordeal_commit_with_room(run, fault);
	}
	place_run_close(run);
	ordeal_place_end(&p, fault);
	check_numbered(&p, "run", (uint64_t)next);
	place_close(&p);
}

/* ---- death ---- */

static void die_while_appending(const char *path, void *shared)
{
	_Atomic int64_t *acknowledged = shared;
	place p = place_at(path);
	esk_error err = {0};
	esk_run_options options = place_options(1u << 20);
	options.append = true;
	options.commit_interval_ns = 3000000;
	esk_run *run = place_run(&p, "run", &options);
	pair both = open_pair(run);
	for (int64_t i = (int64_t)esk_stream_rows(both.a);; i++) {
		uint64_t rows[2];
		if (append_pair(run, &both, i, i % 2, rows, &err) != ESK_OK || rows[0] != (uint64_t)i)
			_exit(1);
		atomic_store(acknowledged, i + 1);
	}
}

static void check_after_death(const char *path, void *shared)
{
	place p = place_at(path);
	esk_reader *reader = place_reader(&p, "run");
	uint64_t rows;
	int64_t *ids = check_pairs(reader, &rows);
	ordeal_found(shared, (int64_t)rows);
	for (uint64_t i = 0; i < rows; i++)
		assert_int_equal(ids[i], i);
	free(ids);
	esk_reader_close(reader);
	recording_verify(p.store);
	place_close(&p);
}

static void acknowledged_parts_are_there_together_after_death(void **state)
{
	ordeal o = {.live = die_while_appending,
		.look = check_after_death,
		.most = 1,
		.most_ms = 20,
		.dies_young = true};
	ordeal_run(*state, &o, test_scale(10));
}

/* A later Esker wrote it: the ring stays until one that knows the kind opens the store. */
static void die_behind_a_record_from_the_future(const char *path, void *shared)
{
	_Atomic int64_t *acknowledged = shared;
	place p = place_at(path);
	char link[200];
	esk_error err = {0};
	esk_ring *ring;
	esk_ring_slot slot;
	esk_run_options options = place_options(256u << 10);
	options.commit_interval_ns = UINT64_MAX;
	esk_run *run = place_run(&p, "run", &options);
	pair both = open_pair(run);
	append_pairs(run, &both, 0, 2);
	assert_ok(esk_run_commit(run, NULL, &err), &err);
	append_pairs(run, &both, 2, 2);
	snprintf(link, sizeof link, "%s/spool/run.ring", path);
	assert_ok(esk_ring_attach(link, &ring, &err), &err);
	assert_ok(esk_ring_reserve(ring, 0, 999, 64, &slot, &err), &err);
	esk_ring_publish(ring, &slot);
	append_pairs(run, &both, 4, 2);
	atomic_store(acknowledged, 1);
	for (;;)
		pause();
}

static void check_that_the_future_is_refused(const char *path, void *shared)
{
	char link[200], ring[200];
	struct stat st;
	esk_error err = {0};
	esk_run *run;
	esk_run_options options = place_options(256u << 10);
	(void)shared;
	snprintf(link, sizeof link, "%s/spool/run.ring", path);
	for (int turn = 0; turn < 2; turn++) {
		place p = place_at(path); /* other runs can be worked with */
		options.append = true;
		assert_int_equal(esk_run_open(p.store, "run", &options, &run, &err), ESK_EVERSION);
		assert_non_null(strstr(err.message, "newer"));
		esk_reader *reader = place_reader(&p, "run");
		assert_int_equal(esk_dataset_rows(recording_find(reader, "a", "id")), 2);
		esk_reader_close(reader);
		place_close(&p);
		ssize_t size = readlink(link, ring, sizeof ring - 1);
		assert_true(size > 0);
		ring[size] = '\0';
		assert_int_equal(stat(ring, &st), 0);
	}
	unlink(ring);
}

static void a_record_of_an_unknown_kind_is_refused_and_the_ring_stays(void **state)
{
	ordeal o = {.live = die_behind_a_record_from_the_future,
		.look = check_that_the_future_is_refused,
		.most = 1};
	ordeal_run(*state, &o, 1);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		ONE(acknowledged_parts_are_there_together_after_death), /* those that fork come first */
		ONE(a_record_of_an_unknown_kind_is_refused_and_the_ring_stays),
		ONE(parts_are_in_the_file_together),
		ONE(what_cannot_be_one_record_is_refused_whole),
		ONE(wide_and_many_parts_are_one_append),
		ONE(threads_that_name_streams_in_other_orders_get_pairs_of_rows),
		ONE(what_is_overwritten_is_overwritten_in_all_streams),
		ONE(a_damaged_part_leaves_the_rows_of_all_parts_missing),
		ONE(groups_land_once_when_commits_fail),
	};
	return test_run(tests);
}
