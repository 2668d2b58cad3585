/* esker send: an Arrow stream or file to the daemon of a store. */
#include "commands.h"
#include "json.h"
#include "place.h"
#include "progress.h"

#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct job {
	const cli_args *args;
	const char *instrument;
	const char *file; /* NULL: standard input */
	struct ArrowArrayStream stream;
	struct ArrowSchema schema;
	esk_client *client;
	uint64_t rows, batches;
	uint64_t total_bytes; /* of the file; 0: not known */
} job;

/* ---- where it comes from ---- */

static int open_input(job *j)
{
	esk_error err = {0};
	struct stat st;
	esk_status status;
	if (j->file != NULL) {
		status = esk_arrow_open_file(j->file, &j->stream, &err);
		j->total_bytes = stat(j->file, &st) == 0 ? (uint64_t)st.st_size : 0;
	} else if (isatty(STDIN_FILENO)) {
		return cli_usage(j->args, "send: standard input is a terminal; pipe an Arrow IPC stream into "
					  "it or name a file");
	} else {
		status = esk_arrow_open_fd(STDIN_FILENO, &j->stream, &err);
	}
	if (status != ESK_OK)
		return cli_fail_with(&err);
	if (j->stream.get_schema(&j->stream, &j->schema) != 0)
		return cli_fail("%s", j->stream.get_last_error(&j->stream));
	return CLI_OK;
}

/* Waits for input, so that a signal is heard while none comes. */
static bool wait_for_input(const job *j)
{
	struct pollfd fds[2] = {
		{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = cli_stop_fd(), .events = POLLIN}};
	if (j->file == NULL)
		(void)poll(fds, 2, -1);
	return !cli_stop_requested();
}

/* ---- sending ---- */

static void draw(const job *j)
{
	esk_client_progress progress = {.struct_size = sizeof progress};
	if (!cli_progress_due() || esk_client_get_progress(j->client, &progress, NULL) != ESK_OK)
		return;
	cli_buf rows;
	char detail[100];
	snprintf(detail, sizeof detail, "%s", cli_counted(j->rows, "row", &rows));
	cli_progress_draw(progress.acknowledged_bytes, j->total_bytes, detail);
}

/* Sends rows of a batch; halves them where they are more than the daemon takes in a message. */
static esk_status send_rows(
	job *j, const struct ArrowArray *array, int64_t first, int64_t rows, esk_error *err)
{
	struct ArrowArray part = *array;
	part.offset += first;
	part.length = rows;
	esk_status status = esk_client_write_batch(j->client, j->instrument, &j->schema, &part, err);
	if (status == ESK_ERANGE && rows > 1) {
		status = send_rows(j, array, first, rows / 2, err);
		return status == ESK_OK ? send_rows(j, array, first + rows / 2, rows - rows / 2, err)
					: status;
	}
	if (status == ESK_OK) {
		j->rows += (uint64_t)rows;
		draw(j);
	}
	return status;
}

static int send_all(job *j)
{
	while (wait_for_input(j)) {
		struct ArrowArray array = {0};
		esk_error err = {0};
		if (j->stream.get_next(&j->stream, &array) != 0)
			return cli_fail("%s: %s", j->file != NULL ? j->file : "standard input",
				j->stream.get_last_error(&j->stream));
		if (array.release == NULL)
			return CLI_OK;
		esk_status status = array.length > 0 ? send_rows(j, &array, 0, array.length, &err) : ESK_OK;
		array.release(&array);
		if (status != ESK_OK)
			return cli_fail_with(&err);
		j->batches++;
	}
	return CLI_OK;
}

static void print_summary(const job *j, uint64_t ns)
{
	esk_client_progress progress = {.struct_size = sizeof progress};
	(void)esk_client_get_progress(j->client, &progress, NULL);
	bool durable = !cli_flag(j->args, "no-flush");
	double rate = (double)progress.acknowledged_bytes * 1e9 / (double)(ns + 1);
	if (cli_flag(j->args, "json")) {
		cli_print_json(json_pack("{s:s, s:s, s:I, s:I, s:I, s:f, s:f, s:b, s:b}", "instrument",
			j->instrument, "session", esk_client_session(j->client), "rows", (json_int_t)j->rows,
			"batches", (json_int_t)j->batches, "bytes", (json_int_t)progress.acknowledged_bytes,
			"seconds", (double)ns / 1e9, "bytes_per_s", rate, "durable", (int)durable,
			"interrupted", (int)cli_stop_requested()));
		return;
	}
	cli_buf rows, batches, bytes, span, per_s;
	printf("%s%s in %s, %s in %s (%s/s); %s in the session ", cli_stop_requested() ? "stopped: " : "",
		cli_counted(j->rows, "row", &rows), cli_counted(j->batches, "batch", &batches),
		cli_bytes(progress.acknowledged_bytes, &bytes), cli_span(ns, &span),
		cli_bytes((uint64_t)rate, &per_s), durable ? "on disk" : "acknowledged");
	const char *session = esk_client_session(j->client);
	cli_put_escaped(stdout, session, strlen(session));
	putchar('\n');
}

static int send_and_wait(job *j)
{
	esk_error err = {0};
	int64_t begun = cli_now_ns();
	cli_progress_begin("send");
	int code = send_all(j);
	if (code == CLI_OK) {
		esk_status status = cli_flag(j->args, "no-flush") ? esk_client_wait(j->client, &err)
								  : esk_client_flush(j->client, &err);
		code = status == ESK_OK ? CLI_OK : cli_fail_with(&err);
	}
	cli_progress_end();
	if (code == CLI_OK && !cli_flag(j->args, "quiet"))
		print_summary(j, (uint64_t)(cli_now_ns() - begun));
	return code;
}

static int connect_to(job *j, const char *path)
{
	esk_error err = {0};
	esk_client_options options = ESK_CLIENT_OPTIONS_INIT;
	const char *timeout = cli_value(j->args, "timeout");
	if (timeout != NULL && (!cli_parse_span(timeout, &options.timeout_ns) || options.timeout_ns == 0))
		return cli_usage(
			j->args, "--timeout: a time as 500ms or 10s was expected, found \"%s\"", timeout);
	return esk_client_connect(path, &options, &j->client, &err) == ESK_OK ? CLI_OK : cli_fail_with(&err);
}

static int run_send(cli_args *args)
{
	cli_place place;
	int code = cli_place_find(args, &place);
	if (code != CLI_OK)
		return code;
	job j = {.args = args, .instrument = place.words[0]};
	if (place.word_count > 1 && strcmp(place.words[1], "-") != 0)
		j.file = place.words[1];
	const char *socket = cli_value(args, "socket");
	code = connect_to(&j, socket != NULL ? socket : place.path);
	if (code == CLI_OK) {
		cli_catch_signals();
		code = open_input(&j);
	}
	if (code == CLI_OK)
		code = send_and_wait(&j);
	if (j.schema.release != NULL)
		j.schema.release(&j.schema);
	if (j.stream.release != NULL)
		j.stream.release(&j.stream);
	esk_client_close(j.client);
	return code;
}

static const cli_option send_options[] = {
	{"socket", 0, "PATH", "file", "the daemon's socket; default: STORE/spool/daemon.sock"},
	{"no-flush", 0, NULL, NULL, "return when all is acknowledged; do not wait for the disk"},
	{"timeout", 0, "TIME", NULL, "how long the daemon may take to answer; default 60s"},
	{"json", 0, NULL, NULL, "print the summary as JSON"},
	{"quiet", 'q', NULL, NULL, "print no summary"},
	{0},
};

const cli_command cli_send = {
	.name = "send",
	.summary = "send Arrow record batches to the daemon of a store",
	.usage = "[STORE] INSTRUMENT [FILE|-] [OPTIONS]",
	.description = "Sends an Arrow IPC stream or file, or the stream on standard input, to the daemon "
		       "that serves the store, batch by batch, and waits until all of it is on disk. Batches "
		       "larger than the daemon's messages are divided. The end of the input, Ctrl-C and "
		       "SIGTERM end it; what was sent stays. A batch of another schema than the instrument "
		       "has is refused, and the message says what is different.",
	.options = send_options,
	.examples = (const cli_example[]){{"esker send data scope waveforms.arrow", "a file"},
		{"acquire --arrow | esker send data scope", "what a program writes, as long as it runs"},
		{0}},
	.needs = CLI_STORE,
	.words_least = 1,
	.words_most = 2,
	.complete = "file",
	.run = run_send,
};
