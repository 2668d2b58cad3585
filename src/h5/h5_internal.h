/* What the files of this folder share. libhdf5 is called under one process-wide lock, in calls that begin
 * with esk_h5_enter() (or esk_h5_lock()) and end with esk_h5_leave() (esk_h5_unlock()).
 *
 *     file.c       open, close, commit, abandon            driver.c   the H5FD class over esk_jfile
 *     lock.c       the lock, fork, libhdf5's errors        type.c     dtypes <-> HDF5 types
 *     dataset.c    create, write, extend                   inspect.c  esk_h5_info of any dataset
 *     attribute.c  attributes                              tree.c     groups, paths, delete, visit
 *     read*.c      reading
 *
 * Invariants
 *   1. No libhdf5 call without the lock; no call out of this folder (visitors, the pool) and no waiting for
 *      other threads with it. It is not recursive. journal's locks are taken inside it, never the other way
 *      round.
 *   2. The file's esk_jfile belongs to the esk_h5; the driver borrows it. It outlives every id of libhdf5 on
 *      the file.
 *   3. A handle that a fork brought into a child never writes: the driver swallows its writes (driver.c),
 *      mutators fail.
 *   4. A reading handle is of one commit: libhdf5 reads metadata lazily, so every call that may do so
 *      checks that no commit was applied since the handle was opened, before (enter) and after (leave),
 *      and fails with ESK_EBUSY where one was. */
#ifndef ESK_H5_INTERNAL_H
#define ESK_H5_INTERNAL_H

#include "h5/h5.h"
#include <hdf5.h>

struct esk_h5_chunk_cache; /* read_internal.h: per dataset */
struct esk_h5_reader;      /* read_internal.h: per file */
struct esk_h5_kept;        /* item.c: per file */

typedef struct esk_h5_link esk_h5_link; /* driver.c */

#define ESK_H5_BUCKETS 512

/* Tells two states of a file apart: the journal's change counter, and where there is no journal (nobody
 * writes) what the file system knows, for writers may have come and gone since. */
typedef struct esk_h5_stamp {
	uint64_t counter;
	uint64_t inode;
	uint64_t size_bytes;
	int64_t modified_ns;
} esk_h5_stamp;

struct esk_h5 {
	const esk_os *os;
	char *path;
	bool writable;
	bool changed; /* the owner's thread: something may have been changed since the last commit began */
	esk_jfile *jfile;
	esk_h5_link *link;
	hid_t id;              /* H5I_INVALID_HID once closed */
	uint64_t fork_count;   /* esk_os_fork_count() at opening */
	esk_h5_stamp stamp;    /* readers: at opening */
	uint64_t base_address; /* size of the user block: what libhdf5's addresses count from */
	esk_h5_dataset *buckets[ESK_H5_BUCKETS]; /* by hash of the path */
	esk_h5_dataset *removed;                 /* deleted; their handles stay valid memory */
	struct esk_h5_kept *kept;                /* NULL until there is an item; item.c's */
	struct esk_h5_reader *reader; /* made at opening, destroyed at closing; its content is read_*.c's */
};

struct esk_h5_dataset {
	esk_h5 *file;
	esk_h5_dataset *next;
	hid_t id;          /* H5I_INVALID_HID once deleted */
	hid_t memory_type; /* native type of one element in memory; H5I_INVALID_HID where info.readable is
			      false */
	esk_h5_info info;
	struct esk_h5_chunk_cache *chunk_cache; /* NULL at first; read_*.c's, under the lock */
};

/* Added to the addresses that H5Dget_chunk_info* give, to have offsets in the file: these calls left out the
 * user block before 1.14.4. H5Dget_offset always has it in. */
#if H5_VERSION_GE(1, 14, 4)
#define ESK_H5_CHUNK_BASE(file) ((uint64_t)0)
#else
#define ESK_H5_CHUNK_BASE(file) ((file)->base_address)
#endif

/* What has other names from 1.12 on. */
#if H5_VERSION_GE(1, 12, 0)
#define ESK_H5_RECLAIM H5Treclaim
#define ESK_H5_VISIT(id, visit, arg) H5Ovisit3(id, H5_INDEX_NAME, H5_ITER_NATIVE, visit, arg, H5O_INFO_BASIC)
typedef H5O_info2_t esk_h5_object_info;
#else
#define ESK_H5_RECLAIM H5Dvlen_reclaim
#define ESK_H5_VISIT(id, visit, arg) H5Ovisit2(id, H5_INDEX_NAME, H5_ITER_NATIVE, visit, arg, H5O_INFO_BASIC)
typedef H5O_info_t esk_h5_object_info;
#endif

/* ---- lock.c ---- */
/* The lock, libhdf5 initialised, its automatic error printing off, its error stack empty. */
void esk_h5_lock(void);
void esk_h5_unlock(void);
/* esk_h5_lock, and ESK_EBUSY (unlocked again) if `file` is a reading handle that is stale. */
esk_status esk_h5_enter(esk_h5 *file, esk_error *err);
/* esk_h5_unlock, and where `status` is ESK_OK, ESK_EBUSY if `file` is a reading handle that became stale
 * meanwhile, else `status`. A failure on a handle that became stale is turned into ESK_EBUSY too: what failed
 * was a mixture. */
esk_status esk_h5_leave(esk_h5 *file, esk_status status, esk_error *err);
esk_h5_stamp esk_h5_stamp_take(const esk_h5 *file);
bool esk_h5_stamp_differs(const esk_h5_stamp *then, const esk_h5_stamp *now);
/* ESK_EBUSY with its message. */
esk_status esk_h5_fail_stale(esk_h5 *file, esk_error *err);
/* Fills `err` with "<format>: <what libhdf5's error stack says, innermost>", and returns `code`; where the
 * driver failed during this call (a read error, memory), its code and message stand instead. Under the lock.
 */
esk_status esk_h5_fail(esk_error *err, esk_status code, const char *format, ...) ESK_PRINTF(3, 4);
/* Closes any id but a file's; negative ids are allowed. Every call of libhdf5 empties its error stack: what
 * it says is kept first, for esk_h5_fail. Under the lock. */
void esk_h5_drop(hid_t id);

/* ---- driver.c ---- */
/* What ties an open file of libhdf5 to its journalled file. Counted: the esk_h5 holds one, each driver file
 * one. */
esk_h5_link *esk_h5_link_create(const esk_os *os, const char *path, esk_jfile *jfile); /* NULL: no memory */
/* The owner lets go: whatever libhdf5 still does through it from now on reads nothing and writes nothing. */
void esk_h5_link_release(esk_h5_link *link); /* NULL is allowed */
/* A new file access property list with the driver on `link`; negative on failure. With `bounded`, for
 * writing: formats between EARLIEST and V18. Under the lock. */
hid_t esk_h5_link_fapl(esk_h5_link *link, bool bounded);
/* From now on writes that would change nothing are left out: closing a file, libhdf5 writes its header again
 * in any case, and a file that was committed whole must not be taken for changed. Under the lock. */
void esk_h5_link_close_begins(esk_h5_link *link);
/* End of allocation, as an offset in the file. */
uint64_t esk_h5_link_eoa(const esk_h5_link *link);
/* The first error that a callback of the driver met since `clear`, or NULL. Under the lock. */
const esk_error *esk_h5_driver_error(void);
void esk_h5_driver_clear_error(void);
/* Between the two, reads of raw data are not done but noted: this is how read_locate.c learns where a chunk
 * is. `end` is false if there was none; else where and how long the last one is, as an offset in the file. */
void esk_h5_driver_probe_begin(void);
bool esk_h5_driver_probe_end(uint64_t *ret_address, uint64_t *ret_size);
/* Between the two, the first read of a node of a B-tree is noted: this is how read_stored.c learns where an
 * index begins. `end` is false if there was none; else its offset in the file. */
void esk_h5_driver_tree_begin(void);
bool esk_h5_driver_tree_end(uint64_t *ret_address);

/* ---- type.c ---- */
/* A new HDF5 type of one element of `dtype`, as it is in the file and in memory alike; negative on failure.
 */
hid_t esk_h5_type_make(esk_dtype dtype);
/* The dtype that elements of HDF5 type `type` have in Esker, and their type in memory (new; close it). False
 * where there is none. *ret_same is true if the bytes in the file are those in memory. */
bool esk_h5_type_read(hid_t type, esk_dtype *ret_dtype, hid_t *ret_memory_type, bool *ret_same);

/* ---- inspect.c ---- */
/* Fills info and memory_type of `dataset`, whose id and file are set. */
esk_status esk_h5_inspect(esk_h5_dataset *dataset, const char *path, esk_error *err);
void esk_h5_info_free(esk_h5_info *info);

/* ---- tree.c ---- */
#define ESK_H5_PATH_BYTES 4096
/* Checks a path from outside and writes it without '/' at either end into `ret_path` ("" is the root). With
 * `strict`, for what will be created: no control characters either. */
esk_status esk_h5_path_check(const char *path, bool strict, char ret_path[ESK_H5_PATH_BYTES], esk_error *err);
/* Under the lock: true if every link of the checked `path` leads somewhere. */
bool esk_h5_path_exists(esk_h5 *file, const char *path);
bool esk_h5_is_ascii(const char *text);
/* Under the lock: properties for the links that make `path`: groups above are made. Negative on failure. */
hid_t esk_h5_link_properties(const char *path);

/* Under the lock, after libhdf5 refused to create `what` at `path`: ESK_EEXIST where a dataset stands in its
 * way, else what libhdf5 says. */
esk_status esk_h5_fail_create(esk_h5 *file, const char *what, const char *path, esk_error *err);

/* ---- attribute.c ---- */
/* Under the lock: as esk_h5_set_text and esk_h5_get_text, of an open object; `what` is its path for messages.
 */
esk_status esk_h5_text_write(
	hid_t object, const char *what, const char *name, const char *text, esk_error *err);
esk_status esk_h5_text_read(
	hid_t object, const char *what, const char *name, char **ret_text, esk_error *err);

/* ---- file.c ---- */
/* ESK_OK if `file` may be changed (a writing handle of this process that has not failed), which is noted. */
esk_status esk_h5_begin_change(esk_h5 *file, esk_error *err);

/* ---- dataset.c ---- */
void esk_h5_dataset_free(esk_h5_dataset *dataset); /* under the lock */
herr_t esk_h5_set_filters(hid_t plist, const esk_pipeline *pipeline);
/* Attributes `units` and `long_name` of an open dataset; `path` is for messages. */
esk_status esk_h5_write_labels(hid_t id, const char *path, const esk_column *column, esk_error *err);

/* ---- join.c ---- */
/* Under the lock: raises the upper bound of the file's format for a virtual dataset, and lowers it again. */
herr_t esk_h5_allow_virtual(esk_h5 *file, bool allow);

/* ---- item.c ---- */
void esk_h5_kept_destroy(struct esk_h5_kept *kept); /* under the lock; NULL is allowed */

/* ---- read_cache.c ---- */
struct esk_h5_reader *esk_h5_reader_create(void);                  /* NULL when memory runs out */
void esk_h5_reader_destroy(struct esk_h5_reader *reader);          /* NULL is allowed */
void esk_h5_chunk_cache_destroy(struct esk_h5_chunk_cache *cache); /* NULL is allowed */

#endif
