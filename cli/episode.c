/* Episodes for the commands: see episode.h. */
#include "episode.h"

#include "image.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int cli_replay_open(cli_place *place, const char *name, esk_replay_reader **ret_reader)
{
	esk_error err = {0};
	struct stat st;
	if (stat(name, &st) == 0 && S_ISREG(st.st_mode)) {
		if (esk_replay_reader_open_file(name, ret_reader, &err) != ESK_OK)
			return cli_fail_with(&err);
		return CLI_OK;
	}
	int code = cli_place_open_store(place, true);
	if (code == CLI_OK && esk_replay_reader_open(place->store, name, ret_reader, &err) != ESK_OK)
		code = cli_fail_with(&err);
	return code;
}

int cli_parse_episode(const cli_args *args, const char *text, uint64_t count, uint64_t *ret_id)
{
	char *end;
	errno = 0;
	long long id = strtoll(text, &end, 10);
	if (end == text || *end != '\0' || errno != 0)
		return cli_usage(args, "--episode: a number was expected, found \"%s\"", text);
	if (id < 0 && count <= INT64_MAX)
		id += (long long)count; /* of opposite signs: no overflow */
	if (id < 0 || (uint64_t)id >= count)
		return cli_fail("episode %s was asked for, there are %" PRIu64 "%s", text, count,
			count > 0 ? ", from 0 on" : "");
	*ret_id = (uint64_t)id;
	return CLI_OK;
}

int cli_episode_get(esk_replay_reader *reader, uint64_t id, esk_replay_episode *ret_episode)
{
	esk_error err = {0};
	*ret_episode = (esk_replay_episode){.struct_size = sizeof *ret_episode};
	return esk_replay_reader_episode(reader, id, ret_episode, &err) == ESK_OK ? CLI_OK
										  : cli_fail_with(&err);
}

const char *cli_outcome(esk_replay_outcome outcome)
{
	switch (outcome) {
	case ESK_REPLAY_TERMINATED:
		return "terminated";
	case ESK_REPLAY_TRUNCATED:
		return "truncated";
	case ESK_REPLAY_UNFINISHED:
		break;
	}
	return "unfinished";
}

esk_dataset *cli_replay_pictures(esk_replay_reader *reader)
{
	static const char *const paths[] = {"frames", "observations"};
	esk_reader *base = esk_replay_reader_base(reader);
	for (size_t p = 0; p < sizeof paths / sizeof *paths; p++) {
		for (size_t i = 0; i < esk_reader_dataset_count(base); i++) {
			esk_dataset *dataset = esk_reader_dataset_at(base, i);
			esk_dataset_info info = {.struct_size = sizeof info};
			if (esk_dataset_get_info(dataset, &info, NULL) == ESK_OK &&
				strcmp(info.path, paths[p]) == 0 && cli_is_image(&info.column) &&
				info.rows > 0)
				return dataset;
		}
	}
	return NULL;
}

/* Every `every`-th row of an episode whose rows do not lie together. */
static int list_rows(cli_selection *s, esk_replay_reader *reader, const esk_replay_episode *episode)
{
	esk_error err = {0};
	s->numbers = cli_alloc(episode->length * sizeof *s->numbers);
	if (esk_replay_reader_episode_rows(reader, episode->id, s->numbers, &err) != ESK_OK)
		return cli_fail_with(&err);
	for (uint64_t i = 0; i < s->count; i++)
		s->numbers[i] = s->numbers[i * s->step];
	return CLI_OK;
}

int cli_select_episode(cli_selection *s, esk_replay_reader *reader, const esk_replay_episode *episode,
	esk_dataset *dataset, const char *text, uint64_t every)
{
	*s = (cli_selection){.text = text, .first = episode->start, .step = every};
	cli_buf rows, steps;
	int code = cli_rows_open(dataset, &s->rows);
	if (code != CLI_OK)
		return code;
	if (s->rows.info.rows < esk_replay_reader_steps(reader))
		return cli_fail("%s: \"%s\" has %s for %s, so its rows are no steps", text, s->rows.info.path,
			cli_counted(s->rows.info.rows, "row", &rows),
			cli_counted(esk_replay_reader_steps(reader), "step", &steps));
	s->count = (episode->length + every - 1) / every;
	return episode->contiguous ? CLI_OK : list_rows(s, reader, episode);
}

/* ---- --every, --episode ---- */

int cli_parse_every(const cli_args *args, uint64_t *ret_every)
{
	const char *text = cli_value(args, "every");
	*ret_every = 0;
	if (text != NULL && (!cli_parse_u64(text, ret_every) || *ret_every == 0 || *ret_every > INT64_MAX))
		return cli_usage(args, "--every: a number from 1 was expected, found \"%s\"", text);
	return CLI_OK;
}

/* The run and dataset that `what` names; *ret_dataset is NULL until the pictures were looked for. */
static int open_named(cli_place *place, const char *what, cli_selection *s, esk_dataset **ret_dataset)
{
	esk_error err = {0};
	if (strncmp(what, "h5://", 5) != 0) {
		int code = cli_replay_open(place, what, &s->replay);
		*ret_dataset = code == CLI_OK ? cli_replay_pictures(s->replay) : NULL;
		if (code == CLI_OK && *ret_dataset == NULL)
			code = cli_fail("%s: there are no pictures in /frames or /observations; name another "
					"dataset: h5://%s/DATASET",
				what, what);
		return code;
	}
	if (esk_ref_parse(what, &s->ref, &err) != ESK_OK)
		return cli_fail_with(&err);
	if (s->ref.kind != ESK_REF_WHOLE)
		return cli_fail(
			"%s: with --episode, a ref has no rows of its own: h5://RUN/DATASET was expected",
			what);
	int code = cli_replay_open(place, s->ref.run, &s->replay);
	if (code != CLI_OK)
		return code;
	if (esk_reader_find(esk_replay_reader_base(s->replay), s->ref.path, ret_dataset, &err) != ESK_OK)
		return cli_fail_with(&err);
	return CLI_OK;
}

static int select_episode(const cli_args *args, cli_place *place, const char *what, uint64_t every,
	uint64_t most, cli_selection *ret_selection)
{
	cli_selection opened = {0};
	esk_dataset *dataset;
	esk_replay_episode episode;
	uint64_t id;
	int code = open_named(place, what, &opened, &dataset);
	if (code == CLI_OK)
		code = cli_parse_episode(
			args, cli_value(args, "episode"), esk_replay_reader_episodes(opened.replay), &id);
	if (code == CLI_OK)
		code = cli_episode_get(opened.replay, id, &episode);
	if (code == CLI_OK) {
		if (every == 0)
			every = most > 0 && episode.length > most ? (episode.length + most - 1) / most : 1;
		code = cli_select_episode(ret_selection, opened.replay, &episode, dataset, what, every);
	}
	ret_selection->replay = opened.replay;
	return code;
}

int cli_select_given(const cli_args *args, cli_place *place, const char *what, uint64_t episode_most,
	cli_selection *ret_selection)
{
	uint64_t every;
	*ret_selection = (cli_selection){.text = what};
	int code = cli_parse_every(args, &every);
	if (code == CLI_OK && cli_value(args, "episode") != NULL)
		return select_episode(args, place, what, every, episode_most, ret_selection);
	if (code == CLI_OK)
		code = cli_place_open_store(place, true);
	return code == CLI_OK ? cli_select_open(place, what, every != 0 ? every : 1, ret_selection) : code;
}
