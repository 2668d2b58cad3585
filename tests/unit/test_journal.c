/* The journalled file: every rule of DESIGN section 5, and journals that are not what they should be. What
 * happens when calls fail, the power goes or threads run beside each other: test_journal_faults.c. */
#include "journal/journal.h"
#include "support/fault_os.h"
#include "support/journal_files.h"
#include <errno.h>
#include <sys/wait.h>

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

/* Its owner died between removing the journal and making that durable; someone else changed the file
 * meanwhile. */
static void a_journal_whose_removal_was_lost_is_void(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	const char *journal_path = test_path(dir, "a-journal");
	unsigned came_back = 0;
	for (uint64_t seed = 0; seed < 60; seed++) {
		unlink(path);
		unlink(journal_path);
		esk_fault *fault = esk_fault_new(test_seed() + seed);
		const esk_os *os = esk_fault_os(fault);
		esk_jfile *file = committed_file(os, path, 9000);
		put(file, 0, 'b', 10);
		commit(file, 9000);
		esk_fault_clear(fault);
		esk_fault_fail_at(fault, 5, EIO, true); /* of: sync, header, sync, unlink, sync_dir */
		assert_int_equal(esk_jfile_close(file, NULL), ESK_EIO);
		esk_fault_clear(fault);
		assert_false(esk_os_exists(journal_path));
		int fd = os->open(os, path, O_RDWR, 0);
		assert_int_equal(os->pwrite(os, fd, "moved on", 8, 0), 8);
		assert_int_equal(os->sync(os, fd), 0);
		os->close(os, fd);
		esk_fault_reboot(fault);
		came_back += esk_os_exists(journal_path);
		file = open_again(os, path, ESK_JFILE_WRITE, NULL);
		assert_int_equal(byte_at(file, 0), 'm');
		esk_jfile_close(file, NULL);
		esk_fault_free(fault);
	}
	assert_true(came_back > 5);
}

static void the_counter_is_odd_while_pages_are_half_applied(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	const char *journal_path = test_path(dir, "a-journal");
	bool half = false;
	for (uint64_t k = 1; !half; k++) {
		unlink(path);
		esk_fault *fault = esk_fault_new(1);
		esk_jfile *file = committed_file(esk_fault_os(fault), path, 20000);
		put(file, 0, 'b', 10);
		put(file, 15000, 'b', 10);
		assert_int_equal(esk_jfile_freeze(file, 20000, NULL), ESK_OK);
		esk_fault_clear(fault);
		esk_fault_fail_at(fault, k, EIO, true);
		assert_int_equal(esk_jfile_finish(file, NULL, NULL), ESK_EIO);
		half = raw_byte_at(path, 0) == 'b' && raw_byte_at(path, 15000) == 'a';
		esk_jfile_close(file, NULL);
		esk_fault_free(fault);
	}
	uint64_t counter;
	read_raw(journal_path, 512, &counter, sizeof(counter));
	assert_int_equal(counter % 2, 1);
	esk_jfile *reader = open_again(esk_os_posix(), path, ESK_JFILE_READ, NULL);
	assert_int_equal(byte_at(reader, 15000), 'b');
	assert_int_equal(esk_jfile_change_counter(reader), counter + 1);
	esk_jfile_close(reader, NULL);
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
		TEST(a_journal_whose_removal_was_lost_is_void),
		TEST(the_counter_is_odd_while_pages_are_half_applied),
		TEST(a_journal_without_its_file_does_not_hinder_a_new_one),
		TEST(an_empty_journal_is_none_and_a_foreign_one_is_refused),
		TEST(every_damaged_byte_of_a_record_makes_it_incomplete),
		TEST(a_damaged_header_is_healed_by_its_twin),
	};
	test_begin(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
