/* The background writer dies at every step of a look at a ring that lost records: before and after each
 * reservation in the run's ring, after each publication, before and after each release of the instruments'.
 * In between it changes nothing that outlives it. Each time, what its successor leaves must account for every
 * record. The steps are met in calls that the linker sends here first (--wrap). */
#include "daq_writer_support.h"

#include "record/internal.h"
#include "ring/ring.h"
#include "store/internal.h"

enum { LOOKS = 3, LOST = 5, KEPT = 9 };

/* What a child does, in memory that outlives it. */
typedef struct progress {
	_Atomic uint64_t written; /* numbers */
	bool within;              /* the ring overruns within a look */
	esk_ring *ring;           /* the process's own */
	esk_ring *run_ring;       /* whose steps count; NULL: none do */
	uint64_t steps_left;      /* until it dies */
} progress;

static progress *now;

/* ---- steps ---- */

static void step(void)
{
	if (now->steps_left-- == 0)
		kill(getpid(), SIGKILL);
}

esk_status __real_esk_ring_reserve(esk_ring *ring, uint32_t stream, uint16_t kind, uint32_t payload_bytes,
	esk_ring_slot *ret_slot, esk_error *err);
esk_status __wrap_esk_ring_reserve(esk_ring *ring, uint32_t stream, uint16_t kind, uint32_t payload_bytes,
	esk_ring_slot *ret_slot, esk_error *err);
void __real_esk_ring_publish(esk_ring *ring, const esk_ring_slot *slot);
void __wrap_esk_ring_publish(esk_ring *ring, const esk_ring_slot *slot);
void __real_esk_consumer_release_marked(esk_consumer *consumer, uint64_t position, uint64_t mark);
void __wrap_esk_consumer_release_marked(esk_consumer *consumer, uint64_t position, uint64_t mark);

esk_status __wrap_esk_ring_reserve(esk_ring *ring, uint32_t stream, uint16_t kind, uint32_t payload_bytes,
	esk_ring_slot *ret_slot, esk_error *err)
{
	bool counts = ring == now->run_ring;
	if (counts)
		step();
	esk_status status = __real_esk_ring_reserve(ring, stream, kind, payload_bytes, ret_slot, err);
	if (counts)
		step();
	return status;
}

void __wrap_esk_ring_publish(esk_ring *ring, const esk_ring_slot *slot)
{
	__real_esk_ring_publish(ring, slot);
	if (ring == now->run_ring)
		step();
}

void __wrap_esk_consumer_release_marked(esk_consumer *consumer, uint64_t position, uint64_t mark)
{
	if (now->run_ring != NULL)
		step();
	__real_esk_consumer_release_marked(consumer, position, mark);
	if (now->run_ring != NULL)
		step();
}

/* ---- lives ---- */

static void write_next(progress *p, uint64_t count)
{
	uint64_t next = atomic_load(&p->written);
	write_numbers(p->ring, &next, count);
	atomic_store(&p->written, next);
}

/* A look finds a record that cannot be taken: what follows it is overwritten. */
static void overwrite_within(void *arg, esk_log_level level, const char *message)
{
	progress *p = arg;
	if (!p->within || strstr(message, "is skipped") == NULL)
		return;
	p->within = false;
	write_next(p, LOST);
	overwrite_all(p->ring);
	write_next(p, KEPT);
}

static esk_daq_writer *open_stepped(progress *p, esk_ring *ring, esk_daq_layout layout)
{
	esk_daq_writer *writer;
	esk_daq_writer_options options = ESK_DAQ_WRITER_OPTIONS_INIT;
	options.layout = layout;
	options.ring_bytes = 1 << 20;
	options.consumer = "hdf5";
	options.log = overwrite_within;
	options.log_arg = p;
	check_ok(esk_daq_writer_open(daq_path("store/run.h5"), ring, &options, &writer, err));
	return writer;
}

static void live(progress *p, esk_daq_layout layout)
{
	esk_error err;
	if (esk_daq_ring_open(daq_path("r"), &p->ring, &err) != ESK_OK)
		_exit(1);
	esk_daq_writer *writer = open_stepped(p, p->ring, layout);
	for (int look = 0; look < LOOKS; look++) {
		write_next(p, LOST);
		overwrite_all(p->ring);
		write_next(p, KEPT);
		p->within = look == 1;
		p->run_ring = esk_daq_writer_run(writer)->recorder->ring;
		if (esk_daq_writer_step(writer, &err) != ESK_OK)
			_exit(2);
		p->run_ring = NULL;
	}
	_exit(0);
}

/* True if the child died on the way. */
static bool die_after(progress *p, esk_daq_layout layout, uint64_t steps)
{
	int result;
	p->steps_left = steps;
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		live(p, layout);
	assert_int_equal(waitpid(pid, &result, 0), pid);
	assert_true(WIFSIGNALED(result) || WEXITSTATUS(result) == 0);
	return WIFSIGNALED(result);
}

/* The successor takes what is left, and loses once more. */
static void succeed(progress *p, esk_daq_layout layout)
{
	check_ok(esk_daq_ring_open(daq_path("r"), &p->ring, err));
	p->within = false;
	p->run_ring = NULL;
	esk_daq_writer *writer = open_stepped(p, p->ring, layout);
	check_ok(esk_daq_writer_step(writer, err));
	write_next(p, LOST);
	overwrite_all(p->ring);
	write_next(p, KEPT);
	check_ok(esk_daq_writer_step(writer, err));
	check_ok(esk_daq_writer_close(writer, err));
	esk_ring_detach(p->ring);
	expect_every_number("run", layout, atomic_load(&p->written));
}

/* The writer's place first: what is lost before it is nobody's. */
static void begin_place(progress *p, esk_daq_layout layout)
{
	daq_remove_directory();
	assert_int_equal(mkdir(daq_directory, 0700), 0);
	memset(p, 0, sizeof *p);
	esk_ring *ring = make_ring("r", ESK_OVERWRITE);
	check_ok(esk_daq_writer_close(open_stepped(p, ring, layout), err));
	esk_ring_detach(ring);
}

static void die_at_every_step(esk_daq_layout layout)
{
	uint64_t deaths = 0;
	now = mmap(NULL, sizeof *now, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(now != MAP_FAILED);
	for (bool died = true; died; deaths += died) {
		begin_place(now, layout);
		died = die_after(now, layout, deaths);
		succeed(now, layout);
	}
	printf("%llu deaths\n", (unsigned long long)deaths);
	/* Of each loss its account, and rows behind it: two appends of three steps. */
	assert_true(deaths >= 2 * 3 * (LOOKS + 1));
	munmap(now, sizeof *now);
}

static void a_death_at_any_step_accounts_for_each_loss_once(void **state)
{
	die_at_every_step(ESK_DAQ_COLUMNS);
}

static void a_death_at_any_step_of_batches_accounts_for_each_loss_once(void **state)
{
	die_at_every_step(ESK_DAQ_BATCHES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_death_at_any_step_accounts_for_each_loss_once),
		TEST(a_death_at_any_step_of_batches_accounts_for_each_loss_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
