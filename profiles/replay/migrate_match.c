/* Which steps a run holds already: what makes a second call go on where the first one stopped.
 *
 * A row says by legacy_rowids which step it is. A step that was settled says by replay_row which row it has;
 * that counts where the two agree, or where the row's episode and step_index are the step's: VACUUM may have
 * numbered the rowids of the database anew since. */
#include "migrate.h"

#include "internal.h"

#include <stdlib.h>
#include <string.h>

#define NAMES_AT_ONCE 1024

typedef struct mapping {
	int64_t rowid;
	uint64_t row;
} mapping;

typedef struct matching {
	esk_migrate_work *work;
	const esk_migrate_run *run;
	esk_dataset *names;
	uint64_t rows;
	int64_t *rowids;    /* of every row */
	int64_t *indices;   /* legacy_steps of every row; NULL where the run has none */
	uint8_t *claimed;   /* rows that belong to a step */
	mapping *unclaimed; /* the others, by rowid */
	size_t unclaimed_count;
} matching;

static esk_status fail_foreign(const matching *m, const char *what, uint64_t row, esk_error *err)
{
	return esk_fail(err, ESK_ECORRUPT,
		"run \"%s\", row %llu: %s; it was migrated from another database, or this one was changed "
		"since. Migrate into another store",
		m->run->name, (unsigned long long)row, what);
}

/* ---- what the run holds ---- */

static esk_status read_column(
	esk_reader *base, const char *name, uint64_t rows, int64_t **ret_values, esk_error *err)
{
	esk_dataset *dataset;
	esk_status status = esk_reader_find(base, name, &dataset, err);
	if (status != ESK_OK)
		return status;
	*ret_values = malloc((rows + 1) * sizeof **ret_values);
	if (*ret_values == NULL)
		return esk_fail_memory(err, rows * sizeof **ret_values, name);
	return esk_dataset_read(dataset, 0, (int64_t)rows, 1, *ret_values, rows * sizeof **ret_values, err);
}

static esk_status read_run(matching *m, esk_replay_reader *reader, esk_error *err)
{
	esk_reader *base = esk_replay_reader_base(reader);
	const esk_migrate_layout *layout = &m->work->layouts[m->run - m->work->plan.runs];
	m->rows = esk_replay_reader_steps(reader);
	m->claimed = calloc(m->rows + 1, 1);
	m->unclaimed = malloc((m->rows + 1) * sizeof *m->unclaimed);
	if (m->claimed == NULL || m->unclaimed == NULL)
		return esk_fail_memory(err, m->rows * sizeof *m->unclaimed, "the run's rows");
	esk_status status =
		read_column(base, esk_migrate_extra_names[ESK_MIGRATE_ROWID], m->rows, &m->rowids, err);
	if (status == ESK_OK && layout->has_extra[ESK_MIGRATE_INDEX])
		status = read_column(
			base, esk_migrate_extra_names[ESK_MIGRATE_INDEX], m->rows, &m->indices, err);
	if (status == ESK_OK)
		status = esk_reader_find(base, esk_migrate_extra_names[ESK_MIGRATE_NAME], &m->names, err);
	return status;
}

/* ---- settled steps ---- */

static bool same_index(const matching *m, const esk_migrate_step *step, uint64_t row)
{
	bool ordered = m->work->plan.episodes[step->episode].name[0] != '\0';
	return !ordered || m->indices == NULL || m->indices[row] == step->index;
}

static esk_status claim(matching *m, esk_migrate_step *step, uint64_t row, esk_error *err)
{
	if (m->claimed[row] != 0)
		return fail_foreign(m, "two steps of the database have it as their replay_row", row, err);
	m->claimed[row] = 1;
	step->row = row;
	return ESK_OK;
}

/* Steps whose rowid changed: claims by the names of their episodes. */
static esk_status claim_by_name(matching *m, const size_t *steps, size_t count, esk_error *err)
{
	uint64_t rows[NAMES_AT_ONCE];
	esk_string *names;
	for (size_t i = 0; i < count; i++)
		rows[i] = m->work->plan.steps[steps[i]].settled;
	esk_status status = esk_dataset_read_strings(m->names, rows, count, &names, err);
	for (size_t i = 0; i < count && status == ESK_OK; i++) {
		esk_migrate_step *step = &m->work->plan.steps[steps[i]];
		const char *name = m->work->plan.episodes[step->episode].name;
		if (names[i].size == strlen(name) && memcmp(names[i].data, name, names[i].size) == 0)
			status = claim(m, step, rows[i], err);
		if (status != ESK_OK || i + 1 == count)
			esk_strings_free(names);
	}
	return status;
}

static esk_status claim_settled(matching *m, esk_error *err)
{
	esk_migrate_step *steps = m->work->plan.steps;
	size_t asked[NAMES_AT_ONCE], count = 0;
	esk_status status = ESK_OK;
	for (size_t i = m->run->first; i < m->run->first + m->run->count && status == ESK_OK; i++) {
		esk_migrate_step *step = &steps[i];
		if (step->settled >= m->rows || !same_index(m, step, step->settled))
			continue;
		if (m->rowids[step->settled] == step->rowid)
			status = claim(m, step, step->settled, err);
		else
			asked[count++] = i;
		if (count == NAMES_AT_ONCE && status == ESK_OK) {
			status = claim_by_name(m, asked, count, err);
			count = 0;
		}
	}
	return status == ESK_OK && count > 0 ? claim_by_name(m, asked, count, err) : status;
}

/* ---- the others ---- */

static int by_rowid(const void *left, const void *right)
{
	int64_t a = ((const mapping *)left)->rowid, b = ((const mapping *)right)->rowid;
	return (a > b) - (a < b);
}

static esk_status claim_by_rowid(matching *m, esk_error *err)
{
	esk_migrate_step *steps = m->work->plan.steps;
	for (uint64_t row = 0; row < m->rows; row++)
		if (m->claimed[row] == 0)
			m->unclaimed[m->unclaimed_count++] = (mapping){m->rowids[row], row};
	qsort(m->unclaimed, m->unclaimed_count, sizeof *m->unclaimed, by_rowid);
	for (size_t i = 1; i < m->unclaimed_count; i++)
		if (m->unclaimed[i].rowid == m->unclaimed[i - 1].rowid)
			return fail_foreign(
				m, "a row before it holds the same step", m->unclaimed[i].row, err);
	size_t found = 0;
	for (size_t i = m->run->first; i < m->run->first + m->run->count && found < m->unclaimed_count; i++) {
		if (steps[i].row != ESK_MIGRATE_NO_ROW)
			continue;
		mapping key = {.rowid = steps[i].rowid};
		const mapping *at =
			bsearch(&key, m->unclaimed, m->unclaimed_count, sizeof *m->unclaimed, by_rowid);
		if (at == NULL)
			continue;
		if (!same_index(m, &steps[i], at->row))
			return fail_foreign(
				m, "the step with its rowid has another step_index", at->row, err);
		steps[i].row = at->row;
		m->claimed[at->row] = 1;
		found++;
	}
	for (uint64_t row = 0; row < m->rows; row++)
		if (m->claimed[row] == 0)
			return fail_foreign(m, "the database has no such step", row, err);
	return ESK_OK;
}

esk_status esk_migrate_match(
	esk_migrate_work *work, const esk_migrate_run *run, esk_replay_reader *reader, esk_error *err)
{
	matching m = {.work = work, .run = run};
	esk_status status = read_run(&m, reader, err);
	if (status == ESK_OK)
		status = claim_settled(&m, err);
	if (status == ESK_OK)
		status = claim_by_rowid(&m, err);
	free(m.rowids);
	free(m.indices);
	free(m.claimed);
	free(m.unclaimed);
	return status;
}
