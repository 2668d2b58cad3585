/* Items in the catalogue: a row each, in the order of their numbers. May include: base, os, model. */
#include "catalog/connection.h"

esk_status esk_catalog_item_count(esk_catalog *catalog, int64_t run_id, uint64_t *ret_count, esk_error *err)
{
	esk_sql_scope scope;
	uint64_t count = 0;
	esk_status status = esk_sql_enter(&scope, catalog, false, err);
	if (status != ESK_OK)
		return status;
	esk_sql sql;
	bool row;
	status = esk_sql_start(&sql, catalog, ESK_SQL_COUNT_ITEMS, "counting items", err);
	if (status == ESK_OK) {
		esk_sql_bind_i64(&sql, run_id);
		status = esk_sql_step(&sql, &row, err);
		count = status == ESK_OK && row ? esk_sql_u64(&sql, 0) : 0;
		esk_sql_reset(&sql);
	}
	status = esk_sql_leave(&scope, status, err);
	if (status == ESK_OK)
		*ret_count = count;
	return status;
}

esk_status esk_catalog_put_item(
	esk_catalog *catalog, int64_t run_id, const esk_item_record *item, esk_error *err)
{
	esk_sql_change change;
	esk_status status = esk_sql_change_begin(&change, catalog, ESK_SQL_PUT_ITEM, "storing an item", err);
	if (status != ESK_OK)
		return status;
	esk_sql_bind_i64(&change.sql, run_id);
	esk_sql_bind_u64(&change.sql, item->number);
	esk_sql_bind_text(&change.sql, item->path);
	esk_sql_bind_u64(&change.sql, item->segment);
	esk_sql_bind_i64(&change.sql, item->time_ns);
	esk_sql_bind_u64(&change.sql, item->rows);
	esk_sql_bind_text(&change.sql, item->join);
	esk_sql_bind_text(&change.sql, item->attributes);
	return esk_sql_change_run(&change, err);
}

esk_status esk_catalog_cut_items(esk_catalog *catalog, int64_t run_id, uint64_t count, esk_error *err)
{
	esk_sql_change change;
	esk_status status = esk_sql_change_begin(&change, catalog, ESK_SQL_CUT_ITEMS, "removing items", err);
	if (status != ESK_OK)
		return status;
	esk_sql_bind_i64(&change.sql, run_id);
	esk_sql_bind_u64(&change.sql, count);
	return esk_sql_change_run(&change, err);
}
