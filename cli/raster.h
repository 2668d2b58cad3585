/* Pictures of cells: which cells are images, contact sheets of many, PNG. */
#ifndef CLI_RASTER_H
#define CLI_RASTER_H

#include "select.h"

typedef enum cli_channels { CLI_CHANNELS_AUTO = 0, CLI_CHANNELS_RGBA, CLI_CHANNELS_STACK } cli_channels;

typedef struct cli_picture {
	cli_channels channels; /* what four channels are */
	bool stretch;          /* the least and greatest value of the selection become black and white */
	double scale;          /* of each frame; 1 for none */
	uint64_t per_row;      /* frames in a row of the sheet; 0: about 4:3 */
} cli_picture;

/* True if cells of this column are images. */
bool cli_is_image(const esk_column *column);

/* Writes one PNG of everything selected: the frame, or a sheet of frames with thin gutters. */
int cli_write_png(FILE *out, cli_selection *selection, const cli_picture *picture);

#endif
