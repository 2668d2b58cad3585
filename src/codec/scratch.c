/* Working memory of one thread: made on first use, kept until the scratch goes. May use: base. */
#include "codec/stage.h"
#include <isa-l/igzip_lib.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <zstd.h>

esk_scratch *esk_scratch_create(void)
{
	return calloc(1, sizeof(esk_scratch));
}

void esk_scratch_set_strict(esk_scratch *scratch, bool strict)
{
	scratch->strict = strict;
}

void esk_scratch_destroy(esk_scratch *scratch)
{
	if (scratch == NULL)
		return;
	free(scratch->deflate_stream);
	free(scratch->inflate_state);
	for (size_t i = 0; i < sizeof scratch->deflaters / sizeof scratch->deflaters[0]; i++)
		libdeflate_free_compressor(scratch->deflaters[i]);
	libdeflate_free_decompressor(scratch->inflater);
	ZSTD_freeCCtx(scratch->zstd_compressor);
	ZSTD_freeDCtx(scratch->zstd_decompressor);
	free(scratch->lzf_table);
	for (int i = 0; i < ESK_BUFFERS; i++)
		free(scratch->buffers[i].data);
	free(scratch);
}

esk_status esk_scratch_buffer(
	esk_scratch *scratch, int index, size_t size, uint8_t **ret_data, esk_error *err)
{
	if (size > SIZE_MAX / 2)
		return esk_fail_memory(err, size, "a chunk's working buffer");
	if (size > scratch->buffers[index].capacity || scratch->buffers[index].data == NULL) {
		size_t capacity = esk_round_up(size + (size == 0), 4096);
		uint8_t *data = aligned_alloc(64, capacity);
		if (data == NULL)
			return esk_fail_memory(err, capacity, "a chunk's working buffer");
		free(scratch->buffers[index].data);
		scratch->buffers[index].data = data;
		scratch->buffers[index].capacity = capacity;
	}
	*ret_data = scratch->buffers[index].data;
	return ESK_OK;
}
