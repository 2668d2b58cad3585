/* Rows as Arrow IPC: see arrow_out.h. */
#include "arrow_out.h"

#include "progress.h"
#include "value.h"

#include <errno.h>
#include <esker/arrow_encode.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is meant ---- */

/* The i-th dataset's path without the '/' in front, and its stream; false where there is no such dataset. */
static bool dataset_at(esk_reader *reader, size_t i, esk_dataset_info *ret_info, const char **ret_path,
	char *stream, size_t size)
{
	*ret_info = (esk_dataset_info){.struct_size = sizeof *ret_info};
	if (esk_dataset_get_info(esk_reader_dataset_at(reader, i), ret_info, NULL) != ESK_OK)
		return false;
	*ret_path = ret_info->path + (ret_info->path[0] == '/');
	cli_stream_of(ret_info, stream, size);
	return true;
}

int cli_only_stream(esk_reader *reader, const char *run, char *buf, size_t size, char *list, size_t list_size)
{
	size_t at = 0, count = 0;
	char name[ESK_MAX_PATH + 1];
	esk_dataset_info info;
	const char *path;
	for (size_t i = 0; i < esk_reader_dataset_count(reader); i++) {
		if (!dataset_at(reader, i, &info, &path, name, sizeof name) ||
			(count > 0 && strcmp(name, buf) == 0))
			continue;
		snprintf(buf, size, "%s", name);
		if (at < list_size)
			at += (size_t)snprintf(
				list + at, list_size - at, "%s%s", count > 0 ? ", " : "", name);
		count++;
	}
	if (count == 0)
		return cli_fail("run \"%s\" has no datasets", run);
	return count > 1 ? CLI_USAGE : CLI_OK;
}

/* Whether `path` is `below`, or something below it. */
static bool is_at(const char *path, const char *below)
{
	size_t size = strlen(below);
	return strncmp(path, below, size) == 0 && (path[size] == '\0' || path[size] == '/');
}

uint64_t cli_stream_rows(esk_reader *reader, const char *stream)
{
	uint64_t rows = UINT64_MAX;
	char name[ESK_MAX_PATH + 1];
	esk_dataset_info info;
	const char *path;
	for (size_t i = 0; i < esk_reader_dataset_count(reader); i++)
		if (dataset_at(reader, i, &info, &path, name, sizeof name) && strcmp(name, stream) == 0)
			rows = info.rows < rows ? info.rows : rows;
	return rows != UINT64_MAX ? rows : 0;
}

/* A dataset that is found by its column's name alone, or is not among those that are listed. */
static int find_dataset(esk_reader *reader, const char *path, cli_arrow_source *source)
{
	esk_dataset *dataset;
	esk_error err = {0};
	esk_dataset_info info = {.struct_size = sizeof info};
	if (esk_reader_find(reader, path, &dataset, &err) != ESK_OK ||
		esk_dataset_get_info(dataset, &info, &err) != ESK_OK)
		return cli_fail_with(&err);
	cli_stream_of(&info, source->stream, sizeof source->stream);
	snprintf(source->column, sizeof source->column, "%s", info.column.name);
	source->rows = info.rows;
	return CLI_OK;
}

int cli_arrow_find(esk_reader *reader, const char *path, cli_arrow_source *ret_source)
{
	char name[ESK_MAX_PATH + 1];
	esk_dataset_info info;
	const char *of;
	bool root = strcmp(path, "/") == 0;
	while (!root && *path == '/')
		path++;
	*ret_source = (cli_arrow_source){0};
	for (size_t i = 0; i < esk_reader_dataset_count(reader); i++) {
		if (!dataset_at(reader, i, &info, &of, name, sizeof name))
			continue;
		bool whole = strcmp(name, path) == 0;
		if (!whole && (root || !is_at(of, path)))
			continue;
		size_t stream_size = strcmp(name, "/") == 0 ? 0 : strlen(name) + 1;
		if (!whole && strlen(path) < stream_size)
			continue; /* a group of streams */
		snprintf(ret_source->stream, sizeof ret_source->stream, "%s", name);
		snprintf(
			ret_source->column, sizeof ret_source->column, "%s", whole ? "" : path + stream_size);
		ret_source->rows = cli_stream_rows(reader, name);
		if (whole)
			break;
	}
	return ret_source->stream[0] != '\0' ? CLI_OK : find_dataset(reader, path, ret_source);
}

/* ---- reading ---- */

/* The names in "A,B,C", which becomes theirs; *ret_names is to free. */
static size_t split(char *list, const char ***ret_names)
{
	size_t count = 1;
	for (const char *c = list; *c != '\0'; c++)
		count += *c == ',';
	const char **names = cli_alloc(count * sizeof *names);
	count = 0;
	for (char *name = strtok(list, ","); name != NULL; name = strtok(NULL, ","))
		names[count++] = name;
	*ret_names = names;
	return count;
}

int cli_arrow_open(esk_reader *reader, const cli_arrow_source *source, const char *columns,
	esk_arrow_rows *rows, struct ArrowArrayStream *ret_stream)
{
	esk_error err = {0};
	char *list = cli_copy(columns != NULL ? columns : source->column);
	const char **names = NULL;
	if (columns != NULL) {
		rows->column_count = split(list, &names);
		rows->columns = names;
	} else if (list[0] != '\0') { /* a name may have a comma */
		names = cli_alloc(sizeof *names);
		names[0] = list;
		rows->columns = names;
		rows->column_count = 1;
	}
	esk_status status = esk_reader_arrow_select(reader, source->stream, rows, ret_stream, &err);
	rows->columns = NULL;
	rows->column_count = 0;
	free(names);
	free(list);
	return status == ESK_OK ? CLI_OK : cli_fail_with(&err);
}

/* ---- writing ---- */

static esk_status write_out(void *arg, const void *data, size_t size, esk_error *err)
{
	cli_arrow_out *to = arg;
	to->bytes += size;
	if (fwrite(data, 1, size, to->out) == size && (to->out != stdout || fflush(stdout) == 0))
		return ESK_OK;
	esk_status status = errno == ENOSPC ? ESK_ENOSPC : ESK_EIO;
	if (err != NULL) {
		err->code = status;
		snprintf(err->message, sizeof err->message, "%s cannot be written: %s",
			to->out == stdout ? "standard output" : "the file", strerror(errno));
	}
	return status;
}

static int fail_stream(struct ArrowArrayStream *from, int number)
{
	const char *text = from->get_last_error(from);
	return cli_fail("%s", text != NULL ? text : strerror(number));
}

/* Where the reader of a pipe has gone, nobody misses the rest. */
static int fail_writing(const esk_error *err)
{
	return cli_output_broken() ? CLI_OK : cli_fail_with(err);
}

int cli_arrow_begin(FILE *out, bool as_file, struct ArrowArrayStream *from, cli_arrow_out *ret_out)
{
	struct ArrowSchema schema;
	esk_error err = {0};
	int number = from->get_schema(from, &schema);
	if (number != 0)
		return fail_stream(from, number);
	*ret_out = (cli_arrow_out){.out = out};
	esk_status status = esk_arrow_writer_open(write_out, ret_out,
		as_file ? ESK_ARROW_FILE : ESK_ARROW_STREAM, &schema, &ret_out->writer, &err);
	schema.release(&schema);
	if (status == ESK_OK)
		return CLI_OK;
	ret_out->writer = NULL;
	return fail_writing(&err);
}

static void draw_progress(const cli_arrow_out *to, uint64_t done, uint64_t rows)
{
	if (done > 0 && done <= rows && cli_progress_due())
		cli_progress_draw(to->bytes, (uint64_t)((double)to->bytes * (double)rows / (double)done), "");
}

int cli_arrow_write(cli_arrow_out *to, struct ArrowArrayStream *from, uint64_t rows)
{
	uint64_t done = 0;
	while (to->writer != NULL && !cli_stop_requested() && !cli_output_broken()) {
		struct ArrowArray batch;
		esk_error err = {0};
		int number = from->get_next(from, &batch);
		if (number != 0)
			return fail_stream(from, number);
		if (batch.release == NULL)
			break;
		done += (uint64_t)batch.length;
		esk_status status = esk_arrow_writer_append(to->writer, &batch, &err);
		batch.release(&batch);
		if (status != ESK_OK)
			return fail_writing(&err);
		draw_progress(to, done, rows);
	}
	return CLI_OK;
}

int cli_arrow_end(cli_arrow_out *to, int code)
{
	esk_error err = {0};
	if (code != CLI_OK || cli_output_broken())
		esk_arrow_writer_discard(to->writer);
	else if (esk_arrow_writer_close(to->writer, &err) != ESK_OK)
		code = fail_writing(&err);
	to->writer = NULL;
	return code;
}
