/* The filters whose compressors are libraries: szip (4), blosc (32001), lz4 (32004), zstd (32015).
 * May use: base, libaec, libblosc, liblz4, libzstd. */
#include "codec/stage.h"
#include <blosc.h>
#include <lz4.h>
#include <string.h>
#include <szlib.h>
#include <zstd.h>

/* ---- zstd: one frame per chunk ---- */

esk_status esk_zstd_check(const esk_filter *filter, esk_error *err)
{
	return ESK_OK;
}

static int zstd_level(const esk_filter *filter)
{
	int level = filter->value_count > 0 ? (int)filter->values[0] : 3;
	if (level > ZSTD_maxCLevel())
		level = ZSTD_maxCLevel();
	return level < ZSTD_minCLevel() ? ZSTD_minCLevel() : level;
}

esk_status esk_zstd_encode(const esk_filter *filter, esk_scratch *scratch, const uint8_t *in, size_t size,
	uint8_t *out, size_t capacity, size_t *ret_size, esk_error *err)
{
	if (scratch->zstd_compressor == NULL && (scratch->zstd_compressor = ZSTD_createCCtx()) == NULL)
		return esk_fail_memory(err, 1 << 20, "the zstd compressor");
	size_t result =
		ZSTD_compressCCtx(scratch->zstd_compressor, out, capacity, in, size, zstd_level(filter));
	*ret_size = ZSTD_isError(result) ? 0 : result;
	return ESK_OK;
}

static esk_status zstd_prefix(esk_scratch *scratch, const uint8_t *in, size_t size, uint8_t *out,
	size_t capacity, size_t *ret_size, esk_error *err)
{
	ZSTD_inBuffer input = {in, size, 0};
	ZSTD_outBuffer output = {out, capacity, 0};
	ZSTD_DCtx_reset(scratch->zstd_decompressor, ZSTD_reset_session_only);
	size_t result = 1;
	while (output.pos < output.size && result != 0) {
		size_t before = input.pos + output.pos;
		result = ZSTD_decompressStream(scratch->zstd_decompressor, &output, &input);
		if (ZSTD_isError(result))
			return esk_fail(err, ESK_ECORRUPT, "zstd: %s after %zu of %zu wanted bytes",
				ZSTD_getErrorName(result), output.pos, capacity);
		if (input.pos + output.pos == before)
			break;
	}
	*ret_size = output.pos;
	return ESK_OK;
}

esk_status esk_zstd_decode(const esk_filter *filter, esk_scratch *scratch, const uint8_t *in, size_t size,
	uint8_t *out, size_t capacity, size_t limit, size_t *ret_size, esk_error *err)
{
	if (scratch->zstd_decompressor == NULL && (scratch->zstd_decompressor = ZSTD_createDCtx()) == NULL)
		return esk_fail_memory(err, 1 << 18, "the zstd decompressor");
	if (capacity < limit)
		return zstd_prefix(scratch, in, size, out, capacity, ret_size, err);
	size_t result = ZSTD_decompressDCtx(scratch->zstd_decompressor, out, capacity, in, size);
	if (ZSTD_isError(result))
		return esk_fail(err, ESK_ECORRUPT, "zstd: %zu bytes do not decode into %zu: %s", size,
			capacity, ZSTD_getErrorName(result));
	*ret_size = result;
	return ESK_OK;
}

/* ---- lz4: 8 bytes total size, 4 bytes block size, then blocks of 4 bytes size and data; all sizes
 * big-endian. A block that is as long as what it holds is stored as it is. ---- */

enum {
	LZ4_HEADER_BYTES = 12,
	LZ4_BLOCK_BYTES = 1 << 30, /* when the filter's value is 0 */
};

esk_status esk_lz4_check(const esk_filter *filter, esk_error *err)
{
	if (filter->value_count > 0 && filter->values[0] > LZ4_MAX_INPUT_SIZE)
		return esk_fail(err, ESK_ECORRUPT, "filter lz4: block size %u; expected at most %u",
			filter->values[0], (unsigned)LZ4_MAX_INPUT_SIZE);
	return ESK_OK;
}

esk_status esk_lz4_encode(const esk_filter *filter, esk_scratch *scratch, const uint8_t *in, size_t size,
	uint8_t *out, size_t capacity, size_t *ret_size, esk_error *err)
{
	size_t block = filter->value_count > 0 && filter->values[0] > 0 ? filter->values[0] : LZ4_BLOCK_BYTES;
	block = esk_min_u64(block, size);
	*ret_size = 0;
	if (capacity < LZ4_HEADER_BYTES)
		return ESK_OK;
	esk_store_be64(out, size);
	esk_store_be32(out + 8, (uint32_t)block);
	size_t written = LZ4_HEADER_BYTES;
	for (size_t read = 0; read < size;) {
		size_t take = esk_min_u64(block, size - read);
		if (capacity - written < 4)
			return ESK_OK;
		size_t room = esk_min_u64(capacity - written - 4, LZ4_MAX_INPUT_SIZE);
		int packed = LZ4_compress_default(
			(const char *)in + read, (char *)out + written + 4, (int)take, (int)room);
		size_t packed_bytes = packed > 0 ? (size_t)packed : take;
		if (packed_bytes >= take) {
			packed_bytes = take;
			if (room < take)
				return ESK_OK;
			memcpy(out + written + 4, in + read, take);
		}
		esk_store_be32(out + written, (uint32_t)packed_bytes);
		written += 4 + packed_bytes;
		read += take;
	}
	*ret_size = written;
	return ESK_OK;
}

/* Decodes one block to exactly `want` bytes: all of it, or its beginning. */
static bool lz4_block_decode(const uint8_t *in, size_t size, uint8_t *out, size_t want, bool whole)
{
	if (size > INT32_MAX || want > INT32_MAX)
		return false;
	const char *from = (const char *)in;
	int got = whole ? LZ4_decompress_safe(from, (char *)out, (int)size, (int)want)
			: LZ4_decompress_safe_partial(from, (char *)out, (int)size, (int)want, (int)want);
	return got == (int)want;
}

esk_status esk_lz4_decode(const esk_filter *filter, esk_scratch *scratch, const uint8_t *in, size_t size,
	uint8_t *out, size_t capacity, size_t limit, size_t *ret_size, esk_error *err)
{
	if (size < LZ4_HEADER_BYTES)
		return esk_fail(err, ESK_ECORRUPT, "lz4: %zu bytes; expected a header of 12", size);
	uint64_t total = esk_load_be64(in);
	size_t block = esk_load_be32(in + 8);
	if (total > limit)
		return esk_fail(err, ESK_ECORRUPT,
			"lz4: the header tells of %llu bytes; expected at most %zu",
			(unsigned long long)total, limit);
	if (block == 0 && total > 0)
		return esk_fail(err, ESK_ECORRUPT, "lz4: the header tells of a block size of 0");
	size_t wanted = esk_min_u64(total, capacity);
	size_t read = LZ4_HEADER_BYTES;
	size_t written = 0;
	while (written < wanted) {
		size_t whole = esk_min_u64(block, total - written);
		size_t want = esk_min_u64(whole, wanted - written);
		if (size - read < 4 || size - read - 4 < esk_load_be32(in + read))
			return esk_fail(
				err, ESK_ECORRUPT, "lz4: the data end inside the block at byte %zu", written);
		size_t packed = esk_load_be32(in + read);
		read += 4;
		if (packed == whole)
			memcpy(out + written, in + read, want);
		else if (!lz4_block_decode(in + read, packed, out + written, want, want == whole))
			return esk_fail(err, ESK_ECORRUPT,
				"lz4: the block at byte %zu does not decode to %zu bytes", written, want);
		read += packed;
		written += want;
	}
	*ret_size = written;
	return ESK_OK;
}

/* ---- blosc: values are filter version, format version, element size, chunk size, level, shuffle, compressor
 * ---- */

esk_status esk_blosc_check(const esk_filter *filter, esk_error *err)
{
	if (filter->value_count < 4)
		return esk_fail(err, ESK_ECORRUPT, "filter blosc: found %u values; expected 4 to 7",
			filter->value_count);
	return ESK_OK;
}

esk_status esk_blosc_encode(const esk_filter *filter, esk_scratch *scratch, const uint8_t *in, size_t size,
	uint8_t *out, size_t capacity, size_t *ret_size, esk_error *err)
{
	uint32_t level = filter->value_count > 4 ? filter->values[4] : 5;
	uint32_t shuffle = filter->value_count > 5 ? filter->values[5] : BLOSC_SHUFFLE;
	uint32_t code = filter->value_count > 6 ? filter->values[6] : BLOSC_BLOSCLZ;
	const char *compressor = NULL;
	*ret_size = 0;
	if (code > BLOSC_ZSTD || blosc_compcode_to_compname((int)code, &compressor) < 0 || level > 9 ||
		shuffle > 2)
		return esk_fail(err, ESK_EUNSUPPORTED,
			"filter blosc: level %u, shuffle %u, compressor %u cannot be written by the libblosc "
			"here",
			level, shuffle, code);
	if (size > BLOSC_MAX_BUFFERSIZE)
		return ESK_OK;
	int result = blosc_compress_ctx(
		(int)level, (int)shuffle, filter->values[2], size, in, out, capacity, compressor, 0, 1);
	*ret_size = result > 0 ? (size_t)result : 0;
	return ESK_OK;
}

esk_status esk_blosc_decode(const esk_filter *filter, esk_scratch *scratch, const uint8_t *in, size_t size,
	uint8_t *out, size_t capacity, size_t limit, size_t *ret_size, esk_error *err)
{
	size_t total = 0;
	if (size < BLOSC_MIN_HEADER_LENGTH || blosc_cbuffer_validate(in, size, &total) != 0)
		return esk_fail(err, ESK_ECORRUPT, "blosc: %zu bytes are no blosc buffer", size);
	if (total > capacity)
		return esk_fail(err, ESK_ECORRUPT,
			"blosc: the header tells of %zu bytes; expected at most %zu", total, capacity);
	int result = total == 0 ? 0 : blosc_decompress_ctx(in, out, capacity, 1);
	if (result < 0 || (size_t)result != total) {
		const char *library = blosc_cbuffer_complib(in);
		return esk_fail(err, ESK_ECORRUPT,
			"blosc: %zu bytes do not decode to %zu (compressed by %s; damaged, or not in the "
			"libblosc here)",
			size, total, library != NULL ? library : "an unknown library");
	}
	*ret_size = total;
	return ESK_OK;
}

/* ---- szip: four bytes of decoded size, little-endian, before the coded samples; values are options, pixels
 * per block, bits per pixel, pixels per scanline ---- */

enum { SZIP_HEADER_BYTES = 4 };

esk_status esk_szip_check(const esk_filter *filter, esk_error *err)
{
	const uint32_t *v = filter->values;
	bool fits = filter->value_count == 4;
	fits = fits && (v[1] >= 2 && v[1] <= SZ_MAX_PIXELS_PER_BLOCK && v[1] % 2 == 0);
	fits = fits && ((v[2] >= 1 && v[2] <= 32) || v[2] == 64);
	fits = fits && (v[3] >= 1 && v[3] <= SZ_MAX_PIXELS_PER_SCANLINE);
	fits = fits && (v[3] + v[1] - 1) / v[1] <= SZ_MAX_BLOCKS_PER_SCANLINE;
	if (!fits)
		return esk_fail(err, ESK_ECORRUPT,
			"filter szip: %u values {%u, %u, %u, %u}; expected options, an even 2 to 32 pixels "
			"per block, 1 to 32 or 64 bits per pixel, up to 128 blocks per scanline",
			filter->value_count, v[0], v[1], v[2], v[3]);
	return ESK_OK;
}

static SZ_com_t szip_settings(const esk_filter *filter)
{
	return (SZ_com_t){
		.options_mask = (int)filter->values[0],
		.pixels_per_block = (int)filter->values[1],
		.bits_per_pixel = (int)filter->values[2],
		.pixels_per_scanline = (int)filter->values[3],
	};
}

/* Bytes of one sample as the coder stores it. */
static size_t szip_sample_bytes(const esk_filter *filter)
{
	uint32_t bits = filter->values[2];
	return bits <= 8 ? 1 : bits <= 16 ? 2 : bits <= 32 ? 4 : 8;
}

esk_status esk_szip_encode(const esk_filter *filter, esk_scratch *scratch, const uint8_t *in, size_t size,
	uint8_t *out, size_t capacity, size_t *ret_size, esk_error *err)
{
	*ret_size = 0;
	if (capacity <= SZIP_HEADER_BYTES || size > UINT32_MAX || size % szip_sample_bytes(filter) != 0)
		return ESK_OK;
	SZ_com_t settings = szip_settings(filter);
	size_t packed = capacity - SZIP_HEADER_BYTES;
	if (SZ_BufftoBuffCompress(out + SZIP_HEADER_BYTES, &packed, in, size, &settings) != SZ_OK)
		return ESK_OK;
	esk_store_le32(out, (uint32_t)size);
	*ret_size = SZIP_HEADER_BYTES + packed;
	return ESK_OK;
}

esk_status esk_szip_decode(const esk_filter *filter, esk_scratch *scratch, const uint8_t *in, size_t size,
	uint8_t *out, size_t capacity, size_t limit, size_t *ret_size, esk_error *err)
{
	if (size < SZIP_HEADER_BYTES)
		return esk_fail(err, ESK_ECORRUPT, "szip: %zu bytes; expected a header of 4", size);
	size_t total = esk_load_le32(in);
	if (total > capacity || total % szip_sample_bytes(filter) != 0)
		return esk_fail(err, ESK_ECORRUPT,
			"szip: the header tells of %zu bytes; expected at most %zu of whole samples", total,
			capacity);
	SZ_com_t settings = szip_settings(filter);
	size_t found = total;
	int result = SZ_BufftoBuffDecompress(
		out, &found, in + SZIP_HEADER_BYTES, size - SZIP_HEADER_BYTES, &settings);
	if (result != SZ_OK || found != total)
		return esk_fail(err, ESK_ECORRUPT, "szip: %zu bytes decode to %zu of %zu (libaec code %d)",
			size, found, total, result);
	*ret_size = total;
	return ESK_OK;
}
