/* Telling the service manager how the program is (sd_notify's protocol): datagrams to $NOTIFY_SOCKET. */
#ifndef CLI_NOTIFY_H
#define CLI_NOTIFY_H

#include "text.h"

/* Sends lines such as "READY=1"; does nothing where no service manager asked for it. */
void cli_notify(const char *lines);
/* How often "WATCHDOG=1" is wanted at least, in nanoseconds; 0: not at all. */
uint64_t cli_notify_watchdog_ns(void);

#endif
