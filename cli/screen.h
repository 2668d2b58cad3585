/* The whole terminal for a program that draws: keys as they are pressed, a screen of its own, everything put
 * back at the end, also when a signal ends the program. One at a time. */
#ifndef CLI_SCREEN_H
#define CLI_SCREEN_H

#include "text.h"

/* Keys: 1–127 are characters. */
enum {
	CLI_KEY_NONE = 0, /* the time is over */
	CLI_KEY_ENTER = '\r',
	CLI_KEY_ESCAPE = 27,
	CLI_KEY_ERASE = 127,
	CLI_KEY_LEFT = 256,
	CLI_KEY_RIGHT,
	CLI_KEY_UP,
	CLI_KEY_DOWN,
	CLI_KEY_HOME,
	CLI_KEY_END,
	CLI_KEY_RESIZED, /* draw all of it again */
	CLI_KEY_STOP     /* a signal, or the terminal went away */
};

/* True if standard input and output are a terminal that can be drawn on. */
bool cli_screen_possible(void);
int cli_screen_open(void);
/* Puts everything back. Where a signal asked to stop, it then takes its usual course and this does not
 * return. */
void cli_screen_close(void);
void cli_screen_size(unsigned *ret_columns, unsigned *ret_lines);
/* Waits for a key until cli_now_ns() is `until_ns` (INT64_MAX: for ever). */
int cli_screen_wait(int64_t until_ns);
/* Writes all of `text` at once. */
void cli_screen_put(const char *text, size_t size);

#endif
