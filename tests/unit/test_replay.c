/* replay: what include/esker/replay.h says, line by line. */
#include "replay_support.h"

static void what_is_written_is_read_back(void **state)
{
	replay_place *place = *state;
	esk_replay_options options = small_options();
	options.env_id = "Bits-v0";
	options.metadata_json = "{\"agent\": \"random\", \"nested\": {\"a\": 1}}";
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
	esk_replay_reader_close(reader);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			what_is_written_is_read_back, replay_place_make, replay_place_remove),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
