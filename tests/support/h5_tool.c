/* Writes HDF5 files with Esker for a test in another language to read with stock tools.
 *
 *     h5_tool zoo FILE              /<codec>/<dtype>: 10 rows of [3,2] cells in chunks of 4; byte i of a
 * dataset's rows is (i * 7 + 3) % 64 (bool: its lowest bit); "str": texts "row 0 0" …; then closes h5_tool
 * commits FILE DIR N    N commits; FILE is copied to DIR/<n>.h5 after each, while it is open. Commit n has
 *                                   attribute n, group g1 … gn, "x" of 3 n rows of 5 u32 (row * 5 + i), "t"
 * of n texts "text 0" …; "gone" of 50 rows exists after odd commits only h5_tool extend FILE           opens
 * what another program wrote; adds "added/x" as x above (6 rows) and the attribute "added" = 1; appends 4
 * rows (100 …) to "old" (i32) where there is one
 *     h5_tool copy FROM TO          TO holds what FROM does, copied chunk by chunk
 *
 * Exit status 0; else the message is on stderr. */
#include "h5/h5.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static esk_error err;

static void check(esk_status status)
{
	if (status == ESK_OK)
		return;
	fprintf(stderr, "%s\n", err.message);
	exit(1);
}

static esk_column column_of(const char *dtype, uint32_t rank, uint64_t a, uint64_t b)
{
	esk_column column = {.name = "c", .rank = rank, .shape = {a, b}};
	check(esk_dtype_parse(dtype, &column.dtype, &err));
	return column;
}

static esk_h5_dataset *create(
	esk_h5 *file, const char *path, const esk_column *column, const char *codec, uint64_t chunk_rows)
{
	esk_pipeline pipeline = {0};
	esk_h5_dataset *dataset = NULL;
	if (column->dtype.kind != ESK_STRING)
		check(esk_pipeline_build(codec, column, chunk_rows, &pipeline, &err));
	check(esk_h5_dataset_create(file, path, column, chunk_rows, &pipeline, &dataset, &err));
	return dataset;
}

/* Writes rows [from, to) from `rows`, which starts at row 0; whole chunks, the last with zeros behind. */
static void write_rows(esk_h5_dataset *dataset, uint64_t from, uint64_t to, const unsigned char *rows)
{
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	uint64_t per_chunk = info->chunk_shape[0], row_bytes = info->pipeline.chunk_bytes / per_chunk;
	esk_scratch *scratch = esk_scratch_create();
	size_t bound = esk_pipeline_bound(&info->pipeline), size = 0;
	unsigned char *out = malloc(bound);

	check(esk_h5_set_rows(dataset, to, &err));
	for (uint64_t chunk = from / per_chunk; chunk * per_chunk < to; chunk++) {
		uint64_t first = chunk * per_chunk, count = esk_min_u64(per_chunk, to - first);
		esk_span span = {rows + first * row_bytes, count * row_bytes};
		uint32_t mask = 0;
		check(esk_pipeline_encode(
			&info->pipeline, scratch, &span, 1, out, bound, &size, &mask, &err));
		check(esk_h5_write_chunk(dataset, chunk, mask, out, size, &err));
	}
	free(out);
	esk_scratch_destroy(scratch);
}

static void write_text(esk_h5_dataset *dataset, uint64_t row, const char *const *texts, size_t count)
{
	esk_string strings[16];
	for (size_t i = 0; i < count; i++)
		strings[i] = (esk_string){texts[i], strlen(texts[i])};
	check(esk_h5_write_strings(dataset, row, 1, strings, &err));
}

static void commit(esk_h5 *file)
{
	check(esk_h5_commit_begin(file, &err));
	check(esk_h5_commit_finish(file, NULL, &err));
}

/* ---- zoo ---- */

enum { ZOO_ROWS = 10, ZOO_CELLS = 6 };

static void zoo_animal(esk_h5 *file, const char *codec, const char *dtype)
{
	char path[64];
	esk_column column = column_of(dtype, 2, 3, 2);
	snprintf(path, sizeof path, "%s/%s", codec, dtype);
	strcpy(column.units, "µV");
	esk_h5_dataset *dataset = create(file, path, &column, codec, 4);
	size_t size = (size_t)ZOO_ROWS * ZOO_CELLS * column.dtype.size_bytes;
	unsigned char *rows = malloc(size);
	for (size_t i = 0; i < size; i++)
		rows[i] = (unsigned char)((i * 7 + 3) % 64 & (column.dtype.kind == ESK_BOOL ? 1 : 63));
	write_rows(dataset, 0, ZOO_ROWS, rows);
	free(rows);
}

static void zoo_strings(esk_h5 *file)
{
	esk_column column = column_of("str", 1, 2, 0);
	esk_h5_dataset *dataset = create(file, "str", &column, "none", 4);
	check(esk_h5_set_rows(dataset, ZOO_ROWS, &err));
	for (uint64_t row = 0; row < ZOO_ROWS; row++) {
		char texts[2][32];
		snprintf(texts[0], sizeof texts[0], "row %d 0", (int)row);
		snprintf(texts[1], sizeof texts[1], "größe %d", (int)row);
		write_text(dataset, row, (const char *const[]){texts[0], texts[1]}, 2);
	}
}

static void zoo(const char *path)
{
	static const char *const dtypes[] = {"bool", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64",
		"f16", "f32", "f64", "c64", "c128", "str7"};
	static const char *const codecs[] = {"none", "gzip:1", "gzip:6-shuffle", "gzip:1+fletcher32",
		"none+fletcher32", "lzf", "szip", "zstd", "lz4", "blosc", "bitshuffle"};
	esk_h5 *file = NULL;
	check(esk_h5_create(esk_os_posix(), path, &file, &err));
	for (size_t c = 0; c < sizeof codecs / sizeof *codecs; c++) {
		for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++) {
			esk_column column = column_of(dtypes[d], 2, 3, 2);
			esk_pipeline pipeline;
			if (esk_pipeline_build(codecs[c], &column, 4, &pipeline, &err) == ESK_OK)
				zoo_animal(file, codecs[c], dtypes[d]);
		}
	}
	zoo_strings(file);
	char *text = malloc(200001);
	memset(text, 'x', 200000);
	text[200000] = '\0';
	check(esk_h5_set_text(file, "/", "long", text, &err));
	check(esk_h5_set_text(file, "/", "short", "naïve", &err));
	check(esk_h5_set_u64s(file, "/", "numbers", (const uint64_t[]){1, 2, UINT64_MAX}, 3, &err));
	check(esk_h5_set_i64(file, "/", "number", -5, &err));
	free(text);
	commit(file);
	check(esk_h5_close(file, &err));
}

/* ---- commits ---- */

static void copy(const char *from, const char *directory, int n)
{
	char to[512], buf[65536];
	snprintf(to, sizeof to, "%s/%d.h5", directory, n);
	FILE *in = fopen(from, "r"), *out = fopen(to, "w");
	for (size_t size; in && out && (size = fread(buf, 1, sizeof buf, in)) > 0;)
		fwrite(buf, 1, size, out);
	if (!in || !out || fclose(out) != 0)
		exit(1);
	fclose(in);
}

static unsigned char *counting(uint64_t rows)
{
	uint32_t *values = malloc(rows * 5 * sizeof *values);
	for (uint64_t i = 0; i < rows * 5; i++)
		values[i] = (uint32_t)i;
	return (unsigned char *)values;
}

static void commits(const char *path, const char *directory, int count)
{
	esk_h5 *file = NULL;
	esk_column numbers = column_of("u32", 1, 5, 0), texts = column_of("str", 0, 0, 0);
	unsigned char *rows = counting(50 + 3 * (uint64_t)count);

	check(esk_h5_create(esk_os_posix(), path, &file, &err));
	esk_h5_dataset *x = create(file, "x", &numbers, "gzip:1", 4),
		       *t = create(file, "t", &texts, "none", 4);
	for (int n = 1; n <= count; n++) {
		char name[32];
		snprintf(name, sizeof name, "g%d", n);
		check(esk_h5_make_group(file, name, &err));
		write_rows(x, 3 * ((uint64_t)n - 1), 3 * (uint64_t)n, rows);
		check(esk_h5_set_rows(t, (uint64_t)n, &err));
		snprintf(name, sizeof name, "text %d", n - 1);
		write_text(t, (uint64_t)n - 1, (const char *const[]){name}, 1);
		if (n % 2 == 1)
			write_rows(create(file, "gone", &numbers, "none", 50), 0, 50, rows);
		else
			check(esk_h5_delete(file, "gone", &err));
		check(esk_h5_set_i64(file, "/", "n", n, &err));
		commit(file);
		copy(path, directory, n);
	}
	free(rows);
	check(esk_h5_close(file, &err));
}

/* ---- extend ---- */

static void extend(const char *path)
{
	static const int32_t more[] = {100, 101, 102, 103};
	esk_h5 *file = NULL;
	esk_column numbers = column_of("u32", 1, 5, 0);
	unsigned char *rows = counting(6);

	check(esk_h5_open_write(esk_os_posix(), path, &file, NULL, &err));
	write_rows(create(file, "added/x", &numbers, "gzip:1", 4), 0, 6, rows);
	free(rows);
	if (esk_h5_exists(file, "old")) {
		esk_h5_dataset *old = NULL;
		check(esk_h5_dataset_open(file, "old", &old, &err));
		uint64_t had = esk_h5_dataset_info(old)->rows; /* whole chunks */
		int32_t *all = calloc(had + 4, sizeof *all);
		memcpy(all + had, more, sizeof more);
		write_rows(old, had, had + 4, (const unsigned char *)all);
		free(all);
	}
	check(esk_h5_set_i64(file, "/", "added", 1, &err));
	commit(file);
	check(esk_h5_close(file, &err));
}

/* ---- copy ---- */

static bool every(void *arg, uint64_t chunk)
{
	(void)arg;
	(void)chunk;
	return true;
}

static void never(void *arg, uint64_t chunk, const esk_error *why)
{
	(void)arg;
	(void)chunk;
	check(esk_fail(&err, why->code, "%s", why->message));
}

static esk_status copy_one(void *to, esk_h5_dataset *dataset, esk_error *error)
{
	esk_h5_copying copying = {.keep = every, .lost = never};
	return esk_h5_copy_dataset(dataset, to, &copying, error);
}

static void copy_all(const char *from_path, const char *to_path)
{
	esk_h5 *from = NULL, *to = NULL;
	check(esk_h5_open_read(esk_os_posix(), from_path, &from, &err));
	check(esk_h5_create(esk_os_posix(), to_path, &to, &err));
	check(esk_h5_copy_groups(from, to, &err));
	check(esk_h5_visit(from, copy_one, to, &err));
	commit(to);
	check(esk_h5_close(to, &err));
	check(esk_h5_close(from, &err));
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "zoo") == 0)
		zoo(argv[2]);
	else if (argc == 5 && strcmp(argv[1], "commits") == 0)
		commits(argv[2], argv[3], atoi(argv[4]));
	else if (argc == 3 && strcmp(argv[1], "extend") == 0)
		extend(argv[2]);
	else if (argc == 4 && strcmp(argv[1], "copy") == 0)
		copy_all(argv[2], argv[3]);
	else {
		fprintf(stderr,
			"usage: h5_tool zoo FILE | commits FILE DIR N | extend FILE | copy FROM TO\n");
		return 2;
	}
	return 0;
}
