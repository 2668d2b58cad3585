/* Rules for single columns, and options made from a configuration. See rules.h. */
#include "rules.h"
#include <esker/profile.h>

#include <esker/codec.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEPARATORS " \t\n,;"
#define ESCAPED SEPARATORS "@#%"

typedef struct rule {
	char *path;     /* decoded */
	char codec[64]; /* "": none */
	uint64_t chunk_rows;
} rule;

struct esk_daq_rules {
	rule *list;
	size_t count;
};

/* ---- texts that grow ---- */

typedef struct text {
	char *data;
	size_t size, capacity;
} text;

static esk_status put(text *t, const char *from, size_t size, esk_error *err)
{
	if (t->capacity - t->size <= size) {
		size_t capacity = 2 * t->capacity + size + 64;
		char *grown = realloc(t->data, capacity);
		if (grown == NULL)
			return esk_fail_memory(err, capacity, "rules for columns");
		t->data = grown;
		t->capacity = capacity;
	}
	memcpy(t->data + t->size, from, size);
	t->size += size;
	t->data[t->size] = '\0';
	return ESK_OK;
}

static esk_status put_path(text *t, const char *path, esk_error *err)
{
	esk_status status = ESK_OK;
	for (const char *c = path; *c != '\0' && status == ESK_OK; c++) {
		char escaped[4];
		bool escape = strchr(ESCAPED, *c) != NULL;
		snprintf(escaped, sizeof escaped, "%%%02X", (unsigned char)*c);
		status = escape ? put(t, escaped, 3, err) : put(t, c, 1, err);
	}
	return status;
}

static esk_status put_rule(text *t, const char *path, const char *codec, uint64_t chunk_rows, esk_error *err)
{
	char rows[32];
	esk_status status = t->size > 0 ? put(t, " ", 1, err) : ESK_OK;
	if (status == ESK_OK)
		status = put_path(t, path, err);
	if (status == ESK_OK && codec != NULL && *codec != '\0')
		status = put(t, "@", 1, err);
	if (status == ESK_OK && codec != NULL && *codec != '\0')
		status = put(t, codec, strlen(codec), err);
	int size = snprintf(rows, sizeof rows, "#%" PRIu64, chunk_rows);
	return status == ESK_OK && chunk_rows > 0 ? put(t, rows, (size_t)size, err) : status;
}

/* ---- parsing ---- */

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
				      : -1;
}

/* "%20" and so on become what they stand for. */
static char *decode(const char *from, size_t size)
{
	char *to = malloc(size + 1), *end = to;
	for (size_t i = 0; to != NULL && i < size; i++) {
		bool escaped = from[i] == '%' && i + 2 < size && hex_digit(from[i + 1]) >= 0 &&
			       hex_digit(from[i + 2]) >= 0;
		*end++ = escaped ? (char)(16 * hex_digit(from[i + 1]) + hex_digit(from[i + 2])) : from[i];
		i += escaped ? 2 : 0;
	}
	if (to != NULL)
		*end = '\0';
	return to;
}

static esk_status parse_one(const char *from, size_t size, rule *ret_rule, esk_error *err)
{
	const char *codec = memchr(from, '@', size), *rows = memchr(from, '#', size);
	const char *end = from + size;
	size_t path_bytes = (size_t)((codec != NULL ? codec : rows != NULL ? rows : end) - from);
	if (path_bytes == 0 || (codec == NULL && rows == NULL) ||
		(codec != NULL && rows != NULL && rows < codec))
		return esk_fail(err, ESK_EINVAL,
			"rules for columns: \"%.*s\": expected COLUMN@CODEC#CHUNK_ROWS, either of both",
			(int)size, from);
	if (codec != NULL) {
		size_t codec_bytes = (size_t)((rows != NULL ? rows : end) - codec) - 1;
		if (codec_bytes == 0 || codec_bytes >= sizeof ret_rule->codec)
			return esk_fail(err, ESK_EINVAL, "rules for columns: \"%.*s\": no codec is as long",
				(int)size, from);
		memcpy(ret_rule->codec, codec + 1, codec_bytes);
		esk_error why;
		esk_status status = esk_codec_check(ret_rule->codec, &why);
		if (status != ESK_OK)
			return esk_fail(
				err, status, "rules for columns: \"%.*s\": %s", (int)size, from, why.message);
	}
	if (rows != NULL) {
		char *stop;
		ret_rule->chunk_rows = strtoull(rows + 1, &stop, 10);
		if (stop != end || stop == rows + 1 || ret_rule->chunk_rows == 0 || rows[1] == '-')
			return esk_fail(err, ESK_EINVAL,
				"rules for columns: \"%.*s\": expected a number of rows behind '#'",
				(int)size, from);
	}
	ret_rule->path = decode(from, path_bytes);
	return ret_rule->path != NULL ? ESK_OK : esk_fail_memory(err, path_bytes, "a rule for a column");
}

static esk_status add_rule(esk_daq_rules *rules, const char *from, size_t size, esk_error *err)
{
	rule *grown = realloc(rules->list, (rules->count + 1) * sizeof *grown);
	if (grown == NULL)
		return esk_fail_memory(err, sizeof *grown, "rules for columns");
	rules->list = grown;
	grown[rules->count] = (rule){0};
	esk_status status = parse_one(from, size, &grown[rules->count], err);
	if (status == ESK_OK)
		rules->count++;
	return status;
}

esk_status esk_daq_rules_parse(const char *spec, esk_daq_rules **ret_rules, esk_error *err)
{
	esk_status status = ESK_OK;
	if (spec == NULL || spec[strspn(spec, SEPARATORS)] == '\0') {
		*ret_rules = NULL;
		return ESK_OK;
	}
	esk_daq_rules *rules = calloc(1, sizeof *rules);
	if (rules == NULL)
		return esk_fail_memory(err, sizeof *rules, "rules for columns");
	while (status == ESK_OK) {
		spec += strspn(spec, SEPARATORS);
		size_t size = strcspn(spec, SEPARATORS);
		if (size == 0)
			break;
		status = add_rule(rules, spec, size, err);
		spec += size;
	}
	if (status != ESK_OK) {
		esk_daq_rules_free(rules);
		return status;
	}
	*ret_rules = rules;
	return ESK_OK;
}

void esk_daq_rules_free(esk_daq_rules *rules)
{
	if (rules == NULL)
		return;
	for (size_t i = 0; i < rules->count; i++)
		free(rules->list[i].path);
	free(rules->list);
	free(rules);
}

/* ---- the rules of one instrument ---- */

static bool has_field(const struct ArrowSchema *schema, const char *path)
{
	const char *slash = strchr(path, '/');
	size_t size = slash != NULL ? (size_t)(slash - path) : strlen(path);
	for (int64_t i = 0; i < schema->n_children; i++) {
		const char *name = schema->children[i]->name;
		if (name != NULL && strlen(name) == size && memcmp(name, path, size) == 0)
			return slash == NULL || has_field(schema->children[i], slash + 1);
	}
	return false;
}

/* The column of a rule that names the instrument; NULL. */
static const char *own_column(const rule *r, const char *instrument)
{
	size_t size = strlen(instrument);
	return strncmp(r->path, instrument, size) == 0 && r->path[size] == '/' ? r->path + size + 1 : NULL;
}

static const rule *find_own(const esk_daq_rules *rules, const char *instrument, const char *column)
{
	for (size_t i = rules->count; i-- > 0;) {
		const char *own = own_column(&rules->list[i], instrument);
		if (own != NULL && strcmp(own, column) == 0)
			return &rules->list[i];
	}
	return NULL;
}

/* A column is written once: with what the rule for the instrument says, and else with what the general one
 * says. */
static esk_status put_for(text *t, const esk_daq_rules *rules, const rule *r, const char *instrument,
	const struct ArrowSchema *schema, esk_error *err)
{
	const char *own = own_column(r, instrument);
	bool is_own = own != NULL && has_field(schema, own);
	if (!is_own && !has_field(schema, r->path))
		return ESK_OK;
	const char *column = is_own ? own : r->path;
	const rule *first = find_own(rules, instrument, column), *general = NULL;
	for (size_t i = 0; i < rules->count; i++)
		if (strcmp(rules->list[i].path, column) == 0)
			general = &rules->list[i];
	if (r != (first != NULL ? first : general))
		return ESK_OK;
	const char *codec = r->codec[0] == '\0' && general != NULL ? general->codec : r->codec;
	uint64_t rows = r->chunk_rows == 0 && general != NULL ? general->chunk_rows : r->chunk_rows;
	return put_rule(t, column, codec, rows, err);
}

esk_status esk_daq_rules_for(const esk_daq_rules *rules, const char *instrument,
	const struct ArrowSchema *schema, char **ret_text, esk_error *err)
{
	text t = {0};
	esk_status status = ESK_OK;
	for (size_t i = 0; rules != NULL && i < rules->count && status == ESK_OK; i++)
		status = put_for(&t, rules, &rules->list[i], instrument, schema, err);
	if (status != ESK_OK) {
		free(t.data);
		return status;
	}
	*ret_text = t.data;
	return ESK_OK;
}

/* ---- options of a configuration ---- */

static esk_status make_texts(const esk_storage_config *config, esk_daq_texts *ret_texts, esk_error *err)
{
	text t = {0};
	esk_status status = esk_storage_config_check(config, err);
	for (size_t i = 0; status == ESK_OK && i < config->column_count; i++) {
		const esk_column_rule *r = &config->columns[i];
		if ((r->codec != NULL && r->codec[0] != '\0') || r->chunk_rows > 0)
			status = put_rule(&t, r->name, r->codec, r->chunk_rows, err);
	}
	if (status != ESK_OK) {
		free(t.data);
		return status;
	}
	ret_texts->columns = t.data;
	esk_storage_config_codec(config, ret_texts->codec, sizeof ret_texts->codec);
	return ESK_OK;
}

static esk_period period_of(const char *name)
{
	if (strcmp(name, "hour") == 0)
		return ESK_PERIOD_HOUR;
	return strcmp(name, "day") == 0 ? ESK_PERIOD_DAY : ESK_PERIOD_NONE;
}

static uint64_t interval_of(const esk_storage_config *config)
{
	return (uint64_t)(config->auto_flush_interval_secs * 1e9);
}

esk_status esk_daq_session_options_of(const esk_storage_config *config, esk_daq_texts *ret_texts,
	esk_session_options *ret_options, esk_error *err)
{
	esk_status status = make_texts(config, ret_texts, err);
	if (status != ESK_OK)
		return status;
	*ret_options = (esk_session_options){.struct_size = sizeof *ret_options,
		.application = config->application,
		.codec = ret_texts->codec,
		.columns = ret_texts->columns,
		.auto_flush_interval_ns = interval_of(config),
		.segment_bytes = config->rotate_bytes,
		.segment_period = period_of(config->rotate_period),
		.keep_segments = config->keep_segments,
		.encrypt = config->encrypt};
	return ESK_OK;
}

esk_status esk_daq_writer_options_of(const esk_storage_config *config, esk_daq_texts *ret_texts,
	esk_daq_writer_options *ret_options, esk_error *err)
{
	esk_status status = make_texts(config, ret_texts, err);
	if (status != ESK_OK)
		return status;
	*ret_options = (esk_daq_writer_options){.struct_size = sizeof *ret_options,
		.application = config->application,
		.codec = ret_texts->codec,
		.columns = ret_texts->columns,
		.flush_interval_ns = interval_of(config),
		.segment_bytes = config->rotate_bytes,
		.segment_period = period_of(config->rotate_period),
		.keep_segments = config->keep_segments,
		.encrypt = config->encrypt,
		.key_file = config->key_file[0] != '\0' ? config->key_file : NULL};
	return ESK_OK;
}

void esk_daq_texts_free(esk_daq_texts *texts)
{
	free(texts->columns);
	texts->columns = NULL;
}
