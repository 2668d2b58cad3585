/* api: what chooses the environment. The rest of the public API is tested in the layers that implement it. */
#include "support/unit.h"
#include <esker/esker.h>

#include <unistd.h>

static void the_machine_is_described(void **state)
{
	esk_error err = {0};
	esk_machine machine = {.struct_size = sizeof machine};
	assert_int_equal(esk_machine_inspect("/tmp", &machine, &err), ESK_OK);
	assert_true(machine.cores >= 1);
	assert_true(machine.memory_bytes > 1u << 20);
	assert_true(machine.memcpy_bytes_per_s > 0 && machine.deflate_bytes_per_s > 0);
	assert_true(strlen(machine.simd) > 0 && strlen(machine.hdf5_version) > 2 &&
		    strlen(machine.sqlite_version) > 2);
	assert_int_equal(esk_machine_inspect("/no/such/directory", &machine, &err), ESK_ENOTFOUND);
}

static void an_older_struct_is_filled_as_far_as_it_goes(void **state)
{
	esk_machine machine;
	memset(&machine, 0x55, sizeof machine);
	machine.struct_size = offsetof(esk_machine, simd);
	assert_int_equal(esk_machine_inspect("/tmp", &machine, NULL), ESK_OK);
	assert_true(machine.cores >= 1);
	assert_int_equal((unsigned char)machine.simd[0], 0x55);
}

static void a_store_answers_sql_and_refuses_to_be_changed_by_it(void **state)
{
	char path[] = "/tmp/esk-api-XXXXXX", store_path[64], command[96];
	esk_error err = {0};
	esk_store *store;
	esk_query *query;
	bool row;
	assert_non_null(mkdtemp(path));
	snprintf(store_path, sizeof store_path, "%s/store", path);
	assert_int_equal(esk_store_open(store_path, NULL, &store, &err), ESK_ENOTFOUND);
	assert_non_null(strstr(err.message, "esker init"));
	assert_int_equal(esk_store_create(store_path, &err), ESK_OK);
	assert_int_equal(esk_store_create(store_path, &err), ESK_EEXIST);
	assert_int_equal(esk_store_open(store_path, NULL, &store, &err), ESK_OK);
	assert_int_equal(esk_query_open(store, "SELECT count(*) FROM runs", &query, &err), ESK_OK);
	assert_int_equal(esk_query_step(query, &row, &err), ESK_OK);
	assert_true(row);
	assert_int_equal(esk_query_value(query, 0).integer, 0);
	esk_query_close(query);
	assert_int_not_equal(esk_query_open(store, "DELETE FROM runs", &query, &err), ESK_OK);
	assert_int_equal(esk_store_close(store, &err), ESK_OK);
	snprintf(command, sizeof command, "rm -rf %s", path);
	assert_int_equal(system(command), 0);
}

static void the_version_is_three_numbers(void **state)
{
	int a, b, c;
	assert_int_equal(sscanf(esk_version(), "%d.%d.%d", &a, &b, &c), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_machine_is_described),
		cmocka_unit_test(an_older_struct_is_filled_as_far_as_it_goes),
		cmocka_unit_test(a_store_answers_sql_and_refuses_to_be_changed_by_it),
		cmocka_unit_test(the_version_is_three_numbers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
