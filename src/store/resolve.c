/* Refs -> arrays: a small cache of open readers, and batches grouped by dataset so that each chunk is read
 * once. */
#include "store/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the cache ---- */

/* The reader of `run`, kept open; `references` holds it until release_reader. */
static esk_status borrow_reader(esk_store *store, const char *run, esk_reader **ret_reader, esk_error *err)
{
	pthread_mutex_lock(&store->lock);
	size_t at = 0;
	while (at < ESK_RESOLVE_READERS && store->readers[at] != NULL &&
		strcmp(store->readers[at]->name, run) != 0)
		at++;
	esk_reader *reader = at < ESK_RESOLVE_READERS ? store->readers[at] : NULL;
	if (reader == NULL) {
		pthread_mutex_unlock(
			&store->lock); /* opening asks the catalogue, whose sink takes the lock */
		esk_status status = esk_reader_open(store, run, &reader, err);
		if (status != ESK_OK)
			return status;
		pthread_mutex_lock(&store->lock);
		for (at = 0; at < ESK_RESOLVE_READERS - 1 && store->readers[at] != NULL; at++)
			;
		while (at > 0 && store->readers[at] != NULL && store->readers[at]->references > 0)
			at--; /* the least recently used that nobody reads with */
		if (store->readers[at] != NULL && store->readers[at]->references > 0) {
			reader->references =
				UINT64_MAX; /* all are in use: this one is closed when it is given back */
			pthread_mutex_unlock(&store->lock);
			*ret_reader = reader;
			return ESK_OK;
		}
		esk_reader_close(store->readers[at]);
	}
	memmove(&store->readers[1], &store->readers[0], at * sizeof *store->readers);
	store->readers[0] = reader;
	reader->references++;
	pthread_mutex_unlock(&store->lock);
	*ret_reader = reader;
	return ESK_OK;
}

static void release_reader(esk_store *store, esk_reader *reader)
{
	pthread_mutex_lock(&store->lock);
	bool uncached = reader->references == UINT64_MAX;
	if (!uncached)
		reader->references--;
	pthread_mutex_unlock(&store->lock);
	if (uncached)
		esk_reader_close(reader);
}

/* ---- one ref ---- */

static esk_status allocate(
	const esk_dataset *dataset, const esk_ref *ref, uint64_t rows, esk_array *ret, esk_error *err)
{
	bool with_rows = ref->kind != ESK_REF_INDEX && !dataset->scalar;
	uint64_t bytes;
	if (!esk_mul_u64(rows, dataset->cell_bytes, &bytes) || bytes > SIZE_MAX - 64)
		return esk_fail(err, ESK_ERANGE, "\"%s\": %llu rows are too many", dataset->path,
			(unsigned long long)rows);
	*ret = (esk_array){.dtype = dataset->column.dtype, .size_bytes = bytes};
	if (with_rows)
		ret->shape[ret->rank++] = rows;
	memcpy(ret->shape + ret->rank, dataset->column.shape, dataset->column.rank * sizeof *ret->shape);
	ret->rank += dataset->column.rank;
	if (dataset->column.dtype.kind == ESK_STRING)
		return ESK_OK; /* read_strings allocates */
	ret->data = aligned_alloc(64, esk_round_up(esk_max_u64(bytes, 1), 64));
	return ret->data != NULL ? ESK_OK : esk_fail_memory(err, bytes, "an array");
}

/* Rows that `ref` means; looks again in the file where the dataset is shorter: it may be growing. */
static esk_status rows_of(
	esk_dataset *dataset, const esk_ref *ref, uint64_t *ret_start, uint64_t *ret_rows, esk_error *err)
{
	uint64_t rows = esk_dataset_rows(dataset);
	if ((ref->kind == ESK_REF_WHOLE || ref->stop > rows) &&
		esk_reader_refresh(dataset->reader, err) == ESK_OK)
		rows = esk_dataset_rows(dataset);
	*ret_start = ref->kind == ESK_REF_WHOLE ? 0 : ref->start;
	*ret_rows = ref->kind == ESK_REF_WHOLE ? rows : ref->stop - ref->start;
	if (*ret_start > rows || *ret_rows > rows - *ret_start)
		return esk_fail(err, ESK_ERANGE,
			"\"%s\" of run \"%s\" has %llu rows, %llu:%llu was asked for", dataset->path,
			ref->run, (unsigned long long)rows, (unsigned long long)ref->start,
			(unsigned long long)ref->stop);
	return ESK_OK;
}

static esk_status read_string_array(
	esk_dataset *dataset, uint64_t start, uint64_t count, esk_array *array, esk_error *err)
{
	uint64_t *rows = malloc((count + 1) * sizeof *rows);
	if (rows == NULL)
		return esk_fail_memory(err, count * sizeof *rows, "rows");
	for (uint64_t i = 0; i < count; i++)
		rows[i] = start + i;
	esk_string *strings = NULL;
	esk_status status = esk_dataset_read_strings(dataset, rows, count, &strings, err);
	array->data = strings;
	free(rows);
	return status;
}

/* ---- batches ---- */

typedef struct target {
	esk_ref ref;
	esk_reader *reader;
	esk_dataset *dataset;
	uint64_t start;
	uint64_t rows;
	size_t position; /* in the caller's order */
} target;

static esk_status prepare(esk_store *store, const char *text, target *t, esk_array *array, esk_error *err)
{
	esk_status status = esk_ref_parse(text, &t->ref, err);
	if (status == ESK_OK)
		status = borrow_reader(store, t->ref.run, &t->reader, err);
	if (status == ESK_OK)
		status = esk_reader_find(t->reader, t->ref.path, &t->dataset, err);
	if (status == ESK_OK)
		status = rows_of(t->dataset, &t->ref, &t->start, &t->rows, err);
	if (status == ESK_OK)
		status = allocate(t->dataset, &t->ref, t->rows, array, err);
	return status;
}

static int compare_targets(const void *left, const void *right)
{
	const target *a = left, *b = right;
	if (a->dataset != b->dataset)
		return a->dataset < b->dataset ? -1 : 1;
	return (a->start > b->start) - (a->start < b->start);
}

/* Reads the targets [first, first + count), all of one dataset. */
static esk_status read_group(const target *targets, size_t count, esk_array *arrays, esk_error *err)
{
	esk_dataset *dataset = targets[0].dataset;
	esk_status status = ESK_OK;
	if (dataset->column.dtype.kind == ESK_STRING) {
		for (size_t i = 0; i < count && status == ESK_OK; i++)
			status = read_string_array(dataset, targets[i].start, targets[i].rows,
				&arrays[targets[i].position], err);
		return status;
	}
	esk_h5_rows inline_pieces[8];
	esk_h5_rows *pieces = count <= 8 ? inline_pieces : malloc(count * sizeof *pieces);
	if (pieces == NULL)
		return esk_fail_memory(err, count * sizeof *pieces, "pieces");
	for (size_t i = 0; i < count; i++)
		pieces[i] = (esk_h5_rows){.row = targets[i].start,
			.count = targets[i].rows,
			.out = arrays[targets[i].position].data};
	status = esk_dataset_read_pieces(dataset, pieces, count, err);
	if (pieces != inline_pieces)
		free(pieces);
	return status;
}

static esk_status read_groups(target *targets, size_t count, esk_array *arrays, esk_error *err)
{
	esk_status status = ESK_OK;
	qsort(targets, count, sizeof *targets, compare_targets);
	for (size_t first = 0; first < count && status == ESK_OK;) {
		size_t group = 1;
		while (first + group < count && targets[first + group].dataset == targets[first].dataset)
			group++;
		status = read_group(&targets[first], group, arrays, err);
		first += group;
	}
	return status;
}

esk_status esk_store_resolve_batch(
	esk_store *store, const char *const *refs, size_t ref_count, esk_array *ret_arrays, esk_error *err)
{
	target one = {0};
	target *targets = ref_count == 1 ? &one : calloc(ref_count + 1, sizeof *targets);
	esk_array *arrays = calloc(ref_count + 1, sizeof *arrays);
	esk_status status = ESK_OK;
	if (targets == NULL || arrays == NULL)
		status = esk_fail_memory(err, ref_count * sizeof *targets, "a batch");
	for (size_t i = 0; i < ref_count && status == ESK_OK; i++) {
		targets[i].position = i;
		status = prepare(store, refs[i], &targets[i], &arrays[i], err);
		if (status != ESK_OK)
			esk_fail_in(err, status, "%.150s", refs[i] != NULL ? refs[i] : "(NULL)");
	}
	if (status == ESK_OK)
		status = read_groups(targets, ref_count, arrays, err);
	for (size_t i = 0; targets != NULL && i < ref_count; i++)
		if (targets[i].reader != NULL)
			release_reader(store, targets[i].reader);
	for (size_t i = 0; arrays != NULL && i < ref_count; i++) {
		if (status == ESK_OK)
			ret_arrays[i] = arrays[i];
		else
			esk_array_release(&arrays[i]);
	}
	if (targets != &one)
		free(targets);
	free(arrays);
	return status;
}

esk_status esk_store_resolve(esk_store *store, const char *ref, esk_array *ret_array, esk_error *err)
{
	return esk_store_resolve_batch(store, &ref, 1, ret_array, err);
}

void esk_array_release(esk_array *array)
{
	if (array == NULL)
		return;
	free(array->data);
	*array = (esk_array){0};
}
