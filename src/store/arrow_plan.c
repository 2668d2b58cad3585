/* From a schema to nodes and tables (arrow_map.h). */
#include "store/arrow_map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where a field's columns go. */
typedef struct spot {
	esk_map *map;
	uint32_t table;
	const char *prefix;               /* of the column's name: the structs that the field is in */
	const char *name;                 /* escaped */
	const struct ArrowSchema *schema; /* of the field */
	const struct ArrowSchema *list;   /* whose values it is: describes them too; NULL for none */
	bool nullable;
	uint32_t depth;
} spot;

static esk_status make_node(const spot *at, esk_map_node *node, esk_error *err);

/* ---- tables and columns ---- */

static esk_status add_table(
	esk_map *map, const char *stream, const char *below, uint32_t *ret_table, esk_error *err)
{
	if (map->table_count == ESK_MAP_MAX_TABLES)
		return esk_fail(err, ESK_ERANGE, "more than %d lists and dictionaries: each takes a stream",
			ESK_MAP_MAX_TABLES - 1);
	esk_map_table *grown = realloc(map->tables, (map->table_count + 1) * sizeof *grown);
	if (grown == NULL)
		return esk_fail_memory(err, (map->table_count + 1) * sizeof *grown, "streams");
	map->tables = grown;
	esk_map_table *table = &grown[map->table_count];
	*table = (esk_map_table){.below = strdup(below),
		.name = strcmp(stream, "/") == 0 && *below != '\0' ? strdup(below)
								   : esk_map_join(stream, below)};
	*ret_table = (uint32_t)map->table_count++;
	return table->name != NULL && table->below != NULL
		       ? ESK_OK
		       : esk_fail_memory(err, strlen(below), "a stream's name");
}

static esk_status grow_columns(esk_map_table *table, esk_error *err)
{
	size_t capacity = table->capacity == 0 ? 4 : 2 * table->capacity;
	esk_column *grown = realloc(table->columns, capacity * sizeof *grown);
	if (grown == NULL)
		return esk_fail_memory(err, capacity * sizeof *grown, "columns");
	table->columns = grown;
	table->capacity = capacity;
	return ESK_OK;
}

/* Adds a column whose name is the spot's with `suffix`. */
static esk_status add_column(
	const spot *at, const char *suffix, const esk_column *like, uint32_t *ret_column, esk_error *err)
{
	esk_map_table *table = &at->map->tables[at->table];
	esk_status status = ESK_OK;
	if (at->map->column_count == ESK_MAX_COLUMNS)
		return esk_fail(err, ESK_ERANGE, "the schema has more than %d columns", ESK_MAX_COLUMNS);
	if (table->count == table->capacity)
		status = grow_columns(table, err);
	if (status != ESK_OK)
		return status;
	esk_column *column = &table->columns[table->count];
	*column = *like;
	char *name = esk_map_join(at->prefix, at->name);
	if (name == NULL)
		return esk_fail_memory(err, sizeof column->name, "a column's name");
	if ((size_t)snprintf(column->name, sizeof column->name, "%s%s", name, suffix) >= sizeof column->name)
		status = esk_fail(
			err, ESK_EINVAL, "the path of column \"%.60s...%s\" is too long", name, suffix);
	free(name);
	if (status == ESK_OK)
		status = esk_column_check(column, err);
	if (status != ESK_OK)
		return status;
	*ret_column = (uint32_t)table->count++;
	at->map->column_count++;
	return ESK_OK;
}

static esk_status add_validity(const spot *at, esk_map_node *node, esk_error *err)
{
	esk_column column = {.dtype = {ESK_BOOL, 1}};
	return node->nullable ? add_column(at, "_valid", &column, &node->valid, err) : ESK_OK;
}

/* ---- leaves ---- */

static esk_status refuse(const esk_map_node *node, const char *format, esk_error *err)
{
	return esk_fail(err, ESK_EUNSUPPORTED,
		"column \"%s\" is of the Arrow type %s (\"%.40s\"), which Esker does not store", node->path,
		esk_arrow_format_name(format), format != NULL ? format : "");
}

static void set_units(const esk_arrow_type *type, esk_column *column)
{
	const char *unit = type->unit == 's'   ? "s"
			   : type->unit == 'm' ? "ms"
			   : type->unit == 'u' ? "us"
			   : type->unit == 'n' ? "ns"
					       : "days";
	const char *since = type->kind == ESK_ARROW_DATE                ? " since 1970-01-01"
			    : type->kind == ESK_ARROW_TIME              ? " since midnight"
			    : type->kind == ESK_ARROW_DURATION          ? ""
			    : type->rest != NULL && *type->rest != '\0' ? " since 1970-01-01 UTC"
									: " since 1970-01-01";
	snprintf(column->units, sizeof column->units, "%s%s", unit, since);
}

static esk_kind number_kind(const esk_arrow_type *type)
{
	static const esk_kind kinds[3][9] = {{[1] = ESK_I8, [2] = ESK_I16, [4] = ESK_I32, [8] = ESK_I64},
		{[1] = ESK_U8, [2] = ESK_U16, [4] = ESK_U32, [8] = ESK_U64},
		{[2] = ESK_F16, [4] = ESK_F32, [8] = ESK_F64}};
	if (type->width_bytes > 8)
		return 0;
	return kinds[type->kind == ESK_ARROW_UNSIGNED ? 1
		     : type->kind == ESK_ARROW_FLOAT  ? 2
						      : 0][type->width_bytes];
}

static esk_status fixed_leaf(esk_map_node *node, const char *format, esk_column *column, esk_error *err)
{
	const esk_arrow_type *type = &node->type;
	node->kind = ESK_MAP_PLAIN;
	column->dtype.size_bytes = type->width_bytes;
	column->dtype.kind = number_kind(type);
	switch (type->kind) {
	case ESK_ARROW_SIGNED:
	case ESK_ARROW_UNSIGNED:
	case ESK_ARROW_FLOAT:
		break;
	case ESK_ARROW_DATE:
	case ESK_ARROW_TIME:
	case ESK_ARROW_TIMESTAMP:
	case ESK_ARROW_DURATION:
		set_units(type, column);
		break;
	case ESK_ARROW_FIXED_BINARY:
		if (type->width_bytes == 0 || column->rank == ESK_MAX_RANK)
			return refuse(node, format, err);
		column->dtype = (esk_dtype){ESK_U8, 1};
		column->shape[column->rank++] = type->width_bytes;
		break;
	case ESK_ARROW_DECIMAL:
		node->kind = ESK_MAP_DECIMAL;
		column->dtype =
			(esk_dtype){ESK_STRING_N, esk_decimal_text_bytes(type->precision, type->scale)};
		if (column->dtype.size_bytes == 0 || type->width_bytes > 16)
			return refuse(node, format, err);
		break;
	default:
		return refuse(node, format, err);
	}
	return column->dtype.kind != 0 ? ESK_OK : refuse(node, format, err);
}

static esk_status leaf(esk_map_node *node, const char *format, esk_column *column, esk_error *err)
{
	switch (node->type.layout) {
	case ESK_ARROW_BOOL:
		node->kind = ESK_MAP_BITS;
		column->dtype = (esk_dtype){ESK_BOOL, 1};
		return ESK_OK;
	case ESK_ARROW_BINARY:
	case ESK_ARROW_LARGE_BINARY:
		if (node->type.kind != ESK_ARROW_UTF8)
			break;
		node->kind = ESK_MAP_TEXT;
		column->dtype = (esk_dtype){ESK_STRING, sizeof(esk_string)};
		return ESK_OK;
	case ESK_ARROW_NULL:
		if (node->level_count > 0)
			break;
		node->kind = ESK_MAP_MISSING;
		node->nullable = true;
		column->dtype = (esk_dtype){ESK_BOOL, 1};
		return ESK_OK;
	case ESK_ARROW_FIXED:
		return fixed_leaf(node, format, column, err);
	default:
		break;
	}
	return refuse(node, format, err);
}

/* ---- fixed-size lists around a leaf ---- */

static esk_status add_level(esk_map_node *node, uint64_t size, esk_error *err)
{
	esk_map_level *grown = realloc(node->levels, (node->level_count + 1) * sizeof *grown);
	if (grown == NULL)
		return esk_fail_memory(err, sizeof *grown, "a fixed-size list");
	node->levels = grown;
	grown[node->level_count++] = (esk_map_level){.size = size, .valid = ESK_MAP_NONE};
	return ESK_OK;
}

/* The validity of the items of a level: as many dimensions as there are levels down to it. */
static esk_status add_items_validity(const spot *at, esk_map_node *node, uint32_t level, esk_error *err)
{
	esk_column column = {.dtype = {ESK_BOOL, 1}, .rank = level + 1};
	char suffix[ESK_MAX_RANK * 6 + 8] = "";
	for (uint32_t i = 0; i <= level; i++) {
		column.shape[i] = node->levels[i].size;
		strcat(suffix, "_items");
	}
	strcat(suffix, "_valid");
	return add_column(at, suffix, &column, &node->levels[level].valid, err);
}

static esk_status one_child(const struct ArrowSchema *schema, const esk_map_node *node, esk_error *err)
{
	if (schema->n_children != 1 || schema->children == NULL || schema->children[0] == NULL)
		return esk_fail(err, ESK_EINVAL, "column \"%s\": a list must have one child", node->path);
	return ESK_OK;
}

/* Goes down to the leaf; the cell's shape is what the levels make. */
static esk_status descend(const spot *at, esk_map_node *node, esk_column *column,
	const struct ArrowSchema **ret_leaf, esk_error *err)
{
	const struct ArrowSchema *schema = at->schema;
	esk_status status = ESK_OK;
	node->items = 1;
	while (status == ESK_OK && node->type.layout == ESK_ARROW_FIXED_LIST) {
		uint64_t size = (uint64_t)node->type.list_size;
		status = one_child(schema, node, err);
		if (status == ESK_OK && size == 0)
			status = esk_fail(err, ESK_EUNSUPPORTED,
				"column \"%s\": a fixed-size list of 0 items", node->path);
		if (status == ESK_OK && (column->rank == ESK_MAX_RANK || schema->dictionary != NULL))
			status = refuse(node, schema->format, err);
		if (status != ESK_OK)
			return status;
		status = add_level(node, size, err);
		if (status == ESK_OK && node->level_count == 1 && esk_map_is_tensor(schema)) {
			node->tensor = true;
			status = esk_map_tensor_shape(
				schema, node->path, size, column->shape, &column->rank, err);
		} else {
			column->shape[column->rank++] = size;
		}
		if (status == ESK_OK && !esk_mul_u64(node->items, size, &node->items))
			status = esk_fail(err, ESK_ERANGE, "column \"%s\": too many items", node->path);
		schema = schema->children[0];
		if (status == ESK_OK)
			status = esk_arrow_type_parse(schema->format, &node->type, err);
	}
	*ret_leaf = schema;
	return status;
}

/* Item fields of the levels, to ask whether they are nullable. */
static esk_status add_levels_validity(const spot *at, esk_map_node *node, esk_error *err)
{
	const struct ArrowSchema *schema = at->schema;
	esk_status status = ESK_OK;
	for (uint32_t i = 0; i < node->level_count && status == ESK_OK; i++) {
		schema = schema->children[0];
		if (!node->tensor && (schema->flags & ARROW_FLAG_NULLABLE) != 0)
			status = add_items_validity(at, node, i, err);
	}
	return status;
}

static esk_status make_leaf(const spot *at, esk_map_node *node, esk_error *err)
{
	const struct ArrowSchema *schema;
	esk_column column = {0};
	esk_status status = descend(at, node, &column, &schema, err);
	if (status == ESK_OK && schema->dictionary != NULL)
		status = esk_fail(err, ESK_EUNSUPPORTED,
			"column \"%s\" is a fixed-size list of dictionary-encoded items, which Esker does "
			"not store",
			node->path);
	if (status == ESK_OK)
		status = leaf(node, schema->format, &column, err);
	if (status != ESK_OK)
		return status;
	column.nullable = node->nullable;
	snprintf(column.name, sizeof column.name, "%s", node->path);
	if (at->list != NULL)
		status = esk_map_describe(at->list, &column, err);
	if (status == ESK_OK)
		status = esk_map_describe(at->schema, &column, err);
	if (status == ESK_OK)
		status = add_column(at, "", &column, &node->column, err);
	return status == ESK_OK ? add_levels_validity(at, node, err) : status;
}

/* ---- what has columns of its own ---- */

static esk_status add_children(esk_map_node *node, size_t count, esk_error *err)
{
	node->children = calloc(count, sizeof *node->children);
	if (node->children == NULL)
		return esk_fail_memory(err, count * sizeof *node->children, "columns");
	node->child_count = count;
	return ESK_OK;
}

/* A child in the table `table`, under a name that Esker gives. */
static esk_status make_child(const spot *at, esk_map_node *node, const struct ArrowSchema *schema,
	const char *name, bool nullable, esk_error *err)
{
	spot below = {.map = at->map,
		.table = node->child_table,
		.prefix = "",
		.name = name,
		.schema = schema,
		.list = at->list != NULL ? at->list : at->schema,
		.nullable = nullable,
		.depth = at->depth + 1};
	esk_status status = add_children(node, 1, err);
	return status == ESK_OK ? make_node(&below, &node->children[0], err) : status;
}

static esk_status make_list(const spot *at, esk_map_node *node, esk_error *err)
{
	esk_column column = {.dtype = {ESK_I64, 8}};
	uint32_t lengths;
	esk_map *map = at->map;
	bool bytes = node->type.layout == ESK_ARROW_BINARY || node->type.layout == ESK_ARROW_LARGE_BINARY;
	node->kind = bytes ? ESK_MAP_BYTES : ESK_MAP_LIST;
	esk_status status = bytes ? ESK_OK : one_child(at->schema, node, err);
	if (status == ESK_OK)
		status = add_column(at, "/offsets", &column, &node->column, err);
	if (status == ESK_OK)
		status = add_column(at, "/lengths", &column, &lengths, err);
	if (status == ESK_OK)
		status = add_validity(at, node, err);
	if (status == ESK_OK)
		status = add_table(map, map->tables[0].name, node->path, &node->child_table, err);
	if (status != ESK_OK)
		return status;
	if (!bytes) {
		const struct ArrowSchema *items = at->schema->children[0];
		return make_child(at, node, items, "values", (items->flags & ARROW_FLAG_NULLABLE) != 0, err);
	}
	spot below = {.map = map, .table = node->child_table, .prefix = "", .name = "values"};
	column.dtype = (esk_dtype){ESK_U8, 1};
	snprintf(column.name, sizeof column.name, "%s", node->path);
	status = esk_map_describe(at->schema, &column, err);
	return status == ESK_OK ? add_column(&below, "", &column, &lengths, err) : status;
}

static esk_status make_struct(const spot *at, esk_map_node *node, esk_error *err)
{
	const struct ArrowSchema *schema = at->schema;
	node->kind = ESK_MAP_STRUCT;
	if (schema->n_children <= 0 || schema->children == NULL)
		return esk_fail(
			err, ESK_EUNSUPPORTED, "column \"%s\" is a struct without fields", node->path);
	if (schema->n_children > ESK_MAX_COLUMNS)
		return esk_fail(err, ESK_ERANGE, "more than %d columns in \"%s\"", ESK_MAX_COLUMNS,
			at->map->tables[0].name);
	esk_status status = add_validity(at, node, err);
	char *prefix = esk_map_join(at->prefix, at->name);
	if (status == ESK_OK && prefix == NULL)
		status = esk_fail_memory(err, strlen(at->name), "a column's name");
	if (status == ESK_OK)
		status = add_children(node, (size_t)schema->n_children, err);
	for (size_t i = 0; i < node->child_count && status == ESK_OK; i++) {
		const struct ArrowSchema *field = schema->children[i];
		char *name = NULL;
		status = field != NULL ? esk_map_escape(field->name, &name, err)
				       : esk_fail(err, ESK_EINVAL, "a field of \"%s\" is NULL", node->path);
		spot below = {.map = at->map,
			.table = at->table,
			.prefix = prefix,
			.name = name,
			.schema = field,
			.nullable = field != NULL && (field->flags & ARROW_FLAG_NULLABLE) != 0,
			.depth = at->depth + 1};
		if (status == ESK_OK)
			status = make_node(&below, &node->children[i], err);
		else
			status = esk_fail_in(err, status, "field %zu%s%s", i, *prefix ? " of " : "", prefix);
		free(name);
	}
	free(prefix);
	return status;
}

static esk_status make_dictionary(const spot *at, esk_map_node *node, esk_error *err)
{
	esk_column column = {.dtype = {ESK_I32, 4}};
	esk_map *map = at->map;
	node->kind = ESK_MAP_DICTIONARY;
	if (node->type.kind != ESK_ARROW_SIGNED && node->type.kind != ESK_ARROW_UNSIGNED)
		return refuse(node, at->schema->format, err);
	esk_status status = add_column(at, "/codes", &column, &node->column, err);
	if (status == ESK_OK)
		status = add_validity(at, node, err);
	if (status == ESK_OK)
		status = add_table(map, map->tables[0].name, node->path, &node->child_table, err);
	if (status == ESK_OK)
		status = make_child(at, node, at->schema->dictionary, "categories", false, err);
	if (status != ESK_OK)
		return status;
	esk_map_kind kind = node->children[0].kind;
	bool single = kind == ESK_MAP_PLAIN || kind == ESK_MAP_TEXT || kind == ESK_MAP_DECIMAL ||
		      kind == ESK_MAP_BITS;
	if (!single || node->children[0].level_count > 0)
		return esk_fail(err, ESK_EUNSUPPORTED,
			"column \"%s\" is a dictionary of %s (\"%.40s\"), which Esker does not store",
			node->path, esk_arrow_format_name(at->schema->dictionary->format),
			at->schema->dictionary->format);
	return ESK_OK;
}

static char *path_of(const spot *at)
{
	char *name = esk_map_join(at->prefix, at->name);
	char *path = name != NULL ? esk_map_join(at->map->tables[at->table].below, name) : NULL;
	free(name);
	return path;
}

static esk_status make_node(const spot *at, esk_map_node *node, esk_error *err)
{
	*node = (esk_map_node){.nullable = at->nullable,
		.table = at->table,
		.column = ESK_MAP_NONE,
		.valid = ESK_MAP_NONE,
		.child_table = ESK_MAP_NONE,
		.items = 1,
		.path = path_of(at)};
	if (node->path == NULL)
		return esk_fail_memory(err, strlen(at->name), "a column's path");
	if (at->depth > ESK_ARROW_DEPTH)
		return esk_fail(err, ESK_EUNSUPPORTED, "column \"%.60s...\" is nested more than %d deep",
			node->path, ESK_ARROW_DEPTH);
	esk_status status = esk_arrow_type_parse(at->schema->format, &node->type, err);
	if (status != ESK_OK)
		return esk_fail_in(err, status, "column \"%s\"", node->path);
	if (at->schema->dictionary != NULL)
		return make_dictionary(at, node, err);
	switch (node->type.layout) {
	case ESK_ARROW_STRUCT:
		return make_struct(at, node, err);
	case ESK_ARROW_LIST:
	case ESK_ARROW_LARGE_LIST:
	case ESK_ARROW_MAP:
		return make_list(at, node, err);
	case ESK_ARROW_BINARY:
	case ESK_ARROW_LARGE_BINARY:
		return node->type.kind == ESK_ARROW_UTF8 ? make_leaf(at, node, err)
							 : make_list(at, node, err);
	default:
		return make_leaf(at, node, err);
	}
}

/* ---- the map ---- */

static void clear_node(esk_map_node *node)
{
	for (size_t i = 0; i < node->child_count; i++)
		clear_node(&node->children[i]);
	free(node->children);
	free(node->levels);
	free(node->path);
}

void esk_map_clear(esk_map *map)
{
	clear_node(&map->root);
	for (size_t t = 0; t < map->table_count; t++) {
		free(map->tables[t].name);
		free(map->tables[t].below);
		free(map->tables[t].columns);
	}
	free(map->tables);
	*map = (esk_map){0};
}

static esk_status check_names(const esk_map *map, esk_error *err)
{
	for (size_t t = 1; t < map->table_count; t++) {
		esk_status status = esk_column_name_check(map->tables[t].name, err);
		if (status != ESK_OK)
			return esk_fail_in(
				err, status, "the stream of column \"%.80s\"", map->tables[t].below);
	}
	return esk_map_check_apart(map, err);
}

esk_status esk_map_make(
	const char *stream, const struct ArrowSchema *schema, esk_map *ret_map, esk_error *err)
{
	uint32_t table;
	esk_map map = {0};
	if (strcmp(schema->format, "+s") != 0 || schema->n_children <= 0)
		return esk_fail(err, ESK_EINVAL,
			"the schema of record batches is a struct whose fields are the columns, and not "
			"\"%.40s\" with %lld fields",
			schema->format, (long long)schema->n_children);
	esk_status status = add_table(&map, stream, "", &table, err);
	spot top = {.map = &map, .table = table, .prefix = "", .name = "", .schema = schema};
	if (status == ESK_OK)
		status = make_node(&top, &map.root, err);
	if (status == ESK_OK)
		status = check_names(&map, err);
	if (status != ESK_OK) {
		esk_map_clear(&map);
		return status;
	}
	*ret_map = map;
	return ESK_OK;
}
