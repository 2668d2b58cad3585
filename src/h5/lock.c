/* libhdf5's lock, what fork needs of it, and its error stack made one message. */
#include "h5/h5_internal.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static pthread_mutex_t library_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t library_once = PTHREAD_ONCE_INIT;

/* What printed libhdf5's errors before this call: a program that uses libhdf5 itself gets it back. Under the
 * lock. */
static struct {
	bool known;
	H5E_auto2_t function;
	void *arg;
} printing;

/* What the error stack said before esk_h5_drop emptied it; "" for nothing. Under the lock. */
static char kept_reason[sizeof((esk_error *)NULL)->message];

static void take(void)
{
	pthread_mutex_lock(&library_lock);
}

static void give(void)
{
	pthread_mutex_unlock(&library_lock);
}

static void start_library(void)
{
	/* Nobody is inside libhdf5 while the process forks, so the child's copy of it is consistent. */
	pthread_atfork(take, give, give);
}

void esk_h5_lock(void)
{
	pthread_once(&library_once, start_library);
	take();
	printing.known = H5Eget_auto2(H5E_DEFAULT, &printing.function, &printing.arg) >= 0;
	H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
	esk_h5_driver_clear_error();
	kept_reason[0] = '\0';
}

void esk_h5_unlock(void)
{
	if (printing.known)
		H5Eset_auto2(H5E_DEFAULT, printing.function, printing.arg);
	give();
}

esk_h5_stamp esk_h5_stamp_take(const esk_h5 *file)
{
	struct stat st;
	esk_h5_stamp stamp = {.counter = esk_jfile_change_counter(file->jfile)};

	if (stamp.counter == 0 && stat(file->path, &st) == 0) {
		stamp.inode = st.st_ino;
		stamp.size_bytes = (uint64_t)st.st_size;
		stamp.modified_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
	}
	return stamp;
}

bool esk_h5_stamp_differs(const esk_h5_stamp *then, const esk_h5_stamp *now)
{
	if (then->counter != now->counter)
		return true;
	/* Under another inode the name has passed to another file; ours was renamed and is as it was. */
	return then->inode == now->inode &&
	       (then->size_bytes != now->size_bytes || then->modified_ns != now->modified_ns);
}

static bool stale(const esk_h5 *file)
{
	if (file->writable)
		return false;
	esk_h5_stamp now = esk_h5_stamp_take(file);
	return esk_h5_stamp_differs(&file->stamp, &now);
}

bool esk_h5_is_stale(esk_h5 *file)
{
	return stale(file);
}

esk_status esk_h5_fail_stale(esk_h5 *file, esk_error *err)
{
	return esk_fail(err, ESK_EBUSY,
		"%s was committed to since it was opened for reading: refresh the reader (open it again)",
		file->path);
}

esk_status esk_h5_enter(esk_h5 *file, esk_error *err)
{
	if (stale(file))
		return esk_h5_fail_stale(file, err);
	esk_h5_lock();
	return ESK_OK;
}

esk_status esk_h5_leave(esk_h5 *file, esk_status status, esk_error *err)
{
	esk_h5_unlock();
	return stale(file) ? esk_h5_fail_stale(file, err) : status;
}

static herr_t take_innermost(unsigned n, const H5E_error2_t *entry, void *arg)
{
	if (n == 0 && entry->desc)
		snprintf(arg, sizeof kept_reason, "%s", entry->desc);
	return 0;
}

void esk_h5_drop(hid_t id)
{
	if (id < 0)
		return;
	H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_innermost, kept_reason);
	H5Idec_ref(id);
}

esk_status esk_h5_fail(esk_error *err, esk_status code, const char *format, ...)
{
	const esk_error *cause = esk_h5_driver_error();
	char what[sizeof cause->message];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof what, format, args);
	va_end(args);
	if (cause)
		return esk_fail(err, cause->code, "%s: %s", what, cause->message);
	H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_innermost, kept_reason);
	return esk_fail(err, code, "%s: %s", what, kept_reason[0] ? kept_reason : "libhdf5 gave no reason");
}

const char *esk_h5_version(void)
{
	static char text[32];
	unsigned major = 0, minor = 0, release = 0;

	esk_h5_lock();
	if (text[0] == '\0' && H5get_libversion(&major, &minor, &release) >= 0)
		snprintf(text, sizeof text, "%u.%u.%u", major, minor, release);
	esk_h5_unlock();
	return text;
}

const char *esk_h5_plugin_path(void)
{
	static char text[4096];
	unsigned count = 0;

	esk_h5_lock();
	if (text[0] == '\0' && H5PLsize(&count) >= 0) {
		size_t used = 0;
		for (unsigned i = 0; i < count && used + 2 < sizeof text; i++) {
			if (i > 0)
				text[used++] = ':';
			ssize_t size = H5PLget(i, text + used, sizeof text - used);
			if (size <= 0)
				break;
			used += strnlen(text + used, sizeof text - used);
		}
	}
	esk_h5_unlock();
	return text;
}
