/* What callers ask of a recorder while it records: commits, metadata, statistics. From any thread. */
#include "record/internal.h"

#include <stdlib.h>
#include <string.h>

esk_status esk_recorder_check_owner(const esk_recorder *r, esk_error *err)
{
	if (r->fork_count == esk_os_fork_count())
		return ESK_OK;
	return esk_fail(err, ESK_ECLOSED, "run \"%s\" belongs to the parent process", r->name);
}

/* ---- commits ---- */

esk_status esk_recorder_commit(
	esk_recorder *r, const esk_stream *stream, esk_watermark *ret_watermark, esk_error *err)
{
	esk_status status = esk_recorder_check_owner(r, err);
	if (status != ESK_OK)
		return status;
	esk_ring_stats stats;
	esk_ring_get_stats(r->ring, &stats);
	pthread_mutex_lock(&r->lock);
	uint64_t failures = r->failures;
	uint64_t mine = ++r->requests;
	r->requested_position = stats.head_position;
	pthread_mutex_unlock(&r->lock);
	esk_ring_wake(r->ring);
	pthread_mutex_lock(&r->lock);
	while (r->served_requests < mine && r->failures == failures && !r->stop)
		pthread_cond_wait(&r->changed, &r->lock);
	if (r->served_requests >= mine) {
		esk_watermark mark = {.commit = r->committed_number,
			.sequence = r->committed_sequence,
			.time_ns = r->committed_ns};
		uint32_t count = atomic_load_explicit(
			&r->stream_count, memory_order_acquire); /* with the release in drain.c */
		for (uint32_t s = 0; s < count; s++)
			if (stream == NULL || stream == r->streams[s])
				mark.rows += r->streams[s]->committed_rows;
		if (ret_watermark != NULL)
			*ret_watermark = mark;
	} else if (r->failures != failures) {
		status = r->last_status != ESK_OK ? r->last_status : ESK_EIO;
		if (err != NULL) {
			*err = r->last_error;
			esk_fail_in(err, status,
				"run \"%s\": commit failed (rows stay in the ring and are tried again)",
				r->name);
		}
	} else {
		status = esk_fail(err, ESK_ECLOSED, "run \"%s\" was closed during the commit", r->name);
	}
	pthread_mutex_unlock(&r->lock);
	return status;
}

esk_status esk_stream_commit(esk_stream *stream, esk_watermark *ret_watermark, esk_error *err)
{
	return esk_recorder_commit(stream->recorder, stream, ret_watermark, err);
}

/* ---- what the drain thread carries out ---- */

/* Has the drain thread carry out `control`. */
esk_status esk_recorder_request(esk_recorder *r, esk_control *control, esk_error *err)
{
	esk_status status = esk_recorder_check_owner(r, err);
	if (status != ESK_OK)
		return status;
	pthread_mutex_lock(&r->lock);
	if (r->stop) {
		pthread_mutex_unlock(&r->lock);
		return esk_fail(err, ESK_ECLOSED, "run \"%s\" is closed", r->name);
	}
	esk_control **end = &r->controls;
	while (*end != NULL)
		end = &(*end)->next;
	*end = control;
	pthread_mutex_unlock(&r->lock);
	esk_ring_wake(r->ring);
	pthread_mutex_lock(&r->lock);
	while (!control->done)
		pthread_cond_wait(&r->changed, &r->lock);
	pthread_mutex_unlock(&r->lock);
	if (control->status != ESK_OK && err != NULL)
		*err = control->error;
	return control->status;
}

esk_status esk_recorder_set_metadata(esk_recorder *r, const char *json, esk_error *err)
{
	esk_control control = {.kind = ESK_CONTROL_METADATA, .metadata = strdup(json)};
	if (control.metadata == NULL)
		return esk_fail_memory(err, strlen(json), "metadata");
	esk_status status = esk_recorder_request(r, &control, err);
	free(control.metadata);
	return status;
}

/* ---- what is known without it ---- */

esk_status esk_recorder_stats(esk_recorder *r, esk_run_stats *ret_stats, esk_error *err)
{
	esk_status status = esk_recorder_check_owner(r, err);
	if (status != ESK_OK)
		return status;
	esk_ring_stats ring;
	esk_ring_get_stats(r->ring, &ring);
	esk_run_stats stats = {.struct_size = sizeof stats,
		.appended_bytes = ring.head_position,
		.ring_bytes = ring.capacity_bytes,
		.ring_used_bytes = ring.used_bytes};
	uint32_t count = atomic_load_explicit(
		&r->stream_count, memory_order_acquire); /* with the release in drain.c */
	for (uint32_t s = 0; s < count; s++)
		stats.appended_rows += atomic_load_explicit(&r->streams[s]->next_row, memory_order_relaxed);
	pthread_mutex_lock(&r->lock);
	for (uint32_t s = 0; s < count; s++)
		stats.committed_rows += r->streams[s]->committed_rows;
	stats.commits = r->committed_number;
	stats.lost_records = r->lost_records;
	stats.lost_bytes = r->lost_bytes;
	stats.file_bytes = r->file_bytes;
	stats.segments = r->committed_segment + 1;
	stats.last_commit_ns = r->committed_ns;
	stats.last_commit_duration_ns = r->commit_duration_ns;
	stats.status = r->last_status;
	pthread_mutex_unlock(&r->lock);
	if (ret_stats->struct_size < sizeof ret_stats->struct_size)
		return esk_fail(err, ESK_EINVAL, "struct_size of the statistics is not set");
	esk_struct_give(ret_stats, &stats, sizeof stats);
	return ESK_OK;
}

uint64_t esk_recorder_max_record_bytes(const esk_recorder *r)
{
	return esk_ring_max_payload(r->ring);
}

esk_policy esk_recorder_policy(const esk_recorder *r)
{
	return r->options.policy;
}

const char *esk_recorder_name(const esk_recorder *r)
{
	return r->name;
}

const char *esk_recorder_file(const esk_recorder *r)
{
	return r->file_path;
}
