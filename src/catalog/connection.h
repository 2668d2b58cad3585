/* What the files of this folder share: one SQLite connection, its kept statements, and the way through fork.
 * Only this folder sees SQLite. May include: base, os, model.
 *
 * Invariants of a catalogue:
 *  1. Its connection is used only by the process that opened it, with its mutex held, and inside the fork
 *     gate.
 *  2. begin keeps the mutex until commit or rollback: other threads wait, so none writes into a transaction
 *     that is not its own.
 *  3. Each write happens in a transaction: the caller's, or one around the single call. A failed call inside
 *     the caller's transaction marks it, and commit then rolls back instead.
 *  4. A kept statement is reset before the call returns, so that no read transaction stays open and holds
 *     back the checkpoint. */
#ifndef ESK_CATALOG_CONNECTION_H
#define ESK_CATALOG_CONNECTION_H

#include "catalog/catalog.h"
#include <pthread.h>
#include <sqlite3.h>

#define ESK_CATALOG_BUSY_TIMEOUT_MS 10000
/* "ESKR": how `file` and this library know the database. */
#define ESK_CATALOG_APPLICATION_ID 0x45534B52

typedef enum esk_sql_id {
	ESK_SQL_BEGIN,
	ESK_SQL_COMMIT,
	ESK_SQL_ROLLBACK,
	ESK_SQL_SET_FACT,
	ESK_SQL_GET_FACT,
	ESK_SQL_FIND_RUN,
	ESK_SQL_INSERT_RUN,
	ESK_SQL_UPDATE_RUN,
	ESK_SQL_GET_RUN,
	ESK_SQL_LIST_RUNS,
	ESK_SQL_DELETE_RUN,
	ESK_SQL_FINISH_RUN,
	ESK_SQL_CLEAR_SEGMENTS,
	ESK_SQL_CLEAR_STREAMS,
	ESK_SQL_CLEAR_GAPS,
	ESK_SQL_CLEAR_METADATA,
	ESK_SQL_ADD_METADATA,
	ESK_SQL_PUT_SEGMENT,
	ESK_SQL_GET_SEGMENTS,
	ESK_SQL_PUT_STREAM,
	ESK_SQL_CLEAR_COLUMNS,
	ESK_SQL_PUT_COLUMN,
	ESK_SQL_PUT_EXTENT,
	ESK_SQL_GET_EXTENTS,
	ESK_SQL_PUT_GAP,
	ESK_SQL_PUT_ITEM,
	ESK_SQL_PRUNE,
	ESK_SQL_GET_PRUNED,
	ESK_SQL_PUT_GONE,
	ESK_SQL_COUNT_ITEMS,
	ESK_SQL_CUT_ITEMS,
	ESK_SQL_COUNT
} esk_sql_id;

struct esk_catalog {
	sqlite3 *db;
	char *path;
	pid_t pid;             /* of the process that opened it */
	pthread_mutex_t mutex; /* recursive: begin keeps it */
	bool in_transaction;   /* between begin and commit */
	bool failed;           /* a call inside the transaction failed */
	sqlite3_stmt *statements[ESK_SQL_COUNT];
};

/* ---- connection.c ---- */

/* Opens a connection of its own and checks that it can be read. A reader may be served by an immutable view
 * where the directory cannot be written and the write-ahead log is empty. */
esk_status esk_sql_connect(
	const char *path, bool read_only, const char *vfs, sqlite3 **ret_db, esk_error *err);

/* The status for SQLite's `rc`, with a message: "catalogue <path>: <what>: …" and the way out. */
esk_status esk_sql_fail(sqlite3 *db, const char *path, int rc, const char *what, esk_error *err);

/* One call's stay inside a catalogue. */
typedef struct esk_sql_scope {
	esk_catalog *catalog;
	bool writes;
	bool own; /* the transaction around this call only */
} esk_sql_scope;
/* ESK_ECLOSED in a process that inherited the catalogue. After success the call ends with esk_sql_leave. */
esk_status esk_sql_enter(esk_sql_scope *scope, esk_catalog *catalog, bool writes, esk_error *err);
/* Commits or rolls back the call's own transaction; returns `status`, or the commit's if that failed. */
esk_status esk_sql_leave(esk_sql_scope *scope, esk_status status, esk_error *err);

/* ---- statement.c: a kept statement while it runs ---- */

typedef struct esk_sql {
	esk_catalog *catalog;
	sqlite3_stmt *statement;
	const char *what; /* for messages */
	int next;         /* parameter to bind next */
	int rc;           /* first binding that failed */
} esk_sql;

esk_status esk_sql_start(esk_sql *sql, esk_catalog *catalog, esk_sql_id id, const char *what, esk_error *err);
void esk_sql_bind_i64(esk_sql *sql, int64_t value);
void esk_sql_bind_u64(esk_sql *sql, uint64_t value); /* as the int64 of the same bits */
void esk_sql_bind_real(esk_sql *sql, double value);
/* NULL binds NULL. The text must stay until the statement is reset. */
void esk_sql_bind_text(esk_sql *sql, const char *text);
void esk_sql_bind_bytes(esk_sql *sql, const char *text, size_t size);
esk_status esk_sql_step(esk_sql *sql, bool *ret_row, esk_error *err);
void esk_sql_reset(esk_sql *sql);
/* Steps a statement that returns no rows to its end, and resets it. */
esk_status esk_sql_run(esk_sql *sql, esk_error *err);
int64_t esk_sql_i64(const esk_sql *sql, int column);
uint64_t esk_sql_u64(const esk_sql *sql, int column);
/* Copies text into buf; ESK_ECORRUPT where it does not fit. */
esk_status esk_sql_copy(const esk_sql *sql, int column, char *buf, size_t buf_bytes, esk_error *err);
/* *ret_text is malloc'ed, or NULL where the column is NULL. */
esk_status esk_sql_dup(const esk_sql *sql, int column, char **ret_text, esk_error *err);

/* A call that is one statement without rows: begun, its parameters bound through `sql`, run. */
typedef struct esk_sql_change {
	esk_sql_scope scope;
	esk_sql sql;
} esk_sql_change;
/* After success the call ends with esk_sql_change_run; after failure it is over. */
esk_status esk_sql_change_begin(
	esk_sql_change *change, esk_catalog *catalog, esk_sql_id id, const char *what, esk_error *err);
esk_status esk_sql_change_run(esk_sql_change *change, esk_error *err);

/* ---- migrate.c ---- */

typedef struct esk_migration {
	const char *name;
	const char *sql;
	const char *reading; /* what a connection that must not write does instead; NULL: it refuses */
} esk_migration;
/* Generated by script/embed-sql: migration n (from 1) is element n - 1. */
extern const esk_migration esk_migrations[];
extern const int esk_migration_count;

/* esk_run_ref(name): what refs to the run begin with. For connections that write: migrations and put_run use
 * it. */
int esk_sql_add_functions(sqlite3 *db);

/* Brings the database to version `count`, each migration once, whoever else tries at the same time. */
esk_status esk_sql_migrate(
	sqlite3 *db, const char *path, const esk_migration *migrations, int count, esk_error *err);
/* Fails unless it is a catalogue of a known version. */
esk_status esk_sql_check_version(sqlite3 *db, const char *path, esk_error *err);
/* Lets a connection that must not write see an older catalogue as one of this version, by temporary views of
 * its own. Fails as the above, and where the catalogue is too old for that. */
esk_status esk_sql_adapt(sqlite3 *db, const char *path, esk_error *err);

/* ---- metadata.c ---- */

/* Replaces the rows of the run in table `metadata` by the scalar members of the JSON object `text`. */
esk_status esk_sql_mirror_metadata(esk_catalog *catalog, int64_t run_id, const char *text, esk_error *err);

/* ---- fork.c ---- */

/* Call before a connection is opened. */
esk_status esk_fork_ready(esk_error *err);
/* Between these a fork of this process waits. Not to be nested. */
void esk_fork_gate_enter(void);
void esk_fork_gate_leave(void);

#endif
