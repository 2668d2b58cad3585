/* Items in the catalogue: told by commits as they come, or read from the files where it is behind: after a
 * commit that it could not be told, after a crash, and for reindex. As with the rows of indexed streams, its
 * last item says where to go on. */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>

#define TRANSACTION_ITEMS 4096u

/* ---- told by a commit ---- */

static esk_status put_new_item(esk_catalog *catalog, int64_t run_id, uint64_t number, uint64_t segment,
	const esk_item_state *item, esk_error *err)
{
	char *json = NULL;
	esk_status status = esk_attributes_json(item->attributes, item->attribute_count, &json, err);
	esk_item_record record = {.number = number,
		.path = item->path,
		.segment = segment,
		.time_ns = item->time_ns,
		.rows = item->rows,
		.join = item->join,
		.attributes = json};
	if (status == ESK_OK)
		status = esk_catalog_put_item(catalog, run_id, &record, err);
	free(json);
	return status;
}

esk_status esk_store_put_items(
	esk_catalog *catalog, int64_t run_id, const esk_commit_state *state, bool *ret_behind, esk_error *err)
{
	uint64_t count;
	uint64_t first = state->item_count - state->new_item_count;
	if (state->item_count == 0)
		return ESK_OK;
	esk_status status = esk_catalog_item_count(catalog, run_id, &count, err);
	if (status == ESK_OK && count > state->item_count) {
		status = esk_catalog_cut_items(catalog, run_id, state->item_count, err);
		count = state->item_count;
	}
	if (status == ESK_OK && count < first) {
		*ret_behind = true;
		return ESK_OK;
	}
	for (; status == ESK_OK && count < state->item_count; count++)
		status = put_new_item(
			catalog, run_id, count, state->segment, &state->new_items[count - first], err);
	return status;
}

/* ---- read from the files ---- */

typedef struct filling {
	const esk_index_target *target;
	int64_t run_id;
	uint64_t segment;
	uint64_t stop;
	esk_h5 *file;
	uint64_t pending; /* in the transaction */
} filling;

static esk_status read_attributes(esk_h5 *file, const char *path, char **ret_json, esk_error *err)
{
	esk_status status = esk_attributes_read_group(file, path, ret_json, err);
	if (status != ESK_ENOTFOUND)
		return status;
	*ret_json = strdup("{}"); /* another program took the group away */
	return *ret_json != NULL ? ESK_OK : esk_fail_memory(err, 3, "attributes");
}

static esk_status next_transaction(filling *f, esk_error *err)
{
	if (++f->pending < TRANSACTION_ITEMS)
		return ESK_OK;
	f->pending = 0;
	esk_status status = esk_catalog_commit(f->target->catalog, err);
	return status == ESK_OK ? esk_catalog_begin(f->target->catalog, err) : status;
}

static esk_status put_entry(void *arg, uint64_t number, const esk_item_entry *item, esk_error *err)
{
	filling *f = arg;
	char *json = NULL;
	if (number >= f->stop)
		return ESK_OK;
	esk_status status = read_attributes(f->file, item->path, &json, err);
	esk_item_record record = {.number = number,
		.path = item->path,
		.segment = f->segment,
		.time_ns = item->time_ns,
		.rows = item->rows,
		.join = item->join,
		.attributes = json};
	if (status == ESK_OK)
		status = esk_catalog_put_item(f->target->catalog, f->run_id, &record, err);
	free(json);
	return status == ESK_OK ? next_transaction(f, err) : status;
}

static esk_status fill_segment(filling *f, const esk_segment_record *segment, uint64_t from, esk_error *err)
{
	char path[ESK_PATH_BYTES];
	if (!esk_store_file_path(f->target->directory, segment->file, path))
		return esk_fail(err, ESK_EINVAL, "path too long: %s", f->target->directory);
	esk_status status = esk_segment_open_read(f->target->os, path, &f->file, err);
	if (status != ESK_OK)
		return status;
	f->segment = segment->number;
	f->pending = 0;
	status = esk_catalog_begin(f->target->catalog, err);
	if (status == ESK_OK) {
		status = esk_segment_visit_items(f->file, f->target->pool, from, put_entry, f, err);
		if (status == ESK_OK)
			status = esk_catalog_commit(f->target->catalog, err);
		if (status != ESK_OK)
			esk_catalog_rollback(f->target->catalog);
	}
	esk_h5_close(f->file, NULL);
	return status;
}

esk_status esk_index_fill_items(const esk_index_target *target, int64_t run_id, uint64_t stop, esk_error *err)
{
	filling f = {.target = target, .run_id = run_id, .stop = stop};
	esk_segment_record *segments = NULL;
	size_t count = 0;
	uint64_t from = 0;
	esk_status status = esk_catalog_item_count(target->catalog, run_id, &from, err);
	if (status == ESK_OK && from < stop)
		status = esk_catalog_get_segments(target->catalog, run_id, &segments, &count, err);
	for (size_t s = 0; s < count && status == ESK_OK; s++)
		status = fill_segment(&f, &segments[s], from, err);
	free(segments);
	return status;
}
