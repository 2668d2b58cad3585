/* What sources share: see source.h. */
#include "source.h"

#include "progress.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS 200

void cli_source_close(cli_source *source)
{
	if (source->state != NULL)
		source->close(source);
	free(source->state);
	free(source->columns);
	*source = (cli_source){0};
}

void cli_source_column(
	cli_source *source, const char *name, esk_kind kind, const char *units, const char *long_name)
{
	size_t grown = (source->column_count + 1) * sizeof *source->columns;
	source->columns = cli_resize(source->columns, grown);
	esk_column *column = &source->columns[source->column_count++];
	*column = (esk_column){.dtype = {.kind = kind, .size_bytes = 8}};
	if (kind == ESK_STRING)
		column->dtype.size_bytes = sizeof(esk_string);
	snprintf(column->name, sizeof column->name, "%s", name);
	snprintf(column->units, sizeof column->units, "%s", units);
	snprintf(column->long_name, sizeof column->long_name, "%s", long_name);
}

int cli_source_read(void *buffer, size_t size, size_t *ret_got, bool *ret_ended)
{
	struct pollfd wait[2] = {
		{.fd = STDIN_FILENO, .events = POLLIN},
		{.fd = cli_stop_fd(), .events = POLLIN},
	};
	*ret_got = 0;
	*ret_ended = false;
	if (poll(wait, 2, WAIT_MS) < 0 && errno != EINTR)
		return cli_fail("standard input: %s", strerror(errno));
	if (cli_stop_requested() || wait[0].revents == 0)
		return CLI_OK;
	ssize_t got = read(STDIN_FILENO, buffer, size);
	if (got < 0 && errno != EINTR && errno != EAGAIN)
		return cli_fail("standard input: %s", strerror(errno));
	*ret_got = got > 0 ? (size_t)got : 0;
	*ret_ended = got == 0;
	return CLI_OK;
}

int64_t cli_source_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
