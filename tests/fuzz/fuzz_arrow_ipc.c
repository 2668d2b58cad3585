/* Any bytes as an Arrow IPC stream or file, and as messages for a decoder: refused with a reason, or arrays
 * that can be walked and that esk_arrow_validate finds sound. Seeds: make_arrow_ipc_corpus.py. */
#include "support/arrow_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Feeds message after message, each in memory of exactly its size. */
static void feed(const uint8_t *data, size_t size)
{
	esk_arrow_decoder *decoder;
	esk_error err = {0};
	if (esk_arrow_decoder_create(&decoder, &err) != ESK_OK ||
		esk_arrow_decoder_limit(decoder, 1 << 24, &err) != ESK_OK)
		abort();
	uint64_t bytes = 0;
	size_t used;
	struct ArrowArray array;
	while (size > 0 && esk_arrow_message_bytes(data, size, 1 << 24, &bytes, &err) == ESK_OK &&
		bytes > 0) {
		size_t whole = bytes < size ? (size_t)bytes : size;
		uint8_t *message = malloc(whole);
		if (message == NULL)
			abort();
		memcpy(message, data, whole);
		esk_status status = esk_arrow_decoder_feed(decoder, message, whole, &used, &array, &err);
		if (status == ESK_OK && used != bytes)
			abort();
		if (status == ESK_OK && array.release != NULL) {
			volatile uint64_t sum = arrow_touch_all(esk_arrow_decoder_schema(decoder), &array);
			(void)sum;
			array.release(&array);
		}
		free(message); /* dictionaries must not point into it */
		data += whole;
		size -= whole;
	}
	esk_arrow_decoder_destroy(decoder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	esk_error err;
	arrow_read_all(data, size, &err);
	feed(data, size);
	return 0;
}
