/* A file that changes only by whole commits: opening, recovery, closing. journal.c has the invariants.
 *
 * What a writer finds beside the file, and what it does:
 *
 *   no journal, an empty or a retired one   the file is as of its last commit (if empty: never committed)
 *   a complete record                       applies it, synchronises the file
 *   only incomplete records                 the file is as of the journal's base
 *   a record made for another file          ESK_ECORRUPT: a person has to say which of the two is wanted
 *
 * Then it begins a session of its own, so that nothing of an older session is ever applied again.
 *
 * May include: base, os. */
#include "journal/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* A probe (esk_jfile_has_writer) holds the lock for microseconds; a writer that closes, for a few
 * synchronisations. */
#define LOCK_TRIES 20
#define PROBE_TRIES 3
/* A commit's record is written in milliseconds; a reader that meets a hundred in a row gives up. */
#define READ_TRIES 100

uint64_t esk_journal_inode_at(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 ? (uint64_t)st.st_ino : 0;
}

uint64_t esk_journal_inode_of(int fd)
{
	struct stat st;
	return fstat(fd, &st) == 0 ? (uint64_t)st.st_ino : 0;
}

static void sleep_us(long us)
{
	struct timespec pause = {.tv_sec = 0, .tv_nsec = us * 1000};
	nanosleep(&pause, NULL);
}

static void close_descriptor(const esk_os *os, int *fd)
{
	if (*fd >= 0)
		os->close(os, *fd);
	*fd = -1;
}

static void destroy(esk_jfile *file)
{
	esk_vault_close(file->vault);
	close_descriptor(file->os, &file->fd);
	close_descriptor(file->os, &file->journal_fd);
	esk_overlay_free(&file->overlays[0]);
	esk_overlay_free(&file->overlays[1]);
	esk_record_free(&file->record);
	pthread_mutex_destroy(&file->lock);
	free(file->path);
	free(file->journal_path);
	free(file);
}

static char *journal_path_of(const char *path)
{
	char *journal_path = NULL;
	return asprintf(&journal_path, "%s-journal", path) < 0 ? NULL : journal_path;
}

static esk_status make_handle(
	const esk_os *os, const char *path, esk_jfile_mode mode, esk_jfile **ret_file, esk_error *err)
{
	esk_jfile *file = calloc(1, sizeof(*file));
	if (file == NULL)
		goto handle;
	file->os = os;
	file->mode = mode;
	file->fd = -1;
	file->journal_fd = -1;
	file->active = &file->overlays[0];
	file->path = strdup(path);
	if (file->path == NULL)
		goto path;
	file->journal_path = journal_path_of(path);
	if (file->journal_path == NULL)
		goto journal_path;
	if (pthread_mutex_init(&file->lock, NULL) != 0)
		goto lock;
	*ret_file = file;
	return ESK_OK;

lock:
	free(file->journal_path);
journal_path:
	free(file->path);
path:
	free(file);
handle:
	return esk_fail_memory(err, sizeof(*file), "a journalled file");
}

/* ---- whose journal is it ---- */

/* *ret_ours: the journal was written for this file, by its inode, or (a copy has another) by its content. */
static esk_status journal_is_ours(
	const esk_jfile *file, const esk_journal_state *state, bool *ret_ours, esk_error *err)
{
	*ret_ours = state->header.inode == file->inode;
	if (*ret_ours || !state->complete)
		return ESK_OK;
	return esk_record_explains(&state->record, file->os, file->fd, file->path, ret_ours, err);
}

/* A record that is complete must fit its file, which was synchronised at its full size before the record was.
 */
static esk_status check_record(
	const esk_jfile *file, const esk_journal_state *state, uint64_t size, bool ours, esk_error *err)
{
	if (!ours)
		return esk_fail(err, ESK_ECORRUPT,
			"%s: its journal %s was written for another file: put that file back, or remove the "
			"journal to take "
			"the file as it is",
			file->path, file->journal_path);
	if (state->slot.end > size)
		return esk_fail(err, ESK_ECORRUPT,
			"%s has %llu bytes, its last commit had %llu: the file was cut; restore it from a "
			"backup, or remove "
			"%s to take it as it is",
			file->path, (unsigned long long)size, (unsigned long long)state->slot.end,
			file->journal_path);
	return ESK_OK;
}

/* Sets what was committed from the journal, or from the file alone; *ret_apply: `state` holds a record to go
 * in. */
static esk_status settle(esk_jfile *file, const esk_journal_state *state, bool *ret_apply, esk_error *err)
{
	uint64_t size = 0;
	bool ours = false;
	*ret_apply = false;
	file->never_committed = false;
	file->commit = 0;
	esk_status status = esk_os_size(file->os, file->fd, file->path, &size, err);
	if (status == ESK_OK && state->present)
		status = journal_is_ours(file, state, &ours, err);
	if (status != ESK_OK)
		return status;
	file->file_size = size;
	file->committed_end = size;
	if (size == 0 && !(ours && state->complete)) {
		file->never_committed = true;
	} else if (state->present && state->complete) {
		status = check_record(file, state, size, ours, err);
		file->commit = state->slot.commit;
		file->committed_end = state->slot.end;
		*ret_apply = status == ESK_OK;
	} else if (ours) {
		file->commit = state->header.base_commit;
		file->committed_end = esk_min_u64(size, state->header.base_end);
		file->never_committed = (state->header.flags & ESK_JOURNAL_CREATED) != 0;
	}
	file->end = file->committed_end;
	file->straight_from = file->committed_end;
	return status;
}

static void report(
	const esk_jfile *file, const esk_journal_state *state, bool applied, esk_jfile_recovery *recovery)
{
	*recovery = (esk_jfile_recovery){
		.journal_found = state->present,
		.applied = applied,
		.never_committed = file->never_committed,
		.commit = file->commit,
		.discarded_bytes = state->present ? state->discarded_bytes : 0,
	};
}

/* ---- writers ---- */

/* Opens and locks the journal, making it where there is none. Between opening and locking its last owner may
 * have removed it: then what was locked is no longer what the name stands for. */
static esk_status lock_journal(esk_jfile *file, esk_error *err)
{
	const esk_os *os = file->os;
	for (int turn = 0; turn < LOCK_TRIES; turn++) {
		esk_status status =
			esk_os_open(os, file->journal_path, O_RDWR | O_CREAT, 0666, &file->journal_fd, err);
		if (status != ESK_OK)
			return status;
		int locked = os->lock(os, file->journal_fd);
		if (locked == 0 &&
			esk_journal_inode_at(file->journal_path) == esk_journal_inode_of(file->journal_fd))
			return ESK_OK;
		close_descriptor(os, &file->journal_fd);
		if (locked != 0 && locked != -EWOULDBLOCK && locked != -EINTR)
			return esk_fail_errno(err, -locked, "cannot lock %s", file->journal_path);
		if (locked != 0)
			sleep_us(1000);
	}
	return esk_fail(err, ESK_EBUSY, "%s is being written by another handle or process, which holds %s",
		file->path, file->journal_path);
}

static esk_status write_header(esk_jfile *file, const esk_journal_header *header, esk_error *err)
{
	file->generation++;
	return esk_journal_write_header(
		file->os, file->journal_fd, file->journal_path, header, file->generation, err);
}

/* Invariant 5. The header is durable before anything of this session is, and so is the journal's name: from
 * then on whoever finds the file finds the journal, and knows which of its bytes are committed. */
static esk_status begin_session(esk_jfile *file, esk_error *err)
{
	const esk_os *os = file->os;
	uint64_t counter = file->counter == 0 ? (uint64_t)esk_now_ns() : file->counter;
	file->counter = esk_journal_counter_rest(counter) + 2;
	file->session = esk_random_u64();
	esk_journal_header header = {
		.session = file->session,
		.inode = file->inode,
		.base_commit = file->commit,
		.base_end = file->committed_end,
		.flags = file->never_committed ? ESK_JOURNAL_CREATED : 0,
	};
	esk_status status = write_header(file, &header, err);
	if (status == ESK_OK)
		status = esk_journal_write_counter(
			os, file->journal_fd, file->journal_path, file->counter, err);
	if (status == ESK_OK)
		status = esk_os_sync(os, file->journal_fd, file->journal_path, err);
	if (status == ESK_OK)
		status = esk_os_truncate(
			os, file->journal_fd, file->journal_path, ESK_JOURNAL_RECORDS_AT, err);
	if (status == ESK_OK)
		status = write_header(file, &header, err);
	if (status == ESK_OK)
		status = esk_os_sync_parent(os, file->path, err);
	return status;
}

static esk_status apply_found(esk_jfile *file, const esk_journal_state *state, esk_error *err)
{
	const esk_os *os = file->os;
	esk_status status =
		esk_journal_write_counter(os, file->journal_fd, file->journal_path, state->counter | 1, err);
	if (status == ESK_OK)
		status = esk_record_apply(&state->record, os, file->fd, file->path, err);
	if (status == ESK_OK)
		status = esk_os_sync(os, file->fd, file->path, err);
	return status;
}

static esk_status recover(esk_jfile *file, esk_jfile_recovery *recovery, esk_error *err)
{
	esk_journal_state state = {0};
	bool apply = false;
	esk_status status = esk_journal_load(file->os, file->journal_fd, file->journal_path, &state, err);
	if (status == ESK_OK)
		status = settle(file, &state, &apply, err);
	if (status == ESK_OK && apply)
		status = apply_found(file, &state, err);
	file->counter = state.counter;
	file->generation = state.generation;
	if (status == ESK_OK)
		status = begin_session(file, err);
	if (status == ESK_OK)
		report(file, &state, apply, recovery);
	esk_record_free(&state.record);
	return status;
}

/* A new file stays empty until its journal says, durably, that nothing was committed yet. A journal that lies
 * there already is what a file left that someone removed without it. */
static esk_status open_create(esk_jfile *file, esk_jfile_recovery *recovery, esk_error *err)
{
	const esk_os *os = file->os;
	esk_status status = esk_os_open(os, file->path, O_RDWR | O_CREAT | O_EXCL, 0666, &file->fd, err);
	if (status != ESK_OK)
		return status;
	file->inode = esk_journal_inode_of(file->fd);
	file->never_committed = true;
	status = lock_journal(file, err);
	if (status != ESK_OK)
		goto lock;
	status = esk_os_truncate(os, file->journal_fd, file->journal_path, 0, err);
	if (status == ESK_OK)
		status = begin_session(file, err);
	if (status != ESK_OK)
		goto session;
	*recovery = (esk_jfile_recovery){.never_committed = true};
	return ESK_OK;

session:
	os->unlink(os, file->journal_path);
lock:
	os->unlink(os, file->path);
	return status;
}

static esk_status open_write(esk_jfile *file, esk_jfile_recovery *recovery, esk_error *err)
{
	for (int turn = 0; turn < LOCK_TRIES; turn++) {
		esk_status status = esk_os_open(file->os, file->path, O_RDWR, 0, &file->fd, err);
		if (status != ESK_OK)
			return status;
		file->inode = esk_journal_inode_of(file->fd);
		status = lock_journal(file, err);
		if (status != ESK_OK)
			return status;
		/* The file may have been renamed away while its last writer still had the journal. */
		if (esk_journal_inode_at(file->path) == file->inode)
			return recover(file, recovery, err);
		close_descriptor(file->os, &file->journal_fd);
		close_descriptor(file->os, &file->fd);
	}
	return esk_fail(err, ESK_EBUSY, "%s is being replaced all the while", file->path);
}

/* ---- readers ---- */

static esk_status load_steadily(esk_jfile *file, esk_journal_state *state, esk_error *err)
{
	esk_status status = ESK_OK;
	for (int turn = 0; turn < READ_TRIES; turn++) {
		uint64_t before = 0;
		uint64_t after = 0;
		esk_record_free(&state->record);
		*state = (esk_journal_state){0};
		status = esk_journal_read_counter(
			file->os, file->journal_fd, file->journal_path, &before, err);
		if (status == ESK_OK)
			status = esk_journal_load(file->os, file->journal_fd, file->journal_path, state, err);
		if (status == ESK_OK)
			status = esk_journal_read_counter(
				file->os, file->journal_fd, file->journal_path, &after, err);
		if (status == ESK_OK && before == after && state->counter == before)
			return ESK_OK;
		if (status != ESK_OK && status != ESK_ECORRUPT)
			return status;
		if (status == ESK_ECORRUPT && turn > 2)
			return status;
		sleep_us(300);
	}
	return status != ESK_OK
		       ? status
		       : esk_fail(err, ESK_EBUSY, "%s: its writer commits without pause", file->path);
}

/* An encrypted file is sealed: complete, never written again, and without a journal. */
static esk_status take_sealed(esk_jfile *file, esk_jfile_recovery *recovery)
{
	file->file_size = file->committed_end = file->end = file->straight_from =
		esk_vault_bytes(file->vault);
	*recovery = (esk_jfile_recovery){0};
	return ESK_OK;
}

static bool is_sealed_name(const char *path)
{
	static const char tail[] = ".h5x";
	size_t size = strlen(path);
	return size >= sizeof tail - 1 && strcmp(path + size - (sizeof tail - 1), tail) == 0;
}

/* What has an encrypted file's name is one: nobody vouches for the bytes of a plain file that was put in its
 * place. */
static esk_status open_vault(esk_jfile *file, esk_error *err)
{
	bool sealed = false;
	esk_status status = esk_vault_detect(file->os, file->fd, file->path, &sealed, err);
	if (status == ESK_OK && sealed)
		return esk_vault_open(file->os, file->fd, file->path, &file->vault, err);
	if (status == ESK_OK && is_sealed_name(file->path))
		return esk_fail(err, ESK_ECORRUPT,
			"%s is not encrypted, though its name says so: it was damaged or replaced",
			file->path);
	return status;
}

/* Pages of a commit that is known to be in the file (the counter is even, and moved while this handle was
 * open) need no memory; after a restart of the machine an even counter proves nothing, so opening always
 * takes them. */
static esk_status take_journal(esk_jfile *file, bool opening, esk_jfile_recovery *recovery, esk_error *err)
{
	esk_journal_state state = {0};
	bool apply = false;
	esk_status status = ESK_OK;
	if (file->journal_fd >= 0)
		status = load_steadily(file, &state, err);
	if (status == ESK_OK && state.present && state.header.inode != file->inode &&
		esk_journal_inode_at(file->path) != file->inode)
		state.present = false; /* the name has passed to another file, and the journal with it */
	if (status == ESK_OK)
		status = settle(file, &state, &apply, err);
	if (status == ESK_OK) {
		file->frozen = NULL;
		esk_overlay_reset(&file->overlays[1]);
		file->counter = state.present ? state.counter : 0;
		if (apply && (opening || (state.counter & 1) != 0)) {
			status = esk_record_to_overlay(&state.record, &file->overlays[1], err);
			file->frozen = &file->overlays[1];
		}
	}
	if (status == ESK_OK && recovery != NULL)
		report(file, &state, apply, recovery);
	esk_record_free(&state.record);
	return status;
}

esk_status esk_jfile_refresh(esk_jfile *file, esk_error *err)
{
	return take_journal(file, false, NULL, err);
}

static esk_status open_read(esk_jfile *file, esk_jfile_recovery *recovery, esk_error *err)
{
	esk_status status = esk_os_open(file->os, file->path, O_RDONLY, 0, &file->fd, err);
	if (status != ESK_OK)
		return status;
	file->inode = esk_journal_inode_of(file->fd);
	status = open_vault(file, err);
	if (status != ESK_OK)
		return status;
	if (file->vault != NULL)
		return take_sealed(file, recovery);
	status = esk_os_open(file->os, file->journal_path, O_RDONLY, 0, &file->journal_fd, err);
	if (status != ESK_OK && status != ESK_ENOTFOUND)
		return status;
	return take_journal(file, true, recovery, err);
}

/* ---- the public functions ---- */

esk_status esk_jfile_open(const esk_os *os, const char *path, esk_jfile_mode mode, esk_jfile **ret_file,
	esk_jfile_recovery *ret_recovery, esk_error *err)
{
	esk_jfile *file = NULL;
	esk_jfile_recovery recovery = {0};
	esk_status status = make_handle(os, path, mode, &file, err);
	if (status != ESK_OK)
		return status;
	if (mode == ESK_JFILE_CREATE)
		status = open_create(file, &recovery, err);
	else if (mode == ESK_JFILE_WRITE)
		status = open_write(file, &recovery, err);
	else
		status = open_read(file, &recovery, err);
	if (status != ESK_OK) {
		destroy(file);
		return status;
	}
	*ret_file = file;
	if (ret_recovery != NULL)
		*ret_recovery = recovery;
	return ESK_OK;
}

/* The retired header is durable before the name goes: should the name come back after a power cut, what it
 * names is known to be void, whatever became of the file since. */
static esk_status retire(esk_jfile *file, esk_error *err)
{
	const esk_os *os = file->os;
	esk_status status = ESK_OK;
	bool cut = file->file_size > file->committed_end;
	if (cut)
		status = esk_os_truncate(os, file->fd, file->path, file->committed_end, err);
	if (status == ESK_OK && (cut || file->file_unsynced))
		status = esk_os_sync(os, file->fd, file->path, err);
	if (status != ESK_OK)
		return status;
	esk_journal_header header = {
		.session = esk_random_u64(),
		.inode = file->inode,
		.base_commit = file->commit,
		.base_end = file->committed_end,
		.flags = ESK_JOURNAL_RETIRED,
	};
	status = write_header(file, &header, err);
	if (status == ESK_OK)
		status = esk_os_sync(os, file->journal_fd, file->journal_path, err);
	if (status == ESK_OK)
		status = esk_os_unlink(os, file->journal_path, err);
	if (status == ESK_OK)
		status = esk_os_sync_parent(os, file->path, err);
	return status;
}

esk_status esk_jfile_close(esk_jfile *file, esk_error *err)
{
	esk_status status = ESK_OK;
	if (file == NULL)
		return ESK_OK;
	bool clean = file->mode != ESK_JFILE_READ && file->status == ESK_OK && !file->committing &&
		     !file->dirty && !file->never_committed;
	if (clean)
		status = retire(file, err);
	destroy(file);
	return status;
}

void esk_jfile_forget(esk_jfile *file)
{
	if (file != NULL)
		destroy(file);
}

bool esk_jfile_has_writer(const esk_os *os, const char *path)
{
	char *journal_path = journal_path_of(path);
	if (journal_path == NULL)
		return false;
	bool held = false;
	for (int turn = 0; turn < PROBE_TRIES; turn++) {
		int fd = -1;
		if (esk_os_open(os, journal_path, O_RDONLY, 0, &fd, NULL) != ESK_OK)
			break;
		held = os->lock(os, fd) == -EWOULDBLOCK;
		os->close(os, fd);
		if (!held)
			break;
		sleep_us(200); /* another probe may have had it */
	}
	free(journal_path);
	return held;
}
