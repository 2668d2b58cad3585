/* Where a writer's bytes go: through a buffer to a callback, or to a file that takes its name at the end. */
#ifndef ESK_ARROW_ENCODE_WRITER_H
#define ESK_ARROW_ENCODE_WRITER_H

#include "arrow/encode.h"
#include "os/os.h"

#define ESK_OUTLET_BYTES (256u << 10)

typedef struct esk_outlet {
	esk_arrow_write_fn write;
	void *arg;
	uint8_t *buffer; /* ESK_OUTLET_BYTES */
	size_t used;
	uint64_t position; /* bytes taken so far */
	/* Of a file: */
	const esk_os *os; /* NULL: it is none */
	char *path;
	char *aside;
	int fd; /* -1: none */
	uint64_t written;
} esk_outlet;

esk_status esk_outlet_open(esk_arrow_write_fn write, void *arg, esk_outlet *ret_outlet, esk_error *err);
/* Makes a file of another name beside `path`. */
esk_status esk_outlet_open_file(const esk_os *os, const char *path, esk_outlet *ret_outlet, esk_error *err);
esk_status esk_outlet_put(esk_outlet *outlet, const void *data, uint64_t bytes, esk_error *err);
esk_status esk_outlet_put_zeros(esk_outlet *outlet, uint64_t bytes, esk_error *err);
esk_status esk_outlet_put_piece(esk_outlet *outlet, const esk_encode_piece *piece, esk_error *err);
/* Hands over what is in the buffer. */
esk_status esk_outlet_flush(esk_outlet *outlet, esk_error *err);
/* Synchronises a file and gives it its name; afterwards esk_outlet_close removes nothing. */
esk_status esk_outlet_finish(esk_outlet *outlet, esk_error *err);
/* Frees it; a file that was not finished is removed. */
void esk_outlet_close(esk_outlet *outlet);

/* As esk_arrow_writer_open_file, with the operating system of a test. */
esk_status esk_encode_writer_open_file(const esk_os *os, const char *path, unsigned format,
	const struct ArrowSchema *schema, esk_arrow_writer **ret_writer, esk_error *err);

#endif
