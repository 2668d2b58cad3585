/* The fault-injecting operating system itself: a double that cannot fail would make every test above it
 * worthless. */
#include "support/fault_os.h"
#include "support/fault_vfs.h"
#include "support/unit.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>

static int open_new(const esk_os *os, const char *path)
{
	int fd = -1;
	esk_error err;
	assert_ok(esk_os_open(os, path, O_RDWR | O_CREAT, 0666, &fd, &err), &err);
	return fd;
}

static void put(const esk_os *os, int fd, uint64_t offset, char letter, size_t size)
{
	char bytes[8192];
	assert_true(size <= sizeof(bytes));
	memset(bytes, letter, size);
	esk_error err;
	assert_ok(esk_os_write(os, fd, "test", bytes, size, offset, &err), &err);
}

/* The whole file; *ret_size is SIZE_MAX where there is none. */
static size_t slurp(const char *path, char *buf, size_t capacity)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return SIZE_MAX;
	ssize_t got = read(fd, buf, capacity);
	close(fd);
	assert_true(got >= 0);
	return (size_t)got;
}

static void synchronised_writes_stay_and_others_are_kept_dropped_or_torn(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	unsigned kept = 0, dropped = 0, torn = 0, reordered = 0;
	for (uint64_t seed = 0; seed < 300; seed++) {
		unlink(path);
		esk_fault *fault = esk_fault_new(test_seed() + seed);
		const esk_os *os = esk_fault_os(fault);
		int fd = open_new(os, path);
		put(os, fd, 0, 'a', 4096);
		assert_int_equal(os->sync(os, fd), 0);
		assert_int_equal(os->sync_dir(os, dir->path), 0);
		put(os, fd, 0, 'b', 2048);
		put(os, fd, 4096, 'c', 1024);
		os->close(os, fd);
		esk_fault_reboot(fault);
		char bytes[8192];
		size_t size = slurp(path, bytes, sizeof(bytes));
		assert_true(size == 4096 || size == 4096 + 512 || size == 4096 + 1024);
		unsigned b = 0;
		for (size_t i = 0; i < 4096; i += 512) {
			for (size_t k = 1; k < 512; k++)
				assert_int_equal(bytes[i + k], bytes[i]);
			assert_true(bytes[i] == 'a' || (bytes[i] == 'b' && i < 2048));
			b += bytes[i] == 'b';
		}
		kept += b == 4 && size == 5120;
		dropped += b == 0 && size == 4096;
		torn += b != 0 && b != 4;
		reordered += b == 0 && size > 4096;
		esk_fault_free(fault);
	}
	assert_true(kept > 20 && dropped > 20 && torn > 20 && reordered > 10);
}

static void a_name_is_durable_only_after_sync_dir(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	const char *other = test_path(dir, "b");
	unsigned lost = 0, renamed = 0, came_back = 0;
	for (uint64_t seed = 0; seed < 100; seed++) {
		unlink(path);
		unlink(other);
		esk_fault *fault = esk_fault_new(test_seed() + seed);
		const esk_os *os = esk_fault_os(fault);
		int fd = open_new(os, path);
		put(os, fd, 0, 'a', 10);
		assert_int_equal(os->sync(os, fd), 0);
		os->close(os, fd);
		esk_fault_reboot(fault);
		if (!esk_os_exists(path)) {
			lost++;
			esk_fault_free(fault);
			continue;
		}
		assert_int_equal(os->rename(os, path, other), 0);
		esk_fault_reboot(fault);
		assert_true(esk_os_exists(path) != esk_os_exists(other));
		renamed += esk_os_exists(other);
		if (esk_os_exists(other)) {
			assert_int_equal(os->unlink(os, other), 0);
			esk_fault_reboot(fault);
			char bytes[20];
			came_back += slurp(other, bytes, sizeof(bytes)) == 10 && bytes[9] == 'a';
		}
		esk_fault_free(fault);
	}
	assert_true(lost > 10 && renamed > 5 && came_back > 2);
}

static size_t entries_of(const char *path)
{
	DIR *directory = opendir(path);
	size_t count = 0;
	for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
		count += entry->d_name[0] != '.';
	closedir(directory);
	return count;
}

/* A file gets a second name, and another file the first one: what repair does. */
static void a_link_survives_a_power_cut_or_not_and_so_does_the_first_name(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	const char *other = test_path(dir, "b");
	const char *kept = test_path(dir, "c");
	unsigned linked = 0, replaced = 0, only_replaced = 0;
	for (uint64_t seed = 0; seed < 200; seed++) {
		esk_fault *fault = esk_fault_new(test_seed() + seed);
		const esk_os *os = esk_fault_os(fault);
		for (int i = 0; i < 2; i++) {
			int fd = open_new(os, i == 0 ? path : other);
			put(os, fd, 0, i == 0 ? 'a' : 'b', 10);
			assert_int_equal(os->sync(os, fd), 0);
			os->close(os, fd);
		}
		assert_int_equal(os->sync_dir(os, dir->path), 0);
		assert_int_equal(os->link(os, path, kept), 0);
		assert_int_equal(os->link(os, path, other), -EEXIST);
		assert_int_equal(os->link(os, "/nonexistent/a", "/nonexistent/b"), -ENOENT);
		if (seed % 4 != 0)
			assert_int_equal(os->rename(os, other, path), 0);
		if (seed % 4 == 1)
			assert_int_equal(os->sync_dir(os, dir->path), 0);
		esk_fault_reboot(fault);
		char now[20], then[20];
		assert_int_equal(slurp(path, now, sizeof now), 10);
		size_t size = slurp(kept, then, sizeof then);
		assert_true(size == SIZE_MAX || (size == 10 && then[9] == 'a'));
		assert_true(now[9] == 'a' || now[9] == 'b');
		assert_true(now[9] == 'b' || esk_os_exists(other));
		assert_true(seed % 4 != 1 || (now[9] == 'b' && size == 10));
		linked += size == 10;
		replaced += now[9] == 'b';
		only_replaced += now[9] == 'b' && size != 10;
		assert_int_equal(entries_of(dir->path), 1 + (size == 10) + esk_os_exists(other));
		unlink(path);
		unlink(other);
		unlink(kept);
		esk_fault_free(fault);
	}
	assert_true(linked > 60 && linked < 190 && replaced > 60 && replaced < 190 && only_replaced > 5);
}

static void a_synchronised_removal_stays(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	for (uint64_t seed = 0; seed < 20; seed++) {
		esk_fault *fault = esk_fault_new(test_seed() + seed);
		const esk_os *os = esk_fault_os(fault);
		os->close(os, open_new(os, path));
		assert_int_equal(os->sync_dir(os, dir->path), 0);
		assert_int_equal(os->unlink(os, path), 0);
		assert_int_equal(os->sync_dir(os, dir->path), 0);
		esk_fault_reboot(fault);
		assert_false(esk_os_exists(path));
		esk_fault_free(fault);
	}
}

static void a_directory_that_was_not_synchronised_takes_its_files_along(void **state)
{
	test_dir *dir = *state;
	unsigned lost = 0;
	for (uint64_t seed = 0; seed < 40; seed++) {
		esk_fault *fault = esk_fault_new(test_seed() + seed);
		const esk_os *os = esk_fault_os(fault);
		const char *inner = test_path(dir, "sub");
		const char *path = test_path(dir, "sub/a");
		os->mkdir(os, inner, 0777);
		int fd = open_new(os, path);
		put(os, fd, 0, 'a', 10);
		assert_int_equal(os->sync(os, fd), 0);
		assert_int_equal(os->sync_dir(os, inner), 0);
		os->close(os, fd);
		esk_fault_reboot(fault);
		assert_int_equal(esk_os_exists(inner), esk_os_exists(path));
		lost += !esk_os_exists(inner);
		unlink(path);
		rmdir(inner);
		esk_fault_free(fault);
	}
	assert_true(lost > 5 && lost < 35);
}

static void a_failed_synchronisation_is_not_made_good_by_a_later_one(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	unsigned lost = 0;
	for (uint64_t seed = 0; seed < 40; seed++) {
		unlink(path);
		esk_fault *fault = esk_fault_new(test_seed() + seed);
		const esk_os *os = esk_fault_os(fault);
		int fd = open_new(os, path);
		assert_int_equal(os->sync_dir(os, dir->path), 0);
		put(os, fd, 0, 'a', 10);
		esk_fault_fail_at(fault, esk_fault_calls(fault) + 1, EIO, false);
		assert_int_equal(os->sync(os, fd), -EIO);
		assert_int_equal(os->sync(os, fd), 0);
		os->close(os, fd);
		esk_fault_reboot(fault);
		char bytes[20];
		lost += slurp(path, bytes, sizeof(bytes)) != 10;
		esk_fault_free(fault);
	}
	assert_true(lost > 5);
}

static void the_planned_call_fails_and_no_other(void **state)
{
	test_dir *dir = *state;
	esk_fault *fault = esk_fault_new(test_seed());
	const esk_os *os = esk_fault_os(fault);
	int fd = open_new(os, test_path(dir, "a"));
	put(os, fd, 0, 'a', 1);
	assert_int_equal(esk_fault_calls(fault), 2);
	uint64_t size = 0;
	esk_fault_fail_at(fault, 4, ENOSPC, false);
	assert_int_equal(os->size(os, fd, &size), 0);
	assert_int_equal(os->truncate(os, fd, 5), -ENOSPC);
	assert_int_equal(os->size(os, fd, &size), 0);
	assert_int_equal(size, 1);
	esk_fault_fail_at(fault, 6, EIO, true);
	assert_int_equal(os->sync(os, fd), -EIO);
	assert_int_equal(os->sync(os, fd), -EIO);
	esk_fault_clear(fault);
	assert_int_equal(os->sync(os, fd), 0);
	os->close(os, fd);
	esk_fault_free(fault);
}

static void hiccups_come_and_the_helpers_ride_over_them(void **state)
{
	test_dir *dir = *state;
	esk_fault *fault = esk_fault_new(test_seed());
	const esk_os *os = esk_fault_os(fault);
	int fd = open_new(os, test_path(dir, "a"));
	esk_fault_set_hiccups(fault, 50);
	uint64_t before = esk_fault_calls(fault);
	put(os, fd, 0, 'a', 8000);
	char bytes[8000];
	for (int i = 0; i < 20; i++)
		assert_int_equal(esk_os_read(os, fd, "a", bytes, sizeof(bytes), 0, NULL), ESK_OK);
	assert_true(esk_fault_calls(fault) > before + 25);
	assert_int_equal(bytes[7999], 'a');
	os->close(os, fd);
	esk_fault_free(fault);
}

static void a_full_disk_takes_what_fits_and_then_nothing(void **state)
{
	test_dir *dir = *state;
	esk_fault *fault = esk_fault_new(test_seed());
	const esk_os *os = esk_fault_os(fault);
	int fd = open_new(os, test_path(dir, "a"));
	char bytes[100] = {0};
	esk_fault_set_space(fault, 150);
	assert_int_equal(os->pwrite(os, fd, bytes, 100, 0), 100);
	assert_int_equal(os->pwrite(os, fd, bytes, 100, 0), 100);
	assert_int_equal(os->pwrite(os, fd, bytes, 100, 100), 50);
	assert_int_equal(os->pwrite(os, fd, bytes, 100, 150), -ENOSPC);
	assert_int_equal(os->pwrite(os, fd, bytes, 100, 0), 100);
	os->close(os, fd);
	esk_fault_free(fault);
}

static void a_power_cut_stops_everything_until_the_reboot(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "a");
	esk_fault *fault = esk_fault_new(test_seed());
	const esk_os *os = esk_fault_os(fault);
	uint64_t boot = os->boot_id(os);
	int fd = open_new(os, path);
	assert_int_equal(os->lock(os, fd), 0);
	assert_int_equal(os->sync_dir(os, dir->path), 0);
	int second = open_new(os, path);
	assert_int_equal(os->lock(os, second), -EWOULDBLOCK);
	esk_fault_cut_at(fault, esk_fault_calls(fault) + 1);
	assert_int_equal(os->pwrite(os, fd, "x", 1, 0), -EIO);
	assert_true(esk_fault_is_cut(fault));
	char byte;
	assert_int_equal(os->pread(os, fd, &byte, 1, 0), -EIO);
	assert_int_equal(os->open(os, path, O_RDWR, 0), -EIO);
	esk_fault_reboot(fault);
	assert_false(esk_fault_is_cut(fault));
	assert_int_not_equal(os->boot_id(os), boot);
	int third = open_new(os, path);
	assert_int_equal(os->lock(os, third), 0); /* although nobody closed the first */
	os->close(os, fd);
	os->close(os, second);
	assert_int_equal(os->pwrite(os, third, "y", 1, 0), 1);
	os->close(os, third);
	esk_fault_free(fault);
}

static void volatile_files_are_gone_after_a_power_cut(void **state)
{
	test_dir *dir = *state;
	esk_fault *fault = esk_fault_new(test_seed());
	const esk_os *os = esk_fault_os(fault);
	esk_fault_set_volatile(fault, test_path(dir, "ring"));
	const char *path = test_path(dir, "ring-1");
	int fd = open_new(os, path);
	assert_int_equal(os->sync(os, fd), 0);
	assert_int_equal(os->sync_dir(os, dir->path), 0);
	os->close(os, fd);
	esk_fault_reboot(fault);
	assert_false(esk_os_exists(path));
	esk_fault_free(fault);
}

/* ---- SQLite ---- */

static sqlite3 *open_database(const char *path)
{
	sqlite3 *db = NULL;
	if (sqlite3_open(path, &db) != SQLITE_OK ||
		sqlite3_exec(db,
			"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 8",
			NULL, NULL, NULL) != SQLITE_OK) {
		sqlite3_close(db);
		return NULL;
	}
	return db;
}

static int64_t number_of(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *statement = NULL;
	int64_t number = -1;
	if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK &&
		sqlite3_step(statement) == SQLITE_ROW)
		number = sqlite3_column_int64(statement, 0);
	sqlite3_finalize(statement);
	return number;
}

/* Inserts until something fails; returns the rows whose insertion was acknowledged, -1 if not even the table
 * was. */
static int64_t insert_rows(const char *path, int rows)
{
	sqlite3 *db = open_database(path);
	if (db == NULL)
		return -1;
	int64_t done = -1;
	if (sqlite3_exec(db, "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)", NULL, NULL, NULL) == SQLITE_OK)
		done = 0;
	while (done >= 0 && done < rows) {
		if (sqlite3_exec(db, "INSERT INTO t (b) VALUES (hex(randomblob(700)))", NULL, NULL, NULL) !=
			SQLITE_OK)
			break;
		done++;
	}
	sqlite3_close(db);
	return done;
}

static void sqlite_keeps_what_it_acknowledged_over_power_cuts(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "db");
	unsigned interrupted = 0;
	for (uint64_t seed = 0; seed < test_scale(250); seed++) {
		unlink(path);
		unlink(test_path(dir, "db-wal"));
		esk_fault *fault = esk_fault_new(test_seed() + seed);
		esk_fault_vfs_install(fault);
		esk_fault_cut_at(fault, 1 + (test_seed() + seed) * 31 % 300);
		int64_t done = insert_rows(path, 30);
		interrupted += done < 30;
		esk_fault_reboot(fault);
		sqlite3 *db = open_database(path);
		assert_non_null(db);
		int64_t rows = number_of(db, "SELECT count(*) FROM t");
		assert_true(rows == done || rows == done + 1);
		assert_int_equal(
			number_of(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
		assert_int_equal(sqlite3_close(db), SQLITE_OK);
		esk_fault_vfs_remove();
		esk_fault_free(fault);
	}
	assert_true(interrupted > 10);
}

static void sqlite_loses_rows_where_it_does_not_synchronise(void **state)
{
	test_dir *dir = *state;
	const char *path = test_path(dir, "db");
	unsigned lost = 0;
	for (uint64_t seed = 0; seed < 60; seed++) {
		unlink(path);
		unlink(test_path(dir, "db-wal"));
		esk_fault *fault = esk_fault_new(test_seed() + seed);
		esk_fault_vfs_install(fault);
		sqlite3 *db = open_database(path);
		assert_int_equal(
			sqlite3_exec(db, "PRAGMA synchronous = OFF; CREATE TABLE t (a)", NULL, NULL, NULL),
			SQLITE_OK);
		assert_int_equal(sqlite3_exec(db, "INSERT INTO t VALUES (1)", NULL, NULL, NULL), SQLITE_OK);
		esk_fault_cut(fault);
		sqlite3_close(db);
		esk_fault_reboot(fault);
		db = open_database(path);
		lost += db == NULL || number_of(db, "SELECT count(*) FROM t") != 1;
		sqlite3_close(db);
		esk_fault_vfs_remove();
		esk_fault_free(fault);
	}
	assert_true(lost > 10);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, test_dir_make, test_dir_remove)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(synchronised_writes_stay_and_others_are_kept_dropped_or_torn),
		TEST(a_name_is_durable_only_after_sync_dir),
		TEST(a_link_survives_a_power_cut_or_not_and_so_does_the_first_name),
		TEST(a_synchronised_removal_stays),
		TEST(a_directory_that_was_not_synchronised_takes_its_files_along),
		TEST(a_failed_synchronisation_is_not_made_good_by_a_later_one),
		TEST(the_planned_call_fails_and_no_other),
		TEST(hiccups_come_and_the_helpers_ride_over_them),
		TEST(a_full_disk_takes_what_fits_and_then_nothing),
		TEST(a_power_cut_stops_everything_until_the_reboot),
		TEST(volatile_files_are_gone_after_a_power_cut),
		TEST(sqlite_keeps_what_it_acknowledged_over_power_cuts),
		TEST(sqlite_loses_rows_where_it_does_not_synchronise),
	};
	test_begin(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
