/* Text for people: see text.h. */
#include "text.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t stderr_lock = PTHREAD_MUTEX_INITIALIZER;
static void (*message_hook)(void);

void cli_set_message_hook(void (*hook)(void))
{
	message_hook = hook;
}

void cli_lock_stderr(void)
{
	pthread_mutex_lock(&stderr_lock);
}

void cli_unlock_stderr(void)
{
	pthread_mutex_unlock(&stderr_lock);
}

static void say(const char *message)
{
	cli_lock_stderr();
	if (message_hook != NULL)
		message_hook();
	fputs("esker: ", stderr);
	cli_put_escaped(stderr, message, strlen(message));
	fputc('\n', stderr);
	fflush(stderr);
	cli_unlock_stderr();
}

static void ESK_PRINTF(1, 0) say_list(const char *format, va_list list)
{
	char message[2048];
	vsnprintf(message, sizeof message, format, list);
	say(message);
}

int cli_fail(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	say_list(format, list);
	va_end(list);
	return CLI_FAILED;
}

int cli_fail_with(const esk_error *err)
{
	if (err->message[0] != '\0')
		say(err->message);
	else
		say(esk_status_text(err->code));
	return CLI_FAILED;
}

void cli_note(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	say_list(format, list);
	va_end(list);
}

bool cli_output_broken(void)
{
	return ferror(stdout) != 0;
}

static volatile sig_atomic_t pipe_closed;

static void on_closed_pipe(int number)
{
	(void)number;
	pipe_closed = 1;
}

void cli_catch_closed_pipe(void)
{
	struct sigaction action = {.sa_handler = on_closed_pipe, .sa_flags = SA_RESTART};
	sigemptyset(&action.sa_mask);
	sigaction(SIGPIPE, &action, NULL);
}

int cli_finish_output(void)
{
	errno = 0;
	bool failed = fflush(stdout) != 0 || ferror(stdout) != 0;
	if (!failed || pipe_closed)
		return CLI_OK;
	return cli_fail("cannot write to standard output: %s", strerror(errno != 0 ? errno : EIO));
}

/* ---- escaping ---- */

size_t cli_utf8(const char *text, size_t size, uint32_t *ret_code)
{
	const unsigned char *s = (const unsigned char *)text;
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t length = s[0] < 0x80   ? 1
			: s[0] < 0xc2 ? 0
			: s[0] < 0xe0 ? 2
			: s[0] < 0xf0 ? 3
			: s[0] < 0xf5 ? 4
				      : 0;
	if (length == 0 || length > size)
		return 0;
	uint32_t code = length == 1 ? s[0] : s[0] & (0x7fu >> length);
	for (size_t i = 1; i < length; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (s[i] & 0x3f);
	}
	if (code < least[length] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		return 0;
	*ret_code = code;
	return length;
}

bool cli_steers_terminal(uint32_t code)
{
	return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x200e && code <= 0x200f) ||
	       (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) || code == 0xfeff;
}

void cli_put_escaped(FILE *out, const char *text, size_t size)
{
	for (size_t i = 0; i < size;) {
		uint32_t code;
		size_t length = cli_utf8(text + i, size - i, &code);
		if (length == 0) {
			fprintf(out, "\\x%02x", (unsigned char)text[i]);
			i++;
			continue;
		}
		if (!cli_steers_terminal(code))
			fwrite(text + i, 1, length, out);
		else if (code == '\n')
			fputs("\\n", out);
		else if (code == '\t')
			fputs("\\t", out);
		else if (code == '\r')
			fputs("\\r", out);
		else
			fprintf(out, code < 0x80 ? "\\x%02x" : "\\u%04x", code);
		i += length;
	}
}

char *cli_escaped(const char *text, size_t size)
{
	char *escaped = NULL;
	size_t escaped_size = 0;
	FILE *memory = open_memstream(&escaped, &escaped_size);
	if (memory != NULL)
		cli_put_escaped(memory, text, size);
	if (memory == NULL || fclose(memory) != 0) {
		fputs("esker: out of memory\n", stderr);
		exit(CLI_FAILED);
	}
	return escaped;
}

static size_t code_width(uint32_t code)
{
	if ((code >= 0x300 && code <= 0x36f) || (code >= 0x200b && code <= 0x200d))
		return 0;
	bool wide = (code >= 0x1100 && code <= 0x115f) || (code >= 0x2e80 && code <= 0xa4cf) ||
		    (code >= 0xac00 && code <= 0xd7a3) || (code >= 0xf900 && code <= 0xfaff) ||
		    (code >= 0xfe30 && code <= 0xfe6f) || (code >= 0xff00 && code <= 0xff60) ||
		    (code >= 0x1f300 && code <= 0x1faff) || (code >= 0x20000 && code <= 0x3fffd);
	return wide ? 2 : 1;
}

size_t cli_width(const char *text)
{
	size_t width = 0;
	for (size_t left = strlen(text); left > 0;) {
		uint32_t code = 0;
		size_t length = cli_utf8(text, left, &code);
		width += length == 0 ? 1 : code_width(code);
		length = length == 0 ? 1 : length;
		text += length;
		left -= length;
	}
	return width;
}

size_t cli_fit(const char *text, size_t columns)
{
	size_t at = 0, width = 0;
	for (size_t left = strlen(text); left > 0;) {
		uint32_t code = 0;
		size_t length = cli_utf8(text + at, left, &code);
		width += length == 0 ? 1 : code_width(code);
		if (width > columns)
			break;
		length = length == 0 ? 1 : length;
		at += length;
		left -= length;
	}
	return at;
}

void cli_put_json_string(FILE *out, const char *text, size_t size)
{
	fputc('"', out);
	for (size_t i = 0; i < size;) {
		uint32_t code;
		size_t length = cli_utf8(text + i, size - i, &code);
		if (length == 0) {
			fputs("\xef\xbf\xbd", out);
			i++;
			continue;
		}
		if (code == '"' || code == '\\')
			fprintf(out, "\\%c", (char)code);
		else if (code == '\n')
			fputs("\\n", out);
		else if (cli_steers_terminal(code))
			fprintf(out, "\\u%04x", code);
		else
			fwrite(text + i, 1, length, out);
		i += length;
	}
	fputc('"', out);
}

void cli_put_csv(FILE *out, const char *text, size_t size)
{
	bool quote = size == 0;
	for (size_t i = 0; i < size && !quote; i++)
		quote = strchr(",\"\r\n", text[i]) != NULL || text[i] == '\0';
	quote = quote || text[0] == ' ' || text[size - 1] == ' ';
	bool terminal = isatty(fileno(out));
	if (quote)
		fputc('"', out);
	size_t begin = 0;
	for (size_t i = 0; i <= size; i++) {
		if (i < size && text[i] != '"')
			continue;
		if (terminal)
			cli_put_escaped(out, text + begin, i - begin);
		else
			fwrite(text + begin, 1, i - begin, out);
		if (i < size)
			fputs("\"\"", out);
		begin = i + 1;
	}
	if (quote)
		fputc('"', out);
}

bool cli_colour(FILE *stream)
{
	const char *no = getenv("NO_COLOR");
	const char *terminal = getenv("TERM");
	return (no == NULL || no[0] == '\0') && terminal != NULL && strcmp(terminal, "dumb") != 0 &&
	       isatty(fileno(stream));
}

/* ---- numbers ---- */

const char *cli_bytes(uint64_t bytes, cli_buf *buf)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
	double value = (double)bytes;
	size_t unit = 0;
	while (value >= 999.5 && unit + 1 < sizeof units / sizeof *units) {
		value /= 1000;
		unit++;
	}
	if (unit == 0 || value >= 99.95)
		snprintf(buf->text, sizeof buf->text, "%.0f %s", value, units[unit]);
	else
		snprintf(buf->text, sizeof buf->text, value >= 9.995 ? "%.1f %s" : "%.2f %s", value,
			units[unit]);
	return buf->text;
}

const char *cli_count(uint64_t count, cli_buf *buf)
{
	char digits[24];
	int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)count);
	char *at = buf->text;
	for (int i = 0; i < length; i++) {
		if (i > 0 && (length - i) % 3 == 0)
			*at++ = ',';
		*at++ = digits[i];
	}
	*at = '\0';
	return buf->text;
}

const char *cli_counted(uint64_t count, const char *noun, cli_buf *buf)
{
	static const char *const hissing[] = {"s", "x", "ch", "sh"};
	size_t size = strlen(noun), kept = size;
	const char *ending = "s";
	for (size_t i = 0; i < sizeof hissing / sizeof *hissing; i++) {
		size_t tail = strlen(hissing[i]);
		if (size >= tail && strcmp(noun + size - tail, hissing[i]) == 0)
			ending = "es";
	}
	if (size > 1 && noun[size - 1] == 'y' && strchr("aeiou", noun[size - 2]) == NULL) {
		ending = "ies";
		kept--;
	}
	cli_buf number;
	cli_count(count, &number);
	if (count == 1)
		snprintf(buf->text, sizeof buf->text, "%s %s", number.text, noun);
	else
		snprintf(buf->text, sizeof buf->text, "%s %.*s%s", number.text, (int)kept, noun, ending);
	return buf->text;
}

const char *cli_span(uint64_t ns, cli_buf *buf)
{
	double s = (double)ns / 1e9;
	if (s < 1e-3)
		snprintf(buf->text, sizeof buf->text, "%.1f us", s * 1e6);
	else if (s < 1)
		snprintf(buf->text, sizeof buf->text, "%.3g ms", s * 1e3);
	else if (s < 120)
		snprintf(buf->text, sizeof buf->text, "%.2f s", s);
	else
		snprintf(buf->text, sizeof buf->text, "%.0f min %.0f s", floor(s / 60), fmod(floor(s), 60));
	return buf->text;
}

const char *cli_clock(uint64_t seconds, cli_buf *buf)
{
	unsigned long long h = seconds / 3600, m = seconds / 60 % 60, s = seconds % 60;
	if (h > 0)
		snprintf(buf->text, sizeof buf->text, "%llu:%02llu:%02llu", h, m, s);
	else
		snprintf(buf->text, sizeof buf->text, "%llu:%02llu", m, s);
	return buf->text;
}

const char *cli_time(int64_t ns, cli_buf *buf)
{
	time_t seconds = (time_t)(ns / 1000000000);
	struct tm tm;
	if (ns == 0 || localtime_r(&seconds, &tm) == NULL ||
		strftime(buf->text, sizeof buf->text, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		snprintf(buf->text, sizeof buf->text, "-");
	return buf->text;
}

const char *cli_ratio(uint64_t raw, uint64_t stored, cli_buf *buf)
{
	if (raw == 0 || stored == 0)
		snprintf(buf->text, sizeof buf->text, "-");
	else
		snprintf(buf->text, sizeof buf->text, "%.3gx", (double)raw / (double)stored);
	return buf->text;
}

/* A non-negative decimal number in front of a unit; *ret_unit is where the unit begins. */
static bool parse_quantity(const char *text, double *ret_value, const char **ret_unit)
{
	if (text[0] < '0' || text[0] > '9')
		return false;
	char *end;
	errno = 0;
	*ret_value = strtod(text, &end);
	*ret_unit = end;
	return errno == 0 && isfinite(*ret_value) && strchr(text, 'x') == NULL && strchr(text, 'X') == NULL;
}

typedef struct unit {
	const char *name;
	double factor;
} unit;

static bool scale(double value, const char *name, const unit *units, uint64_t *ret_value)
{
	for (; units->name != NULL; units++) {
		if (strcasecmp(name, units->name) != 0)
			continue;
		double scaled = value * units->factor;
		if (!(scaled < 9.2e18))
			return false;
		*ret_value = (uint64_t)(scaled + 0.5);
		return true;
	}
	return false;
}

bool cli_parse_bytes(const char *text, uint64_t *ret_bytes)
{
	static const unit units[] = {{"", 1}, {"b", 1}, {"k", 0x1p10}, {"kib", 0x1p10}, {"kb", 1e3},
		{"m", 0x1p20}, {"mib", 0x1p20}, {"mb", 1e6}, {"g", 0x1p30}, {"gib", 0x1p30}, {"gb", 1e9},
		{"t", 0x1p40}, {"tib", 0x1p40}, {"tb", 1e12}, {NULL, 0}};
	double value;
	const char *name;
	return parse_quantity(text, &value, &name) && scale(value, name, units, ret_bytes);
}

bool cli_parse_span(const char *text, uint64_t *ret_ns)
{
	static const unit units[] = {{"", 1e9}, {"s", 1e9}, {"ms", 1e6}, {"us", 1e3}, {"ns", 1}, {"m", 60e9},
		{"min", 60e9}, {"h", 3600e9}, {NULL, 0}};
	double value;
	const char *name;
	return parse_quantity(text, &value, &name) && scale(value, name, units, ret_ns);
}

bool cli_parse_u64(const char *text, uint64_t *ret_value)
{
	if (text[0] < '0' || text[0] > '9')
		return false;
	char *end;
	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (errno != 0 || *end != '\0')
		return false;
	*ret_value = value;
	return true;
}

bool cli_parse_size(const char *text, uint32_t *ret_width, uint32_t *ret_height)
{
	char width[16] = "";
	const char *by = strchr(text, 'x');
	uint64_t w, h;
	if (by == NULL || (size_t)(by - text) >= sizeof width)
		return false;
	memcpy(width, text, (size_t)(by - text));
	if (!cli_parse_u64(width, &w) || !cli_parse_u64(by + 1, &h) || w == 0 || h == 0 || w > 65536 ||
		h > 65536)
		return false;
	*ret_width = (uint32_t)w;
	*ret_height = (uint32_t)h;
	return true;
}

int64_t cli_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void *cli_alloc(size_t size)
{
	void *memory = malloc(size == 0 ? 1 : size);
	if (memory == NULL) {
		cli_fail("out of memory: %zu bytes were needed", size);
		exit(CLI_FAILED);
	}
	return memory;
}

void *cli_resize(void *memory, size_t size)
{
	void *grown = realloc(memory, size > 0 ? size : 1);
	if (grown == NULL) {
		cli_fail("out of memory: %zu bytes", size);
		exit(CLI_FAILED);
	}
	return grown;
}

char *cli_copy(const char *text)
{
	size_t size = strlen(text) + 1;
	return memcpy(cli_alloc(size), text, size);
}
