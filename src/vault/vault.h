/* Encrypted files: keys, the container, reading it by pages. What esker/key.h promises is implemented here;
 * this header is what journal, store and check add. docs/FORMAT.md has the bytes.
 *
 *   header 128 bytes | page 0 | page 1 | …      each page: its bytes encrypted, then a tag of 16 bytes
 *
 *   E1  A nonce is used once: 16 random bytes per file (drawn anew for every attempt to write one), then the
 *       page's number. The header's tag has the number that no page has. The cipher makes a key of the file's
 *       own of those 16 bytes (HChaCha20), so files share no key stream whatever their numbers are.
 *
 *   E2  A page's tag covers its number, its size and the header's tag, and so the file's size, which the
 *       header holds: pages can be neither moved, nor swapped between files, nor cut off.
 *
 *   E3  No byte is handed out before the tag of its page was checked, and no page is looked for before that
 *       of the header was.
 *
 *   E4  A container is complete and durable before it has its name.
 *
 *   E5  A file whose name ends in .h5x is a container: a plain one in its place is not read as that.
 *
 * May include: base, os. */
#ifndef ESK_VAULT_H
#define ESK_VAULT_H

#include "os/os.h"
#include <esker/key.h>

#define ESK_VAULT_PAGE_BYTES 65536u
#define ESK_VAULT_TAG_BYTES 16u
#define ESK_VAULT_HEADER_BYTES 128u
#define ESK_VAULT_KEY_BYTES 32u
#define ESK_VAULT_ID_BYTES 8u
#define ESK_VAULT_NONCE_BYTES 16u /* of a file */

/* ---- key.c ---- */

/* Once per process; every other function does it by itself. */
esk_status esk_vault_init(esk_error *err);
/* The secret: 32 bytes, borrowed from the key. */
const uint8_t *esk_key_secret(const esk_key *key);
const uint8_t *esk_key_id_bytes(const esk_key *key);
/* One more owner, each of whom calls esk_key_free. */
esk_key *esk_key_share(const esk_key *key);
void esk_key_id_format(const uint8_t id[ESK_VAULT_ID_BYTES], char ret_text[17]);

/* ---- keyring.c: the keys that this process reads with ---- */

/* From now on files may be read with `key`; as often as drop is called. */
esk_status esk_keyring_add(const esk_key *key, esk_error *err);
void esk_keyring_drop(const esk_key *key);
/* The key of that name, of the ring or of the environment: the caller's to free. ESK_EACCES: the message says
 * which key `path` needs, how to give it, and what was found instead. */
esk_status esk_keyring_find(
	const char *path, const uint8_t id[ESK_VAULT_ID_BYTES], esk_key **ret_key, esk_error *err);
/* Calls `visit` for every key of the ring and the environment until it returns true; whether one did. */
bool esk_keyring_any(bool (*visit)(void *arg, const esk_key *key), void *arg);

/* ---- header.c ---- */

typedef struct esk_vault_header {
	uint64_t plain_bytes;
	uint8_t nonce[ESK_VAULT_NONCE_BYTES];
	uint8_t key_id[ESK_VAULT_ID_BYTES];
	uint8_t tag[ESK_VAULT_TAG_BYTES]; /* of the header */
} esk_vault_header;

/* True if the file begins as a container does. A file too short for that is none. */
esk_status esk_vault_detect(const esk_os *os, int fd, const char *path, bool *ret_found, esk_error *err);
/* Reads the header and checks all of it that needs no key: version, cipher, sizes, the file's size against
 * them. `ret_raw` receives its bytes. ESK_ECORRUPT, ESK_EVERSION. */
esk_status esk_vault_read_header(const esk_os *os, int fd, const char *path, esk_vault_header *ret_header,
	uint8_t ret_raw[ESK_VAULT_HEADER_BYTES], esk_error *err);
/* ESK_ECORRUPT unless the header's tag fits. */
esk_status esk_vault_check_header(
	const char *path, const uint8_t raw[ESK_VAULT_HEADER_BYTES], const esk_key *key, esk_error *err);
/* True if the header is one of this key's, but for the name of the key. */
bool esk_vault_fits_but_for_id(const uint8_t raw[ESK_VAULT_HEADER_BYTES], const esk_key *key);
/* Makes a header for `plain_bytes` bytes, with a new nonce and its tag. */
void esk_vault_make_header(uint64_t plain_bytes, const esk_key *key, esk_vault_header *ret_header,
	uint8_t ret_raw[ESK_VAULT_HEADER_BYTES]);
uint64_t esk_vault_page_count(uint64_t plain_bytes);
/* Of a page's plain bytes: 64 KiB but for the last. */
size_t esk_vault_page_size(uint64_t plain_bytes, uint64_t page);
/* Offset of a page in the file. */
uint64_t esk_vault_page_at(uint64_t page);

/* Encrypts `size` bytes; `out` has room for the tag behind them, and may be `plain`. */
void esk_vault_seal_page(const esk_vault_header *header, const esk_key *key, uint64_t page,
	const uint8_t *plain, size_t size, uint8_t *out);
/* The other way; false where the tag does not fit. `stored` has size + 16 bytes, `out` may be `stored`. */
bool esk_vault_open_page(const esk_vault_header *header, const esk_key *key, uint64_t page,
	const uint8_t *stored, size_t size, uint8_t *out);

/* ---- read.c: an open container, read at any place ---- */

typedef struct esk_vault esk_vault;

/* The key that the header names, the caller's to free. ESK_EACCES where it is not there, ESK_ECORRUPT where
 * the name is damaged. */
esk_status esk_vault_find_key(const char *path, const esk_vault_header *header,
	const uint8_t raw[ESK_VAULT_HEADER_BYTES], esk_key **ret_key, esk_error *err);

/* Opens the container that `fd` is; the descriptor stays the caller's and must outlive the handle. Errors:
 * ESK_EACCES (no key), ESK_ECORRUPT, ESK_EVERSION. */
esk_status esk_vault_open(const esk_os *os, int fd, const char *path, esk_vault **ret_vault, esk_error *err);
void esk_vault_close(esk_vault *vault);           /* NULL is allowed */
uint64_t esk_vault_bytes(const esk_vault *vault); /* plain */
/* Reads up to `size` plain bytes at `offset`; *ret_got says how many there were before the end. Any thread.
 * ESK_ECORRUPT names file and page. */
esk_status esk_vault_read(
	esk_vault *vault, uint64_t offset, void *buf, size_t size, size_t *ret_got, esk_error *err);

/* ---- convert.c: whole files ---- */

/* The key that the file at `path` is encrypted with, the caller's to free; NULL where it is plain. */
esk_status esk_vault_key_of(const esk_os *os, const char *path, esk_key **ret_key, esk_error *err);

/* As esk_segment_encrypt, but made at `aside` (overwritten) on the same file system, and then renamed to
 * `to`, which is replaced. */
esk_status esk_vault_encrypt(const esk_os *os, const char *from, const char *aside, const char *to,
	const esk_key *key, esk_segment_progress progress, void *arg, esk_error *err);
/* As esk_segment_decrypt, with `aside`; `to` must not exist. */
esk_status esk_vault_decrypt(const esk_os *os, const char *from, const char *aside, const char *to,
	const esk_key *key, esk_segment_progress progress, void *arg, esk_error *err);

#endif
