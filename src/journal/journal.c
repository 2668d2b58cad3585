/* A file that changes only by whole commits: reading, writing, committing. journal.h is the contract,
 * open.c recovers.
 *
 *        write ──▶ active overlay ──freeze──▶ frozen overlay ──finish──▶ journal ──▶ file
 *          │       (below straight_from)                                              ▲
 *          └──────────────── at or beyond straight_from ──────────────────────────────┘
 *
 * Invariants, and who upholds each:
 *  1. Bytes below the committed end change in the file only from a complete, synchronised record.
 *     esk_jfile_write sends them to the overlay; finish_record synchronises before finish_apply writes.
 *  2. Before a record can be complete, everything it refers to is durable: the file's bytes at and beyond
 *     the old committed end, and its size (finish_record: file first, record second), and its name
 *     (begin_session in open.c).
 *  3. The last complete record stays whole in the journal until a later one is complete, so what is
 *     committed, its number and its end are always known. place_record never overlaps it; slots alternate.
 *  4. A record is overwritten only after its pages are durable in the file. finish_record synchronises the
 *     file before it writes commit n, so the pages of n - 1 are; n + 1 is the first to take their place.
 *  5. Records of an older session are void, and a session begins only when its base is durable.
 *     begin_session in open.c.
 *  6. While a commit is under way nothing that either outcome needs is overwritten: straight_from is the
 *     larger of the two ends. esk_jfile_freeze raises it, finish_done lowers it.
 *  7. A byte lies in exactly one place for readers: in the active page if that reaches so far, else in the
 *     frozen page if that does, else in the file. Pages never get shorter while they can be written, and
 *     what a page covers is never written straight. write_piece, read_pieces; esk_jfile_freeze clips.
 *  8. A frozen page is dropped only after its bytes are in the file, and a read holds `lock` from looking up
 *     until its bytes are copied, so it sees the page, or the file after it. finish_done, esk_jfile_read.
 *  9. A failed file changes nothing on disk. Every step asks for the status first; fail_file is for ever.
 * 10. The change counter is odd from before the first page is applied until after the last. finish_apply.
 *
 * May include: base, os. */
#include "journal/internal.h"
#include <fcntl.h>
#include <string.h>

/* What a failed file still keeps of later writes: enough for libhdf5 to close its handles, not a leak. */
#define SWALLOWED_PAGES 16384u

static esk_status status_of(esk_jfile *file, esk_error *err)
{
	pthread_mutex_lock(&file->lock);
	esk_status status = file->status;
	if (status != ESK_OK && err != NULL)
		*err = file->failure;
	pthread_mutex_unlock(&file->lock);
	return status;
}

/* The first failure stays. */
static esk_status fail_file(esk_jfile *file, const esk_error *failure)
{
	pthread_mutex_lock(&file->lock);
	if (file->status == ESK_OK) {
		file->failure = *failure;
		file->status = failure->code;
	}
	pthread_mutex_unlock(&file->lock);
	return failure->code;
}

static esk_status fail_with(esk_jfile *file, const esk_error *failure, esk_error *err)
{
	if (err != NULL)
		*err = *failure;
	return fail_file(file, failure);
}

/* ---- reading ---- */

static esk_status read_file(esk_jfile *file, uint64_t offset, uint8_t *buf, size_t size, esk_error *err)
{
	if (size == 0)
		return ESK_OK;
	size_t got = 0;
	esk_status status = file->vault != NULL ? esk_vault_read(file->vault, offset, buf, size, &got, err)
						: esk_os_read_some(file->os, file->fd, file->path, buf, size,
							  offset, &got, err);
	if (status == ESK_OK)
		memset(buf + got, 0, size - got);
	return status;
}

/* Invariant 7: the active page, else the one in `frozen` (may be NULL), else the file. Bytes that no page has
 * are gathered, so that a large read stays a large read. */
static esk_status read_pieces(esk_jfile *file, const esk_overlay *frozen, uint64_t offset, uint8_t *buf,
	size_t size, esk_error *err)
{
	uint64_t top = esk_max_u64(file->active->top, frozen == NULL ? 0 : frozen->top);
	size_t from_file = 0; /* bytes [from_file, done) are to come from the file */
	size_t done = 0;
	while (done < size && offset + done < top) {
		uint64_t number = (offset + done) / ESK_PAGE_BYTES;
		uint32_t within = (uint32_t)((offset + done) % ESK_PAGE_BYTES);
		size_t piece = (size_t)esk_min_u64(ESK_PAGE_BYTES - within, size - done);
		const esk_overlay_page *page = esk_overlay_find(file->active, number);
		if (page == NULL && frozen != NULL)
			page = esk_overlay_find(frozen, number);
		if (page != NULL && within < page->length) {
			esk_status status =
				read_file(file, offset + from_file, buf + from_file, done - from_file, err);
			if (status != ESK_OK)
				return status;
			size_t kept = (size_t)esk_min_u64(piece, page->length - within);
			memcpy(buf + done, page->data + within, kept);
			from_file = done + kept;
		}
		done += piece;
	}
	return read_file(file, offset + from_file, buf + from_file, size - from_file, err);
}

esk_status esk_jfile_read(esk_jfile *file, uint64_t offset, void *buf, size_t size, esk_error *err)
{
	uint64_t end = 0;
	if (!esk_add_u64(offset, size, &end) || end > INT64_MAX)
		return esk_fail(err, ESK_ERANGE, "%s: %zu bytes at %llu are beyond what a file can hold",
			file->path, size, (unsigned long long)offset);
	/* Behind its end a writer's file and pages may hold what a crash or a shorter commit left. */
	size_t visible = size;
	if (file->mode != ESK_JFILE_READ)
		visible = offset >= file->end ? 0 : (size_t)esk_min_u64(size, file->end - offset);
	memset((uint8_t *)buf + visible, 0, size - visible);
	/* Invariant 8. Without a frozen overlay nothing can be dropped under the read: readers do not wait
	 * for each other then. */
	pthread_mutex_lock(&file->lock);
	const esk_overlay *frozen = file->frozen;
	if (frozen == NULL)
		pthread_mutex_unlock(&file->lock);
	esk_status status = read_pieces(file, frozen, offset, buf, visible, err);
	if (frozen != NULL)
		pthread_mutex_unlock(&file->lock);
	return status;
}

/* ---- writing ---- */

static esk_status write_straight(
	esk_jfile *file, uint64_t offset, const uint8_t *buf, size_t size, esk_error *err)
{
	file->file_size = esk_max_u64(file->file_size, offset + size);
	return esk_os_write(file->os, file->fd, file->path, buf, size, offset, err);
}

/* Writes into the active page `number`, which is to cover `length` bytes; a new one starts from what readers
 * see. */
static esk_status write_page(esk_jfile *file, uint64_t number, uint32_t length, uint32_t within,
	const uint8_t *buf, size_t size, esk_error *err)
{
	esk_overlay_page *page = esk_overlay_find(file->active, number);
	if (page == NULL) {
		uint8_t base[ESK_PAGE_BYTES];
		bool whole = within == 0 && size == length;
		if (!whole) {
			esk_status status = esk_jfile_read(file, number * ESK_PAGE_BYTES, base, length, err);
			if (status != ESK_OK)
				return status;
		}
		pthread_mutex_lock(&file->lock);
		page = esk_overlay_add(file->active, number, length);
		pthread_mutex_unlock(&file->lock);
		if (page == NULL)
			return esk_fail_memory(err, sizeof(*page), "a page of an uncommitted change");
		if (!whole)
			memcpy(page->data, base, length);
	}
	memcpy(page->data + within, buf, size);
	return ESK_OK;
}

/* One page's part of a write, split where the overlay's part of that page ends. */
static esk_status write_piece(esk_jfile *file, uint64_t straight_from, uint64_t offset, const uint8_t *buf,
	size_t size, esk_error *err)
{
	uint64_t number = offset / ESK_PAGE_BYTES;
	uint64_t start = number * ESK_PAGE_BYTES;
	uint32_t within = (uint32_t)(offset - start);
	const esk_overlay_page *page = esk_overlay_find(file->active, number);
	uint32_t length = 0;
	if (page != NULL)
		length = page->length;
	else if (start < straight_from)
		length = (uint32_t)esk_min_u64(ESK_PAGE_BYTES, straight_from - start);
	size_t kept = within < length ? (size_t)esk_min_u64(size, length - within) : 0;
	esk_status status = ESK_OK;
	if (kept != 0)
		status = write_page(file, number, length, within, buf, kept, err);
	if (status == ESK_OK && kept < size)
		status = write_straight(file, offset + kept, buf + kept, size - kept, err);
	return status;
}

static esk_status write_pieces(esk_jfile *file, uint64_t straight_from, uint64_t offset, const uint8_t *buf,
	size_t size, esk_error *err)
{
	while (size > 0) {
		if (offset >= straight_from && offset >= file->active->top)
			return write_straight(file, offset, buf, size, err);
		size_t piece = (size_t)esk_min_u64(ESK_PAGE_BYTES - offset % ESK_PAGE_BYTES, size);
		esk_status status = write_piece(file, straight_from, offset, buf, piece, err);
		if (status != ESK_OK)
			return status;
		offset += piece;
		buf += piece;
		size -= piece;
	}
	return ESK_OK;
}

/* Cuts off what lies in the file behind everything written, before the file grows over it: a hole must read
 * as zeros. */
static esk_status drop_tail(esk_jfile *file, esk_error *err)
{
	if (file->file_size <= file->end)
		return ESK_OK;
	esk_status status = esk_os_truncate(file->os, file->fd, file->path, file->end, err);
	if (status == ESK_OK)
		file->file_size = file->end;
	return status;
}

/* Invariant 9: later writes of a failed file live in memory only, as whole pages, as far as the bound allows.
 */
static void swallow(esk_jfile *file, uint64_t offset, const uint8_t *buf, size_t size)
{
	while (size > 0) {
		uint64_t number = offset / ESK_PAGE_BYTES;
		uint64_t start = number * ESK_PAGE_BYTES;
		uint32_t within = (uint32_t)(offset - start);
		size_t piece = (size_t)esk_min_u64(ESK_PAGE_BYTES - within, size);
		esk_overlay_page *page = esk_overlay_find(file->active, number);
		if (page == NULL || page->length < ESK_PAGE_BYTES) {
			uint8_t base[ESK_PAGE_BYTES] = {0};
			if (esk_jfile_read(file, start, base, sizeof(base), NULL) != ESK_OK)
				memset(base, 0, sizeof(base)); /* unreadable: the failure is known already */
			pthread_mutex_lock(&file->lock);
			if (page == NULL && file->active->page_count < SWALLOWED_PAGES)
				page = esk_overlay_add(file->active, number, ESK_PAGE_BYTES);
			if (page != NULL) {
				page->length = ESK_PAGE_BYTES;
				memcpy(page->data, base, sizeof(base));
				file->active->top = esk_max_u64(file->active->top, start + ESK_PAGE_BYTES);
			}
			pthread_mutex_unlock(&file->lock);
		}
		if (page != NULL)
			memcpy(page->data + within, buf, piece);
		offset += piece;
		buf += piece;
		size -= piece;
	}
}

esk_status esk_jfile_write(esk_jfile *file, uint64_t offset, const void *buf, size_t size, esk_error *err)
{
	uint64_t end = 0;
	if (file->mode == ESK_JFILE_READ)
		return esk_fail(err, ESK_EINVAL, "%s is open for reading only", file->path);
	if (size == 0)
		return ESK_OK;
	if (!esk_add_u64(offset, size, &end) || end > INT64_MAX)
		return esk_fail(err, ESK_ERANGE, "%s: %zu bytes at %llu are beyond what a file can hold",
			file->path, size, (unsigned long long)offset);
	pthread_mutex_lock(&file->lock);
	bool failed = file->status != ESK_OK;
	bool committing = file->committing;
	uint64_t straight_from = file->straight_from;
	pthread_mutex_unlock(&file->lock);

	esk_error failure = {0};
	esk_status status = ESK_OK;
	if (!failed) {
		file->dirty = true;
		if (!committing && end > file->end)
			status = drop_tail(file, &failure);
		if (status == ESK_OK)
			status = write_pieces(file, straight_from, offset, buf, size, &failure);
	}
	if (status != ESK_OK)
		fail_with(file, &failure, err);
	if (failed || status != ESK_OK)
		swallow(file, offset, buf, size);
	file->end = esk_max_u64(file->end, end);
	return status;
}

uint64_t esk_jfile_end(const esk_jfile *file)
{
	uint64_t size = 0;
	/* What lies on the disk of an encrypted file is larger than what it holds. */
	if (file->mode != ESK_JFILE_READ || file->never_committed || file->vault != NULL)
		return file->end;
	if (esk_os_size(file->os, file->fd, file->path, &size, NULL) != ESK_OK)
		return file->end;
	return esk_max_u64(size, file->end);
}

void esk_jfile_set_committed_end(esk_jfile *file, uint64_t end)
{
	if (file->mode == ESK_JFILE_READ || file->dirty || end >= file->committed_end)
		return;
	pthread_mutex_lock(&file->lock);
	if (!file->committing) {
		file->committed_end = end;
		file->straight_from = end;
		file->end = end;
	}
	pthread_mutex_unlock(&file->lock);
}

uint64_t esk_jfile_overlay_bytes(const esk_jfile *file)
{
	pthread_mutex_t *lock = &((esk_jfile *)file)->lock;
	pthread_mutex_lock(lock);
	uint64_t pages = file->active->page_count;
	if (file->frozen != NULL)
		pages += file->frozen->page_count;
	pthread_mutex_unlock(lock);
	return pages * ESK_PAGE_BYTES;
}

esk_status esk_jfile_status(const esk_jfile *file, esk_error *err)
{
	return status_of((esk_jfile *)file, err);
}

void esk_jfile_abandon(esk_jfile *file)
{
	esk_error failure;
	esk_fail(&failure, ESK_ECLOSED, "%s was rolled back to its last commit: open it again", file->path);
	fail_file(file, &failure);
}

/* ---- committing ---- */

/* What a commit needs of the file's size is done here and not in finish: only the owner's thread knows that
 * no straight write is growing the file at this moment. */
static esk_status freeze_size(esk_jfile *file, uint64_t end, esk_error *err)
{
	esk_status status = drop_tail(file, err);
	if (status != ESK_OK || file->file_size >= end)
		return status;
	status = esk_os_truncate(file->os, file->fd, file->path, end, err);
	if (status == ESK_OK)
		file->file_size = end;
	return status;
}

esk_status esk_jfile_freeze(esk_jfile *file, uint64_t end, esk_error *err)
{
	if (file->mode == ESK_JFILE_READ || end > INT64_MAX)
		return esk_fail(err, ESK_EINVAL, "%s: cannot commit %s", file->path,
			end > INT64_MAX ? "so large a file" : "a file that is open for reading only");
	esk_status status = status_of(file, err);
	if (status != ESK_OK)
		return status;
	pthread_mutex_lock(&file->lock);
	bool committing = file->committing;
	pthread_mutex_unlock(&file->lock);
	if (committing)
		return esk_fail(
			err, ESK_EINTERNAL, "%s: freeze before the last commit was finished", file->path);

	bool nothing = !file->dirty && end == file->committed_end && !file->never_committed;
	if (!nothing) {
		esk_error failure = {0};
		if (freeze_size(file, end, &failure) != ESK_OK)
			return fail_with(file, &failure, err);
	}
	pthread_mutex_lock(&file->lock);
	file->committing = true;
	file->nothing_to_commit = nothing;
	file->frozen_end = end;
	file->straight_from = esk_max_u64(file->committed_end, end);
	esk_overlay_clip(file->active, file->straight_from);
	file->frozen = file->active;
	file->active = file->active == &file->overlays[0] ? &file->overlays[1] : &file->overlays[0];
	pthread_mutex_unlock(&file->lock);
	file->dirty = false;
	file->end = end;
	return ESK_OK;
}

/* Invariant 3: in front of the last record where it fits, else behind it. The journal stays under three times
 * the largest record. */
static uint64_t place_record(const esk_jfile *file, size_t record_bytes)
{
	if (file->record_at == 0 || ESK_JOURNAL_RECORDS_AT + record_bytes <= file->record_at)
		return ESK_JOURNAL_RECORDS_AT;
	return esk_round_up(file->record_end, ESK_PAGE_BYTES);
}

/* Makes commit n durable: invariants 2 and 4 in the order of the calls. */
static esk_status finish_record(esk_jfile *file, esk_error *err)
{
	const esk_os *os = file->os;
	esk_status status = esk_os_sync(os, file->fd, file->path, err);
	if (status == ESK_OK)
		status = esk_record_build(
			&file->record, file->frozen, file->frozen_end, os, file->fd, file->path, err);
	if (status == ESK_OK)
		status = status_of(file, err);
	if (status != ESK_OK)
		return status;
	esk_journal_slot slot = {
		.session = file->session,
		.commit = file->commit + 1,
		.end = file->frozen_end,
		.location = place_record(file, file->record.size),
	};
	status =
		esk_journal_write_record(os, file->journal_fd, file->journal_path, &slot, &file->record, err);
	if (status == ESK_OK)
		status = esk_os_sync(os, file->journal_fd, file->journal_path, err);
	if (status != ESK_OK)
		return status;
	file->record_at = slot.location;
	file->record_end = slot.location + file->record.size;
	return ESK_OK;
}

static esk_status write_counter(esk_jfile *file, uint64_t counter, esk_error *err)
{
	esk_status status =
		esk_journal_write_counter(file->os, file->journal_fd, file->journal_path, counter, err);
	pthread_mutex_lock(&file->lock);
	file->counter = counter;
	pthread_mutex_unlock(&file->lock);
	return status;
}

static esk_status finish_apply(esk_jfile *file, esk_error *err)
{
	uint64_t counter = file->counter; /* only this thread changes it while a commit is under way */
	esk_status status = write_counter(file, counter + 1, err);
	if (status == ESK_OK)
		status = esk_record_apply(&file->record, file->os, file->fd, file->path, err);
	if (status == ESK_OK)
		status = write_counter(file, counter + 2, err);
	return status;
}

static void finish_done(esk_jfile *file)
{
	pthread_mutex_lock(&file->lock);
	esk_overlay *applied = file->frozen;
	file->frozen = NULL;
	file->straight_from = file->frozen_end;
	if (!file->nothing_to_commit) {
		file->commit++;
		file->committed_end = file->frozen_end;
		file->never_committed = false;
		file->file_unsynced = file->record.page_count != 0;
	}
	esk_overlay_reset(applied);
	file->committing = false;
	pthread_mutex_unlock(&file->lock);
}

esk_status esk_jfile_finish(esk_jfile *file, uint64_t *ret_commit, esk_error *err)
{
	pthread_mutex_lock(&file->lock);
	bool committing = file->committing;
	pthread_mutex_unlock(&file->lock);
	if (!committing)
		return esk_fail(err, ESK_EINTERNAL, "%s: finish without freeze", file->path);
	esk_status status = status_of(file, err);
	if (status != ESK_OK)
		return status;
	if (!file->nothing_to_commit) {
		esk_error failure = {0};
		status = finish_record(file, &failure);
		if (status == ESK_OK)
			status = finish_apply(file, &failure);
		if (status != ESK_OK)
			return fail_with(file, &failure, err);
	}
	finish_done(file);
	if (ret_commit != NULL)
		*ret_commit = file->commit;
	return ESK_OK;
}

/* ---- the change counter ---- */

/* The counter in the journal that lies beside the file at present; 0 if that is none, or not this file's. A
 * journal that was removed and made anew since the handle was opened is another file under the same name. */
static uint64_t counter_on_disk(esk_jfile *file)
{
	uint64_t counter = 0;
	uint64_t inode = esk_journal_inode_at(file->journal_path);
	if (inode == 0)
		return 0;
	if (file->journal_fd >= 0 && esk_journal_inode_of(file->journal_fd) != inode) {
		file->os->close(file->os, file->journal_fd);
		file->journal_fd = -1;
	}
	if (file->journal_fd < 0) {
		if (esk_journal_inode_at(file->path) != file->inode ||
			esk_os_open(file->os, file->journal_path, O_RDONLY, 0, &file->journal_fd, NULL) !=
				ESK_OK)
			return 0;
	}
	if (esk_journal_read_counter(file->os, file->journal_fd, file->journal_path, &counter, NULL) !=
		ESK_OK)
		return 0;
	return counter;
}

uint64_t esk_jfile_change_counter(esk_jfile *file)
{
	pthread_mutex_lock(&file->lock);
	uint64_t counter = file->counter;
	if (file->mode == ESK_JFILE_READ && file->vault == NULL) {
		uint64_t now = counter_on_disk(file);
		if (now == counter)
			/* Odd and seen before: the pages being applied, or left half applied, are read
			 * through. */
			counter = file->frozen != NULL ? esk_journal_counter_rest(now) : now;
		else if (esk_jfile_refresh(file, NULL) == ESK_OK)
			counter = file->frozen != NULL ? esk_journal_counter_rest(file->counter)
						       : file->counter;
		else
			counter = now | 1;
	}
	pthread_mutex_unlock(&file->lock);
	return counter;
}
