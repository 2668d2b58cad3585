/* What the header of a client's message says, and the headers that answer it. */
#ifndef ESK_DAQ_DAEMON_REQUEST_H
#define ESK_DAQ_DAEMON_REQUEST_H

#include "daemon_frame.h"

#define ESK_REQUEST_NAME_BYTES 200u /* of instruments, as of streams */

typedef enum esk_request_kind {
	ESK_REQUEST_HELLO,
	ESK_REQUEST_WRITE,
	ESK_REQUEST_METADATA,
	ESK_REQUEST_FLUSH,
	ESK_REQUEST_STATS
} esk_request_kind;

typedef struct esk_request {
	esk_request_kind kind;
	bool continues;
	char instrument[ESK_REQUEST_NAME_BYTES + 1]; /* "": none */
	char *metadata;                              /* an object of one member; NULL: none */
} esk_request;

/* Reads a header. *ret_request is to be cleared. Errors: ESK_EINVAL (no JSON object, an unknown type, a key
 * that lacks or has a value of another type), ESK_EVERSION (Hello of another protocol), ESK_ENOMEM. */
esk_status esk_request_parse(
	const void *header, size_t header_bytes, esk_request *ret_request, esk_error *err);
void esk_request_clear(esk_request *request);

/* Messages that answer; each is added whole or not at all. Errors: ESK_ENOMEM. */
esk_status esk_reply_hello(
	esk_bytes *out, const char *store, const char *session, uint64_t max_message_bytes, esk_error *err);
esk_status esk_reply_ack(esk_bytes *out, uint64_t through, esk_error *err);
typedef struct esk_refusal {
	uint64_t to;
	esk_status code;
	const char *message;
	uint64_t rows_taken;
	bool fatal;
} esk_refusal;
esk_status esk_reply_error(esk_bytes *out, const esk_refusal *refusal, esk_error *err);
esk_status esk_reply_stats(esk_bytes *out, uint64_t to, const char *json, esk_error *err);

#endif
