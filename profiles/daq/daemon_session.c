/* The session that clients write to: see daemon_internal.h. */
#include "daemon_internal.h"

#include "rules.h"
#include <esker/profile.h>

#include <errno.h>
#include <esker/esker.h>
#include <esker/storage_config.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOTE_BYTES 256

/* ---- which session ---- */

static esk_status note_path(esk_store *store, const char *suffix, char **ret_path, esk_error *err)
{
	const char *folder = esk_store_path(store);
	size_t size = strlen(folder) + strlen(suffix) + sizeof "/spool/daemon.session";
	char *path = malloc(size);
	if (path == NULL)
		return esk_fail_memory(err, size, "a path");
	snprintf(path, size, "%s/spool/daemon.session%s", folder, suffix);
	*ret_path = path;
	return ESK_OK;
}

/* The name that was noted; "" where there is none, or none that can be read: then a new session is begun. */
static esk_status read_note(esk_store *store, char ret_name[NOTE_BYTES], esk_error *err)
{
	char *path;
	esk_status status = note_path(store, "", &path, err);
	if (status != ESK_OK)
		return status;
	ret_name[0] = '\0';
	FILE *in = fopen(path, "re");
	if (in != NULL) {
		size_t size = fread(ret_name, 1, NOTE_BYTES - 1, in);
		ret_name[size] = '\0';
		ret_name[strcspn(ret_name, "\n")] = '\0';
		fclose(in);
	}
	free(path);
	return ESK_OK;
}

static esk_status write_note(esk_store *store, const char *name, esk_error *err)
{
	char *path = NULL, *aside = NULL;
	esk_status status = note_path(store, "", &path, err);
	if (status == ESK_OK)
		status = note_path(store, ".new", &aside, err);
	if (status == ESK_OK) {
		int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		bool written = fd >= 0 && dprintf(fd, "%s\n", name) > 0 && fsync(fd) == 0;
		int why = errno;
		if (fd >= 0 && close(fd) != 0 && written) {
			why = errno;
			written = false;
		}
		if (!written || rename(aside, path) != 0)
			status = esk_fail_errno(err, written ? errno : why, "%s: noting the session", path);
	}
	free(aside);
	free(path);
	return status;
}

static esk_status open_named(esk_store *store, esk_session_options *options, const char *append_to,
	const char *name, esk_session **ret_session, esk_error *err)
{
	options->append_to = append_to;
	options->name = name;
	return esk_session_open_in(store, options, ret_session, err);
}

/* Goes on with `wanted`, or with what was noted; where there is no such run a session is begun, of that name
 * if it was asked for. */
static esk_status go_on(esk_store *store, esk_session_options *options, const char *wanted,
	const esk_logger *log, esk_session **ret_session, esk_error *err)
{
	char noted[NOTE_BYTES];
	esk_error why = {0};
	esk_status status = read_note(store, noted, err);
	if (status != ESK_OK)
		return status;
	const char *name = wanted != NULL ? wanted : noted;
	if (name[0] == '\0')
		return open_named(store, options, NULL, NULL, ret_session, err);
	status = open_named(store, options, name, NULL, ret_session, &why);
	if (status == ESK_OK) {
		esk_log(log, ESK_LOG_INFO, "going on with the session %s", name);
		return ESK_OK;
	}
	if (status == ESK_ENOTFOUND) {
		if (wanted == NULL)
			esk_log(log, ESK_LOG_WARNING, "the last session, %s, is gone: a new one is begun",
				name);
		return open_named(store, options, NULL, wanted, ret_session, err);
	}
	return esk_fail(err, status, "going on with the session %s (a new session is another way): %.300s",
		name, why.message);
}

esk_status esk_daemon_session_open(esk_store *store, const esk_daemon_options *options, const esk_logger *log,
	esk_session **ret_session, esk_error *err)
{
	esk_session *session = NULL;
	esk_session_options wanted = ESK_SESSION_OPTIONS_INIT;
	esk_daq_texts texts = {0};
	esk_status status = ESK_OK;
	if (options->config != NULL) {
		status = esk_daq_session_options_of(options->config, &texts, &wanted, err);
		wanted.ring_bytes = options->config->daemon_ring_mb << 20;
	}
	/* The serving thread does not wait for room: it asks again. */
	wanted.policy = ESK_REJECT;
	if (status == ESK_OK)
		status = options->new_session
				 ? open_named(store, &wanted, NULL, options->session, &session, err)
				 : go_on(store, &wanted, options->session, log, &session, err);
	esk_daq_texts_free(&texts);
	if (status != ESK_OK)
		return status;
	status = write_note(store, esk_session_name(session), err);
	if (status != ESK_OK) {
		(void)esk_session_close(session, NULL);
		return status;
	}
	*ret_session = session;
	return ESK_OK;
}

/* ---- what is done with it ---- */

esk_status esk_daemon_session_write(esk_session *session, const char *instrument,
	const struct ArrowSchema *schema, const struct ArrowArray *array, uint64_t *io_row, esk_error *err)
{
	uint64_t taken = 0;
	esk_status status = esk_session_write(session, instrument, schema, array, *io_row, &taken, err);
	*io_row += taken;
	return status;
}

esk_status esk_daemon_session_trouble(esk_session *session, esk_error *err)
{
	esk_session_stats stats = {.struct_size = sizeof stats};
	if (esk_session_get_stats(session, &stats, NULL) != ESK_OK || stats.status == ESK_OK)
		return ESK_OK;
	return esk_fail(err, stats.status,
		"%.300s cannot be written (%s), and shared memory has no room for more rows; what was "
		"acknowledged waits there. The daemon goes on by itself when that is mended",
		stats.file_path != NULL ? stats.file_path : esk_session_name(session),
		stats.status == ESK_ENOSPC ? "the disk is full" : esk_status_name(stats.status));
}

json_t *esk_daemon_session_stats(esk_session *session)
{
	esk_session_stats stats = {.struct_size = sizeof stats};
	if (esk_session_get_stats(session, &stats, NULL) != ESK_OK)
		return json_object();
	json_t *object = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:s}",
		"run", esk_session_name(session), "bytes_written", (json_int_t)stats.bytes_written,
		"batches_written", (json_int_t)stats.batches_written, "rows_written",
		(json_int_t)stats.rows_written, "flushes", (json_int_t)stats.flushes, "instruments",
		(json_int_t)stats.instruments, "metadata_entries", (json_int_t)stats.metadata_entries,
		"created_ns", (json_int_t)stats.created_ns, "last_flush_ns", (json_int_t)stats.last_flush_ns,
		"pending_bytes", (json_int_t)stats.pending_bytes, "file_bytes", (json_int_t)stats.file_bytes,
		"segments", (json_int_t)stats.segments, "is_open", (int)stats.is_open, "status",
		esk_status_name(stats.status));
	/* A path need not be UTF-8, as JSON must be: it is then left out. */
	if (object != NULL && stats.file_path != NULL)
		(void)json_object_set_new(object, "file_path", json_string(stats.file_path));
	if (object != NULL && stats.codec != NULL)
		(void)json_object_set_new(object, "codec", json_string(stats.codec));
	return object;
}
