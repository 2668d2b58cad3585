/* Contact sheets of many cells, as PNG. */
#ifndef CLI_RASTER_H
#define CLI_RASTER_H

#include "image.h"

typedef struct cli_picture {
	cli_look look;
	double scale;     /* of each frame; 1 for none */
	uint64_t per_row; /* frames in a row of the sheet; 0: about 4:3 */
} cli_picture;

/* Writes one PNG of everything selected: the frame, or a sheet of frames with thin gutters. */
int cli_write_png(FILE *out, cli_selection *selection, const cli_picture *picture);

#endif
