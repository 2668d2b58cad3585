/* A process's mapping of a ring, and what the parts of src/ring/ offer each other. May include: base, os. */
#ifndef ESK_RING_INSIDE_H
#define ESK_RING_INSIDE_H

#include "ring/shared.h"

#define RING_GAPS 16u

/* A loss that the drain found: between `from`, before which `published` records were published, and
 * `position`. */
typedef struct ring_gap {
	uint64_t from;
	uint64_t published;
	uint64_t position;
	uint64_t records;
	uint64_t bytes;
} ring_gap;

/* Where one reader stands and what it knows; used by one thread. */
typedef struct ring_reader {
	bool evictable; /* producers may move the tail past it */
	uint64_t cursor;
	uint64_t head;     /* as last seen; at or behind the real one */
	uint64_t expected; /* sequence at the cursor, if known; else at most that */
	bool known;
	uint64_t skipped;   /* records before the cursor that were not published */
	uint64_t published; /* while not known: published records before the last known place, or RING_UNKNOWN
			     */
	uint64_t lost_records;
	uint64_t lost_bytes;
	uint64_t pending_records; /* lost, to be told with the next record */
	uint64_t pending_bytes;
	ring_gap jump;            /* where the loss began that is to be told */
	uint64_t refuted;         /* position + 1 of the record that was denied last */
	ring_gap gaps[RING_GAPS]; /* losses not released yet */
	uint32_t gap_count;
	ring_trailer *shown; /* whose cursor shows where this one is; NULL: nobody's */
	ring_header *losses; /* which shows what it lost; NULL: none */
} ring_reader;

/* The drain; used by one thread. */
typedef struct ring_drain {
	bool active;
	uint32_t fork; /* esk_os_fork_count when it began: a child does not end its parent's drain */
	ring_pair_value place;
	ring_reader reader;
	uint32_t wake_seen;
} ring_drain;

struct esk_ring {
	ring_header *header;
	unsigned char *data;
	ring_trailer *trailer;
	ring_extension *extension; /* NULL: a ring of version 1 */
	ring_place *places;        /* `consumers` of them */
	unsigned char *declarations;
	uint32_t consumers;
	uint64_t declarations_bytes;
	size_t mapped_bytes;
	uint64_t capacity;
	uint64_t max_payload;
	uint64_t stream_id;
	uint64_t boot_id; /* of this boot; the ring's is in trailer->config */
	uint64_t block_timeout_ns;
	esk_policy policy;
	bool checksums;
	bool writable;
	char *path;
	/* Shared by the threads of this process. */
	_Alignas(64) _Atomic uint64_t
		producer; /* fork count << 32 | token: this process's place among producers */
	_Atomic uint64_t
		lap_base; /* a multiple of the capacity at or before recent positions: saves a division */
	_Atomic uint64_t tail_seen; /* a tail as it was: room found with it is there */
	_Atomic uint64_t probed_ns; /* when processes were last asked whether they live */
	_Alignas(64) ring_drain drain;
};

/* ---- walk.c: where records lie and what stands at a position ---- */
typedef struct ring_extent {
	uint64_t start; /* position of the record's header; a pad lies before it if it is not where one asked
			 */
	uint64_t end;   /* where the next record's reservation starts */
	bool wraps;     /* `end` is in another lap than where one asked */
} ring_extent;

typedef enum ring_verdict {
	RING_AT_RECORD,
	RING_AT_SKIPPED, /* abandoned, or its producer died before publishing */
	RING_AT_PAD,
	RING_AT_PENDING, /* reserved by a living producer */
	RING_AT_BROKEN,  /* no header, and no producer that owes one */
} ring_verdict;

typedef struct ring_view {
	const void *payload;
	uint64_t position;
	uint64_t next;
	uint64_t sequence;
	uint32_t payload_bytes;
	uint32_t stream;
	uint32_t kind_flags;
	uint32_t payload_check;
} ring_view;

uint64_t esk_ring_offset(const esk_ring *ring, uint64_t position);
ring_extent esk_ring_extent(const esk_ring *ring, uint64_t position, uint64_t payload_bytes);
uint32_t esk_ring_record_check(const esk_ring *ring, uint64_t position, uint64_t sequence,
	uint32_t payload_bytes, uint32_t stream, uint32_t kind_flags);
/* Judges what stands at `position`, which must be below the head and a place where a reservation started. */
ring_verdict esk_ring_inspect(const esk_ring *ring, uint64_t position, ring_view *ret_view);
/* The first position behind `position` with a valid header of a sequence >= `sequence`; the head if there is
 * none. */
uint64_t esk_ring_resync(const esk_ring *ring, uint64_t position, uint64_t sequence);
/* True if a valid header of this lap stands at `position`. */
bool esk_ring_header_stands(const esk_ring *ring, uint64_t position);
/* True if the record's payload has the checksum of its header, or has none. */
bool esk_ring_payload_matches(const esk_ring *ring, const ring_view *view);
bool esk_ring_process_lives(const esk_ring *ring, ring_pair_value place);
bool esk_ring_token_lives(const esk_ring *ring, uint32_t token);
/* Processes are asked at most every few milliseconds: true if it is time, and then not again for a while. */
bool esk_ring_may_probe(const esk_ring *ring);
ring_pair_value esk_ring_own_place(const esk_ring *ring, ring_pair_value taken);

/* ---- read.c: a reader walks over records and keeps its account ---- */
/* Puts `reader` at what was released last: `from`, or the tail if that was evicted. */
typedef struct ring_start {
	uint64_t position;
	uint64_t published; /* RING_UNKNOWN: counting starts anew */
	uint64_t skipped;   /* if the position is not behind the tail; RING_UNKNOWN: that of the tail */
	uint64_t lost_records;
	uint64_t lost_bytes;
	uint64_t mark;
} ring_start;
void esk_ring_reader_start(esk_ring *ring, ring_reader *reader, const ring_start *start);
/* Finds the record at or behind the cursor and leaves the cursor at it: *ret_verdict is RING_AT_RECORD, or
 * RING_AT_PENDING when there is none yet. */
esk_status esk_ring_reader_find(
	esk_ring *ring, ring_reader *reader, ring_view *ret_view, ring_verdict *ret_verdict, esk_error *err);
/* The same, and the payload has its checksum; gives the record out and steps behind it. */
esk_status esk_ring_reader_next(
	esk_ring *ring, ring_reader *reader, esk_ring_record *ret_record, bool *ret_found, esk_error *err);
void esk_ring_reader_pass(ring_reader *reader, const ring_view *view);
void esk_ring_reader_show_losses(ring_reader *reader);
/* True while no producer may have written over the record. */
bool esk_ring_reader_holds(const esk_ring *ring, const ring_reader *reader, uint64_t position);
void esk_ring_reader_note_loss(ring_reader *reader, ring_gap gap);
/* Losses at or behind `position`; those before it are forgotten. */
ring_gap esk_ring_reader_losses_from(ring_reader *reader, uint64_t position);
uint64_t esk_ring_reader_published(const ring_reader *reader);
/* How many records before `position`, which lies at or before the cursor, were skipped, and the sequence at
 * it; `base` is a place at or before it where that is known. False if the ring does not show it any more,
 * because it was evicted. */
bool esk_ring_reader_account_at(const esk_ring *ring, const ring_reader *reader, ring_pair_value base,
	uint64_t position, uint64_t *ret_skipped, uint64_t *ret_sequence);

/* ---- places.c: the table of consumers, and the tail that follows them ---- */
esk_status esk_ring_lock(esk_ring *ring, const char *what, ring_pair_value *ret_mine, esk_error *err);
void esk_ring_unlock(esk_ring *ring, ring_pair_value mine);
/* Moves the tail to the slowest lossless consumer; true if it moved. */
bool esk_ring_follow(esk_ring *ring);
/* Where the tail could be: at the slowest lossless consumer. */
uint64_t esk_ring_kept_from(const esk_ring *ring);
esk_status esk_ring_check_extension(const esk_ring *ring, esk_error *err);

/* ---- ring.c ---- */
esk_status esk_ring_map(const char *path, bool writable, esk_ring **ret_ring, esk_error *err);

/* ---- produce.c ---- */
void esk_ring_producer_leave(esk_ring *ring);
void esk_ring_tail_moved(esk_ring *ring, uint64_t tail);
void esk_ring_wake_space(esk_ring *ring);
/* Bytes that are worth waking a waiting producer for, where consumers make room. */
static inline uint64_t ring_wake_share(const esk_ring *ring)
{
	return ring->capacity / 32;
}
/* Wakes consumers that wait for something to read. */
void esk_ring_tell_news(esk_ring *ring);

/* Tells the core that a loop waits. */
static inline void ring_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

static inline uint64_t ring_skipped(ring_pair_value tail)
{
	return tail.count & RING_SKIPPED_MASK;
}

/* The tail's new value, in the epoch of `now`. */
static inline ring_pair_value ring_tail_at(ring_pair_value now, uint64_t position, uint64_t skipped)
{
	return (ring_pair_value){
		.position = position,
		.count = (now.count & ~RING_SKIPPED_MASK) | (skipped & RING_SKIPPED_MASK),
	};
}

/* Raises `word` to `value` if it is lower. Relaxed: onlookers' fields order nothing. */
static inline void ring_raise(_Atomic uint64_t *word, uint64_t value)
{
	uint64_t now = atomic_load_explicit(word, memory_order_relaxed);
	while (now < value && !atomic_compare_exchange_weak_explicit(
				      word, &now, value, memory_order_relaxed, memory_order_relaxed))
		;
}

#endif
