/* Files: create, open, commit, close, abandon. */
#include "h5/h5_internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A writer applies the pages of a commit in far less than OPEN_TRIES waits. */
#define OPEN_TRIES 1000
#define OPEN_WAIT_NS 1000000

/* ---- made and unmade ---- */

static esk_status file_new(
	const esk_os *os, const char *path, bool writable, esk_h5 **ret_file, esk_error *err)
{
	esk_h5 *file = calloc(1, sizeof *file);
	if (!file)
		return esk_fail_memory(err, sizeof *file, path);
	file->os = os;
	file->writable = writable;
	file->id = H5I_INVALID_HID;
	file->fork_count = esk_os_fork_count();
	file->path = strdup(path);
	file->reader = esk_h5_reader_create();
	if (!file->path || !file->reader) {
		esk_h5_reader_destroy(file->reader);
		free(file->path);
		free(file);
		return esk_fail_memory(err, strlen(path), path);
	}
	*ret_file = file;
	return ESK_OK;
}

static bool inherited(const esk_h5 *file)
{
	return file->fork_count != esk_os_fork_count();
}

static void free_datasets(esk_h5_dataset *dataset)
{
	while (dataset) {
		esk_h5_dataset *next = dataset->next;
		esk_h5_dataset_free(dataset);
		dataset = next;
	}
}

/* Closes libhdf5's ids and lets go of the link, which had come to the end of
 * allocation *ret_eoa (may be NULL). Under the lock. ESK_OK, or what libhdf5 could not flush. */
static esk_status close_ids(esk_h5 *file, uint64_t *ret_eoa, esk_error *err)
{
	esk_status status = ESK_OK;

	if (file->link)
		esk_h5_link_close_begins(file->link);
	for (size_t i = 0; i < ESK_H5_BUCKETS; i++) {
		free_datasets(file->buckets[i]);
		file->buckets[i] = NULL;
	}
	free_datasets(file->removed);
	file->removed = NULL;
	esk_h5_kept_destroy(file->kept);
	file->kept = NULL;
	if (file->id >= 0 && H5Fclose(file->id) < 0)
		status = esk_h5_fail(err, ESK_EIO, "cannot close %s", file->path);
	file->id = H5I_INVALID_HID;
	if (file->link && ret_eoa)
		*ret_eoa = esk_h5_link_eoa(file->link);
	esk_h5_link_release(file->link);
	file->link = NULL;
	return status;
}

static void file_free(esk_h5 *file)
{
	esk_h5_reader_destroy(file->reader);
	free(file->path);
	free(file);
}

/* ---- opening ---- */

static esk_status read_base_address(esk_h5 *file, esk_error *err)
{
	hsize_t size = 0;
	hid_t plist = H5Fget_create_plist(file->id);
	herr_t done = plist < 0 ? -1 : H5Pget_userblock(plist, &size);

	esk_h5_drop(plist);
	if (done < 0)
		return esk_h5_fail(err, ESK_ECORRUPT, "cannot read the header of %s", file->path);
	file->base_address = size;
	return ESK_OK;
}

/* Superblocks of version 3 mark a file that is open for writing, and stock readers refuse what is marked: a
 * file whose writer was killed would be shut, whatever a commit made durable. The header is looked at here
 * since libhdf5 would mark it first. It is at 0, or behind a user block of 512, 1024, 2048 … bytes. */
static esk_status check_superblock(esk_h5 *file, esk_error *err)
{
	static const unsigned char signature[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1A, '\n'};
	unsigned char head[9];

	for (uint64_t at = 0; at<esk_jfile_end(file->jfile); at = at> 0 ? 2 * at : 512) {
		esk_status status = esk_jfile_read(file->jfile, at, head, sizeof head, err);
		if (status != ESK_OK)
			return status;
		if (memcmp(head, signature, sizeof signature) != 0)
			continue;
		if (head[8] <= 2)
			return ESK_OK;
		return esk_fail(err, ESK_EUNSUPPORTED,
			"%s has superblock version %u (expected at most 2), which cannot be committed to: "
			"copy it with 'h5repack --high=1' first",
			file->path, head[8]);
	}
	return esk_fail(err, ESK_ECORRUPT, "%s is not an HDF5 file: it has no HDF5 signature", file->path);
}

/* Opens (or creates) file->path through file->jfile. Undone by close_ids. */
static esk_status open_ids(esk_h5 *file, bool create, esk_error *err)
{
	esk_status status = ESK_OK;
	hid_t fapl = H5I_INVALID_HID;

	esk_h5_lock();
	file->link = esk_h5_link_create(file->os, file->path, file->jfile);
	if (file->link)
		fapl = esk_h5_link_fapl(file->link, file->writable);
	if (fapl < 0) {
		status = esk_h5_fail(err, ESK_ENOMEM, "cannot set up libhdf5 for %s", file->path);
		goto out;
	}
	if (create)
		file->id = H5Fcreate(file->path, H5F_ACC_EXCL, H5P_DEFAULT, fapl);
	else
		file->id = H5Fopen(file->path, file->writable ? H5F_ACC_RDWR : H5F_ACC_RDONLY, fapl);
	esk_h5_drop(fapl);
	if (file->id < 0)
		status = esk_h5_fail(err, ESK_ECORRUPT, "%s cannot be %s as HDF5", file->path,
			create ? "created" : "opened");
	if (status == ESK_OK)
		status = read_base_address(file, err);
	if (status == ESK_OK && file->writable && !create)
		esk_jfile_set_committed_end(file->jfile, esk_h5_link_eoa(file->link));
out:
	if (status != ESK_OK)
		close_ids(file, NULL, NULL);
	esk_h5_unlock();
	return status;
}

esk_status esk_h5_create(const esk_os *os, const char *path, esk_h5 **ret_file, esk_error *err)
{
	esk_h5 *file = NULL;
	esk_status status = file_new(os, path, true, &file, err);

	if (status != ESK_OK)
		return status;
	status = esk_jfile_open(os, path, ESK_JFILE_CREATE, &file->jfile, NULL, err);
	if (status != ESK_OK)
		goto opened;
	status = open_ids(file, true, err);
	if (status != ESK_OK)
		goto created;
	*ret_file = file;
	return ESK_OK;

created:
	esk_jfile_close(file->jfile, NULL);
	esk_os_unlink(os, path, NULL);
opened:
	file_free(file);
	return status;
}

esk_status esk_h5_open_write(const esk_os *os, const char *path, esk_h5 **ret_file,
	esk_jfile_recovery *ret_recovery, esk_error *err)
{
	esk_h5 *file = NULL;
	esk_jfile_recovery recovery = {0};
	esk_status status = file_new(os, path, true, &file, err);

	if (status != ESK_OK)
		return status;
	status = esk_jfile_open(os, path, ESK_JFILE_WRITE, &file->jfile, &recovery, err);
	if (status != ESK_OK)
		goto opened;
	if (recovery.never_committed) {
		status = esk_fail(err, ESK_ENOTFOUND,
			"%s holds nothing: its writer ended before the first commit; remove it", path);
		goto recovered;
	}
	status = check_superblock(file, err);
	if (status == ESK_OK)
		status = open_ids(file, false, err);
	if (status != ESK_OK)
		goto recovered;
	if (ret_recovery)
		*ret_recovery = recovery;
	*ret_file = file;
	return ESK_OK;

recovered:
	esk_jfile_close(file->jfile, NULL);
opened:
	file_free(file);
	return status;
}

static void wait_a_little(void)
{
	struct timespec pause = {.tv_nsec = OPEN_WAIT_NS};
	nanosleep(&pause, NULL);
}

/* Opens the state of one commit: libhdf5 read the header and root group between two equal stamps, while no
 * pages were being applied (an odd count). */
static esk_status open_ids_settled(esk_h5 *file, esk_error *err)
{
	for (int i = 0; i < OPEN_TRIES; i++) {
		esk_h5_stamp before = esk_h5_stamp_take(file), after;
		esk_status status;

		if (before.counter % 2 != 0) {
			wait_a_little();
			continue;
		}
		status = open_ids(file, false, err);
		after = esk_h5_stamp_take(file);
		if (!esk_h5_stamp_differs(&before, &after)) {
			file->stamp = before;
			return status;
		}
		if (status == ESK_OK) {
			esk_h5_lock();
			close_ids(file, NULL, NULL);
			esk_h5_unlock();
		}
		wait_a_little();
	}
	return esk_fail(err, ESK_EBUSY, "%s is being committed to without a pause: try again", file->path);
}

esk_status esk_h5_open_read(const esk_os *os, const char *path, esk_h5 **ret_file, esk_error *err)
{
	esk_h5 *file = NULL;
	esk_jfile_recovery recovery = {0};
	esk_status status = file_new(os, path, false, &file, err);

	if (status != ESK_OK)
		return status;
	status = esk_jfile_open(os, path, ESK_JFILE_READ, &file->jfile, &recovery, err);
	if (status != ESK_OK)
		goto opened;
	if (recovery.never_committed) {
		status = esk_fail(
			err, ESK_ENOTFOUND, "%s holds nothing: nothing was committed to it yet", path);
		goto read;
	}
	status = open_ids_settled(file, err);
	if (status != ESK_OK)
		goto read;
	*ret_file = file;
	return ESK_OK;

read:
	esk_jfile_close(file->jfile, NULL);
opened:
	file_free(file);
	return status;
}

/* ---- closing ---- */

static esk_status close_jfile(esk_h5 *file, esk_error *err)
{
	if (!inherited(file))
		return esk_jfile_close(file->jfile, err);
	esk_jfile_forget(file->jfile);
	return ESK_OK;
}

/* What libhdf5 changed by itself while it closed a file that was committed whole (it may give back space at
 * the end). If that fails, the journal stays, and the next open finds the last commit. */
static void commit_housekeeping(esk_h5 *file, uint64_t eoa)
{
	if (esk_jfile_status(file->jfile, NULL) == ESK_OK &&
		esk_jfile_freeze(file->jfile, eoa, NULL) == ESK_OK)
		esk_jfile_finish(file->jfile, NULL, NULL);
}

esk_status esk_h5_close(esk_h5 *file, esk_error *err)
{
	esk_status status, closed;
	uint64_t eoa = 0;

	if (!file)
		return ESK_OK;
	esk_h5_lock();
	status = close_ids(file, &eoa, err);
	esk_h5_unlock();
	if (inherited(file))
		status = ESK_OK; /* the driver gave libhdf5 nothing, on purpose */
	else if (status == ESK_OK && file->writable && !file->changed)
		commit_housekeeping(file, eoa);
	closed = close_jfile(file, status == ESK_OK ? err : NULL);
	file_free(file);
	return status != ESK_OK ? status : closed;
}

void esk_h5_abandon(esk_h5 *file)
{
	if (!file)
		return;
	if (file->writable && !inherited(file))
		esk_jfile_abandon(file->jfile);
	esk_h5_close(file, NULL);
}

/* ---- state ---- */

esk_status esk_h5_status(esk_h5 *file, esk_error *err)
{
	if (file->writable && inherited(file))
		return esk_fail(err, ESK_ECLOSED,
			"%s is open for writing in the parent process: a forked child must open it itself",
			file->path);
	return esk_jfile_status(file->jfile, err);
}

static esk_status check_writable(esk_h5 *file, esk_error *err)
{
	if (!file->writable)
		return esk_fail(err, ESK_EACCES, "%s is open for reading: open it for writing to change it",
			file->path);
	return esk_h5_status(file, err);
}

esk_status esk_h5_begin_change(esk_h5 *file, esk_error *err)
{
	esk_status status = check_writable(file, err);
	if (status == ESK_OK)
		file->changed = true;
	return status;
}

uint64_t esk_h5_file_bytes(esk_h5 *file)
{
	uint64_t bytes;
	esk_h5_lock();
	bytes = esk_h5_link_eoa(file->link);
	esk_h5_unlock();
	return bytes;
}

uint64_t esk_h5_overlay_bytes(esk_h5 *file)
{
	return esk_jfile_overlay_bytes(file->jfile);
}

const char *esk_h5_path(const esk_h5 *file)
{
	return file->path;
}

/* ---- commit ---- */

esk_status esk_h5_commit_begin(esk_h5 *file, esk_error *err)
{
	esk_status status = check_writable(file, err);

	if (status != ESK_OK)
		return status;
	esk_h5_lock();
	if (H5Fflush(file->id, H5F_SCOPE_LOCAL) < 0)
		status = esk_h5_fail(err, ESK_EIO, "cannot flush %s", file->path);
	else
		status = esk_jfile_freeze(file->jfile, esk_h5_link_eoa(file->link), err);
	if (status == ESK_OK)
		file->changed = false;
	esk_h5_unlock();
	return status;
}

esk_status esk_h5_commit_finish(esk_h5 *file, uint64_t *ret_commit, esk_error *err)
{
	esk_status status = check_writable(file, err);
	return status == ESK_OK ? esk_jfile_finish(file->jfile, ret_commit, err) : status;
}
