/* dtypes, column specs, refs and names: the grammar of esker/column.h and esker/ref.h, hostile input, and
 * round trips of random values. */
#include "model/model.h"
#include "support/unit.h"

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

/* ---- dtypes ---- */

static void every_dtype_is_parsed_by_both_names_and_formatted_by_the_short_one(void **state)
{
	static const struct {
		const char *name, *numpy;
		esk_kind kind;
		uint32_t size_bytes;
	} expected[] = {{"bool", "bool", ESK_BOOL, 1}, {"i8", "int8", ESK_I8, 1},
		{"i16", "int16", ESK_I16, 2}, {"i32", "int32", ESK_I32, 4}, {"i64", "int64", ESK_I64, 8},
		{"u8", "uint8", ESK_U8, 1}, {"u16", "uint16", ESK_U16, 2}, {"u32", "uint32", ESK_U32, 4},
		{"u64", "uint64", ESK_U64, 8}, {"f16", "float16", ESK_F16, 2}, {"f32", "float32", ESK_F32, 4},
		{"f64", "float64", ESK_F64, 8}, {"c64", "complex64", ESK_C64, 8},
		{"c128", "complex128", ESK_C128, 16}, {"str", "str", ESK_STRING, sizeof(esk_string)},
		{"str1", "str1", ESK_STRING_N, 1}, {"str4096", "str4096", ESK_STRING_N, 4096}};
	for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
		esk_error err;
		esk_dtype dtype, numpy;
		char text[32];
		assert_ok(esk_dtype_parse(expected[i].name, &dtype, &err), &err);
		assert_ok(esk_dtype_parse(expected[i].numpy, &numpy, &err), &err);
		assert_int_equal(dtype.kind, expected[i].kind);
		assert_int_equal(numpy.kind, expected[i].kind);
		assert_int_equal(dtype.size_bytes, expected[i].size_bytes);
		assert_true(esk_dtype_valid(dtype));
		assert_int_equal(esk_dtype_format(dtype, text, sizeof text), strlen(expected[i].name));
		assert_string_equal(text, expected[i].name);
	}
}

static void unknown_dtypes_are_refused(void **state)
{
	static const char *const texts[] = {"", "u7", "U8", "u8 ", " u8", "u88", "uint", "float", "str0",
		"str-1", "str01", "str1x", "str+1", "str99999999999999999999999", "str1048577", "object",
		"c32", "i128"};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		esk_error err = {0};
		esk_dtype dtype = {ESK_F64, 99};
		if (esk_dtype_parse(texts[i], &dtype, &err) != ESK_EINVAL || err.code != ESK_EINVAL)
			fail_msg("\"%s\" was taken", texts[i]);
		assert_non_null(strstr(err.message, "expected bool"));
		assert_int_equal(dtype.size_bytes, 99); /* untouched */
		assert_int_equal(esk_dtype_parse(texts[i], &dtype, NULL), ESK_EINVAL);
	}
	assert_int_equal(esk_dtype_parse(NULL, &(esk_dtype){0}, NULL), ESK_EINVAL);
	assert_false(esk_dtype_valid((esk_dtype){0, 1}));
	assert_false(esk_dtype_valid((esk_dtype){ESK_U8, 2}));
	assert_false(esk_dtype_valid((esk_dtype){ESK_STRING_N, 0}));
	assert_false(esk_dtype_valid((esk_dtype){(esk_kind)99, 1}));
}

/* ---- column specs ---- */

static void a_column_spec_gives_name_dtype_shape_nullable_and_codec(void **state)
{
	esk_column *columns;
	size_t count;
	esk_error err;
	assert_ok(esk_columns_parse(
			  " frames:u8[210,160,3]@gzip:1,action:i32;note:str?\n x:f64[ 2 , 3 ]?@blosc:lz4 ",
			  &columns, &count, &err),
		&err);
	assert_int_equal(count, 4);
	assert_string_equal(columns[0].name, "frames");
	assert_string_equal(columns[0].codec, "gzip:1");
	assert_true(columns[0].rank == 3 && columns[0].shape[0] == 210 && columns[0].shape[2] == 3);
	assert_int_equal(esk_column_cell_bytes(&columns[0]), 100800);
	assert_true(columns[1].rank == 0 && columns[1].codec[0] == '\0' && !columns[1].nullable);
	assert_true(columns[2].nullable && columns[2].dtype.kind == ESK_STRING);
	assert_true(columns[3].nullable && columns[3].rank == 2 && columns[3].shape[1] == 3);
	assert_string_equal(columns[3].codec, "blosc:lz4");
	esk_columns_free(columns);
	esk_columns_free(NULL);
}

static void faulty_column_specs_are_refused_where_the_fault_is(void **state)
{
	static const struct {
		const char *text, *message;
	} cases[] = {{"", "empty"}, {" ,; ", "empty"}, {"a", "ends where ':'"}, {"a b", "byte 1"},
		{":u8", "byte 0"}, {"a:", "ends where a dtype"}, {"a: u8", "byte 2"},
		{"a:u9", "column \"a\": unknown dtype"}, {"a:u8[", "ends where a dimension"},
		{"a:u8[]", "byte 5"}, {"a:u8[1", "ends where ','"}, {"a:u8[1,]", "byte 7"},
		{"a:u8[-1]", "byte 5"}, {"a:u8[1.5]", "byte 6"}, {"a:u8[0]", "dimension 0"},
		{"a:u8[18446744073709551616]", "64 bits"}, {"a:u8[4294967296,4294967296]", "larger than"},
		{"a:u8[1099511627777]", "larger than"}, {"a:u8??", "byte 5"}, {"a:u8?[3]", "byte 5"},
		{"a:u8@", "ends where a codec"}, {"a:u8@gzip@1", "byte 9"}, {"a:u8[2][3]", "byte 7"},
		{"a:u8]", "byte 4"}, {"a:u8 a:u8", "twice"}, {"a//b:u8", "empty"}, {"a/:u8", "empty"},
		{"/a:u8", "empty"}, {"a/.b:u8", "'.'"}, {"a/../b:u8", "'.'"}, {".a:u8", "'.'"},
		{"a\\b:u8", "'\\'"}, {"\x01:u8", "control"}, {"\xff:u8", "UTF-8"},
		{"a:u8[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "31"}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		esk_error err = {0};
		esk_column *columns = (esk_column *)&err;
		size_t count = 77;
		esk_status status = esk_columns_parse(cases[i].text, &columns, &count, &err);
		if ((status != ESK_EINVAL && status != ESK_ERANGE) || err.code != status ||
			strstr(err.message, cases[i].message) == NULL)
			fail_msg("\"%s\": expected \"%s\", found %s: %s", cases[i].text, cases[i].message,
				esk_status_name(status), err.message);
		assert_true(columns == (esk_column *)&err && count == 77); /* untouched */
		assert_int_equal(esk_columns_parse(cases[i].text, &columns, &count, NULL), status);
	}
	assert_int_equal(esk_columns_parse(NULL, &(esk_column *){NULL}, &(size_t){0}, NULL), ESK_EINVAL);
}

static void long_parts_of_a_spec_are_refused_not_cut(void **state)
{
	char text[8000];
	esk_column *columns;
	size_t count;
	esk_error err;
	static const size_t sizes[] = {200, 201, 255, 256, 7000};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		memset(text, 'n', sizes[i]);
		strcpy(text + sizes[i], ":u8");
		esk_status status = esk_columns_parse(text, &columns, &count, &err);
		assert_int_equal(status, sizes[i] == 200 ? ESK_OK : ESK_EINVAL);
		if (status == ESK_OK)
			esk_columns_free(columns);
	}
	for (size_t size = 30; size < 2000; size *= 2) {
		strcpy(text, "a:");
		memset(text + 2, 'u', size);
		text[2 + size] = '\0';
		assert_int_equal(esk_columns_parse(text, &columns, &count, &err), ESK_EINVAL);
	}
	for (size_t size = 62; size < 66; size++) {
		strcpy(text, "a:u8@");
		memset(text + 5, 'c', size);
		text[5 + size] = '\0';
		esk_status status = esk_columns_parse(text, &columns, &count, &err);
		assert_int_equal(status, size < sizeof columns->codec ? ESK_OK : ESK_EINVAL);
		if (status == ESK_OK)
			esk_columns_free(columns);
	}
}

static void as_many_columns_as_allowed_and_no_more(void **state)
{
	esk_text text = {0};
	esk_column *columns;
	size_t count;
	esk_error err;
	for (int i = 0; i < ESK_MAX_COLUMNS; i++)
		esk_text_add(&text, "c%d:u8 ", i);
	assert_ok(esk_columns_parse(text.data, &columns, &count, &err), &err);
	assert_int_equal(count, ESK_MAX_COLUMNS);
	assert_string_equal(columns[4095].name, "c4095");
	esk_columns_free(columns);
	esk_text_add(&text, "more:u8");
	assert_int_equal(esk_columns_parse(text.data, &columns, &count, &err), ESK_ERANGE);
	esk_text_free(&text);
}

/* A name without what the grammar of specs needs for itself. */
static void random_name(char *name, bool spec)
{
	static const char *const letters[] = {"a", "Z", "7", "_", "-", "~", "%", "ü", "気", "🎈", "'", "\"",
		"+", "=", " ", "@", "?", "[", "]", ",", ";", "#", "&", "."};
	size_t size = 0, wanted = 1 + draw(draw(4) == 0 ? 196 : 8);
	while (size < wanted) {
		const char *letter = letters[draw(spec ? 14 : sizeof letters / sizeof *letters)];
		if (size == 0 && letter[0] == '.')
			continue;
		if (size + strlen(letter) > ESK_NAME_BYTES)
			break;
		strcpy(name + size, letter);
		size += strlen(letter);
	}
}

static esk_column random_column(void)
{
	static const char *const dtypes[] = {
		"bool", "i8", "u16", "f16", "i64", "c128", "str", "str1", "str777"};
	static const char *const codecs[] = {"", "gzip:1", "none", "blosc:lz4", "zstd:-5"};
	esk_column column = {.nullable = draw(2) == 0};
	random_name(column.name, true);
	esk_dtype_parse(dtypes[draw(9)], &column.dtype, NULL);
	column.rank = draw(3) == 0 ? (uint32_t)draw(ESK_MAX_RANK + 1) : (uint32_t)draw(4);
	for (uint32_t i = 0; i < column.rank; i++)
		column.shape[i] = i < 2 ? 1 + draw(3000) : 1;
	strcpy(column.codec, codecs[draw(5)]);
	return column;
}

static void assert_same_column(const esk_column *a, const esk_column *b)
{
	esk_error err;
	assert_ok(esk_column_match(a, b, &err), &err);
	assert_string_equal(a->codec, b->codec);
}

static void random_columns_survive_format_and_parse(void **state)
{
	static const char *const separators[] = {" ", ",", ";", " ;, ", "\n", "\t"};
	for (uint64_t round = test_scale(3000); round-- > 0;) {
		esk_column made[8];
		esk_text text = {0};
		size_t count = 0;
		for (size_t wanted = 1 + draw(8); wanted-- > 0;) {
			esk_column column = random_column();
			bool taken = false;
			for (size_t i = 0; i < count; i++)
				taken |= strcmp(made[i].name, column.name) == 0;
			if (taken)
				continue;
			char spec[1024];
			assert_true(esk_column_format(&column, spec, sizeof spec) < sizeof spec);
			esk_text_add(&text, "%s%s", count > 0 ? separators[draw(6)] : "", spec);
			made[count++] = column;
		}
		esk_column *found;
		size_t found_count;
		esk_error err;
		assert_ok(esk_columns_parse(text.data, &found, &found_count, &err), &err);
		assert_int_equal(found_count, count);
		for (size_t i = 0; i < count; i++)
			assert_same_column(&made[i], &found[i]);
		esk_columns_free(found);
		esk_text_free(&text);
	}
}

static void mutate(char *text, size_t capacity, const char *alphabet)
{
	for (uint64_t edits = 1 + draw(6); edits-- > 0;) {
		size_t size = strlen(text), at = draw(size + 1);
		if (draw(3) == 0 && at < size) {
			memmove(text + at, text + at + 1, size - at);
		} else if (draw(2) == 0 && size + 1 < capacity) {
			memmove(text + at + 1, text + at, size - at + 1);
			text[at] = alphabet[draw(strlen(alphabet))];
		} else if (at < size) {
			text[at] = draw(4) == 0 ? (char)(1 + draw(255)) : alphabet[draw(strlen(alphabet))];
		}
	}
}

/* What is taken must be sound: it passes the check, and its own text means the same. */
static void mutated_column_specs_are_refused_or_sound(void **state)
{
	int taken = 0, refused = 0;
	for (uint64_t round = test_scale(30000); round-- > 0;) {
		char text[256] = "frames:u8[210,160,3]@gzip:1 action:i32, note:str16?;x:f64";
		esk_column *columns;
		size_t count;
		esk_error err = {0};
		mutate(text, sizeof text, ":[]?@,; 0123456789abstru%/\\.\n");
		if (esk_columns_parse(text, &columns, &count, &err) != ESK_OK) {
			assert_true(err.message[0] != '\0');
			refused++;
			continue;
		}
		taken++;
		for (size_t i = 0; i < count; i++) {
			char spec[1024];
			esk_column *again;
			size_t one;
			assert_ok(esk_column_check(&columns[i], &err), &err);
			esk_column_format(&columns[i], spec, sizeof spec);
			assert_ok(esk_columns_parse(spec, &again, &one, &err), &err);
			assert_int_equal(one, 1);
			assert_same_column(&columns[i], again);
			esk_columns_free(again);
		}
		esk_columns_free(columns);
	}
	assert_true(taken > 0 && refused > 0);
}

static void columns_from_outside_are_checked(void **state)
{
	esk_error err;
	const esk_column good = {.name = "a", .dtype = {ESK_U8, 1}, .rank = 1, .shape = {3}};
	assert_ok(esk_column_check(&good, &err), &err);
	esk_column bad = good;
	memset(bad.name, 'x', sizeof bad.name);
	assert_int_equal(esk_column_check(&bad, &err), ESK_EINVAL);
	bad = good;
	bad.rank = ESK_MAX_RANK + 1;
	assert_int_equal(esk_column_check(&bad, &err), ESK_EINVAL);
	bad = good;
	bad.dtype.size_bytes = 3;
	assert_int_equal(esk_column_check(&bad, &err), ESK_EINVAL);
	bad = good;
	bad.shape[0] = UINT64_MAX;
	assert_int_equal(esk_column_check(&bad, &err), ESK_ERANGE);
	bad = good;
	bad.shape[0] = 0;
	assert_int_equal(esk_column_check(&bad, &err), ESK_EINVAL);
	char *const texts[] = {bad.codec, bad.units, bad.long_name};
	const size_t sizes[] = {sizeof bad.codec, sizeof bad.units, sizeof bad.long_name};
	for (int i = 0; i < 3; i++) {
		bad = good;
		memset(texts[i], 'x', sizes[i]);
		assert_int_equal(esk_column_check(&bad, &err), ESK_EINVAL);
	}
}

static void a_column_that_differs_is_named_with_both_sides(void **state)
{
	static const struct {
		const char *expected, *found;
		esk_status status;
		const char *message;
	} cases[] = {{"a:u8[2,3]", "a:u8[2,3]@lzf", ESK_OK, ""}, {"a:u8", "b:u8", ESK_EINVAL, "\"b\""},
		{"a:u8", "a:u16", ESK_ETYPE, "expected dtype u8, found u16"},
		{"a:str4", "a:str5", ESK_ETYPE, "expected dtype str4, found str5"},
		{"a:u8[2,3]", "a:u8[3,2]", ESK_ESHAPE, "expected cell shape [2,3], found [3,2]"},
		{"a:u8", "a:u8[1]", ESK_ESHAPE, "expected cell shape [], found [1]"},
		{"a:u8?", "a:u8", ESK_ETYPE, "expected nullable"}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		esk_column *expected, *found;
		size_t count;
		esk_error err = {0};
		assert_ok(esk_columns_parse(cases[i].expected, &expected, &count, &err), &err);
		assert_ok(esk_columns_parse(cases[i].found, &found, &count, &err), &err);
		assert_int_equal(esk_column_match(expected, found, &err), cases[i].status);
		if (strstr(err.message, cases[i].message) == NULL)
			fail_msg("expected \"%s\", found \"%s\"", cases[i].message, err.message);
		esk_columns_free(expected);
		esk_columns_free(found);
	}
}

static void chunks_aim_at_one_mebibyte(void **state)
{
	esk_column column = {.name = "a", .dtype = {ESK_U8, 1}};
	assert_int_equal(esk_column_chunk_rows(&column), 1 << 20);
	column.rank = 1;
	column.shape[0] = 100800;
	assert_int_equal(esk_column_chunk_rows(&column), 10);
	column.shape[0] = (1 << 20) + 1;
	assert_int_equal(esk_column_chunk_rows(&column), 1);
	column.chunk_rows = 7;
	assert_int_equal(esk_column_chunk_rows(&column), 7);
}

/* ---- refs ---- */

static void refs_name_an_index_a_range_or_the_whole(void **state)
{
	static const struct {
		const char *text, *run, *path;
		esk_ref_kind kind;
		uint64_t start, stop;
	} cases[] = {{"h5://run/frames/7", "run", "frames", ESK_REF_INDEX, 7, 8},
		{"h5://run/imu/acc/0:10", "run", "imu/acc", ESK_REF_RANGE, 0, 10},
		{"h5://run/frames", "run", "frames", ESK_REF_WHOLE, 0, 0},
		{"h5://run/a/5:5", "run", "a", ESK_REF_RANGE, 5, 5},
		{"h5://run/a/007", "run", "a", ESK_REF_INDEX, 7, 8},
		{"h5://my%20run/%C3%BC/1", "my run", "ü", ESK_REF_INDEX, 1, 2},
		{"h5://run/imu/%31", "run", "imu/1", ESK_REF_WHOLE, 0, 0},
		{"h5://run/imu/%31/4", "run", "imu/1", ESK_REF_INDEX, 4, 5},
		{"h5://run/12", "run", "12", ESK_REF_WHOLE, 0, 0},
		{"h5://run/12/3", "run", "12", ESK_REF_INDEX, 3, 4},
		{"h5://run/a/1x", "run", "a/1x", ESK_REF_WHOLE, 0, 0},
		{"h5://run/a%2fb", "run", "a/b", ESK_REF_WHOLE, 0, 0},
		{"h5://run/a/18446744073709551614", "run", "a", ESK_REF_INDEX, UINT64_MAX - 1, UINT64_MAX}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		esk_ref ref;
		esk_error err;
		assert_ok(esk_ref_parse(cases[i].text, &ref, &err), &err);
		assert_string_equal(ref.run, cases[i].run);
		assert_string_equal(ref.path, cases[i].path);
		assert_int_equal(ref.kind, cases[i].kind);
		assert_true(ref.start == cases[i].start && ref.stop == cases[i].stop);
	}
}

static void faulty_refs_are_refused(void **state)
{
	static const char *const texts[] = {"", "h5:", "h5:/run/a", "H5://run/a", "run/a/1", "http://run/a",
		"h5://", "h5:///a", "h5://run", "h5://run/", "h5://run//1", "h5://run/a//b", "h5://run/a/",
		"h5://run/a/3/", "h5://run/./a", "h5://run/../a", "h5://run/%2e%2E/a", "h5://../a",
		"h5://.run/a", "h5://r:n/a", "h5://r%2Fn/a", "h5://r%00n/a", "h5://run/a%", "h5://run/a%4",
		"h5://run/a%4/1", "h5://run/a%zz", "h5://run/a%0A", "h5://run/a\n", "h5://run/a%00/1",
		"h5://run/a/1:", "h5://run/a/1:2:3", "h5://run/a/5:4", "h5://run/a/18446744073709551615",
		"h5://run/a/18446744073709551616", "h5://run/a/0:99999999999999999999", "h5://run/a/%7F",
		"h5://%FF/a"};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		esk_error err = {0};
		esk_ref ref = {.start = 77};
		if (esk_ref_parse(texts[i], &ref, &err) != ESK_EINVAL || err.message[0] == '\0')
			fail_msg("\"%s\" was taken", texts[i]);
		assert_int_equal(ref.start, 77); /* untouched */
		assert_int_equal(esk_ref_parse(texts[i], &ref, NULL), ESK_EINVAL);
	}
	assert_int_equal(esk_ref_parse(NULL, &(esk_ref){0}, NULL), ESK_EINVAL);
}

static void long_refs_are_refused_not_cut(void **state)
{
	char text[6000] = "h5://run/";
	esk_ref ref;
	memset(text + 9, 'p', ESK_MAX_PATH);
	strcpy(text + 9 + ESK_MAX_PATH, "/5");
	esk_error err;
	assert_ok(esk_ref_parse(text, &ref, &err), &err);
	assert_int_equal(strlen(ref.path), ESK_MAX_PATH);
	strcpy(text + 9 + ESK_MAX_PATH, "p/5");
	assert_int_equal(esk_ref_parse(text, &ref, &err), ESK_EINVAL);
	strcpy(text, "h5://");
	memset(text + 5, 'r', 5000);
	strcpy(text + 5005, "/a");
	assert_int_equal(esk_ref_parse(text, &ref, &err), ESK_EINVAL);
	strcpy(text + 5 + ESK_NAME_BYTES, "/a");
	assert_ok(esk_ref_parse(text, &ref, &err), &err);
}

static void assert_same_ref(const esk_ref *a, const esk_ref *b)
{
	assert_string_equal(a->run, b->run);
	assert_string_equal(a->path, b->path);
	assert_int_equal(a->kind, b->kind);
	assert_true(a->start == b->start && a->stop == b->stop);
}

static esk_ref random_ref(void)
{
	esk_ref ref = {.kind = (esk_ref_kind)draw(3)};
	random_name(ref.run, false);
	for (uint64_t parts = 1 + draw(4), size = 0; parts-- > 0; size = strlen(ref.path)) {
		if (size > 0)
			strcat(ref.path, "/");
		if (draw(3) == 0)
			sprintf(ref.path + strlen(ref.path), "%d%s", (int)draw(200),
				draw(3) == 0 ? ":5" : "");
		else
			random_name(ref.path + strlen(ref.path), false);
	}
	if (ref.kind != ESK_REF_WHOLE)
		ref.start = draw(2) == 0 ? draw(1000) : UINT64_MAX - 1 - draw(1000);
	ref.stop = ref.kind == ESK_REF_INDEX   ? ref.start + 1
		   : ref.kind == ESK_REF_RANGE ? ref.start + draw(UINT64_MAX - ref.start)
					       : 0;
	return ref;
}

static void random_refs_survive_format_and_parse(void **state)
{
	for (uint64_t round = test_scale(10000); round-- > 0;) {
		esk_ref ref = random_ref(), found;
		char text[5000];
		esk_error err;
		assert_true(esk_ref_format(&ref, text, sizeof text) == strlen(text));
		for (const char *s = text; *s != '\0'; s++)
			assert_true(*s > ' ' && *s < 0x7F && strchr("\"<>\\^`{|}#?[]@", *s) == NULL);
		assert_ok(esk_ref_parse(text, &found, &err), &err);
		assert_same_ref(&ref, &found);
	}
}

static void mutated_refs_are_refused_or_sound(void **state)
{
	int taken = 0, refused = 0;
	for (uint64_t round = test_scale(30000); round-- > 0;) {
		char text[128] = "h5://my%20run/imu/%31acc/17:23", again[1024];
		esk_ref ref, found;
		esk_error err = {0};
		mutate(text + draw(6), 64, "/:%0123456789aFh.~ \n");
		if (esk_ref_parse(text, &ref, &err) != ESK_OK) {
			assert_true(err.message[0] != '\0');
			refused++;
			continue;
		}
		taken++;
		esk_ref_format(&ref, again, sizeof again);
		assert_ok(esk_ref_parse(again, &found, &err), &err);
		assert_same_ref(&ref, &found);
	}
	assert_true(taken > 0 && refused > 0);
}

static void formatting_into_any_buffer_stays_inside_and_tells_the_length(void **state)
{
	esk_ref ref;
	esk_column *columns;
	size_t count;
	esk_error err;
	char whole[256], part[256];
	assert_ok(esk_ref_parse("h5://a%20b/imu/acc/5:9", &ref, &err), &err);
	assert_ok(esk_columns_parse("frames:str12[210,160]?@gzip:1", &columns, &count, &err), &err);
	for (int what = 0; what < 2; what++) {
		size_t size = what == 0 ? esk_ref_format(&ref, whole, sizeof whole)
					: esk_column_format(columns, whole, sizeof whole);
		assert_int_equal(size, strlen(whole));
		for (size_t room = 0; room < size + 3; room++) {
			memset(part, '#', sizeof part);
			assert_int_equal(what == 0 ? esk_ref_format(&ref, part, room)
						   : esk_column_format(columns, part, room),
				size);
			size_t kept = room == 0 ? 0 : room - 1 < size ? room - 1 : size;
			assert_memory_equal(part, whole, kept);
			assert_true(part[kept] == (room == 0 ? '#' : '\0'));
			assert_true(part[kept + 1] == '#');
		}
	}
	assert_int_equal(esk_ref_format(&ref, NULL, 0), strlen("h5://a%20b/imu/acc/5:9"));
	esk_columns_free(columns);
}

/* ---- names ---- */

static void names_are_utf8_without_what_a_path_or_uri_needs(void **state)
{
	static const char *const good[] = {
		"a", "A b", "ü", "気球", "🎈", "a.b", "-", "1", "a%b", "~", "\xf4\x8f\xbf\xbf"};
	static const char *const bad[] = {"", ".", "..", ".a", "a/b", "a\\b", "a:b", "a\tb", "\x7f",
		"\xc2\x85", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
		"\xf8\x88\x80\x80\x80", "\x80", "a\xc3", "\xe6\xb0", "\xf0\x9f\x8e"};
	esk_error err;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		assert_ok(esk_name_check(good[i], "run", &err), &err);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (esk_name_check(bad[i], "run", &err) != ESK_EINVAL || strstr(err.message, "run") == NULL)
			fail_msg("case %zu, \"%s\", was taken", i, bad[i]);
	assert_int_equal(esk_name_check(NULL, "run", &err), ESK_EINVAL);
}

#define TEST(name) cmocka_unit_test_setup(name, start_random)

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		TEST(every_dtype_is_parsed_by_both_names_and_formatted_by_the_short_one),
		TEST(unknown_dtypes_are_refused),
		TEST(a_column_spec_gives_name_dtype_shape_nullable_and_codec),
		TEST(faulty_column_specs_are_refused_where_the_fault_is),
		TEST(long_parts_of_a_spec_are_refused_not_cut),
		TEST(as_many_columns_as_allowed_and_no_more),
		TEST(random_columns_survive_format_and_parse),
		TEST(mutated_column_specs_are_refused_or_sound),
		TEST(columns_from_outside_are_checked),
		TEST(a_column_that_differs_is_named_with_both_sides),
		TEST(chunks_aim_at_one_mebibyte),
		TEST(refs_name_an_index_a_range_or_the_whole),
		TEST(faulty_refs_are_refused),
		TEST(long_refs_are_refused_not_cut),
		TEST(random_refs_survive_format_and_parse),
		TEST(mutated_refs_are_refused_or_sound),
		TEST(formatting_into_any_buffer_stays_inside_and_tells_the_length),
		TEST(names_are_utf8_without_what_a_path_or_uri_needs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
