/* Progress, the library's log, and signals: what happens beside a command's own output. */
#include "progress.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define FIRST_NS 1000000000
#define NEXT_NS 100000000

static struct {
	const char *verb;
	int64_t begun_ns;
	int64_t due_ns;
	bool running;
	bool drawn;
} line;

static void erase(void)
{
	if (line.drawn)
		fputs("\r\033[K", stderr);
	line.drawn = false;
}

void cli_progress_begin(const char *verb)
{
	const char *terminal = getenv("TERM");
	line.verb = verb;
	line.begun_ns = cli_now_ns();
	line.due_ns = line.begun_ns + FIRST_NS;
	line.drawn = false;
	line.running = isatty(STDERR_FILENO) && terminal != NULL && strcmp(terminal, "dumb") != 0;
	cli_set_message_hook(erase);
}

bool cli_progress_due(void)
{
	return line.running && cli_now_ns() >= line.due_ns;
}

static size_t terminal_columns(void)
{
	struct winsize size;
	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20)
		return size.ws_col;
	return 80;
}

/* Writes "[####    ]  42 %  0:07 left" or nothing where the total is not known. */
static void format_bar(char *buf, size_t size, uint64_t done, uint64_t total, double seconds)
{
	buf[0] = '\0';
	if (total == 0)
		return;
	double part = done >= total ? 1.0 : (double)done / (double)total;
	char bar[21];
	for (int i = 0; i < 20; i++)
		bar[i] = (double)i < part * 20 ? '#' : ' ';
	bar[20] = '\0';
	cli_buf left;
	double remaining = part > 0 ? seconds * (1 - part) / part : 0;
	snprintf(buf, size, " [%s] %3.0f %%  %s left", bar, part * 100,
		cli_clock((uint64_t)(remaining + 0.5), &left));
}

void cli_progress_draw(uint64_t done, uint64_t total, const char *detail)
{
	if (!line.running)
		return;
	int64_t now = cli_now_ns();
	line.due_ns = now + NEXT_NS;
	double seconds = (double)(now - line.begun_ns) / 1e9;
	char bar[96], text[512];
	cli_buf amount, rate, elapsed;
	format_bar(bar, sizeof bar, done, total, seconds);
	snprintf(text, sizeof text, "%s%s  %s  %s/s%s%s  %s", line.verb, bar, cli_bytes(done, &amount),
		cli_bytes((uint64_t)((double)done / seconds), &rate), detail[0] != '\0' ? "  " : "", detail,
		cli_clock((uint64_t)seconds, &elapsed));
	size_t columns = terminal_columns();
	if (strlen(text) >= columns)
		text[columns - 1] = '\0';
	cli_lock_stderr();
	erase();
	fputs(text, stderr);
	fflush(stderr);
	line.drawn = true;
	cli_unlock_stderr();
}

void cli_progress_clear(void)
{
	cli_lock_stderr();
	erase();
	fflush(stderr);
	cli_unlock_stderr();
}

void cli_progress_end(void)
{
	cli_lock_stderr();
	erase();
	fflush(stderr);
	line.running = false;
	cli_unlock_stderr();
}

bool cli_progress_step(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
	if (cli_progress_due())
		cli_progress_draw(done_bytes, total_bytes, "");
	return !cli_stop_requested();
}

void cli_log(void *arg, esk_log_level level, const char *message)
{
	const bool *verbose = arg;
	if (level >= ESK_LOG_WARNING)
		cli_note("%s: %s", level == ESK_LOG_WARNING ? "warning" : "error", message);
	else if (*verbose)
		cli_note("%s", message);
}

static volatile sig_atomic_t stop_requested;
static int stop_pipe[2] = {-1, -1};

static void on_signal(int number)
{
	(void)number;
	stop_requested = 1;
	ssize_t written = write(stop_pipe[1], "", 1);
	(void)written; /* a full pipe is readable already */
}

void cli_catch_signals(void)
{
	if (pipe2(stop_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
		return; /* without the pipe signals keep their default: the ring holds what was acknowledged
			 */
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART | (int)SA_RESETHAND};
	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

bool cli_stop_requested(void)
{
	return stop_requested != 0;
}

int cli_stop_fd(void)
{
	return stop_pipe[0];
}
