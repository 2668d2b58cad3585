/* The container's bytes: header and pages. */
#include "vault/vault.h"

#include <sodium.h>
#include <string.h>

#define VERSION 1u
#define CIPHER_XCHACHA20_POLY1305 1u
#define MAX_PLAIN_BYTES (UINT64_C(1) << 62)

/* Offsets in the header. */
enum {
	AT_MAGIC = 0,
	AT_VERSION = 8,
	AT_CIPHER = 12,
	AT_PAGE_BYTES = 16,
	AT_HEADER_BYTES = 20,
	AT_PLAIN_BYTES = 24,
	AT_NONCE = 32,
	AT_KEY_ID = 48,
	AT_RESERVED = 56,
	AT_TAG = 112,
};

static const uint8_t magic[8] = {'E', 'S', 'K', 'E', 'R', 'X', '1', '\n'};

_Static_assert(AT_TAG + ESK_VAULT_TAG_BYTES == ESK_VAULT_HEADER_BYTES, "the tag ends the header");
_Static_assert(ESK_VAULT_NONCE_BYTES + sizeof(uint64_t) == crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
	"a nonce is the file's and a number");
_Static_assert(ESK_VAULT_TAG_BYTES == crypto_aead_xchacha20poly1305_ietf_ABYTES &&
		       ESK_VAULT_KEY_BYTES == crypto_aead_xchacha20poly1305_ietf_KEYBYTES,
	"sizes of the cipher");

/* Little-endian, whatever the machine. */
static void put(uint8_t *to, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		to[i] = (uint8_t)(value >> 8 * i);
}

static uint64_t get(const uint8_t *from, size_t bytes)
{
	uint64_t value = 0;
	for (size_t i = 0; i < bytes; i++)
		value |= (uint64_t)from[i] << 8 * i;
	return value;
}

/* E1 */
static void make_nonce(const uint8_t *file_nonce, uint64_t number, uint8_t ret_nonce[24])
{
	memcpy(ret_nonce, file_nonce, ESK_VAULT_NONCE_BYTES);
	put(ret_nonce + ESK_VAULT_NONCE_BYTES, number, 8);
}

/* E2 */
#define PAGE_DATA_BYTES (ESK_VAULT_TAG_BYTES + 16)
static void make_page_data(const esk_vault_header *header, uint64_t page, size_t size, uint8_t *ret_data)
{
	memcpy(ret_data, header->tag, ESK_VAULT_TAG_BYTES);
	put(ret_data + ESK_VAULT_TAG_BYTES, page, 8);
	put(ret_data + ESK_VAULT_TAG_BYTES + 8, size, 8);
}

uint64_t esk_vault_page_count(uint64_t plain_bytes)
{
	return plain_bytes / ESK_VAULT_PAGE_BYTES + (plain_bytes % ESK_VAULT_PAGE_BYTES != 0);
}

size_t esk_vault_page_size(uint64_t plain_bytes, uint64_t page)
{
	return (size_t)esk_min_u64(ESK_VAULT_PAGE_BYTES, plain_bytes - page * ESK_VAULT_PAGE_BYTES);
}

uint64_t esk_vault_page_at(uint64_t page)
{
	return ESK_VAULT_HEADER_BYTES + page * (ESK_VAULT_PAGE_BYTES + ESK_VAULT_TAG_BYTES);
}

esk_status esk_vault_detect(const esk_os *os, int fd, const char *path, bool *ret_found, esk_error *err)
{
	uint8_t head[sizeof magic];
	size_t got = 0;
	esk_status status = esk_os_read_some(os, fd, path, head, sizeof head, 0, &got, err);
	if (status == ESK_OK)
		*ret_found = got == sizeof head && memcmp(head, magic, sizeof magic) == 0;
	return status;
}

static esk_status check_size(const esk_os *os, int fd, const char *path, uint64_t plain_bytes, esk_error *err)
{
	uint64_t size = 0, pages = esk_vault_page_count(plain_bytes);
	uint64_t expected = ESK_VAULT_HEADER_BYTES + plain_bytes + pages * ESK_VAULT_TAG_BYTES;
	esk_status status = esk_os_size(os, fd, path, &size, err);
	if (status != ESK_OK || size == expected)
		return status;
	if (size > expected)
		return esk_fail(err, ESK_ECORRUPT,
			"%s has %llu bytes, its header says %llu: something was added behind page %llu", path,
			(unsigned long long)size, (unsigned long long)expected, (unsigned long long)pages);
	uint64_t page = size <= ESK_VAULT_HEADER_BYTES ? 0
						       : (size - ESK_VAULT_HEADER_BYTES) /
								 (ESK_VAULT_PAGE_BYTES + ESK_VAULT_TAG_BYTES);
	return esk_fail(err, ESK_ECORRUPT,
		"%s has %llu bytes, its header says %llu: it was cut in page %llu of %llu", path,
		(unsigned long long)size, (unsigned long long)expected, (unsigned long long)page,
		(unsigned long long)pages);
}

esk_status esk_vault_read_header(const esk_os *os, int fd, const char *path, esk_vault_header *ret_header,
	uint8_t ret_raw[ESK_VAULT_HEADER_BYTES], esk_error *err)
{
	static const uint8_t zeros[AT_TAG - AT_RESERVED];
	uint8_t *raw = ret_raw;
	size_t got = 0;
	esk_status status = esk_os_read_some(os, fd, path, raw, ESK_VAULT_HEADER_BYTES, 0, &got, err);
	if (status != ESK_OK)
		return status;
	if (got < ESK_VAULT_HEADER_BYTES)
		return esk_fail(err, ESK_ECORRUPT,
			"%s has %zu bytes: it was cut in the header of an encrypted segment", path, got);
	if (memcmp(raw + AT_MAGIC, magic, sizeof magic) != 0)
		return esk_fail(err, ESK_ECORRUPT,
			"%s is no encrypted segment: it does not begin with ESKERX1", path);
	if (get(raw + AT_VERSION, 4) != VERSION || get(raw + AT_CIPHER, 4) != CIPHER_XCHACHA20_POLY1305)
		return esk_fail(err, ESK_EVERSION,
			"%s: version %llu and cipher %llu of encrypted segments are not known here", path,
			(unsigned long long)get(raw + AT_VERSION, 4),
			(unsigned long long)get(raw + AT_CIPHER, 4));
	esk_vault_header header = {.plain_bytes = get(raw + AT_PLAIN_BYTES, 8)};
	if (get(raw + AT_PAGE_BYTES, 4) != ESK_VAULT_PAGE_BYTES ||
		get(raw + AT_HEADER_BYTES, 4) != ESK_VAULT_HEADER_BYTES ||
		header.plain_bytes > MAX_PLAIN_BYTES || memcmp(raw + AT_RESERVED, zeros, sizeof zeros) != 0)
		return esk_fail(
			err, ESK_ECORRUPT, "%s: the header of the encrypted segment is damaged", path);
	memcpy(header.nonce, raw + AT_NONCE, sizeof header.nonce);
	memcpy(header.key_id, raw + AT_KEY_ID, sizeof header.key_id);
	memcpy(header.tag, raw + AT_TAG, sizeof header.tag);
	status = check_size(os, fd, path, header.plain_bytes, err);
	if (status == ESK_OK)
		*ret_header = header;
	return status;
}

esk_status esk_vault_check_header(
	const char *path, const uint8_t raw[ESK_VAULT_HEADER_BYTES], const esk_key *key, esk_error *err)
{
	uint8_t nonce[24], nothing[1] = {0};
	make_nonce(raw + AT_NONCE, UINT64_MAX, nonce);
	if (crypto_aead_xchacha20poly1305_ietf_decrypt_detached(
		    nothing, NULL, nothing, 0, raw + AT_TAG, raw, AT_TAG, nonce, esk_key_secret(key)) == 0)
		return ESK_OK;
	return esk_fail(err, ESK_ECORRUPT,
		"%s: the header of the encrypted segment is damaged or was changed (its tag does not fit)",
		path);
}

bool esk_vault_fits_but_for_id(const uint8_t raw[ESK_VAULT_HEADER_BYTES], const esk_key *key)
{
	uint8_t copy[ESK_VAULT_HEADER_BYTES];
	memcpy(copy, raw, sizeof copy);
	memcpy(copy + AT_KEY_ID, esk_key_id_bytes(key), ESK_VAULT_ID_BYTES);
	return esk_vault_check_header("", copy, key, NULL) == ESK_OK;
}

void esk_vault_make_header(uint64_t plain_bytes, const esk_key *key, esk_vault_header *ret_header,
	uint8_t ret_raw[ESK_VAULT_HEADER_BYTES])
{
	uint8_t *raw = ret_raw, nonce[24], nothing[1] = {0};
	memset(raw, 0, ESK_VAULT_HEADER_BYTES);
	memcpy(raw + AT_MAGIC, magic, sizeof magic);
	put(raw + AT_VERSION, VERSION, 4);
	put(raw + AT_CIPHER, CIPHER_XCHACHA20_POLY1305, 4);
	put(raw + AT_PAGE_BYTES, ESK_VAULT_PAGE_BYTES, 4);
	put(raw + AT_HEADER_BYTES, ESK_VAULT_HEADER_BYTES, 4);
	put(raw + AT_PLAIN_BYTES, plain_bytes, 8);
	randombytes_buf(raw + AT_NONCE, ESK_VAULT_NONCE_BYTES);
	memcpy(raw + AT_KEY_ID, esk_key_id_bytes(key), ESK_VAULT_ID_BYTES);
	make_nonce(raw + AT_NONCE, UINT64_MAX, nonce);
	crypto_aead_xchacha20poly1305_ietf_encrypt_detached(
		nothing, raw + AT_TAG, NULL, nothing, 0, raw, AT_TAG, NULL, nonce, esk_key_secret(key));
	*ret_header = (esk_vault_header){.plain_bytes = plain_bytes};
	memcpy(ret_header->nonce, raw + AT_NONCE, ESK_VAULT_NONCE_BYTES);
	memcpy(ret_header->key_id, raw + AT_KEY_ID, ESK_VAULT_ID_BYTES);
	memcpy(ret_header->tag, raw + AT_TAG, ESK_VAULT_TAG_BYTES);
}

void esk_vault_seal_page(const esk_vault_header *header, const esk_key *key, uint64_t page,
	const uint8_t *plain, size_t size, uint8_t *out)
{
	uint8_t nonce[24], data[PAGE_DATA_BYTES];
	make_nonce(header->nonce, page, nonce);
	make_page_data(header, page, size, data);
	crypto_aead_xchacha20poly1305_ietf_encrypt_detached(
		out, out + size, NULL, plain, size, data, sizeof data, NULL, nonce, esk_key_secret(key));
}

bool esk_vault_open_page(const esk_vault_header *header, const esk_key *key, uint64_t page,
	const uint8_t *stored, size_t size, uint8_t *out)
{
	uint8_t nonce[24], data[PAGE_DATA_BYTES];
	make_nonce(header->nonce, page, nonce);
	make_page_data(header, page, size, data);
	return crypto_aead_xchacha20poly1305_ietf_decrypt_detached(out, NULL, stored, size, stored + size,
		       data, sizeof data, nonce, esk_key_secret(key)) == 0;
}
