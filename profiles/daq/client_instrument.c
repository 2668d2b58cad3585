/* Schemas of the client's instruments: see client.h. */
#include "client.h"

#include <esker/profile.h>

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

esk_status esk_client_header(
	json_t *header, uint8_t *buf, size_t buf_bytes, size_t *ret_bytes, esk_error *err)
{
	if (header == NULL)
		return esk_fail(err, ESK_EINVAL, "a name or key that is not UTF-8");
	size_t room = buf_bytes - ESK_FRAME_HEAD_BYTES;
	char *text = (char *)buf + ESK_FRAME_HEAD_BYTES;
	size_t size = json_dumpb(header, text, room, JSON_COMPACT);
	json_decref(header);
	size_t filled = (size_t)esk_frame_round(size);
	if (size == 0)
		return esk_fail_memory(err, room, "a header");
	if (filled > room || filled > ESK_FRAME_MOST_HEADER_BYTES)
		return esk_fail(err, ESK_ERANGE, "a header of %zu bytes; at most %u fit a message", size,
			ESK_FRAME_MOST_HEADER_BYTES);
	memset(text + size, ' ', filled - size);
	*ret_bytes = ESK_FRAME_HEAD_BYTES + filled;
	return ESK_OK;
}

static esk_status make_headers(esk_client_instrument *instrument, esk_error *err)
{
	esk_status status = esk_client_header(
		json_pack("{s:s, s:s}", "type", "WriteBatch", "instrument", instrument->name),
		instrument->whole, sizeof instrument->whole, &instrument->whole_bytes, err);
	if (status != ESK_OK)
		return status;
	return esk_client_header(json_pack("{s:s, s:s, s:b}", "type", "WriteBatch", "instrument",
					 instrument->name, "continues", 1),
		instrument->continuing, sizeof instrument->continuing, &instrument->continuing_bytes, err);
}

esk_status esk_client_instrument_find(esk_client_instrument **list, const char *name,
	esk_client_instrument **ret_instrument, esk_error *err)
{
	esk_client_instrument **at = list;
	while (*at != NULL && strcmp((*at)->name, name) != 0)
		at = &(*at)->next;
	if (*at == NULL) {
		size_t size = strlen(name);
		if (size == 0 || size > ESK_REQUEST_NAME_BYTES)
			return esk_fail(err, ESK_EINVAL,
				"an instrument's name of %zu bytes; it must have 1 to %u", size,
				ESK_REQUEST_NAME_BYTES);
		esk_client_instrument *made = calloc(1, sizeof *made);
		if (made == NULL)
			return esk_fail_memory(err, sizeof *made, "an instrument");
		memcpy(made->name, name, size + 1);
		esk_status status = make_headers(made, err);
		if (status != ESK_OK) {
			free(made);
			return status;
		}
		*at = made;
	}
	/* The one used last is found first. */
	esk_client_instrument *found = *at;
	*at = found->next;
	found->next = *list;
	*list = found;
	*ret_instrument = found;
	return ESK_OK;
}

/* ---- schemas ---- */

static int32_t load_i32(const char *at)
{
	int32_t value;
	memcpy(&value, at, sizeof value);
	return value;
}

/* Arrow's C data interface: a count of pairs, then for each the size and bytes of key and value, in the byte
 * order of the machine. */
static size_t metadata_bytes(const char *metadata)
{
	if (metadata == NULL)
		return 0;
	const char *at = metadata + sizeof(int32_t);
	for (int64_t texts = 2 * (int64_t)load_i32(metadata); texts > 0; texts--) {
		int32_t size = load_i32(at);
		at += sizeof size + (size_t)(size > 0 ? size : 0);
	}
	return (size_t)(at - metadata);
}

static bool same_text(const char *a, const char *b)
{
	return a == b || strcmp(a != NULL ? a : "", b != NULL ? b : "") == 0;
}

static bool same_schema(const struct ArrowSchema *a, const struct ArrowSchema *b)
{
	size_t metadata = metadata_bytes(a->metadata);
	if (!same_text(a->format, b->format) || !same_text(a->name, b->name) || a->flags != b->flags ||
		a->n_children != b->n_children || (a->dictionary == NULL) != (b->dictionary == NULL) ||
		metadata != metadata_bytes(b->metadata) ||
		(metadata > 0 && memcmp(a->metadata, b->metadata, metadata) != 0))
		return false;
	for (int64_t i = 0; i < a->n_children; i++)
		if (!same_schema(a->children[i], b->children[i]))
			return false;
	return a->dictionary == NULL || same_schema(a->dictionary, b->dictionary);
}

static bool has_dictionaries(const struct ArrowSchema *schema)
{
	if (schema->dictionary != NULL)
		return true;
	for (int64_t i = 0; i < schema->n_children; i++)
		if (has_dictionaries(schema->children[i]))
			return true;
	return false;
}

static void forget(esk_client_instrument *instrument)
{
	if (instrument->schema.release != NULL)
		instrument->schema.release(&instrument->schema);
	instrument->schema.release = NULL;
	esk_arrow_encoder_destroy(instrument->encoder);
	instrument->encoder = NULL;
	instrument->begun = false;
}

esk_status esk_client_instrument_use(
	esk_client_instrument *instrument, const struct ArrowSchema *schema, esk_error *err)
{
	if (instrument->schema.release != NULL && same_schema(&instrument->schema, schema))
		return ESK_OK;
	struct ArrowSchema copy = {0};
	esk_arrow_encoder *encoder;
	esk_status status = esk_arrow_schema_copy(schema, &copy, err);
	if (status != ESK_OK)
		return status;
	status = esk_arrow_encoder_create(&copy, 0, &encoder, err);
	if (status != ESK_OK) {
		copy.release(&copy);
		return status;
	}
	forget(instrument);
	instrument->schema = copy;
	instrument->encoder = encoder;
	instrument->dictionaries = has_dictionaries(&copy);
	return ESK_OK;
}

void esk_client_instruments_clear(esk_client_instrument **list)
{
	while (*list != NULL) {
		esk_client_instrument *first = *list;
		*list = first->next;
		forget(first);
		free(first);
	}
}
