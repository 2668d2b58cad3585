/* What goes through the ring beside rows: attributes of groups, texts, and losses upstream. In the file with
 * the next commit, in every later segment, there after a kill, and once.
 *
 *     test_record_objects [SEED]  */
#include "support/ordeal.h"

#include "record/internal.h"

/* ---- the paths that are taken ---- */

static void paths_are_claimed_once_and_given_back(void **state)
{
	enum { NAMES = 500 };
	esk_names names;
	static char paths[NAMES][40];
	static bool taken[NAMES];
	uint64_t random = test_seed();
	(void)state;
	esk_names_init(&names);
	for (size_t i = 0; i < NAMES; i++)
		snprintf(paths[i], sizeof paths[i], "g%u/h%u/item%u", (unsigned)i % 3, (unsigned)i % 11,
			(unsigned)i);
	for (uint64_t turn = test_scale(40000); turn > 0; turn--) {
		random = mix(random + turn);
		size_t i = random % NAMES;
		esk_error err = {0};
		bool new = false;
		esk_name_kind kind;
		assert_int_equal(esk_names_find(&names, paths[i], &kind), taken[i]);
		if (taken[i] && (random >> 32) % 2 == 0) {
			esk_names_release(&names, paths[i]);
			taken[i] = false;
			continue;
		}
		esk_status status = esk_names_claim(&names, paths[i], ESK_NAME_ITEM, &new, &err);
		assert_int_equal(status, taken[i] ? ESK_EEXIST : ESK_OK);
		assert_int_equal(new, !taken[i]);
		taken[i] = true;
	}
	size_t count = 3 + 33; /* the groups */
	for (size_t i = 0; i < NAMES; i++)
		count += taken[i];
	assert_int_equal(names.count, count);
	esk_names_clear(&names);
}

static void what_stands_in_the_way_is_told(void **state)
{
	static const struct {
		const char *path;
		esk_name_kind kind;
		esk_status status;
	} steps[] = {{"a/b", ESK_NAME_DATASET, ESK_OK}, {"a/b", ESK_NAME_DATASET, ESK_EEXIST},
		{"a", ESK_NAME_DATASET, ESK_EEXIST}, {"a", ESK_NAME_GROUP, ESK_OK},
		{"a", ESK_NAME_ITEM, ESK_EEXIST}, {"a/b", ESK_NAME_GROUP, ESK_EEXIST},
		{"a/b/c", ESK_NAME_GROUP, ESK_EEXIST}, {"a/i", ESK_NAME_ITEM, ESK_OK},
		{"a/i", ESK_NAME_GROUP, ESK_OK}, {"a/i", ESK_NAME_ITEM, ESK_EEXIST},
		{"a/i/x", ESK_NAME_DATASET, ESK_EEXIST}, {"j", ESK_NAME_JOIN, ESK_OK},
		{"j", ESK_NAME_JOIN, ESK_OK}, {"j/x", ESK_NAME_ITEM, ESK_EEXIST},
		{"j", ESK_NAME_ITEM, ESK_EEXIST}, {"a/i", ESK_NAME_JOIN, ESK_EEXIST},
		{"t", ESK_NAME_TEXT, ESK_OK}, {"t", ESK_NAME_TEXT, ESK_OK}, {"t", ESK_NAME_GROUP, ESK_EEXIST},
		{"a/b", ESK_NAME_TEXT, ESK_EEXIST}, {"g", ESK_NAME_GROUP, ESK_OK},
		{"g", ESK_NAME_GROUP, ESK_OK}};
	esk_names names;
	(void)state;
	esk_names_init(&names);
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		esk_error err = {0};
		bool new;
		esk_status status = esk_names_claim(&names, steps[i].path, steps[i].kind, &new, &err);
		if (status != steps[i].status)
			fail_msg("step %zu, \"%s\": %s", i, steps[i].path, esk_status_name(status));
		if (status != ESK_OK)
			assert_non_null(strstr(err.message, "already"));
	}
	esk_names_clear(&names);
}

/* ---- looking into files ---- */

static esk_h5 *open_file(const place *p, const char *file)
{
	char path[300];
	esk_h5 *h5;
	esk_error err = {0};
	snprintf(path, sizeof path, "%s/%s", p->path, file);
	assert_ok(esk_h5_open_read(esk_os_posix(), path, &h5, &err), &err);
	return h5;
}

static void check_integer(esk_h5 *h5, const char *object, const char *name, int64_t want)
{
	esk_h5_scalar value;
	esk_error err = {0};
	assert_ok(esk_h5_get_scalar(h5, object, name, &value, &err), &err);
	assert_int_equal(value.kind, ESK_H5_INTEGER);
	assert_int_equal(value.integer, want);
}

static void check_text(esk_h5 *h5, const char *object, const char *name, const char *want)
{
	esk_h5_scalar value;
	esk_error err = {0};
	assert_ok(esk_h5_get_scalar(h5, object, name, &value, &err), &err);
	assert_int_equal(value.kind, ESK_H5_TEXT);
	assert_string_equal(value.text, want);
	esk_h5_scalar_clear(&value);
}

static void check_text_dataset(esk_h5 *h5, const char *path, const char *want)
{
	char *text;
	esk_error err = {0};
	assert_ok(esk_h5_get_text_dataset(h5, path, &text, &err), &err);
	assert_string_equal(text, want);
	free(text);
}

/* Calls `check` with each file of the run. */
static size_t for_each_file(const place *p, void (*check)(esk_h5 *h5, bool live))
{
	DIR *dir = opendir(p->path);
	size_t count = 0;
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		size_t size = strlen(entry->d_name);
		if (size <= 3 || strcmp(entry->d_name + size - 3, ".h5") != 0)
			continue;
		esk_h5 *h5 = open_file(p, entry->d_name);
		check(h5, strcmp(entry->d_name, "run.h5") == 0);
		esk_h5_close(h5, NULL);
		count++;
	}
	closedir(dir);
	return count;
}

/* ---- attributes and texts ---- */

static void set(esk_run *run, const char *object, const char *json)
{
	esk_error err = {0};
	assert_ok(esk_run_set_attributes(run, object, json, &err), &err);
}

static void check_everywhere(esk_h5 *h5, bool live)
{
	esk_h5_scalar value;
	esk_error err = {0};
	check_text(h5, "/", "application", "the test");
	check_integer(h5, "scope", "gain", live ? 12 : 7);
	check_text(h5, "scope/deep", "serial", "Ж-12");
	check_text(h5, "plain/group", "note", "of no stream");
	assert_ok(esk_h5_get_scalar(h5, "scope", "on", &value, &err), &err);
	assert_true(value.kind == ESK_H5_TRUTH && value.integer == 1);
	assert_ok(esk_h5_get_scalar(h5, "scope", "rate", &value, &err), &err);
	assert_true(value.kind == ESK_H5_REAL && value.real == 2.5);
	check_text_dataset(h5, "scope/schema", live ? "{\"fields\": [1]}" : "{\"fields\": []}");
}

static void attributes_and_texts_are_in_every_later_segment(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(1u << 20);
	esk_error err = {0};
	options.segment_bytes = 30000;
	options.append = true;
	options.attributes_json = "{\"application\": \"before\"}";
	esk_run *run = place_run(&p, "run", &options);
	set(run, "/", "{\"application\": \"the test\"}");
	set(run, "scope", "{\"gain\": 1, \"on\": true, \"rate\": 2.5}"); /* before there is a stream */
	set(run, "plain/group", "{\"note\": \"of no stream\"}");
	esk_stream *stream = place_stream(run, "scope", "x:i64 noise:u8[1000]@none");
	place_stream(run, "scope/deep", "x:i64");
	set(run, "scope", "{\"gain\": 7}");
	set(run, "scope/deep", "{\"serial\": \"Ж-12\"}");
	assert_ok(esk_run_set_text(run, "scope/schema", "{\"fields\": []}", &err), &err);
	assert_ok(esk_run_commit(run, NULL, &err), &err);
	uint8_t noise[1000] = {1};
	for (int64_t i = 0; i < 100; i++) {
		if (i % 20 == 19)
			assert_ok(esk_run_commit(run, NULL, &err), &err);
		assert_ok(esk_stream_append(stream, (const void *[]){&i, noise}, NULL, &err), &err);
	}
	place_run_close(run);
	place_reopen(&p);
	options.attributes_json = NULL;
	options.segment_bytes = 0;
	run = place_run(&p, "run", &options);
	set(run, "scope", "{\"gain\": 12}");
	assert_ok(esk_run_set_text(run, "scope/schema", "{\"fields\": [1]}", &err), &err);
	place_run_close(run);
	assert_true(for_each_file(&p, check_everywhere) > 2);
	recording_verify(p.store);
	place_close(&p);
}

static void attributes_and_texts_in_the_way_are_refused(void **state)
{
	static const struct {
		const char *object, *json;
		esk_status status;
		const char *message;
	} cases[] = {
		{"s/x", "{\"a\": 1}", ESK_EEXIST, "\"s/x\" already"},
		{"s/y_valid", "{\"a\": 1}", ESK_EEXIST, "already"},
		{"s/x/below", "{\"a\": 1}", ESK_EEXIST, "\"s/x\" already"},
		{"s/schema", "{\"a\": 1}", ESK_EEXIST, "\"s/schema\" already"},
		{"s", "{\"esker_stream\": 1}", ESK_EINVAL, "Esker's own"},
		{"/", "{\"created_at\": 1}", ESK_EINVAL, "Esker's own"},
		{"/", "{\"total_rows\": 1}", ESK_EINVAL, "counts rows"},
		{"s", "{\"a\": [1]}", ESK_EINVAL, "an array"},
		{"s", "{\"a\": null}", ESK_EINVAL, "null"},
		{"s", "[]", ESK_EINVAL, "no JSON object"},
		{"s", "{", ESK_EINVAL, "line 1"},
		{"a//b", "{}", ESK_EINVAL, "empty"},
		{".esker", "{}", ESK_EINVAL, "'.'"},
		{"", "{}", ESK_EINVAL, "empty"},
	};
	place p = place_make(*state);
	esk_run_options options = place_options(64u << 10);
	esk_stream_options stream_options = ESK_STREAM_OPTIONS_INIT;
	esk_error err = {0};
	esk_column *columns;
	size_t count;
	esk_stream *stream;
	esk_run *run = place_run(&p, "run", &options);
	stream_options.rows_attribute = "total_rows";
	assert_ok(esk_columns_parse("x:i64 y:i32?", &columns, &count, &err), &err);
	assert_ok(esk_run_stream_with(run, "s", columns, count, &stream_options, &stream, &err), &err);
	esk_columns_free(columns);
	assert_ok(esk_run_set_text(run, "s/schema", "one", &err), &err);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		esk_status status = esk_run_set_attributes(run, cases[i].object, cases[i].json, &err);
		if (status != cases[i].status || strstr(err.message, cases[i].message) == NULL)
			fail_msg("case %zu, \"%s\": %s: %s", i, cases[i].object, esk_status_name(status),
				err.message);
	}
	assert_int_equal(esk_run_set_attributes(run, "s", NULL, &err), ESK_EINVAL);
	assert_int_equal(esk_run_set_text(run, "s", "text", &err), ESK_EEXIST);
	assert_int_equal(esk_run_set_text(run, "s/x", "text", &err), ESK_EEXIST);
	assert_int_equal(esk_run_set_text(run, "/", "text", &err), ESK_EINVAL);
	assert_int_equal(esk_run_set_text(run, "t", "\xff", &err), ESK_EINVAL);
	char *large = malloc(40000), *json = malloc(40100);
	memset(large, 'x', 39999);
	large[39999] = '\0';
	snprintf(json, 40100, "{\"a\": \"%s\"}", large);
	assert_int_equal(esk_run_set_text(run, "large", large, &err), ESK_ERANGE);
	assert_non_null(strstr(err.message, "ring_bytes"));
	assert_int_equal(esk_run_set_attributes(run, "large", json, &err), ESK_ERANGE);
	free(large);
	free(json);
	assert_ok(esk_run_set_text(run, "large", "small", &err), &err); /* what was refused took no name */
	place_stream(run, "t", "x:i64");
	set(run, "s", "{}");
	place_run_close(run);
	esk_h5 *h5 = open_file(&p, "run.h5");
	check_text_dataset(h5, "large", "small");
	check_text_dataset(h5, "s/schema", "one");
	esk_h5_close(h5, NULL);
	recording_verify(p.store);
	assert_int_equal(place_query(&p, "SELECT count(*) FROM gaps"), 0);
	place_close(&p);
}

/* ---- losses ---- */

static void losses_upstream_are_gaps_where_they_happened(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(1u << 20);
	esk_check_report report;
	esk_error err = {0};
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *other = place_stream(run, "other", "x:i64"), *stream = place_stream(run, "s", "x:i64");
	for (int64_t i = 0; i < 10; i++) {
		if (i == 4)
			assert_ok(esk_stream_note_loss(stream, 17, 4000, 100, 116, &err), &err);
		if (i == 7)
			assert_ok(esk_run_commit(run, NULL, &err), &err);
		assert_ok(esk_stream_append(stream, (const void *[]){&i}, NULL, &err), &err);
		assert_ok(esk_stream_append(other, (const void *[]){&i}, NULL, &err), &err);
	}
	assert_ok(esk_stream_note_loss(other, 1, 8, 0, 0, &err), &err);
	assert_ok(esk_run_commit(run, NULL, &err), &err);
	esk_run_stats stats = {.struct_size = sizeof stats};
	assert_ok(esk_run_get_stats(run, &stats, &err), &err);
	assert_int_equal(stats.lost_records, 18);
	assert_int_equal(stats.lost_bytes, 4008);
	place_run_close(run);
	for (int turn = 0; turn < 2; turn++) {
		assert_int_equal(place_query(&p, "SELECT count(*) FROM gaps"), 2);
		assert_int_equal(
			place_query(&p,
				"SELECT row FROM v_gaps WHERE stream = 's' AND cause = 'overwritten' AND "
				"records = 17 AND bytes = 4000 AND rows = 0"),
			4);
		assert_int_equal(place_query(&p, "SELECT first_sequence FROM gaps WHERE records = 17"), 100);
		assert_int_equal(place_query(&p, "SELECT last_sequence FROM gaps WHERE records = 17"), 116);
		assert_int_equal(place_query(&p, "SELECT row FROM v_gaps WHERE stream = 'other'"), 10);
		place_close(&p);
		assert_ok(esk_store_reindex(p.path, NULL, &report, &err), &err);
		place_open(&p);
	}
	esk_reader *reader = place_reader(&p, "run");
	int64_t *found = place_read(reader, "s/x", 0, 10, 8);
	for (int64_t i = 0; i < 10; i++)
		assert_int_equal(found[i], i);
	free(found);
	esk_reader_close(reader);
	place_close(&p);
}

/* The sequences of the source have nothing to do with the ring's, by which gaps were told apart once. */
static void losses_are_counted_once_when_commits_fail(void **state)
{
	esk_fault *fault;
	place p = ordeal_place_make(*state, &fault);
	esk_run_options options = place_options(1u << 20);
	esk_error err = {0};
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", "x:i64 noise:u8[2000]");
	uint8_t noise[2000] = {3};
	for (int64_t round = 0; round < 10; round++) {
		char json[64], text[64];
		snprintf(json, sizeof json, "{\"round\": %d, \"text\": \"t%d\"}", (int)round, (int)round);
		snprintf(text, sizeof text, "text %d", (int)round);
		assert_ok(esk_stream_note_loss(stream, 1, 10, round % 3 == 0 ? 1 : 1000000, 1000000, &err),
			&err);
		set(run, "s", json);
		set(run, "/", json);
		assert_ok(esk_run_set_text(run, "t", text, &err), &err);
		assert_ok(esk_stream_append(stream, (const void *[]){&round, noise}, NULL, &err), &err);
		ordeal_commit_without_room(run, fault, 1500 * (uint64_t)(round % 4));
		ordeal_commit_with_room(run, fault);
	}
	esk_run_stats stats = {.struct_size = sizeof stats};
	assert_ok(esk_run_get_stats(run, &stats, &err), &err);
	assert_int_equal(stats.lost_records, 10);
	place_run_close(run);
	ordeal_place_end(&p, fault);
	assert_int_equal(place_query(&p, "SELECT total(records) FROM gaps"), 10);
	esk_h5 *h5 = open_file(&p, "run.h5");
	check_integer(h5, "s", "round", 9);
	check_text(h5, "/", "text", "t9");
	check_text_dataset(h5, "t", "text 9");
	esk_h5_dataset *gaps;
	assert_ok(esk_h5_dataset_open(h5, ESK_GAPS_PATH, &gaps, &err), &err);
	assert_int_equal(esk_h5_dataset_info(gaps)->rows, 10);
	esk_h5_close(h5, NULL);
	recording_verify(p.store);
	place_close(&p);
}

/* Each account is a row beside the loss that it is of: in front of the row with which it was appended. */
static void losses_and_rows_of_one_append_are_together_when_commits_fail(void **state)
{
	esk_fault *fault;
	place p = ordeal_place_make(*state, &fault);
	esk_run_options options = place_options(1u << 20);
	esk_error err = {0};
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", "x:i64"), *account = place_stream(run, "a", "lost:u64");
	for (int64_t round = 0; round < 8; round++) {
		uint64_t lost = 10 + (uint64_t)round;
		esk_loss_part losses[] = {{.stream = stream,
						  .records = lost,
						  .bytes = 100,
						  .first_sequence = 50,
						  .last_sequence = 50 + lost},
			{.stream = account, .cause = ESK_LOSS_DAMAGED, .records = 1}};
		esk_rows_part parts[] = {{.stream = account, .rows = 1, .cells = (const void *[]){&lost}},
			{.stream = stream, .rows = 1, .cells = (const void *[]){&round}}};
		assert_ok(esk_stream_append(stream, (const void *[]){&round}, NULL, &err), &err);
		assert_ok(esk_run_append_with_losses(run, losses, 2, parts, 2, &err), &err);
		assert_int_equal(parts[1].row, 2 * round + 1);
		assert_ok(esk_run_append_with_losses(run, losses, 1, NULL, 0, &err), &err);
		ordeal_commit_without_room(run, fault, 1500 * (uint64_t)(round % 4));
		ordeal_commit_with_room(run, fault);
	}
	place_run_close(run);
	ordeal_place_end(&p, fault);
	for (int turn = 0; turn < 2; turn++) {
		esk_check_report report;
		assert_int_equal(
			place_query(&p, "SELECT count(*) FROM v_gaps WHERE stream = 's' AND cause = "
					"'overwritten' AND row < 16 AND row = 2 * (records - 10) + 1"),
			8);
		assert_int_equal(place_query(&p, "SELECT count(*) FROM v_gaps WHERE stream = 's' AND cause = "
						 "'overwritten' AND row = 2 * (records - 10) + 2"),
			8);
		assert_int_equal(place_query(&p, "SELECT count(*) FROM v_gaps WHERE stream = 'a' AND cause = "
						 "'damaged' AND records = 1"),
			8);
		assert_int_equal(place_query(&p, "SELECT count(*) FROM gaps"), 24);
		recording_verify(p.store);
		place_close(&p);
		assert_ok(esk_store_reindex(p.path, NULL, &report, &err), &err);
		place_open(&p);
	}
	place_close(&p);
}

static void losses_that_cannot_be_told_are_refused_whole(void **state)
{
	place p = place_make(*state);
	esk_run_options options = place_options(1u << 20);
	esk_error err = {0};
	int64_t x = 1;
	esk_run *run = place_run(&p, "run", &options), *other = place_run(&p, "other", &options);
	esk_stream *stream = place_stream(run, "s", "x:i64");
	esk_loss_part loss = {.stream = place_stream(other, "s", "x:i64"), .records = 1};
	esk_rows_part row = {.stream = stream, .rows = 1, .cells = (const void *[]){&x}};
	assert_int_equal(esk_run_append_with_losses(run, NULL, 0, NULL, 0, &err), ESK_EINVAL);
	assert_int_equal(esk_run_append_with_losses(run, &loss, 1, &row, 1, &err), ESK_EINVAL);
	assert_non_null(strstr(err.message, "no stream of this run"));
	loss.stream = stream;
	loss.cause = (esk_loss_cause)2;
	assert_int_equal(esk_run_append_with_losses(run, &loss, 1, &row, 1, &err), ESK_EINVAL);
	assert_non_null(strstr(err.message, "cause 2"));
	assert_int_equal(esk_stream_rows(stream), 0);
	loss.cause = ESK_LOSS_OVERWRITTEN;
	assert_ok(esk_run_append_with_losses(run, &loss, 1, &row, 1, &err), &err);
	place_run_close(run);
	place_run_close(other);
	assert_int_equal(place_query(&p, "SELECT count(*) FROM gaps"), 1);
	place_close(&p);
}

/* ---- death ---- */

typedef struct shared {
	_Atomic int64_t set;
	_Atomic int64_t losses; /* that were acknowledged */
	_Atomic int64_t deaths;
} shared;

static void die_while_setting(const char *path, void *arg)
{
	shared *s = arg;
	place p = place_at(path);
	esk_error err = {0};
	esk_run_options options = place_options(1u << 20);
	options.append = true;
	options.commit_interval_ns = 3000000;
	options.segment_bytes = 60000;
	esk_run *run = place_run(&p, "run", &options);
	esk_stream *stream = place_stream(run, "s", "x:i64 noise:u8[500]@none");
	uint8_t noise[500] = {7};
	for (int64_t i = (int64_t)esk_stream_rows(stream);; i++) {
		char json[64], text[64];
		snprintf(json, sizeof json, "{\"i\": %lld}", (long long)i);
		snprintf(text, sizeof text, "%lld", (long long)i);
		if (esk_stream_append(stream, (const void *[]){&i, noise}, NULL, &err) != ESK_OK ||
			esk_run_set_attributes(run, "s", json, &err) != ESK_OK ||
			esk_run_set_text(run, "t", text, &err) != ESK_OK ||
			esk_stream_note_loss(stream, 1, 1, (uint64_t)i, (uint64_t)i, &err) != ESK_OK)
			_exit(1);
		atomic_fetch_add(&s->losses, 1);
		atomic_store(&s->set, i + 1);
	}
}

static void check_after_death(const char *path, void *arg)
{
	shared *s = arg;
	place p = place_at(path);
	char *text;
	esk_h5_scalar value;
	esk_error err = {0};
	int64_t set_before = atomic_load(&s->set);
	esk_reader *reader = place_reader(&p, "run");
	int64_t rows = (int64_t)esk_dataset_rows(recording_find(reader, "s", "x"));
	assert_in_range(rows, set_before, set_before + 1);
	esk_reader_close(reader);
	esk_h5 *h5 = open_file(&p, "run.h5");
	assert_ok(esk_h5_get_scalar(h5, "s", "i", &value, &err), &err);
	assert_in_range(value.integer, set_before - 1, set_before);
	assert_ok(esk_h5_get_text_dataset(h5, "t", &text, &err), &err);
	assert_in_range(strtoll(text, NULL, 10), set_before - 1, set_before);
	free(text);
	esk_h5_close(h5, NULL);
	/* One that was not acknowledged may be there as well, each time. */
	int64_t losses = atomic_load(&s->losses), deaths = atomic_fetch_add(&s->deaths, 1) + 1;
	assert_in_range(place_query(&p, "SELECT total(records) FROM gaps"), losses, losses + deaths);
	assert_int_equal(place_query(&p, "SELECT count(*) FROM gaps WHERE records != 1"), 0);
	assert_int_equal(place_query(&p, "SELECT count(*) FROM gaps WHERE first_sequence != row - 1"), 0);
	recording_verify(p.store);
	place_close(&p);
}

static void what_was_acknowledged_is_there_once_after_death(void **state)
{
	ordeal o = {.live = die_while_setting,
		.look = check_after_death,
		.shared_bytes = sizeof(shared),
		.most = 3,
		.most_ms = 20};
	ordeal_run(*state, &o, test_scale(8));
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		ONE(what_was_acknowledged_is_there_once_after_death), /* it forks: before there are threads */
		cmocka_unit_test(paths_are_claimed_once_and_given_back),
		cmocka_unit_test(what_stands_in_the_way_is_told),
		ONE(attributes_and_texts_are_in_every_later_segment),
		ONE(attributes_and_texts_in_the_way_are_refused),
		ONE(losses_upstream_are_gaps_where_they_happened),
		ONE(losses_are_counted_once_when_commits_fail),
		ONE(losses_and_rows_of_one_append_are_together_when_commits_fail),
		ONE(losses_that_cannot_be_told_are_refused_whole),
	};
	return test_run(tests);
}
