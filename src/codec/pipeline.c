/* Runs a chunk through the filters of a pipeline, forwards and backwards.
 *
 * Encoding, for the pipelines that Esker makes itself, moves the bytes as few times as it can:
 *
 *     spans ── gzip:1 ─────────────────────────────► out     (streams over the spans, zero tail included)
 *     spans ── shuffle ──► ping ── compressor ─────► out     (shuffle gathers the spans on its way)
 *     spans ── none ───────────────────────────────► out
 *
 * and for any other order of known filters goes back and forth between two buffers. Where the chunk does not
 * shrink, the compressor is left out, and the shuffles before it with it, and the mask says so.
 *
 * What holds between two stages:
 *  1. The current bytes are either still the caller's spans or lie in one buffer, never both.
 *  2. A stage writes to `out` only if no stage that moves bytes comes after it.
 *  3. Every buffer has esk_pipeline_bound bytes.
 *
 * May use: base, the stages. */
#include "codec/stage.h"
#include <string.h>

enum { FLETCHER32_BYTES = 4 };

static const esk_stage stages[] = {
	{ESK_FILTER_DEFLATE, "deflate", true, esk_deflate_check, esk_deflate_encode, esk_deflate_decode},
	{ESK_FILTER_SHUFFLE, "shuffle", true, esk_shuffle_check, esk_shuffle_encode, esk_shuffle_decode},
	{ESK_FILTER_FLETCHER32, "fletcher32", false, esk_fletcher32_check, NULL, NULL},
	{ESK_FILTER_SZIP, "szip", false, esk_szip_check, esk_szip_encode, esk_szip_decode},
	{ESK_FILTER_LZF, "lzf", true, esk_lzf_check, esk_lzf_encode, esk_lzf_decode},
	{ESK_FILTER_BLOSC, "blosc", false, esk_blosc_check, esk_blosc_encode, esk_blosc_decode},
	{ESK_FILTER_LZ4, "lz4", true, esk_lz4_check, esk_lz4_encode, esk_lz4_decode},
	{ESK_FILTER_BITSHUFFLE, "bitshuffle", true, esk_bitshuffle_check, esk_bitshuffle_encode,
		esk_bitshuffle_decode},
	{ESK_FILTER_ZSTD, "zstd", true, esk_zstd_check, esk_zstd_encode, esk_zstd_decode},
};

const esk_stage *esk_stage_find(uint32_t id)
{
	for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++)
		if (stages[i].id == id)
			return &stages[i];
	return NULL;
}

/* Filters that HDF5 or its registry know and this library does not run. */
static const char *foreign_name(uint32_t id)
{
	switch (id) {
	case 5:
		return "nbit";
	case 6:
		return "scaleoffset";
	case 307:
		return "bzip2";
	case 32013:
		return "zfp";
	case 32017:
		return "sz";
	case 32024:
		return "sz3";
	case 32026:
		return "blosc2";
	default:
		return "not known here";
	}
}

esk_status esk_pipeline_check(const esk_pipeline *pipeline, esk_error *err)
{
	if (pipeline->count > ESK_MAX_FILTERS)
		return esk_fail(err, ESK_EUNSUPPORTED, "%u filters; expected at most %d", pipeline->count,
			ESK_MAX_FILTERS);
	if (pipeline->chunk_bytes == 0 || pipeline->chunk_bytes > UINT32_MAX)
		return esk_fail(err, ESK_ECORRUPT, "chunk of %llu bytes; expected 1 byte to 4 GiB",
			(unsigned long long)pipeline->chunk_bytes);
	for (uint32_t i = 0; i < pipeline->count; i++) {
		const esk_filter *filter = &pipeline->filters[i];
		const esk_stage *stage = esk_stage_find(filter->id);
		if (stage == NULL)
			return esk_fail(err, ESK_EUNSUPPORTED,
				"filter %u (%s) is not one of deflate, shuffle, fletcher32, szip, lzf, "
				"blosc, lz4, bitshuffle, zstd",
				filter->id, foreign_name(filter->id));
		if (filter->value_count > ESK_MAX_FILTER_VALUES)
			return esk_fail(err, ESK_EUNSUPPORTED,
				"filter %u (%s) has %u values; expected at most %d", filter->id, stage->name,
				filter->value_count, ESK_MAX_FILTER_VALUES);
		esk_status status = stage->check(filter, err);
		if (status != ESK_OK)
			return status;
	}
	return ESK_OK;
}

size_t esk_pipeline_bound(const esk_pipeline *pipeline)
{
	/* Compressors never grow a chunk here; a checksum does. */
	size_t bound = pipeline->chunk_bytes;
	for (uint32_t i = 0; i < pipeline->count; i++)
		if (pipeline->filters[i].id == ESK_FILTER_FLETCHER32)
			bound += FLETCHER32_BYTES;
	return bound;
}

/* ---- encode ---- */

typedef struct encoding {
	const esk_pipeline *pipeline;
	esk_scratch *scratch;
	const esk_span *spans;
	size_t span_count;
	uint8_t *out;
	const uint8_t *data; /* NULL while the bytes are still the spans */
	size_t size;
	uint32_t mask;
	bool only_shuffled; /* nothing but shuffles was applied so far: the spans say the same */
} encoding;

/* True if a filter behind `index` moves bytes, that is, anything but a checksum. */
static bool mover_follows(const esk_pipeline *pipeline, uint32_t index)
{
	for (uint32_t i = index + 1; i < pipeline->count; i++)
		if (pipeline->filters[i].id != ESK_FILTER_FLETCHER32)
			return true;
	return false;
}

/* Where stage `index` writes: out for the last one, else a buffer that does not hold the current bytes. */
static esk_status target_choose(encoding *e, uint32_t index, uint8_t **ret_target, esk_error *err)
{
	if (!mover_follows(e->pipeline, index)) {
		*ret_target = e->out;
		return ESK_OK;
	}
	size_t bound = esk_pipeline_bound(e->pipeline);
	int buffer = e->data != NULL && e->data == e->scratch->buffers[ESK_BUFFER_PING].data
			     ? ESK_BUFFER_PONG
			     : ESK_BUFFER_PING;
	return esk_scratch_buffer(e->scratch, buffer, bound, ret_target, err);
}

static void spans_gather(const encoding *e, uint8_t *to)
{
	size_t done = 0;
	for (size_t i = 0; i < e->span_count; i++) {
		if (e->spans[i].size_bytes > 0)
			memcpy(to + done, e->spans[i].data, e->spans[i].size_bytes);
		done += e->spans[i].size_bytes;
	}
	memset(to + done, 0, e->pipeline->chunk_bytes - done);
}

/* Makes the bytes one piece: a single span that is the whole chunk as it lies, otherwise a copy. */
static esk_status spans_join(encoding *e, uint32_t index, bool writable, esk_error *err)
{
	if (e->data != NULL)
		return ESK_OK;
	if (!writable && e->span_count == 1 && e->spans[0].size_bytes == e->pipeline->chunk_bytes) {
		e->data = e->spans[0].data;
		return ESK_OK;
	}
	uint8_t *to = e->out;
	if (mover_follows(e->pipeline, index) || !writable) {
		esk_status status = esk_scratch_buffer(
			e->scratch, ESK_BUFFER_GATHER, esk_pipeline_bound(e->pipeline), &to, err);
		if (status != ESK_OK)
			return status;
	}
	spans_gather(e, to);
	e->data = to;
	return ESK_OK;
}

static void spans_restore(encoding *e)
{
	e->data = NULL;
	e->size = e->pipeline->chunk_bytes;
}

static esk_status checksum_append(encoding *e, uint32_t index, esk_error *err)
{
	esk_status status = spans_join(e, index, true, err);
	if (status != ESK_OK)
		return status;
	/* Joined for writing or made by a stage: the buffer is ours, and large enough (invariant 3). */
	uint8_t *data = (uint8_t *)(uintptr_t)e->data;
	esk_store_le32(data + e->size, esk_fletcher32(data, e->size));
	e->size += FLETCHER32_BYTES;
	e->only_shuffled = false;
	return ESK_OK;
}

/* Shuffles the spans without gathering them first. False when an element lies across two spans. */
static bool spans_shuffle(const encoding *e, size_t element_bytes, uint8_t *to)
{
	size_t total = e->pipeline->chunk_bytes;
	size_t planes = total / element_bytes;
	if (total % element_bytes != 0)
		return false;
	for (size_t i = 0; i < e->span_count; i++)
		if (e->spans[i].size_bytes % element_bytes != 0)
			return false;
	size_t done = 0;
	for (size_t i = 0; i < e->span_count; i++) {
		size_t count = e->spans[i].size_bytes / element_bytes;
		if (count > 0)
			esk_shuffle_planes(e->spans[i].data, to + done, element_bytes, planes, count);
		done += count;
	}
	for (size_t b = 0; b < element_bytes && done < planes; b++)
		memset(to + b * planes + done, 0, planes - done);
	return true;
}

static esk_status shuffle_apply(encoding *e, uint32_t index, esk_error *err)
{
	const esk_filter *filter = &e->pipeline->filters[index];
	uint8_t *to;
	esk_status status = target_choose(e, index, &to, err);
	if (status != ESK_OK)
		return status;
	if (e->data != NULL || !spans_shuffle(e, filter->values[0], to)) {
		status = spans_join(e, index, false, err);
		if (status != ESK_OK)
			return status;
		size_t size;
		status = esk_shuffle_encode(filter, e->scratch, e->data, e->size, to, e->size, &size, err);
	}
	e->data = to;
	return status;
}

static esk_status compressor_apply(encoding *e, uint32_t index, esk_error *err)
{
	const esk_filter *filter = &e->pipeline->filters[index];
	uint8_t *to;
	esk_status status = target_choose(e, index, &to, err);
	if (status != ESK_OK)
		return status;
	size_t packed = 0;
	size_t capacity = e->size - 1; /* the result must be smaller than what it replaces */
	if (e->data == NULL && filter->id == ESK_FILTER_DEFLATE && esk_deflate_streams(filter)) {
		status = esk_deflate_encode_spans(
			e->scratch, e->spans, e->span_count, e->size, to, capacity, &packed, err);
	} else {
		bool from_spans = e->data == NULL;
		status = spans_join(e, index, false, err);
		if (status == ESK_OK)
			status = esk_stage_find(filter->id)
					 ->encode(filter, e->scratch, e->data, e->size, to, capacity, &packed,
						 err);
		if (from_spans && packed == 0)
			spans_restore(e);
	}
	if (status != ESK_OK)
		return status;
	if (packed > 0) {
		e->data = to;
		e->size = packed;
		e->only_shuffled = false;
		return ESK_OK;
	}
	e->mask |= 1u << index;
	if (e->only_shuffled && e->data != NULL && !mover_follows(e->pipeline, index)) {
		/* Shuffled bytes are of no use to anyone: the chunk is stored as it came. */
		e->mask |= (1u << index) - 1;
		spans_restore(e);
	}
	return ESK_OK;
}

static esk_status spans_check(
	const esk_pipeline *pipeline, const esk_span *spans, size_t span_count, esk_error *err)
{
	size_t total = 0;
	for (size_t i = 0; i < span_count; i++)
		if (__builtin_add_overflow(total, spans[i].size_bytes, &total) ||
			total > pipeline->chunk_bytes)
			return esk_fail(err, ESK_EINVAL,
				"the pieces of a chunk hold more than its %llu bytes",
				(unsigned long long)pipeline->chunk_bytes);
	return ESK_OK;
}

esk_status esk_pipeline_encode(const esk_pipeline *pipeline, esk_scratch *scratch, const esk_span *spans,
	size_t span_count, void *out, size_t out_bytes, size_t *ret_size, uint32_t *ret_filter_mask,
	esk_error *err)
{
	esk_status status = esk_pipeline_check(pipeline, err);
	if (status == ESK_OK)
		status = spans_check(pipeline, spans, span_count, err);
	if (status == ESK_OK && out_bytes < esk_pipeline_bound(pipeline))
		status = esk_fail(err, ESK_EINVAL,
			"room for %zu bytes of an encoded chunk; expected at least %zu", out_bytes,
			esk_pipeline_bound(pipeline));
	if (status != ESK_OK)
		return status;

	encoding e = {
		.pipeline = pipeline,
		.scratch = scratch,
		.spans = spans,
		.span_count = span_count,
		.out = out,
		.size = pipeline->chunk_bytes,
		.only_shuffled = true,
	};
	for (uint32_t i = 0; i < pipeline->count; i++) {
		if (pipeline->filters[i].id == ESK_FILTER_FLETCHER32)
			status = checksum_append(&e, i, err);
		else if (pipeline->filters[i].id == ESK_FILTER_SHUFFLE)
			status = shuffle_apply(&e, i, err);
		else
			status = compressor_apply(&e, i, err);
		if (status != ESK_OK)
			return status;
	}
	if (e.data == NULL)
		spans_gather(&e, out);
	else if (e.data != out)
		memcpy(out, e.data, e.size);
	*ret_size = e.size;
	*ret_filter_mask = e.mask;
	return ESK_OK;
}

/* ---- decode ---- */

typedef struct decoding {
	const esk_pipeline *pipeline;
	esk_scratch *scratch;
	uint32_t mask;
	const uint8_t *data;
	size_t size;
	uint8_t *out;
	size_t out_bytes;
	size_t want;
} decoding;

/* The most bytes that may stand before filter `index`: filters of other programs may have grown the chunk a
 * little. */
static size_t size_limit(const esk_pipeline *pipeline, uint32_t mask, uint32_t index)
{
	size_t limit = pipeline->chunk_bytes;
	for (uint32_t i = 0; i < index; i++) {
		if (mask & 1u << i || pipeline->filters[i].id == ESK_FILTER_SHUFFLE)
			continue;
		if (pipeline->filters[i].id == ESK_FILTER_FLETCHER32)
			limit += FLETCHER32_BYTES;
		else
			limit += limit / 4 + 4096;
	}
	return limit;
}

static esk_status checksum_verify(decoding *d, esk_error *err)
{
	if (d->size < FLETCHER32_BYTES)
		return esk_fail(err, ESK_ECORRUPT,
			"fletcher32: %zu bytes; expected a checksum of 4 at the end", d->size);
	d->size -= FLETCHER32_BYTES;
	uint32_t found = esk_load_le32(d->data + d->size);
	uint32_t expected = esk_fletcher32(d->data, d->size);
	/* HDF5 up to 1.6.2 swapped the bytes of each half on little-endian machines, and still takes such
	 * sums. */
	uint32_t swapped = (expected & 0x00ff00ffu) << 8 | (expected & 0xff00ff00u) >> 8;
	if (found != expected && found != swapped)
		return esk_fail(err, ESK_ECORRUPT,
			"fletcher32: checksum of %zu bytes is %08x; the chunk says %08x", d->size, expected,
			found);
	return ESK_OK;
}

static esk_status stage_undo(decoding *d, uint32_t index, bool last, esk_error *err)
{
	const esk_filter *filter = &d->pipeline->filters[index];
	const esk_stage *stage = esk_stage_find(filter->id);
	size_t limit = size_limit(d->pipeline, d->mask, index);
	uint8_t *to = d->out;
	size_t capacity = d->want;
	esk_status status = ESK_OK;
	if (!last || (d->want < limit && !stage->decodes_prefix)) {
		capacity = limit;
		int buffer = d->data == d->scratch->buffers[ESK_BUFFER_PING].data ? ESK_BUFFER_PONG
										  : ESK_BUFFER_PING;
		status = esk_scratch_buffer(d->scratch, buffer, limit, &to, err);
	}
	size_t size = 0;
	bool roomy = last && filter->id == ESK_FILTER_DEFLATE && d->want < limit &&
		     d->out_bytes - d->want >= ESK_DECODE_SLACK;
	if (roomy)
		status = esk_deflate_decode_beginning(d->scratch, d->data, d->size, to, d->want, &size, err);
	else if (status == ESK_OK)
		status = stage->decode(filter, d->scratch, d->data, d->size, to, capacity, limit, &size, err);
	if (status == ESK_OK && last && size != capacity)
		status = esk_fail(err, ESK_ECORRUPT, "%s: %zu bytes decode to %zu; expected %zu", stage->name,
			d->size, size, capacity);
	d->data = to;
	d->size = size;
	return status;
}

/* True if every filter before `index` is skipped, so that its output is the chunk. */
static bool is_last(uint32_t mask, uint32_t index)
{
	uint32_t before = (1u << index) - 1;
	return (mask & before) == before;
}

esk_status esk_pipeline_decode(const esk_pipeline *pipeline, esk_scratch *scratch, uint32_t filter_mask,
	const void *data, size_t size, void *out, size_t want_bytes, esk_error *err)
{
	return esk_pipeline_decode_roomy(
		pipeline, scratch, filter_mask, data, size, out, want_bytes, want_bytes, err);
}

esk_status esk_pipeline_decode_roomy(const esk_pipeline *pipeline, esk_scratch *scratch, uint32_t filter_mask,
	const void *data, size_t size, void *out, size_t out_bytes, size_t want_bytes, esk_error *err)
{
	esk_status status = esk_pipeline_check(pipeline, err);
	if (status == ESK_OK && (want_bytes > pipeline->chunk_bytes || want_bytes > out_bytes))
		status = esk_fail(err, ESK_ERANGE, "%zu bytes wanted of a chunk of %llu, with room for %zu",
			want_bytes, (unsigned long long)pipeline->chunk_bytes, out_bytes);
	if (status != ESK_OK || want_bytes == 0)
		return status;
	decoding d = {
		.pipeline = pipeline,
		.scratch = scratch,
		.mask = filter_mask,
		.data = data,
		.size = size,
		.out = out,
		.out_bytes = out_bytes,
		.want = want_bytes,
	};
	for (uint32_t i = pipeline->count; i-- > 0;) {
		if (filter_mask & 1u << i)
			continue;
		if (pipeline->filters[i].id == ESK_FILTER_FLETCHER32)
			status = checksum_verify(&d, err);
		else
			status = stage_undo(&d, i, is_last(filter_mask, i), err);
		if (status != ESK_OK)
			return status;
	}
	if (d.data == out)
		return ESK_OK;
	if (d.size != pipeline->chunk_bytes)
		return esk_fail(err, ESK_ECORRUPT, "chunk of %zu bytes; expected %llu", d.size,
			(unsigned long long)pipeline->chunk_bytes);
	memcpy(out, d.data, want_bytes);
	return ESK_OK;
}
