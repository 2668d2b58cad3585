/* What the tests of src/h5 share: files of their own, datasets of any kind, what a walk meets. */
#ifndef ESK_TESTS_H5_SUPPORT_H
#define ESK_TESTS_H5_SUPPORT_H

#include "support/unit.h"

#include "h5/h5.h"
#include "h5/h5_internal.h"

static esk_error err;

static inline esk_h5 *make(test_dir *dir, const char *name)
{
	esk_h5 *file = NULL;
	assert_ok(esk_h5_create(esk_os_posix(), test_path(dir, name), &file, &err), &err);
	return file;
}

static inline esk_h5 *open_to_read(const char *path)
{
	esk_h5 *file = NULL;
	assert_ok(esk_h5_open_read(esk_os_posix(), path, &file, &err), &err);
	return file;
}

static inline void commit(esk_h5 *file)
{
	assert_ok(esk_h5_commit_begin(file, &err), &err);
	assert_ok(esk_h5_commit_finish(file, NULL, &err), &err);
}

static inline void close_file(esk_h5 *file)
{
	assert_ok(esk_h5_close(file, &err), &err);
}

static inline esk_column column_of(const char *spec)
{
	esk_column *columns = NULL, column;
	size_t count = 0;
	assert_ok(esk_columns_parse(spec, &columns, &count, &err), &err);
	assert_int_equal(count, 1);
	column = columns[0];
	esk_columns_free(columns);
	return column;
}

static inline esk_h5_dataset *add(esk_h5 *file, const char *path, const char *spec, uint64_t chunk_rows)
{
	esk_column column = column_of(spec);
	esk_pipeline pipeline = {0};
	esk_h5_dataset *dataset = NULL;
	if (column.dtype.kind != ESK_STRING)
		assert_ok(esk_pipeline_build(column.codec[0] ? column.codec : "none", &column, chunk_rows,
				  &pipeline, &err),
			&err);
	assert_ok(esk_h5_dataset_create(file, path, &column, chunk_rows, &pipeline, &dataset, &err), &err);
	return dataset;
}

/* Writes chunk `chunk` filled with `byte`, and makes the dataset end with it. */
static inline void append(esk_h5_dataset *dataset, uint64_t chunk, unsigned char byte)
{
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	esk_scratch *scratch = esk_scratch_create();
	size_t bound = esk_pipeline_bound(&info->pipeline), size = 0;
	unsigned char *plain = malloc(info->pipeline.chunk_bytes), *packed = malloc(bound);
	uint32_t mask = 0;

	memset(plain, byte, info->pipeline.chunk_bytes);
	esk_span span = {plain, info->pipeline.chunk_bytes};
	assert_ok(esk_pipeline_encode(&info->pipeline, scratch, &span, 1, packed, bound, &size, &mask, &err),
		&err);
	assert_ok(esk_h5_set_rows(dataset, (chunk + 1) * info->chunk_shape[0], &err), &err);
	assert_ok(esk_h5_write_chunk(dataset, chunk, mask, packed, size, &err), &err);
	free(packed);
	free(plain);
	esk_scratch_destroy(scratch);
}

/* Opens as a program without Esker would. */
static inline hid_t stock_open(const char *path)
{
	hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
	assert_true(file >= 0);
	return file;
}

typedef struct walk {
	char seen[512];
	int stop_after;
} walk;

static inline esk_status note(void *arg, esk_h5_dataset *dataset, esk_error *error)
{
	walk *w = arg;
	if (w->stop_after-- == 0)
		return esk_fail(error, ESK_ETIMEDOUT, "enough");
	strcat(strcat(w->seen, esk_h5_dataset_info(dataset)->path), " ");
	return ESK_OK;
}

#endif
