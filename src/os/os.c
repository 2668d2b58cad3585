/* Whole operations over the method table: short counts and EINTR are retried here, errors get their path. */
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

esk_status esk_os_open(
	const esk_os *os, const char *path, int flags, mode_t mode, int *ret_fd, esk_error *err)
{
	int fd;
	do
		fd = os->open(os, path, flags, mode);
	while (fd == -EINTR);
	if (fd < 0)
		return esk_fail_errno(err, -fd, "cannot %s %s", flags & O_CREAT ? "create" : "open", path);
	*ret_fd = fd;
	return ESK_OK;
}

esk_status esk_os_read_some(const esk_os *os, int fd, const char *path, void *buf, size_t size,
	uint64_t offset, size_t *ret_size, esk_error *err)
{
	size_t done = 0;
	while (done < size) {
		ssize_t got = os->pread(os, fd, (char *)buf + done, size - done, offset + done);
		if (got == -EINTR)
			continue;
		if (got < 0)
			return esk_fail_errno(err, (int)-got, "cannot read %zu bytes at %llu of %s",
				size - done, (unsigned long long)(offset + done), path);
		if (got == 0)
			break;
		done += (size_t)got;
	}
	*ret_size = done;
	return ESK_OK;
}

esk_status esk_os_read(
	const esk_os *os, int fd, const char *path, void *buf, size_t size, uint64_t offset, esk_error *err)
{
	size_t got = 0;
	esk_status status = esk_os_read_some(os, fd, path, buf, size, offset, &got, err);
	if (status == ESK_OK && got < size)
		return esk_fail(err, ESK_ECORRUPT,
			"%s ends at byte %llu where %zu bytes were expected at %llu", path,
			(unsigned long long)(offset + got), size, (unsigned long long)offset);
	return status;
}

esk_status esk_os_write(const esk_os *os, int fd, const char *path, const void *buf, size_t size,
	uint64_t offset, esk_error *err)
{
	size_t done = 0;
	while (done < size) {
		ssize_t put = os->pwrite(os, fd, (const char *)buf + done, size - done, offset + done);
		if (put == -EINTR)
			continue;
		if (put == 0)
			put = -EIO; /* POSIX: a write of more than 0 bytes that returns 0 makes no progress */
		if (put < 0)
			return esk_fail_errno(err, (int)-put, "cannot write %zu bytes at %llu of %s",
				size - done, (unsigned long long)(offset + done), path);
		done += (size_t)put;
	}
	return ESK_OK;
}

esk_status esk_os_truncate(const esk_os *os, int fd, const char *path, uint64_t size, esk_error *err)
{
	int status;
	do
		status = os->truncate(os, fd, size);
	while (status == -EINTR);
	if (status < 0)
		return esk_fail_errno(
			err, -status, "cannot set the size of %s to %llu", path, (unsigned long long)size);
	return ESK_OK;
}

esk_status esk_os_sync(const esk_os *os, int fd, const char *path, esk_error *err)
{
	int status;
	do
		status = os->sync(os, fd);
	while (status == -EINTR);
	if (status < 0)
		return esk_fail_errno(err, -status, "cannot synchronise %s", path);
	return ESK_OK;
}

esk_status esk_os_size(const esk_os *os, int fd, const char *path, uint64_t *ret_size, esk_error *err)
{
	int status = os->size(os, fd, ret_size);
	if (status < 0)
		return esk_fail_errno(err, -status, "cannot get the size of %s", path);
	return ESK_OK;
}

esk_status esk_os_sync_parent(const esk_os *os, const char *path, esk_error *err)
{
	char parent[4096] = ".";
	const char *slash = strrchr(path, '/');
	if (slash != NULL) {
		size_t size = slash == path ? 1 : (size_t)(slash - path);
		if (size >= sizeof parent)
			return esk_fail(err, ESK_EINVAL, "path too long: %.60s...", path);
		memcpy(parent, path, size);
		parent[size] = '\0';
	}
	int status = os->sync_dir(os, parent);
	if (status < 0)
		return esk_fail_errno(err, -status, "cannot synchronise directory %s", parent);
	return ESK_OK;
}

esk_status esk_os_rename(const esk_os *os, const char *from, const char *to, esk_error *err)
{
	int status = os->rename(os, from, to);
	if (status < 0)
		return esk_fail_errno(err, -status, "cannot rename %s to %s", from, to);
	return ESK_OK;
}

esk_status esk_os_unlink(const esk_os *os, const char *path, esk_error *err)
{
	int status = os->unlink(os, path);
	if (status < 0 && status != -ENOENT)
		return esk_fail_errno(err, -status, "cannot remove %s", path);
	return ESK_OK;
}

esk_status esk_os_mkdir(const esk_os *os, const char *path, esk_error *err)
{
	int status = os->mkdir(os, path, 0777);
	if (status < 0 && status != -EEXIST)
		return esk_fail_errno(err, -status, "cannot make directory %s", path);
	return ESK_OK;
}

bool esk_os_exists(const char *path)
{
	return access(path, F_OK) == 0;
}
