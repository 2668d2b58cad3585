/* The lock of a run (L1): whoever records, recovers or repairs it has it. */
#include "record/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* ---- fork: a child must not keep the parent's lock alive ---- */

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t registry_once = PTHREAD_ONCE_INIT;
static esk_recorder *registry;

static void before_fork(void)
{
	pthread_mutex_lock(&registry_lock);
}

static void after_fork_parent(void)
{
	pthread_mutex_unlock(&registry_lock);
}

static void after_fork_child(void)
{
	for (esk_recorder *r = registry; r != NULL; r = r->registry_next)
		if (r->lock_fd >= 0)
			r->os->close(r->os, r->lock_fd);
	registry = NULL;
	pthread_mutex_unlock(&registry_lock);
}

static void watch_forks(void)
{
	pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

static void enlist(esk_recorder *r)
{
	pthread_once(&registry_once, watch_forks);
	pthread_mutex_lock(&registry_lock);
	r->registry_next = registry;
	registry = r;
	pthread_mutex_unlock(&registry_lock);
}

static void delist(esk_recorder *r)
{
	pthread_mutex_lock(&registry_lock);
	for (esk_recorder **at = &registry; *at != NULL; at = &(*at)->registry_next) {
		if (*at == r) {
			*at = r->registry_next;
			break;
		}
	}
	pthread_mutex_unlock(&registry_lock);
}

/* ---- taking and dropping ---- */

static esk_status lock_file(const esk_os *os, const char *path, const char *run, int *ret_fd, esk_error *err)
{
	for (;;) {
		int fd;
		esk_status status = esk_os_open(os, path, O_RDWR | O_CREAT, 0600, &fd, err);
		if (status != ESK_OK)
			return status;
		int locked = os->lock(os, fd);
		if (locked < 0) {
			os->close(os, fd);
			if (locked == -EWOULDBLOCK)
				return esk_fail(err, ESK_EBUSY,
					"run \"%s\" is being recorded or repaired by another handle or "
					"process",
					run);
			return esk_fail_errno(err, -locked, "cannot lock %s", path);
		}
		/* A closing recorder may have removed the file between our open and our lock: then nobody
		 * else sees our lock. */
		struct stat ours, there;
		if (fstat(fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_ino == there.st_ino) {
			*ret_fd = fd;
			return ESK_OK;
		}
		os->close(os, fd);
	}
}

esk_status esk_recorder_lock(esk_recorder *r, esk_error *err)
{
	esk_status status = lock_file(r->os, r->lock_path, r->name, &r->lock_fd, err);
	if (status == ESK_OK)
		enlist(r);
	return status;
}

void esk_recorder_unlock(esk_recorder *r)
{
	if (r->lock_fd < 0)
		return;
	esk_os_unlink(r->os, r->lock_path, NULL);
	delist(r);
	r->os->close(r->os, r->lock_fd);
	r->lock_fd = -1;
}

esk_status esk_run_hold_take(
	const esk_os *os, const char *directory, const char *run, esk_run_hold *ret_hold, esk_error *err)
{
	esk_run_hold hold = {.os = os};
	if (snprintf(hold.path, sizeof hold.path, "%s/spool/%s.lock", directory, run) >=
		(int)sizeof hold.path)
		return esk_fail(err, ESK_EINVAL, "path too long: %s", directory);
	esk_status status = lock_file(os, hold.path, run, &hold.fd, err);
	if (status == ESK_OK)
		*ret_hold = hold;
	return status;
}

void esk_run_hold_drop(esk_run_hold *hold)
{
	esk_os_unlink(hold->os, hold->path, NULL);
	hold->os->close(hold->os, hold->fd);
}
