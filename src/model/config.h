/* Configuration: what esker/storage_config.h promises, but for reading the file and the process's environment
 * and for checking codecs, which src/api does. May include: base, os. */
#ifndef ESK_MODEL_CONFIG_H
#define ESK_MODEL_CONFIG_H

#include "base/base.h"
#include "model/toml.h"
#include <esker/storage_config.h>

typedef enum esk_config_kind {
	ESK_CONFIG_TEXT,
	ESK_CONFIG_CHOICE,  /* one of a few words */
	ESK_CONFIG_CODEC,   /* text; whether it names a codec is not known here */
	ESK_CONFIG_COUNT,   /* uint64 */
	ESK_CONFIG_BYTES,   /* uint64; text with a unit too */
	ESK_CONFIG_SECONDS, /* double */
	ESK_CONFIG_SWITCH,  /* bool */
} esk_config_kind;

typedef struct esk_config_key {
	const char *table;
	const char *name;
	const char *variable;
	esk_config_kind kind;
	size_t offset; /* of the member */
	uint64_t least;
	uint64_t most;       /* of text: bytes */
	const char *choices; /* separated by '|' */
	const char *help;
} esk_config_key;

extern const esk_config_key esk_config_keys[];
extern const size_t esk_config_key_count;
#define ESK_CONFIG_MAX_KEYS 32 /* at least as many as there are */

/* Tables whose keys are columns' names. */
#define ESK_CONFIG_COLUMNS "storage.columns"
#define ESK_CONFIG_COLUMNS_VARIABLE "ESKER_STORAGE_COLUMNS"
#define ESK_CONFIG_CHUNK_ROWS "storage.chunk_rows"
#define ESK_CONFIG_CHUNK_ROWS_VARIABLE "ESKER_STORAGE_CHUNK_ROWS"

/* ---- config_keys.c: one value ---- */

/* A checked value of a key. Text is borrowed from what it was read from. */
typedef struct esk_config_value {
	const char *text;
	uint64_t count;
	double real;
	bool on;
} esk_config_value;

/* What a file gave. `place` begins messages ("esker.toml:12"). */
esk_status esk_config_value_from_item(const esk_config_key *key, const char *place, const esk_toml_item *item,
	esk_config_value *ret_value, esk_error *err);
/* What an environment variable gave. */
esk_status esk_config_value_from_text(
	const esk_config_key *key, const char *text, esk_config_value *ret_value, esk_error *err);

esk_config_value esk_config_get(const esk_storage_config *config, const esk_config_key *key);
void esk_config_set(esk_storage_config *config, const esk_config_key *key, const esk_config_value *value);
esk_status esk_config_value_check(
	const esk_config_key *key, const char *place, const esk_config_value *value, esk_error *err);

/* "N", "64M", "64MiB" (2^20), "64MB" (10^6), likewise K, G, T. */
bool esk_config_parse_bytes(const char *text, uint64_t *ret_bytes);

/* Rows per chunk of one column, from text or a file; bounds included. */
esk_status esk_config_chunk_rows(
	const char *place, const esk_toml_item *item, uint64_t *ret_rows, esk_error *err);

/* " did you mean …?" for a name that is none: into `buf`, "" where nothing is near. `table` NULL: variables.
 */
const char *esk_config_like(const char *table, const char *name, char *buf, size_t buf_bytes);
const char *esk_config_like_table(const char *name, char *buf, size_t buf_bytes);

/* ---- config.c: the whole ---- */

/* Defaults, then the file's text (NULL: none), then the variables of `environment` (ends with NULL). Free
 * with esk_storage_config_free. */
esk_status esk_config_build(const char *file, const char *text, size_t size, char *const *environment,
	esk_storage_config *ret_config, esk_error *err);

/* Bounds and words of every key, names of columns. */
esk_status esk_config_check(const esk_storage_config *config, esk_error *err);

/* Where a key's value came from; of a rule its codec, or its rows. */
const char *esk_config_source(const esk_storage_config *config, const esk_config_key *key);
const char *esk_config_rule_source(const esk_storage_config *config, size_t rule, bool rows);

/* As `config` says as much as its struct_size covers, else defaults. */
esk_storage_config esk_config_whole(const esk_storage_config *config);

#endif
