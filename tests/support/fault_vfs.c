/* SQLite on the fault-injecting operating system: see fault_vfs.h. May include: base, os, SQLite. */
#include "support/fault_vfs.h"
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct vfs_file {
	sqlite3_file base;
	int fd; /* -1: a temporary file, which lives in SQLite's own VFS only */
	bool remove_on_close;
	bool name_unsynced; /* a new journal: its first synchronisation covers the directory, as SQLite's own
			       does it */
	char *path;
	sqlite3_file *inner; /* of SQLite's own VFS: locks and shared memory */
} vfs_file;

static sqlite3_vfs vfs;
static sqlite3_vfs *inner_vfs;
static esk_fault *current;

static const esk_os *table(void)
{
	return esk_fault_os(current);
}

static vfs_file *self(sqlite3_file *file)
{
	return (vfs_file *)file;
}

static sqlite3_file *inner(sqlite3_file *file)
{
	return self(file)->inner;
}

static bool is_temporary(sqlite3_file *file)
{
	return self(file)->fd < 0;
}

/* ---- files ---- */

static int file_close(sqlite3_file *file)
{
	vfs_file *f = self(file);
	int result = f->inner->pMethods->xClose(f->inner);
	if (f->fd >= 0)
		table()->close(table(), f->fd);
	if (f->remove_on_close)
		table()->unlink(table(), f->path);
	sqlite3_free(f->path);
	sqlite3_free(f->inner);
	return result;
}

static int file_read(sqlite3_file *file, void *buf, int size, sqlite3_int64 offset)
{
	if (is_temporary(file))
		return inner(file)->pMethods->xRead(inner(file), buf, size, offset);
	size_t got = 0;
	if (esk_os_read_some(table(), self(file)->fd, self(file)->path, buf, (size_t)size, (uint64_t)offset,
		    &got, NULL) != ESK_OK)
		return SQLITE_IOERR_READ;
	if (got == (size_t)size)
		return SQLITE_OK;
	memset((char *)buf + got, 0, (size_t)size - got);
	return SQLITE_IOERR_SHORT_READ;
}

static int file_write(sqlite3_file *file, const void *buf, int size, sqlite3_int64 offset)
{
	if (is_temporary(file))
		return inner(file)->pMethods->xWrite(inner(file), buf, size, offset);
	esk_status status = esk_os_write(
		table(), self(file)->fd, self(file)->path, buf, (size_t)size, (uint64_t)offset, NULL);
	return status == ESK_OK ? SQLITE_OK : status == ESK_ENOSPC ? SQLITE_FULL : SQLITE_IOERR_WRITE;
}

static int file_truncate(sqlite3_file *file, sqlite3_int64 size)
{
	if (is_temporary(file))
		return inner(file)->pMethods->xTruncate(inner(file), size);
	return esk_os_truncate(table(), self(file)->fd, self(file)->path, (uint64_t)size, NULL) == ESK_OK
		       ? SQLITE_OK
		       : SQLITE_IOERR_TRUNCATE;
}

static int file_sync(sqlite3_file *file, int flags)
{
	if (is_temporary(file))
		return SQLITE_OK;
	vfs_file *f = self(file);
	if (esk_os_sync(table(), f->fd, f->path, NULL) != ESK_OK)
		return SQLITE_IOERR_FSYNC;
	if (f->name_unsynced && esk_os_sync_parent(table(), f->path, NULL) != ESK_OK)
		return SQLITE_IOERR_DIR_FSYNC;
	f->name_unsynced = false;
	return SQLITE_OK;
}

static int file_size(sqlite3_file *file, sqlite3_int64 *ret_size)
{
	if (is_temporary(file))
		return inner(file)->pMethods->xFileSize(inner(file), ret_size);
	uint64_t size = 0;
	if (esk_os_size(table(), self(file)->fd, self(file)->path, &size, NULL) != ESK_OK)
		return SQLITE_IOERR_FSTAT;
	*ret_size = (sqlite3_int64)size;
	return SQLITE_OK;
}

static int file_lock(sqlite3_file *file, int level)
{
	return inner(file)->pMethods->xLock(inner(file), level);
}

static int file_unlock(sqlite3_file *file, int level)
{
	return inner(file)->pMethods->xUnlock(inner(file), level);
}

static int file_check_lock(sqlite3_file *file, int *ret_held)
{
	return inner(file)->pMethods->xCheckReservedLock(inner(file), ret_held);
}

/* Size hints and chunk sizes would make SQLite's own VFS write to the file past the table. */
static int file_control(sqlite3_file *file, int op, void *arg)
{
	if (op == SQLITE_FCNTL_SIZE_HINT || op == SQLITE_FCNTL_CHUNK_SIZE || op == SQLITE_FCNTL_MMAP_SIZE)
		return SQLITE_NOTFOUND;
	return inner(file)->pMethods->xFileControl(inner(file), op, arg);
}

static int file_sector_size(sqlite3_file *file)
{
	return inner(file)->pMethods->xSectorSize(inner(file));
}

/* None: no write is atomic here, and nothing survives a power cut by itself. */
static int file_characteristics(sqlite3_file *file)
{
	return 0;
}

static int file_shm_map(sqlite3_file *file, int region, int size, int extend, void volatile **ret_address)
{
	return inner(file)->pMethods->xShmMap(inner(file), region, size, extend, ret_address);
}

static int file_shm_lock(sqlite3_file *file, int offset, int count, int flags)
{
	return inner(file)->pMethods->xShmLock(inner(file), offset, count, flags);
}

static void file_shm_barrier(sqlite3_file *file)
{
	inner(file)->pMethods->xShmBarrier(inner(file));
}

static int file_shm_unmap(sqlite3_file *file, int remove)
{
	return inner(file)->pMethods->xShmUnmap(inner(file), remove);
}

static const sqlite3_io_methods file_methods = {
	.iVersion = 2,
	.xClose = file_close,
	.xRead = file_read,
	.xWrite = file_write,
	.xTruncate = file_truncate,
	.xSync = file_sync,
	.xFileSize = file_size,
	.xLock = file_lock,
	.xUnlock = file_unlock,
	.xCheckReservedLock = file_check_lock,
	.xFileControl = file_control,
	.xSectorSize = file_sector_size,
	.xDeviceCharacteristics = file_characteristics,
	.xShmMap = file_shm_map,
	.xShmLock = file_shm_lock,
	.xShmBarrier = file_shm_barrier,
	.xShmUnmap = file_shm_unmap,
};

/* ---- the VFS ---- */

/* The file is made through the table first, so that its name is known not to be durable; SQLite's own then
 * finds it. */
static int open_through_table(vfs_file *f, const char *path, int flags)
{
	int mode = (flags & SQLITE_OPEN_READONLY) != 0 ? O_RDONLY : O_RDWR;
	if ((flags & SQLITE_OPEN_CREATE) != 0)
		mode |= O_CREAT;
	if ((flags & SQLITE_OPEN_EXCLUSIVE) != 0)
		mode |= O_EXCL;
	const int journals = SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL | SQLITE_OPEN_WAL;
	f->name_unsynced = (flags & journals) != 0 && (flags & SQLITE_OPEN_CREATE) != 0;
	if (esk_os_open(table(), path, mode, 0644, &f->fd, NULL) != ESK_OK)
		return SQLITE_CANTOPEN;
	if ((flags & SQLITE_OPEN_MAIN_DB) != 0) {
		char shared[4096];
		snprintf(shared, sizeof(shared), "%s-shm", path);
		esk_fault_set_volatile(current, shared);
	}
	f->path = sqlite3_mprintf("%s", path);
	f->remove_on_close = (flags & SQLITE_OPEN_DELETEONCLOSE) != 0;
	return f->path == NULL ? SQLITE_NOMEM : SQLITE_OK;
}

static int vfs_open(sqlite3_vfs *v, const char *path, sqlite3_file *file, int flags, int *ret_flags)
{
	vfs_file *f = self(file);
	*f = (vfs_file){.fd = -1};
	f->inner = sqlite3_malloc(inner_vfs->szOsFile);
	if (f->inner == NULL)
		return SQLITE_NOMEM;
	memset(f->inner, 0, (size_t)inner_vfs->szOsFile);
	int result = SQLITE_OK;
	if (path != NULL) {
		result = open_through_table(f, path, flags);
		if (result != SQLITE_OK)
			goto table;
		flags &= ~(SQLITE_OPEN_EXCLUSIVE | SQLITE_OPEN_DELETEONCLOSE);
	}
	result = inner_vfs->xOpen(inner_vfs, path, f->inner, flags, ret_flags);
	if (result != SQLITE_OK)
		goto inner;
	f->base.pMethods = &file_methods;
	return SQLITE_OK;

inner:
	if (f->inner->pMethods != NULL)
		f->inner->pMethods->xClose(f->inner);
table:
	if (f->fd >= 0)
		table()->close(table(), f->fd);
	sqlite3_free(f->path);
	sqlite3_free(f->inner);
	return result;
}

static int vfs_delete(sqlite3_vfs *v, const char *path, int sync_directory)
{
	int status = table()->unlink(table(), path);
	if (status == -ENOENT)
		return SQLITE_IOERR_DELETE_NOENT;
	if (status != 0)
		return SQLITE_IOERR_DELETE;
	if (sync_directory && esk_os_sync_parent(table(), path, NULL) != ESK_OK)
		return SQLITE_IOERR_DIR_FSYNC;
	return SQLITE_OK;
}

void esk_fault_vfs_install(esk_fault *fault)
{
	current = fault;
	inner_vfs = sqlite3_vfs_find("unix");
	if (inner_vfs == NULL)
		abort();
	vfs = *inner_vfs;
	vfs.zName = "esker-fault";
	vfs.pNext = NULL;
	vfs.szOsFile = sizeof(vfs_file);
	vfs.xOpen = vfs_open;
	vfs.xDelete = vfs_delete;
	if (sqlite3_vfs_register(&vfs, 1) != SQLITE_OK)
		abort();
}

void esk_fault_vfs_remove(void)
{
	sqlite3_vfs_unregister(&vfs);
	sqlite3_vfs_register(inner_vfs, 1);
	current = NULL;
}
