/* The legacy database: the one place that knows it is SQLite.
 *
 * A table `steps` with a row per step, `observation` and `render_payload` in it as JSON, and perhaps a table
 * `episodes`. Any column that is not there reads as NULL. A handle is for one thread; each thread that reads
 * opens its own. */
#ifndef ESK_REPLAY_MIGRATE_LEGACY_H
#define ESK_REPLAY_MIGRATE_LEGACY_H

#include <esker/query.h>

typedef struct esk_legacy esk_legacy;

typedef enum esk_legacy_column {
	ESK_LEGACY_RUN,
	ESK_LEGACY_EPISODE,
	ESK_LEGACY_STEP,
	ESK_LEGACY_WORKER,
	ESK_LEGACY_AGENT,
	ESK_LEGACY_FRAME_REF, /* this and the next two: what a migration puts there */
	ESK_LEGACY_OBS_REF,
	ESK_LEGACY_ROW,
	ESK_LEGACY_ACTION,
	ESK_LEGACY_REWARD,
	ESK_LEGACY_TERMINATED,
	ESK_LEGACY_TRUNCATED,
	ESK_LEGACY_TIMESTAMP,
	ESK_LEGACY_TIME_STEP,
	ESK_LEGACY_VERSION,
	ESK_LEGACY_SIGNATURE,
	ESK_LEGACY_INFO,
	ESK_LEGACY_OBSERVATION,
	ESK_LEGACY_RENDER,
	ESK_LEGACY_COLUMNS
} esk_legacy_column;

/* The column's name in the table. */
const char *esk_legacy_column_name(esk_legacy_column column);

/* Opens the database at `path`, for writing too if `writes`. Errors: ESK_ENOTFOUND (no file, no table
 * `steps`), ESK_ECORRUPT (no database), ESK_EUNSUPPORTED (a table without rowids, or without both BLOB
 * columns), ESK_EBUSY, ESK_EIO. */
esk_status esk_legacy_open(const char *path, bool writes, esk_legacy **ret_legacy, esk_error *err);
void esk_legacy_close(esk_legacy *legacy); /* NULL is allowed */

/* Asks `go_on` now and then while SQLite works; where it says false, the call at hand fails with ESK_ECLOSED.
 */
void esk_legacy_watch(esk_legacy *legacy, bool (*go_on)(void *arg), void *arg);

bool esk_legacy_has(const esk_legacy *legacy, esk_legacy_column column);

/* ---- reading ---- */

/* A step without its arrays; texts are borrowed during the call. */
typedef struct esk_legacy_entry {
	int64_t rowid;
	esk_value run, episode, step, worker, agent, frame_ref, obs_ref, row;
	uint64_t observation_bytes, render_bytes; /* 0 where NULL */
} esk_legacy_entry;

/* Calls `each` for every step in any order, until it fails. */
esk_status esk_legacy_scan(esk_legacy *legacy,
	esk_status (*each)(void *arg, const esk_legacy_entry *entry, esk_error *err), void *arg,
	esk_error *err);

/* The step `rowid`: a value per column, borrowed until the next call. Errors: ESK_ENOTFOUND. */
esk_status esk_legacy_fetch(
	esk_legacy *legacy, int64_t rowid, esk_value values[ESK_LEGACY_COLUMNS], esk_error *err);

/* An episode of the table `episodes`; texts are borrowed during the call. */
typedef struct esk_legacy_episode {
	esk_value run, episode, seed, truncated;
} esk_legacy_episode;

/* Calls `each` for every row of `episodes`; none where there is no such table. */
esk_status esk_legacy_scan_episodes(esk_legacy *legacy,
	esk_status (*each)(void *arg, const esk_legacy_episode *episode, esk_error *err), void *arg,
	esk_error *err);

/* ---- writing ---- */

/* Adds the columns frame_ref, obs_ref and replay_row where they are not there. */
esk_status esk_legacy_add_columns(esk_legacy *legacy, esk_error *err);

/* What is written into a step. */
typedef struct esk_legacy_change {
	int64_t rowid;
	const char *frame_ref; /* NULL: stays as it is */
	const char *obs_ref;
	uint64_t row;
	bool drop_frame; /* render_payload becomes NULL */
	bool drop_observation;
} esk_legacy_change;

/* A transaction around changes. */
esk_status esk_legacy_begin(esk_legacy *legacy, esk_error *err);
esk_status esk_legacy_change_step(esk_legacy *legacy, const esk_legacy_change *change, esk_error *err);
esk_status esk_legacy_commit(esk_legacy *legacy, esk_error *err);
void esk_legacy_rollback(esk_legacy *legacy); /* nothing where no transaction is open */

/* Bytes that a VACUUM would give back. */
esk_status esk_legacy_free_bytes(esk_legacy *legacy, uint64_t *ret_bytes, esk_error *err);

/* Gives free pages back to the file system. Needs room for what is left twice: beside the database and where
 * SQLite keeps temporary files. Errors: ESK_ENOSPC, ESK_ECLOSED, ESK_EBUSY: nothing changed. */
esk_status esk_legacy_vacuum(esk_legacy *legacy, esk_error *err);

/* Bytes of the database's file and its log. */
uint64_t esk_legacy_file_bytes(const esk_legacy *legacy);

#endif
