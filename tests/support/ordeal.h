/* What a recording must come through: it is killed, its disk is full, its ring is damaged. A test says what
 * it records and how it looks at that afterwards; how one dies is said here, once. */
#ifndef ESK_TESTS_ORDEAL_H
#define ESK_TESTS_ORDEAL_H

#include "support/fault_os.h"
#include "unit/recording_place.h"

#include <stdatomic.h>

/* ---- death ---- */

/* Runs in a child: an assertion that fails there ends it, and fails the test. `shared` is memory that all of
 * them and the test's process have in common; it begins with `_Atomic int64_t acknowledged`. */
typedef void ordeal_part(const char *store, void *shared);

typedef struct ordeal {
	ordeal_part *live;   /* records until it is killed, and counts up what was acknowledged */
	ordeal_part *look;   /* finds that, by another process */
	size_t shared_bytes; /* 0: what was acknowledged is all that is shared */
	int64_t most;        /* that is acknowledged in each life, before it lives on; at least one */
	unsigned most_ms;    /* that it lives on */
	bool dies_young;     /* every third dies at any moment: also while it opens what was left to it */
} ordeal;

/* So many lives and deaths in a new store, by the test's seed. Threads do not survive a fork: a test that
 * uses this comes before those that leave some behind. */
void ordeal_run(test_dir *dir, const ordeal *o, uint64_t kills);
/* For `look`: fails unless all that was acknowledged was found, and at most the one call beside that death
 * was quicker than. From then on what was found counts as acknowledged. */
void ordeal_found(_Atomic int64_t *acknowledged, int64_t found);

/* ---- a full disk ---- */

/* A new store as place_make's, on a disk that can be full. */
place ordeal_place_make(test_dir *dir, esk_fault **ret_fault);
/* A commit finds room for `bytes`, and fails. */
void ordeal_commit_without_room(esk_run *run, esk_fault *fault, uint64_t bytes);
/* There is room again, and a commit succeeds. */
void ordeal_commit_with_room(esk_run *run, esk_fault *fault);
/* Closes the store and opens it again on an operating system that does not fail. */
void ordeal_place_end(place *p, esk_fault *fault);

/* ---- a damaged ring ---- */

/* The ring of the run "run", mapped, to be damaged where it lies; given back by munmap. */
unsigned char *ordeal_map_ring(const place *p, size_t *ret_bytes);

#endif
