/* A daemon's event loop in a thread of the test, over a real socket, with a store in memory behind: what the
 * tests of the server and of the place where it listens share. */
#ifndef ESK_TESTS_DAEMON_RIG_H
#define ESK_TESTS_DAEMON_RIG_H

#include "../../profiles/daq/daemon_place.h"
#include "../../profiles/daq/daemon_server.h"
#include "daemon_support.h"
#include <sys/stat.h>

#define LONG_NS 3600000000000ull

typedef struct rig {
	test_dir *dir;
	char store[100];
	daq_shelf shelf;
	esk_handler handler;
	esk_daemon_place place;
	esk_server_limits limits;
	esk_server *server;
	pthread_t thread;
	bool running;
} rig;

static inline void *rig_serve(void *arg)
{
	rig *r = arg;
	esk_error err = {0};
	if (esk_server_run(r->server, NULL, NULL, &err) != ESK_OK)
		print_error("%s\n", err.message);
	return NULL;
}

static inline void rig_start(rig *r)
{
	esk_error err = {0};
	assert_ok(esk_daemon_place_take(r->store, NULL, &r->place, &err), &err);
	assert_ok(esk_server_create(r->place.listen_fd, &r->handler, &r->limits, &r->server, &err), &err);
	assert_int_equal(pthread_create(&r->thread, NULL, rig_serve, r), 0);
	r->running = true;
}

static inline void rig_stop(rig *r)
{
	if (!r->running)
		return;
	esk_server_stop(r->server);
	pthread_join(r->thread, NULL);
	esk_server_stats stats;
	esk_server_get_stats(r->server, &stats);
	assert_int_equal(stats.clients, 0);
	assert_int_equal(stats.totals.memory_bytes, 0);
	esk_server_destroy(r->server);
	esk_daemon_place_leave(&r->place);
	r->running = false;
}

static inline int rig_set_up(void **state)
{
	rig *r = calloc(1, sizeof *r);
	if (r == NULL || test_dir_make((void **)&r->dir) != 0)
		return -1;
	snprintf(r->store, sizeof r->store, "%s/store", r->dir->path);
	r->handler = daq_shelf_handler(&r->shelf);
	r->place = (esk_daemon_place){.lock_fd = -1, .folder_fd = -1, .listen_fd = -1};
	r->limits = (esk_server_limits){.max_clients = 16,
		.max_message_bytes = 4 << 20,
		.max_memory_bytes = 64 << 20,
		.hello_timeout_ns = LONG_NS,
		.stall_timeout_ns = LONG_NS};
	char spool[128];
	snprintf(spool, sizeof spool, "%s/spool", r->store);
	if (mkdir(r->store, 0700) != 0 || mkdir(spool, 0700) != 0)
		return -1;
	*state = r;
	return 0;
}

static inline int rig_tear_down(void **state)
{
	rig *r = *state;
	daq_shelf_hold(&r->shelf, false);
	daq_shelf_set(&r->shelf, -1);
	rig_stop(r);
	test_dir_remove((void **)&r->dir);
	free(r);
	return 0;
}

static inline esk_client *join(rig *r, const esk_client_options *options)
{
	esk_client *client;
	esk_error err = {0};
	assert_ok(esk_client_connect(r->store, options, &client, &err), &err);
	return client;
}

static inline void write_rows(esk_client *client, const char *instrument, uint64_t first, uint64_t rows)
{
	esk_error err = {0};
	daq_batch *b = daq_batch_make(first, rows, "voltage");
	assert_ok(esk_client_write_batch(client, instrument, &b->schema, &b->array, &err), &err);
	daq_batch_free(b);
}

static inline void wait_all(esk_client *client)
{
	esk_error err = {0};
	assert_ok(esk_client_wait(client, &err), &err);
}

#endif
