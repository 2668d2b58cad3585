/* The legacy database: see migrate_legacy.h. */
#include "migrate_legacy.h"

#include "internal.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define BUSY_MS 5000

/* The most that SQLite maps. */
#define FOR_READING "PRAGMA mmap_size=2147418112"
/* A cache that holds a transaction: what spills over has to be synchronised in the middle of it. Nor are
 * freed pages filled with zeros, as some builds do by default: VACUUM gives them back to the file system. */
#define FOR_WRITING FOR_READING "; PRAGMA cache_size=-131072; PRAGMA secure_delete=OFF"

struct esk_legacy {
	sqlite3 *db;
	char *path;
	bool has[ESK_LEGACY_COLUMNS];
	bool has_episodes;
	sqlite3_stmt *fetch;
	sqlite3_stmt *change;
	bool (*go_on)(void *arg);
	void *go_on_arg;
};

static const char *const names[ESK_LEGACY_COLUMNS] = {
	[ESK_LEGACY_RUN] = "run_id",
	[ESK_LEGACY_EPISODE] = "episode_id",
	[ESK_LEGACY_STEP] = "step_index",
	[ESK_LEGACY_WORKER] = "worker_id",
	[ESK_LEGACY_AGENT] = "agent_id",
	[ESK_LEGACY_FRAME_REF] = "frame_ref",
	[ESK_LEGACY_OBS_REF] = "obs_ref",
	[ESK_LEGACY_ROW] = "replay_row",
	[ESK_LEGACY_ACTION] = "action",
	[ESK_LEGACY_REWARD] = "reward",
	[ESK_LEGACY_TERMINATED] = "terminated",
	[ESK_LEGACY_TRUNCATED] = "truncated",
	[ESK_LEGACY_TIMESTAMP] = "timestamp",
	[ESK_LEGACY_TIME_STEP] = "time_step",
	[ESK_LEGACY_VERSION] = "payload_version",
	[ESK_LEGACY_SIGNATURE] = "space_signature",
	[ESK_LEGACY_INFO] = "info",
	[ESK_LEGACY_OBSERVATION] = "observation",
	[ESK_LEGACY_RENDER] = "render_payload",
};

const char *esk_legacy_column_name(esk_legacy_column column)
{
	return names[column];
}

bool esk_legacy_has(const esk_legacy *legacy, esk_legacy_column column)
{
	return legacy->has[column];
}

/* ---- SQLite ---- */

static esk_status fail_sql(const esk_legacy *legacy, int code, const char *doing, esk_error *err)
{
	esk_status status = ESK_EIO;
	const char *hint = "";
	switch (code & 0xFF) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		status = ESK_EBUSY;
		hint = ": another process is using it; stop that, then try again";
		break;
	case SQLITE_NOTADB:
	case SQLITE_CORRUPT:
		status = ESK_ECORRUPT;
		break;
	case SQLITE_FULL:
		status = ESK_ENOSPC;
		break;
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_AUTH:
		status = ESK_EACCES;
		break;
	case SQLITE_NOMEM:
		status = ESK_ENOMEM;
		break;
	case SQLITE_INTERRUPT:
		return esk_fail(err, ESK_ECLOSED, "%s: %s was interrupted", legacy->path, doing);
	default:
		break;
	}
	return esk_fail(err, status, "%s: %s: %s%s", legacy->path, doing, sqlite3_errmsg(legacy->db), hint);
}

static esk_status run_sql(esk_legacy *legacy, const char *sql, const char *doing, esk_error *err)
{
	int code = sqlite3_exec(legacy->db, sql, NULL, NULL, NULL);
	return code == SQLITE_OK ? ESK_OK : fail_sql(legacy, code, doing, err);
}

static esk_status prepare(
	esk_legacy *legacy, const char *sql, const char *doing, sqlite3_stmt **ret_statement, esk_error *err)
{
	int code = sqlite3_prepare_v2(legacy->db, sql, -1, ret_statement, NULL);
	return code == SQLITE_OK ? ESK_OK : fail_sql(legacy, code, doing, err);
}

static esk_value take(sqlite3_stmt *statement, int column)
{
	esk_value value = {.kind = ESK_NULL};
	switch (sqlite3_column_type(statement, column)) {
	case SQLITE_INTEGER:
		value.kind = ESK_INTEGER;
		value.integer = sqlite3_column_int64(statement, column);
		value.real = (double)value.integer;
		break;
	case SQLITE_FLOAT:
		value.kind = ESK_REAL;
		value.real = sqlite3_column_double(statement, column);
		break;
	case SQLITE_TEXT:
	case SQLITE_BLOB:
		value.kind = sqlite3_column_type(statement, column) == SQLITE_TEXT ? ESK_TEXT : ESK_BLOB;
		value.data = sqlite3_column_blob(statement, column);
		value.size = (size_t)sqlite3_column_bytes(statement, column);
		if (value.data == NULL)
			value.data = "";
		break;
	default:
		break;
	}
	return value;
}

/* ---- opening ---- */

static void note_column(esk_legacy *legacy, const char *name)
{
	for (size_t i = 0; i < ESK_LEGACY_COLUMNS; i++)
		if (name != NULL && sqlite3_stricmp(name, names[i]) == 0)
			legacy->has[i] = true;
}

/* Which columns `steps` has. */
static esk_status look_at_steps(esk_legacy *legacy, esk_error *err)
{
	sqlite3_stmt *columns;
	esk_status status = prepare(
		legacy, "SELECT name FROM pragma_table_info('steps')", "reading its tables", &columns, err);
	if (status != ESK_OK)
		return status;
	size_t count = 0;
	memset(legacy->has, 0, sizeof legacy->has);
	while (sqlite3_step(columns) == SQLITE_ROW) {
		note_column(legacy, (const char *)sqlite3_column_text(columns, 0));
		count++;
	}
	int code = sqlite3_finalize(columns);
	if (code != SQLITE_OK)
		return fail_sql(legacy, code, "reading its tables", err);
	if (count == 0)
		return esk_fail(err, ESK_ENOTFOUND,
			"%s: no table `steps`: this is no telemetry database (its path may be wrong)",
			legacy->path);
	if (!legacy->has[ESK_LEGACY_OBSERVATION] && !legacy->has[ESK_LEGACY_RENDER])
		return esk_fail(err, ESK_EUNSUPPORTED,
			"%s: the table `steps` has neither a column `observation` nor `render_payload`: "
			"there is nothing to migrate",
			legacy->path);
	return ESK_OK;
}

static esk_status look(esk_legacy *legacy, esk_error *err)
{
	esk_status status = look_at_steps(legacy, err);
	if (status != ESK_OK)
		return status;
	sqlite3_stmt *probe;
	int code = sqlite3_prepare_v2(legacy->db, "SELECT rowid FROM steps LIMIT 0", -1, &probe, NULL);
	sqlite3_finalize(probe);
	if (code != SQLITE_OK)
		return esk_fail(err, ESK_EUNSUPPORTED,
			"%s: `steps` is a view or a table WITHOUT ROWID; copy it into an ordinary table "
			"first",
			legacy->path);
	code = sqlite3_prepare_v2(legacy->db, "SELECT episode_id FROM episodes LIMIT 0", -1, &probe, NULL);
	sqlite3_finalize(probe);
	legacy->has_episodes = code == SQLITE_OK;
	return ESK_OK;
}

esk_status esk_legacy_open(const char *path, bool writes, esk_legacy **ret_legacy, esk_error *err)
{
	struct stat st;
	if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
		return esk_fail(err, ESK_ENOTFOUND, "%s: there is no such file", path);
	esk_legacy *legacy = calloc(1, sizeof *legacy);
	if (legacy == NULL || (legacy->path = strdup(path)) == NULL) {
		free(legacy);
		return esk_fail_memory(err, sizeof *legacy, "a legacy database");
	}
	esk_status status = ESK_OK;
	int flags = (writes ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY) | SQLITE_OPEN_NOMUTEX;
	int code = sqlite3_open_v2(path, &legacy->db, flags, NULL);
	if (code != SQLITE_OK)
		status = fail_sql(legacy, code, "opening it", err);
	sqlite3_busy_timeout(legacy->db, BUSY_MS);
	sqlite3_extended_result_codes(legacy->db, 1);
	if (status == ESK_OK)
		status = run_sql(legacy, writes ? FOR_WRITING : FOR_READING, "opening it", err);
	if (status == ESK_OK)
		status = look(legacy, err);
	if (status == ESK_OK && writes && sqlite3_db_readonly(legacy->db, "main") == 1)
		status = esk_fail(err, ESK_EACCES, "%s: may not be written", path);
	if (status != ESK_OK) {
		esk_legacy_close(legacy);
		return status;
	}
	*ret_legacy = legacy;
	return ESK_OK;
}

void esk_legacy_close(esk_legacy *legacy)
{
	if (legacy == NULL)
		return;
	sqlite3_finalize(legacy->fetch);
	sqlite3_finalize(legacy->change);
	sqlite3_close(legacy->db);
	free(legacy->path);
	free(legacy);
}

static int ask(void *arg)
{
	const esk_legacy *legacy = arg;
	return !legacy->go_on(legacy->go_on_arg);
}

void esk_legacy_watch(esk_legacy *legacy, bool (*go_on)(void *arg), void *arg)
{
	legacy->go_on = go_on;
	legacy->go_on_arg = arg;
	sqlite3_progress_handler(legacy->db, 10000, ask, legacy);
}

uint64_t esk_legacy_file_bytes(const esk_legacy *legacy)
{
	struct stat st;
	char log[4096];
	uint64_t bytes = stat(legacy->path, &st) == 0 ? (uint64_t)st.st_size : 0;
	int length = snprintf(log, sizeof log, "%s-wal", legacy->path);
	if (length > 0 && (size_t)length < sizeof log && stat(log, &st) == 0)
		bytes += (uint64_t)st.st_size;
	return bytes;
}

/* ---- reading ---- */

/* "SELECT rowid, a, NULL, c" for the first `count` columns. */
static size_t select_columns(const esk_legacy *legacy, size_t count, char *sql, size_t bytes)
{
	size_t size = (size_t)snprintf(sql, bytes, "SELECT rowid");
	for (size_t i = 0; i < count; i++)
		size += (size_t)snprintf(
			sql + size, bytes - size, ", %s", legacy->has[i] ? names[i] : "NULL");
	return size;
}

static esk_legacy_entry take_entry(sqlite3_stmt *rows)
{
	const int behind = ESK_LEGACY_ROW + 2;
	return (esk_legacy_entry){
		.rowid = sqlite3_column_int64(rows, 0),
		.run = take(rows, 1 + ESK_LEGACY_RUN),
		.episode = take(rows, 1 + ESK_LEGACY_EPISODE),
		.step = take(rows, 1 + ESK_LEGACY_STEP),
		.worker = take(rows, 1 + ESK_LEGACY_WORKER),
		.agent = take(rows, 1 + ESK_LEGACY_AGENT),
		.frame_ref = take(rows, 1 + ESK_LEGACY_FRAME_REF),
		.obs_ref = take(rows, 1 + ESK_LEGACY_OBS_REF),
		.row = take(rows, 1 + ESK_LEGACY_ROW),
		.observation_bytes = (uint64_t)sqlite3_column_int64(rows, behind),
		.render_bytes = (uint64_t)sqlite3_column_int64(rows, behind + 1),
	};
}

esk_status esk_legacy_scan(esk_legacy *legacy,
	esk_status (*each)(void *arg, const esk_legacy_entry *entry, esk_error *err), void *arg,
	esk_error *err)
{
	char sql[1024];
	size_t size = select_columns(legacy, ESK_LEGACY_ROW + 1, sql, sizeof sql);
	/* length() of a BLOB is in the row's head: the BLOB is not read for it. */
	snprintf(sql + size, sizeof sql - size, ", length(%s), length(%s) FROM steps",
		legacy->has[ESK_LEGACY_OBSERVATION] ? "observation" : "NULL",
		legacy->has[ESK_LEGACY_RENDER] ? "render_payload" : "NULL");
	sqlite3_stmt *rows;
	esk_status status = prepare(legacy, sql, "reading `steps`", &rows, err);
	if (status != ESK_OK)
		return status;
	int code = SQLITE_DONE;
	while (status == ESK_OK && (code = sqlite3_step(rows)) == SQLITE_ROW) {
		esk_legacy_entry entry = take_entry(rows);
		status = each(arg, &entry, err);
	}
	if (status == ESK_OK && code != SQLITE_DONE)
		status = fail_sql(legacy, code, "reading `steps`", err);
	sqlite3_finalize(rows);
	return status;
}

esk_status esk_legacy_fetch(
	esk_legacy *legacy, int64_t rowid, esk_value values[ESK_LEGACY_COLUMNS], esk_error *err)
{
	esk_status status = ESK_OK;
	if (legacy->fetch == NULL) {
		char sql[1024];
		size_t size = select_columns(legacy, ESK_LEGACY_COLUMNS, sql, sizeof sql);
		snprintf(sql + size, sizeof sql - size, " FROM steps WHERE rowid = ?1");
		status = prepare(legacy, sql, "reading a step", &legacy->fetch, err);
	}
	if (status != ESK_OK)
		return status;
	sqlite3_reset(legacy->fetch);
	sqlite3_bind_int64(legacy->fetch, 1, rowid);
	int code = sqlite3_step(legacy->fetch);
	if (code == SQLITE_DONE)
		return esk_fail(err, ESK_ENOTFOUND,
			"%s: the step with rowid %lld is gone: another process changes the database",
			legacy->path, (long long)rowid);
	if (code != SQLITE_ROW)
		return fail_sql(legacy, code, "reading a step", err);
	for (int i = 0; i < ESK_LEGACY_COLUMNS; i++)
		values[i] = take(legacy->fetch, i + 1);
	return ESK_OK;
}

/* The column of `episodes`, or NULL where it has none. */
static const char *episode_column(esk_legacy *legacy, const char *name)
{
	char sql[128];
	sqlite3_stmt *probe;
	snprintf(sql, sizeof sql, "SELECT %s FROM episodes LIMIT 0", name);
	int code = sqlite3_prepare_v2(legacy->db, sql, -1, &probe, NULL);
	sqlite3_finalize(probe);
	return code == SQLITE_OK ? name : "NULL";
}

esk_status esk_legacy_scan_episodes(esk_legacy *legacy,
	esk_status (*each)(void *arg, const esk_legacy_episode *episode, esk_error *err), void *arg,
	esk_error *err)
{
	char sql[256];
	if (!legacy->has_episodes)
		return ESK_OK;
	snprintf(sql, sizeof sql, "SELECT %s, episode_id, %s, %s FROM episodes",
		episode_column(legacy, "run_id"), episode_column(legacy, "seed"),
		episode_column(legacy, "truncated"));
	sqlite3_stmt *rows;
	esk_status status = prepare(legacy, sql, "reading `episodes`", &rows, err);
	if (status != ESK_OK)
		return status;
	int code = SQLITE_DONE;
	while (status == ESK_OK && (code = sqlite3_step(rows)) == SQLITE_ROW) {
		esk_legacy_episode episode = {take(rows, 0), take(rows, 1), take(rows, 2), take(rows, 3)};
		status = each(arg, &episode, err);
	}
	if (status == ESK_OK && code != SQLITE_DONE)
		status = fail_sql(legacy, code, "reading `episodes`", err);
	sqlite3_finalize(rows);
	return status;
}

/* ---- writing ---- */

esk_status esk_legacy_add_columns(esk_legacy *legacy, esk_error *err)
{
	static const struct {
		esk_legacy_column column;
		const char *sql;
	} added[] = {{ESK_LEGACY_FRAME_REF, "ALTER TABLE steps ADD COLUMN frame_ref TEXT"},
		{ESK_LEGACY_OBS_REF, "ALTER TABLE steps ADD COLUMN obs_ref TEXT"},
		{ESK_LEGACY_ROW, "ALTER TABLE steps ADD COLUMN replay_row INTEGER"}};
	for (size_t i = 0; i < sizeof added / sizeof *added; i++) {
		if (legacy->has[added[i].column])
			continue;
		esk_status status = run_sql(legacy, added[i].sql, "adding a column to `steps`", err);
		if (status != ESK_OK)
			return status;
		legacy->has[added[i].column] = true;
	}
	return ESK_OK;
}

esk_status esk_legacy_begin(esk_legacy *legacy, esk_error *err)
{
	return run_sql(legacy, "BEGIN IMMEDIATE", "beginning a transaction", err);
}

static esk_status prepare_change(esk_legacy *legacy, esk_error *err)
{
	char sql[512];
	size_t size = (size_t)snprintf(sql, sizeof sql,
		"UPDATE steps SET replay_row = ?2, frame_ref = coalesce(?3, frame_ref), obs_ref = "
		"coalesce(?4, obs_ref)");
	if (legacy->has[ESK_LEGACY_RENDER])
		size += (size_t)snprintf(sql + size, sizeof sql - size,
			", render_payload = CASE WHEN ?5 THEN NULL ELSE render_payload END");
	if (legacy->has[ESK_LEGACY_OBSERVATION])
		size += (size_t)snprintf(sql + size, sizeof sql - size,
			", observation = CASE WHEN ?6 THEN NULL ELSE observation END");
	snprintf(sql + size, sizeof sql - size, " WHERE rowid = ?1");
	return prepare(legacy, sql, "writing into `steps`", &legacy->change, err);
}

esk_status esk_legacy_change_step(esk_legacy *legacy, const esk_legacy_change *change, esk_error *err)
{
	esk_status status = legacy->change == NULL ? prepare_change(legacy, err) : ESK_OK;
	if (status != ESK_OK)
		return status;
	sqlite3_stmt *statement = legacy->change;
	sqlite3_reset(statement);
	sqlite3_bind_int64(statement, 1, change->rowid);
	sqlite3_bind_int64(statement, 2, (int64_t)change->row);
	sqlite3_bind_text(statement, 3, change->frame_ref, -1, SQLITE_TRANSIENT);
	sqlite3_bind_text(statement, 4, change->obs_ref, -1, SQLITE_TRANSIENT);
	if (legacy->has[ESK_LEGACY_RENDER])
		sqlite3_bind_int(statement, 5, change->drop_frame);
	if (legacy->has[ESK_LEGACY_OBSERVATION])
		sqlite3_bind_int(statement, 6, change->drop_observation);
	int code = sqlite3_step(statement);
	if (code != SQLITE_DONE)
		status = fail_sql(legacy, code, "writing into `steps`", err);
	sqlite3_reset(statement);
	return status;
}

esk_status esk_legacy_commit(esk_legacy *legacy, esk_error *err)
{
	return run_sql(legacy, "COMMIT", "committing", err);
}

void esk_legacy_rollback(esk_legacy *legacy)
{
	if (sqlite3_get_autocommit(legacy->db) == 0)
		sqlite3_exec(legacy->db, "ROLLBACK", NULL, NULL, NULL);
}

/* ---- shrinking ---- */

static esk_status read_number(esk_legacy *legacy, const char *sql, uint64_t *ret_number, esk_error *err)
{
	sqlite3_stmt *row;
	esk_status status = prepare(legacy, sql, "reading its size", &row, err);
	if (status != ESK_OK)
		return status;
	int code = sqlite3_step(row);
	if (code == SQLITE_ROW)
		*ret_number = (uint64_t)sqlite3_column_int64(row, 0);
	else
		status = fail_sql(legacy, code, "reading its size", err);
	sqlite3_finalize(row);
	return status;
}

esk_status esk_legacy_free_bytes(esk_legacy *legacy, uint64_t *ret_bytes, esk_error *err)
{
	uint64_t pages, page_bytes;
	esk_status status = read_number(legacy, "PRAGMA freelist_count", &pages, err);
	if (status == ESK_OK)
		status = read_number(legacy, "PRAGMA page_size", &page_bytes, err);
	if (status == ESK_OK)
		*ret_bytes = pages * page_bytes;
	return status;
}

/* Where SQLite puts the copy that VACUUM makes. */
static const char *temporary_directory(void)
{
	const char *const places[] = {
		getenv("SQLITE_TMPDIR"), getenv("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp"};
	struct stat st;
	for (size_t i = 0; i < sizeof places / sizeof *places; i++)
		if (places[i] != NULL && stat(places[i], &st) == 0 && S_ISDIR(st.st_mode) &&
			access(places[i], W_OK | X_OK) == 0)
			return places[i];
	return ".";
}

static esk_status check_room(const char *directory, const char *path, uint64_t needed, esk_error *err)
{
	struct statvfs place;
	if (statvfs(directory, &place) != 0)
		return ESK_OK; /* SQLite will say so */
	uint64_t there = (uint64_t)place.f_bavail * place.f_frsize;
	if (there >= needed)
		return ESK_OK;
	return esk_fail(err, ESK_ENOSPC,
		"%s: the arrays are dropped, but the file keeps its size: VACUUM needs %llu MB free in %s, "
		"where %llu MB are; make room (or set SQLITE_TMPDIR), then run the same command again",
		path, (unsigned long long)(needed >> 20) + 1, directory, (unsigned long long)(there >> 20));
}

/* A copy of what is left lies in the temporary directory, and a journal as large beside the database. */
static esk_status check_space(esk_legacy *legacy, esk_error *err)
{
	uint64_t pages, page_bytes, free_bytes;
	esk_status status = read_number(legacy, "PRAGMA page_count", &pages, err);
	if (status == ESK_OK)
		status = read_number(legacy, "PRAGMA page_size", &page_bytes, err);
	if (status == ESK_OK)
		status = esk_legacy_free_bytes(legacy, &free_bytes, err);
	if (status != ESK_OK)
		return status;
	char *own = strdup(legacy->path);
	if (own == NULL)
		return esk_fail_memory(err, strlen(legacy->path), "a path");
	char *slash = strrchr(own, '/');
	if (slash != NULL)
		slash[slash == own] = '\0';
	const char *directory = slash != NULL ? own : ".", *temporary = temporary_directory();
	uint64_t left = pages * page_bytes - free_bytes + (1u << 20);
	struct stat a, b;
	bool same = stat(directory, &a) == 0 && stat(temporary, &b) == 0 && a.st_dev == b.st_dev;
	status = check_room(directory, legacy->path, same ? 2 * left : left, err);
	if (status == ESK_OK && !same)
		status = check_room(temporary, legacy->path, left, err);
	free(own);
	return status;
}

esk_status esk_legacy_vacuum(esk_legacy *legacy, esk_error *err)
{
	esk_status status = check_space(legacy, err);
	if (status != ESK_OK)
		return status;
	sqlite3_finalize(legacy->fetch);
	legacy->fetch = NULL;
	status = run_sql(legacy, "VACUUM", "shrinking it", err);
	if (status == ESK_OK) /* a database with a log keeps the old pages until they are moved out of it */
		sqlite3_exec(legacy->db, "PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL);
	return status;
}
