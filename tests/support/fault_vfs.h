/* SQLite on the fault-injecting operating system.
 *
 * A VFS that goes around SQLite's own for unix: reading, writing, truncating, synchronising, making and
 * removing files goes through the esk_fault table, so that it is counted, fails, and is lost at a power cut
 * as everything else; locks and the shared memory of the WAL stay with SQLite's own (one process only: the
 * shared memory file is gone after a power cut). Not for memory-mapped databases (PRAGMA mmap_size is
 * refused). */
#ifndef ESK_TESTS_FAULT_VFS_H
#define ESK_TESTS_FAULT_VFS_H

#include "support/fault_os.h"

/* Registers it as SQLite's default VFS; every database opened until esk_fault_vfs_remove uses it. One at a
 * time. */
void esk_fault_vfs_install(esk_fault *fault);
/* Every database must be closed. SQLite's own VFS is the default again. */
void esk_fault_vfs_remove(void);

#endif
