/* Sessions: opening, instruments, statistics, closing. */
#include "session.h"
#include "runs.h"
#include <esker/profile.h>

#include <esker/query.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEFAULT_CODEC "gzip:6"
#define SAME_SECOND 1000 /* sessions begun in one second: their names get numbers */

/* ---- instruments ---- */

static esk_daq_instrument *find_instrument(const esk_session *session, const char *name)
{
	esk_daq_instrument *instrument = session->instruments;
	while (instrument != NULL && strcmp(instrument->name, name) != 0)
		instrument = instrument->next;
	return instrument;
}

/* Under the session's lock. */
static esk_status add_instrument(
	esk_session *session, const char *name, esk_daq_instrument **ret_instrument, esk_error *err)
{
	esk_daq_instrument *instrument = calloc(1, sizeof *instrument);
	if (instrument == NULL)
		return esk_fail_memory(err, sizeof *instrument, "an instrument");
	snprintf(instrument->name, sizeof instrument->name, "%s", name);
	pthread_mutex_init(&instrument->lock, NULL);
	instrument->next = session->instruments;
	session->instruments = instrument;
	*ret_instrument = instrument;
	return ESK_OK;
}

esk_status esk_daq_session_instrument(
	esk_session *session, const char *name, esk_daq_instrument **ret_instrument, esk_error *err)
{
	if (name == NULL)
		name = ESK_DAQ_DEFAULT_INSTRUMENT;
	esk_status status = esk_daq_check_instrument(name, err);
	if (status != ESK_OK)
		return status;
	pthread_mutex_lock(&session->lock);
	esk_daq_instrument *instrument = find_instrument(session, name);
	if (instrument == NULL)
		status = add_instrument(session, name, &instrument, err);
	pthread_mutex_unlock(&session->lock);
	if (status == ESK_OK)
		*ret_instrument = instrument;
	return status;
}

esk_status esk_daq_session_announce(esk_session *session, esk_daq_instrument *instrument, esk_error *err)
{
	char created[32];
	esk_status status = ESK_OK;
	pthread_mutex_lock(&session->changing);
	if (!instrument->announced) {
		esk_time_format(esk_now_ns(), created);
		json_t *object =
			json_pack("{s:s, s:s}", "instrument_id", instrument->name, "created_at", created);
		char *text = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
		status = text != NULL ? esk_run_set_attributes(session->run, instrument->name, text, err)
				      : esk_fail_memory(err, 256, "attributes of an instrument");
		free(text);
		json_decref(object);
		instrument->announced = status == ESK_OK;
	}
	pthread_mutex_unlock(&session->changing);
	return status;
}

/* ---- what the run had ---- */

static esk_status recall_instrument(esk_session *session, const char *name, esk_error *err)
{
	esk_daq_instrument *instrument;
	if (esk_daq_check_instrument(name, NULL) != ESK_OK) /* a stream below one, or a writer's account */
		return ESK_OK;
	esk_status status = add_instrument(session, name, &instrument, err);
	if (status != ESK_OK)
		return status;
	instrument->has_stream = instrument->announced = true;
	session->stream_count++;
	return ESK_OK;
}

static void recall_metadata(esk_session *session, const char *text)
{
	json_t *object = text != NULL ? json_loads(text, 0, NULL) : NULL;
	if (!json_is_object(object)) {
		json_decref(object);
		return;
	}
	session->metadata.object = object;
	session->metadata_entries = json_object_size(object);
}

/* One row for each stream, and one of a run without. */
esk_status esk_daq_session_recall(esk_session *session, esk_error *err)
{
	static const char sql[] = "SELECT runs.created_ns, runs.metadata, streams.name FROM runs "
				  "LEFT JOIN streams ON streams.run_id = runs.id WHERE runs.name = ?";
	const char *name = esk_run_name(session->run);
	esk_value value = {.kind = ESK_TEXT, .data = name, .size = strlen(name)};
	esk_query *query;
	esk_status status = esk_query_open(session->store, sql, &query, err);
	if (status != ESK_OK)
		return status;
	status = esk_query_bind(query, 1, &value, err);
	for (bool found = true, first = true; status == ESK_OK && found; first = false) {
		status = esk_query_step(query, &found, err);
		if (status != ESK_OK || !found)
			break;
		if (first) {
			session->created_ns = esk_query_value(query, 0).integer;
			recall_metadata(session, esk_query_value(query, 1).data);
		}
		if (esk_query_value(query, 2).kind == ESK_TEXT)
			status = recall_instrument(session, esk_query_value(query, 2).data, err);
	}
	esk_query_close(query);
	return status;
}

/* ---- opening ---- */

static void set_run_options(const esk_session_options *options, esk_run_options *run)
{
	run->codec = options->codec != NULL ? options->codec : DEFAULT_CODEC;
	run->ring_bytes = options->ring_bytes;
	run->policy = options->policy;
	run->block_timeout_ns = options->block_timeout_ns;
	run->commit_interval_ns =
		options->auto_flush_interval_ns != 0 ? options->auto_flush_interval_ns : UINT64_MAX;
	run->segment_bytes = options->segment_bytes;
	run->encrypt = options->encrypt;
	run->segment_period = options->segment_period;
	run->keep_segments = options->keep_segments;
}

/* "daq_session_20261124_120000.h5" names the run as well as its name does. */
static esk_status open_earlier(
	esk_session *session, const char *append_to, esk_run_options *run, esk_error *err)
{
	char name[ESK_MAX_NAME + 1];
	bool found = false;
	const char *slash = strrchr(append_to, '/');
	const char *begin = slash != NULL ? slash + 1 : append_to;
	size_t size = strlen(begin);
	if (size > 3 && strcmp(begin + size - 3, ".h5") == 0)
		size -= 3;
	if (size == 0 || size > ESK_MAX_NAME)
		return esk_fail(err, ESK_EINVAL, "\"%.100s\" is no name of a session", append_to);
	snprintf(name, sizeof name, "%.*s", (int)size, begin);
	esk_status status = esk_daq_find_run(session->store, name, &found, NULL, err);
	if (status == ESK_OK && !found)
		status = esk_fail(err, ESK_ENOTFOUND, "there is no session \"%s\" in %s to append to", name,
			esk_store_path(session->store));
	run->append = true;
	return status == ESK_OK ? esk_run_open(session->store, name, run, &session->run, err) : status;
}

static esk_status open_named(esk_session *session, const char *wanted, esk_run_options *run, esk_error *err)
{
	char stem[ESK_MAX_NAME + 1], name[ESK_MAX_NAME + 16];
	time_t now = time(NULL);
	struct tm parts;
	esk_error why = {0};
	if (gmtime_r(&now, &parts) == NULL)
		memset(&parts, 0, sizeof parts);
	strftime(stem, sizeof stem, "daq_session_%Y%m%d_%H%M%S", &parts);
	if (wanted != NULL)
		return esk_run_open(session->store, wanted, run, &session->run, err);
	snprintf(name, sizeof name, "%s", stem);
	esk_status status = esk_run_open(session->store, name, run, &session->run, &why);
	for (unsigned n = 2; n < SAME_SECOND && (status == ESK_EEXIST || status == ESK_EBUSY); n++) {
		snprintf(name, sizeof name, "%s_%u", stem, n);
		status = esk_run_open(session->store, name, run, &session->run, &why);
	}
	return status == ESK_OK ? ESK_OK : esk_fail(err, status, "%s", why.message);
}

static esk_status open_new(
	esk_session *session, const esk_session_options *options, esk_run_options *run, esk_error *err)
{
	char *attributes = NULL;
	esk_status status = esk_daq_root_attributes(options->application, esk_now_ns(), &attributes, err);
	if (status != ESK_OK)
		return status;
	run->attributes_json = attributes;
	status = open_named(session, options->name, run, err);
	free(attributes);
	return status;
}

static esk_status open_run(esk_session *session, const esk_session_options *options, esk_error *err)
{
	esk_run_options run = ESK_RUN_OPTIONS_INIT;
	esk_run_stats stats = {.struct_size = sizeof stats};
	set_run_options(options, &run);
	snprintf(session->codec, sizeof session->codec, "%s", run.codec);
	session->auto_flush_interval_ns = options->auto_flush_interval_ns;
	esk_status status = esk_daq_rules_parse(options->columns, &session->rules, err);
	if (status == ESK_OK)
		status = options->append_to != NULL ? open_earlier(session, options->append_to, &run, err)
						    : open_new(session, options, &run, err);
	if (status == ESK_OK)
		status = esk_daq_session_recall(session, err);
	if (status == ESK_OK && options->metadata_json != NULL)
		status = esk_session_set_metadata_json(session, NULL, options->metadata_json, err);
	if (status == ESK_OK)
		status = esk_run_get_stats(session->run, &stats, err);
	session->first_commit = stats.commits;
	return status;
}

static esk_status destroy(esk_session *session, esk_status status, esk_error *err)
{
	for (esk_daq_instrument *instrument = session->instruments; instrument != NULL;) {
		esk_daq_instrument *next = instrument->next;
		esk_arrow_sink_close(instrument->sink);
		json_decref(instrument->metadata.object);
		pthread_mutex_destroy(&instrument->lock);
		free(instrument);
		instrument = next;
	}
	esk_status closed = esk_run_close(session->run, status == ESK_OK ? err : NULL);
	status = status == ESK_OK ? closed : status;
	if (session->owns_store) {
		closed = esk_store_close(session->store, status == ESK_OK ? err : NULL);
		status = status == ESK_OK ? closed : status;
	}
	json_decref(session->metadata.object);
	esk_daq_rules_free(session->rules);
	pthread_mutex_destroy(&session->changing);
	pthread_mutex_destroy(&session->lock);
	free(session);
	return status;
}

static esk_status make_session(esk_session **ret_session, esk_error *err)
{
	esk_session *session = calloc(1, sizeof *session);
	if (session == NULL)
		return esk_fail_memory(err, sizeof *session, "a session");
	pthread_mutex_init(&session->changing, NULL);
	pthread_mutex_init(&session->lock, NULL);
	*ret_session = session;
	return ESK_OK;
}

esk_status esk_session_open_in(
	esk_store *store, const esk_session_options *options, esk_session **ret_session, esk_error *err)
{
	esk_session_options taken = ESK_SESSION_OPTIONS_INIT;
	esk_session *session;
	if (options != NULL)
		esk_struct_take(&taken, sizeof taken, options);
	esk_status status = make_session(&session, err);
	if (status != ESK_OK)
		return status;
	session->store = store;
	status = open_run(session, &taken, err);
	if (status != ESK_OK)
		return destroy(session, status, NULL);
	*ret_session = session;
	return ESK_OK;
}

/* ---- opening as a configuration says ---- */

static esk_status open_configured(
	const esk_storage_config *config, const char *append_to, esk_session **ret_session, esk_error *err)
{
	esk_session_options options;
	esk_store_options store = ESK_STORE_OPTIONS_INIT;
	esk_daq_texts texts;
	esk_session *session;
	esk_status status = esk_daq_session_options_of(config, &texts, &options, err);
	if (status != ESK_OK)
		return status;
	options.append_to = append_to;
	status = make_session(&session, err);
	if (status == ESK_OK) {
		status = esk_daq_open_store_with_key(
			config->output_dir, config->encrypt, config->key_file, &store, &session->store, err);
		session->owns_store = status == ESK_OK;
		if (status == ESK_OK)
			status = open_run(session, &options, err);
		if (status == ESK_OK)
			*ret_session = session;
		else
			destroy(session, status, NULL);
	}
	esk_daq_texts_free(&texts);
	return status;
}

esk_status esk_session_open(
	const esk_storage_config *config, const char *append_to, esk_session **ret_session, esk_error *err)
{
	esk_storage_config loaded = ESK_STORAGE_CONFIG_INIT;
	if (config != NULL)
		return open_configured(config, append_to, ret_session, err);
	esk_status status = esk_storage_config_load(NULL, &loaded, err);
	if (status != ESK_OK)
		return status;
	status = open_configured(&loaded, append_to, ret_session, err);
	esk_storage_config_free(&loaded);
	return status;
}

/* ---- flushing, statistics, closing ---- */

esk_status esk_session_flush(esk_session *session, esk_error *err)
{
	return esk_run_commit(session->run, NULL, err);
}

esk_status esk_session_get_stats(esk_session *session, esk_session_stats *ret_stats, esk_error *err)
{
	esk_run_stats run = {.struct_size = sizeof run};
	size_t size = ret_stats->struct_size;
	if (size < sizeof size || size > sizeof *ret_stats)
		return esk_fail(err, ESK_EINVAL, "struct_size of the statistics is not set");
	esk_status status = esk_run_get_stats(session->run, &run, err);
	if (status != ESK_OK)
		return status;
	esk_session_stats stats = {.flushes = run.commits - session->first_commit,
		.created_ns = session->created_ns,
		.last_flush_ns = run.last_commit_ns,
		.auto_flush_interval_ns = session->auto_flush_interval_ns,
		.pending_bytes = run.ring_used_bytes,
		.file_bytes = run.file_bytes,
		.segments = run.segments,
		.is_open = run.status != ESK_ECLOSED,
		.status = run.status,
		.file_path = esk_run_file(session->run),
		.output_dir = esk_store_path(session->store),
		.run = esk_run_name(session->run),
		.codec = session->codec};
	pthread_mutex_lock(&session->lock);
	stats.bytes_written = session->bytes_written;
	stats.batches_written = session->batches_written;
	stats.rows_written = session->rows_written;
	stats.instruments = session->stream_count;
	stats.metadata_entries = session->metadata_entries;
	pthread_mutex_unlock(&session->lock);
	esk_struct_give(ret_stats, &stats, sizeof stats);
	return ESK_OK;
}

const char *esk_session_name(const esk_session *session)
{
	return esk_run_name(session->run);
}

esk_run *esk_session_run(esk_session *session)
{
	return session->run;
}

esk_status esk_session_close(esk_session *session, esk_error *err)
{
	return session != NULL ? destroy(session, ESK_OK, err) : ESK_OK;
}
