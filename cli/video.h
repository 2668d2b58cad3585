/* A selection of cells as a video, made by ffmpeg. */
#ifndef CLI_VIDEO_H
#define CLI_VIDEO_H

#include "image.h"

typedef struct cli_video {
	cli_look look;
	double fps;
	double scale; /* of each frame; 1 for none */
} cli_video;

/* True if `path` ends as a video's name must: .mp4, .gif, .mkv, .webm. */
bool cli_is_video_path(const char *path);

/* Writes everything selected, one frame a cell, to `path`, which appears whole or not at all. */
int cli_write_video(const char *path, cli_selection *selection, const cli_video *video);

#endif
