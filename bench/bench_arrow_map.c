/* What record batches cost on their way into a run's ring: a batch of two columns and one row, and batches of
 * 1 MB of f64 beside memcpy. `bench_arrow_map DIRECTORY` (in memory: /dev/shm/…) prints one line each. */
#include "store/store.h"

#include <esker/arrow_store.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL_BATCHES 300000
#define LARGE_BATCHES 200
#define LARGE_ROWS (1u << 17)
#define TRIES 5

static void insist(esk_status status, const esk_error *err)
{
	if (status == ESK_OK)
		return;
	fprintf(stderr, "%s\n", err->message);
	exit(1);
}

static void stay(struct ArrowSchema *schema)
{
	schema->release = NULL;
}

static void keep(struct ArrowArray *array)
{
	array->release = NULL;
}

/* A schema and a batch of `count` columns of f64 without validity, all with the same values. */
typedef struct table {
	struct ArrowSchema schema, fields[2], *field_list[2];
	struct ArrowArray batch, columns[2], *column_list[2];
	const void *buffers[2], *none[1];
} table;

static void make_table(table *t, int count, int64_t rows, const double *values)
{
	static const char *const names[] = {"t", "v"};
	*t = (table){.buffers = {NULL, values}};
	t->schema = (struct ArrowSchema){
		.format = "+s", .name = "", .n_children = count, .children = t->field_list, .release = stay};
	t->batch = (struct ArrowArray){.length = rows,
		.n_buffers = 1,
		.buffers = t->none,
		.n_children = count,
		.children = t->column_list,
		.release = keep};
	for (int i = 0; i < count; i++) {
		t->fields[i] = (struct ArrowSchema){.format = "g", .name = names[i], .release = stay};
		t->columns[i] = (struct ArrowArray){
			.length = rows, .n_buffers = 2, .buffers = t->buffers, .release = keep};
		t->field_list[i] = &t->fields[i];
		t->column_list[i] = &t->columns[i];
	}
}

/* Nanoseconds per append. Nothing waits: the ring holds all. */
static double time_appends(esk_run *run, const char *stream, const table *t, int count)
{
	esk_error err = {0};
	esk_arrow_sink *sink;
	insist(esk_run_arrow(run, stream, &t->schema, NULL, &sink, &err), &err);
	uint64_t begin = esk_monotonic_ns();
	for (int i = 0; i < count; i++)
		insist(esk_arrow_sink_append(
			       sink, &t->batch, 0, (uint64_t)t->batch.length, NULL, 0, NULL, &err),
			&err);
	uint64_t end = esk_monotonic_ns();
	esk_arrow_sink_close(sink);
	insist(esk_run_commit(run, NULL, &err), &err);
	return (double)(end - begin) / count;
}

static double time_memcpy(const double *values, size_t bytes)
{
	char *room = malloc(LARGE_BATCHES * bytes);
	if (room == NULL)
		exit(1);
	memset(room, 1, LARGE_BATCHES * bytes);
	uint64_t begin = esk_monotonic_ns();
	for (int i = 0; i < LARGE_BATCHES; i++)
		memcpy(room + (size_t)i * bytes, values, bytes);
	uint64_t end = esk_monotonic_ns();
	volatile char seen = room[LARGE_BATCHES * bytes / 2];
	(void)seen;
	free(room);
	return (double)(end - begin) / LARGE_BATCHES;
}

int main(int argc, char **argv)
{
	esk_error err = {0};
	esk_store *store;
	esk_run *run;
	if (argc != 2) {
		fprintf(stderr, "usage: bench_arrow_map DIRECTORY\n");
		return 2;
	}
	double *values = calloc(LARGE_ROWS, sizeof *values);
	double small_ns = 1e18, large_ns = 1e18, copy_ns = 1e18;
	for (size_t i = 0; values != NULL && i < LARGE_ROWS; i++)
		values[i] = (double)i * 0.001;
	insist(esk_store_create(argv[1], &err), &err);
	insist(esk_store_open(argv[1], NULL, &store, &err), &err);
	esk_run_options options = ESK_RUN_OPTIONS_INIT;
	options.ring_bytes = 1ull << 30;
	options.commit_interval_ns = UINT64_MAX;
	insist(esk_run_open(store, "run", &options, &run, &err), &err);
	table small, large;
	make_table(&small, 2, 1, values);
	make_table(&large, 1, LARGE_ROWS, values);
	for (int i = 0; i < TRIES; i++) {
		double ns = time_appends(run, "small", &small, SMALL_BATCHES);
		small_ns = ns < small_ns ? ns : small_ns;
		ns = time_appends(run, "large", &large, LARGE_BATCHES);
		large_ns = ns < large_ns ? ns : large_ns;
		ns = time_memcpy(values, LARGE_ROWS * sizeof *values);
		copy_ns = ns < copy_ns ? ns : copy_ns;
	}
	printf("2 columns x 1 row: %.0f ns an append\n", small_ns);
	printf("1 MB of f64: %.2f GB/s, %.2f of memcpy (%.2f GB/s)\n", LARGE_ROWS * 8.0 / large_ns,
		copy_ns / large_ns, LARGE_ROWS * 8.0 / copy_ns);
	insist(esk_run_close(run, &err), &err);
	insist(esk_store_close(store, &err), &err);
	free(values);
	return 0;
}
