/* The Arrow schema of columns that were not made from one. */
#include "store/arrow_read.h"

#include "arrow/schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- which columns ---- */

/* The columns of a stream, or the datasets of a group. */
typedef struct found {
	char (*names)[2 * ESK_MAX_NAME + 16]; /* within the stream */
	esk_dataset **datasets;
	size_t count;
} found;

typedef struct column_search {
	esk_reader *reader;
	const char *stream;
	found *found;
} column_search;

static esk_status add_found(found *f, const char *name, esk_dataset *dataset, esk_error *err)
{
	void *names = realloc(f->names, (f->count + 1) * sizeof *f->names);
	if (names != NULL)
		f->names = names;
	esk_dataset **datasets = realloc(f->datasets, (f->count + 1) * sizeof(esk_dataset *));
	if (datasets != NULL)
		f->datasets = datasets;
	if (names == NULL || datasets == NULL)
		return esk_fail_memory(err, (f->count + 1) * sizeof *f->names, "columns");
	snprintf(f->names[f->count], sizeof *f->names, "%s", name);
	f->datasets[f->count++] = dataset;
	return ESK_OK;
}

static void clear_found(found *f)
{
	free(f->names);
	free(f->datasets);
	*f = (found){0};
}

/* The reader's state is held: esk_reader_find is not to be called. */
static esk_dataset *dataset_at(const esk_reader *reader, const char *path)
{
	for (size_t i = 0; i < reader->dataset_count; i++)
		if (strcmp(reader->datasets[i]->path, path) == 0)
			return reader->datasets[i];
	return NULL;
}

static esk_status take_stream(const column_search *s, const esk_segment_stream *stream, esk_error *err)
{
	esk_status status = ESK_OK;
	for (size_t c = 0; c < stream->column_count && status == ESK_OK; c++) {
		char path[2 * ESK_MAX_NAME + 16];
		esk_segment_column_path(stream->name, stream->columns[c].name, false, path, sizeof path);
		esk_dataset *dataset = dataset_at(s->reader, path);
		status = dataset != NULL ? add_found(s->found, stream->columns[c].name, dataset, err)
					 : esk_fail(err, ESK_ENOTFOUND, "there is no dataset \"%s\"", path);
	}
	return status;
}

/* Datasets right in the group. */
static esk_status take_group(const column_search *s, esk_error *err)
{
	bool root = strcmp(s->stream, "/") == 0;
	size_t size = root ? 0 : strlen(s->stream);
	esk_status status = ESK_OK;
	for (size_t i = 0; i < s->reader->dataset_count && status == ESK_OK; i++) {
		esk_dataset *dataset = s->reader->datasets[i];
		const char *path = dataset->path;
		if (!root && (strncmp(path, s->stream, size) != 0 || path[size] != '/'))
			continue;
		const char *name = path + size + !root;
		if (strchr(name, '/') == NULL && !dataset->scalar)
			status = add_found(s->found, name, dataset, err);
	}
	return status;
}

static esk_status search_columns(void *arg, esk_error *err)
{
	const column_search *s = arg;
	esk_segment_stream *streams = NULL;
	esk_segment_head head;
	size_t count = 0;
	clear_found(s->found); /* of a try before */
	if (s->reader->segment_count == 0)
		return ESK_OK;
	esk_h5 *file = s->reader->segments[s->reader->segment_count - 1].file;
	esk_status status = esk_segment_read_head(file, &head, err);
	if (status == ESK_ENOTFOUND)
		return take_group(s, err);
	if (status == ESK_OK)
		status = esk_segment_read_streams(file, &streams, &count, err);
	for (size_t i = 0; i < count && status == ESK_OK; i++)
		if (strcmp(streams[i].name, s->stream) == 0)
			status = take_stream(s, &streams[i], err);
	esk_segment_streams_free(streams, count);
	return status == ESK_OK && s->found->count == 0 ? take_group(s, err) : status;
}

static esk_status check_found(const found *f, const char *stream, esk_error *err)
{
	if (f->count == 0)
		return esk_fail(err, ESK_ENOTFOUND,
			"there is no stream \"%s\", nor datasets in a group of that name", stream);
	for (size_t i = 0; i < f->count; i++) {
		if (!f->datasets[i]->readable)
			return esk_fail(err, ESK_EUNSUPPORTED, "\"%s\" has a type that Esker does not read",
				f->datasets[i]->path);
		if (esk_dataset_rows(f->datasets[i]) != esk_dataset_rows(f->datasets[0]))
			return esk_fail(err, ESK_ESHAPE,
				"\"%s\" has %llu rows, \"%s\" has %llu: they are no columns of one table",
				f->datasets[0]->path, (unsigned long long)esk_dataset_rows(f->datasets[0]),
				f->datasets[i]->path, (unsigned long long)esk_dataset_rows(f->datasets[i]));
	}
	return ESK_OK;
}

/* ---- metadata as the C data interface encodes it ---- */

typedef struct pairs {
	char *data;
	size_t size;
	bool failed;
} pairs;

static void add_bytes(pairs *p, const void *bytes, size_t size)
{
	char *grown = p->failed ? NULL : realloc(p->data, p->size + size + 1);
	if (grown == NULL) {
		p->failed = true;
		return;
	}
	p->data = grown;
	memcpy(grown + p->size, bytes, size);
	p->size += size;
}

static void add_pair(pairs *p, const char *key, const char *value)
{
	int32_t count = 0, sizes[2] = {(int32_t)strlen(key), (int32_t)strlen(value)};
	if (*value == '\0')
		return;
	if (p->size == 0)
		add_bytes(p, &count, sizeof count);
	add_bytes(p, &sizes[0], sizeof sizes[0]);
	add_bytes(p, key, strlen(key));
	add_bytes(p, &sizes[1], sizeof sizes[1]);
	add_bytes(p, value, strlen(value));
	if (p->failed)
		return;
	memcpy(&count, p->data, sizeof count);
	count++;
	memcpy(p->data, &count, sizeof count);
}

/* ---- a column's field ---- */

static const char *format_of(esk_dtype dtype)
{
	switch (dtype.kind) {
	case ESK_BOOL:
		return "b";
	case ESK_I8:
		return "c";
	case ESK_I16:
		return "s";
	case ESK_I32:
		return "i";
	case ESK_I64:
		return "l";
	case ESK_U8:
		return "C";
	case ESK_U16:
		return "S";
	case ESK_U32:
		return "I";
	case ESK_U64:
		return "L";
	case ESK_F16:
		return "e";
	case ESK_F32:
	case ESK_C64:
		return "f";
	case ESK_F64:
	case ESK_C128:
		return "g";
	default:
		return "u";
	}
}

/* The cell's shape as Arrow sees it: complex numbers are two reals. */
static uint32_t shape_of(const esk_column *column, uint64_t *ret_shape)
{
	uint32_t rank = column->rank;
	memcpy(ret_shape, column->shape, rank * sizeof *ret_shape);
	if (column->dtype.kind == ESK_C64 || column->dtype.kind == ESK_C128)
		ret_shape[rank++] = 2;
	return rank;
}

static bool is_text(const esk_column *column)
{
	return column->dtype.kind == ESK_STRING || column->dtype.kind == ESK_STRING_N;
}

/* Fixed-size lists of `sizes`, around the element. */
static esk_status make_lists(struct ArrowSchema *schema, const esk_arrow_field *outer, const uint64_t *sizes,
	uint32_t count, const char *element, esk_error *err)
{
	char format[32];
	esk_arrow_field field = *outer;
	for (uint32_t i = 0; i <= count; i++) {
		if (i < count)
			snprintf(format, sizeof format, "+w:%llu", (unsigned long long)sizes[i]);
		field.format = i < count ? format : element;
		field.children = i < count;
		esk_status status = esk_arrow_schema_make(schema, &field, err);
		if (status != ESK_OK)
			return status;
		if (i < count)
			schema = schema->children[0];
		field = (esk_arrow_field){.name = "item", .name_bytes = 4};
	}
	return ESK_OK;
}

static void describe_tensor(pairs *metadata, const uint64_t *shape, uint32_t rank)
{
	char text[64 + ESK_MAX_RANK * 24];
	size_t at = (size_t)snprintf(text, sizeof text, "{\"shape\":[");
	for (uint32_t i = 0; i < rank; i++)
		at += (size_t)snprintf(text + at, sizeof text - at, "%s%llu", i > 0 ? "," : "",
			(unsigned long long)shape[i]);
	snprintf(text + at, sizeof text - at, "]}");
	add_pair(metadata, "ARROW:extension:name", "arrow.fixed_shape_tensor");
	add_pair(metadata, "ARROW:extension:metadata", text);
}

static esk_status make_field(
	const char *name, const esk_dataset *dataset, struct ArrowSchema *ret_schema, esk_error *err)
{
	const esk_column *column = &dataset->column;
	uint64_t shape[ESK_MAX_RANK + 1], product = 1;
	uint32_t rank = shape_of(column, shape);
	pairs metadata = {0};
	bool tensor = rank > 1 && !is_text(column);
	for (uint32_t i = 0; i < rank; i++)
		if (!esk_mul_u64(product, shape[i], &product) || product > INT32_MAX || shape[i] == 0 ||
			rank > ESK_MAX_RANK)
			return esk_fail(err, ESK_EUNSUPPORTED,
				"\"%s\": Arrow has no cells of that many items", dataset->path);
	if (tensor)
		describe_tensor(&metadata, shape, rank);
	if (column->dtype.kind == ESK_C64 || column->dtype.kind == ESK_C128)
		add_pair(&metadata, "esker:dtype", column->dtype.kind == ESK_C64 ? "c64" : "c128");
	add_pair(&metadata, "units", column->units);
	add_pair(&metadata, "long_name", column->long_name);
	esk_arrow_field field = {.name = name,
		.name_bytes = strlen(name),
		.metadata = metadata.data,
		.metadata_bytes = metadata.size,
		.flags = column->nullable ? ARROW_FLAG_NULLABLE : 0};
	struct ArrowSchema made = {0};
	esk_status status = metadata.failed ? esk_fail_memory(err, metadata.size, "metadata")
					    : make_lists(&made, &field, tensor ? &product : shape,
						      tensor ? 1 : rank, format_of(column->dtype), err);
	free(metadata.data);
	if (status != ESK_OK) {
		if (made.release != NULL)
			made.release(&made);
		return status;
	}
	*ret_schema = made;
	return ESK_OK;
}

/* ---- structs of columns in groups ---- */

/* A range of the columns, by name, whose names have the same beginning. */
typedef struct group {
	const found *found;
	const size_t *order; /* by name */
	size_t begin, end;
	size_t depth;          /* bytes of the names that are the group's */
	esk_dataset **ordered; /* of all leaves so far */
	size_t *leaves;
} group;

static const char *name_at(const group *g, size_t i)
{
	return g->found->names[g->order[i]] + g->depth;
}

/* Where the field that begins with column i ends; *ret_size: bytes of its name, and whether it is a group. */
static size_t field_end(const group *g, size_t i, size_t *ret_size, bool *ret_group)
{
	const char *name = name_at(g, i);
	size_t size = strcspn(name, "/"), end = i + 1;
	*ret_size = size;
	*ret_group = name[size] == '/';
	while (*ret_group && end < g->end && strncmp(name_at(g, end), name, size + 1) == 0)
		end++;
	return end;
}

static esk_status make_group(
	const group *g, const char *name, struct ArrowSchema *ret_schema, esk_error *err);

static esk_status make_one(const group *g, size_t i, struct ArrowSchema *ret_schema, esk_error *err)
{
	size_t size;
	bool is_group;
	size_t end = field_end(g, i, &size, &is_group);
	char escaped[2 * ESK_MAX_NAME + 16];
	snprintf(escaped, sizeof escaped, "%.*s", (int)size, name_at(g, i));
	char *name = esk_map_unescape(escaped);
	if (name == NULL)
		return esk_fail_memory(err, size, "a column's name");
	esk_status status;
	if (is_group) {
		group below = *g;
		below.begin = i;
		below.end = end;
		below.depth += size + 1;
		status = make_group(&below, name, ret_schema, err);
	} else {
		esk_dataset *dataset = g->found->datasets[g->order[i]];
		g->ordered[(*g->leaves)++] = dataset;
		status = make_field(name, dataset, ret_schema, err);
	}
	free(name);
	return status;
}

static esk_status make_group(const group *g, const char *name, struct ArrowSchema *ret_schema, esk_error *err)
{
	size_t size;
	bool is_group;
	struct ArrowSchema schema = {0};
	esk_arrow_field field = {.format = "+s", .name = name, .name_bytes = strlen(name)};
	for (size_t i = g->begin; i < g->end; i = field_end(g, i, &size, &is_group))
		field.children++;
	esk_status status = esk_arrow_schema_make(&schema, &field, err);
	if (status != ESK_OK)
		return status;
	int64_t child = 0;
	for (size_t i = g->begin; i < g->end && status == ESK_OK; i = field_end(g, i, &size, &is_group))
		status = make_one(g, i, schema.children[child++], err);
	if (status != ESK_OK)
		schema.release(&schema);
	else
		*ret_schema = schema;
	return status;
}

/* Columns in their order, but those of a group right behind its first. */
static void put_in_order(const found *f, size_t *order)
{
	size_t count = 0;
	for (size_t i = 0; i < f->count; i++) {
		size_t at = count;
		/* Behind the last that shares the longest beginning of whole names with it. */
		size_t best = 0;
		for (size_t k = 0; k < count; k++) {
			const char *a = f->names[i], *b = f->names[order[k]];
			size_t shared = 0;
			for (size_t c = 0; a[c] != '\0' && a[c] == b[c]; c++)
				shared = a[c] == '/' ? c + 1 : shared;
			if (shared > 0 && shared >= best) {
				best = shared;
				at = k + 1;
			}
		}
		memmove(order + at + 1, order + at, (count - at) * sizeof *order);
		order[at] = i;
		count++;
	}
}

esk_status esk_columns_schema(esk_reader *reader, const char *stream, struct ArrowSchema *ret_schema,
	esk_dataset ***ret_datasets, esk_error *err)
{
	found f = {0};
	size_t leaves = 0;
	esk_status status =
		esk_reader_read(reader, search_columns, &(column_search){reader, stream, &f}, err);
	if (status == ESK_OK)
		status = check_found(&f, stream, err);
	size_t *order = calloc(f.count + 1, sizeof *order);
	esk_dataset **ordered = calloc(f.count + 1, sizeof *ordered);
	if (status == ESK_OK && (order == NULL || ordered == NULL))
		status = esk_fail_memory(err, f.count * sizeof *order, "columns");
	if (status == ESK_OK) {
		put_in_order(&f, order);
		group all = {
			.found = &f, .order = order, .end = f.count, .ordered = ordered, .leaves = &leaves};
		status = make_group(&all, "", ret_schema, err);
	}
	free(order);
	clear_found(&f);
	if (status == ESK_OK)
		*ret_datasets = ordered;
	else
		free(ordered);
	return status;
}
