/* The ring as the recorder uses it: the public ring, and a single drain.
 *
 * Rings of runs have neither consumers nor declarations: one drain releases what is committed. A ring with
 * consumers has no drain. DESIGN section 6 and docs/FORMAT.md give the bytes. May include: base, os. */
#ifndef ESK_RING_H
#define ESK_RING_H

#include "os/os.h"
#include <esker/ring.h>

#define ESK_RING_MAGIC 0xDADADADA00000001ull
#define ESK_RING_VERSION 1u           /* without consumers and declarations */
#define ESK_RING_VERSION_CONSUMERS 2u /* with either */
#define ESK_RING_BLOB_BYTES ESK_MAX_RING_BLOB
#define ESK_RING_MIN_BYTES (64u << 10)
#define ESK_RING_MAX_BYTES (1ull << 40)

/* Boot during which the ring was made (os->boot_id): after another boot, payloads without checksums are not
 * to be trusted. */
uint64_t esk_ring_boot_id(const esk_ring *ring);

/* ---- draining: one thread of one process at a time ---- */

/* Takes the drain's place: ESK_EBUSY while another living process has it; ESK_EUNSUPPORTED for a ring with
 * consumers. Sets the read cursor to the tail (first record not released). */
esk_status esk_ring_drain_begin(esk_ring *ring, esk_error *err);
/* Reads the next published record and moves the read cursor behind it: *ret_found is false when there is none
 * yet. Skips pads, abandoned records, and records whose producer died before publishing. Checks header crc
 * (and payload crc where there is one): ESK_ECORRUPT names position and sequence, and the cursor has moved on
 * to the next readable record. */
esk_status esk_ring_read(esk_ring *ring, esk_ring_record *ret_record, bool *ret_found, esk_error *err);
/* True if the record was not overwritten since it was read (policy overwrite: copy first, then ask). If not,
 * the ring's stats count it as lost; the next record's lost_before_* do not include it. */
bool esk_ring_still_valid(esk_ring *ring, const esk_ring_record *record);
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
void esk_ring_drain_end(esk_ring *ring);

#endif
