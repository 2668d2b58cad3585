/* Copying past the caches. May use: nothing. */
#include "base/base.h"

#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>

#define LINE_BYTES 64u
#define AHEAD_BYTES 512u /* read ahead by hand: streaming stores keep the line fill buffers busy */

void esk_copy_past_cache(void *to, const void *from, size_t size_bytes)
{
	char *out = to;
	const char *in = from;
	size_t head = (size_t)(-(uintptr_t)out % LINE_BYTES);
	if (size_bytes < head + LINE_BYTES) {
		memcpy(out, in, size_bytes);
		return;
	}
	memcpy(out, in, head);
	out += head, in += head, size_bytes -= head;
	for (; size_bytes >= LINE_BYTES; out += LINE_BYTES, in += LINE_BYTES, size_bytes -= LINE_BYTES) {
		_mm_prefetch(in + AHEAD_BYTES, _MM_HINT_NTA); /* beyond the end: no fault, no harm */
		__m128i a = _mm_loadu_si128((const __m128i *)in);
		__m128i b = _mm_loadu_si128((const __m128i *)(in + 16));
		__m128i c = _mm_loadu_si128((const __m128i *)(in + 32));
		__m128i d = _mm_loadu_si128((const __m128i *)(in + 48));
		_mm_stream_si128((__m128i *)out, a);
		_mm_stream_si128((__m128i *)(out + 16), b);
		_mm_stream_si128((__m128i *)(out + 32), c);
		_mm_stream_si128((__m128i *)(out + 48), d);
	}
	/* Streaming stores are not ordered by a later store with release order: this fence is. */
	_mm_sfence();
	memcpy(out, in, size_bytes);
}

#else

void esk_copy_past_cache(void *to, const void *from, size_t size_bytes)
{
	memcpy(to, from, size_bytes);
}

#endif
