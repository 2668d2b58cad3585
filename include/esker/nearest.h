/* "did you mean": the name that was probably meant where a name is none. For programs that take names from
 * people: commands, options, keys, columns.
 *
 *     esk_nearest like = {.wanted = "verfy"};
 *     for (size_t i = 0; i < count; i++)
 *             esk_nearest_consider(&like, names[i]);
 *     if (like.found != NULL)
 *             printf("did you mean %s?", like.found); */
#ifndef ESKER_NEAREST_H
#define ESKER_NEAREST_H

#include <esker/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Longer names, in bytes, are like no other. */
#define ESK_NEAREST_MAX_BYTES 64

typedef struct esk_nearest {
	const char *wanted; /* what was said; borrowed */
	const char *found;  /* the candidate most like it so far, the first of equals; NULL: none is near */
	size_t distance;    /* of `found`: bytes inserted, left out, replaced, or swapped with the next */
} esk_nearest;

/* Takes `candidate`, which is borrowed, where it is nearer than what was found before. Near is what differs
 * in one byte, and in one more for each four bytes of the candidate, up to four in all. Never fails; any
 * thread. */
ESK_API void esk_nearest_consider(esk_nearest *nearest, const char *candidate);

#ifdef __cplusplus
}
#endif
#endif
