/* Bytes of a client as they come: any, in pieces of any size, after a Hello or not, with a store that has
 * room or not. The connection goes on or ends with one reason, keeps no more memory than it may, and gives
 * all of it back. */
#include "../../profiles/daq/daemon_conn.h"

#include <esker/arrow_encode.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_MOST (1u << 20)
#define MEMORY_MOST (4u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(int condition)
{
	if (!condition)
		abort();
}

static unsigned turn;

/* Touches every value of a column, as a store would. */
static uint64_t walk(const struct ArrowSchema *schema, const struct ArrowArray *array)
{
	uint64_t sum = (uint64_t)array->length;
	if (strcmp(schema->format, "l") == 0 || strcmp(schema->format, "g") == 0)
		for (int64_t i = 0; i < array->length; i++)
			sum += ((const uint64_t *)array->buffers[1])[array->offset + i];
	for (int64_t i = 0; i < array->n_children; i++)
		sum += walk(schema->children[i], array->children[i]);
	return sum;
}

static esk_status take(void *arg, const char *instrument, const struct ArrowSchema *schema,
	const struct ArrowArray *array, uint64_t *io_row, esk_error *err)
{
	insist(instrument[0] != '\0' && strlen(instrument) <= ESK_REQUEST_NAME_BYTES);
	insist(*io_row <= (uint64_t)array->length);
	/* What was read has to matter, so that it is read. */
	turn += walk(schema, array) % 2 == 0 ? 1 : 2;
	if (turn % 3 == 0)
		return ESK_EFULL;
	if (turn % 7 == 0) {
		*err = (esk_error){ESK_ETYPE, "another schema"};
		return ESK_ETYPE;
	}
	*io_row = (uint64_t)array->length;
	return ESK_OK;
}

static esk_status keep(void *arg, const char *instrument, const char *json, esk_error *err)
{
	json_t *object = json_loads(json, 0, NULL);
	insist(json_is_object(object) && json_object_size(object) == 1);
	json_decref(object);
	return ESK_OK;
}

static esk_status flush(void *arg, esk_error *err)
{
	return ESK_OK;
}

static esk_status stats(void *arg, char **ret_json, esk_error *err)
{
	*ret_json = strdup("{}");
	return *ret_json != NULL ? ESK_OK : ESK_ENOMEM;
}

/* Replies are messages too. True: one of them was the last. */
static bool hear(esk_conn *conn)
{
	size_t size;
	bool last = false;
	const uint8_t *out;
	while (out = esk_conn_output(conn, &size), size > 0) {
		esk_frame frame;
		insist(!last && size >= ESK_FRAME_HEAD_BYTES);
		insist(esk_frame_read(out, 1 << 30, &frame, NULL) == ESK_OK &&
			esk_frame_bytes(&frame) <= size);
		json_t *header =
			json_loadb((const char *)out + ESK_FRAME_HEAD_BYTES, frame.header_bytes, 0, NULL);
		insist(json_is_object(header));
		last = json_is_true(json_object_get(header, "fatal"));
		json_decref(header);
		esk_conn_sent(conn, (size_t)esk_frame_bytes(&frame));
	}
	return last;
}

static esk_conn_state run(esk_conn *conn)
{
	for (;;) {
		esk_conn_state state = esk_conn_process(conn);
		if (state == ESK_CONN_READING || state == ESK_CONN_ENDING)
			return state;
		if (state == ESK_CONN_TASK) {
			esk_conn_run_task(conn);
			esk_conn_task_done(conn);
		} else if (state == ESK_CONN_BLOCKED) {
			insist(!hear(conn));
		}
	}
}

static void converse(
	esk_conn *conn, const esk_conn_totals *totals, const uint8_t *data, size_t size, size_t piece)
{
	esk_conn_state state = run(conn);
	for (size_t at = 0; at < size && state == ESK_CONN_READING;) {
		void *room;
		size_t room_bytes, part = size - at < piece ? size - at : piece;
		if (esk_conn_room(conn, &room, &room_bytes, NULL) != ESK_OK)
			break;
		insist(room_bytes > 0);
		part = part < room_bytes ? part : room_bytes;
		memcpy(room, data + at, part);
		at += part;
		esk_conn_received(conn, part);
		state = run(conn);
		insist(totals->memory_bytes <= MEMORY_MOST + MESSAGE_MOST + (256u << 10));
		if (part % 5 == 0)
			insist(!hear(conn) || state == ESK_CONN_ENDING);
	}
	bool last = hear(conn);
	insist(!last || esk_conn_process(conn) == ESK_CONN_ENDING);
}

static const char hello[] = "ESKM\1\0\0\0\40\0\0\0\0\0\0\0{\"type\":\"Hello\",\"protocol\":1}   ";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	esk_handler handler = {.write = take,
		.write_first = take,
		.set_metadata = keep,
		.flush = flush,
		.stats = stats,
		.store = "store",
		.session = "session"};
	esk_conn_totals totals = {.max_message_bytes = MESSAGE_MOST, .max_memory_bytes = MEMORY_MOST};
	esk_conn *conn;
	if (size < 2)
		return 0;
	turn = data[1];
	insist(esk_conn_create(&handler, &totals, &conn, NULL) == ESK_OK);
	if (data[0] % 8 != 0)
		converse(conn, &totals, (const uint8_t *)hello, sizeof hello - 1, 64);
	converse(conn, &totals, data + 2, size - 2, 1 + (size_t)(data[0] / 8) * 61);
	esk_conn_destroy(conn);
	insist(totals.memory_bytes == 0);
	return 0;
}
