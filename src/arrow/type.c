/* Format strings: see type.h. */
#include "arrow/type.h"
#include <stdlib.h>
#include <string.h>

/* Formats that are one fixed text. */
typedef struct known {
	const char *format;
	const char *name;
	esk_arrow_type type;
} known;

#define FIXED(width, what, of_unit)                                                                   \
	{                                                                                             \
		.layout = ESK_ARROW_FIXED, .kind = (what), .width_bytes = (width), .unit = (of_unit), \
		.buffers = 2, .validity = true                                                        \
	}
#define VARIABLE(of_layout, what)                                                     \
	{                                                                             \
		.layout = (of_layout), .kind = (what), .buffers = 3, .validity = true \
	}
#define NESTED(of_layout, of_buffers, of_children)                                            \
	{                                                                                     \
		.layout = (of_layout), .buffers = (of_buffers), .validity = (of_buffers) > 0, \
		.children = (of_children)                                                     \
	}

static const known fixed_formats[] = {
	{"n", "null", {.layout = ESK_ARROW_NULL}},
	{"b", "bool", {.layout = ESK_ARROW_BOOL, .buffers = 2, .validity = true}},
	{"c", "int8", FIXED(1, ESK_ARROW_SIGNED, 0)},
	{"C", "uint8", FIXED(1, ESK_ARROW_UNSIGNED, 0)},
	{"s", "int16", FIXED(2, ESK_ARROW_SIGNED, 0)},
	{"S", "uint16", FIXED(2, ESK_ARROW_UNSIGNED, 0)},
	{"i", "int32", FIXED(4, ESK_ARROW_SIGNED, 0)},
	{"I", "uint32", FIXED(4, ESK_ARROW_UNSIGNED, 0)},
	{"l", "int64", FIXED(8, ESK_ARROW_SIGNED, 0)},
	{"L", "uint64", FIXED(8, ESK_ARROW_UNSIGNED, 0)},
	{"e", "float16", FIXED(2, ESK_ARROW_FLOAT, 0)},
	{"f", "float32", FIXED(4, ESK_ARROW_FLOAT, 0)},
	{"g", "float64", FIXED(8, ESK_ARROW_FLOAT, 0)},
	{"z", "binary", VARIABLE(ESK_ARROW_BINARY, ESK_ARROW_OTHER)},
	{"Z", "large binary", VARIABLE(ESK_ARROW_LARGE_BINARY, ESK_ARROW_OTHER)},
	{"u", "utf8", VARIABLE(ESK_ARROW_BINARY, ESK_ARROW_UTF8)},
	{"U", "large utf8", VARIABLE(ESK_ARROW_LARGE_BINARY, ESK_ARROW_UTF8)},
	{"tdD", "date32", FIXED(4, ESK_ARROW_DATE, 'D')},
	{"tdm", "date64", FIXED(8, ESK_ARROW_DATE, 'm')},
	{"tts", "time32", FIXED(4, ESK_ARROW_TIME, 's')},
	{"ttm", "time32", FIXED(4, ESK_ARROW_TIME, 'm')},
	{"ttu", "time64", FIXED(8, ESK_ARROW_TIME, 'u')},
	{"ttn", "time64", FIXED(8, ESK_ARROW_TIME, 'n')},
	{"tDs", "duration", FIXED(8, ESK_ARROW_DURATION, 's')},
	{"tDm", "duration", FIXED(8, ESK_ARROW_DURATION, 'm')},
	{"tDu", "duration", FIXED(8, ESK_ARROW_DURATION, 'u')},
	{"tDn", "duration", FIXED(8, ESK_ARROW_DURATION, 'n')},
	{"tiM", "interval of months", FIXED(4, ESK_ARROW_INTERVAL, 'M')},
	{"tiD", "interval of days and time", FIXED(8, ESK_ARROW_INTERVAL, 'D')},
	{"tin", "interval of months, days and nanoseconds", FIXED(16, ESK_ARROW_INTERVAL, 'n')},
	{"+l", "list", NESTED(ESK_ARROW_LIST, 2, 1)},
	{"+L", "large list", NESTED(ESK_ARROW_LARGE_LIST, 2, 1)},
	{"+m", "map", NESTED(ESK_ARROW_MAP, 2, 1)},
	{"+s", "struct",
		{.layout = ESK_ARROW_STRUCT, .buffers = 1, .validity = true, .variable_children = true}},
	{"+r", "run-end encoded", NESTED(ESK_ARROW_RUN_END, 0, 2)},
};

/* Formats with parameters behind a prefix, and those that are known but not offered. */
static const struct {
	const char *prefix;
	const char *name;
} other_formats[] = {{"d:", "decimal"}, {"w:", "fixed-size binary"}, {"ts", "timestamp"},
	{"+w:", "fixed-size list"}, {"+ud:", "dense union"}, {"+us:", "sparse union"}, {"vz", "binary view"},
	{"vu", "utf8 view"}, {"+vl", "list view"}, {"+vL", "large list view"}};

const char *esk_arrow_format_name(const char *format)
{
	if (format == NULL)
		return "no type";
	for (size_t i = 0; i < sizeof fixed_formats / sizeof *fixed_formats; i++) {
		if (strcmp(format, fixed_formats[i].format) == 0)
			return fixed_formats[i].name;
	}
	for (size_t i = 0; i < sizeof other_formats / sizeof *other_formats; i++) {
		if (strncmp(format, other_formats[i].prefix, strlen(other_formats[i].prefix)) == 0)
			return other_formats[i].name;
	}
	return "unknown type";
}

/* A decimal number without blanks; *text is moved behind it. */
static bool take_number(const char **text, int32_t *ret_value)
{
	const char *at = *text;
	bool negative = *at == '-';
	at += negative;
	if (*at < '0' || *at > '9')
		return false;
	int64_t value = 0;
	for (; *at >= '0' && *at <= '9'; at++) {
		value = value * 10 + (*at - '0');
		if (value > INT32_MAX)
			return false;
	}
	*text = at;
	*ret_value = (int32_t)(negative ? -value : value);
	return true;
}

static bool parse_decimal(const char *text, esk_arrow_type *type)
{
	int32_t bits = 128;
	*type = (esk_arrow_type)FIXED(0, ESK_ARROW_DECIMAL, 0);
	if (!take_number(&text, &type->precision) || *text++ != ',' || !take_number(&text, &type->scale))
		return false;
	if (*text == ',') {
		text++;
		if (!take_number(&text, &bits))
			return false;
	}
	if (*text != '\0' || (bits != 32 && bits != 64 && bits != 128 && bits != 256))
		return false;
	type->width_bytes = (uint32_t)bits / 8;
	/* Digits that fit: 9, 18, 38, 76. */
	int32_t most = bits == 32 ? 9 : bits == 64 ? 18 : bits == 128 ? 38 : 76;
	return type->precision >= 1 && type->precision <= most;
}

static bool parse_sized(const char *text, int32_t *ret_size)
{
	return take_number(&text, ret_size) && *text == '\0' && *ret_size >= 0;
}

static bool parse_parameters(const char *format, esk_arrow_type *type)
{
	int32_t size;
	if (strncmp(format, "d:", 2) == 0)
		return parse_decimal(format + 2, type);
	if (strncmp(format, "w:", 2) == 0) {
		if (!parse_sized(format + 2, &size))
			return false;
		*type = (esk_arrow_type)FIXED((uint32_t)size, ESK_ARROW_FIXED_BINARY, 0);
		return true;
	}
	if (strncmp(format, "ts", 2) == 0) {
		if (format[2] == '\0' || strchr("smun", format[2]) == NULL || format[3] != ':')
			return false;
		*type = (esk_arrow_type)FIXED(8, ESK_ARROW_TIMESTAMP, format[2]);
		type->rest = format + 4;
		return true;
	}
	if (strncmp(format, "+w:", 3) == 0) {
		if (!parse_sized(format + 3, &size))
			return false;
		*type = (esk_arrow_type)NESTED(ESK_ARROW_FIXED_LIST, 1, 1);
		type->list_size = size;
		return true;
	}
	if (strncmp(format, "+ud:", 4) == 0 || strncmp(format, "+us:", 4) == 0) {
		bool dense = format[2] == 'd';
		*type = (esk_arrow_type){.layout = dense ? ESK_ARROW_DENSE_UNION : ESK_ARROW_SPARSE_UNION,
			.rest = format + 4,
			.buffers = dense ? 2 : 1,
			.variable_children = true};
		return true;
	}
	return false;
}

esk_status esk_arrow_type_parse(const char *format, esk_arrow_type *ret_type, esk_error *err)
{
	if (format == NULL)
		return esk_fail(err, ESK_EUNSUPPORTED, "the schema has no format");
	for (size_t i = 0; i < sizeof fixed_formats / sizeof *fixed_formats; i++) {
		if (strcmp(format, fixed_formats[i].format) == 0) {
			*ret_type = fixed_formats[i].type;
			return ESK_OK;
		}
	}
	esk_arrow_type type;
	if (!parse_parameters(format, &type))
		return esk_fail(err, ESK_EUNSUPPORTED,
			"the Arrow type %s (format \"%.40s\") is not supported",
			esk_arrow_format_name(format), format);
	*ret_type = type;
	return ESK_OK;
}

esk_status esk_arrow_type_ids(
	const esk_arrow_type *type, int64_t children, int16_t ret_child_of[128], esk_error *err)
{
	int16_t child_of[128];
	memset(child_of, -1, sizeof child_of);
	int64_t count = 0;
	for (const char *at = type->rest; *at != '\0'; count++) {
		int32_t id;
		if (count > 0 && *at++ != ',')
			break;
		if (!take_number(&at, &id) || id < 0 || id > 127 || child_of[id] >= 0)
			return esk_fail(err, ESK_EUNSUPPORTED,
				"the type ids \"%.60s\" of a union are not distinct numbers of 0 to 127",
				type->rest);
		child_of[id] = (int16_t)count;
	}
	if (count != children)
		return esk_fail(err, ESK_EUNSUPPORTED,
			"a union of %lld children has the type ids \"%.60s\": one per child was expected",
			(long long)children, type->rest);
	memcpy(ret_child_of, child_of, sizeof child_of);
	return ESK_OK;
}
