/* Stores and readers: rows over segments in every way to ask for them, while they are written, after fork, by
 * ref; files that others wrote; a catalogue that is lost; a file that is.
 *
 *     test_store [SEED]  */
#include "unit/recording_place.h"

#include <errno.h>
#include <hdf5.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#define SALT 11

static uint64_t random_state;

static uint64_t draw(uint64_t below)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (random_state >> 33) % below;
}

/* A run of `rows` rows in several segments. */
static void record_rows(place *p, const char *name, uint64_t rows, uint64_t segment_bytes)
{
	esk_run_options options = place_options(128u << 10);
	esk_error err = {0};
	esk_stream *stream;
	options.segment_bytes = segment_bytes;
	esk_run *run = place_run(p, name, &options);
	assert_ok(recording_stream(run, "/", &stream, &err), &err);
	for (uint64_t i = 0; i < rows; i++) {
		assert_ok(recording_append(stream, i, SALT, NULL, &err), &err);
		if (i % 10 == 9)
			assert_ok(esk_run_commit(run, NULL, &err), &err);
	}
	place_run_close(run);
}

/* ---- asking for rows ---- */

static void rows_are_read_in_every_order_over_segments(void **state)
{
	enum { ROWS = 120 };
	place p = place_make(*state);
	esk_error err = {0};
	random_state = test_seed();
	record_rows(&p, "run", ROWS, 32u << 10);
	assert_true(place_files(&p) > 2);
	esk_reader *reader = place_reader(&p, "run");
	recording_check_rows(reader, "/", 0, ROWS, SALT);
	esk_dataset *id = recording_find(reader, "/", "id"), *frame = recording_find(reader, "/", "frame");
	recording_row *want = malloc(sizeof *want);
	for (uint64_t turn = 0; turn < test_scale(300); turn++) {
		int64_t start = (int64_t)draw(ROWS), stop = (int64_t)draw(ROWS + 1),
			step = 1 + (int64_t)draw(9);
		if (start > stop)
			step = -step;
		uint64_t count = 0, rows[ROWS];
		int64_t found[ROWS];
		for (int64_t row = start; step > 0 ? row < stop : row > stop; row += step)
			rows[count++] = (uint64_t)row;
		assert_ok(esk_dataset_read(id, start, stop, step, found, count * 8, &err), &err);
		for (uint64_t i = 0; i < count; i++)
			assert_int_equal(found[i], rows[i] + SALT * 1000000);
		count = 1 + draw(40);
		uint8_t *frames = malloc(count * RECORDING_FRAME_BYTES);
		for (uint64_t i = 0; i < count; i++)
			rows[i] = draw(4) == 0 && i > 0 ? rows[i - 1] : draw(ROWS);
		assert_ok(esk_dataset_read_rows(
				  frame, rows, count, frames, count * RECORDING_FRAME_BYTES, &err),
			&err);
		for (uint64_t i = 0; i < count; i++) {
			recording_fill(want, rows[i], SALT);
			assert_memory_equal(
				frames + i * RECORDING_FRAME_BYTES, want->frame, RECORDING_FRAME_BYTES);
		}
		free(frames);
	}
	free(want);
	int64_t all[ROWS + 1];
	assert_int_equal(esk_dataset_read(id, 0, ROWS + 1, 1, all, sizeof all, &err), ESK_ERANGE);
	assert_int_equal(esk_dataset_read(id, 0, ROWS, 1, all, sizeof all, &err), ESK_ESHAPE);
	assert_int_equal(esk_dataset_read(id, 0, ROWS, 0, all, sizeof all, &err), ESK_ERANGE);
	assert_int_equal(esk_dataset_read(id, -1, 3, 1, all, 32, &err), ESK_ERANGE);
	assert_ok(esk_dataset_read(id, 5, 5, 1, all, 0, &err), &err);
	assert_ok(esk_dataset_read(id, ROWS - 1, -1, -1, all, ROWS * 8, &err), &err);
	assert_int_equal(all[0], ROWS - 1 + SALT * 1000000);
	assert_int_equal(all[ROWS - 1], SALT * 1000000);
	uint64_t beyond = ROWS;
	uint8_t valid;
	esk_string *strings;
	esk_dataset *none;
	assert_int_equal(esk_dataset_read_rows(id, &beyond, 1, all, 8, &err), ESK_ERANGE);
	assert_int_equal(esk_dataset_read_valid(id, &beyond, 1, &valid, &err), ESK_ERANGE);
	esk_dataset *note = recording_find(reader, "/", "note");
	assert_int_equal(esk_dataset_read_strings(note, &beyond, 1, &strings, &err), ESK_ERANGE);
	assert_int_equal(esk_dataset_read(note, 0, 1, 1, all, 16, &err), ESK_ETYPE);
	assert_int_equal(esk_dataset_read_strings(id, &beyond, 1, &strings, &err), ESK_ETYPE);
	assert_int_equal(esk_reader_find(reader, "nothing", &none, &err), ESK_ENOTFOUND);
	assert_non_null(strstr(err.message, "frame"));
	esk_reader_close(reader);
	place_close(&p);
}

/* ---- refs ---- */

static void refs_in_any_order_over_runs_give_their_cells(void **state)
{
	enum { RUNS = 20, ROWS = 25, REFS = 150 }; /* more runs than are kept open */
	place p = place_make(*state);
	esk_error err = {0};
	random_state = test_seed();
	for (int r = 0; r < RUNS; r++) {
		char name[16];
		snprintf(name, sizeof name, "run %d", r);
		record_rows(&p, name, ROWS, r % 3 == 0 ? 32u << 10 : 0);
	}
	char texts[REFS][64];
	const char *refs[REFS];
	uint64_t starts[REFS], counts[REFS];
	for (int turn = 0; turn < 4; turn++) {
		for (int i = 0; i < REFS; i++) {
			starts[i] = draw(ROWS);
			counts[i] = draw(3) == 0 ? 1 + draw(ROWS - starts[i]) : 1;
			int size = snprintf(texts[i], sizeof texts[i], "h5://run%%20%llu/%s/%llu",
				(unsigned long long)draw(RUNS), i % 4 == 3 ? "note" : "id",
				(unsigned long long)starts[i]);
			if (counts[i] > 1)
				snprintf(texts[i] + size, sizeof texts[i] - (size_t)size, ":%llu",
					(unsigned long long)(starts[i] + counts[i]));
			refs[i] = texts[i];
		}
		esk_array arrays[REFS];
		assert_ok(esk_store_resolve_batch(p.store, refs, REFS, arrays, &err), &err);
		recording_row *want = malloc(sizeof *want);
		for (int i = 0; i < REFS; i++) {
			assert_int_equal(arrays[i].rank, counts[i] > 1);
			assert_true(counts[i] == 1 || arrays[i].shape[0] == counts[i]);
			for (uint64_t k = 0; k < counts[i]; k++) {
				recording_fill(want, starts[i] + k, SALT);
				if (i % 4 == 3)
					recording_same_string(
						(esk_string *)arrays[i].data + k, &want->note, k);
				else
					assert_int_equal(((int64_t *)arrays[i].data)[k], want->id);
			}
			esk_array_release(&arrays[i]);
		}
		free(want);
	}
	esk_array array;
	assert_ok(esk_store_resolve(p.store, "h5://run%201/acc", &array, &err), &err);
	assert_int_equal(array.rank, 2);
	assert_int_equal(array.shape[0], ROWS);
	assert_int_equal(array.shape[1], 3);
	esk_array_release(&array);
	const char *bad[] = {"h5://run%201/id/0", "h5://run%201/id/25"};
	esk_array untouched[2];
	assert_int_equal(esk_store_resolve_batch(p.store, bad, 2, untouched, &err), ESK_ERANGE);
	assert_non_null(strstr(err.message, "id/25"));
	assert_int_equal(esk_store_resolve(p.store, "h5://nobody/id/0", &array, &err), ESK_ENOTFOUND);
	place_close(&p);
}

/* ---- while it is written ---- */

typedef struct recorder {
	place *p;
	esk_run *run;
	esk_stream *stream;
	atomic_bool stop;
	_Atomic uint64_t committed;
	char why[512];
} recorder;

static void *record_and_rotate(void *arg)
{
	recorder *r = arg;
	esk_error err = {0};
	esk_watermark mark;
	for (uint64_t row = 0; !atomic_load(&r->stop) && row < 4000; row++) {
		esk_status status = recording_append(r->stream, row, SALT, NULL, &err);
		if (status == ESK_OK && row % 9 == 8) {
			status = esk_run_commit(r->run, &mark, &err);
			atomic_store(&r->committed, mark.rows);
			recording_sleep_ms(1);
		}
		if (row == 30 && status == ESK_OK) /* a dataset more, while they read */
			place_stream(r->run, "late", "x:i32");
		if (status != ESK_OK) {
			snprintf(r->why, sizeof r->why, "row %llu: %s", (unsigned long long)row, err.message);
			return r;
		}
	}
	return NULL;
}

typedef struct onlooker {
	pthread_t thread;
	esk_reader *reader; /* shared by two */
	recorder *writer;
	uint64_t seed;
	uint64_t reads;
	char why[512];
} onlooker;

static bool look_once(onlooker *o, esk_error *err)
{
	esk_dataset *id, *frame;
	esk_status status = esk_reader_refresh(o->reader, err);
	if (status == ESK_OK)
		status = esk_reader_find(o->reader, "id", &id, err);
	if (status == ESK_OK)
		status = esk_reader_find(o->reader, "frame", &frame, err);
	uint64_t committed = atomic_load(&o->writer->committed);
	if (status == ESK_OK)
		status = esk_reader_refresh(o->reader, err);
	if (status != ESK_OK)
		return false;
	uint64_t rows = esk_min_u64(esk_dataset_rows(id), esk_dataset_rows(frame));
	if (rows < committed) {
		snprintf(err->message, sizeof err->message, "%llu rows are seen, %llu were committed",
			(unsigned long long)rows, (unsigned long long)committed);
		return false;
	}
	for (int i = 0; i < 6 && rows > 0; i++) {
		o->seed = mix(o->seed + 1);
		uint64_t row = o->seed % rows;
		int64_t number;
		recording_row want;
		uint8_t found[RECORDING_FRAME_BYTES];
		status = esk_dataset_read_rows(id, &row, 1, &number, 8, err);
		if (status == ESK_OK)
			status = esk_dataset_read_rows(frame, &row, 1, found, sizeof found, err);
		if (status != ESK_OK)
			return false;
		recording_fill(&want, row, SALT);
		if (number != want.id || memcmp(found, want.frame, sizeof found) != 0) {
			snprintf(err->message, sizeof err->message, "row %llu is not what was recorded",
				(unsigned long long)row);
			return false;
		}
		o->reads++;
	}
	return true;
}

static void *look_on(void *arg)
{
	onlooker *o = arg;
	esk_error err = {0};
	while (!atomic_load(&o->writer->stop)) {
		if (!look_once(o, &err)) {
			snprintf(o->why, sizeof o->why, "%s", err.message);
			return o;
		}
	}
	return NULL;
}

static void readers_see_whole_rows_while_a_run_is_recorded_and_rotated(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(256u << 10);
	esk_error err = {0};
	recorder r = {.p = &p};
	pthread_t writer;
	options.segment_bytes = 64u << 10;
	options.commit_interval_ns = 2000000;
	r.run = place_run(&p, "run", &options);
	assert_ok(recording_stream(r.run, "/", &r.stream, &err), &err);
	onlooker lookers[3] = {{.seed = 1}, {.seed = 2}, {.seed = 3}};
	lookers[0].reader = lookers[1].reader = place_reader(&p, "run");
	lookers[2].reader = place_reader(&p, "run");
	pthread_create(&writer, NULL, record_and_rotate, &r);
	for (int i = 0; i < 3; i++) {
		lookers[i].writer = &r;
		pthread_create(&lookers[i].thread, NULL, look_on, &lookers[i]);
	}
	recording_sleep_ms((unsigned)test_scale(2500));
	atomic_store(&r.stop, true);
	void *failed;
	pthread_join(writer, &failed);
	if (failed != NULL)
		fail_msg("writer: %s", r.why);
	for (int i = 0; i < 3; i++) {
		pthread_join(lookers[i].thread, &failed);
		if (failed != NULL)
			fail_msg("reader %d after %llu reads: %s", i, (unsigned long long)lookers[i].reads,
				lookers[i].why);
		assert_true(lookers[i].reads > 0);
	}
	esk_reader_close(lookers[0].reader);
	esk_reader_close(lookers[2].reader);
	place_run_close(r.run);
	recording_verify(p.store);
	place_close(&p);
}

static void readers_work_in_a_forked_child(void **state)
{
	place p = place_make(*state);
	esk_error err = {0};
	record_rows(&p, "run", 50, 32u << 10);
	esk_reader *reader = place_reader(&p, "run");
	esk_array array;
	recording_check_rows(reader, "/", 0, 50, SALT);
	assert_ok(esk_store_resolve(p.store, "h5://run/id/7", &array, &err), &err);
	esk_array_release(&array);
	pid_t children[3];
	for (int c = 0; c < 3; c++) {
		children[c] = fork();
		if (children[c] != 0)
			continue;
		recording_check_rows(reader, "/", 0, 50, SALT);
		int bad = esk_store_resolve(p.store, "h5://run/id/9", &array, &err) != ESK_OK;
		bad += bad == 0 && *(int64_t *)array.data != 9 + SALT * 1000000;
		bad += esk_reader_refresh(reader, &err) != ESK_OK;
		recording_check_rows(reader, "/", 20, 30, SALT);
		_exit(bad);
	}
	recording_check_rows(reader, "/", 0, 50, SALT);
	for (int c = 0; c < 3; c++) {
		int code = -1;
		assert_int_equal(waitpid(children[c], &code, 0), children[c]);
		assert_int_equal(code, 0);
	}
	esk_reader_close(reader);
	place_close(&p);
}

/* ---- files ---- */

static void make_foreign(const char *path)
{
	hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
	hid_t group = H5Gcreate2(file, "g", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
	hsize_t shape[2] = {40, 3}, chunk[2] = {7, 3};
	hid_t space = H5Screate_simple(2, shape, NULL), plist = H5Pcreate(H5P_DATASET_CREATE);
	H5Pset_chunk(plist, 2, chunk);
	H5Pset_shuffle(plist);
	H5Pset_deflate(plist, 4);
	int values[40][3];
	for (int i = 0; i < 40; i++)
		for (int k = 0; k < 3; k++)
			values[i][k] = 100 * i + k;
	hid_t a = H5Dcreate2(file, "a", H5T_STD_I32BE, space, H5P_DEFAULT, plist, H5P_DEFAULT);
	hid_t b = H5Dcreate2(group, "b", H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
	H5Dwrite(a, H5T_NATIVE_INT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
	H5Dwrite(b, H5T_NATIVE_INT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
	H5Dclose(a);
	H5Dclose(b);
	H5Pclose(plist);
	H5Sclose(space);
	H5Gclose(group);
	H5Fclose(file);
}

static void check_foreign(esk_reader *reader)
{
	static const char *const paths[] = {"a", "g/b", "/g/b", "b"};
	for (int i = 0; i < 4; i++) {
		int32_t *rows = place_read(reader, paths[i], 5, 30, 12);
		assert_int_equal(rows[0], 500);
		assert_int_equal(rows[29 * 3 + 2], 3402);
		free(rows);
	}
}

static void files_that_others_wrote_are_runs(void **state)
{
	place p = place_make(*state);
	char path[200];
	esk_error err = {0};
	esk_reader *reader;
	esk_run *run;
	place_close(&p);
	snprintf(path, sizeof path, "%s/theirs.h5", p.path);
	make_foreign(path);
	snprintf(path, sizeof path, "%s/broken.h5", p.path);
	FILE *broken = fopen(path, "w");
	fputs("this is no HDF5 file", broken);
	fclose(broken);
	place_open(&p);
	reader = place_reader(&p, "theirs");
	check_foreign(reader);
	esk_reader_close(reader);
	assert_int_equal(place_query(&p, "SELECT state FROM runs WHERE name = 'theirs'"), 2);
	assert_int_not_equal(esk_reader_open(p.store, "broken", &reader, &err), ESK_OK);
	assert_int_equal(esk_run_open(p.store, "theirs", NULL, &run, &err), ESK_EEXIST);
	place_reopen(&p);
	snprintf(path, sizeof path, "%s/theirs.h5", p.path);
	assert_ok(esk_reader_open_file(path, &reader, &err), &err);
	check_foreign(reader);
	esk_reader_close(reader);
	snprintf(path, sizeof path, "%s/broken.h5", p.path);
	broken = fopen(path, "r");
	char text[64] = {0};
	assert_non_null(fgets(text, sizeof text, broken));
	assert_string_equal(text, "this is no HDF5 file"); /* untouched */
	fclose(broken);
	place_close(&p);
}

static void a_read_only_store_changes_nothing(void **state)
{
	place p = place_make(*state);
	esk_error err = {0};
	esk_run *run;
	record_rows(&p, "run", 30, 32u << 10);
	place_close(&p);
	esk_store_options options = ESK_STORE_OPTIONS_INIT;
	options.read_only = true;
	assert_ok(esk_store_open(p.path, &options, &p.store, &err), &err);
	esk_reader *reader = place_reader(&p, "run");
	recording_check_rows(reader, "/", 0, 30, SALT);
	assert_int_equal(esk_run_open(p.store, "new", NULL, &run, &err), ESK_ECLOSED);
	esk_check_report report;
	assert_int_equal(esk_store_repair(p.store, NULL, &report, &err), ESK_EACCES);
	recording_verify(p.store);
	esk_reader_close(reader);
	place_close(&p);
}

static void a_lost_catalogue_is_rebuilt_from_the_files(void **state)
{
	static const char *const queries[] = {"SELECT count(*) FROM runs", "SELECT total(rows) FROM runs",
		"SELECT count(*) FROM segments", "SELECT total(number) FROM segments",
		"SELECT count(*) FROM streams", "SELECT count(*) FROM columns",
		"SELECT total(created_ns / 1000) FROM runs"};
	place p = place_make(*state);
	esk_error err = {0};
	char path[200];
	record_rows(&p, "one", 60, 32u << 10);
	record_rows(&p, "two", 9, 0);
	int64_t before[7];
	size_t count = sizeof queries / sizeof *queries;
	for (size_t i = 0; i < count; i++)
		before[i] = place_query(&p, queries[i]);
	place_close(&p);
	snprintf(path, sizeof path, "%s/esker.db", p.path);
	unlink(path);
	esk_check_report report;
	assert_int_equal(esk_store_open(p.path, NULL, &p.store, &err), ESK_ENOTFOUND);
	assert_ok(esk_store_reindex(p.path, NULL, &report, &err), &err);
	assert_int_equal(report.runs, 2);
	assert_int_equal(report.findings, 0);
	place_open(&p);
	for (size_t i = 0; i < count; i++)
		if (place_query(&p, queries[i]) != before[i])
			fail_msg("%s gives %lld, it gave %lld", queries[i],
				(long long)place_query(&p, queries[i]), (long long)before[i]);
	esk_reader *reader = place_reader(&p, "one");
	recording_check_rows(reader, "/", 0, 60, SALT);
	esk_reader_close(reader);
	recording_verify(p.store);
	esk_run_options options = place_options(128u << 10);
	options.append = true;
	place_run_close(place_run(&p, "one", &options));
	place_close(&p);
}

/* Rows of a segment that somebody deleted are an error, not whatever was in the buffer. */
static void rows_of_a_missing_file_are_refused(void **state)
{
	place p = place_make(*state);
	esk_error err = {0};
	char path[400], name[260];
	record_rows(&p, "run", 80, 32u << 10);
	int64_t first = place_query(&p, "SELECT first_row FROM extents WHERE segment = 1");
	esk_query *query;
	bool row;
	assert_ok(esk_query_open(p.store, "SELECT file FROM segments WHERE number = 1", &query, &err), &err);
	assert_ok(esk_query_step(query, &row, &err), &err);
	snprintf(name, sizeof name, "%s", esk_query_value(query, 0).data);
	esk_query_close(query);
	place_close(&p);
	snprintf(path, sizeof path, "%s/%s", p.path, name);
	assert_int_equal(unlink(path), 0);
	esk_check_report report;
	assert_ok(esk_store_reindex(p.path, NULL, &report, &err), &err);
	place_open(&p);
	esk_reader *reader = place_reader(&p, "run");
	esk_dataset *id = recording_find(reader, "/", "id"), *note = recording_find(reader, "/", "note");
	uint64_t missing = (uint64_t)first;
	int64_t found;
	esk_string *strings;
	assert_int_equal(esk_dataset_read_rows(id, &missing, 1, &found, 8, &err), ESK_ENOTFOUND);
	assert_int_equal(esk_dataset_read_strings(note, &missing, 1, &strings, &err), ESK_ENOTFOUND);
	recording_check_rows(reader, "/", 0, missing, SALT);
	esk_reader_close(reader);
	place_close(&p);
}

static void two_processes_record_into_one_store(void **state)
{
	test_dir *dir = *state;
	place p = {.dir = dir};
	esk_error err = {0};
	pid_t children[2];
	snprintf(p.path, sizeof p.path, "%s/store", dir->path);
	assert_ok(esk_store_create(p.path, &err), &err);
	for (int c = 0; c < 2; c++) {
		children[c] = fork(); /* before this process has threads */
		if (children[c] == 0) {
			place_open(&p);
			record_rows(&p, c == 0 ? "left" : "right", 150, 48u << 10);
			place_close(&p);
			_exit(0);
		}
	}
	for (int c = 0; c < 2; c++) {
		int code = -1;
		assert_int_equal(waitpid(children[c], &code, 0), children[c]);
		assert_int_equal(code, 0);
	}
	place_open(&p);
	for (int c = 0; c < 2; c++) {
		esk_reader *reader = place_reader(&p, c == 0 ? "left" : "right");
		assert_int_equal(recording_rows(reader, "/"), 150);
		recording_check_rows(reader, "/", 0, 150, SALT);
		esk_reader_close(reader);
	}
	assert_int_equal(place_query(&p, "SELECT total(rows) FROM runs WHERE state = 1"), 300);
	recording_verify(p.store);
	place_close(&p);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		ONE(two_processes_record_into_one_store),
		ONE(rows_are_read_in_every_order_over_segments),
		ONE(refs_in_any_order_over_runs_give_their_cells),
		ONE(readers_see_whole_rows_while_a_run_is_recorded_and_rotated),
		ONE(readers_work_in_a_forked_child),
		ONE(files_that_others_wrote_are_runs),
		ONE(a_read_only_store_changes_nothing),
		ONE(a_lost_catalogue_is_rebuilt_from_the_files),
		ONE(rows_of_a_missing_file_are_refused),
	};
	return test_run(tests);
}
