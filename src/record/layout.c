/* Where the blocks of a ring record's payload lie. */
#include "record/internal.h"

bool esk_rows_layout_compute(const esk_stream *stream, uint64_t rows, uint64_t *cells, uint64_t *valid,
	esk_rows_layout *ret_layout)
{
	uint64_t at = sizeof(esk_rows_head);
	for (size_t c = 0; c < stream->column_count; c++) {
		uint64_t bytes;
		cells[c] = at;
		if (!esk_mul_u64(rows, stream->cell_bytes[c], &bytes) || !esk_add_u64(at, bytes, &at) ||
			at > UINT64_MAX - 8)
			return false;
		at = esk_round_up(at, 8);
	}
	for (size_t c = 0; c < stream->column_count; c++) {
		valid[c] = 0;
		if (!stream->columns[c].nullable)
			continue;
		valid[c] = at;
		if (!esk_add_u64(at, rows, &at) || at > UINT64_MAX - 8)
			return false;
		at = esk_round_up(at, 8);
	}
	*ret_layout = (esk_rows_layout){.strings_offset = at, .total_bytes = at};
	return true;
}
