/* esker get as Arrow: see get_arrow.h. */
#include "get_arrow.h"

#include "arrow_out.h"
#include "episode.h"
#include "progress.h"
#include "target.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct job {
	const cli_args *args;
	const char *what;
	esk_ref ref; /* without a run: what the word names is a run */
	esk_replay_reader *replay;
	esk_reader *own;
	esk_reader *reader; /* own, or the replay's */
	cli_arrow_source source;
	esk_arrow_rows rows;
} job;

/* The root, or what the ref names, at the rows of an episode. */
static int find_episode(job *j, cli_place *place)
{
	uint64_t id;
	esk_replay_episode episode;
	if (j->ref.kind != ESK_REF_WHOLE)
		return cli_fail(
			"%s: with --episode, a ref has no rows of its own: h5://RUN/DATASET was expected",
			j->what);
	int code = cli_replay_open(place, j->ref.run[0] != '\0' ? j->ref.run : j->what, &j->replay);
	if (code != CLI_OK)
		return code;
	j->reader = esk_replay_reader_base(j->replay);
	code = cli_parse_episode(
		j->args, cli_value(j->args, "episode"), esk_replay_reader_episodes(j->replay), &id);
	if (code == CLI_OK)
		code = cli_episode_get(j->replay, id, &episode);
	if (code == CLI_OK && !episode.contiguous)
		code = cli_fail("%s: the steps of episode %" PRIu64
				" do not lie together, and Arrow takes rows that do; take .npy or .npz",
			j->what, id);
	if (code == CLI_OK)
		code = cli_arrow_find(j->reader, j->ref.run[0] != '\0' ? j->ref.path : "/", &j->source);
	j->rows.start = code == CLI_OK ? episode.start : 0;
	j->rows.stop = code == CLI_OK ? episode.start + episode.length : 0;
	return code;
}

static int find_rows(job *j, cli_place *place)
{
	char only[ESK_MAX_PATH + 1] = "", list[1024] = "";
	esk_error err = {0};
	const char *run = j->ref.run[0] != '\0' ? j->ref.run : j->what, *path = j->ref.path;
	int code = cli_place_open_store(place, true);
	if (code != CLI_OK)
		return code;
	if (esk_reader_open(place->store, run, &j->own, &err) != ESK_OK) {
		j->own = NULL;
		return cli_fail_with(&err);
	}
	j->reader = j->own;
	if (j->ref.run[0] == '\0') {
		code = cli_only_stream(j->reader, run, only, sizeof only, list, sizeof list);
		if (code == CLI_USAGE)
			return cli_usage(j->args,
				"run \"%s\" has several streams; name one as h5://%s/STREAM: %s", run, run,
				list);
		path = only;
	}
	if (code == CLI_OK)
		code = cli_arrow_find(j->reader, path, &j->source);
	if (code != CLI_OK || j->ref.kind == ESK_REF_WHOLE)
		return code;
	if (j->ref.stop > j->source.rows)
		return cli_fail("%s: rows %" PRIu64 ":%" PRIu64 " were asked for, \"%s\" has %" PRIu64,
			j->what, j->ref.start, j->ref.stop, path, j->source.rows);
	j->rows.start = j->ref.start;
	j->rows.stop = j->ref.stop;
	return CLI_OK;
}

static int write_rows(job *j, struct ArrowArrayStream *from, bool as_stream)
{
	cli_target target;
	cli_arrow_out to;
	uint64_t stop = j->rows.stop < j->source.rows ? j->rows.stop : j->source.rows;
	uint64_t rows = stop > j->rows.start ? (stop - j->rows.start - 1) / j->rows.step + 1 : 0;
	int code = cli_target_open(cli_value(j->args, "output"), &target);
	if (code == CLI_OK) {
		if (target.path != NULL)
			cli_progress_begin("writing");
		code = cli_arrow_begin(target.out, target.path != NULL && !as_stream, from, &to);
		if (code == CLI_OK)
			code = cli_arrow_end(&to, cli_arrow_write(&to, from, rows));
		if (target.path != NULL)
			cli_progress_end();
	}
	if (code == CLI_OK && cli_stop_requested())
		code = cli_fail("stopped: nothing was written");
	return cli_target_close(&target, code);
}

static int get(job *j, cli_place *place, bool as_stream)
{
	struct ArrowArrayStream from;
	esk_error err = {0};
	int code = cli_parse_every(j->args, &j->rows.step);
	if (code != CLI_OK)
		return code;
	j->rows.step = j->rows.step != 0 ? j->rows.step : 1;
	if (strncmp(j->what, "h5://", 5) == 0 && esk_ref_parse(j->what, &j->ref, &err) != ESK_OK)
		return cli_fail_with(&err);
	code = cli_value(j->args, "episode") != NULL ? find_episode(j, place) : find_rows(j, place);
	if (code == CLI_OK)
		code = cli_arrow_open(j->reader, &j->source, NULL, &j->rows, &from);
	if (code != CLI_OK)
		return code;
	cli_catch_signals();
	code = write_rows(j, &from, as_stream);
	from.release(&from);
	return code;
}

int cli_get_arrow(const cli_args *args, cli_place *place, bool as_stream)
{
	job j = {.args = args, .what = place->words[0], .rows = ESK_ARROW_ROWS_INIT};
	int code = get(&j, place, as_stream);
	esk_reader_close(j.own);
	esk_replay_reader_close(j.replay);
	return code;
}
