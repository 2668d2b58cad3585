/* A recorder's life: lock, recovery, ring, segment, threads; and what callers ask of it.
 *
 *   L1  spool/<run>.lock is locked (flock) from before anything of the run is touched until after the last
 * touch. L2  the link spool/<run>.ring is made before the ring it names and removed after it, so that no ring
 * is ever lost sight of. L3  no row is acknowledged before the segment's committed state names the ring
 * (ring_id), so that recovery knows which records of which ring the file has. */
#include "record/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_RING_BYTES (256ull << 20)
#define DEFAULT_BLOCK_TIMEOUT_NS 30000000000u
#define DEFAULT_COMMIT_INTERVAL_NS 1000000000u
#define SHM_DIRECTORY "/dev/shm"
#define SHM_SPARE_BYTES (16ull << 20)

/* ---- fork: a child must not keep the parent's lock alive ---- */

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t registry_once = PTHREAD_ONCE_INIT;
static esk_recorder *registry;

static void before_fork(void)
{
	pthread_mutex_lock(&registry_lock);
}

static void after_fork_parent(void)
{
	pthread_mutex_unlock(&registry_lock);
}

static void after_fork_child(void)
{
	for (esk_recorder *r = registry; r != NULL; r = r->registry_next)
		if (r->lock_fd >= 0)
			r->os->close(r->os, r->lock_fd);
	registry = NULL;
	pthread_mutex_unlock(&registry_lock);
}

static void watch_forks(void)
{
	pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

static void enlist(esk_recorder *r)
{
	pthread_once(&registry_once, watch_forks);
	pthread_mutex_lock(&registry_lock);
	r->registry_next = registry;
	registry = r;
	pthread_mutex_unlock(&registry_lock);
}

static void delist(esk_recorder *r)
{
	pthread_mutex_lock(&registry_lock);
	for (esk_recorder **at = &registry; *at != NULL; at = &(*at)->registry_next) {
		if (*at == r) {
			*at = r->registry_next;
			break;
		}
	}
	pthread_mutex_unlock(&registry_lock);
}

/* ---- the lock (L1) ---- */

static esk_status lock_file(const esk_os *os, const char *path, const char *run, int *ret_fd, esk_error *err)
{
	for (;;) {
		int fd;
		esk_status status = esk_os_open(os, path, O_RDWR | O_CREAT, 0600, &fd, err);
		if (status != ESK_OK)
			return status;
		int locked = os->lock(os, fd);
		if (locked < 0) {
			os->close(os, fd);
			if (locked == -EWOULDBLOCK)
				return esk_fail(err, ESK_EBUSY,
					"run \"%s\" is being recorded or repaired by another handle or "
					"process",
					run);
			return esk_fail_errno(err, -locked, "cannot lock %s", path);
		}
		/* A closing recorder may have removed the file between our open and our lock: then nobody
		 * else sees our lock. */
		struct stat ours, there;
		if (fstat(fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_ino == there.st_ino) {
			*ret_fd = fd;
			return ESK_OK;
		}
		os->close(os, fd);
	}
}

static void drop_lock(esk_recorder *r)
{
	if (r->lock_fd < 0)
		return;
	esk_os_unlink(r->os, r->lock_path, NULL);
	delist(r);
	r->os->close(r->os, r->lock_fd);
	r->lock_fd = -1;
}

esk_status esk_run_hold_take(
	const esk_os *os, const char *directory, const char *run, esk_run_hold *ret_hold, esk_error *err)
{
	esk_run_hold hold = {.os = os};
	if (snprintf(hold.path, sizeof hold.path, "%s/spool/%s.lock", directory, run) >=
		(int)sizeof hold.path)
		return esk_fail(err, ESK_EINVAL, "path too long: %s", directory);
	esk_status status = lock_file(os, hold.path, run, &hold.fd, err);
	if (status == ESK_OK)
		*ret_hold = hold;
	return status;
}

void esk_run_hold_drop(esk_run_hold *hold)
{
	esk_os_unlink(hold->os, hold->path, NULL);
	hold->os->close(hold->os, hold->fd);
}

/* ---- the ring (L2) ---- */

static esk_status remove_ring(esk_recorder *r, esk_error *err)
{
	esk_status status = r->ring_path[0] != '\0' ? esk_os_unlink(r->os, r->ring_path, err) : ESK_OK;
	return status == ESK_OK ? esk_os_unlink(r->os, r->link_path, err) : status;
}

static esk_status try_ring(esk_recorder *r, const char *directory, esk_error *err)
{
	if (snprintf(r->ring_path, sizeof r->ring_path, "%s/esker-%016llx-%016llx.ring", directory,
		    (unsigned long long)r->store_id,
		    (unsigned long long)r->ring_id) >= (int)sizeof r->ring_path)
		return esk_fail(err, ESK_EINVAL, "path too long: %s", directory);
	if (symlink(r->ring_path, r->link_path) < 0)
		return esk_fail_errno(err, errno, "cannot make %s", r->link_path);
	esk_ring_options options = {.struct_size = sizeof options,
		.capacity_bytes = r->options.ring_bytes,
		.policy = r->options.policy,
		.block_timeout_ns = r->options.block_timeout_ns,
		.payload_checksums = r->options.payload_checksums,
		.prefault = true,
		.stream_id = r->ring_id,
		.blob = r->name,
		.blob_bytes = (uint32_t)strlen(r->name)};
	esk_status status = esk_ring_create(r->ring_path, &options, &r->ring, err);
	if (status != ESK_OK)
		esk_os_unlink(r->os, r->link_path, NULL);
	return status;
}

static esk_status make_ring(esk_recorder *r, esk_error *err)
{
	char spool[ESK_PATH_BYTES], real[ESK_PATH_BYTES];
	r->ring_id = esk_random_u64() | 1;
	esk_status status = ESK_ENOSPC;
	esk_os_unmap_wait(); /* a ring that was closed a moment ago may hold the memory that this one needs */
	if (esk_os_free_bytes(SHM_DIRECTORY) >= r->options.ring_bytes + SHM_SPARE_BYTES)
		status = try_ring(r, SHM_DIRECTORY, err);
	if (status != ESK_OK) { /* a small or missing /dev/shm: a mapped disk file works, with stalls during
				   write-back */
		if (snprintf(spool, sizeof spool, "%s/spool", r->directory) >= (int)sizeof spool ||
			realpath(spool, real) == NULL)
			return esk_fail_errno(err, errno, "cannot find %s", spool);
		esk_log(&r->logger, ESK_LOG_WARNING,
			"run \"%s\": " SHM_DIRECTORY
			" has no room for a ring of %llu bytes; it is made in %s",
			r->name, (unsigned long long)r->options.ring_bytes, spool);
		status = try_ring(r, real, err);
	}
	if (status == ESK_OK)
		status = esk_ring_drain_begin(r->ring, err);
	return status;
}

/* Maps the ring that a crash left, if there is one that can be trusted. */
static esk_status find_old_ring(esk_recorder *r, esk_error *err)
{
	esk_error why = {0};
	ssize_t size = readlink(r->link_path, r->ring_path, sizeof r->ring_path - 1);
	if (size < 0) {
		r->ring_path[0] = '\0';
		return errno == ENOENT ? ESK_OK : esk_fail_errno(err, errno, "cannot read %s", r->link_path);
	}
	r->ring_path[size] = '\0';
	if (!esk_os_exists(r->ring_path)) {
		esk_log(&r->logger, ESK_LOG_WARNING,
			"run \"%s\": its ring %s is gone (a restart of the machine?): rows that were not "
			"committed are lost",
			r->name, r->ring_path);
		return ESK_OK;
	}
	esk_status status = esk_ring_attach(r->ring_path, &r->ring, &why);
	if (status == ESK_OK)
		status = esk_ring_drain_begin(r->ring, &why);
	if (status == ESK_EBUSY || status == ESK_EACCES || status == ESK_ENOMEM || status == ESK_EVERSION) {
		if (err != NULL)
			*err = why;
		return status;
	}
	if (status != ESK_OK) {
		esk_log(&r->logger, ESK_LOG_ERROR, "run \"%s\": its ring cannot be read: %s", r->name,
			why.message);
		esk_ring_detach(r->ring);
		r->ring = NULL;
	}
	return ESK_OK;
}

/* ---- recovery ---- */

/* Reads everything from the attached ring that the segment does not have, and commits it. */
static esk_status replay(esk_recorder *r, esk_error *err)
{
	r->ring_id = esk_ring_stream_id(r->ring);
	if (r->ring_id != r->head.ring_id) {
		esk_log(&r->logger, ESK_LOG_INFO, "run \"%s\": its ring held no acknowledged row", r->name);
		return ESK_OK;
	}
	if (esk_ring_boot_id(r->ring) != r->os->boot_id(r->os)) {
		esk_log(&r->logger, ESK_LOG_WARNING,
			"run \"%s\": its ring is from before a restart of the machine and not to be trusted",
			r->name);
		return ESK_OK;
	}
	r->drained_sequence = r->head.sequence;
	r->replayed_records = r->replayed_rows = 0;
	esk_missing_begin(r);
	esk_status status = esk_ring_skip_to(r->ring, r->head.sequence, err);
	for (uint64_t bytes = 1; bytes > 0 && status == ESK_OK;) {
		status = esk_drain_read(r, ESK_INFLIGHT_BYTES, &bytes, err);
		if (status == ESK_OK && esk_h5_overlay_bytes(r->file) > ESK_OVERLAY_LIMIT_BYTES)
			status = esk_commit_now(r, false, err);
	}
	if (status == ESK_OK && (r->replayed_records > 0 || r->gap_count > 0))
		status = esk_commit_now(r, false, err);
	if (status == ESK_OK)
		esk_log(&r->logger, ESK_LOG_INFO,
			"run \"%s\": recovered %llu rows in %llu records from its ring, from sequence %llu",
			r->name, (unsigned long long)r->replayed_rows,
			(unsigned long long)r->replayed_records,
			(unsigned long long)(r->head.sequence - r->replayed_records + 1));
	return status;
}

/* Journal, then ring. r->file is open afterwards, the ring gone. */
static esk_status recover(esk_recorder *r, bool *ret_recovered, esk_error *err)
{
	char journal[ESK_PATH_BYTES + 16];
	snprintf(journal, sizeof journal, "%s-journal", r->file_path);
	*ret_recovered = esk_os_exists(journal) || !esk_os_exists(r->file_path);
	esk_status status = esk_segment_open_or_resume(r, err);
	if (status != ESK_OK)
		return status;
	status = find_old_ring(r, err);
	if (status != ESK_OK)
		return status;
	*ret_recovered = *ret_recovered || r->ring_path[0] != '\0';
	if (r->ring != NULL) {
		status = replay(r, err);
		esk_ring_drain_end(r->ring);
		esk_ring_detach(r->ring);
		r->ring = NULL;
		if (status != ESK_OK)
			return status;
	}
	status = remove_ring(r, err);
	r->ring_path[0] = '\0';
	r->drained_position = r->released_position = 0;
	r->drained_sequence = 0;
	return status;
}

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

static void destroy(esk_recorder *r)
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
	drop_lock(r);
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

static esk_status make(const esk_recorder_options *options, esk_recorder **ret_recorder, esk_error *err)
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
		destroy(r);
		return esk_fail(err, ESK_EINVAL, "path too long: %s", options->directory);
	}
	status = lock_file(r->os, r->lock_path, r->name, &r->lock_fd, err);
	if (status != ESK_OK) {
		destroy(r);
		return status;
	}
	enlist(r);
	*ret_recorder = r;
	return ESK_OK;
}

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
		esk_status status = recover(r, &recovered, err);
		for (uint32_t s = 0; status == ESK_OK && s < r->stream_count; s++) /* no other thread yet */
			status = esk_attributes_check_apart(r, r->streams[s], err);
		return status;
	}
	if (r->metadata == NULL && (r->metadata = strdup("{}")) == NULL)
		return esk_fail_memory(err, 3, "metadata");
	return esk_segment_create(r, 0, err);
}

esk_status esk_recorder_open(const esk_recorder_options *options, esk_recorder **ret_recorder, esk_error *err)
{
	esk_recorder *r;
	esk_status status = make(options, &r, err);
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
		status = make_ring(r, err);
	if (status != ESK_OK)
		goto segment;
	r->head.ring_id = r->ring_id;
	r->head.sequence = 0;
	status = esk_commit_now(r, false, err); /* L3 */
	if (status == ESK_OK && r->sink_pending) {
		if (err != NULL)
			*err = r->last_error;
		status = r->last_status;
	}
	uint32_t count =
		atomic_load_explicit(&r->stream_count, memory_order_acquire); /* no other thread yet */
	for (uint32_t s = 0; s < count; s++)
		atomic_store_explicit(&r->streams[s]->next_row, r->streams[s]->rows, memory_order_relaxed);
	esk_missing_begin(r);
	r->last_commit_begin_ns = esk_monotonic_ns();
	if (status == ESK_OK)
		status = claim_known_names(r, err);
	if (status == ESK_OK)
		status = start_threads(r, err);
	if (status != ESK_OK)
		goto ring;
	*ret_recorder = r;
	return ESK_OK;

ring:
	stop_threads(r);
	remove_ring(r, NULL);
segment:
	destroy(r);
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
			closed = remove_ring(r, status == ESK_OK ? err : NULL);
		status = status == ESK_OK ? closed : status;
	}
	destroy(r);
	return status;
}

static bool has_link(const esk_recorder *r)
{
	char target[ESK_PATH_BYTES];
	return readlink(r->link_path, target, sizeof target) >= 0;
}

esk_status esk_recorder_recover(const esk_recorder_options *options, bool *ret_recovered, esk_error *err)
{
	esk_recorder *r;
	esk_status status = make(options, &r, err);
	if (status != ESK_OK)
		return status;
	bool recovered = false;
	if (!has_link(r) && !esk_os_exists(r->file_path)) {
		/* Nobody recorded it when the machine stopped: its segments are sealed, and it may stay so.
		 */
	} else if (!esk_segment_any(
			   r)) { /* it died before its first segment was complete: nothing was acknowledged */
		ssize_t size = readlink(r->link_path, r->ring_path, sizeof r->ring_path - 1);
		r->ring_path[size > 0 ? size : 0] = '\0';
		status = remove_ring(r, err);
		recovered = true;
	} else {
		status = recover(r, &recovered, err);
		esk_assembler_reset(r);
		if (status == ESK_OK) {
			status = esk_h5_close(r->file, err);
			r->file = NULL;
		}
	}
	destroy(r);
	if (status == ESK_OK)
		*ret_recovered = recovered;
	return status;
}

/* ---- what callers ask ---- */

static esk_status check_owner(const esk_recorder *r, esk_error *err)
{
	if (r->fork_count == esk_os_fork_count())
		return ESK_OK;
	return esk_fail(err, ESK_ECLOSED, "run \"%s\" belongs to the parent process", r->name);
}

esk_status esk_recorder_commit(
	esk_recorder *r, const esk_stream *stream, esk_watermark *ret_watermark, esk_error *err)
{
	esk_status status = check_owner(r, err);
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

/* Has the drain thread carry out `control`. */
static esk_status request(esk_recorder *r, esk_control *control, esk_error *err)
{
	esk_status status = check_owner(r, err);
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
	esk_status status = request(r, &control, err);
	free(control.metadata);
	return status;
}

/* Refuses two datasets that cannot stand beside each other in a file: nothing lies below a dataset. */
esk_status esk_names_apart(const char *stream, const char *name, const char *other, esk_error *err)
{
	if (strcmp(name, other) == 0)
		return esk_fail(err, ESK_EINVAL, "\"%s\": the name \"%s\" is taken twice", stream, name);
	if (esk_path_at_or_below(name, other) || esk_path_at_or_below(other, name))
		return esk_fail(err, ESK_EINVAL,
			"\"%s\": \"%s\" and \"%s\": one would lie below the other, which is a dataset",
			stream, name, other);
	return ESK_OK;
}

static esk_status check_columns(const char *name, const esk_column *columns, size_t count, esk_error *err)
{
	char valid[ESK_MAX_NAME + 16];
	if (count == 0 || count > ESK_MAX_COLUMNS)
		return esk_fail(err, ESK_EINVAL, "stream \"%s\" has %zu columns: expected 1 to %d", name,
			count, ESK_MAX_COLUMNS);
	for (size_t c = 0; c < count; c++) {
		esk_status status = esk_column_check(&columns[c], err);
		if (status == ESK_OK && columns[c].codec[0] != '\0')
			status = esk_codec_check(columns[c].codec, err);
		if (status != ESK_OK)
			return esk_fail_in(err, status, "stream \"%s\"", name);
		snprintf(valid, sizeof valid, "%s_valid", columns[c].name);
		for (size_t d = 0; d < count && status == ESK_OK; d++) {
			if (d < c)
				status = esk_names_apart(name, columns[d].name, columns[c].name, err);
			if (status == ESK_OK && columns[c].nullable)
				status = esk_names_apart(name, columns[d].name, valid, err);
		}
		if (status != ESK_OK)
			return status;
	}
	return ESK_OK;
}

static esk_status match_columns(
	const esk_stream *stream, const esk_column *columns, size_t count, esk_error *err)
{
	if (stream->column_count != count)
		return esk_fail(err, ESK_ESHAPE, "stream \"%s\" exists with %zu columns, found %zu",
			stream->name, stream->column_count, count);
	for (size_t c = 0; c < count; c++) {
		esk_status status = esk_column_match(&stream->columns[c], &columns[c], err);
		if (status != ESK_OK)
			return esk_fail_in(err, status, "stream \"%s\" exists", stream->name);
	}
	return ESK_OK;
}

/* The stream `name` with these columns, if the run has it; *ret_stream is NULL if not. */
static esk_status find_stream(esk_recorder *r, const char *name, const esk_column *columns,
	size_t column_count, esk_stream **ret_stream, esk_error *err)
{
	uint32_t count = atomic_load_explicit(
		&r->stream_count, memory_order_acquire); /* with the release in drain.c */
	*ret_stream = NULL;
	for (uint32_t s = 0; s < count; s++) {
		if (strcmp(r->streams[s]->name, name) != 0)
			continue;
		esk_status status = match_columns(r->streams[s], columns, column_count, err);
		if (status == ESK_OK)
			*ret_stream = r->streams[s];
		return status;
	}
	if (count == ESK_MAX_STREAMS)
		return esk_fail(
			err, ESK_ERANGE, "run \"%s\" has %d streams already", r->name, ESK_MAX_STREAMS);
	return ESK_OK;
}

/* One at a time: whoever comes second finds what the first one made. */
static esk_status make_stream(esk_recorder *r, const char *name, const esk_column *columns,
	size_t column_count, const esk_stream_options *options, esk_stream **ret_stream, esk_error *err)
{
	esk_control control = {.kind = ESK_CONTROL_STREAM};
	esk_status status = find_stream(r, name, columns, column_count, ret_stream, err);
	if (status != ESK_OK || *ret_stream != NULL)
		return status;
	status = esk_stream_create(r, name, columns, column_count, options, &control.stream, err);
	if (status != ESK_OK)
		return status;
	status = esk_names_claim_stream(&r->names, control.stream, err);
	if (status == ESK_OK) {
		status = request(r, &control, err);
		if (status != ESK_OK)
			esk_names_release_stream(&r->names, control.stream);
	} else {
		esk_fail_in(err, status, "run \"%s\", stream \"%s\"", r->name, name);
	}
	if (status == ESK_OK)
		*ret_stream = control.stream;
	else
		esk_stream_destroy(control.stream);
	return status;
}

esk_status esk_recorder_stream(esk_recorder *r, const char *name, const esk_column *columns,
	size_t column_count, const esk_stream_options *options, esk_stream **ret_stream, esk_error *err)
{
	esk_stream *stream = NULL;
	esk_status status = esk_group_name_check(name, "stream", err);
	if (status == ESK_OK)
		status = check_columns(name, columns, column_count, err);
	if (status == ESK_OK)
		status = check_owner(r, err);
	if (status != ESK_OK)
		return status;
	pthread_mutex_lock(&r->making);
	status = make_stream(r, name, columns, column_count, options, &stream, err);
	pthread_mutex_unlock(&r->making);
	if (status == ESK_OK)
		*ret_stream = stream;
	return status;
}

esk_status esk_recorder_stats(esk_recorder *r, esk_run_stats *ret_stats, esk_error *err)
{
	esk_status status = check_owner(r, err);
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
	size_t size = ret_stats->struct_size < sizeof stats ? ret_stats->struct_size : sizeof stats;
	if (size < sizeof stats.struct_size)
		return esk_fail(err, ESK_EINVAL, "struct_size of the statistics is not set");
	stats.struct_size = ret_stats->struct_size;
	memcpy(ret_stats, &stats, size);
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
