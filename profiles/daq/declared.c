/* Reading what instruments wrote into a ring: their declarations, and single batches by them. */
#include "rings.h"
#include <esker/profile.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A copy of a declaration's bytes, to free: other processes may write where it lies. `room` bytes follow. */
static esk_status copy_declaration(const esk_ring *ring, uint32_t number, size_t room, void **ret_bytes,
	esk_daq_declaration *ret_declaration, esk_error *err)
{
	const void *shared;
	size_t size;
	esk_status status = esk_ring_declaration(ring, number, &shared, &size, err);
	if (status != ESK_OK)
		return status;
	void *bytes = malloc(size + room + 1);
	if (bytes == NULL)
		return esk_fail_memory(err, size + room, "a declaration");
	esk_ring_copy(bytes, shared, size);
	status = esk_daq_declaration_parse(bytes, size, ret_declaration, err);
	if (status != ESK_OK) {
		free(bytes);
		return esk_fail_in(err, status, "ring %s, declaration %u", esk_ring_path(ring), number);
	}
	*ret_bytes = bytes;
	return ESK_OK;
}

esk_status esk_daq_declaration_feed(const esk_ring *ring, uint32_t number, esk_arrow_decoder *decoder,
	char *ret_instrument, esk_error *err)
{
	esk_daq_declaration declaration;
	struct ArrowArray none = {0};
	size_t used;
	void *bytes;
	esk_status status = copy_declaration(ring, number, 0, &bytes, &declaration, err);
	if (status != ESK_OK)
		return status;
	status = esk_arrow_decoder_feed(
		decoder, declaration.schema, declaration.schema_bytes, &used, &none, err);
	if (status == ESK_OK && esk_arrow_decoder_schema(decoder) == NULL)
		status = esk_fail(err, ESK_ECORRUPT, "declaration %u has no schema", number);
	if (none.release != NULL)
		none.release(&none);
	if (status == ESK_OK)
		memcpy(ret_instrument, declaration.instrument, sizeof declaration.instrument);
	free(bytes);
	return status;
}

esk_status esk_daq_read_declaration(const esk_ring *ring, uint32_t number, char *ret_instrument,
	struct ArrowSchema *ret_schema, esk_error *err)
{
	esk_arrow_decoder *decoder;
	char instrument[ESK_DAQ_MAX_INSTRUMENT + 1];
	esk_status status = esk_arrow_decoder_create(&decoder, err);
	if (status != ESK_OK)
		return status;
	status = esk_daq_declaration_feed(ring, number, decoder, instrument, err);
	if (status == ESK_OK)
		status = esk_arrow_schema_copy(esk_arrow_decoder_schema(decoder), ret_schema, err);
	if (status == ESK_OK)
		memcpy(ret_instrument, instrument, sizeof instrument);
	esk_arrow_decoder_destroy(decoder);
	return status;
}

/* ---- batches ---- */

esk_status esk_daq_stream_failed(struct ArrowArrayStream *stream, int error, esk_error *err)
{
	const char *why = stream->get_last_error(stream);
	esk_status status = error == ENOMEM ? ESK_ENOMEM : error == ENOTSUP ? ESK_EUNSUPPORTED : ESK_ECORRUPT;
	return esk_fail(err, status, "%s", why != NULL ? why : strerror(error));
}

/* The one batch of a stream. */
static esk_status take_batch(struct ArrowArrayStream *stream, struct ArrowArray *ret_array, esk_error *err)
{
	struct ArrowArray array = {0}, more = {0};
	int error = stream->get_next(stream, &array);
	if (error != 0)
		return esk_daq_stream_failed(stream, error, err);
	if (array.release == NULL)
		return esk_fail(err, ESK_ECORRUPT, "there is no record batch in the record");
	error = stream->get_next(stream, &more);
	if (error == 0 && more.release == NULL) {
		*ret_array = array;
		return ESK_OK;
	}
	array.release(&array);
	if (error != 0)
		return esk_daq_stream_failed(stream, error, err);
	more.release(&more);
	return esk_fail(err, ESK_ECORRUPT, "there are several record batches in the record");
}

esk_status esk_daq_read_batch(const esk_ring *ring, uint32_t number, const void *payload, size_t size,
	struct ArrowArray *ret_array, esk_error *err)
{
	esk_daq_declaration declaration;
	struct ArrowArrayStream stream;
	esk_error why = {0};
	void *bytes;
	if (size > UINT32_MAX) /* no record is larger */
		return esk_fail(err, ESK_ERANGE, "a record of %zu bytes", size);
	esk_status status = copy_declaration(ring, number, size, &bytes, &declaration, err);
	if (status != ESK_OK)
		return status;
	/* The schema, and the record behind it, are a stream. The arrays point into it. */
	uint8_t *end = (uint8_t *)bytes + ((const uint8_t *)declaration.schema - (const uint8_t *)bytes) +
		       declaration.schema_bytes;
	if (size > 0)
		esk_ring_copy(end, payload, size);
	status = esk_arrow_open_memory(
		declaration.schema, declaration.schema_bytes + size, free, bytes, &stream, &why);
	if (status != ESK_OK) {
		free(bytes);
	} else {
		status = take_batch(&stream, ret_array, &why);
		stream.release(&stream);
	}
	return status == ESK_OK ? ESK_OK
				: esk_fail(err, status, "ring %s, a batch of declaration %u: %s",
					  esk_ring_path(ring), number, why.message);
}
