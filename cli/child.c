/* Feeding another program: see child.h. */
#include "child.h"

#include "progress.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* 0, or an errno. */
static int spawn(const char *program, const char *const *argv, int in, int said, pid_t *ret_pid)
{
	posix_spawn_file_actions_t actions;
	int failed = posix_spawn_file_actions_init(&actions);
	if (failed != 0)
		return failed;
	failed = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
	if (failed == 0)
		failed = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	if (failed == 0)
		failed = posix_spawn_file_actions_adddup2(&actions, said, STDERR_FILENO);
	if (failed == 0)
		failed = posix_spawnp(ret_pid, program, &actions, NULL, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return failed;
}

int cli_child_start(const char *program, const char *const *argv, const char *way_out, cli_child *ret_child)
{
	int pipe_ends[2];
	FILE *said = tmpfile(); /* a pipe could fill up, and nobody reads it meanwhile */
	if (said == NULL)
		return cli_fail("no temporary file for what %s says: %s", program, strerror(errno));
	if (pipe2(pipe_ends, O_CLOEXEC) != 0) {
		fclose(said);
		return cli_fail("no pipe to %s: %s", program, strerror(errno));
	}
	*ret_child = (cli_child){.program = program, .in = pipe_ends[1], .said = said};
	fcntl(ret_child->in, F_SETFL, O_NONBLOCK); /* a child that hangs must not keep this from stopping */
	int failed = spawn(program, argv, pipe_ends[0], fileno(said), &ret_child->pid);
	close(pipe_ends[0]);
	if (failed == 0)
		return CLI_OK;
	close(pipe_ends[1]);
	fclose(said);
	if (failed == ENOENT)
		return cli_fail("there is no program %s in PATH: %s", program, way_out);
	return cli_fail("%s cannot be started: %s", program, strerror(failed));
}

/* Waits until the child takes more; false when it is time to stop. */
static bool wait_for_room(const cli_child *child)
{
	struct pollfd ends[2] = {
		{.fd = child->in, .events = POLLOUT}, {.fd = cli_stop_fd(), .events = POLLIN}};
	while (poll(ends, 2, -1) < 0 && errno == EINTR)
		;
	return !cli_stop_requested();
}

bool cli_child_write(cli_child *child, const void *data, size_t size)
{
	const char *at = data;
	while (size > 0) {
		ssize_t taken = write(child->in, at, size);
		if (taken < 0 && errno == EAGAIN && wait_for_room(child))
			continue;
		if (taken < 0 && errno == EINTR)
			continue;
		if (taken <= 0)
			return false;
		at += taken;
		size -= (size_t)taken;
	}
	return true;
}

static int tell(cli_child *child, int status)
{
	char words[1024];
	rewind(child->said);
	size_t size = fread(words, 1, sizeof words - 1, child->said);
	while (size > 0 && words[size - 1] == '\n')
		size--;
	words[size] = '\0';
	if (size > 0)
		return cli_fail("%s failed: %s", child->program, words);
	if (WIFSIGNALED(status))
		return cli_fail("%s was ended by signal %d", child->program, WTERMSIG(status));
	return cli_fail("%s failed with status %d", child->program, WEXITSTATUS(status));
}

int cli_child_end(cli_child *child, int code)
{
	int status = 0;
	if (code != CLI_OK)
		kill(child->pid, SIGKILL);
	close(child->in);
	while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (code == CLI_OK && status != 0)
		code = tell(child, status);
	fclose(child->said);
	return code;
}
