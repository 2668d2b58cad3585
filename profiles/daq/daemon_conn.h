/* One connection to the daemon, without its socket: received bytes go in, replies come out, and what the
 * messages ask for is done through a handler. docs/PROTOCOL.md is what it speaks.
 *
 *   received ──▶ in ──▶ whole messages ──▶ handler
 *                                            │
 *   sent ◀── out ◀── Hello, Ack, Error, Stats
 *
 * Invariants:
 *  1. Messages are done one after the other, in their order. While a task runs (another thread has it), or
 *     the store has no room, none of the later ones is begun, and `in` stays where it is in memory.
 *  2. A connection makes the daemon keep at most: `in` (one message, or ESK_CONN_READ_BYTES), `out`
 *     (ESK_CONN_MOST_OUT_BYTES and one message), its decoders (max_message_bytes). All of it is counted in
 *     the budget that connections share.
 *  3. An Ack is made when `out` is empty: a peer that takes no replies makes no more than one wait.
 *
 * A connection belongs to the server's thread; esk_conn_run_task alone runs in another, between
 * ESK_CONN_TASK and esk_conn_task_done, and touches the task only. */
#ifndef ESK_DAQ_DAEMON_CONN_H
#define ESK_DAQ_DAEMON_CONN_H

#include "daemon_batch.h"

#define ESK_CONN_READ_BYTES (256u << 10) /* of small messages that one read may bring */
#define ESK_CONN_MOST_OUT_BYTES (64u << 10)

/* What the messages are for. Errors are told to the client as they are. */
typedef struct esk_handler {
	void *arg;
	/* Records rows [*io_row, length) of a batch without waiting for anything, and moves *io_row on by
	 * what it took, on failure too. ESK_EFULL: no room at present, the rest is tried again. Called by the
	 * server's thread for instruments that write_first has recorded before. */
	esk_status (*write)(void *arg, const char *instrument, const struct ArrowSchema *schema,
		const struct ArrowArray *array, uint64_t *io_row, esk_error *err);
	/* The rest may wait for the disk (write_first too gives ESK_EFULL while there is no room), and is
	 * called by a thread for tasks, or by the server's. */
	esk_status (*write_first)(void *arg, const char *instrument, const struct ArrowSchema *schema,
		const struct ArrowArray *array, uint64_t *io_row, esk_error *err);
	/* `instrument` NULL: of the session; `json`: an object. */
	esk_status (*set_metadata)(void *arg, const char *instrument, const char *json, esk_error *err);
	esk_status (*flush)(void *arg, esk_error *err);
	/* Why there is no room, where that is more than being slow: commits fail. ESK_OK: it is not. Without
	 * waiting, by the server's thread. NULL: ESK_OK. */
	esk_status (*trouble)(void *arg, esk_error *err);
	/* Statistics as JSON text (free()), without waiting. By the server's thread. */
	esk_status (*stats)(void *arg, char **ret_json, esk_error *err);
	const char *store;   /* for Hello: borrowed, live as long as any connection */
	const char *session; /* NULL: none */
} esk_handler;

/* What connections share: one per server, changed by its thread only. */
typedef struct esk_conn_totals {
	uint64_t max_message_bytes;
	uint64_t max_memory_bytes;
	uint64_t memory_bytes; /* kept at present */
	uint64_t messages;
	uint64_t batches;
	uint64_t rows;
	uint64_t bytes;  /* received */
	uint64_t errors; /* told to clients */
} esk_conn_totals;

typedef enum esk_conn_state {
	ESK_CONN_READING, /* nothing whole is left in `in`: more has to be received */
	ESK_CONN_TASK,    /* a task has to be run: esk_conn_run_task, then esk_conn_task_done */
	ESK_CONN_FULL,    /* the store has no room: esk_conn_process again in a while */
	ESK_CONN_BLOCKED, /* the peer takes no replies: esk_conn_process again when some were sent */
	ESK_CONN_ENDING   /* what is in `out` is to be sent, then the connection closed */
} esk_conn_state;

typedef enum esk_task_kind { ESK_TASK_WRITE, ESK_TASK_METADATA, ESK_TASK_FLUSH } esk_task_kind;

typedef struct esk_conn esk_conn;

/* `handler` and `totals` are borrowed for the connection's life. Errors: ESK_ENOMEM. */
esk_status esk_conn_create(
	const esk_handler *handler, esk_conn_totals *totals, esk_conn **ret_conn, esk_error *err);
/* NULL is allowed; not while a task runs. */
void esk_conn_destroy(esk_conn *conn);

/* Where received bytes go, and how many at most; valid until the next call. Not in ESK_CONN_TASK. Errors:
 * ESK_ENOMEM (also where the budget is used up): the connection is ending then. */
esk_status esk_conn_room(esk_conn *conn, void **ret_at, size_t *ret_bytes, esk_error *err);
/* `bytes` of it were filled. */
void esk_conn_received(esk_conn *conn, size_t bytes);
/* Does messages until one of the states above stops it. */
esk_conn_state esk_conn_process(esk_conn *conn);

esk_task_kind esk_conn_task_kind(const esk_conn *conn);
/* What ESK_CONN_TASK asks for, in any thread. */
void esk_conn_run_task(esk_conn *conn);
/* As esk_conn_run_task for a flush that was made for several connections at once: its outcome. */
void esk_conn_set_task_outcome(esk_conn *conn, esk_status status, const esk_error *err);
/* Takes the outcome; then esk_conn_process goes on. */
void esk_conn_task_done(esk_conn *conn);

/* In ESK_CONN_FULL: the batch at hand is refused; then esk_conn_process goes on. */
void esk_conn_refuse(esk_conn *conn, esk_status code, const esk_error *why);

/* Tells the peer why (to: no message), and ends. */
void esk_conn_end(esk_conn *conn, esk_status code, const char *message);

/* The peer sends nothing more: whole messages are done, and it ends. Not in ESK_CONN_TASK. */
void esk_conn_close(esk_conn *conn);
/* What is to be sent: replies, and an Ack of what was done, made now. */
const void *esk_conn_output(esk_conn *conn, size_t *ret_bytes);
void esk_conn_sent(esk_conn *conn, size_t bytes);

/* What has begun and not ended: for time limits. */
bool esk_conn_said_hello(const esk_conn *conn);
bool esk_conn_in_message(const esk_conn *conn); /* received in part, or not done yet */
/* Gives back what an idle connection needs no more. */
void esk_conn_rest(esk_conn *conn);

#endif
