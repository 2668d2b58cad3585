/* The catalogue: round trips, metadata, transactions, migrations, several processes, faults of the system.
 *
 * Random tests print their seed and take it from the first argument or ESK_SEED. */
#include "catalog_support.h"

static uint64_t seed;

static void raw_sql(const char *path, const char *sql)
{
	sqlite3 *db;
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

/* ---- round trips ---- */

static void facts_are_kept_and_replaced(void **state)
{
	place *p = *state;
	esk_catalog *catalog = open_catalog(p->path, ESK_CATALOG_CREATE);
	char *value = NULL;
	FAILS(ESK_ENOTFOUND, "store_id", esk_catalog_get_fact(catalog, "store_id", &value, &err));
	OK(esk_catalog_set_fact(catalog, "store_id", "a", &err));
	OK(esk_catalog_set_fact(catalog, "store_id", "b", &err));
	OK(esk_catalog_get_fact(catalog, "store_id", &value, &err));
	assert_string_equal(value, "b");
	free(value);
	esk_catalog_close(catalog);
	esk_catalog_close(NULL);
}

static void runs_come_back_with_every_field_after_reopening(void **state)
{
	place *p = *state;
	esk_catalog *catalog = open_catalog(p->path, ESK_CATALOG_CREATE);
	esk_run_record run = {.state = ESK_RUN_FINISHED,
		.created_ns = -5,
		.updated_ns = INT64_MAX,
		.rows = 7,
		.commit = 8,
		.sequence = 9,
		.ring_id = UINT64_MAX - 3,
		.pid = 4711,
		.pid_start = UINT64_MAX,
		.metadata = (char *)"{\"note\": \"\\u00fc\"}"};
	snprintf(run.name, sizeof run.name, "Lauf ü 'quoted' \"1\"; --");
	OK(esk_catalog_put_run(catalog, &run, &err));
	int64_t id = run.id;
	assert_true(id > 0);
	run.rows = 70;
	run.metadata = NULL; /* leaves what is stored */
	OK(esk_catalog_put_run(catalog, &run, &err));
	assert_int_equal(run.id, id);
	esk_catalog_close(catalog);

	static const esk_catalog_mode modes[] = {ESK_CATALOG_WRITE, ESK_CATALOG_READ};
	for (size_t i = 0; i < 2; i++) {
		catalog = open_catalog(p->path, modes[i]);
		esk_run_record found = {0};
		OK(esk_catalog_get_run(catalog, run.name, &found, &err));
		assert_string_equal(found.metadata, "{\"note\": \"\\u00fc\"}");
		free(found.metadata);
		found.metadata = NULL;
		run.id = id;
		assert_string_equal(found.name, run.name);
		assert_int_equal(found.id, id);
		assert_int_equal(found.state, run.state);
		assert_true(found.created_ns == -5 && found.updated_ns == INT64_MAX);
		assert_true(found.rows == 70 && found.commit == 8 && found.sequence == 9);
		assert_true(found.ring_id == UINT64_MAX - 3 && found.pid_start == UINT64_MAX &&
			    found.pid == 4711);
		FAILS(ESK_ENOTFOUND, "\"other\"", esk_catalog_get_run(catalog, "other", &found, &err));
		esk_catalog_close(catalog);
	}
}

static void bad_run_names_are_refused(void **state)
{
	place *p = *state;
	esk_catalog *catalog = open_catalog(p->path, ESK_CATALOG_CREATE);
	static const char *const names[] = {"", "a/b", ".hidden", "tab\there", "\xff"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		esk_run_record run = some_run(names[i]);
		FAILS(ESK_EINVAL, "run", esk_catalog_put_run(catalog, &run, &err));
	}
	esk_catalog_close(catalog);
}

typedef struct visited {
	esk_catalog *catalog;
	char names[64];
	int stop_after;
} visited;

static esk_status note_visit(void *arg, const esk_run_record *record, esk_error *err)
{
	visited *v = arg;
	size_t size = strlen(v->names);
	snprintf(v->names + size, sizeof v->names - size, "%.8s", record->name);
	if (--v->stop_after == 0)
		return esk_fail(err, ESK_ERANGE, "enough");
	return esk_catalog_set_fact(v->catalog, "visited", record->name, err); /* may use the catalogue */
}

static void runs_are_visited_in_order_of_creation(void **state)
{
	place *p = *state;
	esk_catalog *catalog = open_catalog(p->path, ESK_CATALOG_CREATE);
	static const char *const names[] = {"c", "a", "b"};
	for (int i = 0; i < 3; i++) {
		esk_run_record run = some_run(names[i]);
		run.created_ns = 100 - i;
		OK(esk_catalog_put_run(catalog, &run, &err));
	}
	visited v = {.catalog = catalog};
	OK(esk_catalog_visit_runs(catalog, note_visit, &v, &err));
	assert_string_equal(v.names, "bac");
	v = (visited){.catalog = catalog, .stop_after = 2};
	FAILS(ESK_ERANGE, "enough", esk_catalog_visit_runs(catalog, note_visit, &v, &err));
	assert_string_equal(v.names, "ba");
	esk_catalog_close(catalog);
}

static void parts_of_a_run_come_back_in_order(void **state)
{
	place *p = *state;
	esk_catalog *catalog = open_catalog(p->path, ESK_CATALOG_CREATE);
	int64_t id = put_some_run(catalog, "run");
	put_parts(catalog, id);
	esk_segment_record *segments;
	esk_extent_record *extents;
	size_t count;
	OK(esk_catalog_get_segments(catalog, id, &segments, &count, &err));
	assert_int_equal(count, 2);
	assert_true(segments[0].number == 0 && segments[0].sealed && segments[0].sealed_ns == 6);
	assert_true(segments[1].number == 1 && !segments[1].sealed && segments[1].bytes == 100);
	assert_string_equal(segments[1].file, "run_1.h5");
	free(segments);
	OK(esk_catalog_get_extents(catalog, id, &extents, &count, &err));
	assert_int_equal(count, 3);
	assert_true(extents[1].stream == 0 && extents[1].segment == 1 && extents[1].first_row == 10);
	assert_true(extents[2].stream == 1 && extents[2].rows == 3);
	assert_string_equal(extents[0].stream_name, "/");
	assert_string_equal(extents[2].stream_name, "imu");
	free(extents);
	OK(esk_catalog_get_extents(catalog, id + 1, &extents, &count, &err));
	assert_int_equal(count, 0);
	free(extents);
	esk_catalog_close(catalog);

	answers_text(p->path,
		"SELECT group_concat(path || ' ' || dtype || shape || nullable || codec, ';') FROM columns",
		"frames u8[210,160,3]0gzip:1;note str[]1;z f64[]0;imu/frames u8[210,160,3]0gzip:1");
	answers_text(p->path, "SELECT units || long_name FROM columns WHERE name = 'z'", "m/sspeed");
	assert_int_equal(answer(p->path, "SELECT count(*) FROM gaps"), 2);
	assert_int_equal(answer(p->path, "SELECT bytes FROM gaps WHERE stream IS NULL AND cause = 0"), 700);
	assert_int_equal(answer(p->path, "SELECT bytes FROM v_runs"), 200);
	answers_text(p->path, "SELECT created FROM v_runs", "1970-01-01T00:00:00.000Z");
	answers_text(p->path, "SELECT cause FROM v_gaps WHERE stream = 'imu'", "damaged");
	assert_int_equal(answer(p->path, "SELECT rows FROM v_columns WHERE path = 'frames'"), 20);
	assert_int_equal(answer(p->path, "SELECT count(*) FROM v_segments WHERE sealed_at IS NULL"), 1);
}

static void deleting_a_run_takes_all_that_belongs_to_it(void **state)
{
	place *p = *state;
	esk_catalog *catalog = open_catalog(p->path, ESK_CATALOG_CREATE);
	esk_run_record run = some_run("run");
	run.metadata = (char *)"{\"a\": 1}";
	OK(esk_catalog_put_run(catalog, &run, &err));
	put_parts(catalog, run.id);
	put_parts(catalog, put_some_run(catalog, "other"));
	FAILS(ESK_ENOTFOUND, "\"no\"", esk_catalog_delete_run(catalog, "no", &err));
	OK(esk_catalog_delete_run(catalog, "other", &err));
	assert_int_equal(answer(p->path, "SELECT count(*) FROM columns"), 4);
	OK(esk_catalog_delete_run(catalog, "run", &err));
	esk_catalog_close(catalog);
	static const char *const tables[] = {
		"runs", "metadata", "segments", "streams", "columns", "extents", "gaps"};
	for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
		char sql[64];
		snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", tables[i]);
		assert_int_equal(answer(p->path, sql), 0);
	}
}

static void parts_of_what_is_unknown_are_refused(void **state)
{
	place *p = *state;
	esk_catalog *catalog = open_catalog(p->path, ESK_CATALOG_CREATE);
	int64_t id = put_some_run(catalog, "run");
	esk_segment_record segment = {.file = "x.h5"};
	esk_gap_record gap = {.stream = -1};
	FAILS(ESK_ENOTFOUND, "not in the catalogue",
		esk_catalog_put_segment(catalog, id + 1, &segment, &err));
	FAILS(ESK_ENOTFOUND, "not in the catalogue", esk_catalog_put_extent(catalog, id, 0, 0, 0, 1, &err));
	FAILS(ESK_ENOTFOUND, "not in the catalogue", esk_catalog_put_gap(catalog, id + 1, &gap, &err));
	esk_column column = {.name = "c", .dtype = {ESK_U8, 2}};
	FAILS(ESK_EINVAL, "\"c\"", esk_catalog_put_stream(catalog, id, 0, "/", &column, 1, &err));
	FAILS(ESK_EINVAL, "stream", esk_catalog_put_stream(catalog, id, 0, "a/../b", &column, 0, &err));
	esk_catalog_close(catalog);
}

/* ---- metadata ---- */

static void scalar_metadata_is_mirrored_and_replaced(void **state)
{
	place *p = *state;
	esk_catalog *catalog = open_catalog(p->path, ESK_CATALOG_CREATE);
	esk_run_record run = some_run("run");
	run.metadata = (char *)"{\"lr\": 0.25, \"n\": 3, \"env\": \"Breakout\\u0000x\", \"ok\": true, "
			       "\"off\": false,"
			       " \"none\": null, \"list\": [1], \"object\": {\"a\": 1}, \"env\": \"Pong\"}";
	OK(esk_catalog_put_run(catalog, &run, &err));
	assert_int_equal(answer(p->path, "SELECT count(*) FROM metadata"), 5);
	assert_int_equal(
		answer(p->path, "SELECT run_id FROM metadata WHERE key = 'lr' AND value > 0.2"), run.id);
	assert_int_equal(answer(p->path, "SELECT value FROM metadata WHERE key = 'n'"), 3);
	assert_int_equal(answer(p->path, "SELECT value FROM metadata WHERE key = 'ok'"), 1);
	answers_text(p->path, "SELECT value FROM metadata WHERE key = 'env'", "Pong");
	answers_text(p->path, "SELECT typeof(value) FROM metadata WHERE key = 'lr'", "real");
	run.metadata = (char *)"{\"seed\": 18446744073709551615, \"n\": 4}";
	OK(esk_catalog_put_run(catalog, &run, &err));
	assert_int_equal(answer(p->path, "SELECT count(*) FROM metadata"), 2);
	answers_text(p->path, "SELECT typeof(value) FROM metadata WHERE key = 'n'", "integer");
	assert_int_equal(answer(p->path, "SELECT value > 1.8e19 FROM metadata WHERE key = 'seed'"), 1);
	esk_catalog_close(catalog);
}

static void bad_metadata_is_refused_with_its_position_and_changes_nothing(void **state)
{
	place *p = *state;
	esk_catalog *catalog = open_catalog(p->path, ESK_CATALOG_CREATE);
	esk_run_record run = some_run("run");
	run.metadata = (char *)"{\"a\": 1}";
	OK(esk_catalog_put_run(catalog, &run, &err));
	static const struct {
		const char *json, *message;
	} cases[] = {{"{\"a\": 1,\n \"b\": }", "line 2, column"}, {"", "line 1"}, {"[1]", "object at byte 0"},
		{" 5", "object at byte 1"}, {"{\"a\": NaN}", "line 1"}, {"{} x", "line 1"},
		{"{\"a\": 1e999}", "line 1"}, {"{\"a\": \"\xff\"}", "line 1"}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		run.metadata = (char *)cases[i].json;
		run.rows = 99;
		FAILS(ESK_EINVAL, cases[i].message, esk_catalog_put_run(catalog, &run, &err));
	}
	char *deep = malloc(200001);
	memset(deep, '[', 200000);
	deep[200000] = '\0';
	run.metadata = deep;
	FAILS(ESK_EINVAL, "metadata", esk_catalog_put_run(catalog, &run, &err));
	free(deep);
	assert_int_equal(answer(p->path, "SELECT rows FROM runs"), 0);
	assert_int_equal(answer(p->path, "SELECT value FROM metadata WHERE key = 'a'"), 1);
	esk_catalog_close(catalog);
}

/* ---- transactions ---- */

static void a_transaction_is_kept_or_undone_as_a_whole(void **state)
{
	place *p = *state;
	esk_catalog *catalog = open_catalog(p->path, ESK_CATALOG_CREATE);
	OK(esk_catalog_begin(catalog, &err));
	FAILS(ESK_EINVAL, "already open", esk_catalog_begin(catalog, &err));
	put_parts(catalog, put_some_run(catalog, "one"));
	assert_int_equal(answer(p->path, "SELECT count(*) FROM runs"), 0); /* not yet */
	OK(esk_catalog_commit(catalog, &err));
	assert_int_equal(answer(p->path, "SELECT count(*) FROM runs"), 1);

	OK(esk_catalog_begin(catalog, &err));
	FAILS(ESK_ENOTFOUND, "\"no\"", esk_catalog_delete_run(catalog, "no", &err)); /* is no failure of it */
	OK(esk_catalog_commit(catalog, &err));

	OK(esk_catalog_begin(catalog, &err));
	put_some_run(catalog, "two");
	esk_catalog_rollback(catalog);
	esk_catalog_rollback(catalog); /* nothing is open: no harm */
	FAILS(ESK_EINVAL, "no transaction", esk_catalog_commit(catalog, &err));

	OK(esk_catalog_begin(catalog, &err));
	put_some_run(catalog, "three");
	esk_segment_record segment = {.file = "x"};
	FAILS(ESK_ENOTFOUND, "segment", esk_catalog_put_segment(catalog, 99, &segment, &err));
	FAILS(ESK_EINVAL, "rolled back", esk_catalog_commit(catalog, &err));
	assert_int_equal(answer(p->path, "SELECT count(*) FROM runs"), 1);
	put_some_run(catalog, "four"); /* it goes on */
	OK(esk_catalog_begin(catalog, &err));
	put_some_run(catalog, "five");
	esk_catalog_close(catalog); /* undoes what is open */
	assert_int_equal(answer(p->path, "SELECT count(*) FROM runs"), 2);
}

typedef struct worker {
	esk_catalog *catalog;
	int number;
	esk_status status;
} worker;

static void *increment(void *arg)
{
	worker *w = arg;
	for (int i = 0; i < 50 && w->status == ESK_OK; i++) {
		char *value = NULL, text[32];
		w->status = esk_catalog_begin(w->catalog, NULL);
		if (w->status != ESK_OK)
			break;
		w->status = esk_catalog_get_fact(w->catalog, "n", &value, NULL);
		snprintf(text, sizeof text, "%d", value != NULL ? atoi(value) + 1 : -1);
		free(value);
		if (w->status == ESK_OK)
			w->status = esk_catalog_set_fact(w->catalog, "n", text, NULL);
		if (i % 5 == 4 && w->status == ESK_OK) {
			esk_catalog_rollback(w->catalog);
			continue;
		}
		if (w->status == ESK_OK)
			w->status = esk_catalog_commit(w->catalog, NULL);
	}
	return NULL;
}

static void threads_never_write_into_each_others_transactions(void **state)
{
	place *p = *state;
	esk_catalog *catalog = open_catalog(p->path, ESK_CATALOG_CREATE);
	OK(esk_catalog_set_fact(catalog, "n", "0", &err));
	pthread_t threads[4];
	worker workers[4] = {{0}};
	for (int i = 0; i < 4; i++) {
		workers[i].catalog = catalog;
		assert_int_equal(pthread_create(&threads[i], NULL, increment, &workers[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(workers[i].status, ESK_OK);
	}
	char *value;
	OK(esk_catalog_get_fact(catalog, "n", &value, &err));
	assert_string_equal(value, "160");
	free(value);
	esk_catalog_close(catalog);
}

/* ---- opening, versions, damage ---- */

static int file_byte(const char *path, long at)
{
	FILE *file = fopen(path, "rb");
	assert_non_null(file);
	fseek(file, at, SEEK_SET);
	int byte = fgetc(file);
	fclose(file);
	return byte;
}

static void create_and_open_check_what_is_there(void **state)
{
	place *p = *state;
	esk_catalog *catalog = NULL;
	FAILS(ESK_ENOTFOUND, p->path, esk_catalog_open(p->path, ESK_CATALOG_WRITE, NULL, &catalog, &err));
	FAILS(ESK_ENOTFOUND, p->path, esk_catalog_open(p->path, ESK_CATALOG_READ, NULL, &catalog, &err));
	assert_int_equal(access(p->path, F_OK), -1); /* looking for it did not make it */
	esk_catalog_close(open_catalog(p->path, ESK_CATALOG_CREATE));
	FAILS(ESK_EEXIST, p->path, esk_catalog_open(p->path, ESK_CATALOG_CREATE, NULL, &catalog, &err));
	FAILS(ESK_ENOTFOUND, "/nowhere/",
		esk_catalog_open("/nowhere/esker.db", ESK_CATALOG_CREATE, NULL, &catalog, &err));
	catalog = open_catalog(p->path, ESK_CATALOG_READ);
	esk_run_record run = some_run("run");
	FAILS(ESK_EACCES, "catalogue", esk_catalog_put_run(catalog, &run, &err));
	esk_catalog_close(catalog);
	assert_string_equal(esk_catalog_engine_version(), sqlite3_libversion());
}

static void odd_paths_mean_themselves(void **state)
{
	place *p = *state;
	int back = open(".", O_RDONLY | O_DIRECTORY);
	assert_int_equal(chdir(p->directory), 0);
	static const char *const names[] = {":memory:", "file:x?mode=memory", "a%20b#c?immutable=1", "ü"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		esk_catalog *catalog = open_catalog(names[i], ESK_CATALOG_CREATE);
		put_some_run(catalog, "run");
		esk_catalog_close(catalog);
		struct stat info;
		assert_int_equal(stat(names[i], &info), 0);
		assert_true(info.st_size > 0);
		assert_int_equal(answer(names[i], "SELECT count(*) FROM runs"), 1);
	}
	assert_int_equal(fchdir(back), 0);
	close(back);
}

static void an_empty_file_becomes_a_catalogue(void **state)
{
	place *p = *state;
	close(open(p->path, O_CREAT | O_WRONLY, 0644));
	esk_catalog *catalog = NULL;
	FAILS(ESK_ECORRUPT, "reindex", esk_catalog_open(p->path, ESK_CATALOG_READ, NULL, &catalog, &err));
	catalog = open_catalog(p->path, ESK_CATALOG_WRITE);
	put_some_run(catalog, "run");
	esk_catalog_close(catalog);
	assert_int_equal(answer(p->path, "PRAGMA user_version"), esk_migration_count);
	assert_int_equal(answer(p->path, "PRAGMA application_id"), ESK_CATALOG_APPLICATION_ID);
	assert_int_equal(file_byte(p->path, 18), 2); /* the header says WAL */
}

static void make_version_1(const char *path)
{
	sqlite3 *db;
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	OK(esk_sql_migrate(db, path, esk_migrations, 1, &err));
	assert_int_equal(
		sqlite3_exec(db,
			"INSERT INTO runs VALUES (1, 'old', 1, 5, 6, 7, 8, 9, 10, 11, 12, '{\"a\":1}')", NULL,
			NULL, NULL),
		SQLITE_OK);
	sqlite3_close(db);
}

static void an_older_catalogue_is_migrated_with_its_rows(void **state)
{
	place *p = *state;
	make_version_1(p->path);
	esk_catalog *catalog = NULL;
	FAILS(ESK_EVERSION, "for writing", esk_catalog_open(p->path, ESK_CATALOG_READ, NULL, &catalog, &err));
	assert_int_equal(answer(p->path, "SELECT rows FROM runs"), 7); /* plain queries work before */
	catalog = open_catalog(p->path, ESK_CATALOG_WRITE);
	esk_run_record run = {0};
	OK(esk_catalog_get_run(catalog, "old", &run, &err));
	assert_true(run.rows == 7 && run.pid_start == 12);
	esk_run_record_clear(&run);
	esk_catalog_close(catalog);
	assert_int_equal(answer(p->path, "SELECT rows FROM v_runs WHERE name = 'old'"), 7);
}

static void a_migration_that_fails_leaves_the_version_before(void **state)
{
	place *p = *state;
	static const esk_migration broken[] = {{"001_good.sql", "CREATE TABLE good (x)", NULL},
		{"002_bad.sql", "CREATE TABLE half (x); CREATE nonsense", NULL}};
	sqlite3 *db;
	assert_int_equal(sqlite3_open(p->path, &db), SQLITE_OK);
	OK(esk_sql_migrate(db, p->path, broken, 1, &err));
	FAILS(ESK_ECORRUPT, "002_bad.sql", esk_sql_migrate(db, p->path, broken, 2, &err));
	assert_int_not_equal(sqlite3_exec(db, "SELECT * FROM half", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "SELECT * FROM good", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

typedef struct start_line {
	const char *path;
	int go[2];
	int number;
} start_line;

static int open_at_the_signal(void *arg)
{
	start_line *line = arg;
	char byte;
	esk_catalog *catalog;
	esk_error err = {0};
	close(line->go[1]);
	if (read(line->go[0], &byte, 1) != 0) /* the end of the pipe is the signal */
		return 2;
	if (esk_catalog_open(line->path, ESK_CATALOG_WRITE, NULL, &catalog, &err) != ESK_OK) {
		fprintf(stderr, "child %d: %s\n", line->number, err.message);
		return 1;
	}
	for (int i = 0; i < 25; i++) {
		char name[32];
		snprintf(name, sizeof name, "run-%d-%d", line->number, i);
		esk_run_record run = some_run(name);
		if (esk_catalog_put_run(catalog, &run, &err) != ESK_OK) {
			fprintf(stderr, "child %d: %s\n", line->number, err.message);
			return 3;
		}
	}
	esk_catalog_close(catalog);
	return 0;
}

static void processes_that_open_at_once_migrate_once_and_write_side_by_side(void **state)
{
	place *p = *state;
	for (int round = 0; round < 5; round++) {
		unlink(p->path);
		close(open(p->path, O_CREAT | O_WRONLY, 0644));
		start_line line = {.path = p->path};
		pid_t children[4];
		assert_int_equal(pipe(line.go), 0);
		for (line.number = 0; line.number < 4; line.number++)
			children[line.number] = start_child(open_at_the_signal, &line);
		close(line.go[0]);
		close(line.go[1]);
		for (int i = 0; i < 4; i++)
			child_succeeds(children[i]);
		assert_int_equal(answer(p->path, "SELECT count(DISTINCT name) FROM runs"), 100);
	}
}

static void newer_and_foreign_databases_are_refused(void **state)
{
	place *p = *state;
	esk_catalog *catalog = NULL;
	esk_query *query = NULL;
	esk_catalog_close(open_catalog(p->path, ESK_CATALOG_CREATE));
	raw_sql(p->path, "PRAGMA user_version = 1000");
	FAILS(ESK_EVERSION, "newer Esker",
		esk_catalog_open(p->path, ESK_CATALOG_WRITE, NULL, &catalog, &err));
	FAILS(ESK_EVERSION, "1000", esk_catalog_open(p->path, ESK_CATALOG_READ, NULL, &catalog, &err));
	FAILS(ESK_EVERSION, "1000", esk_catalog_query(p->path, "SELECT 1", &query, &err));
	raw_sql(p->path, "PRAGMA user_version = 2; PRAGMA application_id = 5");
	FAILS(ESK_ECORRUPT, "another program",
		esk_catalog_open(p->path, ESK_CATALOG_WRITE, NULL, &catalog, &err));
	unlink(p->path);
	raw_sql(p->path, "CREATE TABLE somebody_elses (x)");
	FAILS(ESK_ECORRUPT, "another program",
		esk_catalog_open(p->path, ESK_CATALOG_WRITE, NULL, &catalog, &err));
	assert_int_equal(access(p->path, F_OK), 0);
}

static void no_database_is_reported_with_the_way_out(void **state)
{
	place *p = *state;
	FILE *file = fopen(p->path, "w");
	for (int i = 0; i < 1000; i++)
		fputs("this is no database ", file);
	fclose(file);
	esk_catalog *catalog = NULL;
	esk_query *query = NULL;
	FAILS(ESK_ECORRUPT, "esker reindex",
		esk_catalog_open(p->path, ESK_CATALOG_WRITE, NULL, &catalog, &err));
	FAILS(ESK_ECORRUPT, "esker reindex",
		esk_catalog_open(p->path, ESK_CATALOG_READ, NULL, &catalog, &err));
	FAILS(ESK_ECORRUPT, "esker reindex", esk_catalog_query(p->path, "SELECT 1", &query, &err));
}

static esk_status count_visit(void *arg, const esk_run_record *record, esk_error *err)
{
	++*(int *)arg;
	return ESK_OK;
}

/* Whatever bytes are damaged: an error or an answer, never a crash. (The pages carry no checksums.) */
static void damaged_bytes_never_crash(void **state)
{
	place *p = *state;
	esk_catalog *catalog = open_catalog(p->path, ESK_CATALOG_CREATE);
	for (int i = 0; i < 50; i++) {
		char name[16];
		snprintf(name, sizeof name, "run%d", i);
		put_parts(catalog, put_some_run(catalog, name));
	}
	esk_catalog_close(catalog);
	FILE *file = fopen(p->path, "r+b");
	fseek(file, 0, SEEK_END);
	long size = ftell(file);
	char *good = malloc((size_t)size);
	rewind(file);
	assert_int_equal(fread(good, 1, (size_t)size, file), size);
	uint64_t random = seed;
	int corrupt = 0;
	for (int round = 0; round < 60; round++) {
		rewind(file);
		fwrite(good, 1, (size_t)size, file);
		for (int i = 0; i < 40; i++) {
			random = random * 6364136223846793005u + 1442695040888963407u;
			long at = 100 + (long)((random >> 20) % (uint64_t)(size - 100));
			fseek(file, at, SEEK_SET);
			fputc((int)(random >> 56), file);
		}
		fflush(file);
		int visited_count = 0;
		esk_status status = esk_catalog_open(p->path, ESK_CATALOG_WRITE, NULL, &catalog, NULL);
		if (status == ESK_OK) {
			status = esk_catalog_visit_runs(catalog, count_visit, &visited_count, NULL);
			esk_catalog_delete_run(catalog, "run7", NULL);
			esk_catalog_close(catalog);
		}
		corrupt += status == ESK_ECORRUPT;
	}
	fclose(file);
	free(good);
	assert_true(corrupt > 0);
}

/* ---- faults of the system ---- */

static void a_catalogue_locked_too_long_is_busy(void **state)
{
	place *p = *state;
	esk_catalog *holder = open_catalog(p->path, ESK_CATALOG_CREATE);
	esk_catalog *other = open_catalog(p->path, ESK_CATALOG_WRITE);
	sqlite3_busy_timeout(other->db, 50); /* instead of 10 s */
	OK(esk_catalog_begin(holder, &err));
	esk_run_record run = some_run("run");
	FAILS(ESK_EBUSY, "locked", esk_catalog_put_run(other, &run, &err));
	FAILS(ESK_EBUSY, "locked", esk_catalog_begin(other, &err));
	OK(esk_catalog_commit(holder, &err));
	OK(esk_catalog_put_run(other, &run, &err));
	esk_catalog_close(holder);
	esk_catalog_close(other);
}

static void a_full_disk_undoes_the_transaction_and_says_so(void **state)
{
	place *p = *state;
	esk_catalog *catalog = open_catalog(p->path, ESK_CATALOG_CREATE);
	int64_t pages = answer(p->path, "PRAGMA page_count");
	char sql[64], *value = malloc(100001);
	memset(value, 'x', 100000);
	value[100000] = '\0';
	snprintf(sql, sizeof sql, "PRAGMA max_page_count = %d", (int)pages + 2);
	assert_int_equal(sqlite3_exec(catalog->db, sql, NULL, NULL, NULL), SQLITE_OK);
	OK(esk_catalog_begin(catalog, &err));
	put_some_run(catalog, "run");
	FAILS(ESK_ENOSPC, "free some space", esk_catalog_set_fact(catalog, "big", value, &err));
	esk_run_record run = some_run("late");
	FAILS(ESK_EINVAL, "roll back", esk_catalog_put_run(catalog, &run, &err));
	FAILS(ESK_EINVAL, "rolled back", esk_catalog_commit(catalog, &err));
	assert_int_equal(answer(p->path, "SELECT count(*) FROM runs"), 0);
	assert_int_equal(
		sqlite3_exec(catalog->db, "PRAGMA max_page_count = 100000", NULL, NULL, NULL), SQLITE_OK);
	OK(esk_catalog_set_fact(catalog, "big", value, &err));
	free(value);
	esk_catalog_close(catalog);
}

/* SQLite's writes, of which the one with number `failing` fails. */
static int writes, failing, failing_errno;

static ssize_t faulty_pwrite(int fd, const void *buf, size_t size, off_t offset)
{
	if (++writes == failing) {
		errno = failing_errno;
		return -1;
	}
	return pwrite(fd, buf, size, offset);
}

static ssize_t faulty_write(int fd, const void *buf, size_t size)
{
	if (++writes == failing) {
		errno = failing_errno;
		return -1;
	}
	return write(fd, buf, size);
}

static void every_failing_write_leaves_the_state_before_or_after(void **state)
{
	place *p = *state;
	sqlite3_vfs *vfs = sqlite3_vfs_find("unix");
	esk_catalog *catalog = open_catalog(p->path, ESK_CATALOG_CREATE);
	esk_run_record run = some_run("run");
	OK(esk_catalog_put_run(catalog, &run, &err));
	int faults = 0;
	for (int errnum_at = 0; errnum_at < 2; errnum_at++) {
		failing_errno = errnum_at == 0 ? EIO : ENOSPC;
		for (failing = 1;; failing++) {
			writes = 0;
			vfs->xSetSystemCall(vfs, "pwrite", (sqlite3_syscall_ptr)faulty_pwrite);
			vfs->xSetSystemCall(vfs, "pwrite64", (sqlite3_syscall_ptr)faulty_pwrite);
			vfs->xSetSystemCall(vfs, "write", (sqlite3_syscall_ptr)faulty_write);
			int64_t before = (int64_t)run.rows++;
			esk_status status = esk_catalog_put_run(catalog, &run, NULL);
			vfs->xSetSystemCall(vfs, NULL, NULL);
			int64_t now = answer(p->path, "SELECT rows FROM runs");
			if (status == ESK_OK) {
				assert_int_equal(now, run.rows);
				break;
			}
			faults++;
			assert_int_equal(status, errnum_at == 0 ? ESK_EIO : ESK_ENOSPC);
			assert_int_equal(now, before);
			run.rows = (uint64_t)before;
			OK(esk_catalog_put_run(catalog, &run, &err)); /* and it goes on */
		}
	}
	assert_true(faults >= 2);
	esk_catalog_close(catalog);
}

static void committed_runs_survive_kill(void **state)
{
	place *p = *state;
	esk_catalog_close(open_catalog(p->path, ESK_CATALOG_CREATE));
	uint64_t random = seed;
	for (int round = 0; round < 15; round++) {
		writer w = {.path = p->path};
		uint64_t acknowledged = 0, rows;
		assert_int_equal(pipe(w.pipe), 0);
		pid_t pid = start_child(write_until_killed, &w);
		close(w.pipe[1]);
		random = random * 6364136223846793005u + 1442695040888963407u;
		assert_int_equal(read(w.pipe[0], &rows, sizeof rows), sizeof rows);
		acknowledged = rows;
		usleep((useconds_t)((random >> 40) % 20000));
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		while (read(w.pipe[0], &rows, sizeof rows) == sizeof rows)
			acknowledged = rows;
		close(w.pipe[0]);
		int64_t found = answer(p->path, "SELECT rows FROM runs");
		assert_in_range(found, acknowledged, acknowledged + 1);
		assert_int_equal(
			answer(p->path,
				"SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"),
			0);
	}
}

int main(int argc, char **argv)
{
	const char *given = argc > 1 ? argv[1] : getenv("ESK_SEED");
	seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)esk_now_ns();
	printf("seed %llu\n", (unsigned long long)seed);
	const struct CMUnitTest tests[] = {
		TEST(facts_are_kept_and_replaced),
		TEST(runs_come_back_with_every_field_after_reopening),
		TEST(bad_run_names_are_refused),
		TEST(runs_are_visited_in_order_of_creation),
		TEST(parts_of_a_run_come_back_in_order),
		TEST(deleting_a_run_takes_all_that_belongs_to_it),
		TEST(parts_of_what_is_unknown_are_refused),
		TEST(scalar_metadata_is_mirrored_and_replaced),
		TEST(bad_metadata_is_refused_with_its_position_and_changes_nothing),
		TEST(a_transaction_is_kept_or_undone_as_a_whole),
		TEST(threads_never_write_into_each_others_transactions),
		TEST(create_and_open_check_what_is_there),
		TEST(odd_paths_mean_themselves),
		TEST(an_empty_file_becomes_a_catalogue),
		TEST(an_older_catalogue_is_migrated_with_its_rows),
		TEST(a_migration_that_fails_leaves_the_version_before),
		TEST(processes_that_open_at_once_migrate_once_and_write_side_by_side),
		TEST(newer_and_foreign_databases_are_refused),
		TEST(no_database_is_reported_with_the_way_out),
		TEST(damaged_bytes_never_crash),
		TEST(a_catalogue_locked_too_long_is_busy),
		TEST(a_full_disk_undoes_the_transaction_and_says_so),
		TEST(every_failing_write_leaves_the_state_before_or_after),
		TEST(committed_runs_survive_kill),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
