/* The whole daemon in processes of their own: sessions and rings, and every one of them killed. What was
 * acknowledged is in the file, once, in order. */
#include "daemon_support.h"
#include <dirent.h>
#include <esker/ring.h>
#include <jansson.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>

typedef struct rig {
	test_dir *dir;
	char store[100];
	pid_t daemon;
} rig;

static _Atomic(esk_daemon *) serving;

static void on_term(int number)
{
	esk_daemon_stop(atomic_load(&serving));
}

static void say(void *arg, esk_log_level level, const char *message)
{
	if (level >= ESK_LOG_WARNING)
		fprintf(stderr, "daemon: %s\n", message);
}

/* The daemon's process: writes a byte to `ready` when it serves; exits with 0 where all went well. */
static void daemon_process(rig *r, int ready)
{
	esk_daemon_options options = ESK_DAEMON_OPTIONS_INIT;
	esk_daemon *daemon;
	esk_error err = {0};
	options.log = say;
	esk_status status = esk_daemon_open(r->store, &options, &daemon, &err);
	if (status == ESK_OK) {
		atomic_store(&serving, daemon);
		signal(SIGTERM, on_term);
		if (write(ready, "", 1) != 1)
			_exit(3);
		status = esk_daemon_run(daemon, &err);
	}
	if (status == ESK_OK)
		status = esk_daemon_close(daemon, &err);
	if (status != ESK_OK)
		fprintf(stderr, "daemon: %s\n", err.message);
	_exit(status == ESK_OK ? 0 : 1);
}

static void start(rig *r)
{
	int ends[2];
	char byte;
	assert_int_equal(pipe(ends), 0);
	r->daemon = fork();
	assert_true(r->daemon >= 0);
	if (r->daemon == 0)
		daemon_process(r, ends[1]);
	close(ends[1]);
	assert_int_equal(read(ends[0], &byte, 1), 1);
	close(ends[0]);
}

static int wait_for(pid_t child)
{
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static void stop(rig *r)
{
	if (r->daemon <= 0)
		return;
	kill(r->daemon, SIGTERM);
	int status = wait_for(r->daemon);
	r->daemon = 0;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void murder(pid_t child)
{
	kill(child, SIGKILL);
	assert_true(WIFSIGNALED(wait_for(child)));
}

static int set_up(void **state)
{
	rig *r = calloc(1, sizeof *r);
	esk_error err = {0};
	if (r == NULL || test_dir_make((void **)&r->dir) != 0)
		return -1;
	snprintf(r->store, sizeof r->store, "%s/store", r->dir->path);
	*state = r;
	return esk_store_create(r->store, &err) == ESK_OK ? 0 : -1;
}

static int tear_down(void **state)
{
	rig *r = *state;
	if (r->daemon > 0)
		murder(r->daemon);
	test_dir_remove((void **)&r->dir);
	free(r);
	return 0;
}

/* ---- what is in the store ---- */

/* Rows of <run>/<stream>: timestamps must be first, first + 1, … without hole or repeat. */
static uint64_t check_rows(rig *r, const char *run, const char *stream, uint64_t first)
{
	esk_store *store;
	esk_reader *reader;
	esk_dataset *dataset;
	esk_error err = {0};
	char path[128];
	snprintf(path, sizeof path, "%s/timestamp", stream);
	assert_ok(esk_store_open(r->store, NULL, &store, &err), &err);
	assert_ok(esk_reader_open(store, run, &reader, &err), &err);
	assert_ok(esk_reader_find(reader, path, &dataset, &err), &err);
	esk_dataset_info info = {.struct_size = sizeof info};
	assert_ok(esk_dataset_get_info(dataset, &info, &err), &err);
	int64_t *times = malloc(info.rows * sizeof *times + 8);
	assert_non_null(times);
	assert_ok(esk_dataset_read(dataset, 0, (int64_t)info.rows, 1, times, info.rows * sizeof *times, &err),
		&err);
	for (uint64_t i = 0; i < info.rows; i++)
		if (times[i] != (int64_t)(first + i))
			fail_msg("row %llu of %s holds %lld, not %llu", (unsigned long long)i, path,
				(long long)times[i], (unsigned long long)(first + i));
	free(times);
	esk_reader_close(reader);
	assert_ok(esk_store_close(store, &err), &err);
	return info.rows;
}

static esk_client *join(rig *r)
{
	esk_client *client;
	esk_error err = {0};
	assert_ok(esk_client_connect(r->store, NULL, &client, &err), &err);
	return client;
}

static json_t *ask(rig *r)
{
	char *json;
	esk_error err = {0};
	esk_client *client = join(r);
	assert_ok(esk_client_get_stats(client, &json, &err), &err);
	esk_client_close(client);
	json_t *stats = json_loads(json, 0, NULL);
	assert_non_null(stats);
	free(json);
	return stats;
}

/* Rows that the daemon has taken from a ring; -1: it does not know it. */
static int64_t ring_rows(rig *r, const char *name)
{
	size_t i;
	json_t *ring, *stats = ask(r);
	int64_t rows = -1;
	json_array_foreach(json_object_get(stats, "rings"), i, ring)
	{
		if (strcmp(json_string_value(json_object_get(ring, "name")), name) == 0)
			rows = (int64_t)json_integer_value(json_object_get(ring, "rows"));
	}
	json_decref(stats);
	return rows;
}

/* ---- the session ---- */

static void send_rows(esk_client *client, const char *instrument, uint64_t first, uint64_t rows)
{
	esk_error err = {0};
	daq_batch *b = daq_batch_make(first, rows, "voltage");
	assert_ok(esk_client_write_batch(client, instrument, &b->schema, &b->array, &err), &err);
	daq_batch_free(b);
}

static void what_was_acknowledged_survives_the_daemons_death(void **state)
{
	rig *r = *state;
	esk_error err = {0};
	uint64_t next = 0, rounds = test_scale(4);
	char session[256] = "";
	for (uint64_t i = 0; i < rounds; i++) {
		start(r);
		esk_client *client = join(r);
		/* Started again, it goes on with the session it had. */
		if (i > 0)
			assert_string_equal(esk_client_session(client), session);
		snprintf(session, sizeof session, "%s", esk_client_session(client));
		for (unsigned k = 0; k < 100; k++, next += 20)
			send_rows(client, "scope", next, 20);
		assert_ok(esk_client_wait(client, &err), &err);
		murder(r->daemon);
		r->daemon = 0;
		assert_int_equal(esk_client_flush(client, &err), ESK_ECLOSED);
		assert_non_null(strstr(err.message, "100 of 10"));
		esk_client_close(client);
	}
	start(r);
	stop(r);
	assert_int_equal(check_rows(r, session, "scope", 0), next);
}

static void a_stop_commits_and_the_next_start_goes_on(void **state)
{
	rig *r = *state;
	esk_error err = {0};
	char session[256];
	start(r);
	esk_client *client = join(r);
	snprintf(session, sizeof session, "%s", esk_client_session(client));
	send_rows(client, "scope", 0, 1000);
	assert_ok(esk_client_wait(client, &err), &err);
	stop(r);
	esk_client_close(client);
	assert_int_equal(check_rows(r, session, "scope", 0), 1000);
	start(r);
	client = join(r);
	assert_string_equal(esk_client_session(client), session);
	send_rows(client, "scope", 1000, 500);
	assert_ok(esk_client_flush(client, &err), &err);
	esk_client_close(client);
	stop(r);
	assert_int_equal(check_rows(r, session, "scope", 0), 1500);
}

/* It sends until it is killed, and tells through `told` how many rows are acknowledged. */
static void sender_process(rig *r, int told, uint64_t first)
{
	esk_client *client;
	esk_error err = {0};
	if (esk_client_connect(r->store, NULL, &client, &err) != ESK_OK)
		_exit(1);
	for (uint64_t k = 0;; k++) {
		daq_batch *b = daq_batch_make(first + k * 50, 50, "voltage");
		if (esk_client_write_batch(client, "scope", &b->schema, &b->array, &err) != ESK_OK)
			_exit(1);
		daq_batch_free(b);
		if (k % 16 == 15) {
			uint64_t rows = first + (k + 1) * 50;
			if (esk_client_wait(client, &err) != ESK_OK ||
				write(told, &rows, sizeof rows) != sizeof rows)
				_exit(1);
		}
	}
}

static void client_and_daemon_killed_together_lose_nothing_acknowledged(void **state)
{
	rig *r = *state;
	uint64_t rows = 0, rounds = test_scale(5);
	for (uint64_t i = 0; i < rounds; i++) {
		int ends[2];
		uint64_t acknowledged = rows, told;
		assert_int_equal(pipe(ends), 0);
		start(r);
		pid_t sender = fork();
		assert_true(sender >= 0);
		if (sender == 0)
			sender_process(r, ends[1], rows);
		close(ends[1]);
		/* A death at any moment after the first acknowledgement. */
		assert_int_equal(read(ends[0], &told, sizeof told), sizeof told);
		acknowledged = told;
		usleep((useconds_t)((test_seed() * 7919 + i * 104729) % 50000));
		if (i % 2 == 0) {
			murder(r->daemon);
			r->daemon = 0;
			kill(sender, SIGKILL); /* it may have ended by itself, since the daemon died */
			(void)wait_for(sender);
		} else {
			murder(sender);
			murder(r->daemon);
			r->daemon = 0;
		}
		while (read(ends[0], &told, sizeof told) == sizeof told)
			acknowledged = told;
		close(ends[0]);
		start(r);
		esk_client *client = join(r);
		char session[256];
		snprintf(session, sizeof session, "%s", esk_client_session(client));
		esk_client_close(client);
		stop(r);
		rows = check_rows(r, session, "scope", 0);
		if (rows < acknowledged)
			fail_msg("%llu rows were acknowledged, %llu are there",
				(unsigned long long)acknowledged, (unsigned long long)rows);
		assert_int_equal(rows % 50, 0);
	}
}

static void two_clients_on_one_instrument_are_both_recorded(void **state)
{
	rig *r = *state;
	esk_error err = {0};
	start(r);
	esk_client *one = join(r), *other = join(r);
	char session[256];
	snprintf(session, sizeof session, "%s", esk_client_session(one));
	for (uint64_t i = 0; i < 100; i++) {
		send_rows(one, "scope", i * 20, 10);
		assert_ok(esk_client_wait(one, &err), &err);
		send_rows(other, "scope", i * 20 + 10, 10);
		assert_ok(esk_client_wait(other, &err), &err);
	}
	/* Another schema is refused, with the column's name. */
	daq_batch *b = daq_batch_make(0, 1, "current");
	assert_ok(esk_client_write_batch(other, "scope", &b->schema, &b->array, &err), &err);
	assert_int_equal(esk_client_flush(other, &err) != ESK_OK, 1);
	if (strstr(err.message, "current") == NULL && strstr(err.message, "voltage") == NULL)
		fail_msg("\"%s\" names no column", err.message);
	daq_batch_free(b);
	assert_ok(esk_client_flush(one, &err), &err);
	esk_client_close(one);
	esk_client_close(other);
	stop(r);
	assert_int_equal(check_rows(r, session, "scope", 0), 2000);
}

/* ---- rings ---- */

static esk_ring *make_ring(rig *r, const char *name)
{
	esk_ring *ring;
	esk_error err = {0};
	esk_ring_options options = ESK_RING_OPTIONS_INIT;
	options.policy = ESK_BLOCK;
	assert_ok(esk_daq_ring_create_in(r->store, name, 4, &options, &ring, &err), &err);
	return ring;
}

static esk_status put_rows(esk_ring *ring, uint64_t first, uint64_t rows, esk_error *err)
{
	daq_batch *b = daq_batch_make(first, rows, "voltage");
	esk_status status = esk_daq_write_arrow(ring, "probe", &b->schema, &b->array, err);
	daq_batch_free(b);
	return status;
}

static void wait_for_ring(rig *r, const char *name, int64_t rows)
{
	while (ring_rows(r, name) < rows)
		usleep(20000);
}

static void rings_that_are_there_and_rings_that_come_are_drained(void **state)
{
	rig *r = *state;
	esk_error err = {0};
	esk_ring *early = make_ring(r, "early");
	assert_ok(put_rows(early, 0, 100, &err), &err);
	start(r);
	wait_for_ring(r, "early", 100);
	esk_ring *late = make_ring(r, "late");
	for (uint64_t i = 0; i < 50; i++)
		assert_ok(put_rows(late, i * 10, 10, &err), &err);
	wait_for_ring(r, "late", 500);
	assert_ok(put_rows(early, 100, 100, &err), &err);
	esk_ring_detach(early);
	esk_ring_detach(late);
	stop(r); /* drains to the end */
	assert_int_equal(check_rows(r, "early", "probe", 0), 200);
	assert_int_equal(check_rows(r, "late", "probe", 0), 500);
}

static void a_ring_whose_producer_died_is_drained_to_its_end(void **state)
{
	rig *r = *state;
	esk_ring *ring = make_ring(r, "probe");
	esk_ring_detach(ring);
	char path[256];
	esk_error err = {0};
	assert_ok(esk_daq_ring_path(r->store, "probe", path, sizeof path, &err), &err);
	pid_t producer = fork();
	assert_true(producer >= 0);
	if (producer == 0) {
		if (esk_daq_ring_open(path, &ring, &err) != ESK_OK)
			_exit(1);
		for (uint64_t i = 0; i < 300; i++)
			if (put_rows(ring, i * 7, 7, &err) != ESK_OK)
				_exit(1);
		kill(getpid(), SIGKILL);
	}
	assert_true(WIFSIGNALED(wait_for(producer)));
	start(r);
	wait_for_ring(r, "probe", 2100);
	stop(r);
	assert_int_equal(check_rows(r, "probe", "probe", 0), 2100);
}

static void a_ring_goes_on_where_it_was_after_the_daemons_death(void **state)
{
	rig *r = *state;
	esk_error err = {0};
	uint64_t next = 0, rounds = test_scale(4);
	esk_ring *ring = make_ring(r, "probe");
	for (uint64_t i = 0; i < rounds; i++) {
		start(r);
		wait_for_ring(r, "probe", 0);
		for (unsigned k = 0; k < 200; k++, next += 25)
			assert_ok(put_rows(ring, next, 25, &err), &err);
		usleep((useconds_t)((test_seed() * 7919 + i * 104729) % 100000));
		murder(r->daemon);
		r->daemon = 0;
	}
	esk_ring_detach(ring);
	start(r);
	stop(r);
	/* The last daemon may have had too little time to see the ring. */
	start(r);
	wait_for_ring(r, "probe", 0);
	stop(r);
	assert_int_equal(check_rows(r, "probe", "probe", 0), next);
}

static void a_ring_that_is_removed_is_finished(void **state)
{
	rig *r = *state;
	esk_error err = {0};
	char path[256], target[256];
	esk_ring *ring = make_ring(r, "probe");
	start(r);
	assert_ok(put_rows(ring, 0, 100, &err), &err);
	wait_for_ring(r, "probe", 0);
	assert_ok(put_rows(ring, 100, 100, &err), &err);
	assert_ok(esk_daq_ring_path(r->store, "probe", path, sizeof path, &err), &err);
	assert_non_null(realpath(path, target));
	assert_int_equal(unlink(path), 0);
	(void)unlink(target);
	while (ring_rows(r, "probe") >= 0)
		usleep(20000);
	/* Its rows are in the file while the daemon goes on, and a new ring of the name goes on behind. */
	assert_int_equal(check_rows(r, "probe", "probe", 0), 200);
	esk_ring_detach(ring);
	ring = make_ring(r, "probe");
	assert_ok(put_rows(ring, 200, 50, &err), &err);
	wait_for_ring(r, "probe", 50);
	esk_ring_detach(ring);
	stop(r);
	assert_int_equal(check_rows(r, "probe", "probe", 0), 250);
}

static void a_file_that_is_no_ring_is_told_of_and_holds_up_nothing(void **state)
{
	rig *r = *state;
	esk_error err = {0};
	esk_ring *ring = make_ring(r, "probe");
	char path[256];
	snprintf(path, sizeof path, "%s/spool/daq/bogus.ring", r->store);
	FILE *out = fopen(path, "w");
	assert_non_null(out);
	fputs("not a ring", out);
	fclose(out);
	start(r);
	assert_ok(put_rows(ring, 0, 10, &err), &err);
	wait_for_ring(r, "probe", 10);
	json_t *stats = ask(r);
	bool told = false;
	size_t i;
	json_t *one;
	json_array_foreach(json_object_get(stats, "rings"), i, one)
	{
		if (strcmp(json_string_value(json_object_get(one, "name")), "bogus") == 0)
			told = strcmp(json_string_value(json_object_get(one, "status")), "ecorrupt") == 0;
	}
	assert_true(told);
	json_decref(stats);
	esk_ring_detach(ring);
	stop(r);
}

/* ---- in one process ---- */

static void options_out_of_range_are_refused(void **state)
{
	rig *r = *state;
	esk_daemon *daemon;
	esk_error err = {0};
	esk_daemon_options options = ESK_DAEMON_OPTIONS_INIT;
	options.max_clients = 5000;
	assert_int_equal(esk_daemon_open(r->store, &options, &daemon, &err), ESK_EINVAL);
	options.max_clients = 0;
	options.max_message_bytes = 1000;
	assert_int_equal(esk_daemon_open(r->store, &options, &daemon, &err), ESK_EINVAL);
	options.max_message_bytes = 1 << 20;
	options.max_memory_bytes = 1 << 19;
	assert_int_equal(esk_daemon_open(r->store, &options, &daemon, &err), ESK_EINVAL);
	assert_int_equal(esk_daemon_open("/dev/null/nowhere", NULL, &daemon, &err) != ESK_OK, 1);
	options.max_memory_bytes = 0;
	assert_ok(esk_daemon_open(r->store, &options, &daemon, &err), &err);
	options.max_clients = 5000;
	assert_int_equal(esk_daemon_reload(daemon, &options, &err), ESK_EINVAL);
	esk_daemon_stop(daemon);
	assert_ok(esk_daemon_run(daemon, &err), &err);
	assert_ok(esk_daemon_close(daemon, &err), &err);
}

static void statistics_become_prometheus_text(void **state)
{
	char *text;
	esk_error err = {0};
	const char *json =
		"{\"daemon\": {\"clients\": 3, \"uptime_s\": 1.5}, \"session\": {\"status\": \"enospc\", "
		"\"rows_written\": 7}, \"rings\": [{\"name\": \"a\\\"b\\\\c\\n\", \"rows\": 5, \"status\": "
		"\"ok\"}, {\"name\": \"x\", \"rows\": 6, \"status\": \"eio\"}]}";
	assert_ok(esk_daemon_stats_prometheus(json, &text, &err), &err);
	assert_non_null(strstr(text, "\nesker_daemon_clients 3\n"));
	assert_non_null(strstr(text, "esker_daemon_uptime_seconds 1.5\n"));
	assert_non_null(
		strstr(text, "# TYPE esker_session_rows_total counter\nesker_session_rows_total 7\n"));
	assert_non_null(strstr(text, "\nesker_session_ok 0\n"));
	assert_non_null(strstr(text,
		"esker_ring_rows_total{ring=\"a\\\"b\\\\c\\n\"} 5\nesker_ring_rows_total{ring=\"x\"} 6\n"));
	assert_non_null(strstr(text, "esker_ring_ok{ring=\"x\"} 0\n"));
	free(text);
	assert_int_equal(esk_daemon_stats_prometheus("[]", &text, &err), ESK_EINVAL);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		T(what_was_acknowledged_survives_the_daemons_death),
		T(a_stop_commits_and_the_next_start_goes_on),
		T(client_and_daemon_killed_together_lose_nothing_acknowledged),
		T(two_clients_on_one_instrument_are_both_recorded),
		T(rings_that_are_there_and_rings_that_come_are_drained),
		T(a_ring_whose_producer_died_is_drained_to_its_end),
		T(a_ring_goes_on_where_it_was_after_the_daemons_death),
		T(a_ring_that_is_removed_is_finished),
		T(a_file_that_is_no_ring_is_told_of_and_holds_up_nothing),
		T(options_out_of_range_are_refused),
		T(statistics_become_prometheus_text),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
