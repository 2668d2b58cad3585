/* The index cells of drained rows, from the record until the commit that makes the rows durable takes them to
 * the catalogue. They are never more than the ring held: a commit begins when a quarter of the ring waits for
 * one. Drain thread only (R1). */
#include "record/internal.h"

#include <stdlib.h>
#include <string.h>

esk_status esk_index_check_apart(const esk_recorder *r, const esk_stream *stream, esk_error *err)
{
	uint32_t count = atomic_load_explicit(
		&r->stream_count, memory_order_acquire); /* with the release in drain.c */
	for (uint32_t s = 0; s < count && stream->index_spec.count > 0; s++)
		if (strcmp(r->streams[s]->index_spec.table, stream->index_spec.table) == 0)
			return esk_fail(err, ESK_EINVAL,
				"run \"%s\", stream \"%s\": stream \"%s\" is indexed in the table \"%s\" "
				"already",
				r->name, stream->name, r->streams[s]->name, stream->index_spec.table);
	return ESK_OK;
}

void esk_index_restart(esk_stream *stream)
{
	stream->indexed.size = 0;
	stream->indexed.rows = 0;
	stream->indexed.first_row = stream->rows;
}

/* Bytes of all strings of a column of the record. */
static uint64_t text_bytes(const uint8_t *sizes, uint64_t count)
{
	uint64_t bytes = 0;
	for (uint64_t i = 0; i < count; i++) {
		uint32_t size;
		memcpy(&size, sizes + i * sizeof size, sizeof size);
		bytes += size;
	}
	return bytes;
}

/* The fields' sources in the record, whose columns were bounded when their rows were taken. */
static void find_sources(const esk_stream *stream, const uint8_t *payload, uint64_t rows, const uint64_t *at,
	const esk_rows_layout *layout)
{
	const esk_index_spec *spec = &stream->index_spec;
	uint64_t text_at = layout->strings_offset;
	for (size_t c = 0; c < stream->column_count; c++) {
		for (size_t f = 0; f < spec->count; f++)
			if (spec->fields[f].column == c)
				stream->index_sources[f] = (esk_index_source){.cells = payload + at[c],
					.valid = stream->columns[c].nullable
							 ? payload + at[stream->column_count + c]
							 : NULL,
					.text = (const char *)payload + text_at};
		if (stream->columns[c].dtype.kind == ESK_STRING && stream->has_strings)
			text_at += text_bytes(payload + at[c], rows * stream->elements[c]);
	}
}

void esk_index_keep(esk_stream *stream, const uint8_t *payload, uint64_t rows, const uint64_t *at,
	const esk_rows_layout *layout)
{
	if (stream->index_spec.count == 0)
		return;
	find_sources(stream, payload, rows, at, layout);
	if (!esk_index_pack(&stream->index_spec, stream->index_sources, rows, &stream->indexed)) {
		stream->rows +=
			rows; /* without memory the rows are read from the file when the catalogue is told */
		esk_index_restart(stream);
		stream->rows -= rows;
	}
}
