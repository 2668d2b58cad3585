/* Building the metadata of Arrow IPC messages: checked schema objects, flatbuffers, the Schema, RecordBatch
 * and DictionaryBatch messages, the footer of a file. Positions and enumerations are those of Arrow's
 * Schema.fbs, Message.fbs and File.fbs, metadata version V5.
 *
 * Everything here happens once per schema (or file); what a batch needs is a template that encode.c patches.
 * May include: base, os, model. */
#ifndef ESK_ARROW_BUILD_H
#define ESK_ARROW_BUILD_H

#include "arrow/type.h"

#define ESK_BUILD_MAX_FIELDS (1u << 20)

/* ---- schema objects (build_check.c) ---- */

/* Parses the format of a field and checks that the schema object fits it: not released, not too deep, as many
 * children as the type has, integers where there is a dictionary. `path` names the field in messages. For a
 * dictionary field *ret_type is the type of the indices.
 *
 * Errors: ESK_EUNSUPPORTED with the type's name for what is not encoded; ESK_EINVAL. */
esk_status esk_build_type_of(const struct ArrowSchema *schema, const char *path, unsigned depth,
	esk_arrow_type *ret_type, esk_error *err);

/* A schema's root: a struct, whose children are the columns. Errors: ESK_EINVAL. */
esk_status esk_build_check_root(const struct ArrowSchema *schema, esk_error *err);

/* "a.b" from "a" and "b" ("b" from NULL and ""), malloc'ed; NULL where memory runs out. */
char *esk_build_path(const char *parent, const char *name);

/* ---- metadata of the C data interface: i32 pairs, then each i32 size + key, i32 size + value ---- */
typedef struct esk_build_pairs {
	const char *at; /* the next pair */
	int32_t left;
} esk_build_pairs;
esk_build_pairs esk_build_pairs_begin(const char *metadata); /* NULL: none */
/* The next pair, borrowed and not terminated. False at the end, or where a size is negative. */
bool esk_build_pairs_next(esk_build_pairs *pairs, const char **ret_key, int32_t *ret_key_bytes,
	const char **ret_value, int32_t *ret_value_bytes);

/* ---- flatbuffers (build_flat.c) ----
 * They are built from their end to their beginning, so that what refers is written after what it refers to.
 * A position is counted from the end, since only that end stands still. */

typedef uint32_t esk_builder_ref; /* the position of something that is complete; 0: nothing */

typedef struct esk_builder {
	uint8_t *data; /* of `capacity`; the last `size` are used */
	size_t capacity;
	size_t size;
	bool failed; /* memory ran out, or more than 2^31 bytes: later additions do nothing */
} esk_builder;

#define ESK_BUILDER_SLOTS 8
typedef struct esk_builder_table {
	uint32_t start;
	uint32_t slots[ESK_BUILDER_SLOTS];
	uint32_t slot_count;
} esk_builder_table;

void esk_builder_free(esk_builder *flat);
esk_builder_ref esk_builder_string(esk_builder *flat, const char *text, size_t bytes);
/* A vector of refs; `refs` may be NULL where count is 0. */
esk_builder_ref esk_builder_refs(esk_builder *flat, const esk_builder_ref *refs, size_t count);
/* A vector of `count` structs of `bytes` bytes each, a multiple of 8; `data` NULL: zeros. */
esk_builder_ref esk_builder_structs(esk_builder *flat, const void *data, size_t bytes, size_t count);
esk_builder_ref esk_builder_numbers(esk_builder *flat, const int32_t *numbers, size_t count);
/* A table: begun, its fields added, ended. Nothing else is made between. */
void esk_builder_begin(esk_builder *flat, esk_builder_table *table);
/* A scalar of `bytes` bytes, a power of two up to 8. Returns its position. */
esk_builder_ref esk_builder_add(
	esk_builder *flat, esk_builder_table *table, unsigned slot, const void *value, size_t bytes);
/* Nothing where `ref` is 0. */
void esk_builder_add_ref(esk_builder *flat, esk_builder_table *table, unsigned slot, esk_builder_ref ref);
esk_builder_ref esk_builder_end(esk_builder *flat, esk_builder_table *table);
/* `bytes` zeros, a multiple of 8: room behind the flatbuffer where nothing was added yet. */
void esk_builder_room(esk_builder *flat, size_t bytes);
/* Puts the root in front. Then the buffer is the last flat->size bytes, a multiple of 8. */
void esk_builder_finish(esk_builder *flat, esk_builder_ref root);
static inline uint8_t *esk_builder_bytes(const esk_builder *flat)
{
	return flat->data + (flat->capacity - flat->size);
}

/* ---- messages (build_schema.c, build_batch.c) ---- */

typedef struct esk_build_block { /* struct Block of File.fbs */
	int64_t offset;
	int32_t head_bytes;
	int32_t pad;
	int64_t body_bytes;
} esk_build_block;

/* The encapsulated Schema message, padded to a multiple of 64 bytes behind `before` where aligned to 64. Free
 * with free. Errors: ESK_EUNSUPPORTED and ESK_EINVAL as esk_build_type_of, ESK_ENOMEM. */
esk_status esk_build_schema(const struct ArrowSchema *schema, uint32_t align, uint32_t before,
	uint8_t **ret_message, size_t *ret_bytes, esk_error *err);

/* A file's footer, begun when its schema is known and finished when its blocks are: a schema need not be kept
 * meanwhile. */
typedef struct esk_build_footer {
	esk_builder flat;
	esk_builder_ref schema;
} esk_build_footer;
esk_status esk_build_footer_begin(
	const struct ArrowSchema *schema, esk_build_footer *ret_footer, esk_error *err);
/* The footer, its size behind it and the magic: *ret_footer points into `footer`, until it is freed. */
esk_status esk_build_footer_finish(esk_build_footer *footer, const esk_build_block *dictionaries,
	size_t dictionary_count, const esk_build_block *batches, size_t batch_count,
	const uint8_t **ret_footer, size_t *ret_bytes, esk_error *err);
void esk_build_footer_free(esk_build_footer *footer);

/* The head of a RecordBatch or DictionaryBatch message, marker and length in front and padded, with zeros
 * where a batch puts its numbers: at the offsets given. */
typedef struct esk_build_template {
	uint8_t *data; /* free with free */
	uint32_t bytes;
	uint32_t body_at;    /* i64 Message.bodyLength */
	uint32_t length_at;  /* i64 RecordBatch.length */
	uint32_t nodes_at;   /* FieldNode: i64 length, i64 null_count */
	uint32_t buffers_at; /* Buffer: i64 offset, i64 length */
	uint32_t delta_at;   /* bool DictionaryBatch.isDelta; 0 for a record batch */
} esk_build_template;

#define ESK_BUILD_NO_DICTIONARY (-1)
esk_status esk_build_batch(int64_t dictionary_id, uint32_t node_count, uint32_t buffer_count, uint32_t align,
	esk_build_template *ret_template, esk_error *err);

/* The marker and length before a message's metadata, and zeros behind it, for `bytes` of metadata which lie
 * at to + 8: `total` in all. */
void esk_build_frame(uint8_t *to, uint32_t bytes, uint32_t total);

#define ESK_BUILD_VERSION 4 /* MetadataVersion.V5 */
#define ESK_BUILD_FRAME_BYTES 8u
#define ESK_BUILD_HEADER_SCHEMA 1 /* MessageHeader */
#define ESK_BUILD_HEADER_DICTIONARY 2
#define ESK_BUILD_HEADER_BATCH 3
#define ESK_BUILD_END_BYTES 8
extern const uint8_t esk_build_end[ESK_BUILD_END_BYTES]; /* of a stream */
#define ESK_BUILD_MAGIC "ARROW1"
#define ESK_BUILD_MAGIC_BYTES 6

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "Arrow's buffers are written as they lie");

#endif
