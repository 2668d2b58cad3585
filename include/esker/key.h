/* Keys, and encryption at rest of sealed segments.
 *
 * A run that was opened with esk_run_options.encrypt has its segments encrypted when they are sealed: by
 * rotation, and the last one when the run is closed. The files are then <run>_<stamp>.h5x: pages of 64 KiB,
 * each under XChaCha20-Poly1305, so that a changed, moved or missing byte is found when it is read
 * (docs/FORMAT.md has the bytes). Everything in Esker that reads segments reads these as well where it has
 * the key: that of esk_store_options.key, of any store that this process has open, or of the environment.
 * Other programs read what esk_segment_decrypt writes.
 *
 * What encryption does not hide: names of runs, times of sealing, sizes; the catalogue (metadata, indexed
 * columns); the live segment and the ring, which are plain until they are sealed.
 *
 * What it does not prevent: whoever may write into the store can remove an encrypted segment, put an earlier
 * one in its place that had the same name, or a plain file (.h5) beside it, which counts as the segment.
 *
 * The secret is kept in memory that is locked, left out of core dumps and wiped when it is freed. It is never
 * in a log, a message or a file but the key file. ESKER_KEY, being in the environment, may be seen by whoever
 * may see the process's environment: a key file is better. */
#ifndef ESKER_KEY_H
#define ESKER_KEY_H

#include <esker/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct esk_key esk_key;

/* Loads a key: of `file`; where that is NULL, of the file that ESKER_KEY_FILE names, else of ESKER_KEY (64
 * hexadecimal digits). A file holds 32 bytes, or 64 hexadecimal digits and perhaps a line's end. The caller
 * owns *ret_key. Errors: ESK_ENOTFOUND (no key is given, no such file), ESK_EACCES (it may not be read, or
 * others than its owner may: mode 0600), ESK_EINVAL (it holds something else), ESK_ENOMEM. */
ESK_API esk_status esk_key_load(const char *file, esk_key **ret_key, esk_error *err);

/* Writes a new random key into `file`, which must not exist, with mode 0600, durably. Keep a copy elsewhere:
 * without it what was encrypted is lost. Errors: ESK_EEXIST, ESK_EACCES, ESK_EIO, ESK_ENOSPC. */
ESK_API esk_status esk_key_make(const char *file, esk_error *err);

/* What the key is called where it is asked for: 16 hexadecimal digits that say nothing of the secret.
 * Borrowed. */
ESK_API const char *esk_key_id(const esk_key *key);

/* Wipes and frees, once every store that was opened with it is closed. NULL is allowed. */
ESK_API void esk_key_free(esk_key *key);

/* Called once per MiB or so by the thread that converts; returning false cancels: the call fails with
 * ESK_ECLOSED and leaves nothing behind. May be NULL. */
typedef bool (*esk_segment_progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes);

/* Writes file `from`, encrypted with `key`, to `to`, which must not exist: complete and durable before it has
 * its name. `from` stays. Errors: ESK_EEXIST, ESK_EBUSY (`from` is being written), ESK_EINVAL (encrypted
 * already), ESK_ENOTFOUND, ESK_ENOSPC, ESK_EIO, ESK_ECLOSED. Nobody may use `to` who may not use `from`. */
ESK_API esk_status esk_segment_encrypt(const char *from, const char *to, const esk_key *key,
	esk_segment_progress progress, void *arg, esk_error *err);

/* The other way: `to` is the plain HDF5 file that was encrypted, byte for byte. `key` NULL: the key that the
 * process has (see above). Errors besides: ESK_EINVAL (not encrypted), ESK_EACCES (says which key is needed),
 * ESK_ECORRUPT (names the page that was damaged or changed; nothing is left behind), ESK_EVERSION. */
ESK_API esk_status esk_segment_decrypt(const char *from, const char *to, const esk_key *key,
	esk_segment_progress progress, void *arg, esk_error *err);

/* Whether the file at `path` is an encrypted segment; *ret_key_id (may be NULL) receives the key's name, 16
 * digits. No key is needed. Errors: ESK_ENOTFOUND, ESK_EACCES, ESK_EIO. */
ESK_API esk_status esk_segment_is_encrypted(
	const char *path, bool *ret_encrypted, char ret_key_id[17], esk_error *err);

#ifdef __cplusplus
}
#endif
#endif
