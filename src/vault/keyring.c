/* The keys that this process reads with: those of open stores, and that of the environment. A file is opened
 * deep in places that know only its path (libhdf5 follows links between files by itself), so keys are found
 * by name here and not handed down. */
#include "vault/vault.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* a leaf; of everything below */
static esk_key **keys;
static size_t key_count;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void before_fork(void)
{
	pthread_mutex_lock(&lock);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&lock);
}

static void watch_forks(void)
{
	pthread_atfork(before_fork, after_fork, after_fork);
}

esk_status esk_keyring_add(const esk_key *key, esk_error *err)
{
	pthread_once(&once, watch_forks);
	esk_status status = ESK_OK;
	pthread_mutex_lock(&lock);
	esk_key **grown = realloc(keys, (key_count + 1) * sizeof(esk_key *));
	if (grown != NULL) {
		keys = grown;
		keys[key_count++] = esk_key_share(key);
	} else {
		status = esk_fail_memory(err, sizeof(esk_key *), "a key");
	}
	pthread_mutex_unlock(&lock);
	return status;
}

void esk_keyring_drop(const esk_key *key)
{
	esk_key *dropped = NULL;
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < key_count && dropped == NULL; i++) {
		if (keys[i] == key) {
			dropped = keys[i];
			keys[i] = keys[--key_count];
		}
	}
	if (key_count == 0) {
		free(keys);
		keys = NULL;
	}
	pthread_mutex_unlock(&lock);
	esk_key_free(dropped);
}

static esk_key *find_in_ring(const uint8_t id[ESK_VAULT_ID_BYTES])
{
	esk_key *found = NULL;
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < key_count && found == NULL; i++)
		if (memcmp(esk_key_id_bytes(keys[i]), id, ESK_VAULT_ID_BYTES) == 0)
			found = esk_key_share(keys[i]);
	pthread_mutex_unlock(&lock);
	return found;
}

esk_status esk_keyring_find(
	const char *path, const uint8_t id[ESK_VAULT_ID_BYTES], esk_key **ret_key, esk_error *err)
{
	char wanted[17];
	esk_error why = {0};
	esk_key *key = find_in_ring(id);
	esk_status status = key != NULL ? ESK_OK : esk_key_load(NULL, &key, &why);
	if (status == ESK_OK && memcmp(esk_key_id_bytes(key), id, ESK_VAULT_ID_BYTES) == 0) {
		*ret_key = key;
		return ESK_OK;
	}
	esk_key_id_format(id, wanted);
	if (status == ESK_OK)
		esk_fail(err, ESK_EACCES,
			"%s is encrypted with key %s, and the key that is given is %s: give the file that "
			"holds the former (--key FILE, ESKER_KEY_FILE)",
			path, wanted, esk_key_id(key));
	else if (status == ESK_ENOTFOUND && getenv("ESKER_KEY_FILE") == NULL)
		esk_fail(err, ESK_EACCES,
			"%s is encrypted with key %s: give the file that holds it (--key FILE, "
			"ESKER_KEY_FILE), or set ESKER_KEY",
			path, wanted);
	else
		esk_fail(err, ESK_EACCES, "%s is encrypted with key %s: %.250s", path, wanted, why.message);
	esk_key_free(key);
	return ESK_EACCES;
}

bool esk_keyring_any(bool (*visit)(void *arg, const esk_key *key), void *arg)
{
	esk_key *key = NULL;
	bool found = esk_key_load(NULL, &key, NULL) == ESK_OK && visit(arg, key);
	esk_key_free(key);
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < key_count && !found; i++)
		found = visit(arg, keys[i]);
	pthread_mutex_unlock(&lock);
	return found;
}
