/* Strict reading of a part of TOML: see toml.h. A recursive descent without recursion: the part has no
 * nesting. */
#include "model/toml.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct parser {
	const char *file;
	const char *at;
	const char *end;
	const char *line_start;
	unsigned line;
	const esk_toml_reader *reader;
	esk_error *err;
	char table[ESK_TOML_NAME_BYTES];
	char key[ESK_TOML_NAME_BYTES];
	char text[ESK_TOML_TEXT_BYTES];
} parser;

const char *esk_toml_type_text(esk_toml_type type)
{
	static const char *const texts[] = {"text", "an integer", "a float", "a boolean"};
	return texts[type];
}

static unsigned column_of(const parser *p, const char *at)
{
	return (unsigned)(at - p->line_start) + 1;
}

static esk_status refuse(const parser *p, const char *at, const char *what)
{
	return esk_fail(p->err, ESK_EINVAL, "%s:%u:%u: %s", p->file, p->line, column_of(p, at), what);
}

static esk_status expected(const parser *p, const char *what)
{
	char found[16] = "";
	if (p->at < p->end) {
		unsigned char c = (unsigned char)*p->at;
		if (c == '\n' || c == '\r')
			strcpy(found, "end of line");
		else if (c < 0x20 || c >= 0x7F)
			snprintf(found, sizeof found, "byte 0x%02X", c);
		else
			snprintf(found, sizeof found, "'%c'", c);
	}
	return esk_fail(p->err, ESK_EINVAL, "%s:%u:%u: expected %s, found %s", p->file, p->line,
		column_of(p, p->at), what, p->at < p->end ? found : "the end of the file");
}

static bool more(const parser *p)
{
	return p->at < p->end;
}

static char peek(const parser *p)
{
	return more(p) ? *p->at : '\0';
}

static bool starts(const parser *p, const char *text)
{
	size_t size = strlen(text);
	return (size_t)(p->end - p->at) >= size && memcmp(p->at, text, size) == 0;
}

static void skip_blanks(parser *p)
{
	while (peek(p) == ' ' || peek(p) == '\t')
		p->at++;
}

static bool bare(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
	       c == '-';
}

/* Blanks, a comment, the end of the line or file. */
static esk_status end_line(parser *p)
{
	skip_blanks(p);
	if (peek(p) == '#') {
		for (; more(p) && *p->at != '\n' && !starts(p, "\r\n"); p->at++)
			if (((unsigned char)*p->at < 0x20 && *p->at != '\t') || *p->at == 0x7F)
				return refuse(p, p->at, "a control character in a comment");
	}
	if (!more(p))
		return ESK_OK;
	if (*p->at == '\r' && starts(p, "\r\n"))
		p->at++;
	if (*p->at != '\n')
		return expected(p, "the end of the line or '#'");
	p->at++;
	p->line++;
	p->line_start = p->at;
	return ESK_OK;
}

/* ---- UTF-8 ---- */

/* Bytes of the well-formed sequence at `at`, 0 where there is none: no overlong forms, no surrogates. */
static size_t utf8_size(const char *at, const char *end)
{
	const unsigned char *s = (const unsigned char *)at;
	size_t left = (size_t)(end - at);
	if (s[0] < 0x80)
		return 1;
	size_t size = s[0] >= 0xC2 && s[0] <= 0xDF   ? 2
		      : (s[0] & 0xF0) == 0xE0        ? 3
		      : s[0] >= 0xF0 && s[0] <= 0xF4 ? 4
						     : 0;
	if (size == 0 || size > left)
		return 0;
	for (size_t i = 1; i < size; i++)
		if ((s[i] & 0xC0) != 0x80)
			return 0;
	if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) || (s[0] == 0xF0 && s[1] < 0x90) ||
		(s[0] == 0xF4 && s[1] > 0x8F))
		return 0;
	return size;
}

static size_t utf8_put(uint32_t code, char *to)
{
	if (code < 0x80) {
		to[0] = (char)code;
		return 1;
	}
	size_t size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
	static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
	for (size_t i = size - 1; i > 0; i--, code >>= 6)
		to[i] = (char)(0x80 | (code & 0x3F));
	to[0] = (char)(lead[size] | code);
	return size;
}

/* ---- strings ---- */

static esk_status read_code(parser *p, unsigned digits, char *to, size_t *ret_size)
{
	const char *start = p->at;
	uint32_t code = 0;
	for (unsigned i = 0; i < digits; i++, p->at++) {
		char c = peek(p);
		uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
				 : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a') + 10
				 : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A') + 10
							: 16;
		if (digit == 16)
			return expected(p, digits == 4 ? "four hexadecimal digits behind \\u"
						       : "eight hexadecimal digits behind \\U");
		code = code << 4 | digit;
	}
	if (code == 0 || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
		return refuse(p, start, "no character has this code");
	*ret_size = utf8_put(code, to);
	return ESK_OK;
}

static esk_status read_escape(parser *p, char *to, size_t *ret_size)
{
	static const char letters[] = "btnfr\"\\", meant[] = "\b\t\n\f\r\"\\";
	p->at++;
	char c = peek(p);
	const char *found = c != '\0' ? strchr(letters, c) : NULL;
	if (found != NULL) {
		p->at++;
		*to = meant[found - letters];
		*ret_size = 1;
		return ESK_OK;
	}
	if (c != 'u' && c != 'U')
		return expected(p, "an escape: \\b \\t \\n \\f \\r \\\" \\\\ \\uXXXX or \\UXXXXXXXX");
	p->at++;
	return read_code(p, c == 'u' ? 4 : 8, to, ret_size);
}

/* A string in the quotes that stand at p->at, into `to`, which has `to_bytes`. */
static esk_status read_string(parser *p, char *to, size_t to_bytes)
{
	char quote = *p->at;
	const char *start = p->at;
	if (starts(p, quote == '"' ? "\"\"\"" : "'''"))
		return refuse(p, p->at, "strings of several lines are not read here");
	size_t size = 0;
	for (p->at++; peek(p) != quote;) {
		if (!more(p) || *p->at == '\n' || *p->at == '\r')
			return refuse(p, start, "this string does not end on its line");
		char bytes[4];
		size_t n;
		if (*p->at == '\\' && quote == '"') {
			esk_status status = read_escape(p, bytes, &n);
			if (status != ESK_OK)
				return status;
		} else {
			if (((unsigned char)*p->at < 0x20 && *p->at != '\t') || *p->at == 0x7F)
				return refuse(p, p->at, "a control character in a string");
			n = utf8_size(p->at, p->end);
			memcpy(bytes, p->at, n);
			p->at += n;
		}
		if (size + n >= to_bytes)
			return refuse(p, start, "this string is too long");
		memcpy(to + size, bytes, n);
		size += n;
	}
	p->at++;
	to[size] = '\0';
	return ESK_OK;
}

/* ---- keys and tables ---- */

static esk_status read_bare(parser *p, char *to, size_t to_bytes)
{
	const char *start = p->at;
	while (bare(peek(p)))
		p->at++;
	size_t size = (size_t)(p->at - start);
	if (size >= to_bytes)
		return refuse(p, start, "this name is too long");
	memcpy(to, start, size);
	to[size] = '\0';
	return ESK_OK;
}

static esk_status read_key(parser *p)
{
	esk_status status;
	if (peek(p) == '"' || peek(p) == '\'')
		status = read_string(p, p->key, sizeof p->key);
	else if (bare(peek(p)))
		status = read_bare(p, p->key, sizeof p->key);
	else
		return expected(p, "a key or a [table]");
	skip_blanks(p);
	if (status == ESK_OK && peek(p) == '.')
		return refuse(p, p->at, "dotted keys are not read here: put the key under its [table]");
	return status;
}

static esk_status read_table(parser *p)
{
	if (starts(p, "[["))
		return refuse(p, p->at, "arrays of tables are not read here");
	size_t size = 0;
	do {
		p->at++;
		skip_blanks(p);
		if (!bare(peek(p)))
			return expected(p, "the bare name of a table");
		if (size > 0)
			p->table[size++] = '.';
		esk_status status = read_bare(p, p->table + size, sizeof p->table - 1 - size);
		if (status != ESK_OK)
			return status;
		size += strlen(p->table + size);
		skip_blanks(p);
	} while (peek(p) == '.');
	if (peek(p) != ']')
		return expected(p, "']'");
	p->at++;
	unsigned line = p->line;
	esk_status status = end_line(p);
	return status != ESK_OK ? status : p->reader->table(p->reader->arg, p->table, line, p->err);
}

/* ---- values ---- */

/* Copies digits and single underscores between them; returns how many digits. */
static size_t take_digits(parser *p, char *to, size_t *size, size_t room)
{
	size_t digits = 0;
	while (peek(p) >= '0' && peek(p) <= '9') {
		if (*size + 1 >= room)
			return 0;
		to[(*size)++] = *p->at++;
		digits++;
		if (peek(p) == '_' && p->at + 1 < p->end && p->at[1] >= '0' && p->at[1] <= '9')
			p->at++;
	}
	return digits;
}

/* strtod of "digits.digits" whatever the locale's decimal point is. */
static double to_real(const char *text)
{
	locale_t c_locale = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
	double value = c_locale != (locale_t)0 ? strtod_l(text, NULL, c_locale) : NAN;
	if (c_locale != (locale_t)0)
		freelocale(c_locale);
	return value;
}

static esk_status read_number(parser *p, esk_toml_item *item)
{
	const char *start = p->at;
	char digits[64];
	size_t size = 0;
	if (peek(p) == '+' || peek(p) == '-')
		digits[size++] = *p->at++;
	const char *whole = p->at;
	size_t count = take_digits(p, digits, &size, sizeof digits);
	if (count == 0)
		return refuse(p, start, "expected a decimal number, true, false or a string in quotes");
	if (*whole == '0' && count > 1)
		return refuse(p, whole, "a number does not begin with 0");
	item->type = ESK_TOML_INTEGER;
	if (peek(p) == '.') {
		item->type = ESK_TOML_REAL;
		digits[size++] = *p->at++;
		if (take_digits(p, digits, &size, sizeof digits) == 0)
			return expected(p, "digits behind the point, at most 60");
	}
	if ((peek(p) == 'e' || peek(p) == 'E') && size + 3 < sizeof digits) {
		item->type = ESK_TOML_REAL;
		digits[size++] = *p->at++;
		if (peek(p) == '+' || peek(p) == '-')
			digits[size++] = *p->at++;
		if (take_digits(p, digits, &size, sizeof digits) == 0)
			return expected(p, "digits of an exponent");
	}
	digits[size] = '\0';
	if (bare(peek(p)) || peek(p) == ':')
		return refuse(p, start, "expected a decimal number; dates and other bases are not read here");
	if (item->type == ESK_TOML_REAL) {
		item->real = to_real(digits);
		return isfinite(item->real) ? ESK_OK : refuse(p, start, "this number is too large");
	}
	errno = 0;
	item->integer = strtoll(digits, NULL, 10);
	return errno == 0 ? ESK_OK : refuse(p, start, "this number does not fit 64 bits");
}

static esk_status read_value(parser *p, esk_toml_item *item)
{
	char c = peek(p);
	if (c == '"' || c == '\'') {
		item->type = ESK_TOML_TEXT;
		item->text = p->text;
		return read_string(p, p->text, sizeof p->text);
	}
	if (c == '[')
		return refuse(p, p->at, "arrays are not read here");
	if (c == '{')
		return refuse(p, p->at, "inline tables are not read here: use a [table]");
	for (int word = 0; word < 2; word++) {
		const char *text = word == 0 ? "false" : "true";
		size_t size = strlen(text);
		if (starts(p, text) && (p->at + size == p->end || !bare(p->at[size]))) {
			p->at += size;
			item->type = ESK_TOML_BOOLEAN;
			item->boolean = word == 1;
			return ESK_OK;
		}
	}
	if ((c >= '0' && c <= '9') || c == '+' || c == '-')
		return read_number(p, item);
	return expected(p, "a string in quotes, a number, true or false");
}

static esk_status read_item(parser *p)
{
	esk_toml_item item = {.table = p->table, .key = p->key, .line = p->line};
	esk_status status = read_key(p);
	if (status != ESK_OK)
		return status;
	if (peek(p) != '=')
		return expected(p, "'='");
	p->at++;
	skip_blanks(p);
	status = read_value(p, &item);
	if (status == ESK_OK)
		status = end_line(p);
	return status != ESK_OK ? status : p->reader->item(p->reader->arg, &item, p->err);
}

/* Bytes that are no UTF-8 are found first, so that nothing later has to doubt them. */
static esk_status check_utf8(parser *p)
{
	for (const char *at = p->at; at < p->end;) {
		size_t size = utf8_size(at, p->end);
		if (size == 0 || *at == '\0')
			return refuse(p, at, size == 0 ? "this is not UTF-8" : "a zero byte");
		if (*at == '\n') {
			p->line++;
			p->line_start = at + 1;
		}
		at += size;
	}
	p->line = 1;
	p->line_start = p->at;
	return ESK_OK;
}

bool esk_toml_number(const char *text, esk_toml_item *item)
{
	parser *p = calloc(1, sizeof *p);
	if (p == NULL)
		return false;
	*p = (parser){.file = "", .at = text, .end = text + strlen(text), .line_start = text, .line = 1};
	bool ok = read_number(p, item) == ESK_OK && !more(p);
	free(p);
	return ok;
}

esk_status esk_toml_read(
	const char *file, const char *text, size_t size, const esk_toml_reader *reader, esk_error *err)
{
	if (size > ESK_TOML_MAX_BYTES)
		return esk_fail(err, ESK_EINVAL, "%s: %zu bytes; a configuration has at most %u", file, size,
			ESK_TOML_MAX_BYTES);
	parser *p = calloc(1, sizeof *p);
	if (p == NULL)
		return esk_fail_memory(err, sizeof *p, "reading a configuration");
	*p = (parser){.file = file,
		.at = text,
		.end = text + size,
		.line_start = text,
		.line = 1,
		.reader = reader,
		.err = err};
	esk_status status = check_utf8(p);
	while (status == ESK_OK && more(p)) {
		skip_blanks(p);
		char c = peek(p);
		if (!more(p) || c == '#' || c == '\n' || c == '\r')
			status = end_line(p);
		else
			status = c == '[' ? read_table(p) : read_item(p);
	}
	free(p);
	return status;
}
