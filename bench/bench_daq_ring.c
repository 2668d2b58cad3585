/* Esker's side of script/bench for rings of instruments: each call does one piece of work in a process of its
 * own and prints one JSON object. Batches are one row of timestamp + voltage, as a hardware loop writes them.
 *
 *     bench_daq_ring visible OUTPUT FLUSH_MS SECONDS    a row a millisecond, whose timestamp is when it was
 * written; the writer's columns layout bench_daq_ring batches OUTPUT RATE BATCHES        so many batches a
 * second (0: as many as the writer takes, in a ring that blocks), batches layout, default flush interval
 */
#include <esker/esker.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define RING_MB 100
#define TICK_NS 1000000u

static void check(esk_status status, const esk_error *err, const char *what)
{
	if (status == ESK_OK)
		return;
	fprintf(stderr, "bench_daq_ring: %s: %s\n", what, err->message);
	exit(1);
}

static int64_t clock_ns(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000 + now.tv_nsec;
}

static void nap_until(int64_t monotonic_ns)
{
	struct timespec until = {.tv_sec = monotonic_ns / 1000000000, .tv_nsec = monotonic_ns % 1000000000};
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0)
		;
}

/* ---- a row ---- */

static int64_t row_time;
static double row_voltage;

static void keep_schema(struct ArrowSchema *schema)
{
	schema->release = NULL;
}

static void keep_array(struct ArrowArray *array)
{
	array->release = NULL;
}

static const struct ArrowSchema *row_schema(void)
{
	static struct ArrowSchema fields[2] = {{.format = "l", .name = "timestamp", .release = keep_schema},
		{.format = "g", .name = "voltage", .release = keep_schema}};
	static struct ArrowSchema *list[2] = {&fields[0], &fields[1]};
	static const struct ArrowSchema schema = {
		.format = "+s", .name = "", .n_children = 2, .children = list, .release = keep_schema};
	return &schema;
}

static const struct ArrowArray *row_array(void)
{
	static const void *none[1], *buffers[2][2] = {{NULL, &row_time}, {NULL, &row_voltage}};
	static struct ArrowArray columns[2] = {
		{.length = 1, .n_buffers = 2, .buffers = buffers[0], .release = keep_array},
		{.length = 1, .n_buffers = 2, .buffers = buffers[1], .release = keep_array}};
	static struct ArrowArray *list[2] = {&columns[0], &columns[1]};
	static const struct ArrowArray array = {.length = 1,
		.n_buffers = 1,
		.buffers = none,
		.n_children = 2,
		.children = list,
		.release = keep_array};
	return &array;
}

/* ---- ring, source, writer ---- */

typedef struct rig {
	char path[4096];
	esk_ring *ring;
	esk_daq_source *source;
	esk_daq_writer *writer;
} rig;

static void set_up(rig *r, const char *output, esk_policy policy, const esk_daq_writer_options *options)
{
	esk_error err = {0};
	esk_ring_options ring = ESK_RING_OPTIONS_INIT;
	ring.policy = policy;
	snprintf(r->path, sizeof r->path, "/dev/shm/esker-bench-%d.ring", (int)getpid());
	unlink(r->path);
	check(esk_daq_ring_create(r->path, RING_MB, &ring, &r->ring, &err), &err, "ring");
	unlink(r->path); /* mapped by this process alone */
	check(esk_daq_writer_open(output, r->ring, options, &r->writer, &err), &err, "writer");
	check(esk_daq_source_open(r->ring, NULL, row_schema(), &r->source, &err), &err, "source");
	check(esk_daq_writer_start(r->writer, &err), &err, "start");
}

static void write_row(rig *r)
{
	esk_error err = {0};
	row_time = clock_ns(CLOCK_REALTIME);
	row_voltage = (double)(row_time % 4096) / 1024;
	check(esk_daq_source_write(r->source, row_array(), &err), &err, "write");
}

static void tear_down(rig *r)
{
	esk_error err = {0};
	esk_daq_source_close(r->source);
	check(esk_daq_writer_close(r->writer, &err), &err, "close");
	esk_ring_detach(r->ring);
}

static esk_daq_writer_stats stats_of(rig *r)
{
	esk_error err = {0};
	esk_daq_writer_stats stats = {.struct_size = sizeof stats};
	check(esk_daq_writer_get_stats(r->writer, &stats, &err), &err, "statistics");
	check(stats.status, &(esk_error){0}, stats.error);
	return stats;
}

static double peak_mb(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return (double)usage.ru_maxrss / 1024;
}

static double cpu_s(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* ---- the pieces of work ---- */

static int run_visible(const char *output, uint64_t flush_ms, double seconds)
{
	rig r;
	uint64_t rows = (uint64_t)(seconds * 1e9 / TICK_NS);
	esk_daq_writer_options options = ESK_DAQ_WRITER_OPTIONS_INIT;
	options.flush_interval_ns = flush_ms * 1000000;
	set_up(&r, output, ESK_OVERWRITE, &options);
	int64_t begun = clock_ns(CLOCK_MONOTONIC);
	for (uint64_t i = 0; i < rows; i++) {
		nap_until(begun + (int64_t)(i * TICK_NS));
		write_row(&r);
	}
	tear_down(&r);
	printf("{\"rows\": %llu, \"rss_mb\": %.1f, \"cpu_seconds\": %.3f}\n", (unsigned long long)rows,
		peak_mb(), cpu_s());
	return 0;
}

/* Writes `batches`; returns the longest lag: how long the oldest record that was not taken had been in the
 * ring. */
static double write_paced(rig *r, uint64_t rate, uint64_t batches)
{
	uint64_t a_tick = rate * TICK_NS / 1000000000u;
	double longest = 0;
	int64_t begun = clock_ns(CLOCK_MONOTONIC);
	for (uint64_t i = 0; i < batches; i++) {
		if (i % a_tick == 0 && i > 0) {
			esk_ring_stats ring;
			esk_ring_get_stats(r->ring, &ring);
			double lag = (double)stats_of(r).lag_bytes /
				     ((double)ring.head_position / (double)i) / (double)rate;
			longest = lag > longest ? lag : longest;
			nap_until(begun + (int64_t)(i / a_tick * TICK_NS));
		}
		write_row(r);
	}
	return longest;
}

static int run_batches(const char *output, uint64_t rate, uint64_t batches)
{
	rig r;
	esk_error err = {0};
	esk_daq_writer_options options = ESK_DAQ_WRITER_OPTIONS_INIT;
	options.layout = ESK_DAQ_BATCHES;
	set_up(&r, output, rate > 0 ? ESK_OVERWRITE : ESK_BLOCK, &options);
	int64_t begun = clock_ns(CLOCK_MONOTONIC);
	double lag = 0;
	if (rate > 0)
		lag = write_paced(&r, rate, batches);
	else
		for (uint64_t i = 0; i < batches; i++)
			write_row(&r);
	double written = (double)(clock_ns(CLOCK_MONOTONIC) - begun) / 1e9;
	check(esk_daq_writer_flush(r.writer, &err), &err, "flush");
	double seconds = (double)(clock_ns(CLOCK_MONOTONIC) - begun) / 1e9;
	esk_daq_writer_stats stats = stats_of(&r);
	tear_down(&r);
	printf("{\"batches\": %llu, \"rows\": %llu, \"lost\": %llu, \"bad\": %llu, \"groups\": %llu, "
	       "\"lag_seconds\": %.4f, "
	       "\"write_seconds\": %.4f, \"seconds\": %.4f, \"cpu_seconds\": %.3f, \"rss_mb\": %.1f}\n",
		(unsigned long long)batches, (unsigned long long)stats.rows,
		(unsigned long long)stats.lost_records, (unsigned long long)stats.bad_records,
		(unsigned long long)stats.batches, lag, written, seconds, cpu_s(), peak_mb());
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "visible") == 0)
		return run_visible(argv[2], strtoull(argv[3], NULL, 10), atof(argv[4]));
	if (argc == 5 && strcmp(argv[1], "batches") == 0)
		return run_batches(argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
	fprintf(stderr,
		"usage: bench_daq_ring visible OUTPUT FLUSH_MS SECONDS | batches OUTPUT RATE BATCHES\n");
	return 2;
}
