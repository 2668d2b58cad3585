/* What the journal's tests do to files: with a handle, and past it. Included by test programs; every function
 * is its own. */
#ifndef ESK_TESTS_JOURNAL_FILES_H
#define ESK_TESTS_JOURNAL_FILES_H

#include "journal/journal.h"
#include "support/unit.h"
#include <fcntl.h>
#include <sys/stat.h>

static inline void read_raw(const char *path, uint64_t offset, void *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	memset(buf, 0xEE, size);
	assert_true(pread(fd, buf, size, (off_t)offset) >= 0);
	close(fd);
}

static inline uint64_t size_raw(const char *path)
{
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

static inline void write_raw(const char *path, const void *buf, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, buf, size), (ssize_t)size);
	close(fd);
}

static inline void copy_raw(const char *from, const char *to)
{
	size_t size = size_raw(from);
	uint8_t *bytes = malloc(size + 1);
	read_raw(from, 0, bytes, size);
	write_raw(to, bytes, size);
	free(bytes);
}

static inline void commit(esk_jfile *file, uint64_t end)
{
	esk_error err;
	assert_ok(esk_jfile_freeze(file, end, &err), &err);
	assert_ok(esk_jfile_finish(file, NULL, &err), &err);
}

static inline void put(esk_jfile *file, uint64_t offset, char letter, size_t size)
{
	esk_error err;
	uint8_t *bytes = malloc(size);
	memset(bytes, letter, size);
	assert_ok(esk_jfile_write(file, offset, bytes, size, &err), &err);
	free(bytes);
}

static inline char byte_at(esk_jfile *file, uint64_t offset)
{
	esk_error err;
	char byte = 0;
	assert_ok(esk_jfile_read(file, offset, &byte, 1, &err), &err);
	return byte;
}

static inline char raw_byte_at(const char *path, uint64_t offset)
{
	char byte;
	read_raw(path, offset, &byte, 1);
	return byte;
}

/* A file of `size` bytes 'a', committed; the handle stays open. */
static inline esk_jfile *committed_file(const esk_os *os, const char *path, size_t size)
{
	esk_error err;
	esk_jfile *file = NULL;
	assert_ok(esk_jfile_open(os, path, ESK_JFILE_CREATE, &file, NULL, &err), &err);
	put(file, 0, 'a', size);
	commit(file, size);
	return file;
}

static inline esk_jfile *open_again(
	const esk_os *os, const char *path, esk_jfile_mode mode, esk_jfile_recovery *recovery)
{
	esk_error err;
	esk_jfile *file = NULL;
	assert_ok(esk_jfile_open(os, path, mode, &file, recovery, &err), &err);
	return file;
}

#endif
