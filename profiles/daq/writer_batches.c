/* The batches layout: each flush of an instrument is an item <instrument>/batch_000001 whose attributes
 * account for it. */
#include "runs.h"
#include "writer.h"
#include <esker/profile.h>

#include <esker/query.h>

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHORT_SCHEMA_BYTES 16384u
#define TAKEN_NUMBERS 1000u /* by what is no item of this writer's */

static void format_id(uint64_t ring_id, char text[20])
{
	snprintf(text, 20, "0x%016" PRIx64, ring_id);
}

/* The attributes of an item, to be freed; NULL: no memory. A long schema is the text beside the items
 * instead. */
static char *make_attributes(const esk_daq_writer *writer, const esk_daq_lane *lane,
	const esk_daq_entry *entry, uint64_t first_sequence)
{
	char created[32], ring_id[20];
	esk_time_format(entry->time_ns, created);
	format_id(entry->ring_id, ring_id);
	const char *schema = strlen(lane->schema_json) <= SHORT_SCHEMA_BYTES ? lane->schema_json : NULL;
	json_t *object = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s*}",
		"row_count", (json_int_t)entry->rows, "ring_position", (json_int_t)entry->position,
		"first_sequence", (json_int_t)first_sequence, "last_sequence", (json_int_t)entry->sequence,
		"records", (json_int_t)entry->records, "lost_records", (json_int_t)writer->untold_lost,
		"timestamp_ns", (json_int_t)entry->time_ns, "declaration", (json_int_t)entry->declaration,
		"piece", (json_int_t)entry->piece, "flush_position", (json_int_t)entry->flush_position,
		"created_at", created, "ring_id", ring_id, "schema", schema);
	char *text = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
	json_decref(object);
	return text;
}

static esk_status put_long_schema(esk_daq_writer *writer, const esk_daq_lane *lane, esk_error *err)
{
	char path[2 * ESK_MAX_NAME];
	if (lane->first->batches > 0 || strlen(lane->schema_json) <= SHORT_SCHEMA_BYTES)
		return ESK_OK;
	snprintf(path, sizeof path, "%s/schema", lane->instrument);
	return esk_run_set_text(writer->run, path, lane->schema_json, err);
}

/* Puts the item under the next number that is free. */
static esk_status put_item(esk_daq_writer *writer, esk_daq_lane *lane, const struct ArrowArray *batch,
	const char *attributes, esk_error *err)
{
	char path[2 * ESK_MAX_NAME], join[2 * ESK_MAX_NAME];
	esk_arrow_sink_options options = ESK_ARROW_SINK_OPTIONS_INIT;
	options.columns = lane->columns;
	esk_item item = ESK_ITEM_INIT;
	item.path = path;
	item.attributes_json = attributes;
	item.join = join;
	snprintf(join, sizeof join, "%s/all", lane->instrument);
	esk_status status = put_long_schema(writer, lane, err);
	for (unsigned tries = 0; status == ESK_OK && tries < TAKEN_NUMBERS; tries++) {
		snprintf(path, sizeof path, "%s/batch_%06" PRIu64, lane->instrument, ++lane->first->batches);
		status = esk_run_put_arrow(writer->run, &item, lane->schema, batch, &options, err);
		if (status == ESK_OK)
			return ESK_OK;
		if (status == ESK_EEXIST)
			status = ESK_OK;
		else
			lane->first->batches--;
	}
	return status == ESK_OK ? esk_fail(err, ESK_EEXIST, "%s and those before it are taken", path)
				: status;
}

esk_status esk_daq_batches_put(esk_daq_writer *writer, esk_daq_lane *lane, const struct ArrowArray *batch,
	const esk_daq_entry *entry, uint64_t first_sequence, esk_error *err)
{
	char *attributes = make_attributes(writer, lane, entry, first_sequence);
	if (attributes == NULL)
		return esk_fail_memory(err, 1024, "attributes of a batch");
	esk_status status = put_item(writer, lane, batch, attributes, err);
	free(attributes);
	if (status == ESK_OK)
		writer->untold_lost = 0;
	return status;
}

/* ---- what earlier sessions put ---- */

static esk_status bind_text(esk_query *query, int index, const char *text, esk_error *err)
{
	esk_value value = {.kind = ESK_TEXT, .data = text, .size = strlen(text)};
	return esk_query_bind(query, index, &value, err);
}

esk_status esk_daq_batches_last(
	esk_daq_writer *writer, const char *instrument, uint64_t *ret_number, esk_error *err)
{
	static const char sql[] =
		"SELECT ifnull(max(CAST(substr(path, length(?2) + 1) AS INTEGER)), 0) FROM items "
		"WHERE run_id = (SELECT id FROM runs WHERE name = ?1) AND substr(path, 1, length(?2)) = ?2";
	char prefix[2 * ESK_MAX_NAME];
	esk_query *query;
	bool found = false;
	snprintf(prefix, sizeof prefix, "%s/batch_", instrument);
	esk_status status = esk_query_open(writer->store, sql, &query, err);
	if (status != ESK_OK)
		return status;
	status = bind_text(query, 1, esk_run_name(writer->run), err);
	if (status == ESK_OK)
		status = bind_text(query, 2, prefix, err);
	if (status == ESK_OK)
		status = esk_query_step(query, &found, err);
	if (status == ESK_OK && found)
		*ret_number = (uint64_t)esk_query_value(query, 0).integer;
	esk_query_close(query);
	return status;
}

/* The number that a query of the run's name gives. */
static esk_status number_of_run(esk_daq_writer *writer, const char *sql, uint64_t *ret_number, esk_error *err)
{
	esk_query *query;
	bool found = false;
	esk_status status = esk_query_open(writer->store, sql, &query, err);
	if (status != ESK_OK)
		return status;
	status = bind_text(query, 1, esk_run_name(writer->run), err);
	if (status == ESK_OK)
		status = esk_query_step(query, &found, err);
	if (status == ESK_OK && found)
		*ret_number = (uint64_t)esk_query_value(query, 0).integer;
	esk_query_close(query);
	return status;
}

esk_status esk_daq_batches_count(esk_daq_writer *writer, uint64_t *ret_count, esk_error *err)
{
	return number_of_run(writer,
		"SELECT count(*) FROM items WHERE run_id = (SELECT id FROM runs WHERE name = ?)", ret_count,
		err);
}

esk_status esk_daq_batches_exist(esk_daq_writer *writer, bool *ret_exist, esk_error *err)
{
	uint64_t exist = 0;
	esk_status status = number_of_run(writer,
		"SELECT EXISTS (SELECT 1 FROM items WHERE run_id = (SELECT id FROM runs WHERE name = ?) "
		"AND json_extract(attributes, '$.ring_id') IS NOT NULL)",
		&exist, err);
	if (status == ESK_OK)
		*ret_exist = exist != 0;
	return status;
}

static uint64_t integer_at(const esk_query *query, int column)
{
	return (uint64_t)esk_query_value(query, column).integer;
}

/* Entries of this ring, the newest first. *ret_last is the position of the newest; 0: there is none. */
static esk_status recall(esk_daq_writer *writer, esk_query *query, uint64_t *ret_last, esk_error *err)
{
	char ring_id[20];
	bool found = false, more = true;
	*ret_last = 0;
	format_id(writer->account.ring_id, ring_id);
	esk_status status = bind_text(query, 1, esk_run_name(writer->run), err);
	if (status == ESK_OK)
		status = bind_text(query, 2, ring_id, err);
	while (status == ESK_OK && more) {
		status = esk_query_step(query, &found, err);
		if (status != ESK_OK || !found)
			break;
		esk_daq_entry entry = {.ring_id = writer->account.ring_id,
			.flush_position = integer_at(query, 0),
			.position = integer_at(query, 1),
			.piece = integer_at(query, 2),
			.records = integer_at(query, 3),
			.declaration = (uint32_t)integer_at(query, 4)};
		*ret_last = *ret_last > 0 ? *ret_last : entry.position;
		status = esk_daq_account_past(&writer->account, &entry, &more, err);
	}
	return status;
}

esk_status esk_daq_batches_recall(esk_daq_writer *writer, esk_error *err)
{
	static const char sql[] =
		"SELECT json_extract(attributes, '$.flush_position'), json_extract(attributes, "
		"'$.ring_position'), "
		"json_extract(attributes, '$.piece'), json_extract(attributes, '$.records'), "
		"json_extract(attributes, '$.declaration') FROM items "
		"WHERE run_id = (SELECT id FROM runs WHERE name = ?1) AND json_extract(attributes, "
		"'$.ring_id') = ?2 "
		"ORDER BY item DESC";
	esk_query *query;
	esk_status status = esk_query_open(writer->store, sql, &query, err);
	if (status != ESK_OK)
		return status;
	uint64_t last;
	status = recall(writer, query, &last, err);
	esk_query_close(query);
	/* Losses that no item came behind: the next one tells of them. */
	return status == ESK_OK ? esk_daq_ring_stream_lost(writer->store, esk_run_name(writer->run),
					  writer->account.ring_id, last, &writer->untold_lost, err)
				: status;
}
