/* Compressed buffers: LZ4 frames and Zstandard, into memory of the size that the message says. */
#include "arrow/decoder.h"
#include <lz4frame.h>
#include <zstd.h>

/* The most that one byte can become: a byte of an LZ4 length stands for at most 255 bytes; the smallest block
 * of Zstandard has 4 bytes, the largest becomes 128 KiB. */
#define LZ4_RATIO 256
#define ZSTD_RATIO 32768

bool esk_arrow_ratio_possible(esk_arrow_codec codec, uint64_t size, uint64_t want)
{
	return want / (codec == ESK_ARROW_LZ4 ? LZ4_RATIO : ZSTD_RATIO) <= size;
}

void esk_arrow_codecs_free(esk_arrow_codecs *codecs)
{
	LZ4F_freeDecompressionContext(codecs->lz4);
	ZSTD_freeDCtx(codecs->zstd);
}

static esk_status decompress_zstd(esk_arrow_codecs *codecs, const uint8_t *from, uint64_t size, uint8_t *to,
	uint64_t want, esk_error *err)
{
	if (codecs->zstd == NULL)
		codecs->zstd = ZSTD_createDCtx();
	if (codecs->zstd == NULL)
		return esk_fail_memory(err, 0, "a Zstandard context");
	size_t made = ZSTD_decompressDCtx(codecs->zstd, to, want, from, size);
	if (ZSTD_isError(made))
		return esk_fail(
			err, ESK_ECORRUPT, "its Zstandard data are damaged: %s", ZSTD_getErrorName(made));
	if (made != want)
		return esk_fail(err, ESK_ECORRUPT, "its Zstandard data have %zu bytes: %llu were expected",
			made, (unsigned long long)want);
	return ESK_OK;
}

static esk_status decompress_lz4(esk_arrow_codecs *codecs, const uint8_t *from, uint64_t size, uint8_t *to,
	uint64_t want, esk_error *err)
{
	/* The buffer stays in place until the frame is whole, so nothing is kept aside. */
	static const LZ4F_decompressOptions_t options = {.stableDst = 1};
	if (codecs->lz4 == NULL) {
		LZ4F_dctx *context;
		if (LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION)))
			return esk_fail_memory(err, 0, "an LZ4 context");
		codecs->lz4 = context;
	}
	uint64_t made = 0, used = 0;
	for (;;) {
		size_t out = want - made, in = size - used;
		size_t more = LZ4F_decompress(codecs->lz4, to + made, &out, from + used, &in, &options);
		made += out;
		used += in;
		if (more == 0 && made == want)
			return ESK_OK; /* the frame ended, and the context is as new */
		if (!LZ4F_isError(more) && more != 0 && (out > 0 || in > 0))
			continue;
		LZ4F_resetDecompressionContext(codecs->lz4);
		if (LZ4F_isError(more))
			return esk_fail(
				err, ESK_ECORRUPT, "its LZ4 frame is damaged: %s", LZ4F_getErrorName(more));
		return esk_fail(err, ESK_ECORRUPT, "its LZ4 frame %s %llu bytes: %llu were expected",
			more == 0 ? "has" : "goes on behind", (unsigned long long)made,
			(unsigned long long)want);
	}
}

esk_status esk_arrow_decompress(esk_arrow_codecs *codecs, esk_arrow_codec codec, const uint8_t *from,
	uint64_t size, uint8_t *to, uint64_t want, esk_error *err)
{
	return codec == ESK_ARROW_LZ4 ? decompress_lz4(codecs, from, size, to, want, err)
				      : decompress_zstd(codecs, from, size, to, want, err);
}
