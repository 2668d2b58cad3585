/* What a ref selects, opened for reading. */
#ifndef CLI_SELECT_H
#define CLI_SELECT_H

#include "place.h"
#include "value.h"

#include <esker/replay.h>

typedef struct cli_selection {
	const char *text; /* the ref as given */
	esk_ref ref;
	esk_reader *reader;        /* owned, may be NULL */
	esk_replay_reader *replay; /* the same */
	cli_rows rows;
	uint64_t first; /* rows first, first + step, …: `count` of them */
	uint64_t step;
	uint64_t count;
	uint64_t *numbers; /* or these, where they do not lie so; owned */
} cli_selection;

/* Takes every `every`-th row of what the ref names. */
int cli_select_open(cli_place *place, const char *text, uint64_t every, cli_selection *ret_selection);
/* Takes every `every`-th row of a dataset of a reader that stays open. `text` is borrowed: its name in
 * messages. */
int cli_select_dataset(esk_dataset *dataset, const char *text, uint64_t every, cli_selection *ret_selection);
void cli_select_close(cli_selection *selection);

/* Loads the piece that begins with the i-th row selected; its size is in selection->rows.count. */
int cli_select_load(cli_selection *selection, uint64_t i, uint64_t piece_rows);

/* The shape of what is selected: an index gives a cell, all else rows first. Returns the rank. */
uint32_t cli_select_shape(const cli_selection *selection, uint64_t ret_shape[ESK_MAX_RANK + 1]);

/* "START:STOP" as in Python (either may be missing or negative) within `rows` rows. */
bool cli_parse_rows(const char *text, uint64_t rows, uint64_t *ret_first, uint64_t *ret_stop);

#endif
