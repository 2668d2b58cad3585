/* Instruments and writers that script/crash --daq kills, and script/soak runs for long: batches whose content
 * follows from the number of their first row.
 *
 *     crash_daq make RING MEGABYTES block|overwrite
 *     crash_daq produce RING ACKS INSTRUMENT SEED SECONDS [SOURCE [ROWS]]
 *         batches until the time is over, of ROWS rows (default: now few, now many); several sources may
 *         write to one instrument. As the instrument "bytes": records of raw bytes, a row each
 *     crash_daq wide RING CHANNELS ROWS
 *         one instrument "rack" of f64 columns ch0000, …: row r of channel c is c * 2^20 + r
 *     crash_daq write RING OUTPUT columns|batches SECONDS
 *         the background writer, until the time is over
 *     crash_daq tap RING
 *         a live view that checks what it sees of raw bytes, until it is killed
 *     crash_daq places RING
 *         a line for each named place in the ring: name, process that has it or 0
 *     crash_daq check STORE RUN INSTRUMENT FIRST
 *         reads a run's instrument: rows are FIRST, FIRST + 1, …, perhaps with holes; prints rows, holes,
 *         records lost and bad
 *
 * A row's number is SOURCE * 2^40 (default: 0) + how many rows that source wrote before it.
 *
 * ACKS: three u64 in a file that outlives the process: rows acknowledged, rows of which the writing had begun
 * (without SOURCE * 2^40), and records acknowledged. A producer that is started again goes on behind the
 * second. */
#include <esker/esker.h>

#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MOST_ROWS 64
#define NOTE_BYTES 24
#define RAW_BYTES 8192
#define READ_ROWS 65536
#define SOURCE_SHIFT 40

typedef struct acks {
	_Atomic uint64_t rows;
	_Atomic uint64_t begun;
	_Atomic uint64_t records;
} acks;

static void quit(const char *what, const esk_error *err)
{
	fprintf(stderr, "crash_daq: %s: %s\n", what, err->message);
	exit(3);
}

static void log_line(void *arg, esk_log_level level, const char *message)
{
	fprintf(stderr, "  [%d] %s\n", (int)level, message);
}

static uint32_t random_u32(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*seed >> 33);
}

static double seconds_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- batches ---- */

static void release_schema(struct ArrowSchema *schema)
{
	schema->release = NULL;
}

static void release_array(struct ArrowArray *array)
{
	array->release = NULL;
}

static const struct ArrowSchema *make_schema(void)
{
	static struct ArrowSchema columns[3] = {
		{.format = "l", .name = "timestamp", .release = release_schema},
		{.format = "g", .name = "voltage", .release = release_schema},
		{.format = "u", .name = "note", .release = release_schema},
	};
	static struct ArrowSchema *children[3] = {&columns[0], &columns[1], &columns[2]};
	static const struct ArrowSchema schema = {
		.format = "+s", .name = "", .n_children = 3, .children = children, .release = release_schema};
	return &schema;
}

static const struct ArrowArray *fill(uint64_t first, uint64_t rows)
{
	static int64_t timestamps[MOST_ROWS];
	static double voltages[MOST_ROWS];
	static int32_t ends[MOST_ROWS + 1];
	static char notes[MOST_ROWS * NOTE_BYTES];
	static const void *buffers[4][3];
	static struct ArrowArray columns[3], *children[3], batch;
	for (uint64_t i = 0; i < rows; i++) {
		timestamps[i] = (int64_t)(first + i);
		voltages[i] = 0.25 * (double)(first + i);
		ends[i + 1] = ends[i] + snprintf(notes + ends[i], NOTE_BYTES, "row %" PRIu64, first + i);
	}
	buffers[0][1] = timestamps;
	buffers[1][1] = voltages;
	buffers[2][1] = ends;
	buffers[2][2] = notes;
	for (int c = 0; c < 3; c++) {
		columns[c] = (struct ArrowArray){.length = (int64_t)rows,
			.n_buffers = c == 2 ? 3 : 2,
			.buffers = buffers[c],
			.release = release_array};
		children[c] = &columns[c];
	}
	batch = (struct ArrowArray){.length = (int64_t)rows,
		.n_buffers = 1,
		.buffers = buffers[3],
		.n_children = 3,
		.children = children,
		.release = release_array};
	return &batch;
}

/* ---- making, producing ---- */

static void make(const char *path, const char *megabytes, const char *policy)
{
	esk_error err;
	esk_ring *ring;
	esk_ring_options options = ESK_RING_OPTIONS_INIT;
	options.policy = strcmp(policy, "block") == 0 ? ESK_BLOCK : ESK_OVERWRITE;
	options.block_timeout_ns = 300000000000ull; /* longer than any writer is away */
	if (esk_daq_ring_create(path, strtoull(megabytes, NULL, 10), &options, &ring, &err) != ESK_OK)
		quit("make", &err);
	/* The writer's place: from here on nothing is given back that it did not take. */
	esk_consumer *consumer;
	if (esk_consumer_open(ring, "hdf5", NULL, &consumer, &err) != ESK_OK)
		quit("make", &err);
	esk_consumer_close(consumer);
	esk_ring_detach(ring);
}

static acks *map_acks(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	if (fd < 0 || ftruncate(fd, sizeof(acks)) < 0)
		exit(5);
	acks *a = mmap(NULL, sizeof *a, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (a == MAP_FAILED)
		exit(5);
	return a;
}

static esk_ring *open_ring(const char *path)
{
	esk_error err;
	esk_ring *ring;
	if (esk_daq_ring_open(path, &ring, &err) != ESK_OK)
		quit("ring", &err);
	return ring;
}

typedef struct production {
	esk_ring *ring;
	esk_daq_source *source; /* NULL: raw bytes */
	uint64_t seed;
	double seconds;
	uint64_t base; /* number of the source's first row */
	uint64_t rows; /* of a batch; 0: any */
} production;

/* A record of raw bytes: its row's number, and a tail that follows from it. */
static size_t fill_raw(uint64_t row, uint8_t bytes[RAW_BYTES])
{
	size_t tail = row % 61 + (row % 97 == 0 ? 5000 : 0);
	memcpy(bytes, &row, sizeof row);
	memset(bytes + sizeof row, (int)(row % 251), tail);
	return sizeof row + tail;
}

static uint64_t next_rows(production *p)
{
	if (p->source == NULL)
		return 1;
	if (p->rows != 0)
		return p->rows;
	return random_u32(&p->seed) % 50 == 0 ? MOST_ROWS : 1 + random_u32(&p->seed) % 3;
}

static esk_status write_once(const production *p, uint64_t row, uint64_t rows, esk_error *err)
{
	static uint8_t raw[RAW_BYTES];
	if (p->source == NULL)
		return esk_daq_write(p->ring, raw, fill_raw(p->base + row, raw), err);
	return esk_daq_source_write(p->source, fill(p->base + row, rows), err);
}

static void produce(acks *acked, production *p)
{
	esk_error err;
	uint64_t row = atomic_load(&acked->begun);
	atomic_store(&acked->rows, row); /* what lies between was left open by the one before */
	double end = seconds_now() + p->seconds;
	for (uint64_t n = 0; n % 256 != 0 || seconds_now() < end; n++) {
		uint64_t rows = next_rows(p);
		atomic_store(&acked->begun, row + rows);
		esk_status status = write_once(p, row, rows, &err);
		while (status ==
			ESK_ETIMEDOUT) /* a ring that overwrites waits for a producer that stands still */
			status = write_once(p, row, rows, &err);
		if (status != ESK_OK)
			quit("write", &err);
		row += rows;
		atomic_store(&acked->rows, row);
		atomic_fetch_add(&acked->records, 1);
	}
}

static void start_producing(int argc, char **argv)
{
	esk_error err;
	const char *instrument = argv[4];
	production p = {
		.ring = open_ring(argv[2]), .seed = strtoull(argv[5], NULL, 10), .seconds = atof(argv[6])};
	if (argc > 7)
		p.base = strtoull(argv[7], NULL, 10) << SOURCE_SHIFT;
	if (argc > 8)
		p.rows = strtoull(argv[8], NULL, 10);
	if (p.rows > MOST_ROWS)
		exit(2);
	if (strcmp(instrument, ESK_DAQ_BYTES_STREAM) != 0 &&
		esk_daq_source_open(p.ring, instrument, make_schema(), &p.source, &err) != ESK_OK)
		quit("source", &err);
	produce(map_acks(argv[3]), &p);
	esk_daq_source_close(p.source);
}

/* ---- looking on ---- */

static void look_on(const char *path)
{
	static uint8_t seen[RAW_BYTES], expected[RAW_BYTES];
	esk_error err;
	esk_tap *tap;
	if (esk_tap_open(path, 3, &tap, &err) != ESK_OK)
		quit("tap", &err);
	for (;;) {
		esk_ring_record record;
		bool found;
		uint64_t row;
		if (esk_tap_read(tap, seen, sizeof seen, &record, &found, &err) != ESK_OK)
			quit("tap", &err);
		if (!found) {
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
			continue;
		}
		if (record.kind != ESK_DAQ_BYTES)
			continue;
		memcpy(&row, seen, sizeof row);
		if (record.size_bytes != fill_raw(row, expected) ||
			memcmp(seen, expected, record.size_bytes) != 0) {
			fprintf(stderr, "crash_daq: record %" PRIu64 " is not what was written\n",
				record.sequence);
			exit(6);
		}
	}
}

static void print_places(const char *path)
{
	esk_ring *ring = open_ring(path);
	for (uint32_t i = 0; i < esk_ring_consumer_places(ring); i++) {
		esk_consumer_info info = {.struct_size = sizeof info};
		if (esk_ring_consumer_at(ring, i, &info))
			printf("%s %" PRId64 "\n", info.name, info.pid);
	}
	esk_ring_detach(ring);
}

/* ---- many channels ---- */

#define WIDE_ROWS 16
#define WIDE_CHANNELS 4096

static struct ArrowSchema wide_fields[WIDE_CHANNELS], *wide_field_list[WIDE_CHANNELS];
static struct ArrowArray wide_columns[WIDE_CHANNELS], *wide_column_list[WIDE_CHANNELS];
static double wide_cells[WIDE_CHANNELS][WIDE_ROWS];

static void make_wide(uint64_t channels)
{
	static char names[WIDE_CHANNELS][16];
	static const void *buffers[WIDE_CHANNELS][2];
	for (uint64_t c = 0; c < channels; c++) {
		snprintf(names[c], sizeof names[c], "ch%04" PRIu64, c);
		wide_fields[c] =
			(struct ArrowSchema){.format = "g", .name = names[c], .release = release_schema};
		wide_field_list[c] = &wide_fields[c];
		buffers[c][1] = wide_cells[c];
		wide_columns[c] =
			(struct ArrowArray){.n_buffers = 2, .buffers = buffers[c], .release = release_array};
		wide_column_list[c] = &wide_columns[c];
	}
}

static void fill_wide(uint64_t channels, uint64_t first, uint64_t rows)
{
	for (uint64_t c = 0; c < channels; c++) {
		wide_columns[c].length = (int64_t)rows;
		for (uint64_t i = 0; i < rows; i++)
			wide_cells[c][i] = (double)((c << 20) + first + i);
	}
}

static void produce_wide(const char *path, uint64_t channels, uint64_t rows)
{
	static const void *none[1];
	esk_error err;
	esk_daq_source *source;
	if (channels == 0 || channels > WIDE_CHANNELS)
		exit(2);
	make_wide(channels);
	struct ArrowSchema schema = {.format = "+s",
		.name = "",
		.n_children = (int64_t)channels,
		.children = wide_field_list,
		.release = release_schema};
	if (esk_daq_source_open(open_ring(path), "rack", &schema, &source, &err) != ESK_OK)
		quit("source", &err);
	for (uint64_t first = 0; first < rows; first += WIDE_ROWS) {
		uint64_t count = rows - first < WIDE_ROWS ? rows - first : WIDE_ROWS;
		fill_wide(channels, first, count);
		struct ArrowArray batch = {.length = (int64_t)count,
			.n_buffers = 1,
			.buffers = none,
			.n_children = (int64_t)channels,
			.children = wide_column_list,
			.release = release_array};
		if (esk_daq_source_write(source, &batch, &err) != ESK_OK)
			quit("write", &err);
	}
	esk_daq_source_close(source);
}

/* ---- writing ---- */

static void write_run(const char *path, const char *output, const char *layout, double seconds)
{
	esk_error err;
	esk_daq_writer *writer;
	esk_daq_writer_options options = ESK_DAQ_WRITER_OPTIONS_INIT;
	options.layout = strcmp(layout, "batches") == 0 ? ESK_DAQ_BATCHES : ESK_DAQ_COLUMNS;
	options.flush_interval_ns = 20000000;
	options.ring_bytes = 16u << 20;
	options.segment_bytes = 8u << 20;
	if (getenv("CRASH_VERBOSE") != NULL)
		options.log = log_line;
	if (getenv("CRASH_SOAK") != NULL) {
		options.flush_interval_ns = 0;
		options.ring_bytes = 0;
		options.segment_bytes = 1ull << 30;
	}
	if (esk_daq_writer_open(output, open_ring(path), &options, &writer, &err) != ESK_OK)
		quit("writer", &err);
	if (esk_daq_writer_start(writer, &err) != ESK_OK)
		quit("start", &err);
	for (double end = seconds_now() + seconds; seconds_now() < end;) {
		struct timespec nap = {.tv_nsec = 10000000};
		nanosleep(&nap, NULL);
	}
	if (esk_daq_writer_flush(writer, &err) != ESK_OK)
		quit("flush", &err);
	esk_daq_writer_stats stats = {.struct_size = sizeof stats};
	if (esk_daq_writer_get_stats(writer, &stats, &err) != ESK_OK)
		quit("statistics", &err);
	printf("records %" PRIu64 " rows %" PRIu64 " bad %" PRIu64 " lost %" PRIu64 " batches %" PRIu64 "\n",
		stats.records, stats.rows, stats.bad_records, stats.lost_records, stats.batches);
	if (esk_daq_writer_close(writer, &err) != ESK_OK)
		quit("close", &err);
}

/* ---- checking ---- */

static esk_dataset *find(esk_reader *reader, const char *group, const char *name)
{
	char path[512];
	esk_error err;
	esk_dataset *dataset;
	snprintf(path, sizeof path, "%s/%s", group, name);
	if (esk_reader_find(reader, path, &dataset, &err) != ESK_OK)
		quit("find", &err);
	return dataset;
}

static void read_cells(esk_dataset *dataset, uint64_t start, uint64_t rows, void *cells)
{
	esk_error err;
	if (esk_dataset_read(dataset, (int64_t)start, (int64_t)(start + rows), 1, cells, rows * 8, &err) !=
		ESK_OK)
		quit("read", &err);
}

static uint64_t account_sum(esk_reader *reader, const char *column)
{
	static uint64_t values[READ_ROWS];
	esk_dataset *dataset = find(reader, ESK_DAQ_RING_STREAM, column);
	uint64_t sum = 0, total = esk_dataset_rows(dataset);
	for (uint64_t start = 0; start < total; start += READ_ROWS) {
		uint64_t rows = total - start < READ_ROWS ? total - start : READ_ROWS;
		read_cells(dataset, start, rows, values);
		for (uint64_t i = 0; i < rows; i++)
			sum += values[i];
	}
	return sum;
}

static void check(const char *directory, const char *run, const char *instrument, uint64_t expected)
{
	static int64_t timestamps[READ_ROWS];
	static double voltages[READ_ROWS];
	esk_error err;
	esk_store *store;
	esk_reader *reader = NULL;
	uint64_t holes = 0;
	if (esk_store_open(directory, NULL, &store, &err) != ESK_OK ||
		esk_reader_open(store, run, &reader, &err) != ESK_OK)
		quit("reader", &err);
	esk_dataset *times = find(reader, instrument, "timestamp"),
		    *volts = find(reader, instrument, "voltage");
	uint64_t total = esk_dataset_rows(times);
	for (uint64_t start = 0; start < total; start += READ_ROWS) {
		uint64_t rows = total - start < READ_ROWS ? total - start : READ_ROWS;
		read_cells(times, start, rows, timestamps);
		read_cells(volts, start, rows, voltages);
		for (uint64_t i = 0; i < rows; i++, expected++) {
			uint64_t found = (uint64_t)timestamps[i];
			if (found < expected || voltages[i] != 0.25 * (double)found) {
				fprintf(stderr,
					"crash_daq: row %" PRIu64 " of %s holds %" PRIu64
					", expected %" PRIu64 "\n",
					start + i, instrument, found, expected);
				exit(6);
			}
			holes += found - expected;
			expected = found;
		}
	}
	printf("rows %" PRIu64 " holes %" PRIu64 " lost %" PRIu64 " bad %" PRIu64 " records %" PRIu64 "\n",
		total, holes, account_sum(reader, "lost_records"), account_sum(reader, "bad_records"),
		account_sum(reader, "records"));
	esk_reader_close(reader);
	esk_store_close(store, NULL);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	if (strcmp(what, "make") == 0 && argc == 5)
		make(argv[2], argv[3], argv[4]);
	else if (strcmp(what, "produce") == 0 && argc >= 7 && argc <= 9)
		start_producing(argc, argv);
	else if (strcmp(what, "wide") == 0 && argc == 5)
		produce_wide(argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
	else if (strcmp(what, "write") == 0 && argc == 6)
		write_run(argv[2], argv[3], argv[4], atof(argv[5]));
	else if (strcmp(what, "tap") == 0 && argc == 3)
		look_on(argv[2]);
	else if (strcmp(what, "places") == 0 && argc == 3)
		print_places(argv[2]);
	else if (strcmp(what, "check") == 0 && argc == 6)
		check(argv[2], argv[3], argv[4], strtoull(argv[5], NULL, 10));
	else {
		fprintf(stderr, "usage: crash_daq make|produce|wide|write|tap|places|check …\n");
		return 2;
	}
	return 0;
}
