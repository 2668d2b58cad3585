/* What a profile needs beside the nouns: failing with a message, structs of any age, names, clocks, logging.
 *
 * A profile is a layout and calls for one domain, written on the public API alone (profiles/ has two). Calls
 * of one keep the engine's manners with these: they return an esk_status, fill the last argument, an
 * esk_error that may be NULL, and take options that begin with struct_size.
 *
 * All are safe from any thread; none allocates. */
#ifndef ESKER_PROFILE_H
#define ESKER_PROFILE_H

#include <esker/log.h>
#include <esker/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Fills `err` (if not NULL) with `code` and the formatted message, and returns `code`. The arguments may be
 * texts of `err` itself; a message that is too long is cut. */
ESK_API esk_status esk_fail(esk_error *err, esk_status code, const char *format, ...) ESK_PRINTF(3, 4);

/* As esk_fail, with ": <strerror(errnum)>" behind the message; the code follows from errnum (ENOSPC and
 * EDQUOT: ESK_ENOSPC; ENOENT and ENOTDIR: ESK_ENOTFOUND; EACCES, EPERM, EROFS: ESK_EACCES; EEXIST:
 * ESK_EEXIST; ENOMEM: ESK_ENOMEM; EWOULDBLOCK: ESK_EBUSY; else ESK_EIO). */
ESK_API esk_status esk_fail_errno(esk_error *err, int errnum, const char *format, ...) ESK_PRINTF(3, 4);

/* Puts "<prefix>: " before the message that `err` holds, and returns `status`, which the failed call had
 * returned. */
ESK_API esk_status esk_fail_in(esk_error *err, esk_status status, const char *format, ...) ESK_PRINTF(3, 4);

/* ESK_ENOMEM for `bytes` bytes wanted for `what`. */
ESK_API esk_status esk_fail_memory(esk_error *err, size_t bytes, const char *what);

/* Takes a caller's struct, which begins with its size in bytes (struct_size), over the one at `to` of
 * `to_bytes` bytes: members that a caller of another age does not have stay as they are there. */
ESK_API void esk_struct_take(void *to, size_t to_bytes, const void *from);

/* Gives the struct at `from`, of `from_bytes` bytes, to a caller whose struct begins with its size in bytes:
 * as much of it as there is room for. The caller's struct_size stays. */
ESK_API void esk_struct_give(void *ret_to, const void *from, size_t from_bytes);

/* ESK_OK if `name` may be that of a run, stream or column: 1 to 200 bytes of UTF-8 without control
 * characters,
 * '/', '\\' or ':', not starting with '.'; so it never leads out of a directory or a group. `what` says whose
 * name, for the message ("run"). Errors: ESK_EINVAL. */
ESK_API esk_status esk_name_check(const char *name, const char *what, esk_error *err);

/* The wall clock, in nanoseconds since the Unix epoch; and a clock that never steps back, in nanoseconds
 * since some moment. */
ESK_API int64_t esk_now_ns(void);
ESK_API uint64_t esk_monotonic_ns(void);

/* A time as text, UTC, NUL-terminated: "2026-11-21T06:31:00.123456Z". */
ESK_API void esk_time_format(int64_t time_ns, char ret_text[32]);

/* A callback for messages and its argument. */
typedef struct esk_logger {
	esk_log_fn fn; /* NULL: silence */
	void *arg;
} esk_logger;

/* Hands the formatted message to the callback; one that is too long is cut. `logger` may be NULL. */
ESK_API void esk_log(const esk_logger *logger, esk_log_level level, const char *format, ...) ESK_PRINTF(3, 4);

#ifdef __cplusplus
}
#endif
#endif
