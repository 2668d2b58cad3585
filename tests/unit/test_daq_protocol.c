/* The connection of the daemon, without sockets: messages whole, in pieces, wrong, too many, too large. */
#include "daemon_support.h"
#include <jansson.h>

typedef struct rig {
	daq_shelf shelf;
	esk_handler handler;
	esk_conn_totals totals;
	esk_conn *conn;
	esk_bytes sent;  /* to the connection */
	esk_bytes heard; /* from it */
	uint64_t seed;
} rig;

static int set_up(void **state)
{
	rig *r = calloc(1, sizeof *r);
	esk_error err = {0};
	if (r == NULL)
		return -1;
	r->handler = daq_shelf_handler(&r->shelf);
	r->totals = (esk_conn_totals){.max_message_bytes = 4 << 20, .max_memory_bytes = 16 << 20};
	r->seed = test_seed();
	if (esk_conn_create(&r->handler, &r->totals, &r->conn, &err) != ESK_OK)
		return -1;
	*state = r;
	return 0;
}

static int tear_down(void **state)
{
	rig *r = *state;
	esk_conn_destroy(r->conn);
	int kept = (int)r->totals.memory_bytes; /* all that was counted is given back */
	esk_bytes_clear(&r->sent);
	esk_bytes_clear(&r->heard);
	free(r);
	return kept;
}

static uint64_t draw(rig *r)
{
	r->seed = r->seed * 6364136223846793005ull + 1442695040888963407ull;
	return r->seed >> 33;
}

static void hear(rig *r)
{
	size_t size;
	const void *out;
	esk_error err = {0};
	while (out = esk_conn_output(r->conn, &size), size > 0) {
		assert_ok(esk_bytes_reserve(&r->heard, size, &err), &err);
		memcpy(r->heard.data + r->heard.end, out, size);
		r->heard.end += size;
		esk_conn_sent(r->conn, size);
	}
}

static esk_conn_state run(rig *r)
{
	for (;;) {
		esk_conn_state state = esk_conn_process(r->conn);
		if (state != ESK_CONN_TASK)
			return state;
		esk_conn_run_task(r->conn);
		esk_conn_task_done(r->conn);
	}
}

/* Gives what is in `sent`, in pieces of at most `most` bytes; stops where the connection does not read. */
static esk_conn_state give(rig *r, size_t most)
{
	esk_conn_state state = run(r);
	while (state == ESK_CONN_READING && esk_bytes_size(&r->sent) > 0) {
		void *at;
		size_t room, size = esk_bytes_size(&r->sent);
		esk_error err = {0};
		if (esk_conn_room(r->conn, &at, &room, &err) != ESK_OK)
			return esk_conn_process(r->conn);
		assert_true(room > 0);
		size = size < room ? size : room;
		size = size < most ? size : most;
		memcpy(at, r->sent.data + r->sent.begin, size);
		esk_bytes_take(&r->sent, size);
		esk_conn_received(r->conn, size);
		state = run(r);
	}
	return state;
}

/* The next reply's header; the caller lets go of it. NULL: none. */
static json_t *next_reply(rig *r, const char **ret_body, size_t *ret_body_bytes)
{
	esk_frame frame;
	esk_error err = {0};
	hear(r);
	if (esk_bytes_size(&r->heard) == 0)
		return NULL;
	const uint8_t *at = r->heard.data + r->heard.begin;
	assert_ok(esk_frame_read(at, 1 << 30, &frame, &err), &err);
	json_t *header = json_loadb((const char *)at + 16, frame.header_bytes, 0, NULL);
	assert_non_null(header);
	if (ret_body != NULL) {
		*ret_body = (const char *)at + 16 + frame.header_bytes;
		*ret_body_bytes = frame.body_bytes;
	}
	esk_bytes_take(&r->heard, esk_frame_bytes(&frame));
	return header;
}

static void expect_text(json_t *reply, const char *key, const char *text)
{
	const char *found = json_string_value(json_object_get(reply, key));
	assert_non_null(found);
	assert_string_equal(found, text);
}

static void expect_number(json_t *reply, const char *key, int64_t number)
{
	assert_int_equal(json_integer_value(json_object_get(reply, key)), number);
}

static void expect_hello(rig *r)
{
	json_t *reply = next_reply(r, NULL, NULL);
	assert_non_null(reply);
	expect_text(reply, "type", "Hello");
	expect_number(reply, "protocol", 1);
	expect_number(reply, "max_message_bytes", (int64_t)r->totals.max_message_bytes);
	expect_text(reply, "session", "session");
	json_decref(reply);
}

static void expect_ack(rig *r, int64_t through)
{
	json_t *reply = next_reply(r, NULL, NULL);
	assert_non_null(reply);
	expect_text(reply, "type", "Ack");
	expect_number(reply, "through", through);
	json_decref(reply);
}

static void expect_error(rig *r, int64_t to, const char *code, bool fatal, const char *part)
{
	json_t *reply = next_reply(r, NULL, NULL);
	assert_non_null(reply);
	expect_text(reply, "type", "Error");
	expect_number(reply, "to", to);
	expect_text(reply, "code", code);
	const char *message = json_string_value(json_object_get(reply, "message"));
	if (strstr(message, part) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", message, part);
	assert_int_equal(json_is_true(json_object_get(reply, "fatal")), fatal);
	json_decref(reply);
}

static void expect_silence(rig *r)
{
	assert_null(next_reply(r, NULL, NULL));
}

static void begin(rig *r)
{
	daq_add_hello(&r->sent);
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_READING);
	expect_hello(r);
}

/* ---- the order of things ---- */

static void hello_is_answered_with_versions_and_limits(void **state)
{
	begin(*state);
	expect_silence(*state);
}

static void anything_before_hello_ends_the_connection(void **state)
{
	rig *r = *state;
	daq_add(&r->sent, "{\"type\":\"Flush\"}", NULL, 0);
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_ENDING);
	expect_error(r, 1, "einval", true, "first message must be Hello");
	assert_int_equal(r->shelf.flushes, 0);
}

static void another_version_is_told_which_is_spoken(void **state)
{
	rig *r = *state;
	daq_add(&r->sent, "{\"type\":\"Hello\",\"protocol\":2}", NULL, 0);
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_ENDING);
	expect_error(r, 1, "eversion", true, "protocol 2");
}

static void every_message_does_what_it_says(void **state)
{
	rig *r = *state;
	const char *body;
	size_t size;
	begin(r);
	daq_add_batch(&r->sent, "scope", 0, 10, "voltage", true);
	daq_add(&r->sent, "{\"type\":\"SetMetadata\",\"key\":\"who\",\"value\":\"me\"}", NULL, 0);
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_READING);
	assert_string_equal(r->shelf.last_metadata, "- {\"who\":\"me\"}");
	daq_add(&r->sent,
		"{\"type\":\"SetInstrumentMetadata\",\"instrument\":\"scope\",\"key\":\"gain\",\"value\":4}",
		NULL, 0);
	daq_add(&r->sent, "{\"type\":\"Flush\"}", NULL, 0);
	daq_add(&r->sent, "{\"type\":\"GetStats\"}", NULL, 0);
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_READING);
	assert_string_equal(r->shelf.last_metadata, "scope {\"gain\":4}");
	assert_int_equal(r->shelf.rows, 10);
	assert_int_equal(r->shelf.flushes, 1);
	json_t *reply = next_reply(r, &body, &size);
	expect_text(reply, "type", "Stats");
	expect_number(reply, "to", 6);
	assert_memory_equal(body, "{\"daemon\":{}}", 13);
	assert_int_equal(size, 16);
	json_decref(reply);
	expect_silence(r);
}

static void batches_are_acknowledged_together(void **state)
{
	rig *r = *state;
	begin(r);
	for (unsigned i = 0; i < 1000; i++)
		daq_add_batch(&r->sent, "scope", i * 3, 3, "voltage", i == 0);
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_READING);
	expect_ack(r, 1001);
	expect_silence(r);
	assert_int_equal(r->shelf.rows, 3000);
	assert_true(r->shelf.ordered);
	assert_int_equal(r->shelf.firsts, 1);
}

static void messages_cut_anywhere_are_the_same_messages(void **state)
{
	rig *r = *state;
	static const size_t pieces[] = {1, 7, 16, 100, 4096};
	uint64_t next = 0;
	begin(r);
	for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
		for (unsigned k = 0; k < 20; k++) {
			uint64_t rows = 1 + draw(r) % 300;
			daq_add_batch(
				&r->sent, "scope", next, rows, "voltage", draw(r) % 2 == 0 || next == 0);
			next += rows;
		}
		assert_int_equal(give(r, pieces[i]), ESK_CONN_READING);
	}
	assert_int_equal(r->shelf.rows, next);
	assert_true(r->shelf.ordered);
	assert_int_equal(r->totals.errors, 0);
}

static void large_and_small_messages_follow_each_other(void **state)
{
	rig *r = *state;
	uint64_t next = 0;
	begin(r);
	for (unsigned k = 0; k < 40; k++) {
		uint64_t rows = draw(r) % 3 == 0 ? 60000 + draw(r) % 60000 : 1 + draw(r) % 2000;
		daq_add_batch(&r->sent, "scope", next, rows, "voltage", false || next == 0);
		next += rows;
	}
	assert_int_equal(give(r, 100000), ESK_CONN_READING);
	assert_int_equal(r->shelf.rows, next);
	assert_true(r->shelf.ordered);
}

/* ---- what is wrong ---- */

static void ends_with(rig *r, const uint8_t *head, const char *code, const char *part)
{
	esk_error err = {0};
	begin(r);
	assert_ok(esk_bytes_reserve(&r->sent, 16, &err), &err);
	memcpy(r->sent.data + r->sent.end, head, 16);
	r->sent.end += 16;
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_ENDING);
	expect_error(r, 2, code, true, part);
}

static void a_wrong_magic_ends_the_connection(void **state)
{
	ends_with(*state, (const uint8_t *)"GET / HTTP/1.1\r\n", "ecorrupt", "does not speak this protocol");
}

static void a_wrong_version_ends_the_connection(void **state)
{
	ends_with(*state, (const uint8_t *)"ESKM\2\0\0\0\10\0\0\0\0\0\0\0", "eversion", "version 2");
}

static void a_size_that_is_no_multiple_of_8_ends_the_connection(void **state)
{
	ends_with(*state, (const uint8_t *)"ESKM\1\0\0\0\11\0\0\0\0\0\0\0", "ecorrupt", "multiples of 8");
}

static void a_message_without_header_ends_the_connection(void **state)
{
	ends_with(*state, (const uint8_t *)"ESKM\1\0\0\0\0\0\0\0\10\0\0\0", "ecorrupt", "must be a header");
}

static void a_message_that_is_too_large_ends_the_connection(void **state)
{
	ends_with(
		*state, (const uint8_t *)"ESKM\1\0\0\0\10\0\0\0\xf8\xff\xff\xff", "erange", "--max-message");
}

static void a_header_that_is_too_large_ends_the_connection(void **state)
{
	ends_with(*state, (const uint8_t *)"ESKM\1\0\0\0\10\0\1\0\0\0\0\0", "erange", "at most 65536");
}

static void a_refused_message_does_not_stop_the_next(void **state)
{
	static const struct {
		const char *header, *part;
	} wrong[] = {
		{"{\"type\":\"Format\"}", "of the type \"Format\""},
		{"{\"type\":3}", "\"type\" is no text"},
		{"{}", "\"type\" lacks"},
		{"[]", "no JSON object"},
		{"{\"type\":", "not JSON"},
		{"{\"type\":\"Flush\",\"type\":\"Flush\"}", "not JSON"},
		{"{\"type\":\"Hello\",\"protocol\":1}", "second Hello"},
		{"{\"type\":\"SetMetadata\",\"key\":\"a\"}", "\"value\" lacks"},
		{"{\"type\":\"SetMetadata\",\"value\":1}", "\"key\" lacks"},
		{"{\"type\":\"SetInstrumentMetadata\",\"key\":\"a\",\"value\":1}", "\"instrument\" lacks"},
		{"{\"type\":\"WriteBatch\"}", "\"instrument\" lacks"},
		{"{\"type\":\"WriteBatch\",\"instrument\":\"\"}", "0 bytes"},
		{"{\"type\":\"WriteBatch\",\"instrument\":\"x\",\"continues\":1}", "no truth value"},
		{"{\"type\":\"WriteBatch\",\"instrument\":\"x\",\"continues\":true}", "has begun none"},
		{"{\"type\":\"WriteBatch\",\"instrument\":\"x\"}", "ends within its schema"},
	};
	rig *r = *state;
	begin(r);
	int64_t number = 2;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		daq_add(&r->sent, wrong[i].header, NULL, 0);
		daq_add_batch(&r->sent, "scope", i, 1, "voltage", true);
		assert_int_equal(give(r, SIZE_MAX), ESK_CONN_READING);
		json_t *reply = next_reply(r, NULL, NULL);
		assert_non_null(reply);
		expect_number(reply, "to", number);
		const char *message = json_string_value(json_object_get(reply, "message"));
		if (strstr(message, wrong[i].part) == NULL)
			fail_msg("%s: \"%s\" does not say \"%s\"", wrong[i].header, message, wrong[i].part);
		json_decref(reply);
		expect_ack(r, number + 1);
		number += 2;
		assert_int_equal(r->shelf.rows, i + 1);
	}
}

static void a_body_where_none_belongs_is_refused(void **state)
{
	rig *r = *state;
	begin(r);
	daq_add(&r->sent, "{\"type\":\"Flush\"}", "12345678", 8);
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_READING);
	expect_error(r, 2, "einval", false, "none belongs");
}

static void another_schema_is_refused_and_the_first_goes_on(void **state)
{
	rig *r = *state;
	begin(r);
	daq_add_batch(&r->sent, "scope", 0, 5, "voltage", true);
	daq_add_batch(&r->sent, "scope", 5, 5, "current", true);
	daq_add_batch(&r->sent, "scope", 5, 5, "voltage", true);
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_READING);
	expect_error(r, 3, "etype", false, "\"current\" was added");
	expect_ack(r, 4);
	assert_int_equal(r->shelf.rows, 10);
	assert_true(r->shelf.ordered);
}

static void a_file_is_refused_with_advice(void **state)
{
	rig *r = *state;
	begin(r);
	daq_add(&r->sent, "{\"type\":\"WriteBatch\",\"instrument\":\"x\"}", "ARROW1\0\0", 8);
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_READING);
	expect_error(r, 2, "einval", false, "IPC stream");
}

static void all_of_a_body_is_checked_before_any_of_it_is_recorded(void **state)
{
	rig *r = *state;
	esk_bytes body = {0};
	begin(r);
	daq_batch *b = daq_batch_make(0, 100, "voltage");
	daq_encode(&body, b, true);
	size_t good = body.end;
	daq_encode(&body, b, false);
	body.data[good + 12] ^= 0x55; /* within the second batch's metadata */
	memset(body.data + good + 16, 0xff, 24);
	daq_add(&r->sent, "{\"type\":\"WriteBatch\",\"instrument\":\"scope\"}", body.data, body.end);
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_READING);
	expect_error(r, 2, "ecorrupt", false, "");
	assert_int_equal(r->shelf.rows, 0);
	/* The connection still knows the schema. */
	daq_add_batch(&r->sent, "scope", 0, 3, "voltage", false);
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_READING);
	expect_ack(r, 3);
	assert_int_equal(r->shelf.rows, 3);
	daq_batch_free(b);
	esk_bytes_clear(&body);
}

static void several_batches_in_a_body_are_all_recorded(void **state)
{
	rig *r = *state;
	esk_bytes body = {0};
	begin(r);
	for (uint64_t i = 0; i < 20; i++) {
		daq_batch *b = daq_batch_make(10 * i, 10, "voltage");
		daq_encode(&body, b, i == 0);
		daq_batch_free(b);
	}
	static const uint8_t end_mark[8] = {0xff, 0xff, 0xff, 0xff};
	esk_error err = {0};
	assert_ok(esk_bytes_reserve(&body, 8, &err), &err);
	memcpy(body.data + body.end, end_mark, 8);
	body.end += 8;
	daq_add(&r->sent, "{\"type\":\"WriteBatch\",\"instrument\":\"scope\"}", body.data, body.end);
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_READING);
	expect_ack(r, 2);
	assert_int_equal(r->shelf.rows, 200);
	assert_true(r->shelf.ordered);
	assert_int_equal(r->totals.batches, 20);
	esk_bytes_clear(&body);
}

static void bytes_behind_the_end_of_a_stream_are_refused(void **state)
{
	rig *r = *state;
	esk_bytes body = {0};
	daq_batch *b = daq_batch_make(0, 10, "voltage");
	begin(r);
	daq_encode(&body, b, true);
	static const uint8_t behind[16] = {0xff, 0xff, 0xff, 0xff, [8] = 1};
	esk_error err = {0};
	assert_ok(esk_bytes_reserve(&body, 16, &err), &err);
	memcpy(body.data + body.end, behind, 16);
	body.end += 16;
	daq_add(&r->sent, "{\"type\":\"WriteBatch\",\"instrument\":\"scope\"}", body.data, body.end);
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_READING);
	expect_error(r, 2, "ecorrupt", false, "behind the end mark");
	assert_int_equal(r->shelf.rows, 0);
	daq_batch_free(b);
	esk_bytes_clear(&body);
}

/* A column of the type null has rows without bytes: as many as one likes. */
static void a_batch_of_more_cells_than_its_bytes_can_hold_is_refused(void **state)
{
	rig *r = *state;
	esk_bytes body = {0};
	daq_batch *b = daq_batch_make(0, 1, "nothing");
	b->fields[0].format = b->fields[1].format = "n";
	for (int i = 0; i < 2; i++) {
		b->columns[i] = (struct ArrowArray){.length = (int64_t)1 << 24,
			.null_count = (int64_t)1 << 24,
			.release = daq_keep_array};
	}
	b->array.length = (int64_t)1 << 24;
	begin(r);
	daq_encode(&body, b, true);
	daq_add(&r->sent, "{\"type\":\"WriteBatch\",\"instrument\":\"scope\"}", body.data, body.end);
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_READING);
	expect_error(r, 2, "erange", false, "cells");
	assert_int_equal(r->shelf.rows, 0);
	daq_batch_free(b);
	esk_bytes_clear(&body);
}

/* ---- limits ---- */

static void a_store_without_room_pauses_the_connection_and_loses_nothing(void **state)
{
	rig *r = *state;
	begin(r);
	for (unsigned i = 0; i < 10; i++)
		daq_add_batch(&r->sent, "scope", i * 10, 10, "voltage", i == 0);
	unsigned pauses = 0;
	r->shelf.room = 0;
	while (give(r, SIZE_MAX) == ESK_CONN_FULL) {
		assert_true(pauses++ < 1000);
		r->shelf.room = 1 + (int64_t)(draw(r) % 7);
	}
	assert_true(pauses > 10);
	assert_int_equal(r->shelf.rows, 100);
	assert_true(r->shelf.ordered);
	hear(r);
	r->heard.begin = r->heard.end = 0;
	daq_add(&r->sent, "{\"type\":\"Flush\"}", NULL, 0);
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_READING);
	expect_ack(r, 12);
}

static void a_peer_that_takes_no_replies_is_not_read_from(void **state)
{
	rig *r = *state;
	begin(r);
	for (unsigned i = 0; i < 3000; i++)
		daq_add(&r->sent, "{\"type\":\"Nonsense\"}", NULL, 0);
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_BLOCKED);
	size_t waiting;
	(void)esk_conn_output(r->conn, &waiting);
	assert_in_range(waiting, ESK_CONN_MOST_OUT_BYTES, ESK_CONN_MOST_OUT_BYTES + 1024);
	while (give(r, SIZE_MAX) == ESK_CONN_BLOCKED)
		hear(r);
	for (int64_t i = 0; i < 3000; i++)
		expect_error(r, i + 2, "einval", false, "Nonsense");
	expect_silence(r);
}

static void a_peer_that_takes_no_replies_makes_one_ack_wait(void **state)
{
	rig *r = *state;
	size_t waiting;
	begin(r);
	for (unsigned i = 0; i < 1000; i++) {
		daq_add_batch(&r->sent, "scope", i, 1, "voltage", true);
		assert_int_equal(give(r, SIZE_MAX), ESK_CONN_READING);
		(void)esk_conn_output(r->conn, &waiting);
		assert_in_range(waiting, 1, 128);
	}
	expect_ack(r, 2);
	expect_ack(r, 1001);
	expect_silence(r);
}

static void a_message_takes_memory_as_it_comes(void **state)
{
	rig *r = *state;
	begin(r);
	esk_frame frame = {.header_bytes = 64, .body_bytes = 3 << 20};
	esk_error err = {0};
	assert_ok(esk_bytes_reserve(&r->sent, 2000, &err), &err);
	esk_frame_write(&frame, r->sent.data + r->sent.end);
	memset(r->sent.data + r->sent.end + 16, ' ', 1984);
	r->sent.end += 2000;
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_READING);
	assert_true(r->totals.memory_bytes < 64 << 10);
}

static void memory_for_all_connections_is_bounded(void **state)
{
	rig *r = *state;
	r->totals.max_memory_bytes = 100 << 10;
	begin(r);
	daq_add_batch(&r->sent, "scope", 0, 20000, "voltage", true);
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_ENDING);
	expect_error(r, 0, "enomem", true, "--max-memory");
	assert_true(r->totals.memory_bytes <= 100 << 10);
	assert_int_equal(r->shelf.rows, 0);
}

static void a_connection_at_rest_keeps_no_buffers(void **state)
{
	rig *r = *state;
	begin(r);
	for (unsigned i = 0; i < 100; i++)
		daq_add_batch(&r->sent, "scope", i, 1, "voltage", i == 0);
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_READING);
	expect_ack(r, 101);
	esk_conn_rest(r->conn);
	assert_true(r->totals.memory_bytes < 2048); /* the schema */
	daq_add_batch(&r->sent, "scope", 100, 1, "voltage", false);
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_READING);
	expect_ack(r, 102);
}

static void a_connection_has_so_many_instruments_and_no_more(void **state)
{
	rig *r = *state;
	char name[32];
	begin(r);
	for (unsigned i = 0; i < ESK_SOURCES_MOST; i++) {
		snprintf(name, sizeof name, "scope-%u", i);
		daq_add_batch(&r->sent, name, i, 1, "voltage", true);
	}
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_READING);
	expect_ack(r, ESK_SOURCES_MOST + 1);
	daq_add_batch(&r->sent, "one-more", 0, 1, "voltage", true);
	daq_add_batch(&r->sent, "scope-7", ESK_SOURCES_MOST, 1, "voltage", false);
	assert_int_equal(give(r, SIZE_MAX), ESK_CONN_READING);
	expect_error(r, ESK_SOURCES_MOST + 2, "erange", false, "at most 256 instruments");
	expect_ack(r, ESK_SOURCES_MOST + 3);
	assert_int_equal(r->shelf.rows, ESK_SOURCES_MOST + 1);
}

/* ---- garbage ---- */

/* Valid messages with bytes changed, cut out and doubled, in pieces of any size: every connection either goes
 * on, or ends with a reason. */
static void changed_messages_get_errors_and_nothing_else(void **state)
{
	rig *r = *state;
	uint64_t rounds = test_scale(3000);
	esk_bytes whole = {0};
	esk_error err = {0};
	daq_add_hello(&whole);
	daq_add_batch(&whole, "scope", 0, 20, "voltage", true);
	daq_add_batch(&whole, "scope", 20, 20, "voltage", false);
	daq_add(&whole, "{\"type\":\"SetMetadata\",\"key\":\"a\",\"value\":[1,{\"b\":null}]}", NULL, 0);
	daq_add(&whole, "{\"type\":\"GetStats\"}", NULL, 0);
	daq_add(&whole, "{\"type\":\"Flush\"}", NULL, 0);
	for (uint64_t i = 0; i < rounds; i++) {
		esk_conn_destroy(r->conn);
		r->conn = NULL;
		assert_int_equal(r->totals.memory_bytes, 0);
		assert_ok(esk_conn_create(&r->handler, &r->totals, &r->conn, &err), &err);
		r->sent.begin = r->sent.end = r->heard.begin = r->heard.end = 0;
		assert_ok(esk_bytes_reserve(&r->sent, whole.end, &err), &err);
		memcpy(r->sent.data, whole.data, whole.end);
		r->sent.end = whole.end;
		for (uint64_t k = draw(r) % 8; k > 0; k--)
			r->sent.data[draw(r) % whole.end] = (uint8_t)draw(r);
		if (draw(r) % 4 == 0)
			r->sent.end = draw(r) % (whole.end + 1);
		if (draw(r) % 4 == 0)
			r->sent.begin = draw(r) % (r->sent.end + 1);
		esk_conn_state ended = give(r, 1 + draw(r) % 700);
		assert_true(ended == ESK_CONN_READING || ended == ESK_CONN_ENDING);
		bool fatal = false;
		for (json_t *reply; (reply = next_reply(r, NULL, NULL)) != NULL; json_decref(reply)) {
			assert_false(fatal); /* nothing comes after it */
			fatal = json_is_true(json_object_get(reply, "fatal"));
		}
		assert_int_equal(fatal, ended == ESK_CONN_ENDING);
	}
	esk_bytes_clear(&whole);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		T(hello_is_answered_with_versions_and_limits),
		T(anything_before_hello_ends_the_connection),
		T(another_version_is_told_which_is_spoken),
		T(every_message_does_what_it_says),
		T(batches_are_acknowledged_together),
		T(messages_cut_anywhere_are_the_same_messages),
		T(large_and_small_messages_follow_each_other),
		T(a_wrong_magic_ends_the_connection),
		T(a_wrong_version_ends_the_connection),
		T(a_size_that_is_no_multiple_of_8_ends_the_connection),
		T(a_message_without_header_ends_the_connection),
		T(a_message_that_is_too_large_ends_the_connection),
		T(a_header_that_is_too_large_ends_the_connection),
		T(a_refused_message_does_not_stop_the_next),
		T(a_body_where_none_belongs_is_refused),
		T(another_schema_is_refused_and_the_first_goes_on),
		T(a_file_is_refused_with_advice),
		T(all_of_a_body_is_checked_before_any_of_it_is_recorded),
		T(several_batches_in_a_body_are_all_recorded),
		T(bytes_behind_the_end_of_a_stream_are_refused),
		T(a_batch_of_more_cells_than_its_bytes_can_hold_is_refused),
		T(a_store_without_room_pauses_the_connection_and_loses_nothing),
		T(a_peer_that_takes_no_replies_is_not_read_from),
		T(a_peer_that_takes_no_replies_makes_one_ack_wait),
		T(a_message_takes_memory_as_it_comes),
		T(memory_for_all_connections_is_bounded),
		T(a_connection_at_rest_keeps_no_buffers),
		T(a_connection_has_so_many_instruments_and_no_more),
		T(changed_messages_get_errors_and_nothing_else),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
