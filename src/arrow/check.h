/* Checks of arrays: of those that were decoded, whose buffers have known sizes, and of those from callers.
 *
 * A check looks at one array and relies on its children having been checked. May include: base. */
#ifndef ESK_ARROW_CHECK_H
#define ESK_ARROW_CHECK_H

#include "arrow/schema.h"

/* The way down to an array, for messages. */
typedef struct esk_arrow_path {
	const struct esk_arrow_path *up;
	const char *name;
} esk_arrow_path;

/* What is being checked, for messages: "Arrow message 3 (record batch) at byte 1024". */
typedef struct esk_arrow_subject {
	esk_status code;  /* of what is wrong: ESK_ECORRUPT in messages, ESK_EINVAL in arrays from callers */
	const char *kind; /* "record batch"; NULL: an array from a caller */
	uint64_t number;
	uint64_t at_byte;
	uint64_t most_rows; /* no array is longer */
} esk_arrow_subject;

/* Fails with the subject and the path before the message. */
esk_status esk_arrow_wrong(const esk_arrow_subject *subject, const esk_arrow_path *path, esk_status code,
	esk_error *err, const char *format, ...) ESK_PRINTF(5, 6);

#define ESK_ARROW_SIZE_UNKNOWN UINT64_MAX

/* Checks `array` as one of `node`; `sizes` has the bytes of each buffer, or is NULL where they are not
 * known. The array's children and dictionary must be sound. */
esk_status esk_arrow_check(const esk_arrow_subject *subject, const esk_arrow_path *path,
	const esk_arrow_node *node, const struct ArrowArray *array, const uint64_t *sizes, esk_error *err);

#endif
