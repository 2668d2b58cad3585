/* esker top: what is being recorded, live. */
#include "commands.h"
#include "json.h"
#include "live.h"
#include "progress.h"
#include "screen.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_LEAST 12
#define NAME_MOST 40
#define WIDE 100    /* columns of a terminal for all that there is to tell */
#define SPARK 26    /* left for the sparkline and its column's name */
#define PRINTED 160 /* where there is no terminal */
#define FILL_HIGH 0.9
#define SOON_NS 250000000      /* to the second look, which makes the first rates */
#define PATIENCE_NS 3000000000 /* for a commit that --once waits for */

typedef struct top {
	cli_live *live;
	const char *store;
	uint64_t interval_ns;
	const cli_live_row *rows;
	size_t count;
	size_t first; /* row at the top of the screen */
} top;

/* ---- lines ---- */

/* A line of the table, which never is wider than the terminal. */
typedef struct line {
	FILE *out;
	unsigned left; /* columns */
	bool colour;
} line;

/* Text in so many columns (to the right with `right`), as far as the line has them; text that is cut ends
 * in "…", a number that does not fit is left out. */
static void put_cell(line *l, const char *text, unsigned columns, bool right)
{
	size_t width = cli_width(text);
	if (right && columns > l->left) /* half a number says nothing */
		l->left = 0;
	unsigned room = columns < l->left ? columns : l->left;
	bool cut = width > room;
	size_t fit = cli_fit(text, cut && room > 0 ? room - 1 : room);
	unsigned pad = cut ? 0 : room - (unsigned)width;
	fprintf(l->out, "%*s%.*s%s%*s", right ? (int)pad : 0, "", (int)fit, text, cut && room > 0 ? "…" : "",
		right ? 0 : (int)pad, "");
	l->left -= room;
}

static void put_marked(line *l, const char *text, unsigned columns, const char *mark)
{
	fputs(l->colour && mark != NULL ? mark : "", l->out);
	put_cell(l, text, columns, true);
	fputs(l->colour && mark != NULL ? "\033[0m" : "", l->out);
}

/* Heights of a bar, an eighth of a line each, as far as the line goes. */
static void put_spark(line *l, const cli_live_row *row)
{
	static const char *const bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
	double least = INFINITY, greatest = -INFINITY;
	size_t first = row->point_count > l->left ? row->point_count - l->left : 0;
	for (size_t i = first; i < row->point_count; i++) {
		if (!isfinite(row->points[i]))
			continue;
		least = fmin(least, row->points[i]);
		greatest = fmax(greatest, row->points[i]);
	}
	for (size_t i = first; i < row->point_count; i++) {
		double part = greatest > least ? (row->points[i] - least) / (greatest - least) : 0.5;
		fputs(isfinite(row->points[i]) ? bars[(int)(part * 7.99)] : " ", l->out);
		l->left--;
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

/* Columns of the terminal that each has. */
typedef struct layout {
	unsigned all, name, rows, rate, commit;
} layout;

/* Names are as wide as they are, as long as numbers and a sparkline have room beside them; on a narrow
 * terminal the last commit gives way to them. */
static layout lay_out(const top *t, unsigned columns)
{
	bool wide = columns >= WIDE;
	layout l = {.all = columns,
		.name = NAME_LEAST,
		.rows = wide ? 14 : 11,
		.rate = wide ? 12 : 11,
		.commit = wide ? 9 : 0};
	unsigned taken = l.rows + l.rate + l.commit + 6 + 9 + 9 + 2 + SPARK;
	unsigned most = columns > taken + NAME_LEAST ? columns - taken : NAME_LEAST;
	most = most < NAME_MOST ? most : NAME_MOST;
	for (size_t i = 0; i < t->count; i++) {
		size_t size = cli_width(t->rows[i].name);
		l.name = size > l.name ? (unsigned)size : l.name;
	}
	l.name = l.name < most ? l.name : most;
	return l;
}

static void put_titles(FILE *out, const layout *at)
{
	line l = {.out = out, .left = at->all};
	put_cell(&l, "STREAM", at->name, false);
	put_cell(&l, "ROWS", at->rows, true);
	put_cell(&l, "RATE", at->rate, true);
	put_cell(&l, "RING", 6, true);
	put_cell(&l, "LAG", 9, true);
	put_cell(&l, "LOST", 9, true);
	if (at->commit > 0)
		put_cell(&l, "COMMIT", at->commit, true);
	put_cell(&l, "  COLUMN", l.left < 8 ? l.left : 8, false);
}

/* Records, where it is known how many; else how much. */
static const char *lost_text(const cli_live_row *row, cli_buf *buf)
{
	return row->lost_records == 0 && row->lost_bytes > 0 ? cli_bytes(row->lost_bytes, buf)
							     : cli_count(row->lost_records, buf);
}

static void put_numbers(line *l, const cli_live_row *row, const layout *at)
{
	static const char alarm[] = "\033[31;1m", warning[] = "\033[33m";
	cli_buf buf;
	char fill[16] = "-";
	if (!isnan(row->fill))
		snprintf(fill, sizeof fill, "%.0f %%", 100 * row->fill);
	put_cell(l, cli_count(row->rows, &buf), at->rows, true);
	put_cell(l, rate_text(row->rate, &buf), at->rate, true);
	put_marked(l, fill, 6, row->fill >= FILL_HIGH ? warning : NULL);
	put_cell(l, isnan(row->fill) ? "-" : cli_bytes(row->lag_bytes, &buf), 9, true);
	put_marked(l, lost_text(row, &buf), 9, row->lost_bytes + row->lost_records > 0 ? alarm : NULL);
	int64_t age = row->age_ns > 0 ? row->age_ns / 1000000 * 1000000 : 0;
	if (at->commit > 0)
		put_cell(l, row->age_ns == INT64_MIN ? "-" : cli_span((uint64_t)age, &buf), at->commit, true);
}

static void put_row(FILE *out, const cli_live_row *row, const layout *at, bool colour)
{
	line l = {.out = out, .left = at->all, .colour = colour};
	char *name = cli_escaped(row->name, strlen(row->name));
	const char *what = row->column != NULL ? row->column : row->consumers != NULL ? row->consumers : "";
	const char *slash = row->column != NULL ? strrchr(what, '/') : NULL;
	char *shown = cli_escaped(slash != NULL ? slash + 1 : what, strlen(slash != NULL ? slash + 1 : what));
	char value[32] = "";
	if (row->column != NULL)
		snprintf(value, sizeof value, " %.5g ", row->last);
	put_cell(&l, name, at->name, false);
	put_numbers(&l, row, at);
	put_cell(&l, "", 2, false);
	unsigned size = (unsigned)cli_width(shown);
	put_cell(&l, shown, size < l.left ? size : l.left, false);
	if (strlen(value) < l.left) {
		put_cell(&l, value, (unsigned)strlen(value), false);
		put_spark(&l, row);
	}
	free(shown);
	free(name);
}

/* ---- printing ---- */

static void print_json(const top *t)
{
	json_t *all = json_array();
	for (size_t i = 0; i < t->count; i++) {
		const cli_live_row *row = &t->rows[i];
		json_t *one = json_pack("{s:s, s:b, s:I, s:I, s:I, s:I}", "name", row->name, "ring",
			(int)row->ring, "rows", (json_int_t)row->rows, "lag_bytes",
			(json_int_t)row->lag_bytes, "lost_records", (json_int_t)row->lost_records,
			"lost_bytes", (json_int_t)row->lost_bytes);
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

static bool all_have_rates(const top *t)
{
	for (size_t i = 0; i < t->count; i++)
		if (isnan(t->rows[i].rate))
			return false;
	return true;
}

/* A rate needs two looks, and a commit between them. */
static int look_twice(top *t)
{
	struct pollfd stop = {.fd = cli_stop_fd(), .events = POLLIN};
	int64_t until = cli_now_ns() + (int64_t)t->interval_ns + PATIENCE_NS;
	int wait = (int)(t->interval_ns / 1000000);
	int code = cli_live_look(t->live, &t->rows, &t->count);
	while (code == CLI_OK && !all_have_rates(t) && cli_now_ns() < until && !cli_stop_requested()) {
		(void)poll(&stop, 1, wait);
		code = cli_live_look(t->live, &t->rows, &t->count);
		wait = 100;
	}
	return code;
}

static void print(const top *t, bool json)
{
	unsigned columns = PRINTED, lines;
	if (json) {
		print_json(t);
		return;
	}
	if (isatty(STDOUT_FILENO))
		cli_screen_size(&columns, &lines);
	layout at = lay_out(t, columns);
	put_titles(stdout, &at);
	putchar('\n');
	for (size_t i = 0; i < t->count; i++) {
		put_row(stdout, &t->rows[i], &at, cli_colour(stdout));
		putchar('\n');
	}
}

static int print_once(top *t, bool json)
{
	int code = look_twice(t);
	if (code == CLI_OK)
		print(t, json);
	return code;
}

/* A table for each look but the first, until it is stopped or nobody reads them. */
static int print_on(top *t, bool json)
{
	struct pollfd stop = {.fd = cli_stop_fd(), .events = POLLIN};
	int code = cli_live_look(t->live, &t->rows, &t->count);
	while (code == CLI_OK) {
		(void)poll(&stop, 1, (int)(t->interval_ns / 1000000));
		if (cli_stop_requested())
			break;
		code = cli_live_look(t->live, &t->rows, &t->count);
		if (code != CLI_OK)
			break;
		print(t, json);
		if (!json)
			putchar('\n');
		if (fflush(stdout) != 0)
			return cli_fail("standard output: %s", strerror(errno));
	}
	return code;
}

/* ---- the screen ---- */

/* What all of them do together. */
static void put_head(FILE *out, const top *t, unsigned columns)
{
	line l = {.out = out, .left = columns};
	cli_buf rate;
	char text[128];
	double sum = 0;
	for (size_t i = 0; i < t->count; i++)
		sum += isnan(t->rows[i].rate) || t->rows[i].ring ? 0 : t->rows[i].rate;
	snprintf(text, sizeof text, "  %zu live  %s", t->count, rate_text(sum, &rate));
	char *store = cli_escaped(t->store, strlen(t->store));
	unsigned size = (unsigned)cli_width(store), rest = (unsigned)strlen(text);
	fputs("\033[1m", out);
	put_cell(&l, "esker top", 9, false);
	fputs("\033[0m", out);
	put_cell(&l, "", 2, false);
	put_cell(&l, store, l.left > size + rest ? size : l.left > rest ? l.left - rest : 0, false);
	put_cell(&l, text, rest, false);
	free(store);
}

static void put_foot(FILE *out, const top *t, unsigned columns)
{
	line l = {.out = out, .left = columns};
	cli_buf span;
	char text[160];
	snprintf(text, sizeof text, "q quit   up, down scroll   + more often, - less: %s",
		cli_span(t->interval_ns, &span));
	put_cell(&l, text, columns, false);
}

static void draw(const top *t)
{
	char *text = NULL;
	size_t size;
	unsigned columns, lines;
	FILE *out = open_memstream(&text, &size);
	if (out == NULL)
		return;
	cli_screen_size(&columns, &lines);
	layout at = lay_out(t, columns);
	bool colour = cli_colour(stdout);
	fputs("\033[H", out);
	put_head(out, t, columns);
	fputs("\033[K\r\n\033[K\r\n\033[7m", out);
	put_titles(out, &at);
	fputs("\033[K\033[0m", out);
	for (unsigned down = 3; down + 1 < lines; down++) {
		size_t i = t->first + down - 3;
		fputs("\r\n", out);
		if (i < t->count)
			put_row(out, &t->rows[i], &at, colour);
		else if (i == 0)
			fputs("nothing is being recorded", out);
		fputs("\033[K", out);
	}
	fputs("\r\n", out);
	put_foot(out, t, columns);
	fputs("\033[K\033[J", out);
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
	bool first = true;
	for (bool on = true; on && code == CLI_OK;) {
		if (cli_now_ns() >= due) {
			code = cli_live_look(t->live, &t->rows, &t->count);
			due = cli_now_ns() +
			      (int64_t)(first && t->interval_ns > SOON_NS ? SOON_NS : t->interval_ns);
			first = false;
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
	bool json = cli_flag(args, "json"), batch = cli_flag(args, "batch");
	bool prints = json || batch || cli_flag(args, "once");
	top t = {.interval_ns = 1000000000};
	if (interval != NULL && (!cli_parse_span(interval, &t.interval_ns) || t.interval_ns < 50000000 ||
					t.interval_ns > 60000000000))
		return cli_usage(
			args, "--interval: a time from 50ms to 60s was expected, found \"%s\"", interval);
	if (batch && cli_flag(args, "once"))
		return cli_usage(args, "--batch prints on and on, --once does not: choose one");
	if (!prints && !cli_screen_possible())
		return cli_usage(args,
			"top draws on a terminal: standard input and output have to be one, "
			"and TERM not \"dumb\"; "
			"--once prints a table, --batch one each interval, --json the same for "
			"programs");
	cli_place place;
	int code = cli_place_open(args, true, &place);
	if (code != CLI_OK)
		return code;
	if (prints)
		cli_catch_signals();
	t.live = cli_live_open(&place, cli_value(args, "column"));
	t.store = place.path;
	code = batch ? print_on(&t, json) : prints ? print_once(&t, json) : watch(&t);
	cli_live_close(t.live);
	return cli_place_close(&place, code);
}

const cli_command cli_top = {
	.name = "top",
	.summary = "show what is being recorded, live",
	.usage = "[STORE] [--column COLUMN] [--interval TIME] [--once | --batch] [--json]",
	.description =
		"One line for each stream of each run that is being recorded in the store, by any "
		"process, and for each "
		"ring of an instrument in its spool: committed rows (a ring: records), rows a second, "
		"how full the ring "
		"is, how much waits there, records that were overwritten before they were drained, "
		"the time since the "
		"last commit, and the last values of a column as a sparkline: the one named, else the "
		"first that holds "
		"single numbers. Of an instrument's ring, the consumers and how far each is behind stand "
		"there. Rates are those of the last seconds, between commits. It looks on and holds nothing "
		"up. Keys: q quits, arrows scroll, + "
		"and - change the "
		"interval.",
	.options = (const cli_option[]){{"column", 'c', "COLUMN", NULL, "draw this column"},
		{"interval", 'i', "TIME", NULL, "look this often; default: 1s"},
		{"once", 0, NULL, NULL,
			"print one table, of two looks an interval apart (no terminal is needed)"},
		{"batch", 'b', NULL, NULL,
			"print a table each interval, until it is stopped (no terminal is needed)"},
		{"json", 0, NULL, NULL, "print as JSON; alone: once"}, {0}},
	.examples = (const cli_example[]){{"esker top data", "until q is pressed"},
		{"esker top data --column voltage -i 200ms", "a column of one's choice, five times a second"},
		{"esker top data --json | jq '.[] | select(.lost_records > 0)'", "who loses records"}, {0}},
	.needs = CLI_STORE,
	.words_least = 0,
	.words_most = 0,
	.run = run_top,
};
