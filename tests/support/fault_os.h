/* An operating system that fails on purpose: an esk_os table over real files in a real directory.
 *
 * Everything that goes through the table happens to the real files at once, so that stock tools can open
 * them; beside that the double remembers, per file, the image as of its last synchronisation and what was
 * written since, and per directory which names were made, renamed or removed since its last sync_dir. So it
 * can
 *
 * - fail the k-th call (esk_fault_fail_at) with any errno, once or from then on. A write may be cut short
 *   first. A synchronisation that fails loses what it should have written, by seed, and a later one that
 *   succeeds does not bring it back: that is what Linux does;
 * - run out of space (esk_fault_set_space);
 * - return short counts and EINTR (esk_fault_set_hiccups);
 * - cut the power (esk_fault_cut_at, esk_fault_cut): from that call on everything fails with EIO. The test
 *   drops the handles of the code under test, and esk_fault_reboot puts in place what a disk might hold:
 *   each write, truncation, creation, rename and removal that was not synchronised is kept or dropped on its
 *   own, writes also torn at 512-byte sectors, by seed. Locks are gone, boot_id is another, files under a
 *   volatile prefix are gone.
 *
 * Use:
 *
 *     esk_fault *fault = esk_fault_new(seed);
 *     esk_fault_cut_at(fault, 17);
 *     ... run the code under test on esk_fault_os(fault); it meets EIO; close its handles ...
 *     esk_fault_reboot(fault);
 *     ... open again on esk_fault_os(fault) and look ...
 *     esk_fault_free(fault);
 *
 * What it does not see: stores through a mapping (declare rings volatile), and writes past the table to a
 * file that is open through it; after esk_fault_reboot nothing is open, and files may be changed by anyone.
 * A name becomes durable by sync_dir of its directory only, never by sync of the file.
 * Thread-safe, one call at a time. Calls are counted but for close, lock and boot_id. */
#ifndef ESK_TESTS_FAULT_OS_H
#define ESK_TESTS_FAULT_OS_H

#include "os/os.h"

typedef struct esk_fault esk_fault;

/* Aborts the test when memory runs out, as all of the double does. */
esk_fault *esk_fault_new(uint64_t seed);
/* Frees; the files stay as they are at present. */
void esk_fault_free(esk_fault *fault);
/* Borrowed until esk_fault_free. */
const esk_os *esk_fault_os(esk_fault *fault);

/* Calls counted since the last esk_fault_new, esk_fault_clear or esk_fault_reboot. */
uint64_t esk_fault_calls(const esk_fault *fault);
/* The call with number `call` (from 1; 0: none) fails with `errnum`; with `sticky` every later one as well.
 */
void esk_fault_fail_at(esk_fault *fault, uint64_t call, int errnum, bool sticky);
/* The power fails during the call with number `call` (0: not). */
void esk_fault_cut_at(esk_fault *fault, uint64_t call);
/* This many of a hundred reads and writes come back short or with EINTR. */
void esk_fault_set_hiccups(esk_fault *fault, uint32_t percent);
/* Bytes by which files may still grow; UINT64_MAX: no limit. */
void esk_fault_set_space(esk_fault *fault, uint64_t bytes);
/* Takes back every plan (not what was lost) and counts calls from 0 again. */
void esk_fault_clear(esk_fault *fault);

/* The power fails now. */
void esk_fault_cut(esk_fault *fault);
bool esk_fault_is_cut(const esk_fault *fault);
/* Cuts the power if it was not, and starts again on what the disk holds. Descriptors that were left open are
 * harmless: they may still be closed. */
void esk_fault_reboot(esk_fault *fault);
/* Files whose path begins with `prefix` (an absolute path) live in memory: they are gone after a power cut.
 */
void esk_fault_set_volatile(esk_fault *fault, const char *prefix);

#endif
