/* Videos: see video.h. Frames go to ffmpeg's standard input as raw pixels; scaling is its work too. */
#include "video.h"

#include "child.h"
#include "progress.h"
#include "target.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

#define PIECE_BYTES (16u << 20)
#define SIDE_MOST_PIXELS 16384
#define WAY_OUT "it makes the videos ('apt-get install ffmpeg' on Debian)"

/* GIF gets a palette for each frame, so that what has at most 256 colours keeps them, and no frame has to
 * wait for the last. Videos for players have even sides and half as many samples of colour. */
#define GIF "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1"
#define YUV "pad=ceil(iw/2)*2:ceil(ih/2)*2,format=yuv420p"

typedef struct container {
	const char *ending;
	const char *format; /* as ffmpeg names it */
	const char *filter;
} container;

static const container containers[] = {
	{".mp4", "mp4", YUV}, {".gif", "gif", GIF}, {".mkv", "matroska", YUV}, {".webm", "webm", YUV}};

static const container *container_of(const char *path)
{
	const char *dot = strrchr(path, '.');
	for (size_t i = 0; dot != NULL && i < sizeof containers / sizeof *containers; i++)
		if (strcasecmp(dot, containers[i].ending) == 0)
			return &containers[i];
	return NULL;
}

bool cli_is_video_path(const char *path)
{
	return container_of(path) != NULL;
}

static int start(const char *path, const container *c, const cli_raster *frame, const cli_video *video,
	cli_child *ret_child)
{
	static const char *const pixels[] = {"", "gray", "", "rgb24", "rgba"};
	char size[48], rate[32], filter[256], output[4200];
	double width = (double)frame->width * video->scale, height = (double)frame->height * video->scale;
	if (width < 1 || height < 1 || width > SIDE_MOST_PIXELS || height > SIDE_MOST_PIXELS)
		return cli_fail(
			"%s: frames of %.0f x %.0f pixels; a side of 1 to %d is possible: see --scale", path,
			width, height, SIDE_MOST_PIXELS);
	snprintf(size, sizeof size, "%" PRIu64 "x%" PRIu64, frame->width, frame->height);
	snprintf(rate, sizeof rate, "%.6g", video->fps);
	snprintf(filter, sizeof filter, "scale=%.0f:%.0f:flags=%s,%s", width, height,
		video->scale < 1 ? "area" : "neighbor", c->filter);
	/* "file:" keeps ffmpeg from taking a name for an address or an option. */
	snprintf(output, sizeof output, "file:%s", path);
	const char *const argv[] = {"ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "error", "-f",
		"rawvideo", "-pix_fmt", pixels[frame->channels], "-video_size", size, "-framerate", rate,
		"-i", "pipe:0", "-vf", filter, "-f", c->format, "-y", output, NULL};
	return cli_child_start("ffmpeg", argv, WAY_OUT, ret_child);
}

static int feed(cli_child *child, cli_selection *s, cli_image *image)
{
	const cli_raster *frame = &image->pixels;
	size_t size = frame->width * frame->height * frame->channels;
	uint64_t piece = cli_rows_piece(&s->rows, PIECE_BYTES);
	for (uint64_t i = 0; i < s->count; i += piece) {
		int code = cli_select_load(s, i, piece);
		if (code != CLI_OK)
			return code;
		for (uint64_t k = 0; k < s->rows.count; k++) {
			cli_image_convert(image, cli_rows_cell(&s->rows, k));
			if (!cli_child_write(child, frame->data, size))
				goto refused;
		}
		if (cli_progress_due())
			cli_progress_draw(i * size, s->count * size, "");
	}
	return CLI_OK;

refused:
	if (cli_stop_requested())
		return cli_fail("%s: interrupted; nothing was written", s->text);
	return CLI_OK; /* how the child ended tells why */
}

static int encode(
	const char *path, const container *c, cli_selection *s, cli_image *image, const cli_video *video)
{
	cli_child child;
	int code = start(path, c, &image->pixels, video, &child);
	if (code != CLI_OK)
		return code;
	cli_catch_signals();
	cli_progress_begin("encoding");
	code = feed(&child, s, image);
	cli_progress_end();
	return cli_child_end(&child, code);
}

int cli_write_video(const char *path, cli_selection *s, const cli_video *video)
{
	cli_image image;
	cli_look look = video->look;
	look.eight_bits = true;
	int code = cli_image_open(s, &look, &image);
	if (code == CLI_OK)
		code = cli_image_measure(&image, s);
	if (code == CLI_OK)
		cli_image_tell(&image, s);
	cli_target target = {0};
	if (code == CLI_OK)
		code = cli_target_open(path, &target);
	if (code == CLI_OK) {
		const char *output = target.temporary != NULL ? target.temporary : path;
		code = encode(output, container_of(path), s, &image, video);
	}
	code = cli_target_close(&target, code);
	cli_image_close(&image);
	return code;
}
