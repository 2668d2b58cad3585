/* A complete program: records a little picture and a number per step, commits, reads a step back by its ref.
 *
 *     cc -o record record.c $(pkg-config --cflags --libs esker)
 *     ./record /tmp/pictures
 */
#include <esker/esker.h>

#include <stdio.h>
#include <stdlib.h>

static int fail(const esk_error *err)
{
	fprintf(stderr, "record: %s\n", err->message);
	return EXIT_FAILURE;
}

static esk_status record(esk_run *run, esk_error *err)
{
	static unsigned char picture[48][64];
	esk_column *columns;
	size_t column_count;
	esk_stream *stream;
	esk_status status =
		esk_columns_parse("picture:u8[48,64] brightness:f64", &columns, &column_count, err);
	if (status != ESK_OK)
		return status;
	status = esk_run_stream(run, "/", columns, column_count, &stream, err);
	esk_columns_free(columns);
	for (int step = 0; step < 1000 && status == ESK_OK; step++) {
		picture[step % 48][step % 64] = (unsigned char)step;
		double brightness = step / 1000.0;
		const void *cells[] = {picture, &brightness};
		status = esk_stream_append(
			stream, cells, NULL, err); /* from here on, kill -9 does not lose it */
	}
	esk_watermark mark;
	if (status == ESK_OK)
		status = esk_run_commit(run, &mark, err); /* from here on, neither does a power cut */
	if (status == ESK_OK)
		printf("%llu rows are in %s\n", (unsigned long long)mark.rows, esk_run_file(run));
	return status;
}

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : "pictures";
	esk_error err = {0};
	esk_store *store;
	esk_run *run;
	if (esk_store_create(path, &err) != ESK_OK && err.code != ESK_EEXIST)
		return fail(&err);
	if (esk_store_open(path, NULL, &store, &err) != ESK_OK)
		return fail(&err);
	esk_run_options options = ESK_RUN_OPTIONS_INIT;
	options.append = true;
	options.metadata_json = "{\"author\": \"examples/record.c\"}";
	esk_status status = esk_run_open(store, "first", &options, &run, &err);
	if (status == ESK_OK) {
		status = record(run, &err);
		esk_status closed = esk_run_close(run, status == ESK_OK ? &err : NULL);
		status = status == ESK_OK ? closed : status;
	}
	esk_array picture;
	if (status == ESK_OK)
		status = esk_store_resolve(store, "h5://first/picture/999", &picture, &err);
	if (status == ESK_OK) {
		printf("step 999: a picture of %llux%llu, its last byte written is %d\n",
			(unsigned long long)picture.shape[0], (unsigned long long)picture.shape[1],
			((unsigned char *)picture.data)[999 % 48 * 64 + 999 % 64]);
		esk_array_release(&picture);
	}
	esk_store_close(store, NULL);
	return status == ESK_OK ? EXIT_SUCCESS : fail(&err);
}
