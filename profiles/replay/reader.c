/* Reading: which datasets a file has, how many steps are complete. Whose they are is in episodes.c. */
#include "internal.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* ---- datasets ---- */

static bool is_or_below(const char *path, const char *name)
{
	size_t size = strlen(name);
	return strncmp(path, name, size) == 0 && (path[size] == '\0' || path[size] == '/');
}

static bool has_row_per_step(const char *path)
{
	static const char *const names[] = {"frames", "observations", "actions", "rewards", "dones",
		"terminated", "truncated", "timestamps", "infos", "episode_ids", "step_ids", "worker_ids",
		"agent_ids"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (is_or_below(path, names[i]))
			return true;
	return false;
}

static void take_dataset(esk_replay_datasets *has, const char *path, esk_dataset *dataset)
{
	const struct {
		const char *path;
		esk_dataset **place;
	} known[] = {
		{"rewards", &has->rewards},
		{"dones", &has->dones},
		{"terminated", &has->terminated},
		{"truncated", &has->truncated},
		{"episode_ids", &has->episode_ids},
		{"step_ids", &has->step_ids},
		{"episodes/ids", &has->ids},
		{"episodes/starts", &has->starts},
		{"episodes/lengths", &has->lengths},
		{"episodes/total_reward", &has->total_reward},
		{"episodes/seed", &has->seed},
		{"episodes/outcome", &has->outcome},
		{"episodes/ended", &has->ended},
	};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strcmp(path, known[i].path) == 0)
			*known[i].place = dataset;
	if (has->final_observation == NULL && is_or_below(path, "episodes/final_observations"))
		has->final_observation = dataset;
	if (has_row_per_step(path))
		has->steps[has->step_count++] = dataset;
}

/* Looks again only where the file has more datasets than before. */
static esk_status find_datasets(esk_replay_reader *reader, esk_error *err)
{
	size_t count = esk_reader_dataset_count(reader->base);
	if (count == reader->dataset_count)
		return ESK_OK;
	esk_replay_datasets has = {.steps = calloc(count, sizeof *has.steps)};
	if (has.steps == NULL)
		return esk_fail_memory(err, count * sizeof *has.steps, "datasets");
	esk_status status = ESK_OK;
	for (size_t i = 0; i < count && status == ESK_OK; i++) {
		esk_dataset_info info = {.struct_size = sizeof info};
		esk_dataset *dataset = esk_reader_dataset_at(reader->base, i);
		status = dataset != NULL ? esk_dataset_get_info(dataset, &info, err)
					 : esk_fail(err, ESK_EIO, "a dataset went away; try again");
		if (status == ESK_OK)
			take_dataset(&has, info.path, dataset);
	}
	if (status != ESK_OK) {
		free(has.steps);
		return status;
	}
	free(reader->has.steps);
	reader->has = has;
	reader->dataset_count = count;
	bool with_ids = has.episode_ids != NULL && has.step_ids != NULL && has.ids != NULL;
	if (with_ids != reader->with_ids)
		esk_replay_episodes_forget(reader);
	reader->with_ids = with_ids;
	return ESK_OK;
}

static esk_status check_kind(esk_replay_reader *reader, esk_error *err)
{
	bool usable = reader->has.rewards != NULL;
	for (size_t i = 0; i < reader->has.step_count && !usable; i++) {
		esk_dataset_info info = {.struct_size = sizeof info};
		usable = esk_dataset_get_info(reader->has.steps[i], &info, NULL) == ESK_OK &&
			 (is_or_below(info.path, "actions") || is_or_below(info.path, "frames"));
	}
	return usable ? ESK_OK
		      : esk_fail(err, ESK_EUNSUPPORTED,
				"this is no replay: expected datasets /rewards, /actions or /frames, found "
				"none of them");
}

/* ---- steps ---- */

static uint64_t episode_rows(const esk_replay_datasets *has)
{
	esk_dataset *const all[] = {has->ids, has->starts, has->lengths, has->total_reward, has->seed,
		has->outcome, has->ended, has->final_observation};
	uint64_t rows = UINT64_MAX;
	if (has->starts == NULL || has->lengths == NULL)
		return 0;
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		uint64_t here = all[i] != NULL ? esk_dataset_rows(all[i]) : UINT64_MAX;
		rows = here < rows ? here : rows;
	}
	return rows;
}

/* Rows of /episodes first: the steps of an episode are in the file when its row is. A foreign file may have
 * made a dataset that nothing was written to: it does not count. */
static esk_replay_extent measure(esk_replay_reader *reader)
{
	esk_replay_extent extent = {.rows = episode_rows(&reader->has)};
	uint64_t shortest = UINT64_MAX;
	for (size_t i = 0; i < reader->has.step_count; i++) {
		uint64_t rows = esk_dataset_rows(reader->has.steps[i]);
		extent.reach = rows > extent.reach ? rows : extent.reach;
		if ((rows > 0 || reader->with_ids) && rows < shortest)
			shortest = rows;
	}
	extent.steps = shortest == UINT64_MAX ? 0 : shortest;
	return extent;
}

/* What a foreign writer counted: its datasets may have been made larger than it came to fill. One that died
 * may have left the 0 that it began with, so 0 says nothing. */
static void heed_totals(esk_replay_reader *reader, esk_replay_extent *extent)
{
	json_t *attributes = json_loads(esk_reader_attributes(reader->base), 0, NULL);
	json_int_t steps = json_integer_value(json_object_get(attributes, "total_steps"));
	json_int_t episodes = json_integer_value(json_object_get(attributes, "total_episodes"));
	json_decref(attributes);
	if (steps > 0 && (uint64_t)steps < extent->steps)
		extent->steps = (uint64_t)steps;
	if (episodes > 0 && (uint64_t)episodes < extent->rows)
		extent->rows = (uint64_t)episodes;
}

/* ---- opening, refreshing, closing ---- */

static esk_status load(esk_replay_reader *reader, esk_error *err)
{
	esk_status status = find_datasets(reader, err);
	if (status == ESK_OK)
		status = check_kind(reader, err);
	if (status != ESK_OK)
		return status;
	esk_replay_extent extent = measure(reader);
	if (!reader->with_ids)
		heed_totals(reader, &extent);
	return esk_replay_episodes_update(reader, &extent, err);
}

/* Takes `base` over, in failure as well. */
static esk_status open_over(esk_reader *base, esk_replay_reader **ret_reader, esk_error *err)
{
	esk_replay_reader *reader = calloc(1, sizeof *reader);
	if (reader == NULL) {
		esk_reader_close(base);
		return esk_fail_memory(err, sizeof *reader, "a replay reader");
	}
	reader->base = base;
	esk_status status = load(reader, err);
	if (status != ESK_OK) {
		esk_replay_reader_close(reader);
		return status;
	}
	*ret_reader = reader;
	return ESK_OK;
}

esk_status esk_replay_reader_open(
	esk_store *store, const char *run_id, esk_replay_reader **ret_reader, esk_error *err)
{
	esk_reader *base;
	if (run_id == NULL)
		return esk_fail(err, ESK_EINVAL, "a replay needs a run's name, found NULL");
	esk_status status = esk_reader_open(store, run_id, &base, err);
	return status == ESK_OK ? open_over(base, ret_reader, err) : status;
}

esk_status esk_replay_reader_open_file(const char *path, esk_replay_reader **ret_reader, esk_error *err)
{
	esk_reader *base;
	esk_status status = esk_reader_open_file(path, &base, err);
	return status == ESK_OK ? open_over(base, ret_reader, err) : status;
}

esk_status esk_replay_reader_refresh(esk_replay_reader *reader, esk_error *err)
{
	esk_status status = esk_reader_refresh(reader->base, err);
	return status == ESK_OK ? load(reader, err) : status;
}

void esk_replay_reader_close(esk_replay_reader *reader)
{
	if (reader == NULL)
		return;
	esk_reader_close(reader->base);
	free(reader->has.steps);
	free(reader->episodes);
	free(reader);
}

uint64_t esk_replay_reader_steps(esk_replay_reader *reader)
{
	return reader->steps;
}

uint64_t esk_replay_reader_episodes(esk_replay_reader *reader)
{
	return reader->count;
}

esk_reader *esk_replay_reader_base(esk_replay_reader *reader)
{
	return reader->base;
}
