/* What every layer uses: failing with a message, checked arithmetic, clocks, crc32c, logging through a
 * callback. No I/O, no allocation that outlives a call. May include: the public headers. */
#ifndef ESK_BASE_H
#define ESK_BASE_H

#include <esker/profile.h>
#include <stdarg.h>

/* The status that esk_fail_errno gives. */
esk_status esk_status_of_errno(int errnum);

/* ---- checked arithmetic: false on overflow, *ret untouched then ---- */
static inline bool esk_mul_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t product;
	if (__builtin_mul_overflow(a, b, &product))
		return false;
	*ret = product;
	return true;
}
static inline bool esk_add_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t sum;
	if (__builtin_add_overflow(a, b, &sum))
		return false;
	*ret = sum;
	return true;
}
/* Rounds up to a multiple of `unit`, a power of two. */
static inline uint64_t esk_round_up(uint64_t value, uint64_t unit)
{
	return (value + unit - 1) & ~(unit - 1);
}
static inline uint64_t esk_min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}
static inline uint64_t esk_max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* ---- clocks ---- */
#define ESK_TIME_TEXT_BYTES 32
void esk_time_format_stamp(int64_t time_ns, char ret_text[ESK_TIME_TEXT_BYTES]); /* 20261121T063100.123456Z */

/* ---- crc32c (Castagnoli), hardware where the machine has it; start with crc = 0, chain by passing the last
 * ---- */
uint32_t esk_crc32c(uint32_t crc, const void *data, size_t size_bytes);

/* memcpy for bytes that will not be touched again soon: on x86-64 the stores stream past the caches, which
 * saves reading every line before it is overwritten (1.5 times the speed of memcpy between buffers that no
 * cache holds, and what the caches hold stays there). Complete, and ordered before later stores, when it
 * returns. */
void esk_copy_past_cache(void *to, const void *from, size_t size_bytes);

/* 64 random bits from the operating system. */
uint64_t esk_random_u64(void);

/* ---- growing text ---- */
typedef struct esk_text {
	char *data; /* NUL-terminated once anything was added; NULL before */
	size_t size;
	size_t capacity;
	bool failed; /* memory ran out: later additions do nothing */
} esk_text;
void esk_text_add(esk_text *text, const char *format, ...) ESK_PRINTF(2, 3);
void esk_text_free(esk_text *text);

/* True if the text is well-formed UTF-8. */
bool esk_utf8_valid(const char *text);

#define ESK_NAME_BYTES 200 /* of a name, at most (esk_name_check) */

#endif
