/* Text that goes into cells: what may, and decimal numbers as text. */
#include "store/arrow_map.h"

#include <string.h>

/* ---- UTF-8 ---- */

#define HIGH_BITS 0x8080808080808080ull
#define LOW_BITS 0x0101010101010101ull

/* Length of the sequence at s, of which `room` bytes are there; 0 if it is malformed or a NUL byte. */
static size_t sequence(const unsigned char *s, size_t room)
{
	static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
	if (s[0] < 0x80)
		return s[0] != 0;
	size_t length = (s[0] & 0xE0) == 0xC0 ? 2 : (s[0] & 0xF0) == 0xE0 ? 3 : (s[0] & 0xF8) == 0xF0 ? 4 : 0;
	if (length == 0 || length > room)
		return 0;
	uint32_t point = s[0] & (0xFFu >> (length + 1));
	for (size_t i = 1; i < length; i++) {
		if ((s[i] & 0xC0) != 0x80)
			return 0;
		point = point << 6 | (s[i] & 0x3Fu);
	}
	if (point < smallest[length] || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF))
		return 0;
	return length;
}

size_t esk_text_sound_bytes(const char *text, size_t size)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t i = 0;
	while (i < size) {
		/* Eight bytes of ASCII at once: no high bit, and none that borrows when 1 is taken away. */
		for (uint64_t word; i + sizeof word <= size; i += sizeof word) {
			memcpy(&word, s + i, sizeof word);
			if (((word | (word - LOW_BITS)) & HIGH_BITS) != 0)
				break;
		}
		if (i == size)
			break;
		size_t length = sequence(s + i, size - i);
		if (length == 0)
			return i;
		i += length;
	}
	return size;
}

/* ---- decimals ---- */

/* A sign, a point and a leading zero come to the digits; a negative scale is written as zeros behind them,
 * one that is larger than the precision as zeros behind the point. */
uint32_t esk_decimal_text_bytes(int32_t precision, int32_t scale)
{
	if (precision < 1 || precision > 38 || scale < -60 || scale > 60)
		return 0;
	int32_t digits = scale > precision ? scale : precision;
	return (uint32_t)(digits + 3 + (scale < 0 ? -scale : 0));
}

bool esk_decimal_format(__int128 value, int32_t precision, int32_t scale, char *ret_text, uint32_t bytes)
{
	char digits[ESK_DECIMAL_TEXT_BYTES], text[ESK_DECIMAL_TEXT_BYTES];
	unsigned __int128 rest = value < 0 ? -(unsigned __int128)value : (unsigned __int128)value;
	int32_t count = 0, at = 0; /* digits are written from the last */
	bool zero = rest == 0;
	for (; rest > 0; rest /= 10)
		digits[count++] = (char)('0' + (int)(rest % 10));
	if (count > precision)
		return false;
	while (count < (scale > 0 ? scale + 1 : 1))
		digits[count++] = '0';
	if (value < 0)
		text[at++] = '-';
	while (count > 0) {
		text[at++] = digits[--count];
		if (count == scale && scale > 0)
			text[at++] = '.';
	}
	for (int32_t i = scale; i < 0 && !zero; i++)
		text[at++] = '0';
	if ((uint32_t)at > bytes)
		return false;
	memcpy(ret_text, text, (size_t)at);
	memset(ret_text + at, 0, bytes - (uint32_t)at);
	return true;
}

/* Takes away the zeros that a negative scale stands for; false where they are not there. */
static bool cut_zeros(const char *text, uint32_t first, uint32_t *size, int32_t scale)
{
	if (*size == first + 1 && text[first] == '0')
		return true;
	for (; scale < 0; scale++) {
		if (*size <= first + 1 || text[*size - 1] != '0')
			return false;
		--*size;
	}
	return true;
}

bool esk_decimal_parse(const char *text, uint32_t bytes, int32_t scale, __int128 *ret_value)
{
	unsigned __int128 value = 0;
	uint32_t size = (uint32_t)strnlen(text, bytes), first = size > 0 && text[0] == '-';
	int32_t behind = -1; /* digits behind the point */
	if (!cut_zeros(text, first, &size, scale))
		return false;
	for (uint32_t i = first; i < size; i++) {
		if (text[i] == '.' && behind < 0) {
			behind = 0;
			continue;
		}
		if (text[i] < '0' || text[i] > '9' || value > (unsigned __int128)1 << 123)
			return false;
		value = value * 10 + (unsigned)(text[i] - '0');
		behind += behind >= 0;
	}
	if (size == first || (scale > 0 ? behind != scale : behind >= 0))
		return false;
	*ret_value = first > 0 ? -(__int128)value : (__int128)value;
	return true;
}
