/* Instruments' rings: what their names and declarations are. Used by the writer, sessions and the daemon. */
#ifndef ESK_DAQ_RINGS_H
#define ESK_DAQ_RINGS_H

#include <esker/arrow.h>
#include <esker/daq.h>
#include <esker/ring.h>

#define ESK_DAQ_PATH_BYTES 4096

/* A declaration in a ring:
 *
 *     u16 bytes of the name | the instrument's name | zeros to a multiple of 8 | Arrow's schema message
 */
typedef struct esk_daq_declaration {
	char instrument[ESK_DAQ_MAX_INSTRUMENT + 1];
	const void *schema; /* inside the declaration's bytes */
	size_t schema_bytes;
} esk_daq_declaration;

/* Takes `size` bytes, which may be anything, apart; the schema message itself is not looked into. Errors:
 * ESK_ECORRUPT, ESK_EINVAL (the name). */
esk_status esk_daq_declaration_parse(
	const void *bytes, size_t size, esk_daq_declaration *ret_declaration, esk_error *err);

/* ESK_OK if an instrument may have that name; else ESK_EINVAL. */
esk_status esk_daq_check_instrument(const char *name, esk_error *err);

/* Declares an instrument (NULL: the default one) and a schema message in `ring`. */
esk_status esk_daq_declare(esk_ring *ring, const char *instrument, const void *schema, size_t schema_bytes,
	uint32_t *ret_number, esk_error *err);

/* Gives the schema of declaration `number` to `decoder`, which has none yet, and the instrument's name (with
 * the NUL at most ESK_DAQ_MAX_INSTRUMENT + 1 bytes). What is in the ring is copied first, and may be
 * anything. Errors: ESK_ENOTFOUND, ESK_ECORRUPT, ESK_EINVAL (the name), ESK_EUNSUPPORTED, ESK_ENOMEM. */
esk_status esk_daq_declaration_feed(const esk_ring *ring, uint32_t number, esk_arrow_decoder *decoder,
	char *ret_instrument, esk_error *err);

/* The status and message of a callback of `stream` that returned `error`. */
esk_status esk_daq_stream_failed(struct ArrowArrayStream *stream, int error, esk_error *err);

#endif
