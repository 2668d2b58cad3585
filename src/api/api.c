/* Public calls that only choose what a layer below does: the real operating system, the store's own
 * catalogue. */
#include "check/check.h"
#include "store/store.h"

#include <esker/esker.h>

static const esk_store_environment *environment(void)
{
	static esk_store_environment posix;
	posix.os = esk_os_posix();
	return &posix;
}

const char *esk_version(void)
{
	return ESK_VERSION;
}

esk_status esk_store_create(const char *path, esk_error *err)
{
	return esk_store_create_in(environment(), path, err);
}

esk_status esk_store_open(
	const char *path, const esk_store_options *options, esk_store **ret_store, esk_error *err)
{
	return esk_store_open_in(environment(), path, options, ret_store, err);
}

esk_status esk_query_open(esk_store *store, const char *sql, esk_query **ret_query, esk_error *err)
{
	char path[ESK_PATH_BYTES];
	esk_store_catalog_path(esk_store_path(store), path);
	return esk_catalog_query(path, sql, ret_query, err);
}
