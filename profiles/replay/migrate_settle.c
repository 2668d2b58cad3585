/* What is written into the database: refs and rows for its users, and, if asked for, NULL for what was moved.
 *
 * Only what this call verified gets a ref, and only what has its ref is dropped. A step with another's ref
 * keeps both. Changes go in transactions of some steps each, so stopping in between leaves every step either
 * as it was or settled. */
#include "migrate.h"

#include "internal.h"

#include <string.h>

#define BATCH_STEPS 1024
#define BATCH_BYTES (32u << 20) /* the cache of the handle that writes holds it twice */

/* A ref for a payload that was verified: there is one, or one can be written. */
static bool takes_ref(const esk_migrate_step *step, bool verified, esk_migrate_ref ref)
{
	return verified &&
	       (ref == ESK_MIGRATE_REF_NONE || (ref == ESK_MIGRATE_REF_OWN && step->settled != step->row));
}

static bool drops(const esk_migrate_work *work, bool verified, esk_migrate_ref ref)
{
	return work->options.drop_blobs && verified && ref != ESK_MIGRATE_REF_OTHER;
}

bool esk_migrate_needs_settle(const esk_migrate_work *work, const esk_migrate_step *step)
{
	if (step->row == ESK_MIGRATE_NO_ROW || work->options.no_refs)
		return false;
	return step->settled != step->row || takes_ref(step, step->frame_verified, step->frame_ref) ||
	       takes_ref(step, step->observation_verified, step->obs_ref) ||
	       drops(work, step->frame_verified, step->frame_ref) ||
	       drops(work, step->observation_verified, step->obs_ref);
}

static const char *format_ref(
	const esk_migrate_run *run, const char *path, uint64_t row, char *buf, size_t buf_bytes)
{
	esk_ref ref = {.kind = ESK_REF_INDEX, .start = row, .stop = row + 1};
	strcpy(ref.run, run->name);
	strcpy(ref.path, path);
	esk_ref_format(&ref, buf, buf_bytes);
	return buf;
}

static esk_status settle_step(
	esk_migrate_work *work, const esk_migrate_run *run, const esk_migrate_step *step, esk_error *err)
{
	char frame[2048], observation[2048];
	esk_legacy_change change = {.rowid = step->rowid,
		.row = step->row,
		.drop_frame = drops(work, step->frame_verified, step->frame_ref),
		.drop_observation = drops(work, step->observation_verified, step->obs_ref)};
	if (takes_ref(step, step->frame_verified, step->frame_ref))
		change.frame_ref = format_ref(run, "frames", step->row, frame, sizeof frame);
	if (takes_ref(step, step->observation_verified, step->obs_ref))
		change.obs_ref = format_ref(run, "observations", step->row, observation, sizeof observation);
	esk_status status = esk_legacy_change_step(work->legacy, &change, err);
	if (status != ESK_OK)
		return status;
	work->report.refs += change.frame_ref != NULL || change.obs_ref != NULL;
	work->report.dropped += (uint64_t)change.drop_frame + change.drop_observation;
	return ESK_OK;
}

/* Steps from *at on, in one transaction; *at moves behind them. */
static esk_status settle_batch(esk_migrate_work *work, const esk_migrate_run *run, size_t *at, esk_error *err)
{
	size_t end = run->first + run->count, changed = 0;
	uint64_t bytes = 0;
	esk_status status = esk_legacy_begin(work->legacy, err);
	for (; *at < end && changed < BATCH_STEPS && bytes < BATCH_BYTES && status == ESK_OK; ++*at) {
		const esk_migrate_step *step = &work->plan.steps[*at];
		if (!esk_migrate_needs_settle(work, step))
			continue;
		status = settle_step(work, run, step, err);
		bytes += step->bytes;
		changed++;
	}
	if (status == ESK_OK)
		status = esk_legacy_commit(work->legacy, err);
	if (status != ESK_OK) {
		esk_legacy_rollback(work->legacy);
		return status;
	}
	return esk_migrate_tell(work, bytes, err);
}

static void find_others(esk_migrate_work *work, const esk_migrate_run *run, const esk_migrate_step *step)
{
	static const char message[] = "holds another ref, which is kept, and its payload with it";
	if (step->frame_verified && step->frame_ref == ESK_MIGRATE_REF_OTHER)
		esk_migrate_find(work, run, step->rowid, "frame_ref", message);
	if (step->observation_verified && step->obs_ref == ESK_MIGRATE_REF_OTHER)
		esk_migrate_find(work, run, step->rowid, "obs_ref", message);
}

esk_status esk_migrate_settle(esk_migrate_work *work, const esk_migrate_run *run, esk_error *err)
{
	size_t at = run->first, end = run->first + run->count;
	esk_status status = ESK_OK;
	for (size_t i = at; i < end; i++)
		find_others(work, run, &work->plan.steps[i]);
	while (status == ESK_OK && at < end) {
		while (at < end && !esk_migrate_needs_settle(work, &work->plan.steps[at]))
			at++;
		if (at < end)
			status = settle_batch(work, run, &at, err);
	}
	return status;
}
