/* Opening and closing a catalogue, transactions, and what SQLite's result codes mean to a caller.
 * May include: base, os, model. */
#include "catalog/connection.h"
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static esk_status status_of(sqlite3 *db, int rc)
{
	switch (rc & 0xFF) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return ESK_EBUSY;
	case SQLITE_FULL:
		return ESK_ENOSPC;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_FORMAT:
	case SQLITE_ERROR: /* of a statement of ours: the tables are not what they must be */
	case SQLITE_SCHEMA:
		return ESK_ECORRUPT;
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
		return esk_status_of_errno(db != NULL ? sqlite3_system_errno(db) : EIO);
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return ESK_EACCES;
	case SQLITE_NOMEM:
		return ESK_ENOMEM;
	case SQLITE_TOOBIG:
		return ESK_ERANGE;
	case SQLITE_CONSTRAINT:
		return rc == SQLITE_CONSTRAINT_FOREIGNKEY ? ESK_ENOTFOUND : ESK_EINVAL;
	default:
		return ESK_EINTERNAL;
	}
}

static const char *way_out(esk_status status)
{
	switch (status) {
	case ESK_EBUSY:
		return "; another process keeps it locked: try again, or end that process";
	case ESK_ENOSPC:
		return "; free some space and try again";
	case ESK_ECORRUPT:
		return "; run `esker reindex` to build it anew from the files";
	case ESK_EACCES:
		return "; check the permissions of the file and its directory";
	case ESK_ENOTFOUND:
		return "; what it refers to is not in the catalogue";
	default:
		return "";
	}
}

esk_status esk_sql_fail(sqlite3 *db, const char *path, int rc, const char *what, esk_error *err)
{
	esk_status status = status_of(db, rc);
	int errnum = db != NULL ? sqlite3_system_errno(db) : 0;
	bool system = (rc & 0xFF) == SQLITE_IOERR || (rc & 0xFF) == SQLITE_CANTOPEN;
	if (system && errnum != 0)
		return esk_fail(err, status, "catalogue %s: %s: %s (%s)%s", path, what, sqlite3_errstr(rc),
			strerror(errnum), status == ESK_ENOTFOUND ? "" : way_out(status));
	return esk_fail(err, status, "catalogue %s: %s: %s%s", path, what,
		db != NULL && sqlite3_errcode(db) == rc ? sqlite3_errmsg(db) : sqlite3_errstr(rc),
		way_out(status));
}

/* ---- opening ---- */

/* Names that SQLite would read as something else than a path (":memory:", "file:…") get "./" in front. With
 * `immutable` the name is a URI. sqlite3_free. */
static char *database_name(const char *path, bool immutable)
{
	const char *prefix = path[0] == '/' ? "" : "./";
	if (!immutable)
		return sqlite3_mprintf("%s%s", prefix, path);
	sqlite3_str *uri = sqlite3_str_new(NULL);
	sqlite3_str_appendf(uri, "file:%s", prefix);
	for (const char *s = path; *s != '\0'; s++)
		sqlite3_str_appendf(uri, strchr("%?#", *s) != NULL ? "%%%02X" : "%c", (unsigned char)*s);
	sqlite3_str_appendall(uri, "?immutable=1");
	return sqlite3_str_finish(uri);
}

static bool log_is_empty(const char *path)
{
	char *name = sqlite3_mprintf("%s-wal", path);
	struct stat info;
	bool empty = name != NULL && (stat(name, &info) != 0 ? errno == ENOENT : info.st_size == 0);
	sqlite3_free(name);
	return empty;
}

static int open_once(const char *path, int flags, bool immutable, const char *vfs, sqlite3 **ret_db)
{
	char *name = database_name(path, immutable);
	if (name == NULL)
		return SQLITE_NOMEM;
	int rc = sqlite3_open_v2(name, ret_db, flags | (immutable ? SQLITE_OPEN_URI : 0), vfs);
	sqlite3_free(name);
	if (rc != SQLITE_OK)
		return rc;
	sqlite3_extended_result_codes(*ret_db, 1);
	sqlite3_busy_timeout(*ret_db, ESK_CATALOG_BUSY_TIMEOUT_MS);
	rc = sqlite3_exec(
		*ret_db, "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON", NULL, NULL, NULL);
	/* Opening is lazy: this is the first read. */
	return rc != SQLITE_OK
		       ? rc
		       : sqlite3_exec(*ret_db, "SELECT 1 FROM sqlite_schema LIMIT 1", NULL, NULL, NULL);
}

esk_status esk_sql_connect(
	const char *path, bool read_only, const char *vfs, sqlite3 **ret_db, esk_error *err)
{
	struct stat info;
	if (stat(path, &info) != 0)
		return esk_fail_errno(err, errno, "catalogue %s", path);
	sqlite3 *db = NULL;
	int flags = SQLITE_OPEN_NOMUTEX | (read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE);
	int rc = open_once(path, flags, false, vfs, &db);
	/* A reader that can neither write the log's index nor find one cannot open a database in WAL mode.
	 * Where the log is empty the file alone is the whole catalogue. */
	if (read_only && ((rc & 0xFF) == SQLITE_CANTOPEN || (rc & 0xFF) == SQLITE_READONLY)) {
		if (!log_is_empty(path)) {
			sqlite3_close(db);
			return esk_fail(err, ESK_EACCES,
				"catalogue %s: its latest changes are in %s-wal, which cannot be read from a "
				"read-only directory; make the directory writable, or copy the store",
				path, path);
		}
		sqlite3_close(db);
		db = NULL;
		rc = open_once(path, flags, true, vfs, &db);
	}
	/* SQLite quietly opens a write-protected file for reading. */
	if (rc == SQLITE_OK && !read_only && sqlite3_db_readonly(db, "main") == 1)
		rc = SQLITE_READONLY;
	if (rc != SQLITE_OK) {
		esk_status status = esk_sql_fail(db, path, rc, "cannot be opened", err);
		sqlite3_close(db);
		return status;
	}
	*ret_db = db;
	return ESK_OK;
}

/* Two processes that switch a new database to WAL mode at once do not wait for each other by themselves. */
static int switch_to_wal(sqlite3 *db)
{
	uint64_t deadline = esk_monotonic_ns() + ESK_CATALOG_BUSY_TIMEOUT_MS * UINT64_C(1000000);
	for (;;) {
		int rc = sqlite3_exec(db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
		if ((rc & 0xFF) != SQLITE_BUSY || esk_monotonic_ns() > deadline)
			return rc;
		usleep(5000);
	}
}

static esk_status prepare_for_writing(sqlite3 *db, const char *path, esk_error *err)
{
	esk_status status = esk_sql_check_version(db, path, err);
	if (status != ESK_OK)
		return status;
	int rc = switch_to_wal(db);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(
			db, "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON", NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = esk_sql_add_functions(db);
	if (rc != SQLITE_OK)
		return esk_sql_fail(db, path, rc, "cannot be prepared for writing", err);
	return esk_sql_migrate(db, path, esk_migrations, esk_migration_count, err);
}

static esk_status prepare_for_reading(sqlite3 *db, const char *path, esk_error *err)
{
	esk_status status = esk_sql_adapt(db, path, err);
	if (status != ESK_OK)
		return status;
	int rc = sqlite3_exec(db, "PRAGMA query_only = ON", NULL, NULL, NULL);
	return rc == SQLITE_OK ? ESK_OK : esk_sql_fail(db, path, rc, "cannot be prepared for reading", err);
}

/* The empty file that makes the name ours; an empty file is an empty database. */
static esk_status claim(const char *path, esk_error *err)
{
	int fd;
	esk_status status = esk_os_open(esk_os_posix(), path, O_RDWR | O_CREAT | O_EXCL, 0666, &fd, err);
	if (status == ESK_OK)
		close(fd);
	return status;
}

static void remove_database(const char *path)
{
	static const char *const endings[] = {"-wal", "-shm", ""};
	for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
		char *name = sqlite3_mprintf("%s%s", path, endings[i]);
		if (name != NULL)
			unlink(name);
		sqlite3_free(name);
	}
}

static esk_status open_database(
	const char *path, esk_catalog_mode mode, const char *vfs, sqlite3 **ret_db, esk_error *err)
{
	sqlite3 *db;
	esk_fork_gate_enter();
	esk_status status = esk_sql_connect(path, mode == ESK_CATALOG_READ, vfs, &db, err);
	if (status == ESK_OK) {
		status = mode == ESK_CATALOG_READ ? prepare_for_reading(db, path, err)
						  : prepare_for_writing(db, path, err);
		if (status != ESK_OK)
			sqlite3_close(db);
	}
	esk_fork_gate_leave();
	if (status == ESK_OK)
		*ret_db = db;
	return status;
}

static void make_recursive_mutex(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t attributes;
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(mutex, &attributes);
	pthread_mutexattr_destroy(&attributes);
}

esk_status esk_catalog_open(
	const char *path, esk_catalog_mode mode, const char *vfs, esk_catalog **ret_catalog, esk_error *err)
{
	esk_status status = esk_fork_ready(err);
	if (status != ESK_OK)
		return status;
	esk_catalog *catalog = calloc(1, sizeof *catalog);
	char *kept_path = strdup(path);
	if (catalog == NULL || kept_path == NULL) {
		status = esk_fail_memory(err, sizeof *catalog + strlen(path), "a catalogue");
		goto memory;
	}
	if (mode == ESK_CATALOG_CREATE) {
		status = claim(path, err);
		if (status != ESK_OK)
			goto memory;
	}
	status = open_database(path, mode, vfs, &catalog->db, err);
	if (status != ESK_OK)
		goto database;
	if (mode == ESK_CATALOG_CREATE) {
		status = esk_os_sync_parent(esk_os_posix(), path, err);
		if (status != ESK_OK)
			goto sync;
	}
	catalog->path = kept_path;
	catalog->pid = getpid();
	make_recursive_mutex(&catalog->mutex);
	*ret_catalog = catalog;
	return ESK_OK;

sync:
	sqlite3_close(catalog->db);
database:
	if (mode == ESK_CATALOG_CREATE)
		remove_database(path);
memory:
	free(kept_path);
	free(catalog);
	return status;
}

void esk_catalog_close(esk_catalog *catalog)
{
	/* A child must not even close what it inherited: it would give up locks and a log that are the
	 * parent's. The memory is left. */
	if (catalog == NULL || catalog->pid != getpid())
		return;
	esk_catalog_rollback(catalog);
	esk_fork_gate_enter();
	for (int i = 0; i < ESK_SQL_COUNT; i++)
		sqlite3_finalize(catalog->statements[i]);
	sqlite3_close(catalog->db);
	esk_fork_gate_leave();
	pthread_mutex_destroy(&catalog->mutex);
	free(catalog->path);
	free(catalog);
}

const char *esk_catalog_engine_version(void)
{
	return sqlite3_libversion();
}

/* ---- transactions ---- */

static esk_status run_simple(esk_catalog *catalog, esk_sql_id id, const char *what, esk_error *err)
{
	esk_sql sql;
	esk_status status = esk_sql_start(&sql, catalog, id, what, err);
	return status == ESK_OK ? esk_sql_run(&sql, err) : status;
}

/* SQLite rolls back by itself after some errors (a full disk); then there is nothing left to do. */
static void undo(esk_catalog *catalog)
{
	if (!sqlite3_get_autocommit(catalog->db))
		run_simple(catalog, ESK_SQL_ROLLBACK, "rolling back", NULL);
}

static esk_status finish(esk_catalog *catalog, esk_error *err)
{
	esk_status status = run_simple(catalog, ESK_SQL_COMMIT, "committing", err);
	if (status != ESK_OK)
		undo(catalog);
	return status;
}

static esk_status lock(esk_catalog *catalog, esk_error *err)
{
	if (catalog->pid != getpid())
		return esk_fail(err, ESK_ECLOSED,
			"catalogue %s was opened by process %d: after fork a child opens its own",
			catalog->path, (int)catalog->pid);
	pthread_mutex_lock(&catalog->mutex);
	esk_fork_gate_enter();
	return ESK_OK;
}

static void unlock(esk_catalog *catalog)
{
	esk_fork_gate_leave();
	pthread_mutex_unlock(&catalog->mutex);
}

esk_status esk_sql_enter(esk_sql_scope *scope, esk_catalog *catalog, bool writes, esk_error *err)
{
	esk_status status = lock(catalog, err);
	if (status != ESK_OK)
		return status;
	*scope = (esk_sql_scope){catalog, writes, writes && !catalog->in_transaction};
	if (scope->own)
		status = run_simple(catalog, ESK_SQL_BEGIN, "beginning a transaction", err);
	else if (catalog->in_transaction && sqlite3_get_autocommit(catalog->db))
		status = esk_fail(err, ESK_EINVAL,
			"catalogue %s: the transaction was undone when an earlier call in it failed; roll "
			"back",
			catalog->path);
	if (status != ESK_OK)
		unlock(catalog);
	return status;
}

esk_status esk_sql_leave(esk_sql_scope *scope, esk_status status, esk_error *err)
{
	esk_catalog *catalog = scope->catalog;
	if (scope->own && status == ESK_OK)
		status = finish(catalog, err);
	else if (scope->own)
		undo(catalog);
	else if (scope->writes && status != ESK_OK)
		catalog->failed = true;
	unlock(catalog);
	return status;
}

esk_status esk_catalog_begin(esk_catalog *catalog, esk_error *err)
{
	esk_status status = lock(catalog, err);
	if (status != ESK_OK)
		return status;
	if (catalog->in_transaction)
		status = esk_fail(
			err, ESK_EINVAL, "catalogue %s: a transaction is already open", catalog->path);
	else
		status = run_simple(catalog, ESK_SQL_BEGIN, "beginning a transaction", err);
	if (status != ESK_OK) {
		unlock(catalog);
		return status;
	}
	catalog->in_transaction = true;
	catalog->failed = false;
	esk_fork_gate_leave(); /* the mutex stays with the caller until commit or rollback */
	return ESK_OK;
}

/* Ends the transaction, whose mutex this thread holds once more than it did before begin. */
static void end_transaction(esk_catalog *catalog)
{
	catalog->in_transaction = false;
	unlock(catalog);
	pthread_mutex_unlock(&catalog->mutex);
}

esk_status esk_catalog_commit(esk_catalog *catalog, esk_error *err)
{
	esk_status status = lock(catalog, err);
	if (status != ESK_OK)
		return status;
	if (!catalog->in_transaction) {
		unlock(catalog);
		return esk_fail(err, ESK_EINVAL, "catalogue %s: no transaction is open", catalog->path);
	}
	if (catalog->failed || sqlite3_get_autocommit(catalog->db)) {
		undo(catalog);
		status = esk_fail(err, ESK_EINVAL,
			"catalogue %s: a call in the transaction failed, so it was rolled back",
			catalog->path);
	} else {
		status = finish(catalog, err);
	}
	end_transaction(catalog);
	return status;
}

void esk_catalog_rollback(esk_catalog *catalog)
{
	if (lock(catalog, NULL) != ESK_OK)
		return;
	if (!catalog->in_transaction) {
		unlock(catalog);
		return;
	}
	undo(catalog);
	end_transaction(catalog);
}
