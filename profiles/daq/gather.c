/* Gathering record batches: a tree of growing buffers, one node for each field of the schema, that batches
 * are copied behind. Buffers are kept from one round to the next, so that a stream of small batches takes no
 * memory once it is under way. */
#include "gather.h"
#include <esker/profile.h>

#include <stdlib.h>
#include <string.h>

#define FIRST_BYTES 4096u

typedef enum node_kind {
	NODE_NULL,
	NODE_BITS,   /* one bit a row */
	NODE_FIXED,  /* `width` bytes a row */
	NODE_VAR32,  /* offsets and bytes */
	NODE_VAR64,  /* the same with 64-bit offsets */
	NODE_LIST32, /* offsets into the child */
	NODE_LIST64,
	NODE_EACH, /* `width` rows of the child a row */
	NODE_STRUCT
} node_kind;

typedef struct bytes {
	uint8_t *data;
	size_t size;
	size_t capacity;
} bytes;

typedef struct node {
	node_kind kind;
	uint64_t width;
	uint64_t length; /* rows */
	bool has_nulls;  /* `validity` holds a bit for each row */
	bytes validity, values, offsets;

	/* As before the batch that is being added. */
	uint64_t mark_length;
	bool mark_nulls;
	size_t mark_validity, mark_values, mark_offsets;

	size_t child_count;
	struct node **children;

	struct ArrowArray out;
	const void *buffers[3];
	struct ArrowArray **out_children;
} node;

struct esk_daq_gather {
	node *root;
};

/* ---- what a format means ---- */

static uint64_t number_behind(const char *text)
{
	return strtoull(text, NULL, 10);
}

/* Bits of a decimal's number: "d:19,10" has 128, "d:19,10,256" says so. */
static uint64_t decimal_bytes(const char *format)
{
	const char *comma = strchr(format, ',');
	const char *second = comma != NULL ? strchr(comma + 1, ',') : NULL;
	return second != NULL ? number_behind(second + 1) / 8 : 16;
}

static uint64_t temporal_bytes(const char *format)
{
	switch (format[1]) {
	case 'd':
		return format[2] == 'D' ? 4 : 8;
	case 't':
		return format[2] == 's' || format[2] == 'm' ? 4 : 8;
	case 'i':
		return format[2] == 'M' ? 4 : format[2] == 'D' ? 8 : 16;
	default: /* timestamps and durations */
		return 8;
	}
}

static bool take_nested(node *n, const char *format)
{
	switch (format[1]) {
	case 's':
		n->kind = NODE_STRUCT;
		return true;
	case 'l':
	case 'm': /* a map is a list of entries */
		n->kind = NODE_LIST32;
		return true;
	case 'L':
		n->kind = NODE_LIST64;
		return true;
	case 'w':
		n->kind = NODE_EACH;
		n->width = number_behind(format + 3);
		return true;
	default:
		return false;
	}
}

/* False where rows of the format cannot be gathered. */
static bool take_format(node *n, const char *format)
{
	static const char *const widths[] = {"cC", "sSe", "iIf", "lLg"};
	for (unsigned i = 0; i < 4; i++)
		if (format[0] != '\0' && format[1] == '\0' && strchr(widths[i], format[0]) != NULL) {
			n->kind = NODE_FIXED;
			n->width = 1u << i;
			return true;
		}
	switch (format[0]) {
	case 'n':
		n->kind = NODE_NULL;
		return true;
	case 'b':
		n->kind = NODE_BITS;
		return true;
	case 'u':
	case 'z':
		n->kind = NODE_VAR32;
		return true;
	case 'U':
	case 'Z':
		n->kind = NODE_VAR64;
		return true;
	case 'w':
		n->kind = NODE_FIXED;
		n->width = number_behind(format + 2);
		return true;
	case 'd':
		n->kind = NODE_FIXED;
		n->width = decimal_bytes(format);
		return true;
	case 't':
		n->kind = NODE_FIXED;
		n->width = temporal_bytes(format);
		return true;
	case '+':
		return take_nested(n, format);
	default:
		return false;
	}
}

/* ---- the tree ---- */

static void destroy_node(node *n)
{
	if (n == NULL)
		return;
	for (size_t i = 0; n->children != NULL && i < n->child_count; i++)
		destroy_node(n->children[i]);
	free(n->children);
	free(n->out_children);
	free(n->validity.data);
	free(n->values.data);
	free(n->offsets.data);
	free(n);
}

static esk_status make_node(
	const struct ArrowSchema *schema, node **ret_node, bool *possible, esk_error *err);

static esk_status make_children(node *n, const struct ArrowSchema *schema, bool *possible, esk_error *err)
{
	size_t count = (size_t)schema->n_children;
	n->children = calloc(count + 1, sizeof *n->children);
	n->out_children = calloc(count + 1, sizeof *n->out_children);
	if (n->children == NULL || n->out_children == NULL)
		return esk_fail_memory(err, 2 * (count + 1) * sizeof *n->children, "fields of a schema");
	n->child_count = count;
	esk_status status = ESK_OK;
	for (size_t i = 0; i < count && *possible && status == ESK_OK; i++) {
		status = make_node(schema->children[i], &n->children[i], possible, err);
		if (n->children[i] != NULL)
			n->out_children[i] = &n->children[i]->out;
	}
	return status;
}

static esk_status make_node(const struct ArrowSchema *schema, node **ret_node, bool *possible, esk_error *err)
{
	node *n = calloc(1, sizeof *n);
	if (n == NULL)
		return esk_fail_memory(err, sizeof *n, "a field of a schema");
	*ret_node = n;
	*possible = schema->dictionary == NULL && take_format(n, schema->format);
	return *possible ? make_children(n, schema, possible, err) : ESK_OK;
}

esk_status esk_daq_gather_create(
	const struct ArrowSchema *schema, esk_daq_gather **ret_gather, esk_error *err)
{
	bool possible = true;
	esk_daq_gather *gather = calloc(1, sizeof *gather);
	if (gather == NULL)
		return esk_fail_memory(err, sizeof *gather, "a gathering of batches");
	esk_status status = make_node(schema, &gather->root, &possible, err);
	if (status != ESK_OK || !possible || gather->root->kind != NODE_STRUCT) {
		esk_daq_gather_destroy(gather);
		gather = NULL;
	}
	if (status == ESK_OK)
		*ret_gather = gather;
	return status;
}

void esk_daq_gather_destroy(esk_daq_gather *gather)
{
	if (gather == NULL)
		return;
	destroy_node(gather->root);
	free(gather);
}

/* ---- growing ---- */

static esk_status grow(bytes *b, size_t more, esk_error *err)
{
	if (more <= b->capacity - b->size)
		return ESK_OK;
	size_t capacity = b->capacity == 0 ? FIRST_BYTES : b->capacity;
	while (capacity - b->size < more) {
		if (capacity > SIZE_MAX / 2)
			return esk_fail_memory(err, more, "gathered batches");
		capacity *= 2;
	}
	uint8_t *grown = realloc(b->data, capacity);
	if (grown == NULL)
		return esk_fail_memory(err, capacity, "gathered batches");
	b->data = grown;
	b->capacity = capacity;
	return ESK_OK;
}

static esk_status put_bytes(bytes *b, const void *from, size_t size, esk_error *err)
{
	esk_status status = grow(b, size, err);
	if (status != ESK_OK || size == 0)
		return status;
	memcpy(b->data + b->size, from, size);
	b->size += size;
	return ESK_OK;
}

static inline bool bit_at(const uint8_t *bits, uint64_t i)
{
	return (bits[i / 8] >> (i % 8)) & 1;
}

/* Puts `count` bits behind the `have` that are there: from `from` at bit `first`, or ones where it is NULL.
 */
static esk_status put_bits(
	bytes *b, uint64_t have, const uint8_t *from, uint64_t first, uint64_t count, esk_error *err)
{
	size_t size = (size_t)((have + count + 7) / 8);
	esk_status status = size > b->size ? grow(b, size - b->size, err) : ESK_OK;
	if (status != ESK_OK)
		return status;
	if (size > b->size)
		memset(b->data + b->size, 0, size - b->size);
	b->size = size;
	uint64_t i = 0;
	if (have % 8 == 0 && first % 8 == 0) { /* whole bytes */
		uint64_t whole = count / 8;
		if (whole > 0 && from != NULL)
			memcpy(b->data + have / 8, from + first / 8, (size_t)whole);
		else if (whole > 0)
			memset(b->data + have / 8, 0xFF, (size_t)whole);
		i = 8 * whole;
	}
	for (; i < count; i++) {
		uint8_t mask = (uint8_t)(1u << ((have + i) % 8));
		if (from == NULL || bit_at(from, first + i))
			b->data[(have + i) / 8] |= mask;
		else
			b->data[(have + i) / 8] &= (uint8_t)~mask;
	}
	return ESK_OK;
}

/* ---- adding ---- */

static esk_status add_validity(
	node *n, const struct ArrowArray *array, uint64_t first, uint64_t rows, esk_error *err)
{
	const uint8_t *bits = array->n_buffers > 0 && array->null_count != 0 ? array->buffers[0] : NULL;
	if (n->kind == NODE_NULL || (bits == NULL && !n->has_nulls))
		return ESK_OK;
	esk_status status = ESK_OK;
	if (!n->has_nulls) /* the first missing cell: those before it are there */
		status = put_bits(&n->validity, 0, NULL, 0, n->length, err);
	n->has_nulls = true;
	return status == ESK_OK ? put_bits(&n->validity, n->length, bits, first, rows, err) : status;
}

static uint64_t offset_at(const node *n, const void *offsets, uint64_t i)
{
	bool wide = n->kind == NODE_VAR64 || n->kind == NODE_LIST64;
	return wide ? (uint64_t)((const int64_t *)offsets)[i] : (uint64_t)((const int32_t *)offsets)[i];
}

/* Puts the ends of `rows` rows, whose offsets begin at `from`, as they are when the first begins at `base`.
 */
static esk_status put_ends(
	node *n, const void *from, uint64_t first, uint64_t rows, uint64_t base, esk_error *err)
{
	bool wide = n->kind == NODE_VAR64 || n->kind == NODE_LIST64;
	size_t each = wide ? 8 : 4;
	uint64_t begin = offset_at(n, from, first);
	uint64_t last = offset_at(n, from, first + rows) - begin + base;
	if (!wide && last > INT32_MAX)
		return esk_fail(err, ESK_ERANGE, "gathered batches: 32-bit offsets do not reach to %llu",
			(unsigned long long)last);
	esk_status status = grow(&n->offsets, (size_t)(rows + 1) * each, err);
	if (status != ESK_OK)
		return status;
	if (n->offsets.size == 0) { /* the offset in front of all */
		memset(n->offsets.data, 0, each);
		n->offsets.size = each;
	}
	uint8_t *to = n->offsets.data + n->offsets.size;
	for (uint64_t i = 1; i <= rows; i++, to += each) {
		uint64_t end = offset_at(n, from, first + i) - begin + base;
		if (wide)
			memcpy(to, &end, 8);
		else
			memcpy(to, &(int32_t){(int32_t)end}, 4);
	}
	n->offsets.size += (size_t)rows * each;
	return ESK_OK;
}

static esk_status add_rows(
	node *n, const struct ArrowArray *array, uint64_t first, uint64_t rows, esk_error *err);

static esk_status add_var(
	node *n, const struct ArrowArray *array, uint64_t first, uint64_t rows, esk_error *err)
{
	if (rows == 0)
		return ESK_OK;
	uint64_t begin = offset_at(n, array->buffers[1], first);
	uint64_t end = offset_at(n, array->buffers[1], first + rows);
	esk_status status = put_ends(n, array->buffers[1], first, rows, n->values.size, err);
	if (status != ESK_OK || end == begin)
		return status;
	return put_bytes(&n->values, (const uint8_t *)array->buffers[2] + begin, (size_t)(end - begin), err);
}

static esk_status add_list(
	node *n, const struct ArrowArray *array, uint64_t first, uint64_t rows, esk_error *err)
{
	if (rows == 0)
		return ESK_OK;
	uint64_t begin = offset_at(n, array->buffers[1], first);
	uint64_t end = offset_at(n, array->buffers[1], first + rows);
	esk_status status = put_ends(n, array->buffers[1], first, rows, n->children[0]->length, err);
	return status == ESK_OK ? add_rows(n->children[0], array->children[0], begin, end - begin, err)
				: status;
}

/* Rows [first, first + rows) of the array, counted without its offset. */
static esk_status add_rows(
	node *n, const struct ArrowArray *array, uint64_t first, uint64_t rows, esk_error *err)
{
	uint64_t at = (uint64_t)array->offset + first;
	esk_status status = add_validity(n, array, at, rows, err);
	if (status != ESK_OK)
		return status;
	switch (n->kind) {
	case NODE_NULL:
		break;
	case NODE_BITS:
		status = put_bits(&n->values, n->length, rows > 0 ? array->buffers[1] : NULL, at, rows, err);
		break;
	case NODE_FIXED:
		if (rows > 0)
			status = put_bytes(&n->values, (const uint8_t *)array->buffers[1] + at * n->width,
				(size_t)(rows * n->width), err);
		break;
	case NODE_VAR32:
	case NODE_VAR64:
		status = add_var(n, array, at, rows, err);
		break;
	case NODE_LIST32:
	case NODE_LIST64:
		status = add_list(n, array, at, rows, err);
		break;
	case NODE_EACH:
		status = add_rows(n->children[0], array->children[0], at * n->width, rows * n->width, err);
		break;
	case NODE_STRUCT:
		for (size_t i = 0; i < n->child_count && status == ESK_OK; i++)
			status = add_rows(n->children[i], array->children[i], at, rows, err);
		break;
	}
	if (status == ESK_OK)
		n->length += rows;
	return status;
}

static void mark(node *n)
{
	n->mark_length = n->length;
	n->mark_nulls = n->has_nulls;
	n->mark_validity = n->validity.size;
	n->mark_values = n->values.size;
	n->mark_offsets = n->offsets.size;
	for (size_t i = 0; i < n->child_count; i++)
		mark(n->children[i]);
}

static void go_back(node *n)
{
	n->length = n->mark_length;
	n->has_nulls = n->mark_nulls;
	n->validity.size = n->mark_validity;
	n->values.size = n->mark_values;
	n->offsets.size = n->mark_offsets;
	for (size_t i = 0; i < n->child_count; i++)
		go_back(n->children[i]);
}

esk_status esk_daq_gather_add(esk_daq_gather *gather, const struct ArrowArray *batch, esk_error *err)
{
	mark(gather->root);
	esk_status status = add_rows(gather->root, batch, 0, (uint64_t)batch->length, err);
	if (status != ESK_OK)
		go_back(gather->root);
	return status;
}

uint64_t esk_daq_gather_rows(const esk_daq_gather *gather)
{
	return gather->root->length;
}

static uint64_t node_bytes(const node *n)
{
	uint64_t sum = n->validity.size + n->values.size + n->offsets.size;
	for (size_t i = 0; i < n->child_count; i++)
		sum += node_bytes(n->children[i]);
	return sum;
}

uint64_t esk_daq_gather_bytes(const esk_daq_gather *gather)
{
	return node_bytes(gather->root);
}

/* ---- what was gathered ---- */

static void release_nothing(struct ArrowArray *array)
{
	array->release = NULL;
}

static void expose(node *n)
{
	static const int64_t zero =
		0; /* what buffers of no bytes point to, and the offset in front of no rows */
	static const int64_t buffer_counts[] = {0, 2, 2, 3, 3, 2, 2, 1, 1};
	const void *values = n->values.data != NULL ? n->values.data : (const void *)&zero;
	const void *offsets = n->offsets.size > 0 ? n->offsets.data : (const void *)&zero;
	bool var = n->kind == NODE_VAR32 || n->kind == NODE_VAR64;
	bool list = n->kind == NODE_LIST32 || n->kind == NODE_LIST64;
	n->buffers[0] = n->has_nulls ? n->validity.data : NULL;
	n->buffers[1] = var || list ? offsets : values;
	n->buffers[2] = values;
	n->out = (struct ArrowArray){
		.length = (int64_t)n->length,
		.null_count = n->kind == NODE_NULL ? (int64_t)n->length
			      : n->has_nulls       ? -1
						   : 0,
		.n_buffers = buffer_counts[n->kind],
		.n_children = (int64_t)n->child_count,
		.buffers = n->buffers,
		.children = n->out_children,
		.release = release_nothing,
	};
	for (size_t i = 0; i < n->child_count; i++)
		expose(n->children[i]);
}

const struct ArrowArray *esk_daq_gather_batch(esk_daq_gather *gather)
{
	expose(gather->root);
	return &gather->root->out;
}

static void empty(node *n)
{
	n->length = 0;
	n->has_nulls = false;
	n->validity.size = n->values.size = n->offsets.size = 0;
	for (size_t i = 0; i < n->child_count; i++)
		empty(n->children[i]);
}

void esk_daq_gather_empty(esk_daq_gather *gather)
{
	empty(gather->root);
}

/* ---- sizes ---- */

static uint64_t children_bytes(
	const struct ArrowSchema *schema, const struct ArrowArray *array, uint64_t first, uint64_t rows)
{
	uint64_t sum = 0;
	for (int64_t i = 0; i < schema->n_children; i++)
		sum += esk_daq_array_bytes(schema->children[i], array->children[i], first, rows);
	return sum;
}

uint64_t esk_daq_array_bytes(
	const struct ArrowSchema *schema, const struct ArrowArray *array, uint64_t first, uint64_t rows)
{
	node n = {0};
	uint64_t at = (uint64_t)array->offset + first;
	uint64_t bits = (rows + 7) / 8;
	if (rows == 0 || !take_format(&n, schema->format))
		return 0;
	uint64_t sum = array->n_buffers > 0 && array->buffers[0] != NULL ? bits : 0;
	switch (n.kind) {
	case NODE_NULL:
		return 0;
	case NODE_BITS:
		return sum + bits;
	case NODE_FIXED:
		return sum + rows * n.width;
	case NODE_STRUCT:
		return sum + children_bytes(schema, array, at, rows);
	case NODE_EACH:
		return sum + children_bytes(schema, array, at * n.width, rows * n.width);
	default:
		break;
	}
	bool wide = n.kind == NODE_VAR64 || n.kind == NODE_LIST64;
	uint64_t begin = offset_at(&n, array->buffers[1], at);
	uint64_t inner = offset_at(&n, array->buffers[1], at + rows) - begin;
	sum += (rows + 1) * (wide ? 8 : 4);
	return sum + (schema->n_children > 0 ? children_bytes(schema, array, begin, inner) : inner);
}
