/* esker top: what is being recorded, live. */
#include "commands.h"
#include "json.h"
#include "live.h"
#include "progress.h"
#include "screen.h"

#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define NAME_LEAST 8
#define NAME_MOST 40

typedef struct top {
	cli_live *live;
	const char *store;
	uint64_t interval_ns;
	const cli_live_row *rows;
	size_t count;
	size_t first; /* row at the top of the screen */
} top;

/* ---- lines ---- */

/* Heights of a bar, an eighth of a line each. */
static void put_spark(FILE *out, const cli_live_row *row, unsigned columns)
{
	static const char *const bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
	double least = INFINITY, greatest = -INFINITY;
	size_t first = row->point_count > columns ? row->point_count - columns : 0;
	for (size_t i = first; i < row->point_count; i++) {
		if (!isfinite(row->points[i]))
			continue;
		least = fmin(least, row->points[i]);
		greatest = fmax(greatest, row->points[i]);
	}
	for (size_t i = first; i < row->point_count; i++) {
		double part = greatest > least ? (row->points[i] - least) / (greatest - least) : 0.5;
		fputs(isfinite(row->points[i]) ? bars[(int)(part * 7.99)] : " ", out);
	}
}

static const char *rate_text(double rate, cli_buf *buf)
{
	if (isnan(rate))
		return "-";
	if (rate < 100)
		snprintf(buf->text, sizeof buf->text, "%.3g/s", rate);
	else {
		cli_buf count;
		snprintf(buf->text, sizeof buf->text, "%s/s", cli_count((uint64_t)rate, &count));
	}
	return buf->text;
}

static unsigned name_width(const top *t)
{
	unsigned width = NAME_LEAST;
	for (size_t i = 0; i < t->count; i++) {
		size_t size = strlen(t->rows[i].name);
		width = size > width ? (unsigned)size : width;
	}
	return width < NAME_MOST ? width : NAME_MOST;
}

static void put_titles(FILE *out, unsigned width)
{
	fprintf(out, "%-*s %14s %12s %5s %9s %9s %8s  %s", (int)width, "STREAM", "ROWS", "RATE", "RING",
		"LAG", "LOST", "COMMIT", "COLUMN");
}

static void put_row(FILE *out, const cli_live_row *row, unsigned width, unsigned columns)
{
	cli_buf rows, rate, lag, lost, age;
	char fill[16] = "-";
	char *name = cli_escaped(row->name, strlen(row->name));
	if (!isnan(row->fill))
		snprintf(fill, sizeof fill, "%.0f %%", 100 * row->fill);
	int used = fprintf(out, "%-*.*s %14s %12s %5s %9s %9s %8s  ", (int)width, (int)width, name,
		cli_count(row->rows, &rows), rate_text(row->rate, &rate), fill,
		isnan(row->fill) ? "-" : cli_bytes(row->lag_bytes, &lag), cli_count(row->lost_records, &lost),
		row->age_ns == INT64_MIN ? "-"
					 : cli_span((uint64_t)(row->age_ns > 0 ? row->age_ns : 0), &age));
	free(name);
	if (row->column == NULL)
		return;
	char *column = cli_escaped(row->column, strlen(row->column));
	unsigned left = columns > (unsigned)used ? columns - (unsigned)used : 0;
	const char *slash = strrchr(column, '/');
	int head = snprintf(NULL, 0, "%s %.4g ", slash != NULL ? slash + 1 : column, row->last);
	if (left > (unsigned)head) {
		fprintf(out, "%s %.4g ", slash != NULL ? slash + 1 : column, row->last);
		put_spark(out, row, left - (unsigned)head);
	}
	free(column);
}

/* ---- once ---- */

static void print_json(const top *t)
{
	json_t *all = json_array();
	for (size_t i = 0; i < t->count; i++) {
		const cli_live_row *row = &t->rows[i];
		json_t *one = json_pack("{s:s, s:b, s:I, s:I, s:I}", "name", row->name, "ring",
			(int)row->ring, "rows", (json_int_t)row->rows, "lag_bytes",
			(json_int_t)row->lag_bytes, "lost_records", (json_int_t)row->lost_records);
		json_object_set_new(one, "rate", isnan(row->rate) ? json_null() : json_real(row->rate));
		json_object_set_new(one, "fill", isnan(row->fill) ? json_null() : json_real(row->fill));
		json_object_set_new(
			one, "age_ns", row->age_ns == INT64_MIN ? json_null() : json_integer(row->age_ns));
		json_object_set_new(
			one, "column", row->column != NULL ? json_string(row->column) : json_null());
		json_object_set_new(one, "last", isfinite(row->last) ? json_real(row->last) : json_null());
		json_array_append_new(all, one);
	}
	cli_print_json(all);
}

/* A rate needs two looks. */
static int print_once(top *t, bool json)
{
	int code = cli_live_look(t->live, &t->rows, &t->count);
	struct pollfd stop = {.fd = cli_stop_fd(), .events = POLLIN};
	if (code == CLI_OK && t->count > 0)
		(void)poll(&stop, 1, (int)(t->interval_ns / 1000000));
	if (code == CLI_OK)
		code = cli_live_look(t->live, &t->rows, &t->count);
	if (code != CLI_OK)
		return code;
	if (json) {
		print_json(t);
		return CLI_OK;
	}
	unsigned width = name_width(t);
	put_titles(stdout, width);
	putchar('\n');
	for (size_t i = 0; i < t->count; i++) {
		put_row(stdout, &t->rows[i], width, 160);
		putchar('\n');
	}
	return CLI_OK;
}

/* ---- the screen ---- */

static void draw(const top *t)
{
	char *text = NULL;
	size_t size;
	unsigned columns, lines, width = name_width(t);
	FILE *out = open_memstream(&text, &size);
	if (out == NULL)
		return;
	cli_screen_size(&columns, &lines);
	char *store = cli_escaped(t->store, strlen(t->store));
	fprintf(out, "\033[H\033[1mesker top\033[0m  %.*s  %zu live\033[K\r\n\033[K\r\n\033[7m",
		(int)(columns / 2), store, t->count);
	free(store);
	put_titles(out, width);
	fputs("\033[K\033[0m", out);
	for (unsigned line = 3; line + 1 < lines; line++) {
		size_t i = t->first + line - 3;
		fputs("\r\n", out);
		if (i < t->count)
			put_row(out, &t->rows[i], width, columns);
		else if (i == 0)
			fputs("nothing is being recorded", out);
		fputs("\033[K", out);
	}
	fputs("\r\nq quit   up, down scroll   + - interval\033[K", out);
	fclose(out);
	cli_screen_put(text, size);
	free(text);
}

/* False: quit. */
static bool press(top *t, int key)
{
	switch (key) {
	case 'q':
	case 'Q':
	case CLI_KEY_STOP:
		return false;
	case CLI_KEY_DOWN:
	case 'j':
		t->first += t->first + 1 < t->count;
		return true;
	case CLI_KEY_UP:
	case 'k':
		t->first -= t->first > 0;
		return true;
	case '+':
		t->interval_ns = t->interval_ns > 200000000 ? t->interval_ns / 2 : t->interval_ns;
		return true;
	case '-':
		t->interval_ns = t->interval_ns < 30000000000 ? t->interval_ns * 2 : t->interval_ns;
		return true;
	default:
		return true;
	}
}

static int watch(top *t)
{
	int code = cli_screen_open();
	if (code != CLI_OK)
		return code;
	int64_t due = cli_now_ns();
	for (bool on = true; on && code == CLI_OK;) {
		if (cli_now_ns() >= due) {
			code = cli_live_look(t->live, &t->rows, &t->count);
			due = cli_now_ns() + (int64_t)t->interval_ns;
			t->first = t->first < t->count ? t->first : 0;
		}
		draw(t);
		on = code == CLI_OK && press(t, cli_screen_wait(due));
	}
	cli_screen_close();
	return code;
}

static int run_top(cli_args *args)
{
	const char *interval = cli_value(args, "interval");
	bool once = cli_flag(args, "once") || cli_flag(args, "json");
	top t = {.interval_ns = 1000000000};
	if (interval != NULL && (!cli_parse_span(interval, &t.interval_ns) || t.interval_ns < 50000000 ||
					t.interval_ns > 60000000000))
		return cli_usage(
			args, "--interval: a time from 50ms to 60s was expected, found \"%s\"", interval);
	if (!once && !cli_screen_possible())
		return cli_usage(args,
			"top draws in a terminal, and standard input and output are none; --once prints");
	cli_place place;
	int code = cli_place_open(args, true, &place);
	if (code != CLI_OK)
		return code;
	if (once)
		cli_catch_signals();
	t.live = cli_live_open(&place, cli_value(args, "column"));
	t.store = place.path;
	code = once ? print_once(&t, cli_flag(args, "json")) : watch(&t);
	cli_live_close(t.live);
	return cli_place_close(&place, code);
}

const cli_command cli_top = {
	.name = "top",
	.summary = "show what is being recorded, live",
	.usage = "[STORE] [--column COLUMN] [--interval TIME] [--once | --json]",
	.description = "One line for each stream of each run that is being recorded in the store, by any "
		       "process, and for each "
		       "ring of an instrument in its spool: committed rows (a ring: records), rows a second, "
		       "how full the ring "
		       "is, how much waits there, records that were overwritten before they were drained, "
		       "the time since the "
		       "last commit, and the last values of a column as a sparkline: the one named, else the "
		       "first that holds "
		       "single numbers. It looks on and holds nothing up. Keys: q quits, arrows scroll, + "
		       "and - change the "
		       "interval.",
	.options = (const cli_option[]){{"column", 'c', "COLUMN", NULL, "draw this column"},
		{"interval", 'i', "TIME", NULL, "look this often; default: 1s"},
		{"once", 0, NULL, NULL,
			"print one table, of two looks an interval apart (no terminal is needed)"},
		{"json", 0, NULL, NULL, "the same as JSON"}, {0}},
	.examples = (const cli_example[]){{"esker top data", "until q is pressed"},
		{"esker top data --column voltage -i 200ms", "a column of one's choice, five times a second"},
		{"esker top data --json | jq '.[] | select(.lost_records > 0)'", "who loses records"}, {0}},
	.needs = CLI_STORE,
	.words_least = 0,
	.words_most = 0,
	.run = run_top,
};
