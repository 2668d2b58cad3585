/* Esker's side of script/bench: each call does one piece of work in a process of its own and prints one JSON
 * object.
 *
 *     bench_esker record DIR COLUMNS DATA ROWS INTERVAL_MS   appends ROWS rows, cycling through DATA (packed
 * rows), until closed bench_esker rows DIR ROWS                              one row of 8 f64 per append
 *     bench_esker range DIR RUN DATASET ROWS                 ROWS consecutive rows into a warm buffer
 *     bench_esker random DIR RUN DATASET READS               single random rows
 *     bench_esker limit COLUMNS DATA                         what copying and the codec alone take per row on
 * one core */
#include "codec/codec.h"
#include "h5/h5.h"
#include <esker/esker.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_COLUMNS 16
#define WARM_UP 3

static void check(esk_status status, const esk_error *err, const char *what)
{
	if (status == ESK_OK)
		return;
	fprintf(stderr, "bench_esker: %s: %s\n", what, err->message);
	exit(1);
}

static double seconds_since(uint64_t start_ns)
{
	return (double)(esk_monotonic_ns() - start_ns) / 1e9;
}

static double rss_mb(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return (double)usage.ru_maxrss / 1024.0;
}

typedef struct table {
	esk_column *columns;
	size_t count;
	uint64_t cell_bytes[MAX_COLUMNS];
	uint64_t row_bytes;
	unsigned char *data; /* packed rows, in memory before anything is timed */
	uint64_t rows;
} table;

static table load(const char *spec, const char *path)
{
	table t = {0};
	esk_error err = {0};
	struct stat st;
	check(esk_columns_parse(spec, &t.columns, &t.count, &err), &err, "columns");
	for (size_t c = 0; c < t.count && c < MAX_COLUMNS; c++)
		t.row_bytes += t.cell_bytes[c] = esk_column_cell_bytes(&t.columns[c]);
	int fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &st) < 0 || (uint64_t)st.st_size < t.row_bytes) {
		fprintf(stderr, "bench_esker: %s holds no row of %llu bytes\n", path,
			(unsigned long long)t.row_bytes);
		exit(1);
	}
	t.rows = (uint64_t)st.st_size / t.row_bytes;
	t.data = malloc(t.rows * t.row_bytes);
	for (uint64_t done = 0; done < t.rows * t.row_bytes;) {
		ssize_t got = read(fd, t.data + done, t.rows * t.row_bytes - done);
		if (got <= 0)
			exit(1);
		done += (uint64_t)got;
	}
	close(fd);
	return t;
}

static esk_run *open_run(const char *dir, const char *name, uint64_t interval_ns, esk_store **ret_store)
{
	esk_error err = {0};
	esk_run *run;
	esk_run_options options = ESK_RUN_OPTIONS_INIT;
	options.commit_interval_ns = interval_ns;
	if (esk_store_create(dir, &err) != ESK_OK && err.code != ESK_EEXIST)
		check(err.code, &err, "create");
	check(esk_store_open(dir, NULL, ret_store, &err), &err, "open");
	check(esk_run_open(*ret_store, name, &options, &run, &err), &err, "run");
	return run;
}

static int record(const char *dir, const char *spec, const char *path, uint64_t rows, uint64_t interval_ns)
{
	esk_error err = {0};
	esk_store *store;
	esk_stream *stream;
	table t = load(spec, path);
	esk_run *run = open_run(dir, "run", interval_ns, &store);
	check(esk_run_stream(run, "/", t.columns, t.count, &stream, &err), &err, "stream");
	uint64_t start = esk_monotonic_ns();
	for (uint64_t row = 0; row < rows; row++) {
		const unsigned char *at = t.data + row % t.rows * t.row_bytes;
		const void *cells[MAX_COLUMNS];
		for (size_t c = 0; c < t.count; c++) {
			cells[c] = at;
			at += t.cell_bytes[c];
		}
		check(esk_stream_append(stream, cells, NULL, &err), &err, "append");
	}
	double appended = seconds_since(start);
	esk_run_stats stats = {.struct_size = sizeof stats};
	check(esk_run_commit(run, NULL, &err), &err, "commit");
	double committed = seconds_since(start);
	esk_run_get_stats(run, &stats, NULL);
	check(esk_run_close(run, &err), &err, "close");
	double closed = seconds_since(start);
	check(esk_store_close(store, &err), &err, "close");
	printf("{\"rows\": %llu, \"bytes\": %llu, \"append_seconds\": %.6f, \"commit_seconds\": %.6f, "
	       "\"seconds\": %.6f, "
	       "\"file_bytes\": %llu, "
	       "\"commits\": %llu, \"ring_mb\": %.1f, \"rss_mb\": %.1f, \"data_mb\": %.1f}\n",
		(unsigned long long)rows, (unsigned long long)(rows * t.row_bytes), appended, committed,
		closed, (unsigned long long)stats.file_bytes, (unsigned long long)stats.commits,
		(double)stats.ring_bytes / 1048576.0, rss_mb(), (double)(t.rows * t.row_bytes) / 1048576.0);
	return 0;
}

static int record_rows(const char *dir, uint64_t rows)
{
	esk_error err = {0};
	esk_store *store;
	esk_stream *stream;
	esk_column *columns;
	size_t count;
	esk_run *run = open_run(dir, "run", 0, &store);
	check(esk_columns_parse("a:f64 b:f64 c:f64 d:f64 e:f64 f:f64 g:f64 h:f64", &columns, &count, &err),
		&err, "columns");
	check(esk_run_stream(run, "/", columns, count, &stream, &err), &err, "stream");
	double values[8];
	const void *cells[8];
	for (int c = 0; c < 8; c++)
		cells[c] = &values[c];
	uint64_t start = esk_monotonic_ns(), seed = 1;
	for (uint64_t row = 0; row < rows; row++) {
		for (int c = 0; c < 8; c++) { /* a slow walk with noise in the low digits, as a sensor's */
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			values[c] = (double)c + (double)row * 1e-6 + (double)(seed >> 52) * 1e-9;
		}
		check(esk_stream_append(stream, cells, NULL, &err), &err, "append");
	}
	check(esk_run_close(run, &err), &err, "close");
	double closed = seconds_since(start);
	check(esk_store_close(store, &err), &err, "close");
	printf("{\"rows\": %llu, \"seconds\": %.6f, \"rss_mb\": %.1f}\n", (unsigned long long)rows, closed,
		rss_mb());
	return 0;
}

static esk_dataset *open_dataset(const char *dir, const char *run, const char *name, esk_store **ret_store,
	esk_reader **ret_reader, esk_dataset_info *info)
{
	esk_error err = {0};
	esk_dataset *dataset;
	check(esk_store_open(dir, NULL, ret_store, &err), &err, "open");
	check(esk_reader_open(*ret_store, run, ret_reader, &err), &err, "reader");
	check(esk_reader_find(*ret_reader, name, &dataset, &err), &err, "dataset");
	info->struct_size = sizeof *info;
	check(esk_dataset_get_info(dataset, info, &err), &err, "info");
	return dataset;
}

static int compare_double(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;
	return (a > b) - (a < b);
}

static int read_range(const char *dir, const char *run, const char *name, uint64_t rows)
{
	esk_error err = {0};
	esk_store *store;
	esk_reader *reader;
	esk_dataset_info info;
	double times[9];
	esk_dataset *dataset = open_dataset(dir, run, name, &store, &reader, &info);
	size_t bytes = rows * esk_column_cell_bytes(&info.column);
	void *buffer = malloc(bytes);
	memset(buffer, 1, bytes);
	for (int i = 0; i < 9 + WARM_UP; i++) {
		uint64_t first = i % 2 == 0 ? 0 : info.rows - rows;
		uint64_t start = esk_monotonic_ns();
		check(esk_dataset_read(
			      dataset, (int64_t)first, (int64_t)(first + rows), 1, buffer, bytes, &err),
			&err, "read");
		if (i >= WARM_UP)
			times[i - WARM_UP] = seconds_since(start);
	}
	qsort(times, 9, sizeof *times, compare_double);
	printf("{\"rows\": %llu, \"bytes\": %zu, \"seconds\": %.6f, \"rss_mb\": %.1f}\n",
		(unsigned long long)rows, bytes, times[4], rss_mb());
	free(buffer);
	esk_reader_close(reader);
	esk_store_close(store, NULL);
	return 0;
}

static int read_random(const char *dir, const char *run, const char *name, uint64_t reads)
{
	esk_error err = {0};
	esk_store *store;
	esk_reader *reader;
	esk_dataset_info info;
	esk_dataset *dataset = open_dataset(dir, run, name, &store, &reader, &info);
	size_t bytes = esk_column_cell_bytes(&info.column);
	void *buffer = malloc(bytes);
	double *times = calloc(reads, sizeof *times);
	memset(buffer, 1, bytes);
	uint64_t seed = 7;
	for (uint64_t i = 0; i < reads + WARM_UP; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		uint64_t row = (seed >> 33) % info.rows;
		uint64_t start = esk_monotonic_ns();
		check(esk_dataset_read(dataset, (int64_t)row, (int64_t)row + 1, 1, buffer, bytes, &err), &err,
			"read");
		if (i >= WARM_UP)
			times[i - WARM_UP] = seconds_since(start);
	}
	qsort(times, reads, sizeof *times, compare_double);
	printf("{\"reads\": %llu, \"p50_us\": %.2f, \"p99_us\": %.2f, \"rss_mb\": %.1f}\n",
		(unsigned long long)reads, times[reads / 2] * 1e6, times[reads * 99 / 100] * 1e6, rss_mb());
	free(times);
	free(buffer);
	esk_reader_close(reader);
	esk_store_close(store, NULL);
	return 0;
}

/* ---- the limit: every core copies its share of the rows once, as producers have to, and encodes its share
 * of the chunks; no ring, no threads that wait for each other, no file. */

typedef struct share {
	const table *t;
	uint64_t rows;
	bool copy;
	bool codec;
	unsigned char *region; /* its part of a region as large as the default ring */
	size_t region_bytes;
	pthread_barrier_t *barrier;
} share;

static void copy_rows(const share *s)
{
	const table *t = s->t;
	uint64_t fit = s->region_bytes / t->row_bytes;
	for (uint64_t row = 0; row < s->rows; row++)
		memcpy(s->region + row % fit * t->row_bytes, t->data + row % t->rows * t->row_bytes,
			t->row_bytes);
}

/* Encodes one column's chunks, whose rows lie scattered as they do in the ring. */
static void encode_column(const share *s, size_t c)
{
	esk_error err = {0};
	esk_pipeline pipeline;
	const table *t = s->t;
	const esk_column *column = &t->columns[c];
	uint64_t offset = 0, chunk_rows = esk_column_chunk_rows(column);
	for (size_t i = 0; i < c; i++)
		offset += t->cell_bytes[i];
	check(esk_pipeline_build("gzip:1", column, chunk_rows, &pipeline, &err), &err, "pipeline");
	size_t bound = esk_pipeline_bound(&pipeline), size;
	void *out = malloc(bound);
	esk_scratch *scratch = esk_scratch_create();
	esk_span *spans = calloc(chunk_rows, sizeof *spans);
	uint32_t mask;
	for (uint64_t done = 0; done < s->rows; done += chunk_rows) {
		for (uint64_t i = 0; i < chunk_rows; i++)
			spans[i] = (esk_span){
				t->data + (done + i) % t->rows * t->row_bytes + offset, t->cell_bytes[c]};
		check(esk_pipeline_encode(
			      &pipeline, scratch, spans, chunk_rows, out, bound, &size, &mask, &err),
			&err, "encode");
	}
	free(spans);
	esk_scratch_destroy(scratch);
	free(out);
}

static void *work_share(void *arg)
{
	const share *s = arg;
	pthread_barrier_wait(s->barrier);
	if (s->copy)
		copy_rows(s);
	for (size_t c = 0; s->codec && c < s->t->count; c++)
		if (s->t->cell_bytes[c] >= 64) /* the scalars' share is noise */
			encode_column(s, c);
	return NULL;
}

/* Rows a second that all cores together reach: the best of a few passes. */
static double reach(const table *t, uint32_t cores, uint64_t rows, bool copy, bool codec)
{
	size_t region = (256u << 20) / cores;
	pthread_t threads[64];
	share shares[64];
	double best = 0;
	cores = cores < 64 ? cores : 64;
	for (uint32_t i = 0; i < cores; i++) {
		shares[i] = (share){
			.t = t, .rows = rows / cores, .copy = copy, .codec = codec, .region_bytes = region};
		shares[i].region = mmap(NULL, region, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	}
	for (int pass = 0; pass < 3; pass++) {
		pthread_barrier_t barrier;
		pthread_barrier_init(&barrier, NULL, cores + 1);
		for (uint32_t i = 0; i < cores; i++) {
			shares[i].barrier = &barrier;
			pthread_create(&threads[i], NULL, work_share, &shares[i]);
		}
		pthread_barrier_wait(&barrier);
		uint64_t start = esk_monotonic_ns();
		for (uint32_t i = 0; i < cores; i++)
			pthread_join(threads[i], NULL);
		double rate = (double)(rows / cores * cores) / seconds_since(start);
		best = rate > best ? rate : best;
		pthread_barrier_destroy(&barrier);
	}
	for (uint32_t i = 0; i < cores; i++)
		munmap(shares[i].region, region);
	return best;
}

static int limit(const char *spec, const char *path, uint64_t rows)
{
	table t = load(spec, path);
	uint32_t cores = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	printf("{\"copy+codec\": %.3f, \"codec\": %.3f, \"copy\": %.3f, \"row_bytes\": %llu, \"cores\": "
	       "%u}\n",
		reach(&t, cores, rows, true, true), reach(&t, cores, rows, false, true),
		reach(&t, cores, rows, true, false), (unsigned long long)t.row_bytes, cores);
	return 0;
}

/* ---- the limit of reading: the same chunks, in memory already, decoded by all cores into a buffer of the
 * same size ---- */

typedef struct decode_share {
	const esk_pipeline *pipeline;
	void **chunks;
	size_t *sizes;
	uint32_t *masks;
	uint64_t first;
	uint64_t stop;
	unsigned char *out;
	bool fill; /* only writes the buffer: what the memory alone takes */
	pthread_barrier_t *barrier;
} decode_share;

static void *decode_chunks(void *arg)
{
	const decode_share *s = arg;
	esk_scratch *scratch = esk_scratch_create();
	uint64_t bytes = s->pipeline->chunk_bytes;
	pthread_barrier_wait(s->barrier);
	for (uint64_t k = s->first; k < s->stop; k++) {
		esk_error err = {0};
		if (s->fill)
			memset(s->out + k * bytes, (int)k, bytes);
		else
			check(esk_pipeline_decode(s->pipeline, scratch, s->masks[k], s->chunks[k],
				      s->sizes[k], s->out + k * bytes, bytes, &err),
				&err, "decode");
	}
	esk_scratch_destroy(scratch);
	return NULL;
}

static double decode_all(decode_share *whole, uint64_t chunks, uint32_t cores)
{
	double times[9];
	pthread_t threads[64];
	decode_share shares[64];
	for (int pass = 0; pass < 9 + WARM_UP; pass++) {
		pthread_barrier_t barrier;
		pthread_barrier_init(&barrier, NULL, cores + 1);
		for (uint32_t i = 0; i < cores; i++) {
			shares[i] = *whole;
			shares[i].first = chunks * i / cores;
			shares[i].stop = chunks * (i + 1) / cores;
			shares[i].barrier = &barrier;
			pthread_create(&threads[i], NULL, decode_chunks, &shares[i]);
		}
		pthread_barrier_wait(&barrier);
		uint64_t start = esk_monotonic_ns();
		for (uint32_t i = 0; i < cores; i++)
			pthread_join(threads[i], NULL);
		if (pass >= WARM_UP)
			times[pass - WARM_UP] = seconds_since(start);
		pthread_barrier_destroy(&barrier);
	}
	qsort(times, 9, sizeof *times, compare_double);
	return times[4];
}

static int decode_limit(const char *path, const char *name, uint64_t rows)
{
	esk_error err = {0};
	esk_h5 *file;
	esk_h5_dataset *dataset;
	uint32_t cores = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	check(esk_h5_open_read(esk_os_posix(), path, &file, &err), &err, "open");
	check(esk_h5_dataset_open(file, name, &dataset, &err), &err, "dataset");
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	uint64_t chunks = rows / info->chunk_shape[0];
	decode_share whole = {.pipeline = &info->pipeline,
		.chunks = calloc(chunks, sizeof(void *)),
		.sizes = calloc(chunks, sizeof(size_t)),
		.masks = calloc(chunks, sizeof(uint32_t)),
		.out = malloc(chunks * info->pipeline.chunk_bytes)};
	for (uint64_t k = 0; k < chunks; k++)
		check(esk_h5_read_raw_chunk(
			      dataset, k, &whole.chunks[k], &whole.sizes[k], &whole.masks[k], &err),
			&err, "chunk");
	memset(whole.out, 1, chunks * info->pipeline.chunk_bytes);
	cores = cores < 64 ? cores : 64;
	double decoded = decode_all(&whole, chunks, cores);
	whole.fill = true;
	printf("{\"decode alone\": %.6f, \"memset alone\": %.6f}\n", decoded,
		decode_all(&whole, chunks, cores));
	for (uint64_t k = 0; k < chunks; k++)
		free(whole.chunks[k]);
	free(whole.chunks);
	free(whole.sizes);
	free(whole.masks);
	free(whole.out);
	esk_h5_close(file, NULL);
	return 0;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	if (strcmp(mode, "record") == 0 && argc == 7) {
		long interval = atol(argv[6]);
		return record(argv[2], argv[3], argv[4], strtoull(argv[5], NULL, 10),
			interval < 0 ? UINT64_MAX : (uint64_t)interval * 1000000u);
	}
	if (strcmp(mode, "rows") == 0 && argc == 4)
		return record_rows(argv[2], strtoull(argv[3], NULL, 10));
	if (strcmp(mode, "range") == 0 && argc == 6)
		return read_range(argv[2], argv[3], argv[4], strtoull(argv[5], NULL, 10));
	if (strcmp(mode, "random") == 0 && argc == 6)
		return read_random(argv[2], argv[3], argv[4], strtoull(argv[5], NULL, 10));
	if (strcmp(mode, "limit") == 0 && argc == 5)
		return limit(argv[2], argv[3], strtoull(argv[4], NULL, 10));
	if (strcmp(mode, "decode") == 0 && argc == 5)
		return decode_limit(argv[2], argv[3], strtoull(argv[4], NULL, 10));
	fprintf(stderr, "usage: see the head of bench/bench_esker.c\n");
	return 2;
}
