/* Read-only SQL for callers: implements esker/query.h but for esk_query_open, which knows the store.
 *
 * Four walls stand between a statement and a write, each sufficient by itself: the connection is opened
 * read-only, query_only is on, the authorizer lets only reading actions pass, and SQLite must call the
 * prepared statement read-only. The authorizer also keeps out what is read-only to SQLite but not to us
 * (ATTACH). May include: base, os, model. */
#include "catalog/connection.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

struct esk_query {
	sqlite3 *db;
	sqlite3_stmt *statement;
	char *path;
	pid_t pid;
	bool started; /* stepped since the last reset */
	bool has_row;
	bool done;
};

/* Pragmas that only tell; `argument`: they take what to tell about. */
static const struct {
	const char *name;
	bool argument;
} harmless_pragmas[] = {
	{"application_id", false},
	{"collation_list", false},
	{"compile_options", false},
	{"data_version", false},
	{"database_list", false},
	{"encoding", false},
	{"foreign_key_check", true},
	{"foreign_key_list", true},
	{"freelist_count", false},
	{"function_list", false},
	{"index_info", true},
	{"index_list", true},
	{"index_xinfo", true},
	{"integrity_check", true},
	{"module_list", false},
	{"page_count", false},
	{"page_size", false},
	{"pragma_list", false},
	{"quick_check", true},
	{"schema_version", false},
	{"table_info", true},
	{"table_list", true},
	{"table_xinfo", true},
	{"user_version", false},
};

static bool pragma_is_harmless(const char *name, const char *argument)
{
	for (size_t i = 0; i < sizeof harmless_pragmas / sizeof *harmless_pragmas; i++)
		if (strcasecmp(name, harmless_pragmas[i].name) == 0)
			return argument == NULL || harmless_pragmas[i].argument;
	return false;
}

static int authorize(void *arg, int action, const char *first, const char *second, const char *database,
	const char *trigger)
{
	switch (action) {
	case SQLITE_SELECT:
	case SQLITE_READ:
	case SQLITE_RECURSIVE:
		return SQLITE_OK;
	case SQLITE_FUNCTION:
		return strcasecmp(second, "load_extension") == 0 ? SQLITE_DENY : SQLITE_OK;
	case SQLITE_UPDATE:
		/* Asked when SQLite sets up a table-valued function (json_each, pragma_table_info) in memory.
		 * An UPDATE of the schema by the statement itself meets the other walls. */
		return strcmp(first, "sqlite_master") == 0 ? SQLITE_OK : SQLITE_DENY;
	case SQLITE_PRAGMA:
		return pragma_is_harmless(first, second) ? SQLITE_OK : SQLITE_DENY;
	default:
		return SQLITE_DENY;
	}
}

static esk_status refuse(sqlite3 *db, const char *what, const char *sql, esk_error *err)
{
	int at = -1;
#if SQLITE_VERSION_NUMBER >= 3038000
	at = sqlite3_error_offset(db);
#endif
	if (sqlite3_errcode(db) == SQLITE_AUTH)
		return esk_fail(err, ESK_EINVAL,
			"%s: the catalogue can only be read (SELECT, WITH, EXPLAIN, read-only PRAGMA): %s: "
			"\"%.200s\"",
			what, sqlite3_errmsg(db), sql);
	if (at >= 0)
		return esk_fail(err, ESK_EINVAL, "%s, byte %d: %s, at \"%.60s\"", what, at,
			sqlite3_errmsg(db), sql + at);
	return esk_fail(err, ESK_EINVAL, "%s: %s: \"%.200s\"", what, sqlite3_errmsg(db), sql);
}

/* A fault of the statement's text, as against one of the database. */
static bool is_fault_of_text(int rc)
{
	int primary = rc & 0xFF;
	return primary == SQLITE_ERROR || primary == SQLITE_AUTH || primary == SQLITE_TOOBIG ||
	       primary == SQLITE_MISMATCH || primary == SQLITE_RANGE;
}

/* Blanks, comments and semicolons may stand behind the statement. */
static esk_status check_tail(sqlite3 *db, const char *sql, const char *tail, esk_error *err)
{
	while (*tail != '\0') {
		sqlite3_stmt *second = NULL;
		const char *start = tail;
		int rc = sqlite3_prepare_v2(db, tail, -1, &second, &tail);
		sqlite3_finalize(second);
		if (rc != SQLITE_OK || second != NULL)
			return esk_fail(err, ESK_EINVAL,
				"query: expected one statement, found more text at byte %zu: \"%.60s\"",
				(size_t)(start - sql), start);
		if (tail == start)
			break;
	}
	return ESK_OK;
}

static esk_status prepare(esk_query *query, const char *sql, esk_error *err)
{
	const char *tail;
	int rc = sqlite3_prepare_v2(query->db, sql, -1, &query->statement, &tail);
	if (rc != SQLITE_OK)
		return is_fault_of_text(rc)
			       ? refuse(query->db, "query", sql, err)
			       : esk_sql_fail(query->db, query->path, rc, "preparing a query", err);
	if (query->statement == NULL)
		return esk_fail(err, ESK_EINVAL, "query: expected a statement, found \"%.60s\"", sql);
	if (!sqlite3_stmt_readonly(query->statement))
		return esk_fail(err, ESK_EINVAL,
			"query: the statement would write, but the catalogue can only be read: \"%.200s\"",
			sql);
	return check_tail(query->db, sql, tail, err);
}

static esk_status connect_and_prepare(esk_query *query, const char *sql, esk_error *err)
{
	esk_status status = esk_sql_connect(query->path, true, NULL, &query->db, err);
	if (status != ESK_OK)
		return status;
	status = esk_sql_check_version(query->db, query->path, err);
	if (status != ESK_OK)
		return status;
	status = esk_sql_adapt(query->db, query->path, err);
	if (status != ESK_OK && status != ESK_EVERSION) /* one that is too old is asked as it is */
		return status;
	int rc = sqlite3_db_config(query->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(query->db, "PRAGMA query_only = ON", NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_set_authorizer(query->db, authorize, NULL);
	if (rc != SQLITE_OK)
		return esk_sql_fail(query->db, query->path, rc, "preparing for reading", err);
	return prepare(query, sql, err);
}

esk_status esk_catalog_query(const char *path, const char *sql, esk_query **ret_query, esk_error *err)
{
	if (sql == NULL)
		return esk_fail(err, ESK_EINVAL, "query is NULL");
	esk_status status = esk_fork_ready(err);
	if (status != ESK_OK)
		return status;
	esk_query *query = calloc(1, sizeof *query);
	if (query == NULL)
		return esk_fail_memory(err, sizeof *query, "a query");
	query->pid = getpid();
	query->path = strdup(path);
	if (query->path == NULL) {
		status = esk_fail_memory(err, strlen(path) + 1, "a query");
		goto path;
	}
	esk_fork_gate_enter();
	status = connect_and_prepare(query, sql, err);
	esk_fork_gate_leave();
	if (status != ESK_OK)
		goto path;
	*ret_query = query;
	return ESK_OK;

path:
	esk_query_close(query);
	return status;
}

static esk_status enter(const esk_query *query, esk_error *err)
{
	if (query->pid != getpid())
		return esk_fail(err, ESK_ECLOSED,
			"the query was opened by process %d: after fork a child opens its own",
			(int)query->pid);
	esk_fork_gate_enter();
	return ESK_OK;
}

static int bind(sqlite3_stmt *statement, int index, const esk_value *value)
{
	switch (value->kind) {
	case ESK_NULL:
		return sqlite3_bind_null(statement, index);
	case ESK_INTEGER:
		return sqlite3_bind_int64(statement, index, value->integer);
	case ESK_REAL:
		return sqlite3_bind_double(statement, index, value->real);
	case ESK_TEXT:
		return sqlite3_bind_text64(statement, index, value->data != NULL ? value->data : "",
			value->data != NULL ? value->size : 0, SQLITE_TRANSIENT, SQLITE_UTF8);
	case ESK_BLOB:
		return sqlite3_bind_blob64(statement, index, value->data != NULL ? value->data : "",
			value->data != NULL ? value->size : 0, SQLITE_TRANSIENT);
	}
	return SQLITE_MISMATCH;
}

esk_status esk_query_bind(esk_query *query, int index, const esk_value *value, esk_error *err)
{
	esk_status status = enter(query, err);
	if (status != ESK_OK)
		return status;
	/* A parameter that changes starts the statement again. */
	if (query->started)
		sqlite3_reset(query->statement);
	query->started = query->has_row = query->done = false;
	int count = sqlite3_bind_parameter_count(query->statement);
	int rc = bind(query->statement, index, value);
	if (rc == SQLITE_RANGE)
		status = esk_fail(err, ESK_ERANGE, "query: parameter %d of %d", index, count);
	else if (rc == SQLITE_MISMATCH)
		status = esk_fail(err, ESK_EINVAL, "query: parameter %d has the unknown kind %d", index,
			(int)value->kind);
	else if (rc != SQLITE_OK)
		status = esk_sql_fail(query->db, query->path, rc, "binding a parameter", err);
	esk_fork_gate_leave();
	return status;
}

int esk_query_column_count(const esk_query *query)
{
	return query->pid == getpid() ? sqlite3_column_count(query->statement) : 0;
}

const char *esk_query_column_name(const esk_query *query, int column)
{
	const char *name = query->pid == getpid() ? sqlite3_column_name(query->statement, column) : NULL;
	return name != NULL ? name : "";
}

esk_status esk_query_step(esk_query *query, bool *ret_row, esk_error *err)
{
	esk_status status = enter(query, err);
	if (status != ESK_OK)
		return status;
	/* SQLite would run a finished statement again. */
	int rc = query->done ? SQLITE_DONE : sqlite3_step(query->statement);
	query->started = true;
	query->has_row = rc == SQLITE_ROW;
	if (rc == SQLITE_DONE && !query->done) {
		query->done = true;
		sqlite3_reset(query->statement); /* lets go of the snapshot */
	}
	if (rc == SQLITE_ROW || rc == SQLITE_DONE)
		*ret_row = query->has_row;
	else if (is_fault_of_text(rc))
		status = refuse(query->db, "query", sqlite3_sql(query->statement), err);
	else
		status = esk_sql_fail(query->db, query->path, rc, "running a query", err);
	esk_fork_gate_leave();
	return status;
}

esk_value esk_query_value(const esk_query *query, int column)
{
	esk_value value = {.kind = ESK_NULL};
	if (query->pid != getpid() || !query->has_row || column < 0 ||
		column >= sqlite3_column_count(query->statement))
		return value;
	esk_fork_gate_enter();
	switch (sqlite3_column_type(query->statement, column)) {
	case SQLITE_INTEGER:
		value.kind = ESK_INTEGER;
		value.integer = sqlite3_column_int64(query->statement, column);
		break;
	case SQLITE_FLOAT:
		value.kind = ESK_REAL;
		value.real = sqlite3_column_double(query->statement, column);
		break;
	case SQLITE_TEXT:
		value.kind = ESK_TEXT;
		value.data = (const char *)sqlite3_column_text(query->statement, column);
		value.size = (size_t)sqlite3_column_bytes(query->statement, column);
		break;
	case SQLITE_BLOB:
		value.kind = ESK_BLOB;
		value.data = sqlite3_column_blob(query->statement, column);
		value.size = (size_t)sqlite3_column_bytes(query->statement, column);
		break;
	default:
		break;
	}
	esk_fork_gate_leave();
	return value;
}

void esk_query_close(esk_query *query)
{
	/* As with a catalogue, what a child inherited is left alone. */
	if (query == NULL || query->pid != getpid())
		return;
	esk_fork_gate_enter();
	sqlite3_finalize(query->statement);
	sqlite3_close(query->db);
	esk_fork_gate_leave();
	free(query->path);
	free(query);
}
