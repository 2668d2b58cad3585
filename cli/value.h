/* Elements and cells as text, and the reading of rows in pieces of bounded memory. */
#ifndef CLI_VALUE_H
#define CLI_VALUE_H

#include "text.h"

/* One element as JSON: numbers, true/false, strings; complex as [re, im]; what JSON has no number for as the
 * strings "NaN", "Infinity", "-Infinity". */
void cli_put_json(FILE *out, esk_dtype dtype, const void *element);
/* A C-contiguous array as nested JSON arrays; rank 0 is the element alone. */
void cli_put_json_array(FILE *out, esk_dtype dtype, const uint64_t *shape, uint32_t rank, const void *data);
/* One element for people: strings escaped. */
void cli_put_text(FILE *out, esk_dtype dtype, const void *element);

/* A real element as double; 0 for strings, the real part of complex. */
double cli_real(esk_dtype dtype, const void *element);
bool cli_is_number(esk_dtype dtype); /* bool, integers and floats; not complex */

uint64_t cli_elements(const uint64_t *shape, uint32_t rank);
/* "u8[210,160,3]" */
void cli_format_type(const esk_column *column, char *buf, size_t size);

/* ---- rows of a dataset, a piece at a time ---- */

typedef struct cli_rows {
	esk_dataset *dataset;
	esk_dataset_info info; /* path borrowed from the reader */
	uint64_t cell_bytes;
	uint64_t elements;
	uint64_t first; /* of the piece that is loaded: rows first, first + step, … */
	uint64_t step;
	bool scattered; /* or those in `numbers`, in any order */
	uint64_t count;
	uint64_t room; /* rows that the buffers hold */
	unsigned char *data;
	uint8_t *valid;
	uint64_t *numbers;
	esk_string *strings;
} cli_rows;

/* The stream that a dataset is a column of: "/" for the root. */
void cli_stream_of(const esk_dataset_info *info, char *buf, size_t size);

int cli_rows_open(esk_dataset *dataset, cli_rows *ret_rows);
void cli_rows_close(cli_rows *rows);
/* Rows of one piece that take about `bytes` of memory; at least 1. */
uint64_t cli_rows_piece(const cli_rows *rows, uint64_t bytes);
/* Loads rows first, first + step, …: `count` of them. */
int cli_rows_load(cli_rows *rows, uint64_t first, uint64_t step, uint64_t count);
/* Loads the rows with these numbers. */
int cli_rows_load_these(cli_rows *rows, const uint64_t *numbers, uint64_t count);
/* Loads only which of the rows have a cell; their contents are not to be looked at. */
int cli_rows_load_valid(cli_rows *rows, uint64_t first, uint64_t count);
/* The i-th cell of the piece; NULL where it is missing. */
const void *cli_rows_cell(const cli_rows *rows, uint64_t i);

#endif
