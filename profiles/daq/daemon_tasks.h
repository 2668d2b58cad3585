/* The thread that does what may wait for the disk, one connection after the other, so that the server's need
 * not. Flushes that wait together are one. */
#ifndef ESK_DAQ_DAEMON_TASKS_H
#define ESK_DAQ_DAEMON_TASKS_H

#include "daemon_conn.h"

typedef struct esk_tasks esk_tasks;

/* A link in the queues below: part of whatever owns the connection, which must not go before it is taken
 * back. */
typedef struct esk_task_link {
	struct esk_task_link *next;
	esk_conn *conn;
} esk_task_link;

/* `wake_fd`, an eventfd, is written to when a task is done. Errors: ESK_ENOMEM. */
esk_status esk_tasks_create(const esk_handler *handler, int wake_fd, esk_tasks **ret_tasks, esk_error *err);
/* Hands the task of link->conn over. */
void esk_tasks_put(esk_tasks *tasks, esk_task_link *link);
/* The tasks that are done, as a list; NULL: none. */
esk_task_link *esk_tasks_take_done(esk_tasks *tasks);
/* Does what was put, and ends the thread; then take_done has the last ones. NULL is allowed. */
void esk_tasks_finish(esk_tasks *tasks);
/* After esk_tasks_finish. NULL is allowed. */
void esk_tasks_destroy(esk_tasks *tasks);

#endif
