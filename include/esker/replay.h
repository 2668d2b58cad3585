/* RL replay storage: a profile on the public API. Steps and episodes of an agent in an environment, one run a
 * file.
 *
 * Layout of <run>.h5 (docs/FORMAT.md, "Replay"): a row per step in
 *
 *     /frames        cell of the frame, nullable
 *     /observations  cell, or a group with one dataset per leaf; nullable
 *     /actions       cell, or a group of leaves
 *     /rewards       f32
 *     /dones         bool: terminated or truncated
 *     /terminated    bool
 *     /truncated     bool
 *     /timestamps    i64 ns
 *     /infos         JSON text, nullable
 *     /episode_ids   i64
 *     /step_ids      i64, counted from 0 in the episode
 *     /worker_ids    text
 *     /agent_ids     text
 *
 * and a row per episode that ended in
 *
 *     /episodes/ids                 i64
 *     /episodes/starts              i64, row of its first step
 *     /episodes/lengths             i64, steps
 *     /episodes/total_reward        f64
 *     /episodes/seed                i64, nullable
 *     /episodes/outcome             str16
 *     /episodes/ended               i64 ns
 *     /episodes/final_observations  as /observations
 *
 * with the root attributes run_id, created_at, env_id, total_steps, total_episodes, and the free metadata's
 * scalars.
 *
 * A row holds the observation that the action was taken on, the action, and what came of it: o[t], a[t], r[t
 * + 1]. The observation behind the last action is the episode's final_observation, where the writer was told.
 *
 * Several episodes may be under way at once (a vector environment, several workers): each has a slot, and
 * their rows interleave. An episode without a row in /episodes (it is under way, or the process died) is
 * there all the same: readers find it by its steps.
 *
 * While recording and after, the catalogue has the views `steps` and `episodes` (esker/query.h). */
#ifndef ESKER_REPLAY_H
#define ESKER_REPLAY_H

#include <esker/query.h>
#include <esker/reader.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- writing ---- */

typedef struct esk_replay_writer esk_replay_writer;

typedef struct esk_replay_options {
	size_t struct_size;
	const char *env_id;        /* NULL for none */
	const char *metadata_json; /* an object; its scalars become root attributes as well; NULL for none */
	/* A cell, as "u8[210,160,3]" or "u8[210,160,3]@lzf". NULL: the run has no frames. */
	const char *frame;
	/* A cell, or leaves as "position:f32[3] goal/camera:u8[64,64,3]". NULL: none. */
	const char *observation;
	const char *action; /* the same; NULL for "i64" */
	const char *extra;  /* columns of the caller's own, as esk_columns_parse takes them; NULL: none */
	bool infos;         /* keep /infos */
	bool agents;        /* keep /worker_ids and /agent_ids, in the catalogue too */
	bool final_observations; /* keep /episodes/final_observations */
	uint64_t chunk_rows;     /* of frames and observations; 0: about 1 MiB */
	uint32_t slots;          /* episodes that may be under way at once; 0: 1 */
	/* Ring, policy, codec, commit interval, rotation, append. Its metadata and attributes are not looked
	 * at. */
	esk_run_options run;
} esk_replay_options;
#define ESK_REPLAY_OPTIONS_INIT                                                        \
	{                                                                              \
		.struct_size = sizeof(esk_replay_options), .run = ESK_RUN_OPTIONS_INIT \
	}

/* Starts (or with run.append goes on with) the run `run_id`. The caller owns *ret_writer and closes it before
 * the store. Errors: as esk_run_open and esk_columns_parse. */
ESK_API esk_status esk_replay_writer_open(esk_store *store, const char *run_id,
	const esk_replay_options *options, esk_replay_writer **ret_writer, esk_error *err);

/* One step. Cells are borrowed during the call. */
typedef struct esk_replay_step {
	size_t struct_size;
	uint32_t slot;     /* whose episode */
	const void *frame; /* a cell; NULL: this step has none */
	/* A pointer per leaf (one where it is no group), each may be NULL. NULL: none. */
	const void *const *observation;
	const void *const *action; /* a pointer per leaf; not NULL */
	float reward;
	bool terminated;
	bool truncated;
	int64_t time_ns;   /* 0: now */
	esk_string info;   /* JSON; size 0: none */
	esk_string worker; /* with options.agents */
	esk_string agent;
	const void *const *extra; /* a pointer per extra column, in their order; NULL where there are none */
} esk_replay_step;

/* Appends a step to the slot's episode, beginning one if none is under way; the step survives the death of
 * the process when this returns. A step that is terminated or truncated ends the episode only when
 * esk_replay_writer_end says so or the slot's next step comes. *ret_row (may be NULL) is the row, as in
 * h5://run/frames/<row>. Safe from several threads on different slots. Errors: as esk_stream_append;
 * ESK_ERANGE (slot). */
ESK_API esk_status esk_replay_writer_step(
	esk_replay_writer *writer, const esk_replay_step *step, uint64_t *ret_row, esk_error *err);

typedef enum esk_replay_outcome {
	ESK_REPLAY_UNFINISHED = 0, /* closed or killed before it ended */
	ESK_REPLAY_TERMINATED = 1,
	ESK_REPLAY_TRUNCATED = 2
} esk_replay_outcome;

/* The seed of the slot's next episode, kept with it. */
ESK_API void esk_replay_writer_seed(esk_replay_writer *writer, uint32_t slot, int64_t seed);

/* Ends the slot's episode; nothing where none is under way. `outcome` < 0: as the last step's flags say
 * (neither set: terminated). `final_observation`: a pointer per leaf, or NULL. Errors: as esk_stream_append;
 * ESK_ERANGE (slot), ESK_EINVAL (outcome). */
ESK_API esk_status esk_replay_writer_end(esk_replay_writer *writer, uint32_t slot, int outcome,
	const void *const *final_observation, esk_error *err);

/* Commits every step so far: file and catalogue have them, and they survive power loss. Safe from any thread.
 * Errors: as esk_run_commit. */
ESK_API esk_status esk_replay_writer_flush(esk_replay_writer *writer, esk_error *err);

/* Ends open episodes (those whose last step was done as such, the others unfinished), commits, closes. NULL
 * is allowed. The handle is freed on failure too. Errors: as esk_run_close. */
ESK_API esk_status esk_replay_writer_close(esk_replay_writer *writer, esk_error *err);

/* Steps appended and episodes begun, those of an earlier session of the run included. */
ESK_API uint64_t esk_replay_writer_steps(const esk_replay_writer *writer);
ESK_API uint64_t esk_replay_writer_episodes(const esk_replay_writer *writer);

/* The run below, borrowed until close. */
ESK_API esk_run *esk_replay_writer_run(esk_replay_writer *writer);

/* ---- reading ---- */

/* For one thread at a time; the datasets of its base are safe from several. */
typedef struct esk_replay_reader esk_replay_reader;

/* Opens a run of a store, or one file: Esker's, or one that the h5py-based system wrote (datasets and root
 * attributes as above, without those that it did not have). The caller owns *ret_reader and closes it before
 * the store. Errors: as esk_reader_open; ESK_EUNSUPPORTED where there is neither rewards nor actions nor
 * frames. */
ESK_API esk_status esk_replay_reader_open(
	esk_store *store, const char *run_id, esk_replay_reader **ret_reader, esk_error *err);
ESK_API esk_status esk_replay_reader_open_file(
	const char *path, esk_replay_reader **ret_reader, esk_error *err);
ESK_API void esk_replay_reader_close(esk_replay_reader *reader); /* NULL is allowed */

/* Sees what was committed since. Errors: as esk_reader_refresh. */
ESK_API esk_status esk_replay_reader_refresh(esk_replay_reader *reader, esk_error *err);

/* Complete steps, and episodes that have begun, as of opening or the last refresh. */
ESK_API uint64_t esk_replay_reader_steps(esk_replay_reader *reader);
ESK_API uint64_t esk_replay_reader_episodes(esk_replay_reader *reader);

/* The reader below, for its datasets; borrowed. A dataset may have a few rows more than steps() says. */
ESK_API esk_reader *esk_replay_reader_base(esk_replay_reader *reader);

typedef struct esk_replay_episode {
	size_t struct_size;
	uint64_t id;     /* in order of their beginning: 0, 1, … */
	uint64_t start;  /* row of its first step */
	uint64_t length; /* steps */
	bool contiguous; /* rows [start, start + length); else see esk_replay_reader_episode_rows */
	double total_reward;
	bool has_seed;
	int64_t seed;
	esk_replay_outcome outcome;
	int64_t ended_ns;  /* 0: not known */
	int64_t final_row; /* row in /episodes of its final observation; -1: there is none */
} esk_replay_episode;

/* The episode `id` (set ret_episode's struct_size first). Errors: ESK_ERANGE. */
ESK_API esk_status esk_replay_reader_episode(
	esk_replay_reader *reader, uint64_t id, esk_replay_episode *ret_episode, esk_error *err);

/* The rows of its steps, in order, into `ret_rows`, which has room for `length` of them. Errors: ESK_ERANGE,
 * as esk_dataset_read. */
ESK_API esk_status esk_replay_reader_episode_rows(
	esk_replay_reader *reader, uint64_t id, uint64_t *ret_rows, esk_error *err);

/* ---- episodes over several sessions ---- */

/* Forgets the slot's episode without ending it: it stays without a row in /episodes, as after a crash. */
ESK_API void esk_replay_writer_leave(esk_replay_writer *writer, uint32_t slot);

/* Takes up an episode that an earlier session left, as its reader describes it: the slot's next step goes on
 * with it, and its seed is what esk_replay_writer_seed said last. What is under way in the slot is left.
 * Errors: ESK_ERANGE (slot; an episode that the run does not have), ESK_EINVAL (it has a row in /episodes).
 */
ESK_API esk_status esk_replay_writer_resume(
	esk_replay_writer *writer, uint32_t slot, const esk_replay_episode *episode, esk_error *err);

/* ---- sampling ---- */

typedef struct esk_replay_sampler esk_replay_sampler;

typedef struct esk_replay_sampler_options {
	size_t struct_size;
	uint32_t stack;  /* frames in a stack, the step's own last; 0: 1 */
	uint32_t n_step; /* steps that a transition spans; 0: 1 */
	double gamma;    /* discount of the rewards summed over them; 0: 1 */
	bool prioritized;
	double alpha;  /* priority^alpha is the weight; 0: 0.6 */
	double beta;   /* of the importance weights; 0: 0.4 */
	uint64_t seed; /* the same seed gives the same draws */
} esk_replay_sampler_options;
#define ESK_REPLAY_SAMPLER_OPTIONS_INIT                           \
	{                                                         \
		.struct_size = sizeof(esk_replay_sampler_options) \
	}

/* Samples over the steps of `count` readers, which outlive the sampler and are not refreshed meanwhile. Keeps
 * rewards and episode bounds of every step in memory: about 24 bytes a step, 16 to 32 more where prioritized.
 * `options` may be NULL. Errors: ESK_EINVAL (no reader; options), ESK_ENOMEM, as esk_dataset_read. */
ESK_API esk_status esk_replay_sampler_create(esk_replay_reader *const *readers, size_t count,
	const esk_replay_sampler_options *options, esk_replay_sampler **ret_sampler, esk_error *err);
ESK_API void esk_replay_sampler_destroy(esk_replay_sampler *sampler); /* NULL is allowed */

/* Steps that can be drawn. */
ESK_API uint64_t esk_replay_sampler_size(const esk_replay_sampler *sampler);

/* `batch` draws, each a transition of up to n_step steps, cut at the episode's last one. Arrays of the
 * caller, each of `batch` unless it says more; any but `indices` may be NULL. */
typedef struct esk_replay_draw {
	size_t struct_size;
	uint64_t batch;
	uint64_t
		*indices; /* of the step among all readers' steps, one episode behind the other: for update */
	uint32_t *readers; /* which reader */
	/* batch * stack: rows of the stack, oldest first; before the episode's first step that one again. */
	uint64_t *rows;
	/* batch * stack: of the stack n steps on; where the episode ends before, of its last step. */
	uint64_t *next_rows;
	float *rewards;      /* discounted sum over the steps spanned */
	uint8_t *terminated; /* whether the episode terminated within them: do not bootstrap */
	uint8_t *truncated;  /* whether it ended within them otherwise: cut off, or unfinished */
	uint32_t *spans;     /* how many steps the transition spans: n_step, or fewer at the end */
	double *weights;     /* importance weights, the batch's largest is 1; all 1 where not prioritized */
	int64_t *final_rows; /* row in /episodes of the final observation, which follows the last of
				next_rows; -1: the episode goes on behind the span, or has none */
} esk_replay_draw;

/* Draws with replacement. Errors: ESK_ERANGE where there is nothing to draw from. One thread at a time. */
ESK_API esk_status esk_replay_sampler_draw(
	esk_replay_sampler *sampler, const esk_replay_draw *draw, esk_error *err);

/* Sets priorities of steps; all begin with 1, and one of 0 is not drawn. All or none. Errors: ESK_EINVAL (a
 * sampler that is not prioritized; a priority below 0 or not finite), ESK_ERANGE (an index). */
ESK_API esk_status esk_replay_sampler_update(esk_replay_sampler *sampler, const uint64_t *indices,
	const double *priorities, uint64_t count, esk_error *err);

/* Reads cells of the dataset `path` ("frames", "observations/position", …) at rows[i] of reader readers[i], i
 * < count, in any order, each chunk once, decoded in parallel, into `buf` of exactly count cells. `readers`
 * may be NULL where the sampler has one. Safe from several threads. Errors: as esk_reader_find and
 * esk_dataset_read_rows; ESK_ERANGE (a reader). */
ESK_API esk_status esk_replay_sampler_gather(esk_replay_sampler *sampler, const char *path,
	const uint32_t *readers, const uint64_t *rows, uint64_t count, void *buf, size_t buf_bytes,
	esk_error *err);

/* ---- migration ---- */

/* A payload or value of the legacy database that could not be moved; it stays there as it is. */
typedef struct esk_replay_migrate_finding {
	const char *run; /* all borrowed during the call */
	int64_t rowid;   /* of the step */
	const char *column;
	const char *message; /* what is wrong, and where in the payload */
} esk_replay_migrate_finding;

typedef struct esk_replay_migrate_options {
	size_t struct_size;
	const char *run;  /* migrate this run_id alone; where steps have none, the name of their run. NULL:
			     all, and  the name of the database's file */
	bool drop_blobs;  /* after everything is verified, set the moved payloads NULL and shrink the database
			   */
	bool no_refs;     /* only read the database: write no refs into it. Not with drop_blobs */
	uint32_t threads; /* that parse; 0: one per core */
	void (*finding)(void *arg, const esk_replay_migrate_finding *finding); /* may be NULL */
	/* Called about ten times a second from the calling thread with the phase ("move", …) and bytes of
	 * JSON; returning false stops: the call then fails with ESK_ECLOSED. May be NULL. */
	bool (*progress)(void *arg, const char *phase, uint64_t done_bytes, uint64_t total_bytes);
	void *arg;
} esk_replay_migrate_options;
#define ESK_REPLAY_MIGRATE_OPTIONS_INIT                           \
	{                                                         \
		.struct_size = sizeof(esk_replay_migrate_options) \
	}

typedef struct esk_replay_migrate_report {
	uint64_t runs;
	uint64_t episodes;
	uint64_t steps;       /* in the database */
	uint64_t moved;       /* of them in this call; the others were there */
	uint64_t text_bytes;  /* of JSON, moved in this call */
	uint64_t array_bytes; /* made of it */
	uint64_t verified;    /* payloads compared with what was read back */
	uint64_t refs;        /* steps that got a ref in this call */
	uint64_t dropped;     /* payloads set NULL in this call */
	uint64_t findings;
	uint64_t bytes_before; /* of the database's file */
	uint64_t bytes_after;
} esk_replay_migrate_report;

/* Moves the arrays of a telemetry database (SQLite, with a table `steps` that holds `observation` and
 * `render_payload` as JSON) into runs of `store`, one per run_id, and its scalars with them.
 *
 * Steps go episode by episode in the order of step_index. What a payload holds beside its arrays is kept as
 * text; a step whose payload cannot be parsed is told as a finding, its row has a missing cell, and the
 * database keeps it. Each array is parsed again and compared with what is read back. Then `steps` gets the
 * columns frame_ref, obs_ref (the refs of its arrays) and replay_row; with drop_blobs what was moved becomes
 * NULL, and VACUUM shrinks the file.
 *
 * May be stopped or killed at any moment: the next call goes on where the run stands, and takes steps that
 * the database got since. The database must not be written by others meanwhile.
 *
 * Errors: ESK_ENOTFOUND, ESK_ECORRUPT, ESK_EUNSUPPORTED (no such database), ESK_EEXIST (a run of that name
 * which is no migration's), ESK_EBUSY, ESK_ECLOSED (stopped), ESK_ENOSPC, ESK_EIO. ESK_ECORRUPT too where a
 * run differs from the database; then nothing is dropped. */
ESK_API esk_status esk_replay_migrate(esk_store *store, const char *legacy_path,
	const esk_replay_migrate_options *options, esk_replay_migrate_report *ret_report, esk_error *err);

#ifdef __cplusplus
}
#endif
#endif
