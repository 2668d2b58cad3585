/* Encapsulated messages: framing, and what their metadata say. May include: base. */
#ifndef ESK_ARROW_MESSAGE_H
#define ESK_ARROW_MESSAGE_H

#include "arrow/check.h"
#include "arrow/flatbuffer.h"

typedef enum esk_arrow_message_kind {
	ESK_ARROW_END, /* the end-of-stream mark */
	ESK_ARROW_SCHEMA,
	ESK_ARROW_DICTIONARY,
	ESK_ARROW_BATCH,
} esk_arrow_message_kind;

typedef struct esk_arrow_message {
	esk_arrow_message_kind kind;
	bool old_unions;       /* MetadataVersion V4: unions have a validity buffer */
	uint64_t prefix_bytes; /* continuation marker and length: 8, or 4 in streams from before Arrow 0.15 */
	uint64_t metadata_bytes;
	uint64_t bytes; /* with prefix, metadata and body */
	esk_flatbuffer metadata;
	esk_flatbuffer_table header;
	const uint8_t *body;
	uint64_t body_bytes;
} esk_arrow_message;

/* Reads the message at `data`. ESK_ECORRUPT where it is none, or not whole; messages begin with the subject,
 * whose kind is set as soon as it is known. */
esk_status esk_arrow_message_read(esk_arrow_subject *subject, const void *data, uint64_t size,
	esk_arrow_message *ret_message, esk_error *err);

/* Where the buffers of a record batch lie: its nodes, buffers and compression. */
typedef enum esk_arrow_codec { ESK_ARROW_RAW, ESK_ARROW_LZ4, ESK_ARROW_ZSTD } esk_arrow_codec;
typedef struct esk_arrow_batch {
	int64_t length;
	esk_flatbuffer_vector nodes;   /* 16 bytes each: length, null count */
	esk_flatbuffer_vector buffers; /* 16 bytes each: offset, length */
	esk_arrow_codec codec;
} esk_arrow_batch;
esk_status esk_arrow_batch_read(const esk_arrow_subject *subject, esk_arrow_message *message,
	const esk_flatbuffer_table *table, esk_arrow_batch *ret_batch, esk_error *err);

typedef struct esk_arrow_dictionary_batch {
	int64_t id;
	bool delta;
	esk_arrow_batch batch;
} esk_arrow_dictionary_batch;
esk_status esk_arrow_dictionary_read(const esk_arrow_subject *subject, esk_arrow_message *message,
	esk_arrow_dictionary_batch *ret_batch, esk_error *err);

#endif
