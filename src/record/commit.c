/* Commits: the drain thread freezes, the committer makes durable, tells the sink.
 *
 *   drain thread                    committer thread
 *   begin: encode partial chunks,
 *   set extents and state, freeze ─▶ finish: synchronise, journal, apply; sink
 *   goes on draining meanwhile
 *   collect: release the ring,  ◀── result
 *   wake who waits
 *
 * One commit at a time. The snapshot belongs to whoever `commit_in_flight` names. */
#include "record/internal.h"

#include <stdlib.h>
#include <string.h>

void esk_commit_snapshot_clear(esk_commit_snapshot *snapshot)
{
	for (uint32_t i = 0; i < snapshot->stream_count && snapshot->indexed != NULL; i++)
		free(snapshot->indexed[i].data);
	free(snapshot->indexed);
	free(snapshot->stream_rows);
	free(snapshot->first_rows);
	free(snapshot->metadata);
	free(snapshot->gaps);
	esk_item_states_free(snapshot->new_items, snapshot->new_item_count);
	*snapshot = (esk_commit_snapshot){0};
}

/* Takes down what the commit will have made durable. */
static esk_status take_snapshot(esk_recorder *r, bool finished, esk_error *err)
{
	esk_commit_snapshot *s = &r->snapshot;
	uint32_t streams = atomic_load_explicit(
		&r->stream_count, memory_order_acquire); /* with the release in drain.c */
	esk_commit_snapshot_clear(s);
	s->stream_rows = calloc(streams + 1u, sizeof *s->stream_rows);
	s->first_rows = calloc(streams + 1u, sizeof *s->first_rows);
	s->indexed = calloc(streams + 1u, sizeof *s->indexed);
	s->metadata = strdup(r->metadata);
	s->gaps = calloc(r->gap_count + 1, sizeof *s->gaps);
	if (s->stream_rows == NULL || s->first_rows == NULL || s->indexed == NULL || s->metadata == NULL ||
		s->gaps == NULL) {
		esk_commit_snapshot_clear(s);
		return esk_fail_memory(err, streams * sizeof *s->stream_rows, "a commit");
	}
	s->position = r->drained_position;
	s->sequence = r->drained_sequence;
	s->request = r->begun_requests;
	s->number = r->head.commit + 1;
	s->segment = r->head.number;
	s->time_ns = r->os->now_ns(r->os);
	s->started_ns = esk_monotonic_ns();
	s->stream_count = streams;
	s->file_bytes = esk_h5_file_bytes(r->file);
	s->finished = finished;
	if (r->gap_count > 0)
		memcpy(s->gaps, r->gaps, r->gap_count * sizeof *s->gaps);
	s->gap_count = r->gap_count;
	s->item_count = r->item_count;
	s->new_items = r->new_items;
	s->new_item_count = r->new_item_count;
	r->new_items = NULL;
	r->new_item_count = r->new_item_capacity = 0;
	for (uint32_t i = 0; i < streams; i++) {
		s->stream_rows[i] = r->streams[i]->rows;
		s->first_rows[i] = r->streams[i]->first_row;
		s->indexed[i] = r->streams[i]->indexed;
		r->streams[i]->indexed = (esk_index_buffer){.first_row = r->streams[i]->rows};
	}
	return ESK_OK;
}

esk_status esk_commit_begin(esk_recorder *r, bool finished, esk_error *err)
{
	esk_status status = esk_segment_write_gaps(r, err);
	if (status == ESK_OK)
		status = esk_joins_write(r, finished, err);
	if (status == ESK_OK)
		status = esk_assembler_write_partials(r, err);
	if (status == ESK_OK)
		status = esk_assembler_own_spans(r, err);
	if (status == ESK_OK)
		status = take_snapshot(r, finished, err);
	if (status == ESK_OK)
		status = esk_segment_write_state(
			r, r->snapshot.number, r->snapshot.sequence, r->snapshot.time_ns, err);
	if (status == ESK_OK)
		status = esk_h5_commit_begin(r->file, err);
	if (status == ESK_OK)
		status = esk_h5_status(r->file, err); /* a write that was swallowed */
	if (status == ESK_OK) {
		r->metadata_dirty = r->attributes_dirty = r->texts_dirty = false;
		r->last_commit_begin_ns = esk_monotonic_ns();
	}
	return status;
}

static esk_status tell_sink(esk_recorder *r, esk_error *err)
{
	const esk_commit_snapshot *s = &r->snapshot;
	if (r->sink.committed == NULL)
		return ESK_OK;
	esk_stream_state *streams = calloc(s->stream_count + 1u, sizeof *streams);
	if (streams == NULL)
		return esk_fail_memory(err, sizeof *streams, "a commit");
	esk_commit_state state = {.run = r->name,
		.metadata = s->metadata,
		.commit = s->number,
		.sequence = s->sequence,
		.ring_id = r->ring_id,
		.time_ns = s->time_ns,
		.finished = s->finished,
		.segment = s->segment,
		.file = r->file_name,
		.created_ns = r->head.created_ns,
		.file_bytes = s->file_bytes,
		.sealed_file = r->sealed_name[0] != '\0' ? r->sealed_name : NULL,
		.sealed_bytes = r->sealed_bytes,
		.sealed_created_ns = r->sealed_created_ns,
		.streams = streams,
		.stream_count = s->stream_count,
		.gaps = s->gaps,
		.gap_count = s->gap_count,
		.item_count = s->item_count,
		.new_items = s->new_items,
		.new_item_count = s->new_item_count};
	for (uint32_t i = 0; i < s->stream_count; i++) {
		const esk_stream *stream = r->streams[i];
		streams[i] = (esk_stream_state){.stream = stream->id,
			.name = stream->name,
			.columns = stream->columns,
			.column_count = stream->column_count,
			.first_row = s->first_rows[i],
			.rows = s->stream_rows[i] - s->first_rows[i],
			.index = stream->index,
			.indexed = &s->indexed[i]};
		state.rows += s->stream_rows[i];
	}
	esk_status status = r->sink.committed(r->sink.arg, &state, err);
	free(streams);
	return status;
}

esk_status esk_commit_finish(esk_recorder *r, esk_error *err)
{
	esk_status status = esk_h5_commit_finish(r->file, NULL, err);
	if (status != ESK_OK)
		return status;
	r->sink_error = (esk_error){0};
	r->sink_status = tell_sink(r, &r->sink_error);
	if (r->sink_status != ESK_OK)
		esk_log(&r->logger, ESK_LOG_WARNING,
			"run \"%s\": committed, but the catalogue could not be told: %s", r->name,
			r->sink_error.message);
	return ESK_OK;
}

void *esk_committer_main(void *arg)
{
	esk_recorder *r = arg;
	pthread_mutex_lock(&r->lock);
	for (;;) {
		while (!(r->commit_in_flight && !r->commit_returned) && !r->committer_stop)
			pthread_cond_wait(&r->changed, &r->lock);
		if (r->committer_stop)
			break;
		pthread_mutex_unlock(&r->lock);
		esk_error error = {0};
		esk_status status = esk_commit_finish(r, &error);
		pthread_mutex_lock(&r->lock);
		r->commit_status = status;
		r->commit_error = error;
		r->commit_returned = true;
		pthread_cond_broadcast(&r->changed);
		esk_ring_wake(r->ring);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

/* Tells those who wait. */
static void publish_result(esk_recorder *r)
{
	const esk_commit_snapshot *s = &r->snapshot;
	pthread_mutex_lock(&r->lock);
	r->file_bytes = s->file_bytes;
	r->committed_sequence = s->sequence;
	r->committed_number = s->number;
	r->committed_segment = s->segment;
	r->committed_ns = s->time_ns;
	r->commit_duration_ns = esk_monotonic_ns() - s->started_ns;
	for (uint32_t i = 0; i < s->stream_count; i++)
		r->streams[i]->committed_rows = s->stream_rows[i];
	if (r->sink_status == ESK_OK) {
		r->served_requests = esk_max_u64(r->served_requests, s->request);
		r->last_status = ESK_OK;
	} else {
		r->last_status = r->sink_status;
		r->last_error = r->sink_error;
		r->failures++;
	}
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

/* What follows a finished commit in the drain thread, whose the ring's cursor is: there is room in the ring
 * again before anybody learns of the commit. */
static void settle(esk_recorder *r)
{
	const esk_commit_snapshot *s = &r->snapshot;
	r->head.commit = s->number;
	r->head.sequence = s->sequence;
	r->released_position = s->position;
	esk_ring_release(r->ring, s->position);
	r->sink_pending = r->sink_status != ESK_OK;
	if (!r->sink_pending)
		r->sealed_name[0] = '\0';
	if (!r->sink_pending && s->gap_count > 0) {
		r->gap_count -= s->gap_count;
		memmove(r->gaps, r->gaps + s->gap_count, r->gap_count * sizeof *r->gaps);
		memmove(r->gap_sequences, r->gap_sequences + s->gap_count,
			r->gap_count * sizeof *r->gap_sequences);
	}
	publish_result(r);
}

esk_status esk_commit_collect(esk_recorder *r, bool wait, esk_error *err)
{
	if (!r->committer_started)
		return ESK_OK;
	esk_status status = ESK_OK;
	pthread_mutex_lock(&r->lock);
	while (wait && r->commit_in_flight && !r->commit_returned)
		pthread_cond_wait(&r->changed, &r->lock);
	bool returned = r->commit_in_flight && r->commit_returned;
	if (returned) {
		status = r->commit_status;
		if (status != ESK_OK && err != NULL)
			*err = r->commit_error;
		r->commit_in_flight = false;
		r->commit_returned = false;
	}
	pthread_mutex_unlock(&r->lock);
	if (returned && status == ESK_OK)
		settle(r);
	return status;
}

esk_status esk_commit_now(esk_recorder *r, bool finished, esk_error *err)
{
	esk_status status = esk_commit_collect(r, true, err);
	if (status == ESK_OK)
		status = esk_commit_begin(r, finished, err);
	if (status == ESK_OK)
		status = esk_commit_finish(r, err);
	if (status == ESK_OK)
		settle(r);
	return status;
}
