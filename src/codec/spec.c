/* Codec specs: text to pipeline and back. The values are those that HDF5's set_local callbacks, or h5py's and
 * the plugins', store in a file. May use: base, model, the public headers. */
#include "codec/stage.h"
#include <stdio.h>
#include <string.h>

typedef struct codec {
	const char *name;
	uint32_t filter; /* 0: none */
	int level_min;   /* 0: takes no level */
	int level_max;
	int level_default;
	bool shuffle; /* helped by shuffle, on by itself from 2-byte elements */
	const char *needs;
} codec;

static const codec codecs[] = {
	{"none", 0, 0, 0, 0, false, ""},
	{"gzip", ESK_FILTER_DEFLATE, 1, 9, 1, true, ""},
	{"lzf", ESK_FILTER_LZF, 0, 0, 0, true, "the lzf filter (32000), which h5py brings along"},
	{"szip", ESK_FILTER_SZIP, 0, 0, 0, false, "an HDF5 that was built with szip (filter 4)"},
	{"zstd", ESK_FILTER_ZSTD, 1, 22, 3, true, "the zstd plugin (filter 32015)"},
	{"lz4", ESK_FILTER_LZ4, 0, 0, 0, true, "the lz4 plugin (filter 32004)"},
	{"blosc", ESK_FILTER_BLOSC, 0, 0, 0, false, "the blosc plugin (filter 32001)"},
	{"bitshuffle", ESK_FILTER_BITSHUFFLE, 0, 0, 0, false, "the bitshuffle plugin (filter 32008)"},
};
enum { CODECS = sizeof codecs / sizeof codecs[0] };

#define KNOWN                                                                                          \
	"none, gzip[:1-9], lzf, szip, zstd[:1-22], lz4, blosc, bitshuffle, each with any of +shuffle " \
	"-shuffle "                                                                                    \
	"+fletcher32 -fletcher32 behind it"

typedef enum choice { CHOICE_AUTO, CHOICE_ON, CHOICE_OFF } choice;

typedef struct parsed {
	const codec *codec;
	int level;
	choice shuffle;
	bool fletcher32;
} parsed;

static esk_status level_parse(
	const char *spec, const codec *c, const char *text, size_t size, int *ret, esk_error *err)
{
	if (c->level_max == 0)
		return esk_fail(
			err, ESK_EINVAL, "codec '%s': %s takes no level; write '%s'", spec, c->name, c->name);
	int level = 0;
	for (size_t i = 0; i < size; i++) {
		if (text[i] < '0' || text[i] > '9')
			return esk_fail(err, ESK_EINVAL,
				"codec '%s': the level of %s is '%.*s'; expected a number %d to %d", spec,
				c->name, (int)size, text, c->level_min, c->level_max);
		if (level < 1000)
			level = level * 10 + (text[i] - '0');
	}
	if (size == 0)
		return esk_fail(err, ESK_EINVAL,
			"codec '%s': no level behind ':'; expected a number %d to %d", spec, c->level_min,
			c->level_max);
	if (level < c->level_min || level > c->level_max)
		return esk_fail(err, ESK_ERANGE, "codec '%s': level %.*s is outside %s's %d to %d", spec,
			(int)size, text, c->name, c->level_min, c->level_max);
	*ret = level;
	return ESK_OK;
}

static esk_status option_parse(const char *spec, const char *text, size_t size, parsed *p, esk_error *err)
{
	bool on = text[0] == '+';
	if (size == 8 && memcmp(text + 1, "shuffle", 7) == 0)
		p->shuffle = on ? CHOICE_ON : CHOICE_OFF;
	else if (size == 11 && memcmp(text + 1, "fletcher32", 10) == 0)
		p->fletcher32 = on;
	else
		return esk_fail(err, ESK_EINVAL, "codec '%s': unknown option '%.*s'; known: " KNOWN, spec,
			(int)size, text);
	return ESK_OK;
}

/* An empty spec is the default. */
static esk_status spec_parse(const char *spec, parsed *ret, esk_error *err)
{
	if (spec == NULL || spec[0] == '\0')
		spec = "gzip:1";
	parsed p = {.shuffle = CHOICE_AUTO};
	size_t name_size = strcspn(spec, ":+-");
	for (int i = 0; i < CODECS; i++)
		if (strlen(codecs[i].name) == name_size && memcmp(codecs[i].name, spec, name_size) == 0)
			p.codec = &codecs[i];
	if (p.codec == NULL)
		return esk_fail(err, ESK_EINVAL, "codec '%s': unknown codec '%.*s'; known: " KNOWN, spec,
			(int)name_size, spec);
	p.level = p.codec->level_default;
	const char *rest = spec + name_size;
	esk_status status = ESK_OK;
	if (*rest == ':') {
		size_t size = strcspn(rest + 1, "+-");
		status = level_parse(spec, p.codec, rest + 1, size, &p.level, err);
		rest += 1 + size;
	}
	while (status == ESK_OK && *rest != '\0') {
		size_t size = 1 + strcspn(rest + 1, "+-");
		status = option_parse(spec, rest, size, &p, err);
		rest += size;
	}
	if (status == ESK_OK && p.shuffle == CHOICE_ON && p.codec->filter == ESK_FILTER_BITSHUFFLE)
		status = esk_fail(err, ESK_EINVAL,
			"codec '%s': bitshuffle rearranges the bytes itself; leave out +shuffle", spec);
	if (status == ESK_OK)
		*ret = p;
	return status;
}

esk_status esk_codec_check(const char *spec, esk_error *err)
{
	parsed p;
	return spec_parse(spec, &p, err);
}

const char *esk_codec_reader_needs(const char *spec)
{
	parsed p;
	return spec_parse(spec, &p, NULL) == ESK_OK ? p.codec->needs : "";
}

/* ---- text to pipeline ---- */

static esk_filter *pipeline_add(esk_pipeline *pipeline, uint32_t id, bool optional)
{
	esk_filter *filter = &pipeline->filters[pipeline->count++];
	filter->id = id;
	filter->optional = optional;
	return filter;
}

static void values_set(esk_filter *filter, uint32_t count, const uint32_t *values)
{
	filter->value_count = count;
	memcpy(filter->values, values, count * sizeof values[0]);
}

/* As HDF5 computes it for a dataset: the scanline is the chunk's fastest dimension, cut to 128 blocks, or
 * taken from the whole chunk where that dimension is shorter than a block. */
static esk_status szip_values(
	const esk_column *column, uint64_t chunk_rows, uint64_t elements, esk_filter *filter, esk_error *err)
{
	enum { BLOCKS_MAX = 128, PIXELS_PER_SCANLINE_MAX = 4096 };
	enum { ALLOW_K13 = 1, LSB = 8, NEAREST_NEIGHBOUR = 32, RAW = 128 };
	esk_kind kind = column->dtype.kind;
	if (kind == ESK_C64 || kind == ESK_C128 || kind == ESK_STRING || kind == ESK_STRING_N)
		return esk_fail(err, ESK_EUNSUPPORTED,
			"column '%s': szip takes integers and floats only, as HDF5 has it; choose another "
			"codec",
			column->name);
	uint64_t block = elements >= 32 ? 32 : elements / 2 * 2;
	if (block < 2)
		return esk_fail(err, ESK_EUNSUPPORTED,
			"column '%s': szip needs chunks of at least 2 elements; this one has 1",
			column->name);
	uint64_t scanline = column->rank > 0 ? column->shape[column->rank - 1] : chunk_rows;
	if (scanline < block)
		scanline = esk_min_u64(block * BLOCKS_MAX, elements);
	else if (scanline <= PIXELS_PER_SCANLINE_MAX)
		scanline = esk_min_u64(block * BLOCKS_MAX, scanline);
	else
		scanline = block * BLOCKS_MAX;
	uint32_t bits = column->dtype.size_bytes * 8;
	values_set(filter, 4,
		(uint32_t[]){ALLOW_K13 | LSB | NEAREST_NEIGHBOUR | RAW, (uint32_t)block, bits,
			(uint32_t)scanline});
	return ESK_OK;
}

/* The filter of the codec itself, with its values. */
static esk_status codec_values(const parsed *p, const esk_column *column, uint64_t chunk_rows,
	uint64_t chunk_bytes, esk_filter *filter, esk_error *err)
{
	enum { H5PY_LZF_VERSION = 4, LZF_VERSION = 0x0105 };
	enum {
		BLOSC_FILTER_VERSION = 2,
		BLOSC_FORMAT_VERSION = 2,
		BLOSC_TYPE_MAX = 255,
		BLOSC_LEVEL = 5,
		BLOSC_LZ4 = 1
	};
	enum { BITSHUFFLE_MAJOR = 0, BITSHUFFLE_MINOR = 4, BITSHUFFLE_LZ4 = 2 };
	uint32_t element = esk_column_element_bytes(column);
	uint32_t bytes = (uint32_t)chunk_bytes;
	switch (p->codec->filter) {
	case ESK_FILTER_DEFLATE:
	case ESK_FILTER_ZSTD:
		values_set(filter, 1, (uint32_t[]){(uint32_t)p->level});
		return ESK_OK;
	case ESK_FILTER_LZF:
		values_set(filter, 3, (uint32_t[]){H5PY_LZF_VERSION, LZF_VERSION, bytes});
		return ESK_OK;
	case ESK_FILTER_SZIP:
		return szip_values(column, chunk_rows, chunk_bytes / element, filter, err);
	case ESK_FILTER_LZ4:
		values_set(filter, 1, (uint32_t[]){0}); /* the plugin's default block */
		return ESK_OK;
	case ESK_FILTER_BLOSC:
		values_set(filter, 7,
			(uint32_t[]){BLOSC_FILTER_VERSION, BLOSC_FORMAT_VERSION,
				element > BLOSC_TYPE_MAX ? 1 : element, bytes, BLOSC_LEVEL,
				p->shuffle != CHOICE_OFF, BLOSC_LZ4});
		return ESK_OK;
	case ESK_FILTER_BITSHUFFLE:
		values_set(filter, 5,
			(uint32_t[]){BITSHUFFLE_MAJOR, BITSHUFFLE_MINOR, element, 0, BITSHUFFLE_LZ4});
		return ESK_OK;
	default:
		return esk_fail(err, ESK_EINTERNAL, "codec %s has no filter values", p->codec->name);
	}
}

esk_status esk_pipeline_build(const char *spec, const esk_column *column, uint64_t chunk_rows,
	esk_pipeline *ret_pipeline, esk_error *err)
{
	parsed p;
	esk_status status = spec_parse(spec, &p, err);
	if (status != ESK_OK)
		return status;
	uint64_t chunk_bytes;
	uint32_t element = esk_column_element_bytes(column);
	if (!esk_mul_u64(esk_column_cell_bytes(column), chunk_rows, &chunk_bytes) || chunk_bytes > UINT32_MAX)
		return esk_fail(err, ESK_ERANGE,
			"column '%s': a chunk of %llu rows of %llu bytes is more than HDF5's 4 GiB; ask for "
			"fewer rows per chunk",
			column->name, (unsigned long long)chunk_rows,
			(unsigned long long)esk_column_cell_bytes(column));
	if (chunk_bytes == 0 || element == 0)
		return esk_fail(err, ESK_EINVAL, "column '%s': a chunk of %llu rows holds no bytes",
			column->name, (unsigned long long)chunk_rows);

	esk_pipeline pipeline = {.element_bytes = element, .chunk_bytes = chunk_bytes};
	/* blosc shuffles by itself: its own values say so. */
	bool shuffle =
		p.shuffle == CHOICE_ON || (p.shuffle == CHOICE_AUTO && p.codec->shuffle && element > 1);
	if (shuffle && p.codec->filter != ESK_FILTER_BLOSC)
		values_set(pipeline_add(&pipeline, ESK_FILTER_SHUFFLE, true), 1, &element);
	if (p.codec->filter != 0)
		status = codec_values(&p, column, chunk_rows, chunk_bytes,
			pipeline_add(&pipeline, p.codec->filter, true), err);
	if (status != ESK_OK)
		return status;
	if (p.fletcher32)
		pipeline_add(&pipeline, ESK_FILTER_FLETCHER32, false);
	*ret_pipeline = pipeline;
	return ESK_OK;
}

/* ---- pipeline to text ---- */

static const codec *codec_of(uint32_t filter)
{
	for (int i = 0; i < CODECS; i++)
		if (codecs[i].filter == filter)
			return &codecs[i];
	return NULL;
}

size_t esk_pipeline_format(const esk_pipeline *pipeline, char *buf, size_t buf_bytes)
{
	char text[512] = "none";
	const codec *c = &codecs[0];
	bool shuffle = false;
	bool fletcher32 = false;
	for (uint32_t i = 0; i < pipeline->count; i++) {
		const esk_filter *filter = &pipeline->filters[i];
		if (filter->id == ESK_FILTER_SHUFFLE) {
			shuffle = true;
		} else if (filter->id == ESK_FILTER_FLETCHER32) {
			fletcher32 = true;
		} else {
			c = filter->id == 0 ? NULL : codec_of(filter->id);
			if (c == NULL)
				snprintf(text, sizeof text, "filter-%u", filter->id);
			else if (c->level_max > 0 && filter->value_count > 0)
				snprintf(text, sizeof text, "%s:%d", c->name, (int)filter->values[0]);
			else
				snprintf(text, sizeof text, "%s", c->name);
			if (filter->id == ESK_FILTER_BLOSC && filter->value_count > 5 &&
				filter->values[5] == 0)
				strcat(text, "-shuffle");
		}
	}
	if (shuffle)
		strcat(text, "+shuffle");
	else if (c != NULL && c->shuffle && pipeline->element_bytes > 1)
		strcat(text, "-shuffle");
	if (fletcher32)
		strcat(text, "+fletcher32");
	int length = snprintf(buf, buf_bytes, "%s", text);
	return length < 0 ? 0 : (size_t)length;
}
