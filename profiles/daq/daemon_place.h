/* Where a daemon is found: its lock, its socket. */
#ifndef ESK_DAQ_DAEMON_PLACE_H
#define ESK_DAQ_DAEMON_PLACE_H

#include <esker/status.h>

#define ESK_SOCKET_IN_STORE "spool/daemon.sock"

typedef struct esk_daemon_place {
	char *socket_path;
	int lock_fd;      /* STORE/spool/daemon.lock, locked: one daemon per store */
	int folder_fd;    /* of the socket: its path may be longer than a socket's address */
	int listen_fd;    /* bound, listening, not blocking */
	const char *name; /* of the socket in its folder; into socket_path */
} esk_daemon_place;

/* Takes the store's lock and makes the socket (`socket_path` NULL: in the store). The store must exist. A
 * socket that nobody listens at is replaced. Errors: those of esk_daemon_open. */
esk_status esk_daemon_place_take(
	const char *store_path, const char *socket_path, esk_daemon_place *ret_place, esk_error *err);
/* Removes the socket and lets the lock go; a place that was not taken is { .lock_fd = -1, … }. */
void esk_daemon_place_leave(esk_daemon_place *place);

/* Connects to a socket, whatever the length of its path; *ret_fd blocks. Errors: ESK_ENOTFOUND (nothing
 * there, or nobody listens), ESK_EACCES, ESK_EIO, ESK_ENOMEM. */
esk_status esk_socket_connect(const char *socket_path, int *ret_fd, esk_error *err);

/* "STORE/spool/daemon.sock", or `path` itself where it is no directory; free(). Errors: ESK_ENOMEM. */
esk_status esk_socket_path(const char *path, char **ret_path, esk_error *err);

#endif
