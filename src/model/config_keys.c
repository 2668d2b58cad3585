/* The settings that there are, and how one value of each is read and checked: see config.h. */
#include "model/config.h"

#include <esker/nearest.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMBER(name) offsetof(esk_storage_config, name)
#define MAX_SECONDS 86400u
#define MAX_BYTES (1ull << 60)
#define MAX_PATH_BYTES 3000u /* names of runs and segments come behind it */
#define MAX_CHUNK_ROWS (1ull << 31)

const esk_config_key esk_config_keys[] = {
	{"storage", "default_backend", "ESKER_STORAGE_DEFAULT_BACKEND", ESK_CONFIG_CHOICE,
		MEMBER(default_backend), 0, 0, "hdf5", "what files are written"},
	{"storage", "output_dir", "ESKER_STORAGE_OUTPUT_DIR", ESK_CONFIG_TEXT, MEMBER(output_dir), 1,
		MAX_PATH_BYTES, NULL, "the store: a directory, made if needed"},
	{"storage", "compression_level", "ESKER_STORAGE_COMPRESSION_LEVEL", ESK_CONFIG_COUNT,
		MEMBER(compression_level), 0, 9, NULL, "of gzip; 0: not compressed"},
	{"storage", "codec", "ESKER_STORAGE_CODEC", ESK_CONFIG_CODEC, MEMBER(codec), 0, 100, NULL,
		"of columns without a rule, instead of gzip at compression_level"},
	{"storage", "auto_flush_interval_secs", "ESKER_STORAGE_AUTO_FLUSH_INTERVAL_SECS", ESK_CONFIG_SECONDS,
		MEMBER(auto_flush_interval_secs), 0, MAX_SECONDS, NULL,
		"seconds between commits; 0: only when asked"},
	{"storage", "application", "ESKER_STORAGE_APPLICATION", ESK_CONFIG_TEXT, MEMBER(application), 0, 1000,
		NULL, "attribute \"application\" of each file"},
	{"storage", "rotate_bytes", "ESKER_STORAGE_ROTATE_BYTES", ESK_CONFIG_BYTES, MEMBER(rotate_bytes), 0,
		MAX_BYTES, NULL, "a file that reaches this is sealed and the next begun; 0: never"},
	{"storage", "rotate_period", "ESKER_STORAGE_ROTATE_PERIOD", ESK_CONFIG_CHOICE, MEMBER(rotate_period),
		0, 0, "none|hour|day", "a new file when the hour or day (UTC) changes"},
	{"storage", "keep_segments", "ESKER_STORAGE_KEEP_SEGMENTS", ESK_CONFIG_COUNT, MEMBER(keep_segments),
		0, 1000000, NULL, "sealed files kept; older ones are deleted; 0: all"},
	{"storage", "encrypt", "ESKER_STORAGE_ENCRYPT", ESK_CONFIG_SWITCH, MEMBER(encrypt), 0, 0, NULL,
		"sealed files are encrypted; needs a key"},
	{"storage", "key_file", "ESKER_STORAGE_KEY_FILE", ESK_CONFIG_TEXT, MEMBER(key_file), 0,
		MAX_PATH_BYTES, NULL, "the file that holds the key, made by 'esker keygen'"},
	{"daemon", "socket", "ESKER_DAEMON_SOCKET", ESK_CONFIG_TEXT, MEMBER(daemon_socket), 0, 107, NULL,
		"the Unix socket; empty: STORE/spool/daemon.sock"},
	{"daemon", "metrics_file", "ESKER_DAEMON_METRICS_FILE", ESK_CONFIG_TEXT, MEMBER(daemon_metrics_file),
		0, MAX_PATH_BYTES, NULL, "where Prometheus text is written; empty: nowhere"},
	{"daemon", "max_message_bytes", "ESKER_DAEMON_MAX_MESSAGE_BYTES", ESK_CONFIG_BYTES,
		MEMBER(daemon_max_message_bytes), 4096, 1u << 30, NULL,
		"the largest message a client may send"},
	{"daemon", "max_clients", "ESKER_DAEMON_MAX_CLIENTS", ESK_CONFIG_COUNT, MEMBER(daemon_max_clients), 1,
		4096, NULL, "connections at a time"},
	{"daemon", "ring_mb", "ESKER_DAEMON_RING_MB", ESK_CONFIG_COUNT, MEMBER(daemon_ring_mb), 1, 1u << 20,
		NULL, "ring between clients and files, in MiB"},
	{"daemon", "layout", "ESKER_DAEMON_LAYOUT", ESK_CONFIG_CHOICE, MEMBER(daemon_layout), 0, 0,
		"columns|batches", "how what rings hold is written: growing columns, or a group per flush"},
};
const size_t esk_config_key_count = sizeof esk_config_keys / sizeof *esk_config_keys;
_Static_assert(sizeof esk_config_keys / sizeof *esk_config_keys <= ESK_CONFIG_MAX_KEYS, "raise it");

/* ---- members ---- */

static bool is_text(esk_config_kind kind)
{
	return kind == ESK_CONFIG_TEXT || kind == ESK_CONFIG_CHOICE || kind == ESK_CONFIG_CODEC;
}

esk_config_value esk_config_get(const esk_storage_config *config, const esk_config_key *key)
{
	const char *member = (const char *)config + key->offset;
	esk_config_value value = {0};
	if (is_text(key->kind))
		memcpy(&value.text, member, sizeof value.text);
	else if (key->kind == ESK_CONFIG_SECONDS)
		memcpy(&value.real, member, sizeof value.real);
	else if (key->kind == ESK_CONFIG_SWITCH)
		memcpy(&value.on, member, sizeof value.on);
	else
		memcpy(&value.count, member, sizeof value.count);
	return value;
}

void esk_config_set(esk_storage_config *config, const esk_config_key *key, const esk_config_value *value)
{
	char *member = (char *)config + key->offset;
	if (is_text(key->kind))
		memcpy(member, &value->text, sizeof value->text);
	else if (key->kind == ESK_CONFIG_SECONDS)
		memcpy(member, &value->real, sizeof value->real);
	else if (key->kind == ESK_CONFIG_SWITCH)
		memcpy(member, &value->on, sizeof value->on);
	else
		memcpy(member, &value->count, sizeof value->count);
}

/* ---- bounds ---- */

static esk_status check_choice(const esk_config_key *key, const char *place, const char *text, esk_error *err)
{
	size_t size = strlen(text);
	for (const char *word = key->choices; word != NULL;) {
		size_t word_size = strcspn(word, "|");
		if (size == word_size && memcmp(word, text, size) == 0)
			return ESK_OK;
		word = word[word_size] == '|' ? word + word_size + 1 : NULL;
	}
	char list[128];
	size_t at = 0;
	for (const char *c = key->choices; *c != '\0' && at + 6 < sizeof list; c++) {
		if (*c == '|')
			at += (size_t)snprintf(list + at, sizeof list - at, "\", \"");
		else
			list[at++] = *c;
	}
	list[at] = '\0';
	return esk_fail(err, ESK_EINVAL, "%s: %s.%s: \"%.100s\" is none of what there is: \"%s\"", place,
		key->table, key->name, text, list);
}

esk_status esk_config_value_check(
	const esk_config_key *key, const char *place, const esk_config_value *value, esk_error *err)
{
	unsigned long long least = key->least, most = key->most, count = value->count;
	if (is_text(key->kind) && value->text == NULL)
		return esk_fail(err, ESK_EINVAL, "%s: %s.%s: expected text, found NULL", place, key->table,
			key->name);
	switch (key->kind) {
	case ESK_CONFIG_CHOICE:
		return check_choice(key, place, value->text, err);
	case ESK_CONFIG_TEXT:
	case ESK_CONFIG_CODEC:
		count = strlen(value->text);
		if (count >= least && count <= most)
			return ESK_OK;
		return esk_fail(err, ESK_EINVAL, "%s: %s.%s: expected text of %llu to %llu bytes, found %llu",
			place, key->table, key->name, least, most, count);
	case ESK_CONFIG_SECONDS:
		if (isfinite(value->real) && value->real >= 0 && value->real <= (double)most)
			return ESK_OK;
		return esk_fail(err, ESK_ERANGE, "%s: %s.%s: expected 0 to %llu seconds, found %g", place,
			key->table, key->name, most, value->real);
	case ESK_CONFIG_COUNT:
	case ESK_CONFIG_BYTES:
		if (count >= least && count <= most)
			return ESK_OK;
		return esk_fail(err, ESK_ERANGE, "%s: %s.%s: expected %llu to %llu, found %llu", place,
			key->table, key->name, least, most, count);
	case ESK_CONFIG_SWITCH:
		return ESK_OK;
	}
	return ESK_OK;
}

/* ---- reading ---- */

bool esk_config_parse_bytes(const char *text, uint64_t *ret_bytes)
{
	size_t digits = strspn(text, "0123456789");
	char number[20];
	if (digits == 0 || digits >= sizeof number)
		return false;
	memcpy(number, text, digits);
	number[digits] = '\0';
	uint64_t bytes = strtoull(number, NULL, 10);
	const char *unit = text + digits;
	unit += *unit == ' ';
	if (*unit != '\0') {
		static const char prefixes[] = "KMGT";
		const char *prefix = strchr(prefixes, *unit);
		bool decimal = strcmp(unit + 1, "B") == 0;
		if (prefix == NULL || (!decimal && unit[1] != '\0' && strcmp(unit + 1, "iB") != 0))
			return false;
		for (const char *p = prefixes; p <= prefix; p++)
			if (!esk_mul_u64(bytes, decimal ? 1000 : 1024, &bytes))
				return false;
	}
	*ret_bytes = bytes;
	return true;
}

static const char *wanted(esk_config_kind kind)
{
	switch (kind) {
	case ESK_CONFIG_COUNT:
		return "an integer";
	case ESK_CONFIG_BYTES:
		return "an integer, or text with a unit as \"512MiB\"";
	case ESK_CONFIG_SECONDS:
		return "a number of seconds";
	case ESK_CONFIG_SWITCH:
		return "true or false";
	default:
		return "text in quotes";
	}
}

static esk_status wrong_type(
	const esk_config_key *key, const char *place, const esk_toml_item *item, esk_error *err)
{
	if (item->type == ESK_TOML_TEXT)
		return esk_fail(err, ESK_EINVAL, "%s: %s.%s: expected %s, found \"%.100s\"", place,
			key->table, key->name, wanted(key->kind), item->text);
	return esk_fail(err, ESK_EINVAL, "%s: %s.%s: expected %s, found %s", place, key->table, key->name,
		wanted(key->kind), esk_toml_type_text(item->type));
}

static esk_status negative(const esk_config_key *key, const char *place, int64_t found, esk_error *err)
{
	return esk_fail(err, ESK_ERANGE, "%s: %s.%s: expected %llu to %llu, found %lld", place, key->table,
		key->name, (unsigned long long)key->least, (unsigned long long)key->most, (long long)found);
}

esk_status esk_config_value_from_item(const esk_config_key *key, const char *place, const esk_toml_item *item,
	esk_config_value *ret_value, esk_error *err)
{
	esk_config_value value = {0};
	bool fits = false;
	switch (key->kind) {
	case ESK_CONFIG_SWITCH:
		fits = item->type == ESK_TOML_BOOLEAN;
		value.on = item->boolean;
		break;
	case ESK_CONFIG_SECONDS:
		fits = item->type == ESK_TOML_INTEGER || item->type == ESK_TOML_REAL;
		value.real = item->type == ESK_TOML_REAL ? item->real : (double)item->integer;
		break;
	case ESK_CONFIG_BYTES:
		if (item->type == ESK_TOML_TEXT) {
			fits = esk_config_parse_bytes(item->text, &value.count);
			break;
		}
		/* fall through */
	case ESK_CONFIG_COUNT:
		fits = item->type == ESK_TOML_INTEGER;
		if (fits && item->integer < 0)
			return negative(key, place, item->integer, err);
		value.count = (uint64_t)item->integer;
		break;
	default:
		fits = item->type == ESK_TOML_TEXT;
		value.text = item->text;
		break;
	}
	if (!fits)
		return wrong_type(key, place, item, err);
	esk_status status = esk_config_value_check(key, place, &value, err);
	if (status == ESK_OK)
		*ret_value = value;
	return status;
}

/* A variable has no quotes: its text is taken for what the key wants, and else for text, which is then
 * refused. */
static void item_from_text(esk_config_kind kind, const char *text, esk_toml_item *item)
{
	*item = (esk_toml_item){.type = ESK_TOML_TEXT, .text = text};
	if (is_text(kind))
		return;
	if (kind == ESK_CONFIG_SWITCH) {
		item->boolean = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
		if (item->boolean || strcmp(text, "false") == 0 || strcmp(text, "0") == 0)
			item->type = ESK_TOML_BOOLEAN;
	} else if (!esk_toml_number(text, item)) {
		*item = (esk_toml_item){.type = ESK_TOML_TEXT, .text = text};
	}
}

esk_status esk_config_value_from_text(
	const esk_config_key *key, const char *text, esk_config_value *ret_value, esk_error *err)
{
	esk_toml_item item;
	item_from_text(key->kind, text, &item);
	return esk_config_value_from_item(key, key->variable, &item, ret_value, err);
}

esk_status esk_config_chunk_rows(
	const char *place, const esk_toml_item *item, uint64_t *ret_rows, esk_error *err)
{
	if (item->type != ESK_TOML_INTEGER)
		return esk_fail(err, ESK_EINVAL,
			"%s: rows per chunk of \"%.200s\": expected an integer, found %s", place, item->key,
			esk_toml_type_text(item->type));
	if (item->integer < 1 || (uint64_t)item->integer > MAX_CHUNK_ROWS)
		return esk_fail(err, ESK_ERANGE,
			"%s: rows per chunk of \"%.200s\": expected 1 to %llu, found %lld", place, item->key,
			(unsigned long long)MAX_CHUNK_ROWS, (long long)item->integer);
	*ret_rows = (uint64_t)item->integer;
	return ESK_OK;
}

/* ---- the nearest name ---- */

static const char *say(const esk_nearest *like, char *buf, size_t buf_bytes)
{
	buf[0] = '\0';
	if (like->found != NULL)
		snprintf(buf, buf_bytes, "; did you mean %s?", like->found);
	return buf;
}

const char *esk_config_like(const char *table, const char *name, char *buf, size_t buf_bytes)
{
	esk_nearest like = {.wanted = name};
	for (size_t i = 0; i < esk_config_key_count; i++) {
		const esk_config_key *key = &esk_config_keys[i];
		if (table == NULL)
			esk_nearest_consider(&like, key->variable);
		else if (strcmp(key->table, table) == 0)
			esk_nearest_consider(&like, key->name);
	}
	if (table == NULL) {
		esk_nearest_consider(&like, ESK_CONFIG_COLUMNS_VARIABLE);
		esk_nearest_consider(&like, ESK_CONFIG_CHUNK_ROWS_VARIABLE);
	}
	return say(&like, buf, buf_bytes);
}

const char *esk_config_like_table(const char *name, char *buf, size_t buf_bytes)
{
	esk_nearest like = {.wanted = name};
	esk_nearest_consider(&like, "storage");
	esk_nearest_consider(&like, "daemon");
	esk_nearest_consider(&like, ESK_CONFIG_COLUMNS);
	esk_nearest_consider(&like, ESK_CONFIG_CHUNK_ROWS);
	return say(&like, buf, buf_bytes);
}
