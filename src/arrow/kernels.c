/* See kernels.h. The loops are plain C that the compiler makes wide; each is compiled for every machine and
 * again for those with AVX2, and the machine picks. */
#include "arrow/kernels.h"
#include <string.h>

bool esk_arrow_kernels_narrow;

#define INLINE static inline __attribute__((always_inline))

#if defined(__x86_64__) && defined(__GNUC__)
#define WIDE __attribute__((target("avx2,popcnt,bmi")))
#define HAVE_WIDE \
	(!esk_arrow_kernels_narrow && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt"))
#else
#define WIDE
#define HAVE_WIDE false
#endif

/* Two functions, `name`_plain and `name`_wide, from one inline body, and the choice between them. */
#define KERNEL(result, name, parameters, arguments)                                \
	static result name##_plain parameters                                      \
	{                                                                          \
		return name##_body arguments;                                      \
	}                                                                          \
	WIDE static result name##_wide parameters                                  \
	{                                                                          \
		return name##_body arguments;                                      \
	}                                                                          \
	result esk_arrow_##name parameters                                         \
	{                                                                          \
		return HAVE_WIDE ? name##_wide arguments : name##_plain arguments; \
	}

INLINE uint64_t load_u64(const uint8_t *from)
{
	uint64_t word;
	memcpy(&word, from, sizeof word);
	return word;
}

INLINE uint64_t count_bits_body(const uint8_t *bits, uint64_t first, uint64_t count)
{
	uint64_t set = 0;
	bits += first >> 3;
	first &= 7;
	if (first != 0 && count > 0) { /* up to the next whole byte */
		uint64_t head = esk_min_u64(8 - first, count);
		set += (uint64_t)__builtin_popcountll(*bits >> first & ((1u << head) - 1));
		count -= head;
		bits++;
	}
	for (; count >= 64; count -= 64, bits += 8)
		set += (uint64_t)__builtin_popcountll(load_u64(bits));
	for (; count >= 8; count -= 8, bits++)
		set += (uint64_t)__builtin_popcountll(*bits);
	if (count > 0)
		set += (uint64_t)__builtin_popcountll(*bits & ((1u << count) - 1));
	return set;
}
KERNEL(uint64_t, count_bits, (const uint8_t *bits, uint64_t first, uint64_t count), (bits, first, count))

/* Falls are gathered over a block and asked for once per block: a branch per value would keep the loop
 * narrow. */
#define BLOCK 1024

#define RISING(type)                                                            \
	const uint8_t *at = offsets;                                            \
	while (count > 0) {                                                     \
		uint64_t block = esk_min_u64(count, BLOCK);                     \
		type falls = 0;                                                 \
		for (uint64_t i = 0; i < block; i++) {                          \
			type one, next;                                         \
			memcpy(&one, at + i * sizeof one, sizeof one);          \
			memcpy(&next, at + (i + 1) * sizeof next, sizeof next); \
			falls |= next < one;                                    \
		}                                                               \
		if (falls != 0)                                                 \
			return false;                                           \
		at += block * sizeof(type);                                     \
		count -= block;                                                 \
	}                                                                       \
	return true

INLINE bool rising_32_body(const void *offsets, uint64_t count)
{
	RISING(int32_t);
}
KERNEL(bool, rising_32, (const void *offsets, uint64_t count), (offsets, count))

INLINE bool rising_64_body(const void *offsets, uint64_t count)
{
	RISING(int64_t);
}
KERNEL(bool, rising_64, (const void *offsets, uint64_t count), (offsets, count))

#define LARGEST(type)                                                        \
	do {                                                                 \
		type most = 0;                                               \
		for (uint64_t i = 0; i < count; i++) {                       \
			type value;                                          \
			memcpy(&value, at + i * sizeof value, sizeof value); \
			most = value > most ? value : most;                  \
		}                                                            \
		return most;                                                 \
	} while (0)

INLINE uint64_t largest_body(const void *values, uint32_t width_bytes, uint64_t count)
{
	const uint8_t *at = values;
	switch (width_bytes) {
	case 1:
		LARGEST(uint8_t);
	case 2:
		LARGEST(uint16_t);
	case 4:
		LARGEST(uint32_t);
	default:
		LARGEST(uint64_t);
	}
}
KERNEL(uint64_t, largest, (const void *values, uint32_t width_bytes, uint64_t count),
	(values, width_bytes, count))

INLINE uint64_t ascii_prefix_body(const uint8_t *text, uint64_t bytes)
{
	uint64_t at = 0;
	for (; bytes - at >= 128; at += 128) {
		uint64_t high = 0;
		for (unsigned i = 0; i < 128; i += 8)
			high |= load_u64(text + at + i);
		if ((high & UINT64_C(0x8080808080808080)) != 0)
			break;
	}
	while (bytes - at >= 8 && (load_u64(text + at) & UINT64_C(0x8080808080808080)) == 0)
		at += 8;
	while (at < bytes && text[at] < 128)
		at++;
	return at;
}
KERNEL(uint64_t, ascii_prefix, (const uint8_t *text, uint64_t bytes), (text, bytes))

static bool follows(uint8_t byte)
{
	return (byte & 0xC0) == 0x80;
}

/* Bytes of the well-formed character at `text`, whose first byte is 128 or above; 0: it is none. */
static unsigned character_bytes(const uint8_t *text, uint64_t bytes)
{
	uint8_t first = text[0];
	if (first >= 0xC2 && first <= 0xDF)
		return bytes >= 2 && follows(text[1]) ? 2 : 0;
	if (first >= 0xE0 && first <= 0xEF) {
		uint8_t low = first == 0xE0 ? 0xA0 : 0x80, high = first == 0xED ? 0x9F : 0xBF;
		return bytes >= 3 && text[1] >= low && text[1] <= high && follows(text[2]) ? 3 : 0;
	}
	if (first >= 0xF0 && first <= 0xF4) {
		uint8_t low = first == 0xF0 ? 0x90 : 0x80, high = first == 0xF4 ? 0x8F : 0xBF;
		return bytes >= 4 && text[1] >= low && text[1] <= high && follows(text[2]) && follows(text[3])
			       ? 4
			       : 0;
	}
	return 0;
}

bool esk_arrow_utf8(const uint8_t *text, uint64_t bytes)
{
	uint64_t at = 0;
	while (at < bytes) {
		if (text[at] >= 128) {
			unsigned size = character_bytes(text + at, bytes - at);
			if (size == 0)
				return false;
			at += size;
		} else if (bytes - at >= 16 && text[at + 1] < 128) {
			at += esk_arrow_ascii_prefix(text + at, bytes - at);
		} else {
			at++;
		}
	}
	return true;
}
