/* Reading: what stock libhdf5 wrote comes back as stock libhdf5 reads it, and damage is told. */
#include "unit/h5_read_support.h"

#include <sys/stat.h>

/* ---- files of stock libhdf5, of any shape ---- */

enum { RANK_MAX = 4, ROWS_MAX = 40 };

typedef struct {
	int rank;
	hsize_t dims[RANK_MAX];
	hid_t type; /* in the file; not owned */
	hid_t memory_type;
	size_t memory_bytes;
	bool chunked;
	hsize_t chunk[RANK_MAX];
} sample;

static hid_t bool_type(void)
{
	hid_t type = H5Tenum_create(H5T_NATIVE_INT8);
	int8_t no = 0, yes = 1;
	H5Tenum_insert(type, "FALSE", &no);
	H5Tenum_insert(type, "TRUE", &yes);
	return type;
}

static void sample_type(sample *s)
{
	const hid_t types[][2] = {{H5T_STD_U8LE, H5T_NATIVE_UINT8}, {H5T_STD_I16LE, H5T_NATIVE_INT16},
		{H5T_STD_I32BE, H5T_NATIVE_INT32}, {H5T_STD_U64LE, H5T_NATIVE_UINT64},
		{H5T_IEEE_F32LE, H5T_NATIVE_FLOAT}, {H5T_IEEE_F64BE, H5T_NATIVE_DOUBLE},
		{H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE}, {H5T_STD_U16BE, H5T_NATIVE_UINT16}};
	size_t which = draw(sizeof types / sizeof types[0]);
	s->type = types[which][0];
	s->memory_type = types[which][1];
	s->memory_bytes = H5Tget_size(s->memory_type);
}

static void sample_filters(hid_t plist)
{
	if (draw(2))
		H5Pset_shuffle(plist);
	if (draw(3))
		H5Pset_deflate(plist, (unsigned)draw(10));
	if (draw(3) == 0)
		H5Pset_fletcher32(plist);
}

static size_t sample_elements(const sample *s)
{
	size_t elements = 1;
	for (int i = 0; i < s->rank; i++)
		elements *= s->dims[i];
	return elements;
}

/* A dataset "x" of random rank, dimensions, layout, filters, fill value, partly written. */
static void sample_make(const char *path, sample *ret)
{
	sample s = {.rank = (int)draw(RANK_MAX + 1)};
	hsize_t max[RANK_MAX];
	sample_type(&s);
	hid_t plist = H5Pcreate(H5P_DATASET_CREATE), access = H5Pcreate(H5P_FILE_ACCESS);
	hid_t creation = H5Pcreate(H5P_FILE_CREATE);
	if (draw(4) == 0)
		H5Pset_userblock(creation, 512);
	if (draw(2))
		H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
	s.chunked = s.rank > 0 && draw(4);
	for (int i = 0; i < s.rank; i++) {
		s.dims[i] = i == 0 ? draw(ROWS_MAX) : 1 + draw(9);
		s.chunk[i] = 1 + draw(s.dims[i] + 2);
		if (draw(3) == 0 && s.dims[i] > 0)
			s.chunk[i] = s.dims[i];
		max[i] = s.chunk[i] > s.dims[i] || draw(2) ? H5S_UNLIMITED : s.dims[i];
	}
	if (s.chunked) {
		H5Pset_chunk(plist, s.rank, s.chunk);
		sample_filters(plist);
	} else if (draw(3) == 0 && sample_elements(&s) * s.memory_bytes < 60000) { /* a header holds 64 KiB */
		H5Pset_layout(plist, H5D_COMPACT);
	}
	unsigned char fill[8];
	fill_random(fill, sizeof fill);
	if (draw(2))
		H5Pset_fill_value(plist, s.memory_type, fill);
	hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, creation, access);
	assert_true(file >= 0);
	hid_t space = s.rank == 0 ? H5Screate(H5S_SCALAR)
				  : H5Screate_simple(s.rank, s.dims, s.chunked ? max : NULL);
	hid_t dataset = H5Dcreate2(file, "x", s.type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
	assert_true(dataset >= 0);
	size_t size = sample_elements(&s) * s.memory_bytes;
	unsigned char *data = malloc(size + 1);
	fill_random(data, size);
	if (s.rank > 0 && s.dims[0] > 2 && draw(3) == 0) { /* a hole in the middle and at the end */
		hsize_t start[RANK_MAX] = {draw(s.dims[0] - 1)}, count[RANK_MAX];
		memcpy(count, s.dims, sizeof count);
		count[0] = 1;
		H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL);
	}
	if (size > 0 && draw(8))
		assert_true(H5Dwrite(dataset, s.memory_type, space, space, H5P_DEFAULT, data) >= 0);
	free(data);
	H5Dclose(dataset);
	H5Sclose(space);
	H5Pclose(plist);
	H5Pclose(access);
	H5Pclose(creation);
	assert_true(H5Fclose(file) >= 0);
	*ret = s;
}

/* All of "x", by stock libhdf5. */
static unsigned char *sample_read(const char *path, const sample *s)
{
	size_t size = sample_elements(s) * s->memory_bytes;
	unsigned char *data = calloc(1, size + 1);
	hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
	hid_t dataset = H5Dopen2(file, "x", H5P_DEFAULT);
	if (size > 0)
		assert_true(H5Dread(dataset, s->memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
	H5Dclose(dataset);
	H5Fclose(file);
	return data;
}

static void pieces_compare(
	esk_h5_dataset *dataset, const unsigned char *expected, uint64_t rows, size_t row_bytes)
{
	enum { PIECES_MAX = 12 };
	esk_h5_rows pieces[PIECES_MAX];
	size_t count = 1 + draw(PIECES_MAX);
	for (size_t i = 0; i < count; i++) {
		pieces[i].row = draw(rows + 1);
		pieces[i].count =
			draw(3) == 0 ? draw(rows - pieces[i].row + 1) : draw(rows > pieces[i].row ? 2 : 1);
		if (draw(4) == 0) {
			pieces[i].row = 0;
			pieces[i].count = rows;
		}
		pieces[i].out = malloc(pieces[i].count * row_bytes + 1);
		memset(pieces[i].out, 0xee, pieces[i].count * row_bytes + 1);
	}
	esk_error err;
	ok(esk_h5_read_rows(dataset, draw(2) ? pool : NULL, pieces, count, &err), &err);
	for (size_t i = 0; i < count; i++) {
		unsigned char *out = pieces[i].out;
		if (pieces[i].count * row_bytes > 0)
			assert_memory_equal(
				out, expected + pieces[i].row * row_bytes, pieces[i].count * row_bytes);
		assert_int_equal(out[pieces[i].count * row_bytes], 0xee);
		free(out);
	}
}

static void any_shape_reads_as_hdf5_reads_it(void **unused)
{
	(void)unused;
	for (int round = 0; round < 400; round++) {
		uint64_t round_state = state;
		char path[128];
		sample s;
		snprintf(path, sizeof path, "%s", path_of("any.h5"));
		sample_make(path, &s);
		unsigned char *expected = sample_read(path, &s);
		esk_h5 *file = open_file(path);
		esk_h5_dataset *dataset = open_dataset(file, "x");
		const esk_h5_info *info = esk_h5_dataset_info(dataset);
		uint64_t rows = s.rank ? s.dims[0] : 1;
		size_t elements = sample_elements(&s);
		if (info->rows != rows || !info->readable)
			fail_msg("round %d, state %llu: %llu rows", round, (unsigned long long)round_state,
				(unsigned long long)info->rows);
		for (int reads = 0; reads < 6; reads++)
			pieces_compare(dataset, expected, rows,
				rows ? elements / rows * s.memory_bytes : s.memory_bytes);
		esk_error err;
		for (uint64_t i = 0; info->raw_readable && i < esk_h5_chunk_count(dataset); i++)
			ok(esk_h5_check_chunk(dataset, i, NULL, NULL, NULL, &err), &err);
		close_file(file);
		free(expected);
	}
}

/* ---- one plain dataset ---- */

static void row_after_row_reads_the_same_as_at_once(void **unused)
{
	(void)unused;
	const char *path = path_of("rows.h5");
	enum { ROWS = 3000, ROW_BYTES = 24 };
	unsigned char *expected = plain_make(path, ROWS, ROW_BYTES, 700, 4);
	esk_h5 *file = open_file(path);
	esk_h5_dataset *dataset = open_dataset(file, "x");
	for (uint64_t row = 0; row < ROWS; row++) {
		unsigned char out[ROW_BYTES];
		esk_error err;
		ok(esk_h5_read_rows(dataset, pool, &(esk_h5_rows){row, 1, out}, 1, &err), &err);
		assert_memory_equal(out, expected + row * ROW_BYTES, ROW_BYTES);
	}
	close_file(file);
	free(expected);
}

static void rows_that_are_not_there_are_refused(void **unused)
{
	(void)unused;
	const char *path = path_of("range.h5");
	free(plain_make(path, 50, 8, 20, 1));
	esk_h5 *file = open_file(path);
	esk_h5_dataset *dataset = open_dataset(file, "x");
	unsigned char out[16];
	esk_error err;
	assert_int_equal(esk_h5_read_rows(dataset, pool, &(esk_h5_rows){49, 2, out}, 1, &err), ESK_ERANGE);
	assert_int_equal(
		esk_h5_read_rows(dataset, pool, &(esk_h5_rows){UINT64_MAX, 2, out}, 1, &err), ESK_ERANGE);
	assert_int_equal(esk_h5_check_chunk(dataset, 3, NULL, NULL, NULL, &err), ESK_ERANGE);
	assert_int_equal(esk_h5_chunk_count(dataset), 3);
	ok(esk_h5_read_rows(dataset, pool, &(esk_h5_rows){50, 0, out}, 1, &err), &err);
	esk_string *strings;
	assert_int_equal(esk_h5_read_strings(dataset, 0, 1, &strings, &err), ESK_ETYPE);
	close_file(file);
}

static void patch(const char *path, uint64_t offset, const void *bytes, size_t size)
{
	FILE *file = fopen(path, "r+b");
	assert_non_null(file);
	assert_int_equal(fseek(file, (long)offset, SEEK_SET), 0);
	assert_int_equal(fwrite(bytes, 1, size, file), size);
	assert_int_equal(fclose(file), 0);
}

static void chunk_find(const char *path, uint64_t chunk, uint64_t *ret_address, uint64_t *ret_size)
{
	esk_h5 *file = open_file(path);
	esk_error err;
	uint32_t mask;
	ok(esk_h5_locate_chunk(open_dataset(file, "x"), chunk, ret_address, ret_size, &mask, &err), &err);
	assert_int_equal(mask, 0);
	close_file(file);
}

static void damage_names_dataset_and_chunk_and_spares_the_others(void **unused)
{
	(void)unused;
	const char *path = path_of("damage.h5");
	unsigned char *expected = plain_make(path, 100, 1000, 10, 6), out[20 * 1000];
	uint64_t address, size;
	chunk_find(path, 7, &address, &size);
	patch(path, address + size / 2, "damage!!", 8);
	esk_h5 *file = open_file(path);
	esk_h5_dataset *dataset = open_dataset(file, "x");
	esk_error err;
	assert_int_equal(esk_h5_check_chunk(dataset, 7, NULL, NULL, NULL, &err), ESK_ECORRUPT);
	assert_int_equal(esk_h5_read_rows(dataset, pool, &(esk_h5_rows){65, 20, out}, 1, &err), ESK_ECORRUPT);
	assert_non_null(strstr(err.message, "dataset x, chunk 7"));
	for (uint64_t chunk = 0; chunk < 10; chunk++) {
		if (chunk == 7)
			continue;
		ok(esk_h5_read_rows(dataset, pool, &(esk_h5_rows){chunk * 10, 10, out}, 1, &err), &err);
		assert_memory_equal(out, expected + chunk * 10000, 10000);
	}
	close_file(file);
	free(expected);
}

/* Replaces the first occurrence of a little-endian address in the file. */
static void address_replace(const char *path, uint64_t from, uint64_t to)
{
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	unsigned char *bytes = malloc((size_t)st.st_size);
	FILE *file = fopen(path, "rb");
	assert_int_equal(fread(bytes, 1, (size_t)st.st_size, file), st.st_size);
	fclose(file);
	for (size_t at = 0; at + 8 <= (size_t)st.st_size; at++) {
		if (memcmp(bytes + at, &from, 8) != 0)
			continue;
		patch(path, at, &to, 8);
		free(bytes);
		return;
	}
	fail_msg("address %llu is not in the file", (unsigned long long)from);
}

static void chunks_beyond_the_end_are_corruption(void **unused)
{
	(void)unused;
	const uint64_t hostile[] = {UINT64_C(1) << 40, INT64_MAX - 10, UINT64_MAX - 100, 0};
	for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
		for (unsigned level = 0; level < 2; level++) {
			const char *path = path_of("hostile.h5");
			free(plain_make(path, 40, 1000, 10, level));
			struct stat st;
			assert_int_equal(stat(path, &st), 0);
			uint64_t address, size;
			chunk_find(path, 2, &address, &size);
			address_replace(path, address, hostile[i] ? hostile[i] : (uint64_t)st.st_size - 10);
			esk_h5 *file = open_file(path);
			esk_h5_dataset *dataset = open_dataset(file, "x");
			unsigned char *out = malloc(40 * 1000);
			void *raw;
			size_t raw_size;
			uint32_t mask;
			esk_error err;
			assert_int_equal(esk_h5_read_rows(dataset, pool, &(esk_h5_rows){0, 40, out}, 1, &err),
				ESK_ECORRUPT);
			assert_non_null(strstr(err.message, "x"));
			assert_int_equal(
				esk_h5_check_chunk(dataset, 2, NULL, NULL, NULL, &err), ESK_ECORRUPT);
			assert_int_equal(esk_h5_read_raw_chunk(dataset, 2, &raw, &raw_size, &mask, &err),
				ESK_ECORRUPT);
			ok(esk_h5_check_chunk(dataset, 1, NULL, NULL, NULL, &err), &err);
			free(out);
			close_file(file);
		}
	}
}

static void bools_come_out_as_zero_or_one(void **unused)
{
	(void)unused;
	const char *path = path_of("bool.h5");
	const int8_t stored[8] = {0, 1, 1, 0, 7, -1, 0, 1};
	const unsigned char expected[8] = {0, 1, 1, 0, 1, 1, 0, 1};
	hsize_t dims = 8, chunk = 3;
	hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), type = bool_type();
	hid_t plist = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(1, &dims, NULL);
	H5Pset_chunk(plist, 1, &chunk);
	H5Pset_deflate(plist, 1);
	hid_t dataset = H5Dcreate2(file, "x", type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
	assert_true(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, stored) >= 0);
	H5Dclose(dataset);
	H5Sclose(space);
	H5Pclose(plist);
	H5Tclose(type);
	H5Fclose(file);
	esk_h5 *reader = open_file(path);
	unsigned char out[8];
	esk_error err;
	ok(esk_h5_read_rows(open_dataset(reader, "x"), pool, &(esk_h5_rows){0, 8, out}, 1, &err), &err);
	assert_memory_equal(out, expected, 8);
	close_file(reader);
}

static void strings_come_back_and_missing_ones_are_empty(void **unused)
{
	(void)unused;
	const char *path = path_of("strings.h5");
	const char *texts[6] = {"eins", "", "drei und mehr", "vier", "fünf", "6"};
	hsize_t dims[2] = {4, 2}, chunk[2] = {3, 2}, written[2] = {3, 2}, start[2] = {0, 0};
	hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
	hid_t type = H5Tcopy(H5T_C_S1), plist = H5Pcreate(H5P_DATASET_CREATE);
	H5Tset_size(type, H5T_VARIABLE);
	H5Tset_cset(type, H5T_CSET_UTF8);
	H5Pset_chunk(plist, 2, chunk);
	hid_t space = H5Screate_simple(2, dims, NULL), memory = H5Screate_simple(2, written, NULL);
	hid_t dataset = H5Dcreate2(file, "x", type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
	H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, written, NULL);
	assert_true(H5Dwrite(dataset, type, memory, space, H5P_DEFAULT, texts) >= 0);
	H5Dclose(dataset);
	H5Sclose(space);
	H5Sclose(memory);
	H5Pclose(plist);
	H5Tclose(type);
	H5Fclose(file);
	esk_h5 *reader = open_file(path);
	esk_h5_dataset *strings = open_dataset(reader, "x");
	esk_string *got;
	esk_error err;
	ok(esk_h5_read_strings(strings, 1, 3, &got, &err), &err);
	for (size_t i = 0; i < 6; i++) {
		const char *expected = i + 2 < 6 ? texts[i + 2] : "";
		assert_int_equal(got[i].size, strlen(expected));
		assert_memory_equal(got[i].data, expected, strlen(expected) + 1);
	}
	free(got);
	ok(esk_h5_read_strings(strings, 4, 0, &got, &err), &err);
	free(got);
	assert_int_equal(esk_h5_read_strings(strings, 3, 2, &got, &err), ESK_ERANGE);
	unsigned char out[64];
	assert_int_equal(esk_h5_read_rows(strings, pool, &(esk_h5_rows){0, 1, out}, 1, &err), ESK_ETYPE);
	close_file(reader);
}

/* ---- beginnings of chunks ---- */

static void beginnings_of_chunks_equal_those_of_the_whole(void **unused)
{
	(void)unused;
	esk_error err;
	esk_scratch *scratch = esk_scratch_create();
	const char *codecs[] = {"gzip:1", "gzip:6", "gzip:9", "gzip:1+fletcher32"};
	for (int round = 0; round < 60; round++) {
		esk_column column = {.name = "x", .dtype = {ESK_U8, 1}};
		uint64_t bytes = 1 + draw(round % 2 ? 200000 : 5000);
		esk_pipeline pipeline;
		ok(esk_pipeline_build(codecs[round % 4], &column, bytes, &pipeline, &err), &err);
		unsigned char *data = calloc(1, bytes);
		unsigned char *packed = malloc(esk_pipeline_bound(&pipeline));
		if (round % 5)
			fill_random(data, bytes);
		size_t size;
		uint32_t mask;
		ok(esk_pipeline_encode(&pipeline, scratch, &(esk_span){data, bytes}, 1, packed,
			   esk_pipeline_bound(&pipeline), &size, &mask, &err),
			&err);
		for (int i = 0; i < 20; i++) {
			uint64_t want = draw(bytes + 1),
				 room = esk_min_u64(bytes, want + draw(2 * ESK_DECODE_SLACK));
			unsigned char *exact = malloc(room + 1);
			memset(exact, 0xee, room + 1);
			ok(esk_pipeline_decode_roomy(
				   &pipeline, scratch, mask, packed, size, exact, room, want, &err),
				&err);
			assert_memory_equal(exact, data, want);
			assert_int_equal(exact[room], 0xee);
			/* Damage: whatever it says, it stays within its room. */
			unsigned char *damaged = malloc(size);
			memcpy(damaged, packed, size);
			damaged[draw(size)] ^= (unsigned char)(1 + draw(255));
			esk_pipeline_decode_roomy(
				&pipeline, scratch, mask, damaged, draw(size + 1), exact, room, want, &err);
			assert_int_equal(exact[room], 0xee);
			free(damaged);
			free(exact);
		}
		free(packed);
		free(data);
	}
	esk_scratch_destroy(scratch);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_shape_reads_as_hdf5_reads_it),
		cmocka_unit_test(row_after_row_reads_the_same_as_at_once),
		cmocka_unit_test(rows_that_are_not_there_are_refused),
		cmocka_unit_test(damage_names_dataset_and_chunk_and_spares_the_others),
		cmocka_unit_test(chunks_beyond_the_end_are_corruption),
		cmocka_unit_test(bools_come_out_as_zero_or_one),
		cmocka_unit_test(strings_come_back_and_missing_ones_are_empty),
		cmocka_unit_test(beginnings_of_chunks_equal_those_of_the_whole),
	};
	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
