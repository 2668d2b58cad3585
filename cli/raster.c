/* Contact sheets as PNG: see raster.h. */
#include "raster.h"

#include <inttypes.h>
#include <math.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>

#define SHEET_MOST_BYTES (1ull << 30)
#define SIDE_MOST_PIXELS 100000
#define GUTTER 2 /* between frames */
#define PIECE_BYTES (16u << 20)

typedef struct sheet {
	cli_image image;
	cli_raster all;
	uint64_t frame_width, frame_height, per_row;
} sheet;

/* ---- the sheet ---- */

static uint64_t scaled(uint64_t side, double scale)
{
	double value = (double)side * scale;
	return value < 1 ? 1 : value > 1e9 ? 1000000000 : (uint64_t)(value + 0.5);
}

/* Sizes are below 2^40 for a cell (columns are checked) and clamped to 1e9 when scaled, so nothing overflows
 * before the limits are compared. */
static int lay_out(const cli_selection *s, const cli_picture *picture, sheet *sh)
{
	const cli_raster *frame = &sh->image.pixels;
	sh->frame_width = scaled(frame->width, picture->scale);
	sh->frame_height = scaled(frame->height, picture->scale);
	uint64_t wish = picture->per_row;
	if (wish == 0)
		wish = (uint64_t)ceil(
			sqrt((double)s->count * 4 / 3 * (double)sh->frame_height / (double)sh->frame_width));
	sh->per_row = wish < 1 ? 1 : wish > s->count ? s->count : wish;
	uint64_t lines = (s->count + sh->per_row - 1) / sh->per_row;
	double width = (double)sh->per_row * (double)(sh->frame_width + GUTTER) - GUTTER;
	double height = (double)lines * (double)(sh->frame_height + GUTTER) - GUTTER;
	double size = width * height * (double)(frame->channels * frame->bytes);
	if (width > SIDE_MOST_PIXELS || height > SIDE_MOST_PIXELS || size > (double)SHEET_MOST_BYTES)
		return cli_fail("%s: %" PRIu64 " frames make a picture of %.0f x %.0f pixels; take a range, "
				"--every N or a smaller --scale",
			s->text, s->count, width, height);
	cli_raster_make(&sh->all, (uint64_t)width, (uint64_t)height, frame->channels, frame->bytes);
	return CLI_OK;
}

static void place_frame(sheet *sh, uint64_t number)
{
	uint64_t left = number % sh->per_row * (sh->frame_width + GUTTER);
	uint64_t top = number / sh->per_row * (sh->frame_height + GUTTER);
	cli_raster_place(&sh->image.pixels, &sh->all, left, top, sh->frame_width, sh->frame_height);
}

static int fill_sheet(cli_selection *s, sheet *sh)
{
	uint64_t piece = cli_rows_piece(&s->rows, PIECE_BYTES);
	for (uint64_t i = 0; i < s->count; i += piece) {
		int code = cli_select_load(s, i, piece);
		if (code != CLI_OK)
			return code;
		for (uint64_t k = 0; k < s->rows.count; k++) {
			const unsigned char *cell = cli_rows_cell(&s->rows, k);
			if (cell == NULL)
				continue;
			cli_image_convert(&sh->image, cell);
			place_frame(sh, i + k);
		}
	}
	return CLI_OK;
}

/* ---- PNG ---- */

static void on_png_error(png_structp png, png_const_charp message)
{
	cli_fail("making the PNG: %s", message);
	longjmp(png_jmpbuf(png), 1);
}

static int write_png(FILE *out, const cli_raster *r)
{
	static const int types[] = {0, PNG_COLOR_TYPE_GRAY, 0, PNG_COLOR_TYPE_RGB, PNG_COLOR_TYPE_RGBA};
	png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, on_png_error, NULL);
	png_infop info = png != NULL ? png_create_info_struct(png) : NULL;
	if (info == NULL) {
		png_destroy_write_struct(&png, NULL);
		return cli_fail("out of memory for the PNG");
	}
	if (setjmp(png_jmpbuf(png)) != 0) {
		png_destroy_write_struct(&png, &info);
		return CLI_FAILED;
	}
	png_init_io(png, out);
	png_set_IHDR(png, info, (png_uint_32)r->width, (png_uint_32)r->height, r->bytes == 2 ? 16 : 8,
		types[r->channels], PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
		PNG_FILTER_TYPE_DEFAULT);
	png_write_info(png, info);
	if (r->bytes == 2)
		png_set_swap(png);
	for (uint64_t y = 0; y < r->height; y++)
		png_write_row(png, r->data + y * r->width * r->channels * r->bytes);
	png_write_end(png, NULL);
	png_destroy_write_struct(&png, &info);
	return CLI_OK;
}

int cli_write_png(FILE *out, cli_selection *selection, const cli_picture *picture)
{
	sheet sh = {0};
	int code = cli_image_open(selection, &picture->look, &sh.image);
	if (code == CLI_OK)
		code = lay_out(selection, picture, &sh);
	if (code == CLI_OK)
		code = cli_image_measure(&sh.image, selection);
	if (code == CLI_OK)
		code = fill_sheet(selection, &sh);
	if (code == CLI_OK)
		cli_image_tell(&sh.image, selection);
	if (code == CLI_OK)
		code = write_png(out, &sh.all);
	cli_image_close(&sh.image);
	free(sh.all.data);
	return code;
}
