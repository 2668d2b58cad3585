/* Items: groups with arrays and attributes, put at once. Whole, once, in file and catalogue; after kills,
 * failing commits, rotation and reindex.
 *
 *     test_items [SEED]  */
#include "support/ordeal.h"

#include "record/internal.h"

#include <pthread.h>
#include <sys/mman.h>

/* ---- a batch as an instrument puts it ---- */

static const esk_column time_column = {.name = "timestamp", .dtype = {ESK_I64, 8}, .units = "ns"};
static const esk_column voltage_column = {.name = "voltage", .dtype = {ESK_F64, 8}, .units = "V"};

#define BATCH_ROWS 40

static esk_status put_batch(esk_run *run, int64_t number, esk_error *err)
{
	int64_t times[BATCH_ROWS];
	double voltages[BATCH_ROWS];
	char path[64], json[200];
	for (int i = 0; i < BATCH_ROWS; i++) {
		times[i] = number * 1000 + i;
		voltages[i] = (double)number + i * 0.5;
	}
	snprintf(path, sizeof path, "measurements/batch_%06lld", (long long)number);
	snprintf(json, sizeof json,
		"{\"row_count\": %d, \"first\": %lld, \"ring_position\": 1.5, \"schema\": \"{s%lld}\", "
		"\"last\": true, "
		"\"time_ns\": 7}",
		BATCH_ROWS, (long long)number, (long long)number);
	esk_item_array arrays[2] = {{.column = &time_column, .rows = BATCH_ROWS, .cells = times},
		{.column = &voltage_column, .rows = BATCH_ROWS, .cells = voltages}};
	esk_item item = ESK_ITEM_INIT;
	item.path = path;
	item.arrays = arrays;
	item.array_count = 2;
	item.attributes_json = json;
	return esk_run_put(run, &item, err);
}

static void put_batches(esk_run *run, int64_t first, int64_t count)
{
	esk_error err = {0};
	for (int64_t i = first; i < first + count; i++)
		assert_ok(put_batch(run, i, &err), &err);
}

/* The batch is there whole, as the reader finds it. */
static void check_batch(esk_store *store, int64_t number)
{
	char ref[100];
	esk_error err = {0};
	esk_array array;
	snprintf(ref, sizeof ref, "h5://run/measurements/batch_%06lld/timestamp", (long long)number);
	assert_ok(esk_store_resolve(store, ref, &array, &err), &err);
	assert_int_equal(array.shape[0], BATCH_ROWS);
	for (int i = 0; i < BATCH_ROWS; i++)
		assert_int_equal(((int64_t *)array.data)[i], number * 1000 + i);
	esk_array_release(&array);
	snprintf(ref, sizeof ref, "h5://run/measurements/batch_%06lld/voltage/3", (long long)number);
	assert_ok(esk_store_resolve(store, ref, &array, &err), &err);
	assert_true(*(double *)array.data == (double)number + 1.5);
	esk_array_release(&array);
}

/* The catalogue has the batches [0, count) and nothing else, in order. */
static void check_catalogue(place *p, int64_t count)
{
	assert_int_equal(place_query(p, "SELECT count(*) FROM items"), count);
	assert_int_equal(place_query(p, "SELECT count(DISTINCT path) FROM items"), count);
	assert_int_equal(
		place_query(p,
			"SELECT count(*) FROM v_items WHERE run = 'run' AND file IS NOT NULL AND path = "
			"printf('measurements/batch_%06d', item) AND attributes ->> 'first' = item AND "
			"attributes ->> 'schema' = '{s' || item || '}' AND rows = 40 AND joined IS NULL "
			"AND attributes ->> 'last' = 1 AND attributes ->> 'ring_position' = 1.5"),
		count);
}

static void check_batches(place *p, int64_t count, int64_t step)
{
	for (int64_t i = 0; i < count; i += step)
		check_batch(p->store, i);
	check_catalogue(p, count);
	recording_verify(p->store);
}

static void reindex(place *p)
{
	esk_check_report report;
	esk_error err = {0};
	place_close(p);
	assert_ok(esk_store_reindex(p->path, NULL, &report, &err), &err);
	assert_int_equal(report.findings, 0);
	place_open(p);
}

static void items_are_there_in_file_and_catalogue(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(1u << 20);
	esk_error err = {0};
	options.append = true;
	options.segment_bytes = 60000;
	int64_t total = 0;
	for (int session = 0; session < 3; session++) {
		esk_run *run = place_run(&p, "run", &options);
		esk_stream *stream = place_stream(run, "measurements/raw", "x:i64"); /* beside them */
		for (int turn = 0; turn < 4; turn++) {
			put_batches(run, total, 10);
			total += 10;
			assert_ok(esk_stream_append(stream, (const void *[]){&total}, NULL, &err), &err);
			if (turn % 2 == 1)
				assert_ok(esk_run_commit(run, NULL, &err), &err);
			if (turn == 1)
				check_catalogue(&p, total);
		}
		for (int64_t i = 0; i < total;
			i += 7) { /* of this session, of earlier ones, of sealed segments */
			assert_int_equal(put_batch(run, i, &err), ESK_EEXIST);
			assert_non_null(strstr(err.message, "already"));
		}
		place_run_close(run);
		if (session == 1)
			place_reopen(&p);
	}
	assert_true(place_files(&p) > 2);
	check_batches(&p, total, 1);
	reindex(&p);
	check_batches(&p, total, 5);
	place_close(&p);
}

/* A reader that is open finds what was put since. */
static void readers_find_items_that_come_later(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(1u << 20);
	esk_error err = {0};
	esk_dataset *early, *late, *none;
	options.segment_bytes = 30000;
	esk_run *run = place_run(&p, "run", &options);
	put_batches(run, 0, 2);
	assert_ok(esk_run_commit(run, NULL, &err), &err);
	esk_reader *reader = place_reader(&p, "run");
	assert_int_equal(esk_reader_dataset_count(reader), 0); /* there may be too many to list */
	assert_ok(esk_reader_find(reader, "measurements/batch_000001/voltage", &early, &err), &err);
	assert_int_equal(
		esk_reader_find(reader, "measurements/batch_000007/voltage", &none, &err), ESK_ENOTFOUND);
	for (int round = 0; round < 4; round++) {
		put_batches(run, 2 + 10 * round, 10);
		assert_ok(esk_run_commit(run, NULL, &err), &err);
	}
	assert_ok(esk_reader_find(reader, "/measurements/batch_000007/voltage", &late, &err), &err);
	assert_int_equal(esk_dataset_rows(late), BATCH_ROWS);
	assert_int_equal(esk_dataset_rows(early), BATCH_ROWS);
	assert_int_equal(esk_reader_find(reader, "measurements/batch_000007", &none, &err), ESK_ENOTFOUND);
	assert_int_equal(esk_reader_find(reader, ".esker/items/path", &none, &err), ESK_ENOTFOUND);
	assert_int_equal(esk_reader_find(reader, "measurements//x", &none, &err), ESK_ENOTFOUND);
	assert_ok(esk_reader_refresh(reader, &err), &err);
	double voltages[BATCH_ROWS];
	assert_ok(esk_dataset_read(early, 0, BATCH_ROWS, 1, voltages, sizeof voltages, &err), &err);
	assert_true(voltages[3] == 2.5);
	assert_ok(esk_dataset_read(late, 0, BATCH_ROWS, 1, voltages, sizeof voltages, &err), &err);
	assert_true(voltages[3] == 8.5);
	esk_reader_close(reader);
	place_run_close(run);
	place_close(&p);
}

/* ---- arrays of every kind ---- */

#define NOISE_ROWS 3000
#define RAMP_ROWS 70000

static void check_layout(esk_h5 *h5, const char *path, bool chunked, uint64_t rows)
{
	esk_h5_dataset *dataset;
	esk_error err = {0};
	assert_ok(esk_h5_dataset_open(h5, path, &dataset, &err), &err);
	assert_int_equal(esk_h5_dataset_info(dataset)->chunked, chunked);
	assert_int_equal(esk_h5_dataset_info(dataset)->rows, rows);
}

static void put_one(esk_run *run, const char *path, const char *spec, uint64_t rows, const void *cells,
	const uint8_t *valid)
{
	esk_column *column;
	size_t count;
	esk_error err = {0};
	assert_ok(esk_columns_parse(spec, &column, &count, &err), &err);
	esk_item_array array = {.column = column, .rows = rows, .cells = cells, .valid = valid};
	esk_item item = ESK_ITEM_INIT;
	item.path = path;
	item.arrays = &array;
	item.array_count = 1;
	assert_ok(esk_run_put(run, &item, &err), &err);
	esk_columns_free(column);
}

static void arrays_of_every_kind_come_back(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(8u << 20);
	esk_error err = {0};
	esk_run *run = place_run(&p, "run", &options);
	uint64_t *noise = malloc(NOISE_ROWS * sizeof *noise);
	int32_t *ramp = malloc(RAMP_ROWS * sizeof *ramp);
	esk_string texts[4] = {{"one", 3}, {"", 0}, {"zwölf", 6}, {"x", 1}};
	uint8_t truths[3] = {1, 0, 1}, valid[3] = {1, 0, 1};
	double cube[2][3][4] = {{{1}}};
	for (uint64_t i = 0; i < NOISE_ROWS; i++)
		noise[i] = mix(i + 1);
	for (int32_t i = 0; i < RAMP_ROWS; i++)
		ramp[i] = i / 3;
	put_one(run, "a/noise", "x:u64", NOISE_ROWS, noise, NULL);
	put_one(run, "a/ramp", "x:i32", RAMP_ROWS, ramp, NULL);
	put_one(run, "a/sure", "x:u64@gzip:1+fletcher32", NOISE_ROWS, noise, NULL);
	put_one(run, "a/plain", "x:i32@none", RAMP_ROWS, ramp, NULL);
	put_one(run, "a/texts", "deep/x:str[2]", 2, texts, NULL);
	put_one(run, "a/truths", "x:bool?", 3, truths, valid);
	put_one(run, "a/missing", "x:f64[3,4]?", 2, NULL, NULL);
	put_one(run, "a/cube", "x:f64[3,4]", 2, cube, NULL);
	put_one(run, "a/empty", "x:f32[5]", 0, NULL, NULL);
	put_one(run, "a/fixed", "x:str8?", 1, "eight...", NULL);
	put_one(run, "a/ünïcode", "größe:i32", 3, ramp, NULL);
	esk_item none = ESK_ITEM_INIT;
	none.path = "only/attributes";
	none.attributes_json = "{\"a\": 1}";
	assert_ok(esk_run_put(run, &none, &err), &err);
	place_run_close(run);
	recording_verify(p.store);
	esk_reader *reader = place_reader(&p, "run");
	uint64_t *noise_found = place_read(reader, "a/noise/x", 0, NOISE_ROWS, 8),
		 *sure_found = place_read(reader, "a/sure/x", 0, NOISE_ROWS, 8);
	assert_memory_equal(noise_found, noise, NOISE_ROWS * 8);
	assert_memory_equal(sure_found, noise, NOISE_ROWS * 8);
	int32_t *ramp_found = place_read(reader, "a/ramp/x", 0, RAMP_ROWS, 4),
		*plain_found = place_read(reader, "a/plain/x", 0, RAMP_ROWS, 4);
	assert_memory_equal(ramp_found, ramp, RAMP_ROWS * 4);
	assert_memory_equal(plain_found, ramp, RAMP_ROWS * 4);
	free(noise_found);
	free(sure_found);
	free(ramp_found);
	free(plain_found);
	double *cube_found = place_read(reader, "a/cube/x", 0, 2, sizeof cube / 2);
	assert_memory_equal(cube_found, cube, sizeof cube);
	free(cube_found);
	static const uint64_t rows[] = {0, 1, 2};
	uint8_t found_valid[3];
	esk_dataset *dataset;
	assert_ok(esk_reader_find(reader, "a/truths/x", &dataset, &err), &err);
	assert_ok(esk_dataset_read_valid(dataset, rows, 3, found_valid, &err), &err);
	assert_memory_equal(found_valid, valid, 3);
	assert_ok(esk_reader_find(reader, "a/missing/x", &dataset, &err), &err);
	assert_ok(esk_dataset_read_valid(dataset, rows, 2, found_valid, &err), &err);
	assert_true(found_valid[0] == 0 && found_valid[1] == 0);
	assert_ok(esk_reader_find(reader, "a/empty/x", &dataset, &err), &err);
	assert_int_equal(esk_dataset_rows(dataset), 0);
	esk_string *strings;
	assert_ok(esk_reader_find(reader, "a/texts/deep/x", &dataset, &err), &err);
	assert_ok(esk_dataset_read_strings(dataset, rows, 2, &strings, &err), &err);
	for (int i = 0; i < 4; i++)
		recording_same_string(&strings[i], &texts[i], (uint64_t)i);
	esk_strings_free(strings);
	int32_t *unicode = place_read(reader, "a/ünïcode/größe", 0, 3, 4);
	assert_memory_equal(unicode, ramp, 12);
	free(unicode);
	esk_reader_close(reader);
	char path[300];
	esk_h5 *h5;
	snprintf(path, sizeof path, "%s/run.h5", p.path);
	assert_ok(esk_h5_open_read(esk_os_posix(), path, &h5, &err), &err);
	check_layout(h5, "a/noise/x", false, NOISE_ROWS); /* chunks would have made it larger */
	check_layout(h5, "a/ramp/x", true, RAMP_ROWS);
	check_layout(h5, "a/sure/x", true, NOISE_ROWS);
	check_layout(h5, "a/plain/x", false, RAMP_ROWS);
	check_layout(h5, "a/truths/x", false, 3);
	esk_h5_close(h5, NULL);
	assert_int_equal(
		place_query(&p, "SELECT attributes ->> 'a' FROM items WHERE path = 'only/attributes'"), 1);
	free(noise);
	free(ramp);
	place_close(&p);
}

/* ---- what is refused ---- */

static void items_that_cannot_be_are_refused(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(64u << 10);
	esk_error err = {0};
	esk_run *run = place_run(&p, "run", &options);
	place_stream(run, "s", "x:i64");
	double *values = calloc(20000, sizeof *values);
	esk_column same = voltage_column, nullable = voltage_column, bad = voltage_column,
		   text = {.name = "t", .dtype = {ESK_STRING, sizeof(esk_string)}};
	nullable.nullable = true;
	strcpy(bad.codec, "nonsense");
	esk_column taken = voltage_column;
	strcpy(taken.name, "voltage_valid");
	/* In the order of bytes, '-' comes between a name and what lies below it. */
	esk_column beside = voltage_column, below = voltage_column;
	strcpy(beside.name, "voltage-2");
	strcpy(below.name, "voltage/2");
	esk_string nul = {"a\0b", 3};
	esk_item_array one[2] = {{.column = &voltage_column, .rows = 1, .cells = values}},
		       twice[2] = {{.column = &voltage_column, .rows = 1, .cells = values},
			       {.column = &same, .rows = 1, .cells = values}},
		       marked[2] = {{.column = &taken, .rows = 1, .cells = values},
			       {.column = &nullable, .rows = 1, .cells = values}},
		       nested[3] = {{.column = &below, .rows = 1, .cells = values},
			       {.column = &beside, .rows = 1, .cells = values},
			       {.column = &voltage_column, .rows = 1, .cells = values}},
		       large[1] = {{.column = &voltage_column, .rows = 20000, .cells = values}},
		       lacking[1] = {{.column = &voltage_column, .rows = 1}},
		       codec[1] = {{.column = &bad, .rows = 0}},
		       nuls[1] = {{.column = &text, .rows = 1, .cells = &nul}},
		       absurd[1] = {{.column = &voltage_column, .rows = UINT64_MAX / 8, .cells = values}};
	const struct {
		const char *path, *json, *join;
		const esk_item_array *arrays;
		size_t count;
		esk_status status;
		const char *message;
	} cases[] = {
		{"s/x", NULL, NULL, one, 1, ESK_EEXIST, "\"s/x\" already"},
		{"s/x/y", NULL, NULL, one, 1, ESK_EEXIST, "\"s/x\" already"},
		{"s", NULL, NULL, one, 1, ESK_EEXIST, "\"s\" already, a group"},
		{"/", NULL, NULL, one, 1, ESK_EINVAL, "root"},
		{"", NULL, NULL, one, 1, ESK_EINVAL, "empty"},
		{NULL, NULL, NULL, one, 1, ESK_EINVAL, "NULL"},
		{"a//b", NULL, NULL, one, 1, ESK_EINVAL, "empty"},
		{"i", "[1]", NULL, one, 1, ESK_EINVAL, "no JSON object"},
		{"i", "{\"esker_x\": 1}", NULL, one, 1, ESK_EINVAL, "Esker's own"},
		{"i", NULL, NULL, twice, 2, ESK_EINVAL, "taken twice"},
		{"i", NULL, NULL, marked, 2, ESK_EINVAL, "taken twice"},
		{"i", NULL, NULL, nested, 3, ESK_EINVAL, "below the other"},
		{"i", NULL, NULL, large, 1, ESK_ERANGE, "ring_bytes"},
		{"i", NULL, NULL, absurd, 1, ESK_ERANGE, "rows"},
		{"i", NULL, NULL, lacking, 1, ESK_EINVAL, "not nullable"},
		{"i", NULL, NULL, codec, 1, ESK_EINVAL, "nonsense"},
		{"i", NULL, NULL, nuls, 1, ESK_EINVAL, "NUL"},
		{"i", NULL, "s", one, 1, ESK_EEXIST, "\"s\" already"},
		{"i", NULL, "/", one, 1, ESK_EINVAL, "root"},
		{"j/i", NULL, "j", one, 1, ESK_EEXIST, "joined"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		esk_item item = ESK_ITEM_INIT;
		item.path = cases[i].path;
		item.attributes_json = cases[i].json;
		item.join = cases[i].join;
		item.arrays = cases[i].arrays;
		item.array_count = cases[i].count;
		esk_status status = esk_run_put(run, &item, &err);
		if (status != cases[i].status || strstr(err.message, cases[i].message) == NULL)
			fail_msg("case %zu: %s: %s", i, esk_status_name(status), err.message);
	}
	put_one(run, "i", "x:i64", 1, values, NULL); /* nothing of these took the name */
	assert_int_equal(esk_run_set_text(run, "i/text", "x", &err), ESK_EEXIST);
	assert_ok(esk_run_set_attributes(run, "i", "{\"later\": true}", &err), &err);
	place_run_close(run);
	recording_verify(p.store);
	assert_int_equal(place_query(&p, "SELECT count(*) FROM items"), 1);
	free(values);
	place_close(&p);
}

/* ---- several threads ---- */

#define THREADS 4

typedef struct worker {
	pthread_t thread;
	esk_run *run;
	int number;
	int64_t count;
	int64_t exists; /* paths that another thread was quicker with */
	char why[300];
} worker;

static void *put_from_thread(void *arg)
{
	worker *w = arg;
	esk_error err = {0};
	for (int64_t i = 0; i < w->count; i++) {
		esk_status status = put_batch(w->run, i, &err); /* all of them want the same paths */
		w->exists += status == ESK_EEXIST;
		if (status != ESK_OK && status != ESK_EEXIST) {
			snprintf(w->why, sizeof w->why, "%.250s", err.message);
			break;
		}
	}
	return NULL;
}

static void of_threads_that_want_one_path_one_gets_it(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(1u << 20);
	options.commit_interval_ns = 5000000;
	esk_run *run = place_run(&p, "run", &options);
	worker workers[THREADS];
	int64_t count = (int64_t)test_scale(300), exists = 0;
	for (int w = 0; w < THREADS; w++) {
		workers[w] = (worker){.run = run, .number = w, .count = count};
		pthread_create(&workers[w].thread, NULL, put_from_thread, &workers[w]);
	}
	for (int w = 0; w < THREADS; w++) {
		pthread_join(workers[w].thread, NULL);
		if (workers[w].why[0] != '\0')
			fail_msg("%s", workers[w].why);
		exists += workers[w].exists;
	}
	place_run_close(run);
	assert_int_equal(exists, (THREADS - 1) * count);
	assert_int_equal(place_query(&p, "SELECT count(*) FROM items"), count);
	assert_int_equal(place_query(&p, "SELECT count(DISTINCT path) FROM items"), count);
	for (int64_t i = 0; i < count; i += 10)
		check_batch(p.store, i);
	recording_verify(p.store);
	place_close(&p);
}

/* ---- failures ---- */

static void items_land_once_when_commits_fail(void **state)
{
	esk_fault *fault;
	place p = ordeal_place_make(*state, &fault);
	esk_run_options options = place_options(1u << 20);
	options.segment_bytes = 100000;
	esk_run *run = place_run(&p, "run", &options);
	int64_t total = 0;
	for (int round = 0; round < 12; round++) {
		put_batches(run, total, 5);
		total += 5;
		ordeal_commit_without_room(run, fault, 4000 * (uint64_t)(round % 4));
		put_batches(run, total, 3);
		total += 3;
		ordeal_commit_with_room(run, fault);
	}
	place_run_close(run);
	ordeal_place_end(&p, fault);
	check_batches(&p, total, 1);
	place_close(&p);
}

/* Any damage to a record of an item: it is there as it was, as what its bytes say now, or counted as lost;
 * the others are there in any case, and recording goes on. */
static void damaged_items_are_counted_and_others_are_there(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(256u << 10);
	esk_error err = {0};
	uint64_t random = test_seed();
	int64_t lost = 0, rounds = (int64_t)test_scale(60);
	options.commit_interval_ns = UINT64_MAX;
	options.append = true;
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *holder = place_stream(run, "h", "x:i64");
	for (int64_t round = 0; round < rounds; round++) {
		esk_reservation hold;
		esk_run_stats stats = {.struct_size = sizeof stats};
		size_t bytes;
		char path[64];
		assert_ok(esk_stream_reserve(holder, 1, &hold, &err), &err); /* the drain stops here */
		put_batches(run, 3 * round, 3);
		unsigned char *ring = ordeal_map_ring(&p, &bytes);
		snprintf(path, sizeof path, "measurements/batch_%06lld", (long long)(3 * round + 1));
		unsigned char *at = memmem(ring, bytes, path, strlen(path));
		assert_non_null(at);
		for (int byte = 0; byte < 3; byte++) {
			random = mix(random + 1);
			at[(int64_t)(random % 700) - 24] ^= (unsigned char)(1 + (random >> 32) % 255);
		}
		munmap(ring, bytes);
		*(int64_t *)hold.cells[0] = 1;
		esk_stream_publish(holder, &hold);
		assert_ok(esk_run_commit(run, NULL, &err), &err);
		assert_ok(esk_run_get_stats(run, &stats, &err), &err);
		lost = (int64_t)stats.lost_records;
	}
	place_run_close(run);
	recording_verify(p.store);
	for (int64_t round = 0; round < rounds; round++) {
		check_batch(p.store, 3 * round);
		check_batch(p.store, 3 * round + 2);
	}
	assert_int_equal(place_query(&p, "SELECT count(*) FROM items"), 3 * rounds - lost);
	print_message("%lld of %lld damaged items were lost\n", (long long)lost, (long long)rounds);
	place_close(&p);
}

/* ---- death ---- */

#define MOST_PUT 400 /* before it only waits for its death */

static void die_while_putting(const char *path, void *shared)
{
	_Atomic int64_t *acknowledged = shared;
	place p = place_at(path);
	esk_error err = {0};
	esk_run_options options = place_options(1u << 20);
	options.append = true;
	options.commit_interval_ns = 3000000;
	options.segment_bytes = 300000;
	esk_run *run = place_run(&p, "run", &options);
	int64_t i = atomic_load(acknowledged);
	for (int64_t end = i + MOST_PUT;; i++) {
		if (i == end)
			pause();
		if (put_batch(run, i, &err) != ESK_OK)
			_exit(1);
		atomic_store(acknowledged, i + 1);
	}
}

static void check_after_death(const char *path, void *shared)
{
	place p = place_at(path);
	int64_t found = place_query(&p, "SELECT count(*) FROM items");
	ordeal_found(shared, found);
	check_batches(&p, found, 17);
	check_batch(p.store, found - 1);
	place_close(&p);
}

static void acknowledged_items_are_there_once_after_death(void **state)
{
	ordeal o = {.live = die_while_putting,
		.look = check_after_death,
		.most = 3,
		.most_ms = 20,
		.dies_young = true};
	ordeal_run(*state, &o, test_scale(8));
}

static void a_second_of_items_is_told(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(32u << 20);
	esk_error err = {0};
	int64_t count = (int64_t)test_scale(10000);
	options.commit_interval_ns = 200000000;
	esk_run *run = place_run(&p, "run", &options);
	uint64_t begun = esk_monotonic_ns();
	put_batches(run, 0, count);
	assert_ok(esk_run_commit(run, NULL, &err), &err);
	double seconds = (double)(esk_monotonic_ns() - begun) / 1e9;
	place_run_close(run);
	print_message("%lld items of two arrays and six attributes: %.0f a second\n", (long long)count,
		(double)count / seconds);
	check_catalogue(&p, count);
	check_batch(p.store, count - 1);
	place_close(&p);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		ONE(acknowledged_items_are_there_once_after_death), /* it forks: before there are threads */
		ONE(items_are_there_in_file_and_catalogue),
		ONE(readers_find_items_that_come_later),
		ONE(arrays_of_every_kind_come_back),
		ONE(items_that_cannot_be_are_refused),
		ONE(of_threads_that_want_one_path_one_gets_it),
		ONE(items_land_once_when_commits_fail),
		ONE(damaged_items_are_counted_and_others_are_there),
		ONE(a_second_of_items_is_told),
	};
	return test_run(tests);
}
