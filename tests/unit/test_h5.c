/* h5: what is written comes back, from here and from stock libhdf5. */
#include "unit/h5_support.h"

#include <pthread.h>

/* ---- datasets ---- */

static const char *const dtypes[] = {"bool", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f16",
	"f32", "f64", "c64", "c128", "str", "str1", "str33"};

static void every_dtype_comes_back_from_the_file(void **state)
{
	test_dir *dir = *state;
	esk_h5 *file = make(dir, "dtypes.h5");
	char path[64], spec[64];
	esk_h5_dataset *dataset;

	for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
		snprintf(path, sizeof path, "by/%s", dtypes[i]);
		snprintf(spec, sizeof spec, "c:%s[3,2]", dtypes[i]);
		add(file, path, spec, 4);
	}
	commit(file);
	strcpy(spec, esk_h5_path(file));
	close_file(file);
	file = open_to_read(spec);
	for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
		esk_dtype dtype;
		assert_ok(esk_dtype_parse(dtypes[i], &dtype, &err), &err);
		snprintf(path, sizeof path, "/by/%s", dtypes[i]);
		assert_ok(esk_h5_dataset_open(file, path, &dataset, &err), &err);
		const esk_h5_info *info = esk_h5_dataset_info(dataset);
		assert_int_equal(info->column.dtype.kind, dtype.kind);
		assert_int_equal(info->column.dtype.size_bytes, dtype.size_bytes);
		assert_int_equal(info->column.rank, 2);
		assert_int_equal(info->column.shape[0], 3);
		assert_int_equal(info->column.shape[1], 2);
		assert_int_equal(info->chunk_shape[0], 4);
		assert_int_equal(info->rows, 0);
		assert_string_equal(info->column.name, dtypes[i]);
		assert_string_equal(info->path, path + 1);
		assert_true(info->readable && info->chunked);
		assert_int_equal(info->raw_readable, dtype.kind != ESK_STRING);
	}
	close_file(file);
}

static void every_codec_is_kept_as_it_was_built(void **state)
{
	static const char *const codecs[] = {"none", "gzip:1", "gzip:9-shuffle", "gzip:4+fletcher32", "lzf",
		"szip", "zstd:3", "lz4", "blosc", "bitshuffle", "none+fletcher32"};
	test_dir *dir = *state;
	esk_h5 *file = make(dir, "codecs.h5");

	for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++) {
		esk_column column = column_of("c:u16[40,8]");
		esk_pipeline pipeline;
		esk_h5_dataset *dataset;
		assert_ok(esk_pipeline_build(codecs[i], &column, 10, &pipeline, &err), &err);
		assert_ok(
			esk_h5_dataset_create(file, codecs[i], &column, 10, &pipeline, &dataset, &err), &err);
		const esk_h5_info *info = esk_h5_dataset_info(dataset);
		assert_int_equal(info->pipeline.count, pipeline.count);
		assert_int_equal(info->pipeline.chunk_bytes, pipeline.chunk_bytes);
		assert_int_equal(info->pipeline.element_bytes, pipeline.element_bytes);
		for (uint32_t f = 0; f < pipeline.count; f++) {
			const esk_filter *made = &pipeline.filters[f], *kept = &info->pipeline.filters[f];
			assert_int_equal(kept->id, made->id);
			assert_int_equal(kept->optional, made->optional);
			assert_int_equal(kept->value_count, made->value_count);
			assert_memory_equal(
				kept->values, made->values, made->value_count * sizeof *made->values);
		}
		assert_true(info->raw_readable);
		append(dataset, 0, (unsigned char)i);
	}
	commit(file);
	close_file(file);
}

static void labels_are_attributes_and_come_back(void **state)
{
	test_dir *dir = *state;
	esk_h5 *file = make(dir, "labels.h5");
	esk_column column = column_of("x:f32");
	esk_pipeline pipeline;
	esk_h5_dataset *dataset;
	char *text = NULL;

	strcpy(column.units, "µm/s²");
	strcpy(column.long_name, "an acceleration");
	assert_ok(esk_pipeline_build("gzip:1", &column, 8, &pipeline, &err), &err);
	assert_ok(esk_h5_dataset_create(file, "x", &column, 8, &pipeline, &dataset, &err), &err);
	assert_string_equal(esk_h5_dataset_info(dataset)->column.units, column.units);
	assert_string_equal(esk_h5_dataset_info(dataset)->column.long_name, column.long_name);
	assert_ok(esk_h5_get_text(file, "x", "units", &text, &err), &err);
	assert_string_equal(text, column.units);
	free(text);
	close_file(file);
}

static void chunks_and_strings_read_the_same_in_stock_libhdf5(void **state)
{
	test_dir *dir = *state;
	esk_h5 *file = make(dir, "data.h5");
	esk_h5_dataset *pixels = add(file, "s/pixels", "c:u16[5,3]@gzip:1", 4);
	esk_h5_dataset *notes = add(file, "s/notes", "n:str[2]", 3);
	esk_string strings[6] = {{"a", 1}, {"", 0}, {"caf\xc3\xa9", 5}, {"d", 1}, {NULL, 0}, {"end", 3}};
	char path[128], *read[8] = {0};
	uint16_t values[12 * 15];
	hid_t id, dataset, type;

	for (uint64_t i = 0; i < 3; i++)
		append(pixels, i, (unsigned char)(i + 1));
	assert_ok(esk_h5_set_rows(notes, 4, &err), &err);
	assert_ok(esk_h5_write_strings(notes, 0, 3, strings, &err), &err);
	commit(file);
	strcpy(path, esk_h5_path(file));
	close_file(file);
	assert_int_not_equal(access(strcat(path, "-journal"), F_OK), 0);
	path[strlen(path) - strlen("-journal")] = '\0';

	id = stock_open(path);
	dataset = H5Dopen2(id, "s/pixels", H5P_DEFAULT);
	assert_true(H5Dread(dataset, H5T_NATIVE_UINT16, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
	for (size_t i = 0; i < 12 * 15; i++)
		assert_int_equal(values[i], (i / 60 + 1) * 0x0101);
	H5Dclose(dataset);
	dataset = H5Dopen2(id, "s/notes", H5P_DEFAULT);
	type = H5Dget_type(dataset);
	assert_true(H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, read) >= 0);
	assert_string_equal(read[0], "a");
	assert_string_equal(read[2], "caf\xc3\xa9");
	assert_string_equal(read[5], "end");
	assert_null(read[6]); /* not written yet */
	for (size_t i = 0; i < 8; i++)
		H5free_memory(read[i]);
	H5Tclose(type);
	H5Dclose(dataset);
	H5Fclose(id);
}

static void the_same_path_is_the_same_handle_until_it_is_deleted(void **state)
{
	test_dir *dir = *state;
	esk_h5 *file = make(dir, "handles.h5");
	esk_h5_dataset *made = add(file, "g/x", "x:u8", 100), *opened = NULL;
	unsigned char byte = 1;

	assert_ok(esk_h5_dataset_open(file, "/g/x/", &opened, &err), &err);
	assert_ptr_equal(made, opened);
	assert_int_equal(esk_h5_delete(file, "g", &err), ESK_OK);
	assert_int_equal(esk_h5_dataset_open(file, "g/x", &opened, &err), ESK_ENOTFOUND);
	assert_int_equal(esk_h5_set_rows(made, 5, &err), ESK_ENOTFOUND);
	assert_int_equal(esk_h5_write_chunk(made, 0, 0, &byte, 1, &err), ESK_ENOTFOUND);
	assert_ptr_not_equal(add(file, "g/x", "x:u8", 100), made);
	close_file(file);
}

/* ---- refusals ---- */

static void wrong_requests_are_refused_with_what_and_where(void **state)
{
	test_dir *dir = *state;
	esk_h5 *file = make(dir, "refuse.h5"), *other = NULL;
	esk_h5_dataset *x = add(file, "x", "x:u8[4]", 10), *dataset = NULL;
	esk_h5_dataset *text = add(file, "t", "t:str", 10);
	esk_column column = column_of("c:u8");
	esk_pipeline pipeline;
	esk_string nul = {"a\0b", 3};
	unsigned char bytes[40] = {0};
	char path[128];

	assert_ok(esk_pipeline_build("none", &column, 10, &pipeline, &err), &err);
	assert_int_equal(esk_h5_create(esk_os_posix(), esk_h5_path(file), &other, &err), ESK_EEXIST);
	assert_int_equal(esk_h5_open_write(esk_os_posix(), esk_h5_path(file), &other, NULL, &err), ESK_EBUSY);
	assert_int_equal(esk_h5_open_read(esk_os_posix(), esk_h5_path(file), &other, &err), ESK_ENOTFOUND);
	assert_int_equal(
		esk_h5_dataset_create(file, "x", &column, 10, &pipeline, &dataset, &err), ESK_EEXIST);
	assert_non_null(strstr(err.message, "'/x'"));
	assert_int_equal(
		esk_h5_dataset_create(file, "x/y", &column, 10, &pipeline, &dataset, &err), ESK_EEXIST);
	assert_int_equal(esk_h5_dataset_create(file, "big", &column, UINT64_MAX, &pipeline, &dataset, &err),
		ESK_ERANGE);
	assert_int_equal(
		esk_h5_dataset_create(file, "none", &column, 0, &pipeline, &dataset, &err), ESK_ERANGE);
	for (const char *const *bad = (const char *const[]){"a//b", "./a", "a/..", "a/../b", "a\nb", NULL};
		*bad; bad++)
		assert_int_equal(esk_h5_make_group(file, *bad, &err), ESK_EINVAL);
	assert_int_equal(esk_h5_make_group(file, "x", &err), ESK_EEXIST);
	assert_int_equal(esk_h5_make_group(file, "x/below", &err), ESK_EEXIST);
	assert_int_equal(esk_h5_delete(file, "/", &err), ESK_EINVAL);
	assert_int_equal(esk_h5_delete(file, "gone", &err), ESK_ENOTFOUND);
	assert_int_equal(esk_h5_dataset_open(file, "/", &dataset, &err), ESK_EINVAL);
	assert_int_equal(esk_h5_dataset_open(file, "no/such", &dataset, &err), ESK_ENOTFOUND);
	assert_int_equal(esk_h5_write_chunk(x, 0, 0, bytes, 40, &err), ESK_ERANGE);
	assert_int_equal(esk_h5_write_chunk(x, UINT64_MAX, 0, bytes, 40, &err), ESK_ERANGE);
	assert_int_equal(esk_h5_write_strings(x, 0, 0, NULL, &err), ESK_ETYPE);
	assert_int_equal(esk_h5_write_strings(text, 0, 1, &nul, &err), ESK_ERANGE);
	assert_ok(esk_h5_set_rows(text, 1, &err), &err);
	assert_int_equal(esk_h5_write_strings(text, 0, 1, &nul, &err), ESK_EINVAL);
	assert_null(dataset);
	assert_null(other);
	commit(file);
	strcpy(path, esk_h5_path(file));
	other = open_to_read(path);
	assert_int_equal(esk_h5_make_group(other, "g", &err), ESK_EACCES);
	assert_int_equal(esk_h5_set_i64(other, "/", "a", 1, &err), ESK_EACCES);
	assert_int_equal(esk_h5_commit_begin(other, &err), ESK_EACCES);
	close_file(other);
	close_file(file);
}

static void files_that_are_not_hdf5_are_refused(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "noise.h5");
	esk_h5 *file = NULL;
	FILE *noise = fopen(path, "w");

	for (int i = 0; i < 5000; i++)
		fputc(i * 7 % 251, noise);
	fclose(noise);
	assert_int_equal(esk_h5_open_read(esk_os_posix(), path, &file, &err), ESK_ECORRUPT);
	assert_non_null(strstr(err.message, path));
	assert_int_equal(esk_h5_open_write(esk_os_posix(), path, &file, NULL, &err), ESK_ECORRUPT);
	assert_int_equal(
		esk_h5_open_read(esk_os_posix(), test_path(dir, "absent.h5"), &file, &err), ESK_ENOTFOUND);
	assert_null(file);
}

static int printed;

static herr_t count_print(hid_t stack, void *arg)
{
	(void)stack;
	(void)arg;
	printed++;
	return 0;
}

static void failures_print_nothing_and_leave_the_programs_own_printing(void **state)
{
	test_dir *dir = *state;
	esk_h5 *file = make(dir, "quiet.h5");
	esk_h5_dataset *dataset;
	H5E_auto2_t function, found;
	void *arg, *found_arg;

	H5Eget_auto2(H5E_DEFAULT, &function, &arg);
	H5Eset_auto2(H5E_DEFAULT, count_print, dir);
	assert_false(esk_h5_exists(file, "no/such/thing"));
	assert_int_equal(esk_h5_dataset_open(file, "no/such", &dataset, &err), ESK_ENOTFOUND);
	assert_int_equal(printed, 0);
	H5Eget_auto2(H5E_DEFAULT, &found, &found_arg);
	assert_true(found == count_print && found_arg == dir);
	assert_true(H5Fopen("/no/such", H5F_ACC_RDONLY, H5P_DEFAULT) < 0);
	assert_int_equal(printed, 1);
	H5Eset_auto2(H5E_DEFAULT, function, arg);
	close_file(file);
}

static void superblocks_that_lock_a_killed_file_are_not_written_to(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "latest.h5");
	hid_t plist = H5Pcreate(H5P_FILE_ACCESS), id;
	esk_h5 *file = NULL;

	H5Pset_libver_bounds(plist, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
	id = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, plist);
	H5Pclose(plist);
	H5Fclose(id);
	assert_int_equal(esk_h5_open_write(esk_os_posix(), path, &file, NULL, &err), ESK_EUNSUPPORTED);
	id = stock_open(path); /* and it is as it was */
	H5Fclose(id);
	close_file(open_to_read(path));
}

static void version_and_plugin_path_are_those_of_libhdf5(void **state)
{
	unsigned major, minor, release;
	char text[32];

	(void)state;
	H5get_libversion(&major, &minor, &release);
	snprintf(text, sizeof text, "%u.%u.%u", major, minor, release);
	assert_string_equal(esk_h5_version(), text);
	assert_true(esk_h5_plugin_path()[0] == '/' || getenv("HDF5_PLUGIN_PATH") != NULL);
}

/* ---- attributes ---- */

static void attributes_come_back_and_say_what_they_are_not(void **state)
{
	test_dir *dir = *state;
	esk_h5 *file = make(dir, "attributes.h5");
	uint64_t values[3] = {0, 1, UINT64_MAX}, read[4] = {7, 7, 7, 7};
	int64_t number = 0;
	char *text = NULL;

	assert_ok(esk_h5_make_group(file, "a/b", &err), &err);
	assert_ok(esk_h5_set_u64s(file, "a/b", "v", values, 3, &err), &err);
	assert_ok(esk_h5_set_i64(file, "/", "n", INT64_MIN, &err), &err);
	assert_ok(esk_h5_set_text(file, "/", "t", "", &err), &err);
	assert_int_equal(esk_h5_get_u64s(file, "a/b", "v", read, 4, &err), ESK_ESHAPE);
	assert_int_equal(read[0], 7);
	assert_ok(esk_h5_get_u64s(file, "/a/b/", "v", read, 3, &err), &err);
	assert_memory_equal(read, values, sizeof values);
	assert_ok(esk_h5_get_i64(file, "", "n", &number, &err), &err);
	assert_true(number == INT64_MIN);
	assert_ok(esk_h5_get_text(file, "/", "t", &text, &err), &err);
	assert_string_equal(text, "");
	free(text);
	assert_int_equal(esk_h5_get_text(file, "/", "n", &text, &err), ESK_ETYPE);
	assert_int_equal(esk_h5_get_i64(file, "/", "t", &number, &err), ESK_ETYPE);
	assert_int_equal(esk_h5_get_i64(file, "/", "no", &number, &err), ESK_ENOTFOUND);
	assert_int_equal(esk_h5_get_i64(file, "/no", "n", &number, &err), ESK_ENOTFOUND);
	assert_int_equal(esk_h5_set_i64(file, "/no", "n", 1, &err), ESK_ENOTFOUND);
	assert_int_equal(esk_h5_set_u64s(file, "/", "n", values, 0, &err), ESK_ERANGE);
	assert_ok(esk_h5_set_text(file, "/", "n", "now text", &err), &err);
	assert_ok(esk_h5_get_text(file, "/", "n", &text, &err), &err);
	assert_string_equal(text, "now text");
	free(text);
	close_file(file);
}

static void text_of_any_length_is_kept(void **state)
{
	static const size_t sizes[] = {1, 59999, 60000, 60001, 70000, 100, 3000000, 0, 65536};
	test_dir *dir = *state;
	esk_h5 *file = make(dir, "text.h5");
	char path[128];

	strcpy(path, esk_h5_path(file));
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		char *text = malloc(sizes[i] + 1), *read = NULL;
		memset(text, 'a' + (int)i, sizes[i]);
		text[sizes[i]] = '\0';
		assert_ok(esk_h5_set_text(file, "/", "long", text, &err), &err);
		commit(file);
		esk_h5 *reader = open_to_read(path);
		assert_ok(esk_h5_get_text(reader, "/", "long", &read, &err), &err);
		assert_string_equal(read, text);
		close_file(reader);
		free(read);
		free(text);
	}
	close_file(file);
}

static void attributes_set_at_each_commit_make_nothing_grow(void **state)
{
	test_dir *dir = *state;
	esk_h5 *file = make(dir, "still.h5");
	uint64_t bytes = 0;

	assert_ok(esk_h5_make_group(file, "s", &err), &err);
	for (uint64_t i = 0; i < 200; i++) {
		char text[64];
		snprintf(text, sizeof text, "%0*d", (int)(i % 40 + 1), 1); /* of changing length */
		assert_ok(esk_h5_set_u64s(file, "s", "rows", &i, 1, &err), &err);
		assert_ok(esk_h5_set_i64(file, "s", "time", (int64_t)i, &err), &err);
		assert_ok(esk_h5_set_text(file, "s", "state", text, &err), &err);
		commit(file);
		if (i == 50)
			bytes = esk_h5_file_bytes(file);
	}
	assert_int_equal(esk_h5_file_bytes(file), bytes);
	assert_ok(esk_h5_set_text(file, "s", "state", "x", &err), &err);
	commit(file);
	assert_ok(esk_h5_set_text(file, "s", "state", "x", &err), &err);
	assert_ok(esk_h5_commit_begin(file, &err), &err);
	assert_int_equal(esk_h5_overlay_bytes(file), 0); /* what is there already is not written */
	assert_ok(esk_h5_commit_finish(file, NULL, &err), &err);
	close_file(file);
}

static void space_of_deleted_and_rewritten_data_is_used_again(void **state)
{
	test_dir *dir = *state;
	esk_h5 *file = make(dir, "reuse.h5");
	uint64_t bytes = 0;

	for (int i = 0; i < 60; i++) {
		esk_h5_dataset *dataset = add(file, "x", "x:u8[1000]", 20);
		append(dataset, 0, (unsigned char)i);
		append(dataset, 1, (unsigned char)i);
		append(dataset, 1, (unsigned char)(i + 1));
		commit(file);
		assert_ok(esk_h5_delete(file, "x", &err), &err);
		commit(file);
		if (i == 5)
			bytes = esk_h5_file_bytes(file);
	}
	assert_true(esk_h5_file_bytes(file) <= bytes);
	close_file(file);
}

/* ---- the walk ---- */

static void the_walk_meets_every_dataset_once_in_order(void **state)
{
	test_dir *dir = *state;
	esk_h5 *file = make(dir, "walk.h5");
	walk all = {"", 100}, two = {"", 2};

	add(file, "b", "b:u8", 10);
	add(file, "a/z", "z:u8", 10);
	add(file, "a/c/d", "d:u8", 10);
	add(file, "/.esker/head", "h:u8", 10);
	assert_true(H5Lcreate_hard(file->id, "a/z", file->id, "zz", H5P_DEFAULT, H5P_DEFAULT) >= 0);
	assert_true(H5Lcreate_soft("/nowhere", file->id, "dangling", H5P_DEFAULT, H5P_DEFAULT) >= 0);
	assert_true(H5Lcreate_soft("/", file->id, "a/loop", H5P_DEFAULT, H5P_DEFAULT) >= 0);
	assert_ok(esk_h5_visit(file, note, &all, &err), &err);
	assert_string_equal(all.seen, ".esker/head a/c/d a/z b ");
	assert_int_equal(esk_h5_visit(file, note, &two, &err), ESK_ETIMEDOUT);
	assert_string_equal(two.seen, ".esker/head a/c/d ");
	assert_true(esk_h5_exists(file, "/") && esk_h5_exists(file, "a/c") && esk_h5_exists(file, "zz"));
	assert_true(esk_h5_exists(file, "a/loop/b"));
	assert_false(
		esk_h5_exists(file, "dangling") || esk_h5_exists(file, "b/c") || esk_h5_exists(file, "q"));
	close_file(file);
}

static void groups_keep_the_earliest_format_while_names_allow(void **state)
{
	test_dir *dir = *state;
	esk_h5 *file = make(dir, "format.h5");
	H5G_info_t info;

	add(file, "a/b", "b:u8", 10);
	assert_ok(esk_h5_make_group(file, "c", &err), &err);
	assert_true(H5Gget_info(file->id, &info) >= 0);
	assert_int_equal(info.storage_type, H5G_STORAGE_TYPE_SYMBOL_TABLE);
	assert_ok(esk_h5_make_group(file, "größe/länge", &err), &err);
	assert_true(esk_h5_exists(file, "größe/länge"));
	commit(file);
	close_file(file);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_dtype_comes_back_from_the_file),
		cmocka_unit_test(every_codec_is_kept_as_it_was_built),
		cmocka_unit_test(labels_are_attributes_and_come_back),
		cmocka_unit_test(chunks_and_strings_read_the_same_in_stock_libhdf5),
		cmocka_unit_test(the_same_path_is_the_same_handle_until_it_is_deleted),
		cmocka_unit_test(wrong_requests_are_refused_with_what_and_where),
		cmocka_unit_test(files_that_are_not_hdf5_are_refused),
		cmocka_unit_test(failures_print_nothing_and_leave_the_programs_own_printing),
		cmocka_unit_test(superblocks_that_lock_a_killed_file_are_not_written_to),
		cmocka_unit_test(version_and_plugin_path_are_those_of_libhdf5),
		cmocka_unit_test(attributes_come_back_and_say_what_they_are_not),
		cmocka_unit_test(text_of_any_length_is_kept),
		cmocka_unit_test(attributes_set_at_each_commit_make_nothing_grow),
		cmocka_unit_test(space_of_deleted_and_rewritten_data_is_used_again),
		cmocka_unit_test(the_walk_meets_every_dataset_once_in_order),
		cmocka_unit_test(groups_keep_the_earliest_format_while_names_allow),
	};
	return cmocka_run_group_tests_name("h5", tests, test_dir_make, test_dir_remove);
}
