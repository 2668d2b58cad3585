/* Configuration from the process's surroundings: which file, which environment, which codecs there are. */
#include "model/config.h"
#include "os/os.h"
#include <esker/codec.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_FILE "esker.toml"

/* Reads a whole file; *ret_text is the caller's. */
static esk_status read_file(const char *path, char **ret_text, size_t *ret_size, esk_error *err)
{
	const esk_os *os = esk_os_posix();
	int fd;
	esk_status status = esk_os_open(os, path, O_RDONLY | O_NOCTTY, 0, &fd, err);
	if (status != ESK_OK)
		return status;
	/* One byte more than there may be: then the reader says that it is too much. */
	size_t room = ESK_TOML_MAX_BYTES + 1, size = 0;
	char *text = malloc(room);
	if (text == NULL)
		status = esk_fail_memory(err, room, "a configuration");
	else
		status = esk_os_read_some(os, fd, path, text, room, 0, &size, err);
	os->close(os, fd);
	if (status != ESK_OK) {
		free(text);
		return status;
	}
	*ret_text = text;
	*ret_size = size;
	return ESK_OK;
}

static esk_status check_codecs(const esk_storage_config *config, esk_error *err)
{
	for (size_t i = 0; i < esk_config_key_count; i++) {
		const esk_config_key *key = &esk_config_keys[i];
		const char *spec = esk_config_get(config, key).text;
		if (key->kind != ESK_CONFIG_CODEC || spec[0] == '\0')
			continue;
		esk_status status = esk_codec_check(spec, err);
		if (status != ESK_OK)
			return esk_fail_in(err, status, "%s: %s.%s", esk_config_source(config, key),
				key->table, key->name);
	}
	for (size_t i = 0; i < config->column_count; i++) {
		const esk_column_rule *rule = &config->columns[i];
		esk_status status = rule->codec != NULL ? esk_codec_check(rule->codec, err) : ESK_OK;
		if (status != ESK_OK)
			return esk_fail_in(err, status, "%s: codec of \"%.100s\"",
				esk_config_rule_source(config, i, false), rule->name);
	}
	return ESK_OK;
}

esk_status esk_storage_config_check(const esk_storage_config *config, esk_error *err)
{
	esk_status status = esk_config_check(config, err);
	if (status != ESK_OK)
		return status;
	esk_storage_config whole = esk_config_whole(config);
	return check_codecs(&whole, err);
}

esk_status esk_storage_config_load(const char *toml_path, esk_storage_config *ret_config, esk_error *err)
{
	if (ret_config->struct_size < offsetof(esk_storage_config, owned) + sizeof ret_config->owned)
		return esk_fail(err, ESK_EINVAL,
			"configuration: struct_size %zu is too small: begin with ESK_STORAGE_CONFIG_INIT",
			ret_config->struct_size);
	const char *named = toml_path != NULL ? toml_path : getenv("ESKER_CONFIG");
	const char *path = named != NULL && named[0] != '\0' ? named : DEFAULT_FILE;
	char *text = NULL;
	size_t size = 0;
	esk_error failure = {0};
	esk_status status = read_file(path, &text, &size, &failure);
	if (status != ESK_OK && (path == named || status != ESK_ENOTFOUND)) {
		if (err != NULL)
			*err = failure;
		return status;
	}
	esk_storage_config config;
	status = esk_config_build(path, text, size, environ, &config, err);
	free(text);
	if (status != ESK_OK)
		return status;
	status = check_codecs(&config, err);
	if (status != ESK_OK) {
		esk_storage_config_free(&config);
		return status;
	}
	esk_struct_give(ret_config, &config, sizeof config);
	return ESK_OK;
}
