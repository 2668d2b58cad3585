/* Paths, groups, deletion, and the walk over all datasets. */
#include "h5/h5_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- paths ---- */

static esk_status check_part(const char *path, const char *part, size_t size, bool strict, esk_error *err)
{
	if (size == 0)
		return esk_fail(err, ESK_EINVAL,
			"path '%.200s' has an empty part: write one '/' between names", path);
	if (part[0] == '.' && (size == 1 || (size == 2 && part[1] == '.')))
		return esk_fail(err, ESK_EINVAL, "path '%.200s' has the part '%.*s', which is no name", path,
			(int)size, part);
	for (size_t i = 0; strict && i < size; i++) {
		if ((unsigned char)part[i] < 0x20 || part[i] == 0x7F)
			return esk_fail(err, ESK_EINVAL, "a path to create has a control character (byte %u)",
				(unsigned)(unsigned char)part[i]);
	}
	return ESK_OK;
}

esk_status esk_h5_path_check(const char *path, bool strict, char ret_path[ESK_H5_PATH_BYTES], esk_error *err)
{
	const char *at = path[0] == '/' ? path + 1 : path;
	size_t size = strlen(at);

	if (size > 0 && at[size - 1] == '/')
		size--;
	if (size >= ESK_H5_PATH_BYTES)
		return esk_fail(err, ESK_EINVAL, "path '%.60s…' has %zu bytes (at most %d fit)", path, size,
			ESK_H5_PATH_BYTES - 1);
	memcpy(ret_path, at, size);
	ret_path[size] = '\0';
	for (const char *part = ret_path; size > 0; part++) {
		const char *end = strchrnul(part, '/');
		esk_status status = check_part(path, part, (size_t)(end - part), strict, err);
		if (status != ESK_OK)
			return status;
		if (*end == '\0')
			break;
		part = end;
	}
	return ESK_OK;
}

bool esk_h5_path_exists(esk_h5 *file, const char *path)
{
	char prefix[ESK_H5_PATH_BYTES];

	if (path[0] == '\0')
		return true;
	/* H5Oexists_by_name wants every link but the last to exist. */
	for (const char *end = strchrnul(path, '/');; end = strchrnul(end + 1, '/')) {
		memcpy(prefix, path, (size_t)(end - path));
		prefix[end - path] = '\0';
		if (H5Lexists(file->id, prefix, H5P_DEFAULT) <= 0 ||
			H5Oexists_by_name(file->id, prefix, H5P_DEFAULT) <= 0)
			return false;
		if (*end == '\0')
			return true;
	}
}

bool esk_h5_exists(esk_h5 *file, const char *object)
{
	char path[ESK_H5_PATH_BYTES];
	bool exists;

	if (esk_h5_path_check(object, false, path, NULL) != ESK_OK)
		return false;
	esk_h5_lock();
	exists = esk_h5_path_exists(file, path);
	esk_h5_unlock();
	return exists;
}

esk_status esk_h5_find(esk_h5 *file, const char *object, bool *ret_exists, esk_error *err)
{
	char path[ESK_H5_PATH_BYTES];
	esk_status status = esk_h5_path_check(object, false, path, err);

	if (status == ESK_OK)
		status = esk_h5_enter(file, err);
	if (status != ESK_OK)
		return status;
	bool exists = esk_h5_path_exists(file, path);
	if (!exists && esk_h5_driver_error())
		status = esk_h5_fail(err, ESK_EIO, "%s: cannot look for '/%s'", file->path, path);
	status = esk_h5_leave(file, status, err);
	if (status == ESK_OK)
		*ret_exists = exists;
	return status;
}

esk_status esk_h5_look(esk_h5 *file, const char *object, esk_h5_object *ret_object, esk_error *err)
{
	char path[ESK_H5_PATH_BYTES];
	esk_h5_object found = ESK_H5_NOTHING;
	esk_status status = esk_h5_path_check(object, false, path, err);

	if (status == ESK_OK)
		status = esk_h5_enter(file, err);
	if (status != ESK_OK)
		return status;
	if (esk_h5_path_exists(file, path)) {
		hid_t id = H5Oopen(file->id, path[0] ? path : "/", H5P_DEFAULT);
		found = id >= 0 && H5Iget_type(id) == H5I_GROUP ? ESK_H5_GROUP : ESK_H5_DATASET;
		if (id < 0)
			status = esk_h5_fail(err, ESK_ECORRUPT, "%s: cannot open '/%s'", file->path, path);
		esk_h5_drop(id);
	} else if (esk_h5_driver_error()) {
		status = esk_h5_fail(err, ESK_EIO, "%s: cannot look for '/%s'", file->path, path);
	}
	status = esk_h5_leave(file, status, err);
	if (status == ESK_OK)
		*ret_object = found;
	return status;
}

bool esk_h5_is_ascii(const char *text)
{
	while (*text != '\0' && (unsigned char)*text < 0x80)
		text++;
	return *text == '\0';
}

/* Only names that need it are marked as UTF-8: the groups of the earliest format have no place for the mark,
 * so libhdf5 silently turns the group that holds such a link, the root too, into one of format 1.8. */
hid_t esk_h5_link_properties(const char *path)
{
	hid_t plist = H5Pcreate(H5P_LINK_CREATE);
	if (plist >= 0 &&
		(H5Pset_create_intermediate_group(plist, 1) < 0 ||
			(!esk_h5_is_ascii(path) && H5Pset_char_encoding(plist, H5T_CSET_UTF8) < 0))) {
		esk_h5_drop(plist);
		return H5I_INVALID_HID;
	}
	return plist;
}

esk_status esk_h5_fail_create(esk_h5 *file, const char *what, const char *path, esk_error *err)
{
	esk_error why;
	char prefix[ESK_H5_PATH_BYTES];

	esk_h5_fail(&why, ESK_EIO, "%s: cannot create %s '/%s'", file->path, what, path);
	for (const char *end = strchr(path, '/'); end; end = strchr(end + 1, '/')) {
		hid_t group;
		memcpy(prefix, path, (size_t)(end - path));
		prefix[end - path] = '\0';
		if (!esk_h5_path_exists(file, prefix))
			break;
		group = H5Gopen2(file->id, prefix, H5P_DEFAULT);
		if (group < 0)
			return esk_fail(err, ESK_EEXIST, "%s: cannot create %s '/%s': '/%s' is no group",
				file->path, what, path, prefix);
		esk_h5_drop(group);
	}
	return esk_fail(err, why.code, "%s", why.message);
}

/* ---- groups ---- */

static esk_status make_group(esk_h5 *file, const char *path, esk_error *err)
{
	hid_t plist, group;
	esk_status status = ESK_OK;

	if (path[0] == '\0')
		return ESK_OK;
	if (esk_h5_path_exists(file, path)) {
		group = H5Gopen2(file->id, path, H5P_DEFAULT);
		if (group < 0)
			return esk_fail(
				err, ESK_EEXIST, "%s: '/%s' exists and is not a group", file->path, path);
		esk_h5_drop(group);
		return ESK_OK;
	}
	plist = esk_h5_link_properties(path);
	group = plist < 0 ? plist : H5Gcreate2(file->id, path, plist, H5P_DEFAULT, H5P_DEFAULT);
	if (group < 0)
		status = esk_h5_fail_create(file, "group", path, err);
	else
		esk_h5_drop(group);
	esk_h5_drop(plist);
	return status;
}

esk_status esk_h5_make_group(esk_h5 *file, const char *path, esk_error *err)
{
	char checked[ESK_H5_PATH_BYTES];
	esk_status status = esk_h5_begin_change(file, err);

	if (status == ESK_OK)
		status = esk_h5_path_check(path, true, checked, err);
	if (status != ESK_OK)
		return status;
	esk_h5_lock();
	status = make_group(file, checked, err);
	esk_h5_unlock();
	return status;
}

/* ---- deletion ---- */

static bool at_or_below(const char *path, const char *top)
{
	size_t size = strlen(top);
	return strncmp(path, top, size) == 0 && (path[size] == '\0' || path[size] == '/');
}

/* HDF5 frees an object's space when its last id is closed: the handles at and below `path` let go of theirs.
 */
static void detach_handles(esk_h5 *file, const char *path)
{
	for (size_t i = 0; i < ESK_H5_BUCKETS; i++) {
		for (esk_h5_dataset **at = &file->buckets[i]; *at;) {
			esk_h5_dataset *dataset = *at;
			if (!at_or_below(dataset->info.path, path)) {
				at = &dataset->next;
				continue;
			}
			*at = dataset->next;
			dataset->next = file->removed;
			file->removed = dataset;
			esk_h5_drop(dataset->id);
			dataset->id = H5I_INVALID_HID;
		}
	}
}

esk_status esk_h5_delete(esk_h5 *file, const char *path, esk_error *err)
{
	char checked[ESK_H5_PATH_BYTES];
	esk_status status = esk_h5_begin_change(file, err);

	if (status == ESK_OK)
		status = esk_h5_path_check(path, false, checked, err);
	if (status != ESK_OK)
		return status;
	if (checked[0] == '\0')
		return esk_fail(err, ESK_EINVAL, "%s: the root group cannot be deleted", file->path);
	esk_h5_lock();
	if (!esk_h5_path_exists(file, checked)) {
		status =
			esk_fail(err, ESK_ENOTFOUND, "%s has no group or dataset '/%s'", file->path, checked);
	} else {
		detach_handles(file, checked);
		if (H5Ldelete(file->id, checked, H5P_DEFAULT) < 0)
			status = esk_h5_fail(err, ESK_EIO, "%s: cannot delete '/%s'", file->path, checked);
	}
	esk_h5_unlock();
	return status;
}

/* ---- the walk ---- */

typedef struct path_list {
	const char *top; /* the group that is walked; "": the root */
	char **paths;
	size_t count;
	size_t capacity;
	bool failed; /* memory */
} path_list;

static bool list_add(path_list *list, const char *path)
{
	if (list->count == list->capacity) {
		size_t capacity = list->capacity > 0 ? 2 * list->capacity : 64;
		char **paths = realloc(list->paths, capacity * sizeof *paths);
		if (!paths)
			return false;
		list->paths = paths;
		list->capacity = capacity;
	}
	char full[ESK_H5_PATH_BYTES];
	if (snprintf(full, sizeof full, "%s%s%s", list->top, list->top[0] ? "/" : "", path) >=
		(int)sizeof full)
		return false;
	list->paths[list->count] = strdup(full);
	return list->paths[list->count] && ++list->count > 0;
}

static void list_free(path_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->paths[i]);
	free(list->paths);
}

static herr_t list_dataset(hid_t root, const char *name, const esk_h5_object_info *info, void *arg)
{
	path_list *list = arg;
	(void)root;
	if (info->type != H5O_TYPE_DATASET || list_add(list, name))
		return 0;
	list->failed = true;
	return -1;
}

static int compare_paths(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Paths of all datasets, each object once, in order. */
static esk_status list_datasets(esk_h5 *file, path_list *list, esk_error *err)
{
	esk_status status = esk_h5_enter(file, err);

	if (status != ESK_OK)
		return status;
	hid_t top = list->top[0] ? H5Gopen2(file->id, list->top, H5P_DEFAULT) : file->id;
	if (top < 0 || ESK_H5_VISIT(top, list_dataset, list) < 0)
		status = list->failed
				 ? esk_fail_memory(err, list->count * sizeof *list->paths, file->path)
				 : esk_h5_fail(err, ESK_ECORRUPT, "%s: cannot list its objects", file->path);
	if (list->top[0])
		esk_h5_drop(top);
	status = esk_h5_leave(file, status, err);
	if (status == ESK_OK && list->count > 0)
		qsort(list->paths, list->count, sizeof *list->paths, compare_paths);
	return status;
}

esk_status esk_h5_visit(esk_h5 *file, esk_status (*visit)(void *arg, esk_h5_dataset *dataset, esk_error *err),
	void *arg, esk_error *err)
{
	return esk_h5_visit_below(file, "/", visit, arg, err);
}

esk_status esk_h5_visit_below(esk_h5 *file, const char *path,
	esk_status (*visit)(void *arg, esk_h5_dataset *dataset, esk_error *err), void *arg, esk_error *err)
{
	char checked[ESK_H5_PATH_BYTES];
	path_list list = {.top = checked};
	esk_status status = esk_h5_path_check(path, false, checked, err);

	if (status == ESK_OK)
		status = list_datasets(file, &list, err);

	for (size_t i = 0; status == ESK_OK && i < list.count; i++) {
		esk_h5_dataset *dataset = NULL;
		status = esk_h5_dataset_open(file, list.paths[i], &dataset, err);
		if (status == ESK_OK)
			status = visit(arg, dataset, err);
	}
	list_free(&list);
	return status;
}
