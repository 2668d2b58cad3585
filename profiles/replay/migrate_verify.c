/* Steps against their run: every payload that the database still holds is parsed again and compared with what
 * is read back, byte by byte. */
#include "migrate.h"

#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct verifying {
	esk_migrate_work *work;
	const esk_migrate_run *run;
	const esk_migrate_layout *layout;
	esk_dataset *leaves[ESK_MIGRATE_PAYLOADS][ESK_PAYLOAD_MAX_LEAVES];
	esk_dataset *texts[ESK_MIGRATE_PAYLOADS];
	size_t *todo;
	size_t todo_count;
	uint64_t *rows; /* of the run, of the steps at hand */
	uint8_t *valid;
	uint8_t *cells;
	size_t capacity; /* steps that there is room for */
	size_t largest;  /* bytes of a cell */
} verifying;

bool esk_migrate_needs_verify(const esk_migrate_work *work, const esk_migrate_step *step)
{
	if (step->row == ESK_MIGRATE_NO_ROW)
		return false;
	bool settled = step->settled == step->row && !work->options.drop_blobs;
	return (step->has_frame && !(settled && step->frame_ref == ESK_MIGRATE_REF_OWN)) ||
	       (step->has_observation && !(settled && step->obs_ref == ESK_MIGRATE_REF_OWN));
}

static esk_status fail_differs(
	const verifying *v, size_t payload, const esk_migrate_row *row, const char *what, esk_error *err)
{
	const esk_migrate_step *step = &v->work->plan.steps[row->step];
	return esk_fail(err, ESK_ECORRUPT,
		"h5://%s/%s/%llu is not what the database has at rowid %lld: %s. Nothing was dropped; 'esker "
		"verify' checks the run's file",
		v->run->name, esk_migrate_payload_names[payload], (unsigned long long)step->row,
		(long long)step->rowid, what);
}

/* ---- comparing ---- */

static bool make_room(verifying *v, size_t count)
{
	if (count <= v->capacity)
		return true;
	free(v->rows);
	free(v->valid);
	free(v->cells);
	v->rows = malloc(count * sizeof *v->rows);
	v->valid = malloc(count);
	v->cells = malloc(count * v->largest + 1);
	v->capacity = count;
	return v->rows != NULL && v->valid != NULL && v->cells != NULL;
}

/* Whether the payload of the row is there to be compared: a payload that could not be parsed is missing. */
static bool is_compared(const esk_migrate_row *row, size_t payload)
{
	return row->present[payload];
}

static esk_status compare_leaf(
	verifying *v, const esk_migrate_rows *rows, size_t payload, size_t i, esk_error *err)
{
	const esk_payload_leaf *leaf = &v->layout->payloads[payload].leaves[i];
	esk_dataset *dataset = v->leaves[payload][i];
	esk_status status = esk_dataset_read_valid(dataset, v->rows, rows->count, v->valid, err);
	if (status == ESK_OK)
		status = esk_dataset_read_rows(
			dataset, v->rows, rows->count, v->cells, rows->count * leaf->cell_bytes, err);
	for (size_t r = 0; r < rows->count && status == ESK_OK; r++) {
		const esk_migrate_row *row = &rows->rows[r];
		if (!is_compared(row, payload))
			continue;
		bool always = payload == ESK_MIGRATE_ACTION; /* has no missing cells */
		if (!always && (v->valid[r] != 0) != (row->has[payload][i] != 0))
			status = fail_differs(v, payload, row,
				v->valid[r] != 0 ? "it should be missing" : "it is missing", err);
		else if (row->has[payload][i] && memcmp(v->cells + r * leaf->cell_bytes,
							 row->cells + leaf->offset, leaf->cell_bytes) != 0)
			status = fail_differs(v, payload, row, "its values differ", err);
	}
	return status;
}

static esk_status compare_texts(verifying *v, const esk_migrate_rows *rows, size_t payload, esk_error *err)
{
	esk_string *found;
	if (v->texts[payload] == NULL)
		return ESK_OK;
	esk_status status = esk_dataset_read_valid(v->texts[payload], v->rows, rows->count, v->valid, err);
	if (status == ESK_OK)
		status = esk_dataset_read_strings(v->texts[payload], v->rows, rows->count, &found, err);
	if (status != ESK_OK)
		return status;
	for (size_t r = 0; r < rows->count && status == ESK_OK; r++) {
		const esk_migrate_row *row = &rows->rows[r];
		const esk_migrate_text *text = &row->texts[payload];
		if (!is_compared(row, payload))
			continue;
		bool same = (v->valid[r] != 0) == text->has;
		if (same && text->has)
			same = found[r].size == text->size &&
			       memcmp(found[r].data, rows->text.data + text->start, text->size) == 0;
		if (!same)
			status = fail_differs(v, payload, row, "the text around its arrays differs", err);
	}
	esk_strings_free(found);
	return status;
}

/* A payload with no array in it has no ref, and stays in the database. */
static bool has_leaves(const verifying *v, const esk_migrate_row *row, size_t payload)
{
	for (size_t i = 0; i < v->layout->payloads[payload].leaf_count; i++)
		if (row->has[payload][i])
			return true;
	return false;
}

static esk_status note_row(verifying *v, const esk_migrate_row *row, esk_error *err)
{
	esk_migrate_work *work = v->work;
	esk_migrate_step *step = &work->plan.steps[row->step];
	step->frame_verified = has_leaves(v, row, ESK_MIGRATE_FRAME);
	step->observation_verified = has_leaves(v, row, ESK_MIGRATE_OBSERVATION);
	work->report.verified += row->present[ESK_MIGRATE_FRAME] + row->present[ESK_MIGRATE_OBSERVATION];
	esk_migrate_find_faults(work, v->run, row);
	return esk_migrate_tell(work, step->bytes, err);
}

static esk_status verify_rows(void *arg, const esk_migrate_rows *rows, esk_error *err)
{
	verifying *v = arg;
	esk_status status = ESK_OK;
	if (!make_room(v, rows->count))
		return esk_fail_memory(err, rows->count * v->largest, "arrays to compare");
	for (size_t r = 0; r < rows->count; r++)
		v->rows[r] = v->work->plan.steps[rows->rows[r].step].row;
	for (size_t p = 0; p < ESK_MIGRATE_PAYLOADS && status == ESK_OK; p++) {
		for (size_t i = 0; i < v->layout->payloads[p].leaf_count && status == ESK_OK; i++)
			status = compare_leaf(v, rows, p, i, err);
		if (status == ESK_OK)
			status = compare_texts(v, rows, p, err);
	}
	for (size_t r = 0; r < rows->count && status == ESK_OK; r++)
		status = note_row(v, &rows->rows[r], err);
	return status;
}

/* ---- the run ---- */

static esk_status find_datasets(verifying *v, esk_reader *base, esk_error *err)
{
	esk_status status = ESK_OK;
	for (size_t p = 0; p < ESK_MIGRATE_PAYLOADS; p++) {
		const esk_payload_form *form = &v->layout->payloads[p];
		for (size_t i = 0; i < form->leaf_count && status == ESK_OK; i++) {
			const esk_payload_leaf *leaf = &form->leaves[i];
			char path[2 * ESK_MAX_NAME];
			esk_dataset_info info = {.struct_size = sizeof info};
			snprintf(path, sizeof path, "%s%s%s", esk_migrate_payload_names[p],
				leaf->column[0] != '\0' ? "/" : "", leaf->column);
			status = esk_reader_find(base, path, &v->leaves[p][i], err);
			if (status == ESK_OK)
				status = esk_dataset_get_info(v->leaves[p][i], &info, err);
			if (status == ESK_OK && esk_column_cell_bytes(&info.column) != leaf->cell_bytes)
				status = esk_fail(err, ESK_ESHAPE,
					"h5://%s/%s has cells of %llu bytes, expected %zu", v->run->name,
					path, (unsigned long long)esk_column_cell_bytes(&info.column),
					leaf->cell_bytes);
			v->largest = leaf->cell_bytes > v->largest ? leaf->cell_bytes : v->largest;
		}
		if (status == ESK_OK && v->layout->has_extra[ESK_MIGRATE_TEXT + p])
			status = esk_reader_find(
				base, esk_migrate_extra_names[ESK_MIGRATE_TEXT + p], &v->texts[p], err);
	}
	return status;
}

static esk_status find_todo(verifying *v, esk_error *err)
{
	const esk_migrate_run *run = v->run;
	v->todo = malloc((run->count + 1) * sizeof *v->todo);
	if (v->todo == NULL)
		return esk_fail_memory(err, run->count * sizeof *v->todo, "the steps to verify");
	for (size_t i = run->first; i < run->first + run->count; i++)
		if (esk_migrate_needs_verify(v->work, &v->work->plan.steps[i]))
			v->todo[v->todo_count++] = i;
	return ESK_OK;
}

esk_status esk_migrate_verify(
	esk_migrate_work *work, const esk_migrate_run *run, esk_replay_reader *reader, esk_error *err)
{
	verifying v = {.work = work, .run = run, .layout = &work->layouts[run - work->plan.runs]};
	esk_status status = find_todo(&v, err);
	if (status == ESK_OK && v.todo_count > 0)
		status = find_datasets(&v, esk_replay_reader_base(reader), err);
	esk_migrate_reading reading = {.path = work->path,
		.layout = v.layout,
		.plan = &work->plan,
		.steps = v.todo,
		.count = v.todo_count,
		.threads = work->options.threads,
		.take = verify_rows,
		.arg = &v};
	if (status == ESK_OK)
		status = esk_migrate_read(&reading, err);
	free(v.todo);
	free(v.rows);
	free(v.valid);
	free(v.cells);
	return status;
}
