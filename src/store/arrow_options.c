/* What a caller wants of single columns: codec, rows of a chunk, units, names. */
#include "store/arrow_map.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- columns by path ---- */

typedef esk_status (*column_fn)(esk_column *column, const void *arg, esk_error *err);

/* A wish for the columns at or below a path. Longer paths come later and win. */
typedef struct wish {
	char *path; /* unescaped */
	column_fn set;
	const void *arg;
} wish;

/* Calls `set` for the columns that the wish is for; ESK_ENOTFOUND where there is none. */
static esk_status apply(esk_map *map, const wish *w, esk_error *err)
{
	bool any = false;
	for (size_t t = 0; t < map->table_count; t++)
		for (size_t c = 0; c < map->tables[t].count; c++) {
			esk_column *column = &map->tables[t].columns[c];
			char *path = esk_map_join(map->tables[t].below, column->name);
			char *plain = path != NULL ? esk_map_unescape(path) : NULL;
			esk_status status =
				plain != NULL ? ESK_OK : esk_fail_memory(err, 256, "a column's path");
			bool hit = plain != NULL && esk_path_at_or_below(plain, w->path);
			free(path);
			free(plain);
			if (hit)
				status = w->set(column, w->arg, err);
			if (status != ESK_OK)
				return status;
			any = any || hit;
		}
	return any ? ESK_OK
		   : esk_fail(err, ESK_ENOTFOUND, "options name the column \"%s\", which the schema lacks",
			     w->path);
}

/* ---- "PATH@CODEC#CHUNK_ROWS …" ---- */

typedef struct storage {
	char codec[64];
	uint64_t chunk_rows;
} storage;

static esk_status set_storage(esk_column *column, const void *arg, esk_error *err)
{
	const storage *s = arg;
	if (s->codec[0] != '\0')
		memcpy(column->codec, s->codec, sizeof column->codec);
	if (s->chunk_rows != 0)
		column->chunk_rows = s->chunk_rows;
	return ESK_OK;
}

typedef struct spec {
	wish wish;
	storage storage;
} spec;

static esk_status parse_spec(const char *text, size_t size, spec *ret_spec, esk_error *err)
{
	char word[2 * ESK_MAX_NAME];
	spec s = {.wish = {.set = set_storage}};
	if (size >= sizeof word)
		return esk_fail(err, ESK_EINVAL, "options: \"%.40s...\" is too long for a column", text);
	snprintf(word, sizeof word, "%.*s", (int)size, text);
	char *rows = strrchr(word, '#'), *end;
	if (rows != NULL) {
		*rows++ = '\0';
		s.storage.chunk_rows = strtoull(rows, &end, 10);
		if (*rows < '0' || *rows > '9' || *end != '\0' || s.storage.chunk_rows > UINT32_MAX)
			return esk_fail(err, ESK_EINVAL,
				"options: \"%.*s\": expected rows of a chunk behind '#'", (int)size, text);
	}
	char *codec = strrchr(word, '@');
	if (codec != NULL) {
		*codec++ = '\0';
		esk_status status = esk_codec_check(codec, err);
		if (status == ESK_OK && strlen(codec) >= sizeof s.storage.codec)
			status = esk_fail(err, ESK_EINVAL, "the codec is too long");
		if (status != ESK_OK)
			return esk_fail_in(err, status, "options: \"%.*s\"", (int)size, text);
		snprintf(s.storage.codec, sizeof s.storage.codec, "%s", codec);
	}
	if (word[0] == '\0')
		return esk_fail(err, ESK_EINVAL, "options: \"%.*s\" names no column", (int)size, text);
	s.wish.path = esk_map_unescape(word);
	if (s.wish.path == NULL)
		return esk_fail_memory(err, size, "options");
	*ret_spec = s;
	return ESK_OK;
}

static int by_length(const void *a, const void *b)
{
	size_t one = strlen(((const spec *)a)->wish.path), other = strlen(((const spec *)b)->wish.path);
	return (one > other) - (one < other);
}

static esk_status parse_specs(const char *text, spec *specs, size_t *count, esk_error *err)
{
	static const char separators[] = " \t\r\n,;";
	esk_status status = ESK_OK;
	for (const char *at = text + strspn(text, separators); *at != '\0' && status == ESK_OK;) {
		size_t size = strcspn(at, separators);
		status = parse_spec(at, size, &specs[*count], err);
		*count += status == ESK_OK;
		at += size;
		at += strspn(at, separators);
	}
	return status;
}

static esk_status apply_specs(esk_map *map, const char *text, esk_error *err)
{
	size_t count = 0, most = strlen(text) / 2 + 1;
	spec *specs = calloc(most, sizeof *specs);
	if (specs == NULL)
		return esk_fail_memory(err, most * sizeof *specs, "options");
	esk_status status = parse_specs(text, specs, &count, err);
	if (status == ESK_OK)
		qsort(specs, count, sizeof *specs, by_length);
	for (size_t i = 0; i < count && status == ESK_OK; i++) {
		specs[i].wish.arg = &specs[i].storage;
		status = apply(map, &specs[i].wish, err);
	}
	for (size_t i = 0; i < count; i++)
		free(specs[i].wish.path);
	free(specs);
	return status;
}

/* ---- {"PATH": "text", …} ---- */

/* Offsets, lengths, codes and validity are not in the units of what they are about. */
static bool is_about(const esk_column *column)
{
	static const char *const own[] = {"/offsets", "/lengths", "/codes", "_valid"};
	size_t size = strlen(column->name);
	for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
		size_t tail = strlen(own[i]);
		if (size > tail && strcmp(column->name + size - tail, own[i]) == 0)
			return true;
	}
	return false;
}

static esk_status set_text(esk_column *column, const char *text, char *buf, size_t buf_bytes, esk_error *err)
{
	if (strlen(text) >= buf_bytes)
		return esk_fail(err, ESK_EINVAL, "column \"%s\": \"%.40s...\" has more than %zu bytes",
			column->name, text, buf_bytes - 1);
	if (!is_about(column))
		snprintf(buf, buf_bytes, "%s", text);
	return ESK_OK;
}

static esk_status set_units(esk_column *column, const void *arg, esk_error *err)
{
	return set_text(column, arg, column->units, sizeof column->units, err);
}

static esk_status set_long_name(esk_column *column, const void *arg, esk_error *err)
{
	return set_text(column, arg, column->long_name, sizeof column->long_name, err);
}

static esk_status apply_texts(esk_map *map, const char *json, column_fn set, esk_error *err)
{
	json_error_t why;
	json_t *object = json_loads(json, JSON_REJECT_DUPLICATES, &why);
	esk_status status = ESK_OK;
	if (!json_is_object(object))
		status = esk_fail(
			err, ESK_EINVAL, "options are no JSON object of texts by column: \"%.60s\"", json);
	const char *path;
	json_t *value;
	json_object_foreach(object, path, value)
	{
		if (status != ESK_OK)
			break;
		wish w = {.path = esk_map_unescape(path), .set = set, .arg = json_string_value(value)};
		if (w.path == NULL)
			status = esk_fail_memory(err, strlen(path), "options");
		else if (w.arg == NULL)
			status =
				esk_fail(err, ESK_EINVAL, "options: what is said of \"%s\" is no text", path);
		else
			status = apply(map, &w, err);
		free(w.path);
	}
	json_decref(object);
	return status;
}

/* ---- all of them ---- */

static esk_status apply_defaults(esk_map *map, const esk_arrow_sink_options *options, esk_error *err)
{
	esk_status status = options->codec != NULL ? esk_codec_check(options->codec, err) : ESK_OK;
	if (status == ESK_OK && options->codec != NULL &&
		strlen(options->codec) >= sizeof map->tables->columns->codec)
		status = esk_fail(err, ESK_EINVAL, "the codec is too long: \"%.60s\"", options->codec);
	for (size_t t = 0; t < map->table_count && status == ESK_OK; t++)
		for (size_t c = 0; c < map->tables[t].count && status == ESK_OK; c++) {
			esk_column *column = &map->tables[t].columns[c];
			if (column->codec[0] != '\0')
				status = esk_codec_check(column->codec, err);
			else if (options->codec != NULL)
				snprintf(column->codec, sizeof column->codec, "%s", options->codec);
			if (column->chunk_rows == 0)
				column->chunk_rows = options->chunk_rows;
			if (status != ESK_OK)
				esk_fail_in(err, status, "column \"%s\"", column->name);
		}
	return status;
}

esk_status esk_map_apply_options(esk_map *map, const esk_arrow_sink_options *options, esk_error *err)
{
	esk_status status = apply_defaults(map, options, err);
	if (status == ESK_OK && options->columns != NULL)
		status = apply_specs(map, options->columns, err);
	if (status == ESK_OK && options->units_json != NULL)
		status = apply_texts(map, options->units_json, set_units, err);
	if (status == ESK_OK && options->long_names_json != NULL)
		status = apply_texts(map, options->long_names_json, set_long_name, err);
	return status;
}
