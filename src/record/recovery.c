/* Recovery of a run: its file as of the last commit, then what its ring held beyond. */
#include "record/internal.h"

#include <stdio.h>

/* Reads everything from the attached ring that the segment does not have, and commits it. */
static esk_status replay(esk_recorder *r, esk_error *err)
{
	r->ring_id = esk_ring_stream_id(r->ring);
	if (r->ring_id != r->head.ring_id) {
		esk_log(&r->logger, ESK_LOG_INFO, "run \"%s\": its ring held no acknowledged row", r->name);
		return ESK_OK;
	}
	if (esk_ring_boot_id(r->ring) != r->os->boot_id(r->os)) {
		esk_log(&r->logger, ESK_LOG_WARNING,
			"run \"%s\": its ring is from before a restart of the machine and not to be trusted",
			r->name);
		return ESK_OK;
	}
	r->drained_sequence = r->head.sequence;
	r->replayed_records = r->replayed_rows = 0;
	esk_missing_begin(r);
	esk_status status = esk_ring_skip_to(r->ring, r->head.sequence, err);
	for (uint64_t bytes = 1; bytes > 0 && status == ESK_OK;) {
		status = esk_drain_read(r, ESK_INFLIGHT_BYTES, &bytes, err);
		if (status == ESK_OK && esk_h5_overlay_bytes(r->file) > ESK_OVERLAY_LIMIT_BYTES)
			status = esk_commit_now(r, false, err);
	}
	if (status == ESK_OK && (r->replayed_records > 0 || r->gap_count > 0))
		status = esk_commit_now(r, false, err);
	if (status == ESK_OK)
		esk_log(&r->logger, ESK_LOG_INFO,
			"run \"%s\": recovered %llu rows in %llu records from its ring, from sequence %llu",
			r->name, (unsigned long long)r->replayed_rows,
			(unsigned long long)r->replayed_records,
			(unsigned long long)(r->head.sequence - r->replayed_records + 1));
	return status;
}

esk_status esk_recorder_recover_segment(esk_recorder *r, bool *ret_recovered, esk_error *err)
{
	char journal[ESK_PATH_BYTES + 16];
	snprintf(journal, sizeof journal, "%s-journal", r->file_path);
	*ret_recovered = esk_os_exists(journal) || !esk_os_exists(r->file_path);
	esk_status status = esk_segment_open_or_resume(r, err);
	if (status != ESK_OK)
		return status;
	status = esk_run_ring_find(r, err);
	if (status != ESK_OK)
		return status;
	*ret_recovered = *ret_recovered || r->ring_path[0] != '\0';
	if (r->ring != NULL) {
		status = replay(r, err);
		esk_ring_drain_end(r->ring);
		esk_ring_detach(r->ring);
		r->ring = NULL;
		if (status != ESK_OK)
			return status;
	}
	status = esk_run_ring_remove(r, err);
	r->ring_path[0] = '\0';
	r->drained_position = r->released_position = 0;
	r->drained_sequence = 0;
	return status;
}

esk_status esk_recorder_recover(const esk_recorder_options *options, bool *ret_recovered, esk_error *err)
{
	esk_recorder *r;
	esk_status status = esk_recorder_make(options, &r, err);
	if (status != ESK_OK)
		return status;
	bool recovered = false;
	if (!esk_run_ring_is_linked(r) && !esk_os_exists(r->file_path)) {
		/* Nobody recorded it when the machine stopped: its segments are sealed, and may stay so. */
	} else if (!esk_segment_any(r)) {
		/* It died before its first segment was complete: nothing was acknowledged. */
		status = esk_run_ring_discard(r, err);
		recovered = true;
	} else {
		status = esk_recorder_recover_segment(r, &recovered, err);
		esk_assembler_reset(r);
		if (status == ESK_OK) {
			status = esk_h5_close(r->file, err);
			r->file = NULL;
		}
	}
	esk_recorder_destroy(r);
	if (status == ESK_OK)
		*ret_recovered = recovered;
	return status;
}
