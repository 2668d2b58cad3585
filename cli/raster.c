/* Pictures of cells: see raster.h.
 *
 *     cell ──convert──▶ strip (its tiles side by side, 8 or 16 bit) ──scale──▶ place in the sheet ──▶ PNG
 */
#include "raster.h"

#include <inttypes.h>
#include <math.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>

#define SHEET_MOST_BYTES (1ull << 30)
#define SIDE_MOST_PIXELS 100000
#define TILES_MOST 64
#define GUTTER 2      /* between frames */
#define TILE_GUTTER 1 /* between the tiles of one frame */
#define GREY 64       /* gutters, and cells that are missing */
#define PIECE_BYTES (16u << 20)

/* How the elements of a cell are pixels; strides count elements. */
typedef struct view {
	uint64_t width, height, channels, tiles;
	uint64_t stride_x, stride_y, stride_channel, stride_tile;
} view;

typedef struct raster {
	uint64_t width, height, channels;
	uint32_t bytes; /* per sample: 1, or 2 in native order */
	unsigned char *data;
} raster;

typedef struct sheet {
	view view;
	esk_dtype dtype;
	bool stretch;
	double low, high;
	raster strip;
	raster all;
	uint64_t frame_width, frame_height, per_row;
} sheet;

/* ---- what is an image ---- */

static view rows_first(uint64_t height, uint64_t width, uint64_t channels)
{
	return (view){.width = width,
		.height = height,
		.channels = channels,
		.tiles = 1,
		.stride_x = channels,
		.stride_y = width * channels,
		.stride_channel = 1};
}

/* The channels of a view become tiles of one channel each. */
static view as_tiles(view v)
{
	v.tiles = v.channels;
	v.stride_tile = v.stride_channel;
	v.channels = 1;
	return v;
}

/* height × width × channels, or channels first; more than four channels, or two, are a stack of pictures. */
static bool view_of_three(const uint64_t *n, view *ret_view)
{
	if (n[2] == 1 || n[2] == 3 || (n[2] <= 16 && n[0] > n[2] && n[1] > n[2])) {
		*ret_view = rows_first(n[0], n[1], n[2]);
	} else if (n[0] <= 16 && n[1] > n[0] && n[2] > n[0]) {
		*ret_view = rows_first(n[1], n[2], 1);
		ret_view->channels = n[0];
		ret_view->stride_channel = n[1] * n[2];
	} else {
		return false;
	}
	if (ret_view->channels != 1 && ret_view->channels != 3 && ret_view->channels != 4)
		*ret_view = as_tiles(*ret_view);
	return true;
}

static bool find_view(const esk_column *column, view *ret_view)
{
	const uint64_t *n = column->shape;
	if (!cli_is_number(column->dtype))
		return false;
	if (column->rank == 2) {
		*ret_view = rows_first(n[0], n[1], 1);
		return true;
	}
	if (column->rank == 3)
		return view_of_three(n, ret_view);
	if (column->rank == 4 && n[0] <= TILES_MOST && (n[3] == 1 || n[3] == 3)) {
		*ret_view = rows_first(n[1], n[2], n[3]);
		ret_view->tiles = n[0];
		ret_view->stride_tile = n[1] * n[2] * n[3];
		return true;
	}
	return false;
}

bool cli_is_image(const esk_column *column)
{
	view v;
	return find_view(column, &v) && v.width > 1 && v.height > 1;
}

/* Four channels are red, green, blue and alpha if the alpha of the first frame is opaque all over. */
static bool opaque(const cli_rows *rows, const view *v)
{
	esk_dtype dtype = rows->info.column.dtype;
	double full = dtype.kind == ESK_U8 ? 255 : dtype.kind == ESK_U16 ? 65535 : 1;
	const unsigned char *cell = cli_rows_cell(rows, 0);
	for (uint64_t i = 0; cell != NULL && i < v->width * v->height; i++) {
		uint64_t at = i / v->width * v->stride_y + i % v->width * v->stride_x + 3 * v->stride_channel;
		if (cli_real(dtype, cell + at * dtype.size_bytes) != full)
			return false;
	}
	return cell != NULL;
}

/* ---- values ---- */

static int find_limits(cli_selection *s, sheet *sh)
{
	sh->low = INFINITY;
	sh->high = -INFINITY;
	uint64_t piece = cli_rows_piece(&s->rows, PIECE_BYTES);
	for (uint64_t i = 0; i < s->count; i += piece) {
		int code = cli_select_load(s, i, piece);
		if (code != CLI_OK)
			return code;
		for (uint64_t k = 0; k < s->rows.count; k++) {
			const unsigned char *cell = cli_rows_cell(&s->rows, k);
			for (uint64_t e = 0; cell != NULL && e < s->rows.elements; e++) {
				double value = cli_real(sh->dtype, cell + e * sh->dtype.size_bytes);
				sh->low = isfinite(value) && value < sh->low ? value : sh->low;
				sh->high = isfinite(value) && value > sh->high ? value : sh->high;
			}
		}
	}
	if (sh->low > sh->high)
		sh->low = sh->high = 0;
	return CLI_OK;
}

static unsigned stretch(const sheet *sh, double value)
{
	if (!(value > sh->low) || sh->high <= sh->low) /* NaN is black */
		return 0;
	if (value >= sh->high)
		return 255;
	return (unsigned)((value - sh->low) / (sh->high - sh->low) * 255 + 0.5);
}

static void put_sample(const sheet *sh, const unsigned char *element, unsigned char *to)
{
	if (sh->stretch)
		*to = (unsigned char)stretch(sh, cli_real(sh->dtype, element));
	else if (sh->dtype.kind == ESK_BOOL)
		*to = *element != 0 ? 255 : 0;
	else
		memcpy(to, element, sh->strip.bytes);
}

/* Fills the strip from one cell. */
static void convert(sheet *sh, const unsigned char *cell)
{
	const view *v = &sh->view;
	raster *strip = &sh->strip;
	for (uint64_t tile = 0; tile < v->tiles; tile++) {
		for (uint64_t y = 0; y < v->height; y++) {
			uint64_t from = tile * v->stride_tile + y * v->stride_y;
			uint64_t to = (y * strip->width + tile * (v->width + TILE_GUTTER)) * strip->channels;
			for (uint64_t x = 0; x < v->width; x++, from += v->stride_x)
				for (uint64_t c = 0; c < v->channels; c++, to++)
					put_sample(sh,
						cell + (from + c * v->stride_channel) * sh->dtype.size_bytes,
						strip->data + to * strip->bytes);
		}
	}
}

/* ---- the sheet ---- */

static unsigned load_sample(const raster *r, uint64_t x, uint64_t y, uint64_t c)
{
	const unsigned char *at = r->data + ((y * r->width + x) * r->channels + c) * r->bytes;
	uint16_t value = *at;
	if (r->bytes == 2)
		memcpy(&value, at, 2);
	return value;
}

static void store_sample(raster *r, uint64_t x, uint64_t y, uint64_t c, unsigned sample)
{
	unsigned char *at = r->data + ((y * r->width + x) * r->channels + c) * r->bytes;
	uint16_t value = (uint16_t)sample;
	if (r->bytes == 2)
		memcpy(at, &value, 2);
	else
		*at = (unsigned char)sample;
}

/* The mean of the pixels that a target pixel covers; when enlarging, the one nearest. */
static unsigned covered(const raster *r, uint64_t x0, uint64_t x1, uint64_t y0, uint64_t y1, uint64_t c)
{
	if (x1 - x0 == 1 && y1 - y0 == 1)
		return load_sample(r, x0, y0, c);
	uint64_t sum = 0, count = (x1 - x0) * (y1 - y0);
	for (uint64_t y = y0; y < y1; y++)
		for (uint64_t x = x0; x < x1; x++)
			sum += load_sample(r, x, y, c);
	return (unsigned)((sum + count / 2) / count);
}

static void place_frame(sheet *sh, uint64_t number)
{
	uint64_t left = number % sh->per_row * (sh->frame_width + GUTTER);
	uint64_t top = number / sh->per_row * (sh->frame_height + GUTTER);
	const raster *strip = &sh->strip;
	for (uint64_t y = 0; y < sh->frame_height; y++) {
		uint64_t y0 = y * strip->height / sh->frame_height,
			 y1 = (y + 1) * strip->height / sh->frame_height;
		for (uint64_t x = 0; x < sh->frame_width; x++) {
			uint64_t x0 = x * strip->width / sh->frame_width,
				 x1 = (x + 1) * strip->width / sh->frame_width;
			for (uint64_t c = 0; c < strip->channels; c++)
				store_sample(&sh->all, left + x, top + y, c,
					covered(strip, x0, x1 > x0 ? x1 : x0 + 1, y0, y1 > y0 ? y1 : y0 + 1,
						c));
		}
	}
}

static void make_raster(raster *r, uint64_t width, uint64_t height, uint64_t channels, uint32_t bytes)
{
	*r = (raster){.width = width, .height = height, .channels = channels, .bytes = bytes};
	size_t size = width * height * channels * bytes;
	r->data = cli_alloc(size);
	memset(r->data, GREY, size);
	for (size_t i = channels - 1; channels == 4 && i < size / bytes; i += channels)
		memset(r->data + i * bytes, 0xff, bytes); /* opaque */
}

static uint64_t scaled(uint64_t side, double scale)
{
	double value = (double)side * scale;
	return value < 1 ? 1 : value > 1e9 ? 1000000000 : (uint64_t)(value + 0.5);
}

/* Sizes are below 2^40 for a cell (columns are checked) and clamped to 1e9 when scaled, so nothing overflows
 * before the limits are compared. */
static int lay_out(const cli_selection *s, const cli_picture *picture, sheet *sh)
{
	const view *v = &sh->view;
	uint64_t strip_width = v->tiles * (v->width + TILE_GUTTER) - TILE_GUTTER;
	sh->frame_width = scaled(strip_width, picture->scale);
	sh->frame_height = scaled(v->height, picture->scale);
	uint64_t wish = picture->per_row;
	if (wish == 0)
		wish = (uint64_t)ceil(
			sqrt((double)s->count * 4 / 3 * (double)sh->frame_height / (double)sh->frame_width));
	sh->per_row = wish < 1 ? 1 : wish > s->count ? s->count : wish;
	uint64_t lines = (s->count + sh->per_row - 1) / sh->per_row;
	double width = (double)sh->per_row * (double)(sh->frame_width + GUTTER) - GUTTER;
	double height = (double)lines * (double)(sh->frame_height + GUTTER) - GUTTER;
	uint32_t bytes = sh->dtype.kind == ESK_U16 && !sh->stretch ? 2 : 1;
	double size = width * height * (double)(v->channels * bytes);
	if (width > SIDE_MOST_PIXELS || height > SIDE_MOST_PIXELS || size > (double)SHEET_MOST_BYTES)
		return cli_fail("%s: %" PRIu64
				" frames make a picture of %.0f x %.0f pixels; take a range, --every N or a "
				"smaller --scale",
			s->text, s->count, width, height);
	if ((double)v->width * (double)v->height * (double)(v->tiles * v->channels * bytes) >
		(double)SHEET_MOST_BYTES)
		return cli_fail("%s: one frame is %" PRIu64 " x %" PRIu64 " pixels: too large for a picture",
			s->text, v->width, v->height);
	make_raster(&sh->strip, strip_width, v->height, v->channels, bytes);
	make_raster(&sh->all, (uint64_t)width, (uint64_t)height, v->channels, bytes);
	return CLI_OK;
}

static int choose_view(cli_selection *s, const cli_picture *picture, sheet *sh)
{
	char type[512];
	const esk_column *column = &s->rows.info.column;
	cli_format_type(column, type, sizeof type);
	if (!find_view(column, &sh->view))
		return cli_fail("%s: cells of %s are no images (height x width, with 1, 3 or 4 channels, or "
				"a stack of "
				"pictures); .npy, .raw and .json take anything",
			s->text, type);
	if (s->count == 0)
		return cli_fail("%s: no rows, so no picture", s->text);
	sh->dtype = column->dtype;
	sh->stretch = picture->stretch;
	if (sh->view.channels == 4) {
		int code = cli_select_load(s, 0, 1);
		if (code != CLI_OK)
			return code;
		bool rgba = picture->channels == CLI_CHANNELS_RGBA ||
			    (picture->channels == CLI_CHANNELS_AUTO && opaque(&s->rows, &sh->view));
		if (!rgba)
			sh->view = as_tiles(sh->view);
	}
	if (!sh->stretch && sh->dtype.kind != ESK_U8 && sh->dtype.kind != ESK_U16 &&
		sh->dtype.kind != ESK_BOOL)
		sh->stretch = true;
	return CLI_OK;
}

/* ---- PNG ---- */

static void on_png_error(png_structp png, png_const_charp message)
{
	cli_fail("making the PNG: %s", message);
	longjmp(png_jmpbuf(png), 1);
}

static int write_png(FILE *out, const raster *r)
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
			convert(sh, cell);
			place_frame(sh, i + k);
		}
	}
	return CLI_OK;
}

int cli_write_png(FILE *out, cli_selection *selection, const cli_picture *picture)
{
	sheet sh = {0};
	int code = choose_view(selection, picture, &sh);
	if (code == CLI_OK && sh.stretch)
		code = find_limits(selection, &sh);
	if (code == CLI_OK)
		code = lay_out(selection, picture, &sh);
	if (code == CLI_OK)
		code = fill_sheet(selection, &sh);
	if (code == CLI_OK && sh.stretch)
		cli_note("%s: values from %g (black) to %g (white)", selection->text, sh.low, sh.high);
	if (code == CLI_OK)
		code = write_png(out, &sh.all);
	free(sh.strip.data);
	free(sh.all.data);
	return code;
}
