/* What the tests of encryption share: keys, and files as bytes. */
#ifndef ESK_TESTS_ENCRYPT_SUPPORT_H
#define ESK_TESTS_ENCRYPT_SUPPORT_H

#include "unit/recording.h"

#include "vault/vault.h"

#include <fcntl.h>
#include <glob.h>
#include <sys/stat.h>

static inline esk_key *make_key(test_dir *dir, const char *name)
{
	const char *path = test_path(dir, name);
	esk_key *key = NULL;
	esk_error err = {0};
	assert_ok(esk_key_make(path, &err), &err);
	assert_ok(esk_key_load(path, &key, &err), &err);
	return key;
}

static inline void write_file(const char *path, const void *data, size_t size, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, mode), 0);
	assert_int_equal(write(fd, data, size), (ssize_t)size);
	close(fd);
}

static inline uint8_t *read_file(const char *path, size_t *ret_size)
{
	struct stat st;
	int fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	uint8_t *data = malloc((size_t)st.st_size + 1);
	assert_non_null(data);
	assert_int_equal(read(fd, data, (size_t)st.st_size), st.st_size);
	close(fd);
	*ret_size = (size_t)st.st_size;
	return data;
}

static inline size_t count_files(const char *store, const char *pattern)
{
	char path[300];
	glob_t found;
	snprintf(path, sizeof path, "%s/%s", store, pattern);
	if (glob(path, 0, NULL, &found) != 0)
		return 0;
	size_t count = found.gl_pathc;
	globfree(&found);
	return count;
}

static inline void fill(uint8_t *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		data[i] = (uint8_t)(mix(i / 8 + test_seed()) >> 8 * (i % 8));
}

#endif
