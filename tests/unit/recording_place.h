/* A store in a directory of its own, on the real operating system. */
#ifndef ESK_TESTS_RECORDING_PLACE_H
#define ESK_TESTS_RECORDING_PLACE_H

#include "unit/recording.h"

#include "store/store.h"

typedef struct place {
	test_dir *dir;
	char path[128];
	esk_store *store;
} place;

static inline void place_open(place *p)
{
	esk_error err = {0};
	esk_store_options options = ESK_STORE_OPTIONS_INIT;
	options.codec_threads = 2;
	options.log = recording_log;
	assert_ok(esk_store_open(p->path, &options, &p->store, &err), &err);
}

/* Opens the store that is there. */
static inline place place_at(const char *path)
{
	place p = {0};
	snprintf(p.path, sizeof p.path, "%s", path);
	place_open(&p);
	return p;
}

static inline place place_make(test_dir *dir)
{
	place p = {.dir = dir};
	esk_error err = {0};
	snprintf(p.path, sizeof p.path, "%s/store", dir->path);
	assert_ok(esk_store_create(p.path, &err), &err);
	place_open(&p);
	return p;
}

static inline void place_close(place *p)
{
	esk_error err = {0};
	assert_ok(esk_store_close(p->store, &err), &err);
	p->store = NULL;
}

static inline void place_reopen(place *p)
{
	place_close(p);
	place_open(p);
}

static inline esk_run_options place_options(uint64_t ring_bytes)
{
	esk_run_options options = ESK_RUN_OPTIONS_INIT;
	options.ring_bytes = ring_bytes;
	return options;
}

static inline esk_run *place_run(place *p, const char *name, const esk_run_options *options)
{
	esk_error err = {0};
	esk_run *run;
	assert_ok(esk_run_open(p->store, name, options, &run, &err), &err);
	return run;
}

static inline void place_run_close(esk_run *run)
{
	esk_error err = {0};
	assert_ok(esk_run_close(run, &err), &err);
}

static inline esk_stream *place_stream(esk_run *run, const char *name, const char *spec)
{
	esk_error err = {0};
	esk_column *columns;
	esk_stream *stream;
	size_t count;
	assert_ok(esk_columns_parse(spec, &columns, &count, &err), &err);
	assert_ok(esk_run_stream(run, name, columns, count, &stream, &err), &err);
	esk_columns_free(columns);
	return stream;
}

static inline esk_reader *place_reader(place *p, const char *run)
{
	esk_error err = {0};
	esk_reader *reader;
	assert_ok(esk_reader_open(p->store, run, &reader, &err), &err);
	return reader;
}

/* First value of the first row of a query. */
static inline int64_t place_query(place *p, const char *sql)
{
	esk_error err = {0};
	esk_query *query;
	bool row = false;
	assert_ok(esk_query_open(p->store, sql, &query, &err), &err);
	assert_ok(esk_query_step(query, &row, &err), &err);
	assert_true(row);
	esk_value value = esk_query_value(query, 0);
	int64_t number = value.kind == ESK_REAL ? (int64_t)value.real : value.integer;
	esk_query_close(query);
	return number;
}

/* Reads rows [first, first + count) of a dataset. To be freed. */
static inline void *place_read(
	esk_reader *reader, const char *path, uint64_t first, uint64_t count, size_t cell_bytes)
{
	esk_error err = {0};
	esk_dataset *dataset;
	void *out = malloc(count * cell_bytes + 1);
	assert_ok(esk_reader_find(reader, path, &dataset, &err), &err);
	assert_ok(esk_dataset_read(dataset, (int64_t)first, (int64_t)(first + count), 1, out,
			  count * cell_bytes, &err),
		&err);
	return out;
}

/* Counts .h5 files of the store. */
static inline size_t place_files(const place *p)
{
	DIR *dir = opendir(p->path);
	size_t count = 0;
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		size_t size = strlen(entry->d_name);
		count += size > 3 && strcmp(entry->d_name + size - 3, ".h5") == 0;
	}
	closedir(dir);
	return count;
}

#endif
