/* How far the ring was taken: entries that stand beside the rows they account for, and what follows from them
 * after a death. See writer.h, W2 to W5. */
#include "writer.h"
#include <esker/profile.h>

#include <stdlib.h>
#include <string.h>

#define RECALL_ROWS 1024u
#define CHUNK_ROWS 1024u
#define MAX_DECLARATIONS (1u << 22) /* what a ring can hold; more is damage */

void esk_daq_account_init(esk_daq_account *account, uint64_t ring_id, uint64_t released)
{
	*account = (esk_daq_account){.ring_id = ring_id, .released = released};
}

void esk_daq_account_clear(esk_daq_account *account)
{
	free(account->marks);
	account->marks = NULL;
	account->mark_count = 0;
}

esk_status esk_daq_account_room(esk_daq_account *account, uint32_t declaration, esk_error *err)
{
	if (declaration == ESK_DAQ_EVERY_LANE || declaration < account->mark_count)
		return ESK_OK;
	uint32_t count = declaration + 1;
	esk_daq_lane_mark *grown = realloc(account->marks, count * sizeof *grown);
	if (grown == NULL)
		return esk_fail_memory(err, count * sizeof *grown, "an account of a ring");
	memset(grown + account->mark_count, 0, (count - account->mark_count) * sizeof *grown);
	account->marks = grown;
	account->mark_count = count;
	return ESK_OK;
}

static esk_daq_lane_mark *mark_of(esk_daq_account *account, uint32_t declaration)
{
	return declaration == ESK_DAQ_EVERY_LANE ? &account->every : &account->marks[declaration];
}

/* Whether `a` is further in the ring than `b`. */
static bool is_further(const esk_daq_lane_mark *a, const esk_daq_lane_mark *b)
{
	if (!b->known || a->position != b->position)
		return !b->known || a->position > b->position;
	return b->piece != 0 && (a->piece == 0 || a->piece > b->piece);
}

static void count_entry(esk_daq_account *account, const esk_daq_entry *entry)
{
	account->unreleased += entry->records + entry->bad_records + entry->lost_records;
	if (entry->position + 1 > account->done_before)
		account->done_before = entry->position + 1;
}

esk_status esk_daq_account_past(
	esk_daq_account *account, const esk_daq_entry *entry, bool *ret_more, esk_error *err)
{
	*ret_more = true;
	if (entry->ring_id != account->ring_id ||
		(entry->declaration > MAX_DECLARATIONS && entry->declaration != ESK_DAQ_EVERY_LANE))
		return ESK_OK;
	if (entry->flush_position < account->floor) {
		*ret_more = false;
		return ESK_OK;
	}
	/* Bites follow one another: those that began before one that begins at or before what is released
	 * ended there. */
	if (entry->flush_position <= account->released)
		account->floor = entry->flush_position;
	esk_status status = esk_daq_account_room(account, entry->declaration, err);
	if (status != ESK_OK)
		return status;
	esk_daq_lane_mark *mark = mark_of(account, entry->declaration);
	esk_daq_lane_mark past = {.known = true, .position = entry->position, .piece = entry->piece};
	if (is_further(&past, mark)) /* rows of the stream and items are two lists */
		*mark = past;
	if (entry->flush_position >= account->released)
		count_entry(account, entry);
	return ESK_OK;
}

void esk_daq_account_add(esk_daq_account *account, const esk_daq_entry *entry)
{
	*mark_of(account, entry->declaration) =
		(esk_daq_lane_mark){.known = true, .position = entry->position, .piece = entry->piece};
	count_entry(account, entry);
}

void esk_daq_account_released(esk_daq_account *account)
{
	account->unreleased = 0;
}

bool esk_daq_account_done(
	const esk_daq_account *account, uint32_t declaration, uint64_t position, uint64_t *ret_piece)
{
	*ret_piece = 0;
	if (account->every.known && position <= account->every.position)
		return true;
	if (declaration >= account->mark_count || !account->marks[declaration].known)
		return false;
	const esk_daq_lane_mark *mark = &account->marks[declaration];
	if (position == mark->position && mark->piece > 0)
		*ret_piece = mark->piece;
	return position < mark->position || (position == mark->position && mark->piece == 0);
}

/* ---- the stream "ring" ---- */

static const char ring_columns[] =
	"ring_id:u64 declaration:u32 sequence:u64 position:u64 piece:u64 records:u64 rows:u64 "
	"bad_records:u64 lost_records:u64 lost_bytes:u64 flush_position:u64 time_ns:i64";

void esk_daq_entry_cells(const esk_daq_entry *entry, const void *cells[ESK_DAQ_RING_COLUMNS])
{
	const void *in_order[ESK_DAQ_RING_COLUMNS] = {&entry->ring_id, &entry->declaration, &entry->sequence,
		&entry->position, &entry->piece, &entry->records, &entry->rows, &entry->bad_records,
		&entry->lost_records, &entry->lost_bytes, &entry->flush_position, &entry->time_ns};
	memcpy(cells, in_order, sizeof in_order);
}

esk_status esk_daq_ring_stream(esk_run *run, esk_stream **ret_stream, esk_error *err)
{
	esk_column *columns;
	size_t count;
	esk_status status = esk_columns_parse(ring_columns, &columns, &count, err);
	if (status != ESK_OK)
		return status;
	for (size_t i = 0; i < count;
		i++) /* a row a flush: small chunks, since the open one is written at each commit */
		columns[i].chunk_rows = CHUNK_ROWS;
	status = esk_run_stream(run, ESK_DAQ_RING_STREAM, columns, count, ret_stream, err);
	esk_columns_free(columns);
	return status;
}

/* A block of rows of the columns that recalling needs. */
typedef struct block {
	uint64_t numbers[7][RECALL_ROWS];
	uint32_t declarations[RECALL_ROWS];
} block;

static const char *const recalled[7] = {"ring/ring_id", "ring/position", "ring/piece", "ring/records",
	"ring/bad_records", "ring/lost_records", "ring/flush_position"};

static esk_status read_block(esk_reader *reader, uint64_t start, uint64_t rows, block *b, esk_error *err)
{
	esk_dataset *dataset;
	esk_status status = ESK_OK;
	for (size_t i = 0; i < 7 && status == ESK_OK; i++) {
		status = esk_reader_find(reader, recalled[i], &dataset, err);
		if (status == ESK_OK)
			status = esk_dataset_read(dataset, (int64_t)start, (int64_t)(start + rows), 1,
				b->numbers[i], rows * sizeof(uint64_t), err);
	}
	if (status == ESK_OK)
		status = esk_reader_find(reader, "ring/declaration", &dataset, err);
	return status == ESK_OK ? esk_dataset_read(dataset, (int64_t)start, (int64_t)(start + rows), 1,
					  b->declarations, rows * sizeof(uint32_t), err)
				: status;
}

/* Visits the rows of the stream, the newest block first, as long as *ret_more. */
typedef esk_status (*visit_fn)(const block *b, uint64_t rows, void *arg, bool *ret_more, esk_error *err);

static esk_status visit_blocks(esk_reader *reader, visit_fn visit, void *arg, esk_error *err)
{
	esk_dataset *dataset;
	bool more = true;
	block *b = malloc(sizeof *b);
	if (b == NULL)
		return esk_fail_memory(err, sizeof *b, "the account of a ring");
	esk_status status = esk_reader_find(reader, "ring/flush_position", &dataset, err);
	uint64_t end = status == ESK_OK ? esk_dataset_rows(dataset) : 0;
	while (end > 0 && more && status == ESK_OK) {
		uint64_t start = end > RECALL_ROWS ? end - RECALL_ROWS : 0;
		status = read_block(reader, start, end - start, b, err);
		if (status == ESK_OK)
			status = visit(b, end - start, arg, &more, err);
		end = start;
	}
	free(b);
	return status == ESK_ENOTFOUND ? ESK_OK : status; /* older segments may have been deleted */
}

static esk_status recall_block(const block *b, uint64_t rows, void *arg, bool *ret_more, esk_error *err)
{
	esk_daq_account *account = arg;
	esk_status status = ESK_OK;
	for (uint64_t i = rows; i-- > 0 && *ret_more && status == ESK_OK;) {
		esk_daq_entry entry = {.ring_id = b->numbers[0][i],
			.declaration = b->declarations[i],
			.position = b->numbers[1][i],
			.piece = b->numbers[2][i],
			.records = b->numbers[3][i],
			.bad_records = b->numbers[4][i],
			.lost_records = b->numbers[5][i],
			.flush_position = b->numbers[6][i]};
		status = esk_daq_account_past(account, &entry, ret_more, err);
	}
	return status;
}

static esk_status look_for_records(const block *b, uint64_t rows, void *arg, bool *ret_more, esk_error *err)
{
	bool *has_records = arg;
	(void)err;
	for (uint64_t i = rows; i-- > 0 && !*has_records;)
		*has_records = b->numbers[3][i] > 0;
	*ret_more = !*has_records;
	return ESK_OK;
}

esk_status esk_daq_ring_stream_has_records(
	esk_store *store, const char *run, bool *ret_has_records, esk_error *err)
{
	esk_reader *reader;
	bool has_records = false;
	esk_status status = esk_reader_open(store, run, &reader, err);
	if (status != ESK_OK)
		return status;
	status = visit_blocks(reader, look_for_records, &has_records, err);
	esk_reader_close(reader);
	if (status == ESK_OK)
		*ret_has_records = has_records;
	return status;
}

esk_status esk_daq_ring_stream_recall(
	esk_store *store, const char *run, esk_daq_account *account, bool *ret_has_bytes, esk_error *err)
{
	esk_reader *reader;
	esk_dataset *bytes;
	esk_status status = esk_reader_open(store, run, &reader, err);
	if (status != ESK_OK)
		return status;
	status = visit_blocks(reader, recall_block, account, err);
	*ret_has_bytes = esk_reader_find(reader, ESK_DAQ_BYTES_STREAM "/data/values", &bytes, NULL) == ESK_OK;
	esk_reader_close(reader);
	return status;
}

/* What rows for all lanes of a ring, beyond a position, say was lost. */
typedef struct lost_beyond {
	uint64_t ring_id;
	uint64_t position;
	uint64_t records;
} lost_beyond;

static esk_status sum_block(const block *b, uint64_t rows, void *arg, bool *ret_more, esk_error *err)
{
	lost_beyond *lost = arg;
	(void)err;
	for (uint64_t i = rows; i-- > 0 && *ret_more;) {
		if (b->numbers[0][i] != lost->ring_id || b->declarations[i] != ESK_DAQ_EVERY_LANE)
			continue;
		*ret_more = b->numbers[1][i] > lost->position;
		if (*ret_more)
			lost->records += b->numbers[5][i];
	}
	return ESK_OK;
}

esk_status esk_daq_ring_stream_lost(esk_store *store, const char *run, uint64_t ring_id, uint64_t position,
	uint64_t *ret_records, esk_error *err)
{
	esk_reader *reader;
	lost_beyond lost = {.ring_id = ring_id, .position = position};
	esk_status status = esk_reader_open(store, run, &reader, err);
	if (status != ESK_OK)
		return status;
	status = visit_blocks(reader, sum_block, &lost, err);
	esk_reader_close(reader);
	if (status == ESK_OK)
		*ret_records = lost.records;
	return status;
}
