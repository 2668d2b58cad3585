/* The bitshuffle filter (32008). A chunk is cut into blocks of a multiple of 8 elements, the last one
 * shorter. In a block of n elements of e bytes, bit j of byte b of all elements stands together, 8 elements
 * to a byte: row (8 b + j) has n / 8 bytes. Up to 7 elements that are left over stand as they are at the end.
 * With LZ4 or Zstandard the blocks are compressed one by one:
 *
 *     8 bytes decoded size | 4 bytes block size in bytes | { 4 bytes size | block } ... | left-over elements
 *
 * sizes big-endian. Values: major, minor, element size, block elements (0: by element size), compression[,
 * level].
 *
 * A block is transposed by what shuffle has: bytes into planes, 8 x 8 bits within each plane, and the eight
 * bit rows of a plane apart by a shuffle of 8-byte elements. May use: base, liblz4, libzstd. */
#include "codec/stage.h"
#include <lz4.h>
#include <string.h>
#include <zstd.h>

enum {
	HEADER_BYTES = 12,
	MULTIPLE = 8,
	TARGET_BLOCK_BYTES = 8192, /* bitshuffle's default block: this much, but at least 128 elements */
	BLOCK_ELEMENTS_MIN = 128,
	PLAIN = 0,
	LZ4 = 2,
	ZSTD = 3,
};

typedef struct layout {
	size_t element_bytes;
	size_t block_elements;
	uint32_t compression;
	int level;
} layout;

static layout layout_of(const esk_filter *filter)
{
	const uint32_t *v = filter->values;
	layout l = {
		.element_bytes = v[2],
		.block_elements = filter->value_count > 3 ? v[3] : 0,
		.compression = filter->value_count > 4 ? v[4] : PLAIN,
		.level = filter->value_count > 5 ? (int)v[5] : 3,
	};
	if (l.block_elements == 0) {
		l.block_elements = TARGET_BLOCK_BYTES / l.element_bytes / MULTIPLE * MULTIPLE;
		l.block_elements = esk_max_u64(l.block_elements, BLOCK_ELEMENTS_MIN);
	}
	return l;
}

esk_status esk_bitshuffle_check(const esk_filter *filter, esk_error *err)
{
	const uint32_t *v = filter->values;
	if (filter->value_count < 3 || filter->value_count > 6 || v[2] == 0)
		return esk_fail(err, ESK_ECORRUPT,
			"filter bitshuffle: found %u values; expected 3 to 6 with an element size",
			filter->value_count);
	if (filter->value_count > 3 && v[3] % MULTIPLE != 0)
		return esk_fail(err, ESK_ECORRUPT,
			"filter bitshuffle: block of %u elements; expected a multiple of 8", v[3]);
	if (filter->value_count > 4 && v[4] != PLAIN && v[4] != LZ4 && v[4] != ZSTD)
		return esk_fail(err, ESK_EUNSUPPORTED,
			"filter bitshuffle: compression %u; expected 0 (none), 2 (LZ4) or 3 (Zstandard)",
			v[4]);
	return ESK_OK;
}

static void transpose(const uint8_t *in, uint8_t *out, uint8_t *planes, size_t elements, size_t element_bytes)
{
	esk_shuffle_planes(in, planes, element_bytes, elements, elements);
	esk_transpose_bits(planes, elements * element_bytes);
	for (size_t b = 0; b < element_bytes; b++)
		esk_shuffle_planes(planes + b * elements, out + b * elements, 8, elements / 8, elements / 8);
}

static void untranspose(
	const uint8_t *in, uint8_t *out, uint8_t *planes, size_t elements, size_t element_bytes)
{
	for (size_t b = 0; b < element_bytes; b++)
		esk_unshuffle_planes(in + b * elements, elements / 8, planes + b * elements, 8, elements / 8);
	esk_transpose_bits(planes, elements * element_bytes);
	esk_unshuffle_planes(planes, elements, out, element_bytes, elements);
}

/* Elements of the next block, with `left` elements to go; 0 when only left-over ones remain. */
static size_t next_block(const layout *l, size_t left)
{
	return esk_min_u64(l->block_elements, left) / MULTIPLE * MULTIPLE;
}

/* Two buffers for one block. */
static esk_status block_buffers(
	esk_scratch *scratch, const layout *l, size_t size, uint8_t **ret_a, uint8_t **ret_b, esk_error *err)
{
	size_t bytes = next_block(l, size / l->element_bytes) * l->element_bytes;
	esk_status status = esk_scratch_buffer(scratch, ESK_BUFFER_STAGE, bytes, ret_a, err);
	if (status == ESK_OK)
		status = esk_scratch_buffer(scratch, ESK_BUFFER_STAGE_2, bytes, ret_b, err);
	return status;
}

/* Compresses a transposed block with its size before it; 0 when it does not fit. */
static size_t block_compress(
	const layout *l, esk_scratch *scratch, const uint8_t *in, size_t size, uint8_t *out, size_t room)
{
	if (room < 4)
		return 0;
	size_t packed;
	if (l->compression == LZ4) {
		int result = LZ4_compress_default(
			(const char *)in, (char *)out + 4, (int)size, (int)esk_min_u64(room - 4, INT32_MAX));
		packed = result > 0 ? (size_t)result : 0;
	} else {
		packed = ZSTD_compressCCtx(scratch->zstd_compressor, out + 4, room - 4, in, size, l->level);
		packed = ZSTD_isError(packed) ? 0 : packed;
	}
	if (packed == 0)
		return 0;
	esk_store_be32(out, (uint32_t)packed);
	return 4 + packed;
}

esk_status esk_bitshuffle_encode(const esk_filter *filter, esk_scratch *scratch, const uint8_t *in,
	size_t size, uint8_t *out, size_t capacity, size_t *ret_size, esk_error *err)
{
	layout l = layout_of(filter);
	size_t block_bytes;
	*ret_size = 0;
	if (size % l.element_bytes != 0 ||
		__builtin_mul_overflow(l.block_elements, l.element_bytes, &block_bytes) ||
		block_bytes > LZ4_MAX_INPUT_SIZE || capacity < HEADER_BYTES ||
		(l.compression == PLAIN && capacity < size))
		return ESK_OK;
	if (l.compression == ZSTD && scratch->zstd_compressor == NULL &&
		(scratch->zstd_compressor = ZSTD_createCCtx()) == NULL)
		return esk_fail_memory(err, 1 << 20, "the zstd compressor");
	uint8_t *planes, *bits;
	esk_status status = block_buffers(scratch, &l, size, &planes, &bits, err);
	if (status != ESK_OK)
		return status;

	size_t written = 0;
	if (l.compression != PLAIN) {
		esk_store_be64(out, size);
		esk_store_be32(out + 8, (uint32_t)block_bytes);
		written = HEADER_BYTES;
	}
	size_t left = size / l.element_bytes;
	for (size_t elements; (elements = next_block(&l, left)) > 0; left -= elements) {
		size_t bytes = elements * l.element_bytes;
		size_t packed = bytes;
		if (l.compression == PLAIN) {
			transpose(in, out + written, planes, elements, l.element_bytes);
		} else {
			transpose(in, bits, planes, elements, l.element_bytes);
			packed = block_compress(&l, scratch, bits, bytes, out + written, capacity - written);
			if (packed == 0)
				return ESK_OK;
		}
		in += bytes;
		written += packed;
	}
	if (capacity - written < left * l.element_bytes)
		return ESK_OK;
	memcpy(out + written, in, left * l.element_bytes);
	*ret_size = written + left * l.element_bytes;
	return ESK_OK;
}

static esk_status header_read(
	layout *l, const uint8_t *in, size_t size, size_t limit, size_t *ret_total, esk_error *err)
{
	if (size < HEADER_BYTES)
		return esk_fail(err, ESK_ECORRUPT, "bitshuffle: %zu bytes; expected a header of 12", size);
	uint64_t total = esk_load_be64(in);
	uint32_t block_bytes = esk_load_be32(in + 8);
	if (block_bytes / l->element_bytes > 0)
		l->block_elements = block_bytes / l->element_bytes;
	if (l->block_elements % MULTIPLE != 0)
		return esk_fail(err, ESK_ECORRUPT,
			"bitshuffle: the header tells of blocks of %zu elements; expected a multiple of 8",
			l->block_elements);
	if (total > limit)
		return esk_fail(err, ESK_ECORRUPT,
			"bitshuffle: the header tells of %llu bytes; expected at most %zu",
			(unsigned long long)total, limit);
	if (next_block(l, total / l->element_bytes) * l->element_bytes > LZ4_MAX_INPUT_SIZE)
		return esk_fail(err, ESK_ECORRUPT,
			"bitshuffle: the header tells of blocks of %u bytes; expected at most %u",
			block_bytes, (unsigned)LZ4_MAX_INPUT_SIZE);
	*ret_total = total;
	return ESK_OK;
}

/* Takes one block's bytes from the data: decompressed into `bits`, or as they lie. NULL when they are
 * damaged. */
static const uint8_t *block_read(const layout *l, esk_scratch *scratch, const uint8_t *in, size_t size,
	size_t bytes, uint8_t *bits, size_t *ret_taken)
{
	if (l->compression == PLAIN) {
		*ret_taken = bytes;
		return size >= bytes ? in : NULL;
	}
	if (size < 4 || size - 4 < esk_load_be32(in))
		return NULL;
	size_t packed = esk_load_be32(in);
	*ret_taken = 4 + packed;
	if (packed > INT32_MAX)
		return NULL;
	size_t got;
	if (l->compression == LZ4) {
		int result = LZ4_decompress_safe((const char *)in + 4, (char *)bits, (int)packed, (int)bytes);
		got = result < 0 ? SIZE_MAX : (size_t)result;
	} else {
		got = ZSTD_decompressDCtx(scratch->zstd_decompressor, bits, bytes, in + 4, packed);
	}
	return got == bytes ? bits : NULL;
}

esk_status esk_bitshuffle_decode(const esk_filter *filter, esk_scratch *scratch, const uint8_t *in,
	size_t size, uint8_t *out, size_t capacity, size_t limit, size_t *ret_size, esk_error *err)
{
	layout l = layout_of(filter);
	if (l.compression == ZSTD && scratch->zstd_decompressor == NULL &&
		(scratch->zstd_decompressor = ZSTD_createDCtx()) == NULL)
		return esk_fail_memory(err, 1 << 18, "the zstd decompressor");
	size_t total = size;
	size_t read = 0;
	esk_status status = ESK_OK;
	if (l.compression != PLAIN) {
		status = header_read(&l, in, size, limit, &total, err);
		read = HEADER_BYTES;
	} else if (size > limit) {
		status = esk_fail(
			err, ESK_ECORRUPT, "bitshuffle: %zu bytes; expected at most %zu", size, limit);
	}
	if (status == ESK_OK && total % l.element_bytes != 0)
		status = esk_fail(err, ESK_ECORRUPT, "bitshuffle: %zu bytes are not whole elements of %zu",
			total, l.element_bytes);
	uint8_t *planes, *bits;
	if (status == ESK_OK)
		status = block_buffers(scratch, &l, total, &planes, &bits, err);
	if (status != ESK_OK)
		return status;

	size_t wanted = esk_min_u64(total, capacity);
	size_t written = 0;
	while (written < wanted) {
		size_t elements = next_block(&l, (total - written) / l.element_bytes);
		size_t bytes = elements * l.element_bytes;
		size_t taken = 0;
		if (elements == 0) {
			taken = esk_min_u64(total - written, wanted - written);
			if (size - read < taken)
				return esk_fail(err, ESK_ECORRUPT,
					"bitshuffle: the data end before the last elements");
			memcpy(out + written, in + read, taken);
			written += taken;
			break;
		}
		const uint8_t *block = block_read(&l, scratch, in + read, size - read, bytes, bits, &taken);
		if (block == NULL)
			return esk_fail(
				err, ESK_ECORRUPT, "bitshuffle: the block at byte %zu is damaged", written);
		read += taken;
		if (bytes <= wanted - written) {
			untranspose(block, out + written, planes, elements, l.element_bytes);
		} else {
			uint8_t *whole;
			status = esk_scratch_buffer(scratch, ESK_BUFFER_GATHER, bytes, &whole, err);
			if (status != ESK_OK)
				return status;
			untranspose(block, whole, planes, elements, l.element_bytes);
			memcpy(out + written, whole, wanted - written);
		}
		written += esk_min_u64(bytes, wanted - written);
	}
	*ret_size = written;
	return ESK_OK;
}
