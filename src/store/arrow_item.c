/* A record batch as an item: its columns as arrays of one group. */
#include "store/arrow_sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All columns of all tables, with their paths as names. */
typedef struct arrays {
	esk_column *columns;
	esk_item_array *items;
	size_t count;
} arrays;

static esk_status name_column(const esk_map_table *table, esk_column *column, esk_error *err)
{
	char *path = esk_map_join(table->below, column->name);
	esk_status status = ESK_OK;
	if (path == NULL)
		return esk_fail_memory(err, sizeof column->name, "a column's path");
	if ((size_t)snprintf(column->name, sizeof column->name, "%s", path) >= sizeof column->name)
		status = esk_fail(err, ESK_EINVAL, "the path of column \"%.60s...\" is too long", path);
	free(path);
	return status;
}

static esk_status make_arrays(const esk_arrow_sink *sink, arrays *a, esk_error *err)
{
	esk_status status = ESK_OK;
	*a = (arrays){.columns = calloc(sink->map.column_count, sizeof *a->columns),
		.items = calloc(sink->map.column_count, sizeof *a->items)};
	if (a->columns == NULL || a->items == NULL)
		return esk_fail_memory(err, sink->map.column_count * sizeof *a->columns, "arrays");
	for (size_t t = 0; t < sink->map.table_count; t++) {
		const esk_map_table *table = &sink->map.tables[t];
		const esk_sink_table *filled = &sink->tables[t];
		for (size_t c = 0; c < table->count && status == ESK_OK; c++) {
			esk_column *column = &a->columns[a->count];
			*column = table->columns[c];
			status = name_column(table, column, err);
			a->items[a->count++] = (esk_item_array){.column = column,
				.rows = filled->rows,
				.cells = filled->rows > 0 ? filled->cells[c] : NULL,
				.valid = filled->rows > 0 ? filled->valid[c] : NULL};
		}
	}
	return status;
}

static esk_status put(esk_run *run, const esk_item *item, const esk_arrow_sink *sink, esk_error *err)
{
	arrays a;
	esk_status status = make_arrays(sink, &a, err);
	if (status == ESK_OK) {
		esk_item whole = *item;
		whole.arrays = a.items;
		whole.array_count = a.count;
		status = esk_run_put(run, &whole, err);
	}
	free(a.columns);
	free(a.items);
	return status;
}

esk_status esk_run_put_arrow(esk_run *run, const esk_item *item, const struct ArrowSchema *schema,
	const struct ArrowArray *batch, const esk_arrow_sink_options *options, esk_error *err)
{
	esk_item complete = ESK_ITEM_INIT;
	esk_arrow_sink *sink = NULL;
	if (run == NULL || item == NULL || item->path == NULL || batch == NULL || batch->release == NULL)
		return esk_fail(err, ESK_EINVAL, "an item of a record batch needs a run, a path and a batch");
	esk_struct_take(&complete, sizeof complete, item);
	complete.struct_size = sizeof complete;
	esk_status status = esk_sink_prepare("/", schema, options, &sink, err);
	if (status == ESK_OK)
		status = esk_sink_begin(sink, err);
	if (status == ESK_OK)
		status = esk_sink_fill(sink, batch, 0, batch->length > 0 ? (uint64_t)batch->length : 0, err);
	if (status == ESK_OK)
		status = put(run, &complete, sink, err);
	esk_arrow_sink_close(sink);
	return status == ESK_OK ? ESK_OK : esk_fail_in(err, status, "item \"%.80s\"", complete.path);
}
