/* h5: what others wrote is described as it is; damage is told. */
#include "unit/h5_support.h"

#include <sys/wait.h>

/* ---- what others write ---- */

typedef struct wild {
	hid_t file;
	const char *name;
} wild;

static void wild_dataset(hid_t file, const char *name, hid_t type, int rank, const hsize_t *dims, hid_t plist)
{
	hid_t space = rank < 0    ? H5Screate(H5S_NULL)
		      : rank == 0 ? H5Screate(H5S_SCALAR)
				  : H5Screate_simple(rank, dims, NULL);
	hid_t id = H5Dcreate2(file, name, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
	if (id < 0)
		fail_msg("cannot make %s", name);
	H5Dclose(id);
	H5Sclose(space);
}

static void wild_types(hid_t file)
{
	hsize_t ten[1] = {10};
	hid_t base = H5Tenum_create(H5T_STD_I16BE), compound = H5Tcreate(H5T_COMPOUND, 16);
	hid_t opaque = H5Tcreate(H5T_OPAQUE, 5), string = H5Tcopy(H5T_C_S1), bfloat = H5Tcopy(H5T_IEEE_F32LE);
	hid_t vlen = H5Tvlen_create(H5T_NATIVE_INT), array = H5Tarray_create2(H5T_NATIVE_INT, 1, ten);
	int16_t red = 1;

	H5Tenum_insert(base, "RED", &red);
	H5Tinsert(compound, "x", 0, H5T_NATIVE_DOUBLE);
	H5Tinsert(compound, "y", 8, H5T_NATIVE_DOUBLE);
	H5Tset_size(string, 6);
	H5Tset_fields(bfloat, 15, 7, 8, 0, 7);
	H5Tset_size(bfloat, 2);
	wild_dataset(file, "big", H5T_STD_I32BE, 1, ten, H5P_DEFAULT);
	wild_dataset(file, "enum", base, 1, ten, H5P_DEFAULT);
	wild_dataset(file, "pair", compound, 1, ten, H5P_DEFAULT);
	wild_dataset(file, "opaque", opaque, 1, ten, H5P_DEFAULT);
	wild_dataset(file, "vlen", vlen, 1, ten, H5P_DEFAULT);
	wild_dataset(file, "array", array, 1, ten, H5P_DEFAULT);
	wild_dataset(file, "terminated", string, 1, ten, H5P_DEFAULT);
	wild_dataset(file, "bfloat", bfloat, 1, ten, H5P_DEFAULT);
	wild_dataset(file, "wide", H5T_NATIVE_LDOUBLE, 1, ten, H5P_DEFAULT);
	wild_dataset(file, "bits", H5T_STD_B8LE, 1, ten, H5P_DEFAULT);
	wild_dataset(file, "reference", H5T_STD_REF_OBJ, 1, ten, H5P_DEFAULT);
	const hid_t types[] = {base, compound, opaque, string, bfloat, vlen, array};
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		H5Tclose(types[i]);
}

static void wild_layouts(hid_t file)
{
	hsize_t dims[3] = {10, 6, 4}, chunk[3] = {3, 6, 2}, empty[2] = {10, 0};
	hid_t chunked = H5Pcreate(H5P_DATASET_CREATE), compact = H5Pcreate(H5P_DATASET_CREATE);
	hid_t early = H5Pcreate(H5P_DATASET_CREATE);

	H5Pset_chunk(chunked, 3, chunk);
	H5Pset_deflate(chunked, 6);
	H5Pset_layout(compact, H5D_COMPACT);
	H5Pset_alloc_time(early, H5D_ALLOC_TIME_EARLY);
	wild_dataset(file, "scalar", H5T_NATIVE_DOUBLE, 0, NULL, early);
	wild_dataset(file, "null", H5T_NATIVE_DOUBLE, -1, NULL, H5P_DEFAULT);
	wild_dataset(file, "grid", H5T_NATIVE_UINT, 3, dims, chunked);
	wild_dataset(file, "compact", H5T_NATIVE_UINT, 3, dims, compact);
	wild_dataset(file, "contiguous", H5T_NATIVE_UINT, 3, dims, early);
	wild_dataset(file, "late", H5T_NATIVE_UINT, 3, dims, H5P_DEFAULT);
	wild_dataset(file, "hollow", H5T_NATIVE_UINT, 2, empty, H5P_DEFAULT);
	H5Pclose(chunked);
	H5Pclose(compact);
	H5Pclose(early);
}

static const esk_h5_info *info_of(esk_h5 *file, const char *path)
{
	esk_h5_dataset *dataset = NULL;
	assert_ok(esk_h5_dataset_open(file, path, &dataset, &err), &err);
	return esk_h5_dataset_info(dataset);
}

static void assert_dtype(esk_h5 *file, const char *path, const char *dtype, bool raw)
{
	char text[32];
	const esk_h5_info *info = info_of(file, path);
	assert_true(info->readable);
	esk_dtype_format(info->column.dtype, text, sizeof text);
	assert_string_equal(text, dtype);
	assert_int_equal(info->raw_readable, raw);
}

static void datasets_of_others_are_described_as_they_are(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "wild.h5");
	hid_t id = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
	esk_h5 *file;
	const esk_h5_info *info;

	wild_types(id);
	wild_layouts(id);
	H5Fclose(id);
	file = open_to_read(path);
	assert_dtype(file, "big", "i32", false);
	assert_dtype(file, "enum", "i16", false);
	assert_dtype(file, "terminated", "str6", false);
	assert_dtype(file, "bfloat", "f32", false);
	assert_dtype(file, "bits", "u8", false);
	assert_dtype(file, "scalar", "f64", true);
	assert_dtype(file, "grid", "u32", true);
	assert_dtype(file, "compact", "u32", false);
	assert_dtype(file, "contiguous", "u32", true);
	assert_dtype(file, "late", "u32", false);
	for (const char *const *no = (const char *const[]){"pair", "opaque", "vlen", "array", "wide",
		     "reference", "null", "hollow", NULL};
		*no; no++)
		assert_false(info_of(file, *no)->readable || info_of(file, *no)->raw_readable);
	info = info_of(file, "grid");
	assert_int_equal(info->rows, 10);
	assert_int_equal(info->column.rank, 2);
	assert_int_equal(info->chunk_shape[0], 3);
	assert_int_equal(info->chunk_shape[2], 2);
	assert_int_equal(info->pipeline.count, 1);
	assert_int_equal(info->pipeline.filters[0].id, ESK_FILTER_DEFLATE);
	assert_int_equal(info->pipeline.chunk_bytes, 3 * 6 * 2 * 4);
	info = info_of(file, "scalar");
	assert_true(info->scalar && info->rows == 1 && info->column.rank == 0);
	assert_true(info->contiguous_address != UINT64_MAX);
	assert_true(info_of(file, "late")->contiguous_address == UINT64_MAX);
	close_file(file);
}

static void virtual_datasets_read_through_to_other_files(void **state)
{
	test_dir *dir = *state;
	const char *source = test_path(dir, "source.h5"), *path = test_path(dir, "virtual.h5");
	hsize_t dims[1] = {6};
	int32_t values[6] = {1, 2, 3, 4, 5, 6}, read[6] = {0};
	hid_t id = H5Fcreate(source, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT),
	      space = H5Screate_simple(1, dims, NULL);
	hid_t dataset = H5Dcreate2(id, "x", H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
	hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
	esk_h5_dataset *opened = NULL;
	esk_h5_rows piece = {0, 6, read};
	esk_h5 *file;

	H5Dwrite(dataset, H5T_NATIVE_INT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
	H5Dclose(dataset);
	H5Fclose(id);
	id = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
	H5Pset_virtual(plist, space, source, "x", space);
	dataset = H5Dcreate2(id, "v", H5T_STD_I32LE, space, H5P_DEFAULT, plist, H5P_DEFAULT);
	assert_true(dataset >= 0);
	assert_true(H5Lcreate_external(source, "x", id, "link", H5P_DEFAULT, H5P_DEFAULT) >= 0);
	H5Dclose(dataset);
	H5Pclose(plist);
	H5Sclose(space);
	H5Fclose(id);
	file = open_to_read(path);
	assert_ok(esk_h5_dataset_open(file, "v", &opened, &err), &err);
	assert_false(esk_h5_dataset_info(opened)->raw_readable);
	assert_ok(esk_h5_read_rows(opened, NULL, &piece, 1, &err), &err);
	assert_memory_equal(read, values, sizeof values);
	assert_true(esk_h5_exists(file, "link"));
	close_file(file);
}

/* ---- damage ---- */

static void write_at(const char *path, long at, const void *bytes, size_t size)
{
	FILE *file = fopen(path, "r+");
	fseek(file, at, SEEK_SET);
	assert_int_equal(fwrite(bytes, 1, size, file), size);
	fclose(file);
}

/* Where `bytes` are in the file for the first time. */
static long find_in(const char *path, const void *bytes, size_t size)
{
	static unsigned char content[1 << 16];
	FILE *file = fopen(path, "r");
	size_t length = fread(content, 1, sizeof content, file);
	fclose(file);
	unsigned char *found = memmem(content, length, bytes, size);
	assert_non_null(found);
	return found - content;
}

/* A chunk dimension of 0 divides libhdf5 1.10.8 by zero. */
static void damage_that_libhdf5_does_not_survive_is_found_by_the_probe(void **state)
{
	static const uint32_t dims[3] = {4097, 3, 1},
			      none[3] = {0, 3, 1}; /* as the layout message has them */
	test_dir *dir = *state;
	esk_h5 *file = make(dir, "damaged.h5"), *opened = NULL;
	char path[128];
	int status = 0;

	strcpy(path, esk_h5_path(file));
	add(file, "x", "x:u8[3]", 4097);
	commit(file);
	close_file(file);
	assert_ok(esk_h5_probe(path, &err), &err);
	write_at(path, find_in(path, dims, sizeof dims), none, sizeof none);
	if (esk_h5_probe(path, &err) == ESK_ECORRUPT) {
		assert_non_null(strstr(err.message, path));
		return;
	}
	pid_t child = fork(); /* this libhdf5 survives it: then it must say what is wrong */
	if (child == 0) {
		esk_h5_dataset *dataset;
		_exit(esk_h5_open_read(esk_os_posix(), path, &opened, NULL) != ESK_OK ||
					esk_h5_dataset_open(opened, "x", &dataset, NULL) == ESK_ECORRUPT
				? 0
				: 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Random bytes in a small file: opening, listing and describing it end well where the probe says so. */
static void random_damage_gives_errors(void **state)
{
	test_dir *dir = *state;
	esk_h5 *file = make(dir, "sound.h5");
	char path[128], copy[128];
	uint64_t random = test_seed();

	strcpy(path, esk_h5_path(file));
	strcpy(copy, test_path(dir, "mutant.h5"));
	for (int i = 0; i < 3; i++) {
		char name[16];
		snprintf(name, sizeof name, "g%d/x", i);
		append(add(file, name, "x:u16[4]@gzip:1", 10), 0, 1);
	}
	assert_ok(esk_h5_set_text(file, "g0/x", "units", "V", &err), &err);
	commit(file);
	close_file(file);
	for (uint64_t round = 0; round < test_scale(150); round++) {
		char command[300];
		snprintf(command, sizeof command, "cp %s %s", path, copy);
		assert_int_equal(system(command), 0);
		for (int i = 0; i < 3; i++) {
			random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
			unsigned char byte = (unsigned char)(random >> 40);
			write_at(copy, (long)((random >> 33) % 6000), &byte, 1);
		}
		if (esk_h5_probe(copy, &err) != ESK_OK ||
			esk_h5_open_read(esk_os_posix(), copy, &file, &err) != ESK_OK)
			continue;
		walk all = {"", 100};
		esk_h5_visit(file, note, &all, &err);
		close_file(file);
	}
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(datasets_of_others_are_described_as_they_are),
		cmocka_unit_test(virtual_datasets_read_through_to_other_files),
		cmocka_unit_test(damage_that_libhdf5_does_not_survive_is_found_by_the_probe),
		cmocka_unit_test(random_damage_gives_errors),
	};
	return cmocka_run_group_tests_name("h5_foreign", tests, test_dir_make, test_dir_remove);
}
