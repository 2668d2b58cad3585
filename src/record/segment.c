/* The live segment: made complete under another name, opened after a crash, rotated. Drain thread only (R1).
 *
 *   S1  <run>.h5 is at every moment either absent or a committed file: it is made in spool/, committed,
 *       closed, and renamed.
 *   S2  rotation renames the closed, committed <run>.h5 to <run>_<stamp>.h5 before the next one is made; a
 *       crash between leaves no <run>.h5, and the next opener goes on from the sealed segment with the
 *       highest number. */
#include "record/internal.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A stream's small columns share 16 MiB of open chunks, so that a thousand channels stay within bounds. */
#define SMALL_CHUNKS_BYTES (16u << 20)
#define SMALL_CHUNK_MIN_BYTES (16u << 10)

#define NS_PER_HOUR (3600 * (int64_t)1000000000)
#define NS_PER_DAY (24 * NS_PER_HOUR)

static esk_status set_state(
	esk_h5 *file, uint64_t commit, uint64_t sequence, uint64_t ring_id, int64_t time_ns, esk_error *err)
{
	uint64_t numbers[4] = {commit, sequence, ring_id, (uint64_t)time_ns};
	return esk_h5_set_u64s(file, "/", "esker_commit", numbers, 4, err);
}

static esk_status set_head(esk_h5 *file, const esk_segment_head *head, const char *metadata, esk_error *err)
{
	char created[ESK_TIME_TEXT_BYTES];
	uint64_t format = ESK_FORMAT_VERSION;
	esk_time_format(head->created_ns, created);
	esk_status status = esk_h5_set_u64s(file, "/", "esker_format", &format, 1, err);
	if (status == ESK_OK)
		status = esk_h5_set_u64s(file, "/", "esker_store", &head->store_id, 1, err);
	if (status == ESK_OK)
		status = esk_h5_set_u64s(file, "/", "esker_segment", &head->number, 1, err);
	if (status == ESK_OK)
		status = esk_h5_set_i64(file, "/", "esker_created_ns", head->created_ns, err);
	if (status == ESK_OK)
		status = esk_h5_set_text(file, "/", "esker_run", head->run, err);
	if (status == ESK_OK)
		status = esk_h5_set_text(file, "/", "created_at", created, err);
	if (status == ESK_OK)
		status = esk_h5_set_text(file, "/", "metadata", metadata, err);
	if (status == ESK_OK)
		status = set_state(file, head->commit, head->sequence, head->ring_id, head->commit_ns, err);
	return status;
}

static esk_status set_stream_list(esk_recorder *r, const esk_stream *added, esk_error *err)
{
	esk_text text = {0};
	uint32_t count = atomic_load_explicit(
		&r->stream_count, memory_order_acquire); /* with the release in drain.c */
	for (uint32_t s = 0; s < count; s++)
		esk_text_add(&text, "%s\n", r->streams[s]->name);
	if (added != NULL)
		esk_text_add(&text, "%s\n", added->name);
	esk_status status = text.failed ? esk_fail_memory(err, 1, "names")
					: esk_h5_set_text(r->file, "/", "esker_streams",
						  text.data != NULL ? text.data : "", err);
	esk_text_free(&text);
	return status;
}

/* Gives a stream its writers, once. */
static esk_status make_writers(esk_recorder *r, esk_stream *stream, esk_error *err)
{
	if (stream->writer_count > 0)
		return ESK_OK;
	bool may_reference = r->options.policy != ESK_OVERWRITE;
	uint64_t target = esk_max_u64(SMALL_CHUNKS_BYTES / stream->column_count, SMALL_CHUNK_MIN_BYTES);
	size_t next = stream->column_count;
	for (size_t c = 0; c < stream->column_count; c++) {
		esk_status status = esk_writer_init(
			&stream->writers[c], &stream->columns[c], r->codec, target, may_reference, err);
		if (status != ESK_OK)
			return status;
		stream->valid_writer[c] = SIZE_MAX;
		if (!stream->columns[c].nullable)
			continue;
		esk_column valid = {.dtype = {ESK_BOOL, 1}, .chunk_rows = esk_min_u64(target, 1u << 17)};
		snprintf(valid.name, sizeof valid.name, "%.249s_valid", stream->columns[c].name);
		stream->valid_writer[c] = next;
		status = esk_writer_init(&stream->writers[next++], &valid, "gzip:1", target, false, err);
		if (status != ESK_OK)
			return status;
	}
	stream->writer_count = next;
	return ESK_OK;
}

static void writer_path(const esk_stream *stream, size_t w, char *buf, size_t buf_bytes)
{
	/* A validity writer's column carries the suffix already. */
	esk_segment_column_path(stream->name, stream->writers[w].column.name, false, buf, buf_bytes);
}

/* Where the file has fewer rows than were drained, the ring is read again from there. */
static void set_rows(esk_stream *stream, uint64_t rows)
{
	if (stream->rows == rows)
		return;
	stream->rows = rows;
	esk_index_restart(stream);
}

/* Opens (or, with `create`, makes) the datasets of a stream in r->file and attaches its writers. */
static esk_status attach_stream(esk_recorder *r, esk_stream *stream, bool create, esk_error *err)
{
	char path[2 * ESK_MAX_NAME + 16];
	esk_status status = make_writers(r, stream, err);
	uint64_t rows = UINT64_MAX;
	for (size_t w = 0; w < stream->writer_count && status == ESK_OK; w++) {
		esk_column_writer *writer = &stream->writers[w];
		esk_h5_dataset *dataset;
		writer_path(stream, w, path, sizeof path);
		status = create ? esk_h5_dataset_create(r->file, path, &writer->column, writer->chunk_rows,
					  &writer->pipeline, &dataset, err)
				: esk_h5_dataset_open(r->file, path, &dataset, err);
		if (status == ESK_OK)
			status = esk_writer_attach(r, writer, dataset, err);
		if (status == ESK_OK && rows != UINT64_MAX && writer->rows != rows)
			status = esk_fail(err, ESK_ECORRUPT,
				"%s: \"%s\" has %llu rows where its stream has %llu; `esker repair` salvages "
				"it",
				r->file_path, path, (unsigned long long)writer->rows,
				(unsigned long long)rows);
		rows = writer->rows;
	}
	if (status == ESK_OK)
		set_rows(stream, stream->first_row + rows);
	return status;
}

esk_status esk_segment_add_stream(esk_recorder *r, esk_stream *stream, esk_error *err)
{
	esk_text names = {0};
	uint64_t numbers[2] = {stream->id, stream->first_row};
	esk_status status =
		strcmp(stream->name, "/") == 0 ? ESK_OK : esk_h5_make_group(r->file, stream->name, err);
	for (size_t c = 0; c < stream->column_count; c++)
		esk_text_add(&names, "%s\n", stream->columns[c].name);
	if (status == ESK_OK)
		status = attach_stream(r, stream, true, err);
	if (status == ESK_OK)
		status = esk_h5_set_u64s(r->file, stream->name, "esker_stream", numbers, 2, err);
	if (status == ESK_OK)
		status = names.failed
				 ? esk_fail_memory(err, 1, "names")
				 : esk_h5_set_text(r->file, stream->name, "esker_columns", names.data, err);
	esk_text_free(&names);
	if (status == ESK_OK && stream->index != NULL)
		status = esk_h5_set_text(r->file, stream->name, "esker_index", stream->index, err);
	if (status == ESK_OK && stream->rows_attribute != NULL)
		status = esk_h5_set_text(
			r->file, stream->name, "esker_rows_attribute", stream->rows_attribute, err);
	stream->rows_attribute_value = UINT64_MAX; /* not yet in this segment */
	return status;
}

/* ---- making one (S1) ---- */

static esk_status commit_plainly(esk_h5 *file, esk_error *err)
{
	esk_status status = esk_h5_commit_begin(file, err);
	return status == ESK_OK ? esk_h5_commit_finish(file, NULL, err) : status;
}

static esk_status remove_with_journal(const esk_os *os, const char *path, esk_error *err)
{
	char journal[ESK_PATH_BYTES + 16];
	snprintf(journal, sizeof journal, "%s-journal", path);
	esk_status status = esk_os_unlink(os, path, err);
	return status == ESK_OK ? esk_os_unlink(os, journal, err) : status;
}

/* Fills r->file, which is new, with everything but rows. */
static esk_status fill_new(esk_recorder *r, esk_error *err)
{
	esk_status status = set_head(r->file, &r->head, r->metadata, err);
	uint32_t count = atomic_load_explicit(
		&r->stream_count, memory_order_acquire); /* with the release in drain.c */
	for (uint32_t s = 0; s < count && status == ESK_OK; s++) {
		r->streams[s]->first_row = r->streams[s]->rows;
		status = esk_segment_add_stream(r, r->streams[s], err);
	}
	if (status == ESK_OK)
		status = set_stream_list(r, NULL, err);
	if (status == ESK_OK)
		status = esk_items_begin_segment(r, err);
	if (status == ESK_OK)
		status = esk_attributes_write(r, err);
	if (status == ESK_OK)
		status = esk_texts_write(r, err);
	if (status == ESK_OK)
		status = esk_attributes_write_rows(r, err);
	return status == ESK_OK ? commit_plainly(r->file, err) : status;
}

esk_status esk_segment_create(esk_recorder *r, uint64_t number, esk_error *err)
{
	char making[ESK_PATH_BYTES];
	if (snprintf(making, sizeof making, "%s/spool/%s.h5.new", r->directory, r->name) >=
		(int)sizeof making)
		return esk_fail(err, ESK_EINVAL, "path too long: %s", r->directory);
	r->period_known = false;
	r->head.number = number;
	r->head.created_ns = r->os->now_ns(r->os);
	r->head.store_id = r->store_id;
	r->head.format = ESK_FORMAT_VERSION;
	memcpy(r->head.run, r->name, sizeof r->head.run);
	esk_assembler_reset(r);
	esk_status status = remove_with_journal(r->os, making, err);
	if (status == ESK_OK)
		status = esk_h5_create(r->os, making, &r->file, err);
	if (status != ESK_OK)
		return status;
	status = fill_new(r, err);
	esk_assembler_reset(r); /* the datasets' handles go with the file */
	if (status == ESK_OK)
		status = esk_h5_close(r->file, err);
	else
		esk_h5_abandon(r->file);
	r->file = NULL;
	if (status == ESK_OK)
		status = esk_os_rename(r->os, making, r->file_path, err);
	if (status == ESK_OK)
		status = esk_os_sync_parent(r->os, r->file_path, err);
	return status == ESK_OK ? esk_segment_open(r, err) : status;
}

/* ---- opening one ---- */

static esk_status adopt_stream(
	esk_recorder *r, const esk_segment_stream *found, esk_stream **ret_stream, esk_error *err)
{
	uint32_t count = atomic_load_explicit(
		&r->stream_count, memory_order_acquire); /* with the release in drain.c */
	if (found->stream < count) {
		*ret_stream = r->streams[found->stream];
		return strcmp((*ret_stream)->name, found->name) == 0
			       ? ESK_OK
			       : esk_fail(err, ESK_ECORRUPT, "%s: stream %u is \"%s\", expected \"%s\"",
					 r->file_path, found->stream, found->name, (*ret_stream)->name);
	}
	if (found->stream != count || count == ESK_MAX_STREAMS || found->column_count == 0)
		return esk_fail(err, ESK_ECORRUPT,
			"%s: stream \"%s\" has number %u and %zu columns, expected number %u", r->file_path,
			found->name, found->stream, found->column_count, count);
	esk_stream_options options = {.index = found->index, .rows_attribute = found->rows_attribute};
	esk_status status = esk_stream_create(
		r, found->name, found->columns, found->column_count, &options, ret_stream, err);
	if (status != ESK_OK)
		return status;
	(*ret_stream)->id = found->stream;
	r->streams[count] = *ret_stream;
	atomic_store_explicit(
		&r->stream_count, count + 1, memory_order_release); /* with every acquire of stream_count */
	return ESK_OK;
}

static esk_status adopt_metadata(esk_recorder *r, esk_h5 *file, esk_error *err)
{
	if (r->metadata_dirty || r->metadata != NULL)
		return ESK_OK;
	esk_status status = esk_h5_get_text(file, "/", "metadata", &r->metadata, err);
	if (status != ESK_ENOTFOUND)
		return status;
	r->metadata = strdup("{}");
	return r->metadata != NULL ? ESK_OK : esk_fail_memory(err, 3, "metadata");
}

static esk_status adopt_head(esk_recorder *r, esk_h5 *file, esk_error *err)
{
	esk_segment_head head;
	esk_status status = esk_segment_read_head(file, &head, err);
	if (status != ESK_OK)
		return status;
	if (strcmp(head.run, r->name) != 0)
		return esk_fail(err, ESK_ECORRUPT, "%s holds run \"%s\", expected \"%s\"", esk_h5_path(file),
			head.run, r->name);
	r->head = head;
	status = adopt_metadata(r, file, err);
	if (status == ESK_OK)
		status = esk_attributes_adopt(r, file, err);
	return status == ESK_OK ? esk_texts_adopt(r, file, err) : status;
}

static esk_status adopt_streams(esk_recorder *r, esk_h5 *file, bool attach, esk_error *err)
{
	esk_segment_stream *found;
	size_t count;
	esk_status status = esk_segment_read_streams(file, &found, &count, err);
	if (status != ESK_OK)
		return status;
	for (size_t i = 0; i < count && status == ESK_OK; i++) {
		esk_stream *stream;
		status = adopt_stream(r, &found[i], &stream, err);
		if (status != ESK_OK)
			break;
		stream->first_row = found[i].first_row;
		stream->rows_attribute_value =
			UINT64_MAX; /* whatever the file says: the next commit sets it */
		if (attach)
			status = attach_stream(r, stream, false, err);
		else
			set_rows(stream, found[i].first_row + found[i].rows);
	}
	esk_segment_streams_free(found, count);
	return status;
}

static esk_status attach_gaps(esk_recorder *r, bool create, esk_error *err)
{
	esk_column *column = NULL;
	size_t count;
	esk_h5_dataset *dataset;
	esk_status status = ESK_OK;
	if (r->gap_writer.cell_bytes == 0) {
		status = esk_columns_parse(ESK_GAP_COLUMN, &column, &count, err);
		if (status != ESK_OK)
			return status;
		column->chunk_rows = 256;
		status =
			esk_writer_init(&r->gap_writer, column, "gzip:1", ESK_CHUNK_TARGET_BYTES, false, err);
		esk_columns_free(column);
	}
	if (status == ESK_OK)
		status = create ? esk_h5_dataset_create(r->file, ESK_GAPS_PATH, &r->gap_writer.column,
					  r->gap_writer.chunk_rows, &r->gap_writer.pipeline, &dataset, err)
				: esk_h5_dataset_open(r->file, ESK_GAPS_PATH, &dataset, err);
	return status == ESK_OK ? esk_writer_attach(r, &r->gap_writer, dataset, err) : status;
}

esk_status esk_segment_open(esk_recorder *r, esk_error *err)
{
	esk_jfile_recovery recovery = {0};
	esk_status status = esk_h5_open_write(r->os, r->file_path, &r->file, &recovery, err);
	if (status != ESK_OK) {
		r->file = NULL;
		return status;
	}
	if (recovery.journal_found && (recovery.applied || recovery.discarded_bytes > 0))
		esk_log(&r->logger, ESK_LOG_INFO, "%s: journal %s", r->file_path,
			recovery.applied ? "applied: the last commit is complete"
					 : "discarded: it was not complete");
	status = adopt_head(r, r->file, err);
	if (status == ESK_OK)
		status = adopt_streams(r, r->file, true, err);
	if (status == ESK_OK && esk_h5_exists(r->file, ESK_GAPS_PATH))
		status = attach_gaps(r, false, err);
	if (status == ESK_OK)
		status = esk_items_attach(r, r->file, true, err);
	if (status == ESK_OK && !r->period_known && esk_segment_has_rows(r)) {
		r->period = esk_segment_period(r, r->head.commit_ns);
		r->period_known = true;
	}
	if (status != ESK_OK) {
		esk_assembler_reset(r);
		esk_h5_abandon(r->file);
		r->file = NULL;
	}
	return status;
}

/* ---- state, gaps ---- */

esk_status esk_segment_write_state(
	esk_recorder *r, uint64_t commit, uint64_t sequence, int64_t time_ns, esk_error *err)
{
	esk_status status = ESK_OK;
	if (r->metadata_dirty)
		status = esk_h5_set_text(r->file, "/", "metadata", r->metadata, err);
	if (status == ESK_OK && r->attributes_dirty)
		status = esk_attributes_write(r, err);
	if (status == ESK_OK && r->texts_dirty)
		status = esk_texts_write(r, err);
	if (status == ESK_OK)
		status = esk_attributes_write_rows(r, err);
	if (status == ESK_OK)
		status = set_state(r->file, commit, sequence, r->ring_id, time_ns, err);
	return status;
}

esk_status esk_segment_list_stream(esk_recorder *r, const esk_stream *added, esk_error *err)
{
	return set_stream_list(r, added, err);
}

esk_status esk_segment_write_gaps(esk_recorder *r, esk_error *err)
{
	_Static_assert(sizeof(esk_gap) == 9 * sizeof(uint64_t), "a gap is a row of /.esker/gaps");
	esk_status status = ESK_OK;
	if (r->gaps_unwritten > 0 && r->gap_writer.dataset == NULL)
		status = attach_gaps(r, true, err);
	if (status == ESK_OK && r->gaps_unwritten > 0)
		status = esk_writer_append(r, &r->gap_writer, r->gaps + r->gap_count - r->gaps_unwritten,
			r->gaps_unwritten, err);
	if (status == ESK_OK)
		r->gaps_unwritten = 0;
	return status;
}

/* ---- rotation (S2) ---- */

bool esk_segment_has_rows(const esk_recorder *r)
{
	if (r->item_count > r->first_item)
		return true;
	uint32_t count = atomic_load_explicit(
		&r->stream_count, memory_order_acquire); /* with the release in add_stream */
	for (uint32_t s = 0; s < count; s++)
		if (r->streams[s]->rows > r->streams[s]->first_row)
			return true;
	return false;
}

int64_t esk_segment_period(const esk_recorder *r, int64_t time_ns)
{
	int64_t length = r->options.segment_period == ESK_PERIOD_DAY ? NS_PER_DAY : NS_PER_HOUR;
	return time_ns / length - (time_ns % length < 0);
}

esk_status esk_segment_rotate(esk_recorder *r, esk_error *err)
{
	char stamp[ESK_TIME_TEXT_BYTES], name[ESK_FILE_NAME_BYTES], sealed[ESK_PATH_BYTES];
	uint64_t bytes = esk_h5_file_bytes(r->file);
	esk_assembler_reset(r);
	esk_status status = esk_h5_close(r->file, err);
	r->file = NULL;
	if (status != ESK_OK)
		return status;
	do {
		esk_time_format_stamp(esk_now_ns(), stamp);
		snprintf(name, sizeof name, "%.255s_%s.h5", r->name, stamp);
		if (snprintf(sealed, sizeof sealed, "%s/%s", r->directory, name) >= (int)sizeof sealed)
			return esk_fail(err, ESK_EINVAL, "path too long: %s", r->directory);
	} while (esk_os_exists(sealed));
	status = esk_os_rename(r->os, r->file_path, sealed, err);
	if (status != ESK_OK)
		return status;
	memcpy(r->sealed_name, name, sizeof name); /* from here on the catalogue has to be told */
	status = esk_os_sync_parent(r->os, sealed, err);
	r->sealed_bytes = bytes;
	r->sealed_created_ns = r->head.created_ns;
	return status == ESK_OK ? esk_segment_create(r, r->head.number + 1, err) : status;
}

/* The sealed segment `file_name` of the directory, opened; *ret_file is NULL where it is none of this run.
 * What cannot be opened is passed over, as damage is, but not for want of a key: then what the run's segments
 * are is not known. Of two files of one segment, which is being encrypted, the plain one counts. */
static esk_status open_sealed(
	esk_recorder *r, const char *file_name, esk_h5 **ret_file, esk_segment_head *ret_head, esk_error *err)
{
	char path[ESK_PATH_BYTES], run[ESK_MAX_NAME + 1];
	bool encrypted;
	esk_error why = {0};
	esk_h5 *file;
	*ret_file = NULL;
	if (!esk_segment_is_sealed_name(file_name, run, &encrypted) || strcmp(run, r->name) != 0 ||
		snprintf(path, sizeof path, "%s/%s", r->directory, file_name) >= (int)sizeof path)
		return ESK_OK;
	if (encrypted) {
		char plain[ESK_PATH_BYTES];
		snprintf(plain, sizeof plain, "%.*s", (int)strlen(path) - 1, path);
		if (esk_os_exists(plain))
			return ESK_OK;
	}
	esk_status status = esk_h5_open_read(r->os, path, &file, &why);
	if (status == ESK_EACCES && encrypted) {
		if (err != NULL)
			*err = why;
		return status;
	}
	if (status != ESK_OK)
		return ESK_OK;
	if (esk_segment_read_head(file, ret_head, NULL) == ESK_OK && strcmp(ret_head->run, r->name) == 0)
		*ret_file = file;
	else
		esk_h5_close(file, NULL);
	return ESK_OK;
}

esk_status esk_segment_visit_sealed(esk_recorder *r, esk_sealed_fn visit, void *arg, esk_error *err)
{
	esk_status status = ESK_OK;
	DIR *directory = opendir(r->directory);
	if (directory == NULL)
		return esk_fail(err, ESK_EIO, "cannot list %s", r->directory);
	for (struct dirent *entry; status == ESK_OK && (entry = readdir(directory)) != NULL;) {
		esk_h5 *file;
		esk_segment_head head;
		status = open_sealed(r, entry->d_name, &file, &head, err);
		if (status != ESK_OK || file == NULL)
			continue;
		status = visit(arg, file, &head, err);
		esk_h5_close(file, NULL);
	}
	closedir(directory);
	return status;
}

typedef struct last_sealed {
	bool found;
	char *path; /* ESK_PATH_BYTES */
	esk_segment_head *head;
} last_sealed;

static esk_status keep_last(void *arg, esk_h5 *file, const esk_segment_head *head, esk_error *err)
{
	last_sealed *last = arg;
	(void)err;
	if (!last->found || head->number > last->head->number) {
		last->found = true;
		*last->head = *head;
		strcpy(last->path, esk_h5_path(file)); /* which fits: it was made in open_sealed */
	}
	return ESK_OK;
}

/* Highest-numbered sealed segment of the run: its path in `ret_path`; *ret_found is false if there is none.
 */
static esk_status find_last_sealed(esk_recorder *r, char ret_path[ESK_PATH_BYTES], esk_segment_head *ret_head,
	bool *ret_found, esk_error *err)
{
	last_sealed last = {.path = ret_path, .head = ret_head};
	esk_status status = esk_segment_visit_sealed(r, keep_last, &last, err);
	*ret_found = last.found;
	return status;
}

bool esk_segment_any(esk_recorder *r)
{
	char path[ESK_PATH_BYTES];
	esk_segment_head head;
	bool found;
	/* A segment that the key is lacking for is one. */
	return esk_os_exists(r->file_path) || find_last_sealed(r, path, &head, &found, NULL) == ESK_EACCES ||
	       found;
}

/* Opens the live segment, or makes the next one where a crash fell between sealing and making. */
esk_status esk_segment_open_or_resume(esk_recorder *r, esk_error *err)
{
	char path[ESK_PATH_BYTES];
	esk_segment_head head;
	esk_h5 *file;
	bool found;
	if (esk_os_exists(r->file_path))
		return esk_segment_open(r, err);
	esk_status status = find_last_sealed(r, path, &head, &found, err);
	if (status != ESK_OK)
		return status;
	if (!found)
		return esk_fail(err, ESK_ENOTFOUND, "run \"%s\" has no file in %s", r->name, r->directory);
	esk_log(&r->logger, ESK_LOG_INFO, "run \"%s\": segment %llu was sealed, its successor is made now",
		r->name, (unsigned long long)head.number);
	status = esk_h5_open_read(r->os, path, &file, err);
	if (status != ESK_OK)
		return status;
	status = adopt_head(r, file, err);
	if (status == ESK_OK)
		status = adopt_streams(r, file, false, err);
	if (status == ESK_OK)
		status = esk_items_attach(r, file, false, err);
	esk_h5_close(file, NULL);
	return status == ESK_OK ? esk_segment_create(r, head.number + 1, err) : status;
}
