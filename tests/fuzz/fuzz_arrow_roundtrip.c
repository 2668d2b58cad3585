/* What the decoder takes from any bytes, the encoder writes again, and what is decoded from that is the same:
 * it is written as the same bytes, since equal values give equal messages. Seeds:
 * make_arrow_roundtrip_corpus.py. */
#include "base/base.h"

#include <esker/arrow_encode.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct bytes {
	uint8_t *data;
	size_t size;
} bytes;

static bytes encode(esk_arrow_encoder *encoder, const struct ArrowArray *batch)
{
	bytes out;
	esk_error err;
	size_t wrote;
	if (esk_arrow_encoder_batch_bytes(encoder, batch, &out.size, &err) != ESK_OK ||
		(out.data = malloc(out.size)) == NULL ||
		esk_arrow_encoder_batch(encoder, batch, out.data, out.size, &wrote, &err) != ESK_OK ||
		wrote != out.size)
		abort(); /* the decoder takes no array that is not sound */
	return out;
}

/* The batch in messages behind a schema. */
static struct ArrowArray decode(esk_arrow_decoder *decoder, const uint8_t *data, size_t size)
{
	struct ArrowArray batch = {0};
	esk_error err;
	size_t used;
	for (; size > 0; data += used, size -= used)
		if (batch.release != NULL ||
			esk_arrow_decoder_feed(decoder, data, size, &used, &batch, &err) != ESK_OK)
			abort();
	return batch;
}

static void there_and_back(esk_arrow_encoder *encoder, const struct ArrowArray *batch)
{
	esk_arrow_decoder *decoder;
	esk_error err;
	size_t schema_bytes;
	const void *schema = esk_arrow_encoder_schema(encoder, &schema_bytes);
	if (esk_arrow_decoder_create(&decoder, &err) != ESK_OK)
		abort();
	decode(decoder, schema, schema_bytes);
	bytes first = encode(encoder, batch);
	struct ArrowArray again = decode(decoder, first.data, first.size);
	if (again.release == NULL || again.length != batch->length)
		abort();
	bytes second = encode(encoder, &again);
	if (first.size != second.size || memcmp(first.data, second.data, first.size) != 0)
		abort();
	again.release(&again);
	free(first.data);
	free(second.data);
	esk_arrow_decoder_destroy(decoder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ArrowArrayStream stream;
	struct ArrowSchema schema;
	struct ArrowArray batch;
	esk_arrow_encoder *encoder;
	esk_error err;
	if (esk_arrow_open_memory(data, size, NULL, NULL, &stream, &err) != ESK_OK)
		return 0;
	if (stream.get_schema(&stream, &schema) != 0)
		abort();
	if (esk_arrow_encoder_create(&schema, 0, &encoder, &err) == ESK_OK) {
		while (stream.get_next(&stream, &batch) == 0 && batch.release != NULL) {
			there_and_back(encoder, &batch);
			batch.release(&batch);
		}
		esk_arrow_encoder_destroy(encoder);
	} else if (err.code != ESK_EUNSUPPORTED) {
		abort();
	}
	schema.release(&schema);
	stream.release(&stream);
	return 0;
}
