/* What the tests of instruments share: schemas and batches whose content follows from the number of their
 * first row, rings and stores in shared memory, and reading back. */
#ifndef DAQ_SUPPORT_H
#define DAQ_SUPPORT_H

#include <esker/esker.h>

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
/* cmocka needs the four above it */
#include <cmocka.h>

#define check_ok(call)                                                  \
	do {                                                            \
		esk_error check_error = {.code = ESK_OK};               \
		esk_error *err = &check_error;                          \
		if ((call) != ESK_OK)                                   \
			fail_msg("%s: %s", #call, check_error.message); \
	} while (0)

/* The call fails with `code`, and its message has `text`. */
#define check_fails(call, expected, text)                                                      \
	do {                                                                                   \
		esk_error check_error = {.code = ESK_OK};                                      \
		esk_error *err = &check_error;                                                 \
		esk_status check_status = (call);                                              \
		if (check_status != (expected) || strstr(check_error.message, (text)) == NULL) \
			fail_msg("%s: %s, \"%s\"", #call, esk_status_name(check_status),       \
				check_error.message);                                          \
	} while (0)

/* ---- a place ---- */

/* A directory of this test's own, empty; removed by daq_leave. */
static char daq_directory[128];

static inline const char *daq_path(const char *name)
{
	static char paths[8][256];
	static unsigned next;
	char *path = paths[next++ % 8];
	snprintf(path, 256, "%s/%s", daq_directory, name);
	return path;
}

static inline void daq_remove_directory(void)
{
	char command[256];
	snprintf(command, sizeof command, "rm -rf '%s'", daq_directory);
	if (daq_directory[0] != '\0' && system(command) != 0)
		fail_msg("cannot remove %s", daq_directory);
}

static inline int daq_enter(void **state)
{
	(void)state;
	snprintf(daq_directory, sizeof daq_directory, "%s/esker-test-daq-%ld",
		access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (long)getpid());
	daq_remove_directory();
	return mkdir(daq_directory, 0700);
}

static inline int daq_leave(void **state)
{
	(void)state;
	daq_remove_directory();
	return 0;
}

/* ---- numbers ---- */

static inline uint32_t daq_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*seed >> 33);
}

/* How many rounds: ESK_TEST_SCALE percent of `rounds`, for slow builds. */
static inline unsigned daq_rounds(unsigned rounds)
{
	const char *scale = getenv("ESK_TEST_SCALE");
	unsigned scaled = scale != NULL ? rounds * (unsigned)atoi(scale) / 100 : rounds;
	return scaled > 0 ? scaled : 1;
}

/* ---- the seed's batch: timestamp and voltage ---- */

static inline void daq_release_schema(struct ArrowSchema *schema)
{
	schema->release = NULL;
}

static inline void daq_release_array(struct ArrowArray *array)
{
	array->release = NULL;
}

static inline const struct ArrowSchema *daq_schema(void)
{
	static struct ArrowSchema timestamp = {
		.format = "l", .name = "timestamp", .release = daq_release_schema};
	static struct ArrowSchema voltage = {.format = "g", .name = "voltage", .release = daq_release_schema};
	static struct ArrowSchema *columns[] = {&timestamp, &voltage};
	static const struct ArrowSchema schema = {.format = "+s",
		.name = "",
		.n_children = 2,
		.children = columns,
		.release = daq_release_schema};
	return &schema;
}

static inline double daq_voltage(int64_t row)
{
	return 0.5 * (double)row - 7;
}

#define DAQ_BATCH_ROWS 4096

/* Rows [first, first + rows) of the series: timestamp = row, voltage = daq_voltage(row). */
typedef struct daq_batch {
	int64_t timestamps[DAQ_BATCH_ROWS];
	double voltages[DAQ_BATCH_ROWS];
	const void *buffers[3][2];
	struct ArrowArray children[2];
	struct ArrowArray *columns[2];
	struct ArrowArray array;
} daq_batch;

static inline const struct ArrowArray *daq_fill(daq_batch *batch, int64_t first, int64_t rows)
{
	memset(batch->buffers, 0, sizeof batch->buffers);
	for (int64_t i = 0; i < rows; i++) {
		batch->timestamps[i] = first + i;
		batch->voltages[i] = daq_voltage(first + i);
	}
	batch->buffers[0][1] = batch->timestamps;
	batch->buffers[1][1] = batch->voltages;
	for (int c = 0; c < 2; c++) {
		batch->children[c] = (struct ArrowArray){.length = rows,
			.n_buffers = 2,
			.buffers = batch->buffers[c],
			.release = daq_release_array};
		batch->columns[c] = &batch->children[c];
	}
	batch->array = (struct ArrowArray){.length = rows,
		.n_buffers = 1,
		.buffers = batch->buffers[2],
		.n_children = 2,
		.children = batch->columns,
		.release = daq_release_array};
	return &batch->array;
}

/* ---- reading back ---- */

static inline uint64_t daq_rows(esk_reader *reader, const char *path)
{
	esk_dataset *dataset;
	return esk_reader_find(reader, path, &dataset, NULL) == ESK_OK ? esk_dataset_rows(dataset) : 0;
}

static inline void *daq_read(esk_reader *reader, const char *path, uint64_t rows, size_t cell_bytes)
{
	esk_dataset *dataset;
	void *cells = malloc(rows * cell_bytes + 1);
	check_ok(esk_reader_find(reader, path, &dataset, err));
	check_ok(esk_dataset_read(dataset, 0, (int64_t)rows, 1, cells, rows * cell_bytes, err));
	return cells;
}

#endif
