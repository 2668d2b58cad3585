/* numpy's .npy files: the header read with every size checked, and written. Format versions 1, 2 and 3 are
 * read, 1.0 is written. */
#ifndef CLI_NPY_H
#define CLI_NPY_H

#include "text.h"

typedef struct cli_npy {
	char *path; /* owned */
	int fd;     /* owned */
	esk_dtype dtype;
	uint32_t rank; /* at least 1: rows come first */
	uint64_t shape[ESK_MAX_RANK + 1];
	uint64_t row_bytes;
	uint64_t data_offset;
} cli_npy;

/* Opens and checks a file: C order, little-endian, a dtype that Esker has, as many bytes as the shape says.
 */
int cli_npy_open(const char *path, cli_npy *ret_npy);
/* NULL is allowed. */
void cli_npy_close(cli_npy *npy);
/* Reads rows [row, row + rows) into `buf`. */
int cli_npy_read(const cli_npy *npy, uint64_t row, uint64_t rows, void *buf);

/* Writes the header of an array. False for dtypes that have no fixed size; the stream's error flag tells the
 * rest. */
bool cli_npy_write_header(FILE *out, esk_dtype dtype, const uint64_t *shape, uint32_t rank);

#endif
