/* Columns: checking, matching, and the text form "frames:u8[210,160,3]?@gzip:1". */
#include "model/model.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CELL_BYTES (1ull << 40)

uint64_t esk_column_cell_bytes(const esk_column *column)
{
	uint64_t bytes = column->dtype.size_bytes;
	for (uint32_t i = 0; i < column->rank; i++)
		bytes *= column->shape[i];
	return bytes;
}

/* A name, or names with '/' between them. */
static esk_status check_path(const char *name, const char *what, esk_error *err)
{
	char part[ESK_COLUMN_NAME_BYTES + 1];
	if (strnlen(name, sizeof part) == sizeof part)
		return esk_fail(err, ESK_EINVAL, "the name of a %s is longer than %d bytes: \"%.40s...\"",
			what, ESK_COLUMN_NAME_BYTES, name);
	for (const char *at = name;; at++) {
		const char *end = strchrnul(at, '/');
		snprintf(part, sizeof part, "%.*s", (int)(end - at), at);
		esk_status status = esk_name_check(part, what, err);
		if (status != ESK_OK)
			return strchr(name, '/') != NULL ? esk_fail_in(err, status, "%s \"%s\"", what, name)
							 : status;
		if (*end == '\0')
			return ESK_OK;
		at = end;
	}
}

esk_status esk_column_name_check(const char *name, esk_error *err)
{
	return check_path(name, "column", err);
}

esk_status esk_group_name_check(const char *name, const char *what, esk_error *err)
{
	if (name == NULL)
		return esk_fail(err, ESK_EINVAL, "the name of a %s is NULL", what);
	return strcmp(name, "/") == 0 ? ESK_OK : check_path(name, what, err);
}

bool esk_path_at_or_below(const char *path, const char *top)
{
	size_t size = strlen(top);
	return strncmp(path, top, size) == 0 && (path[size] == '\0' || path[size] == '/');
}

esk_status esk_column_check(const esk_column *column, esk_error *err)
{
	if (memchr(column->name, '\0', sizeof column->name) == NULL)
		return esk_fail(err, ESK_EINVAL, "a column's name is not terminated");
	esk_status status = esk_column_name_check(column->name, err);
	if (status != ESK_OK)
		return status;
	if (!esk_dtype_valid(column->dtype))
		return esk_fail(err, ESK_EINVAL, "column \"%s\": kind %d with %u bytes is no dtype",
			column->name, (int)column->dtype.kind, column->dtype.size_bytes);
	if (column->rank > ESK_MAX_RANK)
		return esk_fail(err, ESK_EINVAL, "column \"%s\": a cell of rank %u, at most %d are possible",
			column->name, column->rank, ESK_MAX_RANK);
	uint64_t bytes = column->dtype.size_bytes;
	for (uint32_t i = 0; i < column->rank; i++) {
		if (column->shape[i] == 0)
			return esk_fail(err, ESK_EINVAL, "column \"%s\": dimension %u of the cell is 0",
				column->name, i);
		if (!esk_mul_u64(bytes, column->shape[i], &bytes) || bytes > MAX_CELL_BYTES)
			return esk_fail(err, ESK_ERANGE, "column \"%s\": one cell is larger than %llu bytes",
				column->name, (unsigned long long)MAX_CELL_BYTES);
	}
	if (memchr(column->codec, '\0', sizeof column->codec) == NULL ||
		memchr(column->units, '\0', sizeof column->units) == NULL ||
		memchr(column->long_name, '\0', sizeof column->long_name) == NULL)
		return esk_fail(err, ESK_EINVAL, "column \"%s\": codec, units or long_name is not terminated",
			column->name);
	return ESK_OK;
}

uint64_t esk_column_chunk_rows(const esk_column *column)
{
	if (column->chunk_rows != 0)
		return column->chunk_rows;
	uint64_t cell_bytes = esk_column_cell_bytes(column);
	return esk_max_u64(1, ESK_CHUNK_TARGET_BYTES / esk_max_u64(1, cell_bytes));
}

static void format_shape(const esk_column *column, char *buf, size_t buf_bytes)
{
	size_t at = 0;
	buf[0] = '\0';
	for (uint32_t i = 0; i < column->rank && at < buf_bytes; i++)
		at += (size_t)snprintf(buf + at, buf_bytes - at, "%s%llu", i == 0 ? "[" : ",",
			(unsigned long long)column->shape[i]);
	if (column->rank > 0 && at < buf_bytes)
		snprintf(buf + at, buf_bytes - at, "]");
}

static bool same_shape(const esk_column *a, const esk_column *b)
{
	return a->rank == b->rank && memcmp(a->shape, b->shape, a->rank * sizeof *a->shape) == 0;
}

esk_status esk_column_match(const esk_column *expected, const esk_column *found, esk_error *err)
{
	char want[512], have[512];
	if (strcmp(expected->name, found->name) != 0)
		return esk_fail(
			err, ESK_EINVAL, "expected column \"%s\", found \"%s\"", expected->name, found->name);
	if (expected->dtype.kind != found->dtype.kind ||
		expected->dtype.size_bytes != found->dtype.size_bytes) {
		esk_dtype_format(expected->dtype, want, sizeof want);
		esk_dtype_format(found->dtype, have, sizeof have);
		return esk_fail(err, ESK_ETYPE, "column \"%s\": expected dtype %s, found %s", expected->name,
			want, have);
	}
	if (!same_shape(expected, found)) {
		format_shape(expected, want, sizeof want);
		format_shape(found, have, sizeof have);
		return esk_fail(err, ESK_ESHAPE, "column \"%s\": expected cell shape %s, found %s",
			expected->name, want[0] ? want : "[]", have[0] ? have : "[]");
	}
	if (expected->nullable != found->nullable)
		return esk_fail(err, ESK_ETYPE, "column \"%s\": expected %s, found %s", expected->name,
			expected->nullable ? "nullable" : "not nullable",
			found->nullable ? "nullable" : "not nullable");
	return ESK_OK;
}

size_t esk_column_format(const esk_column *column, char *buf, size_t buf_bytes)
{
	char dtype[32], shape[512];
	esk_dtype_format(column->dtype, dtype, sizeof dtype);
	format_shape(column, shape, sizeof shape);
	return (size_t)snprintf(buf, buf_bytes, "%s:%s%s%s%s%s", column->name, dtype, shape,
		column->nullable ? "?" : "", column->codec[0] ? "@" : "", column->codec);
}

/* ---- parsing ---- */

typedef struct parser {
	const char *text;
	const char *at;
	esk_error *err;
} parser;

static esk_status expected(const parser *p, const char *what)
{
	if (*p->at == '\0')
		return esk_fail(p->err, ESK_EINVAL, "column spec ends where %s was expected: \"%.200s\"",
			what, p->text);
	return esk_fail(p->err, ESK_EINVAL, "column spec, byte %zu: expected %s, found \"%.20s\"",
		(size_t)(p->at - p->text), what, p->at);
}

static bool is_separator(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ',' || c == ';';
}

/* Copies the characters up to one in `stops`, a separator or the end; false if none or too many. */
static bool take_word(parser *p, const char *stops, char *buf, size_t buf_bytes)
{
	size_t size = 0;
	while (p->at[size] != '\0' && strchr(stops, p->at[size]) == NULL && !is_separator(p->at[size]))
		size++;
	if (size == 0 || size >= buf_bytes)
		return false;
	memcpy(buf, p->at, size);
	buf[size] = '\0';
	p->at += size;
	return true;
}

static esk_status parse_shape(parser *p, esk_column *column)
{
	do {
		p->at++; /* '[' or ',' */
		while (*p->at == ' ')
			p->at++;
		if (!isdigit((unsigned char)*p->at))
			return expected(p, "a dimension");
		if (column->rank == ESK_MAX_RANK)
			return esk_fail(p->err, ESK_EINVAL, "column \"%s\": more than %d dimensions",
				column->name, ESK_MAX_RANK);
		uint64_t size = 0;
		for (; isdigit((unsigned char)*p->at); p->at++)
			if (!esk_mul_u64(size, 10, &size) ||
				!esk_add_u64(size, (uint64_t)(*p->at - '0'), &size))
				return esk_fail(p->err, ESK_ERANGE,
					"column \"%s\": a dimension does not fit 64 bits", column->name);
		column->shape[column->rank++] = size;
		while (*p->at == ' ')
			p->at++;
	} while (*p->at == ',');
	if (*p->at != ']')
		return expected(p, "',' or ']'");
	p->at++;
	return ESK_OK;
}

static esk_status parse_column(parser *p, esk_column *column)
{
	char dtype[32];
	*column = (esk_column){0};
	if (!take_word(p, ":[]?@", column->name, sizeof column->name))
		return expected(p, "a column's name");
	if (*p->at != ':')
		return expected(p, "':' and a dtype");
	p->at++;
	if (!take_word(p, ":[]?@", dtype, sizeof dtype))
		return expected(p, "a dtype");
	esk_status status = esk_dtype_parse(dtype, &column->dtype, p->err);
	if (status != ESK_OK)
		return esk_fail_in(p->err, status, "column \"%s\"", column->name);
	if (*p->at == '[') {
		status = parse_shape(p, column);
		if (status != ESK_OK)
			return status;
	}
	if (*p->at == '?') {
		column->nullable = true;
		p->at++;
	}
	if (*p->at == '@') {
		p->at++;
		if (!take_word(p, "@?[]", column->codec, sizeof column->codec))
			return expected(p, "a codec");
	}
	if (*p->at != '\0' && !is_separator(*p->at))
		return expected(p, "'[', '?', '@' or the next column");
	return esk_column_check(column, p->err);
}

static bool name_taken(const esk_column *columns, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(columns[i].name, name) == 0)
			return true;
	return false;
}

esk_status esk_columns_parse(const char *text, esk_column **ret_columns, size_t *ret_count, esk_error *err)
{
	if (text == NULL)
		return esk_fail(err, ESK_EINVAL, "column spec is NULL");
	parser p = {text, text, err};
	esk_column *columns = NULL;
	size_t count = 0, capacity = 0;
	esk_status status = ESK_OK;
	for (;;) {
		while (is_separator(*p.at))
			p.at++;
		if (*p.at == '\0')
			break;
		if (count == capacity) {
			capacity = capacity == 0 ? 8 : capacity * 2;
			esk_column *grown =
				count < ESK_MAX_COLUMNS ? realloc(columns, capacity * sizeof *columns) : NULL;
			if (grown == NULL) {
				status = count < ESK_MAX_COLUMNS
						 ? esk_fail_memory(err, capacity * sizeof *columns, "columns")
						 : esk_fail(err, ESK_ERANGE, "more than %d columns",
							   ESK_MAX_COLUMNS);
				goto columns;
			}
			columns = grown;
		}
		status = parse_column(&p, &columns[count]);
		if (status != ESK_OK)
			goto columns;
		if (name_taken(columns, count, columns[count].name)) {
			status = esk_fail(
				err, ESK_EINVAL, "column \"%s\" is given twice", columns[count].name);
			goto columns;
		}
		count++;
	}
	if (count == 0) {
		status = esk_fail(err, ESK_EINVAL,
			"column spec is empty: expected for example \"frames:u8[210,160,3] action:i32\"");
		goto columns;
	}
	*ret_columns = columns;
	*ret_count = count;
	return ESK_OK;

columns:
	free(columns);
	return status;
}

void esk_columns_free(esk_column *columns)
{
	free(columns);
}
