/* The event loop: a listening socket, its clients, their time limits. What messages do is the handler's. */
#ifndef ESK_DAQ_DAEMON_SERVER_H
#define ESK_DAQ_DAEMON_SERVER_H

#include "daemon_conn.h"

#include <esker/daemon.h>

/* Whole numbers of what happened; memory and clients are as of now. */
typedef struct esk_server_stats {
	esk_conn_totals totals;
	uint64_t clients;
	uint64_t accepted;
	uint64_t turned_away; /* other users', and beyond the limit */
	uint64_t timed_out;
} esk_server_stats;

typedef struct esk_server_limits {
	uint32_t max_clients;
	uint64_t max_message_bytes;
	uint64_t max_memory_bytes;
	uint64_t hello_timeout_ns;
	uint64_t stall_timeout_ns;
	uint64_t idle_timeout_ns;
} esk_server_limits;

typedef struct esk_server esk_server;

/* `listen_fd` and `handler` are borrowed. Errors: ESK_ENOMEM, ESK_EIO. */
esk_status esk_server_create(int listen_fd, const esk_handler *handler, const esk_server_limits *limits,
	esk_server **ret_server, esk_error *err);
/* In the thread that serves. */
void esk_server_set_limits(esk_server *server, const esk_server_limits *limits);
void esk_server_set_log(esk_server *server, esk_log_fn log, void *arg);
/* Serves until esk_server_stop; calls `turn` before the first wait, and about every second. Every task is
 * done and every client told and closed on return. */
esk_status esk_server_run(esk_server *server, void (*turn)(void *arg), void *arg, esk_error *err);
void esk_server_stop(esk_server *server); /* any thread, signal handlers */
/* As of the last turn of the loop; any thread. */
void esk_server_get_stats(esk_server *server, esk_server_stats *ret_stats);
/* NULL is allowed; not while it runs. */
void esk_server_destroy(esk_server *server);

#endif
