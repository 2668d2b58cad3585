/* Writing: steps into the stream "/", a row per ended episode into the stream "episodes".
 *
 * A slot belongs to the thread that uses it; slots share the two streams, which take rows from any thread,
 * and the number of the next episode. A beginning holds `beginning` until its first step is appended, so that
 * numbers and first rows rise together. */
#include "internal.h"

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* One episode under way. On cache lines of its own: neighbours are other threads'. */
typedef struct writer_slot {
	const void **cells; /* a pointer per column of the stream "/" */
	bool open;
	bool seeded, next_seeded;
	bool terminated, truncated; /* as the last step says */
	int64_t seed, next_seed;
	int64_t id;
	uint64_t start;
	int64_t length;
	double total_reward;
} __attribute__((aligned(128))) writer_slot;

struct esk_replay_writer {
	esk_run *run;
	esk_stream *steps;
	esk_stream *episodes;
	esk_replay_columns columns;
	writer_slot *slots;
	uint32_t slot_count;
	const void **slot_cells;
	pthread_mutex_t beginning;
	/* Counts for onlookers: nothing is read by their order, so both are relaxed. */
	_Atomic uint64_t step_count;
	_Atomic uint64_t episode_count; /* written under `beginning` */
};

/* ---- attributes of the file's root ---- */

/* Whether a member of the metadata becomes an attribute too: it is one value, and its name may be one's. */
static bool is_attribute(const char *key, const json_t *value)
{
	static const char *const reserved[] = {
		"run_id", "env_id", "created_at", "total_steps", "total_episodes", "metadata"};
	for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
		if (strcmp(key, reserved[i]) == 0)
			return false;
	return esk_name_check(key, "member", NULL) == ESK_OK && strncmp(key, "esker_", 6) != 0 &&
	       (json_is_string(value) || json_is_number(value) || json_is_boolean(value));
}

/* *ret_json to free: run_id, env_id, and the metadata's scalars. */
static esk_status make_attributes(
	const char *run_id, const esk_replay_options *options, char **ret_json, esk_error *err)
{
	json_error_t fault;
	const char *key;
	json_t *value;
	json_t *metadata = options->metadata_json != NULL
				   ? json_loads(options->metadata_json, JSON_REJECT_DUPLICATES, &fault)
				   : json_object();
	if (metadata == NULL && options->metadata_json != NULL)
		return esk_fail(err, ESK_EINVAL, "metadata of run \"%s\" is no JSON: byte %d: %s", run_id,
			fault.position, fault.text);
	if (!json_is_object(metadata)) {
		json_decref(metadata);
		return esk_fail(err, ESK_EINVAL,
			"metadata of run \"%s\" must be a JSON object, as {\"game\": \"Breakout\"}", run_id);
	}
	json_t *attributes = json_object();
	json_object_set_new(attributes, "run_id", json_string(run_id));
	if (options->env_id != NULL)
		json_object_set_new(attributes, "env_id", json_string(options->env_id));
	json_object_foreach(metadata, key, value) if (is_attribute(key, value))
		json_object_set(attributes, key, value);
	char *json = json_dumps(attributes, JSON_COMPACT);
	bool whole = options->env_id == NULL || json_object_get(attributes, "env_id") != NULL;
	json_decref(attributes);
	json_decref(metadata);
	if (json == NULL || !whole) {
		free(json);
		return esk_fail(err, ESK_EINVAL, "run \"%s\": run_id or env_id is no UTF-8 text", run_id);
	}
	*ret_json = json;
	return ESK_OK;
}

/* ---- opening ---- */

static esk_status make_slots(esk_replay_writer *writer, uint32_t count, esk_error *err)
{
	size_t columns = writer->columns.step_count, bytes = count * sizeof(writer_slot);
	writer->slot_count = count;
	writer->slots = aligned_alloc(_Alignof(writer_slot), bytes);
	writer->slot_cells = calloc(count, columns * sizeof *writer->slot_cells);
	if (writer->slots == NULL || writer->slot_cells == NULL)
		return esk_fail_memory(err, bytes, "slots");
	memset(writer->slots, 0, bytes);
	for (uint32_t i = 0; i < count; i++)
		writer->slots[i].cells = writer->slot_cells + i * columns;
	return ESK_OK;
}

static esk_status open_streams(esk_replay_writer *writer, esk_error *err)
{
	const esk_replay_columns *columns = &writer->columns;
	esk_stream_options steps = ESK_STREAM_OPTIONS_INIT, episodes = ESK_STREAM_OPTIONS_INIT;
	char index[ESK_REPLAY_INDEX_BYTES];
	esk_replay_columns_index(columns, index, sizeof index - 1);
	steps.index = index;
	steps.rows_attribute = "total_steps";
	episodes.index = "replay_episodes(episode = ids, start = starts, length = lengths, total_reward = "
			 "total_reward, seed = seed, outcome = outcome, ended_ns = ended)";
	episodes.rows_attribute = "total_episodes";
	esk_status status = esk_run_stream_with(
		writer->run, "/", columns->steps, columns->step_count, &steps, &writer->steps, err);
	if (status == ESK_OK)
		status = esk_run_stream_with(writer->run, "episodes", columns->episodes,
			columns->episode_count, &episodes, &writer->episodes, err);
	return status;
}

/* What an earlier session left: its steps, and the episodes that it began. */
static esk_status count_earlier(esk_store *store, esk_replay_writer *writer, esk_error *err)
{
	esk_replay_reader *reader;
	esk_status status = esk_replay_reader_open(store, esk_run_name(writer->run), &reader, err);
	if (status != ESK_OK)
		return status;
	atomic_store_explicit(&writer->step_count, esk_replay_reader_steps(reader), memory_order_relaxed);
	atomic_store_explicit(
		&writer->episode_count, esk_replay_reader_episodes(reader), memory_order_relaxed);
	esk_replay_reader_close(reader);
	return ESK_OK;
}

static esk_status open_run(esk_store *store, const char *run_id, esk_replay_options *options,
	esk_replay_writer *writer, esk_error *err)
{
	char *attributes;
	esk_status status = make_attributes(run_id, options, &attributes, err);
	if (status != ESK_OK)
		return status;
	options->run.metadata_json = options->metadata_json;
	options->run.attributes_json = attributes;
	status = esk_run_open(store, run_id, &options->run, &writer->run, err);
	free(attributes);
	return status;
}

esk_status esk_replay_writer_open(esk_store *store, const char *run_id, const esk_replay_options *options,
	esk_replay_writer **ret_writer, esk_error *err)
{
	esk_replay_options taken = ESK_REPLAY_OPTIONS_INIT;
	if (options != NULL)
		esk_struct_take(&taken, sizeof taken, options);
	if (taken.run.struct_size == 0)
		taken.run.struct_size = sizeof taken.run;
	if (run_id == NULL)
		return esk_fail(err, ESK_EINVAL, "a replay needs a run's name, found NULL");
	esk_replay_writer *writer = calloc(1, sizeof *writer);
	if (writer == NULL)
		return esk_fail_memory(err, sizeof *writer, "a replay writer");
	pthread_mutex_init(&writer->beginning, NULL);
	esk_status status = esk_replay_columns_make(&writer->columns, &taken, err);
	if (status == ESK_OK)
		status = make_slots(writer, taken.slots != 0 ? taken.slots : 1, err);
	if (status == ESK_OK)
		status = open_run(store, run_id, &taken, writer, err);
	if (status == ESK_OK)
		status = open_streams(writer, err);
	if (status == ESK_OK && taken.run.append)
		status = count_earlier(store, writer, err);
	if (status != ESK_OK) {
		writer->slot_count = 0;
		esk_replay_writer_close(writer, NULL);
		return status;
	}
	*ret_writer = writer;
	return ESK_OK;
}

/* ---- steps ---- */

static esk_status check_step(const esk_replay_writer *writer, const esk_replay_step *step, esk_error *err)
{
	if (step->struct_size < sizeof *step)
		return esk_fail(err, ESK_EINVAL,
			"a replay step has struct_size %zu, expected sizeof(esk_replay_step), %zu",
			step->struct_size, sizeof *step);
	if (step->slot >= writer->slot_count)
		return esk_fail(err, ESK_ERANGE,
			"slot %u: the writer of run \"%s\" has %u; give it more with options.slots",
			step->slot, esk_run_name(writer->run), writer->slot_count);
	if (step->action == NULL)
		return esk_fail(err, ESK_EINVAL, "a step of run \"%s\" has no action (action is NULL)",
			esk_run_name(writer->run));
	if (step->extra == NULL && writer->columns.extra.count > 0)
		return esk_fail(err, ESK_EINVAL,
			"a step of run \"%s\" lacks its %zu extra columns (extra is NULL)",
			esk_run_name(writer->run), writer->columns.extra.count);
	if (step->frame != NULL && writer->columns.frame.count == 0)
		return esk_fail(err, ESK_EINVAL,
			"a step of run \"%s\" has a frame, but the run has none: say so with options.frame",
			esk_run_name(writer->run));
	if (step->observation != NULL && writer->columns.observation.count == 0)
		return esk_fail(err, ESK_EINVAL,
			"a step of run \"%s\" has an observation, but the run has none: say so with "
			"options.observation",
			esk_run_name(writer->run));
	return ESK_OK;
}

static void put_leaves(const void **cells, esk_replay_leaves leaves, const void *const *from)
{
	for (size_t i = 0; i < leaves.count; i++)
		cells[leaves.first + i] = from != NULL ? from[i] : NULL;
}

/* Appends the step as number `index` of episode `id`. */
static esk_status append_step(esk_replay_writer *writer, const void **cells, const esk_replay_step *step,
	int64_t id, int64_t index, uint64_t *ret_row, esk_error *err)
{
	const esk_replay_columns *columns = &writer->columns;
	bool done = step->terminated || step->truncated;
	int64_t time_ns = step->time_ns != 0 ? step->time_ns : esk_now_ns();
	if (columns->frame.count > 0)
		cells[columns->frame.first] = step->frame;
	put_leaves(cells, columns->observation, step->observation);
	put_leaves(cells, columns->action, step->action);
	put_leaves(cells, columns->extra, step->extra);
	cells[columns->reward] = &step->reward;
	cells[columns->done] = &done;
	cells[columns->terminated] = &step->terminated;
	cells[columns->truncated] = &step->truncated;
	cells[columns->timestamp] = &time_ns;
	cells[columns->episode] = &id;
	cells[columns->step] = &index;
	if (columns->info != SIZE_MAX)
		cells[columns->info] = step->info.size > 0 ? &step->info : NULL;
	if (columns->worker != SIZE_MAX) {
		cells[columns->worker] = &step->worker;
		cells[columns->agent] = &step->agent;
	}
	return esk_stream_append(writer->steps, cells, ret_row, err);
}

/* The first step of an episode. */
static esk_status begin(esk_replay_writer *writer, writer_slot *slot, const esk_replay_step *step,
	uint64_t *ret_row, esk_error *err)
{
	pthread_mutex_lock(&writer->beginning);
	uint64_t id = atomic_load_explicit(&writer->episode_count, memory_order_relaxed);
	esk_status status = append_step(writer, slot->cells, step, (int64_t)id, 0, ret_row, err);
	if (status == ESK_OK)
		atomic_store_explicit(&writer->episode_count, id + 1, memory_order_relaxed);
	pthread_mutex_unlock(&writer->beginning);
	if (status != ESK_OK)
		return status;
	slot->open = true;
	slot->id = (int64_t)id;
	slot->start = *ret_row;
	slot->length = 0;
	slot->total_reward = 0;
	slot->seeded = slot->next_seeded;
	slot->seed = slot->next_seed;
	slot->next_seeded = false;
	return ESK_OK;
}

esk_status esk_replay_writer_step(
	esk_replay_writer *writer, const esk_replay_step *step, uint64_t *ret_row, esk_error *err)
{
	uint64_t row;
	esk_status status = check_step(writer, step, err);
	if (status != ESK_OK)
		return status;
	writer_slot *slot = &writer->slots[step->slot];
	if (slot->open && (slot->terminated || slot->truncated))
		status = esk_replay_writer_end(writer, step->slot, -1, NULL, err);
	if (status == ESK_OK)
		status = slot->open
				 ? append_step(writer, slot->cells, step, slot->id, slot->length, &row, err)
				 : begin(writer, slot, step, &row, err);
	if (status != ESK_OK)
		return status;
	slot->length++;
	slot->total_reward += step->reward;
	slot->terminated = step->terminated;
	slot->truncated = step->truncated;
	atomic_fetch_add_explicit(&writer->step_count, 1, memory_order_relaxed);
	if (ret_row != NULL)
		*ret_row = row;
	return ESK_OK;
}

/* ---- ends ---- */

void esk_replay_writer_seed(esk_replay_writer *writer, uint32_t slot, int64_t seed)
{
	if (slot >= writer->slot_count)
		return;
	writer->slots[slot].next_seeded = true;
	writer->slots[slot].next_seed = seed;
}

static esk_status append_episode(esk_replay_writer *writer, const writer_slot *slot,
	esk_replay_outcome outcome, const void *const *final_observation, esk_error *err)
{
	size_t finals = writer->columns.episode_count - ESK_REPLAY_EPISODE_COLUMNS;
	const void *few[ESK_REPLAY_EPISODE_COLUMNS + 8];
	const void **cells = few;
	if (finals > 8) {
		cells = malloc(writer->columns.episode_count * sizeof *cells);
		if (cells == NULL)
			return esk_fail_memory(
				err, writer->columns.episode_count * sizeof *cells, "cells of an episode");
	}
	int64_t start = (int64_t)slot->start, ended_ns = esk_now_ns();
	cells[0] = &slot->id;
	cells[1] = &start;
	cells[2] = &slot->length;
	cells[3] = &slot->total_reward;
	cells[4] = slot->seeded ? &slot->seed : NULL;
	cells[5] = esk_replay_outcome_texts[outcome];
	cells[6] = &ended_ns;
	put_leaves(cells, (esk_replay_leaves){.first = ESK_REPLAY_EPISODE_COLUMNS, .count = finals},
		final_observation);
	esk_status status = esk_stream_append(writer->episodes, cells, NULL, err);
	if (cells != few)
		free(cells);
	return status;
}

esk_status esk_replay_writer_end(esk_replay_writer *writer, uint32_t slot_number, int outcome,
	const void *const *final_observation, esk_error *err)
{
	if (slot_number >= writer->slot_count)
		return esk_fail(err, ESK_ERANGE, "slot %u: the writer of run \"%s\" has %u", slot_number,
			esk_run_name(writer->run), writer->slot_count);
	if (outcome > ESK_REPLAY_TRUNCATED)
		return esk_fail(err, ESK_EINVAL,
			"outcome %d of an episode: expected one of esk_replay_outcome, or -1", outcome);
	writer_slot *slot = &writer->slots[slot_number];
	if (!slot->open)
		return ESK_OK;
	if (outcome < 0)
		outcome = slot->truncated && !slot->terminated ? ESK_REPLAY_TRUNCATED : ESK_REPLAY_TERMINATED;
	esk_status status = append_episode(writer, slot, (esk_replay_outcome)outcome, final_observation, err);
	if (status == ESK_OK)
		slot->open = false;
	return status;
}

void esk_replay_writer_leave(esk_replay_writer *writer, uint32_t slot)
{
	if (slot < writer->slot_count)
		writer->slots[slot].open = false;
}

esk_status esk_replay_writer_resume(
	esk_replay_writer *writer, uint32_t slot_number, const esk_replay_episode *episode, esk_error *err)
{
	uint64_t begun = esk_replay_writer_episodes(writer);
	if (slot_number >= writer->slot_count)
		return esk_fail(err, ESK_ERANGE, "slot %u: the writer of run \"%s\" has %u", slot_number,
			esk_run_name(writer->run), writer->slot_count);
	if (episode->id >= begun)
		return esk_fail(err, ESK_ERANGE, "episode %llu: run \"%s\" has %llu",
			(unsigned long long)episode->id, esk_run_name(writer->run),
			(unsigned long long)begun);
	if (episode->ended_ns != 0)
		return esk_fail(err, ESK_EINVAL,
			"episode %llu of run \"%s\" has ended: it takes no more steps",
			(unsigned long long)episode->id, esk_run_name(writer->run));
	writer_slot *slot = &writer->slots[slot_number];
	slot->open = true;
	slot->id = (int64_t)episode->id;
	slot->start = episode->start;
	slot->length = (int64_t)episode->length;
	slot->total_reward = episode->total_reward;
	slot->terminated = episode->outcome == ESK_REPLAY_TERMINATED;
	slot->truncated = episode->outcome == ESK_REPLAY_TRUNCATED;
	slot->seeded = slot->next_seeded;
	slot->seed = slot->next_seed;
	slot->next_seeded = false;
	return ESK_OK;
}

esk_status esk_replay_writer_flush(esk_replay_writer *writer, esk_error *err)
{
	return esk_run_commit(writer->run, NULL, err);
}

esk_status esk_replay_writer_close(esk_replay_writer *writer, esk_error *err)
{
	if (writer == NULL)
		return ESK_OK;
	esk_status status = ESK_OK;
	for (uint32_t i = 0; i < writer->slot_count; i++) {
		const writer_slot *slot = &writer->slots[i];
		bool done = slot->terminated || slot->truncated;
		esk_status ended = esk_replay_writer_end(
			writer, i, done ? -1 : ESK_REPLAY_UNFINISHED, NULL, status == ESK_OK ? err : NULL);
		status = status == ESK_OK ? ended : status;
	}
	esk_status closed = esk_run_close(writer->run, status == ESK_OK ? err : NULL);
	status = status == ESK_OK ? closed : status;
	pthread_mutex_destroy(&writer->beginning);
	esk_replay_columns_clear(&writer->columns);
	free(writer->slot_cells);
	free(writer->slots);
	free(writer);
	return status;
}

uint64_t esk_replay_writer_steps(const esk_replay_writer *writer)
{
	return atomic_load_explicit(&writer->step_count, memory_order_relaxed);
}

uint64_t esk_replay_writer_episodes(const esk_replay_writer *writer)
{
	return atomic_load_explicit(&writer->episode_count, memory_order_relaxed);
}

esk_run *esk_replay_writer_run(esk_replay_writer *writer)
{
	return writer->run;
}
