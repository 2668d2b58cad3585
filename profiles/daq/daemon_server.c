/* The event loop: see daemon_server.h.
 *
 * Everything here belongs to the serving thread, but for `stop` and `published` (under its lock). A client is
 * in epoll's set only while something is wanted of its socket: one whose task runs, or that the store has no
 * room for, is taken out, since epoll tells of a hang-up whether asked or not. */
#include "daemon_server.h"

#include "daemon_tasks.h"
#include <esker/profile.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MOST 64
#define ACCEPTS_MOST 16
#define TURN_BYTES (4u << 20) /* that one client may send before others have their turn */
#define TICK_NS 200000000ull
#define TURN_NS 1000000000ull
#define RETRY_NS 1000000ull /* how often a store without room is asked again */
#define REST_NS 5000000000ull

typedef struct client {
	struct client *next, *previous;
	esk_task_link link; /* while its task is out */
	int fd;
	esk_conn *conn;
	esk_conn_state state;
	uint32_t armed; /* what epoll was asked for; 0: not in its set */
	bool task_out;
	bool full;    /* counted in full_count */
	bool hung_up; /* the peer takes no replies any more; what it sent is still received */
	bool broken;  /* epoll does not take it */
	uint64_t connected_ns;
	uint64_t received_ns; /* something was */
	uint64_t sent_ns;     /* something was, or there was nothing to send */
} client;

struct esk_server {
	int listen_fd, epoll_fd, wake_fd;
	bool accepting;
	const esk_handler *handler;
	esk_server_limits limits;
	esk_conn_totals totals;
	esk_tasks *tasks;
	client *clients;
	uint64_t client_count, full_count;
	uint64_t accepted, turned_away, timed_out;
	uint64_t ticked_ns, turned_ns, retried_ns;
	uint64_t full_since_ns; /* clients found no room, and no row was recorded, */
	uint64_t full_rows;     /* beyond so many */
	esk_logger logger;
	atomic_bool stop;
	pthread_mutex_t lock;
	esk_server_stats published;
};

/* ---- clients ---- */

static void arm(esk_server *server, client *c, uint32_t events)
{
	if (events == c->armed)
		return;
	struct epoll_event event = {.events = events, .data.ptr = c};
	int op = events == 0 ? EPOLL_CTL_DEL : c->armed == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
	if (epoll_ctl(server->epoll_fd, op, c->fd, &event) == 0)
		c->armed = events;
	else if (op != EPOLL_CTL_DEL)
		c->broken = true;
}

static void drop(esk_server *server, client *c)
{
	arm(server, c, 0);
	close(c->fd);
	if (c->previous != NULL)
		c->previous->next = c->next;
	else
		server->clients = c->next;
	if (c->next != NULL)
		c->next->previous = c->previous;
	server->client_count--;
	server->full_count -= c->full;
	esk_conn_destroy(c->conn);
	free(c);
}

/* Sends what there is. False: the socket takes no more at present. */
static bool send_output(client *c, uint64_t now)
{
	for (;;) {
		size_t size;
		const void *data = esk_conn_output(c->conn, &size);
		if (size == 0) {
			c->sent_ns = now;
			return true;
		}
		ssize_t sent =
			c->hung_up ? (ssize_t)size : send(c->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno == EAGAIN)
			return false;
		if (sent < 0 && errno != EINTR)
			c->hung_up = true;
		if (sent > 0) {
			c->sent_ns = now;
			esk_conn_sent(c->conn, (size_t)sent);
		}
	}
}

static void note_progress(esk_server *server, uint64_t now)
{
	if (server->totals.rows == server->full_rows)
		return;
	server->full_rows = server->totals.rows;
	server->full_since_ns = now;
}

static void note_full(esk_server *server, client *c, uint64_t now)
{
	bool full = c->state == ESK_CONN_FULL;
	if (full && server->full_count == 0)
		note_progress(server, now);
	server->full_count += full;
	server->full_count -= c->full;
	c->full = full;
}

/* Brings the client to where it waits for something, and says epoll what. It may be gone afterwards. */
static void settle(esk_server *server, client *c, uint64_t now)
{
	bool sent;
	if (c->task_out)
		return;
	do {
		c->state = esk_conn_process(c->conn);
		sent = send_output(c, now);
	} while (c->state == ESK_CONN_BLOCKED && sent);
	note_full(server, c, now);
	if (c->state == ESK_CONN_TASK) {
		arm(server, c, 0);
		c->task_out = true;
		c->link.conn = c->conn;
		esk_tasks_put(server->tasks, &c->link);
		return;
	}
	uint32_t events = sent ? 0 : EPOLLOUT;
	if (c->state == ESK_CONN_READING)
		events |= EPOLLIN;
	if (c->state != ESK_CONN_ENDING || !sent)
		arm(server, c, c->state == ESK_CONN_FULL ? 0 : events);
	if (c->broken || (c->state == ESK_CONN_ENDING && sent))
		drop(server, c);
}

/* True while there may be more to receive at once. */
static bool receive(esk_server *server, client *c, uint64_t now, size_t *io_bytes)
{
	void *at;
	size_t room;
	if (esk_conn_room(c->conn, &at, &room, NULL) != ESK_OK)
		return false;
	ssize_t got = recv(c->fd, at, room, MSG_DONTWAIT);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (got <= 0) {
		/* What it sent whole is done; replies may still be wanted. */
		esk_conn_close(c->conn);
		return false;
	}
	c->received_ns = now;
	*io_bytes += (size_t)got;
	esk_conn_received(c->conn, (size_t)got);
	c->state = esk_conn_process(c->conn);
	return c->state == ESK_CONN_READING && (size_t)got == room && *io_bytes < TURN_BYTES;
}

static void serve(esk_server *server, client *c, uint32_t events, uint64_t now)
{
	size_t bytes = 0;
	if (c->state == ESK_CONN_READING && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
		while (receive(server, c, now, &bytes))
			;
	else if ((events & (EPOLLHUP | EPOLLERR)) != 0)
		c->hung_up = true;
	settle(server, c, now);
}

/* ---- connecting ---- */

/* A reply to who is not let in; a fresh socket takes that much at once. */
static void turn_away(esk_server *server, int fd, esk_status code, const char *message)
{
	esk_bytes out = {0};
	esk_refusal refusal = {.code = code, .message = message, .fatal = true};
	server->turned_away++;
	if (esk_reply_error(&out, &refusal, NULL) == ESK_OK)
		(void)send(fd, out.data, out.end, MSG_NOSIGNAL | MSG_DONTWAIT);
	esk_bytes_clear(&out);
	close(fd);
	esk_log(&server->logger, ESK_LOG_WARNING, "a client was turned away: %s", message);
}

static bool may_connect(int fd, char *message, size_t message_bytes)
{
	struct ucred peer;
	socklen_t size = sizeof peer;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
		snprintf(message, message_bytes, "who connects cannot be told: %s", strerror(errno));
		return false;
	}
	if (peer.uid == 0 || peer.uid == geteuid())
		return true;
	snprintf(message, message_bytes, "user %u may not use the daemon of user %u", (unsigned)peer.uid,
		(unsigned)geteuid());
	return false;
}

static void let_in(esk_server *server, int fd, uint64_t now)
{
	char message[160];
	client *c = NULL;
	esk_conn *conn = NULL;
	if (!may_connect(fd, message, sizeof message)) {
		turn_away(server, fd, ESK_EACCES, message);
		return;
	}
	if (server->client_count >= server->limits.max_clients) {
		snprintf(message, sizeof message, "the daemon has %" PRIu64 " clients, as many as it takes",
			server->client_count);
		turn_away(server, fd, ESK_EBUSY, message);
		return;
	}
	if ((c = calloc(1, sizeof *c)) == NULL ||
		esk_conn_create(server->handler, &server->totals, &conn, NULL) != ESK_OK) {
		free(c);
		turn_away(server, fd, ESK_ENOMEM, "out of memory for one more client");
		return;
	}
	*c = (client){.fd = fd,
		.conn = conn,
		.state = ESK_CONN_READING,
		.connected_ns = now,
		.received_ns = now,
		.sent_ns = now,
		.next = server->clients};
	if (c->next != NULL)
		c->next->previous = c;
	server->clients = c;
	server->client_count++;
	server->accepted++;
	settle(server, c, now);
}

static void listen_again(esk_server *server, bool accepting)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = server};
	if (accepting == server->accepting)
		return;
	if (epoll_ctl(server->epoll_fd, accepting ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, server->listen_fd,
		    &event) == 0)
		server->accepting = accepting;
}

static void accept_some(esk_server *server, uint64_t now)
{
	for (int i = 0; i < ACCEPTS_MOST; i++) {
		int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			let_in(server, fd, now);
			continue;
		}
		if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
			return;
		/* Out of descriptors: whoever waits is let in at a later tick, when some were closed. */
		esk_log(&server->logger, ESK_LOG_WARNING, "no client can be let in at present: %s",
			strerror(errno));
		listen_again(server, false);
		return;
	}
}

/* ---- time ---- */

static bool over(uint64_t now, uint64_t since, uint64_t limit)
{
	return limit > 0 && now > since && now - since > limit;
}

static void end_in_time(esk_server *server, client *c, uint64_t now, const char *message)
{
	server->timed_out++;
	esk_log(&server->logger, ESK_LOG_WARNING, "a client was closed: %s", message);
	esk_conn_end(c->conn, ESK_ETIMEDOUT, message);
	settle(server, c, now);
}

static void look_at_client(esk_server *server, client *c, uint64_t now)
{
	size_t waiting;
	if (c->task_out || c->state == ESK_CONN_FULL)
		return;
	(void)esk_conn_output(c->conn, &waiting);
	if (waiting > 0 && over(now, c->sent_ns, server->limits.stall_timeout_ns)) {
		server->timed_out++;
		esk_log(&server->logger, ESK_LOG_WARNING, "a client was closed: it takes no replies");
		drop(server, c);
	} else if (c->state != ESK_CONN_READING) {
		return;
	} else if (!esk_conn_said_hello(c->conn) &&
		   over(now, c->connected_ns, server->limits.hello_timeout_ns)) {
		end_in_time(server, c, now, "no Hello came in time");
	} else if (esk_conn_in_message(c->conn) &&
		   over(now, c->received_ns, server->limits.stall_timeout_ns)) {
		end_in_time(server, c, now, "the rest of a message did not come in time");
	} else if (over(now, c->received_ns, server->limits.idle_timeout_ns)) {
		end_in_time(server, c, now, "nothing was sent for as long as --idle-timeout allows");
	} else if (over(now, c->received_ns, REST_NS)) {
		esk_conn_rest(c->conn);
	}
}

static void tick(esk_server *server, uint64_t now)
{
	if (now - server->ticked_ns < TICK_NS)
		return;
	server->ticked_ns = now;
	listen_again(server, true);
	for (client *c = server->clients, *next; c != NULL; c = next) {
		next = c->next;
		look_at_client(server, c, now);
	}
}

/* Whether clients are told that there is no room, instead of waiting for it: it has lasted, and is a trouble
 * that does not pass by itself. */
static bool is_lasting(const esk_server *server, uint64_t now, esk_status *ret_code, esk_error *ret_why)
{
	const esk_handler *handler = server->handler;
	if (handler->trouble == NULL || !over(now, server->full_since_ns, server->limits.stall_timeout_ns))
		return false;
	*ret_code = handler->trouble(handler->arg, ret_why);
	return *ret_code != ESK_OK;
}

static void try_client_again(esk_server *server, client *c, uint64_t now)
{
	esk_status code;
	esk_error why = {0};
	if (is_lasting(server, now, &code, &why))
		esk_conn_refuse(c->conn, code, &why);
	settle(server, c, now);
}

static void try_full_again(esk_server *server, uint64_t now)
{
	if (server->full_count == 0 || now - server->retried_ns < RETRY_NS)
		return;
	server->retried_ns = now;
	note_progress(server, now);
	for (client *c = server->clients, *next; c != NULL; c = next) {
		next = c->next;
		if (c->state == ESK_CONN_FULL)
			try_client_again(server, c, now);
	}
}

static void take_done(esk_server *server, uint64_t now)
{
	eventfd_t count;
	(void)eventfd_read(server->wake_fd, &count);
	esk_task_link *link = esk_tasks_take_done(server->tasks);
	for (esk_task_link *next; link != NULL; link = next) {
		next = link->next;
		client *c = (client *)((char *)link - offsetof(client, link));
		c->task_out = false;
		c->received_ns = now;
		esk_conn_task_done(c->conn);
		settle(server, c, now);
	}
}

static void publish(esk_server *server)
{
	esk_server_stats stats = {.totals = server->totals,
		.clients = server->client_count,
		.accepted = server->accepted,
		.turned_away = server->turned_away,
		.timed_out = server->timed_out};
	pthread_mutex_lock(&server->lock);
	server->published = stats;
	pthread_mutex_unlock(&server->lock);
}

void esk_server_get_stats(esk_server *server, esk_server_stats *ret_stats)
{
	pthread_mutex_lock(&server->lock);
	*ret_stats = server->published;
	pthread_mutex_unlock(&server->lock);
}

/* ---- the loop ---- */

static esk_status turn_once(esk_server *server, esk_error *err)
{
	struct epoll_event events[EVENTS_MOST];
	int wait_ms = server->full_count > 0 ? (int)(RETRY_NS / 1000000) : (int)(TICK_NS / 1000000);
	int count = epoll_wait(server->epoll_fd, events, EVENTS_MOST, wait_ms);
	if (count < 0 && errno != EINTR)
		return esk_fail_errno(err, errno, "waiting for clients");
	uint64_t now = esk_monotonic_ns();
	bool connecting = false, woken = false;
	/* A client may be dropped by its own event only: the others' stay valid. */
	for (int i = 0; i < count; i++) {
		if (events[i].data.ptr == server)
			connecting = true;
		else if (events[i].data.ptr == &server->wake_fd)
			woken = true;
		else
			serve(server, events[i].data.ptr, events[i].events, now);
	}
	if (woken)
		take_done(server, now);
	if (connecting)
		accept_some(server, now);
	try_full_again(server, now);
	tick(server, now);
	publish(server);
	return ESK_OK;
}

/* What runs is done and told; what was not begun is not. */
static void say_goodbye(esk_server *server)
{
	uint64_t now = esk_monotonic_ns();
	if (server->tasks == NULL)
		return;
	listen_again(server, false);
	esk_tasks_finish(server->tasks);
	for (esk_task_link *link = esk_tasks_take_done(server->tasks), *next; link != NULL; link = next) {
		next = link->next;
		client *c = (client *)((char *)link - offsetof(client, link));
		c->task_out = false;
		esk_conn_task_done(c->conn);
	}
	while (server->clients != NULL) {
		client *c = server->clients;
		(void)send_output(c, now);
		esk_conn_end(c->conn, ESK_ECLOSED, "the daemon stops");
		(void)send_output(c, now);
		drop(server, c);
	}
	publish(server);
}

esk_status esk_server_run(esk_server *server, void (*turn)(void *arg), void *arg, esk_error *err)
{
	esk_status status = ESK_OK;
	listen_again(server, true);
	server->turned_ns = 0;
	while (status == ESK_OK && !atomic_load_explicit(&server->stop, memory_order_acquire)) {
		uint64_t now = esk_monotonic_ns();
		if (turn != NULL && now - server->turned_ns >= TURN_NS) {
			server->turned_ns = now;
			turn(arg);
		}
		status = turn_once(server, err);
	}
	say_goodbye(server);
	return status;
}

/* Pairs with the acquire in esk_server_run; the eventfd ends its wait. */
void esk_server_stop(esk_server *server)
{
	int kept = errno;
	atomic_store_explicit(&server->stop, true, memory_order_release);
	(void)eventfd_write(server->wake_fd, 1);
	errno = kept;
}

void esk_server_set_limits(esk_server *server, const esk_server_limits *limits)
{
	server->limits = *limits;
	server->totals.max_message_bytes = limits->max_message_bytes;
	server->totals.max_memory_bytes = limits->max_memory_bytes;
}

void esk_server_set_log(esk_server *server, esk_log_fn log, void *arg)
{
	server->logger = (esk_logger){log, arg};
}

esk_status esk_server_create(int listen_fd, const esk_handler *handler, const esk_server_limits *limits,
	esk_server **ret_server, esk_error *err)
{
	esk_server *server = calloc(1, sizeof *server);
	if (server == NULL)
		return esk_fail_memory(err, sizeof *server, "a server");
	pthread_mutex_init(&server->lock, NULL);
	server->listen_fd = listen_fd;
	server->handler = handler;
	server->full_rows = UINT64_MAX;
	esk_server_set_limits(server, limits);
	server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	server->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = &server->wake_fd};
	esk_status status = ESK_OK;
	if (server->epoll_fd < 0 || server->wake_fd < 0 ||
		epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, server->wake_fd, &event) != 0)
		status = esk_fail_errno(err, errno, "an event loop");
	if (status == ESK_OK)
		status = esk_tasks_create(handler, server->wake_fd, &server->tasks, err);
	if (status != ESK_OK) {
		esk_server_destroy(server);
		return status;
	}
	*ret_server = server;
	return ESK_OK;
}

void esk_server_destroy(esk_server *server)
{
	if (server == NULL)
		return;
	say_goodbye(server);
	esk_tasks_destroy(server->tasks);
	if (server->wake_fd >= 0)
		close(server->wake_fd);
	if (server->epoll_fd >= 0)
		close(server->epoll_fd);
	pthread_mutex_destroy(&server->lock);
	free(server);
}
