/* Items: a group with arrays of a fixed length and attributes, made at once. There may be thousands of them
 * in a second, so what their making needs is made once per file (esk_h5_kept).
 *
 * Arrays up to COMPACT_BYTES lie in their object header; others in one piece, or in chunks that the caller
 * encoded.
 */
#include "h5/h5_internal.h"

#include <stdlib.h>
#include <string.h>

#define COMPACT_BYTES 4096u
#define LINK_HEAP_BYTES 96u /* names in a group of a few arrays */

struct esk_h5_kept {
	hid_t links; /* ASCII paths, groups above are made */
	hid_t group;
	hid_t compact;
	hid_t contiguous;
	hid_t texts; /* variable ones want a fill value */
	hid_t scalar;
	hid_t text;
	hid_t truth;
};

void esk_h5_kept_destroy(struct esk_h5_kept *kept)
{
	if (!kept)
		return;
	esk_h5_drop(kept->links);
	esk_h5_drop(kept->group);
	esk_h5_drop(kept->compact);
	esk_h5_drop(kept->contiguous);
	esk_h5_drop(kept->texts);
	esk_h5_drop(kept->scalar);
	esk_h5_drop(kept->text);
	esk_h5_drop(kept->truth);
	free(kept);
}

static hid_t array_properties(H5D_layout_t layout, H5D_fill_time_t fill)
{
	hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
	if (plist >= 0 && (H5Pset_layout(plist, layout) < 0 || H5Pset_obj_track_times(plist, false) < 0 ||
				  H5Pset_fill_time(plist, fill) < 0)) {
		esk_h5_drop(plist);
		return H5I_INVALID_HID;
	}
	return plist;
}

static esk_status keep(esk_h5 *file, esk_error *err)
{
	struct esk_h5_kept *kept = file->kept;

	if (kept)
		return ESK_OK;
	kept = file->kept = malloc(sizeof *kept);
	if (!kept)
		return esk_fail_memory(err, sizeof *kept, file->path);
	*kept = (struct esk_h5_kept){.links = esk_h5_link_properties(""),
		.group = H5Pcreate(H5P_GROUP_CREATE),
		.compact = array_properties(H5D_COMPACT, H5D_FILL_TIME_NEVER),
		.contiguous = array_properties(H5D_CONTIGUOUS, H5D_FILL_TIME_NEVER),
		.texts = array_properties(H5D_CONTIGUOUS, H5D_FILL_TIME_IFSET),
		.scalar = H5Screate(H5S_SCALAR),
		.text = esk_h5_type_make((esk_dtype){ESK_STRING, sizeof(esk_string)}),
		.truth = esk_h5_type_make((esk_dtype){ESK_BOOL, 1})};
	if (kept->links >= 0 && kept->group >= 0 && kept->compact >= 0 && kept->contiguous >= 0 &&
		kept->texts >= 0 && kept->scalar >= 0 && kept->text >= 0 && kept->truth >= 0 &&
		H5Pset_local_heap_size_hint(kept->group, LINK_HEAP_BYTES) >= 0)
		return ESK_OK;
	esk_h5_kept_destroy(kept);
	file->kept = NULL;
	return esk_h5_fail(err, ESK_ENOMEM, "cannot set up libhdf5 for items of %s", file->path);
}

/* The links property list for `path`; *ret_own says that it is to be closed. */
static hid_t links_for(const esk_h5 *file, const char *path, bool *ret_own)
{
	*ret_own = !esk_h5_is_ascii(path);
	return *ret_own ? esk_h5_link_properties(path) : file->kept->links;
}

/* ---- attributes ---- */

/* An attribute that the group does not have. */
static esk_status add_attribute(
	esk_h5 *file, hid_t group, const char *path, const esk_attribute *attribute, esk_error *err)
{
	const struct esk_h5_kept *kept = file->kept;
	const esk_h5_scalar *value = &attribute->value;
	uint8_t truth = value->integer != 0;
	hid_t type = H5T_STD_I64LE, memory = H5T_NATIVE_INT64, id;
	const void *from = &value->integer;
	esk_status status = ESK_OK;

	if (value->kind == ESK_H5_REAL) {
		type = H5T_IEEE_F64LE;
		memory = H5T_NATIVE_DOUBLE;
		from = &value->real;
	} else if (value->kind == ESK_H5_TRUTH) {
		type = memory = kept->truth;
		from = &truth;
	} else if (value->kind == ESK_H5_TEXT) {
		type = memory = kept->text;
		from = &value->text;
	}
	id = H5Acreate2(group, attribute->name, type, kept->scalar, H5P_DEFAULT, H5P_DEFAULT);
	if (id < 0 || H5Awrite(id, memory, from) < 0)
		status = esk_h5_fail(
			err, ESK_EIO, "cannot write attribute '%s' of '/%s'", attribute->name, path);
	esk_h5_drop(id);
	return status;
}

/* ---- arrays ---- */

static hid_t fixed_space(const esk_h5_array *array)
{
	hsize_t shape[ESK_MAX_RANK + 1] = {array->rows};
	for (uint32_t i = 0; i < array->column->rank; i++)
		shape[i + 1] = array->column->shape[i];
	return H5Screate_simple((int)array->column->rank + 1, shape, NULL);
}

static hid_t chunked_properties(const esk_h5_array *array)
{
	hsize_t chunk[ESK_MAX_RANK + 1] = {array->chunk_rows};
	hid_t plist = array_properties(H5D_CHUNKED, H5D_FILL_TIME_IFSET);

	for (uint32_t i = 0; i < array->column->rank; i++)
		chunk[i + 1] = array->column->shape[i];
	if (plist >= 0 && (H5Pset_chunk(plist, (int)array->column->rank + 1, chunk) < 0 ||
				  H5Pset_alloc_time(plist, H5D_ALLOC_TIME_INCR) < 0 ||
				  esk_h5_set_filters(plist, array->pipeline) < 0)) {
		esk_h5_drop(plist);
		return H5I_INVALID_HID;
	}
	return plist;
}

/* libhdf5 takes texts as C strings: one block to free. NULL when memory runs out. */
static char **terminated(const esk_string *strings, uint64_t count)
{
	uint64_t bytes = count * sizeof(char *);
	for (uint64_t i = 0; i < count; i++)
		bytes += strings[i].size + 1;
	char **pointers = malloc(bytes);
	char *at = (char *)(pointers + count);
	for (uint64_t i = 0; pointers && i < count; i++) {
		if (strings[i].size > 0)
			memcpy(at, strings[i].data, strings[i].size);
		at[strings[i].size] = '\0';
		pointers[i] = at;
		at += strings[i].size + 1;
	}
	return pointers;
}

static herr_t write_chunks(hid_t id, const esk_h5_array *array)
{
	hsize_t offset[ESK_MAX_RANK + 1] = {0};
	herr_t done = 0;
	for (uint64_t i = 0; i < array->chunk_count && done >= 0; i++) {
		const esk_h5_encoded *chunk = &array->chunks[i];
		offset[0] = i * array->chunk_rows;
		done = H5Dwrite_chunk(id, H5P_DEFAULT, chunk->filter_mask, offset, chunk->size, chunk->data);
	}
	return done;
}

static esk_status write_content(
	hid_t id, hid_t type, const esk_h5_array *array, const char *path, esk_error *err)
{
	uint64_t cells =
		array->rows * (esk_column_cell_bytes(array->column) / array->column->dtype.size_bytes);
	const void *from = array->cells;
	char **texts = NULL;
	herr_t done;

	if (cells == 0)
		return ESK_OK;
	if (array->strings) {
		from = texts = terminated(array->strings, cells);
		if (!texts)
			return esk_fail_memory(err, cells * sizeof *texts, "texts");
	}
	done = array->chunks ? write_chunks(id, array)
			     : H5Dwrite(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, from);
	free(texts);
	return done >= 0 ? ESK_OK
			 : esk_h5_fail(err, ESK_EIO, "cannot write array '%s' of '/%s'", array->column->name,
				   path);
}

static hid_t kept_properties(const struct esk_h5_kept *kept, const esk_h5_array *array)
{
	uint64_t bytes = array->rows * esk_column_cell_bytes(array->column);
	if (array->column->dtype.kind == ESK_STRING)
		return kept->texts;
	return bytes > 0 && bytes <= COMPACT_BYTES ? kept->compact : kept->contiguous;
}

static esk_status add_array(
	esk_h5 *file, hid_t group, const char *path, const esk_h5_array *array, esk_error *err)
{
	const esk_column *column = array->column;
	bool own_links;
	hid_t links = links_for(file, column->name, &own_links);
	hid_t type = esk_h5_type_make(column->dtype), space = fixed_space(array);
	hid_t properties = array->chunks ? chunked_properties(array) : kept_properties(file->kept, array);
	hid_t id = type < 0 || space < 0 || properties < 0 || links < 0
			   ? H5I_INVALID_HID
			   : H5Dcreate2(group, column->name, type, space, links, properties, H5P_DEFAULT);
	esk_status status =
		id >= 0 ? write_content(id, type, array, path, err)
			: esk_h5_fail(err, ESK_EIO, "cannot create array '%s' of '/%s'", column->name, path);

	if (status == ESK_OK)
		status = esk_h5_write_labels(id, path, column, err);
	esk_h5_drop(id);
	if (array->chunks)
		esk_h5_drop(properties);
	if (own_links)
		esk_h5_drop(links);
	esk_h5_drop(space);
	esk_h5_drop(type);
	return status;
}

/* ---- the item ---- */

static esk_status make_item_group(esk_h5 *file, const char *path, hid_t *ret_group, esk_error *err)
{
	bool own_links;
	hid_t links = links_for(file, path, &own_links);
	hid_t group = links < 0 ? links : H5Gcreate2(file->id, path, links, file->kept->group, H5P_DEFAULT);
	esk_status status = ESK_OK;

	if (group < 0)
		status = esk_h5_path_exists(file, path)
				 ? esk_fail(err, ESK_EEXIST, "%s has '/%s' already", file->path, path)
				 : esk_h5_fail_create(file, "group", path, err);
	if (own_links)
		esk_h5_drop(links);
	*ret_group = group;
	return status;
}

static esk_status put_item(esk_h5 *file, const char *path, const esk_h5_array *arrays, size_t array_count,
	const esk_attribute *attributes, size_t attribute_count, esk_error *err)
{
	hid_t group = H5I_INVALID_HID;
	esk_status status = keep(file, err);

	if (status == ESK_OK)
		status = make_item_group(file, path, &group, err);
	for (size_t i = 0; i < attribute_count && status == ESK_OK; i++)
		status = add_attribute(file, group, path, &attributes[i], err);
	for (size_t i = 0; i < array_count && status == ESK_OK; i++)
		status = add_array(file, group, path, &arrays[i], err);
	esk_h5_drop(group);
	return status;
}

esk_status esk_h5_put_item(esk_h5 *file, const char *path, const esk_h5_array *arrays, size_t array_count,
	const esk_attribute *attributes, size_t attribute_count, esk_error *err)
{
	char checked[ESK_H5_PATH_BYTES];
	esk_status status = esk_h5_begin_change(file, err);

	if (status == ESK_OK)
		status = esk_h5_path_check(path, true, checked, err);
	if (status == ESK_OK && checked[0] == '\0')
		status = esk_fail(err, ESK_EINVAL, "an item needs a name");
	if (status != ESK_OK)
		return status;
	esk_h5_lock();
	status = put_item(file, checked, arrays, array_count, attributes, attribute_count, err);
	esk_h5_unlock();
	return status;
}
