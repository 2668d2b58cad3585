#include "support/ordeal.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* ---- death ---- */

/* Returns the child's id; the child does `part`, does not outlive this process, and ends where an assertion
 * fails, instead of going on with the tests that follow. */
static pid_t start(ordeal_part *part, const char *store, void *shared)
{
	pid_t parent = getpid(), child = fork();
	assert_true(child >= 0);
	if (child != 0)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || setenv("CMOCKA_TEST_ABORT", "1", 1) != 0)
		_exit(1);
	part(store, shared);
	_exit(0);
}

/* Whether the child has ended; it can be waited for all the same. */
static bool has_ended(pid_t child)
{
	siginfo_t info = {0};
	assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT), 0);
	return info.si_pid != 0;
}

static void die(const ordeal *o, const char *store, void *shared, int64_t more, unsigned extra_ms)
{
	_Atomic int64_t *acknowledged = shared;
	int64_t wanted = atomic_load(acknowledged) + more;
	int code;
	pid_t child = start(o->live, store, shared);
	while (atomic_load(acknowledged) < wanted && !has_ended(child))
		recording_sleep_ms(1);
	recording_sleep_ms(extra_ms);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &code, 0), child);
	if (!WIFSIGNALED(code) || WTERMSIG(code) != SIGKILL)
		fail_msg("who was to be killed ended by itself, with status %#x", (unsigned)code);
	if (atomic_load(acknowledged) < wanted)
		fail_msg("killed at %lld of %lld", (long long)atomic_load(acknowledged), (long long)wanted);
}

static void look(const ordeal *o, const char *store, void *shared)
{
	int code;
	pid_t child = start(o->look, store, shared);
	assert_int_equal(waitpid(child, &code, 0), child);
	if (code != 0)
		fail_msg("looking ended with status %#x", (unsigned)code);
}

void ordeal_run(test_dir *dir, const ordeal *o, uint64_t kills)
{
	static unsigned serial;
	size_t bytes = o->shared_bytes > 0 ? o->shared_bytes : sizeof(_Atomic int64_t);
	void *shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t random = test_seed() + serial;
	char store[128];
	esk_error err = {0};
	assert_true(shared != MAP_FAILED);
	snprintf(store, sizeof store, "%s/store-%u", dir->path, serial++);
	assert_ok(esk_store_create(store, &err), &err);
	for (uint64_t turn = 0; turn < kills; turn++) {
		random = mix(random + turn + 1);
		int64_t more = 1 + (int64_t)(random % (uint64_t)o->most);
		if (o->dies_young && turn % 3 == 2)
			more = 0;
		die(o, store, shared, more, (unsigned)((random >> 32) % (o->most_ms + 1)));
		look(o, store, shared);
	}
	munmap(shared, bytes);
}

void ordeal_found(_Atomic int64_t *acknowledged, int64_t found)
{
	int64_t before = atomic_load(acknowledged);
	if (found < before || found > before + 1)
		fail_msg("%lld were acknowledged, %lld are there", (long long)before, (long long)found);
	atomic_store(acknowledged, found);
}

/* ---- a full disk ---- */

place ordeal_place_make(test_dir *dir, esk_fault **ret_fault)
{
	place p = {.dir = dir};
	esk_fault *fault = esk_fault_new(test_seed());
	esk_store_environment environment = {.os = esk_fault_os(fault)};
	esk_store_options options = ESK_STORE_OPTIONS_INIT;
	esk_error err = {0};
	options.codec_threads = 1;
	options.log = recording_log;
	snprintf(p.path, sizeof p.path, "%s/store", dir->path);
	assert_ok(esk_store_create(p.path, &err), &err);
	assert_ok(esk_store_open_in(&environment, p.path, &options, &p.store, &err), &err);
	*ret_fault = fault;
	return p;
}

void ordeal_commit_without_room(esk_run *run, esk_fault *fault, uint64_t bytes)
{
	esk_error err = {0};
	esk_fault_set_space(fault, bytes);
	assert_int_equal(esk_run_commit(run, NULL, &err), ESK_ENOSPC);
}

void ordeal_commit_with_room(esk_run *run, esk_fault *fault)
{
	esk_error err = {0};
	esk_fault_set_space(fault, UINT64_MAX);
	while (esk_run_commit(run, NULL, &err) != ESK_OK) {
		assert_int_equal(err.code, ESK_ENOSPC); /* what the drain met before there was room */
		recording_sleep_ms(1);
	}
}

void ordeal_place_end(place *p, esk_fault *fault)
{
	place_close(p);
	esk_fault_free(fault);
	place_open(p);
}

/* ---- a damaged ring ---- */

unsigned char *ordeal_map_ring(const place *p, size_t *ret_bytes)
{
	char link[200];
	struct stat st;
	snprintf(link, sizeof link, "%s/spool/run.ring", p->path);
	int fd = open(link, O_RDWR);
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	void *ring = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(ring != MAP_FAILED);
	close(fd);
	*ret_bytes = (size_t)st.st_size;
	return ring;
}
