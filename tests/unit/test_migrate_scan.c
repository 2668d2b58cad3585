/* The scanner of JSON arrays and the taking apart of payloads: every kind against what was written, faults at
 * their places, and cuts at every byte. */
#include "../../profiles/replay/migrate_payload.h"
#include "support/unit.h"

#include <math.h>
#include <sys/mman.h>

static uint64_t random_state;

static uint64_t draw(uint64_t below)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	uint64_t bits = random_state ^ random_state >> 29;
	return (bits * 0xBF58476D1CE4E5B9u >> 16) % below;
}

static int start_random(void **state)
{
	random_state = test_seed();
	return 0;
}

/* The text where no byte behind it may be read: the next page is not there. */
typedef struct fenced {
	char *pages;
	size_t bytes;
	const char *text;
} fenced;

static fenced fence(const char *text, size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = (size / page + 2) * page;
	char *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(pages != MAP_FAILED);
	assert_int_equal(mprotect(pages + bytes - page, page, PROT_NONE), 0);
	char *copy = pages + bytes - page - size;
	memcpy(copy, text, size);
	return (fenced){pages, bytes, copy};
}

static void unfence(fenced *f)
{
	munmap(f->pages, f->bytes);
}

/* ---- what is written is read ---- */

typedef struct sample {
	char *text;
	size_t size;
	double *values;
	uint32_t rank;
	uint64_t shape[8];
	size_t elements;
} sample;

static void put_value(FILE *out, esk_kind kind, double *ret_value)
{
	switch (kind) {
	case ESK_BOOL:
		*ret_value = (double)draw(2);
		fputs(*ret_value != 0 ? "true" : "false", out);
		break;
	case ESK_U8: /* long runs of one value too, as pictures have them */
		*ret_value = (double)(draw(3) != 0 ? 0 : draw(256));
		fprintf(out, "%.0f", *ret_value);
		break;
	case ESK_I64: {
		int64_t value = (int64_t)(draw(UINT64_C(1) << 48) >> draw(48)) - (int64_t)draw(300);
		*ret_value = (double)value;
		fprintf(out, "%lld", (long long)value);
		break;
	}
	case ESK_F32:
		*ret_value = (double)(float)((double)draw(1u << 30) / (double)(1 + draw(1u << 30)));
		fprintf(out, "%.17g", *ret_value);
		break;
	default: {
		char text[64];
		*ret_value = ((double)draw(1u << 30) - (1 << 29)) * pow(10, (double)draw(40) - 20) / 7;
		snprintf(text, sizeof text, "%.*g", (int)draw(4) + 14, *ret_value);
		fprintf(out, "%s%s", text, strpbrk(text, ".e") == NULL ? ".0" : "");
	}
	}
}

static void put_level(FILE *out, sample *s, esk_kind kind, uint32_t level, const char *gap)
{
	if (level == s->rank) {
		put_value(out, kind, &s->values[s->elements++]);
		return;
	}
	fputc('[', out);
	for (uint64_t i = 0; i < s->shape[level]; i++) {
		fprintf(out, "%s%s", i > 0 ? "," : "", i > 0 ? gap : "");
		put_level(out, s, kind, level + 1, gap);
	}
	fputc(']', out);
}

static sample make_sample(esk_kind kind)
{
	static const char *const gaps[] = {" ", "", "  ", "\n\t"};
	sample s = {.rank = (uint32_t)draw(5)};
	size_t elements = 1;
	for (uint32_t i = 0; i < s.rank; i++) {
		s.shape[i] = 1 + draw(12);
		elements *= s.shape[i];
	}
	s.values = calloc(elements, sizeof *s.values);
	FILE *out = open_memstream(&s.text, &s.size);
	put_level(out, &s, kind, 0, gaps[draw(4)]);
	fclose(out);
	return s;
}

static void drop_sample(sample *s)
{
	free(s->text);
	free(s->values);
}

static double element(esk_kind kind, const void *cell, size_t i)
{
	switch (kind) {
	case ESK_BOOL:
	case ESK_U8:
		return ((const uint8_t *)cell)[i];
	case ESK_I64:
		return (double)((const int64_t *)cell)[i];
	case ESK_F32:
		return (double)((const float *)cell)[i];
	default:
		return ((const double *)cell)[i];
	}
}

static void check_values(const sample *s, esk_kind kind, const void *cell)
{
	for (size_t i = 0; i < s->elements; i++)
		if (kind != ESK_F64 && element(kind, cell, i) != s->values[i])
			fail_msg("%s: element %zu is %.17g, expected %.17g", s->text, i,
				element(kind, cell, i), s->values[i]);
	if (kind != ESK_F64)
		return;
	const char *at = s->text; /* reals are printed with fewer digits: what strtod makes of those */
	for (size_t i = 0; i < s->elements; i++) {
		char *behind;
		at += strcspn(at, "-0123456789");
		double value = strtod(at, &behind);
		if (element(kind, cell, i) != value)
			fail_msg("%.24s: found %.17g, expected %.17g", at, element(kind, cell, i), value);
		at = behind;
	}
}

static void arrays_of_every_kind_and_shape_are_read_as_they_were_written(void **state)
{
	static const esk_kind kinds[] = {ESK_BOOL, ESK_U8, ESK_I64, ESK_F32, ESK_F64};
	for (uint64_t turn = 0; turn < test_scale(4000); turn++) {
		esk_kind kind = kinds[turn % 5];
		sample s = make_sample(kind);
		fenced text = fence(s.text, s.size);
		esk_scan_form form;
		size_t at = 0;
		if (esk_scan_look(text.text, s.size, &at, &form) != ESK_SCAN_OK || at != s.size)
			fail_msg("%s: not looked at beyond byte %zu", s.text, at);
		assert_true(form.rank == s.rank && form.elements == s.elements);
		assert_memory_equal(form.shape, s.shape, s.rank * sizeof *s.shape);
		assert_true(kind == ESK_BOOL ? form.has_flags && !form.has_numbers : form.has_numbers);
		/* Exactly as large as it must be: the sanitizers see a byte too many. */
		void *cell = malloc(s.elements * 8);
		at = 0;
		if (esk_scan_read(text.text, s.size, &at, kind, s.rank, s.shape, cell) != ESK_SCAN_OK ||
			at != s.size)
			fail_msg("%s: not read beyond byte %zu", s.text, at);
		check_values(&s, kind, cell);
		at = 0;
		assert_int_equal(esk_scan_skip(text.text, s.size, &at), ESK_SCAN_OK);
		assert_int_equal(at, s.size);
		free(cell);
		unfence(&text);
		drop_sample(&s);
	}
}

static void a_text_cut_anywhere_is_refused_and_nothing_behind_it_is_read(void **state)
{
	sample s;
	do {
		s = make_sample(ESK_U8);
		if (s.rank < 3)
			drop_sample(&s);
	} while (s.rank < 3);
	void *cell = malloc(s.elements);
	for (size_t size = 0; size < s.size; size++) {
		fenced text = fence(s.text, size);
		esk_scan_form form;
		size_t at = 0;
		assert_int_not_equal(esk_scan_look(text.text, size, &at, &form), ESK_SCAN_OK);
		assert_true(at <= size);
		at = 0;
		assert_int_not_equal(
			esk_scan_read(text.text, size, &at, ESK_U8, s.rank, s.shape, cell), ESK_SCAN_OK);
		assert_true(at <= size);
		at = 0;
		assert_int_not_equal(esk_scan_skip(text.text, size, &at), ESK_SCAN_OK);
		unfence(&text);
	}
	free(cell);
	drop_sample(&s);
}

/* ---- faults ---- */

static void faults_are_found_where_they_are(void **state)
{
	static const struct {
		const char *text;
		esk_scan_fault fault;
		size_t at;
	} cases[] = {{"", ESK_SCAN_SYNTAX, 0}, {"[", ESK_SCAN_SYNTAX, 1}, {"[]", ESK_SCAN_EMPTY, 1},
		{"[[]]", ESK_SCAN_EMPTY, 2}, {"[1,]", ESK_SCAN_SYNTAX, 3}, {"[1 2]", ESK_SCAN_SYNTAX, 3},
		{"[01]", ESK_SCAN_SYNTAX, 1}, {"[1.]", ESK_SCAN_SYNTAX, 3}, {"[1e]", ESK_SCAN_SYNTAX, 3},
		{"[-]", ESK_SCAN_SYNTAX, 2}, {"[1,[2]]", ESK_SCAN_RAGGED, 3}, {"[[1],2]", ESK_SCAN_RAGGED, 5},
		{"[[1],[2,3]]", ESK_SCAN_RAGGED, 9}, {"[[1,2],[3]]", ESK_SCAN_RAGGED, 9},
		{"[[1],[[2]]]", ESK_SCAN_RAGGED, 6}, {"[[1],[]]", ESK_SCAN_RAGGED, 6},
		{"[[[1]],[2]]", ESK_SCAN_RAGGED, 8}, {"[[[1],[2]],[[3]]]", ESK_SCAN_RAGGED, 15},
		{"[1,\"a\"]", ESK_SCAN_OTHER, 3}, {"[null]", ESK_SCAN_OTHER, 1}, {"[{}]", ESK_SCAN_OTHER, 1},
		{"\"a\"", ESK_SCAN_OTHER, 0}, {"[-true]", ESK_SCAN_OTHER, 2}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		esk_scan_form form;
		size_t at = 0;
		esk_scan_fault fault = esk_scan_look(cases[i].text, strlen(cases[i].text), &at, &form);
		if (fault != cases[i].fault || at != cases[i].at)
			fail_msg("%s: found \"%s\" at %zu, expected \"%s\" at %zu", cases[i].text,
				esk_scan_fault_text(fault), at, esk_scan_fault_text(cases[i].fault),
				cases[i].at);
	}
}

static void what_a_kind_does_not_hold_exactly_is_refused(void **state)
{
	static const struct {
		const char *text;
		esk_kind kind;
		esk_scan_fault fault;
	} cases[] = {{"255", ESK_U8, ESK_SCAN_OK}, {"256", ESK_U8, ESK_SCAN_VALUE},
		{"-1", ESK_U8, ESK_SCAN_VALUE}, {"1.0", ESK_U8, ESK_SCAN_VALUE},
		{"true", ESK_U8, ESK_SCAN_VALUE}, {"1", ESK_BOOL, ESK_SCAN_VALUE},
		{"9223372036854775807", ESK_I64, ESK_SCAN_OK},
		{"9223372036854775808", ESK_I64, ESK_SCAN_VALUE}, {"1e3", ESK_I64, ESK_SCAN_VALUE},
		{"9007199254740992", ESK_F64, ESK_SCAN_OK}, {"9007199254740994", ESK_F64, ESK_SCAN_VALUE},
		{"0.5", ESK_F32, ESK_SCAN_OK}, {"0.1", ESK_F32, ESK_SCAN_VALUE},
		{"0.10000000149011612", ESK_F32, ESK_SCAN_OK}, {"16777217", ESK_F32, ESK_SCAN_VALUE},
		{"NaN", ESK_F32, ESK_SCAN_OK}, {"NaN", ESK_I64, ESK_SCAN_VALUE},
		{"-Infinity", ESK_F64, ESK_SCAN_OK}, {"true", ESK_F64, ESK_SCAN_VALUE}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		double cell[1];
		size_t at = 0;
		esk_scan_fault fault = esk_scan_read(
			cases[i].text, strlen(cases[i].text), &at, cases[i].kind, 0, NULL, cell);
		if (fault != cases[i].fault)
			fail_msg("%s: \"%s\"", cases[i].text, esk_scan_fault_text(fault));
	}
	/* The same behind enough text for the fast way. */
	uint8_t cells[4];
	size_t at = 0;
	assert_int_equal(
		esk_scan_read("[12, 300, 7, 9]                ", 30, &at, ESK_U8, 1, (uint64_t[]){4}, cells),
		ESK_SCAN_VALUE);
	assert_int_equal(at, 5);
}

static void an_array_of_another_shape_does_not_leave_its_cell(void **state)
{
	static const char *const texts[] = {"[[1, 2, 3], [4, 5, 6], [7, 8, 9]]",
		"[[1, 2, 3, 4], [5, 6, 7, 8]]", "[[1, 2], [3, 4]]", "[[1, 2, 3]]", "[1, 2, 3]",
		"[[[1, 2, 3], [4, 5, 6]]]", "7",
		"[[1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3]]"};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		uint8_t *cell = malloc(6);
		size_t at = 0;
		esk_scan_fault fault =
			esk_scan_read(texts[i], strlen(texts[i]), &at, ESK_U8, 2, (uint64_t[]){2, 3}, cell);
		assert_true(fault == ESK_SCAN_SHAPE || fault == ESK_SCAN_RAGGED);
		free(cell);
	}
}

/* ---- payloads ---- */

static esk_payload_form choose(const char *const *texts, size_t count, bool single, const char *signature)
{
	esk_payload_survey *survey = calloc(1, sizeof *survey);
	esk_payload_form form;
	esk_error err;
	for (size_t i = 0; i < count; i++)
		esk_payload_look(survey, texts[i], strlen(texts[i]));
	assert_ok(esk_payload_choose(
			  survey, &(esk_payload_wish){.single = single, .signature = signature}, &form, &err),
		&err);
	free(survey);
	size_t offset = 0;
	for (size_t i = 0; i < form.leaf_count; i++) {
		form.leaves[i].offset = offset;
		offset += form.leaves[i].cell_bytes;
	}
	return form;
}

static void a_payload_is_its_leaves_and_the_text_around_them(void **state)
{
	const char *json =
		" {\"mode\": \"rgb, [1]\", \"view\": {\"rgb\": [[1, 2], [3, 4]], \"k\\\"\": [0.5]},"
		" \"who\": [\"a\", 1], \"n\": 7} ";
	esk_payload_form form = choose(&json, 1, false, NULL);
	assert_int_equal(form.leaf_count, 3);
	assert_string_equal(form.leaves[0].column, "view/rgb");
	assert_string_equal(form.leaves[1].column, "view/k__");
	assert_string_equal(form.leaves[2].column, "n");
	uint8_t cells[64];
	esk_payload_text text = {0};
	esk_payload_result result;
	assert_true(esk_payload_read(&form, json, strlen(json), cells, &text, &result));
	assert_true(result.has[0] && result.has[1] && result.has[2] && !result.usual);
	int64_t rgb[4], n;
	memcpy(rgb, cells, sizeof rgb);
	memcpy(&n, cells + form.leaves[2].offset, sizeof n);
	assert_true(rgb[0] == 1 && rgb[3] == 4 && n == 7);
	static const char expected[] = " {\"mode\": \"rgb, [1]\", \"view\": {\"rgb\": null, \"k\\\"\": null},"
				       " \"who\": [\"a\", 1], \"n\": null} ";
	assert_int_equal(text.size, strlen(expected));
	assert_memory_equal(text.data, expected, text.size);
	form.text = text.data;
	form.text_bytes = text.size;
	text = (esk_payload_text){0};
	assert_true(esk_payload_read(&form, json, strlen(json), cells, &text, &result));
	assert_true(result.usual);
	free(text.data);
	esk_payload_form_clear(&form);
}

static void dtype_and_shape_are_those_of_most_payloads(void **state)
{
	const char *ragged[] = {"[[1, 2], [3]]", "[[1, 2], [3, 4]]", "[[1, 2], [3, 4]]", "[[1, 2]]", "null"};
	esk_payload_form form = choose(ragged, 5, false, "Box(0, 255, (2, 2), uint8)");
	assert_int_equal(form.leaf_count, 1);
	assert_true(
		form.leaves[0].kind == ESK_U8 && form.leaves[0].rank == 2 && form.leaves[0].shape[0] == 2);
	esk_payload_form_clear(&form);
	form = choose(ragged, 5, false, NULL);
	assert_int_equal(form.leaves[0].kind, ESK_I64); /* four numbers are no picture */
	esk_payload_form_clear(&form);
	const char *reals[] = {"[0.5, 1]", "[0.25, 3.0]"};
	form = choose(reals, 2, false, NULL);
	assert_int_equal(form.leaves[0].kind, ESK_F64);
	esk_payload_form_clear(&form);
	form = choose(reals, 2, false, "{\"dtype\": \"float32\"}");
	assert_int_equal(form.leaves[0].kind, ESK_F32);
	esk_payload_form_clear(&form);
	const char *frame = "{\"size\": [2, 1], \"rgb\": [[1, 2, 3], [1, 2, 3]], \"fps\": 30}";
	form = choose(&frame, 1, true, NULL);
	assert_int_equal(form.leaf_count, 1);
	assert_string_equal(form.leaves[0].path, "rgb");
	assert_string_equal(form.leaves[0].column, "");
	esk_payload_form_clear(&form);
}

static void a_payload_that_cannot_be_moved_says_where_and_why(void **state)
{
	static const struct {
		const char *json, *message;
	} cases[] = {{"{\"rgb\": [[1, 2], [3]]}", "rows of different lengths at byte 19"},
		{"{\"rgb\": [[1, 2], [3, 4], [5, 6]]}", "another shape than the run's other rows at byte 8"},
		{"{\"rgb\": [[1, 2], [3, 4000000000000000000000]]}", "does not hold at byte"},
		{"{\"rgb\": \"[[1, 2], [3, 4]]\"}", "not a number at byte 8"},
		{"{\"rgb\": [[1, 2], [3, 4]]", "no JSON at byte"}, {"{\"a\": frue}", "no JSON: "},
		{"{\"a\": 1, \"a\": 2}", "no JSON: "}, {"", "no JSON"},
		{"{\"rgb\": [[1, 2], [3, 4]], \"rgb\": [[1, 2], [3, 4]]}", "no JSON at byte"}};
	const char *usual = "{\"rgb\": [[1, 2], [3, 4]]}";
	esk_payload_form form = choose(&usual, 1, true, NULL);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint8_t cells[32];
		esk_payload_text text = {0};
		esk_payload_result result;
		assert_false(
			esk_payload_read(&form, cases[i].json, strlen(cases[i].json), cells, &text, &result));
		if (strstr(result.fault, cases[i].message) == NULL)
			fail_msg(
				"%s: \"%s\", expected \"%s\"", cases[i].json, result.fault, cases[i].message);
		free(text.data);
	}
	esk_payload_form_clear(&form);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(
			arrays_of_every_kind_and_shape_are_read_as_they_were_written, start_random),
		cmocka_unit_test_setup(
			a_text_cut_anywhere_is_refused_and_nothing_behind_it_is_read, start_random),
		cmocka_unit_test(faults_are_found_where_they_are),
		cmocka_unit_test(what_a_kind_does_not_hold_exactly_is_refused),
		cmocka_unit_test(an_array_of_another_shape_does_not_leave_its_cell),
		cmocka_unit_test(a_payload_is_its_leaves_and_the_text_around_them),
		cmocka_unit_test(dtype_and_shape_are_those_of_most_payloads),
		cmocka_unit_test(a_payload_that_cannot_be_moved_says_where_and_why),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
