/* A stream of a reader as a stream of record batches. */
#include "store/arrow_read.h"

#include "arrow/schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_BYTES (4ull << 20)
#define MAX_BATCH_ROWS (1ull << 20)
#define TEXT_BYTES 32u /* what a text is taken for */

typedef struct batches {
	struct ArrowSchema schema;
	esk_arrow_source source;
	esk_tether *tether; /* the datasets are the reader's */
	uint64_t next;
	uint64_t stop;
	uint64_t step;
	uint64_t batch_rows;
	esk_error error;
} batches;

/* ---- binding columns to datasets ---- */

static esk_status cannot_be(const esk_dataset *dataset, const esk_column *column, esk_error *err)
{
	char expected[512], found[512];
	esk_column_format(column, expected, sizeof expected);
	esk_column_format(&dataset->column, found, sizeof found);
	return esk_fail(err, ESK_ETYPE, "\"%s\" is %.150s, the stream's Arrow schema says %.150s",
		dataset->path, found, expected);
}

/* What a cell holds must be what the column's is, seen as bytes; complex numbers are pairs of reals, and text
 * may lie in cells of one size. */
static esk_status check_dataset(const esk_dataset *dataset, const esk_column *column, esk_error *err)
{
	esk_kind kind = dataset->column.dtype.kind;
	esk_status status = esk_dataset_check_readable(dataset, kind == ESK_STRING, err);
	if (status != ESK_OK)
		return status;
	kind = kind == ESK_C64 ? ESK_F32 : kind == ESK_C128 ? ESK_F64 : kind;
	uint64_t bytes = esk_column_cell_bytes(column), elements = bytes / column->dtype.size_bytes;
	uint64_t found = dataset->cell_bytes / dataset->column.dtype.size_bytes;
	if (column->dtype.kind == ESK_STRING && (kind == ESK_STRING || kind == ESK_STRING_N))
		return found == elements ? ESK_OK : cannot_be(dataset, column, err);
	return kind == column->dtype.kind && bytes == dataset->cell_bytes ? ESK_OK
									  : cannot_be(dataset, column, err);
}

static esk_status bind_table(batches *b, esk_reader *reader, size_t t, esk_error *err)
{
	const esk_map_table *table = &b->source.map.tables[t];
	bool root = strcmp(table->name, "/") == 0;
	esk_status status = ESK_OK;
	for (size_t c = 0; c < table->count && status == ESK_OK; c++) {
		char path[2 * ESK_MAX_NAME + 16];
		snprintf(path, sizeof path, "/%s%s%s", root ? "" : table->name, root ? "" : "/",
			table->columns[c].name);
		status = esk_reader_find(reader, path, &b->source.datasets[t][c], err);
		if (status == ESK_OK)
			status = check_dataset(b->source.datasets[t][c], &table->columns[c], err);
	}
	return status;
}

static esk_status make_source(batches *b, const char *stream, esk_error *err)
{
	esk_arrow_source *source = &b->source;
	esk_status status = esk_map_make(stream, &b->schema, &source->map, err);
	if (status != ESK_OK)
		return status;
	size_t tables = source->map.table_count;
	source->datasets = calloc(tables, sizeof *source->datasets);
	source->categories = calloc(tables, sizeof *source->categories);
	bool enough = source->datasets != NULL && source->categories != NULL;
	for (size_t t = 0; t < tables && enough; t++) {
		source->datasets[t] = calloc(source->map.tables[t].count, sizeof(esk_dataset *));
		enough = source->datasets[t] != NULL;
	}
	return enough ? ESK_OK : esk_fail_memory(err, tables * sizeof *source->datasets, "columns");
}

/* ---- dictionaries ---- */

/* A unified dictionary may have outgrown the indices that single ones had. */
static esk_status widen_index(
	esk_map_node *node, struct ArrowSchema *schema, uint64_t categories, esk_error *err)
{
	uint32_t bits = node->type.width_bytes * 8 - (node->type.kind == ESK_ARROW_SIGNED);
	if (bits >= 31 || categories <= 1ull << bits)
		return ESK_OK;
	schema->format = "i"; /* the schema's block holds what was there */
	return esk_arrow_type_parse(schema->format, &node->type, err);
}

static esk_status load_dictionaries(
	batches *b, esk_map_node *node, struct ArrowSchema *schema, esk_error *err)
{
	esk_arrow_source *source = &b->source;
	esk_status status = ESK_OK;
	if (node->kind == ESK_MAP_DICTIONARY) {
		struct ArrowArray values = {0};
		esk_selection all = {.count = esk_dataset_rows(source->datasets[node->child_table][0])};
		status = esk_source_read(source, &node->children[0], &all, &values, err);
		free(all.rows);
		if (status == ESK_OK)
			status = esk_shared_make(&values, &source->categories[node->child_table], err);
		esk_owned_release(&values);
		return status == ESK_OK ? widen_index(node, schema, all.count, err) : status;
	}
	for (size_t i = 0; i < node->child_count && status == ESK_OK; i++)
		status = load_dictionaries(b, &node->children[i], schema->children[i], err);
	return status;
}

/* ---- the stream's callbacks ---- */

static int get_schema(struct ArrowArrayStream *stream, struct ArrowSchema *out)
{
	batches *b = stream->private_data;
	return esk_arrow_errno(esk_arrow_schema_copy(&b->schema, out, &b->error));
}

/* The rows of the next batch. */
static esk_status select_next(const batches *b, esk_selection *ret_rows, esk_error *err)
{
	uint64_t left = (b->stop - b->next - 1) / b->step + 1;
	*ret_rows = (esk_selection){.start = b->next, .count = esk_min_u64(b->batch_rows, left)};
	if (b->step == 1)
		return ESK_OK;
	ret_rows->rows = malloc(ret_rows->count * sizeof *ret_rows->rows);
	if (ret_rows->rows == NULL)
		return esk_fail_memory(err, ret_rows->count * sizeof *ret_rows->rows, "rows");
	for (uint64_t i = 0; i < ret_rows->count; i++)
		ret_rows->rows[i] = b->next + i * b->step;
	return ESK_OK;
}

static int get_next(struct ArrowArrayStream *stream, struct ArrowArray *out)
{
	batches *b = stream->private_data;
	esk_selection rows;
	if (b->next >= b->stop) {
		*out = (struct ArrowArray){0};
		return 0;
	}
	esk_status status = esk_tether_use(b->tether, &b->error);
	if (status != ESK_OK)
		return esk_arrow_errno(status);
	status = select_next(b, &rows, &b->error);
	uint64_t count = rows.count;
	if (status == ESK_OK)
		status = esk_source_read(&b->source, &b->source.map.root, &rows, out, &b->error);
	free(rows.rows);
	esk_tether_unuse(b->tether);
	/* Beyond stop, and that sum may be beyond 2^64: then there are no more. */
	if (status == ESK_OK && !esk_add_u64(b->next, count * b->step, &b->next))
		b->next = b->stop;
	return esk_arrow_errno(status);
}

static const char *get_last_error(struct ArrowArrayStream *stream)
{
	const batches *b = stream->private_data;
	return b->error.message[0] != '\0' ? b->error.message : NULL;
}

static void destroy(batches *b)
{
	size_t tables = b->source.map.table_count;
	for (size_t t = 0; t < tables; t++) {
		if (b->source.datasets != NULL)
			free(b->source.datasets[t]);
		if (b->source.categories != NULL)
			esk_shared_drop(b->source.categories[t]);
	}
	free(b->source.datasets);
	free(b->source.categories);
	esk_map_clear(&b->source.map);
	if (b->schema.release != NULL)
		b->schema.release(&b->schema);
	esk_tether_drop(b->tether);
	free(b);
}

static void release(struct ArrowArrayStream *stream)
{
	destroy(stream->private_data);
	stream->release = NULL;
}

/* ---- opening ---- */

static esk_status open_stored(
	batches *b, esk_reader *reader, const char *stream, const esk_arrow_rows *rows, esk_error *err)
{
	esk_status status = esk_schema_project(&b->schema, rows->columns, rows->column_count, NULL, err);
	if (status == ESK_OK)
		status = make_source(b, stream, err);
	for (size_t t = 0; t < b->source.map.table_count && status == ESK_OK; t++)
		status = bind_table(b, reader, t, err);
	return status == ESK_OK ? load_dictionaries(b, &b->source.map.root, &b->schema, err) : status;
}

static esk_status open_columns(
	batches *b, esk_reader *reader, const char *stream, const esk_arrow_rows *rows, esk_error *err)
{
	esk_dataset **datasets = NULL;
	esk_status status = esk_columns_schema(reader, stream, &b->schema, &datasets, err);
	if (status == ESK_OK)
		status = esk_schema_project(&b->schema, rows->columns, rows->column_count, datasets, err);
	if (status == ESK_OK)
		status = make_source(b, stream, err);
	/* Each leaf of that schema has one column, in the same order. */
	for (size_t c = 0; status == ESK_OK && c < b->source.map.tables[0].count; c++) {
		b->source.datasets[0][c] = datasets[c];
		status = check_dataset(datasets[c], &b->source.map.tables[0].columns[c], err);
	}
	free(datasets);
	return status;
}

static uint64_t rows_of_batch(const esk_arrow_source *source, uint64_t rows)
{
	uint64_t bytes = 0;
	for (size_t t = 0; t < source->map.table_count; t++)
		for (size_t c = 0; c < source->map.tables[t].count; c++) {
			const esk_column *column = &source->map.tables[t].columns[c];
			uint64_t cell =
				column->dtype.kind == ESK_STRING ? TEXT_BYTES : esk_column_cell_bytes(column);
			bytes += cell * esk_dataset_rows(source->datasets[t][c]);
		}
	uint64_t each = esk_max_u64(1, rows > 0 ? bytes / rows : 1);
	return esk_min_u64(MAX_BATCH_ROWS, esk_max_u64(1, BATCH_BYTES / each));
}

static esk_status set_range(batches *b, const esk_arrow_rows *wanted, esk_error *err)
{
	const esk_arrow_source *source = &b->source;
	uint64_t rows = UINT64_MAX;
	for (size_t c = 0; c < source->map.tables[0].count; c++)
		rows = esk_min_u64(rows, esk_dataset_rows(source->datasets[0][c]));
	b->stop = esk_min_u64(wanted->stop, rows);
	b->next = wanted->start;
	b->step = wanted->step != 0 ? wanted->step : 1;
	if (wanted->start > rows || wanted->start > b->stop)
		return esk_fail(err, ESK_ERANGE, "rows %llu to %llu of %llu",
			(unsigned long long)wanted->start, (unsigned long long)wanted->stop,
			(unsigned long long)rows);
	b->batch_rows = wanted->batch_rows != 0 ? wanted->batch_rows : rows_of_batch(source, rows);
	return ESK_OK;
}

static esk_status take_rows(const esk_arrow_rows *rows, esk_arrow_rows *ret_rows, esk_error *err)
{
	esk_arrow_rows complete = ESK_ARROW_ROWS_INIT;
	if (rows != NULL) {
		if (rows->struct_size < sizeof rows->struct_size)
			return esk_fail(err, ESK_EINVAL, "the rows' struct_size is not set");
		esk_struct_take(&complete, sizeof complete, rows);
	}
	if (complete.columns == NULL)
		complete.column_count = 0;
	else if (complete.column_count == 0)
		return esk_fail(err, ESK_EINVAL, "record batches without columns");
	for (size_t i = 0; i < complete.column_count; i++)
		if (complete.columns[i] == NULL)
			return esk_fail(err, ESK_EINVAL, "column %zu of those asked for is NULL", i);
	*ret_rows = complete;
	return ESK_OK;
}

esk_status esk_reader_arrow_select(esk_reader *reader, const char *stream, const esk_arrow_rows *rows,
	struct ArrowArrayStream *ret_stream, esk_error *err)
{
	esk_arrow_rows wanted;
	if (reader == NULL || stream == NULL || *stream == '\0')
		return esk_fail(err, ESK_EINVAL, "record batches need a reader and the name of a stream");
	esk_status status = take_rows(rows, &wanted, err);
	if (status != ESK_OK)
		return status;
	const char *name = stream[0] == '/' && stream[1] != '\0' ? stream + 1 : stream;
	batches *b = calloc(1, sizeof *b);
	if (b == NULL)
		return esk_fail_memory(err, sizeof *b, "a stream of record batches");
	b->tether = esk_tether_hold(reader);
	esk_error why = {0};
	status = esk_stored_schema(reader, name, &b->schema, &why);
	if (status == ESK_OK)
		status = open_stored(b, reader, name, &wanted, &why);
	else if (status == ESK_ENOTFOUND)
		status = open_columns(b, reader, name, &wanted, &why);
	if (status == ESK_OK)
		status = set_range(b, &wanted, &why);
	if (status != ESK_OK) {
		destroy(b);
		return esk_fail(err, status, "stream \"%s\": %s", stream, why.message);
	}
	*ret_stream = (struct ArrowArrayStream){.get_schema = get_schema,
		.get_next = get_next,
		.get_last_error = get_last_error,
		.release = release,
		.private_data = b};
	return ESK_OK;
}

esk_status esk_reader_arrow(esk_reader *reader, const char *stream, uint64_t start, uint64_t stop,
	uint64_t batch_rows, struct ArrowArrayStream *ret_stream, esk_error *err)
{
	esk_arrow_rows rows = {
		.struct_size = sizeof rows, .start = start, .stop = stop, .batch_rows = batch_rows};
	return esk_reader_arrow_select(reader, stream, &rows, ret_stream, err);
}
