/* Promises P2 and P3: the power fails at any call, again and again, in recording, committing, rotating and
 * recovering. What a commit acknowledged is there, nothing is there that was not appended, rows have no hole
 * and no repeat, and verify finds nothing.
 *
 *     test_power_cuts [SEED]     ESK_TEST_SCALE scales the number of cuts, ESK_CUT_SEED replays one store */
#include "unit/fault_rig.h"

#define CUTS_PER_STORE 6
#define CALLS_PER_ROUND 500 /* about: what a round without a cut makes */

static uint64_t random_state;

static uint64_t draw(uint64_t below)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (random_state >> 33) % below;
}

/* What was appended beyond the last commit went with the ring. */
static void settle(rig *g, uint64_t rows, uint64_t cut)
{
	check_bounds(g, rows, "cut", cut);
	g->appended = g->committed = rows;
}

/* The same of pairs and items. */
static void settle_beside(rig *g, uint64_t pairs, uint64_t items, uint64_t cut)
{
	check_beside_bounds(g, pairs, items, "cut", cut);
	g->pairs = g->pairs_committed = pairs;
	g->items = g->items_committed = items;
}

static void settle_store(rig *g, uint64_t cut)
{
	rig before = *g;
	uint64_t rows = check_store(g), pairs = g->pairs, items = g->items;
	g->pairs = before.pairs;
	g->items = before.items;
	settle(g, rows, cut);
	settle_beside(g, pairs, items, cut);
}

/* One call of a program that records; false once it fails. */
static bool random_call(rig *g, esk_run *run, esk_stream *stream, const rig_pair *pair)
{
	esk_watermark mark = {0};
	esk_error err = {0};
	uint64_t what = draw(100), count = 1 + draw(3), taken = 0;
	if (draw(5) == 0)
		return draw(2) == 0 ? append_pair(g, run, pair, &err) == ESK_OK
				    : put_item(g, run, &err) == ESK_OK;
	if (what < 55 && recording_append(stream, g->appended, SALT, NULL, &err) != ESK_OK)
		return false;
	if (what < 55)
		taken = 1;
	else if (what < 70 &&
		 recording_append_many(stream, g->appended, count, SALT, NULL, &taken, &err) != ESK_OK)
		count = 0;
	g->appended += taken;
	if (what < 70)
		return count > 0;
	if (what < 95) {
		if (esk_stream_commit(stream, &mark, &err) != ESK_OK)
			return false;
		assert_int_equal(mark.rows, g->appended);
		g->committed = mark.rows;
		g->pairs_committed = g->pairs;
		g->items_committed = g->items;
		return true;
	}
	return what < 98 ? esk_run_set_metadata(run, "{\"a\": 1}", &err) == ESK_OK
			 : (recording_sleep_ms(1), true);
}

static void record_until_cut(rig *g, uint64_t cut)
{
	esk_store *store;
	esk_run *run;
	esk_stream *stream;
	esk_watermark mark;
	rig_pair pair;
	int64_t items;
	esk_error err = {0};
	esk_run_options options = run_options();
	options.commit_interval_ns = draw(2) == 0 ? 1000000 : UINT64_MAX;
	if (!is_store(g) && esk_store_create_in(&g->environment, g->store, &err) != ESK_OK)
		return;
	if (open_store(g, &store, &err) != ESK_OK)
		return;
	bool going = esk_run_open(store, "run", &options, &run, &err) == ESK_OK;
	if (going && recording_stream(run, "/", &stream, &err) == ESK_OK &&
		pair_streams(run, &pair, &err) == ESK_OK &&
		esk_stream_commit(stream, &mark, &err) == ESK_OK &&
		rig_try_query(store, "SELECT count(*) FROM items", &items)) {
		settle(g, mark.rows, cut);
		settle_beside(g, esk_stream_rows(pair.a), (uint64_t)items, cut);
		assert_int_equal(esk_stream_rows(pair.b), g->pairs);
		for (uint64_t calls = 1 + draw(12); calls > 0 && random_call(g, run, stream, &pair); calls--)
			;
	}
	bool closed = going && esk_run_close(run, &err) == ESK_OK;
	closed = esk_store_close(store, &err) == ESK_OK && closed;
	if (closed) {
		g->committed = g->appended;
		g->pairs_committed = g->pairs;
		g->items_committed = g->items;
	}
}

/* The machine starts again: the ring is gone, or there and not to be trusted. */
static void reboot(rig *g)
{
	char link[300], ring[300];
	ring_path(g, ring);
	bool linked = ring[0] != '\0';
	reboots++;
	esk_fault_reboot(g->fault);
	if (!linked)
		return;
	if (draw(2) == 0)
		unlink(ring);
	if (draw(2) == 0)
		unlink(link_path(g, link));
	else if (symlink(ring, link_path(g, link)) == 0 || errno == EEXIST || errno == ENOENT)
		return;
	unlink(ring); /* nobody else would */
}

static void cut_one_store(test_dir *dir, uint64_t seed, uint64_t cuts)
{
	rig g;
	char link[300];
	random_state = seed;
	rig_begin(&g, dir, seed);
	esk_fault_set_volatile(g.fault, link_path(&g, link));
	for (uint64_t cut = 0; cut < cuts; cut++) {
		esk_fault_cut_at(g.fault, 1 + draw(CALLS_PER_ROUND));
		if (draw(8) == 0)
			esk_fault_set_hiccups(g.fault, 20);
		record_until_cut(&g, cut);
		reboot(&g);
		if (is_store(&g) && draw(2) > 0) {
			settle_store(&g, cut);
			if (rig_key != NULL)
				rig_check_plain_is_empty(&g, cut);
		}
	}
	rig_end(&g);
}

static void power_cuts_leave_a_committed_state(void **state)
{
	uint64_t cuts = test_scale(2000), done = 0;
	const char *only = getenv("ESK_CUT_SEED");
	if (only != NULL) {
		cut_one_store(*state, strtoull(only, NULL, 10), CUTS_PER_STORE);
		return;
	}
	for (uint64_t store = 0; done < cuts; store++, done += CUTS_PER_STORE) {
		uint64_t seed = test_seed() * 1000003 + store;
		if (getenv("ESK_TEST_VERBOSE") != NULL)
			print_message("ESK_CUT_SEED=%llu\n", (unsigned long long)seed);
		cut_one_store(*state, seed, CUTS_PER_STORE);
	}
	print_message("%llu power cuts\n", (unsigned long long)done);
}

static void power_cuts_leave_a_committed_state_of_encrypted_runs(void **state)
{
	rig_make_key(*state);
	power_cuts_leave_a_committed_state(state);
	rig_drop_key();
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			power_cuts_leave_a_committed_state, test_dir_make, test_dir_remove),
		cmocka_unit_test_setup_teardown(
			power_cuts_leave_a_committed_state_of_encrypted_runs, test_dir_make, test_dir_remove),
	};
	return test_run(tests);
}
