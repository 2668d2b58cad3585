/* The bytes of a ring file, and the few loads and swaps that every part of the ring uses on them.
 *
 *   0        128                       128 + capacity   next page
 *   | header | data region, capacity   | (padding)      | trailer |
 *
 * Invariants, on which every part of src/ring/ relies:
 *
 *  1. Positions only grow. `reserve` = {head, next sequence} and `tail` = {tail, skipped records before it}
 *     change as one 128-bit word each, so a position never goes with another one's number.
 *  2. tail <= head <= tail + capacity. Bytes in [tail, head) belong to records; the rest belongs to nobody,
 *     and only who moved `head` over bytes may write them until the record there is published.
 *  3. A record or pad at position p is recognised by a header whose checksum is seeded with p and the ring's
 *     stream id: bytes of an earlier lap, or payload that looks like a header, never pass for it.
 *  4. Who moves `head` from p writes {p, sequence, length} into an intent cell of his before, and clears it
 *     only after the header at p (and behind a pad) is complete. So a position below head without a header is
 *     named by a cell, and if the owner died, the cell still says how far the reservation goes.
 *  5. A cell of a dead owner proves nothing by itself: he may have lost the race for p. It holds only if its
 *     end is a place where a reservation started or will: {end, sequence + 1} is `reserve`, or another cell
 *     says it, or the header at its end does.
 *  6. Nobody but its owner ever writes a record's header. Consumers and evicting producers take a record of a
 *     dead owner as skipped; they come to the same verdict each time, since the dead stay dead.
 *  7. An owner is a token: place in the table of producers and how often that place was taken. A token that
 *     the table does not hold any more is dead.
 *
 * A ring with consumers or declarations (version 2) has an extension behind the trailer:
 *
 *   trailer_offset   + 8192                 + 256          + 320 * consumers
 *   | trailer | 0    | extension            | places       | declarations | (unused to the page's end)
 *
 *  8. A lossless consumer's `held` says {position, skipped}: it is done with what lies before. Only its owner
 *     moves it, forward. The tail follows the least of them, moved by whoever wants room, and is never beyond
 *     one unless the ring overwrites.
 *  9. The tail is swapped from the value it had before the places were looked at, and every new claim on the
 *     tail (a place made, or made lossless) first writes the place and then changes the tail's epoch. So no
 *     tail that was computed without a place is stored after the place holds.
 * 10. What a consumer released is an account in two copies, of which account_index says one; `held` follows
 *     it. Whoever dies between leaves a tail that is further back than it could be, which the successor puts
 *     right.
 * 11. Names, states and declarations change under the lock, whose owner is a process: a dead one's is taken
 *     over. Each change is one store or swap behind the bytes it makes visible, so that there is nothing half
 *     done to take over: a place exists once its state says so, a declaration once `declared` counts it.
 * 12. A declaration never changes or moves; `declared` = {bytes used, how many} only grows.
 *
 * May include: base, os. */
#ifndef ESK_RING_SHARED_H
#define ESK_RING_SHARED_H

#include "ring/ring.h"

#include <stdatomic.h>

#if defined(__SANITIZE_THREAD__)
#define RING_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RING_TSAN 1
#endif
#endif
#ifndef RING_TSAN
#define RING_TSAN 0
#endif

#if RING_TSAN
#include <sanitizer/tsan_interface.h>
/* For functions that read bytes which a producer may overwrite meanwhile, and find out afterwards. */
#define RING_RACY __attribute__((no_sanitize("thread"), noinline))
#define RING_TSAN_ACQUIRE(address) __tsan_acquire((void *)(address))
#define RING_TSAN_RELEASE(address) __tsan_release((void *)(address))
#define RING_RACY_LOAD(field) (*(volatile __typeof__(+(field)) *)&(field))
#define RING_FENCE(order) __asm__ __volatile__("" ::: "memory")
#else
#define RING_RACY
#define RING_TSAN_ACQUIRE(address) ((void)(address))
#define RING_TSAN_RELEASE(address) ((void)(address))
#define RING_RACY_LOAD(field) atomic_load_explicit(&(field), memory_order_acquire)
#define RING_FENCE(order) atomic_thread_fence(order)
#endif

#define RING_HEADER_BYTES 128u
#define RING_RECORD_BYTES 32u /* of a record's header */
#define RING_PAGE_BYTES 4096u
#define RING_PRODUCERS 128u
#define RING_INTENTS 64u
#define RING_DECLARATIONS_MAX (1ull << 30)
#define RING_POSITION_MAX (1ull << 62)
#define RING_SEALED (1ull << 63) /* in reserve.count: no more reservations */

/* Two words that change together. */
typedef struct ring_pair {
	_Alignas(16) _Atomic uint64_t position;
	_Atomic uint64_t count;
} ring_pair;

typedef struct ring_pair_value {
	uint64_t position;
	uint64_t count;
} ring_pair_value;

/* flags of the header */
#define RING_FLAG_POLICY 0x3u /* mask: esk_policy */
#define RING_FLAG_CHECKSUMS 0x4u

typedef struct ring_header {
	uint64_t magic;
	uint64_t capacity_bytes;
	_Atomic uint64_t write_head;  /* end of the newest published record; for onlookers, may lag */
	_Atomic uint64_t read_tail;   /* as trailer.tail; for onlookers */
	_Atomic uint64_t write_epoch; /* whole laps that producers have begun */
	uint32_t schema_len;          /* bytes of the blob */
	uint32_t flags;
	uint64_t stream_id;
	uint32_t version;
	uint32_t fingerprint;          /* of the layout of this file's structures */
	ring_pair reserve;             /* {head, next sequence | RING_SEALED} */
	_Atomic uint64_t lost_records; /* found lost by the drain so far */
	_Atomic uint64_t lost_bytes;
	uint64_t owner_pid; /* who made the ring */
	int64_t created_ns;
	uint64_t trailer_offset;
	uint32_t check; /* crc32c of every field here and in trailer.config that never changes */
	uint32_t zero;
} ring_header;

/* What the drain knows about the records before a position. */
typedef struct ring_account {
	_Atomic uint64_t position;
	_Atomic uint64_t published; /* published records before it; RING_UNKNOWN: start counting anew */
	_Atomic uint64_t lost_records;
	_Atomic uint64_t lost_bytes;
} ring_account;
#define RING_UNKNOWN UINT64_MAX

typedef struct ring_intent {
	_Alignas(64) _Atomic uint32_t owner; /* token; 0: the cell is free */
	uint32_t zero;
	_Atomic uint64_t place; /* 0: none; else position | 1 (positions are multiples of 8) */
	_Atomic uint64_t sequence;
	_Atomic uint64_t payload_bytes;
} ring_intent;

typedef struct ring_config {
	uint64_t block_timeout_ns;
	uint64_t boot_id;
	uint32_t blob_check;         /* crc32c of the blob */
	uint32_t consumers;          /* places for them; 0 in version 1 */
	uint64_t declarations_bytes; /* 0 in version 1 */
} ring_config;

typedef struct ring_futex {
	_Alignas(64) _Atomic uint32_t word;
	_Atomic uint32_t waiting;
} ring_futex;

typedef struct ring_trailer {
	_Alignas(64) ring_config config;
	_Alignas(64) ring_pair tail;           /* {tail, records before it that were not published} */
	ring_futex space;                      /* producers wait here for room */
	ring_futex wake;                       /* the drain waits here for work */
	_Alignas(64) ring_pair drain;          /* as a place of the table of producers */
	ring_account cursor;                   /* where the drain reads; how many it lost up to there */
	_Alignas(64) ring_account released[2]; /* at the last release: the one that released_index says */
	_Alignas(64) _Atomic uint32_t released_index;
	_Alignas(64) ring_pair
		producers[RING_PRODUCERS]; /* {pid << 32 | times taken, start time ^ boot}; pid 0: free */
	ring_intent intents[RING_INTENTS];
	unsigned char blob[ESK_RING_BLOB_BYTES];
} ring_trailer;

/* ---- the extension of a ring of version 2 ---- */

/* tail.count: skipped records below, the epoch above (invariant 9). A ring of version 1 has epoch 0. */
#define RING_SKIPPED_BITS 48u
#define RING_SKIPPED_MASK ((1ull << RING_SKIPPED_BITS) - 1)
#define RING_EPOCH (1ull << RING_SKIPPED_BITS)

typedef struct ring_extension {
	_Alignas(64) ring_pair lock;     /* of names and declarations: as a place of the table of producers */
	_Alignas(64) ring_pair declared; /* {bytes of declarations, how many} */
	ring_futex news;                 /* consumers wait here for records */
	_Alignas(64) _Atomic uint32_t asked; /* how often consumers were asked to wake */
} ring_extension;

/* A consumer's account at a position. */
typedef struct ring_progress {
	_Alignas(64) _Atomic uint64_t position;
	_Atomic uint64_t published; /* published records before it; RING_UNKNOWN */
	_Atomic uint64_t skipped;   /* records before it that were not published */
	_Atomic uint64_t lost_records;
	_Atomic uint64_t lost_bytes;
	_Atomic uint64_t mark; /* the consumer's own */
} ring_progress;

#define RING_PLACE_USED 1u
#define RING_PLACE_LOSSY 2u
#define RING_PLACE_NAME_BYTES 64u

typedef struct ring_place {
	_Alignas(64) ring_pair owner; /* as a place of the table of producers */
	_Atomic uint32_t state;       /* 0: nobody's; else RING_PLACE_USED, perhaps with RING_PLACE_LOSSY */
	uint32_t zero;
	_Atomic uint64_t first; /* least sequence that it is given; what came before is not lost */
	_Alignas(64) char name[RING_PLACE_NAME_BYTES]; /* NUL-terminated */
	_Alignas(64) ring_pair held;                   /* {released position, skipped records before it} */
	_Atomic uint32_t account_index;
	ring_progress accounts[2]; /* at the last release: the one that account_index says */
} ring_place;

typedef struct ring_declaration {
	uint32_t size_bytes;
	uint32_t check; /* crc32c of its bytes, which follow; the next one starts at a multiple of 8 */
} ring_declaration;

/* state, the two low bits of ring_record.state; the others are the owner's token */
#define RING_RESERVED 0u
#define RING_PUBLISHED 1u
#define RING_ABANDONED 2u
#define RING_STATE_MASK 3u

/* flags of a record, above its kind in kind_flags */
#define RING_RECORD_PAD 0x10000u
#define RING_RECORD_CHECKSUM 0x20000u

typedef struct ring_record {
	_Atomic uint64_t sequence; /* a pad has that of the record behind it */
	_Atomic uint32_t payload_bytes;
	_Atomic uint32_t stream;
	_Atomic uint32_t kind_flags;
	_Atomic uint32_t payload_check; /* stored before state; under RING_RECORD_CHECKSUM */
	_Atomic uint32_t
		check; /* crc32c of sequence..kind_flags, seeded; stored last, makes the header valid */
	_Atomic uint32_t state;
} ring_record;

_Static_assert(sizeof(ring_header) == RING_HEADER_BYTES, "the header is 128 bytes");
_Static_assert(sizeof(ring_record) == RING_RECORD_BYTES, "a record's header is 32 bytes");
_Static_assert(offsetof(ring_header, stream_id) == 48 && offsetof(ring_header, reserve) == 64,
	"the first 56 bytes are the drawing's; the pair is aligned");

_Static_assert(offsetof(ring_trailer, tail) == 64 && offsetof(ring_trailer, drain) == 256 &&
		       offsetof(ring_trailer, released) == 320 && offsetof(ring_trailer, producers) == 448 &&
		       offsetof(ring_trailer, intents) == 2496 && offsetof(ring_trailer, blob) == 6592 &&
		       sizeof(ring_trailer) == 7616,
	"docs/FORMAT.md says where the trailer's fields are");

_Static_assert(sizeof(ring_extension) == 256 && offsetof(ring_extension, declared) == 64 &&
		       offsetof(ring_extension, news) == 128 && offsetof(ring_extension, asked) == 192 &&
		       sizeof(ring_place) == 320 && offsetof(ring_place, name) == 64 &&
		       offsetof(ring_place, held) == 128 && offsetof(ring_place, accounts) == 192,
	"docs/FORMAT.md says where the extension's fields are");

/* Changes both words of `pair` or none. Sequentially consistent: a full barrier behind it on x86-64 (lock
 * prefix) and arm64, acquire and release elsewhere, where the callers that need more say so. */
static inline bool ring_pair_swap(ring_pair *pair, ring_pair_value expected, ring_pair_value desired)
{
	bool swapped;
	RING_TSAN_RELEASE(pair);
#if defined(__x86_64__)
	__asm__ __volatile__("lock cmpxchg16b %1"
			     : "=@ccz"(swapped), "+m"(*pair), "+a"(expected.position), "+d"(expected.count)
			     : "b"(desired.position), "c"(desired.count)
			     : "memory");
#elif defined(__aarch64__)
	/* Not what the compiler calls for this, which may take a lock: one of this process, of which neither
	 * other processes nor loads of one word know. What the first instruction reads may be of two moments,
	 * but then it was changed, and the store fails. */
	uint64_t position, count;
	uint32_t failed;
	__asm__ __volatile__(
		"1:	ldaxp	%[position], %[count], %[pair]\n"
		"	cmp	%[position], %[old_position]\n"
		"	ccmp	%[count], %[old_count], #0, eq\n"
		"	cset	%w[failed], ne\n"
		"	b.ne	2f\n"
		"	stlxp	%w[failed], %[new_position], %[new_count], %[pair]\n"
		"	cbnz	%w[failed], 1b\n"
		"	dmb	ish\n"
		"2:\n"
		: [pair] "+Q"(*pair), [position] "=&r"(position), [count] "=&r"(count), [failed] "=&r"(failed)
		: [old_position] "r"(expected.position), [old_count] "r"(expected.count),
		[new_position] "r"(desired.position), [new_count] "r"(desired.count)
		: "cc", "memory");
	swapped = failed == 0;
#else
	unsigned __int128 old = (unsigned __int128)expected.count << 64 | expected.position;
	unsigned __int128 new = (unsigned __int128)desired.count << 64 | desired.position;
	swapped = __atomic_compare_exchange_n(
		(unsigned __int128 *)pair, &old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
#endif
	if (swapped)
		RING_TSAN_ACQUIRE(pair);
	return swapped;
}

/* Both words as they were at one moment: the position only grows, so if it is the same before and after, the
 * count between goes with it. Acquire: pairs with the swap that stored it. */
static inline ring_pair_value ring_pair_load(const ring_pair *pair)
{
	ring_pair_value value;
	uint64_t again = atomic_load_explicit(&pair->position, memory_order_acquire);
	do {
		value.position = again;
		value.count = atomic_load_explicit(&pair->count, memory_order_acquire);
		again = atomic_load_explicit(&pair->position, memory_order_acquire);
	} while (again != value.position);
	return value;
}

#endif
