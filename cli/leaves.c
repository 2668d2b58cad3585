/* Leaves and their space: see leaves.h. The JSON is that of minari.serialization. */
#include "leaves.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BOUNDS_MOST 64 /* of a vector, that are taken from what the run tells */
#define SCAN_BYTES (1u << 20)
#define DISCRETE_MOST (INT64_C(1) << 31) /* beyond, numbers are no choices: a Box */
#define IMAGE_SIDE 32                    /* from here on Minari takes 8-bit cells for images */

/* ---- finding ---- */

static int scan_range(cli_leaf *leaf)
{
	uint64_t piece = cli_rows_piece(&leaf->rows, SCAN_BYTES);
	esk_dtype dtype = leaf->rows.info.column.dtype;
	bool any = false;
	for (uint64_t row = 0; row < leaf->rows.info.rows; row += piece) {
		uint64_t left = leaf->rows.info.rows - row;
		int code = cli_rows_load(&leaf->rows, row, 1, left < piece ? left : piece);
		if (code != CLI_OK)
			return code;
		for (uint64_t k = 0; k < leaf->rows.count; k++) {
			const void *cell = cli_rows_cell(&leaf->rows, k);
			int64_t value = cell != NULL ? (int64_t)cli_real(dtype, cell) : 0;
			leaf->least = !any || value < leaf->least ? value : leaf->least;
			leaf->greatest = !any || value > leaf->greatest ? value : leaf->greatest;
			any = true;
		}
	}
	leaf->least =
		leaf->least > 0 ? 0 : leaf->least; /* actions count from 0, whether it was taken or not */
	leaf->discrete = leaf->greatest < DISCRETE_MOST && leaf->least > -DISCRETE_MOST;
	return CLI_OK;
}

/* Truth values go as bytes: Gymnasium's spaces have no bool. */
static int describe(cli_leaf *leaf)
{
	char type[512];
	leaf->column = leaf->rows.info.column;
	leaf->column.nullable = false;
	leaf->column.codec[0] = '\0';
	cli_format_type(&leaf->column, type, sizeof type);
	if (!cli_is_number(leaf->column.dtype))
		return cli_fail("%s: %s has no space in Gymnasium; numbers and truth values have",
			leaf->rows.info.path, type);
	esk_kind kind = leaf->column.dtype.kind;
	leaf->discrete = leaf->column.rank == 0 && kind >= ESK_BOOL && kind <= ESK_U64;
	if (kind == ESK_BOOL)
		leaf->column.dtype.kind = ESK_I8;
	return leaf->discrete ? scan_range(leaf) : CLI_OK;
}

static const char *below(const char *path, const char *root)
{
	size_t size = strlen(root);
	if (strncmp(path, root, size) != 0 || (path[size] != '\0' && path[size] != '/'))
		return NULL;
	return path[size] == '/' ? path + size + 1 : path + size;
}

static int add_leaf(cli_leaves *leaves, esk_dataset *dataset, const esk_dataset_info *info, uint64_t rows)
{
	if (leaves->count == CLI_LEAVES_MOST)
		return cli_fail("/%s: more than %d leaves", leaves->root, CLI_LEAVES_MOST);
	cli_buf found, steps;
	if (info->rows < rows)
		return cli_fail("/%s: %s for %s", info->path, cli_counted(info->rows, "row", &found),
			cli_counted(rows, "step", &steps));
	cli_leaf *leaf = &leaves->leaves[leaves->count++];
	int code = cli_rows_open(dataset, &leaf->rows);
	leaf->path = below(leaf->rows.info.path, leaves->root);
	return code == CLI_OK ? describe(leaf) : code;
}

int cli_leaves_open(
	esk_reader *reader, const char *root, uint64_t rows, bool optional, cli_leaves *ret_leaves)
{
	memset(ret_leaves, 0, sizeof *ret_leaves);
	ret_leaves->root = root;
	int code = CLI_OK;
	for (size_t i = 0; i < esk_reader_dataset_count(reader) && code == CLI_OK; i++) {
		esk_dataset *dataset = esk_reader_dataset_at(reader, i);
		esk_dataset_info info = {.struct_size = sizeof info};
		esk_error err = {0};
		if (esk_dataset_get_info(dataset, &info, &err) != ESK_OK)
			return cli_fail_with(&err);
		if (below(info.path, root) != NULL)
			code = add_leaf(ret_leaves, dataset, &info, rows);
	}
	if (code == CLI_OK && ret_leaves->count == 0 && !optional)
		code = cli_fail("the run has no /%s", root);
	return code;
}

void cli_leaves_close(cli_leaves *leaves)
{
	for (size_t i = 0; i < leaves->count; i++)
		cli_rows_close(&leaves->leaves[i].rows);
	leaves->count = 0;
}

bool cli_leaves_have_images(const cli_leaves *leaves)
{
	for (size_t i = 0; i < leaves->count; i++) {
		const esk_column *c = &leaves->leaves[i].column;
		if (c->dtype.kind == ESK_U8 && (c->rank == 2 || c->rank == 3) && c->shape[0] >= IMAGE_SIDE &&
			c->shape[1] >= IMAGE_SIDE)
			return true;
	}
	return false;
}

/* ---- the tree ---- */

/* The name that `path` has behind the `depth` first parts; *ret_size is its length. NULL where it ends
 * before. */
static const char *part(const char *path, size_t depth, size_t *ret_size)
{
	for (; depth > 0 && path != NULL; depth--) {
		path = strchr(path, '/');
		path = path != NULL ? path + 1 : NULL;
	}
	if (path == NULL || path[0] == '\0')
		return NULL;
	*ret_size = strcspn(path, "/");
	return path;
}

/* True if both paths have the same `depth` first parts. */
static bool same_branch(const char *a, const char *b, size_t depth)
{
	for (size_t d = 0; d < depth; d++) {
		size_t size_a, size_b;
		const char *name_a = part(a, d, &size_a), *name_b = part(b, d, &size_b);
		if (name_a == NULL || name_b == NULL || size_a != size_b ||
			memcmp(name_a, name_b, size_a) != 0)
			return false;
	}
	return true;
}

/* The members of the branch that leaf `of` is on at `depth`, each by the first of its leaves: their number.
 */
static size_t members(const cli_leaves *leaves, size_t of, size_t depth, size_t ret_leaves[CLI_LEAVES_MOST])
{
	size_t count = 0;
	for (size_t i = 0; i < leaves->count; i++) {
		bool is_new = same_branch(leaves->leaves[i].path, leaves->leaves[of].path, depth);
		for (size_t k = 0; k < count && is_new; k++)
			is_new = !same_branch(
				leaves->leaves[i].path, leaves->leaves[ret_leaves[k]].path, depth + 1);
		if (is_new)
			ret_leaves[count++] = i;
	}
	return count;
}

/* The member called `number`; `count` where there is none. */
static size_t member_numbered(
	const cli_leaves *leaves, const size_t *list, size_t count, size_t depth, size_t number)
{
	char wanted[24];
	size_t size, wanted_size = (size_t)snprintf(wanted, sizeof wanted, "%zu", number);
	for (size_t k = 0; k < count; k++) {
		const char *name = part(leaves->leaves[list[k]].path, depth, &size);
		if (name != NULL && size == wanted_size && memcmp(name, wanted, size) == 0)
			return k;
	}
	return count;
}

static bool is_tuple(const cli_leaves *leaves, const size_t *list, size_t count, size_t depth)
{
	for (size_t i = 0; i < count; i++)
		if (member_numbered(leaves, list, count, depth, i) == count)
			return false;
	return count > 0;
}

void cli_leaves_target(const cli_leaves *leaves, const char *as, size_t leaf, char *buf, size_t size)
{
	size_t list[CLI_LEAVES_MOST], name_size, at = (size_t)snprintf(buf, size, "%s", as);
	const char *name;
	for (size_t depth = 0;
		at < size && (name = part(leaves->leaves[leaf].path, depth, &name_size)) != NULL; depth++) {
		size_t count = members(leaves, leaf, depth, list);
		at += (size_t)snprintf(buf + at, size - at, "/%s%.*s",
			is_tuple(leaves, list, count, depth) ? "_index_" : "", (int)name_size, name);
	}
}

/* ---- spaces ---- */

static const char *numpy_name(esk_dtype dtype)
{
	static const char *const names[] = {[ESK_I8] = "int8",
		[ESK_I16] = "int16",
		[ESK_I32] = "int32",
		[ESK_I64] = "int64",
		[ESK_U8] = "uint8",
		[ESK_U16] = "uint16",
		[ESK_U32] = "uint32",
		[ESK_U64] = "uint64",
		[ESK_F16] = "float16",
		[ESK_F32] = "float32",
		[ESK_F64] = "float64"};
	return names[dtype.kind];
}

/* The bounds of what the dtype holds, as Python's JSON has them. */
static void format_bounds(esk_dtype dtype, cli_buf *low, cli_buf *high)
{
	unsigned bits = 8 * dtype.size_bytes;
	snprintf(low->text, sizeof low->text, "0");
	if (dtype.kind >= ESK_F16) {
		snprintf(low->text, sizeof low->text, "-Infinity");
		snprintf(high->text, sizeof high->text, "Infinity");
	} else if (dtype.kind >= ESK_U8) {
		snprintf(high->text, sizeof high->text, "%" PRIu64, UINT64_MAX >> (64 - bits));
	} else {
		int64_t greatest = INT64_MAX >> (64 - bits);
		snprintf(high->text, sizeof high->text, "%" PRId64, greatest);
		snprintf(low->text, sizeof low->text, "%" PRId64, -greatest - 1);
	}
}

/* The same value everywhere, nested as the shape says. */
static void put_filled(FILE *out, const esk_column *column, uint32_t dimension, const char *value)
{
	if (dimension == column->rank) {
		fputs(value, out);
		return;
	}
	fputc('[', out);
	for (uint64_t i = 0; i < column->shape[dimension]; i++) {
		fputs(i > 0 ? ", " : "", out);
		put_filled(out, column, dimension + 1, value);
	}
	fputc(']', out);
}

static void put_told(FILE *out, const esk_column *column, const double *values, size_t count)
{
	cli_buf buf;
	for (size_t i = 0; i < count; i++) {
		if (isinf(values[i]))
			snprintf(buf.text, sizeof buf.text, values[i] < 0 ? "-Infinity" : "Infinity");
		else
			snprintf(buf.text, sizeof buf.text, "%.17g", values[i]);
		fputs(count == 1 ? "" : i == 0 ? "[" : ", ", out);
		if (count == 1)
			put_filled(out, column, 0, buf.text);
		else
			fputs(buf.text, out);
	}
	fputs(count == 1 ? "" : "]", out);
}

/* One bound at *at: "-1.0" for all elements, or "[-1. -1. -8.]" for each of a vector. Their number, 0 if it
 * is none. */
static size_t read_bound(const char **at, const esk_column *column, double values[BOUNDS_MOST])
{
	bool vector = **at == '[';
	size_t wanted = vector && column->rank == 1 ? column->shape[0] : 1, count = 0;
	*at += vector;
	for (; count < wanted && count < BOUNDS_MOST; count++) {
		char *end;
		values[count] = strtod(*at, &end);
		if (end == *at || isnan(values[count]))
			return 0;
		*at = end;
	}
	while (vector && **at == ' ')
		++*at;
	if (vector && *(*at)++ != ']')
		return 0;
	return count == wanted ? count : 0;
}

typedef struct bounds {
	size_t low_count, high_count;
	double low[BOUNDS_MOST], high[BOUNDS_MOST];
} bounds;

/* "Box(-1.0, 1.0, (6,), float32)", as Gymnasium prints a space. */
static bool read_box(const char *told, const esk_column *column, bounds *ret_bounds)
{
	if (told == NULL || column->dtype.kind < ESK_F16 || strncmp(told, "Box(", 4) != 0)
		return false;
	const char *at = told + 4;
	ret_bounds->low_count = read_bound(&at, column, ret_bounds->low);
	if (ret_bounds->low_count == 0 || strncmp(at, ", ", 2) != 0)
		return false;
	at += 2;
	ret_bounds->high_count = read_bound(&at, column, ret_bounds->high);
	return ret_bounds->high_count > 0 && strncmp(at, ", (", 3) == 0;
}

static void put_shape(FILE *out, const esk_column *column)
{
	fputc('[', out);
	for (uint32_t i = 0; i < column->rank; i++)
		fprintf(out, "%s%" PRIu64, i > 0 ? ", " : "", column->shape[i]);
	fputc(']', out);
}

static void put_box(FILE *out, const cli_leaf *leaf, const char *told)
{
	cli_buf low, high;
	bounds given;
	bool is_told = read_box(told, &leaf->column, &given);
	format_bounds(leaf->column.dtype, &low, &high);
	fprintf(out, "{\"type\": \"Box\", \"dtype\": \"%s\", \"shape\": ", numpy_name(leaf->column.dtype));
	put_shape(out, &leaf->column);
	fputs(", \"low\": ", out);
	if (is_told)
		put_told(out, &leaf->column, given.low, given.low_count);
	else
		put_filled(out, &leaf->column, 0, low.text);
	fputs(", \"high\": ", out);
	if (is_told)
		put_told(out, &leaf->column, given.high, given.high_count);
	else
		put_filled(out, &leaf->column, 0, high.text);
	fputc('}', out);
}

/* "Discrete(4)" or "Discrete(4, start=-1)". */
static bool read_discrete(const char *told, int64_t *ret_n, int64_t *ret_start)
{
	static const char name[] = "Discrete(", start[] = ", start=";
	char *end;
	if (told == NULL || strncmp(told, name, sizeof name - 1) != 0)
		return false;
	*ret_n = strtoll(told + sizeof name - 1, &end, 10);
	*ret_start = 0;
	if (strncmp(end, start, sizeof start - 1) == 0)
		*ret_start = strtoll(end + sizeof start - 1, &end, 10);
	return *end == ')' && *ret_n > 0 && *ret_n <= DISCRETE_MOST && *ret_start > -DISCRETE_MOST &&
	       *ret_start < DISCRETE_MOST;
}

/* What is told counts where every value found is in it. */
static void put_discrete(FILE *out, const cli_leaf *leaf, const char *told)
{
	int64_t start =
		leaf->least < 0 ? leaf->least : 0; /* choices count from 0, whether it was taken or not */
	int64_t n = leaf->greatest - start + 1, told_n, told_start;
	if (read_discrete(told, &told_n, &told_start) && leaf->least >= told_start &&
		leaf->greatest - told_start < told_n) {
		start = told_start;
		n = told_n;
	}
	fprintf(out,
		"{\"type\": \"Discrete\", \"dtype\": \"int64\", \"start\": %" PRId64 ", \"n\": %" PRId64 "}",
		start, n);
}

static void put_leaf(FILE *out, const cli_leaf *leaf, const char *told)
{
	if (leaf->discrete) {
		put_discrete(out, leaf, told);
	} else if (leaf->rows.info.column.dtype.kind == ESK_BOOL) {
		fputs("{\"type\": \"MultiBinary\", \"n\": ", out);
		put_shape(out, &leaf->column);
		fputc('}', out);
	} else {
		put_box(out, leaf, told);
	}
}

/* The space of the branch that leaf `of` is on at `depth`. */
static void put_branch(FILE *out, const cli_leaves *leaves, size_t of, size_t depth)
{
	size_t list[CLI_LEAVES_MOST], size;
	if (part(leaves->leaves[of].path, depth, &size) == NULL) {
		put_leaf(out, &leaves->leaves[of], NULL);
		return;
	}
	size_t count = members(leaves, of, depth, list);
	bool tuple = is_tuple(leaves, list, count, depth);
	fputs(tuple ? "{\"type\": \"Tuple\", \"subspaces\": [" : "{\"type\": \"Dict\", \"subspaces\": {",
		out);
	for (size_t k = 0; k < count; k++) {
		size_t member = list[tuple ? member_numbered(leaves, list, count, depth, k) : k];
		const char *name = part(leaves->leaves[member].path, depth, &size);
		fputs(k > 0 ? ", " : "", out);
		if (!tuple) {
			cli_put_json_string(out, name, size);
			fputs(": ", out);
		}
		put_branch(out, leaves, member, depth + 1);
	}
	fputs(tuple ? "]}" : "}}", out);
}

/* A space that the metadata has in Minari's own form: an object with a type, or its text. NULL where it has
 * not. */
static char *told_whole(const json_t *told)
{
	json_t *parsed = NULL;
	if (json_is_string(told))
		told = parsed = json_loads(json_string_value(told), 0, NULL);
	char *text = json_is_string(json_object_get(told, "type")) ? json_dumps(told, 0) : NULL;
	json_decref(parsed);
	return text;
}

char *cli_leaves_space(const cli_leaves *leaves, const json_t *told)
{
	char *text = told_whole(told);
	size_t size;
	if (text != NULL)
		return text;
	FILE *out = open_memstream(&text, &size);
	if (out == NULL)
		return NULL;
	if (leaves->leaves[0].path[0] == '\0')
		put_leaf(out, &leaves->leaves[0], json_string_value(told));
	else
		put_branch(out, leaves, 0, 0);
	fclose(out);
	return text;
}
