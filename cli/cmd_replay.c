/* esker replay: a run played in the terminal. */
#include "commands.h"
#include "player.h"
#include "screen.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS_MOST 1000

static int parse_options(const cli_args *args, cli_play *play, uint64_t *ret_columns)
{
	const char *fps = cli_value(args, "fps"), *start = cli_value(args, "start"),
		   *width = cli_value(args, "width");
	*play = (cli_play){.fps = 30, .shade = cli_shade_of(stdout)};
	*ret_columns = 80;
	if (fps != NULL) {
		char *end;
		play->fps = strtod(fps, &end);
		if (end == fps || *end != '\0' || !(play->fps >= 0.25 && play->fps <= 960))
			return cli_usage(
				args, "--fps: a number from 0.25 to 960 was expected, found \"%s\"", fps);
	}
	if (start != NULL && !cli_parse_u64(start, &play->step))
		return cli_usage(args, "--start: the number of a step was expected, found \"%s\"", start);
	if (width != NULL &&
		(!cli_parse_u64(width, ret_columns) || *ret_columns == 0 || *ret_columns > COLUMNS_MOST))
		return cli_usage(args, "--width: a number from 1 to %d was expected, found \"%s\"",
			COLUMNS_MOST, width);
	if (cli_value(args, "steps") == NULL && !cli_screen_possible())
		return cli_usage(args, "replay plays in a terminal, and standard input and output are none; "
				       "--steps A:B prints steps, 'esker export video' makes a film");
	return CLI_OK;
}

static int print_steps(const cli_args *args, cli_tape *tape, const cli_play *play, unsigned columns)
{
	const char *text = cli_value(args, "steps");
	uint64_t first, stop;
	cli_buf steps;
	int code = cli_tape_take(tape, play->episode);
	if (code != CLI_OK)
		return code;
	if (!cli_parse_rows(text, tape->episode.length, &first, &stop))
		return cli_usage(args, "--steps: START:STOP was expected, found \"%s\"", text);
	if (first >= stop)
		return cli_fail("--steps %s: episode %" PRIu64 " has %s, none of them there", text,
			tape->episode.id, cli_counted(tape->episode.length, "step", &steps));
	for (uint64_t step = first; step < stop && code == CLI_OK && !cli_output_broken(); step++)
		code = cli_player_print(stdout, tape, step, columns, play->shade);
	return code;
}

static int replay(const cli_args *args, cli_place *place, cli_play *play, unsigned columns)
{
	cli_tape tape;
	const char *episode = cli_value(args, "episode");
	int code = cli_tape_open(place, place->words[0], &tape);
	if (code == CLI_OK && tape.episodes == 0)
		code = cli_fail("%s: there are no episodes yet", place->words[0]);
	if (code == CLI_OK && episode != NULL)
		code = cli_parse_episode(args, episode, tape.episodes, &play->episode);
	if (code == CLI_OK)
		code = cli_value(args, "steps") != NULL ? print_steps(args, &tape, play, columns)
							: cli_player_run(&tape, play);
	cli_tape_close(&tape);
	return code;
}

static int run_replay(cli_args *args)
{
	cli_play play;
	cli_place place;
	uint64_t columns;
	int code = cli_place_find(args, &place);
	if (code == CLI_OK)
		code = parse_options(args, &play, &columns);
	if (code != CLI_OK)
		return code;
	return cli_place_close(&place, replay(args, &place, &play, (unsigned)columns));
}

const cli_command cli_replay = {
	.name = "replay",
	.summary = "play a run in the terminal",
	.usage = "[STORE] RUN|FILE [--episode N] [--start STEP] [--fps N]",
	.description = "Shows the frames of the run's episodes (or observations that are pictures), with "
		       "action and reward beside them, and goes on to the next episode. Keys: space pauses; "
		       "h, l and the arrows step; [, ] (or p, n) change the episode; 0 and $ go to its first "
		       "and last step, g to one by number; + and - change the speed; q quits. Half-block "
		       "characters in colour where the terminal has colour, characters from dark to light "
		       "where it has none. A run that is being recorded can be stepped into as it grows.",
	.options = (const cli_option[]){{"episode", 'e', "N", NULL, "begin with this episode (-1: the last)"},
		{"start", 0, "STEP", NULL, "begin with this step of it"},
		{"fps", 0, "N", NULL, "steps a second; default: 30"},
		{"steps", 0, "A:B", NULL, "print these steps of the episode instead (no terminal is needed)"},
		{"width", 0, "N", NULL, "with --steps: columns that a picture may take; default: 80"}, {0}},
	.examples = (const cli_example[]){{"esker replay data breakout", "play it from the beginning"},
		{"esker replay data breakout --episode -1 --fps 10", "the last episode, slowly"},
		{"esker replay data breakout -e 3 --steps 0:1 --width 60", "print one step"}, {0}},
	.needs = CLI_STORE,
	.words_least = 1,
	.words_most = 1,
	.complete = "run",
	.run = run_replay,
};
