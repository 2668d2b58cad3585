/* The columns of a run, in their fixed order, from the cells and leaves that the caller asked for. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char esk_replay_outcome_texts[3][ESK_REPLAY_OUTCOME_BYTES] = {"unfinished", "terminated", "truncated"};

/* ---- adding ---- */

static esk_status grow(esk_replay_columns *columns, size_t more, esk_error *err)
{
	size_t capacity = columns->step_count + more;
	if (capacity <= columns->capacity)
		return ESK_OK;
	capacity = capacity < 32 ? 32 : 2 * capacity;
	esk_column *grown = realloc(columns->steps, capacity * sizeof *grown);
	if (grown == NULL)
		return esk_fail_memory(err, capacity * sizeof *grown, "columns");
	columns->steps = grown;
	columns->capacity = capacity;
	return ESK_OK;
}

/* Adds one column of the profile's own; room for it was made. Returns its place. */
static size_t add(esk_replay_columns *columns, const char *name, esk_kind kind, uint32_t size_bytes)
{
	esk_column *column = &columns->steps[columns->step_count];
	*column = (esk_column){.dtype = {.kind = kind, .size_bytes = size_bytes}};
	snprintf(column->name, sizeof column->name, "%s", name);
	return columns->step_count++;
}

static size_t add_text(esk_replay_columns *columns, const char *name, bool nullable)
{
	size_t place = add(columns, name, ESK_STRING, sizeof(esk_string));
	columns->steps[place].nullable = nullable;
	return place;
}

/* ---- cells and leaves ---- */

/* "u8[84,84]@gzip:1" is a cell, "position:f32[3]" a leaf: before a cell's first ':' comes its '[', '?' or
 * '@'. */
static bool has_names(const char *text)
{
	const char *mark = strpbrk(text, ":[?@");
	return mark != NULL && *mark == ':';
}

/* Parses `text`, a cell of the name `name` or leaves below it. *ret_columns to free. */
static esk_status parse_leaves(const char *name, const char *text, bool groups, esk_column **ret_columns,
	size_t *ret_count, esk_error *err)
{
	if (has_names(text) && !groups)
		return esk_fail(err, ESK_EINVAL,
			"%s: expected one cell, as \"u8[210,160,3]\", found \"%.100s\"", name, text);
	size_t bytes = strlen(name) + strlen(text) + 2;
	char *spec = malloc(bytes);
	esk_error inner;
	if (spec == NULL)
		return esk_fail_memory(err, bytes, "a column spec");
	snprintf(spec, bytes, "%s%s%s", has_names(text) ? "" : name, has_names(text) ? "" : ":", text);
	esk_status status = esk_columns_parse(spec, ret_columns, ret_count, &inner);
	free(spec);
	if (status != ESK_OK)
		return esk_fail(err, status, "%s: %s", name, inner.message);
	if (!has_names(text) && *ret_count != 1) {
		esk_columns_free(*ret_columns);
		return esk_fail(err, ESK_EINVAL, "%s: expected one cell, found %zu in \"%.100s\"", name,
			*ret_count, text);
	}
	return ESK_OK;
}

static esk_status add_leaves(esk_replay_columns *columns, const char *name, const char *text, bool nullable,
	uint64_t chunk_rows, esk_replay_leaves *ret_leaves, esk_error *err)
{
	*ret_leaves = (esk_replay_leaves){.first = columns->step_count};
	if (text == NULL)
		return ESK_OK;
	esk_column *parsed;
	size_t count;
	esk_status status = parse_leaves(name, text, strcmp(name, "frames") != 0, &parsed, &count, err);
	if (status != ESK_OK)
		return status;
	status = grow(columns, count, err);
	for (size_t i = 0; i < count && status == ESK_OK; i++) {
		esk_column *column = &columns->steps[columns->step_count];
		*column = parsed[i];
		column->nullable = nullable;
		column->chunk_rows = chunk_rows;
		if (has_names(text) && (size_t)snprintf(column->name, sizeof column->name, "%s/%s", name,
					       parsed[i].name) >= sizeof column->name)
			status = esk_fail(err, ESK_EINVAL, "%s: the leaf \"%s\" has too long a name", name,
				parsed[i].name);
		columns->step_count++;
	}
	esk_columns_free(parsed);
	ret_leaves->count = count;
	return status;
}

/* ---- the caller's own ---- */

static bool is_below(const char *name, const char *group)
{
	size_t size = strlen(group);
	return strncmp(name, group, size) == 0 && (name[size] == '/' || name[size] == '\0');
}

static esk_status add_extra(esk_replay_columns *columns, const char *text, esk_error *err)
{
	columns->extra = (esk_replay_leaves){.first = columns->step_count};
	if (text == NULL)
		return ESK_OK;
	static const char *const taken[] = {"frames", "observations", "actions", "rewards", "dones",
		"terminated", "truncated", "timestamps", "infos", "episode_ids", "step_ids", "worker_ids",
		"agent_ids", "episodes"};
	esk_column *parsed;
	size_t count;
	esk_error inner;
	esk_status status = esk_columns_parse(text, &parsed, &count, &inner);
	if (status != ESK_OK)
		return esk_fail(err, status, "extra columns: %s", inner.message);
	for (size_t i = 0; i < count && status == ESK_OK; i++)
		for (size_t t = 0; t < sizeof taken / sizeof *taken && status == ESK_OK; t++)
			if (is_below(parsed[i].name, taken[t]))
				status = esk_fail(err, ESK_EINVAL,
					"extra column \"%s\": the name \"%s\" is the replay layout's; take "
					"another",
					parsed[i].name, taken[t]);
	if (status == ESK_OK)
		status = grow(columns, count, err);
	if (status == ESK_OK) {
		memcpy(&columns->steps[columns->step_count], parsed, count * sizeof *parsed);
		columns->step_count += count;
		columns->extra.count = count;
	}
	esk_columns_free(parsed);
	return status;
}

/* ---- the two streams ---- */

static void add_scalars(esk_replay_columns *columns, const esk_replay_options *options)
{
	columns->reward = add(columns, "rewards", ESK_F32, 4);
	columns->done = add(columns, "dones", ESK_BOOL, 1);
	columns->terminated = add(columns, "terminated", ESK_BOOL, 1);
	columns->truncated = add(columns, "truncated", ESK_BOOL, 1);
	columns->timestamp = add(columns, "timestamps", ESK_I64, 8);
	strcpy(columns->steps[columns->timestamp].units, "ns");
	columns->info = options->infos ? add_text(columns, "infos", true) : SIZE_MAX;
	columns->episode = add(columns, "episode_ids", ESK_I64, 8);
	columns->step = add(columns, "step_ids", ESK_I64, 8);
	columns->worker = options->agents ? add_text(columns, "worker_ids", false) : SIZE_MAX;
	columns->agent = options->agents ? add_text(columns, "agent_ids", false) : SIZE_MAX;
}

static esk_status make_episodes(esk_replay_columns *columns, bool final_observations, esk_error *err)
{
	static const struct {
		const char *name;
		esk_dtype dtype;
	} own[ESK_REPLAY_EPISODE_COLUMNS] = {
		{"ids", {ESK_I64, 8}},
		{"starts", {ESK_I64, 8}},
		{"lengths", {ESK_I64, 8}},
		{"total_reward", {ESK_F64, 8}},
		{"seed", {ESK_I64, 8}},
		{"outcome", {ESK_STRING_N, ESK_REPLAY_OUTCOME_BYTES}},
		{"ended", {ESK_I64, 8}},
	};
	size_t finals = final_observations ? columns->observation.count : 0;
	size_t count = ESK_REPLAY_EPISODE_COLUMNS + finals;
	columns->episodes = calloc(count, sizeof *columns->episodes);
	if (columns->episodes == NULL)
		return esk_fail_memory(err, count * sizeof *columns->episodes, "columns");
	columns->episode_count = count;
	for (size_t i = 0; i < ESK_REPLAY_EPISODE_COLUMNS; i++) {
		columns->episodes[i].dtype = own[i].dtype;
		columns->episodes[i].nullable = strcmp(own[i].name, "seed") == 0;
		strcpy(columns->episodes[i].name, own[i].name);
	}
	strcpy(columns->episodes[ESK_REPLAY_EPISODE_COLUMNS - 1].units, "ns");
	for (size_t i = 0; i < finals; i++) {
		esk_column *column = &columns->episodes[ESK_REPLAY_EPISODE_COLUMNS + i];
		*column = columns->steps[columns->observation.first + i];
		const char *leaf = column->name + strlen("observations");
		char name[sizeof column->name];
		if ((size_t)snprintf(name, sizeof name, "final_observations%s", leaf) >= sizeof name)
			return esk_fail(
				err, ESK_EINVAL, "observations: the leaf \"%s\" has too long a name", leaf);
		memcpy(column->name, name, sizeof name);
	}
	return ESK_OK;
}

esk_status esk_replay_columns_make(
	esk_replay_columns *columns, const esk_replay_options *options, esk_error *err)
{
	*columns = (esk_replay_columns){0};
	esk_status status = add_leaves(
		columns, "frames", options->frame, true, options->chunk_rows, &columns->frame, err);
	if (status == ESK_OK)
		status = add_leaves(columns, "observations", options->observation, true, options->chunk_rows,
			&columns->observation, err);
	if (status == ESK_OK)
		status = add_leaves(columns, "actions", options->action != NULL ? options->action : "i64",
			false, 0, &columns->action, err);
	if (status == ESK_OK)
		status = grow(columns, 10, err);
	if (status != ESK_OK)
		return status;
	add_scalars(columns, options);
	status = add_extra(columns, options->extra, err);
	if (status == ESK_OK)
		status = make_episodes(columns, options->final_observations, err);
	return status;
}

/* ---- what the catalogue keeps of them ---- */

static void add_field(
	char *index, size_t index_bytes, const char *field, const esk_column *column, bool presence)
{
	size_t size = strlen(index);
	snprintf(index + size, index_bytes - size, "%s%s = %s%s", index[size - 1] == '(' ? "" : ", ", field,
		column->name, presence ? "?" : "");
}

/* One number, truth value or text, which a field of a table can hold. */
static bool is_single(const esk_column *column)
{
	return column->rank == 0 && column->dtype.kind != ESK_C64 && column->dtype.kind != ESK_C128;
}

/* Whether the part's first leaf is there in a row, if its name can stand in an index. */
static void add_presence(
	char *index, size_t index_bytes, const char *field, const esk_column *steps, esk_replay_leaves part)
{
	if (part.count > 0 && strpbrk(steps[part.first].name, ",)?(= ") == NULL)
		add_field(index, index_bytes, field, &steps[part.first], true);
}

void esk_replay_columns_index(const esk_replay_columns *columns, char *index, size_t index_bytes)
{
	static const char *const extras[][2] = {{"time_step", "time_steps"},
		{"payload_version", "payload_versions"}, {"space_signature", "space_signatures"},
		{"render_hint", "render_hints"}};
	const esk_column *steps = columns->steps;
	snprintf(index, index_bytes, "replay_steps(");
	add_field(index, index_bytes, "episode", &steps[columns->episode], false);
	add_field(index, index_bytes, "step", &steps[columns->step], false);
	if (columns->action.count == 1 && strcmp(steps[columns->action.first].name, "actions") == 0 &&
		is_single(&steps[columns->action.first]))
		add_field(index, index_bytes, "action", &steps[columns->action.first], false);
	add_field(index, index_bytes, "reward", &steps[columns->reward], false);
	add_field(index, index_bytes, "terminated", &steps[columns->terminated], false);
	add_field(index, index_bytes, "truncated", &steps[columns->truncated], false);
	add_field(index, index_bytes, "time_ns", &steps[columns->timestamp], false);
	add_presence(index, index_bytes, "has_frame", steps, columns->frame);
	add_presence(index, index_bytes, "has_observation", steps, columns->observation);
	if (columns->worker != SIZE_MAX)
		add_field(index, index_bytes, "worker", &steps[columns->worker], false);
	if (columns->agent != SIZE_MAX)
		add_field(index, index_bytes, "agent", &steps[columns->agent], false);
	for (size_t e = 0; e < columns->extra.count; e++)
		for (size_t i = 0; i < sizeof extras / sizeof *extras; i++) {
			const esk_column *column = &steps[columns->extra.first + e];
			if (strcmp(column->name, extras[i][1]) == 0 && is_single(column))
				add_field(index, index_bytes, extras[i][0], column, false);
		}
	strcat(index, ")");
}

void esk_replay_columns_clear(esk_replay_columns *columns)
{
	free(columns->steps);
	free(columns->episodes);
	*columns = (esk_replay_columns){0};
}
