/* Pictures as text: half-block characters, each of two pixels, in colour; where there is none, characters
 * from dark to light. */
#ifndef CLI_BLOCKS_H
#define CLI_BLOCKS_H

#include "image.h"

typedef enum cli_shade {
	CLI_SHADE_RAMP = 0, /* " .:-=+*#%@" */
	CLI_SHADE_256,      /* half-blocks in the 256 colours of xterm */
	CLI_SHADE_TRUE      /* half-blocks in 24-bit colours */
} cli_shade;

/* What `stream` can show: by NO_COLOR, TERM, COLORTERM, and the character set. */
cli_shade cli_shade_of(FILE *stream);

/* Fits `frame` (8 bits a sample) into `columns` x `lines` characters, in its proportions: makes *ret_picture,
 * two pixels a character from top to bottom, whose height is even. */
void cli_blocks_fit(const cli_raster *frame, unsigned columns, unsigned lines, cli_raster *ret_picture);
/* Writes line `line` of the picture: picture->width characters. */
void cli_blocks_put(FILE *out, const cli_raster *picture, unsigned line, cli_shade shade);

#endif
