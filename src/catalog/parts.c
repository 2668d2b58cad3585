/* What a run is made of: segments, streams with their columns, extents, gaps. May include: base, os, model.
 */
#include "catalog/connection.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- segments ---- */

esk_status esk_catalog_put_segment(
	esk_catalog *catalog, int64_t run_id, const esk_segment_record *segment, esk_error *err)
{
	esk_sql_change change;
	esk_status status =
		esk_sql_change_begin(&change, catalog, ESK_SQL_PUT_SEGMENT, "storing a segment", err);
	if (status != ESK_OK)
		return status;
	esk_sql_bind_i64(&change.sql, run_id);
	esk_sql_bind_u64(&change.sql, segment->number);
	esk_sql_bind_text(&change.sql, segment->file);
	esk_sql_bind_i64(&change.sql, segment->sealed);
	esk_sql_bind_i64(&change.sql, segment->created_ns);
	esk_sql_bind_i64(&change.sql, segment->sealed_ns);
	esk_sql_bind_u64(&change.sql, segment->bytes);
	return esk_sql_change_run(&change, err);
}

static esk_status read_segment(const esk_sql *sql, void *ret_element, esk_error *err)
{
	esk_segment_record *segment = ret_element;
	*segment = (esk_segment_record){
		.number = esk_sql_u64(sql, 0),
		.sealed = esk_sql_i64(sql, 2) != 0,
		.created_ns = esk_sql_i64(sql, 3),
		.sealed_ns = esk_sql_i64(sql, 4),
		.bytes = esk_sql_u64(sql, 5),
	};
	return esk_sql_copy(sql, 1, segment->file, sizeof segment->file, err);
}

static esk_status read_extent(const esk_sql *sql, void *ret_element, esk_error *err)
{
	esk_extent_record *extent = ret_element;
	*extent = (esk_extent_record){
		.stream = (uint32_t)esk_sql_u64(sql, 0),
		.segment = esk_sql_u64(sql, 2),
		.first_row = esk_sql_u64(sql, 3),
		.rows = esk_sql_u64(sql, 4),
	};
	return esk_sql_copy(sql, 1, extent->stream_name, sizeof extent->stream_name, err);
}

/* Reads what the running statement yields into a malloc'ed array (never NULL) of elements. */
static esk_status collect(esk_sql *sql, size_t element_bytes,
	esk_status (*read)(const esk_sql *sql, void *ret_element, esk_error *err), void **ret_elements,
	size_t *ret_count, esk_error *err)
{
	size_t count = 0, capacity = 8;
	char *elements = malloc(capacity * element_bytes);
	if (elements == NULL)
		return esk_fail_memory(err, capacity * element_bytes, sql->what);
	esk_status status;
	for (;;) {
		bool more;
		status = esk_sql_step(sql, &more, err);
		if (status != ESK_OK)
			goto step;
		if (!more)
			break;
		if (count == capacity) {
			char *grown = realloc(elements, capacity * 2 * element_bytes);
			if (grown == NULL) {
				status = esk_fail_memory(err, capacity * 2 * element_bytes, sql->what);
				goto step;
			}
			elements = grown;
			capacity *= 2;
		}
		status = read(sql, elements + count * element_bytes, err);
		if (status != ESK_OK)
			goto step;
		count++;
	}
	*ret_elements = elements;
	*ret_count = count;
	return ESK_OK;

step:
	free(elements);
	return status;
}

static esk_status get_of_run(esk_catalog *catalog, int64_t run_id, esk_sql_id id, const char *what,
	size_t element_bytes, esk_status (*read)(const esk_sql *sql, void *ret_element, esk_error *err),
	void **ret_elements, size_t *ret_count, esk_error *err)
{
	esk_sql_scope scope;
	esk_status status = esk_sql_enter(&scope, catalog, false, err);
	if (status != ESK_OK)
		return status;
	esk_sql sql;
	status = esk_sql_start(&sql, catalog, id, what, err);
	if (status == ESK_OK) {
		esk_sql_bind_i64(&sql, run_id);
		status = collect(&sql, element_bytes, read, ret_elements, ret_count, err);
		esk_sql_reset(&sql);
	}
	return esk_sql_leave(&scope, status, err);
}

esk_status esk_catalog_get_segments(esk_catalog *catalog, int64_t run_id, esk_segment_record **ret_segments,
	size_t *ret_count, esk_error *err)
{
	void *elements;
	esk_status status = get_of_run(catalog, run_id, ESK_SQL_GET_SEGMENTS, "reading segments",
		sizeof(esk_segment_record), read_segment, &elements, ret_count, err);
	if (status == ESK_OK)
		*ret_segments = elements;
	return status;
}

/* ---- pruned segments ---- */

/* Runs a statement of two numbers. */
static esk_status run_pair(
	esk_catalog *catalog, esk_sql_id id, const char *what, int64_t first, uint64_t second, esk_error *err)
{
	esk_sql_change change;
	esk_status status = esk_sql_change_begin(&change, catalog, id, what, err);
	if (status != ESK_OK)
		return status;
	esk_sql_bind_i64(&change.sql, first);
	esk_sql_bind_u64(&change.sql, second);
	return esk_sql_change_run(&change, err);
}

esk_status esk_catalog_prune(esk_catalog *catalog, int64_t run_id, uint64_t keep, esk_error *err)
{
	return run_pair(
		catalog, ESK_SQL_PRUNE, "pruning segments", run_id, esk_min_u64(keep, INT64_MAX), err);
}

esk_status esk_catalog_put_gone(esk_catalog *catalog, int64_t run_id, uint64_t number, esk_error *err)
{
	return run_pair(catalog, ESK_SQL_PUT_GONE, "pruning segments", run_id, number, err);
}

static esk_status read_pruned(const esk_sql *sql, void *ret_element, esk_error *err)
{
	esk_pruned_record *segment = ret_element;
	*segment = (esk_pruned_record){.run_id = esk_sql_i64(sql, 0), .number = esk_sql_u64(sql, 1)};
	return esk_sql_copy(sql, 2, segment->file, sizeof segment->file, err);
}

esk_status esk_catalog_get_pruned(
	esk_catalog *catalog, esk_pruned_record **ret_segments, size_t *ret_count, esk_error *err)
{
	esk_sql_scope scope;
	void *elements;
	esk_status status = esk_sql_enter(&scope, catalog, false, err);
	if (status != ESK_OK)
		return status;
	esk_sql sql;
	status = esk_sql_start(&sql, catalog, ESK_SQL_GET_PRUNED, "reading segments", err);
	if (status == ESK_OK) {
		status = collect(&sql, sizeof(esk_pruned_record), read_pruned, &elements, ret_count, err);
		esk_sql_reset(&sql);
	}
	status = esk_sql_leave(&scope, status, err);
	if (status == ESK_OK)
		*ret_segments = elements;
	return status;
}

/* ---- streams ---- */

static void format_shape(const esk_column *column, esk_text *text)
{
	esk_text_add(text, "[");
	for (uint32_t i = 0; i < column->rank; i++)
		esk_text_add(text, "%s%llu", i == 0 ? "" : ",", (unsigned long long)column->shape[i]);
	esk_text_add(text, "]");
}

static esk_status put_column(esk_catalog *catalog, int64_t run_id, uint32_t stream, const char *stream_name,
	size_t position, const esk_column *column, esk_error *err)
{
	char path[ESK_MAX_PATH + 1], dtype[32];
	bool root = strcmp(stream_name, "/") == 0;
	snprintf(path, sizeof path, "%s%s%s", root ? "" : stream_name, root ? "" : "/", column->name);
	esk_dtype_format(column->dtype, dtype, sizeof dtype);
	esk_text shape = {0};
	format_shape(column, &shape);
	if (shape.failed)
		return esk_fail_memory(err, ESK_MAX_RANK * 20, "a column's shape");
	esk_sql sql;
	esk_status status = esk_sql_start(&sql, catalog, ESK_SQL_PUT_COLUMN, "storing a column", err);
	if (status != ESK_OK)
		goto start;
	esk_sql_bind_i64(&sql, run_id);
	esk_sql_bind_u64(&sql, stream);
	esk_sql_bind_u64(&sql, position);
	esk_sql_bind_text(&sql, column->name);
	esk_sql_bind_text(&sql, path);
	esk_sql_bind_text(&sql, dtype);
	esk_sql_bind_text(&sql, shape.data);
	esk_sql_bind_i64(&sql, column->nullable);
	esk_sql_bind_text(&sql, column->codec);
	esk_sql_bind_u64(&sql, esk_column_chunk_rows(column));
	esk_sql_bind_text(&sql, column->units);
	esk_sql_bind_text(&sql, column->long_name);
	status = esk_sql_run(&sql, err);

start:
	esk_text_free(&shape);
	return status;
}

static esk_status put_stream(esk_catalog *catalog, int64_t run_id, uint32_t stream, const char *name,
	const esk_column *columns, size_t column_count, esk_error *err)
{
	esk_sql sql;
	esk_status status = esk_sql_start(&sql, catalog, ESK_SQL_PUT_STREAM, "storing a stream", err);
	if (status != ESK_OK)
		return status;
	esk_sql_bind_i64(&sql, run_id);
	esk_sql_bind_u64(&sql, stream);
	esk_sql_bind_text(&sql, name);
	status = esk_sql_run(&sql, err);
	if (status != ESK_OK)
		return status;
	status = esk_sql_start(&sql, catalog, ESK_SQL_CLEAR_COLUMNS, "storing a stream", err);
	if (status != ESK_OK)
		return status;
	esk_sql_bind_i64(&sql, run_id);
	esk_sql_bind_u64(&sql, stream);
	status = esk_sql_run(&sql, err);
	for (size_t i = 0; i < column_count && status == ESK_OK; i++)
		status = put_column(catalog, run_id, stream, name, i, &columns[i], err);
	return status;
}

esk_status esk_catalog_put_stream(esk_catalog *catalog, int64_t run_id, uint32_t stream, const char *name,
	const esk_column *columns, size_t column_count, esk_error *err)
{
	esk_status status = esk_group_name_check(name, "stream", err);
	for (size_t i = 0; i < column_count && status == ESK_OK; i++)
		status = esk_column_check(&columns[i], err);
	if (status != ESK_OK)
		return status;
	esk_sql_scope scope;
	status = esk_sql_enter(&scope, catalog, true, err);
	if (status != ESK_OK)
		return status;
	status = put_stream(catalog, run_id, stream, name, columns, column_count, err);
	return esk_sql_leave(&scope, status, err);
}

/* ---- extents and gaps ---- */

esk_status esk_catalog_put_extent(esk_catalog *catalog, int64_t run_id, uint32_t stream, uint64_t segment,
	uint64_t first_row, uint64_t rows, esk_error *err)
{
	esk_sql_change change;
	esk_status status =
		esk_sql_change_begin(&change, catalog, ESK_SQL_PUT_EXTENT, "storing an extent", err);
	if (status != ESK_OK)
		return status;
	esk_sql_bind_i64(&change.sql, run_id);
	esk_sql_bind_u64(&change.sql, stream);
	esk_sql_bind_u64(&change.sql, segment);
	esk_sql_bind_u64(&change.sql, first_row);
	esk_sql_bind_u64(&change.sql, rows);
	return esk_sql_change_run(&change, err);
}

esk_status esk_catalog_get_extents(esk_catalog *catalog, int64_t run_id, esk_extent_record **ret_extents,
	size_t *ret_count, esk_error *err)
{
	void *elements;
	esk_status status = get_of_run(catalog, run_id, ESK_SQL_GET_EXTENTS, "reading extents",
		sizeof(esk_extent_record), read_extent, &elements, ret_count, err);
	if (status == ESK_OK)
		*ret_extents = elements;
	return status;
}

static void bind_gap(esk_sql *sql, int64_t run_id, const esk_gap_record *gap)
{
	esk_sql_bind_i64(sql, run_id);
	if (gap->stream < 0)
		esk_sql_bind_text(sql, NULL);
	else
		esk_sql_bind_i64(sql, gap->stream);
	esk_sql_bind_u64(sql, gap->row);
	esk_sql_bind_u64(sql, gap->records);
	esk_sql_bind_u64(sql, gap->rows);
	esk_sql_bind_u64(sql, gap->bytes);
	esk_sql_bind_u64(sql, gap->first_sequence);
	esk_sql_bind_u64(sql, gap->last_sequence);
	esk_sql_bind_i64(sql, gap->time_ns);
	esk_sql_bind_i64(sql, gap->cause);
}

esk_status esk_catalog_put_gap(
	esk_catalog *catalog, int64_t run_id, const esk_gap_record *gap, esk_error *err)
{
	esk_sql_change change;
	esk_status status = esk_sql_change_begin(&change, catalog, ESK_SQL_PUT_GAP, "storing a gap", err);
	if (status != ESK_OK)
		return status;
	bind_gap(&change.sql, run_id, gap);
	return esk_sql_change_run(&change, err);
}
