/* Datasets of one text: a scalar of a variable UTF-8 string, as h5py makes one of a str. */
#include "h5/h5_internal.h"

#include <stdlib.h>
#include <string.h>

/* *ret_text is NULL when memory ran out. */
static herr_t read_variable(hid_t id, hid_t type, char **ret_text)
{
	char *text = NULL;
	hid_t space = H5Dget_space(id);
	herr_t done = space < 0 ? -1 : H5Dread(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, &text);

	*ret_text = done >= 0 ? strdup(text ? text : "") : NULL;
	if (done >= 0)
		ESK_H5_RECLAIM(type, space, H5P_DEFAULT, &text);
	esk_h5_drop(space);
	return done;
}

static bool is_one_text(hid_t id)
{
	hid_t type = H5Iget_type(id) == H5I_DATASET ? H5Dget_type(id) : H5I_INVALID_HID;
	hid_t space = type >= 0 ? H5Dget_space(id) : H5I_INVALID_HID;
	bool one =
		space >= 0 && H5Tis_variable_str(type) > 0 && H5Sget_simple_extent_type(space) == H5S_SCALAR;

	esk_h5_drop(space);
	esk_h5_drop(type);
	return one;
}

/* Under the lock. *ret_id is open only on success. */
static esk_status open_text(esk_h5 *file, const char *path, hid_t *ret_id, esk_error *err)
{
	hid_t id;

	if (!esk_h5_path_exists(file, path) && !esk_h5_driver_error())
		return esk_fail(err, ESK_ENOTFOUND, "%s has no dataset '/%s'", file->path, path);
	id = H5Oopen(file->id, path, H5P_DEFAULT);
	if (id < 0)
		return esk_h5_fail(err, ESK_ECORRUPT, "%s: cannot open '/%s'", file->path, path);
	if (!is_one_text(id)) {
		esk_h5_drop(id);
		return esk_fail(err, ESK_ETYPE, "%s: '/%s' is no dataset of one text", file->path, path);
	}
	*ret_id = id;
	return ESK_OK;
}

/* Under the lock. */
static esk_status read_text(esk_h5 *file, const char *path, hid_t id, char **ret_text, esk_error *err)
{
	esk_status status = ESK_OK;
	hid_t type = H5Dget_type(id);

	if (type < 0 || read_variable(id, type, ret_text) < 0)
		status = esk_h5_fail(err, ESK_ECORRUPT, "%s: cannot read '/%s'", file->path, path);
	else if (*ret_text == NULL)
		status = esk_fail_memory(err, 1, path);
	esk_h5_drop(type);
	return status;
}

esk_status esk_h5_get_text_dataset(esk_h5 *file, const char *path, char **ret_text, esk_error *err)
{
	char checked[ESK_H5_PATH_BYTES], *text = NULL;
	hid_t id = H5I_INVALID_HID;
	esk_status status = esk_h5_path_check(path, false, checked, err);

	if (status == ESK_OK)
		status = esk_h5_enter(file, err);
	if (status != ESK_OK)
		return status;
	status = open_text(file, checked, &id, err);
	if (status == ESK_OK)
		status = read_text(file, checked, id, &text, err);
	esk_h5_drop(id);
	status = esk_h5_leave(file, status, err);
	if (status == ESK_OK)
		*ret_text = text;
	else
		free(text);
	return status;
}

/* Under the lock. */
static hid_t create_text(esk_h5 *file, const char *path, hid_t type)
{
	hid_t links = esk_h5_link_properties(path), space = H5Screate(H5S_SCALAR);
	hid_t id = links < 0 || space < 0
			   ? H5I_INVALID_HID
			   : H5Dcreate2(file->id, path, type, space, links, H5P_DEFAULT, H5P_DEFAULT);

	esk_h5_drop(space);
	esk_h5_drop(links);
	return id;
}

/* Under the lock. */
static esk_status set_text(esk_h5 *file, const char *path, const char *text, esk_error *err)
{
	char *present = NULL;
	bool same = false;
	hid_t id = H5I_INVALID_HID, type = esk_h5_type_make((esk_dtype){ESK_STRING, sizeof(esk_string)});
	esk_status status = type < 0 ? esk_h5_fail(err, ESK_ENOMEM, "cannot make the type of '/%s'", path)
				     : open_text(file, path, &id, err);

	if (status == ESK_OK) {
		status = read_text(file, path, id, &present, err);
		same = status == ESK_OK && strcmp(present, text) == 0;
	} else if (status == ESK_ENOTFOUND) {
		id = create_text(file, path, type);
		status = id < 0 ? esk_h5_fail_create(file, "text", path, err) : ESK_OK;
	}
	if (status == ESK_OK && !same && H5Dwrite(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, &text) < 0)
		status = esk_h5_fail(err, ESK_EIO, "%s: cannot write '/%s'", file->path, path);
	free(present);
	esk_h5_drop(id);
	esk_h5_drop(type);
	return status;
}

esk_status esk_h5_set_text_dataset(esk_h5 *file, const char *path, const char *text, esk_error *err)
{
	char checked[ESK_H5_PATH_BYTES];
	esk_status status = esk_h5_begin_change(file, err);

	if (status == ESK_OK)
		status = esk_h5_path_check(path, true, checked, err);
	if (status == ESK_OK && checked[0] == '\0')
		status = esk_fail(err, ESK_EINVAL, "a text needs a name");
	if (status == ESK_OK)
		status = esk_h5_enter(file, err);
	return status == ESK_OK ? esk_h5_leave(file, set_text(file, checked, text, err), err) : status;
}
