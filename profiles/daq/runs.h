/* What the writer and sessions do alike with stores and runs. */
#ifndef ESK_DAQ_RUNS_H
#define ESK_DAQ_RUNS_H

#include <esker/profile.h>
#include <esker/store.h>

/* Opens the store in `directory`; where there is none it is made, with the directories above it. */
esk_status esk_daq_open_store(
	const char *directory, const esk_store_options *options, esk_store **ret_store, esk_error *err);

/* The same with a key: that of `key_file` (NULL or "": of the environment) if `encrypt`, or if a file is
 * named. */
esk_status esk_daq_open_store_with_key(const char *directory, bool encrypt, const char *key_file,
	const esk_store_options *options, esk_store **ret_store, esk_error *err);

/* Whether the store has the run, and when it was made (ret_created_ns may be NULL). */
esk_status esk_daq_find_run(
	esk_store *store, const char *run, bool *ret_found, int64_t *ret_created_ns, esk_error *err);

/* The root attributes of a new run: created_at, created_timestamp_ns, application (NULL: "Esker"). To be
 * freed. */
esk_status esk_daq_root_attributes(
	const char *application, int64_t created_ns, char **ret_json, esk_error *err);

#endif
