/* Plain HDF5 files: groups, attributes and arrays in a layout of the caller's, for programs that want their
 * own.
 *
 * What is recorded goes through stores and runs (store.h), which survive crashes; this is for exports. The
 * file is whole and on the disk when esk_plain_close returns; until then it is of no use, and discarding it
 * leaves nothing.
 *
 * A handle is for one thread at a time. Arrays are compressed on every core. */
#ifndef ESKER_PLAIN_H
#define ESKER_PLAIN_H

#include <esker/column.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct esk_plain esk_plain;

/* Makes the file `path`, which must not exist. The caller owns *ret_file: close or discard it.
 * Errors: ESK_EEXIST, ESK_EIO, ESK_EACCES, ESK_ENOSPC, ESK_ENOMEM. */
ESK_API esk_status esk_plain_create(const char *path, esk_plain **ret_file, esk_error *err);

/* Makes a group and those above it; one that is there is success. Errors: ESK_EINVAL (the path), ESK_EEXIST
 * (an array has the name), ESK_EIO, ESK_ENOSPC. */
ESK_API esk_status esk_plain_group(esk_plain *file, const char *path, esk_error *err);

/* Sets an attribute of a group or array, "/" for the root: a UTF-8 text, or an integer of 64 bits. Errors:
 * ESK_EINVAL (the path), ESK_ENOTFOUND (the object), ESK_EIO, ESK_ENOSPC. */
ESK_API esk_status esk_plain_set_text(
	esk_plain *file, const char *object, const char *name, const char *text, esk_error *err);
ESK_API esk_status esk_plain_set_integer(
	esk_plain *file, const char *object, const char *name, int64_t value, esk_error *err);

/* Begins an array at `path` (groups above it are made): rows of `column`, whose name is not looked at, and
 * whose `nullable` must be false. It ends what was begun before. Errors: ESK_EINVAL (path, column, codec),
 * ESK_EEXIST, ESK_EIO, ESK_ENOSPC, ESK_ENOMEM. */
ESK_API esk_status esk_plain_begin(
	esk_plain *file, const char *path, const esk_column *column, esk_error *err);

/* Appends `rows` rows to the array that was begun: C-contiguous cells, for ESK_STRING esk_strings. They are
 * copied. Errors: ESK_EINVAL where none was begun; ESK_EIO, ESK_ENOSPC, ESK_ENOMEM. */
ESK_API esk_status esk_plain_append(esk_plain *file, const void *cells, uint64_t rows, esk_error *err);

/* Ends the array: its last rows are written. Nothing where none was begun. Errors: ESK_EIO, ESK_ENOSPC,
 * ESK_ENOMEM. */
ESK_API esk_status esk_plain_end(esk_plain *file, esk_error *err);

/* Ends the array, writes everything to the disk and frees the handle. On failure the file is removed. NULL is
 * allowed. Errors: ESK_EIO, ESK_ENOSPC. */
ESK_API esk_status esk_plain_close(esk_plain *file, esk_error *err);

/* Frees the handle and removes the file. NULL is allowed. */
ESK_API void esk_plain_discard(esk_plain *file);

#ifdef __cplusplus
}
#endif
#endif
