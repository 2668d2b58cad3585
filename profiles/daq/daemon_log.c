/* Saying something through the caller's callback. */
#include "daemon_internal.h"

#include <stdarg.h>
#include <stdio.h>

void esk_daemon_say(const esk_daemon_log *log, esk_log_level level, const char *format, ...)
{
	char text[700];
	if (log->fn == NULL)
		return;
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	log->fn(log->arg, level, text);
}
