/* Sessions: what the file has, schemas, metadata, appending to earlier ones, several threads, deaths. */
#include "daq_support.h"

#include "../../profiles/daq/rules.h"

#include <esker/arrow_encode.h>

static esk_store *make_store(void)
{
	esk_store *store;
	check_ok(esk_store_create(daq_path("store"), err));
	check_ok(esk_store_open(daq_path("store"), NULL, &store, err));
	return store;
}

static esk_session *open_session(esk_store *store, const char *name)
{
	esk_session *session = NULL;
	esk_session_options options = ESK_SESSION_OPTIONS_INIT;
	options.name = name;
	options.ring_bytes = 1 << 20;
	check_ok(esk_session_open_in(store, &options, &session, err));
	return session;
}

static esk_session_stats stats_of(esk_session *session)
{
	esk_session_stats stats = {.struct_size = sizeof stats};
	check_ok(esk_session_get_stats(session, &stats, err));
	return stats;
}

static void write_rows(esk_session *session, const char *instrument, int64_t first, int64_t rows)
{
	daq_batch batch;
	check_ok(esk_session_write_batch(
		session, instrument, daq_schema(), daq_fill(&batch, first, rows), err));
}

static void expect_rows(esk_store *store, const char *run, const char *instrument, uint64_t rows)
{
	char path[256];
	esk_reader *reader;
	check_ok(esk_reader_open(store, run, &reader, err));
	snprintf(path, sizeof path, "%s/timestamp", instrument);
	assert_int_equal(daq_rows(reader, path), rows);
	int64_t *timestamps = daq_read(reader, path, rows, sizeof *timestamps);
	for (uint64_t i = 0; i < rows; i++)
		assert_int_equal(timestamps[i], i);
	free(timestamps);
	esk_reader_close(reader);
}

/* What `line` prints. */
static void print(const char *line, char text[65536])
{
	FILE *pipe = popen(line, "r");
	assert_non_null(pipe);
	size_t size = fread(text, 1, 65535, pipe);
	text[size] = '\0';
	pclose(pipe);
}

/* The text that `command`, run with the file as its last argument, prints has `expected`. While the run
 * rotates, or a commit is applied, the live file cannot be opened for a moment: then it is tried again. */
static void expect_printed(const char *command, const char *file, const char *expected)
{
	char line[1024], text[65536] = "";
	snprintf(line, sizeof line, "%s '%s' 2>&1", command, file);
	for (int i = 0; i < 100 && strstr(text, expected) == NULL; i++) {
		if (i > 0)
			usleep(50000);
		print(line, text);
	}
	if (strstr(text, expected) == NULL)
		fail_msg("%s printed\n%s\nwithout \"%s\"", line, text, expected);
}

/* ---- what it does ---- */

static void a_session_has_the_layout_and_the_statistics_of_the_seed(void **state)
{
	esk_store *store = make_store();
	esk_session *session = open_session(store, NULL);
	assert_int_equal(strncmp(esk_session_name(session), "daq_session_20", 14), 0);
	esk_session_stats stats = stats_of(session);
	assert_int_equal(stats.batches_written + stats.bytes_written + stats.rows_written, 0);
	assert_true(stats.is_open);
	check_ok(esk_session_set_metadata(session, "operator", "Ada", err));
	check_ok(esk_session_set_instrument_metadata(session, "scope", "serial", "X-17", err));
	write_rows(session, "scope", 0, 100);
	write_rows(session, "scope", 100, 50);
	write_rows(session, "psu", 0, 1);
	check_ok(esk_session_flush(session, err));
	stats = stats_of(session);
	assert_int_equal(stats.batches_written, 3);
	assert_int_equal(stats.rows_written, 151);
	assert_int_equal(stats.bytes_written, 151 * 16);
	assert_int_equal(stats.instruments, 2);
	assert_int_equal(stats.metadata_entries, 2);
	assert_true(stats.flushes >= 1 && stats.last_flush_ns > 0 && stats.created_ns > 0);
	assert_int_equal(stats.auto_flush_interval_ns, 30000000000ull);
	assert_string_equal(stats.codec, "gzip:6");
	assert_string_equal(stats.output_dir, daq_path("store"));
	expect_rows(store, esk_session_name(session), "scope", 150);
	expect_printed("h5dump -a /application", stats.file_path, "Esker");
	expect_printed("h5dump -a /operator", stats.file_path, "Ada");
	expect_printed("h5dump -a /created_timestamp_ns", stats.file_path, "17");
	expect_printed("h5dump -a /created_at", stats.file_path, "T");
	expect_printed("h5dump -a /scope/instrument_id", stats.file_path, "scope");
	expect_printed("h5dump -a /scope/serial", stats.file_path, "X-17");
	expect_printed("h5dump -a /psu/created_at", stats.file_path, "Z");
	expect_printed("h5dump -d /scope/schema", stats.file_path, "fields");
	expect_printed("h5dump -d /scope/schema", stats.file_path, "voltage");
	check_ok(esk_session_close(session, err));
	check_ok(esk_store_close(store, err));
}

static void sessions_begun_in_one_second_have_names_of_their_own(void **state)
{
	esk_store *store = make_store();
	esk_session *sessions[4];
	for (int i = 0; i < 4; i++)
		sessions[i] = open_session(store, NULL);
	for (int i = 0; i < 4; i++)
		for (int j = 0; j < i; j++)
			assert_string_not_equal(esk_session_name(sessions[i]), esk_session_name(sessions[j]));
	for (int i = 0; i < 4; i++)
		check_ok(esk_session_close(sessions[i], err));
	check_ok(esk_store_close(store, err));
}

static void another_schema_is_refused_and_the_difference_named(void **state)
{
	esk_store *store = make_store();
	esk_session *session = open_session(store, "s");
	struct ArrowSchema extra = {.format = "i", .name = "current", .release = daq_release_schema};
	struct ArrowSchema retyped = {.format = "f", .name = "voltage", .release = daq_release_schema};
	struct ArrowSchema *children[3] = {daq_schema()->children[0], daq_schema()->children[1], &extra};
	struct ArrowSchema other = *daq_schema();
	daq_batch batch;
	write_rows(session, "scope", 0, 10);
	const struct ArrowArray *array = daq_fill(&batch, 0, 3);
	other.children = children;
	other.n_children = 3;
	check_fails(esk_session_write_batch(session, "scope", &other, array, err), ESK_ETYPE, "current");
	other.n_children = 1;
	check_fails(esk_session_write_batch(session, "scope", &other, array, err), ESK_ENOTFOUND, "voltage");
	other.n_children = 2;
	children[1] = &retyped;
	check_fails(esk_session_write_batch(session, "scope", &other, array, err), ESK_ETYPE, "voltage");
	write_rows(session, "scope", 10, 10);
	assert_int_equal(stats_of(session).batches_written, 2);
	check_ok(esk_session_close(session, err));
	expect_rows(store, "s", "scope", 20);
	check_ok(esk_store_close(store, err));
}

static void arrays_that_contradict_their_schema_change_nothing(void **state)
{
	esk_store *store = make_store();
	esk_session *session = open_session(store, "s");
	daq_batch batch;
	struct ArrowArray array = *daq_fill(&batch, 0, 3);
	array.n_children = 1;
	check_fails(
		esk_session_write_batch(session, "scope", daq_schema(), &array, err), ESK_ETYPE, "children");
	array = *daq_fill(&batch, 0, 3);
	batch.children[1].length = 2;
	check_fails(esk_session_write_batch(session, "scope", daq_schema(), &array, err), ESK_EINVAL, "");
	array = *daq_fill(&batch, 0, 3);
	array.length = -1;
	check_fails(esk_session_write_batch(session, "scope", daq_schema(), &array, err), ESK_EINVAL, "");
	write_rows(session, "scope", 0, 3);
	check_ok(esk_session_close(session, err));
	expect_rows(store, "s", "scope", 3);
	check_ok(esk_store_close(store, err));
}

static void instruments_cannot_lead_out_of_their_group(void **state)
{
	static const char *const bad[] = {
		"", "/", "..", "../other", "a/b", ".esker", "a\nb", "\xff", ESK_DAQ_RING_STREAM};
	esk_store *store = make_store();
	esk_session *session = open_session(store, "s");
	daq_batch batch;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		check_fails(
			esk_session_write_batch(session, bad[i], daq_schema(), daq_fill(&batch, 0, 1), err),
			ESK_EINVAL, "instrument");
		check_fails(esk_session_set_instrument_metadata(session, bad[i], "k", "v", err), ESK_EINVAL,
			"instrument");
	}
	assert_int_equal(stats_of(session).instruments, 0);
	check_ok(esk_session_close(session, err));
	check_ok(esk_store_close(store, err));
}

static void metadata_is_bounded_checked_and_searched(void **state)
{
	esk_store *store = make_store();
	esk_session *session = open_session(store, "s");
	static char large[ESK_SESSION_MAX_VALUE + 2], key[ESK_SESSION_MAX_KEY + 2];
	memset(large, 'x', ESK_SESSION_MAX_VALUE + 1);
	memset(key, 'k', ESK_SESSION_MAX_KEY + 1);
	check_fails(esk_session_set_metadata(session, "", "v", err), ESK_EINVAL, "key");
	check_fails(esk_session_set_metadata(session, "a/b", "v", err), ESK_EINVAL, "key");
	check_fails(esk_session_set_metadata(session, "created_at", "v", err), ESK_EINVAL, "own");
	check_fails(esk_session_set_metadata(session, "esker_x", "v", err), ESK_EINVAL, "own");
	check_fails(esk_session_set_instrument_metadata(session, "i", "instrument_id", "v", err), ESK_EINVAL,
		"own");
	check_fails(esk_session_set_metadata(session, "k", "\xff", err), ESK_EINVAL, "UTF-8");
	check_fails(esk_session_set_metadata(session, key, "v", err), ESK_ERANGE, "key");
	check_fails(esk_session_set_metadata(session, "k", large, err), ESK_ERANGE, "most");
	check_fails(esk_session_set_metadata_json(session, NULL, "[1]", err), ESK_EINVAL, "object");
	check_fails(esk_session_set_metadata_json(session, NULL, "{\"a\": {}}", err), ESK_EINVAL, "\"a\"");
	large[ESK_SESSION_MAX_VALUE] = '\0';
	esk_status status = ESK_OK;
	unsigned kept = 0;
	for (; kept < 100 && status == ESK_OK; kept++) {
		snprintf(key, sizeof key, "large%u", kept);
		status = esk_session_set_metadata(session, key, large, NULL);
	}
	assert_int_equal(status, ESK_ERANGE);
	assert_int_equal(kept, 32);
	check_ok(esk_session_set_metadata(session, "operator", "Ada", err));
	check_ok(esk_session_set_metadata(session, "operator", "Grace", err));
	check_ok(esk_session_set_metadata_json(
		session, NULL, "{\"shot\": 12, \"gain\": 0.5, \"dark\": true}", err));
	check_ok(esk_session_set_metadata_json(session, "psu", "{\"limit\": 3}", err));
	assert_int_equal(stats_of(session).metadata_entries, 31 + 4 + 1);
	check_ok(esk_session_close(session, err));
	esk_query *query;
	bool found;
	check_ok(esk_query_open(store,
		"SELECT count(*) FROM metadata WHERE (key = 'operator' AND value = 'Grace') OR (key = 'shot' "
		"AND value = 12)",
		&query, err));
	check_ok(esk_query_step(query, &found, err));
	assert_int_equal(esk_query_value(query, 0).integer, 2);
	esk_query_close(query);
	check_ok(esk_store_close(store, err));
}

static void an_earlier_session_goes_on(void **state)
{
	esk_store *store = make_store();
	esk_session *session = open_session(store, "first"), *none;
	esk_session_options options = ESK_SESSION_OPTIONS_INIT;
	check_ok(esk_session_set_metadata(session, "operator", "Ada", err));
	write_rows(session, "scope", 0, 10);
	check_ok(esk_session_close(session, err));
	options.append_to = "nothing";
	check_fails(esk_session_open_in(store, &options, &none, err), ESK_ENOTFOUND, "nothing");
	options.append_to = "somewhere/first.h5";
	check_ok(esk_session_open_in(store, &options, &session, err));
	assert_int_equal(stats_of(session).instruments, 1);
	assert_int_equal(stats_of(session).metadata_entries, 1);
	check_ok(esk_session_set_metadata(session, "shift", "night", err));
	write_rows(session, "scope", 10, 10);
	struct ArrowSchema schema = *daq_schema();
	daq_batch batch;
	schema.n_children = 1;
	check_fails(esk_session_write_batch(session, "scope", &schema, daq_fill(&batch, 0, 1), err),
		ESK_ENOTFOUND, "voltage");
	check_ok(esk_session_close(session, err));
	expect_rows(store, "first", "scope", 20);
	expect_printed("h5dump -a /operator", daq_path("store/first.h5"), "Ada");
	expect_printed("h5dump -a /shift", daq_path("store/first.h5"), "night");
	check_ok(esk_store_close(store, err));
}

static void bytes_of_ipc_are_written_and_damaged_ones_refused(void **state)
{
	esk_store *store = make_store();
	esk_session *session = open_session(store, "s");
	uint64_t seed = 3, rows, taken = 0;
	daq_batch batch;
	uint8_t stream[20000];
	size_t schema_bytes, batch_bytes, size;
	check_ok(esk_arrow_encode_schema(daq_schema(), stream, sizeof stream, &schema_bytes, err));
	check_ok(esk_arrow_encode_batch(daq_schema(), daq_fill(&batch, 0, 30), stream + schema_bytes,
		sizeof stream - schema_bytes, &batch_bytes, err));
	size = schema_bytes + batch_bytes;
	check_ok(esk_arrow_encode_batch(daq_schema(), daq_fill(&batch, 30, 7), stream + size,
		sizeof stream - size, &batch_bytes, err));
	size += batch_bytes;
	check_ok(esk_session_write_ipc(session, "scope", stream, size, &rows, err));
	assert_int_equal(rows, 37);
	check_ok(esk_session_flush(session, err));
	expect_rows(store, "s", "scope", 37);
	for (unsigned i = 0; i < daq_rounds(2000); i++) {
		uint8_t *copy = malloc(size);
		size_t cut = i % 3 == 0 ? daq_random(&seed) % size : size;
		memcpy(copy, stream, size);
		for (unsigned flips = daq_random(&seed) % 4; flips > 0; flips--)
			copy[daq_random(&seed) % size] ^= (uint8_t)(1u << daq_random(&seed) % 8);
		copy = realloc(copy, cut + 1); /* so that a sanitizer sees what reads beyond */
		esk_session_write_ipc(session, "other", copy, cut, &rows, NULL);
		taken += rows;
		free(copy);
	}
	assert_int_equal(stats_of(session).rows_written, 37 + taken);
	check_ok(esk_session_close(session, err));
	check_ok(esk_store_close(store, err));
}

static void a_full_ring_that_rejects_says_how_far_it_came(void **state)
{
	esk_store *store = make_store();
	esk_session *session;
	esk_session_options options = ESK_SESSION_OPTIONS_INIT;
	options.name = "s";
	options.ring_bytes = 64 << 10;
	options.policy = ESK_REJECT;
	static daq_batch batch;
	check_ok(esk_session_open_in(store, &options, &session, err));
	for (int round = 0; round < 20; round++) {
		const struct ArrowArray *array =
			daq_fill(&batch, (int64_t)round * DAQ_BATCH_ROWS, DAQ_BATCH_ROWS);
		uint64_t row = 0;
		while (row < DAQ_BATCH_ROWS) {
			uint64_t taken;
			esk_status status =
				esk_session_write(session, "scope", daq_schema(), array, row, &taken, NULL);
			row += taken;
			assert_true(status == ESK_OK ? row == DAQ_BATCH_ROWS : status == ESK_EFULL);
			if (status == ESK_EFULL)
				check_ok(esk_session_flush(session, err));
		}
	}
	uint64_t none;
	check_fails(esk_session_write(
			    session, "scope", daq_schema(), &batch.array, DAQ_BATCH_ROWS + 1, &none, err),
		ESK_ERANGE, "4097");
	assert_int_equal(stats_of(session).batches_written, 20);
	check_ok(esk_session_close(session, err));
	expect_rows(store, "s", "scope", 20 * DAQ_BATCH_ROWS);
	check_ok(esk_store_close(store, err));
}

static void every_segment_of_a_rotation_says_what_it_is(void **state)
{
	esk_store *store = make_store();
	esk_session *session;
	esk_session_options options = ESK_SESSION_OPTIONS_INIT;
	options.name = "s";
	options.codec = "none";
	options.segment_bytes = 200 << 10;
	options.ring_bytes = 1 << 20;
	check_ok(esk_session_open_in(store, &options, &session, err));
	check_ok(esk_session_set_metadata(session, "operator", "Ada", err));
	check_ok(esk_session_set_instrument_metadata(session, "scope", "serial", "X-17", err));
	for (int64_t i = 0; i < 12; i++) {
		write_rows(session, "scope", i * DAQ_BATCH_ROWS, DAQ_BATCH_ROWS);
		check_ok(esk_session_flush(session, err));
	}
	esk_session_stats stats = stats_of(session);
	assert_true(stats.segments > 2);
	expect_printed("h5dump -a /application", stats.file_path, "Esker");
	expect_printed("h5dump -a /operator", stats.file_path, "Ada");
	expect_printed("h5dump -a /scope/instrument_id", stats.file_path, "scope");
	expect_printed("h5dump -a /scope/serial", stats.file_path, "X-17");
	expect_printed("h5dump -d /scope/schema", stats.file_path, "voltage");
	check_ok(esk_session_close(session, err));
	expect_rows(store, "s", "scope", 12 * DAQ_BATCH_ROWS);
	check_ok(esk_store_close(store, err));
}

/* ---- several threads ---- */

typedef struct worker {
	esk_session *session;
	int number;
} worker;

static void *work(void *arg)
{
	const worker *w = arg;
	char own[32], key[32];
	daq_batch *batch = malloc(sizeof *batch);
	snprintf(own, sizeof own, "own%d", w->number);
	for (int i = 0; i < 200; i++) {
		snprintf(key, sizeof key, "key%d_%d", w->number, i % 10);
		esk_session_stats stats = {.struct_size = sizeof stats};
		if (esk_session_write_batch(w->session, own, daq_schema(), daq_fill(batch, 4 * i, 4), NULL) !=
				ESK_OK ||
			esk_session_write_batch(w->session, "shared", daq_schema(), daq_fill(batch, 4 * i, 4),
				NULL) != ESK_OK ||
			esk_session_set_metadata(w->session, key, own, NULL) != ESK_OK ||
			esk_session_set_instrument_metadata(w->session, "shared", key, own, NULL) != ESK_OK ||
			esk_session_get_stats(w->session, &stats, NULL) != ESK_OK)
			abort();
	}
	free(batch);
	return NULL;
}

static void threads_share_a_session(void **state)
{
	esk_store *store = make_store();
	esk_session *session = open_session(store, "s");
	pthread_t threads[4];
	worker workers[4];
	for (int i = 0; i < 4; i++) {
		workers[i] = (worker){.session = session, .number = i};
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (int i = 0; i < 10; i++)
		check_ok(esk_session_flush(session, err));
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(stats_of(session).batches_written, 1600);
	assert_int_equal(stats_of(session).instruments, 5);
	assert_int_equal(stats_of(session).metadata_entries, 80);
	check_ok(esk_session_close(session, err));
	for (int i = 0; i < 4; i++) {
		char own[32];
		snprintf(own, sizeof own, "own%d", i);
		expect_rows(store, "s", own, 800);
	}
	esk_reader *reader;
	check_ok(esk_reader_open(store, "s", &reader, err));
	assert_int_equal(daq_rows(reader, "shared/voltage"), 3200);
	esk_reader_close(reader);
	check_ok(esk_store_close(store, err));
}

/* ---- deaths ---- */

static void write_until_killed(_Atomic uint64_t *acked, uint64_t seed)
{
	esk_store *store;
	esk_session *session;
	static daq_batch batch;
	esk_session_options options = ESK_SESSION_OPTIONS_INIT;
	options.ring_bytes = 1 << 20;
	options.auto_flush_interval_ns = 5000000;
	if (esk_store_open(daq_path("store"), NULL, &store, NULL) != ESK_OK)
		_exit(1);
	options.append_to = "s";
	if (esk_session_open_in(store, &options, &session, NULL) != ESK_OK)
		_exit(2);
	/* Rows that were appended and not acknowledged are there or not: the stream says where it ends. */
	esk_reader *reader;
	if (esk_reader_open(store, "s", &reader, NULL) != ESK_OK)
		_exit(3);
	uint64_t row = daq_rows(reader, "scope/timestamp");
	esk_reader_close(reader);
	if (row < atomic_load(acked))
		_exit(4);
	for (;;) {
		uint64_t rows = 1 + daq_random(&seed) % 20;
		if (esk_session_write_batch(session, "scope", daq_schema(),
			    daq_fill(&batch, (int64_t)row, (int64_t)rows), NULL) != ESK_OK)
			_exit(5);
		row += rows;
		atomic_store(acked, row);
	}
}

static bool has_ended(pid_t child)
{
	siginfo_t info = {0};
	return waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0;
}

static void what_a_session_acknowledged_survives_its_process(void **state)
{
	uint64_t seed = 20261124;
	_Atomic uint64_t *acked =
		mmap(NULL, sizeof *acked, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	esk_store *store = make_store();
	check_ok(esk_session_close(open_session(store, "s"), err));
	check_ok(esk_store_close(store, err));
	for (unsigned round = 0; round < daq_rounds(25); round++) {
		int result;
		pid_t child = fork();
		if (child == 0)
			write_until_killed(acked, daq_random(&seed) + round);
		uint64_t before = atomic_load(acked);
		struct timespec look = {.tv_nsec = 1000000}, nap = {.tv_nsec = daq_random(&seed) % 60000000};
		/* Every third one dies while it opens. */
		while (round % 3 != 0 && atomic_load(acked) == before && !has_ended(child))
			nanosleep(&look, NULL);
		nanosleep(&nap, NULL);
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, &result, 0), child);
		if (!WIFSIGNALED(result))
			fail_msg("seed 20261124, round %u: a session ended by itself with %d", round,
				WEXITSTATUS(result));
	}
	check_ok(esk_store_open(daq_path("store"), NULL, &store, err));
	esk_reader *reader;
	check_ok(esk_reader_open(store, "s", &reader, err));
	uint64_t rows = daq_rows(reader, "scope/timestamp");
	esk_reader_close(reader);
	assert_true(rows >= atomic_load(acked) && rows < atomic_load(acked) + 21);
	expect_rows(store, "s", "scope", rows);
	check_ok(esk_store_close(store, err));
	munmap((void *)acked, sizeof *acked);
}

/* ---- options and configurations ---- */

static void rules_for_columns_are_those_of_the_instrument(void **state)
{
	esk_daq_rules *rules = NULL;
	char *text = NULL;
	check_fails(esk_daq_rules_parse("voltage", &rules, err), ESK_EINVAL, "expected");
	check_fails(esk_daq_rules_parse("voltage@", &rules, err), ESK_EINVAL, "codec");
	check_fails(esk_daq_rules_parse("voltage#x", &rules, err), ESK_EINVAL, "number");
	check_fails(esk_daq_rules_parse("@gzip:1", &rules, err), ESK_EINVAL, "expected");
	check_ok(esk_daq_rules_parse(NULL, &rules, err));
	check_ok(esk_daq_rules_for(rules, "scope", daq_schema(), &text, err));
	assert_null(text);
	check_ok(esk_daq_rules_parse(
		"voltage@lzf#100, scope/voltage@none other@gzip:1;psu/timestamp#7", &rules, err));
	check_ok(esk_daq_rules_for(rules, "scope", daq_schema(), &text, err));
	assert_string_equal(text, "voltage@none#100");
	free(text);
	check_ok(esk_daq_rules_for(rules, "psu", daq_schema(), &text, err));
	assert_string_equal(text, "voltage@lzf#100 timestamp#7");
	free(text);
	esk_daq_rules_free(rules);
}

static void a_session_is_as_its_configuration_says(void **state)
{
	static char directory[256];
	esk_session *session;
	esk_storage_config config = ESK_STORAGE_CONFIG_INIT;
	esk_column_rule rules[] = {
		{.name = "scope/voltage", .codec = "none"}, {.name = "unknown", .codec = "lzf"}};
	snprintf(directory, sizeof directory, "%s", daq_path("deep/er/data"));
	config.output_dir = directory;
	config.compression_level = 3;
	config.auto_flush_interval_secs = 0.5;
	config.application = "Bench 4";
	config.columns = rules;
	config.column_count = 2;
	check_ok(esk_session_open(&config, NULL, &session, err));
	write_rows(session, "scope", 0, 10);
	esk_session_stats stats = stats_of(session);
	assert_string_equal(stats.codec, "gzip:3");
	assert_string_equal(stats.output_dir, directory);
	assert_int_equal(stats.auto_flush_interval_ns, 500000000);
	char name[300], file[600];
	snprintf(name, sizeof name, "%s", stats.run);
	snprintf(file, sizeof file, "%s", stats.file_path);
	check_ok(esk_session_close(session, err));
	expect_printed("h5dump -a /application", file, "Bench 4");
	expect_printed("h5dump -p -H -d /scope/timestamp", file, "DEFLATE");
	expect_printed("h5dump -p -H -d /scope/voltage", file, "NONE");
	check_ok(esk_session_open(&config, name, &session, err));
	write_rows(session, "scope", 10, 5);
	check_ok(esk_session_close(session, err));
	config.compression_level = 17;
	check_fails(esk_session_open(&config, NULL, &session, err), ESK_ERANGE, "compression_level");
}

static void a_session_that_encrypts_leaves_no_plain_file_and_goes_on(void **state)
{
	static char directory[256], key_file[256];
	esk_session *session;
	esk_storage_config config = ESK_STORAGE_CONFIG_INIT;
	snprintf(directory, sizeof directory, "%s", daq_path("data"));
	snprintf(key_file, sizeof key_file, "%s", daq_path("key"));
	check_ok(esk_key_make(key_file, err));
	config.output_dir = directory;
	config.key_file = key_file;
	config.encrypt = true;
	char name[300];
	for (int64_t i = 0; i < 3; i++) {
		check_ok(esk_session_open(&config, i > 0 ? name : NULL, &session, err));
		snprintf(name, sizeof name, "%s", esk_session_name(session));
		write_rows(session, "scope", 100 * i, 100);
		check_ok(esk_session_close(session, err));
		expect_printed("ls", directory, ".h5x");
		char plain[700];
		snprintf(plain, sizeof plain, "%s/%s.h5", directory, name);
		assert_int_not_equal(access(plain, F_OK), 0);
	}
	esk_key *key;
	esk_store *store;
	esk_store_options options = ESK_STORE_OPTIONS_INIT;
	check_ok(esk_key_load(key_file, &key, err));
	options.key = key;
	check_ok(esk_store_open(directory, &options, &store, err));
	esk_key_free(key);
	expect_rows(store, name, "scope", 300);
	check_ok(esk_store_close(store, err));
	config.key_file = daq_directory; /* a directory holds no key */
	assert_int_not_equal(esk_session_open(&config, NULL, &session, NULL), ESK_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, daq_enter, daq_leave)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_session_has_the_layout_and_the_statistics_of_the_seed),
		TEST(sessions_begun_in_one_second_have_names_of_their_own),
		TEST(another_schema_is_refused_and_the_difference_named),
		TEST(arrays_that_contradict_their_schema_change_nothing),
		TEST(instruments_cannot_lead_out_of_their_group),
		TEST(metadata_is_bounded_checked_and_searched),
		TEST(an_earlier_session_goes_on),
		TEST(bytes_of_ipc_are_written_and_damaged_ones_refused),
		TEST(a_full_ring_that_rejects_says_how_far_it_came),
		TEST(every_segment_of_a_rotation_says_what_it_is),
		TEST(threads_share_a_session),
		TEST(what_a_session_acknowledged_survives_its_process),
		TEST(rules_for_columns_are_those_of_the_instrument),
		TEST(a_session_is_as_its_configuration_says),
		TEST(a_session_that_encrypts_leaves_no_plain_file_and_goes_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
