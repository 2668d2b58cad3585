/* Configuration: what esker.toml and the environment give, which of them wins, where each value came from,
 * and that everything else is refused where it stands. */
#include "model/config.h"
#include "support/unit.h"

#include <fcntl.h>
#include <locale.h>
#include <sys/stat.h>

static const char *nothing[] = {NULL};

static esk_status build(
	const char *text, const char **environment, esk_storage_config *config, esk_error *err)
{
	*err = (esk_error){0};
	return esk_config_build(
		"t.toml", text, text != NULL ? strlen(text) : 0, (char *const *)environment, config, err);
}

static void assert_refused_in(
	const char *text, const char **environment, esk_status status, const char *message)
{
	esk_storage_config config = {.struct_size = 77};
	esk_error err;
	esk_status found = build(text, environment, &config, &err);
	if (found == ESK_OK)
		fail_msg("taken: %s", text);
	if (found != status || err.code != status || strcmp(err.message, message) != 0)
		fail_msg("\"%s\" (%s)\nexpected \"%s\" (%s)", err.message, esk_status_name(found), message,
			esk_status_name(status));
	assert_int_equal(config.struct_size, 77);
}

static void assert_refused(const char *text, const char *message)
{
	assert_refused_in(text, nothing, ESK_EINVAL, message);
}

typedef struct wanted_setting {
	const char *key;
	char value[256];
	char source[300];
	char variable[64];
} wanted_setting;

static void remember(const esk_setting *setting, void *arg)
{
	wanted_setting *wanted = arg;
	if (strcmp(setting->key, wanted->key) != 0)
		return;
	snprintf(wanted->value, sizeof wanted->value, "%s", setting->value);
	snprintf(wanted->source, sizeof wanted->source, "%s", setting->source);
	snprintf(wanted->variable, sizeof wanted->variable, "%s", setting->variable);
}

static void assert_setting(
	const esk_storage_config *config, const char *key, const char *value, const char *source)
{
	wanted_setting found = {.key = key, .value = "(not visited)"};
	esk_storage_config_each(config, remember, &found);
	if (strcmp(found.value, value) != 0 || strcmp(found.source, source) != 0)
		fail_msg("%s is \"%s\" from \"%s\", expected \"%s\" from \"%s\"", key, found.value,
			found.source, value, source);
}

/* ---- the three sources ---- */

static void defaults_are_those_of_the_header(void **state)
{
	esk_storage_config config, expected = ESK_STORAGE_CONFIG_INIT;
	esk_error err;
	assert_ok(build(NULL, nothing, &config, &err), &err);
	assert_string_equal(config.default_backend, "hdf5");
	assert_string_equal(config.output_dir, "./data");
	assert_int_equal(config.compression_level, 6);
	assert_true(config.auto_flush_interval_secs == 30);
	assert_null(esk_storage_config_file(&config));
	for (size_t i = 0; i < esk_config_key_count; i++) {
		assert_string_equal(esk_config_source(&config, &esk_config_keys[i]), "default");
		assert_string_equal(esk_config_source(&expected, &esk_config_keys[i]), "default");
	}
	assert_ok(esk_config_check(&expected, &err), &err);
	esk_storage_config_free(&config);
}

static void the_environment_wins_over_the_file_and_the_file_over_defaults(void **state)
{
	const char *environment[] = {"PATH=/bin", "ESKER_STORAGE_COMPRESSION_LEVEL=3",
		"ESKER_STORAGE_ENCRYPT=true", "ESKER_STORE=elsewhere", "ESKER_DAEMON_MAX_CLIENTS=7", NULL};
	esk_storage_config config;
	esk_error err;
	assert_ok(build("[storage]\n"
			"compression_level = 9 # slow\n"
			"output_dir = 'runs'\n"
			"\n"
			"[daemon]\n"
			"max_clients = 1_000\n"
			"max_message_bytes = \"2MiB\"\n",
			  environment, &config, &err),
		&err);
	assert_string_equal(esk_storage_config_file(&config), "t.toml");
	assert_setting(&config, "storage.compression_level", "3", "ESKER_STORAGE_COMPRESSION_LEVEL");
	assert_setting(&config, "storage.encrypt", "true", "ESKER_STORAGE_ENCRYPT");
	assert_setting(&config, "storage.output_dir", "runs", "t.toml:3");
	assert_setting(&config, "storage.auto_flush_interval_secs", "30", "default");
	assert_setting(&config, "daemon.max_clients", "7", "ESKER_DAEMON_MAX_CLIENTS");
	assert_setting(&config, "daemon.max_message_bytes", "2097152", "t.toml:7");
	config.application = "mine";
	assert_setting(&config, "storage.application", "mine", "program");
	esk_storage_config_free(&config);
	assert_string_equal(config.output_dir, "./data");
	assert_null(config.owned);
}

static void every_key_can_be_set_by_file_and_by_variable(void **state)
{
	for (size_t i = 0; i < esk_config_key_count; i++) {
		const esk_config_key *key = &esk_config_keys[i];
		const char *last = key->choices != NULL ? strrchr(key->choices, '|') : NULL;
		const char *value = key->kind == ESK_CONFIG_SWITCH ? "true"
				    : key->kind == ESK_CONFIG_CHOICE
					    ? (last != NULL ? last + 1 : key->choices)
				    : key->kind == ESK_CONFIG_TEXT  ? "some text"
				    : key->kind == ESK_CONFIG_CODEC ? "lz4"
				    : key->most < 5000              ? "5"
								    : "5000";
		bool quoted = key->kind <= ESK_CONFIG_CODEC;
		char text[200], variable[200], place[64];
		snprintf(text, sizeof text, "[%s]\n%s=%s%s%s", key->table, key->name, quoted ? "\"" : "",
			value, quoted ? "\"" : "");
		snprintf(variable, sizeof variable, "%s=%s", key->variable, value);
		snprintf(place, sizeof place, "%s.%s", key->table, key->name);
		const char *environment[] = {variable, NULL};
		esk_storage_config config;
		esk_error err;
		assert_ok(build(text, nothing, &config, &err), &err);
		assert_setting(&config, place, value, "t.toml:2");
		esk_storage_config_free(&config);
		assert_ok(build(NULL, environment, &config, &err), &err);
		assert_setting(&config, place, value, key->variable);
		esk_storage_config_free(&config);
	}
}

/* ---- columns ---- */

static void a_column_takes_each_part_of_its_rule_from_the_nearest(void **state)
{
	const char *environment[] = {"ESKER_STORAGE_COLUMNS=current=lz4,scope/wave=zstd:9",
		"ESKER_STORAGE_CHUNK_ROWS=wave=512", NULL};
	esk_storage_config config;
	esk_error err;
	assert_ok(build("[storage.columns]\n"
			"wave = \"gzip:2\"\n"
			"\"scope/wave\" = \"zstd:3\"\n"
			"[storage.chunk_rows]\n"
			"\"scope/voltage\" = 64\n",
			  environment, &config, &err),
		&err);
	esk_column_rule rule;
	assert_true(esk_storage_config_column(&config, "scope", "wave", &rule));
	assert_string_equal(rule.codec, "zstd:9");
	assert_int_equal(rule.chunk_rows, 512);
	assert_true(esk_storage_config_column(&config, "other", "wave", &rule));
	assert_string_equal(rule.codec, "gzip:2");
	assert_true(esk_storage_config_column(&config, "scope", "voltage", &rule));
	assert_null(rule.codec);
	assert_int_equal(rule.chunk_rows, 64);
	assert_true(esk_storage_config_column(&config, "x", "current", &rule));
	assert_false(esk_storage_config_column(&config, "sco", "pe/wave2", &rule));
	assert_setting(&config, "storage.columns.\"scope/wave\"", "zstd:9", "ESKER_STORAGE_COLUMNS");
	assert_setting(&config, "storage.columns.\"wave\"", "gzip:2", "t.toml:2");
	assert_setting(&config, "storage.chunk_rows.\"scope/voltage\"", "64", "t.toml:5");
	esk_storage_config_free(&config);
}

static void the_codec_follows_from_the_level_unless_it_is_named(void **state)
{
	esk_storage_config config = ESK_STORAGE_CONFIG_INIT;
	char buf[32];
	assert_int_equal(esk_storage_config_codec(&config, buf, sizeof buf), 6);
	assert_string_equal(buf, "gzip:6");
	config.compression_level = 0;
	esk_storage_config_codec(&config, buf, sizeof buf);
	assert_string_equal(buf, "none");
	config.codec = "zstd:3";
	esk_storage_config_codec(&config, buf, sizeof buf);
	assert_string_equal(buf, "zstd:3");
}

/* ---- what is refused ---- */

static void unknown_names_are_refused_with_the_nearest_one(void **state)
{
	assert_refused("[storage]\nouput_dir = 'x'\n",
		"t.toml:2: [storage] has no key \"ouput_dir\"; did you mean output_dir?");
	assert_refused("[storage]\nquantum = 'x'\n", "t.toml:2: [storage] has no key \"quantum\"");
	assert_refused("\n[storrage]\n", "t.toml:2: no table [storrage]; did you mean storage?");
	assert_refused(
		"[storage.colums]\n", "t.toml:1: no table [storage.colums]; did you mean storage.columns?");
	assert_refused("output_dir = 'x'",
		"t.toml:1: key \"output_dir\" stands before any [table]: put it under [storage] or [daemon]");
	const char *environment[] = {"ESKER_STORAGE_OUTPUT_DIRR=x", NULL};
	assert_refused_in(NULL, environment, ESK_EINVAL,
		"ESKER_STORAGE_OUTPUT_DIRR: no such setting; did you mean ESKER_STORAGE_OUTPUT_DIR?");
	environment[0] = "ESKER_DAEMON_=x";
	assert_refused_in(NULL, environment, ESK_EINVAL, "ESKER_DAEMON_: no such setting");
}

static void wrong_types_are_refused_with_what_was_expected(void **state)
{
	assert_refused("[storage]\noutput_dir = 3",
		"t.toml:2: storage.output_dir: expected text in quotes, found an integer");
	assert_refused("[storage]\ncompression_level = 'six'",
		"t.toml:2: storage.compression_level: expected an integer, found \"six\"");
	assert_refused("[storage]\ncompression_level = 6.0",
		"t.toml:2: storage.compression_level: expected an integer, found a float");
	assert_refused("[storage]\nencrypt = 'yes'",
		"t.toml:2: storage.encrypt: expected true or false, found \"yes\"");
	assert_refused("[storage]\nrotate_bytes = '5 parsecs'",
		"t.toml:2: storage.rotate_bytes: expected an integer, or text with a unit as \"512MiB\", "
		"found \"5 parsecs\"");
	assert_refused("[storage.columns]\nx = 5",
		"t.toml:2: codec of \"x\": expected text in quotes, found an integer");
	assert_refused("[storage.chunk_rows]\nx = 'a'",
		"t.toml:2: rows per chunk of \"x\": expected an integer, found text");
	const char *environment[] = {"ESKER_STORAGE_ENCRYPT=maybe", NULL};
	assert_refused_in(NULL, environment, ESK_EINVAL,
		"ESKER_STORAGE_ENCRYPT: storage.encrypt: expected true or false, found \"maybe\"");
	environment[0] = "ESKER_STORAGE_COMPRESSION_LEVEL= 6";
	assert_refused_in(NULL, environment, ESK_EINVAL,
		"ESKER_STORAGE_COMPRESSION_LEVEL: storage.compression_level: expected an integer, found \" "
		"6\"");
	environment[0] = "ESKER_STORAGE_COLUMNS=a=lz4,,b=lz4";
	assert_refused_in(NULL, environment, ESK_EINVAL,
		"ESKER_STORAGE_COLUMNS: expected NAME=VALUE,NAME=VALUE, found \"\"");
	environment[0] = "ESKER_STORAGE_COLUMNS=a";
	assert_refused_in(NULL, environment, ESK_EINVAL,
		"ESKER_STORAGE_COLUMNS: expected NAME=VALUE,NAME=VALUE, found \"a\"");
}

static void values_out_of_range_are_refused_with_the_range(void **state)
{
	assert_refused_in("[storage]\ncompression_level = 10", nothing, ESK_ERANGE,
		"t.toml:2: storage.compression_level: expected 0 to 9, found 10");
	assert_refused_in("[storage]\ncompression_level = -1", nothing, ESK_ERANGE,
		"t.toml:2: storage.compression_level: expected 0 to 9, found -1");
	assert_refused_in("[storage]\nauto_flush_interval_secs = -0.5", nothing, ESK_ERANGE,
		"t.toml:2: storage.auto_flush_interval_secs: expected 0 to 86400 seconds, found -0.5");
	assert_refused("[storage]\ndefault_backend = 'zarr'",
		"t.toml:2: storage.default_backend: \"zarr\" is none of what there is: \"hdf5\"");
	assert_refused("[storage]\nrotate_period = 'week'",
		"t.toml:2: storage.rotate_period: \"week\" is none of "
		"what there is: \"none\", \"hour\", \"day\"");
	assert_refused("[storage]\noutput_dir = ''",
		"t.toml:2: storage.output_dir: expected text of 1 to 3000 bytes, found 0");
	assert_refused_in("[storage.chunk_rows]\nx = 0", nothing, ESK_ERANGE,
		"t.toml:2: rows per chunk of \"x\": expected 1 to 2147483648, found 0");
	const char *environment[] = {"ESKER_DAEMON_RING_MB=0", NULL};
	assert_refused_in(NULL, environment, ESK_ERANGE,
		"ESKER_DAEMON_RING_MB: daemon.ring_mb: expected 1 to 1048576, found 0");
}

static void what_is_given_twice_is_refused_with_the_first_line(void **state)
{
	assert_refused("[storage]\ncodec = 'lz4'\n\ncodec = 'lz4'\n",
		"t.toml:4: storage.codec is given twice, first in line 2");
	assert_refused("[storage]\n[daemon]\n[storage]\n",
		"t.toml:3: table [storage] is given twice, first in line 1");
	assert_refused("[storage.columns]\nx = 'lz4'\n\"x\" = 'lz4'\n",
		"t.toml:3: storage.columns.\"x\" is given twice, first in t.toml:2");
}

static void what_a_program_sets_meets_the_same_bounds(void **state)
{
	esk_storage_config config = ESK_STORAGE_CONFIG_INIT;
	esk_error err = {0};
	config.compression_level = 12;
	assert_int_equal(esk_config_check(&config, &err), ESK_ERANGE);
	assert_string_equal(err.message, "program: storage.compression_level: expected 0 to 9, found 12");
	config.compression_level = 1;
	config.output_dir = NULL;
	assert_int_equal(esk_config_check(&config, &err), ESK_EINVAL);
	config.output_dir = "x";
	config.columns = &(esk_column_rule){.name = "a\nb"};
	config.column_count = 1;
	assert_int_equal(esk_config_check(&config, &err), ESK_EINVAL);
}

/* ---- the syntax ---- */

static void texts_have_toml_escapes_and_literal_ones_have_none(void **state)
{
	esk_storage_config config;
	esk_error err;
	assert_ok(build("[ storage ]\r\n\tapplication\t=\"a\\t\\\"\\\\\\u00e9\\U0001F600 \xC3\xA9\"  # "
			"\xC3\xA9\r\n"
			"key_file='C:\\n#\"'",
			  nothing, &config, &err),
		&err);
	assert_string_equal(config.application, "a\t\"\\\xC3\xA9\xF0\x9F\x98\x80 \xC3\xA9");
	assert_string_equal(config.key_file, "C:\\n#\"");
	esk_storage_config_free(&config);
}

static void numbers_are_read_whatever_the_locale(void **state)
{
	char *before = strdup(setlocale(LC_NUMERIC, NULL));
	(void)setlocale(LC_NUMERIC, "de_DE.UTF-8");
	static const struct {
		const char *text;
		double seconds;
	} cases[] = {{"0.25", 0.25}, {"+1_000.5", 1000.5}, {"1e3", 1000}, {"1.5E-1", 0.15}, {"-0.0", 0},
		{"7", 7}, {"0", 0}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char text[100];
		snprintf(text, sizeof text, "[storage]\nauto_flush_interval_secs=%s", cases[i].text);
		esk_storage_config config;
		esk_error err;
		assert_ok(build(text, nothing, &config, &err), &err);
		assert_true(config.auto_flush_interval_secs == cases[i].seconds);
		esk_storage_config_free(&config);
	}
	setlocale(LC_NUMERIC, before);
	free(before);
}

static void sizes_have_binary_and_decimal_units(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} cases[] = {{"0", 0}, {"64K", 64 << 10}, {"64KiB", 64 << 10}, {"64KB", 64000}, {"1 MiB", 1 << 20},
		{"2G", 2ull << 30}, {"3TB", 3000000000000ull}};
	uint64_t bytes;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_true(esk_config_parse_bytes(cases[i].text, &bytes));
		assert_true(bytes == cases[i].bytes);
	}
	static const char *const bad[] = {
		"", "-1", "K", "1k", "1KiBs", "1  K", "1B", "99999999999999999999", "9999999999T"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(esk_config_parse_bytes(bad[i], &bytes));
}

static void what_is_not_read_of_toml_is_refused_where_it_stands(void **state)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{"[storage]\ncodec = [1]", "t.toml:2:9: arrays are not read here"},
		{"[storage]\ncodec = {a=1}", "t.toml:2:9: inline tables are not read here: use a [table]"},
		{"[[storage]]", "t.toml:1:1: arrays of tables are not read here"},
		{"storage.codec = 'lz4'",
			"t.toml:1:8: dotted keys are not read here: put the key under its [table]"},
		{"[storage]\ncodec = \"\"\"lz4\"\"\"",
			"t.toml:2:9: strings of several lines are not read here"},
		{"[storage]\ncodec = 2020-01-01",
			"t.toml:2:9: expected a decimal number; dates and other bases are not read here"},
		{"[storage]\nkeep_segments = 0x10",
			"t.toml:2:17: expected a decimal number; dates and other bases are not read here"},
		{"[storage]\nkeep_segments = 007", "t.toml:2:17: a number does not begin with 0"},
		{"[storage]\nkeep_segments = 1__0",
			"t.toml:2:17: expected a decimal number; dates and other bases are not read here"},
		{"[storage]\nkeep_segments = 99999999999999999999",
			"t.toml:2:17: this number does not fit 64 bits"},
		{"[storage]\nrotate_bytes = 1e999", "t.toml:2:16: this number is too large"},
		{"[storage]\nrotate_bytes = +inf",
			"t.toml:2:16: expected a decimal number, true, false or a string in quotes"},
		{"[storage]\ncodec = lz4",
			"t.toml:2:9: expected a string in quotes, a number, true or false, found 'l'"},
		{"[storage]\nencrypt = truely",
			"t.toml:2:11: expected a string in quotes, a number, true or false, found 't'"},
		{"[storage]\ncodec = \"lz4", "t.toml:2:9: this string does not end on its line"},
		{"[storage]\ncodec = \"l\nz4\"", "t.toml:2:9: this string does not end on its line"},
		{"[storage]\ncodec = \"\\x41\"", "t.toml:2:11: expected an escape: \\b \\t \\n \\f \\r \\\" "
						 "\\\\ \\uXXXX or \\UXXXXXXXX, found 'x'"},
		{"[storage]\ncodec = \"\\uD800\"", "t.toml:2:12: no character has this code"},
		{"[storage]\ncodec = \"\\u0000\"", "t.toml:2:12: no character has this code"},
		{"[storage]\ncodec = 'lz4' x", "t.toml:2:15: expected the end of the line or '#', found 'x'"},
		{"[storage]\ncodec", "t.toml:2:6: expected '=', found the end of the file"},
		{"[storage]\n= 5", "t.toml:2:1: expected a key or a [table], found '='"},
		{"[storage", "t.toml:1:9: expected ']', found the end of the file"},
		{"[]", "t.toml:1:2: expected the bare name of a table, found ']'"},
		{"[storage]\n# \x01", "t.toml:2:3: a control character in a comment"},
		{"[storage]\ncodec = 'a\x7F'", "t.toml:2:11: a control character in a string"},
		{"[storage]\ncodec = '\xFF'", "t.toml:2:10: this is not UTF-8"},
		{"[storage]\ncodec = '\xC0\x80'", "t.toml:2:10: this is not UTF-8"},
		{"\xEF\xBB\xBF[storage]", "t.toml:1:1: expected a key or a [table], found byte 0xEF"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_refused(cases[i].text, cases[i].message);
}

static void a_file_that_ends_anywhere_is_taken_or_refused_with_a_place(void **state)
{
	const char *text = "[storage]\napplication = \"\\u00e9 x\" # c\ncompression_level = "
			   "9\n[storage.columns]\n\"a/b\" = 'lz4'\n";
	for (size_t size = 0; size <= strlen(text); size++) {
		/* A copy of exactly this size: a sanitizer sees a step too far. */
		char *copy = malloc(size + 1);
		assert_non_null(copy);
		memcpy(copy, text, size);
		esk_storage_config config;
		esk_error err = {0};
		char *exact = realloc(copy, size > 0 ? size : 1);
		if (esk_config_build("t.toml", exact, size, (char *const *)nothing, &config, &err) == ESK_OK)
			esk_storage_config_free(&config);
		else
			assert_int_equal(strncmp(err.message, "t.toml:", 7), 0);
		free(exact);
	}
}

/* ---- from the process's surroundings ---- */

static void write_text(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
	assert_int_equal(fclose(file), 0);
}

static void the_file_is_the_named_one_or_that_of_the_environment_or_the_one_here(void **state)
{
	test_dir *dir = *state;
	esk_storage_config config = ESK_STORAGE_CONFIG_INIT;
	esk_error err = {0};
	int here = open(".", O_RDONLY | O_DIRECTORY);
	assert_int_equal(chdir(dir->path), 0);
	assert_ok(esk_storage_config_load(NULL, &config, &err), &err);
	assert_null(esk_storage_config_file(&config));
	esk_storage_config_free(&config);

	write_text("esker.toml", "[storage]\napplication = 'here'\n");
	write_text("other.toml", "[storage]\napplication = 'other'\n");
	assert_ok(esk_storage_config_load(NULL, &config, &err), &err);
	assert_setting(&config, "storage.application", "here", "esker.toml:2");
	esk_storage_config_free(&config);

	setenv("ESKER_CONFIG", "other.toml", 1);
	assert_ok(esk_storage_config_load(NULL, &config, &err), &err);
	assert_setting(&config, "storage.application", "other", "other.toml:2");
	esk_storage_config_free(&config);
	assert_ok(esk_storage_config_load("esker.toml", &config, &err), &err);
	assert_setting(&config, "storage.application", "here", "esker.toml:2");
	esk_storage_config_free(&config);

	setenv("ESKER_CONFIG", "missing.toml", 1);
	assert_int_equal(esk_storage_config_load(NULL, &config, &err), ESK_ENOTFOUND);
	assert_non_null(strstr(err.message, "missing.toml"));
	assert_int_equal(esk_storage_config_load("also-missing.toml", &config, &err), ESK_ENOTFOUND);
	assert_string_equal(config.output_dir, "./data");
	unsetenv("ESKER_CONFIG");
	assert_int_equal(fchdir(here), 0);
	close(here);
}

static void codecs_that_are_none_are_refused_with_their_place(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "c.toml");
	char expected[400];
	esk_storage_config config = ESK_STORAGE_CONFIG_INIT;
	esk_error err = {0};
	write_text(path, "[storage]\ncodec = 'gzipp'\n");
	snprintf(expected, sizeof expected, "%s:2: storage.codec: ", path);
	assert_int_equal(esk_storage_config_load(path, &config, &err), ESK_EINVAL);
	assert_int_equal(strncmp(err.message, expected, strlen(expected)), 0);
	write_text(path, "[storage.columns]\n\nx = 'gzip:77'\n");
	snprintf(expected, sizeof expected, "%s:3: codec of \"x\": ", path);
	assert_int_equal(esk_storage_config_load(path, &config, &err), ESK_ERANGE);
	assert_int_equal(strncmp(err.message, expected, strlen(expected)), 0);
	config.codec = "nothing";
	assert_int_equal(esk_storage_config_check(&config, &err), ESK_EINVAL);
	config.struct_size = 8;
	assert_int_equal(esk_storage_config_load(NULL, &config, &err), ESK_EINVAL);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_those_of_the_header),
		cmocka_unit_test(the_environment_wins_over_the_file_and_the_file_over_defaults),
		cmocka_unit_test(every_key_can_be_set_by_file_and_by_variable),
		cmocka_unit_test(a_column_takes_each_part_of_its_rule_from_the_nearest),
		cmocka_unit_test(the_codec_follows_from_the_level_unless_it_is_named),
		cmocka_unit_test(unknown_names_are_refused_with_the_nearest_one),
		cmocka_unit_test(wrong_types_are_refused_with_what_was_expected),
		cmocka_unit_test(values_out_of_range_are_refused_with_the_range),
		cmocka_unit_test(what_is_given_twice_is_refused_with_the_first_line),
		cmocka_unit_test(what_a_program_sets_meets_the_same_bounds),
		cmocka_unit_test(texts_have_toml_escapes_and_literal_ones_have_none),
		cmocka_unit_test(numbers_are_read_whatever_the_locale),
		cmocka_unit_test(sizes_have_binary_and_decimal_units),
		cmocka_unit_test(what_is_not_read_of_toml_is_refused_where_it_stands),
		cmocka_unit_test(a_file_that_ends_anywhere_is_taken_or_refused_with_a_place),
		cmocka_unit_test_setup_teardown(
			the_file_is_the_named_one_or_that_of_the_environment_or_the_one_here, test_dir_make,
			test_dir_remove),
		cmocka_unit_test_setup_teardown(
			codecs_that_are_none_are_refused_with_their_place, test_dir_make, test_dir_remove),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
