/* Encrypted files as others see them: what another implementation of docs/FORMAT.md made is read, modes are
 * kept, a name promises what is in the file; and whoever dies at whatever step of encrypting a run leaves a
 * file of it that is read.
 *
 *     test_encrypt_steps [SEED] */
#include "unit/encrypt_support.h"

#include "h5/h5.h"
#include "journal/journal.h"
#include "store/store.h"

#include <sys/wait.h>
#include <unistd.h>

#define SALT 3
#define ROWS 60
#define SEGMENT_BYTES 60000

static esk_error err;

static esk_key *key_of_bytes(test_dir *dir, int byte)
{
	uint8_t secret[ESK_VAULT_KEY_BYTES];
	const char *path = test_path(dir, "key");
	esk_key *key;
	memset(secret, byte, sizeof secret);
	write_file(path, secret, sizeof secret, 0600);
	assert_ok(esk_key_load(path, &key, &err), &err);
	return key;
}

/* ---- files ---- */

static const char ridge[] = "An esker is the ridge that a stream under a glacier leaves behind.";

/* Made by tests/fuzz/make_vault_corpus.py, which has a cipher of its own, under 32 bytes of 1. */
static const uint8_t made_elsewhere[] = {0x45, 0x53, 0x4b, 0x45, 0x52, 0x58, 0x31, 0x0a, 0x01, 0x00, 0x00,
	0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x80, 0x00, 0x00, 0x00, 0x42, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c,
	0x0d, 0x0e, 0x0f, 0x11, 0x54, 0x44, 0x6f, 0xcc, 0x0c, 0xd9, 0xb7, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x73,
	0x75, 0x51, 0xe7, 0x6d, 0x08, 0xee, 0x3a, 0x75, 0x38, 0x15, 0x5b, 0x5f, 0xd4, 0xf0, 0x27, 0xe3, 0x92,
	0x24, 0x78, 0x77, 0xcc, 0x82, 0xb5, 0x77, 0x6c, 0x9a, 0xd8, 0xed, 0x5f, 0x8d, 0xdd, 0xfa, 0xbb, 0xa8,
	0x56, 0x81, 0x0e, 0xa0, 0x4d, 0x89, 0xbb, 0xda, 0x20, 0x9d, 0xe0, 0xc2, 0x8a, 0xc1, 0x95, 0xb6, 0xe0,
	0x84, 0xfa, 0xc4, 0x23, 0xd3, 0x9b, 0xba, 0xd4, 0x6a, 0x77, 0x33, 0x11, 0xa6, 0x07, 0xe5, 0xf4, 0x48,
	0x88, 0x3b, 0xe6, 0x17, 0xd5, 0x35, 0xff, 0x10, 0x6e, 0x41, 0x9b, 0x71, 0x49, 0x26, 0x91, 0x05, 0x22,
	0x1b, 0x1f, 0xf2, 0xa2, 0x94, 0x6b, 0xe9, 0x23, 0x8f, 0x30, 0xcc, 0x78};

static void a_container_that_another_implementation_made_is_read(void **state)
{
	test_dir *dir = *state;
	esk_key *key = key_of_bytes(dir, 1);
	const char *sealed = test_path(dir, "sealed.h5x"), *out = test_path(dir, "out");
	char text[sizeof ridge] = "";
	write_file(sealed, made_elsewhere, sizeof made_elsewhere, 0600);
	assert_ok(esk_segment_decrypt(sealed, out, key, NULL, NULL, &err), &err);
	int fd = open(out, O_RDONLY);
	assert_int_equal(read(fd, text, sizeof text), (ssize_t)sizeof ridge - 1);
	close(fd);
	assert_string_equal(text, ridge);
	/* To what reads it in place, it is as large as it was. */
	esk_jfile *file;
	assert_ok(esk_keyring_add(key, &err), &err);
	assert_ok(esk_jfile_open(esk_os_posix(), sealed, ESK_JFILE_READ, &file, NULL, &err), &err);
	assert_int_equal(esk_jfile_end(file), sizeof ridge - 1);
	memset(text, 0, sizeof text);
	assert_ok(esk_jfile_read(file, 0, text, sizeof ridge - 1, &err), &err);
	assert_string_equal(text, ridge);
	assert_ok(esk_jfile_close(file, &err), &err);
	esk_keyring_drop(key);
	esk_key_free(key);
}

static unsigned mode_of(const char *path)
{
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	return st.st_mode & 0777;
}

static void who_may_not_use_the_one_file_may_not_use_the_other(void **state)
{
	static const mode_t modes[] = {0600, 0640, 0644, 0400};
	test_dir *dir = *state;
	esk_key *key = key_of_bytes(dir, 1);
	mode_t mask = umask(0);
	for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
		const char *plain = test_path(dir, "plain"), *sealed = test_path(dir, "sealed"),
			   *out = test_path(dir, "out");
		unlink(plain);
		unlink(sealed);
		unlink(out);
		write_file(plain, ridge, sizeof ridge, 0600);
		assert_int_equal(chmod(plain, modes[i]), 0);
		assert_ok(esk_segment_encrypt(plain, sealed, key, NULL, NULL, &err), &err);
		assert_int_equal(mode_of(sealed), modes[i]);
		assert_ok(esk_segment_decrypt(sealed, out, key, NULL, NULL, &err), &err);
		assert_int_equal(mode_of(out), modes[i]);
	}
	umask(mask);
	esk_key_free(key);
}

/* ---- runs ---- */

static esk_store *open_store(const char *path, const esk_os *os, const esk_key *key, bool read_only)
{
	esk_store_environment environment = {.os = os};
	esk_store_options options = ESK_STORE_OPTIONS_INIT;
	esk_store *store = NULL;
	options.codec_threads = 1;
	options.log = recording_log;
	options.key = key;
	options.read_only = read_only;
	assert_ok(esk_store_open_in(&environment, path, &options, &store, &err), &err);
	return store;
}

static esk_run *open_run(esk_store *store, bool encrypt, esk_stream **ret_stream)
{
	esk_run_options options = ESK_RUN_OPTIONS_INIT;
	esk_run *run;
	options.append = true;
	options.ring_bytes = 1u << 20;
	options.segment_bytes = SEGMENT_BYTES;
	options.encrypt = encrypt;
	assert_ok(esk_run_open(store, "run", &options, &run, &err), &err);
	assert_ok(recording_stream(run, "/", ret_stream, &err), &err);
	return run;
}

/* A run of several plain segments. */
static void record_plain(const char *path)
{
	esk_stream *stream;
	assert_ok(esk_store_create(path, &err), &err);
	esk_store *store = open_store(path, esk_os_posix(), NULL, false);
	esk_run *run = open_run(store, false, &stream);
	for (uint64_t i = 0; i < ROWS; i++) {
		assert_ok(recording_append(stream, i, SALT, NULL, &err), &err);
		if (i % 10 == 9)
			assert_ok(esk_stream_commit(stream, NULL, &err), &err);
	}
	assert_ok(esk_run_close(run, &err), &err);
	assert_ok(esk_store_close(store, &err), &err);
}

static void check_rows(const char *path, const esk_key *key, bool read_only)
{
	esk_reader *reader;
	esk_store *store = open_store(path, esk_os_posix(), key, read_only);
	assert_ok(esk_reader_open(store, "run", &reader, &err), &err);
	assert_int_equal(recording_rows(reader, "/"), ROWS);
	recording_check_rows(reader, "/", 0, ROWS, SALT);
	esk_reader_close(reader);
	assert_ok(esk_store_close(store, &err), &err);
}

static void what_has_the_name_of_an_encrypted_file_is_one(void **state)
{
	test_dir *dir = *state;
	esk_key *key = key_of_bytes(dir, 1);
	const char *path = test_path(dir, "store");
	glob_t found;
	char pattern[300], name[400];
	esk_h5 *file;
	record_plain(path);
	snprintf(pattern, sizeof pattern, "%s/run_*.h5", path);
	assert_int_equal(glob(pattern, 0, NULL, &found), 0);
	snprintf(name, sizeof name, "%sx", found.gl_pathv[0]);
	assert_int_equal(link(found.gl_pathv[0], name), 0);
	assert_ok(esk_h5_open_read(esk_os_posix(), found.gl_pathv[0], &file, &err), &err);
	esk_h5_close(file, NULL);
	assert_int_equal(esk_h5_open_read(esk_os_posix(), name, &file, &err), ESK_ECORRUPT);
	assert_non_null(strstr(err.message, name));
	globfree(&found);
	esk_key_free(key);
}

/* ---- deaths ---- */

#define DIED 77

static uint64_t calls_left; /* until the process dies; 0: it does not */

static void count_call(void)
{
	if (calls_left > 0 && --calls_left == 0)
		_exit(DIED);
}

static int dying_open(const esk_os *os, const char *path, int flags, mode_t mode)
{
	(void)os;
	if (flags & O_CREAT)
		count_call();
	return esk_os_posix()->open(esk_os_posix(), path, flags, mode);
}

static ssize_t dying_pwrite(const esk_os *os, int fd, const void *buf, size_t size, uint64_t offset)
{
	(void)os;
	count_call();
	return esk_os_posix()->pwrite(esk_os_posix(), fd, buf, size, offset);
}

static int dying_truncate(const esk_os *os, int fd, uint64_t size)
{
	(void)os;
	count_call();
	return esk_os_posix()->truncate(esk_os_posix(), fd, size);
}

static int dying_sync(const esk_os *os, int fd)
{
	(void)os;
	count_call();
	return esk_os_posix()->sync(esk_os_posix(), fd);
}

static int dying_sync_dir(const esk_os *os, const char *path)
{
	(void)os;
	count_call();
	return esk_os_posix()->sync_dir(esk_os_posix(), path);
}

static int dying_rename(const esk_os *os, const char *from, const char *to)
{
	(void)os;
	count_call();
	return esk_os_posix()->rename(esk_os_posix(), from, to);
}

static int dying_unlink(const esk_os *os, const char *path)
{
	(void)os;
	count_call();
	return esk_os_posix()->unlink(esk_os_posix(), path);
}

/* Opens the plain run with `encrypt` and closes it, which encrypts all of it; dies in front of call number
 * `call`. */
static void encrypt_and_die(const char *path, const esk_key *key, uint64_t call)
{
	esk_stream *stream;
	esk_os os = *esk_os_posix();
	os.open = dying_open;
	os.pwrite = dying_pwrite;
	os.truncate = dying_truncate;
	os.sync = dying_sync;
	os.sync_dir = dying_sync_dir;
	os.rename = dying_rename;
	os.unlink = dying_unlink;
	esk_store *store = open_store(path, &os, key, false);
	esk_run *run = open_run(store, true, &stream);
	calls_left = call;
	_exit(esk_run_close(run, &err) == ESK_OK ? 0 : 1);
}

static void a_death_at_any_step_leaves_a_file_that_is_read_and_is_gone_on_with(void **state)
{
	test_dir *dir = *state;
	esk_key *key = key_of_bytes(dir, 1);
	uint64_t call = 1, with_both = 0, with_piece = 0;
	int status = 0;
	do {
		char path[200];
		snprintf(path, sizeof path, "%s/%llu", dir->path, (unsigned long long)call);
		record_plain(path);
		pid_t child = fork();
		assert_true(child >= 0);
		if (child == 0)
			encrypt_and_die(path, key, call);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == DIED || WEXITSTATUS(status) == 0));
		with_both += count_files(path, "run_*.h5") > 0 && count_files(path, "run_*.h5x") > 0;
		with_piece += count_files(path, "spool/*.h5x.new") > 0;
		check_rows(path, key, true);
		check_rows(path, key, false);
		assert_int_equal(count_files(path, "*.h5"), 0);
		assert_true(count_files(path, "run_*.h5x") >= 3);
		assert_int_equal(count_files(path, "spool/*.encrypt*"), 0);
		assert_int_equal(count_files(path, "spool/*.new"), 0);
		check_rows(path, key, true);
		call++;
	} while (WEXITSTATUS(status) == DIED);
	print_message("%llu steps, in %llu of them both kinds were there, in %llu a piece\n",
		(unsigned long long)call - 2, (unsigned long long)with_both, (unsigned long long)with_piece);
	assert_true(call > 20 && with_both > 3 && with_piece > 3);
	esk_key_free(key);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	unsetenv("ESKER_KEY");
	unsetenv("ESKER_KEY_FILE");
#define TEST(name) cmocka_unit_test_setup_teardown(name, test_dir_make, test_dir_remove)
	const struct CMUnitTest tests[] = {
		TEST(a_container_that_another_implementation_made_is_read),
		TEST(who_may_not_use_the_one_file_may_not_use_the_other),
		TEST(what_has_the_name_of_an_encrypted_file_is_one),
		TEST(a_death_at_any_step_leaves_a_file_that_is_read_and_is_gone_on_with),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
