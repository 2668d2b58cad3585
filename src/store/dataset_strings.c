/* Variable-length strings of any rows, as one allocation. */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>

/* One call. Strings of consecutive rows of one segment come as a block. */
typedef struct strings_call {
	const esk_dataset *dataset;
	const uint64_t *rows;
	size_t row_count;
	uint64_t elements; /* of a cell */
	esk_string *all;   /* point into the blocks */
	esk_string **blocks;
	size_t block_count;
} strings_call;

static void free_blocks(strings_call *call)
{
	while (call->block_count > 0)
		free(call->blocks[--call->block_count]);
}

/* Rows from rows[i] on that follow each other within `part`. */
static size_t run_within(const strings_call *call, size_t i, const esk_dataset_part *part)
{
	size_t run = 1;
	while (i + run < call->row_count && call->rows[i + run] == call->rows[i] + run &&
		call->rows[i + run] < part->first_row + part->rows)
		run++;
	return run;
}

static esk_status read_blocks(void *arg, esk_error *err)
{
	strings_call *call = arg;
	const esk_dataset *dataset = call->dataset;
	free_blocks(call); /* of a try before */
	for (size_t i = 0; i < call->row_count;) {
		uint64_t row = call->rows[i];
		if (row >= dataset->parts.rows)
			return esk_dataset_out_of_range(dataset, row, err);
		esk_status status = esk_dataset_check_covered(dataset, row, 1, err);
		if (status != ESK_OK)
			return status;
		const esk_dataset_part *part = dataset->parts.items;
		while (row >= part->first_row + part->rows)
			part++;
		size_t run = run_within(call, i, part);
		esk_string **block = &call->blocks[call->block_count];
		status = esk_h5_read_strings(part->data, row - part->first_row, run, block, err);
		if (status != ESK_OK)
			return status;
		call->block_count++;
		memcpy(call->all + i * call->elements, *block, run * call->elements * sizeof *call->all);
		i += run;
	}
	return ESK_OK;
}

static esk_status join_strings(const esk_string *all, size_t count, esk_string **ret_strings, esk_error *err)
{
	uint64_t bytes = count * sizeof *all;
	for (size_t i = 0; i < count; i++)
		bytes += all[i].size + 1;
	esk_string *joined = malloc(bytes + 1);
	if (joined == NULL)
		return esk_fail_memory(err, bytes, "strings");
	char *at = (char *)(joined + count);
	for (size_t i = 0; i < count; i++) {
		if (all[i].size > 0)
			memcpy(at, all[i].data, all[i].size);
		at[all[i].size] = '\0';
		joined[i] = (esk_string){at, all[i].size};
		at += all[i].size + 1;
	}
	*ret_strings = joined;
	return ESK_OK;
}

esk_status esk_dataset_read_strings(esk_dataset *dataset, const uint64_t *rows, size_t row_count,
	esk_string **ret_strings, esk_error *err)
{
	esk_status status = esk_dataset_check_readable(dataset, true, err);
	if (status != ESK_OK)
		return status;
	uint64_t elements = dataset->cell_bytes / sizeof(esk_string);
	size_t count = row_count * elements;
	strings_call call = {.dataset = dataset, .rows = rows, .row_count = row_count, .elements = elements};
	call.all = calloc(count + 1, sizeof *call.all);
	call.blocks = calloc(row_count + 1, sizeof *call.blocks);
	if (call.all == NULL || call.blocks == NULL)
		status = esk_fail_memory(err, count * sizeof *call.all, "strings");
	else
		status = esk_reader_read(dataset->reader, read_blocks, &call, err);
	if (status == ESK_OK)
		status = join_strings(call.all, count, ret_strings, err);
	free_blocks(&call);
	free(call.blocks);
	free(call.all);
	return status;
}

void esk_strings_free(esk_string *strings)
{
	free(strings);
}
