/* What a player shows of a run: episodes, and of each step the picture, the action and the reward. */
#ifndef CLI_TAPE_H
#define CLI_TAPE_H

#include "episode.h"
#include "image.h"

#define CLI_TAPE_ACTIONS 16 /* leaves of an action that are shown */

typedef struct cli_tape {
	const char *name; /* borrowed */
	esk_replay_reader *reader;
	uint64_t episodes;
	/* The episode that is in. */
	esk_replay_episode episode;
	uint64_t *numbers; /* rows of its steps, where they do not lie together */
	double *totals;    /* of the rewards up to and with each step; NULL: the run has none */
	bool has_pictures;
	cli_selection pictures;
	cli_image image;
	uint64_t loaded; /* first step of the piece that pictures has; UINT64_MAX: none */
	cli_rows actions[CLI_TAPE_ACTIONS];
	size_t action_count;
	char *action; /* of the step shown last */
} cli_tape;

typedef struct cli_step {
	uint64_t row;
	bool has_reward;
	double reward, total;
	const char *action;      /* as JSON, escaped; "" where there is none; borrowed until the next step */
	const cli_raster *frame; /* NULL: the run has no pictures; borrowed as well */
} cli_step;

/* Opens a run, or a file; no episode is in yet. Close in any case. */
int cli_tape_open(cli_place *place, const char *name, cli_tape *ret_tape);
void cli_tape_close(cli_tape *tape);
/* Puts an episode in. */
int cli_tape_take(cli_tape *tape, uint64_t id);
/* Sees what was recorded since; the episode has to be put in again. */
int cli_tape_refresh(cli_tape *tape);
/* Loads a step of the episode. */
int cli_tape_step(cli_tape *tape, uint64_t step, cli_step *ret_step);

#endif
