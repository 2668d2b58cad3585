/* What a reader sees of its run, made aside and then exchanged whole: a refresh that fails changes nothing.
 *
 *   V1  A file that the reader has open, and that would be the same when opened again, is in both lists while
 *       a view is made: `shared` marks it where it is not to be closed.
 *
 *   V2  Datasets are borrowed by callers until the reader is closed: they stay where they are, and their
 *       parts are what is exchanged. */
#include "store/view.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- segments ---- */

static esk_status open_if_number(const esk_reader *reader, esk_reader_segment *segment, esk_error *err)
{
	esk_segment_head head;
	esk_status status = esk_segment_open_read(reader->os, segment->path, &segment->file, err);
	if (status != ESK_OK) {
		segment->file = NULL;
		return status;
	}
	if (esk_segment_read_head(segment->file, &head, NULL) == ESK_OK &&
		(head.number != segment->number || strcmp(head.run, reader->name) != 0)) {
		esk_h5_close(segment->file, NULL);
		segment->file = NULL;
		return esk_fail(err, ESK_EBUSY, "%s: expected segment %llu, found %llu", segment->path,
			(unsigned long long)segment->number, (unsigned long long)head.number);
	}
	return ESK_OK;
}

/* Between the renaming of a sealed segment and the commit that tells the catalogue, which a full disk can
 * hold off for long, the file has a name that the catalogue does not know. */
static esk_status open_sealed_just_now(const esk_reader *reader, esk_reader_segment *segment)
{
	esk_status status = ESK_ENOTFOUND;
	DIR *directory = opendir(esk_store_path(reader->store));
	if (directory == NULL)
		return status;
	for (struct dirent *entry; status != ESK_OK && (entry = readdir(directory)) != NULL;) {
		char run[ESK_MAX_NAME + 1];
		bool encrypted;
		esk_reader_segment moved = {.number = segment->number};
		if (!esk_segment_is_sealed_name(entry->d_name, run, &encrypted) ||
			strcmp(run, reader->name) != 0 ||
			!esk_store_file_path(esk_store_path(reader->store), entry->d_name, moved.path))
			continue;
		status = open_if_number(reader, &moved, NULL);
		if (status == ESK_OK)
			*segment = moved;
	}
	closedir(directory);
	return status;
}

static esk_status open_segment_file(const esk_reader *reader, esk_reader_segment *segment, esk_error *err)
{
	esk_status status = open_if_number(reader, segment, err);
	bool moved = status == ESK_ENOTFOUND || status == ESK_EBUSY;
	if (moved && !segment->sealed && open_sealed_just_now(reader, segment) == ESK_OK)
		status = ESK_OK;
	return status;
}

/* True if opening the file of `old` again would show what it shows: it is sealed, or nothing was committed to
 * it since. */
static bool is_current(const esk_reader_segment *old, const esk_reader_segment *wanted)
{
	return old->file != NULL && old->number == wanted->number &&
	       (old->sealed || (!wanted->sealed && !esk_h5_is_stale(old->file)));
}

/* Opens the segment, or takes the file that the reader has open (V1). */
static esk_status take_segment(const esk_reader *reader, esk_reader_segment *segment, esk_error *err)
{
	size_t count = reader->inherited ? 0 : reader->segment_count; /* what is the parent's is not used */
	for (size_t i = 0; i < count; i++) {
		if (is_current(&reader->segments[i], segment)) {
			segment->file = reader->segments[i].file;
			segment->shared = true;
			return ESK_OK;
		}
	}
	return open_segment_file(reader, segment, err);
}

static esk_status make_segments(esk_view *view, size_t count, esk_error *err)
{
	view->segments = calloc(count + 1, sizeof *view->segments);
	if (view->segments == NULL)
		return esk_fail_memory(err, count * sizeof *view->segments, "segments");
	view->segment_count = count;
	return ESK_OK;
}

/* The run's segments as the catalogue has them. */
static esk_status list_segments(const esk_reader *reader, esk_view *view, esk_error *err)
{
	esk_catalog *catalog;
	esk_run_record run = {0};
	esk_segment_record *records = NULL;
	size_t count = 0;
	esk_status status = esk_store_catalog(reader->store, &catalog, err);
	if (status == ESK_OK)
		status = esk_catalog_get_run(catalog, reader->name, &run, err);
	if (status == ESK_OK)
		status = esk_catalog_get_segments(catalog, run.id, &records, &count, err);
	esk_run_record_clear(&run);
	if (status == ESK_OK)
		status = make_segments(view, count, err);
	for (size_t i = 0; i < count && status == ESK_OK; i++) {
		esk_reader_segment *segment = &view->segments[i];
		segment->number = records[i].number;
		segment->sealed = records[i].sealed;
		esk_store_file_path(esk_store_path(reader->store), records[i].file, segment->path);
		status = take_segment(reader, segment, err);
	}
	free(records);
	return status;
}

/* The one segment of a reader of a file. */
static esk_status list_file(const esk_reader *reader, esk_view *view, esk_error *err)
{
	esk_status status = make_segments(view, 1, err);
	if (status != ESK_OK)
		return status;
	snprintf(view->segments[0].path, sizeof view->segments[0].path, "%s", reader->path);
	return esk_h5_open_read(reader->os, reader->path, &view->segments[0].file, err);
}

/* ---- datasets ---- */

static esk_status make_dataset(esk_reader *reader, const char *path, const esk_column *column,
	const esk_h5_info *info, esk_dataset **ret_dataset, esk_error *err)
{
	esk_dataset *dataset = calloc(1, sizeof *dataset);
	if (dataset == NULL)
		return esk_fail_memory(err, sizeof *dataset, "a dataset");
	dataset->reader = reader;
	snprintf(dataset->path, sizeof dataset->path, "%s", path);
	dataset->column = *column;
	dataset->scalar = info->scalar;
	dataset->readable = info->readable;
	dataset->cell_bytes = info->readable ? esk_column_cell_bytes(column) : 0;
	*ret_dataset = dataset;
	return ESK_OK;
}

/* The place of the dataset with this path among the view's; behind them all if there is none. */
static size_t place_of(const esk_view *view, const char *path)
{
	size_t i = 0;
	while (i < view->dataset_count && strcmp(view->datasets[i]->path, path) != 0)
		i++;
	return i;
}

static esk_status add_place(esk_view *view, size_t count, esk_error *err)
{
	esk_dataset **datasets = realloc(view->datasets, count * sizeof *datasets);
	if (datasets != NULL)
		view->datasets = datasets;
	esk_parts *parts = realloc(view->parts, count * sizeof *parts);
	if (parts != NULL)
		view->parts = parts;
	return datasets != NULL && parts != NULL ? ESK_OK
						 : esk_fail_memory(err, count * sizeof *parts, "datasets");
}

static esk_status grow_parts(
	esk_parts *parts, esk_h5_dataset *data, esk_h5_dataset *valid, uint64_t first_row, esk_error *err)
{
	uint64_t rows = esk_h5_dataset_info(data)->rows;
	esk_dataset_part *grown = realloc(parts->items, (parts->count + 1) * sizeof *grown);
	if (grown == NULL)
		return esk_fail_memory(err, sizeof *grown, "segments of a dataset");
	parts->items = grown;
	grown[parts->count++] =
		(esk_dataset_part){.first_row = first_row, .rows = rows, .data = data, .valid = valid};
	parts->rows = first_row + rows;
	return ESK_OK;
}

static esk_status add_part(esk_view *view, esk_h5_dataset *data, esk_h5_dataset *valid, const char *path,
	const esk_column *column, uint64_t first_row, esk_error *err)
{
	const esk_h5_info *info = esk_h5_dataset_info(data);
	size_t at = place_of(view, path);
	if (at == view->dataset_count) {
		esk_status status = add_place(view, at + 1, err);
		if (status == ESK_OK)
			status = make_dataset(view->reader, path, column, info, &view->datasets[at], err);
		if (status != ESK_OK)
			return status;
		view->parts[at] = (esk_parts){0};
		view->dataset_count++;
	}
	return grow_parts(&view->parts[at], data, valid, first_row, err);
}

static esk_status add_stream(esk_view *view, esk_h5 *file, const esk_segment_stream *stream, esk_error *err)
{
	esk_status status = ESK_OK;
	for (size_t c = 0; c < stream->column_count && status == ESK_OK; c++) {
		char path[2 * ESK_MAX_NAME + 16];
		esk_h5_dataset *data, *valid = NULL;
		esk_segment_column_path(stream->name, stream->columns[c].name, false, path, sizeof path);
		status = esk_h5_dataset_open(file, path, &data, err);
		if (status == ESK_OK && stream->columns[c].nullable) {
			char valid_path[2 * ESK_MAX_NAME + 16];
			esk_segment_column_path(
				stream->name, stream->columns[c].name, true, valid_path, sizeof valid_path);
			status = esk_h5_dataset_open(file, valid_path, &valid, err);
		}
		if (status == ESK_OK)
			status = add_part(
				view, data, valid, path, &stream->columns[c], stream->first_row, err);
	}
	return status;
}

static esk_status add_foreign(void *arg, esk_h5_dataset *data, esk_error *err)
{
	const esk_h5_info *info = esk_h5_dataset_info(data);
	if (strncmp(info->path, ".esker/", 7) == 0)
		return ESK_OK;
	esk_column column = info->column;
	snprintf(column.name, sizeof column.name, "%s", esk_foreign_column(info->path));
	return add_part(arg, data, NULL, info->path, &column, 0, err);
}

static esk_status add_segment(esk_view *view, esk_h5 *file, esk_error *err)
{
	esk_segment_head head;
	esk_segment_stream *streams;
	size_t count;
	esk_status status = esk_segment_read_head(file, &head, err);
	if (status == ESK_ENOTFOUND)
		return esk_h5_visit(file, add_foreign, view, err);
	if (status == ESK_OK)
		status = esk_segment_read_streams(file, &streams, &count, err);
	if (status != ESK_OK)
		return status;
	for (size_t s = 0; s < count && status == ESK_OK; s++)
		status = add_stream(view, file, &streams[s], err);
	esk_segment_streams_free(streams, count);
	return status;
}

/* Metadata and attributes, of the newest segment. A foreign file's `metadata` may be anything. */
static esk_status read_root(esk_view *view, esk_error *err)
{
	esk_status status = ESK_OK;
	if (view->segment_count > 0) {
		esk_h5 *file = view->segments[view->segment_count - 1].file;
		esk_h5_get_text(file, "/", "metadata", &view->metadata, NULL);
		status = esk_attributes_read(file, &view->attributes, err);
	}
	if (status != ESK_OK)
		return status;
	if (view->metadata != NULL && esk_metadata_check(view->metadata, NULL) != ESK_OK) {
		free(view->metadata);
		view->metadata = NULL;
	}
	if (view->metadata == NULL)
		view->metadata = strdup("{}");
	if (view->attributes == NULL)
		view->attributes = strdup("{}");
	return view->metadata != NULL && view->attributes != NULL ? ESK_OK
								  : esk_fail_memory(err, 3, "metadata");
}

/* ---- datasets that are found by path ---- */

static esk_status open_alone(
	esk_h5 *file, const char *path, esk_h5_dataset **ret_data, esk_h5_dataset **ret_valid, esk_error *err)
{
	char valid[2 * ESK_MAX_NAME + ESK_MAX_PATH + 16];
	esk_h5_object found = ESK_H5_NOTHING;
	*ret_valid = NULL;
	esk_status status = esk_h5_look(file, path, &found, err);
	if (status == ESK_OK && found != ESK_H5_DATASET)
		return esk_fail(err, ESK_ENOTFOUND, "%s has no dataset \"%s\"", esk_h5_path(file), path);
	if (status == ESK_OK)
		status = esk_h5_dataset_open(file, path, ret_data, err);
	snprintf(valid, sizeof valid, "%s_valid", path);
	if (status == ESK_OK)
		status = esk_h5_look(file, valid, &found, err);
	if (status == ESK_OK && found == ESK_H5_DATASET)
		status = esk_h5_dataset_open(file, valid, ret_valid, err);
	return status;
}

static esk_status find_part(const esk_reader_segment *segments, size_t count, const char *path,
	esk_h5_dataset **ret_data, esk_parts *parts, esk_error *err)
{
	esk_h5_dataset *valid;
	esk_status status = ESK_ENOTFOUND;
	for (size_t s = count; s > 0 && status == ESK_ENOTFOUND; s--)
		status = open_alone(segments[s - 1].file, path, ret_data, &valid, err);
	return status == ESK_OK ? grow_parts(parts, *ret_data, valid, 0, err) : status;
}

esk_status esk_view_find_alone(
	esk_reader *reader, const char *path, esk_dataset **ret_dataset, esk_error *err)
{
	esk_parts parts = {0};
	esk_h5_dataset *data;
	esk_dataset *dataset = NULL;
	esk_status status = find_part(reader->segments, reader->segment_count, path, &data, &parts, err);
	if (status == ESK_OK) {
		const esk_h5_info *info = esk_h5_dataset_info(data);
		esk_column column = info->column;
		column.nullable = parts.items[0].valid != NULL;
		status = make_dataset(reader, path, &column, info, &dataset, err);
	}
	if (status != ESK_OK) {
		free(parts.items);
		return status;
	}
	dataset->parts = parts;
	*ret_dataset = dataset;
	return ESK_OK;
}

/* What is not there any more has no parts. */
static esk_status find_again(esk_view *view, esk_error *err)
{
	const esk_reader *reader = view->reader;
	esk_status status = ESK_OK;
	view->alone_parts = calloc(reader->alone_count + 1, sizeof *view->alone_parts);
	if (view->alone_parts == NULL)
		return esk_fail_memory(err, reader->alone_count * sizeof *view->alone_parts, "datasets");
	view->alone_count = reader->alone_count;
	for (size_t i = 0; i < view->alone_count && status == ESK_OK; i++) {
		esk_h5_dataset *data;
		status = find_part(view->segments, view->segment_count, reader->alone[i]->path, &data,
			&view->alone_parts[i], err);
		status = status == ESK_ENOTFOUND ? ESK_OK : status;
	}
	return status;
}

/* ---- the view ---- */

/* The reader's datasets, still without parts. */
static esk_status begin(esk_reader *reader, esk_view *view, esk_error *err)
{
	*view = (esk_view){.reader = reader, .known_count = reader->dataset_count};
	esk_status status = add_place(view, reader->dataset_count + 1, err);
	if (status != ESK_OK)
		return status;
	for (size_t i = 0; i < reader->dataset_count; i++) {
		view->datasets[i] = reader->datasets[i];
		view->parts[i] = (esk_parts){0};
	}
	view->dataset_count = reader->dataset_count;
	return ESK_OK;
}

esk_status esk_view_make(esk_reader *reader, esk_view *ret_view, esk_error *err)
{
	esk_status status = begin(reader, ret_view, err);
	if (status == ESK_OK)
		status = reader->store == NULL ? list_file(reader, ret_view, err)
					       : list_segments(reader, ret_view, err);
	for (size_t s = 0; s < ret_view->segment_count && status == ESK_OK; s++)
		status = add_segment(ret_view, ret_view->segments[s].file, err);
	if (status == ESK_OK)
		status = find_again(ret_view, err);
	if (status == ESK_OK)
		status = read_root(ret_view, err);
	if (status != ESK_OK)
		esk_view_clear(ret_view);
	return status;
}

/* Files in both lists are the reader's from now on (V1). */
static void hand_over_files(esk_reader *reader, esk_view *view)
{
	for (size_t i = 0; i < view->segment_count; i++) {
		for (size_t j = 0; j < reader->segment_count && view->segments[i].shared; j++)
			if (reader->segments[j].file == view->segments[i].file)
				reader->segments[j].shared = true;
		view->segments[i].shared = false;
	}
}

void esk_view_exchange(esk_reader *reader, esk_view *view, bool with_metadata)
{
	esk_view old = {.reader = reader,
		.segments = reader->segments,
		.segment_count = reader->segment_count,
		.datasets = reader->datasets,
		.parts = view->parts,
		.dataset_count = view->dataset_count,
		.known_count = view->dataset_count,
		.alone_parts = view->alone_parts,
		.alone_count = view->alone_count,
		.metadata = view->metadata,
		.attributes = view->attributes};
	hand_over_files(reader, view);
	reader->segments = view->segments;
	reader->segment_count = view->segment_count;
	reader->datasets = view->datasets;
	reader->dataset_count = view->dataset_count;
	for (size_t i = 0; i < view->dataset_count; i++) {
		esk_parts parts = reader->datasets[i]->parts;
		reader->datasets[i]->parts = view->parts[i];
		view->parts[i] = parts;
	}
	for (size_t i = 0; i < view->alone_count; i++) {
		esk_parts parts = reader->alone[i]->parts;
		reader->alone[i]->parts = view->alone_parts[i];
		view->alone_parts[i] = parts;
	}
	if (with_metadata || reader->metadata == NULL) {
		old.metadata = reader->metadata;
		old.attributes = reader->attributes;
		reader->metadata = view->metadata;
		reader->attributes = view->attributes;
	}
	*view = old;
}

void esk_view_clear(esk_view *view)
{
	for (size_t i = 0; i < view->segment_count; i++)
		if (!view->segments[i].shared)
			esk_h5_close(view->segments[i].file, NULL);
	for (size_t i = 0; i < view->dataset_count; i++)
		free(view->parts[i].items);
	for (size_t i = 0; i < view->alone_count; i++)
		free(view->alone_parts[i].items);
	free(view->alone_parts);
	for (size_t i = view->known_count; i < view->dataset_count; i++)
		free(view->datasets[i]);
	free(view->segments);
	free(view->datasets);
	free(view->parts);
	free(view->metadata);
	free(view->attributes);
	*view = (esk_view){0};
}
