/* Stores and runs, as the writer and sessions open them. */
#include "runs.h"
#include "rings.h"
#include <esker/profile.h>

#include <esker/key.h>
#include <esker/query.h>

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* Makes the directories above `directory`. */
static esk_status make_parents(const char *directory, esk_error *err)
{
	char path[ESK_DAQ_PATH_BYTES];
	if (snprintf(path, sizeof path, "%s", directory) >= (int)sizeof path)
		return esk_fail(err, ESK_EINVAL, "the path of a store is too long");
	for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(path, 0777) != 0 && errno != EEXIST)
			return esk_fail_errno(err, errno, "cannot make the directory %s", path);
		*slash = '/';
	}
	return ESK_OK;
}

esk_status esk_daq_open_store(
	const char *directory, const esk_store_options *options, esk_store **ret_store, esk_error *err)
{
	esk_status status = esk_store_open(directory, options, ret_store, err);
	if (status != ESK_ENOTFOUND)
		return status;
	status = make_parents(directory, err);
	if (status == ESK_OK)
		status = esk_store_create(directory, err);
	if (status != ESK_OK && status != ESK_EEXIST) /* somebody else may have made it meanwhile */
		return status;
	return esk_store_open(directory, options, ret_store, err);
}

esk_status esk_daq_open_store_with_key(const char *directory, bool encrypt, const char *key_file,
	const esk_store_options *options, esk_store **ret_store, esk_error *err)
{
	esk_store_options with_key = *options;
	esk_key *key = NULL;
	bool named = key_file != NULL && key_file[0] != '\0';
	esk_status status = encrypt || named ? esk_key_load(named ? key_file : NULL, &key, err) : ESK_OK;
	if (status != ESK_OK)
		return status;
	with_key.key = key;
	status = esk_daq_open_store(directory, &with_key, ret_store, err);
	esk_key_free(key); /* the store shares it */
	return status;
}

esk_status esk_daq_find_run(
	esk_store *store, const char *run, bool *ret_found, int64_t *ret_created_ns, esk_error *err)
{
	esk_query *query;
	bool found = false;
	esk_value name = {.kind = ESK_TEXT, .data = run, .size = strlen(run)};
	esk_status status = esk_query_open(store, "SELECT created_ns FROM runs WHERE name = ?", &query, err);
	if (status != ESK_OK)
		return status;
	status = esk_query_bind(query, 1, &name, err);
	if (status == ESK_OK)
		status = esk_query_step(query, &found, err);
	if (status == ESK_OK && found && ret_created_ns != NULL)
		*ret_created_ns = esk_query_value(query, 0).integer;
	if (status == ESK_OK)
		*ret_found = found;
	esk_query_close(query);
	return status;
}

esk_status esk_daq_root_attributes(
	const char *application, int64_t created_ns, char **ret_json, esk_error *err)
{
	json_t *object = json_pack("{s:I, s:s}", "created_timestamp_ns", (json_int_t)created_ns,
		"application", application != NULL ? application : "Esker");
	if (object == NULL)
		return esk_fail(err, ESK_EINVAL, "the application's name is not UTF-8");
	char *text = json_dumps(object, JSON_COMPACT);
	json_decref(object);
	if (text == NULL)
		return esk_fail_memory(err, 256, "attributes of a run");
	*ret_json = text;
	return ESK_OK;
}
