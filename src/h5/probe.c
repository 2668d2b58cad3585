/* Files that may be damaged, tried out in a child process.
 *
 * libhdf5 (1.10.8) does not survive every damage to metadata: it divides by a chunk dimension of 0, frees
 * what it never set when a link of a group or an attribute is malformed, and copies strings from where a heap
 * says that they are. What is about to look into files that may be damaged asks here first.
 *
 * The child does with libhdf5 what verify and repair let it do: opens and lists, reads all attributes, walks
 * the indexes of chunks, and reads what only libhdf5 decodes. Chunks are not decoded: Esker does that itself,
 * and bounds what it reads. A fault whose effect depends on what happens to lie in memory may spare the child
 * and meet its parent; a program that must not end by one does its work in a process of its own (as
 * cli/checker.c does).
 *
 *     caller   verdict of file 0 … file 1 … file 2                 verdict of file 3
 *                 ^           ^        ^                              ^
 *     child    0 ─┘  1 ───────┘  2  3 ─┴─ dies    another child    4 ─┴─ 5 …
 *
 * One child goes over all files of a trial, ahead of its caller, and writes a byte into a pipe for each that
 * it survived. So a trial costs one fork whatever the number of files, and one more for each that is not
 * survived; with two cores the caller seldom waits.
 *
 * The child shares nothing that it could hurt: it opens files anew, keeps no descriptor of its parent (locks
 * among them), and writes nowhere. It uses the real operating system, since a test's double may have a lock
 * that another thread of the parent held. */
#include "h5/h5_internal.h"
#include "h5/read_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Damage makes libhdf5 loop, too. No sound file takes that long. */
#define CPU_SECONDS 60u
#define CPU_BYTES_A_SECOND (4u << 20)
#define WAITING 20u /* times as long where the child does not run but waits */

#define PIECE_BYTES (1u << 20)
#define LARGEST_BYTES (1u << 30)

#define POLL_MS 100
/* A lock of some library that another thread holds while this one forks stays taken in the child: it then
 * stands still for ever. Another child is tried. */
#define STILL_MS 5000u
#define MOST_STILL 8u /* children one after the other */

#define STANDS_STILL SIZE_MAX
#define RESULT_FD (STDERR_FILENO + 1)

/* ---- in the child: what libhdf5 reads ---- */

static herr_t read_attribute(hid_t object, const char *name, const H5A_info_t *info, void *arg)
{
	(void)info;
	(void)arg;
	hid_t id = H5Aopen(object, name, H5P_DEFAULT);
	hid_t type = id >= 0 ? H5Aget_type(id) : H5I_INVALID_HID;
	hid_t space = id >= 0 ? H5Aget_space(id) : H5I_INVALID_HID;
	uint64_t bytes = 0;
	hssize_t elements = space >= 0 ? H5Sget_simple_extent_npoints(space) : 0;
	if (type >= 0 && elements > 0 && esk_mul_u64(H5Tget_size(type), (uint64_t)elements, &bytes) &&
		bytes <= LARGEST_BYTES) {
		void *value = calloc(1, bytes + 1);
		if (value != NULL)
			H5Aread(id, type, value);
		free(value); /* what strings took goes with the process */
	}
	esk_h5_drop(space);
	esk_h5_drop(type);
	esk_h5_drop(id);
	return 0;
}

static herr_t read_attributes(hid_t root, const char *name, const esk_h5_object_info *info, void *arg)
{
	hid_t object = H5Oopen(root, name, H5P_DEFAULT);
	hsize_t at = 0;
	(void)info;
	if (object >= 0)
		H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, &at, read_attribute, arg);
	esk_h5_drop(object);
	return 0;
}

/* What verify reads through libhdf5, in the same pieces. */
static void read_rows(esk_h5_dataset *dataset)
{
	uint64_t cell_bytes = esk_max_u64(1, esk_column_cell_bytes(&dataset->info.column));
	uint64_t most = esk_max_u64(1, PIECE_BYTES / cell_bytes);
	bool strings = dataset->info.column.dtype.kind == ESK_STRING;
	void *out = cell_bytes <= LARGEST_BYTES ? malloc(most * cell_bytes) : NULL;
	esk_h5_row_walk walk;
	esk_h5_rows piece = {.out = out};
	if (out != NULL && esk_h5_row_walk_begin(&walk, dataset, NULL) == ESK_OK) {
		while (esk_h5_row_walk_next(&walk, most, &piece.row, &piece.count)) {
			esk_string *texts = NULL;
			if (strings)
				esk_h5_read_strings(dataset, piece.row, piece.count, &texts, NULL);
			else
				esk_h5_read_rows(dataset, NULL, &piece, 1, NULL);
			free(texts);
		}
		esk_h5_row_walk_end(&walk);
	}
	free(out);
}

static esk_status look(void *arg, esk_h5_dataset *dataset, esk_error *err)
{
	uint64_t bytes;
	esk_h5_chunk_list list;
	const unsigned char *fill;
	(void)arg;
	(void)err;
	esk_h5_stored_bytes(dataset, &bytes, NULL); /* walks the index of its chunks */
	if (dataset->info.readable && !dataset->info.raw_readable) {
		read_rows(dataset);
	} else if (dataset->info.chunked) {
		esk_h5_fill_value(dataset, dataset->info.pipeline.element_bytes, &fill, NULL);
		if (esk_h5_list_chunks(dataset, &list, NULL) == ESK_OK)
			esk_h5_chunk_list_free(&list);
	}
	return ESK_OK;
}

static void try_file(const char *path)
{
	esk_h5 *file = NULL;
	/* What libhdf5 frees without having set it must not be harmless here by chance, and deadly in the
	 * caller. */
	H5garbage_collect();
	if (esk_h5_open_read(esk_os_posix(), path, &file, NULL) != ESK_OK)
		return;
	if (esk_h5_enter(file, NULL) == ESK_OK) {
		ESK_H5_VISIT(file->id, read_attributes, NULL);
		esk_h5_leave(file, ESK_OK, NULL);
	}
	esk_h5_visit(file, look, NULL, NULL);
	esk_h5_close(file, NULL);
}

/* The signals that damage raises end the child quietly, whatever handlers the program has. Those that a
 * terminal sends to all processes do not: the child goes when its parent does. */
static void become_quiet(int result)
{
	static const int deadly[] = {SIGSEGV, SIGBUS, SIGFPE, SIGABRT, SIGILL, SIGXCPU, SIGALRM, SIGPIPE};
	static const int ignored[] = {SIGINT, SIGQUIT, SIGHUP, SIGTERM};
	struct rlimit none = {0, 0};
	sigset_t all;

	/* The end of a trial's thread without the trial's is the process's. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setrlimit(RLIMIT_CORE, &none);
	for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++)
		signal(deadly[i], SIG_DFL);
	for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
		signal(ignored[i], SIG_IGN);
	sigfillset(&all);
	sigprocmask(SIG_UNBLOCK, &all, NULL);
	int null = open("/dev/null", O_RDWR), kept = fcntl(result, F_DUPFD, RESULT_FD + 1);
	for (int fd = 0; null >= 0 && fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	dup2(kept, RESULT_FD);
	close_range(RESULT_FD + 1, ~0u, 0);
	mallopt(M_PERTURB, 0x5A);
}

/* So much processor time from now on, and so much of any. */
static void limit_time(const char *path)
{
	struct stat st = {0};
	struct rusage used = {0};
	struct rlimit limit;
	stat(path, &st);
	uint64_t seconds = CPU_SECONDS + (uint64_t)st.st_size / CPU_BYTES_A_SECOND;
	getrusage(RUSAGE_SELF, &used);
	if (getrlimit(RLIMIT_CPU, &limit) == 0) {
		rlim_t soft =
			(rlim_t)((uint64_t)used.ru_utime.tv_sec + (uint64_t)used.ru_stime.tv_sec + seconds);
		limit.rlim_cur =
			limit.rlim_max == RLIM_INFINITY || soft < limit.rlim_max ? soft : limit.rlim_max;
		setrlimit(RLIMIT_CPU, &limit);
	}
	alarm((unsigned)esk_min_u64(seconds * WAITING, INT32_MAX));
}

static void go_over(char *const *paths, size_t count, int result)
{
	become_quiet(result);
	for (size_t i = 0; i < count; i++) {
		limit_time(paths[i]);
		try_file(paths[i]);
		if (write(RESULT_FD, "", 1) != 1)
			break;
	}
	_exit(0);
}

/* ---- in the parent ---- */

typedef struct unsurvived {
	size_t file;
	esk_error why;
} unsurvived;

struct esk_h5_trial {
	char **paths; /* in order */
	size_t count;
	size_t tried; /* what became of files [0, tried) is known */
	unsurvived *bad;
	size_t bad_count;
	pid_t child;    /* 0: none */
	int result;     /* what it writes comes out here */
	unsigned still; /* children that stood still since the last file that was tried */
	bool leaves_others;
};

static int compare_paths(const void *left, const void *right)
{
	return strcmp(*(char *const *)left, *(char *const *)right);
}

esk_status esk_h5_trial_begin(
	const char *const *paths, size_t count, esk_h5_trial **ret_trial, esk_error *err)
{
	esk_h5_trial *trial = calloc(1, sizeof *trial);
	if (trial == NULL)
		return esk_fail_memory(err, sizeof *trial, "a trial of files");
	trial->paths = calloc(count + 1, sizeof *trial->paths);
	for (; trial->paths != NULL && trial->count < count; trial->count++)
		if ((trial->paths[trial->count] = strdup(paths[trial->count])) == NULL)
			break;
	if (trial->paths == NULL || trial->count < count) {
		esk_h5_trial_end(trial);
		return esk_fail_memory(err, count * sizeof *trial->paths, "a trial of files");
	}
	if (count > 0)
		qsort(trial->paths, count, sizeof *trial->paths, compare_paths);
	*ret_trial = trial;
	return ESK_OK;
}

void esk_h5_trial_leave_others(esk_h5_trial *trial)
{
	trial->leaves_others = true;
}

/* Without a process nothing can be tried: then nothing is known of the rest, and nothing speaks against it.
 */
static void start_child(esk_h5_trial *trial)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) != 0) {
		trial->tried = trial->count;
		return;
	}
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	pid_t child = fork();
	if (child == 0)
		go_over(trial->paths + trial->tried, trial->count - trial->tried, ends[1]);
	close(ends[1]);
	if (child < 0) {
		close(ends[0]);
		trial->tried = trial->count;
		return;
	}
	trial->child = child;
	trial->result = ends[0];
}

static bool has_ended(const esk_h5_trial *trial)
{
	siginfo_t info = {0};
	/* A program may wait for all its children, or ignore them: then this one is gone. */
	return waitid(P_PID, (id_t)trial->child, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0;
}

/* Processor time that it took so far. */
static uint64_t worked_ns(pid_t child)
{
	clockid_t clock;
	struct timespec time = {0};
	if (clock_getcpuclockid(child, &clock) == 0)
		clock_gettime(clock, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* How many files more it survived; 0 once it has ended; STANDS_STILL if it does nothing. The end of the pipe
 * alone does not tell: a process that another thread forked meanwhile may have the other end, too. */
static size_t hear(const esk_h5_trial *trial)
{
	char bytes[4096];
	uint64_t worked = 0;
	for (uint32_t still_ms = 0;; still_ms += POLL_MS) {
		struct pollfd event = {.fd = trial->result, .events = POLLIN};
		bool said = poll(&event, 1, POLL_MS) > 0;
		bool ended = !said && has_ended(trial);
		ssize_t got = said || ended ? read(trial->result, bytes, sizeof bytes) : -1;
		if (got > 0)
			return (size_t)got;
		if (got == 0 || ended)
			return 0;
		uint64_t now = worked_ns(trial->child);
		if (now != worked)
			still_ms = 0;
		else if (still_ms >= STILL_MS)
			return STANDS_STILL;
		worked = now;
	}
}

/* Its end, as waitpid gives it; -1 where somebody else took it. */
static int part_from(esk_h5_trial *trial)
{
	int status = -1;
	pid_t done;
	do
		done = waitpid(trial->child, &status, 0);
	while (done < 0 && errno == EINTR);
	close(trial->result);
	trial->child = 0;
	return done > 0 ? status : -1;
}

/* Signals that damage raises; another one came from outside and says nothing of the file. */
static bool is_fault(int number)
{
	return number == SIGSEGV || number == SIGBUS || number == SIGFPE || number == SIGABRT ||
	       number == SIGILL || number == SIGXCPU;
}

static void explain(esk_error *why, const char *path, int status)
{
	bool signaled = status != -1 && WIFSIGNALED(status);
	if (signaled && !is_fault(WTERMSIG(status)))
		esk_fail(why, ESK_EIO, "%s was not looked at: the process that tried it was ended (%s)", path,
			strsignal(WTERMSIG(status)));
	else
		esk_fail(why, ESK_ECORRUPT,
			"%s: its metadata are damaged in a way that libhdf5 %s does not survive (%s): "
			"restore "
			"it from a backup",
			path, esk_h5_version(), signaled ? strsignal(WTERMSIG(status)) : "it gave up");
}

/* Another child goes on; after too many, what was not tried is not known, as where no process can be had. */
static void replace(esk_h5_trial *trial)
{
	kill(trial->child, SIGKILL);
	part_from(trial);
	if (++trial->still == MOST_STILL)
		trial->tried = trial->count;
}

/* What becomes of one file more, or of several. */
static esk_status advance(esk_h5_trial *trial, esk_error *err)
{
	if (trial->child == 0)
		start_child(trial);
	if (trial->child == 0)
		return ESK_OK;
	size_t more = hear(trial);
	if (more == STANDS_STILL) {
		replace(trial);
		return ESK_OK;
	}
	trial->still = 0;
	trial->tried += (size_t)esk_min_u64(more, trial->count - trial->tried);
	if (trial->tried == trial->count)
		part_from(trial);
	if (more > 0)
		return ESK_OK;
	unsurvived *grown = realloc(trial->bad, (trial->bad_count + 1) * sizeof *grown);
	if (grown == NULL)
		return esk_fail_memory(err, sizeof *grown, "a trial of files");
	trial->bad = grown;
	grown[trial->bad_count] = (unsurvived){.file = trial->tried};
	explain(&grown[trial->bad_count++].why, trial->paths[trial->tried], part_from(trial));
	trial->tried++;
	return ESK_OK;
}

esk_status esk_h5_trial_verdict(esk_h5_trial *trial, const char *path, esk_error *err)
{
	char **found = trial->count == 0 ? NULL
					 : bsearch(&path, trial->paths, trial->count, sizeof *trial->paths,
						   compare_paths);
	if (found == NULL)
		return trial->leaves_others ? ESK_OK : esk_h5_probe(path, err);
	size_t file = (size_t)(found - trial->paths);
	while (trial->tried <= file) {
		esk_status status = advance(trial, err);
		if (status != ESK_OK)
			return status;
	}
	for (size_t i = 0; i < trial->bad_count; i++)
		if (trial->bad[i].file == file)
			return esk_fail(err, trial->bad[i].why.code, "%s", trial->bad[i].why.message);
	return ESK_OK;
}

void esk_h5_trial_end(esk_h5_trial *trial)
{
	if (trial == NULL)
		return;
	if (trial->child != 0) {
		kill(trial->child, SIGKILL);
		part_from(trial);
	}
	for (size_t i = 0; trial->paths != NULL && i < trial->count; i++)
		free(trial->paths[i]);
	free(trial->paths);
	free(trial->bad);
	free(trial);
}

esk_status esk_h5_probe(const char *path, esk_error *err)
{
	esk_h5_trial *trial;
	esk_status status = esk_h5_trial_begin(&path, 1, &trial, err);
	if (status != ESK_OK)
		return status;
	status = esk_h5_trial_verdict(trial, path, err);
	esk_h5_trial_end(trial);
	return status;
}
