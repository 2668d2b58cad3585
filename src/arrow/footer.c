/* See footer.h. The numbers of fields are those of File.fbs of the Arrow format.
 *
 *   "ARROW1" 0 0 │ schema, dictionaries, batches, end mark │ footer │ its size, i32 │ "ARROW1"
 */
#include "arrow/footer.h"
#include <string.h>

static const char magic[8] = "ARROW1"; /* two bytes of padding behind it, where the file begins */
#define MAGIC_BYTES 6
#define START_BYTES ESK_ARROW_HEAD_BYTES
#define TAIL_BYTES (4 + MAGIC_BYTES)
#define ENTRY_BYTES 24 /* offset i64, bytes of prefix and metadata i32, padding, bytes of the body i64 */

enum { FOOTER_VERSION, FOOTER_SCHEMA, FOOTER_DICTIONARIES, FOOTER_BATCHES };

typedef struct reading {
	esk_arrow_decoder *decoder;
	const uint8_t *data;
	uint64_t end; /* where the footer begins: messages end before */
	esk_arrow_block *source;
	esk_error *err;
} reading;

bool esk_arrow_has_magic(const uint8_t *data, uint64_t size)
{
	return size >= START_BYTES && memcmp(data, magic, MAGIC_BYTES) == 0;
}

esk_arrow_place esk_arrow_blocks_get(const esk_arrow_blocks *blocks, uint64_t index)
{
	const uint8_t *entry = blocks->entries + index * ENTRY_BYTES;
	return (esk_arrow_place){(uint64_t)esk_load_i64(entry),
		(uint64_t)esk_load_i32(entry + 8) + (uint64_t)esk_load_i64(entry + 16)};
}

/* Block `index` must lie before the footer and be a message of `kind` with just its bytes. */
static esk_status check_block(
	const reading *r, const esk_arrow_blocks *blocks, uint64_t index, esk_arrow_message_kind kind)
{
	const uint8_t *entry = blocks->entries + index * ENTRY_BYTES;
	const char *what = kind == ESK_ARROW_BATCH ? "record batch" : "dictionary";
	int64_t offset = esk_load_i64(entry), body = esk_load_i64(entry + 16);
	int32_t metadata = esk_load_i32(entry + 8);
	if (offset < START_BYTES || metadata < 8 || body < 0 || (uint64_t)offset > r->end ||
		(uint64_t)metadata > r->end - (uint64_t)offset ||
		(uint64_t)body > r->end - (uint64_t)offset - (uint64_t)metadata)
		return esk_fail(r->err, ESK_ECORRUPT,
			"the footer of an Arrow file has %s %llu at byte %lld with %d + %lld bytes: its "
			"messages are in bytes 8 to %llu",
			what, (unsigned long long)index, (long long)offset, metadata, (long long)body,
			(unsigned long long)r->end);
	esk_arrow_subject subject = {.code = ESK_ECORRUPT, .number = index, .at_byte = (uint64_t)offset};
	esk_arrow_message message;
	esk_status status = esk_arrow_message_read(
		&subject, r->data + offset, (uint64_t)metadata + (uint64_t)body, &message, r->err);
	if (status != ESK_OK)
		return status;
	if (message.kind != kind || message.bytes != (uint64_t)metadata + (uint64_t)body)
		return esk_fail(r->err, ESK_ECORRUPT,
			"the footer of an Arrow file has a %s of %llu bytes at byte %lld: there is a %s of "
			"%llu",
			what, (unsigned long long)metadata + (unsigned long long)body, (long long)offset,
			subject.kind, (unsigned long long)message.bytes);
	return ESK_OK;
}

static esk_status check_blocks(const reading *r, const esk_arrow_blocks *blocks, esk_arrow_message_kind kind)
{
	/* A message has more bytes than its entry: a longer list refers to the same ones again and again. */
	if (blocks->count > r->end / ENTRY_BYTES)
		return esk_fail(r->err, ESK_ECORRUPT,
			"the footer of an Arrow file has %llu messages in %llu bytes",
			(unsigned long long)blocks->count, (unsigned long long)r->end);
	esk_status status = ESK_OK;
	for (uint64_t i = 0; i < blocks->count && status == ESK_OK; i++)
		status = check_block(r, blocks, i, kind);
	return status;
}

/* Whether the file begins with a schema message. The format demands it; files from JavaScript have their
 * schema in the footer alone. */
static esk_status begins_with_schema(const reading *r, bool *ret_begins)
{
	esk_arrow_subject subject = {.code = ESK_ECORRUPT, .at_byte = START_BYTES};
	esk_arrow_message message;
	esk_status status = esk_arrow_message_read(
		&subject, r->data + START_BYTES, r->end - START_BYTES, &message, r->err);
	if (status == ESK_OK)
		*ret_begins = message.kind == ESK_ARROW_SCHEMA;
	return status;
}

/* The schema message at the start of the file must be as the footer's schema, `plan`. */
static esk_status compare_schema(const reading *r, const esk_arrow_plan *plan)
{
	esk_arrow_message_kind kind;
	struct ArrowArray none;
	uint64_t used;
	esk_status status = esk_arrow_decoder_take(
		r->decoder, r->data + START_BYTES, r->end - START_BYTES, NULL, &used, &kind, &none, r->err);
	if (status != ESK_OK)
		return status;
	return esk_arrow_schema_same(&plan->schema, esk_arrow_decoder_schema(r->decoder))
		       ? ESK_OK
		       : esk_fail(r->err, ESK_ECORRUPT,
				 "the footer of an Arrow file has another schema than the file begins with");
}

static esk_status take_schema(const reading *r, esk_flatbuffer *footer, const esk_flatbuffer_table *table)
{
	esk_arrow_plan plan;
	bool begins;
	esk_status status = begins_with_schema(r, &begins);
	if (status != ESK_OK)
		return status;
	status = esk_arrow_plan_decode(footer, table, &plan, r->err);
	if (status != ESK_OK)
		return esk_fail_in(r->err, status, "the footer of an Arrow file");
	if (!begins)
		return esk_arrow_decoder_plan(r->decoder, &plan, r->err);
	status = compare_schema(r, &plan);
	esk_arrow_plan_free(&plan);
	return status;
}

static esk_status take_dictionaries(const reading *r, const esk_arrow_blocks *blocks)
{
	for (uint64_t i = 0; i < blocks->count; i++) {
		struct ArrowArray none;
		uint64_t used;
		esk_arrow_place place = esk_arrow_blocks_get(blocks, i);
		r->decoder->bytes = place.offset;
		esk_status status = esk_arrow_decoder_take(r->decoder, r->data + place.offset, place.bytes,
			r->source, &used, NULL, &none, r->err);
		if (status != ESK_OK)
			return status;
	}
	return ESK_OK;
}

/* Finds the footer; *ret_footer are its bytes. */
static esk_status find_footer(
	const uint8_t *data, uint64_t size, esk_flatbuffer *ret_footer, uint64_t *ret_start, esk_error *err)
{
	if (size < START_BYTES + TAIL_BYTES || memcmp(data + size - MAGIC_BYTES, magic, MAGIC_BYTES) != 0)
		return esk_fail(err, ESK_ECORRUPT,
			"an Arrow file of %llu bytes does not end with its magic: it was not finished, or is "
			"cut short",
			(unsigned long long)size);
	int32_t bytes = esk_load_i32(data + size - TAIL_BYTES);
	if (bytes <= 0 || (uint64_t)bytes > size - START_BYTES - TAIL_BYTES)
		return esk_fail(err, ESK_ECORRUPT, "the footer of an Arrow file of %llu bytes says it has %d",
			(unsigned long long)size, bytes);
	*ret_start = size - TAIL_BYTES - (uint64_t)bytes;
	*ret_footer = (esk_flatbuffer){.data = data + *ret_start, .size = (uint64_t)bytes};
	return ESK_OK;
}

esk_status esk_arrow_footer_read(esk_arrow_decoder *decoder, const uint8_t *data, uint64_t size,
	esk_arrow_block *source, esk_arrow_blocks *ret_batches, esk_error *err)
{
	esk_flatbuffer footer;
	reading r = {.decoder = decoder, .data = data, .source = source, .err = err};
	esk_status status = find_footer(data, size, &footer, &r.end, err);
	if (status != ESK_OK)
		return status;
	esk_flatbuffer_table table = esk_flatbuffer_root(&footer);
	int16_t version = esk_flatbuffer_i16(&footer, &table, FOOTER_VERSION, 0);
	esk_flatbuffer_table schema = esk_flatbuffer_child(&footer, &table, FOOTER_SCHEMA);
	esk_flatbuffer_vector dictionaries =
		esk_flatbuffer_vector_of(&footer, &table, FOOTER_DICTIONARIES, ENTRY_BYTES);
	esk_flatbuffer_vector batches =
		esk_flatbuffer_vector_of(&footer, &table, FOOTER_BATCHES, ENTRY_BYTES);
	if (footer.fault != NULL)
		return esk_fail(err, ESK_ECORRUPT,
			"the footer of an Arrow file is damaged: %s (byte %llu of %llu)", footer.fault,
			(unsigned long long)footer.fault_at, (unsigned long long)footer.size);
	if (version < 3 || version > 4)
		return esk_fail(err, ESK_EUNSUPPORTED, "an Arrow file of version V%d: V4 and V5 are read",
			version + 1);
	esk_arrow_blocks places = {footer.data + dictionaries.at, dictionaries.count};
	esk_arrow_blocks found = {footer.data + batches.at, batches.count};
	status = take_schema(&r, &footer, &schema);
	if (status == ESK_OK)
		status = check_blocks(&r, &places, ESK_ARROW_DICTIONARY);
	if (status == ESK_OK)
		status = check_blocks(&r, &found, ESK_ARROW_BATCH);
	if (status == ESK_OK)
		status = take_dictionaries(&r, &places);
	if (status == ESK_OK)
		*ret_batches = found;
	return status;
}
