/* What every file of the instruments' profile uses: failing with a message, options of any age. The profile
 * is written on the public API alone. */
#ifndef ESK_DAQ_INTERNAL_H
#define ESK_DAQ_INTERNAL_H

#include <esker/status.h>
#include <stdarg.h>

/* Fills `err` (if not NULL) and returns `code`. */
esk_status esk_daq_fail(esk_error *err, esk_status code, const char *format, ...) ESK_PRINTF(3, 4);

/* As esk_daq_fail, with ": <strerror(errnum)>" behind the message; the code follows from errnum. */
esk_status esk_daq_fail_errno(esk_error *err, int errnum, const char *format, ...) ESK_PRINTF(3, 4);

esk_status esk_daq_fail_memory(esk_error *err, size_t bytes, const char *what);

/* Puts "<prefix>: " before the message that `err` holds, and returns `status`, which the failed call had
 * returned. */
esk_status esk_daq_fail_in(esk_error *err, esk_status status, const char *format, ...) ESK_PRINTF(3, 4);

/* Copies a caller's struct that begins with its size: what it does not have yet stays zero. */
void esk_daq_take_struct(void *to, size_t to_bytes, const void *from);

#endif
