/* Indexed streams: what the catalogue's tables have of a run is what its files have, after every commit,
 * rotation, failure, kill and reindex; and what cannot be indexed is refused.
 *
 *     test_indexed [SEED]  */
#include "support/ordeal.h"

#define SALT 23
#define STEPS "steps:i64 when:i64 reward:f32 done:bool frames:u8[4,4]? action:i32? who:str"
#define STEPS_INDEX                                                                                   \
	"replay_steps(episode = when, step = steps, reward = reward, terminated = done, has_frame = " \
	"frames?, "                                                                                   \
	"action = action, worker = who)"

static esk_stream *indexed_stream(esk_run *run, const char *name, const char *spec, const char *index)
{
	esk_error err = {0};
	esk_column *columns;
	esk_stream *stream;
	size_t count;
	esk_stream_options options = ESK_STREAM_OPTIONS_INIT;
	options.index = index;
	assert_ok(esk_columns_parse(spec, &columns, &count, &err), &err);
	assert_ok(esk_run_stream_with(run, name, columns, count, &options, &stream, &err), &err);
	esk_columns_free(columns);
	return stream;
}

static void record(esk_stream *stream, uint64_t first, uint64_t count)
{
	esk_error err = {0};
	for (uint64_t i = first; i < first + count; i++)
		assert_ok(recording_append(stream, i, SALT, NULL, &err), &err);
}

static void commit(esk_run *run)
{
	esk_error err = {0};
	assert_ok(esk_run_commit(run, NULL, &err), &err);
}

/* ---- rows follow the files ---- */

static void rows_are_in_the_table_when_a_commit_returns(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(1u << 20);
	esk_error err = {0};
	esk_stream *stream;
	esk_run *run = place_run(&p, "run", &options);
	assert_ok(recording_stream(run, "/", &stream, &err), &err);
	recording_check_index(p.store, "run", 0, SALT);
	uint64_t rows = 0;
	for (uint64_t turn = 1; turn <= 12; turn++) {
		if (turn % 3 == 0)
			assert_ok(recording_append_many(stream, rows, turn, SALT, NULL, NULL, &err), &err);
		else
			record(stream, rows, turn);
		rows += turn;
		commit(run);
		recording_check_index(p.store, "run", rows, SALT);
	}
	place_run_close(run);
	recording_check_index(p.store, "run", rows, SALT);
	/* A name that another run had, whose files are gone, begins anew. */
	char path[200];
	snprintf(path, sizeof path, "%s/run.h5", p.path);
	assert_int_equal(unlink(path), 0);
	run = place_run(&p, "run", &options);
	recording_check_index(p.store, "run", 0, SALT);
	assert_ok(recording_stream(run, "/", &stream, &err), &err);
	record(stream, 0, 3);
	place_run_close(run);
	recording_check_index(p.store, "run", 3, SALT);
	assert_int_equal(place_query(&p, "SELECT count(*) FROM segments"), 1);
	place_close(&p);
}

static void rotation_and_continuing_keep_the_rows(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(128u << 10);
	esk_error err = {0};
	esk_stream *stream;
	options.segment_bytes = 48u << 10;
	options.append = true;
	for (uint64_t session = 0; session < 3; session++) {
		esk_run *run = place_run(&p, "run", &options);
		assert_ok(recording_stream(run, "/", &stream, &err), &err);
		for (uint64_t i = 0; i < 40; i += 8) {
			record(stream, 40 * session + i, 8);
			commit(run);
			recording_check_index(p.store, "run", 40 * session + i + 8, SALT);
		}
		place_run_close(run);
		place_reopen(&p);
	}
	assert_true(place_files(&p) > 3);
	recording_check_index(p.store, "run", 120, SALT);
	place_close(&p);
}

/* All of the table as one number. */
static int64_t fingerprint(place *p)
{
	return place_query(p,
		"SELECT count(*) * 1000003 + total(row * episode % 65521) + total(length(worker) * row) "
		"+ total(reward * (row + 1)) + total(has_frame * row * row) FROM replay_steps");
}

static void reindex_makes_the_same_table(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(1u << 20);
	esk_error err = {0};
	esk_stream *stream;
	esk_check_report report;
	options.segment_bytes = 64u << 10;
	for (int r = 0; r < 2; r++) {
		esk_run *run = place_run(&p, r == 0 ? "run" : "other", &options);
		assert_ok(recording_stream(run, "/", &stream, &err), &err);
		for (uint64_t i = 0; i < 90; i += 10) {
			record(stream, i, 10);
			commit(run);
		}
		place_run_close(run);
	}
	int64_t before = fingerprint(&p);
	place_close(&p);
	assert_ok(esk_store_reindex(p.path, NULL, &report, &err), &err);
	assert_int_equal(report.findings, 0);
	place_open(&p);
	recording_check_index(p.store, "run", 90, SALT);
	recording_check_index(p.store, "other", 90, SALT);
	assert_int_equal(fingerprint(&p), before);
	assert_int_equal(place_query(&p, "SELECT count(*) FROM runs WHERE state = 1"), 2);
	place_close(&p);
}

static void record_until_killed(const char *path, void *shared)
{
	_Atomic int64_t *acknowledged = shared;
	place p = place_at(path);
	esk_run_options options = place_options(256u << 10);
	esk_stream *stream;
	esk_watermark mark;
	esk_error err = {0};
	options.append = true;
	options.commit_interval_ns = 2000000;
	options.segment_bytes = 256u << 10;
	esk_run *run = place_run(&p, "run", &options);
	assert_ok(recording_stream(run, "/", &stream, &err), &err);
	assert_ok(esk_stream_commit(stream, &mark, &err), &err);
	for (uint64_t i = mark.rows;; i++) {
		assert_ok(recording_append(stream, i, SALT, NULL, &err), &err);
		atomic_store(acknowledged, (int64_t)i + 1);
	}
}

static void check_after_death(const char *path, void *shared)
{
	place p = place_at(path);
	esk_reader *reader = place_reader(&p, "run");
	uint64_t rows = recording_rows(reader, "/");
	ordeal_found(shared, (int64_t)rows);
	recording_check_index(p.store, "run", rows, SALT);
	esk_reader_close(reader);
	place_close(&p);
}

static void rows_survive_a_kill_at_any_moment(void **state)
{
	ordeal o = {.live = record_until_killed,
		.look = check_after_death,
		.most = 1,
		.most_ms = 80,
		.dies_young = true};
	ordeal_run(*state, &o, test_scale(12));
}

static void rows_that_the_table_lost_come_back_from_the_files(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(1u << 20);
	esk_error err = {0};
	esk_stream *stream;
	char command[400];
	options.segment_bytes = 64u << 10;
	esk_run *run = place_run(&p, "run", &options);
	assert_ok(recording_stream(run, "/", &stream, &err), &err);
	for (uint64_t i = 0; i < 60; i += 10) {
		record(stream, i, 10);
		commit(run);
	}
	place_run_close(run);
	place_close(&p);
	/* As after a crash between a commit of the file and the catalogue's. */
	snprintf(command, sizeof command,
		"sqlite3 %s/esker.db 'DELETE FROM replay_steps WHERE row >= 13; UPDATE runs SET state = 0'",
		p.path);
	assert_int_equal(system(command), 0);
	place_open(&p);
	recording_check_index(p.store, "run", 60, SALT);
	assert_int_equal(place_query(&p, "SELECT state FROM runs"), 1);
	/* And where the table has more than the files. */
	place_close(&p);
	snprintf(command, sizeof command,
		"sqlite3 %s/esker.db \"INSERT INTO replay_steps (run_id, row, episode, step) SELECT id, 60, "
		"1, 1 FROM "
		"runs; UPDATE runs SET state = 0\"",
		p.path);
	assert_int_equal(system(command), 0);
	place_open(&p);
	recording_check_index(p.store, "run", 60, SALT);
	place_close(&p);
}

static void a_run_that_the_files_have_no_more_leaves_the_table(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(1u << 20);
	esk_error err = {0};
	esk_stream *stream;
	char path[200];
	esk_check_report report;
	esk_run *run = place_run(&p, "run", &options);
	assert_ok(recording_stream(run, "/", &stream, &err), &err);
	record(stream, 0, 9);
	place_run_close(run);
	place_close(&p);
	snprintf(path, sizeof path, "%s/run.h5", p.path);
	assert_int_equal(unlink(path), 0);
	assert_ok(esk_store_reindex(p.path, NULL, &report, &err), &err);
	place_open(&p);
	assert_int_equal(place_query(&p, "SELECT count(*) FROM replay_steps"), 0);
	place_close(&p);
}

/* Rows that a lossy ring drops have no number: those that are kept count on, in file and table alike. */
static void rows_of_a_lossy_ring_have_the_numbers_of_the_file(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(64u << 10);
	esk_error err = {0};
	options.policy = ESK_OVERWRITE;
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream =
		indexed_stream(run, "/", "id:i64 pad:u8[1000]", "replay_steps(episode = id, step = id)");
	uint8_t pad[1000] = {0};
	for (int64_t i = 0; i < 5000; i++) {
		const void *cells[] = {&i, pad};
		assert_ok(esk_stream_append(stream, cells, NULL, &err), &err);
	}
	place_run_close(run);
	esk_reader *reader = place_reader(&p, "run");
	uint64_t rows = (uint64_t)place_query(&p, "SELECT count(*) FROM replay_steps");
	int64_t *ids = place_read(reader, "id", 0, rows, 8);
	assert_int_equal(rows, (uint64_t)place_query(&p, "SELECT rows FROM runs"));
	assert_true(rows < 5000);
	for (uint64_t i = 0; i < rows; i += rows / 20 + 1) {
		char sql[100];
		snprintf(sql, sizeof sql, "SELECT episode FROM replay_steps WHERE row = %llu",
			(unsigned long long)i);
		assert_int_equal(place_query(&p, sql), ids[i]);
	}
	free(ids);
	esk_reader_close(reader);
	place_close(&p);
}

/* ---- values ---- */

static void every_kind_of_number_arrives_as_it_was(void **state)
{
	const struct {
		const char *dtype, *expected;
		const void *cell;
	} cases[] = {{"i8", "-5", &(int8_t){-5}}, {"i16", "-300", &(int16_t){-300}},
		{"i32", "-70000", &(int32_t){-70000}}, {"i64", "-5000000000", &(int64_t){-5000000000}},
		{"u8", "250", &(uint8_t){250}}, {"u16", "65000", &(uint16_t){65000}},
		{"u32", "4000000000", &(uint32_t){4000000000u}}, {"u64", "-1", &(uint64_t){UINT64_MAX}},
		{"bool", "1", &(uint8_t){1}}, {"f16", "1.5", &(uint16_t){0x3E00}},
		{"f32", "0.25", &(float){0.25f}}, {"f64", "1e+300", &(double){1e300}},
		{"f64", "NULL", &(double){NAN}}, {"str5", "'abc'", "abc\0\0"},
		{"str", "'text'", &(esk_string){"text", 4}}, {"str", "''", &(esk_string){NULL, 0}},
		{"i32?", "NULL", NULL}, {"str?", "NULL", NULL}};
	place p = place_make(*state);
	esk_error err = {0};
	esk_run_options options = place_options(64u << 10);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char name[32], spec[64], sql[200];
		snprintf(name, sizeof name, "run%zu", i);
		snprintf(spec, sizeof spec, "n:u8 x:%s", cases[i].dtype);
		esk_run *run = place_run(&p, name, &options);
		esk_stream *stream = indexed_stream(
			run, "s", spec, "replay_steps(episode=n,step=n,action=x,has_frame=x?)");
		const void *cells[] = {&(uint8_t){7}, cases[i].cell};
		assert_ok(esk_stream_append(stream, cells, NULL, &err), &err);
		place_run_close(run);
		snprintf(sql, sizeof sql,
			"SELECT s.action IS %s AND has_frame = %d AND step = 7 FROM replay_steps s JOIN runs "
			"ON id = "
			"run_id WHERE name = '%s'",
			cases[i].expected, cases[i].cell != NULL, name);
		if (place_query(&p, sql) != 1)
			fail_msg("%s: expected %s", cases[i].dtype, cases[i].expected);
	}
	place_close(&p);
}

static void indexes_that_cannot_be_are_refused(void **state)
{
	static const struct {
		const char *index, *message;
		esk_status status;
	} cases[] = {
		{"", "a table's name", ESK_EINVAL},
		{"replay_steps", "'('", ESK_EINVAL},
		{"replay_steps(", "a field's name", ESK_EINVAL},
		{"replay_steps()", "byte 13", ESK_EINVAL},
		{"replay_steps(episode)", "'='", ESK_EINVAL},
		{"replay_steps(episode = )", "a column's name", ESK_EINVAL},
		{"replay_steps(episode = steps", "')'", ESK_EINVAL},
		{"replay_steps(episode = steps step = steps)", "')'", ESK_EINVAL},
		{"replay_steps(episode = steps) x", "the end", ESK_EINVAL},
		{"replay_steps(episode = steps, EPISODE = steps)", "twice", ESK_EINVAL},
		{"replay_steps(episode = nothing)", "no column \"nothing\"", ESK_ENOTFOUND},
		{"replay_steps(episode = steps, step = steps, action = frames)", "array", ESK_ESHAPE},
		{"replay_steps(episode = steps, step = steps, action = wave)", "complex", ESK_ETYPE},
		{"replay_steps(episode = reward, step = steps)", "INTEGER", ESK_ETYPE},
		{"replay_steps(episode = steps, step = steps, worker = reward)", "TEXT", ESK_ETYPE},
		{"replay_steps(episode = steps, step = steps, reward = who)", "REAL", ESK_ETYPE},
		{"replay_steps(episode = steps)", "\"step\"", ESK_EINVAL},
		{"replay_steps(episode = action, step = steps)", "not nullable", ESK_EINVAL},
		{"replay_steps(episode = steps, step = steps, row = steps)", "set by Esker", ESK_EINVAL},
		{"replay_steps(episode = steps, step = steps, nothing = steps)", "no field \"nothing\"",
			ESK_EINVAL},
		{"nothing(episode = steps)", "no table \"nothing\"", ESK_EINVAL},
		{"runs(name = who)", "runs", ESK_EINVAL},
		{"replay_steps; DROP TABLE runs(x = steps)", "'('", ESK_EINVAL},
	};
	place p = place_make(*state);
	esk_run_options options = place_options(64u << 10);
	esk_run *run = place_run(&p, "run", &options);
	esk_error err = {0};
	esk_column *columns;
	esk_stream *stream = NULL;
	size_t count;
	esk_stream_options stream_options = ESK_STREAM_OPTIONS_INIT;
	assert_ok(esk_columns_parse(STEPS " wave:c64", &columns, &count, &err), &err);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		stream_options.index = cases[i].index;
		err = (esk_error){0};
		esk_status status =
			esk_run_stream_with(run, "s", columns, count, &stream_options, &stream, &err);
		if (status != cases[i].status || strstr(err.message, cases[i].message) == NULL ||
			stream != NULL)
			fail_msg(
				"\"%s\": found %s: %s", cases[i].index, esk_status_name(status), err.message);
	}
	indexed_stream(run, "s", STEPS, STEPS_INDEX);
	stream_options.index = STEPS_INDEX;
	assert_int_equal(
		esk_run_stream_with(run, "t", columns, count, &stream_options, &stream, &err), ESK_EINVAL);
	assert_non_null(strstr(err.message, "already"));
	esk_columns_free(columns);
	place_run_close(run);
	place_close(&p);
}

/* The details of a query's plan, a line each. To be freed. */
static char *plan_of(place *p, const char *sql)
{
	char text[300];
	esk_error err = {0};
	esk_query *query;
	esk_text plan = {0};
	bool row;
	snprintf(text, sizeof text, "EXPLAIN QUERY PLAN %s", sql);
	assert_ok(esk_query_open(p->store, text, &query, &err), &err);
	while (esk_query_step(query, &row, &err) == ESK_OK && row)
		esk_text_add(&plan, "%s\n", esk_query_value(query, 3).data);
	esk_query_close(query);
	return plan.data;
}

static void queries_of_steps_and_episodes_use_the_indexes(void **state)
{
	static const struct {
		const char *sql, *index;
	} cases[] = {
		{"SELECT * FROM steps WHERE reward > 20", "SEARCH s USING INDEX replay_steps_reward"},
		{"SELECT frame_ref FROM steps WHERE run = 'x' AND reward > 20",
			"SEARCH s USING INDEX replay_steps_reward (run_id=? AND reward>?)"},
		{"SELECT * FROM steps WHERE run = 'x' AND episode = 5",
			"SEARCH s USING INDEX replay_steps_episode (run_id=? AND episode=?)"},
		{"SELECT * FROM episodes WHERE total_reward > 20",
			"SEARCH e USING INDEX replay_episodes_total_reward (run_id=? AND total_reward>?)"},
		{"SELECT * FROM episodes WHERE total_reward > 20", "USING COVERING INDEX replay_steps_first"},
		{"SELECT * FROM episodes WHERE run = 'x' AND episode = 5",
			"SEARCH e USING INDEX replay_episodes_episode (run_id=? AND episode=?)"},
	};
	place p = place_make(*state);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char *plan = plan_of(&p, cases[i].sql);
		if (strstr(plan, cases[i].index) == NULL || strstr(plan, "SCAN s\n") != NULL ||
			strstr(plan, "SCAN e\n") != NULL)
			fail_msg("%s: expected \"%s\" in the plan:\n%s", cases[i].sql, cases[i].index, plan);
		free(plan);
	}
	place_close(&p);
}

static void an_episode_that_did_not_end_is_in_the_view(void **state)
{
	place p = place_make(*state);
	esk_error err = {0};
	esk_run_options options = place_options(1u << 20);
	esk_run *run = place_run(&p, "a b", &options);
	esk_stream *steps = indexed_stream(run, "/", STEPS, STEPS_INDEX);
	esk_stream *episodes =
		indexed_stream(run, "episodes", "id:i64 start:i64 length:i64 total:f64 why:str16",
			"replay_episodes(episode = id, start = start, length = length, total_reward = total, "
			"outcome = why)");
	for (int64_t i = 0; i < 10; i++) { /* episode 0 has six steps and ends, episode 1 has four */
		int64_t episode = i / 6, step = i % 6;
		float reward = (float)i;
		uint8_t done = i == 5, frame[16] = {0};
		int32_t action = (int32_t)i;
		const void *cells[] = {&step, &episode, &reward, &done, i % 2 == 0 ? frame : NULL, &action,
			&(esk_string){"w", 1}};
		assert_ok(esk_stream_append(steps, cells, NULL, &err), &err);
	}
	const void *ended[] = {
		&(int64_t){0}, &(int64_t){0}, &(int64_t){6}, &(double){15}, "terminated\0\0\0\0\0\0"};
	assert_ok(esk_stream_append(episodes, ended, NULL, &err), &err);
	commit(run);
	assert_int_equal(place_query(&p, "SELECT count(*) FROM episodes"), 2);
	assert_int_equal(
		place_query(&p, "SELECT total_reward FROM episodes WHERE outcome = 'terminated'"), 15);
	assert_int_equal(
		place_query(&p, "SELECT start = 6 AND length = 4 AND total_reward = 30 AND worker = 'w' "
				"FROM episodes WHERE run = 'a b' AND outcome = 'unfinished'"),
		1);
	assert_int_equal(
		place_query(&p, "SELECT frame_ref = 'h5://a%20b/frames/8' FROM steps WHERE reward = 8"), 1);
	assert_int_equal(place_query(&p, "SELECT count(*) FROM steps WHERE frame_ref IS NULL"), 5);
	place_run_close(run);
	place_close(&p);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		ONE(rows_survive_a_kill_at_any_moment),
		ONE(rows_are_in_the_table_when_a_commit_returns),
		ONE(rotation_and_continuing_keep_the_rows),
		ONE(reindex_makes_the_same_table),
		ONE(rows_that_the_table_lost_come_back_from_the_files),
		ONE(a_run_that_the_files_have_no_more_leaves_the_table),
		ONE(rows_of_a_lossy_ring_have_the_numbers_of_the_file),
		ONE(every_kind_of_number_arrives_as_it_was),
		ONE(indexes_that_cannot_be_are_refused),
		ONE(queries_of_steps_and_episodes_use_the_indexes),
		ONE(an_episode_that_did_not_end_is_in_the_view),
	};
	return test_run(tests);
}
