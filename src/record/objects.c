/* What goes through the ring beside rows: attributes of groups, texts, and losses that happened upstream.
 * Like rows they are acknowledged on return, are in the next commit, and survive the death of the process; in
 * the order of one thread's calls. */
#include "record/internal.h"

#include <stdlib.h>
#include <string.h>

#define TEXTS_NAME "esker_texts"

/* ---- producers ---- */

static esk_status check_open(const esk_recorder *r, esk_error *err)
{
	if (r->fork_count != esk_os_fork_count())
		return esk_fail(err, ESK_ECLOSED, "run \"%s\" belongs to the parent process", r->name);
	return ESK_OK; /* whether it is closed, the ring says */
}

esk_status esk_record_reserve(esk_recorder *r, uint32_t stream, uint16_t kind, uint64_t bytes,
	const char *what, esk_ring_slot *ret_slot, esk_error *err)
{
	uint64_t most = esk_ring_max_payload(r->ring);
	if (bytes > most)
		return esk_fail(err, ESK_ERANGE,
			"run \"%s\": \"%s\" takes %llu bytes, a record takes at most %llu: give the run a "
			"larger "
			"ring (ring_bytes)",
			r->name, what, (unsigned long long)bytes, (unsigned long long)most);
	return esk_ring_reserve(r->ring, stream, kind, (uint32_t)bytes, ret_slot, err);
}

/* Attributes of an item stay with it; of the root and of any other group every segment has them. */
static bool lasting(esk_recorder *r, const char *path)
{
	esk_name_kind kind;
	return !esk_names_find(&r->names, path, &kind) || kind != ESK_NAME_ITEM;
}

static esk_status publish_attributes(
	esk_recorder *r, const char *path, const esk_attribute *attributes, size_t count, esk_error *err)
{
	esk_ring_slot slot;
	esk_attributes_head head = {
		.path_bytes = (uint32_t)strlen(path), .count = (uint32_t)count, .lasting = lasting(r, path)};
	uint64_t path_room = esk_round_up(head.path_bytes, 8);
	esk_status status = esk_record_reserve(r, 0, ESK_RECORD_ATTRIBUTES,
		sizeof head + path_room + esk_attributes_packed_bytes(attributes, count), path, &slot, err);
	if (status != ESK_OK)
		return status;
	uint8_t *at = slot.payload;
	memcpy(at, &head, sizeof head);
	memset(at + sizeof head, 0, path_room);
	memcpy(at + sizeof head, path, head.path_bytes);
	esk_attributes_pack(at + sizeof head + path_room, attributes, count);
	esk_ring_publish(r->ring, &slot);
	return ESK_OK;
}

esk_status esk_recorder_set_attributes(
	esk_recorder *r, const char *path, const esk_attribute *attributes, size_t count, esk_error *err)
{
	bool root = strcmp(path, "/") == 0, new = false;
	esk_status status = check_open(r, err);
	for (size_t i = 0; i < count && root && status == ESK_OK; i++)
		if (esk_attributes_counts_rows(r, attributes[i].name))
			status = esk_fail(err, ESK_EINVAL,
				"run \"%s\": the root attribute \"%s\" counts rows: choose another name",
				r->name, attributes[i].name);
	if (status == ESK_OK && !root) {
		status = esk_names_claim(&r->names, path, ESK_NAME_GROUP, &new, err);
		if (status != ESK_OK)
			return esk_fail_in(err, status, "run \"%s\"", r->name);
	}
	if (status == ESK_OK)
		status = publish_attributes(r, path, attributes, count, err);
	if (status != ESK_OK && new)
		esk_names_release(&r->names, path);
	return status;
}

static esk_status publish_text(esk_recorder *r, const char *path, const char *text, esk_error *err)
{
	esk_ring_slot slot;
	uint64_t path_bytes = strlen(path), text_bytes = strlen(text);
	esk_status status = esk_record_reserve(
		r, 0, ESK_RECORD_TEXT, sizeof(esk_text_head) + path_bytes + text_bytes, path, &slot, err);
	if (status != ESK_OK)
		return status;
	esk_text_head head = {.path_bytes = (uint32_t)path_bytes, .text_bytes = (uint32_t)text_bytes};
	uint8_t *at = slot.payload;
	memcpy(at, &head, sizeof head);
	memcpy(at + sizeof head, path, path_bytes);
	memcpy(at + sizeof head + path_bytes, text, text_bytes);
	esk_ring_publish(r->ring, &slot);
	return ESK_OK;
}

esk_status esk_recorder_set_text(esk_recorder *r, const char *path, const char *text, esk_error *err)
{
	bool new = false;
	esk_status status = check_open(r, err);
	if (status == ESK_OK && !esk_utf8_valid(text))
		status = esk_fail(
			err, ESK_EINVAL, "run \"%s\": the text of \"%s\" is not UTF-8", r->name, path);
	if (status != ESK_OK)
		return status;
	status = esk_names_claim(&r->names, path, ESK_NAME_TEXT, &new, err);
	if (status != ESK_OK)
		return esk_fail_in(err, status, "run \"%s\"", r->name);
	status = publish_text(r, path, text, err);
	if (status != ESK_OK && new)
		esk_names_release(&r->names, path);
	return status;
}

esk_status esk_stream_note_loss(esk_stream *stream, uint64_t records, uint64_t bytes, uint64_t first_sequence,
	uint64_t last_sequence, esk_error *err)
{
	esk_ring_slot slot;
	esk_loss loss = {.records = records,
		.bytes = bytes,
		.first_sequence = first_sequence,
		.last_sequence = last_sequence,
		.time_ns = (uint64_t)esk_now_ns()};
	esk_status status = esk_stream_check_open(stream, err);
	if (status == ESK_OK)
		status = esk_record_reserve(
			stream->recorder, stream->id, ESK_RECORD_LOSS, sizeof loss, stream->name, &slot, err);
	if (status != ESK_OK)
		return status;
	memcpy(slot.payload, &loss, sizeof loss);
	esk_ring_publish(stream->recorder->ring, &slot);
	return ESK_OK;
}

/* ---- the drain thread: attributes ---- */

/* Reads a path of `bytes` bytes at `from`; false where it is none that a group can have. */
static bool take_path(const uint8_t *from, uint64_t bytes, char ret_path[ESK_MAX_NAME + 1])
{
	if (bytes > ESK_MAX_NAME)
		return false;
	memcpy(ret_path, from, bytes);
	ret_path[bytes] = '\0';
	return esk_group_name_check(ret_path, "group", NULL) == ESK_OK;
}

/* What a failure of the segment means for a record: where something stands in its way that the names did not
 * know, since another program made it, the record cannot be taken, now or later. */
esk_status esk_apply_outcome(esk_recorder *r, esk_status status, esk_error *err)
{
	if (status == ESK_EEXIST || status == ESK_ETYPE) {
		esk_log(&r->logger, ESK_LOG_ERROR, "run \"%s\": %s", r->name, err->message);
		return ESK_ECORRUPT;
	}
	return status == ESK_ECORRUPT ? esk_fail_in(err, ESK_EIO, "run \"%s\"", r->name) : status;
}

static esk_status set_attributes(esk_recorder *r, const char *path, const esk_attribute *attributes,
	uint64_t count, bool kept, esk_error *err)
{
	esk_status status = strcmp(path, "/") == 0 ? ESK_OK : esk_h5_make_group(r->file, path, err);
	if (status == ESK_OK && kept)
		status = esk_attributes_keep(r, path, attributes, count, err);
	else if (status == ESK_OK)
		status = esk_attributes_set(r, path, attributes, count, err);
	return esk_apply_outcome(r, status, err);
}

esk_status esk_apply_attributes(esk_recorder *r, const uint8_t *payload, uint64_t size_bytes, esk_error *err)
{
	esk_attributes_head head;
	char path[ESK_MAX_NAME + 1];
	esk_attribute *attributes;
	if (size_bytes < sizeof head)
		return ESK_ECORRUPT;
	memcpy(&head, payload, sizeof head);
	uint64_t path_room = esk_round_up(head.path_bytes, 8);
	if (path_room > size_bytes - sizeof head || !take_path(payload + sizeof head, head.path_bytes, path))
		return ESK_ECORRUPT;
	const uint8_t *at = payload + sizeof head + path_room;
	esk_status status =
		esk_attributes_unpack(&at, payload + size_bytes, head.count, path, &attributes, err);
	if (status != ESK_OK)
		return status;
	status = set_attributes(r, path, attributes, head.count, head.lasting != 0, err);
	esk_attributes_free(attributes, head.count);
	return status;
}

/* ---- the drain thread: texts ---- */

void esk_texts_free(esk_kept_text *texts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(texts[i].text);
	free(texts);
}

static esk_kept_text *find_text(const esk_recorder *r, const char *path)
{
	for (size_t i = 0; i < r->text_count; i++)
		if (strcmp(r->texts[i].path, path) == 0)
			return &r->texts[i];
	return NULL;
}

/* Takes the text, which is the recorder's from then on; on failure too, for it is freed then. */
static esk_status keep_text(esk_recorder *r, const char *path, char *text, esk_error *err)
{
	esk_kept_text *kept = find_text(r, path);
	if (kept == NULL) {
		esk_kept_text *grown = realloc(r->texts, (r->text_count + 1) * sizeof *grown);
		if (grown == NULL) {
			free(text);
			return esk_fail_memory(err, sizeof *grown, "texts");
		}
		r->texts = grown;
		kept = &grown[r->text_count++];
		*kept = (esk_kept_text){0};
		strncpy(kept->path, path, sizeof kept->path - 1);
	}
	free(kept->text);
	kept->text = text;
	return ESK_OK;
}

esk_status esk_apply_text(esk_recorder *r, const uint8_t *payload, uint64_t size_bytes, esk_error *err)
{
	esk_text_head head;
	char path[ESK_MAX_NAME + 1];
	if (size_bytes < sizeof head)
		return ESK_ECORRUPT;
	memcpy(&head, payload, sizeof head);
	uint64_t room = size_bytes - sizeof head;
	if (head.path_bytes > room || head.text_bytes > room - head.path_bytes ||
		!take_path(payload + sizeof head, head.path_bytes, path))
		return ESK_ECORRUPT;
	char *text = strndup((const char *)payload + sizeof head + head.path_bytes, head.text_bytes);
	if (text == NULL)
		return esk_fail_memory(err, head.text_bytes, "a text");
	esk_status status = esk_apply_outcome(r, esk_h5_set_text_dataset(r->file, path, text, err), err);
	if (status != ESK_OK) {
		free(text);
		return status;
	}
	r->texts_dirty = true; /* their list */
	return keep_text(r, path, text, err);
}

esk_status esk_texts_adopt(esk_recorder *r, esk_h5 *file, esk_error *err)
{
	char *list = NULL, *rest = NULL;
	esk_status status = esk_h5_get_text(file, "/", TEXTS_NAME, &list, err);
	if (status == ESK_ENOTFOUND)
		return ESK_OK;
	for (char *path = list != NULL ? strtok_r(list, "\n", &rest) : NULL; path != NULL && status == ESK_OK;
		path = strtok_r(NULL, "\n", &rest)) {
		char *text;
		if (find_text(r, path) != NULL || esk_group_name_check(path, "text", NULL) != ESK_OK)
			continue;
		status = esk_h5_get_text_dataset(file, path, &text, err);
		if (status == ESK_OK)
			status = keep_text(r, path, text, err);
		else if (status == ESK_ENOTFOUND || status == ESK_ETYPE)
			status = ESK_OK; /* another program removed or changed it: it is not ours any more */
	}
	free(list);
	return status;
}

esk_status esk_texts_write(esk_recorder *r, esk_error *err)
{
	esk_text list = {0};
	esk_status status = ESK_OK;
	for (size_t i = 0; i < r->text_count && status == ESK_OK; i++) {
		esk_text_add(&list, "%s\n", r->texts[i].path);
		status = esk_h5_set_text_dataset(r->file, r->texts[i].path, r->texts[i].text, err);
	}
	if (status == ESK_OK && list.failed)
		status = esk_fail_memory(err, 1, "names");
	if (status == ESK_OK && list.data != NULL)
		status = esk_h5_set_text(r->file, "/", TEXTS_NAME, list.data, err);
	esk_text_free(&list);
	return status;
}

/* ---- the drain thread: losses ---- */

void esk_apply_loss_of(
	esk_recorder *r, const esk_stream *stream, const esk_loss *loss, uint64_t cause, uint64_t sequence)
{
	esk_gap gap = {.stream = stream->id,
		.row = stream->rows,
		.records = loss->records,
		.bytes = loss->bytes,
		.first_sequence = loss->first_sequence,
		.last_sequence = loss->last_sequence,
		.time_ns = loss->time_ns,
		.cause = cause};
	esk_drain_add_gap(r, &gap, sequence);
}

esk_status esk_apply_loss(esk_recorder *r, esk_stream *stream, const uint8_t *payload, uint64_t size_bytes,
	uint64_t sequence, esk_error *err)
{
	esk_loss loss;
	(void)err;
	if (stream == NULL || size_bytes < sizeof loss)
		return ESK_ECORRUPT;
	memcpy(&loss, payload, sizeof loss);
	esk_apply_loss_of(r, stream, &loss, ESK_CAUSE_OVERWRITTEN, sequence);
	return ESK_OK;
}
