/* The library never prints. It hands what it has to say to this callback, from any thread. */
#ifndef ESKER_LOG_H
#define ESKER_LOG_H

#include <esker/export.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum esk_log_level {
	ESK_LOG_DEBUG = 0,
	ESK_LOG_INFO = 1,
	ESK_LOG_WARNING = 2,
	ESK_LOG_ERROR = 3
} esk_log_level;

/* `message` is one line without newline, valid during the call. The callback must be thread-safe and
 * must not call back into the handle that logs. */
typedef void (*esk_log_fn)(void *arg, esk_log_level level, const char *message);

#ifdef __cplusplus
}
#endif
#endif
