/* Verify finds what was done to files, repair salvages around it, reindex rebuilds: on files that are damaged
 * byte by byte.
 *
 *     test_check [SEED]  */
#include "unit/recording_place.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SALT 13
#define ROWS 60

typedef struct findings {
	uint64_t count;
	char last_file[256];
	char last_dataset[256];
	char last_message[512];
	esk_status last_code;
	uint64_t crashing; /* files that a child process did not survive */
	char crashing_file[256];
} findings;

static void note_finding(void *arg, const esk_finding *finding)
{
	findings *f = arg;
	f->count++;
	f->last_code = finding->code;
	snprintf(f->last_file, sizeof f->last_file, "%s", finding->file);
	snprintf(f->last_dataset, sizeof f->last_dataset, "%s",
		finding->dataset != NULL ? finding->dataset : "");
	snprintf(f->last_message, sizeof f->last_message, "%s", finding->message);
	if (strstr(finding->message, "does not survive") != NULL) {
		assert_int_equal(finding->code, ESK_ECORRUPT);
		f->crashing++;
		snprintf(f->crashing_file, sizeof f->crashing_file, "%s", finding->file);
	}
	if (getenv("ESK_TEST_VERBOSE") != NULL)
		recording_print_finding(NULL, finding);
}

static esk_check_report verify(place *p, findings *f)
{
	esk_check_options options = ESK_CHECK_OPTIONS_INIT;
	esk_check_report report;
	esk_error err = {0};
	*f = (findings){0};
	options.finding = note_finding;
	options.arg = f;
	options.threads = 2;
	assert_ok(esk_store_verify(p->store, &options, &report, &err), &err);
	assert_int_equal(report.findings, f->count);
	return report;
}

static esk_check_report repair(place *p, findings *f)
{
	esk_check_options options = ESK_CHECK_OPTIONS_INIT;
	esk_check_report report;
	esk_error err = {0};
	*f = (findings){0};
	options.finding = note_finding;
	options.arg = f;
	assert_ok(esk_store_repair(p->store, &options, &report, &err), &err);
	return report;
}

/* A run with fletcher32 on what is not compressed to the bone, in one segment or several. */
static void record_checked(place *p, const char *name, uint64_t segment_bytes)
{
	esk_run_options options = place_options(128u << 10);
	esk_error err = {0};
	esk_stream *stream;
	options.segment_bytes = segment_bytes;
	esk_run *run = place_run(p, name, &options);
	assert_ok(recording_stream_with(run, "/", NULL, &stream, &err), &err);
	for (uint64_t i = 0; i < ROWS; i++) {
		assert_ok(recording_append(stream, i, SALT, NULL, &err), &err);
		if (i % 10 == 9)
			assert_ok(esk_run_commit(run, NULL, &err), &err);
	}
	place_run_close(run);
}

/* Address and stored size of a chunk. */
static void locate(
	const char *path, const char *dataset, uint64_t chunk, uint64_t *ret_address, uint64_t *ret_size)
{
	esk_h5 *file;
	esk_h5_dataset *d;
	esk_error err = {0};
	uint32_t mask;
	assert_ok(esk_h5_open_read(esk_os_posix(), path, &file, &err), &err);
	assert_ok(esk_h5_dataset_open(file, dataset, &d, &err), &err);
	assert_ok(esk_h5_locate_chunk(d, chunk, ret_address, ret_size, &mask, &err), &err);
	assert_true(*ret_size > 0);
	esk_h5_close(file, NULL);
}

static void flip(const char *path, uint64_t offset, uint64_t size)
{
	int fd = open(path, O_RDWR);
	uint8_t byte;
	assert_true(fd >= 0);
	for (uint64_t i = 0; i < size; i++) {
		assert_int_equal(pread(fd, &byte, 1, (off_t)(offset + i)), 1);
		byte ^= 0x5a;
		assert_int_equal(pwrite(fd, &byte, 1, (off_t)(offset + i)), 1);
	}
	close(fd);
}

static void damage_chunk(const char *path, const char *dataset, uint64_t chunk)
{
	uint64_t address, size;
	locate(path, dataset, chunk, &address, &size);
	flip(path, address + size / 3, size / 3 + 1);
}

static void a_sound_store_has_no_findings(void **state)
{
	place p = place_make(*state);
	findings f;
	record_checked(&p, "one", 32u << 10);
	record_checked(&p, "two", 0);
	esk_check_report report = verify(&p, &f);
	assert_int_equal(report.findings, 0);
	assert_int_equal(report.runs, 2);
	assert_true(report.files > 3);
	assert_true(report.chunks > ROWS / 4 * 2);
	assert_true(report.bytes > 0);
	size_t files = place_files(&p);
	report = repair(&p, &f);
	assert_int_equal(report.findings, 0);
	assert_int_equal(place_files(&p), files);
	esk_check_options options = ESK_CHECK_OPTIONS_INIT;
	esk_error err = {0};
	options.run = "nobody";
	assert_int_equal(esk_store_verify(p.store, &options, &report, &err), ESK_ENOTFOUND);
	assert_int_equal(esk_store_repair(p.store, &options, &report, &err), ESK_ENOTFOUND);
	options.run = "two";
	assert_ok(esk_store_verify(p.store, &options, &report, &err), &err);
	assert_int_equal(report.runs, 1);
	assert_int_equal(report.files, 1);
	place_close(&p);
}

static void damaged_chunks_are_found_and_repaired_around(void **state)
{
	place p = place_make(*state);
	findings f;
	esk_error err = {0};
	char path[200], kept[220];
	record_checked(&p, "run", 0);
	place_close(&p);
	snprintf(path, sizeof path, "%s/run.h5", p.path);
	damage_chunk(path, "frame", 3); /* rows 12 to 15 */
	damage_chunk(path, "big", 0);   /* rows 0 to 2 */
	place_open(&p);
	esk_check_report report = verify(&p, &f);
	assert_int_equal(report.findings, 2);
	assert_int_equal(f.last_code, ESK_ECORRUPT);
	esk_reader *reader = place_reader(&p, "run");
	uint8_t frame[RECORDING_FRAME_BYTES];
	uint64_t row = 15; /* the last one of the chunk: its decoding sees all of it */
	esk_dataset *frames = recording_find(reader, "/", "frame");
	assert_int_equal(esk_dataset_read_rows(frames, &row, 1, frame, sizeof frame, &err), ESK_ECORRUPT);
	assert_non_null(strstr(err.message, "frame"));
	esk_reader_close(reader);

	report = repair(&p, &f);
	assert_int_equal(report.findings, 2);
	assert_int_equal(report.gap_rows, 4 + 3);
	snprintf(kept, sizeof kept, "%s.damaged", path);
	assert_true(esk_os_exists(kept));
	report = verify(&p, &f);
	assert_int_equal(report.findings, 0);
	assert_int_equal(place_query(&p, "SELECT count(*) FROM gaps WHERE cause = 1"), 2);
	assert_int_equal(place_query(&p, "SELECT total(rows) FROM gaps"), 7);
	reader = place_reader(&p, "run");
	assert_int_equal(recording_rows(reader, "/"), ROWS);
	recording_check_rows(reader, "/", 3, 9, SALT);
	recording_check_rows(reader, "/", 16, ROWS - 16, SALT);
	frames = recording_find(reader, "/", "frame");
	assert_ok(esk_dataset_read_rows(frames, &row, 1, frame, sizeof frame, &err), &err);
	for (size_t b = 0; b < sizeof frame; b++)
		assert_int_equal(frame[b], 0);
	esk_reader_close(reader);

	esk_run_options options = place_options(128u << 10); /* and it is gone on with */
	esk_stream *stream;
	options.append = true;
	esk_run *run = place_run(&p, "run", &options);
	assert_ok(recording_stream_with(run, "/", NULL, &stream, &err), &err);
	assert_ok(recording_append(stream, ROWS, SALT, &row, &err), &err);
	assert_int_equal(row, ROWS);
	place_run_close(run);
	reader = place_reader(&p, "run");
	recording_check_rows(reader, "/", 16, ROWS - 15, SALT);
	esk_reader_close(reader);
	assert_int_equal(verify(&p, &f).findings, 0);
	place_close(&p);
}

/* ---- damage that libhdf5 (1.10.8) does not survive ---- */

/* Puts `bytes` in the place of `wanted`, which stands in the file at `skip` bytes before it. */
static void overwrite(
	const char *path, const void *wanted, size_t wanted_size, size_t skip, const void *bytes, size_t size)
{
	struct stat st;
	int fd = open(path, O_RDWR);
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	char *content = malloc((size_t)st.st_size);
	assert_int_equal(pread(fd, content, (size_t)st.st_size, 0), st.st_size);
	char *found = memmem(content, (size_t)st.st_size, wanted, wanted_size);
	assert_non_null(found);
	assert_int_equal(pwrite(fd, bytes, size, found - content + (off_t)skip), size);
	free(content);
	close(fd);
}

/* The first text of a heap has more bytes than memory has behind it. */
static void damage_heap(const char *path)
{
	static const uint64_t size = UINT64_C(1) << 32;
	overwrite(path, "GCOL\1", 5, 16 + 8, &size, sizeof size);
}

static void check_crashing(test_dir *dir, bool sealed)
{
	place p = place_make(dir);
	findings f;
	esk_check_report report;
	esk_error err = {0};
	char path[400], name[256] = "bad.h5";
	record_checked(&p, "bad", sealed ? 32u << 10 : 0);
	record_checked(&p, "good", 0);
	if (sealed) {
		esk_query *query;
		bool row;
		assert_ok(esk_query_open(p.store,
				  "SELECT file FROM segments s JOIN runs r ON r.id = s.run_id WHERE r.name = "
				  "'bad' "
				  "AND sealed ORDER BY number LIMIT 1",
				  &query, &err),
			&err);
		assert_ok(esk_query_step(query, &row, &err), &err);
		snprintf(name, sizeof name, "%s", (const char *)esk_query_value(query, 0).data);
		esk_query_close(query);
	}
	uint64_t files = verify(&p, &f).files;
	snprintf(path, sizeof path, "%s/%s", p.path, name);
	damage_heap(path);
	if (esk_h5_probe(path, &err) == ESK_OK) {
		print_message("this libhdf5 survives it\n");
		place_close(&p);
		return;
	}
	report = verify(&p, &f);
	assert_int_equal(report.files, files);
	assert_int_equal(report.runs, 2);
	assert_true(report.findings > 0);
	assert_int_equal(f.crashing, 1);
	assert_string_equal(f.crashing_file, name);
	report = repair(&p, &f);
	assert_int_equal(report.files, files);
	assert_int_equal(f.crashing, 1);
	esk_check_options options = ESK_CHECK_OPTIONS_INIT;
	options.run = "bad";
	options.finding = note_finding;
	options.arg = &f;
	assert_ok(esk_store_repair(p.store, &options, &report, &err), &err);
	assert_int_equal(f.crashing, 2);
	assert_string_equal(f.crashing_file, name);
	snprintf(path, sizeof path, "%s/%s.damaged", p.path, name);
	assert_false(esk_os_exists(path));
	place_close(&p);
	f = (findings){0};
	assert_ok(esk_store_reindex(p.path, &options, &report, &err), &err);
	assert_int_equal(report.files, files);
	assert_int_equal(f.crashing, 1);
	place_open(&p);
	esk_reader *reader = place_reader(&p, "good");
	recording_check_rows(reader, "/", 0, ROWS, SALT);
	esk_reader_close(reader);
	place_close(&p);
}

static void a_file_that_crashes_libhdf5_is_a_finding(void **state)
{
	check_crashing(*state, false);
}

static void a_sealed_segment_that_crashes_libhdf5_is_a_finding(void **state)
{
	check_crashing(*state, true);
}

/* Where children are ignored, nobody tells how they ended. */
static void a_program_that_ignores_its_children_learns_of_crashes_too(void **state)
{
	signal(SIGCHLD, SIG_IGN);
	check_crashing(*state, false);
	signal(SIGCHLD, SIG_DFL);
}

/* How many of the next children stand still, as one does that was forked while another thread held a lock. */
static _Atomic unsigned *standing_still;

static void stand_still(void)
{
	if (standing_still == NULL || atomic_load(standing_still) == 0)
		return;
	atomic_fetch_sub(standing_still, 1);
	for (;;)
		pause();
}

static void where_a_child_stands_still_another_goes_on(void **state)
{
	place p = place_make(*state);
	findings f;
	record_checked(&p, "one", 0);
	standing_still =
		mmap(NULL, sizeof *standing_still, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(standing_still != MAP_FAILED);
	assert_int_equal(pthread_atfork(NULL, NULL, stand_still), 0);
	atomic_store(standing_still, 1);
	esk_check_report report = verify(&p, &f);
	assert_int_equal(atomic_load(standing_still), 0);
	assert_int_equal(report.findings, 0);
	assert_int_equal(report.files, 1);
	place_close(&p);
}

/* A file that nobody knows is tried out before the catalogue takes it, as one that cannot be read. */
static void opening_a_store_survives_a_file_that_crashes_libhdf5(void **state)
{
	place p = place_make(*state);
	char path[200], other[200], command[500];
	esk_error err = {0};
	findings f;
	record_checked(&p, "good", 0);
	place_close(&p);
	snprintf(path, sizeof path, "%s/good.h5", p.path);
	snprintf(other, sizeof other, "%s/stray.h5", p.path);
	snprintf(command, sizeof command, "cp %s %s", path, other);
	assert_int_equal(system(command), 0);
	damage_heap(other);
	if (esk_h5_probe(other, &err) == ESK_OK)
		return;
	for (int i = 0; i < 2; i++) {
		place_open(&p);
		assert_int_equal(place_query(&p, "SELECT count(*) FROM streams"), 1);
		esk_reader *reader = place_reader(&p, "good");
		recording_check_rows(reader, "/", 0, ROWS, SALT);
		esk_reader_close(reader);
		assert_int_equal(verify(&p, &f).findings, 1);
		assert_string_equal(f.crashing_file, "stray.h5");
		place_close(&p);
	}
}

/* ---- damage anywhere ----
 * In a child process, as the program does it: libhdf5 1.10.8 itself does not survive every damage to
 * metadata. */

/* Under AddressSanitizer, copies that libhdf5 gets wrong on damage are libhdf5's; ours are still found. */
const char *__asan_default_suppressions(void);
const char *__asan_default_suppressions(void)
{
	return "interceptor_via_lib:libhdf5";
}

typedef enum verdict { CLEAN = 10, NOT_CLEAN, WORSE, NOT_FOUND } verdict;

static void read_everything(esk_reader *reader)
{
	esk_error err;
	for (size_t i = 0; i < esk_reader_dataset_count(reader); i++) {
		esk_dataset *d = esk_reader_dataset_at(reader, i);
		esk_dataset_info info = {.struct_size = sizeof info};
		if (esk_dataset_get_info(d, &info, &err) != ESK_OK || info.rows > 1000 ||
			info.column.dtype.kind == ESK_STRING)
			continue;
		uint64_t bytes = info.rows * esk_column_cell_bytes(&info.column);
		void *out = malloc(bytes + 1);
		esk_dataset_read(d, 0, (int64_t)info.rows, 1, out, bytes, &err);
		free(out);
	}
}

static verdict look_after(place *p, bool cut)
{
	esk_check_report report;
	esk_reader *reader;
	esk_error err;
	findings f;
	verdict v = NOT_CLEAN;
	place_open(p);
	uint64_t before = verify(p, &f).findings;
	if (cut && before == 0)
		return NOT_FOUND;
	if (esk_store_repair(p->store, NULL, &report, &err) == ESK_OK && before > 0) {
		uint64_t after = verify(p, &f).findings;
		v = after == 0 ? CLEAN : after > before ? WORSE : NOT_CLEAN;
	}
	if (esk_reader_open(p->store, "run", &reader, &err) == ESK_OK) {
		read_everything(reader);
		esk_reader_close(reader);
	}
	esk_store_close(p->store, &err);
	return v;
}

/* How the child ended, as waitpid says. */
static int in_a_child(place *p, bool cut)
{
	int status;
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		signal(SIGSEGV, SIG_DFL); /* a sanitizer's own verdicts still end it by exit code */
		signal(SIGBUS, SIG_DFL);
		signal(SIGFPE, SIG_DFL);
		alarm(120); /* it may loop, too */
		_exit(look_after(p, cut));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

/* Bytes flipped anywhere in a file are survived by verify, repair and readers (where libhdf5 survives them),
 * and repair never makes it worse. */
static void damage_anywhere_is_survived(void **state)
{
	test_dir *dir = *state;
	uint64_t turns = test_scale(25), repaired = 0, died = 0;
	for (uint64_t turn = 0; turn < turns; turn++) {
		place p = {.dir = dir};
		esk_error err = {0};
		char path[200];
		struct stat st;
		uint64_t seed = mix(test_seed() * 1000 + turn);
		bool cut = turn % 5 == 4;
		snprintf(p.path, sizeof p.path, "%s/store%llu", dir->path, (unsigned long long)turn);
		assert_ok(esk_store_create(p.path, &err), &err);
		place_open(&p);
		record_checked(&p, "run", 0);
		place_close(&p);
		snprintf(path, sizeof path, "%s/run.h5", p.path);
		assert_int_equal(stat(path, &st), 0);
		for (uint64_t k = 0; k < 1 + turn % 4; k++)
			flip(path, mix(seed + k) % (uint64_t)(st.st_size - 16), 1 + seed % 16);
		if (cut)
			assert_int_equal(truncate(path, st.st_size * (off_t)(40 + seed % 50) / 100), 0);
		int status = in_a_child(&p, cut);
		if (WIFSIGNALED(status)) { /* whatever it was doing, the run has a file */
			died++;
			assert_true(esk_os_exists(path));
			continue;
		}
		if (WEXITSTATUS(status) != CLEAN && WEXITSTATUS(status) != NOT_CLEAN)
			fail_msg("turn %llu ended with %d (%d: more findings after repair, %d: a cut file "
				 "was not found)",
				(unsigned long long)turn, WEXITSTATUS(status), WORSE, NOT_FOUND);
		repaired += WEXITSTATUS(status) == CLEAN;
	}
	print_message("of %llu damaged files %llu are clean after repair; libhdf5 did not survive %llu\n",
		(unsigned long long)turns, (unsigned long long)repaired, (unsigned long long)died);
	assert_true(died * 4 <= turns);
}

static void execute(const char *database, const char *sql)
{
	char command[600];
	snprintf(command, sizeof command,
		"python3 -c 'import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); "
		"c.commit()' "
		"%s \"%s\"",
		database, sql);
	assert_int_equal(system(command), 0);
}

static void a_catalogue_that_disagrees_is_found_and_rebuilt(void **state)
{
	place p = place_make(*state);
	findings f;
	char database[200];
	esk_error err = {0};
	esk_check_report report;
	record_checked(&p, "run", 32u << 10);
	place_close(&p);
	snprintf(database, sizeof database, "%s/esker.db", p.path);
	execute(database, "UPDATE extents SET rows = rows + 5 WHERE segment = 0");
	place_open(&p);
	assert_true(verify(&p, &f).findings > 0);
	assert_non_null(strstr(f.last_message, "reindex"));
	place_close(&p);
	execute(database, "UPDATE extents SET rows = rows - 5 WHERE segment = 0");
	execute(database, "DELETE FROM extents WHERE segment = 0");
	place_open(&p);
	assert_true(verify(&p, &f).findings > 0); /* rows that the catalogue does not know of */
	place_close(&p);
	assert_ok(esk_store_reindex(p.path, NULL, &report, &err), &err);
	place_open(&p);
	assert_int_equal(verify(&p, &f).findings, 0);
	place_close(&p);
}

static void reindex_waits_for_nobody(void **state)
{
	place p = place_make(*state);
	esk_error err = {0};
	esk_check_report report = {.runs = 77};
	findings f;
	esk_run_options options = place_options(128u << 10);
	esk_run *run = place_run(&p, "live", &options);
	place_stream(run, "s", "x:i32");
	assert_int_equal(esk_store_reindex(p.path, NULL, &report, &err), ESK_EBUSY);
	assert_non_null(strstr(err.message, "\"live\""));
	assert_int_equal(report.runs, 77);
	assert_int_equal(verify(&p, &f).findings, 0); /* also while it is recorded */
	place_run_close(run);
	place_close(&p);
	assert_ok(esk_store_reindex(p.path, NULL, &report, &err), &err);
	assert_int_equal(report.runs, 1);
	assert_int_equal(esk_store_reindex("/nonexistent/store", NULL, &report, &err), ESK_ENOTFOUND);
}

static bool cancel(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
	uint64_t *calls = arg;
	assert_true(done_bytes <= total_bytes * 2);
	return ++*calls > 1000000;
}

static void a_cancelled_check_says_so_and_changes_nothing(void **state)
{
	place p = place_make(*state);
	esk_error err = {0};
	esk_check_report report;
	esk_check_options options = ESK_CHECK_OPTIONS_INIT;
	uint64_t calls = 0;
	char path[200], kept[220];
	findings f;
	record_checked(&p, "run", 0);
	options.progress = cancel;
	options.arg = &calls;
	assert_int_equal(esk_store_verify(p.store, &options, &report, &err), ESK_ECLOSED);
	assert_int_equal(calls, 1);
	place_close(&p);
	calls = 0;
	assert_int_equal(esk_store_reindex(p.path, &options, &report, &err), ESK_ECLOSED);
	assert_int_equal(calls, 1);
	snprintf(path, sizeof path, "%s/run.h5", p.path);
	damage_chunk(path, "frame", 0);
	place_open(&p);
	assert_true(verify(&p, &f).findings > 0);
	calls = 0;
	assert_int_equal(esk_store_repair(p.store, &options, &report, &err), ESK_ECLOSED);
	snprintf(kept, sizeof kept, "%s.damaged", path);
	assert_false(esk_os_exists(kept));
	place_close(&p);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		ONE(a_sound_store_has_no_findings),
		ONE(damaged_chunks_are_found_and_repaired_around),
		ONE(a_file_that_crashes_libhdf5_is_a_finding),
		ONE(a_sealed_segment_that_crashes_libhdf5_is_a_finding),
		ONE(a_program_that_ignores_its_children_learns_of_crashes_too),
		ONE(where_a_child_stands_still_another_goes_on),
		ONE(opening_a_store_survives_a_file_that_crashes_libhdf5),
		ONE(damage_anywhere_is_survived),
		ONE(a_catalogue_that_disagrees_is_found_and_rebuilt),
		ONE(reindex_waits_for_nobody),
		ONE(a_cancelled_check_says_so_and_changes_nothing),
	};
	return test_run(tests);
}
