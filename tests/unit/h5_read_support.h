/* What the tests of reading share: a seed, a directory, a pool, and a plain file of stock libhdf5. */
#ifndef ESK_TESTS_H5_READ_SUPPORT_H
#define ESK_TESTS_H5_READ_SUPPORT_H

#include "h5/h5.h"
#include <hdf5.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka needs the four above it */
#include <cmocka.h>

static uint64_t seed;
static uint64_t state;
static char directory[64];
static esk_pool *pool;

static inline uint64_t draw(uint64_t below)
{
	state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return below ? (state >> 33) % below : 0;
}

static inline const char *path_of(const char *name)
{
	static char path[128];
	snprintf(path, sizeof path, "%s/%s", directory, name);
	unlink(path);
	return path;
}

static inline void ok(esk_status status, const esk_error *err)
{
	if (status != ESK_OK)
		fail_msg("%s: %s (seed %llu)", esk_status_name(status), err->message,
			(unsigned long long)seed);
}

static inline esk_h5 *open_file(const char *path)
{
	esk_error err;
	esk_h5 *file = NULL;
	ok(esk_h5_open_read(esk_os_posix(), path, &file, &err), &err);
	return file;
}

static inline esk_h5_dataset *open_dataset(esk_h5 *file, const char *path)
{
	esk_error err;
	esk_h5_dataset *dataset = NULL;
	ok(esk_h5_dataset_open(file, path, &dataset, &err), &err);
	return dataset;
}

static inline void close_file(esk_h5 *file)
{
	esk_error err;
	ok(esk_h5_close(file, &err), &err);
}

/* Smooth with some noise, so that compressors have something to do. */
static inline void fill_random(unsigned char *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		data[i] = draw(8) == 0 ? (unsigned char)draw(256) : (unsigned char)(i / 16);
}

/* u8 rows of `row_bytes`, `chunk_rows` a chunk; deflate unless level is 0. */
static inline unsigned char *plain_make(
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

static inline int make_directory(void **unused)
{
	(void)unused;
	esk_error err;
	snprintf(directory, sizeof directory, "/tmp/esk_h5_read.XXXXXX");
	H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
	return mkdtemp(directory) && esk_pool_create(2, 16, &pool, &err) == ESK_OK ? 0 : -1;
}

static inline int remove_directory(void **unused)
{
	(void)unused;
	char command[128];
	esk_pool_destroy(pool);
	snprintf(command, sizeof command, "rm -r %s", directory);
	return system(command);
}

static inline void begin(int argc, char **argv)
{
	const char *wish = argc > 1 ? argv[1] : getenv("ESK_SEED");
	seed = wish ? strtoull(wish, NULL, 10) : esk_random_u64() >> 32;
	state = seed;
	print_message("seed %llu\n", (unsigned long long)seed);
}

#endif
