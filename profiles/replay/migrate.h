/* Migration: what its files share.
 *
 *     plan      which steps there are, in the order in which they go       migrate_plan.c
 *     layout    what the columns of a run are: by a survey of some steps,  migrate_layout.c
 *               or as an earlier call left it in the run's metadata
 *     rows      steps read and parsed by threads, handed on in order       migrate_rows.c
 *     move      rows into the run                                          migrate_move.c
 *     verify    rows against what is read back from the run                migrate_verify.c
 *     settle    refs into the legacy database, arrays out of it            migrate_settle.c
 *
 * What keeps a second call from doing a step twice or not at all:
 *
 *  1. Every row of the run carries the rowid of its step, in the same record of the ring. So what the run
 *     holds, after whatever recovery, says which steps are done; no other notes are kept.
 *  2. A step whose replay_row is set was settled: then that counts, since VACUUM may number rows anew.
 *  3. Nothing is dropped but what this very call compared with the run, after the run was committed. */
#ifndef ESK_REPLAY_MIGRATE_H
#define ESK_REPLAY_MIGRATE_H

#include "migrate_legacy.h"
#include "migrate_payload.h"

#include <esker/ref.h>
#include <esker/replay.h>

/* ---- plan ---- */

#define ESK_MIGRATE_NO_ROW UINT64_MAX

typedef enum esk_migrate_ref {
	ESK_MIGRATE_REF_NONE,
	ESK_MIGRATE_REF_OWN,
	ESK_MIGRATE_REF_OTHER /* not ours: it stays, and so does the payload */
} __attribute__((packed)) esk_migrate_ref;

typedef struct esk_migrate_step {
	int64_t rowid;
	int64_t index;    /* step_index; its place in the order of rowids where there is none */
	uint64_t row;     /* in the run; ESK_MIGRATE_NO_ROW until it is there */
	uint64_t settled; /* its replay_row */
	uint32_t episode; /* among the plan's */
	bool has_frame;   /* the legacy database still holds the payload */
	bool has_observation;
	bool frame_verified; /* in this call */
	bool observation_verified;
	bool told; /* its faults */
	esk_migrate_ref frame_ref;
	esk_migrate_ref obs_ref;
	uint32_t bytes; /* of JSON */
} esk_migrate_step;

typedef struct esk_migrate_episode {
	const char *name; /* episode_id; "" where steps have none */
	uint32_t run;
	uint32_t lane;  /* of the plan's */
	uint64_t order; /* place of its first step in the order of rowids */
	uint64_t last;  /* and of its last one */
	bool in_table;  /* in `episodes`: it ended */
	bool truncated;
	bool has_seed;
	int64_t seed;
} esk_migrate_episode;

/* What one worker and agent recorded in a run: episode after episode. */
typedef struct esk_migrate_lane {
	uint64_t last_begun; /* place of the first step of its last episode */
} esk_migrate_lane;

typedef struct esk_migrate_run {
	const char *legacy_name; /* run_id */
	char name[ESK_MAX_NAME + 1];
	size_t first; /* of the plan's steps */
	size_t count;
} esk_migrate_run;

typedef struct esk_migrate_plan {
	esk_migrate_step *steps; /* run by run, episode by episode, step by step */
	size_t step_count, step_capacity;
	esk_migrate_episode *episodes;
	size_t episode_count, episode_capacity;
	esk_migrate_run *runs;
	size_t run_count, run_capacity;
	esk_migrate_lane *lanes;
	size_t lane_count, lane_capacity;
	struct esk_migrate_names *names;
	uint64_t bytes; /* of JSON */
} esk_migrate_plan;

/* Reads the order of all steps. `fallback` is the name of the run of steps that have none; `only` a run_id,
 * or NULL for all. Errors: ESK_ENOTFOUND (`only`, or no steps at all), ESK_EEXIST (two run_ids that become
 * one name). */
esk_status esk_migrate_plan_make(esk_legacy *legacy, const char *fallback, const char *only,
	esk_migrate_plan *ret_plan, esk_error *err);
/* Whether its worker went on to another episode behind its last step: then no more steps of it will come. */
bool esk_migrate_is_over(const esk_migrate_plan *plan, const esk_migrate_episode *episode);
void esk_migrate_plan_clear(esk_migrate_plan *plan);

/* ---- layout ---- */

enum { ESK_MIGRATE_FRAME, ESK_MIGRATE_OBSERVATION, ESK_MIGRATE_ACTION, ESK_MIGRATE_PAYLOADS };

/* Columns of a run beside those of the replay layout. */
enum {
	ESK_MIGRATE_ROWID, /* legacy_rowids: i64 */
	ESK_MIGRATE_INDEX, /* legacy_steps: i64? */
	ESK_MIGRATE_NAME,  /* legacy_episodes: str */
	ESK_MIGRATE_TIME_STEP,
	ESK_MIGRATE_VERSION,
	ESK_MIGRATE_SIGNATURE,
	ESK_MIGRATE_TEXT, /* and two more: the text of frames, observations, actions, where it is unusual */
	ESK_MIGRATE_EXTRAS = ESK_MIGRATE_TEXT + ESK_MIGRATE_PAYLOADS
};

typedef struct esk_migrate_layout {
	esk_payload_form payloads[ESK_MIGRATE_PAYLOADS];
	bool has_extra[ESK_MIGRATE_EXTRAS];
	bool infos;
	bool agents;
	size_t cells_bytes; /* of the leaves of one row, each on a multiple of 8 bytes */
} esk_migrate_layout;

/* By looking at some of the run's steps. */
esk_status esk_migrate_layout_survey(esk_legacy *legacy, const esk_migrate_plan *plan,
	const esk_migrate_run *run, esk_migrate_layout *ret_layout, esk_error *err);
/* As an earlier call kept it in the run's metadata. Errors: ESK_EEXIST (the run is no migration's). */
esk_status esk_migrate_layout_load(
	const char *metadata, const char *run, esk_migrate_layout *ret_layout, esk_error *err);
/* The run's metadata, to free. */
esk_status esk_migrate_layout_save(const esk_migrate_layout *layout, const char *legacy_path,
	const esk_migrate_run *run, char **ret_metadata, esk_error *err);
void esk_migrate_layout_clear(esk_migrate_layout *layout);

extern const char *const esk_migrate_extra_names[ESK_MIGRATE_EXTRAS];
extern const char *const esk_migrate_payload_names[ESK_MIGRATE_PAYLOADS]; /* "frames", … */

/* Specs for esk_replay_options, to free; NULL where there are no leaves. */
esk_status esk_migrate_layout_spec(
	const esk_migrate_layout *layout, size_t payload, char **ret_spec, esk_error *err);
esk_status esk_migrate_layout_extra(const esk_migrate_layout *layout, char **ret_spec, esk_error *err);

/* ---- rows ---- */

/* A text in the row's job: where it begins and how long it is; `has` false: NULL. */
typedef struct esk_migrate_text {
	bool has;
	size_t start;
	size_t size;
} esk_migrate_text;

#define ESK_MIGRATE_FAULTS 6

typedef struct esk_migrate_fault {
	esk_legacy_column column;
	char message[ESK_PAYLOAD_MESSAGE];
} esk_migrate_fault;

/* A step, parsed. What could not be parsed is missing, and among the faults. */
typedef struct esk_migrate_row {
	size_t step; /* of the plan */
	uint8_t *cells;
	uint8_t has[ESK_MIGRATE_PAYLOADS][ESK_PAYLOAD_MAX_LEAVES];
	bool present[ESK_MIGRATE_PAYLOADS]; /* the payload is not NULL and could be parsed */
	float reward;
	bool terminated, truncated;
	int64_t time_ns;
	esk_migrate_text texts[ESK_MIGRATE_PAYLOADS]; /* where unusual */
	esk_migrate_text info, worker, agent, episode, signature;
	bool has_index, has_time_step, has_version;
	int64_t index, time_step, version;
	esk_migrate_fault faults[ESK_MIGRATE_FAULTS];
	size_t fault_count;
} esk_migrate_row;

/* Some rows that follow each other, and the texts in them. */
typedef struct esk_migrate_rows {
	esk_migrate_row *rows;
	size_t count;
	esk_payload_text text;
} esk_migrate_rows;

#define ESK_MIGRATE_NUMBER 48

/* A number of the database as JSON text; returns its size. */
size_t esk_migrate_number_text(const esk_value *value, char text[ESK_MIGRATE_NUMBER]);

/* Parses the values of a step into `row` (whose `step` and `cells` are set); false where memory is out. */
bool esk_migrate_parse(const esk_migrate_layout *layout, const esk_value values[ESK_LEGACY_COLUMNS],
	esk_migrate_row *row, esk_payload_text *text);

typedef struct esk_migrate_reading {
	const char *path;
	const esk_migrate_layout *layout;
	const esk_migrate_plan *plan;
	const size_t *steps; /* of the plan, in the order wanted */
	size_t count;
	uint32_t threads;
	/* Called in that order, in the caller's thread. */
	esk_status (*take)(void *arg, const esk_migrate_rows *rows, esk_error *err);
	void *arg;
} esk_migrate_reading;

/* Reads and parses steps in `threads` threads. Ends with the first failure of reading or of `take`. */
esk_status esk_migrate_read(const esk_migrate_reading *reading, esk_error *err);

/* ---- the work ---- */

typedef struct esk_migrate_work {
	esk_store *store;
	const char *path;
	esk_legacy *legacy; /* the caller's own handle */
	esk_replay_migrate_options options;
	esk_replay_migrate_report report;
	esk_migrate_plan plan;
	esk_migrate_layout *layouts; /* one per run of the plan */
	const char *phase;
	uint64_t done_bytes; /* of the phase */
	uint64_t total_bytes;
	int64_t asked_ns;
	bool stopped;
} esk_migrate_work;

/* Says how far the work is, at most ten times a second. Errors: ESK_ECLOSED (the caller wants to stop). */
esk_status esk_migrate_tell(esk_migrate_work *work, uint64_t bytes, esk_error *err);
void esk_migrate_find(esk_migrate_work *work, const esk_migrate_run *run, int64_t rowid, const char *column,
	const char *message);
/* The faults of a row, once in a call. */
void esk_migrate_find_faults(esk_migrate_work *work, const esk_migrate_run *run, const esk_migrate_row *row);

/* Opens the run. *ret_reader is NULL where there is none yet, or one without steps. */
esk_status esk_migrate_open_run(
	esk_migrate_work *work, const esk_migrate_run *run, esk_replay_reader **ret_reader, esk_error *err);

/* Which of the run's steps its file holds: sets their `row`. Errors: ESK_ECORRUPT (it holds others). */
esk_status esk_migrate_match(
	esk_migrate_work *work, const esk_migrate_run *run, esk_replay_reader *reader, esk_error *err);

/* The three phases, each for one run. `reader` is NULL where the run has no steps yet. */
esk_status esk_migrate_move(
	esk_migrate_work *work, const esk_migrate_run *run, esk_replay_reader *reader, esk_error *err);
esk_status esk_migrate_verify(
	esk_migrate_work *work, const esk_migrate_run *run, esk_replay_reader *reader, esk_error *err);
esk_status esk_migrate_settle(esk_migrate_work *work, const esk_migrate_run *run, esk_error *err);

/* Whether the phase has something to do with the step. */
bool esk_migrate_needs_verify(const esk_migrate_work *work, const esk_migrate_step *step);
bool esk_migrate_needs_settle(const esk_migrate_work *work, const esk_migrate_step *step);

#endif
