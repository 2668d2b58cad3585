/* The catalogue: read-only SQL, and what a forked child may do. */
#include "catalog_support.h"

/* ---- queries ---- */

static void queries_bind_and_return_every_kind_of_value(void **state)
{
	place *p = *state;
	esk_catalog_close(open_catalog(p->path, ESK_CATALOG_CREATE));
	esk_query *query;
	bool row = false;
	OK(esk_catalog_query(p->path, "SELECT ?1 AS one, ?2, ?3, ?4, ?5 -- and a comment\n;", &query, &err));
	assert_int_equal(esk_query_column_count(query), 5);
	assert_string_equal(esk_query_column_name(query, 0), "one");
	assert_string_equal(esk_query_column_name(query, 9), "");
	esk_value text = {.kind = ESK_TEXT, .data = "a\0b", .size = 3};
	esk_value values[] = {{.kind = ESK_INTEGER, .integer = INT64_MIN}, {.kind = ESK_REAL, .real = 0.5},
		text, {.kind = ESK_BLOB, .data = "\0\xff", .size = 2}, {.kind = ESK_NULL}};
	for (int i = 0; i < 5; i++)
		OK(esk_query_bind(query, i + 1, &values[i], &err));
	FAILS(ESK_ERANGE, "parameter 6 of 5", esk_query_bind(query, 6, &text, &err));
	FAILS(ESK_ERANGE, "parameter 0 of 5", esk_query_bind(query, 0, &text, &err));
	FAILS(ESK_EINVAL, "kind 77",
		esk_query_bind(query, 1, &(esk_value){.kind = (esk_value_kind)77}, &err));
	assert_int_equal(esk_query_value(query, 0).kind, ESK_NULL); /* no row yet */
	OK(esk_query_step(query, &row, &err));
	assert_true(row);
	assert_true(esk_query_value(query, 0).integer == INT64_MIN);
	assert_true(esk_query_value(query, 1).real == 0.5);
	esk_value found = esk_query_value(query, 2);
	assert_true(found.kind == ESK_TEXT && found.size == 3);
	assert_memory_equal(found.data, "a\0b", 4);
	found = esk_query_value(query, 3);
	assert_true(found.kind == ESK_BLOB && found.size == 2);
	assert_memory_equal(found.data, "\0\xff", 2);
	assert_int_equal(esk_query_value(query, 4).kind, ESK_NULL);
	assert_int_equal(esk_query_value(query, 5).kind, ESK_NULL);
	assert_int_equal(esk_query_value(query, -1).kind, ESK_NULL);
	for (int again = 0; again < 2; again++) {
		OK(esk_query_step(query, &row, &err));
		assert_false(row);
	}
	OK(esk_query_bind(query, 1, &text, &err)); /* starts again, the others stay */
	OK(esk_query_step(query, &row, &err));
	assert_true(row);
	assert_true(esk_query_value(query, 1).real == 0.5);
	esk_query_close(query);
	esk_query_close(NULL);
}

static void large_texts_pass_through_queries(void **state)
{
	place *p = *state;
	esk_catalog *catalog = open_catalog(p->path, ESK_CATALOG_CREATE);
	size_t size = 8u << 20;
	char *text = malloc(size + 1);
	memset(text, 'z', size);
	text[size] = '\0';
	OK(esk_catalog_set_fact(catalog, "big", text, &err));
	esk_catalog_close(catalog);
	esk_query *query;
	bool row = false;
	OK(esk_catalog_query(p->path, "SELECT value FROM facts WHERE value = ?", &query, &err));
	OK(esk_query_bind(query, 1, &(esk_value){.kind = ESK_TEXT, .data = text, .size = size}, &err));
	OK(esk_query_step(query, &row, &err));
	assert_true(row);
	assert_int_equal(esk_query_value(query, 0).size, size);
	assert_memory_equal(esk_query_value(query, 0).data, text, size);
	esk_query_close(query);
	free(text);
}

static void statements_that_only_read_are_let_through(void **state)
{
	place *p = *state;
	esk_catalog *catalog = open_catalog(p->path, ESK_CATALOG_CREATE);
	put_parts(catalog, put_some_run(catalog, "run"));
	static const char *const statements[] = {"SELECT * FROM runs",
		"select count(*) from v_columns where run='run'",
		"WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 9) SELECT i FROM n",
		"EXPLAIN SELECT 1", "EXPLAIN QUERY PLAN SELECT * FROM metadata WHERE key = 'a' AND value = 1",
		"PRAGMA table_info(runs)", "PRAGMA integrity_check", "PRAGMA user_version", "VALUES (1), (2)",
		"SELECT name FROM pragma_table_info('runs')", "SELECT key FROM json_each('{\"a\": 1}')",
		"SELECT json_extract(metadata, '$.a') FROM runs", "  ;; SELECT 1 ; /* done */ ; -- really",
		"SELECT max(created_ns) OVER (ORDER BY id) FROM runs", "SELECT name FROM sqlite_schema"};
	for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
		int64_t value;
		esk_error err = {0};
		if (ask(p->path, statements[i], &value, &err) != ESK_OK)
			fail_msg("%s: %s", statements[i], err.message);
	}
	esk_catalog_close(catalog);
}

static void statements_that_would_write_are_refused(void **state)
{
	place *p = *state;
	esk_catalog *catalog = open_catalog(p->path, ESK_CATALOG_CREATE);
	put_parts(catalog, put_some_run(catalog, "run"));
	char attach[160];
	snprintf(attach, sizeof attach, "ATTACH '%s/evil.db' AS evil", p->directory);
	const char *const statements[] = {"INSERT INTO facts VALUES ('a', 'b')", "UPDATE runs SET rows = 5",
		"UPDATE sqlite_master SET sql = ''", "UPDATE sqlite_schema SET sql = ''", "DELETE FROM runs",
		"DROP TABLE runs", "CREATE TABLE t (x)", "CREATE TEMP TABLE t (x)",
		"ALTER TABLE runs ADD COLUMN x", "REPLACE INTO facts VALUES ('a', 'b')", "VACUUM", "REINDEX",
		"ANALYZE", "BEGIN", "BEGIN IMMEDIATE", "COMMIT", "SAVEPOINT s", attach,
		"ATTACH ':memory:' AS m", "DETACH main", "PRAGMA user_version = 7",
		"PRAGMA journal_mode = DELETE", "PRAGMA query_only = OFF", "PRAGMA writable_schema = ON",
		"PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA optimize", "PRAGMA temp_store_directory = '/tmp'",
		"PRAGMA main.application_id = 1", "EXPLAIN DELETE FROM runs",
		"WITH a AS (SELECT 1) DELETE FROM runs", "INSERT INTO facts VALUES ('a', 'b') RETURNING key",
		"SELECT load_extension('x')", "VACUUM INTO '/tmp/esk-never.db'",
		"CREATE VIRTUAL TABLE t USING fts5(x)"};
	for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
		int64_t value;
		esk_error err = {0};
		esk_status status = ask(p->path, statements[i], &value, &err);
		if (status != ESK_EINVAL || err.message[0] == '\0')
			fail_msg("%s: %s %s", statements[i], esk_status_name(status), err.message);
	}
	put_some_run(catalog, "after"); /* none of them kept a lock */
	esk_catalog_close(catalog);
	assert_int_equal(answer(p->path, "SELECT count(*) FROM runs"), 2);
	assert_int_equal(answer(p->path, "SELECT count(*) FROM facts"), 0);
}

static void faulty_statements_are_refused_with_a_position(void **state)
{
	place *p = *state;
	esk_catalog_close(open_catalog(p->path, ESK_CATALOG_CREATE));
	esk_query *query = NULL;
	FAILS(ESK_EINVAL, "byte 9", esk_catalog_query(p->path, "SELECT 1; DROP TABLE runs", &query, &err));
	FAILS(ESK_EINVAL, "byte 9", esk_catalog_query(p->path, "SELECT 1; SELECT 2", &query, &err));
	FAILS(ESK_EINVAL, "byte 9", esk_catalog_query(p->path, "SELECT 1; nonsense", &query, &err));
	FAILS(ESK_EINVAL, "byte 7", esk_catalog_query(p->path, "SELECT nope FROM runs", &query, &err));
	FAILS(ESK_EINVAL, "no such table", esk_catalog_query(p->path, "SELECT 1 FROM nowhere", &query, &err));
	FAILS(ESK_EINVAL, "expected a statement", esk_catalog_query(p->path, "", &query, &err));
	FAILS(ESK_EINVAL, "expected a statement", esk_catalog_query(p->path, " -- nothing", &query, &err));
	FAILS(ESK_EINVAL, "NULL", esk_catalog_query(p->path, NULL, &query, &err));
	int64_t value;
	FAILS(ESK_EINVAL, "malformed JSON", ask(p->path, "SELECT json_extract('{', '$.a')", &value, &err));
	FAILS(ESK_ENOTFOUND, "nowhere.db", esk_catalog_query("/tmp/nowhere.db", "SELECT 1", &query, &err));
}

static void queries_see_committed_rows_while_another_process_records(void **state)
{
	place *p = *state;
	esk_catalog_close(open_catalog(p->path, ESK_CATALOG_CREATE));
	writer w = {.path = p->path};
	uint64_t acknowledged = 0, rows;
	assert_int_equal(pipe(w.pipe), 0);
	pid_t pid = start_child(write_until_killed, &w);
	close(w.pipe[1]);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(read(w.pipe[0], &rows, sizeof rows), sizeof rows);
		acknowledged = rows;
		assert_true(answer(p->path, "SELECT rows FROM runs") >= (int64_t)acknowledged);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(w.pipe[0]);
}

/* As the user nobody where this runs as root, whom permissions do not stop. */
static int query_a_read_only_directory(void *arg)
{
	place *p = arg;
	int64_t value = 0;
	esk_error err = {0};
	if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
		return 2;
	esk_status status = ask(p->path, "SELECT count(*) FROM runs", &value, &err);
	esk_catalog *catalog;
	if (status == ESK_OK &&
		esk_catalog_open(p->path, ESK_CATALOG_WRITE, NULL, &catalog, &err) != ESK_EACCES)
		return 3;
	if (status == ESK_OK && esk_catalog_open(p->path, ESK_CATALOG_READ, NULL, &catalog, &err) == ESK_OK)
		esk_catalog_close(catalog);
	else if (status == ESK_OK)
		return 4;
	if (status != ESK_OK)
		fprintf(stderr, "%s\n", err.message);
	return status == ESK_OK && value == 1 ? 0 : status == ESK_EACCES ? 13 : 1;
}

static void a_read_only_directory_can_be_queried(void **state)
{
	place *p = *state;
	snprintf(p->path, sizeof p->path, "%s/odd%%?#.db", p->directory);
	esk_catalog *catalog = open_catalog(p->path, ESK_CATALOG_CREATE);
	put_some_run(catalog, "run");
	esk_catalog_close(catalog);
	chmod(p->path, 0444);
	chmod(p->directory, 0555);
	child_succeeds(start_child(query_a_read_only_directory, p));
	/* With changes that only the log has, an old answer would be a wrong one. */
	char log[128];
	snprintf(log, sizeof log, "%s-wal", p->path);
	chmod(p->directory, 0755);
	FILE *file = fopen(log, "w");
	fputs("pretended changes", file);
	fclose(file);
	chmod(log, 0);
	chmod(p->directory, 0555);
	pid_t pid = start_child(query_a_read_only_directory, p);
	int result;
	waitpid(pid, &result, 0);
	assert_int_equal(WEXITSTATUS(result), 13);
	chmod(p->directory, 0755);
}

/* ---- fork ---- */

typedef struct inherited {
	const char *path;
	esk_catalog *catalog;
	esk_query *query;
	int go[2];
} inherited;

static int use_what_was_inherited(void *arg)
{
	inherited *i = arg;
	esk_run_record run = some_run("child");
	esk_value value = {.kind = ESK_NULL};
	bool row;
	int64_t count = 0;
	if (esk_catalog_put_run(i->catalog, &run, NULL) != ESK_ECLOSED ||
		esk_catalog_begin(i->catalog, NULL) != ESK_ECLOSED ||
		esk_catalog_commit(i->catalog, NULL) != ESK_ECLOSED ||
		esk_catalog_get_run(i->catalog, "run", &run, NULL) != ESK_ECLOSED ||
		esk_query_step(i->query, &row, NULL) != ESK_ECLOSED ||
		esk_query_bind(i->query, 1, &value, NULL) != ESK_ECLOSED ||
		esk_query_value(i->query, 0).kind != ESK_NULL || esk_query_column_count(i->query) != 0)
		return 1;
	esk_catalog_rollback(i->catalog);
	esk_catalog_close(i->catalog);
	esk_query_close(i->query);
	/* Its own ones work, for reading and for writing. */
	esk_catalog *own;
	if (ask(i->path, "SELECT count(*) FROM runs", &count, NULL) != ESK_OK || count != 1)
		return 2;
	if (esk_catalog_open(i->path, ESK_CATALOG_WRITE, NULL, &own, NULL) != ESK_OK ||
		esk_catalog_put_run(own, &run, NULL) != ESK_OK)
		return 3;
	esk_catalog_close(own);
	return 0;
}

static void a_child_gets_closed_handles_and_opens_its_own(void **state)
{
	place *p = *state;
	inherited i = {.path = p->path, .catalog = open_catalog(p->path, ESK_CATALOG_CREATE)};
	put_some_run(i.catalog, "run");
	bool row;
	OK(esk_catalog_query(p->path, "SELECT name FROM runs WHERE ?1 IS NULL", &i.query, &err));
	OK(esk_query_step(i.query, &row, &err));
	assert_true(row);
	child_succeeds(start_child(use_what_was_inherited, &i));
	assert_string_equal(esk_query_value(i.query, 0).data, "run"); /* the parent's are untouched */
	esk_query_close(i.query);
	put_some_run(i.catalog, "more");
	assert_int_equal(answer(p->path, "SELECT count(*) FROM runs"), 3);
	esk_catalog_close(i.catalog);
}

static int query_at_the_signal(void *arg)
{
	inherited *i = arg;
	char byte;
	int64_t count = 0;
	close(i->go[1]);
	if (read(i->go[0], &byte, 1) != 0)
		return 2;
	esk_error err = {0};
	if (ask(i->path, "SELECT count(*) FROM runs", &count, &err) != ESK_OK) {
		fprintf(stderr, "%s\n", err.message);
		return 3;
	}
	return count == 51 ? 0 : 4;
}

/* Guards against SQLite in the child using the parent's notes about a log that is gone since. */
static void a_child_reads_the_log_of_today_not_the_one_it_inherited(void **state)
{
	place *p = *state;
	inherited i = {.path = p->path, .catalog = open_catalog(p->path, ESK_CATALOG_CREATE)};
	put_some_run(i.catalog, "run");
	assert_int_equal(pipe(i.go), 0);
	pid_t pid = start_child(query_at_the_signal, &i);
	close(i.go[0]);
	esk_catalog_close(i.catalog); /* removes the log and its shared memory */
	i.catalog = open_catalog(p->path, ESK_CATALOG_WRITE);
	for (int n = 0; n < 50; n++) {
		char name[16];
		snprintf(name, sizeof name, "late%d", n);
		put_some_run(i.catalog, name);
	}
	close(i.go[1]);
	child_succeeds(pid);
	esk_catalog_close(i.catalog);
}

typedef struct busy_thread {
	esk_catalog *catalog;
	const char *path;
	_Atomic bool stop;
	esk_status status;
} busy_thread;

static void *keep_writing(void *arg)
{
	busy_thread *b = arg;
	esk_run_record run = some_run("busy");
	while (!b->stop && b->status == ESK_OK) {
		run.rows++;
		b->status = esk_catalog_put_run(b->catalog, &run, NULL);
	}
	return NULL;
}

/* Opening is where SQLite holds its process-wide mutexes longest. */
static void *keep_opening(void *arg)
{
	busy_thread *b = arg;
	int64_t count;
	while (!b->stop && b->status == ESK_OK)
		b->status = ask(b->path, "SELECT count(*) FROM v_runs", &count, NULL);
	return NULL;
}

static int query_once(void *arg)
{
	inherited *i = arg;
	int64_t count = 0;
	alarm(5);
	return ask(i->path, "SELECT count(*) FROM runs", &count, NULL) == ESK_OK && count == 2 ? 0 : 1;
}

static void fork_while_threads_are_inside_leaves_no_child_hanging(void **state)
{
#if defined(__SANITIZE_ADDRESS__)
	skip(); /* a sanitizer's own allocator does not survive a fork beside busy threads */
#endif
	place *p = *state;
	inherited i = {.path = p->path, .catalog = open_catalog(p->path, ESK_CATALOG_CREATE)};
	put_some_run(i.catalog, "run");
	put_some_run(i.catalog, "busy");
	busy_thread b[3] = {{.catalog = i.catalog}, {.path = p->path}, {.path = p->path}};
	pthread_t threads[3];
	for (int t = 0; t < 3; t++)
		assert_int_equal(
			pthread_create(&threads[t], NULL, t == 0 ? keep_writing : keep_opening, &b[t]), 0);
	for (int n = 0; n < 100; n++)
		child_succeeds(start_child(query_once, &i));
	for (int t = 0; t < 3; t++) {
		b[t].stop = true;
		pthread_join(threads[t], NULL);
		assert_int_equal(b[t].status, ESK_OK);
	}
	esk_catalog_close(i.catalog);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(queries_bind_and_return_every_kind_of_value),
		TEST(large_texts_pass_through_queries),
		TEST(statements_that_only_read_are_let_through),
		TEST(statements_that_would_write_are_refused),
		TEST(faulty_statements_are_refused_with_a_position),
		TEST(queries_see_committed_rows_while_another_process_records),
		TEST(a_read_only_directory_can_be_queried),
		TEST(a_child_gets_closed_handles_and_opens_its_own),
		TEST(a_child_reads_the_log_of_today_not_the_one_it_inherited),
		TEST(fork_while_threads_are_inside_leaves_no_child_hanging),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
