/* Cells as pictures: which cells are images, and their pixels.
 *
 *     cell ──convert──▶ pixels (its tiles side by side, 8 or 16 bits) ──place──▶ a part of another raster,
 * scaled
 */
#ifndef CLI_IMAGE_H
#define CLI_IMAGE_H

#include "select.h"

/* Rows of pixels without padding; samples of 8 bits, or of 16 in native order. */
typedef struct cli_raster {
	uint64_t width, height, channels; /* 1: grey, 3: RGB, 4: RGBA */
	uint32_t bytes;                   /* per sample: 1 or 2 */
	unsigned char *data;              /* owned: free() */
} cli_raster;

/* Makes a raster that is dark grey all over, and opaque. */
void cli_raster_make(cli_raster *r, uint64_t width, uint64_t height, uint64_t channels, uint32_t bytes);
/* Scales `from` into a part of `to`, which has the same channels and bytes: each pixel is the mean of those
 * that it covers; when enlarging, the one nearest. */
void cli_raster_place(
	const cli_raster *from, cli_raster *to, uint64_t left, uint64_t top, uint64_t width, uint64_t height);

typedef enum cli_channels { CLI_CHANNELS_AUTO = 0, CLI_CHANNELS_RGBA, CLI_CHANNELS_STACK } cli_channels;

typedef struct cli_look {
	cli_channels channels; /* what four channels are */
	bool stretch;          /* the least and greatest value of the selection become black and white */
	bool eight_bits;       /* 16-bit samples lose their lower half */
} cli_look;

/* What the options --channels and --stretch of a command say. */
int cli_parse_look(const cli_args *args, cli_look *ret_look);
/* "2", "0.5", "1/4": a factor from 0.001 to 64. */
bool cli_parse_scale(const char *text, double *ret_scale);

/* How the elements of a cell are pixels; strides count elements. */
typedef struct cli_view {
	uint64_t width, height, channels, tiles;
	uint64_t stride_x, stride_y, stride_channel, stride_tile;
} cli_view;

typedef struct cli_image {
	cli_view view;
	esk_dtype dtype;
	bool stretch;
	double low, high;
	cli_raster pixels; /* of the cell that was converted last */
} cli_image;

/* True if cells of this column are images. */
bool cli_is_image(const esk_column *column);

/* Finds out how the cells of `s` are pictures; close in any case. */
int cli_image_open(cli_selection *s, const cli_look *look, cli_image *ret_image);
/* Where values are stretched: reads all of `s` for their least and greatest. Before the first cell is
 * converted. */
int cli_image_measure(cli_image *image, cli_selection *s);
/* Tells people which values those are, where values are stretched. */
void cli_image_tell(const cli_image *image, const cli_selection *s);
/* Fills image->pixels from one cell; NULL, a missing one, is grey. */
void cli_image_convert(cli_image *image, const void *cell);
void cli_image_close(cli_image *image);

#endif
