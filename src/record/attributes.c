/* Attributes of groups that are the caller's: single values that every segment of the run has, of its root
 * and of other groups; and counts of a stream's rows. Their names stand in `esker_attributes` of the group,
 * the groups in `esker_groups` of the root, so that a later recorder of the run knows which to take over.
 * Drain thread only (R1), but for the checks. */
#include "record/internal.h"

#include <stdlib.h>
#include <string.h>

#define LIST_NAME "esker_attributes"
#define GROUPS_NAME "esker_groups"

esk_status esk_attribute_check(const char *object, const char *name, esk_error *err)
{
	static const char *const own[] = {"metadata", "created_at"};
	bool root = strcmp(object, "/") == 0;
	esk_status status = esk_name_check(name, root ? "root attribute" : "group's attribute", err);
	if (status != ESK_OK)
		return status;
	bool taken = strncmp(name, "esker_", 6) == 0;
	for (size_t i = 0; root && i < sizeof own / sizeof *own; i++)
		taken = taken || strcmp(name, own[i]) == 0;
	return taken ? esk_fail(err, ESK_EINVAL,
			       "the %s attribute \"%s\" is Esker's own: choose another name",
			       root ? "root" : "group's", name)
		     : ESK_OK;
}

void esk_attributes_free(esk_attribute *attributes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		esk_h5_scalar_clear(&attributes[i].value);
	free(attributes);
}

void esk_groups_free(esk_group *groups, size_t count)
{
	for (size_t i = 0; i < count; i++)
		esk_attributes_free(groups[i].attributes, groups[i].count);
	free(groups);
}

/* ---- what is kept of a group ---- */

static esk_group *find_group(const esk_recorder *r, const char *path)
{
	for (size_t i = 0; i < r->group_count; i++)
		if (strcmp(r->groups[i].path, path) == 0)
			return &r->groups[i];
	return NULL;
}

static esk_attribute *find(const esk_group *group, const char *name)
{
	for (size_t i = 0; group != NULL && i < group->count; i++)
		if (strcmp(group->attributes[i].name, name) == 0)
			return &group->attributes[i];
	return NULL;
}

/* Borrowed until the next one is added. */
static esk_status keep_group(esk_recorder *r, const char *path, esk_group **ret_group, esk_error *err)
{
	*ret_group = find_group(r, path);
	if (*ret_group != NULL)
		return ESK_OK;
	esk_group *grown = realloc(r->groups, (r->group_count + 1) * sizeof *grown);
	if (grown == NULL)
		return esk_fail_memory(err, sizeof *grown, "groups");
	r->groups = grown;
	*ret_group = &grown[r->group_count++];
	**ret_group = (esk_group){0};
	strncpy((*ret_group)->path, path, sizeof(*ret_group)->path - 1);
	return ESK_OK;
}

/* Takes the value, which is the group's from then on; on failure too, for it is freed then. */
static esk_status keep(esk_group *group, const char *name, esk_h5_scalar *value, esk_error *err)
{
	esk_attribute *kept = find(group, name);
	if (kept == NULL) {
		esk_attribute *grown = realloc(group->attributes, (group->count + 1) * sizeof *grown);
		if (grown == NULL) {
			esk_h5_scalar_clear(value);
			return esk_fail_memory(err, sizeof *grown, "attributes");
		}
		group->attributes = grown;
		kept = &grown[group->count++];
		*kept = (esk_attribute){0};
		strncpy(kept->name, name, sizeof kept->name - 1);
	}
	esk_h5_scalar_clear(&kept->value);
	kept->value = *value;
	return ESK_OK;
}

esk_status esk_attributes_keep(
	esk_recorder *r, const char *path, const esk_attribute *attributes, size_t count, esk_error *err)
{
	esk_group *group = NULL;
	esk_status status = count > 0 ? keep_group(r, path, &group, err) : ESK_OK;
	for (size_t i = 0; i < count && status == ESK_OK; i++) {
		esk_h5_scalar value = attributes[i].value;
		if (value.text != NULL && (value.text = strdup(value.text)) == NULL)
			return esk_fail_memory(err, strlen(attributes[i].value.text), "attributes");
		status = keep(group, attributes[i].name, &value, err);
	}
	r->attributes_dirty = r->attributes_dirty || count > 0;
	return status;
}

/* ---- taking over ---- */

/* *ret_list stays NULL where there is no such attribute. */
static esk_status read_list(
	esk_h5 *file, const char *object, const char *name, char **ret_list, esk_error *err)
{
	esk_status status = esk_h5_get_text(file, object, name, ret_list, err);
	return status == ESK_ENOTFOUND ? ESK_OK : status;
}

static esk_status adopt_group(esk_recorder *r, esk_h5 *file, const char *path, esk_error *err)
{
	char *list = NULL, *rest = NULL;
	esk_group *group = NULL;
	esk_status status = read_list(file, path, LIST_NAME, &list, err);
	if (status == ESK_OK && list != NULL)
		status = keep_group(r, path, &group, err);
	for (char *name = list != NULL ? strtok_r(list, "\n", &rest) : NULL; name != NULL && status == ESK_OK;
		name = strtok_r(NULL, "\n", &rest)) {
		esk_h5_scalar value;
		if (find(group, name) != NULL || esk_attribute_check(path, name, NULL) != ESK_OK)
			continue;
		status = esk_h5_get_scalar(file, path, name, &value, err);
		if (status == ESK_OK)
			status = keep(group, name, &value, err);
		else if (status == ESK_ENOTFOUND || status == ESK_ETYPE || status == ESK_ESHAPE)
			status = ESK_OK; /* another program removed or changed it: it is not ours any more */
	}
	free(list);
	return status;
}

esk_status esk_attributes_adopt(esk_recorder *r, esk_h5 *file, esk_error *err)
{
	char *list = NULL, *rest = NULL;
	esk_status status = adopt_group(r, file, "/", err);
	if (status == ESK_OK)
		status = read_list(file, "/", GROUPS_NAME, &list, err);
	for (char *path = list != NULL ? strtok_r(list, "\n", &rest) : NULL; path != NULL && status == ESK_OK;
		path = strtok_r(NULL, "\n", &rest))
		if (esk_group_name_check(path, "group", NULL) == ESK_OK)
			status = adopt_group(r, file, path, err);
	free(list);
	return status;
}

/* ---- writing ---- */

static esk_status write_group(esk_recorder *r, const esk_group *group, esk_error *err)
{
	esk_text list = {0};
	esk_status status =
		strcmp(group->path, "/") == 0 ? ESK_OK : esk_h5_make_group(r->file, group->path, err);
	for (size_t i = 0; i < group->count && status == ESK_OK; i++) {
		esk_text_add(&list, "%s\n", group->attributes[i].name);
		status = esk_h5_set_scalar(
			r->file, group->path, group->attributes[i].name, &group->attributes[i].value, err);
	}
	if (status == ESK_OK && group->count > 0)
		status = list.failed ? esk_fail_memory(err, 1, "names")
				     : esk_h5_set_text(r->file, group->path, LIST_NAME, list.data, err);
	esk_text_free(&list);
	return status;
}

esk_status esk_attributes_write(esk_recorder *r, esk_error *err)
{
	esk_text list = {0};
	esk_status status = ESK_OK;
	for (size_t i = 0; i < r->group_count && status == ESK_OK; i++) {
		status = write_group(r, &r->groups[i], err);
		if (strcmp(r->groups[i].path, "/") != 0)
			esk_text_add(&list, "%s\n", r->groups[i].path);
	}
	if (status == ESK_OK && list.failed)
		status = esk_fail_memory(err, 1, "names");
	if (status == ESK_OK && list.data != NULL)
		status = esk_h5_set_text(r->file, "/", GROUPS_NAME, list.data, err);
	esk_text_free(&list);
	return status;
}

esk_status esk_attributes_set(
	esk_recorder *r, const char *path, const esk_attribute *attributes, size_t count, esk_error *err)
{
	esk_status status = ESK_OK;
	for (size_t i = 0; i < count && status == ESK_OK; i++)
		status = esk_h5_set_scalar(r->file, path, attributes[i].name, &attributes[i].value, err);
	return status;
}

/* ---- counts of rows ---- */

bool esk_attributes_counts_rows(const esk_recorder *r, const char *name)
{
	uint32_t count = atomic_load_explicit(
		&r->stream_count, memory_order_acquire); /* with the release in drain.c */
	for (uint32_t s = 0; s < count; s++)
		if (r->streams[s]->rows_attribute != NULL && strcmp(r->streams[s]->rows_attribute, name) == 0)
			return true;
	return false;
}

esk_status esk_attributes_check_apart(const esk_recorder *r, const esk_stream *stream, esk_error *err)
{
	const char *name = stream->rows_attribute;
	if (name == NULL)
		return ESK_OK;
	uint32_t count = atomic_load_explicit(
		&r->stream_count, memory_order_acquire); /* with the release in drain.c */
	bool taken = find(find_group(r, "/"), name) != NULL;
	for (uint32_t s = 0; s < count; s++) {
		const char *other = r->streams[s]->rows_attribute;
		taken = taken || (r->streams[s] != stream && other != NULL && strcmp(other, name) == 0);
	}
	return taken ? esk_fail(err, ESK_EINVAL,
			       "run \"%s\", stream \"%s\": the root attribute \"%s\", which is to count its "
			       "rows, holds something else: choose another name",
			       r->name, stream->name, name)
		     : ESK_OK;
}

esk_status esk_attributes_write_rows(esk_recorder *r, esk_error *err)
{
	esk_status status = ESK_OK;
	uint32_t count = atomic_load_explicit(
		&r->stream_count, memory_order_acquire); /* with the release in drain.c */
	for (uint32_t s = 0; s < count && status == ESK_OK; s++) {
		esk_stream *stream = r->streams[s];
		if (stream->rows_attribute == NULL || stream->rows == stream->rows_attribute_value)
			continue;
		status = esk_h5_set_i64(r->file, "/", stream->rows_attribute, (int64_t)stream->rows, err);
		if (status == ESK_OK)
			stream->rows_attribute_value = stream->rows;
	}
	return status;
}
