/* What unit tests share: cmocka, a seed, a directory of their own. */
#ifndef ESK_TESTS_UNIT_H
#define ESK_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define assert_ok(call, err)                                       \
	do {                                                       \
		if ((call) != ESK_OK)                              \
			fail_msg("%s: %s", #call, (err)->message); \
	} while (0)

static inline uint64_t *test_seed_place(void)
{
	static uint64_t seed = 1;
	return &seed;
}

static inline uint64_t test_seed(void)
{
	return *test_seed_place();
}

/* The seed is the first argument, or ESK_SEED, or 1; it is printed, so that a failure can be had again. */
static inline void test_begin(int argc, char **argv)
{
	const char *text = argc > 1 ? argv[1] : getenv("ESK_SEED");
	if (text != NULL)
		*test_seed_place() = strtoull(text, NULL, 10);
	print_message("seed %llu\n", (unsigned long long)test_seed());
}

/* `count` of something, times ESK_TEST_SCALE percent: sanitizers run fewer. */
static inline uint64_t test_scale(uint64_t count)
{
	const char *text = getenv("ESK_TEST_SCALE");
	uint64_t percent = text == NULL ? 100 : strtoull(text, NULL, 10);
	return count * percent / 100 + 1;
}

typedef struct test_dir {
	char path[64];
	char names[16][128];
	unsigned turn;
} test_dir;

static inline int test_dir_make(void **state)
{
	test_dir *dir = calloc(1, sizeof(*dir));
	if (dir == NULL)
		return -1;
	/* Memory, where there is some: what these tests lose, they lose on purpose, and disks are slow. */
	strcpy(dir->path,
		access("/dev/shm", W_OK) == 0 ? "/dev/shm/esk-test-XXXXXX" : "/tmp/esk-test-XXXXXX");
	*state = dir;
	return mkdtemp(dir->path) == NULL ? -1 : 0;
}

static inline int test_dir_drop(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
	(void)st;
	(void)walk;
	char target[256];
	ssize_t size = kind == FTW_SL || kind == FTW_SLN ? readlink(path, target, sizeof target - 1) : -1;
	target[size > 0 ? size : 0] = '\0';
	if (strncmp(target, "/dev/shm/esk", sizeof "/dev/shm/esk" - 1) == 0)
		remove(target); /* the ring of a recorder that was killed */
	return remove(path);
}

static inline int test_dir_remove(void **state)
{
	test_dir *dir = *state;
	nftw(dir->path, test_dir_drop, 16, FTW_DEPTH | FTW_PHYS);
	free(dir);
	return 0;
}

/* A path in the directory; good for fifteen later calls. */
static inline const char *test_path(test_dir *dir, const char *name)
{
	char *path = dir->names[dir->turn++ % 16];
	size_t size = strlen(dir->path);
	memcpy(path, dir->path, size);
	path[size] = '/';
	stpncpy(path + size + 1, name, sizeof(dir->names[0]) - size - 2);
	return path;
}

#endif
