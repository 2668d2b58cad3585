/* Files that may be damaged, tried out in a child process.
 *
 * libhdf5 (1.10.8) does not survive every damage to metadata: it divides by a chunk dimension of 0, and frees
 * what it never set when a link of a group or an attribute is malformed. What is about to look into a file
 * that may be damaged asks here first. */
#include "h5/h5_internal.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Damage makes libhdf5 loop, too. No sound file takes that long to open and list. */
#define PROBE_CPU_SECONDS 60

/* Walks the index of the dataset's chunks as well. */
static esk_status look(void *arg, esk_h5_dataset *dataset, esk_error *err)
{
	uint64_t bytes;
	(void)arg;
	(void)err;
	esk_h5_stored_bytes(dataset, &bytes, NULL);
	return ESK_OK;
}

static herr_t look_at_attribute(hid_t object, const char *name, const H5A_info_t *info, void *arg)
{
	(void)object;
	(void)name;
	(void)info;
	(void)arg;
	return 0;
}

static herr_t look_at_attributes(hid_t root, const char *name, const esk_h5_object_info *info, void *arg)
{
	hsize_t at = 0;
	(void)info;
	(void)arg;
	H5Aiterate_by_name(root, name, H5_INDEX_NAME, H5_ITER_INC, &at, look_at_attribute, NULL, H5P_DEFAULT);
	return 0;
}

/* In the child: the signals that damage raises end it quietly, whatever handlers the program has. */
static void try_file(const esk_os *os, const char *path)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGABRT, SIGILL, SIGXCPU};
	struct rlimit none = {0, 0}, cpu = {PROBE_CPU_SECONDS, PROBE_CPU_SECONDS};
	sigset_t all;
	esk_h5 *file = NULL;

	setrlimit(RLIMIT_CORE, &none);
	setrlimit(RLIMIT_CPU, &cpu);
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		signal(signals[i], SIG_DFL);
	sigfillset(&all);
	sigprocmask(SIG_UNBLOCK, &all, NULL);
	/* What libhdf5 frees without having set it must not be harmless here by chance, and deadly in the
	 * caller. */
	H5garbage_collect();
	mallopt(M_PERTURB, 0x5A);
	if (esk_h5_open_read(os, path, &file, NULL) == ESK_OK) {
		esk_h5_visit(file, look, NULL, NULL);
		ESK_H5_VISIT(file->id, look_at_attributes, NULL);
		esk_h5_close(file, NULL);
	}
	_exit(0);
}

esk_status esk_h5_probe(const esk_os *os, const char *path, esk_error *err)
{
	int status = 0;
	pid_t done, child = fork();

	if (child < 0)
		return esk_fail_errno(err, errno, "cannot start a process to try %s", path);
	if (child == 0)
		try_file(os, path);
	do
		done = waitpid(child, &status, 0);
	while (done < 0 && errno == EINTR);
	/* A program that waits for all its children may have taken this one: then nothing is known. */
	if (done != child || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
		return ESK_OK;
	return esk_fail(err, ESK_ECORRUPT,
		"%s: its metadata are damaged in a way that libhdf5 %s does not survive (%s): restore it "
		"from a backup",
		path, esk_h5_version(), WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "it gave up");
}
