/* An Arrow IPC stream from standard input, as any program writes that knows Arrow: its batches are rows. */
#include "source.h"

#include "progress.h"

#include <errno.h>
#include <esker/arrow_store.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct arrow {
	struct ArrowArrayStream stream;
	struct ArrowSchema schema;
	esk_arrow_sink *sink;
} arrow;

/* The stream's own error: get_last_error may be silent. */
static int fail_stream(arrow *a, int number)
{
	const char *text = a->stream.get_last_error(&a->stream);
	return cli_fail("standard input: %s", text != NULL ? text : strerror(number));
}

static int attach_arrow(cli_source *source, cli_recorder *r, const char *stream)
{
	arrow *a = source->state;
	esk_error err = {0};
	esk_arrow_sink_options options = ESK_ARROW_SINK_OPTIONS_INIT;
	if (esk_run_arrow(r->run, stream, &a->schema, &options, &a->sink, &err) != ESK_OK) {
		a->sink = NULL;
		return cli_fail_with(&err);
	}
	r->stream = esk_arrow_sink_stream(a->sink);
	r->columns = esk_stream_columns(r->stream, &r->column_count);
	return CLI_OK;
}

/* Waits for the next message or a signal; false: stop. */
static bool await_message(cli_recorder *r)
{
	struct pollfd wait[2] = {
		{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = cli_stop_fd(), .events = POLLIN}};
	while (!cli_stop_requested() && poll(wait, 2, 200) >= 0 && wait[0].revents == 0)
		cli_recorder_tick(r);
	return !cli_stop_requested();
}

static int append_batch(arrow *a, cli_recorder *r, const struct ArrowArray *batch)
{
	uint64_t rows = (uint64_t)batch->length, done = 0;
	uint64_t most = esk_arrow_sink_rows_per_record(a->sink, batch);
	while (done < rows) {
		esk_error err = {0};
		uint64_t piece = rows - done < most ? rows - done : most;
		esk_status status = esk_arrow_sink_append(a->sink, batch, done, piece, NULL, 0, NULL, &err);
		cli_recorder_tick(r);
		if (status == ESK_ETIMEDOUT && cli_stop_requested())
			return CLI_OK;
		if (status == ESK_ETIMEDOUT)
			continue;
		if (status != ESK_OK && status != ESK_EFULL)
			return cli_fail_with(&err);
		done += piece;
		*(status == ESK_OK ? &r->rows : &r->dropped) += piece;
	}
	return CLI_OK;
}

static int run_arrow(cli_source *source, cli_recorder *r)
{
	arrow *a = source->state;
	int code = CLI_OK;
	while (code == CLI_OK && await_message(r)) {
		struct ArrowArray batch = {0};
		int number = a->stream.get_next(&a->stream, &batch);
		if (number != 0)
			return fail_stream(a, number);
		if (batch.release == NULL)
			break;
		code = append_batch(a, r, &batch);
		batch.release(&batch);
	}
	return code;
}

static void close_arrow(cli_source *source)
{
	arrow *a = source->state;
	esk_arrow_sink_close(a->sink);
	if (a->schema.release != NULL)
		a->schema.release(&a->schema);
	if (a->stream.release != NULL)
		a->stream.release(&a->stream);
}

int cli_source_open_arrow(const cli_args *args, cli_source *ret_source)
{
	esk_error err = {0};
	arrow *a = cli_alloc(sizeof *a);
	*a = (arrow){0};
	*ret_source =
		(cli_source){.state = a, .run = run_arrow, .close = close_arrow, .attach = attach_arrow};
	if (esk_arrow_open_fd(STDIN_FILENO, &a->stream, &err) != ESK_OK) {
		a->stream.release = NULL;
		return cli_fail("standard input: %s", err.message);
	}
	int number = a->stream.get_schema(&a->stream, &a->schema);
	if (number != 0)
		return fail_stream(a, number);
	/* A run is not begun for what it cannot hold. */
	const char *stream = cli_value(args, "stream");
	if (esk_arrow_storable(stream != NULL ? stream : "/", &a->schema, &err) != ESK_OK)
		return cli_fail("standard input: %s", err.message);
	return CLI_OK;
}
