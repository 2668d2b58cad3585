/* The daemon as a whole: lock, store, session, rings, server. See esker/daemon.h.
 *
 *   serving thread   clients, and what does not wait               daemon_server.c, daemon_conn.c
 *   thread of tasks  commits, first batches, metadata              daemon_tasks.c
 *   keeper           looks for rings each second, writes metrics   here
 *   a thread a ring  drains it                                     the ring's writer
 */
#include "daemon_internal.h"

#include <esker/profile.h>

#include <errno.h>
#include <esker/esker.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS UINT64_C(1000000000)

struct esk_daemon {
	esk_logger log;
	void (*alive)(void *arg);
	void *alive_arg;
	esk_daemon_place place;
	esk_store *store;
	esk_session *session;
	esk_rings *rings;
	esk_handler handler;
	esk_server *server;
	struct timespec started;
	struct timespec started_at; /* by the monotonic clock */

	pthread_t keeper;
	bool keeping;
	pthread_mutex_t lock; /* of what follows, which the keeper reads */
	pthread_cond_t changed;
	bool finishing;
	char *metrics_path; /* NULL: none */
	uint64_t metrics_period_ns;
};

/* ---- options ---- */

static uint64_t or_default(uint64_t value, uint64_t fallback)
{
	return value != 0 ? value : fallback;
}

static esk_status take_limits(
	const esk_daemon_options *options, esk_server_limits *ret_limits, esk_error *err)
{
	esk_server_limits limits = {
		.max_clients = (uint32_t)or_default(options->max_clients, 64),
		.max_message_bytes = or_default(options->max_message_bytes, ESK_FRAME_DEFAULT_MESSAGE_BYTES),
		.max_memory_bytes = or_default(options->max_memory_bytes, 512ull << 20),
		.hello_timeout_ns = or_default(options->hello_timeout_ns, 10 * SECOND_NS),
		.stall_timeout_ns = or_default(options->stall_timeout_ns, 30 * SECOND_NS),
		.idle_timeout_ns = options->idle_timeout_ns,
	};
	if (limits.max_clients > 4096)
		return esk_fail(err, ESK_EINVAL, "%u clients: 1 to 4096 can be served", limits.max_clients);
	if (limits.max_message_bytes < ESK_FRAME_LEAST_MESSAGE_BYTES ||
		limits.max_message_bytes > ESK_FRAME_MOST_MESSAGE_BYTES)
		return esk_fail(err, ESK_EINVAL,
			"messages of at most %llu bytes: 64 KiB to 1 GiB is possible",
			(unsigned long long)limits.max_message_bytes);
	if (limits.max_memory_bytes < limits.max_message_bytes)
		return esk_fail(err, ESK_EINVAL,
			"%llu bytes of memory for clients do not hold one message of %llu",
			(unsigned long long)limits.max_memory_bytes,
			(unsigned long long)limits.max_message_bytes);
	*ret_limits = limits;
	return ESK_OK;
}

static esk_status take_metrics(esk_daemon *daemon, const esk_daemon_options *options, esk_error *err)
{
	char *path = options->metrics_path != NULL ? strdup(options->metrics_path) : NULL;
	if (path == NULL && options->metrics_path != NULL)
		return esk_fail_memory(err, strlen(options->metrics_path), "a path");
	pthread_mutex_lock(&daemon->lock);
	free(daemon->metrics_path);
	daemon->metrics_path = path;
	daemon->metrics_period_ns = or_default(options->metrics_period_ns, 10 * SECOND_NS);
	pthread_mutex_unlock(&daemon->lock);
	return ESK_OK;
}

esk_status esk_daemon_reload(esk_daemon *daemon, const esk_daemon_options *options, esk_error *err)
{
	esk_daemon_options own = ESK_DAEMON_OPTIONS_INIT;
	esk_server_limits limits;
	esk_struct_take(&own, sizeof own, options);
	esk_status status = take_limits(&own, &limits, err);
	if (status == ESK_OK)
		status = take_metrics(daemon, &own, err);
	if (status == ESK_OK)
		esk_server_set_limits(daemon->server, &limits);
	return status;
}

/* ---- statistics ---- */

static json_t *daemon_object(esk_daemon *daemon)
{
	struct timespec now;
	esk_server_stats stats;
	clock_gettime(CLOCK_MONOTONIC, &now);
	esk_server_get_stats(daemon->server, &stats);
	double uptime = (double)(now.tv_sec - daemon->started_at.tv_sec) +
			(double)(now.tv_nsec - daemon->started_at.tv_nsec) / 1e9;
	json_t *object = json_pack("{s:s, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
		"version", esk_version(), "pid", (json_int_t)getpid(), "started_ns",
		(json_int_t)daemon->started.tv_sec * 1000000000 + daemon->started.tv_nsec, "uptime_s", uptime,
		"clients", (json_int_t)stats.clients, "accepted", (json_int_t)stats.accepted, "refused",
		(json_int_t)stats.turned_away, "timed_out", (json_int_t)stats.timed_out, "messages",
		(json_int_t)stats.totals.messages, "batches", (json_int_t)stats.totals.batches, "rows",
		(json_int_t)stats.totals.rows, "bytes", (json_int_t)stats.totals.bytes, "errors",
		(json_int_t)stats.totals.errors, "memory_bytes", (json_int_t)stats.totals.memory_bytes);
	/* Paths need not be UTF-8, as JSON must be: they are then left out. */
	if (object != NULL)
		(void)json_object_set_new(object, "store", json_string(esk_store_path(daemon->store)));
	if (object != NULL)
		(void)json_object_set_new(object, "socket", json_string(daemon->place.socket_path));
	return object;
}

esk_status esk_daemon_get_stats(esk_daemon *daemon, char **ret_text, esk_error *err)
{
	json_t *object = json_pack("{s:o, s:o, s:o}", "daemon", daemon_object(daemon), "session",
		esk_daemon_session_stats(daemon->session), "rings", esk_rings_stats(daemon->rings));
	char *text = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
	json_decref(object);
	if (text == NULL)
		return esk_fail_memory(err, 4096, "statistics");
	*ret_text = text;
	return ESK_OK;
}

/* ---- the handler: calls of the session, but for the statistics, which are the daemon's ---- */

static esk_status handle_write(void *arg, const char *instrument, const struct ArrowSchema *schema,
	const struct ArrowArray *array, uint64_t *io_row, esk_error *err)
{
	esk_daemon *daemon = arg;
	return esk_daemon_session_write(daemon->session, instrument, schema, array, io_row, err);
}

static esk_status handle_metadata(void *arg, const char *instrument, const char *json, esk_error *err)
{
	esk_daemon *daemon = arg;
	return esk_session_set_metadata_json(daemon->session, instrument, json, err);
}

static esk_status handle_flush(void *arg, esk_error *err)
{
	esk_daemon *daemon = arg;
	return esk_session_flush(daemon->session, err);
}

static esk_status handle_trouble(void *arg, esk_error *err)
{
	esk_daemon *daemon = arg;
	return esk_daemon_session_trouble(daemon->session, err);
}

static esk_status handle_stats(void *arg, char **ret_json, esk_error *err)
{
	return esk_daemon_get_stats(arg, ret_json, err);
}

/* ---- the keeper ---- */

static void write_metrics(esk_daemon *daemon, const char *path)
{
	esk_error why = {0};
	char *json = NULL, *text = NULL;
	esk_status status = esk_daemon_get_stats(daemon, &json, &why);
	if (status == ESK_OK)
		status = esk_daemon_stats_prometheus(json, &text, &why);
	if (status == ESK_OK)
		status = esk_metrics_write(path, text, &why);
	if (status != ESK_OK)
		esk_log(&daemon->log, ESK_LOG_WARNING, "%s", why.message);
	free(text);
	free(json);
}

/* Waits a second, with the lock held; false: it is over. */
static bool wait_a_second(esk_daemon *daemon)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec++;
	while (!daemon->finishing &&
		pthread_cond_timedwait(&daemon->changed, &daemon->lock, &until) != ETIMEDOUT)
		;
	return !daemon->finishing;
}

static void *keep(void *arg)
{
	esk_daemon *daemon = arg;
	uint64_t written_ns = 0;
	pthread_mutex_lock(&daemon->lock);
	do {
		uint64_t now = esk_monotonic_ns();
		bool due = daemon->metrics_path != NULL && now - written_ns >= daemon->metrics_period_ns;
		char *path = due ? strdup(daemon->metrics_path) : NULL;
		pthread_mutex_unlock(&daemon->lock);
		esk_rings_look(daemon->rings);
		if (path != NULL) {
			write_metrics(daemon, path);
			written_ns = now;
		}
		free(path);
		pthread_mutex_lock(&daemon->lock);
	} while (wait_a_second(daemon));
	pthread_mutex_unlock(&daemon->lock);
	return NULL;
}

static void stop_keeper(esk_daemon *daemon)
{
	if (!daemon->keeping)
		return;
	pthread_mutex_lock(&daemon->lock);
	daemon->finishing = true;
	pthread_cond_signal(&daemon->changed);
	pthread_mutex_unlock(&daemon->lock);
	pthread_join(daemon->keeper, NULL);
	daemon->keeping = false;
}

/* ---- open, run, close ---- */

static void init_locks(esk_daemon *daemon)
{
	pthread_condattr_t attributes;
	pthread_mutex_init(&daemon->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&daemon->changed, &attributes);
	pthread_condattr_destroy(&attributes);
}

/* With the key whose file the configuration names; else the store finds that of the environment. */
static esk_status open_with_key(const char *path, const char *key_file, esk_store_options *options,
	esk_store **ret_store, esk_error *err)
{
	esk_key *key = NULL;
	esk_status status = key_file[0] != '\0' ? esk_key_load(key_file, &key, err) : ESK_OK;
	if (status != ESK_OK)
		return status;
	options->key = key;
	status = esk_store_open(path, options, ret_store, err);
	esk_key_free(key); /* the store shares it */
	return status;
}

static esk_status open_store(
	esk_daemon *daemon, const char *path, const esk_daemon_options *options, esk_error *err)
{
	esk_store_options store_options = ESK_STORE_OPTIONS_INIT;
	store_options.log = options->log;
	store_options.log_arg = options->log_arg;
	const char *key_file = options->config != NULL ? options->config->key_file : "";
	esk_status status = open_with_key(path, key_file, &store_options, &daemon->store, err);
	if (status == ESK_OK)
		status = esk_daemon_session_open(daemon->store, options, &daemon->log, &daemon->session, err);
	if (status == ESK_OK)
		status = esk_rings_create(daemon->store, options->config, &daemon->log, &daemon->rings, err);
	return status;
}

static esk_status open_all(
	esk_daemon *daemon, const char *path, const esk_daemon_options *options, esk_error *err)
{
	esk_server_limits limits;
	esk_status status = take_limits(options, &limits, err);
	if (status == ESK_OK)
		status = take_metrics(daemon, options, err);
	if (status == ESK_OK && access(path, F_OK) != 0)
		status = esk_fail_errno(err, errno, "%s", path);
	if (status == ESK_OK)
		status = esk_daemon_place_take(path, options->socket_path, &daemon->place, err);
	if (status == ESK_OK)
		status = open_store(daemon, path, options, err);
	if (status != ESK_OK)
		return status;
	daemon->handler = (esk_handler){.arg = daemon,
		.write = handle_write,
		.write_first = handle_write,
		.set_metadata = handle_metadata,
		.flush = handle_flush,
		.trouble = handle_trouble,
		.stats = handle_stats,
		.store = esk_store_path(daemon->store),
		.session = esk_session_name(daemon->session)};
	status = esk_server_create(daemon->place.listen_fd, &daemon->handler, &limits, &daemon->server, err);
	if (status == ESK_OK)
		esk_server_set_log(daemon->server, options->log, options->log_arg);
	return status;
}

esk_status esk_daemon_open(
	const char *store_path, const esk_daemon_options *options, esk_daemon **ret_daemon, esk_error *err)
{
	esk_daemon_options own = ESK_DAEMON_OPTIONS_INIT;
	if (options != NULL)
		esk_struct_take(&own, sizeof own, options);
	esk_daemon *daemon = calloc(1, sizeof *daemon);
	if (daemon == NULL)
		return esk_fail_memory(err, sizeof *daemon, "a daemon");
	init_locks(daemon);
	clock_gettime(CLOCK_REALTIME, &daemon->started);
	clock_gettime(CLOCK_MONOTONIC, &daemon->started_at);
	daemon->log = (esk_logger){own.log, own.log_arg};
	daemon->alive = own.alive;
	daemon->alive_arg = own.alive_arg;
	daemon->place = (esk_daemon_place){.lock_fd = -1, .folder_fd = -1, .listen_fd = -1};
	esk_status status = open_all(daemon, store_path, &own, err);
	if (status != ESK_OK) {
		(void)esk_daemon_close(daemon, NULL);
		return status;
	}
	*ret_daemon = daemon;
	return ESK_OK;
}

esk_status esk_daemon_run(esk_daemon *daemon, esk_error *err)
{
	int code = pthread_create(&daemon->keeper, NULL, keep, daemon);
	if (code != 0)
		return esk_fail_errno(err, code, "a thread that looks after rings");
	daemon->keeping = true;
	esk_status status = esk_server_run(daemon->server, daemon->alive, daemon->alive_arg, err);
	stop_keeper(daemon);
	esk_error why = {0};
	esk_status committed = esk_session_flush(daemon->session, &why);
	if (status == ESK_OK && committed != ESK_OK)
		status = esk_fail(err, committed, "%s", why.message);
	return status;
}

void esk_daemon_stop(esk_daemon *daemon)
{
	esk_server_stop(daemon->server);
}

const char *esk_daemon_socket(const esk_daemon *daemon)
{
	return daemon->place.socket_path;
}

const char *esk_daemon_session(const esk_daemon *daemon)
{
	return esk_session_name(daemon->session);
}

/* Keeps the first failure of several closings. */
static esk_status first_of(esk_status first, esk_status status, const esk_error *why, esk_error *err)
{
	if (first != ESK_OK || status == ESK_OK)
		return first;
	return esk_fail(err, status, "%s", why->message);
}

esk_status esk_daemon_close(esk_daemon *daemon, esk_error *err)
{
	esk_error why = {0};
	if (daemon == NULL)
		return ESK_OK;
	stop_keeper(daemon);
	esk_server_destroy(daemon->server);
	esk_status status = first_of(ESK_OK, esk_rings_destroy(daemon->rings, &why), &why, err);
	status = first_of(status, esk_session_close(daemon->session, &why), &why, err);
	status = first_of(status, esk_store_close(daemon->store, &why), &why, err);
	esk_daemon_place_leave(&daemon->place);
	pthread_cond_destroy(&daemon->changed);
	pthread_mutex_destroy(&daemon->lock);
	free(daemon->metrics_path);
	free(daemon);
	return status;
}
