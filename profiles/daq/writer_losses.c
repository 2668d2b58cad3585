/* What was overwritten, and what cannot be taken: where it is marked, and how it is accounted for (writer.h,
 * W4 and W5).
 *
 * Where a loss is met among records that are gathered, it becomes a mark, so that a writer which just catches
 * up with the ring is not held up for each: what is gathered is put in the end, piece by piece, and the
 * losses between. */
#include "runs.h"
#include "writer.h"
#include <esker/profile.h>

#include <stdlib.h>
#include <string.h>

void esk_daq_loss_add(esk_daq_loss *to, const esk_daq_loss *loss)
{
	if (loss->records == 0)
		return;
	if (to->records == 0)
		to->first = loss->first;
	to->last = loss->last;
	to->records += loss->records;
	to->bytes += loss->bytes;
}

/* ---- whose ---- */

void esk_daq_instruments_add(esk_daq_instruments *known, const char *name)
{
	if (known->count == 1 && strcmp(known->name, name) != 0)
		known->count = 2;
	if (known->count > 0)
		return;
	known->count = 1;
	strncpy(known->name, name, sizeof known->name - 1);
}

/* A declaration that cannot be read may be anybody's. */
static esk_status look_at_declaration(esk_daq_writer *writer, uint32_t number, esk_error *err)
{
	const void *shared;
	size_t size;
	esk_daq_declaration declaration;
	esk_status status = esk_ring_declaration(writer->ring, number, &shared, &size, NULL);
	if (status != ESK_OK) {
		writer->instruments.count = 2;
		return ESK_OK;
	}
	void *bytes = malloc(size + 1);
	if (bytes == NULL)
		return esk_fail_memory(err, size, "a declaration");
	esk_ring_copy(bytes, shared, size); /* other processes may write where it lies */
	if (esk_daq_declaration_parse(bytes, size, &declaration, NULL) == ESK_OK)
		esk_daq_instruments_add(&writer->instruments, declaration.instrument);
	else
		writer->instruments.count = 2;
	free(bytes);
	return ESK_OK;
}

/* *ret_name is the only instrument that writes to the ring, as far as declarations and records tell; NULL:
 * there are several, or none. Records of raw bytes have no declaration: they count from the first on that was
 * read. */
static esk_status only_instrument(esk_daq_writer *writer, const char **ret_name, esk_error *err)
{
	esk_daq_instruments *known = &writer->instruments;
	esk_status status = ESK_OK;
	if (writer->lane_count > 0 && writer->lanes[0] != NULL)
		esk_daq_instruments_add(known, ESK_DAQ_BYTES_STREAM);
	uint32_t count = esk_ring_declaration_count(writer->ring);
	while (known->count < 2 && known->declarations < count && status == ESK_OK)
		status = look_at_declaration(writer, ++known->declarations, err);
	*ret_name = known->count == 1 ? known->name : NULL;
	return status;
}

static esk_daq_lane *living_lane(const esk_daq_writer *writer, const char *instrument)
{
	for (uint32_t i = 0; i < writer->lane_count; i++)
		if (writer->lanes[i] != NULL && !writer->lanes[i]->dead &&
			strcmp(writer->lanes[i]->instrument, instrument) == 0)
			return writer->lanes[i];
	return NULL;
}

/* The stream in which losses of an instrument are marked; NULL: whose they are is not known. */
static esk_status marked_stream(
	esk_daq_writer *writer, const char *instrument, esk_stream **ret_stream, esk_error *err)
{
	esk_error why = {0};
	bool columns = writer->options.layout == ESK_DAQ_COLUMNS;
	esk_daq_lane *lane = columns && instrument != NULL ? living_lane(writer, instrument) : NULL;
	esk_status status =
		lane != NULL ? esk_daq_lane_stream(writer, lane, ret_stream, &why) : ESK_ENOTFOUND;
	if (status == ESK_OK)
		return ESK_OK;
	if (lane != NULL && esk_daq_is_passing(status))
		return esk_fail(err, status, "%s", why.message);
	*ret_stream = writer->ring_stream;
	return ESK_OK;
}

/* ---- accounting ---- */

static void count(esk_daq_writer *writer, const esk_daq_entry *entry)
{
	pthread_mutex_lock(&writer->lock);
	writer->stats.bad_records += entry->bad_records;
	writer->stats.lost_records += entry->lost_records;
	writer->stats.lost_bytes += entry->lost_bytes;
	pthread_mutex_unlock(&writer->lock);
	writer->bite.new_lost += entry->lost_records;
	esk_daq_account_add(&writer->account, entry);
	if (writer->options.layout == ESK_DAQ_BATCHES)
		writer->untold_lost += entry->lost_records;
}

static esk_loss_part loss_part(esk_stream *stream, esk_loss_cause cause, const esk_daq_loss *loss)
{
	return (esk_loss_part){.stream = stream,
		.cause = cause,
		.records = loss->records,
		.bytes = loss->bytes,
		.first_sequence = loss->first,
		.last_sequence = loss->last};
}

/* Marks and account in one append: a death leaves both or neither. `entry` says up to where. */
static esk_status append_account(esk_daq_writer *writer, esk_daq_entry *entry, esk_stream *marked,
	const esk_daq_loss *lost, const esk_daq_loss *bad, esk_error *err)
{
	const void *cells[ESK_DAQ_RING_COLUMNS];
	esk_loss_part losses[2];
	size_t loss_count = 0;
	if (lost->records > 0)
		losses[loss_count++] = loss_part(marked, ESK_LOSS_OVERWRITTEN, lost);
	if (bad->records > 0)
		losses[loss_count++] = loss_part(marked, ESK_LOSS_DAMAGED, bad);
	entry->ring_id = esk_ring_stream_id(writer->ring);
	entry->flush_position = writer->bite.flush_position;
	entry->time_ns = esk_now_ns();
	entry->lost_records = lost->records;
	entry->lost_bytes = lost->bytes;
	entry->bad_records = bad->records;
	esk_daq_entry_cells(entry, cells);
	esk_rows_part row = {.stream = writer->ring_stream, .rows = 1, .cells = cells};
	esk_status status = esk_run_append_with_losses(writer->run, losses, loss_count, &row, 1, err);
	if (status == ESK_OK)
		count(writer, entry);
	return status;
}

static esk_status account_for_all(esk_daq_writer *writer, const esk_daq_mark *mark, esk_error *err)
{
	const char *only;
	esk_stream *marked;
	esk_daq_entry entry = {
		.declaration = ESK_DAQ_EVERY_LANE, .sequence = mark->sequence, .position = mark->position};
	esk_status status = only_instrument(writer, &only, err);
	if (status == ESK_OK)
		status = marked_stream(writer, only, &marked, err);
	return status == ESK_OK ? append_account(writer, &entry, marked, &mark->lost, &mark->stray, err)
				: status;
}

esk_status esk_daq_account_bad(
	esk_daq_writer *writer, const esk_daq_lane *lane, const esk_daq_span *bad, esk_error *err)
{
	esk_stream *marked;
	esk_daq_loss none = {0}, loss = {.records = bad->bad, .first = bad->first, .last = bad->sequence};
	esk_daq_entry entry = {
		.declaration = lane->declaration, .sequence = bad->sequence, .position = bad->position};
	esk_status status = marked_stream(writer, lane->instrument, &marked, err);
	return status == ESK_OK ? append_account(writer, &entry, marked, &none, &loss, err) : status;
}

/* ---- marks ---- */

/* Of what the ring says was overwritten, that which no entry accounts for: the last ones, if there was a loss
 * before. Exact once everything that was done before is behind. */
static esk_daq_loss new_loss(const esk_daq_bite *bite)
{
	esk_daq_loss lost = bite->lost;
	uint64_t accounted = bite->expected > bite->skipped ? bite->expected - bite->skipped : 0;
	if (accounted == 0)
		return lost;
	if (accounted >= lost.records)
		return (esk_daq_loss){0};
	lost.records -= accounted;
	lost.bytes = (uint64_t)((double)lost.bytes * (double)lost.records / (double)bite->lost.records);
	lost.first = lost.last - lost.records + 1;
	return lost;
}

esk_status esk_daq_mark_losses(esk_daq_writer *writer, const esk_ring_record *record, esk_error *err)
{
	esk_daq_bite *bite = &writer->bite;
	if (bite->lost.records == 0 && bite->expected == 0)
		return ESK_OK;
	if (bite->expected > 0 && record->position < writer->account.done_before)
		return ESK_OK;
	esk_daq_mark mark = {.sequence = record->sequence - 1,
		.position = record->position - 1,
		.lost = new_loss(bite),
		.stray = bite->stray};
	bite->lost = (esk_daq_loss){0};
	bite->expected = bite->skipped = 0;
	if (mark.lost.records == 0)
		return ESK_OK;
	bite->stray = (esk_daq_loss){0};
	esk_status status = writer->mark_count == ESK_DAQ_MARKS ? esk_daq_lanes_flush(writer, err) : ESK_OK;
	if (status == ESK_OK)
		writer->marks[writer->mark_count++] = mark;
	return status;
}

esk_status esk_daq_settle_marks(esk_daq_writer *writer, esk_error *err)
{
	esk_status status = ESK_OK;
	for (size_t i = 0; i < writer->mark_count && status == ESK_OK; i++) {
		status = esk_daq_lanes_flush_until(writer, writer->marks[i].position + 1, err);
		if (status == ESK_OK)
			status = account_for_all(writer, &writer->marks[i], err);
	}
	if (status == ESK_OK) /* else the bite is given back, and they with it */
		writer->mark_count = 0;
	return status;
}

esk_status esk_daq_account_rest(esk_daq_writer *writer, esk_error *err)
{
	const esk_daq_bite *bite = &writer->bite;
	esk_daq_mark mark = {.sequence = bite->last_sequence,
		.position = bite->last_position,
		.lost = new_loss(bite),
		.stray = bite->stray};
	esk_status status =
		mark.lost.records + mark.stray.records > 0 ? account_for_all(writer, &mark, err) : ESK_OK;
	if (status == ESK_OK && bite->new_lost > 0)
		esk_daq_writer_log(writer, ESK_LOG_WARNING,
			"ring %s: %llu records were overwritten before they were taken",
			esk_ring_path(writer->ring), (unsigned long long)bite->new_lost);
	return status;
}
