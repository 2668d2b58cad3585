/* A small recording whose every row follows from its index, and its checks: what the tests of faults, record,
 * store and check share. */
#ifndef ESK_TESTS_RECORDING_H
#define ESK_TESTS_RECORDING_H

#include "support/unit.h"

#include <dirent.h>
#include <esker/esker.h>
#include <math.h>
#include <time.h>

#define RECORDING_FRAME_BYTES 4096 /* as large as cells that are compressed where they lie in the ring */
#define RECORDING_COLUMNS \
	"frame:u8[64,64] id:i64 acc:f32[3]? note:str tag:str8 label:str[2]? mask:bool big:u8[80,60]?"
#define RECORDING_BIG_BYTES 4800
#define RECORDING_INDEX                                                                         \
	"replay_steps(episode = id, step = mask, action = tag, reward = id, has_frame = big?, " \
	"has_observation = acc?, worker = note)"

static inline uint64_t mix(uint64_t value)
{
	value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
	value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
	return value ^ (value >> 31);
}

/* A row in memory. */
typedef struct recording_row {
	uint8_t frame[RECORDING_FRAME_BYTES];
	int64_t id;
	float acc[3];
	char note_text[64];
	esk_string note;
	char tag[8];
	char label_text[2][40];
	esk_string label[2];
	uint8_t mask;
	uint8_t big[RECORDING_BIG_BYTES];
	bool acc_valid, label_valid, big_valid;
} recording_row;

static inline void recording_fill(recording_row *row, uint64_t i, uint64_t salt)
{
	memset(row, 0, sizeof *row);
	uint64_t seed = mix(i * 31 + salt);
	for (size_t b = 0; b < sizeof row->frame; b++) /* a quarter is noise */
		row->frame[b] = b % 4 == 0 ? (uint8_t)(mix(seed + b) >> 17) : (uint8_t)i;
	row->id = (int64_t)(i + salt * 1000000);
	row->acc_valid = i % 3 != 1;
	for (int k = 0; k < 3 && row->acc_valid; k++)
		row->acc[k] = (float)i * 0.5f + (float)k;
	int size = snprintf(row->note_text, sizeof row->note_text, "row %llu %.*s", (unsigned long long)i,
		(int)(seed % 30), "....................................");
	row->note = (esk_string){row->note_text, i % 7 == 0 ? 0 : (size_t)size};
	snprintf(row->tag, sizeof row->tag, "t%u", (unsigned)(i % 1000));
	row->label_valid = i % 4 != 2;
	for (int k = 0; k < 2 && row->label_valid; k++) {
		size = snprintf(row->label_text[k], sizeof row->label_text[k], "%d/%llu", k,
			(unsigned long long)seed);
		row->label[k] = (esk_string){row->label_text[k], (size_t)size};
	}
	row->mask = (uint8_t)(i & 1);
	row->big_valid = i % 5 != 4;
	if (row->big_valid)
		memset(row->big, (int)(seed & 0xFF), sizeof row->big);
}

static inline void recording_cells(const recording_row *row, const void *cells[8])
{
	cells[0] = row->frame;
	cells[1] = &row->id;
	cells[2] = row->acc_valid ? row->acc : NULL;
	cells[3] = &row->note;
	cells[4] = row->tag;
	cells[5] = row->label_valid ? row->label : NULL;
	cells[6] = &row->mask;
	cells[7] = row->big_valid ? row->big : NULL;
}

/* `options` may be NULL. */
static inline esk_status recording_stream_with(esk_run *run, const char *name,
	const esk_stream_options *options, esk_stream **ret_stream, esk_error *err)
{
	esk_column *columns;
	size_t count;
	assert_ok(esk_columns_parse(RECORDING_COLUMNS, &columns, &count, err), err);
	for (size_t c = 0; c < count; c++)
		columns[c].chunk_rows = 16;
	columns[0].chunk_rows = 4;
	columns[7].chunk_rows = 3;
	esk_status status = esk_run_stream_with(run, name, columns, count, options, ret_stream, err);
	esk_columns_free(columns);
	return status;
}

static inline esk_status recording_stream(
	esk_run *run, const char *name, esk_stream **ret_stream, esk_error *err)
{
	esk_stream_options options = ESK_STREAM_OPTIONS_INIT;
	options.index = RECORDING_INDEX;
	options.rows_attribute = "total_rows";
	return recording_stream_with(run, name, &options, ret_stream, err);
}

static inline void recording_check_indexed_row(const esk_query *query, uint64_t i, uint64_t salt)
{
	recording_row *want = malloc(sizeof *want);
	recording_fill(want, i, salt);
	esk_value tag = esk_query_value(query, 3), note = esk_query_value(query, 7);
	if (esk_query_value(query, 0).integer != (int64_t)i ||
		esk_query_value(query, 1).integer != want->id ||
		esk_query_value(query, 2).integer != want->mask || tag.kind != ESK_TEXT ||
		strncmp(tag.data, want->tag, 8) != 0 || esk_query_value(query, 4).real != (double)want->id ||
		esk_query_value(query, 5).integer != want->big_valid ||
		esk_query_value(query, 6).integer != want->acc_valid || note.kind != ESK_TEXT ||
		note.size != want->note.size || memcmp(note.data, want->note.data, note.size) != 0)
		fail_msg("row %llu of the index is not what was recorded: row %lld, id %lld, note \"%s\"",
			(unsigned long long)i, (long long)esk_query_value(query, 0).integer,
			(long long)esk_query_value(query, 1).integer, note.data);
	free(want);
}

/* The catalogue's table has exactly the rows [0, rows) of the run, as they were recorded. */
static inline void recording_check_index(esk_store *store, const char *run, uint64_t rows, uint64_t salt)
{
	esk_error err = {0};
	esk_query *query;
	esk_value name = {.kind = ESK_TEXT, .data = run, .size = strlen(run)};
	uint64_t i = 0;
	bool more;
	assert_ok(esk_query_open(store,
			  "SELECT s.row, episode, step, action, reward, has_frame, has_observation, worker "
			  "FROM "
			  "replay_steps s JOIN runs ON id = run_id WHERE name = ?1 ORDER BY s.row",
			  &query, &err),
		&err);
	assert_ok(esk_query_bind(query, 1, &name, &err), &err);
	for (;; i++) {
		assert_ok(esk_query_step(query, &more, &err), &err);
		if (!more)
			break;
		recording_check_indexed_row(query, i, salt);
	}
	esk_query_close(query);
	if (i != rows)
		fail_msg("the index has %llu rows of \"%s\", %llu are in the files", (unsigned long long)i,
			run, (unsigned long long)rows);
}

static inline esk_status recording_append(
	esk_stream *stream, uint64_t i, uint64_t salt, uint64_t *ret_row, esk_error *err)
{
	recording_row *row = malloc(sizeof *row);
	const void *cells[8];
	recording_fill(row, i, salt);
	recording_cells(row, cells);
	esk_status status = esk_stream_append(stream, cells, ret_row, err);
	free(row);
	return status;
}

/* Rows [first, first + count) in one call. */
static inline esk_status recording_append_many(esk_stream *stream, uint64_t first, uint64_t count,
	uint64_t salt, uint64_t *ret_row, uint64_t *ret_taken, esk_error *err)
{
	recording_row *rows = malloc(count * sizeof *rows);
	uint8_t *frames = malloc(count * RECORDING_FRAME_BYTES), *bigs = malloc(count * RECORDING_BIG_BYTES);
	int64_t *ids = malloc(count * sizeof *ids);
	float *accs = malloc(count * sizeof(float[3]));
	esk_string *notes = malloc(count * sizeof *notes), *labels = malloc(2 * count * sizeof *labels);
	char *tags = malloc(count * 8);
	uint8_t *masks = malloc(4 * count), *acc_valid = masks + count, *label_valid = acc_valid + count,
		*big_valid = label_valid + count;
	for (uint64_t i = 0; i < count; i++) {
		recording_fill(&rows[i], first + i, salt);
		memcpy(frames + i * RECORDING_FRAME_BYTES, rows[i].frame, RECORDING_FRAME_BYTES);
		memcpy(bigs + i * RECORDING_BIG_BYTES, rows[i].big, RECORDING_BIG_BYTES);
		ids[i] = rows[i].id;
		memcpy(accs + 3 * i, rows[i].acc, sizeof rows[i].acc);
		notes[i] = rows[i].note;
		memcpy(tags + 8 * i, rows[i].tag, 8);
		memcpy(labels + 2 * i, rows[i].label, sizeof rows[i].label);
		masks[i] = rows[i].mask;
		acc_valid[i] = rows[i].acc_valid;
		label_valid[i] = rows[i].label_valid;
		big_valid[i] = rows[i].big_valid;
	}
	const void *cells[8] = {frames, ids, accs, notes, tags, labels, masks, bigs};
	const uint8_t *valid[8] = {[2] = acc_valid, [5] = label_valid, [7] = big_valid};
	esk_status status = esk_stream_append_rows(stream, count, cells, valid, ret_row, ret_taken, err);
	free(rows);
	free(frames);
	free(bigs);
	free(ids);
	free(accs);
	free(notes);
	free(labels);
	free(tags);
	free(masks);
	return status;
}

static inline esk_dataset *recording_find(esk_reader *reader, const char *stream, const char *column)
{
	char path[300];
	esk_error err = {0};
	esk_dataset *dataset = NULL;
	snprintf(path, sizeof path, "%s%s%s", strcmp(stream, "/") == 0 ? "" : stream,
		strcmp(stream, "/") == 0 ? "" : "/", column);
	assert_ok(esk_reader_find(reader, path, &dataset, &err), &err);
	return dataset;
}

static inline void recording_check_bytes(esk_reader *reader, const char *stream, const char *column,
	const uint64_t *rows, size_t count, size_t cell_bytes, uint8_t *out, uint8_t *valid)
{
	esk_error err = {0};
	esk_dataset *dataset = recording_find(reader, stream, column);
	assert_ok(esk_dataset_read_rows(dataset, rows, count, out, count * cell_bytes, &err), &err);
	assert_ok(esk_dataset_read_valid(dataset, rows, count, valid, &err), &err);
}

static inline void recording_same_string(const esk_string *found, const esk_string *expected, uint64_t row)
{
	if (found->size != expected->size ||
		(found->size > 0 && memcmp(found->data, expected->data, found->size) != 0))
		fail_msg("row %llu: string \"%s\" where \"%.*s\" was recorded", (unsigned long long)row,
			found->data, (int)expected->size, expected->data);
}

/* Compares rows [first, first + count) of every column with what was recorded. */
static inline void recording_check_rows(
	esk_reader *reader, const char *stream, uint64_t first, size_t count, uint64_t salt)
{
	static const char *const names[] = {"frame", "id", "acc", "tag", "mask", "big"};
	static const size_t bytes[] = {RECORDING_FRAME_BYTES, 8, 12, 8, 1, RECORDING_BIG_BYTES};
	uint64_t *rows = malloc((count + 1) * sizeof *rows);
	uint8_t *out[6], *valid[6];
	esk_error err = {0};
	for (size_t i = 0; i < count; i++)
		rows[i] = first + i;
	for (int c = 0; c < 6; c++) {
		out[c] = malloc(count * bytes[c] + 1);
		valid[c] = malloc(count + 1);
		recording_check_bytes(reader, stream, names[c], rows, count, bytes[c], out[c], valid[c]);
	}
	esk_string *notes, *labels;
	uint8_t *label_valid = malloc(count + 1);
	esk_dataset *label = recording_find(reader, stream, "label");
	assert_ok(esk_dataset_read_strings(recording_find(reader, stream, "note"), rows, count, &notes, &err),
		&err);
	assert_ok(esk_dataset_read_strings(label, rows, count, &labels, &err), &err);
	assert_ok(esk_dataset_read_valid(label, rows, count, label_valid, &err), &err);
	recording_row *want = malloc(sizeof *want);
	for (size_t i = 0; i < count; i++) {
		recording_fill(want, first + i, salt);
		const void *wanted[] = {want->frame, &want->id, want->acc, want->tag, &want->mask, want->big};
		for (int c = 0; c < 6; c++)
			if (memcmp(out[c] + i * bytes[c], wanted[c], bytes[c]) != 0)
				fail_msg("row %llu of \"%s\" is not what was recorded",
					(unsigned long long)(first + i), names[c]);
		assert_int_equal(valid[2][i], want->acc_valid);
		assert_int_equal(valid[5][i], want->big_valid);
		assert_int_equal(valid[0][i], 1);
		assert_int_equal(label_valid[i], want->label_valid);
		recording_same_string(&notes[i], &want->note, first + i);
		recording_same_string(&labels[2 * i], &want->label[0], first + i);
		recording_same_string(&labels[2 * i + 1], &want->label[1], first + i);
	}
	free(want);
	esk_strings_free(notes);
	esk_strings_free(labels);
	free(label_valid);
	for (int c = 0; c < 6; c++) {
		free(out[c]);
		free(valid[c]);
	}
	free(rows);
}

/* Rows of the stream; fails unless every column has as many. */
static inline uint64_t recording_rows(esk_reader *reader, const char *stream)
{
	static const char *const names[] = {"frame", "id", "acc", "note", "tag", "label", "mask", "big"};
	uint64_t rows = esk_dataset_rows(recording_find(reader, stream, names[0]));
	for (int c = 1; c < 8; c++)
		if (esk_dataset_rows(recording_find(reader, stream, names[c])) != rows)
			fail_msg("\"%s\" has %llu rows where \"frame\" has %llu", names[c],
				(unsigned long long)esk_dataset_rows(
					recording_find(reader, stream, names[c])),
				(unsigned long long)rows);
	return rows;
}

static inline void recording_print_finding(void *arg, const esk_finding *finding)
{
	(void)arg;
	print_message("finding: %s %s %s rows %llu+%llu: %s\n", finding->run, finding->file,
		finding->dataset != NULL ? finding->dataset : "-", (unsigned long long)finding->first_row,
		(unsigned long long)finding->row_count, finding->message);
}

/* Fails if verify finds anything. */
static inline void recording_verify(esk_store *store)
{
	esk_check_options options = ESK_CHECK_OPTIONS_INIT;
	esk_check_report report;
	esk_error err = {0};
	options.finding = recording_print_finding;
	options.threads = 1;
	options.untried = true; /* it is called often, and what it finds fails the test in any case */
	assert_ok(esk_store_verify(store, &options, &report, &err), &err);
	if (report.findings > 0)
		fail_msg("verify has %llu findings", (unsigned long long)report.findings);
}

static inline void recording_sleep_ms(unsigned ms)
{
	nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000}, NULL);
}

static inline void recording_log(void *arg, esk_log_level level, const char *message)
{
	(void)arg;
	if (getenv("ESK_TEST_VERBOSE") != NULL)
		fprintf(stderr, "  [%d] %s\n", (int)level, message);
}

#endif
