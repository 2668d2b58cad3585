/* Reading: what stock libhdf5 wrote comes back as stock libhdf5 reads it, damage is told, and a reader beside
 * a writer sees one commit. */
#include "h5/h5.h"
#include <hdf5.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static uint64_t seed;
static uint64_t state;
static char directory[64];
static esk_pool *pool;

static uint64_t draw(uint64_t below)
{
	state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return below ? (state >> 33) % below : 0;
}

static const char *path_of(const char *name)
{
	static char path[128];
	snprintf(path, sizeof path, "%s/%s", directory, name);
	unlink(path);
	return path;
}

static void ok(esk_status status, const esk_error *err)
{
	if (status != ESK_OK)
		fail_msg("%s: %s (seed %llu)", esk_status_name(status), err->message,
			(unsigned long long)seed);
}

static esk_h5 *open_file(const char *path)
{
	esk_error err;
	esk_h5 *file = NULL;
	ok(esk_h5_open_read(esk_os_posix(), path, &file, &err), &err);
	return file;
}

static esk_h5_dataset *open_dataset(esk_h5 *file, const char *path)
{
	esk_error err;
	esk_h5_dataset *dataset = NULL;
	ok(esk_h5_dataset_open(file, path, &dataset, &err), &err);
	return dataset;
}

static void close_file(esk_h5 *file)
{
	esk_error err;
	ok(esk_h5_close(file, &err), &err);
}

/* Smooth with some noise, so that compressors have something to do. */
static void fill_random(unsigned char *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		data[i] = draw(8) == 0 ? (unsigned char)draw(256) : (unsigned char)(i / 16);
}

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
	} else if (draw(3) == 0) {
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

/* u8 rows of `row_bytes`, `chunk_rows` a chunk; deflate unless level is 0. */
static unsigned char *plain_make(
	const char *path, hsize_t rows, hsize_t row_bytes, hsize_t chunk_rows, unsigned level)
{
	hsize_t dims[2] = {rows, row_bytes}, max[2] = {H5S_UNLIMITED, row_bytes},
		chunk[2] = {chunk_rows, row_bytes};
	unsigned char *data = malloc(rows * row_bytes);
	fill_random(data, rows * row_bytes);
	hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
	hid_t plist = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(2, dims, max);
	H5Pset_chunk(plist, 2, chunk);
	if (level > 0)
		H5Pset_deflate(plist, level);
	hid_t dataset = H5Dcreate2(file, "x", H5T_STD_U8LE, space, H5P_DEFAULT, plist, H5P_DEFAULT);
	assert_true(H5Dwrite(dataset, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
	H5Dclose(dataset);
	H5Sclose(space);
	H5Pclose(plist);
	assert_true(H5Fclose(file) >= 0);
	return data;
}

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

static int make_directory(void **unused)
{
	(void)unused;
	esk_error err;
	snprintf(directory, sizeof directory, "/tmp/esk_h5_read.XXXXXX");
	H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
	return mkdtemp(directory) && esk_pool_create(2, 16, &pool, &err) == ESK_OK ? 0 : -1;
}

static int remove_directory(void **unused)
{
	(void)unused;
	char command[128];
	esk_pool_destroy(pool);
	snprintf(command, sizeof command, "rm -r %s", directory);
	return system(command);
}

int main(int argc, char **argv)
{
	const char *wish = argc > 1 ? argv[1] : getenv("ESK_SEED");
	seed = wish ? strtoull(wish, NULL, 10) : esk_random_u64() >> 32;
	state = seed;
	print_message("seed %llu\n", (unsigned long long)seed);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_shape_reads_as_hdf5_reads_it),
		cmocka_unit_test(row_after_row_reads_the_same_as_at_once),
		cmocka_unit_test(rows_that_are_not_there_are_refused),
		cmocka_unit_test(damage_names_dataset_and_chunk_and_spares_the_others),
		cmocka_unit_test(chunks_beyond_the_end_are_corruption),
		cmocka_unit_test(bools_come_out_as_zero_or_one),
		cmocka_unit_test(strings_come_back_and_missing_ones_are_empty),
		cmocka_unit_test(beginnings_of_chunks_equal_those_of_the_whole),
		cmocka_unit_test(threads_share_a_reader),
		cmocka_unit_test(a_writer_reads_what_it_has_not_committed_yet),
		cmocka_unit_test(a_stale_reader_serves_whole_chunks_and_refuses_the_last),
		cmocka_unit_test(readers_beside_a_committing_writer_see_whole_commits),
	};
	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
