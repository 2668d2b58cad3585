/* Sinks: record batches into streams. */
#include "store/arrow_sink.h"
#include "store/arrow_read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- opening ---- */

static esk_status make_tables(esk_arrow_sink *sink, esk_error *err)
{
	const esk_map *map = &sink->map;
	sink->tables = calloc(map->table_count, sizeof *sink->tables);
	sink->parts = calloc(map->table_count, sizeof *sink->parts);
	if (sink->tables == NULL || sink->parts == NULL)
		return esk_fail_memory(err, map->table_count * sizeof *sink->tables, "streams");
	sink->part_capacity = map->table_count;
	for (size_t t = 0; t < map->table_count; t++) {
		esk_sink_table *table = &sink->tables[t];
		table->cells = calloc(map->tables[t].count, sizeof *table->cells);
		table->valid = calloc(map->tables[t].count, sizeof *table->valid);
		if (table->cells == NULL || table->valid == NULL)
			return esk_fail_memory(err, map->tables[t].count * sizeof *table->cells, "columns");
	}
	return ESK_OK;
}

/* The stream itself comes first: where the run has it with other columns, nothing else is made. */
static esk_status open_streams(esk_arrow_sink *sink, esk_error *err)
{
	esk_status status = ESK_OK;
	for (size_t t = 0; t < sink->map.table_count && status == ESK_OK; t++) {
		const esk_map_table *table = &sink->map.tables[t];
		status = esk_run_stream(
			sink->run, table->name, table->columns, table->count, &sink->tables[t].stream, err);
		if (status == ESK_OK)
			sink->tables[t].base = esk_stream_rows(sink->tables[t].stream);
	}
	return status;
}

/* ---- categories of earlier sessions ---- */

static const esk_map_node *dictionary_of(const esk_map_node *node, uint32_t table)
{
	const esk_map_node *found = NULL;
	if (node->kind == ESK_MAP_DICTIONARY)
		return node->child_table == table ? node : NULL;
	for (size_t i = 0; i < node->child_count && found == NULL; i++)
		found = dictionary_of(&node->children[i], table);
	return found;
}

static esk_status add_texts(esk_categories *categories, esk_dataset *dataset, uint64_t rows, esk_error *err)
{
	uint64_t *all = malloc((rows + 1) * sizeof *all);
	esk_string *strings;
	uint32_t index;
	if (all == NULL)
		return esk_fail_memory(err, rows * sizeof *all, "categories");
	for (uint64_t i = 0; i < rows; i++)
		all[i] = i;
	esk_status status = esk_dataset_read_strings(dataset, all, rows, &strings, err);
	free(all);
	if (status != ESK_OK)
		return status;
	for (uint64_t i = 0; i < rows && status == ESK_OK; i++)
		status = esk_categories_find(categories, strings[i].data, strings[i].size, &index, err);
	esk_strings_free(strings);
	return status;
}

static esk_status add_cells(
	esk_categories *categories, esk_dataset *dataset, uint64_t rows, uint64_t bytes, esk_error *err)
{
	uint32_t index;
	uint8_t *cells = malloc(rows * bytes + 1);
	if (cells == NULL)
		return esk_fail_memory(err, rows * bytes, "categories");
	esk_status status = esk_dataset_read(dataset, 0, (int64_t)rows, 1, cells, rows * bytes, err);
	for (uint64_t i = 0; i < rows && status == ESK_OK; i++)
		status = esk_categories_find(categories, cells + i * bytes, bytes, &index, err);
	free(cells);
	return status;
}

static esk_status load_table(esk_arrow_sink *sink, esk_reader *reader, size_t t, esk_error *err)
{
	char path[2 * ESK_MAX_NAME + 16];
	const esk_column *column = &sink->map.tables[t].columns[0];
	esk_categories *categories = &sink->tables[t].categories;
	uint64_t rows = sink->tables[t].base;
	esk_dataset *dataset;
	snprintf(path, sizeof path, "/%s/%s", sink->map.tables[t].name, column->name);
	esk_status status = esk_reader_find(reader, path, &dataset, err);
	if (status != ESK_OK)
		return status;
	status = column->dtype.kind == ESK_STRING
			 ? add_texts(categories, dataset, rows, err)
			 : add_cells(categories, dataset, rows, esk_column_cell_bytes(column), err);
	categories->committed = categories->count;
	if (status == ESK_OK && categories->count != rows)
		status = esk_fail(err, ESK_ECORRUPT,
			"\"%s\" has a category twice, or not all of its %llu rows", path,
			(unsigned long long)rows);
	return status;
}

/* What was appended in this session is committed first, so that it is in the file. */
static esk_status load_categories(esk_arrow_sink *sink, esk_reader *reader, esk_error *err)
{
	bool any = false;
	esk_status status = ESK_OK;
	for (size_t t = 1; t < sink->map.table_count && status == ESK_OK; t++) {
		if (sink->tables[t].base == 0 || dictionary_of(&sink->map.root, (uint32_t)t) == NULL)
			continue;
		if (!any)
			status = esk_run_commit(sink->run, NULL, err);
		if (!any && status == ESK_OK)
			status = esk_reader_refresh(reader, err);
		any = true;
		if (status == ESK_OK)
			status = load_table(sink, reader, t, err);
	}
	return status;
}

/* Compares with the schema that the stream has, if it has one: before anything is made. */
static esk_status check_stored(
	const esk_arrow_sink *sink, esk_reader *reader, const char *name, bool *ret_stored, esk_error *err)
{
	struct ArrowSchema stored;
	esk_error why = {0};
	esk_status status = esk_stored_schema(reader, name, &stored, &why);
	*ret_stored = status == ESK_OK;
	if (status == ESK_ENOTFOUND)
		return ESK_OK;
	if (status != ESK_OK)
		return esk_fail(err, status, "%s", why.message);
	status = esk_map_same_schema(&stored, &sink->schema, err);
	stored.release(&stored);
	return status;
}

/* The streams, their schema, their categories. */
static esk_status attach(esk_arrow_sink *sink, const char *name, esk_error *err)
{
	esk_reader *reader;
	bool stored = false;
	esk_status status = esk_reader_open(sink->run->store, esk_run_name(sink->run), &reader, err);
	if (status != ESK_OK)
		return status;
	status = check_stored(sink, reader, name, &stored, err);
	if (status == ESK_OK)
		status = open_streams(sink, err);
	if (status == ESK_OK && !stored)
		status = esk_store_schema(sink->run, name, &sink->schema, err);
	if (status == ESK_OK)
		status = load_categories(sink, reader, err);
	esk_reader_close(reader);
	return status;
}

static esk_status check_policy(const esk_arrow_sink *sink, esk_error *err)
{
	if (sink->map.table_count == 1 || esk_recorder_policy(sink->run->recorder) != ESK_OVERWRITE)
		return ESK_OK;
	return esk_fail(err, ESK_EINVAL,
		"column \"%s\" has a stream of its own, whose rows move where the run's policy lets rows be "
		"overwritten: record with ESK_BLOCK or ESK_REJECT",
		sink->map.tables[1].below);
}

/* The copy is sound: what is NULL or released in it was refused. */
static esk_status copy_schema(
	const struct ArrowSchema *schema, struct ArrowSchema *ret_schema, esk_error *err)
{
	if (schema == NULL || schema->release == NULL)
		return esk_fail(err, ESK_EINVAL, "there is no Arrow schema, or it was released");
	return esk_arrow_schema_copy(schema, ret_schema, err);
}

esk_status esk_sink_prepare(const char *name, const struct ArrowSchema *schema,
	const esk_arrow_sink_options *options, esk_arrow_sink **ret_sink, esk_error *err)
{
	esk_arrow_sink_options complete = ESK_ARROW_SINK_OPTIONS_INIT;
	if (options != NULL)
		esk_struct_take(&complete, sizeof complete, options);
	esk_arrow_sink *sink = calloc(1, sizeof *sink);
	if (sink == NULL)
		return esk_fail_memory(err, sizeof *sink, "a sink");
	esk_status status = copy_schema(schema, &sink->schema, err);
	if (status == ESK_OK)
		status = esk_map_make(name, &sink->schema, &sink->map, err);
	if (status == ESK_OK)
		status = esk_map_apply_options(&sink->map, &complete, err);
	if (status == ESK_OK)
		status = make_tables(sink, err);
	if (status != ESK_OK) {
		esk_arrow_sink_close(sink);
		return status;
	}
	*ret_sink = sink;
	return ESK_OK;
}

esk_status esk_run_arrow(esk_run *run, const char *name, const struct ArrowSchema *schema,
	const esk_arrow_sink_options *options, esk_arrow_sink **ret_sink, esk_error *err)
{
	esk_arrow_sink *sink = NULL;
	if (run == NULL || name == NULL || *name == '\0')
		return esk_fail(err, ESK_EINVAL, "record batches need a run and the name of a stream");
	esk_status status = esk_sink_prepare(name, schema, options, &sink, err);
	if (status == ESK_OK) {
		sink->run = run;
		status = check_policy(sink, err);
	}
	if (status == ESK_OK)
		status = attach(sink, name, err);
	if (status != ESK_OK) {
		esk_arrow_sink_close(sink);
		return esk_fail_in(err, status, "stream \"%s\"", name);
	}
	*ret_sink = sink;
	return ESK_OK;
}

void esk_arrow_sink_close(esk_arrow_sink *sink)
{
	if (sink == NULL)
		return;
	for (size_t t = 0; t < sink->map.table_count && sink->tables != NULL; t++) {
		free(sink->tables[t].cells);
		free(sink->tables[t].valid);
		esk_categories_free(&sink->tables[t].categories);
	}
	free(sink->tables);
	free(sink->parts);
	free(sink->ones);
	esk_arena_free(&sink->arena);
	esk_map_clear(&sink->map);
	if (sink->schema.release != NULL)
		sink->schema.release(&sink->schema);
	free(sink);
}

esk_status esk_arrow_sink_check(const esk_arrow_sink *sink, const struct ArrowSchema *schema, esk_error *err)
{
	return esk_map_same_schema(&sink->schema, schema, err);
}

esk_stream *esk_arrow_sink_stream(const esk_arrow_sink *sink)
{
	return sink->tables[0].stream;
}

/* ---- appending ---- */

esk_status esk_sink_begin(esk_arrow_sink *sink, esk_error *err)
{
	if (sink->ones_wanted > sink->ones_count) {
		uint8_t *ones = realloc(sink->ones, sink->ones_wanted);
		if (ones == NULL)
			return esk_fail_memory(err, sink->ones_wanted, "validity");
		memset(ones, 1, sink->ones_wanted);
		sink->ones = ones;
		sink->ones_count = sink->ones_wanted;
	}
	esk_arena_reset(&sink->arena);
	sink->append++;
	for (size_t t = 0; t < sink->map.table_count; t++)
		sink->tables[t].rows = 0;
	return ESK_OK;
}

/* The sink is the only writer of the streams below its own: where their rows are is known before they are
 * appended. */
static esk_status check_alone(const esk_arrow_sink *sink, esk_error *err)
{
	for (size_t t = 1; t < sink->map.table_count; t++) {
		const esk_sink_table *table = &sink->tables[t];
		uint64_t rows = esk_stream_rows(table->stream);
		if (rows != table->base)
			return esk_fail(err, ESK_EBUSY,
				"stream \"%s\" has %llu rows, %llu were appended by this sink: something "
				"else writes to it",
				sink->map.tables[t].name, (unsigned long long)rows,
				(unsigned long long)table->base);
	}
	return ESK_OK;
}

static esk_status make_room(esk_arrow_sink *sink, size_t extra_count, esk_error *err)
{
	size_t count = sink->map.table_count + extra_count;
	if (count <= sink->part_capacity)
		return ESK_OK;
	esk_rows_part *grown = realloc(sink->parts, count * sizeof *grown);
	if (grown == NULL)
		return esk_fail_memory(err, count * sizeof *grown, "parts");
	sink->parts = grown;
	sink->part_capacity = count;
	return ESK_OK;
}

static esk_status publish(esk_arrow_sink *sink, const esk_rows_part *extra, size_t extra_count,
	uint64_t *ret_row, esk_error *err)
{
	size_t count = sink->map.table_count;
	for (size_t t = 0; t < count; t++) {
		const esk_sink_table *table = &sink->tables[t];
		sink->parts[t] = (esk_rows_part){.stream = table->stream,
			.rows = table->rows,
			.cells = table->cells,
			.valid = table->valid};
	}
	if (extra_count > 0)
		memcpy(sink->parts + count, extra, extra_count * sizeof *extra);
	esk_status status = esk_run_append(sink->run, sink->parts, count + extra_count, err);
	if (status != ESK_OK)
		return status;
	for (size_t t = 0; t < count; t++) {
		sink->tables[t].base += sink->tables[t].rows;
		sink->tables[t].categories.committed = sink->tables[t].categories.count;
	}
	if (ret_row != NULL)
		*ret_row = sink->parts[0].row;
	return ESK_OK;
}

esk_status esk_arrow_sink_append(esk_arrow_sink *sink, const struct ArrowArray *batch, uint64_t first,
	uint64_t rows, const esk_rows_part *extra, size_t extra_count, uint64_t *ret_row, esk_error *err)
{
	if (batch == NULL || batch->release == NULL)
		return esk_fail(err, ESK_EINVAL, "stream \"%s\": there is no batch, or it was released",
			sink->map.tables[0].name);
	if (rows == 0 && extra_count == 0) {
		if (ret_row != NULL)
			*ret_row = esk_stream_rows(sink->tables[0].stream);
		return ESK_OK;
	}
	esk_status status = make_room(sink, extra_count, err);
	if (status == ESK_OK)
		status = check_alone(sink, err);
	if (status == ESK_OK)
		status = esk_sink_begin(sink, err);
	if (status == ESK_OK)
		status = esk_sink_fill(sink, batch, first, rows, err);
	if (status == ESK_OK)
		status = publish(sink, extra, extra_count, ret_row, err);
	if (status == ESK_OK)
		return ESK_OK;
	for (size_t t = 1; t < sink->map.table_count; t++)
		esk_categories_rollback(&sink->tables[t].categories);
	return esk_fail_in(err, status, "stream \"%s\"", sink->map.tables[0].name);
}
