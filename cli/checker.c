/* Verify and repair in a child process: see checker.h. */
#include "checker.h"

#include "catalogue.h"
#include "progress.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- findings ---- */

static json_t *text_or_null(const char *text)
{
	json_t *value = text != NULL && text[0] != '\0' ? json_string(text) : NULL;
	return value != NULL ? value : json_null();
}

static json_t *finding_as_json(const esk_finding *f)
{
	return json_pack("{s:o, s:o, s:o, s:I, s:I, s:s, s:o}", "run", text_or_null(f->run), "file",
		text_or_null(f->file), "dataset", text_or_null(f->dataset), "first_row",
		(json_int_t)f->first_row, "row_count", (json_int_t)f->row_count, "code",
		esk_status_name(f->code), "message", text_or_null(f->message));
}

void cli_collect_finding(void *arg, const esk_finding *finding)
{
	json_array_append_new(arg, finding_as_json(finding));
}

void cli_print_finding(const json_t *f)
{
	const char *file = cli_json_text(f, "file"), *dataset = cli_json_text(f, "dataset");
	const char *where = file[0] != '\0' ? file : cli_json_text(f, "run");
	const char *message = cli_json_text(f, "message");
	uint64_t first = cli_json_number(f, "first_row"), count = cli_json_number(f, "row_count");
	cli_put_escaped(stdout, where, strlen(where));
	if (dataset[0] != '\0') {
		fputs(dataset[0] == '/' ? " " : "/", stdout);
		cli_put_escaped(stdout, dataset, strlen(dataset));
	}
	if (count > 0)
		printf(" rows %" PRIu64 ":%" PRIu64, first, first + count);
	printf(": %s: ", cli_json_text(f, "code"));
	cli_put_escaped(stdout, message, strlen(message));
	fputc('\n', stdout);
	fflush(stdout);
}

/* ---- the child ---- */

static void send(FILE *out, json_t *line)
{
	char *text = json_dumps(line, JSON_COMPACT);
	if (text != NULL)
		fprintf(out, "%s\n", text);
	fflush(out);
	free(text);
	json_decref(line);
}

static void send_finding(void *arg, const esk_finding *finding)
{
	send(arg, json_pack("{s:o}", "finding", finding_as_json(finding)));
}

static bool send_progress(void *arg, uint64_t done, uint64_t total)
{
	send(arg, json_pack("{s:I, s:I}", "done", (json_int_t)done, "total", (json_int_t)total));
	return !cli_stop_requested() && !ferror((FILE *)arg); /* nobody listens any more */
}

static json_t *report_as_line(const esk_check_report *r)
{
	return json_pack("{s:{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}}", "report", "runs",
		(json_int_t)r->runs, "files", (json_int_t)r->files, "datasets", (json_int_t)r->datasets,
		"chunks", (json_int_t)r->chunks, "bytes", (json_int_t)r->bytes, "findings",
		(json_int_t)r->findings, "salvaged_rows", (json_int_t)r->salvaged_rows, "gap_rows",
		(json_int_t)r->gap_rows);
}

static int work(const cli_checker *c, const json_t *names, size_t first, FILE *out)
{
	cli_place place = {.path = c->path, .verbose = c->verbose};
	int code = cli_place_open_store(&place, !c->repair);
	if (code != CLI_OK)
		return code;
	esk_check_options options = ESK_CHECK_OPTIONS_INIT;
	options.threads = c->threads;
	options.finding = send_finding;
	options.progress = send_progress;
	options.arg = out;
	options.untried = !c->repair; /* this process is for that, and a run at a time is asked for */
	for (size_t i = first; i < json_array_size(names) && code == CLI_OK; i++) {
		esk_check_report report = {0};
		esk_error err = {0};
		options.run = cli_json_text(json_array_get(names, i), "name");
		send(out, json_pack("{s:I}", "begin", (json_int_t)i));
		esk_status status = c->repair ? esk_store_repair(place.store, &options, &report, &err)
					      : esk_store_verify(place.store, &options, &report, &err);
		if (status == ESK_OK)
			send(out, report_as_line(&report));
		else if (!cli_stop_requested())
			code = cli_fail_with(&err);
		if (cli_stop_requested())
			code = cli_fail("interrupted: not everything was looked at");
	}
	return cli_place_close(&place, code);
}

static pid_t start(const cli_checker *c, const json_t *names, size_t first, FILE **ret_in)
{
	int ends[2];
	fflush(stdout);
	if (pipe2(ends, O_CLOEXEC) != 0)
		return -1;
	pid_t child = fork();
	if (child == 0) {
		close(ends[0]);
		FILE *out = fdopen(ends[1], "w");
		_exit(out != NULL ? work(c, names, first, out) : CLI_FAILED);
	}
	close(ends[1]);
	*ret_in = child > 0 ? fdopen(ends[0], "r") : NULL;
	if (*ret_in == NULL)
		close(ends[0]);
	return child;
}

/* ---- the parent ---- */

static void take_finding(cli_checker *c, json_t *finding)
{
	json_array_append(c->findings, finding);
	if (c->quiet)
		return;
	cli_progress_clear();
	cli_print_finding(finding);
}

static void add_report(esk_check_report *sum, const json_t *r)
{
	sum->runs += cli_json_number(r, "runs");
	sum->files += cli_json_number(r, "files");
	sum->datasets += cli_json_number(r, "datasets");
	sum->chunks += cli_json_number(r, "chunks");
	sum->bytes += cli_json_number(r, "bytes");
	sum->findings += cli_json_number(r, "findings");
	sum->salvaged_rows += cli_json_number(r, "salvaged_rows");
	sum->gap_rows += cli_json_number(r, "gap_rows");
}

static void take_line(cli_checker *c, const json_t *line, size_t *current)
{
	json_t *finding = json_object_get(line, "finding");
	const json_t *report = json_object_get(line, "report");
	if (finding != NULL)
		take_finding(c, finding);
	else if (report != NULL)
		add_report(&c->sum, report);
	else if (json_object_get(line, "begin") != NULL)
		*current = cli_json_number(line, "begin");
	else if (cli_progress_due())
		cli_progress_draw(cli_json_number(line, "done"), cli_json_number(line, "total"), "");
}

/* Reads what the child sends until it ends; gives its exit as waitpid has it. */
static int listen_to(cli_checker *c, pid_t child, FILE *in, size_t *current)
{
	char *text = NULL;
	size_t size = 0;
	int exit = -1;
	while (getline(&text, &size, in) > 0) {
		if (cli_stop_requested())
			kill(child, SIGTERM); /* a signal for this process alone */
		json_t *line = json_loads(text, 0, NULL);
		if (line != NULL)
			take_line(c, line, current);
		json_decref(line);
	}
	free(text);
	fclose(in);
	while (waitpid(child, &exit, 0) < 0 && errno == EINTR)
		;
	return exit;
}

static void crashed(cli_checker *c, const json_t *names, size_t at, int number)
{
	char message[256];
	snprintf(message, sizeof message,
		"libhdf5 crashed (%s) on this run: the structure of one of its files is damaged; h5dump may "
		"tell where",
		strsignal(number));
	esk_finding finding = {.run = cli_json_text(json_array_get(names, at), "name"),
		.code = ESK_ECORRUPT,
		.message = message};
	json_t *object = finding_as_json(&finding);
	c->sum.findings++;
	take_finding(c, object);
	json_decref(object);
}

/* Signals that a faulty program raises itself. */
static bool is_fault(int number)
{
	return number == SIGSEGV || number == SIGBUS || number == SIGABRT || number == SIGFPE ||
	       number == SIGILL;
}

int cli_check(cli_checker *c, const char *verb, const json_t *names)
{
	int code = CLI_OK;
	c->findings = json_array();
	cli_progress_begin(verb);
	for (size_t first = 0; first < json_array_size(names) && code == CLI_OK;) {
		size_t current = SIZE_MAX;
		FILE *in;
		pid_t child = start(c, names, first, &in);
		if (child < 0 || in == NULL) {
			code = cli_fail("no process for the check: %s", strerror(errno));
			break;
		}
		int exit = listen_to(c, child, in, &current);
		first = json_array_size(names);
		if (WIFEXITED(exit)) {
			code = WEXITSTATUS(exit);
		} else if (!is_fault(WTERMSIG(exit))) {
			code = cli_fail("ended by a signal (%s): not everything was looked at",
				strsignal(WTERMSIG(exit)));
		} else if (current == SIZE_MAX) {
			code = cli_fail("%s: opening the store crashed (%s): 'esker verify RUN' tells which "
					"file is damaged",
				c->path, strsignal(WTERMSIG(exit)));
		} else {
			crashed(c, names, current, WTERMSIG(exit));
			first = current + 1;
		}
	}
	cli_progress_end();
	return code;
}

void cli_checker_clear(cli_checker *checker)
{
	json_decref(checker->findings);
	checker->findings = NULL;
}
