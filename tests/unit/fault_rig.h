/* A store on an operating system that fails: what the tests of faults and power cuts share. */
#ifndef ESK_TESTS_FAULT_RIG_H
#define ESK_TESTS_FAULT_RIG_H

#include "unit/recording.h"

#include "record/record.h"
#include "store/store.h"
#include "support/fault_os.h"
#include "support/fault_vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>

#define SALT 7

/* libhdf5 gives up an object of its own where a read fails while it closes a file: every read does once the
 * power is cut. Leaks of ours are still found. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libhdf5";
}

typedef struct rig {
	esk_fault *fault;
	esk_os os; /* the fault's, with a boot that is this machine's until the power is cut */
	char directory[200];
	char store[256];
	esk_store_environment environment;
	uint64_t appended;               /* rows that append acknowledged */
	uint64_t committed;              /* rows that a commit acknowledged */
	uint64_t failures;               /* calls that met the fault */
	uint64_t pairs, pairs_committed; /* the same of appends to two streams, and of items */
	uint64_t items, items_committed;
	uint64_t store_id;    /* of the store that was opened last: its rings have it in their names */
	const char *metadata; /* that the run was given; NULL: none, or it is not looked at */
} rig;

static uint64_t reboots; /* power cuts so far */
static esk_key *rig_key; /* runs are encrypted with it; NULL: they are not */

static inline uint64_t boot_id(const esk_os *os)
{
	(void)os;
	return esk_os_posix()->boot_id(esk_os_posix()) + reboots;
}

static inline void rig_begin(rig *g, test_dir *dir, uint64_t seed)
{
	static unsigned serial;
	*g = (rig){0};
	snprintf(g->directory, sizeof g->directory, "%s/%u", dir->path, serial++);
	assert_int_equal(mkdir(g->directory, 0700), 0);
	snprintf(g->store, sizeof g->store, "%s/store", g->directory);
	g->fault = esk_fault_new(seed);
	g->os = *esk_fault_os(g->fault);
	g->os.boot_id = boot_id;
	g->environment = (esk_store_environment){.os = &g->os};
	esk_fault_vfs_install(g->fault);
}

static inline char *link_path(const rig *g, char path[300])
{
	snprintf(path, 300, "%s/spool/run.ring", g->store);
	return path;
}

/* Path of the ring, or "". */
static inline void ring_path(const rig *g, char path[300])
{
	char link[300];
	ssize_t size = readlink(link_path(g, link), path, 299);
	path[size > 0 ? size : 0] = '\0';
}

/* A real power cut takes /dev/shm along; a feigned one may even bring an unlinked ring back. */
static inline void drop_rings(const rig *g)
{
	char pattern[64];
	glob_t found;
	snprintf(pattern, sizeof pattern, "/dev/shm/esker-%016llx-*", (unsigned long long)g->store_id);
	if (glob(pattern, GLOB_NOSORT, NULL, &found) != 0)
		return;
	for (size_t i = 0; i < found.gl_pathc; i++)
		unlink(found.gl_pathv[i]);
	globfree(&found);
}

static inline void rig_end(rig *g)
{
	drop_rings(g);
	esk_fault_vfs_remove();
	esk_fault_free(g->fault);
	nftw(g->directory, test_dir_drop, 16, FTW_DEPTH | FTW_PHYS);
}

static inline esk_run_options run_options(void)
{
	esk_run_options options = ESK_RUN_OPTIONS_INIT;
	options.append = true;
	options.ring_bytes = 128u << 10;
	options.block_timeout_ns = 3000000;
	options.commit_interval_ns = UINT64_MAX;
	options.segment_bytes = 96u << 10;
	options.encrypt = rig_key != NULL;
	return options;
}

static inline esk_status open_store(rig *g, esk_store **ret_store, esk_error *err)
{
	esk_store_options options = ESK_STORE_OPTIONS_INIT;
	options.codec_threads = 1;
	options.log = recording_log;
	options.key = rig_key;
	esk_status status = esk_store_open_in(&g->environment, g->store, &options, ret_store, err);
	if (status == ESK_OK && esk_store_id(*ret_store) != g->store_id) { /* made anew */
		drop_rings(g);
		g->store_id = esk_store_id(*ret_store);
	}
	return status;
}

static inline bool is_store(const rig *g)
{
	char database[300];
	snprintf(database, sizeof database, "%s/esker.db", g->store);
	return esk_os_exists(database);
}

static inline size_t rig_count(const rig *g, const char *pattern)
{
	char path[400];
	glob_t found;
	snprintf(path, sizeof path, "%s/%s", g->store, pattern);
	int code = glob(path, GLOB_NOSORT, NULL, &found);
	size_t count = code == 0 ? found.gl_pathc : 0;
	if (code == 0)
		globfree(&found);
	return count;
}

/* Once the store was opened in peace, with the key: nothing is plain, nothing is half done. */
static inline void rig_check_encrypted(const rig *g, uint64_t number)
{
	if (rig_count(g, "*.h5") != 0 || rig_count(g, "spool/*.encrypt*") != 0 ||
		rig_count(g, "spool/*.h5x.new") != 0)
		fail_msg("%llu: %zu plain files, %zu marks, %zu pieces are left", (unsigned long long)number,
			rig_count(g, "*.h5"), rig_count(g, "spool/*.encrypt*"),
			rig_count(g, "spool/*.h5x.new"));
}

/* As above, but the power may have failed while a run was being opened: after its file was made, and before
 * its mark was. Then the live file is plain, and has no rows. */
static inline void rig_check_plain_is_empty(const rig *g, uint64_t number)
{
	char live[300];
	esk_h5 *file;
	esk_segment_stream *streams;
	size_t count;
	esk_error err = {0};
	snprintf(live, sizeof live, "%s/run.h5", g->store);
	if (!esk_os_exists(live)) {
		rig_check_encrypted(g, number);
		return;
	}
	assert_int_equal(rig_count(g, "run_*.h5"), 0);
	assert_int_equal(rig_count(g, "spool/*.h5x.new"), 0);
	assert_ok(esk_h5_open_read(&g->os, live, &file, &err), &err);
	assert_ok(esk_segment_read_streams(file, &streams, &count, &err), &err);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(streams[i].rows, 0);
	esk_segment_streams_free(streams, count);
	esk_h5_close(file, NULL);
}

static inline void rig_make_key(test_dir *dir)
{
	const char *path = test_path(dir, "key");
	esk_error err = {0};
	assert_ok(esk_key_make(path, &err), &err);
	assert_ok(esk_key_load(path, &rig_key, &err), &err);
}

static inline void rig_drop_key(void)
{
	esk_key_free(rig_key);
	rig_key = NULL;
}

/* ---- what is beside the rows of one stream ---- */

typedef struct rig_pair {
	esk_stream *a, *b;
} rig_pair;

static inline esk_status pair_streams(esk_run *run, rig_pair *ret_pair, esk_error *err)
{
	esk_column *columns;
	size_t count;
	assert_ok(esk_columns_parse("id:i64 cell:u8[700]", &columns, &count, err), err);
	esk_status status = esk_run_stream(run, "pair/a", columns, count, &ret_pair->a, err);
	if (status == ESK_OK)
		status = esk_run_stream(run, "pair/deep/b", columns, count, &ret_pair->b, err);
	esk_columns_free(columns);
	return status;
}

/* A row in each, of the same number. */
static inline esk_status append_pair(rig *g, esk_run *run, const rig_pair *pair, esk_error *err)
{
	int64_t id = (int64_t)g->pairs;
	uint8_t cell[700];
	memset(cell, (int)id, sizeof cell);
	const void *cells[] = {&id, cell};
	esk_rows_part parts[2] = {{.stream = pair->b, .rows = 1, .cells = cells},
		{.stream = pair->a, .rows = 1, .cells = cells}};
	esk_status status = esk_run_append(run, parts, 2, err);
	if (status != ESK_OK)
		return status;
	assert_int_equal(parts[0].row, id);
	assert_int_equal(parts[1].row, id);
	g->pairs++;
	return ESK_OK;
}

static inline esk_status put_item(rig *g, esk_run *run, esk_error *err)
{
	static const esk_column column = {.name = "x", .dtype = {ESK_I64, 8}};
	int64_t values[600];
	char path[64], json[64];
	size_t count = g->items % 3 == 0 ? 600 : 20; /* some are compressed */
	for (size_t i = 0; i < count; i++)
		values[i] = (int64_t)g->items;
	snprintf(path, sizeof path, "items/%llu", (unsigned long long)g->items);
	snprintf(json, sizeof json, "{\"number\": %llu}", (unsigned long long)g->items);
	esk_item_array array = {.column = &column, .rows = count, .cells = values};
	esk_item item = ESK_ITEM_INIT;
	item.path = path;
	item.arrays = &array;
	item.array_count = 1;
	item.attributes_json = json;
	item.join = "joined";
	esk_status status = esk_run_put(run, &item, err);
	g->items += status == ESK_OK;
	return status;
}

/* The number that a query yields; false where the power was cut meanwhile. */
static inline bool rig_try_query(esk_store *store, const char *sql, int64_t *ret_number)
{
	esk_query *query;
	bool row = false;
	if (esk_query_open(store, sql, &query, NULL) != ESK_OK)
		return false;
	bool read = esk_query_step(query, &row, NULL) == ESK_OK && row;
	if (read)
		*ret_number = esk_query_value(query, 0).integer;
	esk_query_close(query);
	return read;
}

static inline int64_t rig_query(esk_store *store, const char *sql)
{
	int64_t number;
	assert_true(rig_try_query(store, sql, &number));
	return number;
}

/* The streams of pairs have the same rows, and the catalogue the items that the files have, each whole. Sets
 * how many there are. */
static inline void check_beside(rig *g, esk_store *store, esk_reader *reader)
{
	esk_error err = {0};
	esk_dataset *a, *b, *item;
	g->pairs = g->items = 0;
	if (esk_reader_find(reader, "pair/a/id", &a, &err) == ESK_OK &&
		esk_reader_find(reader, "pair/deep/b/id", &b, &err) == ESK_OK) {
		g->pairs = esk_dataset_rows(a);
		assert_int_equal(esk_dataset_rows(b), g->pairs);
		int64_t *ids[2] = {malloc(g->pairs * 8 + 1), malloc(g->pairs * 8 + 1)};
		assert_ok(esk_dataset_read(a, 0, (int64_t)g->pairs, 1, ids[0], g->pairs * 8, &err), &err);
		assert_ok(esk_dataset_read(b, 0, (int64_t)g->pairs, 1, ids[1], g->pairs * 8, &err), &err);
		for (uint64_t i = 0; i < g->pairs; i++)
			assert_true(ids[0][i] == (int64_t)i && ids[1][i] == (int64_t)i);
		free(ids[0]);
		free(ids[1]);
	}
	g->items = (uint64_t)rig_query(store, "SELECT count(*) FROM items");
	assert_int_equal(
		rig_query(store,
			"SELECT count(*) FROM v_items WHERE path = 'items/' || item AND file IS NOT NULL "
			"AND attributes ->> 'number' = item"),
		g->items);
	for (uint64_t i = 0; i < g->items; i++) {
		char path[64];
		int64_t values[600];
		snprintf(path, sizeof path, "items/%llu/x", (unsigned long long)i);
		assert_ok(esk_reader_find(reader, path, &item, &err), &err);
		size_t count = i % 3 == 0 ? 600 : 20;
		assert_ok(esk_dataset_read(item, 0, (int64_t)count, 1, values, count * 8, &err), &err);
		assert_true(values[0] == (int64_t)i && values[count - 1] == (int64_t)i);
	}
}

/* ---- looking ---- */

/* Rows in the store, each compared; nothing may fail. */
static inline uint64_t check_store(rig *g)
{
	esk_store *store;
	esk_reader *reader;
	esk_error err = {0};
	uint64_t rows = 0;
	assert_ok(open_store(g, &store, &err), &err);
	recording_verify(store);
	g->pairs = g->items = 0;
	esk_status status = esk_reader_open(store, "run", &reader, &err);
	if (status == ESK_OK) {
		if (esk_reader_dataset_count(reader) > 0) {
			rows = recording_rows(reader, "/");
			recording_check_rows(reader, "/", 0, rows, SALT);
			recording_check_index(store, "run", rows, SALT);
		}
		check_beside(g, store, reader);
		if (g->metadata != NULL)
			assert_string_equal(esk_reader_metadata(reader), g->metadata);
		esk_reader_close(reader);
	} else if (status != ESK_ENOTFOUND) {
		fail_msg("reader: %s", err.message);
	}
	assert_ok(esk_store_close(store, &err), &err);
	return rows;
}

/* Between what was committed and what was appended. */
static inline void check_beside_bounds(
	const rig *before, uint64_t pairs, uint64_t items, const char *what, uint64_t number)
{
	if (pairs < before->pairs_committed || pairs > before->pairs || items < before->items_committed ||
		items > before->items)
		fail_msg("%s %llu: %llu pairs of %llu to %llu and %llu items of %llu to %llu are there", what,
			(unsigned long long)number, (unsigned long long)pairs,
			(unsigned long long)before->pairs_committed, (unsigned long long)before->pairs,
			(unsigned long long)items, (unsigned long long)before->items_committed,
			(unsigned long long)before->items);
}

static inline void check_bounds(const rig *g, uint64_t rows, const char *what, uint64_t number)
{
	if (rows < g->committed || rows > g->appended)
		fail_msg("%s %llu: %llu rows are there, %llu were committed and %llu appended", what,
			(unsigned long long)number, (unsigned long long)rows,
			(unsigned long long)g->committed, (unsigned long long)g->appended);
}

#endif
