/* esker status: how the daemon of a store is. */
#include "commands.h"
#include "json.h"
#include "place.h"
#include "table.h"

#include <stdlib.h>
#include <string.h>

static uint64_t number(const json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key)
{
	const char *found = json_string_value(json_object_get(object, key));
	return found != NULL ? found : "-";
}

static void put(const json_t *object, const char *key)
{
	const char *value = text(object, key);
	cli_put_escaped(stdout, value, strlen(value));
}

static bool is_well(const json_t *object)
{
	return strcmp(text(object, "status"), "ok") == 0;
}

static void print_daemon(const json_t *daemon)
{
	cli_buf span, clients, accepted, refused, over, messages, bytes, errors, memory;
	fputs("daemon   ", stdout);
	put(daemon, "store");
	printf(", process %" JSON_INTEGER_FORMAT ", version ", (json_int_t)number(daemon, "pid"));
	put(daemon, "version");
	printf(", up %s\n",
		cli_span((uint64_t)(json_real_value(json_object_get(daemon, "uptime_s")) * 1e9), &span));
	printf("clients  %s connected; %s let in, %s turned away, %s closed for a time limit\n",
		cli_count(number(daemon, "clients"), &clients),
		cli_count(number(daemon, "accepted"), &accepted),
		cli_count(number(daemon, "refused"), &refused),
		cli_count(number(daemon, "timed_out"), &over));
	printf("traffic  %s, %s; %s told; %s kept for clients\n",
		cli_counted(number(daemon, "messages"), "message", &messages),
		cli_bytes(number(daemon, "bytes"), &bytes),
		cli_counted(number(daemon, "errors"), "error", &errors),
		cli_bytes(number(daemon, "memory_bytes"), &memory));
}

static void print_session(const json_t *session)
{
	cli_buf instruments, rows, batches, bytes, flushes, when, pending, file;
	fputs("session  ", stdout);
	put(session, "run");
	printf(": %s; since the start %s in %s, %s\n",
		cli_counted(number(session, "instruments"), "instrument", &instruments),
		cli_counted(number(session, "rows_written"), "row", &rows),
		cli_counted(number(session, "batches_written"), "batch", &batches),
		cli_bytes(number(session, "bytes_written"), &bytes));
	printf("disk     %s, the last %s; %s wait for the next; file %s; ",
		cli_counted(number(session, "flushes"), "commit", &flushes),
		cli_time((int64_t)number(session, "last_flush_ns"), &when),
		cli_bytes(number(session, "pending_bytes"), &pending),
		cli_bytes(number(session, "file_bytes"), &file));
	puts(is_well(session) ? "all is well" : "COMMITS FAIL:");
	if (!is_well(session)) {
		fputs("         ", stdout);
		put(session, "status");
		putchar('\n');
	}
}

static void print_rings(const json_t *rings)
{
	static const cli_head heads[] = {{"name", "RING", false}, {"records", "RECORDS", true},
		{"rows", "ROWS", true}, {"bytes", "BYTES", true}, {"lag", "LAG", true},
		{"lost", "LOST", true}, {"bad", "BAD", true}, {"status", "STATUS", false}};
	size_t i;
	json_t *ring;
	if (json_array_size(rings) == 0)
		return;
	putchar('\n');
	cli_table *table = cli_table_begin(stdout, CLI_TEXT, heads, sizeof heads / sizeof *heads);
	json_array_foreach(rings, i, ring)
	{
		cli_table_text(table, text(ring, "name"));
		cli_table_count(table, number(ring, "records"));
		cli_table_count(table, number(ring, "rows"));
		cli_table_bytes(table, number(ring, "bytes"));
		cli_table_bytes(table, number(ring, "lag_bytes"));
		cli_table_count(table, number(ring, "lost_records"));
		cli_table_count(table, number(ring, "bad_records"));
		cli_table_text(table, is_well(ring) ? "ok" : text(ring, "error"));
	}
	cli_table_end(table);
}

static bool all_well(const json_t *stats)
{
	size_t i;
	json_t *ring;
	bool well = is_well(json_object_get(stats, "session"));
	json_array_foreach(json_object_get(stats, "rings"), i, ring) well = well && is_well(ring);
	return well;
}

static int print_prometheus(const char *json)
{
	char *metrics;
	esk_error err = {0};
	if (esk_daemon_stats_prometheus(json, &metrics, &err) != ESK_OK)
		return cli_fail_with(&err);
	fputs(metrics, stdout);
	free(metrics);
	return CLI_OK;
}

static int print_stats(const cli_args *args, const char *json)
{
	json_t *stats = json_loads(json, 0, NULL);
	if (!json_is_object(stats)) {
		json_decref(stats);
		return cli_fail("the daemon's statistics cannot be read");
	}
	int code = all_well(stats) ? CLI_OK : CLI_FAILED;
	if (cli_flag(args, "prometheus")) {
		json_decref(stats);
		return print_prometheus(json);
	}
	if (cli_flag(args, "json")) {
		cli_print_json(stats);
		return code;
	}
	print_daemon(json_object_get(stats, "daemon"));
	print_session(json_object_get(stats, "session"));
	print_rings(json_object_get(stats, "rings"));
	json_decref(stats);
	return code;
}

static int run_status(cli_args *args)
{
	cli_place place;
	int code = cli_place_find(args, &place);
	if (code != CLI_OK)
		return code;
	if (cli_flag(args, "json") && cli_flag(args, "prometheus"))
		return cli_usage(args, "status: --json or --prometheus, not both");
	esk_client *client;
	esk_error err = {0};
	char *json = NULL;
	esk_client_options options = ESK_CLIENT_OPTIONS_INIT;
	options.timeout_ns = 10000000000ull;
	const char *socket = cli_value(args, "socket");
	if (esk_client_connect(socket != NULL ? socket : place.path, &options, &client, &err) != ESK_OK)
		return cli_fail_with(&err);
	code = esk_client_get_stats(client, &json, &err) == ESK_OK ? print_stats(args, json)
								   : cli_fail_with(&err);
	free(json);
	esk_client_close(client);
	return code;
}

static const cli_option status_options[] = {
	{"socket", 0, "PATH", "file", "the daemon's socket; default: STORE/spool/daemon.sock"},
	{"json", 0, NULL, NULL, "print everything as JSON"},
	{"prometheus", 0, NULL, NULL, "print statistics as Prometheus text"},
	{0},
};

const cli_command cli_status = {
	.name = "status",
	.summary = "ask the daemon of a store how it is",
	.usage = "[STORE] [--json|--prometheus]",
	.description = "Prints what the daemon has done, how its session and each ring are, and whether "
		       "commits work. Exits with 1 where no daemon answers, or commits or rings have trouble "
		       "(with --prometheus: where none answers).",
	.options = status_options,
	.examples = (const cli_example[]){{"esker status data", "for people"},
		{"esker status data --prometheus", "for a collector"}, {0}},
	.needs = CLI_STORE,
	.complete = "dir",
	.run = run_status,
};
