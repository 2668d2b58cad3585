/* The loops over values that checking needs, wide where the machine is. None trusts what it reads; pointers
 * need not be aligned. May include: base. */
#ifndef ESK_ARROW_KERNELS_H
#define ESK_ARROW_KERNELS_H

#include "base/base.h"

/* Tests set it, to run the loops of machines that have nothing wide. */
extern bool esk_arrow_kernels_narrow;

/* Bits that are set among bits [first, first + count). */
uint64_t esk_arrow_count_bits(const uint8_t *bits, uint64_t first, uint64_t count);

static inline bool esk_arrow_bit(const uint8_t *bits, uint64_t at)
{
	return bits[at >> 3] >> (at & 7) & 1;
}

/* True where none of `count` + 1 offsets is below the one before it. */
bool esk_arrow_rising_32(const void *offsets, uint64_t count);
bool esk_arrow_rising_64(const void *offsets, uint64_t count);

/* The largest of `count` values of 1, 2, 4 or 8 bytes, taken as unsigned; 0 of none. */
uint64_t esk_arrow_largest(const void *values, uint32_t width_bytes, uint64_t count);

/* How many bytes from the first on are below 128. */
uint64_t esk_arrow_ascii_prefix(const uint8_t *text, uint64_t bytes);

/* True where the bytes are well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF. */
bool esk_arrow_utf8(const uint8_t *text, uint64_t bytes);

#endif
