/* Tasks that may wait for the disk: see daemon_tasks.h.
 *
 * The lock guards both queues; a connection's task belongs to whoever holds its link: the server's thread,
 * until esk_tasks_put and from esk_tasks_take_done on, and this thread between. */
#include "daemon_tasks.h"

#include <esker/profile.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

typedef struct queue {
	esk_task_link *first;
	esk_task_link **end;
} queue;

struct esk_tasks {
	const esk_handler *handler;
	int wake_fd;
	pthread_mutex_t lock;
	pthread_cond_t put;
	queue waiting;
	queue done;
	bool finishing;
	bool running;
	pthread_t thread;
};

static void queue_clear(queue *q)
{
	q->first = NULL;
	q->end = &q->first;
}

static void queue_add(queue *q, esk_task_link *link)
{
	link->next = NULL;
	*q->end = link;
	q->end = &link->next;
}

/* Moves the first link, and with a flush every other flush, from `waiting` to `batch`. */
static void take_batch(queue *waiting, queue *batch)
{
	esk_task_link *link = waiting->first;
	esk_task_kind kind = esk_conn_task_kind(link->conn);
	queue rest;
	queue_clear(&rest);
	queue_clear(batch);
	for (esk_task_link *next; link != NULL; link = next) {
		next = link->next;
		bool along = batch->first == NULL ||
			     (kind == ESK_TASK_FLUSH && esk_conn_task_kind(link->conn) == kind);
		queue_add(along ? batch : &rest, link);
	}
	queue_clear(waiting);
	if (rest.first != NULL) {
		waiting->first = rest.first;
		waiting->end = rest.end;
	}
}

static void run_batch(esk_tasks *tasks, const queue *batch)
{
	if (esk_conn_task_kind(batch->first->conn) != ESK_TASK_FLUSH) {
		esk_conn_run_task(batch->first->conn);
		return;
	}
	esk_error why = {0};
	esk_status status = tasks->handler->flush(tasks->handler->arg, &why);
	for (esk_task_link *link = batch->first; link != NULL; link = link->next)
		esk_conn_set_task_outcome(link->conn, status, &why);
}

static void *work(void *arg)
{
	esk_tasks *tasks = arg;
	queue batch;
	pthread_mutex_lock(&tasks->lock);
	for (;;) {
		while (tasks->waiting.first == NULL && !tasks->finishing)
			pthread_cond_wait(&tasks->put, &tasks->lock);
		if (tasks->waiting.first == NULL)
			break;
		take_batch(&tasks->waiting, &batch);
		pthread_mutex_unlock(&tasks->lock);
		run_batch(tasks, &batch);
		pthread_mutex_lock(&tasks->lock);
		*tasks->done.end = batch.first;
		tasks->done.end = batch.end;
		(void)eventfd_write(tasks->wake_fd, 1);
	}
	pthread_mutex_unlock(&tasks->lock);
	return NULL;
}

esk_status esk_tasks_create(const esk_handler *handler, int wake_fd, esk_tasks **ret_tasks, esk_error *err)
{
	esk_tasks *tasks = calloc(1, sizeof *tasks);
	if (tasks == NULL)
		return esk_fail_memory(err, sizeof *tasks, "a thread for tasks");
	tasks->handler = handler;
	tasks->wake_fd = wake_fd;
	queue_clear(&tasks->waiting);
	queue_clear(&tasks->done);
	pthread_mutex_init(&tasks->lock, NULL);
	pthread_cond_init(&tasks->put, NULL);
	int code = pthread_create(&tasks->thread, NULL, work, tasks);
	if (code != 0) {
		esk_tasks_destroy(tasks);
		return esk_fail_errno(err, code, "a thread for tasks");
	}
	tasks->running = true;
	*ret_tasks = tasks;
	return ESK_OK;
}

void esk_tasks_put(esk_tasks *tasks, esk_task_link *link)
{
	pthread_mutex_lock(&tasks->lock);
	queue_add(&tasks->waiting, link);
	pthread_cond_signal(&tasks->put);
	pthread_mutex_unlock(&tasks->lock);
}

esk_task_link *esk_tasks_take_done(esk_tasks *tasks)
{
	pthread_mutex_lock(&tasks->lock);
	esk_task_link *first = tasks->done.first;
	queue_clear(&tasks->done);
	pthread_mutex_unlock(&tasks->lock);
	return first;
}

void esk_tasks_finish(esk_tasks *tasks)
{
	if (tasks == NULL || !tasks->running)
		return;
	pthread_mutex_lock(&tasks->lock);
	tasks->finishing = true;
	pthread_cond_signal(&tasks->put);
	pthread_mutex_unlock(&tasks->lock);
	pthread_join(tasks->thread, NULL);
	tasks->running = false;
}

void esk_tasks_destroy(esk_tasks *tasks)
{
	if (tasks == NULL)
		return;
	pthread_cond_destroy(&tasks->put);
	pthread_mutex_destroy(&tasks->lock);
	free(tasks);
}
