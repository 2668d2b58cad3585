/* The handle of a journalled file, shared by journal.c (reading, writing, committing) and open.c (opening,
 * recovery, closing). Which thread may touch what is said per field; journal.c has the invariants. May
 * include: base, os. */
#ifndef ESK_JOURNAL_INTERNAL_H
#define ESK_JOURNAL_INTERNAL_H

#include "journal/journal.h"
#include "journal/record.h"
#include "vault/vault.h"
#include <pthread.h>

struct esk_jfile {
	const esk_os *os;
	esk_jfile_mode mode;
	char *path;
	char *journal_path;
	int fd;
	int journal_fd;   /* -1: a reader found none */
	esk_vault *vault; /* a reader of an encrypted file: its bytes come from here; else NULL */

	/* The owner's thread. */
	esk_overlay *active;
	uint64_t end;       /* of everything written or committed */
	uint64_t file_size; /* of the file on disk; applying a journal never changes it */
	bool dirty;         /* something was written since the last freeze */

	/* The owner's thread, and between freeze and finish the committing thread only. */
	uint64_t session;
	uint64_t inode;
	uint32_t generation;    /* of the newest header in the journal */
	uint64_t commit;        /* the last one that is complete */
	uint64_t committed_end; /* its end */
	uint64_t frozen_end;    /* end of the commit in progress */
	bool never_committed;
	bool nothing_to_commit; /* what was frozen changes nothing */
	bool file_unsynced;     /* the file was written since it was last synchronised */
	uint64_t record_at;     /* where the last record lies in the journal; 0: none in this session */
	uint64_t record_end;
	esk_record record; /* kept for its memory */

	/* Any thread, under `lock`. */
	pthread_mutex_t lock;
	esk_overlay *frozen; /* NULL: none; its pages are not changed while it is here. A reader's journal is
				here too */
	uint64_t straight_from; /* rule 1: writes from here on go to the file at once */
	uint64_t counter;       /* the change counter as last written, or as a reader last saw it */
	bool committing;        /* between freeze and finish */
	esk_status status;
	esk_error failure; /* why, once status is not ESK_OK */

	esk_overlay overlays[2];
};

/* The even number that a counter leads to when nobody applies pages any more. */
static inline uint64_t esk_journal_counter_rest(uint64_t counter)
{
	return (counter + 1) & ~UINT64_C(1);
}

/* The inode that a path has now; 0 if there is none. */
uint64_t esk_journal_inode_at(const char *path);
uint64_t esk_journal_inode_of(int fd);

/* Reads again what the journal of a READ handle says: committed end, counter, and the pages of a commit that
 * is being applied. The caller holds `lock`. ESK_EBUSY: its writer was rewriting it all the while. */
esk_status esk_jfile_refresh(esk_jfile *file, esk_error *err);

#endif
