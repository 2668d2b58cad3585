/* Readers: a run's segments seen as one. Opening, refreshing, closing, finding; trying again while somebody
 * writes. */
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
	if (strncmp(info->path, ".esker/", 7) == 0)
		return ESK_OK;
	esk_column column = info->column;
	snprintf(column.name, sizeof column.name, "%s", esk_foreign_column(info->path));
	return add_part(arg, data, NULL, info->path, &column, 0, err);
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

/* Takes metadata and attributes from the newest segment. */
static esk_status read_root(esk_reader *reader, esk_error *err)
{
	char *metadata = NULL, *attributes = NULL;
	if (reader->segment_count > 0) {
		esk_h5 *file = reader->segments[reader->segment_count - 1].file;
		esk_h5_get_text(file, "/", "metadata", &metadata, NULL);
		esk_status status = esk_attributes_read(file, &attributes, err);
		if (status != ESK_OK) {
			free(metadata);
			return status;
		}
	}
	if (metadata != NULL && esk_metadata_check(metadata, NULL) != ESK_OK) { /* a foreign file's own */
		free(metadata);
		metadata = NULL;
	}
	metadata = metadata != NULL ? metadata : strdup("{}");
	attributes = attributes != NULL ? attributes : strdup("{}");
	if (metadata == NULL || attributes == NULL) {
		free(metadata);
		free(attributes);
		return esk_fail_memory(err, 3, "metadata");
	}
	free(reader->metadata);
	free(reader->attributes);
	reader->metadata = metadata;
	reader->attributes = attributes;
	return ESK_OK;
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
	return status == ESK_OK ? read_root(reader, err) : status;
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
	free(reader->attributes);
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

esk_status esk_reader_read(esk_reader *reader, esk_reader_fn read, void *arg, esk_error *err)
{
	esk_status status = notice_fork(reader, err);
	if (status != ESK_OK)
		return status;
	status = ESK_EBUSY;
	for (int i = 0; i < MOVED_TRIES && status == ESK_EBUSY; i++) {
		if (i > 0 && (status = esk_reader_refresh(reader, err)) != ESK_OK)
			return status;
		pthread_rwlock_rdlock(&reader->lock);
		status = read(arg, err);
		pthread_rwlock_unlock(&reader->lock);
	}
	return status;
}

esk_status esk_reader_share(esk_reader *reader, esk_error *err)
{
	esk_status status = notice_fork(reader, err);
	if (status == ESK_OK)
		pthread_rwlock_rdlock(&reader->lock);
	return status;
}

void esk_reader_unshare(esk_reader *reader)
{
	pthread_rwlock_unlock(&reader->lock);
}

const char *esk_reader_metadata(esk_reader *reader)
{
	return reader->metadata;
}

const char *esk_reader_attributes(esk_reader *reader)
{
	return reader->attributes;
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

/* True if `path` ends with `name`, from the beginning of a part. */
static bool ends_with(const char *path, const char *name)
{
	size_t size = strlen(path), tail = strlen(name);
	return tail < size && path[size - tail - 1] == '/' && strcmp(path + size - tail, name) == 0;
}

static esk_status find(esk_reader *reader, const char *path, esk_dataset **ret_dataset, esk_error *err)
{
	esk_dataset *found = find_path(reader, path);
	size_t matches = 0;
	for (size_t i = 0; (found == NULL || matches > 0) && i < reader->dataset_count; i++) {
		if (ends_with(reader->datasets[i]->path, path)) {
			found = reader->datasets[i];
			matches++;
		}
	}
	if (found == NULL || matches > 1)
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
