/* replay: sampling. Draws against a reference that follows each episode step by step; statistics with the
 * seed printed. */
#include "replay_support.h"

#include <math.h>
#include <pthread.h>
#include <sys/wait.h>

#define RUNS 3

/* Runs of one, two and three slots, read; row i of each is step i. */
typedef struct runs {
	model models[RUNS];
	esk_replay_reader *readers[RUNS];
} runs;

static runs make_runs(replay_place *place, uint64_t steps)
{
	runs r = {0};
	for (uint32_t i = 0; i < RUNS; i++) {
		char run[16];
		snprintf(run, sizeof run, "run%u", i);
		esk_replay_options options = small_options();
		options.slots = i + 1;
		esk_replay_writer *writer = open_writer(place, run, &options);
		r.models[i] = model_make(test_seed() * 31 + i);
		for (uint64_t s = 0; s < steps * (i + 1); s++)
			model_step(
				&r.models[i], writer, (uint32_t)model_draw(&r.models[i], options.slots), 9);
		close_writer(writer);
		r.readers[i] = open_reader(place, run);
	}
	return r;
}

static void clear_runs(runs *r)
{
	for (uint32_t i = 0; i < RUNS; i++) {
		esk_replay_reader_close(r->readers[i]);
		model_clear(&r->models[i]);
	}
}

static esk_replay_sampler *make_sampler(
	esk_replay_reader *const *readers, size_t count, const esk_replay_sampler_options *options)
{
	esk_error err;
	esk_replay_sampler *sampler;
	assert_ok(esk_replay_sampler_create(readers, count, options, &sampler, &err), &err);
	return sampler;
}

/* ---- draws and their arrays ---- */

#define BATCH 64
#define STACK 5

typedef struct drawn {
	uint64_t indices[BATCH], rows[BATCH * STACK], next_rows[BATCH * STACK];
	uint32_t readers[BATCH], spans[BATCH];
	float rewards[BATCH];
	uint8_t terminated[BATCH], truncated[BATCH];
	double weights[BATCH];
} drawn;

static void draw_into(esk_replay_sampler *sampler, uint64_t batch, drawn *d)
{
	esk_error err;
	esk_replay_draw draw = {.struct_size = sizeof draw,
		.batch = batch,
		.indices = d->indices,
		.readers = d->readers,
		.rows = d->rows,
		.next_rows = d->next_rows,
		.rewards = d->rewards,
		.terminated = d->terminated,
		.truncated = d->truncated,
		.spans = d->spans,
		.weights = d->weights};
	assert_ok(esk_replay_sampler_draw(sampler, &draw, &err), &err);
}

/* The episode that has the row, and which of its steps that is. */
static const model_episode *find_step(const model *m, uint64_t row, uint64_t *ret_step)
{
	for (uint64_t id = 0; id < m->count; id++)
		for (uint64_t s = 0; s < m->episodes[id].length; s++)
			if (m->episodes[id].rows[s] == row) {
				*ret_step = s;
				return &m->episodes[id];
			}
	fail_msg("row %llu is in no episode", (unsigned long long)row);
	return NULL;
}

static void check_stack(const model_episode *e, uint64_t step, const uint64_t *rows, uint32_t stack)
{
	for (uint32_t k = 0; k < stack; k++) {
		int64_t at = (int64_t)step - (int64_t)(stack - 1 - k);
		assert_int_equal(rows[k], e->rows[at > 0 ? at : 0]);
	}
}

static void check_transition(
	const runs *r, const drawn *d, uint64_t i, const esk_replay_sampler_options *options)
{
	uint64_t t;
	const uint64_t *rows = d->rows + i * options->stack;
	assert_in_range(d->readers[i], 0, RUNS - 1);
	const model_episode *e = find_step(&r->models[d->readers[i]], rows[options->stack - 1], &t);
	check_stack(e, t, rows, options->stack);
	double reward = 0, factor = 1;
	uint32_t span = 0;
	bool ended = false;
	for (uint64_t s = t; span < options->n_step && !ended; s++, span++, factor *= options->gamma) {
		reward += factor * reward_of((int64_t)e->rows[s]);
		ended = s + 1 == e->length;
	}
	assert_int_equal(d->spans[i], span);
	assert_true(fabs(d->rewards[i] - reward) < 1e-4);
	check_stack(e, ended ? e->length - 1 : t + span, d->next_rows + i * options->stack, options->stack);
	assert_int_equal(d->terminated[i], ended && e->outcome == ESK_REPLAY_TERMINATED);
	assert_int_equal(d->truncated[i], ended && e->outcome != ESK_REPLAY_TERMINATED);
	assert_true(d->weights[i] == 1);
}

static void stacks_and_spans_stay_within_their_episode(void **state)
{
	replay_place *place = *state;
	runs r = make_runs(place, 200);
	for (uint32_t stack = 1; stack <= STACK; stack += 2)
		for (uint32_t n_step = 1; n_step <= 7; n_step += 3) {
			esk_replay_sampler_options options = ESK_REPLAY_SAMPLER_OPTIONS_INIT;
			options.stack = stack;
			options.n_step = n_step;
			options.gamma = n_step == 1 ? 1 : 0.9;
			options.seed = test_seed();
			esk_replay_sampler *sampler = make_sampler(r.readers, RUNS, &options);
			assert_int_equal(esk_replay_sampler_size(sampler),
				r.models[0].steps + r.models[1].steps + r.models[2].steps);
			for (int turn = 0; turn < 20; turn++) {
				drawn d;
				draw_into(sampler, BATCH, &d);
				for (uint64_t i = 0; i < BATCH; i++)
					check_transition(&r, &d, i, &options);
			}
			esk_replay_sampler_destroy(sampler);
		}
	clear_runs(&r);
}

static void the_same_seed_gives_the_same_draws(void **state)
{
	replay_place *place = *state;
	runs r = make_runs(place, 100);
	for (int prioritized = 0; prioritized < 2; prioritized++) {
		esk_replay_sampler_options options = {
			.struct_size = sizeof options, .prioritized = prioritized == 1, .seed = test_seed()};
		esk_replay_sampler *a = make_sampler(r.readers, RUNS, &options);
		esk_replay_sampler *b = make_sampler(r.readers, RUNS, &options);
		options.seed++;
		esk_replay_sampler *c = make_sampler(r.readers, RUNS, &options);
		drawn whole = {0}, half = {0}, other = {0};
		draw_into(a, BATCH, &whole);
		draw_into(b, BATCH / 2, &half);
		draw_into(c, BATCH, &other);
		assert_memory_equal(whole.indices, half.indices, BATCH / 2 * sizeof(uint64_t));
		assert_memory_not_equal(whole.indices, other.indices, BATCH * sizeof(uint64_t));
		draw_into(b, BATCH / 2, &half);
		assert_memory_equal(whole.indices + BATCH / 2, half.indices, BATCH / 2 * sizeof(uint64_t));
		esk_replay_sampler_destroy(a);
		esk_replay_sampler_destroy(b);
		esk_replay_sampler_destroy(c);
	}
	clear_runs(&r);
}

/* ---- statistics ---- */

/* Chi-square of `counts` against `shares` of `total`; for n degrees of freedom it is about n, with a
 * deviation of sqrt(2 n). */
static double chi_square(const uint64_t *counts, const double *shares, uint64_t n, uint64_t total)
{
	double sum = 0;
	for (uint64_t i = 0; i < n; i++) {
		double expected = shares[i] * (double)total;
		if (expected > 0)
			sum += ((double)counts[i] - expected) * ((double)counts[i] - expected) / expected;
		else
			assert_int_equal(counts[i], 0);
	}
	return sum;
}

static void count_draws(esk_replay_sampler *sampler, uint64_t *counts, uint64_t total)
{
	drawn d;
	for (uint64_t i = 0; i < total; i += BATCH) {
		draw_into(sampler, BATCH, &d);
		for (uint64_t k = 0; k < BATCH; k++)
			counts[d.indices[k]]++;
	}
}

static void check_distribution(esk_replay_sampler *sampler, const double *shares, const char *name)
{
	uint64_t n = esk_replay_sampler_size(sampler), total = BATCH * (test_scale(400000) / BATCH),
		 possible = 0;
	uint64_t *counts = calloc(n, sizeof *counts);
	count_draws(sampler, counts, total);
	for (uint64_t i = 0; i < n; i++)
		possible += shares[i] > 0;
	double freedom = (double)possible - 1, chi = chi_square(counts, shares, n, total);
	print_message("%s: seed %llu, chi-square %.1f, %.0f degrees of freedom\n", name,
		(unsigned long long)test_seed(), chi, freedom);
	assert_true(fabs(chi - freedom) < 6 * sqrt(2 * freedom));
	free(counts);
}

static void every_step_is_as_likely_as_any_other(void **state)
{
	replay_place *place = *state;
	runs r = make_runs(place, 50);
	esk_replay_sampler_options options = {.struct_size = sizeof options, .seed = test_seed()};
	esk_replay_sampler *sampler = make_sampler(r.readers, RUNS, &options);
	uint64_t n = esk_replay_sampler_size(sampler);
	double *shares = malloc(n * sizeof *shares);
	for (uint64_t i = 0; i < n; i++)
		shares[i] = 1 / (double)n;
	check_distribution(sampler, shares, "uniform");
	esk_replay_sampler_destroy(sampler);
	options.prioritized = true; /* all priorities are 1 to begin with */
	sampler = make_sampler(r.readers, RUNS, &options);
	check_distribution(sampler, shares, "equal priorities");
	esk_replay_sampler_destroy(sampler);
	free(shares);
	clear_runs(&r);
}

static void steps_are_drawn_by_their_priority(void **state)
{
	replay_place *place = *state;
	esk_error err;
	runs r = make_runs(place, 40);
	esk_replay_sampler_options options = {.struct_size = sizeof options,
		.prioritized = true,
		.alpha = 0.5,
		.beta = 0.7,
		.seed = test_seed()};
	esk_replay_sampler *sampler = make_sampler(r.readers, RUNS, &options);
	uint64_t n = esk_replay_sampler_size(sampler);
	double *priorities = malloc(n * sizeof *priorities), *shares = malloc(n * sizeof *shares), sum = 0;
	uint64_t *indices = malloc(n * sizeof *indices);
	model random = model_make(test_seed());
	for (uint64_t i = 0; i < n; i++) {
		indices[i] = i;
		priorities[i] = i % 4 == 3 ? 0 : 0.2 + (double)model_draw(&random, 1000) / 100;
		shares[i] = sqrt(priorities[i]);
		sum += shares[i];
	}
	for (uint64_t i = 0; i < n; i++)
		shares[i] /= sum;
	assert_ok(esk_replay_sampler_update(sampler, indices, priorities, n, &err), &err);
	check_distribution(sampler, shares, "priorities");

	drawn d;
	draw_into(sampler, BATCH, &d);
	double largest = 0;
	for (int i = 0; i < BATCH; i++)
		largest = fmax(largest, pow((double)n * shares[d.indices[i]], -0.7));
	for (int i = 0; i < BATCH; i++)
		assert_true(
			fabs(d.weights[i] - pow((double)n * shares[d.indices[i]], -0.7) / largest) < 1e-9);

	/* One step alone is left. */
	memset(priorities, 0, n * sizeof *priorities);
	priorities[n - 1] = 1e-300;
	assert_ok(esk_replay_sampler_update(sampler, indices, priorities, n, &err), &err);
	draw_into(sampler, BATCH, &d);
	for (int i = 0; i < BATCH; i++)
		assert_true(d.indices[i] == n - 1 && d.weights[i] == 1);
	priorities[n - 1] = 0;
	assert_ok(esk_replay_sampler_update(sampler, indices, priorities, n, &err), &err);
	esk_replay_draw draw = {.struct_size = sizeof draw, .batch = 1, .indices = d.indices};
	assert_int_equal(esk_replay_sampler_draw(sampler, &draw, &err), ESK_ERANGE);
	assert_non_null(strstr(err.message, "priority 0"));
	esk_replay_sampler_destroy(sampler);
	free(priorities);
	free(shares);
	free(indices);
	clear_runs(&r);
}

/* ---- gathering ---- */

static bool cells_are_right(const runs *r, esk_replay_sampler *sampler, uint64_t seed)
{
	esk_error err;
	uint32_t readers[BATCH];
	uint64_t rows[BATCH];
	uint8_t frames[BATCH][FRAME_BYTES], frame[FRAME_BYTES];
	float observations[BATCH][OBSERVATIONS], observation[OBSERVATIONS];
	model random = model_make(seed);
	bool right = true;
	for (int i = 0; i < BATCH; i++) {
		readers[i] = (uint32_t)model_draw(&random, RUNS);
		rows[i] = model_draw(&random, r->models[readers[i]].steps);
	}
	right = esk_replay_sampler_gather(
			sampler, "frames", readers, rows, BATCH, frames, sizeof frames, &err) == ESK_OK &&
		esk_replay_sampler_gather(sampler, "observations", readers, rows, BATCH, observations,
			sizeof observations, &err) == ESK_OK;
	for (int i = 0; i < BATCH && right; i++) {
		fill_cells((int64_t)rows[i], frame, observation);
		if (!has_frame((int64_t)rows[i]))
			memset(frame, 0, sizeof frame);
		if (!has_observation((int64_t)rows[i]))
			memset(observation, 0, sizeof observation);
		right = memcmp(frames[i], frame, sizeof frame) == 0 &&
			memcmp(observations[i], observation, sizeof observation) == 0;
	}
	return right;
}

typedef struct gatherer {
	const runs *r;
	esk_replay_sampler *sampler;
	uint64_t seed;
	bool right;
} gatherer;

static void *gather_often(void *arg)
{
	gatherer *g = arg;
	g->right = true;
	for (uint64_t i = 0; i < 50 && g->right; i++)
		g->right = cells_are_right(g->r, g->sampler, g->seed + i);
	return NULL;
}

static void cells_are_gathered_from_many_runs_by_threads_and_children(void **state)
{
	replay_place *place = *state;
	runs r = make_runs(place, 300);
	esk_replay_sampler *sampler = make_sampler(r.readers, RUNS, NULL);
	gatherer gatherers[3];
	pthread_t threads[3];
	for (uint64_t t = 0; t < 3; t++) {
		gatherers[t] = (gatherer){.r = &r, .sampler = sampler, .seed = test_seed() + 1000 * t};
		assert_int_equal(pthread_create(&threads[t], NULL, gather_often, &gatherers[t]), 0);
	}
	for (int t = 0; t < 3; t++) {
		pthread_join(threads[t], NULL);
		assert_true(gatherers[t].right);
	}
	pid_t child = fork();
	if (child == 0)
		_exit(cells_are_right(&r, sampler, test_seed()) ? 0 : 1);
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_true(cells_are_right(&r, sampler, test_seed() + 1));
	esk_replay_sampler_destroy(sampler);
	clear_runs(&r);
}

/* ---- bad input ---- */

static void bad_options_and_arguments_are_refused(void **state)
{
	replay_place *place = *state;
	esk_error err = {0};
	runs r = make_runs(place, 20);
	esk_replay_sampler *sampler = NULL;
	esk_replay_sampler_options options = {.struct_size = sizeof options, .gamma = -1};
	assert_int_equal(esk_replay_sampler_create(r.readers, RUNS, &options, &sampler, &err), ESK_EINVAL);
	assert_non_null(strstr(err.message, "gamma is -1"));
	options = (esk_replay_sampler_options){.struct_size = sizeof options, .alpha = NAN};
	assert_int_equal(esk_replay_sampler_create(r.readers, RUNS, &options, &sampler, &err), ESK_EINVAL);
	assert_int_equal(esk_replay_sampler_create(r.readers, 0, NULL, &sampler, &err), ESK_EINVAL);
	assert_null(sampler);

	uint64_t indices[2] = {0, 0};
	double priorities[2] = {1, -1};
	sampler = make_sampler(r.readers, RUNS, NULL);
	assert_int_equal(esk_replay_sampler_update(sampler, indices, priorities, 1, &err), ESK_EINVAL);
	assert_non_null(strstr(err.message, "prioritized"));
	esk_replay_draw draw = {.struct_size = sizeof draw, .batch = 1};
	assert_int_equal(esk_replay_sampler_draw(sampler, &draw, &err), ESK_EINVAL);
	uint8_t cells[2 * FRAME_BYTES];
	uint32_t readers[2] = {0, RUNS};
	assert_int_equal(
		esk_replay_sampler_gather(sampler, "frames", readers, indices, 2, cells, sizeof cells, &err),
		ESK_ERANGE);
	readers[1] = 1;
	assert_int_equal(esk_replay_sampler_gather(
				 sampler, "frames", readers, indices, 2, cells, sizeof cells - 1, &err),
		ESK_ESHAPE);
	assert_int_equal(esk_replay_sampler_gather(sampler, "frames", readers, indices, 2, cells, 2, &err),
		ESK_ESHAPE);
	assert_int_equal(
		esk_replay_sampler_gather(sampler, "none", readers, indices, 2, cells, sizeof cells, &err),
		ESK_ENOTFOUND);
	assert_int_equal(
		esk_replay_sampler_gather(sampler, "frames", NULL, indices, 2, cells, sizeof cells, &err),
		ESK_EINVAL);
	indices[1] = 1u << 30;
	assert_int_equal(
		esk_replay_sampler_gather(sampler, "frames", readers, indices, 2, cells, sizeof cells, &err),
		ESK_ERANGE);
	esk_replay_sampler_destroy(sampler);

	options = (esk_replay_sampler_options){.struct_size = sizeof options, .prioritized = true};
	sampler = make_sampler(r.readers, RUNS, &options);
	indices[0] = 0;
	indices[1] = 1;
	priorities[0] = 50; /* not taken, since its neighbour is refused */
	assert_int_equal(esk_replay_sampler_update(sampler, indices, priorities, 2, &err), ESK_EINVAL);
	indices[1] = esk_replay_sampler_size(sampler);
	priorities[1] = 1;
	assert_int_equal(esk_replay_sampler_update(sampler, indices, priorities, 2, &err), ESK_ERANGE);
	drawn d;
	draw_into(sampler, BATCH, &d);
	for (int i = 0; i < BATCH; i++)
		assert_true(d.weights[i] == 1);
	esk_replay_sampler_destroy(sampler);
	esk_replay_sampler_destroy(NULL);
	clear_runs(&r);
}

static void there_is_nothing_to_draw_from_an_empty_run(void **state)
{
	replay_place *place = *state;
	esk_error err = {0};
	esk_replay_writer *writer = open_writer(place, "run", NULL);
	esk_replay_reader *reader = open_reader(place, "run");
	esk_replay_sampler_options options = {.struct_size = sizeof options, .prioritized = true};
	for (int prioritized = 0; prioritized < 2; prioritized++) {
		options.prioritized = prioritized == 1;
		esk_replay_sampler *sampler = make_sampler(&reader, 1, &options);
		uint64_t index;
		esk_replay_draw draw = {.struct_size = sizeof draw, .batch = 1, .indices = &index};
		assert_int_equal(esk_replay_sampler_size(sampler), 0);
		assert_int_equal(esk_replay_sampler_draw(sampler, &draw, &err), ESK_ERANGE);
		assert_non_null(strstr(err.message, "no steps"));
		esk_replay_sampler_destroy(sampler);
	}
	esk_replay_reader_close(reader);
	close_writer(writer);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, replay_place_make, replay_place_remove)

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		TEST(stacks_and_spans_stay_within_their_episode),
		TEST(the_same_seed_gives_the_same_draws),
		TEST(every_step_is_as_likely_as_any_other),
		TEST(steps_are_drawn_by_their_priority),
		TEST(cells_are_gathered_from_many_runs_by_threads_and_children),
		TEST(bad_options_and_arguments_are_refused),
		TEST(there_is_nothing_to_draw_from_an_empty_run),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
