/* Adding a stream to a run that is being recorded: its columns are checked, its paths taken, and the drain
 * thread makes its datasets. */
#include "record/internal.h"

#include <stdio.h>
#include <string.h>

esk_status esk_names_apart(const char *stream, const char *name, const char *other, esk_error *err)
{
	if (strcmp(name, other) == 0)
		return esk_fail(err, ESK_EINVAL, "\"%s\": the name \"%s\" is taken twice", stream, name);
	if (esk_path_at_or_below(name, other) || esk_path_at_or_below(other, name))
		return esk_fail(err, ESK_EINVAL,
			"\"%s\": \"%s\" and \"%s\": one would lie below the other, which is a dataset",
			stream, name, other);
	return ESK_OK;
}

static esk_status check_columns(const char *name, const esk_column *columns, size_t count, esk_error *err)
{
	char valid[ESK_MAX_NAME + 16];
	if (count == 0 || count > ESK_MAX_COLUMNS)
		return esk_fail(err, ESK_EINVAL, "stream \"%s\" has %zu columns: expected 1 to %d", name,
			count, ESK_MAX_COLUMNS);
	for (size_t c = 0; c < count; c++) {
		esk_status status = esk_column_check(&columns[c], err);
		if (status == ESK_OK && columns[c].codec[0] != '\0')
			status = esk_codec_check(columns[c].codec, err);
		if (status != ESK_OK)
			return esk_fail_in(err, status, "stream \"%s\"", name);
		snprintf(valid, sizeof valid, "%s_valid", columns[c].name);
		for (size_t d = 0; d < count && status == ESK_OK; d++) {
			if (d < c)
				status = esk_names_apart(name, columns[d].name, columns[c].name, err);
			if (status == ESK_OK && columns[c].nullable)
				status = esk_names_apart(name, columns[d].name, valid, err);
		}
		if (status != ESK_OK)
			return status;
	}
	return ESK_OK;
}

static esk_status match_columns(
	const esk_stream *stream, const esk_column *columns, size_t count, esk_error *err)
{
	if (stream->column_count != count)
		return esk_fail(err, ESK_ESHAPE, "stream \"%s\" exists with %zu columns, found %zu",
			stream->name, stream->column_count, count);
	for (size_t c = 0; c < count; c++) {
		esk_status status = esk_column_match(&stream->columns[c], &columns[c], err);
		if (status != ESK_OK)
			return esk_fail_in(err, status, "stream \"%s\" exists", stream->name);
	}
	return ESK_OK;
}

/* The stream `name` with these columns, if the run has it; *ret_stream is NULL if not. */
static esk_status find_stream(esk_recorder *r, const char *name, const esk_column *columns,
	size_t column_count, esk_stream **ret_stream, esk_error *err)
{
	uint32_t count = atomic_load_explicit(
		&r->stream_count, memory_order_acquire); /* with the release in drain.c */
	*ret_stream = NULL;
	for (uint32_t s = 0; s < count; s++) {
		if (strcmp(r->streams[s]->name, name) != 0)
			continue;
		esk_status status = match_columns(r->streams[s], columns, column_count, err);
		if (status == ESK_OK)
			*ret_stream = r->streams[s];
		return status;
	}
	if (count == ESK_MAX_STREAMS)
		return esk_fail(
			err, ESK_ERANGE, "run \"%s\" has %d streams already", r->name, ESK_MAX_STREAMS);
	return ESK_OK;
}

/* One at a time: whoever comes second finds what the first one made. */
static esk_status make_stream(esk_recorder *r, const char *name, const esk_column *columns,
	size_t column_count, const esk_stream_options *options, esk_stream **ret_stream, esk_error *err)
{
	esk_control control = {.kind = ESK_CONTROL_STREAM};
	esk_status status = find_stream(r, name, columns, column_count, ret_stream, err);
	if (status != ESK_OK || *ret_stream != NULL)
		return status;
	status = esk_stream_create(r, name, columns, column_count, options, &control.stream, err);
	if (status != ESK_OK)
		return status;
	status = esk_names_claim_stream(&r->names, control.stream, err);
	if (status == ESK_OK) {
		status = esk_recorder_request(r, &control, err);
		if (status != ESK_OK)
			esk_names_release_stream(&r->names, control.stream);
	} else {
		esk_fail_in(err, status, "run \"%s\", stream \"%s\"", r->name, name);
	}
	if (status == ESK_OK)
		*ret_stream = control.stream;
	else
		esk_stream_destroy(control.stream);
	return status;
}

esk_status esk_recorder_stream(esk_recorder *r, const char *name, const esk_column *columns,
	size_t column_count, const esk_stream_options *options, esk_stream **ret_stream, esk_error *err)
{
	esk_stream *stream = NULL;
	esk_status status = esk_group_name_check(name, "stream", err);
	if (status == ESK_OK)
		status = check_columns(name, columns, column_count, err);
	if (status == ESK_OK)
		status = esk_recorder_check_owner(r, err);
	if (status != ESK_OK)
		return status;
	pthread_mutex_lock(&r->making);
	status = make_stream(r, name, columns, column_count, options, &stream, err);
	pthread_mutex_unlock(&r->making);
	if (status == ESK_OK)
		*ret_stream = stream;
	return status;
}
