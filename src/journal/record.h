/* The bytes of the journal: header, slots, commit records. docs/FORMAT.md describes them; this is the only
 * code that knows them. Trusts nothing that it reads: every count and offset is bounded before it is used.
 * May include: base, os. */
#ifndef ESK_JOURNAL_RECORD_H
#define ESK_JOURNAL_RECORD_H

#include "journal/overlay.h"
#include "os/os.h"

#define ESK_JOURNAL_VERSION 1u
#define ESK_JOURNAL_HEADER_STEP 2048u /* header of generation g: at (g & 1) * 2048 */
#define ESK_JOURNAL_COUNTER_AT 512u   /* u64: the change counter */
#define ESK_JOURNAL_SLOT_AT 1024u     /* slot of commit n: + (n & 1) * 512 */
#define ESK_JOURNAL_RECORDS_AT 4096u
#define ESK_JOURNAL_SECTOR_BYTES 512u /* what a disk writes whole or not at all */
#define ESK_JOURNAL_PAGE_SECTORS (ESK_PAGE_BYTES / ESK_JOURNAL_SECTOR_BYTES)

enum {
	ESK_JOURNAL_CREATED =
		1, /* made together with its file: before base_commit + 1 nothing was committed */
	ESK_JOURNAL_RETIRED = 2, /* its file was closed cleanly: nothing in here means anything */
};

/* Two twins of ascending generation. A session writes the older one, synchronises, then the other: a write
 * that fails half-way leaves one whole, and damage to one later is healed by the other. */
typedef struct esk_journal_header {
	uint8_t magic[8];
	uint32_t version;
	uint32_t page_bytes;
	uint64_t session; /* random; slots of other sessions are void */
	uint64_t inode;   /* of the file */
	uint64_t base_commit;
	uint64_t base_end; /* committed end when the session began */
	uint32_t flags;
	uint32_t generation; /* of headers; the newer of the two places counts */
	uint32_t reserved;
	uint32_t crc; /* of the bytes before it */
} esk_journal_header;
_Static_assert(sizeof(esk_journal_header) == 64, "the journal's header has 64 bytes");

/* Says where a commit's record lies. */
typedef struct esk_journal_slot {
	uint32_t magic;
	uint32_t page_count;
	uint64_t session;
	uint64_t commit;
	uint64_t end;      /* committed end */
	uint64_t location; /* of the record: page table, then page bytes */
	uint64_t record_bytes;
	uint32_t record_crc;
	uint32_t reserved[2];
	uint32_t crc;
} esk_journal_slot;
_Static_assert(sizeof(esk_journal_slot) == 64, "a slot has 64 bytes");

/* One entry of a record's page table; entries ascend by offset. */
typedef struct esk_journal_page {
	uint64_t offset;
	uint32_t length;
	uint32_t reserved;
	uint16_t before[ESK_JOURNAL_PAGE_SECTORS]; /* sums of the sectors that the page replaces */
} esk_journal_page;
_Static_assert(sizeof(esk_journal_page) == 32, "an entry of the page table has 32 bytes");

/* A record in memory, in one block: page table, then page bytes. Zero is an empty one. */
typedef struct esk_record {
	uint8_t *bytes;
	size_t capacity;
	size_t size;
	uint32_t page_count;
} esk_record;

void esk_record_free(esk_record *record);

/* Makes the record of the pages of `overlay` below `end`, with the sums of what `fd` holds there now. */
esk_status esk_record_build(esk_record *record, esk_overlay *overlay, uint64_t end, const esk_os *os, int fd,
	const char *path, esk_error *err);
/* Writes the pages into the file. */
esk_status esk_record_apply(
	const esk_record *record, const esk_os *os, int fd, const char *path, esk_error *err);
/* Puts the pages into `overlay`, which is empty. */
esk_status esk_record_to_overlay(const esk_record *record, esk_overlay *overlay, esk_error *err);
/* *ret_explained: every sector that the record touches holds what it held before the commit or what the
 * commit puts there, so the record was made for this file (or for the original of this copy). */
esk_status esk_record_explains(const esk_record *record, const esk_os *os, int fd, const char *path,
	bool *ret_explained, esk_error *err);

esk_status esk_journal_write_header(const esk_os *os, int fd, const char *path,
	const esk_journal_header *header, uint32_t generation, esk_error *err);
esk_status esk_journal_write_counter(
	const esk_os *os, int fd, const char *path, uint64_t counter, esk_error *err);
esk_status esk_journal_read_counter(
	const esk_os *os, int fd, const char *path, uint64_t *ret_counter, esk_error *err);
/* Writes record and slot; does not synchronise. Fills the slot's checksums. */
esk_status esk_journal_write_record(const esk_os *os, int fd, const char *path, esk_journal_slot *slot,
	const esk_record *record, esk_error *err);

/* What a journal says. */
typedef struct esk_journal_state {
	bool present;        /* a header that counts: there, and not retired */
	uint32_t generation; /* of the newest header; 0: none */
	bool complete;       /* a complete record: `slot`, `record` */
	esk_journal_header header;
	esk_journal_slot slot;
	esk_record record; /* to be freed by the caller */
	uint64_t counter;
	uint64_t discarded_bytes;
} esk_journal_state;

/* Reads the journal `fd`. One that was being made when its maker died is none. ESK_ECORRUPT where it is
 * neither empty nor a journal; ESK_EVERSION. *state must be zero; free state->record in any case. */
esk_status esk_journal_load(
	const esk_os *os, int fd, const char *path, esk_journal_state *state, esk_error *err);

#endif
