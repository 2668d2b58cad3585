/* CRC-32C (Castagnoli polynomial 0x1EDC6F41, reflected 0x82F63B78): the machine's instruction where it has
 * one, else eight tables. Chosen at the first call through a pointer that starts as the chooser. */
#include "base/base.h"

#include <pthread.h>
#include <string.h>

typedef uint32_t (*crc_fn)(uint32_t crc, const unsigned char *data, size_t size);

static uint32_t tables[8][256];

static void make_tables(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t crc = i;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
		tables[0][i] = crc;
	}
	for (uint32_t i = 0; i < 256; i++)
		for (int t = 1; t < 8; t++)
			tables[t][i] = tables[t - 1][i] >> 8 ^ tables[0][tables[t - 1][i] & 0xFF];
}

static uint32_t crc_portable(uint32_t crc, const unsigned char *data, size_t size)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, make_tables);
	for (; size >= 8; size -= 8, data += 8) {
		uint64_t word;
		memcpy(&word, data, 8);
		word ^= crc;
		crc = 0;
		for (int i = 0; i < 8; i++)
			crc ^= tables[7 - i][word >> (8 * i) & 0xFF];
	}
	for (; size > 0; size--)
		crc = crc >> 8 ^ tables[0][(crc ^ *data++) & 0xFF];
	return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_sse42(
	uint32_t crc, const unsigned char *data, size_t size)
{
	uint64_t wide = crc;
	for (; size >= 8; size -= 8, data += 8) {
		uint64_t word;
		memcpy(&word, data, 8);
		wide = __builtin_ia32_crc32di(wide, word);
	}
	crc = (uint32_t)wide;
	for (; size > 0; size--)
		crc = __builtin_ia32_crc32qi(crc, *data++);
	return crc;
}
#endif

static uint32_t choose(uint32_t crc, const unsigned char *data, size_t size);
static _Atomic crc_fn chosen = choose;

static uint32_t choose(uint32_t crc, const unsigned char *data, size_t size)
{
	crc_fn fn = crc_portable;
#if defined(__x86_64__)
	if (__builtin_cpu_supports("sse4.2"))
		fn = crc_sse42;
#endif
	__atomic_store_n((crc_fn *)&chosen, fn, __ATOMIC_RELAXED); /* every value that is ever stored works */
	return fn(crc, data, size);
}

uint32_t esk_crc32c(uint32_t crc, const void *data, size_t size_bytes)
{
	crc_fn fn = __atomic_load_n((crc_fn *)&chosen, __ATOMIC_RELAXED);
	return ~fn(~crc, data, size_bytes);
}
