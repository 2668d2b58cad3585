/* What unit tests share: cmocka, a seed, a directory of their own. */
#ifndef ESK_TESTS_UNIT_H
#define ESK_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"
#include <fnmatch.h>
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

/* Whether `name` matches one of the patterns, which colons divide. */
static inline bool test_matches(const char *name, const char *patterns)
{
	char pattern[200];
	while (*patterns != '\0') {
		size_t size = strcspn(patterns, ":");
		assert_true(size < sizeof pattern);
		memcpy(pattern, patterns, size);
		pattern[size] = '\0';
		if (fnmatch(pattern, name, 0) == 0)
			return true;
		patterns += size + (patterns[size] == ':');
	}
	return false;
}

/* Runs those of the tests that ESK_TEST_ONLY names and ESK_TEST_SKIP does not (patterns, as file names have
 * them, with colons between), so that parts of a long program run side by side. None is a failure. */
static inline int test_run_chosen(const struct CMUnitTest *tests, size_t count)
{
	const char *only = getenv("ESK_TEST_ONLY"), *skip = getenv("ESK_TEST_SKIP");
	struct CMUnitTest *chosen = malloc(count * sizeof *chosen);
	size_t chosen_count = 0;
	if (chosen == NULL)
		return 1;
	for (size_t i = 0; i < count; i++)
		if ((only == NULL || test_matches(tests[i].name, only)) &&
			(skip == NULL || !test_matches(tests[i].name, skip)))
			chosen[chosen_count++] = tests[i];
	if (chosen_count == 0)
		print_error("none of the tests is called like that\n");
	int failed =
		chosen_count > 0 ? _cmocka_run_group_tests("tests", chosen, chosen_count, NULL, NULL) : 1;
	free(chosen);
	return failed;
}

#define test_run(tests) test_run_chosen(tests, sizeof(tests) / sizeof *(tests))

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

/* A test in a directory of its own. */
#define ONE(test) cmocka_unit_test_setup_teardown(test, test_dir_make, test_dir_remove)

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
