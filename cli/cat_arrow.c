/* esker cat --format arrow: see cat_arrow.h. */
#include "cat_arrow.h"
#include "text.h"

#include <errno.h>
#include <esker/arrow_encode.h>
#include <esker/arrow_store.h>
#include <stdio.h>
#include <string.h>

static esk_status write_out(void *arg, const void *data, size_t size, esk_error *err)
{
	(void)arg;
	if (fwrite(data, 1, size, stdout) == size && fflush(stdout) == 0)
		return ESK_OK;
	if (err != NULL) {
		err->code = ESK_EIO;
		snprintf(err->message, sizeof err->message, "standard output: %s", strerror(errno));
	}
	return ESK_EIO;
}

static int fail_stream(struct ArrowArrayStream *from, int number)
{
	const char *text = from->get_last_error(from);
	return cli_fail("%s", text != NULL ? text : strerror(number));
}

/* Where the reader of a pipe has gone, nobody misses the rest. */
static int fail_writing(const esk_error *err)
{
	return cli_output_broken() ? CLI_OK : cli_fail_with(err);
}

static int write_batches(struct ArrowArrayStream *from, esk_arrow_writer *writer)
{
	for (;;) {
		struct ArrowArray batch;
		esk_error err = {0};
		int number = from->get_next(from, &batch);
		if (number != 0)
			return fail_stream(from, number);
		if (batch.release == NULL)
			return CLI_OK;
		esk_status status = esk_arrow_writer_append(writer, &batch, &err);
		batch.release(&batch);
		if (status != ESK_OK)
			return fail_writing(&err);
	}
}

static int write_stream(struct ArrowArrayStream *from, const struct ArrowSchema *schema)
{
	esk_arrow_writer *writer;
	esk_error err = {0};
	if (esk_arrow_writer_open(write_out, NULL, ESK_ARROW_STREAM, schema, &writer, &err) != ESK_OK)
		return fail_writing(&err);
	int code = write_batches(from, writer);
	if (code != CLI_OK || cli_output_broken())
		esk_arrow_writer_discard(writer);
	else if (esk_arrow_writer_close(writer, &err) != ESK_OK)
		code = fail_writing(&err);
	return code;
}

int cli_cat_arrow(esk_reader *reader, const char *stream, uint64_t start, uint64_t stop)
{
	struct ArrowArrayStream from;
	struct ArrowSchema schema;
	esk_error err = {0};
	if (esk_reader_arrow(reader, stream, start, stop, 0, &from, &err) != ESK_OK)
		return cli_fail_with(&err);
	int number = from.get_schema(&from, &schema);
	int code = number == 0 ? write_stream(&from, &schema) : fail_stream(&from, number);
	if (number == 0)
		schema.release(&schema);
	from.release(&from);
	return code;
}
