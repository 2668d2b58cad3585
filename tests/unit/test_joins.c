/* Joins: virtual datasets that show the arrays of items one behind the other. Whole when the run is closed
 * and when a segment is sealed; a beginning of them in between; after kills and failing commits too.
 *
 *     test_joins [SEED]  */
#include "support/ordeal.h"

#include <hdf5.h>

/* ---- batches of differing lengths, whose values count on ---- */

typedef struct counters {
	int64_t batches;
	int64_t rows;
} counters;

static uint64_t rows_of_batch(int64_t number)
{
	return 1 + mix((uint64_t)number) % 7;
}

static esk_status put(esk_run *run, counters *c, const char *join, esk_error *err)
{
	static const esk_column value = {.name = "value", .dtype = {ESK_I64, 8}, .units = "V"},
				deep = {.name = "deep/pair",
					.dtype = {ESK_F32, 4},
					.rank = 1,
					.shape = {2},
					.nullable = true},
				text = {.name = "text", .dtype = {ESK_STRING, sizeof(esk_string)}};
	char path[64], buf[8][24];
	uint64_t rows = rows_of_batch(c->batches);
	int64_t values[8];
	float pairs[16];
	uint8_t valid[8];
	esk_string texts[8];
	for (uint64_t i = 0; i < rows; i++) {
		values[i] = c->rows + (int64_t)i;
		pairs[2 * i] = (float)values[i];
		pairs[2 * i + 1] = 0.5f;
		valid[i] = values[i] % 3 != 0;
		texts[i] = (esk_string){
			buf[i], (size_t)snprintf(buf[i], sizeof buf[i], "t%lld", (long long)values[i])};
	}
	snprintf(path, sizeof path, "measurements/batch_%06lld", (long long)c->batches);
	esk_item_array arrays[] = {{.column = &value, .rows = rows, .cells = values},
		{.column = &text,
			.rows = rows - 1,
			.cells = texts}, /* one less than the others; sometimes none */
		{.column = &deep, .rows = rows, .cells = pairs, .valid = valid}};
	esk_item item = ESK_ITEM_INIT;
	item.path = path;
	item.arrays = arrays;
	item.array_count = 3;
	item.join = join;
	esk_status status = esk_run_put(run, &item, err);
	if (status == ESK_OK) {
		c->batches++;
		c->rows += (int64_t)rows;
	}
	return status;
}

static void put_many(esk_run *run, counters *c, int64_t count)
{
	esk_error err = {0};
	for (int64_t i = 0; i < count; i++)
		assert_ok(put(run, c, "measurements/all", &err), &err);
}

/* Rows of the batches [first, first + count). */
static int64_t rows_of(int64_t first, int64_t count)
{
	int64_t rows = 0;
	for (int64_t i = first; i < first + count; i++)
		rows += (int64_t)rows_of_batch(i);
	return rows;
}

/* The join in `file` shows rows [first, first + *rows) of the run; where `rows` is negative, as many as there
 * are, and that is returned. As stock libhdf5 sees it. */
static int64_t check_join(const char *path, int64_t first, int64_t rows)
{
	hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
	assert_true(file >= 0);
	hid_t set = H5Dopen2(file, "measurements/all/value", H5P_DEFAULT),
	      pairs_set = H5Dopen2(file, "measurements/all/deep/pair", H5P_DEFAULT),
	      valid_set = H5Dopen2(file, "measurements/all/deep/pair_valid", H5P_DEFAULT);
	assert_true(set >= 0 && pairs_set >= 0 && valid_set >= 0);
	hid_t space = H5Dget_space(set), type = H5Dget_type(valid_set);
	int64_t found = H5Sget_simple_extent_npoints(space);
	if (rows >= 0)
		assert_int_equal(found, rows);
	int64_t *values = malloc((size_t)found * sizeof *values);
	float *pairs = malloc((size_t)found * 2 * sizeof *pairs);
	int8_t *valid = malloc((size_t)found);
	assert_true(H5Dread(set, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
	assert_true(H5Dread(pairs_set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, pairs) >= 0);
	assert_true(H5Dread(valid_set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, valid) >= 0);
	for (int64_t i = 0; i < found; i++) {
		assert_int_equal(values[i], first + i);
		assert_true(pairs[2 * i] == (float)(first + i) && pairs[2 * i + 1] == 0.5f);
		assert_int_equal(valid[i], (first + i) % 3 != 0);
	}
	free(values);
	free(pairs);
	free(valid);
	H5Tclose(type);
	H5Sclose(space);
	H5Dclose(set);
	H5Dclose(pairs_set);
	H5Dclose(valid_set);
	H5Fclose(file);
	return found;
}

static void live_path(const place *p, char path[200])
{
	snprintf(path, 200, "%s/run.h5", p->path);
}

/* ---- whole at the end ---- */

static void joins_are_whole_when_a_run_is_closed_and_when_it_goes_on(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(1u << 20);
	counters c = {0};
	char path[200];
	options.append = true;
	live_path(&p, path);
	for (int session = 0; session < 3; session++) {
		esk_error err = {0};
		esk_run *run = place_run(&p, "run", &options);
		put_many(run, &c, 30);
		assert_ok(esk_run_commit(run, NULL, &err), &err);
		put_many(run, &c, 3);
		place_run_close(run);
		check_join(path, 0, c.rows);
	}
	recording_verify(p.store);
	esk_reader *reader = place_reader(&p, "run"); /* and Esker's own readers */
	int64_t *values = place_read(reader, "measurements/all/value", 5, 20, 8);
	for (int64_t i = 0; i < 20; i++)
		assert_int_equal(values[i], 5 + i);
	free(values);
	static const uint64_t rows[] = {3, 4, 5};
	esk_dataset *dataset;
	esk_string *strings;
	uint8_t valid[3];
	esk_error err = {0};
	assert_ok(esk_reader_find(reader, "measurements/all/deep/pair", &dataset, &err), &err);
	assert_ok(esk_dataset_read_valid(dataset, rows, 3, valid, &err), &err);
	assert_true(valid[0] == 0 && valid[1] == 1 && valid[2] == 1);
	assert_ok(esk_reader_find(reader, "measurements/all/text", &dataset, &err), &err);
	assert_int_equal(esk_dataset_rows(dataset), c.rows - c.batches);
	assert_ok(esk_dataset_read_strings(dataset, rows, 3, &strings, &err), &err);
	esk_strings_free(strings);
	esk_reader_close(reader);
	assert_int_equal(
		place_query(&p, "SELECT count(*) FROM items WHERE joined = 'measurements/all'"), c.batches);
	place_close(&p);
}

/* Each segment joins what it has. */
static void each_sealed_segment_has_its_own_join(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(1u << 20);
	esk_error err = {0};
	counters c = {0};
	options.segment_bytes = 60000;
	esk_run *run = place_run(&p, "run", &options);
	for (int i = 0; i < 12; i++) {
		put_many(run, &c, 8);
		assert_ok(esk_run_commit(run, NULL, &err), &err);
	}
	place_run_close(run);
	int64_t segments = place_query(&p, "SELECT count(*) FROM segments"), first = 0;
	assert_true(segments > 2);
	for (int64_t s = 0; s < segments; s++) {
		char sql[200], path[300];
		esk_query *query;
		bool row;
		snprintf(sql, sizeof sql, "SELECT count(*) FROM items WHERE segment = %lld", (long long)s);
		int64_t items = place_query(&p, sql), before;
		snprintf(sql, sizeof sql, "SELECT count(*) FROM items WHERE segment < %lld", (long long)s);
		before = place_query(&p, sql);
		snprintf(sql, sizeof sql, "SELECT file FROM segments WHERE number = %lld", (long long)s);
		assert_ok(esk_query_open(p.store, sql, &query, &err), &err);
		assert_ok(esk_query_step(query, &row, &err), &err);
		snprintf(path, sizeof path, "%s/%s", p.path, esk_query_value(query, 0).data);
		esk_query_close(query);
		if (items > 0)
			check_join(path, first, rows_of(before, items));
		first += rows_of(before, items);
	}
	assert_int_equal(first, c.rows);
	recording_verify(p.store);
	place_close(&p);
}

/* A join never shows what is not so, while it is behind. */
static void a_join_of_a_growing_file_is_a_beginning_of_it(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(4u << 20);
	esk_error err = {0};
	counters c = {0};
	char path[200];
	int64_t shown = 0;
	options.commit_interval_ns = UINT64_MAX;
	live_path(&p, path);
	esk_run *run = place_run(&p, "run", &options);
	for (int round = 0; round < 20; round++) {
		put_many(run, &c, 20);
		assert_ok(esk_run_commit(run, NULL, &err), &err);
		int64_t now = check_join(path, 0, -1);
		assert_in_range(now, shown, c.rows);
		shown = now;
	}
	for (int i = 0; i < 5000 && shown < c.rows; i++) { /* it comes by itself, where nothing more is put */
		recording_sleep_ms(1);
		assert_ok(esk_run_commit(run, NULL, &err), &err);
		shown = check_join(path, 0, -1);
	}
	assert_int_equal(shown, c.rows);
	place_run_close(run);
	place_close(&p);
}

/* ---- what does not fit ---- */

static void items_unlike_the_first_are_refused(void **state)
{
	static const struct {
		const char *spec;
		uint64_t rows;
		esk_status status;
		const char *message;
	} cases[] = {{"a:i32 b:f64[2]", 1, ESK_OK, ""}, {"b:f64[2] a:i32", 3, ESK_OK, ""},
		{"a:i32", 1, ESK_ESHAPE, "have the array \"b\""},
		{"a:i32 b:f64[2] c:u8", 1, ESK_ESHAPE, "no array \"c\""},
		{"a:i64 b:f64[2]", 1, ESK_ETYPE, "\"a\""}, {"a:i32 b:f64[3]", 1, ESK_ESHAPE, "\"b\""},
		{"a:i32? b:f64[2]", 1, ESK_ETYPE, "\"a\""}, {"a:i32 b:f64[2]", 0, ESK_EINVAL, "empty"},
		{"a:i32 b:f64[2]", 2, ESK_OK, ""}};
	place p = place_make(*state);
	esk_run_options options = place_options(1u << 20);
	options.append = true;
	uint8_t zeros[100] = {0};
	for (int session = 0; session < 2; session++) { /* the second one knows from the file */
		esk_run *run = place_run(&p, "run", &options);
		for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
			char path[32];
			esk_error err = {0};
			esk_column *columns;
			esk_item_array arrays[3];
			size_t count;
			assert_ok(esk_columns_parse(cases[i].spec, &columns, &count, &err), &err);
			for (size_t a = 0; a < count; a++)
				arrays[a] = (esk_item_array){
					.column = &columns[a], .rows = cases[i].rows, .cells = zeros};
			snprintf(path, sizeof path, "i/%d_%zu", session, i);
			esk_item item = ESK_ITEM_INIT;
			item.path = path;
			item.arrays = arrays;
			item.array_count = count;
			item.join = "all/of/them";
			esk_status status = esk_run_put(run, &item, &err);
			bool kind =
				status == cases[i].status ||
				(cases[i].status == ESK_ETYPE && status == ESK_ESHAPE); /* either names it */
			if (!kind || strstr(err.message, cases[i].message) == NULL)
				fail_msg("session %d, case %zu: %s: %s", session, i, esk_status_name(status),
					err.message);
			esk_columns_free(columns);
		}
		place_run_close(run);
	}
	esk_reader *reader = place_reader(&p, "run");
	int32_t *found = place_read(reader, "all/of/them/a", 0, 2 * (1 + 3 + 2), 4);
	free(found);
	esk_reader_close(reader);
	recording_verify(p.store);
	place_close(&p);
}

/* ---- failures, death ---- */

static void joins_are_whole_after_failing_commits(void **state)
{
	esk_fault *fault;
	place p = ordeal_place_make(*state, &fault);
	esk_run_options options = place_options(1u << 20);
	counters c = {0};
	char path[200];
	live_path(&p, path);
	esk_run *run = place_run(&p, "run", &options);
	for (int round = 0; round < 10; round++) {
		put_many(run, &c, 5);
		ordeal_commit_without_room(run, fault, 2500 * (uint64_t)(round % 4));
		ordeal_commit_with_room(run, fault);
	}
	place_run_close(run);
	check_join(path, 0, c.rows);
	ordeal_place_end(&p, fault);
	recording_verify(p.store);
	place_close(&p);
}

static void die_while_putting(const char *path, void *shared)
{
	_Atomic int64_t *acknowledged = shared;
	place p = place_at(path);
	esk_error err = {0};
	esk_run_options options = place_options(1u << 20);
	options.append = true;
	options.commit_interval_ns = 3000000;
	esk_run *run = place_run(&p, "run", &options);
	counters c = {.batches = place_query(&p, "SELECT count(*) FROM items")};
	c.rows = rows_of(0, c.batches);
	for (int64_t end = c.batches + 400;;) {
		if (c.batches == end) /* only its death is to come */
			pause();
		if (put(run, &c, "measurements/all", &err) != ESK_OK)
			_exit(1);
		atomic_store(acknowledged, c.batches);
	}
}

static void check_after_death(const char *path, void *shared)
{
	place p = place_at(path);
	char live[200];
	int64_t items = place_query(&p, "SELECT count(*) FROM items");
	ordeal_found(shared, items);
	esk_run_options options = place_options(1u << 20);
	options.append = true;
	esk_run *run = place_run(&p, "run", &options); /* whoever goes on brings it up to date */
	place_run_close(run);
	live_path(&p, live);
	check_join(live, 0, rows_of(0, items));
	recording_verify(p.store);
	place_close(&p);
}

static void joins_go_on_after_death(void **state)
{
	ordeal o = {.live = die_while_putting,
		.look = check_after_death,
		.most = 3,
		.most_ms = 15,
		.dies_young = true};
	ordeal_run(*state, &o, test_scale(5));
}

/* Virtual datasets are copied with what they need of the format, and items with what they are. */
static void a_repaired_file_keeps_items_and_joins(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(1u << 20);
	esk_check_options check = ESK_CHECK_OPTIONS_INIT;
	esk_check_report report;
	esk_error err = {0};
	esk_h5 *h5;
	esk_h5_dataset *list;
	counters c = {0};
	char path[200];
	uint64_t address, size;
	uint32_t mask;
	live_path(&p, path);
	esk_run *run = place_run(&p, "run", &options);
	put_many(run, &c, 300);
	place_run_close(run);
	place_close(&p);
	assert_ok(esk_h5_open_read(esk_os_posix(), path, &h5, &err), &err);
	assert_ok(esk_h5_dataset_open(h5, ESK_ITEMS_PATH "/path", &list, &err), &err);
	assert_ok(esk_h5_locate_chunk(list, 0, &address, &size, &mask, &err), &err);
	esk_h5_close(h5, NULL);
	FILE *file = fopen(path, "r+b"); /* the first chunk of the list */
	assert_int_equal(fseek(file, (long)(address + size / 2), SEEK_SET), 0);
	for (int i = 0; i < 16; i++)
		fputc(0xFF, file);
	fclose(file);
	place_open(&p);
	assert_ok(esk_store_repair(p.store, &check, &report, &err), &err);
	assert_int_equal(report.findings, 1);
	recording_verify(p.store);
	check_join(path, 0, c.rows);
	esk_reader *reader = place_reader(&p, "run"); /* the arrays are all there */
	for (int64_t i = 0; i < 300; i += 20) {
		char name[80];
		esk_dataset *dataset;
		snprintf(name, sizeof name, "measurements/batch_%06lld/value", (long long)i);
		assert_ok(esk_reader_find(reader, name, &dataset, &err), &err);
		assert_int_equal(esk_dataset_rows(dataset), rows_of_batch(i));
	}
	esk_reader_close(reader);
	/* The catalogue has those that the rest of the list names. */
	assert_int_equal(place_query(&p, "SELECT count(*) FROM items"), 300 - 256);
	assert_int_equal(place_query(&p, "SELECT min(item) FROM items"), 256);
	place_close(&p);
}

/* ---- the format ---- */

/* Without a join the file is within the bounds of format 1.8, and with one all else is. */
static void nothing_but_a_join_needs_more_than_format_1_8(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(1u << 20);
	counters c = {0};
	char path[200], command[300], text[200] = "";
	live_path(&p, path);
	esk_run *run = place_run(&p, "run", &options);
	put_many(run, &c, 3);
	place_run_close(run);
	unsigned char head[9];
	FILE *file = fopen(path, "rb");
	assert_int_equal(fread(head, 1, sizeof head, file), sizeof head);
	fclose(file);
	assert_int_equal(head[8], 0); /* superblock version */
	snprintf(command, sizeof command, "h5dump -d /measurements/all/value %s", path);
	FILE *dump = popen(command, "r");
	assert_non_null(dump);
	bool found = false;
	while (fgets(text, sizeof text, dump) != NULL)
		found = found || strstr(text, "(0): 0, 1, 2") != NULL;
	assert_int_equal(pclose(dump), 0);
	assert_true(found);
	place_close(&p);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		ONE(joins_go_on_after_death), /* it forks: before there are threads */
		ONE(joins_are_whole_when_a_run_is_closed_and_when_it_goes_on),
		ONE(each_sealed_segment_has_its_own_join),
		ONE(a_join_of_a_growing_file_is_a_beginning_of_it),
		ONE(items_unlike_the_first_are_refused),
		ONE(joins_are_whole_after_failing_commits),
		ONE(a_repaired_file_keeps_items_and_joins),
		ONE(nothing_but_a_join_needs_more_than_format_1_8),
	};
	return test_run(tests);
}
