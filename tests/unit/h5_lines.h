/* A file of many datasets and one number that says how far they are: what the tests of src/h5 that kill, fail
 * and fork share. Content follows from a seed and the row, so nothing else needs to be remembered. */
#ifndef ESK_TESTS_H5_LINES_H
#define ESK_TESTS_H5_LINES_H

#include "support/unit.h"

#include "h5/h5.h"
#include "h5/h5_internal.h"

enum { COLUMNS = 6, CHUNK_ROWS = 5 };

static esk_error err;

static inline uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 31) * UINT64_C(0x9e3779b97f4a7c15);
	return x ^ x >> 29;
}

static uint64_t random_state;

static inline uint64_t draw(uint64_t below)
{
	random_state += UINT64_C(0x9e3779b97f4a7c15);
	return (mix(random_state) >> 16) % below;
}

static inline uint32_t value_of(uint64_t seed, uint64_t row, uint32_t i)
{
	return (uint32_t)mix(seed * 1000003 + row * COLUMNS + i);
}

static inline size_t text_of(uint64_t seed, uint64_t row, char buf[64])
{
	return (size_t)snprintf(buf, 64, "%llx %.*s", (unsigned long long)mix(seed + row), (int)(row % 30),
		"the quick brown fox jumps over");
}

/* ---- a dataset of numbers or strings that grows ---- */

static inline esk_h5_dataset *numbers_create(esk_h5 *file, const char *path)
{
	esk_column column = {.name = "x", .dtype = {ESK_U32, 4}, .rank = 1, .shape = {COLUMNS}};
	esk_pipeline pipeline;
	esk_h5_dataset *dataset = NULL;
	assert_ok(esk_pipeline_build("none", &column, CHUNK_ROWS, &pipeline, &err), &err);
	return esk_h5_dataset_create(file, path, &column, CHUNK_ROWS, &pipeline, &dataset, &err) == ESK_OK
		       ? dataset
		       : NULL;
}

static inline esk_h5_dataset *strings_create(esk_h5 *file, const char *path)
{
	esk_column column = {.name = "t", .dtype = {ESK_STRING, sizeof(esk_string)}};
	esk_h5_dataset *dataset = NULL;
	return esk_h5_dataset_create(file, path, &column, CHUNK_ROWS, NULL, &dataset, &err) == ESK_OK
		       ? dataset
		       : NULL;
}

/* Writes rows [from, to): chunks whole, the open one as far as it goes. */
static inline esk_status numbers_append(esk_h5_dataset *dataset, uint64_t seed, uint64_t from, uint64_t to)
{
	esk_status status = esk_h5_set_rows(dataset, to, &err);
	for (uint64_t chunk = from / CHUNK_ROWS; status == ESK_OK && chunk * CHUNK_ROWS < to; chunk++) {
		uint32_t values[CHUNK_ROWS][COLUMNS] = {0};
		for (uint64_t row = 0; row < CHUNK_ROWS && chunk * CHUNK_ROWS + row < to; row++)
			for (uint32_t i = 0; i < COLUMNS; i++)
				values[row][i] = value_of(seed, chunk * CHUNK_ROWS + row, i);
		status = esk_h5_write_chunk(dataset, chunk, 0, values, sizeof values, &err);
	}
	return status;
}

static inline esk_status strings_append(esk_h5_dataset *dataset, uint64_t seed, uint64_t from, uint64_t to)
{
	esk_status status = esk_h5_set_rows(dataset, to, &err);
	for (uint64_t row = from; status == ESK_OK && row < to; row++) {
		char text[64];
		esk_string string = {text, text_of(seed, row, text)};
		status = esk_h5_write_strings(dataset, row, 1, &string, &err);
	}
	return status;
}

static inline hid_t stock_dataset(hid_t file, const char *path, uint64_t rows)
{
	hsize_t dims[2] = {0};
	hid_t dataset = H5Dopen2(file, path, H5P_DEFAULT), space;
	if (dataset < 0)
		fail_msg("stock libhdf5 does not open %s", path);
	space = H5Dget_space(dataset);
	H5Sget_simple_extent_dims(space, dims, NULL);
	H5Sclose(space);
	if (dims[0] != rows)
		fail_msg("%s has %llu rows, not %llu", path, (unsigned long long)dims[0],
			(unsigned long long)rows);
	return dataset;
}

static inline void numbers_verify(hid_t file, const char *path, uint64_t seed, uint64_t rows)
{
	hid_t dataset = stock_dataset(file, path, rows);
	uint32_t *values = malloc((rows * COLUMNS + 1) * sizeof *values);
	if (H5Dread(dataset, H5T_NATIVE_UINT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0)
		fail_msg("stock libhdf5 does not read %s", path);
	for (uint64_t i = 0; i < rows * COLUMNS; i++) {
		if (values[i] != value_of(seed, i / COLUMNS, (uint32_t)(i % COLUMNS)))
			fail_msg("%s is wrong in row %llu of %llu", path, (unsigned long long)i / COLUMNS,
				(unsigned long long)rows);
	}
	free(values);
	H5Dclose(dataset);
}

static inline void strings_verify(hid_t file, const char *path, uint64_t seed, uint64_t rows)
{
	hid_t dataset = stock_dataset(file, path, rows), type = H5Dget_type(dataset),
	      space = H5Dget_space(dataset);
	char **texts = calloc(rows + 1, sizeof *texts), expected[64];
	if (H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, texts) < 0)
		fail_msg("stock libhdf5 does not read %s", path);
	for (uint64_t row = 0; row < rows; row++) {
		text_of(seed, row, expected);
		assert_string_equal(texts[row], expected);
	}
	H5Dvlen_reclaim(type, space, H5P_DEFAULT, texts);
	free(texts);
	H5Sclose(space);
	H5Tclose(type);
	H5Dclose(dataset);
}

static inline void commit(esk_h5 *file)
{
	assert_ok(esk_h5_commit_begin(file, &err), &err);
	assert_ok(esk_h5_commit_finish(file, NULL, &err), &err);
}

/* ---- many datasets, one number that says how far they are ---- */

enum { DATASETS = 20 };

typedef struct lines {
	esk_h5 *file;
	esk_h5_dataset *numbers[DATASETS];
	esk_h5_dataset *strings;
	uint64_t n; /* commits that the file holds */
} lines;

static inline uint64_t rows_at(uint64_t n, uint64_t dataset)
{
	return n * (1 + dataset % 4) + n / 3;
}

static inline const char *line_path(size_t i)
{
	static char path[32];
	snprintf(path, sizeof path, "s%zu/x%zu", i % 3, i);
	return path;
}

static inline esk_status lines_create(const esk_os *os, const char *path, lines *ret)
{
	esk_status status = esk_h5_create(os, path, &ret->file, &err);
	if (status != ESK_OK)
		return status;
	for (size_t i = 0; i < DATASETS; i++) {
		ret->numbers[i] = numbers_create(ret->file, line_path(i));
		if (!ret->numbers[i])
			return err.code;
	}
	ret->strings = strings_create(ret->file, "notes");
	return ret->strings ? esk_h5_set_i64(ret->file, "/", "n", 0, &err) : err.code;
}

static inline esk_status lines_open(const esk_os *os, const char *path, lines *ret)
{
	int64_t n = 0;
	esk_status status = esk_h5_open_write(os, path, &ret->file, NULL, &err);
	for (size_t i = 0; status == ESK_OK && i < DATASETS; i++)
		status = esk_h5_dataset_open(ret->file, line_path(i), &ret->numbers[i], &err);
	if (status == ESK_OK)
		status = esk_h5_dataset_open(ret->file, "notes", &ret->strings, &err);
	if (status == ESK_OK)
		status = esk_h5_get_i64(ret->file, "/", "n", &n, &err);
	ret->n = (uint64_t)n;
	return status;
}

static inline esk_status lines_write(lines *l)
{
	uint64_t next = l->n + 1;
	char group[32];
	esk_status status = ESK_OK;

	for (size_t i = 0; status == ESK_OK && i < DATASETS; i++)
		status = numbers_append(l->numbers[i], i, rows_at(l->n, i), rows_at(next, i));
	if (status == ESK_OK)
		status = strings_append(l->strings, 77, l->n, next);
	snprintf(group, sizeof group, "groups/g%llu", (unsigned long long)next);
	if (status == ESK_OK)
		status = esk_h5_make_group(l->file, group, &err);
	if (status == ESK_OK)
		status = esk_h5_set_i64(l->file, "/", "n", (int64_t)next, &err);
	if (status == ESK_OK)
		l->n = next;
	return status;
}

static inline esk_status lines_commit(lines *l)
{
	esk_status status = lines_write(l);
	if (status == ESK_OK)
		status = esk_h5_commit_begin(l->file, &err);
	return status == ESK_OK ? esk_h5_commit_finish(l->file, NULL, &err) : status;
}

/* What stock libhdf5 finds must be one commit, whole; returns its number. */
static inline uint64_t lines_verify(const char *path)
{
	hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), attribute;
	int64_t n = -1;
	char group[32];

	if (file < 0)
		fail_msg("stock libhdf5 does not open %s", path);
	attribute = H5Aopen(file, "n", H5P_DEFAULT);
	assert_true(H5Aread(attribute, H5T_NATIVE_INT64, &n) >= 0);
	H5Aclose(attribute);
	for (size_t i = 0; i < DATASETS; i++)
		numbers_verify(file, line_path(i), i, rows_at((uint64_t)n, i));
	strings_verify(file, "notes", 77, (uint64_t)n);
	for (int64_t g = 1; g <= n + 1; g++) {
		snprintf(group, sizeof group, "groups/g%lld", (long long)g);
		if ((H5Lexists(file, group, H5P_DEFAULT) > 0) != (g <= n))
			fail_msg("%s in commit %lld", group, (long long)n);
	}
	H5Fclose(file);
	return (uint64_t)n;
}

/* Recovers and verifies; false where there was never a commit. */
static inline bool recover(const char *path, uint64_t acknowledged)
{
	esk_h5 *file = NULL;
	esk_status status = esk_h5_open_write(esk_os_posix(), path, &file, NULL, &err);

	if (status == ESK_ENOTFOUND && acknowledged == 0)
		return false;
	assert_ok(status, &err);
	assert_ok(esk_h5_close(file, &err), &err);
	uint64_t n = lines_verify(path);
	if (n != acknowledged && n != acknowledged + 1)
		fail_msg("acknowledged %llu, recovered %llu", (unsigned long long)acknowledged,
			(unsigned long long)n);
	return true;
}

#endif
