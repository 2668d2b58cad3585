/* The client of the daemon: see esker/daemon.h. */
#include "client.h"

#include <esker/profile.h>

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

struct esk_client {
	esk_wire wire;
	esk_client_instrument *instruments;
	esk_bytes body; /* the batch at hand */
};

esk_status esk_client_connect(
	const char *path, const esk_client_options *options, esk_client **ret_client, esk_error *err)
{
	esk_client_options own = ESK_CLIENT_OPTIONS_INIT;
	if (options != NULL)
		esk_struct_take(&own, sizeof own, options);
	esk_client *client = calloc(1, sizeof *client);
	if (client == NULL)
		return esk_fail_memory(err, sizeof *client, "a client");
	esk_status status = esk_wire_open(&client->wire, path, &own, err);
	if (status != ESK_OK) {
		esk_client_close(client);
		return status;
	}
	*ret_client = client;
	return ESK_OK;
}

void esk_client_close(esk_client *client)
{
	if (client == NULL)
		return;
	esk_client_instruments_clear(&client->instruments);
	esk_bytes_clear(&client->body);
	esk_wire_clear(&client->wire);
	free(client);
}

/* ---- batches ---- */

/* After a refusal nobody knows which schemas the daemon has taken: each is sent again. */
static void doubt_schemas(esk_client *client)
{
	if (!client->wire.schemas_unsure)
		return;
	for (esk_client_instrument *one = client->instruments; one != NULL; one = one->next)
		one->begun = false;
	client->wire.schemas_unsure = false;
}

static esk_status encode(
	esk_client *client, esk_client_instrument *instrument, const struct ArrowArray *array, esk_error *err)
{
	size_t size;
	esk_status status = esk_arrow_encoder_batch_bytes(instrument->encoder, array, &size, err);
	if (status != ESK_OK)
		return status;
	esk_bytes_take(&client->body, esk_bytes_size(&client->body));
	status = esk_bytes_reserve(&client->body, size, err);
	if (status != ESK_OK)
		return status;
	status = esk_arrow_encoder_batch(instrument->encoder, array, client->body.data, size, &size, err);
	if (status == ESK_OK)
		client->body.end = size;
	return status;
}

esk_status esk_client_write_batch(esk_client *client, const char *instrument_name,
	const struct ArrowSchema *schema, const struct ArrowArray *array, esk_error *err)
{
	esk_client_instrument *instrument;
	esk_status status =
		esk_client_instrument_find(&client->instruments, instrument_name, &instrument, err);
	if (status == ESK_OK)
		status = esk_client_instrument_use(instrument, schema, err);
	if (status == ESK_OK)
		status = encode(client, instrument, array, err);
	if (status != ESK_OK)
		return status;
	doubt_schemas(client);
	bool whole = !instrument->begun || instrument->dictionaries;
	size_t schema_bytes = 0;
	const void *schema_message = esk_arrow_encoder_schema(instrument->encoder, &schema_bytes);
	struct iovec parts[3] = {
		{whole ? instrument->whole : instrument->continuing,
			whole ? instrument->whole_bytes : instrument->continuing_bytes},
		{(void *)schema_message, whole ? schema_bytes : 0},
		{client->body.data, client->body.end},
	};
	status = esk_wire_send(&client->wire, parts, 3, err);
	if (status == ESK_OK)
		instrument->begun = true;
	return status;
}

esk_status esk_client_write_ipc(
	esk_client *client, const char *instrument_name, const void *stream, size_t size, esk_error *err)
{
	static const uint8_t padding[ESK_FRAME_UNIT];
	esk_client_instrument *instrument;
	esk_status status =
		esk_client_instrument_find(&client->instruments, instrument_name, &instrument, err);
	if (status != ESK_OK)
		return status;
	if (size > ESK_FRAME_MOST_MESSAGE_BYTES)
		return esk_fail(err, ESK_ERANGE, "a stream of %zu bytes; the daemon takes at most %" PRIu64,
			size, client->wire.max_message_bytes);
	doubt_schemas(client);
	struct iovec parts[3] = {
		{instrument->whole, instrument->whole_bytes},
		{(void *)stream, size},
		{(void *)padding, (size_t)esk_frame_round(size) - size},
	};
	status = esk_wire_send(&client->wire, parts, 3, err);
	if (status == ESK_OK)
		instrument->begun = false; /* the daemon may know another schema now */
	return status;
}

/* ---- metadata, flush, statistics ---- */

static esk_status send_header(esk_client *client, json_t *header, esk_error *err)
{
	size_t room = ESK_FRAME_HEAD_BYTES + ESK_FRAME_MOST_HEADER_BYTES, size;
	esk_bytes_take(&client->body, esk_bytes_size(&client->body));
	esk_status status = esk_bytes_reserve(&client->body, room, err);
	if (status != ESK_OK) {
		json_decref(header);
		return status;
	}
	status = esk_client_header(header, client->body.data, room, &size, err);
	if (status != ESK_OK)
		return status;
	struct iovec part = {client->body.data, size};
	return esk_wire_send(&client->wire, &part, 1, err);
}

static esk_status send_metadata(
	esk_client *client, const char *instrument, const char *key, const char *json, esk_error *err)
{
	json_error_t fault;
	json_t *value = json_loads(json, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &fault);
	if (value == NULL)
		return esk_fail(err, ESK_EINVAL, "the value of \"%.100s\" is not JSON: %s at character %d",
			key, fault.text, fault.column);
	json_t *header = json_pack("{s:s, s:s, s:o}", "type",
		instrument != NULL ? "SetInstrumentMetadata" : "SetMetadata", "key", key, "value", value);
	if (header != NULL && instrument != NULL &&
		json_object_set_new(header, "instrument", json_string(instrument)) != 0) {
		json_decref(header);
		header = NULL;
	}
	return send_header(client, header, err);
}

esk_status esk_client_set_metadata(esk_client *client, const char *key, const char *json, esk_error *err)
{
	return send_metadata(client, NULL, key, json, err);
}

esk_status esk_client_set_instrument_metadata(
	esk_client *client, const char *instrument, const char *key, const char *json, esk_error *err)
{
	return send_metadata(client, instrument, key, json, err);
}

esk_status esk_client_wait(esk_client *client, esk_error *err)
{
	return esk_wire_wait(&client->wire, client->wire.sent - 1, err);
}

esk_status esk_client_flush(esk_client *client, esk_error *err)
{
	esk_status status = send_header(client, json_pack("{s:s}", "type", "Flush"), err);
	return status == ESK_OK ? esk_client_wait(client, err) : status;
}

esk_status esk_client_get_stats(esk_client *client, char **ret_json, esk_error *err)
{
	esk_status status = send_header(client, json_pack("{s:s}", "type", "GetStats"), err);
	if (status == ESK_OK)
		status = esk_client_wait(client, err);
	if (status != ESK_OK)
		return status;
	if (client->wire.stats == NULL)
		return esk_fail(
			err, ESK_EINTERNAL, "%s: the daemon answered without statistics", client->wire.path);
	*ret_json = client->wire.stats;
	client->wire.stats = NULL;
	return ESK_OK;
}

/* ---- what the connection is like ---- */

esk_status esk_client_get_progress(esk_client *client, esk_client_progress *ret_progress, esk_error *err)
{
	const esk_wire *wire = &client->wire;
	esk_status status = esk_wire_look(&client->wire, err);
	esk_client_progress progress = {.sent_messages = wire->sent - 1,
		.sent_bytes = wire->sent_bytes,
		.acknowledged_messages = wire->answered - 1,
		.acknowledged_bytes = wire->answered_bytes,
		.refused_messages = wire->refused};
	esk_struct_give(ret_progress, &progress, sizeof progress);
	return status;
}

const char *esk_client_session(const esk_client *client)
{
	return client->wire.session;
}

uint64_t esk_client_max_message_bytes(const esk_client *client)
{
	return client->wire.max_message_bytes;
}
