/* Runs the chunk codecs for a test in another language: requests on stdin, replies on stdout, until stdin
 * ends.
 *
 *     encode SPEC COLUMN CHUNK_ROWS PIECE_BYTES SIZE \n  SIZE bytes, given to the encoder in pieces of
 * PIECE_BYTES decode CHUNK_BYTES ELEMENT_BYTES MASK WANT_BYTES SIZE FILTERS \n  SIZE bytes
 *
 * FILTERS is "-" or a list like 2,1,2;1,1,6 : number, optional, values. Replies:
 *
 *     ok MASK FILTERS SIZE \n  SIZE bytes          (encode; decode replies with mask 0 and FILTERS -)
 *     error NAME 0 SIZE \n  SIZE bytes of message */
#include "codec/codec.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void reply(const char *kind, const char *second, const char *filters, const void *data, size_t size)
{
	printf("%s %s %s %zu\n", kind, second, filters, size);
	fwrite(data, 1, size, stdout);
	fflush(stdout);
}

static void reply_error(const esk_error *err)
{
	reply("error", esk_status_name(err->code), "-", err->message, strlen(err->message));
}

/* Exactly as many bytes as there are, so that an address sanitizer sees every step outside. */
static uint8_t *bytes_read(size_t size)
{
	uint8_t *data = malloc(size + (size == 0));
	if (data == NULL || fread(data, 1, size, stdin) != size) {
		fprintf(stderr, "codec_tool: stdin ended inside %zu bytes\n", size);
		exit(2);
	}
	return data;
}

static void filters_format(const esk_pipeline *pipeline, char *text, size_t text_bytes)
{
	size_t used = (size_t)snprintf(text, text_bytes, "%s", pipeline->count == 0 ? "-" : "");
	for (uint32_t i = 0; i < pipeline->count; i++) {
		const esk_filter *filter = &pipeline->filters[i];
		used += (size_t)snprintf(text + used, text_bytes - used, "%s%u,%d", i == 0 ? "" : ";",
			filter->id, filter->optional);
		for (uint32_t k = 0; k < filter->value_count; k++)
			used += (size_t)snprintf(text + used, text_bytes - used, ",%u", filter->values[k]);
	}
}

static void filters_parse(char *text, esk_pipeline *pipeline)
{
	char *rest = NULL;
	for (char *item = strtok_r(text, ";", &rest); item != NULL && strcmp(item, "-") != 0;
		item = strtok_r(NULL, ";", &rest)) {
		esk_filter *filter = &pipeline->filters[pipeline->count++];
		char *number = NULL;
		filter->id = (uint32_t)strtoul(strtok_r(item, ",", &number), NULL, 10);
		filter->optional = atoi(strtok_r(NULL, ",", &number)) != 0;
		for (char *value; (value = strtok_r(NULL, ",", &number)) != NULL;)
			filter->values[filter->value_count++] = (uint32_t)strtoul(value, NULL, 10);
	}
}

static void encode(esk_scratch *scratch)
{
	char spec[128], column_text[256], mask_text[16], filters[1024];
	uint64_t chunk_rows;
	size_t piece_bytes, size;
	if (scanf("%127s %255s %" SCNu64 " %zu %zu", spec, column_text, &chunk_rows, &piece_bytes, &size) !=
			5 ||
		getchar() != '\n')
		exit(2);
	uint8_t *data = bytes_read(size);
	size_t span_count = (size + piece_bytes - 1) / piece_bytes;
	esk_span *spans = calloc(span_count + 1, sizeof *spans);
	for (size_t i = 0; i < span_count; i++)
		spans[i] =
			(esk_span){data + i * piece_bytes, esk_min_u64(piece_bytes, size - i * piece_bytes)};

	esk_error err = {0};
	esk_column *columns = NULL;
	size_t count;
	esk_pipeline pipeline;
	esk_status status = esk_columns_parse(column_text, &columns, &count, &err);
	if (status == ESK_OK)
		status = esk_pipeline_build(spec, &columns[0], chunk_rows, &pipeline, &err);
	if (status == ESK_OK) {
		size_t bound = esk_pipeline_bound(&pipeline);
		uint8_t *out = malloc(bound);
		size_t packed;
		uint32_t mask;
		status = esk_pipeline_encode(
			&pipeline, scratch, spans, span_count, out, bound, &packed, &mask, &err);
		snprintf(mask_text, sizeof mask_text, "%u", mask);
		filters_format(&pipeline, filters, sizeof filters);
		if (status == ESK_OK)
			reply("ok", mask_text, filters, out, packed);
		free(out);
	}
	if (status != ESK_OK)
		reply_error(&err);
	esk_columns_free(columns);
	free(spans);
	free(data);
}

static void decode(esk_scratch *scratch)
{
	char filters[1024];
	esk_pipeline pipeline = {0};
	uint32_t mask;
	size_t want_bytes, size;
	if (scanf("%" SCNu64 " %u %u %zu %zu %1023s", &pipeline.chunk_bytes, &pipeline.element_bytes, &mask,
		    &want_bytes, &size, filters) != 6 ||
		getchar() != '\n')
		exit(2);
	filters_parse(filters, &pipeline);
	uint8_t *data = bytes_read(size);
	uint8_t *out = malloc(want_bytes + (want_bytes == 0));
	esk_error err = {0};
	if (esk_pipeline_decode(&pipeline, scratch, mask, data, size, out, want_bytes, &err) == ESK_OK)
		reply("ok", "0", "-", out, want_bytes);
	else
		reply_error(&err);
	free(out);
	free(data);
}

int main(void)
{
	esk_scratch *scratch = esk_scratch_create();
	char verb[16];
	while (scratch != NULL && scanf("%15s", verb) == 1) {
		if (strcmp(verb, "encode") == 0)
			encode(scratch);
		else if (strcmp(verb, "decode") == 0)
			decode(scratch);
		else
			exit(2);
	}
	esk_scratch_destroy(scratch);
	return 0;
}
