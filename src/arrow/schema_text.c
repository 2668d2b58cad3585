/* Names of time units, and base64: see schema_json.h. */
#include "arrow/schema_json.h"

#include <stdlib.h>
#include <string.h>

static const struct {
	char letter;
	const char *name;
} units[] = {{'s', "SECOND"}, {'m', "MILLISECOND"}, {'u', "MICROSECOND"}, {'n', "NANOSECOND"}};

const char *esk_schema_unit_name(char unit)
{
	for (size_t i = 0; i < sizeof units / sizeof *units; i++)
		if (units[i].letter == unit)
			return units[i].name;
	return NULL;
}

char esk_schema_unit_letter(const char *name)
{
	for (size_t i = 0; i < sizeof units / sizeof *units; i++)
		if (strcmp(units[i].name, name) == 0)
			return units[i].letter;
	return 0;
}

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *esk_base64_encode(const void *data, size_t bytes)
{
	const uint8_t *from = data;
	char *text = malloc((bytes / 3 + 1) * 4 + 1), *to = text;
	if (text == NULL)
		return NULL;
	for (size_t i = 0; i < bytes; i += 3) {
		size_t left = bytes - i;
		uint32_t word = (uint32_t)from[i] << 16 | (left > 1 ? (uint32_t)from[i + 1] << 8 : 0) |
				(left > 2 ? from[i + 2] : 0);
		*to++ = digits[word >> 18];
		*to++ = digits[word >> 12 & 63];
		*to++ = left > 1 ? digits[word >> 6 & 63] : '=';
		*to++ = left > 2 ? digits[word & 63] : '=';
	}
	*to = '\0';
	return text;
}

bool esk_base64_decode(const char *text, size_t size, uint8_t *to, size_t *ret_bytes)
{
	size_t bytes = 0, pads = 0;
	if (size % 4 != 0)
		return false;
	while (pads < 2 && pads < size && text[size - 1 - pads] == '=')
		pads++;
	uint32_t word = 0;
	for (size_t i = 0; i < size; i++) {
		const char *digit = i < size - pads ? memchr(digits, text[i], 64) : digits;
		if (digit == NULL)
			return false;
		word = word << 6 | (uint32_t)(digit - digits);
		for (unsigned k = 3; i % 4 == 3 && k-- > 0;)
			to[bytes++] = (uint8_t)(word >> (8 * k));
	}
	*ret_bytes = bytes - pads;
	return true;
}
