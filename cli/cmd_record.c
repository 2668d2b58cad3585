/* esker record: a new run from standard input or from .npy files. */
#include "catalogue.h"
#include "commands.h"
#include "json.h"
#include "place.h"
#include "progress.h"
#include "recorder.h"
#include "source.h"
#include "value.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WAIT_SLICE_NS 500000000 /* a full ring is waited for in slices, so that Ctrl-C is heard */
#define METADATA_MOST_BYTES (64u << 20)

typedef struct job {
	const cli_args *args;
	const char *run_name;
	char own_name[64]; /* where none was given */
	cli_source source; /* --source */
	const char *stream_name;
	esk_run_options options;
	char *metadata;
	cli_npy *files; /* in the order of the columns */
	size_t file_count;
	esk_column *parsed_columns; /* from --columns */
	esk_column *npy_columns;    /* from the files, without --columns */
	esk_column *columns;        /* one of the two */
	size_t column_count;
} job;

/* ---- options ---- */

static char *read_whole(const char *path)
{
	FILE *in = fopen(path, "rb");
	char *text = NULL;
	size_t size = 0;
	if (in != NULL) {
		text = cli_alloc(METADATA_MOST_BYTES + 1);
		size = fread(text, 1, METADATA_MOST_BYTES + 1, in);
	}
	if (in == NULL || ferror(in)) {
		cli_fail("%s: %s", path, strerror(errno));
	} else if (size > METADATA_MOST_BYTES) {
		cli_fail("%s: metadata of more than %u bytes", path, METADATA_MOST_BYTES);
	} else {
		text[size] = '\0';
		fclose(in);
		return text;
	}
	free(text);
	if (in != NULL)
		fclose(in);
	return NULL;
}

/* "@file" or JSON itself; checked here, so that the message tells line and column. */
static int parse_metadata(job *j)
{
	const char *text = cli_value(j->args, "metadata");
	if (text == NULL)
		return CLI_OK;
	j->metadata = text[0] == '@' ? read_whole(text + 1) : cli_copy(text);
	if (j->metadata == NULL)
		return CLI_FAILED;
	json_error_t error;
	json_t *value = json_loads(j->metadata, JSON_REJECT_DUPLICATES, &error);
	if (value == NULL)
		return cli_usage(j->args, "--metadata: not JSON: %s at line %d, column %d", error.text,
			error.line, error.column);
	bool object = json_is_object(value);
	json_decref(value);
	if (!object)
		return cli_usage(
			j->args, "--metadata: a JSON object was expected, as in '{\"game\": \"Breakout\"}'");
	j->options.metadata_json = j->metadata;
	return CLI_OK;
}

static int parse_policy(job *j)
{
	const char *text = cli_value(j->args, "policy");
	if (text == NULL || strcmp(text, "block") == 0)
		j->options.policy = ESK_BLOCK;
	else if (strcmp(text, "overwrite") == 0)
		j->options.policy = ESK_OVERWRITE;
	else if (strcmp(text, "reject") == 0)
		j->options.policy = ESK_REJECT;
	else
		return cli_usage(
			j->args, "--policy: block, overwrite or reject was expected, found \"%s\"", text);
	return CLI_OK;
}

static int parse_sizes(job *j)
{
	const char *ring = cli_value(j->args, "ring");
	if (ring != NULL && (!cli_parse_bytes(ring, &j->options.ring_bytes) || j->options.ring_bytes == 0))
		return cli_usage(j->args, "--ring: a size as 64M or 1GiB was expected, found \"%s\"", ring);
	const char *segment = cli_value(j->args, "segment-size");
	if (segment != NULL && !cli_parse_bytes(segment, &j->options.segment_bytes))
		return cli_usage(j->args, "--segment-size: a size as 500M or 2GiB was expected, found \"%s\"",
			segment);
	const char *period = cli_value(j->args, "rotate");
	if (period != NULL && strcmp(period, "hour") == 0)
		j->options.segment_period = ESK_PERIOD_HOUR;
	else if (period != NULL && strcmp(period, "day") == 0)
		j->options.segment_period = ESK_PERIOD_DAY;
	else if (period != NULL)
		return cli_usage(j->args, "--rotate: hour or day was expected, found \"%s\"", period);
	const char *keep = cli_value(j->args, "keep");
	if (keep != NULL &&
		(!cli_parse_u64(keep, &j->options.keep_segments) || j->options.keep_segments == 0))
		return cli_usage(
			j->args, "--keep: a number of files from 1 on was expected, found \"%s\"", keep);
	const char *interval = cli_value(j->args, "commit-interval");
	if (interval != NULL && strcmp(interval, "off") == 0)
		j->options.commit_interval_ns = UINT64_MAX;
	else if (interval != NULL && (!cli_parse_span(interval, &j->options.commit_interval_ns) ||
					     j->options.commit_interval_ns == 0))
		return cli_usage(j->args,
			"--commit-interval: a time as 500ms or 5s, or off, was expected, found \"%s\"",
			interval);
	return CLI_OK;
}

static int parse_options(job *j)
{
	j->options = (esk_run_options)ESK_RUN_OPTIONS_INIT;
	j->options.encrypt = cli_flag(j->args, "encrypt");
	j->options.block_timeout_ns = WAIT_SLICE_NS;
	j->options.append = cli_flag(j->args, "append");
	j->options.payload_checksums = cli_flag(j->args, "checksums");
	j->stream_name = cli_value(j->args, "stream") != NULL ? cli_value(j->args, "stream") : "/";
	j->options.codec = cli_value(j->args, "codec");
	esk_error err = {0};
	if (j->options.codec != NULL && esk_codec_check(j->options.codec, &err) != ESK_OK)
		return cli_usage_with(j->args, "--codec", &err);
	int code = parse_policy(j);
	if (code == CLI_OK)
		code = parse_sizes(j);
	if (code == CLI_OK)
		code = parse_metadata(j);
	const char *spec = cli_value(j->args, "columns");
	if (code != CLI_OK || spec == NULL)
		return code;
	if (esk_columns_parse(spec, &j->parsed_columns, &j->column_count, &err) != ESK_OK)
		return cli_usage_with(j->args, "--columns", &err);
	j->columns = j->parsed_columns;
	return CLI_OK;
}

/* ---- .npy files and their columns ---- */

/* "name=FILE" or "dir/name.npy". */
static int split_file(const job *j, const char *word, esk_column *ret_column, const char **ret_path)
{
	const char *equals = strchr(word, '=');
	const char *name = word, *end = equals;
	*ret_path = equals != NULL ? equals + 1 : word;
	if (equals == NULL) {
		const char *slash = strrchr(word, '/');
		name = slash != NULL ? slash + 1 : word;
		end = strrchr(name, '.');
		if (end == NULL || strcmp(end, ".npy") != 0)
			return cli_usage(
				j->args, "%s: a .npy file was expected, as NAME.npy or COLUMN=FILE", word);
	}
	size_t length = (size_t)(end - name);
	if (length == 0 || length > ESK_MAX_NAME)
		return cli_usage(j->args, "%s: no name for a column", word);
	memcpy(ret_column->name, name, length);
	ret_column->name[length] = '\0';
	return CLI_OK;
}

static void column_of_npy(const cli_npy *npy, esk_column *column)
{
	column->dtype = npy->dtype;
	column->rank = npy->rank - 1;
	memcpy(column->shape, npy->shape + 1, column->rank * sizeof *column->shape);
}

static int compare(const cli_npy *npy, const esk_column *want, const esk_column *found)
{
	char expected[512], have[512];
	esk_column plain = *want;
	plain.nullable = false;
	cli_format_type(&plain, expected, sizeof expected);
	cli_format_type(found, have, sizeof have);
	if (strcmp(expected, have) != 0)
		return cli_fail("%s: column \"%s\": expected %s, the file holds %s", npy->path, want->name,
			expected, have);
	return CLI_OK;
}

/* Puts file i, whose column `found` was read, where --columns names it (or at the end, without --columns). */
static int place_file(job *j, cli_npy *placed, cli_npy *npy, const esk_column *found, size_t i)
{
	size_t at = i;
	if (j->parsed_columns != NULL) {
		for (at = 0; at < j->column_count && strcmp(j->columns[at].name, found->name) != 0; at++)
			;
		if (at == j->column_count)
			return cli_usage(
				j->args, "%s: --columns has no column \"%s\"", npy->path, found->name);
		int code = compare(npy, &j->columns[at], found);
		if (code != CLI_OK)
			return code;
	} else {
		j->columns[at] = *found;
		for (size_t k = 0; k < at; k++)
			if (strcmp(j->columns[k].name, found->name) == 0)
				return cli_usage(j->args, "two files for the column \"%s\"", found->name);
	}
	if (placed[at].path != NULL)
		return cli_usage(j->args, "two files for the column \"%s\"", found->name);
	placed[at] = *npy;
	*npy = (cli_npy){.fd = -1};
	return CLI_OK;
}

static int open_files(job *j, const char *const *words, size_t count)
{
	bool given = j->columns != NULL;
	if (given && count != j->column_count)
		return cli_usage(
			j->args, "--columns has %zu columns, %zu files were given", j->column_count, count);
	j->files = calloc(count, sizeof *j->files);
	if (!given)
		j->columns = j->npy_columns = calloc(count, sizeof *j->columns);
	if (j->files == NULL || j->columns == NULL)
		return cli_fail("out of memory for %zu files", count);
	j->file_count = count;
	j->column_count = count;
	for (size_t i = 0; i < count; i++) {
		esk_column found = {0};
		const char *path;
		cli_npy npy;
		int code = split_file(j, words[i], &found, &path);
		if (code == CLI_OK)
			code = cli_npy_open(path, &npy);
		if (code != CLI_OK)
			return code;
		column_of_npy(&npy, &found);
		code = place_file(j, j->files, &npy, &found, i);
		cli_npy_close(&npy);
		if (code != CLI_OK)
			return code;
	}
	for (size_t i = 1; i < count; i++)
		if (j->files[i].shape[0] != j->files[0].shape[0])
			return cli_fail("%s has %" PRIu64 " rows, %s has %" PRIu64
					": columns of one stream have the same number",
				j->files[0].path, j->files[0].shape[0], j->files[i].path,
				j->files[i].shape[0]);
	return CLI_OK;
}

static int check_stdin(const job *j)
{
	if (j->columns == NULL)
		return cli_usage(
			j->args, "record: --columns is needed to take rows from standard input apart");
	for (size_t i = 0; i < j->column_count; i++)
		if (j->columns[i].dtype.kind == ESK_STRING)
			return cli_usage(j->args,
				"--columns: \"%s\" has no fixed size in raw rows; say str<N>, N bytes padded "
				"with NUL",
				j->columns[i].name);
	if (isatty(STDIN_FILENO))
		return cli_usage(j->args,
			"record: standard input is a terminal; pipe raw rows into it or name .npy files");
	return CLI_OK;
}

/* ---- sources ---- */

static int open_source(job *j)
{
	const char *name = cli_value(j->args, "source");
	int code;
	if (strcmp(name, "system") != 0 && isatty(STDIN_FILENO))
		return cli_usage(j->args,
			"record: standard input is a terminal; pipe what --source %s reads into it", name);
	if (strcmp(name, "csv") != 0 && j->parsed_columns != NULL)
		return cli_usage(j->args, "--columns: --source %s has its own", name);
	if (strcmp(name, "system") == 0)
		code = cli_source_open_system(j->args, &j->source);
	else if (strcmp(name, "csv") == 0)
		code = cli_source_open_csv(j->args, j->parsed_columns, j->column_count, &j->source);
	else if (strcmp(name, "arrow") == 0)
		code = cli_source_open_arrow(j->args, &j->source);
	else if (strcmp(name, "video") == 0)
		code = cli_source_open_video(j->args, &j->source);
	else
		return cli_usage(
			j->args, "--source: system, csv, arrow or video was expected, found \"%s\"", name);
	j->columns = j->source.columns;
	j->column_count = j->source.column_count;
	return code;
}

/* A run of a source needs no name: "system_20261124_081500". */
static void name_run(job *j)
{
	struct tm when;
	time_t now = time(NULL);
	char stamp[32];
	gmtime_r(&now, &when);
	strftime(stamp, sizeof stamp, "%Y%m%d_%H%M%S", &when);
	snprintf(j->own_name, sizeof j->own_name, "%s_%s", cli_value(j->args, "source"), stamp);
	j->run_name = j->own_name;
}

static int open_input(job *j, const cli_place *place)
{
	if (cli_value(j->args, "source") == NULL) {
		if (place->word_count == 0)
			return cli_usage(j->args, "record: the name of the run is missing");
		return place->word_count > 1 ? open_files(j, place->words + 1, place->word_count - 1)
					     : check_stdin(j);
	}
	if (place->word_count > 1)
		return cli_usage(j->args, "record: --source and files, not both");
	if (place->word_count == 0)
		name_run(j);
	return open_source(j);
}

/* ---- recording ---- */

static int make_stream(const job *j, cli_recorder *r)
{
	esk_error err = {0};
	if (esk_run_stream(r->run, j->stream_name, j->columns, j->column_count, &r->stream, &err) != ESK_OK)
		return cli_fail_with(&err);
	r->columns = j->columns;
	r->column_count = j->column_count;
	return CLI_OK;
}

static int open_run(job *j, cli_place *place, cli_recorder *r)
{
	esk_error err = {0};
	if (esk_run_open(place->store, j->run_name, &j->options, &r->run, &err) != ESK_OK) {
		r->run = NULL;
		return cli_fail_with(&err);
	}
	int code = j->source.attach != NULL ? j->source.attach(&j->source, r, j->stream_name)
					    : make_stream(j, r);
	if (code != CLI_OK)
		return code;
	r->cell_bytes = cli_alloc(r->column_count * sizeof *r->cell_bytes);
	for (size_t c = 0; c < r->column_count; c++) {
		r->cell_bytes[c] = esk_column_cell_bytes(&r->columns[c]);
		if (__builtin_add_overflow(r->row_bytes, r->cell_bytes[c], &r->row_bytes) ||
			r->row_bytes > SIZE_MAX / 4)
			return cli_fail("one row of these columns is larger than memory");
	}
	return CLI_OK;
}

static void print_summary(
	const job *j, const cli_recorder *r, const esk_run_stats *stats, const char *file, uint64_t ns)
{
	struct stat st;
	uint64_t file_bytes = stat(file, &st) == 0 ? (uint64_t)st.st_size : 0;
	uint64_t bytes = r->rows * r->row_bytes;
	double rate = (double)bytes * 1e9 / (double)(ns + 1);
	if (cli_flag(j->args, "json")) {
		cli_print_json(json_pack("{s:s, s:s, s:I, s:I, s:f, s:f, s:I, s:I, s:I, s:I, s:I, s:b}",
			"run", j->run_name, "file", file, "rows", (json_int_t)r->rows, "bytes",
			(json_int_t)bytes, "seconds", (double)ns / 1e9, "bytes_per_s", rate, "commits",
			(json_int_t)stats->commits, "segments", (json_int_t)stats->segments, "file_bytes",
			(json_int_t)file_bytes, "lost_records", (json_int_t)stats->lost_records,
			"dropped_rows", (json_int_t)r->dropped, "interrupted", (int)cli_stop_requested()));
		return;
	}
	cli_buf a, b, c, d, e, f;
	printf("%s%s, %s in %s (%s/s), %s; ", cli_stop_requested() ? "stopped: " : "",
		cli_counted(r->rows, "row", &a), cli_bytes(bytes, &b), cli_span(ns, &c),
		cli_bytes((uint64_t)rate, &d), cli_counted(stats->commits, "commit", &e));
	cli_put_escaped(stdout, file, strlen(file));
	printf(": %s\n", cli_bytes(file_bytes, &f));
	if (stats->lost_records > 0)
		cli_note("overwritten in the ring before reaching the file, and recorded as gaps: %s (%s)",
			cli_counted(stats->lost_records, "record", &a), cli_bytes(stats->lost_bytes, &b));
	if (r->dropped > 0)
		cli_note("dropped where the ring was full, as --policy reject says: %s",
			cli_counted(r->dropped, "row", &a));
}

/* What the run's last file is called now that it is closed: one that is encrypted has another name than while
 * it was live. Takes `file`, that name; what is returned is the caller's. */
static char *closed_file(cli_place *place, const char *run, char *file)
{
	json_t *segments = NULL;
	if (access(file, F_OK) == 0 || cli_segments(place, run, &segments) != CLI_OK)
		return file;
	const char *name = json_string_value(
		json_object_get(json_array_get(segments, json_array_size(segments) - 1), "file"));
	const char *slash = strrchr(file, '/');
	if (name != NULL && slash != NULL) {
		size_t directory = (size_t)(slash - file) + 1, size = directory + strlen(name) + 1;
		char *path = cli_alloc(size);
		snprintf(path, size, "%.*s%s", (int)directory, file, name);
		free(file);
		file = path;
	}
	json_decref(segments);
	return file;
}

/* Commits and closes whatever happened before; the first failure decides. */
static int finish(const job *j, cli_place *place, cli_recorder *r, int code, int64_t begun)
{
	esk_error err = {0};
	esk_run_stats stats = {.struct_size = sizeof stats};
	if (r->stream != NULL && esk_run_commit(r->run, NULL, &err) != ESK_OK)
		code = cli_fail_with(&err);
	(void)esk_run_get_stats(r->run, &stats, NULL);
	char *file = cli_copy(esk_run_file(r->run));
	uint64_t ns = (uint64_t)(cli_now_ns() - begun);
	err = (esk_error){0};
	if (esk_run_close(r->run, &err) != ESK_OK && code == CLI_OK)
		code = cli_fail_with(&err);
	cli_progress_end();
	if (r->stream != NULL && !cli_flag(j->args, "quiet")) {
		file = closed_file(place, j->run_name, file);
		print_summary(j, r, &stats, file, ns);
	}
	free(file);
	return code;
}

static int record(job *j, cli_place *place)
{
	cli_recorder r = {0};
	int code = open_run(j, place, &r);
	if (r.run == NULL)
		return code;
	int64_t begun = cli_now_ns();
	cli_progress_begin("record");
	if (code == CLI_OK)
		code = j->source.state != NULL ? j->source.run(&j->source, &r)
		       : j->files != NULL      ? cli_record_npy(&r, j->files)
					       : cli_record_stdin(&r);
	code = finish(j, place, &r, code, begun);
	free(r.cell_bytes);
	return code;
}

static void clear(job *j)
{
	for (size_t i = 0; i < j->file_count; i++)
		cli_npy_close(&j->files[i]);
	cli_source_close(&j->source);
	free(j->files);
	free(j->npy_columns);
	esk_columns_free(j->parsed_columns);
	free(j->metadata);
}

static int run_record(cli_args *args)
{
	cli_place place;
	int code = cli_place_find(args, &place);
	if (code != CLI_OK)
		return code;
	job j = {.args = args, .run_name = place.word_count > 0 ? place.words[0] : NULL};
	code = parse_options(&j);
	cli_catch_signals();
	if (code == CLI_OK)
		code = open_input(&j, &place);
	if (code == CLI_OK)
		code = cli_place_open_store(&place, false);
	if (code == CLI_OK)
		code = record(&j, &place);
	clear(&j);
	return place.store != NULL ? cli_place_close(&place, code) : code;
}

static const cli_option record_options[] = {
	{"columns", 'c', "SPEC", NULL,
		"the columns, as NAME:DTYPE[SHAPE]: 'frame:u8[210,160,3] action:i32'; a ? behind it allows "
		"missing cells, @CODEC names a codec; may be left out with .npy files"},
	{"source", 0, "SOURCE", "system|csv|arrow|video",
		"what to record instead of raw rows: this machine, CSV lines with a header, an Arrow IPC "
		"stream, or raw pictures"},
	{"rate", 0, "N", NULL, "--source system: samples a second; default: 10"},
	{"samples", 0, "N", NULL, "--source system: stop after so many; default: when it is told to"},
	{"delimiter", 0, "C", NULL,
		"--source csv: what stands between fields; default: a comma; \\t is a tab"},
	{"stamp", 0, NULL, NULL, "--source csv: add a column \"arrived\", the time at which each line came"},
	{"size", 0, "WxH", NULL, "--source video: size of the pictures, as 640x480"},
	{"pixels", 0, "FORMAT", "gray|gray16le|rgb24|bgr24|rgba|rgb48le",
		"--source video: what a pixel is, in ffmpeg's words; default: rgb24"},
	{"stream", 's', "NAME", NULL,
		"the stream (a group in the file) that gets the columns; default: the root, /"},
	{"codec", 'z', "CODEC", "none|gzip|lzf|szip|zstd|lz4|blosc|bitshuffle",
		"codec of all columns; default gzip:1, which every HDF5 reads"},
	{"metadata", 'm', "JSON", NULL, "free metadata of the run, a JSON object or @FILE that holds one"},
	{"policy", 'p', "POLICY", "block|overwrite|reject",
		"when the ring is full: wait (the default), let the oldest rows go, or drop the new ones"},
	{"encrypt", 0, NULL, NULL,
		"encrypt the files of the run when they are sealed, with the key (see keygen)"},
	{"ring", 0, "SIZE", NULL, "size of the ring in shared memory; default 256M"},
	{"commit-interval", 'i', "TIME", NULL, "make rows durable this often, or off; default 1s"},
	{"segment-size", 0, "SIZE", NULL, "begin a new file when this one is larger; default: never"},
	{"rotate", 0, "PERIOD", "hour|day", "begin a new file when the hour or the day (UTC) changes"},
	{"keep", 0, "N", NULL, "keep the N newest finished files and delete older ones; default: all"},
	{"append", 'a', NULL, NULL, "go on with a run of that name"},
	{"checksums", 0, NULL, NULL, "checksum each record in the ring"},
	{"json", 0, NULL, NULL, "print the summary as JSON"},
	{"quiet", 'q', NULL, NULL, "print no summary"},
	{0},
};

const cli_command cli_record = {
	.name = "record",
	.summary = "record rows from standard input, .npy files or this machine",
	.usage = "[STORE] RUN -c SPEC [OPTIONS] < ROWS\n       esker record [STORE] RUN [OPTIONS] "
		 "[COLUMN=]FILE.npy...\n       esker record [STORE] [RUN] --source system|csv|arrow|video "
		 "[OPTIONS]",
	.description = "Without files, rows come from standard input: the columns of a row packed one behind "
		       "the other, native little-endian, without padding. With files, each is a column and "
		       "its first dimension the rows. While it runs, rows are committed at the interval; the "
		       "end of the input, Ctrl-C and SIGTERM commit and close the file. A last row that is "
		       "incomplete is an error; the rows before it are kept. Sizes: 64M and 64MiB are "
		       "64*2^20 bytes, 64MB is 64*10^6. With --source system, CPU times, memory, disk and "
		       "network counters, pressure and temperatures of this machine are columns with units. "
		       "With --source csv, the first line names the columns (\"voltage (V)\": a name and its "
		       "units); -c chooses among them and says their dtypes, else the second line decides. A "
		       "run of a source needs no name: it is then called after source and time.",
	.options = record_options,
	.examples = (const cli_example[]){{"camera --raw | esker record data night -c 'frame:u16[1024,1024]' "
					   "--segment-size 4G",
						  "a camera's frames, in files of 4 GiB"},
		{"esker record data game frames.npy action=a.npy -m '{\"game\": \"Breakout\"}'",
			"two numpy arrays as the columns \"frames\" and \"action\""},
		{"sensors | esker record -C data imu -c 'acc:f64[3],gyro:f64[3],t:i64' -s imu -i 200ms",
			"rows of 56 bytes into the stream \"imu\", durable five times a second"},
		{"esker record data --source system --rate 1000", "this machine, a thousand times a second"},
		{"plant-log | esker record data plant --source csv --stamp",
			"lines of numbers and text, with the time of each"},
		{"ffmpeg -i film.mp4 -f rawvideo -pix_fmt rgb24 - | esker record data film --source video "
		 "--size 1280x720",
			"pictures of a film or camera"},
		{0}},
	.needs = CLI_STORE,
	.words_least = 0,
	.words_most = 4096,
	.complete = "file",
	.run = run_record,
};
