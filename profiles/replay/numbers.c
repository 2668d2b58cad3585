/* Numbers of any dtype: foreign files keep rewards as f64 or
 * i32, flags as u8, and so on. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_ROWS 8192

bool esk_replay_is_number(const esk_column *column)
{
	return column->rank == 0 && column->dtype.kind >= ESK_BOOL && column->dtype.kind <= ESK_F64 &&
	       column->dtype.kind != ESK_F16;
}

static esk_status check_number(esk_dataset *dataset, esk_column *ret_column, esk_error *err)
{
	esk_dataset_info info = {.struct_size = sizeof info};
	char dtype[32];
	esk_status status = esk_dataset_get_info(dataset, &info, err);
	if (status != ESK_OK)
		return status;
	if (!esk_replay_is_number(&info.column)) {
		esk_dtype_format(info.column.dtype, dtype, sizeof dtype);
		return esk_fail(err, ESK_ETYPE,
			"\"%s\" of a replay must hold one number a row, found cells of rank %u, dtype %s",
			info.path, info.column.rank, dtype);
	}
	*ret_column = info.column;
	return ESK_OK;
}

/* ---- one value, of any of the dtypes that esk_replay_is_number allows ---- */

#define VALUE(name, type)                              \
	static inline type name##_at(const void *cell) \
	{                                              \
		type value;                            \
		memcpy(&value, cell, sizeof value);    \
		return value;                          \
	}
VALUE(i8, int8_t)
VALUE(i16, int16_t)
VALUE(i32, int32_t)
VALUE(i64, int64_t)
VALUE(u8, uint8_t)
VALUE(u16, uint16_t)
VALUE(u32, uint32_t)
VALUE(u64, uint64_t)
VALUE(f32, float)
VALUE(f64, double)

static double real_at(esk_kind kind, const void *cell)
{
	switch (kind) {
	case ESK_I8:
		return i8_at(cell);
	case ESK_I16:
		return i16_at(cell);
	case ESK_I32:
		return i32_at(cell);
	case ESK_I64:
		return (double)i64_at(cell);
	case ESK_U16:
		return u16_at(cell);
	case ESK_U32:
		return u32_at(cell);
	case ESK_U64:
		return (double)u64_at(cell);
	case ESK_F32:
		return f32_at(cell);
	case ESK_F64:
		return f64_at(cell);
	default: /* bool, u8 */
		return u8_at(cell);
	}
}

/* false where it is no 64-bit integer. */
static bool integer_at(esk_kind kind, const void *cell, int64_t *ret_value)
{
	double real;
	switch (kind) {
	case ESK_I64:
		*ret_value = i64_at(cell);
		return true;
	case ESK_U64:
		*ret_value = (int64_t)u64_at(cell);
		return *ret_value >= 0;
	default:
		real = real_at(kind, cell);
		if (!(real > -0x1p63 && real < 0x1p63))
			return false;
		*ret_value = (int64_t)real;
		return true;
	}
}

/* ---- ranges ---- */

typedef esk_status (*take_fn)(void *arg, const esk_column *column, uint64_t first, uint64_t count,
	const uint8_t *cells, esk_error *err);

/* Cells of the dtype `kind` go to `to` as they are; others by way of `take`, block by block. */
static esk_status read_blocks(esk_dataset *dataset, uint64_t start, uint64_t count, esk_kind kind,
	take_fn take, void *to, esk_error *err)
{
	esk_column column;
	esk_status status = check_number(dataset, &column, err);
	if (status != ESK_OK)
		return status;
	size_t cell_bytes = column.dtype.size_bytes;
	if (column.dtype.kind == kind)
		return esk_dataset_read(
			dataset, (int64_t)start, (int64_t)(start + count), 1, to, count * cell_bytes, err);
	uint8_t *cells = malloc(BLOCK_ROWS * cell_bytes);
	if (cells == NULL)
		return esk_fail_memory(err, BLOCK_ROWS * cell_bytes, "a block of numbers");
	for (uint64_t at = 0; at < count && status == ESK_OK; at += BLOCK_ROWS) {
		uint64_t rows = count - at < BLOCK_ROWS ? count - at : BLOCK_ROWS;
		status = esk_dataset_read(dataset, (int64_t)(start + at), (int64_t)(start + at + rows), 1,
			cells, rows * cell_bytes, err);
		if (status == ESK_OK)
			status = take(to, &column, at, rows, cells, err);
	}
	free(cells);
	return status;
}

static esk_status take_integers(void *arg, const esk_column *column, uint64_t first, uint64_t count,
	const uint8_t *cells, esk_error *err)
{
	int64_t *to = (int64_t *)arg + first;
	for (uint64_t i = 0; i < count; i++)
		if (!integer_at(column->dtype.kind, cells + i * column->dtype.size_bytes, &to[i]))
			return esk_fail(err, ESK_ERANGE,
				"\"%s\" of a replay holds a value that is no 64-bit integer", column->name);
	return ESK_OK;
}

static esk_status take_reals(void *arg, const esk_column *column, uint64_t first, uint64_t count,
	const uint8_t *cells, esk_error *err)
{
	double *to = (double *)arg + first;
	for (uint64_t i = 0; i < count; i++)
		to[i] = real_at(column->dtype.kind, cells + i * column->dtype.size_bytes);
	return ESK_OK;
}

esk_status esk_replay_read_integers(
	esk_dataset *dataset, uint64_t start, uint64_t count, int64_t *ret_values, esk_error *err)
{
	return read_blocks(dataset, start, count, ESK_I64, take_integers, ret_values, err);
}

esk_status esk_replay_read_reals(
	esk_dataset *dataset, uint64_t start, uint64_t count, double *ret_values, esk_error *err)
{
	return read_blocks(dataset, start, count, ESK_F64, take_reals, ret_values, err);
}

/* ---- lists of rows ---- */

typedef void (*put_fn)(void *to, size_t i, double value);

static void put_real(void *to, size_t i, double value)
{
	((double *)to)[i] = value;
}

static void put_flag(void *to, size_t i, double value)
{
	((uint8_t *)to)[i] = value != 0;
}

/* Gives `put` the number at each of `rows`. */
static esk_status read_at(
	esk_dataset *dataset, const uint64_t *rows, size_t count, put_fn put, void *to, esk_error *err)
{
	esk_column column;
	esk_status status = check_number(dataset, &column, err);
	if (status != ESK_OK)
		return status;
	size_t size = column.dtype.size_bytes, bytes = count * size;
	uint8_t *cells = malloc(bytes + 1);
	if (cells == NULL)
		return esk_fail_memory(err, bytes, "numbers");
	status = esk_dataset_read_rows(dataset, rows, count, cells, bytes, err);
	for (size_t i = 0; i < count && status == ESK_OK; i++)
		put(to, i, real_at(column.dtype.kind, cells + i * size));
	free(cells);
	return status;
}

esk_status esk_replay_read_reals_at(
	esk_dataset *dataset, const uint64_t *rows, size_t count, double *ret_values, esk_error *err)
{
	return read_at(dataset, rows, count, put_real, ret_values, err);
}

esk_status esk_replay_read_flags_at(
	esk_dataset *dataset, const uint64_t *rows, size_t count, uint8_t *ret_flags, esk_error *err)
{
	return read_at(dataset, rows, count, put_flag, ret_flags, err);
}
