/* An open container: pages are decrypted when they are read. Pages that a read wants whole go straight to the
 * caller's buffer; pieces of pages go through a small cache, since libhdf5 reads metadata in pieces. */
#include "vault/vault.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CACHE_PAGES 16u

struct esk_vault {
	const esk_os *os;
	int fd;
	char *path;
	esk_key *key;
	esk_vault_header header;
	pthread_mutex_t lock;         /* of everything below; a leaf, held for one copy */
	uint8_t *cache;               /* CACHE_PAGES pages, made on first use */
	uint64_t cached[CACHE_PAGES]; /* page + 1 in each place; 0: none */
};

static bool fits_but_for_id(void *arg, const esk_key *key)
{
	return esk_vault_fits_but_for_id(arg, key);
}

esk_status esk_vault_find_key(const char *path, const esk_vault_header *header,
	const uint8_t raw[ESK_VAULT_HEADER_BYTES], esk_key **ret_key, esk_error *err)
{
	esk_status status = esk_keyring_find(path, header->key_id, ret_key, err);
	if (status == ESK_OK)
		return ESK_OK;
	uint8_t copy[ESK_VAULT_HEADER_BYTES];
	memcpy(copy, raw, sizeof copy);
	if (esk_keyring_any(fits_but_for_id, copy))
		return esk_fail(err, ESK_ECORRUPT,
			"%s: the header of the encrypted segment is damaged: the name of the key was changed",
			path);
	return status;
}

esk_status esk_vault_open(const esk_os *os, int fd, const char *path, esk_vault **ret_vault, esk_error *err)
{
	uint8_t raw[ESK_VAULT_HEADER_BYTES];
	esk_vault *vault = calloc(1, sizeof *vault);
	esk_status status;
	if (vault == NULL)
		return esk_fail_memory(err, sizeof *vault, "an encrypted segment");
	vault->os = os;
	vault->fd = fd;
	pthread_mutex_init(&vault->lock, NULL);
	vault->path = strdup(path);
	status = vault->path != NULL ? esk_vault_init(err) : esk_fail_memory(err, strlen(path), path);
	if (status == ESK_OK)
		status = esk_vault_read_header(os, fd, path, &vault->header, raw, err);
	if (status == ESK_OK)
		status = esk_vault_find_key(path, &vault->header, raw, &vault->key, err);
	if (status == ESK_OK)
		status = esk_vault_check_header(path, raw, vault->key, err);
	if (status != ESK_OK) {
		esk_vault_close(vault);
		return status;
	}
	*ret_vault = vault;
	return ESK_OK;
}

void esk_vault_close(esk_vault *vault)
{
	if (vault == NULL)
		return;
	esk_key_free(vault->key);
	pthread_mutex_destroy(&vault->lock);
	free(vault->cache);
	free(vault->path);
	free(vault);
}

uint64_t esk_vault_bytes(const esk_vault *vault)
{
	return vault->header.plain_bytes;
}

/* `out` has room for the page and its tag. */
static esk_status load_page(
	const esk_vault *vault, uint64_t page, uint8_t *stored, uint8_t *out, esk_error *err)
{
	size_t size = esk_vault_page_size(vault->header.plain_bytes, page);
	esk_status status = esk_os_read(vault->os, vault->fd, vault->path, stored, size + ESK_VAULT_TAG_BYTES,
		esk_vault_page_at(page), err);
	if (status != ESK_OK)
		return esk_fail_in(err, status, "page %llu", (unsigned long long)page);
	if (esk_vault_open_page(&vault->header, vault->key, page, stored, size, out))
		return ESK_OK;
	return esk_fail(err, ESK_ECORRUPT,
		"%s: page %llu of the encrypted segment is damaged or was changed (its tag does not fit)",
		vault->path, (unsigned long long)page);
}

static bool take_cached(esk_vault *vault, uint64_t page, size_t within, uint8_t *buf, size_t size)
{
	size_t place = page % CACHE_PAGES;
	pthread_mutex_lock(&vault->lock);
	bool found = vault->cached[place] == page + 1;
	if (found)
		memcpy(buf, vault->cache + place * ESK_VAULT_PAGE_BYTES + within, size);
	pthread_mutex_unlock(&vault->lock);
	return found;
}

static void keep_cached(esk_vault *vault, uint64_t page, const uint8_t *plain)
{
	size_t place = page % CACHE_PAGES;
	pthread_mutex_lock(&vault->lock);
	if (vault->cache == NULL)
		vault->cache = malloc((size_t)CACHE_PAGES * ESK_VAULT_PAGE_BYTES);
	if (vault->cache != NULL) { /* without memory there is no cache */
		memcpy(vault->cache + place * ESK_VAULT_PAGE_BYTES, plain,
			esk_vault_page_size(vault->header.plain_bytes, page));
		vault->cached[place] = page + 1;
	}
	pthread_mutex_unlock(&vault->lock);
}

/* `size` bytes of one page. */
static esk_status read_piece(
	esk_vault *vault, uint64_t page, size_t within, uint8_t *buf, size_t size, esk_error *err)
{
	uint8_t stored[ESK_VAULT_PAGE_BYTES + ESK_VAULT_TAG_BYTES];
	if (take_cached(vault, page, within, buf, size))
		return ESK_OK;
	if (size == ESK_VAULT_PAGE_BYTES)
		return load_page(vault, page, stored, buf, err);
	esk_status status = load_page(vault, page, stored, stored, err);
	if (status != ESK_OK)
		return status;
	memcpy(buf, stored + within, size);
	keep_cached(vault, page, stored);
	return ESK_OK;
}

esk_status esk_vault_read(
	esk_vault *vault, uint64_t offset, void *buf, size_t size, size_t *ret_got, esk_error *err)
{
	uint64_t end = vault->header.plain_bytes;
	size_t wanted = offset >= end ? 0 : (size_t)esk_min_u64(size, end - offset);
	for (size_t done = 0; done < wanted;) {
		uint64_t page = (offset + done) / ESK_VAULT_PAGE_BYTES;
		size_t within = (size_t)((offset + done) % ESK_VAULT_PAGE_BYTES);
		size_t piece = (size_t)esk_min_u64(ESK_VAULT_PAGE_BYTES - within, wanted - done);
		esk_status status = read_piece(vault, page, within, (uint8_t *)buf + done, piece, err);
		if (status != ESK_OK)
			return status;
		done += piece;
	}
	*ret_got = wanted;
	return ESK_OK;
}
