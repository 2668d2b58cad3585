/* HDF5's checksum filter (3): a mandatory four-byte Fletcher sum, little-endian, behind the data. May use:
 * base. */
#include "codec/stage.h"
#include <string.h>

esk_status esk_fletcher32_check(const esk_filter *filter, esk_error *err)
{
	return ESK_OK;
}

/* Folds to [0, 65535] keeping the value modulo 65535; only zero becomes 0. */
static uint32_t fold(uint64_t sum)
{
	uint32_t rest = (uint32_t)(sum % 65535);
	return rest == 0 && sum != 0 ? 65535 : rest;
}

/* In a block of n words w[0..n), with sums a and b before it:
 *     a' = a + sum of w[i],  b' = b + n a + sum of (n - i) w[i].
 * Each is computed by itself, without the chain from word to word, so that the loop becomes one of vectors.
 * With n = 256 and w < 2^16 the sums stay below 2^32: 256 * 257 / 2 * 65535 = 2,155,839,360. */
static inline __attribute__((always_inline)) uint32_t sum_of(const uint8_t *data, size_t size)
{
	enum { WORDS = 256 };
	uint64_t a = 0;
	uint64_t b = 0;
	size_t words = size / 2;
	while (words > 0) {
		size_t n = words < WORDS ? words : WORDS;
		uint32_t plain = 0;
		uint32_t weighted = 0;
		for (size_t i = 0; i < n; i++) {
			uint16_t pair;
			memcpy(&pair, data + 2 * i, 2);
			uint32_t word = __builtin_bswap16(pair); /* of a little-endian machine */
			plain += word;
			weighted += (uint32_t)(n - i) * word;
		}
		b = fold(b + n * a + weighted);
		a = fold(a + plain);
		data += 2 * n;
		words -= n;
	}
	if (size % 2 != 0) {
		a = fold(a + ((uint32_t)*data << 8));
		b = fold(b + a);
	}
	return (uint32_t)b << 16 | (uint32_t)a;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static uint32_t sum_avx2(const uint8_t *data, size_t size)
{
	return sum_of(data, size);
}
#endif

uint32_t esk_fletcher32(const uint8_t *data, size_t size)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx2"))
		return sum_avx2(data, size);
#endif
	return sum_of(data, size);
}
