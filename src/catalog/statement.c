/* The statements that a catalogue keeps prepared. May include: base, os, model. */
#include "catalog/connection.h"

#include <stdlib.h>
#include <string.h>

#define RUN_COLUMNS                                                                                         \
	"id, name, state, created_ns, updated_ns, rows, commit_number, sequence, ring_id, pid, pid_start, " \
	"metadata"

static const char *const texts[ESK_SQL_COUNT] = {
	[ESK_SQL_BEGIN] = "BEGIN IMMEDIATE",
	[ESK_SQL_COMMIT] = "COMMIT",
	[ESK_SQL_ROLLBACK] = "ROLLBACK",
	[ESK_SQL_SET_FACT] = "INSERT INTO facts (key, value) VALUES (?1, ?2)"
			     " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
	[ESK_SQL_GET_FACT] = "SELECT value FROM facts WHERE key = ?1",
	[ESK_SQL_FIND_RUN] = "SELECT id, metadata FROM runs WHERE name = ?1",
	[ESK_SQL_INSERT_RUN] =
		"INSERT INTO runs (name, state, created_ns, updated_ns, rows, commit_number, sequence, "
		"ring_id,"
		" pid, pid_start, metadata, ref)"
		" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, esk_run_ref(?1))",
	[ESK_SQL_UPDATE_RUN] =
		"UPDATE runs SET state = ?2, created_ns = ?3, updated_ns = ?4, rows = ?5, commit_number = ?6,"
		" sequence = ?7, ring_id = ?8, pid = ?9, pid_start = ?10, metadata = ifnull(?11, metadata)"
		" WHERE name = ?1",
	[ESK_SQL_GET_RUN] = "SELECT " RUN_COLUMNS " FROM runs WHERE name = ?1",
	[ESK_SQL_LIST_RUNS] = "SELECT " RUN_COLUMNS " FROM runs ORDER BY created_ns, id",
	[ESK_SQL_FINISH_RUN] = "UPDATE runs SET state = ?2 WHERE id = ?1 AND state = 0 AND pid = 0",
	[ESK_SQL_CLEAR_SEGMENTS] = "DELETE FROM segments WHERE run_id = ?1 AND pruned = 0",
	[ESK_SQL_CLEAR_STREAMS] = "DELETE FROM streams WHERE run_id = ?1",
	[ESK_SQL_CLEAR_GAPS] = "DELETE FROM gaps WHERE run_id = ?1",
	[ESK_SQL_DELETE_RUN] = "DELETE FROM runs WHERE name = ?1",
	[ESK_SQL_CLEAR_METADATA] = "DELETE FROM metadata WHERE run_id = ?1",
	[ESK_SQL_ADD_METADATA] = "INSERT INTO metadata (run_id, key, value) VALUES (?1, ?2, ?3)",
	[ESK_SQL_PUT_SEGMENT] =
		"INSERT INTO segments (run_id, number, file, sealed, created_ns, sealed_ns, bytes)"
		" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (run_id, number) DO UPDATE SET"
		" file = excluded.file, sealed = excluded.sealed, created_ns = excluded.created_ns,"
		" sealed_ns = excluded.sealed_ns, bytes = excluded.bytes",
	[ESK_SQL_GET_SEGMENTS] = "SELECT number, file, sealed, created_ns, sealed_ns, bytes FROM segments"
				 " WHERE run_id = ?1 AND pruned = 0 ORDER BY number",
	[ESK_SQL_PUT_STREAM] = "INSERT INTO streams (run_id, stream, name) VALUES (?1, ?2, ?3)"
			       " ON CONFLICT (run_id, stream) DO UPDATE SET name = excluded.name",
	[ESK_SQL_CLEAR_COLUMNS] = "DELETE FROM columns WHERE run_id = ?1 AND stream = ?2",
	[ESK_SQL_PUT_COLUMN] = "INSERT INTO columns (run_id, stream, position, name, path, dtype, shape,"
			       " nullable, codec, chunk_rows, units, long_name)"
			       " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
	[ESK_SQL_PUT_EXTENT] =
		"INSERT INTO extents (run_id, stream, segment, first_row, rows)"
		" VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (run_id, stream, segment) DO UPDATE SET"
		" first_row = excluded.first_row, rows = excluded.rows",
	[ESK_SQL_GET_EXTENTS] =
		"SELECT extents.stream, streams.name, segment, first_row, rows FROM extents"
		" JOIN streams ON streams.run_id = extents.run_id AND streams.stream = extents.stream"
		" JOIN segments ON segments.run_id = extents.run_id AND segments.number = segment AND pruned "
		"= 0"
		" WHERE extents.run_id = ?1 ORDER BY extents.stream, segment",
	[ESK_SQL_PRUNE] = "UPDATE segments SET pruned = 1 WHERE run_id = ?1 AND sealed AND pruned = 0"
			  " AND number NOT IN (SELECT number FROM segments WHERE run_id = ?1 AND sealed"
			  " ORDER BY number DESC LIMIT ?2)",
	[ESK_SQL_GET_PRUNED] = "SELECT run_id, number, file FROM segments WHERE pruned = 1",
	[ESK_SQL_PUT_GONE] = "UPDATE segments SET pruned = 2 WHERE run_id = ?1 AND number = ?2",
	[ESK_SQL_PUT_ITEM] = "INSERT OR REPLACE INTO items (run_id, item, path, segment, time_ns, rows, "
			     "joined, attributes)"
			     " VALUES (?1, ?2, ?3, ?4, ?5, ?6, nullif(?7, ''), ?8)",
	[ESK_SQL_COUNT_ITEMS] = "SELECT ifnull(max(item) + 1, 0) FROM items WHERE run_id = ?1",
	[ESK_SQL_CUT_ITEMS] = "DELETE FROM items WHERE run_id = ?1 AND item >= ?2",
	[ESK_SQL_PUT_GAP] =
		"INSERT INTO gaps (run_id, stream, row, records, rows, bytes, first_sequence, last_sequence,"
		" time_ns, cause) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
		" ON CONFLICT (run_id, ifnull(stream, -1), row, first_sequence, cause) DO UPDATE SET"
		" records = excluded.records, rows = excluded.rows, bytes = excluded.bytes,"
		" last_sequence = excluded.last_sequence, time_ns = excluded.time_ns",
};

esk_status esk_sql_start(esk_sql *sql, esk_catalog *catalog, esk_sql_id id, const char *what, esk_error *err)
{
	if (catalog->statements[id] == NULL) {
		int rc = sqlite3_prepare_v3(catalog->db, texts[id], -1, SQLITE_PREPARE_PERSISTENT,
			&catalog->statements[id], NULL);
		if (rc != SQLITE_OK)
			return esk_sql_fail(catalog->db, catalog->path, rc, what, err);
	}
	*sql = (esk_sql){catalog, catalog->statements[id], what, 1, SQLITE_OK};
	return ESK_OK;
}

static void bound(esk_sql *sql, int rc)
{
	if (sql->rc == SQLITE_OK)
		sql->rc = rc;
	sql->next++;
}

void esk_sql_bind_i64(esk_sql *sql, int64_t value)
{
	bound(sql, sqlite3_bind_int64(sql->statement, sql->next, value));
}

void esk_sql_bind_u64(esk_sql *sql, uint64_t value)
{
	esk_sql_bind_i64(sql, (int64_t)value);
}

void esk_sql_bind_real(esk_sql *sql, double value)
{
	bound(sql, sqlite3_bind_double(sql->statement, sql->next, value));
}

void esk_sql_bind_text(esk_sql *sql, const char *text)
{
	esk_sql_bind_bytes(sql, text, text != NULL ? strlen(text) : 0);
}

void esk_sql_bind_bytes(esk_sql *sql, const char *text, size_t size)
{
	bound(sql, sqlite3_bind_text64(sql->statement, sql->next, text, size, SQLITE_STATIC, SQLITE_UTF8));
}

esk_status esk_sql_step(esk_sql *sql, bool *ret_row, esk_error *err)
{
	int rc = sql->rc != SQLITE_OK ? sql->rc : sqlite3_step(sql->statement);
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		return esk_sql_fail(sql->catalog->db, sql->catalog->path, rc, sql->what, err);
	*ret_row = rc == SQLITE_ROW;
	return ESK_OK;
}

void esk_sql_reset(esk_sql *sql)
{
	sqlite3_reset(sql->statement);
	sqlite3_clear_bindings(sql->statement);
}

esk_status esk_sql_run(esk_sql *sql, esk_error *err)
{
	bool row;
	esk_status status = esk_sql_step(sql, &row, err);
	esk_sql_reset(sql);
	return status;
}

int64_t esk_sql_i64(const esk_sql *sql, int column)
{
	return sqlite3_column_int64(sql->statement, column);
}

uint64_t esk_sql_u64(const esk_sql *sql, int column)
{
	return (uint64_t)esk_sql_i64(sql, column);
}

esk_status esk_sql_copy(const esk_sql *sql, int column, char *buf, size_t buf_bytes, esk_error *err)
{
	const char *text = (const char *)sqlite3_column_text(sql->statement, column);
	size_t size = text != NULL ? strlen(text) : 0;
	if (size >= buf_bytes)
		return esk_fail(err, ESK_ECORRUPT,
			"catalogue %s: %s: a name of %zu bytes, at most %zu are possible; run `esker "
			"reindex`",
			sql->catalog->path, sql->what, size, buf_bytes - 1);
	memcpy(buf, text != NULL ? text : "", size + 1);
	return ESK_OK;
}

esk_status esk_sql_dup(const esk_sql *sql, int column, char **ret_text, esk_error *err)
{
	const char *text = (const char *)sqlite3_column_text(sql->statement, column);
	if (text == NULL) {
		*ret_text = NULL;
		return ESK_OK;
	}
	char *copy = strdup(text);
	if (copy == NULL)
		return esk_fail_memory(err, strlen(text) + 1, sql->what);
	*ret_text = copy;
	return ESK_OK;
}

esk_status esk_sql_change_begin(
	esk_sql_change *change, esk_catalog *catalog, esk_sql_id id, const char *what, esk_error *err)
{
	esk_status status = esk_sql_enter(&change->scope, catalog, true, err);
	if (status != ESK_OK)
		return status;
	status = esk_sql_start(&change->sql, catalog, id, what, err);
	return status == ESK_OK ? ESK_OK : esk_sql_leave(&change->scope, status, err);
}

esk_status esk_sql_change_run(esk_sql_change *change, esk_error *err)
{
	return esk_sql_leave(&change->scope, esk_sql_run(&change->sql, err), err);
}
