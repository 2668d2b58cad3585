/* Format strings, the loops over values, and hand-made messages that are wrong in one place each: what is
 * refused, and that the message says what and where. Messages of a real writer: test_arrow_damage.c. */
#include "arrow/flatbuffer.h"
#include "arrow/kernels.h"
#include "arrow_made.h"
#include <lz4frame.h>
#include <sys/wait.h>
#include <zstd.h>

static esk_arrow_decoder *decoder;

static int decoder_make(void **state)
{
	return esk_arrow_decoder_create(&decoder, NULL) == ESK_OK ? 0 : -1;
}

static int decoder_drop(void **state)
{
	esk_arrow_decoder_destroy(decoder);
	decoder = NULL;
	return 0;
}

static uint64_t draw(uint64_t below)
{
	static uint64_t state;
	if (state == 0)
		state = test_seed();
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (state >> 24) % below;
}

#define refused(call, code, says)                                                      \
	do {                                                                           \
		esk_error refusal = {0};                                               \
		esk_error *why = &refusal;                                             \
		assert_int_equal(call, code);                                          \
		if (strstr(refusal.message, says) == NULL)                             \
			fail_msg("\"%s\" does not say \"%s\"", refusal.message, says); \
	} while (0)

/* ---- formats ---- */

static void formats_are_parsed_with_their_parameters(void **state)
{
	esk_error err;
	esk_arrow_type type;
	assert_ok(esk_arrow_type_parse("d:19,-3", &type, &err), &err);
	assert_int_equal(type.precision, 19);
	assert_int_equal(type.scale, -3);
	assert_int_equal(type.width_bytes, 16);
	assert_ok(esk_arrow_type_parse("d:70,2,256", &type, &err), &err);
	assert_int_equal(type.width_bytes, 32);
	assert_ok(esk_arrow_type_parse("tsu:Europe/Berlin", &type, &err), &err);
	assert_string_equal(type.rest, "Europe/Berlin");
	assert_int_equal(type.unit, 'u');
	assert_ok(esk_arrow_type_parse("+w:123", &type, &err), &err);
	assert_int_equal(type.list_size, 123);
	assert_ok(esk_arrow_type_parse("+ud:4,0,127", &type, &err), &err);
	int16_t child_of[128];
	assert_ok(esk_arrow_type_ids(&type, 3, child_of, &err), &err);
	assert_int_equal(child_of[127], 2);
	assert_int_equal(child_of[5], -1);
	refused(esk_arrow_type_ids(&type, 2, child_of, why), ESK_EUNSUPPORTED, "one per child");
}

static void formats_that_are_none_are_refused(void **state)
{
	static const char *const formats[] = {"", "x", "ii", "d:", "d:5", "d:5,", "d:0,0", "d:39,0",
		"d:5,0,24", "d:5,0,128x", "w:", "w:-1", "w:1x", "w:99999999999", "ts", "tsq:", "tsn",
		"+w:", "+w:-2", "+", "+x", "tt", "vu", "vz", "+vl", "+vL", "td"};
	for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
		esk_arrow_type type;
		refused(esk_arrow_type_parse(formats[i], &type, why), ESK_EUNSUPPORTED, "is not supported");
	}
	static const char *const ids[] = {"+us:1,1", "+us:128,1", "+us:-1,1", "+us:1;2", "+us:1,", "+us:,1"};
	for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
		esk_error err;
		esk_arrow_type type;
		int16_t child_of[128];
		assert_ok(esk_arrow_type_parse(ids[i], &type, &err), &err);
		assert_int_equal(esk_arrow_type_ids(&type, 2, child_of, &err), ESK_EUNSUPPORTED);
	}
}

/* ---- loops ---- */

static void bits_are_counted_from_any_to_any(void **state)
{
	uint8_t bits[64];
	for (unsigned turn = 0; turn < 20000; turn++) {
		uint64_t first = draw(100), count = draw(400), expected = 0;
		for (size_t i = 0; i < sizeof bits; i++)
			bits[i] = (uint8_t)draw(256);
		for (uint64_t i = 0; i < count; i++)
			expected += esk_arrow_bit(bits, first + i);
		esk_arrow_kernels_narrow = turn % 2 == 0;
		assert_int_equal(esk_arrow_count_bits(bits, first, count), expected);
	}
	esk_arrow_kernels_narrow = false;
}

static void a_fall_is_found_wherever_it_is(void **state)
{
	for (unsigned turn = 0; turn < 20000; turn++) {
		int32_t narrow[3001];
		int64_t wide[3001];
		uint64_t count = draw(3000) + 1, fall = draw(count);
		for (uint64_t i = 0; i <= count; i++)
			wide[i] = narrow[i] = (int32_t)(i / 3) - 7;
		esk_arrow_kernels_narrow = turn % 2 == 0;
		assert_true(esk_arrow_rising_32(narrow, count));
		assert_true(esk_arrow_rising_64(wide, count));
		narrow[fall + 1] = INT32_MIN;
		wide[fall + 1] = INT64_MIN;
		assert_false(esk_arrow_rising_32(narrow, count));
		assert_false(esk_arrow_rising_64(wide, count));
	}
	esk_arrow_kernels_narrow = false;
}

static void the_largest_value_is_found_in_every_width(void **state)
{
	uint8_t values[8 * 500];
	for (unsigned turn = 0; turn < 4000; turn++) {
		uint32_t width = 1u << draw(4);
		uint64_t count = draw(500), most = 0;
		for (uint64_t i = 0; i < count; i++) {
			uint64_t value = draw(UINT64_MAX);
			memcpy(values + i * width, &value, width);
			value &= width == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * width) - 1;
			most = value > most ? value : most;
		}
		esk_arrow_kernels_narrow = turn % 2 == 0;
		assert_int_equal(esk_arrow_largest(values, width, count), most);
	}
	esk_arrow_kernels_narrow = false;
}

/* Decodes one character the slow way: its bytes, 0 for none. Independent of what is tested. */
static unsigned one_character(const uint8_t *text, uint64_t bytes)
{
	static const uint32_t lowest[] = {0, 0, 0x80, 0x800, 0x10000};
	if (text[0] < 0x80)
		return 1;
	unsigned size = text[0] >> 5 == 6 ? 2 : text[0] >> 4 == 14 ? 3 : text[0] >> 3 == 30 ? 4 : 0;
	if (size == 0 || size > bytes)
		return 0;
	uint32_t point = text[0] & (0x7Fu >> size);
	for (unsigned i = 1; i < size; i++) {
		if (text[i] >> 6 != 2)
			return 0;
		point = point << 6 | (text[i] & 0x3Fu);
	}
	return point < lowest[size] || point > 0x10FFFF || (point >= 0xD800 && point < 0xE000) ? 0 : size;
}

static bool is_text(const uint8_t *text, uint64_t bytes)
{
	for (uint64_t at = 0; at < bytes;) {
		unsigned size = one_character(text + at, bytes - at);
		if (size == 0)
			return false;
		at += size;
	}
	return true;
}

static void texts_are_judged_as_the_slow_way_judges_them(void **state)
{
	uint8_t text[300];
	for (uint32_t all = 0; all < 1u << 24; all++) { /* every three bytes */
		const uint8_t three[] = {(uint8_t)all, (uint8_t)(all >> 8), (uint8_t)(all >> 16)};
		if (esk_arrow_utf8(three, 3) != is_text(three, 3))
			fail_msg("%02x %02x %02x", three[0], three[1], three[2]);
	}
	static const uint8_t parts[] = {'a', 'b', 0x80, 0xBF, 0xC2, 0xDF, 0xE0, 0xA0, 0xED, 0x9F, 0xEF, 0xF0,
		0x90, 0xF4, 0x8F, 0xF5, 0xC1, 0x7F};
	for (unsigned turn = 0; turn < 300000; turn++) {
		uint64_t bytes = draw(9), before = draw(200);
		memset(text, 'x', sizeof text);
		for (uint64_t i = 0; i < bytes; i++)
			text[before + i] = parts[draw(sizeof parts)];
		esk_arrow_kernels_narrow = turn % 2 == 0;
		uint64_t size = before + bytes + draw(60);
		if (esk_arrow_utf8(text, size) != is_text(text, size))
			fail_msg("turn %u", turn);
	}
	esk_arrow_kernels_narrow = false;
}

/* ---- flatbuffers ---- */

static void flatbuffers_that_point_anywhere_are_read_without_a_step_outside(void **state)
{
	for (uint64_t turn = 0; turn < test_scale(300000); turn++) {
		uint64_t size = draw(64);
		uint8_t *data = malloc(size + (size == 0));
		for (uint64_t i = 0; i < size; i++)
			data[i] = (uint8_t)(draw(3) == 0 ? draw(256) : draw(8));
		esk_flatbuffer buffer = {.data = data, .size = size};
		esk_flatbuffer_table root = esk_flatbuffer_root(&buffer);
		for (unsigned field = 0; field < 6; field++) {
			esk_flatbuffer_i64(&buffer, &root, field, 0);
			esk_flatbuffer_u8(&buffer, &root, field, 0);
			esk_flatbuffer_vector list = esk_flatbuffer_vector_of(&buffer, &root, field, 4);
			for (uint32_t i = 0; i < list.count; i++)
				esk_flatbuffer_element(&buffer, &list, i);
			esk_flatbuffer_table child = esk_flatbuffer_child(&buffer, &root, field);
			esk_flatbuffer_i32(&buffer, &child, 0, 0);
		}
		free(data);
	}
}

/* ---- schemas ---- */

static const made_field number = {.name = "n", MADE_I32};
static const made_field word = {.name = "w", .type = MADE_UTF8};

#define SCHEMA(...)                                           \
	made_schema((const made_field *const[]){__VA_ARGS__}, \
		sizeof((const made_field *const[]){__VA_ARGS__}) / sizeof(void *), 4, 0)

static void a_schema_is_read(void **state)
{
	esk_error err;
	static const made_field list = {.name = "l", .type = MADE_LIST, .children = {&number}};
	assert_null(esk_arrow_decoder_schema(decoder));
	assert_ok(made_feed(decoder, SCHEMA(&number, &word, &list), NULL, &err), &err);
	const struct ArrowSchema *schema = esk_arrow_decoder_schema(decoder);
	assert_string_equal(schema->format, "+s");
	assert_int_equal(schema->n_children, 3);
	assert_string_equal(schema->children[0]->format, "i");
	assert_string_equal(schema->children[0]->name, "n");
	assert_int_equal(schema->children[0]->flags, ARROW_FLAG_NULLABLE);
	assert_string_equal(schema->children[2]->children[0]->format, "i");
}

static void what_is_not_offered_is_refused_by_name(void **state)
{
	const made_field *one[] = {&number};
	refused(made_feed(decoder, made_schema(one, 1, 4, 1), NULL, why), ESK_EUNSUPPORTED, "big-endian");
	refused(made_feed(decoder, made_schema(one, 1, 2, 0), NULL, why), ESK_EUNSUPPORTED, "version V3");
	refused(made_feed(decoder, made_schema(one, 1, 9, 0), NULL, why), ESK_EUNSUPPORTED, "version V10");
	for (uint8_t type = 23; type < 30; type++) {
		const made_field view = {
			.name = "the view", .type = type, .children = {type > 24 ? &number : NULL}};
		refused(made_feed(decoder, SCHEMA(&view), NULL, why), ESK_EUNSUPPORTED, "\"the view\"");
	}
	esk_builder b = {0};
	esk_builder_table table;
	esk_builder_begin(&b, &table);
	made_message tensor = made_finish(&b, 4, 4, esk_builder_end(&b, &table), NULL, 0);
	refused(made_feed(decoder, tensor, NULL, why), ESK_EUNSUPPORTED, "(tensor)");
	assert_null(esk_arrow_decoder_schema(decoder));
}

static void types_with_unsound_parameters_are_refused(void **state)
{
	static const made_field fields[] = {
		{.name = "f", .type = MADE_INT, .scalar = {{0, 24, 4}, {1, 1, 1}}},
		{.name = "f", .type = MADE_INT},
		{.name = "f", .type = MADE_FLOAT, .scalar = {{0, 3, 2}}},
		{.name = "f", .type = MADE_FLOAT, .scalar = {{0, -1, 2}}},
		{.name = "f", .type = 9, .scalar = {{0, 0, 2}, {1, 64, 4}}}, /* time in s has 32 bits */
		{.name = "f", .type = 9, .scalar = {{0, 3, 2}, {1, 32, 4}}},
		{.name = "f", .type = 14, .scalar = {{0, 2, 2}}}, /* union */
		{.name = "f", .type = MADE_LIST},
		{.name = "f", .type = MADE_LIST, .children = {&number, &word}},
		{.name = "f", .type = MADE_UTF8, .children = {&word}},
		{.name = "f", .type = 17, .children = {&number}},        /* map */
		{.name = "f", .type = 22, .children = {&word, &number}}, /* run ends that are texts */
		{.name = "f", .type = 0},
		{.name = "\xFF", MADE_I32},
	};
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
		refused(made_feed(decoder, SCHEMA(&fields[i]), NULL, why), ESK_ECORRUPT,
			i == 13 ? "not UTF-8" : "\"f\"");
	static const made_field wide = {.name = "f", .type = 15, .scalar = {{0, -5, 4}}};
	refused(made_feed(decoder, SCHEMA(&wide), NULL, why), ESK_EUNSUPPORTED, "w:-5");
}

static void types_nested_too_deep_are_refused(void **state)
{
	static made_field deep[200];
	for (size_t i = 0; i < 200; i++) {
		deep[i] = (made_field){
			.name = "l", .type = MADE_LIST, .children = {i == 0 ? &number : &deep[i - 1]}};
	}
	esk_error err;
	assert_ok(made_feed(decoder, SCHEMA(&deep[ESK_ARROW_DEPTH - 2]), NULL, &err), &err);
	decoder_drop(state);
	decoder_make(state);
	refused(made_feed(decoder, SCHEMA(&deep[ESK_ARROW_DEPTH - 1]), NULL, why), ESK_EUNSUPPORTED,
		"more than 64 deep");
	refused(made_feed(decoder, SCHEMA(&deep[199]), NULL, why), ESK_EUNSUPPORTED, "more than 64 deep");
}

/* Each level refers to the next twice: 2^40 fields in a kilobyte. */
static void a_tree_that_refers_to_itself_over_and_over_is_refused(void **state)
{
	esk_builder b = {0};
	esk_builder_table table;
	esk_builder_ref field = made_field_table(&b, &number), name = esk_builder_string(&b, "x", 1);
	const uint8_t type = MADE_STRUCT;
	for (unsigned level = 0; level < 40; level++) {
		const esk_builder_ref twice[] = {field, field};
		esk_builder_ref list = esk_builder_refs(&b, twice, 2);
		esk_builder_begin(&b, &table);
		esk_builder_ref empty = esk_builder_end(&b, &table);
		esk_builder_begin(&b, &table);
		esk_builder_add_ref(&b, &table, 0, name);
		esk_builder_add(&b, &table, 2, &type, 1);
		esk_builder_add_ref(&b, &table, 3, empty);
		esk_builder_add_ref(&b, &table, 5, list);
		field = esk_builder_end(&b, &table);
	}
	esk_builder_ref list = esk_builder_refs(&b, &field, 1);
	esk_builder_begin(&b, &table);
	esk_builder_add_ref(&b, &table, 1, list);
	made_message message = made_finish(&b, 4, 1, esk_builder_end(&b, &table), NULL, 0);
	refused(made_feed(decoder, message, NULL, why), ESK_ECORRUPT, "again and again");
}

static void a_long_name_that_all_fields_share_is_refused(void **state)
{
	enum { FIELDS = 20000, NAME = 1 << 20 };
	esk_builder b = {0};
	esk_builder_table table;
	char *text = malloc(NAME);
	esk_builder_ref *refs = malloc(FIELDS * sizeof(*refs));
	memset(text, 'n', NAME);
	esk_builder_ref name = esk_builder_string(&b, text, NAME), type = made_type(&b, &number);
	for (size_t i = 0; i < FIELDS; i++) {
		esk_builder_begin(&b, &table);
		esk_builder_add_ref(&b, &table, 0, name);
		esk_builder_add(&b, &table, 2, &number.type, 1);
		esk_builder_add_ref(&b, &table, 3, type);
		refs[i] = esk_builder_end(&b, &table);
	}
	esk_builder_ref list = esk_builder_refs(&b, refs, FIELDS);
	esk_builder_begin(&b, &table);
	esk_builder_add_ref(&b, &table, 1, list);
	made_message message = made_finish(&b, 4, 1, esk_builder_end(&b, &table), NULL, 0);
	refused(made_feed(decoder, message, NULL, why), ESK_ECORRUPT, "too often");
	free(text);
	free(refs);
}

/* ---- batches ---- */

static const int32_t four[4] = {1, 2, 3, 4};

static made_batch numbers_batch(void)
{
	return (made_batch){.rows = 4,
		.nodes = {{4, 0}},
		.node_count = 1,
		.buffers = {{0, 0}, {0, 16}},
		.buffer_count = 2};
}

static void a_batch_is_read_in_place(void **state)
{
	esk_error err;
	struct ArrowArray array;
	made_batch batch = numbers_batch();
	assert_ok(made_feed(decoder, SCHEMA(&number), NULL, &err), &err);
	made_message message = made_record_batch(&batch, four, 16);
	assert_ok(made_feed(decoder, message, &array, &err), &err);
	assert_int_equal(array.length, 4);
	const uint8_t *values = array.children[0]->buffers[1];
	assert_true(values >= message.data && values + 16 <= message.data + message.size);
	assert_memory_equal(values, four, 16);
	assert_null(array.children[0]->buffers[0]);
	/* A child may be moved out, and lives on when the rest is released. */
	struct ArrowArray child = *array.children[0];
	array.children[0]->release = NULL;
	array.release(&array);
	assert_memory_equal(child.buffers[1], four, 16);
	child.release(&child);
	free(message.data);
}

static void a_batch_that_does_not_fit_its_schema_or_body_is_refused(void **state)
{
	esk_error err;
	assert_ok(made_feed(decoder, SCHEMA(&number), NULL, &err), &err);
	struct {
		const char *says;
		made_batch batch;
	} cases[16];
	size_t count = 0;
#define WRONG(text, ...)                            \
	do {                                        \
		made_batch batch = numbers_batch(); \
		__VA_ARGS__;                        \
		cases[count].says = text;           \
		cases[count++].batch = batch;       \
	} while (0)
	WRONG("1 nodes and 1 buffers", batch.buffer_count = 1);
	WRONG("0 nodes and 2 buffers", batch.node_count = 0);
	WRONG("-4 rows", batch.rows = -4);
	WRONG("and its batch 3", batch.rows = 3);
	WRONG("need 20 bytes and have 16", batch.nodes[0][0] = batch.rows = 5);
	WRONG("need 36028797018963968 bytes|at most", batch.nodes[0][0] = batch.rows = INT64_C(1) << 53);
	WRONG("at most", batch.nodes[0][0] = batch.rows = INT64_MAX);
	WRONG("-1 rows and 0 nulls", batch.nodes[0][0] = -1);
	WRONG("5 nulls in 4 rows", batch.nodes[0][1] = 5);
	WRONG("2 nulls and no validity bitmap", batch.nodes[0][1] = 2);
	WRONG("says 3 nulls, and its bitmap has 2", batch.nodes[0][1] = 3; batch.buffers[0][1] = 1;
		batch.buffers[0][0] = 8);
	WRONG("says 0 nulls, and its bitmap has 2", batch.buffers[0][1] = 1; batch.buffers[0][0] = 8);
	WRONG("of a body that has 16", batch.buffers[1][0] = 8);
	WRONG("of a body that has 16", batch.buffers[1][0] = -8);
	WRONG("of a body that has 16", batch.buffers[1][1] = INT64_MAX);
	WRONG("of a body that has 16", batch.buffers[1][0] = INT64_MAX; batch.buffers[1][1] = INT64_MAX);
	for (size_t i = 0; i < count; i++) {
		const char *says =
			strchr(cases[i].says, '|') != NULL ? strchr(cases[i].says, '|') + 1 : cases[i].says;
		refused(made_feed(decoder, made_record_batch(&cases[i].batch, four, 16), NULL, why),
			ESK_ECORRUPT, says);
	}
	made_batch batch = numbers_batch();
	refused(made_feed(decoder, made_record_batch(&batch, NULL, 16), NULL, why), ESK_ECORRUPT,
		"cut short");
	refused(made_feed(decoder, made_record_batch(&batch, NULL, INT64_MAX), NULL, why), ESK_ECORRUPT,
		"cut short");
	refused(made_feed(decoder, made_record_batch(&batch, NULL, -16), NULL, why), ESK_ECORRUPT,
		"-16 bytes");
	assert_ok(made_feed(decoder, made_record_batch(&batch, four, 16), NULL, &err), &err);
}

static void a_batch_before_its_schema_is_refused(void **state)
{
	made_batch batch = numbers_batch();
	refused(made_feed(decoder, made_record_batch(&batch, four, 16), NULL, why), ESK_ECORRUPT,
		"before the schema");
}

static void a_buffer_off_its_alignment_is_copied(void **state)
{
	esk_error err;
	struct ArrowArray array;
	uint8_t body[24] = {0};
	made_batch batch = numbers_batch();
	batch.buffers[1][0] = 3;
	memcpy(body + 3, four, 16);
	assert_ok(made_feed(decoder, SCHEMA(&number), NULL, &err), &err);
	made_message message = made_record_batch(&batch, body, 24);
	assert_ok(made_feed(decoder, message, &array, &err), &err);
	assert_int_equal((uintptr_t)array.children[0]->buffers[1] % 8, 0);
	assert_memory_equal(array.children[0]->buffers[1], four, 16);
	array.release(&array);
	free(message.data);
}

static void unsound_texts_are_refused_with_their_row(void **state)
{
	esk_error err;
	assert_ok(made_feed(decoder, SCHEMA(&word), NULL, &err), &err);
	struct {
		int32_t offsets[4];
		const char *text;
		const char *says;
	} cases[] = {
		{{0, 1, 2, 3}, "abc", ""},
		{{0, 2, 1, 3}, "abc", "offset 2 is 1, below the 2"},
		{{-1, 1, 2, 3}, "abc", "first offset is -1"},
		{{0, 1, 2, 9}, "abc", "last offset is 9, above the 8 bytes"},
		{{0, 1, 2, 3},
			"a\xFF"
			"c",
			"row 1 is not UTF-8"},
		{{0, 2, 3, 4},
			"a\xC3\xA9"
			"c",
			"row 0 is not UTF-8"},
		{{0, 1, 3, 4},
			"a\xC3\xA9"
			"c",
			""},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint8_t body[24] = {0};
		made_batch batch = {.rows = 3,
			.nodes = {{3, 0}},
			.node_count = 1,
			.buffers = {{0, 0}, {0, 16}, {16, 8}},
			.buffer_count = 3};
		memcpy(body, cases[i].offsets, 16);
		memcpy(body + 16, cases[i].text, strlen(cases[i].text));
		made_message message = made_record_batch(&batch, body, 24);
		if (cases[i].says[0] == '\0')
			assert_ok(made_feed(decoder, message, NULL, &err), &err);
		else
			refused(made_feed(decoder, message, NULL, why), ESK_ECORRUPT, cases[i].says);
	}
}

/* ---- dictionaries ---- */

static const made_field coded = {
	.name = "c", .type = MADE_INT, .scalar = {{0, 32, 4}, {1, 1, 1}}, .dictionary = 8};

static made_message coded_batch(int32_t index, bool is_null)
{
	int32_t body[4] = {is_null ? 0 : 1, 0, index, 0};
	made_batch batch = {.rows = 1,
		.nodes = {{1, is_null}},
		.node_count = 1,
		.buffers = {{0, is_null ? 1 : 0}, {8, 4}},
		.buffer_count = 2};
	return made_record_batch(&batch, body, 16);
}

static void indices_are_held_against_the_dictionary_of_their_time(void **state)
{
	esk_error err;
	struct ArrowArray first, second, third;
	made_batch values = numbers_batch();
	assert_ok(made_feed(decoder, SCHEMA(&coded), NULL, &err), &err);
	/* A batch of nulls may come before its dictionary. */
	assert_ok(made_feed(decoder, coded_batch(77, true), NULL, &err), &err);
	refused(made_feed(decoder, coded_batch(0, false), NULL, why), ESK_ECORRUPT,
		"index 0, and the dictionary 0");
	refused(made_feed(decoder, made_dictionary(7, true, &values, four, 16), NULL, why), ESK_ECORRUPT,
		"not come yet");
	refused(made_feed(decoder, made_dictionary(6, false, &values, four, 16), NULL, why), ESK_ECORRUPT,
		"no field");
	assert_ok(made_feed(decoder, made_dictionary(7, false, &values, four, 16), NULL, &err), &err);
	refused(made_feed(decoder, coded_batch(4, false), NULL, why), ESK_ECORRUPT,
		"index 4, and the dictionary 4");
	refused(made_feed(decoder, coded_batch(-1, false), NULL, why), ESK_ECORRUPT, "index -1");
	made_message one = coded_batch(3, false), two = coded_batch(7, false), three = coded_batch(0, false);
	assert_ok(made_feed(decoder, one, &first, &err), &err);
	assert_ok(made_feed(decoder, made_dictionary(7, true, &values, four, 16), NULL, &err), &err);
	assert_ok(made_feed(decoder, two, &second, &err), &err);
	values = (made_batch){.rows = 1,
		.nodes = {{1, 0}},
		.node_count = 1,
		.buffers = {{0, 0}, {8, 4}},
		.buffer_count = 2};
	assert_ok(made_feed(decoder, made_dictionary(7, false, &values, four, 16), NULL, &err), &err);
	assert_ok(made_feed(decoder, three, &third, &err), &err);
	decoder_drop(state);
	assert_int_equal(first.children[0]->dictionary->length, 4);
	assert_int_equal(second.children[0]->dictionary->length, 8);
	assert_int_equal(((const int32_t *)second.children[0]->dictionary->buffers[1])[7], 4);
	assert_int_equal(third.children[0]->dictionary->length, 1);
	assert_int_equal(((const int32_t *)third.children[0]->dictionary->buffers[1])[0], 3);
	first.release(&first);
	second.release(&second);
	third.release(&third);
	free(one.data);
	free(two.data);
	free(three.data);
}

/* ---- compression ---- */

enum { LARGE = 1 << 20 };

static size_t compress(bool zstd, const void *from, size_t size, uint8_t *to, size_t room)
{
	int64_t made = (int64_t)size;
	memcpy(to, &made, 8);
	size_t used = zstd ? ZSTD_compress(to + 8, room - 8, from, size, 1)
			   : LZ4F_compressFrame(to + 8, room - 8, from, size, NULL);
	assert_false(zstd ? ZSTD_isError(used) : LZ4F_isError(used));
	return 8 + used;
}

/* Two columns of a megabyte each, so that several threads take part. */
static made_message large_batch(bool zstd, const uint8_t *values, int64_t change_size, size_t damage_at)
{
	size_t room = 2 * LARGE + 4096;
	uint8_t *body = calloc(1, 2 * room);
	size_t first = compress(zstd, values, LARGE, body, room), at = (first + 7) / 8 * 8;
	size_t second = compress(zstd, values, LARGE, body + at, room);
	int64_t size = LARGE + change_size;
	memcpy(body, &size, 8);
	if (damage_at > 0)
		body[at + damage_at % second] ^= 0x5A;
	made_batch batch = {.rows = LARGE / 4,
		.nodes = {{LARGE / 4, 0}, {LARGE / 4, 0}},
		.node_count = 2,
		.buffers = {{0, 0}, {0, (int64_t)first}, {0, 0}, {(int64_t)at, (int64_t)second}},
		.buffer_count = 4,
		.compressed = true,
		.codec = zstd};
	made_message message = made_record_batch(&batch, body, (int64_t)(at + (second + 7) / 8 * 8));
	free(body);
	return message;
}

static void large_compressed_batches_come_back_from_several_threads(void **state)
{
	esk_error err;
	uint8_t *values = malloc(LARGE);
	for (size_t i = 0; i < LARGE; i++)
		values[i] = (uint8_t)(draw(4) + i / 1000);
	assert_ok(made_feed(decoder, SCHEMA(&number, &number), NULL, &err), &err);
	for (unsigned turn = 0; turn < 12; turn++) {
		struct ArrowArray array;
		made_message message = large_batch(turn % 2 == 0, values, 0, 0);
		assert_ok(made_feed(decoder, message, &array, &err), &err);
		free(message.data); /* nothing points into it */
		assert_memory_equal(array.children[0]->buffers[1], values, LARGE);
		assert_memory_equal(array.children[1]->buffers[1], values, LARGE);
		array.release(&array);
	}
	free(values);
}

/* The threads of the team are not in the child, which does their pieces itself. */
static void a_child_of_a_fork_decompresses_alone(void **state)
{
	esk_error err;
	uint8_t *values = malloc(LARGE);
	for (size_t i = 0; i < LARGE; i++)
		values[i] = (uint8_t)(i / 1000);
	assert_ok(made_feed(decoder, SCHEMA(&number, &number), NULL, &err), &err);
	assert_ok(made_feed(decoder, large_batch(true, values, 0, 0), NULL, &err), &err);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		bool good = made_feed(decoder, large_batch(true, values, 0, 0), NULL, &err) == ESK_OK;
		decoder_drop(state);
		_exit(good ? 0 : 1);
	}
	int status = -1;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_ok(made_feed(decoder, large_batch(false, values, 0, 0), NULL, &err), &err);
	free(values);
}

static void compressed_buffers_that_lie_about_their_size_are_refused(void **state)
{
	esk_error err;
	uint8_t *values = calloc(1, LARGE);
	assert_ok(made_feed(decoder, SCHEMA(&number, &number), NULL, &err), &err);
	for (unsigned zstd = 0; zstd < 2; zstd++) {
		refused(made_feed(decoder, large_batch(zstd, values, -4, 0), NULL, why), ESK_ECORRUPT,
			"buffer 1");
		refused(made_feed(decoder, large_batch(zstd, values, 4, 0), NULL, why), ESK_ECORRUPT,
			"buffer 1");
		/* Before memory is taken: no codec makes as much of so little, or it is above the limit. */
		refused(made_feed(decoder, large_batch(zstd, values, INT64_C(1) << 50, 0), NULL, why),
			ESK_ECORRUPT, "says it becomes");
		refused(made_feed(decoder, large_batch(zstd, values, -LARGE - 2, 0), NULL, why), ESK_ECORRUPT,
			"says it becomes -2");
	}
	assert_ok(esk_arrow_decoder_limit(decoder, LARGE, &err), &err);
	refused(made_feed(decoder, large_batch(true, values, 0, 0), NULL, why), ESK_ERANGE,
		"which is the limit");
	refused(esk_arrow_decoder_limit(decoder, 0, why), ESK_EINVAL, "0 bytes");
	free(values);
}

static void damaged_compressed_buffers_are_refused_or_have_their_size(void **state)
{
	esk_error err;
	uint8_t *values = malloc(LARGE);
	unsigned refusals = 0;
	for (size_t i = 0; i < LARGE; i++)
		values[i] = (uint8_t)(i / 7 % 50 * draw(2)); /* has repetitions, which damage breaks */
	assert_ok(made_feed(decoder, SCHEMA(&number, &number), NULL, &err), &err);
	for (unsigned turn = 0; turn < test_scale(100); turn++)
		refusals += made_feed(decoder, large_batch(turn % 2, values, 0, 8 + draw(100000)), NULL,
				    &err) != ESK_OK;
	assert_true(refusals > 0);
	free(values);
}

static void a_buffer_left_as_it_is_in_a_compressed_body_is_read(void **state)
{
	esk_error err;
	struct ArrowArray array;
	uint8_t body[24];
	memset(body, 0xFF, 8);
	memcpy(body + 8, four, 16);
	made_batch batch = numbers_batch();
	batch.compressed = true;
	batch.buffers[1][1] = 24;
	assert_ok(made_feed(decoder, SCHEMA(&number), NULL, &err), &err);
	made_message message = made_record_batch(&batch, body, 24);
	assert_ok(made_feed(decoder, message, &array, &err), &err);
	assert_memory_equal(array.children[0]->buffers[1], four, 16);
	array.release(&array);
	free(message.data);
	batch.codec = 2;
	refused(made_feed(decoder, made_record_batch(&batch, body, 24), NULL, why), ESK_EUNSUPPORTED,
		"codec 2");
}

/* ---- framing ---- */

static void framing_says_how_many_bytes_a_message_has(void **state)
{
	esk_error err;
	made_batch batch = numbers_batch();
	made_message message = made_record_batch(&batch, four, 16);
	uint64_t bytes = 99;
	for (size_t size = 0; size <= message.size; size++) {
		assert_ok(esk_arrow_message_bytes(message.data, size, 1 << 20, &bytes, &err), &err);
		assert_int_equal(bytes, size < message.size - 16 ? 0 : message.size);
	}
	refused(esk_arrow_message_bytes(message.data, message.size, message.size - 1, &bytes, why),
		ESK_ERANGE, "at most");
	static const uint8_t end[8] = {0xFF, 0xFF, 0xFF, 0xFF}, old_end[4] = {0};
	assert_ok(esk_arrow_message_bytes(end, 8, 1 << 20, &bytes, &err), &err);
	assert_int_equal(bytes, 8);
	assert_ok(esk_arrow_message_bytes(old_end, 4, 1 << 20, &bytes, &err), &err);
	assert_int_equal(bytes, 4);
	static const uint8_t negative[8] = {0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0x80};
	refused(esk_arrow_message_bytes(negative, 8, 1 << 20, &bytes, why), ESK_ECORRUPT, "metadata");
	static const uint8_t noise[16] = "GET / HTTP/1.1";
	refused(esk_arrow_message_bytes(noise, 16, 1 << 20, &bytes, why), ESK_ERANGE, "metadata");
	free(message.data);
}

static void a_stream_that_promises_much_and_ends_takes_little_memory(void **state)
{
	/* A schema message that says it has a gigabyte of metadata, of which 100 bytes come. */
	uint8_t bytes[108] = {0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0x3F};
	int ends[2];
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], bytes, sizeof bytes), sizeof bytes);
	close(ends[1]);
	struct ArrowArrayStream stream;
	refused(esk_arrow_open_fd(ends[0], &stream, why), ESK_ECORRUPT, "ends after 108 bytes");
	close(ends[0]);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
#define WITH_DECODER(name) cmocka_unit_test_setup_teardown(name, decoder_make, decoder_drop)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(formats_are_parsed_with_their_parameters),
		cmocka_unit_test(formats_that_are_none_are_refused),
		cmocka_unit_test(bits_are_counted_from_any_to_any),
		cmocka_unit_test(a_fall_is_found_wherever_it_is),
		cmocka_unit_test(the_largest_value_is_found_in_every_width),
		cmocka_unit_test(texts_are_judged_as_the_slow_way_judges_them),
		cmocka_unit_test(flatbuffers_that_point_anywhere_are_read_without_a_step_outside),
		WITH_DECODER(a_schema_is_read),
		WITH_DECODER(what_is_not_offered_is_refused_by_name),
		WITH_DECODER(types_with_unsound_parameters_are_refused),
		WITH_DECODER(types_nested_too_deep_are_refused),
		WITH_DECODER(a_tree_that_refers_to_itself_over_and_over_is_refused),
		WITH_DECODER(a_long_name_that_all_fields_share_is_refused),
		WITH_DECODER(a_batch_is_read_in_place),
		WITH_DECODER(a_batch_that_does_not_fit_its_schema_or_body_is_refused),
		WITH_DECODER(a_batch_before_its_schema_is_refused),
		WITH_DECODER(a_buffer_off_its_alignment_is_copied),
		WITH_DECODER(unsound_texts_are_refused_with_their_row),
		WITH_DECODER(indices_are_held_against_the_dictionary_of_their_time),
		WITH_DECODER(large_compressed_batches_come_back_from_several_threads),
		WITH_DECODER(a_child_of_a_fork_decompresses_alone),
		WITH_DECODER(compressed_buffers_that_lie_about_their_size_are_refused),
		WITH_DECODER(damaged_compressed_buffers_are_refused_or_have_their_size),
		WITH_DECODER(a_buffer_left_as_it_is_in_a_compressed_body_is_read),
		cmocka_unit_test(framing_says_how_many_bytes_a_message_has),
		cmocka_unit_test(a_stream_that_promises_much_and_ends_takes_little_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
