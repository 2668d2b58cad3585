/* Sampling transitions for training.
 *
 * The steps of all readers are laid one episode behind the other, so that the steps before and after one are
 * its neighbours, wherever their rows are:
 *
 *     position   0 1 2 3 4 5 6 7 8 …           an index, as draws give it
 *     episode    a a a a b b c c c
 *     before     0 1 2 3 0 1 0 1 2             steps of the episode before this one
 *     after      3 2 1 0 1 0 2 1 0             and behind it
 *     row        0 2 4 5 1 3 6 7 8             in the reader's datasets */
#include "internal.h"
#include "sumtree.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of an episode that has a final observation. */
typedef struct final_place {
	uint64_t last; /* position of its last step */
	int64_t row;   /* in /episodes */
} final_place;

struct esk_replay_sampler {
	esk_replay_sampler_options options;
	esk_replay_reader **readers;
	uint64_t *firsts; /* reader_count + 1: positions at which the readers begin */
	uint32_t reader_count;
	uint64_t size;
	uint64_t *rows;
	float *rewards;
	uint32_t *before, *after;
	uint8_t *outcomes;   /* of the step's episode, an esk_replay_outcome */
	final_place *finals; /* by `last`, ascending */
	uint64_t final_count;
	esk_sumtree tree; /* where prioritized */
	uint64_t random[4];
};

/* ---- random numbers: xoshiro256**, seeded by splitmix64 (Blackman and Vigna, 2018) ---- */

static uint64_t rotate_left(uint64_t x, int by)
{
	return (x << by) | (x >> (64 - by));
}

static void random_seed(uint64_t state[4], uint64_t seed)
{
	for (int i = 0; i < 4; i++) {
		uint64_t z = seed += UINT64_C(0x9E3779B97F4A7C15);
		z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
		z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
		state[i] = z ^ (z >> 31);
	}
}

static uint64_t random_next(uint64_t s[4])
{
	uint64_t result = rotate_left(s[1] * 5, 7) * 9, t = s[1] << 17;
	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotate_left(s[3], 45);
	return result;
}

/* Uniform in [0, bound), bound > 0: the upper half of a product, without those products that would make some
 * results likelier (Lemire, 2019). */
static uint64_t random_below(uint64_t s[4], uint64_t bound)
{
	uint64_t threshold = -bound % bound;
	for (;;) {
		unsigned __int128 product = (unsigned __int128)random_next(s) * bound;
		if ((uint64_t)product >= threshold)
			return (uint64_t)(product >> 64);
	}
}

/* Uniform in [0, 1). */
static double random_unit(uint64_t s[4])
{
	return (double)(random_next(s) >> 11) * 0x1p-53;
}

/* ---- making ---- */

static esk_status check_options(const esk_replay_sampler_options *options, esk_error *err)
{
	const struct {
		const char *name;
		double value;
	} numbers[] = {{"gamma", options->gamma}, {"alpha", options->alpha}, {"beta", options->beta}};
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		if (!isfinite(numbers[i].value) || numbers[i].value < 0)
			return esk_fail(err, ESK_EINVAL,
				"sampler: %s is %g, expected a finite number of 0 or more", numbers[i].name,
				numbers[i].value);
	return ESK_OK;
}

static void take_options(esk_replay_sampler_options *taken, const esk_replay_sampler_options *options)
{
	*taken = (esk_replay_sampler_options)ESK_REPLAY_SAMPLER_OPTIONS_INIT;
	if (options != NULL)
		esk_struct_take(taken, sizeof *taken, options);
	taken->stack = taken->stack != 0 ? taken->stack : 1;
	taken->n_step = taken->n_step != 0 ? taken->n_step : 1;
	taken->gamma = taken->gamma != 0 ? taken->gamma : 1;
	taken->alpha = taken->alpha != 0 ? taken->alpha : 0.6;
	taken->beta = taken->beta != 0 ? taken->beta : 0.4;
}

static uint64_t steps_in_episodes(const esk_replay_reader *reader)
{
	uint64_t steps = 0;
	for (uint64_t i = 0; i < reader->count; i++)
		steps += reader->episodes[i].length;
	return steps;
}

static esk_status make_room(
	esk_replay_sampler *sampler, esk_replay_reader *const *readers, size_t count, esk_error *err)
{
	sampler->reader_count = (uint32_t)count;
	sampler->readers = calloc(count + 1, sizeof *sampler->readers);
	sampler->firsts = calloc(count + 1, sizeof *sampler->firsts);
	if (sampler->readers == NULL || sampler->firsts == NULL)
		return esk_fail_memory(err, count * sizeof *sampler->readers, "readers");
	uint64_t episodes = 0;
	for (size_t r = 0; r < count; r++) {
		sampler->readers[r] = readers[r];
		episodes += readers[r]->count;
		sampler->firsts[r] = sampler->size;
		sampler->size += steps_in_episodes(readers[r]);
	}
	sampler->firsts[count] = sampler->size;
	uint64_t n = sampler->size + 1;
	sampler->rows = malloc(n * sizeof *sampler->rows);
	sampler->rewards = calloc(n, sizeof *sampler->rewards);
	sampler->before = malloc(n * sizeof *sampler->before);
	sampler->after = malloc(n * sizeof *sampler->after);
	sampler->outcomes = malloc(n);
	sampler->finals = malloc((episodes + 1) * sizeof *sampler->finals);
	if (sampler->finals == NULL || sampler->rows == NULL || sampler->rewards == NULL ||
		sampler->before == NULL || sampler->after == NULL || sampler->outcomes == NULL ||
		(sampler->options.prioritized && !esk_sumtree_init(&sampler->tree, n - 1)))
		return esk_fail_memory(err, n * 24, "the steps of a sampler");
	return ESK_OK;
}

/* Outcomes of all episodes of a reader, those without a row in one read. */
static esk_status read_outcomes(esk_replay_reader *reader, uint8_t *outcomes, esk_error *err)
{
	esk_status status = ESK_OK;
	uint64_t *lasts = malloc((reader->count + 1) * (2 * sizeof *lasts + 1));
	if (lasts == NULL)
		return esk_fail_memory(err, reader->count * sizeof *lasts, "episodes");
	uint64_t *ids = lasts + reader->count + 1;
	uint8_t *found = (uint8_t *)(ids + reader->count + 1);
	for (int ended = 0; ended < 2 && status == ESK_OK; ended++) {
		size_t asked = 0;
		for (uint64_t i = 0; i < reader->count; i++) {
			const esk_replay_entry *e = &reader->episodes[i];
			outcomes[i] = e->has_outcome ? e->outcome : outcomes[i];
			if (e->has_outcome || e->length == 0 || e->has_row != (ended == 1))
				continue;
			ids[asked] = i;
			lasts[asked++] = e->last;
		}
		if (asked > 0)
			status = esk_replay_outcomes(reader, lasts, asked, ended == 1, found, err);
		for (size_t i = 0; i < asked && status == ESK_OK; i++)
			outcomes[ids[i]] = found[i];
	}
	free(lasts);
	return status;
}

static esk_status read_rewards(
	esk_replay_reader *reader, const uint64_t *rows, uint64_t count, float *rewards, esk_error *err)
{
	if (reader->has.rewards == NULL || reader->steps == 0)
		return ESK_OK;
	double *all = malloc(reader->steps * sizeof *all);
	if (all == NULL)
		return esk_fail_memory(err, reader->steps * sizeof *all, "rewards");
	esk_status status = esk_replay_read_reals(reader->has.rewards, 0, reader->steps, all, err);
	for (uint64_t i = 0; i < count && status == ESK_OK; i++)
		rewards[i] = (float)all[rows[i]];
	free(all);
	return status;
}

static esk_status lay_out(esk_replay_sampler *sampler, uint32_t r, esk_error *err)
{
	esk_replay_reader *reader = sampler->readers[r];
	uint64_t at = sampler->firsts[r];
	uint8_t *outcomes = calloc(reader->count + 1, 1);
	if (outcomes == NULL)
		return esk_fail_memory(err, reader->count, "episodes");
	esk_status status = read_outcomes(reader, outcomes, err);
	if (status == ESK_OK)
		status = esk_replay_episodes_arrange(reader, sampler->rows + at, err);
	if (status == ESK_OK)
		status = read_rewards(
			reader, sampler->rows + at, sampler->firsts[r + 1] - at, sampler->rewards + at, err);
	for (uint64_t i = 0; i < reader->count && status == ESK_OK; i++) {
		uint64_t length = reader->episodes[i].length;
		if (length > UINT32_MAX)
			status = esk_fail(err, ESK_ERANGE, "sampler: episode %llu has %llu steps",
				(unsigned long long)i, (unsigned long long)length);
		for (uint64_t s = 0; s < length && status == ESK_OK; s++, at++) {
			sampler->before[at] = (uint32_t)s;
			sampler->after[at] = (uint32_t)(length - 1 - s);
			sampler->outcomes[at] = outcomes[i];
		}
		if (length > 0 && reader->episodes[i].has_row && reader->episodes[i].final_row >= 0)
			sampler->finals[sampler->final_count++] =
				(final_place){at - 1, reader->episodes[i].final_row};
	}
	free(outcomes);
	return status;
}

esk_status esk_replay_sampler_create(esk_replay_reader *const *readers, size_t count,
	const esk_replay_sampler_options *options, esk_replay_sampler **ret_sampler, esk_error *err)
{
	esk_replay_sampler_options taken;
	take_options(&taken, options);
	esk_status status = check_options(&taken, err);
	if (status == ESK_OK && (count == 0 || count > UINT32_MAX))
		status = esk_fail(err, ESK_EINVAL, "sampler: expected one reader or more, found %zu", count);
	if (status != ESK_OK)
		return status;
	esk_replay_sampler *sampler = calloc(1, sizeof *sampler);
	if (sampler == NULL)
		return esk_fail_memory(err, sizeof *sampler, "a sampler");
	sampler->options = taken;
	random_seed(sampler->random, taken.seed);
	status = make_room(sampler, readers, count, err);
	for (uint32_t r = 0; r < count && status == ESK_OK; r++)
		status = lay_out(sampler, r, err);
	if (status != ESK_OK) {
		esk_replay_sampler_destroy(sampler);
		return status;
	}
	*ret_sampler = sampler;
	return ESK_OK;
}

void esk_replay_sampler_destroy(esk_replay_sampler *sampler)
{
	if (sampler == NULL)
		return;
	esk_sumtree_clear(&sampler->tree);
	free(sampler->finals);
	free(sampler->outcomes);
	free(sampler->after);
	free(sampler->before);
	free(sampler->rewards);
	free(sampler->rows);
	free(sampler->firsts);
	free(sampler->readers);
	free(sampler);
}

uint64_t esk_replay_sampler_size(const esk_replay_sampler *sampler)
{
	return sampler->size;
}

/* ---- drawing ---- */

static uint32_t reader_of(const esk_replay_sampler *sampler, uint64_t at)
{
	uint32_t low = 0, high = sampler->reader_count;
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		if (sampler->firsts[middle] <= at)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* Rows of the stack that ends with the step `at`. */
static void put_stack(const esk_replay_sampler *sampler, uint64_t at, uint64_t *rows)
{
	uint32_t stack = sampler->options.stack;
	for (uint32_t i = 0; i < stack; i++) {
		uint32_t back = stack - 1 - i;
		rows[i] = sampler->rows[at - (back < sampler->before[at] ? back : sampler->before[at])];
	}
}

/* Row of the final observation of the episode whose last step is at `last`; -1: there is none. */
static int64_t final_row(const esk_replay_sampler *sampler, uint64_t last)
{
	uint64_t low = 0, high = sampler->final_count;
	while (low < high) {
		uint64_t middle = low + (high - low) / 2;
		if (sampler->finals[middle].last < last)
			low = middle + 1;
		else
			high = middle;
	}
	return low < sampler->final_count && sampler->finals[low].last == last ? sampler->finals[low].row
									       : -1;
}

static double discounted(const esk_replay_sampler *sampler, uint64_t at, uint32_t span)
{
	double sum = 0, factor = 1;
	for (uint32_t i = 0; i < span; i++, factor *= sampler->options.gamma)
		sum += factor * sampler->rewards[at + i];
	return sum;
}

static void put_transition(
	const esk_replay_sampler *sampler, uint64_t at, const esk_replay_draw *draw, uint64_t i)
{
	uint32_t stack = sampler->options.stack, n = sampler->options.n_step, after = sampler->after[at];
	bool ends = n > after; /* the episode's last step is within the span */
	uint32_t span = ends ? after + 1 : n;
	bool terminated = ends && sampler->outcomes[at] == ESK_REPLAY_TERMINATED;
	if (draw->readers != NULL)
		draw->readers[i] = reader_of(sampler, at);
	if (draw->rows != NULL)
		put_stack(sampler, at, draw->rows + i * stack);
	if (draw->next_rows != NULL)
		put_stack(sampler, at + (ends ? after : n), draw->next_rows + i * stack);
	if (draw->rewards != NULL)
		draw->rewards[i] = (float)discounted(sampler, at, span);
	if (draw->terminated != NULL)
		draw->terminated[i] = terminated;
	if (draw->truncated != NULL)
		draw->truncated[i] = ends && !terminated;
	if (draw->spans != NULL)
		draw->spans[i] = span;
	if (draw->final_rows != NULL)
		draw->final_rows[i] = ends ? final_row(sampler, at + after) : -1;
}

/* (N * P(i))^-beta, so that the largest of the batch is 1 (Schaul et al., 2016). */
static void put_weights(const esk_replay_sampler *sampler, const esk_replay_draw *draw)
{
	double largest = 0;
	for (uint64_t i = 0; i < draw->batch; i++) {
		double share = 1;
		if (sampler->options.prioritized)
			share = esk_sumtree_weight(&sampler->tree, draw->indices[i]) *
				((double)sampler->size / esk_sumtree_total(&sampler->tree));
		draw->weights[i] = pow(share, -sampler->options.beta);
		largest = draw->weights[i] > largest ? draw->weights[i] : largest;
	}
	for (uint64_t i = 0; i < draw->batch; i++)
		draw->weights[i] /= largest;
}

esk_status esk_replay_sampler_draw(esk_replay_sampler *sampler, const esk_replay_draw *draw, esk_error *err)
{
	esk_replay_draw taken = {0};
	esk_struct_take(&taken, sizeof taken, draw);
	bool prioritized = sampler->options.prioritized;
	if (taken.batch > 0 && taken.indices == NULL)
		return esk_fail(err, ESK_EINVAL, "sampler: a draw needs its array of indices, found NULL");
	if (sampler->size == 0)
		return esk_fail(err, ESK_ERANGE,
			"sampler: there are no steps to draw from; record some, or wait for a commit");
	if (prioritized && !(esk_sumtree_total(&sampler->tree) > 0))
		return esk_fail(err, ESK_ERANGE, "sampler: every step has the priority 0");
	for (uint64_t i = 0; i < taken.batch; i++) {
		uint64_t at =
			prioritized
				? esk_sumtree_find(&sampler->tree,
					  random_unit(sampler->random) * esk_sumtree_total(&sampler->tree))
				: random_below(sampler->random, sampler->size);
		taken.indices[i] = at;
		put_transition(sampler, at, &taken, i);
	}
	if (taken.weights != NULL)
		put_weights(sampler, &taken);
	return ESK_OK;
}

esk_status esk_replay_sampler_update(esk_replay_sampler *sampler, const uint64_t *indices,
	const double *priorities, uint64_t count, esk_error *err)
{
	if (!sampler->options.prioritized)
		return esk_fail(err, ESK_EINVAL,
			"sampler: it draws uniformly; set options.prioritized to give steps priorities");
	for (uint64_t i = 0; i < count; i++) {
		if (indices[i] >= sampler->size)
			return esk_fail(err, ESK_ERANGE, "sampler: index %llu, there are %llu steps",
				(unsigned long long)indices[i], (unsigned long long)sampler->size);
		if (!(priorities[i] >= 0) || !isfinite(pow(priorities[i], sampler->options.alpha)))
			return esk_fail(err, ESK_EINVAL,
				"sampler: priority %g of step %llu, expected a finite number of 0 or more",
				priorities[i], (unsigned long long)indices[i]);
	}
	for (uint64_t i = 0; i < count; i++)
		esk_sumtree_set(&sampler->tree, indices[i], pow(priorities[i], sampler->options.alpha));
	return ESK_OK;
}

/* ---- gathering ---- */

/* The cells of one reader: to a buffer of their own, and from there to their places. */
static esk_status gather_one(esk_replay_reader *reader, const char *path, const uint64_t *rows,
	const uint64_t *places, size_t count, size_t cell_bytes, char *buf, char *scratch, esk_error *err)
{
	esk_dataset *dataset;
	esk_status status = esk_reader_find(reader->base, path, &dataset, err);
	if (status == ESK_OK)
		status = esk_dataset_read_rows(dataset, rows, count, scratch, count * cell_bytes, err);
	for (size_t i = 0; i < count && status == ESK_OK; i++)
		memcpy(buf + places[i] * cell_bytes, scratch + i * cell_bytes, cell_bytes);
	return status;
}

static esk_status gather_many(esk_replay_sampler *sampler, const char *path, const uint32_t *readers,
	const uint64_t *rows, uint64_t count, char *buf, size_t cell_bytes, esk_error *err)
{
	uint64_t *places = malloc(2 * count * sizeof *places);
	char *scratch = malloc(count * cell_bytes + 1);
	esk_status status = ESK_OK;
	if (places == NULL || scratch == NULL)
		status = esk_fail_memory(err, count * (cell_bytes + 2 * sizeof *places), "a batch");
	for (uint32_t r = 0; r < sampler->reader_count && status == ESK_OK; r++) {
		uint64_t *own = places + count;
		size_t found = 0;
		for (uint64_t i = 0; i < count; i++)
			if (readers[i] == r) {
				places[found] = i;
				own[found++] = rows[i];
			}
		if (found > 0)
			status = gather_one(
				sampler->readers[r], path, own, places, found, cell_bytes, buf, scratch, err);
	}
	free(scratch);
	free(places);
	return status;
}

esk_status esk_replay_sampler_gather(esk_replay_sampler *sampler, const char *path, const uint32_t *readers,
	const uint64_t *rows, uint64_t count, void *buf, size_t buf_bytes, esk_error *err)
{
	esk_dataset *dataset;
	bool one = true;
	if (count == 0)
		return ESK_OK;
	if (readers == NULL && sampler->reader_count > 1)
		return esk_fail(err, ESK_EINVAL, "sampler: %u readers, and none is named (readers is NULL)",
			sampler->reader_count);
	for (uint64_t i = 0; i < count && readers != NULL; i++) {
		if (readers[i] >= sampler->reader_count)
			return esk_fail(err, ESK_ERANGE, "sampler: reader %u, there are %u", readers[i],
				sampler->reader_count);
		one = one && readers[i] == readers[0];
	}
	if (!one && buf_bytes % count != 0)
		return esk_fail(err, ESK_ESHAPE,
			"sampler: a buffer of %zu bytes does not hold %llu cells of \"%s\" exactly",
			buf_bytes, (unsigned long long)count, path);
	if (!one)
		return gather_many(sampler, path, readers, rows, count, buf, buf_bytes / count, err);
	esk_replay_reader *reader = sampler->readers[readers != NULL ? readers[0] : 0];
	esk_status status = esk_reader_find(reader->base, path, &dataset, err);
	return status == ESK_OK ? esk_dataset_read_rows(dataset, rows, count, buf, buf_bytes, err) : status;
}
