/* A progress line on standard error: drawn only on a terminal, and only for what takes over a second. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "text.h"

/* One at a time in the program. */
void cli_progress_begin(const char *verb);
/* True when a line is wanted now (at most ten a second): spares making `detail` for nothing. */
bool cli_progress_due(void);
/* Draws bar, rate and remaining time of `done` of `total` bytes (total 0: not known), then `detail`. */
void cli_progress_draw(uint64_t done, uint64_t total, const char *detail);
/* Makes room for other output; the line comes back by itself. */
void cli_progress_clear(void);
/* Removes the line for good. */
void cli_progress_end(void);

/* The callback of esk_check_options: draws, and stops when cli_stop_requested. */
bool cli_progress_step(void *arg, uint64_t done_bytes, uint64_t total_bytes);

/* The callback of esk_store_options: warnings and errors always, the rest when `arg` (bool) is true. */
void cli_log(void *arg, esk_log_level level, const char *message);

/* SIGINT and SIGTERM set a flag; a second one ends the program at once. */
void cli_catch_signals(void);
bool cli_stop_requested(void);
/* Readable once a signal came: for poll. */
int cli_stop_fd(void);

#endif
