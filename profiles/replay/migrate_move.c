/* Steps into the run, episode by episode.
 *
 * One episode is under way at a time. Where an earlier call stopped within one, it is resumed; one that did
 * not end in the database is left open, so that a later call can go on with it. */
#include "migrate.h"

#include "internal.h"

#include <stdlib.h>
#include <string.h>

#define WAIT_NS UINT64_C(600000000000) /* for room in the ring: a slow disk is no reason to give up */
#define NO_EPISODE SIZE_MAX

/* The ring need not outlast a burst: who reads the database waits. */
#define RING_BYTES (UINT64_C(64) << 20)
#define RING_ROWS 16

typedef struct moving {
	esk_migrate_work *work;
	const esk_migrate_run *run;
	const esk_migrate_layout *layout;
	esk_replay_reader *reader; /* what earlier calls left; NULL: nothing */
	esk_replay_writer *writer;
	int64_t *earlier; /* by episode of the plan: its last number in the run, or -1 */
	size_t *todo;
	size_t todo_count;
	size_t episode; /* under way; NO_EPISODE: none */
	bool done;      /* its last step said so */
	bool has_index;
	int64_t index; /* of its last step */
	const void *cells[ESK_MIGRATE_PAYLOADS][ESK_PAYLOAD_MAX_LEAVES];
	esk_string texts[ESK_MIGRATE_EXTRAS];
	const void *extra[ESK_MIGRATE_EXTRAS];
} moving;

/* ---- episodes ---- */

/* Ends the episode under way: as its last step or the table `episodes` says, or, where no more steps of it
 * will come (`over`), as one that never ended. Else it is left open: a later call may find more of it. */
static esk_status finish_episode(moving *m, bool over, esk_error *err)
{
	if (m->episode == NO_EPISODE)
		return ESK_OK;
	const esk_migrate_episode *episode = &m->work->plan.episodes[m->episode];
	esk_status status = ESK_OK;
	if (m->done)
		status = esk_replay_writer_end(m->writer, 0, -1, NULL, err);
	else if (episode->in_table)
		status = esk_replay_writer_end(m->writer, 0,
			episode->truncated ? ESK_REPLAY_TRUNCATED : ESK_REPLAY_TERMINATED, NULL, err);
	else if (over || esk_migrate_is_over(&m->work->plan, episode))
		status = esk_replay_writer_end(m->writer, 0, ESK_REPLAY_UNFINISHED, NULL, err);
	else
		esk_replay_writer_leave(m->writer, 0);
	m->episode = NO_EPISODE;
	m->done = m->has_index = false;
	return status;
}

static esk_status begin_episode(moving *m, size_t number, esk_error *err)
{
	const esk_migrate_episode *episode = &m->work->plan.episodes[number];
	int64_t *earlier = &m->earlier[number];
	esk_status status = ESK_OK;
	if (episode->has_seed)
		esk_replay_writer_seed(m->writer, 0, episode->seed);
	m->episode = number;
	if (*earlier < 0)
		return ESK_OK;
	esk_replay_episode found = {.struct_size = sizeof found};
	status = esk_replay_reader_episode(m->reader, (uint64_t)*earlier, &found, err);
	*earlier = -1; /* what comes after it is new */
	if (status != ESK_OK || found.ended_ns != 0)
		return status;
	m->done = found.outcome != ESK_REPLAY_UNFINISHED;
	return esk_replay_writer_resume(m->writer, 0, &found, err);
}

/* Where steps have no episode_id, a step_index that does not rise begins the next one. */
static bool begins_anew(const moving *m, const esk_migrate_row *row)
{
	const esk_migrate_step *step = &m->work->plan.steps[row->step];
	if (step->episode != m->episode)
		return true;
	return m->work->plan.episodes[m->episode].name[0] == '\0' && m->has_index && row->has_index &&
	       row->index <= m->index;
}

/* ---- one step ---- */

static esk_string string_of(const esk_migrate_rows *rows, const esk_migrate_text *text)
{
	return text->has ? (esk_string){rows->text.data + text->start, text->size} : (esk_string){"", 0};
}

static const void *const *point_at_leaves(moving *m, const esk_migrate_row *row, size_t payload)
{
	const esk_payload_form *form = &m->layout->payloads[payload];
	static const int64_t no_action = -1;
	if (payload == ESK_MIGRATE_ACTION && form->leaf_count == 0) {
		m->cells[payload][0] = &no_action; /* a column of actions there must be */
		return m->cells[payload];
	}
	bool any = false;
	for (size_t i = 0; i < form->leaf_count; i++) {
		bool has = row->has[payload][i] != 0 || payload == ESK_MIGRATE_ACTION;
		m->cells[payload][i] = has ? row->cells + form->leaves[i].offset : NULL;
		any |= has;
	}
	return any ? m->cells[payload] : NULL;
}

/* A pointer per extra column that the run has, in their order. */
static void point_at_extras(moving *m, const esk_migrate_rows *rows, const esk_migrate_row *row)
{
	const esk_migrate_step *step = &m->work->plan.steps[row->step];
	const void *all[ESK_MIGRATE_EXTRAS] = {
		[ESK_MIGRATE_ROWID] = &step->rowid,
		[ESK_MIGRATE_INDEX] = row->has_index ? &row->index : NULL,
		[ESK_MIGRATE_NAME] = &m->texts[ESK_MIGRATE_NAME],
		[ESK_MIGRATE_TIME_STEP] = row->has_time_step ? &row->time_step : NULL,
		[ESK_MIGRATE_VERSION] = row->has_version ? &row->version : NULL,
		[ESK_MIGRATE_SIGNATURE] = row->signature.has ? &m->texts[ESK_MIGRATE_SIGNATURE] : NULL,
	};
	m->texts[ESK_MIGRATE_NAME] = string_of(rows, &row->episode);
	m->texts[ESK_MIGRATE_SIGNATURE] = string_of(rows, &row->signature);
	for (size_t i = 0; i < ESK_MIGRATE_PAYLOADS; i++) {
		m->texts[ESK_MIGRATE_TEXT + i] = string_of(rows, &row->texts[i]);
		all[ESK_MIGRATE_TEXT + i] = row->texts[i].has ? &m->texts[ESK_MIGRATE_TEXT + i] : NULL;
	}
	size_t count = 0;
	for (size_t i = 0; i < ESK_MIGRATE_EXTRAS; i++)
		if (m->layout->has_extra[i])
			m->extra[count++] = all[i];
}

static esk_status move_row(
	moving *m, const esk_migrate_rows *rows, const esk_migrate_row *row, esk_error *err)
{
	esk_migrate_step *step = &m->work->plan.steps[row->step];
	esk_status status = ESK_OK;
	if (begins_anew(m, row))
		status = finish_episode(m, step->episode == m->episode, err);
	if (status == ESK_OK && m->episode == NO_EPISODE)
		status = begin_episode(m, step->episode, err);
	if (status != ESK_OK)
		return status;
	const void *const *frame = point_at_leaves(m, row, ESK_MIGRATE_FRAME);
	point_at_extras(m, rows, row);
	esk_replay_step made = {
		.struct_size = sizeof made,
		.frame = frame != NULL ? frame[0] : NULL,
		.observation = point_at_leaves(m, row, ESK_MIGRATE_OBSERVATION),
		.action = point_at_leaves(m, row, ESK_MIGRATE_ACTION),
		.reward = row->reward,
		.terminated = row->terminated,
		.truncated = row->truncated,
		.time_ns = row->time_ns,
		.info = string_of(rows, &row->info),
		.worker = string_of(rows, &row->worker),
		.agent = string_of(rows, &row->agent),
		.extra = m->extra,
	};
	status = esk_replay_writer_step(m->writer, &made, &step->row, err);
	m->done = row->terminated || row->truncated;
	m->has_index = row->has_index;
	m->index = row->index;
	return status;
}

static void count_row(moving *m, const esk_migrate_row *row)
{
	esk_replay_migrate_report *report = &m->work->report;
	for (size_t p = 0; p < ESK_MIGRATE_ACTION; p++)
		for (size_t i = 0; i < m->layout->payloads[p].leaf_count; i++)
			report->array_bytes +=
				row->has[p][i] ? m->layout->payloads[p].leaves[i].cell_bytes : 0;
	report->text_bytes += m->work->plan.steps[row->step].bytes;
	report->moved++;
}

static esk_status move_rows(void *arg, const esk_migrate_rows *rows, esk_error *err)
{
	moving *m = arg;
	for (size_t i = 0; i < rows->count; i++) {
		const esk_migrate_row *row = &rows->rows[i];
		esk_status status = move_row(m, rows, row, err);
		if (status != ESK_OK)
			return status;
		count_row(m, row);
		esk_migrate_find_faults(m->work, m->run, row);
		status = esk_migrate_tell(m->work, m->work->plan.steps[row->step].bytes, err);
		if (status != ESK_OK)
			return status;
	}
	return ESK_OK;
}

/* ---- what earlier calls left ---- */

/* Episodes of which the run has steps: their last numbers there. */
static esk_status find_earlier(moving *m, esk_error *err)
{
	const esk_migrate_plan *plan = &m->work->plan;
	m->earlier = malloc((plan->episode_count + 1) * sizeof *m->earlier);
	if (m->earlier == NULL)
		return esk_fail_memory(err, plan->episode_count * sizeof *m->earlier, "episodes");
	for (size_t i = 0; i < plan->episode_count; i++)
		m->earlier[i] = -1;
	uint64_t rows = m->reader != NULL ? esk_replay_reader_steps(m->reader) : 0;
	if (rows == 0)
		return ESK_OK;
	esk_dataset *ids;
	int64_t *numbers = malloc(rows * sizeof *numbers);
	if (numbers == NULL)
		return esk_fail_memory(err, rows * sizeof *numbers, "episode_ids");
	esk_status status = esk_reader_find(esk_replay_reader_base(m->reader), "episode_ids", &ids, err);
	if (status == ESK_OK)
		status = esk_dataset_read(ids, 0, (int64_t)rows, 1, numbers, rows * sizeof *numbers, err);
	for (size_t i = m->run->first; i < m->run->first + m->run->count && status == ESK_OK; i++) {
		const esk_migrate_step *step = &plan->steps[i];
		if (step->row != ESK_MIGRATE_NO_ROW && numbers[step->row] > m->earlier[step->episode])
			m->earlier[step->episode] = numbers[step->row];
	}
	free(numbers);
	return status;
}

/* Whether the steps to move are without payloads that another store got: then they must not be moved. */
static esk_status check_payloads(const moving *m, const esk_migrate_step *step, esk_error *err)
{
	bool gone = (step->frame_ref == ESK_MIGRATE_REF_OWN && !step->has_frame) ||
		    (step->obs_ref == ESK_MIGRATE_REF_OWN && !step->has_observation);
	if (!gone)
		return ESK_OK;
	return esk_fail(err, ESK_ENOTFOUND,
		"the arrays of run \"%s\" were moved into another store, and dropped from %s (as at rowid "
		"%lld): name that store",
		m->run->name, m->work->path, (long long)step->rowid);
}

static esk_status find_todo(moving *m, esk_error *err)
{
	const esk_migrate_step *steps = m->work->plan.steps;
	m->todo = malloc((m->run->count + 1) * sizeof *m->todo);
	if (m->todo == NULL)
		return esk_fail_memory(err, m->run->count * sizeof *m->todo, "the steps to move");
	esk_status status = ESK_OK;
	for (size_t i = m->run->first; i < m->run->first + m->run->count && status == ESK_OK; i++) {
		if (steps[i].row != ESK_MIGRATE_NO_ROW)
			continue;
		status = check_payloads(m, &steps[i], err);
		m->todo[m->todo_count++] = i;
	}
	return status;
}

/* Episodes all of whose steps are there, but not their end: the process died between the two. */
static esk_status end_earlier(moving *m, esk_error *err)
{
	const esk_migrate_plan *plan = &m->work->plan;
	for (size_t i = 0; i < plan->episode_count; i++) {
		if (m->earlier[i] < 0)
			continue;
		esk_status status = begin_episode(m, i, err);
		if (status == ESK_OK)
			status = finish_episode(m, false, err);
		if (status != ESK_OK)
			return status;
	}
	return ESK_OK;
}

/* ---- the run ---- */

static esk_status open_writer(moving *m, esk_error *err)
{
	char *frame = NULL, *observation = NULL, *action = NULL, *extra = NULL, *metadata = NULL;
	esk_status status = esk_migrate_layout_spec(m->layout, ESK_MIGRATE_FRAME, &frame, err);
	if (status == ESK_OK)
		status = esk_migrate_layout_spec(m->layout, ESK_MIGRATE_OBSERVATION, &observation, err);
	if (status == ESK_OK)
		status = esk_migrate_layout_spec(m->layout, ESK_MIGRATE_ACTION, &action, err);
	if (status == ESK_OK)
		status = esk_migrate_layout_extra(m->layout, &extra, err);
	if (status == ESK_OK)
		status = esk_migrate_layout_save(m->layout, m->work->path, m->run, &metadata, err);
	if (status == ESK_OK) {
		esk_replay_options options = ESK_REPLAY_OPTIONS_INIT;
		options.metadata_json = metadata;
		options.frame = frame;
		options.observation = observation;
		options.action = action;
		options.extra = extra;
		options.infos = m->layout->infos;
		options.agents = m->layout->agents;
		options.run.append = true;
		options.run.block_timeout_ns = WAIT_NS;
		options.run.ring_bytes = RING_ROWS * (uint64_t)m->layout->cells_bytes;
		if (options.run.ring_bytes < RING_BYTES)
			options.run.ring_bytes = RING_BYTES;
		status = esk_replay_writer_open(m->work->store, m->run->name, &options, &m->writer, err);
	}
	free(frame);
	free(observation);
	free(action);
	free(extra);
	free(metadata);
	return status;
}

static esk_status move_run(moving *m, esk_error *err)
{
	esk_migrate_work *work = m->work;
	esk_migrate_reading reading = {.path = work->path,
		.layout = m->layout,
		.plan = &work->plan,
		.steps = m->todo,
		.count = m->todo_count,
		.threads = work->options.threads,
		.take = move_rows,
		.arg = m};
	esk_status status = open_writer(m, err);
	if (status != ESK_OK)
		return status;
	status = esk_migrate_read(&reading, err);
	if (status == ESK_OK)
		status = finish_episode(m, false, err);
	if (status == ESK_OK)
		status = end_earlier(m, err);
	esk_replay_writer_leave(m->writer, 0);
	esk_status closed = esk_replay_writer_close(m->writer, status == ESK_OK ? err : NULL);
	return status == ESK_OK ? closed : status;
}

/* Whether an episode that has no end in the run should have one. */
static esk_status lacks_end(const moving *m, bool *ret_lacks, esk_error *err)
{
	const esk_migrate_plan *plan = &m->work->plan;
	*ret_lacks = false;
	for (size_t i = 0; i < plan->episode_count && !*ret_lacks; i++) {
		esk_replay_episode found = {.struct_size = sizeof found};
		if (m->earlier[i] < 0)
			continue;
		esk_status status =
			esk_replay_reader_episode(m->reader, (uint64_t)m->earlier[i], &found, err);
		if (status != ESK_OK)
			return status;
		*ret_lacks = found.ended_ns == 0 &&
			     (found.outcome != ESK_REPLAY_UNFINISHED || plan->episodes[i].in_table ||
				     esk_migrate_is_over(plan, &plan->episodes[i]));
	}
	return ESK_OK;
}

esk_status esk_migrate_move(
	esk_migrate_work *work, const esk_migrate_run *run, esk_replay_reader *reader, esk_error *err)
{
	moving m = {.work = work,
		.run = run,
		.layout = &work->layouts[run - work->plan.runs],
		.reader = reader,
		.episode = NO_EPISODE};
	bool lacks = false;
	esk_status status = find_todo(&m, err);
	if (status == ESK_OK)
		status = find_earlier(&m, err);
	if (status == ESK_OK && m.todo_count == 0)
		status = lacks_end(&m, &lacks, err);
	if (status == ESK_OK && (m.todo_count > 0 || lacks))
		status = move_run(&m, err);
	free(m.todo);
	free(m.earlier);
	return status;
}
