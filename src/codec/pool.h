/* A pool of worker threads, each with its own codec scratch. Jobs are the caller's memory (intrusive), so
 * that nothing is allocated while recording. May include: base, os, codec.h.
 *
 * A pool belongs to the process that made it: after fork, a child's first submission starts threads of its
 * own, and jobs that were queued or running at the fork are the parent's alone (a wait for them returns at
 * once). */
#ifndef ESK_POOL_H
#define ESK_POOL_H

#include "codec/codec.h"

typedef struct esk_pool esk_pool;
typedef struct esk_job esk_job;
typedef struct esk_batch esk_batch;

struct esk_job {
	void (*run)(esk_job *job,
		esk_scratch *scratch); /* in a worker, or in a thread that waits for the batch */
	esk_batch *batch;              /* set by submit */
	esk_job *next;                 /* the pool's while queued */
};

/* Jobs that are waited for together. Zero-initialise with esk_batch_init before use. */
struct esk_batch {
	esk_pool *pool;
	uint64_t pending;    /* under the pool's lock, as is the next */
	uint64_t wanted;     /* whoever waits for it is woken when `pending` falls to this */
	uint32_t generation; /* the pool's when the jobs were submitted: tells a parent's jobs in a forked
				child */
};

/* `threads` 0: one per core. `queue_jobs`: submissions beyond wait. Safe from any thread. */
esk_status esk_pool_create(uint32_t threads, uint32_t queue_jobs, esk_pool **ret_pool, esk_error *err);
void esk_pool_destroy(esk_pool *pool); /* after all batches are done; NULL is allowed */
uint32_t esk_pool_threads(const esk_pool *pool);

void esk_batch_init(esk_batch *batch, esk_pool *pool);
/* Queues `job`. With the queue full, the caller runs one queued job itself rather than sleeping. When run
 * returns the job's memory is the caller's again (once the batch's wait returned, or as the job itself
 * tells). */
void esk_batch_submit(esk_batch *batch, esk_job *job);
/* Runs queued jobs (of this batch) in the calling thread until none is left, then waits for those in other
 * threads. */
void esk_batch_wait(esk_batch *batch);
/* Waits for one job to end, whichever, and runs a queued one itself if there is one; returns at once if none
 * is pending. */
void esk_batch_wait_one(esk_batch *batch);

#endif
