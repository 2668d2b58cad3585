/* Decodes every batch of an Arrow IPC stream that is in memory, over and over: bench_arrow FILE SECONDS.
 * Prints as JSON, per batch, the median seconds of all passes and the processors' mean. */
#include <esker/esker.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#define MOST_PASSES 1000000

static double now(void)
{
	struct timespec at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	return (double)at.tv_sec + 1e-9 * (double)at.tv_nsec;
}

/* Of all threads. */
static double cpu_seconds(void)
{
	struct timespec at;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
	return (double)at.tv_sec + 1e-9 * (double)at.tv_nsec;
}

static void fail(const char *what)
{
	fprintf(stderr, "bench_arrow: %s\n", what);
	exit(1);
}

static void *read_file(const char *path, size_t *ret_size)
{
	FILE *file = fopen(path, "rb");
	if (file == NULL || fseek(file, 0, SEEK_END) != 0)
		fail(path);
	*ret_size = (size_t)ftell(file);
	rewind(file);
	void *data = aligned_alloc(64, (*ret_size + 63) / 64 * 64);
	if (data == NULL || fread(data, 1, *ret_size, file) != *ret_size)
		fail(path);
	fclose(file);
	return data;
}

/* All batches once; *ret_batches how many. */
static double pass(const void *data, size_t size, uint64_t *ret_batches, uint64_t *ret_rows)
{
	struct ArrowArrayStream stream;
	struct ArrowArray array;
	esk_error err;
	double started = now();
	if (esk_arrow_open_memory(data, size, NULL, NULL, &stream, &err) != ESK_OK)
		fail(err.message);
	*ret_batches = *ret_rows = 0;
	for (;;) {
		if (stream.get_next(&stream, &array) != 0)
			fail(stream.get_last_error(&stream));
		if (array.release == NULL)
			break;
		++*ret_batches;
		*ret_rows += (uint64_t)array.length;
		array.release(&array);
	}
	stream.release(&stream);
	return now() - started;
}

static int ascending(const void *one, const void *other)
{
	double a = *(const double *)one, b = *(const double *)other;
	return (a > b) - (a < b);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		fail("usage: bench_arrow FILE SECONDS");
	size_t size, passes = 0;
	uint64_t batches, rows;
	struct rusage usage;
	double *seconds = malloc(MOST_PASSES * sizeof(*seconds)), limit = strtod(argv[2], NULL);
	void *data = read_file(argv[1], &size);
	if (seconds == NULL)
		fail("no memory");
	pass(data, size, &batches, &rows);
	double cpu_before = cpu_seconds();
	for (double started = now(); passes < MOST_PASSES && now() - started < limit; passes++)
		seconds[passes] = pass(data, size, &batches, &rows);
	qsort(seconds, passes, sizeof(*seconds), ascending);
	getrusage(RUSAGE_SELF, &usage);
	printf("{\"seconds\": %.9f, \"cpu_seconds\": %.9f, \"batches\": %llu, \"rows\": %llu, \"rss_mb\": "
	       "%.1f}\n",
		seconds[passes / 2] / (double)batches,
		(cpu_seconds() - cpu_before) / (double)(passes * batches), (unsigned long long)batches,
		(unsigned long long)rows, (double)usage.ru_maxrss / 1024);
	free(data);
	free(seconds);
	return 0;
}
