/* Record batches into streams: what each type becomes, names, refusals, what is checked before rows are
 * taken. */
#include "unit/arrow_support.h"

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

#define ONE(test) cmocka_unit_test_setup_teardown(test, test_dir_make, test_dir_remove)

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		ONE(fixed_width_columns_are_the_arrays_themselves),
	};
	if (getenv("ESK_TEST_ONLY") != NULL)
		cmocka_set_test_filter(getenv("ESK_TEST_ONLY"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
