/* How Arrow's types lie in a run: a schema becomes a tree of nodes, one for each field that has columns, and
 * a list of tables, one for each stream.
 *
 *     schema {t: timestamp, wave: list<f32>, imu: struct<acc: f64[3], gyro: f64>}      stream "scope"
 *
 *     table 0 "scope"        t  wave/offsets  wave/lengths  imu/acc  imu/gyro
 *     table 1 "scope/wave"   values
 *
 *   M1  Each column belongs to one node, and each table but the first to one node (a list's values, a
 *       dictionary's categories), which is visited once in an append and takes one range of rows.
 *
 *   M2  Paths are relative to the stream: that of a column is its table's `below` and its name. No two
 *       datasets have the same (arrow_names.c), so a path also names a field in messages.
 *
 * May include: everything below src/check. */
#ifndef ESK_STORE_ARROW_MAP_H
#define ESK_STORE_ARROW_MAP_H

#include "arrow/type.h"
#include "store/internal.h"
#include <esker/arrow_store.h>

#define ESK_MAP_NONE UINT32_MAX
#define ESK_MAP_MAX_TABLES 1000 /* a run has at most 1024 streams */

typedef enum esk_map_kind {
	ESK_MAP_PLAIN,     /* the cells are the array's values, as they lie */
	ESK_MAP_BITS,      /* bool */
	ESK_MAP_TEXT,      /* utf8 */
	ESK_MAP_DECIMAL,   /* numbers as text */
	ESK_MAP_MISSING,   /* the null type: every cell is missing */
	ESK_MAP_BYTES,     /* binary: offsets, lengths; the values of the child table are the bytes */
	ESK_MAP_LIST,      /* offsets, lengths; children[0] is in the child table */
	ESK_MAP_STRUCT,    /* children in the same table */
	ESK_MAP_DICTIONARY /* codes; children[0] is the column `categories` of the child table */
} esk_map_kind;

/* A fixed-size list around a leaf. */
typedef struct esk_map_level {
	uint64_t size;
	uint32_t valid; /* column of the items' validity, or NONE: items are never missing */
} esk_map_level;

typedef struct esk_map_node esk_map_node;
struct esk_map_node {
	esk_map_kind kind;
	esk_arrow_type type; /* of the leaf inside the levels; of the codes; of the list */
	bool nullable;
	bool tensor;
	uint32_t table;
	uint32_t column; /* the leaf's; offsets (lengths follow); codes; NONE of a struct */
	uint32_t valid;  /* explicit column `…_valid`: lists, structs, dictionaries that are nullable; else
			    NONE */
	uint32_t child_table; /* or NONE */
	uint32_t level_count;
	esk_map_level *levels;
	uint64_t items; /* of a cell: product of the levels' sizes */
	size_t child_count;
	esk_map_node *children;
	char *path; /* M2 */
};

typedef struct esk_map_table {
	char *name;  /* of the stream */
	char *below; /* path of the field that it belongs to; "" for the first */
	esk_column *columns;
	size_t count;
	size_t capacity;
} esk_map_table;

typedef struct esk_map {
	esk_map_node root; /* a struct, whose children are the schema's columns */
	esk_map_table *tables;
	size_t table_count;
	size_t column_count; /* of all tables */
} esk_map;

/* arrow_plan.c: columns as the fields' types, names and metadata have them. Errors as esk_run_arrow. */
esk_status esk_map_make(
	const char *stream, const struct ArrowSchema *schema, esk_map *ret_map, esk_error *err);
void esk_map_clear(esk_map *map);

/* ---- arrow_names.c ---- */

/* A field's name as a dataset's: *ret_name is to free. */
esk_status esk_map_escape(const char *name, char **ret_name, esk_error *err);
/* The name behind an escaped one, to free; NULL where memory runs out. */
char *esk_map_unescape(const char *name);
/* "below/name", or the one of them that is not empty; to free. */
char *esk_map_join(const char *below, const char *name);
/* Refuses maps that would give one dataset to two columns. */
esk_status esk_map_check_apart(const esk_map *map, esk_error *err);

/* ---- arrow_metadata.c ---- */

/* The value of a key of a schema's metadata, to free; NULL where there is none. */
char *esk_map_metadata(const struct ArrowSchema *schema, const char *key);
/* Adds what a field's metadata says (units, long_name, codec, chunk_rows) to a column. */
esk_status esk_map_describe(const struct ArrowSchema *schema, esk_column *column, esk_error *err);
/* The shape of arrow.fixed_shape_tensor, from its metadata; its product is `size`. */
esk_status esk_map_tensor_shape(const struct ArrowSchema *schema, const char *path, uint64_t size,
	uint64_t *ret_shape, uint32_t *ret_rank, esk_error *err);
bool esk_map_is_tensor(const struct ArrowSchema *schema);

/* ---- arrow_options.c ---- */

/* Sets the columns' codec, chunk_rows, units and long_name as the options say. ESK_ENOTFOUND where a path
 * fits no column. `options` is complete. */
esk_status esk_map_apply_options(esk_map *map, const esk_arrow_sink_options *options, esk_error *err);

/* ---- arrow_compare.c ---- */

/* ESK_OK if the second schema is the first, metadata apart; else names the first difference. */
esk_status esk_map_same_schema(
	const struct ArrowSchema *expected, const struct ArrowSchema *found, esk_error *err);

/* ---- arrow_bits.c ---- */

/* Bits [first, first + count) of a bitmap as bytes 0 and 1. */
void esk_bits_to_bytes(const uint8_t *bits, uint64_t first, uint64_t count, uint8_t *ret_bytes);
/* Bytes, of which any but 0 counts as 1, as bits; those behind the last are 0. */
void esk_bytes_to_bits(const uint8_t *bytes, uint64_t count, uint8_t *ret_bits);
bool esk_bits_all_set(const uint8_t *bits, uint64_t first, uint64_t count);
/* Index of the first byte that is 0; `count` if there is none. */
uint64_t esk_bytes_find_zero(const uint8_t *bytes, uint64_t count);

/* ---- arrow_text.c ---- */

/* How much of the text is UTF-8 without NUL bytes: `size` if all is. */
size_t esk_text_sound_bytes(const char *text, size_t size);
#define ESK_DECIMAL_TEXT_BYTES 128
/* Bytes of the longest text of a decimal(precision, scale). 0 where the scale is out of reach. */
uint32_t esk_decimal_text_bytes(int32_t precision, int32_t scale);
/* Writes value * 10^-scale, exactly, NUL-padded to `bytes` (as above). False where the value has more digits
 * than `precision`. */
bool esk_decimal_format(__int128 value, int32_t precision, int32_t scale, char *ret_text, uint32_t bytes);
/* Reads what esk_decimal_format wrote; false where it did not. */
bool esk_decimal_parse(const char *text, uint32_t bytes, int32_t scale, __int128 *ret_value);

#endif
