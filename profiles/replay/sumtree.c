#include "sumtree.h"

#include <stdlib.h>

bool esk_sumtree_init(esk_sumtree *tree, uint64_t count)
{
	uint64_t leaves = 1;
	while (leaves < count)
		leaves *= 2;
	tree->leaves = leaves;
	tree->sums = calloc(leaves, 2 * sizeof *tree->sums);
	if (tree->sums == NULL)
		return false;
	for (uint64_t i = 0; i < count; i++)
		tree->sums[leaves + i] = 1;
	for (uint64_t i = leaves - 1; i > 0; i--)
		tree->sums[i] = tree->sums[2 * i] + tree->sums[2 * i + 1];
	return true;
}

void esk_sumtree_clear(esk_sumtree *tree)
{
	free(tree->sums);
	*tree = (esk_sumtree){0};
}

void esk_sumtree_set(esk_sumtree *tree, uint64_t index, double weight)
{
	uint64_t at = tree->leaves + index;
	tree->sums[at] = weight;
	for (at /= 2; at > 0; at /= 2)
		tree->sums[at] = tree->sums[2 * at] + tree->sums[2 * at + 1];
}

uint64_t esk_sumtree_find(const esk_sumtree *tree, double point)
{
	uint64_t at = 1;
	while (at < tree->leaves) {
		double left = tree->sums[2 * at], right = tree->sums[2 * at + 1];
		at *= 2;
		if (right > 0 && point >= left) {
			point -= left;
			at++;
		}
	}
	return at - tree->leaves;
}
