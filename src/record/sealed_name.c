/* Names of sealed segments: <run>_<stamp>.h5, and .h5x where they are encrypted. */
#include "record/record.h"

#include <ctype.h>
#include <string.h>

/* As esk_time_format_stamp writes it: '0' stands for any digit. */
static const char stamp[] = "_00000000T000000.000000Z";

bool esk_segment_is_sealed_name(const char *name, char ret_run[ESK_MAX_NAME + 1], bool *ret_encrypted)
{
	size_t size = strlen(name), tail = strlen(stamp);
	bool encrypted = size > 4 && strcmp(name + size - 4, ".h5x") == 0;
	if (!encrypted && (size < 3 || strcmp(name + size - 3, ".h5") != 0))
		return false;
	size -= encrypted ? 4 : 3;
	if (size <= tail || size - tail > ESK_MAX_NAME)
		return false;
	for (size_t i = 0; i < tail; i++) {
		char c = name[size - tail + i];
		if (stamp[i] == '0' ? !isdigit((unsigned char)c) : c != stamp[i])
			return false;
	}
	memcpy(ret_run, name, size - tail);
	ret_run[size - tail] = '\0';
	*ret_encrypted = encrypted;
	return true;
}

esk_status esk_segment_open_read(const esk_os *os, const char *path, esk_h5 **ret_file, esk_error *err)
{
	esk_error why = {0};
	esk_status status = esk_h5_open_read(os, path, ret_file, &why);
	size_t size = strlen(path);
	if (status == ESK_ENOTFOUND && size + 2 < ESK_PATH_BYTES) {
		char other[ESK_PATH_BYTES];
		memcpy(other, path, size + 1);
		if (path[size - 1] == 'x')
			other[size - 1] = '\0';
		else
			memcpy(other + size, "x", 2);
		if (esk_os_exists(other))
			status = esk_h5_open_read(os, other, ret_file, &why);
	}
	if (status != ESK_OK && err != NULL)
		*err = why;
	return status;
}
