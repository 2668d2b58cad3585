/* Any bytes as an Arrow IPC stream whose batches become cells of a run's streams: what the decoder lets
 * through is refused with a reason, or every cell can be read and offsets, codes and texts are sound. Seeds:
 * make_arrow_store_corpus.py. */
#include "store/arrow_sink.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(int condition)
{
	if (!condition)
		abort();
}

static uint64_t touch_bytes(const uint8_t *bytes, uint64_t size)
{
	uint64_t sum = 0;
	for (uint64_t i = 0; i < size; i++)
		sum += bytes[i];
	return sum;
}

static uint64_t touch_cells(const esk_column *column, const void *cells, uint64_t rows)
{
	uint64_t bytes = esk_column_cell_bytes(column), sum = 0;
	if (column->dtype.kind != ESK_STRING)
		return touch_bytes(cells, rows * bytes);
	const esk_string *strings = cells;
	for (uint64_t i = 0; i < rows * bytes / sizeof *strings; i++) {
		insist(esk_text_sound_bytes(strings[i].data, strings[i].size) == strings[i].size);
		sum += touch_bytes((const uint8_t *)strings[i].data, strings[i].size);
	}
	return sum;
}

static uint64_t touch_table(const esk_arrow_sink *sink, size_t t)
{
	const esk_map_table *table = &sink->map.tables[t];
	const esk_sink_table *filled = &sink->tables[t];
	uint64_t sum = 0;
	for (size_t c = 0; c < table->count && filled->rows > 0; c++) {
		insist(filled->cells[c] != NULL || table->columns[c].nullable);
		if (filled->cells[c] != NULL)
			sum += touch_cells(&table->columns[c], filled->cells[c], filled->rows);
		if (filled->valid[c] != NULL)
			sum += touch_bytes(filled->valid[c], filled->rows);
	}
	return sum;
}

/* Offsets and codes point into what is appended with them, or was before. */
static void check_node(const esk_arrow_sink *sink, const esk_map_node *node)
{
	const esk_sink_table *table = &sink->tables[node->table];
	for (size_t i = 0; i < node->child_count; i++)
		check_node(sink, &node->children[i]);
	if (node->child_table == ESK_MAP_NONE || table->rows == 0)
		return;
	const esk_sink_table *below = &sink->tables[node->child_table];
	for (uint64_t i = 0; i < table->rows && node->kind != ESK_MAP_DICTIONARY; i++) {
		const int64_t *offsets = table->cells[node->column],
			      *lengths = table->cells[node->column + 1];
		insist(lengths[i] >= 0 && offsets[i] >= (int64_t)below->base &&
			(uint64_t)(offsets[i] + lengths[i]) <= below->base + below->rows);
	}
	for (uint64_t i = 0; i < table->rows && node->kind == ESK_MAP_DICTIONARY; i++) {
		int32_t code = ((const int32_t *)table->cells[node->column])[i];
		insist(code >= -1 && (code < 0 || (uint64_t)code < below->categories.count));
	}
}

static void fill(esk_arrow_sink *sink, const struct ArrowArray *batch, uint64_t first, uint64_t rows)
{
	esk_error err = {0};
	insist(esk_sink_begin(sink, &err) == ESK_OK);
	esk_status status = esk_sink_fill(sink, batch, first, rows, &err);
	if (status != ESK_OK) {
		insist(err.code == status && err.message[0] != '\0');
		for (size_t t = 0; t < sink->map.table_count; t++)
			esk_categories_rollback(&sink->tables[t].categories);
		return;
	}
	volatile uint64_t sum = 0; /* so that the reads stay */
	for (size_t t = 0; t < sink->map.table_count; t++)
		sum = sum + touch_table(sink, t);
	(void)sum;
	check_node(sink, &sink->map.root);
	for (size_t t = 0; t < sink->map.table_count; t++) {
		sink->tables[t].base += sink->tables[t].rows;
		sink->tables[t].categories.committed = sink->tables[t].categories.count;
	}
}

static void fill_all(esk_arrow_sink *sink, struct ArrowArrayStream *stream)
{
	struct ArrowArray batch;
	while (stream->get_next(stream, &batch) == 0 && batch.release != NULL) {
		uint64_t rows = (uint64_t)batch.length;
		fill(sink, &batch, 0, rows);
		fill(sink, &batch, rows / 3, rows - rows / 3);
		fill(sink, &batch, rows, 1); /* one that is not there */
		batch.release(&batch);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ArrowArrayStream stream;
	struct ArrowSchema schema;
	esk_arrow_sink *sink;
	esk_error err = {0};
	if (esk_arrow_open_memory(data, size, NULL, NULL, &stream, &err) != ESK_OK)
		return 0;
	if (stream.get_schema(&stream, &schema) == 0) {
		esk_status status = esk_sink_prepare("scope", &schema, NULL, &sink, &err);
		schema.release(&schema);
		if (status == ESK_OK) {
			fill_all(sink, &stream);
			esk_arrow_sink_close(sink);
		} else {
			insist(err.code == status && err.message[0] != '\0');
		}
	}
	stream.release(&stream);
	return 0;
}
