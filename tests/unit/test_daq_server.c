/* The daemon's event loop and the client, over real sockets, with a store in memory behind: slow, silent,
 * dying and greedy clients beside one that works. Where a test waits for something that must happen it waits
 * as long as it takes. */
#include "daemon_rig.h"
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* A socket to the daemon, without a client. */
static int raw(rig *r)
{
	int fd;
	esk_error err = {0};
	assert_ok(esk_socket_connect(r->place.socket_path, &fd, &err), &err);
	return fd;
}

static void send_all(int fd, const esk_bytes *bytes)
{
	for (size_t at = bytes->begin; at < bytes->end;) {
		ssize_t sent = send(fd, bytes->data + at, bytes->end - at, MSG_NOSIGNAL);
		assert_true(sent > 0);
		at += (size_t)sent;
	}
}

/* A socket whose flush waits for a disk that is held. */
static int begin_flush(rig *r)
{
	esk_bytes flush = {0};
	int fd = raw(r);
	daq_add_hello(&flush);
	daq_add(&flush, "{\"type\":\"Flush\"}", NULL, 0);
	send_all(fd, &flush);
	while (daq_shelf_flushing(&r->shelf) == 0)
		usleep(1000);
	esk_bytes_clear(&flush);
	return fd;
}

/* A thousand messages that are answered, and nothing else. */
static esk_bytes make_nonsense(void)
{
	esk_bytes nonsense = {0};
	daq_add_hello(&nonsense);
	for (unsigned i = 0; i < 1000; i++)
		daq_add(&nonsense, "{\"type\":\"Nonsense\"}", NULL, 0);
	return nonsense;
}

/* Statistics of when no client is there any more. */
static esk_server_stats wait_until_alone(rig *r)
{
	esk_server_stats stats;
	do
		esk_server_get_stats(r->server, &stats);
	while (stats.clients > 0 || stats.accepted == 0);
	return stats;
}

/* Receives until the daemon closes; what came, as text with the headers in it. */
static char *receive_to_end(int fd)
{
	char *text = calloc(1, 65536);
	size_t size = 0;
	ssize_t got;
	assert_non_null(text);
	while (size < 65535 && (got = recv(fd, text + size, 65535 - size, 0)) > 0)
		size += (size_t)got;
	for (size_t i = 0; i < size; i++)
		if (text[i] == '\0')
			text[i] = '.';
	return text;
}

/* ---- working ---- */

static void what_a_client_waits_for_is_recorded(void **state)
{
	rig *r = *state;
	rig_start(r);
	esk_client *client = join(r, NULL);
	assert_string_equal(esk_client_session(client), "session");
	assert_int_equal(esk_client_max_message_bytes(client), 4 << 20);
	for (uint64_t i = 0; i < 500; i++)
		write_rows(client, "scope", i * 7, 7);
	wait_all(client);
	assert_int_equal(daq_shelf_rows(&r->shelf), 3500);
	assert_true(r->shelf.ordered);
	esk_client_progress progress = {.struct_size = sizeof progress};
	esk_error err = {0};
	assert_ok(esk_client_get_progress(client, &progress, &err), &err);
	assert_int_equal(progress.sent_messages, 500);
	assert_int_equal(progress.acknowledged_messages, 500);
	assert_int_equal(progress.sent_bytes, progress.acknowledged_bytes);
	assert_int_equal(progress.refused_messages, 0);
	esk_client_close(client);
}

static void metadata_flush_and_statistics_pass(void **state)
{
	rig *r = *state;
	esk_error err = {0};
	char *json;
	rig_start(r);
	esk_client *client = join(r, NULL);
	assert_ok(esk_client_set_metadata(client, "operator", "\"Ada\"", &err), &err);
	assert_ok(esk_client_set_instrument_metadata(client, "scope", "gain", "2.5", &err), &err);
	assert_ok(esk_client_flush(client, &err), &err);
	assert_string_equal(r->shelf.last_metadata, "scope {\"gain\":2.5}");
	assert_int_equal(r->shelf.metadata, 2);
	assert_int_equal(r->shelf.flushes, 1);
	assert_ok(esk_client_get_stats(client, &json, &err), &err);
	json_t *stats = json_loads(json, 0, NULL);
	assert_true(json_is_object(json_object_get(stats, "daemon")));
	json_decref(stats);
	free(json);
	assert_int_equal(esk_client_set_metadata(client, "a", "{", &err), ESK_EINVAL);
	esk_client_close(client);
}

static void large_batches_pass(void **state)
{
	rig *r = *state;
	rig_start(r);
	esk_client *client = join(r, NULL);
	for (uint64_t i = 0; i < 20; i++)
		write_rows(client, "scope", i * 65536, 65536);
	wait_all(client);
	assert_int_equal(daq_shelf_rows(&r->shelf), 20 * 65536);
	assert_true(r->shelf.ordered);
	esk_client_close(client);
}

static void a_stream_of_bytes_is_a_batch_too(void **state)
{
	rig *r = *state;
	esk_bytes body = {0};
	esk_error err = {0};
	rig_start(r);
	esk_client *client = join(r, NULL);
	daq_batch *b = daq_batch_make(0, 10, "voltage");
	daq_encode(&body, b, true);
	daq_encode(&body, b, false);
	assert_ok(esk_client_write_ipc(client, "scope", body.data, body.end, &err), &err);
	write_rows(client, "scope", 10, 5);
	wait_all(client);
	assert_int_equal(daq_shelf_rows(&r->shelf), 25);
	assert_int_equal(esk_client_write_ipc(client, "scope", body.data, 64 << 20, &err), ESK_ERANGE);
	assert_int_equal(
		esk_client_write_ipc(client, "scope", "\xff\xff\xff\xff\xff\xff\xff\xff.", 9, &err), ESK_OK);
	assert_int_equal(esk_client_wait(client, &err), ESK_ECORRUPT);
	assert_non_null(strstr(err.message, "message 3 was refused"));
	daq_batch_free(b);
	esk_bytes_clear(&body);
	esk_client_close(client);
}

typedef struct hand {
	rig *r;
	uint64_t messages;
	unsigned number;
} hand;

static void *work(void *arg)
{
	hand *h = arg;
	char name[32];
	esk_client *client = join(h->r, NULL);
	snprintf(name, sizeof name, h->number % 2 == 0 ? "shared" : "own-%u", h->number);
	for (uint64_t i = 0; i < h->messages; i++)
		write_rows(client, name, i, 3);
	wait_all(client);
	esk_client_close(client);
	return NULL;
}

static void thousands_of_small_messages_from_several_clients_arrive(void **state)
{
	rig *r = *state;
	hand hands[4];
	pthread_t threads[4];
	uint64_t messages = test_scale(5000);
	rig_start(r);
	for (unsigned i = 0; i < 4; i++) {
		hands[i] = (hand){r, messages, i};
		assert_int_equal(pthread_create(&threads[i], NULL, work, &hands[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(daq_shelf_rows(&r->shelf), 4 * messages * 3);
	esk_server_stats stats = wait_until_alone(r);
	assert_int_equal(stats.totals.batches, 4 * messages);
	assert_int_equal(stats.accepted, 4);
}

/* ---- being refused ---- */

static void a_refusal_reaches_the_client_once_and_the_rest_goes_on(void **state)
{
	rig *r = *state;
	esk_error err = {0};
	rig_start(r);
	esk_client *client = join(r, NULL);
	write_rows(client, "scope", 0, 5);
	daq_batch *other = daq_batch_make(0, 5, "current");
	assert_ok(esk_client_write_batch(client, "scope", &other->schema, &other->array, &err), &err);
	assert_int_equal(esk_client_wait(client, &err), ESK_ETYPE);
	assert_non_null(strstr(err.message, "message 2 was refused: column \"current\" was added"));
	wait_all(client);
	write_rows(client, "scope", 5, 5);
	wait_all(client);
	assert_int_equal(daq_shelf_rows(&r->shelf), 10);
	esk_client_progress progress = {.struct_size = sizeof progress};
	assert_ok(esk_client_get_progress(client, &progress, &err), &err);
	assert_int_equal(progress.refused_messages, 1);
	daq_batch_free(other);
	esk_client_close(client);
}

static void a_call_that_reports_an_earlier_refusal_sends_nothing(void **state)
{
	rig *r = *state;
	esk_error err = {0};
	rig_start(r);
	esk_client *client = join(r, NULL);
	write_rows(client, "scope", 0, 5);
	daq_batch *other = daq_batch_make(0, 5, "current");
	assert_ok(esk_client_write_batch(client, "scope", &other->schema, &other->array, &err), &err);
	esk_client_progress progress = {.struct_size = sizeof progress};
	while (progress.refused_messages == 0)
		assert_ok(esk_client_get_progress(client, &progress, &err), &err);
	daq_batch *b = daq_batch_make(5, 5, "voltage");
	assert_int_equal(esk_client_write_batch(client, "scope", &b->schema, &b->array, &err), ESK_ETYPE);
	assert_ok(esk_client_get_progress(client, &progress, &err), &err);
	assert_int_equal(progress.sent_messages, 2);
	assert_ok(esk_client_write_batch(client, "scope", &b->schema, &b->array, &err), &err);
	wait_all(client);
	assert_int_equal(daq_shelf_rows(&r->shelf), 10);
	daq_batch_free(b);
	daq_batch_free(other);
	esk_client_close(client);
}

static void a_batch_larger_than_the_daemon_takes_is_refused_before_it_is_sent(void **state)
{
	rig *r = *state;
	esk_error err = {0};
	rig_start(r);
	esk_client *client = join(r, NULL);
	daq_batch *b = daq_batch_make(0, 400000, "voltage");
	assert_int_equal(esk_client_write_batch(client, "scope", &b->schema, &b->array, &err), ESK_ERANGE);
	assert_non_null(strstr(err.message, "send smaller batches"));
	write_rows(client, "scope", 0, 1);
	wait_all(client);
	daq_batch_free(b);
	esk_client_close(client);
}

static void no_daemon_says_how_to_start_one(void **state)
{
	rig *r = *state;
	esk_client *client;
	esk_error err = {0};
	assert_int_equal(esk_client_connect(r->store, NULL, &client, &err), ESK_ENOTFOUND);
	assert_non_null(strstr(err.message, "no daemon is there: start one with 'esker daemon STORE'"));
	rig_start(r);
	rig_stop(r);
	assert_int_equal(esk_client_connect(r->store, NULL, &client, &err), ESK_ENOTFOUND);
}

static void one_client_too_many_is_told_so(void **state)
{
	rig *r = *state;
	esk_error err = {0};
	esk_client *clients[3], *one_more;
	r->limits.max_clients = 3;
	rig_start(r);
	for (int i = 0; i < 3; i++)
		clients[i] = join(r, NULL);
	assert_int_equal(esk_client_connect(r->store, NULL, &one_more, &err), ESK_EBUSY);
	assert_non_null(strstr(err.message, "3 clients, as many as it takes"));
	write_rows(clients[1], "scope", 0, 1);
	wait_all(clients[1]);
	esk_client_close(clients[0]);
	while (esk_client_connect(r->store, NULL, &one_more, &err) != ESK_OK)
		assert_int_equal(err.code, ESK_EBUSY);
	esk_client_close(one_more);
	esk_client_close(clients[1]);
	esk_client_close(clients[2]);
}

/* ---- holding up, and not holding up ---- */

static void a_client_that_never_reads_holds_up_nobody(void **state)
{
	rig *r = *state;
	esk_bytes nonsense = make_nonsense();
	rig_start(r);
	int fd = raw(r);
	/* Until the daemon has stopped receiving, and the socket is full as well. */
	for (int idle = 0; idle < 3;) {
		ssize_t sent = send(fd, nonsense.data, nonsense.end, MSG_DONTWAIT | MSG_NOSIGNAL);
		struct pollfd ready = {.fd = fd, .events = POLLOUT};
		if (sent > 0 && (size_t)sent < nonsense.end)
			break; /* in the middle of a message: it stays as it is */
		idle = sent > 0 ? 0 : idle + (poll(&ready, 1, 50) == 0);
	}
	esk_client *client = join(r, NULL);
	for (uint64_t i = 0; i < 200; i++)
		write_rows(client, "scope", i, 1);
	wait_all(client);
	assert_int_equal(daq_shelf_rows(&r->shelf), 200);
	esk_server_stats stats;
	esk_server_get_stats(r->server, &stats);
	assert_true(stats.totals.memory_bytes < 2 << 20);
	esk_client_close(client);
	esk_bytes_clear(&nonsense);
	close(fd);
}

static void a_client_that_takes_no_replies_is_closed_in_time(void **state)
{
	rig *r = *state;
	esk_bytes nonsense = make_nonsense();
	r->limits.stall_timeout_ns = 300000000;
	rig_start(r);
	int fd = raw(r);
	for (;;) {
		if (send(fd, nonsense.data, nonsense.end, MSG_NOSIGNAL) < 0 &&
			(errno == EPIPE || errno == ECONNRESET))
			break;
	}
	esk_server_stats stats = wait_until_alone(r);
	assert_int_equal(stats.timed_out, 1);
	esk_bytes_clear(&nonsense);
	close(fd);
}

static void a_client_that_says_nothing_is_closed_in_time(void **state)
{
	rig *r = *state;
	r->limits.hello_timeout_ns = 200000000;
	rig_start(r);
	int fd = raw(r);
	char *heard = receive_to_end(fd);
	assert_non_null(strstr(heard, "\"code\":\"etimedout\""));
	assert_non_null(strstr(heard, "no Hello"));
	free(heard);
	close(fd);
}

static void a_message_that_stops_in_the_middle_is_given_up_in_time(void **state)
{
	rig *r = *state;
	esk_bytes part = {0};
	r->limits.stall_timeout_ns = 300000000;
	rig_start(r);
	int fd = raw(r);
	daq_add_hello(&part);
	daq_add_batch(&part, "scope", 0, 100, "voltage", true);
	part.end -= 8;
	send_all(fd, &part);
	char *heard = receive_to_end(fd);
	assert_non_null(strstr(heard, "the rest of a message did not come in time"));
	assert_int_equal(daq_shelf_rows(&r->shelf), 0);
	free(heard);
	close(fd);
	esk_bytes_clear(&part);
}

static void a_client_that_works_is_not_closed_for_being_idle_by_default(void **state)
{
	rig *r = *state;
	r->limits.hello_timeout_ns = 100000000;
	r->limits.stall_timeout_ns = 100000000;
	rig_start(r);
	esk_client *client = join(r, NULL);
	usleep(600000); /* longer than both limits and the looks for them */
	write_rows(client, "scope", 0, 1);
	wait_all(client);
	esk_client_close(client);
}

static void an_idle_limit_closes_who_sends_nothing(void **state)
{
	rig *r = *state;
	esk_error err = {0};
	r->limits.idle_timeout_ns = 200000000;
	rig_start(r);
	esk_client *client = join(r, NULL);
	esk_status status = ESK_OK;
	esk_client_progress progress = {.struct_size = sizeof progress};
	while (status == ESK_OK)
		status = esk_client_get_progress(client, &progress, &err);
	assert_int_equal(status, ESK_ETIMEDOUT);
	assert_non_null(strstr(err.message, "--idle-timeout"));
	esk_client_close(client);
}

/* It shut its side and waits for the answers. */
static void a_client_that_only_listens_gets_its_answers(void **state)
{
	rig *r = *state;
	esk_bytes bytes = {0};
	rig_start(r);
	int fd = raw(r);
	daq_add_hello(&bytes);
	daq_add_batch(&bytes, "scope", 0, 100, "voltage", true);
	daq_add(&bytes, "{\"type\":\"Flush\"}", NULL, 0);
	send_all(fd, &bytes);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	char *heard = receive_to_end(fd);
	assert_non_null(strstr(heard, "\"through\":3"));
	assert_int_equal(daq_shelf_rows(&r->shelf), 100);
	free(heard);
	close(fd);
	esk_bytes_clear(&bytes);
}

static void what_a_client_sent_whole_before_it_went_is_recorded(void **state)
{
	rig *r = *state;
	esk_bytes bytes = {0};
	rig_start(r);
	int fd = raw(r);
	daq_add_hello(&bytes);
	for (uint64_t i = 0; i < 50; i++)
		daq_add_batch(&bytes, "scope", i * 10, 10, "voltage", i == 0);
	bytes.end -= 16;
	send_all(fd, &bytes);
	close(fd);
	while (daq_shelf_rows(&r->shelf) < 490)
		usleep(1000);
	wait_until_alone(r);
	assert_int_equal(daq_shelf_rows(&r->shelf), 490);
	assert_true(r->shelf.ordered);
	esk_bytes_clear(&bytes);
}

static void a_slow_disk_holds_up_those_alone_who_flush_and_once(void **state)
{
	rig *r = *state;
	esk_bytes flush = {0};
	esk_error err = {0};
	char *json;
	rig_start(r);
	daq_shelf_hold(&r->shelf, true);
	int fds[5];
	daq_add_hello(&flush);
	daq_add(&flush, "{\"type\":\"Flush\"}", NULL, 0);
	for (int i = 0; i < 5; i++) {
		fds[i] = raw(r);
		send_all(fds[i], &flush);
	}
	while (daq_shelf_flushing(&r->shelf) == 0)
		usleep(1000);
	esk_server_stats stats;
	do
		esk_server_get_stats(r->server, &stats);
	while (stats.totals.bytes < 5 * flush.end);
	esk_client *client = join(r, NULL);
	assert_ok(esk_client_get_stats(client, &json, &err), &err);
	free(json);
	daq_shelf_hold(&r->shelf, false);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(shutdown(fds[i], SHUT_WR), 0);
		char *heard = receive_to_end(fds[i]);
		assert_non_null(strstr(heard, "\"through\":2"));
		free(heard);
		close(fds[i]);
	}
	assert_in_range(r->shelf.flushes, 1, 2); /* the first, and all that came meanwhile */
	esk_client_close(client);
	esk_bytes_clear(&flush);
}

static void batches_are_recorded_while_a_flush_waits_for_the_disk(void **state)
{
	rig *r = *state;
	rig_start(r);
	esk_client *client = join(r, NULL);
	write_rows(client, "scope", 0, 1);
	wait_all(client);
	daq_shelf_hold(&r->shelf, true);
	int fd = begin_flush(r);
	for (uint64_t i = 1; i < 500; i++)
		write_rows(client, "scope", i, 1);
	wait_all(client);
	assert_int_equal(daq_shelf_rows(&r->shelf), 500);
	assert_int_equal(r->shelf.flushes, 0);
	daq_shelf_hold(&r->shelf, false);
	close(fd);
	esk_client_close(client);
}

static void a_store_without_room_makes_writers_wait_and_nobody_else(void **state)
{
	rig *r = *state;
	esk_error err = {0};
	char *json;
	rig_start(r);
	esk_client_options options = ESK_CLIENT_OPTIONS_INIT;
	options.window_messages = 10;
	options.timeout_ns = 200000000;
	esk_client *writer = join(r, &options), *watcher = join(r, NULL);
	write_rows(writer, "scope", 0, 1);
	wait_all(writer);
	daq_shelf_set(&r->shelf, 3);
	for (uint64_t i = 1; i <= 13; i++)
		write_rows(writer, "scope", i, 1);
	daq_batch *b = daq_batch_make(14, 1, "voltage");
	assert_int_equal(esk_client_write_batch(writer, "scope", &b->schema, &b->array, &err), ESK_ETIMEDOUT);
	assert_non_null(strstr(err.message, "no room at present"));
	assert_ok(esk_client_get_stats(watcher, &json, &err), &err);
	free(json);
	assert_int_equal(daq_shelf_rows(&r->shelf), 4);
	daq_shelf_set(&r->shelf, -1);
	esk_status status;
	while ((status = esk_client_write_batch(writer, "scope", &b->schema, &b->array, &err)) ==
		ESK_ETIMEDOUT)
		;
	assert_int_equal(status, ESK_OK);
	wait_all(writer);
	assert_int_equal(daq_shelf_rows(&r->shelf), 15);
	assert_true(r->shelf.ordered);
	daq_batch_free(b);
	esk_client_close(writer);
	esk_client_close(watcher);
}

static void a_store_that_cannot_write_refuses_with_its_reason_and_goes_on_when_it_can(void **state)
{
	rig *r = *state;
	esk_error err = {0};
	r->limits.stall_timeout_ns = 50000000;
	rig_start(r);
	esk_client *writer = join(r, NULL), *other = join(r, NULL);
	write_rows(writer, "scope", 0, 1);
	wait_all(writer);
	daq_shelf_set(&r->shelf, 2);
	daq_shelf_break(&r->shelf, ESK_ENOSPC);
	for (uint64_t i = 1; i <= 5; i++)
		write_rows(writer, "scope", i, 1); /* 1 and 2 find room */
	for (uint64_t i = 3; i <= 5; i++) {
		assert_int_equal(esk_client_wait(writer, &err), ESK_ENOSPC);
		assert_non_null(strstr(err.message, "the shelf is broken"));
	}
	wait_all(writer);
	/* One that comes now need not wait as long, on an instrument that is new. */
	write_rows(other, "psu", 0, 1);
	assert_int_equal(esk_client_wait(other, &err), ESK_ENOSPC);
	assert_int_equal(daq_shelf_rows(&r->shelf), 3);
	daq_shelf_break(&r->shelf, ESK_OK);
	daq_shelf_set(&r->shelf, -1);
	write_rows(writer, "scope", 3, 3);
	wait_all(writer);
	assert_int_equal(daq_shelf_rows(&r->shelf), 6);
	assert_true(r->shelf.ordered);
	esk_client_close(writer);
	esk_client_close(other);
}

/* ---- dying ---- */

static void a_client_that_is_killed_takes_nothing_with_it(void **state)
{
	rig *r = *state;
	uint64_t rounds = test_scale(20);
	rig_start(r);
	esk_client *client = join(r, NULL);
	for (uint64_t i = 0; i < rounds; i++) {
		pid_t child = fork();
		if (child == 0) {
			esk_error err = {0};
			esk_client *victim;
			if (esk_client_connect(r->store, NULL, &victim, &err) != ESK_OK)
				_exit(1);
			for (uint64_t k = 0;; k++) {
				daq_batch *b = daq_batch_make(k, 50, "voltage");
				if (esk_client_write_batch(victim, "victim", &b->schema, &b->array, &err) !=
					ESK_OK)
					_exit(1);
				daq_batch_free(b);
			}
		}
		assert_true(child > 0);
		usleep((useconds_t)((test_seed() * 7919 + i * 104729) % 20000));
		kill(child, SIGKILL);
		int status;
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status));
		write_rows(client, "scope", i, 1);
		wait_all(client);
	}
	esk_client_close(client);
}

static void a_client_learns_that_the_daemon_stops(void **state)
{
	rig *r = *state;
	esk_error err = {0};
	rig_start(r);
	esk_client *client = join(r, NULL);
	write_rows(client, "scope", 0, 1);
	wait_all(client);
	rig_stop(r);
	daq_batch *b = daq_batch_make(1, 1, "voltage");
	esk_status status = ESK_OK;
	while (status == ESK_OK)
		status = esk_client_write_batch(client, "scope", &b->schema, &b->array, &err);
	assert_int_equal(status, ESK_ECLOSED);
	assert_non_null(strstr(err.message, "the daemon stops"));
	assert_non_null(strstr(err.message, "1 of 1 messages were acknowledged"));
	assert_int_equal(esk_client_flush(client, &err), ESK_ECLOSED);
	daq_batch_free(b);
	esk_client_close(client);
}

static void stopping_waits_for_the_task_at_hand_and_tells_its_client(void **state)
{
	rig *r = *state;
	rig_start(r);
	daq_shelf_hold(&r->shelf, true);
	int fd = begin_flush(r);
	esk_server_stop(r->server);
	daq_shelf_hold(&r->shelf, false);
	rig_stop(r);
	char *heard = receive_to_end(fd);
	assert_non_null(strstr(heard, "\"through\":2"));
	assert_non_null(strstr(heard, "the daemon stops"));
	free(heard);
	close(fd);
}

static void a_server_may_be_stopped_before_it_runs(void **state)
{
	rig *r = *state;
	esk_error err = {0};
	assert_ok(esk_daemon_place_take(r->store, NULL, &r->place, &err), &err);
	assert_ok(esk_server_create(r->place.listen_fd, &r->handler, &r->limits, &r->server, &err), &err);
	esk_server_stop(r->server);
	assert_ok(esk_server_run(r->server, NULL, NULL, &err), &err);
	esk_server_destroy(r->server);
	esk_daemon_place_leave(&r->place);
}

#define T(name) cmocka_unit_test_setup_teardown(name, rig_set_up, rig_tear_down)

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		T(what_a_client_waits_for_is_recorded),
		T(metadata_flush_and_statistics_pass),
		T(large_batches_pass),
		T(a_stream_of_bytes_is_a_batch_too),
		T(thousands_of_small_messages_from_several_clients_arrive),
		T(a_refusal_reaches_the_client_once_and_the_rest_goes_on),
		T(a_call_that_reports_an_earlier_refusal_sends_nothing),
		T(a_batch_larger_than_the_daemon_takes_is_refused_before_it_is_sent),
		T(no_daemon_says_how_to_start_one),
		T(one_client_too_many_is_told_so),
		T(a_client_that_never_reads_holds_up_nobody),
		T(a_client_that_takes_no_replies_is_closed_in_time),
		T(a_client_that_says_nothing_is_closed_in_time),
		T(a_message_that_stops_in_the_middle_is_given_up_in_time),
		T(a_client_that_works_is_not_closed_for_being_idle_by_default),
		T(an_idle_limit_closes_who_sends_nothing),
		T(a_client_that_only_listens_gets_its_answers),
		T(what_a_client_sent_whole_before_it_went_is_recorded),
		T(a_slow_disk_holds_up_those_alone_who_flush_and_once),
		T(batches_are_recorded_while_a_flush_waits_for_the_disk),
		T(a_store_without_room_makes_writers_wait_and_nobody_else),
		T(a_store_that_cannot_write_refuses_with_its_reason_and_goes_on_when_it_can),
		T(a_client_that_is_killed_takes_nothing_with_it),
		T(a_client_learns_that_the_daemon_stops),
		T(stopping_waits_for_the_task_at_hand_and_tells_its_client),
		T(a_server_may_be_stopped_before_it_runs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
