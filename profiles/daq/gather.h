/* Record batches of one schema, one after the other, made into one: what many small records of a ring are
 * appended as. */
#ifndef ESK_DAQ_GATHER_H
#define ESK_DAQ_GATHER_H

#include <esker/arrow.h>

typedef struct esk_daq_gather esk_daq_gather;

/* Makes one for batches of `schema`, which is not kept. *ret_gather is NULL, and the call succeeds, where
 * batches of the schema cannot be gathered: dictionaries, of which each batch has its own, and types that
 * Esker does not store. Errors: ESK_ENOMEM. */
esk_status esk_daq_gather_create(
	const struct ArrowSchema *schema, esk_daq_gather **ret_gather, esk_error *err);
void esk_daq_gather_destroy(esk_daq_gather *gather); /* NULL is allowed */

/* Copies a batch behind those that are there. It must have passed esk_arrow_validate, or come from a decoder.
 * On failure nothing was added. Errors: ESK_ENOMEM, ESK_ERANGE (32-bit offsets do not reach as far: empty it
 * first). */
esk_status esk_daq_gather_add(esk_daq_gather *gather, const struct ArrowArray *batch, esk_error *err);

uint64_t esk_daq_gather_rows(const esk_daq_gather *gather);
uint64_t esk_daq_gather_bytes(const esk_daq_gather *gather); /* of its buffers, about */

/* What was gathered, as one struct array; borrowed until the next add, empty or destroy. */
const struct ArrowArray *esk_daq_gather_batch(esk_daq_gather *gather);

/* Forgets the rows and keeps the memory. */
void esk_daq_gather_empty(esk_daq_gather *gather);

/* Bytes of rows [first, first + rows) of an array in memory: values, offsets and bitmaps, about; 0 for what
 * the schema does not know. For batches that passed esk_arrow_validate. */
uint64_t esk_daq_array_bytes(
	const struct ArrowSchema *schema, const struct ArrowArray *array, uint64_t first, uint64_t rows);

#endif
