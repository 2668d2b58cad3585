/* HDF5's shuffle filter (2), and the transposes that bitshuffle is made of, with the instruction set that the
 * machine has.
 *
 * The kernels of 2, 4, 8 and 16 byte elements rest on one step, the perfect shuffle: of N = 16 e bytes in e
 * vectors of 16, byte p of the first half goes to 2 p and byte p of the second half to 2 p + 1, that is, the
 * bits of a byte's index rotate by one. A byte of element i (4 bits) and place b (log2 e bits) has index i e
 * + b; in planes it has b 16 + i. So 4 steps make planes of elements, and log2 e steps make elements of
 * planes. On AVX2 each 128-bit lane does this for its own 16 elements, so no step crosses lanes.
 *
 * May use: base. */
#include "codec/stage.h"
#include <stdatomic.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

typedef struct kernels {
	const char *name;
	/* Each handles as many whole groups of elements as there are, of 2, 4, 8 or 16 bytes, and returns how
	 * many elements those were. */
	size_t (*shuffle)(const uint8_t *in, uint8_t *out, size_t element_bytes, size_t stride, size_t count);
	size_t (*unshuffle)(
		const uint8_t *in, size_t stride, uint8_t *out, size_t element_bytes, size_t count);
	void (*bits)(uint8_t *data, size_t size);
} kernels;

/* ---- C ---- */

static size_t shuffle_none(const uint8_t *in, uint8_t *out, size_t element_bytes, size_t stride, size_t count)
{
	return 0;
}

static size_t unshuffle_none(
	const uint8_t *in, size_t stride, uint8_t *out, size_t element_bytes, size_t count)
{
	return 0;
}

/* Transposes 8 x 8 bits by swapping ever larger squares across the diagonal. Inlined where the wider
 * instruction sets are allowed, the compiler makes vectors of it. */
static inline __attribute__((always_inline)) void bits_words(uint8_t *data, size_t size)
{
	for (size_t i = 0; i < size; i += 8) {
		uint64_t x, t;
		memcpy(&x, data + i, 8);
		t = (x ^ (x >> 7)) & 0x00aa00aa00aa00aaull;
		x ^= t ^ (t << 7);
		t = (x ^ (x >> 14)) & 0x0000cccc0000ccccull;
		x ^= t ^ (t << 14);
		t = (x ^ (x >> 28)) & 0x00000000f0f0f0f0ull;
		x ^= t ^ (t << 28);
		memcpy(data + i, &x, 8);
	}
}

static void bits_c(uint8_t *data, size_t size)
{
	bits_words(data, size);
}

static const kernels kernels_c = {"c", shuffle_none, unshuffle_none, bits_c};

/* ---- vectors ----
 * SHUFFLE_KERNELS(suffix, attribute, vector, group, load, store, low, high) defines both directions for
 * vectors that hold 16 bytes of each of group / 16 element groups. The inner loops have constant bounds and
 * are unrolled, so that `v` stays in registers. */
#define STEP(v, w, e, low, high)                                   \
	do {                                                       \
		for (size_t k = 0; k < (e) / 2; k++) {             \
			w[2 * k] = low(v[k], v[k + (e) / 2]);      \
			w[2 * k + 1] = high(v[k], v[k + (e) / 2]); \
		}                                                  \
	} while (0)

#define SHUFFLE_KERNELS(suffix, attribute, vector, group, load, store, low, high)                            \
	attribute static inline __attribute__((always_inline))                                               \
	size_t shuffle_of_##suffix(const uint8_t *in, uint8_t *out, size_t e, size_t stride, size_t count)   \
	{                                                                                                    \
		size_t done = 0;                                                                             \
		for (; done + (group) <= count; done += (group)) {                                           \
			vector v[16], w[16];                                                                 \
			const uint8_t *from = in + done * e;                                                 \
			for (size_t k = 0; k < e; k++)                                                       \
				v[k] = load(from + 16 * k, 16 * e);                                          \
			STEP(v, w, e, low, high);                                                            \
			STEP(w, v, e, low, high);                                                            \
			STEP(v, w, e, low, high);                                                            \
			STEP(w, v, e, low, high);                                                            \
			for (size_t k = 0; k < e; k++)                                                       \
				store(out + k * stride + done, 16, v[k]);                                    \
		}                                                                                            \
		return done;                                                                                 \
	}                                                                                                    \
	attribute static inline __attribute__((always_inline))                                               \
	size_t unshuffle_of_##suffix(const uint8_t *in, size_t stride, uint8_t *out, size_t e, size_t count) \
	{                                                                                                    \
		size_t done = 0;                                                                             \
		for (; done + (group) <= count; done += (group)) {                                           \
			vector v[16], w[16];                                                                 \
			uint8_t *to = out + done * e;                                                        \
			for (size_t k = 0; k < e; k++)                                                       \
				v[k] = load(in + k * stride + done, 16);                                     \
			for (size_t step = 1; step < e; step *= 2) {                                         \
				STEP(v, w, e, low, high);                                                    \
				for (size_t k = 0; k < e; k++)                                               \
					v[k] = w[k];                                                         \
			}                                                                                    \
			for (size_t k = 0; k < e; k++)                                                       \
				store(to + 16 * k, 16 * e, v[k]);                                            \
		}                                                                                            \
		return done;                                                                                 \
	}                                                                                                    \
	attribute static size_t shuffle_##suffix(                                                            \
		const uint8_t *in, uint8_t *out, size_t element_bytes, size_t stride, size_t count)          \
	{                                                                                                    \
		switch (element_bytes) {                                                                     \
		case 2:                                                                                      \
			return shuffle_of_##suffix(in, out, 2, stride, count);                               \
		case 4:                                                                                      \
			return shuffle_of_##suffix(in, out, 4, stride, count);                               \
		case 8:                                                                                      \
			return shuffle_of_##suffix(in, out, 8, stride, count);                               \
		case 16:                                                                                     \
			return shuffle_of_##suffix(in, out, 16, stride, count);                              \
		default:                                                                                     \
			return 0;                                                                            \
		}                                                                                            \
	}                                                                                                    \
	attribute static size_t unshuffle_##suffix(                                                          \
		const uint8_t *in, size_t stride, uint8_t *out, size_t element_bytes, size_t count)          \
	{                                                                                                    \
		switch (element_bytes) {                                                                     \
		case 2:                                                                                      \
			return unshuffle_of_##suffix(in, stride, out, 2, count);                             \
		case 4:                                                                                      \
			return unshuffle_of_##suffix(in, stride, out, 4, count);                             \
		case 8:                                                                                      \
			return unshuffle_of_##suffix(in, stride, out, 8, count);                             \
		case 16:                                                                                     \
			return unshuffle_of_##suffix(in, stride, out, 16, count);                            \
		default:                                                                                     \
			return 0;                                                                            \
		}                                                                                            \
	}                                                                                                    \
	attribute static void bits_##suffix(uint8_t *data, size_t size)                                      \
	{                                                                                                    \
		bits_words(data, size);                                                                      \
	}                                                                                                    \
	static const kernels kernels_##suffix = {                                                            \
		#suffix, shuffle_##suffix, unshuffle_##suffix, bits_##suffix};

#if defined(__x86_64__)

/* On AVX2 the second lane holds the 16 elements after the first lane's; `apart` is where its bytes lie from
 * there. */
#define LOAD_SSE2(from, apart) _mm_loadu_si128((const __m128i *)(const void *)(from))
#define STORE_SSE2(to, apart, v) _mm_storeu_si128((__m128i *)(void *)(to), v)
#define LOAD_AVX2(from, apart) \
	_mm256_inserti128_si256(_mm256_castsi128_si256(LOAD_SSE2(from, 0)), LOAD_SSE2((from) + (apart), 0), 1)
#define STORE_AVX2(to, apart, v)                                               \
	do {                                                                   \
		STORE_SSE2(to, 0, _mm256_castsi256_si128(v));                  \
		STORE_SSE2((to) + (apart), 0, _mm256_extracti128_si256(v, 1)); \
	} while (0)
#define TARGET_AVX2 __attribute__((target("avx2")))
#define TARGET_BASE

SHUFFLE_KERNELS(sse2, TARGET_BASE, __m128i, 16, LOAD_SSE2, STORE_SSE2, _mm_unpacklo_epi8, _mm_unpackhi_epi8)
SHUFFLE_KERNELS(
	avx2, TARGET_AVX2, __m256i, 32, LOAD_AVX2, STORE_AVX2, _mm256_unpacklo_epi8, _mm256_unpackhi_epi8)

#elif defined(__aarch64__)

#define LOAD_NEON(from, apart) vld1q_u8(from)
#define STORE_NEON(to, apart, v) vst1q_u8(to, v)
#define TARGET_BASE

SHUFFLE_KERNELS(neon, TARGET_BASE, uint8x16_t, 16, LOAD_NEON, STORE_NEON, vzip1q_u8, vzip2q_u8)

#endif

/* ---- choice ---- */

static const kernels *kernels_named(const char *name)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx2") && (name == NULL || strcmp(name, "avx2") == 0))
		return &kernels_avx2;
	if (name == NULL || strcmp(name, "sse2") == 0)
		return &kernels_sse2;
#elif defined(__aarch64__)
	if (name == NULL || strcmp(name, "neon") == 0)
		return &kernels_neon;
#endif
	return name == NULL || strcmp(name, "c") == 0 ? &kernels_c : NULL;
}

static _Atomic(const kernels *) chosen;

/* The tables are constant, so that a thread which sees the pointer needs nothing ordered before it: relaxed.
 * Threads that come here at once choose the same. */
static const kernels *kernels_get(void)
{
	const kernels *k = atomic_load_explicit(&chosen, memory_order_relaxed);
	if (k == NULL) {
		k = kernels_named(NULL);
		atomic_store_explicit(&chosen, k, memory_order_relaxed);
	}
	return k;
}

bool esk_simd_select(const char *name)
{
	const kernels *k = kernels_named(name);
	if (k != NULL)
		atomic_store_explicit(&chosen, k, memory_order_relaxed);
	return k != NULL;
}

const char *esk_codec_simd(void)
{
	return kernels_get()->name;
}

/* ---- any size ---- */

void esk_shuffle_planes(const uint8_t *in, uint8_t *out, size_t element_bytes, size_t stride, size_t count)
{
	if (element_bytes == 1) {
		memcpy(out, in, count);
		return;
	}
	size_t done = kernels_get()->shuffle(in, out, element_bytes, stride, count);
	for (size_t b = 0; b < element_bytes && done < count; b++) {
		const uint8_t *from = in + b;
		uint8_t *plane = out + b * stride;
		for (size_t i = done; i < count; i++)
			plane[i] = from[i * element_bytes];
	}
}

void esk_unshuffle_planes(const uint8_t *in, size_t stride, uint8_t *out, size_t element_bytes, size_t count)
{
	if (element_bytes == 1) {
		memcpy(out, in, count);
		return;
	}
	size_t done = kernels_get()->unshuffle(in, stride, out, element_bytes, count);
	for (size_t b = 0; b < element_bytes && done < count; b++) {
		const uint8_t *plane = in + b * stride;
		uint8_t *to = out + b;
		for (size_t i = done; i < count; i++)
			to[i * element_bytes] = plane[i];
	}
}

void esk_transpose_bits(uint8_t *data, size_t size)
{
	kernels_get()->bits(data, size);
}

/* ---- the filter: whole elements into planes, left-over bytes as they are ---- */

esk_status esk_shuffle_check(const esk_filter *filter, esk_error *err)
{
	if (filter->value_count != 1 || filter->values[0] == 0)
		return esk_fail(err, ESK_ECORRUPT,
			"filter shuffle: found %u values; expected one element size of at least 1",
			filter->value_count);
	return ESK_OK;
}

esk_status esk_shuffle_encode(const esk_filter *filter, esk_scratch *scratch, const uint8_t *in, size_t size,
	uint8_t *out, size_t capacity, size_t *ret_size, esk_error *err)
{
	size_t e = filter->values[0];
	size_t count = size / e;
	esk_shuffle_planes(in, out, e, count, count);
	memcpy(out + count * e, in + count * e, size - count * e);
	*ret_size = size;
	return ESK_OK;
}

esk_status esk_shuffle_decode(const esk_filter *filter, esk_scratch *scratch, const uint8_t *in, size_t size,
	uint8_t *out, size_t capacity, size_t limit, size_t *ret_size, esk_error *err)
{
	if (size > limit)
		return esk_fail(err, ESK_ECORRUPT, "shuffle: %zu bytes; expected at most %zu", size, limit);
	size_t e = filter->values[0];
	size_t count = size / e;
	size_t wanted = esk_min_u64(size, capacity);
	size_t whole = esk_min_u64(count, wanted / e);
	esk_unshuffle_planes(in, count, out, e, whole);
	for (size_t i = whole * e; i < wanted; i++)
		out[i] = i < count * e ? in[i % e * count + i / e] : in[i];
	*ret_size = wanted;
	return ESK_OK;
}
