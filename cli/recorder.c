/* Handing rows to the library: see recorder.h. */
#include "recorder.h"

#include "progress.h"
#include "source.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_BYTES (4u << 20)
#define LOOK_NS 200000000

void cli_recorder_tick(cli_recorder *r)
{
	int64_t now = cli_now_ns();
	if (now - r->looked_ns < LOOK_NS)
		return;
	r->looked_ns = now;
	esk_run_stats stats = {.struct_size = sizeof stats};
	if (esk_run_get_stats(r->run, &stats, NULL) != ESK_OK)
		return;
	if (stats.status != r->trouble) {
		r->trouble = stats.status;
		if (stats.status != ESK_OK)
			cli_note("warning: committing fails at present: %s; rows wait in the ring",
				esk_status_text(stats.status));
		else
			cli_note("committing works again");
	}
	if (!cli_progress_due())
		return;
	cli_buf rows, file;
	char detail[200];
	double fill =
		stats.ring_bytes > 0 ? 100.0 * (double)stats.ring_used_bytes / (double)stats.ring_bytes : 0;
	snprintf(detail, sizeof detail, "%s  ring %.0f %%  file %s", cli_counted(r->rows, "row", &rows), fill,
		cli_bytes(stats.file_bytes, &file));
	cli_progress_draw(r->rows * r->row_bytes, r->total_rows * r->row_bytes, detail);
}

int cli_recorder_append(cli_recorder *r, uint64_t rows, const void *const *cells, const uint8_t *const *valid,
	uint64_t *ret_taken)
{
	const void **at = cli_alloc(2 * r->column_count * sizeof *at);
	const uint8_t **valid_at = (const uint8_t **)at + r->column_count;
	memcpy(at, cells, r->column_count * sizeof *at);
	for (size_t c = 0; c < r->column_count; c++)
		valid_at[c] = valid != NULL ? valid[c] : NULL;
	*ret_taken = 0;
	int code = CLI_OK;
	while (*ret_taken < rows && code == CLI_OK) {
		esk_error err = {0};
		uint64_t taken = 0, left = rows - *ret_taken;
		esk_status status = esk_stream_append_rows(r->stream, left, at, valid_at, NULL, &taken, &err);
		taken = status == ESK_OK ? left : taken;
		r->rows += taken;
		if (status == ESK_EFULL) {
			r->dropped += left - taken;
			taken = left;
		}
		*ret_taken += taken;
		for (size_t c = 0; c < r->column_count; c++) {
			at[c] = (const unsigned char *)at[c] + taken * r->cell_bytes[c];
			valid_at[c] = valid_at[c] != NULL ? valid_at[c] + taken : NULL;
		}
		cli_recorder_tick(r);
		if (status == ESK_ETIMEDOUT && cli_stop_requested())
			break;
		if (status != ESK_OK && status != ESK_EFULL && status != ESK_ETIMEDOUT)
			code = cli_fail_with(&err);
	}
	free(at);
	return code;
}

/* ---- standard input ---- */

typedef struct source {
	cli_recorder *r;
	unsigned char *buffer;
	size_t size; /* of the buffer: whole rows */
	size_t filled;
	unsigned char **split; /* per column, `split_rows` cells: rows taken apart */
	const void **cells;
	uint64_t split_rows;
	bool ended;
} source;

/* Several columns lie side by side in each row; the library wants each column's cells together. */
static void split_rows(source *s, const unsigned char *from, uint64_t rows)
{
	cli_recorder *r = s->r;
	uint64_t offset = 0;
	for (size_t c = 0; c < r->column_count; c++) {
		size_t cell = r->cell_bytes[c];
		unsigned char *to = s->split[c];
		const unsigned char *at = from + offset;
		for (uint64_t i = 0; i < rows; i++, at += r->row_bytes, to += cell)
			memcpy(to, at, cell);
		offset += cell;
	}
}

/* HDF5 knows two values of a bool: anything else would be read as neither. */
static int check_bools(const source *s, uint64_t rows)
{
	const cli_recorder *r = s->r;
	for (size_t c = 0; c < r->column_count; c++) {
		if (r->columns[c].dtype.kind != ESK_BOOL)
			continue;
		const unsigned char *bytes = s->cells[c];
		for (uint64_t i = 0; i < rows * r->cell_bytes[c]; i++)
			if (bytes[i] > 1)
				return cli_fail("row %" PRIu64
						", column \"%s\": a bool is one byte 0 or 1, found %d",
					r->rows + r->dropped + i / r->cell_bytes[c], r->columns[c].name,
					bytes[i]);
	}
	return CLI_OK;
}

/* Hands over the whole rows in the buffer and moves the rest to its front. */
static int drain(source *s)
{
	cli_recorder *r = s->r;
	uint64_t rows = s->filled / r->row_bytes, done = 0;
	int code = CLI_OK;
	while (done < rows && code == CLI_OK) {
		uint64_t piece = rows - done, taken = 0;
		const unsigned char *from = s->buffer + done * r->row_bytes;
		if (r->column_count > 1) {
			piece = piece < s->split_rows ? piece : s->split_rows;
			split_rows(s, from, piece);
		} else {
			s->cells[0] = from;
		}
		code = check_bools(s, piece);
		if (code == CLI_OK)
			code = cli_recorder_append(r, piece, s->cells, NULL, &taken);
		done += taken;
		if (taken < piece)
			break;
	}
	s->filled -= done * r->row_bytes;
	memmove(s->buffer, s->buffer + done * r->row_bytes, s->filled);
	return code;
}

static int fill(source *s)
{
	size_t got;
	int code = cli_source_read(s->buffer + s->filled, s->size - s->filled, &got, &s->ended);
	s->filled += got;
	return code;
}

static void source_open(source *s, cli_recorder *r)
{
	*s = (source){.r = r};
	uint64_t rows = r->row_bytes < BUFFER_BYTES ? BUFFER_BYTES / r->row_bytes : 1;
	s->size = rows * r->row_bytes;
	s->buffer = cli_alloc(s->size);
	s->cells = cli_alloc(r->column_count * sizeof *s->cells);
	s->split = cli_alloc(r->column_count * sizeof *s->split);
	s->split_rows = rows;
	for (size_t c = 0; c < r->column_count; c++) {
		s->split[c] = r->column_count > 1 ? cli_alloc(rows * r->cell_bytes[c]) : NULL;
		s->cells[c] = s->split[c];
	}
	(void)fcntl(STDIN_FILENO, F_SETPIPE_SZ, 1 << 20); /* fewer, larger reads; fails on what is no pipe */
}

static void source_close(source *s)
{
	for (size_t c = 0; c < s->r->column_count; c++)
		free(s->split[c]);
	free(s->split);
	free(s->cells);
	free(s->buffer);
}

int cli_record_stdin(cli_recorder *r)
{
	source s;
	int code = CLI_OK;
	source_open(&s, r);
	while (code == CLI_OK && !s.ended && !cli_stop_requested()) {
		code = fill(&s);
		if (code == CLI_OK && s.filled >= r->row_bytes)
			code = drain(&s);
		cli_recorder_tick(r);
	}
	uint64_t row = r->rows + r->dropped;
	cli_buf rows, bytes;
	if (code == CLI_OK && s.filled > 0 && s.ended)
		code = cli_fail("standard input ended inside row %" PRIu64 ": %zu of its %" PRIu64
				" bytes remained; kept before it: %s",
			row, s.filled, r->row_bytes, cli_counted(row, "row", &rows));
	else if (code == CLI_OK && s.filled > 0)
		cli_note("interrupted: of what was read last, %s (%s and a part) were not recorded",
			cli_counted(s.filled, "byte", &bytes),
			cli_counted(s.filled / r->row_bytes, "row", &rows));
	source_close(&s);
	return code;
}

/* ---- .npy files ---- */

int cli_record_npy(cli_recorder *r, const cli_npy *files)
{
	uint64_t total = files[0].shape[0];
	uint64_t piece = r->row_bytes < BUFFER_BYTES ? BUFFER_BYTES / r->row_bytes : 1;
	unsigned char **buffers = cli_alloc(r->column_count * sizeof *buffers);
	for (size_t c = 0; c < r->column_count; c++)
		buffers[c] = cli_alloc(piece * r->cell_bytes[c]);
	r->total_rows = total;
	int code = CLI_OK;
	for (uint64_t row = 0, taken = 0; row < total && code == CLI_OK && !cli_stop_requested();
		row += taken) {
		uint64_t rows = total - row < piece ? total - row : piece;
		for (size_t c = 0; c < r->column_count && code == CLI_OK; c++)
			code = cli_npy_read(&files[c], row, rows, buffers[c]);
		taken = 0;
		if (code == CLI_OK)
			code = cli_recorder_append(r, rows, (const void *const *)buffers, NULL, &taken);
		cli_recorder_tick(r);
	}
	for (size_t c = 0; c < r->column_count; c++)
		free(buffers[c]);
	free(buffers);
	return code;
}
