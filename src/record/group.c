/* One append to several streams: one ring record, so that all rows of all parts, and the losses in front of
 * them, are acknowledged, committed and recovered together. Runs in the callers' threads.
 *
 * The parts' streams are locked in the order of their numbers, whatever the order of the parts, so that two
 * appends never wait for each other; rows are promised in every stream while all are locked. */
#include "record/internal.h"

#include <stdlib.h>
#include <string.h>

#define INLINE_PARTS 16
#define INLINE_COLUMNS 64

/* What an append needs while it runs, on the stack as a rule. */
typedef struct grouping {
	const esk_loss_part *losses;
	size_t loss_count;
	esk_rows_part *parts;
	size_t count;
	uint32_t *order; /* of the parts by the numbers of their streams */
	uint64_t *at;    /* offsets, of one part at a time */
	uint32_t inline_order[INLINE_PARTS];
	uint64_t inline_at[2 * INLINE_COLUMNS];
} grouping;

/* ---- what is asked for ---- */

static esk_status check_part(const esk_recorder *r, const esk_rows_part *part, esk_error *err)
{
	if (part->stream == NULL || part->stream->recorder != r)
		return esk_fail(err, ESK_EINVAL, "run \"%s\": a part is of no stream of this run", r->name);
	esk_status status = esk_stream_check_open(part->stream, err);
	return status == ESK_OK && part->rows > 0 ? esk_stream_check_cells(part->stream, part->cells, err)
						  : status;
}

static esk_status check_loss(const esk_recorder *r, const esk_loss_part *loss, esk_error *err)
{
	if (loss->stream == NULL || loss->stream->recorder != r)
		return esk_fail(err, ESK_EINVAL, "run \"%s\": a loss is of no stream of this run", r->name);
	if (loss->cause != ESK_LOSS_OVERWRITTEN && loss->cause != ESK_LOSS_DAMAGED)
		return esk_fail(err, ESK_EINVAL, "run \"%s\": a loss has the cause %d: expected 0 or 1",
			r->name, (int)loss->cause);
	return esk_stream_check_open(loss->stream, err);
}

static esk_status check_parts(const esk_recorder *r, const grouping *g, esk_error *err)
{
	uint64_t rows = g->loss_count;
	if (g->count > ESK_MAX_STREAMS || g->loss_count > ESK_MAX_STREAMS)
		return esk_fail(err, ESK_EINVAL,
			"run \"%s\": %zu parts and %zu losses, a run has at most %d streams", r->name,
			g->count, g->loss_count, ESK_MAX_STREAMS);
	for (size_t i = 0; i < g->loss_count; i++) {
		esk_status status = check_loss(r, &g->losses[i], err);
		if (status != ESK_OK)
			return status;
	}
	for (size_t i = 0; i < g->count; i++) {
		esk_status status = check_part(r, &g->parts[i], err);
		if (status != ESK_OK)
			return status;
		rows |= g->parts[i].rows;
	}
	return rows > 0 ? ESK_OK : esk_fail(err, ESK_EINVAL, "run \"%s\": an append without rows", r->name);
}

/* Room for what the parts need; `end` frees it. */
static esk_status begin(grouping *g, esk_error *err)
{
	size_t columns = 0, count = g->count;
	for (size_t i = 0; i < count; i++)
		if (g->parts[i].stream->column_count > columns)
			columns = g->parts[i].stream->column_count;
	g->order = count <= INLINE_PARTS ? g->inline_order : malloc(count * sizeof *g->order);
	g->at = columns <= INLINE_COLUMNS ? g->inline_at : malloc(2 * columns * sizeof *g->at);
	return g->order != NULL && g->at != NULL ? ESK_OK : esk_fail_memory(err, columns, "offsets");
}

static void end(grouping *g)
{
	if (g->order != g->inline_order)
		free(g->order);
	if (g->at != g->inline_at)
		free(g->at);
}

/* Sorts by insertion: callers name streams in their order as a rule. */
static esk_status put_in_order(grouping *g, esk_error *err)
{
	for (size_t i = 0; i < g->count; i++) {
		uint32_t id = g->parts[i].stream->id;
		size_t at = i;
		for (; at > 0 && g->parts[g->order[at - 1]].stream->id > id; at--)
			g->order[at] = g->order[at - 1];
		if (at > 0 && g->parts[g->order[at - 1]].stream->id == id)
			return esk_fail(err, ESK_EINVAL, "stream \"%s\" has two parts of an append",
				g->parts[i].stream->name);
		g->order[at] = (uint32_t)i;
	}
	return ESK_OK;
}

static esk_status measure_part(const esk_rows_part *part, uint64_t *at, esk_rows_layout *ret_layout,
	uint64_t *ret_bytes, esk_error *err)
{
	return esk_stream_measure(part->stream, part->rows, part->cells, at, at + part->stream->column_count,
		ret_layout, ret_bytes, err);
}

/* Bytes of the record. */
static esk_status measure(const grouping *g, uint64_t *ret_bytes, esk_error *err)
{
	uint64_t total = sizeof(esk_group_head) + g->loss_count * sizeof(esk_group_loss);
	for (size_t i = 0; i < g->count; i++) {
		esk_rows_layout layout;
		uint64_t bytes = 0;
		if (g->parts[i].rows == 0)
			continue;
		esk_status status = measure_part(&g->parts[i], g->at, &layout, &bytes, err);
		if (status != ESK_OK)
			return status;
		if (bytes > UINT64_MAX - 64 ||
			!esk_add_u64(total, sizeof(esk_part_head) + esk_round_up(bytes, 8), &total))
			return esk_fail(err, ESK_ERANGE, "stream \"%s\": %llu rows at once",
				g->parts[i].stream->name, (unsigned long long)g->parts[i].rows);
	}
	*ret_bytes = total;
	return ESK_OK;
}

/* ---- reserving and filling ---- */

/* Reserves the record and claims the indices of all rows. */
static esk_status claim(esk_recorder *r, grouping *g, uint64_t bytes, esk_ring_slot *ret_slot, esk_error *err)
{
	uint16_t kind = g->loss_count > 0 ? ESK_RECORD_GROUP_LOSSES : ESK_RECORD_GROUP;
	if (bytes > esk_ring_max_payload(r->ring))
		return esk_fail(err, ESK_ERANGE,
			"run \"%s\": the rows of this append take %llu bytes, a record takes at most %llu: "
			"append fewer rows at once or give the run a larger ring (ring_bytes)",
			r->name, (unsigned long long)bytes,
			(unsigned long long)esk_ring_max_payload(r->ring));
	for (size_t i = 0; i < g->count; i++)
		pthread_mutex_lock(&g->parts[g->order[i]].stream->producer);
	esk_status status = esk_ring_reserve(r->ring, 0, kind, (uint32_t)bytes, ret_slot, err);
	for (size_t i = 0; i < g->count && status == ESK_OK; i++) {
		esk_rows_part *part = &g->parts[i];
		part->row = atomic_load_explicit(&part->stream->next_row, memory_order_relaxed);
		atomic_store_explicit(&part->stream->next_row, part->row + part->rows, memory_order_relaxed);
	}
	for (size_t i = g->count; i > 0; i--)
		pthread_mutex_unlock(&g->parts[g->order[i - 1]].stream->producer);
	return status;
}

/* Returns what lies behind them. */
static uint8_t *fill_losses(const grouping *g, uint8_t *at)
{
	for (size_t i = 0; i < g->loss_count; i++, at += sizeof(esk_group_loss)) {
		const esk_loss_part *part = &g->losses[i];
		esk_group_loss loss = {.stream = part->stream->id,
			.cause = (uint32_t)part->cause,
			.loss = {.records = part->records,
				.bytes = part->bytes,
				.first_sequence = part->first_sequence,
				.last_sequence = part->last_sequence,
				.time_ns = (uint64_t)esk_now_ns()}};
		memcpy(at, &loss, sizeof loss);
	}
	return at;
}

static void fill(const grouping *g, uint8_t *payload)
{
	esk_group_head head = {.losses = (uint32_t)g->loss_count};
	uint8_t *at = fill_losses(g, payload + sizeof head);
	for (size_t i = 0; i < g->count; i++) {
		const esk_rows_part *part = &g->parts[i];
		esk_part_head part_head = {.stream = part->stream->id};
		esk_rows_layout layout;
		if (part->rows == 0)
			continue;
		measure_part(part, g->at, &layout, &part_head.size_bytes, NULL); /* as it was measured */
		memcpy(at, &part_head, sizeof part_head);
		at += sizeof part_head;
		esk_stream_fill(part->stream, at, part->rows, part->row, g->at,
			g->at + part->stream->column_count, &layout, part->cells, part->valid);
		at += esk_round_up(part_head.size_bytes, 8);
		head.parts++;
	}
	memcpy(payload, &head, sizeof head);
}

esk_status esk_recorder_append(esk_recorder *r, const esk_loss_part *losses, size_t loss_count,
	esk_rows_part *parts, size_t part_count, esk_error *err)
{
	grouping g = {.losses = losses, .loss_count = loss_count, .parts = parts, .count = part_count};
	esk_ring_slot slot;
	uint64_t bytes = 0;
	esk_status status = check_parts(r, &g, err);
	if (status != ESK_OK)
		return status;
	status = begin(&g, err);
	if (status == ESK_OK)
		status = put_in_order(&g, err);
	if (status == ESK_OK)
		status = measure(&g, &bytes, err);
	if (status == ESK_OK)
		status = claim(r, &g, bytes, &slot, err);
	if (status == ESK_OK) {
		fill(&g, slot.payload);
		esk_ring_publish(r->ring, &slot);
	}
	end(&g);
	return status;
}

uint64_t esk_run_append_bytes(const esk_rows_part *parts, size_t part_count)
{
	grouping g = {.parts = (esk_rows_part *)parts, .count = part_count};
	uint64_t bytes = UINT64_MAX;
	if (begin(&g, NULL) != ESK_OK || measure(&g, &bytes, NULL) != ESK_OK)
		bytes = UINT64_MAX;
	end(&g);
	return bytes;
}
