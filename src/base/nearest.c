/* The name that was probably meant: see esker/nearest.h. */
#include "base/base.h"

#include <esker/nearest.h>
#include <string.h>

#define MOST_DISTANCE 4u

/* Fills `row` from the two rows of the table above it: row[j] is the distance of the first bytes of `a`, up
 * to and with a[0], from the first j bytes of `b`. `swapped`: a[-1] is there, and `two_above` with it. */
static void fill_row(const char *a, bool swapped, const char *b, size_t b_bytes, const size_t *two_above,
	const size_t *above, size_t *row)
{
	row[0] = above[0] + 1;
	for (size_t j = 1; j <= b_bytes; j++) {
		size_t best = above[j - 1] + (a[0] != b[j - 1]);
		if (above[j] + 1 < best)
			best = above[j] + 1;
		if (row[j - 1] + 1 < best)
			best = row[j - 1] + 1;
		if (swapped && j > 1 && a[0] == b[j - 2] && a[-1] == b[j - 1] && two_above[j - 2] + 1 < best)
			best = two_above[j - 2] + 1;
		row[j] = best;
	}
}

/* Damerau and Levenshtein's distance, where no part is changed twice (optimal string alignment). */
static size_t distance(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
	size_t rows[3][ESK_NEAREST_MAX_BYTES + 1];
	for (size_t j = 0; j <= b_bytes; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= a_bytes; i++)
		fill_row(a + i - 1, i > 1, b, b_bytes, rows[(i + 1) % 3], rows[(i + 2) % 3], rows[i % 3]);
	return rows[a_bytes % 3][b_bytes];
}

void esk_nearest_consider(esk_nearest *nearest, const char *candidate)
{
	size_t wanted_bytes = strnlen(nearest->wanted, ESK_NEAREST_MAX_BYTES + 1);
	size_t candidate_bytes = strnlen(candidate, ESK_NEAREST_MAX_BYTES + 1);
	if (wanted_bytes > ESK_NEAREST_MAX_BYTES || candidate_bytes > ESK_NEAREST_MAX_BYTES)
		return;
	size_t most = 1 + candidate_bytes / 4;
	if (most > MOST_DISTANCE)
		most = MOST_DISTANCE;
	size_t found = distance(nearest->wanted, wanted_bytes, candidate, candidate_bytes);
	/* Of a name that is all other, nothing is alike. */
	if (found > most || found >= candidate_bytes ||
		(nearest->found != NULL && found >= nearest->distance))
		return;
	nearest->found = candidate;
	nearest->distance = found;
}
