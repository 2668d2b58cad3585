/* Encryption at rest: sealed segments of runs that ask for it become encrypted files.
 *
 *   K1  spool/<run>.encrypt names the key that the run's segments are to be encrypted with. It is made,
 *       durably, before the run's first row is acknowledged, and removed once nothing is left to encrypt.
 *       Whoever opens the store for writing and finds it, and has the key, goes on.
 *   K2  The encrypted file is complete and durable in spool/ before it gets its name beside the plain one;
 *       the catalogue is told then; the plain one is removed last. So a complete file is there under the name
 *       that the catalogue has at every moment, or under the other of the two, where whoever read the
 *       catalogue before looks next (esk_segment_open_read).
 *   K3  Where both are there, the plain one is the segment (esk_index_scan), and the encrypted one is made
 *       anew.
 *   K4  The last segment is renamed as by a rotation (S2) before it is encrypted, under the run's lock.
 *
 *       <run>_<stamp>.h5  --encrypt-->  spool/<run>_<stamp>.h5x.new  --rename-->  <run>_<stamp>.h5x
 *
 * A thread per recorded run does the work of rotations, so that neither drain nor committer waits for it. */
#include "store/internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MARK ".encrypt"
#define MAKING ".new"
#define RETRY_NS 5000000000u

struct esk_sealer {
	esk_store *store;
	char run[ESK_MAX_NAME + 1];
	esk_key *key;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* of everything below */
	pthread_cond_t changed;
	bool wanted;
	bool stop;
};

/* ---- the mark (K1) ---- */

static esk_status make_mark(esk_store *store, const char *run, const esk_key *key, esk_error *err)
{
	const esk_os *os = store->environment.os;
	char mark[ESK_PATH_BYTES], making[ESK_PATH_BYTES], text[32];
	if (!esk_store_spool_path(store->path, run, MARK, mark) ||
		!esk_store_spool_path(store->path, run, MARK MAKING, making))
		return esk_fail(err, ESK_EINVAL, "path too long: %s", store->path);
	int fd, size = snprintf(text, sizeof text, "%s\n", esk_key_id(key));
	esk_status status = esk_os_open(os, making, O_RDWR | O_CREAT | O_TRUNC, 0666, &fd, err);
	if (status != ESK_OK)
		return status;
	status = esk_os_write(os, fd, making, text, (size_t)size, 0, err);
	if (status == ESK_OK)
		status = esk_os_sync(os, fd, making, err);
	os->close(os, fd);
	if (status == ESK_OK)
		status = esk_os_rename(os, making, mark, err);
	return status == ESK_OK ? esk_os_sync_parent(os, mark, err) : status;
}

static esk_status remove_mark(esk_store *store, const char *run, esk_error *err)
{
	char mark[ESK_PATH_BYTES];
	if (!esk_store_spool_path(store->path, run, MARK, mark))
		return ESK_OK;
	return esk_os_unlink(store->environment.os, mark, err);
}

static bool from_hex(const char *text, uint8_t id[ESK_VAULT_ID_BYTES])
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < 2 * ESK_VAULT_ID_BYTES; i++) {
		const char *digit = text[i] != '\0' ? strchr(digits, text[i]) : NULL;
		if (digit == NULL)
			return false;
		id[i / 2] = (uint8_t)(id[i / 2] << 4 | (digit - digits));
	}
	return true;
}

/* The key that the mark names. */
static esk_status find_marked_key(esk_store *store, const char *run, esk_key **ret_key, esk_error *err)
{
	const esk_os *os = store->environment.os;
	char mark[ESK_PATH_BYTES], text[2 * ESK_VAULT_ID_BYTES + 1] = "";
	uint8_t id[ESK_VAULT_ID_BYTES] = {0};
	size_t got = 0;
	int fd;
	if (!esk_store_spool_path(store->path, run, MARK, mark))
		return esk_fail(err, ESK_EINVAL, "path too long: %s", store->path);
	esk_status status = esk_os_open(os, mark, O_RDONLY, 0, &fd, err);
	if (status != ESK_OK)
		return status;
	status = esk_os_read_some(os, fd, mark, text, sizeof text - 1, 0, &got, err);
	os->close(os, fd);
	if (status == ESK_OK && !from_hex(text, id))
		status = esk_fail(err, ESK_ECORRUPT,
			"%s names no key: remove it to leave the run's segments plain", mark);
	return status == ESK_OK ? esk_keyring_find(mark, id, ret_key, err) : status;
}

/* ---- the catalogue ---- */

/* In the run's entry for segment `old_name`, replaces the name; what is now `new_name` is sealed. *ret_known
 * is false where the catalogue has no such segment. */
static esk_status rename_in_catalogue(esk_store *store, const char *run, const char *old_name,
	const char *new_name, uint64_t bytes, bool *ret_known, esk_error *err)
{
	esk_catalog *catalog = store->catalog;
	esk_run_record record = {0};
	esk_segment_record *segments = NULL;
	size_t count = 0;
	*ret_known = false;
	esk_status status = esk_catalog_begin(catalog, err);
	if (status != ESK_OK)
		return status;
	status = esk_catalog_get_run(catalog, run, &record, err);
	if (status == ESK_OK)
		status = esk_catalog_get_segments(catalog, record.id, &segments, &count, err);
	for (size_t i = 0; i < count && status == ESK_OK; i++) {
		if (strcmp(segments[i].file, old_name) != 0)
			continue;
		*ret_known = true;
		snprintf(segments[i].file, sizeof segments[i].file, "%s", new_name);
		segments[i].sealed_ns = segments[i].sealed ? segments[i].sealed_ns : esk_now_ns();
		segments[i].sealed = true;
		segments[i].bytes = bytes;
		status = esk_catalog_put_segment(catalog, record.id, &segments[i], err);
	}
	if (status == ESK_OK)
		status = esk_catalog_commit(catalog, err);
	if (status != ESK_OK)
		esk_catalog_rollback(catalog);
	esk_run_record_clear(&record);
	free(segments);
	return status;
}

static uint64_t bytes_of(const esk_os *os, const char *path)
{
	uint64_t bytes = 0;
	int fd;
	if (esk_os_open(os, path, O_RDONLY, 0, &fd, NULL) != ESK_OK)
		return 0;
	if (esk_os_size(os, fd, path, &bytes, NULL) != ESK_OK)
		bytes = 0;
	os->close(os, fd);
	return bytes;
}

/* ---- one file (K2) ---- */

static esk_status seal_file(
	esk_store *store, const char *run, const char *name, const esk_key *key, esk_error *err)
{
	const esk_os *os = store->environment.os;
	char plain[ESK_PATH_BYTES], sealed[ESK_PATH_BYTES], making[ESK_PATH_BYTES],
		sealed_name[ESK_FILE_NAME_BYTES];
	bool known;
	if (snprintf(sealed_name, sizeof sealed_name, "%sx", name) >= (int)sizeof sealed_name ||
		!esk_store_file_path(store->path, name, plain) ||
		!esk_store_file_path(store->path, sealed_name, sealed) ||
		!esk_store_spool_path(store->path, sealed_name, MAKING, making))
		return esk_fail(err, ESK_EINVAL, "path too long: %s", store->path);
	bool left = esk_os_exists(plain);
	if (!left && !esk_os_exists(sealed))
		return ESK_OK; /* pruned meanwhile */
	esk_status status =
		left ? esk_vault_encrypt(os, plain, making, sealed, key, NULL, NULL, err) : ESK_OK;
	if (status == ESK_OK)
		status =
			rename_in_catalogue(store, run, name, sealed_name, bytes_of(os, sealed), &known, err);
	if (status == ESK_OK && !known) /* pruned meanwhile */
		return esk_os_unlink(os, sealed, err);
	if (status == ESK_OK)
		status = esk_os_unlink(os, plain, err);
	return status == ESK_OK ? esk_os_sync_parent(os, plain, err) : status;
}

/* The catalogue knows the encrypted file, but the plain one could not be removed then. */
static esk_status remove_plain(esk_store *store, const char *sealed_name, esk_error *err)
{
	char path[ESK_PATH_BYTES];
	if (!esk_store_file_path(store->path, sealed_name, path))
		return esk_fail(err, ESK_EINVAL, "path too long: %s", store->path);
	if (!esk_os_exists(path)) /* then the plain one is all that there is */
		return ESK_OK;
	path[strlen(path) - 1] = '\0';
	if (!esk_os_exists(path))
		return ESK_OK;
	esk_status status = esk_os_unlink(store->environment.os, path, err);
	return status == ESK_OK ? esk_os_sync_parent(store->environment.os, path, err) : status;
}

/* Every sealed segment of the run that the catalogue knows as a plain file, or of which there still is one.
 */
static esk_status seal_files(esk_store *store, const char *run, const esk_key *key, esk_error *err)
{
	esk_run_record record = {0};
	esk_segment_record *segments = NULL;
	size_t count = 0;
	esk_status status = esk_catalog_get_run(store->catalog, run, &record, err);
	if (status == ESK_OK)
		status = esk_catalog_get_segments(store->catalog, record.id, &segments, &count, err);
	esk_run_record_clear(&record);
	for (size_t i = 0; i < count && status == ESK_OK; i++) {
		char owner[ESK_MAX_NAME + 1];
		bool encrypted;
		if (!esk_segment_is_sealed_name(segments[i].file, owner, &encrypted))
			continue;
		status = encrypted ? remove_plain(store, segments[i].file, err)
				   : seal_file(store, run, segments[i].file, key, err);
	}
	free(segments);
	return status;
}

/* K4. The caller holds the run's lock, and nobody has it open for writing. */
static esk_status seal_live(esk_store *store, const char *run, esk_error *err)
{
	const esk_os *os = store->environment.os;
	char live_name[ESK_FILE_NAME_BYTES], name[ESK_FILE_NAME_BYTES], stamp[ESK_TIME_TEXT_BYTES];
	char live[ESK_PATH_BYTES], path[ESK_PATH_BYTES], journal[ESK_PATH_BYTES + 16];
	bool known;
	snprintf(live_name, sizeof live_name, "%s.h5", run);
	if (!esk_store_file_path(store->path, live_name, live))
		return esk_fail(err, ESK_EINVAL, "path too long: %s", store->path);
	snprintf(journal, sizeof journal, "%s-journal", live);
	if (!esk_os_exists(live))
		return ESK_OK;
	if (esk_os_exists(journal))
		return esk_fail(err, ESK_EBUSY, "%s has a journal: it was not closed in peace", live);
	do {
		esk_time_format_stamp(esk_now_ns(), stamp);
		snprintf(name, sizeof name, "%.200s_%s.h5", run, stamp);
		if (!esk_store_file_path(store->path, name, path))
			return esk_fail(err, ESK_EINVAL, "path too long: %s", store->path);
	} while (esk_os_exists(path));
	esk_status status = esk_os_rename(os, live, path, err);
	if (status == ESK_OK)
		status = esk_os_sync_parent(os, path, err);
	if (status == ESK_OK)
		status = rename_in_catalogue(store, run, live_name, name, bytes_of(os, path), &known, err);
	if (status == ESK_OK && !known)
		status = esk_fail(err, ESK_EBUSY, "the catalogue does not know %s", live);
	return status;
}

/* Pieces of encrypted files that a crash left. The caller holds the run's lock. */
static void remove_pieces(esk_store *store, const char *run)
{
	char spool[ESK_PATH_BYTES];
	DIR *directory = esk_store_file_path(store->path, "spool", spool) ? opendir(spool) : NULL;
	for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
		char name[ESK_FILE_NAME_BYTES], owner[ESK_MAX_NAME + 1], path[ESK_PATH_BYTES];
		size_t size = strlen(entry->d_name), tail = strlen(MAKING);
		bool encrypted;
		if (size <= tail || size - tail >= sizeof name ||
			strcmp(entry->d_name + size - tail, MAKING) != 0)
			continue;
		memcpy(name, entry->d_name, size - tail);
		name[size - tail] = '\0';
		if (esk_segment_is_sealed_name(name, owner, &encrypted) && encrypted &&
			strcmp(owner, run) == 0 && esk_store_file_path(spool, entry->d_name, path))
			esk_os_unlink(store->environment.os, path, NULL);
	}
	if (directory != NULL)
		closedir(directory);
}

/* Everything of a run that nobody records. The caller holds its lock. */
static esk_status seal_run(esk_store *store, const char *run, const esk_key *key, esk_error *err)
{
	char link[ESK_PATH_BYTES], ring[16];
	/* The last segment is not to be sealed without what a ring may hold for it. */
	if (esk_store_spool_path(store->path, run, ".ring", link) && readlink(link, ring, sizeof ring) >= 0)
		return esk_fail(err, ESK_EBUSY, "it has a ring that is to be recovered first");
	esk_status status = seal_live(store, run, err);
	if (status == ESK_OK)
		status = seal_files(store, run, key, err);
	if (status != ESK_OK)
		return status;
	/* A name that a power cut brought back would have nobody to remove it once the mark is gone. */
	remove_pieces(store, run);
	status = esk_os_sync_parent(store->environment.os, link, err);
	return status == ESK_OK ? remove_mark(store, run, err) : status;
}

/* ---- while the run is recorded ---- */

static void wait_for_work(esk_sealer *sealer, bool failed)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += RETRY_NS / 1000000000u;
	while (!sealer->wanted && !sealer->stop) {
		if (!failed)
			pthread_cond_wait(&sealer->changed, &sealer->lock);
		else if (pthread_cond_timedwait(&sealer->changed, &sealer->lock, &until) != 0)
			return;
	}
}

static void *sealer_main(void *arg)
{
	esk_sealer *sealer = arg;
	bool failed = false;
	pthread_mutex_lock(&sealer->lock);
	for (;;) {
		wait_for_work(sealer, failed);
		if (sealer->stop)
			break;
		sealer->wanted = false;
		pthread_mutex_unlock(&sealer->lock);
		esk_error why = {0};
		esk_status status = seal_files(sealer->store, sealer->run, sealer->key, &why);
		if (status != ESK_OK && !failed)
			esk_log(&sealer->store->logger, ESK_LOG_WARNING,
				"run \"%s\": a sealed segment is not encrypted yet, and is tried again: %s",
				sealer->run, why.message);
		failed = status != ESK_OK;
		pthread_mutex_lock(&sealer->lock);
	}
	pthread_mutex_unlock(&sealer->lock);
	return NULL;
}

void esk_sealer_free(esk_sealer *sealer)
{
	if (sealer == NULL)
		return;
	pthread_cond_destroy(&sealer->changed);
	pthread_mutex_destroy(&sealer->lock);
	esk_key_free(sealer->key);
	free(sealer);
}

esk_status esk_sealer_start(esk_store *store, const char *run, esk_sealer **ret_sealer, esk_error *err)
{
	esk_sealer *sealer = calloc(1, sizeof *sealer);
	if (sealer == NULL)
		return esk_fail_memory(err, sizeof *sealer, "encryption");
	*sealer = (esk_sealer){.store = store, .key = esk_key_share(store->key)};
	snprintf(sealer->run, sizeof sealer->run, "%s", run);
	pthread_mutex_init(&sealer->lock, NULL);
	pthread_cond_init(&sealer->changed, NULL);
	esk_status status = make_mark(store, run, store->key, err);
	if (status == ESK_OK) {
		int errnum = pthread_create(&sealer->thread, NULL, sealer_main, sealer);
		if (errnum != 0)
			status = esk_fail_errno(err, errnum, "cannot start the thread that encrypts");
	}
	if (status != ESK_OK) {
		esk_sealer_free(sealer);
		return status;
	}
	sealer->started = true;
	*ret_sealer = sealer;
	return ESK_OK;
}

void esk_sealer_wake(esk_sealer *sealer)
{
	pthread_mutex_lock(&sealer->lock);
	sealer->wanted = true;
	pthread_cond_signal(&sealer->changed);
	pthread_mutex_unlock(&sealer->lock);
}

void esk_sealer_stop(esk_sealer *sealer)
{
	pthread_mutex_lock(&sealer->lock);
	sealer->stop = true;
	pthread_cond_signal(&sealer->changed);
	pthread_mutex_unlock(&sealer->lock);
	if (sealer->started)
		pthread_join(sealer->thread, NULL);
	sealer->started = false;
}

esk_status esk_sealer_finish(esk_sealer *sealer, esk_error *err)
{
	esk_store *store = sealer->store;
	const char *run = sealer->run;
	esk_run_hold hold;
	esk_error why = {0};
	esk_status status = esk_run_hold_take(store->environment.os, store->path, run, &hold, &why);
	if (status == ESK_EBUSY)
		return ESK_OK; /* somebody goes on with it: the mark says what is still to be done */
	if (status == ESK_OK) {
		status = seal_run(store, run, sealer->key, &why);
		esk_run_hold_drop(&hold);
	}
	if (status != ESK_OK)
		return esk_fail(err, status,
			"run \"%s\" is committed, but not all of it is encrypted: %.300s (opening the store "
			"for writing, with the key, tries it again)",
			run, why.message);
	return ESK_OK;
}

/* ---- after a crash ---- */

/* Finishes what the mark asks for, if nobody records the run and the key is there. */
static void resume_run(esk_store *store, const char *run)
{
	esk_run_hold hold;
	esk_key *key = NULL;
	esk_error why = {0};
	esk_status status = esk_run_hold_take(store->environment.os, store->path, run, &hold, &why);
	if (status == ESK_EBUSY)
		return;
	if (status == ESK_OK) {
		status = find_marked_key(store, run, &key, &why);
		if (status == ESK_OK)
			status = seal_run(store, run, key, &why);
		esk_key_free(key);
		esk_run_hold_drop(&hold);
	}
	if (status != ESK_OK)
		esk_log(&store->logger, ESK_LOG_WARNING,
			"run \"%s\": its segments stay plain for the present: %s", run, why.message);
	else
		esk_log(&store->logger, ESK_LOG_INFO, "run \"%s\": its segments are encrypted now", run);
}

/* A piece whose run has no mark any more: a power cut brought its name back. */
static void resume_pieces(esk_store *store, const char *name)
{
	char stem[ESK_FILE_NAME_BYTES], run[ESK_MAX_NAME + 1];
	size_t size = strlen(name) - strlen(MAKING);
	bool encrypted;
	esk_run_hold hold;
	if (size >= sizeof stem)
		return;
	memcpy(stem, name, size);
	stem[size] = '\0';
	if (!esk_segment_is_sealed_name(stem, run, &encrypted) || !encrypted ||
		esk_run_hold_take(store->environment.os, store->path, run, &hold, NULL) != ESK_OK)
		return;
	remove_pieces(store, run);
	esk_run_hold_drop(&hold);
}

static bool ends(const char *name, const char *tail)
{
	size_t size = strlen(name), tail_size = strlen(tail);
	return size > tail_size && strcmp(name + size - tail_size, tail) == 0;
}

void esk_seal_resume(esk_store *store)
{
	char spool[ESK_PATH_BYTES];
	DIR *directory = esk_store_file_path(store->path, "spool", spool) ? opendir(spool) : NULL;
	for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
		char run[ESK_MAX_NAME + 1];
		size_t size = strlen(entry->d_name) - (ends(entry->d_name, MARK) ? strlen(MARK) : 0);
		if (ends(entry->d_name, ".h5x" MAKING))
			resume_pieces(store, entry->d_name);
		if (!ends(entry->d_name, MARK) || size > ESK_MAX_NAME)
			continue;
		memcpy(run, entry->d_name, size);
		run[size] = '\0';
		resume_run(store, run);
	}
	if (directory != NULL)
		closedir(directory);
}
