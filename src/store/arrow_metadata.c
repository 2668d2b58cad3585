/* What a field's metadata says of its column. In the C data interface it is a count and, of each pair, a size
 * and the bytes of key and value, all in native order and not aligned. */
#include "store/arrow_map.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int32_t take_int(const char **at)
{
	int32_t value;
	memcpy(&value, *at, sizeof value);
	*at += sizeof value;
	return value;
}

char *esk_map_metadata(const struct ArrowSchema *schema, const char *key)
{
	const char *at = schema->metadata;
	size_t wanted = strlen(key);
	for (int32_t pairs = at != NULL ? take_int(&at) : 0; pairs > 0; pairs--) {
		int32_t key_size = take_int(&at);
		const char *found = at;
		if (key_size < 0)
			return NULL;
		at += key_size;
		int32_t size = take_int(&at);
		if (size < 0)
			return NULL;
		if ((size_t)key_size == wanted && memcmp(found, key, wanted) == 0)
			return strndup(at, (size_t)size);
		at += size;
	}
	return NULL;
}

static esk_status take_text(const struct ArrowSchema *schema, const char *key, char *buf, size_t buf_bytes,
	const char *column, esk_error *err)
{
	char *value = esk_map_metadata(schema, key);
	esk_status status = ESK_OK;
	if (value != NULL && strlen(value) >= buf_bytes)
		status = esk_fail(err, ESK_EINVAL, "column \"%s\": its %s has more than %zu bytes", column,
			key, buf_bytes - 1);
	else if (value != NULL)
		snprintf(buf, buf_bytes, "%s", value);
	free(value);
	return status;
}

static esk_status take_chunk_rows(const struct ArrowSchema *schema, esk_column *column, esk_error *err)
{
	char *value = esk_map_metadata(schema, "chunk_rows"), *end;
	esk_status status = ESK_OK;
	if (value == NULL)
		return ESK_OK;
	unsigned long long rows = strtoull(value, &end, 10);
	if (value[0] < '0' || value[0] > '9' || *end != '\0' || rows > UINT32_MAX)
		status = esk_fail(err, ESK_EINVAL,
			"column \"%s\": its chunk_rows is no number of rows: \"%.40s\"", column->name, value);
	else
		column->chunk_rows = rows;
	free(value);
	return status;
}

esk_status esk_map_describe(const struct ArrowSchema *schema, esk_column *column, esk_error *err)
{
	esk_status status =
		take_text(schema, "units", column->units, sizeof column->units, column->name, err);
	if (status == ESK_OK)
		status = take_text(
			schema, "long_name", column->long_name, sizeof column->long_name, column->name, err);
	if (status == ESK_OK)
		status = take_text(schema, "codec", column->codec, sizeof column->codec, column->name, err);
	return status == ESK_OK ? take_chunk_rows(schema, column, err) : status;
}

/* ---- tensors ---- */

bool esk_map_is_tensor(const struct ArrowSchema *schema)
{
	char *name = esk_map_metadata(schema, "ARROW:extension:name");
	bool tensor = name != NULL && strcmp(name, "arrow.fixed_shape_tensor") == 0;
	free(name);
	return tensor;
}

static bool is_permutation(const json_t *permutation, uint32_t rank)
{
	uint64_t seen = 0;
	if (!json_is_array(permutation) || json_array_size(permutation) != rank)
		return false;
	for (uint32_t i = 0; i < rank; i++) {
		const json_t *item = json_array_get(permutation, i);
		json_int_t at = json_is_integer(item) ? json_integer_value(item) : -1;
		if (at < 0 || at >= (json_int_t)rank || (seen >> at & 1) != 0)
			return false;
		seen |= 1ull << at;
	}
	return true;
}

static esk_status take_shape(const json_t *object, const char *path, uint64_t size, uint64_t *shape,
	uint32_t *ret_rank, esk_error *err)
{
	const json_t *items = json_object_get(object, "shape");
	const json_t *permutation = json_object_get(object, "permutation");
	size_t rank = json_array_size(items);
	uint64_t product = 1;
	if (!json_is_array(items) || rank == 0)
		return esk_fail(err, ESK_EINVAL, "column \"%s\": a tensor without a shape", path);
	if (rank > ESK_MAX_RANK)
		return esk_fail(err, ESK_EUNSUPPORTED,
			"column \"%s\": a tensor of rank %zu, at most %d are possible", path, rank,
			ESK_MAX_RANK);
	for (size_t i = 0; i < rank; i++) {
		const json_t *item = json_array_get(items, i);
		json_int_t side = json_is_integer(item) ? json_integer_value(item) : 0;
		if (side <= 0 || !esk_mul_u64(product, (uint64_t)side, &product))
			return esk_fail(err, ESK_EINVAL,
				"column \"%s\": dimension %zu of the tensor is no number above 0", path, i);
		shape[i] = (uint64_t)side;
	}
	if (product != size)
		return esk_fail(err, ESK_EINVAL,
			"column \"%s\": the tensor's shape has %llu items, its list %llu", path,
			(unsigned long long)product, (unsigned long long)size);
	if (permutation != NULL && !is_permutation(permutation, (uint32_t)rank))
		return esk_fail(err, ESK_EINVAL,
			"column \"%s\": the tensor's permutation does not name each of its %zu dimensions "
			"once",
			path, rank);
	*ret_rank = (uint32_t)rank;
	return ESK_OK;
}

esk_status esk_map_tensor_shape(const struct ArrowSchema *schema, const char *path, uint64_t size,
	uint64_t *ret_shape, uint32_t *ret_rank, esk_error *err)
{
	char *text = esk_map_metadata(schema, "ARROW:extension:metadata");
	json_error_t why;
	json_t *object = text != NULL ? json_loads(text, 0, &why) : NULL;
	esk_status status = object != NULL ? take_shape(object, path, size, ret_shape, ret_rank, err)
					   : esk_fail(err, ESK_EINVAL,
						     "column \"%s\": the tensor's metadata is no JSON", path);
	json_decref(object);
	free(text);
	return status;
}
