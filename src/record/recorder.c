/* A recorder's life: made, opened (with recovery of what a crash left), closed, destroyed.
 *
 *     make      options, paths, the run's lock            hold.c
 *     open      the segment, new or recovered             segment.c, recovery.c
 *               a ring, and a commit that names it        run_ring.c, commit.c
 *               the paths that are taken; two threads     names.c, drain.c, commit.c
 *     … appended to, committed, asked                     stream.c, stream_add.c, requests.c …
 *     close     seal the ring, drain, commit; remove it
 *     destroy   after anything above, however far it came
 *
 *   L1  spool/<run>.lock is locked (flock) from before anything of the run is touched until after the last
 *       touch.
 *
 *   L2  The link spool/<run>.ring is made before the ring it names and removed after it, so that no ring is
 *       ever lost sight of.
 *
 *   L3  No row is acknowledged before the segment's committed state names the ring (ring_id), so that
 *       recovery knows which records of which ring the file has. */
#include "record/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_RING_BYTES (256ull << 20)
#define DEFAULT_BLOCK_TIMEOUT_NS 30000000000u
#define DEFAULT_COMMIT_INTERVAL_NS 1000000000u

/* ---- making and freeing ---- */

static void set_defaults(esk_run_options *run)
{
	if (run->ring_bytes == 0)
		run->ring_bytes = DEFAULT_RING_BYTES;
	if (run->block_timeout_ns == 0)
		run->block_timeout_ns = DEFAULT_BLOCK_TIMEOUT_NS;
	if (run->commit_interval_ns == 0)
		run->commit_interval_ns = DEFAULT_COMMIT_INTERVAL_NS;
}

void esk_recorder_destroy(esk_recorder *r)
{
	if (r == NULL)
		return;
	esk_assembler_reset(r);
	if (r->file != NULL)
		esk_h5_abandon(r->file);
	if (r->ring != NULL) {
		esk_ring_drain_end(r->ring);
		esk_ring_detach(r->ring);
	}
	esk_recorder_unlock(r);
	uint32_t count = atomic_load_explicit(
		&r->stream_count, memory_order_acquire); /* with the release in drain.c */
	for (uint32_t s = 0; s < count; s++)
		esk_stream_destroy(r->streams[s]);
	esk_writer_clear(&r->gap_writer);
	for (size_t i = 0; i < ESK_ITEM_WRITERS; i++)
		esk_writer_clear(&r->item_writers[i]);
	esk_items_forget(r);
	esk_joins_forget(r);
	esk_join_shapes_clear(&r->join_shapes);
	for (uint32_t i = 0; i < r->buffer_count; i++)
		free(r->buffers[i].data);
	esk_commit_snapshot_clear(&r->snapshot);
	free(r->bounce);
	free(r->strings);
	free(r->gaps);
	free(r->gap_sequences);
	free(r->metadata);
	esk_groups_free(r->groups, r->group_count);
	esk_texts_free(r->texts, r->text_count);
	esk_names_clear(&r->names);
	pthread_mutex_destroy(&r->making);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

esk_status esk_recorder_make(const esk_recorder_options *options, esk_recorder **ret_recorder, esk_error *err)
{
	esk_status status = esk_name_check(options->name, "run", err);
	if (status != ESK_OK)
		return status;
	const char *codec = options->run.codec != NULL ? options->run.codec : "gzip:1";
	status = esk_codec_check(codec, err);
	if (status != ESK_OK)
		return status;
	esk_recorder *r = calloc(1, sizeof *r);
	if (r == NULL)
		return esk_fail_memory(err, sizeof *r, "a recorder");
	r->lock_fd = -1;
	r->fork_count = esk_os_fork_count();
	pthread_mutex_init(&r->lock, NULL);
	pthread_mutex_init(&r->making, NULL);
	esk_names_init(&r->names);
	pthread_mutex_init(&r->join_shapes.lock, NULL);
	pthread_cond_init(&r->changed, NULL);
	r->os = options->os;
	r->logger = options->logger;
	r->pool = options->pool;
	esk_batch_init(&r->batch, r->pool);
	r->store_id = options->store_id;
	r->options = options->run;
	set_defaults(&r->options);
	r->sink = options->sink;
	snprintf(r->codec, sizeof r->codec, "%s", codec);
	snprintf(r->name, sizeof r->name, "%s", options->name);
	snprintf(r->file_name, sizeof r->file_name, "%s.h5", options->name);
	int longest =
		snprintf(r->link_path, sizeof r->link_path, "%s/spool/%s.ring", options->directory, r->name);
	snprintf(r->directory, sizeof r->directory, "%s", options->directory);
	snprintf(r->lock_path, sizeof r->lock_path, "%s/spool/%s.lock", options->directory, r->name);
	snprintf(r->file_path, sizeof r->file_path, "%s/%s", options->directory, r->file_name);
	if (longest + 64 >= (int)sizeof r->link_path) {
		esk_recorder_destroy(r);
		return esk_fail(err, ESK_EINVAL, "path too long: %s", options->directory);
	}
	status = esk_recorder_lock(r, err);
	if (status != ESK_OK) {
		esk_recorder_destroy(r);
		return status;
	}
	*ret_recorder = r;
	return ESK_OK;
}

/* ---- the threads ---- */

static esk_status start_threads(esk_recorder *r, esk_error *err)
{
	int errnum = pthread_create(&r->committer_thread, NULL, esk_committer_main, r);
	if (errnum != 0)
		return esk_fail_errno(err, errnum, "cannot start the committer thread");
	r->committer_started = true;
	errnum = pthread_create(&r->drain_thread, NULL, esk_drain_main, r);
	if (errnum != 0)
		return esk_fail_errno(err, errnum, "cannot start the drain thread");
	r->drain_started = true;
	return ESK_OK;
}

static void stop_threads(esk_recorder *r)
{
	if (r->drain_started) {
		pthread_mutex_lock(&r->lock);
		r->stop = true;
		pthread_mutex_unlock(&r->lock);
		esk_ring_wake(r->ring);
		pthread_join(r->drain_thread, NULL);
	}
	if (r->committer_started) {
		pthread_mutex_lock(&r->lock);
		r->committer_stop = true;
		pthread_cond_broadcast(&r->changed);
		pthread_mutex_unlock(&r->lock);
		pthread_join(r->committer_thread, NULL);
	}
	r->drain_started = r->committer_started = false;
}

/* ---- opening and closing ---- */

/* What the segment that was opened has. Where another program made paths of one another's, the first one has
 * them. */
static esk_status claim_known_names(esk_recorder *r, esk_error *err)
{
	esk_status status = esk_items_claim(r, err);
	bool new;
	for (uint32_t s = 0; s < r->stream_count && status == ESK_OK; s++) { /* no other thread yet */
		status = esk_names_claim_stream(&r->names, r->streams[s], err);
		status = status == ESK_EEXIST ? ESK_OK : status;
	}
	for (size_t i = 0; i < r->group_count && status == ESK_OK; i++) {
		if (strcmp(r->groups[i].path, "/") != 0)
			status = esk_names_claim(&r->names, r->groups[i].path, ESK_NAME_GROUP, &new, err);
		status = status == ESK_EEXIST ? ESK_OK : status;
	}
	for (size_t i = 0; i < r->text_count && status == ESK_OK; i++) {
		status = esk_names_claim(&r->names, r->texts[i].path, ESK_NAME_TEXT, &new, err);
		status = status == ESK_EEXIST ? ESK_OK : status;
	}
	return status;
}

static esk_status open_segment(esk_recorder *r, esk_error *err)
{
	bool recovered;
	if (esk_segment_any(r)) {
		if (!r->options.append)
			return esk_fail(err, ESK_EEXIST,
				"run \"%s\" exists already: choose another name, or append to it", r->name);
		esk_status status = esk_recorder_recover_segment(r, &recovered, err);
		for (uint32_t s = 0; status == ESK_OK && s < r->stream_count; s++) /* no other thread yet */
			status = esk_attributes_check_apart(r, r->streams[s], err);
		return status;
	}
	if (r->metadata == NULL && (r->metadata = strdup("{}")) == NULL)
		return esk_fail_memory(err, 3, "metadata");
	return esk_segment_create(r, 0, err);
}

/* From here on rows may be acknowledged (L3). */
static esk_status commit_ring(esk_recorder *r, esk_error *err)
{
	r->head.ring_id = r->ring_id;
	r->head.sequence = 0;
	esk_status status = esk_commit_now(r, false, err);
	if (status == ESK_OK && r->sink_pending) {
		if (err != NULL)
			*err = r->last_error;
		status = r->last_status;
	}
	return status;
}

/* Rows go on behind those that the run has. */
static void count_on(esk_recorder *r)
{
	uint32_t count =
		atomic_load_explicit(&r->stream_count, memory_order_acquire); /* no other thread yet */
	for (uint32_t s = 0; s < count; s++)
		atomic_store_explicit(&r->streams[s]->next_row, r->streams[s]->rows, memory_order_relaxed);
	esk_missing_begin(r);
	r->last_commit_begin_ns = esk_monotonic_ns();
}

esk_status esk_recorder_open(const esk_recorder_options *options, esk_recorder **ret_recorder, esk_error *err)
{
	esk_recorder *r;
	esk_status status = esk_recorder_make(options, &r, err);
	if (status != ESK_OK)
		return status;
	if (options->run.metadata_json != NULL) {
		r->metadata = strdup(options->run.metadata_json);
		r->metadata_dirty = true;
		if (r->metadata == NULL)
			status = esk_fail_memory(err, strlen(options->run.metadata_json), "metadata");
	}
	if (status == ESK_OK)
		status = esk_attributes_keep(r, "/", options->attributes, options->attribute_count, err);
	if (status == ESK_OK)
		status = open_segment(r, err);
	if (status == ESK_OK)
		status = esk_run_ring_make(r, err);
	if (status != ESK_OK)
		goto segment;
	status = commit_ring(r, err);
	if (status == ESK_OK)
		status = claim_known_names(r, err);
	count_on(r);
	if (status == ESK_OK)
		status = start_threads(r, err);
	if (status != ESK_OK)
		goto ring;
	*ret_recorder = r;
	return ESK_OK;

ring:
	stop_threads(r);
	esk_run_ring_remove(r, NULL);
segment:
	esk_recorder_destroy(r);
	return status;
}

esk_status esk_recorder_close(esk_recorder *r, esk_error *err)
{
	if (r == NULL)
		return ESK_OK;
	if (r->fork_count != esk_os_fork_count())
		return ESK_OK; /* the parent's; its memory is not ours to tear down */
	atomic_store_explicit(&r->closed, true, memory_order_relaxed); /* a hint; the seal is what counts */
	esk_ring_seal(r->ring);
	uint32_t count = atomic_load_explicit(
		&r->stream_count, memory_order_acquire); /* with the release in drain.c */
	for (uint32_t s = 0; s < count; s++)
		esk_stream_drop_reservation(r->streams[s]);
	stop_threads(r);
	esk_status status = r->last_status;
	if (status != ESK_OK && err != NULL)
		*err = r->last_error;
	esk_assembler_reset(r);
	if (r->file != NULL) {
		esk_status closed = esk_h5_close(r->file, status == ESK_OK ? err : NULL);
		r->file = NULL;
		status = status == ESK_OK ? closed : status;
		if (closed == ESK_OK && !r->stalled)
			closed = esk_run_ring_remove(r, status == ESK_OK ? err : NULL);
		status = status == ESK_OK ? closed : status;
	}
	esk_recorder_destroy(r);
	return status;
}
