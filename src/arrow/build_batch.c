/* Heads of RecordBatch and DictionaryBatch messages, built once per schema: every number in them stands at a
 * place that does not depend on the batch. */
#include "arrow/build.h"

#include <stdlib.h>
#include <string.h>

const uint8_t esk_build_end[ESK_BUILD_END_BYTES] = {0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0};

#define STRUCT_BYTES 16 /* FieldNode, Buffer */

void esk_build_frame(uint8_t *to, uint32_t bytes, uint32_t total)
{
	uint32_t marker = UINT32_MAX, length = total - ESK_BUILD_FRAME_BYTES;
	memcpy(to, &marker, sizeof marker);
	memcpy(to + sizeof marker, &length, sizeof length);
	memset(to + ESK_BUILD_FRAME_BYTES + bytes, 0, length - bytes);
}

/* Positions from the end of the flatbuffer, until it is complete. */
typedef struct positions {
	esk_builder_ref body, length, nodes, buffers, delta;
} positions;

static esk_builder_ref make_batch(
	esk_builder *flat, uint32_t node_count, uint32_t buffer_count, positions *at)
{
	static const int64_t no_rows = 0;
	esk_builder_table table;
	at->buffers = esk_builder_structs(flat, NULL, STRUCT_BYTES, buffer_count);
	at->nodes = esk_builder_structs(flat, NULL, STRUCT_BYTES, node_count);
	esk_builder_begin(flat, &table);
	at->length = esk_builder_add(flat, &table, 0, &no_rows, sizeof no_rows);
	esk_builder_add_ref(flat, &table, 1, at->nodes);
	esk_builder_add_ref(flat, &table, 2, at->buffers);
	return esk_builder_end(flat, &table);
}

static esk_builder_ref make_dictionary(esk_builder *flat, int64_t id, esk_builder_ref batch, positions *at)
{
	static const uint8_t no_delta = 0;
	esk_builder_table table;
	esk_builder_begin(flat, &table);
	esk_builder_add(flat, &table, 0, &id, sizeof id);
	esk_builder_add_ref(flat, &table, 1, batch);
	at->delta = esk_builder_add(flat, &table, 2, &no_delta, sizeof no_delta);
	return esk_builder_end(flat, &table);
}

static void make_message(esk_builder *flat, uint8_t header_type, esk_builder_ref header, positions *at)
{
	static const int16_t version = ESK_BUILD_VERSION;
	static const int64_t no_body = 0;
	esk_builder_table table;
	esk_builder_begin(flat, &table);
	at->body = esk_builder_add(flat, &table, 3, &no_body, sizeof no_body);
	esk_builder_add_ref(flat, &table, 2, header);
	esk_builder_add(flat, &table, 0, &version, sizeof version);
	esk_builder_add(flat, &table, 1, &header_type, sizeof header_type);
	esk_builder_finish(flat, esk_builder_end(flat, &table));
}

esk_status esk_build_batch(int64_t dictionary_id, uint32_t node_count, uint32_t buffer_count, uint32_t align,
	esk_build_template *ret_template, esk_error *err)
{
	esk_builder flat = {0};
	positions at = {0};
	bool dictionary = dictionary_id != ESK_BUILD_NO_DICTIONARY;
	esk_builder_ref header = make_batch(&flat, node_count, buffer_count, &at);
	if (dictionary)
		header = make_dictionary(&flat, dictionary_id, header, &at);
	make_message(&flat, dictionary ? ESK_BUILD_HEADER_DICTIONARY : ESK_BUILD_HEADER_BATCH, header, &at);
	size_t total = esk_round_up(ESK_BUILD_FRAME_BYTES + flat.size, align);
	uint8_t *data = flat.failed ? NULL : malloc(total);
	if (data == NULL) {
		esk_builder_free(&flat);
		return esk_fail_memory(err, total, "the head of an Arrow record batch");
	}
	memcpy(data + ESK_BUILD_FRAME_BYTES, esk_builder_bytes(&flat), flat.size);
	esk_build_frame(data, (uint32_t)flat.size, (uint32_t)total);
	uint32_t end = ESK_BUILD_FRAME_BYTES + (uint32_t)flat.size;
	*ret_template = (esk_build_template){.data = data,
		.bytes = (uint32_t)total,
		.body_at = end - at.body,
		.length_at = end - at.length,
		.nodes_at = end - at.nodes + (uint32_t)sizeof(uint32_t),
		.buffers_at = end - at.buffers + (uint32_t)sizeof(uint32_t),
		.delta_at = dictionary ? end - at.delta : 0};
	esk_builder_free(&flat);
	return ESK_OK;
}
