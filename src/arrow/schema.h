/* Making ArrowSchema trees, and decoding them from the metadata of a schema message.
 *
 * A decoded schema comes with a plan: per field its layout and the dictionary it takes its values from, so
 * that decoding a batch parses no text. May include: base. */
#ifndef ESK_ARROW_SCHEMA_H
#define ESK_ARROW_SCHEMA_H

#include "arrow/flatbuffer.h"
#include "arrow/type.h"

/* One node of a schema to be made; children and dictionary are filled in afterwards. */
typedef struct esk_arrow_field {
	const char *format;
	const char *name; /* `name_bytes` bytes, no NUL needed */
	size_t name_bytes;
	const char *metadata; /* as the C data interface encodes it; NULL for none */
	size_t metadata_bytes;
	int64_t flags;
	uint32_t children;
	bool dictionary;
} esk_arrow_field;

/* Makes `ret_schema` with copies of the texts; its children and dictionary are zero (released), to be made in
 * place. Its release frees what is there, also of a tree that is half made. Errors: ESK_ENOMEM. */
esk_status esk_arrow_schema_make(
	struct ArrowSchema *ret_schema, const esk_arrow_field *field, esk_error *err);

/* Bytes of encoded metadata; false where a count or length in it is negative or adds up to over 1 GiB. */
bool esk_arrow_metadata_bytes(const char *metadata, size_t *ret_bytes);

/* What a callback of the C stream interface returns for a status; 0 for success. */
int esk_arrow_errno(esk_status status);

/* True where both describe the same: formats, names, flags, metadata, children, dictionaries. */
bool esk_arrow_schema_same(const struct ArrowSchema *one, const struct ArrowSchema *other);

#define ESK_ARROW_NO_SLOT UINT32_MAX

/* A field as batches are decoded by it. Of a dictionary-encoded field `type` is that of the indices. */
typedef struct esk_arrow_node esk_arrow_node;
struct esk_arrow_node {
	const struct ArrowSchema *schema;
	esk_arrow_type type;
	int16_t *child_of; /* of a union: 128 entries, see esk_arrow_type_ids; else NULL */
	uint32_t slot;     /* of its dictionary; ESK_ARROW_NO_SLOT: not encoded */
	uint32_t child_count;
	esk_arrow_node *children;
};

/* A dictionary that the schema speaks of. */
typedef struct esk_arrow_slot {
	int64_t id;
	esk_arrow_node *values; /* the type of its values: belongs to the slot */
} esk_arrow_slot;

typedef struct esk_arrow_plan {
	struct ArrowSchema schema; /* a struct */
	esk_arrow_node root;       /* its children are the columns */
	uint32_t slot_count;
	esk_arrow_slot *slots;
} esk_arrow_plan;

/* Decodes a Schema table. The caller frees *ret_plan with esk_arrow_plan_free. Errors: ESK_ECORRUPT,
 * ESK_EUNSUPPORTED, ESK_ENOMEM: messages name the field. */
esk_status esk_arrow_plan_decode(
	esk_flatbuffer *buffer, const esk_flatbuffer_table *table, esk_arrow_plan *ret_plan, esk_error *err);
void esk_arrow_plan_free(esk_arrow_plan *plan);

#endif
