/* Record batches into streams: what each type becomes, names, refusals, what is checked before rows are
 * taken. */
#include "unit/arrow_support.h"

#include <hdf5.h>

#define NULLABLE ARROW_FLAG_NULLABLE

static esk_arrow_sink *open_sink(esk_run *run, const char *name, const struct ArrowSchema *schema)
{
	esk_error err = {0};
	esk_arrow_sink *sink;
	assert_ok(esk_run_arrow(run, name, schema, NULL, &sink, &err), &err);
	return sink;
}

static void append(esk_arrow_sink *sink, const struct ArrowArray *batch, uint64_t first, uint64_t rows)
{
	esk_error err = {0};
	assert_ok(esk_arrow_sink_append(sink, batch, first, rows, NULL, 0, NULL, &err), &err);
}

/* ---- flat types ---- */

static void fixed_width_columns_are_the_arrays_themselves(void **state)
{
	place p = place_make(*state);
	esk_run *run = place_run(&p, "run", NULL);
	struct ArrowSchema *schema = arrow_schema();
	arrow_with(schema, arrow_field("t", "tsn:UTC", 0));
	arrow_with(schema, arrow_field("v", "g", NULLABLE));
	arrow_with(schema, arrow_field("on", "b", 0));
	esk_arrow_sink *sink = open_sink(run, "scope", schema);
	int64_t times[40];
	double volts[40];
	uint8_t valid[40], on[40];
	for (int i = 0; i < 40; i++) {
		times[i] = 1000 + i;
		volts[i] = i * 0.5;
		valid[i] = i % 7 != 3;
		on[i] = i % 3 == 0;
	}
	struct ArrowArray *batch = arrow_struct(40, NULL);
	arrow_with_child(batch, arrow_fixed(40, NULL, times, 8));
	arrow_with_child(batch, arrow_fixed(40, valid, volts, 8));
	arrow_with_child(batch, arrow_bits(40, NULL, on));
	append(sink, batch, 0, 40);
	append(sink, batch, 5, 30); /* a slice */
	batch->children[1]->offset = 3;
	batch->children[1]->length = 37;
	batch->length = 30;
	append(sink, batch, 1, 29); /* of an array that is one itself */
	esk_arrow_sink_close(sink);
	place_run_close(run);
	esk_reader *reader = place_reader(&p, "run");
	int64_t *t = place_read(reader, "scope/t", 0, 99, 8);
	double *v = place_read(reader, "scope/v", 0, 99, 8);
	uint8_t *o = place_read(reader, "scope/on", 0, 99, 1);
	for (int i = 0; i < 99; i++) {
		int at = i < 40 ? i : i < 70 ? i - 35 : i - 69, shifted = i < 70 ? at : at + 3;
		assert_int_equal(t[i], 1000 + at);
		assert_int_equal(o[i], at % 3 == 0);
		assert_true(v[i] == (shifted % 7 != 3 ? shifted * 0.5 : 0));
	}
	free(t);
	free(v);
	free(o);
	esk_reader_close(reader);
	arrow_free_array(batch);
	arrow_free_schema(schema);
	place_close(&p);
}

/* ---- refusals ---- */

/* Opening a sink of the schema fails so, with every word in the message, and makes no dataset. Frees the
 * schema. */
static void refused(place *p, struct ArrowSchema *schema, const esk_arrow_sink_options *options,
	esk_status status, const char *word, const char *other)
{
	esk_error err = {0};
	esk_arrow_sink *sink = NULL;
	static int count;
	char name[32];
	snprintf(name, sizeof name, "run%d", count++);
	esk_run *run = place_run(p, name, NULL);
	if (esk_run_arrow(run, "scope", schema, options, &sink, &err) != status)
		fail_msg("expected %s, found %s: %s", esk_status_name(status), esk_status_name(err.code),
			err.message);
	if (strstr(err.message, word) == NULL || strstr(err.message, other) == NULL)
		fail_msg("\"%s\" and \"%s\" are not both in: %s", word, other, err.message);
	assert_null(sink);
	place_run_close(run);
	esk_reader *reader = place_reader(p, name);
	assert_int_equal(esk_reader_dataset_count(reader), 0);
	esk_reader_close(reader);
	arrow_free_schema(schema);
}

static struct ArrowSchema *one(struct ArrowSchema *field)
{
	return arrow_with(arrow_schema(), field);
}

static struct ArrowSchema *list_of(const char *name, const char *format, struct ArrowSchema *items)
{
	return arrow_with(arrow_field(name, format, NULLABLE), items);
}

static void types_without_a_place_are_refused_by_name_before_anything_is_made(void **state)
{
	place p = place_make(*state);
	static const char *const formats[] = {
		"tiM", "tiD", "tin", "vu", "vz", "d:40,2,256", "w:0", "no such thing"};
	for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
		refused(&p, arrow_with(one(arrow_field("fine", "l", 0)), arrow_field("wrong", formats[i], 0)),
			NULL, ESK_EUNSUPPORTED, "\"wrong\"", formats[i]);
	refused(&p, one(arrow_with(arrow_field("u", "+ud:0", 0), arrow_field("a", "l", 0))), NULL,
		ESK_EUNSUPPORTED, "\"u\"", "union");
	refused(&p, one(arrow_field("empty", "+s", 0)), NULL, ESK_EUNSUPPORTED, "\"empty\"",
		"without fields");
	refused(&p, one(list_of("x", "+w:0", arrow_field("item", "l", 0))), NULL, ESK_EUNSUPPORTED, "\"x\"",
		"0 items");
	refused(&p, one(list_of("x", "+w:3", list_of("item", "+l", arrow_field("item", "l", 0)))), NULL,
		ESK_EUNSUPPORTED, "\"x\"", "list");
	refused(&p, one(list_of("deep", "+l", list_of("item", "+l", arrow_field("item", "tiM", 0)))), NULL,
		ESK_EUNSUPPORTED, "\"deep/values/values\"", "interval");
	refused(&p,
		one(arrow_with_dictionary(
			arrow_field("d", "i", 0), list_of("", "+l", arrow_field("item", "l", 0)))),
		NULL, ESK_EUNSUPPORTED, "\"d\"", "dictionary of list");
	refused(&p, arrow_schema(), NULL, ESK_EINVAL, "struct", "0 fields");
	refused(&p, arrow_field("", "l", 0), NULL, ESK_EINVAL, "struct", "\"l\"");
	place_close(&p);
}

static void names_that_clash_or_are_none_are_refused(void **state)
{
	place p = place_make(*state);
	struct ArrowSchema *wide = arrow_schema();
	for (int i = 0; i < ESK_MAX_COLUMNS + 1; i++) {
		char name[16];
		snprintf(name, sizeof name, "c%d", i);
		arrow_with(wide, arrow_field(name, "c", 0));
	}
	char longest[300];
	memset(longest, 'x', sizeof longest);
	longest[299] = '\0';
	refused(&p, wide, NULL, ESK_ERANGE, "4096", "columns");
	refused(&p, one(arrow_field("", "l", 0)), NULL, ESK_EINVAL, "no name", "field 0");
	refused(&p, one(arrow_field("\xC3", "l", 0)), NULL, ESK_EINVAL, "UTF-8", "field 0");
	refused(&p, one(arrow_field(longest, "l", 0)), NULL, ESK_EINVAL, "longer", "field 0");
	refused(&p, arrow_with(one(arrow_field("a", "l", 0)), arrow_field("a", "i", 0)), NULL, ESK_EINVAL,
		"\"a\"", "twice");
	refused(&p, arrow_with(one(arrow_field("x", "l", NULLABLE)), arrow_field("x_valid", "b", 0)), NULL,
		ESK_EINVAL, "\"x\" and \"x_valid\"", "the dataset \"x_valid\"");
	refused(&p,
		arrow_with(
			one(list_of("x", "+l", arrow_field("item", "l", 0))), arrow_field("x_valid", "b", 0)),
		NULL, ESK_EINVAL, "\"x_valid\"", "");
	refused(&p,
		arrow_with(one(list_of("x", "+w:2", arrow_field("item", "l", NULLABLE))),
			arrow_field("x_items_valid", "b", 0)),
		NULL, ESK_EINVAL, "\"x_items_valid\"", "");
	/* What HDF5 keeps for itself is escaped, so a field cannot reach into another's group. */
	esk_run *run = place_run(&p, "escaped", NULL);
	struct ArrowSchema *schema = arrow_schema();
	arrow_with(schema, list_of("x", "+l", arrow_field("item", "l", 0)));
	arrow_with(schema, arrow_field("x/offsets", "l", 0));
	arrow_with(schema, arrow_field(".hidden", "l", 0));
	arrow_with(schema, arrow_field("50%2F", "l", 0));
	arrow_with(schema, arrow_field("50%", "l", 0));
	arrow_with(schema, arrow_field("a:b\\c\n", "l", 0));
	esk_arrow_sink_close(open_sink(run, "scope", schema));
	place_run_close(run);
	esk_reader *reader = place_reader(&p, "escaped");
	static const char *const paths[] = {"scope/x%2Foffsets", "scope/%2Ehidden", "scope/50%252F",
		"scope/50%", "scope/a%3Ab%5Cc%0A", "scope/x/offsets"};
	esk_error err = {0};
	esk_dataset *dataset;
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
		assert_ok(esk_reader_find(reader, paths[i], &dataset, &err), &err);
	esk_reader_close(reader);
	arrow_free_schema(schema);
	place_close(&p);
}

static void options_that_fit_nothing_are_refused_before_anything_is_made(void **state)
{
	place p = place_make(*state);
	esk_arrow_sink_options options = ESK_ARROW_SINK_OPTIONS_INIT;
	options.columns = "b@gzip:1";
	refused(&p, one(arrow_field("a", "l", 0)), &options, ESK_ENOTFOUND, "\"b\"", "lacks");
	options.columns = "a@magic";
	refused(&p, one(arrow_field("a", "l", 0)), &options, ESK_EINVAL, "a@magic", "");
	options.columns = "a#many";
	refused(&p, one(arrow_field("a", "l", 0)), &options, ESK_EINVAL, "a#many", "rows");
	options.columns = NULL;
	options.units_json = "[1]";
	refused(&p, one(arrow_field("a", "l", 0)), &options, ESK_EINVAL, "JSON", "");
	options.units_json = "{\"a\": 1}";
	refused(&p, one(arrow_field("a", "l", 0)), &options, ESK_EINVAL, "\"a\"", "text");
	options.units_json = NULL;
	options.codec = "magic";
	refused(&p, one(arrow_field("a", "l", 0)), &options, ESK_EINVAL, "magic", "");
	refused(&p, one(arrow_with_metadata(arrow_field("a", "l", 0), "codec", "magic")), NULL, ESK_EINVAL,
		"\"a\"", "magic");
	refused(&p, one(arrow_with_metadata(arrow_field("a", "l", 0), "chunk_rows", "-3")), NULL, ESK_EINVAL,
		"\"a\"", "chunk_rows");
	esk_run_options over = place_options(1u << 20);
	over.policy = ESK_OVERWRITE;
	esk_run *run = place_run(&p, "over", &over);
	struct ArrowSchema *schema = one(list_of("x", "+l", arrow_field("item", "l", 0)));
	esk_arrow_sink *sink;
	esk_error err = {0};
	assert_int_equal(esk_run_arrow(run, "scope", schema, NULL, &sink, &err), ESK_EINVAL);
	assert_non_null(strstr(err.message, "\"x\""));
	place_run_close(run);
	arrow_free_schema(schema);
	place_close(&p);
}

/* A tensor field with this metadata. */
static struct ArrowSchema *tensor(const char *format, const char *metadata)
{
	struct ArrowSchema *field = list_of("t", format, arrow_field("item", "f", NULLABLE));
	arrow_with_metadata(field, "ARROW:extension:name", "arrow.fixed_shape_tensor");
	return arrow_with_metadata(field, "ARROW:extension:metadata", metadata);
}

static void tensors_whose_shape_is_not_sound_are_refused(void **state)
{
	place p = place_make(*state);
	refused(&p, one(tensor("+w:6", "{\"shape\":[2,4]}")), NULL, ESK_EINVAL, "\"t\"", "8 items");
	refused(&p, one(tensor("+w:6", "{\"shape\":[2,-3]}")), NULL, ESK_EINVAL, "\"t\"", "dimension 1");
	refused(&p, one(tensor("+w:6", "{\"shape\":6}")), NULL, ESK_EINVAL, "\"t\"", "shape");
	refused(&p, one(tensor("+w:6", "[")), NULL, ESK_EINVAL, "\"t\"", "JSON");
	refused(&p, one(tensor("+w:6", "{\"shape\":[2,3],\"permutation\":[0,0]}")), NULL, ESK_EINVAL, "\"t\"",
		"permutation");
	refused(&p, one(tensor("+w:6", "{\"shape\":[2,3],\"permutation\":[0,2]}")), NULL, ESK_EINVAL, "\"t\"",
		"permutation");
	place_close(&p);
}

/* ---- another schema ---- */

static void differs(const esk_arrow_sink *sink, struct ArrowSchema *schema, esk_status status,
	const char *word, const char *other)
{
	esk_error err = {0};
	if (esk_arrow_sink_check(sink, schema, &err) != status || strstr(err.message, word) == NULL ||
		strstr(err.message, other) == NULL)
		fail_msg("expected %s with \"%s\" and \"%s\", found %s: %s", esk_status_name(status), word,
			other, esk_status_name(err.code), err.message);
	arrow_free_schema(schema);
}

static struct ArrowSchema *abc(const char *a, const char *b, const char *c, const char *format, int64_t flags)
{
	struct ArrowSchema *schema = arrow_schema();
	arrow_with(schema, arrow_field(a, "l", 0));
	if (b != NULL)
		arrow_with(schema, arrow_field(b, format, flags));
	if (c != NULL)
		arrow_with(schema, list_of(c, "+l", arrow_field("item", "f", 0)));
	return schema;
}

static void the_first_difference_of_another_schema_is_named(void **state)
{
	place p = place_make(*state);
	esk_run *run = place_run(&p, "run", NULL);
	struct ArrowSchema *schema = abc("a", "b", "c", "g", NULLABLE);
	esk_arrow_sink *sink = open_sink(run, "scope", schema);
	esk_error err = {0};
	assert_ok(esk_arrow_sink_check(sink, schema, &err), &err);
	differs(sink, abc("a", "b", NULL, "g", NULLABLE), ESK_ENOTFOUND, "\"c\"", "missing");
	differs(sink, arrow_with(abc("a", "b", "c", "g", NULLABLE), arrow_field("d", "l", 0)), ESK_ETYPE,
		"\"d\"", "added");
	differs(sink, abc("a", "b", "c", "f", NULLABLE), ESK_ETYPE, "\"b\"", "float32");
	differs(sink, abc("a", "b", "c", "g", 0), ESK_ETYPE, "\"b\"", "was nullable and is not nullable");
	differs(sink, abc("b", "a", "c", "l", 0), ESK_ETYPE, "order", "number 1");
	struct ArrowSchema *inner = abc("a", "b", NULL, "g", NULLABLE);
	differs(sink, arrow_with(inner, list_of("c", "+l", arrow_field("item", "g", 0))), ESK_ETYPE,
		"\"c/values\"", "float64");
	esk_arrow_sink_close(sink);
	place_run_close(run);
	/* In the next session as well, before anything is made; metadata may differ. */
	esk_run_options options = place_options(1u << 20);
	options.append = true;
	run = place_run(&p, "run", &options);
	struct ArrowSchema *other = abc("a", "b", "c", "f", NULLABLE);
	assert_int_equal(esk_run_arrow(run, "scope", other, NULL, &sink, &err), ESK_ETYPE);
	assert_non_null(strstr(err.message, "\"b\""));
	arrow_with_metadata(schema, "operator", "somebody else");
	esk_arrow_sink_close(open_sink(run, "scope", schema));
	place_run_close(run);
	arrow_free_schema(other);
	arrow_free_schema(schema);
	place_close(&p);
}

/* ---- rows that are not taken ---- */

/* Appending fails so, and neither the stream nor one below it gets a row. Frees the batch. */
static void not_taken(esk_arrow_sink *sink, struct ArrowArray *batch, uint64_t first, uint64_t rows,
	esk_status status, const char *word, const char *other)
{
	esk_error err = {0};
	uint64_t before = esk_stream_rows(esk_arrow_sink_stream(sink)), row = 77;
	if (esk_arrow_sink_append(sink, batch, first, rows, NULL, 0, &row, &err) != status ||
		strstr(err.message, word) == NULL || strstr(err.message, other) == NULL)
		fail_msg("expected %s with \"%s\" and \"%s\", found %s: %s", esk_status_name(status), word,
			other, esk_status_name(err.code), err.message);
	assert_int_equal(row, 77);
	assert_int_equal(esk_stream_rows(esk_arrow_sink_stream(sink)), before);
	arrow_free_array(batch);
}

static struct ArrowArray *batch_of(struct ArrowArray *column)
{
	return arrow_with_child(arrow_struct(column->length, NULL), column);
}

static void texts_that_are_none_name_column_and_row(void **state)
{
	place p = place_make(*state);
	esk_run *run = place_run(&p, "run", NULL);
	struct ArrowSchema *schema = one(arrow_field("note", "u", NULLABLE));
	esk_arrow_sink *sink = open_sink(run, "scope", schema);
	const char *const bad[] = {"fine", "\xC3\xA4", "bad \xFF", "fine"}, *const split[] = {
										    "a\xC3", "\xA4z", "", ""};
	not_taken(sink, batch_of(arrow_texts(4, NULL, bad)), 0, 4, ESK_EINVAL, "\"note\", row 2", "byte 4");
	not_taken(sink, batch_of(arrow_texts(4, NULL, bad)), 1, 2, ESK_EINVAL, "\"note\", row 1", "UTF-8");
	/* Sound as a whole, and not one by one. */
	not_taken(sink, batch_of(arrow_texts(4, NULL, split)), 0, 4, ESK_EINVAL, "\"note\", row 0", "byte 1");
	struct ArrowArray *nul = arrow_texts(4, NULL, bad);
	arrow_set_buffer(nul, 2, "fine\0\0bad x fine", 16);
	not_taken(sink, batch_of(nul), 0, 4, ESK_EINVAL, "\"note\", row 1", "NUL byte at byte 0");
	/* What is missing may hold anything. */
	const uint8_t valid[] = {1, 1, 0, 1};
	struct ArrowArray *masked = batch_of(arrow_texts(4, valid, bad));
	append(sink, masked, 0, 4);
	arrow_free_array(masked);
	esk_arrow_sink_close(sink);
	place_run_close(run);
	arrow_free_schema(schema);
	place_close(&p);
}

static void arrays_that_are_not_of_the_schema_are_refused(void **state)
{
	place p = place_make(*state);
	esk_run *run = place_run(&p, "run", NULL);
	struct ArrowSchema *schema = one(list_of("x", "+l", arrow_field("item", "l", 0)));
	esk_arrow_sink *sink = open_sink(run, "scope", schema);
	const int64_t values[] = {1, 2, 3, 4, 5};
	const int32_t offsets[] = {0, 2, 5}, falling[] = {0, 4, 2}, beyond[] = {0, 2, 6};
	const uint8_t gaps[] = {1, 1, 0, 1, 1};
	not_taken(sink, batch_of(arrow_list(2, NULL, falling, arrow_fixed(5, NULL, values, 8))), 0, 2,
		ESK_EINVAL, "\"x\", row 1", "from 4 to 2");
	not_taken(sink, batch_of(arrow_list(2, NULL, beyond, arrow_fixed(5, NULL, values, 8))), 0, 2,
		ESK_ERANGE, "\"x/values\"", "array of 5");
	not_taken(sink, batch_of(arrow_list(2, NULL, offsets, arrow_fixed(5, gaps, values, 8))), 0, 2,
		ESK_EINVAL, "\"x/values\", row 2", "not nullable");
	not_taken(sink, batch_of(arrow_list(2, NULL, offsets, arrow_fixed(5, NULL, values, 8))), 1, 2,
		ESK_ERANGE, "the batch", "2 rows from row 1");
	not_taken(sink, batch_of(arrow_fixed(5, NULL, values, 8)), 0, 5, ESK_ETYPE, "\"x\"", "children");
	not_taken(sink, arrow_struct(3, NULL), 0, 3, ESK_ETYPE, "the batch", "children");
	struct ArrowArray *hollow = batch_of(arrow_list(2, NULL, offsets, arrow_fixed(5, NULL, values, 8)));
	free((void *)(uintptr_t)hollow->children[0]->buffers[1]);
	hollow->children[0]->buffers[1] = NULL;
	not_taken(sink, hollow, 0, 2, ESK_ETYPE, "\"x\"", "no offsets");
	struct ArrowArray *negative = batch_of(arrow_list(2, NULL, offsets, arrow_fixed(5, NULL, values, 8)));
	negative->children[0]->offset = -1;
	not_taken(sink, negative, 0, 2, ESK_ERANGE, "\"x\"", "offset -1");
	esk_arrow_sink_close(sink);
	place_run_close(run);
	arrow_free_schema(schema);
	place_close(&p);
}

/* Texts as a dictionary and indices into it. */
static struct ArrowArray *encoded(
	int64_t rows, const int8_t *indices, int64_t count, const uint8_t *valid, const char *const *texts)
{
	struct ArrowArray *array = arrow_fixed(rows, NULL, indices, 1);
	array->dictionary = arrow_texts(count, valid, texts);
	return array;
}

static void categories_of_an_append_that_failed_are_not_kept(void **state)
{
	place p = place_make(*state);
	esk_run *run = place_run(&p, "run", NULL);
	struct ArrowSchema *schema =
		one(arrow_with_dictionary(arrow_field("d", "c", NULLABLE), arrow_field("", "u", NULLABLE)));
	esk_arrow_sink *sink = open_sink(run, "scope", schema);
	const char *const first[] = {"red", "green"}, *const second[] = {"blue", "green", "\xFF"},
			  *const third[] = {"gold", "blue", ""};
	const int8_t ascending[] = {0, 1, 2}, two[] = {1, 0, 1}, beyond[] = {0, 3, 1}, below[] = {0, -1, 1};
	const uint8_t lacks[] = {1, 1, 0};
	struct ArrowArray *batch = batch_of(encoded(3, two, 2, NULL, first));
	append(sink, batch, 0, 3); /* green red green */
	arrow_free_array(batch);
	not_taken(sink, batch_of(encoded(3, ascending, 3, NULL, second)), 0, 3, ESK_EINVAL, "\"d\", row 2",
		"UTF-8");
	not_taken(sink, batch_of(encoded(3, beyond, 3, NULL, third)), 0, 3, ESK_EINVAL, "\"d\", row 1",
		"index 3");
	not_taken(sink, batch_of(encoded(3, below, 3, NULL, third)), 0, 3, ESK_EINVAL, "\"d\", row 1",
		"index -1");
	batch = batch_of(encoded(3, ascending, 3, lacks, third));
	append(sink, batch, 0, 3); /* gold blue, and one whose category is missing */
	arrow_free_array(batch);
	esk_arrow_sink_close(sink);
	/* Another sink of the same session goes on with the same categories. */
	sink = open_sink(run, "scope", schema);
	batch = batch_of(encoded(3, two, 2, NULL, third));
	append(sink, batch, 0, 3); /* blue gold blue */
	arrow_free_array(batch);
	esk_arrow_sink_close(sink);
	place_run_close(run);
	esk_reader *reader = place_reader(&p, "run");
	int32_t *codes = place_read(reader, "scope/d/codes", 0, 9, 4);
	uint8_t *valid = place_read(reader, "scope/d_valid", 0, 9, 1);
	const int32_t expected[] = {0, 1, 0, 2, 3, -1, 3, 2, 3};
	for (int i = 0; i < 9; i++) {
		assert_int_equal(codes[i], expected[i]);
		assert_int_equal(valid[i], expected[i] >= 0);
	}
	esk_error err = {0};
	esk_dataset *categories;
	esk_string *texts;
	const uint64_t rows[] = {0, 1, 2, 3};
	assert_ok(esk_reader_find(reader, "scope/d/categories", &categories, &err), &err);
	assert_int_equal(esk_dataset_rows(categories), 4);
	assert_ok(esk_dataset_read_strings(categories, rows, 4, &texts, &err), &err);
	assert_string_equal(texts[0].data, "green");
	assert_string_equal(texts[2].data, "gold");
	assert_string_equal(texts[3].data, "blue");
	esk_strings_free(texts);
	free(codes);
	free(valid);
	esk_reader_close(reader);
	arrow_free_schema(schema);
	place_close(&p);
}

/* ---- what fits one record ---- */

static void rows_per_record_always_fit_and_are_not_far_from_most(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(1u << 20);
	esk_run *run = place_run(&p, "run", &options);
	struct ArrowSchema *schema = arrow_schema();
	arrow_with(schema, list_of("x", "+l", arrow_field("item", "g", NULLABLE)));
	arrow_with(schema, arrow_field("note", "u", NULLABLE));
	arrow_with(schema, arrow_with_dictionary(arrow_field("d", "c", 0), arrow_field("", "u", 0)));
	esk_arrow_sink *sink = open_sink(run, "scope", schema);
	enum { ROWS = 3000 };
	int32_t *offsets = calloc(ROWS + 1, sizeof *offsets);
	const char **notes = calloc(ROWS, sizeof *notes);
	int8_t *indices = calloc(ROWS, 1);
	uint64_t state_of = test_seed();
	for (int i = 0; i < ROWS; i++) { /* some rows are a hundred times as large as others */
		state_of = state_of * 6364136223846793005u + 1442695040888963407u;
		offsets[i + 1] = offsets[i] + (state_of >> 60 == 0 ? 400 : (int32_t)(state_of >> 62));
		notes[i] = state_of >> 59 == 0 ? "a text that is a good deal longer than the others are"
					       : "short";
		indices[i] = (int8_t)(i % 2);
	}
	const char *const categories[] = {"one", "another"};
	double *values = calloc((size_t)offsets[ROWS], sizeof *values);
	struct ArrowArray *batch = arrow_struct(ROWS, NULL);
	arrow_with_child(batch, arrow_list(ROWS, NULL, offsets, arrow_fixed(offsets[ROWS], NULL, values, 8)));
	arrow_with_child(batch, arrow_texts(ROWS, NULL, notes));
	arrow_with_child(batch, encoded(ROWS, indices, 2, NULL, categories));
	uint64_t step = esk_arrow_sink_rows_per_record(sink, batch);
	assert_true(step > 1 && step < ROWS);
	uint64_t bytes = (uint64_t)offsets[ROWS] * 9 + ROWS * 40;
	if (step < ROWS * esk_run_max_record_bytes(run) / bytes / 8)
		fail_msg("%llu rows fit where %llu bytes of %d rows are split to %llu",
			(unsigned long long)step, (unsigned long long)bytes, ROWS,
			(unsigned long long)esk_run_max_record_bytes(run));
	for (uint64_t first = 0; first < ROWS; first += step / 3 + 1)
		append(sink, batch, first, esk_min_u64(step, ROWS - first));
	esk_error err = {0};
	assert_int_equal(esk_arrow_sink_append(sink, batch, 0, ROWS, NULL, 0, NULL, &err), ESK_ERANGE);
	batch->children[0]->n_children = 0; /* not of the schema: nothing is asked of it */
	assert_int_equal(esk_arrow_sink_rows_per_record(sink, batch), 1);
	batch->children[0]->n_children = 1;
	esk_arrow_sink_close(sink);
	place_run_close(run);
	recording_verify(p.store);
	arrow_free_array(batch);
	free(offsets);
	free(notes);
	free(indices);
	free(values);
	arrow_free_schema(schema);
	place_close(&p);
}

static void other_parts_go_in_the_same_record(void **state)
{
	place p = place_make(*state);
	esk_run *run = place_run(&p, "run", NULL);
	struct ArrowSchema *schema = one(arrow_field("x", "l", 0));
	esk_arrow_sink *sink = open_sink(run, "scope", schema);
	esk_stream *other = place_stream(run, "ring", "id:u64");
	esk_error err = {0};
	uint64_t id = 42, row = 0;
	const void *cells[] = {&id};
	esk_rows_part extra = {.stream = other, .rows = 1, .cells = cells};
	const int64_t values[] = {7, 8, 9};
	struct ArrowArray *batch = batch_of(arrow_fixed(3, NULL, values, 8));
	assert_ok(esk_arrow_sink_append(sink, batch, 1, 2, &extra, 1, &row, &err), &err);
	assert_int_equal(row, 0);
	assert_ok(esk_arrow_sink_append(sink, batch, 0, 0, &extra, 1, &row, &err), &err);
	assert_int_equal(row, 2);
	assert_ok(esk_arrow_sink_append(sink, batch, 0, 0, NULL, 0, &row, &err), &err);
	assert_int_equal(esk_stream_rows(other), 2);
	extra.stream = esk_arrow_sink_stream(sink); /* twice */
	assert_int_equal(esk_arrow_sink_append(sink, batch, 0, 3, &extra, 1, &row, &err), ESK_EINVAL);
	assert_int_equal(esk_stream_rows(esk_arrow_sink_stream(sink)), 2);
	esk_arrow_sink_close(sink);
	place_run_close(run);
	arrow_free_array(batch);
	arrow_free_schema(schema);
	place_close(&p);
}

static void a_batch_is_an_item_with_all_its_arrays(void **state)
{
	place p = place_make(*state);
	esk_run *run = place_run(&p, "run", NULL);
	struct ArrowSchema *schema = arrow_schema();
	arrow_with(schema, list_of("x", "+l", arrow_field("item", "l", 0)));
	arrow_with(schema, arrow_with_dictionary(arrow_field("d", "c", NULLABLE), arrow_field("", "u", 0)));
	const int32_t offsets[] = {2, 2, 5, 6};
	const int64_t values[] = {1, 2, 3, 4, 5, 6};
	const int8_t indices[] = {1, 0, 1};
	const char *const words[] = {"on", "off"};
	struct ArrowArray *batch = arrow_struct(3, NULL);
	arrow_with_child(batch, arrow_list(3, NULL, offsets, arrow_fixed(6, NULL, values, 8)));
	arrow_with_child(batch, encoded(3, indices, 2, NULL, words));
	esk_error err = {0};
	for (int i = 0; i < 2; i++) {
		esk_item item = ESK_ITEM_INIT;
		item.path = i == 0 ? "measurements/batch_000000" : "measurements/batch_000001";
		item.attributes_json = "{\"row_count\": 3}";
		assert_ok(esk_run_put_arrow(run, &item, schema, batch, NULL, &err), &err);
	}
	esk_item again = ESK_ITEM_INIT;
	again.path = "measurements/batch_000001";
	assert_int_equal(esk_run_put_arrow(run, &again, schema, batch, NULL, &err), ESK_EEXIST);
	assert_non_null(strstr(err.message, "batch_000001"));
	place_run_close(run);
	/* Items are no streams: stock libhdf5 is what reads them. */
	char path[200];
	snprintf(path, sizeof path, "%s/run.h5", p.path);
	hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
	int64_t found[4];
	int32_t codes[3];
	hid_t set = H5Dopen2(file, "measurements/batch_000001/x/offsets", H5P_DEFAULT);
	assert_true(H5Dread(set, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, found) >= 0);
	assert_true(found[0] == 0 && found[1] == 0 && found[2] == 3);
	H5Dclose(set);
	set = H5Dopen2(file, "measurements/batch_000001/x/values", H5P_DEFAULT);
	assert_true(H5Dread(set, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, found) >= 0);
	assert_true(found[0] == 3 && found[3] == 6);
	H5Dclose(set);
	set = H5Dopen2(file, "measurements/batch_000001/d/codes", H5P_DEFAULT);
	assert_true(H5Dread(set, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, codes) >= 0);
	assert_true(codes[0] == 0 && codes[1] == 1 && codes[2] == 0); /* in the order in which they came */
	H5Dclose(set);
	assert_true(H5Lexists(file, "measurements/batch_000000/d/categories", H5P_DEFAULT) > 0);
	H5Fclose(file);
	arrow_free_array(batch);
	arrow_free_schema(schema);
	place_close(&p);
}

static void a_thousand_columns_are_quick(void **state)
{
	place p = place_make(*state);
	esk_run *run = place_run(&p, "run", NULL);
	struct ArrowSchema *schema = arrow_schema();
	struct ArrowArray *batch = arrow_struct(10, NULL);
	for (int i = 0; i < 1000; i++) {
		char name[16];
		int64_t values[10];
		snprintf(name, sizeof name, "c%d", i);
		arrow_with(schema, arrow_field(name, "l", i % 2 == 0 ? NULLABLE : 0));
		for (int k = 0; k < 10; k++)
			values[k] = i * 10 + k;
		arrow_with_child(batch, arrow_fixed(10, NULL, values, 8));
	}
	uint64_t begin = esk_monotonic_ns();
	esk_arrow_sink *sink = open_sink(run, "scope", schema);
	uint64_t opened = esk_monotonic_ns();
	for (int i = 0; i < 100; i++)
		append(sink, batch, 0, 10);
	print_message("1000 columns: opened in %llu ms, %llu ns a row\n",
		(unsigned long long)((opened - begin) / 1000000),
		(unsigned long long)((esk_monotonic_ns() - opened) / 1000));
	esk_arrow_sink_close(sink);
	place_run_close(run);
	esk_reader *reader = place_reader(&p, "run");
	int64_t *last = place_read(reader, "scope/c999", 0, 1000, 8);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(last[i], 9990 + i % 10);
	free(last);
	esk_reader_close(reader);
	arrow_free_array(batch);
	arrow_free_schema(schema);
	place_close(&p);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		ONE(fixed_width_columns_are_the_arrays_themselves),
		ONE(types_without_a_place_are_refused_by_name_before_anything_is_made),
		ONE(names_that_clash_or_are_none_are_refused),
		ONE(options_that_fit_nothing_are_refused_before_anything_is_made),
		ONE(tensors_whose_shape_is_not_sound_are_refused),
		ONE(the_first_difference_of_another_schema_is_named),
		ONE(texts_that_are_none_name_column_and_row),
		ONE(arrays_that_are_not_of_the_schema_are_refused),
		ONE(categories_of_an_append_that_failed_are_not_kept),
		ONE(rows_per_record_always_fit_and_are_not_far_from_most),
		ONE(other_parts_go_in_the_same_record),
		ONE(a_batch_is_an_item_with_all_its_arrays),
		ONE(a_thousand_columns_are_quick),
	};
	return test_run(tests);
}
