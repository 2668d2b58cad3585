/* Draining every ring in a store's spool: see daemon_internal.h.
 *
 * One thread looks; `lock` guards the list against those who ask for statistics. What takes long (opening a
 * run, draining to the end) is done to a ring that is not in the list. */
#include "daemon_internal.h"

#include "rules.h"
#include <esker/profile.h>

#include <dirent.h>
#include <errno.h>
#include <esker/ring.h>
#include <esker/storage_config.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SUFFIX ".ring"
#define NAME_BYTES 200
#define RINGS_MOST 1024
#define RETRY_LOOKS 10 /* a ring that could not be opened is tried again after so many looks */

typedef struct ring_entry {
	struct ring_entry *next;
	char name[NAME_BYTES + 1];
	dev_t device;
	ino_t inode;
	esk_ring *ring;
	esk_daq_writer *writer; /* NULL: could not be opened; `trouble` says why */
	unsigned failures;
	unsigned wait; /* so many looks until it is tried again */
	esk_error trouble;
	bool seen; /* by the look at hand */
} ring_entry;

struct esk_rings {
	esk_store *store;
	const esk_logger *log;
	char *folder;
	esk_daq_texts texts; /* what the options point to */
	char *application, *key_file;
	esk_daq_writer_options options;
	pthread_mutex_t lock;
	ring_entry *first;
	size_t count;
	bool full; /* said so */
};

static void log_of_writer(void *arg, esk_log_level level, const char *message)
{
	esk_log(arg, level, "%s", message);
}

/* A configuration lives shorter than the rings: its texts are copied. */
static esk_status keep_text(const char **io_text, char **ret_copy, esk_error *err)
{
	if (*io_text == NULL)
		return ESK_OK;
	*ret_copy = strdup(*io_text);
	*io_text = *ret_copy;
	return *ret_copy != NULL ? ESK_OK : esk_fail_memory(err, 64, "settings");
}

static esk_status take_options(esk_rings *rings, const esk_storage_config *config, esk_error *err)
{
	esk_status status = ESK_OK;
	rings->options = (esk_daq_writer_options)ESK_DAQ_WRITER_OPTIONS_INIT;
	if (config != NULL) {
		status = esk_daq_writer_options_of(config, &rings->texts, &rings->options, err);
		rings->options.ring_bytes = config->daemon_ring_mb << 20;
		rings->options.layout =
			strcmp(config->daemon_layout, "batches") == 0 ? ESK_DAQ_BATCHES : ESK_DAQ_COLUMNS;
	}
	if (status == ESK_OK)
		status = keep_text(&rings->options.application, &rings->application, err);
	if (status == ESK_OK)
		status = keep_text(&rings->options.key_file, &rings->key_file, err);
	rings->options.log = log_of_writer;
	rings->options.log_arg = (void *)rings->log;
	return status;
}

esk_status esk_rings_create(esk_store *store, const esk_storage_config *config, const esk_logger *log,
	esk_rings **ret_rings, esk_error *err)
{
	const char *path = esk_store_path(store);
	size_t size = strlen(path) + sizeof "/spool/daq";
	esk_rings *rings = calloc(1, sizeof *rings);
	if (rings == NULL)
		return esk_fail_memory(err, sizeof *rings, "the list of rings");
	pthread_mutex_init(&rings->lock, NULL);
	rings->store = store;
	rings->log = log;
	rings->folder = malloc(size);
	esk_status status = rings->folder != NULL ? take_options(rings, config, err)
						  : esk_fail_memory(err, size, "the list of rings");
	if (status != ESK_OK) {
		(void)esk_rings_destroy(rings, NULL);
		return status;
	}
	snprintf(rings->folder, size, "%s/spool/daq", path);
	*ret_rings = rings;
	return ESK_OK;
}

/* ---- one ring ---- */

static esk_status path_of(const esk_rings *rings, const char *name, char **ret_path, esk_error *err)
{
	size_t size = strlen(rings->folder) + strlen(name) + sizeof "/" SUFFIX;
	char *path = malloc(size);
	if (path == NULL)
		return esk_fail_memory(err, size, "a path");
	snprintf(path, size, "%s/%s" SUFFIX, rings->folder, name);
	*ret_path = path;
	return ESK_OK;
}

static esk_status open_entry(esk_rings *rings, ring_entry *entry, const char *path, esk_error *err)
{
	esk_status status = esk_daq_ring_open(path, &entry->ring, err);
	if (status != ESK_OK)
		return status;
	status = esk_daq_writer_open_in(
		rings->store, entry->name, entry->ring, &rings->options, &entry->writer, err);
	if (status == ESK_OK) {
		status = esk_daq_writer_start(entry->writer, err);
		if (status == ESK_OK)
			return ESK_OK;
		(void)esk_daq_writer_close(entry->writer, NULL);
		entry->writer = NULL;
	}
	esk_ring_detach(entry->ring);
	entry->ring = NULL;
	return status;
}

/* A ring in the making cannot be opened for a moment: that is said when it lasts. */
static void note_trouble(const esk_rings *rings, ring_entry *entry, const esk_error *why)
{
	if (entry->failures++ == 1)
		esk_log(rings->log, ESK_LOG_WARNING, "the ring \"%s\" is not drained: %s", entry->name,
			why->message);
	entry->trouble = *why;
	entry->wait = entry->failures > 1 ? RETRY_LOOKS : 1;
}

static esk_status close_entry(ring_entry *entry, esk_error *err)
{
	esk_status status = esk_daq_writer_close(entry->writer, err);
	esk_ring_detach(entry->ring);
	free(entry);
	return status;
}

/* ---- the list ---- */

static ring_entry *find(const esk_rings *rings, const char *name)
{
	ring_entry *entry = rings->first;
	while (entry != NULL && strcmp(entry->name, name) != 0)
		entry = entry->next;
	return entry;
}

static void link_entry(esk_rings *rings, ring_entry *entry)
{
	pthread_mutex_lock(&rings->lock);
	entry->next = rings->first;
	rings->first = entry;
	rings->count++;
	pthread_mutex_unlock(&rings->lock);
}

static void unlink_entry(esk_rings *rings, ring_entry *entry)
{
	pthread_mutex_lock(&rings->lock);
	for (ring_entry **at = &rings->first; *at != NULL; at = &(*at)->next) {
		if (*at == entry) {
			*at = entry->next;
			rings->count--;
			break;
		}
	}
	pthread_mutex_unlock(&rings->lock);
}

static void finish_entry(esk_rings *rings, ring_entry *entry)
{
	esk_error why = {0};
	/* First to the disk: a ring that nobody is told of any more is in the file. Failing, closing says so.
	 */
	if (entry->writer != NULL)
		(void)esk_daq_writer_flush(entry->writer, NULL);
	unlink_entry(rings, entry);
	if (entry->writer != NULL)
		esk_log(rings->log, ESK_LOG_INFO, "the ring \"%s\" was removed: it is finished", entry->name);
	char name[NAME_BYTES + 1];
	memcpy(name, entry->name, sizeof name);
	if (close_entry(entry, &why) != ESK_OK)
		esk_log(rings->log, ESK_LOG_ERROR, "finishing the ring \"%s\": %s", name, why.message);
}

static void try_entry(esk_rings *rings, ring_entry *entry, const char *path, const struct stat *st)
{
	esk_error why = {0};
	entry->device = st->st_dev;
	entry->inode = st->st_ino;
	if (open_entry(rings, entry, path, &why) == ESK_OK)
		esk_log(rings->log, ESK_LOG_INFO, "draining the ring \"%s\"", entry->name);
	else
		note_trouble(rings, entry, &why);
}

static void see(esk_rings *rings, const char *name)
{
	char *path;
	struct stat st;
	if (path_of(rings, name, &path, NULL) != ESK_OK)
		return;
	ring_entry *entry = find(rings, name);
	if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) {
		free(path); /* a link to nothing: as good as removed */
		return;
	}
	if (entry != NULL && (entry->device != st.st_dev || entry->inode != st.st_ino)) {
		finish_entry(rings, entry);
		entry = NULL;
	}
	bool fresh = entry == NULL && rings->count < RINGS_MOST;
	if (fresh && (entry = calloc(1, sizeof *entry)) != NULL)
		strcpy(entry->name, name);
	if (entry != NULL && entry->writer == NULL && (fresh || --entry->wait == 0)) {
		if (!fresh)
			unlink_entry(rings, entry);
		try_entry(rings, entry, path, &st);
		link_entry(rings, entry);
	}
	if (entry != NULL)
		entry->seen = true;
	free(path);
}

static bool ring_name(const char *file, char ret_name[NAME_BYTES + 1])
{
	size_t size = strlen(file), suffix = sizeof SUFFIX - 1;
	if (size <= suffix || size - suffix > NAME_BYTES || strcmp(file + size - suffix, SUFFIX) != 0)
		return false;
	memcpy(ret_name, file, size - suffix);
	ret_name[size - suffix] = '\0';
	return true;
}

void esk_rings_look(esk_rings *rings)
{
	char name[NAME_BYTES + 1];
	for (ring_entry *entry = rings->first; entry != NULL; entry = entry->next)
		entry->seen = false;
	DIR *folder = opendir(rings->folder);
	if (folder == NULL && errno != ENOENT)
		return; /* what cannot be read tells nothing about what was removed */
	for (struct dirent *file; folder != NULL && (file = readdir(folder)) != NULL;)
		if (ring_name(file->d_name, name))
			see(rings, name);
	if (folder != NULL)
		closedir(folder);
	if (rings->count >= RINGS_MOST && !rings->full)
		esk_log(rings->log, ESK_LOG_WARNING, "%d rings are drained, as many as are taken",
			RINGS_MOST);
	rings->full = rings->count >= RINGS_MOST;
	for (ring_entry *entry = rings->first, *next; entry != NULL; entry = next) {
		next = entry->next;
		if (!entry->seen)
			finish_entry(rings, entry);
	}
}

static json_t *entry_stats(const ring_entry *entry)
{
	esk_daq_writer_stats stats = {.struct_size = sizeof stats};
	if (entry->writer == NULL)
		return json_pack("{s:s, s:s, s:s}", "name", entry->name, "status",
			esk_status_name(entry->trouble.code), "error", entry->trouble.message);
	if (esk_daq_writer_get_stats(entry->writer, &stats, NULL) != ESK_OK)
		return json_pack("{s:s}", "name", entry->name);
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:s}", "name",
		entry->name, "records", (json_int_t)stats.records, "rows", (json_int_t)stats.rows, "bytes",
		(json_int_t)stats.bytes, "batches", (json_int_t)stats.batches, "bad_records",
		(json_int_t)stats.bad_records, "lost_records", (json_int_t)stats.lost_records, "lost_bytes",
		(json_int_t)stats.lost_bytes, "flushes", (json_int_t)stats.flushes, "lag_bytes",
		(json_int_t)stats.lag_bytes, "last_flush_ns", (json_int_t)stats.last_flush_ns, "status",
		esk_status_name(stats.status), "error", stats.error);
}

json_t *esk_rings_stats(esk_rings *rings)
{
	json_t *array = json_array();
	pthread_mutex_lock(&rings->lock);
	for (const ring_entry *entry = rings->first; entry != NULL && array != NULL; entry = entry->next)
		(void)json_array_append_new(array, entry_stats(entry));
	pthread_mutex_unlock(&rings->lock);
	return array;
}

esk_status esk_rings_destroy(esk_rings *rings, esk_error *err)
{
	esk_status first = ESK_OK;
	if (rings == NULL)
		return ESK_OK;
	while (rings->first != NULL) {
		ring_entry *entry = rings->first;
		unlink_entry(rings, entry);
		esk_status status = close_entry(entry, first == ESK_OK ? err : NULL);
		if (first == ESK_OK)
			first = status;
	}
	pthread_mutex_destroy(&rings->lock);
	free(rings->application);
	free(rings->key_file);
	esk_daq_texts_free(&rings->texts);
	free(rings->folder);
	free(rings);
	return first;
}
