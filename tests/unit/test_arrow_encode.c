/* Encoding Arrow IPC: sizes and bounds, arrays and schemas that are refused, writers on disks that fail,
 * schemas as JSON. That the bytes mean what they should is tested against pyarrow and JavaScript in
 * tests/interop. */
#include "arrow/encode_writer.h"
#include "support/fault_os.h"
#include "support/unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

/* ---- counting allocations ---- */

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

#if !defined(SANITIZED) && defined(__GLIBC__)
#define COUNTS_ALLOCATIONS 1
static uint64_t allocations;

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);

void *malloc(size_t bytes)
{
	allocations++;
	return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
	allocations++;
	return __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes)
{
	allocations++;
	return __libc_realloc(old, bytes);
}
#endif

/* ---- schemas and arrays, on the stack ---- */

static void release_schema(struct ArrowSchema *schema)
{
	schema->release = NULL;
}

static void release_array(struct ArrowArray *array)
{
	array->release = NULL;
}

#define FIELD(format_, name_)                                                       \
	{                                                                           \
		.format = (format_), .name = (name_), .flags = ARROW_FLAG_NULLABLE, \
		.release = release_schema                                           \
	}

#define MOST 8

/* A batch: time i64, voltage f64 with missing values, text utf8, flag bool, item list of i16, word
 * dictionary. */
typedef struct sample {
	struct ArrowSchema fields[MOST], item, words, root;
	struct ArrowSchema *field_list[MOST], *item_list[1];
	struct ArrowArray arrays[MOST], items, word_values, batch;
	struct ArrowArray *array_list[MOST], *item_array[1];
	const void *buffers[MOST][3], *item_buffers[2], *word_buffers[3], *batch_buffers[1];
	int64_t time[200];
	double voltage[200];
	uint8_t valid[32], flag[32];
	int32_t text_ends[201], item_ends[201], word_ends[4];
	int8_t codes[200];
	char text[800];
	int16_t item_values[600];
} sample;

static const char *const sample_formats[] = {"l", "g", "u", "b", "+l", "c"};
static const char *const sample_names[] = {"time", "voltage", "text", "flag", "item", "word"};
#define SAMPLE_COLUMNS 6

static void fill_sample(sample *s)
{
	for (int i = 0; i < 200; i++) {
		s->time[i] = 1000 + i;
		s->voltage[i] = i / 7.0;
		s->codes[i] = (int8_t)(i % 3);
		s->text_ends[i + 1] = s->text_ends[i] + i % 5;
		s->item_ends[i + 1] = s->item_ends[i] + i % 4;
	}
	for (size_t i = 0; i < sizeof s->valid; i++) {
		s->valid[i] = (uint8_t)(0x5A + 37 * i);
		s->flag[i] = (uint8_t)(0xC3 + 11 * i);
	}
	for (size_t i = 0; i < sizeof s->text; i++)
		s->text[i] = (char)('a' + i % 26);
	for (int16_t i = 0; i < 600; i++)
		s->item_values[i] = i;
	memcpy(s->word_ends, (int32_t[]){0, 3, 3, 7}, sizeof s->word_ends);
}

/* Rows [first, first + rows) of 200. */
static sample *make_sample(int64_t first, int64_t rows)
{
	sample *s = calloc(1, sizeof *s);
	assert_non_null(s);
	fill_sample(s);
	const void *second[] = {s->time, s->voltage, s->text_ends, s->flag, s->item_ends, s->codes};
	const int64_t buffers[] = {2, 2, 3, 2, 2, 2};
	for (int i = 0; i < SAMPLE_COLUMNS; i++) {
		s->fields[i] = (struct ArrowSchema)FIELD(sample_formats[i], sample_names[i]);
		s->field_list[i] = &s->fields[i];
		s->buffers[i][0] = i == 1 ? s->valid : NULL;
		s->buffers[i][1] = second[i];
		s->buffers[i][2] = s->text;
		s->arrays[i] = (struct ArrowArray){.length = 200 - 3,
			.offset = 3,
			.null_count = i == 1 ? -1 : 0,
			.n_buffers = buffers[i],
			.buffers = s->buffers[i],
			.release = release_array};
		s->array_list[i] = &s->arrays[i];
	}
	s->item = (struct ArrowSchema)FIELD("s", "item");
	s->words = (struct ArrowSchema)FIELD("u", "");
	s->item_list[0] = &s->item;
	s->fields[4].n_children = 1;
	s->fields[4].children = s->item_list;
	s->fields[5].dictionary = &s->words;
	s->item_buffers[1] = s->item_values;
	s->items = (struct ArrowArray){
		.length = 600, .n_buffers = 2, .buffers = s->item_buffers, .release = release_array};
	s->item_array[0] = &s->items;
	s->arrays[4].n_children = 1;
	s->arrays[4].children = s->item_array;
	s->word_buffers[1] = s->word_ends;
	s->word_buffers[2] = s->text;
	s->word_values = (struct ArrowArray){
		.length = 3, .n_buffers = 3, .buffers = s->word_buffers, .release = release_array};
	s->arrays[5].dictionary = &s->word_values;
	s->root = (struct ArrowSchema){.format = "+s",
		.name = "",
		.n_children = SAMPLE_COLUMNS,
		.children = s->field_list,
		.release = release_schema};
	s->batch = (struct ArrowArray){.length = rows,
		.offset = first - 3,
		.n_buffers = 1,
		.buffers = s->batch_buffers,
		.n_children = SAMPLE_COLUMNS,
		.children = s->array_list,
		.release = release_array};
	return s;
}

static esk_arrow_encoder *make_encoder(const sample *s, unsigned flags)
{
	esk_arrow_encoder *encoder;
	esk_error err;
	assert_ok(esk_arrow_encoder_create(&s->root, flags, &encoder, &err), &err);
	return encoder;
}

/* ---- encoding ---- */

static void a_batch_takes_the_bytes_that_were_said_and_not_one_less(void **state)
{
	static const int64_t ranges[][2] = {{3, 0}, {3, 1}, {3, 197}, {4, 8}, {10, 64}, {12, 187}};
	for (unsigned flags = 0; flags <= ESK_ARROW_ALIGN_64; flags += ESK_ARROW_ALIGN_64)
		for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
			sample *s = make_sample(ranges[i][0], ranges[i][1]);
			esk_arrow_encoder *encoder = make_encoder(s, flags);
			esk_error err;
			size_t said, took = 12345;
			assert_ok(esk_arrow_encoder_batch_bytes(encoder, &s->batch, &said, &err), &err);
			assert_int_equal(said % (flags == 0 ? 8 : 64), 0);
			uint8_t *buf = malloc(said + 8); /* exact, so that a sanitizer sees a byte too many */
			memset(buf, 0xA5, said + 8);
			assert_int_equal(
				esk_arrow_encoder_batch(encoder, &s->batch, buf, said - 1, &took, &err),
				ESK_ERANGE);
			assert_int_equal(took, 12345);
			for (size_t k = 0; k < said + 8; k++)
				assert_int_equal(buf[k], 0xA5);
			assert_ok(esk_arrow_encoder_batch(encoder, &s->batch, buf, said, &took, &err), &err);
			assert_int_equal(took, said);
			for (size_t k = said; k < said + 8; k++)
				assert_int_equal(buf[k], 0xA5);
			free(buf);
			esk_arrow_encoder_destroy(encoder);
			free(s);
		}
}

static void an_encoder_allocates_nothing_once_it_is_made(void **state)
{
#ifdef COUNTS_ALLOCATIONS
	sample *s = make_sample(7, 100);
	uint8_t *buf = malloc(1 << 16);
	esk_arrow_encoder *encoder = make_encoder(s, 0);
	esk_error err;
	size_t bytes;
	uint64_t before = allocations;
	assert_true(before > 0);
	for (int i = 0; i < 100; i++) {
		assert_ok(esk_arrow_encoder_batch_bytes(encoder, &s->batch, &bytes, &err), &err);
		assert_ok(esk_arrow_encoder_batch(encoder, &s->batch, buf, 1 << 16, &bytes, &err), &err);
	}
	assert_int_equal(allocations, before);
	esk_arrow_encoder_destroy(encoder);
	free(buf);
	free(s);
#else
	skip(); /* a sanitizer's allocator stands in the way */
#endif
}

static void equal_values_give_equal_bytes_wherever_they_lie(void **state)
{
	sample *one = make_sample(3, 60), *other = make_sample(3, 60);
	esk_arrow_encoder *encoder = make_encoder(one, 0);
	esk_error err;
	size_t one_bytes, other_bytes;
	/* The same rows of time, voltage, flag, … five places further on in memory. */
	memmove(other->time + 8, other->time + 3, 60 * sizeof *other->time);
	other->arrays[0].offset = 8;
	other->arrays[0].length = 60;
	for (int i = 255; i >= 5; i--) {
		unsigned bit = other->flag[(i - 5) / 8] >> (i - 5) % 8 & 1, mask = 1u << i % 8;
		other->flag[i / 8] = (uint8_t)((other->flag[i / 8] & ~mask) | (bit ? mask : 0));
	}
	other->arrays[3].offset = 8;
	other->arrays[3].length = 60;
	other->word_buffers[2] = one->text;
	memset(other->text, '#', (size_t)other->text_ends[3]);
	for (int i = 0; i <= 200; i++)
		other->item_ends[i] += 17;
	memmove(other->item_values + 17, other->item_values, 400 * sizeof *other->item_values);
	uint8_t *one_buf = malloc(1 << 16), *other_buf = malloc(1 << 16);
	assert_ok(esk_arrow_encoder_batch(encoder, &one->batch, one_buf, 1 << 16, &one_bytes, &err), &err);
	assert_ok(esk_arrow_encoder_batch(encoder, &other->batch, other_buf, 1 << 16, &other_bytes, &err),
		&err);
	assert_int_equal(one_bytes, other_bytes);
	assert_memory_equal(one_buf, other_buf, one_bytes);
	free(one_buf);
	free(other_buf);
	esk_arrow_encoder_destroy(encoder);
	free(one);
	free(other);
}

/* The decoder sees the same rows. */
static void what_was_encoded_is_decoded_again(void **state)
{
	sample *s = make_sample(13, 90);
	esk_arrow_encoder *encoder = make_encoder(s, 0);
	esk_arrow_decoder *decoder;
	esk_error err;
	size_t bytes, used, schema_bytes;
	uint8_t *buf = malloc(1 << 16);
	struct ArrowArray batch = {0};
	assert_ok(esk_arrow_decoder_create(&decoder, &err), &err);
	const void *schema = esk_arrow_encoder_schema(encoder, &schema_bytes);
	assert_ok(esk_arrow_decoder_feed(decoder, schema, schema_bytes, &used, &batch, &err), &err);
	assert_int_equal(used, schema_bytes);
	assert_ok(esk_arrow_encoder_batch(encoder, &s->batch, buf, 1 << 16, &bytes, &err), &err);
	for (size_t at = 0; at < bytes; at += used)
		assert_ok(esk_arrow_decoder_feed(decoder, buf + at, bytes - at, &used, &batch, &err), &err);
	assert_int_equal(batch.length, 90);
	assert_memory_equal(batch.children[0]->buffers[1], s->time + 13, 90 * sizeof *s->time);
	assert_memory_equal(batch.children[1]->buffers[1], s->voltage + 13, 90 * sizeof *s->voltage);
	const uint8_t *valid = batch.children[1]->buffers[0], *flag = batch.children[3]->buffers[1];
	const int32_t *ends = batch.children[2]->buffers[1], *item_ends = batch.children[4]->buffers[1];
	const char *text = batch.children[2]->buffers[2];
	const int16_t *items = batch.children[4]->children[0]->buffers[1];
	int64_t nulls = 0;
	for (int i = 0; i < 90; i++) {
		int at = i + 13;
		assert_int_equal(valid[i / 8] >> i % 8 & 1, s->valid[at / 8] >> at % 8 & 1);
		assert_int_equal(flag[i / 8] >> i % 8 & 1, s->flag[at / 8] >> at % 8 & 1);
		nulls += (valid[i / 8] >> i % 8 & 1) == 0;
		assert_int_equal(ends[i + 1] - ends[i], at % 5);
		assert_memory_equal(text + ends[i], s->text + s->text_ends[at], (size_t)(at % 5));
		assert_int_equal(item_ends[i + 1] - item_ends[i], at % 4);
		assert_memory_equal(items + item_ends[i], s->item_values + s->item_ends[at],
			(size_t)(at % 4) * sizeof *items);
	}
	assert_int_equal(batch.children[1]->null_count, nulls);
	assert_int_equal(batch.children[5]->dictionary->length, 3);
	batch.release(&batch);
	esk_arrow_decoder_destroy(decoder);
	esk_arrow_encoder_destroy(encoder);
	free(buf);
	free(s);
}

/* ---- what does not fit ---- */

static void refused_batch(const sample *s, const struct ArrowArray *batch, const char *part)
{
	esk_arrow_encoder *encoder = make_encoder(s, 0);
	esk_error err = {0};
	size_t bytes = 77;
	uint8_t buf[64];
	memset(buf, 0x5A, sizeof buf);
	assert_int_equal(esk_arrow_encoder_batch_bytes(encoder, batch, &bytes, &err), ESK_EINVAL);
	if (strstr(err.message, part) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.message, part);
	assert_int_equal(esk_arrow_encoder_batch(encoder, batch, buf, sizeof buf, &bytes, &err), ESK_EINVAL);
	assert_int_equal(bytes, 77);
	for (size_t i = 0; i < sizeof buf; i++)
		assert_int_equal(buf[i], 0x5A);
	esk_arrow_encoder_destroy(encoder);
}

#define REFUSED(change, part)                        \
	do {                                         \
		sample *s = make_sample(3, 100);     \
		change;                              \
		refused_batch(s, &s->batch, (part)); \
		free(s);                             \
	} while (0)

static void batches_that_do_not_fit_their_schema_are_refused(void **state)
{
	static const uint8_t half[32] = {0x0F};
	REFUSED(s->batch.release = NULL, "released");
	REFUSED(s->batch.n_children = 5, "5 columns");
	REFUSED(s->batch.children = NULL, "columns");
	REFUSED(s->batch.length = -1, "-1 rows");
	REFUSED(s->batch.offset = INT64_MAX, "rows behind");
	REFUSED(s->batch.n_buffers = 0, "buffers");
	REFUSED((s->batch_buffers[0] = half, s->batch.null_count = -1), "missing as a whole");
	REFUSED(s->batch.length = 198, "\"time\": the array has 197 elements");
	REFUSED(s->arrays[1].release = NULL, "\"voltage\": the array is missing or was released");
	REFUSED(s->array_list[1] = NULL, "\"voltage\": the array is missing");
	REFUSED(s->arrays[1].n_buffers = 3, "\"voltage\": the array has 3 buffers");
	REFUSED(s->arrays[1].buffers = NULL, "buffers");
	REFUSED(s->arrays[1].offset = -1, "negative");
	REFUSED(s->arrays[1].length = INT64_MIN, "negative");
	REFUSED(s->buffers[1][1] = NULL, "\"voltage\": a buffer that holds values is NULL");
	REFUSED((s->buffers[1][0] = NULL, s->arrays[1].null_count = 4), "no validity bitmap");
	REFUSED(s->arrays[0].n_children = 1, "\"time\": the array has 1 children");
	REFUSED(s->buffers[2][1] = NULL, "\"text\": the buffer of offsets is NULL");
	REFUSED(s->buffers[2][2] = NULL, "\"text\": a buffer that holds values is NULL");
	REFUSED(s->text_ends[3] = -1, "\"text\": offsets are negative or fall");
	REFUSED(s->text_ends[103] = 0, "\"text\": offsets are negative or fall");
	REFUSED(s->items.length = 10, "\"item.item\": the array has 10 elements");
	REFUSED(s->arrays[4].n_children = 0, "\"item\": the array has 0 children");
	REFUSED(s->arrays[5].dictionary = NULL, "\"word\": the array has no dictionary");
	REFUSED(s->word_values.length = -5, "\"word\"");
	REFUSED(s->word_values.release = NULL, "\"word\"");
}

static void an_element_larger_than_memory_is_refused(void **state)
{
	sample *s = make_sample(3, 100);
	s->fields[0].format = "w:2147483647";
	s->arrays[0].length = s->batch.length = INT64_C(1) << 50;
	s->root.n_children = s->batch.n_children = 1;
	refused_batch(s, &s->batch, "larger than memory");
	free(s);
}

static void refused_schema(const struct ArrowSchema *schema, esk_status code, const char *part)
{
	esk_arrow_encoder *encoder = (esk_arrow_encoder *)0x1;
	esk_arrow_writer *writer;
	esk_error err = {0};
	size_t bytes = 9;
	char *text;
	assert_int_equal(esk_arrow_encoder_create(schema, 0, &encoder, &err), code);
	assert_ptr_equal(encoder, (esk_arrow_encoder *)0x1);
	if (strstr(err.message, part) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.message, part);
	assert_int_equal(esk_arrow_schema_message_bytes(schema, &bytes, &err), code);
	assert_int_equal(esk_arrow_schema_to_json(schema, &text, &err), code);
	assert_int_equal(
		esk_arrow_writer_open_file("/dev/null/nothing", ESK_ARROW_FILE, schema, &writer, &err), code);
	assert_int_equal(bytes, 9);
}

#define REFUSED_SCHEMA(change, code, part)                \
	do {                                              \
		sample *s = make_sample(3, 100);          \
		change;                                   \
		refused_schema(&s->root, (code), (part)); \
		free(s);                                  \
	} while (0)

static void schemas_that_cannot_be_encoded_are_refused_with_the_column_and_the_type(void **state)
{
	refused_schema(NULL, ESK_EINVAL, "missing");
	REFUSED_SCHEMA(s->root.release = NULL, ESK_EINVAL, "released");
	REFUSED_SCHEMA(s->root.format = "i", ESK_EINVAL, "int32");
	REFUSED_SCHEMA(s->root.children = NULL, ESK_EINVAL, "children");
	REFUSED_SCHEMA(s->root.n_children = -1, ESK_EINVAL, "children");
	REFUSED_SCHEMA(s->field_list[2] = NULL, ESK_EINVAL, "released or has no format");
	REFUSED_SCHEMA(s->fields[2].format = NULL, ESK_EINVAL, "\"text\"");
	REFUSED_SCHEMA(s->fields[2].format = "vu", ESK_EUNSUPPORTED, "\"text\": the Arrow type utf8 view");
	REFUSED_SCHEMA(s->item.format = "vz", ESK_EUNSUPPORTED, "\"item.item\": the Arrow type binary view");
	REFUSED_SCHEMA(s->words.format = "+r", ESK_EUNSUPPORTED, "\"word\": the Arrow type run-end encoded");
	REFUSED_SCHEMA(s->fields[2].format = "q", ESK_EUNSUPPORTED, "\"text\"");
	REFUSED_SCHEMA(s->fields[5].format = "g", ESK_EINVAL, "\"word\": the indices of a dictionary");
	REFUSED_SCHEMA((s->words.format = "i", s->words.dictionary = &s->item), ESK_EUNSUPPORTED,
		"from a dictionary again");
	REFUSED_SCHEMA(s->fields[4].n_children = 0, ESK_EINVAL, "\"item\": a list with 0 children");
	REFUSED_SCHEMA(s->fields[0].format = "+ud:0,0", ESK_EUNSUPPORTED, "\"time\"");
}

static void fields_may_nest_as_deep_as_readers_follow_and_no_deeper(void **state)
{
	enum { LEVELS = ESK_ARROW_DEPTH + 1 };
	struct ArrowSchema *chain = calloc(LEVELS + 1, sizeof *chain),
			   **list = calloc(LEVELS + 1, sizeof *list);
	esk_arrow_encoder *encoder;
	esk_error err;
	for (int i = 0; i <= LEVELS; i++) {
		chain[i] = (struct ArrowSchema)FIELD(i == LEVELS ? "i" : i == 0 ? "+s" : "+l", "x");
		list[i] = &chain[i];
		chain[i].n_children = i < LEVELS;
		chain[i].children = &list[i + 1];
	}
	refused_schema(&chain[0], ESK_EUNSUPPORTED, "nested more than 64 deep");
	chain[LEVELS - 1] = (struct ArrowSchema)FIELD("i", "x");
	assert_ok(esk_arrow_encoder_create(&chain[0], 0, &encoder, &err), &err);
	esk_arrow_encoder_destroy(encoder);
	free(chain);
	free(list);
}

/* ---- writers ---- */

static size_t count_files(const char *path)
{
	size_t count = 0;
	DIR *dir = opendir(path);
	assert_non_null(dir);
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
		count += entry->d_name[0] != '.';
	closedir(dir);
	return count;
}

static esk_status write_sample(const esk_os *os, const char *path, unsigned format, esk_error *err)
{
	sample *s = make_sample(3, 150);
	esk_arrow_writer *writer;
	esk_status status = esk_encode_writer_open_file(os, path, format, &s->root, &writer, err);
	if (status == ESK_OK) {
		status = esk_arrow_writer_append(writer, &s->batch, err);
		s->batch.length = 20;
		if (status == ESK_OK)
			status = esk_arrow_writer_append(writer, &s->batch, err);
		esk_status closed = esk_arrow_writer_close(writer, status == ESK_OK ? err : NULL);
		if (status == ESK_OK)
			status = closed;
		else
			assert_int_equal(closed, status);
	}
	free(s);
	return status;
}

/* How many rows the file has; a file that cannot be read fails the test. */
static int64_t rows_of(const char *path)
{
	struct ArrowArrayStream stream;
	struct ArrowArray batch;
	esk_error err;
	int64_t rows = 0;
	assert_ok(esk_arrow_open_file(path, &stream, &err), &err);
	for (;;) {
		assert_int_equal(stream.get_next(&stream, &batch), 0);
		if (batch.release == NULL)
			break;
		rows += batch.length;
		batch.release(&batch);
	}
	stream.release(&stream);
	return rows;
}

static void put_text(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void assert_text(const char *path, const char *text)
{
	char found[64] = "";
	FILE *file = fopen(path, "r");
	assert_non_null(file);
	assert_non_null(fgets(found, sizeof found, file));
	fclose(file);
	assert_string_equal(found, text);
}

/* The last of them makes the new name durable: it is there by then. */
static uint64_t calls_to_write(const char *path)
{
	esk_fault *fault = esk_fault_new(test_seed());
	esk_error err;
	assert_ok(write_sample(esk_fault_os(fault), path, ESK_ARROW_FILE, &err), &err);
	uint64_t calls = esk_fault_calls(fault);
	esk_fault_free(fault);
	return calls;
}

static void every_failing_call_is_told_and_leaves_the_file_that_was_there(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "x.arrow");
	uint64_t refused = 0, calls_whole = calls_to_write(path);
	for (uint64_t call = 1;; call++) {
		esk_fault *fault = esk_fault_new(test_seed());
		esk_error err = {0};
		put_text(path, "what was there");
		esk_fault_fail_at(fault, call, call % 2 == 0 ? ENOSPC : EIO, true);
		esk_status status = write_sample(esk_fault_os(fault), path, ESK_ARROW_FILE, &err);
		uint64_t calls = esk_fault_calls(fault);
		esk_fault_free(fault);
		if (calls < call) {
			assert_ok(status, &err);
			assert_int_equal(rows_of(path), 170);
			break;
		}
		assert_int_equal(status, call % 2 == 0 ? ESK_ENOSPC : ESK_EIO);
		assert_non_null(strstr(err.message, dir->path));
		refused++;
		if (call < calls_whole)
			assert_text(path, "what was there");
	}
	assert_true(refused >= 4);
}

static void a_call_that_fails_once_leaves_no_file_behind(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "x.arrow");
	uint64_t calls_whole = calls_to_write(path);
	for (uint64_t call = 1;; call++) {
		esk_fault *fault = esk_fault_new(test_seed());
		esk_error err = {0};
		put_text(path, "what was there");
		esk_fault_fail_at(fault, call, EIO, false);
		esk_status status = write_sample(esk_fault_os(fault), path, ESK_ARROW_FILE, &err);
		uint64_t calls = esk_fault_calls(fault);
		esk_fault_free(fault);
		assert_int_equal(count_files(dir->path), 1);
		if (calls < call)
			break;
		assert_int_equal(status, ESK_EIO);
		if (call < calls_whole)
			assert_text(path, "what was there");
	}
}

static void a_full_disk_is_told_and_leaves_nothing(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "x.arrow");
	for (uint64_t space = 0; space < 6000; space += 500) {
		esk_fault *fault = esk_fault_new(test_seed());
		esk_error err = {0};
		esk_fault_set_space(fault, space);
		assert_int_equal(write_sample(esk_fault_os(fault), path, ESK_ARROW_STREAM, &err), ESK_ENOSPC);
		esk_fault_free(fault);
		assert_int_equal(count_files(dir->path), 0);
	}
}

static void after_a_power_cut_the_name_shows_the_old_file_or_all_of_the_new(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "x.arrow");
	for (uint64_t round = 0; round < test_scale(100); round++) {
		esk_error err = {0};
		esk_fault *fault = esk_fault_new(test_seed() + round);
		assert_ok(write_sample(esk_fault_os(fault), path, ESK_ARROW_STREAM, &err), &err);
		esk_fault_clear(fault);
		esk_fault_cut_at(fault, 1 + round % 8);
		esk_status status = write_sample(esk_fault_os(fault), path, ESK_ARROW_FILE, &err);
		esk_fault_reboot(fault);
		int64_t rows = rows_of(path);
		assert_int_equal(rows, 170);
		FILE *file = fopen(path, "r");
		char magic[7] = "";
		assert_int_equal(fread(magic, 1, 6, file), 6);
		fclose(file);
		if (status == ESK_OK)
			assert_string_equal(magic, "ARROW1");
		esk_fault_free(fault);
		DIR *left = opendir(dir->path); /* names that a cut left behind end in ".part" */
		for (struct dirent *entry; (entry = readdir(left)) != NULL;)
			if (entry->d_name[0] != '.') {
				const char *end = strrchr(entry->d_name, '.');
				assert_true(
					strcmp(end, ".part") == 0 || strcmp(entry->d_name, "x.arrow") == 0);
				assert_int_equal(unlinkat(dirfd(left), entry->d_name, 0), 0);
			}
		closedir(left);
	}
}

typedef struct sink {
	size_t bytes;
	size_t limit; /* more is refused */
} sink;

static esk_status take(void *arg, const void *data, size_t size, esk_error *err)
{
	sink *to = arg;
	(void)data;
	if (to->bytes + size > to->limit)
		return esk_fail(err, ESK_EFULL, "the sink is full");
	to->bytes += size;
	return ESK_OK;
}

static void a_callback_that_fails_breaks_the_writer_for_good(void **state)
{
	sample *s = make_sample(3, 150);
	esk_arrow_writer *writer;
	esk_error err = {0};
	sink to = {.limit = SIZE_MAX};
	assert_ok(esk_arrow_writer_open(take, &to, ESK_ARROW_STREAM, &s->root, &writer, &err), &err);
	assert_true(to.bytes > 0);
	assert_ok(esk_arrow_writer_append(writer, &s->batch, &err), &err);
	to.limit = to.bytes;
	assert_int_equal(esk_arrow_writer_append(writer, &s->batch, &err), ESK_EFULL);
	assert_string_equal(err.message, "the sink is full");
	to.limit = SIZE_MAX;
	assert_int_equal(esk_arrow_writer_append(writer, &s->batch, &err), ESK_ECLOSED);
	assert_int_equal(esk_arrow_writer_close(writer, &err), ESK_EFULL);
	to.limit = 0, to.bytes = 0;
	assert_int_equal(
		esk_arrow_writer_open(take, &to, ESK_ARROW_STREAM, &s->root, &writer, &err), ESK_EFULL);
	free(s);
}

static void a_batch_that_is_refused_leaves_the_writer_as_it_was(void **state)
{
	sample *s = make_sample(3, 150);
	esk_arrow_writer *writer;
	esk_error err = {0};
	sink to = {.limit = SIZE_MAX};
	assert_ok(esk_arrow_writer_open(take, &to, ESK_ARROW_FILE, &s->root, &writer, &err), &err);
	assert_ok(esk_arrow_writer_append(writer, &s->batch, &err), &err);
	size_t before = to.bytes;
	s->text[0] ^= 1; /* another dictionary, which a file cannot have */
	assert_int_equal(esk_arrow_writer_append(writer, &s->batch, &err), ESK_EUNSUPPORTED);
	s->text[0] ^= 1;
	s->arrays[2].n_buffers = 1;
	assert_int_equal(esk_arrow_writer_append(writer, &s->batch, &err), ESK_EINVAL);
	s->arrays[2].n_buffers = 3;
	assert_int_equal(to.bytes, before);
	assert_ok(esk_arrow_writer_append(writer, &s->batch, &err), &err);
	assert_true(to.bytes > before);
	assert_ok(esk_arrow_writer_close(writer, &err), &err);
	esk_arrow_writer_discard(NULL);
	assert_ok(esk_arrow_writer_close(NULL, &err), &err);
	assert_int_equal(esk_arrow_writer_open(take, &to, 2, &s->root, &writer, &err), ESK_EINVAL);
	assert_int_equal(esk_arrow_writer_open(NULL, &to, 0, &s->root, &writer, &err), ESK_EINVAL);
	free(s);
}

/* ---- JSON ---- */

#define TYPE(type) "{\"fields\": [{\"name\": \"a\", \"nullable\": true, \"type\": " type "}]}"

static void json_that_is_no_schema_is_refused_with_the_column_and_the_member(void **state)
{
	static const struct {
		const char *text;
		const char *part;
		esk_status code;
	} cases[] = {
		{"", "line 1", ESK_EINVAL},
		{"[]", "\"fields\"", ESK_EINVAL},
		{"{\"fields\": 1}", "\"fields\"", ESK_EINVAL},
		{"{\"fields\": [1]}", "\"name\" must be a text", ESK_EINVAL},
		{"{\"fields\": [{\"name\": \"a\\u0000b\"}]}", "\"name\" must be a text", ESK_EINVAL},
		{"{\"fields\": [{\"name\": \"a\"}]}", "column \"a\": \"nullable\" must be true or false",
			ESK_EINVAL},
		{"{\"fields\": [{\"name\": \"a\", \"nullable\": true}]}", "\"type\" must be an object",
			ESK_EINVAL},
		{TYPE("{}"), "\"name\" must be a text", ESK_EINVAL},
		{TYPE("{\"name\": \"utf8view\"}"), "the type \"utf8view\" is not known", ESK_EUNSUPPORTED},
		{TYPE("{\"name\": \"int\", \"bitWidth\": 12, \"isSigned\": true}"), "8, 16, 32 or 64",
			ESK_EINVAL},
		{TYPE("{\"name\": \"int\", \"bitWidth\": 4294967304, \"isSigned\": true}"), "\"bitWidth\"",
			ESK_EINVAL},
		{TYPE("{\"name\": \"floatingpoint\", \"precision\": \"QUAD\"}"), "HALF, SINGLE or DOUBLE",
			ESK_EINVAL},
		{TYPE("{\"name\": \"fixedsizebinary\", \"byteWidth\": -1}"), "0 or more", ESK_EINVAL},
		{TYPE("{\"name\": \"time\", \"unit\": \"SECOND\", \"bitWidth\": 64}"), "32 for this unit",
			ESK_EINVAL},
		{TYPE("{\"name\": \"timestamp\", \"unit\": \"DAY\"}"), "SECOND, MILLISECOND", ESK_EINVAL},
		{TYPE("{\"name\": \"decimal\", \"precision\": 99, \"scale\": 0}"), "\"a\"", ESK_EUNSUPPORTED},
		{TYPE("{\"name\": \"union\", \"mode\": \"DENSE\", \"typeIds\": [0]}"), "\"a\"",
			ESK_EUNSUPPORTED},
		{TYPE("{\"name\": \"list\"}"), "a list with 0 children", ESK_EINVAL},
		{TYPE("{\"name\": \"bool\"}, \"children\": {}"), "\"children\" must be", ESK_EINVAL},
		{TYPE("{\"name\": \"bool\"}, \"metadata\": [{\"key\": \"k\"}]"), "\"metadata\" must be",
			ESK_EINVAL},
		{TYPE("{\"name\": \"bool\"}, \"metadata\": [{\"key_base64\": \"?\", \"value\": \"\"}]"),
			"\"metadata\"", ESK_EINVAL},
		{TYPE("{\"name\": \"utf8\"}, \"dictionary\": 5"), "\"dictionary\" must be an object",
			ESK_EINVAL},
		{TYPE("{\"name\": \"utf8\"}, \"dictionary\": {\"indexType\": {\"name\": \"bool\"}}"),
			"indices", ESK_EINVAL},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct ArrowSchema schema = {.n_children = 4711};
		esk_error err = {0};
		esk_status status = esk_arrow_schema_from_json(cases[i].text, &schema, &err);
		if (status != cases[i].code || strstr(err.message, cases[i].part) == NULL)
			fail_msg("%s: %s (%d)", cases[i].text, err.message, (int)status);
		assert_int_equal(schema.n_children, 4711);
	}
}

static void json_may_be_cut_anywhere_and_changed_anywhere(void **state)
{
	sample *s = make_sample(3, 10);
	char *text;
	esk_error err;
	assert_ok(esk_arrow_schema_to_json(&s->root, &text, &err), &err);
	size_t size = strlen(text);
	uint64_t random = test_seed();
	for (uint64_t round = 0; round < test_scale(20000); round++) {
		struct ArrowSchema schema;
		random = random * 6364136223846793005u + 1442695040888963407u;
		size_t at = (random >> 20) % size;
		char old = text[at];
		text[at] = round % 3 == 0 ? '\0' : (char)(random >> 56);
		if (esk_arrow_schema_from_json(text, &schema, &err) == ESK_OK)
			schema.release(&schema);
		text[at] = old;
	}
	esk_arrow_text_free(text);
	free(s);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_batch_takes_the_bytes_that_were_said_and_not_one_less),
		cmocka_unit_test(an_encoder_allocates_nothing_once_it_is_made),
		cmocka_unit_test(equal_values_give_equal_bytes_wherever_they_lie),
		cmocka_unit_test(what_was_encoded_is_decoded_again),
		cmocka_unit_test(batches_that_do_not_fit_their_schema_are_refused),
		cmocka_unit_test(an_element_larger_than_memory_is_refused),
		cmocka_unit_test(schemas_that_cannot_be_encoded_are_refused_with_the_column_and_the_type),
		cmocka_unit_test(fields_may_nest_as_deep_as_readers_follow_and_no_deeper),
		cmocka_unit_test_setup_teardown(every_failing_call_is_told_and_leaves_the_file_that_was_there,
			test_dir_make, test_dir_remove),
		cmocka_unit_test_setup_teardown(
			a_call_that_fails_once_leaves_no_file_behind, test_dir_make, test_dir_remove),
		cmocka_unit_test_setup_teardown(
			a_full_disk_is_told_and_leaves_nothing, test_dir_make, test_dir_remove),
		cmocka_unit_test_setup_teardown(
			after_a_power_cut_the_name_shows_the_old_file_or_all_of_the_new, test_dir_make,
			test_dir_remove),
		cmocka_unit_test(a_callback_that_fails_breaks_the_writer_for_good),
		cmocka_unit_test(a_batch_that_is_refused_leaves_the_writer_as_it_was),
		cmocka_unit_test(json_that_is_no_schema_is_refused_with_the_column_and_the_member),
		cmocka_unit_test(json_may_be_cut_anywhere_and_changed_anywhere),
	};
	test_begin(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
