/* The files of a store's directory, and what the catalogue needs of each. They may be damaged: each is tried
 * out in a child process before libhdf5 opens it here. */
#include "store/internal.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Length of the name without its ending; 0 where it is none of an HDF5 file, plain or encrypted. */
static size_t stem_of(const char *name)
{
	size_t size = strlen(name);
	if (size >= ESK_FILE_NAME_BYTES || name[0] == '.')
		return 0;
	if (size > 4 && strcmp(name + size - 4, ".h5x") == 0)
		return size - 4;
	return size > 3 && strcmp(name + size - 3, ".h5") == 0 ? size - 3 : 0;
}

/* Both are there where a segment is being encrypted, or was when its recorder died: then the plain one
 * counts. */
static bool is_plain_beside(const char *directory, const char *name)
{
	char path[ESK_PATH_BYTES];
	size_t size = strlen(name);
	if (name[size - 1] != 'x' || !esk_store_file_path(directory, name, path))
		return false;
	path[strlen(path) - 1] = '\0';
	return esk_os_exists(path);
}

void esk_run_of_name(const char *name, char ret_run[ESK_MAX_NAME + 1])
{
	bool encrypted;
	if (!esk_segment_is_sealed_name(name, ret_run, &encrypted) || !encrypted)
		snprintf(ret_run, ESK_MAX_NAME + 1, "%.*s", (int)esk_min_u64(stem_of(name), ESK_MAX_NAME),
			name);
}

/* ---- reading one file ---- */

static esk_status read_gaps(esk_h5 *h5, esk_pool *pool, esk_index_file *file, esk_error *err)
{
	esk_h5_dataset *dataset;
	esk_status status = esk_h5_dataset_open(h5, ESK_GAPS_PATH, &dataset, err);
	if (status != ESK_OK)
		return status == ESK_ENOTFOUND ? ESK_OK : status;
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	if (info->column.dtype.kind != ESK_U64 || esk_column_cell_bytes(&info->column) != sizeof(esk_gap))
		return esk_fail(
			err, ESK_ECORRUPT, "%s: /" ESK_GAPS_PATH " is no list of gaps", esk_h5_path(h5));
	if (info->rows == 0)
		return ESK_OK;
	/* deflate makes at most 1032 bytes of one */
	if (info->rows / 16 > file->bytes)
		return esk_fail(err, ESK_ECORRUPT, "%s: /" ESK_GAPS_PATH " claims %llu gaps", esk_h5_path(h5),
			(unsigned long long)info->rows);
	esk_gap *gaps = calloc(info->rows, sizeof *gaps);
	if (gaps == NULL)
		return esk_fail_memory(err, info->rows * sizeof *gaps, "gaps");
	esk_h5_rows piece = {.row = 0, .count = info->rows, .out = gaps};
	status = esk_h5_read_rows(dataset, pool, &piece, 1, err);
	if (status != ESK_OK) {
		free(gaps);
		return status;
	}
	file->gaps = gaps;
	file->gap_count = info->rows;
	return ESK_OK;
}

/* The stream of that name in `file`, made if there is none: *ret_stream is borrowed until the next one is
 * made. */
static esk_status foreign_stream(
	esk_index_file *file, const char *name, esk_segment_stream **ret_stream, esk_error *err)
{
	for (size_t i = 0; i < file->stream_count; i++) {
		if (strcmp(file->streams[i].name, name) == 0) {
			*ret_stream = &file->streams[i];
			return ESK_OK;
		}
	}
	esk_segment_stream *grown = realloc(file->streams, (file->stream_count + 1) * sizeof *grown);
	if (grown == NULL)
		return esk_fail_memory(err, sizeof *grown, "streams");
	file->streams = grown;
	*ret_stream = &grown[file->stream_count];
	**ret_stream = (esk_segment_stream){.stream = (uint32_t)file->stream_count};
	snprintf((*ret_stream)->name, sizeof(*ret_stream)->name, "%s", name);
	file->stream_count++;
	return ESK_OK;
}

const char *esk_foreign_column(const char *path)
{
	const char *slash = strchr(path, '/');
	return slash != NULL ? slash + 1 : path;
}

/* The datasets at and below a group of the root are the columns of one stream, as long as the longest of
 * them. Those whose names are none in Esker are not catalogued; a reader of the file has them. */
static esk_status visit_foreign(void *arg, esk_h5_dataset *dataset, esk_error *err)
{
	esk_index_file *file = arg;
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	if (!info->readable || info->scalar || strncmp(info->path, ".esker/", 7) == 0)
		return ESK_OK;
	const char *column = esk_foreign_column(info->path);
	char name[ESK_MAX_NAME + 1] = "/";
	if (column != info->path)
		snprintf(name, sizeof name, "%.*s",
			(int)esk_min_u64((uint64_t)(column - 1 - info->path), ESK_MAX_NAME), info->path);
	if ((column != info->path && esk_name_check(name, "stream", NULL) != ESK_OK) ||
		esk_column_name_check(column, NULL) != ESK_OK)
		return ESK_OK;
	esk_segment_stream *stream;
	esk_status status = foreign_stream(file, name, &stream, err);
	if (status != ESK_OK)
		return status;
	esk_column *columns = realloc(stream->columns, (stream->column_count + 1) * sizeof *columns);
	if (columns == NULL)
		return esk_fail_memory(err, sizeof *columns, "columns");
	stream->columns = columns;
	columns[stream->column_count] = info->column;
	snprintf(columns[stream->column_count++].name, sizeof columns->name, "%s", column);
	stream->rows = esk_max_u64(stream->rows, info->rows);
	return ESK_OK;
}

static esk_status read_file(
	const esk_os *os, esk_pool *pool, const char *path, esk_index_file *file, esk_error *err)
{
	esk_h5 *h5;
	struct stat st;
	if (stat(path, &st) == 0) {
		file->bytes = (uint64_t)st.st_size;
		file->head.created_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
		file->head.commit_ns = file->head.created_ns;
	}
	esk_status status = esk_h5_open_read(os, path, &h5, err);
	if (status != ESK_OK)
		return status;
	esk_segment_head head;
	status = esk_segment_read_head(h5, &head, err);
	if (status == ESK_OK) {
		file->head = head;
		file->foreign = false;
		status = esk_segment_read_streams(h5, &file->streams, &file->stream_count, err);
		if (status == ESK_OK)
			status = esk_h5_get_text(h5, "/", "metadata", &file->metadata, err);
		if (status == ESK_ENOTFOUND)
			status = ESK_OK;
		if (status == ESK_OK)
			status = read_gaps(h5, pool, file, err);
		if (status == ESK_OK)
			status = esk_segment_item_range(h5, &file->first_item, &file->item_count, err);
	} else if (status == ESK_ENOTFOUND) {
		status = esk_h5_visit(h5, visit_foreign, file, err);
	}
	esk_h5_close(h5, NULL);
	return status;
}

/* ---- scanning ---- */

static int compare_files(const void *left, const void *right)
{
	const esk_index_file *a = left, *b = right;
	int order = strcmp(a->head.run, b->head.run);
	if (order == 0)
		order = a->foreign - b->foreign;
	return order != 0 ? order : (a->head.number > b->head.number) - (a->head.number < b->head.number);
}

static void clear_file(esk_index_file *file)
{
	free(file->metadata);
	free(file->gaps);
	esk_segment_streams_free(file->streams, file->stream_count);
}

void esk_index_free(esk_index_file *files, size_t count)
{
	for (size_t i = 0; i < count; i++)
		clear_file(&files[i]);
	free(files);
}

typedef char file_name[ESK_FILE_NAME_BYTES];

static esk_status add_name(file_name **names, size_t *count, const char *name, esk_error *err)
{
	if ((*count & (*count - 1)) == 0) { /* a power of two is full */
		size_t capacity = *count == 0 ? 1 : 2 * *count;
		void *grown = realloc(*names, capacity * sizeof **names);
		if (grown == NULL)
			return esk_fail_memory(err, capacity * sizeof **names, "names of files");
		*names = grown;
	}
	snprintf((*names)[(*count)++], sizeof **names, "%s", name);
	return ESK_OK;
}

/* A segment's name begins with that of its run. */
esk_status esk_index_names(const char *directory, const char *run, char (**ret_names)[ESK_FILE_NAME_BYTES],
	size_t *ret_count, esk_error *err)
{
	file_name *names = NULL;
	size_t count = 0, prefix = run != NULL ? strlen(run) : 0;
	esk_status status = ESK_OK;
	DIR *dir = opendir(directory);
	if (dir == NULL)
		return esk_fail(err, ESK_ENOTFOUND, "cannot list %s", directory);
	for (struct dirent *entry; status == ESK_OK && (entry = readdir(dir)) != NULL;) {
		char path[ESK_PATH_BYTES];
		if (stem_of(entry->d_name) != 0 &&
			(run == NULL || strncmp(entry->d_name, run, prefix) == 0) &&
			!is_plain_beside(directory, entry->d_name) &&
			esk_store_file_path(directory, entry->d_name, path))
			status = add_name(&names, &count, entry->d_name, err);
	}
	closedir(dir);
	if (status != ESK_OK) {
		free(names);
		return status;
	}
	if (count > 0)
		qsort(names, count, sizeof *names, (int (*)(const void *, const void *))strcmp);
	*ret_names = names;
	*ret_count = count;
	return ESK_OK;
}

esk_status esk_index_try_names(const char *directory, char (*names)[ESK_FILE_NAME_BYTES], size_t count,
	esk_h5_trial **ret_trial, esk_error *err)
{
	esk_status status = ESK_OK;
	char **paths = calloc(count + 1, sizeof *paths);
	for (size_t i = 0; paths != NULL && i < count && status == ESK_OK; i++)
		if (asprintf(&paths[i], "%s/%s", directory, names[i]) < 0) {
			paths[i] = NULL;
			status = esk_fail_memory(err, strlen(directory), "paths of files");
		}
	if (paths == NULL)
		return esk_fail_memory(err, count * sizeof *paths, "paths of files");
	if (status == ESK_OK)
		status = esk_h5_trial_begin((const char *const *)paths, count, ret_trial, err);
	for (size_t i = 0; i < count; i++)
		free(paths[i]);
	free(paths);
	return status;
}

esk_status esk_index_try_none(esk_h5_trial **ret_trial, esk_error *err)
{
	esk_status status = esk_h5_trial_begin(NULL, 0, ret_trial, err);
	if (status == ESK_OK)
		esk_h5_trial_leave_others(*ret_trial);
	return status;
}

esk_status esk_index_try(const char *directory, const char *run, esk_h5_trial **ret_trial, esk_error *err)
{
	file_name *names;
	size_t count;
	esk_status status = esk_index_names(directory, run, &names, &count, err);
	if (status != ESK_OK)
		return status;
	status = esk_index_try_names(directory, names, count, ret_trial, err);
	free(names);
	return status;
}

typedef struct scan {
	const esk_os *os;
	const char *directory;
	const char *run;
	esk_h5_trial *trial;
	esk_pool *pool;
	esk_index_file *files;
	size_t count;
	bool moved; /* a file has gone since its name was listed */
} scan;

static esk_status scan_file(scan *s, const char *name, esk_error *err)
{
	char path[ESK_PATH_BYTES];
	if (!esk_store_file_path(s->directory, name, path))
		return ESK_OK;
	esk_index_file *grown = realloc(s->files, (s->count + 1) * sizeof *grown);
	if (grown == NULL)
		return esk_fail_memory(err, (s->count + 1) * sizeof *grown, "the list of files");
	s->files = grown;
	esk_index_file *file = &grown[s->count];
	*file = (esk_index_file){.foreign = true};
	snprintf(file->name, sizeof file->name, "%s", name);
	esk_run_of_name(name, file->head.run);
	file->status = esk_h5_trial_verdict(s->trial, path, &file->error);
	file->untouchable = file->status != ESK_OK;
	if (file->status == ESK_OK)
		file->status = read_file(s->os, s->pool, path, file, &file->error);
	s->moved = s->moved || (file->status == ESK_ENOTFOUND && !esk_os_exists(path));
	if (s->run != NULL && strcmp(file->head.run, s->run) != 0)
		clear_file(file);
	else
		s->count++;
	return ESK_OK;
}

static esk_status scan_once(scan *s, esk_error *err)
{
	file_name *names;
	size_t count;
	s->files = NULL;
	s->count = 0;
	s->moved = false;
	esk_status status = esk_index_names(s->directory, s->run, &names, &count, err);
	if (status != ESK_OK)
		return status;
	for (size_t i = 0; i < count && status == ESK_OK; i++)
		status = scan_file(s, names[i], err);
	free(names);
	return status;
}

/* Rotation, encryption and pruning change names while they are read. */
#define TRIES 10

esk_status esk_index_scan(const esk_os *os, const char *directory, const char *run, esk_h5_trial *trial,
	esk_index_file **ret_files, size_t *ret_count, esk_error *err)
{
	esk_h5_trial *own = NULL;
	scan s = {.os = os, .directory = directory, .run = run, .trial = trial};
	esk_status status = esk_pool_create(1, 8, &s.pool, err);
	if (status != ESK_OK)
		return status;
	if (trial == NULL) {
		status = esk_index_try(directory, run, &own, err);
		s.trial = own;
	}
	if (status == ESK_OK)
		status = scan_once(&s, err);
	for (int i = 1; i < TRIES && status == ESK_OK && s.moved; i++) {
		esk_index_free(s.files, s.count);
		status = scan_once(&s, err);
	}
	esk_h5_trial_end(own);
	esk_pool_destroy(s.pool);
	if (status != ESK_OK) {
		esk_index_free(s.files, s.count);
		return status;
	}
	if (s.count > 0)
		qsort(s.files, s.count, sizeof *s.files, compare_files);
	*ret_files = s.files;
	*ret_count = s.count;
	return ESK_OK;
}
