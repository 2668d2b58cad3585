/* The journalled file: every rule of DESIGN section 5, then every single failure, power cuts by seed, kills,
 * threads.
 *
 * The model is the list of images that were committed. Whatever happened, a file that is opened again must be
 * exactly the last image whose finish returned ESK_OK, or the one whose commit was under way. */
#include "journal/journal.h"
#include "support/fault_os.h"
#include "support/journal_model.h"
#include "support/unit.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void read_raw(const char *path, uint64_t offset, void *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	memset(buf, 0xEE, size);
	assert_true(pread(fd, buf, size, (off_t)offset) >= 0);
	close(fd);
}

static uint64_t size_raw(const char *path)
{
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

static void write_raw(const char *path, const void *buf, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, buf, size), (ssize_t)size);
	close(fd);
}

static void copy_raw(const char *from, const char *to)
{
	size_t size = size_raw(from);
	uint8_t *bytes = malloc(size + 1);
	read_raw(from, 0, bytes, size);
	write_raw(to, bytes, size);
	free(bytes);
}

static void commit(esk_jfile *file, uint64_t end)
{
	esk_error err;
	assert_ok(esk_jfile_freeze(file, end, &err), &err);
	assert_ok(esk_jfile_finish(file, NULL, &err), &err);
}

static void put(esk_jfile *file, uint64_t offset, char letter, size_t size)
{
	esk_error err;
	uint8_t *bytes = malloc(size);
	memset(bytes, letter, size);
	assert_ok(esk_jfile_write(file, offset, bytes, size, &err), &err);
	free(bytes);
}

static char byte_at(esk_jfile *file, uint64_t offset)
{
	esk_error err;
	char byte = 0;
	assert_ok(esk_jfile_read(file, offset, &byte, 1, &err), &err);
	return byte;
}

static char raw_byte_at(const char *path, uint64_t offset)
{
	char byte;
	read_raw(path, offset, &byte, 1);
	return byte;
}

/* A file of `size` bytes 'a', committed; the handle stays open. */
static esk_jfile *committed_file(const esk_os *os, const char *path, size_t size)
{
	esk_error err;
	esk_jfile *file = NULL;
	assert_ok(esk_jfile_open(os, path, ESK_JFILE_CREATE, &file, NULL, &err), &err);
	put(file, 0, 'a', size);
	commit(file, size);
	return file;
}

static esk_jfile *open_again(
	const esk_os *os, const char *path, esk_jfile_mode mode, esk_jfile_recovery *recovery)
{
	esk_error err;
	esk_jfile *file = NULL;
	assert_ok(esk_jfile_open(os, path, mode, &file, recovery, &err), &err);
	return file;
}

/* ---- the rules ---- */

static void create_refuses_an_existing_file_and_leaves_it_alone(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	esk_jfile *file = committed_file(esk_os_posix(), path, 10);
	assert_int_equal(esk_jfile_close(file, NULL), ESK_OK);
	assert_int_equal(
		esk_jfile_open(esk_os_posix(), path, ESK_JFILE_CREATE, &file, NULL, NULL), ESK_EEXIST);
	assert_int_equal(size_raw(path), 10);
	assert_false(esk_os_exists(test_path(dir, "a-journal")));
}

static void write_mode_refuses_a_missing_file_and_makes_nothing(void **state)
{
	test_dir *dir = *state;
	esk_jfile *file = NULL;
	assert_int_equal(
		esk_jfile_open(esk_os_posix(), test_path(dir, "a"), ESK_JFILE_WRITE, &file, NULL, NULL),
		ESK_ENOTFOUND);
	assert_false(esk_os_exists(test_path(dir, "a-journal")));
}

static void committed_bytes_change_in_the_file_only_by_finish(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	esk_jfile *file = committed_file(esk_os_posix(), path, 10000);
	put(file, 100, 'b', 5000);
	assert_int_equal(byte_at(file, 100), 'b');
	assert_int_equal(raw_byte_at(path, 100), 'a');
	assert_int_equal(esk_jfile_overlay_bytes(file), 8192);
	assert_int_equal(esk_jfile_freeze(file, 10000, NULL), ESK_OK);
	assert_int_equal(raw_byte_at(path, 100), 'a');
	assert_int_equal(esk_jfile_finish(file, NULL, NULL), ESK_OK);
	assert_int_equal(raw_byte_at(path, 99), 'a');
	assert_int_equal(raw_byte_at(path, 100), 'b');
	assert_int_equal(raw_byte_at(path, 5099), 'b');
	assert_int_equal(raw_byte_at(path, 5100), 'a');
	assert_int_equal(esk_jfile_overlay_bytes(file), 0);
	esk_jfile_close(file, NULL);
}

static void a_write_across_the_committed_end_is_split_there(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	esk_jfile *file = committed_file(esk_os_posix(), path, 5000);
	put(file, 4990, 'b', 20);
	assert_int_equal(raw_byte_at(path, 4999), 'a');
	assert_int_equal(raw_byte_at(path, 5000), 'b');
	assert_int_equal(byte_at(file, 4990), 'b');
	assert_int_equal(byte_at(file, 5009), 'b');
	assert_int_equal(esk_jfile_end(file), 5010);
	esk_jfile_close(file, NULL);
}

static void bytes_behind_the_end_and_in_holes_are_zeros(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	esk_jfile *file = committed_file(esk_os_posix(), path, 100);
	put(file, 20000, 'b', 10000); /* never committed: a tail for the next open */
	assert_int_equal(byte_at(file, 15000), 0);
	esk_jfile_close(file, NULL);
	file = open_again(esk_os_posix(), path, ESK_JFILE_WRITE, NULL);
	assert_int_equal(esk_jfile_end(file), 100);
	assert_int_equal(byte_at(file, 25000), 0);
	put(file, 40000, 'c', 10);
	assert_int_equal(byte_at(file, 25000), 0);
	commit(file, 40010);
	assert_int_equal(raw_byte_at(path, 25000), 0);
	esk_jfile_close(file, NULL);
}

static void active_pages_are_composed_on_frozen_ones(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	esk_jfile *file = committed_file(esk_os_posix(), path, 5000);
	put(file, 10, 'b', 10);
	put(file, 5000, 'b', 100); /* straight, in a page that the next write makes active */
	assert_int_equal(esk_jfile_freeze(file, 5100, NULL), ESK_OK);
	put(file, 15, 'c', 10);
	put(file, 5050, 'c', 10);
	const char *expected[] = {"a9", "b10", "b14", "c15", "c24", "a25", "b5049", "c5050", "b5060"};
	for (int turn = 0; turn < 2; turn++) {
		for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
			assert_int_equal(byte_at(file, strtoull(expected[i] + 1, NULL, 10)), expected[i][0]);
		if (turn == 0)
			assert_int_equal(esk_jfile_finish(file, NULL, NULL), ESK_OK);
	}
	assert_int_equal(raw_byte_at(path, 15), 'b');
	assert_int_equal(raw_byte_at(path, 5050), 'b');
	commit(file, 5100);
	assert_int_equal(raw_byte_at(path, 15), 'c');
	assert_int_equal(raw_byte_at(path, 5050), 'c');
	esk_jfile_close(file, NULL);
}

static void what_was_not_committed_is_gone_after_opening_again(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	esk_jfile *file = committed_file(esk_os_posix(), path, 5000);
	put(file, 0, 'b', 5000);
	esk_jfile_abandon(file);
	assert_int_equal(esk_jfile_status(file, NULL), ESK_ECLOSED);
	assert_int_equal(esk_jfile_freeze(file, 5000, NULL), ESK_ECLOSED);
	assert_int_equal(esk_jfile_close(file, NULL), ESK_OK);
	esk_jfile_recovery recovery;
	file = open_again(esk_os_posix(), path, ESK_JFILE_WRITE, &recovery);
	assert_true(recovery.journal_found);
	assert_int_equal(recovery.commit, 1);
	assert_int_equal(byte_at(file, 0), 'a');
	put(file, 0, 'c', 1);
	commit(file, 5000);
	assert_int_equal(esk_jfile_close(file, NULL), ESK_OK);
	assert_int_equal(raw_byte_at(path, 0), 'c');
}

static void a_file_whose_first_commit_never_was_says_so(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	esk_jfile *file = open_again(esk_os_posix(), path, ESK_JFILE_CREATE, NULL);
	put(file, 0, 'x', 100000);
	esk_jfile_close(file, NULL);
	esk_jfile_recovery recovery;
	file = open_again(esk_os_posix(), path, ESK_JFILE_READ, &recovery);
	assert_true(recovery.never_committed);
	assert_int_equal(esk_jfile_end(file), 0);
	esk_jfile_close(file, NULL);
	for (int turn = 0; turn < 2; turn++) {
		file = open_again(esk_os_posix(), path, ESK_JFILE_WRITE, &recovery);
		assert_true(recovery.journal_found);
		assert_true(recovery.never_committed);
		assert_int_equal(recovery.commit, 0);
		assert_int_equal(esk_jfile_end(file), 0);
		assert_int_equal(byte_at(file, 10), 0);
		if (turn == 1) {
			put(file, 0, 'y', 50);
			commit(file, 50);
		}
		esk_jfile_close(file, NULL);
	}
	assert_int_equal(size_raw(path), 50);
}

static void a_commit_that_changes_nothing_costs_no_call(void **state)
{
	test_dir *dir = *state;
	esk_fault *fault = esk_fault_new(1);
	esk_jfile *file = committed_file(esk_fault_os(fault), test_path(dir, "a"), 5000);
	uint64_t calls = esk_fault_calls(fault);
	uint64_t number = 0;
	assert_int_equal(esk_jfile_freeze(file, 5000, NULL), ESK_OK);
	assert_int_equal(esk_jfile_finish(file, &number, NULL), ESK_OK);
	assert_int_equal(number, 1);
	assert_int_equal(esk_fault_calls(fault), calls);
	esk_jfile_close(file, NULL);
	esk_fault_free(fault);
}

static void writers_exclude_each_other_also_in_one_process(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	esk_jfile *file = committed_file(esk_os_posix(), path, 100);
	esk_jfile *second = NULL;
	assert_true(esk_jfile_has_writer(esk_os_posix(), path));
	assert_int_equal(
		esk_jfile_open(esk_os_posix(), path, ESK_JFILE_WRITE, &second, NULL, NULL), ESK_EBUSY);
	pid_t child = fork();
	if (child == 0) {
		esk_jfile_forget(file);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	assert_true(esk_jfile_has_writer(esk_os_posix(), path));
	put(file, 0, 'b', 10);
	commit(file, 100);
	esk_jfile_close(file, NULL);
	assert_false(esk_jfile_has_writer(esk_os_posix(), path));
	file = open_again(esk_os_posix(), path, ESK_JFILE_WRITE, NULL);
	assert_int_equal(byte_at(file, 0), 'b');
	esk_jfile_close(file, NULL);
}

static void closing_cuts_the_tail_and_removes_the_journal(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	esk_jfile *file = committed_file(esk_os_posix(), path, 9000);
	commit(file, 7000);
	assert_int_equal(esk_jfile_close(file, NULL), ESK_OK);
	assert_int_equal(size_raw(path), 7000);
	assert_false(esk_os_exists(test_path(dir, "a-journal")));
}

static void the_owner_may_lower_the_committed_end(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	esk_jfile *file = committed_file(esk_os_posix(), path, 9000);
	esk_jfile_close(file, NULL);
	file = open_again(esk_os_posix(), path, ESK_JFILE_WRITE, NULL);
	esk_jfile_set_committed_end(file, 6000);
	assert_int_equal(esk_jfile_end(file), 6000);
	assert_int_equal(byte_at(file, 6500), 0);
	put(file, 8000, 'b', 10);
	assert_int_equal(raw_byte_at(path, 8000), 'b');
	assert_int_equal(raw_byte_at(path, 7000), 0);
	esk_jfile_close(file, NULL);
}

/* A shorter commit: until it is durable, what it gives up must stay as it was. */
static void a_shrinking_commit_spares_the_old_end_until_it_is_durable(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	esk_jfile *file = committed_file(esk_os_posix(), path, 20000);
	put(file, 0, 'b', 10);
	assert_int_equal(esk_jfile_freeze(file, 5000, NULL), ESK_OK);
	put(file, 5000, 'c', 20000);
	assert_int_equal(raw_byte_at(path, 19999), 'a');
	assert_int_equal(raw_byte_at(path, 20000), 'c');
	assert_int_equal(esk_jfile_finish(file, NULL, NULL), ESK_OK);
	put(file, 6000, 'd', 10);
	assert_int_equal(byte_at(file, 6000), 'd');
	assert_int_equal(byte_at(file, 6010), 'c');
	assert_int_equal(esk_jfile_freeze(file, 12000, NULL), ESK_OK);
	put(file, 12000, 'e', 9000);
	assert_int_equal(byte_at(file, 12000), 'e');
	assert_int_equal(byte_at(file, 20999), 'e');
	assert_int_equal(byte_at(file, 11999), 'c');
	assert_int_equal(esk_jfile_finish(file, NULL, NULL), ESK_OK);
	assert_int_equal(byte_at(file, 12000), 'e');
	assert_int_equal(byte_at(file, 6000), 'd');
	commit(file, 21000);
	esk_jfile_close(file, NULL);
	assert_int_equal(raw_byte_at(path, 12288), 'e');
	assert_int_equal(raw_byte_at(path, 6000), 'd');
}

/* ---- journals that are not what they should be ---- */

/* Leaves `path` with a complete record that was not applied: bytes [0, 10) become 'b'. */
static void leave_unapplied_commit(const char *path)
{
	esk_fault *fault = esk_fault_new(1);
	for (uint64_t k = 1;; k++) {
		unlink(path);
		esk_jfile *file = committed_file(esk_fault_os(fault), path, 9000);
		put(file, 0, 'b', 10);
		assert_int_equal(esk_jfile_freeze(file, 9000, NULL), ESK_OK);
		esk_fault_clear(fault);
		esk_fault_fail_at(fault, k, EIO, true);
		esk_status status = esk_jfile_finish(file, NULL, NULL);
		esk_fault_clear(fault);
		esk_jfile_close(file, NULL);
		assert_int_equal(status, ESK_EIO);
		esk_jfile_recovery recovery;
		file = open_again(esk_os_posix(), path, ESK_JFILE_READ, &recovery);
		esk_jfile_close(file, NULL);
		if (recovery.commit == 2)
			break;
	}
	assert_int_equal(raw_byte_at(path, 0), 'a');
	esk_fault_free(fault);
}

static void a_reader_reads_through_a_complete_journal_and_changes_nothing(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	leave_unapplied_commit(path);
	esk_jfile_recovery recovery;
	esk_jfile *reader = open_again(esk_os_posix(), path, ESK_JFILE_READ, &recovery);
	assert_true(recovery.journal_found && recovery.applied);
	assert_int_equal(byte_at(reader, 0), 'b');
	assert_int_equal(byte_at(reader, 10), 'a');
	assert_int_equal(raw_byte_at(path, 0), 'a');
	assert_int_equal(esk_jfile_write(reader, 0, "x", 1, NULL), ESK_EINVAL);
	uint64_t counter = esk_jfile_change_counter(reader);
	assert_true(counter != 0 && counter % 2 == 0);

	/* A writer recovers and goes on: the reader's pages from the old journal must give way. */
	esk_jfile *writer = open_again(esk_os_posix(), path, ESK_JFILE_WRITE, &recovery);
	assert_true(recovery.applied);
	assert_int_equal(raw_byte_at(path, 0), 'b');
	put(writer, 0, 'c', 10);
	commit(writer, 9000);
	assert_true(esk_jfile_change_counter(reader) != counter);
	assert_int_equal(esk_jfile_change_counter(reader), esk_jfile_change_counter(writer));
	assert_int_equal(byte_at(reader, 0), 'c');
	esk_jfile_close(writer, NULL);
	assert_int_equal(esk_jfile_change_counter(reader), 0);
	esk_jfile_close(reader, NULL);
}

static void a_copy_of_a_crashed_file_and_its_journal_recovers(void **state)
{
	test_dir *dir = *state;
	leave_unapplied_commit(test_path(dir, "a"));
	copy_raw(test_path(dir, "a"), test_path(dir, "b"));
	copy_raw(test_path(dir, "a-journal"), test_path(dir, "b-journal"));
	esk_jfile *file = open_again(esk_os_posix(), test_path(dir, "b"), ESK_JFILE_WRITE, NULL);
	assert_int_equal(byte_at(file, 0), 'b');
	esk_jfile_close(file, NULL);
}

static void a_journal_beside_another_file_is_refused(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	leave_unapplied_commit(path);
	uint8_t other[9000];
	memset(other, 'z', sizeof(other));
	write_raw(test_path(dir, "b"), other, sizeof(other));
	assert_int_equal(rename(test_path(dir, "b"), path), 0);
	esk_jfile *file = NULL;
	esk_error err;
	assert_int_equal(
		esk_jfile_open(esk_os_posix(), path, ESK_JFILE_WRITE, &file, NULL, &err), ESK_ECORRUPT);
	assert_non_null(strstr(err.message, "another file"));
	assert_int_equal(
		esk_jfile_open(esk_os_posix(), path, ESK_JFILE_READ, &file, NULL, &err), ESK_ECORRUPT);
	assert_int_equal(raw_byte_at(path, 0), 'z');
}

static void a_file_shorter_than_its_last_commit_is_refused(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	leave_unapplied_commit(path);
	assert_int_equal(truncate(path, 8000), 0);
	esk_jfile *file = NULL;
	assert_int_equal(
		esk_jfile_open(esk_os_posix(), path, ESK_JFILE_WRITE, &file, NULL, NULL), ESK_ECORRUPT);
	assert_int_equal(size_raw(path), 8000);
}

static void a_removed_journal_that_comes_back_is_void(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	esk_jfile *file = committed_file(esk_os_posix(), path, 9000);
	put(file, 0, 'b', 10);
	commit(file, 9000);
	assert_int_equal(link(test_path(dir, "a-journal"), test_path(dir, "kept")), 0);
	assert_int_equal(esk_jfile_close(file, NULL), ESK_OK);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "moved on", 8, 0), 8);
	close(fd);
	assert_int_equal(rename(test_path(dir, "kept"), test_path(dir, "a-journal")), 0);
	esk_jfile_recovery recovery;
	file = open_again(esk_os_posix(), path, ESK_JFILE_WRITE, &recovery);
	assert_false(recovery.journal_found);
	assert_int_equal(byte_at(file, 0), 'm');
	esk_jfile_close(file, NULL);
}

static void a_journal_without_its_file_does_not_hinder_a_new_one(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	leave_unapplied_commit(path);
	unlink(path);
	esk_jfile *file = committed_file(esk_os_posix(), path, 100);
	esk_jfile_abandon(file);
	esk_jfile_close(file, NULL);
	esk_jfile_recovery recovery;
	file = open_again(esk_os_posix(), path, ESK_JFILE_WRITE, &recovery);
	assert_int_equal(recovery.commit, 1);
	assert_int_equal(byte_at(file, 0), 'a');
	esk_jfile_close(file, NULL);
}

static void an_empty_journal_is_none_and_a_foreign_one_is_refused(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	write_raw(path, "hello", 5);
	write_raw(test_path(dir, "a-journal"), "", 0);
	esk_jfile_recovery recovery;
	esk_jfile *file = open_again(esk_os_posix(), path, ESK_JFILE_WRITE, &recovery);
	assert_false(recovery.journal_found || recovery.never_committed);
	assert_int_equal(esk_jfile_end(file), 5);
	esk_jfile_close(file, NULL);
	write_raw(test_path(dir, "a-journal"), "my holiday, day 1", 17);
	assert_int_equal(
		esk_jfile_open(esk_os_posix(), path, ESK_JFILE_WRITE, &file, NULL, NULL), ESK_ECORRUPT);
	assert_int_equal(size_raw(test_path(dir, "a-journal")), 17);
}

static void every_damaged_byte_of_a_record_makes_it_incomplete(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	const char *journal_path = test_path(dir, "a-journal");
	leave_unapplied_commit(path);
	size_t size = size_raw(journal_path);
	uint8_t *journal = malloc(size);
	read_raw(journal_path, 0, journal, size);
	/* The second commit's slot is the even one; its record is the only one with a body. */
	const size_t ranges[][2] = {{1024, 1024 + 64}, {4096, size}};
	for (size_t r = 0; r < 2; r++) {
		for (size_t i = ranges[r][0]; i < ranges[r][1]; i += r == 0 || i < 4096 + 64 ? 1 : 7) {
			journal[i] ^= 0x40;
			write_raw(journal_path, journal, size);
			journal[i] ^= 0x40;
			esk_jfile_recovery recovery;
			esk_jfile *file = open_again(esk_os_posix(), path, ESK_JFILE_READ, &recovery);
			assert_int_equal(recovery.commit, 1);
			assert_int_equal(byte_at(file, 0), 'a');
			esk_jfile_close(file, NULL);
		}
	}
	free(journal);
}

static void a_damaged_header_is_healed_by_its_twin(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	const char *journal_path = test_path(dir, "a-journal");
	for (off_t at = 0; at < 4096; at += 2048) {
		leave_unapplied_commit(path);
		int fd = open(journal_path, O_WRONLY | O_CLOEXEC);
		assert_int_equal(pwrite(fd, "\xFF", 1, at + 20), 1);
		close(fd);
		esk_jfile_recovery recovery;
		esk_jfile *file = open_again(esk_os_posix(), path, ESK_JFILE_WRITE, &recovery);
		assert_int_equal(recovery.commit, 2);
		assert_int_equal(byte_at(file, 0), 'b');
		esk_jfile_close(file, NULL);
	}
}

/* ---- failures ---- */

static void a_failed_file_swallows_writes_and_changes_nothing(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	esk_fault *fault = esk_fault_new(2);
	esk_jfile *file = committed_file(esk_fault_os(fault), path, 9000);
	esk_fault_clear(fault);
	esk_fault_set_space(fault, 0);
	esk_error err;
	assert_int_equal(esk_jfile_write(file, 9000, "more", 4, &err), ESK_ENOSPC);
	assert_int_equal(esk_jfile_status(file, &err), ESK_ENOSPC);
	put(file, 100, 'q', 20000);
	assert_int_equal(byte_at(file, 99), 'a');
	assert_int_equal(byte_at(file, 100), 'q');
	assert_int_equal(byte_at(file, 20099), 'q');
	assert_int_equal(esk_jfile_freeze(file, 30000, &err), ESK_ENOSPC);
	assert_int_equal(esk_jfile_close(file, NULL), ESK_OK);
	assert_int_equal(raw_byte_at(path, 100), 'a');
	assert_true(size_raw(path) <= 9004);
	esk_fault_free(fault);
}

static void a_full_disk_fails_the_commit_and_the_next_try_succeeds(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	esk_fault *fault = esk_fault_new(3);
	esk_jfile *file = committed_file(esk_fault_os(fault), path, 9000);
	put(file, 0, 'b', 9000);
	esk_fault_set_space(fault, 100);
	assert_int_equal(esk_jfile_freeze(file, 9000, NULL), ESK_OK);
	esk_error err;
	assert_int_equal(esk_jfile_finish(file, NULL, &err), ESK_ENOSPC);
	assert_int_equal(byte_at(file, 0), 'b');
	esk_jfile_close(file, NULL);
	file = open_again(esk_fault_os(fault), path, ESK_JFILE_WRITE, NULL);
	assert_int_equal(byte_at(file, 0), 'a');
	esk_fault_set_space(fault, UINT64_MAX);
	put(file, 0, 'b', 9000);
	commit(file, 9000);
	assert_int_equal(esk_jfile_close(file, NULL), ESK_OK);
	assert_int_equal(raw_byte_at(path, 8999), 'b');
	esk_fault_free(fault);
}

static void every_single_failing_call_leaves_a_committed_state(void **state)
{
	test_dir *dir = *state;
	static const int errnums[] = {EIO, ENOSPC};
	uint64_t runs = 0;
	for (uint64_t k = 1;; k++) {
		bool reached = false;
		for (int way = 0; way < 4; way++) {
			esk_fault *fault = esk_fault_new(test_seed() + k);
			model m = model_new(fault, test_path(dir, "a"), 7, 12);
			esk_fault_fail_at(fault, k, errnums[way & 1], way >= 2);
			m.deaf = way >= 2;
			model_run(&m);
			reached = reached || esk_fault_calls(fault) >= k;
			esk_fault_clear(fault);
			model_check_recovery(&m);
			model_free(&m);
			esk_fault_free(fault);
			runs++;
		}
		if (!reached)
			break;
	}
	assert_true(runs > 400);
	print_message("  %llu failures\n", (unsigned long long)runs);
}

static void every_power_cut_leaves_a_committed_state(void **state)
{
	test_dir *dir = *state;
	uint64_t cuts = test_scale(2400);
	for (uint64_t i = 0; i < cuts; i++) {
		uint64_t seed = test_seed() + i;
		/* Even rounds of the same workload: its number of calls is known from the run without a cut.
		 */
		esk_fault *fault = esk_fault_new(seed);
		model m = model_new(fault, test_path(dir, "a"), seed, 6);
		esk_fault_cut_at(fault, 1 + seed * 7919 % 260);
		m.deaf = true;
		model_run(&m);
		esk_fault_reboot(fault);
		if (seed % 3 == 0) { /* and once more while it recovers */
			esk_fault_cut_at(fault, 1 + seed / 3 % 12);
			esk_jfile *file = NULL;
			if (esk_jfile_open(esk_fault_os(fault), m.path, ESK_JFILE_WRITE, &file, NULL, NULL) ==
				ESK_OK)
				esk_jfile_close(file, NULL);
			m.closing = true;
			esk_fault_reboot(fault);
		}
		model_check_recovery(&m);
		model_free(&m);
		esk_fault_free(fault);
	}
	print_message("  %llu power cuts\n", (unsigned long long)cuts);
}

static void short_counts_and_interruptions_change_nothing(void **state)
{
	test_dir *dir = *state;
	for (uint64_t i = 0; i < 20; i++) {
		esk_fault *fault = esk_fault_new(test_seed() + i);
		model m = model_new(fault, test_path(dir, "a"), test_seed() + i, 10);
		esk_fault_set_hiccups(fault, 30);
		model_run(&m);
		assert_true(m.finished);
		model_check_recovery(&m);
		model_free(&m);
		esk_fault_free(fault);
	}
}

/* A child that commits numbered states without pause is killed; every page of the file must tell the same
 * number, not lower than the last one that the child reported. */
#define KILL_PAGES 40
static void commit_for_ever(const char *path, int report)
{
	uint64_t page[512];
	esk_jfile *file = NULL;
	if (esk_jfile_open(esk_os_posix(), path, ESK_JFILE_CREATE, &file, NULL, NULL) != ESK_OK)
		_exit(2);
	for (uint64_t number = 1;; number++) {
		for (uint64_t i = 0; i < 512; i++)
			page[i] = number;
		for (uint64_t i = 0; i < KILL_PAGES; i++)
			esk_jfile_write(file, i * sizeof(page), page, sizeof(page), NULL);
		if (esk_jfile_freeze(file, KILL_PAGES * sizeof(page), NULL) != ESK_OK ||
			esk_jfile_finish(file, NULL, NULL) != ESK_OK ||
			write(report, &number, sizeof(number)) != sizeof(number))
			_exit(3);
	}
}

static void committed_states_survive_kill(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	uint64_t random = test_seed();
	for (int turn = 0; turn < 25; turn++) {
		int ends[2];
		assert_int_equal(pipe(ends), 0);
		unlink(path);
		pid_t child = fork();
		if (child == 0)
			commit_for_ever(path, ends[1]);
		close(ends[1]);
		usleep(5000 + (useconds_t)(model_draw(&random) % 40000));
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		uint64_t last = 0;
		uint64_t number;
		while (read(ends[0], &number, sizeof(number)) == sizeof(number))
			last = number;
		close(ends[0]);
		esk_jfile *file = NULL;
		esk_status status = esk_jfile_open(esk_os_posix(), path, ESK_JFILE_WRITE, &file, NULL, NULL);
		if (status == ESK_ENOTFOUND && last == 0)
			continue;
		assert_int_equal(status, ESK_OK);
		uint64_t first = 0;
		assert_int_equal(esk_jfile_read(file, 0, &first, sizeof(first), NULL), ESK_OK);
		assert_true(first >= last && first <= last + 1);
		for (uint64_t at = 0; at < esk_jfile_end(file); at += 4096 - 8) {
			assert_int_equal(esk_jfile_read(file, at & ~UINT64_C(7), &number, 8, NULL), ESK_OK);
			assert_int_equal(number, first);
		}
		esk_jfile_close(file, NULL);
	}
}

/* ---- threads ---- */

static void *finish_in_thread(void *arg)
{
	esk_error err;
	assert_ok(esk_jfile_finish(arg, NULL, &err), &err);
	return NULL;
}

static void writing_goes_on_while_a_commit_finishes(void **state)
{
	test_dir *dir = *state;
	model m = model_new(NULL, test_path(dir, "a"), test_seed(), 0);
	esk_error err;
	assert_ok(esk_jfile_open(m.os, m.path, ESK_JFILE_CREATE, &m.file, NULL, &err), &err);
	for (int turn = 0; turn < 60; turn++) {
		for (int i = 0; i < 30; i++)
			assert_true(model_write(&m));
		uint64_t end = model_end_to_commit(&m);
		assert_ok(esk_jfile_freeze(m.file, end, &err), &err);
		model_frozen(&m, end);
		pthread_t thread;
		assert_int_equal(pthread_create(&thread, NULL, finish_in_thread, m.file), 0);
		for (int i = 0; i < 60; i++) {
			assert_true(model_write(&m));
			model_check_reads(&m);
		}
		pthread_join(thread, NULL);
		model_committed(&m);
		m.number++;
		model_check_reads(&m);
	}
	esk_jfile_close(m.file, NULL);
	m.file = NULL;
	model_check_recovery(&m);
	model_free(&m);
}

typedef struct watch {
	const char *path;
	pthread_mutex_t lock;
	bool stop;
	uint64_t good;
	uint64_t mixed;
} watch;

static bool watch_stopped(watch *w)
{
	pthread_mutex_lock(&w->lock);
	bool stop = w->stop;
	pthread_mutex_unlock(&w->lock);
	return stop;
}

static void *watch_commits(void *arg)
{
	watch *w = arg;
	uint64_t page[512];
	while (!watch_stopped(w)) {
		esk_jfile *file = NULL;
		if (esk_jfile_open(esk_os_posix(), w->path, ESK_JFILE_READ, &file, NULL, NULL) != ESK_OK)
			continue;
		for (int turn = 0; turn < 50; turn++) {
			uint64_t before = esk_jfile_change_counter(file);
			uint64_t first = 0;
			bool same = true;
			for (uint64_t i = 0; i < KILL_PAGES; i++) {
				assert_int_equal(esk_jfile_read(file, i * 4096, page, 4096, NULL), ESK_OK);
				first = i == 0 ? page[0] : first;
				same = same && page[0] == first && page[511] == first;
			}
			if (before % 2 != 0 || esk_jfile_change_counter(file) != before)
				continue;
			w->good += same;
			w->mixed += !same;
		}
		esk_jfile_close(file, NULL);
	}
	return NULL;
}

static void a_reader_with_a_steady_counter_sees_one_commit(void **state)
{
	test_dir *dir = *state;
	watch w = {.path = test_path(dir, "a"), .lock = PTHREAD_MUTEX_INITIALIZER};
	esk_jfile *file = committed_file(esk_os_posix(), w.path, KILL_PAGES * 4096);
	uint64_t page[512];
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, watch_commits, &w), 0);
	for (uint64_t number = 1; number < 150; number++) {
		for (uint64_t i = 0; i < 512; i++)
			page[i] = number;
		for (uint64_t i = 0; i < KILL_PAGES; i++)
			assert_int_equal(esk_jfile_write(file, i * 4096, page, sizeof(page), NULL), ESK_OK);
		commit(file, KILL_PAGES * 4096);
		usleep(500);
	}
	pthread_mutex_lock(&w.lock);
	w.stop = true;
	pthread_mutex_unlock(&w.lock);
	pthread_join(thread, NULL);
	esk_jfile_close(file, NULL);
	assert_int_equal(w.mixed, 0);
	assert_true(w.good > 20);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, test_dir_make, test_dir_remove)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(create_refuses_an_existing_file_and_leaves_it_alone),
		TEST(write_mode_refuses_a_missing_file_and_makes_nothing),
		TEST(committed_bytes_change_in_the_file_only_by_finish),
		TEST(a_write_across_the_committed_end_is_split_there),
		TEST(bytes_behind_the_end_and_in_holes_are_zeros),
		TEST(active_pages_are_composed_on_frozen_ones),
		TEST(what_was_not_committed_is_gone_after_opening_again),
		TEST(a_file_whose_first_commit_never_was_says_so),
		TEST(a_commit_that_changes_nothing_costs_no_call),
		TEST(writers_exclude_each_other_also_in_one_process),
		TEST(closing_cuts_the_tail_and_removes_the_journal),
		TEST(the_owner_may_lower_the_committed_end),
		TEST(a_shrinking_commit_spares_the_old_end_until_it_is_durable),
		TEST(a_reader_reads_through_a_complete_journal_and_changes_nothing),
		TEST(a_copy_of_a_crashed_file_and_its_journal_recovers),
		TEST(a_journal_beside_another_file_is_refused),
		TEST(a_file_shorter_than_its_last_commit_is_refused),
		TEST(a_removed_journal_that_comes_back_is_void),
		TEST(a_journal_without_its_file_does_not_hinder_a_new_one),
		TEST(an_empty_journal_is_none_and_a_foreign_one_is_refused),
		TEST(every_damaged_byte_of_a_record_makes_it_incomplete),
		TEST(a_damaged_header_is_healed_by_its_twin),
		TEST(a_failed_file_swallows_writes_and_changes_nothing),
		TEST(a_full_disk_fails_the_commit_and_the_next_try_succeeds),
		TEST(every_single_failing_call_leaves_a_committed_state),
		TEST(every_power_cut_leaves_a_committed_state),
		TEST(short_counts_and_interruptions_change_nothing),
		TEST(committed_states_survive_kill),
		TEST(writing_goes_on_while_a_commit_finishes),
		TEST(a_reader_with_a_steady_counter_sees_one_commit),
	};
	test_begin(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
