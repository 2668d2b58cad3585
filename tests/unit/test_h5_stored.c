/* Listing what is stored where dimensions claim far more than the file holds, and what it costs.
 *
 *     test_h5_stored [SEED] */
#include "h5/h5.h"
#include "support/unit.h"

#define CHUNK_ROWS 4
#define CLAIMED_ROWS (UINT64_C(1) << 60)
#define STEP UINT64_C(1000003) /* between chunks that are written */

/* The operating system, counting reads. */
static _Atomic uint64_t reads;

static ssize_t counting_pread(const esk_os *os, int fd, void *buf, size_t size, uint64_t offset)
{
	(void)os;
	reads++;
	return esk_os_posix()->pread(esk_os_posix(), fd, buf, size, offset);
}

static const esk_os *counting_os(void)
{
	static esk_os os;
	os = *esk_os_posix();
	os.pread = counting_pread;
	return &os;
}

/* "x:u8" with `count` chunks of 4 bytes, far apart in more rows than anything holds. */
static const char *sparse_make(test_dir *dir, uint64_t count)
{
	const char *path = test_path(dir, "sparse.h5");
	esk_h5 *file;
	esk_h5_dataset *dataset;
	esk_pipeline pipeline;
	esk_error err = {0};
	esk_column column = {.name = "x", .dtype = {ESK_U8, 1}};
	unlink(path);
	assert_ok(esk_pipeline_build("none", &column, CHUNK_ROWS, &pipeline, &err), &err);
	assert_ok(esk_h5_create(esk_os_posix(), path, &file, &err), &err);
	assert_ok(esk_h5_dataset_create(file, "x", &column, CHUNK_ROWS, &pipeline, &dataset, &err), &err);
	assert_ok(esk_h5_set_rows(dataset, CLAIMED_ROWS, &err), &err);
	for (uint64_t i = 0; i < count; i++)
		assert_ok(esk_h5_write_chunk(dataset, i * STEP, 0, "abcd", CHUNK_ROWS, &err), &err);
	assert_ok(esk_h5_commit_begin(file, &err), &err);
	assert_ok(esk_h5_commit_finish(file, NULL, &err), &err);
	assert_ok(esk_h5_close(file, &err), &err);
	return path;
}

static esk_h5_dataset *open_x(const esk_os *os, const char *path, esk_h5 **ret_file)
{
	esk_h5_dataset *dataset;
	esk_error err = {0};
	assert_ok(esk_h5_open_read(os, path, ret_file, &err), &err);
	assert_ok(esk_h5_dataset_open(*ret_file, "x", &dataset, &err), &err);
	return dataset;
}

static void what_is_stored_is_listed_whatever_the_dimensions_say(void **state)
{
	static const uint64_t counts[] = {0, 1, 2, 63, 64, 65, 1000, 20000};
	for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
		esk_h5 *file;
		esk_error err = {0};
		esk_h5_chunk_list list;
		esk_h5_dataset *dataset = open_x(esk_os_posix(), sparse_make(*state, counts[c]), &file);
		assert_int_equal(esk_h5_chunk_count(dataset), CLAIMED_ROWS / CHUNK_ROWS);
		for (int again = 0; again < 2; again++) { /* the second time the index is known to libhdf5 */
			assert_ok(esk_h5_list_chunks(dataset, &list, &err), &err);
			assert_true(list.sparse);
			assert_int_equal(list.fault.code, ESK_OK);
			assert_int_equal(list.count, counts[c]);
			for (uint64_t i = 0; i < list.count; i++) {
				uint64_t stored = 0;
				assert_int_equal(esk_h5_chunk_at(&list, i), i * STEP);
				if (i % 97 == 0)
					assert_ok(esk_h5_check_chunk(
							  dataset, i * STEP, NULL, NULL, &stored, &err),
						&err);
				assert_int_equal(stored, i % 97 == 0 ? CHUNK_ROWS : 0);
			}
			esk_h5_chunk_list_free(&list);
		}
		esk_h5_close(file, NULL);
	}
}

/* Twice as many chunks take twice as many reads, and fewer than there are chunks. */
static void a_list_takes_reads_in_proportion_to_what_is_stored(void **state)
{
	uint64_t took[2];
	for (int twice = 0; twice < 2; twice++) {
		esk_h5 *file;
		esk_error err = {0};
		esk_h5_chunk_list list;
		esk_h5_dataset *dataset = open_x(counting_os(), sparse_make(*state, 5000u << twice), &file);
		reads = 0;
		assert_ok(esk_h5_list_chunks(dataset, &list, &err), &err);
		took[twice] = reads;
		assert_int_equal(list.count, 5000u << twice);
		esk_h5_chunk_list_free(&list);
		esk_h5_close(file, NULL);
	}
	print_message("%llu reads for 5,000 chunks, %llu for 10,000\n", (unsigned long long)took[0],
		(unsigned long long)took[1]);
	assert_true(took[1] < 5000 && took[1] < 3 * took[0]);
}

static void a_grid_that_is_cheap_to_walk_is_listed_whole(void **state)
{
	const char *path = test_path(*state, "dense.h5");
	esk_h5 *file;
	esk_h5_dataset *dataset;
	esk_pipeline pipeline;
	esk_error err = {0};
	esk_h5_chunk_list list;
	esk_column column = {.name = "x", .dtype = {ESK_U8, 1}};
	assert_ok(esk_pipeline_build("none", &column, CHUNK_ROWS, &pipeline, &err), &err);
	assert_ok(esk_h5_create(esk_os_posix(), path, &file, &err), &err);
	assert_ok(esk_h5_dataset_create(file, "x", &column, CHUNK_ROWS, &pipeline, &dataset, &err), &err);
	assert_ok(esk_h5_set_rows(dataset, 40001, &err), &err);
	assert_ok(esk_h5_write_chunk(dataset, 7, 0, "abcd", CHUNK_ROWS, &err), &err);
	assert_ok(esk_h5_list_chunks(dataset, &list, &err), &err);
	assert_false(list.sparse);
	assert_int_equal(list.count, 10001);
	assert_int_equal(esk_h5_chunk_at(&list, 5000), 5000);
	esk_h5_chunk_list_free(&list);
	esk_h5_abandon(file);
}

/* Any byte of the index damaged: the list ends, is within the grid and in order, and what is lost is told
 * where the damage is one of structure. */
static void a_damaged_index_is_told_and_the_rest_listed(void **state)
{
	const char *path = sparse_make(*state, 1000);
	FILE *stream = fopen(path, "r+b");
	uint64_t told = 0, turns = test_scale(400), shorter = 0, random = test_seed();
	assert_non_null(stream);
	fseek(stream, 0, SEEK_END);
	long size = ftell(stream);
	unsigned char *bytes = malloc((size_t)size);
	rewind(stream);
	assert_int_equal(fread(bytes, 1, (size_t)size, stream), size);
	long *nodes = malloc((size_t)size * sizeof *nodes);
	size_t node_count = 0;
	for (long i = 0; i + 24 < size; i++)
		if (memcmp(bytes + i, "TREE\1", 5) == 0)
			nodes[node_count++] = i;
	assert_true(node_count > 10);
	for (uint64_t turn = 0; turn < turns; turn++) {
		esk_h5 *file;
		esk_error err = {0};
		esk_h5_chunk_list list;
		random = random * 6364136223846793005u + 1442695040888963407u;
		long at =
			nodes[(random >> 33) % node_count] + (long)((random >> 20) % (turn % 2 ? 24 : 1000));
		unsigned char flipped = bytes[at] ^ (unsigned char)(1u << (random >> 60) % 8);
		fseek(stream, at, SEEK_SET);
		fputc(flipped, stream);
		fflush(stream);
		if (esk_h5_probe(path, &err) == ESK_OK) {
			esk_h5_dataset *dataset = open_x(esk_os_posix(), path, &file);
			if (esk_h5_list_chunks(dataset, &list, &err) == ESK_OK) {
				for (uint64_t i = 0; i < list.count; i++)
					assert_true(esk_h5_chunk_at(&list, i) < CLAIMED_ROWS / CHUNK_ROWS &&
						    (i == 0 || esk_h5_chunk_at(&list, i) >
								       esk_h5_chunk_at(&list, i - 1)));
				assert_true(list.count <= 1000 + 64);
				told += list.fault.code != ESK_OK;
				shorter += list.count < 1000;
				esk_h5_chunk_list_free(&list);
			}
			esk_h5_close(file, NULL);
		}
		fseek(stream, at, SEEK_SET);
		fputc(bytes[at], stream);
		fflush(stream);
	}
	print_message("%llu of %llu damaged indexes were told of, %llu lists were shorter\n",
		(unsigned long long)told, (unsigned long long)turns, (unsigned long long)shorter);
	assert_true(told > turns / 10);
	fclose(stream);
	free(nodes);
	free(bytes);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		ONE(what_is_stored_is_listed_whatever_the_dimensions_say),
		ONE(a_list_takes_reads_in_proportion_to_what_is_stored),
		ONE(a_grid_that_is_cheap_to_walk_is_listed_whole),
		ONE(a_damaged_index_is_told_and_the_rest_listed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
