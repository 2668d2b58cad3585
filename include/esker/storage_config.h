/* Configuration of recording services: what `esker.toml` and the environment say.
 *
 * Every setting has a default. A file over-rides it, and an environment variable over-rides the file:
 *
 *     1. the environment     ESKER_STORAGE_COMPRESSION_LEVEL=3
 *     2. the file            [storage]
 *                            compression_level = 3
 *     3. the default         6
 *
 * The file is esker.toml, or the one that ESKER_CONFIG or the caller names.
 *
 * The file is TOML, of which this is read: comments, tables, bare and quoted keys, basic and literal strings
 * on one line, decimal integers and floats (underscores allowed), true and false. Everything else of TOML is
 * refused by its name. A relative path is relative to the process's current directory, wherever the file
 * lies.
 *
 * Nothing is guessed: an unknown key, an unknown variable that begins with ESKER_STORAGE_ or ESKER_DAEMON_, a
 * wrong type, a bad value and a key given twice are errors that say where (file and line, or the variable),
 * what was expected, and the nearest key that exists.
 *
 *     [storage]                  variable                            default
 *     default_backend            ESKER_STORAGE_DEFAULT_BACKEND       "hdf5" (the only one)
 *     output_dir                 ESKER_STORAGE_OUTPUT_DIR            "./data"
 *     compression_level          ESKER_STORAGE_COMPRESSION_LEVEL     6; 0..9, 0: not compressed
 *     codec                      ESKER_STORAGE_CODEC                 "": gzip at compression_level
 *     auto_flush_interval_secs   ESKER_STORAGE_AUTO_FLUSH_INTERVAL_SECS   30; 0: only when asked
 *     application                ESKER_STORAGE_APPLICATION           "Esker"
 *     rotate_bytes               ESKER_STORAGE_ROTATE_BYTES          0: never; a number, or "512MiB"
 *     rotate_period              ESKER_STORAGE_ROTATE_PERIOD         "none"; "hour", "day"
 *     keep_segments              ESKER_STORAGE_KEEP_SEGMENTS         0: all
 *     encrypt                    ESKER_STORAGE_ENCRYPT               false
 *     key_file                   ESKER_STORAGE_KEY_FILE              ""
 *     [storage.columns]          ESKER_STORAGE_COLUMNS               a codec per column
 *     [storage.chunk_rows]       ESKER_STORAGE_CHUNK_ROWS            rows per chunk per column
 *     [daemon]
 *     socket                     ESKER_DAEMON_SOCKET                 "": STORE/spool/daemon.sock
 *     metrics_file               ESKER_DAEMON_METRICS_FILE           "": none
 *     max_message_bytes          ESKER_DAEMON_MAX_MESSAGE_BYTES      "64MiB"
 *     max_clients                ESKER_DAEMON_MAX_CLIENTS            64
 *     ring_mb                    ESKER_DAEMON_RING_MB                256
 *     layout                     ESKER_DAEMON_LAYOUT                 "columns"; "batches": of what rings hold
 *
 * The keys of the tables [storage.columns] and [storage.chunk_rows] are names of columns, "INSTRUMENT/COLUMN"
 * or "COLUMN" for all instruments. Their variables hold "NAME=VALUE,NAME=VALUE" and over-ride the names that
 * they hold. */
#ifndef ESKER_STORAGE_CONFIG_H
#define ESKER_STORAGE_CONFIG_H

#include <esker/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What one column asks for. */
typedef struct esk_column_rule {
	const char *name;    /* "COLUMN" or "INSTRUMENT/COLUMN" */
	const char *codec;   /* NULL: the session's */
	uint64_t chunk_rows; /* 0: chunks of about 1 MiB */
} esk_column_rule;

/* The effective values. A program may make one without files: start with ESK_STORAGE_CONFIG_INIT and set
 * members; the texts it sets stay its own. Texts are never NULL. */
typedef struct esk_storage_config {
	size_t struct_size;
	const char *default_backend;
	const char *output_dir;
	uint64_t compression_level;
	const char *codec;
	double auto_flush_interval_secs;
	const char *application;
	uint64_t rotate_bytes;
	const char *rotate_period;
	uint64_t keep_segments;
	bool encrypt;
	const char *key_file;
	const esk_column_rule *columns;
	size_t column_count;
	const char *daemon_socket;
	const char *daemon_metrics_file;
	uint64_t daemon_max_message_bytes;
	uint64_t daemon_max_clients;
	uint64_t daemon_ring_mb;
	const char *daemon_layout;
	void *owned; /* what esk_storage_config_load allocated; NULL for one made by the program */
} esk_storage_config;

#define ESK_STORAGE_CONFIG_INIT                                                                              \
	{                                                                                                    \
		.struct_size = sizeof(esk_storage_config), .default_backend = "hdf5",                        \
		.output_dir = "./data", .compression_level = 6, .codec = "", .auto_flush_interval_secs = 30, \
		.application = "Esker", .rotate_period = "none", .key_file = "", .daemon_socket = "",        \
		.daemon_metrics_file = "", .daemon_max_message_bytes = 64u << 20, .daemon_max_clients = 64,  \
		.daemon_ring_mb = 256, .daemon_layout = "columns"                                            \
	}

/* Reads environment and file. `toml_path` NULL: the file that ESKER_CONFIG names, else ./esker.toml if it is
 * there. *ret_config is filled whole; esk_storage_config_free frees what its texts point to.
 *
 * Errors: ESK_EINVAL (a key, a type, a value or the syntax, with its place), ESK_ERANGE (a number out of its
 * range), ESK_ENOTFOUND (a file that was named and is not there), ESK_EACCES, ESK_EIO, ESK_ENOMEM. Not to be
 * called while another thread changes the environment. */
ESK_API esk_status esk_storage_config_load(
	const char *toml_path, esk_storage_config *ret_config, esk_error *err);

/* Frees what load allocated; leaves the defaults. NULL and configurations made by a program are fine. */
ESK_API void esk_storage_config_free(esk_storage_config *config);

/* Checks a configuration that a program made: the same bounds that files and variables meet. Errors:
 * ESK_EINVAL, ESK_ERANGE name the key. */
ESK_API esk_status esk_storage_config_check(const esk_storage_config *config, esk_error *err);

/* The file that was read, as it was named; NULL: none. Borrowed from the configuration. */
ESK_API const char *esk_storage_config_file(const esk_storage_config *config);

/* Writes the codec spec (esker/codec.h) that columns without a rule get: `codec`, else "gzip:LEVEL", else
 * "none" for level 0. Returns its length; where that is buf_bytes or more, the text was cut. */
ESK_API size_t esk_storage_config_codec(const esk_storage_config *config, char *buf, size_t buf_bytes);

/* The rule for a column of an instrument: codec and chunk_rows each from "INSTRUMENT/COLUMN" where that says
 * it, else from "COLUMN"; NULL and 0 where neither does. Texts are borrowed from the configuration. Fills
 * *ret_rule and returns whether there was a rule. */
ESK_API bool esk_storage_config_column(const esk_storage_config *config, const char *instrument,
	const char *column, esk_column_rule *ret_rule);

typedef enum esk_setting_type { ESK_SETTING_TEXT, ESK_SETTING_NUMBER, ESK_SETTING_SWITCH } esk_setting_type;

/* One setting, as `esker config` shows it. Borrowed for the duration of the visit. */
typedef struct esk_setting {
	const char *key;      /* "storage.output_dir", "storage.columns.\"scope/waveform\"" */
	const char *variable; /* the environment variable that sets it */
	const char *value;    /* text as it is; a number in decimal; "true" or "false" */
	esk_setting_type type;
	const char *source; /* "default", "esker.toml:12", "ESKER_STORAGE_OUTPUT_DIR", "program" */
	const char *help;   /* what it is, in one line */
} esk_setting;

typedef void (*esk_setting_visit)(const esk_setting *setting, void *arg);

/* Visits every setting in the order above, then a setting per column rule. */
ESK_API void esk_storage_config_each(const esk_storage_config *config, esk_setting_visit visit, void *arg);

#ifdef __cplusplus
}
#endif
#endif
