/* Pictures as text: see blocks.h. */
#include "blocks.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define RAMP " .:-=+*#%@"
#define HALF_BLOCK \
	"\xe2\x96\x80" /* U+2580: the upper half in the text's colour, the lower in the background's */

typedef struct pixel {
	unsigned red, green, blue;
} pixel;

/* Half-blocks need UTF-8. Where nothing says what is used, it is that. */
static bool has_half_blocks(void)
{
	static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *locale = getenv(names[i]);
		if (locale != NULL && locale[0] != '\0')
			return strcasestr(locale, "utf-8") != NULL || strcasestr(locale, "utf8") != NULL;
	}
	return true;
}

cli_shade cli_shade_of(FILE *stream)
{
	const char *colours = getenv("COLORTERM"), *terminal = getenv("TERM");
	if (!cli_colour(stream) || !has_half_blocks())
		return CLI_SHADE_RAMP;
	if (colours != NULL && (strcasecmp(colours, "truecolor") == 0 || strcasecmp(colours, "24bit") == 0))
		return CLI_SHADE_TRUE;
	return strstr(terminal, "direct") != NULL ? CLI_SHADE_TRUE : CLI_SHADE_256;
}

void cli_blocks_fit(const cli_raster *frame, unsigned columns, unsigned lines, cli_raster *ret_picture)
{
	double wide = (double)columns / (double)frame->width, high = 2.0 * lines / (double)frame->height;
	double scale = wide < high ? wide : high;
	if (scale > 1)
		scale = (double)(uint64_t)scale; /* pixels of one size */
	uint64_t width = (uint64_t)((double)frame->width * scale),
		 height = (uint64_t)((double)frame->height * scale);
	width = width < 1 ? 1 : width;
	height = height < 1 ? 1 : height;
	uint64_t even = height + height % 2;
	cli_raster_make(ret_picture, width, even, frame->channels, 1);
	if (even > height)
		memset(ret_picture->data + height * width * frame->channels, 0, width * frame->channels);
	cli_raster_place(frame, ret_picture, 0, 0, width, height);
}

static pixel pixel_at(const cli_raster *r, uint64_t x, uint64_t y)
{
	const unsigned char *at = r->data + (y * r->width + x) * r->channels;
	if (r->channels == 1)
		return (pixel){at[0], at[0], at[0]};
	unsigned alpha = r->channels == 4 ? at[3] : 255; /* over black */
	return (pixel){at[0] * alpha / 255, at[1] * alpha / 255, at[2] * alpha / 255};
}

static unsigned brightness(pixel p)
{
	return (299 * p.red + 587 * p.green + 114 * p.blue) / 1000;
}

/* The nearest of the cube of 6 x 6 x 6 colours (levels 0, 95, 135 … 255) or, for greys, of 24 greys (8, 18 …
 * 238). */
static unsigned colour_256(pixel p)
{
	if (p.red == p.green && p.green == p.blue && p.red >= 4 && p.red < 247)
		return 232 + (p.red < 8 ? 0 : p.red > 238 ? 23 : (p.red - 3) / 10);
	unsigned parts[3] = {p.red, p.green, p.blue};
	for (int i = 0; i < 3; i++)
		parts[i] = parts[i] < 48 ? 0 : parts[i] < 115 ? 1 : (parts[i] - 35) / 40;
	return 16 + 36 * parts[0] + 6 * parts[1] + parts[2];
}

static void put_colour(FILE *out, pixel p, cli_shade shade, int layer)
{
	if (shade == CLI_SHADE_TRUE)
		fprintf(out, "\033[%d;2;%u;%u;%um", layer, p.red, p.green, p.blue);
	else
		fprintf(out, "\033[%d;5;%um", layer, colour_256(p));
}

static bool differ(pixel a, pixel b)
{
	return a.red != b.red || a.green != b.green || a.blue != b.blue;
}

static void put_ramp(FILE *out, const cli_raster *picture, unsigned line)
{
	for (uint64_t x = 0; x < picture->width; x++) {
		unsigned light = (brightness(pixel_at(picture, x, 2 * line)) +
					 brightness(pixel_at(picture, x, 2 * line + 1)) + 1) /
				 2;
		fputc(RAMP[light * (sizeof RAMP - 1) / 256], out);
	}
}

void cli_blocks_put(FILE *out, const cli_raster *picture, unsigned line, cli_shade shade)
{
	if (shade == CLI_SHADE_RAMP) {
		put_ramp(out, picture, line);
		return;
	}
	pixel upper = {0}, lower = {0};
	for (uint64_t x = 0; x < picture->width; x++) {
		pixel above = pixel_at(picture, x, 2 * line), below = pixel_at(picture, x, 2 * line + 1);
		if (x == 0 || differ(above, upper))
			put_colour(out, above, shade, 38);
		if (x == 0 || differ(below, lower))
			put_colour(out, below, shade, 48);
		upper = above;
		lower = below;
		fputs(HALF_BLOCK, out);
	}
	fputs("\033[0m", out);
}
