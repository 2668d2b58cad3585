/* The method table of a real POSIX system. */
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int posix_open(const esk_os *os, const char *path, int flags, mode_t mode)
{
	int fd = open(path, flags | O_CLOEXEC, mode);
	return fd < 0 ? -errno : fd;
}

static int posix_close(const esk_os *os, int fd)
{
	return close(fd) < 0 ? -errno : 0;
}

static ssize_t posix_pread(const esk_os *os, int fd, void *buf, size_t size, uint64_t offset)
{
	ssize_t got = pread(fd, buf, size, (off_t)offset);
	return got < 0 ? -errno : got;
}

static ssize_t posix_pwrite(const esk_os *os, int fd, const void *buf, size_t size, uint64_t offset)
{
	ssize_t put = pwrite(fd, buf, size, (off_t)offset);
	return put < 0 ? -errno : put;
}

static int posix_truncate(const esk_os *os, int fd, uint64_t size)
{
	return ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
}

static int posix_sync(const esk_os *os, int fd)
{
#if defined(__APPLE__)
	return fcntl(fd, F_FULLFSYNC) < 0 ? -errno : 0;
#else
	return fdatasync(fd) < 0 ? -errno : 0;
#endif
}

static int posix_size(const esk_os *os, int fd, uint64_t *ret_size)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	*ret_size = (uint64_t)st.st_size;
	return 0;
}

static int posix_sync_dir(const esk_os *os, const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int status = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return status == -EINVAL ? 0
				 : status; /* file systems that cannot synchronise a directory say EINVAL */
}

static int posix_rename(const esk_os *os, const char *from, const char *to)
{
	return rename(from, to) < 0 ? -errno : 0;
}

static int posix_link(const esk_os *os, const char *path, const char *name)
{
	return link(path, name) < 0 ? -errno : 0;
}

static int posix_unlink(const esk_os *os, const char *path)
{
	return unlink(path) < 0 ? -errno : 0;
}

static int posix_mkdir(const esk_os *os, const char *path, mode_t mode)
{
	return mkdir(path, mode) < 0 ? -errno : 0;
}

static int posix_lock(const esk_os *os, int fd)
{
	return flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}

static uint64_t posix_boot_id(const esk_os *os)
{
	char text[64] = "";
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t size = read(fd, text, sizeof text);
	close(fd);
	uint64_t hash = 0xCBF29CE484222325u; /* FNV-1a: the id only has to differ from boot to boot */
	for (ssize_t i = 0; i < size; i++)
		hash = (hash ^ (unsigned char)text[i]) * 0x100000001B3u;
	return hash;
}

static int64_t posix_now_ns(const esk_os *os)
{
	return esk_now_ns();
}

const esk_os *esk_os_posix(void)
{
	static const esk_os table = {
		.open = posix_open,
		.close = posix_close,
		.pread = posix_pread,
		.pwrite = posix_pwrite,
		.truncate = posix_truncate,
		.sync = posix_sync,
		.size = posix_size,
		.sync_dir = posix_sync_dir,
		.rename = posix_rename,
		.link = posix_link,
		.unlink = posix_unlink,
		.mkdir = posix_mkdir,
		.lock = posix_lock,
		.boot_id = posix_boot_id,
		.now_ns = posix_now_ns,
	};
	return &table;
}
