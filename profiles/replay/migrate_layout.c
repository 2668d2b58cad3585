/* What the columns of a run are: from a survey of its steps when it begins, from its metadata later on, when
 * payloads may be gone. */
#include "migrate.h"

#include "internal.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLES 64

const char *const esk_migrate_payload_names[ESK_MIGRATE_PAYLOADS] = {"frames", "observations", "actions"};

const char *const esk_migrate_extra_names[ESK_MIGRATE_EXTRAS] = {"legacy_rowids", "legacy_steps",
	"legacy_episodes", "time_steps", "payload_versions", "space_signatures", "frame_texts",
	"observation_texts", "action_texts"};

static const char *const extra_types[ESK_MIGRATE_EXTRAS] = {
	"i64", "i64?", "str", "i64?", "i64?", "str?", "str?", "str?", "str?"};

void esk_migrate_layout_clear(esk_migrate_layout *layout)
{
	for (size_t i = 0; i < ESK_MIGRATE_PAYLOADS; i++)
		esk_payload_form_clear(&layout->payloads[i]);
	*layout = (esk_migrate_layout){0};
}

/* Gives every leaf its place in a row's cells. */
static void place_cells(esk_migrate_layout *layout)
{
	layout->payloads[ESK_MIGRATE_ACTION].plain = true;
	layout->cells_bytes = 0;
	for (size_t p = 0; p < ESK_MIGRATE_PAYLOADS; p++) {
		esk_payload_form *form = &layout->payloads[p];
		for (size_t i = 0; i < form->leaf_count; i++) {
			form->leaves[i].offset = layout->cells_bytes;
			layout->cells_bytes += (form->leaves[i].cell_bytes + 7) / 8 * 8;
		}
	}
}

/* ---- survey ---- */

typedef struct survey {
	esk_payload_survey payloads[ESK_MIGRATE_PAYLOADS];
	char *signature; /* of the first step that has one */
	bool has[ESK_LEGACY_COLUMNS];
} survey;

size_t esk_migrate_number_text(const esk_value *value, char text[ESK_MIGRATE_NUMBER])
{
	if (value->kind == ESK_INTEGER)
		return (size_t)snprintf(text, ESK_MIGRATE_NUMBER, "%lld", (long long)value->integer);
	if (isinf(value->real))
		return (size_t)snprintf(text, ESK_MIGRATE_NUMBER, "%sInfinity", value->real < 0 ? "-" : "");
	size_t size = (size_t)snprintf(text, ESK_MIGRATE_NUMBER, "%.17g", value->real);
	if (strpbrk(text, ".e") == NULL) /* a real it is, whatever its value */
		size += (size_t)snprintf(text + size, ESK_MIGRATE_NUMBER - size, ".0");
	return size;
}

/* A number in the action column is its own payload. */
static void look_at_action(esk_payload_survey *actions, const esk_value *value)
{
	char number[ESK_MIGRATE_NUMBER];
	if (value->kind == ESK_INTEGER || value->kind == ESK_REAL)
		esk_payload_look(actions, number, esk_migrate_number_text(value, number));
	else if (value->kind != ESK_NULL)
		esk_payload_look(actions, value->data, value->size);
}

static void look_at_step(survey *s, const esk_value values[ESK_LEGACY_COLUMNS])
{
	const esk_value *frame = &values[ESK_LEGACY_RENDER], *observation = &values[ESK_LEGACY_OBSERVATION];
	const esk_value *signature = &values[ESK_LEGACY_SIGNATURE];
	for (size_t i = 0; i < ESK_LEGACY_COLUMNS; i++)
		s->has[i] |= values[i].kind != ESK_NULL;
	if (frame->data != NULL)
		esk_payload_look(&s->payloads[ESK_MIGRATE_FRAME], frame->data, frame->size);
	if (observation->data != NULL)
		esk_payload_look(&s->payloads[ESK_MIGRATE_OBSERVATION], observation->data, observation->size);
	look_at_action(&s->payloads[ESK_MIGRATE_ACTION], &values[ESK_LEGACY_ACTION]);
	if (s->signature == NULL && signature->data != NULL)
		s->signature = strndup(signature->data, signature->size);
}

/* Looks at steps all over the run, the first and the last among them. */
static esk_status look_at_run(esk_legacy *legacy, const esk_migrate_plan *plan, const esk_migrate_run *run,
	survey *s, esk_error *err)
{
	size_t samples = run->count < SAMPLES ? run->count : SAMPLES;
	esk_status status = ESK_OK;
	for (size_t i = 0; i < samples && status == ESK_OK; i++) {
		esk_value values[ESK_LEGACY_COLUMNS];
		size_t step = run->first + (samples > 1 ? i * (run->count - 1) / (samples - 1) : 0);
		status = esk_legacy_fetch(legacy, plan->steps[step].rowid, values, err);
		if (status == ESK_OK)
			look_at_step(s, values);
	}
	return status;
}

static esk_status choose(const survey *s, esk_migrate_layout *layout, esk_error *err)
{
	esk_status status = ESK_OK;
	for (size_t i = 0; i < ESK_MIGRATE_PAYLOADS && status == ESK_OK; i++) {
		esk_payload_wish wish = {.single = i == ESK_MIGRATE_FRAME,
			.signature = i == ESK_MIGRATE_OBSERVATION ? s->signature : NULL};
		status = esk_payload_choose(&s->payloads[i], &wish, &layout->payloads[i], err);
	}
	return status;
}

/* The text around the leaves of the first step that has one is taken to be that of most. */
static esk_status find_text(esk_legacy *legacy, const esk_migrate_plan *plan, const esk_migrate_run *run,
	esk_legacy_column column, esk_payload_form *form, size_t cells_bytes, esk_error *err)
{
	size_t most = run->count < SAMPLES ? run->count : SAMPLES;
	uint8_t *cells = malloc(cells_bytes + 1);
	if (cells == NULL)
		return esk_fail_memory(err, cells_bytes, "the arrays of a step");
	esk_status status = ESK_OK;
	for (size_t i = 0; i < most && status == ESK_OK && form->text == NULL && form->leaf_count > 0; i++) {
		esk_value values[ESK_LEGACY_COLUMNS];
		esk_payload_text text = {0};
		esk_payload_result result;
		status = esk_legacy_fetch(legacy, plan->steps[run->first + i].rowid, values, err);
		const esk_value *value = &values[column];
		if (status == ESK_OK && value->data != NULL &&
			esk_payload_read(form, value->data, value->size, cells, &text, &result) &&
			result.has[0]) {
			form->text = text.data;
			form->text_bytes = text.size;
		} else {
			free(text.data);
		}
	}
	free(cells);
	return status;
}

static void choose_extras(const survey *s, const esk_legacy *legacy, esk_migrate_layout *layout)
{
	bool *has = layout->has_extra;
	has[ESK_MIGRATE_ROWID] = has[ESK_MIGRATE_NAME] = true;
	has[ESK_MIGRATE_INDEX] = esk_legacy_has(legacy, ESK_LEGACY_STEP);
	has[ESK_MIGRATE_TIME_STEP] = s->has[ESK_LEGACY_TIME_STEP];
	has[ESK_MIGRATE_VERSION] = s->has[ESK_LEGACY_VERSION];
	has[ESK_MIGRATE_SIGNATURE] = s->has[ESK_LEGACY_SIGNATURE];
	has[ESK_MIGRATE_TEXT + ESK_MIGRATE_FRAME] = esk_legacy_has(legacy, ESK_LEGACY_RENDER);
	has[ESK_MIGRATE_TEXT + ESK_MIGRATE_OBSERVATION] = esk_legacy_has(legacy, ESK_LEGACY_OBSERVATION);
	/* An action of numbers alone needs none. */
	const esk_payload_form *action = &layout->payloads[ESK_MIGRATE_ACTION];
	has[ESK_MIGRATE_TEXT + ESK_MIGRATE_ACTION] =
		s->has[ESK_LEGACY_ACTION] && (action->leaf_count != 1 || action->leaves[0].path[0] != '\0');
	layout->infos = esk_legacy_has(legacy, ESK_LEGACY_INFO);
	layout->agents =
		esk_legacy_has(legacy, ESK_LEGACY_WORKER) || esk_legacy_has(legacy, ESK_LEGACY_AGENT);
}

esk_status esk_migrate_layout_survey(esk_legacy *legacy, const esk_migrate_plan *plan,
	const esk_migrate_run *run, esk_migrate_layout *ret_layout, esk_error *err)
{
	survey *s = calloc(1, sizeof *s);
	*ret_layout = (esk_migrate_layout){0};
	if (s == NULL)
		return esk_fail_memory(err, sizeof *s, "a survey");
	esk_status status = look_at_run(legacy, plan, run, s, err);
	if (status == ESK_OK)
		status = choose(s, ret_layout, err);
	place_cells(ret_layout);
	if (status == ESK_OK)
		status = find_text(legacy, plan, run, ESK_LEGACY_RENDER,
			&ret_layout->payloads[ESK_MIGRATE_FRAME], ret_layout->cells_bytes, err);
	if (status == ESK_OK)
		status = find_text(legacy, plan, run, ESK_LEGACY_OBSERVATION,
			&ret_layout->payloads[ESK_MIGRATE_OBSERVATION], ret_layout->cells_bytes, err);
	if (status == ESK_OK)
		choose_extras(s, legacy, ret_layout);
	free(s->signature);
	free(s);
	return status;
}

/* ---- specs ---- */

static void put_cell(FILE *out, const esk_payload_leaf *leaf)
{
	char dtype[32];
	static const uint32_t sizes[] = {
		[ESK_BOOL] = 1, [ESK_U8] = 1, [ESK_I64] = 8, [ESK_F32] = 4, [ESK_F64] = 8};
	esk_dtype_format((esk_dtype){leaf->kind, sizes[leaf->kind]}, dtype, sizeof dtype);
	fputs(dtype, out);
	for (uint32_t i = 0; i < leaf->rank; i++)
		fprintf(out, "%c%llu", i == 0 ? '[' : ',', (unsigned long long)leaf->shape[i]);
	if (leaf->rank > 0)
		fputc(']', out);
}

/* Ends a text that was written into memory. */
static esk_status finish(FILE *out, char **text, char **ret_spec, esk_error *err)
{
	if (out == NULL || fclose(out) != 0) {
		if (out != NULL)
			free(*text);
		return esk_fail_memory(err, 256, "a column spec");
	}
	*ret_spec = *text;
	return ESK_OK;
}

esk_status esk_migrate_layout_spec(
	const esk_migrate_layout *layout, size_t payload, char **ret_spec, esk_error *err)
{
	const esk_payload_form *form = &layout->payloads[payload];
	*ret_spec = NULL;
	if (form->leaf_count == 0)
		return ESK_OK;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	for (size_t i = 0; out != NULL && i < form->leaf_count; i++) {
		if (form->leaves[i].column[0] != '\0')
			fprintf(out, "%s%s:", i > 0 ? " " : "", form->leaves[i].column);
		put_cell(out, &form->leaves[i]);
	}
	return finish(out, &text, ret_spec, err);
}

esk_status esk_migrate_layout_extra(const esk_migrate_layout *layout, char **ret_spec, esk_error *err)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	for (size_t i = 0; out != NULL && i < ESK_MIGRATE_EXTRAS; i++)
		if (layout->has_extra[i])
			fprintf(out, "%s:%s ", esk_migrate_extra_names[i], extra_types[i]);
	return finish(out, &text, ret_spec, err);
}

/* ---- in the run's metadata ---- */

static json_t *save_leaf(const esk_payload_leaf *leaf)
{
	json_t *shape = json_array();
	char dtype[32];
	static const uint32_t sizes[] = {
		[ESK_BOOL] = 1, [ESK_U8] = 1, [ESK_I64] = 8, [ESK_F32] = 4, [ESK_F64] = 8};
	esk_dtype_format((esk_dtype){leaf->kind, sizes[leaf->kind]}, dtype, sizeof dtype);
	for (uint32_t i = 0; i < leaf->rank; i++)
		json_array_append_new(shape, json_integer((json_int_t)leaf->shape[i]));
	return json_pack("{s:s, s:s, s:s, s:o}", "path", leaf->path, "column", leaf->column, "dtype", dtype,
		"shape", shape);
}

/* NULL where a key or the text is no UTF-8. */
static json_t *save_payload(const esk_payload_form *form)
{
	json_t *leaves = json_array();
	for (size_t i = 0; i < form->leaf_count; i++)
		json_array_append_new(leaves, save_leaf(&form->leaves[i]));
	bool whole = json_array_size(leaves) == form->leaf_count;
	json_t *text = form->text != NULL ? json_stringn(form->text, form->text_bytes) : json_null();
	json_t *saved = json_pack("{s:o, s:o}", "leaves", leaves, "text", text);
	if (whole)
		return saved;
	json_decref(saved);
	return NULL;
}

esk_status esk_migrate_layout_save(const esk_migrate_layout *layout, const char *legacy_path,
	const esk_migrate_run *run, char **ret_metadata, esk_error *err)
{
	const char *slash = strrchr(legacy_path, '/');
	json_t *payloads = json_object(), *extras = json_array();
	json_t *from = json_string(slash != NULL ? slash + 1 : legacy_path);
	for (size_t i = 0; i < ESK_MIGRATE_PAYLOADS; i++)
		json_object_set_new(
			payloads, esk_migrate_payload_names[i], save_payload(&layout->payloads[i]));
	bool whole = json_object_size(payloads) == ESK_MIGRATE_PAYLOADS;
	for (size_t i = 0; i < ESK_MIGRATE_EXTRAS; i++)
		if (layout->has_extra[i])
			json_array_append_new(extras, json_string(esk_migrate_extra_names[i]));
	json_t *metadata = json_pack("{s:o, s:s, s:{s:o, s:o, s:b, s:b}}", "migrated_from",
		from != NULL ? from : json_null(), "legacy_run_id", run->legacy_name, "migration", "payloads",
		payloads, "extras", extras, "infos", layout->infos, "agents", layout->agents);
	char *text = metadata != NULL && whole ? json_dumps(metadata, JSON_COMPACT) : NULL;
	json_decref(metadata);
	if (text == NULL)
		return esk_fail(err, ESK_EUNSUPPORTED,
			"run \"%s\": its run_id or a key of its payloads is no UTF-8 text", run->name);
	*ret_metadata = text;
	return ESK_OK;
}

static bool load_leaf(const json_t *saved, esk_payload_leaf *leaf)
{
	const char *path, *column, *dtype_text;
	json_t *shape, *length;
	esk_dtype dtype;
	size_t i;
	*leaf = (esk_payload_leaf){0};
	if (json_unpack((json_t *)saved, "{s:s, s:s, s:s, s:o}", "path", &path, "column", &column, "dtype",
		    &dtype_text, "shape", &shape) != 0 ||
		esk_dtype_parse(dtype_text, &dtype, NULL) != ESK_OK ||
		json_array_size(shape) > ESK_MAX_RANK || strlen(path) >= sizeof leaf->path ||
		strlen(column) >= sizeof leaf->column)
		return false;
	strcpy(leaf->path, path);
	strcpy(leaf->column, column);
	leaf->kind = dtype.kind;
	leaf->cell_bytes = dtype.size_bytes;
	json_array_foreach(shape, i, length)
	{
		leaf->shape[leaf->rank++] = (uint64_t)json_integer_value(length);
		if (json_integer_value(length) < 1 ||
			__builtin_mul_overflow(leaf->cell_bytes, leaf->shape[i], &leaf->cell_bytes))
			return false;
	}
	return leaf->kind == ESK_BOOL || leaf->kind == ESK_U8 || leaf->kind == ESK_I64 ||
	       leaf->kind == ESK_F32 || leaf->kind == ESK_F64;
}

static bool load_payload(const json_t *saved, esk_payload_form *form)
{
	const json_t *leaves = json_object_get(saved, "leaves"), *text = json_object_get(saved, "text");
	size_t count = json_array_size(leaves);
	if (!json_is_array(leaves) || count > ESK_PAYLOAD_MAX_LEAVES)
		return false;
	form->leaves = calloc(count + 1, sizeof *form->leaves);
	if (form->leaves == NULL)
		return false;
	for (; form->leaf_count < count; form->leaf_count++)
		if (!load_leaf(json_array_get(leaves, form->leaf_count), &form->leaves[form->leaf_count]))
			return false;
	if (!json_is_string(text))
		return json_is_null(text);
	form->text_bytes = json_string_length(text);
	form->text = malloc(form->text_bytes + 1);
	if (form->text != NULL)
		memcpy(form->text, json_string_value(text), form->text_bytes + 1);
	return form->text != NULL;
}

static bool load(const json_t *migration, esk_migrate_layout *layout)
{
	const json_t *payloads = json_object_get(migration, "payloads");
	const json_t *extras = json_object_get(migration, "extras");
	for (size_t i = 0; i < ESK_MIGRATE_PAYLOADS; i++)
		if (!load_payload(
			    json_object_get(payloads, esk_migrate_payload_names[i]), &layout->payloads[i]))
			return false;
	for (size_t i = 0; i < ESK_MIGRATE_EXTRAS; i++)
		for (size_t k = 0; k < json_array_size(extras); k++)
			if (json_is_string(json_array_get(extras, k)) &&
				strcmp(json_string_value(json_array_get(extras, k)),
					esk_migrate_extra_names[i]) == 0)
				layout->has_extra[i] = true;
	layout->infos = json_is_true(json_object_get(migration, "infos"));
	layout->agents = json_is_true(json_object_get(migration, "agents"));
	place_cells(layout);
	return layout->has_extra[ESK_MIGRATE_ROWID] && layout->has_extra[ESK_MIGRATE_NAME];
}

esk_status esk_migrate_layout_load(
	const char *metadata, const char *run, esk_migrate_layout *ret_layout, esk_error *err)
{
	json_t *root = json_loads(metadata, 0, NULL);
	const json_t *migration = json_object_get(root, "migration");
	*ret_layout = (esk_migrate_layout){0};
	esk_status status = ESK_OK;
	if (!json_is_object(migration))
		status = esk_fail(err, ESK_EEXIST,
			"the store has a run \"%s\" already, which no migration made; migrate into another "
			"store",
			run);
	else if (!load(migration, ret_layout))
		status = esk_fail(err, ESK_ECORRUPT,
			"run \"%s\": its metadata does not say any more how it was migrated; migrate into "
			"another store",
			run);
	json_decref(root);
	return status;
}
