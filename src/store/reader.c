/* Readers: a run's segments seen as one, by dataset and row. Refresh and retry while somebody writes. */
#include "store/internal.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOVED_TRIES 20 /* a chunk that the writer moved while it was read: look again */

/* ---- segments ---- */

static void close_segments(esk_reader_segment *segments, size_t count)
{
	for (size_t i = 0; i < count; i++)
		esk_h5_close(segments[i].file, NULL);
	free(segments);
}

static esk_status open_if_number(const esk_reader *reader, esk_reader_segment *segment, esk_error *err)
{
	esk_segment_head head;
	esk_status status = esk_h5_open_read(reader->os, segment->path, &segment->file, err);
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
	size_t prefix = strlen(reader->name);
	DIR *directory = opendir(esk_store_path(reader->store));
	if (directory == NULL)
		return status;
	for (struct dirent *entry; status != ESK_OK && (entry = readdir(directory)) != NULL;) {
		size_t size = strlen(entry->d_name);
		esk_reader_segment moved = {.number = segment->number};
		if (size < prefix + 4 || strncmp(entry->d_name, reader->name, prefix) != 0 ||
			entry->d_name[prefix] != '_' || strcmp(entry->d_name + size - 3, ".h5") != 0 ||
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

/* The run's segments as the catalogue has them, opened; those that are open and sealed are taken over from
 * `old`. */
static esk_status list_segments(esk_reader *reader, esk_reader_segment *old, size_t old_count,
	esk_reader_segment **ret_segments, size_t *ret_count, esk_error *err)
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
	if (status != ESK_OK)
		return status;
	esk_reader_segment *segments = calloc(count + 1, sizeof *segments);
	if (segments == NULL)
		status = esk_fail_memory(err, count * sizeof *segments, "segments");
	for (size_t i = 0; i < count && status == ESK_OK; i++) {
		segments[i].number = records[i].number;
		segments[i].sealed = records[i].sealed;
		esk_store_file_path(esk_store_path(reader->store), records[i].file, segments[i].path);
		for (size_t j = 0; j < old_count; j++) {
			bool unchanged =
				old[j].file != NULL && old[j].number == segments[i].number &&
				(old[j].sealed || (!segments[i].sealed && !esk_h5_is_stale(old[j].file)));
			if (unchanged) {
				segments[i].file = old[j].file;
				old[j].file = NULL;
			}
		}
		if (segments[i].file == NULL)
			status = open_segment_file(reader, &segments[i], err);
	}
	free(records);
	if (status != ESK_OK && segments != NULL) {
		/* Give taken ones back, so that the reader stays as it was. */
		for (size_t i = 0; i < count; i++)
			for (size_t j = 0; j < old_count; j++)
				if (old[j].number == segments[i].number && old[j].file == NULL) {
					old[j].file = segments[i].file;
					segments[i].file = NULL;
				}
		close_segments(segments, count);
		return status;
	}
	*ret_segments = segments;
	*ret_count = count;
	return status;
}

/* ---- datasets ---- */

static esk_dataset *find_path(esk_reader *reader, const char *path)
{
	for (size_t i = 0; i < reader->dataset_count; i++)
		if (strcmp(reader->datasets[i]->path, path) == 0)
			return reader->datasets[i];
	return NULL;
}

static esk_status add_part(esk_reader *reader, esk_h5_dataset *data, esk_h5_dataset *valid, const char *path,
	const esk_column *column, uint64_t first_row, esk_error *err)
{
	const esk_h5_info *info = esk_h5_dataset_info(data);
	esk_dataset *dataset = find_path(reader, path);
	if (dataset == NULL) {
		esk_dataset **grown = realloc(reader->datasets, (reader->dataset_count + 1) * sizeof *grown);
		if (grown == NULL)
			return esk_fail_memory(err, sizeof *grown, "datasets");
		reader->datasets = grown;
		dataset = calloc(1, sizeof *dataset);
		if (dataset == NULL)
			return esk_fail_memory(err, sizeof *dataset, "a dataset");
		grown[reader->dataset_count++] = dataset;
		dataset->reader = reader;
		snprintf(dataset->path, sizeof dataset->path, "%s", path);
		dataset->column = *column;
		dataset->scalar = info->scalar;
		dataset->readable = info->readable;
		dataset->cell_bytes = info->readable ? esk_column_cell_bytes(column) : 0;
	}
	esk_dataset_part *parts = realloc(dataset->parts, (dataset->part_count + 1) * sizeof *parts);
	if (parts == NULL)
		return esk_fail_memory(err, sizeof *parts, "segments of a dataset");
	dataset->parts = parts;
	parts[dataset->part_count++] =
		(esk_dataset_part){.first_row = first_row, .rows = info->rows, .data = data, .valid = valid};
	dataset->rows = first_row + info->rows;
	return ESK_OK;
}

static esk_status add_stream(
	esk_reader *reader, esk_h5 *file, const esk_segment_stream *stream, esk_error *err)
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
				reader, data, valid, path, &stream->columns[c], stream->first_row, err);
	}
	return status;
}

static esk_status add_foreign(void *arg, esk_h5_dataset *data, esk_error *err)
{
	const esk_h5_info *info = esk_h5_dataset_info(data);
	return strncmp(info->path, ".esker/", 7) == 0
		       ? ESK_OK
		       : add_part(arg, data, NULL, info->path, &info->column, 0, err);
}

static esk_status add_segment(esk_reader *reader, esk_h5 *file, esk_error *err)
{
	esk_segment_head head;
	esk_segment_stream *streams;
	size_t count;
	esk_status status = esk_segment_read_head(file, &head, err);
	if (status == ESK_ENOTFOUND)
		return esk_h5_visit(file, add_foreign, reader, err);
	if (status == ESK_OK)
		status = esk_segment_read_streams(file, &streams, &count, err);
	if (status != ESK_OK)
		return status;
	for (size_t s = 0; s < count && status == ESK_OK; s++)
		status = add_stream(reader, file, &streams[s], err);
	esk_segment_streams_free(streams, count);
	return status;
}

/* Makes parts and metadata anew from the open segments. */
static esk_status map_segments(esk_reader *reader, esk_error *err)
{
	esk_status status = ESK_OK;
	for (size_t i = 0; i < reader->dataset_count; i++) {
		reader->datasets[i]->part_count = 0;
		reader->datasets[i]->rows = 0;
	}
	for (size_t s = 0; s < reader->segment_count && status == ESK_OK; s++)
		status = add_segment(reader, reader->segments[s].file, err);
	char *metadata = NULL;
	if (status == ESK_OK && reader->segment_count > 0)
		esk_h5_get_text(
			reader->segments[reader->segment_count - 1].file, "/", "metadata", &metadata, NULL);
	if (metadata == NULL)
		metadata = strdup("{}");
	if (metadata == NULL)
		return esk_fail_memory(err, 3, "metadata");
	free(reader->metadata);
	reader->metadata = metadata;
	return status;
}

/* ---- opening, refreshing, closing ---- */

/* The one segment of a reader of a file. */
static esk_status open_single(
	esk_reader *reader, esk_reader_segment **ret_segments, size_t *ret_count, esk_error *err)
{
	esk_reader_segment *segment = calloc(1, sizeof *segment);
	if (segment == NULL)
		return esk_fail_memory(err, sizeof *segment, "a segment");
	snprintf(segment->path, sizeof segment->path, "%s", reader->path);
	esk_status status = esk_h5_open_read(reader->os, segment->path, &segment->file, err);
	if (status != ESK_OK) {
		free(segment);
		return status;
	}
	*ret_segments = segment;
	*ret_count = 1;
	return ESK_OK;
}

static esk_status load_once(esk_reader *reader, esk_error *err)
{
	esk_reader_segment *segments;
	size_t count;
	esk_status status = reader->store == NULL ? open_single(reader, &segments, &count, err)
						  : list_segments(reader, reader->segments,
							    reader->segment_count, &segments, &count, err);
	if (status != ESK_OK)
		return status;
	close_segments(reader->segments, reader->segment_count);
	reader->segments = segments;
	reader->segment_count = count;
	return map_segments(reader, err);
}

/* Commits and rotations may fall between any two steps of it: then it begins again. */
static esk_status load(esk_reader *reader, esk_error *err)
{
	esk_status status = ESK_EBUSY;
	for (int i = 0; i < MOVED_TRIES && (status == ESK_EBUSY || (status == ESK_ENOTFOUND && i < 3)); i++) {
		if (i > 0)
			nanosleep(&(struct timespec){.tv_nsec = 1000000 << (i < 5 ? i : 5)}, NULL);
		status = load_once(reader, err);
	}
	return status;
}

static esk_reader *make_reader(const esk_os *os, esk_pool *pool, esk_error *err)
{
	esk_reader *reader = calloc(1, sizeof *reader);
	if (reader == NULL) {
		esk_fail_memory(err, sizeof *reader, "a reader");
		return NULL;
	}
	pthread_rwlock_init(&reader->lock, NULL);
	reader->os = os;
	reader->pool = pool;
	reader->fork_count = esk_os_fork_count();
	return reader;
}

static esk_status no_such_run(esk_store *store, const char *name, esk_error *err)
{
	esk_catalog *catalog;
	esk_run_record run = {0};
	esk_status status = esk_store_catalog(store, &catalog, err);
	if (status == ESK_OK)
		status = esk_catalog_get_run(catalog, name, &run, err);
	esk_run_record_clear(&run);
	return status;
}

esk_status esk_reader_open(esk_store *store, const char *name, esk_reader **ret_reader, esk_error *err)
{
	esk_status status = esk_name_check(name, "run", err);
	if (status == ESK_OK)
		status = no_such_run(store, name, err);
	if (status != ESK_OK)
		return status;
	esk_reader *reader = make_reader(store->environment.os, store->pool, err);
	if (reader == NULL)
		return ESK_ENOMEM;
	reader->store = store;
	snprintf(reader->name, sizeof reader->name, "%s", name);
	status = load(reader, err);
	if (status != ESK_OK) {
		esk_reader_close(reader);
		return status;
	}
	*ret_reader = reader;
	return ESK_OK;
}

esk_status esk_reader_open_file(const char *path, esk_reader **ret_reader, esk_error *err)
{
	esk_pool *pool;
	if (path == NULL || strlen(path) >= ESK_PATH_BYTES)
		return esk_fail(err, ESK_EINVAL, "the path of a file is missing or too long");
	esk_status status = esk_pool_create(0, 64, &pool, err);
	if (status != ESK_OK)
		return status;
	esk_reader *reader = make_reader(esk_os_posix(), pool, err);
	if (reader == NULL) {
		esk_pool_destroy(pool);
		return ESK_ENOMEM;
	}
	reader->owns_pool = true;
	snprintf(reader->path, sizeof reader->path, "%s", path);
	status = load(reader, err);
	if (status != ESK_OK) {
		esk_reader_close(reader);
		return status;
	}
	*ret_reader = reader;
	return ESK_OK;
}

void esk_reader_close(esk_reader *reader)
{
	if (reader == NULL)
		return;
	close_segments(reader->segments, reader->segment_count);
	for (size_t i = 0; i < reader->dataset_count; i++) {
		free(reader->datasets[i]->parts);
		free(reader->datasets[i]);
	}
	free(reader->datasets);
	free(reader->metadata);
	if (reader->owns_pool)
		esk_pool_destroy(reader->pool);
	pthread_rwlock_destroy(&reader->lock);
	free(reader);
}

/* In a child: a lock that another thread of the parent held would never be released, and an open file of
 * libhdf5 is not to be shared. Everything is opened anew. One thread of the child does the first call. */
static esk_status notice_fork(esk_reader *reader, esk_error *err)
{
	if (reader->fork_count == esk_os_fork_count())
		return ESK_OK;
	pthread_rwlock_init(&reader->lock, NULL);
	reader->fork_count = esk_os_fork_count();
	close_segments(reader->segments, reader->segment_count);
	reader->segments = NULL;
	reader->segment_count = 0;
	for (size_t i = 0; i < reader->dataset_count; i++) {
		reader->datasets[i]->part_count = 0;
		reader->datasets[i]->rows = 0;
	}
	pthread_rwlock_wrlock(&reader->lock);
	esk_status status = load(reader, err);
	pthread_rwlock_unlock(&reader->lock);
	return status;
}

esk_status esk_reader_refresh(esk_reader *reader, esk_error *err)
{
	esk_status status = notice_fork(reader, err);
	if (status != ESK_OK)
		return status;
	pthread_rwlock_wrlock(&reader->lock);
	status = load(reader, err);
	pthread_rwlock_unlock(&reader->lock);
	return status;
}

const char *esk_reader_metadata(esk_reader *reader)
{
	return reader->metadata;
}

/* The list of datasets grows when a refresh finds new ones: looking at it shares the lock. */
size_t esk_reader_dataset_count(esk_reader *reader)
{
	notice_fork(reader, NULL);
	pthread_rwlock_rdlock(&reader->lock);
	size_t count = reader->dataset_count;
	pthread_rwlock_unlock(&reader->lock);
	return count;
}

esk_dataset *esk_reader_dataset_at(esk_reader *reader, size_t i)
{
	notice_fork(reader, NULL);
	pthread_rwlock_rdlock(&reader->lock);
	esk_dataset *dataset = i < reader->dataset_count ? reader->datasets[i] : NULL;
	pthread_rwlock_unlock(&reader->lock);
	return dataset;
}

static esk_status not_found(esk_reader *reader, const char *path, bool ambiguous, esk_error *err)
{
	esk_text list = {0};
	for (size_t i = 0; i < reader->dataset_count && list.size < 300; i++)
		esk_text_add(&list, "%s%s", i > 0 ? ", " : "", reader->datasets[i]->path);
	esk_status status = esk_fail(err, ESK_ENOTFOUND, "%s%s%s has %s \"%s\"; it has: %s",
		reader->store != NULL ? "run \"" : "", reader->store != NULL ? reader->name : reader->path,
		reader->store != NULL ? "\"" : "", ambiguous ? "several datasets named" : "no dataset", path,
		list.data != NULL ? list.data : "none");
	esk_text_free(&list);
	return status;
}

static esk_status find(esk_reader *reader, const char *path, esk_dataset **ret_dataset, esk_error *err)
{
	esk_dataset *found = find_path(reader, path);
	size_t matches = found != NULL;
	for (size_t i = 0; found == NULL && i < reader->dataset_count; i++)
		matches += strcmp(reader->datasets[i]->column.name, path) == 0;
	for (size_t i = 0; matches == 1 && found == NULL && i < reader->dataset_count; i++)
		if (strcmp(reader->datasets[i]->column.name, path) == 0)
			found = reader->datasets[i];
	if (found == NULL)
		return not_found(reader, path, matches > 1, err);
	*ret_dataset = found;
	return ESK_OK;
}

esk_status esk_reader_find(esk_reader *reader, const char *path, esk_dataset **ret_dataset, esk_error *err)
{
	if (path == NULL)
		return esk_fail(err, ESK_EINVAL, "the path of a dataset is NULL");
	while (*path == '/')
		path++;
	esk_status status = notice_fork(reader, err);
	if (status != ESK_OK)
		return status;
	pthread_rwlock_rdlock(&reader->lock);
	status = find(reader, path, ret_dataset, err);
	pthread_rwlock_unlock(&reader->lock);
	return status;
}

/* ---- datasets as callers see them ---- */

static esk_status stored_bytes(esk_dataset *dataset, uint64_t *ret_bytes, esk_error *err)
{
	esk_status status = ESK_OK;
	*ret_bytes = 0;
	for (size_t p = 0; p < dataset->part_count && status == ESK_OK; p++) {
		uint64_t bytes = 0;
		status = esk_h5_stored_bytes(dataset->parts[p].data, &bytes, err);
		*ret_bytes += bytes;
	}
	return status;
}

esk_status esk_dataset_get_info(esk_dataset *dataset, esk_dataset_info *ret_info, esk_error *err)
{
	esk_dataset_info info = {
		.struct_size = ret_info->struct_size, .path = dataset->path, .column = dataset->column};
	esk_status status = notice_fork(dataset->reader, err);
	if (status != ESK_OK)
		return status;
	status = ESK_EBUSY;
	for (int i = 0; i < MOVED_TRIES && status == ESK_EBUSY; i++) {
		if (i > 0 && (status = esk_reader_refresh(dataset->reader, err)) != ESK_OK)
			break;
		pthread_rwlock_rdlock(&dataset->reader->lock);
		info.rows = dataset->rows;
		status = stored_bytes(dataset, &info.stored_bytes, err);
		pthread_rwlock_unlock(&dataset->reader->lock);
	}
	if (status == ESK_OK)
		memcpy(ret_info, &info,
			ret_info->struct_size < sizeof info ? ret_info->struct_size : sizeof info);
	return status;
}

uint64_t esk_dataset_rows(esk_dataset *dataset)
{
	if (notice_fork(dataset->reader, NULL) != ESK_OK)
		return 0;
	pthread_rwlock_rdlock(&dataset->reader->lock);
	uint64_t rows = dataset->rows;
	pthread_rwlock_unlock(&dataset->reader->lock);
	return rows;
}

/* ---- reading pieces over segments ---- */

static esk_status out_of_range(const esk_dataset *dataset, uint64_t row, esk_error *err)
{
	return esk_fail(err, ESK_ERANGE, "\"%s\" has %llu rows, row %llu was asked for", dataset->path,
		(unsigned long long)dataset->rows, (unsigned long long)row);
}

/* Cuts pieces at segment bounds: those of part `part` go to `cut`; returns how many. */
static size_t cut_for_part(const esk_dataset *dataset, const esk_dataset_part *part,
	const esk_h5_rows *pieces, size_t count, uint64_t cell_bytes, esk_h5_rows *cut)
{
	size_t used = 0;
	for (size_t i = 0; i < count; i++) {
		uint64_t start = esk_max_u64(pieces[i].row, part->first_row);
		uint64_t stop = esk_min_u64(pieces[i].row + pieces[i].count, part->first_row + part->rows);
		if (start < stop)
			cut[used++] = (esk_h5_rows){.row = start - part->first_row,
				.count = stop - start,
				.out = (char *)pieces[i].out + (start - pieces[i].row) * cell_bytes};
	}
	return used;
}

/* A file that was taken away leaves a hole between the segments that are there. */
static esk_status check_covered(const esk_dataset *dataset, uint64_t row, uint64_t count, esk_error *err)
{
	for (size_t p = 0; p < dataset->part_count && count > 0; p++) {
		const esk_dataset_part *part = &dataset->parts[p];
		if (row < part->first_row || row >= part->first_row + part->rows)
			continue;
		uint64_t here = esk_min_u64(count, part->first_row + part->rows - row);
		row += here;
		count -= here;
	}
	return count == 0 ? ESK_OK
			  : esk_fail(err, ESK_ENOTFOUND,
				    "\"%s\": row %llu is in a segment whose file is missing", dataset->path,
				    (unsigned long long)row);
}

static esk_status read_parts(
	esk_dataset *dataset, bool valid, const esk_h5_rows *pieces, size_t count, esk_error *err)
{
	uint64_t cell_bytes = valid ? 1 : dataset->cell_bytes;
	for (size_t i = 0; i < count; i++)
		if (pieces[i].row > dataset->rows || pieces[i].count > dataset->rows - pieces[i].row)
			return out_of_range(dataset, esk_max_u64(dataset->rows, pieces[i].row), err);
	if (dataset->part_count == 1 && dataset->parts[0].first_row == 0)
		return esk_h5_read_rows(valid ? dataset->parts[0].valid : dataset->parts[0].data,
			dataset->reader->pool, pieces, count, err);
	esk_status status = ESK_OK;
	for (size_t i = 0; i < count && status == ESK_OK; i++)
		status = check_covered(dataset, pieces[i].row, pieces[i].count, err);
	if (status != ESK_OK)
		return status;
	esk_h5_rows *cut = malloc((count + 1) * sizeof *cut);
	if (cut == NULL)
		return esk_fail_memory(err, count * sizeof *cut, "pieces");
	for (size_t p = 0; p < dataset->part_count && status == ESK_OK; p++) {
		size_t used = cut_for_part(dataset, &dataset->parts[p], pieces, count, cell_bytes, cut);
		if (used > 0)
			status = esk_h5_read_rows(valid ? dataset->parts[p].valid : dataset->parts[p].data,
				dataset->reader->pool, cut, used, err);
	}
	free(cut);
	return status;
}

static esk_status read_with_retry(
	esk_dataset *dataset, bool valid, const esk_h5_rows *pieces, size_t count, esk_error *err)
{
	esk_reader *reader = dataset->reader;
	esk_status status = notice_fork(reader, err);
	if (status != ESK_OK)
		return status;
	status = ESK_EBUSY;
	for (int i = 0; i < MOVED_TRIES && status == ESK_EBUSY; i++) {
		if (i > 0 && (status = esk_reader_refresh(reader, err)) != ESK_OK)
			return status;
		pthread_rwlock_rdlock(&reader->lock);
		status = read_parts(dataset, valid, pieces, count, err);
		pthread_rwlock_unlock(&reader->lock);
	}
	return status;
}

static esk_status check_readable(const esk_dataset *dataset, bool strings, esk_error *err)
{
	if (!dataset->readable)
		return esk_fail(
			err, ESK_EUNSUPPORTED, "\"%s\" has a type that Esker does not read", dataset->path);
	if (strings != (dataset->column.dtype.kind == ESK_STRING))
		return esk_fail(err, ESK_ETYPE, "\"%s\" holds %s", dataset->path,
			strings ? "no variable-length strings: use esk_dataset_read"
				: "variable-length strings: use esk_dataset_read_strings");
	return ESK_OK;
}

esk_status esk_dataset_read_pieces(
	esk_dataset *dataset, const esk_h5_rows *pieces, size_t piece_count, esk_error *err)
{
	esk_status status = check_readable(dataset, false, err);
	return status == ESK_OK ? read_with_retry(dataset, false, pieces, piece_count, err) : status;
}

static esk_status check_size(const esk_dataset *dataset, uint64_t rows, size_t buf_bytes, esk_error *err)
{
	uint64_t bytes;
	if (!esk_mul_u64(rows, dataset->cell_bytes, &bytes) || bytes != buf_bytes)
		return esk_fail(err, ESK_ESHAPE,
			"\"%s\": %llu rows of %llu bytes do not fit a buffer of %zu bytes exactly",
			dataset->path, (unsigned long long)rows, (unsigned long long)dataset->cell_bytes,
			buf_bytes);
	return ESK_OK;
}

esk_status esk_dataset_read(esk_dataset *dataset, int64_t start, int64_t stop, int64_t step, void *buf,
	size_t buf_bytes, esk_error *err)
{
	esk_status status = check_readable(dataset, false, err);
	if (status != ESK_OK)
		return status;
	if (step == 0 || start < 0 || (step > 0 && stop < 0))
		return esk_fail(err, ESK_ERANGE, "\"%s\": rows %lld:%lld:%lld", dataset->path,
			(long long)start, (long long)stop, (long long)step);
	uint64_t span = step > 0 ? (stop > start ? (uint64_t)(stop - start) : 0)
				 : (start > stop ? (uint64_t)(start - stop) : 0);
	uint64_t stride = step > 0 ? (uint64_t)step : -(uint64_t)step;
	uint64_t rows = span / stride + (span % stride != 0);
	status = check_size(dataset, rows, buf_bytes, err);
	if (status != ESK_OK || rows == 0)
		return status;
	if (step == 1) {
		esk_h5_rows piece = {.row = (uint64_t)start, .count = rows, .out = buf};
		return read_with_retry(dataset, false, &piece, 1, err);
	}
	esk_h5_rows *pieces = malloc(rows * sizeof *pieces);
	if (pieces == NULL)
		return esk_fail_memory(err, rows * sizeof *pieces, "pieces");
	for (uint64_t i = 0; i < rows; i++)
		pieces[i] = (esk_h5_rows){.row = (uint64_t)start + i * (uint64_t)step,
			.count = 1,
			.out = (char *)buf + i * dataset->cell_bytes};
	status = read_with_retry(dataset, false, pieces, rows, err);
	free(pieces);
	return status;
}

/* Pieces for a list of rows: neighbours are joined. *ret_count pieces; NULL when memory runs out. */
static esk_h5_rows *pieces_of_rows(
	const uint64_t *rows, size_t count, char *out, uint64_t cell_bytes, size_t *ret_count)
{
	esk_h5_rows *pieces = malloc((count + 1) * sizeof *pieces);
	size_t used = 0;
	for (size_t i = 0; pieces != NULL && i < count; i++) {
		if (used > 0 && pieces[used - 1].row + pieces[used - 1].count == rows[i])
			pieces[used - 1].count++;
		else
			pieces[used++] =
				(esk_h5_rows){.row = rows[i], .count = 1, .out = out + i * cell_bytes};
	}
	*ret_count = used;
	return pieces;
}

esk_status esk_dataset_read_rows(esk_dataset *dataset, const uint64_t *rows, size_t row_count, void *buf,
	size_t buf_bytes, esk_error *err)
{
	size_t count;
	esk_status status = check_readable(dataset, false, err);
	if (status == ESK_OK)
		status = check_size(dataset, row_count, buf_bytes, err);
	if (status != ESK_OK || row_count == 0)
		return status;
	esk_h5_rows *pieces = pieces_of_rows(rows, row_count, buf, dataset->cell_bytes, &count);
	if (pieces == NULL)
		return esk_fail_memory(err, row_count * sizeof *pieces, "pieces");
	status = read_with_retry(dataset, false, pieces, count, err);
	free(pieces);
	return status;
}

esk_status esk_dataset_read_valid(
	esk_dataset *dataset, const uint64_t *rows, size_t row_count, uint8_t *ret_valid, esk_error *err)
{
	size_t count;
	if (!dataset->column.nullable) {
		uint64_t total = esk_dataset_rows(dataset);
		for (size_t i = 0; i < row_count; i++)
			if (rows[i] >= total)
				return out_of_range(dataset, rows[i], err);
		memset(ret_valid, 1, row_count);
		return ESK_OK;
	}
	if (row_count == 0)
		return ESK_OK;
	esk_h5_rows *pieces = pieces_of_rows(rows, row_count, (char *)ret_valid, 1, &count);
	if (pieces == NULL)
		return esk_fail_memory(err, row_count * sizeof *pieces, "pieces");
	esk_status status = read_with_retry(dataset, true, pieces, count, err);
	free(pieces);
	return status;
}

/* ---- strings ---- */

/* Strings of consecutive runs of rows, one block per run; joined at the end into one allocation. */
static esk_status read_string_runs(esk_dataset *dataset, const uint64_t *rows, size_t row_count,
	uint64_t elements, esk_string *all, esk_string **blocks, size_t *ret_blocks, esk_error *err)
{
	size_t block_count = 0;
	for (size_t i = 0; i < row_count;) {
		if (rows[i] >= dataset->rows)
			return out_of_range(dataset, rows[i], err);
		esk_status covered = check_covered(dataset, rows[i], 1, err);
		if (covered != ESK_OK)
			return covered;
		const esk_dataset_part *part = dataset->parts;
		while (rows[i] >= part->first_row + part->rows)
			part++;
		size_t run = 1;
		while (i + run < row_count && rows[i + run] == rows[i] + run &&
			rows[i + run] < part->first_row + part->rows)
			run++;
		esk_status status = esk_h5_read_strings(
			part->data, rows[i] - part->first_row, run, &blocks[block_count], err);
		if (status != ESK_OK)
			return status;
		memcpy(all + i * elements, blocks[block_count], run * elements * sizeof *all);
		*ret_blocks = ++block_count;
		i += run;
	}
	return ESK_OK;
}

static esk_status join_strings(const esk_string *all, size_t count, esk_string **ret_strings, esk_error *err)
{
	uint64_t bytes = count * sizeof *all;
	for (size_t i = 0; i < count; i++)
		bytes += all[i].size + 1;
	esk_string *joined = malloc(bytes + 1);
	if (joined == NULL)
		return esk_fail_memory(err, bytes, "strings");
	char *at = (char *)(joined + count);
	for (size_t i = 0; i < count; i++) {
		if (all[i].size > 0)
			memcpy(at, all[i].data, all[i].size);
		at[all[i].size] = '\0';
		joined[i] = (esk_string){at, all[i].size};
		at += all[i].size + 1;
	}
	*ret_strings = joined;
	return ESK_OK;
}

esk_status esk_dataset_read_strings(esk_dataset *dataset, const uint64_t *rows, size_t row_count,
	esk_string **ret_strings, esk_error *err)
{
	esk_status status = check_readable(dataset, true, err);
	if (status != ESK_OK)
		return status;
	uint64_t elements = dataset->cell_bytes / sizeof(esk_string);
	size_t count = row_count * elements, block_count = 0;
	esk_string *all = calloc(count + 1, sizeof *all);
	esk_string **blocks = calloc(row_count + 1, sizeof *blocks);
	if (all == NULL || blocks == NULL) {
		status = esk_fail_memory(err, count * sizeof *all, "strings");
		goto blocks;
	}
	status = notice_fork(dataset->reader, err);
	if (status != ESK_OK)
		goto blocks;
	status = ESK_EBUSY;
	for (int i = 0; i < MOVED_TRIES && status == ESK_EBUSY; i++) {
		if (i > 0 && (status = esk_reader_refresh(dataset->reader, err)) != ESK_OK)
			break;
		while (block_count > 0)
			free(blocks[--block_count]);
		pthread_rwlock_rdlock(&dataset->reader->lock);
		status = read_string_runs(dataset, rows, row_count, elements, all, blocks, &block_count, err);
		pthread_rwlock_unlock(&dataset->reader->lock);
	}
	if (status == ESK_OK)
		status = join_strings(all, count, ret_strings, err);
blocks:
	for (size_t i = 0; i < block_count; i++)
		free(blocks[i]);
	free(blocks);
	free(all);
	return status;
}

void esk_strings_free(esk_string *strings)
{
	free(strings);
}
