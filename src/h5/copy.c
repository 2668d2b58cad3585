/* Copying from one file to another, around damage: groups and attributes through libhdf5, chunks as they are
 * stored. */
#include "h5/h5_internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct copier {
	hid_t to;
	const char *what; /* path of the object, for messages */
	esk_error *err;
	esk_status status;
} copier;

/* ---- attributes ---- */

static esk_status copy_value(hid_t from, hid_t to, hid_t type, hid_t space, const char *name, esk_error *err)
{
	hssize_t elements = H5Sget_simple_extent_npoints(space);
	size_t bytes = H5Tget_size(type) * (size_t)(elements > 0 ? elements : 0);
	void *value = calloc(1, bytes + 1);
	if (value == NULL)
		return esk_fail_memory(err, bytes, "an attribute");
	esk_status status = ESK_OK;
	if (elements > 0 && (H5Aread(from, type, value) < 0 || H5Awrite(to, type, value) < 0))
		status = esk_h5_fail(err, ESK_EIO, "attribute \"%s\"", name);
	if (elements > 0 && (H5Tdetect_class(type, H5T_VLEN) > 0 || H5Tis_variable_str(type) > 0))
		ESK_H5_RECLAIM(type, space, H5P_DEFAULT, value);
	free(value);
	return status;
}

static herr_t copy_attribute(hid_t object, const char *name, const H5A_info_t *info, void *arg)
{
	copier *c = arg;
	(void)info;
	if (H5Aexists(c->to, name) > 0)
		return 0;
	hid_t from = H5Aopen(object, name, H5P_DEFAULT);
	hid_t type = from >= 0 ? H5Aget_type(from) : H5I_INVALID_HID;
	hid_t space = from >= 0 ? H5Aget_space(from) : H5I_INVALID_HID;
	hid_t to = type >= 0 && space >= 0 ? H5Acreate2(c->to, name, type, space, H5P_DEFAULT, H5P_DEFAULT)
					   : H5I_INVALID_HID;
	if (to < 0)
		c->status = esk_h5_fail(c->err, ESK_EIO, "%s: attribute \"%s\"", c->what, name);
	else
		c->status = copy_value(from, to, type, space, name, c->err);
	if (to >= 0)
		H5Aclose(to);
	if (space >= 0)
		H5Sclose(space);
	if (type >= 0)
		H5Tclose(type);
	if (from >= 0)
		H5Aclose(from);
	return c->status == ESK_OK ? 0 : -1;
}

static esk_status copy_attributes(hid_t from, hid_t to, const char *what, esk_error *err)
{
	copier c = {.to = to, .what = what, .err = err};
	hsize_t at = 0;
	herr_t done = H5Aiterate2(from, H5_INDEX_NAME, H5_ITER_INC, &at, copy_attribute, &c);
	if (c.status != ESK_OK)
		return c.status;
	return done < 0 ? esk_h5_fail(err, ESK_ECORRUPT, "attributes of \"%s\"", what) : ESK_OK;
}

/* ---- groups ---- */

static herr_t copy_group(hid_t object, const char *name, const esk_h5_object_info *info, void *arg)
{
	copier *c = arg;
	if (info->type != H5O_TYPE_GROUP)
		return 0;
	bool root = strcmp(name, ".") == 0;
	hid_t properties = esk_h5_link_properties(name);
	hid_t from = H5Oopen(object, name, H5P_DEFAULT);
	hid_t to = root ? H5Gopen2(c->to, "/", H5P_DEFAULT)
			: H5Gcreate2(c->to, name, properties, H5P_DEFAULT, H5P_DEFAULT);
	if (from < 0 || to < 0)
		c->status = esk_h5_fail(c->err, ESK_EIO, "group \"%s\"", name);
	else
		c->status = copy_attributes(from, to, name, c->err);
	if (to >= 0)
		H5Gclose(to);
	if (from >= 0)
		H5Oclose(from);
	if (properties >= 0)
		H5Pclose(properties);
	return c->status == ESK_OK ? 0 : -1;
}

esk_status esk_h5_copy_groups(esk_h5 *from, esk_h5 *to, esk_error *err)
{
	esk_status status = esk_h5_begin_change(to, err);
	if (status == ESK_OK)
		status = esk_h5_enter(from, err);
	if (status != ESK_OK)
		return status;
	copier c = {.to = to->id, .err = err};
	herr_t done = ESK_H5_VISIT(from->id, copy_group, &c);
	status = c.status;
	if (status == ESK_OK && done < 0)
		status = esk_h5_fail(err, ESK_ECORRUPT, "%s: its groups cannot be walked", from->path);
	return esk_h5_leave(from, status, err);
}

/* ---- datasets ---- */

/* Some programs mark the filters of plugins mandatory, and libhdf5 refuses to create a dataset with such a
 * one that it does not know. Optional is all that is needed: the chunks come as they are stored. */
static herr_t make_filters_optional(hid_t properties)
{
	int count = H5Pget_nfilters(properties);
	for (unsigned i = 0; count >= 0 && i < (unsigned)count; i++) {
		unsigned flags = 0, config = 0, values[ESK_MAX_FILTER_VALUES];
		size_t value_count = ESK_MAX_FILTER_VALUES;
		H5Z_filter_t id =
			H5Pget_filter2(properties, i, &flags, &value_count, values, 0, NULL, &config);
		if (id < 0 || H5Zfilter_avail(id) > 0 || (flags & H5Z_FLAG_OPTIONAL) != 0)
			continue;
		if (H5Pmodify_filter(properties, id, flags | H5Z_FLAG_OPTIONAL, value_count, values) < 0)
			return -1;
	}
	return count < 0 ? -1 : 0;
}

/* A dataset whose chunks are all allocated when it is made would be filled first, as large as it says it is.
 */
static herr_t allocate_as_written(hid_t properties)
{
	return H5Pset_alloc_time(properties, H5D_ALLOC_TIME_INCR);
}

/* Makes `path` in `to` as `from` is: type, extent, creation properties, attributes; no data. Attributes that
 * cannot be copied are no failure: ret_attributes->code tells. */
static esk_status create_like(esk_h5_dataset *from, esk_h5 *to, esk_error *ret_attributes, esk_error *err)
{
	hid_t type = H5Dget_type(from->id), space = H5Dget_space(from->id),
	      properties = H5Dget_create_plist(from->id);
	hid_t link = esk_h5_link_properties(from->info.path);
	hid_t id = type >= 0 && space >= 0 && properties >= 0 && make_filters_optional(properties) >= 0 &&
				   allocate_as_written(properties) >= 0
			   ? H5Dcreate2(to->id, from->info.path, type, space, link, properties, H5P_DEFAULT)
			   : H5I_INVALID_HID;
	esk_status status = ESK_OK;
	if (id < 0)
		status = esk_h5_fail(err, ESK_EIO, "cannot make \"%s\"", from->info.path);
	else
		copy_attributes(from->id, id, from->info.path, ret_attributes);
	if (id >= 0)
		H5Dclose(id);
	if (link >= 0)
		H5Pclose(link);
	if (properties >= 0)
		H5Pclose(properties);
	if (space >= 0)
		H5Sclose(space);
	if (type >= 0)
		H5Tclose(type);
	return status;
}

static bool is_virtual(const esk_h5_dataset *dataset)
{
	hid_t properties = H5Dget_create_plist(dataset->id);
	bool is = properties >= 0 && H5Pget_layout(properties) == H5D_VIRTUAL;
	esk_h5_drop(properties);
	return is;
}

static esk_status copy_whole(esk_h5_dataset *from, esk_h5 *to, esk_error *err)
{
	hid_t link = esk_h5_link_properties(from->info.path);
	bool raised = is_virtual(from) && esk_h5_allow_virtual(to, true) >= 0;
	herr_t done = H5Ocopy(from->file->id, from->info.path, to->id, from->info.path, H5P_DEFAULT, link);
	if (raised)
		esk_h5_allow_virtual(to, false);
	if (link >= 0)
		H5Pclose(link);
	return done < 0 ? esk_h5_fail(err, ESK_ECORRUPT, "cannot copy \"%s\"", from->info.path) : ESK_OK;
}

/* Offset of a chunk of the grid, in elements. */
static void chunk_offset(const esk_h5_info *info, uint64_t chunk, hsize_t offset[ESK_MAX_RANK + 1])
{
	for (uint32_t i = info->column.rank; i > 0; i--) {
		uint64_t across = esk_h5_across(info->column.shape[i - 1], info->chunk_shape[i]);
		offset[i] = chunk % across * info->chunk_shape[i];
		chunk /= across;
	}
	offset[0] = chunk * info->chunk_shape[0];
}

/* A stored chunk as it is; *ret_data NULL where there is none. */
static esk_status read_chunk(esk_h5_dataset *from, uint64_t chunk, void **ret_data, size_t *ret_size,
	uint32_t *ret_mask, esk_error *err)
{
	uint64_t address, stored;
	*ret_data = NULL;
	esk_status status = esk_h5_locate_chunk(from, chunk, &address, &stored, ret_mask, err);
	return status == ESK_OK && stored > 0
		       ? esk_h5_read_raw_chunk(from, chunk, ret_data, ret_size, ret_mask, err)
		       : status;
}

static esk_status copy_chunk(esk_h5_dataset *from, esk_h5_dataset *to, uint64_t chunk,
	const esk_h5_copying *copying, esk_error *err)
{
	void *data;
	size_t size = 0;
	uint32_t mask = 0;
	hsize_t offset[ESK_MAX_RANK + 1];
	esk_error why = {0};
	esk_status status = read_chunk(from, chunk, &data, &size, &mask, &why);
	if (status == ESK_EBUSY || status == ESK_ENOMEM)
		return esk_fail(err, status, "%s", why.message);
	if (status != ESK_OK)
		copying->lost(copying->arg, chunk, &why);
	if (status != ESK_OK || data == NULL)
		return ESK_OK;
	chunk_offset(&from->info, chunk, offset);
	esk_h5_lock();
	if (H5Dwrite_chunk(to->id, H5P_DEFAULT, mask, offset, size, data) < 0)
		status = esk_h5_fail(
			err, ESK_EIO, "chunk %llu of \"%s\"", (unsigned long long)chunk, from->info.path);
	esk_h5_unlock();
	free(data);
	return status;
}

esk_status esk_h5_copy_dataset(
	esk_h5_dataset *from, esk_h5 *to, const esk_h5_copying *copying, esk_error *err)
{
	bool by_chunk = from->info.chunked && from->info.raw_readable;
	esk_h5_chunk_list list = {0};
	esk_status status = esk_h5_begin_change(to, err);
	if (status == ESK_OK && by_chunk)
		status = esk_h5_list_chunks(from, &list, err);
	if (status == ESK_OK)
		status = esk_h5_enter(from->file, err);
	if (status != ESK_OK)
		goto list;
	esk_error attributes = {0};
	status = by_chunk ? create_like(from, to, &attributes, err) : copy_whole(from, to, err);
	status = esk_h5_leave(from->file, status, err);
	if (status != ESK_OK || !by_chunk)
		goto list;
	if (attributes.code != ESK_OK)
		copying->lost(copying->arg, ESK_H5_ATTRIBUTES, &attributes);
	esk_h5_dataset *copy;
	status = esk_h5_dataset_open(to, from->info.path, &copy, err);
	for (uint64_t i = 0; i < list.count && status == ESK_OK; i++)
		if (copying->keep(copying->arg, esk_h5_chunk_at(&list, i)))
			status = copy_chunk(from, copy, esk_h5_chunk_at(&list, i), copying, err);
list:
	esk_h5_chunk_list_free(&list);
	return status;
}
