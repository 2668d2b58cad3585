/* The player: see player.h.
 *
 *     ┌ picture ───────────┬ panel ─┐
 *     │                    │        │     In narrow terminals the panel is below the picture.
 *     └ keys, or a number to go to ─┘
 *
 * Each line is made as text; those that are as they were are not written again. */
#include "player.h"

#include "screen.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define PANEL_COLUMNS 30
#define WIDE_COLUMNS 72 /* from here on, the panel is beside the picture */
#define PANEL_LINES 10
#define NARROW_LINES 3
#define FPS_LEAST 0.25
#define FPS_MOST 960

typedef struct player {
	cli_tape *tape;
	cli_shade shade;
	uint64_t step;
	bool playing;
	bool at_end; /* there was no more to play */
	double fps;
	int64_t due_ns; /* of the next step, while playing */
	bool seeking;
	char wish[20]; /* the number typed so far */
	unsigned columns, lines;
	char **shown; /* what is on the screen, line by line; NULL for a line: not known */
} player;

/* ---- text ---- */

/* As much of escaped `text` as fits into `columns`. */
static void put_clipped(FILE *out, const char *text, unsigned columns)
{
	for (size_t left = strlen(text); left > 0 && columns > 0; columns--) {
		uint32_t code;
		size_t size = cli_utf8(text, left, &code);
		if (size == 0)
			return;
		fwrite(text, 1, size, out);
		text += size;
		left -= size;
	}
}

static void put_line(FILE *out, unsigned columns, const char *format, ...) ESK_PRINTF(3, 4);
static void put_line(FILE *out, unsigned columns, const char *format, ...)
{
	char *text = NULL;
	va_list list;
	va_start(list, format);
	int size = vasprintf(&text, format, list);
	va_end(list);
	if (size >= 0)
		put_clipped(out, text, columns);
	free(size >= 0 ? text : NULL);
}

/* ---- the panel ---- */

static void put_wide_panel(FILE *out, const player *p, const cli_step *step, unsigned line)
{
	const esk_replay_episode *episode = &p->tape->episode;
	bool last = p->step + 1 >= episode->length;
	char *name;
	switch (line) {
	case 0:
		name = cli_escaped(p->tape->name, strlen(p->tape->name));
		put_line(out, PANEL_COLUMNS, "run      %s", name);
		free(name);
		return;
	case 1:
		put_line(out, PANEL_COLUMNS, "episode  %" PRIu64 " of %" PRIu64, episode->id,
			p->tape->episodes);
		return;
	case 2:
		put_line(out, PANEL_COLUMNS, "step     %" PRIu64 " of %" PRIu64, p->step, episode->length);
		return;
	case 3:
		put_line(out, PANEL_COLUMNS, "row      %" PRIu64, step->row);
		return;
	case 4:
		put_line(out, PANEL_COLUMNS, "action   %s", step->action);
		return;
	case 5:
		if (step->has_reward)
			put_line(out, PANEL_COLUMNS, "reward   %.6g", step->reward);
		return;
	case 6:
		if (step->has_reward)
			put_line(out, PANEL_COLUMNS, "total    %.6g", step->total);
		return;
	case 7:
		if (last)
			put_line(out, PANEL_COLUMNS, "outcome  %s", cli_outcome(episode->outcome));
		return;
	case PANEL_LINES - 1:
		put_line(out, PANEL_COLUMNS,
			p->at_end    ? "the end"
			: p->playing ? "%g steps a second"
				     : "paused (%g)",
			p->fps);
		return;
	default:
		return;
	}
}

static void put_narrow_panel(FILE *out, const player *p, const cli_step *step, unsigned line)
{
	const esk_replay_episode *episode = &p->tape->episode;
	if (line == 0)
		put_line(out, p->columns, "episode %" PRIu64 "/%" PRIu64 "  step %" PRIu64 "/%" PRIu64,
			episode->id, p->tape->episodes, p->step, episode->length);
	else if (line == 1 && step->has_reward)
		put_line(out, p->columns, "reward %.6g  total %.6g", step->reward, step->total);
	else if (line == 2)
		put_line(out, p->columns, "action %s", step->action);
}

static void put_keys(FILE *out, const player *p)
{
	if (p->seeking)
		put_line(out, p->columns, "go to step: %s_", p->wish);
	else
		put_line(out, p->columns, "%s", CLI_PLAYER_KEYS);
}

/* ---- drawing ---- */

typedef struct layout {
	unsigned picture_lines;
	unsigned panel_line; /* of the panel's first */
	bool wide;
	cli_raster picture; /* without data where there is none */
} layout;

static void lay_out(const player *p, const cli_step *step, layout *l)
{
	*l = (layout){.wide = p->columns >= WIDE_COLUMNS};
	unsigned below = l->wide ? 1 : 1 + NARROW_LINES;
	unsigned lines = p->lines > below ? p->lines - below : 0;
	unsigned columns = l->wide ? p->columns - PANEL_COLUMNS - 2 : p->columns;
	if (step->frame != NULL && lines > 0) {
		cli_blocks_fit(step->frame, columns, lines, &l->picture);
		l->picture_lines = (unsigned)(l->picture.height / 2);
	}
	l->panel_line = l->wide ? 0 : l->picture_lines;
}

static void compose(FILE *out, const player *p, const cli_step *step, const layout *l, unsigned line)
{
	if (line + 1 == p->lines) {
		put_keys(out, p);
		fputs("\033[K", out);
		return;
	}
	if (line < l->picture_lines)
		cli_blocks_put(out, &l->picture, line, p->shade);
	fputs("\033[K", out);
	if (l->wide && line < PANEL_LINES) {
		fprintf(out, "\033[%" PRIu64 "G", l->picture.width + 3);
		put_wide_panel(out, p, step, line);
	} else if (!l->wide && line >= l->panel_line && line < l->panel_line + NARROW_LINES) {
		put_narrow_panel(out, p, step, line - l->panel_line);
	}
}

/* Writes the line unless it is there already. */
static void show_line(player *p, FILE *all, const cli_step *step, const layout *l, unsigned line)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	if (out == NULL)
		return;
	compose(out, p, step, l, line);
	fclose(out);
	if (p->shown[line] != NULL && strcmp(p->shown[line], text) == 0) {
		free(text);
		return;
	}
	fprintf(all, "\033[%u;1H%s", line + 1, text);
	free(p->shown[line]);
	p->shown[line] = text;
}

static void forget_shown(player *p)
{
	for (unsigned i = 0; i < p->lines; i++)
		free(p->shown[i]);
	free(p->shown);
	p->shown = NULL;
	p->lines = 0;
}

static void measure(player *p)
{
	forget_shown(p);
	cli_screen_size(&p->columns, &p->lines);
	p->shown = cli_alloc(p->lines * sizeof *p->shown);
	memset(p->shown, 0, p->lines * sizeof *p->shown);
	cli_screen_put("\033[0m\033[2J", 8);
}

static int draw(player *p)
{
	cli_step step = {.action = ""};
	layout l;
	char *text = NULL;
	size_t size = 0;
	int code = p->tape->episode.length > 0 ? cli_tape_step(p->tape, p->step, &step) : CLI_OK;
	if (code != CLI_OK)
		return code;
	FILE *all = open_memstream(&text, &size);
	if (all == NULL)
		return cli_fail("out of memory for the screen");
	lay_out(p, &step, &l);
	for (unsigned line = 0; line < p->lines; line++)
		show_line(p, all, &step, &l, line);
	fclose(all);
	cli_screen_put(text, size);
	free(text);
	free(l.picture.data);
	return CLI_OK;
}

/* ---- moving ---- */

static int take(player *p, uint64_t id, uint64_t step)
{
	int code = cli_tape_take(p->tape, id);
	uint64_t length = p->tape->episode.length;
	p->step = step < length ? step : length > 0 ? length - 1 : 0;
	p->at_end = false;
	return code;
}

/* Behind the last step: the run may have grown. */
static int look_for_more(player *p)
{
	uint64_t id = p->tape->episode.id, length = p->tape->episode.length;
	int code = cli_tape_refresh(p->tape);
	if (code == CLI_OK)
		code = take(p, id, p->step);
	if (code != CLI_OK)
		return code;
	if (p->tape->episode.length > length && length > 0)
		p->step++;
	else if (id + 1 < p->tape->episodes)
		return take(p, id + 1, 0);
	else
		p->at_end = true;
	if (p->at_end)
		p->playing = false;
	return CLI_OK;
}

static int forward(player *p)
{
	if (p->step + 1 < p->tape->episode.length) {
		p->step++;
		return CLI_OK;
	}
	if (p->tape->episode.id + 1 < p->tape->episodes)
		return take(p, p->tape->episode.id + 1, 0);
	return look_for_more(p);
}

static int back(player *p)
{
	p->at_end = false;
	if (p->step > 0)
		p->step--;
	else if (p->tape->episode.id > 0)
		return take(p, p->tape->episode.id - 1, UINT64_MAX);
	return CLI_OK;
}

static int change_episode(player *p, bool next)
{
	uint64_t id = p->tape->episode.id;
	if (next && id + 1 < p->tape->episodes)
		return take(p, id + 1, 0);
	if (!next && id > 0)
		return take(p, id - 1, 0);
	if (!next)
		p->step = 0;
	return CLI_OK;
}

static void seek(player *p, uint64_t step)
{
	uint64_t length = p->tape->episode.length;
	p->step = step < length ? step : length > 0 ? length - 1 : 0;
	p->at_end = false;
}

static void change_speed(player *p, double factor)
{
	double fps = p->fps * factor;
	if (fps >= FPS_LEAST && fps <= FPS_MOST)
		p->fps = fps;
	p->due_ns = cli_now_ns();
}

/* A key while a number is typed. */
static void type_number(player *p, int key)
{
	size_t size = strlen(p->wish);
	uint64_t step;
	if (key >= '0' && key <= '9' && size + 1 < sizeof p->wish) {
		p->wish[size] = (char)key;
		p->wish[size + 1] = '\0';
	} else if (key == CLI_KEY_ERASE && size > 0) {
		p->wish[size - 1] = '\0';
	} else if (key == CLI_KEY_ENTER || key == CLI_KEY_ESCAPE || key == 'q') {
		if (key == CLI_KEY_ENTER && cli_parse_u64(p->wish, &step))
			seek(p, step);
		p->seeking = false;
	}
}

static int press(player *p, int key)
{
	switch (key) {
	case ' ':
		p->playing = !p->playing;
		p->due_ns = cli_now_ns();
		return CLI_OK;
	case 'l':
	case '.':
	case CLI_KEY_RIGHT:
		p->playing = false;
		return forward(p);
	case 'h':
	case ',':
	case CLI_KEY_LEFT:
		p->playing = false;
		return back(p);
	case ']':
	case 'n':
	case CLI_KEY_DOWN:
		return change_episode(p, true);
	case '[':
	case 'p':
	case CLI_KEY_UP:
		return change_episode(p, false);
	case '0':
	case CLI_KEY_HOME:
		seek(p, 0);
		return CLI_OK;
	case '$':
	case CLI_KEY_END:
		seek(p, UINT64_MAX);
		return CLI_OK;
	case '+':
	case '=':
		change_speed(p, 2);
		return CLI_OK;
	case '-':
		change_speed(p, 0.5);
		return CLI_OK;
	case 'g':
		p->seeking = true;
		p->playing = false;
		p->wish[0] = '\0';
		return CLI_OK;
	default:
		return CLI_OK;
	}
}

/* The time of the next step is the last one's plus the interval, unless drawing takes longer. */
static int play_on(player *p)
{
	int64_t now = cli_now_ns(), interval = (int64_t)(1e9 / p->fps);
	p->due_ns = p->due_ns + interval > now ? p->due_ns + interval : now;
	return forward(p);
}

static int play(player *p)
{
	for (;;) {
		int code = draw(p);
		if (code != CLI_OK)
			return code;
		int key = cli_screen_wait(p->playing ? p->due_ns : INT64_MAX);
		if (key == CLI_KEY_STOP || ((key == 'q' || key == 'Q') && !p->seeking))
			return CLI_OK;
		if (key == CLI_KEY_RESIZED)
			measure(p);
		else if (key == CLI_KEY_NONE)
			code = p->playing ? play_on(p) : CLI_OK;
		else if (p->seeking)
			type_number(p, key);
		else
			code = press(p, key);
		if (code != CLI_OK)
			return code;
	}
}

int cli_player_run(cli_tape *tape, const cli_play *wanted)
{
	player p = {.tape = tape, .shade = wanted->shade, .playing = true, .fps = wanted->fps};
	int code = take(&p, wanted->episode, wanted->step);
	if (code == CLI_OK)
		code = cli_screen_open();
	if (code != CLI_OK)
		return code;
	measure(&p);
	p.due_ns = cli_now_ns() + (int64_t)(1e9 / p.fps);
	code = play(&p);
	forget_shown(&p);
	cli_screen_close();
	return code;
}

/* ---- printing ---- */

int cli_player_print(FILE *out, cli_tape *tape, uint64_t step, unsigned columns, cli_shade shade)
{
	cli_step shown;
	int code = cli_tape_step(tape, step, &shown);
	if (code != CLI_OK)
		return code;
	fprintf(out, "episode %" PRIu64 "  step %" PRIu64 "  row %" PRIu64, tape->episode.id, step,
		shown.row);
	if (shown.action[0] != '\0')
		fprintf(out, "  action %s", shown.action);
	if (shown.has_reward)
		fprintf(out, "  reward %.6g  total %.6g", shown.reward, shown.total);
	fputc('\n', out);
	if (shown.frame == NULL)
		return CLI_OK;
	cli_raster picture;
	cli_blocks_fit(shown.frame, columns, columns, &picture);
	for (unsigned line = 0; line < picture.height / 2; line++) {
		cli_blocks_put(out, &picture, line, shade);
		fputc('\n', out);
	}
	free(picture.data);
	return CLI_OK;
}
