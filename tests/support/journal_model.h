/* What a journalled file must be: the images that were committed, beside a random workload that commits them.
 *
 * Included by one test program; every function is its own. */
#ifndef ESK_TESTS_JOURNAL_MODEL_H
#define ESK_TESTS_JOURNAL_MODEL_H

#include "journal/journal.h"
#include "support/fault_os.h"
#include "support/unit.h"
#include <fcntl.h>
#include <sys/stat.h>

#define MODEL_BYTES (96u * 1024)

typedef struct model_image {
	bool there;
	uint64_t end;
	uint8_t bytes[MODEL_BYTES]; /* zeros from `end` on */
} model_image;

typedef struct model {
	esk_fault *fault; /* NULL: the real system */
	const esk_os *os;
	char path[128];
	esk_jfile *file;
	uint64_t random;
	unsigned commits; /* to be made by model_run */
	uint64_t number;  /* of the last commit in this session */
	bool committing;
	bool closing;  /* a close was under way: the journal may be gone, and the number with it */
	bool deaf;     /* reads fail as well: nothing can be said about them */
	bool finished; /* model_run came to its end */
	model_image *now;
	model_image *pending;   /* its commit was begun */
	model_image *committed; /* its commit returned ESK_OK */
} model;

static uint64_t model_draw(uint64_t *random)
{
	uint64_t z = *random += UINT64_C(0x9E3779B97F4A7C15);
	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return z ^ z >> 31;
}

static model model_new(esk_fault *fault, const char *path, uint64_t seed, unsigned commits)
{
	model m = {.fault = fault, .random = seed, .commits = commits};
	m.os = fault == NULL ? esk_os_posix() : esk_fault_os(fault);
	snprintf(m.path, sizeof(m.path), "%s", path);
	m.now = calloc(1, sizeof(model_image));
	m.pending = calloc(1, sizeof(model_image));
	m.committed = calloc(1, sizeof(model_image));
	assert_true(m.now != NULL && m.pending != NULL && m.committed != NULL);
	char journal[160];
	snprintf(journal, sizeof(journal), "%s-journal", path);
	unlink(path);
	unlink(journal);
	return m;
}

static void model_free(model *m)
{
	free(m->now);
	free(m->pending);
	free(m->committed);
}

/* One random write into file and model; false: it failed, and the file with it. */
static bool model_write(model *m)
{
	static uint8_t buf[16384];
	uint64_t kind = model_draw(&m->random) % 10;
	size_t size = 1 + model_draw(&m->random) % (kind < 6 ? 200 : kind < 9 ? 5000 : sizeof(buf));
	uint64_t offset = model_draw(&m->random) % (m->now->end + 1);
	if (model_draw(&m->random) % 3 == 0)
		offset = m->now->end;
	/* What a hole holds while a shorter commit is under way is not promised. */
	if (!m->committing && model_draw(&m->random) % 8 == 0)
		offset = m->now->end + model_draw(&m->random) % 6000;
	if (offset + size > MODEL_BYTES)
		offset = model_draw(&m->random) % (m->now->end - esk_min_u64(size, m->now->end) + 1);
	uint8_t letter = (uint8_t)(1 + model_draw(&m->random) % 255);
	for (size_t i = 0; i < size; i++)
		buf[i] = (uint8_t)(letter + i / 64);
	memcpy(m->now->bytes + offset, buf, size);
	m->now->end = esk_max_u64(m->now->end, offset + size);
	return esk_jfile_write(m->file, offset, buf, size, NULL) == ESK_OK;
}

/* A random range reads as the model has it; a read that fails, fails for a reason that was planned. */
static void model_check_reads(model *m)
{
	static uint8_t buf[MODEL_BYTES];
	uint64_t offset = model_draw(&m->random) % MODEL_BYTES;
	size_t size = (size_t)(model_draw(&m->random) % (MODEL_BYTES - offset + 1));
	esk_status status = esk_jfile_read(m->file, offset, buf, size, NULL);
	if (status != ESK_OK) {
		assert_non_null(m->fault);
		return;
	}
	for (size_t i = 0; i < size; i++)
		if (buf[i] != m->now->bytes[offset + i])
			fail_msg("byte %llu (end %llu) is %u, not %u", (unsigned long long)(offset + i),
				(unsigned long long)m->now->end, buf[i], m->now->bytes[offset + i]);
}

/* Mostly what was written; now and then less, or more. */
static uint64_t model_end_to_commit(model *m)
{
	uint64_t kind = model_draw(&m->random) % 10;
	if (kind == 0)
		return m->now->end - model_draw(&m->random) % (m->now->end / 2 + 1);
	if (kind == 1)
		return esk_min_u64(m->now->end + model_draw(&m->random) % 5000, MODEL_BYTES);
	return m->now->end;
}

static void model_frozen(model *m, uint64_t end)
{
	if (end < m->now->end)
		memset(m->now->bytes + end, 0, m->now->end - end);
	m->now->end = end;
	*m->pending = *m->now;
	m->pending->there = true;
	m->committing = true;
}

static void model_committed(model *m)
{
	model_image *image = m->committed;
	m->committed = m->pending;
	m->pending = image;
	m->pending->there = false;
	m->committing = false;
}

static bool model_commit(model *m)
{
	uint64_t end = model_end_to_commit(m);
	if (esk_jfile_freeze(m->file, end, NULL) != ESK_OK)
		return false;
	model_frozen(m, end);
	for (uint64_t i = model_draw(&m->random) % 4; i > 0; i--)
		if (!model_write(m))
			return false;
	model_check_reads(m);
	uint64_t number = 0;
	if (esk_jfile_finish(m->file, &number, NULL) != ESK_OK)
		return false;
	assert_true(number == m->number || number == m->number + 1);
	m->number = number;
	model_committed(m);
	return true;
}

/* Opens again after a clean close, or after giving up what was not committed. */
static bool model_reopen(model *m)
{
	bool abandon = model_draw(&m->random) % 2 == 0;
	if (abandon)
		esk_jfile_abandon(m->file);
	/* A commit that ends the session may be clean or leave writes behind it: both kinds of closing. */
	m->closing = true;
	esk_status status = esk_jfile_close(m->file, NULL);
	m->file = NULL;
	if (status != ESK_OK)
		return false;
	esk_jfile_recovery recovery;
	status = esk_jfile_open(m->os, m->path, ESK_JFILE_WRITE, &m->file, &recovery, NULL);
	if (status != ESK_OK) {
		m->file = NULL;
		return false;
	}
	m->closing = false;
	assert_true(!abandon || recovery.commit == m->number);
	m->number = recovery.commit;
	*m->now = *m->committed;
	assert_int_equal(esk_jfile_end(m->file), m->now->end);
	model_check_reads(m);
	return true;
}

static bool model_steps(model *m)
{
	for (unsigned i = 0; i < m->commits; i++) {
		for (uint64_t n = model_draw(&m->random) % 12; n > 0; n--)
			if (!model_write(m))
				return false;
		model_check_reads(m);
		if (m->now->end == 0)
			continue;
		if (!model_commit(m))
			return false;
		if (model_draw(&m->random) % 4 == 0 && !model_reopen(m))
			return false;
	}
	return true;
}

/* The workload, until it is done or a call fails; the handle is closed in either case. */
static void model_run(model *m)
{
	if (esk_jfile_open(m->os, m->path, ESK_JFILE_CREATE, &m->file, NULL, NULL) != ESK_OK)
		return;
	m->finished = model_steps(m);
	if (m->file == NULL)
		return;
	if (!m->finished) {
		assert_int_not_equal(esk_jfile_status(m->file, NULL), ESK_OK);
		for (int i = 0; i < 5; i++)
			model_write(m); /* swallowed */
		if (!m->deaf)
			model_check_reads(m);
		assert_int_not_equal(esk_jfile_freeze(m->file, m->now->end, NULL), ESK_OK);
	}
	m->closing = m->finished;
	esk_status status = esk_jfile_close(m->file, NULL);
	assert_true(status == ESK_OK || m->finished);
	m->file = NULL;
}

static const model_image *model_match(model *m, uint64_t end, const uint8_t *bytes)
{
	const model_image *images[] = {m->committed, m->pending};
	for (int i = 0; i < 2; i++)
		if (images[i]->there && images[i]->end == end && memcmp(images[i]->bytes, bytes, end) == 0)
			return images[i];
	return NULL;
}

/* Opens in READ mode, then for writing: both see one and the same committed image. Returns it, or NULL for a
 * file in which nothing was ever committed; the handle is in m->file. */
static const model_image *model_open_recovered(model *m, esk_jfile_recovery *ret_recovery)
{
	static uint8_t read_bytes[MODEL_BYTES];
	static uint8_t bytes[MODEL_BYTES];
	esk_error err;
	esk_jfile *reader = NULL;
	assert_ok(esk_jfile_open(m->os, m->path, ESK_JFILE_READ, &reader, ret_recovery, &err), &err);
	bool reader_never = ret_recovery->never_committed;
	assert_ok(esk_jfile_read(reader, 0, read_bytes, sizeof(read_bytes), &err), &err);
	assert_ok(esk_jfile_close(reader, &err), &err);

	assert_ok(esk_jfile_open(m->os, m->path, ESK_JFILE_WRITE, &m->file, ret_recovery, &err), &err);
	assert_int_equal(ret_recovery->never_committed, reader_never);
	uint64_t end = esk_jfile_end(m->file);
	assert_true(end <= MODEL_BYTES);
	assert_ok(esk_jfile_read(m->file, 0, bytes, sizeof(bytes), &err), &err);
	assert_memory_equal(bytes, read_bytes, end);
	static const uint8_t zeros[MODEL_BYTES];
	assert_int_equal(memcmp(bytes + end, zeros, MODEL_BYTES - end), 0);
	if (ret_recovery->never_committed) {
		assert_false(m->committed->there);
		assert_int_equal(end, 0);
		return NULL;
	}
	const model_image *image = model_match(m, end, bytes);
	if (image == NULL)
		fail_msg("%s: %llu bytes that were never committed (last end %llu, pending %llu)", m->path,
			(unsigned long long)end, (unsigned long long)m->committed->end,
			(unsigned long long)m->pending->end);
	return image;
}

/* After whatever happened: the file is as of a commit, and it goes on from there. */
static void model_check_recovery(model *m)
{
	if (!esk_os_exists(m->path)) {
		assert_false(m->committed->there);
		return;
	}
	esk_jfile_recovery recovery;
	const model_image *image = model_open_recovered(m, &recovery);
	if (image != NULL && !m->closing && recovery.commit != 0) {
		bool same = m->pending->there && m->committed->there &&
			    m->pending->end == m->committed->end &&
			    memcmp(m->pending->bytes, m->committed->bytes, m->pending->end) == 0;
		if (!same)
			assert_int_equal(recovery.commit, image == m->committed ? m->number : m->number + 1);
	}
	if (image != NULL)
		*m->now = *image;
	else
		memset(m->now, 0, sizeof(*m->now));
	m->pending->there = false;
	m->committing = false;
	m->number = recovery.commit;
	for (int i = 0; i < 6; i++)
		assert_true(model_write(m));
	assert_true(model_commit(m));
	esk_jfile_abandon(m->file);
	esk_jfile_close(m->file, NULL);
	m->file = NULL;
	assert_ptr_equal(model_open_recovered(m, &recovery), m->committed);
	esk_error err;
	assert_ok(esk_jfile_close(m->file, &err), &err);
	m->file = NULL;

	static uint8_t raw[MODEL_BYTES + 1];
	int fd = open(m->path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, raw, sizeof(raw), 0), (ssize_t)m->committed->end);
	close(fd);
	assert_memory_equal(raw, m->committed->bytes, m->committed->end);
}

#endif
