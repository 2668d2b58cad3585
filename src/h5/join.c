/* Virtual datasets that join arrays of one file, one behind the other. Their layout message is of
 * format 1.10, so the file's upper bound is raised while one is made, and for nothing else: all other objects
 * stay as readable as before.
 */
#include "h5/h5_internal.h"

#include <string.h>

herr_t esk_h5_allow_virtual(esk_h5 *file, bool allow)
{
	return H5Fset_libver_bounds(file->id, H5F_LIBVER_EARLIEST, allow ? H5F_LIBVER_V110 : H5F_LIBVER_V18);
}

/* The whole of one source becomes rows [*row, *row + rows), and *row moves on. */
static herr_t add_source(
	hid_t properties, hid_t whole, const esk_column *column, const esk_h5_source *source, uint64_t *row)
{
	hsize_t start[ESK_MAX_RANK + 1] = {*row}, count[ESK_MAX_RANK + 1] = {source->rows};
	hid_t space;
	herr_t done;

	for (uint32_t i = 0; i < column->rank; i++)
		count[i + 1] = column->shape[i];
	space = H5Screate_simple((int)column->rank + 1, count, NULL);
	done = space < 0 ? -1 : H5Sselect_hyperslab(whole, H5S_SELECT_SET, start, NULL, count, NULL);
	if (done >= 0)
		done = H5Pset_virtual(properties, whole, ".", source->path, space);
	esk_h5_drop(space);
	*row += source->rows;
	return done;
}

static hid_t joined_space(const esk_column *column, const esk_h5_source *sources, size_t count)
{
	hsize_t shape[ESK_MAX_RANK + 1] = {0};
	for (size_t i = 0; i < count; i++)
		shape[0] += sources[i].rows;
	for (uint32_t i = 0; i < column->rank; i++)
		shape[i + 1] = column->shape[i];
	return H5Screate_simple((int)column->rank + 1, shape, NULL);
}

static hid_t create_joined(
	esk_h5 *file, const char *path, const esk_column *column, const esk_h5_source *sources, size_t count)
{
	hid_t properties = H5Pcreate(H5P_DATASET_CREATE), space = joined_space(column, sources, count);
	hid_t type = esk_h5_type_make(column->dtype), links = esk_h5_link_properties(path),
	      id = H5I_INVALID_HID;
	uint64_t row = 0;
	herr_t done = properties < 0 || space < 0 || type < 0 || links < 0
			      ? -1
			      : H5Pset_obj_track_times(properties, false);

	for (size_t i = 0; i < count && done >= 0; i++)
		done = add_source(properties, space, column, &sources[i], &row);
	if (done >= 0 && esk_h5_allow_virtual(file, true) >= 0) {
		id = H5Dcreate2(file->id, path, type, space, links, properties, H5P_DEFAULT);
		esk_h5_allow_virtual(file, false);
	}
	esk_h5_drop(links);
	esk_h5_drop(type);
	esk_h5_drop(space);
	esk_h5_drop(properties);
	return id;
}

/* What was joined before is made anew: the sources of a virtual dataset cannot be added to. */
static esk_status remove_joined(esk_h5 *file, const char *path, esk_error *err)
{
	if (!esk_h5_path_exists(file, path))
		return ESK_OK;
	if (H5Ldelete(file->id, path, H5P_DEFAULT) < 0)
		return esk_h5_fail(err, ESK_EIO, "%s: cannot replace '/%s'", file->path, path);
	return ESK_OK;
}

esk_status esk_h5_write_join(esk_h5 *file, const char *path, const esk_column *column,
	const esk_h5_source *sources, size_t count, esk_error *err)
{
	char checked[ESK_H5_PATH_BYTES];
	esk_status status = esk_h5_begin_change(file, err);
	hid_t id;

	if (status == ESK_OK)
		status = esk_h5_path_check(path, true, checked, err);
	if (status == ESK_OK && (checked[0] == '\0' || count == 0))
		status = esk_fail(err, ESK_EINVAL, "a join needs a name and sources");
	if (status != ESK_OK)
		return status;
	esk_h5_lock();
	status = remove_joined(file, checked, err);
	if (status == ESK_OK) {
		id = create_joined(file, checked, column, sources, count);
		status = id < 0 ? esk_h5_fail_create(file, "join", checked, err)
				: esk_h5_write_labels(id, checked, column, err);
		esk_h5_drop(id);
	}
	esk_h5_unlock();
	return status;
}
