/* Status codes and the error object.
 *
 * Every call that can fail returns an esk_status and takes, last, an `esk_error *` that may be NULL. On
 * failure the object holds the code and one message that names the object, the cause and the way out;
 * on success it is untouched. The caller owns it; nothing in it needs freeing. An error object is for one
 * thread at a time; the calls here are safe from any. */
#ifndef ESKER_STATUS_H
#define ESKER_STATUS_H

#include <esker/export.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum esk_status {
	ESK_OK = 0,
	ESK_EINVAL = 1,        /* an argument is malformed: a bad name, spec, option */
	ESK_ENOMEM = 2,        /* memory could not be had */
	ESK_EIO = 3,           /* the operating system reported a failed read, write or synchronisation */
	ESK_ENOSPC = 4,        /* no space left on the file system */
	ESK_ENOTFOUND = 5,     /* no such store, run, stream, column, row */
	ESK_EEXIST = 6,        /* the name is taken */
	ESK_EBUSY = 7,         /* another process holds it for writing */
	ESK_ECLOSED = 8,       /* the handle was closed */
	ESK_ETYPE = 9,         /* the dtype is not the column's */
	ESK_ESHAPE = 10,       /* the shape or size is not the column's */
	ESK_ERANGE = 11,       /* an index, range or number is outside what exists or fits */
	ESK_ECORRUPT = 12,     /* bytes on disk or in shared memory are not what they must be */
	ESK_EVERSION = 13,     /* written by a version that this one does not know */
	ESK_EFULL = 14,        /* the ring is full and its policy is to reject */
	ESK_ETIMEDOUT = 15,    /* the ring stayed full longer than its time limit */
	ESK_EUNSUPPORTED = 16, /* valid, but not offered by this build or file */
	ESK_EACCES = 17,       /* permission denied */
	ESK_EINTERNAL = 18,    /* a fault in Esker itself: please report it */
} esk_status;

typedef struct esk_error {
	esk_status code;
	char message[508];
} esk_error;

/* The constant's name without prefix, lower case: "enospc". Static storage; never NULL. */
ESK_API const char *esk_status_name(esk_status status);

/* One plain sentence for `status`: "no space left on the file system". Static storage; never NULL. */
ESK_API const char *esk_status_text(esk_status status);

#ifdef __cplusplus
}
#endif
#endif
