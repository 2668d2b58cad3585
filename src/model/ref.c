/* Refs: h5://{run}/{dataset path}[/{index}|/{start}:{stop}], percent-encoded. */
#include "model/model.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const char scheme[] = "h5://";

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* Decodes text[0, size) into buf; false (with a message) on a bad escape, a NUL, or too long a result. */
static esk_status decode(const char *text, size_t at, size_t size, char *buf, size_t buf_bytes,
	const char *what, esk_error *err)
{
	size_t out = 0;
	for (size_t i = at; i < at + size; i++) {
		char c = text[i];
		if (c == '%') {
			int high = i + 2 < at + size ? hex_digit(text[i + 1]) : -1;
			int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
			if (low < 0)
				return esk_fail(err, ESK_EINVAL,
					"ref, byte %zu: '%%' without two hex digits: \"%.100s\"", i, text);
			c = (char)(high << 4 | low);
			i += 2;
		}
		if ((unsigned char)c < 0x20 || c == 0x7F)
			return esk_fail(
				err, ESK_EINVAL, "ref, byte %zu: a control character in the %s", i, what);
		if (out + 1 >= buf_bytes)
			return esk_fail(
				err, ESK_EINVAL, "ref: the %s is longer than %zu bytes", what, buf_bytes - 1);
		buf[out++] = c;
	}
	buf[out] = '\0';
	return ESK_OK;
}

/* Takes digits at *at up to `end`. False if there is none or the number does not fit; *at is behind them
 * then. */
static bool take_number(const char **at, const char *end, uint64_t *ret)
{
	uint64_t value = 0;
	const char *s = *at;
	for (; s < end && isdigit((unsigned char)*s); s++)
		if (!esk_mul_u64(value, 10, &value) || !esk_add_u64(value, (uint64_t)(*s - '0'), &value))
			return false;
	if (s == *at)
		return false;
	*at = s;
	*ret = value;
	return true;
}

static bool all_digits_or_colon(const char *text, const char *end)
{
	for (const char *s = text; s < end; s++)
		if (!isdigit((unsigned char)*s) && *s != ':')
			return false;
	return end > text && isdigit((unsigned char)*text);
}

/* Reads the last part [part, end) as index or range. */
static esk_status parse_rows(
	const char *text, const char *part, const char *end, esk_ref *ref, esk_error *err)
{
	const char *at = part;
	if (!take_number(&at, end, &ref->start))
		goto range;
	if (at == end) {
		if (ref->start == UINT64_MAX)
			goto range;
		ref->kind = ESK_REF_INDEX;
		ref->stop = ref->start + 1;
		return ESK_OK;
	}
	at++; /* ':' */
	if (!take_number(&at, end, &ref->stop) || at != end)
		goto range;
	if (ref->stop < ref->start)
		return esk_fail(err, ESK_EINVAL, "ref: the range %.*s ends before it starts: \"%.200s\"",
			(int)(end - part), part, text);
	ref->kind = ESK_REF_RANGE;
	return ESK_OK;

range:
	return esk_fail(err, ESK_EINVAL, "ref, byte %zu: expected an index or start:stop, found \"%.40s\"",
		(size_t)(part - text), part);
}

static esk_status check_path(const char *path, const char *text, esk_error *err)
{
	for (const char *part = path; part != NULL;) {
		const char *slash = strchr(part, '/');
		size_t size = slash != NULL ? (size_t)(slash - part) : strlen(part);
		if (size == 0 || (size == 1 && part[0] == '.') ||
			(size == 2 && part[0] == '.' && part[1] == '.'))
			return esk_fail(err, ESK_EINVAL,
				"ref: \"%.*s\" is no part of a dataset path: \"%.200s\"", (int)size, part,
				text);
		part = slash != NULL ? slash + 1 : NULL;
	}
	return ESK_OK;
}

esk_status esk_ref_parse(const char *text, esk_ref *ret_ref, esk_error *err)
{
	if (text == NULL)
		return esk_fail(err, ESK_EINVAL, "ref is NULL");
	if (strncmp(text, scheme, strlen(scheme)) != 0)
		return esk_fail(
			err, ESK_EINVAL, "ref: expected h5://run/dataset/index, found \"%.100s\"", text);
	esk_ref ref = {0};
	const char *run = text + strlen(scheme);
	const char *slash = strchr(run, '/');
	if (slash == NULL || slash[1] == '\0')
		return esk_fail(err, ESK_EINVAL, "ref: no dataset behind the run: \"%.200s\"", text);
	esk_status status = decode(
		text, (size_t)(run - text), (size_t)(slash - run), ref.run, sizeof ref.run, "run", err);
	if (status == ESK_OK)
		status = esk_name_check(ref.run, "run", err);
	if (status != ESK_OK)
		return status;

	const char *path = slash + 1;
	const char *end = path + strlen(path);
	const char *last = strrchr(path, '/');
	if (last != NULL && all_digits_or_colon(last + 1, end)) {
		status = parse_rows(text, last + 1, end, &ref, err);
		if (status != ESK_OK)
			return status;
		end = last;
	}
	status = decode(text, (size_t)(path - text), (size_t)(end - path), ref.path, sizeof ref.path,
		"dataset path", err);
	if (status == ESK_OK)
		status = check_path(ref.path, text, err);
	if (status != ESK_OK)
		return status;
	*ret_ref = ref;
	return ESK_OK;
}

static void put(char *buf, size_t buf_bytes, size_t *at, char c)
{
	if (*at + 1 < buf_bytes)
		buf[*at] = c;
	(*at)++;
}

/* Adds `text` with everything but unreserved characters (RFC 3986) escaped; '/' stays when `slashes`. */
static void put_encoded(
	char *buf, size_t buf_bytes, size_t *at, const char *text, bool slashes, const char *escape_at)
{
	static const char hex[] = "0123456789ABCDEF";
	for (const char *s = text; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;
		bool plain =
			isalnum(c) || c == '-' || c == '.' || c == '_' || c == '~' || (c == '/' && slashes);
		if (plain && s != escape_at) {
			put(buf, buf_bytes, at, *s);
		} else {
			put(buf, buf_bytes, at, '%');
			put(buf, buf_bytes, at, hex[c >> 4]);
			put(buf, buf_bytes, at, hex[c & 15]);
		}
	}
}

size_t esk_ref_format(const esk_ref *ref, char *buf, size_t buf_bytes)
{
	size_t at = 0;
	for (const char *s = scheme; *s != '\0'; s++)
		put(buf, buf_bytes, &at, *s);
	put_encoded(buf, buf_bytes, &at, ref->run, false, NULL);
	put(buf, buf_bytes, &at, '/');
	/* A last name that would read as an index has its first digit escaped. ':' is always escaped in a
	 * path. */
	const char *last = strrchr(ref->path, '/');
	const char *name = last != NULL ? last + 1 : ref->path;
	bool like_rows =
		ref->kind == ESK_REF_WHOLE && last != NULL && all_digits_or_colon(name, name + strlen(name));
	put_encoded(buf, buf_bytes, &at, ref->path, true, like_rows ? name : NULL);
	char rows[48] = "";
	if (ref->kind == ESK_REF_INDEX)
		snprintf(rows, sizeof rows, "/%llu", (unsigned long long)ref->start);
	else if (ref->kind == ESK_REF_RANGE)
		snprintf(rows, sizeof rows, "/%llu:%llu", (unsigned long long)ref->start,
			(unsigned long long)ref->stop);
	for (const char *s = rows; *s != '\0'; s++)
		put(buf, buf_bytes, &at, *s);
	if (buf_bytes > 0)
		buf[at < buf_bytes ? at : buf_bytes - 1] = '\0';
	return at;
}
