/* Instruments' rings: making them, raw bytes and record batches in them, snapshots, and the gathering of
 * batches. */
#include "daq_support.h"

#include "../../profiles/daq/gather.h"
#include "../../profiles/daq/rings.h"

#include <esker/arrow_encode.h>

static esk_ring *make(const char *name, const esk_ring_options *overrides)
{
	esk_ring *ring = NULL;
	check_ok(esk_daq_ring_create(daq_path(name), 1, overrides, &ring, err));
	return ring;
}

/* ---- making ---- */

static void a_ring_is_for_its_owner_alone_and_its_size_is_bounded(void **state)
{
	struct stat info;
	esk_ring *ring, *again;
	check_fails(esk_daq_ring_create(daq_path("r"), 0, NULL, &ring, err), ESK_ERANGE, "1 to");
	check_fails(esk_daq_ring_create(daq_path("r"), ESK_DAQ_MAX_CAPACITY_MB + 1ull, NULL, &ring, err),
		ESK_ERANGE, "1 to");
	ring = make("r", NULL);
	assert_int_equal(stat(daq_path("r"), &info), 0);
	assert_int_equal(info.st_mode & 0777, 0600);
	assert_int_equal(esk_ring_capacity(ring), 1u << 20);
	assert_int_equal(esk_ring_consumer_places(ring), 32);
	check_fails(esk_daq_ring_create(daq_path("r"), 1, NULL, &again, err), ESK_EEXIST, "");
	uint8_t *large = calloc(1, 1u << 20);
	check_fails(esk_daq_write(ring, large, 1u << 20, err), ESK_ERANGE, "");
	free(large);
	esk_ring_detach(ring);
}

static void what_is_no_ring_is_told_from_one(void **state)
{
	esk_ring *ring;
	check_fails(esk_daq_ring_open(daq_path("none"), &ring, err), ESK_ENOTFOUND, "");
	esk_ring_detach(make("r", NULL));
	assert_int_equal(truncate(daq_path("r"), 70000), 0);
	check_fails(esk_daq_ring_open(daq_path("r"), &ring, err), ESK_ECORRUPT, "");
	int fd = open(daq_path("text"), O_CREAT | O_WRONLY, 0600);
	for (int i = 0; i < 20000; i++)
		assert_int_equal(write(fd, "no ring at all. ", 16), 16);
	close(fd);
	check_fails(esk_daq_ring_open(daq_path("text"), &ring, err), ESK_ECORRUPT, "");
}

static void names_that_lead_elsewhere_are_refused(void **state)
{
	static const char *const bad[] = {"", ".", "..", ".hidden", "a/b", "/", "a\\b", "a:b", "a\nb", "\x7f",
		"\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "a\xe2\x82"};
	static const char *const good[] = {"scope", "Gerät 1", "a.b", "電圧", "x y", "\xf0\x9f\x8c\x8a"};
	char longest[ESK_DAQ_MAX_INSTRUMENT + 2];
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		check_fails(esk_name_check(bad[i], "instrument", err), ESK_EINVAL, "instrument");
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		check_ok(esk_name_check(good[i], "instrument", err));
	memset(longest, 'n', sizeof longest);
	longest[ESK_DAQ_MAX_INSTRUMENT + 1] = '\0';
	check_fails(esk_name_check(longest, "instrument", err), ESK_EINVAL, "200 bytes");
	longest[ESK_DAQ_MAX_INSTRUMENT] = '\0';
	check_ok(esk_name_check(longest, "instrument", err));
	esk_ring *ring = make("r", NULL);
	daq_batch batch;
	check_fails(
		esk_daq_write_arrow(ring, "../x", daq_schema(), daq_fill(&batch, 0, 1), err), ESK_EINVAL, "");
	check_fails(esk_daq_write_arrow(ring, ESK_DAQ_RING_STREAM, daq_schema(), daq_fill(&batch, 0, 1), err),
		ESK_EINVAL, "account");
	esk_ring_detach(ring);
}

static void a_store_keeps_rings_where_the_daemon_finds_them(void **state)
{
	char path[512], target[512] = "";
	esk_ring *ring, *other;
	check_fails(esk_daq_ring_create_in(daq_path("store"), "scope", 1, NULL, &ring, err), ESK_ENOTFOUND,
		"no store");
	check_ok(esk_store_create(daq_path("store"), err));
	check_ok(esk_daq_ring_create_in(daq_path("store"), "scope", 1, NULL, &ring, err));
	check_ok(esk_daq_write(ring, "here", 4, err));
	check_fails(esk_daq_ring_create_in(daq_path("store"), "scope", 1, NULL, &other, err), ESK_EEXIST,
		"scope");
	check_ok(esk_daq_ring_path(daq_path("store"), "scope", path, sizeof path, err));
	check_ok(esk_daq_ring_open(path, &other, err));
	void *data;
	size_t size;
	check_ok(esk_daq_read_snapshot(other, &data, &size, err));
	assert_int_equal(size, 4);
	assert_memory_equal(data, "here", 4);
	esk_daq_snapshot_free(data);
	esk_ring_detach(other);
	esk_ring_detach(ring);
	/* What a restart of the machine leaves: a link to nothing. Its place is taken. */
	if (readlink(path, target, sizeof target - 1) > 0) {
		assert_int_equal(unlink(target), 0);
		check_ok(esk_daq_ring_create_in(daq_path("store"), "scope", 1, NULL, &ring, err));
		esk_ring_detach(ring);
		assert_int_equal(unlink(target), 0);
	}
}

/* ---- snapshots ---- */

static void expect_snapshot(esk_ring *ring, const char *expected)
{
	void *data;
	size_t size;
	check_ok(esk_daq_read_snapshot(ring, &data, &size, err));
	if (size != strlen(expected) || memcmp(data, expected, size) != 0)
		fail_msg("a snapshot is \"%.*s\", expected \"%s\"", (int)size, (const char *)data, expected);
	esk_daq_snapshot_free(data);
}

static void a_snapshot_is_what_was_written_and_not_advanced_over(void **state)
{
	esk_ring *ring = make("r", NULL);
	expect_snapshot(ring, "");
	check_ok(esk_daq_write(ring, "abc", 3, err));
	check_ok(esk_daq_write(ring, "", 0, err));
	check_ok(esk_daq_write(ring, "defgh", 5, err));
	expect_snapshot(ring, "abcdefgh");
	expect_snapshot(ring, "abcdefgh");
	check_ok(esk_daq_advance_tail(ring, 0, err));
	check_ok(esk_daq_advance_tail(ring, 2, err));
	expect_snapshot(ring, "cdefgh");
	check_ok(esk_daq_advance_tail(ring, 1, err));
	expect_snapshot(ring, "defgh");
	check_ok(esk_daq_advance_tail(ring, 3, err));
	check_ok(esk_daq_write(ring, "ij", 2, err));
	expect_snapshot(ring, "ghij");
	check_ok(esk_daq_advance_tail(ring, 1000, err));
	expect_snapshot(ring, "");
	esk_ring_detach(ring);
}

static void an_offset_inside_a_record_outlives_the_process(void **state)
{
	esk_ring *ring = make("r", NULL);
	check_ok(esk_daq_write(ring, "abcdef", 6, err));
	check_ok(esk_daq_write(ring, "ghi", 3, err));
	pid_t child = fork();
	if (child == 0) {
		esk_ring *mine;
		_exit(esk_daq_ring_open(daq_path("r"), &mine, NULL) != ESK_OK ||
			esk_daq_advance_tail(mine, 4, NULL) != ESK_OK);
	}
	int result;
	assert_int_equal(waitpid(child, &result, 0), child);
	assert_int_equal(result, 0);
	expect_snapshot(ring, "efghi");
	esk_ring_detach(ring);
}

#define PROOF_BYTES 1000

/* Record n: its number, then bytes that follow from it. */
static void fill_proof(uint8_t *record, uint64_t n)
{
	memcpy(record, &n, sizeof n);
	for (size_t i = sizeof n; i < PROOF_BYTES; i++)
		record[i] = (uint8_t)(n * 31 + i);
}

static uint64_t check_proof(const uint8_t *record)
{
	uint8_t expected[PROOF_BYTES];
	uint64_t n;
	memcpy(&n, record, sizeof n);
	fill_proof(expected, n);
	assert_memory_equal(record, expected, PROOF_BYTES);
	return n;
}

typedef struct producing {
	esk_ring *ring;
	_Atomic bool stop;
	_Atomic uint64_t written;
	_Atomic uint64_t *next; /* numbers are shared by the producers */
} producing;

static void *produce(void *arg)
{
	producing *p = arg;
	uint8_t record[PROOF_BYTES];
	while (!atomic_load(&p->stop)) {
		fill_proof(record, atomic_fetch_add(p->next, 1));
		if (esk_daq_write(p->ring, record, sizeof record, NULL) == ESK_OK)
			atomic_fetch_add(&p->written, 1);
	}
	return NULL;
}

static void snapshots_are_of_whole_records_while_producers_overwrite(void **state)
{
	_Atomic uint64_t next = 0;
	producing p = {.ring = make("r", NULL), .next = &next};
	pthread_t threads[2];
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, produce, &p), 0);
	unsigned rounds = daq_rounds(100);
	uint64_t seen = 0;
	for (unsigned round = 0; round < rounds || seen < 5 * rounds; round++) {
		uint8_t *data;
		size_t size;
		check_ok(esk_daq_read_snapshot(p.ring, (void **)&data, &size, err));
		assert_int_equal(size % PROOF_BYTES, 0);
		for (size_t at = 0; at < size; at += PROOF_BYTES, seen++)
			check_proof(data + at);
		esk_daq_snapshot_free(data);
		if (round % 3 == 0)
			check_ok(esk_daq_advance_tail(p.ring, size, err));
	}
	atomic_store(&p.stop, true);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	esk_ring_detach(p.ring);
}

static void advancing_never_passes_what_no_snapshot_showed(void **state)
{
	uint64_t seed = 7;
	esk_ring *ring = make("r", NULL);
	uint8_t record[PROOF_BYTES];
	uint64_t written = 0, shown = 0;
	for (unsigned round = 0; round < daq_rounds(300); round++) {
		uint8_t *data;
		size_t size;
		check_ok(esk_daq_read_snapshot(ring, (void **)&data, &size, err));
		uint64_t oldest = size > 0 ? check_proof(data + size % PROOF_BYTES) : shown;
		uint64_t room = (1u << 20) / 1100;
		/* Nothing is skipped that was not shown before or overwritten. */
		assert_true(oldest <= shown || written - oldest >= room / 2);
		if (size > 0)
			shown = check_proof(data + size - PROOF_BYTES) + 1;
		esk_daq_snapshot_free(data);
		for (uint64_t n = daq_random(&seed) % 1500; n > 0; n--) {
			fill_proof(record, written++);
			check_ok(esk_daq_write(ring, record, sizeof record, err));
		}
		check_ok(esk_daq_advance_tail(ring, size, err));
	}
	esk_ring_detach(ring);
}

static void a_ring_that_blocks_loses_nothing_between_snapshots(void **state)
{
	esk_ring_options blocks = ESK_RING_OPTIONS_INIT;
	blocks.policy = ESK_BLOCK;
	_Atomic uint64_t next = 0;
	producing p = {.ring = make("r", &blocks), .next = &next};
	pthread_t thread;
	uint64_t seen = 0, wanted = 100ull * daq_rounds(100);
	void *none;
	size_t size;
	check_ok(esk_daq_read_snapshot(p.ring, &none, &size, err)); /* from here on it holds the tail */
	esk_daq_snapshot_free(none);
	assert_int_equal(pthread_create(&thread, NULL, produce, &p), 0);
	while (seen < wanted) {
		uint8_t *data;
		check_ok(esk_daq_read_snapshot(p.ring, (void **)&data, &size, err));
		for (size_t at = 0; at < size; at += PROOF_BYTES)
			assert_int_equal(check_proof(data + at), seen++);
		check_ok(esk_daq_advance_tail(p.ring, size, err));
		esk_daq_snapshot_free(data);
	}
	atomic_store(&p.stop, true);
	uint8_t *rest;
	check_ok(esk_daq_read_snapshot(p.ring, (void **)&rest, &size, err));
	check_ok(esk_daq_advance_tail(p.ring, size, err));
	esk_daq_snapshot_free(rest);
	pthread_join(thread, NULL);
	esk_ring_detach(p.ring);
}

/* ---- record batches ---- */

/* The schema {good: int64, bad: `format`}. */
static const struct ArrowSchema *schema_with(const char *format)
{
	static struct ArrowSchema good, bad, schema, *columns[] = {&good, &bad};
	good = (struct ArrowSchema){.format = "l", .name = "good", .release = daq_release_schema};
	bad = (struct ArrowSchema){.format = format, .name = "bad", .release = daq_release_schema};
	schema = (struct ArrowSchema){.format = "+s",
		.name = "",
		.n_children = 2,
		.children = columns,
		.release = daq_release_schema};
	return &schema;
}

static void what_no_file_has_a_place_for_is_refused_before_it_is_in_the_ring(void **state)
{
	static const char *const formats[] = {"tin", "tiM", "d:50,2,256", "vu", "w:0"};
	esk_ring *ring = make("r", NULL);
	esk_ring_stats stats;
	esk_daq_source *source;
	daq_batch batch;
	for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
		const struct ArrowSchema *schema = schema_with(formats[i]);
		check_fails(esk_daq_source_open(ring, "scope", schema, &source, err), ESK_EUNSUPPORTED,
			"column \"bad\"");
		check_fails(esk_daq_write_arrow(ring, "scope", schema, daq_fill(&batch, 0, 3), err),
			ESK_EUNSUPPORTED, "column \"bad\"");
	}
	esk_ring_get_stats(ring, &stats);
	assert_int_equal(stats.head_position, 0);
	assert_int_equal(esk_ring_declaration_count(ring), 0);
	esk_ring_detach(ring);
}

static void a_source_tells_batches_of_another_schema_apart(void **state)
{
	esk_ring *ring = make("r", NULL);
	esk_daq_source *source;
	struct ArrowSchema less = *daq_schema(), swapped = *daq_schema();
	struct ArrowSchema *columns[] = {daq_schema()->children[1], daq_schema()->children[0]};
	check_ok(esk_daq_source_open(ring, "scope", daq_schema(), &source, err));
	check_ok(esk_daq_source_check(source, daq_schema(), err));
	less.n_children = 1;
	check_fails(esk_daq_source_check(source, &less, err), ESK_ENOTFOUND, "\"voltage\" is missing");
	swapped.children = columns;
	check_fails(esk_daq_source_check(source, &swapped, err), ESK_ETYPE, "the order has changed");
	check_fails(esk_daq_source_check(source, schema_with("g"), err), ESK_ENOTFOUND, "\"timestamp\"");
	check_fails(esk_daq_source_check(source, NULL, err), ESK_EINVAL, "no Arrow schema");
	esk_daq_source_close(source);
	check_ok(esk_daq_source_open(ring, "psu", schema_with("g"), &source, err));
	check_fails(esk_daq_source_check(source, schema_with("f"), err), ESK_ETYPE, "column \"bad\"");
	esk_daq_source_close(source);
	esk_ring_detach(ring);
}

static void a_batch_is_declared_once_and_comes_out_as_it_went_in(void **state)
{
	esk_ring *ring = make("r", NULL);
	esk_daq_source *source;
	daq_batch batch;
	check_ok(esk_daq_source_open(ring, "scope", daq_schema(), &source, err));
	check_ok(esk_daq_source_write(source, daq_fill(&batch, 10, 3), err));
	check_ok(esk_daq_source_write(source, daq_fill(&batch, 13, 1), err));
	check_ok(esk_daq_write_arrow(ring, "scope", daq_schema(), daq_fill(&batch, 14, 2), err));
	check_ok(esk_daq_write_arrow(ring, NULL, daq_schema(), daq_fill(&batch, 0, 2), err));
	assert_int_equal(esk_ring_declaration_count(ring), 2);
	esk_daq_source_close(source);

	const void *bytes;
	size_t size, used;
	esk_daq_declaration declaration;
	esk_arrow_decoder *decoder;
	struct ArrowArray array;
	check_ok(esk_ring_declaration(ring, 2, &bytes, &size, err));
	check_ok(esk_daq_declaration_parse(bytes, size, &declaration, err));
	assert_string_equal(declaration.instrument, ESK_DAQ_DEFAULT_INSTRUMENT);
	check_ok(esk_ring_declaration(ring, 1, &bytes, &size, err));
	check_ok(esk_daq_declaration_parse(bytes, size, &declaration, err));
	assert_string_equal(declaration.instrument, "scope");
	check_ok(esk_arrow_decoder_create(&decoder, err));
	check_ok(esk_arrow_decoder_feed(
		decoder, declaration.schema, declaration.schema_bytes, &used, &array, err));

	esk_consumer *consumer;
	esk_ring_record record;
	bool found;
	int64_t row = 10;
	check_ok(esk_consumer_open(ring, "test", NULL, &consumer, err));
	for (int i = 0; i < 3; i++) {
		check_ok(esk_consumer_read(consumer, &record, &found, err));
		assert_true(found);
		assert_int_equal(record.kind, ESK_DAQ_BATCH);
		assert_int_equal(record.stream, 1);
		check_ok(esk_arrow_decoder_feed(
			decoder, record.payload, record.size_bytes, &used, &array, err));
		assert_int_equal(used, record.size_bytes);
		for (int64_t r = 0; r < array.length; r++, row++) {
			assert_int_equal(((const int64_t *)array.children[0]->buffers[1])[r], row);
			assert_true(((const double *)array.children[1]->buffers[1])[r] == daq_voltage(row));
		}
		array.release(&array);
	}
	assert_int_equal(row, 16);
	esk_consumer_close(consumer);
	esk_arrow_decoder_destroy(decoder);
	esk_ring_detach(ring);
}

static void a_tap_finds_schema_and_instrument_in_the_ring(void **state)
{
	esk_ring *ring = make("r", NULL);
	esk_tap *tap;
	esk_ring_record record;
	daq_batch batch;
	uint8_t payload[4096];
	char instrument[ESK_DAQ_MAX_INSTRUMENT + 1];
	struct ArrowSchema schema;
	struct ArrowArray array;
	bool found;
	check_ok(esk_tap_open(esk_ring_path(ring), 1, &tap, err));
	check_ok(esk_daq_write_arrow(ring, "scope", daq_schema(), daq_fill(&batch, 10, 3), err));
	check_ok(esk_tap_read(tap, payload, sizeof payload, &record, &found, err));
	assert_true(found && record.kind == ESK_DAQ_BATCH && record.size_bytes <= sizeof payload);
	check_ok(esk_daq_read_declaration(ring, record.stream, instrument, &schema, err));
	assert_string_equal(instrument, "scope");
	assert_int_equal(schema.n_children, daq_schema()->n_children);
	check_ok(esk_daq_read_batch(ring, record.stream, payload, record.size_bytes, &array, err));
	memset(payload, 0xEE, sizeof payload); /* the array has bytes of its own */
	esk_ring_detach(ring);
	check_ok(esk_arrow_validate(&schema, &array, err));
	assert_int_equal(array.length, 3);
	for (int64_t r = 0; r < 3; r++)
		assert_true(((const double *)array.children[1]->buffers[1])[r] == daq_voltage(10 + r));
	array.release(&array);
	schema.release(&schema);
	esk_tap_close(tap);
}

static void what_no_instrument_declared_or_wrote_is_refused(void **state)
{
	esk_ring *ring = make("r", NULL);
	daq_batch batch;
	uint8_t payload[8192];
	char instrument[ESK_DAQ_MAX_INSTRUMENT + 1] = "as before";
	struct ArrowSchema schema = {.n_children = 77};
	struct ArrowArray array = {.length = 77};
	esk_consumer *consumer;
	esk_ring_record record;
	uint32_t other;
	bool found;
	check_ok(esk_daq_write_arrow(ring, "scope", daq_schema(), daq_fill(&batch, 10, 3), err));
	check_ok(esk_ring_declare(ring, "what is this?", 13, &other, err));
	check_fails(esk_daq_read_declaration(ring, 0, instrument, &schema, err), ESK_ENOTFOUND, "");
	check_fails(esk_daq_read_declaration(ring, 3, instrument, &schema, err), ESK_ENOTFOUND, "");
	check_fails(esk_daq_read_declaration(ring, other, instrument, &schema, err), ESK_ECORRUPT,
		"declaration 2");
	check_ok(esk_consumer_open(ring, "test", NULL, &consumer, err));
	check_ok(esk_consumer_read(consumer, &record, &found, err));
	assert_true(found && 2 * record.size_bytes <= sizeof payload);
	memcpy(payload, record.payload, record.size_bytes);
	memcpy(payload + record.size_bytes, record.payload, record.size_bytes);
	check_fails(esk_daq_read_batch(ring, 9, payload, record.size_bytes, &array, err), ESK_ENOTFOUND, "");
	check_fails(esk_daq_read_batch(ring, 1, payload, 0, &array, err), ESK_ECORRUPT, "no record batch");
	check_fails(esk_daq_read_batch(ring, 1, payload, 2 * record.size_bytes, &array, err), ESK_ECORRUPT,
		"several record batches");
	check_fails(esk_daq_read_batch(ring, 1, payload, record.size_bytes - 8, &array, err), ESK_ECORRUPT,
		"declaration 1");
	uint64_t seed = 4711;
	print_message("seed %llu\n", (unsigned long long)seed);
	for (unsigned round = 0; round < daq_rounds(20000); round++) {
		struct ArrowArray any;
		memcpy(payload, record.payload, record.size_bytes);
		for (unsigned i = 0; i <= round % 4; i++)
			payload[daq_random(&seed) % record.size_bytes] = (uint8_t)daq_random(&seed);
		if (esk_daq_read_batch(ring, 1, payload, record.size_bytes, &any, NULL) == ESK_OK) {
			check_ok(esk_arrow_validate(daq_schema(), &any, err));
			any.release(&any);
		}
	}
	assert_int_equal(schema.n_children, 77);
	assert_int_equal(array.length, 77);
	assert_string_equal(instrument, "as before");
	esk_consumer_close(consumer);
	esk_ring_detach(ring);
}

static void declarations_of_any_bytes_are_taken_apart_safely(void **state)
{
	uint64_t seed = 99;
	for (unsigned round = 0; round < daq_rounds(20000); round++) {
		esk_daq_declaration declaration;
		size_t size = daq_random(&seed) % 300;
		uint8_t *bytes = malloc(size + 1);
		for (size_t i = 0; i < size; i++)
			bytes[i] = (uint8_t)daq_random(&seed);
		if (size > 1 && round % 2 == 0)
			bytes[1] = 0;
		if (esk_daq_declaration_parse(bytes, size, &declaration, NULL) == ESK_OK) {
			assert_true((const uint8_t *)declaration.schema + declaration.schema_bytes ==
				    bytes + size);
			assert_true(strlen(declaration.instrument) <= ESK_DAQ_MAX_INSTRUMENT);
		}
		free(bytes);
	}
}

/* ---- gathering ---- */

#define GATHER_ROWS 600

/* One column of each layout, of GATHER_ROWS rows. */
typedef struct wide {
	int64_t numbers[GATHER_ROWS];
	uint8_t bits[GATHER_ROWS / 8], validity[GATHER_ROWS / 8];
	int32_t text_ends[GATHER_ROWS + 1], list_ends[GATHER_ROWS + 1];
	int64_t blob_ends[GATHER_ROWS + 1];
	char texts[8 * GATHER_ROWS];
	uint16_t items[8 * GATHER_ROWS];
	struct ArrowSchema schemas[12], *schema_children[6], *inner[2], *list_child[1], *each_child[1];
	struct ArrowArray arrays[12], *children[6], *inner_arrays[2], *list_array[1], *each_array[1];
	const void *buffers[12][3];
} wide;

static void set_column(wide *w, int at, const char *format, const char *name, int64_t length, int buffers,
	const void *values, const void *more)
{
	w->schemas[at] = (struct ArrowSchema){
		.format = format, .name = name, .flags = ARROW_FLAG_NULLABLE, .release = daq_release_schema};
	w->buffers[at][0] = NULL;
	w->buffers[at][1] = values;
	w->buffers[at][2] = more;
	w->arrays[at] = (struct ArrowArray){.length = length,
		.n_buffers = buffers,
		.buffers = w->buffers[at],
		.release = daq_release_array};
}

static void fill_wide(wide *w, uint64_t *seed)
{
	for (int i = 0; i < GATHER_ROWS; i++) {
		w->numbers[i] = daq_random(seed);
		w->text_ends[i + 1] = w->text_ends[i] + (int32_t)(daq_random(seed) % 8);
		w->blob_ends[i + 1] = w->blob_ends[i] + daq_random(seed) % 3;
		w->list_ends[i + 1] = w->list_ends[i] + (int32_t)(daq_random(seed) % 8);
	}
	for (int i = 0; i < GATHER_ROWS / 8; i++) {
		w->bits[i] = (uint8_t)daq_random(seed);
		w->validity[i] = (uint8_t)daq_random(seed);
	}
	for (int i = 0; i < 8 * GATHER_ROWS; i++) {
		w->texts[i] = (char)('a' + daq_random(seed) % 26);
		w->items[i] = (uint16_t)daq_random(seed);
	}
	set_column(w, 0, "l", "number", GATHER_ROWS, 2, w->numbers, NULL);
	set_column(w, 1, "b", "bit", GATHER_ROWS, 2, w->bits, NULL);
	set_column(w, 2, "u", "text", GATHER_ROWS, 3, w->text_ends, w->texts);
	set_column(w, 3, "+l", "list", GATHER_ROWS, 2, w->list_ends, NULL);
	set_column(w, 4, "+s", "struct", GATHER_ROWS, 1, NULL, NULL);
	set_column(w, 5, "+w:3", "each", GATHER_ROWS, 1, NULL, NULL);
	set_column(w, 6, "S", "item", w->list_ends[GATHER_ROWS], 2, w->items, NULL);
	set_column(w, 7, "Z", "blob", GATHER_ROWS, 3, w->blob_ends, w->texts);
	set_column(w, 8, "n", "nothing", GATHER_ROWS, 0, NULL, NULL);
	set_column(w, 9, "w:2", "two", 3 * GATHER_ROWS, 2, w->items, NULL);
	set_column(w, 10, "+s", "", GATHER_ROWS, 1, NULL, NULL);
	w->schemas[10].flags = 0;
	w->arrays[8].null_count = GATHER_ROWS;
	w->buffers[2][0] = w->validity; /* texts and structs with missing rows */
	w->buffers[4][0] = w->validity;
	w->arrays[2].null_count = w->arrays[4].null_count = -1;
	for (int i = 0; i < 6; i++) {
		w->schema_children[i] = &w->schemas[i];
		w->children[i] = &w->arrays[i];
	}
	w->list_child[0] = &w->schemas[6], w->list_array[0] = &w->arrays[6];
	w->each_child[0] = &w->schemas[9], w->each_array[0] = &w->arrays[9];
	for (int i = 0; i < 2; i++) {
		w->inner[i] = &w->schemas[7 + i];
		w->inner_arrays[i] = &w->arrays[7 + i];
	}
	struct {
		int at, count;
		struct ArrowSchema **schemas;
		struct ArrowArray **arrays;
	} nested[] = {{3, 1, w->list_child, w->list_array}, {4, 2, w->inner, w->inner_arrays},
		{5, 1, w->each_child, w->each_array}, {10, 6, w->schema_children, w->children}};
	for (int i = 0; i < 4; i++) {
		w->schemas[nested[i].at].n_children = w->arrays[nested[i].at].n_children = nested[i].count;
		w->schemas[nested[i].at].children = nested[i].schemas;
		w->arrays[nested[i].at].children = nested[i].arrays;
	}
}

static void *encode(esk_arrow_encoder *encoder, const struct ArrowArray *array, size_t *ret_bytes)
{
	check_ok(esk_arrow_encoder_batch_bytes(encoder, array, ret_bytes, err));
	void *bytes = malloc(*ret_bytes);
	check_ok(esk_arrow_encoder_batch(encoder, array, bytes, *ret_bytes, ret_bytes, err));
	return bytes;
}

/* Equal values are encoded as equal bytes: slices gathered again are the whole. */
static void slices_that_are_gathered_are_the_whole(void **state)
{
	uint64_t seed = 2026;
	static wide w;
	for (unsigned round = 0; round < daq_rounds(60); round++) {
		esk_daq_gather *gather = NULL;
		esk_arrow_encoder *encoder;
		memset(&w, 0, sizeof w);
		fill_wide(&w, &seed);
		check_ok(esk_arrow_validate(&w.schemas[10], &w.arrays[10], err));
		check_ok(esk_daq_gather_create(&w.schemas[10], &gather, err));
		assert_non_null(gather);
		check_ok(esk_arrow_encoder_create(&w.schemas[10], 0, &encoder, err));
		for (int twice = 0; twice < 2; twice++) {
			int64_t begin = daq_random(&seed) % 20, at = begin;
			while (at < GATHER_ROWS) {
				struct ArrowArray slice = w.arrays[10];
				int64_t rows = daq_random(&seed) % 90;
				slice.offset = at;
				slice.length = rows < GATHER_ROWS - at ? rows : GATHER_ROWS - at;
				check_ok(esk_daq_gather_add(gather, &slice, err));
				at += slice.length;
			}
			struct ArrowArray whole = w.arrays[10];
			whole.offset = begin;
			whole.length = GATHER_ROWS - begin;
			const struct ArrowArray *gathered = esk_daq_gather_batch(gather);
			check_ok(esk_arrow_validate(&w.schemas[10], gathered, err));
			size_t expected_bytes, bytes;
			void *expected = encode(encoder, &whole, &expected_bytes);
			void *found = encode(encoder, gathered, &bytes);
			assert_int_equal(bytes, expected_bytes);
			assert_memory_equal(found, expected, bytes);
			free(found);
			free(expected);
			esk_daq_gather_empty(gather);
			assert_int_equal(esk_daq_gather_rows(gather), 0);
		}
		esk_arrow_encoder_destroy(encoder);
		esk_daq_gather_destroy(gather);
	}
}

static void dictionaries_are_not_gathered(void **state)
{
	esk_daq_gather *gather = NULL;
	struct ArrowSchema values = {.format = "u", .name = "", .release = daq_release_schema};
	struct ArrowSchema codes = {
		.format = "i", .name = "state", .dictionary = &values, .release = daq_release_schema};
	struct ArrowSchema *columns[] = {&codes};
	struct ArrowSchema schema = {.format = "+s",
		.name = "",
		.n_children = 1,
		.children = columns,
		.release = daq_release_schema};
	check_ok(esk_daq_gather_create(&schema, &gather, err));
	assert_null(gather);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, daq_enter, daq_leave)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_ring_is_for_its_owner_alone_and_its_size_is_bounded),
		TEST(what_is_no_ring_is_told_from_one),
		TEST(names_that_lead_elsewhere_are_refused),
		TEST(a_store_keeps_rings_where_the_daemon_finds_them),
		TEST(a_snapshot_is_what_was_written_and_not_advanced_over),
		TEST(an_offset_inside_a_record_outlives_the_process),
		TEST(snapshots_are_of_whole_records_while_producers_overwrite),
		TEST(advancing_never_passes_what_no_snapshot_showed),
		TEST(a_ring_that_blocks_loses_nothing_between_snapshots),
		TEST(what_no_file_has_a_place_for_is_refused_before_it_is_in_the_ring),
		TEST(a_source_tells_batches_of_another_schema_apart),
		TEST(a_batch_is_declared_once_and_comes_out_as_it_went_in),
		TEST(a_tap_finds_schema_and_instrument_in_the_ring),
		TEST(what_no_instrument_declared_or_wrote_is_refused),
		TEST(declarations_of_any_bytes_are_taken_apart_safely),
		TEST(slices_that_are_gathered_are_the_whole),
		TEST(dictionaries_are_not_gathered),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
