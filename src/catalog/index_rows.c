/* Rows of indexed streams in tables with the key (run_id, row). May include: base, os, model. */
#include "catalog/connection.h"

#include <stdlib.h>
#include <string.h>

/* ---- does the table take the columns? ---- */

static bool takes(const char *type, const esk_index_field *field)
{
	esk_kind kind = field->dtype.kind;
	bool text = !field->presence && (kind == ESK_STRING || kind == ESK_STRING_N);
	bool real = !field->presence && (kind == ESK_F16 || kind == ESK_F32 || kind == ESK_F64);
	if (strcmp(type, "TEXT") == 0)
		return text;
	if (strcmp(type, "INTEGER") == 0)
		return !text && !real;
	return strcmp(type, "REAL") == 0 ? !text : true; /* or ANY */
}

static const esk_index_field *field_named(const esk_index_spec *spec, const char *name)
{
	for (size_t f = 0; f < spec->count; f++)
		if (strcasecmp(spec->fields[f].name, name) == 0)
			return &spec->fields[f];
	return NULL;
}

/* Looks at one column of the table: name, type, whether it may be NULL, place in the key. */
static esk_status check_column(const esk_index_spec *spec, sqlite3_stmt *s, size_t *found, esk_error *err)
{
	const char *name = (const char *)sqlite3_column_text(s, 0);
	const char *type = (const char *)sqlite3_column_text(s, 1);
	bool needed = sqlite3_column_int(s, 2) != 0, key = sqlite3_column_int(s, 3) != 0;
	const esk_index_field *field = field_named(spec, name);
	if (key && field != NULL)
		return esk_fail(err, ESK_EINVAL, "index: field \"%s\" of table \"%s\" is set by Esker", name,
			spec->table);
	if (needed && !key && (field == NULL || (field->nullable && !field->presence)))
		return esk_fail(err, ESK_EINVAL,
			"index: field \"%s\" of table \"%s\" needs a column that is not nullable", name,
			spec->table);
	if (field == NULL)
		return ESK_OK;
	char dtype[32];
	esk_dtype_format(field->dtype, dtype, sizeof dtype);
	(*found)++;
	return takes(type, field) ? ESK_OK
				  : esk_fail(err, ESK_ETYPE,
					    "index: field \"%s\" of table \"%s\" takes %s, its column is %s",
					    name, spec->table, type, dtype);
}

static esk_status unknown_field(const esk_index_spec *spec, sqlite3_stmt *s, esk_error *err)
{
	for (size_t f = 0; f < spec->count; f++) {
		bool known = false;
		sqlite3_reset(s);
		while (!known && sqlite3_step(s) == SQLITE_ROW)
			known = strcasecmp((const char *)sqlite3_column_text(s, 0), spec->fields[f].name) ==
				0;
		if (!known)
			return esk_fail(err, ESK_EINVAL, "index: table \"%s\" has no field \"%s\"",
				spec->table, spec->fields[f].name);
	}
	return ESK_OK;
}

static esk_status check(esk_catalog *catalog, const esk_index_spec *spec, esk_error *err)
{
	static const char text[] = "SELECT name, type, \"notnull\", pk FROM pragma_table_info(?1)";
	sqlite3_stmt *s;
	size_t found = 0, keys = 0;
	int rc = sqlite3_prepare_v2(catalog->db, text, -1, &s, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(s, 1, spec->table, -1, SQLITE_STATIC);
	esk_status status = ESK_OK;
	while (rc == SQLITE_OK && status == ESK_OK && (rc = sqlite3_step(s)) == SQLITE_ROW) {
		const char *name = (const char *)sqlite3_column_text(s, 0);
		int place = sqlite3_column_int(s, 3);
		keys += (place == 1 && strcmp(name, "run_id") == 0) ||
			(place == 2 && strcmp(name, "row") == 0);
		rc = SQLITE_OK;
		status = check_column(spec, s, &found, err);
	}
	if (rc != SQLITE_OK && rc != SQLITE_DONE)
		status = esk_sql_fail(catalog->db, catalog->path, rc, "looking at a table", err);
	else if (status != ESK_EINVAL && status != ESK_ETYPE && keys != 2)
		status = esk_fail(err, ESK_EINVAL,
			"index: the catalogue has no table \"%s\" with the key (run_id, row)", spec->table);
	else if (status == ESK_OK && found < spec->count)
		status = unknown_field(spec, s, err);
	sqlite3_finalize(s);
	return status;
}

esk_status esk_catalog_index_check(esk_catalog *catalog, const esk_index_spec *spec, esk_error *err)
{
	esk_sql_scope scope;
	esk_status status = esk_sql_enter(&scope, catalog, false, err);
	if (status != ESK_OK)
		return status;
	return esk_sql_leave(&scope, check(catalog, spec, err), err);
}

/* ---- statements, made for a call: names of tables and fields are letters, digits and '_' ---- */

static esk_status prepare(
	esk_catalog *catalog, const esk_text *text, esk_sql *sql, const char *what, esk_error *err)
{
	*sql = (esk_sql){.catalog = catalog, .what = what, .next = 1};
	if (text->failed)
		return esk_fail_memory(err, 1, what);
	int rc = sqlite3_prepare_v2(catalog->db, text->data, -1, &sql->statement, NULL);
	return rc == SQLITE_OK ? ESK_OK : esk_sql_fail(catalog->db, catalog->path, rc, what, err);
}

esk_status esk_catalog_index_rows(
	esk_catalog *catalog, const esk_index_spec *spec, int64_t run_id, uint64_t *ret_rows, esk_error *err)
{
	esk_sql_scope scope;
	esk_sql sql;
	esk_text text = {0};
	bool row = false;
	esk_status status = esk_sql_enter(&scope, catalog, false, err);
	if (status != ESK_OK)
		return status;
	esk_text_add(&text, "SELECT ifnull(max(row) + 1, 0) FROM %s WHERE run_id = ?1", spec->table);
	status = prepare(catalog, &text, &sql, "counting indexed rows", err);
	if (status == ESK_OK) {
		esk_sql_bind_i64(&sql, run_id);
		status = esk_sql_step(&sql, &row, err);
	}
	if (status == ESK_OK)
		*ret_rows = row ? esk_sql_u64(&sql, 0) : 0;
	sqlite3_finalize(sql.statement);
	esk_text_free(&text);
	return esk_sql_leave(&scope, status, err);
}

esk_status esk_catalog_index_cut(
	esk_catalog *catalog, const esk_index_spec *spec, int64_t run_id, uint64_t rows, esk_error *err)
{
	esk_sql_scope scope;
	esk_sql sql;
	esk_text text = {0};
	bool row;
	esk_status status = esk_sql_enter(&scope, catalog, true, err);
	if (status != ESK_OK)
		return status;
	esk_text_add(&text, "DELETE FROM %s WHERE run_id = ?1 AND row >= ?2", spec->table);
	status = prepare(catalog, &text, &sql, "cutting indexed rows", err);
	if (status == ESK_OK) {
		esk_sql_bind_i64(&sql, run_id);
		esk_sql_bind_u64(&sql, rows);
		status = esk_sql_step(&sql, &row, err);
	}
	sqlite3_finalize(sql.statement);
	esk_text_free(&text);
	return esk_sql_leave(&scope, status, err);
}

static void bind_value(esk_sql *sql, const esk_value *value)
{
	switch (value->kind) {
	case ESK_INTEGER:
		esk_sql_bind_i64(sql, value->integer);
		break;
	case ESK_REAL:
		esk_sql_bind_real(sql, value->real); /* a NaN becomes NULL */
		break;
	case ESK_TEXT:
		esk_sql_bind_bytes(sql, value->data, value->size);
		break;
	default:
		esk_sql_bind_text(sql, NULL);
		break;
	}
}

static esk_status put_row(esk_sql *sql, const esk_index_spec *spec, int64_t run_id, uint64_t row,
	const uint8_t **at, const uint8_t *end, esk_error *err)
{
	bool more;
	sql->next = 1;
	esk_sql_bind_i64(sql, run_id);
	esk_sql_bind_u64(sql, row);
	for (size_t f = 0; f < spec->count; f++) {
		esk_value value;
		if (!esk_index_unpack(&spec->fields[f], at, end, &value))
			return esk_fail(err, ESK_EINTERNAL, "index: row %llu of table \"%s\" is cut off",
				(unsigned long long)row, spec->table);
		bind_value(sql, &value);
	}
	esk_status status = esk_sql_step(sql, &more, err);
	sqlite3_reset(sql->statement);
	return status;
}

esk_status esk_catalog_index_put(esk_catalog *catalog, const esk_index_spec *spec, int64_t run_id,
	uint64_t first_row, uint64_t rows, const uint8_t *packed, size_t packed_bytes, esk_error *err)
{
	esk_sql_scope scope;
	esk_sql sql;
	esk_text text = {0};
	esk_status status = esk_sql_enter(&scope, catalog, true, err);
	if (status != ESK_OK)
		return status;
	esk_text_add(&text, "INSERT INTO %s (run_id, row", spec->table);
	for (size_t f = 0; f < spec->count; f++)
		esk_text_add(&text, ", %s", spec->fields[f].name);
	esk_text_add(&text, ") VALUES (?, ?");
	for (size_t f = 0; f < spec->count; f++)
		esk_text_add(&text, ", ?");
	esk_text_add(&text, ")");
	status = prepare(catalog, &text, &sql, "storing indexed rows", err);
	const uint8_t *at = packed;
	for (uint64_t i = 0; i < rows && status == ESK_OK; i++)
		status = put_row(&sql, spec, run_id, first_row + i, &at, packed + packed_bytes, err);
	sqlite3_finalize(sql.statement);
	esk_text_free(&text);
	return esk_sql_leave(&scope, status, err);
}
