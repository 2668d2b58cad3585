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

static inline esk_status replay_store_open(replay_place *place)
{
	esk_error err;
	esk_status status = esk_store_open(test_path(place->dir, "store"), NULL, &place->store, &err);
	if (status != ESK_OK)
		print_message("%s\n", err.message);
	return status;
}

/* Before a fork: children open stores of their own. */
static inline void replay_store_close(replay_place *place)
{
	esk_error err;
	assert_ok(esk_store_close(place->store, &err), &err);
	place->store = NULL;
}

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
	return replay_store_open(place) == ESK_OK ? 0 : -1;
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
static inline uint64_t put_flagged(
	esk_replay_writer *writer, uint32_t slot, int64_t number, bool terminated, bool truncated)
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
		.truncated = truncated,
		.time_ns = 1000 + number};
	assert_ok(esk_replay_writer_step(writer, &step, &row, &err), &err);
	return row;
}

static inline uint64_t put_step(esk_replay_writer *writer, uint32_t slot, int64_t number, bool terminated)
{
	return put_flagged(writer, slot, number, terminated, false);
}

static inline void end_episode(esk_replay_writer *writer, uint32_t slot, int outcome)
{
	esk_error err;
	assert_ok(esk_replay_writer_end(writer, slot, outcome, NULL, &err), &err);
}

static inline void flush_writer(esk_replay_writer *writer)
{
	esk_error err;
	assert_ok(esk_replay_writer_flush(writer, &err), &err);
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

static inline void refresh_reader(esk_replay_reader *reader)
{
	esk_error err;
	assert_ok(esk_replay_reader_refresh(reader, &err), &err);
}

static inline esk_dataset *get_dataset(esk_replay_reader *reader, const char *path)
{
	esk_error err;
	esk_dataset *dataset;
	assert_ok(esk_reader_find(esk_replay_reader_base(reader), path, &dataset, &err), &err);
	return dataset;
}

/* ---- a model of what was written, to compare with ---- */

typedef struct model_episode {
	uint64_t rows[512];
	uint64_t length;
	double total_reward;
	int outcome; /* as it must be read while the run is as it is */
} model_episode;

typedef struct model {
	model_episode *episodes;
	uint64_t count, capacity, steps;
	uint64_t open[16]; /* by slot: the episode under way, or UINT64_MAX */
	uint64_t random;
} model;

static inline model model_make(uint64_t seed)
{
	model m = {.random = seed};
	memset(m.open, 0xFF, sizeof m.open);
	return m;
}

static inline uint64_t model_draw(model *m, uint64_t below)
{
	uint64_t z = m->random += UINT64_C(0x9E3779B97F4A7C15);
	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return (z ^ z >> 31) % below;
}

/* A random step in `slot`, which may end its episode, with or without saying so. */
static inline void model_step(model *m, esk_replay_writer *writer, uint32_t slot, uint64_t mean_length)
{
	if (m->open[slot] == UINT64_MAX) {
		if (m->count == m->capacity) {
			m->capacity = 2 * m->capacity + 16;
			m->episodes = realloc(m->episodes, m->capacity * sizeof *m->episodes);
			assert_non_null(m->episodes);
		}
		m->open[slot] = m->count;
		m->episodes[m->count++] = (model_episode){0};
	}
	model_episode *e = &m->episodes[m->open[slot]];
	bool ends = model_draw(m, mean_length) == 0 || e->length + 1 == sizeof e->rows / sizeof *e->rows;
	bool terminated = ends && model_draw(m, 3) > 0, truncated = ends && !terminated;
	int64_t number = (int64_t)m->steps++;
	e->rows[e->length++] = put_flagged(writer, slot, number, terminated, truncated);
	e->total_reward += reward_of(number);
	e->outcome = terminated  ? ESK_REPLAY_TERMINATED
		     : truncated ? ESK_REPLAY_TRUNCATED
				 : ESK_REPLAY_UNFINISHED;
	if (ends) {
		m->open[slot] = UINT64_MAX;
		if (model_draw(m, 2) == 0)
			end_episode(writer, slot, -1);
	}
}

/* The reader has every step and every episode of the model. */
static inline void model_compare(const model *m, esk_replay_reader *reader)
{
	esk_error err;
	uint64_t rows[512];
	assert_int_equal(esk_replay_reader_steps(reader), m->steps);
	assert_int_equal(esk_replay_reader_episodes(reader), m->count);
	for (uint64_t id = 0; id < m->count; id++) {
		const model_episode *e = &m->episodes[id];
		esk_replay_episode found = get_episode(reader, id);
		assert_int_equal(found.start, e->rows[0]);
		assert_int_equal(found.length, e->length);
		assert_int_equal(found.contiguous, e->rows[e->length - 1] - e->rows[0] + 1 == e->length);
		assert_int_equal(found.outcome, e->outcome);
		assert_true(found.total_reward == e->total_reward);
		assert_ok(esk_replay_reader_episode_rows(reader, id, rows, &err), &err);
		assert_memory_equal(rows, e->rows, e->length * sizeof *rows);
	}
}

static inline void model_clear(model *m)
{
	free(m->episodes);
	*m = (model){0};
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
