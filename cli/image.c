/* Cells as pictures: see image.h. */
#include "image.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CELL_MOST_BYTES (1ull << 30)
#define TILES_MOST 64
#define TILE_GUTTER 1 /* between the tiles of one frame */
#define GREY 64       /* gutters, and cells that are missing */
#define PIECE_BYTES (16u << 20)

typedef cli_view view;

/* ---- options ---- */

int cli_parse_look(const cli_args *args, cli_look *ret_look)
{
	static const char *const names[] = {
		[CLI_CHANNELS_AUTO] = "auto", [CLI_CHANNELS_RGBA] = "rgba", [CLI_CHANNELS_STACK] = "stack"};
	const char *channels = cli_value(args, "channels");
	*ret_look = (cli_look){.stretch = cli_flag(args, "stretch")};
	if (channels == NULL)
		return CLI_OK;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		ret_look->channels = (cli_channels)i;
		if (strcmp(channels, names[i]) == 0)
			return CLI_OK;
	}
	return cli_usage(args, "--channels: auto, rgba or stack was expected, found \"%s\"", channels);
}

bool cli_parse_scale(const char *text, double *ret_scale)
{
	char *end;
	double scale = strtod(text, &end);
	if (end != text && *end == '/' && end[1] != '\0')
		scale /= strtod(end + 1, &end);
	if (*end != '\0' || end == text || !(scale >= 0.001 && scale <= 64))
		return false;
	*ret_scale = scale;
	return true;
}

/* ---- rasters ---- */

static void fill_grey(cli_raster *r)
{
	size_t samples = r->width * r->height * r->channels;
	memset(r->data, GREY, samples * r->bytes);
	for (size_t i = r->channels - 1; r->channels == 4 && i < samples; i += r->channels)
		memset(r->data + i * r->bytes, 0xff, r->bytes); /* opaque */
}

void cli_raster_make(cli_raster *r, uint64_t width, uint64_t height, uint64_t channels, uint32_t bytes)
{
	*r = (cli_raster){.width = width, .height = height, .channels = channels, .bytes = bytes};
	size_t size = width * height * channels * bytes;
	r->data = cli_alloc(size);
	fill_grey(r);
}

static unsigned load_sample(const cli_raster *r, uint64_t x, uint64_t y, uint64_t c)
{
	const unsigned char *at = r->data + ((y * r->width + x) * r->channels + c) * r->bytes;
	uint16_t value = *at;
	if (r->bytes == 2)
		memcpy(&value, at, 2);
	return value;
}

static void store_sample(cli_raster *r, uint64_t x, uint64_t y, uint64_t c, unsigned sample)
{
	unsigned char *at = r->data + ((y * r->width + x) * r->channels + c) * r->bytes;
	uint16_t value = (uint16_t)sample;
	if (r->bytes == 2)
		memcpy(at, &value, 2);
	else
		*at = (unsigned char)sample;
}

/* The mean of the pixels that a target pixel covers; when enlarging, the one nearest. */
static unsigned covered(const cli_raster *r, uint64_t x0, uint64_t x1, uint64_t y0, uint64_t y1, uint64_t c)
{
	if (x1 - x0 == 1 && y1 - y0 == 1)
		return load_sample(r, x0, y0, c);
	uint64_t sum = 0, count = (x1 - x0) * (y1 - y0);
	for (uint64_t y = y0; y < y1; y++)
		for (uint64_t x = x0; x < x1; x++)
			sum += load_sample(r, x, y, c);
	return (unsigned)((sum + count / 2) / count);
}

void cli_raster_place(
	const cli_raster *from, cli_raster *to, uint64_t left, uint64_t top, uint64_t width, uint64_t height)
{
	for (uint64_t y = 0; y < height; y++) {
		uint64_t y0 = y * from->height / height, y1 = (y + 1) * from->height / height;
		for (uint64_t x = 0; x < width; x++) {
			uint64_t x0 = x * from->width / width, x1 = (x + 1) * from->width / width;
			for (uint64_t c = 0; c < from->channels; c++)
				store_sample(to, left + x, top + y, c,
					covered(from, x0, x1 > x0 ? x1 : x0 + 1, y0, y1 > y0 ? y1 : y0 + 1,
						c));
		}
	}
}

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

static int choose_view(cli_image *image, cli_selection *s, const cli_look *look)
{
	char type[512];
	const esk_column *column = &s->rows.info.column;
	cli_format_type(column, type, sizeof type);
	if (!find_view(column, &image->view))
		return cli_fail("%s: cells of %s are no images (height x width, with 1, 3 or 4 channels, or "
				"a stack of pictures); 'esker get' writes anything as .npy, .raw or .json",
			s->text, type);
	if (s->count == 0)
		return cli_fail("%s: no rows, so no picture", s->text);
	image->dtype = column->dtype;
	image->stretch = look->stretch;
	if (image->view.channels == 4) {
		int code = cli_select_load(s, 0, 1);
		if (code != CLI_OK)
			return code;
		bool rgba = look->channels == CLI_CHANNELS_RGBA ||
			    (look->channels == CLI_CHANNELS_AUTO && opaque(&s->rows, &image->view));
		if (!rgba)
			image->view = as_tiles(image->view);
	}
	if (!image->stretch && image->dtype.kind != ESK_U8 && image->dtype.kind != ESK_U16 &&
		image->dtype.kind != ESK_BOOL)
		image->stretch = true;
	return CLI_OK;
}

int cli_image_open(cli_selection *s, const cli_look *look, cli_image *ret_image)
{
	*ret_image = (cli_image){0};
	int code = choose_view(ret_image, s, look);
	if (code != CLI_OK)
		return code;
	const view *v = &ret_image->view;
	uint32_t bytes = ret_image->dtype.kind == ESK_U16 && !ret_image->stretch && !look->eight_bits ? 2 : 1;
	if ((double)v->width * (double)v->height * (double)(v->tiles * v->channels * bytes) >
		(double)CELL_MOST_BYTES)
		return cli_fail("%s: one frame is %" PRIu64 " x %" PRIu64 " pixels: too large for a picture",
			s->text, v->width, v->height);
	cli_raster_make(&ret_image->pixels, v->tiles * (v->width + TILE_GUTTER) - TILE_GUTTER, v->height,
		v->channels, bytes);
	return CLI_OK;
}

void cli_image_close(cli_image *image)
{
	free(image->pixels.data);
	*image = (cli_image){0};
}

/* ---- values ---- */

int cli_image_measure(cli_image *image, cli_selection *s)
{
	if (!image->stretch)
		return CLI_OK;
	image->low = INFINITY;
	image->high = -INFINITY;
	uint64_t piece = cli_rows_piece(&s->rows, PIECE_BYTES);
	for (uint64_t i = 0; i < s->count; i += piece) {
		int code = cli_select_load(s, i, piece);
		if (code != CLI_OK)
			return code;
		for (uint64_t k = 0; k < s->rows.count; k++) {
			const unsigned char *cell = cli_rows_cell(&s->rows, k);
			for (uint64_t e = 0; cell != NULL && e < s->rows.elements; e++) {
				double value = cli_real(image->dtype, cell + e * image->dtype.size_bytes);
				image->low = isfinite(value) && value < image->low ? value : image->low;
				image->high = isfinite(value) && value > image->high ? value : image->high;
			}
		}
	}
	if (image->low > image->high)
		image->low = image->high = 0;
	return CLI_OK;
}

void cli_image_tell(const cli_image *image, const cli_selection *s)
{
	if (image->stretch)
		cli_note("%s: values from %g (black) to %g (white)", s->text, image->low, image->high);
}

static unsigned stretch(const cli_image *image, double value)
{
	if (!(value > image->low) || image->high <= image->low) /* NaN is black */
		return 0;
	if (value >= image->high)
		return 255;
	return (unsigned)((value - image->low) / (image->high - image->low) * 255 + 0.5);
}

static void put_sample(const cli_image *image, const unsigned char *element, unsigned char *to)
{
	if (image->stretch)
		*to = (unsigned char)stretch(image, cli_real(image->dtype, element));
	else if (image->dtype.kind == ESK_BOOL)
		*to = *element != 0 ? 255 : 0;
	else if (image->pixels.bytes < image->dtype.size_bytes)
		*to = element[1]; /* the upper half of 16 bits */
	else
		memcpy(to, element, image->pixels.bytes);
}

void cli_image_convert(cli_image *image, const void *cell)
{
	const view *v = &image->view;
	cli_raster *strip = &image->pixels;
	const unsigned char *elements = cell;
	if (cell == NULL) {
		fill_grey(strip);
		return;
	}
	for (uint64_t tile = 0; tile < v->tiles; tile++) {
		for (uint64_t y = 0; y < v->height; y++) {
			uint64_t from = tile * v->stride_tile + y * v->stride_y;
			uint64_t to = (y * strip->width + tile * (v->width + TILE_GUTTER)) * strip->channels;
			for (uint64_t x = 0; x < v->width; x++, from += v->stride_x)
				for (uint64_t c = 0; c < v->channels; c++, to++)
					put_sample(image,
						elements + (from + c * v->stride_channel) *
								   image->dtype.size_bytes,
						strip->data + to * strip->bytes);
		}
	}
}
