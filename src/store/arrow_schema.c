/* The schema of a stream, kept as an attribute of its group: JSON in the form of Arrow's integration tests.
 */
#include "store/arrow_read.h"

#include <esker/arrow_encode.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define ATTRIBUTE "arrow_schema"

typedef struct schema_call {
	const esk_reader *reader;
	const char *stream;
	char *json;
} schema_call;

static esk_status read_schema_text(void *arg, esk_error *err)
{
	schema_call *call = arg;
	if (call->reader->segment_count == 0)
		return ESK_ENOTFOUND;
	return esk_h5_get_text(call->reader->segments[call->reader->segment_count - 1].file, call->stream,
		ATTRIBUTE, &call->json, err);
}

esk_status esk_stored_schema(
	esk_reader *reader, const char *stream, struct ArrowSchema *ret_schema, esk_error *err)
{
	struct ArrowSchema parsed;
	schema_call call = {.reader = reader, .stream = stream};
	esk_status status = esk_reader_read(reader, read_schema_text, &call, err);
	if (status != ESK_OK)
		return status;
	status = esk_arrow_schema_from_json(call.json, &parsed, err);
	free(call.json);
	if (status != ESK_OK)
		return esk_fail_in(err, ESK_ECORRUPT, "the attribute " ATTRIBUTE " of \"%s\"", stream);
	status = esk_arrow_schema_copy(&parsed, ret_schema, err);
	parsed.release(&parsed);
	return status;
}

esk_status esk_store_schema(
	esk_run *run, const char *stream, const struct ArrowSchema *schema, esk_error *err)
{
	char *text, *attributes = NULL;
	esk_status status = esk_arrow_schema_to_json(schema, &text, err);
	if (status != ESK_OK)
		return status;
	json_t *object = json_pack("{s:s}", ATTRIBUTE, text);
	if (object != NULL)
		attributes = json_dumps(object, 0);
	status = attributes != NULL ? esk_run_set_attributes(run, stream, attributes, err)
				    : esk_fail_memory(err, strlen(text), "the schema as an attribute");
	free(attributes);
	json_decref(object);
	esk_arrow_text_free(text);
	return status == ESK_OK ? esk_run_commit(run, NULL, err) : status;
}
