/* A session's metadata: of the session, in the root's attributes and the run's metadata; of instruments, in
 * the attributes of their groups. */
#include "runs.h"
#include "session.h"
#include <esker/profile.h>

#include <stdlib.h>
#include <string.h>

/* ---- bounds ---- */

static bool is_own_name(const char *key, bool of_instrument)
{
	static const char *const root[] = {"metadata", "created_at", "created_timestamp_ns", "application"};
	static const char *const group[] = {"instrument_id", "created_at", "arrow_schema"};
	const char *const *names = of_instrument ? group : root;
	size_t count = of_instrument ? sizeof group / sizeof *group : sizeof root / sizeof *root;
	for (size_t i = 0; i < count; i++)
		if (strcmp(key, names[i]) == 0)
			return true;
	return strncmp(key, "esker_", 6) == 0;
}

static esk_status check_key(const char *key, bool of_instrument, esk_error *err)
{
	size_t size = strlen(key);
	if (size == 0 || size > ESK_SESSION_MAX_KEY)
		return esk_fail(err, size == 0 ? ESK_EINVAL : ESK_ERANGE,
			"a key of metadata has %zu bytes: expected 1 to %d", size, ESK_SESSION_MAX_KEY);
	for (const char *c = key; *c != '\0'; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7F || *c == '/')
			return esk_fail(err, ESK_EINVAL,
				"metadata: a key has the character 0x%02x, which no attribute may have",
				(unsigned char)*c);
	if (is_own_name(key, of_instrument))
		return esk_fail(err, ESK_EINVAL, "metadata \"%s\": the name is Esker's own", key);
	return ESK_OK;
}

static size_t value_bytes(const json_t *value)
{
	return json_is_string(value) ? json_string_length(value) : sizeof(double);
}

static esk_status check_value(const char *key, const json_t *value, esk_error *err)
{
	if (!json_is_string(value) && !json_is_number(value) && !json_is_boolean(value))
		return esk_fail(
			err, ESK_EINVAL, "metadata \"%s\": expected a text, a number, true or false", key);
	if (value_bytes(value) > ESK_SESSION_MAX_VALUE)
		return esk_fail(err, ESK_ERANGE, "metadata \"%s\": %zu bytes; %u are the most", key,
			value_bytes(value), ESK_SESSION_MAX_VALUE);
	if (json_is_string(value) && strlen(json_string_value(value)) != json_string_length(value))
		return esk_fail(err, ESK_EINVAL, "metadata \"%s\": the text has a NUL character", key);
	return ESK_OK;
}

static size_t object_bytes(json_t *object)
{
	const char *key;
	json_t *value;
	size_t sum = 0;
	json_object_foreach(object, key, value) sum += strlen(key) + value_bytes(value);
	return sum;
}

static esk_status check_changes(json_t *changes, bool of_instrument, esk_error *err)
{
	const char *key;
	json_t *value;
	json_object_foreach(changes, key, value)
	{
		esk_status status = check_key(key, of_instrument, err);
		if (status == ESK_OK)
			status = check_value(key, value, err);
		if (status != ESK_OK)
			return status;
	}
	return ESK_OK;
}

/* ---- changing ---- */

static esk_status dump(const json_t *object, char **ret_text, esk_error *err)
{
	*ret_text = json_dumps(object, JSON_COMPACT);
	return *ret_text != NULL ? ESK_OK : esk_fail_memory(err, 1024, "metadata");
}

static esk_status set_run_metadata(esk_session *session, const json_t *whole, esk_error *err)
{
	char *text;
	esk_status status = dump(whole, &text, err);
	if (status == ESK_OK)
		status = esk_run_set_metadata(session->run, text, err);
	free(text);
	return status;
}

/* Sets `changes` on `group` and keeps them in `metadata`; under `changing`. */
static esk_status change(esk_session *session, const char *group, esk_daq_metadata *metadata, json_t *changes,
	bool of_instrument, esk_error *err)
{
	char *text = NULL;
	json_t *whole = metadata->object != NULL ? json_copy(metadata->object) : json_object();
	esk_status status = check_changes(changes, of_instrument, err);
	if (status == ESK_OK && (whole == NULL || json_object_update(whole, changes) != 0))
		status = esk_fail_memory(err, object_bytes(changes), "metadata");
	size_t bytes = status == ESK_OK ? object_bytes(whole) : 0;
	if (status == ESK_OK && bytes > ESK_SESSION_MAX_METADATA)
		status = esk_fail(err, ESK_ERANGE, "metadata of %s would have %zu bytes; %u are the most",
			group, bytes, ESK_SESSION_MAX_METADATA);
	if (status == ESK_OK)
		status = dump(changes, &text, err);
	if (status == ESK_OK)
		status = esk_run_set_attributes(session->run, group, text, err);
	if (status == ESK_OK && !of_instrument)
		status = set_run_metadata(session, whole, err);
	free(text);
	if (status != ESK_OK) {
		json_decref(whole);
		return status;
	}
	pthread_mutex_lock(&session->lock);
	session->metadata_entries += json_object_size(whole) - json_object_size(metadata->object);
	pthread_mutex_unlock(&session->lock);
	json_decref(metadata->object);
	*metadata = (esk_daq_metadata){.object = whole, .bytes = bytes};
	return ESK_OK;
}

static esk_status set_object(esk_session *session, const char *name, json_t *changes, esk_error *err)
{
	esk_daq_instrument *instrument = NULL;
	esk_status status = ESK_OK;
	if (name != NULL)
		status = esk_daq_session_instrument(session, name, &instrument, err);
	if (status == ESK_OK && instrument != NULL)
		status = esk_daq_session_announce(session, instrument, err);
	if (status != ESK_OK || json_object_size(changes) == 0)
		return status;
	pthread_mutex_lock(&session->changing);
	status = change(session, name != NULL ? name : "/",
		name != NULL ? &instrument->metadata : &session->metadata, changes, name != NULL, err);
	pthread_mutex_unlock(&session->changing);
	return status;
}

static esk_status set_text(
	esk_session *session, const char *instrument, const char *key, const char *value, esk_error *err)
{
	if (strlen(value) > ESK_SESSION_MAX_VALUE)
		return esk_fail(err, ESK_ERANGE, "metadata \"%.40s\": %zu bytes; %u are the most", key,
			strlen(value), ESK_SESSION_MAX_VALUE);
	json_t *changes = json_pack("{s:s}", key, value);
	if (changes == NULL)
		return esk_fail(err, ESK_EINVAL, "metadata \"%.40s\": key or value is not UTF-8", key);
	esk_status status = set_object(session, instrument, changes, err);
	json_decref(changes);
	return status;
}

esk_status esk_session_set_metadata(esk_session *session, const char *key, const char *value, esk_error *err)
{
	return set_text(session, NULL, key, value, err);
}

esk_status esk_session_set_instrument_metadata(
	esk_session *session, const char *instrument, const char *key, const char *value, esk_error *err)
{
	return set_text(session, instrument, key, value, err);
}

esk_status esk_session_set_metadata_json(
	esk_session *session, const char *instrument, const char *json, esk_error *err)
{
	json_error_t why;
	if (strlen(json) > 2 * ESK_SESSION_MAX_METADATA)
		return esk_fail(err, ESK_ERANGE, "metadata of %zu bytes; %u are the most", strlen(json),
			ESK_SESSION_MAX_METADATA);
	json_t *changes = json_loads(json, JSON_REJECT_DUPLICATES, &why);
	if (!json_is_object(changes)) {
		bool parsed = changes != NULL;
		json_decref(changes);
		return esk_fail(err, ESK_EINVAL, "metadata: expected a JSON object%s%s", parsed ? "" : ": ",
			parsed ? "" : why.text);
	}
	esk_status status = set_object(session, instrument, changes, err);
	json_decref(changes);
	return status;
}
