/* What a dataset is: esk_h5_info of anything that HDF5 files hold, whoever wrote it. */
#include "h5/h5_internal.h"

#include <stdlib.h>
#include <string.h>

void esk_h5_info_free(esk_h5_info *info)
{
	free(info->path);
	info->path = NULL;
}

/* Copies what fits of `text`, not cutting a character in two. */
static void copy_text(char *buf, size_t buf_bytes, const char *text)
{
	size_t size = strlen(text);
	if (size >= buf_bytes) {
		size = buf_bytes - 1;
		while (size > 0 && ((unsigned char)text[size] & 0xC0) == 0x80)
			size--;
	}
	memcpy(buf, text, size);
	buf[size] = '\0';
}

/* Copies the text attribute `name`, if there is one that is text. */
static void copy_attribute(const esk_h5_dataset *dataset, const char *name, char *buf, size_t buf_bytes)
{
	char *text = NULL;
	if (esk_h5_text_read(dataset->id, dataset->info.path, name, &text, NULL) == ESK_OK)
		copy_text(buf, buf_bytes, text);
	free(text);
}

/* Rows and the cell's shape. False where it has none that a column can have (no dataspace, no elements in a
 * cell). */
static bool read_shape(hid_t space, esk_h5_info *info)
{
	hsize_t dims[ESK_MAX_RANK + 1];
	int rank = H5Sget_simple_extent_ndims(space);

	if (H5Sget_simple_extent_type(space) == H5S_SCALAR) {
		info->scalar = true;
		info->rows = 1;
		return true;
	}
	if (H5Sget_simple_extent_type(space) != H5S_SIMPLE || rank < 1 || rank > ESK_MAX_RANK + 1 ||
		H5Sget_simple_extent_dims(space, dims, NULL) < 0)
		return false;
	info->rows = dims[0];
	info->column.rank = (uint32_t)rank - 1;
	uint64_t elements = 1;
	for (uint32_t i = 0; i < info->column.rank; i++) {
		info->column.shape[i] = dims[i + 1];
		if (dims[i + 1] == 0 || !esk_mul_u64(elements, dims[i + 1], &elements))
			return false;
	}
	return true;
}

/* Bytes of a cell, and of all rows, fit in 64 bits. */
static bool sizes_fit(const esk_h5_info *info)
{
	uint64_t bytes = info->column.dtype.size_bytes;
	for (uint32_t i = 0; i < info->column.rank; i++) {
		if (!esk_mul_u64(bytes, info->column.shape[i], &bytes))
			return false;
	}
	return esk_mul_u64(bytes, info->rows, &bytes);
}

/* False where the pipeline is more than esk_pipeline holds. */
static bool read_filters(hid_t plist, esk_pipeline *pipeline)
{
	int count = H5Pget_nfilters(plist);
	if (count < 0 || count > ESK_MAX_FILTERS)
		return false;
	for (unsigned i = 0; i < (unsigned)count; i++) {
		esk_filter *filter = &pipeline->filters[i];
		unsigned flags = 0, config = 0, values[ESK_MAX_FILTER_VALUES];
		size_t value_count = ESK_MAX_FILTER_VALUES;
		H5Z_filter_t id = H5Pget_filter2(plist, i, &flags, &value_count, values, 0, NULL, &config);
		if (id < 0 || value_count > ESK_MAX_FILTER_VALUES)
			return false;
		filter->id = (uint32_t)id;
		filter->optional = (flags & H5Z_FLAG_OPTIONAL) != 0;
		filter->value_count = (uint32_t)value_count;
		for (size_t v = 0; v < value_count; v++)
			filter->values[v] = values[v];
	}
	pipeline->count = (uint32_t)count;
	return true;
}

/* Chunk shape and pipeline. `same`: the elements' bytes need no conversion. */
static esk_status read_chunking(
	const esk_h5_dataset *dataset, hid_t type, hid_t plist, bool same, esk_h5_info *info, esk_error *err)
{
	hsize_t dims[ESK_MAX_RANK + 1];
	uint64_t bytes = H5Tget_size(type);
	int rank = H5Pget_chunk(plist, ESK_MAX_RANK + 1, dims);
	unsigned options = 0;

	if (rank != (int)info->column.rank + 1)
		return esk_h5_fail(err, ESK_ECORRUPT, "%s: %s: cannot read the shape of its chunks",
			dataset->file->path, info->path);
	info->chunked = true;
	info->pipeline.element_bytes = (uint32_t)bytes;
	for (int i = 0; i < rank; i++) {
		info->chunk_shape[i] = dims[i];
		if (dims[i] == 0 || !esk_mul_u64(bytes, dims[i], &bytes))
			return esk_fail(err, ESK_ECORRUPT, "%s: %s: its chunks have an impossible shape",
				dataset->file->path, info->path);
	}
	info->pipeline.chunk_bytes = bytes;
	info->column.chunk_rows = dims[0];
	/* Partial chunks at the edge may be stored without filters, which their filter masks do not say. */
	H5Pget_chunk_opts(plist, &options);
	bool known = read_filters(plist, &info->pipeline);
	if (known)
		esk_pipeline_format(&info->pipeline, info->column.codec, sizeof info->column.codec);
	info->raw_readable = info->readable && same && known && options == 0 && bytes <= UINT32_MAX &&
			     esk_pipeline_check(&info->pipeline, NULL) == ESK_OK;
	return ESK_OK;
}

static esk_status read_layout(
	const esk_h5_dataset *dataset, hid_t type, bool same, esk_h5_info *info, esk_error *err)
{
	esk_status status = ESK_OK;
	hid_t plist = H5Dget_create_plist(dataset->id);
	haddr_t address;

	if (plist < 0)
		return esk_h5_fail(
			err, ESK_ECORRUPT, "%s: %s: cannot read its layout", dataset->file->path, info->path);
	switch (H5Pget_layout(plist)) {
	case H5D_CHUNKED:
		status = read_chunking(dataset, type, plist, same, info, err);
		break;
	case H5D_CONTIGUOUS:
		if (H5Pget_external_count(plist) != 0)
			break;
		address = H5Dget_offset(dataset->id);
		/* Not allocated is HADDR_UNDEF, to which 1.10 adds the user block: the size tells. */
		if (address != HADDR_UNDEF && H5Dget_storage_size(dataset->id) > 0) {
			info->contiguous_address = address;
			info->raw_readable = info->readable && same;
		}
		break;
	default: /* compact, virtual: libhdf5 reads them */
		break;
	}
	esk_h5_drop(plist);
	return status;
}

esk_status esk_h5_inspect(esk_h5_dataset *dataset, const char *path, esk_error *err)
{
	const char *name = strrchr(path, '/');
	esk_h5_info *info = &dataset->info;
	esk_status status = ESK_OK;
	hid_t type = H5I_INVALID_HID, space = H5I_INVALID_HID;
	bool same = false, shaped;

	memset(info, 0, sizeof *info);
	dataset->memory_type = H5I_INVALID_HID;
	info->contiguous_address = UINT64_MAX;
	info->path = strdup(path);
	if (!info->path)
		return esk_fail_memory(err, strlen(path), "the path of a dataset");
	copy_text(info->column.name, sizeof info->column.name, name ? name + 1 : path);
	type = H5Dget_type(dataset->id);
	space = H5Dget_space(dataset->id);
	if (type < 0 || space < 0) {
		status = esk_h5_fail(err, ESK_ECORRUPT, "%s: %s: cannot read its type and shape",
			dataset->file->path, path);
		goto out;
	}
	shaped = read_shape(space, info);
	info->readable = esk_h5_type_read(type, &info->column.dtype, &dataset->memory_type, &same) &&
			 shaped && sizes_fit(info);
	if (shaped)
		status = read_layout(dataset, type, same, info, err);
	copy_attribute(dataset, "units", info->column.units, sizeof info->column.units);
	copy_attribute(dataset, "long_name", info->column.long_name, sizeof info->column.long_name);
out:
	esk_h5_drop(space);
	esk_h5_drop(type);
	if (status != ESK_OK)
		esk_h5_info_free(info);
	return status;
}
