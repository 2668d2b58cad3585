/* Failing with a message, and options of any age: see internal.h. */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void put_message(esk_error *err, esk_status code, const char *format, va_list args)
{
	err->code = code;
	vsnprintf(err->message, sizeof err->message, format, args);
}

esk_status esk_daq_fail(esk_error *err, esk_status code, const char *format, ...)
{
	if (err == NULL)
		return code;
	va_list args;
	va_start(args, format);
	put_message(err, code, format, args);
	va_end(args);
	return code;
}

static esk_status status_of_errno(int errnum)
{
	switch (errnum) {
	case ENOSPC:
	case EDQUOT:
		return ESK_ENOSPC;
	case ENOENT:
		return ESK_ENOTFOUND;
	case EACCES:
	case EPERM:
	case EROFS:
		return ESK_EACCES;
	case EEXIST:
		return ESK_EEXIST;
	case ENOMEM:
		return ESK_ENOMEM;
	default:
		return ESK_EIO;
	}
}

esk_status esk_daq_fail_errno(esk_error *err, int errnum, const char *format, ...)
{
	esk_status status = status_of_errno(errnum);
	if (err == NULL)
		return status;
	va_list args;
	va_start(args, format);
	put_message(err, status, format, args);
	va_end(args);
	size_t used = strlen(err->message);
	snprintf(err->message + used, sizeof err->message - used, ": %s", strerror(errnum));
	return status;
}

esk_status esk_daq_fail_memory(esk_error *err, size_t bytes, const char *what)
{
	return esk_daq_fail(err, ESK_ENOMEM, "out of memory: %zu bytes for %s", bytes, what);
}

esk_status esk_daq_fail_in(esk_error *err, esk_status status, const char *format, ...)
{
	if (err == NULL)
		return status;
	esk_error inner = *err;
	va_list args;
	va_start(args, format);
	put_message(err, status, format, args);
	va_end(args);
	size_t used = strlen(err->message);
	snprintf(err->message + used, sizeof err->message - used, ": %s", inner.message);
	return status;
}

void esk_daq_take_struct(void *to, size_t to_bytes, const void *from)
{
	size_t from_bytes;
	memcpy(&from_bytes, from, sizeof from_bytes);
	memset(to, 0, to_bytes);
	memcpy(to, from, from_bytes < to_bytes ? from_bytes : to_bytes);
}
