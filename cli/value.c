/* Elements, cells and rows: see value.h. */
#include "value.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static float half_to_float(uint16_t half)
{
	int exponent = half >> 10 & 31;
	int fraction = half & 1023;
	float value;
	if (exponent == 31)
		value = fraction == 0 ? INFINITY : NAN;
	else if (exponent == 0)
		value = ldexpf((float)fraction, -24);
	else
		value = ldexpf((float)(1024 + fraction), exponent - 25);
	return half >> 15 ? -value : value;
}

#define LOAD(type, at)                                \
	({                                            \
		type loaded;                          \
		memcpy(&loaded, (at), sizeof loaded); \
		loaded;                               \
	})

double cli_real(esk_dtype dtype, const void *element)
{
	switch (dtype.kind) {
	case ESK_BOOL:
	case ESK_U8:
		return LOAD(uint8_t, element);
	case ESK_I8:
		return LOAD(int8_t, element);
	case ESK_I16:
		return LOAD(int16_t, element);
	case ESK_I32:
		return LOAD(int32_t, element);
	case ESK_I64:
		return (double)LOAD(int64_t, element);
	case ESK_U16:
		return LOAD(uint16_t, element);
	case ESK_U32:
		return LOAD(uint32_t, element);
	case ESK_U64:
		return (double)LOAD(uint64_t, element);
	case ESK_F16:
		return (double)half_to_float(LOAD(uint16_t, element));
	case ESK_F32:
	case ESK_C64:
		return (double)LOAD(float, element);
	case ESK_F64:
	case ESK_C128:
		return LOAD(double, element);
	case ESK_STRING:
	case ESK_STRING_N:
		return 0;
	}
	return 0;
}

bool cli_is_number(esk_dtype dtype)
{
	return dtype.kind >= ESK_BOOL && dtype.kind <= ESK_F64;
}

static int64_t signed_integer(esk_dtype dtype, const void *element)
{
	switch (dtype.size_bytes) {
	case 1:
		return LOAD(int8_t, element);
	case 2:
		return LOAD(int16_t, element);
	case 4:
		return LOAD(int32_t, element);
	default:
		return LOAD(int64_t, element);
	}
}

static uint64_t unsigned_integer(esk_dtype dtype, const void *element)
{
	switch (dtype.size_bytes) {
	case 1:
		return LOAD(uint8_t, element);
	case 2:
		return LOAD(uint16_t, element);
	case 4:
		return LOAD(uint32_t, element);
	default:
		return LOAD(uint64_t, element);
	}
}

/* The shortest digits that give the same float or double again. */
static void put_float(FILE *out, double value, int bytes, bool quote)
{
	if (!isfinite(value)) {
		const char *name = isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
		fprintf(out, quote ? "\"%s\"" : "%s", name);
		return;
	}
	int least = bytes == 8 ? 15 : bytes == 4 ? 6 : 5;
	int most = bytes == 8 ? 17 : bytes == 4 ? 9 : 5;
	char text[40];
	for (int digits = least; digits <= most; digits++) {
		snprintf(text, sizeof text, "%.*g", digits, value);
		double again = strtod(text, NULL);
		if (bytes == 8 ? again == value : (float)again == (float)value)
			break;
	}
	fputs(text, out);
	if (strpbrk(text, ".e") == NULL)
		fputs(".0", out);
}

static void put_number(FILE *out, esk_dtype dtype, const void *element, bool json)
{
	switch (dtype.kind) {
	case ESK_BOOL:
		fputs(LOAD(uint8_t, element) != 0 ? "true" : "false", out);
		return;
	case ESK_I8:
	case ESK_I16:
	case ESK_I32:
	case ESK_I64:
		fprintf(out, "%" PRId64, signed_integer(dtype, element));
		return;
	case ESK_U8:
	case ESK_U16:
	case ESK_U32:
	case ESK_U64:
		fprintf(out, "%" PRIu64, unsigned_integer(dtype, element));
		return;
	default:
		put_float(out, cli_real(dtype, element), (int)dtype.size_bytes, json);
		return;
	}
}

static void put_complex(FILE *out, esk_dtype dtype, const void *element, bool json)
{
	esk_dtype part = {
		.kind = dtype.kind == ESK_C64 ? ESK_F32 : ESK_F64, .size_bytes = dtype.size_bytes / 2};
	const unsigned char *imaginary = (const unsigned char *)element + part.size_bytes;
	if (json)
		fputc('[', out);
	put_number(out, part, element, json);
	if (json)
		fputs(", ", out);
	else if (!signbit(cli_real(part, imaginary)))
		fputc('+', out);
	put_number(out, part, imaginary, json);
	fputc(json ? ']' : 'j', out);
}

void cli_put_json(FILE *out, esk_dtype dtype, const void *element)
{
	if (dtype.kind == ESK_STRING) {
		esk_string string = LOAD(esk_string, element);
		cli_put_json_string(out, string.data, string.size);
	} else if (dtype.kind == ESK_STRING_N) {
		cli_put_json_string(out, element, strnlen(element, dtype.size_bytes));
	} else if (dtype.kind == ESK_C64 || dtype.kind == ESK_C128) {
		put_complex(out, dtype, element, true);
	} else {
		put_number(out, dtype, element, true);
	}
}

void cli_put_text(FILE *out, esk_dtype dtype, const void *element)
{
	if (dtype.kind == ESK_STRING) {
		esk_string string = LOAD(esk_string, element);
		cli_put_escaped(out, string.data, string.size);
	} else if (dtype.kind == ESK_STRING_N) {
		cli_put_escaped(out, element, strnlen(element, dtype.size_bytes));
	} else if (dtype.kind == ESK_C64 || dtype.kind == ESK_C128) {
		put_complex(out, dtype, element, false);
	} else {
		put_number(out, dtype, element, false);
	}
}

uint64_t cli_elements(const uint64_t *shape, uint32_t rank)
{
	uint64_t elements = 1;
	for (uint32_t i = 0; i < rank; i++)
		elements *= shape[i];
	return elements;
}

void cli_put_json_array(FILE *out, esk_dtype dtype, const uint64_t *shape, uint32_t rank, const void *data)
{
	if (rank == 0) {
		cli_put_json(out, dtype, data);
		return;
	}
	uint64_t stride = cli_elements(shape + 1, rank - 1) * dtype.size_bytes;
	fputc('[', out);
	for (uint64_t i = 0; i < shape[0]; i++) {
		if (i > 0)
			fputs(", ", out);
		cli_put_json_array(out, dtype, shape + 1, rank - 1, (const unsigned char *)data + i * stride);
	}
	fputc(']', out);
}

void cli_format_type(const esk_column *column, char *buf, size_t size)
{
	size_t at = esk_dtype_format(column->dtype, buf, size);
	for (uint32_t i = 0; i < column->rank && at < size; i++)
		at += (size_t)snprintf(
			buf + at, size - at, "%c%" PRIu64, i == 0 ? '[' : ',', column->shape[i]);
	if (at < size)
		snprintf(buf + at, size - at, "%s%s", column->rank > 0 ? "]" : "",
			column->nullable ? "?" : "");
}

/* ---- rows ---- */

void cli_stream_of(const esk_dataset_info *info, char *buf, size_t size)
{
	size_t path = strlen(info->path), name = strlen(info->column.name);
	if (path <= name)
		snprintf(buf, size, "/");
	else
		snprintf(buf, size, "%.*s", (int)(path - name - 1), info->path);
}

int cli_rows_open(esk_dataset *dataset, cli_rows *ret_rows)
{
	*ret_rows = (cli_rows){.dataset = dataset, .info = {.struct_size = sizeof(esk_dataset_info)}};
	esk_error err = {0};
	if (esk_dataset_get_info(dataset, &ret_rows->info, &err) != ESK_OK)
		return cli_fail_with(&err);
	ret_rows->cell_bytes = esk_column_cell_bytes(&ret_rows->info.column);
	ret_rows->elements = cli_elements(ret_rows->info.column.shape, ret_rows->info.column.rank);
	return CLI_OK;
}

static void free_buffers(cli_rows *rows)
{
	free(rows->data);
	free(rows->valid);
	free(rows->numbers);
	rows->data = NULL;
	rows->valid = NULL;
	rows->numbers = NULL;
	rows->room = 0;
}

void cli_rows_close(cli_rows *rows)
{
	esk_strings_free(rows->strings);
	rows->strings = NULL;
	free_buffers(rows);
}

uint64_t cli_rows_piece(const cli_rows *rows, uint64_t bytes)
{
	uint64_t piece = bytes / (rows->cell_bytes + 16);
	return piece == 0 ? 1 : piece;
}

static int make_room(cli_rows *rows, uint64_t count, bool data)
{
	if (count <= rows->room)
		return CLI_OK;
	free_buffers(rows);
	size_t bytes;
	if (__builtin_mul_overflow(count, rows->cell_bytes, &bytes) || bytes > SIZE_MAX / 2)
		return cli_fail("%s: %" PRIu64 " rows of %" PRIu64 " bytes do not fit into memory",
			rows->info.path, count, rows->cell_bytes);
	if (data && rows->info.column.dtype.kind != ESK_STRING)
		rows->data = cli_alloc(bytes);
	rows->valid = cli_alloc(count);
	rows->numbers = cli_alloc(count * sizeof *rows->numbers);
	rows->room = count;
	return CLI_OK;
}

static void number_rows(cli_rows *rows, uint64_t first, uint64_t step, uint64_t count)
{
	rows->first = first;
	rows->step = step;
	rows->count = count;
	for (uint64_t i = 0; i < count; i++)
		rows->numbers[i] = first + i * step;
}

static esk_status load_valid(cli_rows *rows, esk_error *err)
{
	memset(rows->valid, 1, rows->count);
	if (!rows->info.column.nullable)
		return ESK_OK;
	return esk_dataset_read_valid(rows->dataset, rows->numbers, rows->count, rows->valid, err);
}

static esk_status load_cells(cli_rows *rows, esk_error *err)
{
	if (rows->info.column.dtype.kind == ESK_STRING) {
		esk_strings_free(rows->strings);
		rows->strings = NULL;
		return esk_dataset_read_strings(
			rows->dataset, rows->numbers, rows->count, &rows->strings, err);
	}
	if (rows->scattered)
		return esk_dataset_read_rows(rows->dataset, rows->numbers, rows->count, rows->data,
			rows->count * rows->cell_bytes, err);
	return esk_dataset_read(rows->dataset, (int64_t)rows->first,
		(int64_t)(rows->numbers[rows->count - 1] + 1), (int64_t)rows->step, rows->data,
		rows->count * rows->cell_bytes, err);
}

/* Loads the rows that are numbered. */
static int load_numbered(cli_rows *rows)
{
	if (rows->count == 0)
		return CLI_OK;
	esk_error err = {0};
	esk_status status = load_cells(rows, &err);
	if (status == ESK_OK)
		status = load_valid(rows, &err);
	return status == ESK_OK ? CLI_OK : cli_fail_with(&err);
}

int cli_rows_load(cli_rows *rows, uint64_t first, uint64_t step, uint64_t count)
{
	int code = make_room(rows, count, true);
	if (code != CLI_OK)
		return code;
	rows->scattered = false;
	number_rows(rows, first, step, count);
	return load_numbered(rows);
}

int cli_rows_load_these(cli_rows *rows, const uint64_t *numbers, uint64_t count)
{
	int code = make_room(rows, count, true);
	if (code != CLI_OK)
		return code;
	rows->scattered = true;
	rows->count = count;
	if (count > 0)
		memcpy(rows->numbers, numbers, count * sizeof *numbers);
	return load_numbered(rows);
}

int cli_rows_load_valid(cli_rows *rows, uint64_t first, uint64_t count)
{
	int code = make_room(rows, count, false);
	if (code != CLI_OK)
		return code;
	number_rows(rows, first, 1, count);
	esk_error err = {0};
	return load_valid(rows, &err) == ESK_OK ? CLI_OK : cli_fail_with(&err);
}

const void *cli_rows_cell(const cli_rows *rows, uint64_t i)
{
	if (rows->valid[i] == 0)
		return NULL;
	if (rows->strings != NULL)
		return rows->strings + i * rows->elements;
	return rows->data != NULL ? rows->data + i * rows->cell_bytes : rows->valid + i;
}
