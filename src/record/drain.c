/* The drain thread: ring -> columns; when to commit; what to do after a failure; requests of callers. */
#include "record/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_NS 250000000u
#define HELD_NAP_NS 200000u
#define READ_SLICE_BYTES (4ull << 20) /* read this much before looking at requests again */

/* ---- gaps ---- */

static bool grow_gaps(esk_recorder *r)
{
	size_t capacity = r->gap_capacity == 0 ? 16 : 2 * r->gap_capacity;
	esk_gap *gaps = realloc(r->gaps, capacity * sizeof *gaps);
	if (gaps == NULL)
		return false;
	r->gaps = gaps;
	uint64_t *sequences = realloc(r->gap_sequences, capacity * sizeof *sequences);
	if (sequences == NULL)
		return false;
	r->gap_sequences = sequences;
	r->gap_capacity = capacity;
	return true;
}

void esk_drain_add_gap(esk_recorder *r, const esk_gap *gap, uint64_t sequence)
{
	if (r->gap_count == r->gap_capacity && !grow_gaps(r)) { /* the count is kept even so */
		esk_gap *last = r->gap_count > 0 ? &r->gaps[r->gap_count - 1] : NULL;
		if (last != NULL) {
			last->records += gap->records;
			last->rows += gap->rows;
			last->bytes += gap->bytes;
			last->last_sequence = gap->last_sequence;
		}
		return;
	}
	r->gap_sequences[r->gap_count] = sequence;
	r->gaps[r->gap_count++] = *gap;
	r->gaps_unwritten++;
	pthread_mutex_lock(&r->lock);
	r->lost_records += gap->records;
	r->lost_bytes += gap->bytes;
	pthread_mutex_unlock(&r->lock);
}

void esk_drain_note_lost(esk_recorder *r, const esk_stream *stream, uint64_t records, uint64_t bytes,
	uint64_t first, uint64_t cause)
{
	uint32_t streams = atomic_load_explicit(
		&r->stream_count, memory_order_acquire); /* with the release in add_stream */
	esk_gap gap = {.stream = streams == 1 && stream != NULL ? stream->id : UINT64_MAX,
		.row = stream != NULL ? stream->rows : 0,
		.records = records,
		.bytes = bytes,
		.first_sequence = first,
		.last_sequence = first + records - 1,
		.time_ns = (uint64_t)esk_now_ns(),
		.cause = cause};
	esk_drain_add_gap(r, &gap, first);
	bool evicted = cause == ESK_CAUSE_OVERWRITTEN;
	*(evicted ? &r->evicted_sequence : &r->damaged_sequence) = gap.last_sequence;
	esk_log(&r->logger, ESK_LOG_WARNING,
		"run \"%s\": %llu records (%llu bytes) from sequence %llu were %s", r->name,
		(unsigned long long)records, (unsigned long long)bytes, (unsigned long long)first,
		evicted ? "overwritten before they were drained" : "damaged in the ring");
}

esk_status esk_drain_read(esk_recorder *r, uint64_t max_bytes, uint64_t *ret_bytes, esk_error *err)
{
	uint64_t bytes = 0;
	esk_status status = ESK_OK;
	while (bytes < max_bytes) {
		esk_ring_record record;
		bool found = false;
		esk_error damage = {0};
		if (esk_ring_read(r->ring, &record, &found, &damage) != ESK_OK) {
			esk_drain_note_lost(r, NULL, 1, 0, r->drained_sequence + 1, ESK_CAUSE_DAMAGED);
			esk_log(&r->logger, ESK_LOG_ERROR, "run \"%s\": %s", r->name, damage.message);
			continue;
		}
		if (!found) { /* the cursor went past pads and abandoned records */
			esk_ring_stats stats;
			esk_ring_get_stats(r->ring, &stats);
			r->drained_position =
				esk_max_u64(r->drained_position, stats.head_position - stats.unread_bytes);
			break;
		}
		if (record.sequence - record.lost_before_records > r->drained_sequence + 1)
			r->skipped_sequence = record.sequence - 1;
		status = esk_drain_apply(r, &record, err);
		if (status != ESK_OK)
			break;
		r->drained_position = record.next_position;
		r->drained_sequence = record.sequence;
		r->replayed_records++;
		bytes += record.next_position - record.position;
	}
	*ret_bytes = bytes;
	return status;
}

/* ---- failure and retry (R5) ---- */

void esk_drain_fail(esk_recorder *r, esk_status status, const esk_error *error)
{
	esk_commit_collect(r, true, NULL);
	esk_assembler_reset(r);
	if (r->file != NULL)
		esk_h5_abandon(r->file);
	r->file = NULL;
	r->retry_at_ns = esk_monotonic_ns() + RETRY_NS;
	pthread_mutex_lock(&r->lock);
	bool first = !r->stalled || r->last_status != status;
	r->last_status = status;
	r->last_error = *error;
	r->failures++;
	r->begun_requests = r->requests; /* those who asked are told */
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	r->stalled = true;
	if (first)
		esk_log(&r->logger, ESK_LOG_ERROR,
			"run \"%s\": commit failed: %s; rows stay in the ring, trying again", r->name,
			error->message);
}

/* After a rewind the ring tells again what was lost behind the last commit; what was lost before it is in the
 * file already, and at most the sink has to be told. */
static void forget_later_gaps(esk_recorder *r)
{
	size_t kept = 0;
	uint64_t records = 0, bytes = 0;
	for (size_t i = 0; i < r->gap_count; i++) {
		if (r->gap_sequences[i] <= r->head.sequence) {
			r->gap_sequences[kept] = r->gap_sequences[i];
			r->gaps[kept++] = r->gaps[i];
		} else {
			records += r->gaps[i].records;
			bytes += r->gaps[i].bytes;
		}
	}
	r->gap_count = kept;
	r->gaps_unwritten = 0;
	pthread_mutex_lock(&r->lock);
	r->lost_records -= records;
	r->lost_bytes -= bytes;
	pthread_mutex_unlock(&r->lock);
}

/* Opens the segment again at its last commit and goes back to there in the ring. */
static esk_status try_again(esk_recorder *r, esk_error *err)
{
	esk_status status = esk_segment_open_or_resume(r, err);
	if (status != ESK_OK)
		return status;
	esk_ring_rewind(r->ring);
	r->drained_position = r->released_position;
	r->drained_sequence = r->head.sequence;
	forget_later_gaps(r);
	esk_missing_begin(r);
	r->metadata_dirty = r->attributes_dirty = r->texts_dirty =
		true; /* a failed commit may have had them */
	if (r->head.ring_id != r->ring_id)
		return esk_fail(
			err, ESK_ECORRUPT, "%s was committed by another recorder meanwhile", r->file_path);
	return esk_ring_skip_to(r->ring, r->head.sequence, err);
}

/* ---- requests ---- */

static esk_status add_stream(esk_recorder *r, esk_stream *stream, esk_error *err)
{
	uint32_t count = atomic_load_explicit(
		&r->stream_count, memory_order_relaxed); /* this thread alone writes it */
	stream->id = count;
	esk_status status = esk_segment_add_stream(r, stream, err);
	if (status == ESK_OK)
		status = esk_segment_list_stream(r, stream, err);
	if (status != ESK_OK)
		return status;
	/* The commit has to cover its writers. A failure takes it out again: producers do not have it yet. */
	r->streams[count] = stream;
	atomic_store_explicit(
		&r->stream_count, count + 1, memory_order_release); /* with every acquire of stream_count */
	status = esk_commit_now(r, false, err);
	if (status != ESK_OK) {
		esk_assembler_reset(r);
		atomic_store_explicit(&r->stream_count, count, memory_order_release);
	}
	return status;
}

/* Refuses a dataset that a new stream would make where something stands already, or below another dataset. */
static esk_status check_place(esk_recorder *r, const char *path, esk_error *err)
{
	char part[2 * ESK_MAX_NAME + 16];
	for (const char *end = strchrnul(path, '/');; end = strchrnul(end + 1, '/')) {
		esk_h5_object found;
		snprintf(part, sizeof part, "%.*s", (int)(end - path), path);
		esk_status status = esk_h5_look(r->file, part, &found, err);
		if (status != ESK_OK || found == ESK_H5_NOTHING)
			return status;
		if (*end == '\0' || found == ESK_H5_DATASET)
			return esk_fail(err, ESK_EEXIST, "%s has \"%s\" already: choose another name",
				r->file_path, part);
	}
}

/* Groups may be shared: below a stream's there may be others, and columns of outer ones. */
static esk_status check_room(esk_recorder *r, const esk_stream *stream, esk_error *err)
{
	char path[2 * ESK_MAX_NAME + 16];
	uint32_t count = atomic_load_explicit(
		&r->stream_count, memory_order_acquire); /* with the release in add_stream */
	for (uint32_t s = 0; s < count; s++)
		if (strcmp(r->streams[s]->name, stream->name) == 0)
			return esk_fail(err, ESK_EEXIST, "run \"%s\" has the stream \"%s\" already", r->name,
				stream->name);
	esk_status status = ESK_OK;
	for (size_t c = 0; c < 2 * stream->column_count && status == ESK_OK; c++) {
		const esk_column *column = &stream->columns[c / 2];
		if (c % 2 == 1 && !column->nullable)
			continue;
		esk_segment_column_path(stream->name, column->name, c % 2 == 1, path, sizeof path);
		status = check_place(r, path, err);
	}
	return status;
}

static esk_status carry_out(esk_recorder *r, esk_control *control, esk_error *err)
{
	if (r->file == NULL) { /* a caller waits: try now, not when it is time again */
		esk_status status = try_again(r, err);
		if (status != ESK_OK) {
			esk_drain_fail(r, status, err);
			return esk_fail_in(err, status, "run \"%s\" cannot write at present", r->name);
		}
	}
	if (control->kind == ESK_CONTROL_STREAM) {
		esk_status status = check_room(r, control->stream, err);
		if (status == ESK_OK)
			status = esk_attributes_check_apart(r, control->stream, err);
		if (status == ESK_OK)
			status = esk_index_check_apart(r, control->stream, err);
		control->refused = status != ESK_OK;
		return status == ESK_OK ? add_stream(r, control->stream, err) : status;
	}
	free(r->metadata);
	r->metadata = control->metadata;
	control->metadata = NULL;
	r->metadata_dirty = true;
	return ESK_OK;
}

/* Carries out every request; a failure of the segment is the request's too. */
static void serve(esk_recorder *r)
{
	for (;;) {
		pthread_mutex_lock(&r->lock);
		esk_control *control = r->controls;
		if (control != NULL)
			r->controls = control->next;
		pthread_mutex_unlock(&r->lock);
		if (control == NULL)
			return;
		esk_error error = {0};
		esk_status outcome = carry_out(r, control, &error);
		if (outcome != ESK_OK && !control->refused && r->file != NULL &&
			control->kind == ESK_CONTROL_STREAM)
			esk_drain_fail(r, outcome, &error);
		pthread_mutex_lock(&r->lock);
		control->status = outcome;
		control->error = error;
		control->done = true;
		pthread_cond_broadcast(&r->changed);
		pthread_mutex_unlock(&r->lock);
	}
}

/* ---- the loop ---- */

/* What others want, as of the beginning of a turn. */
typedef struct wishes {
	bool stop;
	bool healthy;
	uint64_t requests; /* to commit, not begun yet: up to this one; 0: none */
	uint64_t position; /* where the ring's head was at the last of them */
} wishes;

static wishes look(esk_recorder *r)
{
	pthread_mutex_lock(&r->lock);
	wishes w = {.stop = r->stop,
		.healthy = r->last_status == ESK_OK,
		.requests = r->requests > r->begun_requests ? r->requests : 0,
		.position = r->requested_position};
	pthread_mutex_unlock(&r->lock);
	return w;
}

static bool dirty(const esk_recorder *r)
{
	return r->drained_position != r->released_position || r->metadata_dirty || r->sink_pending ||
	       r->gap_count > 0 || esk_joins_due(r);
}

/* True if a commit should begin by itself. */
static bool commit_due(esk_recorder *r)
{
	if (!dirty(r))
		return false;
	return r->drained_position - r->released_position >= esk_ring_capacity(r->ring) / 4 ||
	       esk_h5_overlay_bytes(r->file) > ESK_OVERLAY_LIMIT_BYTES ||
	       (r->options.commit_interval_ns != UINT64_MAX &&
		       esk_monotonic_ns() - r->last_commit_begin_ns >= r->options.commit_interval_ns);
}

/* Begins a commit that serves requests up to `request` and hands it to the committer. */
static esk_status start_commit(esk_recorder *r, uint64_t request, esk_error *err)
{
	pthread_mutex_lock(&r->lock);
	r->begun_requests = esk_max_u64(r->begun_requests, request);
	if (!dirty(r)) { /* everything is durable already */
		r->served_requests = r->begun_requests;
		pthread_cond_broadcast(&r->changed);
		pthread_mutex_unlock(&r->lock);
		return ESK_OK;
	}
	pthread_mutex_unlock(&r->lock);
	esk_status status = esk_commit_begin(r, false, err);
	if (status != ESK_OK)
		return status;
	pthread_mutex_lock(&r->lock);
	r->commit_in_flight = true;
	r->commit_returned = false;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	return ESK_OK;
}

/* A segment without rows or items is never sealed: where attributes and empty datasets alone are larger than
 * a segment may be, the run would rotate without end. */
static bool rotation_due(const esk_recorder *r)
{
	return r->options.segment_bytes > 0 && !r->sink_pending && r->sealed_name[0] == '\0' &&
	       esk_h5_file_bytes(r->file) >= r->options.segment_bytes && esk_segment_has_rows(r);
}

/* Looked at before rows are read: those of a new hour or day come into a segment of their own. */
static bool period_is_over(const esk_recorder *r, int64_t period)
{
	return r->options.segment_period != ESK_PERIOD_NONE && !r->sink_pending &&
	       r->sealed_name[0] == '\0' && r->period_known && r->period != period && esk_segment_has_rows(r);
}

static void note_period(esk_recorder *r, int64_t period)
{
	if (!r->period_known && esk_segment_has_rows(r)) {
		r->period = period;
		r->period_known = true;
	}
}

static esk_status rotate(esk_recorder *r, esk_error *err)
{
	esk_status status = esk_commit_collect(r, true, err);
	if (status == ESK_OK)
		status = esk_joins_write(r, true, err);
	if (status == ESK_OK)
		status = esk_commit_now(r, false, err);
	if (status != ESK_OK ||
		r->sink_pending) /* the catalogue has to know the segment whole before it is sealed */
		return status;
	status = esk_segment_rotate(r, err);
	return status == ESK_OK ? esk_commit_now(r, false, err) : status;
}

/* A commit is held up by a reservation: those who wait for it are told when the ring's time limit is over. */
static void look_at_holder(esk_recorder *r, const wishes *w)
{
	uint64_t now = esk_monotonic_ns();
	if (r->held_since_ns == 0)
		r->held_since_ns = now;
	if (now - r->held_since_ns < r->options.block_timeout_ns)
		return;
	r->held_since_ns = 0;
	pthread_mutex_lock(&r->lock);
	r->last_status = esk_fail(&r->last_error, ESK_ETIMEDOUT,
		"run \"%s\": a reservation made before was not published", r->name);
	r->failures++;
	r->begun_requests = w->requests;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

/* One turn. *ret_idle: nothing was read and nothing is waiting. */
static esk_status turn(esk_recorder *r, const wishes *w, bool *ret_idle, esk_error *err)
{
	uint64_t bytes = 0;
	int64_t period = esk_segment_period(r, r->os->now_ns(r->os));
	esk_status status = esk_commit_collect(r, false, err);
	*ret_idle = false;
	if (status == ESK_OK && period_is_over(r, period))
		return rotate(r, err);
	if (status == ESK_OK)
		status = esk_drain_read(r, READ_SLICE_BYTES, &bytes, err);
	note_period(r, period);
	if (status == ESK_OK)
		status = esk_assembler_write_encoded(r, false, err);
	if (status == ESK_OK)
		status = esk_h5_status(r->file, err);
	*ret_idle = bytes == 0;
	if (status != ESK_OK)
		return status;
	if (rotation_due(r))
		return rotate(r, err);
	/* As it is now, not as it was seen before collecting: else a request that came while a commit was
	 * under way would wait for the next wake. Only this thread changes it. */
	if (r->commit_in_flight)
		return ESK_OK;
	/* A request waits until what was appended before it is drained, also where that lies behind a record
	 * that another producer has reserved and not published: else it would be acknowledged without being
	 * there. */
	bool requested = w->requests != 0 && r->drained_position >= w->position;
	if (requested || w->requests == 0 || bytes > 0)
		r->held_since_ns = 0;
	else
		look_at_holder(r, w);
	return requested || commit_due(r) ? start_commit(r, requested ? w->requests : 0, err) : ESK_OK;
}

static uint64_t idle_ns(const esk_recorder *r)
{
	if (r->file == NULL)
		return RETRY_NS / 5;
	if (r->held_since_ns != 0)
		return HELD_NAP_NS;
	if (r->drained_position == r->released_position || r->options.commit_interval_ns == UINT64_MAX)
		return esk_min_u64(r->options.commit_interval_ns, 1000000000u);
	uint64_t since = esk_monotonic_ns() - r->last_commit_begin_ns;
	return since >= r->options.commit_interval_ns ? 1000000u : r->options.commit_interval_ns - since;
}

/* Drains what is left and commits for the last time. */
static esk_status drain_to_end(esk_recorder *r, esk_error *err)
{
	esk_status status = r->file == NULL ? try_again(r, err) : ESK_OK;
	for (uint64_t bytes = 1; bytes > 0 && status == ESK_OK;) {
		status = esk_commit_collect(r, false, err);
		if (status == ESK_OK)
			status = esk_drain_read(r, READ_SLICE_BYTES, &bytes, err);
	}
	if (status == ESK_OK)
		status = esk_commit_now(r, true, err);
	return status;
}

void *esk_drain_main(void *arg)
{
	esk_recorder *r = arg;
	for (;;) {
		esk_error error = {0};
		esk_status status = ESK_OK;
		bool idle = true;
		wishes w = look(r);
		serve(r);
		if (w.stop)
			break;
		if (r->file == NULL && (esk_monotonic_ns() >= r->retry_at_ns || w.requests != 0)) {
			status = try_again(r, &error);
			if (status == ESK_OK && r->stalled)
				esk_log(&r->logger, ESK_LOG_INFO, "run \"%s\": the file is open again",
					r->name);
		}
		if (status == ESK_OK && r->file != NULL) {
			status = turn(r, &w, &idle, &error);
			if (status == ESK_OK && w.healthy)
				r->stalled = false;
		}
		if (status != ESK_OK) {
			esk_drain_fail(r, status, &error);
		}
		if (idle)
			esk_ring_drain_wait(r->ring, idle_ns(r));
	}
	esk_error error = {0};
	esk_status status = drain_to_end(r, &error);
	if (status != ESK_OK)
		esk_drain_fail(r, status, &error);
	return NULL;
}
