/* Attributes: text, integers, single values of either kind, of reals and of truth.
 *
 * What does not change is not written, and what keeps its type and size is overwritten in place, so that a
 * commit which sets the same attributes each time makes nothing grow. Text is a fixed UTF-8 string of exactly
 * its bytes. The object headers of the earliest format hold 64 KiB at most per attribute, so text beyond
 * LONG_TEXT_BYTES is a variable string: its bytes are in the file's global heap, where any reader finds them
 * without knowing of Esker. */
#include "h5/h5_internal.h"

#include <stdlib.h>
#include <string.h>

#define LONG_TEXT_BYTES 60000

/* ---- opening ---- */

static esk_status fail_object(esk_h5 *file, const char *object, esk_error *err)
{
	if (!esk_h5_driver_error() && !esk_h5_path_exists(file, object))
		return esk_fail(err, ESK_ENOTFOUND, "%s has no group or dataset '/%s'", file->path, object);
	return esk_h5_fail(err, ESK_ECORRUPT, "%s: cannot open '/%s'", file->path, object);
}

/* Checks `object`, locks, opens it. Undone by close_object. */
static esk_status open_object(
	esk_h5 *file, const char *object, char path[ESK_H5_PATH_BYTES], hid_t *ret_id, esk_error *err)
{
	esk_status status = esk_h5_path_check(object, false, path, err);
	hid_t id;

	if (status == ESK_OK)
		status = esk_h5_enter(file, err);
	if (status != ESK_OK)
		return status;
	id = H5Oopen(file->id, path[0] ? path : "/", H5P_DEFAULT);
	if (id < 0)
		return esk_h5_leave(file, fail_object(file, path, err), err);
	*ret_id = id;
	return ESK_OK;
}

static esk_status close_object(esk_h5 *file, hid_t id, esk_status status, esk_error *err)
{
	esk_h5_drop(id);
	return esk_h5_leave(file, status, err);
}

/* ESK_ENOTFOUND if `object` has no attribute `name`. */
static esk_status open_attribute(
	hid_t object, const char *what, const char *name, hid_t *ret_id, esk_error *err)
{
	htri_t exists = H5Aexists(object, name);
	hid_t id = exists > 0 ? H5Aopen(object, name, H5P_DEFAULT) : H5I_INVALID_HID;

	if (exists == 0)
		return esk_fail(err, ESK_ENOTFOUND, "'/%s' has no attribute '%s'", what, name);
	if (id < 0)
		return esk_h5_fail(err, ESK_ECORRUPT, "cannot open attribute '%s' of '/%s'", name, what);
	*ret_id = id;
	return ESK_OK;
}

static hssize_t point_count(hid_t attribute)
{
	hid_t space = H5Aget_space(attribute);
	hssize_t count = space < 0 ? -1 : H5Sget_simple_extent_npoints(space);
	esk_h5_drop(space);
	return count;
}

/* ---- text: reading ---- */

static char *copy_trimmed(const char *text, size_t size, H5T_str_t padding)
{
	char *copy;

	size = strnlen(text, size);
	while (padding == H5T_STR_SPACEPAD && size > 0 && text[size - 1] == ' ')
		size--;
	copy = malloc(size + 1);
	if (copy) {
		memcpy(copy, text, size);
		copy[size] = '\0';
	}
	return copy;
}

/* *ret_text is NULL when memory ran out. */
static herr_t read_fixed(hid_t attribute, hid_t type, char **ret_text)
{
	size_t size = H5Tget_size(type);
	char *buf = malloc(size);
	herr_t done = buf ? H5Aread(attribute, type, buf) : 0;

	*ret_text = buf && done >= 0 ? copy_trimmed(buf, size, H5Tget_strpad(type)) : NULL;
	free(buf);
	return done;
}

static herr_t read_variable(hid_t attribute, hid_t type, char **ret_text)
{
	char *text = NULL;
	hid_t space = H5Aget_space(attribute);
	herr_t done = space < 0 ? -1 : H5Aread(attribute, type, &text);

	*ret_text = done >= 0 ? strdup(text ? text : "") : NULL;
	if (done >= 0)
		ESK_H5_RECLAIM(type, space, H5P_DEFAULT, &text);
	esk_h5_drop(space);
	return done;
}

esk_status esk_h5_text_read(hid_t object, const char *what, const char *name, char **ret_text, esk_error *err)
{
	char *text = NULL;
	hid_t attribute = H5I_INVALID_HID, type;
	herr_t done;
	esk_status status = open_attribute(object, what, name, &attribute, err);

	if (status != ESK_OK)
		return status;
	type = H5Aget_type(attribute);
	if (type < 0) {
		status = esk_h5_fail(
			err, ESK_ECORRUPT, "cannot read the type of attribute '%s' of '/%s'", name, what);
	} else if (H5Tget_class(type) != H5T_STRING) {
		status = esk_fail(err, ESK_ETYPE, "attribute '%s' of '/%s' is not text", name, what);
	} else if (point_count(attribute) != 1) {
		status = esk_fail(err, ESK_ESHAPE, "attribute '%s' of '/%s' is not one text", name, what);
	} else {
		done = H5Tis_variable_str(type) > 0 ? read_variable(attribute, type, &text)
						    : read_fixed(attribute, type, &text);
		if (done < 0)
			status = esk_h5_fail(
				err, ESK_ECORRUPT, "cannot read attribute '%s' of '/%s'", name, what);
		else if (!text)
			status = esk_fail_memory(err, H5Tget_size(type), name);
	}
	esk_h5_drop(type);
	esk_h5_drop(attribute);
	if (status == ESK_OK)
		*ret_text = text;
	return status;
}

esk_status esk_h5_get_text(
	esk_h5 *file, const char *object, const char *name, char **ret_text, esk_error *err)
{
	char path[ESK_H5_PATH_BYTES], *text = NULL;
	hid_t id;
	esk_status status = open_object(file, object, path, &id, err);

	if (status != ESK_OK)
		return status;
	status = esk_h5_text_read(id, path, name, &text, err);
	status = close_object(file, id, status, err);
	if (status == ESK_OK)
		*ret_text = text;
	else
		free(text);
	return status;
}

/* ---- writing ---- */

/* True if the attribute has exactly this type and number of elements. */
static bool fits(hid_t attribute, hid_t type, size_t count)
{
	hid_t found = H5Aget_type(attribute);
	bool same = found >= 0 && H5Tequal(found, type) > 0 && point_count(attribute) == (hssize_t)count;
	esk_h5_drop(found);
	return same;
}

/* Opens the attribute if it fits, else makes it anew; count 0 is a scalar. */
static hid_t attribute_for(hid_t object, const char *name, hid_t type, size_t count)
{
	hid_t attribute, space;
	hsize_t dims[1] = {count};

	if (H5Aexists(object, name) > 0) {
		attribute = H5Aopen(object, name, H5P_DEFAULT);
		if (attribute >= 0 && fits(attribute, type, count > 0 ? count : 1))
			return attribute;
		esk_h5_drop(attribute);
		if (H5Adelete(object, name) < 0)
			return H5I_INVALID_HID;
	}
	space = count > 0 ? H5Screate_simple(1, dims, NULL) : H5Screate(H5S_SCALAR);
	if (space < 0)
		return space;
	attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
	esk_h5_drop(space);
	return attribute;
}

static esk_status write_attribute(hid_t object, const char *what, const char *name, hid_t file_type,
	hid_t memory_type, size_t count, const void *value, esk_error *err)
{
	esk_status status = ESK_OK;
	hid_t attribute = attribute_for(object, name, file_type, count);

	if (attribute < 0 || H5Awrite(attribute, memory_type, value) < 0)
		status = esk_h5_fail(err, ESK_EIO, "cannot write attribute '%s' of '/%s'", name, what);
	esk_h5_drop(attribute);
	return status;
}

static esk_status write_text(
	hid_t object, const char *what, const char *name, const char *text, bool variable, esk_error *err)
{
	size_t size = strlen(text);
	char *present = NULL;
	hid_t type;
	esk_status status;

	if (esk_h5_text_read(object, what, name, &present, NULL) == ESK_OK) {
		bool same = strcmp(present, text) == 0;
		free(present);
		if (same)
			return ESK_OK;
	}
	type = esk_h5_type_make(variable ? (esk_dtype){ESK_STRING, sizeof(esk_string)}
					 : (esk_dtype){ESK_STRING_N, (uint32_t)esk_max_u64(size, 1)});
	if (type < 0)
		return esk_h5_fail(err, ESK_ENOMEM, "cannot make the type of attribute '%s'", name);
	status = write_attribute(
		object, what, name, type, type, 0, variable ? (const void *)&text : (const void *)text, err);
	esk_h5_drop(type);
	return status;
}

esk_status esk_h5_text_write(
	hid_t object, const char *what, const char *name, const char *text, esk_error *err)
{
	return write_text(object, what, name, text, strlen(text) > LONG_TEXT_BYTES, err);
}

/* As open_object, for writing. */
static esk_status open_to_write(
	esk_h5 *file, const char *object, char path[ESK_H5_PATH_BYTES], hid_t *ret_id, esk_error *err)
{
	esk_status status = esk_h5_begin_change(file, err);
	return status == ESK_OK ? open_object(file, object, path, ret_id, err) : status;
}

esk_status esk_h5_set_text(
	esk_h5 *file, const char *object, const char *name, const char *text, esk_error *err)
{
	char path[ESK_H5_PATH_BYTES];
	hid_t id;
	esk_status status = open_to_write(file, object, path, &id, err);

	if (status != ESK_OK)
		return status;
	return close_object(file, id, esk_h5_text_write(id, path, name, text, err), err);
}

esk_status esk_h5_set_u64s(esk_h5 *file, const char *object, const char *name, const uint64_t *values,
	size_t count, esk_error *err)
{
	char path[ESK_H5_PATH_BYTES];
	hid_t id;
	esk_status status;

	if (count == 0 || count * sizeof *values > LONG_TEXT_BYTES)
		return esk_fail(err, ESK_ERANGE, "attribute '%s' would have %zu elements (1 to %zu fit)",
			name, count, LONG_TEXT_BYTES / sizeof *values);
	status = open_to_write(file, object, path, &id, err);
	if (status != ESK_OK)
		return status;
	status = write_attribute(id, path, name, H5T_STD_U64LE, H5T_NATIVE_UINT64, count, values, err);
	return close_object(file, id, status, err);
}

esk_status esk_h5_set_i64(esk_h5 *file, const char *object, const char *name, int64_t value, esk_error *err)
{
	char path[ESK_H5_PATH_BYTES];
	hid_t id;
	esk_status status = open_to_write(file, object, path, &id, err);

	if (status != ESK_OK)
		return status;
	status = write_attribute(id, path, name, H5T_STD_I64LE, H5T_NATIVE_INT64, 0, &value, err);
	return close_object(file, id, status, err);
}

/* ---- integers: reading ---- */

/* Reads exactly `count` integers of 8 bytes. */
static esk_status read_integers(hid_t object, const char *what, const char *name, hid_t memory_type,
	size_t count, void *values, esk_error *err)
{
	hid_t attribute = H5I_INVALID_HID, type;
	esk_status status = open_attribute(object, what, name, &attribute, err);

	if (status != ESK_OK)
		return status;
	type = H5Aget_type(attribute);
	if (type < 0 || H5Tget_class(type) != H5T_INTEGER)
		status = esk_fail(err, ESK_ETYPE, "attribute '%s' of '/%s' is not of integers", name, what);
	else if (point_count(attribute) != (hssize_t)count)
		status = esk_fail(err, ESK_ESHAPE, "attribute '%s' of '/%s' has %lld elements (expected %zu)",
			name, what, (long long)point_count(attribute), count);
	else if (H5Aread(attribute, memory_type, values) < 0)
		status = esk_h5_fail(err, ESK_ECORRUPT, "cannot read attribute '%s' of '/%s'", name, what);
	esk_h5_drop(type);
	esk_h5_drop(attribute);
	return status;
}

esk_status esk_h5_get_u64s(esk_h5 *file, const char *object, const char *name, uint64_t *ret_values,
	size_t count, esk_error *err)
{
	char path[ESK_H5_PATH_BYTES];
	hid_t id;
	uint64_t *values = malloc(count * sizeof *values);
	esk_status status;

	if (!values)
		return esk_fail_memory(err, count * sizeof *values, name);
	status = open_object(file, object, path, &id, err);
	if (status == ESK_OK) {
		status = read_integers(id, path, name, H5T_NATIVE_UINT64, count, values, err);
		status = close_object(file, id, status, err);
	}
	if (status == ESK_OK)
		memcpy(ret_values, values, count * sizeof *values);
	free(values);
	return status;
}

esk_status esk_h5_get_i64(
	esk_h5 *file, const char *object, const char *name, int64_t *ret_value, esk_error *err)
{
	char path[ESK_H5_PATH_BYTES];
	hid_t id;
	int64_t value;
	esk_status status = open_object(file, object, path, &id, err);

	if (status != ESK_OK)
		return status;
	status = read_integers(id, path, name, H5T_NATIVE_INT64, 1, &value, err);
	status = close_object(file, id, status, err);
	if (status == ESK_OK)
		*ret_value = value;
	return status;
}

/* ---- single values ---- */

void esk_h5_scalar_clear(esk_h5_scalar *scalar)
{
	free(scalar->text);
	*scalar = (esk_h5_scalar){0};
}

static esk_status write_truth(hid_t object, const char *what, const char *name, bool value, esk_error *err)
{
	uint8_t byte = value;
	hid_t type = esk_h5_type_make((esk_dtype){ESK_BOOL, 1});
	esk_status status;

	if (type < 0)
		return esk_h5_fail(err, ESK_ENOMEM, "cannot make the type of attribute '%s'", name);
	status = write_attribute(object, what, name, type, type, 0, &byte, err);
	esk_h5_drop(type);
	return status;
}

esk_status esk_h5_set_scalar(
	esk_h5 *file, const char *object, const char *name, const esk_h5_scalar *value, esk_error *err)
{
	char path[ESK_H5_PATH_BYTES];
	hid_t id;
	esk_status status = open_to_write(file, object, path, &id, err);

	if (status != ESK_OK)
		return status;
	if (value->kind == ESK_H5_TEXT)
		status = write_text(id, path, name, value->text, true, err);
	else if (value->kind == ESK_H5_TRUTH)
		status = write_truth(id, path, name, value->integer != 0, err);
	else if (value->kind == ESK_H5_REAL)
		status = write_attribute(
			id, path, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 0, &value->real, err);
	else
		status = write_attribute(
			id, path, name, H5T_STD_I64LE, H5T_NATIVE_INT64, 0, &value->integer, err);
	return close_object(file, id, status, err);
}

/* Reads what is not text from an open attribute of type `type`. */
static herr_t read_value(hid_t attribute, hid_t type, esk_h5_scalar *value)
{
	int8_t byte = 0;
	herr_t done;

	switch (H5Tget_class(type)) {
	case H5T_INTEGER:
		value->kind = ESK_H5_INTEGER;
		return H5Aread(attribute, H5T_NATIVE_INT64, &value->integer);
	case H5T_FLOAT:
		value->kind = ESK_H5_REAL;
		return H5Aread(attribute, H5T_NATIVE_DOUBLE, &value->real);
	default: /* an enumeration of one byte: the caller looked */
		value->kind = ESK_H5_TRUTH;
		done = H5Aread(attribute, type, &byte);
		value->integer = byte != 0;
		return done;
	}
}

static bool is_number_or_truth(hid_t type)
{
	H5T_class_t class = H5Tget_class(type);
	return class == H5T_INTEGER || class == H5T_FLOAT || (class == H5T_ENUM && H5Tget_size(type) == 1);
}

static esk_status read_scalar(
	hid_t object, const char *what, const char *name, esk_h5_scalar *value, esk_error *err)
{
	hid_t attribute = H5I_INVALID_HID, type;
	esk_status status = open_attribute(object, what, name, &attribute, err);

	if (status != ESK_OK)
		return status;
	type = H5Aget_type(attribute);
	if (type >= 0 && H5Tget_class(type) == H5T_STRING) {
		value->kind = ESK_H5_TEXT;
		status = esk_h5_text_read(object, what, name, &value->text, err);
	} else if (type < 0 || !is_number_or_truth(type)) {
		status = esk_fail(err, ESK_ETYPE, "attribute '%s' of '/%s' is no number, truth value or text",
			name, what);
	} else if (point_count(attribute) != 1) {
		status = esk_fail(err, ESK_ESHAPE, "attribute '%s' of '/%s' is not one value", name, what);
	} else if (read_value(attribute, type, value) < 0) {
		status = esk_h5_fail(err, ESK_ECORRUPT, "cannot read attribute '%s' of '/%s'", name, what);
	}
	esk_h5_drop(type);
	esk_h5_drop(attribute);
	return status;
}

esk_status esk_h5_get_scalar(
	esk_h5 *file, const char *object, const char *name, esk_h5_scalar *ret_value, esk_error *err)
{
	char path[ESK_H5_PATH_BYTES];
	hid_t id;
	esk_h5_scalar value = {0};
	esk_status status = open_object(file, object, path, &id, err);

	if (status != ESK_OK)
		return status;
	status = close_object(file, id, read_scalar(id, path, name, &value, err), err);
	if (status == ESK_OK)
		*ret_value = value;
	else
		esk_h5_scalar_clear(&value);
	return status;
}

typedef struct scalar_visit {
	esk_h5_scalar_fn visit;
	void *arg;
	const char *path;
	esk_status status;
	esk_error *err;
} scalar_visit;

/* What is none of the kinds, or not one value, is passed over. */
static herr_t visit_scalar(hid_t object, const char *name, const H5A_info_t *info, void *arg)
{
	scalar_visit *visit = arg;
	esk_h5_scalar value = {0};

	(void)info;
	visit->status = read_scalar(object, visit->path, name, &value, visit->err);
	if (visit->status == ESK_OK)
		visit->status = visit->visit(visit->arg, name, &value, visit->err);
	else if (visit->status == ESK_ETYPE || visit->status == ESK_ESHAPE)
		visit->status = ESK_OK;
	esk_h5_scalar_clear(&value);
	return visit->status == ESK_OK ? 0 : -1;
}

esk_status esk_h5_each_scalar(
	esk_h5 *file, const char *object, esk_h5_scalar_fn visit, void *arg, esk_error *err)
{
	char path[ESK_H5_PATH_BYTES];
	hid_t id;
	hsize_t position = 0;
	scalar_visit state = {.visit = visit, .arg = arg, .path = path, .status = ESK_OK, .err = err};
	esk_status status = open_object(file, object, path, &id, err);

	if (status != ESK_OK)
		return status;
	if (H5Aiterate2(id, H5_INDEX_NAME, H5_ITER_INC, &position, visit_scalar, &state) < 0)
		status = state.status != ESK_OK ? state.status
						: esk_h5_fail(err, ESK_ECORRUPT,
							  "cannot list the attributes of '/%s'", path);
	return close_object(file, id, status, err);
}
