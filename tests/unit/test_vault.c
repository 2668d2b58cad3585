/* Keys, and the container that encrypted segments are: what was changed, cut, swapped or is of another key is
 * told, and by page. */
#include "unit/encrypt_support.h"

/* ---- keys ---- */

static void a_new_key_is_its_owners_alone_and_never_overwrites(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "key");
	struct stat st;
	esk_error err = {0};
	umask(0);
	assert_ok(esk_key_make(path, &err), &err);
	umask(022);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, 65);
	assert_int_equal(esk_key_make(path, &err), ESK_EEXIST);
	esk_key *one = make_key(dir, "one"), *two = make_key(dir, "two");
	assert_int_equal(strlen(esk_key_id(one)), 16);
	assert_string_not_equal(esk_key_id(one), esk_key_id(two));
	esk_key_free(one);
	esk_key_free(two);
}

static void a_key_file_that_others_may_use_or_that_holds_no_key_is_refused(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "key");
	char digits[66];
	esk_key *key = NULL;
	esk_error err = {0};
	memset(digits, 'a', 64);
	strcpy(digits + 64, "\n");
	write_file(path, digits, 65, 0600);
	assert_ok(esk_key_load(path, &key, &err), &err);
	esk_key_free(key);
	key = NULL;
	static const mode_t modes[] = {0640, 0604, 0620, 0601};
	for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
		assert_int_equal(chmod(path, modes[i]), 0);
		assert_int_equal(esk_key_load(path, &key, &err), ESK_EACCES);
		assert_non_null(strstr(err.message, "chmod 600"));
	}
	static const size_t sizes[] = {0, 1, 31, 33, 63, 66};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		memset(digits, 'a', sizeof digits);
		write_file(path, digits, sizes[i], 0600);
		assert_int_equal(esk_key_load(path, &key, &err), ESK_EINVAL);
		assert_null(strstr(err.message, "aaaa"));
	}
	memset(digits, 'g', sizeof digits);
	write_file(path, digits, 64, 0600);
	assert_int_equal(esk_key_load(path, &key, &err), ESK_EINVAL);
	assert_null(strstr(err.message, "gggg"));
	assert_int_equal(esk_key_load(test_path(dir, "none"), &key, &err), ESK_ENOTFOUND);
	assert_int_equal(esk_key_load(dir->path, &key, &err), ESK_EINVAL);
	assert_null(key);
}

static void bytes_digits_and_the_environment_mean_the_same_key(void **state)
{
	test_dir *dir = *state;
	const char *raw = test_path(dir, "raw"), *hex = test_path(dir, "hex");
	uint8_t bytes[32];
	char digits[65];
	esk_key *keys[4] = {0};
	esk_error err = {0};
	fill(bytes, sizeof bytes);
	for (size_t i = 0; i < sizeof bytes; i++)
		snprintf(digits + 2 * i, 3, "%02x", bytes[i]);
	write_file(raw, bytes, 32, 0600);
	write_file(hex, digits, 64, 0400);
	assert_int_equal(esk_key_load(NULL, &keys[0], &err), ESK_ENOTFOUND);
	assert_ok(esk_key_load(raw, &keys[0], &err), &err);
	assert_ok(esk_key_load(hex, &keys[1], &err), &err);
	setenv("ESKER_KEY", digits, 1);
	assert_ok(esk_key_load(NULL, &keys[2], &err), &err);
	setenv("ESKER_KEY", "nonsense", 1);
	assert_int_equal(esk_key_load(NULL, &keys[3], &err), ESK_EINVAL);
	assert_null(strstr(err.message, "nonsense"));
	setenv("ESKER_KEY_FILE", raw, 1);
	assert_ok(esk_key_load(NULL, &keys[3], &err), &err);
	unsetenv("ESKER_KEY");
	unsetenv("ESKER_KEY_FILE");
	for (size_t i = 0; i < 4; i++) {
		assert_memory_equal(esk_key_secret(keys[i]), bytes, sizeof bytes);
		assert_string_equal(esk_key_id(keys[i]), esk_key_id(keys[0]));
	}
	for (size_t i = 0; i < 4; i++)
		esk_key_free(keys[i]);
}

/* A core dump has neither the secret nor its digits: they are looked for in what the kernel would write. */
static void memory_that_would_be_dumped_does_not_hold_the_secret(void **state)
{
	esk_key *key = make_key(*state, "key");
	uint64_t at = (uint64_t)(uintptr_t)esk_key_secret(key);
	FILE *maps = fopen("/proc/self/smaps", "r");
	char line[512];
	bool here = false, undumped = false;
	assert_non_null(maps);
	while (fgets(line, sizeof line, maps) != NULL) {
		unsigned long long from, to;
		if (sscanf(line, "%llx-%llx ", &from, &to) == 2)
			here = at >= from && at < to;
		else if (here && strncmp(line, "VmFlags:", 8) == 0)
			undumped = strstr(line, " dd") != NULL;
	}
	(void)fclose(maps);
	assert_true(undumped);
	esk_key_free(key);
}

/* ---- the container ---- */

static void any_size_comes_back_as_it_was(void **state)
{
	test_dir *dir = *state;
	esk_key *key = make_key(dir, "key");
	static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 16 * 65536, 16 * 65536 + 1, 3000000};
	uint8_t *data = malloc(3000000);
	assert_non_null(data);
	fill(data, 3000000);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		const char *plain = test_path(dir, "plain"), *sealed = test_path(dir, "sealed"),
			   *again = test_path(dir, "again");
		bool encrypted = false;
		char id[17];
		size_t size;
		esk_error err = {0};
		write_file(plain, data, sizes[i], 0644);
		assert_ok(esk_segment_encrypt(plain, sealed, key, NULL, NULL, &err), &err);
		assert_ok(esk_segment_is_encrypted(sealed, &encrypted, id, &err), &err);
		assert_true(encrypted);
		assert_string_equal(id, esk_key_id(key));
		assert_ok(esk_segment_is_encrypted(plain, &encrypted, id, &err), &err);
		assert_false(encrypted);
		uint8_t *stored = read_file(sealed, &size);
		assert_int_equal(size, 128 + sizes[i] + 16 * ((sizes[i] + 65535) / 65536));
		free(stored);
		assert_ok(esk_segment_decrypt(sealed, again, key, NULL, NULL, &err), &err);
		uint8_t *found = read_file(again, &size);
		assert_int_equal(size, sizes[i]);
		assert_memory_equal(found, data, size);
		free(found);
		assert_int_equal(esk_segment_encrypt(plain, sealed, key, NULL, NULL, &err), ESK_EEXIST);
		assert_int_equal(esk_segment_decrypt(sealed, again, key, NULL, NULL, &err), ESK_EEXIST);
		assert_int_equal(
			esk_segment_decrypt(plain, test_path(dir, "x"), key, NULL, NULL, &err), ESK_EINVAL);
		assert_int_equal(
			esk_segment_encrypt(sealed, test_path(dir, "x"), key, NULL, NULL, &err), ESK_EINVAL);
		unlink(sealed);
		unlink(again);
	}
	free(data);
	esk_key_free(key);
}

static void two_encryptions_of_one_file_have_no_page_in_common(void **state)
{
	test_dir *dir = *state;
	esk_key *key = make_key(dir, "key");
	const char *plain = test_path(dir, "plain"), *one = test_path(dir, "one"),
		   *two = test_path(dir, "two");
	uint8_t *zeros = calloc(1, 200000);
	esk_error err = {0};
	size_t size;
	assert_non_null(zeros);
	write_file(plain, zeros, 200000, 0644);
	free(zeros);
	assert_ok(esk_segment_encrypt(plain, one, key, NULL, NULL, &err), &err);
	assert_ok(esk_segment_encrypt(plain, two, key, NULL, NULL, &err), &err);
	uint8_t *a = read_file(one, &size), *b = read_file(two, &size);
	for (size_t at = 128; at + 16 <= size; at += 16) {
		assert_memory_not_equal(a + at, b + at, 16);
		assert_memory_not_equal(a + at, a + 128 + (at == 128 ? 65552 : 0), 16);
	}
	free(a);
	free(b);
	esk_key_free(key);
}

/* A container of four pages in the directory, and its bytes. */
static uint8_t *make_container(test_dir *dir, const esk_key *key, size_t *ret_size)
{
	const char *plain = test_path(dir, "plain"), *sealed = test_path(dir, "sealed");
	uint8_t *data = malloc(250000);
	esk_error err = {0};
	assert_non_null(data);
	fill(data, 250000);
	write_file(plain, data, 250000, 0644);
	free(data);
	unlink(sealed);
	assert_ok(esk_segment_encrypt(plain, sealed, key, NULL, NULL, &err), &err);
	return read_file(sealed, ret_size);
}

/* Decrypts the file, and reads all of it by a vault: both must refuse it; nothing may be left behind. */
static void assert_damaged(test_dir *dir, const esk_key *key, const char *mentions)
{
	const char *sealed = test_path(dir, "sealed"), *out = test_path(dir, "out"),
		   *part = test_path(dir, "out.part");
	esk_vault *vault = NULL;
	esk_error err = {0};
	uint8_t *buf = malloc(250000);
	size_t got = 0;
	assert_non_null(buf);
	assert_int_equal(esk_segment_decrypt(sealed, out, NULL, NULL, NULL, &err), ESK_ECORRUPT);
	assert_non_null(strstr(err.message, sealed));
	if (mentions != NULL && strstr(err.message, mentions) == NULL)
		fail_msg("\"%s\" does not mention %s", err.message, mentions);
	assert_int_not_equal(access(out, F_OK), 0);
	assert_int_not_equal(access(part, F_OK), 0);
	int fd = open(sealed, O_RDONLY);
	esk_status status = esk_vault_open(esk_os_posix(), fd, sealed, &vault, &err);
	if (status == ESK_OK)
		status = esk_vault_read(vault, 0, buf, 250000, &got, &err);
	assert_int_equal(status, ESK_ECORRUPT);
	esk_vault_close(vault);
	close(fd);
	free(buf);
	(void)key;
}

static void a_flipped_bit_anywhere_is_found_and_its_page_named(void **state)
{
	test_dir *dir = *state;
	esk_key *key = make_key(dir, "key");
	size_t size;
	esk_error err = {0};
	uint8_t *data = make_container(dir, key, &size);
	assert_ok(esk_keyring_add(key, &err), &err);
	uint64_t turns = test_scale(400);
	for (uint64_t turn = 0; turn < turns; turn++) {
		/* Every byte of the header but for magic, version and cipher, which are checked by name; then
		 * at random. */
		size_t at = turn < 112 ? 16 + turn : 128 + mix(turn + test_seed()) % (size - 128);
		uint8_t bit = (uint8_t)(1u << mix(turn) % 8);
		char page[32] = "header";
		data[at] ^= bit;
		write_file(test_path(dir, "sealed"), data, size, 0644);
		if (at >= 128)
			snprintf(page, sizeof page, "page %zu ", (at - 128) / 65552);
		assert_damaged(dir, key, page);
		data[at] ^= bit;
	}
	data[8] ^= 3;
	write_file(test_path(dir, "sealed"), data, size, 0644);
	assert_int_equal(
		esk_segment_decrypt(test_path(dir, "sealed"), test_path(dir, "out"), key, NULL, NULL, &err),
		ESK_EVERSION);
	esk_keyring_drop(key);
	free(data);
	esk_key_free(key);
}

static void pages_that_are_swapped_or_of_another_file_are_found(void **state)
{
	test_dir *dir = *state;
	esk_key *key = make_key(dir, "key");
	size_t size;
	esk_error err = {0};
	assert_ok(esk_keyring_add(key, &err), &err);
	uint8_t *other = make_container(dir, key, &size), *data = make_container(dir, key, &size),
		*copy = malloc(size);
	assert_non_null(copy);
	memcpy(copy, data, size);
	memcpy(copy + 128, data + 128 + 65552, 65552);
	memcpy(copy + 128 + 65552, data + 128, 65552);
	write_file(test_path(dir, "sealed"), copy, size, 0644);
	assert_damaged(dir, key, "page 0 ");
	memcpy(copy, data, size);
	memcpy(copy + 128 + 65552, other + 128 + 65552, 65552);
	write_file(test_path(dir, "sealed"), copy, size, 0644);
	assert_damaged(dir, key, "page 1 ");
	memcpy(copy, other, 128); /* the header of another file of the same size */
	memcpy(copy + 128, data + 128, size - 128);
	write_file(test_path(dir, "sealed"), copy, size, 0644);
	assert_damaged(dir, key, "page 0 ");
	free(copy);
	free(other);
	free(data);
	esk_keyring_drop(key);
	esk_key_free(key);
}

static void a_file_that_was_cut_or_grew_is_found(void **state)
{
	test_dir *dir = *state;
	esk_key *key = make_key(dir, "key");
	size_t size;
	esk_error err = {0};
	uint8_t *data = make_container(dir, key, &size);
	assert_ok(esk_keyring_add(key, &err), &err);
	const size_t cuts[] = {8, 100, 127, 128, 129, 128 + 65552, size - 65552, size - 16, size - 1};
	for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
		write_file(test_path(dir, "sealed"), data, cuts[i], 0644);
		assert_damaged(dir, key, cuts[i] < 128 ? "header" : "page");
	}
	data = realloc(data, size + 1);
	assert_non_null(data);
	data[size] = 0;
	write_file(test_path(dir, "sealed"), data, size + 1, 0644);
	assert_damaged(dir, key, "added");
	free(data);
	esk_keyring_drop(key);
	esk_key_free(key);
}

static void the_key_that_is_needed_is_named_and_another_is_told_apart(void **state)
{
	test_dir *dir = *state;
	esk_key *key = make_key(dir, "key"), *other = make_key(dir, "other");
	size_t size;
	esk_error err = {0};
	free(make_container(dir, key, &size));
	const char *sealed = test_path(dir, "sealed"), *out = test_path(dir, "out");
	assert_int_equal(esk_segment_decrypt(sealed, out, NULL, NULL, NULL, &err), ESK_EACCES);
	assert_non_null(strstr(err.message, esk_key_id(key)));
	assert_non_null(strstr(err.message, "ESKER_KEY_FILE"));
	assert_int_equal(esk_segment_decrypt(sealed, out, other, NULL, NULL, &err), ESK_EACCES);
	assert_non_null(strstr(err.message, esk_key_id(key)));
	assert_non_null(strstr(err.message, esk_key_id(other)));
	setenv("ESKER_KEY_FILE", test_path(dir, "other"), 1);
	assert_int_equal(esk_segment_decrypt(sealed, out, NULL, NULL, NULL, &err), ESK_EACCES);
	assert_non_null(strstr(err.message, esk_key_id(other)));
	setenv("ESKER_KEY_FILE", test_path(dir, "key"), 1);
	assert_ok(esk_segment_decrypt(sealed, out, NULL, NULL, NULL, &err), &err);
	unsetenv("ESKER_KEY_FILE");
	esk_key_free(key);
	esk_key_free(other);
}

static bool cancel_in_the_middle(void *arg, uint64_t done, uint64_t total)
{
	assert_true(done <= total);
	(*(int *)arg)++;
	return done == 0;
}

static void a_conversion_that_is_cancelled_leaves_nothing(void **state)
{
	test_dir *dir = *state;
	esk_key *key = make_key(dir, "key");
	const char *plain = test_path(dir, "plain"), *out = test_path(dir, "out"),
		   *part = test_path(dir, "out.part");
	uint8_t *data = calloc(1, 3000000);
	int calls = 0;
	esk_error err = {0};
	assert_non_null(data);
	write_file(plain, data, 3000000, 0644);
	free(data);
	assert_int_equal(
		esk_segment_encrypt(plain, out, key, cancel_in_the_middle, &calls, &err), ESK_ECLOSED);
	assert_int_equal(calls, 2);
	assert_int_not_equal(access(out, F_OK), 0);
	assert_int_not_equal(access(part, F_OK), 0);
	esk_key_free(key);
}

static void pieces_read_anywhere_are_those_of_the_plain_file(void **state)
{
	test_dir *dir = *state;
	esk_key *key = make_key(dir, "key");
	const char *plain = test_path(dir, "plain"), *sealed = test_path(dir, "sealed");
	size_t size = 2500000, got;
	uint8_t *data = malloc(size), *buf = malloc(size);
	esk_vault *vault;
	esk_error err = {0};
	assert_true(data != NULL && buf != NULL);
	fill(data, size);
	write_file(plain, data, size, 0644);
	assert_ok(esk_keyring_add(key, &err), &err);
	assert_ok(esk_segment_encrypt(plain, sealed, key, NULL, NULL, &err), &err);
	int fd = open(sealed, O_RDONLY);
	assert_ok(esk_vault_open(esk_os_posix(), fd, sealed, &vault, &err), &err);
	assert_int_equal(esk_vault_bytes(vault), size);
	for (uint64_t turn = 0; turn < 2000; turn++) {
		uint64_t at = mix(turn + test_seed()) % (size + 1000);
		size_t wanted = (size_t)(mix(turn * 3 + 1) % (turn % 4 == 0 ? 300000 : 3000));
		size_t there = at >= size ? 0 : (size_t)esk_min_u64(wanted, size - at);
		memset(buf, 0xEE, wanted);
		assert_ok(esk_vault_read(vault, at, buf, wanted, &got, &err), &err);
		assert_int_equal(got, there);
		assert_memory_equal(buf, data + at, there);
	}
	esk_vault_close(vault);
	close(fd);
	esk_keyring_drop(key);
	free(data);
	free(buf);
	esk_key_free(key);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	unsetenv("ESKER_KEY");
	unsetenv("ESKER_KEY_FILE");
#define TEST(name) cmocka_unit_test_setup_teardown(name, test_dir_make, test_dir_remove)
	const struct CMUnitTest tests[] = {
		TEST(a_new_key_is_its_owners_alone_and_never_overwrites),
		TEST(a_key_file_that_others_may_use_or_that_holds_no_key_is_refused),
		TEST(bytes_digits_and_the_environment_mean_the_same_key),
		TEST(memory_that_would_be_dumped_does_not_hold_the_secret),
		TEST(any_size_comes_back_as_it_was),
		TEST(two_encryptions_of_one_file_have_no_page_in_common),
		TEST(a_flipped_bit_anywhere_is_found_and_its_page_named),
		TEST(pages_that_are_swapped_or_of_another_file_are_found),
		TEST(a_file_that_was_cut_or_grew_is_found),
		TEST(the_key_that_is_needed_is_named_and_another_is_told_apart),
		TEST(a_conversion_that_is_cancelled_leaves_nothing),
		TEST(pieces_read_anywhere_are_those_of_the_plain_file),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
