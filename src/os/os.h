/* The operating system behind a method table, so that tests inject faults.
 *
 * Every file operation of journal, h5, ring, store and check goes through one of these tables. Methods return
 * 0 (or a count, or a descriptor) on success and -errno on failure; they may return short counts and -EINTR
 * as POSIX does: the helpers below retry. May include: base. */
#ifndef ESK_OS_H
#define ESK_OS_H

#include "base/base.h"
#include <sys/types.h>

typedef struct esk_os esk_os;
struct esk_os {
	void *self; /* for the methods of a test double */
	int (*open)(const esk_os *os, const char *path, int flags, mode_t mode); /* O_CLOEXEC is added */
	int (*close)(const esk_os *os, int fd);
	ssize_t (*pread)(const esk_os *os, int fd, void *buf, size_t size, uint64_t offset);
	ssize_t (*pwrite)(const esk_os *os, int fd, const void *buf, size_t size, uint64_t offset);
	int (*truncate)(const esk_os *os, int fd, uint64_t size);
	int (*sync)(const esk_os *os, int fd); /* fdatasync */
	int (*size)(const esk_os *os, int fd, uint64_t *ret_size);
	int (*sync_dir)(
		const esk_os *os, const char *path); /* makes creation, rename and removal in it durable */
	int (*rename)(const esk_os *os, const char *from, const char *to);
	/* A second name for a file; -EEXIST, never replaces. -EPERM, -EOPNOTSUPP, … where the file system has
	 * no such thing. */
	int (*link)(const esk_os *os, const char *path, const char *name);
	int (*unlink)(const esk_os *os, const char *path);
	int (*mkdir)(const esk_os *os, const char *path, mode_t mode);
	int (*lock)(const esk_os *os,
		int fd); /* exclusive, not waiting (-EWOULDBLOCK), released when fd closes */
	uint64_t (*boot_id)(
		const esk_os *os); /* another after each boot: page cache and shared memory are gone then */
	int64_t (*now_ns)(const esk_os *os); /* wall clock, by which segments follow hours and days */
};

const esk_os *esk_os_posix(void);

/* Opens; *ret_fd untouched on failure. Messages name `path`. */
esk_status esk_os_open(
	const esk_os *os, const char *path, int flags, mode_t mode, int *ret_fd, esk_error *err);
/* Reads exactly `size` bytes; a file that ends earlier is ESK_ECORRUPT. */
esk_status esk_os_read(
	const esk_os *os, int fd, const char *path, void *buf, size_t size, uint64_t offset, esk_error *err);
/* Reads up to `size` bytes; *ret_size says how many there were before the end of the file. */
esk_status esk_os_read_some(const esk_os *os, int fd, const char *path, void *buf, size_t size,
	uint64_t offset, size_t *ret_size, esk_error *err);
/* Writes all of `size` bytes. */
esk_status esk_os_write(const esk_os *os, int fd, const char *path, const void *buf, size_t size,
	uint64_t offset, esk_error *err);
esk_status esk_os_truncate(const esk_os *os, int fd, const char *path, uint64_t size, esk_error *err);
esk_status esk_os_sync(const esk_os *os, int fd, const char *path, esk_error *err);
esk_status esk_os_size(const esk_os *os, int fd, const char *path, uint64_t *ret_size, esk_error *err);
/* Makes the directory that holds `path` durable. */
esk_status esk_os_sync_parent(const esk_os *os, const char *path, esk_error *err);
esk_status esk_os_rename(const esk_os *os, const char *from, const char *to, esk_error *err);
/* Removing what is not there is success. */
esk_status esk_os_unlink(const esk_os *os, const char *path, esk_error *err);
/* Making a directory that is there is success. */
esk_status esk_os_mkdir(const esk_os *os, const char *path, esk_error *err);
/* True if `path` can be stat'ed. */
bool esk_os_exists(const char *path);

/* ---- shared memory and futex: no faults are injected here ---- */
/* Maps `size` bytes of fd shared, readable (and writable). */
esk_status esk_os_map(
	int fd, const char *path, size_t size, bool writable, void **ret_address, esk_error *err);
void esk_os_unmap(void *address, size_t size);
/* The same where the caller need not wait: a large mapping is torn down in a thread of its own. */
void esk_os_unmap_aside(void *address, size_t size);
/* Waits until everything that was unmapped aside has given its memory back. */
void esk_os_unmap_wait(void);
/* Touches every page so that later stores do not fault. */
void esk_os_prefault(void *address, size_t size);
/* Reserves the blocks of a file that will be mapped, so that a store into it never raises SIGBUS. */
esk_status esk_os_allocate(int fd, const char *path, uint64_t size, esk_error *err);
/* Waits while *word == expected, at most timeout_ns; works across processes on shared memory. Spurious
 * returns happen. */
void esk_os_futex_wait(const _Atomic uint32_t *word, uint32_t expected, uint64_t timeout_ns);
/* Wakes up to `count` (at most INT_MAX) of those that wait; returns how many. 0 where waiting is polling. */
uint32_t esk_os_futex_wake(const _Atomic uint32_t *word, uint32_t count);
/* A process: its id and when it started, so that a reused id is told apart. */
uint64_t esk_os_process_start(int64_t pid); /* 0 if there is no such process */
static inline bool esk_os_process_alive(int64_t pid, uint64_t start)
{
	uint64_t now = esk_os_process_start(pid);
	return now != 0 && (start == 0 || now == start);
}
/* How often this process is the child of a fork since the first call: handles keep it to know that they are
 * inherited. One load; getpid would be a system call. */
uint64_t esk_os_fork_count(void);
uint64_t esk_os_free_bytes(const char *directory);
uint32_t esk_os_cores(void);

#endif
