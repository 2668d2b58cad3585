/* What ls, info and record ask the catalogue, as JSON values: printed as they are with --json, else as
 * tables. */
#ifndef CLI_CATALOGUE_H
#define CLI_CATALOGUE_H

#include "json.h"
#include "place.h"

/* Runs `sql` with ?1 = `text` (NULL: no parameter) and gives an array of one object per row: *ret_rows is the
 * caller's (json_decref). */
int cli_sql(cli_place *place, const char *sql, const char *text, json_t **ret_rows);

/* All runs, or the one named: name, state, rows, bytes, segments, streams, gaps, created_ns, updated_ns,
 * commits, metadata. A run whose recorder is gone has the state "interrupted". */
int cli_runs(cli_place *place, const char *name, json_t **ret_runs);
int cli_segments(cli_place *place, const char *run, json_t **ret_segments);
int cli_gaps(cli_place *place, const char *run, json_t **ret_gaps);

/* The datasets of a reader: path, stream, column, type, shape, rows, codec, chunk_rows, stored_bytes,
 * raw_bytes, ratio, units, long_name, nullable, needs. */
int cli_datasets(esk_reader *reader, json_t **ret_datasets);

const char *cli_json_text(const json_t *object, const char *key); /* "" where there is none */
uint64_t cli_json_number(const json_t *object, const char *key);  /* 0 where there is none */

void cli_print_datasets(const json_t *datasets);
void cli_print_segments(const json_t *segments);
void cli_print_gaps(const json_t *gaps);

#endif
