/* Whole files, plain to encrypted and back (E4). */
#include "vault/vault.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BATCH_PAGES 16u /* 1 MiB a write */
#define BATCH_BYTES ((size_t)BATCH_PAGES * ESK_VAULT_PAGE_BYTES)
#define STORED_BYTES (ESK_VAULT_PAGE_BYTES + ESK_VAULT_TAG_BYTES)

typedef struct conversion {
	const esk_os *os;
	const char *from;
	const char *aside;
	int in;
	int out;
	const esk_key *key;
	esk_vault_header header;
	uint8_t *plain;  /* BATCH_PAGES pages */
	uint8_t *stored; /* and as they are stored */
	esk_segment_progress progress;
	void *arg;
} conversion;

static esk_status go_on(const conversion *c, uint64_t done, esk_error *err)
{
	if (c->progress == NULL || c->progress(c->arg, done, c->header.plain_bytes))
		return ESK_OK;
	return esk_fail(err, ESK_ECLOSED, "cancelled: %s is as it was", c->from);
}

/* Pages [page, page + count) of the file. */
static esk_status seal_pages(const conversion *c, uint64_t page, size_t count, esk_error *err)
{
	uint64_t at = page * ESK_VAULT_PAGE_BYTES;
	size_t bytes =
		(size_t)esk_min_u64((uint64_t)count * ESK_VAULT_PAGE_BYTES, c->header.plain_bytes - at);
	esk_status status = esk_os_read(c->os, c->in, c->from, c->plain, bytes, at, err);
	if (status != ESK_OK)
		return status;
	size_t stored = 0;
	for (size_t i = 0; i < count; i++) {
		size_t size = esk_vault_page_size(c->header.plain_bytes, page + i);
		esk_vault_seal_page(&c->header, c->key, page + i, c->plain + i * ESK_VAULT_PAGE_BYTES, size,
			c->stored + stored);
		stored += size + ESK_VAULT_TAG_BYTES;
	}
	return esk_os_write(c->os, c->out, c->aside, c->stored, stored, esk_vault_page_at(page), err);
}

static esk_status open_pages(const conversion *c, uint64_t page, size_t count, esk_error *err)
{
	uint64_t at = page * ESK_VAULT_PAGE_BYTES;
	size_t bytes =
		(size_t)esk_min_u64((uint64_t)count * ESK_VAULT_PAGE_BYTES, c->header.plain_bytes - at);
	esk_status status = esk_os_read(c->os, c->in, c->from, c->stored, bytes + count * ESK_VAULT_TAG_BYTES,
		esk_vault_page_at(page), err);
	if (status != ESK_OK)
		return status;
	for (size_t i = 0; i < count; i++) {
		size_t size = esk_vault_page_size(c->header.plain_bytes, page + i);
		if (!esk_vault_open_page(&c->header, c->key, page + i, c->stored + i * STORED_BYTES, size,
			    c->plain + i * ESK_VAULT_PAGE_BYTES))
			return esk_fail(err, ESK_ECORRUPT,
				"%s: page %llu of the encrypted segment is damaged or was changed (its tag "
				"does not fit)",
				c->from, (unsigned long long)(page + i));
	}
	return esk_os_write(c->os, c->out, c->aside, c->plain, bytes, at, err);
}

static esk_status convert_pages(const conversion *c, bool seal, esk_error *err)
{
	uint64_t pages = esk_vault_page_count(c->header.plain_bytes);
	esk_status status = go_on(c, 0, err);
	for (uint64_t page = 0; page < pages && status == ESK_OK; page += BATCH_PAGES) {
		size_t count = (size_t)esk_min_u64(BATCH_PAGES, pages - page);
		status = seal ? seal_pages(c, page, count, err) : open_pages(c, page, count, err);
		if (status == ESK_OK)
			status = go_on(c,
				esk_min_u64((page + count) * ESK_VAULT_PAGE_BYTES, c->header.plain_bytes),
				err);
	}
	return status;
}

static esk_status begin_sealing(conversion *c, esk_error *err)
{
	uint8_t raw[ESK_VAULT_HEADER_BYTES];
	uint64_t size = 0;
	bool sealed = false;
	esk_status status = esk_vault_detect(c->os, c->in, c->from, &sealed, err);
	if (status == ESK_OK && sealed)
		status = esk_fail(err, ESK_EINVAL, "%s is encrypted already", c->from);
	if (status == ESK_OK)
		status = esk_os_size(c->os, c->in, c->from, &size, err);
	if (status != ESK_OK)
		return status;
	esk_vault_make_header(size, c->key, &c->header, raw);
	return esk_os_write(c->os, c->out, c->aside, raw, sizeof raw, 0, err);
}

static esk_status begin_opening(conversion *c, esk_error *err)
{
	uint8_t raw[ESK_VAULT_HEADER_BYTES];
	bool sealed = false;
	esk_status status = esk_vault_detect(c->os, c->in, c->from, &sealed, err);
	if (status == ESK_OK && !sealed)
		status = esk_fail(err, ESK_EINVAL, "%s is not encrypted", c->from);
	if (status == ESK_OK)
		status = esk_vault_read_header(c->os, c->in, c->from, &c->header, raw, err);
	if (status == ESK_OK && memcmp(c->header.key_id, esk_key_id_bytes(c->key), ESK_VAULT_ID_BYTES) != 0 &&
		!esk_vault_fits_but_for_id(raw, c->key)) {
		char wanted[17];
		esk_key_id_format(c->header.key_id, wanted);
		status = esk_fail(err, ESK_EACCES,
			"%s is encrypted with key %s, and the key that is given is %s", c->from, wanted,
			esk_key_id(c->key));
	}
	return status == ESK_OK ? esk_vault_check_header(c->from, raw, c->key, err) : status;
}

/* Whoever may not read or write the one file may not the other. */
static mode_t mode_of(int fd)
{
	struct stat st;
	return fstat(fd, &st) == 0 ? st.st_mode & 0666 : 0600;
}

/* The new file at `aside`, durable; removed again on failure. */
static esk_status convert_aside(conversion *c, bool seal, esk_error *err)
{
	esk_status status = esk_vault_init(err);
	if (status == ESK_OK)
		status = esk_os_open(c->os, c->from, O_RDONLY, 0, &c->in, err);
	if (status != ESK_OK)
		return status;
	status = esk_os_unlink(c->os, c->aside, err);
	if (status == ESK_OK)
		status =
			esk_os_open(c->os, c->aside, O_RDWR | O_CREAT | O_EXCL, mode_of(c->in), &c->out, err);
	if (status != ESK_OK)
		goto out;
	c->plain = malloc(BATCH_BYTES);
	c->stored = malloc((size_t)BATCH_PAGES * STORED_BYTES);
	if (c->plain == NULL || c->stored == NULL)
		status = esk_fail_memory(err, 2 * BATCH_BYTES, "pages");
	if (status == ESK_OK)
		status = seal ? begin_sealing(c, err) : begin_opening(c, err);
	if (status == ESK_OK)
		status = convert_pages(c, seal, err);
	if (status == ESK_OK)
		status = esk_os_sync(c->os, c->out, c->aside, err);
	free(c->plain);
	free(c->stored);
	c->os->close(c->os, c->out);
	if (status != ESK_OK)
		esk_os_unlink(c->os, c->aside, NULL);
out:
	c->os->close(c->os, c->in);
	return status;
}

static esk_status check_settled(const char *from, esk_error *err)
{
	char *journal = NULL;
	if (asprintf(&journal, "%s-journal", from) < 0)
		return esk_fail_memory(err, strlen(from), from);
	bool there = esk_os_exists(journal);
	free(journal);
	return there ? esk_fail(err, ESK_EBUSY,
			       "%s has a journal: it is being written, or was when its recorder died ('esker "
			       "repair' settles it)",
			       from)
		     : ESK_OK;
}

esk_status esk_vault_encrypt(const esk_os *os, const char *from, const char *aside, const char *to,
	const esk_key *key, esk_segment_progress progress, void *arg, esk_error *err)
{
	conversion c = {.os = os, .from = from, .aside = aside, .key = key, .progress = progress, .arg = arg};
	esk_status status = check_settled(from, err);
	if (status == ESK_OK)
		status = convert_aside(&c, true, err);
	if (status == ESK_OK)
		status = esk_os_rename(os, aside, to, err);
	return status == ESK_OK ? esk_os_sync_parent(os, to, err) : status;
}

esk_status esk_vault_key_of(const esk_os *os, const char *path, esk_key **ret_key, esk_error *err)
{
	int fd;
	esk_vault_header header;
	uint8_t raw[ESK_VAULT_HEADER_BYTES];
	bool sealed = false;
	esk_status status = esk_vault_init(err);
	if (status == ESK_OK)
		status = esk_os_open(os, path, O_RDONLY, 0, &fd, err);
	if (status != ESK_OK)
		return status;
	status = esk_vault_detect(os, fd, path, &sealed, err);
	if (status == ESK_OK && sealed)
		status = esk_vault_read_header(os, fd, path, &header, raw, err);
	os->close(os, fd);
	if (status != ESK_OK)
		return status;
	if (sealed)
		return esk_vault_find_key(path, &header, raw, ret_key, err);
	*ret_key = NULL;
	return ESK_OK;
}

esk_status esk_vault_decrypt(const esk_os *os, const char *from, const char *aside, const char *to,
	const esk_key *key, esk_segment_progress progress, void *arg, esk_error *err)
{
	esk_key *found = NULL;
	esk_status status = key == NULL ? esk_vault_key_of(os, from, &found, err) : ESK_OK;
	if (status == ESK_OK && key == NULL && found == NULL)
		status = esk_fail(err, ESK_EINVAL, "%s is not encrypted", from);
	conversion c = {.os = os,
		.from = from,
		.aside = aside,
		.key = key != NULL ? key : found,
		.progress = progress,
		.arg = arg};
	if (status == ESK_OK && esk_os_exists(to))
		status = esk_fail(err, ESK_EEXIST, "%s exists already", to);
	if (status == ESK_OK)
		status = convert_aside(&c, false, err);
	if (status == ESK_OK)
		status = esk_os_rename(os, aside, to, err);
	if (status == ESK_OK)
		status = esk_os_sync_parent(os, to, err);
	esk_key_free(found);
	return status;
}

/* ---- by path, on the real operating system ---- */

static esk_status beside(const char *to, char **ret_aside, esk_error *err)
{
	if (asprintf(ret_aside, "%s.part", to) < 0)
		return esk_fail_memory(err, strlen(to), to);
	return ESK_OK;
}

esk_status esk_segment_encrypt(const char *from, const char *to, const esk_key *key,
	esk_segment_progress progress, void *arg, esk_error *err)
{
	char *aside = NULL;
	if (key == NULL)
		return esk_fail(err, ESK_EINVAL, "%s: encrypting needs a key", from);
	if (esk_os_exists(to))
		return esk_fail(err, ESK_EEXIST, "%s exists already", to);
	esk_status status = beside(to, &aside, err);
	if (status == ESK_OK)
		status = esk_vault_encrypt(esk_os_posix(), from, aside, to, key, progress, arg, err);
	free(aside);
	return status;
}

esk_status esk_segment_decrypt(const char *from, const char *to, const esk_key *key,
	esk_segment_progress progress, void *arg, esk_error *err)
{
	char *aside = NULL;
	esk_status status = beside(to, &aside, err);
	if (status == ESK_OK)
		status = esk_vault_decrypt(esk_os_posix(), from, aside, to, key, progress, arg, err);
	free(aside);
	return status;
}

esk_status esk_segment_is_encrypted(
	const char *path, bool *ret_encrypted, char ret_key_id[17], esk_error *err)
{
	const esk_os *os = esk_os_posix();
	int fd;
	bool found = false;
	esk_vault_header header;
	uint8_t raw[ESK_VAULT_HEADER_BYTES];
	esk_status status = esk_os_open(os, path, O_RDONLY | O_NONBLOCK, 0, &fd, err);
	if (status != ESK_OK)
		return status;
	status = esk_vault_detect(os, fd, path, &found, err);
	if (status == ESK_OK && found && ret_key_id != NULL)
		status = esk_vault_read_header(os, fd, path, &header, raw, err);
	os->close(os, fd);
	if (status != ESK_OK)
		return status;
	if (found && ret_key_id != NULL)
		esk_key_id_format(header.key_id, ret_key_id);
	*ret_encrypted = found;
	return ESK_OK;
}
