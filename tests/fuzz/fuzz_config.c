/* Any bytes as esker.toml: refused with a message that names a place, or every setting is within its bounds,
 * has a source, and goes back into a file that means the same. */
#include "base/base.h"
#include "model/config.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(int condition)
{
	if (!condition)
		abort();
}

static void put_text(esk_text *toml, const char *text)
{
	esk_text_add(toml, "\"");
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			esk_text_add(toml, "\\%c", *text);
		else if ((unsigned char)*text < 0x20 || *text == 0x7F)
			esk_text_add(toml, "\\u%04X", (unsigned)*text);
		else
			esk_text_add(toml, "%c", *text);
	}
	esk_text_add(toml, "\"");
}

static void put_key(esk_text *toml, const esk_storage_config *config, const esk_config_key *key)
{
	esk_config_value value = esk_config_get(config, key);
	esk_text_add(toml, "[%s]\n%s = ", key->table, key->name);
	if (key->kind == ESK_CONFIG_SWITCH)
		esk_text_add(toml, "%s", value.on ? "true" : "false");
	else if (key->kind == ESK_CONFIG_SECONDS)
		esk_text_add(toml, "%.17e", value.real);
	else if (value.text != NULL)
		put_text(toml, value.text);
	else
		esk_text_add(toml, "%llu", (unsigned long long)value.count);
	esk_text_add(toml, "\n");
}

static void visit(const esk_setting *setting, void *arg)
{
	insist(setting->source != NULL && setting->value != NULL && setting->variable != NULL);
	(*(size_t *)arg)++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *none[] = {NULL};
	esk_storage_config config, again;
	esk_error err = {0};
	esk_status status = esk_config_build("f", (const char *)data, size, none, &config, &err);
	if (status != ESK_OK) {
		insist(err.code == status && strncmp(err.message, "f:", 2) == 0);
		return 0;
	}
	insist(esk_config_check(&config, &err) == ESK_OK);
	size_t settings = 0;
	esk_storage_config_each(&config, visit, &settings);
	insist(settings >= esk_config_key_count + config.column_count);
	for (size_t i = 0; i < esk_config_key_count; i++) {
		const esk_config_key *key = &esk_config_keys[i];
		esk_text toml = {0};
		put_key(&toml, &config, key);
		insist(!toml.failed);
		insist(esk_config_build("g", toml.data, toml.size, none, &again, &err) == ESK_OK);
		esk_config_value a = esk_config_get(&config, key), b = esk_config_get(&again, key);
		insist(a.count == b.count && a.real == b.real && a.on == b.on);
		insist(a.text == NULL || strcmp(a.text, b.text) == 0);
		esk_storage_config_free(&again);
		esk_text_free(&toml);
	}
	esk_storage_config_free(&config);
	return 0;
}
