/* The background writer: opening, its thread, statistics, closing. What it does with records is in
 * writer_take.c and what that calls. */
#include "writer.h"
#include "runs.h"
#include <esker/profile.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FLUSH_INTERVAL_NS 1000000000ull
#define LOOK_NS 10000000ull /* how often the thread looks whether the ring fills */
#define COMMIT_PART 4u      /* batches: items wait this part of the interval for their commit, at most */
#define FLUSH_PATIENCE_NS \
	30000000000ull /* for records in front of which a producer reserved and stands still */
#define FLUSH_NAP_NS 1000000ull
#define RUN_PATIENCE_NS \
	500000000ull /* for room in the run's ring; then the bite is given back and tried again */
#define DEFAULT_CONSUMER "hdf5"

void esk_daq_writer_log(const esk_daq_writer *writer, esk_log_level level, const char *format, ...)
{
	char message[1024];
	va_list args;
	if (writer->options.log == NULL)
		return;
	va_start(args, format);
	vsnprintf(message, sizeof message, format, args);
	va_end(args);
	writer->options.log(writer->options.log_arg, level, message);
}

static uint64_t interval_ns(const esk_daq_writer *writer)
{
	uint64_t interval = writer->options.flush_interval_ns;
	return interval != 0 ? interval : FLUSH_INTERVAL_NS;
}

/* ---- opening ---- */

/* Raw bytes: one column of binary. */
static void release_bytes_schema(struct ArrowSchema *schema)
{
	schema->release = NULL;
}

static const struct ArrowSchema *bytes_schema(void)
{
	static struct ArrowSchema column = {.format = "Z", .name = "data", .release = release_bytes_schema};
	static struct ArrowSchema *columns[] = {&column};
	static const struct ArrowSchema schema = {.format = "+s",
		.name = "",
		.n_children = 1,
		.children = columns,
		.release = release_bytes_schema};
	return &schema;
}

static esk_status open_run(esk_daq_writer *writer, const char *name, esk_error *err)
{
	const esk_daq_writer_options *options = &writer->options;
	esk_run_options run = ESK_RUN_OPTIONS_INIT;
	char *attributes = NULL;
	bool found;
	esk_status status = esk_daq_find_run(writer->store, name, &found, NULL, err);
	if (status == ESK_OK && !found)
		status = esk_daq_root_attributes(options->application, esk_now_ns(), &attributes, err);
	if (status != ESK_OK)
		return status;
	bool batches = options->layout == ESK_DAQ_BATCHES;
	uint64_t commit_ns = batches ? interval_ns(writer) / COMMIT_PART : interval_ns(writer);
	run.commit_interval_ns = commit_ns > 0 ? commit_ns : 1;
	run.block_timeout_ns = RUN_PATIENCE_NS;
	run.codec = options->codec;
	run.ring_bytes = options->ring_bytes;
	run.segment_bytes = options->segment_bytes;
	run.encrypt = options->encrypt;
	run.segment_period = options->segment_period;
	run.keep_segments = options->keep_segments;
	run.metadata_json = options->metadata_json;
	run.attributes_json = attributes;
	run.append = true;
	status = esk_run_open(writer->store, name, &run, &writer->run, err);
	free(attributes);
	return status;
}

/* A run keeps its layout: what was taken in one is accounted for where the other does not look. */
static esk_status check_layout(esk_daq_writer *writer, esk_error *err)
{
	const char *name = esk_run_name(writer->run);
	bool batches = writer->options.layout == ESK_DAQ_BATCHES, has_other = false;
	esk_status status = batches ? esk_daq_ring_stream_has_records(writer->store, name, &has_other, err)
				    : esk_daq_batches_exist(writer, &has_other, err);
	if (status != ESK_OK || !has_other)
		return status;
	return esk_fail(err, ESK_EEXIST,
		"run \"%s\" was recorded in the %s layout and keeps it, but %s was asked for; go on in its "
		"layout, or begin another run",
		name, batches ? "columns" : "batches", batches ? "batches" : "columns");
}

/* What the run has of the ring, from an earlier life of this writer. */
static esk_status recall(esk_daq_writer *writer, esk_error *err)
{
	esk_consumer_stats place = {.struct_size = sizeof place};
	esk_status status = esk_consumer_get_stats(writer->consumer, &place, err);
	if (status != ESK_OK)
		return status;
	atomic_store(&writer->taken_position, place.released_position);
	esk_daq_begin_again(writer);
	esk_daq_account_init(&writer->account, esk_ring_stream_id(writer->ring), place.released_position);
	bool has_bytes = false;
	status = esk_daq_ring_stream_recall(
		writer->store, esk_run_name(writer->run), &writer->account, &has_bytes, err);
	if (has_bytes)
		esk_daq_instruments_add(&writer->instruments, ESK_DAQ_BYTES_STREAM);
	if (status == ESK_OK && writer->options.layout == ESK_DAQ_BATCHES) {
		writer->account.floor = 0; /* of the other list of entries */
		status = esk_daq_batches_recall(writer, err);
	}
	return status;
}

static esk_status count_batches(esk_daq_writer *writer, esk_error *err)
{
	uint64_t count = esk_stream_rows(writer->ring_stream);
	esk_status status = writer->options.layout == ESK_DAQ_BATCHES
				    ? esk_daq_batches_count(writer, &count, err)
				    : ESK_OK;
	writer->stats.batches = count;
	return status;
}

static esk_status open_parts(esk_daq_writer *writer, const char *run, esk_error *err)
{
	const char *name = writer->options.consumer;
	esk_consumer_options consumer = ESK_CONSUMER_OPTIONS_INIT;
	consumer.lossy = writer->options.lossy;
	/* The place in the ring first: it keeps others of the same name away. */
	esk_status status = esk_consumer_open(
		writer->ring, name != NULL ? name : DEFAULT_CONSUMER, &consumer, &writer->consumer, err);
	if (status == ESK_OK)
		status = open_run(writer, run, err);
	if (status == ESK_OK)
		status = esk_daq_ring_stream(writer->run, &writer->ring_stream, err);
	if (status == ESK_OK)
		status = check_layout(writer, err);
	if (status == ESK_OK)
		status = recall(writer, err);
	return status == ESK_OK ? count_batches(writer, err) : status;
}

static void init_locks(esk_daq_writer *writer)
{
	pthread_condattr_t attributes;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&writer->wake, &attributes);
	pthread_condattr_destroy(&attributes);
	pthread_mutex_init(&writer->draining, NULL);
	pthread_mutex_init(&writer->lock, NULL);
}

/* Frees the handle; the first failure of what it closes is told. */
static esk_status destroy(esk_daq_writer *writer, esk_status status, esk_error *err)
{
	for (uint32_t i = 0; i < writer->lane_count; i++)
		esk_daq_lane_close(writer->lanes[i]);
	esk_status closed = esk_run_close(writer->run, status == ESK_OK ? err : NULL);
	status = status == ESK_OK ? closed : status;
	esk_consumer_close(writer->consumer);
	if (writer->owns_store) {
		closed = esk_store_close(writer->store, status == ESK_OK ? err : NULL);
		status = status == ESK_OK ? closed : status;
	}
	esk_daq_account_clear(&writer->account);
	pthread_cond_destroy(&writer->wake);
	pthread_mutex_destroy(&writer->lock);
	pthread_mutex_destroy(&writer->draining);
	free(writer->lanes);
	free(writer->scratch);
	esk_daq_rules_free(writer->rules);
	free(writer);
	return status;
}

static esk_status make_writer(
	esk_ring *ring, const esk_daq_writer_options *options, esk_daq_writer **ret_writer, esk_error *err)
{
	esk_daq_writer *writer = calloc(1, sizeof *writer);
	if (writer == NULL)
		return esk_fail_memory(err, sizeof *writer, "a writer");
	writer->options = (esk_daq_writer_options)ESK_DAQ_WRITER_OPTIONS_INIT;
	if (options != NULL)
		esk_struct_take(&writer->options, sizeof writer->options, options);
	writer->ring = ring;
	writer->bytes_schema = bytes_schema();
	init_locks(writer);
	esk_status status = esk_daq_rules_parse(writer->options.columns, &writer->rules, err);
	if (status == ESK_OK && writer->options.layout != ESK_DAQ_COLUMNS &&
		writer->options.layout != ESK_DAQ_BATCHES)
		status = esk_fail(err, ESK_EINVAL, "layout %d of a writer: expected columns or batches",
			(int)writer->options.layout);
	if (status != ESK_OK)
		return destroy(writer, status, NULL);
	*ret_writer = writer;
	return ESK_OK;
}

static esk_status finish_opening(
	esk_daq_writer *writer, const char *run, esk_daq_writer **ret_writer, esk_error *err)
{
	esk_status status = open_parts(writer, run, err);
	if (status != ESK_OK)
		return destroy(writer, status, NULL);
	*ret_writer = writer;
	return ESK_OK;
}

esk_status esk_daq_writer_open_in(esk_store *store, const char *run, esk_ring *ring,
	const esk_daq_writer_options *options, esk_daq_writer **ret_writer, esk_error *err)
{
	esk_daq_writer *writer;
	esk_status status = make_writer(ring, options, &writer, err);
	if (status != ESK_OK)
		return status;
	writer->store = store;
	return finish_opening(writer, run, ret_writer, err);
}

/* "dir/name.h5" apart into a directory and a stem. */
static esk_status split_path(
	const char *path, char directory[ESK_DAQ_PATH_BYTES], char stem[ESK_DAQ_PATH_BYTES], esk_error *err)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash != NULL ? slash + 1 : path;
	const char *dot = strrchr(name, '.');
	bool has_suffix = dot != NULL && (strcmp(dot, ".h5") == 0 || strcmp(dot, ".hdf5") == 0);
	size_t stem_bytes = has_suffix ? (size_t)(dot - name) : strlen(name);
	size_t directory_bytes = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
	if (stem_bytes == 0 || stem_bytes >= ESK_DAQ_PATH_BYTES || directory_bytes >= ESK_DAQ_PATH_BYTES)
		return esk_fail(err, ESK_EINVAL,
			"output path \"%.200s\": expected a directory and a file's name, as in "
			"data/experiment.h5",
			path);
	snprintf(directory, ESK_DAQ_PATH_BYTES, "%.*s", (int)(directory_bytes > 0 ? directory_bytes : 1),
		directory_bytes > 0 ? path : ".");
	snprintf(stem, ESK_DAQ_PATH_BYTES, "%.*s", (int)stem_bytes, name);
	return ESK_OK;
}

esk_status esk_daq_writer_open(const char *output_path, esk_ring *ring, const esk_daq_writer_options *options,
	esk_daq_writer **ret_writer, esk_error *err)
{
	char directory[ESK_DAQ_PATH_BYTES], stem[ESK_DAQ_PATH_BYTES];
	esk_store_options store = ESK_STORE_OPTIONS_INIT;
	esk_daq_writer *writer;
	esk_status status = split_path(output_path, directory, stem, err);
	if (status == ESK_OK)
		status = make_writer(ring, options, &writer, err);
	if (status != ESK_OK)
		return status;
	store.log = writer->options.log;
	store.log_arg = writer->options.log_arg;
	status = esk_daq_open_store_with_key(
		directory, writer->options.encrypt, writer->options.key_file, &store, &writer->store, err);
	writer->owns_store = status == ESK_OK;
	return status == ESK_OK ? finish_opening(writer, stem, ret_writer, err)
				: destroy(writer, status, NULL);
}

/* ---- flushing ---- */

static void note_result(esk_daq_writer *writer, esk_status status, bool any, const esk_error *why)
{
	pthread_mutex_lock(&writer->lock);
	bool is_news = status != writer->stats.status;
	writer->stats.status = status;
	writer->stats.error[0] = '\0';
	if (status != ESK_OK)
		snprintf(writer->stats.error, sizeof writer->stats.error, "%s", why->message);
	else
		writer->stats.last_flush_ns = esk_now_ns();
	if (status == ESK_OK && any)
		writer->stats.flushes++;
	pthread_mutex_unlock(&writer->lock);
	if (is_news && status != ESK_OK)
		esk_daq_writer_log(writer, ESK_LOG_ERROR, "ring %s: a flush failed, and is tried again: %s",
			esk_ring_path(writer->ring), why->message);
	else if (is_news)
		esk_daq_writer_log(
			writer, ESK_LOG_INFO, "ring %s: flushing goes on", esk_ring_path(writer->ring));
}

/* Takes what is in the ring before `stop`; commits it if that is asked for. */
static esk_status flush(esk_daq_writer *writer, uint64_t stop, bool commit, esk_error *err)
{
	esk_error why = {0};
	bool any = false;
	pthread_mutex_lock(&writer->draining);
	esk_status status = esk_daq_take(writer, stop, &any, &why);
	pthread_mutex_unlock(&writer->draining);
	if (status == ESK_OK && commit)
		status = esk_run_commit(writer->run, NULL, &why);
	note_result(writer, status, any, &why);
	return status == ESK_OK ? ESK_OK : esk_fail(err, status, "%s", why.message);
}

static uint64_t head_position(const esk_daq_writer *writer)
{
	esk_ring_stats stats;
	esk_ring_get_stats(writer->ring, &stats);
	return stats.head_position;
}

static uint64_t rows_taken(esk_daq_writer *writer)
{
	pthread_mutex_lock(&writer->lock);
	uint64_t rows = writer->stats.rows;
	pthread_mutex_unlock(&writer->lock);
	return rows;
}

/* For who asked for all: a run whose ring is full gives a bite back soon, but as long as its commits make
 * room it goes on. */
static esk_status flush_all(esk_daq_writer *writer, uint64_t stop, bool commit, esk_error *err)
{
	uint64_t before = rows_taken(writer);
	esk_status status = flush(writer, stop, commit, err);
	while (status == ESK_ETIMEDOUT && rows_taken(writer) > before) {
		before = rows_taken(writer);
		status = esk_run_commit(writer->run, NULL, err);
		if (status == ESK_OK)
			status = flush(writer, stop, commit, err);
	}
	return status;
}

esk_status esk_daq_writer_step(esk_daq_writer *writer, esk_error *err)
{
	return flush(writer, head_position(writer), true, err);
}

esk_status esk_daq_writer_flush(esk_daq_writer *writer, esk_error *err)
{
	uint64_t head = head_position(writer);
	esk_status status = flush_all(writer, head, true, err);
	/* Behind a reservation that is not published yet there may be records that were written before the
	 * call. */
	for (uint64_t waited = 0; status == ESK_OK && atomic_load(&writer->taken_position) < head;
		waited += FLUSH_NAP_NS) {
		struct timespec nap = {.tv_nsec = FLUSH_NAP_NS};
		if (waited >= FLUSH_PATIENCE_NS)
			return esk_fail(err, ESK_ETIMEDOUT,
				"ring %s: a record was reserved and not published for 30 s; what lies behind "
				"it waits",
				esk_ring_path(writer->ring));
		nanosleep(&nap, NULL);
		status = flush_all(writer, head, true, err);
	}
	return status;
}

/* ---- the thread ---- */

static bool is_filling(const esk_daq_writer *writer)
{
	uint64_t head = head_position(writer);
	return head - atomic_load(&writer->taken_position) > esk_ring_capacity(writer->ring) / 4;
}

/* Until the next flush is due, the ring fills, or the writer is closed, which it tells. */
static bool wait_until_due(esk_daq_writer *writer, uint64_t interval)
{
	uint64_t waited = 0;
	pthread_mutex_lock(&writer->lock);
	while (!writer->stopping && waited < interval && !is_filling(writer)) {
		uint64_t left = interval - waited;
		uint64_t step = left < LOOK_NS ? left : LOOK_NS;
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += (long)step;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&writer->wake, &writer->lock, &until);
		waited += step;
	}
	bool stopping = writer->stopping;
	pthread_mutex_unlock(&writer->lock);
	return !stopping;
}

/* Rows are committed by the run, each interval, so that the ring is drained while the disk works. In the
 * columns layout it is drained several times an interval: rows shall wait for one commit, not for two. */
static void *run_thread(void *arg)
{
	esk_daq_writer *writer = arg;
	uint64_t interval = interval_ns(writer);
	if (writer->options.layout == ESK_DAQ_COLUMNS)
		interval = interval / 8 > 0 ? interval / 8 : 1;
	bool failing = false;
	while (wait_until_due(writer, failing ? LOOK_NS + interval : interval))
		failing = flush(writer, head_position(writer), false, NULL) != ESK_OK;
	return NULL;
}

esk_status esk_daq_writer_start(esk_daq_writer *writer, esk_error *err)
{
	if (writer->started)
		return esk_fail(err, ESK_EBUSY, "the writer of run \"%s\" was started before",
			esk_run_name(writer->run));
	int failed = pthread_create(&writer->thread, NULL, run_thread, writer);
	if (failed != 0)
		return esk_fail_errno(err, failed, "cannot start the writer's thread");
	writer->started = true;
	return ESK_OK;
}

static void stop_thread(esk_daq_writer *writer)
{
	if (!writer->started)
		return;
	pthread_mutex_lock(&writer->lock);
	writer->stopping = true;
	pthread_cond_signal(&writer->wake);
	pthread_mutex_unlock(&writer->lock);
	pthread_join(writer->thread, NULL);
	writer->started = false;
}

/* ---- state, end ---- */

/* The thread takes records as long as the run's own ring has room; whether they reach the disk, the run says.
 */
static void tell_of_commits(const esk_daq_writer *writer, esk_daq_writer_stats *stats)
{
	esk_run_stats run = {.struct_size = sizeof run};
	if (stats->status != ESK_OK || esk_run_get_stats(writer->run, &run, NULL) != ESK_OK ||
		run.status == ESK_OK)
		return;
	stats->status = run.status;
	snprintf(stats->error, sizeof stats->error, "commits fail: %s%s", esk_status_name(run.status),
		run.status == ESK_ENOSPC ? ": no space left on the disk" : "");
}

esk_status esk_daq_writer_get_stats(esk_daq_writer *writer, esk_daq_writer_stats *ret_stats, esk_error *err)
{
	size_t size = ret_stats->struct_size;
	if (size < sizeof size || size > sizeof *ret_stats)
		return esk_fail(err, ESK_EINVAL, "struct_size of the statistics is not set");
	uint64_t head = head_position(writer), taken = atomic_load(&writer->taken_position);
	pthread_mutex_lock(&writer->lock);
	esk_daq_writer_stats stats = writer->stats;
	pthread_mutex_unlock(&writer->lock);
	stats.struct_size = size;
	stats.lag_bytes = head > taken ? head - taken : 0;
	tell_of_commits(writer, &stats);
	memcpy(ret_stats, &stats, size);
	return ESK_OK;
}

uint64_t esk_daq_writer_batch_count(esk_daq_writer *writer)
{
	pthread_mutex_lock(&writer->lock);
	uint64_t batches = writer->stats.batches;
	pthread_mutex_unlock(&writer->lock);
	return batches;
}

esk_run *esk_daq_writer_run(esk_daq_writer *writer)
{
	return writer->run;
}

esk_status esk_daq_writer_close(esk_daq_writer *writer, esk_error *err)
{
	if (writer == NULL)
		return ESK_OK;
	stop_thread(writer);
	esk_status status = flush_all(writer, head_position(writer), false, err);
	return destroy(writer, status, err);
}
