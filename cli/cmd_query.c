/* esker query: read-only SQL over the catalogue. */
#include "commands.h"
#include "place.h"
#include "table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* "42" is bound as a number, "4.5" too, everything else as text; a leading quote makes anything text. */
static esk_value parse_parameter(const char *text)
{
	esk_value value = {.kind = ESK_TEXT, .data = text, .size = strlen(text)};
	if (text[0] == '\'') {
		value.data++;
		value.size--;
		return value;
	}
	char *end;
	errno = 0;
	value.integer = strtoll(text, &end, 10);
	if (text[0] != '\0' && *end == '\0' && errno == 0) {
		value.kind = ESK_INTEGER;
		return value;
	}
	errno = 0;
	value.real = strtod(text, &end);
	bool digits = strpbrk(text, "0123456789") != NULL && strpbrk(text, "xXnN") == NULL;
	if (digits && *end == '\0' && errno == 0)
		value.kind = ESK_REAL;
	return value;
}

static int bind_parameters(const cli_args *args, esk_query *query)
{
	int index = 0;
	for (size_t i = 0; i < args->given_count; i++) {
		if (strcmp(args->given[i].option->name, "param") != 0)
			continue;
		esk_value value = parse_parameter(args->given[i].value);
		esk_error err = {0};
		if (esk_query_bind(query, ++index, &value, &err) != ESK_OK)
			return cli_fail_with(&err);
	}
	return CLI_OK;
}

static void put_value(cli_table *table, esk_value value)
{
	char text[48];
	switch (value.kind) {
	case ESK_NULL:
		cli_table_null(table);
		return;
	case ESK_INTEGER:
		cli_table_integer(table, value.integer);
		return;
	case ESK_REAL:
		cli_table_real(table, value.real);
		return;
	case ESK_TEXT:
		cli_table_text_size(table, value.data, value.size);
		return;
	case ESK_BLOB:
		snprintf(text, sizeof text, "(%zu bytes)", value.size);
		cli_table_text(table, text);
		return;
	}
}

static int print_rows(esk_query *query, cli_format format)
{
	size_t columns = (size_t)esk_query_column_count(query);
	if (columns == 0)
		return cli_fail("the statement gives no columns");
	cli_head *heads = cli_alloc(columns * sizeof *heads);
	bool row = false;
	esk_error err = {0};
	esk_status status = esk_query_step(query, &row, &err);
	for (size_t i = 0; i < columns; i++) {
		const char *name = esk_query_column_name(query, (int)i);
		esk_value_kind kind = row ? esk_query_value(query, (int)i).kind : ESK_TEXT;
		heads[i] = (cli_head){
			.key = name, .title = name, .right = kind == ESK_INTEGER || kind == ESK_REAL};
	}
	cli_table *table = cli_table_begin(stdout, format, heads, columns);
	while (status == ESK_OK && row && !cli_output_broken()) {
		for (size_t i = 0; i < columns; i++)
			put_value(table, esk_query_value(query, (int)i));
		status = esk_query_step(query, &row, &err);
	}
	cli_table_end(table);
	free(heads);
	return status == ESK_OK ? CLI_OK : cli_fail_with(&err);
}

static int run_query(cli_args *args)
{
	if (cli_flag(args, "json") && cli_flag(args, "csv"))
		return cli_usage(args, "query: --json or --csv, not both");
	cli_place place;
	int code = cli_place_open(args, true, &place);
	if (code != CLI_OK)
		return code;
	cli_format format = cli_flag(args, "json") ? CLI_JSON : cli_flag(args, "csv") ? CLI_CSV : CLI_TEXT;
	esk_error err = {0};
	esk_query *query;
	if (esk_query_open(place.store, place.words[0], &query, &err) != ESK_OK) {
		code = cli_fail_with(&err);
	} else {
		code = bind_parameters(args, query);
		if (code == CLI_OK)
			code = print_rows(query, format);
		esk_query_close(query);
	}
	return cli_place_close(&place, code);
}

const cli_command cli_query = {
	.name = "query",
	.summary = "ask the catalogue in SQL (read-only)",
	.usage = "[STORE] SQL [-p VALUE]... [--json | --csv]",
	.description = "Runs one SELECT (or WITH, EXPLAIN, read-only PRAGMA) over the catalogue: tables "
		       "runs, segments, streams, columns, extents, gaps, metadata; views v_runs, v_segments, "
		       "v_columns, v_gaps, which have names and readable times. Times in the tables are "
		       "nanoseconds since the Unix epoch.",
	.options =
		(const cli_option[]){
			{"param", 'p', "VALUE", NULL,
				"bind the next ? of the statement; a leading ' makes a number text"},
			{"json", 0, NULL, NULL, "print JSON, an array of objects"},
			{"csv", 0, NULL, NULL, "print CSV"}, {0}},
	.examples = (const cli_example
			[]){{"esker query data 'SELECT name, rows FROM runs ORDER BY rows DESC LIMIT 5'",
				    "the longest runs"},
		{"esker query data 'SELECT run, path FROM v_columns WHERE column = ?' -p frames --csv",
			"every column of that name"},
		{"esker query data \"SELECT name FROM runs JOIN metadata ON run_id = id WHERE key = 'game'\"",
			"runs by their metadata"},
		{0}},
	.needs = CLI_STORE,
	.words_least = 1,
	.words_most = 1,
	.run = run_query,
};
