/* Joins: a group of virtual datasets that show the arrays of all items put with it, one behind the other,
 * over the live segment. Drain thread only (R1), but for the shapes.
 *
 * libhdf5 cannot add to a virtual dataset: it is made anew with all its sources, which takes some 25 µs for
 * each. So that this costs no more than a twentieth of the time, however many there are, a join that was made
 * lately waits MOST_OFTEN times as long as it took; the last commit of a segment brings it up to date. */
#include "record/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_OFTEN 20u

/* ---- shapes: what an item must be like to be joined; from any thread ---- */

void esk_join_shapes_clear(esk_join_shapes *shapes)
{
	for (size_t i = 0; i < shapes->count; i++)
		free(shapes->items[i].columns);
	free(shapes->items);
	pthread_mutex_destroy(&shapes->lock);
}

static const esk_column *column_of(const esk_join_shape *shape, const char *name)
{
	for (size_t c = 0; c < shape->count; c++)
		if (strcmp(shape->columns[c].name, name) == 0)
			return &shape->columns[c];
	return NULL;
}

static esk_status match(
	const esk_join_shape *shape, const esk_column *const *columns, size_t count, esk_error *err)
{
	for (size_t c = 0; c < count; c++) {
		const esk_column *expected = column_of(shape, columns[c]->name);
		if (expected == NULL)
			return esk_fail(err, ESK_ESHAPE, "join \"%s\": its items have no array \"%s\"",
				shape->path, columns[c]->name);
		esk_status status = esk_column_match(expected, columns[c], err);
		if (status != ESK_OK)
			return esk_fail_in(err, status, "join \"%s\"", shape->path);
	}
	for (size_t c = 0; c < shape->count; c++) {
		bool found = false;
		for (size_t d = 0; d < count && !found; d++)
			found = strcmp(columns[d]->name, shape->columns[c].name) == 0;
		if (!found)
			return esk_fail(err, ESK_ESHAPE,
				"join \"%s\": its items have the array \"%s\", this one has not", shape->path,
				shape->columns[c].name);
	}
	return ESK_OK;
}

static esk_status add_shape(esk_join_shapes *shapes, const char *path, const esk_column *const *columns,
	size_t count, esk_error *err)
{
	esk_join_shape *grown = realloc(shapes->items, (shapes->count + 1) * sizeof *grown);
	esk_column *copies = calloc(count, sizeof *copies);
	shapes->items = grown != NULL ? grown : shapes->items;
	if (grown == NULL || copies == NULL) {
		free(copies);
		return esk_fail_memory(err, count * sizeof *copies, "a join");
	}
	for (size_t c = 0; c < count; c++)
		copies[c] = *columns[c];
	esk_join_shape *shape = &grown[shapes->count++];
	*shape = (esk_join_shape){.columns = copies, .count = count};
	snprintf(shape->path, sizeof shape->path, "%s", path);
	return ESK_OK;
}

esk_status esk_join_shapes_check(esk_join_shapes *shapes, const char *path, const esk_column *const *columns,
	size_t count, esk_error *err)
{
	const esk_join_shape *shape = NULL;
	pthread_mutex_lock(&shapes->lock);
	for (size_t i = 0; i < shapes->count && shape == NULL; i++)
		if (strcmp(shapes->items[i].path, path) == 0)
			shape = &shapes->items[i];
	esk_status status = shape != NULL ? match(shape, columns, count, err)
					  : add_shape(shapes, path, columns, count, err);
	pthread_mutex_unlock(&shapes->lock);
	return status;
}

/* ---- sources ---- */

static void free_join(esk_join *join)
{
	for (size_t i = 0; i < join->source_count; i++)
		free(join->paths[i]);
	free(join->paths);
	free(join->rows);
	free(join->columns);
}

void esk_joins_forget(esk_recorder *r)
{
	for (size_t i = 0; i < r->join_count; i++)
		free_join(&r->joins[i]);
	free(r->joins);
	r->joins = NULL;
	r->join_count = 0;
}

static esk_status find_join(esk_recorder *r, const char *path, esk_join **ret_join, esk_error *err)
{
	for (size_t i = 0; i < r->join_count; i++) {
		if (strcmp(r->joins[i].path, path) == 0) {
			*ret_join = &r->joins[i];
			return ESK_OK;
		}
	}
	esk_join *grown = realloc(r->joins, (r->join_count + 1) * sizeof *grown);
	if (grown == NULL)
		return esk_fail_memory(err, sizeof *grown, "joins");
	r->joins = grown;
	*ret_join = &grown[r->join_count++];
	**ret_join = (esk_join){0};
	snprintf((*ret_join)->path, sizeof(*ret_join)->path, "%s", path);
	return ESK_OK;
}

static esk_status set_columns(esk_join *join, const esk_column *const *columns, size_t count, esk_error *err)
{
	if (join->column_count > 0)
		return ESK_OK;
	join->columns = calloc(count + 1, sizeof *join->columns);
	if (join->columns == NULL)
		return esk_fail_memory(err, count * sizeof *join->columns, "a join");
	for (size_t c = 0; c < count; c++)
		join->columns[c] = *columns[c];
	join->column_count = count;
	return ESK_OK;
}

static bool grow(esk_join *join)
{
	size_t capacity = join->capacity == 0 ? 64 : 2 * join->capacity;
	char **paths = realloc(join->paths, capacity * sizeof *paths);
	join->paths = paths != NULL ? paths : join->paths;
	uint64_t *rows = realloc(join->rows, capacity * join->column_count * sizeof *rows);
	join->rows = rows != NULL ? rows : join->rows;
	if (paths == NULL || rows == NULL)
		return false;
	join->capacity = capacity;
	return true;
}

/* rows[c]: of column c of the join. */
static esk_status add_source(esk_join *join, const char *path, const uint64_t *rows, esk_error *err)
{
	char *copy = strdup(path);
	if (copy == NULL || (join->source_count == join->capacity && !grow(join))) {
		free(copy);
		return esk_fail_memory(err, strlen(path), "a join");
	}
	memcpy(join->rows + join->source_count * join->column_count, rows, join->column_count * sizeof *rows);
	join->paths[join->source_count++] = copy;
	return ESK_OK;
}

esk_status esk_joins_add(esk_recorder *r, const char *join_path, const char *path, const esk_h5_array *arrays,
	size_t count, esk_error *err)
{
	esk_join *join;
	const esk_column **columns = malloc((count + 1) * sizeof *columns);
	uint64_t *rows = NULL;
	esk_status status = columns == NULL ? esk_fail_memory(err, count * sizeof *columns, "a join")
					    : find_join(r, join_path, &join, err);
	for (size_t a = 0; a < count && status == ESK_OK; a++)
		columns[a] = arrays[a].column;
	if (status == ESK_OK)
		status = set_columns(join, columns, count, err);
	if (status == ESK_OK && (rows = calloc(join->column_count + 1, sizeof *rows)) == NULL)
		status = esk_fail_memory(err, count * sizeof *rows, "a join");
	for (size_t c = 0; status == ESK_OK && c < join->column_count; c++)
		for (size_t a = 0; a < count; a++)
			if (strcmp(arrays[a].column->name, join->columns[c].name) == 0)
				rows[c] = arrays[a].rows;
	if (status == ESK_OK)
		status = add_source(join, path, rows, err);
	free(columns);
	free(rows);
	return status;
}

/* ---- taking over ---- */

typedef struct listing {
	const char *group;
	esk_column *columns;
	size_t count;
} listing;

static esk_status list_array(void *arg, esk_h5_dataset *dataset, esk_error *err)
{
	listing *l = arg;
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	esk_column *grown = realloc(l->columns, (l->count + 1) * sizeof *grown);
	if (grown == NULL)
		return esk_fail_memory(err, sizeof *grown, "a join");
	l->columns = grown;
	grown[l->count] = info->column;
	grown[l->count].codec[0] = '\0';
	snprintf(grown[l->count].name, sizeof grown->name, "%.255s", info->path + strlen(l->group) + 1);
	l->count++;
	return ESK_OK;
}

/* The columns of a join are those of its first item. */
static esk_status adopt_columns(esk_h5 *file, esk_join *join, const char *item, esk_error *err)
{
	listing l = {.group = item};
	if (join->column_count > 0)
		return ESK_OK;
	esk_status status = esk_h5_visit_below(file, item, list_array, &l, err);
	if (status != ESK_OK) {
		free(l.columns);
		return status;
	}
	join->columns = l.columns;
	join->column_count = l.count;
	return ESK_OK;
}

static esk_status array_rows(
	esk_h5 *file, const char *item, const char *array, uint64_t *ret_rows, esk_error *err)
{
	char path[2 * ESK_MAX_NAME + 16];
	esk_h5_dataset *dataset;
	snprintf(path, sizeof path, "%s/%s", item, array);
	esk_status status = esk_h5_dataset_open(file, path, &dataset, err);
	if (status != ESK_OK)
		return status;
	*ret_rows = esk_h5_dataset_info(dataset)->rows;
	esk_h5_dataset_close(dataset);
	return ESK_OK;
}

typedef struct adoption {
	esk_recorder *r;
	esk_h5 *file;
} adoption;

static esk_status adopt_item(void *arg, uint64_t number, const esk_item_entry *item, esk_error *err)
{
	const adoption *a = arg;
	esk_join *join;
	(void)number;
	if (item->join[0] == '\0')
		return ESK_OK;
	esk_status status = find_join(a->r, item->join, &join, err);
	if (status == ESK_OK)
		status = adopt_columns(a->file, join, item->path, err);
	uint64_t *rows = status == ESK_OK ? calloc(join->column_count + 1, sizeof *rows) : NULL;
	if (status == ESK_OK && rows == NULL)
		status = esk_fail_memory(err, join->column_count * sizeof *rows, "a join");
	for (size_t c = 0; status == ESK_OK && c < join->column_count; c++) {
		rows[c] = item->rows;
		if (!item->even)
			status = array_rows(a->file, item->path, join->columns[c].name, &rows[c], err);
	}
	if (status == ESK_OK)
		status = add_source(join, item->path, rows, err);
	free(rows);
	return status;
}

esk_status esk_joins_adopt(esk_recorder *r, esk_h5 *file, esk_error *err)
{
	adoption a = {.r = r, .file = file};
	esk_joins_forget(r);
	return esk_segment_visit_items(file, r->pool, 0, adopt_item, &a, err);
}

/* "x_valid" is no array of the caller's but says that "x" is nullable. */
static bool is_validity(const esk_join *join, const char *name)
{
	char valid[ESK_MAX_NAME + 16];
	for (size_t c = 0; c < join->column_count; c++) {
		snprintf(valid, sizeof valid, "%s_valid", join->columns[c].name);
		if (strcmp(valid, name) == 0)
			return true;
	}
	return false;
}

static bool has_validity(const esk_join *join, const char *name)
{
	char valid[ESK_MAX_NAME + 16];
	snprintf(valid, sizeof valid, "%s_valid", name);
	for (size_t c = 0; c < join->column_count; c++)
		if (strcmp(join->columns[c].name, valid) == 0)
			return true;
	return false;
}

esk_status esk_joins_keep_shapes(esk_recorder *r, esk_error *err)
{
	esk_status status = ESK_OK;
	for (size_t j = 0; j < r->join_count && status == ESK_OK; j++) {
		esk_join *join = &r->joins[j];
		const esk_column **columns = calloc(join->column_count + 1, sizeof *columns);
		esk_column *copies = calloc(join->column_count + 1, sizeof *copies);
		size_t count = 0;
		if (columns == NULL || copies == NULL)
			status = esk_fail_memory(err, join->column_count * sizeof *copies, "a join");
		for (size_t c = 0; status == ESK_OK && c < join->column_count; c++) {
			if (is_validity(join, join->columns[c].name))
				continue;
			copies[count] = join->columns[c];
			copies[count].nullable = has_validity(join, join->columns[c].name);
			columns[count] = &copies[count];
			count++;
		}
		if (status == ESK_OK)
			status = esk_join_shapes_check(&r->join_shapes, join->path, columns, count, err);
		free(columns);
		free(copies);
	}
	return status;
}

/* ---- writing ---- */

static bool is_due(const esk_join *join)
{
	return join->source_count > join->written &&
	       (join->written == 0 || esk_monotonic_ns() - join->written_ns >= MOST_OFTEN * join->cost_ns);
}

bool esk_joins_due(const esk_recorder *r)
{
	for (size_t i = 0; i < r->join_count; i++)
		if (is_due(&r->joins[i]))
			return true;
	return false;
}

static esk_status write_column(
	esk_recorder *r, const esk_join *join, size_t c, esk_h5_source *sources, char *texts, esk_error *err)
{
	char path[2 * ESK_MAX_NAME + 16];
	size_t room = 2 * ESK_MAX_NAME + 16, count = 0;
	for (size_t i = 0; i < join->source_count; i++) {
		uint64_t rows = join->rows[i * join->column_count + c];
		if (rows == 0)
			continue;
		snprintf(texts + count * room, room, "/%s/%s", join->paths[i], join->columns[c].name);
		sources[count] = (esk_h5_source){.path = texts + count * room, .rows = rows};
		count++;
	}
	snprintf(path, sizeof path, "%s/%s", join->path, join->columns[c].name);
	return count > 0 ? esk_h5_write_join(r->file, path, &join->columns[c], sources, count, err) : ESK_OK;
}

static esk_status write_join(esk_recorder *r, esk_join *join, esk_error *err)
{
	uint64_t begun = esk_monotonic_ns();
	esk_h5_source *sources = malloc((join->source_count + 1) * sizeof *sources);
	char *texts = malloc((join->source_count + 1) * (2 * ESK_MAX_NAME + 16));
	esk_status status = ESK_OK;
	if (sources == NULL || texts == NULL)
		status = esk_fail_memory(err, join->source_count * 2 * ESK_MAX_NAME, "a join");
	for (size_t c = 0; c < join->column_count && status == ESK_OK; c++)
		status = write_column(r, join, c, sources, texts, err);
	free(sources);
	free(texts);
	if (status == ESK_EEXIST) { /* what another program put there stays */
		esk_log(&r->logger, ESK_LOG_ERROR, "run \"%s\": items are not joined: %s", r->name,
			err->message);
		status = ESK_OK;
	}
	if (status != ESK_OK)
		return status;
	join->written = join->source_count;
	join->written_ns = esk_monotonic_ns();
	join->cost_ns = join->written_ns - begun;
	return ESK_OK;
}

esk_status esk_joins_write(esk_recorder *r, bool all, esk_error *err)
{
	esk_status status = ESK_OK;
	esk_error why = {0};
	for (size_t i = 0; i < r->join_count && status == ESK_OK; i++) {
		esk_join *join = &r->joins[i];
		if (is_due(join) || (all && join->source_count > join->written))
			status = write_join(r, join, &why);
	}
	return status == ESK_OK ? ESK_OK : esk_fail(err, status, "%s", why.message);
}
