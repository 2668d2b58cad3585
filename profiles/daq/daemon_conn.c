/* A connection's messages, one after the other: see daemon_conn.h. */
#include "daemon_conn.h"

#include <esker/profile.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_READ_BYTES (16u << 10)
#define KEPT_HEADER_BYTES 256u

struct esk_conn {
	const esk_handler *handler;
	esk_conn_totals *totals;
	uint64_t charged; /* of totals->memory_bytes */

	esk_bytes in;
	bool in_frame; /* `frame` is the message that `in` begins with */
	esk_frame frame;
	uint64_t last_bytes; /* of the message before */

	esk_bytes out;
	uint64_t number; /* of the message at hand; messages before it are done */
	uint64_t told;   /* up to here the peer knows */
	bool said_hello;
	bool ending;

	esk_request request; /* of the message at hand */
	/* A header as the last WriteBatch had it need not be parsed again. */
	uint8_t kept_header[KEPT_HEADER_BYTES];
	size_t kept_header_bytes;

	esk_sources sources;
	esk_batches batches;
	bool writing; /* batches are being recorded */
	bool rests;   /* a task found no room: it is asked for again, but not at once */

	bool in_task;
	esk_task_kind task;
	esk_status outcome;
	esk_error outcome_error;
};

/* ---- memory ---- */

static void charge(esk_conn *conn)
{
	uint64_t now = conn->in.capacity + conn->out.capacity + conn->sources.kept_bytes;
	conn->totals->memory_bytes += now - conn->charged;
	conn->charged = now;
}

static esk_status check_budget(const esk_conn *conn, uint64_t more, esk_error *err)
{
	const esk_conn_totals *totals = conn->totals;
	if (more <= totals->max_memory_bytes && totals->memory_bytes <= totals->max_memory_bytes - more)
		return ESK_OK;
	return esk_fail(err, ESK_ENOMEM,
		"the daemon keeps %" PRIu64 " bytes for its clients, and may keep %" PRIu64
		": try again, or start it with a larger --max-memory",
		totals->memory_bytes, totals->max_memory_bytes);
}

esk_status esk_conn_create(
	const esk_handler *handler, esk_conn_totals *totals, esk_conn **ret_conn, esk_error *err)
{
	esk_conn *conn = calloc(1, sizeof *conn);
	if (conn == NULL)
		return esk_fail_memory(err, sizeof *conn, "a connection");
	conn->handler = handler;
	conn->totals = totals;
	*ret_conn = conn;
	return ESK_OK;
}

void esk_conn_destroy(esk_conn *conn)
{
	if (conn == NULL)
		return;
	conn->totals->memory_bytes -= conn->charged;
	esk_batches_clear(&conn->batches);
	esk_sources_clear(&conn->sources);
	esk_request_clear(&conn->request);
	esk_bytes_clear(&conn->in);
	esk_bytes_clear(&conn->out);
	free(conn);
}

void esk_conn_rest(esk_conn *conn)
{
	if (!conn->in_task && !conn->writing && esk_bytes_size(&conn->in) == 0)
		esk_bytes_clear(&conn->in);
	if (esk_bytes_size(&conn->out) == 0)
		esk_bytes_clear(&conn->out);
	charge(conn);
}

/* ---- replies ---- */

/* Whoever cannot be answered is not served any more. */
static void added(esk_conn *conn, esk_status status)
{
	if (status != ESK_OK)
		conn->ending = true;
	charge(conn);
}

static void refuse(esk_conn *conn, uint64_t to, esk_status code, const char *message, bool fatal)
{
	esk_refusal refusal = {.to = to, .code = code, .message = message, .fatal = fatal};
	if (conn->writing)
		refusal.rows_taken = esk_batches_rows(&conn->batches);
	if (conn->ending)
		return;
	conn->totals->errors++;
	added(conn, esk_reply_error(&conn->out, &refusal, NULL));
	conn->ending = conn->ending || fatal;
	if (to > 0)
		conn->told = to;
}

void esk_conn_end(esk_conn *conn, esk_status code, const char *message)
{
	refuse(conn, 0, code, message, true);
}

void esk_conn_close(esk_conn *conn)
{
	conn->ending = true;
}

const void *esk_conn_output(esk_conn *conn, size_t *ret_bytes)
{
	uint64_t done = conn->number > 0 ? conn->number - 1 : 0;
	if (esk_bytes_size(&conn->out) == 0 && done > conn->told) {
		conn->told = done;
		added(conn, esk_reply_ack(&conn->out, done, NULL));
	}
	*ret_bytes = esk_bytes_size(&conn->out);
	return conn->out.data + conn->out.begin;
}

void esk_conn_sent(esk_conn *conn, size_t bytes)
{
	esk_bytes_take(&conn->out, bytes);
}

/* ---- receiving ---- */

/* How much may be received at once. A large message is received alone, so that none begins behind it and has
 * to be moved; when its size is not known yet, it is taken to be like the one before. */
static size_t wanted(const esk_conn *conn)
{
	uint64_t have = esk_bytes_size(&conn->in);
	if (conn->in_frame && esk_frame_bytes(&conn->frame) > ESK_CONN_READ_BYTES / 2)
		return (size_t)(esk_frame_bytes(&conn->frame) - have);
	if (have == 0 && conn->last_bytes > ESK_CONN_READ_BYTES / 2)
		return (size_t)conn->last_bytes;
	return ESK_CONN_READ_BYTES;
}

/* The capacity that receiving `want` bytes more calls for: no more than twice what has come, however large
 * the message says it is. */
static size_t fitting(const esk_conn *conn, size_t want)
{
	size_t have = esk_bytes_size(&conn->in), need = have + want;
	size_t most = 2 * have;
	if (most < FIRST_READ_BYTES)
		most = FIRST_READ_BYTES;
	if (conn->last_bytes > ESK_CONN_READ_BYTES / 2 && most < conn->last_bytes)
		most = (size_t)conn->last_bytes;
	return need < most ? need : most;
}

esk_status esk_conn_room(esk_conn *conn, void **ret_at, size_t *ret_bytes, esk_error *err)
{
	esk_bytes *in = &conn->in;
	size_t want = wanted(conn), have = esk_bytes_size(in);
	if (in->begin > 0 && in->capacity - in->end < want) {
		memmove(in->data, in->data + in->begin, have);
		in->begin = 0;
		in->end = have;
	}
	size_t capacity = fitting(conn, want);
	if (capacity > in->capacity) {
		esk_error why = {0};
		esk_status status = check_budget(conn, capacity - in->capacity, &why);
		if (status == ESK_OK)
			status = esk_bytes_reserve(in, capacity - have, &why);
		if (status != ESK_OK) {
			esk_conn_end(conn, status, why.message);
			return esk_fail(err, status, "%s", why.message);
		}
		charge(conn);
	}
	size_t room = in->capacity - in->end;
	*ret_at = in->data + in->end;
	*ret_bytes = room < want ? room : want;
	return ESK_OK;
}

void esk_conn_received(esk_conn *conn, size_t bytes)
{
	conn->in.end += bytes;
	conn->totals->bytes += bytes;
}

/* ---- a message ---- */

/* True when the message that `in` begins with is whole. */
static bool look(esk_conn *conn)
{
	size_t have = esk_bytes_size(&conn->in);
	if (!conn->in_frame) {
		esk_error why = {0};
		if (have < ESK_FRAME_HEAD_BYTES)
			return false;
		esk_status status = esk_frame_read(
			conn->in.data + conn->in.begin, conn->totals->max_message_bytes, &conn->frame, &why);
		if (status != ESK_OK) {
			refuse(conn, conn->number, status, why.message, true);
			return false;
		}
		conn->in_frame = true;
	}
	return have >= esk_frame_bytes(&conn->frame);
}

static const uint8_t *header_of(const esk_conn *conn)
{
	return conn->in.data + conn->in.begin + ESK_FRAME_HEAD_BYTES;
}

static esk_status parse(esk_conn *conn, esk_error *err)
{
	const uint8_t *header = header_of(conn);
	size_t size = conn->frame.header_bytes;
	if (size == conn->kept_header_bytes && memcmp(header, conn->kept_header, size) == 0)
		return ESK_OK;
	conn->kept_header_bytes = 0;
	esk_request_clear(&conn->request);
	esk_status status = esk_request_parse(header, size, &conn->request, err);
	if (status == ESK_OK && conn->request.kind == ESK_REQUEST_WRITE && size <= KEPT_HEADER_BYTES) {
		memcpy(conn->kept_header, header, size);
		conn->kept_header_bytes = size;
	}
	return status;
}

static void finish(esk_conn *conn, esk_status status, const esk_error *why)
{
	if (status != ESK_OK)
		refuse(conn, conn->number, status, why->message, !conn->said_hello);
	else if (conn->writing)
		conn->totals->batches += conn->batches.count;
	if (conn->writing)
		conn->totals->rows += esk_batches_rows(&conn->batches);
	esk_batches_release(&conn->batches);
	conn->writing = false;
	conn->last_bytes = esk_frame_bytes(&conn->frame);
	esk_bytes_take(&conn->in, (size_t)conn->last_bytes);
	conn->in_frame = false;
	conn->totals->messages++;
	conn->number++;
	charge(conn);
}

static void ask_task(esk_conn *conn, esk_task_kind kind)
{
	conn->task = kind;
	conn->in_task = true;
	conn->outcome = ESK_EINTERNAL;
	conn->outcome_error = (esk_error){.code = ESK_EINTERNAL, .message = "the task was not run"};
}

/* Records what is left of the batches by `write`. */
static esk_status record(esk_conn *conn,
	esk_status (*write)(void *, const char *, const struct ArrowSchema *, const struct ArrowArray *,
		uint64_t *, esk_error *),
	esk_error *err)
{
	esk_batches *batches = &conn->batches;
	const struct ArrowSchema *schema = esk_arrow_decoder_schema(batches->source->decoder);
	while (batches->next < batches->count) {
		esk_status status = write(conn->handler->arg, batches->source->name, schema,
			&batches->arrays[batches->next], &batches->row, err);
		if (status != ESK_OK)
			return status;
		batches->next++;
		batches->row = 0;
	}
	return ESK_OK;
}

/* Whether the message is done; it is not where the store has no room. */
static bool go_on_writing(esk_conn *conn)
{
	esk_error why = {0};
	if (conn->rests) {
		conn->rests = false;
		return false;
	}
	if (!conn->batches.source->made) {
		ask_task(conn, ESK_TASK_WRITE);
		return true;
	}
	esk_status status = record(conn, conn->handler->write, &why);
	if (status == ESK_EFULL)
		return false;
	finish(conn, status, &why);
	return true;
}

static void begin_writing(esk_conn *conn)
{
	esk_error why = {0};
	const uint8_t *body = header_of(conn) + conn->frame.header_bytes;
	esk_status status = check_budget(conn, 0, &why);
	if (status == ESK_OK)
		status = esk_batches_decode(&conn->batches, &conn->sources, &conn->request, body,
			conn->frame.body_bytes, conn->totals->max_message_bytes, &why);
	if (status != ESK_OK) {
		finish(conn, status, &why);
		return;
	}
	conn->writing = true;
}

static void say_hello(esk_conn *conn)
{
	conn->said_hello = true;
	added(conn, esk_reply_hello(&conn->out, conn->handler->store, conn->handler->session,
			    conn->totals->max_message_bytes, NULL));
	conn->told = conn->number;
	finish(conn, ESK_OK, NULL);
}

static void tell_stats(esk_conn *conn)
{
	char *json = NULL;
	esk_error why = {0};
	esk_status status = conn->handler->stats(conn->handler->arg, &json, &why);
	if (status == ESK_OK) {
		added(conn, esk_reply_stats(&conn->out, conn->number, json, NULL));
		conn->told = conn->number;
		free(json);
	}
	finish(conn, status, &why);
}

static void begin(esk_conn *conn)
{
	esk_error why = {0};
	esk_status status = parse(conn, &why);
	bool hello = conn->request.kind == ESK_REQUEST_HELLO;
	if (status == ESK_OK && hello == conn->said_hello)
		status = esk_fail(
			&why, ESK_EINVAL, hello ? "a second Hello" : "the first message must be Hello");
	if (status == ESK_OK && conn->request.kind != ESK_REQUEST_WRITE && conn->frame.body_bytes > 0)
		status = esk_fail(&why, ESK_EINVAL, "a body of %" PRIu32 " bytes where none belongs",
			conn->frame.body_bytes);
	if (status != ESK_OK) {
		finish(conn, status, &why);
		return;
	}
	switch (conn->request.kind) {
	case ESK_REQUEST_HELLO:
		say_hello(conn);
		break;
	case ESK_REQUEST_WRITE:
		begin_writing(conn);
		break;
	case ESK_REQUEST_METADATA:
		ask_task(conn, ESK_TASK_METADATA);
		break;
	case ESK_REQUEST_FLUSH:
		ask_task(conn, ESK_TASK_FLUSH);
		break;
	case ESK_REQUEST_STATS:
		tell_stats(conn);
		break;
	}
}

esk_conn_state esk_conn_process(esk_conn *conn)
{
	if (conn->number == 0)
		conn->number = 1;
	for (;;) {
		if (conn->ending)
			return ESK_CONN_ENDING;
		if (conn->in_task)
			return ESK_CONN_TASK;
		if (conn->writing) {
			if (!go_on_writing(conn))
				return ESK_CONN_FULL;
			continue;
		}
		if (esk_bytes_size(&conn->out) > ESK_CONN_MOST_OUT_BYTES)
			return ESK_CONN_BLOCKED;
		if (look(conn))
			begin(conn);
		else if (!conn->ending)
			return ESK_CONN_READING;
	}
}

/* ---- tasks ---- */

esk_task_kind esk_conn_task_kind(const esk_conn *conn)
{
	return conn->task;
}

void esk_conn_set_task_outcome(esk_conn *conn, esk_status status, const esk_error *err)
{
	conn->outcome = status;
	if (status != ESK_OK)
		conn->outcome_error = *err;
}

void esk_conn_run_task(esk_conn *conn)
{
	const esk_handler *handler = conn->handler;
	esk_error why = {0};
	esk_status status = ESK_OK;
	switch (conn->task) {
	case ESK_TASK_WRITE:
		status = record(conn, handler->write_first, &why);
		break;
	case ESK_TASK_METADATA:
		status = handler->set_metadata(handler->arg,
			conn->request.instrument[0] != '\0' ? conn->request.instrument : NULL,
			conn->request.metadata, &why);
		break;
	case ESK_TASK_FLUSH:
		status = handler->flush(handler->arg, &why);
		break;
	}
	esk_conn_set_task_outcome(conn, status, &why);
}

void esk_conn_task_done(esk_conn *conn)
{
	conn->in_task = false;
	if (conn->task == ESK_TASK_WRITE) {
		conn->rests = conn->outcome == ESK_EFULL;
		conn->batches.source->made = conn->outcome == ESK_OK;
	}
	if (conn->rests)
		return;
	finish(conn, conn->outcome, &conn->outcome_error);
}

/* ---- for time limits ---- */

void esk_conn_refuse(esk_conn *conn, esk_status code, const esk_error *why)
{
	conn->rests = false;
	finish(conn, code, why);
}

bool esk_conn_said_hello(const esk_conn *conn)
{
	return conn->said_hello;
}

bool esk_conn_in_message(const esk_conn *conn)
{
	return esk_bytes_size(&conn->in) > 0;
}
