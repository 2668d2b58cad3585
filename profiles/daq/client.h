/* What the client is made of. client.c: the calls. client_wire.c: the socket, what is sent and not answered,
 * what was answered. client_instrument.c: schemas, and batches as messages. */
#ifndef ESK_DAQ_CLIENT_H
#define ESK_DAQ_CLIENT_H

#include "daemon_request.h"

#include <esker/arrow.h>
#include <esker/arrow_encode.h>
#include <esker/daemon.h>
#include <jansson.h>
#include <sys/uio.h>

#define ESK_CLIENT_REFUSALS_MOST 64u

/* ---- client_wire.c ---- */

/* A connection. Its messages are numbered from 0, which is Hello; so what the caller sends is numbered
 * from 1. */
typedef struct esk_wire {
	int fd;
	char *path;
	uint64_t timeout_ns;
	uint64_t window_bytes, window_messages;
	uint64_t max_message_bytes; /* the daemon's */
	char *session;

	uint64_t sent, answered; /* messages */
	uint64_t sent_bytes, answered_bytes;
	uint64_t *ends; /* ends[n % window_messages]: sent_bytes behind message n */

	esk_bytes in;
	struct {
		uint64_t number;
		esk_error why;
	} refusals[ESK_CLIENT_REFUSALS_MOST]; /* not reported yet */
	size_t refusal_count;
	uint64_t refused;    /* in all */
	bool schemas_unsure; /* something was refused: the daemon may lack a schema */
	char *stats;         /* the last that came */

	bool broken;
	esk_error why_broken;
} esk_wire;

/* Connects and says Hello. On failure *wire is to be cleared all the same. */
esk_status esk_wire_open(esk_wire *wire, const char *path, const esk_client_options *options, esk_error *err);
void esk_wire_clear(esk_wire *wire);
/* Sends one message: `parts[0]` has room for the head and then the header, filled up to a multiple of 8; the
 * rest is the body. Waits for room in the window. Reports a refusal that came before, and sends nothing then.
 */
esk_status esk_wire_send(esk_wire *wire, struct iovec *parts, int count, esk_error *err);
/* Takes the replies that have come. */
esk_status esk_wire_look(esk_wire *wire, esk_error *err);
/* Waits until the messages up to `number` are answered, then reports a refusal. */
esk_status esk_wire_wait(esk_wire *wire, uint64_t number, esk_error *err);

/* ---- client_instrument.c ---- */

#define ESK_CLIENT_HEADER_BYTES 1536u /* head and header of WriteBatch: a name may be all escapes */

typedef struct esk_client_instrument {
	struct esk_client_instrument *next;
	char name[ESK_REQUEST_NAME_BYTES + 1];
	struct ArrowSchema schema; /* a copy; release NULL: none yet */
	esk_arrow_encoder *encoder;
	bool dictionaries; /* the schema has some: every batch is sent as a whole stream */
	bool begun;        /* the daemon has the schema */
	size_t whole_bytes, continuing_bytes;
	uint8_t whole[ESK_CLIENT_HEADER_BYTES];
	uint8_t continuing[ESK_CLIENT_HEADER_BYTES];
} esk_client_instrument;

/* The instrument of that name, added where it is new. Errors: ESK_EINVAL (name), ESK_ENOMEM. */
esk_status esk_client_instrument_find(esk_client_instrument **list, const char *name,
	esk_client_instrument **ret_instrument, esk_error *err);
/* Makes it one of this schema. Errors: as esk_arrow_encoder_create. */
esk_status esk_client_instrument_use(
	esk_client_instrument *instrument, const struct ArrowSchema *schema, esk_error *err);
void esk_client_instruments_clear(esk_client_instrument **list);

/* Head and header of a message into `buf`; body bytes are filled in by esk_wire_send. Takes the reference to
 * `header`. */
esk_status esk_client_header(
	json_t *header, uint8_t *buf, size_t buf_bytes, size_t *ret_bytes, esk_error *err);

#endif
