/* Questions to the catalogue: see catalogue.h. */
#include "catalogue.h"

#include "table.h"
#include "value.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

static json_t *value_as_json(const esk_value *value)
{
	json_t *text;
	switch (value->kind) {
	case ESK_INTEGER:
		return json_integer(value->integer);
	case ESK_REAL:
		return json_real(value->real);
	case ESK_TEXT:
		text = json_stringn(value->data, value->size);
		return text != NULL ? text : json_string("(not UTF-8)");
	case ESK_BLOB:
	case ESK_NULL:
		break;
	}
	return json_null();
}

static int collect(esk_query *query, json_t *rows)
{
	for (;;) {
		esk_error err = {0};
		bool row = false;
		if (esk_query_step(query, &row, &err) != ESK_OK)
			return cli_fail_with(&err);
		if (!row)
			return CLI_OK;
		json_t *object = json_object();
		for (int i = 0; i < esk_query_column_count(query); i++) {
			esk_value value = esk_query_value(query, i);
			json_object_set_new(object, esk_query_column_name(query, i), value_as_json(&value));
		}
		json_array_append_new(rows, object);
	}
}

int cli_sql(cli_place *place, const char *sql, const char *text, json_t **ret_rows)
{
	esk_error err = {0};
	esk_query *query;
	if (esk_query_open(place->store, sql, &query, &err) != ESK_OK)
		return cli_fail_with(&err);
	if (text != NULL) {
		esk_value value = {.kind = ESK_TEXT, .data = text, .size = strlen(text)};
		if (esk_query_bind(query, 1, &value, &err) != ESK_OK) {
			esk_query_close(query);
			return cli_fail_with(&err);
		}
	}
	json_t *rows = json_array();
	int code = collect(query, rows);
	esk_query_close(query);
	if (code == CLI_OK)
		*ret_rows = rows;
	else
		json_decref(rows);
	return code;
}

const char *cli_json_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text != NULL ? text : "";
}

uint64_t cli_json_number(const json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

static const char runs_sql[] =
	"SELECT name, CASE state WHEN 0 THEN 'recording' WHEN 1 THEN 'finished' ELSE 'foreign' END AS state, "
	"rows, (SELECT ifnull(sum(bytes), 0) FROM segments WHERE run_id = runs.id AND pruned = 0) AS bytes, "
	"(SELECT count(*) FROM segments WHERE run_id = runs.id AND pruned = 0) AS segments, (SELECT count(*) "
	"FROM streams WHERE run_id = runs.id) AS streams, (SELECT count(*) FROM gaps WHERE run_id = runs.id) "
	"AS gaps, created_ns, updated_ns, commit_number AS commits, pid, metadata FROM runs WHERE ?1 IS NULL "
	"OR name = ?1 ORDER BY created_ns, name";

int cli_runs(cli_place *place, const char *name, json_t **ret_runs)
{
	int code = cli_sql(place, runs_sql, name, ret_runs);
	if (code != CLI_OK)
		return code;
	size_t i;
	json_t *run;
	json_array_foreach(*ret_runs, i, run)
	{
		pid_t pid = (pid_t)cli_json_number(run, "pid");
		bool recording = strcmp(cli_json_text(run, "state"), "recording") == 0;
		if (recording && (pid <= 0 || (kill(pid, 0) != 0 && errno == ESRCH)))
			json_object_set_new(run, "state", json_string("interrupted"));
		json_object_del(run, "pid");
		json_t *metadata = json_loads(cli_json_text(run, "metadata"), JSON_ALLOW_NUL, NULL);
		json_object_set_new(run, "metadata", metadata != NULL ? metadata : json_object());
	}
	return CLI_OK;
}

int cli_segments(cli_place *place, const char *run, json_t **ret_segments)
{
	return cli_sql(place,
		"SELECT number, file, CASE WHEN sealed THEN 'sealed' ELSE 'live' END AS state, "
		"segments.created_ns, sealed_ns, bytes FROM segments JOIN runs ON runs.id = run_id WHERE "
		"runs.name = ?1 AND pruned = 0 ORDER BY number",
		run, ret_segments);
}

int cli_gaps(cli_place *place, const char *run, json_t **ret_gaps)
{
	return cli_sql(place, "SELECT * FROM v_gaps WHERE run = ?1 ORDER BY stream, row", run, ret_gaps);
}

static json_t *dataset_as_json(const cli_rows *rows)
{
	const esk_column *column = &rows->info.column;
	char type[512];
	cli_format_type(column, type, sizeof type);
	char stream[ESK_MAX_PATH + 1];
	cli_stream_of(&rows->info, stream, sizeof stream);
	json_t *object = json_object();
	json_object_set_new(object, "path", json_string(rows->info.path));
	json_object_set_new(object, "stream", json_string(stream));
	json_object_set_new(object, "column", json_string(column->name));
	json_object_set_new(object, "type", json_string(type));
	json_t *shape = json_array();
	for (uint32_t i = 0; i < column->rank; i++)
		json_array_append_new(shape, json_integer((json_int_t)column->shape[i]));
	json_object_set_new(object, "shape", shape);
	json_object_set_new(object, "nullable", json_boolean(column->nullable));
	json_object_set_new(object, "rows", json_integer((json_int_t)rows->info.rows));
	json_object_set_new(object, "codec", json_string(column->codec));
	json_object_set_new(object, "needs", json_string(esk_codec_reader_needs(column->codec)));
	json_object_set_new(object, "chunk_rows", json_integer((json_int_t)column->chunk_rows));
	json_object_set_new(object, "stored_bytes", json_integer((json_int_t)rows->info.stored_bytes));
	if (column->dtype.kind != ESK_STRING) {
		uint64_t raw = rows->info.rows * rows->cell_bytes;
		json_object_set_new(object, "raw_bytes", json_integer((json_int_t)raw));
		if (raw > 0 && rows->info.stored_bytes > 0)
			json_object_set_new(
				object, "ratio", json_real((double)raw / (double)rows->info.stored_bytes));
	}
	json_object_set_new(object, "units", json_string(column->units));
	json_object_set_new(object, "long_name", json_string(column->long_name));
	return object;
}

int cli_datasets(esk_reader *reader, json_t **ret_datasets)
{
	json_t *datasets = json_array();
	for (size_t i = 0; i < esk_reader_dataset_count(reader); i++) {
		cli_rows rows;
		int code = cli_rows_open(esk_reader_dataset_at(reader, i), &rows);
		if (code != CLI_OK) {
			json_decref(datasets);
			return code;
		}
		json_array_append_new(datasets, dataset_as_json(&rows));
		cli_rows_close(&rows);
	}
	*ret_datasets = datasets;
	return CLI_OK;
}

void cli_print_datasets(const json_t *datasets)
{
	static const cli_head heads[] = {{"stream", "STREAM", false}, {"column", "COLUMN", false},
		{"type", "TYPE", false}, {"rows", "ROWS", true}, {"chunk_rows", "CHUNK", true},
		{"stored_bytes", "STORED", true}, {"ratio", "RATIO", true}, {"codec", "CODEC", false}};
	cli_table *table = cli_table_begin(stdout, CLI_TEXT, heads, sizeof heads / sizeof *heads);
	size_t i;
	json_t *d;
	json_array_foreach(datasets, i, d)
	{
		cli_buf ratio;
		cli_table_text(table, cli_json_text(d, "stream"));
		cli_table_text(table, cli_json_text(d, "column"));
		cli_table_text(table, cli_json_text(d, "type"));
		cli_table_count(table, cli_json_number(d, "rows"));
		cli_table_count(table, cli_json_number(d, "chunk_rows"));
		cli_table_bytes(table, cli_json_number(d, "stored_bytes"));
		cli_table_text(table, cli_ratio(cli_json_number(d, "raw_bytes"),
					      cli_json_number(d, "stored_bytes"), &ratio));
		cli_table_text(table, cli_json_text(d, "codec"));
	}
	cli_table_end(table);
}

void cli_print_segments(const json_t *segments)
{
	static const cli_head heads[] = {{"number", "SEGMENT", true}, {"file", "FILE", false},
		{"bytes", "SIZE", true}, {"created_ns", "CREATED", false}, {"state", "STATE", false}};
	cli_table *table = cli_table_begin(stdout, CLI_TEXT, heads, sizeof heads / sizeof *heads);
	size_t i;
	json_t *s;
	json_array_foreach(segments, i, s)
	{
		cli_table_count(table, cli_json_number(s, "number"));
		cli_table_text(table, cli_json_text(s, "file"));
		cli_table_bytes(table, cli_json_number(s, "bytes"));
		cli_table_time(table, (int64_t)cli_json_number(s, "created_ns"));
		cli_table_text(table, cli_json_text(s, "state"));
	}
	cli_table_end(table);
}

void cli_print_gaps(const json_t *gaps)
{
	static const cli_head heads[] = {{"stream", "STREAM", false}, {"row", "AT ROW", true},
		{"rows", "ROWS", true}, {"records", "RECORDS", true}, {"bytes", "BYTES", true},
		{"time", "TIME (UTC)", false}, {"cause", "CAUSE", false}};
	cli_table *table = cli_table_begin(stdout, CLI_TEXT, heads, sizeof heads / sizeof *heads);
	size_t i;
	json_t *g;
	json_array_foreach(gaps, i, g)
	{
		cli_table_text(table,
			json_is_string(json_object_get(g, "stream")) ? cli_json_text(g, "stream") : "?");
		cli_table_count(table, cli_json_number(g, "row"));
		cli_table_count(table, cli_json_number(g, "rows"));
		cli_table_count(table, cli_json_number(g, "records"));
		cli_table_bytes(table, cli_json_number(g, "bytes"));
		cli_table_text(table, cli_json_text(g, "time"));
		cli_table_text(table, cli_json_text(g, "cause"));
	}
	cli_table_end(table);
}
