/* The footer of an IPC file: where its dictionaries and record batches are. May include: base. */
#ifndef ESK_ARROW_FOOTER_H
#define ESK_ARROW_FOOTER_H

#include "arrow/decoder.h"

typedef struct esk_arrow_place {
	uint64_t offset; /* within the file */
	uint64_t bytes;  /* of the message */
} esk_arrow_place;

/* The record batches, in their order: entries of the footer, within the file's memory. */
typedef struct esk_arrow_blocks {
	const uint8_t *entries;
	uint64_t count;
} esk_arrow_blocks;

/* `index` is below the count. */
esk_arrow_place esk_arrow_blocks_get(const esk_arrow_blocks *blocks, uint64_t index);

/* How many bytes magic and padding have at the start of a file. */
#define ESK_ARROW_HEAD_BYTES 8
bool esk_arrow_has_magic(const uint8_t *data, uint64_t size);

/* Checks the footer, takes the schema and all dictionaries into the decoder, and checks that every block is
 * the message that it says. Errors: ESK_ECORRUPT, and those of decoding. */
esk_status esk_arrow_footer_read(esk_arrow_decoder *decoder, const uint8_t *data, uint64_t size,
	esk_arrow_block *source, esk_arrow_blocks *ret_batches, esk_error *err);

#endif
