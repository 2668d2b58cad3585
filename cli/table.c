/* Tables: see table.h. */
#include "table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_AHEAD 1000 /* text rows held back to find the widths */

struct cli_table {
	FILE *out;
	cli_format format;
	const cli_head *heads;
	size_t head_count;
	size_t column; /* of the next cell */
	uint64_t rows;
	size_t *widths;
	char **held; /* escaped cells of rows not yet printed */
	size_t held_cells;
	bool aligned; /* widths are fixed, titles are out */
};

cli_table *cli_table_begin(FILE *out, cli_format format, const cli_head *heads, size_t head_count)
{
	cli_table *table = cli_alloc(sizeof *table);
	*table = (cli_table){.out = out, .format = format, .heads = heads, .head_count = head_count};
	table->widths = cli_alloc(head_count * sizeof *table->widths);
	if (format == CLI_TEXT)
		table->held = cli_alloc((ROWS_AHEAD + 1) * head_count * sizeof *table->held);
	for (size_t i = 0; i < head_count; i++) {
		char *title = cli_escaped(heads[i].title, strlen(heads[i].title));
		table->widths[i] = cli_width(title);
		free(title);
	}
	if (format == CLI_CSV) {
		for (size_t i = 0; i < head_count; i++) {
			if (i > 0)
				fputc(',', out);
			cli_put_csv(out, heads[i].key, strlen(heads[i].key));
		}
		fputs("\n", out);
	}
	return table;
}

static void put_spaces(FILE *out, size_t count)
{
	for (; count > 0; count--)
		fputc(' ', out);
}

/* One cell with its padding; the last column of a row has none behind it. */
static void put_aligned(cli_table *table, size_t column, const char *text)
{
	size_t width = cli_width(text);
	size_t padding = width < table->widths[column] ? table->widths[column] - width : 0;
	if (column > 0)
		fputs("  ", table->out);
	if (table->heads[column].right)
		put_spaces(table->out, padding);
	fputs(text, table->out);
	if (!table->heads[column].right && column + 1 < table->head_count)
		put_spaces(table->out, padding);
}

static void put_held(cli_table *table)
{
	if (!table->aligned) {
		bool colour = cli_colour(table->out);
		fputs(colour ? "\033[1m" : "", table->out);
		for (size_t i = 0; i < table->head_count; i++) {
			char *title = cli_escaped(table->heads[i].title, strlen(table->heads[i].title));
			put_aligned(table, i, title);
			free(title);
		}
		fputs(colour ? "\033[0m\n" : "\n", table->out);
		table->aligned = true;
	}
	for (size_t i = 0; i < table->held_cells; i++) {
		put_aligned(table, i % table->head_count, table->held[i]);
		if (i % table->head_count == table->head_count - 1)
			fputc('\n', table->out);
		free(table->held[i]);
	}
	table->held_cells = 0;
}

/* Writes what stands between the cells of JSON and CSV; in JSON the key too. */
static void begin_cell(cli_table *table)
{
	if (table->format == CLI_CSV) {
		if (table->column > 0)
			fputc(',', table->out);
		return;
	}
	if (table->column == 0)
		fputs(table->rows == 0 ? "[\n  {" : ",\n  {", table->out);
	else
		fputs(", ", table->out);
	const char *key = table->heads[table->column].key;
	cli_put_json_string(table->out, key, strlen(key));
	fputs(": ", table->out);
}

static void end_cell(cli_table *table)
{
	table->column = (table->column + 1) % table->head_count;
	if (table->column != 0)
		return;
	table->rows++;
	if (table->format == CLI_JSON)
		fputs("}", table->out);
	if (table->format == CLI_CSV)
		fputs("\n", table->out);
	if (table->format == CLI_TEXT &&
		(table->aligned || table->held_cells == ROWS_AHEAD * table->head_count))
		put_held(table);
}

/* Takes over `escaped`. */
static void hold(cli_table *table, char *escaped)
{
	size_t width = cli_width(escaped);
	if (!table->aligned && width > table->widths[table->column])
		table->widths[table->column] = width;
	table->held[table->held_cells++] = escaped;
	end_cell(table);
}

/* A cell that is `shown` in text and `plain` (JSON text without quotes) elsewhere. */
static void put_plain(cli_table *table, const char *shown, const char *plain)
{
	if (table->format == CLI_TEXT) {
		hold(table, cli_copy(shown));
		return;
	}
	begin_cell(table);
	fputs(plain, table->out);
	end_cell(table);
}

void cli_table_text_size(cli_table *table, const char *text, size_t size)
{
	if (table->format == CLI_TEXT) {
		hold(table, cli_escaped(text, size));
		return;
	}
	begin_cell(table);
	if (table->format == CLI_JSON)
		cli_put_json_string(table->out, text, size);
	else
		cli_put_csv(table->out, text, size);
	end_cell(table);
}

void cli_table_text(cli_table *table, const char *text)
{
	cli_table_text_size(table, text, strlen(text));
}

void cli_table_integer(cli_table *table, int64_t value)
{
	char text[32];
	snprintf(text, sizeof text, "%lld", (long long)value);
	put_plain(table, text, text);
}

void cli_table_real(cli_table *table, double value)
{
	char text[40];
	if (!isfinite(value)) {
		cli_table_text(table, isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
		return;
	}
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, sizeof text, "%.*g", digits, value);
		if (strtod(text, NULL) == value)
			break;
	}
	put_plain(table, text, text);
}

void cli_table_count(cli_table *table, uint64_t value)
{
	cli_buf shown;
	char plain[32];
	snprintf(plain, sizeof plain, "%llu", (unsigned long long)value);
	put_plain(table, cli_count(value, &shown), plain);
}

void cli_table_bytes(cli_table *table, uint64_t value)
{
	cli_buf shown;
	char plain[32];
	snprintf(plain, sizeof plain, "%llu", (unsigned long long)value);
	put_plain(table, cli_bytes(value, &shown), plain);
}

void cli_table_time(cli_table *table, int64_t ns)
{
	cli_buf shown;
	char plain[32];
	snprintf(plain, sizeof plain, "%lld", (long long)ns);
	put_plain(table, cli_time(ns, &shown), plain);
}

void cli_table_null(cli_table *table)
{
	put_plain(table, "-", table->format == CLI_JSON ? "null" : "");
}

void cli_table_shown(cli_table *table, const char *text, double value)
{
	char plain[40];
	snprintf(plain, sizeof plain, "%.6g", value);
	put_plain(table, text, plain);
}

void cli_table_flush(cli_table *table)
{
	if (table->format == CLI_TEXT)
		put_held(table);
	fflush(table->out);
}

void cli_table_end(cli_table *table)
{
	if (table->format == CLI_TEXT)
		put_held(table);
	if (table->format == CLI_JSON)
		fputs(table->rows == 0 ? "[]\n" : "\n]\n", table->out);
	free(table->held);
	free(table->widths);
	free(table);
}
