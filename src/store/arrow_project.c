/* Some fields of a schema alone, so that of the others nothing is read. */
#include "store/arrow_read.h"

#include <stdlib.h>
#include <string.h>

typedef struct projection {
	const char *const *columns;
	size_t count;
	bool *used;             /* of each column: there is a field that it names */
	esk_dataset **datasets; /* of the leaves, or NULL */
	size_t leaves;          /* seen so far */
	size_t kept;            /* of those */
} projection;

typedef enum choice { DROP, SOME, KEEP } choice;

/* Whether `name` is a dataset of the field's own, where it has several in a group (arrow_store.h). */
static bool is_part(const struct ArrowSchema *field, const char *name)
{
	static const char *const lists[] = {"+l", "+L", "+m", "z", "Z"};
	if (field->dictionary != NULL)
		return strcmp(name, "codes") == 0;
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
		if (strcmp(field->format, lists[i]) == 0)
			return strcmp(name, "offsets") == 0 || strcmp(name, "lengths") == 0;
	return false;
}

/* Whole where a column names the field, or a dataset of its own; of a struct some, where one is below it. */
static choice choose(projection *p, const struct ArrowSchema *field, const char *path)
{
	size_t size = strlen(path);
	bool is_struct = strcmp(field->format, "+s") == 0;
	choice chosen = DROP;
	for (size_t i = 0; i < p->count; i++) {
		const char *column = p->columns[i];
		bool below = strncmp(column, path, size) == 0 && column[size] == '/';
		if (strcmp(column, path) == 0 || (below && is_part(field, column + size + 1))) {
			p->used[i] = true;
			chosen = KEEP;
		} else if (below && is_struct && chosen == DROP) {
			chosen = SOME;
		}
	}
	return chosen;
}

/* How many leaves a field has: structs have those of their fields, everything else is one. */
static size_t leaf_count(const struct ArrowSchema *field)
{
	size_t count = 0;
	if (strcmp(field->format, "+s") != 0)
		return 1;
	for (int64_t i = 0; i < field->n_children; i++)
		count += leaf_count(field->children[i]);
	return count;
}

static void take_leaves(projection *p, size_t count, bool keep)
{
	for (size_t i = 0; i < count && keep && p->datasets != NULL; i++)
		p->datasets[p->kept + i] = p->datasets[p->leaves + i];
	p->leaves += count;
	p->kept += keep ? count : 0;
}

static esk_status keep_fields(
	projection *p, struct ArrowSchema *schema, const char *below, bool whole, esk_error *err);

/* A struct that is kept whole is walked all the same: other columns may name what is in it. */
static esk_status keep_field(projection *p, struct ArrowSchema *field, const char *below, bool whole,
	bool *ret_keep, esk_error *err)
{
	char *name = NULL;
	bool is_struct = strcmp(field->format, "+s") == 0;
	esk_status status = esk_map_escape(field->name, &name, err);
	if (status != ESK_OK)
		return status;
	char *path = esk_map_join(below, name);
	free(name);
	if (path == NULL)
		return esk_fail_memory(err, strlen(below), "a column's path");
	choice chosen = choose(p, field, path);
	if (whole)
		chosen = KEEP;
	if (is_struct && chosen != DROP)
		status = keep_fields(p, field, path, chosen == KEEP, err);
	else
		take_leaves(p, leaf_count(field), chosen == KEEP);
	*ret_keep = chosen == KEEP || (chosen == SOME && field->n_children > 0);
	free(path);
	return status;
}

/* On failure the fields that were not looked at stay, so that the schema can be released as any other. */
static esk_status keep_fields(
	projection *p, struct ArrowSchema *schema, const char *below, bool whole, esk_error *err)
{
	int64_t kept = 0;
	esk_status status = ESK_OK;
	for (int64_t i = 0; i < schema->n_children; i++) {
		struct ArrowSchema *field = schema->children[i];
		bool keep = true;
		if (status == ESK_OK)
			status = keep_field(p, field, below, whole, &keep, err);
		if (keep)
			schema->children[kept++] = field;
		else
			field->release(field);
	}
	schema->n_children = kept;
	return status;
}

esk_status esk_schema_project(struct ArrowSchema *schema, const char *const *columns, size_t count,
	esk_dataset **datasets, esk_error *err)
{
	if (count == 0)
		return ESK_OK;
	projection p = {.columns = columns,
		.count = count,
		.used = calloc(count, sizeof *p.used),
		.datasets = datasets};
	if (p.used == NULL)
		return esk_fail_memory(err, count, "columns");
	esk_status status = keep_fields(&p, schema, "", false, err);
	for (size_t i = 0; i < count && status == ESK_OK; i++)
		if (!p.used[i])
			status = esk_fail(err, ESK_ENOTFOUND, "no column \"%s\"", columns[i]);
	free(p.used);
	return status;
}
