/* Keys: loaded, made, kept where neither swap nor a core dump has them, wiped. */
#include "vault/vault.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define HEX_BYTES (2 * ESK_VAULT_KEY_BYTES)

struct esk_key {
	_Atomic unsigned owners;
	uint8_t id[ESK_VAULT_ID_BYTES];
	char id_text[17];
	uint8_t *secret; /* sodium_malloc: guarded, locked, not dumped */
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int ready = -1;

static void init(void)
{
	ready = sodium_init();
}

esk_status esk_vault_init(esk_error *err)
{
	pthread_once(&once, init);
	return ready >= 0 ? ESK_OK
			  : esk_fail(err, ESK_EINTERNAL,
				    "libsodium cannot be used on this machine (sodium_init)");
}

void esk_key_id_format(const uint8_t id[ESK_VAULT_ID_BYTES], char ret_text[17])
{
	sodium_bin2hex(ret_text, 17, id, ESK_VAULT_ID_BYTES);
}

/* Memory for a secret; wiped by sodium_free. */
static esk_status secret_memory(size_t size, uint8_t **ret_memory, esk_error *err)
{
	esk_status status = esk_vault_init(err);
	if (status != ESK_OK)
		return status;
	uint8_t *memory = sodium_malloc(size);
	if (memory == NULL)
		return esk_fail_memory(err, size, "a key");
	*ret_memory = memory;
	return ESK_OK;
}

/* A name that says nothing of the key: a keyed hash of a constant. */
static void name_key(esk_key *key)
{
	static const char constant[] = "esker key id 1";
	uint8_t hash[crypto_generichash_BYTES];
	crypto_generichash(hash, sizeof hash, (const unsigned char *)constant, sizeof constant - 1,
		key->secret, ESK_VAULT_KEY_BYTES);
	memcpy(key->id, hash, sizeof key->id);
	sodium_memzero(hash, sizeof hash);
	esk_key_id_format(key->id, key->id_text);
}

/* Takes over `secret`. */
static esk_status key_of(uint8_t *secret, esk_key **ret_key, esk_error *err)
{
	esk_key *key = calloc(1, sizeof *key);
	if (key == NULL) {
		sodium_free(secret);
		return esk_fail_memory(err, sizeof *key, "a key");
	}
	atomic_init(&key->owners, 1);
	key->secret = secret;
	name_key(key);
	sodium_mprotect_readonly(secret);
	*ret_key = key;
	return ESK_OK;
}

/* Digits and perhaps a line's end into a key. `what` is where they are from: they are not shown. */
static esk_status from_hex(const char *text, size_t size, const char *what, esk_key **ret_key, esk_error *err)
{
	while (size > HEX_BYTES && (text[size - 1] == '\n' || text[size - 1] == '\r'))
		size--;
	uint8_t *secret;
	esk_status status = secret_memory(ESK_VAULT_KEY_BYTES, &secret, err);
	if (status != ESK_OK)
		return status;
	size_t made = 0;
	if (size == HEX_BYTES &&
		sodium_hex2bin(secret, ESK_VAULT_KEY_BYTES, text, size, NULL, &made, NULL) == 0 &&
		made == ESK_VAULT_KEY_BYTES)
		return key_of(secret, ret_key, err);
	sodium_free(secret);
	return esk_fail(err, ESK_EINVAL,
		"%s holds no key: expected 64 hexadecimal digits, or in a file 32 bytes; 'esker keygen FILE' "
		"makes one",
		what);
}

static esk_status from_bytes(
	const uint8_t *bytes, size_t size, const char *what, esk_key **ret_key, esk_error *err)
{
	if (size != ESK_VAULT_KEY_BYTES)
		return from_hex((const char *)bytes, size, what, ret_key, err);
	uint8_t *secret;
	esk_status status = secret_memory(ESK_VAULT_KEY_BYTES, &secret, err);
	if (status != ESK_OK)
		return status;
	memcpy(secret, bytes, ESK_VAULT_KEY_BYTES);
	return key_of(secret, ret_key, err);
}

static esk_status check_mode(int fd, const char *file, esk_error *err)
{
	struct stat st;
	if (fstat(fd, &st) != 0)
		return esk_fail_errno(err, errno, "cannot look at key file %s", file);
	if (!S_ISREG(st.st_mode))
		return esk_fail(err, ESK_EINVAL, "key file %s is no regular file", file);
	if ((st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
		return esk_fail(err, ESK_EACCES,
			"key file %s may be used by others (mode %04o): 'chmod 600 %s' first", file,
			(unsigned)(st.st_mode & 07777), file);
	return ESK_OK;
}

static esk_status load_file(const char *file, esk_key **ret_key, esk_error *err)
{
	const esk_os *os = esk_os_posix();
	uint8_t *bytes;
	size_t room = HEX_BYTES + 3, size = 0; /* a line's end, and a byte too much */
	int fd;
	esk_status status = secret_memory(room, &bytes, err);
	if (status != ESK_OK)
		return status;
	status = esk_os_open(os, file, O_RDONLY | O_NOCTTY | O_NONBLOCK, 0, &fd, err);
	if (status == ESK_OK) {
		status = check_mode(fd, file, err);
		if (status == ESK_OK)
			status = esk_os_read_some(os, fd, file, bytes, room, 0, &size, err);
		os->close(os, fd);
	}
	if (status == ESK_OK)
		status = from_bytes(bytes, size, file, ret_key, err);
	sodium_free(bytes);
	return status;
}

esk_status esk_key_load(const char *file, esk_key **ret_key, esk_error *err)
{
	const char *named = file != NULL ? file : getenv("ESKER_KEY_FILE");
	if (named != NULL && named[0] != '\0')
		return load_file(named, ret_key, err);
	const char *digits = getenv("ESKER_KEY");
	if (file != NULL || digits == NULL || digits[0] == '\0')
		return esk_fail(err, ESK_ENOTFOUND,
			"no key is given: name a key file (ESKER_KEY_FILE), or set ESKER_KEY to 64 "
			"hexadecimal digits");
	return from_hex(digits, strlen(digits), "ESKER_KEY", ret_key, err);
}

static esk_status write_key(const esk_os *os, int fd, const char *file, esk_error *err)
{
	uint8_t *secret, *text = NULL;
	esk_status status = secret_memory(ESK_VAULT_KEY_BYTES, &secret, err);
	if (status != ESK_OK)
		return status;
	status = secret_memory(HEX_BYTES + 1, &text, err);
	if (status == ESK_OK) {
		randombytes_buf(secret, ESK_VAULT_KEY_BYTES);
		sodium_bin2hex((char *)text, HEX_BYTES + 1, secret, ESK_VAULT_KEY_BYTES);
		text[HEX_BYTES] = '\n';
		status = esk_os_write(os, fd, file, text, HEX_BYTES + 1, 0, err);
	}
	sodium_free(text);
	sodium_free(secret);
	return status == ESK_OK ? esk_os_sync(os, fd, file, err) : status;
}

esk_status esk_key_make(const char *file, esk_error *err)
{
	const esk_os *os = esk_os_posix();
	int fd;
	esk_status status = esk_os_open(os, file, O_WRONLY | O_CREAT | O_EXCL, 0600, &fd, err);
	if (status != ESK_OK)
		return status;
	status = write_key(os, fd, file, err);
	os->close(os, fd);
	if (status == ESK_OK)
		status = esk_os_sync_parent(os, file, err);
	if (status != ESK_OK)
		esk_os_unlink(os, file, NULL);
	return status;
}

const char *esk_key_id(const esk_key *key)
{
	return key->id_text;
}

const uint8_t *esk_key_id_bytes(const esk_key *key)
{
	return key->id;
}

const uint8_t *esk_key_secret(const esk_key *key)
{
	return key->secret;
}

esk_key *esk_key_share(const esk_key *key)
{
	esk_key *shared = (esk_key *)key; /* its count of owners is the one thing that changes */
	atomic_fetch_add_explicit(&shared->owners, 1, memory_order_relaxed);
	return shared;
}

void esk_key_free(esk_key *key)
{
	/* Release and acquire: what any owner did with the secret is done before the last one wipes it. */
	if (key == NULL || atomic_fetch_sub_explicit(&key->owners, 1, memory_order_acq_rel) > 1)
		return;
	sodium_free(key->secret);
	free(key);
}
