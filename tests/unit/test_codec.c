/* Codecs: specs, pipelines, round trips in pieces and prefixes, the shuffle kernels against their definition,
 * damage. Random tests print their seed and take it from ESK_SEED. */
#include "codec/stage.h"
#include <libdeflate.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static uint64_t random_state;

static uint64_t random_next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static void random_seed(void)
{
	const char *text = getenv("ESK_SEED");
	random_state = text != NULL ? strtoull(text, NULL, 0) : esk_random_u64();
	random_state |= 1;
	print_message("ESK_SEED=%llu\n", (unsigned long long)random_state);
}

/* Exactly `size` bytes of the heap, so that a sanitizer sees every step outside. */
static uint8_t *bytes_new(size_t size)
{
	uint8_t *data = malloc(size == 0 ? 1 : size);
	assert_non_null(data);
	return data;
}

enum { NOISE, SMOOTH, RUNS, CONTENTS };

static uint8_t *bytes_random(size_t size, int content)
{
	uint8_t *data = bytes_new(size);
	uint8_t last = 0;
	for (size_t i = 0; i < size; i++) {
		if (content == NOISE)
			last = (uint8_t)random_next();
		else if (content == SMOOTH)
			last = (uint8_t)(i % 4 < 2 ? i / 64 + random_next() % 2 : 0);
		else if (random_next() % 50 == 0)
			last = (uint8_t)random_next();
		data[i] = last;
	}
	return data;
}

static esk_column column_of(const char *text)
{
	esk_column *columns;
	size_t count;
	esk_error err;
	if (esk_columns_parse(text, &columns, &count, &err) != ESK_OK)
		fail_msg("%s", err.message);
	esk_column column = columns[0];
	esk_columns_free(columns);
	return column;
}

static esk_pipeline pipeline_of(const char *spec, const char *column_text, uint64_t rows)
{
	esk_column column = column_of(column_text);
	esk_pipeline pipeline;
	esk_error err;
	if (esk_pipeline_build(spec, &column, rows, &pipeline, &err) != ESK_OK)
		fail_msg("%s", err.message);
	return pipeline;
}

/* ---- specs ---- */

static void known_specs_are_accepted(void **state)
{
	static const char *const specs[] = {"none", "gzip", "gzip:1", "gzip:9", "lzf", "szip", "zstd",
		"zstd:22", "lz4", "blosc", "bitshuffle", "gzip:1+shuffle", "none+fletcher32",
		"gzip-shuffle+fletcher32", "zstd:3-shuffle-fletcher32", "bitshuffle-shuffle", ""};
	for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
		esk_error err;
		if (esk_codec_check(specs[i], &err) != ESK_OK)
			fail_msg("%s", err.message);
	}
}

static void bad_specs_are_refused_with_what_is_known(void **state)
{
	static const struct {
		const char *spec;
		esk_status status;
		const char *message;
	} cases[] = {
		{"gzp", ESK_EINVAL, "gzip[:1-9]"},
		{"gzip:0", ESK_ERANGE, "1 to 9"},
		{"gzip:10", ESK_ERANGE, "1 to 9"},
		{"gzip:99999999999999999999", ESK_ERANGE, "1 to 9"},
		{"gzip:", ESK_EINVAL, "1 to 9"},
		{"gzip:x", ESK_EINVAL, "'x'"},
		{"zstd:23", ESK_ERANGE, "1 to 22"},
		{"lzf:1", ESK_EINVAL, "no level"},
		{"gzip+shuffel", ESK_EINVAL, "+shuffel"},
		{"gzip+", ESK_EINVAL, "'+'"},
		{"+shuffle", ESK_EINVAL, "none"},
		{"bitshuffle+shuffle", ESK_EINVAL, "leave out"},
		{"gzip ", ESK_EINVAL, "known"},
		{"GZIP", ESK_EINVAL, "known"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		esk_error err;
		assert_int_equal(esk_codec_check(cases[i].spec, &err), cases[i].status);
		if (strstr(err.message, cases[i].message) == NULL)
			fail_msg("'%s' is not in: %s", cases[i].message, err.message);
		assert_string_equal(esk_codec_reader_needs(cases[i].spec), "");
	}
}

static void readers_are_told_what_they_need(void **state)
{
	assert_string_equal(esk_codec_reader_needs("gzip:1+shuffle+fletcher32"), "");
	assert_string_equal(esk_codec_reader_needs("none"), "");
	assert_non_null(strstr(esk_codec_reader_needs("zstd:9"), "32015"));
	assert_non_null(strstr(esk_codec_reader_needs("lzf"), "h5py"));
}

static void filters_assert(const char *spec, const char *column, uint64_t rows, const char *expected)
{
	esk_pipeline pipeline = pipeline_of(spec, column, rows);
	char found[512] = "";
	size_t used = 0;
	for (uint32_t i = 0; i < pipeline.count; i++) {
		const esk_filter *filter = &pipeline.filters[i];
		used += (size_t)snprintf(found + used, sizeof found - used, "%s%u%s", i ? " " : "",
			filter->id, filter->optional ? "" : "!");
		for (uint32_t k = 0; k < filter->value_count; k++)
			used += (size_t)snprintf(found + used, sizeof found - used, ",%u", filter->values[k]);
	}
	assert_string_equal(found, expected);
	esk_error err;
	if (esk_pipeline_check(&pipeline, &err) != ESK_OK)
		fail_msg("%s", err.message);
}

static void pipelines_hold_the_values_that_hdf5_stores(void **state)
{
	filters_assert("", "x:u16[7,5]", 4, "2,2 1,1");
	filters_assert("gzip", "x:u8[7,5]", 4, "1,1");
	filters_assert("gzip:6-shuffle", "x:f64", 4, "1,6");
	filters_assert("none", "x:f64", 4, "");
	filters_assert("none+shuffle+fletcher32", "x:f64", 4, "2,8 3!");
	filters_assert("lzf+fletcher32", "x:u16[7,5]", 4, "2,2 32000,4,261,280 3!");
	filters_assert("zstd", "x:c64", 4, "2,8 32015,3");
	filters_assert("lz4", "x:u8", 4, "32004,0");
	filters_assert("blosc", "x:c128[7,5]", 4, "32001,2,2,16,2240,5,1,1");
	filters_assert("blosc-shuffle", "x:u16[7,5]", 4, "32001,2,2,2,280,5,0,1");
	filters_assert("blosc", "x:str300", 4, "32001,2,2,1,1200,5,1,1");
	filters_assert("bitshuffle", "x:f64", 4, "32008,0,4,8,0,2");
	/* szip: scanline is the last dimension, cut to 128 blocks; from the whole chunk where it is below a
	 * block. */
	filters_assert("szip", "x:u16[7,5]", 4, "4,169,32,16,140");
	filters_assert("szip", "x:u16[3]", 3, "4,169,8,16,9");
	filters_assert("szip", "x:f64[3000]", 3, "4,169,32,64,3000");
	filters_assert("szip", "x:f32[33333]", 3, "4,169,32,32,4096");
	filters_assert("szip", "x:f32", 5000, "4,169,32,32,4096");
}

static void codecs_refuse_columns_they_cannot_take(void **state)
{
	static const struct {
		const char *spec, *column;
		uint64_t rows;
		esk_status status;
	} cases[] = {
		{"szip", "x:c128", 64, ESK_EUNSUPPORTED},
		{"szip", "x:c64", 64, ESK_EUNSUPPORTED},
		{"szip", "x:str8", 64, ESK_EUNSUPPORTED},
		{"szip", "x:u8", 1, ESK_EUNSUPPORTED},
		{"gzip", "x:u8[1048576]", 4096, ESK_ERANGE},
		{"gzip", "x:u8[1048576]", UINT64_MAX / 2, ESK_ERANGE},
		{"gzip", "x:u8", 0, ESK_EINVAL},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		esk_column column = column_of(cases[i].column);
		esk_pipeline pipeline;
		esk_error err;
		assert_int_equal(esk_pipeline_build(cases[i].spec, &column, cases[i].rows, &pipeline, &err),
			cases[i].status);
		assert_non_null(strstr(err.message, "column 'x'"));
	}
}

static void pipelines_are_shown_as_the_spec_that_makes_them(void **state)
{
	static const char *const specs[] = {"none", "gzip:1+shuffle", "gzip:9-shuffle+fletcher32",
		"lzf+shuffle", "szip", "szip+shuffle", "zstd:7+shuffle+fletcher32", "lz4-shuffle", "blosc",
		"blosc-shuffle", "bitshuffle", "none+shuffle"};
	for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
		esk_pipeline pipeline = pipeline_of(specs[i], "x:u32", 100);
		char text[64], small[4];
		size_t length = esk_pipeline_format(&pipeline, text, sizeof text);
		assert_string_equal(text, specs[i]);
		assert_int_equal(length, strlen(specs[i]));
		assert_int_equal(esk_pipeline_format(&pipeline, small, sizeof small), length);
		assert_memory_equal(small, specs[i], 3);
	}
}

/* ---- round trips ---- */

static const char *const all_specs[] = {"none", "none+shuffle", "none+fletcher32", "gzip:1", "gzip:1-shuffle",
	"gzip:1+fletcher32", "gzip:6", "gzip:2-shuffle", "lzf", "lzf-shuffle+fletcher32", "szip",
	"szip+shuffle+fletcher32", "zstd", "zstd:1-shuffle+fletcher32", "lz4", "lz4-shuffle", "blosc",
	"blosc-shuffle+fletcher32", "bitshuffle", "bitshuffle+fletcher32"};
enum { SPECS = sizeof all_specs / sizeof all_specs[0] };

static size_t split(const uint8_t *data, size_t size, esk_span *spans, size_t span_max)
{
	size_t count = 0;
	while (size > 0) {
		size_t piece = count + 1 == span_max ? size : random_next() % (size + 1);
		spans[count++] = (esk_span){data, piece};
		data += piece;
		size -= piece;
	}
	return count;
}

/* Encodes `size` bytes in random pieces and decodes all of the chunk and a random part of it. */
static void round_trip(esk_scratch *scratch, const esk_pipeline *pipeline, const uint8_t *data, size_t size)
{
	size_t chunk = pipeline->chunk_bytes;
	uint8_t *whole = bytes_new(chunk);
	memcpy(whole, data, size);
	memset(whole + size, 0, chunk - size);
	esk_span spans[6];
	size_t span_count = split(data, size, spans, 6);

	esk_error err = {0};
	size_t bound = esk_pipeline_bound(pipeline);
	uint8_t *packed = bytes_new(bound);
	size_t packed_size = 0;
	uint32_t mask = 0;
	if (esk_pipeline_encode(
		    pipeline, scratch, spans, span_count, packed, bound, &packed_size, &mask, &err) != ESK_OK)
		fail_msg("%s", err.message);
	uint8_t *tight = bytes_new(packed_size);
	memcpy(tight, packed, packed_size);
	for (int i = 0; i < 4; i++) {
		size_t want = i < 2 ? chunk : random_next() % (chunk + 1);
		esk_scratch_set_strict(scratch, i == 1);
		uint8_t *found = bytes_new(want);
		if (esk_pipeline_decode(pipeline, scratch, mask, tight, packed_size, found, want, &err) !=
			ESK_OK)
			fail_msg("%s", err.message);
		assert_memory_equal(found, whole, want);
		free(found);
	}
	free(tight);
	free(packed);
	free(whole);
}

static void every_codec_gives_back_what_it_got(void **state)
{
	static const char *const columns[] = {
		"x:u8", "x:u16", "x:f32[5]", "x:f64[3,3]", "x:c128", "x:str3", "x:str12", "x:u8[1000]"};
	random_seed();
	esk_scratch *scratch = esk_scratch_create();
	for (int round = 0; round < 6; round++) {
		for (int s = 0; s < SPECS; s++) {
			for (size_t c = 0; c < sizeof columns / sizeof columns[0]; c++) {
				uint64_t rows = 2 + random_next() % (round < 4 ? 40 : 3000);
				esk_column column = column_of(columns[c]);
				esk_pipeline pipeline;
				esk_status status =
					esk_pipeline_build(all_specs[s], &column, rows, &pipeline, NULL);
				if (status == ESK_EUNSUPPORTED && strncmp(all_specs[s], "szip", 4) == 0)
					continue;
				assert_int_equal(status, ESK_OK);
				size_t size = round % 2 ? pipeline.chunk_bytes
							: random_next() % (pipeline.chunk_bytes + 1);
				uint8_t *data = bytes_random(size, (int)(random_next() % CONTENTS));
				round_trip(scratch, &pipeline, data, size);
				free(data);
			}
		}
	}
	esk_scratch_destroy(scratch);
}

static void filters_in_any_order_give_back_what_they_got(void **state)
{
	static const esk_filter menu[] = {
		{ESK_FILTER_FLETCHER32, false, 0, {0}},
		{ESK_FILTER_SHUFFLE, true, 1, {4}},
		{ESK_FILTER_SHUFFLE, true, 1, {3}},
		{ESK_FILTER_DEFLATE, true, 1, {1}},
		{ESK_FILTER_DEFLATE, true, 1, {5}},
		{ESK_FILTER_LZF, true, 0, {0}},
		{ESK_FILTER_ZSTD, true, 1, {1}},
		{ESK_FILTER_LZ4, true, 1, {100}},
		{ESK_FILTER_BITSHUFFLE, true, 5, {0, 4, 4, 0, 0}},
		{ESK_FILTER_BITSHUFFLE, true, 6, {0, 4, 4, 64, 3, 2}},
		{ESK_FILTER_BLOSC, true, 7, {2, 2, 4, 0, 9, 2, 5}},
	};
	random_seed();
	esk_scratch *scratch = esk_scratch_create();
	for (int round = 0; round < 3000; round++) {
		esk_pipeline pipeline = {.element_bytes = 4, .chunk_bytes = 4 * (1 + random_next() % 500)};
		pipeline.count = (uint32_t)(random_next() % 5);
		for (uint32_t i = 0; i < pipeline.count; i++)
			pipeline.filters[i] = menu[random_next() % (sizeof menu / sizeof menu[0])];
		size_t size = random_next() % (pipeline.chunk_bytes + 1);
		uint8_t *data = bytes_random(size, (int)(random_next() % CONTENTS));
		round_trip(scratch, &pipeline, data, size);
		free(data);
	}
	esk_scratch_destroy(scratch);
}

static void chunks_that_do_not_shrink_are_stored_as_they_are(void **state)
{
	random_seed();
	esk_scratch *scratch = esk_scratch_create();
	uint8_t *data = bytes_random(8000, NOISE);
	esk_span span = {data, 8000};
	for (int s = 0; s < SPECS; s++) {
		esk_pipeline pipeline = pipeline_of(all_specs[s], "x:u64", 1000);
		bool checksum = pipeline.count > 0 &&
				pipeline.filters[pipeline.count - 1].id == ESK_FILTER_FLETCHER32;
		bool compressed = strncmp(all_specs[s], "none", 4) != 0;
		uint8_t packed[8004];
		size_t size;
		uint32_t mask;
		assert_int_equal(esk_pipeline_encode(&pipeline, scratch, &span, 1, packed, sizeof packed,
					 &size, &mask, NULL),
			ESK_OK);
		assert_int_equal(size, checksum ? 8004 : 8000);
		if (compressed) {
			/* Every filter but the checksum is left out. */
			assert_int_equal(mask, (1u << (pipeline.count - checksum)) - 1);
			assert_memory_equal(packed, data, 8000);
		} else {
			assert_int_equal(mask, 0);
		}
	}
	free(data);
	esk_scratch_destroy(scratch);
}

static void encoding_checks_its_arguments(void **state)
{
	esk_scratch *scratch = esk_scratch_create();
	esk_pipeline pipeline = pipeline_of("gzip:1+fletcher32", "x:u8", 100);
	uint8_t data[101] = {0}, packed[104];
	size_t size;
	uint32_t mask;
	esk_error err;
	esk_span span = {data, 101};
	assert_int_equal(esk_pipeline_encode(&pipeline, scratch, &span, 1, packed, 104, &size, &mask, &err),
		ESK_EINVAL);
	span.size_bytes = 100;
	assert_int_equal(esk_pipeline_encode(&pipeline, scratch, &span, 1, packed, 103, &size, &mask, &err),
		ESK_EINVAL);
	assert_int_equal(
		esk_pipeline_encode(&pipeline, scratch, &span, 1, packed, 104, &size, &mask, &err), ESK_OK);
	assert_int_equal(
		esk_pipeline_encode(&pipeline, scratch, NULL, 0, packed, 104, &size, &mask, &err), ESK_OK);
	uint8_t found[101];
	assert_int_equal(
		esk_pipeline_decode(&pipeline, scratch, mask, packed, size, found, 101, &err), ESK_ERANGE);
	assert_int_equal(
		esk_pipeline_decode(&pipeline, scratch, mask, packed, size, found, 100, &err), ESK_OK);
	assert_memory_equal(found, data, 100);
	esk_scratch_destroy(scratch);
}

/* ---- kernels ---- */

static void shuffles_of_every_instruction_set_agree_with_the_definition(void **state)
{
	static const char *const names[] = {"avx2", "sse2", "neon", "c"};
	random_seed();
	int used = 0;
	for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
		if (!esk_simd_select(names[n]))
			continue;
		used++;
		assert_string_equal(esk_codec_simd(), names[n]);
		for (int round = 0; round < 2000; round++) {
			size_t e = round % 2 ? (size_t)2 << random_next() % 4 : 1 + random_next() % 20;
			size_t count = random_next() % 200;
			size_t stride = count + random_next() % 3;
			uint8_t *in = bytes_random(e * count, NOISE);
			uint8_t *planes = bytes_new(e * stride);
			uint8_t *back = bytes_new(e * count);
			memset(planes, 0, e * stride);
			esk_shuffle_planes(in, planes, e, stride, count);
			for (size_t i = 0; i < e * count; i++)
				assert_int_equal(planes[i % e * stride + i / e], in[i]);
			esk_unshuffle_planes(planes, stride, back, e, count);
			assert_memory_equal(back, in, e * count);
			free(back);
			free(planes);
			free(in);
		}
	}
	assert_true(used >= 1);
	assert_false(esk_simd_select("mmx"));
}

static void bits_are_transposed_and_back(void **state)
{
	static const char *const names[] = {"avx2", "sse2", "neon", "c"};
	random_seed();
	for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
		if (!esk_simd_select(names[n]))
			continue;
		for (size_t size = 0; size < 400; size += 8) {
			uint8_t *in = bytes_random(size, NOISE);
			uint8_t *out = bytes_new(size);
			memcpy(out, in, size);
			esk_transpose_bits(out, size);
			for (size_t i = 0; i < 8 * size; i++) {
				size_t word = i / 64, row = i / 8 % 8, bit = i % 8;
				assert_int_equal(
					out[8 * word + row] >> bit & 1, in[8 * word + bit] >> row & 1);
			}
			esk_transpose_bits(out, size);
			assert_memory_equal(out, in, size);
			free(out);
			free(in);
		}
	}
}

/* The checksum as its definition goes, word by word. */
static uint32_t fletcher32_plain(const uint8_t *data, size_t size)
{
	uint32_t a = 0, b = 0;
	for (size_t i = 0; i < size; i += 2) {
		uint32_t word = (uint32_t)data[i] << 8 | (i + 1 < size ? data[i + 1] : 0);
		a += word;
		a = (a & 0xffff) + (a >> 16);
		b += a;
		b = (b & 0xffff) + (b >> 16);
	}
	return b << 16 | a;
}

static void fletcher32_is_the_sum_it_is_defined_as(void **state)
{
	random_seed();
	for (int round = 0; round < 400; round++) {
		size_t size = random_next() % 5000;
		uint8_t *data = bytes_random(size, (int)(random_next() % CONTENTS));
		if (round % 10 == 0)
			memset(data, round % 20 == 0 ? 0xff : 0, size);
		assert_int_equal(esk_fletcher32(data, size), fletcher32_plain(data, size));
		free(data);
	}
}

static void fletcher32_with_swapped_bytes_is_accepted(void **state)
{
	esk_scratch *scratch = esk_scratch_create();
	esk_pipeline pipeline = pipeline_of("none+fletcher32", "x:u8", 6);
	uint8_t data[6] = {1, 2, 3, 4, 5, 6}, packed[10], found[6];
	esk_span span = {data, 6};
	size_t size;
	uint32_t mask;
	assert_int_equal(
		esk_pipeline_encode(&pipeline, scratch, &span, 1, packed, 10, &size, &mask, NULL), ESK_OK);
	uint8_t swapped[10] = {1, 2, 3, 4, 5, 6, packed[7], packed[6], packed[9], packed[8]};
	assert_int_equal(esk_pipeline_decode(&pipeline, scratch, 0, swapped, 10, found, 6, NULL), ESK_OK);
	assert_memory_equal(found, data, 6);
	esk_error err;
	swapped[2] ^= 1;
	assert_int_equal(
		esk_pipeline_decode(&pipeline, scratch, 0, swapped, 10, found, 6, &err), ESK_ECORRUPT);
	assert_non_null(strstr(err.message, "fletcher32"));
	/* A prefix is no way round the checksum. */
	assert_int_equal(
		esk_pipeline_decode(&pipeline, scratch, 0, swapped, 10, found, 2, &err), ESK_ECORRUPT);
	esk_scratch_destroy(scratch);
}

/* ---- damage ---- */

static void damaged_chunks_are_refused_or_decode_to_their_size(void **state)
{
	random_seed();
	esk_scratch *scratch = esk_scratch_create();
	int refused = 0;
	for (int round = 0; round < 4000; round++) {
		esk_pipeline pipeline =
			pipeline_of(all_specs[round % SPECS], "x:u16[5]", 50 + random_next() % 100);
		uint8_t *data = bytes_random(pipeline.chunk_bytes, SMOOTH);
		esk_span span = {data, pipeline.chunk_bytes};
		size_t bound = esk_pipeline_bound(&pipeline), size;
		uint8_t *packed = bytes_new(bound);
		uint32_t mask;
		assert_int_equal(
			esk_pipeline_encode(&pipeline, scratch, &span, 1, packed, bound, &size, &mask, NULL),
			ESK_OK);
		size_t left = random_next() % 3 == 0 ? random_next() % size : size;
		uint8_t *tight = bytes_new(left);
		memcpy(tight, packed, left);
		for (size_t i = random_next() % 4; i > 0 && left > 0; i--)
			tight[random_next() % (random_next() % 2 && left > 16 ? 16 : left)] ^=
				(uint8_t)random_next();
		size_t want =
			random_next() % 2 ? pipeline.chunk_bytes : random_next() % (pipeline.chunk_bytes + 1);
		uint8_t *found = bytes_new(want);
		esk_error err = {0};
		esk_status status =
			esk_pipeline_decode(&pipeline, scratch, mask, tight, left, found, want, &err);
		if (status != ESK_OK) {
			assert_int_equal(status, ESK_ECORRUPT);
			assert_true(err.message[0] != '\0');
			refused++;
		}
		free(found);
		free(tight);
		free(packed);
		free(data);
	}
	assert_true(refused > 1000);
	esk_scratch_destroy(scratch);
}

/* Decodes `text` as a chunk of `chunk` bytes with one filter, and expects `status`, and `expected` where that
 * is ESK_OK. */
static void bytes_assert(esk_filter filter, size_t chunk, const char *bytes, size_t size, esk_status status,
	const char *expected)
{
	esk_scratch *scratch = esk_scratch_create();
	esk_pipeline pipeline = {.count = 1, .element_bytes = 1, .chunk_bytes = chunk, .filters = {filter}};
	uint8_t *data = bytes_new(size), *found = bytes_new(chunk);
	memcpy(data, bytes, size);
	esk_error err = {0};
	if (esk_pipeline_decode(&pipeline, scratch, 0, data, size, found, chunk, &err) != status)
		fail_msg("expected %s, found: %s", esk_status_name(status), err.message);
	if (status == ESK_OK)
		assert_memory_equal(found, expected, chunk);
	free(found);
	free(data);
	esk_scratch_destroy(scratch);
}
#define BYTES(text) text, sizeof(text) - 1

static void chunks_written_by_hand_decode_as_their_formats_say(void **state)
{
	esk_filter lzf = {ESK_FILTER_LZF, true, 0, {0}};
	bytes_assert(lzf, 3, BYTES("\002abc"), ESK_OK, "abc");
	bytes_assert(lzf, 8, BYTES("\001ab\200\001"), ESK_OK, "abababab");
	bytes_assert(lzf, 13, BYTES("\000a\340\003\000"), ESK_OK, "aaaaaaaaaaaaa");
	bytes_assert(lzf, 8, BYTES("\001ab\200\002"), ESK_ECORRUPT, NULL); /* from before the beginning */
	bytes_assert(lzf, 8, BYTES("\200\000"), ESK_ECORRUPT, NULL);
	bytes_assert(lzf, 8, BYTES("\001ab\200"), ESK_ECORRUPT, NULL); /* half a reference */
	bytes_assert(lzf, 13, BYTES("\000a\340\003"), ESK_ECORRUPT, NULL);
	bytes_assert(lzf, 3, BYTES("\002ab"), ESK_ECORRUPT, NULL);         /* half a run */
	bytes_assert(lzf, 7, BYTES("\001ab\200\001"), ESK_ECORRUPT, NULL); /* one byte too many */
	bytes_assert(lzf, 9, BYTES("\001ab\200\001"), ESK_ECORRUPT, NULL); /* one too few */

	esk_filter lz4 = {ESK_FILTER_LZ4, true, 1, {0}};
	bytes_assert(lz4, 5, BYTES("\0\0\0\0\0\0\0\5\0\0\0\3\0\0\0\3abc\0\0\0\2de"), ESK_OK, "abcde");
	bytes_assert(lz4, 5, BYTES("\0\0\0\0\0\0\0\5\0\0\0\3\0\0\0\3abc\0\0\0\2d"), ESK_ECORRUPT, NULL);
	bytes_assert(lz4, 5, BYTES("\0\0\0\0\0\0\0\5\0\0\0\3\0\0\0\3abc\0\0"), ESK_ECORRUPT, NULL);
	bytes_assert(lz4, 5, BYTES("\0\0\0\0\0\0\0\6\0\0\0\6\0\0\0\6abcdef"), ESK_ECORRUPT, NULL);
	bytes_assert(lz4, 5, BYTES("\0\0\0\0\0\0\0\5\0\0\0\0\0\0\0\0"), ESK_ECORRUPT, NULL);

	/* 8 elements of a byte: row j has bit j of each; then two that are left over. */
	esk_filter bits = {ESK_FILTER_BITSHUFFLE, true, 5, {0, 4, 1, 0, 0}};
	bytes_assert(bits, 10, BYTES("\001\002\000\000\000\000\000\200xy"), ESK_OK,
		"\001\002\000\000\000\000\000\200xy");
	bytes_assert(bits, 10, BYTES("\377\000\003\000\000\000\000\000xy"), ESK_OK,
		"\005\005\001\001\001\001\001\001xy");
	bytes_assert(bits, 10, BYTES("\001\002\000\000\000\000\000\200x"), ESK_ECORRUPT, NULL);
	esk_filter packed = {ESK_FILTER_BITSHUFFLE, true, 5, {0, 4, 1, 0, 2}};
	bytes_assert(packed, 2, BYTES("\0\0\0\0\0\0\0\2\0\0\0\10xy"), ESK_OK, "xy");
	bytes_assert(packed, 2, BYTES("\0\0\0\0\0\0\0\2\0\0\0\10x"), ESK_ECORRUPT, NULL);
	bytes_assert(packed, 2, BYTES("\0\0\0\0\0\0\0\2\0\0\0\11xy"), ESK_ECORRUPT, NULL);
	bytes_assert(packed, 2, BYTES("\0\0\0\0\0\0\0\2\0\0"), ESK_ECORRUPT, NULL);
}

static void wrong_adler32_of_a_whole_chunk_is_found(void **state)
{
	esk_scratch *scratch = esk_scratch_create();
	esk_pipeline pipeline = pipeline_of("gzip:1", "x:u8", 5000);
	uint8_t *data = bytes_random(5000, RUNS), *packed = bytes_new(5000), *found = bytes_new(5000);
	esk_span span = {data, 5000};
	size_t size;
	uint32_t mask;
	esk_error err;
	assert_int_equal(
		esk_pipeline_encode(&pipeline, scratch, &span, 1, packed, 5000, &size, &mask, NULL), ESK_OK);
	assert_int_equal(mask, 0);
	packed[size - 1] ^= 1;
	for (int strict = 0; strict < 2; strict++) {
		esk_scratch_set_strict(scratch, strict);
		assert_int_equal(esk_pipeline_decode(&pipeline, scratch, 0, packed, size, found, 5000, &err),
			ESK_ECORRUPT);
	}
	/* Of its beginning it is not. */
	assert_int_equal(esk_pipeline_decode(&pipeline, scratch, 0, packed, size, found, 2000, &err), ESK_OK);
	assert_memory_equal(found, data, 2000);
	free(found);
	free(packed);
	free(data);
	esk_scratch_destroy(scratch);
}

/* A bit of a sound stream's code lengths was flipped: a repeat of lengths now runs past their end. zlib
 * refuses it, so h5py could not read a chunk that verify passed. */
static void a_strict_scratch_refuses_what_zlib_refuses(void **state)
{
	static const char text[] = "ABBAABBBAABAAABBAABAAABABABBAABAAABAAAABAAAABAAAAAAABAAAABAAB";
	static const uint8_t sound[31] = {0x78, 0xda, 0x55, 0xc7, 0x37, 0x11, 0x00, 0x00, 0x08, 0xc0, 0x40,
		0x6d, 0x1f, 0xff, 0xa2, 0xd8, 0x38, 0x58, 0x52, 0x14, 0x15, 0x61, 0xad, 0xd3, 0x0f, 0x67,
		0x1a, 0xe3, 0x46, 0x0f, 0x92};
	esk_scratch *scratch = esk_scratch_create();
	esk_pipeline pipeline = pipeline_of("gzip:1", "x:u8", 61);
	uint8_t found[61], flipped[31];
	esk_error err;
	memcpy(flipped, sound, sizeof flipped);
	flipped[18] ^= 0x80;
	for (int strict = 0; strict < 2; strict++) {
		esk_scratch_set_strict(scratch, strict);
		assert_int_equal(
			esk_pipeline_decode(&pipeline, scratch, 0, sound, 31, found, 61, &err), ESK_OK);
		assert_memory_equal(found, text, 61);
	}
	assert_int_equal(
		esk_pipeline_decode(&pipeline, scratch, 0, flipped, 31, found, 61, &err), ESK_ECORRUPT);
	esk_scratch_set_strict(scratch, false);
	if (esk_pipeline_decode(&pipeline, scratch, 0, flipped, 31, found, 61, &err) == ESK_OK)
		assert_memory_equal(found, text, 61);
	esk_scratch_destroy(scratch);
}

static void chunks_of_another_size_are_refused(void **state)
{
	/* Streams that are valid but hold one byte less or more than the chunk. */
	esk_scratch *scratch = esk_scratch_create();
	for (size_t s = 0; s < SPECS; s++) {
		for (int more = -8; more <= 8; more += 16) {
			esk_pipeline made = pipeline_of(all_specs[s], "x:u64", (uint64_t)(100 + more / 8));
			esk_pipeline read = pipeline_of(all_specs[s], "x:u64", 100);
			uint8_t data[808] = {0}, packed[820], found[800];
			esk_span span = {data, made.chunk_bytes};
			size_t size;
			uint32_t mask;
			esk_error err;
			assert_int_equal(esk_pipeline_encode(
						 &made, scratch, &span, 1, packed, 820, &size, &mask, NULL),
				ESK_OK);
			for (int strict = 0; strict < 2; strict++) {
				esk_scratch_set_strict(scratch, strict);
				assert_int_equal(esk_pipeline_decode(&read, scratch, mask, packed, size,
							 found, 800, &err),
					ESK_ECORRUPT);
			}
		}
	}
	esk_scratch_destroy(scratch);
}

static void unknown_filters_are_named(void **state)
{
	esk_pipeline pipeline = {.count = 1, .element_bytes = 1, .chunk_bytes = 10};
	esk_error err;
	pipeline.filters[0].id = 5;
	assert_int_equal(esk_pipeline_check(&pipeline, &err), ESK_EUNSUPPORTED);
	assert_non_null(strstr(err.message, "filter 5 (nbit)"));
	pipeline.filters[0].id = 32013;
	assert_int_equal(esk_pipeline_check(&pipeline, &err), ESK_EUNSUPPORTED);
	assert_non_null(strstr(err.message, "32013"));
	pipeline.filters[0] = (esk_filter){ESK_FILTER_SZIP, true, 4, {169, 7, 16, 140}};
	assert_int_equal(esk_pipeline_check(&pipeline, &err), ESK_ECORRUPT);
	pipeline.filters[0] = (esk_filter){ESK_FILTER_SHUFFLE, true, 1, {0}};
	assert_int_equal(esk_pipeline_check(&pipeline, &err), ESK_ECORRUPT);
	pipeline.count = ESK_MAX_FILTERS + 1;
	assert_int_equal(esk_pipeline_check(&pipeline, &err), ESK_EUNSUPPORTED);
}

static void deflate_streams_are_what_other_readers_read(void **state)
{
	random_seed();
	esk_scratch *scratch = esk_scratch_create();
	struct libdeflate_decompressor *reader = libdeflate_alloc_decompressor();
	for (int level = 1; level <= 9; level++) {
		char spec[32];
		snprintf(spec, sizeof spec, "gzip:%d", level);
		esk_pipeline pipeline = pipeline_of(spec, "x:u8", 300000);
		uint8_t *data = bytes_random(300000, RUNS), *packed = bytes_new(300000),
			*found = bytes_new(300000);
		esk_span spans[6];
		size_t count = split(data, 200000, spans, 6), size;
		uint32_t mask;
		memset(data + 200000, 0, 100000);
		assert_int_equal(esk_pipeline_encode(&pipeline, scratch, spans, count, packed, 300000, &size,
					 &mask, NULL),
			ESK_OK);
		assert_int_equal(mask, 0);
		assert_int_equal(libdeflate_zlib_decompress(reader, packed, size, found, 300000, NULL),
			LIBDEFLATE_SUCCESS);
		assert_memory_equal(found, data, 300000);
		free(found);
		free(packed);
		free(data);
	}
	libdeflate_free_decompressor(reader);
	esk_scratch_destroy(scratch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_specs_are_accepted),
		cmocka_unit_test(bad_specs_are_refused_with_what_is_known),
		cmocka_unit_test(readers_are_told_what_they_need),
		cmocka_unit_test(pipelines_hold_the_values_that_hdf5_stores),
		cmocka_unit_test(codecs_refuse_columns_they_cannot_take),
		cmocka_unit_test(pipelines_are_shown_as_the_spec_that_makes_them),
		cmocka_unit_test(every_codec_gives_back_what_it_got),
		cmocka_unit_test(filters_in_any_order_give_back_what_they_got),
		cmocka_unit_test(chunks_that_do_not_shrink_are_stored_as_they_are),
		cmocka_unit_test(encoding_checks_its_arguments),
		cmocka_unit_test(shuffles_of_every_instruction_set_agree_with_the_definition),
		cmocka_unit_test(bits_are_transposed_and_back),
		cmocka_unit_test(fletcher32_is_the_sum_it_is_defined_as),
		cmocka_unit_test(fletcher32_with_swapped_bytes_is_accepted),
		cmocka_unit_test(damaged_chunks_are_refused_or_decode_to_their_size),
		cmocka_unit_test(chunks_written_by_hand_decode_as_their_formats_say),
		cmocka_unit_test(wrong_adler32_of_a_whole_chunk_is_found),
		cmocka_unit_test(a_strict_scratch_refuses_what_zlib_refuses),
		cmocka_unit_test(chunks_of_another_size_are_refused),
		cmocka_unit_test(unknown_filters_are_named),
		cmocka_unit_test(deflate_streams_are_what_other_readers_read),
	};
	return cmocka_run_group_tests_name("codec", tests, NULL, NULL);
}
