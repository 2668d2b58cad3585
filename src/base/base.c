/* Clocks, random bits, logging, growing text, names. */
#include "base/base.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

int64_t esk_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

uint64_t esk_monotonic_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void format_time(int64_t time_ns, const char *date_format, char ret_text[ESK_TIME_TEXT_BYTES])
{
	int64_t micros = time_ns / 1000 - (time_ns % 1000 < 0); /* rounded down, before 1970 too */
	time_t seconds = (time_t)(micros / 1000000);
	int64_t fraction = micros % 1000000;
	if (fraction < 0) {
		fraction += 1000000;
		seconds--;
	}
	struct tm parts;
	char date[20];
	gmtime_r(&seconds, &parts);
	strftime(date, sizeof date, date_format, &parts);
	snprintf(ret_text, ESK_TIME_TEXT_BYTES, "%s.%06dZ", date, (int)fraction);
}

void esk_time_format(int64_t time_ns, char ret_text[ESK_TIME_TEXT_BYTES])
{
	format_time(time_ns, "%Y-%m-%dT%H:%M:%S", ret_text);
}

void esk_time_format_stamp(int64_t time_ns, char ret_text[ESK_TIME_TEXT_BYTES])
{
	format_time(time_ns, "%Y%m%dT%H%M%S", ret_text);
}

uint64_t esk_random_u64(void)
{
	uint64_t bits;
	if (getrandom(&bits, sizeof bits, 0) == (ssize_t)sizeof bits)
		return bits;
	return esk_monotonic_ns() * 0x9E3779B97F4A7C15u ^ (uint64_t)esk_now_ns();
}

void esk_log(const esk_logger *logger, esk_log_level level, const char *format, ...)
{
	if (logger == NULL || logger->fn == NULL)
		return;
	char message[1024];
	va_list args;
	va_start(args, format);
	vsnprintf(message, sizeof message, format, args);
	va_end(args);
	logger->fn(logger->arg, level, message);
}

void esk_text_add(esk_text *text, const char *format, ...)
{
	if (text->failed)
		return;
	va_list args;
	va_start(args, format);
	va_list again;
	va_copy(again, args);
	int size = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (size < 0) {
		text->failed = true;
		va_end(again);
		return;
	}
	size_t wanted = text->size + (size_t)size + 1;
	if (wanted > text->capacity) {
		size_t capacity = wanted * 2;
		char *data = realloc(text->data, capacity);
		if (data == NULL) {
			text->failed = true;
			va_end(again);
			return;
		}
		text->data = data;
		text->capacity = capacity;
	}
	vsnprintf(text->data + text->size, text->capacity - text->size, format, again);
	va_end(again);
	text->size += (size_t)size;
}

void esk_text_free(esk_text *text)
{
	free(text->data);
	*text = (esk_text){0};
}

/* Length of the well-formed UTF-8 sequence at s, 0 if it is malformed. */
static size_t utf8_sequence(const unsigned char *s)
{
	size_t length = s[0] < 0x80             ? 1
			: (s[0] & 0xE0) == 0xC0 ? 2
			: (s[0] & 0xF0) == 0xE0 ? 3
			: (s[0] & 0xF8) == 0xF0 ? 4
						: 0;
	if (length <= 1)
		return length;
	uint32_t point = s[0] & (0xFFu >> (length + 1));
	for (size_t i = 1; i < length; i++) {
		if ((s[i] & 0xC0) != 0x80)
			return 0;
		point = point << 6 | (s[i] & 0x3F);
	}
	static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
	if (point < smallest[length] || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF))
		return 0;
	return length;
}

bool esk_utf8_valid(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	for (size_t length; *s != '\0'; s += length)
		if ((length = utf8_sequence(s)) == 0)
			return false;
	return true;
}

esk_status esk_name_check(const char *name, const char *what, esk_error *err)
{
	const char *article = strchr("aeiou", *what) != NULL ? "an" : "a";
	if (name == NULL || *name == '\0')
		return esk_fail(err, ESK_EINVAL, "the name of %s %s is empty", article, what);
	size_t size = strnlen(name, ESK_NAME_BYTES + 1);
	if (size > ESK_NAME_BYTES)
		return esk_fail(err, ESK_EINVAL, "the name of %s %s is longer than %d bytes: \"%.40s...\"",
			article, what, ESK_NAME_BYTES, name);
	if (*name == '.')
		return esk_fail(
			err, ESK_EINVAL, "the name of %s %s starts with '.': \"%s\"", article, what, name);
	for (const unsigned char *s = (const unsigned char *)name; *s != '\0';) {
		size_t length = utf8_sequence(s);
		size_t at = (size_t)(s - (const unsigned char *)name);
		if (length == 0)
			return esk_fail(err, ESK_EINVAL, "the name of %s %s is not UTF-8 at byte %zu",
				article, what, at);
		if (*s < 0x20 || *s == 0x7F || (s[0] == 0xC2 && s[1] < 0xA0))
			return esk_fail(err, ESK_EINVAL,
				"the name of %s %s has a control character at byte %zu", article, what, at);
		if (*s == '/' || *s == '\\' || *s == ':')
			return esk_fail(err, ESK_EINVAL, "the name of %s %s has '%c' at byte %zu: \"%s\"",
				article, what, *s, at, name);
		s += length;
	}
	return ESK_OK;
}
