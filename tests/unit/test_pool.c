/* The pool: every job runs once, a full queue and a waiting thread help, forks are survived. */
#include "codec/pool.h"
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka wants setjmp.h, stdarg.h and stddef.h first */
#include <cmocka.h>

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif

typedef struct count_job {
	esk_job job;
	int ran; /* the batch's wait orders it before the test's look */
	_Atomic int *started;
	const _Atomic bool *gate; /* runs on only once this is true */
	pthread_t thread;
} count_job;

static void count_run(esk_job *job, esk_scratch *scratch)
{
	count_job *c = (count_job *)job;
	assert_non_null(scratch);
	c->thread = pthread_self();
	if (c->started != NULL)
		atomic_fetch_add(c->started, 1);
	while (c->gate != NULL && !atomic_load(c->gate))
		usleep(200);
	c->ran++;
}

static esk_pool *pool_new(uint32_t threads, uint32_t queue_jobs)
{
	esk_pool *pool;
	esk_error err;
	if (esk_pool_create(threads, queue_jobs, &pool, &err) != ESK_OK)
		fail_msg("%s", err.message);
	return pool;
}

static void every_job_runs_once(void **state)
{
	static const uint32_t shapes[][2] = {{1, 1}, {1, 64}, {2, 1}, {3, 7}, {8, 200}};
	for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
		esk_pool *pool = pool_new(shapes[s][0], shapes[s][1]);
		assert_int_equal(esk_pool_threads(pool), shapes[s][0]);
		for (int round = 0; round < 20; round++) {
			count_job jobs[100];
			memset(jobs, 0, sizeof jobs);
			esk_batch batch;
			esk_batch_init(&batch, pool);
			for (int i = 0; i < 100; i++) {
				jobs[i].job.run = count_run;
				esk_batch_submit(&batch, &jobs[i].job);
			}
			esk_batch_wait(&batch);
			for (int i = 0; i < 100; i++)
				assert_int_equal(jobs[i].ran, 1);
		}
		esk_pool_destroy(pool);
	}
}

static void threads_default_to_the_cores(void **state)
{
	esk_pool *pool = pool_new(0, 4);
	assert_int_equal(esk_pool_threads(pool), sysconf(_SC_NPROCESSORS_ONLN));
	esk_pool_destroy(pool);
	esk_pool_destroy(NULL);
}

static void bad_sizes_are_refused(void **state)
{
	esk_pool *pool;
	esk_error err;
	assert_int_equal(esk_pool_create(1, 0, &pool, &err), ESK_EINVAL);
	assert_int_equal(esk_pool_create(100000, 1, &pool, &err), ESK_EINVAL);
	assert_non_null(strstr(err.message, "100000"));
}

static void a_full_queue_makes_the_submitter_help(void **state)
{
	esk_pool *pool = pool_new(1, 2);
	_Atomic bool gate = false;
	_Atomic int started = 0;
	count_job jobs[5];
	memset(jobs, 0, sizeof jobs);
	esk_batch batch;
	esk_batch_init(&batch, pool);
	/* The only worker is held by the first job; two more fill the queue; the others run here. */
	for (int i = 0; i < 5; i++) {
		jobs[i].job.run = count_run;
		jobs[i].gate = i == 0 ? &gate : NULL;
		jobs[i].started = &started;
		esk_batch_submit(&batch, &jobs[i].job);
		while (i == 0 && atomic_load(&started) == 0)
			usleep(200);
	}
	assert_int_equal(atomic_load(&started), 3);
	assert_true(pthread_equal(jobs[1].thread, pthread_self()));
	assert_true(pthread_equal(jobs[2].thread, pthread_self()));
	assert_false(pthread_equal(jobs[0].thread, pthread_self()));
	atomic_store(&gate, true);
	esk_batch_wait(&batch);
	assert_int_equal(atomic_load(&started), 5);
	esk_pool_destroy(pool);
}

static void a_waiting_thread_helps_its_own_batch_only(void **state)
{
	esk_pool *pool = pool_new(1, 16);
	_Atomic bool gate = false;
	_Atomic int started = 0;
	count_job hold = {.job.run = count_run, .gate = &gate, .started = &started};
	count_job other = {.job.run = count_run};
	count_job mine[3];
	memset(mine, 0, sizeof mine);
	esk_batch batch, others;
	esk_batch_init(&batch, pool);
	esk_batch_init(&others, pool);
	esk_batch_submit(&others, &hold.job);
	while (atomic_load(&started) == 0)
		usleep(200);
	esk_batch_submit(&others, &other.job);
	for (int i = 0; i < 3; i++) {
		mine[i].job.run = count_run;
		esk_batch_submit(&batch, &mine[i].job);
	}
	/* The worker is held: only this thread can run them, and it leaves the other batch's job alone. */
	esk_batch_wait(&batch);
	for (int i = 0; i < 3; i++)
		assert_true(mine[i].ran == 1 && pthread_equal(mine[i].thread, pthread_self()));
	assert_int_equal(other.ran, 0);
	atomic_store(&gate, true);
	esk_batch_wait(&others);
	assert_int_equal(other.ran, 1);
	esk_pool_destroy(pool);
}

enum { SUBMITTERS = 4, PER_SUBMITTER = 300 };

static void *submitter_main(void *arg)
{
	esk_pool *pool = arg;
	count_job *jobs = calloc(PER_SUBMITTER, sizeof *jobs);
	esk_batch batch;
	esk_batch_init(&batch, pool);
	for (int i = 0; i < PER_SUBMITTER; i++) {
		jobs[i].job.run = count_run;
		esk_batch_submit(&batch, &jobs[i].job);
		if (i % 50 == 49)
			esk_batch_wait(&batch);
	}
	esk_batch_wait(&batch);
	intptr_t ran = 0;
	for (int i = 0; i < PER_SUBMITTER; i++)
		ran += jobs[i].ran;
	free(jobs);
	return (void *)ran;
}

static void many_threads_may_submit(void **state)
{
	esk_pool *pool = pool_new(2, 5);
	pthread_t threads[SUBMITTERS];
	for (int i = 0; i < SUBMITTERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, submitter_main, pool), 0);
	for (int i = 0; i < SUBMITTERS; i++) {
		void *ran;
		pthread_join(threads[i], &ran);
		assert_int_equal((intptr_t)ran, PER_SUBMITTER);
	}
	esk_pool_destroy(pool);
}

typedef struct codec_job {
	esk_job job;
	const esk_pipeline *pipeline;
	uint8_t *data;
	size_t size;
	bool same;
} codec_job;

static void codec_run(esk_job *job, esk_scratch *scratch)
{
	codec_job *c = (codec_job *)job;
	esk_span span = {c->data, c->size};
	size_t bound = esk_pipeline_bound(c->pipeline), packed_size;
	uint8_t *packed = malloc(bound), *found = malloc(c->size);
	uint32_t mask;
	c->same = esk_pipeline_encode(c->pipeline, scratch, &span, 1, packed, bound, &packed_size, &mask,
			  NULL) == ESK_OK &&
		  esk_pipeline_decode(
			  c->pipeline, scratch, mask, packed, packed_size, found, c->size, NULL) == ESK_OK &&
		  memcmp(found, c->data, c->size) == 0;
	free(found);
	free(packed);
}

static void codecs_run_side_by_side(void **state)
{
	static const char *const specs[] = {
		"gzip:1", "gzip:6", "lzf", "zstd", "lz4", "blosc", "bitshuffle", "szip"};
	enum { SPECS = sizeof specs / sizeof specs[0], JOBS = 64, SIZE = 40000 };
	esk_column column = {.name = "x", .dtype = {ESK_U16, 2}};
	esk_pipeline pipelines[SPECS];
	uint8_t *data = malloc(SIZE);
	for (int i = 0; i < SIZE; i++)
		data[i] = (uint8_t)(i % 2 ? 0 : i / 100);
	for (int i = 0; i < SPECS; i++)
		assert_int_equal(
			esk_pipeline_build(specs[i], &column, SIZE / 2, &pipelines[i], NULL), ESK_OK);
	esk_pool *pool = pool_new(4, 8);
	codec_job jobs[JOBS];
	memset(jobs, 0, sizeof jobs);
	esk_batch batch;
	esk_batch_init(&batch, pool);
	for (int i = 0; i < JOBS; i++) {
		jobs[i] = (codec_job){
			.job.run = codec_run, .pipeline = &pipelines[i % SPECS], .data = data, .size = SIZE};
		esk_batch_submit(&batch, &jobs[i].job);
	}
	esk_batch_wait(&batch);
	for (int i = 0; i < JOBS; i++)
		assert_true(jobs[i].same);
	esk_pool_destroy(pool);
	free(data);
}

/* Exit code of a child that runs `jobs` jobs on a pool of its parent, whose batch is still busy. */
static int child_use(esk_pool *pool, esk_batch *parents)
{
	esk_batch_wait(parents); /* its jobs are the parent's: returns */
	for (int round = 0; round < 3; round++) {
		count_job jobs[20];
		memset(jobs, 0, sizeof jobs);
		esk_batch batch;
		esk_batch_init(&batch, pool);
		for (int i = 0; i < 20; i++) {
			jobs[i].job.run = count_run;
			esk_batch_submit(&batch, &jobs[i].job);
		}
		esk_batch_wait(&batch);
		for (int i = 0; i < 20; i++)
			if (jobs[i].ran != 1)
				return 1;
	}
	/* The parent's batch may be used again, too. */
	count_job again = {.job.run = count_run};
	esk_batch_submit(parents, &again.job);
	esk_batch_wait(parents);
	esk_pool_destroy(pool);
	return again.ran == 1 ? 0 : 2;
}

static void a_forked_child_starts_threads_of_its_own(void **state)
{
	if (UNDER_TSAN) {
		print_message("left out: ThreadSanitizer ends programs that start threads after a fork\n");
		skip();
	}
	esk_pool *pool = pool_new(2, 8);
	_Atomic bool gate = false;
	count_job jobs[6];
	memset(jobs, 0, sizeof jobs);
	esk_batch batch;
	esk_batch_init(&batch, pool);
	for (int i = 0; i < 6; i++) {
		jobs[i].job.run = count_run;
		jobs[i].gate = &gate;
		esk_batch_submit(&batch, &jobs[i].job);
	}
	pid_t children[3];
	for (int i = 0; i < 3; i++) {
		children[i] = fork();
		assert_true(children[i] >= 0);
		if (children[i] == 0) {
			alarm(20); /* a child that hangs dies, and the test fails */
			_exit(child_use(pool, &batch));
		}
	}
	for (int i = 0; i < 3; i++) {
		int status;
		while (waitpid(children[i], &status, 0) < 0)
			assert_int_equal(errno, EINTR);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
	atomic_store(&gate, true);
	esk_batch_wait(&batch);
	for (int i = 0; i < 6; i++)
		assert_int_equal(jobs[i].ran, 1);
	esk_pool_destroy(pool);
}

static void *fork_main(void *arg)
{
	const _Atomic bool *stop = arg;
	intptr_t failed = 0;
	while (!atomic_load(stop)) {
		pid_t child = fork();
		if (child == 0)
			_exit(0);
		int status = 0;
		failed += child < 0 || waitpid(child, &status, 0) != child || status != 0;
	}
	return (void *)failed;
}

static void forks_while_jobs_run_disturb_nobody(void **state)
{
	esk_pool *pool = pool_new(2, 5);
	_Atomic bool stop = false;
	pthread_t forker;
	assert_int_equal(pthread_create(&forker, NULL, fork_main, &stop), 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal((intptr_t)submitter_main(pool), PER_SUBMITTER);
	atomic_store(&stop, true);
	void *failed;
	pthread_join(forker, &failed);
	assert_null(failed);
	esk_pool_destroy(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_job_runs_once),
		cmocka_unit_test(threads_default_to_the_cores),
		cmocka_unit_test(bad_sizes_are_refused),
		cmocka_unit_test(a_full_queue_makes_the_submitter_help),
		cmocka_unit_test(a_waiting_thread_helps_its_own_batch_only),
		cmocka_unit_test(many_threads_may_submit),
		cmocka_unit_test(codecs_run_side_by_side),
		cmocka_unit_test(a_forked_child_starts_threads_of_its_own),
		cmocka_unit_test(forks_while_jobs_run_disturb_nobody),
	};
	return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
