/* The leaves of observations or actions, and the Gymnasium space that they make up, as Minari serialises
 * spaces.
 *
 * A tree has dicts and tuples inside (a group whose members are "0", "1", … is a tuple) and datasets as
 * leaves. The space of a leaf follows from its dtype and shape: a whole number is Discrete over the range
 * found, truth values are MultiBinary, all else is a Box of what the dtype holds, unless the run's metadata
 * tells the space. */
#ifndef CLI_LEAVES_H
#define CLI_LEAVES_H

#include "value.h"

#include <jansson.h>

#define CLI_LEAVES_MOST 256

typedef struct cli_leaf {
	const char *path; /* below the tree's root, "" where the root is the leaf; borrowed from the reader */
	cli_rows rows;
	esk_column column; /* as it is exported */
	bool discrete;
	int64_t least, greatest; /* where discrete */
} cli_leaf;

typedef struct cli_leaves {
	const char *root; /* "observations"; borrowed */
	size_t count;
	cli_leaf leaves[CLI_LEAVES_MOST];
} cli_leaves;

/* Finds the leaves at or below `root`, which have `rows` rows at least; for discrete ones the range is read.
 * None is a failure unless `optional`. Close in any case. */
int cli_leaves_open(
	esk_reader *reader, const char *root, uint64_t rows, bool optional, cli_leaves *ret_leaves);
void cli_leaves_close(cli_leaves *leaves);

/* True where one of them is taken for an image by Minari. */
bool cli_leaves_have_images(const cli_leaves *leaves);
/* Where the leaf is in a Minari episode: "observations/goal/_index_0". */
void cli_leaves_target(const cli_leaves *leaves, const char *as, size_t leaf, char *buf, size_t size);
/* The space as JSON text (free()). `told` is what the run's metadata says of it, or NULL. */
char *cli_leaves_space(const cli_leaves *leaves, const json_t *told);

#endif
