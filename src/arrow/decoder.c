/* The public decoder: see esker/arrow.h, and decoder.h for its inside. */
#include "arrow/decoder.h"
#include <stdlib.h>
#include <string.h>

esk_status esk_arrow_decoder_create(esk_arrow_decoder **ret_decoder, esk_error *err)
{
	esk_arrow_decoder *decoder = calloc(1, sizeof(*decoder));
	if (decoder != NULL)
		decoder->pool = esk_arrow_pool_create();
	if (decoder == NULL || decoder->pool == NULL) {
		free(decoder);
		return esk_fail_memory(err, sizeof(*decoder), "an Arrow decoder");
	}
	decoder->max_bytes = ESK_ARROW_MESSAGE_BYTES;
	*ret_decoder = decoder;
	return ESK_OK;
}

void esk_arrow_decoder_destroy(esk_arrow_decoder *decoder)
{
	if (decoder == NULL)
		return;
	for (uint32_t i = 0; i < decoder->plan.slot_count; i++) {
		if (decoder->dictionaries[i].release != NULL)
			decoder->dictionaries[i].release(&decoder->dictionaries[i]);
	}
	free(decoder->dictionaries);
	esk_arrow_plan_free(&decoder->plan);
	free(decoder->schema_metadata);
	esk_arrow_team_destroy(decoder->team);
	for (uint32_t i = 0; i < ESK_ARROW_TEAM_MEMBERS; i++)
		esk_arrow_codecs_free(&decoder->codecs[i]);
	esk_arrow_pool_close(decoder->pool);
	free(decoder);
}

esk_status esk_arrow_decoder_limit(esk_arrow_decoder *decoder, uint64_t max_bytes, esk_error *err)
{
	if (max_bytes == 0 || max_bytes > UINT64_MAX / 16)
		return esk_fail(err, ESK_EINVAL, "a limit of %llu bytes for Arrow messages is none",
			(unsigned long long)max_bytes);
	decoder->max_bytes = max_bytes;
	return ESK_OK;
}

const struct ArrowSchema *esk_arrow_decoder_schema(const esk_arrow_decoder *decoder)
{
	return decoder->has_schema ? &decoder->plan.schema : NULL;
}

esk_status esk_arrow_decoder_plan(esk_arrow_decoder *decoder, esk_arrow_plan *plan, esk_error *err)
{
	struct ArrowArray *dictionaries = calloc(plan->slot_count + 1, sizeof(*dictionaries));
	if (dictionaries == NULL) {
		esk_arrow_plan_free(plan);
		return esk_fail_memory(err, plan->slot_count, "the dictionaries of an Arrow stream");
	}
	decoder->plan = *plan;
	decoder->plan.root.schema = &decoder->plan.schema; /* not where it was made */
	decoder->dictionaries = dictionaries;
	decoder->has_schema = true;
	return ESK_OK;
}

static esk_status take_schema(esk_arrow_decoder *decoder, const esk_arrow_subject *subject,
	esk_arrow_message *message, esk_error *err)
{
	if (decoder->has_schema) {
		if (message->metadata_bytes == decoder->schema_metadata_bytes &&
			memcmp(message->metadata.data, decoder->schema_metadata, message->metadata_bytes) ==
				0)
			return ESK_OK;
		return esk_arrow_wrong(subject, NULL, ESK_ETYPE, err,
			"it is another schema than the first, which holds for the whole stream");
	}
	esk_error reason = {0};
	esk_arrow_plan plan;
	uint8_t *copy = malloc(message->metadata_bytes);
	if (copy == NULL)
		return esk_fail_memory(err, message->metadata_bytes, "an Arrow schema");
	esk_status status = esk_arrow_plan_decode(&message->metadata, &message->header, &plan, &reason);
	if (status != ESK_OK) {
		free(copy);
		return esk_arrow_wrong(subject, NULL, status, err, "%s", reason.message);
	}
	status = esk_arrow_decoder_plan(decoder, &plan, err);
	if (status != ESK_OK) {
		free(copy);
		return status;
	}
	memcpy(copy, message->metadata.data, message->metadata_bytes);
	decoder->schema_metadata = copy;
	decoder->schema_metadata_bytes = message->metadata_bytes;
	return ESK_OK;
}

/* A child out of its parent: what the interface calls moving. The parent is released. */
static struct ArrowArray take_child(struct ArrowArray *root)
{
	struct ArrowArray child = *root->children[0];
	root->children[0]->release = NULL;
	root->release(root);
	return child;
}

static esk_status take_dictionary(esk_arrow_decoder *decoder, const esk_arrow_subject *subject,
	esk_arrow_message *message, esk_arrow_block *source, esk_error *err)
{
	esk_arrow_dictionary_batch batch;
	esk_status status = esk_arrow_dictionary_read(subject, message, &batch, err);
	if (status != ESK_OK)
		return status;
	uint32_t slot = 0;
	while (slot < decoder->plan.slot_count && decoder->plan.slots[slot].id != batch.id)
		slot++;
	if (slot == decoder->plan.slot_count)
		return esk_arrow_wrong(subject, NULL, ESK_ECORRUPT, err,
			"it is dictionary %lld, which no field of the schema refers to", (long long)batch.id);
	struct ArrowArray *values = &decoder->dictionaries[slot];
	const esk_arrow_node *node = decoder->plan.slots[slot].values;
	if (batch.delta && values->release == NULL)
		return esk_arrow_wrong(subject, NULL, ESK_ECORRUPT, err,
			"it adds to dictionary %lld, which has not come yet", (long long)batch.id);
	struct ArrowArray root, fresh;
	status = esk_arrow_batch_decode(
		decoder, subject, message, &batch.batch, node, 1, source, source != NULL, &root, err);
	if (status != ESK_OK)
		return status;
	fresh = take_child(&root);
	if (batch.delta) {
		struct ArrowArray joined;
		status = esk_arrow_join(decoder, subject, node, values, &fresh, &joined, err);
		fresh.release(&fresh);
		if (status != ESK_OK)
			return status;
		fresh = joined;
	}
	if (values->release != NULL)
		values->release(values);
	*values = fresh;
	return ESK_OK;
}

static esk_status take_batch(esk_arrow_decoder *decoder, const esk_arrow_subject *subject,
	esk_arrow_message *message, esk_arrow_block *source, struct ArrowArray *ret_array, esk_error *err)
{
	esk_arrow_batch batch;
	esk_status status = esk_arrow_batch_read(subject, message, &message->header, &batch, err);
	if (status != ESK_OK)
		return status;
	return esk_arrow_batch_decode(decoder, subject, message, &batch, decoder->plan.root.children,
		decoder->plan.root.child_count, source, true, ret_array, err);
}

esk_status esk_arrow_decoder_take(esk_arrow_decoder *decoder, const void *data, uint64_t size,
	esk_arrow_block *source, uint64_t *ret_used, esk_arrow_message_kind *ret_kind,
	struct ArrowArray *ret_array, esk_error *err)
{
	esk_arrow_subject subject = {.code = ESK_ECORRUPT,
		.number = decoder->messages,
		.at_byte = decoder->bytes,
		.most_rows = decoder->max_bytes * 8};
	esk_arrow_message message;
	struct ArrowArray array = {0};
	esk_status status = esk_arrow_message_read(&subject, data, size, &message, err);
	if (status != ESK_OK)
		return status;
	if (message.bytes > decoder->max_bytes)
		return esk_arrow_wrong(&subject, NULL, ESK_ERANGE, err,
			"it has %llu bytes: the limit is %llu", (unsigned long long)message.bytes,
			(unsigned long long)decoder->max_bytes);
	if (message.kind > ESK_ARROW_SCHEMA && !decoder->has_schema)
		return esk_arrow_wrong(&subject, NULL, ESK_ECORRUPT, err, "it comes before the schema");
	if (message.kind == ESK_ARROW_SCHEMA)
		status = take_schema(decoder, &subject, &message, err);
	else if (message.kind == ESK_ARROW_DICTIONARY)
		status = take_dictionary(decoder, &subject, &message, source, err);
	else if (message.kind == ESK_ARROW_BATCH)
		status = take_batch(decoder, &subject, &message, source, &array, err);
	if (status != ESK_OK)
		return status;
	decoder->messages++;
	decoder->bytes += message.bytes;
	*ret_used = message.bytes;
	*ret_array = array;
	if (ret_kind != NULL)
		*ret_kind = message.kind;
	return ESK_OK;
}

esk_status esk_arrow_decoder_feed(esk_arrow_decoder *decoder, const void *data, size_t size, size_t *ret_used,
	struct ArrowArray *ret_array, esk_error *err)
{
	uint64_t used;
	esk_status status = esk_arrow_decoder_take(decoder, data, size, NULL, &used, NULL, ret_array, err);
	if (status == ESK_OK)
		*ret_used = used;
	return status;
}
