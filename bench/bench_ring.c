/* The ring between processes, and a queue of the usual kind beside it. Each call does one piece of work and
 * prints one JSON object.
 *
 *     bench_ring write SIZE RECORDS POLICY RING_MB   one producer; a consumer in another process copies each
 * record out. Times of single writes bench_ring queue SIZE RECORDS RING_MB          the same through a mutex
 * and two conditions in shared memory bench_ring producers N SIZE RECORDS RING_MB    N producing processes,
 * the same consumer bench_ring memcpy SIZE RECORDS RING_MB         copies alone, between the same buffers
 *
 * Everything is in shared memory; the consumer's buffer is that of one record. */
#include "base/base.h"
#include "os/os.h"
#include <esker/esker.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#define SOURCES 16u       /* records that the producer takes turns with */
#define RELEASE_EVERY 64u /* records; or a 32nd of the ring */
#define EMPTY_TURNS 20u   /* before the consumer sleeps */
#define TURN_BITS 6u      /* of a bucket: times are told within 1/64 */

static void fail(const char *what, const char *why)
{
	fprintf(stderr, "bench_ring: %s: %s\n", what, why);
	exit(1);
}

static void check(esk_status status, const esk_error *err, const char *what)
{
	if (status != ESK_OK)
		fail(what, err->message);
}

/* ---- times of single writes ---- */

static uint64_t ticks(void)
{
#if defined(__x86_64__)
	return __rdtsc();
#else
	return esk_monotonic_ns();
#endif
}

/* How long a tick is, measured against the clock. */
static double tick_ns(void)
{
	uint64_t ns = esk_monotonic_ns(), from = ticks();
	while (esk_monotonic_ns() - ns < 20000000)
		;
	return (double)(esk_monotonic_ns() - ns) / (double)(ticks() - from);
}

typedef struct histogram {
	uint64_t counts[64 << TURN_BITS];
	uint64_t total;
	uint64_t worst;
} histogram;

static uint32_t bucket_of(uint64_t value)
{
	if (value < 1u << TURN_BITS)
		return (uint32_t)value;
	uint32_t shift = 63 - (uint32_t)__builtin_clzll(value) - TURN_BITS;
	return (shift + 1) << TURN_BITS | ((uint32_t)(value >> shift) & ((1u << TURN_BITS) - 1));
}

static uint64_t value_of(uint32_t bucket)
{
	uint32_t shift = bucket >> TURN_BITS;
	uint64_t low = bucket & ((1u << TURN_BITS) - 1);
	return shift == 0 ? low : (low | 1u << TURN_BITS) << (shift - 1);
}

static void note(histogram *h, uint64_t value)
{
	h->counts[bucket_of(value)]++;
	h->total++;
	h->worst = value > h->worst ? value : h->worst;
}

static uint64_t quantile(const histogram *h, double share)
{
	uint64_t seen = 0;
	for (uint32_t i = 0; i < sizeof h->counts / sizeof *h->counts; i++)
		if ((double)(seen += h->counts[i]) >= share * (double)h->total)
			return value_of(i);
	return h->worst;
}

/* ---- what the processes of a run share ---- */

typedef struct stage {
	_Atomic uint32_t ready; /* processes that are set up */
	_Atomic uint32_t go;
	_Atomic uint64_t first_ns;   /* when the first producer began */
	_Atomic uint64_t last_ns;    /* when the consumer had the last record */
	_Atomic uint64_t writers_ns; /* when the last producer was done */
	_Atomic uint64_t read_records;
	_Atomic uint64_t lost_records;
	_Atomic uint64_t sum; /* of what was read, so that no copy is left out */
} stage;

static void *shared(size_t bytes)
{
	void *address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (address == MAP_FAILED)
		fail("mmap", "no memory");
	memset(address, 0, bytes);
	return address;
}

static void await(_Atomic uint32_t *word, uint32_t value)
{
	while (atomic_load(word) < value)
		sched_yield();
}

static void set_if_first(_Atomic uint64_t *word, uint64_t value)
{
	uint64_t none = 0;
	atomic_compare_exchange_strong(word, &none, value);
}

static unsigned char *sources(size_t size)
{
	unsigned char *data = aligned_alloc(4096, esk_round_up(SOURCES * size, 4096));
	if (data == NULL)
		fail("memory", "none left");
	for (size_t i = 0; i < SOURCES * size; i++)
		data[i] = (unsigned char)(i * 2654435761u >> 24);
	return data;
}

static void end_child(pid_t pid)
{
	int status;
	if (waitpid(pid, &status, 0) != pid || status != 0)
		fail("child", "it failed");
}

/* ---- the ring ---- */

static char ring_path[64];

static esk_ring *make_ring(uint64_t ring_mb, esk_policy policy)
{
	esk_error err = {0};
	esk_ring_options options = ESK_RING_OPTIONS_INIT;
	esk_ring *ring = NULL;
	options.capacity_bytes = ring_mb << 20;
	options.policy = policy;
	options.prefault = true;
	snprintf(ring_path, sizeof ring_path, "/dev/shm/esker-bench-ring-%ld", (long)getpid());
	check(esk_ring_create(ring_path, &options, &ring, &err), &err, "create");
	return ring;
}

/* Copies out `records` records, read or lost. */
static void consume(stage *s, uint64_t records, size_t size, uint64_t ring_mb)
{
	esk_error err = {0};
	esk_ring *ring = NULL;
	esk_consumer *consumer = NULL;
	unsigned char *copy = malloc(size);
	uint64_t bytes, done = 0, read = 0, lost = 0, sum = 0, unreleased = 0, empty = 0;
	esk_ring_record record = {0};
	bool found;
	check(esk_ring_attach(ring_path, &ring, &err), &err, "attach");
	check(esk_consumer_open(ring, "bench", NULL, &consumer, &err), &err, "consumer");
	esk_os_prefault(esk_ring_data(ring, &bytes), bytes);
	atomic_fetch_add(&s->ready, 1);
	await(&s->go, 1);
	while (done < records) {
		check(esk_consumer_read(consumer, &record, &found, &err), &err, "read");
		if (!found) {
			if (++empty >= EMPTY_TURNS)
				esk_consumer_wait(consumer, 100000000);
			else
				sched_yield();
			continue;
		}
		empty = 0;
		esk_ring_copy(copy, record.payload, record.size_bytes);
		if (esk_consumer_still_valid(consumer, &record)) {
			read++;
			done++;
			sum += copy[read % size];
		}
		lost += record.lost_before_records;
		done += record.lost_before_records;
		if (++unreleased == RELEASE_EVERY || unreleased * size > ring_mb << 15) {
			esk_consumer_release(consumer, record.next_position);
			unreleased = 0;
		}
	}
	atomic_store(&s->last_ns, esk_monotonic_ns());
	atomic_store(&s->read_records, read);
	atomic_store(&s->lost_records, lost);
	atomic_store(&s->sum, sum);
	esk_consumer_close(consumer);
	esk_ring_detach(ring);
	_exit(0);
}

static void produce(stage *s, esk_ring *ring, uint64_t records, size_t size, histogram *times)
{
	esk_error err = {0};
	const unsigned char *data = sources(size);
	uint64_t bytes;
	unsigned char *region = esk_ring_data(ring, &bytes);
	esk_os_prefault(region, bytes); /* as it is after a while, in every process */
	atomic_fetch_add(&s->ready, 1);
	await(&s->go, 1);
	set_if_first(&s->first_ns, esk_monotonic_ns());
	for (uint64_t n = 0; n < records; n++) {
		uint64_t from = ticks();
		esk_status status = esk_ring_write(ring, 0, 1, data + n % SOURCES * size, size, NULL, &err);
		note(times, ticks() - from);
		check(status, &err, "write");
	}
	atomic_store(&s->writers_ns, esk_monotonic_ns());
}

static pid_t start_consumer(stage *s, uint64_t records, size_t size, uint64_t ring_mb)
{
	pid_t pid = fork();
	if (pid == 0)
		consume(s, records, size, ring_mb);
	await(&s->ready, 1);
	return pid;
}

static void print_times(const histogram *times)
{
	double ns = tick_ns();
	printf(", \"p50_ns\": %.0f, \"p99_ns\": %.0f, \"p999_ns\": %.0f, \"worst_ns\": %.0f",
		ns * (double)quantile(times, 0.5), ns * (double)quantile(times, 0.99),
		ns * (double)quantile(times, 0.999), ns * (double)times->worst);
}

static void print_stage(const stage *s, uint64_t records, size_t size)
{
	double seconds = (double)(s->last_ns - s->first_ns) / 1e9;
	printf("{\"seconds\": %.6f, \"records_per_s\": %.0f, \"bytes_per_s\": %.0f, \"read\": %llu, "
	       "\"lost\": %llu",
		seconds, (double)records / seconds, (double)(records * size) / seconds,
		(unsigned long long)s->read_records, (unsigned long long)s->lost_records);
}

static void bench_write(size_t size, uint64_t records, esk_policy policy, uint64_t ring_mb)
{
	stage *s = shared(sizeof *s);
	histogram *times = shared(sizeof *times);
	esk_ring *ring = make_ring(ring_mb, policy);
	pid_t consumer = start_consumer(s, records, size, ring_mb);
	atomic_store(&s->go, 1);
	produce(s, ring, records, size, times);
	end_child(consumer);
	print_stage(s, records, size);
	print_times(times);
	printf("}\n");
	esk_ring_detach(ring);
	unlink(ring_path);
}

static void bench_producers(uint32_t count, size_t size, uint64_t records, uint64_t ring_mb)
{
	stage *s = shared(sizeof *s);
	histogram *times = shared(count * sizeof *times);
	pid_t pids[64];
	esk_ring *ring = make_ring(ring_mb, ESK_BLOCK);
	pid_t consumer = start_consumer(s, records / count * count, size, ring_mb);
	for (uint32_t i = 0; i < count; i++) {
		pids[i] = fork();
		if (pids[i] != 0)
			continue;
		produce(s, ring, records / count, size, &times[i]);
		_exit(0);
	}
	await(&s->ready, count + 1);
	atomic_store(&s->go, 1);
	for (uint32_t i = 0; i < count; i++)
		end_child(pids[i]);
	end_child(consumer);
	print_stage(s, records / count * count, size);
	print_times(&times[0]);
	printf("}\n");
	esk_ring_detach(ring);
	unlink(ring_path);
}

/* Copies alone: from the producer's records to where the ring's lie, one after the other. */
static void bench_memcpy(size_t size, uint64_t records, uint64_t ring_mb)
{
	esk_ring *ring = make_ring(ring_mb, ESK_BLOCK);
	const unsigned char *data = sources(size);
	uint64_t bytes, at = 0;
	unsigned char *region = esk_ring_data(ring, &bytes);
	uint64_t from = esk_monotonic_ns();
	for (uint64_t n = 0; n < records; n++) {
		if (at + size > bytes)
			at = 0;
		memcpy(region + at, data + n % SOURCES * size, size);
		__asm__ __volatile__("" ::"r"(region + at) : "memory");
		at += size + 32;
	}
	double seconds = (double)(esk_monotonic_ns() - from) / 1e9;
	printf("{\"seconds\": %.6f, \"records_per_s\": %.0f, \"bytes_per_s\": %.0f}\n", seconds,
		(double)records / seconds, (double)(records * size) / seconds);
	esk_ring_detach(ring);
	unlink(ring_path);
}

/* ---- the peer: a queue of fixed slots under one mutex ---- */

typedef struct queue {
	pthread_mutex_t lock;
	pthread_cond_t filled;
	pthread_cond_t emptied;
	uint64_t head;
	uint64_t tail;
	uint64_t slots;
	unsigned char data[];
} queue;

static queue *make_queue(size_t size, uint64_t ring_mb)
{
	uint64_t slots = (ring_mb << 20) / size;
	queue *q = shared(sizeof *q + slots * size);
	pthread_mutexattr_t mutex;
	pthread_condattr_t cond;
	pthread_mutexattr_init(&mutex);
	pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
	pthread_condattr_init(&cond);
	pthread_condattr_setpshared(&cond, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&q->lock, &mutex);
	pthread_cond_init(&q->filled, &cond);
	pthread_cond_init(&q->emptied, &cond);
	q->slots = slots;
	return q;
}

static void put(queue *q, const unsigned char *data, size_t size)
{
	pthread_mutex_lock(&q->lock);
	while (q->head - q->tail == q->slots)
		pthread_cond_wait(&q->emptied, &q->lock);
	memcpy(q->data + q->head % q->slots * size, data, size);
	q->head++;
	pthread_cond_signal(&q->filled);
	pthread_mutex_unlock(&q->lock);
}

static void take(queue *q, unsigned char *copy, size_t size)
{
	pthread_mutex_lock(&q->lock);
	while (q->head == q->tail)
		pthread_cond_wait(&q->filled, &q->lock);
	memcpy(copy, q->data + q->tail % q->slots * size, size);
	q->tail++;
	pthread_cond_signal(&q->emptied);
	pthread_mutex_unlock(&q->lock);
}

static void bench_queue(size_t size, uint64_t records, uint64_t ring_mb)
{
	stage *s = shared(sizeof *s);
	histogram *times = shared(sizeof *times);
	queue *q = make_queue(size, ring_mb);
	const unsigned char *data = sources(size);
	pid_t pid = fork();
	if (pid == 0) {
		unsigned char *copy = malloc(size);
		uint64_t sum = 0;
		atomic_fetch_add(&s->ready, 1);
		for (uint64_t n = 0; n < records; n++) {
			take(q, copy, size);
			sum += copy[n % size];
		}
		atomic_store(&s->last_ns, esk_monotonic_ns());
		atomic_store(&s->read_records, records);
		atomic_store(&s->sum, sum);
		_exit(0);
	}
	await(&s->ready, 1);
	atomic_store(&s->first_ns, esk_monotonic_ns());
	for (uint64_t n = 0; n < records; n++) {
		uint64_t from = ticks();
		put(q, data + n % SOURCES * size, size);
		note(times, ticks() - from);
	}
	end_child(pid);
	print_stage(s, records, size);
	print_times(times);
	printf("}\n");
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t value = strtoull(text, &end, 10);
	if (*end != '\0' || value == 0)
		fail(text, "is no number");
	return value;
}

static esk_policy policy_of(const char *text)
{
	if (strcmp(text, "block") == 0)
		return ESK_BLOCK;
	if (strcmp(text, "overwrite") != 0)
		fail(text, "is neither block nor overwrite");
	return ESK_OVERWRITE;
}

int main(int argc, char **argv)
{
	const char *work = argc > 1 ? argv[1] : "";
	if (argc == 6 && strcmp(work, "write") == 0)
		bench_write(number(argv[2]), number(argv[3]), policy_of(argv[4]), number(argv[5]));
	else if (argc == 6 && strcmp(work, "producers") == 0)
		bench_producers((uint32_t)esk_min_u64(number(argv[2]), 64), number(argv[3]), number(argv[4]),
			number(argv[5]));
	else if (argc == 5 && strcmp(work, "memcpy") == 0)
		bench_memcpy(number(argv[2]), number(argv[3]), number(argv[4]));
	else if (argc == 5 && strcmp(work, "queue") == 0)
		bench_queue(number(argv[2]), number(argv[3]), number(argv[4]));
	else
		fail("usage", "write | queue | producers | memcpy, as the top of bench_ring.c says");
	return 0;
}
