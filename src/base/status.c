/* Failing with a message, names for status codes, structs of any age. */
#include "base/base.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	const char *text;
} statuses[] = {
	[ESK_OK] = {"ok", "no error"},
	[ESK_EINVAL] = {"einval", "an argument is malformed"},
	[ESK_ENOMEM] = {"enomem", "out of memory"},
	[ESK_EIO] = {"eio", "reading, writing or synchronising a file failed"},
	[ESK_ENOSPC] = {"enospc", "no space left on the file system"},
	[ESK_ENOTFOUND] = {"enotfound", "no such thing"},
	[ESK_EEXIST] = {"eexist", "the name is taken"},
	[ESK_EBUSY] = {"ebusy", "in use by another writer"},
	[ESK_ECLOSED] = {"eclosed", "the handle was closed"},
	[ESK_ETYPE] = {"etype", "the dtype is not the column's"},
	[ESK_ESHAPE] = {"eshape", "the shape or size is not the column's"},
	[ESK_ERANGE] = {"erange", "outside what exists or fits"},
	[ESK_ECORRUPT] = {"ecorrupt", "damaged bytes"},
	[ESK_EVERSION] = {"eversion", "written by a version that is not known here"},
	[ESK_EFULL] = {"efull", "the ring is full"},
	[ESK_ETIMEDOUT] = {"etimedout", "the ring stayed full longer than its time limit"},
	[ESK_EUNSUPPORTED] = {"eunsupported", "not offered by this build or file"},
	[ESK_EACCES] = {"eacces", "permission denied"},
	[ESK_EINTERNAL] = {"einternal", "a fault in Esker itself"},
};

const char *esk_status_name(esk_status status)
{
	return (size_t)status < sizeof statuses / sizeof *statuses ? statuses[status].name : "unknown";
}

const char *esk_status_text(esk_status status)
{
	return (size_t)status < sizeof statuses / sizeof *statuses ? statuses[status].text : "unknown status";
}

esk_status esk_fail(esk_error *err, esk_status code, const char *format, ...)
{
	if (err == NULL)
		return code;
	/* The arguments may point into err->message itself. */
	char message[sizeof err->message];
	va_list args;
	va_start(args, format);
	vsnprintf(message, sizeof message, format, args);
	va_end(args);
	err->code = code;
	memcpy(err->message, message, sizeof message);
	return code;
}

esk_status esk_status_of_errno(int errnum)
{
	switch (errnum) {
	case ENOSPC:
	case EDQUOT:
		return ESK_ENOSPC;
	case ENOENT:
	case ENOTDIR:
		return ESK_ENOTFOUND;
	case EACCES:
	case EPERM:
	case EROFS:
		return ESK_EACCES;
	case EEXIST:
		return ESK_EEXIST;
	case ENOMEM:
		return ESK_ENOMEM;
	case EWOULDBLOCK:
		return ESK_EBUSY;
	default:
		return ESK_EIO;
	}
}

esk_status esk_fail_errno(esk_error *err, int errnum, const char *format, ...)
{
	char message[sizeof err->message];
	va_list args;
	va_start(args, format);
	vsnprintf(message, sizeof message, format, args);
	va_end(args);
	return esk_fail(err, esk_status_of_errno(errnum), "%s: %s", message, strerror(errnum));
}

esk_status esk_fail_in(esk_error *err, esk_status status, const char *format, ...)
{
	if (err == NULL)
		return status;
	char prefix[sizeof err->message];
	va_list args;
	va_start(args, format);
	vsnprintf(prefix, sizeof prefix, format, args);
	va_end(args);
	return esk_fail(err, status, "%s: %s", prefix, err->message);
}

esk_status esk_fail_memory(esk_error *err, size_t bytes, const char *what)
{
	return esk_fail(err, ESK_ENOMEM, "out of memory: %zu bytes for %s", bytes, what);
}

void esk_struct_take(void *to, size_t to_bytes, const void *from)
{
	size_t from_bytes;
	memcpy(&from_bytes, from, sizeof from_bytes);
	memcpy(to, from, from_bytes < to_bytes ? from_bytes : to_bytes);
}

void esk_struct_give(void *ret_to, const void *from, size_t from_bytes)
{
	size_t to_bytes;
	memcpy(&to_bytes, ret_to, sizeof to_bytes);
	if (to_bytes <= sizeof to_bytes)
		return;
	size_t bytes = to_bytes < from_bytes ? to_bytes : from_bytes;
	memcpy((char *)ret_to + sizeof to_bytes, (const char *)from + sizeof to_bytes,
		bytes - sizeof to_bytes);
}
