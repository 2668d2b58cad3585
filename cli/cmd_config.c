/* esker config: the effective settings and where each came from. */
#include "commands.h"
#include "json.h"
#include "table.h"

#include <stdlib.h>
#include <string.h>

static void put_row(const esk_setting *setting, void *arg)
{
	cli_table *table = arg;
	cli_table_text(table, setting->key);
	cli_table_text(table, setting->value);
	cli_table_text(table, setting->source);
	cli_table_text(table, setting->help);
}

static void print_table(const esk_storage_config *config)
{
	static const cli_head heads[] = {{"key", "KEY", false}, {"value", "VALUE", false},
		{"source", "FROM", false}, {"help", "WHAT", false}};
	cli_table *table = cli_table_begin(stdout, CLI_TEXT, heads, sizeof heads / sizeof *heads);
	esk_storage_config_each(config, put_row, table);
	cli_table_end(table);
}

/* A path in the environment may be bytes that are not UTF-8: JSON has them escaped. */
static json_t *text_as_json(const char *text)
{
	json_t *value = json_string(text);
	if (value == NULL) {
		char *escaped = cli_escaped(text, strlen(text));
		value = json_string(escaped);
		free(escaped);
	}
	return value;
}

static json_t *value_as_json(const esk_setting *setting)
{
	if (setting->type == ESK_SETTING_SWITCH)
		return json_boolean(strcmp(setting->value, "true") == 0);
	if (setting->type == ESK_SETTING_TEXT)
		return text_as_json(setting->value);
	if (strpbrk(setting->value, ".e") != NULL)
		return json_real(strtod(setting->value, NULL));
	return json_integer((json_int_t)strtoull(setting->value, NULL, 10));
}

static void put_object(const esk_setting *setting, void *arg)
{
	json_array_append_new(
		arg, json_pack("{s:o, s:o, s:o, s:s, s:s}", "key", text_as_json(setting->key), "value",
			     value_as_json(setting), "source", text_as_json(setting->source), "variable",
			     setting->variable, "help", setting->help));
}

static void print_json(const esk_storage_config *config)
{
	json_t *settings = json_array();
	esk_storage_config_each(config, put_object, settings);
	const char *file = esk_storage_config_file(config);
	cli_print_json(json_pack(
		"{s:o, s:o}", "file", file != NULL ? text_as_json(file) : json_null(), "settings", settings));
}

static int run_config(cli_args *args)
{
	if (args->word_count > 0)
		return cli_usage(args, "config: one argument too many: \"%s\"", args->words[0]);
	esk_storage_config config = ESK_STORAGE_CONFIG_INIT;
	esk_error err = {0};
	if (esk_storage_config_load(cli_value(args, "config"), &config, &err) != ESK_OK)
		return cli_fail_with(&err);
	if (cli_flag(args, "json"))
		print_json(&config);
	else
		print_table(&config);
	esk_storage_config_free(&config);
	return CLI_OK;
}

const cli_command cli_config = {
	.name = "config",
	.summary = "show the settings of recording services and where each came from",
	.usage = "[--config FILE] [--json]",
	.description = "Prints every setting that sessions and the daemon use: what it is, and whether that "
		       "is the default, a line of esker.toml, or an environment variable (ESKER_STORAGE_KEY, "
		       "ESKER_DAEMON_KEY), which over-rides the file. The file is that of --config, that "
		       "which ESKER_CONFIG names, or esker.toml in the current directory. An unknown key, a "
		       "wrong type and a bad value are errors that name file and line, or the variable.",
	.options =
		(const cli_option[]){{"config", 0, "FILE", "file", "read this file, which has to be there"},
			{"json", 0, NULL, NULL, "print JSON"}, {0}},
	.examples = (const cli_example[]){{"esker config", "the settings that hold here"},
		{"ESKER_STORAGE_COMPRESSION_LEVEL=1 esker config --config lab.toml",
			"those of a file, with one over-ridden"},
		{0}},
	.needs = CLI_NO_STORE,
	.run = run_config,
};
