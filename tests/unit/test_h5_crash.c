/* h5: whatever happens between two commits, stock libhdf5 finds the file as of the last one.
 *
 * The table in `world` says what a file must hold; verify() compares it with what plain libhdf5 reads.
 * Content follows from a seed and the row, so nothing else needs to be remembered. */
#include "support/unit.h"

#include "h5/h5.h"
#include "h5/h5_internal.h"
#include "support/fault_os.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

enum { COLUMNS = 6, CHUNK_ROWS = 5, SLOTS = 14 };

static esk_error err;

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 31) * UINT64_C(0x9e3779b97f4a7c15);
	return x ^ x >> 29;
}

static uint64_t random_state;

static uint64_t draw(uint64_t below)
{
	random_state += UINT64_C(0x9e3779b97f4a7c15);
	return (mix(random_state) >> 16) % below;
}

static uint32_t value_of(uint64_t seed, uint64_t row, uint32_t i)
{
	return (uint32_t)mix(seed * 1000003 + row * COLUMNS + i);
}

static size_t text_of(uint64_t seed, uint64_t row, char buf[64])
{
	return (size_t)snprintf(buf, 64, "%llx %.*s", (unsigned long long)mix(seed + row), (int)(row % 30),
		"the quick brown fox jumps over");
}

/* ---- a dataset of numbers or strings that grows ---- */

static esk_h5_dataset *numbers_create(esk_h5 *file, const char *path)
{
	esk_column column = {.name = "x", .dtype = {ESK_U32, 4}, .rank = 1, .shape = {COLUMNS}};
	esk_pipeline pipeline;
	esk_h5_dataset *dataset = NULL;
	assert_ok(esk_pipeline_build("none", &column, CHUNK_ROWS, &pipeline, &err), &err);
	return esk_h5_dataset_create(file, path, &column, CHUNK_ROWS, &pipeline, &dataset, &err) == ESK_OK
		       ? dataset
		       : NULL;
}

static esk_h5_dataset *strings_create(esk_h5 *file, const char *path)
{
	esk_column column = {.name = "t", .dtype = {ESK_STRING, sizeof(esk_string)}};
	esk_h5_dataset *dataset = NULL;
	return esk_h5_dataset_create(file, path, &column, CHUNK_ROWS, NULL, &dataset, &err) == ESK_OK
		       ? dataset
		       : NULL;
}

/* Writes rows [from, to): chunks whole, the open one as far as it goes. */
static esk_status numbers_append(esk_h5_dataset *dataset, uint64_t seed, uint64_t from, uint64_t to)
{
	esk_status status = esk_h5_set_rows(dataset, to, &err);
	for (uint64_t chunk = from / CHUNK_ROWS; status == ESK_OK && chunk * CHUNK_ROWS < to; chunk++) {
		uint32_t values[CHUNK_ROWS][COLUMNS] = {0};
		for (uint64_t row = 0; row < CHUNK_ROWS && chunk * CHUNK_ROWS + row < to; row++)
			for (uint32_t i = 0; i < COLUMNS; i++)
				values[row][i] = value_of(seed, chunk * CHUNK_ROWS + row, i);
		status = esk_h5_write_chunk(dataset, chunk, 0, values, sizeof values, &err);
	}
	return status;
}

static esk_status strings_append(esk_h5_dataset *dataset, uint64_t seed, uint64_t from, uint64_t to)
{
	esk_status status = esk_h5_set_rows(dataset, to, &err);
	for (uint64_t row = from; status == ESK_OK && row < to; row++) {
		char text[64];
		esk_string string = {text, text_of(seed, row, text)};
		status = esk_h5_write_strings(dataset, row, 1, &string, &err);
	}
	return status;
}

static hid_t stock_dataset(hid_t file, const char *path, uint64_t rows)
{
	hsize_t dims[2] = {0};
	hid_t dataset = H5Dopen2(file, path, H5P_DEFAULT), space;
	if (dataset < 0)
		fail_msg("stock libhdf5 does not open %s", path);
	space = H5Dget_space(dataset);
	H5Sget_simple_extent_dims(space, dims, NULL);
	H5Sclose(space);
	if (dims[0] != rows)
		fail_msg("%s has %llu rows, not %llu", path, (unsigned long long)dims[0],
			(unsigned long long)rows);
	return dataset;
}

static void numbers_verify(hid_t file, const char *path, uint64_t seed, uint64_t rows)
{
	hid_t dataset = stock_dataset(file, path, rows);
	uint32_t *values = malloc((rows * COLUMNS + 1) * sizeof *values);
	if (H5Dread(dataset, H5T_NATIVE_UINT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0)
		fail_msg("stock libhdf5 does not read %s", path);
	for (uint64_t i = 0; i < rows * COLUMNS; i++) {
		if (values[i] != value_of(seed, i / COLUMNS, (uint32_t)(i % COLUMNS)))
			fail_msg("%s is wrong in row %llu of %llu", path, (unsigned long long)i / COLUMNS,
				(unsigned long long)rows);
	}
	free(values);
	H5Dclose(dataset);
}

static void strings_verify(hid_t file, const char *path, uint64_t seed, uint64_t rows)
{
	hid_t dataset = stock_dataset(file, path, rows), type = H5Dget_type(dataset),
	      space = H5Dget_space(dataset);
	char **texts = calloc(rows + 1, sizeof *texts), expected[64];
	if (H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, texts) < 0)
		fail_msg("stock libhdf5 does not read %s", path);
	for (uint64_t row = 0; row < rows; row++) {
		text_of(seed, row, expected);
		assert_string_equal(texts[row], expected);
	}
	H5Dvlen_reclaim(type, space, H5P_DEFAULT, texts);
	free(texts);
	H5Sclose(space);
	H5Tclose(type);
	H5Dclose(dataset);
}

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

static void commit(esk_h5 *file)
{
	assert_ok(esk_h5_commit_begin(file, &err), &err);
	assert_ok(esk_h5_commit_finish(file, NULL, &err), &err);
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

/* ---- many datasets, one number that says how far they are ---- */

enum { DATASETS = 20 };

typedef struct lines {
	esk_h5 *file;
	esk_h5_dataset *numbers[DATASETS];
	esk_h5_dataset *strings;
	uint64_t n; /* commits that the file holds */
} lines;

static uint64_t rows_at(uint64_t n, uint64_t dataset)
{
	return n * (1 + dataset % 4) + n / 3;
}

static const char *line_path(size_t i)
{
	static char path[32];
	snprintf(path, sizeof path, "s%zu/x%zu", i % 3, i);
	return path;
}

static esk_status lines_create(const esk_os *os, const char *path, lines *ret)
{
	esk_status status = esk_h5_create(os, path, &ret->file, &err);
	if (status != ESK_OK)
		return status;
	for (size_t i = 0; i < DATASETS; i++) {
		ret->numbers[i] = numbers_create(ret->file, line_path(i));
		if (!ret->numbers[i])
			return err.code;
	}
	ret->strings = strings_create(ret->file, "notes");
	return ret->strings ? esk_h5_set_i64(ret->file, "/", "n", 0, &err) : err.code;
}

static esk_status lines_open(const esk_os *os, const char *path, lines *ret)
{
	int64_t n = 0;
	esk_status status = esk_h5_open_write(os, path, &ret->file, NULL, &err);
	for (size_t i = 0; status == ESK_OK && i < DATASETS; i++)
		status = esk_h5_dataset_open(ret->file, line_path(i), &ret->numbers[i], &err);
	if (status == ESK_OK)
		status = esk_h5_dataset_open(ret->file, "notes", &ret->strings, &err);
	if (status == ESK_OK)
		status = esk_h5_get_i64(ret->file, "/", "n", &n, &err);
	ret->n = (uint64_t)n;
	return status;
}

static esk_status lines_write(lines *l)
{
	uint64_t next = l->n + 1;
	char group[32];
	esk_status status = ESK_OK;

	for (size_t i = 0; status == ESK_OK && i < DATASETS; i++)
		status = numbers_append(l->numbers[i], i, rows_at(l->n, i), rows_at(next, i));
	if (status == ESK_OK)
		status = strings_append(l->strings, 77, l->n, next);
	snprintf(group, sizeof group, "groups/g%llu", (unsigned long long)next);
	if (status == ESK_OK)
		status = esk_h5_make_group(l->file, group, &err);
	if (status == ESK_OK)
		status = esk_h5_set_i64(l->file, "/", "n", (int64_t)next, &err);
	if (status == ESK_OK)
		l->n = next;
	return status;
}

static esk_status lines_commit(lines *l)
{
	esk_status status = lines_write(l);
	if (status == ESK_OK)
		status = esk_h5_commit_begin(l->file, &err);
	return status == ESK_OK ? esk_h5_commit_finish(l->file, NULL, &err) : status;
}

/* What stock libhdf5 finds must be one commit, whole; returns its number. */
static uint64_t lines_verify(const char *path)
{
	hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), attribute;
	int64_t n = -1;
	char group[32];

	if (file < 0)
		fail_msg("stock libhdf5 does not open %s", path);
	attribute = H5Aopen(file, "n", H5P_DEFAULT);
	assert_true(H5Aread(attribute, H5T_NATIVE_INT64, &n) >= 0);
	H5Aclose(attribute);
	for (size_t i = 0; i < DATASETS; i++)
		numbers_verify(file, line_path(i), i, rows_at((uint64_t)n, i));
	strings_verify(file, "notes", 77, (uint64_t)n);
	for (int64_t g = 1; g <= n + 1; g++) {
		snprintf(group, sizeof group, "groups/g%lld", (long long)g);
		if ((H5Lexists(file, group, H5P_DEFAULT) > 0) != (g <= n))
			fail_msg("%s in commit %lld", group, (long long)n);
	}
	H5Fclose(file);
	return (uint64_t)n;
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

/* Recovers and verifies; false where there was never a commit. */
static bool recover(const char *path, uint64_t acknowledged)
{
	esk_h5 *file = NULL;
	esk_status status = esk_h5_open_write(esk_os_posix(), path, &file, NULL, &err);

	if (status == ESK_ENOTFOUND && acknowledged == 0)
		return false;
	assert_ok(status, &err);
	assert_ok(esk_h5_close(file, &err), &err);
	uint64_t n = lines_verify(path);
	if (n != acknowledged && n != acknowledged + 1)
		fail_msg("acknowledged %llu, recovered %llu", (unsigned long long)acknowledged,
			(unsigned long long)n);
	return true;
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

/* ---- threads and fork ---- */

static void *finish(void *arg)
{
	esk_error error;
	lines *l = arg;
	return esk_h5_commit_finish(l->file, NULL, &error) == ESK_OK ? arg : NULL;
}

static void writing_goes_on_while_a_commit_finishes(void **state)
{
	char path[128];
	lines l = {0};

	strcpy(path, test_path(*state, "threads.h5"));
	assert_ok(lines_create(esk_os_posix(), path, &l), &err);
	for (int i = 0; i < 40; i++) {
		esk_h5 *reader = NULL;
		pthread_t thread;
		void *result = NULL;
		uint64_t begun;
		int64_t n = 0;

		assert_ok(lines_write(&l), &err);
		begun = l.n;
		assert_ok(esk_h5_commit_begin(l.file, &err), &err);
		pthread_create(&thread, NULL, finish, &l);
		for (int k = 0; k < 3; k++)
			assert_ok(lines_write(&l), &err);
		pthread_join(thread, &result);
		assert_non_null(result);
		assert_ok(esk_h5_open_read(esk_os_posix(), path, &reader, &err), &err);
		assert_ok(esk_h5_get_i64(reader, "/", "n", &n, &err), &err);
		assert_int_equal(n, begun);
		assert_false(esk_h5_is_stale(reader));
		assert_ok(esk_h5_close(reader, &err), &err);
		if (i % 10 == 0)
			assert_int_equal(lines_verify(path), begun);
	}
	commit(l.file);
	assert_ok(esk_h5_close(l.file, &err), &err);
	assert_int_equal(lines_verify(path), l.n);
}

static void a_reader_knows_that_it_is_stale(void **state)
{
	char path[128];
	lines l = {0};
	esk_h5 *reader = NULL;
	esk_h5_dataset *dataset = NULL;

	strcpy(path, test_path(*state, "stale.h5"));
	assert_ok(lines_create(esk_os_posix(), path, &l), &err);
	assert_ok(lines_commit(&l), &err);
	assert_ok(esk_h5_open_read(esk_os_posix(), path, &reader, &err), &err);
	assert_ok(esk_h5_dataset_open(reader, line_path(0), &dataset, &err), &err);
	assert_ok(lines_commit(&l), &err);
	assert_true(esk_h5_is_stale(reader));
	assert_int_equal(esk_h5_dataset_open(reader, line_path(1), &dataset, &err), ESK_EBUSY);
	assert_ok(esk_h5_dataset_open(reader, line_path(0), &dataset, &err), &err); /* known already */
	assert_int_equal(esk_h5_dataset_info(dataset)->rows, rows_at(1, 0));
	assert_ok(esk_h5_close(reader, &err), &err);
	assert_ok(esk_h5_close(l.file, &err), &err);
}

static void a_reader_notices_a_writer_that_came_and_went(void **state)
{
	char path[128];
	lines l = {0};
	esk_h5 *reader = NULL;
	esk_h5_dataset *dataset = NULL;

	strcpy(path, test_path(*state, "between.h5"));
	assert_ok(lines_create(esk_os_posix(), path, &l), &err);
	assert_ok(lines_commit(&l), &err);
	assert_ok(esk_h5_close(l.file, &err), &err);
	assert_ok(esk_h5_open_read(esk_os_posix(), path, &reader, &err), &err);
	assert_false(esk_h5_is_stale(reader));
	usleep(20000); /* the file system's clock ticks */
	assert_ok(lines_open(esk_os_posix(), path, &l), &err);
	assert_ok(lines_commit(&l), &err);
	assert_ok(esk_h5_close(l.file, &err), &err);
	assert_true(esk_h5_is_stale(reader));
	assert_int_equal(esk_h5_dataset_open(reader, line_path(1), &dataset, &err), ESK_EBUSY);
	assert_ok(esk_h5_close(reader, &err), &err);
}

/* The child of a writer: what it inherited does nothing, at its exit either. */
static int child_of_a_writer(lines *l, const char *path)
{
	esk_h5 *reader = NULL;
	bool right = esk_h5_status(l->file, NULL) == ESK_ECLOSED && lines_write(l) == ESK_ECLOSED &&
		     esk_h5_commit_begin(l->file, NULL) == ESK_ECLOSED &&
		     esk_h5_open_read(esk_os_posix(), path, &reader, NULL) == ESK_OK;
	esk_h5_close(reader, NULL);
	return right ? 0 : 1;
}

static void children_leave_the_file_to_their_parent(void **state)
{
	char path[128];
	lines l = {0};

	strcpy(path, test_path(*state, "fork.h5"));
	assert_ok(lines_create(esk_os_posix(), path, &l), &err);
	assert_ok(lines_commit(&l), &err);
	for (int turn = 0; turn < 9; turn++) {
		int status = 0;
		assert_ok(lines_write(&l), &err); /* libhdf5 has something unwritten */
		pid_t child = fork();
		if (child == 0) {
			int code = child_of_a_writer(&l, path);
			if (turn % 3 == 0)
				esk_h5_close(l.file, NULL);
			else if (turn % 3 == 1)
				esk_h5_abandon(l.file);
			H5close(); /* as at exit: flushes what is open */
			_exit(code);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
		assert_ok(lines_commit(&l), &err);
	}
	assert_ok(esk_h5_close(l.file, &err), &err);
	assert_int_equal(lines_verify(path), l.n);
}

static _Atomic bool stop;

static void *look(void *arg)
{
	while (!stop)
		esk_h5_exists(arg, "s0/x0");
	return NULL;
}

static void *look_again(void *arg)
{
	while (!stop)
		esk_h5_is_stale(arg);
	return NULL;
}

static void a_fork_beside_busy_threads_leaves_libhdf5_usable(void **state)
{
	char path[128];
	lines l = {0};
	esk_h5 *reader = NULL;
	pthread_t threads[2];

	strcpy(path, test_path(*state, "busy.h5"));
	assert_ok(lines_create(esk_os_posix(), path, &l), &err);
	assert_ok(lines_commit(&l), &err);
	assert_ok(esk_h5_open_read(esk_os_posix(), path, &reader, &err), &err);
	stop = false;
	pthread_create(&threads[0], NULL, look, l.file);
	pthread_create(&threads[1], NULL, look_again, reader);
	for (int turn = 0; turn < 60; turn++) {
		int status = 0;
		pid_t child = fork();
		if (child == 0) {
			alarm(20);
			esk_h5_close(reader, NULL); /* whose locks may be held by threads that are not here */
			_exit(child_of_a_writer(&l, path));
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	stop = true;
	for (size_t i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_ok(esk_h5_close(reader, &err), &err);
	assert_ok(esk_h5_close(l.file, &err), &err);
}

static void an_exit_without_closing_leaves_the_last_commit(void **state)
{
	char path[128];
	int status = 0;

	strcpy(path, test_path(*state, "exit.h5"));
	pid_t child = fork();
	if (child == 0) {
		lines l = {0};
		if (lines_create(esk_os_posix(), path, &l) != ESK_OK || lines_commit(&l) != ESK_OK ||
			lines_write(&l) != ESK_OK)
			_exit(1);
		H5close(); /* what libhdf5 does at exit */
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_true(recover(path, 1));
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
		cmocka_unit_test(writing_goes_on_while_a_commit_finishes),
		cmocka_unit_test(a_reader_knows_that_it_is_stale),
		cmocka_unit_test(a_reader_notices_a_writer_that_came_and_went),
		cmocka_unit_test(children_leave_the_file_to_their_parent),
		cmocka_unit_test(a_fork_beside_busy_threads_leaves_libhdf5_usable),
		cmocka_unit_test(an_exit_without_closing_leaves_the_last_commit),
	};
	return cmocka_run_group_tests_name("h5_crash", tests, test_dir_make, test_dir_remove);
}
