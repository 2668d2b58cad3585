/* Shared memory, futexes, processes, the machine's size. Linux first; the futex falls back to short sleeps
 * elsewhere. */
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#endif

esk_status esk_os_map(
	int fd, const char *path, size_t size, bool writable, void **ret_address, esk_error *err)
{
	void *address = mmap(NULL, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
	if (address == MAP_FAILED)
		return esk_fail_errno(err, errno, "cannot map %zu bytes of %s", size, path);
	*ret_address = address;
	return ESK_OK;
}

void esk_os_unmap(void *address, size_t size)
{
	if (address != NULL)
		munmap(address, size);
}

/* ---- unmapping aside ----
 * The kernel gives back shared pages one by one: 65,536 of them take 50 ms. Nobody has to wait for that but
 * who wants as much memory again. */
#define ASIDE_BYTES (32u << 20)

typedef struct mapping {
	void *address;
	size_t size;
} mapping;

static pthread_mutex_t aside_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t aside_done = PTHREAD_COND_INITIALIZER;
static uint32_t aside_count; /* under aside_lock */

static void *unmap_main(void *arg)
{
	mapping *m = arg;
	munmap(m->address, m->size);
	free(m);
	pthread_mutex_lock(&aside_lock);
	aside_count--;
	pthread_cond_broadcast(&aside_done);
	pthread_mutex_unlock(&aside_lock);
	return NULL;
}

/* A child has none of its parent's threads; what they were unmapping stays mapped in it. */
static void forget_aside(void)
{
	pthread_mutex_init(&aside_lock, NULL);
	pthread_cond_init(&aside_done, NULL);
	aside_count = 0;
}

void esk_os_unmap_aside(void *address, size_t size)
{
	pthread_t thread;
	esk_os_fork_count(); /* watches for forks from here on */
	mapping *m = size >= ASIDE_BYTES ? malloc(sizeof *m) : NULL;
	if (m == NULL) {
		esk_os_unmap(address, size);
		return;
	}
	*m = (mapping){address, size};
	sigset_t all, before;
	sigfillset(&all);
	pthread_mutex_lock(&aside_lock);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	bool started = pthread_create(&thread, NULL, unmap_main, m) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (started) {
		aside_count++;
		pthread_detach(thread);
	}
	pthread_mutex_unlock(&aside_lock);
	if (!started) {
		esk_os_unmap(address, size);
		free(m);
	}
}

void esk_os_unmap_wait(void)
{
	pthread_mutex_lock(&aside_lock);
	while (aside_count > 0)
		pthread_cond_wait(&aside_done, &aside_lock);
	pthread_mutex_unlock(&aside_lock);
}

void esk_os_prefault(void *address, size_t size)
{
#if defined(MADV_POPULATE_WRITE)
	if (madvise(address, size, MADV_POPULATE_WRITE) == 0)
		return;
#endif
	long page = sysconf(_SC_PAGESIZE);
	for (size_t at = 0; at < size; at += (size_t)page) {
		/* An atomic add of nothing: another process may be writing there. */
		__atomic_fetch_add((char *)address + at, 0, __ATOMIC_RELAXED);
	}
}

esk_status esk_os_allocate(int fd, const char *path, uint64_t size, esk_error *err)
{
	int errnum = posix_fallocate(fd, 0, (off_t)size);
	if (errnum != 0)
		return esk_fail_errno(
			err, errnum, "cannot reserve %llu bytes for %s", (unsigned long long)size, path);
	return ESK_OK;
}

void esk_os_futex_wait(const _Atomic uint32_t *word, uint32_t expected, uint64_t timeout_ns)
{
#if defined(__linux__)
	struct timespec timeout = {.tv_sec = (time_t)esk_min_u64(timeout_ns / 1000000000u, INT_MAX),
		.tv_nsec = (long)(timeout_ns % 1000000000u)};
	syscall(SYS_futex, word, FUTEX_WAIT, expected, &timeout, NULL, 0);
#else
	uint64_t end = esk_monotonic_ns() + timeout_ns;
	while (__atomic_load_n((const uint32_t *)word, __ATOMIC_ACQUIRE) == expected &&
		esk_monotonic_ns() < end)
		nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
#endif
}

uint32_t esk_os_futex_wake(const _Atomic uint32_t *word, uint32_t count)
{
#if defined(__linux__)
	long woken = syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
	return woken > 0 ? (uint32_t)woken : 0;
#else
	(void)word;
	(void)count;
	return 0;
#endif
}

uint64_t esk_os_process_start(int64_t pid)
{
	if (pid <= 0 || pid > INT_MAX || (kill((pid_t)pid, 0) < 0 && errno == ESRCH))
		return 0;
	char path[64];
	snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT && access("/proc/self/stat", F_OK) == 0 ? 0 : 1;
	char text[1024];
	ssize_t size = read(fd, text, sizeof text - 1);
	close(fd);
	if (size <= 0)
		return 0;
	text[size] = '\0';
	/* Behind "pid (name)": state is field 3, the start time field 22. The name may hold anything but ends
	 * at the last ')'. */
	char *field = strrchr(text, ')');
	if (field == NULL || field[1] == '\0')
		return 1;
	if (field[2] == 'Z' || field[2] == 'X')
		return 0; /* a zombie runs no more code */
	field++;
	for (int i = 2; i < 21 && field != NULL; i++)
		field = strchr(field + 1, ' ');
	uint64_t start = field != NULL ? strtoull(field + 1, NULL, 10) : 0;
	return start != 0 ? start : 1;
}

static _Atomic uint64_t fork_count = 1;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void count_fork(void)
{
	atomic_fetch_add(&fork_count, 1);
	forget_aside();
}

static void watch_forks(void)
{
	pthread_atfork(NULL, NULL, count_fork);
}

uint64_t esk_os_fork_count(void)
{
	pthread_once(&fork_once, watch_forks);
	return atomic_load_explicit(
		&fork_count, memory_order_relaxed); /* written by this thread's own fork */
}

uint64_t esk_os_free_bytes(const char *directory)
{
	struct statvfs st;
	return statvfs(directory, &st) == 0 ? (uint64_t)st.f_bavail * st.f_frsize : 0;
}

uint32_t esk_os_cores(void)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	return cores > 0 ? (uint32_t)cores : 1;
}
