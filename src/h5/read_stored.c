/* Which chunks of a dataset are stored: for what goes over all of them, where the grid has far more places
 * than the file can hold chunks. Dimensions may be damaged, or the data sparse.
 *
 * libhdf5 iterates over an index with H5Dchunk_iter, from 1.14 on. Before, H5Dget_chunk_info counts from the
 * beginning in every call, so that a list of n chunks takes n * n / 2 steps. So the index that all files
 * within the bounds of 1.8 have, a B-tree of version 1, is read here: libhdf5 is asked for the number of
 * chunks in a handle that has not seen the index yet, and the driver notes where it reads first, which is the
 * root. The other indexes of 1.10 are listed by counting.
 *
 * HDF5 File Format Specification 3.0, III.A.1: a node is
 *
 *     "TREE"  type 1  level  entries u16  left  right  key  child  key  child … key
 *
 * and a key, of a leaf (level 0), is
 *
 *     size of the chunk u32  filter mask u32  offset in elements u64 per dimension, and one that is 0
 *
 * Everything is bounded before it is used: a child has the level below its parent's, so that there is no way
 * round, and no more nodes are read than the file has room for. */
#include "h5/read_internal.h"
#include <stdlib.h>
#include <string.h>

/* A grid that is cheap to walk beside reading the file: locating a chunk that is not there takes 0.5 us. */
#define WALK_CHUNKS 65536u
#define WALK_BYTES_A_CHUNK 1024u

#define MAX_LEVEL 16u /* 64 children and more a node */

typedef struct listing {
	const esk_h5_dataset *dataset;
	esk_h5_grid grid;
	uint64_t *numbers;
	uint64_t count;
	uint64_t capacity;
	bool no_memory;
	esk_error *fault; /* the first one */
} listing;

static void note_fault(listing *l, const char *what)
{
	if (l->fault->code == ESK_OK)
		esk_fail(l->fault, ESK_ECORRUPT, "%s: dataset %s: its index of chunks is damaged: %s",
			esk_h5_path(l->dataset->file), esk_h5_dataset_info(l->dataset)->path, what);
}

/* The chunk at `offset` (of rows, then within a cell) is stored. */
static void add(listing *l, const uint64_t *offset)
{
	const esk_h5_grid *grid = &l->grid;
	uint64_t number = offset[0] / grid->chunk_rows, whole = offset[0] % grid->chunk_rows;
	bool inside = offset[0] < grid->rows;
	for (uint32_t i = 0; i < grid->rank; i++) {
		uint64_t side = grid->chunk_shape[i], at = offset[i + 1];
		inside = inside && at < grid->shape[i];
		whole |= at % side;
		number = number * esk_h5_across(grid->shape[i], side) + at / side;
	}
	if (!inside || whole != 0) {
		note_fault(l, "it has a chunk outside of the dataset");
		return;
	}
	if (l->count == l->capacity) {
		uint64_t capacity = l->capacity == 0 ? 256 : 2 * l->capacity;
		uint64_t *grown = realloc(l->numbers, capacity * sizeof *grown);
		if (grown == NULL) {
			l->no_memory = true;
			return;
		}
		l->numbers = grown;
		l->capacity = capacity;
	}
	l->numbers[l->count++] = number;
}

/* ---- through libhdf5 ---- */

#if H5_VERSION_GE(1, 14, 0)

static int add_iterated(const hsize_t *offset, unsigned mask, haddr_t address, hsize_t size, void *arg)
{
	uint64_t at[ESK_MAX_RANK + 1];
	listing *l = arg;
	for (uint32_t i = 0; i <= l->grid.rank; i++)
		at[i] = offset[i];
	add(l, at);
	return l->no_memory ? H5_ITER_STOP : H5_ITER_CONT;
}

static esk_status list_stored(listing *l, esk_h5_dataset *dataset, esk_error *err)
{
	esk_status status = esk_h5_enter(dataset->file, err);
	if (status != ESK_OK)
		return status;
	if (H5Dchunk_iter(dataset->id, H5P_DEFAULT, add_iterated, l) < 0)
		note_fault(l, "libhdf5 cannot iterate over it");
	return esk_h5_leave(dataset->file, ESK_OK, err);
}

#else

static esk_status list_by_counting(listing *l, esk_h5_dataset *dataset, esk_error *err)
{
	esk_status status = esk_h5_enter(dataset->file, err);
	if (status != ESK_OK)
		return status;
	hid_t space = H5Dget_space(dataset->id);
	hsize_t count = 0, offset[ESK_MAX_RANK + 1], size;
	haddr_t address;
	unsigned mask;
	if (space < 0 || H5Dget_num_chunks(dataset->id, space, &count) < 0)
		note_fault(l, "libhdf5 cannot count it");
	for (hsize_t i = 0; i < count && !l->no_memory; i++) {
		uint64_t at[ESK_MAX_RANK + 1];
		if (H5Dget_chunk_info(dataset->id, space, i, offset, &mask, &address, &size) < 0) {
			note_fault(l, "libhdf5 cannot read it");
			break;
		}
		for (uint32_t d = 0; d <= l->grid.rank; d++)
			at[d] = offset[d];
		add(l, at);
	}
	esk_h5_drop(space);
	return esk_h5_leave(dataset->file, ESK_OK, err);
}

/* ---- the B-tree ---- */

typedef struct tree {
	esk_jfile *jfile;
	uint64_t base;
	size_t address_bytes;
	unsigned half_entries; /* a node has twice as many at most */
	uint64_t nodes_left;
} tree;

static uint64_t number_at(const uint8_t *bytes, size_t size)
{
	uint64_t number = 0;
	for (size_t i = 0; i < size; i++)
		number |= (uint64_t)bytes[i] << (8 * i);
	return number;
}

/* Where the index of the dataset begins, in a handle that has not read it yet; false where its index is
 * another one, or it has none. */
static bool find_root(esk_h5_dataset *dataset, tree *ret_tree, uint64_t *ret_address)
{
	uint8_t head[5];
	hsize_t count;
	size_t address_bytes = 0, length_bytes;
	unsigned half = 0;
	bool caught = false;
	if (esk_h5_enter(dataset->file, NULL) != ESK_OK)
		return false;
	hid_t space = H5Dget_space(dataset->id), plist = H5Fget_create_plist(dataset->file->id);
	if (space >= 0 && plist >= 0 && H5Pget_sizes(plist, &address_bytes, &length_bytes) >= 0 &&
		H5Pget_istore_k(plist, &half) >= 0) {
		esk_h5_driver_tree_begin();
		H5Dget_num_chunks(dataset->id, space, &count);
		caught = esk_h5_driver_tree_end(ret_address);
	}
	esk_h5_drop(plist);
	esk_h5_drop(space);
	if (esk_h5_leave(dataset->file, ESK_OK, NULL) != ESK_OK || !caught || address_bytes < 2 ||
		address_bytes > 8)
		return false;
	*ret_tree = (tree){.jfile = dataset->file->jfile,
		.base = dataset->file->base_address,
		.address_bytes = address_bytes,
		.half_entries = half,
		.nodes_left = esk_jfile_end(dataset->file->jfile) / (8 + 2 * address_bytes) + 1};
	return esk_jfile_read(ret_tree->jfile, *ret_address, head, sizeof head, NULL) == ESK_OK &&
	       memcmp(head, "TREE\1", 5) == 0;
}

static esk_status walk(listing *l, tree *t, uint64_t address, uint32_t level, esk_error *err);

static esk_status walk_entries(
	listing *l, tree *t, const uint8_t *entries, uint32_t count, uint32_t level, esk_error *err)
{
	size_t key_bytes = 8 + 8 * ((size_t)l->grid.rank + 2);
	esk_status status = ESK_OK;
	for (uint32_t i = 0; i < count && status == ESK_OK && !l->no_memory; i++) {
		const uint8_t *key = entries + i * (key_bytes + t->address_bytes);
		uint64_t child = number_at(key + key_bytes, t->address_bytes), address, at[ESK_MAX_RANK + 1];
		for (uint32_t d = 0; d <= l->grid.rank; d++)
			at[d] = number_at(key + 8 + 8 * d, 8);
		if (level == 0)
			add(l, at);
		else if (!esk_add_u64(child, t->base, &address))
			note_fault(l, "it leads out of the file");
		else
			status = walk(l, t, address, level - 1, err);
	}
	return status;
}

/* What cannot be followed is left out, and the rest is walked. */
static esk_status walk(listing *l, tree *t, uint64_t address, uint32_t level, esk_error *err)
{
	size_t head_bytes = 8 + 2 * t->address_bytes;
	uint8_t head[8 + 2 * 8];
	uint64_t end, file_end = esk_jfile_end(t->jfile);
	if (t->nodes_left == 0 || !esk_add_u64(address, head_bytes, &end) || end > file_end) {
		note_fault(l, "it leads out of the file");
		return ESK_OK;
	}
	t->nodes_left--;
	esk_status status = esk_jfile_read(t->jfile, address, head, head_bytes, err);
	if (status != ESK_OK)
		return status;
	uint32_t count = (uint32_t)number_at(head + 6, 2);
	size_t bytes = count * (8 + 8 * ((size_t)l->grid.rank + 2) + t->address_bytes);
	if (memcmp(head, "TREE\1", 5) != 0 || head[5] != level || count > 2 * t->half_entries ||
		end + bytes > file_end) {
		note_fault(l, "a part of it is not one");
		return ESK_OK;
	}
	uint8_t *entries = malloc(bytes + 1);
	if (entries == NULL)
		return esk_fail_memory(err, bytes, "a node of a B-tree");
	status = esk_jfile_read(t->jfile, end, entries, bytes, err);
	if (status == ESK_OK)
		status = walk_entries(l, t, entries, count, level, err);
	free(entries);
	return status;
}

static esk_status list_in(listing *l, esk_h5_dataset *dataset, esk_error *err)
{
	tree t;
	uint64_t root;
	uint8_t level;
	if (!find_root(dataset, &t, &root))
		return list_by_counting(l, dataset, err);
	esk_status status = esk_jfile_read(t.jfile, root + 5, &level, 1, err);
	if (status == ESK_OK && level > MAX_LEVEL) {
		note_fault(l, "it is too deep");
		return ESK_OK;
	}
	return status == ESK_OK ? walk(l, &t, root, level, err) : status;
}

/* In a handle of its own, whose libhdf5 has read nothing of the index yet. */
static esk_status list_stored(listing *l, esk_h5_dataset *dataset, esk_error *err)
{
	esk_h5 *file;
	esk_h5_dataset *again;
	esk_status status = esk_h5_open_read(dataset->file->os, dataset->file->path, &file, err);
	if (status != ESK_OK)
		return status;
	status = esk_h5_dataset_open(file, esk_h5_dataset_info(dataset)->path, &again, err);
	if (status == ESK_OK)
		status = list_in(l, again, err);
	esk_h5_close(file, NULL);
	return status;
}

#endif

/* ---- the list ---- */

static int compare_numbers(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
	return (a > b) - (a < b);
}

/* In order, each once. */
static void tidy(listing *l)
{
	uint64_t kept = 0;
	if (l->count > 0)
		qsort(l->numbers, l->count, sizeof *l->numbers, compare_numbers);
	for (uint64_t i = 0; i < l->count; i++) {
		if (kept > 0 && l->numbers[kept - 1] == l->numbers[i])
			note_fault(l, "it has a chunk twice");
		else
			l->numbers[kept++] = l->numbers[i];
	}
	l->count = kept;
}

esk_status esk_h5_list_chunks(esk_h5_dataset *dataset, esk_h5_chunk_list *ret_list, esk_error *err)
{
	esk_h5_chunk_list list = {0};
	listing l = {.dataset = dataset, .fault = &list.fault};
	esk_status status = esk_h5_grid_make(dataset, &l.grid, err);
	if (status != ESK_OK)
		return status;
	uint64_t cheap = WALK_CHUNKS + esk_jfile_end(dataset->file->jfile) / WALK_BYTES_A_CHUNK;
	list.count = l.grid.band_count * l.grid.band_chunks;
	if (list.count > cheap) {
		status = list_stored(&l, dataset, err);
		if (status == ESK_OK && l.no_memory)
			status = esk_fail_memory(err, l.capacity * sizeof *l.numbers, "a list of chunks");
		if (status == ESK_OK && esk_h5_is_stale(dataset->file))
			status = esk_h5_fail_stale(dataset->file, err);
		tidy(&l);
		list.count = l.count;
		list.numbers = l.numbers;
		list.sparse = true;
	}
	if (status != ESK_OK) {
		free(l.numbers);
		return status;
	}
	*ret_list = list;
	return ESK_OK;
}

void esk_h5_chunk_list_free(esk_h5_chunk_list *list)
{
	free(list->numbers);
	list->numbers = NULL;
}

/* ---- rows ---- */

esk_status esk_h5_row_walk_begin(esk_h5_row_walk *walk, esk_h5_dataset *dataset, esk_error *err)
{
	uint64_t bytes = 0;
	*walk = (esk_h5_row_walk){.info = esk_h5_dataset_info(dataset)};
	if (walk->info->chunked)
		return esk_h5_list_chunks(dataset, &walk->chunks, err);
	/* Never written, or virtual: what there is, is elsewhere. */
	esk_status status = esk_h5_stored_bytes(dataset, &bytes, err);
	walk->end = bytes > 0 ? walk->info->rows : 0;
	return status;
}

bool esk_h5_row_walk_next(esk_h5_row_walk *walk, uint64_t most, uint64_t *ret_row, uint64_t *ret_count)
{
	while (walk->row == walk->end) {
		uint64_t first, rows;
		if (walk->next_chunk == walk->chunks.count)
			return false;
		esk_h5_chunk_rows(
			walk->info, esk_h5_chunk_at(&walk->chunks, walk->next_chunk++), &first, &rows);
		if (first + rows <= walk->end)
			continue; /* of the same rows as the one before */
		walk->row = first;
		walk->end = first + rows;
	}
	*ret_row = walk->row;
	*ret_count = esk_min_u64(most, walk->end - walk->row);
	walk->row += *ret_count;
	return true;
}

void esk_h5_row_walk_end(esk_h5_row_walk *walk)
{
	esk_h5_chunk_list_free(&walk->chunks);
}
