/* Bodies of Arrow: see daemon_batch.h. */
#include "daemon_batch.h"

#include <esker/profile.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAGIC "ARROW1"
#define CELLS_PER_BYTE 8 /* what is stored in the fewest bits is a truth value */

/* ---- sources ---- */

static esk_source *find(esk_sources *sources, const char *name)
{
	if (sources->last < sources->count && strcmp(sources->list[sources->last].name, name) == 0)
		return &sources->list[sources->last];
	for (size_t i = 0; i < sources->count; i++) {
		if (strcmp(sources->list[i].name, name) == 0) {
			sources->last = i;
			return &sources->list[i];
		}
	}
	return NULL;
}

static void forget(esk_sources *sources, esk_source *source)
{
	sources->kept_bytes -= source->schema_bytes + source->dictionary_bytes;
	esk_arrow_decoder_destroy(source->decoder);
	free(source->schema);
	source->decoder = NULL;
	source->schema = NULL;
	source->schema_bytes = 0;
	source->dictionary_bytes = 0;
	source->made = false;
}

static esk_status add(esk_sources *sources, const char *name, esk_source **ret_source, esk_error *err)
{
	if (sources->list == NULL)
		sources->list = calloc(ESK_SOURCES_MOST, sizeof *sources->list);
	if (sources->list == NULL)
		return esk_fail_memory(err, ESK_SOURCES_MOST * sizeof *sources->list, "instruments");
	if (sources->count == ESK_SOURCES_MOST)
		return esk_fail(err, ESK_ERANGE,
			"a connection has at most %u instruments: connect once more for the others",
			ESK_SOURCES_MOST);
	esk_source *source = &sources->list[sources->count];
	*source = (esk_source){0};
	memcpy(source->name, name, strlen(name) + 1);
	sources->last = sources->count++;
	*ret_source = source;
	return ESK_OK;
}

void esk_sources_clear(esk_sources *sources)
{
	for (size_t i = 0; i < sources->count; i++)
		forget(sources, &sources->list[i]);
	free(sources->list);
	*sources = (esk_sources){0};
}

/* ---- schemas ---- */

/* Takes the schema message that begins the body, unless the source has the very same. A source with
 * dictionaries begins anew all the same: a whole stream brings its own, and the old ones can be let go. */
static esk_status begin_stream(esk_sources *sources, esk_source *source, const uint8_t *body,
	size_t body_bytes, uint64_t limit, size_t *ret_used, esk_error *err)
{
	uint64_t bytes;
	esk_status status = esk_arrow_message_bytes(body, body_bytes, limit, &bytes, err);
	if (status != ESK_OK)
		return status;
	if (bytes == 0 || bytes > body_bytes)
		return esk_fail(err, ESK_ECORRUPT, "the body ends within its schema message");
	if (bytes > ESK_SOURCE_SCHEMA_BYTES)
		return esk_fail(err, ESK_ERANGE, "a schema of %" PRIu64 " bytes; at most %u are taken", bytes,
			ESK_SOURCE_SCHEMA_BYTES);
	*ret_used = (size_t)bytes;
	if (source->decoder != NULL && source->dictionary_bytes == 0 && source->schema_bytes == bytes &&
		memcmp(source->schema, body, bytes) == 0)
		return ESK_OK;
	bool made = source->made && source->schema_bytes == bytes && memcmp(source->schema, body, bytes) == 0;
	forget(sources, source);

	esk_arrow_decoder *decoder = NULL;
	struct ArrowArray none = {0};
	size_t used;
	uint8_t *copy = malloc(bytes);
	if (copy == NULL)
		return esk_fail_memory(err, bytes, "a schema");
	status = esk_arrow_decoder_create(&decoder, err);
	if (status == ESK_OK)
		status = esk_arrow_decoder_limit(decoder, limit, err);
	if (status == ESK_OK)
		status = esk_arrow_decoder_feed(decoder, body, (size_t)bytes, &used, &none, err);
	if (status == ESK_OK && esk_arrow_decoder_schema(decoder) == NULL)
		status = esk_fail(err, ESK_ECORRUPT, "the body does not begin with a schema message");
	if (status != ESK_OK) {
		esk_arrow_decoder_destroy(decoder);
		free(copy);
		return status;
	}
	memcpy(copy, body, bytes);
	source->decoder = decoder;
	source->schema = copy;
	source->schema_bytes = (size_t)bytes;
	source->made = made;
	sources->kept_bytes += bytes;
	return ESK_OK;
}

/* ---- batches ---- */

/* Rows of the array and of all below it: types without buffers (null) could have any number. */
static bool count_cells(const struct ArrowArray *array, uint64_t limit, uint64_t *io_cells)
{
	*io_cells += (uint64_t)array->length;
	if (array->length < 0 || *io_cells > limit)
		return false;
	for (int64_t i = 0; i < array->n_children; i++)
		if (!count_cells(array->children[i], limit, io_cells))
			return false;
	return array->dictionary == NULL || count_cells(array->dictionary, limit, io_cells);
}

static esk_status make_room(esk_batches *batches, esk_error *err)
{
	if (batches->count < batches->capacity)
		return ESK_OK;
	if (batches->count == ESK_BATCHES_MOST)
		return esk_fail(err, ESK_ERANGE, "a body has at most %u record batches", ESK_BATCHES_MOST);
	size_t capacity = batches->capacity > 0 ? 2 * batches->capacity : 4;
	struct ArrowArray *grown = realloc(batches->arrays, capacity * sizeof *grown);
	if (grown == NULL)
		return esk_fail_memory(err, capacity * sizeof *grown, "record batches");
	batches->arrays = grown;
	batches->capacity = capacity;
	return ESK_OK;
}

static esk_status keep_dictionary(
	esk_sources *sources, esk_source *source, size_t bytes, uint64_t limit, esk_error *err)
{
	source->dictionary_bytes += bytes;
	sources->kept_bytes += bytes;
	if (sources->kept_bytes <= limit)
		return ESK_OK;
	return esk_fail(err, ESK_ERANGE,
		"the schemas and dictionaries of this connection have grown to %" PRIu64
		" bytes, at most %" PRIu64 " are kept: send a whole stream, which begins anew",
		sources->kept_bytes, limit);
}

static esk_status feed(esk_batches *batches, esk_sources *sources, const uint8_t *at, size_t size,
	uint64_t limit, size_t *ret_used, esk_error *err)
{
	esk_source *source = batches->source;
	esk_status status = make_room(batches, err);
	if (status != ESK_OK)
		return status;
	struct ArrowArray *array = &batches->arrays[batches->count];
	*array = (struct ArrowArray){0};
	status = esk_arrow_decoder_feed(source->decoder, at, size, ret_used, array, err);
	if (status != ESK_OK)
		return status;
	if (array->release == NULL)
		return *ret_used > ESK_FRAME_UNIT ? keep_dictionary(sources, source, *ret_used, limit, err)
						  : ESK_OK;
	batches->count++;
	uint64_t cells = 0;
	if (!count_cells(array, CELLS_PER_BYTE * limit, &cells))
		return esk_fail(err, ESK_ERANGE, "a record batch of more than %" PRIu64 " cells",
			CELLS_PER_BYTE * limit);
	return ESK_OK;
}

/* An end mark ends the body; what is left can only be the padding of the message. */
static esk_status feed_all(esk_batches *batches, esk_sources *sources, const uint8_t *body, size_t size,
	uint64_t limit, esk_error *err)
{
	size_t at = 0, used = 0;
	while (size - at >= ESK_FRAME_UNIT) {
		esk_status status = feed(batches, sources, body + at, size - at, limit, &used, err);
		if (status != ESK_OK)
			return status;
		at += used;
		if (used <= ESK_FRAME_UNIT && size - at >= ESK_FRAME_UNIT)
			return esk_fail(
				err, ESK_ECORRUPT, "%zu bytes behind the end mark of the stream", size - at);
	}
	if (batches->count == 0)
		return esk_fail(err, ESK_EINVAL, "the body has no record batch");
	return ESK_OK;
}

static esk_status choose_source(
	esk_sources *sources, const esk_request *request, esk_source **ret_source, esk_error *err)
{
	esk_source *source = find(sources, request->instrument);
	if (request->continues && (source == NULL || source->decoder == NULL))
		return esk_fail(err, ESK_EINVAL,
			"a batch for \"%s\" that goes on with a stream, but this connection has begun none "
			"for it",
			request->instrument);
	if (source == NULL)
		return add(sources, request->instrument, ret_source, err);
	*ret_source = source;
	return ESK_OK;
}

esk_status esk_batches_decode(esk_batches *batches, esk_sources *sources, const esk_request *request,
	const uint8_t *body, size_t body_bytes, uint64_t limit, esk_error *err)
{
	size_t begun = 0;
	esk_source *source;
	if (body_bytes >= strlen(FILE_MAGIC) && memcmp(body, FILE_MAGIC, strlen(FILE_MAGIC)) == 0)
		return esk_fail(
			err, ESK_EINVAL, "the body is an Arrow IPC file; send its batches as an IPC stream");
	esk_status status = choose_source(sources, request, &source, err);
	if (status != ESK_OK)
		return status;
	batches->source = source;
	if (!request->continues)
		status = begin_stream(sources, source, body, body_bytes, limit, &begun, err);
	uint64_t dictionaries = source->dictionary_bytes;
	if (status == ESK_OK)
		status = feed_all(batches, sources, body + begun, body_bytes - begun, limit, err);
	if (status == ESK_OK)
		return ESK_OK;
	esk_batches_release(batches);
	if (source->dictionary_bytes != dictionaries)
		forget(sources, source);
	return status;
}

uint64_t esk_batches_rows(const esk_batches *batches)
{
	uint64_t rows = batches->row;
	for (size_t i = 0; i < batches->next; i++)
		rows += (uint64_t)batches->arrays[i].length;
	return rows;
}

void esk_batches_release(esk_batches *batches)
{
	for (size_t i = 0; i < batches->count; i++)
		batches->arrays[i].release(&batches->arrays[i]);
	batches->count = 0;
	batches->next = 0;
	batches->row = 0;
	batches->source = NULL;
}

void esk_batches_clear(esk_batches *batches)
{
	esk_batches_release(batches);
	free(batches->arrays);
	*batches = (esk_batches){0};
}
