/* Files that may be damaged, tried out in a child process.
 *
 * libhdf5 (1.10.8) does not survive every damage to metadata: it divides by a chunk dimension of 0, frees
 * what it never set when a link of a group is malformed, and copies strings from where a heap says that they
 * are. What is about to look into a file that may be damaged asks here first.
 *
 * The child does with libhdf5 what verify and repair let it do: opens and lists, reads all attributes, walks
 * the indexes of chunks, and reads what only libhdf5 decodes. Chunks are not decoded: Esker does that itself,
 * and bounds what it reads. A fault whose effect depends on what happens to lie in memory may spare the child
 * and meet its parent; a program that must not end by one does its work in a process of its own (as
 * cli/checker.c does).
 *
 * The child shares nothing that it could hurt: it opens the file anew, keeps no descriptor of its parent
 * (locks among them), and writes nowhere. */
#include "h5/h5_internal.h"
#include "h5/read_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Damage makes libhdf5 loop, too. No sound file takes that long. */
#define CPU_SECONDS 60u
#define CPU_BYTES_A_SECOND (4u << 20)

#define PIECE_BYTES (1u << 20)
#define LARGEST_CELL_BYTES (1u << 30)
#define LARGEST_ATTRIBUTE_BYTES (1u << 30)

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
		bytes <= LARGEST_ATTRIBUTE_BYTES) {
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
	void *out = cell_bytes <= LARGEST_CELL_BYTES ? malloc(most * cell_bytes) : NULL;
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
	const unsigned char *fill;
	(void)arg;
	(void)err;
	esk_h5_stored_bytes(dataset, &bytes, NULL); /* walks the index of its chunks */
	if (dataset->info.readable && !dataset->info.raw_readable)
		read_rows(dataset);
	else if (dataset->info.chunked)
		esk_h5_fill_value(dataset, dataset->info.pipeline.element_bytes, &fill, NULL);
	return ESK_OK;
}

/* The signals that damage raises end the child quietly, whatever handlers the program has. */
static void become_quiet(uint64_t cpu_seconds, int result)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGABRT, SIGILL, SIGXCPU};
	struct rlimit none = {0, 0}, cpu = {cpu_seconds, cpu_seconds};
	sigset_t all;

	setrlimit(RLIMIT_CORE, &none);
	setrlimit(RLIMIT_CPU, &cpu);
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		signal(signals[i], SIG_DFL);
	sigfillset(&all);
	sigprocmask(SIG_UNBLOCK, &all, NULL);
	int null = open("/dev/null", O_RDWR), kept = fcntl(result, F_DUPFD, STDERR_FILENO + 2);
	for (int fd = 0; null >= 0 && fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	dup2(kept, STDERR_FILENO + 1);
	close_range(STDERR_FILENO + 2, ~0u, 0);
}

/* Writes a byte to `result` once it survived. */
static void try_file(const esk_os *os, const char *path, uint64_t cpu_seconds, int result)
{
	esk_h5 *file = NULL;
	become_quiet(cpu_seconds, result);
	if (esk_h5_open_read(os, path, &file, NULL) == ESK_OK) {
		if (esk_h5_enter(file, NULL) == ESK_OK) {
			ESK_H5_VISIT(file->id, read_attributes, NULL);
			esk_h5_leave(file, ESK_OK, NULL);
		}
		esk_h5_visit(file, look, NULL, NULL);
		esk_h5_close(file, NULL);
	}
	_exit(write(STDERR_FILENO + 1, "", 1) == 1 ? 0 : 1);
}

/* ---- in the parent ---- */

/* True if the child survived; else *ret_status is its end, as waitpid gives it, or -1 where another took it:
 * a program may wait for all its children, or ignore them. */
static bool survived(pid_t child, int result, int *ret_status)
{
	char byte;
	pid_t done;
	do
		done = waitpid(child, ret_status, 0);
	while (done < 0 && errno == EINTR);
	if (done == child && WIFEXITED(*ret_status) && WEXITSTATUS(*ret_status) == 0)
		return true;
	if (done != child)
		*ret_status = -1;
	return done != child && read(result, &byte, 1) == 1; /* it has ended: nothing is waited for */
}

esk_status esk_h5_probe(const esk_os *os, const char *path, esk_error *err)
{
	struct stat st = {0};
	int status = 0, ends[2];
	stat(path, &st);
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
		return ESK_OK;
	pid_t child = fork();
	if (child == 0)
		try_file(os, path, CPU_SECONDS + (uint64_t)st.st_size / CPU_BYTES_A_SECOND, ends[1]);
	close(ends[1]);
	bool sound = child < 0 || survived(child, ends[0], &status);
	close(ends[0]);
	if (sound)
		return ESK_OK;
	return esk_fail(err, ESK_ECORRUPT,
		"%s: its metadata are damaged in a way that libhdf5 %s does not survive (%s): restore it "
		"from a backup",
		path, esk_h5_version(),
		status != -1 && WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "it gave up");
}
