/* Parts of the way from record batches to cells, against plain models of them: bitmaps, text, decimals,
 * categories, memory that is kept. */
#include "unit/arrow_support.h"

#include "store/arrow_sink.h"

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint64_t begin_random(void)
{
	return test_seed() * 0x9E3779B97F4A7C15ull | 1;
}

static void bitmaps_are_spread_and_gathered_at_any_offset(void **state)
{
	(void)state;
	uint64_t random = begin_random();
	for (int round = 0; round < 3000; round++) {
		uint64_t first = next_random(&random) % 70, count = next_random(&random) % 200;
		uint64_t bytes = (first + count + 7) / 8;
		uint8_t *bits = malloc(bytes + (bytes == 0)), *spread = malloc(count + 1);
		uint8_t *gathered = malloc(count / 8 + 1);
		bool all = round % 5 == 0, set = true;
		for (uint64_t i = 0; i < bytes; i++)
			bits[i] = all ? 0xFF : (uint8_t)(next_random(&random) >> 20);
		if (all && count > 0 && round % 2 == 0) {
			uint64_t hole = first + next_random(&random) % count;
			bits[hole / 8] &= (uint8_t) ~(1u << (hole % 8));
		}
		spread[count] = 77;
		esk_bits_to_bytes(bits, first, count, spread);
		assert_int_equal(spread[count], 77);
		for (uint64_t i = 0; i < count; i++) {
			bool bit = bits[(first + i) / 8] >> ((first + i) % 8) & 1;
			assert_int_equal(spread[i], bit);
			set = set && bit;
		}
		assert_int_equal(esk_bits_all_set(bits, first, count), set);
		for (uint64_t i = 0; i < count; i++) /* any byte but 0 is 1 */
			spread[i] = spread[i] != 0 ? (uint8_t)(1 + next_random(&random) % 255) : 0;
		esk_bytes_to_bits(spread, count, gathered);
		for (uint64_t i = 0; i < count; i++)
			assert_int_equal(gathered[i / 8] >> (i % 8) & 1, spread[i] != 0);
		free(bits);
		free(spread);
		free(gathered);
	}
}

/* By the definition: the shortest form of a point that is no surrogate. */
static size_t plain_sound_bytes(const uint8_t *s, size_t size)
{
	size_t i = 0;
	while (i < size) {
		uint32_t point = 0;
		size_t length = 1;
		for (length = 1; length <= 4 && i + length <= size; length++) {
			static const uint8_t heads[] = {0, 0, 0xC0, 0xE0, 0xF0},
					     masks[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
			static const uint32_t least[] = {0, 1, 0x80, 0x800, 0x10000};
			point = s[i] & masks[length];
			bool fits =
				length == 1 ? s[i] < 0x80 : (s[i] & ~masks[length] & 0xFF) == heads[length];
			for (size_t k = 1; k < length; k++) {
				fits = fits && (s[i + k] & 0xC0) == 0x80;
				point = point << 6 | (s[i + k] & 0x3F);
			}
			if (fits && point >= least[length] && point <= 0x10FFFF &&
				!(point >= 0xD800 && point <= 0xDFFF))
				break;
		}
		if (length > 4 || i + length > size)
			return i;
		i += length;
	}
	return size;
}

static void text_is_sound_up_to_where_it_is_not(void **state)
{
	(void)state;
	static const char *const pieces[] = {"plain ascii", "\xC3\xA4", "\xE6\xBC\xA2", "\xF0\x9F\x98\x80",
		"\x80", "\xC0\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82", "\xFF", "\x01", "\x7F"};
	uint64_t random = begin_random();
	for (int round = 0; round < 5000; round++) {
		uint8_t text[128];
		size_t size = 0;
		for (uint64_t k = next_random(&random) % 8; k > 0; k--) {
			/* Mostly sound, so that faults are found deep inside as well. */
			uint64_t which = next_random(&random) % (next_random(&random) % 4 == 0 ? 12 : 4);
			memcpy(text + size, pieces[which], strlen(pieces[which]));
			size += strlen(pieces[which]);
		}
		if (size > 0 && next_random(&random) % 8 == 0)
			text[next_random(&random) % size] = 0;
		char *exact = malloc(size + (size == 0));
		memcpy(exact, text, size);
		assert_int_equal(esk_text_sound_bytes(exact, size), plain_sound_bytes(text, size));
		free(exact);
	}
}

static void decimals_are_exact_text_and_back(void **state)
{
	(void)state;
	static const struct {
		int64_t value;
		int32_t precision, scale;
		const char *text;
	} known[] = {{0, 5, 2, "0.00"}, {-5, 5, 2, "-0.05"}, {12345, 5, 2, "123.45"}, {7, 1, 0, "7"},
		{-7, 3, -2, "-700"}, {0, 3, -2, "0"}, {1, 2, 5, "0.00001"}, {-99, 2, 2, "-0.99"}};
	char text[ESK_DECIMAL_TEXT_BYTES];
	__int128 back;
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		uint32_t bytes = esk_decimal_text_bytes(known[i].precision, known[i].scale);
		assert_true(
			esk_decimal_format(known[i].value, known[i].precision, known[i].scale, text, bytes));
		assert_int_equal(strnlen(text, bytes), strlen(known[i].text));
		assert_memory_equal(text, known[i].text, strlen(known[i].text));
	}
	uint64_t random = begin_random();
	for (int round = 0; round < 20000; round++) {
		int32_t precision = 1 + (int32_t)(next_random(&random) % 38);
		int32_t scale = (int32_t)(next_random(&random) % 80) - 30;
		__int128 limit = 1, value;
		for (int32_t i = 0; i < precision; i++)
			limit *= 10;
		value = (__int128)((unsigned __int128)next_random(&random) << 64 | next_random(&random)) %
			limit;
		value = round % 50 == 0 ? limit - 1 : round % 50 == 1 ? 1 - limit : value;
		uint32_t bytes = esk_decimal_text_bytes(precision, scale);
		assert_true(bytes > 0 && bytes <= ESK_DECIMAL_TEXT_BYTES);
		assert_true(esk_decimal_format(value, precision, scale, text, bytes));
		assert_true(esk_decimal_parse(text, bytes, scale, &back) && back == value);
		assert_false(esk_decimal_format(limit, precision, scale, text, bytes));
	}
	static const char *const wrong[] = {
		"", "-", "1", "1.5", "1.5x", "1.500", ".", "--1.50", "+1.50", "1..50"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		assert_false(esk_decimal_parse(wrong[i], (uint32_t)strlen(wrong[i]), 2, &back));
	assert_false(esk_decimal_parse("701", 3, -2, &back));
	assert_false(esk_decimal_parse("999999999999999999999999999999999999999999", 42, 0, &back));
	assert_int_equal(esk_decimal_text_bytes(10, 3), 13);
	assert_int_equal(esk_decimal_text_bytes(39, 3), 0);
	assert_int_equal(esk_decimal_text_bytes(3, INT32_MIN), 0);
}

/* Values are numbers as text; `model` has them in their order. */
static void categories_taken_back_were_never_there(void **state)
{
	(void)state;
	enum { MOST = 4000 };
	uint64_t random = begin_random(), count = 0, *model = calloc(MOST, sizeof *model);
	esk_categories categories = {0};
	esk_error err = {0};
	for (int round = 0; round < 400; round++) {
		for (uint64_t k = next_random(&random) % 20; k > 0 && count < MOST; k--) {
			uint64_t value = next_random(&random) % 5000, i = 0;
			char text[32];
			uint32_t index;
			snprintf(text, sizeof text, "%llu", (unsigned long long)value);
			while (i < count && model[i] != value)
				i++;
			if (i == count)
				model[count++] = value;
			assert_ok(esk_categories_find(&categories, text, strlen(text), &index, &err), &err);
			assert_int_equal(index, i);
			assert_int_equal(categories.count, count);
		}
		if (next_random(&random) % 3 != 0)
			categories.committed = count;
		esk_categories_rollback(&categories);
		count = categories.committed;
		assert_int_equal(categories.count, count);
	}
	assert_true(count > 100);
	esk_categories_free(&categories);
	free(model);
}

static void appends_of_one_size_take_no_more_memory(void **state)
{
	place p = place_make(*state);
	esk_run *run = place_run(&p, "run", NULL);
	esk_error err = {0};
	esk_arrow_sink *sink;
	struct ArrowSchema *schema = arrow_schema();
	arrow_with(schema, arrow_field("on", "b", ARROW_FLAG_NULLABLE));
	arrow_with(schema, arrow_field("note", "u", 0));
	struct ArrowSchema *list = arrow_field("x", "+l", ARROW_FLAG_NULLABLE);
	arrow_with(schema, arrow_with(list, arrow_field("item", "l", ARROW_FLAG_NULLABLE)));
	assert_ok(esk_run_arrow(run, "scope", schema, NULL, &sink, &err), &err);
	uint8_t valid[100], on[100];
	const char *notes[100];
	int32_t offsets[101] = {0};
	int64_t values[300];
	for (int i = 0; i < 100; i++) {
		valid[i] = i % 3 != 0;
		on[i] = i % 2 == 0;
		notes[i] = "some text";
		offsets[i + 1] = offsets[i] + 3;
		memcpy(values + 3 * (ptrdiff_t)i, (int64_t[3]){i, i, i}, 24);
	}
	struct ArrowArray *batch = arrow_struct(100, NULL);
	arrow_with_child(batch, arrow_bits(100, valid, on));
	arrow_with_child(batch, arrow_texts(100, NULL, notes));
	arrow_with_child(batch, arrow_list(100, valid, offsets, arrow_fixed(300, NULL, values, 8)));
	const void *block = NULL, *ones = NULL;
	for (int i = 0; i < 20; i++) {
		assert_ok(esk_arrow_sink_append(sink, batch, 0, 100, NULL, 0, NULL, &err), &err);
		if (i == 3) {
			block = sink->arena.blocks;
			ones = sink->ones;
		}
		if (i > 3) {
			assert_ptr_equal(sink->arena.blocks, block);
			assert_ptr_equal(sink->ones, ones);
		}
	}
	/* What is not changed on the way is not copied on the way. */
	assert_ptr_equal(sink->tables[1].cells[0], batch->children[2]->children[0]->buffers[1]);
	esk_arrow_sink_close(sink);
	place_run_close(run);
	arrow_free_array(batch);
	arrow_free_schema(schema);
	place_close(&p);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		ONE(bitmaps_are_spread_and_gathered_at_any_offset),
		ONE(text_is_sound_up_to_where_it_is_not),
		ONE(decimals_are_exact_text_and_back),
		ONE(categories_taken_back_were_never_there),
		ONE(appends_of_one_size_take_no_more_memory),
	};
	return test_run(tests);
}
