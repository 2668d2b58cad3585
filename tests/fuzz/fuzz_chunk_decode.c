/* Any bytes as a pipeline, a filter mask and a chunk: decoding them refuses or succeeds, and stays inside its
 * buffers.
 *
 * Input: 1 byte filter count, 1 byte element size, 2 bytes chunk size, 2 bytes wanted, 1 byte mask; per
 * filter 1 byte that picks it, 1 byte value count and its values, mostly small; the rest is the chunk. */
#include "codec/codec.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct input {
	const uint8_t *data;
	size_t size;
} input;

static uint32_t take(input *in, size_t bytes)
{
	uint32_t value = 0;
	for (size_t i = 0; i < bytes && in->size > 0; i++, in->data++, in->size--)
		value = value << 8 | *in->data;
	return value;
}

static void filter_take(input *in, esk_filter *filter)
{
	static const uint32_t ids[] = {ESK_FILTER_DEFLATE, ESK_FILTER_SHUFFLE, ESK_FILTER_FLETCHER32,
		ESK_FILTER_SZIP, ESK_FILTER_LZF, ESK_FILTER_BLOSC, ESK_FILTER_LZ4, ESK_FILTER_BITSHUFFLE,
		ESK_FILTER_ZSTD};
	uint32_t pick = take(in, 1);
	filter->id = pick < 250 ? ids[pick % (sizeof ids / sizeof ids[0])] : pick;
	filter->optional = true;
	filter->value_count = take(in, 1) % (ESK_MAX_FILTER_VALUES + 1);
	for (uint32_t i = 0; i < filter->value_count; i++) {
		uint32_t value = take(in, 1);
		filter->values[i] = value == 255 ? take(in, 4) : value == 254 ? take(in, 2) : value;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static esk_scratch *scratch;
	if (scratch == NULL && (scratch = esk_scratch_create()) == NULL)
		return 0;
	input in = {data, size};
	esk_pipeline pipeline = {.count = take(&in, 1) % 5};
	pipeline.element_bytes = 1 + take(&in, 1) % 16;
	pipeline.chunk_bytes = 1 + take(&in, 2);
	size_t want = take(&in, 2);
	want = want > pipeline.chunk_bytes ? pipeline.chunk_bytes : want;
	uint32_t mask = take(&in, 1);
	mask = mask < 128 ? 0 : mask;
	for (uint32_t i = 0; i < pipeline.count; i++)
		filter_take(&in, &pipeline.filters[i]);

	/* Copies of exactly the size, so that a step outside is seen. */
	uint8_t *chunk = malloc(in.size + (in.size == 0));
	uint8_t *out = malloc(want + (want == 0));
	char text[40];
	if (chunk == NULL || out == NULL)
		abort();
	if (in.size > 0)
		memcpy(chunk, in.data, in.size);
	esk_pipeline_format(&pipeline, text, sizeof text);
	esk_error err = {0};
	esk_status status = esk_pipeline_decode(&pipeline, scratch, mask, chunk, in.size, out, want, &err);
	if (status != ESK_OK && (err.code != status || err.message[0] == '\0'))
		abort();
	if (status == ESK_EINTERNAL)
		abort();
	free(out);
	free(chunk);
	return 0;
}
