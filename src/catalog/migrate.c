/* Bringing a database to the version of this library, and refusing what is none or newer.
 * May include: base, os, model. */
#include "catalog/connection.h"

#include <stdio.h>
#include <string.h>

static void run_ref(sqlite3_context *context, int count, sqlite3_value **values)
{
	static const char dataset[] = "/x"; /* a ref names one; it is taken off again */
	esk_ref ref = {.path = "x"};
	char text[4 * ESK_MAX_NAME];
	const char *name = (const char *)sqlite3_value_text(values[0]);
	snprintf(ref.run, sizeof ref.run, "%s", name != NULL ? name : "");
	size_t size = esk_ref_format(&ref, text, sizeof text);
	sqlite3_result_text(context, text, (int)(size - strlen(dataset)), SQLITE_TRANSIENT);
}

int esk_sql_add_functions(sqlite3 *db)
{
	return sqlite3_create_function_v2(db, "esk_run_ref", 1,
		SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_DIRECTONLY, NULL, run_ref, NULL, NULL, NULL);
}

static int read_number(sqlite3 *db, const char *query, int64_t *ret_value)
{
	sqlite3_stmt *statement;
	int rc = sqlite3_prepare_v2(db, query, -1, &statement, NULL);
	if (rc != SQLITE_OK)
		return rc;
	if (sqlite3_step(statement) == SQLITE_ROW)
		*ret_value = sqlite3_column_int64(statement, 0);
	return sqlite3_finalize(statement);
}

/* Version 0 is an empty database. */
static esk_status read_version(sqlite3 *db, const char *path, int64_t *ret_version, esk_error *err)
{
	int64_t version = 0, application = 0, objects = 0;
	/* One snapshot for all three: another process may be migrating. */
	int rc = sqlite3_exec(db, "SAVEPOINT version", NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = read_number(db, "PRAGMA user_version", &version);
	if (rc == SQLITE_OK)
		rc = read_number(db, "PRAGMA application_id", &application);
	if (rc == SQLITE_OK)
		rc = read_number(db, "SELECT count(*) FROM sqlite_schema", &objects);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(db, "RELEASE version", NULL, NULL, NULL);
	if (rc != SQLITE_OK)
		return esk_sql_fail(db, path, rc, "its version cannot be read", err);
	bool empty = version == 0 && application == 0 && objects == 0;
	if (!empty && (application != ESK_CATALOG_APPLICATION_ID || version < 1))
		return esk_fail(err, ESK_ECORRUPT,
			"catalogue %s: expected application id 0x%x, found 0x%llx: a database of another "
			"program; move it away and run `esker reindex`",
			path, ESK_CATALOG_APPLICATION_ID, (unsigned long long)application);
	*ret_version = version;
	return ESK_OK;
}

static esk_status check_version(sqlite3 *db, const char *path, int64_t *ret_version, esk_error *err)
{
	esk_status status = read_version(db, path, ret_version, err);
	if (status != ESK_OK || *ret_version <= esk_migration_count)
		return status;
	return esk_fail(err, ESK_EVERSION,
		"catalogue %s has version %lld, this Esker knows up to %d: use a newer Esker", path,
		(long long)*ret_version, esk_migration_count);
}

esk_status esk_sql_check_version(sqlite3 *db, const char *path, esk_error *err)
{
	int64_t version;
	return check_version(db, path, &version, err);
}

esk_status esk_sql_adapt(sqlite3 *db, const char *path, esk_error *err)
{
	int64_t version = 0;
	esk_status status = check_version(db, path, &version, err);
	if (status != ESK_OK)
		return status;
	if (version == 0)
		return esk_fail(err, ESK_ECORRUPT,
			"catalogue %s is an empty file; run `esker reindex` to build it anew from the files",
			path);
	int rc = version < esk_migration_count
			 ? sqlite3_exec(db, "PRAGMA temp_store = MEMORY", NULL, NULL, NULL)
			 : SQLITE_OK;
	for (int64_t i = version; i < esk_migration_count && rc == SQLITE_OK; i++) {
		if (esk_migrations[i].reading == NULL)
			return esk_fail(err, ESK_EVERSION,
				"catalogue %s has version %lld, expected %d: open the store once for writing "
				"to migrate it",
				path, (long long)version, esk_migration_count);
		rc = sqlite3_exec(db, esk_migrations[i].reading, NULL, NULL, NULL);
	}
	return rc == SQLITE_OK ? ESK_OK : esk_sql_fail(db, path, rc, "an older version cannot be read", err);
}

static int apply(sqlite3 *db, const esk_migration *migrations, int64_t from, int count, const char **ret_name)
{
	int rc = SQLITE_OK;
	for (int64_t i = from; i < count && rc == SQLITE_OK; i++) {
		*ret_name = migrations[i].name;
		rc = sqlite3_exec(db, migrations[i].sql, NULL, NULL, NULL);
	}
	if (rc != SQLITE_OK)
		return rc;
	char *marks = sqlite3_mprintf(
		"PRAGMA application_id = %d; PRAGMA user_version = %d", ESK_CATALOG_APPLICATION_ID, count);
	rc = marks != NULL ? sqlite3_exec(db, marks, NULL, NULL, NULL) : SQLITE_NOMEM;
	sqlite3_free(marks);
	return rc;
}

esk_status esk_sql_migrate(
	sqlite3 *db, const char *path, const esk_migration *migrations, int count, esk_error *err)
{
	int64_t version;
	esk_status status = read_version(db, path, &version, err);
	if (status != ESK_OK || version >= count)
		return status;
	const char *name = "beginning the migration";
	int rc = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
	if (rc != SQLITE_OK)
		return esk_sql_fail(db, path, rc, name, err);
	/* Whoever was first may have done it while this one waited. */
	status = read_version(db, path, &version, err);
	if (status != ESK_OK)
		goto version;
	if (version < count)
		rc = apply(db, migrations, version, count, &name);
	if (rc == SQLITE_OK) {
		name = "committing the migration";
		rc = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
	}
	if (rc == SQLITE_OK)
		return ESK_OK;
	status = esk_sql_fail(db, path, rc, name, err);

version:
	if (!sqlite3_get_autocommit(db))
		sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	return status;
}
