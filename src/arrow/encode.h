/* Record batches as IPC messages: what encoder and writer share.
 *
 * A schema is compiled into trees: tree 0 is the record batch, tree i + 1 the dictionary of id i; ids are
 * given in the order in which fields are met, a field before its children, so the dictionaries within a
 * dictionary have higher ids and are written first. A batch is first laid out (encode_array.c): every tree
 * gets the counts of its nodes and the pieces of its body; then it is written, without anything that could
 * fail (encode_render.c). May include: base, os, model. */
#ifndef ESK_ARROW_ENCODE_H
#define ESK_ARROW_ENCODE_H

#include "arrow/build.h"

#include <esker/arrow_encode.h>

typedef struct esk_encode_node {
	esk_arrow_layout layout;
	bool validity;        /* the first buffer is a bitmap */
	uint32_t width_bytes; /* of a FIXED value */
	uint32_t list_size;   /* of a FIXED_LIST */
	uint32_t buffers;     /* of an array */
	uint32_t child_count;
	uint32_t end;        /* the index behind the last node below this one */
	uint32_t dictionary; /* the tree of its values; 0: it has none */
	char *path;          /* for messages */
} esk_encode_node;

typedef enum esk_encode_op {
	ESK_PIECE_COPY,
	ESK_PIECE_ZERO,
	ESK_PIECE_BITS,     /* begins `shift` bits behind the source's first */
	ESK_PIECE_REBASE32, /* offsets, less `base` */
	ESK_PIECE_REBASE64,
} esk_encode_op;

/* A buffer of a message's body. */
typedef struct esk_encode_piece {
	const uint8_t *source;
	uint64_t at;    /* in the body */
	uint64_t bytes; /* without what it is padded with */
	esk_encode_op op;
	uint32_t shift; /* 0..7 */
	union {
		uint64_t bits;
		int64_t base;
	};
} esk_encode_piece;

typedef struct esk_encode_tree {
	esk_encode_node *nodes; /* a node before those below it */
	uint32_t node_count;
	uint32_t node_room;
	uint32_t buffer_count;
	uint32_t outer; /* the tree that refers to this dictionary: 0 the batch itself */
	bool has_inner; /* others refer to it */
	esk_build_template head;
	/* Of the batch that was laid out last: */
	const struct ArrowArray *array;
	int64_t rows;
	int64_t (*counts)[2]; /* per node: length, null count */
	esk_encode_piece *pieces;
	uint32_t piece_count;
	uint64_t body_bytes;
} esk_encode_tree;

struct esk_arrow_encoder {
	uint32_t align;
	uint32_t column_count;
	esk_encode_tree *trees;
	uint32_t tree_count;
	uint8_t *schema_message;
	size_t schema_bytes;
};

/* As esk_arrow_encoder_create; the schema message stands `before` bytes behind the beginning of its file. */
esk_status esk_encode_create(const struct ArrowSchema *schema, uint32_t align, uint32_t before,
	esk_arrow_encoder **ret_encoder, esk_error *err);

/* Lays out the batch and all its dictionaries. */
esk_status esk_encode_lay(esk_arrow_encoder *encoder, const struct ArrowArray *batch, esk_error *err);
/* Rows [first, first + rows) of the dictionary `tree` of the batch that was laid out. */
esk_status esk_encode_lay_dictionary(
	esk_arrow_encoder *encoder, uint32_t tree, uint64_t first, uint64_t rows, esk_error *err);

static inline uint64_t esk_encode_message_bytes(const esk_encode_tree *tree)
{
	return tree->head.bytes + tree->body_bytes;
}

/* Writes the head of a tree's message: tree->head.bytes bytes. */
void esk_encode_head(const esk_encode_tree *tree, bool delta, uint8_t *to);
/* Bytes [from, from + bytes) of a piece. */
void esk_encode_render(const esk_encode_piece *piece, uint64_t from, uint64_t bytes, uint8_t *to);
/* Head and body: esk_encode_message_bytes(tree) bytes. */
void esk_encode_message(const esk_encode_tree *tree, bool delta, uint8_t *to);

#endif
