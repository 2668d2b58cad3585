/* esker export: runs in the forms of other programs. */
#include "commands.h"
#include "episode.h"
#include "minari.h"
#include "npz.h"
#include "progress.h"
#include "target.h"
#include "video.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE_BYTES (16u << 20)

/* ---- video ---- */

static int parse_video(const cli_args *args, cli_video *video)
{
	*video = (cli_video){.fps = 30, .scale = 1};
	const char *fps = cli_value(args, "fps"), *scale = cli_value(args, "scale");
	if (fps != NULL) {
		char *end;
		video->fps = strtod(fps, &end);
		if (end == fps || *end != '\0' || !(video->fps >= 0.01 && video->fps <= 1000))
			return cli_usage(
				args, "--fps: a number from 0.01 to 1000 was expected, found \"%s\"", fps);
	}
	if (scale != NULL && !cli_parse_scale(scale, &video->scale))
		return cli_usage(args,
			"--scale: a factor from 0.001 to 64, as 2 or 1/4, was expected, found \"%s\"", scale);
	return cli_parse_look(args, &video->look);
}

static int export_video(const cli_args *args, cli_place *place)
{
	cli_video video;
	cli_selection s;
	const char *path = place->words[1];
	int code = parse_video(args, &video);
	if (code == CLI_OK && !cli_is_video_path(path))
		code = cli_usage(args, "%s: a file ending in .mp4, .gif, .mkv or .webm was expected", path);
	if (code != CLI_OK)
		return code;
	code = cli_select_given(args, place, place->words[0], 0, &s);
	if (code == CLI_OK)
		code = cli_write_video(path, &s, &video);
	cli_select_close(&s);
	return cli_place_close(place, code);
}

/* ---- npz ---- */

typedef struct archive {
	cli_npz *npz;
	const char *path; /* for messages */
	uint64_t arrays;
} archive;

/* Writes the cells, zeros where one is missing, and notes in `valid` which are there. */
static int add_cells(archive *a, cli_selection *s, const char *name, uint8_t *valid)
{
	uint64_t piece = cli_rows_piece(&s->rows, PIECE_BYTES);
	for (uint64_t i = 0; i < s->count; i += piece) {
		int code = cli_select_load(s, i, piece);
		if (code != CLI_OK)
			return code;
		cli_npz_write(a->npz, s->rows.data, s->rows.count * s->rows.cell_bytes);
		memcpy(valid + i, s->rows.valid, s->rows.count);
		if (cli_progress_due())
			cli_progress_draw(i * s->rows.cell_bytes, s->count * s->rows.cell_bytes, name);
		if (cli_stop_requested())
			return cli_fail("%s: interrupted; nothing was written", a->path);
	}
	return CLI_OK;
}

/* Which cells of a nullable array are there says one more, <name>_valid. */
static int add_array(archive *a, cli_selection *s, const char *name)
{
	uint64_t shape[ESK_MAX_RANK + 1];
	char valid_name[ESK_MAX_PATH + 16];
	uint32_t rank = cli_select_shape(s, shape);
	if (!cli_npz_array(a->npz, name, s->rows.info.column.dtype, shape, rank))
		return cli_fail("%s: strings of any length have no place in .npz; take 'esker cat'", s->text);
	uint8_t *valid = cli_alloc(s->count);
	int code = add_cells(a, s, name, valid);
	if (code == CLI_OK && s->rows.info.column.nullable && s->ref.kind != ESK_REF_INDEX) {
		snprintf(valid_name, sizeof valid_name, "%s_valid", name);
		cli_npz_array(a->npz, valid_name, (esk_dtype){ESK_BOOL, 1}, &s->count, 1);
		cli_npz_write(a->npz, valid, s->count);
	}
	a->arrays++;
	free(valid);
	return code;
}

/* What an archive takes of a run. */
typedef struct part {
	uint64_t every;
	esk_replay_reader *replay; /* NULL: all rows; else those of the episode */
	esk_replay_episode episode;
} part;

static int add_dataset(archive *a, esk_dataset *dataset, const part *p)
{
	cli_selection s = {0};
	esk_dataset_info info = {.struct_size = sizeof info};
	esk_error err = {0};
	int code;
	if (esk_dataset_get_info(dataset, &info, &err) != ESK_OK)
		return cli_fail_with(&err);
	if (info.column.dtype.kind == ESK_STRING) {
		cli_note("%s: strings of any length have no place in .npz: left out", info.path);
		return CLI_OK;
	}
	if (p->replay == NULL)
		code = cli_select_dataset(dataset, info.path, p->every, &s);
	else if (strncmp(info.path, "episodes/", 9) == 0)
		return CLI_OK;
	else
		code = cli_select_episode(&s, p->replay, &p->episode, dataset, info.path, p->every);
	if (code == CLI_OK)
		code = add_array(a, &s, info.path);
	cli_select_close(&s);
	return code;
}

static int add_datasets(archive *a, esk_reader *reader, const char *run, const part *p)
{
	int code = CLI_OK;
	for (size_t i = 0; i < esk_reader_dataset_count(reader) && code == CLI_OK; i++)
		code = add_dataset(a, esk_reader_dataset_at(reader, i), p);
	if (code == CLI_OK && a->arrays == 0)
		code = cli_fail("%s: the run has no array that .npz can hold", run);
	return code;
}

static int add_episode(archive *a, const cli_args *args, cli_place *place, part *p)
{
	const char *run = place->words[0];
	uint64_t id;
	int code = cli_replay_open(place, run, &p->replay);
	if (code == CLI_OK)
		code = cli_parse_episode(
			args, cli_value(args, "episode"), esk_replay_reader_episodes(p->replay), &id);
	if (code == CLI_OK)
		code = cli_episode_get(p->replay, id, &p->episode);
	if (code == CLI_OK)
		code = add_datasets(a, esk_replay_reader_base(p->replay), run, p);
	esk_replay_reader_close(p->replay);
	return code;
}

static int add_run(archive *a, const cli_args *args, cli_place *place)
{
	part p = {0};
	esk_reader *reader;
	esk_error err = {0};
	int code = cli_parse_every(args, &p.every);
	if (code == CLI_OK && p.every == 0)
		p.every = 1;
	if (code == CLI_OK)
		code = cli_place_open_store(place, true);
	if (code != CLI_OK)
		return code;
	if (cli_value(args, "episode") != NULL)
		return add_episode(a, args, place, &p);
	if (esk_reader_open(place->store, place->words[0], &reader, &err) != ESK_OK)
		return cli_fail_with(&err);
	code = add_datasets(a, reader, place->words[0], &p);
	esk_reader_close(reader);
	return code;
}

static int add_ref(archive *a, const cli_args *args, cli_place *place)
{
	cli_selection s;
	int code = cli_select_given(args, place, place->words[0], 0, &s);
	if (code == CLI_OK)
		code = add_array(a, &s, s.rows.info.path);
	cli_select_close(&s);
	return code;
}

static int fill_archive(FILE *out, const cli_args *args, cli_place *place)
{
	bool ref = strncmp(place->words[0], "h5://", 5) == 0;
	archive a = {.npz = cli_npz_begin(out, cli_flag(args, "compress")), .path = place->words[1]};
	cli_catch_signals();
	cli_progress_begin("exporting");
	int code = ref ? add_ref(&a, args, place) : add_run(&a, args, place);
	cli_progress_end();
	if (code == CLI_OK)
		cli_npz_end(a.npz);
	else
		cli_npz_discard(a.npz);
	return code;
}

static int export_npz(const cli_args *args, cli_place *place)
{
	cli_target target;
	const char *path = place->words[1];
	if (strcmp(path, "-") == 0 && isatty(STDOUT_FILENO))
		return cli_usage(args, "binary data does not go to a terminal: name a file");
	int code = cli_target_open(path, &target);
	if (code == CLI_OK)
		code = fill_archive(target.out, args, place);
	code = cli_target_close(&target, code);
	return cli_place_close(place, code);
}

/* ---- export ---- */

static int run_export(cli_args *args)
{
	static const struct {
		const char *name;
		int (*run)(const cli_args *args, cli_place *place);
	} kinds[] = {{"minari", cli_export_minari}, {"video", export_video}, {"npz", export_npz}};
	cli_args rest = *args; /* what stands behind the kind */
	const char *kind = args->word_count > 0 ? args->words[0] : NULL;
	if (kind == NULL)
		return cli_usage(args, "export: minari, video or npz was expected behind it");
	rest.words++;
	rest.word_count--;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		if (strcmp(kind, kinds[i].name) != 0)
			continue;
		cli_place place;
		int code = cli_place_find(&rest, &place);
		return code == CLI_OK ? kinds[i].run(&rest, &place) : code;
	}
	return cli_usage(args, "export: minari, video or npz was expected, found \"%s\"", kind);
}

const cli_command cli_export = {
	.name = "export",
	.summary = "write a run as a Minari dataset, a video or .npz",
	.usage = "minari [STORE] RUN DIR [--id NAME], video [STORE] REF FILE [OPTIONS], npz [STORE] RUN|REF "
		 "FILE [OPTIONS]",
	.description = "minari: a replay as a dataset of the Minari package, in DIR/data, with a group for "
		       "each episode; spaces are made from dtypes and shapes, unless the run's metadata has "
		       "observation_space and action_space. video: the frames of a REF, or with --episode of "
		       "a RUN, as .mp4, .gif, .mkv or .webm, made by ffmpeg. npz: a REF, or every array of a "
		       "RUN, as numpy's .npz (numpy.load); missing cells are zeros, and <name>_valid says "
		       "which are there. The file appears whole or not at all.",
	.options = (const cli_option[]){{"every", 'n', "N", NULL, "take every N-th row"},
		{"episode", 'e', "N", NULL, "the rows of an episode of the RUN (-1: the last)"},
		{"fps", 0, "N", NULL, "video: frames a second; default: 30"},
		{"scale", 0, "X", NULL, "video: enlarge (2) or reduce (1/4) each frame"},
		{"channels", 0, "WHAT", "auto|rgba|stack", "video: what four channels are, as for get"},
		{"stretch", 0, NULL, NULL, "video: spread values over black to white"},
		{"id", 0, "NAME", NULL,
			"minari: the dataset's name, as breakout/random-v0; default: DIR's or the run's"},
		{"observations", 0, "PATH", NULL,
			"minari: what the agent saw; default: observations, else frames"},
		{"compress", 'z', NULL, NULL, "npz: deflate the arrays"}, {0}},
	.examples = (const cli_example
			[]){{"esker export video data h5://game/frames/0:600 game.mp4 --scale 3 --fps 15",
				    "ten seconds as a video"},
		{"esker export video data h5://game/frames/0:100 game.gif",
			"the same as an animated picture"},
		{"esker export npz data game game.npz --compress", "every array of a run for numpy"},
		{"esker export minari data game ~/.minari/datasets/breakout/mine-v0 --id breakout/mine-v0",
			"a dataset for minari.load_dataset(\"breakout/mine-v0\")"},
		{0}},
	.needs = CLI_STORE,
	.words_least = 2, /* behind the kind */
	.words_most = 2,
	.first = "minari|video|npz",
	.complete = "ref",
	.run = run_export,
};
