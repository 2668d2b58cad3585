/* The bytes of the journal: see record.h. May include: base, os. */
#include "journal/record.h"
#include <stdlib.h>
#include <string.h>

static const uint8_t header_magic[8] = {'E', 'S', 'K', 'J', 'R', 'N', 'L', '\n'};
#define SLOT_MAGIC UINT32_C(0x434B5345) /* "ESKC" */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the journal's integers are little-endian");

/* ---- records in memory ---- */

void esk_record_free(esk_record *record)
{
	free(record->bytes);
	*record = (esk_record){0};
}

static esk_status record_reserve(esk_record *record, uint64_t bytes, esk_error *err)
{
	bytes = esk_max_u64(bytes, ESK_PAGE_BYTES); /* an empty record has a place as well */
	if (bytes <= record->capacity)
		return ESK_OK;
	uint8_t *grown = bytes <= SIZE_MAX ? malloc((size_t)bytes) : NULL;
	if (grown == NULL)
		return esk_fail_memory(err, (size_t)bytes, "a journal record");
	free(record->bytes);
	record->bytes = grown;
	record->capacity = (size_t)bytes;
	return ESK_OK;
}

static esk_journal_page record_page(const esk_record *record, uint32_t index)
{
	esk_journal_page page;
	memcpy(&page, record->bytes + (size_t)index * sizeof(page), sizeof(page));
	return page;
}

static uint16_t sector_sum(const uint8_t *bytes, size_t size)
{
	uint32_t crc = esk_crc32c(0, bytes, size);
	return (uint16_t)(crc ^ crc >> 16);
}

static size_t sector_bytes(uint32_t length, uint32_t sector)
{
	uint32_t start = sector * ESK_JOURNAL_SECTOR_BYTES;
	return start >= length ? 0 : (size_t)esk_min_u64(ESK_JOURNAL_SECTOR_BYTES, length - start);
}

/* Reads what the file has at a page's place; behind its end there are zeros. */
static esk_status read_place(const esk_journal_page *page, const esk_os *os, int fd, const char *path,
	uint8_t buf[ESK_PAGE_BYTES], esk_error *err)
{
	size_t got = 0;
	esk_status status = esk_os_read_some(os, fd, path, buf, page->length, page->offset, &got, err);
	if (status == ESK_OK)
		memset(buf + got, 0, page->length - got);
	return status;
}

static uint32_t clipped_length(const esk_overlay_page *page, uint64_t end)
{
	uint64_t start = page->number * ESK_PAGE_BYTES;
	return start >= end ? 0 : (uint32_t)esk_min_u64(page->length, end - start);
}

esk_status esk_record_build(esk_record *record, esk_overlay *overlay, uint64_t end, const esk_os *os, int fd,
	const char *path, esk_error *err)
{
	if (!esk_overlay_sort(overlay))
		return esk_fail_memory(
			err, overlay->page_count * sizeof(void *), "sorting the pages of a commit");
	/* At most 2^31 pages of 4 KiB: neither sum can overflow. */
	uint64_t body_bytes = 0;
	uint32_t count = 0;
	for (uint32_t i = 0; i < overlay->page_count; i++) {
		uint32_t length = clipped_length(overlay->sorted[i], end);
		body_bytes += length;
		count += length != 0;
	}
	uint64_t table_bytes = (uint64_t)count * sizeof(esk_journal_page);
	esk_status status = record_reserve(record, table_bytes + body_bytes, err);
	if (status != ESK_OK)
		return status;
	uint8_t *body = record->bytes + table_bytes;
	uint8_t old[ESK_PAGE_BYTES];
	for (uint32_t i = 0; i < count; i++) {
		const esk_overlay_page *from = overlay->sorted[i];
		esk_journal_page page = {
			.offset = from->number * ESK_PAGE_BYTES, .length = clipped_length(from, end)};
		status = read_place(&page, os, fd, path, old, err);
		if (status != ESK_OK)
			return status;
		for (uint32_t s = 0; s < ESK_JOURNAL_PAGE_SECTORS; s++)
			page.before[s] =
				sector_sum(old + s * ESK_JOURNAL_SECTOR_BYTES, sector_bytes(page.length, s));
		memcpy(record->bytes + (size_t)i * sizeof(page), &page, sizeof(page));
		memcpy(body, from->data, page.length);
		body += page.length;
	}
	record->page_count = count;
	record->size = (size_t)(table_bytes + body_bytes);
	return ESK_OK;
}

esk_status esk_record_apply(
	const esk_record *record, const esk_os *os, int fd, const char *path, esk_error *err)
{
	const uint8_t *body = record->bytes + record->page_count * sizeof(esk_journal_page);
	uint32_t i = 0;
	while (i < record->page_count) {
		/* Pages that touch in the file touch in the record as well, so a run of them is one write. */
		uint64_t offset = record_page(record, i).offset;
		size_t run_bytes = 0;
		for (; i < record->page_count; i++) {
			esk_journal_page page = record_page(record, i);
			if (page.offset != offset + run_bytes)
				break;
			run_bytes += page.length;
		}
		esk_status status = esk_os_write(os, fd, path, body, run_bytes, offset, err);
		if (status != ESK_OK)
			return status;
		body += run_bytes;
	}
	return ESK_OK;
}

esk_status esk_record_to_overlay(const esk_record *record, esk_overlay *overlay, esk_error *err)
{
	const uint8_t *body = record->bytes + record->page_count * sizeof(esk_journal_page);
	for (uint32_t i = 0; i < record->page_count; i++) {
		esk_journal_page page = record_page(record, i);
		esk_overlay_page *to = esk_overlay_add(overlay, page.offset / ESK_PAGE_BYTES, page.length);
		if (to == NULL)
			return esk_fail_memory(err, record->size, "the pages of a journal");
		memcpy(to->data, body, page.length);
		body += page.length;
	}
	return ESK_OK;
}

esk_status esk_record_explains(const esk_record *record, const esk_os *os, int fd, const char *path,
	bool *ret_explained, esk_error *err)
{
	const uint8_t *body = record->bytes + record->page_count * sizeof(esk_journal_page);
	uint8_t now[ESK_PAGE_BYTES];
	for (uint32_t i = 0; i < record->page_count; i++) {
		esk_journal_page page = record_page(record, i);
		esk_status status = read_place(&page, os, fd, path, now, err);
		if (status != ESK_OK)
			return status;
		for (uint32_t s = 0; s < ESK_JOURNAL_PAGE_SECTORS; s++) {
			size_t bytes = sector_bytes(page.length, s);
			size_t at = (size_t)s * ESK_JOURNAL_SECTOR_BYTES;
			if (memcmp(now + at, body + at, bytes) != 0 &&
				sector_sum(now + at, bytes) != page.before[s]) {
				*ret_explained = false;
				return ESK_OK;
			}
		}
		body += page.length;
	}
	*ret_explained = true;
	return ESK_OK;
}

/* ---- writing ---- */

static uint64_t header_offset(uint32_t generation)
{
	return (uint64_t)(generation & 1) * ESK_JOURNAL_HEADER_STEP;
}

esk_status esk_journal_write_header(const esk_os *os, int fd, const char *path,
	const esk_journal_header *header, uint32_t generation, esk_error *err)
{
	esk_journal_header sealed = *header;
	sealed.generation = generation;
	memcpy(sealed.magic, header_magic, sizeof(header_magic));
	sealed.version = ESK_JOURNAL_VERSION;
	sealed.page_bytes = ESK_PAGE_BYTES;
	sealed.crc = esk_crc32c(0, &sealed, offsetof(esk_journal_header, crc));
	return esk_os_write(os, fd, path, &sealed, sizeof(sealed), header_offset(sealed.generation), err);
}

esk_status esk_journal_write_counter(
	const esk_os *os, int fd, const char *path, uint64_t counter, esk_error *err)
{
	return esk_os_write(os, fd, path, &counter, sizeof(counter), ESK_JOURNAL_COUNTER_AT, err);
}

esk_status esk_journal_read_counter(
	const esk_os *os, int fd, const char *path, uint64_t *ret_counter, esk_error *err)
{
	uint64_t counter = 0;
	size_t got = 0;
	esk_status status =
		esk_os_read_some(os, fd, path, &counter, sizeof(counter), ESK_JOURNAL_COUNTER_AT, &got, err);
	if (status == ESK_OK)
		*ret_counter = got == sizeof(counter) ? counter : 0;
	return status;
}

static uint64_t slot_offset(uint64_t commit)
{
	return ESK_JOURNAL_SLOT_AT + (commit & 1) * ESK_JOURNAL_SECTOR_BYTES;
}

esk_status esk_journal_write_record(const esk_os *os, int fd, const char *path, esk_journal_slot *slot,
	const esk_record *record, esk_error *err)
{
	slot->magic = SLOT_MAGIC;
	slot->page_count = record->page_count;
	slot->record_bytes = record->size;
	slot->record_crc = esk_crc32c(0, record->bytes, record->size);
	slot->crc = esk_crc32c(0, slot, offsetof(esk_journal_slot, crc));
	esk_status status = esk_os_write(os, fd, path, record->bytes, record->size, slot->location, err);
	if (status != ESK_OK)
		return status;
	return esk_os_write(os, fd, path, slot, sizeof(*slot), slot_offset(slot->commit), err);
}

/* ---- reading ---- */

static bool all_zero(const uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

typedef enum { HEADER_NONE, HEADER_WHOLE, HEADER_DAMAGED } header_kind;

static esk_status load_header(const esk_os *os, int fd, const char *path, uint32_t parity,
	esk_journal_header *header, header_kind *ret_kind, esk_error *err)
{
	uint8_t bytes[sizeof(*header)] = {0};
	size_t got = 0;
	esk_status status =
		esk_os_read_some(os, fd, path, bytes, sizeof(bytes), header_offset(parity), &got, err);
	if (status != ESK_OK)
		return status;
	memcpy(header, bytes, sizeof(*header));
	if (all_zero(bytes, sizeof(bytes)))
		*ret_kind = HEADER_NONE;
	else if (memcmp(header->magic, header_magic, sizeof(header_magic)) == 0 &&
		 header->crc == esk_crc32c(0, bytes, offsetof(esk_journal_header, crc)) &&
		 (header->generation & 1) == parity)
		*ret_kind = HEADER_WHOLE;
	else
		*ret_kind = HEADER_DAMAGED;
	return ESK_OK;
}

/* A journal gets its full first page only once its first header is durable: a shorter one never counted. Said
 * of one whose only header is damaged: does it begin like a journal? */
static bool was_being_made(const esk_journal_header *header, uint64_t journal_bytes)
{
	size_t known = (size_t)esk_min_u64(journal_bytes, sizeof(header_magic));
	return journal_bytes < ESK_JOURNAL_RECORDS_AT && memcmp(header->magic, header_magic, known) == 0;
}

/* Takes the newest whole header: a damaged one beside it is one that failed to replace it, or its twin. */
static esk_status load_headers(const esk_os *os, int fd, const char *path, uint64_t journal_bytes,
	esk_journal_state *state, esk_error *err)
{
	esk_journal_header headers[2];
	header_kind kinds[2];
	for (uint32_t parity = 0; parity < 2; parity++) {
		esk_status status = load_header(os, fd, path, parity, &headers[parity], &kinds[parity], err);
		if (status != ESK_OK)
			return status;
	}
	bool damaged = kinds[0] == HEADER_DAMAGED || kinds[1] == HEADER_DAMAGED;
	if (kinds[0] != HEADER_WHOLE && kinds[1] != HEADER_WHOLE) {
		if (!damaged || was_being_made(&headers[kinds[0] == HEADER_DAMAGED ? 0 : 1], journal_bytes))
			return ESK_OK;
		return esk_fail(err, ESK_ECORRUPT,
			"%s: the journal's header is damaged or it is not a journal: restore it, or remove "
			"it to take the file beside it as it is",
			path);
	}
	bool second = kinds[1] == HEADER_WHOLE &&
		      (kinds[0] != HEADER_WHOLE || headers[1].generation > headers[0].generation);
	const esk_journal_header *header = &headers[second];
	if (header->version != ESK_JOURNAL_VERSION || header->page_bytes != ESK_PAGE_BYTES)
		return esk_fail(err, ESK_EVERSION,
			"%s: the journal has version %u with pages of %u bytes, this Esker knows version %u "
			"with %u: open it with the Esker that wrote it",
			path, header->version, header->page_bytes, ESK_JOURNAL_VERSION, ESK_PAGE_BYTES);
	state->header = *header;
	state->generation = header->generation;
	state->present = (header->flags & ESK_JOURNAL_RETIRED) == 0;
	return ESK_OK;
}

/* False for a slot that is empty, damaged or of another session. */
static esk_status load_slot(const esk_os *os, int fd, const char *path, const esk_journal_header *header,
	uint64_t parity, esk_journal_slot *slot, bool *ret_valid, esk_error *err)
{
	size_t got = 0;
	esk_status status =
		esk_os_read_some(os, fd, path, slot, sizeof(*slot), slot_offset(parity), &got, err);
	if (status != ESK_OK)
		return status;
	*ret_valid = got == sizeof(*slot) && slot->magic == SLOT_MAGIC &&
		     slot->crc == esk_crc32c(0, slot, offsetof(esk_journal_slot, crc)) &&
		     slot->session == header->session && slot->commit > header->base_commit &&
		     (slot->commit & 1) == parity;
	return ESK_OK;
}

/* Every page lies on its place, below the end, behind the one before, and the lengths add up to the record's
 * size. */
static bool record_is_sound(const esk_record *record, uint64_t end)
{
	uint64_t bytes = (uint64_t)record->page_count * sizeof(esk_journal_page);
	uint64_t last_end = 0;
	for (uint32_t i = 0; i < record->page_count; i++) {
		esk_journal_page page = record_page(record, i);
		uint64_t page_end = 0;
		if (page.length == 0 || page.length > ESK_PAGE_BYTES || page.offset % ESK_PAGE_BYTES != 0 ||
			page.offset < last_end || !esk_add_u64(page.offset, page.length, &page_end) ||
			page_end > end)
			return false;
		bytes += page.length;
		last_end = page_end;
	}
	return bytes == record->size;
}

/* *ret_complete: the whole record is there. off_t is signed: nothing in a file lies behind INT64_MAX. */
static esk_status load_record(const esk_os *os, int fd, const char *path, uint64_t journal_bytes,
	const esk_journal_slot *slot, esk_record *record, bool *ret_complete, esk_error *err)
{
	*ret_complete = false;
	uint64_t record_end = 0;
	if (slot->location < ESK_JOURNAL_RECORDS_AT || slot->location % ESK_PAGE_BYTES != 0 ||
		slot->end > INT64_MAX || !esk_add_u64(slot->location, slot->record_bytes, &record_end) ||
		record_end > journal_bytes ||
		slot->record_bytes < (uint64_t)slot->page_count * sizeof(esk_journal_page))
		return ESK_OK;
	esk_status status = record_reserve(record, slot->record_bytes, err);
	if (status != ESK_OK)
		return status;
	size_t got = 0;
	record->size = (size_t)slot->record_bytes;
	record->page_count = slot->page_count;
	status = esk_os_read_some(os, fd, path, record->bytes, record->size, slot->location, &got, err);
	if (status != ESK_OK)
		return status;
	*ret_complete = got == record->size &&
			slot->record_crc == esk_crc32c(0, record->bytes, record->size) &&
			record_is_sound(record, slot->end);
	return ESK_OK;
}

/* Reads both slots and takes the newest record that is complete. */
static esk_status load_newest(const esk_os *os, int fd, const char *path, uint64_t journal_bytes,
	esk_journal_state *state, esk_error *err)
{
	esk_journal_slot slots[2];
	bool valid[2];
	for (uint64_t parity = 0; parity < 2; parity++) {
		esk_status status =
			load_slot(os, fd, path, &state->header, parity, &slots[parity], &valid[parity], err);
		if (status != ESK_OK)
			return status;
	}
	int newest = valid[1] && (!valid[0] || slots[1].commit > slots[0].commit) ? 1 : 0;
	for (int turn = 0; turn < 2 && !state->complete; turn++) {
		int i = turn == 0 ? newest : 1 - newest;
		if (!valid[i])
			continue;
		esk_status status = load_record(
			os, fd, path, journal_bytes, &slots[i], &state->record, &state->complete, err);
		if (status != ESK_OK)
			return status;
		state->slot = slots[i];
		if (!state->complete)
			state->discarded_bytes += esk_min_u64(slots[i].record_bytes, journal_bytes);
	}
	if (!valid[0] && !valid[1] && journal_bytes > ESK_JOURNAL_RECORDS_AT)
		state->discarded_bytes = journal_bytes - ESK_JOURNAL_RECORDS_AT;
	return ESK_OK;
}

esk_status esk_journal_load(
	const esk_os *os, int fd, const char *path, esk_journal_state *state, esk_error *err)
{
	uint64_t journal_bytes = 0;
	esk_status status = esk_os_size(os, fd, path, &journal_bytes, err);
	if (status == ESK_OK)
		status = load_headers(os, fd, path, journal_bytes, state, err);
	if (status == ESK_OK)
		status = esk_journal_read_counter(os, fd, path, &state->counter, err);
	if (status == ESK_OK && state->present)
		status = load_newest(os, fd, path, journal_bytes, state, err);
	return status;
}
