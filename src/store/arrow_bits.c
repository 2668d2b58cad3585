/* Bitmaps of Arrow and bytes of Esker. */
#include "store/arrow_map.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

static inline bool bit_at(const uint8_t *bits, uint64_t i)
{
	return bits[i / 8] >> (i % 8) & 1;
}

#ifdef __SSE2__
/* Sixteen bits as bytes: each of the two bytes is spread over eight lanes, where one bit of it is looked at.
 */
static inline void spread(uint32_t bits, uint8_t *ret_bytes)
{
	const __m128i lane_bit = _mm_set_epi8(-128, 64, 32, 16, 8, 4, 2, 1, -128, 64, 32, 16, 8, 4, 2, 1);
	__m128i v = _mm_cvtsi32_si128((int)bits);
	v = _mm_unpacklo_epi8(v, v);
	v = _mm_shufflelo_epi16(v, _MM_SHUFFLE(1, 1, 0, 0));
	v = _mm_shuffle_epi32(v, _MM_SHUFFLE(1, 1, 0, 0));
	v = _mm_cmpeq_epi8(_mm_and_si128(v, lane_bit), lane_bit);
	_mm_storeu_si128((__m128i *)(void *)ret_bytes, _mm_and_si128(v, _mm_set1_epi8(1)));
}
#else
/* Eight bits: each byte of the word keeps one of them, and becomes 1 unless it is 0. */
static inline void spread_byte(uint8_t bits, uint8_t *ret_bytes)
{
	uint64_t word = bits * 0x0101010101010101ull & 0x8040201008040201ull;
	word = (word + 0x7F7F7F7F7F7F7F7Full) >> 7 & 0x0101010101010101ull;
	memcpy(ret_bytes, &word, sizeof word);
}
static inline void spread(uint32_t bits, uint8_t *ret_bytes)
{
	spread_byte((uint8_t)bits, ret_bytes);
	spread_byte((uint8_t)(bits >> 8), ret_bytes + 8);
}
#endif

void esk_bits_to_bytes(const uint8_t *bits, uint64_t first, uint64_t count, uint8_t *ret_bytes)
{
	uint64_t i = 0;
	unsigned shift = first % 8;
	/* Sixteen bits that do not begin with a byte lie in three: the third is there while a bit behind them
	 * is. */
	for (; i + 16 + (shift != 0 ? 8 : 0) <= count; i += 16) {
		const uint8_t *at = bits + (first + i) / 8;
		uint32_t word = (uint32_t)at[0] | (uint32_t)at[1] << 8;
		if (shift != 0)
			word |= (uint32_t)at[2] << 16;
		spread(word >> shift & 0xFFFF, ret_bytes + i);
	}
	for (; i < count; i++)
		ret_bytes[i] = bit_at(bits, first + i);
}

void esk_bytes_to_bits(const uint8_t *bytes, uint64_t count, uint8_t *ret_bits)
{
	uint64_t i = 0;
#ifdef __SSE2__
	for (; i + 16 <= count; i += 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)(const void *)(bytes + i));
		unsigned zeros = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_setzero_si128()));
		uint16_t ones = (uint16_t)~zeros;
		memcpy(ret_bits + i / 8, &ones, sizeof ones);
	}
#endif
	for (; i < count; i += 8) {
		uint8_t byte = 0;
		for (uint64_t k = 0; k < 8 && i + k < count; k++)
			byte |= (uint8_t)((bytes[i + k] != 0) << k);
		ret_bits[i / 8] = byte;
	}
}

bool esk_bits_all_set(const uint8_t *bits, uint64_t first, uint64_t count)
{
	uint64_t i = first, end = first + count, word;
	for (; i < end && i % 8 != 0; i++)
		if (!bit_at(bits, i))
			return false;
	for (; i + 64 <= end; i += 64) {
		memcpy(&word, bits + i / 8, sizeof word);
		if (word != UINT64_MAX)
			return false;
	}
	for (; i < end; i++)
		if (!bit_at(bits, i))
			return false;
	return true;
}

uint64_t esk_bytes_find_zero(const uint8_t *bytes, uint64_t count)
{
	const uint8_t *found = memchr(bytes, 0, count);
	return found != NULL ? (uint64_t)(found - bytes) : count;
}
