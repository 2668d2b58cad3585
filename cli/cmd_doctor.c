/* esker doctor: what this machine offers for recording, with advice. */
#include "commands.h"
#include "json.h"
#include "place.h"
#include "text.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SHM_WANTED_BYTES (512ull << 20) /* the default ring (256 MiB) and room for another */
#define FSYNC_SLOW_NS 20000000
#define DEFLATE_SLOW 300e6

typedef struct report {
	json_t *hints;
} report;

static void hint(report *r, const char *format, ...) ESK_PRINTF(2, 3);
static void hint(report *r, const char *format, ...)
{
	char text[1024];
	va_list list;
	va_start(list, format);
	vsnprintf(text, sizeof text, format, list);
	va_end(list);
	json_array_append_new(r->hints, json_string(text));
}

/* Filter plugins (shared objects) in any directory of the path. */
static size_t count_plugins(const char *path)
{
	size_t found = 0;
	char *copy = cli_copy(path), *rest = NULL;
	for (char *dir = strtok_r(copy, ":", &rest); dir != NULL; dir = strtok_r(NULL, ":", &rest)) {
		DIR *handle = opendir(dir);
		struct dirent *entry;
		while (handle != NULL && (entry = readdir(handle)) != NULL)
			found += strstr(entry->d_name, ".so") != NULL;
		if (handle != NULL)
			closedir(handle);
	}
	free(copy);
	return found;
}

/* Rings of all stores on this machine: of recordings that run, and what killed ones left. */
typedef struct rings {
	uint64_t count;
	uint64_t bytes;
} rings;

static rings count_rings(void)
{
	rings found = {0};
	DIR *handle = opendir("/dev/shm");
	struct dirent *entry;
	while (handle != NULL && (entry = readdir(handle)) != NULL) {
		const char *dot = strrchr(entry->d_name, '.');
		struct stat st;
		if (strncmp(entry->d_name, "esker-", 6) != 0 || dot == NULL || strcmp(dot, ".ring") != 0 ||
			fstatat(dirfd(handle), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		found.count++;
		found.bytes += (uint64_t)st.st_blocks * 512;
	}
	if (handle != NULL)
		closedir(handle);
	return found;
}

static void collect_hints(report *r, const esk_machine *m, size_t plugins, rings left)
{
	cli_buf a, b;
	if (m->shm_total_bytes == 0)
		hint(r, "there is no /dev/shm: rings are files in the store's spool/, which stalls producers "
			"during write-back; in a container, start it with --shm-size=1g");
	else if (m->shm_free_bytes < SHM_WANTED_BYTES)
		hint(r,
			"/dev/shm has %s free of %s: rings that do not fit go to the store's spool/; in a "
			"container start it with --shm-size=1g, elsewhere 'mount -o remount,size=1G "
			"/dev/shm', or use a smaller --ring",
			cli_bytes(m->shm_free_bytes, &a), cli_bytes(m->shm_total_bytes, &b));
	if (left.count > 0)
		hint(r,
			"/dev/shm holds %s (%s): of recordings that run, or of ones that were killed; 'esker "
			"repair' of such a store recovers its rows and removes them",
			cli_counted(left.count, "ring", &b), cli_bytes(left.bytes, &a));
	if (m->fsync_median_ns > FSYNC_SLOW_NS)
		hint(r,
			"making data durable takes %s here: commit less often (--commit-interval 5s) or keep "
			"the store on a local SSD",
			cli_span(m->fsync_median_ns, &a));
	if (m->cores == 1)
		hint(r, "one core: producer and codec share it; codec none or lz4 leaves it more time");
	if (m->deflate_bytes_per_s < DEFLATE_SLOW)
		hint(r,
			"gzip:1 reaches %s/s a core here: a faster stream wants --codec none or lz4, or more "
			"cores",
			cli_bytes((uint64_t)m->deflate_bytes_per_s, &a));
	if (strcmp(m->simd, "scalar") == 0 || strcmp(m->simd, "none") == 0 || m->simd[0] == '\0')
		hint(r, "shuffle runs without SIMD on this processor");
	if (plugins == 0)
		hint(r,
			"no HDF5 filter plugins in %s: Esker needs none, but h5dump and other stock tools "
			"cannot read zstd, lz4, blosc or bitshuffle columns without; in Python 'pip install "
			"hdf5plugin'",
			m->plugin_path[0] != '\0' ? m->plugin_path : "the plugin path");
	if (m->memory_bytes > 0 && m->memory_bytes < (2ull << 30))
		hint(r, "%s of memory: give --ring 64M or less", cli_bytes(m->memory_bytes, &a));
}

static json_t *machine_as_json(
	const esk_machine *m, const char *directory, size_t plugins, rings left, const report *r)
{
	return json_pack("{s:s, s:s, s:I, s:s, s:I, s:I, s:I, s:I, s:f, s:f, s:s, s:s, s:s, s:I, s:I, s:O}",
		"version", esk_version(), "directory", directory, "cores", (json_int_t)m->cores, "simd",
		m->simd, "memory_bytes", (json_int_t)m->memory_bytes, "shm_free_bytes",
		(json_int_t)m->shm_free_bytes, "shm_total_bytes", (json_int_t)m->shm_total_bytes,
		"fsync_median_ns", (json_int_t)m->fsync_median_ns, "memcpy_bytes_per_s",
		m->memcpy_bytes_per_s, "deflate_bytes_per_s", m->deflate_bytes_per_s, "hdf5_version",
		m->hdf5_version, "sqlite_version", m->sqlite_version, "plugin_path", m->plugin_path,
		"plugins", (json_int_t)plugins, "rings", (json_int_t)left.count, "hints", r->hints);
}

static void field(const char *name, const char *format, ...) ESK_PRINTF(2, 3);
static void field(const char *name, const char *format, ...)
{
	char text[1024];
	va_list list;
	va_start(list, format);
	vsnprintf(text, sizeof text, format, list);
	va_end(list);
	printf("%-14s ", name);
	cli_put_escaped(stdout, text, strlen(text));
	fputc('\n', stdout);
}

static void print_report(const esk_machine *m, const char *directory, size_t plugins, const report *r)
{
	cli_buf a, b;
	field("esker", "%s (HDF5 %s, SQLite %s)", esk_version(), m->hdf5_version, m->sqlite_version);
	field("cores", "%u", m->cores);
	field("SIMD", "%s", m->simd);
	field("memory", "%s", cli_bytes(m->memory_bytes, &a));
	if (m->shm_total_bytes > 0)
		field("/dev/shm", "%s free of %s", cli_bytes(m->shm_free_bytes, &a),
			cli_bytes(m->shm_total_bytes, &b));
	else
		field("/dev/shm", "none");
	field("fsync", "%s in %s", cli_span(m->fsync_median_ns, &a), directory);
	field("memory copy", "%s/s", cli_bytes((uint64_t)m->memcpy_bytes_per_s, &a));
	field("gzip:1", "%s/s a core", cli_bytes((uint64_t)m->deflate_bytes_per_s, &a));
	field("HDF5 plugins", "%zu in %s", plugins, m->plugin_path);
	size_t i;
	json_t *text;
	if (json_array_size(r->hints) == 0)
		puts("\nnothing to improve");
	json_array_foreach(r->hints, i, text)
	{
		fputs(i == 0 ? "\n- " : "- ", stdout);
		const char *line = json_string_value(text);
		cli_put_escaped(stdout, line, strlen(line));
		fputc('\n', stdout);
	}
}

static int run_doctor(cli_args *args)
{
	cli_place place;
	int code = cli_place_find(args, &place);
	if (code != CLI_OK)
		return code;
	struct stat st;
	if (stat(place.path, &st) != 0 || !S_ISDIR(st.st_mode))
		return cli_fail("%s: no such directory to measure in", place.path);
	esk_machine machine = {.struct_size = sizeof machine};
	esk_error err = {0};
	if (esk_machine_inspect(place.path, &machine, &err) != ESK_OK)
		return cli_fail_with(&err);
	report r = {.hints = json_array()};
	size_t plugins = count_plugins(machine.plugin_path);
	rings left = count_rings();
	collect_hints(&r, &machine, plugins, left);
	if (cli_flag(args, "json"))
		cli_print_json(machine_as_json(&machine, place.path, plugins, left, &r));
	else
		print_report(&machine, place.path, plugins, &r);
	json_decref(r.hints);
	return CLI_OK;
}

const cli_command cli_doctor = {
	.name = "doctor",
	.summary = "tell what this machine offers for recording",
	.usage = "[DIR] [--json]",
	.description = "Looks at cores, SIMD, memory, /dev/shm, HDF5 and its plugins, and measures for under "
		       "a second: how long DIR takes to make data durable, memory copy and gzip:1. Advice "
		       "follows where something is short.",
	.options = (const cli_option[]){{"json", 0, NULL, NULL, "print JSON"}, {0}},
	.examples =
		(const cli_example[]){{"esker doctor data", "measure on the disk that holds \"data\""}, {0}},
	.needs = CLI_DIRECTORY,
	.complete = "dir",
	.run = run_doctor,
};
