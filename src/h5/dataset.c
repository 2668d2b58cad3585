/* Datasets: handles, creation, growth, and writing. */
#include "h5/h5_internal.h"

#include <stdlib.h>
#include <string.h>

/* libhdf5's own cache for datasets of variable strings; all others are written as whole chunks, past any
 * cache. */
#define STRING_CACHE_BYTES (1u << 20)
#define STRING_CACHE_SLOTS 521

/* ---- handles ---- */

static size_t bucket_of(const char *path)
{
	uint64_t hash = 14695981039346656037u; /* FNV-1a */
	for (; *path; path++)
		hash = (hash ^ (unsigned char)*path) * 1099511628211u;
	return hash % ESK_H5_BUCKETS;
}

static esk_h5_dataset *find(esk_h5 *file, const char *path)
{
	for (esk_h5_dataset *dataset = file->buckets[bucket_of(path)]; dataset; dataset = dataset->next) {
		if (strcmp(dataset->info.path, path) == 0)
			return dataset;
	}
	return NULL;
}

void esk_h5_dataset_free(esk_h5_dataset *dataset)
{
	esk_h5_drop(dataset->memory_type);
	esk_h5_drop(dataset->id);
	esk_h5_chunk_cache_destroy(dataset->chunk_cache);
	esk_h5_info_free(&dataset->info);
	free(dataset);
}

/* Makes the handle of an open dataset; `id` is its own from here on. */
static esk_status handle_make(
	esk_h5 *file, hid_t id, const char *path, esk_h5_dataset **ret_dataset, esk_error *err)
{
	esk_h5_dataset *dataset = calloc(1, sizeof *dataset);
	esk_status status;

	if (!dataset) {
		esk_h5_drop(id);
		return esk_fail_memory(err, sizeof *dataset, path);
	}
	dataset->file = file;
	dataset->id = id;
	status = esk_h5_inspect(dataset, path, err);
	if (status != ESK_OK) {
		esk_h5_dataset_free(dataset);
		return status;
	}
	dataset->next = file->buckets[bucket_of(path)];
	file->buckets[bucket_of(path)] = dataset;
	*ret_dataset = dataset;
	return ESK_OK;
}

/* Access properties: no chunk cache, or for variable strings one that holds at least two chunks of
 * `chunk_bytes`. */
static hid_t access_properties(bool strings, uint64_t chunk_bytes)
{
	hid_t plist = H5Pcreate(H5P_DATASET_ACCESS);
	size_t slots = strings ? STRING_CACHE_SLOTS : 0;
	size_t bytes = strings ? esk_max_u64(STRING_CACHE_BYTES, 2 * chunk_bytes) : 0;

	if (plist >= 0 && H5Pset_chunk_cache(plist, slots, bytes, H5D_CHUNK_CACHE_W0_DEFAULT) < 0) {
		esk_h5_drop(plist);
		return H5I_INVALID_HID;
	}
	return plist;
}

static bool holds_variable_strings(hid_t id)
{
	hid_t type = H5Dget_type(id);
	bool strings = type >= 0 && H5Tis_variable_str(type) > 0;
	esk_h5_drop(type);
	return strings;
}

static esk_status open_dataset(esk_h5 *file, const char *path, esk_h5_dataset **ret_dataset, esk_error *err)
{
	hid_t plist = access_properties(false, 0);
	hid_t id = plist < 0 ? plist : H5Dopen2(file->id, path, plist);

	esk_h5_drop(plist);
	if (id >= 0 && holds_variable_strings(id)) {
		esk_h5_drop(id); /* libhdf5's default cache is right for these */
		id = H5Dopen2(file->id, path, H5P_DEFAULT);
	}
	if (id >= 0)
		return handle_make(file, id, path, ret_dataset, err);
	if (!esk_h5_driver_error() && !esk_h5_path_exists(file, path))
		return esk_fail(err, ESK_ENOTFOUND, "%s has no dataset '/%s'", file->path, path);
	return esk_h5_fail(err, ESK_ECORRUPT, "%s: cannot open dataset '/%s'", file->path, path);
}

esk_status esk_h5_dataset_open(esk_h5 *file, const char *path, esk_h5_dataset **ret_dataset, esk_error *err)
{
	char checked[ESK_H5_PATH_BYTES];
	esk_h5_dataset *dataset;
	esk_status status = esk_h5_path_check(path, false, checked, err);

	if (status != ESK_OK)
		return status;
	if (checked[0] == '\0')
		return esk_fail(err, ESK_EINVAL, "%s: the root is a group, not a dataset", file->path);
	esk_h5_lock();
	dataset = find(file, checked);
	esk_h5_unlock();
	if (!dataset) {
		status = esk_h5_enter(file, err);
		if (status != ESK_OK)
			return status;
		dataset = find(file, checked); /* another thread may have opened it meanwhile */
		if (!dataset)
			status = open_dataset(file, checked, &dataset, err);
		status = esk_h5_leave(file, status, err);
	}
	if (status == ESK_OK)
		*ret_dataset = dataset;
	return status;
}

const esk_h5_info *esk_h5_dataset_info(const esk_h5_dataset *dataset)
{
	return &dataset->info;
}

void esk_h5_dataset_close(esk_h5_dataset *dataset)
{
	esk_h5_lock();
	esk_h5_dataset **link = &dataset->file->buckets[bucket_of(dataset->info.path)];
	while (*link != dataset)
		link = &(*link)->next;
	*link = dataset->next;
	esk_h5_dataset_free(dataset);
	esk_h5_unlock();
}

/* ---- creation ---- */

/* A space of 0 rows that may grow. */
static hid_t growing_space(const esk_column *column)
{
	hsize_t now[ESK_MAX_RANK + 1] = {0}, most[ESK_MAX_RANK + 1] = {H5S_UNLIMITED};
	for (uint32_t i = 0; i < column->rank; i++)
		now[i + 1] = most[i + 1] = column->shape[i];
	return H5Screate_simple((int)column->rank + 1, now, most);
}

herr_t esk_h5_set_filters(hid_t plist, const esk_pipeline *pipeline)
{
	for (uint32_t i = 0; i < pipeline->count; i++) {
		const esk_filter *filter = &pipeline->filters[i];
		unsigned values[ESK_MAX_FILTER_VALUES];
		for (uint32_t v = 0; v < filter->value_count; v++)
			values[v] = filter->values[v];
		if (H5Pset_filter(plist, (H5Z_filter_t)filter->id,
			    filter->optional ? H5Z_FLAG_OPTIONAL : H5Z_FLAG_MANDATORY, filter->value_count,
			    values) < 0)
			return -1;
	}
	return 0;
}

/* Times are off so that equal content makes equal files. Chunks that were never written read as zeros. */
static hid_t creation_properties(const esk_column *column, uint64_t chunk_rows, const esk_pipeline *pipeline)
{
	hsize_t chunk[ESK_MAX_RANK + 1] = {chunk_rows};
	hid_t plist = H5Pcreate(H5P_DATASET_CREATE);

	for (uint32_t i = 0; i < column->rank; i++)
		chunk[i + 1] = column->shape[i];
	if (plist >= 0 &&
		(H5Pset_chunk(plist, (int)column->rank + 1, chunk) < 0 ||
			H5Pset_alloc_time(plist, H5D_ALLOC_TIME_INCR) < 0 ||
			H5Pset_fill_time(plist, H5D_FILL_TIME_IFSET) < 0 ||
			H5Pset_obj_track_times(plist, false) < 0 ||
			(column->dtype.kind != ESK_STRING && esk_h5_set_filters(plist, pipeline) < 0))) {
		esk_h5_drop(plist);
		return H5I_INVALID_HID;
	}
	return plist;
}

esk_status esk_h5_write_labels(hid_t id, const char *path, const esk_column *column, esk_error *err)
{
	esk_status status = ESK_OK;
	if (column->units[0])
		status = esk_h5_text_write(id, path, "units", column->units, err);
	if (status == ESK_OK && column->long_name[0])
		status = esk_h5_text_write(id, path, "long_name", column->long_name, err);
	return status;
}

static hid_t create_id(esk_h5 *file, const char *path, const esk_column *column, uint64_t chunk_rows,
	const esk_pipeline *pipeline)
{
	bool strings = column->dtype.kind == ESK_STRING;
	hid_t id = H5I_INVALID_HID;
	hid_t type = esk_h5_type_make(column->dtype);
	hid_t space = growing_space(column);
	hid_t links = esk_h5_link_properties(path);
	hid_t access = access_properties(strings, pipeline ? pipeline->chunk_bytes : 0);
	hid_t creation = creation_properties(column, chunk_rows, pipeline);

	if (type >= 0 && space >= 0 && links >= 0 && access >= 0 && creation >= 0)
		id = H5Dcreate2(file->id, path, type, space, links, creation, access);
	esk_h5_drop(creation);
	esk_h5_drop(access);
	esk_h5_drop(links);
	esk_h5_drop(space);
	esk_h5_drop(type);
	return id;
}

static esk_status create_dataset(esk_h5 *file, const char *path, const esk_column *column,
	uint64_t chunk_rows, const esk_pipeline *pipeline, esk_h5_dataset **ret_dataset, esk_error *err)
{
	esk_h5_dataset *dataset = NULL;
	esk_status status;
	hid_t id;

	if (esk_h5_path_exists(file, path))
		return esk_fail(err, ESK_EEXIST, "%s: '/%s' exists already", file->path, path);
	id = create_id(file, path, column, chunk_rows, pipeline);
	if (id < 0)
		return esk_h5_fail_create(file, "dataset", path, err);
	status = esk_h5_write_labels(id, path, column, err);
	if (status != ESK_OK) {
		esk_h5_drop(id);
		goto written;
	}
	status = handle_make(file, id, path, &dataset, err);
	if (status != ESK_OK)
		goto written;
	*ret_dataset = dataset;
	return ESK_OK;

written:
	H5Ldelete(file->id, path, H5P_DEFAULT);
	return status;
}

/* HDF5 keeps the size of a chunk in 32 bits. */
static esk_status check_chunk(const esk_column *column, uint64_t chunk_rows, esk_error *err)
{
	uint64_t bytes = column->dtype.size_bytes;
	bool fits = chunk_rows > 0 && esk_mul_u64(bytes, chunk_rows, &bytes);
	for (uint32_t i = 0; fits && i < column->rank; i++)
		fits = esk_mul_u64(bytes, column->shape[i], &bytes);
	if (fits && bytes <= UINT32_MAX)
		return ESK_OK;
	return esk_fail(err, ESK_ERANGE,
		"column '%s': a chunk of %llu rows does not fit HDF5's 4 GiB per chunk (or is empty): use "
		"fewer rows per chunk",
		column->name, (unsigned long long)chunk_rows);
}

esk_status esk_h5_dataset_create(esk_h5 *file, const char *path, const esk_column *column,
	uint64_t chunk_rows, const esk_pipeline *pipeline, esk_h5_dataset **ret_dataset, esk_error *err)
{
	char checked[ESK_H5_PATH_BYTES];
	esk_h5_dataset *dataset = NULL;
	esk_status status = esk_h5_begin_change(file, err);

	if (status == ESK_OK)
		status = esk_h5_path_check(path, true, checked, err);
	if (status == ESK_OK && checked[0] == '\0')
		status = esk_fail(err, ESK_EINVAL, "a dataset needs a name");
	if (status == ESK_OK)
		status = check_chunk(column, chunk_rows, err);
	if (status != ESK_OK)
		return status;
	esk_h5_lock();
	status = create_dataset(file, checked, column, chunk_rows, pipeline, &dataset, err);
	esk_h5_unlock();
	if (status == ESK_OK)
		*ret_dataset = dataset;
	return status;
}

/* ---- writing ---- */

static esk_status check_dataset(esk_h5_dataset *dataset, esk_error *err)
{
	esk_status status = esk_h5_begin_change(dataset->file, err);
	if (status == ESK_OK && dataset->id < 0)
		status = esk_fail(err, ESK_ENOTFOUND, "%s: dataset '/%s' was deleted", dataset->file->path,
			dataset->info.path);
	return status;
}

static esk_status fail_write(esk_h5_dataset *dataset, esk_error *err)
{
	return esk_h5_fail(
		err, ESK_EIO, "%s: cannot write to dataset '/%s'", dataset->file->path, dataset->info.path);
}

esk_status esk_h5_set_rows(esk_h5_dataset *dataset, uint64_t rows, esk_error *err)
{
	hsize_t dims[ESK_MAX_RANK + 1] = {rows};
	esk_status status = check_dataset(dataset, err);

	if (status != ESK_OK)
		return status;
	if (rows == dataset->info.rows)
		return ESK_OK;
	for (uint32_t i = 0; i < dataset->info.column.rank; i++)
		dims[i + 1] = dataset->info.column.shape[i];
	esk_h5_lock();
	if (H5Dset_extent(dataset->id, dims) < 0)
		status = fail_write(dataset, err);
	else
		dataset->info.rows = rows;
	esk_h5_unlock();
	return status;
}

/* Chunks of whole rows only: the number of a chunk is then where its rows begin. */
static esk_status check_whole_rows(const esk_h5_dataset *dataset, esk_error *err)
{
	const esk_h5_info *info = &dataset->info;
	bool whole = info->chunked;
	for (uint32_t i = 0; whole && i < info->column.rank; i++)
		whole = info->chunk_shape[i + 1] == info->column.shape[i];
	return whole ? ESK_OK
		     : esk_fail(err, ESK_EUNSUPPORTED,
			       "%s: dataset '/%s' is not stored in chunks of whole rows", dataset->file->path,
			       info->path);
}

esk_status esk_h5_write_chunk(esk_h5_dataset *dataset, uint64_t chunk, uint32_t filter_mask, const void *data,
	size_t size, esk_error *err)
{
	hsize_t offset[ESK_MAX_RANK + 1] = {0};
	uint64_t row;
	esk_status status = check_dataset(dataset, err);

	if (status == ESK_OK)
		status = check_whole_rows(dataset, err);
	if (status != ESK_OK)
		return status;
	if (!esk_mul_u64(chunk, dataset->info.chunk_shape[0], &row) || row >= dataset->info.rows)
		return esk_fail(err, ESK_ERANGE, "%s: chunk %llu of dataset '/%s' lies behind its %llu rows",
			dataset->file->path, (unsigned long long)chunk, dataset->info.path,
			(unsigned long long)dataset->info.rows);
	offset[0] = row;
	esk_h5_lock();
	if (H5Dwrite_chunk(dataset->id, H5P_DEFAULT, filter_mask, offset, size, data) < 0)
		status = fail_write(dataset, err);
	esk_h5_unlock();
	return status;
}

/* `count` C strings in one allocation: pointers first, their bytes behind. NULL on failure. */
static char **c_strings(
	const esk_string *strings, size_t count, const esk_h5_dataset *dataset, esk_error *err)
{
	uint64_t bytes = 0;
	bool fits = esk_mul_u64(count, sizeof(char *) + 1, &bytes);
	char **pointers, *at;

	for (size_t i = 0; fits && i < count; i++) {
		fits = esk_add_u64(bytes, strings[i].size, &bytes);
		if (strings[i].size > 0 && memchr(strings[i].data, '\0', strings[i].size)) {
			esk_fail(err, ESK_EINVAL,
				"a string for '/%s' has a NUL byte in it, which HDF5 strings cannot keep",
				dataset->info.path);
			return NULL;
		}
	}
	pointers = fits && bytes <= SIZE_MAX ? malloc(bytes > 0 ? bytes : 1) : NULL;
	if (!pointers) {
		esk_fail_memory(err, bytes, dataset->info.path);
		return NULL;
	}
	at = (char *)(pointers + count);
	for (size_t i = 0; i < count; i++) {
		pointers[i] = at;
		if (strings[i].size > 0)
			memcpy(at, strings[i].data, strings[i].size);
		at += strings[i].size;
		*at++ = '\0';
	}
	return pointers;
}

static herr_t write_rows(esk_h5_dataset *dataset, uint64_t row, uint64_t rows, const void *data)
{
	const esk_column *column = &dataset->info.column;
	hsize_t start[ESK_MAX_RANK + 1] = {row}, count[ESK_MAX_RANK + 1] = {rows};
	herr_t done = -1;
	hid_t file_space, memory_space;

	for (uint32_t i = 0; i < column->rank; i++)
		count[i + 1] = column->shape[i];
	memory_space = H5Screate_simple((int)column->rank + 1, count, NULL);
	file_space = H5Dget_space(dataset->id);
	if (memory_space >= 0 && file_space >= 0 &&
		H5Sselect_hyperslab(file_space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0)
		done = H5Dwrite(
			dataset->id, dataset->memory_type, memory_space, file_space, H5P_DEFAULT, data);
	esk_h5_drop(file_space);
	esk_h5_drop(memory_space);
	return done;
}

esk_status esk_h5_write_strings(
	esk_h5_dataset *dataset, uint64_t row, uint64_t rows, const esk_string *strings, esk_error *err)
{
	const esk_column *column = &dataset->info.column;
	esk_error why = {0};
	uint64_t end = 0, elements = rows;
	char **pointers;
	esk_status status = check_dataset(dataset, err);

	if (status != ESK_OK)
		return status;
	if (column->dtype.kind != ESK_STRING || dataset->info.scalar)
		return esk_fail(err, ESK_ETYPE, "%s: dataset '/%s' is not rows of variable strings",
			dataset->file->path, dataset->info.path);
	for (uint32_t i = 0; i < column->rank; i++) {
		if (!esk_mul_u64(elements, column->shape[i], &elements))
			return esk_fail(err, ESK_ERANGE, "too many strings for '/%s'", dataset->info.path);
	}
	if (!esk_add_u64(row, rows, &end) || end > dataset->info.rows)
		return esk_fail(err, ESK_ERANGE, "%s: rows %llu to %llu lie behind the %llu rows of '/%s'",
			dataset->file->path, (unsigned long long)row, (unsigned long long)end,
			(unsigned long long)dataset->info.rows, dataset->info.path);
	if (rows == 0)
		return ESK_OK;
	pointers = c_strings(strings, elements, dataset, &why);
	if (!pointers)
		return esk_fail(err, why.code, "%s", why.message);
	esk_h5_lock();
	if (write_rows(dataset, row, rows, pointers) < 0)
		status = fail_write(dataset, err);
	esk_h5_unlock();
	free(pointers);
	return status;
}
