/* Dtypes by name. */
#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	const char *numpy;
	esk_kind kind;
	uint32_t size_bytes;
} dtypes[] = {
	{"bool", "bool", ESK_BOOL, 1},
	{"i8", "int8", ESK_I8, 1},
	{"i16", "int16", ESK_I16, 2},
	{"i32", "int32", ESK_I32, 4},
	{"i64", "int64", ESK_I64, 8},
	{"u8", "uint8", ESK_U8, 1},
	{"u16", "uint16", ESK_U16, 2},
	{"u32", "uint32", ESK_U32, 4},
	{"u64", "uint64", ESK_U64, 8},
	{"f16", "float16", ESK_F16, 2},
	{"f32", "float32", ESK_F32, 4},
	{"f64", "float64", ESK_F64, 8},
	{"c64", "complex64", ESK_C64, 8},
	{"c128", "complex128", ESK_C128, 16},
	{"str", "string", ESK_STRING, sizeof(esk_string)},
};
#define DTYPE_COUNT (sizeof dtypes / sizeof *dtypes)
#define MAX_FIXED_STRING_BYTES (1u << 20)

esk_status esk_dtype_parse(const char *text, esk_dtype *ret_dtype, esk_error *err)
{
	if (text == NULL)
		return esk_fail(err, ESK_EINVAL, "dtype is NULL");
	for (size_t i = 0; i < DTYPE_COUNT; i++) {
		if (strcmp(text, dtypes[i].name) == 0 || strcmp(text, dtypes[i].numpy) == 0) {
			*ret_dtype = (esk_dtype){dtypes[i].kind, dtypes[i].size_bytes};
			return ESK_OK;
		}
	}
	if (strncmp(text, "str", 3) == 0 && text[3] >= '1' && text[3] <= '9') {
		char *end;
		unsigned long size = strtoul(text + 3, &end, 10);
		if (*end == '\0' && size <= MAX_FIXED_STRING_BYTES) {
			*ret_dtype = (esk_dtype){ESK_STRING_N, (uint32_t)size};
			return ESK_OK;
		}
	}
	return esk_fail(err, ESK_EINVAL,
		"unknown dtype \"%.40s\": expected bool, i8..i64, u8..u64, f16, f32, f64, c64, c128, str or "
		"str<N> (N up to %u)",
		text, MAX_FIXED_STRING_BYTES);
}

size_t esk_dtype_format(esk_dtype dtype, char *buf, size_t buf_bytes)
{
	if (dtype.kind == ESK_STRING_N)
		return (size_t)snprintf(buf, buf_bytes, "str%u", dtype.size_bytes);
	for (size_t i = 0; i < DTYPE_COUNT; i++)
		if (dtypes[i].kind == dtype.kind)
			return (size_t)snprintf(buf, buf_bytes, "%s", dtypes[i].name);
	return (size_t)snprintf(buf, buf_bytes, "dtype%d", (int)dtype.kind);
}

/* True if kind and size belong together. */
bool esk_dtype_valid(esk_dtype dtype)
{
	if (dtype.kind == ESK_STRING_N)
		return dtype.size_bytes >= 1 && dtype.size_bytes <= MAX_FIXED_STRING_BYTES;
	for (size_t i = 0; i < DTYPE_COUNT; i++)
		if (dtypes[i].kind == dtype.kind)
			return dtypes[i].size_bytes == dtype.size_bytes;
	return false;
}
