/* Facts and runs. May include: base, os, model. */
#include "catalog/connection.h"

#include <stdlib.h>
#include <string.h>

/* ---- facts ---- */

esk_status esk_catalog_set_fact(esk_catalog *catalog, const char *key, const char *value, esk_error *err)
{
	esk_sql_change change;
	esk_status status = esk_sql_change_begin(&change, catalog, ESK_SQL_SET_FACT, "storing a fact", err);
	if (status != ESK_OK)
		return status;
	esk_sql_bind_text(&change.sql, key);
	esk_sql_bind_text(&change.sql, value);
	return esk_sql_change_run(&change, err);
}

static esk_status get_fact(esk_catalog *catalog, const char *key, char **ret_value, esk_error *err)
{
	esk_sql sql;
	bool found;
	esk_status status = esk_sql_start(&sql, catalog, ESK_SQL_GET_FACT, "reading a fact", err);
	if (status != ESK_OK)
		return status;
	esk_sql_bind_text(&sql, key);
	status = esk_sql_step(&sql, &found, err);
	if (status == ESK_OK && !found)
		status = esk_fail(
			err, ESK_ENOTFOUND, "catalogue %s: there is no fact \"%s\"", catalog->path, key);
	if (status == ESK_OK)
		status = esk_sql_dup(&sql, 0, ret_value, err);
	esk_sql_reset(&sql);
	return status;
}

esk_status esk_catalog_get_fact(esk_catalog *catalog, const char *key, char **ret_value, esk_error *err)
{
	esk_sql_scope scope;
	esk_status status = esk_sql_enter(&scope, catalog, false, err);
	if (status != ESK_OK)
		return status;
	status = get_fact(catalog, key, ret_value, err);
	return esk_sql_leave(&scope, status, err);
}

/* ---- runs ---- */

void esk_run_record_clear(esk_run_record *record)
{
	free(record->metadata);
	*record = (esk_run_record){0};
}

/* *ret_id is 0 where there is no run of that name. */
static esk_status find_run(esk_catalog *catalog, const esk_run_record *record, int64_t *ret_id,
	bool *ret_same_metadata, esk_error *err)
{
	esk_sql sql;
	bool found;
	esk_status status = esk_sql_start(&sql, catalog, ESK_SQL_FIND_RUN, "looking up a run", err);
	if (status != ESK_OK)
		return status;
	esk_sql_bind_text(&sql, record->name);
	status = esk_sql_step(&sql, &found, err);
	if (status == ESK_OK) {
		const char *stored = found ? (const char *)sqlite3_column_text(sql.statement, 1) : NULL;
		*ret_id = found ? esk_sql_i64(&sql, 0) : 0;
		*ret_same_metadata =
			record->metadata == NULL || (stored != NULL && strcmp(stored, record->metadata) == 0);
	}
	esk_sql_reset(&sql);
	return status;
}

static esk_status store_run(esk_catalog *catalog, const esk_run_record *record, esk_sql_id id, esk_error *err)
{
	esk_sql sql;
	esk_status status = esk_sql_start(&sql, catalog, id, "storing a run", err);
	if (status != ESK_OK)
		return status;
	esk_sql_bind_text(&sql, record->name);
	esk_sql_bind_i64(&sql, record->state);
	esk_sql_bind_i64(&sql, record->created_ns);
	esk_sql_bind_i64(&sql, record->updated_ns);
	esk_sql_bind_u64(&sql, record->rows);
	esk_sql_bind_u64(&sql, record->commit);
	esk_sql_bind_u64(&sql, record->sequence);
	esk_sql_bind_u64(&sql, record->ring_id);
	esk_sql_bind_i64(&sql, record->pid);
	esk_sql_bind_u64(&sql, record->pid_start);
	esk_sql_bind_text(&sql, record->metadata);
	return esk_sql_run(&sql, err);
}

static esk_status put_run(esk_catalog *catalog, const esk_run_record *record, int64_t *ret_id, esk_error *err)
{
	int64_t id;
	bool same_metadata;
	esk_status status = find_run(catalog, record, &id, &same_metadata, err);
	if (status != ESK_OK)
		return status;
	status = store_run(catalog, record, id == 0 ? ESK_SQL_INSERT_RUN : ESK_SQL_UPDATE_RUN, err);
	if (status != ESK_OK)
		return status;
	if (id == 0)
		id = sqlite3_last_insert_rowid(catalog->db);
	if (!same_metadata)
		status = esk_sql_mirror_metadata(catalog, id, record->metadata, err);
	if (status == ESK_OK)
		*ret_id = id;
	return status;
}

esk_status esk_catalog_put_run(esk_catalog *catalog, esk_run_record *record, esk_error *err)
{
	esk_status status = esk_name_check(record->name, "run", err);
	if (status != ESK_OK)
		return status;
	esk_sql_scope scope;
	status = esk_sql_enter(&scope, catalog, true, err);
	if (status != ESK_OK)
		return status;
	int64_t id = 0;
	status = put_run(catalog, record, &id, err);
	status = esk_sql_leave(&scope, status, err);
	if (status == ESK_OK)
		record->id = id;
	return status;
}

static esk_status read_run(const esk_sql *sql, esk_run_record *ret_record, esk_error *err)
{
	esk_run_record record = {
		.id = esk_sql_i64(sql, 0),
		.state = (esk_run_state)esk_sql_i64(sql, 2),
		.created_ns = esk_sql_i64(sql, 3),
		.updated_ns = esk_sql_i64(sql, 4),
		.rows = esk_sql_u64(sql, 5),
		.commit = esk_sql_u64(sql, 6),
		.sequence = esk_sql_u64(sql, 7),
		.ring_id = esk_sql_u64(sql, 8),
		.pid = esk_sql_i64(sql, 9),
		.pid_start = esk_sql_u64(sql, 10),
	};
	esk_status status = esk_sql_copy(sql, 1, record.name, sizeof record.name, err);
	if (status == ESK_OK)
		status = esk_sql_dup(sql, 11, &record.metadata, err);
	if (status == ESK_OK)
		*ret_record = record;
	return status;
}

static esk_status get_run(esk_catalog *catalog, const char *name, esk_run_record *ret_record, esk_error *err)
{
	esk_sql sql;
	bool found;
	esk_status status = esk_sql_start(&sql, catalog, ESK_SQL_GET_RUN, "reading a run", err);
	if (status != ESK_OK)
		return status;
	esk_sql_bind_text(&sql, name);
	status = esk_sql_step(&sql, &found, err);
	if (status == ESK_OK && !found)
		status = esk_fail(
			err, ESK_ENOTFOUND, "catalogue %s: there is no run \"%.200s\"", catalog->path, name);
	if (status == ESK_OK)
		status = read_run(&sql, ret_record, err);
	esk_sql_reset(&sql);
	return status;
}

esk_status esk_catalog_get_run(
	esk_catalog *catalog, const char *name, esk_run_record *ret_record, esk_error *err)
{
	esk_sql_scope scope;
	esk_status status = esk_sql_enter(&scope, catalog, false, err);
	if (status != ESK_OK)
		return status;
	status = get_run(catalog, name, ret_record, err);
	return esk_sql_leave(&scope, status, err);
}

typedef struct run_list {
	esk_run_record *records;
	size_t count;
	size_t capacity;
} run_list;

static void free_runs(run_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		esk_run_record_clear(&list->records[i]);
	free(list->records);
}

static esk_status add_run(run_list *list, const esk_sql *sql, esk_error *err)
{
	if (list->count == list->capacity) {
		size_t capacity = list->capacity == 0 ? 16 : list->capacity * 2;
		esk_run_record *grown = realloc(list->records, capacity * sizeof *grown);
		if (grown == NULL)
			return esk_fail_memory(err, capacity * sizeof *grown, "the list of runs");
		list->records = grown;
		list->capacity = capacity;
	}
	esk_status status = read_run(sql, &list->records[list->count], err);
	if (status == ESK_OK)
		list->count++;
	return status;
}

static esk_status list_runs(esk_catalog *catalog, run_list *list, esk_error *err)
{
	esk_sql sql;
	bool more;
	esk_status status = esk_sql_start(&sql, catalog, ESK_SQL_LIST_RUNS, "listing the runs", err);
	if (status != ESK_OK)
		return status;
	for (;;) {
		status = esk_sql_step(&sql, &more, err);
		if (status != ESK_OK || !more)
			break;
		status = add_run(list, &sql, err);
		if (status != ESK_OK)
			break;
	}
	esk_sql_reset(&sql);
	return status;
}

esk_status esk_catalog_visit_runs(esk_catalog *catalog,
	esk_status (*visit)(void *arg, const esk_run_record *record, esk_error *err), void *arg,
	esk_error *err)
{
	esk_sql_scope scope;
	esk_status status = esk_sql_enter(&scope, catalog, false, err);
	if (status != ESK_OK)
		return status;
	run_list list = {0};
	status = list_runs(catalog, &list, err);
	status = esk_sql_leave(&scope, status, err);
	/* Outside: `visit` may use the catalogue. */
	for (size_t i = 0; i < list.count && status == ESK_OK; i++)
		status = visit(arg, &list.records[i], err);
	free_runs(&list);
	return status;
}

esk_status esk_catalog_delete_run(esk_catalog *catalog, const char *name, esk_error *err)
{
	esk_sql_scope scope;
	esk_status status = esk_sql_enter(&scope, catalog, true, err);
	if (status != ESK_OK)
		return status;
	esk_sql sql;
	status = esk_sql_start(&sql, catalog, ESK_SQL_DELETE_RUN, "deleting a run", err);
	if (status == ESK_OK) {
		esk_sql_bind_text(&sql, name);
		status = esk_sql_run(&sql, err);
	}
	bool found = status == ESK_OK && sqlite3_changes(catalog->db) != 0;
	status = esk_sql_leave(&scope, status, err);
	/* Nothing was there and nothing changed: a transaction around the call goes on. */
	if (status == ESK_OK && !found)
		return esk_fail(
			err, ESK_ENOTFOUND, "catalogue %s: there is no run \"%.200s\"", catalog->path, name);
	return status;
}

esk_status esk_catalog_clear_run(esk_catalog *catalog, int64_t run_id, esk_error *err)
{
	static const esk_sql_id ids[] = {ESK_SQL_CLEAR_SEGMENTS, ESK_SQL_CLEAR_STREAMS, ESK_SQL_CLEAR_GAPS};
	esk_sql_scope scope;
	esk_status status = esk_sql_enter(&scope, catalog, true, err);
	if (status != ESK_OK)
		return status;
	for (size_t i = 0; i < sizeof ids / sizeof *ids && status == ESK_OK; i++) {
		esk_sql sql;
		status = esk_sql_start(&sql, catalog, ids[i], "clearing a run", err);
		if (status == ESK_OK) {
			esk_sql_bind_i64(&sql, run_id);
			status = esk_sql_run(&sql, err);
		}
	}
	return esk_sql_leave(&scope, status, err);
}

esk_status esk_catalog_finish_run(esk_catalog *catalog, int64_t run_id, esk_run_state state, esk_error *err)
{
	esk_sql_change change;
	esk_status status = esk_sql_change_begin(&change, catalog, ESK_SQL_FINISH_RUN, "storing a run", err);
	if (status != ESK_OK)
		return status;
	esk_sql_bind_i64(&change.sql, run_id);
	esk_sql_bind_i64(&change.sql, state);
	return esk_sql_change_run(&change, err);
}
