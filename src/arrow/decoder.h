/* The decoder's inside: what batch.c, dictionary.c and decoder.c share. May include: base.
 *
 *   message ─▶ esk_arrow_batch_decode ─▶ extents: where each buffer lies, decompressed or copied if need be
 *                                     └▶ arrays, node by node, each checked (check.c)
 *
 * Invariants
 * D1  The plan does not change once it is there; batches are decoded by it alone.
 * D2  A dictionary's values never change: a delta or replacement makes new ones, so that arrays keep those of
 *     their time.
 * D3  Nothing of the decoder changes before a message was decoded whole. */
#ifndef ESK_ARROW_DECODER_H
#define ESK_ARROW_DECODER_H

#include "arrow/memory.h"
#include "arrow/message.h"
#include "arrow/team.h"

/* Decompression contexts, made at first use. */
typedef struct esk_arrow_codecs {
	void *lz4;
	void *zstd;
} esk_arrow_codecs;

struct esk_arrow_decoder {
	esk_arrow_pool *pool;
	uint64_t max_bytes;
	uint64_t messages; /* taken so far, and their bytes: for messages */
	uint64_t bytes;
	bool has_schema;
	esk_arrow_plan plan;
	uint8_t *schema_metadata; /* of the schema message: to know it again */
	uint64_t schema_metadata_bytes;
	struct ArrowArray *dictionaries; /* the values of each slot so far; released: none have come */
	esk_arrow_codecs codecs[ESK_ARROW_TEAM_MEMBERS]; /* one per member of the team */
	esk_arrow_team *team;                            /* made for the first large compressed batch */
	bool team_tried;
};

/* Decompresses `size` bytes into exactly `want`. The message says what is wrong. */
esk_status esk_arrow_decompress(esk_arrow_codecs *codecs, esk_arrow_codec codec, const uint8_t *from,
	uint64_t size, uint8_t *to, uint64_t want, esk_error *err);
/* False where so many bytes cannot come from `size`: before memory is taken for them. */
bool esk_arrow_ratio_possible(esk_arrow_codec codec, uint64_t size, uint64_t want);
void esk_arrow_codecs_free(esk_arrow_codecs *codecs);

/* Decodes the columns `nodes` of a batch into a struct array of them, which holds all its memory. With
 * `in_place` buffers stay where they are, where they can; the array then keeps `source` (which may be NULL:
 * the caller sees to it that the message stays). */
esk_status esk_arrow_batch_decode(esk_arrow_decoder *decoder, const esk_arrow_subject *subject,
	const esk_arrow_message *message, const esk_arrow_batch *batch, const esk_arrow_node *nodes,
	uint32_t count, esk_arrow_block *source, bool in_place, struct ArrowArray *ret_root, esk_error *err);

/* The values of `one` and, behind them, of `other`, both arrays of `node`, in new memory. ESK_EUNSUPPORTED,
 * by name, for types that are not joined. */
esk_status esk_arrow_join(esk_arrow_decoder *decoder, const esk_arrow_subject *subject,
	const esk_arrow_node *node, const struct ArrowArray *one, const struct ArrowArray *other,
	struct ArrowArray *ret_array, esk_error *err);

/* Gives a decoder without a schema its plan, which belongs to it from then on; where it fails the plan is
 * freed. */
esk_status esk_arrow_decoder_plan(esk_arrow_decoder *decoder, esk_arrow_plan *plan, esk_error *err);

/* Takes a message as esk_arrow_decoder_feed does; with a source, dictionaries stay where they are as well.
 * *ret_kind may be NULL. */
esk_status esk_arrow_decoder_take(esk_arrow_decoder *decoder, const void *data, uint64_t size,
	esk_arrow_block *source, uint64_t *ret_used, esk_arrow_message_kind *ret_kind,
	struct ArrowArray *ret_array, esk_error *err);

#endif
