/* The bodies of WriteBatch: what a connection knows of each instrument it writes to (schema, dictionaries),
 * and the record batches of the body at hand. */
#ifndef ESK_DAQ_DAEMON_BATCH_H
#define ESK_DAQ_DAEMON_BATCH_H

#include "daemon_request.h"

#include <esker/arrow.h>

#define ESK_SOURCES_MOST 256u  /* instruments of one connection */
#define ESK_BATCHES_MOST 1024u /* record batches of one body */
#define ESK_SOURCE_SCHEMA_BYTES (1u << 20)

typedef struct esk_source {
	char name[ESK_REQUEST_NAME_BYTES + 1];
	esk_arrow_decoder *decoder; /* NULL: a body has to begin with a schema */
	uint8_t *schema; /* the message it knows its schema from, to see quickly that one is the same */
	size_t schema_bytes;
	uint64_t dictionary_bytes; /* of all dictionary messages since the schema */
	bool made;                 /* the store has the instrument with this schema */
} esk_source;

typedef struct esk_sources {
	esk_source *list;
	size_t count;
	size_t last;         /* used last */
	uint64_t kept_bytes; /* schemas and dictionaries of all */
} esk_sources;

/* The batches of one body; arrays point into it. */
typedef struct esk_batches {
	esk_source *source;
	struct ArrowArray *arrays;
	size_t count;
	size_t capacity;
	size_t next;  /* the first that is not recorded whole */
	uint64_t row; /* of it: rows before are recorded */
} esk_batches;

/* Decodes a body for request->instrument. On failure there are no batches, and the source is as it was, or
 * has to begin with a schema. `limit` bounds what a body may unfold to and what all sources keep. Errors:
 * ESK_ECORRUPT, ESK_EINVAL (continues without a beginning; no batch), ESK_EUNSUPPORTED, ESK_ERANGE,
 * ESK_ENOMEM. */
esk_status esk_batches_decode(esk_batches *batches, esk_sources *sources, const esk_request *request,
	const uint8_t *body, size_t body_bytes, uint64_t limit, esk_error *err);
/* Releases the arrays; keeps the room for the next ones. */
void esk_batches_release(esk_batches *batches);
void esk_batches_clear(esk_batches *batches);
/* Rows recorded of all batches. */
uint64_t esk_batches_rows(const esk_batches *batches);
void esk_sources_clear(esk_sources *sources);

#endif
