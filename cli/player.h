/* Plays a tape in the terminal. */
#ifndef CLI_PLAYER_H
#define CLI_PLAYER_H

#include "blocks.h"
#include "tape.h"

#define CLI_PLAYER_KEYS "space pause  h l step  [ ] episode  g go to  + - speed  q quit"

typedef struct cli_play {
	uint64_t episode;
	uint64_t step;
	double fps; /* steps a second */
	cli_shade shade;
} cli_play;

/* Until q is pressed. The terminal is as before afterwards, whatever ended it. */
int cli_player_run(cli_tape *tape, const cli_play *play);

/* Prints one step of the episode that is in: a line about it, and its picture, at most `columns` wide. */
int cli_player_print(FILE *out, cli_tape *tape, uint64_t step, unsigned columns, cli_shade shade);

#endif
