/* What the files of the replay profile share: columns of a run, numbers of any dtype, the table of episodes.
 *
 * The profile is written on the public API alone, so that whoever wants a layout of their own finds here how
 * one is made. */
#ifndef ESK_REPLAY_INTERNAL_H
#define ESK_REPLAY_INTERNAL_H

#include <esker/profile.h>
#include <esker/replay.h>

/* ---- numbers.c ---- */

/* Whether the column is one number or truth value that the two calls below read. */
bool esk_replay_is_number(const esk_column *column);

/* Rows [start, start + count) of a dataset of single numbers, whatever their dtype. Reals are cut towards
 * zero. Errors: ESK_ETYPE (no number), ESK_ERANGE (no 64-bit integer), as esk_dataset_read. */
esk_status esk_replay_read_integers(
	esk_dataset *dataset, uint64_t start, uint64_t count, int64_t *ret_values, esk_error *err);
esk_status esk_replay_read_reals(
	esk_dataset *dataset, uint64_t start, uint64_t count, double *ret_values, esk_error *err);

/* The same of the rows given, in their order; as truth values: 1 where not 0. */
esk_status esk_replay_read_reals_at(
	esk_dataset *dataset, const uint64_t *rows, size_t count, double *ret_values, esk_error *err);
esk_status esk_replay_read_flags_at(
	esk_dataset *dataset, const uint64_t *rows, size_t count, uint8_t *ret_flags, esk_error *err);

/* ---- columns.c: what the streams of a run hold ---- */

/* A run of leaves in the columns of a stream: one where the space is no group. */
typedef struct esk_replay_leaves {
	size_t first;
	size_t count; /* 0: the run has none */
} esk_replay_leaves;

typedef struct esk_replay_columns {
	esk_column *steps; /* of the stream "/" */
	size_t step_count;
	size_t capacity;
	esk_replay_leaves frame, observation, action, extra;
	size_t reward, done, terminated, truncated, timestamp, episode, step; /* places in `steps` */
	size_t info, worker, agent; /* SIZE_MAX where the run has none */

	esk_column
		*episodes; /* of the stream "episodes": seven of them, then the final observation's leaves */
	size_t episode_count;
} esk_replay_columns;

#define ESK_REPLAY_EPISODE_COLUMNS 7

/* Makes the columns that `options` ask for; to free with esk_replay_columns_clear, after failure as well. */
esk_status esk_replay_columns_make(
	esk_replay_columns *columns, const esk_replay_options *options, esk_error *err);
void esk_replay_columns_clear(esk_replay_columns *columns);

/* The index of the steps (esk_stream_options): what the view `steps` shows. Extra columns of the names
 * time_steps, payload_versions, space_signatures and render_hints are in it. */
#define ESK_REPLAY_INDEX_BYTES 2048
void esk_replay_columns_index(const esk_replay_columns *columns, char *index, size_t index_bytes);

/* ---- outcomes ---- */

#define ESK_REPLAY_OUTCOME_BYTES 16
extern const char esk_replay_outcome_texts[3][ESK_REPLAY_OUTCOME_BYTES]; /* by esk_replay_outcome */

/* ---- reader.c, episodes.c ---- */

/* An episode, as far as its steps were looked at. */
typedef struct esk_replay_entry {
	uint64_t start;  /* row of its first step */
	uint64_t last;   /* row of its last one; without meaning where length is 0 */
	uint64_t length; /* steps seen */
	bool skipped;    /* they were not looked at: it was known where they are */

	bool has_row; /* in /episodes, which says what follows */
	bool has_total, has_outcome, has_seed;
	uint8_t outcome;
	uint64_t told_start, told_length;
	double total_reward;
	int64_t seed, ended_ns, final_row;
} esk_replay_entry;

/* The datasets that the profile knows; NULL where the file has none. */
typedef struct esk_replay_datasets {
	esk_dataset *rewards, *dones, *terminated, *truncated;
	esk_dataset *episode_ids, *step_ids;
	esk_dataset *ids, *starts, *lengths, *total_reward, *seed, *outcome, *ended, *final_observation;
	esk_dataset **steps; /* all that have a row per step */
	size_t step_count;
} esk_replay_datasets;

struct esk_replay_reader {
	esk_reader *base;
	esk_replay_datasets has;
	size_t dataset_count; /* that `has` was made from */
	bool with_ids;  /* steps say whose they are; else /episodes/starts and /lengths, or the flags, do */
	uint64_t steps; /* complete ones */

	/* The table (episodes.c). */
	esk_replay_entry *episodes;
	uint64_t count, capacity;
	uint64_t row_count; /* rows of /episodes that it has */
	uint64_t known;     /* steps of which it has whose they are */
	uint64_t next;      /* the first episode of which no step was seen */
	uint64_t pending;   /* episodes with a row of which some steps, but not all, were seen */
	bool scans_all;     /* skipping was found to be wrong */
};

/* What a refresh found in the file. */
typedef struct esk_replay_extent {
	uint64_t steps; /* complete ones */
	uint64_t reach; /* rows of the longest dataset */
	uint64_t rows;  /* of /episodes */
} esk_replay_extent;

/* Brings table and steps up to what `extent` says. */
esk_status esk_replay_episodes_update(
	esk_replay_reader *reader, const esk_replay_extent *extent, esk_error *err);

/* Empties the table. */
void esk_replay_episodes_forget(esk_replay_reader *reader);

/* Outcomes by the flags of last steps, at `rows`; where none is set: terminated if `ended`, else unfinished.
 */
esk_status esk_replay_outcomes(esk_replay_reader *reader, const uint64_t *rows, size_t count, bool ended,
	uint8_t *ret_outcomes, esk_error *err);

/* The rows of all episodes, one episode behind the other, into `ret_rows`: room for all their lengths. */
esk_status esk_replay_episodes_arrange(esk_replay_reader *reader, uint64_t *ret_rows, esk_error *err);

#endif
