/* See message.h. The numbers of fields are those of Message.fbs of the Arrow format. */
#include "arrow/message.h"

#define CONTINUATION UINT32_C(0xFFFFFFFF)

enum { MESSAGE_VERSION, MESSAGE_HEADER_KIND, MESSAGE_HEADER, MESSAGE_BODY_BYTES };
enum { VERSION_V4 = 3, VERSION_V5 = 4 };
enum { HEADER_SCHEMA = 1, HEADER_DICTIONARY, HEADER_BATCH, HEADER_TENSOR, HEADER_SPARSE_TENSOR };
enum { BATCH_LENGTH, BATCH_NODES, BATCH_BUFFERS, BATCH_COMPRESSION };
enum { DICTIONARY_ID, DICTIONARY_DATA, DICTIONARY_DELTA };
enum { COMPRESSION_CODEC, COMPRESSION_METHOD };

/* The bytes in front of the metadata, and the metadata's; *ret_prefix 0: more must be seen. */
static esk_status read_prefix(
	const uint8_t *data, uint64_t size, uint64_t *ret_prefix, uint64_t *ret_metadata, esk_error *err)
{
	*ret_prefix = 0;
	if (size < 4)
		return ESK_OK;
	uint32_t first = esk_load_u32(data);
	if (first == CONTINUATION && size < 8)
		return ESK_OK;
	int32_t length = (int32_t)(first == CONTINUATION ? esk_load_u32(data + 4) : first);
	if (length < 0)
		return esk_fail(err, ESK_ECORRUPT, "its metadata have %d bytes", length);
	*ret_prefix = first == CONTINUATION ? 8 : 4;
	*ret_metadata = (uint64_t)length;
	return ESK_OK;
}

/* The Message table, and the bytes of its body. */
static esk_status read_body_bytes(
	esk_flatbuffer *metadata, esk_flatbuffer_table *ret_table, uint64_t *ret_body, esk_error *err)
{
	*ret_table = esk_flatbuffer_root(metadata);
	int64_t body = esk_flatbuffer_i64(metadata, ret_table, MESSAGE_BODY_BYTES, 0);
	if (metadata->fault != NULL)
		return esk_fail(err, ESK_ECORRUPT, "its metadata are damaged: %s (byte %llu of %llu)",
			metadata->fault, (unsigned long long)metadata->fault_at,
			(unsigned long long)metadata->size);
	if (body < 0)
		return esk_fail(err, ESK_ECORRUPT, "its body has %lld bytes", (long long)body);
	*ret_body = (uint64_t)body;
	return ESK_OK;
}

esk_status esk_arrow_message_bytes(
	const void *data, size_t size, uint64_t max_bytes, uint64_t *ret_bytes, esk_error *err)
{
	uint64_t prefix, metadata_bytes = 0, body_bytes, bytes;
	esk_flatbuffer_table table;
	esk_status status = read_prefix(data, size, &prefix, &metadata_bytes, err);
	if (status == ESK_OK && prefix > 0 && metadata_bytes == 0) {
		*ret_bytes = prefix;
		return ESK_OK;
	}
	if (status != ESK_OK)
		return esk_fail_in(err, status, "an Arrow message");
	if (metadata_bytes > max_bytes)
		return esk_fail(err, ESK_ERANGE,
			"an Arrow message has %llu bytes of metadata: at most %llu are taken",
			(unsigned long long)metadata_bytes, (unsigned long long)max_bytes);
	if (prefix == 0 || size - prefix < metadata_bytes) {
		*ret_bytes = 0;
		return ESK_OK;
	}
	esk_flatbuffer metadata = {.data = (const uint8_t *)data + prefix, .size = metadata_bytes};
	status = read_body_bytes(&metadata, &table, &body_bytes, err);
	if (status != ESK_OK)
		return esk_fail_in(err, status, "an Arrow message");
	if (!esk_add_u64(prefix + metadata_bytes, body_bytes, &bytes) || bytes > max_bytes)
		return esk_fail(err, ESK_ERANGE,
			"an Arrow message has a body of %llu bytes: at most %llu are taken",
			(unsigned long long)body_bytes, (unsigned long long)max_bytes);
	*ret_bytes = bytes;
	return ESK_OK;
}

static esk_status damaged(const esk_arrow_subject *subject, const esk_flatbuffer *metadata, esk_error *err)
{
	return esk_arrow_wrong(subject, NULL, ESK_ECORRUPT, err,
		"its metadata are damaged: %s (byte %llu of %llu)", metadata->fault,
		(unsigned long long)metadata->fault_at, (unsigned long long)metadata->size);
}

/* Version and kind. */
static esk_status read_header(esk_arrow_subject *subject, const esk_flatbuffer_table *table,
	esk_arrow_message *message, esk_error *err)
{
	static const char *const kinds[] = {
		"no header", "schema", "dictionary", "record batch", "tensor", "sparse tensor"};
	int16_t version = esk_flatbuffer_i16(&message->metadata, table, MESSAGE_VERSION, 0);
	uint8_t kind = esk_flatbuffer_u8(&message->metadata, table, MESSAGE_HEADER_KIND, 0);
	message->header = esk_flatbuffer_child(&message->metadata, table, MESSAGE_HEADER);
	if (message->metadata.fault != NULL)
		return damaged(subject, &message->metadata, err);
	subject->kind = kind < sizeof kinds / sizeof *kinds ? kinds[kind] : "unknown";
	if (version < VERSION_V4 || version > VERSION_V5)
		return esk_arrow_wrong(subject, NULL, ESK_EUNSUPPORTED, err,
			"its metadata are of version V%d: V4 and V5 are read", version + 1);
	if (kind < HEADER_SCHEMA || kind > HEADER_BATCH)
		return esk_arrow_wrong(subject, NULL, kind == 0 ? ESK_ECORRUPT : ESK_EUNSUPPORTED, err,
			"messages of kind %d are not read: schemas, dictionaries and record batches are",
			kind);
	if (!esk_flatbuffer_there(&message->header))
		return esk_arrow_wrong(subject, NULL, ESK_ECORRUPT, err, "its header is missing");
	message->kind = (esk_arrow_message_kind)kind;
	message->old_unions = version == VERSION_V4;
	return ESK_OK;
}

esk_status esk_arrow_message_read(esk_arrow_subject *subject, const void *data, uint64_t size,
	esk_arrow_message *ret_message, esk_error *err)
{
	esk_arrow_message message = {0};
	esk_flatbuffer_table table;
	esk_error reason = {0};
	subject->kind = "unknown";
	esk_status status = read_prefix(data, size, &message.prefix_bytes, &message.metadata_bytes, &reason);
	if (status != ESK_OK)
		return esk_arrow_wrong(subject, NULL, status, err, "%s", reason.message);
	if (message.prefix_bytes == 0 || size - message.prefix_bytes < message.metadata_bytes)
		return esk_arrow_wrong(subject, NULL, ESK_ECORRUPT, err,
			"it is cut short: %llu bytes are there, and %llu of metadata were expected behind "
			"the first %llu",
			(unsigned long long)size, (unsigned long long)message.metadata_bytes,
			(unsigned long long)message.prefix_bytes);
	message.bytes = message.prefix_bytes + message.metadata_bytes;
	message.metadata = (esk_flatbuffer){
		.data = (const uint8_t *)data + message.prefix_bytes, .size = message.metadata_bytes};
	if (message.metadata_bytes == 0) {
		subject->kind = "end of stream";
		*ret_message = message;
		return ESK_OK;
	}
	status = read_body_bytes(&message.metadata, &table, &message.body_bytes, &reason);
	if (status != ESK_OK)
		return esk_arrow_wrong(subject, NULL, status, err, "%s", reason.message);
	status = read_header(subject, &table, &message, err);
	if (status != ESK_OK)
		return status;
	if (size - message.bytes < message.body_bytes)
		return esk_arrow_wrong(subject, NULL, ESK_ECORRUPT, err,
			"it is cut short: its body has %llu bytes, and %llu are there",
			(unsigned long long)message.body_bytes, (unsigned long long)(size - message.bytes));
	message.body = (const uint8_t *)data + message.bytes;
	message.bytes += message.body_bytes;
	*ret_message = message;
	return ESK_OK;
}

esk_status esk_arrow_batch_read(const esk_arrow_subject *subject, esk_arrow_message *message,
	const esk_flatbuffer_table *table, esk_arrow_batch *ret_batch, esk_error *err)
{
	esk_flatbuffer *metadata = &message->metadata;
	esk_arrow_batch batch = {.length = esk_flatbuffer_i64(metadata, table, BATCH_LENGTH, 0),
		.nodes = esk_flatbuffer_vector_of(metadata, table, BATCH_NODES, 16),
		.buffers = esk_flatbuffer_vector_of(metadata, table, BATCH_BUFFERS, 16)};
	esk_flatbuffer_table compression = esk_flatbuffer_child(metadata, table, BATCH_COMPRESSION);
	uint8_t codec = esk_flatbuffer_u8(metadata, &compression, COMPRESSION_CODEC, 0);
	uint8_t method = esk_flatbuffer_u8(metadata, &compression, COMPRESSION_METHOD, 0);
	if (metadata->fault != NULL)
		return damaged(subject, metadata, err);
	if (batch.length < 0)
		return esk_arrow_wrong(
			subject, NULL, ESK_ECORRUPT, err, "it has %lld rows", (long long)batch.length);
	if (esk_flatbuffer_there(&compression)) {
		if (codec > 1 || method != 0)
			return esk_arrow_wrong(subject, NULL, ESK_EUNSUPPORTED, err,
				"its body is compressed with codec %d by method %d: LZ4 frames (0) and "
				"Zstandard (1) by buffer (0) are read",
				codec, method);
		batch.codec = codec == 0 ? ESK_ARROW_LZ4 : ESK_ARROW_ZSTD;
	}
	*ret_batch = batch;
	return ESK_OK;
}

esk_status esk_arrow_dictionary_read(const esk_arrow_subject *subject, esk_arrow_message *message,
	esk_arrow_dictionary_batch *ret_batch, esk_error *err)
{
	esk_flatbuffer_table data =
		esk_flatbuffer_child(&message->metadata, &message->header, DICTIONARY_DATA);
	esk_arrow_dictionary_batch batch = {
		.id = esk_flatbuffer_i64(&message->metadata, &message->header, DICTIONARY_ID, 0),
		.delta = esk_flatbuffer_u8(&message->metadata, &message->header, DICTIONARY_DELTA, 0) != 0};
	if (message->metadata.fault != NULL)
		return damaged(subject, &message->metadata, err);
	if (!esk_flatbuffer_there(&data))
		return esk_arrow_wrong(subject, NULL, ESK_ECORRUPT, err, "its values are missing");
	esk_status status = esk_arrow_batch_read(subject, message, &data, &batch.batch, err);
	if (status == ESK_OK)
		*ret_batch = batch;
	return status;
}
