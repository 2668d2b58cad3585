/* esker episodes: the episodes of a run. */
#include "commands.h"
#include "episode.h"
#include "table.h"

static void put_episode(cli_table *table, const esk_replay_episode *episode)
{
	cli_table_integer(table, (int64_t)episode->id);
	cli_table_count(table, episode->start);
	cli_table_count(table, episode->length);
	cli_table_real(table, episode->total_reward);
	if (episode->has_seed)
		cli_table_integer(table, episode->seed);
	else
		cli_table_null(table);
	cli_table_text(table, cli_outcome(episode->outcome));
	if (episode->ended_ns != 0)
		cli_table_time(table, episode->ended_ns);
	else
		cli_table_null(table);
}

static int print_episodes(esk_replay_reader *reader, cli_format format)
{
	static const cli_head heads[] = {{"episode", "EPISODE", true}, {"start", "START", true},
		{"length", "LENGTH", true}, {"total_reward", "REWARD", true}, {"seed", "SEED", true},
		{"outcome", "OUTCOME", false}, {"ended_ns", "ENDED", false}};
	cli_table *table = cli_table_begin(stdout, format, heads, sizeof heads / sizeof *heads);
	uint64_t count = esk_replay_reader_episodes(reader);
	int code = CLI_OK;
	for (uint64_t id = 0; id < count && code == CLI_OK && !cli_output_broken(); id++) {
		esk_replay_episode episode;
		code = cli_episode_get(reader, id, &episode);
		if (code == CLI_OK)
			put_episode(table, &episode);
	}
	cli_table_end(table);
	return code;
}

static int run_episodes(cli_args *args)
{
	if (cli_flag(args, "json") && cli_flag(args, "csv"))
		return cli_usage(args, "episodes: --json or --csv, not both");
	cli_format format = cli_flag(args, "json") ? CLI_JSON : cli_flag(args, "csv") ? CLI_CSV : CLI_TEXT;
	cli_place place;
	esk_replay_reader *reader = NULL;
	int code = cli_place_find(args, &place);
	if (code != CLI_OK)
		return code;
	code = cli_replay_open(&place, place.words[0], &reader);
	if (code == CLI_OK)
		code = print_episodes(reader, format);
	esk_replay_reader_close(reader);
	return cli_place_close(&place, code);
}

const cli_command cli_episodes = {
	.name = "episodes",
	.summary = "list the episodes of a run",
	.usage = "[STORE] RUN|FILE [--json | --csv]",
	.description = "One line an episode, in the order of their beginning: row of its first step, steps, "
		       "the sum of its rewards, seed, how it ended, and when. An episode that was cut off "
		       "(the program was killed, or is still recording it) is unfinished. FILE is a run's "
		       "HDF5 file outside a store. In SQL, they are the view 'episodes' of 'esker query'.",
	.options = (const cli_option[]){{"json", 0, NULL, NULL, "print JSON, an array of objects"},
		{"csv", 0, NULL, NULL, "print CSV"}, {0}},
	.examples = (const cli_example[]){{"esker episodes data breakout", "every episode"},
		{"esker episodes data breakout --json | jq 'max_by(.total_reward).episode'", "the best one"},
		{0}},
	.needs = CLI_STORE,
	.words_least = 1,
	.words_most = 1,
	.complete = "run",
	.run = run_episodes,
};
