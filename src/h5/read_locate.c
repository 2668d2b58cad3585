/* Where chunks are: a table per dataset, and libhdf5 for those that are not in it.
 *
 * H5Dget_chunk_info_by_coord walks the index from its beginning up to the chunk (1.10.8: 0.4 ms for the
 * 10,000th), so that a long recording would be located in quadratic time. H5Dread_chunk searches the index
 * (0.5 us): its read is caught in the driver, which notes address and size instead of reading
 * (esk_h5_driver_probe_begin). That also gives the offset in the file whatever the version thinks of user
 * blocks. */
#include "h5/read_internal.h"
#include <stdlib.h>
#include <string.h>

#define TABLE_FIRST_ENTRIES 64

#if H5_VERSION_GE(2, 0, 0)
#define READ_CHUNK H5Dread_chunk1 /* the one without the size of the buffer */
#else
#define READ_CHUNK H5Dread_chunk
#endif

/* ---- the table, under reader->lock ---- */

static size_t table_slot(const struct esk_h5_table_entry *entries, size_t capacity, uint64_t key)
{
	size_t at = (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (capacity - 1);
	while (entries[at].key != 0 && entries[at].key != key)
		at = (at + 1) & (capacity - 1);
	return at;
}

static bool table_find(const struct esk_h5_chunk_cache *cache, uint64_t chunk, esk_h5_place *ret_place)
{
	if (cache->capacity == 0)
		return false;
	size_t at = table_slot(cache->entries, cache->capacity, chunk + 1);
	if (cache->entries[at].key == 0)
		return false;
	*ret_place = cache->entries[at].place;
	return true;
}

static bool table_grow(struct esk_h5_chunk_cache *cache)
{
	size_t capacity = cache->capacity ? cache->capacity * 2 : TABLE_FIRST_ENTRIES;
	struct esk_h5_table_entry *entries = calloc(capacity, sizeof *entries);
	if (!entries)
		return false;
	for (size_t i = 0; i < cache->capacity; i++)
		if (cache->entries[i].key != 0)
			entries[table_slot(entries, capacity, cache->entries[i].key)] = cache->entries[i];
	free(cache->entries);
	cache->entries = entries;
	cache->capacity = capacity;
	return true;
}

/* Kept at most half full. Without memory the place is not kept: it can be asked for again. */
static void table_put(struct esk_h5_chunk_cache *cache, uint64_t chunk, const esk_h5_place *place)
{
	if (cache->count * 2 >= cache->capacity && !table_grow(cache))
		return;
	struct esk_h5_table_entry *entry =
		&cache->entries[table_slot(cache->entries, cache->capacity, chunk + 1)];
	cache->count += entry->key == 0;
	*entry = (struct esk_h5_table_entry){.key = chunk + 1, .place = *place};
}

static struct esk_h5_chunk_cache *cache_of(esk_h5_dataset *dataset)
{
	if (!dataset->chunk_cache)
		dataset->chunk_cache = calloc(1, sizeof *dataset->chunk_cache);
	return dataset->chunk_cache;
}

/* ---- asking libhdf5, under its lock ---- */

static void chunk_offset(const esk_h5_grid *grid, uint64_t chunk, hsize_t ret_offset[ESK_MAX_RANK + 1])
{
	uint64_t part = chunk % grid->band_chunks;
	ret_offset[0] = chunk / grid->band_chunks * grid->chunk_rows;
	for (uint32_t i = grid->rank; i-- > 0;) {
		uint64_t side = grid->chunk_shape[i], across = esk_h5_across(grid->shape[i], side);
		ret_offset[i + 1] = part % across * side;
		part /= across;
	}
}

static esk_status fail_index(const esk_h5_dataset *dataset, uint64_t chunk, esk_error *err)
{
	return esk_h5_fail(err, ESK_ECORRUPT,
		"%s: dataset %s: its index of chunks cannot be read at chunk %llu",
		esk_h5_path(dataset->file), esk_h5_dataset_info(dataset)->path, (unsigned long long)chunk);
}

static herr_t innermost_text(unsigned n, const H5E_error2_t *entry, void *arg)
{
	if (n == 0)
		*(bool *)arg = entry->desc && strstr(entry->desc, "not allocated");
	return 0;
}

/* H5Dget_chunk_storage_size fails for a chunk that was never written as it does for an index it cannot read.
 */
static bool says_not_allocated(void)
{
	bool says = false;
	H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, innermost_text, &says);
	return says;
}

/* The same for a libhdf5 that words it otherwise: slow, but it tells the two apart. */
static bool not_in_index(const esk_h5_dataset *dataset, const hsize_t *offset)
{
	haddr_t address = 0;
	hsize_t size = 0;
	unsigned mask = 0;
	return H5Dget_chunk_info_by_coord(dataset->id, offset, &mask, &address, &size) >= 0 &&
	       address == HADDR_UNDEF;
}

static esk_status place_ask(esk_h5_dataset *dataset, const esk_h5_grid *grid, uint64_t chunk,
	esk_h5_place *ret_place, esk_error *err)
{
	hsize_t offset[ESK_MAX_RANK + 1], size = 0;
	chunk_offset(grid, chunk, offset);
	if (H5Dget_chunk_storage_size(dataset->id, offset, &size) < 0) {
		if (!says_not_allocated() && !not_in_index(dataset, offset))
			return fail_index(dataset, chunk, err);
		size = 0;
	}
	esk_h5_place place = {.size_bytes = size};
	if (size > 0) {
		unsigned char nothing; /* the driver does not touch it */
		uint64_t probed = 0;
		esk_h5_driver_probe_begin();
		herr_t result = READ_CHUNK(dataset->id, H5P_DEFAULT, offset, &place.filter_mask, &nothing);
		bool caught = esk_h5_driver_probe_end(&place.address, &probed);
		if (result < 0 || !caught || probed != size)
			return fail_index(dataset, chunk, err);
	}
	*ret_place = place;
	return ESK_OK;
}

static esk_status places_ask(
	esk_h5_dataset *dataset, const esk_h5_grid *grid, esk_h5_task *tasks, size_t count, esk_error *err)
{
	esk_status status = esk_h5_enter(dataset->file, err);
	if (status != ESK_OK)
		return status;
	for (size_t i = 0; i < count && status == ESK_OK; i++)
		if (tasks[i].place_wanted)
			status = place_ask(dataset, grid, tasks[i].chunk, &tasks[i].place, err);
	return esk_h5_leave(dataset->file, status, err);
}

/* ---- both ---- */

/* Takes what the table has; the number of tasks that it does not have. SIZE_MAX: no memory. */
static size_t places_look_up(esk_h5_dataset *dataset, esk_h5_task *tasks, size_t count)
{
	struct esk_h5_reader *reader = dataset->file->reader;
	size_t missing = 0;
	pthread_mutex_lock(&reader->lock);
	const struct esk_h5_chunk_cache *cache = cache_of(dataset);
	for (size_t i = 0; cache && i < count; i++) {
		tasks[i].place_wanted =
			dataset->file->writable || !table_find(cache, tasks[i].chunk, &tasks[i].place);
		missing += tasks[i].place_wanted;
	}
	pthread_mutex_unlock(&reader->lock);
	return cache ? missing : SIZE_MAX;
}

static void places_keep(esk_h5_dataset *dataset, const esk_h5_task *tasks, size_t count)
{
	if (dataset->file->writable)
		return;
	struct esk_h5_reader *reader = dataset->file->reader;
	pthread_mutex_lock(&reader->lock);
	for (size_t i = 0; i < count; i++)
		if (tasks[i].place_wanted)
			table_put(dataset->chunk_cache, tasks[i].chunk, &tasks[i].place);
	pthread_mutex_unlock(&reader->lock);
}

esk_status esk_h5_locate_tasks(
	esk_h5_dataset *dataset, const esk_h5_grid *grid, esk_h5_task *tasks, size_t count, esk_error *err)
{
	size_t missing = places_look_up(dataset, tasks, count);
	if (missing == SIZE_MAX)
		return esk_fail_memory(err, sizeof *dataset->chunk_cache, "the table of a dataset's chunks");
	if (missing > 0) {
		esk_status status = places_ask(dataset, grid, tasks, count, err);
		if (status != ESK_OK)
			return status;
		places_keep(dataset, tasks, count);
	}
	for (size_t i = 0; i < count; i++)
		tasks[i].volatile_bytes =
			tasks[i].place.size_bytes == 0 ||
			esk_h5_band_rows(grid, tasks[i].chunk / grid->band_chunks) < grid->chunk_rows;
	return ESK_OK;
}

uint64_t esk_h5_chunk_count(const esk_h5_dataset *dataset)
{
	esk_h5_grid grid;
	if (esk_h5_grid_make(dataset, &grid, NULL) != ESK_OK)
		return 0;
	return grid.band_count * grid.band_chunks;
}

/* ---- the fill value ---- */

static esk_status fill_ask(esk_h5_dataset *dataset, unsigned char *ret_fill, esk_error *err)
{
	esk_status status = esk_h5_enter(dataset->file, err);
	if (status != ESK_OK)
		return status;
	H5D_fill_value_t defined = H5D_FILL_VALUE_UNDEFINED;
	hid_t plist = H5Dget_create_plist(dataset->id), type = H5Dget_type(dataset->id);
	bool got = plist >= 0 && type >= 0 && H5Pfill_value_defined(plist, &defined) >= 0 &&
		   (defined == H5D_FILL_VALUE_UNDEFINED || H5Pget_fill_value(plist, type, ret_fill) >= 0);
	if (!got)
		status = esk_h5_fail(err, ESK_ECORRUPT, "%s: dataset %s: its fill value cannot be read",
			esk_h5_path(dataset->file), esk_h5_dataset_info(dataset)->path);
	if (type >= 0)
		H5Tclose(type);
	if (plist >= 0)
		H5Pclose(plist);
	return esk_h5_leave(dataset->file, status, err);
}

static bool all_zero(const unsigned char *bytes, size_t size)
{
	return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

esk_status esk_h5_fill_value(
	esk_h5_dataset *dataset, size_t element_bytes, const unsigned char **ret_fill, esk_error *err)
{
	struct esk_h5_reader *reader = dataset->file->reader;
	pthread_mutex_lock(&reader->lock);
	struct esk_h5_chunk_cache *cache = cache_of(dataset);
	const unsigned char *fill = cache && cache->fill && !cache->fill_zero ? cache->fill : NULL;
	bool known = cache && cache->fill;
	pthread_mutex_unlock(&reader->lock);
	if (!known) {
		unsigned char *asked = calloc(1, element_bytes ? element_bytes : 1);
		if (!asked || !cache) {
			free(asked);
			return esk_fail_memory(err, element_bytes, "a fill value");
		}
		esk_status status = fill_ask(dataset, asked, err);
		if (status != ESK_OK) {
			free(asked);
			return status;
		}
		pthread_mutex_lock(&reader->lock);
		if (!cache->fill) {
			cache->fill_zero = all_zero(asked, element_bytes);
			cache->fill = asked;
			asked = NULL;
		}
		fill = cache->fill_zero ? NULL : cache->fill;
		pthread_mutex_unlock(&reader->lock);
		free(asked);
	}
	*ret_fill = fill;
	return ESK_OK;
}
