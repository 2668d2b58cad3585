/* The terminal: see screen.h.
 *
 * Signal handlers only write the signal's number into a pipe, which cli_screen_wait reads beside the keys;
 * what has to be done for it is done there. */
#include "screen.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define ENTER "\033[?1049h\033[?25l\033[2J" /* the other screen, no cursor, empty */
#define LEAVE "\033[0m\033[?25h\033[?1049l"
#define ESCAPE_WAIT_MS 50 /* what follows ESC sooner is the rest of one key */

static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

static struct {
	bool open;
	struct termios before;
	int pipe[2];
	int ended_by; /* a signal, or 0 */
	bool at_exit;
} screen = {.pipe = {-1, -1}};

bool cli_screen_possible(void)
{
	const char *terminal = getenv("TERM");
	return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && terminal != NULL &&
	       strcmp(terminal, "dumb") != 0;
}

void cli_screen_put(const char *text, size_t size)
{
	while (size > 0) {
		ssize_t written = write(STDOUT_FILENO, text, size);
		if (written < 0 && errno != EINTR)
			return; /* the terminal is gone: reading from it will say so */
		if (written > 0) {
			text += written;
			size -= (size_t)written;
		}
	}
}

static void on_signal(int number)
{
	int kept = errno;
	unsigned char byte = (unsigned char)number;
	ssize_t written = write(screen.pipe[1], &byte, 1);
	(void)written; /* a full pipe wakes as well */
	errno = kept;
}

static void catch_signal(int number, void (*handler)(int))
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
	sigemptyset(&action.sa_mask);
	sigaction(number, &action, NULL);
}

static void take_terminal(void)
{
	struct termios raw = screen.before;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN);
	raw.c_iflag &= ~(tcflag_t)(ICRNL | IXON);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	cli_screen_put(ENTER, sizeof ENTER - 1);
	screen.open = true;
}

static void give_terminal_back(void)
{
	if (!screen.open)
		return;
	screen.open = false;
	cli_screen_put(LEAVE, sizeof LEAVE - 1);
	tcsetattr(STDIN_FILENO, TCSADRAIN, &screen.before);
}

int cli_screen_open(void)
{
	if (tcgetattr(STDIN_FILENO, &screen.before) != 0 || pipe2(screen.pipe, O_CLOEXEC | O_NONBLOCK) != 0)
		return cli_fail("the terminal cannot be used: %s", strerror(errno));
	screen.ended_by = 0;
	if (!screen.at_exit)
		atexit(give_terminal_back); /* cli_alloc may exit */
	screen.at_exit = true;
	cli_set_message_hook(give_terminal_back);
	for (size_t i = 0; i < sizeof ending / sizeof *ending; i++)
		catch_signal(ending[i], on_signal);
	catch_signal(SIGTSTP, on_signal);
	catch_signal(SIGWINCH, on_signal);
	take_terminal();
	return CLI_OK;
}

void cli_screen_close(void)
{
	if (screen.pipe[0] < 0)
		return;
	give_terminal_back();
	cli_set_message_hook(NULL);
	for (size_t i = 0; i < sizeof ending / sizeof *ending; i++)
		catch_signal(ending[i], SIG_DFL);
	catch_signal(SIGTSTP, SIG_DFL);
	catch_signal(SIGWINCH, SIG_DFL);
	close(screen.pipe[0]);
	close(screen.pipe[1]);
	screen.pipe[0] = screen.pipe[1] = -1;
	if (screen.ended_by != 0)
		raise(screen.ended_by);
}

void cli_screen_size(unsigned *ret_columns, unsigned *ret_lines)
{
	struct winsize size;
	bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0;
	*ret_columns = known ? size.ws_col : 80;
	*ret_lines = known ? size.ws_row : 24;
}

/* ---- keys ---- */

/* Stops as ^Z asks, with the terminal as it was; when continued, takes it again. */
static void suspend(void)
{
	give_terminal_back();
	catch_signal(SIGTSTP, SIG_DFL);
	raise(SIGTSTP);
	catch_signal(SIGTSTP, on_signal);
	take_terminal();
}

static int take_signal(void)
{
	unsigned char number = 0;
	if (read(screen.pipe[0], &number, 1) != 1)
		return CLI_KEY_NONE;
	if (number == SIGTSTP)
		suspend();
	if (number == SIGTSTP || number == SIGWINCH)
		return CLI_KEY_RESIZED;
	screen.ended_by = number;
	return CLI_KEY_STOP;
}

/* The next byte of a key that has begun; 0 if none comes soon. */
static unsigned char next_byte(void)
{
	struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
	unsigned char byte = 0;
	if (poll(&in, 1, ESCAPE_WAIT_MS) <= 0 || read(STDIN_FILENO, &byte, 1) != 1)
		return 0;
	return byte;
}

/* What stands behind ESC: "[A", "OA", "[1~". Keys that are not known are swallowed. */
static int take_escape(void)
{
	static const char codes[] = "ABCDHF";
	static const int keys[] = {
		CLI_KEY_UP, CLI_KEY_DOWN, CLI_KEY_RIGHT, CLI_KEY_LEFT, CLI_KEY_HOME, CLI_KEY_END};
	unsigned char byte = next_byte(), first = 0;
	if (byte == 0)
		return CLI_KEY_ESCAPE;
	if (byte != '[' && byte != 'O')
		return CLI_KEY_NONE;
	do {
		byte = next_byte();
		first = first == 0 ? byte : first;
	} while (byte == ';' || (byte >= '0' && byte <= '9'));
	if (byte == '~')
		return first == '1' || first == '7'   ? CLI_KEY_HOME
		       : first == '4' || first == '8' ? CLI_KEY_END
						      : CLI_KEY_NONE;
	const char *known = byte != 0 ? strchr(codes, byte) : NULL;
	return known != NULL ? keys[known - codes] : CLI_KEY_NONE;
}

static int take_key(void)
{
	unsigned char byte;
	ssize_t count = read(STDIN_FILENO, &byte, 1);
	if (count < 0 && (errno == EINTR || errno == EAGAIN))
		return CLI_KEY_NONE;
	if (count <= 0)
		return CLI_KEY_STOP;
	if (byte == CLI_KEY_ESCAPE)
		return take_escape();
	if (byte == '\n')
		return CLI_KEY_ENTER;
	if (byte == '\b')
		return CLI_KEY_ERASE;
	return byte < 128 ? byte : CLI_KEY_NONE;
}

static int milliseconds_until(int64_t until_ns)
{
	if (until_ns == INT64_MAX)
		return -1;
	int64_t left = (until_ns - cli_now_ns() + 999999) / 1000000;
	return left <= 0 ? 0 : left > 60000 ? 60000 : (int)left;
}

int cli_screen_wait(int64_t until_ns)
{
	struct pollfd ends[2] = {
		{.fd = screen.pipe[0], .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
	if (!screen.open) { /* a message was printed on the other screen */
		take_terminal();
		return CLI_KEY_RESIZED;
	}
	for (;;) {
		int key = CLI_KEY_NONE;
		int ready = poll(ends, 2, milliseconds_until(until_ns));
		if (ready > 0 && ends[0].revents != 0)
			key = take_signal();
		else if (ready > 0)
			key = take_key();
		if (key != CLI_KEY_NONE || (ready <= 0 && until_ns <= cli_now_ns()))
			return key;
	}
}
