/* Record batches into a session. */
#include "gather.h"
#include "runs.h"
#include "session.h"
#include <esker/profile.h>

#include <esker/arrow_encode.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the instrument's stream ---- */

static bool has_column(const struct ArrowSchema *schema, const char *name)
{
	for (int64_t i = 0; i < schema->n_children; i++)
		if (schema->children[i]->name != NULL && strcmp(schema->children[i]->name, name) == 0)
			return true;
	return false;
}

/* The text beside the columns, unless one of them has its name: then the group's attribute alone has the
 * schema. */
static esk_status put_schema(esk_session *session, const esk_daq_instrument *instrument,
	const struct ArrowSchema *schema, esk_error *err)
{
	char path[ESK_DAQ_MAX_INSTRUMENT + 16];
	char *json;
	if (has_column(schema, "schema"))
		return ESK_OK;
	snprintf(path, sizeof path, "%s/schema", instrument->name);
	esk_status status = esk_arrow_schema_to_json(schema, &json, err);
	if (status != ESK_OK)
		return status;
	status = esk_run_set_text(session->run, path, json, err);
	esk_arrow_text_free(json);
	return status;
}

static esk_status open_sink(esk_session *session, const esk_daq_instrument *instrument,
	const struct ArrowSchema *schema, esk_arrow_sink **ret_sink, esk_error *err)
{
	esk_arrow_sink_options options = ESK_ARROW_SINK_OPTIONS_INIT;
	char *columns;
	esk_status status = esk_daq_rules_for(session->rules, instrument->name, schema, &columns, err);
	if (status != ESK_OK)
		return status;
	options.columns = columns;
	status = esk_run_arrow(session->run, instrument->name, schema, &options, ret_sink, err);
	free(columns);
	return status;
}

/* Under the instrument's lock. The sink is kept last: what failed in between is done again by the next batch.
 */
static esk_status begin_stream(esk_session *session, esk_daq_instrument *instrument,
	const struct ArrowSchema *schema, esk_error *err)
{
	esk_arrow_sink *sink;
	esk_status status = open_sink(session, instrument, schema, &sink, err);
	if (status != ESK_OK)
		return status;
	status = esk_daq_session_announce(session, instrument, err);
	if (status == ESK_OK && !instrument->has_stream)
		status = put_schema(session, instrument, schema, err);
	if (status != ESK_OK) {
		esk_arrow_sink_close(sink);
		return status;
	}
	instrument->sink = sink;
	pthread_mutex_lock(&session->lock);
	session->stream_count += instrument->has_stream ? 0 : 1;
	instrument->has_stream = true;
	pthread_mutex_unlock(&session->lock);
	return ESK_OK;
}

/* ---- batches ---- */

/* All rows as one append where they fit a record of the run's ring, else in as few as they do. A batch is
 * split only when it is known to be sound, so that one that is not is refused whole. */
static esk_status append(esk_arrow_sink *sink, const struct ArrowSchema *schema,
	const struct ArrowArray *array, uint64_t first, uint64_t *taken, esk_error *err)
{
	uint64_t rows = (uint64_t)array->length - first, limit = rows;
	esk_status status = ESK_OK;
	while (*taken < rows && status == ESK_OK) {
		uint64_t count = limit < rows - *taken ? limit : rows - *taken;
		status = esk_arrow_sink_append(sink, array, first + *taken, count, NULL, 0, NULL, err);
		if (status == ESK_ERANGE && count > 1) {
			status = limit == rows ? esk_arrow_validate(schema, array, err) : ESK_OK;
			uint64_t fit = status == ESK_OK ? esk_arrow_sink_rows_per_record(sink, array) : 0;
			limit = fit < count ? fit : count / 2;
		} else if (status == ESK_OK) {
			*taken += count;
		}
	}
	return status;
}

static esk_status write_locked(esk_session *session, esk_daq_instrument *instrument,
	const struct ArrowSchema *schema, const struct ArrowArray *array, uint64_t first, uint64_t *taken,
	esk_error *err)
{
	esk_status status = instrument->sink == NULL ? begin_stream(session, instrument, schema, err)
						     : esk_arrow_sink_check(instrument->sink, schema, err);
	return status == ESK_OK ? append(instrument->sink, schema, array, first, taken, err) : status;
}

static void count(esk_session *session, const struct ArrowSchema *schema, const struct ArrowArray *array,
	uint64_t first, uint64_t taken)
{
	uint64_t bytes = taken > 0 ? esk_daq_array_bytes(schema, array, first, taken) : 0;
	pthread_mutex_lock(&session->lock);
	session->bytes_written += bytes;
	session->rows_written += taken;
	session->batches_written += first + taken == (uint64_t)array->length ? 1 : 0;
	pthread_mutex_unlock(&session->lock);
}

esk_status esk_session_write(esk_session *session, const char *name, const struct ArrowSchema *schema,
	const struct ArrowArray *array, uint64_t first_row, uint64_t *ret_taken, esk_error *err)
{
	esk_daq_instrument *instrument;
	uint64_t taken = 0;
	if (ret_taken != NULL)
		*ret_taken = 0;
	esk_status status = esk_daq_session_instrument(session, name, &instrument, err);
	if (status == ESK_OK && array->length < 0)
		status = esk_fail(err, ESK_EINVAL, "instrument \"%s\": a batch of %lld rows", name,
			(long long)array->length);
	if (status == ESK_OK && first_row > (uint64_t)array->length)
		status = esk_fail(err, ESK_ERANGE, "instrument \"%s\": row %llu of a batch of %lld", name,
			(unsigned long long)first_row, (long long)array->length);
	if (status != ESK_OK)
		return status;
	pthread_mutex_lock(&instrument->lock);
	status = write_locked(session, instrument, schema, array, first_row, &taken, err);
	pthread_mutex_unlock(&instrument->lock);
	if (status == ESK_OK || taken > 0)
		count(session, schema, array, first_row, taken);
	if (ret_taken != NULL)
		*ret_taken = taken;
	return status;
}

esk_status esk_session_write_batch(esk_session *session, const char *instrument,
	const struct ArrowSchema *schema, const struct ArrowArray *array, esk_error *err)
{
	return esk_session_write(session, instrument, schema, array, 0, NULL, err);
}

/* ---- bytes of IPC ---- */

static esk_status write_batches(esk_session *session, const char *instrument, struct ArrowArrayStream *stream,
	const struct ArrowSchema *schema, uint64_t *rows, esk_error *err)
{
	for (;;) {
		struct ArrowArray batch = {0};
		uint64_t taken;
		int error = stream->get_next(stream, &batch);
		if (error != 0)
			return esk_daq_stream_failed(stream, error, err);
		if (batch.release == NULL)
			return ESK_OK;
		esk_status status = esk_session_write(session, instrument, schema, &batch, 0, &taken, err);
		*rows += taken;
		batch.release(&batch);
		if (status != ESK_OK)
			return status;
	}
}

esk_status esk_session_write_ipc(esk_session *session, const char *instrument, const void *data, size_t size,
	uint64_t *ret_rows, esk_error *err)
{
	struct ArrowArrayStream stream;
	struct ArrowSchema schema;
	uint64_t rows = 0;
	if (ret_rows != NULL)
		*ret_rows = 0;
	esk_status status = esk_arrow_open_memory(data, size, NULL, NULL, &stream, err);
	if (status != ESK_OK)
		return status;
	int error = stream.get_schema(&stream, &schema);
	status = error != 0 ? esk_daq_stream_failed(&stream, error, err) : ESK_OK;
	if (status == ESK_OK) {
		status = write_batches(session, instrument, &stream, &schema, &rows, err);
		schema.release(&schema);
	}
	stream.release(&stream);
	if (ret_rows != NULL)
		*ret_rows = rows;
	return status;
}
