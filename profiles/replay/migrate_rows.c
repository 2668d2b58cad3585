/* Steps read and parsed by threads, handed on in order.
 *
 * A job is a few steps that follow each other: enough that taking one costs little, few enough that its
 * arrays stay in the caches. Jobs lie in a circle; the threads take the next one not yet begun, the caller's
 * thread the next one not yet handed on.
 *
 *     taken ........ begun ........ taken + JOBS
 *       | done or being parsed | free           |
 *
 * Each thread has its own handle of the database and parses where SQLite has the text. All fields below
 * `mutex` are guarded by it; a job's rows belong to its thread until it is done, then to the caller. */
#include "migrate.h"

#include "internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define JOB_BYTES (1u << 20)
#define JOB_ROWS 64
#define MAX_THREADS 64

typedef struct job {
	esk_migrate_rows rows;
	uint8_t *cells;
	esk_status status;
	esk_error err;
	bool done;
} job;

typedef struct circle {
	const esk_migrate_reading *reading;
	size_t job_rows;
	size_t job_count; /* in all */
	job *jobs;
	size_t size;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	size_t begun;
	size_t taken;
	bool stop;
} circle;

/* ---- a thread's work ---- */

static esk_status parse_job(circle *c, esk_legacy *legacy, size_t number, job *j)
{
	const esk_migrate_reading *reading = c->reading;
	size_t first = number * c->job_rows;
	esk_value values[ESK_LEGACY_COLUMNS];
	j->rows.text.size = 0;
	j->rows.count = reading->count - first < c->job_rows ? reading->count - first : c->job_rows;
	for (size_t i = 0; i < j->rows.count; i++) {
		esk_migrate_row *row = &j->rows.rows[i];
		row->step = reading->steps[first + i];
		row->cells = j->cells + i * reading->layout->cells_bytes;
		esk_status status =
			esk_legacy_fetch(legacy, reading->plan->steps[row->step].rowid, values, &j->err);
		if (status == ESK_OK && !esk_migrate_parse(reading->layout, values, row, &j->rows.text))
			status = esk_fail_memory(&j->err, j->rows.text.size, "the text of a step");
		if (status != ESK_OK)
			return status;
	}
	return ESK_OK;
}

static void *run_thread(void *arg)
{
	circle *c = arg;
	esk_legacy *legacy = NULL;
	esk_error err = {0};
	esk_status opened = esk_legacy_open(c->reading->path, false, &legacy, &err);
	pthread_mutex_lock(&c->mutex);
	for (;;) {
		while (!c->stop && c->begun < c->job_count && c->begun >= c->taken + c->size)
			pthread_cond_wait(&c->changed, &c->mutex);
		if (c->stop || c->begun == c->job_count)
			break;
		size_t number = c->begun++;
		job *j = &c->jobs[number % c->size];
		pthread_mutex_unlock(&c->mutex);
		j->err = err;
		j->status = opened == ESK_OK ? parse_job(c, legacy, number, j) : opened;
		pthread_mutex_lock(&c->mutex);
		j->done = true;
		pthread_cond_broadcast(&c->changed);
	}
	pthread_mutex_unlock(&c->mutex);
	esk_legacy_close(legacy);
	return NULL;
}

/* ---- the caller's ---- */

static esk_status hand_on(circle *c, esk_error *err)
{
	const esk_migrate_reading *reading = c->reading;
	for (size_t number = 0; number < c->job_count; number++) {
		job *j = &c->jobs[number % c->size];
		pthread_mutex_lock(&c->mutex);
		while (!j->done)
			pthread_cond_wait(&c->changed, &c->mutex);
		pthread_mutex_unlock(&c->mutex);
		esk_status status = j->status;
		if (status != ESK_OK && err != NULL)
			*err = j->err;
		if (status == ESK_OK)
			status = reading->take(reading->arg, &j->rows, err);
		if (status != ESK_OK)
			return status;
		pthread_mutex_lock(&c->mutex);
		j->done = false;
		c->taken++;
		pthread_cond_broadcast(&c->changed);
		pthread_mutex_unlock(&c->mutex);
	}
	return ESK_OK;
}

static bool make_jobs(circle *c)
{
	c->jobs = calloc(c->size, sizeof *c->jobs);
	if (c->jobs == NULL)
		return false;
	size_t cells = c->reading->layout->cells_bytes;
	for (size_t i = 0; i < c->size; i++) {
		c->jobs[i].rows.rows = calloc(c->job_rows, sizeof *c->jobs[i].rows.rows);
		c->jobs[i].cells = calloc(c->job_rows, cells + 1);
		if (c->jobs[i].rows.rows == NULL || c->jobs[i].cells == NULL)
			return false;
	}
	return true;
}

static void drop_jobs(circle *c)
{
	for (size_t i = 0; c->jobs != NULL && i < c->size; i++) {
		free(c->jobs[i].rows.rows);
		free(c->jobs[i].rows.text.data);
		free(c->jobs[i].cells);
	}
	free(c->jobs);
}

static esk_status work(circle *c, uint32_t threads, esk_error *err)
{
	pthread_t handles[MAX_THREADS];
	uint32_t started = 0;
	while (started < threads && pthread_create(&handles[started], NULL, run_thread, c) == 0)
		started++;
	esk_status status =
		started > 0 ? hand_on(c, err) : esk_fail(err, ESK_ENOMEM, "no thread could be started");
	pthread_mutex_lock(&c->mutex);
	c->stop = true;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->mutex);
	for (uint32_t i = 0; i < started; i++)
		pthread_join(handles[i], NULL);
	return status;
}

esk_status esk_migrate_read(const esk_migrate_reading *reading, esk_error *err)
{
	if (reading->count == 0)
		return ESK_OK;
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	uint32_t threads = reading->threads != 0 ? reading->threads : (uint32_t)(cores > 0 ? cores : 1);
	threads = threads < MAX_THREADS ? threads : MAX_THREADS;
	size_t rows = JOB_BYTES / (reading->layout->cells_bytes + 1);
	circle c = {.reading = reading, .size = 3 * threads};
	c.job_rows = rows < 1 ? 1 : rows > JOB_ROWS ? JOB_ROWS : rows;
	c.job_count = (reading->count + c.job_rows - 1) / c.job_rows;
	pthread_mutex_init(&c.mutex, NULL);
	pthread_cond_init(&c.changed, NULL);
	esk_status status = make_jobs(&c)
				    ? work(&c, threads, err)
				    : esk_fail_memory(err, c.size * c.job_rows * reading->layout->cells_bytes,
					      "the arrays of some steps");
	drop_jobs(&c);
	pthread_cond_destroy(&c.changed);
	pthread_mutex_destroy(&c.mutex);
	return status;
}
