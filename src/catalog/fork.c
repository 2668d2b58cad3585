/* SQLite and fork.
 *
 * Two things go wrong with SQLite in a forked child, even one that only opens connections of its own:
 *  - another thread of the parent may have held SQLite's process-wide mutexes at the moment of the fork; the
 *    child then waits for ever. So all calls into SQLite go through a gate, and fork waits until it is empty.
 *  - SQLite keeps, per process and inode, which file locks it holds. The child inherits the note but not the
 *    POSIX locks, and would read through locks that nobody holds, or through the shared memory of a log that
 *    is long gone. So a child shows SQLite other inode numbers than its parent did: nothing inherited
 *    matches, and the child's connections take their own locks on the same files.
 *
 * Invariants:
 *  1. `inside` counts the threads between enter and leave; fork happens with inside == 0 and `lock` held.
 *  2. The mask changes only in a process that has no connection of its own yet; stat and fstat agree on
 *     it.
 *
 * May include: base. */
#include "catalog/connection.h"

#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned inside;
static bool forking;

static pthread_mutex_t ready_lock = PTHREAD_MUTEX_INITIALIZER;
static pid_t home; /* process that the mask was made for; 0: none yet */
static uint64_t generation;
static uint64_t inode_mask;

typedef int (*stat_fn)(const char *path, struct stat *ret);
typedef int (*fstat_fn)(int fd, struct stat *ret);
static stat_fn real_stat;
static fstat_fn real_fstat;

static void before_fork(void)
{
	pthread_mutex_lock(&ready_lock);
	pthread_mutex_lock(&lock);
	forking = true;
	while (inside != 0)
		pthread_cond_wait(&changed, &lock);
}

static void after_fork_in_parent(void)
{
	forking = false;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	pthread_mutex_unlock(&ready_lock);
}

static void after_fork_in_child(void)
{
	/* Its waiters stayed in the parent. */
	pthread_cond_init(&changed, NULL);
	forking = false;
	pthread_mutex_unlock(&lock);
	pthread_mutex_unlock(&ready_lock);
}

void esk_fork_gate_enter(void)
{
	pthread_mutex_lock(&lock);
	while (forking)
		pthread_cond_wait(&changed, &lock);
	inside++;
	pthread_mutex_unlock(&lock);
}

void esk_fork_gate_leave(void)
{
	pthread_mutex_lock(&lock);
	inside--;
	if (inside == 0)
		pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static int masked_stat(const char *path, struct stat *ret)
{
	int result = real_stat(path, ret);
	if (result == 0)
		ret->st_ino ^= inode_mask;
	return result;
}

static int masked_fstat(int fd, struct stat *ret)
{
	int result = real_fstat(fd, ret);
	if (result == 0)
		ret->st_ino ^= inode_mask;
	return result;
}

/* SQLite's own hook for its system calls; the unix VFS has it in every build. */
static bool mask_inodes(void)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find("unix");
	if (vfs == NULL || vfs->iVersion < 3 || vfs->xSetSystemCall == NULL || vfs->xGetSystemCall == NULL)
		return false;
	if (real_stat == NULL || real_fstat == NULL) {
		real_stat = (stat_fn)vfs->xGetSystemCall(vfs, "stat");
		real_fstat = (fstat_fn)vfs->xGetSystemCall(vfs, "fstat");
		if (real_stat == NULL || real_fstat == NULL)
			return false;
	}
	inode_mask = generation * 0x9E3779B97F4A7C15u;
	return vfs->xSetSystemCall(vfs, "stat", (sqlite3_syscall_ptr)masked_stat) == SQLITE_OK &&
	       vfs->xSetSystemCall(vfs, "fstat", (sqlite3_syscall_ptr)masked_fstat) == SQLITE_OK;
}

esk_status esk_fork_ready(esk_error *err)
{
	esk_status status = ESK_OK;
	pthread_mutex_lock(&ready_lock);
	if (home == 0) {
		if (pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) != 0)
			status = esk_fail_memory(err, 0, "the fork handlers of the catalogue");
		else
			home = getpid();
	} else if (home != getpid()) {
		generation++;
		if (mask_inodes())
			home = getpid();
		else
			status = esk_fail(err, ESK_EUNSUPPORTED,
				"this build of SQLite has no system call table: the catalogue cannot be "
				"opened in a process forked from one that had it open");
	}
	pthread_mutex_unlock(&ready_lock);
	return status;
}
