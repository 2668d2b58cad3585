/* Indexed streams: which columns go into which fields of a table, and rows packed on their way there. */
#include "model/model.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the spec ---- */

typedef struct parser {
	const char *text;
	const char *at;
	esk_error *err;
} parser;

static esk_status expected(const parser *p, const char *what)
{
	if (*p->at == '\0')
		return esk_fail(
			p->err, ESK_EINVAL, "index ends where %s was expected: \"%.200s\"", what, p->text);
	return esk_fail(p->err, ESK_EINVAL, "index, byte %zu: expected %s, found \"%.20s\"",
		(size_t)(p->at - p->text), what, p->at);
}

static void skip_blanks(parser *p)
{
	while (isspace((unsigned char)*p->at))
		p->at++;
}

static bool take_char(parser *p, char c)
{
	skip_blanks(p);
	if (*p->at != c)
		return false;
	p->at++;
	return true;
}

/* Letters, digits and '_', as SQL takes them without quotes. */
static bool take_identifier(parser *p, char *buf, size_t buf_bytes)
{
	size_t size = 0;
	skip_blanks(p);
	while (isalnum((unsigned char)p->at[size]) || p->at[size] == '_')
		size++;
	if (size == 0 || size >= buf_bytes || isdigit((unsigned char)*p->at))
		return false;
	memcpy(buf, p->at, size);
	buf[size] = '\0';
	p->at += size;
	return true;
}

static bool take_column(parser *p, char *buf, size_t buf_bytes)
{
	skip_blanks(p);
	size_t size = strcspn(p->at, ",)?(= \t\r\n");
	if (size == 0 || size >= buf_bytes)
		return false;
	memcpy(buf, p->at, size);
	buf[size] = '\0';
	p->at += size;
	return true;
}

static esk_status find_column(
	const parser *p, const char *name, const esk_column *columns, size_t count, esk_index_field *field)
{
	size_t c = 0;
	while (c < count && strcmp(columns[c].name, name) != 0)
		c++;
	if (c == count)
		return esk_fail(p->err, ESK_ENOTFOUND, "index: field \"%s\": the stream has no column \"%s\"",
			field->name, name);
	field->column = c;
	field->dtype = columns[c].dtype;
	field->nullable = columns[c].nullable;
	if (field->presence)
		return ESK_OK;
	if (columns[c].rank != 0)
		return esk_fail(p->err, ESK_ESHAPE,
			"index: field \"%s\": a cell of column \"%s\" is an array: expected one number or "
			"text, or \"%s?\" for whether it is there",
			field->name, name, name);
	if (field->dtype.kind == ESK_C64 || field->dtype.kind == ESK_C128)
		return esk_fail(p->err, ESK_ETYPE,
			"index: field \"%s\": column \"%s\" is complex: expected a number, a bool or a text",
			field->name, name);
	return ESK_OK;
}

static esk_status parse_field(parser *p, const esk_column *columns, size_t count, esk_index_spec *spec)
{
	char column[ESK_MAX_NAME + 1];
	esk_index_field *grown = realloc(spec->fields, (spec->count + 1) * sizeof *grown);
	if (grown == NULL)
		return esk_fail_memory(p->err, sizeof *grown, "an index");
	spec->fields = grown;
	esk_index_field *field = &grown[spec->count];
	*field = (esk_index_field){0};
	if (!take_identifier(p, field->name, sizeof field->name))
		return expected(p, "a field's name");
	for (size_t i = 0; i < spec->count; i++)
		if (strcasecmp(spec->fields[i].name, field->name) == 0)
			return esk_fail(
				p->err, ESK_EINVAL, "index: field \"%s\" is given twice", field->name);
	if (!take_char(p, '='))
		return expected(p, "'='");
	if (!take_column(p, column, sizeof column))
		return expected(p, "a column's name");
	field->presence = take_char(p, '?');
	spec->count++;
	return find_column(p, column, columns, count, field);
}

esk_status esk_index_spec_parse(const char *text, const esk_column *columns, size_t column_count,
	esk_index_spec *ret_spec, esk_error *err)
{
	parser p = {text, text, err};
	esk_index_spec spec = {0};
	esk_status status = ESK_OK;
	if (!take_identifier(&p, spec.table, sizeof spec.table))
		status = expected(&p, "a table's name");
	else if (!take_char(&p, '('))
		status = expected(&p, "'('");
	for (bool more = true; more && status == ESK_OK; more = status == ESK_OK && take_char(&p, ','))
		status = parse_field(&p, columns, column_count, &spec);
	if (status == ESK_OK && !take_char(&p, ')'))
		status = expected(&p, "',' or ')'");
	skip_blanks(&p);
	if (status == ESK_OK && *p.at != '\0')
		status = expected(&p, "the end");
	if (status != ESK_OK) {
		esk_index_spec_free(&spec);
		return status;
	}
	*ret_spec = spec;
	return ESK_OK;
}

void esk_index_spec_free(esk_index_spec *spec)
{
	free(spec->fields);
	*spec = (esk_index_spec){0};
}

/* ---- packing ---- */

static bool make_room(esk_index_buffer *buffer, size_t bytes)
{
	size_t wanted = buffer->size + bytes;
	if (wanted <= buffer->capacity)
		return true;
	size_t capacity = buffer->capacity > 0 ? buffer->capacity : 4096;
	while (capacity < wanted)
		capacity *= 2;
	uint8_t *grown = realloc(buffer->data, capacity);
	if (grown == NULL)
		return false;
	buffer->data = grown;
	buffer->capacity = capacity;
	return true;
}

/* Bytes of the text that the row's cell has, where it is a variable string. */
static uint32_t text_size(const esk_index_field *field, const esk_index_source *source)
{
	uint32_t size = 0;
	if (field->dtype.kind == ESK_STRING && !field->presence)
		memcpy(&size, source->cells, sizeof size);
	return size;
}

static bool pack_field(const esk_index_field *field, esk_index_source *source, esk_index_buffer *buffer)
{
	bool there = source->valid == NULL || *source->valid++ != 0;
	size_t cell_bytes = field->presence                   ? 0
			    : field->dtype.kind == ESK_STRING ? sizeof(uint32_t)
							      : field->dtype.size_bytes;
	uint32_t text_bytes = text_size(field, source);
	if (!make_room(buffer, 1 + cell_bytes + text_bytes))
		return false;
	buffer->data[buffer->size++] = there;
	if (there && cell_bytes > 0) {
		memcpy(buffer->data + buffer->size, source->cells, cell_bytes);
		buffer->size += cell_bytes;
		if (text_bytes > 0)
			memcpy(buffer->data + buffer->size, source->text, text_bytes);
		buffer->size += text_bytes;
	}
	source->cells += cell_bytes;
	source->text += text_bytes;
	return true;
}

bool esk_index_pack(
	const esk_index_spec *spec, esk_index_source *sources, uint64_t rows, esk_index_buffer *buffer)
{
	size_t size = buffer->size;
	for (uint64_t row = 0; row < rows; row++) {
		for (size_t f = 0; f < spec->count; f++) {
			if (!pack_field(&spec->fields[f], &sources[f], buffer)) {
				buffer->size = size;
				return false;
			}
		}
	}
	buffer->rows += rows;
	return true;
}

/* ---- unpacking ---- */

static double half(uint16_t bits)
{
	int exponent = bits >> 10 & 0x1F, mantissa = bits & 0x3FF;
	double value = exponent == 0x1F ? (mantissa != 0 ? NAN : INFINITY)
		       : exponent == 0  ? ldexp(mantissa, -24)
					: ldexp(mantissa | 0x400, exponent - 25);
	return bits >> 15 ? -value : value;
}

#define LOAD(type, from) (*(const type *)memcpy(&(type){0}, from, sizeof(type)))

static void set_number(const esk_index_field *field, const uint8_t *cell, esk_value *value)
{
	value->kind = ESK_INTEGER;
	switch (field->dtype.kind) {
	case ESK_BOOL:
		value->integer = *cell != 0;
		break;
	case ESK_I8:
		value->integer = (int8_t)*cell;
		break;
	case ESK_I16:
		value->integer = LOAD(int16_t, cell);
		break;
	case ESK_I32:
		value->integer = LOAD(int32_t, cell);
		break;
	case ESK_U8:
		value->integer = *cell;
		break;
	case ESK_U16:
		value->integer = LOAD(uint16_t, cell);
		break;
	case ESK_U32:
		value->integer = LOAD(uint32_t, cell);
		break;
	case ESK_F16:
		value->kind = ESK_REAL;
		value->real = half(LOAD(uint16_t, cell));
		break;
	case ESK_F32:
		value->kind = ESK_REAL;
		value->real = LOAD(float, cell);
		break;
	case ESK_F64:
		value->kind = ESK_REAL;
		value->real = LOAD(double, cell);
		break;
	default: /* i64, and u64 as the signed number of the same bits */
		value->integer = LOAD(int64_t, cell);
		break;
	}
}

bool esk_index_unpack(
	const esk_index_field *field, const uint8_t **at, const uint8_t *end, esk_value *ret_value)
{
	size_t left = (size_t)(end - *at), bytes = field->dtype.size_bytes;
	if (left == 0)
		return false;
	bool there = *(*at)++ != 0;
	left--;
	*ret_value = (esk_value){.kind = ESK_NULL};
	if (field->presence) {
		ret_value->kind = ESK_INTEGER;
		ret_value->integer = there;
		return true;
	}
	if (!there)
		return true;
	if (field->dtype.kind == ESK_STRING) {
		if (left < sizeof(uint32_t))
			return false;
		bytes = LOAD(uint32_t, *at);
		*at += sizeof(uint32_t);
		left -= sizeof(uint32_t);
	}
	if (left < bytes)
		return false;
	if (field->dtype.kind == ESK_STRING || field->dtype.kind == ESK_STRING_N)
		*ret_value = (esk_value){.kind = ESK_TEXT,
			.data = (const char *)*at,
			.size = field->dtype.kind == ESK_STRING ? bytes : strnlen((const char *)*at, bytes)};
	else
		set_number(field, *at, ret_value);
	*at += bytes;
	return true;
}
