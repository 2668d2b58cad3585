/* Text for people: messages, escaping, numbers, sizes and times. Uses libc and the public API only.
 *
 * Whatever comes from a file, a catalogue or a command line may hold control characters that steer a
 * terminal; everything printed as text passes through cli_put_escaped or cli_escaped. */
#ifndef CLI_TEXT_H
#define CLI_TEXT_H

#include <esker/esker.h>
#include <stdio.h>

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* ---- messages: `esker: …` on standard error, escaped, above a progress line if one is drawn ---- */

/* Both return CLI_FAILED, so that a caller can return them. */
int cli_fail(const char *format, ...) ESK_PRINTF(1, 2);
int cli_fail_with(const esk_error *err);
void cli_note(const char *format, ...) ESK_PRINTF(1, 2);

/* Must be set by what draws on standard error: called (under the lock) before a message is printed. */
void cli_set_message_hook(void (*hook)(void));
void cli_lock_stderr(void);
void cli_unlock_stderr(void);

/* Lets writing to a closed pipe fail instead of ending the program: a recording must go on without its
 * reader. */
void cli_catch_closed_pipe(void);
/* Flushes standard output and says whether all of it arrived. A reader that closed the pipe had enough:
 * that is CLI_OK; a full disk is not. */
int cli_finish_output(void);
/* True once nothing more can be written: time to stop producing. */
bool cli_output_broken(void);

/* ---- escaping ---- */

/* True for control characters and bidirectional overrides. */
bool cli_steers_terminal(uint32_t code);
/* Control characters, bidirectional overrides and bytes that are not UTF-8 come out as \n, \xNN, \uNNNN. */
void cli_put_escaped(FILE *out, const char *text, size_t size);
/* The same as a new string (free()); never NULL: ends the program when memory is out. */
char *cli_escaped(const char *text, size_t size);
/* Columns that escaped text takes in a terminal. */
size_t cli_width(const char *text);
/* Bytes of the beginning of escaped text that fit into so many columns. */
size_t cli_fit(const char *text, size_t columns);
/* A JSON string with quotes; bytes that are not UTF-8 become U+FFFD. */
void cli_put_json_string(FILE *out, const char *text, size_t size);
/* A CSV field, quoted where it must be; escaped too when `out` is a terminal. */
void cli_put_csv(FILE *out, const char *text, size_t size);
/* Length of the UTF-8 sequence at `text` (1–4) and its code point; 0 where it is none. */
size_t cli_utf8(const char *text, size_t size, uint32_t *ret_code);

/* True if `stream` is a terminal where colour is wanted (NO_COLOR, TERM=dumb). */
bool cli_colour(FILE *stream);

/* ---- numbers: into `buf`, which is returned ---- */

typedef struct cli_buf {
	char text[64];
} cli_buf;
const char *cli_bytes(uint64_t bytes, cli_buf *buf); /* "12.3 MB" */
const char *cli_count(uint64_t count, cli_buf *buf); /* "1,234,567" */
/* "1 row", "1,234 rows", "2 batches": `noun` is of one. */
const char *cli_counted(uint64_t count, const char *noun, cli_buf *buf);
const char *cli_span(uint64_t ns, cli_buf *buf);                    /* "1.25 s", "3 min 20 s" */
const char *cli_clock(uint64_t seconds, cli_buf *buf);              /* "0:07", "1:02:03" */
const char *cli_time(int64_t ns, cli_buf *buf);                     /* local time; "-" for 0 */
const char *cli_ratio(uint64_t raw, uint64_t stored, cli_buf *buf); /* "51.2x"; "-" where there is none */

/* "64M", "64MiB" are 64·2^20, "64MB" is 64·10^6, "4096" is bytes. */
bool cli_parse_bytes(const char *text, uint64_t *ret_bytes);
/* "500ms", "1s", "2m", "1h", "250us"; a bare number is seconds. */
bool cli_parse_span(const char *text, uint64_t *ret_ns);
bool cli_parse_u64(const char *text, uint64_t *ret_value);
/* "640x480": two numbers from 1 to 65536. */
bool cli_parse_size(const char *text, uint32_t *ret_width, uint32_t *ret_height);

int64_t cli_now_ns(void); /* monotonic */

/* malloc that ends the program with a message when memory is out. */
void *cli_alloc(size_t size);
void *cli_resize(void *memory, size_t size); /* realloc, likewise */
char *cli_copy(const char *text);

#endif
