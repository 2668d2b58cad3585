/* HDF5's deflate filter (1): zlib streams (RFC 1950, RFC 1951). Level 1 is ISA-L's, which runs over spans as
 * they lie; 2 to 9 are libdeflate's. Whole chunks are inflated by libdeflate; beginnings of chunks by ISA-L,
 * which can stop, and so are whole chunks that are to be checked, since it refuses what zlib refuses. May
 * use: base, ISA-L, libdeflate. */
#include "codec/stage.h"
#include <isa-l/igzip_lib.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>

/* The zero tail of a chunk is fed from here, again and again. */
static uint8_t zero_page[1 << 16];

esk_status esk_deflate_check(const esk_filter *filter, esk_error *err)
{
	if (filter->value_count != 1 || filter->values[0] > 9)
		return esk_fail(err, ESK_ECORRUPT,
			"filter deflate: found %u values, the first %u; expected one level 0 to 9",
			filter->value_count, filter->value_count ? filter->values[0] : 0);
	return ESK_OK;
}

bool esk_deflate_streams(const esk_filter *filter)
{
	return filter->values[0] == 1;
}

/* The level-1 compressor, made on first use; NULL when memory runs out. */
static struct isal_zstream *stream_get(esk_scratch *scratch)
{
	if (scratch->deflate_stream == NULL) {
		size_t state_bytes = esk_round_up(sizeof(struct isal_zstream), 64);
		struct isal_zstream *stream =
			aligned_alloc(64, esk_round_up(state_bytes + ISAL_DEF_LVL1_DEFAULT, 64));
		if (stream == NULL)
			return NULL;
		isal_deflate_init(stream);
		stream->level = 1;
		stream->level_buf = (uint8_t *)stream + state_bytes;
		stream->level_buf_size = ISAL_DEF_LVL1_DEFAULT;
		scratch->deflate_stream = stream;
	}
	return scratch->deflate_stream;
}

/* Compresses one more piece. False when the output is full. */
static bool stream_feed(struct isal_zstream *stream, const void *data, size_t size, bool last)
{
	stream->next_in = (uint8_t *)(uintptr_t)data;
	stream->avail_in = (uint32_t)size;
	stream->end_of_stream = last;
	return isal_deflate(stream) == COMP_OK && stream->avail_in == 0 &&
	       (last ? stream->internal_state.state == ZSTATE_END : stream->avail_out > 0);
}

esk_status esk_deflate_encode_spans(esk_scratch *scratch, const esk_span *spans, size_t span_count,
	size_t size, uint8_t *out, size_t capacity, size_t *ret_size, esk_error *err)
{
	struct isal_zstream *stream = stream_get(scratch);
	if (stream == NULL)
		return esk_fail_memory(err, sizeof *stream + ISAL_DEF_LVL1_DEFAULT, "the deflate compressor");
	*ret_size = 0;
	if (size > UINT32_MAX || capacity > UINT32_MAX)
		return ESK_OK;
	isal_deflate_reset(stream);
	stream->gzip_flag = IGZIP_ZLIB;
	stream->flush = NO_FLUSH;
	stream->next_out = out;
	stream->avail_out = (uint32_t)capacity;

	size_t left = size;
	for (size_t i = 0; i < span_count; i++) {
		if (spans[i].size_bytes == 0)
			continue;
		left -= spans[i].size_bytes;
		if (!stream_feed(stream, spans[i].data, spans[i].size_bytes, left == 0))
			return ESK_OK;
	}
	while (left > 0) {
		size_t piece = esk_min_u64(left, sizeof zero_page);
		left -= piece;
		if (!stream_feed(stream, zero_page, piece, left == 0))
			return ESK_OK;
	}
	*ret_size = capacity - stream->avail_out;
	return ESK_OK;
}

esk_status esk_deflate_encode(const esk_filter *filter, esk_scratch *scratch, const uint8_t *in, size_t size,
	uint8_t *out, size_t capacity, size_t *ret_size, esk_error *err)
{
	uint32_t level = filter->values[0];
	if (level == 1) {
		esk_span span = {in, size};
		return esk_deflate_encode_spans(scratch, &span, 1, size, out, capacity, ret_size, err);
	}
	if (scratch->deflaters[level] == NULL) {
		scratch->deflaters[level] = libdeflate_alloc_compressor((int)level);
		if (scratch->deflaters[level] == NULL)
			return esk_fail_memory(err, 1 << 20, "the deflate compressor");
	}
	*ret_size = libdeflate_zlib_compress(scratch->deflaters[level], in, size, out, capacity);
	return ESK_OK;
}

/* ISA-L's decompressor, made on first use and set to begin with `in`; NULL when memory runs out. */
static struct inflate_state *inflate_begin(
	esk_scratch *scratch, const uint8_t *in, size_t size, uint8_t *out, size_t capacity)
{
	if (scratch->inflate_state == NULL)
		scratch->inflate_state = calloc(1, sizeof *scratch->inflate_state);
	struct inflate_state *state = scratch->inflate_state;
	if (state == NULL)
		return NULL;
	isal_inflate_init(state);
	state->crc_flag = ISAL_ZLIB;
	state->next_in = (uint8_t *)(uintptr_t)in;
	state->avail_in = (uint32_t)size;
	state->next_out = out;
	state->avail_out = (uint32_t)capacity;
	return state;
}

static esk_status inflate_prefix(esk_scratch *scratch, const uint8_t *in, size_t size, uint8_t *out,
	size_t capacity, size_t *ret_size, esk_error *err)
{
	struct inflate_state *state = inflate_begin(scratch, in, size, out, capacity);
	if (state == NULL)
		return esk_fail_memory(err, sizeof *state, "the deflate decompressor");
	int result = isal_inflate(state);
	/* A fault behind the bytes that are wanted is not this call's: the output is complete then. */
	if (state->avail_out > 0 && result < 0)
		return esk_fail(err, ESK_ECORRUPT,
			"deflate: invalid data after %zu of %zu wanted bytes (ISA-L code %d)",
			capacity - state->avail_out, capacity, result);
	*ret_size = capacity - state->avail_out;
	return ESK_OK;
}

/* ISA-L stops as soon as the output is full; one more byte of room takes it on to the end of the stream and
 * its checksum, unless the stream holds more than `limit` bytes. */
static esk_status inflate_strictly(esk_scratch *scratch, const uint8_t *in, size_t size, uint8_t *out,
	size_t limit, size_t *ret_size, esk_error *err)
{
	uint8_t behind;
	struct inflate_state *state = inflate_begin(scratch, in, size, out, limit);
	if (state == NULL)
		return esk_fail_memory(err, sizeof *state, "the deflate decompressor");
	int result = isal_inflate(state);
	size_t got = limit - state->avail_out;
	if (result >= 0 && state->avail_out == 0 && state->block_state != ISAL_BLOCK_FINISH) {
		state->next_out = &behind;
		state->avail_out = 1;
		result = isal_inflate(state);
		if (state->avail_out == 0)
			return esk_fail(err, ESK_ECORRUPT,
				"deflate: %zu bytes inflate to more than the expected %zu", size, limit);
	}
	if (result != ISAL_DECOMP_OK || state->block_state != ISAL_BLOCK_FINISH)
		return esk_fail(err, ESK_ECORRUPT,
			"deflate: %zu bytes are no valid zlib stream, or its checksum differs (ISA-L code %d "
			"after %zu bytes)",
			size, result, got);
	*ret_size = got;
	return ESK_OK;
}

static esk_status inflater_make(esk_scratch *scratch, esk_error *err)
{
	if (scratch->inflater == NULL)
		scratch->inflater = libdeflate_alloc_decompressor();
	return scratch->inflater != NULL ? ESK_OK : esk_fail_memory(err, 1 << 16, "the deflate decompressor");
}

/* The two bytes before the deflate stream: method 8, a window of at most 32 KiB, no dictionary (RFC 1950). */
static bool zlib_header_ok(const uint8_t *in, size_t size)
{
	return size > 6 && (in[0] & 15) == 8 && in[0] >> 4 <= 7 && (in[1] & 32) == 0 &&
	       (in[0] << 8 | in[1]) % 31 == 0;
}

/* libdeflate stops when its output is full, some bytes before the end, and does not say where. It writes from
 * front to back, ahead of itself by at most the longest match and five words (298 bytes), and stops within
 * the last 258. So a mark in the middle of the slack that was overwritten proves that everything before the
 * slack is there. A mark that was not (another libdeflate, or data that equal it) costs a second way,
 * ISA-L's. */
esk_status esk_deflate_decode_beginning(esk_scratch *scratch, const uint8_t *in, size_t size, uint8_t *out,
	size_t want, size_t *ret_size, esk_error *err)
{
	static const uint8_t mark[16] = {0xe5, 0x1c, 0x93, 0x7a, 0x0d, 0xb4, 0x68, 0x2f, 0xd1, 0x56, 0x8b,
		0x39, 0xfe, 0x42, 0xa7, 0x70};
	uint8_t *middle = out + want + ESK_DECODE_SLACK / 2;
	size_t got = 0;
	if (!zlib_header_ok(in, size))
		return esk_fail(err, ESK_ECORRUPT, "deflate: %zu bytes are no zlib stream", size);
	esk_status status = inflater_make(scratch, err);
	if (status != ESK_OK)
		return status;
	memcpy(middle, mark, sizeof mark);
	*ret_size = want;
	switch (libdeflate_deflate_decompress(
		scratch->inflater, in + 2, size - 2, out, want + ESK_DECODE_SLACK, &got)) {
	case LIBDEFLATE_SUCCESS:
		*ret_size = esk_min_u64(got, want);
		return ESK_OK;
	case LIBDEFLATE_INSUFFICIENT_SPACE:
		if (memcmp(middle, mark, sizeof mark) != 0)
			return ESK_OK;
		return inflate_prefix(scratch, in, size, out, want, ret_size, err);
	default:
		return esk_fail(err, ESK_ECORRUPT,
			"deflate: invalid data within the first %zu of %zu wanted bytes",
			want + ESK_DECODE_SLACK, want);
	}
}

static esk_status inflate_whole(esk_scratch *scratch, const uint8_t *in, size_t size, uint8_t *out,
	size_t limit, size_t *ret_size, esk_error *err)
{
	esk_status status = inflater_make(scratch, err);
	if (status != ESK_OK)
		return status;
	switch (libdeflate_zlib_decompress(scratch->inflater, in, size, out, limit, ret_size)) {
	case LIBDEFLATE_SUCCESS:
		return ESK_OK;
	case LIBDEFLATE_INSUFFICIENT_SPACE:
		return esk_fail(err, ESK_ECORRUPT, "deflate: %zu bytes inflate to more than the expected %zu",
			size, limit);
	default:
		return esk_fail(err, ESK_ECORRUPT,
			"deflate: %zu bytes are no valid zlib stream, or its checksum differs", size);
	}
}

esk_status esk_deflate_decode(const esk_filter *filter, esk_scratch *scratch, const uint8_t *in, size_t size,
	uint8_t *out, size_t capacity, size_t limit, size_t *ret_size, esk_error *err)
{
	if (capacity == limit && scratch->strict && size <= UINT32_MAX && limit <= UINT32_MAX)
		return inflate_strictly(scratch, in, size, out, limit, ret_size, err);
	if (capacity == limit)
		return inflate_whole(scratch, in, size, out, limit, ret_size, err);
	/* libdeflate is about 1.6 times as fast as ISA-L here, so that from some 6 tenths on all of the chunk
	 * and a copy come sooner than its beginning. */
	if (capacity < limit / 10 * 6 && size <= UINT32_MAX)
		return inflate_prefix(scratch, in, size, out, capacity, ret_size, err);
	uint8_t *whole;
	esk_status status = esk_scratch_buffer(scratch, ESK_BUFFER_STAGE, limit, &whole, err);
	if (status == ESK_OK)
		status = inflate_whole(scratch, in, size, whole, limit, ret_size, err);
	if (status != ESK_OK)
		return status;
	*ret_size = esk_min_u64(*ret_size, capacity);
	memcpy(out, whole, *ret_size);
	return ESK_OK;
}
