/* Attributes of a segment's root that are the caller's: single values that every segment of the run has, and
 * counts of a stream's rows. Their names stand in `esker_attributes`, so that a later recorder of the run
 * knows which to take over. Drain thread only (R1). */
#include "record/internal.h"

#include <stdlib.h>
#include <string.h>

#define LIST_NAME "esker_attributes"

esk_status esk_attribute_check(const char *name, esk_error *err)
{
	static const char *const own[] = {"metadata", "created_at"};
	esk_status status = esk_name_check(name, "root attribute", err);
	if (status != ESK_OK)
		return status;
	bool taken = strncmp(name, "esker_", 6) == 0;
	for (size_t i = 0; i < sizeof own / sizeof *own; i++)
		taken = taken || strcmp(name, own[i]) == 0;
	return taken ? esk_fail(err, ESK_EINVAL,
			       "the root attribute \"%s\" is Esker's own: choose another name", name)
		     : ESK_OK;
}

void esk_attributes_free(esk_attribute *attributes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		esk_h5_scalar_clear(&attributes[i].value);
	free(attributes);
}

static const esk_attribute *find(const esk_recorder *r, const char *name)
{
	for (size_t i = 0; i < r->attribute_count; i++)
		if (strcmp(r->attributes[i].name, name) == 0)
			return &r->attributes[i];
	return NULL;
}

/* Adds one whose value becomes the recorder's; on failure too, for it is freed then. */
static esk_status add(esk_recorder *r, const char *name, esk_h5_scalar *value, esk_error *err)
{
	esk_attribute *grown = realloc(r->attributes, (r->attribute_count + 1) * sizeof *grown);
	if (grown == NULL) {
		esk_h5_scalar_clear(value);
		return esk_fail_memory(err, sizeof *grown, "attributes");
	}
	r->attributes = grown;
	esk_attribute *added = &grown[r->attribute_count++];
	*added = (esk_attribute){.value = *value};
	strncpy(added->name, name, sizeof added->name - 1);
	return ESK_OK;
}

esk_status esk_attributes_copy(esk_recorder *r, const esk_attribute *attributes, size_t count, esk_error *err)
{
	esk_status status = ESK_OK;
	for (size_t i = 0; i < count && status == ESK_OK; i++) {
		esk_h5_scalar value = attributes[i].value;
		if (value.text != NULL && (value.text = strdup(value.text)) == NULL)
			return esk_fail_memory(err, strlen(attributes[i].value.text), "attributes");
		status = add(r, attributes[i].name, &value, err);
	}
	r->attributes_dirty = count > 0;
	return status;
}

esk_status esk_attributes_adopt(esk_recorder *r, esk_h5 *file, esk_error *err)
{
	char *list = NULL, *rest = NULL;
	esk_status status = esk_h5_get_text(file, "/", LIST_NAME, &list, err);
	if (status == ESK_ENOTFOUND)
		return ESK_OK;
	if (status != ESK_OK)
		return status;
	for (char *name = strtok_r(list, "\n", &rest); name != NULL && status == ESK_OK;
		name = strtok_r(NULL, "\n", &rest)) {
		esk_h5_scalar value;
		if (find(r, name) != NULL || esk_attribute_check(name, NULL) != ESK_OK)
			continue;
		status = esk_h5_get_scalar(file, "/", name, &value, err);
		if (status == ESK_OK)
			status = add(r, name, &value, err);
		else if (status == ESK_ENOTFOUND || status == ESK_ETYPE || status == ESK_ESHAPE)
			status = ESK_OK; /* another program removed or changed it: it is not ours any more */
	}
	free(list);
	return status;
}

esk_status esk_attributes_write(esk_recorder *r, esk_error *err)
{
	esk_text list = {0};
	esk_status status = ESK_OK;
	if (r->attribute_count == 0)
		return ESK_OK;
	for (size_t i = 0; i < r->attribute_count && status == ESK_OK; i++) {
		esk_text_add(&list, "%s\n", r->attributes[i].name);
		status = esk_h5_set_scalar(r->file, "/", r->attributes[i].name, &r->attributes[i].value, err);
	}
	if (status == ESK_OK)
		status = list.failed ? esk_fail_memory(err, 1, "names")
				     : esk_h5_set_text(r->file, "/", LIST_NAME, list.data, err);
	esk_text_free(&list);
	return status;
}

esk_status esk_attributes_check_apart(const esk_recorder *r, const esk_stream *stream, esk_error *err)
{
	const char *name = stream->rows_attribute;
	if (name == NULL)
		return ESK_OK;
	uint32_t count = atomic_load_explicit(
		&r->stream_count, memory_order_acquire); /* with the release in drain.c */
	bool taken = find(r, name) != NULL;
	for (uint32_t s = 0; s < count; s++) {
		const char *other = r->streams[s]->rows_attribute;
		taken = taken || (r->streams[s] != stream && other != NULL && strcmp(other, name) == 0);
	}
	return taken ? esk_fail(err, ESK_EINVAL,
			       "run \"%s\", stream \"%s\": the root attribute \"%s\", which is to count its "
			       "rows, "
			       "holds something else: choose another name",
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
