/* The recorder that script/crash kills: appends rows whose content follows from their index, and writes down,
 * in shared memory that outlives it, how many were acknowledged and committed.
 *
 *     crash_recorder STORE RUN ACKS SEED SECONDS     records (and recovers what the last one left) until the
 * time is over crash_recorder --recover STORE                 opens and closes the store: recovery only */
#include <esker/esker.h>

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef struct acks {
	_Atomic uint64_t appended;  /* rows that append acknowledged */
	_Atomic uint64_t committed; /* rows that commit acknowledged */
	_Atomic uint64_t pairs;     /* appends to two streams at once that were acknowledged */
	_Atomic uint64_t items;     /* items */
} acks;

#define FRAME_BYTES 6000
#define BATCH_ROWS 17
#define ITEM_ROWS 24

static void quit(const char *what, const esk_error *err)
{
	fprintf(stderr, "crash_recorder: %s: %s\n", what, err->message);
	exit(3);
}

static void log_line(void *arg, esk_log_level level, const char *message)
{
	if (level >= ESK_LOG_INFO)
		fprintf(stderr, "  [%d] %s\n", (int)level, message);
}

static uint32_t random_u32(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*seed >> 33);
}

/* Content of row `i`: half runs, half noise, so that some chunks shrink and some do not. */
static void fill_frame(unsigned char *frame, uint64_t i)
{
	uint64_t seed = i * 0x9E3779B97F4A7C15u + 1;
	memset(frame, (int)(i & 0xFF), FRAME_BYTES / 2);
	for (size_t b = FRAME_BYTES / 2; b < FRAME_BYTES; b++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		frame[b] = i % 3 == 0 ? (unsigned char)(seed >> 56) : (unsigned char)(i >> 3);
	}
}

static uint64_t append_one(esk_stream *stream, uint64_t row)
{
	static unsigned char frame[FRAME_BYTES];
	char text[32];
	int64_t id = (int64_t)row;
	uint64_t at;
	esk_error err = {0};
	fill_frame(frame, row);
	esk_string note = {text, (size_t)snprintf(text, sizeof text, "row %llu", (unsigned long long)row)};
	const void *cells[] = {&id, row % 5 == 4 ? NULL : frame, &note};
	if (esk_stream_append(stream, cells, &at, &err) != ESK_OK)
		quit("append", &err);
	if (at != row) {
		fprintf(stderr, "crash_recorder: row %llu was given index %llu\n", (unsigned long long)row,
			(unsigned long long)at);
		exit(4);
	}
	return row + 1;
}

static uint64_t append_batch(esk_stream *stream, uint64_t row)
{
	static unsigned char frames[BATCH_ROWS * FRAME_BYTES];
	char text[BATCH_ROWS][32];
	int64_t ids[BATCH_ROWS];
	esk_string notes[BATCH_ROWS];
	uint8_t present[BATCH_ROWS];
	esk_error err = {0};
	for (uint64_t i = 0; i < BATCH_ROWS; i++) {
		ids[i] = (int64_t)(row + i);
		fill_frame(frames + i * FRAME_BYTES, row + i);
		present[i] = (row + i) % 5 != 4;
		if (!present[i])
			memset(frames + i * FRAME_BYTES, 0, FRAME_BYTES);
		notes[i] = (esk_string){text[i],
			(size_t)snprintf(text[i], sizeof text[i], "row %llu", (unsigned long long)(row + i))};
	}
	const void *cells[] = {ids, frames, notes};
	const uint8_t *valid[] = {NULL, present, NULL};
	if (esk_stream_append_rows(stream, BATCH_ROWS, cells, valid, NULL, NULL, &err) != ESK_OK)
		quit("append_rows", &err);
	return row + BATCH_ROWS;
}

/* One row of `a` and two of `b`, of the same number. */
static void append_pair(esk_run *run, esk_stream *a, esk_stream *b, acks *acked)
{
	int64_t id = (int64_t)atomic_load(&acked->pairs), ids[2];
	esk_error err = {0};
	if ((uint64_t)id < esk_stream_rows(a)) /* one that was not acknowledged before death is there */
		id = (int64_t)esk_stream_rows(a);
	ids[0] = ids[1] = id;
	esk_rows_part parts[2] = {{.stream = b, .rows = 2, .cells = (const void *[]){ids}},
		{.stream = a, .rows = 1, .cells = (const void *[]){&id}}};
	if (esk_run_append(run, parts, 2, &err) != ESK_OK)
		quit("append to two streams", &err);
	if (parts[0].row != 2 * (uint64_t)id || parts[1].row != (uint64_t)id) {
		fprintf(stderr, "crash_recorder: pair %lld was given rows %llu and %llu\n", (long long)id,
			(unsigned long long)parts[1].row, (unsigned long long)parts[0].row);
		exit(6);
	}
	atomic_store(&acked->pairs, (uint64_t)id + 1);
}

/* An item of a small array and one that is compressed. */
static void put_item(esk_run *run, acks *acked)
{
	static const esk_column times = {.name = "times", .dtype = {ESK_I64, 8}},
				ramp = {.name = "ramp", .dtype = {ESK_I32, 4}, .rank = 1, .shape = {100}};
	uint64_t number = atomic_load(&acked->items);
	int64_t values[ITEM_ROWS];
	int32_t ramps[ITEM_ROWS * 100];
	char path[64], json[64];
	esk_error err = {0};
	for (int i = 0; i < ITEM_ROWS; i++)
		values[i] = (int64_t)number * 1000 + i;
	for (int i = 0; i < ITEM_ROWS * 100; i++)
		ramps[i] = (int32_t)number + i / 7;
	snprintf(path, sizeof path, "items/%llu", (unsigned long long)number);
	snprintf(json, sizeof json, "{\"number\": %llu}", (unsigned long long)number);
	esk_item_array arrays[2] = {{.column = &times, .rows = ITEM_ROWS, .cells = values},
		{.column = &ramp, .rows = ITEM_ROWS, .cells = ramps}};
	esk_item item = ESK_ITEM_INIT;
	item.path = path;
	item.arrays = arrays;
	item.array_count = 2;
	item.attributes_json = json;
	item.join = "joined";
	esk_status status = esk_run_put(run, &item, &err);
	if (status != ESK_OK && status != ESK_EEXIST) /* it may be there, and not have been acknowledged */
		quit("put", &err);
	atomic_store(&acked->items, number + 1);
}

static acks *map_acks(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	if (fd < 0 || ftruncate(fd, sizeof(acks)) < 0)
		exit(5);
	acks *a = mmap(NULL, sizeof *a, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return a == MAP_FAILED ? NULL : a;
}

static void record(esk_store *store, const char *name, acks *acked, uint64_t seed, double seconds)
{
	esk_error err = {0};
	esk_run *run;
	esk_stream *stream;
	esk_column *columns;
	size_t count;
	esk_run_options options = ESK_RUN_OPTIONS_INIT;
	options.append = true;
	options.ring_bytes = 1u << 20;
	options.commit_interval_ns = 20000000;
	options.segment_bytes = 3u << 20;
	if (esk_run_open(store, name, &options, &run, &err) != ESK_OK)
		quit("run", &err);
	esk_columns_parse("id:i64 frame:u8[60,100]? note:str", &columns, &count, NULL);
	if (esk_run_stream(run, "/", columns, count, &stream, &err) != ESK_OK)
		quit("stream", &err);
	esk_columns_free(columns);
	esk_stream *a, *b;
	esk_columns_parse("id:i64", &columns, &count, NULL);
	if (esk_run_stream(run, "pair/a", columns, count, &a, &err) != ESK_OK ||
		esk_run_stream(run, "pair/b", columns, count, &b, &err) != ESK_OK)
		quit("streams", &err);
	esk_columns_free(columns);
	esk_watermark mark;
	if (esk_stream_commit(stream, &mark, &err) != ESK_OK)
		quit("first commit", &err);
	uint64_t row = mark.rows;
	time_t end = time(NULL) + (time_t)seconds + 1;
	while (time(NULL) < end) {
		uint32_t what = random_u32(&seed) % 100;
		if (what % 10 == 3)
			append_pair(run, a, b, acked);
		else if (what % 10 == 7)
			put_item(run, acked);
		else
			row = what < 70 ? append_one(stream, row) : append_batch(stream, row);
		atomic_store(&acked->appended, row);
		if (what == 99) {
			if (esk_stream_commit(stream, &mark, &err) != ESK_OK)
				quit("commit", &err);
			atomic_store(&acked->committed, mark.rows);
		}
		if (what > 90)
			usleep(random_u32(&seed) % 300);
	}
	if (esk_run_close(run, &err) != ESK_OK)
		quit("close", &err);
	atomic_store(&acked->committed, row);
}

int main(int argc, char **argv)
{
	bool recover = argc == 3 && strcmp(argv[1], "--recover") == 0;
	if (!recover && argc != 6) {
		fprintf(stderr, "usage: crash_recorder STORE RUN ACKS SEED SECONDS | --recover STORE\n");
		return 2;
	}
	esk_error err = {0};
	esk_store *store;
	esk_store_options options = ESK_STORE_OPTIONS_INIT;
	if (getenv("CRASH_VERBOSE") != NULL)
		options.log = log_line;
	if (esk_store_open(argv[recover ? 2 : 1], &options, &store, &err) != ESK_OK)
		quit("open", &err);
	if (!recover)
		record(store, argv[2], map_acks(argv[3]), strtoull(argv[4], NULL, 10), atof(argv[5]));
	if (esk_store_close(store, &err) != ESK_OK)
		quit("close", &err);
	return 0;
}
