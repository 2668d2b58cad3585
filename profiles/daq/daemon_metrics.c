/* Statistics as Prometheus text: see daemon_internal.h. */
#include "daemon_internal.h"

#include <esker/profile.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LABEL_BYTES 512

typedef struct metric {
	const char *key;  /* in the object of the statistics */
	const char *name; /* behind "esker_daemon_", "esker_session_", "esker_ring_" */
	const char *type;
	const char *help;
	double unit; /* what the value is multiplied by */
} metric;

static const metric daemon_metrics[] = {
	{"uptime_s", "uptime_seconds", "gauge", "Time since the daemon was started.", 1},
	{"clients", "clients", "gauge", "Clients that are connected.", 1},
	{"accepted", "clients_accepted_total", "counter", "Clients that were let in.", 1},
	{"refused", "clients_refused_total", "counter", "Clients that were turned away.", 1},
	{"timed_out", "clients_timed_out_total", "counter",
		"Clients that were closed since a time limit was over.", 1},
	{"messages", "messages_total", "counter", "Messages that were handled.", 1},
	{"batches", "batches_total", "counter", "Record batches that were acknowledged.", 1},
	{"rows", "rows_total", "counter", "Rows that were acknowledged.", 1},
	{"bytes", "received_bytes_total", "counter", "Bytes received from clients.", 1},
	{"errors", "errors_total", "counter", "Errors that clients were told of.", 1},
	{"memory_bytes", "memory_bytes", "gauge", "Memory kept for clients.", 1},
};
static const metric session_metrics[] = {
	{"bytes_written", "written_bytes_total", "counter", "Bytes of batches since the session was opened.",
		1},
	{"batches_written", "batches_total", "counter", "Record batches since the session was opened.", 1},
	{"rows_written", "rows_total", "counter", "Rows since the session was opened.", 1},
	{"flushes", "flushes_total", "counter", "Commits to disk.", 1},
	{"instruments", "instruments", "gauge", "Instruments of the session.", 1},
	{"pending_bytes", "pending_bytes", "gauge", "Bytes acknowledged and not on disk yet.", 1},
	{"file_bytes", "file_bytes", "gauge", "Size of the live file.", 1},
	{"segments", "segments", "gauge", "Files of the session.", 1},
	{"last_flush_ns", "last_flush_timestamp_seconds", "gauge", "When the last commit was.", 1e-9},
};
static const metric ring_metrics[] = {
	{"records", "records_total", "counter", "Records taken from the ring.", 1},
	{"rows", "rows_total", "counter", "Rows taken from the ring.", 1},
	{"bytes", "bytes_total", "counter", "Payload taken from the ring.", 1},
	{"bad_records", "bad_records_total", "counter", "Records that could not be taken.", 1},
	{"lost_records", "lost_records_total", "counter", "Records overwritten before they were taken.", 1},
	{"lost_bytes", "lost_bytes_total", "counter", "Bytes overwritten before they were taken.", 1},
	{"lag_bytes", "lag_bytes", "gauge", "Bytes in the ring that were not taken yet.", 1},
	{"last_flush_ns", "last_flush_timestamp_seconds", "gauge", "When the ring was last taken to disk.",
		1e-9},
};

/* A label's value: quotes, backslashes and newlines are escaped. */
static void escape(const char *text, char ret_label[LABEL_BYTES])
{
	size_t at = 0;
	for (; *text != '\0' && at + 3 < LABEL_BYTES; text++) {
		if (*text == '"' || *text == '\\' || *text == '\n')
			ret_label[at++] = '\\';
		ret_label[at++] = *text == '\n' ? 'n' : *text;
	}
	ret_label[at] = '\0';
}

static void put_value(FILE *out, const char *prefix, const metric *m, const char *label, json_t *value)
{
	fprintf(out, "esker_%s_%s%s ", prefix, m->name, label);
	if (json_is_integer(value) && m->unit == 1)
		fprintf(out, "%" JSON_INTEGER_FORMAT "\n", json_integer_value(value));
	else
		fprintf(out, "%.9g\n", json_number_value(value) * m->unit);
}

static void put_head(FILE *out, const char *prefix, const metric *m)
{
	fprintf(out, "# HELP esker_%s_%s %s\n# TYPE esker_%s_%s %s\n", prefix, m->name, m->help, prefix,
		m->name, m->type);
}

static void put_object(FILE *out, const char *prefix, const metric *metrics, size_t count, json_t *object)
{
	for (size_t i = 0; i < count; i++) {
		json_t *value = json_object_get(object, metrics[i].key);
		if (!json_is_number(value))
			continue;
		put_head(out, prefix, &metrics[i]);
		put_value(out, prefix, &metrics[i], "", value);
	}
}

/* 1 where all is well, 0 where not: what an alert asks for first. */
static void put_up(FILE *out, const char *name, const char *label, json_t *object)
{
	const char *status = json_string_value(json_object_get(object, "status"));
	fprintf(out, "esker_%s_ok%s %d\n", name, label, status != NULL && strcmp(status, "ok") == 0);
}

static void put_rings(FILE *out, json_t *rings)
{
	char name[LABEL_BYTES], label[LABEL_BYTES + 16];
	size_t k;
	json_t *ring;
	size_t metrics = sizeof ring_metrics / sizeof *ring_metrics;
	for (size_t i = 0; i <= metrics; i++) {
		if (i < metrics && json_array_size(rings) > 0)
			put_head(out, "ring", &ring_metrics[i]);
		else if (json_array_size(rings) > 0)
			fputs("# HELP esker_ring_ok Whether the ring is drained without trouble.\n# TYPE "
			      "esker_ring_ok gauge\n",
				out);
		json_array_foreach(rings, k, ring)
		{
			const char *text = json_string_value(json_object_get(ring, "name"));
			escape(text != NULL ? text : "", name);
			snprintf(label, sizeof label, "{ring=\"%s\"}", name);
			json_t *value = i < metrics ? json_object_get(ring, ring_metrics[i].key) : NULL;
			if (i == metrics)
				put_up(out, "ring", label, ring);
			else if (json_is_number(value))
				put_value(out, "ring", &ring_metrics[i], label, value);
		}
	}
}

esk_status esk_daemon_stats_prometheus(const char *json, char **ret_text, esk_error *err)
{
	json_error_t fault;
	char *text = NULL;
	size_t size = 0;
	json_t *stats = json_loads(json, 0, &fault);
	if (!json_is_object(stats)) {
		json_decref(stats);
		return esk_fail(err, ESK_EINVAL, "statistics that are no JSON object: %.100s", fault.text);
	}
	FILE *out = open_memstream(&text, &size);
	if (out == NULL) {
		json_decref(stats);
		return esk_fail_memory(err, 4096, "metrics");
	}
	put_object(out, "daemon", daemon_metrics, sizeof daemon_metrics / sizeof *daemon_metrics,
		json_object_get(stats, "daemon"));
	put_object(out, "session", session_metrics, sizeof session_metrics / sizeof *session_metrics,
		json_object_get(stats, "session"));
	fputs("# HELP esker_session_ok Whether commits of the session work.\n# TYPE esker_session_ok gauge\n",
		out);
	put_up(out, "session", "", json_object_get(stats, "session"));
	put_rings(out, json_object_get(stats, "rings"));
	json_decref(stats);
	bool failed = ferror(out) != 0;
	if (fclose(out) != 0 || failed) {
		free(text);
		return esk_fail_memory(err, size, "metrics");
	}
	*ret_text = text;
	return ESK_OK;
}

esk_status esk_metrics_write(const char *path, const char *text, esk_error *err)
{
	size_t size = strlen(path) + sizeof ".XXXXXX";
	char *aside = malloc(size);
	if (aside == NULL)
		return esk_fail_memory(err, size, "a path");
	snprintf(aside, size, "%s.XXXXXX", path);
	esk_status status = ESK_OK;
	int fd = mkstemp(aside);
	if (fd < 0) {
		status = esk_fail_errno(err, errno, "%s: a file beside it", path);
		free(aside);
		return status;
	}
	size_t length = strlen(text);
	ssize_t written = write(fd, text, length);
	bool whole = written >= 0 && (size_t)written == length;
	int why = written < 0 ? errno : ENOSPC;
	/* Readable for who collects them, as such files are. */
	if (whole && (fchmod(fd, 0644) != 0 || rename(aside, path) != 0)) {
		whole = false;
		why = errno;
	}
	if (!whole) {
		status = esk_fail_errno(err, why, "%s: writing metrics", path);
		(void)unlink(aside);
	}
	close(fd);
	free(aside);
	return status;
}
