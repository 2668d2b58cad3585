/* replay: what include/esker/replay.h says, line by line. */
#include "replay_support.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

static void what_is_written_is_read_back(void **state)
{
	replay_place *place = *state;
	esk_replay_options options = small_options();
	options.env_id = "Bits-v0";
	options.metadata_json =
		"{\"agent\": \"random\", \"level\": 3, \"run_id\": 7, \"a/b\": 1, \"nested\": {\"a\": 1}}";
	esk_replay_writer *writer = open_writer(place, "run", &options);
	for (int64_t i = 0; i < 25; i++) { /* episodes of 10, 10 and 5 steps */
		if (i % 10 == 0)
			esk_replay_writer_seed(writer, 0, 100 + i);
		assert_int_equal(put_step(writer, 0, i, i % 10 == 9), i);
	}
	assert_int_equal(esk_replay_writer_steps(writer), 25);
	assert_int_equal(esk_replay_writer_episodes(writer), 3);
	close_writer(writer);

	esk_replay_reader *reader = open_reader(place, "run");
	assert_int_equal(esk_replay_reader_steps(reader), 25);
	assert_int_equal(esk_replay_reader_episodes(reader), 3);
	for (uint64_t id = 0; id < 3; id++) {
		esk_replay_episode episode = get_episode(reader, id);
		assert_int_equal(episode.start, 10 * id);
		assert_int_equal(episode.length, id < 2 ? 10 : 5);
		assert_true(episode.contiguous && episode.has_seed);
		assert_int_equal(episode.seed, 100 + 10 * id);
		assert_int_equal(episode.outcome, id < 2 ? ESK_REPLAY_TERMINATED : ESK_REPLAY_UNFINISHED);
		assert_true(episode.total_reward == expected_reward(10 * id, episode.length));
		assert_true(episode.ended_ns > 0 && episode.final_row == -1);
	}
	check_cells(reader, 25);
	const char *attributes = esk_reader_attributes(esk_replay_reader_base(reader));
	static const char *const expected[] = {"\"run_id\": \"run\"", "\"env_id\": \"Bits-v0\"",
		"\"agent\": \"random\"", "\"level\": 3", "\"total_steps\": 25", "\"total_episodes\": 3",
		"\"created_at\": \"2"};
	for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
		if (strstr(attributes, expected[i]) == NULL)
			fail_msg("%s lacks %s", attributes, expected[i]);
	assert_null(strstr(attributes, "nested"));
	assert_null(strstr(attributes, "esker_"));
	assert_non_null(strstr(esk_reader_metadata(esk_replay_reader_base(reader)), "nested"));
	esk_replay_reader_close(reader);
}

/* Spaces of several leaves, texts beside, and the observation behind the last action. */
static void leaves_texts_and_final_observations_have_datasets_of_their_own(void **state)
{
	replay_place *place = *state;
	esk_error err;
	esk_replay_options options = ESK_REPLAY_OPTIONS_INIT;
	options.observation = "position:f32[2] goal/camera:u8[3]@none";
	options.action = "steer:f64 gear:i8";
	options.extra = "value:f64 hidden:f32[4]?";
	options.infos = options.agents = options.final_observations = true;
	options.chunk_rows = 7;
	esk_replay_writer *writer = open_writer(place, "run", &options);
	for (int i = 0; i < 20; i++) {
		float position[2] = {(float)i, (float)-i};
		uint8_t camera[3] = {(uint8_t)i, 1, 2};
		double steer = i / 10.0, value = i * 0.5;
		int8_t gear = (int8_t)(i % 5);
		char info[32];
		snprintf(info, sizeof info, "{\"lives\": %d}", i);
		const void *observations[] = {position, i % 2 == 0 ? camera : NULL};
		const void *actions[] = {&steer, &gear}, *extras[] = {&value, NULL};
		esk_replay_step step = {.struct_size = sizeof step,
			.observation = observations,
			.action = actions,
			.extra = extras,
			.info = {info, i % 3 == 0 ? strlen(info) : 0},
			.worker = {"w1", 2},
			.agent = {"left", 4}};
		assert_ok(esk_replay_writer_step(writer, &step, NULL, &err), &err);
		if (i % 10 == 9)
			assert_ok(esk_replay_writer_end(writer, 0, ESK_REPLAY_TRUNCATED,
					  i == 19 ? observations : NULL, &err),
				&err);
	}
	close_writer(writer);
	esk_replay_reader *reader = open_reader(place, "run");
	assert_int_equal(esk_replay_reader_steps(reader), 20);
	assert_int_equal(get_episode(reader, 0).final_row, -1);
	assert_int_equal(get_episode(reader, 1).final_row, 1);
	uint64_t rows[] = {3, 12, 6};
	float positions[3][2];
	uint8_t cameras[3][3], gears[3], valid[3];
	assert_ok(esk_dataset_read_rows(get_dataset(reader, "observations/position"), rows, 3, positions,
			  sizeof positions, &err),
		&err);
	assert_ok(esk_dataset_read_rows(get_dataset(reader, "observations/goal/camera"), rows, 3, cameras,
			  sizeof cameras, &err),
		&err);
	assert_ok(
		esk_dataset_read_valid(get_dataset(reader, "observations/goal/camera"), rows, 3, valid, &err),
		&err);
	assert_ok(esk_dataset_read_rows(
			  get_dataset(reader, "actions/gear"), rows, 3, gears, sizeof gears, &err),
		&err);
	for (int i = 0; i < 3; i++) {
		assert_true(positions[i][0] == (float)rows[i] && positions[i][1] == -(float)rows[i]);
		assert_int_equal(valid[i], rows[i] % 2 == 0);
		assert_int_equal(cameras[i][0], rows[i] % 2 == 0 ? rows[i] : 0);
		assert_int_equal(gears[i], rows[i] % 5);
	}
	esk_string *infos, *agents;
	assert_ok(esk_dataset_read_strings(get_dataset(reader, "infos"), rows, 3, &infos, &err), &err);
	assert_ok(esk_dataset_read_strings(get_dataset(reader, "agent_ids"), rows, 3, &agents, &err), &err);
	assert_int_equal(infos[0].size, strlen("{\"lives\": 3}"));
	assert_memory_equal(infos[0].data, "{\"lives\": 3}", infos[0].size);
	assert_memory_equal(agents[0].data, "left", 4);
	esk_strings_free(infos);
	esk_strings_free(agents);
	float final[2];
	uint64_t row = 1;
	assert_ok(esk_dataset_read_rows(get_dataset(reader, "episodes/final_observations/position"), &row, 1,
			  final, sizeof final, &err),
		&err);
	assert_true(final[0] == 19);
	esk_replay_reader_close(reader);
}

static void outcomes_are_what_end_says_or_else_the_flags(void **state)
{
	replay_place *place = *state;
	esk_replay_options options = small_options();
	esk_replay_writer *writer = open_writer(place, "run", &options);
	static const struct {
		bool terminated, truncated, says;
		int end, outcome;
	} cases[] = {
		{true, false, true, -1, ESK_REPLAY_TERMINATED}, {false, true, true, -1, ESK_REPLAY_TRUNCATED},
		{true, true, true, -1, ESK_REPLAY_TERMINATED},
		{false, false, true, -1, ESK_REPLAY_TERMINATED}, /* mark_episode_end, with no flag */
		{false, false, true, ESK_REPLAY_TRUNCATED, ESK_REPLAY_TRUNCATED},
		{true, false, true, ESK_REPLAY_UNFINISHED, ESK_REPLAY_UNFINISHED},
		{false, true, false, 0, ESK_REPLAY_TRUNCATED}, /* ended by the next step */
		{true, false, false, 0, ESK_REPLAY_TERMINATED},
		{false, false, false, 0, ESK_REPLAY_UNFINISHED}, /* open when the writer is closed */
	};
	size_t count = sizeof cases / sizeof *cases;
	esk_replay_writer_seed(writer, 0, -5); /* of the first episode alone */
	for (size_t i = 0; i < count; i++) {
		put_step(writer, 0, (int64_t)(2 * i), false);
		put_flagged(writer, 0, (int64_t)(2 * i + 1), cases[i].terminated, cases[i].truncated);
		if (cases[i].says)
			end_episode(writer, 0, cases[i].end);
		if (cases[i].says)
			end_episode(writer, 0, ESK_REPLAY_TRUNCATED); /* none is under way: nothing */
	}
	close_writer(writer);
	esk_replay_reader *reader = open_reader(place, "run");
	assert_int_equal(esk_replay_reader_episodes(reader), count);
	for (size_t i = 0; i < count; i++) {
		esk_replay_episode episode = get_episode(reader, i);
		assert_int_equal(episode.outcome, cases[i].outcome);
		assert_int_equal(episode.length, 2);
		assert_int_equal(episode.has_seed, i == 0);
		assert_int_equal(episode.seed, i == 0 ? -5 : 0);
	}
	esk_replay_reader_close(reader);
}

static void interleaved_episodes_are_told_apart(void **state)
{
	replay_place *place = *state;
	for (uint64_t round = 0; round < 6; round++) {
		char run[16];
		snprintf(run, sizeof run, "run%llu", (unsigned long long)round);
		esk_replay_options options = small_options();
		options.slots = 1 + (uint32_t)round;
		esk_replay_writer *writer = open_writer(place, run, &options);
		model m = model_make(test_seed() + round);
		uint64_t steps = test_scale(2000);
		for (uint64_t i = 0; i < steps; i++)
			model_step(&m, writer, (uint32_t)model_draw(&m, options.slots), 10 + 20 * round);
		assert_int_equal(esk_replay_writer_steps(writer), m.steps);
		assert_int_equal(esk_replay_writer_episodes(writer), m.count);
		close_writer(writer);
		esk_replay_reader *reader = open_reader(place, run);
		model_compare(&m, reader);
		esk_replay_reader_close(reader);
		model_clear(&m);
	}
}

static void a_reader_follows_a_writer(void **state)
{
	replay_place *place = *state;
	for (uint32_t slots = 1; slots <= 3; slots++) {
		char run[16];
		snprintf(run, sizeof run, "run%u", slots);
		esk_replay_options options = small_options();
		options.slots = slots;
		options.run.commit_interval_ns = UINT64_MAX;
		esk_replay_writer *writer = open_writer(place, run, &options);
		esk_replay_reader *reader = open_reader(place, run);
		model m = model_make(test_seed() * 7 + slots);
		model_compare(&m, reader);
		for (int turn = 0; turn < 40; turn++) {
			uint64_t steps = model_draw(&m, turn % 5 == 4 ? 1500 : 40);
			/* Now and then one slot alone goes on, so that episodes are skipped behind open ones.
			 */
			uint32_t used = turn % 3 == 0 ? 1 : slots;
			for (uint64_t i = 0; i < steps; i++)
				model_step(&m, writer, (uint32_t)model_draw(&m, used), 12);
			flush_writer(writer);
			refresh_reader(reader);
			model_compare(&m, reader);
		}
		esk_replay_reader *late = open_reader(place, run);
		model_compare(&m, late);
		esk_replay_reader_close(late);
		esk_replay_reader_close(reader);
		close_writer(writer);
		model_clear(&m);
	}
}

/* ---- threads ---- */

#define THREADS 4

typedef struct worker {
	esk_replay_writer *writer;
	uint32_t slot;
	uint64_t steps;
} worker;

static void *work(void *arg)
{
	const worker *w = arg;
	for (uint64_t i = 0; i < w->steps; i++)
		put_step(w->writer, w->slot, (int64_t)(w->slot + THREADS * i), i % 20 == 19);
	return NULL;
}

static void slots_are_written_from_several_threads(void **state)
{
	replay_place *place = *state;
	esk_error err;
	esk_replay_options options = small_options();
	options.slots = THREADS;
	esk_replay_writer *writer = open_writer(place, "run", &options);
	pthread_t threads[THREADS];
	worker workers[THREADS];
	uint64_t each = 20 * (test_scale(2000) / 20);
	for (uint32_t t = 0; t < THREADS; t++) {
		workers[t] = (worker){.writer = writer, .slot = t, .steps = each};
		assert_int_equal(pthread_create(&threads[t], NULL, work, &workers[t]), 0);
	}
	while (esk_replay_writer_steps(writer) < THREADS * each / 2) /* counts may be looked at meanwhile */
		assert_true(esk_replay_writer_episodes(writer) <= THREADS * each);
	for (uint32_t t = 0; t < THREADS; t++)
		pthread_join(threads[t], NULL);
	close_writer(writer);
	esk_replay_reader *reader = open_reader(place, "run");
	assert_int_equal(esk_replay_reader_steps(reader), THREADS * each);
	assert_int_equal(esk_replay_reader_episodes(reader), THREADS * each / 20);
	uint64_t start = 0;
	for (uint64_t id = 0; id < esk_replay_reader_episodes(reader); id++) {
		uint64_t rows[20];
		int64_t actions[20];
		esk_replay_episode episode = get_episode(reader, id);
		assert_int_equal(episode.length, 20);
		assert_true(id == 0 || episode.start > start);
		start = episode.start;
		assert_ok(esk_replay_reader_episode_rows(reader, id, rows, &err), &err);
		assert_ok(esk_dataset_read_rows(
				  get_dataset(reader, "actions"), rows, 20, actions, sizeof actions, &err),
			&err);
		assert_int_equal(actions[0] / THREADS % 20, 0);
		for (int i = 1; i < 20; i++)
			assert_int_equal(actions[i], actions[i - 1] + THREADS);
	}
	esk_replay_reader_close(reader);
}

/* ---- processes ---- */

/* A process that writes steps, one byte to `told` after each, until it is killed. */
static pid_t start_writer(replay_place *place, const char *run, uint32_t slots, int *ret_told)
{
	int ends[2];
	assert_int_equal(pipe(ends), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child > 0) {
		close(ends[1]);
		*ret_told = ends[0];
		return child;
	}
	close(ends[0]); /* so that it ends when nobody listens any more */
	if (replay_store_open(place) != ESK_OK)
		_exit(1);
	esk_replay_options options = small_options();
	options.slots = slots;
	options.run.commit_interval_ns = 2000000;
	esk_replay_writer *writer = open_writer(place, run, &options);
	for (int64_t i = 0;; i++) {
		put_step(writer, (uint32_t)(i % slots), i, i / slots % 50 == 49);
		if (write(ends[1], "", 1) != 1)
			_exit(1);
	}
}

static uint64_t take_bytes(int told, uint64_t count)
{
	char buf[256];
	uint64_t taken = 0;
	while (taken < count) {
		ssize_t got = read(told, buf, count - taken < sizeof buf ? count - taken : sizeof buf);
		if (got <= 0)
			break;
		taken += (uint64_t)got;
	}
	return taken;
}

static void acknowledged_steps_survive_kill(void **state)
{
	replay_place *place = *state;
	for (uint32_t slots = 1; slots <= 3; slots += 2) {
		int told;
		const char *run = slots == 1 ? "one" : "three";
		replay_store_close(place);
		pid_t child = start_writer(place, run, slots, &told);
		uint64_t acknowledged = take_bytes(told, 317);
		assert_int_equal(acknowledged, 317);
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, NULL, 0), child);
		acknowledged += take_bytes(told, UINT64_MAX);
		close(told);
		assert_int_equal(replay_store_open(place), ESK_OK);
		esk_replay_reader *reader = open_reader(place, run);
		uint64_t steps = esk_replay_reader_steps(reader);
		assert_true(steps >= acknowledged && steps <= acknowledged + 1);
		check_cells(reader, steps);
		uint64_t in_episodes = 0, unfinished = 0;
		for (uint64_t id = 0; id < esk_replay_reader_episodes(reader); id++) {
			esk_replay_episode episode = get_episode(reader, id);
			in_episodes += episode.length;
			unfinished += episode.outcome == ESK_REPLAY_UNFINISHED;
			assert_int_equal(episode.outcome,
				episode.length == 50 ? ESK_REPLAY_TERMINATED : ESK_REPLAY_UNFINISHED);
		}
		assert_int_equal(in_episodes, steps);
		assert_true(unfinished <= slots);
		assert_true(unfinished > 0 || steps % (50 * slots) == 0);
		esk_replay_reader_close(reader);

		/* Appending goes on behind: what was unfinished stays so. */
		esk_replay_options options = small_options();
		options.run.append = true;
		esk_replay_writer *writer = open_writer(place, run, &options);
		assert_int_equal(esk_replay_writer_steps(writer), steps);
		uint64_t episodes = esk_replay_writer_episodes(writer);
		for (uint64_t i = 0; i < 30; i++)
			assert_int_equal(put_step(writer, 0, (int64_t)(steps + i), i == 29), steps + i);
		close_writer(writer);
		reader = open_reader(place, run);
		check_cells(reader, steps + 30);
		assert_int_equal(esk_replay_reader_episodes(reader), episodes + 1);
		esk_replay_episode last = get_episode(reader, episodes);
		assert_true(last.start == steps && last.length == 30 && last.contiguous);
		assert_int_equal(last.outcome, ESK_REPLAY_TERMINATED);
		uint64_t still = 0;
		for (uint64_t id = 0; id < episodes; id++)
			still += get_episode(reader, id).outcome == ESK_REPLAY_UNFINISHED;
		assert_int_equal(still, unfinished);
		esk_replay_reader_close(reader);
	}
}

static void a_reader_follows_another_process(void **state)
{
	replay_place *place = *state;
	int told;
	replay_store_close(place);
	pid_t child = start_writer(place, "run", 2, &told);
	assert_int_equal(take_bytes(told, 10), 10);
	assert_int_equal(replay_store_open(place), ESK_OK);
	esk_replay_reader *reader = open_reader(place, "run");
	uint64_t acknowledged = 10, seen = 0;
	/* At least 30 looks, and until commits were seen to come: their time is the machine's to say. */
	for (int turn = 0, grown = 0; turn < 30 || grown < 3; turn++) {
		acknowledged += take_bytes(told, 100);
		refresh_reader(reader);
		uint64_t steps = esk_replay_reader_steps(reader), in_episodes = 0;
		assert_true(steps >= seen);
		grown += steps > seen;
		seen = steps;
		for (uint64_t id = 0; id < esk_replay_reader_episodes(reader); id++) {
			esk_replay_episode episode = get_episode(reader, id);
			assert_int_equal(episode.start % 2, id % 2);
			assert_int_equal(episode.contiguous, episode.length == 1);
			in_episodes += episode.length;
		}
		assert_int_equal(in_episodes, steps);
	}
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	assert_true(seen <= acknowledged + take_bytes(told, UINT64_MAX) + 1);
	close(told);
	esk_replay_reader_close(reader);
}

/* ---- sessions ---- */

static void sessions_follow_one_another(void **state)
{
	replay_place *place = *state;
	model m = model_make(test_seed() + 99);
	for (int session = 0; session < 4; session++) {
		esk_replay_options options = small_options();
		options.slots = session == 2 ? 3 : 1;
		options.run.append = true;
		esk_replay_writer *writer = open_writer(place, "run", &options);
		assert_int_equal(esk_replay_writer_steps(writer), m.steps);
		assert_int_equal(esk_replay_writer_episodes(writer), m.count);
		for (int i = 0; i < 200; i++)
			model_step(&m, writer, (uint32_t)model_draw(&m, options.slots), 30);
		close_writer(writer);
		memset(m.open, 0xFF, sizeof m.open); /* what was open stays unfinished */
		esk_replay_reader *reader = open_reader(place, "run");
		model_compare(&m, reader);
		esk_replay_reader_close(reader);
	}
	model_clear(&m);
}

static void an_episode_that_was_left_goes_on_in_a_later_session(void **state)
{
	replay_place *place = *state;
	esk_replay_options options = small_options();
	esk_error err;
	esk_replay_writer *writer = open_writer(place, "run", &options);
	for (int64_t i = 0; i < 6; i++) /* an episode of 4 steps, and the beginning of another */
		put_step(writer, 0, i, i == 3);
	esk_replay_writer_leave(writer, 0);
	close_writer(writer);
	esk_replay_reader *reader = open_reader(place, "run");
	esk_replay_episode ended = get_episode(reader, 0), left = get_episode(reader, 1), none = left;
	assert_true(left.length == 2 && left.ended_ns == 0 && left.outcome == ESK_REPLAY_UNFINISHED);
	assert_int_equal(esk_dataset_rows(get_dataset(reader, "episodes/ids")), 1);
	esk_replay_reader_close(reader);

	options.run.append = true;
	none.id = 2;
	writer = open_writer(place, "run", &options);
	assert_int_equal(esk_replay_writer_resume(writer, 0, &ended, &err), ESK_EINVAL);
	assert_non_null(strstr(err.message, "has ended"));
	assert_int_equal(esk_replay_writer_resume(writer, 0, &none, &err), ESK_ERANGE);
	assert_int_equal(esk_replay_writer_resume(writer, 99, &left, &err), ESK_ERANGE);
	esk_replay_writer_seed(writer, 0, 77);
	assert_ok(esk_replay_writer_resume(writer, 0, &left, &err), &err);
	put_step(writer, 0, 6, true);
	put_step(writer, 0, 7, true);
	close_writer(writer);
	reader = open_reader(place, "run");
	esk_replay_episode whole = get_episode(reader, 1), next = get_episode(reader, 2);
	assert_true(whole.start == 4 && whole.length == 3 && whole.contiguous);
	assert_true(whole.has_seed && whole.seed == 77 && whole.outcome == ESK_REPLAY_TERMINATED);
	assert_true(whole.total_reward == expected_reward(4, 3));
	assert_true(next.start == 7 && next.length == 1 && !next.has_seed);
	assert_int_equal(esk_replay_reader_episodes(reader), 3);
	esk_replay_reader_close(reader);
}

static void a_million_small_steps(void **state)
{
	replay_place *place = *state;
	esk_error err;
	esk_replay_options options = ESK_REPLAY_OPTIONS_INIT;
	options.observation = "f32[4]";
	esk_replay_writer *writer = open_writer(place, "run", &options);
	uint64_t count = test_scale(1000000), length = 200;
	float observation[4] = {0};
	int64_t action = 0;
	const void *observations[] = {observation};
	const void *actions[] = {&action};
	for (uint64_t i = 0; i < count; i++) {
		observation[i % 4] = (float)i;
		action = (int64_t)(i % 3);
		esk_replay_step step = {.struct_size = sizeof step,
			.observation = observations,
			.action = actions,
			.reward = 1,
			.truncated = i % length == length - 1};
		assert_ok(esk_replay_writer_step(writer, &step, NULL, &err), &err);
	}
	close_writer(writer);
	esk_replay_reader *reader = open_reader(place, "run");
	assert_int_equal(esk_replay_reader_steps(reader), count);
	uint64_t episodes = esk_replay_reader_episodes(reader);
	assert_int_equal(episodes, (count + length - 1) / length);
	for (uint64_t id = 0; id < episodes; id += 97) {
		esk_replay_episode episode = get_episode(reader, id);
		uint64_t expected = id + 1 < episodes ? length : count - id * length;
		assert_int_equal(episode.start, id * length);
		assert_int_equal(episode.length, expected);
		assert_true(episode.total_reward == (double)expected);
	}
	float read[4];
	uint64_t row = count - 1;
	assert_ok(
		esk_dataset_read_rows(get_dataset(reader, "observations"), &row, 1, read, sizeof read, &err),
		&err);
	assert_memory_equal(read, observation, sizeof read);
	esk_replay_reader_close(reader);
}

/* What a lossy ring dropped is not in the file: the table says what is. */
static void steps_lost_by_a_lossy_ring_are_not_counted(void **state)
{
	replay_place *place = *state;
	esk_error err;
	esk_replay_options options = small_options();
	options.run.policy = ESK_OVERWRITE;
	options.run.ring_bytes = 65536;
	options.run.commit_interval_ns = UINT64_MAX;
	esk_replay_writer *writer = open_writer(place, "run", &options);
	int64_t number = 0;
	for (int64_t episode = 0; episode < 400; episode++)
		for (int64_t i = 0; i < 50; i++)
			put_step(writer, 0, number++, i == 49);
	close_writer(writer);
	esk_replay_reader *reader = open_reader(place, "run");
	uint64_t steps = esk_replay_reader_steps(reader), in_episodes = 0;
	print_message("%llu of %lld steps were kept\n", (unsigned long long)steps, (long long)number);
	assert_true(steps > 0);
	for (uint64_t id = 0; id < esk_replay_reader_episodes(reader); id++) {
		uint64_t rows[50];
		int64_t actions[50];
		esk_replay_episode episode = get_episode(reader, id);
		assert_true(episode.length <= 50);
		in_episodes += episode.length;
		if (episode.length == 0)
			continue;
		assert_ok(esk_replay_reader_episode_rows(reader, id, rows, &err), &err);
		assert_ok(esk_dataset_read_rows(get_dataset(reader, "actions"), rows, episode.length, actions,
				  episode.length * sizeof *actions, &err),
			&err);
		for (uint64_t i = 0; i < episode.length; i++)
			assert_int_equal(actions[i] / 50, id);
	}
	assert_int_equal(in_episodes, steps);
	esk_replay_reader_close(reader);
}

/* ---- bad input ---- */

static void refuse_options(
	replay_place *place, const esk_replay_options *options, esk_status status, const char *text)
{
	esk_error err = {0};
	esk_replay_writer *writer = NULL;
	assert_int_equal(esk_replay_writer_open(place->store, "bad", options, &writer, &err), status);
	assert_null(writer);
	if (strstr(err.message, text) == NULL)
		fail_msg("\"%s\" lacks \"%s\"", err.message, text);
	assert_int_equal(access(test_path(place->dir, "store/bad.h5"), F_OK), -1);
}

static void bad_options_are_refused_and_make_nothing(void **state)
{
	replay_place *place = *state;
	esk_replay_options options = small_options();
	options.frame = "u8[2,";
	refuse_options(place, &options, ESK_EINVAL, "frames");
	options.frame = "name:u8[2]";
	refuse_options(place, &options, ESK_EINVAL, "expected one cell");
	options.frame = "u8[2] other:u8";
	refuse_options(place, &options, ESK_EINVAL, "expected one cell");
	options = small_options();
	options.observation = "f31";
	refuse_options(place, &options, ESK_EINVAL, "observations");
	options = small_options();
	options.action = "";
	refuse_options(place, &options, ESK_EINVAL, "actions");
	options = small_options();
	options.extra = "rewards:f64";
	refuse_options(place, &options, ESK_EINVAL, "take another");
	options.extra = "value f64";
	refuse_options(place, &options, ESK_EINVAL, "extra columns");
	options = small_options();
	options.metadata_json = "[1]";
	refuse_options(place, &options, ESK_EINVAL, "JSON object");
	options.metadata_json = "{\"a\":";
	refuse_options(place, &options, ESK_EINVAL, "no JSON");
	options = small_options();
	options.env_id = "\xff";
	refuse_options(place, &options, ESK_EINVAL, "UTF-8");
	esk_error err = {0};
	esk_replay_writer *writer;
	assert_int_equal(esk_replay_writer_open(place->store, NULL, NULL, &writer, &err), ESK_EINVAL);
	assert_int_equal(esk_replay_writer_open(place->store, "a/b", NULL, &writer, &err), ESK_EINVAL);
}

static void bad_steps_are_refused_and_change_nothing(void **state)
{
	replay_place *place = *state;
	esk_error err = {0};
	esk_replay_options options = ESK_REPLAY_OPTIONS_INIT;
	options.extra = "value:f64";
	esk_replay_writer *writer = open_writer(place, "run", &options);
	int64_t action = 3;
	double value = 0.5;
	const void *actions[] = {&action}, *extras[] = {&value};
	const esk_replay_step good = {.struct_size = sizeof good, .action = actions, .extra = extras};
	esk_replay_step step = good;
	uint64_t row = 77;
	step.slot = 1;
	assert_int_equal(esk_replay_writer_step(writer, &step, &row, &err), ESK_ERANGE);
	assert_non_null(strstr(err.message, "slot 1"));
	step = good;
	step.action = NULL;
	assert_int_equal(esk_replay_writer_step(writer, &step, &row, &err), ESK_EINVAL);
	assert_non_null(strstr(err.message, "no action"));
	step = good;
	step.extra = NULL;
	assert_int_equal(esk_replay_writer_step(writer, &step, &row, &err), ESK_EINVAL);
	assert_non_null(strstr(err.message, "extra"));
	step = good;
	step.frame = &value;
	assert_int_equal(esk_replay_writer_step(writer, &step, &row, &err), ESK_EINVAL);
	assert_non_null(strstr(err.message, "options.frame"));
	step = good;
	step.observation = extras;
	assert_int_equal(esk_replay_writer_step(writer, &step, &row, &err), ESK_EINVAL);
	assert_non_null(strstr(err.message, "options.observation"));
	step = good;
	step.struct_size = 8;
	assert_int_equal(esk_replay_writer_step(writer, &step, &row, &err), ESK_EINVAL);
	const void *nothing[] = {NULL};
	step = good;
	step.action = nothing;
	assert_int_equal(esk_replay_writer_step(writer, &step, &row, &err), ESK_EINVAL);
	assert_int_equal(esk_replay_writer_end(writer, 1, -1, NULL, &err), ESK_ERANGE);
	assert_int_equal(esk_replay_writer_end(writer, 0, 3, NULL, &err), ESK_EINVAL);
	assert_int_equal(row, 77);
	assert_int_equal(esk_replay_writer_steps(writer), 0);
	assert_int_equal(esk_replay_writer_episodes(writer), 0);
	assert_ok(esk_replay_writer_step(writer, &good, &row, &err), &err);
	assert_int_equal(row, 0);
	close_writer(writer);
	esk_replay_reader *reader = open_reader(place, "run");
	esk_replay_episode episode = {.struct_size = sizeof episode};
	assert_int_equal(esk_replay_reader_episode(reader, 1, &episode, &err), ESK_ERANGE);
	assert_non_null(strstr(err.message, "there are 1"));
	esk_replay_reader_close(reader);
	assert_ok(esk_replay_writer_close(NULL, &err), &err);
	esk_replay_reader_close(NULL);
	assert_int_equal(esk_replay_reader_open(place->store, "none", &reader, &err), ESK_ENOTFOUND);
	assert_int_equal(esk_replay_writer_open(place->store, "run", &options, &writer, &err), ESK_EEXIST);
}

static void what_is_no_replay_is_refused(void **state)
{
	replay_place *place = *state;
	esk_error err = {0};
	esk_run *run;
	esk_stream *stream;
	esk_column *columns;
	size_t count;
	double volt = 1;
	const void *cells[] = {&volt};
	assert_ok(esk_run_open(place->store, "sensor", NULL, &run, &err), &err);
	assert_ok(esk_columns_parse("volt:f64", &columns, &count, &err), &err);
	assert_ok(esk_run_stream(run, "/", columns, count, &stream, &err), &err);
	assert_ok(esk_stream_append(stream, cells, NULL, &err), &err);
	assert_ok(esk_run_close(run, &err), &err);
	esk_columns_free(columns);
	esk_replay_reader *reader;
	assert_int_equal(esk_replay_reader_open(place->store, "sensor", &reader, &err), ESK_EUNSUPPORTED);
	assert_non_null(strstr(err.message, "no replay"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, replay_place_make, replay_place_remove)

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		TEST(what_is_written_is_read_back),
		TEST(leaves_texts_and_final_observations_have_datasets_of_their_own),
		TEST(outcomes_are_what_end_says_or_else_the_flags),
		TEST(interleaved_episodes_are_told_apart),
		TEST(a_reader_follows_a_writer),
		TEST(slots_are_written_from_several_threads),
		TEST(acknowledged_steps_survive_kill),
		TEST(a_reader_follows_another_process),
		TEST(sessions_follow_one_another),
		TEST(an_episode_that_was_left_goes_on_in_a_later_session),
		TEST(a_million_small_steps),
		TEST(steps_lost_by_a_lossy_ring_are_not_counted),
		TEST(bad_options_are_refused_and_make_nothing),
		TEST(bad_steps_are_refused_and_change_nothing),
		TEST(what_is_no_replay_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
