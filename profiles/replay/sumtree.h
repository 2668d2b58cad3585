/* A binary tree of sums: draws an index with a probability proportional to its weight, in log(n) steps.
 *
 *                 [1] = [2] + [3]
 *            [2]                 [3]
 *        [4]     [5]         [6]     [7]
 *        leaves: weights of 0, 1, 2, …, padded with zeros to a power of two
 *
 * Sums are always computed anew from the two below, never adjusted by a difference: rounding does not add up,
 * and a subtree whose weights are all 0 has the sum 0. */
#ifndef ESK_REPLAY_SUMTREE_H
#define ESK_REPLAY_SUMTREE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct esk_sumtree {
	double *sums; /* 2 * leaves; [0] is unused */
	uint64_t leaves;
} esk_sumtree;

/* `count` leaves of weight 1; false when memory runs out. */
bool esk_sumtree_init(esk_sumtree *tree, uint64_t count);
void esk_sumtree_clear(esk_sumtree *tree);

void esk_sumtree_set(esk_sumtree *tree, uint64_t index, double weight);

static inline double esk_sumtree_total(const esk_sumtree *tree)
{
	return tree->sums[1];
}

static inline double esk_sumtree_weight(const esk_sumtree *tree, uint64_t index)
{
	return tree->sums[tree->leaves + index];
}

/* The index at `point`, 0 <= point < total: never one of weight 0 while the total is more than 0. */
uint64_t esk_sumtree_find(const esk_sumtree *tree, double point);

#endif
