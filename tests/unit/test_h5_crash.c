/* h5: whatever happens between two commits, stock libhdf5 finds the file as of the last one.
 *
 * The table in `world` says what a file must hold; verify() compares it with what plain libhdf5 reads. */
#include "unit/h5_lines.h"

#include "support/fault_os.h"
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

enum { SLOTS = 14 };

/* ---- a world of random things ---- */

typedef enum kind { NOTHING, NUMBERS, STRINGS, CONTIGUOUS, GROUP, KINDS } kind;

typedef struct slot {
	kind kind;
	uint64_t seed;
	uint64_t rows; /* of a group: length of its text */
} slot;

typedef struct world {
	slot slots[SLOTS];
} world;

static const char *slot_path(size_t i)
{
	static char path[64];
	snprintf(path, sizeof path, "w%zu/in/thing%zu", i % 3, i);
	return path;
}

/* Any libhdf5 call works on the driver: this one writes in pieces, from libhdf5's own buffers. */
static void contiguous_create(esk_h5 *file, const char *path, uint64_t seed, uint64_t rows)
{
	hsize_t dims[2] = {rows, COLUMNS};
	hid_t links = esk_h5_link_properties(path), space = H5Screate_simple(2, dims, NULL);
	hid_t dataset = H5Dcreate2(file->id, path, H5T_STD_U32LE, space, links, H5P_DEFAULT, H5P_DEFAULT);

	for (hsize_t row = 0; row < rows; row++) {
		hsize_t start[2] = {row, 0}, count[2] = {1, COLUMNS};
		uint32_t values[COLUMNS];
		hid_t memory = H5Screate_simple(2, count, NULL);
		for (uint32_t i = 0; i < COLUMNS; i++)
			values[i] = value_of(seed, row, i);
		H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL);
		assert_true(H5Dwrite(dataset, H5T_NATIVE_UINT32, memory, space, H5P_DEFAULT, values) >= 0);
		H5Sclose(memory);
	}
	H5Dclose(dataset);
	H5Sclose(space);
	H5Pclose(links);
}

static char *long_text(uint64_t seed, uint64_t size)
{
	char *text = malloc(size + 1);
	for (uint64_t i = 0; i < size; i++)
		text[i] = (char)('a' + mix(seed + i) % 26);
	text[size] = '\0';
	return text;
}

static void group_write(esk_h5 *file, const char *path, const slot *s)
{
	char *text = long_text(s->seed, s->rows);
	assert_ok(esk_h5_make_group(file, path, &err), &err);
	assert_ok(esk_h5_set_text(file, path, "text", text, &err), &err);
	assert_ok(esk_h5_set_u64s(file, path, "numbers", &s->seed, 1, &err), &err);
	free(text);
}

static void slot_create(esk_h5 *file, const char *path, slot *s)
{
	*s = (slot){(kind)(1 + draw(KINDS - 1)), draw(1u << 30), 0};
	if (s->kind == NUMBERS)
		assert_non_null(numbers_create(file, path));
	else if (s->kind == STRINGS)
		assert_non_null(strings_create(file, path));
	else if (s->kind == CONTIGUOUS)
		contiguous_create(file, path, s->seed, s->rows = 1 + draw(300));
	else
		s->rows = draw(10) == 0 ? 100000 : draw(300);
	if (s->kind == GROUP)
		group_write(file, path, s);
}

static void slot_grow(esk_h5 *file, const char *path, slot *s)
{
	uint64_t rows = s->rows + draw(3 * CHUNK_ROWS);
	esk_h5_dataset *dataset = NULL;

	if (s->kind == GROUP) {
		s->rows = draw(2000);
		s->seed++;
		group_write(file, path, s);
	} else if (s->kind == NUMBERS || s->kind == STRINGS) {
		assert_ok(esk_h5_dataset_open(file, path, &dataset, &err), &err);
		assert_int_equal(esk_h5_dataset_info(dataset)->rows, s->rows);
		assert_ok((s->kind == NUMBERS ? numbers_append : strings_append)(
				  dataset, s->seed, s->rows, rows),
			&err);
		s->rows = rows;
	}
}

static void world_change(esk_h5 *file, world *w)
{
	size_t i = draw(SLOTS);
	slot *s = &w->slots[i];
	const char *path = slot_path(i);

	assert_ok(esk_h5_make_group(file, "w0", &err), &err);
	if (s->kind == NOTHING) {
		slot_create(file, path, s);
	} else if (draw(6) == 0) {
		assert_ok(esk_h5_delete(file, path, &err), &err);
		s->kind = NOTHING;
	} else {
		slot_grow(file, path, s);
	}
}

static void group_verify(hid_t file, const char *path, const slot *s)
{
	char *expected = long_text(s->seed, s->rows), *read = NULL;
	hid_t group = H5Gopen2(file, path, H5P_DEFAULT);
	assert_true(group >= 0);
	assert_ok(esk_h5_text_read(group, path, "text", &read, &err), &err);
	assert_string_equal(read, expected);
	H5Gclose(group);
	free(read);
	free(expected);
}

static void world_verify(const char *path, const world *w)
{
	hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
	if (file < 0)
		fail_msg("stock libhdf5 does not open %s", path);
	for (size_t i = 0; i < SLOTS; i++) {
		const slot *s = &w->slots[i];
		if (s->kind == NUMBERS || s->kind == CONTIGUOUS)
			numbers_verify(file, slot_path(i), s->seed, s->rows);
		else if (s->kind == STRINGS)
			strings_verify(file, slot_path(i), s->seed, s->rows);
		else if (s->kind == GROUP)
			group_verify(file, slot_path(i), s);
		else
			assert_true(H5Lexists(file, slot_path(i), H5P_DEFAULT) <= 0);
	}
	H5Fclose(file);
}

static void copy_file(const char *from, const char *to)
{
	char buf[65536];
	FILE *in = fopen(from, "r"), *out = fopen(to, "w");
	assert_true(in && out);
	for (size_t size; (size = fread(buf, 1, sizeof buf, in)) > 0;)
		assert_int_equal(fwrite(buf, 1, size, out), size);
	fclose(in);
	fclose(out);
}

static void every_commit_opens_in_stock_libhdf5_and_the_rest_rolls_back(void **state)
{
	test_dir *dir = *state;
	char path[128], copy[128];
	world now = {0}, committed = {0};
	esk_h5 *file = NULL;
	esk_jfile_recovery recovery;

	random_state = test_seed();
	strcpy(path, test_path(dir, "world.h5"));
	strcpy(copy, test_path(dir, "copy.h5"));
	assert_ok(esk_h5_create(esk_os_posix(), path, &file, &err), &err);
	commit(file);
	for (uint64_t step = 0; step < test_scale(250); step++) {
		for (uint64_t changes = draw(6); changes > 0; changes--)
			world_change(file, &now);
		uint64_t what = draw(10);
		if (what < 6) {
			commit(file);
			committed = now;
		} else if (what < 8) {
			if (what == 6)
				esk_h5_abandon(file);
			else
				assert_ok(esk_h5_close(file, &err), &err);
			now = committed;
			assert_ok(esk_h5_open_write(esk_os_posix(), path, &file, &recovery, &err), &err);
		} else {
			continue;
		}
		copy_file(path, copy);
		world_verify(copy, &committed);
	}
	commit(file);
	assert_ok(esk_h5_close(file, &err), &err);
	world_verify(path, &now);
}

/* ---- killed ---- */

/* Runs in a child until it is killed. */
static void write_until_killed(const char *path, bool fresh, _Atomic uint64_t *acknowledged)
{
	lines l = {0};
	if ((fresh ? lines_create : lines_open)(esk_os_posix(), path, &l) != ESK_OK)
		_exit(1);
	while (lines_commit(&l) == ESK_OK)
		*acknowledged = l.n;
	_exit(1);
}

static void remove_file(const char *path)
{
	char journal[160];
	snprintf(journal, sizeof journal, "%s-journal", path);
	unlink(path);
	unlink(journal);
}

/* How long a writer takes to begin and commit three times, so that kills hit every part of that on any
 * machine. */
static long lifetime_ns(const char *path)
{
	lines l = {0};
	uint64_t start = esk_monotonic_ns();

	assert_ok(lines_create(esk_os_posix(), path, &l), &err);
	for (int i = 0; i < 3; i++)
		assert_ok(lines_commit(&l), &err);
	uint64_t end = esk_monotonic_ns();
	assert_ok(esk_h5_close(l.file, &err), &err);
	remove_file(path);
	return (long)esk_min_u64(end - start, 200000000);
}

/* Waits until `wanted` commits were acknowledged (or for two seconds), then `extra_ns`. */
static void wait_for_commits(_Atomic uint64_t *acknowledged, uint64_t wanted, long extra_ns)
{
	struct timespec little = {.tv_nsec = 50000}, extra = {.tv_nsec = extra_ns};
	uint64_t start = esk_monotonic_ns();

	while (*acknowledged < wanted && esk_monotonic_ns() - start < UINT64_C(2000000000))
		nanosleep(&little, NULL);
	nanosleep(&extra, NULL);
}

static void killed_writers_lose_nothing_acknowledged(void **state)
{
	test_dir *dir = *state;
	bool memory = access("/dev/shm", W_OK) == 0; /* kills need no disk, and want many commits */
	_Atomic uint64_t *acknowledged =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char path[128];
	bool fresh = true;
	uint64_t commits = 0;

	random_state = test_seed() + 1;
	snprintf(path, sizeof path, "%s/esk-h5-%d.h5", memory ? "/dev/shm" : dir->path, (int)getpid());
	long lifetime = lifetime_ns(path);
	for (uint64_t kill_number = 0; kill_number < test_scale(150); kill_number++) {
		if (fresh) {
			commits += *acknowledged;
			remove_file(path);
			*acknowledged = 0;
		}
		pid_t child = fork();
		if (child == 0)
			write_until_killed(path, fresh, acknowledged);
		wait_for_commits(acknowledged, *acknowledged + draw(5), (long)draw((uint64_t)lifetime));
		kill(child, SIGKILL);
		int status = 0;
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status));
		fresh = access(path, F_OK) != 0 || !recover(path, *acknowledged) || *acknowledged > 60;
	}
	commits += *acknowledged;
	print_message("%llu commits\n", (unsigned long long)commits);
	remove_file(path);
	munmap((void *)acknowledged, 4096);
}

/* ---- faults ---- */

/* Creates and commits three times; what was acknowledged. The handle is dropped where something fails. */
static uint64_t short_life(const esk_os *os, const char *path)
{
	lines l = {0};
	uint64_t acknowledged = 0;
	esk_status status = lines_create(os, path, &l);

	for (int i = 0; status == ESK_OK && i < 3; i++) {
		status = lines_commit(&l);
		if (status == ESK_OK)
			acknowledged = l.n;
	}
	if (status == ESK_OK)
		esk_h5_close(l.file, NULL);
	else
		esk_h5_abandon(l.file);
	return acknowledged;
}

/* What is left is commit `acknowledged` or the next, and recording goes on from there. */
static void life_after(const esk_os *os, const char *path, uint64_t acknowledged, uint64_t call)
{
	lines l = {0};
	esk_status status = access(path, F_OK) == 0 ? lines_open(os, path, &l) : ESK_ENOTFOUND;

	if (status == ESK_ENOTFOUND && acknowledged == 0)
		return;
	if (status != ESK_OK)
		fail_msg("after a fault in call %llu: %s", (unsigned long long)call, err.message);
	if (l.n != acknowledged && l.n != acknowledged + 1)
		fail_msg("call %llu: acknowledged %llu, found %llu", (unsigned long long)call,
			(unsigned long long)acknowledged, (unsigned long long)l.n);
	uint64_t found = l.n;
	assert_ok(lines_commit(&l), &err);
	assert_ok(esk_h5_close(l.file, &err), &err);
	assert_int_equal(lines_verify(path), found + 1);
}

static uint64_t calls_of_a_short_life(const char *path)
{
	esk_fault *fault = esk_fault_new(test_seed());
	assert_int_equal(short_life(esk_fault_os(fault), path), 3);
	uint64_t calls = esk_fault_calls(fault);
	esk_fault_free(fault);
	remove_file(path);
	return calls;
}

static void any_call_may_fail(void **state)
{
	char path[128];
	strcpy(path, test_path(*state, "faults.h5"));
	uint64_t calls = calls_of_a_short_life(path);
	static const int errnums[] = {EIO, ENOSPC};

	for (uint64_t call = 1; call <= calls; call++) {
		for (int sticky = 0; sticky < 2; sticky++) {
			esk_fault *fault = esk_fault_new(test_seed() + call);
			esk_fault_fail_at(fault, call, errnums[call % 2], sticky);
			uint64_t acknowledged = short_life(esk_fault_os(fault), path);
			esk_fault_clear(fault);
			life_after(esk_fault_os(fault), path, acknowledged, call);
			esk_fault_free(fault);
			remove_file(path);
		}
	}
	print_message("%llu calls\n", (unsigned long long)calls);
}

static void the_power_may_fail_at_any_call(void **state)
{
	char path[128];
	strcpy(path, test_path(*state, "power.h5"));
	uint64_t calls = calls_of_a_short_life(path);

	for (uint64_t turn = 0; turn < test_scale(200); turn++) {
		uint64_t call = 1 + turn % calls;
		esk_fault *fault = esk_fault_new(test_seed() * 1000 + turn);
		esk_fault_cut_at(fault, call);
		uint64_t acknowledged = short_life(esk_fault_os(fault), path);
		esk_fault_reboot(fault);
		life_after(esk_fault_os(fault), path, acknowledged, call);
		esk_fault_free(fault);
		remove_file(path);
	}
}

static void a_failed_file_stays_failed_until_it_is_opened_again(void **state)
{
	char path[128];
	lines l = {0};
	esk_fault *fault = esk_fault_new(1);

	strcpy(path, test_path(*state, "failed.h5"));
	assert_ok(lines_create(esk_fault_os(fault), path, &l), &err);
	assert_ok(lines_commit(&l), &err);
	esk_fault_set_space(fault, 0);
	assert_int_equal(lines_commit(&l), ESK_ENOSPC);
	esk_fault_clear(fault);
	esk_fault_set_space(fault, UINT64_MAX);
	assert_int_equal(esk_h5_status(l.file, &err), ESK_ENOSPC);
	assert_int_equal(esk_h5_make_group(l.file, "more", &err), ESK_ENOSPC);
	assert_int_equal(esk_h5_commit_begin(l.file, &err), ESK_ENOSPC);
	esk_h5_abandon(l.file);
	life_after(esk_fault_os(fault), path, 1, 0);
	esk_fault_free(fault);
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* stock libhdf5 is asked for what is not there, too */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_commit_opens_in_stock_libhdf5_and_the_rest_rolls_back),
		cmocka_unit_test(killed_writers_lose_nothing_acknowledged),
		cmocka_unit_test(any_call_may_fail),
		cmocka_unit_test(the_power_may_fail_at_any_call),
		cmocka_unit_test(a_failed_file_stays_failed_until_it_is_opened_again),
	};
	return cmocka_run_group_tests_name("h5_crash", tests, test_dir_make, test_dir_remove);
}
