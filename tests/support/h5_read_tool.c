/* Reads HDF5 files with Esker's own reader for a test in another language: requests on stdin, replies on
 * stdout, until stdin ends. One file at a time.
 *
 *     open PATH
 *     info DATASET                           dtype, rows, rank, shape …, chunks, raw or slow
 *     rows DATASET ROW:COUNT ROW:COUNT …     the pieces' bytes one after the other
 *     strings DATASET ROW COUNT              per string: size in decimal, newline, its bytes
 *     check DATASET                          every chunk that is listed; number of chunks and of stored bytes
 *     list DATASET                           "all" or "sparse", a fault's message, and the numbers of the
 * chunks bench DATASET ROW COUNT TIMES          median nanoseconds of one read (ROW -1: a random row each
 * time) raw DATASET CHUNK                      the chunk as stored
 *
 * Replies:
 *
 *     ok SIZE \n  SIZE bytes
 *     error NAME SIZE \n  SIZE bytes of message */
#include "h5/h5.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static esk_h5 *file;
static esk_pool *pool;

static void reply(const void *data, size_t size)
{
	printf("ok %zu\n", size);
	fwrite(data, 1, size, stdout);
	fflush(stdout);
}

static void reply_error(const esk_error *err)
{
	printf("error %s %zu\n%s", esk_status_name(err->code), strlen(err->message), err->message);
	fflush(stdout);
}

static void *memory(size_t size)
{
	void *data = malloc(size + (size == 0));
	if (data == NULL) {
		fprintf(stderr, "h5_read_tool: no memory for %zu bytes\n", size);
		exit(2);
	}
	return data;
}

static esk_status dataset_of(const char *path, esk_h5_dataset **ret_dataset, esk_error *err)
{
	if (file == NULL)
		return esk_fail(err, ESK_EINVAL, "open a file first");
	return esk_h5_dataset_open(file, path, ret_dataset, err);
}

static esk_status file_open(const char *path, esk_error *err)
{
	esk_status status = esk_h5_close(file, err);
	file = NULL;
	if (status == ESK_OK)
		status = esk_h5_open_read(esk_os_posix(), path, &file, err);
	if (status == ESK_OK)
		reply("", 0);
	return status;
}

static esk_status dataset_info(const char *path, esk_error *err)
{
	esk_h5_dataset *dataset;
	esk_status status = dataset_of(path, &dataset, err);
	if (status != ESK_OK)
		return status;
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	char dtype[32] = "none", text[2048];
	if (info->readable)
		esk_dtype_format(info->column.dtype, dtype, sizeof dtype);
	int size = snprintf(text, sizeof text, "%s %" PRIu64 " %u", dtype, info->rows, info->column.rank);
	for (uint32_t i = 0; i < info->column.rank; i++)
		size += snprintf(text + size, sizeof text - (size_t)size, " %" PRIu64, info->column.shape[i]);
	size += snprintf(text + size, sizeof text - (size_t)size, " %" PRIu64 " %s",
		esk_h5_chunk_count(dataset), info->raw_readable ? "raw" : "slow");
	reply(text, (size_t)size);
	return ESK_OK;
}

/* Parses "ROW:COUNT ROW:COUNT …"; the buffer is cut to exactly what the pieces need. */
static esk_status rows_read(const char *path, char *text, esk_error *err)
{
	esk_h5_dataset *dataset;
	esk_status status = dataset_of(path, &dataset, err);
	if (status != ESK_OK)
		return status;
	uint64_t cell_bytes = esk_column_cell_bytes(&esk_h5_dataset_info(dataset)->column), total = 0;
	size_t count = 0;
	esk_h5_rows *pieces = memory((strlen(text) / 2 + 1) * sizeof *pieces);
	for (char *word = strtok(text, " \n"); word != NULL; word = strtok(NULL, " \n")) {
		char *colon = strchr(word, ':');
		pieces[count].row = strtoull(word, NULL, 10);
		pieces[count].count = colon ? strtoull(colon + 1, NULL, 10) : 1;
		total += pieces[count++].count;
	}
	unsigned char *out = memory(total * cell_bytes), *at = out;
	for (size_t i = 0; i < count; i++) {
		pieces[i].out = at;
		at += pieces[i].count * cell_bytes;
	}
	status = esk_h5_read_rows(dataset, pool, pieces, count, err);
	if (status == ESK_OK)
		reply(out, total * cell_bytes);
	free(out);
	free(pieces);
	return status;
}

static esk_status strings_read(const char *path, uint64_t row, uint64_t rows, esk_error *err)
{
	esk_h5_dataset *dataset;
	esk_string *strings;
	esk_status status = dataset_of(path, &dataset, err);
	if (status == ESK_OK)
		status = esk_h5_read_strings(dataset, row, rows, &strings, err);
	if (status != ESK_OK)
		return status;
	const esk_column *column = &esk_h5_dataset_info(dataset)->column;
	uint64_t count = rows * (esk_column_cell_bytes(column) / sizeof(esk_string));
	char *text = NULL;
	size_t size = 0;
	FILE *stream = open_memstream(&text, &size);
	for (uint64_t i = 0; i < count; i++) {
		fprintf(stream, "%zu\n", strings[i].size);
		fwrite(strings[i].data, 1, strings[i].size, stream);
	}
	fclose(stream);
	reply(text, size);
	free(text);
	free(strings);
	return ESK_OK;
}

static esk_status chunks_check(const char *path, esk_error *err)
{
	esk_h5_dataset *dataset;
	esk_status status = dataset_of(path, &dataset, err);
	if (status != ESK_OK)
		return status;
	esk_h5_chunk_list list;
	uint64_t stored = 0;
	status = esk_h5_list_chunks(dataset, &list, err);
	if (status != ESK_OK)
		return status;
	for (uint64_t i = 0; i < list.count && status == ESK_OK; i++) {
		uint64_t bytes = 0;
		status = esk_h5_check_chunk(dataset, esk_h5_chunk_at(&list, i), NULL, NULL, &bytes, err);
		stored += bytes;
	}
	esk_h5_chunk_list_free(&list);
	if (status != ESK_OK)
		return status;
	char text[64];
	reply(text, (size_t)snprintf(text, sizeof text, "%" PRIu64 " %" PRIu64, list.count, stored));
	return ESK_OK;
}

static esk_status chunks_list(const char *path, esk_error *err)
{
	esk_h5_dataset *dataset;
	esk_h5_chunk_list list;
	esk_status status = dataset_of(path, &dataset, err);
	if (status == ESK_OK)
		status = esk_h5_list_chunks(dataset, &list, err);
	if (status != ESK_OK)
		return status;
	char *text = NULL;
	size_t size = 0;
	FILE *stream = open_memstream(&text, &size);
	fprintf(stream, "%s\n%s\n", list.sparse ? "sparse" : "all", list.fault.message);
	for (uint64_t i = 0; i < list.count; i++)
		fprintf(stream, "%" PRIu64 " ", esk_h5_chunk_at(&list, i));
	fclose(stream);
	reply(text, size);
	free(text);
	esk_h5_chunk_list_free(&list);
	return ESK_OK;
}

static esk_status raw_read(const char *path, uint64_t chunk, esk_error *err)
{
	esk_h5_dataset *dataset;
	void *data;
	size_t size;
	uint32_t mask;
	esk_status status = dataset_of(path, &dataset, err);
	if (status == ESK_OK)
		status = esk_h5_read_raw_chunk(dataset, chunk, &data, &size, &mask, err);
	if (status != ESK_OK)
		return status;
	reply(data, size);
	free(data);
	return ESK_OK;
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
	return (left > right) - (left < right);
}

static esk_status reads_time(const char *path, int64_t row, uint64_t count, size_t times, esk_error *err)
{
	esk_h5_dataset *dataset;
	esk_status status = dataset_of(path, &dataset, err);
	if (status != ESK_OK)
		return status;
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	uint64_t bytes = count * esk_column_cell_bytes(&info->column);
	uint64_t *spent = memory(times * sizeof *spent);
	void *out = memory(bytes);
	memset(out, 1, bytes);
	uint64_t random = 1;
	for (size_t i = 0; i < times && status == ESK_OK; i++) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		uint64_t from = row >= 0 ? (uint64_t)row : (random >> 33) % (info->rows - count + 1);
		esk_h5_rows piece = {.row = from, .count = count, .out = out};
		uint64_t start = esk_monotonic_ns();
		status = esk_h5_read_rows(dataset, pool, &piece, 1, err);
		spent[i] = esk_monotonic_ns() - start;
	}
	char text[64];
	if (status == ESK_OK && times > 0) {
		qsort(spent, times, sizeof *spent, compare_u64);
		reply(text, (size_t)snprintf(text, sizeof text, "%" PRIu64, spent[times / 2]));
	}
	free(out);
	free(spent);
	return status;
}

static esk_status request_run(char *line, esk_error *err)
{
	char verb[16], name[4096];
	int used = 0;
	if (sscanf(line, "%15s %4095s%n", verb, name, &used) < 2)
		return esk_fail(err, ESK_EINVAL, "a request is VERB NAME …");
	char *rest = line + used, *end;
	if (strcmp(verb, "open") == 0)
		return file_open(name, err);
	if (strcmp(verb, "info") == 0)
		return dataset_info(name, err);
	if (strcmp(verb, "rows") == 0)
		return rows_read(name, rest, err);
	if (strcmp(verb, "check") == 0)
		return chunks_check(name, err);
	if (strcmp(verb, "list") == 0)
		return chunks_list(name, err);
	long long first = strtoll(rest, &end, 10);
	unsigned long long second = strtoull(end, &end, 10), third = strtoull(end, NULL, 10);
	if (strcmp(verb, "raw") == 0)
		return raw_read(name, (uint64_t)first, err);
	if (strcmp(verb, "strings") == 0)
		return strings_read(name, (uint64_t)first, second, err);
	if (strcmp(verb, "bench") == 0)
		return reads_time(name, first, second, third, err);
	return esk_fail(err, ESK_EINVAL, "unknown request %s", verb);
}

int main(void)
{
	esk_error err;
	char *line = NULL;
	size_t room = 0;
	if (esk_pool_create(0, 64, &pool, &err) != ESK_OK) {
		fprintf(stderr, "h5_read_tool: %s\n", err.message);
		return 2;
	}
	while (getline(&line, &room, stdin) > 0)
		if (request_run(line, &err) != ESK_OK)
			reply_error(&err);
	free(line);
	esk_status status = esk_h5_close(file, &err);
	esk_pool_destroy(pool);
	return status == ESK_OK ? 0 : 1;
}
