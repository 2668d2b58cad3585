/* What is being recorded: see live.h. */
#include "live.h"

#include "catalogue.h"
#include "value.h"

#include <dirent.h>
#include <errno.h>
#include <esker/ring.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SPARK_ROWS 4800 /* rows that a sparkline goes back */
#define SAMPLES 64
#define WINDOW_NS 3000000000 /* that a rate is of */
#define DAQ_FOLDER "spool/daq"

static const char streams_sql[] =
	"SELECT r.name AS run, s.name AS stream, r.updated_ns AS updated, r.pid AS pid, ifnull((SELECT "
	"max(first_row + rows) FROM extents e WHERE e.run_id = r.id AND e.stream = s.stream), 0) AS rows "
	"FROM runs r JOIN streams s ON s.run_id = r.id WHERE r.state = 0 ORDER BY r.name, s.stream";

/* A ring or reader that stays open from one look to the next. */
typedef struct kept {
	char *key; /* the ring's path; the run's name */
	esk_ring *ring;
	esk_reader *reader;
	uint64_t stream_id;
	bool seen;
	struct kept *next;
} kept;

/* How many rows there were, and when: at the last commits of a stream, at the last looks of a ring. */
typedef struct sample {
	int64_t at_ns;
	uint64_t rows;
} sample;

typedef struct track {
	char *name;
	sample samples[SAMPLES]; /* oldest first, of different times */
	size_t count;
	bool seen;
	struct track *next;
} track;

struct cli_live {
	cli_place *place;
	const char *column;
	kept *kept;
	cli_live_row *rows;
	size_t count;
	track *tracks;
};

/* ---- what stays open ---- */

static kept *find_kept(cli_live *live, const char *key)
{
	kept *one = live->kept;
	while (one != NULL && strcmp(one->key, key) != 0)
		one = one->next;
	if (one == NULL) {
		one = cli_alloc(sizeof *one);
		*one = (kept){.key = cli_copy(key), .next = live->kept};
		live->kept = one;
	}
	one->seen = true;
	return one;
}

static void drop_kept(cli_live *live, bool all)
{
	for (kept **at = &live->kept; *at != NULL;) {
		kept *one = *at;
		if (one->seen && !all) {
			one->seen = false;
			at = &one->next;
			continue;
		}
		*at = one->next;
		esk_ring_detach(one->ring);
		esk_reader_close(one->reader);
		free(one->key);
		free(one);
	}
}

/* The ring at `path`; NULL where there is none (any more), which is not worth a message: recordings end. A
 * path may come to name another ring, so it is attached anew each time that the file is another one. */
static esk_ring *ring_at(cli_live *live, const char *path)
{
	kept *one = find_kept(live, path);
	esk_ring *ring = NULL;
	if (esk_ring_attach(path, &ring, NULL) != ESK_OK)
		ring = NULL;
	esk_ring_detach(one->ring);
	one->ring = ring;
	return ring;
}

static esk_reader *reader_of(cli_live *live, const char *run)
{
	kept *one = find_kept(live, run);
	if (one->reader == NULL && esk_reader_open(live->place->store, run, &one->reader, NULL) != ESK_OK)
		one->reader = NULL;
	else if (one->reader != NULL)
		(void)esk_reader_refresh(one->reader, NULL); /* else it shows what it saw before */
	return one->reader;
}

/* ---- rates ---- */

static track *find_track(cli_live *live, const char *name)
{
	track *one = live->tracks;
	while (one != NULL && strcmp(one->name, name) != 0)
		one = one->next;
	if (one == NULL) {
		one = cli_alloc(sizeof *one);
		*one = (track){.name = cli_copy(name), .next = live->tracks};
		live->tracks = one;
	}
	one->seen = true;
	return one;
}

static void drop_tracks(cli_live *live, bool all)
{
	for (track **at = &live->tracks; *at != NULL;) {
		track *one = *at;
		if (one->seen && !all) {
			one->seen = false;
			at = &one->next;
			continue;
		}
		*at = one->next;
		free(one->name);
		free(one);
	}
}

static void add_sample(track *of, uint64_t rows, int64_t at_ns)
{
	if (of->count > 0 && rows < of->samples[of->count - 1].rows)
		of->count = 0; /* another one of that name */
	if (of->count > 0 && at_ns <= of->samples[of->count - 1].at_ns)
		return;
	if (of->count == SAMPLES)
		memmove(of->samples, of->samples + 1, --of->count * sizeof(sample));
	of->samples[of->count++] = (sample){.at_ns = at_ns, .rows = rows};
}

/* Rows come in steps, one for each commit, so the rate is that between commits some seconds apart, whenever
 * the looks were. Where none has come for much longer than the one before took, nothing is coming. */
static void set_rate(cli_live *live, cli_live_row *row, int64_t at_ns, int64_t now_ns)
{
	track *of = find_track(live, row->name);
	add_sample(of, row->rows, at_ns);
	row->rate = NAN;
	if (of->count < 2)
		return;
	const sample *last = &of->samples[of->count - 1], *first = last - 1;
	int64_t gap = last->at_ns - first->at_ns;
	if (now_ns - last->at_ns > (2 * gap > WINDOW_NS ? 2 * gap : WINDOW_NS)) {
		row->rate = 0;
		return;
	}
	while (first > of->samples && last->at_ns - first[-1].at_ns <= WINDOW_NS)
		first--;
	row->rate = (double)(last->rows - first->rows) * 1e9 / (double)(last->at_ns - first->at_ns);
}

static void forget_rows(cli_live *live)
{
	for (size_t i = 0; i < live->count; i++) {
		free(live->rows[i].name);
		free(live->rows[i].column);
		free(live->rows[i].consumers);
	}
	live->count = 0;
}

static cli_live_row *add_row(cli_live *live)
{
	live->rows = cli_resize(live->rows, (live->count + 1) * sizeof *live->rows);
	cli_live_row *row = &live->rows[live->count++];
	*row = (cli_live_row){.rate = NAN, .fill = NAN, .age_ns = INT64_MIN, .last = NAN};
	return row;
}

/* ---- sparklines ---- */

static bool ends_with_path(const char *path, const char *end)
{
	size_t size = strlen(path), tail = strlen(end);
	return size >= tail && strcmp(path + size - tail, end) == 0 &&
	       (size == tail || path[size - tail - 1] == '/');
}

/* The column that was asked for, else the first of single numbers that is no time. */
static bool is_wanted(const cli_live *live, const char *stream, const esk_dataset_info *info)
{
	char of[ESK_MAX_NAME + 2];
	cli_stream_of(info, of, sizeof of);
	if (strcmp(of, stream) != 0 || info->column.rank != 0 || !cli_is_number(info->column.dtype) ||
		info->rows == 0)
		return false;
	if (live->column != NULL)
		return ends_with_path(info->path, live->column);
	return strstr(info->column.name, "time") == NULL && strcmp(info->column.units, "ns") != 0 &&
	       info->column.dtype.kind != ESK_BOOL;
}

static void fill_points(cli_live_row *row, esk_dataset *dataset, const esk_dataset_info *info)
{
	uint64_t rows = info->rows < SPARK_ROWS ? info->rows : SPARK_ROWS;
	size_t points = rows < CLI_LIVE_POINTS ? (size_t)rows : CLI_LIVE_POINTS;
	uint64_t step = rows / points;
	uint64_t first = info->rows - 1 - step * (points - 1);
	unsigned char *cells = cli_alloc(points * info->column.dtype.size_bytes);
	if (esk_dataset_read(dataset, (int64_t)first, (int64_t)info->rows, (int64_t)step, cells,
		    points * info->column.dtype.size_bytes, NULL) == ESK_OK) {
		for (size_t i = 0; i < points; i++)
			row->points[i] =
				cli_real(info->column.dtype, cells + i * info->column.dtype.size_bytes);
		row->point_count = points;
		row->last = row->points[points - 1];
		row->column = cli_copy(info->path);
	}
	free(cells);
}

static void add_spark(cli_live *live, cli_live_row *row, const char *run, const char *stream)
{
	esk_reader *reader = reader_of(live, run);
	for (size_t i = 0; reader != NULL && i < esk_reader_dataset_count(reader); i++) {
		esk_dataset_info info = {.struct_size = sizeof info};
		esk_dataset *dataset = esk_reader_dataset_at(reader, i);
		if (esk_dataset_get_info(dataset, &info, NULL) == ESK_OK && is_wanted(live, stream, &info)) {
			fill_points(row, dataset, &info);
			return;
		}
	}
}

/* ---- looking ---- */

static void take_ring(cli_live_row *row, esk_ring *ring)
{
	esk_ring_stats stats;
	esk_ring_get_stats(ring, &stats);
	row->fill = (double)stats.used_bytes / (double)stats.capacity_bytes;
	row->lag_bytes = stats.used_bytes;
	row->lost_records = stats.lost_records;
	row->lost_bytes = stats.lost_bytes;
}

/* Who reads an instrument's ring, and how far behind: "hdf5 1.2 MB, trigger 0 B". What was overwritten before
 * it was released counts as lost already, though its reader will only come across it. */
static void take_consumers(cli_live_row *row, esk_ring *ring)
{
	size_t size;
	esk_ring_stats stats;
	FILE *text = open_memstream(&row->consumers, &size);
	if (text == NULL)
		return;
	esk_ring_get_stats(ring, &stats);
	const char *between = "";
	for (uint32_t i = 0; i < esk_ring_consumer_places(ring); i++) {
		cli_buf lag;
		esk_consumer_info info = {.struct_size = sizeof info};
		if (!esk_ring_consumer_at(ring, i, &info))
			continue;
		fprintf(text, "%s%s %s", between, info.name, cli_bytes(info.lag_bytes, &lag));
		between = ", ";
		uint64_t lost = info.lost_bytes;
		if (stats.tail_position > info.released_position)
			lost += stats.tail_position - info.released_position;
		row->lost_bytes = lost > row->lost_bytes ? lost : row->lost_bytes;
	}
	fclose(text);
}

static int64_t wall_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int look_at_runs(cli_live *live)
{
	json_t *streams;
	int code = cli_sql(live->place, streams_sql, NULL, &streams);
	if (code != CLI_OK)
		return code;
	size_t i;
	json_t *one;
	json_array_foreach(streams, i, one)
	{
		const char *run = cli_json_text(one, "run"), *stream = cli_json_text(one, "stream");
		char path[4096];
		pid_t pid = (pid_t)cli_json_number(one, "pid");
		if (pid <= 0 || (kill(pid, 0) != 0 && errno == ESRCH))
			continue; /* its recorder is gone: the next one that opens the store recovers the run
				   */
		cli_live_row *row = add_row(live);
		if (strcmp(stream, "/") == 0)
			row->name = cli_copy(run);
		else if (asprintf(&row->name, "%s/%s", run, stream) < 0)
			row->name = cli_copy(run);
		row->rows = cli_json_number(one, "rows");
		int64_t wall = wall_ns(), updated = (int64_t)cli_json_number(one, "updated");
		row->age_ns = wall - updated;
		set_rate(live, row, updated, wall);
		snprintf(path, sizeof path, "%s/spool/%s.ring", live->place->path, run);
		esk_ring *ring = ring_at(live, path);
		if (ring != NULL)
			take_ring(row, ring);
		add_spark(live, row, run, stream);
	}
	json_decref(streams);
	return CLI_OK;
}

static void look_at_rings(cli_live *live, int64_t now)
{
	char folder[4096], path[4096 + 300];
	snprintf(folder, sizeof folder, "%s/" DAQ_FOLDER, live->place->path);
	struct dirent **names = NULL;
	int count = scandir(folder, &names, NULL, alphasort);
	for (int i = 0; i < count; i++) {
		const char *dot = strrchr(names[i]->d_name, '.');
		snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
		esk_ring *ring = dot != NULL && strcmp(dot, ".ring") == 0 ? ring_at(live, path) : NULL;
		if (ring != NULL) {
			esk_ring_stats stats;
			cli_live_row *row = add_row(live);
			row->ring = true;
			row->name = cli_copy(names[i]->d_name);
			esk_ring_get_stats(ring, &stats);
			row->rows = stats.last_sequence;
			set_rate(live, row, now, now);
			take_ring(row, ring);
			take_consumers(row, ring);
		}
		free(names[i]);
	}
	free(names);
}

cli_live *cli_live_open(cli_place *place, const char *column)
{
	cli_live *live = cli_alloc(sizeof *live);
	*live = (cli_live){.place = place, .column = column};
	return live;
}

int cli_live_look(cli_live *live, const cli_live_row **ret_rows, size_t *ret_count)
{
	int64_t now = cli_now_ns();
	forget_rows(live);
	int code = look_at_runs(live);
	if (code != CLI_OK)
		return code;
	look_at_rings(live, now);
	drop_kept(live, false);
	drop_tracks(live, false);
	*ret_rows = live->rows;
	*ret_count = live->count;
	return CLI_OK;
}

void cli_live_close(cli_live *live)
{
	forget_rows(live);
	drop_kept(live, true);
	drop_tracks(live, true);
	free(live->rows);
	free(live);
}
