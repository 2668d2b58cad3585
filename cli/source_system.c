/* This machine as an instrument: what /proc and /sys tell, sampled at a rate.
 *
 * Each file of theirs is kept open and read anew for a sample. A file is a table: its lines begin with a key,
 * and each key that is of interest is a group with some of the numbers behind it. Groups are found when the
 * source is opened; what comes later (a disk that is plugged in) is not recorded, what goes keeps its last
 * values. */
#include "source.h"

#include "progress.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_BYTES (256u << 10)
#define NUMBERS 20
#define RATE_LEAST 0.001
#define RATE_MOST 10000.0
#define SLOW_NS 100000000 /* sensors answer slowly: at most ten times a second */

typedef struct field {
	unsigned number; /* of those behind the key */
	const char *name;
	const char *units;
	double scale; /* f64 = number * scale; 0: u64 = number * factor */
	uint64_t factor;
	const char *long_name;
} field;

typedef union cell {
	uint64_t integer;
	double real;
	int64_t time_ns;
} cell;

typedef struct group {
	char key[64];
	const field *fields;
	size_t field_count;
	size_t first; /* of its columns */
} group;

typedef struct probe {
	char path[256];
	int fd;
	unsigned skip_words; /* before the key */
	const char *anchor;  /* the numbers begin behind this text; NULL: behind the key */
	bool keyless;        /* the file is one number */
	bool slow;
	group *groups;
	size_t group_count;
} probe;

typedef struct machine {
	probe *probes;
	size_t probe_count;
	cell *row;
	const void **cells;
	char *text;
	double rate;
	uint64_t samples; /* 0: until stopped */
	uint64_t missed;
	int64_t slow_due_ns;
} machine;

static const field memory_fields[] = {{0, "", "B", 0, 1024, ""}};
static const field disk_fields[] = {
	{0, "reads", "1", 0, 1, "read requests completed"},
	{2, "read_bytes", "B", 0, 512, "bytes read"},
	{4, "writes", "1", 0, 1, "write requests completed"},
	{6, "written_bytes", "B", 0, 512, "bytes written"},
	{9, "busy", "s", 1e-3, 0, "time with requests in flight"},
};
static const field network_fields[] = {
	{0, "received_bytes", "B", 0, 1, ""},
	{1, "received_packets", "1", 0, 1, ""},
	{2, "receive_errors", "1", 0, 1, ""},
	{3, "receive_drops", "1", 0, 1, ""},
	{8, "sent_bytes", "B", 0, 1, ""},
	{9, "sent_packets", "1", 0, 1, ""},
	{10, "send_errors", "1", 0, 1, ""},
	{11, "send_drops", "1", 0, 1, ""},
};
static const field pressure_fields[] = {{0, "", "s", 1e-6, 0, "time in which tasks waited"}};
static const field temperature_fields[] = {{0, "", "degC", 1e-3, 0, ""}};
static const char *const memory_keys[] = {"MemTotal", "MemFree", "MemAvailable", "Buffers", "Cached", "Dirty",
	"Writeback", "SwapTotal", "SwapFree", "Shmem"};

/* Ticks of the scheduler are told by the system: filled in once. */
static field cpu_fields[] = {
	{0, "user", "s", 0, 0, "time in user mode"},
	{1, "nice", "s", 0, 0, "time in user mode with low priority"},
	{2, "system", "s", 0, 0, "time in the kernel"},
	{3, "idle", "s", 0, 0, "idle time"},
	{4, "iowait", "s", 0, 0, "idle time with I/O outstanding"},
	{5, "irq", "s", 0, 0, "time in interrupts"},
	{6, "softirq", "s", 0, 0, "time in deferred interrupts"},
	{7, "steal", "s", 0, 0, "time that the hypervisor took"},
};
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- lines ---- */

/* The key of the line at *at and the numbers behind it; *at moves to the next line. False at the end. */
static bool read_line(const probe *p, const char **at, char key[64], uint64_t numbers[NUMBERS])
{
	const char *line = *at;
	if (*line == '\0')
		return false;
	const char *end = strchrnul(line, '\n');
	*at = *end == '\n' ? end + 1 : end;
	memset(numbers, 0, NUMBERS * sizeof *numbers);
	key[0] = '\0';
	for (unsigned word = 0; word <= p->skip_words && !p->keyless; word++) {
		line += strspn(line, " ");
		size_t size = strcspn(line, " :\n");
		snprintf(key, 64, "%.*s", (int)(size < 63 ? size : 63), line);
		line += size;
	}
	if (p->anchor != NULL) {
		const char *found = memmem(line, (size_t)(end - line), p->anchor, strlen(p->anchor));
		line = found != NULL ? found + strlen(p->anchor) : end;
	}
	for (unsigned n = 0; n < NUMBERS && line < end; n++) {
		line += strcspn(line, "0123456789\n");
		if (line >= end)
			break;
		char *behind;
		numbers[n] = strtoull(line, &behind, 10);
		line = behind;
	}
	return true;
}

/* The file as it is now; NULL where it cannot be read any more. */
static const char *read_text(machine *m, const probe *p)
{
	ssize_t got = pread(p->fd, m->text, TEXT_BYTES - 1, 0);
	if (got <= 0)
		return NULL;
	m->text[got] = '\0';
	return m->text;
}

static void put_group(machine *m, const group *g, const uint64_t numbers[NUMBERS])
{
	for (size_t f = 0; f < g->field_count; f++) {
		const field *one = &g->fields[f];
		cell *to = &m->row[g->first + f];
		if (one->scale > 0)
			to->real = (double)numbers[one->number] * one->scale;
		else
			to->integer = numbers[one->number] * one->factor;
	}
}

static void sample(machine *m, const probe *p)
{
	const char *at = read_text(m, p);
	char key[64];
	uint64_t numbers[NUMBERS];
	size_t found = 0;
	/* Lines keep their order, so each group is most often the one behind the last. */
	while (at != NULL && found < p->group_count && read_line(p, &at, key, numbers)) {
		for (size_t i = found; i < p->group_count; i++) {
			if (strcmp(p->groups[i].key, key) != 0)
				continue;
			put_group(m, &p->groups[i], numbers);
			found = i + 1;
			break;
		}
	}
}

/* ---- what there is ---- */

static probe *add_probe(machine *m, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	m->probes = cli_resize(m->probes, (m->probe_count + 1) * sizeof *m->probes);
	probe *p = &m->probes[m->probe_count++];
	*p = (probe){.fd = fd};
	snprintf(p->path, sizeof p->path, "%s", path);
	return p;
}

/* Makes columns of a group: "<prefix>" or "<prefix>/<field>". */
static void add_group(
	cli_source *source, probe *p, const char *key, const char *prefix, const field *fields, size_t count)
{
	p->groups = cli_resize(p->groups, (p->group_count + 1) * sizeof *p->groups);
	group *g = &p->groups[p->group_count++];
	*g = (group){.fields = fields, .field_count = count, .first = source->column_count};
	snprintf(g->key, sizeof g->key, "%s", key);
	for (size_t f = 0; f < count; f++) {
		char name[200];
		snprintf(name, sizeof name, "%s%s%s", prefix, fields[f].name[0] != '\0' ? "/" : "",
			fields[f].name);
		for (char *at = name; *at != '\0'; at++)
			if (*at == ':' || *at == '\\')
				*at = '_';
		cli_source_column(source, name, fields[f].scale > 0 ? ESK_F64 : ESK_U64, fields[f].units,
			fields[f].long_name);
	}
}

static bool is_cpu(const char *key, const uint64_t *numbers)
{
	(void)numbers;
	return strncmp(key, "cpu", 3) == 0 && isdigit((unsigned char)key[3]);
}

/* Disks that did something; partitions are parts of them and told apart by the number at the end. */
static bool is_disk(const char *key, const uint64_t *numbers)
{
	return numbers[0] + numbers[4] > 0 && strncmp(key, "loop", 4) != 0 && strncmp(key, "ram", 3) != 0;
}

static bool is_network(const char *key, const uint64_t *numbers)
{
	return numbers[0] + numbers[8] > 0 && strcmp(key, "Inter-|") != 0 && strcmp(key, "face") != 0;
}

static void find_groups(machine *m, cli_source *source, probe *p, const char *folder,
	bool (*wanted)(const char *key, const uint64_t *numbers), const field *fields, size_t field_count)
{
	const char *at = read_text(m, p);
	char key[64], prefix[160];
	uint64_t numbers[NUMBERS];
	while (at != NULL && read_line(p, &at, key, numbers)) {
		if (!wanted(key, numbers))
			continue;
		snprintf(prefix, sizeof prefix, "%s/%s", folder, key);
		add_group(source, p, key, prefix, fields, field_count);
	}
}

static void find_memory(machine *m, cli_source *source, probe *p)
{
	const char *at = read_text(m, p);
	char key[64], name[160];
	uint64_t numbers[NUMBERS];
	while (at != NULL && read_line(p, &at, key, numbers))
		for (size_t i = 0; i < COUNT(memory_keys); i++)
			if (strcmp(key, memory_keys[i]) == 0) {
				snprintf(name, sizeof name, "memory/%s", key);
				add_group(source, p, key, name, memory_fields, COUNT(memory_fields));
			}
}

static void find_pressure(machine *m, cli_source *source, const char *what)
{
	char path[64], name[64];
	snprintf(path, sizeof path, "/proc/pressure/%s", what);
	probe *p = add_probe(m, path);
	if (p == NULL)
		return;
	p->anchor = "total=";
	const char *at = read_text(m, p);
	char key[64];
	uint64_t numbers[NUMBERS];
	while (at != NULL && read_line(p, &at, key, numbers)) {
		snprintf(name, sizeof name, "pressure/%s/%s", what, key);
		add_group(source, p, key, name, pressure_fields, COUNT(pressure_fields));
	}
}

/* The name that a sensor's folder gives for it: the line in the file `name` there. */
static void label_of(const char *path, const char *file, char label[64])
{
	char name[300];
	snprintf(name, sizeof name, "%.*s%s", (int)(strrchr(path, '/') + 1 - path), path, file);
	FILE *in = fopen(name, "r");
	label[0] = '\0';
	if (in != NULL && fgets(label, 64, in) == NULL)
		label[0] = '\0';
	if (in != NULL)
		fclose(in);
	label[strcspn(label, "\n/")] = '\0';
}

static void find_temperatures(machine *m, cli_source *source, const char *pattern, const char *label_file)
{
	glob_t found = {0};
	if (glob(pattern, 0, NULL, &found) == 0) {
		for (size_t i = 0; i < found.gl_pathc; i++) {
			probe *p = add_probe(m, found.gl_pathv[i]);
			if (p == NULL)
				continue;
			p->keyless = p->slow = true;
			char label[64], name[160];
			label_of(p->path, label_file, label);
			snprintf(name, sizeof name, "temperature/%zu%s%s", m->probe_count,
				label[0] != '\0' ? " " : "", label);
			add_group(source, p, "", name, temperature_fields, COUNT(temperature_fields));
		}
	}
	globfree(&found);
}

static void find_all(machine *m, cli_source *source)
{
	double tick = 1.0 / (double)sysconf(_SC_CLK_TCK);
	for (size_t i = 0; i < COUNT(cpu_fields); i++)
		cpu_fields[i].scale = tick;
	cli_source_column(source, "time", ESK_I64, "ns", "since 1970-01-01 UTC");
	probe *p = add_probe(m, "/proc/stat");
	if (p != NULL)
		find_groups(m, source, p, "cpu", is_cpu, cpu_fields, COUNT(cpu_fields));
	p = add_probe(m, "/proc/meminfo");
	if (p != NULL)
		find_memory(m, source, p);
	p = add_probe(m, "/proc/diskstats");
	if (p != NULL) {
		p->skip_words = 2;
		find_groups(m, source, p, "disk", is_disk, disk_fields, COUNT(disk_fields));
	}
	p = add_probe(m, "/proc/net/dev");
	if (p != NULL)
		find_groups(m, source, p, "network", is_network, network_fields, COUNT(network_fields));
	find_pressure(m, source, "cpu");
	find_pressure(m, source, "memory");
	find_pressure(m, source, "io");
	find_temperatures(m, source, "/sys/class/thermal/thermal_zone*/temp", "type");
	find_temperatures(m, source, "/sys/class/hwmon/hwmon*/temp*_input", "name");
}

/* ---- sampling ---- */

static void take(machine *m, int64_t now)
{
	m->row[0].time_ns = cli_source_now_ns();
	bool slow = now >= m->slow_due_ns;
	if (slow)
		m->slow_due_ns = now + SLOW_NS;
	for (size_t i = 0; i < m->probe_count; i++)
		if (!m->probes[i].slow || slow)
			sample(m, &m->probes[i]);
}

/* Sleeps until `due`; false where a signal asks to stop. */
static bool wait_until(int64_t due)
{
	struct pollfd stop = {.fd = cli_stop_fd(), .events = POLLIN};
	for (int64_t left = due - cli_now_ns(); left > 0 && !cli_stop_requested();
		left = due - cli_now_ns()) {
		struct timespec span = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
		(void)ppoll(&stop, 1, &span, NULL);
	}
	return !cli_stop_requested();
}

static int run_system(cli_source *source, cli_recorder *r)
{
	machine *m = source->state;
	double period = 1e9 / m->rate;
	int64_t begun = cli_now_ns();
	int code = CLI_OK;
	uint64_t taken = 0;
	for (uint64_t tick = 0; code == CLI_OK && (m->samples == 0 || taken < m->samples); tick++) {
		if (!wait_until(begun + (int64_t)((double)tick * period)))
			break;
		uint64_t now_tick = (uint64_t)((double)(cli_now_ns() - begun) / period);
		if (now_tick > tick) { /* a sample that is a whole period late belongs to a later tick */
			m->missed += now_tick - tick;
			tick = now_tick;
		}
		take(m, cli_now_ns());
		uint64_t got;
		code = cli_recorder_append(r, 1, m->cells, NULL, &got);
		taken++;
	}
	if (m->missed > 0)
		cli_note("%" PRIu64
			 " samples were left out: the machine was not there in time for %g a second",
			m->missed, m->rate);
	return code;
}

static void close_system(cli_source *source)
{
	machine *m = source->state;
	for (size_t i = 0; i < m->probe_count; i++) {
		close(m->probes[i].fd);
		free(m->probes[i].groups);
	}
	free(m->probes);
	free(m->row);
	free(m->cells);
	free(m->text);
}

int cli_source_open_system(const cli_args *args, cli_source *ret_source)
{
	const char *rate = cli_value(args, "rate"), *samples = cli_value(args, "samples");
	double value = 10;
	uint64_t count = 0;
	char *end;
	if (rate != NULL) {
		value = strtod(rate, &end);
		if (end == rate || *end != '\0' || !(value >= RATE_LEAST && value <= RATE_MOST))
			return cli_usage(args,
				"--rate: samples a second, from %g to %g, were expected, found \"%s\"",
				RATE_LEAST, RATE_MOST, rate);
	}
	if (samples != NULL && (!cli_parse_u64(samples, &count) || count == 0))
		return cli_usage(args, "--samples: a number from 1 on was expected, found \"%s\"", samples);
	machine *m = cli_alloc(sizeof *m);
	*m = (machine){.rate = value, .samples = count, .text = cli_alloc(TEXT_BYTES)};
	*ret_source = (cli_source){.state = m, .run = run_system, .close = close_system};
	find_all(m, ret_source);
	m->row = cli_alloc(ret_source->column_count * sizeof *m->row);
	m->cells = cli_alloc(ret_source->column_count * sizeof *m->cells);
	memset(m->row, 0, ret_source->column_count * sizeof *m->row);
	for (size_t c = 0; c < ret_source->column_count; c++)
		m->cells[c] = &m->row[c];
	return CLI_OK;
}
