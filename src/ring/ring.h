/* The shared-memory ring: many producers in many processes, one drain, any number of taps.
 *
 * DESIGN section 6 and docs/FORMAT.md give the bytes. A ring is one file:
 *
 *   0          128                         128 + capacity        end
 *   | header   | data region (capacity)    | trailer              |
 *
 * The trailer holds the producer slots (pid, start time, intent), the drain's and the taps' cursors, futex
 * words and the owner's blob (what a recovering process needs to know: store id, run name; opaque here).
 *
 * Positions are monotonic byte positions; position modulo capacity is the offset in the data region.
 * Sequences count records (pads excluded) from 1 without holes. May include: base, os. */
#ifndef ESK_RING_H
#define ESK_RING_H

#include "os/os.h"
#include <esker/store.h> /* esk_policy */

#define ESK_RING_MAGIC 0xDADADADA00000001ull
#define ESK_RING_VERSION 1u
#define ESK_RING_BLOB_BYTES 1024u
#define ESK_RING_MIN_BYTES (64u << 10)
#define ESK_RING_MAX_BYTES (1ull << 40)

typedef struct esk_ring esk_ring; /* a mapping of a ring by one process; safe from several threads */

typedef struct esk_ring_options {
	uint64_t capacity_bytes; /* rounded up to whole pages */
	esk_policy policy;
	uint64_t block_timeout_ns;
	bool payload_checksums;
	bool prefault;
	uint64_t stream_id; /* random identity of this ring, also kept in the committed file */
	const void *blob;   /* up to ESK_RING_BLOB_BYTES, copied */
	uint32_t blob_bytes;
} esk_ring_options;

/* Makes the file (mode 0600; must not exist) and maps it. ESK_ENOSPC if its blocks cannot be reserved. */
esk_status esk_ring_create(
	const char *path, const esk_ring_options *options, esk_ring **ret_ring, esk_error *err);

/* Maps an existing ring for producing, draining or tapping. Every field of the header is checked against the
 * file's size before use: ESK_ECORRUPT (not a ring: magic; truncated; capacity, head, tail out of bounds),
 * ESK_EVERSION. */
esk_status esk_ring_attach(const char *path, esk_ring **ret_ring, esk_error *err);

/* Unmaps. The file stays. NULL is allowed. */
void esk_ring_detach(esk_ring *ring);

uint64_t esk_ring_stream_id(const esk_ring *ring);
uint64_t esk_ring_capacity(const esk_ring *ring);
const void *esk_ring_blob(const esk_ring *ring, uint32_t *ret_size); /* borrowed until detach */
/* Boot during which the ring was made (os->boot_id): after another boot, payloads without checksums are not
 * to be trusted. */
uint64_t esk_ring_boot_id(const esk_ring *ring);

/* ---- producing ---- */
typedef struct esk_ring_slot {
	void *payload; /* 8-byte aligned, size_bytes writable bytes in place */
	uint64_t sequence;
	uint64_t position;
	uint32_t size_bytes;
} esk_ring_slot;

/* Largest payload that one record takes: a quarter of the capacity, less its header. */
uint64_t esk_ring_max_payload(const esk_ring *ring);

/* Reserves a record. By policy: waits, evicts, or ESK_EFULL / ESK_ETIMEDOUT. ESK_ERANGE when larger than
 * max_payload. `stream` and `kind` are the caller's. */
esk_status esk_ring_reserve(esk_ring *ring, uint32_t stream, uint16_t kind, uint32_t payload_bytes,
	esk_ring_slot *ret_slot, esk_error *err);
/* Publishes (release): from here the record survives the process. Wakes the drain if it waits and a quarter
 * is filled. */
void esk_ring_publish(esk_ring *ring, const esk_ring_slot *slot);
/* Publishes a record that consumers skip. Its sequence is used up but not counted as lost. */
void esk_ring_abandon(esk_ring *ring, const esk_ring_slot *slot);
/* Refuses new reservations from now on (ESK_ECLOSED), in all processes; used when a run closes. */
void esk_ring_seal(esk_ring *ring);

/* ---- draining: one thread of one process at a time ---- */
typedef struct esk_ring_record {
	const void *payload; /* in place; block and reject: valid until released; overwrite: see
				esk_ring_still_valid */
	uint64_t sequence;
	uint64_t position; /* of its header */
	uint64_t next_position;
	uint32_t size_bytes;
	uint32_t stream;
	uint16_t kind;
	uint64_t lost_before_records; /* records overwritten between the record read before and this one */
	uint64_t lost_before_bytes; /* bytes of the ring that were overwritten: payloads, headers, padding */
} esk_ring_record;

/* Takes the drain's place: ESK_EBUSY while another living process has it. Sets the read cursor to the tail
 * (first record not released). */
esk_status esk_ring_drain_begin(esk_ring *ring, esk_error *err);
/* Reads the next published record and moves the read cursor behind it: *ret_found is false when there is none
 * yet. Skips pads, abandoned records, and records whose producer died before publishing. Checks header crc
 * (and payload crc where there is one): ESK_ECORRUPT names position and sequence, and the cursor has moved on
 * to the next readable record. */
esk_status esk_ring_read(esk_ring *ring, esk_ring_record *ret_record, bool *ret_found, esk_error *err);
/* True if the record was not overwritten since it was read (policy overwrite: copy first, then ask). If not,
 * the ring's stats count it as lost; the next record's lost_before_* do not include it. */
bool esk_ring_still_valid(esk_ring *ring, const esk_ring_record *record);
/* Copies payload that a producer may be overwriting (memcpy that the thread sanitizer knows to be followed by
 * esk_ring_still_valid). */
void esk_ring_copy(void *to, const void *from, size_t size_bytes);
/* Gives the bytes up to `position` (a record's next_position) back to producers: everything before is
 * committed. At most up to the read cursor. */
void esk_ring_release(esk_ring *ring, uint64_t position);
/* Moves the read cursor back to the tail (what was read but not released is read again). Under overwrite,
 * records read before but evicted meanwhile are then reported as lost. */
void esk_ring_rewind(esk_ring *ring);
/* Skips records up to and including `sequence` without giving them out (they are committed already). */
esk_status esk_ring_skip_to(esk_ring *ring, uint64_t sequence, esk_error *err);
/* Waits until a flush is asked for, a quarter is filled, or timeout_ns went by. Returns at once if one holds
 * already. */
void esk_ring_drain_wait(esk_ring *ring, uint64_t timeout_ns);
/* Wakes the drain from drain_wait now. Safe from any thread and process. */
void esk_ring_wake(esk_ring *ring);
void esk_ring_drain_end(esk_ring *ring);

/* ---- state ---- */
typedef struct esk_ring_stats {
	uint64_t capacity_bytes;
	uint64_t used_bytes;    /* reserved and not released */
	uint64_t unread_bytes;  /* reserved and not yet read by the drain */
	uint64_t head_position; /* reserved up to here */
	uint64_t tail_position;
	uint64_t last_sequence; /* the last one given out */
	uint64_t lost_records;  /* evicted before the drain read them, since the ring was made */
	uint64_t lost_bytes;    /* of the ring: payloads, headers, padding */
} esk_ring_stats;
void esk_ring_get_stats(const esk_ring *ring, esk_ring_stats *ret_stats);

/* ---- taps ---- */
typedef struct esk_tap esk_tap;
/* Attaches a tap that sees every `every`-th record from now on; read-only on the data, never slows a
 * producer. */
esk_status esk_tap_open(const char *path, uint64_t every, esk_tap **ret_tap, esk_error *err);
/* Copies the next record into `buf` (at most buf_bytes; *ret_record.size_bytes says how large it is; payload
 * = buf). lost_before_* say what this tap missed by being slow. */
esk_status esk_tap_read(esk_tap *tap, void *buf, size_t buf_bytes, esk_ring_record *ret_record,
	bool *ret_found, esk_error *err);
void esk_tap_close(esk_tap *tap);

#endif
