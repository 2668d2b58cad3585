/* The stages a pipeline is made of: one encoder and one decoder per filter, and the working memory they
 * share.
 *
 * What every stage keeps:
 *  1. It reads only [in, in + size) and writes only [out, out + capacity), whatever the bytes say.
 *  2. in and out do not overlap.
 *  3. A decoder that does not get what the filter's format promises returns ESK_ECORRUPT.
 *
 * May include: base, os, model, codec.h. */
#ifndef ESK_STAGE_H
#define ESK_STAGE_H

#include "codec/codec.h"

typedef struct esk_stage esk_stage;

/* Encodes `size` bytes. *ret_size is what was written, or 0 when the result does not fit into `capacity` or
 * the filter cannot take bytes of this size: then the caller leaves the filter out. */
typedef esk_status esk_encode_fn(const esk_filter *filter, esk_scratch *scratch, const uint8_t *in,
	size_t size, uint8_t *out, size_t capacity, size_t *ret_size, esk_error *err);

/* Decodes `size` bytes, which may mean up to `limit` bytes; more are ESK_ECORRUPT. With capacity < limit only
 * the first `capacity` bytes are wanted: the decoder stops once it has them. Else capacity == limit. */
typedef esk_status esk_decode_fn(const esk_filter *filter, esk_scratch *scratch, const uint8_t *in,
	size_t size, uint8_t *out, size_t capacity, size_t limit, size_t *ret_size, esk_error *err);

struct esk_stage {
	uint32_t id;
	const char *name;    /* HDF5's or the plugin's name */
	bool decodes_prefix; /* decode() takes capacity < limit */
	esk_status (*check)(const esk_filter *filter, esk_error *err);
	esk_encode_fn *encode;
	esk_decode_fn *decode;
};

/* The stage of a filter number; NULL for one that is not known here. */
const esk_stage *esk_stage_find(uint32_t id);

esk_status esk_deflate_check(const esk_filter *filter, esk_error *err);
esk_encode_fn esk_deflate_encode;
esk_decode_fn esk_deflate_decode;
esk_status esk_lzf_check(const esk_filter *filter, esk_error *err);
esk_encode_fn esk_lzf_encode;
esk_decode_fn esk_lzf_decode;
esk_status esk_szip_check(const esk_filter *filter, esk_error *err);
esk_encode_fn esk_szip_encode;
esk_decode_fn esk_szip_decode;
esk_status esk_zstd_check(const esk_filter *filter, esk_error *err);
esk_encode_fn esk_zstd_encode;
esk_decode_fn esk_zstd_decode;
esk_status esk_lz4_check(const esk_filter *filter, esk_error *err);
esk_encode_fn esk_lz4_encode;
esk_decode_fn esk_lz4_decode;
esk_status esk_blosc_check(const esk_filter *filter, esk_error *err);
esk_encode_fn esk_blosc_encode;
esk_decode_fn esk_blosc_decode;
esk_status esk_bitshuffle_check(const esk_filter *filter, esk_error *err);
esk_encode_fn esk_bitshuffle_encode;
esk_decode_fn esk_bitshuffle_decode;
esk_status esk_shuffle_check(const esk_filter *filter, esk_error *err);
esk_encode_fn esk_shuffle_encode;
esk_decode_fn esk_shuffle_decode;
esk_status esk_fletcher32_check(const esk_filter *filter, esk_error *err);

/* True if deflate of this filter runs over spans without gathering them (level 1). */
bool esk_deflate_streams(const esk_filter *filter);
/* Decodes the first `want` bytes; `out` has ESK_DECODE_SLACK more, which are overwritten. */
esk_status esk_deflate_decode_beginning(esk_scratch *scratch, const uint8_t *in, size_t size, uint8_t *out,
	size_t want, size_t *ret_size, esk_error *err);
/* As esk_deflate_encode, over spans followed by zeros up to `size` bytes. */
esk_status esk_deflate_encode_spans(esk_scratch *scratch, const esk_span *spans, size_t span_count,
	size_t size, uint8_t *out, size_t capacity, size_t *ret_size, esk_error *err);

/* ---- shuffle: byte b of element i <-> byte i of plane b ---- */
/* Spreads `count` elements of `element_bytes` at `in` over planes that start `stride` bytes apart at `out`.
 */
void esk_shuffle_planes(const uint8_t *in, uint8_t *out, size_t element_bytes, size_t stride, size_t count);
/* The inverse: gathers `count` elements from planes that start `stride` bytes apart at `in`. */
void esk_unshuffle_planes(const uint8_t *in, size_t stride, uint8_t *out, size_t element_bytes, size_t count);
/* Transposes each 8 bytes of `data` as an 8 x 8 matrix of bits; its own inverse. `size` is a multiple of 8.
 */
void esk_transpose_bits(uint8_t *data, size_t size);
/* Uses the named instruction set ("avx2", "sse2", "neon", "c") from now on; false if this machine has it not.
 * For tests: the choice is made by itself on first use. */
bool esk_simd_select(const char *name);

/* HDF5's Fletcher checksum: over big-endian 16-bit words, an odd last byte counting as the high half of one.
 */
uint32_t esk_fletcher32(const uint8_t *data, size_t size);

/* ---- bytes of the formats ---- */
static inline uint32_t esk_load_be32(const uint8_t *data)
{
	return (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 | (uint32_t)data[2] << 8 | data[3];
}
static inline uint64_t esk_load_be64(const uint8_t *data)
{
	return (uint64_t)esk_load_be32(data) << 32 | esk_load_be32(data + 4);
}
static inline uint32_t esk_load_le32(const uint8_t *data)
{
	return (uint32_t)data[3] << 24 | (uint32_t)data[2] << 16 | (uint32_t)data[1] << 8 | data[0];
}
static inline void esk_store_be32(uint8_t *data, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		data[i] = (uint8_t)(value >> (24 - 8 * i));
}
static inline void esk_store_be64(uint8_t *data, uint64_t value)
{
	esk_store_be32(data, (uint32_t)(value >> 32));
	esk_store_be32(data + 4, (uint32_t)value);
}
static inline void esk_store_le32(uint8_t *data, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		data[i] = (uint8_t)(value >> (8 * i));
}

/* ---- working memory ---- */
/* Buffers of a scratch. The pipeline keeps a chunk between two stages in the first two and a chunk's gathered
 * spans in the third; a stage may use those from ESK_BUFFER_STAGE for its own. */
enum {
	ESK_BUFFER_PING,
	ESK_BUFFER_PONG,
	ESK_BUFFER_GATHER,
	ESK_BUFFER_STAGE,
	ESK_BUFFER_STAGE_2,
	ESK_BUFFERS,
};

struct isal_zstream;
struct inflate_state;
struct libdeflate_compressor;
struct libdeflate_decompressor;
struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

struct esk_scratch {
	struct isal_zstream *deflate_stream; /* with the level-1 buffer behind it */
	struct inflate_state *inflate_state;
	struct libdeflate_compressor *deflaters[10]; /* by level */
	struct libdeflate_decompressor *inflater;
	struct ZSTD_CCtx_s *zstd_compressor;
	struct ZSTD_DCtx_s *zstd_decompressor;
	uint32_t *lzf_table;
	bool strict;
	struct {
		uint8_t *data;
		size_t capacity;
	} buffers[ESK_BUFFERS];
};

/* Buffer `index` with at least `size` bytes, aligned to 64; its content is lost when it grows. */
esk_status esk_scratch_buffer(
	esk_scratch *scratch, int index, size_t size, uint8_t **ret_data, esk_error *err);

#endif
