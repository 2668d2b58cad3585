/* Any bytes as an encrypted file: nothing crashes, and no byte is handed out that was not encrypted there.
 *
 * Input: a byte that says how the container is made of the rest:
 *   0  the rest is the container;
 *   1  the same, with the tag that its header should have, so that the fuzzer gets behind it;
 *   2  the same, and every page is encrypted where it lies;
 *   3  the first two bytes say how much of a pattern is encrypted; the rest are edits of 7 bytes each: what
 * is done to the container, and two numbers. It is opened with the key that made it, and with another. */
#include "journal/journal.h"
#include "vault/vault.h"

#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_BYTES (1u << 20)
#define STORED_BYTES (ESK_VAULT_PAGE_BYTES + ESK_VAULT_TAG_BYTES)
#define TAG_AT (ESK_VAULT_HEADER_BYTES - ESK_VAULT_TAG_BYTES)
#define NONCE_AT 32
#define PLAIN_BYTES_AT 24
#define EDIT_BYTES 7

static char path[64];
static char out_path[80];
static char key_path[2][80];
static esk_key *keys[2]; /* that of the containers, and another */

typedef struct container {
	uint8_t bytes[2 * MAX_BYTES];
	size_t size;
	uint8_t plain[2 * MAX_BYTES]; /* what it was made of */
	size_t plain_size;
	bool known;  /* plain is known: what is read must be that */
	bool sound;  /* nothing was changed since it was made */
	bool forged; /* with the key: a header that was never made may be right */
} container;

static container c;

static void put_file(const char *name, const uint8_t *bytes, size_t size)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || pwrite(fd, bytes, size, 0) != (ssize_t)size)
		abort();
	close(fd);
}

/* Key i is 32 bytes of i + 1, and so known to what makes the first containers. */
static void make_place(void)
{
	if (path[0] != '\0')
		return;
	char directory[] = "/tmp/esk-fuzz-XXXXXX";
	if (access("/dev/shm", W_OK) == 0)
		memcpy(directory, "/dev/shm/eskXXXXXX", sizeof("/dev/shm/eskXXXXXX"));
	if (mkdtemp(directory) == NULL || unsetenv("ESKER_KEY") != 0 || unsetenv("ESKER_KEY_FILE") != 0)
		abort();
	snprintf(path, sizeof(path), "%s/a.h5x", directory);
	snprintf(out_path, sizeof(out_path), "%s/out", directory);
	for (int i = 0; i < 2; i++) {
		uint8_t secret[ESK_VAULT_KEY_BYTES];
		memset(secret, i + 1, sizeof(secret));
		snprintf(key_path[i], sizeof(key_path[i]), "%s/key%d", directory, i);
		put_file(key_path[i], secret, sizeof(secret));
		if (esk_key_load(key_path[i], &keys[i], NULL) != ESK_OK)
			abort();
	}
}

/* ---- making containers ---- */

/* The header with its tag, as esk_vault_make_header would have made it with this nonce. */
static void mend_header(void)
{
	uint8_t nonce[24], nothing[1] = {0};
	if (c.size < ESK_VAULT_HEADER_BYTES)
		return;
	memcpy(nonce, c.bytes + NONCE_AT, ESK_VAULT_NONCE_BYTES);
	memset(nonce + ESK_VAULT_NONCE_BYTES, 0xFF, 8);
	crypto_aead_xchacha20poly1305_ietf_encrypt_detached(nothing, c.bytes + TAG_AT, NULL, nothing, 0,
		c.bytes, TAG_AT, NULL, nonce, esk_key_secret(keys[0]));
}

static uint64_t claimed_bytes(void)
{
	uint64_t bytes = 0;
	for (int i = 0; i < 8; i++)
		bytes |= (uint64_t)c.bytes[PLAIN_BYTES_AT + i] << 8 * i;
	return bytes;
}

/* Takes what lies in the places of pages for plain bytes, and encrypts them. */
static void seal_pages(void)
{
	esk_vault_header header = {.plain_bytes = claimed_bytes()};
	memcpy(header.nonce, c.bytes + NONCE_AT, sizeof(header.nonce));
	memcpy(header.tag, c.bytes + TAG_AT, sizeof(header.tag));
	c.known = true;
	for (uint64_t page = 0; page < esk_vault_page_count(header.plain_bytes); page++) {
		size_t size = esk_vault_page_size(header.plain_bytes, page);
		uint64_t at = esk_vault_page_at(page);
		if (at > c.size || c.size - at < size + ESK_VAULT_TAG_BYTES)
			return;
		memcpy(c.plain + c.plain_size, c.bytes + at, size);
		c.plain_size += size;
		esk_vault_seal_page(&header, keys[0], page, c.bytes + at, size, c.bytes + at);
	}
}

static void make_raw(int how, const uint8_t *data, size_t size)
{
	memcpy(c.bytes, data, size);
	c.size = size;
	c.forged = how > 0;
	if (how > 0)
		mend_header();
	if (how > 1 && size >= ESK_VAULT_HEADER_BYTES)
		seal_pages();
}

static void make_whole(size_t plain_size)
{
	esk_vault_header header;
	c.plain_size = plain_size;
	c.known = c.sound = true;
	for (size_t i = 0; i < plain_size; i++)
		c.plain[i] = (uint8_t)(i % 251 + i / ESK_VAULT_PAGE_BYTES);
	esk_vault_make_header(plain_size, keys[0], &header, c.bytes);
	c.size = ESK_VAULT_HEADER_BYTES;
	for (uint64_t page = 0; page < esk_vault_page_count(plain_size); page++) {
		size_t size = esk_vault_page_size(plain_size, page);
		esk_vault_seal_page(&header, keys[0], page, c.plain + page * ESK_VAULT_PAGE_BYTES, size,
			c.bytes + c.size);
		c.size += size + ESK_VAULT_TAG_BYTES;
	}
}

/* ---- edits ---- */

static void copy_page(uint64_t from, uint64_t to)
{
	uint64_t read = esk_vault_page_at(from), write = esk_vault_page_at(to);
	size_t size = c.size - read < STORED_BYTES ? c.size - read : STORED_BYTES;
	memmove(c.bytes + write, c.bytes + read, size);
	c.size = write + size > c.size ? write + size : c.size;
}

static void drop_page(uint64_t page)
{
	uint64_t at = esk_vault_page_at(page);
	size_t size = c.size - at < STORED_BYTES ? c.size - at : STORED_BYTES;
	memmove(c.bytes + at, c.bytes + at + size, c.size - at - size);
	c.size -= size;
}

/* The page of another file under the same key, in the same place. */
static void take_foreign(uint64_t page)
{
	uint8_t raw[ESK_VAULT_HEADER_BYTES];
	esk_vault_header other;
	uint64_t at = esk_vault_page_at(page);
	size_t size = c.size - at < STORED_BYTES ? c.size - at : STORED_BYTES;
	if (size <= ESK_VAULT_TAG_BYTES)
		return;
	esk_vault_make_header(c.plain_size, keys[0], &other, raw);
	esk_vault_seal_page(&other, keys[0], page, c.plain, size - ESK_VAULT_TAG_BYTES, c.bytes + at);
}

static void resize(size_t size)
{
	if (size > c.size)
		memset(c.bytes + c.size, 0, size - c.size);
	c.size = size;
}

static void edit(const uint8_t *with)
{
	static const uint8_t fields[] = {0, 8, 12, 16, 20, 24, 27, 31, 32, 48, 56, 111};
	size_t a = (size_t)with[1] | (size_t)with[2] << 8 | (size_t)with[3] << 16;
	size_t b = (size_t)with[4] | (size_t)with[5] << 8 | (size_t)with[6] << 16;
	uint64_t pages = c.size <= ESK_VAULT_HEADER_BYTES
				 ? 0
				 : (c.size - ESK_VAULT_HEADER_BYTES + STORED_BYTES - 1) / STORED_BYTES;
	switch (with[0] % 8) {
	case 0:
		if (c.size > 0)
			c.bytes[a % c.size] ^= (uint8_t)b;
		break;
	case 1:
		resize(a % (c.size + 1));
		break;
	case 2:
		if (c.size + b % 70000 <= sizeof(c.bytes))
			resize(c.size + b % 70000);
		break;
	case 3:
		if (pages > 0 && esk_vault_page_at(b % (pages + 1)) + STORED_BYTES <= sizeof(c.bytes))
			copy_page(a % pages, b % (pages + 1));
		break;
	case 4:
		if (pages > 0)
			drop_page(a % pages);
		break;
	case 5:
		if (pages > 0)
			take_foreign(a % pages);
		break;
	case 6:
		if (c.size >= ESK_VAULT_HEADER_BYTES)
			c.bytes[fields[a % sizeof(fields)]] = (uint8_t)b;
		break;
	default:
		mend_header();
		c.forged = true;
	}
}

static void make_edited(const uint8_t *data, size_t size)
{
	static uint8_t before[2 * MAX_BYTES];
	size_t plain_size = size < 2 ? 0 : ((size_t)data[0] | (size_t)data[1] << 8) * 5u;
	make_whole(plain_size);
	size_t whole = c.size;
	memcpy(before, c.bytes, whole);
	for (size_t at = 2; at + EDIT_BYTES <= size && at < 2 + 16 * EDIT_BYTES; at += EDIT_BYTES)
		edit(data + at);
	c.sound = c.size == whole && memcmp(before, c.bytes, whole) == 0;
}

/* ---- reading them ---- */

static void check_bytes(uint64_t offset, const uint8_t *bytes, size_t size)
{
	if (c.known && (offset > c.plain_size || size > c.plain_size - offset ||
			       memcmp(bytes, c.plain + offset, size) != 0))
		abort();
}

/* What it says of itself must be so: a sound one opens, a changed one is refused, in one place or another. */
static void check_verdict(bool whole)
{
	if (whole ? c.known && !c.sound && !c.forged : c.sound)
		abort();
}

static bool read_all(esk_vault *vault)
{
	static uint8_t bytes[2 * MAX_BYTES + 1];
	uint64_t end = esk_vault_bytes(vault);
	static const uint64_t sizes[] = {1, 4096, 65535, 65536, 65537, 200000};
	bool whole = end < sizeof(bytes);
	size_t got = 0;
	for (size_t i = 0; i < 6; i++) {
		const uint64_t offsets[] = {
			0, sizes[i], end / 2, end - esk_min_u64(end, sizes[i]), end, UINT64_MAX};
		for (size_t k = 0; k < 6; k++)
			if (esk_vault_read(vault, offsets[k], bytes, sizes[i], &got, NULL) == ESK_OK)
				check_bytes(offsets[k] < end ? offsets[k] : 0, bytes, got);
			else
				whole = false;
	}
	if (end < sizeof(bytes)) {
		bool all = esk_vault_read(vault, 0, bytes, sizeof(bytes), &got, NULL) == ESK_OK;
		if (all)
			check_bytes(0, bytes, got);
		whole = whole && all;
	}
	return whole;
}

static void open_with_right_key(void)
{
	esk_vault *vault = NULL;
	bool whole = false;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		abort();
	if (esk_vault_open(esk_os_posix(), fd, path, &vault, NULL) == ESK_OK) {
		whole = read_all(vault);
		esk_vault_close(vault);
	}
	close(fd);
	check_verdict(whole);
}

/* As the journal's layer, and so libhdf5, reads it. */
static void read_through_journal(void)
{
	static uint8_t bytes[100000];
	esk_jfile *file = NULL;
	bool whole = false;
	if (esk_jfile_open(esk_os_posix(), path, ESK_JFILE_READ, &file, NULL, NULL) == ESK_OK) {
		uint64_t end = esk_jfile_end(file), at = 0;
		whole = true;
		for (; at < end && at < 2 * MAX_BYTES && whole; at += sizeof(bytes)) {
			size_t size = (size_t)esk_min_u64(sizeof(bytes), end - at);
			whole = esk_jfile_read(file, at, bytes, size, NULL) == ESK_OK;
			if (whole)
				check_bytes(at, bytes, size);
		}
		whole = whole && at >= end;
		esk_jfile_close(file, NULL);
	}
	check_verdict(whole);
}

static void convert(const esk_key *key, bool right)
{
	static uint8_t bytes[2 * MAX_BYTES];
	struct stat st = {0};
	esk_error err = {0};
	bool done = esk_segment_decrypt(path, out_path, key, NULL, NULL, &err) == ESK_OK;
	char part[96];
	snprintf(part, sizeof(part), "%s.part", out_path);
	if (access(part, F_OK) == 0 || (access(out_path, F_OK) == 0) != done || (done && !right))
		abort();
	if (done) {
		int fd = open(out_path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) != 0 || read(fd, bytes, sizeof(bytes)) != st.st_size ||
			(c.known && !c.forged && (size_t)st.st_size != c.plain_size))
			abort();
		close(fd);
		check_bytes(0, bytes, (size_t)st.st_size);
		unlink(out_path);
	}
	if (right)
		check_verdict(done);
}

static void open_with_wrong_key(void)
{
	esk_vault *vault = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || esk_keyring_add(keys[1], NULL) != ESK_OK ||
		esk_vault_open(esk_os_posix(), fd, path, &vault, NULL) == ESK_OK)
		abort();
	esk_keyring_drop(keys[1]);
	close(fd);
	convert(keys[1], false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char id[17];
	bool encrypted = false;
	if (size < 1 || size > MAX_BYTES || esk_vault_init(NULL) != ESK_OK)
		return 0;
	make_place();
	c.plain_size = 0;
	c.known = c.sound = c.forged = false;
	if (data[0] % 4 < 3)
		make_raw(data[0] % 4, data + 1, size - 1);
	else
		make_edited(data + 1, size - 1);
	put_file(path, c.bytes, c.size);
	if (esk_segment_is_encrypted(path, &encrypted, id, NULL) != ESK_OK && c.sound)
		abort();
	open_with_wrong_key();
	if (esk_keyring_add(keys[0], NULL) != ESK_OK)
		abort();
	open_with_right_key();
	read_through_journal();
	convert(NULL, true);
	convert(keys[0], true);
	esk_keyring_drop(keys[0]);
	return 0;
}
