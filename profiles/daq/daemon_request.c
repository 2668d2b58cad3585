/* Headers of messages: see daemon_request.h. */
#include "daemon_request.h"

#include <esker/profile.h>

#include <esker/esker.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what clients send ---- */

static esk_status take_text(const json_t *header, const char *key, const char **ret_text, esk_error *err)
{
	json_t *value = json_object_get(header, key);
	if (!json_is_string(value))
		return esk_fail(err, ESK_EINVAL, "the header's \"%s\" %s", key,
			value == NULL ? "lacks" : "is no text");
	*ret_text = json_string_value(value);
	return ESK_OK;
}

static esk_status take_instrument(const json_t *header, esk_request *request, esk_error *err)
{
	const char *name;
	esk_status status = take_text(header, "instrument", &name, err);
	if (status != ESK_OK)
		return status;
	size_t size = strlen(name);
	if (size == 0 || size > ESK_REQUEST_NAME_BYTES)
		return esk_fail(err, ESK_EINVAL, "an instrument's name of %zu bytes; it must have 1 to %u",
			size, ESK_REQUEST_NAME_BYTES);
	memcpy(request->instrument, name, size + 1);
	return ESK_OK;
}

static esk_status take_metadata(json_t *header, esk_request *request, esk_error *err)
{
	const char *key;
	esk_status status = take_text(header, "key", &key, err);
	if (status != ESK_OK)
		return status;
	json_t *value = json_object_get(header, "value");
	if (value == NULL)
		return esk_fail(err, ESK_EINVAL, "the header's \"value\" lacks");
	json_t *object = json_object();
	if (object != NULL && json_object_set(object, key, value) == 0)
		request->metadata = json_dumps(object, JSON_COMPACT | JSON_ENCODE_ANY);
	json_decref(object);
	return request->metadata != NULL ? ESK_OK
					 : esk_fail_memory(err, ESK_FRAME_MOST_HEADER_BYTES, "metadata");
}

static esk_status take_hello(json_t *header, esk_request *request, esk_error *err)
{
	json_t *protocol = json_object_get(header, "protocol");
	if (!json_is_integer(protocol))
		return esk_fail(err, ESK_EINVAL, "the header's \"protocol\" lacks or is no integer");
	if (json_integer_value(protocol) != ESK_FRAME_VERSION)
		return esk_fail(err, ESK_EVERSION,
			"the client speaks protocol %" JSON_INTEGER_FORMAT ", this daemon %u",
			json_integer_value(protocol), ESK_FRAME_VERSION);
	return ESK_OK;
}

static esk_status take_write(json_t *header, esk_request *request, esk_error *err)
{
	json_t *continues = json_object_get(header, "continues");
	if (continues != NULL && !json_is_boolean(continues))
		return esk_fail(err, ESK_EINVAL, "the header's \"continues\" is no truth value");
	request->continues = json_is_true(continues);
	return take_instrument(header, request, err);
}

static esk_status take_instrument_metadata(json_t *header, esk_request *request, esk_error *err)
{
	esk_status status = take_instrument(header, request, err);
	return status == ESK_OK ? take_metadata(header, request, err) : status;
}

static esk_status take_nothing(json_t *header, esk_request *request, esk_error *err)
{
	return ESK_OK;
}

static const struct {
	const char *type;
	esk_request_kind kind;
	esk_status (*take)(json_t *header, esk_request *request, esk_error *err);
} requests[] = {
	{"WriteBatch", ESK_REQUEST_WRITE, take_write},
	{"Hello", ESK_REQUEST_HELLO, take_hello},
	{"SetMetadata", ESK_REQUEST_METADATA, take_metadata},
	{"SetInstrumentMetadata", ESK_REQUEST_METADATA, take_instrument_metadata},
	{"Flush", ESK_REQUEST_FLUSH, take_nothing},
	{"GetStats", ESK_REQUEST_STATS, take_nothing},
};

static esk_status parse_object(json_t *header, esk_request *request, esk_error *err)
{
	const char *type;
	esk_status status = take_text(header, "type", &type, err);
	if (status != ESK_OK)
		return status;
	for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
		if (strcmp(requests[i].type, type) == 0) {
			request->kind = requests[i].kind;
			return requests[i].take(header, request, err);
		}
	}
	return esk_fail(err, ESK_EINVAL,
		"a message of the type \"%.40s\"; expected Hello, WriteBatch, SetMetadata, "
		"SetInstrumentMetadata, Flush or GetStats",
		type);
}

esk_status esk_request_parse(
	const void *header, size_t header_bytes, esk_request *ret_request, esk_error *err)
{
	json_error_t fault;
	*ret_request = (esk_request){0};
	json_t *object = json_loadb(header, header_bytes, JSON_REJECT_DUPLICATES, &fault);
	if (object == NULL)
		return esk_fail(err, ESK_EINVAL, "the header is not JSON: %.100s at byte %d", fault.text,
			fault.position);
	esk_status status = json_is_object(object)
				    ? parse_object(object, ret_request, err)
				    : esk_fail(err, ESK_EINVAL, "the header is no JSON object");
	json_decref(object);
	return status;
}

void esk_request_clear(esk_request *request)
{
	free(request->metadata);
	request->metadata = NULL;
}

/* ---- what the daemon answers ---- */

static esk_status add(esk_bytes *out, json_t *header, const char *body, esk_error *err)
{
	char *text = header != NULL ? json_dumps(header, JSON_COMPACT) : NULL;
	json_decref(header);
	if (text == NULL)
		return esk_fail_memory(err, 256, "a reply");
	esk_status status = esk_bytes_add_message(out, text, body, body != NULL ? strlen(body) : 0, err);
	free(text);
	return status;
}

esk_status esk_reply_hello(
	esk_bytes *out, const char *store, const char *session, uint64_t max_message_bytes, esk_error *err)
{
	char server[64];
	snprintf(server, sizeof server, "esker %s", esk_version());
	json_t *header = json_pack("{s:s, s:i, s:s, s:I, s:i}", "type", "Hello", "protocol",
		(int)ESK_FRAME_VERSION, "server", server, "max_message_bytes", (json_int_t)max_message_bytes,
		"max_header_bytes", (int)ESK_FRAME_MOST_HEADER_BYTES);
	/* A path need not be UTF-8, as JSON must be: it is then left out. */
	if (header != NULL && store != NULL)
		(void)json_object_set_new(header, "store", json_string(store));
	if (header != NULL && session != NULL)
		(void)json_object_set_new(header, "session", json_string(session));
	return add(out, header, NULL, err);
}

/* Made often: without the detour over a JSON value. */
esk_status esk_reply_ack(esk_bytes *out, uint64_t through, esk_error *err)
{
	char text[64];
	snprintf(text, sizeof text, "{\"type\":\"Ack\",\"through\":%" PRIu64 "}", through);
	return esk_bytes_add_message(out, text, NULL, 0, err);
}

/* Messages quote names and bytes from outside: what is not UTF-8 is told as '?'. */
static json_t *message_text(const char *message)
{
	json_t *text = json_string(message);
	if (text != NULL)
		return text;
	char plain[sizeof((esk_error *)0)->message];
	size_t i;
	for (i = 0; message[i] != '\0' && i < sizeof plain - 1; i++)
		plain[i] = (signed char)message[i] >= ' ' ? message[i] : '?';
	plain[i] = '\0';
	return json_string(plain);
}

esk_status esk_reply_error(esk_bytes *out, const esk_refusal *refusal, esk_error *err)
{
	return add(out,
		json_pack("{s:s, s:I, s:s, s:o, s:I, s:b}", "type", "Error", "to", (json_int_t)refusal->to,
			"code", esk_status_name(refusal->code), "message", message_text(refusal->message),
			"rows_taken", (json_int_t)refusal->rows_taken, "fatal", (int)refusal->fatal),
		NULL, err);
}

esk_status esk_reply_stats(esk_bytes *out, uint64_t to, const char *json, esk_error *err)
{
	return add(out, json_pack("{s:s, s:I}", "type", "Stats", "to", (json_int_t)to), json, err);
}
