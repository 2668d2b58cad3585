/* Plain HDF5 files: what is written is there, whole, when the file is closed, and nothing is there before. */
#include "support/unit.h"

#include "h5/h5.h"
#include <esker/esker.h>
#include <sys/stat.h>

static esk_error err;

static esk_column column_of(const char *spec)
{
	esk_column *columns = NULL;
	size_t count = 0;
	assert_ok(esk_columns_parse(spec, &columns, &count, &err), &err);
	esk_column column = columns[0];
	esk_columns_free(columns);
	return column;
}

static esk_plain *create(const char *path)
{
	esk_plain *file = NULL;
	assert_ok(esk_plain_create(path, &file, &err), &err);
	return file;
}

static esk_dataset *find(esk_reader *reader, const char *path)
{
	esk_dataset *dataset = NULL;
	assert_ok(esk_reader_find(reader, path, &dataset, &err), &err);
	return dataset;
}

static uint32_t value_at(uint64_t i)
{
	return (uint32_t)(i * 2654435761u >> 7);
}

/* Appends `total` rows of three numbers in pieces that fit no chunk. */
static void write_numbers(
	esk_plain *file, const char *path, const char *spec, uint64_t total, uint64_t chunk_rows)
{
	uint32_t piece[3 * 1001];
	esk_column column = column_of(spec);
	column.chunk_rows = chunk_rows;
	assert_ok(esk_plain_begin(file, path, &column, &err), &err);
	for (uint64_t row = 0; row < total;) {
		uint64_t rows = total - row < 1001 ? total - row : 1 + row % 1001;
		for (uint64_t i = 0; i < 3 * rows; i++)
			piece[i] = value_at(3 * row + i);
		assert_ok(esk_plain_append(file, piece, rows, &err), &err);
		row += rows;
	}
	assert_ok(esk_plain_end(file, &err), &err);
}

static void check_numbers(esk_reader *reader, const char *path, uint64_t total)
{
	esk_dataset *dataset = find(reader, path);
	assert_int_equal(esk_dataset_rows(dataset), total);
	uint32_t *all = calloc(3 * total + 1, sizeof *all);
	assert_ok(esk_dataset_read(dataset, 0, (int64_t)total, 1, all, 3 * total * sizeof *all, &err), &err);
	for (uint64_t i = 0; i < 3 * total; i++)
		assert_int_equal(all[i], value_at(i));
	free(all);
}

static void arrays_of_any_length_come_back(void **state)
{
	static const uint64_t lengths[] = {0, 1, 99, 100, 101, 3200, 50000};
	const char *path = test_path(*state, "x.h5");
	char name[32];
	esk_plain *file = create(path);
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		snprintf(name, sizeof name, "group/n%d", (int)lengths[i]);
		write_numbers(file, name, i % 2 ? "x:u32[3]" : "x:u32[3]@none", lengths[i], 100);
	}
	assert_ok(esk_plain_close(file, &err), &err);
	esk_reader *reader = NULL;
	assert_ok(esk_reader_open_file(path, &reader, &err), &err);
	assert_int_equal(esk_reader_dataset_count(reader), sizeof lengths / sizeof *lengths);
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		snprintf(name, sizeof name, "group/n%d", (int)lengths[i]);
		check_numbers(reader, name, lengths[i]);
	}
	esk_reader_close(reader);
}

static void texts_and_an_array_after_them_come_back(void **state)
{
	const char *path = test_path(*state, "x.h5");
	static const esk_string texts[] = {{"one", 3}, {NULL, 0}, {"dr\xc3\xa9i", 5}};
	esk_column column = column_of("x:str");
	esk_plain *file = create(path);
	assert_ok(esk_plain_begin(file, "infos/json", &column, &err), &err);
	assert_ok(esk_plain_append(file, texts, 2, &err), &err);
	assert_ok(esk_plain_append(file, texts + 2, 1, &err), &err);
	write_numbers(file, "numbers", "x:u32[3]", 7, 4); /* ends the texts */
	assert_ok(esk_plain_close(file, &err), &err);
	esk_reader *reader = NULL;
	esk_string *found = NULL;
	uint64_t rows[] = {2, 0, 1};
	assert_ok(esk_reader_open_file(path, &reader, &err), &err);
	assert_ok(esk_dataset_read_strings(find(reader, "infos/json"), rows, 3, &found, &err), &err);
	assert_int_equal(found[0].size, 5);
	assert_memory_equal(found[0].data, "dr\xc3\xa9i", 5);
	assert_int_equal(found[1].size, 3);
	assert_int_equal(found[2].size, 0);
	esk_strings_free(found);
	check_numbers(reader, "numbers", 7);
	esk_reader_close(reader);
}

static void groups_and_attributes_are_there(void **state)
{
	const char *path = test_path(*state, "x.h5");
	esk_plain *file = create(path);
	assert_ok(esk_plain_group(file, "a/b", &err), &err);
	assert_ok(esk_plain_group(file, "a/b", &err), &err);
	assert_ok(esk_plain_set_text(file, "a/b", "unit", "\xc2\xb5s", &err), &err);
	assert_ok(esk_plain_set_integer(file, "/", "version", INT64_MIN, &err), &err);
	write_numbers(file, "a/n", "x:u32[3]", 5, 5);
	assert_ok(esk_plain_set_integer(file, "a/n", "count", 5, &err), &err);
	assert_ok(esk_plain_close(file, &err), &err);
	esk_h5 *h5 = NULL;
	char *text = NULL;
	int64_t version = 0, count = 0;
	assert_ok(esk_h5_open_read(esk_os_posix(), path, &h5, &err), &err);
	assert_ok(esk_h5_get_text(h5, "a/b", "unit", &text, &err), &err);
	assert_string_equal(text, "\xc2\xb5s");
	assert_ok(esk_h5_get_i64(h5, "/", "version", &version, &err), &err);
	assert_int_equal(version, INT64_MIN);
	assert_ok(esk_h5_get_i64(h5, "a/n", "count", &count, &err), &err);
	assert_int_equal(count, 5);
	free(text);
	assert_ok(esk_h5_close(h5, &err), &err);
}

static void what_is_discarded_leaves_nothing(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "x.h5");
	esk_plain *file = create(path);
	write_numbers(file, "numbers", "x:u32[3]", 5000, 100);
	esk_plain_discard(file);
	assert_int_equal(rmdir(dir->path), 0); /* empty, then */
	assert_int_equal(mkdir(dir->path, 0700), 0);
}

static void a_file_that_is_there_is_not_touched(void **state)
{
	const char *path = test_path(*state, "x.h5");
	FILE *other = fopen(path, "w");
	fputs("mine", other);
	fclose(other);
	esk_plain *file = NULL;
	assert_int_equal(esk_plain_create(path, &file, &err), ESK_EEXIST);
	assert_non_null(strstr(err.message, path));
	char text[8] = "";
	other = fopen(path, "r");
	assert_int_equal(fread(text, 1, sizeof text, other), 4);
	fclose(other);
	assert_string_equal(text, "mine");
}

static void mistakes_are_told(void **state)
{
	esk_plain *file = create(test_path(*state, "x.h5"));
	esk_column column = column_of("x:u32[3]");
	assert_int_equal(esk_plain_append(file, "", 1, &err), ESK_EINVAL);
	assert_ok(esk_plain_begin(file, "a", &column, &err), &err);
	assert_int_equal(esk_plain_begin(file, "a", &column, &err), ESK_EEXIST);
	assert_int_equal(esk_plain_append(file, "", 1, &err), ESK_EINVAL);
	assert_int_equal(esk_plain_group(file, "a", &err), ESK_EEXIST);
	assert_int_equal(esk_plain_set_text(file, "b", "name", "text", &err), ESK_ENOTFOUND);
	column.nullable = true;
	assert_int_equal(esk_plain_begin(file, "c", &column, &err), ESK_EINVAL);
	assert_ok(esk_plain_close(file, &err), &err);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, test_dir_make, test_dir_remove)
	const struct CMUnitTest tests[] = {
		IN_DIRECTORY(arrays_of_any_length_come_back),
		IN_DIRECTORY(texts_and_an_array_after_them_come_back),
		IN_DIRECTORY(groups_and_attributes_are_there),
		IN_DIRECTORY(what_is_discarded_leaves_nothing),
		IN_DIRECTORY(a_file_that_is_there_is_not_touched),
		IN_DIRECTORY(mistakes_are_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
