/* The daemon's lock and socket: see daemon_place.h.
 *
 * Order: the lock first, so that what happens to the socket is done by one process at a time; a socket that
 * is there while the lock was free is left from a daemon that died, or another store's daemon listens at it.
 */
#include "daemon_place.h"

#include <esker/profile.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 64

/* ---- addresses ---- */

/* The address of `name` in the folder: through /proc, since an address takes 107 bytes and paths are longer.
 */
static bool make_address(int folder_fd, const char *name, struct sockaddr_un *ret_address)
{
	*ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
	int size = snprintf(
		ret_address->sun_path, sizeof ret_address->sun_path, "/proc/self/fd/%d/%s", folder_fd, name);
	return size > 0 && (size_t)size < sizeof ret_address->sun_path;
}

static esk_status open_folder(const char *path, int *ret_fd, const char **ret_name, esk_error *err)
{
	const char *slash = strrchr(path, '/');
	char *folder = slash == NULL   ? strdup(".")
		       : slash == path ? strdup("/")
				       : strndup(path, (size_t)(slash - path));
	if (folder == NULL)
		return esk_fail_memory(err, strlen(path), "a path");
	*ret_name = slash == NULL ? path : slash + 1;
	esk_status status = ESK_OK;
	int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		status = esk_fail_errno(err, errno, "%s", folder);
	else
		*ret_fd = fd;
	free(folder);
	return status;
}

static esk_status fail_to_connect(const char *path, int errnum, esk_error *err)
{
	if (errnum == ENOENT || errnum == ECONNREFUSED || errnum == ENOTSOCK)
		return esk_fail(err, ESK_ENOTFOUND, "%s: no daemon %s", path,
			errnum == ENOENT ? "is there" : "listens there any more");
	return esk_fail_errno(err, errnum, "%s: connecting", path);
}

esk_status esk_socket_connect(const char *socket_path, int *ret_fd, esk_error *err)
{
	struct sockaddr_un address;
	int folder_fd, fd;
	const char *name;
	esk_status status = open_folder(socket_path, &folder_fd, &name, err);
	if (status != ESK_OK)
		return status;
	if (!make_address(folder_fd, name, &address)) {
		status = esk_fail(err, ESK_EINVAL, "%s: the socket's name is too long", socket_path);
		goto address;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		status = esk_fail_errno(err, errno, "%s: a socket", socket_path);
		goto address;
	}
	if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
		status = fail_to_connect(socket_path, errno, err);
		close(fd);
		goto address;
	}
	*ret_fd = fd;
address:
	close(folder_fd);
	return status;
}

static char *join(const char *folder, const char *name)
{
	size_t size = strlen(folder) + strlen(name) + 2;
	char *path = malloc(size);
	if (path != NULL)
		snprintf(path, size, "%s/%s", folder, name);
	return path;
}

esk_status esk_socket_path(const char *path, char **ret_path, esk_error *err)
{
	struct stat st;
	bool folder = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
	char *socket_path = folder ? join(path, ESK_SOCKET_IN_STORE) : strdup(path);
	if (socket_path == NULL)
		return esk_fail_memory(err, strlen(path), "a path");
	*ret_path = socket_path;
	return ESK_OK;
}

/* ---- the lock ---- */

static esk_status fail_locked(int fd, const char *path, esk_error *err)
{
	char text[32] = "";
	ssize_t size = pread(fd, text, sizeof text - 1, 0);
	long pid = size > 0 ? strtol(text, NULL, 10) : 0;
	return esk_fail(err, ESK_EBUSY,
		"%s: another daemon%s%.0ld serves this store; 'esker status' asks it how it is", path,
		pid > 0 ? ", process " : "", pid);
}

static esk_status take_lock(const char *store_path, int *ret_fd, esk_error *err)
{
	char *path = join(store_path, "spool/daemon.lock");
	if (path == NULL)
		return esk_fail_memory(err, strlen(store_path), "a path");
	esk_status status = ESK_OK;
	char text[32];
	int size = snprintf(text, sizeof text, "%ld\n", (long)getpid());
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		status = esk_fail_errno(err, errno, "%s", path);
	else if (flock(fd, LOCK_EX | LOCK_NB) != 0)
		status = errno == EWOULDBLOCK ? fail_locked(fd, path, err)
					      : esk_fail_errno(err, errno, "%s: locking", path);
	else if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)size, 0) != size)
		status = esk_fail_errno(err, errno, "%s: writing", path);
	free(path);
	if (status == ESK_OK)
		*ret_fd = fd;
	else if (fd >= 0)
		close(fd);
	return status;
}

/* ---- the socket ---- */

/* Whoever may rename in the folder could put a socket of their own in the place of ours. */
static esk_status check_folder(const esk_daemon_place *place, esk_error *err)
{
	struct stat st;
	if (fstat(place->folder_fd, &st) != 0)
		return esk_fail_errno(err, errno, "%s: its directory", place->socket_path);
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return esk_fail(err, ESK_EACCES,
			"%s: its directory belongs to user %u, the daemon runs as %u", place->socket_path,
			(unsigned)st.st_uid, (unsigned)geteuid());
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0 && (st.st_mode & S_ISVTX) == 0)
		return esk_fail(err, ESK_EACCES,
			"%s: its directory may be written to by others (mode %04o): 'chmod go-w' it",
			place->socket_path, (unsigned)(st.st_mode & 07777));
	return ESK_OK;
}

static esk_status remove_stale(const esk_daemon_place *place, esk_error *err)
{
	struct stat st;
	int fd;
	if (fstatat(place->folder_fd, place->name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? ESK_OK : esk_fail_errno(err, errno, "%s", place->socket_path);
	if (!S_ISSOCK(st.st_mode))
		return esk_fail(
			err, ESK_EEXIST, "%s: a file that is no socket is in its place", place->socket_path);
	esk_error why = {0};
	esk_status status = esk_socket_connect(place->socket_path, &fd, &why);
	if (status == ESK_OK) {
		close(fd);
		return esk_fail(err, ESK_EBUSY, "%s: a daemon listens there already", place->socket_path);
	}
	if (status != ESK_ENOTFOUND)
		return esk_fail(err, status, "%s", why.message);
	if (unlinkat(place->folder_fd, place->name, 0) != 0 && errno != ENOENT)
		return esk_fail_errno(err, errno, "%s: removing what a dead daemon left", place->socket_path);
	return ESK_OK;
}

static esk_status bind_socket(esk_daemon_place *place, esk_error *err)
{
	struct sockaddr_un address;
	if (place->name[0] == '\0' || !make_address(place->folder_fd, place->name, &address))
		return esk_fail(
			err, ESK_EINVAL, "%s: no name for a socket, or too long a one", place->socket_path);
	place->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* The socket in the file system gets the mode that the descriptor has: nobody else can connect in
	 * between. */
	if (place->listen_fd < 0 || fchmod(place->listen_fd, 0600) != 0 ||
		bind(place->listen_fd, (struct sockaddr *)&address, sizeof address) != 0 ||
		listen(place->listen_fd, BACKLOG) != 0)
		return esk_fail_errno(err, errno, "%s: a socket", place->socket_path);
	return ESK_OK;
}

esk_status esk_daemon_place_take(
	const char *store_path, const char *socket_path, esk_daemon_place *ret_place, esk_error *err)
{
	esk_daemon_place place = {.lock_fd = -1, .folder_fd = -1, .listen_fd = -1};
	esk_status status = take_lock(store_path, &place.lock_fd, err);
	if (status != ESK_OK)
		return status;
	place.socket_path = socket_path != NULL ? strdup(socket_path) : join(store_path, ESK_SOCKET_IN_STORE);
	if (place.socket_path == NULL)
		status = esk_fail_memory(err, strlen(store_path), "a path");
	if (status == ESK_OK)
		status = open_folder(place.socket_path, &place.folder_fd, &place.name, err);
	if (status == ESK_OK)
		status = check_folder(&place, err);
	if (status == ESK_OK)
		status = remove_stale(&place, err);
	if (status == ESK_OK)
		status = bind_socket(&place, err);
	if (status != ESK_OK) {
		if (place.listen_fd >= 0)
			close(place.listen_fd);
		place.listen_fd = -1;
		esk_daemon_place_leave(&place);
		return status;
	}
	*ret_place = place;
	return ESK_OK;
}

void esk_daemon_place_leave(esk_daemon_place *place)
{
	if (place->listen_fd >= 0) {
		(void)unlinkat(place->folder_fd, place->name, 0);
		close(place->listen_fd);
	}
	if (place->folder_fd >= 0)
		close(place->folder_fd);
	if (place->lock_fd >= 0)
		close(place->lock_fd);
	free(place->socket_path);
	*place = (esk_daemon_place){.lock_fd = -1, .folder_fd = -1, .listen_fd = -1};
}
