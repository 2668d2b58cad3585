/* What the replay tests share: a store in a directory of its own, steps whose cells follow from their number.
 */
#ifndef ESK_TESTS_REPLAY_SUPPORT_H
#define ESK_TESTS_REPLAY_SUPPORT_H

#include "support/unit.h"
#include <esker/esker.h>

#define FRAME_BYTES 12
#define OBSERVATIONS 3

typedef struct replay_place {
	test_dir *dir;
	esk_store *store;
} replay_place;

static inline int replay_place_make(void **state)
{
	replay_place *place = calloc(1, sizeof *place);
	esk_error err;
	void *dir;
	if (test_dir_make(&dir) != 0)
		return -1;
	place->dir = dir;
	*state = place;
	if (esk_store_create(test_path(place->dir, "store"), &err) != ESK_OK)
		return -1;
	return esk_store_open(test_path(place->dir, "store"), NULL, &place->store, &err) == ESK_OK ? 0 : -1;
}

static inline int replay_place_remove(void **state)
{
	replay_place *place = *state;
	void *dir = place->dir;
	esk_store_close(place->store, NULL);
	free(place);
	return test_dir_remove(&dir);
}

/* ---- writing ---- */

static inline esk_replay_options small_options(void)
{
	esk_replay_options options = ESK_REPLAY_OPTIONS_INIT;
	options.frame = "u8[2,2,3]";
	options.observation = "f32[3]";
	options.run.ring_bytes = 4 << 20;
	return options;
}

static inline esk_replay_writer *open_writer(
	replay_place *place, const char *run, const esk_replay_options *options)
{
	esk_error err;
	esk_replay_writer *writer;
	assert_ok(esk_replay_writer_open(place->store, run, options, &writer, &err), &err);
	return writer;
}

static inline void close_writer(esk_replay_writer *writer)
{
	esk_error err;
	assert_ok(esk_replay_writer_close(writer, &err), &err);
}

static inline float reward_of(int64_t number)
{
	return (float)(number % 7) - 2.5f;
}

static inline double expected_reward(int64_t first, uint64_t count)
{
	double sum = 0;
	for (uint64_t i = 0; i < count; i++)
		sum += reward_of(first + (int64_t)i);
	return sum;
}

/* Every fifth step has no frame, every third no observation. */
static inline bool has_frame(int64_t number)
{
	return number % 5 != 4;
}

static inline bool has_observation(int64_t number)
{
	return number % 3 != 2;
}

static inline void fill_cells(int64_t number, uint8_t frame[FRAME_BYTES], float observation[OBSERVATIONS])
{
	for (int i = 0; i < FRAME_BYTES; i++)
		frame[i] = (uint8_t)(number * 31 + i);
	for (int i = 0; i < OBSERVATIONS; i++)
		observation[i] = (float)number + (float)i / 4;
}

/* Step number `number` of all, with the cells of small_options; returns its row. */
static inline uint64_t put_step(esk_replay_writer *writer, uint32_t slot, int64_t number, bool terminated)
{
	uint8_t frame[FRAME_BYTES];
	float observation[OBSERVATIONS];
	esk_error err;
	uint64_t row;
	fill_cells(number, frame, observation);
	const void *observations[] = {observation};
	const void *actions[] = {&number};
	esk_replay_step step = {.struct_size = sizeof step,
		.slot = slot,
		.frame = has_frame(number) ? frame : NULL,
		.observation = has_observation(number) ? observations : NULL,
		.action = actions,
		.reward = reward_of(number),
		.terminated = terminated,
		.time_ns = 1000 + number};
	assert_ok(esk_replay_writer_step(writer, &step, &row, &err), &err);
	return row;
}

/* ---- reading ---- */

static inline esk_replay_reader *open_reader(replay_place *place, const char *run)
{
	esk_error err;
	esk_replay_reader *reader;
	assert_ok(esk_replay_reader_open(place->store, run, &reader, &err), &err);
	return reader;
}

static inline esk_replay_episode get_episode(esk_replay_reader *reader, uint64_t id)
{
	esk_error err;
	esk_replay_episode episode = {.struct_size = sizeof episode};
	assert_ok(esk_replay_reader_episode(reader, id, &episode, &err), &err);
	assert_int_equal(episode.id, id);
	return episode;
}

static inline esk_dataset *get_dataset(esk_replay_reader *reader, const char *path)
{
	esk_error err;
	esk_dataset *dataset;
	assert_ok(esk_reader_find(esk_replay_reader_base(reader), path, &dataset, &err), &err);
	return dataset;
}

/* Steps 0, 1, … `count` of a run with one slot hold what put_step put there. */
static inline void check_cells(esk_replay_reader *reader, uint64_t count)
{
	esk_error err;
	uint8_t *frames = malloc(count * FRAME_BYTES), *valid = malloc(count);
	float *observations = malloc(count * OBSERVATIONS * sizeof *observations);
	int64_t *actions = malloc(count * sizeof *actions);
	uint64_t *rows = malloc(count * sizeof *rows);
	for (uint64_t i = 0; i < count; i++)
		rows[i] = i;
	assert_ok(esk_dataset_read_rows(
			  get_dataset(reader, "frames"), rows, count, frames, count * FRAME_BYTES, &err),
		&err);
	assert_ok(esk_dataset_read_rows(get_dataset(reader, "observations"), rows, count, observations,
			  count * OBSERVATIONS * sizeof *observations, &err),
		&err);
	assert_ok(esk_dataset_read_rows(get_dataset(reader, "actions"), rows, count, actions,
			  count * sizeof *actions, &err),
		&err);
	for (uint64_t i = 0; i < count; i++) {
		uint8_t frame[FRAME_BYTES] = {0};
		float observation[OBSERVATIONS] = {0};
		fill_cells((int64_t)i, frame, observation);
		if (!has_frame((int64_t)i))
			memset(frame, 0, sizeof frame);
		if (!has_observation((int64_t)i))
			memset(observation, 0, sizeof observation);
		assert_memory_equal(frames + i * FRAME_BYTES, frame, FRAME_BYTES);
		assert_memory_equal(observations + i * OBSERVATIONS, observation, sizeof observation);
		assert_int_equal(actions[i], i);
	}
	assert_ok(esk_dataset_read_valid(get_dataset(reader, "frames"), rows, count, valid, &err), &err);
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(valid[i], has_frame((int64_t)i));
	free(frames);
	free(valid);
	free(observations);
	free(actions);
	free(rows);
}

#endif
