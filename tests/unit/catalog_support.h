/* What the tests of the catalogue share: a directory per test, checks with messages, children. */
#ifndef ESK_TEST_CATALOG_SUPPORT_H
#define ESK_TEST_CATALOG_SUPPORT_H

#include "catalog/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct place {
	char directory[64];
	char path[96];
} place;

static inline int make_place(void **state)
{
	place *p = calloc(1, sizeof *p);
	snprintf(p->directory, sizeof p->directory, "/tmp/esk-catalog-XXXXXX");
	if (mkdtemp(p->directory) == NULL)
		return -1;
	snprintf(p->path, sizeof p->path, "%s/esker.db", p->directory);
	*state = p;
	return 0;
}

static inline int remove_place(void **state)
{
	place *p = *state;
	char command[128];
	snprintf(command, sizeof command, "rm -rf '%s'", p->directory);
	int result = system(command);
	free(p);
	return result;
}

static inline void ok_at(esk_status status, const esk_error *err, int line)
{
	if (status != ESK_OK)
		fail_msg("line %d: %s: %s", line, esk_status_name(status), err->message);
}
#define OK(call)                               \
	do {                                   \
		esk_error err = {0};           \
		ok_at((call), &err, __LINE__); \
	} while (0)

/* The call fails with `code` and its message holds `text`. */
#define FAILS(code_, text, call)                                                                        \
	do {                                                                                            \
		esk_error err = {0};                                                                    \
		esk_status status_ = (call);                                                            \
		if (status_ != (code_) || err.code != (code_) || !strstr(err.message, (text)))          \
			fail_msg("line %d: expected %s with \"%s\", found %s: %s", __LINE__,            \
				esk_status_name(code_), (text), esk_status_name(status_), err.message); \
	} while (0)

static inline esk_catalog *open_catalog(const char *path, esk_catalog_mode mode)
{
	esk_catalog *catalog;
	OK(esk_catalog_open(path, mode, NULL, &catalog, &err));
	return catalog;
}

static inline esk_run_record some_run(const char *name)
{
	esk_run_record run = {.state = ESK_RUN_RECORDING, .created_ns = 1000, .updated_ns = 2000};
	snprintf(run.name, sizeof run.name, "%s", name);
	return run;
}

static inline int64_t put_some_run(esk_catalog *catalog, const char *name)
{
	esk_run_record run = some_run(name);
	OK(esk_catalog_put_run(catalog, &run, &err));
	return run.id;
}

/* The first value of the first row, as an integer; -1 without a row. */
static inline esk_status ask(const char *path, const char *sql, int64_t *ret_answer, esk_error *err)
{
	esk_query *query;
	bool row;
	esk_status status = esk_catalog_query(path, sql, &query, err);
	if (status != ESK_OK)
		return status;
	status = esk_query_step(query, &row, err);
	if (status == ESK_OK)
		*ret_answer = row ? esk_query_value(query, 0).integer : -1;
	esk_query_close(query);
	return status;
}

static inline int64_t answer(const char *path, const char *sql)
{
	int64_t value = -2;
	OK(ask(path, sql, &value, &err));
	return value;
}

static inline void answers_text(const char *path, const char *sql, const char *expected)
{
	esk_query *query;
	bool row;
	OK(esk_catalog_query(path, sql, &query, &err));
	OK(esk_query_step(query, &row, &err));
	assert_true(row);
	assert_string_equal(esk_query_value(query, 0).data, expected);
	esk_query_close(query);
}

/* Exit code of a child that runs `body` and exits with what it returns; killed after 60 s. */
static inline pid_t start_child(int (*body)(void *arg), void *arg)
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(60);
		_exit(body(arg));
	}
	return pid;
}

static inline void child_succeeds(pid_t pid)
{
	int result = -1;
	assert_int_equal(waitpid(pid, &result, 0), pid);
	if (!WIFEXITED(result) || WEXITSTATUS(result) != 0)
		fail_msg("child: %s %d", WIFEXITED(result) ? "exit code" : "signal",
			WIFEXITED(result) ? WEXITSTATUS(result) : WTERMSIG(result));
}

static inline void put_parts(esk_catalog *catalog, int64_t run_id)
{
	esk_column *columns;
	size_t count;
	OK(esk_columns_parse("frames:u8[210,160,3]@gzip:1 note:str? z:f64", &columns, &count, &err));
	snprintf(columns[2].units, sizeof columns[2].units, "m/s");
	snprintf(columns[2].long_name, sizeof columns[2].long_name, "speed");
	for (int again = 0; again < 2; again++) {
		OK(esk_catalog_put_stream(catalog, run_id, 0, "/", columns, count, &err));
		OK(esk_catalog_put_stream(catalog, run_id, 1, "imu", columns, 1, &err));
	}
	esk_columns_free(columns);
	for (uint64_t i = 2; i-- > 0;) {
		esk_segment_record segment = {
			.number = i, .sealed = i == 0, .created_ns = 5, .sealed_ns = 6, .bytes = 100};
		snprintf(segment.file, sizeof segment.file, "run_%d.h5", (int)i);
		OK(esk_catalog_put_segment(catalog, run_id, &segment, &err));
		OK(esk_catalog_put_extent(catalog, run_id, 0, i, i * 10, 10, &err));
	}
	OK(esk_catalog_put_extent(catalog, run_id, 1, 1, 0, 1, &err));
	OK(esk_catalog_put_extent(catalog, run_id, 1, 1, 0, 3, &err));
	esk_gap_record gap = {.stream = -1,
		.row = 4,
		.records = 5,
		.rows = 0,
		.bytes = 600,
		.first_sequence = UINT64_MAX,
		.last_sequence = 9,
		.time_ns = 10,
		.cause = ESK_GAP_OVERWRITTEN};
	OK(esk_catalog_put_gap(catalog, run_id, &gap, &err));
	gap.bytes = 700;
	OK(esk_catalog_put_gap(catalog, run_id, &gap, &err)); /* the same again */
	gap.stream = 1;
	gap.cause = ESK_GAP_DAMAGED;
	OK(esk_catalog_put_gap(catalog, run_id, &gap, &err));
}

typedef struct writer {
	const char *path;
	int pipe[2];
} writer;

static inline int write_until_killed(void *arg)
{
	writer *w = arg;
	esk_catalog *catalog;
	if (esk_catalog_open(w->path, ESK_CATALOG_WRITE, NULL, &catalog, NULL) != ESK_OK)
		return 1;
	esk_run_record run = some_run("run");
	for (run.rows = 1;; run.rows++) {
		if (esk_catalog_put_run(catalog, &run, NULL) != ESK_OK ||
			write(w->pipe[1], &run.rows, sizeof run.rows) != sizeof run.rows)
			return 2;
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_place, remove_place)

#endif
