/* Dtypes as HDF5 types, the way h5py writes them, and back from what anyone wrote. */
#include "h5/h5_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- dtype -> type ---- */

static hid_t make_bool(void)
{
	static const struct {
		const char *name;
		int8_t value;
	} members[] = {{"FALSE", 0}, {"TRUE", 1}};
	hid_t type = H5Tenum_create(H5T_STD_I8LE);

	for (size_t i = 0; type >= 0 && i < sizeof members / sizeof *members; i++) {
		int8_t value = members[i].value;
		if (H5Tenum_insert(type, members[i].name, &value) < 0) {
			esk_h5_drop(type);
			return H5I_INVALID_HID;
		}
	}
	return type;
}

/* IEEE half: sign in bit 15, 5 bits of exponent from bit 10, 10 of mantissa. */
static hid_t make_half(hid_t of_same_order)
{
	hid_t type = H5Tcopy(of_same_order);
	if (type >= 0 && (H5Tset_fields(type, 15, 10, 5, 0, 10) < 0 || H5Tset_size(type, 2) < 0 ||
				 H5Tset_ebias(type, 15) < 0)) {
		esk_h5_drop(type);
		return H5I_INVALID_HID;
	}
	return type;
}

static hid_t make_complex(hid_t part)
{
	size_t size = H5Tget_size(part);
	hid_t type = H5Tcreate(H5T_COMPOUND, 2 * size);
	if (type >= 0 && (H5Tinsert(type, "r", 0, part) < 0 || H5Tinsert(type, "i", size, part) < 0)) {
		esk_h5_drop(type);
		return H5I_INVALID_HID;
	}
	return type;
}

static hid_t make_string(size_t size, H5T_cset_t cset)
{
	hid_t type = H5Tcopy(H5T_C_S1);
	if (type >= 0 && (H5Tset_size(type, size) < 0 || H5Tset_cset(type, cset) < 0 ||
				 (size != H5T_VARIABLE && H5Tset_strpad(type, H5T_STR_NULLPAD) < 0))) {
		esk_h5_drop(type);
		return H5I_INVALID_HID;
	}
	return type;
}

hid_t esk_h5_type_make(esk_dtype dtype)
{
	switch (dtype.kind) {
	case ESK_BOOL:
		return make_bool();
	case ESK_I8:
		return H5Tcopy(H5T_STD_I8LE);
	case ESK_I16:
		return H5Tcopy(H5T_STD_I16LE);
	case ESK_I32:
		return H5Tcopy(H5T_STD_I32LE);
	case ESK_I64:
		return H5Tcopy(H5T_STD_I64LE);
	case ESK_U8:
		return H5Tcopy(H5T_STD_U8LE);
	case ESK_U16:
		return H5Tcopy(H5T_STD_U16LE);
	case ESK_U32:
		return H5Tcopy(H5T_STD_U32LE);
	case ESK_U64:
		return H5Tcopy(H5T_STD_U64LE);
	case ESK_F16:
		return make_half(H5T_IEEE_F32LE);
	case ESK_F32:
		return H5Tcopy(H5T_IEEE_F32LE);
	case ESK_F64:
		return H5Tcopy(H5T_IEEE_F64LE);
	case ESK_C64:
		return make_complex(H5T_IEEE_F32LE);
	case ESK_C128:
		return make_complex(H5T_IEEE_F64LE);
	case ESK_STRING:
		return make_string(H5T_VARIABLE, H5T_CSET_UTF8);
	case ESK_STRING_N:
		return make_string(dtype.size_bytes, H5T_CSET_UTF8);
	}
	return H5I_INVALID_HID;
}

/* ---- type -> dtype ---- */

static const esk_kind signed_kinds[] = {ESK_I8, ESK_I16, ESK_I32, ESK_I64};
static const esk_kind unsigned_kinds[] = {ESK_U8, ESK_U16, ESK_U32, ESK_U64};

/* Index into the tables above of the smallest size that holds `size` bytes, or -1. */
static int size_index(size_t size)
{
	return size == 0 || size > 8 ? -1 : size == 1 ? 0 : size == 2 ? 1 : size <= 4 ? 2 : 3;
}

static bool integer_dtype(hid_t type, esk_dtype *ret_dtype)
{
	int i = size_index(H5Tget_size(type));
	if (i < 0)
		return false;
	ret_dtype->kind = H5Tget_sign(type) == H5T_SGN_NONE ? unsigned_kinds[i] : signed_kinds[i];
	ret_dtype->size_bytes = 1u << i;
	return true;
}

/* True if `type` (or its swapped twin) is the IEEE half. */
static bool is_half(hid_t type)
{
	hid_t half = H5Tget_size(type) == 2
			     ? make_half(H5Tget_order(type) == H5T_ORDER_BE ? H5T_IEEE_F32BE : H5T_IEEE_F32LE)
			     : H5I_INVALID_HID;
	bool same = half >= 0 && H5Tequal(type, half) > 0;
	esk_h5_drop(half);
	return same;
}

/* The smallest of our floats that holds every value of `type`. */
static bool float_dtype(hid_t type, esk_dtype *ret_dtype)
{
	size_t sign, exponent, exponent_bits, mantissa, mantissa_bits;

	if (is_half(type)) {
		*ret_dtype = (esk_dtype){ESK_F16, 2};
		return true;
	}
	if (H5Tget_fields(type, &sign, &exponent, &exponent_bits, &mantissa, &mantissa_bits) < 0)
		return false;
	if (exponent_bits <= 8 && mantissa_bits <= 23)
		*ret_dtype = (esk_dtype){ESK_F32, 4};
	else if (exponent_bits <= 11 && mantissa_bits <= 52)
		*ret_dtype = (esk_dtype){ESK_F64, 8};
	else
		return false;
	return true;
}

static bool enum_is_bool(hid_t type)
{
	bool named = H5Tget_size(type) == 1 && H5Tget_nmembers(type) == 2;
	for (unsigned i = 0; named && i < 2; i++) {
		char value = 2, *name = H5Tget_member_name(type, i);
		named = name && H5Tget_member_value(type, i, &value) >= 0 && (value == 0 || value == 1) &&
			strcmp(name, value == 0 ? "FALSE" : "TRUE") == 0;
		H5free_memory(name);
	}
	return named;
}

static bool enum_dtype(hid_t type, esk_dtype *ret_dtype)
{
	hid_t base;
	bool known;

	if (enum_is_bool(type)) {
		*ret_dtype = (esk_dtype){ESK_BOOL, 1};
		return true;
	}
	base = H5Tget_super(type);
	known = base >= 0 && integer_dtype(base, ret_dtype);
	esk_h5_drop(base);
	return known;
}

static bool compound_dtype(hid_t type, esk_dtype *ret_dtype)
{
	static const char *const names[] = {"r", "i"};
	uint32_t sizes[2] = {0, 0};

	if (H5Tget_nmembers(type) != 2)
		return false;
	for (unsigned i = 0; i < 2; i++) {
		char *name = H5Tget_member_name(type, i);
		hid_t part = H5Tget_member_type(type, i);
		esk_dtype dtype = {0};
		bool known = name && strcmp(name, names[i]) == 0 && part >= 0 &&
			     H5Tget_class(part) == H5T_FLOAT && float_dtype(part, &dtype);
		H5free_memory(name);
		esk_h5_drop(part);
		if (!known)
			return false;
		sizes[i] = esk_max_u64(dtype.size_bytes, 4);
	}
	*ret_dtype =
		esk_max_u64(sizes[0], sizes[1]) == 4 ? (esk_dtype){ESK_C64, 8} : (esk_dtype){ESK_C128, 16};
	return true;
}

static bool string_dtype(hid_t type, esk_dtype *ret_dtype)
{
	size_t size = H5Tget_size(type);

	if (H5Tis_variable_str(type) > 0) {
		*ret_dtype = (esk_dtype){ESK_STRING, sizeof(esk_string)};
		return true;
	}
	if (size == 0 || size > UINT32_MAX)
		return false;
	*ret_dtype = (esk_dtype){ESK_STRING_N, (uint32_t)size};
	return true;
}

/* A set of bits: HDF5 converts it to other sets of bits only. */
static hid_t bitfield_memory_type(hid_t type, esk_dtype *ret_dtype)
{
	const hid_t types[] = {H5T_NATIVE_B8, H5T_NATIVE_B16, H5T_NATIVE_B32, H5T_NATIVE_B64};
	int i = size_index(H5Tget_size(type));
	if (i < 0)
		return H5I_INVALID_HID;
	*ret_dtype = (esk_dtype){unsigned_kinds[i], 1u << i};
	return H5Tcopy(types[i]);
}

/* Fills ret_dtype and returns a new type of it in memory, or a negative id. */
static hid_t memory_type(hid_t type, esk_dtype *ret_dtype)
{
	bool known = false;

	switch (H5Tget_class(type)) {
	case H5T_INTEGER:
		known = integer_dtype(type, ret_dtype);
		break;
	case H5T_FLOAT:
		known = float_dtype(type, ret_dtype);
		break;
	case H5T_ENUM:
		known = enum_dtype(type, ret_dtype);
		if (known && ret_dtype->kind == ESK_BOOL)
			return H5Tcopy(type);
		break;
	case H5T_COMPOUND:
		known = compound_dtype(type, ret_dtype);
		break;
	case H5T_STRING: /* HDF5 does not convert between character sets: memory has the file's */
		known = string_dtype(type, ret_dtype);
		if (known)
			return make_string(
				ret_dtype->kind == ESK_STRING ? H5T_VARIABLE : ret_dtype->size_bytes,
				H5Tget_cset(type));
		break;
	case H5T_BITFIELD:
		return bitfield_memory_type(type, ret_dtype);
	default:
		break;
	}
	return known ? esk_h5_type_make(*ret_dtype) : H5I_INVALID_HID;
}

/* True if the bytes of `type` in the file are those of `memory`. */
static bool same_bytes(hid_t type, hid_t memory)
{
	bool same;
	hid_t base;

	if (H5Tequal(type, memory) > 0)
		return true;
	if (H5Tget_class(type) != H5T_ENUM)
		return false;
	base = H5Tget_super(type);
	same = base >= 0 && H5Tequal(base, memory) > 0;
	esk_h5_drop(base);
	return same;
}

bool esk_h5_type_read(hid_t type, esk_dtype *ret_dtype, hid_t *ret_memory_type, bool *ret_same)
{
	esk_dtype dtype = {0};
	hid_t memory = memory_type(type, &dtype);

	if (memory < 0)
		return false;
	*ret_same = dtype.kind != ESK_STRING && same_bytes(type, memory);
	*ret_dtype = dtype;
	*ret_memory_type = memory;
	return true;
}
