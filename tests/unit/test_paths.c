/* Columns whose names are paths: datasets in groups below their stream's, found whole or by their end, over
 * segments, after a crash's repair and from the files alone. */
#include "unit/recording_place.h"

#include <hdf5.h>

#define SPEC "goal/position:f32[3] goal/camera:u8[8,8]? goal/deep/down:i64 plain:i32? position:u8"

static void append(esk_stream *stream, uint64_t i)
{
	float position[3] = {(float)i, (float)i + 0.5f, -1};
	uint8_t camera[64], small = (uint8_t)i;
	int64_t down = (int64_t)i * 3;
	int32_t plain = -(int32_t)i;
	esk_error err = {0};
	memset(camera, (int)(i & 0xFF), sizeof camera);
	const void *cells[] = {
		position, i % 3 == 0 ? NULL : camera, &down, i % 2 == 0 ? NULL : &plain, &small};
	assert_ok(esk_stream_append(stream, cells, NULL, &err), &err);
}

static void check_rows(esk_reader *reader, uint64_t rows)
{
	esk_error err = {0};
	esk_dataset *camera;
	float *positions = place_read(reader, "goal/position", 0, rows, 12);
	int64_t *downs = place_read(reader, "/goal/deep/down", 0, rows, 8);
	int32_t *plains = place_read(reader, "plain", 0, rows, 4);
	uint8_t valid;
	assert_ok(esk_reader_find(reader, "camera", &camera, &err), &err); /* by its end, which is unique */
	for (uint64_t i = 0; i < rows; i++) {
		assert_true(positions[3 * i] == (float)i && positions[3 * i + 2] == -1);
		assert_int_equal(downs[i], i * 3);
		assert_int_equal(plains[i], i % 2 == 0 ? 0 : -(int32_t)i);
		assert_ok(esk_dataset_read_valid(camera, &i, 1, &valid, &err), &err);
		assert_int_equal(valid, i % 3 != 0);
	}
	free(positions);
	free(downs);
	free(plains);
}

static void record(place *p, const char *run_name, const char *stream, uint64_t rows)
{
	esk_run_options options = place_options(1u << 20);
	esk_run *run = place_run(p, run_name, &options);
	esk_stream *s = place_stream(run, stream, SPEC);
	for (uint64_t i = 0; i < rows; i++)
		append(s, i);
	place_run_close(run);
}

static void columns_in_groups_are_found_by_path_and_by_its_end(void **state)
{
	place p = place_make(*state);
	esk_error err = {0};
	esk_dataset *dataset;
	esk_array array;
	record(&p, "run", "/", 40);
	esk_reader *reader = place_reader(&p, "run");
	check_rows(reader, 40);
	assert_ok(esk_reader_find(reader, "deep/down", &dataset, &err), &err);
	esk_dataset_info info = {.struct_size = sizeof info};
	assert_ok(esk_dataset_get_info(dataset, &info, &err), &err);
	assert_string_equal(info.path, "goal/deep/down");
	assert_string_equal(info.column.name, "goal/deep/down");
	/* One of that very path comes first, others of that end or not. */
	assert_ok(esk_reader_find(reader, "position", &dataset, &err), &err);
	assert_ok(esk_dataset_get_info(dataset, &info, &err), &err);
	assert_string_equal(info.path, "position");
	assert_int_equal(esk_reader_find(reader, "own", &dataset, &err), ESK_ENOTFOUND);
	assert_ok(esk_store_resolve(p.store, "h5://run/goal/position/5", &array, &err), &err);
	assert_true(array.rank == 1 && array.shape[0] == 3 && ((float *)array.data)[0] == 5);
	esk_array_release(&array);
	assert_int_equal(
		place_query(&p, "SELECT count(*) FROM columns WHERE name = path AND path = 'goal/camera'"),
		1);
	esk_reader_close(reader);
	recording_verify(p.store);
	place_close(&p);
}

static void columns_in_groups_of_a_stream_survive_rotation_append_and_reindex(void **state)
{
	place p = place_make(*state);
	esk_error err = {0};
	esk_check_report report;
	esk_run_options options = place_options(128u << 10);
	options.segment_bytes = 24u << 10;
	options.append = true;
	for (uint64_t session = 0; session < 2; session++) {
		esk_run *run = place_run(&p, "run", &options);
		esk_stream *stream = place_stream(run, "arm", SPEC); /* the second time: matched by names */
		for (uint64_t i = 0; i < 60; i++) {
			append(stream, 60 * session + i);
			if (i % 20 == 19)
				assert_ok(esk_run_commit(run, NULL, &err), &err);
		}
		place_run_close(run);
	}
	assert_true(place_files(&p) > 1);
	recording_verify(p.store);
	place_close(&p);
	assert_ok(esk_store_reindex(p.path, NULL, &report, &err), &err);
	assert_int_equal(report.findings, 0);
	place_open(&p);
	assert_int_equal(
		place_query(&p, "SELECT count(*) FROM columns WHERE path = 'arm/goal/deep/down'"), 1);
	esk_reader *reader = place_reader(&p, "run");
	int64_t *downs = place_read(reader, "arm/goal/deep/down", 0, 120, 8);
	int64_t *again = place_read(reader, "goal/deep/down", 0, 120, 8);
	for (int64_t i = 0; i < 120; i++)
		assert_true(downs[i] == 3 * i && again[i] == 3 * i);
	free(downs);
	free(again);
	esk_reader_close(reader);
	place_close(&p);
}

static void names_in_each_others_way_are_refused(void **state)
{
	static const struct {
		const char *stream, *spec, *message;
		esk_status status;
	} cases[] = {
		{"/", "a:u8 a/b:u8", "below", ESK_EINVAL},
		{"/", "a/b:u8 a:u8", "below", ESK_EINVAL},
		{"/", "x:u8? x_valid/y:u8", "below", ESK_EINVAL},
		{"/", "g/x:u8? g/x_valid:u8", "twice", ESK_EINVAL},
		{"/", "taken/a:u8", "\"taken/a\" already", ESK_EEXIST},
		{"/", "taken/a/x:u8", "\"taken/a\" already", ESK_EEXIST},
		{"/", "taken:u8", "\"taken\" already", ESK_EEXIST},
		{"/", "deep:u8", "\"deep\" already", ESK_EEXIST},
		{"taken/a", "x:u8", "\"taken/a\" already", ESK_EEXIST},
		{"deep", "er/in/y:u8", "\"deep/er/in/y\" already", ESK_EEXIST},
		{"deep/er", "in/y_valid:u8", "\"deep/er/in/y_valid\" already", ESK_EEXIST},
		{"a//b", "x:u8", "empty", ESK_EINVAL},
		{"/a", "x:u8", "empty", ESK_EINVAL},
		{"a/", "x:u8", "empty", ESK_EINVAL},
		{"a/../b", "x:u8", "starts with '.'", ESK_EINVAL},
		{"a/b:c", "x:u8", "':'", ESK_EINVAL},
		{"taken", "b:u8", "exists", ESK_EINVAL},
	};
	place p = place_make(*state);
	esk_run_options options = place_options(1u << 20);
	esk_run *run = place_run(&p, "run", &options);
	place_stream(run, "taken", "a:u8");
	place_stream(run, "deep/er/in", "y:u8?");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		esk_error err = {0};
		esk_column *columns;
		esk_stream *stream = NULL;
		size_t count;
		assert_ok(esk_columns_parse(cases[i].spec, &columns, &count, &err), &err);
		esk_status status = esk_run_stream(run, cases[i].stream, columns, count, &stream, &err);
		if (status != cases[i].status || strstr(err.message, cases[i].message) == NULL)
			fail_msg("\"%s\": found %s: %s", cases[i].spec, esk_status_name(status), err.message);
		assert_null(stream);
		esk_columns_free(columns);
	}
	place_stream(run, "/", "free/x:u8? free/y:u8 taken/x:u8"); /* the run goes on */
	place_run_close(run);
	recording_verify(p.store);
	place_close(&p);
}

/* A stream of rows, and below its group one of their values: as lists are kept. */
static void streams_lie_in_each_others_groups(void **state)
{
	char longest[300] = "";
	place p = place_make(*state);
	esk_run_options options = place_options(1u << 20);
	esk_check_report report;
	esk_error err = {0};
	esk_array array;
	char ref[600];
	options.append = true;
	options.segment_bytes = 20000;
	for (int part = 0; part < 12; part++)
		strcat(longest, part == 0 ? "19-bytes-of-a-part." : "/19-bytes-of-a-part.");
	assert_int_equal(strlen(longest), 240 - 1);
	for (int session = 0; session < 2; session++) {
		esk_run *run = place_run(&p, "run", &options);
		esk_stream *scope = place_stream(run, "scope", "t:i64 x/offsets:i64"),
			   *values = place_stream(run, "scope/x", "values:i64"),
			   *deep = place_stream(run, longest, "column-of-a-name:i64?");
		for (int64_t i = 60 * session; i < 60 * session + 60; i++) {
			int64_t end = i + 1;
			const void *row[] = {&i, &end}, *value[] = {&i};
			esk_rows_part parts[] = {{.stream = values, .rows = 1, .cells = value},
				{.stream = scope, .rows = 1, .cells = row},
				{.stream = deep, .rows = 1, .cells = value}};
			assert_ok(esk_run_append(run, parts, 3, &err), &err);
			if (i % 20 == 19)
				assert_ok(esk_run_commit(run, NULL, &err), &err);
		}
		place_run_close(run);
	}
	assert_true(place_files(&p) > 1);
	recording_verify(p.store);
	for (int turn = 0; turn < 2; turn++) {
		place_close(&p);
		if (turn == 1)
			assert_ok(esk_store_reindex(p.path, NULL, &report, &err), &err);
		place_open(&p);
		assert_int_equal(place_query(&p, "SELECT count(*) FROM v_columns WHERE rows = 120"), 4);
		assert_int_equal(
			place_query(&p, "SELECT rows FROM v_columns WHERE stream = 'scope/x' AND path = "
					"'scope/x/values'"),
			120);
		esk_reader *reader = place_reader(&p, "run");
		int64_t *found = place_read(reader, "scope/x/values", 0, 120, 8),
			*ends = place_read(reader, "offsets", 0, 120, 8);
		for (int64_t i = 0; i < 120; i++)
			assert_true(found[i] == i && ends[i] == i + 1);
		free(found);
		free(ends);
		esk_reader_close(reader);
		snprintf(ref, sizeof ref, "h5://run/%s/column-of-a-name/77", longest);
		assert_ok(esk_store_resolve(p.store, ref, &array, &err), &err);
		assert_int_equal(*(int64_t *)array.data, 77);
		esk_array_release(&array);
	}
	place_close(&p);
}

/* A foreign file in a store once kept it from opening, where its groups or names are none of Esker's. */
static void nested_groups_of_a_foreign_file_are_catalogued(void **state)
{
	static const char *const paths[] = {"top", "g/b/c", "g/d", "with:colon/x", ".hidden"};
	place p = place_make(*state);
	char path[200];
	hsize_t shape = 4;
	int values[4] = {1, 2, 3, 4};
	place_close(&p);
	snprintf(path, sizeof path, "%s/theirs.h5", p.path);
	hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
	hid_t links = H5Pcreate(H5P_LINK_CREATE), space = H5Screate_simple(1, &shape, NULL);
	H5Pset_create_intermediate_group(links, 1);
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		hid_t set = H5Dcreate2(file, paths[i], H5T_STD_I32LE, space, links, H5P_DEFAULT, H5P_DEFAULT);
		assert_true(H5Dwrite(set, H5T_NATIVE_INT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
		H5Dclose(set);
	}
	H5Sclose(space);
	H5Pclose(links);
	H5Fclose(file);
	place_open(&p);
	assert_int_equal(place_query(&p, "SELECT count(*) FROM v_columns WHERE run = 'theirs'"), 3);
	assert_int_equal(
		place_query(&p, "SELECT rows FROM v_columns WHERE stream = 'g' AND column = 'b/c'"), 4);
	esk_reader *reader = place_reader(&p, "theirs");
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		int32_t *rows = place_read(reader, paths[i], 0, 4, 4);
		assert_memory_equal(rows, values, sizeof values);
		free(rows);
	}
	esk_reader_close(reader);
	place_close(&p);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		ONE(columns_in_groups_are_found_by_path_and_by_its_end),
		ONE(columns_in_groups_of_a_stream_survive_rotation_append_and_reindex),
		ONE(nested_groups_of_a_foreign_file_are_catalogued),
		ONE(names_in_each_others_way_are_refused),
		ONE(streams_lie_in_each_others_groups),
	};
	return test_run(tests);
}
