/* Esker's side of script/bench for instruments: each call does one piece of work in a process of its own and
 * prints one JSON object.
 *
 *     bench_daq send SOCKET BATCH_BYTES BATCHES     record batches of timestamp + voltage to a daemon, first
 * write to last acknowledgement, then to the disk bench_daq socket BATCH_BYTES BATCHES          what the
 * kernel's socket takes for the same bytes: sent, received by another process into one buffer, and answered
 */
#include <esker/esker.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROW_BYTES 16

static void check(esk_status status, const esk_error *err, const char *what)
{
	if (status == ESK_OK)
		return;
	fprintf(stderr, "bench_daq: %s: %s\n", what, err->message);
	exit(1);
}

static double now_s(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double cpu_s(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void keep_schema(struct ArrowSchema *schema)
{
	schema->release = NULL;
}

static void keep_array(struct ArrowArray *array)
{
	array->release = NULL;
}

typedef struct batch {
	struct ArrowSchema schema, fields[2], *field_list[2];
	struct ArrowArray array, columns[2], *column_list[2];
	const void *none[1], *buffers[2][2];
} batch;

/* A clock of 1 MHz and a slow wave with noise in its lowest bits. */
static void make_batch(batch *b, uint64_t rows)
{
	static const char *const names[] = {"timestamp", "voltage"}, *const formats[] = {"l", "g"};
	int64_t *times = malloc(rows * sizeof *times);
	double *volts = malloc(rows * sizeof *volts);
	uint32_t noise = 1;
	if (times == NULL || volts == NULL)
		exit(1);
	for (uint64_t i = 0; i < rows; i++) {
		noise = noise * 1664525u + 1013904223u;
		times[i] = 1700000000000000000 + (int64_t)i * 1000;
		volts[i] = (double)((int32_t)(i % 4096) - 2048 + (int32_t)(noise >> 28)) / 1024.0;
	}
	const void *values[] = {times, volts};
	memset(b, 0, sizeof *b);
	for (int i = 0; i < 2; i++) {
		b->fields[i] =
			(struct ArrowSchema){.format = formats[i], .name = names[i], .release = keep_schema};
		b->field_list[i] = &b->fields[i];
		b->buffers[i][1] = values[i];
		b->columns[i] = (struct ArrowArray){.length = (int64_t)rows,
			.n_buffers = 2,
			.buffers = b->buffers[i],
			.release = keep_array};
		b->column_list[i] = &b->columns[i];
	}
	b->schema = (struct ArrowSchema){.format = "+s",
		.name = "",
		.n_children = 2,
		.children = b->field_list,
		.release = keep_schema};
	b->array = (struct ArrowArray){.length = (int64_t)rows,
		.n_buffers = 1,
		.buffers = b->none,
		.n_children = 2,
		.children = b->column_list,
		.release = keep_array};
}

static int run_send(const char *socket_path, uint64_t batch_bytes, uint64_t batches)
{
	batch b;
	esk_client *client;
	esk_error err = {0};
	make_batch(&b, batch_bytes / ROW_BYTES);
	check(esk_client_connect(socket_path, NULL, &client, &err), &err, socket_path);
	/* The instrument is made, and the way is warm. */
	check(esk_client_write_batch(client, "scope", &b.schema, &b.array, &err), &err, "a first batch");
	check(esk_client_flush(client, &err), &err, "a first flush");
	double begun = now_s(), cpu = cpu_s();
	for (uint64_t i = 0; i < batches; i++)
		check(esk_client_write_batch(client, "scope", &b.schema, &b.array, &err), &err, "a batch");
	check(esk_client_wait(client, &err), &err, "waiting");
	double acknowledged = now_s();
	cpu = cpu_s() - cpu;
	check(esk_client_flush(client, &err), &err, "a flush");
	double durable = now_s();
	printf("{\"batches\": %llu, \"bytes\": %llu, \"seconds\": %.6f, \"durable_seconds\": %.6f, "
	       "\"cpu_seconds\": "
	       "%.6f}\n",
		(unsigned long long)batches,
		(unsigned long long)(batches * (batch_bytes / ROW_BYTES) * ROW_BYTES), acknowledged - begun,
		durable - begun, cpu);
	esk_client_close(client);
	return 0;
}

static void receive_all(int fd, size_t size)
{
	static char buffer[1 << 20];
	while (size > 0) {
		ssize_t got = recv(fd, buffer, size < sizeof buffer ? size : sizeof buffer, 0);
		if (got <= 0)
			exit(1);
		size -= (size_t)got;
	}
	if (send(fd, buffer, 1, 0) != 1)
		exit(1);
}

static int run_socket(uint64_t batch_bytes, uint64_t batches)
{
	int ends[2], size = 4 << 20;
	char *data = malloc(batch_bytes), answer;
	if (data == NULL || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
		return 1;
	memset(data, 1, batch_bytes);
	(void)setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	pid_t child = fork();
	if (child == 0) {
		receive_all(ends[1], batch_bytes * batches);
		_exit(0);
	}
	double begun = now_s();
	for (uint64_t i = 0; i < batches; i++)
		for (uint64_t at = 0; at < batch_bytes;) {
			ssize_t sent = send(ends[0], data + at, batch_bytes - at, 0);
			if (sent <= 0)
				return 1;
			at += (uint64_t)sent;
		}
	if (recv(ends[0], &answer, 1, 0) != 1)
		return 1;
	printf("{\"batches\": %llu, \"bytes\": %llu, \"seconds\": %.6f}\n", (unsigned long long)batches,
		(unsigned long long)(batches * batch_bytes), now_s() - begun);
	int status;
	return waitpid(child, &status, 0) == child && status == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "send") == 0)
		return run_send(argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
	if (argc == 4 && strcmp(argv[1], "socket") == 0)
		return run_socket(strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
	fprintf(stderr, "usage: bench_daq send SOCKET BATCH_BYTES BATCHES | socket BATCH_BYTES BATCHES\n");
	return 2;
}
