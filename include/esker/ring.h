/* Rings: records of bytes in shared memory, from many producers in many processes to many consumers.
 *
 * A ring is one file, best in /dev/shm, that every process maps. Producers reserve, fill and publish records
 * without a lock and, while the ring has room and nobody sleeps, without a system call. From publishing on, a
 * record survives the death of every process. Consumers have names: the place of each is kept in the ring, so
 * that after its death the next one under that name goes on at what was released last. docs/FORMAT.md has the
 * bytes.
 *
 * Caveats first:
 *  - Positions are byte positions that only grow, pads and headers included; sequences count records from 1.
 *  - A payload is read in place. It stays as it is until the consumer releases it, unless the consumer is
 *    lossy or the ring overwrites: then copy it first (esk_ring_copy) and ask esk_consumer_still_valid
 *    afterwards.
 *  - What a dead producer had reserved and not published is skipped; it was never acknowledged.
 *  - After fork, a child may go on producing with the parent's esk_ring, but must open consumers of its own.
 *  - Shared memory belongs to one boot of one machine: rings do not travel. */
#ifndef ESKER_RING_H
#define ESKER_RING_H

#include <esker/store.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ESK_MAX_RING_BLOB 1024   /* bytes of the owner's blob */
#define ESK_MAX_CONSUMERS 64     /* places for consumers in one ring */
#define ESK_MAX_CONSUMER_NAME 63 /* bytes */

typedef struct esk_ring esk_ring; /* a mapping of a ring by one process; safe from several threads */

typedef struct esk_ring_options {
	size_t struct_size;
	uint64_t capacity_bytes;   /* of the data region: 64 KiB to 1 TiB, rounded up to whole pages */
	esk_policy policy;         /* what happens when the ring is full */
	uint64_t block_timeout_ns; /* how long a producer waits for room under ESK_BLOCK; 0: 30 s */
	bool payload_checksums;    /* each payload with a CRC-32C, which every reader checks */
	bool prefault;             /* touch every page now, so that no producer waits for the kernel later */
	uint64_t stream_id;        /* identity of this ring; 0: a random one */
	const void *blob;          /* up to ESK_MAX_RING_BLOB bytes for the owner's use, copied */
	uint32_t blob_bytes;
	uint32_t consumers;          /* places for named consumers, up to ESK_MAX_CONSUMERS; 0: none */
	uint64_t declarations_bytes; /* room for declarations, up to 1 GiB; 0: none */
} esk_ring_options;
#define ESK_RING_OPTIONS_INIT                                                              \
	{                                                                                  \
		.struct_size = sizeof(esk_ring_options), .capacity_bytes = 100ull << 20,   \
		.policy = ESK_OVERWRITE, .consumers = 32, .declarations_bytes = 1ull << 20 \
	}

/* ---- making and mapping ------------------------------------------------------------------------------- */

/* Makes the file `path` (mode 0600; must not exist) with all its blocks reserved, and maps it. The caller
 * owns *ret_ring and detaches it. Errors: ESK_EINVAL (options), ESK_EEXIST, ESK_ENOSPC, ESK_EACCES, ESK_EIO.
 */
ESK_API esk_status esk_ring_create(
	const char *path, const esk_ring_options *options, esk_ring **ret_ring, esk_error *err);

/* Maps an existing ring for producing and consuming. Every field is checked against the file's size and the
 * others before use: ESK_ECORRUPT names what is wrong (not a ring, truncated, capacity, head, tail, a
 * consumer's position or a declaration out of bounds); ESK_EVERSION; ESK_ENOTFOUND; ESK_EACCES. */
ESK_API esk_status esk_ring_attach(const char *path, esk_ring **ret_ring, esk_error *err);

/* Unmaps; the file stays. Consumers of this handle must be closed before. NULL is allowed. */
ESK_API void esk_ring_detach(esk_ring *ring);

/* As given to create or attach; borrowed until detach. */
ESK_API const char *esk_ring_path(const esk_ring *ring);
ESK_API uint64_t esk_ring_stream_id(const esk_ring *ring);
ESK_API uint64_t esk_ring_capacity(const esk_ring *ring);
/* The owner's blob; borrowed until detach. */
ESK_API const void *esk_ring_blob(const esk_ring *ring, uint32_t *ret_size);
/* Largest payload that one record takes, in bytes: a quarter of the capacity, less its header. */
ESK_API uint64_t esk_ring_max_payload(const esk_ring *ring);
/* The data region in place, for onlookers: position modulo capacity is the offset in it. Producers write into
 * it all the while. Borrowed until detach; not to be written. */
ESK_API void *esk_ring_data(esk_ring *ring, uint64_t *ret_bytes);

typedef struct esk_ring_stats {
	uint64_t capacity_bytes;
	uint64_t used_bytes;    /* reserved, and not yet released by every consumer that must not lose */
	uint64_t unread_bytes;  /* of a run's ring: reserved and not yet read by its drain; else used_bytes */
	uint64_t head_position; /* reserved up to here */
	uint64_t tail_position; /* the oldest byte that is kept */
	uint64_t last_sequence; /* the last one given out */
	uint64_t lost_records;  /* of a run's ring: evicted before the drain read them. With consumers: what
				   the one that lost most lost; each has its own account */
	uint64_t lost_bytes;    /* the same in bytes of the ring: payloads, headers, padding */
} esk_ring_stats;
/* A picture of the ring at about this moment. Safe from any thread. */
ESK_API void esk_ring_get_stats(const esk_ring *ring, esk_ring_stats *ret_stats);

/* ---- producing: safe from any thread of any process ---------------------------------------------------- */

typedef struct esk_ring_slot {
	void *payload; /* 8-byte aligned, size_bytes writable bytes in place */
	uint64_t sequence;
	uint64_t position;
	uint32_t size_bytes;
} esk_ring_slot;

/* Reserves a record; `stream` and `kind` are the caller's. Publish or abandon it soon: readers wait for it.
 * When the ring is full: ESK_BLOCK waits and then gives ESK_ETIMEDOUT; ESK_OVERWRITE evicts the oldest
 * records, and gives ESK_ETIMEDOUT if the oldest one is reserved and not published for 100 ms; ESK_REJECT
 * gives ESK_EFULL. Other errors: ESK_ERANGE (larger than max_payload), ESK_ECLOSED (sealed), ESK_EBUSY (more
 * than 128 producing processes). */
ESK_API esk_status esk_ring_reserve(esk_ring *ring, uint32_t stream, uint16_t kind, uint32_t payload_bytes,
	esk_ring_slot *ret_slot, esk_error *err);
/* Publishes with release order: from here on the record survives the process. Wakes consumers that wait. */
ESK_API void esk_ring_publish(esk_ring *ring, const esk_ring_slot *slot);
/* Publishes a record that consumers skip. Its sequence is used up and does not count as lost. */
ESK_API void esk_ring_abandon(esk_ring *ring, const esk_ring_slot *slot);

/* Reserves, copies `size` bytes and publishes. *ret_sequence (may be NULL) is the record's. Errors: those of
 * esk_ring_reserve. */
ESK_API esk_status esk_ring_write(esk_ring *ring, uint32_t stream, uint16_t kind, const void *data,
	size_t size, uint64_t *ret_sequence, esk_error *err);

/* Refuses new reservations from now on (ESK_ECLOSED), in all processes. Not to be undone. */
ESK_API void esk_ring_seal(esk_ring *ring);
ESK_API bool esk_ring_is_sealed(const esk_ring *ring);

/* ---- declarations ------------------------------------------------------------------------------------- */

/* Small texts that outlive every record: what a stream number means (a schema). Each is known by a number
 * from 1; declaring the same bytes again gives the same number. *ret_number survives the process. Errors:
 * ESK_ENOSPC (raise declarations_bytes), ESK_ERANGE (no bytes), ESK_ECORRUPT, ESK_EBUSY (another process
 * stands still while declaring). */
ESK_API esk_status esk_ring_declare(
	esk_ring *ring, const void *bytes, size_t size, uint32_t *ret_number, esk_error *err);
/* The bytes of declaration `number`, aligned to 8 and borrowed until detach. Errors: ESK_ENOTFOUND,
 * ESK_ECORRUPT (its checksum or its length does not hold). */
ESK_API esk_status esk_ring_declaration(
	const esk_ring *ring, uint32_t number, const void **ret_bytes, size_t *ret_size, esk_error *err);
ESK_API uint32_t esk_ring_declaration_count(const esk_ring *ring);

/* ---- consuming ---------------------------------------------------------------------------------------- */

/* The tail, before which producers may reuse bytes, follows the slowest consumer that is not lossy, dead or
 * alive. Under ESK_OVERWRITE producers evict what is oldest all the same; a lossy consumer never holds the
 * tail. Each is told exactly what it missed. Without a lossless consumer nothing is given back: producers
 * evict, wait or are refused, by policy. */
typedef struct esk_consumer esk_consumer; /* one thread at a time */

typedef struct esk_consumer_options {
	size_t struct_size;
	bool lossy;     /* never holds the tail; may change from one opening to the next */
	bool from_head; /* a name that is new begins with the next record, not with the oldest */
} esk_consumer_options;
#define ESK_CONSUMER_OPTIONS_INIT                           \
	{                                                   \
		.struct_size = sizeof(esk_consumer_options) \
	}

typedef struct esk_ring_record {
	const void *payload; /* in place; see the caveats */
	uint64_t sequence;
	uint64_t position; /* of its header */
	uint64_t next_position;
	uint32_t size_bytes;
	uint32_t stream;
	uint16_t kind;
	uint64_t lost_before_records; /* published, and overwritten before they were read: between the record
					 read before and this one */
	uint64_t lost_before_bytes; /* bytes of the ring that were overwritten: payloads, headers, padding */
	uint64_t published_before;  /* published since the ring was made, before this one; in contrast to the
				       sequence, what was abandoned and what the dead left does not count */
} esk_ring_record;

/* Takes the place `name` (1..ESK_MAX_CONSUMER_NAME bytes, no control characters, '/', '\\' or ':'), or makes
 * it. An existing place goes on at what was released last. `options` may be NULL: lossless, from the oldest
 * record. The caller owns *ret_consumer and closes it before the ring is detached. Errors: ESK_EBUSY (a
 * living process has it), ESK_EFULL (all places have other names), ESK_EUNSUPPORTED (a ring without
 * consumers), ESK_EINVAL, ESK_ENOMEM, ESK_EACCES. */
ESK_API esk_status esk_consumer_open(esk_ring *ring, const char *name, const esk_consumer_options *options,
	esk_consumer **ret_consumer, esk_error *err);

/* Reads the next published record in place and steps behind it; *ret_found is false when there is none yet.
 * ESK_ECORRUPT names position and sequence of a damaged record; the consumer has then moved on to the next
 * readable one. ESK_ECLOSED in a child after fork. */
ESK_API esk_status esk_consumer_read(
	esk_consumer *consumer, esk_ring_record *ret_record, bool *ret_found, esk_error *err);
/* True if the record, which this consumer read last, was not overwritten since. If it was, it counts as lost,
 * and lost_before_* of the next record includes it. Always true for a lossless consumer of a ring that does
 * not overwrite. */
ESK_API bool esk_consumer_still_valid(esk_consumer *consumer, const esk_ring_record *record);
/* Copies payload that a producer may be overwriting meanwhile; ask esk_consumer_still_valid afterwards. */
ESK_API void esk_ring_copy(void *to, const void *from, size_t size_bytes);
/* Done with everything before `position` (a record's next_position): kept in the ring before this returns, so
 * that a successor does not see it again. Nothing happens for positions up to what was released already;
 * those beyond what was read count as what was read. */
ESK_API void esk_consumer_release(esk_consumer *consumer, uint64_t position);
/* As esk_consumer_release, and keeps one word of the caller's own with the position, both or neither whoever
 * dies: say, how far into the next record it came. `position` may be the one released last. A release without
 * a mark sets 0. */
ESK_API void esk_consumer_release_marked(esk_consumer *consumer, uint64_t position, uint64_t mark);
/* The mark of the last release, of a predecessor too; 0 for a new name. Setting it releases nothing. */
ESK_API uint64_t esk_consumer_mark(const esk_consumer *consumer);
ESK_API void esk_consumer_set_mark(esk_consumer *consumer, uint64_t mark);
/* Goes back to what was released last. */
ESK_API void esk_consumer_rewind(esk_consumer *consumer);
/* Waits until there is something to read, esk_ring_wake, or timeout_ns went by. True if there is something.
 */
ESK_API bool esk_consumer_wait(esk_consumer *consumer, uint64_t timeout_ns);
/* Wakes every consumer (and a run's drain) from waiting. Safe from any thread and process. */
ESK_API void esk_ring_wake(esk_ring *ring);

typedef struct esk_consumer_stats {
	size_t struct_size;
	uint64_t position;          /* the next byte to be read */
	uint64_t released_position; /* a successor goes on here */
	uint64_t read_records;      /* by this handle; read again after rewind: counted again */
	uint64_t read_bytes;        /* payloads */
	uint64_t lost_records;      /* since the name is known to the ring, up to `position` */
	uint64_t lost_bytes;        /* of the ring */
	uint64_t lag_bytes;         /* reserved and not yet read */
} esk_consumer_stats;
/* struct_size must be set. Errors: ESK_EINVAL. */
ESK_API esk_status esk_consumer_get_stats(
	const esk_consumer *consumer, esk_consumer_stats *ret_stats, esk_error *err);

/* Ends; the place stays under its name at what was released last. NULL is allowed. */
ESK_API void esk_consumer_close(esk_consumer *consumer);
/* Gives the place `name` up: the tail no longer waits for it. Errors: ESK_ENOTFOUND, ESK_EBUSY while a living
 * process has it. */
ESK_API esk_status esk_consumer_remove(esk_ring *ring, const char *name, esk_error *err);

typedef struct esk_consumer_info {
	size_t struct_size;
	char name[ESK_MAX_CONSUMER_NAME + 1];
	bool lossy;
	int64_t pid; /* of the living process that has it; 0: nobody */
	uint64_t released_position;
	uint64_t lag_bytes;    /* reserved and not released by it */
	uint64_t lost_records; /* as of its last release */
	uint64_t lost_bytes;
} esk_consumer_info;
/* The i-th place, i from 0 to esk_ring_consumer_places - 1: false if it has no name. struct_size must be set.
 */
ESK_API bool esk_ring_consumer_at(const esk_ring *ring, uint32_t i, esk_consumer_info *ret_info);
ESK_API uint32_t esk_ring_consumer_places(const esk_ring *ring);

/* ---- taps --------------------------------------------------------------------------------------------- */

typedef struct esk_tap esk_tap; /* one thread at a time */

/* A live view that sees every `every`-th record from now on: maps the ring read-only, holds nothing back, and
 * is put at the newest record when it falls behind. The caller owns *ret_tap. Errors: those of
 * esk_ring_attach; ESK_EINVAL. */
ESK_API esk_status esk_tap_open(const char *path, uint64_t every, esk_tap **ret_tap, esk_error *err);
/* Copies the next record into `buf` (at most buf_bytes; ret_record->size_bytes says how large it is; payload
 * is buf; what is larger is cut). lost_before_* say what this tap missed by being slow. *ret_found is false
 * when there is none yet. Errors: ESK_ECORRUPT (the tap goes on at the newest record). */
ESK_API esk_status esk_tap_read(esk_tap *tap, void *buf, size_t buf_bytes, esk_ring_record *ret_record,
	bool *ret_found, esk_error *err);
ESK_API void esk_tap_close(esk_tap *tap); /* NULL is allowed */

#ifdef __cplusplus
}
#endif
#endif
