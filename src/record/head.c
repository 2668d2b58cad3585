/* What a segment says of itself: the attributes that Esker reads back. docs/FORMAT.md lists them. */
#include "record/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void esk_segment_column_path(
	const char *stream_name, const char *column_name, bool valid, char *buf, size_t buf_bytes)
{
	const char *name = strcmp(stream_name, "/") == 0 ? "" : stream_name;
	snprintf(buf, buf_bytes, "%s%s%s%s", name, *name ? "/" : "", column_name, valid ? "_valid" : "");
}

esk_status esk_segment_read_head(esk_h5 *file, esk_segment_head *ret_head, esk_error *err)
{
	esk_segment_head head = {0};
	esk_status status = esk_h5_get_u64s(file, "/", "esker_format", &head.format, 1, err);
	if (status == ESK_ENOTFOUND)
		return esk_fail(err, ESK_ENOTFOUND, "%s was not written by Esker", esk_h5_path(file));
	if (status != ESK_OK)
		return status;
	if (head.format > ESK_FORMAT_VERSION)
		return esk_fail(err, ESK_EVERSION,
			"%s has format %llu; this Esker knows up to %u: use a newer one", esk_h5_path(file),
			(unsigned long long)head.format, ESK_FORMAT_VERSION);
	uint64_t commit[4];
	char *run = NULL;
	status = esk_h5_get_u64s(file, "/", "esker_commit", commit, 4, err);
	if (status == ESK_OK)
		status = esk_h5_get_u64s(file, "/", "esker_store", &head.store_id, 1, err);
	if (status == ESK_OK)
		status = esk_h5_get_u64s(file, "/", "esker_segment", &head.number, 1, err);
	if (status == ESK_OK)
		status = esk_h5_get_i64(file, "/", "esker_created_ns", &head.created_ns, err);
	if (status == ESK_OK)
		status = esk_h5_get_text(file, "/", "esker_run", &run, err);
	if (status != ESK_OK)
		return status == ESK_ENOTFOUND ? esk_fail(err, ESK_ECORRUPT,
							 "%s: one of its Esker attributes is missing; `esker "
							 "repair` salvages it",
							 esk_h5_path(file))
					       : status;
	status = esk_name_check(run, "run", err);
	if (status == ESK_OK) {
		strncpy(head.run, run, sizeof head.run - 1);
		head.commit = commit[0];
		head.sequence = commit[1];
		head.ring_id = commit[2];
		head.commit_ns = (int64_t)commit[3];
		*ret_head = head;
	}
	free(run);
	return status;
}

void esk_segment_streams_free(esk_segment_stream *streams, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(streams[i].columns);
		free(streams[i].index);
		free(streams[i].rows_attribute);
	}
	free(streams);
}

/* Splits newline-separated names in place; *ret_names is malloc'ed. */
static esk_status split_names(char *text, char ***ret_names, size_t *ret_count, esk_error *err)
{
	size_t count = 0, capacity = 1;
	for (const char *s = text; *s != '\0'; s++)
		capacity += *s == '\n';
	char **names = calloc(capacity, sizeof *names);
	if (names == NULL)
		return esk_fail_memory(err, capacity * sizeof *names, "names");
	char *rest = NULL;
	for (char *name = strtok_r(text, "\n", &rest); name != NULL; name = strtok_r(NULL, "\n", &rest))
		names[count++] = name;
	*ret_names = names;
	*ret_count = count;
	return ESK_OK;
}

static esk_status read_column(esk_h5 *file, const esk_segment_stream *stream, const char *name,
	esk_column *ret_column, uint64_t *rows, esk_error *err)
{
	char path[2 * ESK_MAX_NAME + 16];
	esk_h5_dataset *dataset;
	esk_status status = esk_column_name_check(name, err);
	if (status != ESK_OK)
		return status;
	esk_segment_column_path(stream->name, name, false, path, sizeof path);
	status = esk_h5_dataset_open(file, path, &dataset, err);
	if (status != ESK_OK)
		return status;
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	if (!info->readable || info->scalar)
		return esk_fail(
			err, ESK_ECORRUPT, "%s: dataset \"%s\" is no column", esk_h5_path(file), path);
	*ret_column = info->column;
	snprintf(ret_column->name, sizeof ret_column->name, "%s", name); /* in the stream: may be a path */
	ret_column->chunk_rows = info->chunked ? info->chunk_shape[0] : 0;
	*rows = esk_min_u64(*rows, info->rows);
	esk_segment_column_path(stream->name, name, true, path, sizeof path);
	return esk_h5_find(file, path, &ret_column->nullable, err);
}

/* *ret_text stays NULL where there is no such attribute. */
static esk_status read_optional(
	esk_h5 *file, const char *object, const char *name, char **ret_text, esk_error *err)
{
	esk_status status = esk_h5_get_text(file, object, name, ret_text, err);
	return status == ESK_ENOTFOUND ? ESK_OK : status;
}

static esk_status read_stream(esk_h5 *file, const char *name, esk_segment_stream *stream, esk_error *err)
{
	uint64_t numbers[2];
	char *text = NULL, **names = NULL;
	size_t count = 0;
	strncpy(stream->name, name, sizeof stream->name - 1);
	esk_status status = esk_group_name_check(name, "stream", err);
	if (status == ESK_OK)
		status = esk_h5_get_u64s(file, name, "esker_stream", numbers, 2, err);
	if (status == ESK_OK)
		status = esk_h5_get_text(file, name, "esker_columns", &text, err);
	if (status == ESK_OK)
		status = read_optional(file, name, "esker_index", &stream->index, err);
	if (status == ESK_OK)
		status = read_optional(file, name, "esker_rows_attribute", &stream->rows_attribute, err);
	if (status == ESK_OK)
		status = split_names(text, &names, &count, err);
	if (status != ESK_OK)
		goto text;
	stream->stream = (uint32_t)numbers[0];
	stream->first_row = numbers[1];
	stream->rows = count > 0 ? UINT64_MAX : 0;
	stream->column_count = count;
	stream->columns = calloc(count > 0 ? count : 1, sizeof *stream->columns);
	if (stream->columns == NULL)
		status = esk_fail_memory(err, count * sizeof *stream->columns, "columns");
	for (size_t c = 0; c < count && status == ESK_OK; c++)
		status = read_column(file, stream, names[c], &stream->columns[c], &stream->rows, err);
	free(names);
text:
	free(text);
	return status == ESK_OK ? ESK_OK
				: esk_fail_in(err, status, "%s, stream \"%s\"", esk_h5_path(file), name);
}

esk_status esk_segment_read_streams(
	esk_h5 *file, esk_segment_stream **ret_streams, size_t *ret_count, esk_error *err)
{
	char *text = NULL, **names = NULL;
	size_t count = 0;
	esk_status status = esk_h5_get_text(file, "/", "esker_streams", &text, err);
	if (status == ESK_OK)
		status = split_names(text, &names, &count, err);
	if (status != ESK_OK)
		goto text;
	esk_segment_stream *streams = calloc(count > 0 ? count : 1, sizeof *streams);
	if (streams == NULL)
		status = esk_fail_memory(err, count * sizeof *streams, "streams");
	for (size_t i = 0; i < count && status == ESK_OK; i++)
		status = read_stream(file, names[i], &streams[i], err);
	if (status == ESK_OK) {
		*ret_streams = streams;
		*ret_count = count;
	} else if (streams != NULL) {
		esk_segment_streams_free(streams, count);
	}
	free(names);
text:
	free(text);
	return status;
}
