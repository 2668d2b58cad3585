/* The whole configuration: defaults, file, environment, in this order; and where each value came from. See
 * config.h. */
#include "model/config.h"

#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_RULES 4096u
#define PLACE_BYTES 300

/* Every text of a configuration that was read, in one list. */
typedef struct text_node {
	struct text_node *next;
	char text[];
} text_node;

typedef struct rule_sources {
	const char *codec; /* NULL: not given */
	const char *rows;
} rule_sources;

typedef struct owned {
	text_node *texts;
	const char *file;                         /* NULL: none was read */
	const char *sources[ESK_CONFIG_MAX_KEYS]; /* NULL: default */
	unsigned lines[ESK_CONFIG_MAX_KEYS];      /* of the file; 0: not in it */
	unsigned storage_line, daemon_line, columns_line, chunk_rows_line;
	esk_column_rule *rules;
	rule_sources *rule_sources;
	size_t rule_count;
	esk_storage_config loaded; /* as it was read: what differs now, the program set */
} owned;

static const esk_storage_config defaults = ESK_STORAGE_CONFIG_INIT;

/* ---- what was read owns its texts ---- */

static const char *keep(owned *o, const char *text, esk_error *err)
{
	size_t size = strlen(text) + 1;
	text_node *node = malloc(sizeof *node + size);
	if (node == NULL) {
		esk_fail_memory(err, size, "a configuration");
		return NULL;
	}
	memcpy(node->text, text, size);
	node->next = o->texts;
	o->texts = node;
	return node->text;
}

static void owned_free(owned *o)
{
	if (o == NULL)
		return;
	while (o->texts != NULL) {
		text_node *next = o->texts->next;
		free(o->texts);
		o->texts = next;
	}
	free(o->rules);
	free(o->rule_sources);
	free(o);
}

void esk_storage_config_free(esk_storage_config *config)
{
	if (config == NULL)
		return;
	esk_storage_config whole = esk_config_whole(config);
	owned_free(whole.owned);
	esk_struct_give(config, &defaults, sizeof defaults);
}

esk_storage_config esk_config_whole(const esk_storage_config *config)
{
	esk_storage_config whole = defaults;
	esk_struct_take(&whole, sizeof whole, config);
	return whole;
}

/* ---- building ---- */

typedef struct builder {
	esk_storage_config config;
	owned *owned;
	const char *file;
} builder;

/* "FILE:LINE", kept. */
static const char *place_in_file(builder *b, unsigned line, esk_error *err)
{
	char place[PLACE_BYTES];
	snprintf(place, sizeof place, "%.250s:%u", b->file, line);
	return keep(b->owned, place, err);
}

static esk_status put(
	builder *b, size_t index, const esk_config_value *value, const char *source, esk_error *err)
{
	esk_config_value kept = *value;
	if (kept.text != NULL && (kept.text = keep(b->owned, kept.text, err)) == NULL)
		return ESK_ENOMEM;
	esk_config_set(&b->config, &esk_config_keys[index], &kept);
	b->owned->sources[index] = source;
	return ESK_OK;
}

/* The rule of that name, made if there is none. */
static esk_status rule_of(builder *b, const char *place, const char *name, size_t *ret_index, esk_error *err)
{
	owned *o = b->owned;
	for (size_t i = 0; i < o->rule_count; i++) {
		if (strcmp(o->rules[i].name, name) == 0) {
			*ret_index = i;
			return ESK_OK;
		}
	}
	esk_status status = esk_column_name_check(name, err);
	if (status != ESK_OK)
		return esk_fail_in(err, status, "%s", place);
	if (o->rule_count == MAX_RULES)
		return esk_fail(err, ESK_EINVAL, "%s: more than %u columns have rules", place, MAX_RULES);
	esk_column_rule *rules = realloc(o->rules, (o->rule_count + 1) * sizeof *rules);
	if (rules != NULL)
		o->rules = rules;
	rule_sources *sources = realloc(o->rule_sources, (o->rule_count + 1) * sizeof *sources);
	if (sources != NULL)
		o->rule_sources = sources;
	const char *kept = rules != NULL && sources != NULL ? keep(o, name, err) : NULL;
	if (kept == NULL)
		return esk_fail_memory(err, sizeof *rules, "a configuration");
	o->rules[o->rule_count] = (esk_column_rule){.name = kept};
	o->rule_sources[o->rule_count] = (rule_sources){0};
	*ret_index = o->rule_count++;
	return ESK_OK;
}

/* `codec` NULL: it is the rows that are given. */
static esk_status put_rule(
	builder *b, const char *source, const char *name, const char *codec, uint64_t rows, esk_error *err)
{
	size_t i;
	esk_status status = rule_of(b, source, name, &i, err);
	if (status != ESK_OK)
		return status;
	if (codec == NULL) {
		b->owned->rules[i].chunk_rows = rows;
		b->owned->rule_sources[i].rows = source;
		return ESK_OK;
	}
	const char *kept = keep(b->owned, codec, err);
	if (kept == NULL)
		return ESK_ENOMEM;
	b->owned->rules[i].codec = kept;
	b->owned->rule_sources[i].codec = source;
	return ESK_OK;
}

/* ---- the file ---- */

static esk_status on_table(void *arg, const char *table, unsigned line, esk_error *err)
{
	builder *b = arg;
	char like[128];
	unsigned *seen = strcmp(table, "storage") == 0               ? &b->owned->storage_line
			 : strcmp(table, "daemon") == 0              ? &b->owned->daemon_line
			 : strcmp(table, ESK_CONFIG_COLUMNS) == 0    ? &b->owned->columns_line
			 : strcmp(table, ESK_CONFIG_CHUNK_ROWS) == 0 ? &b->owned->chunk_rows_line
								     : NULL;
	if (seen == NULL)
		return esk_fail(err, ESK_EINVAL, "%s:%u: no table [%.100s]%s", b->file, line, table,
			esk_config_like_table(table, like, sizeof like));
	if (*seen != 0)
		return esk_fail(err, ESK_EINVAL, "%s:%u: table [%s] is given twice, first in line %u",
			b->file, line, table, *seen);
	*seen = line;
	return ESK_OK;
}

static esk_status on_rule(builder *b, const esk_toml_item *item, bool rows, esk_error *err)
{
	const char *place = place_in_file(b, item->line, err);
	if (place == NULL)
		return ESK_ENOMEM;
	for (size_t i = 0; i < b->owned->rule_count; i++) {
		const rule_sources *sources = &b->owned->rule_sources[i];
		const char *first = rows ? sources->rows : sources->codec;
		if (first != NULL && strcmp(b->owned->rules[i].name, item->key) == 0)
			return esk_fail(err, ESK_EINVAL, "%s: %s.\"%.200s\" is given twice, first in %s",
				place, item->table, item->key, first);
	}
	uint64_t chunk_rows = 0;
	if (rows) {
		esk_status status = esk_config_chunk_rows(place, item, &chunk_rows, err);
		if (status != ESK_OK)
			return status;
	} else if (item->type != ESK_TOML_TEXT) {
		return esk_fail(err, ESK_EINVAL, "%s: codec of \"%.200s\": expected text in quotes, found %s",
			place, item->key, esk_toml_type_text(item->type));
	}
	return put_rule(b, place, item->key, rows ? NULL : item->text, chunk_rows, err);
}

static esk_status on_item(void *arg, const esk_toml_item *item, esk_error *err)
{
	builder *b = arg;
	if (strcmp(item->table, ESK_CONFIG_COLUMNS) == 0 || strcmp(item->table, ESK_CONFIG_CHUNK_ROWS) == 0)
		return on_rule(b, item, strcmp(item->table, ESK_CONFIG_CHUNK_ROWS) == 0, err);
	if (item->table[0] == '\0')
		return esk_fail(err, ESK_EINVAL,
			"%s:%u: key \"%.100s\" stands before any [table]: put it under [storage] or [daemon]",
			b->file, item->line, item->key);
	size_t i = 0;
	while (i < esk_config_key_count && (strcmp(esk_config_keys[i].table, item->table) != 0 ||
						   strcmp(esk_config_keys[i].name, item->key) != 0))
		i++;
	char like[128];
	if (i == esk_config_key_count)
		return esk_fail(err, ESK_EINVAL, "%s:%u: [%s] has no key \"%.100s\"%s", b->file, item->line,
			item->table, item->key, esk_config_like(item->table, item->key, like, sizeof like));
	if (b->owned->lines[i] != 0)
		return esk_fail(err, ESK_EINVAL, "%s:%u: %s.%s is given twice, first in line %u", b->file,
			item->line, item->table, item->key, b->owned->lines[i]);
	b->owned->lines[i] = item->line;
	const char *place = place_in_file(b, item->line, err);
	if (place == NULL)
		return ESK_ENOMEM;
	esk_config_value value;
	esk_status status = esk_config_value_from_item(&esk_config_keys[i], place, item, &value, err);
	return status != ESK_OK ? status : put(b, i, &value, place, err);
}

/* ---- the environment ---- */

/* "NAME=VALUE,NAME=VALUE" */
static esk_status read_rules(builder *b, const char *variable, const char *text, bool rows, esk_error *err)
{
	esk_status status = ESK_OK;
	char *copy = strdup(text);
	if (copy == NULL)
		return esk_fail_memory(err, strlen(text), "a configuration");
	char *rest = copy;
	for (char *pair; status == ESK_OK && rest != NULL && (pair = strsep(&rest, ",")) != NULL;) {
		if (pair[0] == '\0' && pair == copy && rest == NULL)
			break; /* an empty variable sets nothing */
		char *equals = strrchr(pair, '=');
		if (equals == NULL || equals == pair || equals[1] == '\0') {
			status = esk_fail(err, ESK_EINVAL,
				"%s: expected NAME=VALUE,NAME=VALUE, found \"%.100s\"", variable, pair);
			break;
		}
		*equals = '\0';
		uint64_t chunk_rows = 0;
		if (rows) {
			esk_toml_item item = {.key = pair};
			if (!esk_toml_number(equals + 1, &item))
				item.type = ESK_TOML_TEXT;
			status = esk_config_chunk_rows(variable, &item, &chunk_rows, err);
		}
		if (status == ESK_OK)
			status = put_rule(b, variable, pair, rows ? NULL : equals + 1, chunk_rows, err);
	}
	free(copy);
	return status;
}

static esk_status on_variable(builder *b, const char *name, const char *text, esk_error *err)
{
	if (strcmp(name, ESK_CONFIG_COLUMNS_VARIABLE) == 0)
		return read_rules(b, ESK_CONFIG_COLUMNS_VARIABLE, text, false, err);
	if (strcmp(name, ESK_CONFIG_CHUNK_ROWS_VARIABLE) == 0)
		return read_rules(b, ESK_CONFIG_CHUNK_ROWS_VARIABLE, text, true, err);
	for (size_t i = 0; i < esk_config_key_count; i++) {
		const esk_config_key *key = &esk_config_keys[i];
		if (strcmp(key->variable, name) != 0)
			continue;
		esk_config_value value;
		esk_status status = esk_config_value_from_text(key, text, &value, err);
		return status != ESK_OK ? status : put(b, i, &value, key->variable, err);
	}
	char like[128];
	return esk_fail(err, ESK_EINVAL, "%.100s: no such setting%s", name,
		esk_config_like(NULL, name, like, sizeof like));
}

static esk_status read_environment(builder *b, char *const *environment, esk_error *err)
{
	static const char *const prefixes[] = {"ESKER_STORAGE_", "ESKER_DAEMON_"};
	for (; *environment != NULL; environment++) {
		const char *equals = strchr(*environment, '=');
		bool ours = false;
		for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
			ours = ours || strncmp(*environment, prefixes[i], strlen(prefixes[i])) == 0;
		if (!ours || equals == NULL)
			continue;
		char name[128];
		snprintf(name, sizeof name, "%.*s", (int)esk_min_u64((uint64_t)(equals - *environment), 120),
			*environment);
		esk_status status = on_variable(b, name, equals + 1, err);
		if (status != ESK_OK)
			return status;
	}
	return ESK_OK;
}

esk_status esk_config_build(const char *file, const char *text, size_t size, char *const *environment,
	esk_storage_config *ret_config, esk_error *err)
{
	builder b = {.config = defaults, .owned = calloc(1, sizeof(owned)), .file = file};
	if (b.owned == NULL)
		return esk_fail_memory(err, sizeof(owned), "a configuration");
	esk_status status = ESK_OK;
	if (text != NULL) {
		const esk_toml_reader reader = {.table = on_table, .item = on_item, .arg = &b};
		b.owned->file = keep(b.owned, file, err);
		status = b.owned->file == NULL ? ESK_ENOMEM : esk_toml_read(file, text, size, &reader, err);
	}
	if (status == ESK_OK)
		status = read_environment(&b, environment, err);
	if (status != ESK_OK) {
		owned_free(b.owned);
		return status;
	}
	b.config.columns = b.owned->rules;
	b.config.column_count = b.owned->rule_count;
	b.owned->loaded = b.config;
	b.config.owned = b.owned;
	*ret_config = b.config;
	return ESK_OK;
}

/* ---- asking ---- */

esk_status esk_config_check(const esk_storage_config *config, esk_error *err)
{
	esk_storage_config whole = esk_config_whole(config);
	for (size_t i = 0; i < esk_config_key_count; i++) {
		const esk_config_key *key = &esk_config_keys[i];
		esk_config_value value = esk_config_get(&whole, key);
		esk_status status = esk_config_value_check(key, esk_config_source(config, key), &value, err);
		if (status != ESK_OK)
			return status;
	}
	for (size_t i = 0; i < whole.column_count; i++) {
		if (whole.columns[i].name == NULL)
			return esk_fail(
				err, ESK_EINVAL, "column rule %zu: expected a column's name, found NULL", i);
		esk_status status = esk_column_name_check(whole.columns[i].name, err);
		if (status != ESK_OK)
			return esk_fail_in(err, status, "column rule %zu", i);
	}
	return ESK_OK;
}

const char *esk_storage_config_file(const esk_storage_config *config)
{
	esk_storage_config whole = esk_config_whole(config);
	const owned *o = whole.owned;
	return o != NULL ? o->file : NULL;
}

static bool same(const esk_config_key *key, const esk_storage_config *a, const esk_storage_config *b)
{
	esk_config_value x = esk_config_get(a, key), y = esk_config_get(b, key);
	if (x.text != NULL && y.text != NULL)
		return strcmp(x.text, y.text) == 0;
	return x.text == y.text && x.count == y.count && x.real == y.real && x.on == y.on;
}

const char *esk_config_source(const esk_storage_config *config, const esk_config_key *key)
{
	esk_storage_config whole = esk_config_whole(config);
	const owned *o = whole.owned;
	if (!same(key, &whole, o != NULL ? &o->loaded : &defaults))
		return "program";
	const char *source = o != NULL ? o->sources[key - esk_config_keys] : NULL;
	return source != NULL ? source : "default";
}

const char *esk_config_rule_source(const esk_storage_config *config, size_t rule, bool rows)
{
	esk_storage_config whole = esk_config_whole(config);
	const owned *o = whole.owned;
	if (o == NULL || whole.columns != o->rules || rule >= o->rule_count)
		return "program";
	const char *source = rows ? o->rule_sources[rule].rows : o->rule_sources[rule].codec;
	return source != NULL ? source : "program";
}

size_t esk_storage_config_codec(const esk_storage_config *config, char *buf, size_t buf_bytes)
{
	esk_storage_config whole = esk_config_whole(config);
	if (whole.codec[0] != '\0')
		return (size_t)snprintf(buf, buf_bytes, "%s", whole.codec);
	if (whole.compression_level == 0)
		return (size_t)snprintf(buf, buf_bytes, "none");
	return (size_t)snprintf(buf, buf_bytes, "gzip:%llu", (unsigned long long)whole.compression_level);
}

bool esk_storage_config_column(const esk_storage_config *config, const char *instrument, const char *column,
	esk_column_rule *ret_rule)
{
	esk_storage_config whole = esk_config_whole(config);
	size_t prefix = strlen(instrument);
	const esk_column_rule *exact = NULL, *any = NULL;
	for (size_t i = 0; i < whole.column_count; i++) {
		const char *name = whole.columns[i].name;
		if (strncmp(name, instrument, prefix) == 0 && name[prefix] == '/' &&
			strcmp(name + prefix + 1, column) == 0)
			exact = &whole.columns[i];
		else if (strcmp(name, column) == 0)
			any = &whole.columns[i];
	}
	esk_column_rule rule = exact != NULL ? *exact : any != NULL ? *any : (esk_column_rule){0};
	if (exact != NULL && any != NULL) {
		rule.codec = rule.codec != NULL ? rule.codec : any->codec;
		rule.chunk_rows = rule.chunk_rows != 0 ? rule.chunk_rows : any->chunk_rows;
	}
	*ret_rule = rule;
	return exact != NULL || any != NULL;
}

static esk_setting_type show(
	const esk_config_key *key, const esk_config_value *value, char *buf, size_t buf_bytes)
{
	switch (key->kind) {
	case ESK_CONFIG_SWITCH:
		snprintf(buf, buf_bytes, "%s", value->on ? "true" : "false");
		return ESK_SETTING_SWITCH;
	case ESK_CONFIG_SECONDS:
		snprintf(buf, buf_bytes, "%.15g", value->real);
		return ESK_SETTING_NUMBER;
	case ESK_CONFIG_COUNT:
	case ESK_CONFIG_BYTES:
		snprintf(buf, buf_bytes, "%llu", (unsigned long long)value->count);
		return ESK_SETTING_NUMBER;
	default:
		return ESK_SETTING_TEXT;
	}
}

static void visit_rules(
	const esk_storage_config *config, const esk_storage_config *whole, esk_setting_visit visit, void *arg)
{
	for (size_t i = 0; i < whole->column_count; i++) {
		const esk_column_rule *rule = &whole->columns[i];
		char key[ESK_COLUMN_NAME_BYTES + 64], rows[32];
		if (rule->codec != NULL) {
			snprintf(key, sizeof key, ESK_CONFIG_COLUMNS ".\"%s\"", rule->name);
			visit(&(esk_setting){key, ESK_CONFIG_COLUMNS_VARIABLE, rule->codec, ESK_SETTING_TEXT,
				      esk_config_rule_source(config, i, false), "codec of this column"},
				arg);
		}
		if (rule->chunk_rows != 0) {
			snprintf(key, sizeof key, ESK_CONFIG_CHUNK_ROWS ".\"%s\"", rule->name);
			snprintf(rows, sizeof rows, "%llu", (unsigned long long)rule->chunk_rows);
			visit(&(esk_setting){key, ESK_CONFIG_CHUNK_ROWS_VARIABLE, rows, ESK_SETTING_NUMBER,
				      esk_config_rule_source(config, i, true),
				      "rows per chunk of this column"},
				arg);
		}
	}
}

void esk_storage_config_each(const esk_storage_config *config, esk_setting_visit visit, void *arg)
{
	esk_storage_config whole = esk_config_whole(config);
	for (size_t i = 0; i < esk_config_key_count; i++) {
		const esk_config_key *key = &esk_config_keys[i];
		esk_config_value value = esk_config_get(&whole, key);
		char name[128], buf[64];
		snprintf(name, sizeof name, "%s.%s", key->table, key->name);
		esk_setting_type type = show(key, &value, buf, sizeof buf);
		visit(&(esk_setting){name, key->variable, type == ESK_SETTING_TEXT ? value.text : buf, type,
			      esk_config_source(config, key), key->help},
			arg);
	}
	visit_rules(config, &whole, visit, arg);
}
