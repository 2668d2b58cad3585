/* The table of episodes: what /episodes says, and whose each step is.
 *
 * Steps of one episode need not lie side by side (several slots), and an episode may have no row in /episodes
 * (it is under way, or was cut off), so whose a step is stands in /episode_ids. Reading that for every step
 * is not needed where episodes follow one another: an episode whose row says that it begins at the first step
 * not yet known is skipped. That this holds is made sure of afterwards:
 *
 *  1. The steps of an episode lie at or behind its start, and starts rise with the episodes' numbers.
 *  2. Skipped ranges are as long as their episodes, so if a step of another episode lay in one, some step of
 *     a skipped episode would lie outside. Steps outside are looked at, all of them.
 *  3. What a lossy ring dropped makes rows of /episodes say more steps than there are: then the last step
 *     skipped is not the one it should be, or the next episode does not begin with step 0.
 *
 * Where one of these is found, the table is made anew from all steps (scans_all). */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

#define SCAN_ROWS 65536
#define SCAN_ROWS_LEAST 256
#define ROWS_AT_ONCE 1024

/* More episodes than this a file of so many rows cannot have had, were nearly all of them lost. */
#define MAX_EPISODES(rows) (16 * (rows) + (1ull << 20))

/* ---- entries ---- */

static esk_status make_room(esk_replay_reader *reader, uint64_t count, esk_error *err)
{
	if (count > reader->capacity) {
		uint64_t capacity = count + count / 2 + 64;
		esk_replay_entry *grown = realloc(reader->episodes, capacity * sizeof *grown);
		if (grown == NULL)
			return esk_fail_memory(err, capacity * sizeof *grown, "episodes");
		reader->episodes = grown;
		reader->capacity = capacity;
	}
	if (count > reader->count) {
		memset(reader->episodes + reader->count, 0,
			(count - reader->count) * sizeof *reader->episodes);
		reader->count = count;
	}
	return ESK_OK;
}

static bool is_pending(const esk_replay_entry *e)
{
	return e->has_row && !e->skipped && e->length > 0 && e->length < e->told_length;
}

static bool is_contiguous(const esk_replay_entry *e)
{
	return e->length == 0 || e->last - e->start + 1 == e->length;
}

/* ---- rows of /episodes ---- */

/* ROWS_AT_ONCE rows of what the file has of each. */
typedef struct row_block {
	int64_t ids[ROWS_AT_ONCE], starts[ROWS_AT_ONCE], lengths[ROWS_AT_ONCE], seed[ROWS_AT_ONCE],
		ended[ROWS_AT_ONCE];
	double total_reward[ROWS_AT_ONCE];
	uint8_t seed_valid[ROWS_AT_ONCE], final_valid[ROWS_AT_ONCE];
	uint8_t outcome[ROWS_AT_ONCE];
	uint64_t rows[ROWS_AT_ONCE];
} row_block;

static uint8_t outcome_of_text(const char *text, size_t size)
{
	for (uint8_t i = 0; i < 3; i++) {
		const char *name = esk_replay_outcome_texts[i];
		if (size >= strlen(name) && memcmp(text, name, strlen(name)) == 0)
			return i;
	}
	return ESK_REPLAY_UNFINISHED;
}

static esk_status read_outcomes(
	esk_dataset *dataset, uint64_t first, size_t count, uint8_t *ret_outcomes, esk_error *err)
{
	esk_dataset_info info = {.struct_size = sizeof info};
	esk_status status = esk_dataset_get_info(dataset, &info, err);
	if (status != ESK_OK)
		return status;
	size_t size = info.column.dtype.size_bytes;
	if (info.column.dtype.kind != ESK_STRING_N || info.column.rank != 0)
		return esk_fail(err, ESK_ETYPE, "\"%s\" of a replay must hold texts of fixed size, as str16",
			info.path);
	char *texts = malloc(count * size);
	if (texts == NULL)
		return esk_fail_memory(err, count * size, "outcomes");
	status = esk_dataset_read(
		dataset, (int64_t)first, (int64_t)(first + count), 1, texts, count * size, err);
	for (size_t i = 0; i < count && status == ESK_OK; i++)
		ret_outcomes[i] = outcome_of_text(texts + i * size, size);
	free(texts);
	return status;
}

static esk_status read_row_block(
	const esk_replay_datasets *has, uint64_t first, size_t count, row_block *block, esk_error *err)
{
	for (size_t i = 0; i < count; i++)
		block->rows[i] = first + i;
	esk_status status = esk_replay_read_integers(has->starts, first, count, block->starts, err);
	if (status == ESK_OK)
		status = esk_replay_read_integers(has->lengths, first, count, block->lengths, err);
	if (status == ESK_OK && has->ids != NULL)
		status = esk_replay_read_integers(has->ids, first, count, block->ids, err);
	if (status == ESK_OK && has->total_reward != NULL)
		status = esk_replay_read_reals(has->total_reward, first, count, block->total_reward, err);
	if (status == ESK_OK && has->seed != NULL)
		status = esk_replay_read_integers(has->seed, first, count, block->seed, err);
	if (status == ESK_OK && has->seed != NULL)
		status = esk_dataset_read_valid(has->seed, block->rows, count, block->seed_valid, err);
	if (status == ESK_OK && has->outcome != NULL)
		status = read_outcomes(has->outcome, first, count, block->outcome, err);
	if (status == ESK_OK && has->ended != NULL)
		status = esk_replay_read_integers(has->ended, first, count, block->ended, err);
	if (status == ESK_OK && has->final_observation != NULL)
		status = esk_dataset_read_valid(
			has->final_observation, block->rows, count, block->final_valid, err);
	return status;
}

static esk_status take_row(
	esk_replay_reader *reader, const row_block *block, size_t i, uint64_t most, esk_error *err)
{
	const esk_replay_datasets *has = &reader->has;
	int64_t start = block->starts[i], length = block->lengths[i];
	int64_t id = reader->with_ids ? block->ids[i] : (int64_t)block->rows[i];
	if (id < 0 || (uint64_t)id >= most || start < 0 || length < 0 || start > INT64_MAX - length)
		return esk_fail(err, ESK_ECORRUPT,
			"row %llu of /episodes: episode %lld of %lld steps from row %lld on cannot be",
			(unsigned long long)block->rows[i], (long long)id, (long long)length,
			(long long)start);
	esk_status status = make_room(reader, (uint64_t)id + 1, err);
	if (status != ESK_OK)
		return status;
	esk_replay_entry *e = &reader->episodes[id];
	if (e->has_row)
		return esk_fail(err, ESK_ECORRUPT,
			"row %llu of /episodes: there is one of episode %lld before",
			(unsigned long long)block->rows[i], (long long)id);
	e->has_row = true;
	e->told_start = (uint64_t)start;
	e->told_length = (uint64_t)length;
	e->has_total = has->total_reward != NULL;
	e->total_reward = e->has_total ? block->total_reward[i] : 0;
	e->has_seed = has->seed != NULL && block->seed_valid[i] != 0;
	e->seed = e->has_seed ? block->seed[i] : 0;
	e->has_outcome = has->outcome != NULL;
	e->outcome = e->has_outcome ? block->outcome[i] : 0;
	e->ended_ns = has->ended != NULL ? block->ended[i] : 0;
	e->final_row =
		has->final_observation != NULL && block->final_valid[i] != 0 ? (int64_t)block->rows[i] : -1;
	reader->pending += is_pending(e);
	return ESK_OK;
}

static esk_status take_rows(esk_replay_reader *reader, const esk_replay_extent *extent, esk_error *err)
{
	esk_status status = ESK_OK;
	if (reader->row_count >= extent->rows)
		return ESK_OK;
	row_block *block = malloc(sizeof *block);
	if (block == NULL)
		return esk_fail_memory(err, sizeof *block, "rows of /episodes");
	while (reader->row_count < extent->rows && status == ESK_OK) {
		uint64_t left = extent->rows - reader->row_count;
		size_t count = left < ROWS_AT_ONCE ? left : ROWS_AT_ONCE;
		status = read_row_block(&reader->has, reader->row_count, count, block, err);
		for (size_t i = 0; i < count && status == ESK_OK; i++) {
			status = take_row(reader, block, i, MAX_EPISODES(extent->reach + extent->rows), err);
			reader->row_count += status == ESK_OK;
		}
	}
	free(block);
	return status;
}

/* ---- whose steps: files with /episode_ids ---- */

void esk_replay_episodes_forget(esk_replay_reader *reader)
{
	reader->count = 0;
	reader->row_count = 0;
	reader->known = 0;
	reader->next = 0;
	reader->pending = 0;
	reader->scans_all = false;
}

/* The table without steps, to be made from all of them. */
static void forget_steps(esk_replay_reader *reader)
{
	for (uint64_t i = 0; i < reader->count; i++) {
		reader->episodes[i].length = 0;
		reader->episodes[i].skipped = false;
	}
	reader->known = 0;
	reader->next = 0;
	reader->pending = 0;
	reader->scans_all = true;
}

static void pass_seen(esk_replay_reader *reader)
{
	while (reader->next < reader->count && reader->episodes[reader->next].length > 0)
		reader->next++;
}

/* Skips what may be; *ret_last is the last episode skipped. */
static void skip(esk_replay_reader *reader, uint64_t steps, uint64_t *ret_last)
{
	while (!reader->scans_all && reader->pending == 0) {
		pass_seen(reader);
		if (reader->next == reader->count)
			return;
		esk_replay_entry *e = &reader->episodes[reader->next];
		if (!e->has_row || e->told_start != reader->known || e->told_length == 0 ||
			e->told_length > steps - reader->known)
			return;
		e->start = e->told_start;
		e->length = e->told_length;
		e->last = e->start + e->length - 1;
		e->skipped = true;
		reader->known += e->length;
		*ret_last = reader->next;
	}
}

/* How far to look at steps: up to where something may be skipped again. */
static uint64_t scan_stop(const esk_replay_reader *reader, uint64_t steps)
{
	uint64_t stop = reader->known + SCAN_ROWS;
	for (uint64_t i = reader->next; !reader->scans_all && i < reader->count; i++) {
		const esk_replay_entry *e = &reader->episodes[i];
		if (e->has_row && e->length == 0 && e->told_start >= reader->known + SCAN_ROWS_LEAST) {
			stop = e->told_start < stop ? e->told_start : stop;
			break;
		}
	}
	return stop < steps ? stop : steps;
}

/* The step at row `row` is number `step` of episode `id`. *ret_wrong: what was skipped should not have been.
 */
static esk_status take_step(esk_replay_reader *reader, uint64_t row, int64_t id, int64_t step, uint64_t most,
	bool *ret_wrong, esk_error *err)
{
	if (id < 0 || (uint64_t)id >= most)
		return esk_fail(err, ESK_ECORRUPT, "row %llu of /episode_ids is %lld, which cannot be",
			(unsigned long long)row, (long long)id);
	esk_status status = make_room(reader, (uint64_t)id + 1, err);
	if (status != ESK_OK)
		return status;
	esk_replay_entry *e = &reader->episodes[id];
	if (!reader->scans_all && (e->skipped || step != (int64_t)e->length)) {
		*ret_wrong = true;
		return ESK_OK;
	}
	bool before = is_pending(e);
	if (e->length == 0)
		e->start = row;
	e->last = row;
	e->length++;
	reader->pending += (uint64_t)is_pending(e) - (uint64_t)before;
	return ESK_OK;
}

static esk_status scan(esk_replay_reader *reader, const esk_replay_extent *extent, int64_t *buf,
	bool *ret_wrong, esk_error *err)
{
	uint64_t count = scan_stop(reader, extent->steps) - reader->known;
	uint64_t most = MAX_EPISODES(extent->reach + extent->rows);
	int64_t *ids = buf, *steps = buf + SCAN_ROWS;
	esk_status status = esk_replay_read_integers(reader->has.episode_ids, reader->known, count, ids, err);
	if (status == ESK_OK)
		status = esk_replay_read_integers(reader->has.step_ids, reader->known, count, steps, err);
	for (uint64_t i = 0; i < count && status == ESK_OK && !*ret_wrong; i++) {
		status = take_step(reader, reader->known, ids[i], steps[i], most, ret_wrong, err);
		reader->known += status == ESK_OK && !*ret_wrong;
	}
	return status;
}

/* Whether the last step skipped is the last one of the last episode skipped. */
static esk_status check_skipped(const esk_replay_reader *reader, uint64_t id, bool *ret_wrong, esk_error *err)
{
	const esk_replay_entry *e = &reader->episodes[id];
	int64_t found_id, found_step;
	esk_status status = esk_replay_read_integers(reader->has.episode_ids, e->last, 1, &found_id, err);
	if (status == ESK_OK)
		status = esk_replay_read_integers(reader->has.step_ids, e->last, 1, &found_step, err);
	if (status == ESK_OK)
		*ret_wrong = found_id != (int64_t)id || found_step != (int64_t)e->length - 1;
	return status;
}

static esk_status assign_steps(esk_replay_reader *reader, const esk_replay_extent *extent, esk_error *err)
{
	int64_t *buf = NULL;
	esk_status status = ESK_OK;
	while (reader->known < extent->steps && status == ESK_OK) {
		bool wrong = false;
		uint64_t last = UINT64_MAX;
		skip(reader, extent->steps, &last);
		if (last != UINT64_MAX)
			status = check_skipped(reader, last, &wrong, err);
		if (status == ESK_OK && buf == NULL && reader->known < extent->steps)
			buf = malloc(2 * SCAN_ROWS * sizeof *buf);
		if (status == ESK_OK && buf == NULL && reader->known < extent->steps)
			status = esk_fail_memory(err, 2 * SCAN_ROWS * sizeof *buf, "numbers of episodes");
		if (status == ESK_OK && !wrong && reader->known < extent->steps)
			status = scan(reader, extent, buf, &wrong, err);
		if (wrong)
			forget_steps(reader);
	}
	free(buf);
	return status;
}

/* ---- whose steps: files without ---- */

/* Places the episodes of /episodes; trailing steps are one more. */
static esk_status place_told(esk_replay_reader *reader, const esk_replay_extent *extent, esk_error *err)
{
	uint64_t end = 0;
	for (uint64_t i = 0; i < reader->count; i++) {
		esk_replay_entry *e = &reader->episodes[i];
		uint64_t stop = e->told_start + e->told_length;
		if (e->told_start < end || stop > extent->reach)
			return esk_fail(err, ESK_ECORRUPT,
				"/episodes: episode %llu has rows %llu:%llu, expected them behind %llu and "
				"below %llu",
				(unsigned long long)i, (unsigned long long)e->told_start,
				(unsigned long long)stop, (unsigned long long)end,
				(unsigned long long)extent->reach);
		end = stop;
		if (stop > extent->steps) { /* a killed writer wrote some datasets farther than others */
			stop = extent->steps;
			e->has_outcome = true;
			e->outcome = ESK_REPLAY_UNFINISHED;
			e->has_total = false;
		}
		e->start = e->told_start < stop ? e->told_start : stop;
		e->length = stop - e->start;
		e->last = e->start + e->length - 1;
	}
	if (end >= extent->steps)
		return ESK_OK;
	esk_status status = make_room(reader, reader->count + 1, err);
	if (status == ESK_OK)
		reader->episodes[reader->count - 1] = (esk_replay_entry){.start = end,
			.last = extent->steps - 1,
			.length = extent->steps - end,
			.final_row = -1};
	return status;
}

/* Without /episodes the flags say where one ends. */
static esk_status place_by_flags(esk_replay_reader *reader, const esk_replay_extent *extent, esk_error *err)
{
	uint64_t rows[ROWS_AT_ONCE], start = 0;
	uint8_t outcomes[ROWS_AT_ONCE];
	esk_status status = ESK_OK;
	for (uint64_t at = 0; at < extent->steps && status == ESK_OK;) {
		size_t count = extent->steps - at < ROWS_AT_ONCE ? extent->steps - at : ROWS_AT_ONCE;
		for (size_t i = 0; i < count; i++)
			rows[i] = at + i;
		status = esk_replay_outcomes(reader, rows, count, false, outcomes, err);
		for (size_t i = 0; i < count && status == ESK_OK; i++, at++) {
			if (outcomes[i] == ESK_REPLAY_UNFINISHED && at + 1 < extent->steps)
				continue;
			status = make_room(reader, reader->count + 1, err);
			if (status == ESK_OK)
				reader->episodes[reader->count - 1] = (esk_replay_entry){.start = start,
					.last = at,
					.length = at + 1 - start,
					.final_row = -1};
			start = at + 1;
		}
	}
	return status;
}

/* Made anew each time: such files are finished, or rarely looked at while they grow. */
static esk_status place_all(esk_replay_reader *reader, const esk_replay_extent *extent, esk_error *err)
{
	esk_replay_episodes_forget(reader);
	if (reader->has.starts == NULL || reader->has.lengths == NULL)
		return place_by_flags(reader, extent, err);
	esk_status status = take_rows(reader, extent, err);
	return status == ESK_OK ? place_told(reader, extent, err) : status;
}

esk_status esk_replay_episodes_update(
	esk_replay_reader *reader, const esk_replay_extent *extent, esk_error *err)
{
	esk_status status;
	if (reader->with_ids) {
		status = take_rows(reader, extent, err);
		if (status == ESK_OK)
			status = assign_steps(reader, extent, err);
	} else {
		status = place_all(reader, extent, err);
	}
	if (status == ESK_OK)
		reader->steps = extent->steps;
	return status;
}

/* ---- asking ---- */

esk_status esk_replay_outcomes(esk_replay_reader *reader, const uint64_t *rows, size_t count, bool ended,
	uint8_t *ret_outcomes, esk_error *err)
{
	const esk_replay_datasets *has = &reader->has;
	esk_status status = ESK_OK;
	uint8_t *flags = calloc(3, count + 1);
	if (flags == NULL)
		return esk_fail_memory(err, 3 * count, "flags");
	uint8_t *terminated = flags, *truncated = flags + count, *done = flags + 2 * count;
	if (has->terminated != NULL)
		status = esk_replay_read_flags_at(has->terminated, rows, count, terminated, err);
	if (status == ESK_OK && has->truncated != NULL)
		status = esk_replay_read_flags_at(has->truncated, rows, count, truncated, err);
	if (status == ESK_OK && has->dones != NULL && has->terminated == NULL)
		status = esk_replay_read_flags_at(has->dones, rows, count, done, err);
	for (size_t i = 0; i < count && status == ESK_OK; i++) {
		bool ends = terminated[i] || (done[i] && !truncated[i]) || (ended && !truncated[i]);
		ret_outcomes[i] = ends ? ESK_REPLAY_TERMINATED
				       : (truncated[i] ? ESK_REPLAY_TRUNCATED : ESK_REPLAY_UNFINISHED);
	}
	free(flags);
	return status;
}

static esk_status find_entry(
	esk_replay_reader *reader, uint64_t id, const esk_replay_entry **ret_entry, esk_error *err)
{
	if (id >= reader->count)
		return esk_fail(err, ESK_ERANGE, "episode %llu: there are %llu", (unsigned long long)id,
			(unsigned long long)reader->count);
	*ret_entry = &reader->episodes[id];
	return ESK_OK;
}

/* Sums the rewards of an episode that has no row to say it. */
static esk_status sum_rewards(
	esk_replay_reader *reader, uint64_t id, const esk_replay_entry *e, double *ret_sum, esk_error *err)
{
	if (e->length == 0 || reader->has.rewards == NULL) {
		*ret_sum = 0;
		return ESK_OK;
	}
	size_t bytes = e->length * (sizeof(double) + sizeof(uint64_t));
	double *rewards = malloc(bytes);
	if (rewards == NULL)
		return esk_fail_memory(err, bytes, "rewards");
	uint64_t *rows = (uint64_t *)(rewards + e->length);
	esk_status status;
	if (is_contiguous(e)) {
		status = esk_replay_read_reals(reader->has.rewards, e->start, e->length, rewards, err);
	} else {
		status = esk_replay_reader_episode_rows(reader, id, rows, err);
		if (status == ESK_OK)
			status = esk_replay_read_reals_at(reader->has.rewards, rows, e->length, rewards, err);
	}
	double sum = 0;
	for (uint64_t i = 0; i < e->length && status == ESK_OK; i++)
		sum += rewards[i];
	free(rewards);
	if (status == ESK_OK)
		*ret_sum = sum;
	return status;
}

esk_status esk_replay_reader_episode(
	esk_replay_reader *reader, uint64_t id, esk_replay_episode *ret_episode, esk_error *err)
{
	const esk_replay_entry *e;
	esk_status status = find_entry(reader, id, &e, err);
	if (status != ESK_OK)
		return status;
	double total = e->total_reward;
	uint8_t outcome = e->outcome;
	if (!e->has_total)
		status = sum_rewards(reader, id, e, &total, err);
	if (status == ESK_OK && !e->has_outcome && e->length > 0)
		status = esk_replay_outcomes(reader, &e->last, 1, e->has_row, &outcome, err);
	if (status != ESK_OK)
		return status;
	esk_replay_episode episode = {
		.id = id,
		.start = e->start,
		.length = e->length,
		.contiguous = is_contiguous(e),
		.total_reward = total,
		.has_seed = e->has_seed,
		.seed = e->seed,
		.outcome = (esk_replay_outcome)outcome,
		.ended_ns = e->ended_ns,
		.final_row = e->has_row ? e->final_row : -1,
	};
	esk_struct_give(ret_episode, &episode, sizeof episode);
	return ESK_OK;
}

esk_status esk_replay_reader_episode_rows(
	esk_replay_reader *reader, uint64_t id, uint64_t *ret_rows, esk_error *err)
{
	const esk_replay_entry *e;
	esk_status status = find_entry(reader, id, &e, err);
	if (status != ESK_OK || e->length == 0)
		return status;
	if (is_contiguous(e)) {
		for (uint64_t i = 0; i < e->length; i++)
			ret_rows[i] = e->start + i;
		return ESK_OK;
	}
	int64_t ids[ROWS_AT_ONCE];
	uint64_t found = 0;
	for (uint64_t at = e->start; at <= e->last && status == ESK_OK; at += ROWS_AT_ONCE) {
		uint64_t count = e->last + 1 - at < ROWS_AT_ONCE ? e->last + 1 - at : ROWS_AT_ONCE;
		status = esk_replay_read_integers(reader->has.episode_ids, at, count, ids, err);
		for (uint64_t i = 0; i < count && status == ESK_OK && found < e->length; i++)
			if (ids[i] == (int64_t)id)
				ret_rows[found++] = at + i;
	}
	if (status == ESK_OK && found != e->length)
		status = esk_fail(err, ESK_ECORRUPT,
			"/episode_ids names %llu steps of episode %llu, %llu were there before",
			(unsigned long long)found, (unsigned long long)id, (unsigned long long)e->length);
	return status;
}

/* One pass over /episode_ids: offsets[id] is where the next step of an episode goes. */
static esk_status arrange_by_ids(esk_replay_reader *reader, uint64_t *offsets, uint64_t total, int64_t *ids,
	uint64_t *ret_rows, esk_error *err)
{
	esk_status status = ESK_OK;
	for (uint64_t at = 0; at < reader->steps && status == ESK_OK; at += SCAN_ROWS) {
		uint64_t count = reader->steps - at < SCAN_ROWS ? reader->steps - at : SCAN_ROWS;
		status = esk_replay_read_integers(reader->has.episode_ids, at, count, ids, err);
		for (uint64_t i = 0; i < count && status == ESK_OK; i++) {
			uint64_t id = (uint64_t)ids[i];
			if (id < reader->count && offsets[id] < total)
				ret_rows[offsets[id]++] = at + i;
			else
				status = esk_fail(err, ESK_ECORRUPT,
					"row %llu of /episode_ids is not what it was",
					(unsigned long long)(at + i));
		}
	}
	return status;
}

esk_status esk_replay_episodes_arrange(esk_replay_reader *reader, uint64_t *ret_rows, esk_error *err)
{
	uint64_t total = 0;
	bool contiguous = true;
	for (uint64_t i = 0; i < reader->count; i++)
		contiguous = contiguous && is_contiguous(&reader->episodes[i]);
	size_t bytes = reader->count * sizeof(uint64_t) + SCAN_ROWS * sizeof(int64_t);
	uint64_t *offsets = contiguous ? NULL : malloc(bytes);
	if (!contiguous && offsets == NULL)
		return esk_fail_memory(err, bytes, "episodes");
	for (uint64_t i = 0; i < reader->count; i++) {
		const esk_replay_entry *e = &reader->episodes[i];
		if (!contiguous)
			offsets[i] = total;
		for (uint64_t s = 0; contiguous && s < e->length; s++)
			ret_rows[total + s] = e->start + s;
		total += e->length;
	}
	if (contiguous)
		return ESK_OK;
	esk_status status =
		arrange_by_ids(reader, offsets, total, (int64_t *)(offsets + reader->count), ret_rows, err);
	free(offsets);
	return status;
}
