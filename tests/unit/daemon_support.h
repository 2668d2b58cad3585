/* What the tests of the daemon share: batches of two columns, messages, and a store of records in memory that
 * can be told to be full or to refuse. */
#ifndef ESK_TESTS_DAEMON_SUPPORT_H
#define ESK_TESTS_DAEMON_SUPPORT_H

#include "../../profiles/daq/daemon_conn.h"
#include "support/unit.h"
#include <esker/esker.h>
#include <pthread.h>

/* ---- batches: timestamp i64, voltage f64 (named otherwise on request) ---- */

typedef struct daq_batch {
	struct ArrowSchema schema, fields[2];
	struct ArrowSchema *field_list[2];
	struct ArrowArray array, columns[2];
	struct ArrowArray *column_list[2];
	const void *buffers[1], *column_buffers[2][2];
	int64_t *timestamps;
	double *voltages;
} daq_batch;

static inline void daq_keep_schema(struct ArrowSchema *schema)
{
	schema->release = NULL;
}

static inline void daq_keep_array(struct ArrowArray *array)
{
	array->release = NULL;
}

/* Rows [first, first + rows): timestamp = row, voltage = row / 2. */
static inline daq_batch *daq_batch_make(uint64_t first, uint64_t rows, const char *second)
{
	daq_batch *b = calloc(1, sizeof *b);
	assert_non_null(b);
	b->timestamps = malloc(rows * sizeof *b->timestamps + 8);
	b->voltages = malloc(rows * sizeof *b->voltages + 8);
	assert_true(b->timestamps != NULL && b->voltages != NULL);
	for (uint64_t i = 0; i < rows; i++) {
		b->timestamps[i] = (int64_t)(first + i);
		b->voltages[i] = (double)(first + i) / 2;
	}
	static const char *const formats[] = {"l", "g"};
	const char *names[] = {"timestamp", second};
	const void *values[] = {b->timestamps, b->voltages};
	for (int i = 0; i < 2; i++) {
		b->fields[i] = (struct ArrowSchema){
			.format = formats[i], .name = names[i], .release = daq_keep_schema};
		b->field_list[i] = &b->fields[i];
		b->column_buffers[i][1] = values[i];
		b->columns[i] = (struct ArrowArray){.length = (int64_t)rows,
			.n_buffers = 2,
			.buffers = b->column_buffers[i],
			.release = daq_keep_array};
		b->column_list[i] = &b->columns[i];
	}
	b->schema = (struct ArrowSchema){.format = "+s",
		.name = "",
		.n_children = 2,
		.children = b->field_list,
		.release = daq_keep_schema};
	b->array = (struct ArrowArray){.length = (int64_t)rows,
		.n_buffers = 1,
		.buffers = b->buffers,
		.n_children = 2,
		.children = b->column_list,
		.release = daq_keep_array};
	return b;
}

static inline void daq_batch_free(daq_batch *b)
{
	free(b->timestamps);
	free(b->voltages);
	free(b);
}

/* ---- messages ---- */

/* Adds the bytes of a schema and, after it, of the batch. */
static inline void daq_encode(esk_bytes *body, const daq_batch *b, bool with_schema)
{
	esk_error err = {0};
	size_t size;
	if (with_schema) {
		assert_ok(esk_arrow_schema_message_bytes(&b->schema, &size, &err), &err);
		assert_ok(esk_bytes_reserve(body, size, &err), &err);
		assert_ok(
			esk_arrow_encode_schema(&b->schema, body->data + body->end, size, &size, &err), &err);
		body->end += size;
	}
	assert_ok(esk_arrow_batch_message_bytes(&b->schema, &b->array, &size, &err), &err);
	assert_ok(esk_bytes_reserve(body, size, &err), &err);
	assert_ok(esk_arrow_encode_batch(&b->schema, &b->array, body->data + body->end, size, &size, &err),
		&err);
	body->end += size;
}

static inline void daq_add(esk_bytes *to, const char *header, const void *body, size_t size)
{
	esk_error err = {0};
	assert_ok(esk_bytes_add_message(to, header, body, size, &err), &err);
}

static inline void daq_add_hello(esk_bytes *to)
{
	daq_add(to, "{\"type\":\"Hello\",\"protocol\":1}", NULL, 0);
}

/* A WriteBatch of rows [first, first + rows). */
static inline void daq_add_batch(
	esk_bytes *to, const char *instrument, uint64_t first, uint64_t rows, const char *second, bool whole)
{
	esk_bytes body = {0};
	char header[512];
	daq_batch *b = daq_batch_make(first, rows, second);
	daq_encode(&body, b, whole);
	snprintf(header, sizeof header, "{\"type\":\"WriteBatch\",\"instrument\":\"%s\"%s}", instrument,
		whole ? "" : ",\"continues\":true");
	daq_add(to, header, body.data, body.end);
	daq_batch_free(b);
	esk_bytes_clear(&body);
}

/* ---- a store in memory ---- */

typedef struct daq_shelf {
	pthread_mutex_t lock;
	char first_second[64]; /* name of the second column of whoever came first */
	uint64_t rows, flushes, metadata, firsts;
	uint64_t sum; /* of timestamps */
	bool ordered;
	int64_t next;      /* timestamp that is expected */
	int64_t room;      /* rows that fit; < 0: any number */
	bool held;         /* flushes wait until it is let go */
	unsigned flushing; /* how many have begun */
	esk_status trouble;
	char last_metadata[256];
} daq_shelf;

static inline esk_status daq_shelf_take(daq_shelf *shelf, const struct ArrowSchema *schema,
	const struct ArrowArray *array, uint64_t *io_row, esk_error *err)
{
	const char *second = schema->n_children > 1 ? schema->children[1]->name : "";
	if (shelf->first_second[0] == '\0')
		snprintf(shelf->first_second, sizeof shelf->first_second, "%s", second);
	if (strcmp(shelf->first_second, second) != 0)
		return esk_fail(err, ESK_ETYPE, "column \"%s\" was added", second);
	const int64_t *times = array->children[0]->buffers[1];
	while (*io_row < (uint64_t)array->length) {
		if (shelf->room == 0)
			return esk_fail(err, ESK_EFULL, "no room");
		shelf->room -= shelf->room > 0;
		shelf->ordered = shelf->ordered && times[*io_row] == shelf->next;
		shelf->next = times[*io_row] + 1;
		shelf->sum += (uint64_t)times[*io_row];
		shelf->rows++;
		(*io_row)++;
	}
	return ESK_OK;
}

static inline esk_status daq_shelf_write(void *arg, const char *instrument, const struct ArrowSchema *schema,
	const struct ArrowArray *array, uint64_t *io_row, esk_error *err)
{
	daq_shelf *shelf = arg;
	pthread_mutex_lock(&shelf->lock);
	esk_status status = daq_shelf_take(shelf, schema, array, io_row, err);
	pthread_mutex_unlock(&shelf->lock);
	return status;
}

static inline esk_status daq_shelf_first(void *arg, const char *instrument, const struct ArrowSchema *schema,
	const struct ArrowArray *array, uint64_t *io_row, esk_error *err)
{
	daq_shelf *shelf = arg;
	pthread_mutex_lock(&shelf->lock);
	shelf->firsts++;
	pthread_mutex_unlock(&shelf->lock);
	return daq_shelf_write(arg, instrument, schema, array, io_row, err);
}

static inline esk_status daq_shelf_metadata(
	void *arg, const char *instrument, const char *json, esk_error *err)
{
	daq_shelf *shelf = arg;
	pthread_mutex_lock(&shelf->lock);
	shelf->metadata++;
	snprintf(shelf->last_metadata, sizeof shelf->last_metadata, "%s %s",
		instrument != NULL ? instrument : "-", json);
	pthread_mutex_unlock(&shelf->lock);
	return ESK_OK;
}

static inline esk_status daq_shelf_flush(void *arg, esk_error *err)
{
	daq_shelf *shelf = arg;
	pthread_mutex_lock(&shelf->lock);
	shelf->flushing++;
	while (shelf->held) {
		pthread_mutex_unlock(&shelf->lock);
		usleep(500);
		pthread_mutex_lock(&shelf->lock);
	}
	shelf->flushes++;
	pthread_mutex_unlock(&shelf->lock);
	return ESK_OK;
}

static inline esk_status daq_shelf_trouble(void *arg, esk_error *err)
{
	daq_shelf *shelf = arg;
	pthread_mutex_lock(&shelf->lock);
	esk_status trouble = shelf->trouble;
	pthread_mutex_unlock(&shelf->lock);
	return trouble == ESK_OK ? ESK_OK : esk_fail(err, trouble, "the shelf is broken");
}

static inline esk_status daq_shelf_stats(void *arg, char **ret_json, esk_error *err)
{
	*ret_json = strdup("{\"daemon\":{}}");
	return *ret_json != NULL ? ESK_OK : esk_fail_memory(err, 16, "statistics");
}

static inline void daq_shelf_set(daq_shelf *shelf, int64_t room)
{
	pthread_mutex_lock(&shelf->lock);
	shelf->room = room;
	pthread_mutex_unlock(&shelf->lock);
}

static inline void daq_shelf_break(daq_shelf *shelf, esk_status trouble)
{
	pthread_mutex_lock(&shelf->lock);
	shelf->trouble = trouble;
	pthread_mutex_unlock(&shelf->lock);
}

static inline uint64_t daq_shelf_rows(daq_shelf *shelf)
{
	pthread_mutex_lock(&shelf->lock);
	uint64_t rows = shelf->rows;
	pthread_mutex_unlock(&shelf->lock);
	return rows;
}

static inline void daq_shelf_hold(daq_shelf *shelf, bool held)
{
	pthread_mutex_lock(&shelf->lock);
	shelf->held = held;
	pthread_mutex_unlock(&shelf->lock);
}

static inline unsigned daq_shelf_flushing(daq_shelf *shelf)
{
	pthread_mutex_lock(&shelf->lock);
	unsigned flushing = shelf->flushing;
	pthread_mutex_unlock(&shelf->lock);
	return flushing;
}

static inline esk_handler daq_shelf_handler(daq_shelf *shelf)
{
	*shelf = (daq_shelf){.lock = PTHREAD_MUTEX_INITIALIZER, .ordered = true, .room = -1};
	return (esk_handler){.arg = shelf,
		.write = daq_shelf_write,
		.write_first = daq_shelf_first,
		.set_metadata = daq_shelf_metadata,
		.flush = daq_shelf_flush,
		.trouble = daq_shelf_trouble,
		.stats = daq_shelf_stats,
		.store = "/shelf",
		.session = "session"};
}

#endif
