/* Chunk codecs: HDF5 filter pipelines without libhdf5.
 *
 * A pipeline is the list of filters that a dataset's creation properties hold. encode() makes exactly the
 * bytes (and filter mask) that HDF5's own pipeline would accept from H5Dwrite_chunk, decode() takes what
 * H5Dread_chunk would give. Sources: the HDF5 filter registry and each filter's published format. May
 * include: base, os, model.
 *
 * Thread-safety: a pipeline is immutable after it is built and may be shared; a scratch belongs to one thread
 * at a time. */
#ifndef ESK_CODEC_H
#define ESK_CODEC_H

#include "base/base.h"
#include "model/model.h"
#include <esker/codec.h>

#define ESK_MAX_FILTERS 8
#define ESK_MAX_FILTER_VALUES 20

/* Registered HDF5 filter numbers. */
enum {
	ESK_FILTER_DEFLATE = 1,
	ESK_FILTER_SHUFFLE = 2,
	ESK_FILTER_FLETCHER32 = 3,
	ESK_FILTER_SZIP = 4,
	ESK_FILTER_LZF = 32000,
	ESK_FILTER_BLOSC = 32001,
	ESK_FILTER_LZ4 = 32004,
	ESK_FILTER_BITSHUFFLE = 32008,
	ESK_FILTER_ZSTD = 32015,
};

typedef struct esk_filter {
	uint32_t id;
	bool optional; /* H5Z_FLAG_OPTIONAL: a chunk may skip it through its filter mask */
	uint32_t value_count;
	uint32_t values[ESK_MAX_FILTER_VALUES]; /* cd_values as HDF5 stores them in the file */
} esk_filter;

typedef struct esk_pipeline {
	uint32_t count;
	uint32_t element_bytes;
	uint64_t chunk_bytes;                /* of a decoded chunk */
	esk_filter filters[ESK_MAX_FILTERS]; /* in the order of encoding */
} esk_pipeline;

/* A piece of a chunk's bytes. */
typedef struct esk_span {
	const void *data;
	size_t size_bytes;
} esk_span;

/* Builds the pipeline that `spec` (esker/codec.h) means for chunks of `column` with `chunk_rows` rows: the
 * filters with the cd_values that HDF5 (or the plugin's set_local) would have stored. Errors as
 * esk_codec_check; ESK_EUNSUPPORTED where the codec cannot take the dtype (szip and 16-byte elements, …). */
esk_status esk_pipeline_build(const char *spec, const esk_column *column, uint64_t chunk_rows,
	esk_pipeline *ret_pipeline, esk_error *err);

/* Checks a pipeline that was read from a file: every filter known, values in bounds. ESK_EUNSUPPORTED names
 * the filter. */
esk_status esk_pipeline_check(const esk_pipeline *pipeline, esk_error *err);

/* The spec text that means this pipeline ("gzip:1+shuffle"), for display; returns the length. */
size_t esk_pipeline_format(const esk_pipeline *pipeline, char *buf, size_t buf_bytes);

/* Codec working memory of one thread: compressor states and buffers, made on first use and kept. */
typedef struct esk_scratch esk_scratch;
esk_scratch *esk_scratch_create(void); /* NULL when memory runs out */
void esk_scratch_destroy(esk_scratch *scratch);
/* While it is strict, whole deflate streams are refused exactly where zlib, and so stock HDF5, refuses them.
 * Otherwise code lengths that lead nowhere may pass: the bytes decoded are right all the same. */
void esk_scratch_set_strict(esk_scratch *scratch, bool strict);

/* Room that esk_pipeline_encode needs at most. */
size_t esk_pipeline_bound(const esk_pipeline *pipeline);

/* Encodes one chunk whose bytes are the spans one after the other and then zeros up to chunk_bytes. No copy
 * of the spans is made where the codec streams (deflate level 1 without shuffle). *ret_filter_mask has bit i
 * set when filter i was left out because the chunk did not shrink; then the bytes are those before that
 * filter. `out` holds out_bytes >= esk_pipeline_bound. */
esk_status esk_pipeline_encode(const esk_pipeline *pipeline, esk_scratch *scratch, const esk_span *spans,
	size_t span_count, void *out, size_t out_bytes, size_t *ret_size, uint32_t *ret_filter_mask,
	esk_error *err);

/* Decodes the first `want_bytes` bytes of a chunk (chunk_bytes for all) into `out`, which has room for
 * exactly want_bytes. Streaming codecs stop there; checksums are checked when everything is decoded. Every
 * length in `data` is checked: hostile bytes give ESK_ECORRUPT, never a read or write out of bounds. */
esk_status esk_pipeline_decode(const esk_pipeline *pipeline, esk_scratch *scratch, uint32_t filter_mask,
	const void *data, size_t size, void *out, size_t want_bytes, esk_error *err);

/* The same where `out` has room for out_bytes, and bytes behind want_bytes may be overwritten: with
 * ESK_DECODE_SLACK of them, beginnings of deflated chunks come in 0.6 of the time. */
#define ESK_DECODE_SLACK 1024u
esk_status esk_pipeline_decode_roomy(const esk_pipeline *pipeline, esk_scratch *scratch, uint32_t filter_mask,
	const void *data, size_t size, void *out, size_t out_bytes, size_t want_bytes, esk_error *err);

/* Name of the instruction set that shuffle runs with here: "avx2", "sse2", "neon", "c". */
const char *esk_codec_simd(void);

#endif
