/* Any text as a payload: what is looked at is read into a cell of exactly its size, with the same end; what
 * the first look refuses, no kind reads; the text around the leaves is never longer than the payload, but for
 * the "null" of each leaf. */
#include "../../profiles/replay/migrate_payload.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(int condition)
{
	if (!condition)
		abort();
}

static void read_as(const char *text, size_t size, const esk_scan_form *form, size_t end, esk_kind kind)
{
	size_t bytes = form->elements * (kind == ESK_BOOL || kind == ESK_U8 ? 1 : kind == ESK_F32 ? 4 : 8);
	void *cell = malloc(bytes);
	size_t at = 0;
	insist(cell != NULL);
	esk_scan_fault fault = esk_scan_read(text, size, &at, kind, form->rank, form->shape, cell);
	insist(fault == ESK_SCAN_OK ? at == end : fault == ESK_SCAN_VALUE && at <= end);
	bool flags_alone = form->has_flags && !form->has_numbers;
	insist((kind == ESK_BOOL) == flags_alone || fault != ESK_SCAN_OK);
	free(cell);
}

static void scan(const char *text, size_t size)
{
	static const esk_kind kinds[] = {ESK_BOOL, ESK_U8, ESK_I64, ESK_F32, ESK_F64};
	esk_scan_form form;
	size_t end = 0;
	esk_scan_fault fault = esk_scan_look(text, size, &end, &form);
	insist(end <= size);
	uint8_t few[64];
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		size_t at = 0;
		if (fault == ESK_SCAN_OK)
			read_as(text, size, &form, end, kinds[i]);
		else
			insist(esk_scan_read(text, size, &at, kinds[i], 2, (uint64_t[]){2, 3}, few) !=
				ESK_SCAN_OK);
		insist(at <= size);
	}
}

static void take_apart(const char *text, size_t size)
{
	esk_payload_survey *survey = calloc(1, sizeof *survey);
	esk_payload_form form;
	insist(survey != NULL);
	esk_payload_look(survey, text, size);
	esk_payload_wish wish = {.single = size % 2 == 0};
	insist(esk_payload_choose(survey, &wish, &form, NULL) == ESK_OK);
	size_t bytes = 0;
	for (size_t i = 0; i < form.leaf_count; i++) {
		form.leaves[i].offset = bytes;
		bytes += form.leaves[i].cell_bytes;
	}
	uint8_t *cells = malloc(bytes + 1);
	esk_payload_text around = {0};
	esk_payload_result result;
	insist(cells != NULL);
	if (esk_payload_read(&form, text, size, cells, &around, &result))
		insist(around.size <= size + 4 * form.leaf_count);
	else
		insist(result.fault[0] != '\0');
	free(around.data);
	free(cells);
	esk_payload_form_clear(&form);
	free(survey);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A block of its own, so that a byte too many is seen. */
	char *text = malloc(size > 0 ? size : 1);
	insist(text != NULL);
	if (size > 0)
		memcpy(text, data, size);
	size_t at = 0;
	scan(text, size);
	insist(esk_scan_skip(text, size, &at) != ESK_SCAN_OK || (at > 0 && at <= size));
	take_apart(text, size);
	free(text);
	return 0;
}
