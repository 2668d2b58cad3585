/* The pool of codec threads.
 *
 *     submit ──► queue (first in, first out, bounded) ──► workers, each with its scratch
 *                  ▲                                        │
 *                  └── threads that wait take jobs too ◄────┘ "done" when a batch's last job ended
 *
 * Invariants, all under `lock`:
 *  1. queued == length of the list first..last <= queue_jobs.
 *  2. batch->pending == jobs of the batch that are queued or running, for a batch whose generation is the
 *     pool's.
 *  3. A scratch in `spare` is in nobody's use; a helping thread takes one from there and puts it back.
 *  4. A job is not touched after its run() began, and a batch not after its pending fell to 0: both may be
 *     gone.
 *
 * fork: the handlers below hold every pool's lock over the fork, so the child finds the invariants kept. It
 * has none of the threads, so it forgets queue and workers, begins a new generation (batches of the old one
 * count as done) and starts threads on its first submission. What the lost threads had in their scratches may
 * be half-changed; it is left alone.
 *
 * May use: base, os, codec.h. */
#include "codec/pool.h"
#include "os/os.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS_MAX = 256 };

typedef struct scratch_list {
	esk_scratch *scratch;
	struct scratch_list *next;
} scratch_list;

struct esk_pool {
	pthread_mutex_t lock;
	pthread_cond_t work; /* a job was queued, or the pool is closing: workers wait here */
	pthread_cond_t done; /* a batch fell to what its waiter wants: those who wait for one wait here */
	pthread_cond_t room; /* a job left the queue: submitters that cannot help wait here */
	esk_job *first;
	esk_job *last;
	uint32_t queued;
	uint32_t queue_jobs;
	uint32_t done_sleepers;
	uint32_t room_sleepers;
	uint32_t thread_wish;
	uint32_t thread_count; /* running; 0 in a child that submitted nothing yet */
	uint32_t generation;
	bool closing;
	scratch_list *spare;
	pthread_t *threads;
	esk_pool *next; /* in `pools` */
};

/* ---- fork ---- */

static pthread_mutex_t pools_lock = PTHREAD_MUTEX_INITIALIZER;
static esk_pool *pools; /* every pool of the process, under pools_lock */
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void fork_prepare(void)
{
	pthread_mutex_lock(&pools_lock);
	for (esk_pool *pool = pools; pool != NULL; pool = pool->next)
		pthread_mutex_lock(&pool->lock);
}

static void fork_parent(void)
{
	for (esk_pool *pool = pools; pool != NULL; pool = pool->next)
		pthread_mutex_unlock(&pool->lock);
	pthread_mutex_unlock(&pools_lock);
}

static void fork_child(void)
{
	for (esk_pool *pool = pools; pool != NULL; pool = pool->next) {
		pthread_cond_init(&pool->work, NULL);
		pthread_cond_init(&pool->done, NULL);
		pthread_cond_init(&pool->room, NULL);
		pool->first = NULL;
		pool->last = NULL;
		pool->queued = 0;
		pool->done_sleepers = 0;
		pool->room_sleepers = 0;
		pool->thread_count = 0;
		pool->generation++;
		pthread_mutex_unlock(&pool->lock);
	}
	pthread_mutex_unlock(&pools_lock);
}

static void fork_watch(void)
{
	pthread_atfork(fork_prepare, fork_parent, fork_child);
}

/* ---- queue; the caller holds the lock ---- */

static void queue_push(esk_pool *pool, esk_job *job)
{
	job->next = NULL;
	if (pool->last != NULL)
		pool->last->next = job;
	else
		pool->first = job;
	pool->last = job;
	pool->queued++;
}

/* Takes the oldest job, of `batch` if not NULL; NULL when there is none. */
static esk_job *queue_pop(esk_pool *pool, const esk_batch *batch)
{
	esk_job *before = NULL;
	esk_job *job = pool->first;
	while (job != NULL && batch != NULL && job->batch != batch) {
		before = job;
		job = job->next;
	}
	if (job == NULL)
		return NULL;
	if (before != NULL)
		before->next = job->next;
	else
		pool->first = job->next;
	if (pool->last == job)
		pool->last = before;
	pool->queued--;
	return job;
}

/* Runs a job that was taken from the queue; the lock is released meanwhile. */
static void job_run(esk_pool *pool, esk_job *job, esk_scratch *scratch)
{
	esk_batch *batch = job->batch;
	if (pool->room_sleepers > 0)
		pthread_cond_broadcast(&pool->room);
	pthread_mutex_unlock(&pool->lock);
	job->run(job, scratch);
	pthread_mutex_lock(&pool->lock);
	if (--batch->pending <= batch->wanted && pool->done_sleepers > 0)
		pthread_cond_broadcast(&pool->done);
}

/* Lets the calling thread run one queued job. False when there is none, or no memory for a scratch. */
static bool job_help(esk_pool *pool, const esk_batch *batch)
{
	esk_job *job = queue_pop(pool, batch);
	if (job == NULL)
		return false;
	scratch_list *item = pool->spare;
	if (item != NULL) {
		pool->spare = item->next;
	} else {
		item = malloc(sizeof *item);
		esk_scratch *scratch = item != NULL ? esk_scratch_create() : NULL;
		if (scratch == NULL) {
			free(item);
			/* Back to where it was last: the order of jobs means nothing. */
			queue_push(pool, job);
			return false;
		}
		item->scratch = scratch;
	}
	job_run(pool, job, item->scratch);
	item->next = pool->spare;
	pool->spare = item;
	return true;
}

static void sleep_on(esk_pool *pool, pthread_cond_t *cond, uint32_t *sleepers)
{
	++*sleepers;
	pthread_cond_wait(cond, &pool->lock);
	--*sleepers;
}

/* ---- workers ---- */

typedef struct worker {
	esk_pool *pool;
	esk_scratch *scratch;
} worker;

static void *worker_main(void *arg)
{
	worker w = *(worker *)arg;
	free(arg);
	pthread_mutex_lock(&w.pool->lock);
	for (;;) {
		esk_job *job = queue_pop(w.pool, NULL);
		if (job != NULL)
			job_run(w.pool, job, w.scratch);
		else if (w.pool->closing)
			break;
		else
			pthread_cond_wait(&w.pool->work, &w.pool->lock);
	}
	pthread_mutex_unlock(&w.pool->lock);
	esk_scratch_destroy(w.scratch);
	return NULL;
}

static int worker_start(esk_pool *pool, pthread_t *ret_thread)
{
	worker *w = malloc(sizeof *w);
	if (w == NULL)
		return ENOMEM;
	*w = (worker){pool, esk_scratch_create()};
	int errnum = w->scratch == NULL ? ENOMEM : 0;
	if (errnum == 0) {
		/* Signals are the host program's: workers take none. */
		sigset_t all, before;
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &before);
		errnum = pthread_create(ret_thread, NULL, worker_main, w);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
	if (errnum != 0) {
		esk_scratch_destroy(w->scratch);
		free(w);
	}
	return errnum;
}

/* Starts the threads that are missing; 0, or why the first of them did not start. With fewer threads than
 * wished the pool works on: those who wait help. The caller holds the lock. */
static int workers_start(esk_pool *pool)
{
	while (pool->thread_count < pool->thread_wish) {
		int errnum = worker_start(pool, &pool->threads[pool->thread_count]);
		if (errnum != 0)
			return errnum;
		pool->thread_count++;
	}
	return 0;
}

/* ---- pool.h ---- */

esk_status esk_pool_create(uint32_t threads, uint32_t queue_jobs, esk_pool **ret_pool, esk_error *err)
{
	if (threads == 0)
		threads = esk_os_cores();
	if (threads > THREADS_MAX || queue_jobs == 0)
		return esk_fail(err, ESK_EINVAL,
			"codec pool of %u threads and a queue of %u jobs; expected 1 to %d threads (0: one "
			"per core) and at least 1 job",
			threads, queue_jobs, THREADS_MAX);
	pthread_once(&fork_once, fork_watch);

	esk_pool *pool = calloc(1, sizeof *pool);
	pthread_t *ids = calloc(threads, sizeof *ids);
	if (pool == NULL || ids == NULL) {
		free(pool);
		free(ids);
		return esk_fail_memory(err, sizeof *pool + threads * sizeof *ids, "the codec pool");
	}
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	pthread_cond_init(&pool->done, NULL);
	pthread_cond_init(&pool->room, NULL);
	pool->queue_jobs = queue_jobs;
	pool->thread_wish = threads;
	pool->threads = ids;

	pthread_mutex_lock(&pools_lock);
	pool->next = pools;
	pools = pool;
	pthread_mutex_unlock(&pools_lock);

	pthread_mutex_lock(&pool->lock);
	int errnum = workers_start(pool);
	pthread_mutex_unlock(&pool->lock);
	if (errnum != 0) {
		esk_pool_destroy(pool);
		return esk_fail_errno(err, errnum, "cannot start %u codec threads", threads);
	}
	*ret_pool = pool;
	return ESK_OK;
}

void esk_pool_destroy(esk_pool *pool)
{
	if (pool == NULL)
		return;
	pthread_mutex_lock(&pools_lock);
	for (esk_pool **link = &pools; *link != NULL; link = &(*link)->next) {
		if (*link == pool) {
			*link = pool->next;
			break;
		}
	}
	pthread_mutex_unlock(&pools_lock);

	pthread_mutex_lock(&pool->lock);
	pool->closing = true;
	pthread_cond_broadcast(&pool->work);
	uint32_t count = pool->thread_count;
	pthread_mutex_unlock(&pool->lock);
	for (uint32_t i = 0; i < count; i++)
		pthread_join(pool->threads[i], NULL);
	while (pool->spare != NULL) {
		scratch_list *item = pool->spare;
		pool->spare = item->next;
		esk_scratch_destroy(item->scratch);
		free(item);
	}
	pthread_mutex_destroy(&pool->lock);
	pthread_cond_destroy(&pool->work);
	pthread_cond_destroy(&pool->done);
	pthread_cond_destroy(&pool->room);
	free(pool->threads);
	free(pool);
}

uint32_t esk_pool_threads(const esk_pool *pool)
{
	return pool->thread_wish;
}

void esk_batch_init(esk_batch *batch, esk_pool *pool)
{
	*batch = (esk_batch){.pool = pool};
	pthread_mutex_lock(&pool->lock);
	batch->generation = pool->generation;
	pthread_mutex_unlock(&pool->lock);
}

/* In a child, jobs that its parent had queued are the parent's. */
static void batch_renew(esk_batch *batch)
{
	if (batch->generation == batch->pool->generation)
		return;
	batch->generation = batch->pool->generation;
	batch->pending = 0;
}

void esk_batch_submit(esk_batch *batch, esk_job *job)
{
	esk_pool *pool = batch->pool;
	pthread_mutex_lock(&pool->lock);
	batch_renew(batch);
	if (pool->thread_count == 0)
		workers_start(pool);
	while (pool->queued >= pool->queue_jobs)
		if (!job_help(pool, NULL))
			sleep_on(pool, &pool->room, &pool->room_sleepers);
	job->batch = batch;
	batch->pending++;
	queue_push(pool, job);
	pthread_cond_signal(&pool->work);
	pthread_mutex_unlock(&pool->lock);
}

/* Until at most `wanted` jobs are pending. One thread at a time waits for a batch. */
static void wait_until(esk_batch *batch, uint64_t wanted)
{
	esk_pool *pool = batch->pool;
	batch->wanted = wanted;
	while (batch->pending > wanted)
		if (!job_help(pool, batch))
			sleep_on(pool, &pool->done, &pool->done_sleepers);
	batch->wanted = 0;
}

void esk_batch_wait(esk_batch *batch)
{
	pthread_mutex_lock(&batch->pool->lock);
	batch_renew(batch);
	wait_until(batch, 0);
	pthread_mutex_unlock(&batch->pool->lock);
}

void esk_batch_wait_one(esk_batch *batch)
{
	pthread_mutex_lock(&batch->pool->lock);
	batch_renew(batch);
	if (batch->pending > 0)
		wait_until(batch, batch->pending - 1);
	pthread_mutex_unlock(&batch->pool->lock);
}
