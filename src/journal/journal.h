/* A file that changes only by whole commits: the journalled file.
 *
 * DESIGN section 5 gives the rule: bytes below the committed end are never changed in place except by
 * applying a complete journal. Knows nothing of HDF5. The journal is `<path>-journal`; docs/FORMAT.md gives
 * its bytes.
 *
 * A commit has two halves so that recording goes on during the file synchronisation:
 *
 *   freeze  takes the overlay as it stands; writes from then on make a new overlay (reads see new, frozen,
 *           file), and the committed end for rule 1 is the frozen end from now on (while finish is under
 *           way, the larger of the old and the frozen end)
 *   finish  synchronises, journals, applies the frozen overlay; may run in another thread while reads and
 *           writes go on
 *
 * After any failed write or finish the file is failed: esk_jfile_status tells why, reads still work, writes
 * are swallowed (so that libhdf5 can close its handles in peace) and nothing on disk changes any more. The
 * owner closes it, opens it again (which recovers the last commit, or the one whose finish failed: the
 * commit number tells), and writes again what came after: it still has it in the ring.
 *
 * Thread-safety: freeze, read, write, set_end from one thread at a time; finish concurrently with them. A
 * READ handle may be read from several threads at once.
 *
 * An encrypted file (src/vault/) is read as the plain one that it was; it is sealed, and cannot be opened for
 * writing. Includes: vault, os, base. */
#ifndef ESK_JOURNAL_H
#define ESK_JOURNAL_H

#include "os/os.h"

typedef struct esk_jfile esk_jfile;

typedef enum esk_jfile_mode {
	ESK_JFILE_CREATE, /* must not exist (O_EXCL) */
	ESK_JFILE_WRITE,  /* must exist; recovers */
	ESK_JFILE_READ /* never writes; a complete journal that was not applied is read through, in memory */
} esk_jfile_mode;

typedef struct esk_jfile_recovery {
	bool journal_found; /* one that means something: not empty, not retired */
	bool applied;       /* a complete journal was applied (or is read through) */
	/* The first commit never completed. The file opens all the same, with end 0; what bytes it has count
	 * for nothing and go with the first write: the owner starts afresh. */
	bool never_committed;
	uint64_t commit; /* number of the last complete commit; 0: none known (counting starts afresh after a
			    clean close) */
	uint64_t discarded_bytes; /* of an incomplete journal */
} esk_jfile_recovery;

/* Opens. Writers take an exclusive lock on the journal file: ESK_EBUSY when another has it (also within this
 * process, and in a child that was forked and did not call esk_jfile_forget). ESK_ECORRUPT where the journal
 * is damaged, was written for another file, or the file is shorter than its last commit: nothing is changed,
 * the message says what to do. `ret_recovery` may be NULL. */
esk_status esk_jfile_open(const esk_os *os, const char *path, esk_jfile_mode mode, esk_jfile **ret_file,
	esk_jfile_recovery *ret_recovery, esk_error *err);

/* Reads exactly `size` bytes; behind the end of everything written they are zeros, and so are holes, except
 * that a hole in what a shorter commit gave up may read as it was. */
esk_status esk_jfile_read(esk_jfile *file, uint64_t offset, void *buf, size_t size, esk_error *err);
/* Rules 1 and 2. On failure the file is failed (see above). */
esk_status esk_jfile_write(esk_jfile *file, uint64_t offset, const void *buf, size_t size, esk_error *err);

/* End of what was written or committed, for H5FD get_eof. */
uint64_t esk_jfile_end(const esk_jfile *file);
/* Lowers the committed end after opening, when the owner knows (superblock) that nothing refers to bytes
 * behind it. */
void esk_jfile_set_committed_end(esk_jfile *file, uint64_t end);
/* Bytes that the overlays hold in memory. */
uint64_t esk_jfile_overlay_bytes(const esk_jfile *file);
/* ESK_OK, or why the file is failed. */
esk_status esk_jfile_status(const esk_jfile *file, esk_error *err);
/* Marks it failed by the owner's own will: roll back everything since the last commit at the next open. */
void esk_jfile_abandon(esk_jfile *file);

/* First half of a commit: `end` is the end of file that the commit has (libhdf5's end of allocation). One
 * commit at a time: finish must have returned before the next freeze. */
esk_status esk_jfile_freeze(esk_jfile *file, uint64_t end, esk_error *err);
/* Second half. ESK_OK: durable. *ret_commit (may be NULL) receives its number: one more than the last, or the
 * same where nothing had changed, which costs no system call. */
esk_status esk_jfile_finish(esk_jfile *file, uint64_t *ret_commit, esk_error *err);

/* Closes. A writer that is not failed and has nothing uncommitted truncates the file to the committed end and
 * retires and removes the journal, durably; otherwise the journal stays for recovery. NULL is allowed. Frees
 * in any case. */
esk_status esk_jfile_close(esk_jfile *file, esk_error *err);
/* In a forked child: closes the descriptors without touching the files. */
void esk_jfile_forget(esk_jfile *file);

/* For readers of a file that another handle writes: a counter that is odd while pages are being applied and
 * differs after every commit. 0 where there is no journal (nobody writes). A reader takes it before and after
 * reading metadata and reads again if it was odd or changed. In a READ handle the call also follows the
 * journal: pages that a writer is applying, or died applying, are read through from then on. */
uint64_t esk_jfile_change_counter(esk_jfile *file);

/* True if a writer holds the journal of `path` at present. */
bool esk_jfile_has_writer(const esk_os *os, const char *path);

#endif
