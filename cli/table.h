/* Tables: the same cells as aligned text, as JSON (an array of objects) or as CSV.
 *
 * Text is aligned over the first rows and then streams with the widths found; JSON and CSV stream at once, so
 * memory stays bounded whatever the number of rows. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include "text.h"

typedef enum cli_format { CLI_TEXT = 0, CLI_JSON, CLI_CSV } cli_format;

typedef struct cli_head {
	const char *key;   /* in JSON and CSV */
	const char *title; /* in text */
	bool right;        /* numbers */
} cli_head;

typedef struct cli_table cli_table;

/* `heads` is borrowed until cli_table_end. */
cli_table *cli_table_begin(FILE *out, cli_format format, const cli_head *heads, size_t head_count);

/* Each puts the next cell of the present row; a row ends by itself. */
void cli_table_text(cli_table *table, const char *text);
void cli_table_text_size(cli_table *table, const char *text, size_t size);
void cli_table_integer(cli_table *table, int64_t value); /* as it is */
void cli_table_real(cli_table *table, double value);
void cli_table_count(cli_table *table, uint64_t value); /* text: with thousands separators */
void cli_table_bytes(cli_table *table, uint64_t value); /* text: "12.3 MB" */
void cli_table_time(cli_table *table, int64_t ns);      /* text: local time */
void cli_table_null(cli_table *table);
/* Text shows `text`, JSON and CSV the number. */
void cli_table_shown(cli_table *table, const char *text, double value);

/* Writes the rows held back: the widths are then as these rows need them. */
void cli_table_flush(cli_table *table);
/* Writes what is left and frees. In text a table without rows prints its titles alone. */
void cli_table_end(cli_table *table);

#endif
