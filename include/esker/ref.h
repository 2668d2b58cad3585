/* Refs: h5://{run}/{dataset path}[/{index}|/{start}:{stop}]
 *
 * A name with characters that a URI reserves is percent-encoded. The last part is an index when it is all
 * digits, a range when it is digits ':' digits; else it belongs to the dataset path and the ref means the
 * whole dataset. A dataset whose own last name is all digits is written with a percent escape for its first
 * digit. The dataset path is a full HDF5 path ("imu/acc"), or a column name that one stream alone has. */
#ifndef ESKER_REF_H
#define ESKER_REF_H

#include <esker/column.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ESK_MAX_PATH 1023 /* bytes in a dataset path */

typedef enum esk_ref_kind { ESK_REF_WHOLE = 0, ESK_REF_INDEX = 1, ESK_REF_RANGE = 2 } esk_ref_kind;

typedef struct esk_ref {
	char run[ESK_MAX_NAME + 1];
	char path[ESK_MAX_PATH + 1]; /* decoded, no leading '/' */
	esk_ref_kind kind;
	uint64_t start; /* the index, or the first row of a range */
	uint64_t stop;  /* one behind the last row of a range; start + 1 for an index */
} esk_ref;

/* Parses `text`. Errors: ESK_EINVAL names the position. *ret_ref is untouched on failure. Thread-safe. */
ESK_API esk_status esk_ref_parse(const char *text, esk_ref *ret_ref, esk_error *err);

/* Writes `ref` as text into `buf` of `buf_bytes` (always NUL-terminated when buf_bytes > 0); returns the
 * length that it has or would have. Parsing the text gives the same ref. Thread-safe. */
ESK_API size_t esk_ref_format(const esk_ref *ref, char *buf, size_t buf_bytes);

#ifdef __cplusplus
}
#endif
#endif
