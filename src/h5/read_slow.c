/* What only libhdf5 can read: other byte orders and types, compact, virtual and external storage, filters
 * that have a plugin, and variable strings. All of it under the lock, one thread at a time. */
#include "h5/read_internal.h"
#include <stdlib.h>
#include <string.h>

/* Selects rows [row, row + count) in new spaces for the file and for memory. */
static bool spaces_make(const esk_h5_dataset *dataset, uint64_t row, uint64_t count, hid_t *ret_file_space,
	hid_t *ret_memory_space)
{
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	hsize_t start[ESK_MAX_RANK + 1] = {row}, extent[ESK_MAX_RANK + 1] = {count};
	int rank = (int)info->column.rank + 1;
	for (uint32_t i = 0; i < info->column.rank; i++)
		extent[i + 1] = info->column.shape[i];
	*ret_memory_space = H5I_INVALID_HID;
	*ret_file_space = H5Dget_space(dataset->id);
	if (*ret_file_space < 0)
		return false;
	if (info->scalar)
		*ret_memory_space = H5Scopy(*ret_file_space);
	else if (H5Sselect_hyperslab(*ret_file_space, H5S_SELECT_SET, start, NULL, extent, NULL) >= 0)
		*ret_memory_space = H5Screate_simple(rank, extent, NULL);
	return *ret_memory_space >= 0;
}

static void space_close(hid_t space)
{
	if (space >= 0)
		H5Sclose(space);
}

/* True, with its number, if a filter of the dataset is not to be had: neither here nor as a plugin. */
static bool filter_missing(const esk_pipeline *pipeline, uint32_t *ret_filter)
{
	for (uint32_t i = 0; i < pipeline->count && i < ESK_MAX_FILTERS; i++) {
		if (H5Zfilter_avail((H5Z_filter_t)pipeline->filters[i].id) > 0)
			continue;
		*ret_filter = pipeline->filters[i].id;
		return true;
	}
	return false;
}

static esk_status fail_read(const esk_h5_dataset *dataset, uint64_t row, uint64_t count, esk_error *err)
{
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	/* What libhdf5 says is kept before asking it about filters, which clears its stack. */
	esk_status status = esk_h5_fail(err, ESK_ECORRUPT, "%s: dataset %s: rows %llu to %llu cannot be read",
		esk_h5_path(dataset->file), info->path, (unsigned long long)row,
		(unsigned long long)(row + count));
	uint32_t filter;
	if (status == ESK_ECORRUPT && info->chunked && filter_missing(&info->pipeline, &filter))
		return esk_fail(err, ESK_EUNSUPPORTED,
			"%s: dataset %s needs HDF5 filter %u, which is neither built in nor found as a "
			"plugin: HDF5_PLUGIN_PATH says where plugins are looked for",
			esk_h5_path(dataset->file), info->path, filter);
	return status;
}

/* Under the lock. */
static esk_status read_selected(
	esk_h5_dataset *dataset, hid_t memory_type, uint64_t row, uint64_t count, void *out, esk_error *err)
{
	hid_t file_space, memory_space;
	bool got = spaces_make(dataset, row, count, &file_space, &memory_space) &&
		   H5Dread(dataset->id, memory_type, memory_space, file_space, H5P_DEFAULT, out) >= 0;
	esk_status status = got ? ESK_OK : fail_read(dataset, row, count, err);
	space_close(memory_space);
	space_close(file_space);
	return status;
}

esk_status esk_h5_read_slowly(
	esk_h5_dataset *dataset, const esk_h5_rows *pieces, size_t piece_count, esk_error *err)
{
	esk_status status = esk_h5_enter(dataset->file, err);
	if (status != ESK_OK)
		return status;
	for (size_t i = 0; i < piece_count && status == ESK_OK; i++)
		if (pieces[i].count > 0)
			status = read_selected(dataset, dataset->memory_type, pieces[i].row, pieces[i].count,
				pieces[i].out, err);
	return esk_h5_leave(dataset->file, status, err);
}

/* ---- variable strings ---- */

/* One allocation: the array, then the bytes, each string closed by a NUL that is not counted. NULL pointers
 * are what HDF5 gives for cells that were never written. */
static esk_status strings_pack(char *const *texts, size_t count, esk_string **ret_strings, esk_error *err)
{
	uint64_t bytes = 0;
	bool fits = esk_mul_u64(count, sizeof(esk_string), &bytes);
	for (size_t i = 0; i < count && fits; i++)
		fits = esk_add_u64(bytes, (texts[i] ? strlen(texts[i]) : 0) + 1, &bytes);
	esk_string *strings = fits && bytes <= SIZE_MAX ? malloc(bytes ? bytes : 1) : NULL;
	if (!strings)
		return esk_fail_memory(err, bytes, "strings");
	char *at = (char *)(strings + count);
	for (size_t i = 0; i < count; i++) {
		size_t size = texts[i] ? strlen(texts[i]) : 0;
		strings[i] = (esk_string){.data = at, .size = size};
		if (size > 0)
			memcpy(at, texts[i], size);
		at[size] = '\0';
		at += size + 1;
	}
	*ret_strings = strings;
	return ESK_OK;
}

/* Under the lock: what H5Dread allocated goes back. */
static esk_status strings_reclaim(
	esk_h5_dataset *dataset, uint64_t row, uint64_t rows, char **texts, esk_error *err)
{
	hid_t file_space, memory_space;
	bool done = spaces_make(dataset, row, rows, &file_space, &memory_space) &&
		    H5Dvlen_reclaim(dataset->memory_type, memory_space, H5P_DEFAULT, texts) >= 0;
	space_close(memory_space);
	space_close(file_space);
	if (done)
		return ESK_OK;
	return esk_h5_fail(err, ESK_EINTERNAL, "%s: dataset %s: the strings that were read cannot be freed",
		esk_h5_path(dataset->file), esk_h5_dataset_info(dataset)->path);
}

static esk_status strings_read(esk_h5_dataset *dataset, uint64_t row, uint64_t rows, char **texts,
	size_t count, esk_string **ret_strings, esk_error *err)
{
	esk_string *strings = NULL;
	esk_status status = esk_h5_enter(dataset->file, err);
	if (status != ESK_OK)
		return status;
	status = read_selected(dataset, dataset->memory_type, row, rows, texts, err);
	if (status == ESK_OK)
		status = strings_pack(texts, count, &strings, err);
	/* A read that failed half-way has allocated some of them. */
	esk_status reclaimed = strings_reclaim(dataset, row, rows, texts, status == ESK_OK ? err : NULL);
	status = esk_h5_leave(dataset->file, status == ESK_OK ? reclaimed : status, err);
	if (status == ESK_OK)
		*ret_strings = strings;
	else
		free(strings);
	return status;
}

esk_status esk_h5_read_strings(
	esk_h5_dataset *dataset, uint64_t row, uint64_t rows, esk_string **ret_strings, esk_error *err)
{
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	uint64_t end, count = rows;
	if (!info->readable || info->column.dtype.kind != ESK_STRING)
		return esk_fail(err, ESK_ETYPE, "%s: dataset %s does not hold variable strings",
			esk_h5_path(dataset->file), info->path);
	if (!esk_add_u64(row, rows, &end) || end > info->rows)
		return esk_fail(err, ESK_ERANGE, "%s: dataset %s has %llu rows, wanted %llu from row %llu",
			esk_h5_path(dataset->file), info->path, (unsigned long long)info->rows,
			(unsigned long long)rows, (unsigned long long)row);
	bool fits = true;
	for (uint32_t i = 0; i < info->column.rank && fits; i++)
		fits = esk_mul_u64(count, info->column.shape[i], &count);
	char **texts =
		fits && count <= SIZE_MAX / sizeof *texts ? calloc(count ? count : 1, sizeof *texts) : NULL;
	if (!texts)
		return esk_fail_memory(err, SIZE_MAX, "strings");
	esk_status status = count == 0 ? strings_pack(texts, 0, ret_strings, err)
				       : strings_read(dataset, row, rows, texts, count, ret_strings, err);
	free(texts);
	return status;
}
