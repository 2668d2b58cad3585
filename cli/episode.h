/* Episodes of a run (esker/replay.h), for the commands that show them. */
#ifndef CLI_EPISODE_H
#define CLI_EPISODE_H

#include "select.h"

/* Opens the run `name` of the store (which is opened if it is not yet), or the HDF5 file of that path. The
 * caller owns *ret_reader and closes it before the place. */
int cli_replay_open(cli_place *place, const char *name, esk_replay_reader **ret_reader);

/* "3", or "-1" for the last, among `count` episodes. */
int cli_parse_episode(const cli_args *args, const char *text, uint64_t count, uint64_t *ret_id);
int cli_episode_get(esk_replay_reader *reader, uint64_t id, esk_replay_episode *ret_episode);
/* "terminated", "truncated", "unfinished". */
const char *cli_outcome(esk_replay_outcome outcome);

/* The dataset that shows what the agent saw: frames, else observations that are images; NULL where there is
 * none. */
esk_dataset *cli_replay_pictures(esk_replay_reader *reader);

/* An episode's part of a dataset with a row for each step. `reader` is borrowed. */
int cli_select_episode(cli_selection *selection, esk_replay_reader *reader, const esk_replay_episode *episode,
	esk_dataset *dataset, const char *text, uint64_t every);

/* The value of --every; 0 where it is not given. */
int cli_parse_every(const cli_args *args, uint64_t *ret_every);

/* What `what` and the options --every and --episode select: rows of a REF, or with --episode the pictures of
 * a RUN (or rows of h5://RUN/DATASET). Opens the store. Without --every, at most `episode_most` rows of an
 * episode are taken, evenly (0: all). Close in any case. */
int cli_select_given(const cli_args *args, cli_place *place, const char *what, uint64_t episode_most,
	cli_selection *ret_selection);

#endif
