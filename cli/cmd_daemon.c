/* esker daemon: serves a store to clients and drains its rings. */
#include "commands.h"
#include "json.h"
#include "notify.h"
#include "place.h"

#include <esker/storage_config.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct service {
	const cli_args *args;
	const char *path;
	esk_storage_config config;
	esk_daemon_options options;
	esk_daemon *daemon;
	bool verbose;
	uint64_t watchdog_ns;
	int64_t notified_ns;
} service;

/* What the handlers touch. */
static _Atomic(esk_daemon *) serving;
static volatile sig_atomic_t stop_wanted, reload_wanted;

static void on_stop(int number)
{
	stop_wanted = 1;
	esk_daemon *daemon = atomic_load(&serving);
	if (daemon != NULL)
		esk_daemon_stop(daemon);
}

static void on_reload(int number)
{
	reload_wanted = 1;
}

static void catch_signals(void)
{
	/* A second one ends the program at once: what was acknowledged is in shared memory. */
	struct sigaction stop = {.sa_handler = on_stop, .sa_flags = SA_RESTART | (int)SA_RESETHAND};
	struct sigaction reload = {.sa_handler = on_reload, .sa_flags = SA_RESTART};
	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGHUP, &reload, NULL);
}

static void log_line(void *arg, esk_log_level level, const char *message)
{
	const service *s = arg;
	if (level >= ESK_LOG_WARNING)
		cli_note("%s: %s", level == ESK_LOG_WARNING ? "warning" : "error", message);
	else if (level == ESK_LOG_INFO || s->verbose)
		cli_note("%s", message);
}

/* ---- options: configuration, then what the command line says ---- */

static int take_size(const cli_args *args, const char *name, uint64_t *io_bytes)
{
	const char *text = cli_value(args, name);
	if (text != NULL && (!cli_parse_bytes(text, io_bytes) || *io_bytes == 0))
		return cli_usage(args, "--%s: a size as 64M or 1GiB was expected, found \"%s\"", name, text);
	return CLI_OK;
}

static int take_span(const cli_args *args, const char *name, uint64_t *io_ns)
{
	const char *text = cli_value(args, name);
	if (text != NULL && (!cli_parse_span(text, io_ns) || *io_ns == 0))
		return cli_usage(args, "--%s: a time as 500ms or 10s was expected, found \"%s\"", name, text);
	return CLI_OK;
}

static const char *or_text(const char *given, const char *configured)
{
	if (given != NULL)
		return given;
	return configured[0] != '\0' ? configured : NULL;
}

static int take_limits(const cli_args *args, esk_daemon_options *options)
{
	uint64_t clients = options->max_clients;
	const char *text = cli_value(args, "max-clients");
	if (text != NULL && (!cli_parse_u64(text, &clients) || clients == 0 || clients > 4096))
		return cli_usage(
			args, "--max-clients: a number from 1 to 4096 was expected, found \"%s\"", text);
	options->max_clients = (uint32_t)clients;
	int code = take_size(args, "max-message", &options->max_message_bytes);
	if (code == CLI_OK)
		code = take_size(args, "max-memory", &options->max_memory_bytes);
	if (code == CLI_OK)
		code = take_span(args, "idle-timeout", &options->idle_timeout_ns);
	if (code == CLI_OK)
		code = take_span(args, "stall-timeout", &options->stall_timeout_ns);
	if (code == CLI_OK)
		code = take_span(args, "metrics-interval", &options->metrics_period_ns);
	return code;
}

/* Texts in *ret_options are the configuration's or the command line's. */
static int take_options(
	const cli_args *args, const esk_storage_config *config, esk_daemon_options *ret_options)
{
	*ret_options = (esk_daemon_options)ESK_DAEMON_OPTIONS_INIT;
	ret_options->config = config;
	ret_options->socket_path = or_text(cli_value(args, "socket"), config->daemon_socket);
	ret_options->metrics_path = or_text(cli_value(args, "metrics-file"), config->daemon_metrics_file);
	ret_options->max_message_bytes = config->daemon_max_message_bytes;
	ret_options->max_clients = (uint32_t)config->daemon_max_clients;
	ret_options->session = cli_value(args, "session");
	ret_options->new_session = cli_flag(args, "new");
	return take_limits(args, ret_options);
}

/* ---- while it serves ---- */

static void reload(service *s)
{
	esk_storage_config config = ESK_STORAGE_CONFIG_INIT;
	esk_daemon_options options;
	esk_error err = {0};
	reload_wanted = 0;
	cli_notify("RELOADING=1");
	esk_status status = esk_storage_config_load(cli_value(s->args, "config"), &config, &err);
	if (status == ESK_OK) {
		if (take_options(s->args, &config, &options) != CLI_OK)
			status = ESK_EINVAL;
		else
			status = esk_daemon_reload(s->daemon, &options, &err);
		esk_storage_config_free(&config);
	}
	if (status == ESK_OK)
		cli_note("the configuration was read again: limits and metrics are as it says; the rest from "
			 "the "
			 "next start on");
	else
		cli_note("warning: the configuration stays as it was: %s", err.message);
	cli_notify("READY=1");
}

static void alive(void *arg)
{
	service *s = arg;
	int64_t now = cli_now_ns();
	if (reload_wanted)
		reload(s);
	if (s->notified_ns == 0)
		cli_notify("READY=1\nSTATUS=serving");
	if (s->watchdog_ns > 0 && (uint64_t)(now - s->notified_ns) >= s->watchdog_ns / 4)
		cli_notify("WATCHDOG=1");
	s->notified_ns = now;
}

static void announce(const service *s)
{
	const char *socket = esk_daemon_socket(s->daemon), *session = esk_daemon_session(s->daemon);
	if (cli_flag(s->args, "json")) {
		cli_print_json(json_pack("{s:s, s:s, s:s, s:i}", "store", s->path, "socket", socket,
			"session", session, "pid", (int)getpid()));
	} else if (!cli_flag(s->args, "quiet")) {
		fputs("serving ", stdout);
		cli_put_escaped(stdout, s->path, strlen(s->path));
		fputs(" at ", stdout);
		cli_put_escaped(stdout, socket, strlen(socket));
		fputs(", session ", stdout);
		cli_put_escaped(stdout, session, strlen(session));
		fputc('\n', stdout);
	}
	fflush(stdout);
}

static int serve(service *s)
{
	esk_error err = {0};
	s->options.log = log_line;
	s->options.log_arg = s;
	s->options.alive = alive;
	s->options.alive_arg = s;
	s->watchdog_ns = cli_notify_watchdog_ns();
	catch_signals();
	if (esk_daemon_open(s->path, &s->options, &s->daemon, &err) != ESK_OK)
		return cli_fail_with(&err);
	atomic_store(&serving, s->daemon);
	if (stop_wanted) /* it came while the store was opened */
		esk_daemon_stop(s->daemon);
	announce(s);
	int code = esk_daemon_run(s->daemon, &err) == ESK_OK ? CLI_OK : cli_fail_with(&err);
	cli_notify("STOPPING=1");
	atomic_store(&serving, NULL);
	err = (esk_error){0};
	if (esk_daemon_close(s->daemon, &err) != ESK_OK && code == CLI_OK)
		code = cli_fail_with(&err);
	return code;
}

static int run_daemon(cli_args *args)
{
	cli_place place;
	esk_error err = {0};
	int code = cli_place_find(args, &place);
	if (code != CLI_OK)
		return code;
	if (cli_flag(args, "init") && esk_store_create(place.path, &err) != ESK_OK && err.code != ESK_EEXIST)
		return cli_fail_with(&err);
	err = (esk_error){0};
	service s = {.args = args,
		.path = place.path,
		.config = ESK_STORAGE_CONFIG_INIT,
		.verbose = place.verbose};
	if (esk_storage_config_load(cli_value(args, "config"), &s.config, &err) != ESK_OK)
		return cli_fail_with(&err);
	code = take_options(args, &s.config, &s.options);
	if (code == CLI_OK)
		code = serve(&s);
	esk_storage_config_free(&s.config);
	return code;
}

static const cli_option daemon_options[] = {
	{"socket", 0, "PATH", "file", "where clients connect; default: STORE/spool/daemon.sock"},
	{"session", 0, "NAME", "run",
		"the run that clients write to, begun if there is none; default: the one of the last time, "
		"or a new "
		"one"},
	{"new", 0, NULL, NULL, "begin a new session"},
	{"init", 0, NULL, NULL, "make the store if there is none"},
	{"config", 0, "FILE", "file", "settings; default: $ESKER_CONFIG, else ./esker.toml if it is there"},
	{"metrics-file", 0, "FILE", "file", "keep statistics there as Prometheus text"},
	{"metrics-interval", 0, "TIME", NULL, "write them this often; default 10s"},
	{"max-clients", 0, "N", NULL, "as many at a time; default 64"},
	{"max-message", 0, "SIZE", NULL, "largest message that is taken; default 64M"},
	{"max-memory", 0, "SIZE", NULL, "what all clients may make the daemon keep; default 512M"},
	{"idle-timeout", 0, "TIME", NULL, "close clients that send nothing for so long; default: never"},
	{"stall-timeout", 0, "TIME", NULL,
		"close clients that stop within a message, and refuse batches that a full disk leaves no "
		"room for, after so long; default 30s"},
	{"foreground", 0, NULL, NULL, "stay in the foreground (it always does)"},
	{"json", 0, NULL, NULL, "say where it serves as JSON"},
	{"quiet", 'q', NULL, NULL, "do not say where it serves"},
	{0},
};

const cli_command cli_daemon = {
	.name = "daemon",
	.summary = "serve a store: write for clients, drain its rings",
	.usage = "[STORE] [OPTIONS]",
	.description = "Writes what clients send over a Unix socket ('esker send', the libraries of C and "
		       "Python) into one "
		       "session, and drains every ring in STORE/spool/daq, those that come later too, each "
		       "into the run of "
		       "its name. Neither loses acknowledged rows when the other dies; started again, it "
		       "goes on where it "
		       "was. SIGTERM and SIGINT commit and exit with 0; SIGHUP reads the configuration "
		       "again. It serves its "
		       "own user and root. 'esker status' asks it how it is.",
	.options = daemon_options,
	.examples = (const cli_example[]){{"esker daemon data", "serve the store until Ctrl-C"},
		{"esker daemon data --new --metrics-file /run/metrics/esker.prom",
			"a new session, with statistics for Prometheus"},
		{"systemctl enable --now esker@data", "as a service, for the store /var/lib/esker/data"},
		{0}},
	.needs = CLI_DIRECTORY,
	.complete = "dir",
	.run = run_daemon,
};
