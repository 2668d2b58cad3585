/* Raw pictures from standard input, each with the time of its arrival. */
#include "source.h"

#include "progress.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct pixels {
	const char *name; /* as ffmpeg's -pix_fmt */
	esk_kind kind;
	uint32_t channels;
} pixels;

static const pixels known[] = {
	{"gray", ESK_U8, 1},
	{"gray16le", ESK_U16, 1},
	{"rgb24", ESK_U8, 3},
	{"bgr24", ESK_U8, 3},
	{"rgba", ESK_U8, 4},
	{"rgb48le", ESK_U16, 3},
};

typedef struct video {
	unsigned char *frame;
	size_t frame_bytes;
	size_t filled;
} video;

static int run_video(cli_source *source, cli_recorder *r)
{
	video *v = source->state;
	int64_t time_ns = 0;
	const void *cells[2] = {&time_ns, v->frame};
	bool ended = false;
	int code = CLI_OK;
	while (code == CLI_OK && !ended && !cli_stop_requested()) {
		size_t got;
		uint64_t taken;
		code = cli_source_read(v->frame + v->filled, v->frame_bytes - v->filled, &got, &ended);
		v->filled += got;
		if (v->filled == v->frame_bytes) {
			time_ns = cli_source_now_ns();
			code = cli_recorder_append(r, 1, cells, NULL, &taken);
			v->filled = 0;
		}
		cli_recorder_tick(r);
	}
	if (code == CLI_OK && ended && v->filled > 0)
		code = cli_fail(
			"standard input ended inside picture %" PRIu64
			": %zu of its %zu bytes came; --size and --pixels must be those of the pictures",
			r->rows, v->filled, v->frame_bytes);
	return code;
}

static void close_video(cli_source *source)
{
	video *v = source->state;
	free(v->frame);
}

static int parse_size(const cli_args *args, uint64_t *ret_width, uint64_t *ret_height)
{
	const char *text = cli_value(args, "size");
	uint32_t width, height;
	if (text == NULL)
		return cli_usage(args, "--source video: --size WIDTHxHEIGHT is needed, as in --size 640x480");
	if (!cli_parse_size(text, &width, &height))
		return cli_usage(args, "--size: WIDTHxHEIGHT, as 640x480, was expected, found \"%s\"", text);
	*ret_width = width;
	*ret_height = height;
	return CLI_OK;
}

int cli_source_open_video(const cli_args *args, cli_source *ret_source)
{
	const char *name = cli_value(args, "pixels");
	const pixels *kind = NULL;
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strcmp(name != NULL ? name : "rgb24", known[i].name) == 0)
			kind = &known[i];
	if (kind == NULL)
		return cli_usage(args,
			"--pixels: gray, gray16le, rgb24, bgr24, rgba or rgb48le was expected, found \"%s\"",
			name);
	uint64_t width, height;
	int code = parse_size(args, &width, &height);
	if (code != CLI_OK)
		return code;
	video *v = cli_alloc(sizeof *v);
	uint32_t element = kind->kind == ESK_U16 ? 2 : 1;
	*v = (video){.frame_bytes = width * height * kind->channels * element};
	v->frame = cli_alloc(v->frame_bytes);
	*ret_source = (cli_source){.state = v, .run = run_video, .close = close_video};
	cli_source_column(ret_source, "time", ESK_I64, "ns", "of arrival, since 1970-01-01 UTC");
	cli_source_column(ret_source, "frames", kind->kind, "", kind->name);
	esk_column *frames = &ret_source->columns[1];
	frames->dtype.size_bytes = element;
	frames->shape[frames->rank++] = height;
	frames->shape[frames->rank++] = width;
	if (kind->channels > 1)
		frames->shape[frames->rank++] = kind->channels;
	return CLI_OK;
}
