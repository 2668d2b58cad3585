/* replay: files that something else wrote: whole, cut short, and such as cannot be. Errors, never crashes. */
#include "replay_support.h"

/* ---- making ---- */

static esk_plain *make_file(replay_place *place, const char *name)
{
	esk_error err;
	esk_plain *file;
	const char *path = test_path(place->dir, name);
	unlink(path);
	assert_ok(esk_plain_create(path, &file, &err), &err);
	return file;
}

/* `rows` rows of `cells`, of the dtype and cell shape `spec`. */
static void put(esk_plain *file, const char *path, const char *spec, const void *cells, uint64_t rows)
{
	esk_error err;
	esk_column *column;
	size_t count;
	char text[64];
	snprintf(text, sizeof text, "x:%s", spec);
	assert_ok(esk_columns_parse(text, &column, &count, &err), &err);
	assert_ok(esk_plain_begin(file, path, column, &err), &err);
	assert_ok(esk_plain_append(file, cells, rows, &err), &err);
	assert_ok(esk_plain_end(file, &err), &err);
	esk_columns_free(column);
}

static void put_total(esk_plain *file, const char *name, int64_t value)
{
	esk_error err;
	assert_ok(esk_plain_set_integer(file, "/", name, value, &err), &err);
}

static esk_status open_file(
	replay_place *place, const char *name, esk_replay_reader **ret_reader, esk_error *err)
{
	*ret_reader = NULL;
	return esk_replay_reader_open_file(test_path(place->dir, name), ret_reader, err);
}

static esk_replay_reader *open_good(replay_place *place, const char *name)
{
	esk_error err;
	esk_replay_reader *reader;
	assert_ok(open_file(place, name, &reader, &err), &err);
	return reader;
}

#define ROWS 150
#define LONG_ROWS 305

/* Rewards 0, 1, 2, …; done where a step is one of `ends`. */
static void put_steps(esk_plain *file, uint64_t rows, const int *ends, size_t end_count)
{
	float rewards[LONG_ROWS];
	int32_t actions[LONG_ROWS];
	uint8_t dones[LONG_ROWS] = {0};
	for (int i = 0; i < LONG_ROWS; i++) {
		rewards[i] = (float)i;
		actions[i] = i % 4;
	}
	for (size_t i = 0; i < end_count; i++)
		dones[ends[i]] = 1;
	put(file, "rewards", "f32", rewards, rows);
	put(file, "actions", "i32", actions, rows);
	put(file, "dones", "bool", dones, rows);
}

static void close_file(esk_plain *file)
{
	esk_error err;
	assert_ok(esk_plain_close(file, &err), &err);
}

static void check_episode(
	esk_replay_reader *reader, uint64_t id, uint64_t start, uint64_t length, int outcome)
{
	esk_replay_episode episode = get_episode(reader, id);
	double total = 0;
	for (uint64_t i = start; i < start + length; i++)
		total += (double)i;
	assert_int_equal(episode.start, start);
	assert_int_equal(episode.length, length);
	assert_int_equal(episode.outcome, outcome);
	assert_true(episode.total_reward == total);
	assert_true(
		episode.contiguous && !episode.has_seed && episode.ended_ns == 0 && episode.final_row == -1);
}

/* ---- files of the h5py-based system ---- */

static void a_file_made_larger_than_it_was_filled_has_its_total_steps(void **state)
{
	replay_place *place = *state;
	static const int ends[] = {29, 69};
	static const int64_t starts[5] = {0, 30, 70}, lengths[5] = {30, 40, 20};
	esk_plain *file = make_file(place, "old.h5");
	put_steps(file, ROWS, ends, 2);
	put(file, "episodes/starts", "i64", starts, 5);
	put(file, "episodes/lengths", "i64", lengths, 5);
	put_total(file, "total_steps", 100);
	put_total(file, "total_episodes", 3);
	close_file(file);
	esk_replay_reader *reader = open_good(place, "old.h5");
	assert_int_equal(esk_replay_reader_steps(reader), 100);
	assert_int_equal(esk_replay_reader_episodes(reader), 4);
	check_episode(reader, 0, 0, 30, ESK_REPLAY_TERMINATED);
	check_episode(reader, 1, 30, 40, ESK_REPLAY_TERMINATED);
	check_episode(reader, 2, 70, 20, ESK_REPLAY_TERMINATED); /* ended without a flag */
	check_episode(reader, 3, 90, 10, ESK_REPLAY_UNFINISHED); /* behind the last */
	refresh_reader(reader);
	assert_int_equal(esk_replay_reader_episodes(reader), 4);
	check_episode(reader, 3, 90, 10, ESK_REPLAY_UNFINISHED);
	esk_replay_reader_close(reader);
}

static void a_writer_that_died_left_some_datasets_shorter(void **state)
{
	replay_place *place = *state;
	static const int ends[] = {29, 69};
	static const int64_t starts[] = {0, 30}, lengths[] = {30, 40};
	static const uint8_t frames[60][4], nothing[1];
	esk_plain *file = make_file(place, "died.h5");
	put_steps(file, 80, ends, 2);
	put(file, "frames", "u8[4]", frames, 60);
	put(file, "observations", "u8", nothing, 0); /* made, and never used */
	put(file, "episodes/starts", "i64", starts, 2);
	put(file, "episodes/lengths", "i64", lengths, 2);
	put_total(file, "total_steps", 0); /* as it was at the beginning */
	close_file(file);
	esk_replay_reader *reader = open_good(place, "died.h5");
	assert_int_equal(esk_replay_reader_steps(reader), 60);
	assert_int_equal(esk_replay_reader_episodes(reader), 2);
	check_episode(reader, 0, 0, 30, ESK_REPLAY_TERMINATED);
	check_episode(reader, 1, 30, 30, ESK_REPLAY_UNFINISHED);
	esk_replay_reader_close(reader);
}

static void without_episodes_the_flags_say_where_one_ends(void **state)
{
	replay_place *place = *state;
	static const int ends[] = {9, 10, 49};
	uint8_t truncated[60] = {[10] = 1};
	esk_plain *file = make_file(place, "flags.h5");
	put_steps(file, 60, ends, 3);
	put(file, "truncated", "u8", truncated, 60);
	close_file(file);
	esk_replay_reader *reader = open_good(place, "flags.h5");
	assert_int_equal(esk_replay_reader_episodes(reader), 4);
	check_episode(reader, 0, 0, 10, ESK_REPLAY_TERMINATED);
	check_episode(reader, 1, 10, 1, ESK_REPLAY_TRUNCATED);
	check_episode(reader, 2, 11, 39, ESK_REPLAY_TERMINATED);
	check_episode(reader, 3, 50, 10, ESK_REPLAY_UNFINISHED);
	esk_replay_sampler *sampler;
	esk_error err;
	assert_ok(esk_replay_sampler_create(&reader, 1, NULL, &sampler, &err), &err);
	assert_int_equal(esk_replay_sampler_size(sampler), 60);
	esk_replay_sampler_destroy(sampler);
	esk_replay_reader_close(reader);
}

/* ---- numbers of other dtypes ---- */

static void numbers_are_read_whatever_their_dtype(void **state)
{
	replay_place *place = *state;
	static const char *const dtypes[] = {
		"i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f32", "f64"};
	for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++) {
		uint8_t bytes[10][8] = {{0}};
		size_t size = (size_t)(dtypes[d][strlen(dtypes[d]) - 1] == '8' ? 1
				       : strchr(dtypes[d], '1') != NULL        ? 2
				       : strchr(dtypes[d], '3') != NULL        ? 4
									       : 8);
		for (int i = 0; i < 10; i++) {
			float real4 = (float)i;
			double real8 = i;
			void *cell = (uint8_t *)bytes + (size_t)i * size;
			if (dtypes[d][0] != 'f')
				*(uint8_t *)cell = (uint8_t)i;
			else
				memcpy(cell, size == 4 ? (void *)&real4 : (void *)&real8, size);
		}
		uint8_t starts[2][8] = {{0}}, lengths[2][8] = {{0}};
		memcpy((uint8_t *)starts + size, (uint8_t *)bytes + 6 * size, size); /* 0, 6 */
		memcpy(lengths, (uint8_t *)bytes + 6 * size, size);                  /* 6, 4 */
		memcpy((uint8_t *)lengths + size, (uint8_t *)bytes + 4 * size, size);
		esk_plain *file = make_file(place, "numbers.h5");
		put(file, "rewards", dtypes[d], bytes, 10);
		put(file, "episodes/starts", dtypes[d], starts, 2);
		put(file, "episodes/lengths", dtypes[d], lengths, 2);
		close_file(file);
		esk_replay_reader *reader = open_good(place, "numbers.h5");
		check_episode(reader, 0, 0, 6, ESK_REPLAY_TERMINATED);
		check_episode(reader, 1, 6, 4, ESK_REPLAY_TERMINATED);
		esk_replay_reader_close(reader);
	}
}

/* ---- what cannot be ---- */

static void refuse_episodes(replay_place *place, const char *spec, const void *starts, const void *lengths,
	esk_status status, const char *text)
{
	esk_error err = {0};
	esk_replay_reader *reader;
	esk_plain *file = make_file(place, "odd.h5");
	put_steps(file, 100, NULL, 0);
	put(file, "episodes/starts", spec, starts, 2);
	put(file, "episodes/lengths", spec, lengths, 2);
	close_file(file);
	assert_int_equal(open_file(place, "odd.h5", &reader, &err), status);
	assert_null(reader);
	if (strstr(err.message, text) == NULL)
		fail_msg("\"%s\" lacks \"%s\"", err.message, text);
}

static void episodes_that_cannot_be_are_refused(void **state)
{
	replay_place *place = *state;
	static const int64_t good[] = {0, 50}, beyond[] = {0, 101}, negative[] = {0, -1}, long_[] = {10, 51},
			     overlapping[] = {51, 10}, largest[] = {0, INT64_MAX};
	refuse_episodes(place, "i64", good, negative, ESK_ECORRUPT, "row 1 of /episodes");
	refuse_episodes(place, "i64", negative, good, ESK_ECORRUPT, "row 1 of /episodes");
	refuse_episodes(place, "i64", good, largest, ESK_ECORRUPT, "row 1 of /episodes");
	refuse_episodes(place, "i64", beyond, negative + 0, ESK_ECORRUPT, "/episodes");
	refuse_episodes(place, "i64", beyond, good, ESK_ECORRUPT, "rows 101:151");
	refuse_episodes(place, "i64", good, long_, ESK_ECORRUPT, "below 100");
	refuse_episodes(place, "i64", good, overlapping, ESK_ECORRUPT, "behind 51");
	static const double no_number[] = {0, 1e300};
	refuse_episodes(place, "f64", no_number, no_number, ESK_ERANGE, "64-bit integer");
	refuse_episodes(place, "str8",
		"0\0\0\0\0\0\0\0"
		"50\0\0\0\0\0\0",
		"5\0\0\0\0\0\0\0"
		"5\0\0\0\0\0\0\0",
		ESK_ETYPE, "one number a row");
	static const int64_t pairs[4];
	refuse_episodes(place, "i64[2]", pairs, pairs, ESK_ETYPE, "one number a row");
}

static void numbers_of_episodes_that_cannot_be_are_refused(void **state)
{
	replay_place *place = *state;
	static const int64_t ids[][4] = {{0, 0, -1, 1}, {0, 1, INT64_MAX, 1}, {0, 1, 1ll << 40, 2}};
	static const int64_t steps[4] = {0, 1, 2, 3};
	for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
		esk_error err = {0};
		esk_replay_reader *reader;
		esk_plain *file = make_file(place, "ids.h5");
		put_steps(file, 4, NULL, 0);
		put(file, "episode_ids", "i64", ids[i], 4);
		put(file, "step_ids", "i64", steps, 4);
		put(file, "episodes/ids", "i64", steps, 0);
		put(file, "episodes/starts", "i64", steps, 0);
		put(file, "episodes/lengths", "i64", steps, 0);
		close_file(file);
		assert_int_equal(open_file(place, "ids.h5", &reader, &err), ESK_ECORRUPT);
		assert_non_null(strstr(err.message, "/episode_ids"));
	}
}

/* ---- where the steps are not where /episodes would have them ---- */

/* A file of `count` steps, and of rows of /episodes that say {id, start, length}. */
static void put_ids(
	replay_place *place, const int64_t *ids, uint64_t count, const int64_t told[][3], uint64_t rows)
{
	int64_t steps[LONG_ROWS], seen[16] = {0}, columns[3][16];
	for (uint64_t i = 0; i < count; i++)
		steps[i] = seen[ids[i]]++;
	for (uint64_t i = 0; i < rows; i++)
		for (int c = 0; c < 3; c++)
			columns[c][i] = told[i][c];
	esk_plain *file = make_file(place, "ids.h5");
	put_steps(file, count, NULL, 0);
	put(file, "episode_ids", "i64", ids, count);
	put(file, "step_ids", "i64", steps, count);
	put(file, "episodes/ids", "i64", columns[0], rows);
	put(file, "episodes/starts", "i64", columns[1], rows);
	put(file, "episodes/lengths", "i64", columns[2], rows);
	close_file(file);
}

static void check_rows(esk_replay_reader *reader, uint64_t id, const uint64_t *expected, uint64_t count)
{
	esk_error err;
	uint64_t rows[16];
	assert_int_equal(get_episode(reader, id).length, count);
	assert_ok(esk_replay_reader_episode_rows(reader, id, rows, &err), &err);
	assert_memory_equal(rows, expected, count * sizeof *rows);
}

/* Rows of /episodes that seem to lie one behind the other, and steps that do not. */
static void steps_say_whose_they_are_whatever_episodes_says(void **state)
{
	replay_place *place = *state;
	static const int64_t interleaved[] = {0, 0, 1, 2, 0, 2, 2}, told[][3] = {{0, 0, 3}, {2, 3, 3}};
	put_ids(place, interleaved, 7, told, 2);
	esk_replay_reader *reader = open_good(place, "ids.h5");
	assert_int_equal(esk_replay_reader_episodes(reader), 3);
	check_rows(reader, 0, (const uint64_t[]){0, 1, 4}, 3);
	check_rows(reader, 1, (const uint64_t[]){2}, 1);
	check_rows(reader, 2, (const uint64_t[]){3, 5, 6}, 3);
	esk_replay_reader_close(reader);

	/* A lossy ring dropped three steps of the first episode; its row still says ten. */
	static const int64_t lossy[] = {0, 0, 0, 0, 0, 0, 0, 1, 1, 1}, more[][3] = {{0, 0, 10}};
	put_ids(place, lossy, 10, more, 1);
	reader = open_good(place, "ids.h5");
	assert_int_equal(esk_replay_reader_episodes(reader), 2);
	check_rows(reader, 0, (const uint64_t[]){0, 1, 2, 3, 4, 5, 6}, 7);
	check_rows(reader, 1, (const uint64_t[]){7, 8, 9}, 3);
	esk_replay_reader_close(reader);

	/* Behind a long one without a row, two that would be skipped, and the long one goes on between. */
	static int64_t behind[LONG_ROWS];
	static const int64_t two[][3] = {{1, 300, 2}, {2, 302, 2}};
	behind[300] = behind[304] = 1;
	behind[302] = behind[303] = 2;
	put_ids(place, behind, LONG_ROWS, two, 2);
	reader = open_good(place, "ids.h5");
	assert_int_equal(get_episode(reader, 0).length, 301);
	check_rows(reader, 1, (const uint64_t[]){300, 304}, 2);
	check_rows(reader, 2, (const uint64_t[]){302, 303}, 2);
	esk_replay_reader_close(reader);
}

/* ---- at random ---- */

static int64_t odd_number(model *random)
{
	static const int64_t odd[] = {-1, 0, 1, 2, 3, 5, 40, 100, INT64_MAX, INT64_MIN, 1ll << 40, 1 << 20};
	return model_draw(random, 6) > 0 ? (int64_t)model_draw(random, 12)
					 : odd[model_draw(random, sizeof odd / sizeof *odd)];
}

static void put_odd(model *random, esk_plain *file, const char *path, uint64_t most, bool rising)
{
	static const char *const specs[] = {"i64", "i64", "i64", "i64", "f64", "u64", "i32", "u8", "bool",
		"i64[2]", "str8", "f16", "c64"};
	uint8_t cells[64 * 16] = {0};
	uint64_t rows = model_draw(random, 4) > 0 ? most : model_draw(random, most + 1), last = 0;
	const char *spec =
		model_draw(random, 5) > 0 ? "i64" : specs[model_draw(random, sizeof specs / sizeof *specs)];
	for (uint64_t i = 0; i < rows; i++) {
		last += model_draw(random, 4);
		int64_t value = rising && model_draw(random, 8) > 0 ? (int64_t)last : odd_number(random);
		uint8_t byte = (uint8_t)(value & 1);
		memcpy(cells + i * 8, &value, 8);
		if (strcmp(spec, "bool") == 0)
			cells[i] = byte;
	}
	if (model_draw(random, 12) > 0)
		put(file, path, spec, cells, rows);
}

/* Whatever was opened holds together, and every question about it has an answer. */
static void question(esk_replay_reader *reader, uint64_t seed)
{
	esk_error err;
	uint64_t in_episodes = 0, steps = esk_replay_reader_steps(reader);
	for (uint64_t id = 0; id < esk_replay_reader_episodes(reader); id++) {
		esk_replay_episode episode = {.struct_size = sizeof episode};
		esk_status status = esk_replay_reader_episode(reader, id, &episode, &err);
		if (status != ESK_OK)
			continue; /* rewards or flags of a strange dtype */
		assert_true(episode.length <= steps);
		uint64_t *rows = malloc(episode.length * sizeof *rows + 1);
		assert_ok(esk_replay_reader_episode_rows(reader, id, rows, &err), &err);
		for (uint64_t i = 0; i < episode.length; i++)
			assert_true(rows[i] < steps && (i == 0 || rows[i] > rows[i - 1]));
		in_episodes += episode.length;
		free(rows);
	}
	assert_true(in_episodes <= steps);
	esk_replay_sampler_options options = {
		.struct_size = sizeof options, .stack = 3, .n_step = 4, .prioritized = seed % 2 == 0};
	esk_replay_sampler *sampler;
	if (esk_replay_sampler_create(&reader, 1, &options, &sampler, &err) != ESK_OK)
		return;
	uint64_t indices[16], rows[48], next_rows[48];
	double weights[16];
	esk_replay_draw draw = {.struct_size = sizeof draw,
		.batch = 16,
		.indices = indices,
		.rows = rows,
		.next_rows = next_rows,
		.weights = weights};
	if (esk_replay_sampler_draw(sampler, &draw, &err) == ESK_OK)
		for (int i = 0; i < 48; i++)
			assert_true(rows[i] < steps && next_rows[i] < steps);
	else
		assert_int_equal(esk_replay_sampler_size(sampler), 0);
	esk_replay_sampler_destroy(sampler);
}

static void odd_files_give_errors_or_hold_together(void **state)
{
	replay_place *place = *state;
	uint64_t opened = 0, rounds = test_scale(1500);
	for (uint64_t round = 0; round < rounds; round++) {
		model random = model_make(test_seed() * 1000003 + round);
		uint64_t steps = model_draw(&random, 60), episodes = model_draw(&random, 12);
		bool with_ids = model_draw(&random, 3) > 0;
		esk_plain *file = make_file(place, "odd.h5");
		put_odd(&random, file, "rewards", steps, false);
		put_odd(&random, file, "dones", steps, false);
		if (model_draw(&random, 2) == 0)
			put_odd(&random, file, "terminated", steps, false);
		if (with_ids) {
			put_odd(&random, file, "episode_ids", steps, true);
			put_odd(&random, file, "step_ids", steps, true);
			put_odd(&random, file, "episodes/ids", episodes, true);
		}
		put_odd(&random, file, "episodes/starts", episodes, true);
		put_odd(&random, file, "episodes/lengths", episodes, false);
		if (model_draw(&random, 3) == 0)
			put_odd(&random, file, "episodes/outcome", episodes, false);
		if (model_draw(&random, 3) == 0)
			put_total(file, "total_steps", odd_number(&random));
		if (model_draw(&random, 3) == 0)
			put_total(file, "total_episodes", odd_number(&random));
		close_file(file);
		esk_error err;
		esk_replay_reader *reader;
		if (open_file(place, "odd.h5", &reader, &err) == ESK_OK) {
			opened++;
			question(reader, round);
			esk_replay_reader_refresh(reader, &err);
			question(reader, round + 1);
			esk_replay_reader_close(reader);
		}
	}
	print_message("%llu of %llu odd files were opened\n", (unsigned long long)opened,
		(unsigned long long)rounds);
	assert_true(opened > 0 && opened < rounds);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, replay_place_make, replay_place_remove)

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		TEST(a_file_made_larger_than_it_was_filled_has_its_total_steps),
		TEST(a_writer_that_died_left_some_datasets_shorter),
		TEST(without_episodes_the_flags_say_where_one_ends),
		TEST(numbers_are_read_whatever_their_dtype),
		TEST(episodes_that_cannot_be_are_refused),
		TEST(numbers_of_episodes_that_cannot_be_are_refused),
		TEST(steps_say_whose_they_are_whatever_episodes_says),
		TEST(odd_files_give_errors_or_hold_together),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
