/* The client's side of the socket: see client.h.
 *
 * While a message is being sent, replies are taken as they come: a daemon that cannot get rid of its replies
 * stops receiving, and both would wait for each other. */
#include "client.h"

#include "daemon_place.h"
#include <esker/profile.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS UINT64_C(1000000000)
#define READ_BYTES (64u << 10)
#define PARTS_MOST 8
#define LOOK_BYTES (256u << 10) /* replies are looked for after so much was sent, or half a window */
#define SEND_BUFFER_BYTES (4 << 20)

/* ---- breaking, refusing ---- */

static void break_wire(esk_wire *wire, esk_status code, const char *why)
{
	if (wire->broken)
		return;
	wire->broken = true;
	(void)esk_fail(&wire->why_broken, code,
		"%.200s: %.160s; %" PRIu64 " of %" PRIu64
		" messages were acknowledged, those behind may or may not be recorded: connect again",
		wire->path, why, wire->answered > 0 ? wire->answered - 1 : 0,
		wire->sent > 0 ? wire->sent - 1 : 0);
}

static esk_status report_broken(const esk_wire *wire, esk_error *err)
{
	return esk_fail(err, wire->why_broken.code, "%s", wire->why_broken.message);
}

static esk_status report_refusal(esk_wire *wire, esk_error *err)
{
	esk_error why = wire->refusals[0].why;
	uint64_t number = wire->refusals[0].number;
	wire->refusal_count--;
	memmove(wire->refusals, wire->refusals + 1, wire->refusal_count * sizeof *wire->refusals);
	return esk_fail(err, why.code, "message %" PRIu64 " was refused: %.440s", number, why.message);
}

static esk_status status_of_name(const char *name)
{
	for (int code = ESK_EINVAL; code <= ESK_EINTERNAL; code++)
		if (name != NULL && strcmp(esk_status_name((esk_status)code), name) == 0)
			return (esk_status)code;
	return ESK_EINTERNAL;
}

/* ---- replies ---- */

/* Messages before `through` are answered. A daemon that tells of more than was sent is not believed. */
static bool note_answered(esk_wire *wire, uint64_t through)
{
	if (through > wire->sent || through < wire->answered)
		return false;
	if (through > wire->answered && through > 0)
		wire->answered_bytes = wire->ends[(through - 1) % wire->window_messages];
	wire->answered = through;
	return true;
}

static void note_refusal(esk_wire *wire, uint64_t number, esk_status code, const char *message)
{
	wire->refused++;
	wire->schemas_unsure = true;
	if (wire->refusal_count == ESK_CLIENT_REFUSALS_MOST)
		return; /* the first ones tell what is wrong */
	wire->refusals[wire->refusal_count].number = number;
	(void)esk_fail(&wire->refusals[wire->refusal_count].why, code, "%s", message);
	wire->refusal_count++;
}

static bool take_error(esk_wire *wire, json_t *header)
{
	json_int_t to = json_integer_value(json_object_get(header, "to"));
	const char *message = json_string_value(json_object_get(header, "message"));
	esk_status code = status_of_name(json_string_value(json_object_get(header, "code")));
	message = message != NULL ? message : "no reason was given";
	if (json_is_true(json_object_get(header, "fatal"))) {
		break_wire(wire, code, message);
		return true;
	}
	if (to <= 1 || !note_answered(wire, (uint64_t)to))
		return false;
	note_refusal(wire, (uint64_t)to - 1, code, message);
	return true;
}

static bool take_hello(esk_wire *wire, json_t *header)
{
	json_int_t most = json_integer_value(json_object_get(header, "max_message_bytes"));
	const char *session = json_string_value(json_object_get(header, "session"));
	if (most <= 0 || wire->answered > 0)
		return false;
	wire->max_message_bytes = (uint64_t)most;
	wire->session = strdup(session != NULL ? session : "");
	return wire->session != NULL && note_answered(wire, 1);
}

static bool take_stats(esk_wire *wire, json_t *header, const uint8_t *body, size_t body_bytes)
{
	free(wire->stats);
	wire->stats = strndup((const char *)body, body_bytes);
	return wire->stats != NULL &&
	       note_answered(wire, (uint64_t)json_integer_value(json_object_get(header, "to")));
}

static bool take_header(esk_wire *wire, json_t *header, const uint8_t *body, size_t body_bytes)
{
	const char *type = json_string_value(json_object_get(header, "type"));
	if (type == NULL)
		return false;
	if (strcmp(type, "Ack") == 0)
		return note_answered(wire, (uint64_t)json_integer_value(json_object_get(header, "through")));
	if (strcmp(type, "Error") == 0)
		return take_error(wire, header);
	if (strcmp(type, "Stats") == 0)
		return take_stats(wire, header, body, body_bytes);
	return strcmp(type, "Hello") == 0 && take_hello(wire, header);
}

/* Takes one reply from what was received; false: none is whole. */
static bool take_reply(esk_wire *wire)
{
	esk_frame frame;
	esk_error why = {0};
	const uint8_t *at = wire->in.data + wire->in.begin;
	size_t have = esk_bytes_size(&wire->in);
	if (wire->broken || have < ESK_FRAME_HEAD_BYTES)
		return false;
	if (esk_frame_read(at, ESK_FRAME_DEFAULT_MESSAGE_BYTES, &frame, &why) != ESK_OK) {
		break_wire(wire, ESK_ECLOSED, why.message);
		return false;
	}
	if (have < esk_frame_bytes(&frame))
		return false;
	at += ESK_FRAME_HEAD_BYTES;
	json_t *header = json_loadb((const char *)at, frame.header_bytes, 0, NULL);
	if (!take_header(wire, header, at + frame.header_bytes, frame.body_bytes))
		break_wire(wire, ESK_ECLOSED, "a reply that cannot be understood");
	json_decref(header);
	esk_bytes_take(&wire->in, (size_t)esk_frame_bytes(&frame));
	return true;
}

/* Receives without waiting. */
static void receive(esk_wire *wire)
{
	esk_error why = {0};
	while (!wire->broken) {
		if (esk_bytes_reserve(&wire->in, READ_BYTES, &why) != ESK_OK) {
			break_wire(wire, ESK_ENOMEM, why.message);
			return;
		}
		ssize_t got = recv(wire->fd, wire->in.data + wire->in.end, READ_BYTES, MSG_DONTWAIT);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			return;
		if (got <= 0) {
			break_wire(wire, ESK_ECLOSED,
				got == 0 ? "the daemon closed the connection" : strerror(errno));
			return;
		}
		wire->in.end += (size_t)got;
		while (take_reply(wire))
			;
		if ((size_t)got < READ_BYTES)
			return;
	}
}

/* Waits until the socket is readable, or writable too; false after `until`. */
static bool wait_for(esk_wire *wire, short events, uint64_t until)
{
	struct pollfd fd = {.fd = wire->fd, .events = events};
	for (;;) {
		uint64_t now = esk_monotonic_ns();
		uint64_t left_ms = until > now ? (until - now + 999999) / 1000000 : 0;
		int count = poll(&fd, 1, left_ms > 1000000 ? 1000000 : (int)left_ms);
		if (count > 0) {
			if ((fd.revents & (POLLIN | POLLHUP | POLLERR)) != 0)
				receive(wire);
			return true;
		}
		if (count < 0 && errno != EINTR) {
			break_wire(wire, ESK_EIO, strerror(errno));
			return true;
		}
		if (now >= until)
			return false;
	}
}

esk_status esk_wire_look(esk_wire *wire, esk_error *err)
{
	receive(wire);
	return wire->broken ? report_broken(wire, err) : ESK_OK;
}

esk_status esk_wire_wait(esk_wire *wire, uint64_t number, esk_error *err)
{
	uint64_t until = esk_monotonic_ns() + wire->timeout_ns;
	receive(wire);
	while (!wire->broken && wire->answered <= number)
		if (!wait_for(wire, POLLIN, until))
			return esk_fail(err, ESK_ETIMEDOUT,
				"%s: the daemon did not answer in %" PRIu64 " s; %" PRIu64 " of %" PRIu64
				" messages are acknowledged",
				wire->path, wire->timeout_ns / SECOND_NS,
				wire->answered > 0 ? wire->answered - 1 : 0, wire->sent - 1);
	if (wire->refusal_count > 0)
		return report_refusal(wire, err);
	return wire->broken ? report_broken(wire, err) : ESK_OK;
}

/* ---- sending ---- */

static bool window_full(const esk_wire *wire)
{
	uint64_t messages = wire->sent - wire->answered;
	return messages > 0 && (messages >= wire->window_messages ||
				       wire->sent_bytes - wire->answered_bytes >= wire->window_bytes);
}

static esk_status wait_for_window(esk_wire *wire, uint64_t until, esk_error *err)
{
	uint64_t open = wire->sent_bytes - wire->answered_bytes;
	if (open > LOOK_BYTES || 2 * (wire->sent - wire->answered) > wire->window_messages)
		receive(wire);
	while (!wire->broken && wire->refusal_count == 0 && window_full(wire))
		if (!wait_for(wire, POLLIN, until))
			return esk_fail(err, ESK_ETIMEDOUT,
				"%s: the daemon acknowledged nothing in %" PRIu64
				" s: it has no room at present ('esker status' tells why)",
				wire->path, wire->timeout_ns / SECOND_NS);
	if (wire->refusal_count > 0)
		return report_refusal(wire, err);
	return wire->broken ? report_broken(wire, err) : ESK_OK;
}

static void take_sent(struct iovec **io_parts, int *io_count, size_t sent)
{
	while (*io_count > 0 && sent >= (*io_parts)->iov_len) {
		sent -= (*io_parts)->iov_len;
		(*io_parts)++;
		(*io_count)--;
	}
	if (*io_count > 0) {
		(*io_parts)->iov_base = (uint8_t *)(*io_parts)->iov_base + sent;
		(*io_parts)->iov_len -= sent;
	}
}

static esk_status send_parts(esk_wire *wire, struct iovec *parts, int count, uint64_t until, esk_error *err)
{
	bool begun = false;
	while (!wire->broken && count > 0) {
		struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
		ssize_t sent = sendmsg(wire->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent > 0) {
			begun = true;
			take_sent(&parts, &count, (size_t)sent);
		} else if (sent < 0 && errno == EAGAIN) {
			if (wait_for(wire, POLLIN | POLLOUT, until))
				continue;
			if (!begun)
				return esk_fail(err, ESK_ETIMEDOUT,
					"%s: the daemon took nothing in %" PRIu64 " s", wire->path,
					wire->timeout_ns / SECOND_NS);
			break_wire(wire, ESK_ECLOSED, "the daemon stopped receiving within a message");
		} else if (sent < 0 && errno != EINTR) {
			int why = errno;
			receive(wire); /* it may have said why it closed */
			break_wire(wire, ESK_ECLOSED,
				why == EPIPE || why == ECONNRESET ? "the daemon closed the connection"
								  : strerror(why));
		}
	}
	return wire->broken ? report_broken(wire, err) : ESK_OK;
}

esk_status esk_wire_send(esk_wire *wire, struct iovec *parts, int count, esk_error *err)
{
	uint64_t body = 0;
	uint64_t until = esk_monotonic_ns() + wire->timeout_ns;
	for (int i = 1; i < count; i++)
		body += parts[i].iov_len;
	esk_frame frame = {(uint32_t)(parts[0].iov_len - ESK_FRAME_HEAD_BYTES), (uint32_t)body};
	if (frame.header_bytes + body > wire->max_message_bytes)
		return esk_fail(err, ESK_ERANGE,
			"a message of %" PRIu64 " bytes; the daemon takes at most %" PRIu64
			": send smaller batches",
			frame.header_bytes + body, wire->max_message_bytes);
	esk_status status = wait_for_window(wire, until, err);
	if (status != ESK_OK)
		return status;
	esk_frame_write(&frame, parts[0].iov_base);
	status = send_parts(wire, parts, count, until, err);
	if (status != ESK_OK)
		return status;
	wire->sent_bytes += body;
	wire->ends[wire->sent % wire->window_messages] = wire->sent_bytes;
	wire->sent++;
	return ESK_OK;
}

/* ---- connecting ---- */

static esk_status say_hello(esk_wire *wire, esk_error *err)
{
	uint8_t hello[256];
	size_t size;
	esk_status status = esk_client_header(json_pack("{s:s, s:i, s:s}", "type", "Hello", "protocol",
						      (int)ESK_FRAME_VERSION, "client", "esker"),
		hello, sizeof hello, &size, err);
	if (status != ESK_OK)
		return status;
	struct iovec part = {hello, size};
	status = esk_wire_send(wire, &part, 1, err);
	if (status == ESK_OK)
		status = esk_wire_wait(wire, 0, err);
	return status;
}

static esk_status connect_to(esk_wire *wire, const char *path, esk_error *err)
{
	esk_error why = {0};
	esk_status status = esk_socket_path(path, &wire->path, err);
	if (status != ESK_OK)
		return status;
	status = esk_socket_connect(wire->path, &wire->fd, &why);
	if (status == ESK_ENOTFOUND)
		return esk_fail(err, status, "%.300s: start one with 'esker daemon STORE'", why.message);
	if (status != ESK_OK)
		return esk_fail(err, status, "%s", why.message);
	int size = SEND_BUFFER_BYTES;
	(void)setsockopt(
		wire->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size); /* as much as the kernel allows */
	return ESK_OK;
}

esk_status esk_wire_open(esk_wire *wire, const char *path, const esk_client_options *options, esk_error *err)
{
	*wire = (esk_wire){.fd = -1, .max_message_bytes = ESK_FRAME_LEAST_MESSAGE_BYTES};
	wire->timeout_ns = options->timeout_ns != 0 ? options->timeout_ns : 60 * SECOND_NS;
	wire->window_bytes = options->window_bytes != 0 ? options->window_bytes : 16ull << 20;
	wire->window_messages = options->window_messages != 0 ? options->window_messages : 4096;
	if (wire->window_messages > 1u << 20)
		return esk_fail(err, ESK_EINVAL, "a window of %" PRIu64 " messages; at most %u are possible",
			wire->window_messages, 1u << 20);
	wire->ends = calloc(wire->window_messages, sizeof *wire->ends);
	if (wire->ends == NULL)
		return esk_fail_memory(err, wire->window_messages * sizeof *wire->ends, "a window");
	esk_status status = connect_to(wire, path, err);
	if (status == ESK_OK)
		status = say_hello(wire, err);
	return status;
}

void esk_wire_clear(esk_wire *wire)
{
	if (wire->fd >= 0)
		close(wire->fd);
	esk_bytes_clear(&wire->in);
	free(wire->ends);
	free(wire->stats);
	free(wire->session);
	free(wire->path);
	*wire = (esk_wire){.fd = -1};
}
