/* A repair that fails, is killed, or loses power, at every call of it: the name has a file that opens, at
 * every moment, and a later repair finishes what was left.
 *
 *     test_repair [SEED]     ESK_TEST_SCALE below 100 skips calls; ESK_FAULT_CALL is the one that fails */
#include "unit/fault_rig.h"

#include <signal.h>
#include <sys/wait.h>

/* There are thousands of repairs here, of files that libhdf5 survives: a process for each would take longer.
 */
static const esk_check_options untried = {.struct_size = sizeof(esk_check_options), .untried = true};

#define ROWS 60
#define LOST_ROWS (4 + 3)

/* ---- the damaged store, made once and copied for each turn ---- */

typedef struct damaged {
	char path[160];
	void *file; /* run.h5 */
	size_t file_bytes;
} damaged;

static void *slurp(const char *path, size_t *ret_bytes)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0)
		fail_msg("cannot read %s", path);
	char *data = malloc((size_t)st.st_size + 1);
	assert_int_equal(pread(fd, data, (size_t)st.st_size, 0), st.st_size);
	close(fd);
	*ret_bytes = (size_t)st.st_size;
	return data;
}

static void spill(const char *path, const void *data, size_t bytes)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, bytes, 0), bytes);
	close(fd);
}

static void damage_chunk(const char *path, const char *name, uint64_t chunk)
{
	esk_h5 *file;
	esk_h5_dataset *dataset;
	esk_error err = {0};
	uint64_t address, size;
	uint32_t mask;
	size_t bytes;
	assert_ok(esk_h5_open_read(esk_os_posix(), path, &file, &err), &err);
	assert_ok(esk_h5_dataset_open(file, name, &dataset, &err), &err);
	assert_ok(esk_h5_locate_chunk(dataset, chunk, &address, &size, &mask, &err), &err);
	esk_h5_close(file, NULL);
	uint8_t *data = slurp(path, &bytes);
	for (uint64_t i = size / 3; i <= 2 * size / 3; i++)
		data[address + i] ^= 0x5a;
	spill(path, data, bytes);
	free(data);
}

static damaged damaged_make(test_dir *dir)
{
	damaged d;
	char path[200];
	esk_store *store;
	esk_run *run;
	esk_stream *stream;
	esk_error err = {0};
	esk_run_options options = run_options();
	options.segment_bytes = 0;
	snprintf(d.path, sizeof d.path, "%s/damaged", dir->path);
	assert_ok(esk_store_create(d.path, &err), &err);
	assert_ok(esk_store_open(d.path, NULL, &store, &err), &err);
	assert_ok(esk_run_open(store, "run", &options, &run, &err), &err);
	assert_ok(recording_stream(run, "/", &stream, &err), &err);
	for (uint64_t i = 0; i < ROWS; i++) {
		assert_ok(recording_append(stream, i, SALT, NULL, &err), &err);
		if (i % 8 == 7) /* the ring is small */
			assert_ok(esk_run_commit(run, NULL, &err), &err);
	}
	assert_ok(esk_run_close(run, &err), &err);
	assert_ok(esk_store_close(store, &err), &err);
	snprintf(path, sizeof path, "%s/run.h5", d.path);
	damage_chunk(path, "frame", 3); /* rows 12 to 15 */
	damage_chunk(path, "big", 0);   /* rows 0 to 2 */
	d.file = slurp(path, &d.file_bytes);
	return d;
}

static void damaged_copy(const damaged *d, const rig *g)
{
	char path[300];
	size_t bytes;
	assert_int_equal(mkdir(g->store, 0700), 0);
	snprintf(path, sizeof path, "%s/spool", g->store);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof path, "%s/run.h5", g->store);
	spill(path, d->file, d->file_bytes);
	snprintf(path, sizeof path, "%s/esker.db", d->path);
	void *database = slurp(path, &bytes);
	snprintf(path, sizeof path, "%s/esker.db", g->store);
	spill(path, database, bytes);
	free(database);
}

/* ---- what holds afterwards ---- */

static void check_name(const rig *g, const char *when)
{
	char path[300];
	esk_h5 *file;
	esk_h5_dataset *dataset;
	esk_error err = {0};
	snprintf(path, sizeof path, "%s/run.h5", g->store);
	if (esk_h5_open_read(esk_os_posix(), path, &file, &err) != ESK_OK ||
		esk_h5_dataset_open(file, "frame", &dataset, &err) != ESK_OK)
		fail_msg("%s: %s", when, err.message);
	assert_int_equal(esk_h5_dataset_info(dataset)->rows, ROWS);
	esk_h5_close(file, NULL);
}

static int64_t ask(esk_store *store, const char *sql)
{
	esk_query *query;
	bool row = false;
	esk_error err = {0};
	assert_ok(esk_query_open(store, sql, &query, &err), &err);
	assert_ok(esk_query_step(query, &row, &err), &err);
	assert_true(row);
	int64_t value = esk_query_value(query, 0).integer;
	esk_query_close(query);
	return value;
}

static size_t spool_entries(const rig *g)
{
	char path[300];
	size_t count = 0;
	snprintf(path, sizeof path, "%s/spool", g->store);
	DIR *spool = opendir(path);
	for (struct dirent *entry; (entry = readdir(spool)) != NULL;)
		count += entry->d_name[0] != '.';
	closedir(spool);
	return count;
}

/* The new file has the name, the old one stays, the catalogue knows the gaps, and nothing else is left. A
 * read that failed is damage too: then there may be more gaps. */
static void check_repaired(rig *g, esk_store *store, const damaged *d, bool exactly, const char *when)
{
	char path[300];
	size_t bytes;
	esk_reader *reader;
	esk_error err = {0};
	recording_verify(store);
	snprintf(path, sizeof path, "%s/run.h5.damaged", g->store);
	void *kept = slurp(path, &bytes);
	if (bytes != d->file_bytes || memcmp(kept, d->file, bytes) != 0)
		fail_msg("%s: the old file is not what it was", when);
	free(kept);

	int64_t gaps = ask(store, "SELECT CAST(total(rows) AS INTEGER) FROM gaps WHERE cause = 1");
	if (exactly ? gaps != LOST_ROWS : gaps < LOST_ROWS)
		fail_msg("%s: the catalogue has gaps of %lld rows", when, (long long)gaps);
	assert_ok(esk_reader_open(store, "run", &reader, &err), &err);
	assert_int_equal(recording_rows(reader, "/"), ROWS);
	if (gaps == LOST_ROWS) {
		recording_check_rows(reader, "/", 3, 9, SALT);
		recording_check_rows(reader, "/", 16, ROWS - 16, SALT);
	}
	esk_reader_close(reader);
	if (spool_entries(g) != 0)
		fail_msg("%s: something is left in spool/", when);
}

static void finish(rig *g, const damaged *d, bool exactly, const char *when)
{
	esk_store *store;
	esk_check_report report;
	esk_error err = {0};
	check_name(g, when);
	if (open_store(g, &store, &err) != ESK_OK ||
		esk_store_repair(store, &untried, &report, &err) != ESK_OK)
		fail_msg("%s, and then: %s", when, err.message);
	check_repaired(g, store, d, exactly, when);
	assert_ok(esk_store_close(store, &err), &err);
}

/* ---- the turns ---- */

static int no_link(const esk_os *os, const char *path, const char *name)
{
	(void)os;
	(void)path;
	(void)name;
	return -EPERM;
}

static void begin(rig *g, test_dir *dir, const damaged *d, bool links)
{
	rig_begin(g, dir, test_seed());
	if (!links)
		g->os.link = no_link;
	damaged_copy(d, g);
}

/* Every call from `from` on, or fewer by ESK_TEST_SCALE, or the one of ESK_FAULT_CALL. */
#define each_call(call, calls)                                                                            \
	for (uint64_t call = getenv("ESK_FAULT_CALL") ? strtoull(getenv("ESK_FAULT_CALL"), NULL, 10) : 1, \
		      step_ = getenv("ESK_FAULT_CALL") ? UINT32_MAX                                       \
						       : 100 / esk_min_u64(test_scale(99), 100);          \
		call <= (calls); call += step_)

/* Repairs with the call failing that has the number; returns how many there were. */
static uint64_t repair_with_fault(
	test_dir *dir, const damaged *d, bool links, uint64_t call, int errnum, uint64_t *failures)
{
	rig g;
	char when[80];
	esk_store *store;
	esk_check_report report;
	esk_error err = {0};
	begin(&g, dir, d, links);
	snprintf(when, sizeof when, "call %llu fails with %s", (unsigned long long)call,
		strerrorname_np(errnum));
	assert_ok(open_store(&g, &store, &err), &err);
	esk_fault_clear(g.fault);
	esk_fault_fail_at(g.fault, call, errnum, false);

	esk_status status = esk_store_repair(store, &untried, &report, &err);
	uint64_t calls = esk_fault_calls(g.fault);
	*failures += status != ESK_OK;
	esk_fault_clear(g.fault);
	check_name(&g, when);
	if (esk_store_repair(store, &untried, &report, &err) != ESK_OK) /* of the same handle */
		fail_msg("%s, and then: %s", when, err.message);
	check_repaired(&g, store, d, call == 0, when);
	assert_ok(esk_store_close(store, &err), &err);
	rig_end(&g);
	return calls;
}

static void a_repair_that_fails_leaves_the_name_with_a_file_and_a_later_one_succeeds(void **state)
{
	damaged d = damaged_make(*state);
	for (int links = 0; links < 2; links++) {
		uint64_t failures = 0, done = 0;
		uint64_t calls = repair_with_fault(*state, &d, links, 0, EIO, &failures);
		assert_int_equal(failures, 0);
		each_call(call, calls)
		{
			repair_with_fault(*state, &d, links, call, links ? EIO : ENOSPC, &failures);
			done++;
		}
		print_message("%llu of %llu calls failed %s links, %llu repairs failed with them\n",
			(unsigned long long)done, (unsigned long long)calls, links ? "with" : "without",
			(unsigned long long)failures);
		assert_true(failures > 0 || getenv("ESK_FAULT_CALL") != NULL);
	}
	free(d.file);
}

static uint64_t repair_with_cut(test_dir *dir, const damaged *d, bool links, uint64_t call)
{
	rig g;
	char when[80];
	esk_store *store;
	esk_check_report report;
	esk_error err = {0};
	begin(&g, dir, d, links);
	snprintf(when, sizeof when, "the power fails in call %llu", (unsigned long long)call);
	assert_ok(open_store(&g, &store, &err), &err);
	esk_fault_clear(g.fault);
	esk_fault_cut_at(g.fault, call);
	esk_store_repair(store, &untried, &report, &err);
	uint64_t calls = esk_fault_calls(g.fault);
	esk_store_close(store, &err);
	esk_fault_reboot(g.fault);
	finish(&g, d, false, when);
	rig_end(&g);
	return calls;
}

static void a_power_cut_in_a_repair_leaves_the_name_with_a_file_and_a_later_one_succeeds(void **state)
{
	damaged d = damaged_make(*state);
	for (int links = 0; links < 2; links++) {
		uint64_t calls = repair_with_cut(*state, &d, links, 0), done = 0;
		each_call(call, calls)
		{
			repair_with_cut(*state, &d, links, call);
			done++;
		}
		print_message("%llu of %llu calls lost power\n", (unsigned long long)done,
			(unsigned long long)calls);
	}
	free(d.file);
}

/* ---- killed ---- */

static uint64_t changes, kill_at;

/* Before each call that changes something; what is only read cannot be left half done. */
static const esk_os *change(void)
{
	if (++changes == kill_at)
		raise(SIGKILL);
	return esk_os_posix();
}

static int killed_open(const esk_os *os, const char *path, int flags, mode_t mode)
{
	(void)os;
	const esk_os *real = (flags & O_CREAT) != 0 ? change() : esk_os_posix();
	return real->open(real, path, flags, mode);
}

static ssize_t killed_pwrite(const esk_os *os, int fd, const void *buf, size_t size, uint64_t offset)
{
	(void)os;
	return change()->pwrite(esk_os_posix(), fd, buf, size, offset);
}

static int killed_truncate(const esk_os *os, int fd, uint64_t size)
{
	(void)os;
	return change()->truncate(esk_os_posix(), fd, size);
}

static int killed_rename(const esk_os *os, const char *from, const char *to)
{
	(void)os;
	return change()->rename(esk_os_posix(), from, to);
}

static int killed_link(const esk_os *os, const char *path, const char *name)
{
	(void)os;
	return change()->link(esk_os_posix(), path, name);
}

static int killed_unlink(const esk_os *os, const char *path)
{
	(void)os;
	return change()->unlink(esk_os_posix(), path);
}

static void use_killing_os(rig *g, bool links)
{
	g->os = *esk_os_posix();
	g->os.open = killed_open;
	g->os.pwrite = killed_pwrite;
	g->os.truncate = killed_truncate;
	g->os.rename = killed_rename;
	g->os.link = links ? killed_link : no_link;
	g->os.unlink = killed_unlink;
	kill_at = 0;
}

/* Returns how many changes a repair makes, where none kills it. */
static uint64_t repair_in_child(rig *g, uint64_t call)
{
	int ends[2], status;
	uint64_t made = 0;
	assert_int_equal(pipe(ends), 0);
	pid_t child = fork();
	if (child == 0) {
		esk_store *store;
		esk_check_report report;
		bool done = open_store(g, &store, NULL) == ESK_OK;
		changes = 0;
		kill_at = call;
		done = done && esk_store_repair(store, &untried, &report, NULL) == ESK_OK;
		_exit(done && write(ends[1], &changes, sizeof changes) == sizeof changes ? 0 : 1);
	}
	close(ends[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status)) {
		assert_int_equal(WEXITSTATUS(status), 0);
		assert_int_equal(read(ends[0], &made, sizeof made), sizeof made);
	} else {
		assert_int_equal(WTERMSIG(status), SIGKILL);
	}
	close(ends[0]);
	return made;
}

static uint64_t repair_killed(test_dir *dir, const damaged *d, bool links, uint64_t call)
{
	rig g;
	char when[80];
	begin(&g, dir, d, links);
	use_killing_os(&g, links);
	snprintf(when, sizeof when, "killed before change %llu", (unsigned long long)call);
	uint64_t made = repair_in_child(&g, call);
	finish(&g, d, true, when);
	rig_end(&g);
	return made;
}

static void a_killed_repair_leaves_the_name_with_a_file_and_a_later_one_succeeds(void **state)
{
	damaged d = damaged_make(*state);
	for (int links = 0; links < 2; links++) {
		uint64_t made = repair_killed(*state, &d, links, 0), killed = 0;
		assert_true(made > 10);
		each_call(call, made)
		{
			repair_killed(*state, &d, links, call);
			killed++;
		}
		print_message("%llu of %llu changes: killed before them\n", (unsigned long long)killed,
			(unsigned long long)made);
	}
	free(d.file);
}

/* ---- beside others ---- */

static void what_a_dead_repair_left_is_removed_when_the_store_is_opened(void **state)
{
	rig g;
	char path[300];
	esk_store *store;
	esk_error err = {0};
	damaged d = damaged_make(*state);
	static const char *const names[] = {
		"run.repair", "run.repair-journal", "run.damaged", "run.repaired", "run.lock"};
	begin(&g, *state, &d, true);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path, "%s/spool/%s", g.store, names[i]);
		spill(path, "left", 4);
	}
	esk_store_options options = ESK_STORE_OPTIONS_INIT;
	options.read_only = true;
	assert_ok(esk_store_open_in(&g.environment, g.store, &options, &store, &err), &err);
	assert_ok(esk_store_close(store, &err), &err);
	assert_int_equal(spool_entries(&g), 5);
	assert_ok(open_store(&g, &store, &err), &err);
	assert_int_equal(spool_entries(&g), 0);
	assert_ok(esk_store_close(store, &err), &err);
	finish(&g, &d, true, "leftovers");
	rig_end(&g);
	free(d.file);
}

static void a_run_that_somebody_has_is_neither_repaired_nor_cleaned_up(void **state)
{
	rig g;
	char path[300], kept[300];
	esk_run_hold hold;
	esk_store *store;
	esk_check_report report;
	esk_error err = {0};
	damaged d = damaged_make(*state);
	begin(&g, *state, &d, true);
	assert_ok(esk_run_hold_take(&g.os, g.store, "run", &hold, &err), &err);
	snprintf(path, sizeof path, "%s/spool/run.repair", g.store);
	snprintf(kept, sizeof kept, "%s/run.h5.damaged", g.store);
	spill(path, "in the making", 13);
	assert_ok(open_store(&g, &store, &err), &err);
	assert_ok(esk_store_repair(store, &untried, &report, &err), &err);
	assert_true(esk_os_exists(path));
	assert_false(esk_os_exists(kept));
	esk_run_hold_drop(&hold);
	assert_ok(esk_store_repair(store, &untried, &report, &err), &err);
	check_repaired(&g, store, &d, true, "once it is free");
	assert_ok(esk_store_close(store, &err), &err);
	rig_end(&g);
	free(d.file);
}

/* The old file's journal must not lie beside the new file, whose writers would refuse it. */
static void a_commit_left_in_the_journal_is_completed_first(void **state)
{
	rig g;
	char path[300], journal[320];
	esk_store *store;
	esk_h5 *file;
	esk_check_report report;
	esk_error err = {0};
	damaged d = damaged_make(*state);
	begin(&g, *state, &d, true);
	assert_ok(open_store(&g, &store, &err), &err);
	snprintf(path, sizeof path, "%s/run.h5", g.store);
	snprintf(journal, sizeof journal, "%s-journal", path);
	assert_ok(esk_h5_open_write(&g.os, path, &file, NULL, &err), &err);
	assert_ok(esk_h5_set_text(file, "/", "note", "of the last commit", &err), &err);
	assert_ok(esk_h5_commit_begin(file, &err), &err);
	assert_ok(esk_h5_commit_finish(file, NULL, &err), &err);
	esk_h5_abandon(file);
	assert_true(esk_os_exists(journal));
	assert_ok(esk_store_repair(store, &untried, &report, &err), &err);
	assert_false(esk_os_exists(journal));
	assert_true(report.gap_rows == LOST_ROWS);
	assert_ok(esk_h5_open_write(&g.os, path, &file, NULL, &err), &err);
	char *text;
	assert_ok(esk_h5_get_text(file, "/", "note", &text, &err), &err);
	assert_string_equal(text, "of the last commit");
	free(text);
	esk_h5_close(file, NULL);
	recording_verify(store);
	assert_ok(esk_store_close(store, &err), &err);
	rig_end(&g);
	free(d.file);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		ONE(what_a_dead_repair_left_is_removed_when_the_store_is_opened),
		ONE(a_run_that_somebody_has_is_neither_repaired_nor_cleaned_up),
		ONE(a_commit_left_in_the_journal_is_completed_first),
		ONE(a_repair_that_fails_leaves_the_name_with_a_file_and_a_later_one_succeeds),
		ONE(a_power_cut_in_a_repair_leaves_the_name_with_a_file_and_a_later_one_succeeds),
		ONE(a_killed_repair_leaves_the_name_with_a_file_and_a_later_one_succeeds),
	};
	return test_run(tests);
}
