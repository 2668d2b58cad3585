/* The session service: one process that writes for many, over a Unix socket, and its client.
 *
 * A daemon records the batches that clients send into one session of a store, and drains every ring of
 * instruments in the store's spool. docs/PROTOCOL.md gives the bytes on the socket.
 *
 * Caveats first:
 *  - An acknowledged batch is in shared memory: it survives the death of client and daemon, not a power cut.
 *    What esk_client_flush returned for survives that as well.
 *  - esk_client_write_* returns when the batch is on its way, not when it is acknowledged. Use
 *    esk_client_wait or esk_client_flush where that matters.
 *  - A broken connection is never mended silently: every call then gives ESK_ECLOSED, and the message says
 *    how many messages were acknowledged. Those behind may or may not have been recorded.
 *  - One daemon per store. It serves its own user and root, on this machine. */
#ifndef ESKER_DAEMON_H
#define ESKER_DAEMON_H

#include <esker/log.h>
#include <esker/status.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ArrowSchema;
struct ArrowArray;
struct esk_storage_config;

/* ---- the daemon --------------------------------------------------------------------------------------- */

typedef struct esk_daemon esk_daemon;

typedef struct esk_daemon_options {
	size_t struct_size;
	const char *socket_path;    /* NULL: STORE/spool/daemon.sock */
	const char *metrics_path;   /* Prometheus text, written aside and renamed; NULL: none */
	uint64_t metrics_period_ns; /* 0: 10 s */
	uint64_t max_message_bytes; /* header and body of one message; 0: 64 MiB; 64 KiB .. 1 GiB */
	uint64_t max_memory_bytes;  /* what all clients together may make the daemon keep; 0: 512 MiB */
	uint32_t max_clients;       /* 0: 64; at most 4096 */
	uint64_t hello_timeout_ns;  /* from connecting to the first message; 0: 10 s */
	uint64_t stall_timeout_ns;  /* a message that was begun makes no progress, a reply is not taken:
				       its client is closed; commits fail (a full disk) and shared memory
				       has no room: batches are refused; 0: 30 s */
	uint64_t idle_timeout_ns;   /* nothing was sent at all; 0: never, since the death of a peer on this
				       machine is noticed at once */
	const char *session;        /* run of the session; NULL: go on with the last one that a daemon had in
				       this store, or begin one */
	bool new_session;           /* begin one in any case (`session` is then its name or NULL) */
	const struct esk_storage_config *config; /* NULL: defaults. Borrowed for the call */
	esk_log_fn log;                          /* NULL for silence; called from any thread */
	void *log_arg;
	/* Called in the thread of esk_daemon_run when it begins to serve, and then about every second, as
	 * long as it does serve: for watchdogs, and to call esk_daemon_reload. NULL: none. */
	void (*alive)(void *arg);
	void *alive_arg;
} esk_daemon_options;
#define ESK_DAEMON_OPTIONS_INIT                           \
	{                                                 \
		.struct_size = sizeof(esk_daemon_options) \
	}

/* Opens the store at `store_path` for writing (which recovers what a crash left), the session, and the
 * socket: clients may connect from now on and are answered by esk_daemon_run. `options` may be NULL. The
 * caller owns *ret_daemon and closes it.
 *
 * Errors: ESK_EBUSY (another daemon serves the store or the socket: says which process), ESK_EACCES (the
 * socket's directory is another user's or writable for others), ESK_EEXIST (a file that is no socket stands
 * in the socket's place), ESK_EINVAL (an option out of range), those of esk_store_open and of the session. */
ESK_API esk_status esk_daemon_open(
	const char *store_path, const esk_daemon_options *options, esk_daemon **ret_daemon, esk_error *err);

/* Serves until esk_daemon_stop, in the calling thread; ESK_OK then. What was acknowledged is committed on
 * return; a failure to commit is the returned status, and the rows wait in shared memory for the next daemon.
 * Troubles of single clients and rings are logged and do not end it. Not to be called twice. */
ESK_API esk_status esk_daemon_run(esk_daemon *daemon, esk_error *err);

/* Asks esk_daemon_run to return. Safe in a signal handler and from any thread; may come before run. */
ESK_API void esk_daemon_stop(esk_daemon *daemon);

/* Takes over what can be changed while it serves: metrics_path and its period, the limits, the timeouts. The
 * rest of `options` is not looked at. To be called from options.alive, or before esk_daemon_run. On failure
 * nothing is changed. Errors: ESK_EINVAL (out of range), ESK_ENOMEM. */
ESK_API esk_status esk_daemon_reload(esk_daemon *daemon, const esk_daemon_options *options, esk_error *err);

/* The daemon's statistics as JSON text, as GetStats gives them (docs/PROTOCOL.md), and the same as Prometheus
 * text; the caller frees *ret_text with free(). Any thread. Errors: ESK_ENOMEM. */
ESK_API esk_status esk_daemon_get_stats(esk_daemon *daemon, char **ret_text, esk_error *err);
ESK_API esk_status esk_daemon_stats_prometheus(const char *json, char **ret_text, esk_error *err);

/* The path of the socket, and the name of the session's run; borrowed until close. */
ESK_API const char *esk_daemon_socket(const esk_daemon *daemon);
ESK_API const char *esk_daemon_session(const esk_daemon *daemon);

/* Closes clients, rings, session and store and removes the socket. NULL is allowed. The first error is
 * returned, but everything is freed. Not to be called while esk_daemon_run runs. */
ESK_API esk_status esk_daemon_close(esk_daemon *daemon, esk_error *err);

/* ---- the client --------------------------------------------------------------------------------------- */

typedef struct esk_client esk_client; /* one thread at a time */

typedef struct esk_client_options {
	size_t struct_size;
	uint64_t window_bytes;    /* sent and not acknowledged: writes wait beyond it; 0: 16 MiB */
	uint64_t window_messages; /* likewise; 0: 4096 */
	uint64_t timeout_ns;      /* the longest that a call waits for the daemon; 0: 60 s */
} esk_client_options;
#define ESK_CLIENT_OPTIONS_INIT                           \
	{                                                 \
		.struct_size = sizeof(esk_client_options) \
	}

/* Connects to the daemon of a store (a directory: STORE/spool/daemon.sock) or at a socket, and exchanges
 * versions. `options` may be NULL. The caller owns *ret_client and closes it.
 * Errors: ESK_ENOTFOUND (no daemon: the message says how to start one), ESK_EACCES (another user's),
 * ESK_EBUSY (it has as many clients as it takes), ESK_EVERSION, ESK_ETIMEDOUT, ESK_ENOMEM. */
ESK_API esk_status esk_client_connect(
	const char *path, const esk_client_options *options, esk_client **ret_client, esk_error *err);

/* Sends one record batch (a struct array of `schema`; both borrowed for the call) to `instrument`.
 *
 * An earlier batch that the daemon refused makes the next call fail with the daemon's code and message, which
 * begins with the number of the refused message; nothing was sent then, and the call may be repeated. Each
 * refusal is reported once.
 * Errors: ESK_EINVAL (name, array), ESK_ETYPE (refused: another schema), ESK_ERANGE (larger than the daemon
 * takes), ESK_ETIMEDOUT (the window stayed full), ESK_ECLOSED. */
ESK_API esk_status esk_client_write_batch(esk_client *client, const char *instrument,
	const struct ArrowSchema *schema, const struct ArrowArray *array, esk_error *err);

/* The same for an Arrow IPC stream of `size` bytes: schema, dictionaries, batches. The batches are checked by
 * the daemon, all of them before the first is recorded. Errors as esk_client_write_batch. */
ESK_API esk_status esk_client_write_ipc(
	esk_client *client, const char *instrument, const void *stream, size_t size, esk_error *err);

/* Sets a value of the session's metadata; `json` is any JSON value ("\"text\"", "4", "{…}"). Sent in order
 * with batches, acknowledged like them. Errors: ESK_EINVAL, as esk_client_write_batch. */
ESK_API esk_status esk_client_set_metadata(
	esk_client *client, const char *key, const char *json, esk_error *err);
/* The same for an instrument: attributes of its group. */
ESK_API esk_status esk_client_set_instrument_metadata(
	esk_client *client, const char *instrument, const char *key, const char *json, esk_error *err);

/* Waits until everything sent is acknowledged or refused. Errors: a refusal that was not reported yet,
 * ESK_ETIMEDOUT, ESK_ECLOSED. */
ESK_API esk_status esk_client_wait(esk_client *client, esk_error *err);

/* Waits until everything sent before is in the file and survives power loss. Errors: ESK_ENOSPC, ESK_EIO
 * (nothing changed: rows wait in shared memory), a refusal that was not reported yet, ESK_ECLOSED. */
ESK_API esk_status esk_client_flush(esk_client *client, esk_error *err);

/* The daemon's statistics as JSON text (docs/PROTOCOL.md); the caller frees *ret_json with free(). Errors: as
 * esk_client_wait; ESK_ENOMEM. */
ESK_API esk_status esk_client_get_stats(esk_client *client, char **ret_json, esk_error *err);

/* Messages sent, and how many of the first of them are acknowledged (or refused); payload bytes likewise. */
typedef struct esk_client_progress {
	size_t struct_size;
	uint64_t sent_messages;
	uint64_t sent_bytes;
	uint64_t acknowledged_messages;
	uint64_t acknowledged_bytes;
	uint64_t refused_messages;
} esk_client_progress;
/* Sends and waits for nothing, but takes what replies have come. Fills *ret_progress (set its struct_size
 * first), on failure too. Errors: ESK_ECLOSED. */
ESK_API esk_status esk_client_get_progress(
	esk_client *client, esk_client_progress *ret_progress, esk_error *err);

/* What the daemon said of itself when it was connected to; borrowed until close. */
ESK_API const char *esk_client_session(const esk_client *client);
ESK_API uint64_t esk_client_max_message_bytes(const esk_client *client);

/* Closes the connection without waiting for anything. NULL is allowed. */
ESK_API void esk_client_close(esk_client *client);

#ifdef __cplusplus
}
#endif
#endif
