/* An operating system that fails on purpose: see fault_os.h. May include: base, os. */
#include "support/fault_disk.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* ---- faults ---- */

/* What this call meets: 0, or -errno. *ret_cut: the power fails during it. */
static int step(esk_fault *fault, bool *ret_cut)
{
	*ret_cut = false;
	if (fault->cut)
		return -EIO;
	fault->calls++;
	if (fault->calls == fault->cut_at) {
		fault->cut = true;
		*ret_cut = true;
		return -EIO;
	}
	if (fault->fail_at != 0 &&
		(fault->calls == fault->fail_at || (fault->fail_sticky && fault->calls > fault->fail_at)))
		return -fault->fail_errno;
	return 0;
}

/* For calls that do nothing when they fail. */
static int step_plain(esk_fault *fault)
{
	bool cut;
	return step(fault, &cut);
}

/* How many of `size` bytes a read or write gets to, or -EINTR. */
static ssize_t hiccup(esk_fault *fault, size_t size)
{
	if (size == 0 || fault->hiccups == 0 || esk_fault_draw(fault) % 100 >= fault->hiccups)
		return (ssize_t)size;
	return esk_fault_coin(fault) ? -EINTR : (ssize_t)(1 + esk_fault_draw(fault) % size);
}

/* ---- the table ---- */

static esk_fault *locked(const esk_os *os)
{
	esk_fault *fault = os->self;
	pthread_mutex_lock(&fault->lock);
	return fault;
}

static void unlock(esk_fault *fault)
{
	pthread_mutex_unlock(&fault->lock);
}

static node *node_at(esk_fault *fault, const struct stat *st)
{
	for (size_t i = 0; i < fault->node_count; i++) {
		node *n = fault->nodes[i];
		if (n->dev == st->st_dev && n->ino == st->st_ino && esk_fault_node_is_alive(fault, n))
			return n;
	}
	return NULL;
}

static void track(esk_fault *fault, int fd, const char *path, bool made)
{
	struct stat st;
	if (fd >= MAX_FDS || fstat(fd, &st) != 0)
		abort();
	if (!S_ISREG(st.st_mode))
		return;
	node *n = made ? NULL : node_at(fault, &st);
	if (n == NULL) {
		n = esk_fault_node_new(fault);
		n->dev = st.st_dev;
		n->ino = st.st_ino;
		if (made) {
			esk_fault_name_changed(fault, NAME_MADE, path, NULL, n);
		} else {
			esk_fault_node_load(n, fd);
			esk_fault_names_set(&fault->live, path, n);
			esk_fault_names_set(&fault->durable, path, n);
		}
	}
	fault->fds[fd] = n;
	n->fds++;
}

static int fault_open(const esk_os *os, const char *path, int flags, mode_t mode)
{
	esk_fault *fault = locked(os);
	bool cut;
	int fd = step(fault, &cut);
	if (fd == 0 || (cut && (flags & O_CREAT) != 0)) {
		char *whole = esk_fault_canonical(path);
		bool made = access(whole, F_OK) != 0;
		/* What the file held is taken before it is cut. */
		int opened = open(whole, (flags & ~O_TRUNC) | O_CLOEXEC, mode);
		int errnum = errno;
		if (opened >= 0) {
			track(fault, opened, whole, made);
			node *n = fault->fds[opened];
			if (n != NULL && (flags & O_TRUNC) != 0 && ftruncate(opened, 0) == 0)
				esk_fault_node_changed(n, true, 0, NULL, 0);
			if (cut) {
				if (n != NULL)
					n->fds--;
				fault->fds[opened] = NULL;
				close(opened);
			}
		}
		if (!cut)
			fd = opened >= 0 ? opened : -errnum;
		free(whole);
	}
	unlock(fault);
	return fd;
}

static int fault_close(const esk_os *os, int fd)
{
	esk_fault *fault = locked(os);
	node *n = esk_fault_node_of(fault, fd);
	if (n != NULL) {
		n->fds--;
		fault->fds[fd] = NULL;
	}
	int status = close(fd) < 0 ? -errno : 0;
	unlock(fault);
	return status;
}

static ssize_t fault_pread(const esk_os *os, int fd, void *buf, size_t size, uint64_t offset)
{
	esk_fault *fault = locked(os);
	ssize_t got = step_plain(fault);
	if (got == 0)
		got = hiccup(fault, size);
	if (got > 0) {
		got = pread(fd, buf, (size_t)got, (off_t)offset);
		got = got < 0 ? -errno : got;
	}
	unlock(fault);
	return got;
}

/* Bytes of a write that the space left allows; what replaces bytes of the file costs nothing. */
static ssize_t take_space(esk_fault *fault, int fd, size_t size, uint64_t offset)
{
	struct stat st;
	if (fault->space == UINT64_MAX || fstat(fd, &st) != 0)
		return (ssize_t)size;
	uint64_t file_end = (uint64_t)st.st_size;
	uint64_t grown = offset + size > file_end ? offset + size - esk_max_u64(offset, file_end) : 0;
	if (grown > fault->space) {
		uint64_t missing = grown - fault->space;
		grown = fault->space;
		size -= (size_t)missing;
	}
	fault->space -= grown;
	return size == 0 ? -ENOSPC : (ssize_t)size;
}

static ssize_t write_through(esk_fault *fault, int fd, const void *buf, size_t size, uint64_t offset)
{
	ssize_t put = pwrite(fd, buf, size, (off_t)offset);
	if (put < 0)
		return -errno;
	node *n = esk_fault_node_of(fault, fd);
	if (n != NULL)
		esk_fault_node_changed(n, false, offset, buf, (size_t)put);
	return put;
}

static ssize_t fault_pwrite(const esk_os *os, int fd, const void *buf, size_t size, uint64_t offset)
{
	esk_fault *fault = locked(os);
	bool cut;
	ssize_t put = step(fault, &cut);
	if (cut) {
		/* Some of it may have reached the page cache, and so the disk. */
		write_through(fault, fd, buf, size, offset);
	} else if (put < 0 && !fault->cut && size > 1 && !fault->fail_sticky && esk_fault_coin(fault)) {
		/* Write on until the error: a short count now, the error for the rest. */
		put = write_through(fault, fd, buf, 1 + (size_t)(esk_fault_draw(fault) % (size - 1)), offset);
		fault->fail_at++;
	} else if (put == 0) {
		put = hiccup(fault, size);
		if (put > 0)
			put = take_space(fault, fd, (size_t)put, offset);
		if (put > 0)
			put = write_through(fault, fd, buf, (size_t)put, offset);
	}
	unlock(fault);
	return put;
}

static int fault_truncate(const esk_os *os, int fd, uint64_t size)
{
	esk_fault *fault = locked(os);
	bool cut;
	int status = step(fault, &cut);
	if (status == 0 && ftruncate(fd, (off_t)size) < 0)
		status = -errno;
	node *n = esk_fault_node_of(fault, fd);
	if (n != NULL && (status == 0 || cut))
		esk_fault_node_changed(n, true, size, NULL, 0);
	unlock(fault);
	return status;
}

static int fault_sync(const esk_os *os, int fd)
{
	esk_fault *fault = locked(os);
	bool cut;
	int status = step(fault, &cut);
	node *n = esk_fault_node_of(fault, fd);
	if (n != NULL && status == 0) {
		for (size_t i = 0; i < n->change_count; i++)
			esk_fault_base_apply(n, &n->changes[i]);
		esk_fault_changes_clear(n);
	} else if (n != NULL && !fault->cut) {
		esk_fault_changes_settle(fault, n);
	}
	unlock(fault);
	return status;
}

static int fault_size(const esk_os *os, int fd, uint64_t *ret_size)
{
	esk_fault *fault = locked(os);
	struct stat st;
	int status = step_plain(fault);
	if (status == 0)
		status = fstat(fd, &st) < 0 ? -errno : 0;
	if (status == 0)
		*ret_size = (uint64_t)st.st_size;
	unlock(fault);
	return status;
}

static bool is_in_directory(const char *path, const char *directory)
{
	char *parent = esk_fault_parent_of(path);
	bool same = strcmp(parent, directory) == 0;
	free(parent);
	return same;
}

static int fault_sync_dir(const esk_os *os, const char *path)
{
	esk_fault *fault = locked(os);
	int status = step_plain(fault);
	char *real = realpath(path, NULL);
	if (status == 0 && real == NULL)
		status = -errno;
	if (status == 0) {
		size_t kept = 0;
		for (size_t i = 0; i < fault->name_change_count; i++) {
			name_change *made = &fault->name_changes[i];
			if (is_in_directory(made->path, real)) {
				esk_fault_names_apply(&fault->durable, made);
				esk_fault_name_change_free(made);
			} else {
				fault->name_changes[kept++] = *made;
			}
		}
		fault->name_change_count = kept;
	}
	free(real);
	unlock(fault);
	return status;
}

/* Renames and removals reach files that were never opened through the table: they become known here. */
static node *node_named(esk_fault *fault, const char *path)
{
	name *found = esk_fault_names_find(&fault->live, path);
	if (found != NULL)
		return found->node;
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0)
		return NULL;
	node *n = esk_fault_node_new(fault);
	n->dev = st.st_dev;
	n->ino = st.st_ino;
	esk_fault_node_load(n, fd);
	close(fd);
	esk_fault_names_set(&fault->live, path, n);
	esk_fault_names_set(&fault->durable, path, n);
	return n;
}

static int fault_rename(const esk_os *os, const char *from, const char *to)
{
	esk_fault *fault = locked(os);
	bool cut;
	int status = step(fault, &cut);
	if (status == 0 || cut) {
		char *whole_from = esk_fault_canonical(from);
		char *whole_to = esk_fault_canonical(to);
		node *n = node_named(fault, whole_from);
		if (n != NULL)
			node_named(fault, whole_to);
		int done = rename(whole_from, whole_to) < 0 ? -errno : 0;
		if (done == 0 && n != NULL)
			esk_fault_name_changed(fault, NAME_RENAMED, whole_to, whole_from, n);
		status = cut ? status : done;
		free(whole_from);
		free(whole_to);
	}
	unlock(fault);
	return status;
}

static int fault_link(const esk_os *os, const char *path, const char *made)
{
	esk_fault *fault = locked(os);
	bool cut;
	int status = step(fault, &cut);
	if (status == 0 || cut) {
		char *whole = esk_fault_canonical(path);
		char *whole_made = esk_fault_canonical(made);
		node *n = node_named(fault, whole);
		int done = link(whole, whole_made) < 0 ? -errno : 0;
		if (done == 0 && n != NULL)
			esk_fault_name_changed(fault, NAME_MADE, whole_made, NULL, n);
		status = cut ? status : done;
		free(whole);
		free(whole_made);
	}
	unlock(fault);
	return status;
}

static int fault_unlink(const esk_os *os, const char *path)
{
	esk_fault *fault = locked(os);
	bool cut;
	int status = step(fault, &cut);
	if (status == 0 || cut) {
		char *whole = esk_fault_canonical(path);
		node *n = node_named(fault, whole);
		int done = unlink(whole) < 0 ? -errno : 0;
		if (done == 0 && n != NULL)
			esk_fault_name_changed(fault, NAME_REMOVED, whole, NULL, n);
		status = cut ? status : done;
		free(whole);
	}
	unlock(fault);
	return status;
}

static int fault_mkdir(const esk_os *os, const char *path, mode_t mode)
{
	esk_fault *fault = locked(os);
	bool cut;
	int status = step(fault, &cut);
	if (status == 0 || cut) {
		char *whole = esk_fault_canonical(path);
		int done = mkdir(whole, mode) < 0 ? -errno : 0;
		if (done == 0) {
			node *n = esk_fault_node_new(fault);
			n->directory = true;
			esk_fault_name_changed(fault, NAME_MADE, whole, NULL, n);
		}
		status = cut ? status : done;
		free(whole);
	}
	unlock(fault);
	return status;
}

static int fault_lock(const esk_os *os, int fd)
{
	esk_fault *fault = locked(os);
	int status = fault->cut ? -EIO : 0;
	if (status == 0 && flock(fd, LOCK_EX | LOCK_NB) < 0)
		status = -errno;
	unlock(fault);
	return status;
}

static uint64_t fault_boot_id(const esk_os *os)
{
	esk_fault *fault = locked(os);
	uint64_t boot = fault->boot;
	unlock(fault);
	return boot;
}

/* ---- making and planning ---- */

static void clear_plan(esk_fault *fault)
{
	fault->calls = 0;
	fault->fail_at = 0;
	fault->fail_sticky = false;
	fault->cut_at = 0;
	fault->hiccups = 0;
	fault->space = UINT64_MAX;
}

void esk_fault_cut(esk_fault *fault)
{
	pthread_mutex_lock(&fault->lock);
	fault->cut = true;
	pthread_mutex_unlock(&fault->lock);
}

bool esk_fault_is_cut(const esk_fault *fault)
{
	return fault->cut;
}

void esk_fault_reboot(esk_fault *fault)
{
	pthread_mutex_lock(&fault->lock);
	esk_fault_restart(fault);
	clear_plan(fault);
	fault->cut = false;
	fault->boot++;
	pthread_mutex_unlock(&fault->lock);
}

esk_fault *esk_fault_new(uint64_t seed)
{
	esk_fault *fault = calloc(1, sizeof(*fault));
	if (fault == NULL || pthread_mutex_init(&fault->lock, NULL) != 0)
		abort();
	fault->os = (esk_os){.self = fault,
		.open = fault_open,
		.close = fault_close,
		.pread = fault_pread,
		.pwrite = fault_pwrite,
		.truncate = fault_truncate,
		.sync = fault_sync,
		.size = fault_size,
		.sync_dir = fault_sync_dir,
		.rename = fault_rename,
		.link = fault_link,
		.unlink = fault_unlink,
		.mkdir = fault_mkdir,
		.lock = fault_lock,
		.boot_id = fault_boot_id,
		.now_ns = esk_os_posix()->now_ns};
	fault->random = seed;
	fault->boot = seed | 1;
	clear_plan(fault);
	return fault;
}

void esk_fault_free(esk_fault *fault)
{
	if (fault == NULL)
		return;
	esk_fault_forget(fault);
	for (size_t i = 0; i < fault->volatile_count; i++)
		free(fault->volatiles[i]);
	free(fault->volatiles);
	pthread_mutex_destroy(&fault->lock);
	free(fault);
}

const esk_os *esk_fault_os(esk_fault *fault)
{
	return &fault->os;
}

uint64_t esk_fault_calls(const esk_fault *fault)
{
	return fault->calls;
}

void esk_fault_fail_at(esk_fault *fault, uint64_t call, int errnum, bool sticky)
{
	pthread_mutex_lock(&fault->lock);
	fault->fail_at = call;
	fault->fail_errno = errnum;
	fault->fail_sticky = sticky;
	pthread_mutex_unlock(&fault->lock);
}

void esk_fault_cut_at(esk_fault *fault, uint64_t call)
{
	pthread_mutex_lock(&fault->lock);
	fault->cut_at = call;
	pthread_mutex_unlock(&fault->lock);
}

void esk_fault_set_hiccups(esk_fault *fault, uint32_t percent)
{
	pthread_mutex_lock(&fault->lock);
	fault->hiccups = percent;
	pthread_mutex_unlock(&fault->lock);
}

void esk_fault_set_space(esk_fault *fault, uint64_t bytes)
{
	pthread_mutex_lock(&fault->lock);
	fault->space = bytes;
	pthread_mutex_unlock(&fault->lock);
}

void esk_fault_clear(esk_fault *fault)
{
	pthread_mutex_lock(&fault->lock);
	clear_plan(fault);
	pthread_mutex_unlock(&fault->lock);
}

void esk_fault_set_volatile(esk_fault *fault, const char *prefix)
{
	pthread_mutex_lock(&fault->lock);
	bool known = false;
	for (size_t i = 0; i < fault->volatile_count && !known; i++)
		known = strcmp(fault->volatiles[i], prefix) == 0;
	if (!known) {
		fault->volatiles = esk_fault_grow(
			fault->volatiles, (fault->volatile_count + 1) * sizeof(*fault->volatiles));
		fault->volatiles[fault->volatile_count++] = esk_fault_copy_text(prefix);
	}
	pthread_mutex_unlock(&fault->lock);
}
