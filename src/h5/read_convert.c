/* Elements that need conversion in chunks that libhdf5 cannot decode: decoded here, converted by libhdf5. The
 * way for files with, say, big-endian numbers under h5py's lzf where no plugin is installed. */
#include "h5/read_internal.h"
#include <stdlib.h>
#include <string.h>

static void type_close(hid_t type)
{
	esk_h5_lock();
	H5Tclose(type);
	esk_h5_unlock();
}

/* The type in the file (new; close it). ESK_EUNSUPPORTED, with `err` as it was, where chunks cannot be
 * decoded here. */
static esk_status file_type_open(esk_h5_dataset *dataset, hid_t *ret_type, esk_error *err)
{
	const esk_h5_info *info = esk_h5_dataset_info(dataset);
	if (!info->chunked || esk_pipeline_check(&info->pipeline, NULL) != ESK_OK)
		return ESK_EUNSUPPORTED;
	esk_status status = esk_h5_enter(dataset->file, err);
	if (status != ESK_OK)
		return status;
	unsigned options = 0;
	hid_t plist = H5Dget_create_plist(dataset->id), type = H5Dget_type(dataset->id);
	if (plist < 0 || type < 0)
		status = esk_h5_fail(err, ESK_ECORRUPT, "%s: dataset %s: its type cannot be read",
			esk_h5_path(dataset->file), info->path);
	else if (H5Pget_chunk_opts(plist, &options) < 0 || options != 0)
		status = ESK_EUNSUPPORTED; /* edge chunks without filters, of which their masks say nothing */
	if (plist >= 0)
		H5Pclose(plist);
	status = esk_h5_leave(dataset->file, status, err);
	if (status == ESK_OK)
		*ret_type = type;
	else if (type >= 0)
		type_close(type);
	return status;
}

/* In place: `data` has room for the elements in either type. */
static esk_status convert(const esk_h5_dataset *dataset, hid_t type, size_t elements, void *data,
	void *background, esk_error *err)
{
	esk_status status = ESK_OK;
	esk_h5_lock();
	if (H5Tconvert(type, dataset->memory_type, elements, data, background, H5P_DEFAULT) < 0)
		status =
			esk_h5_fail(err, ESK_EUNSUPPORTED, "%s: dataset %s: its elements cannot be converted",
				esk_h5_path(dataset->file), esk_h5_dataset_info(dataset)->path);
	esk_h5_unlock();
	return status;
}

/* Decodes all pieces, in the file's type, one after the other into `data`. */
static esk_status read_as_stored(esk_h5_dataset *dataset, esk_pool *pool, const esk_h5_grid *grid,
	const esk_h5_rows *pieces, size_t piece_count, unsigned char *data, bool *ret_volatile,
	esk_error *err)
{
	esk_h5_rows *moved = malloc((piece_count + 1) * sizeof *moved);
	if (!moved)
		return esk_fail_memory(err, piece_count * sizeof *moved, "the plan of a read");
	for (size_t i = 0; i < piece_count; i++) {
		moved[i] = (esk_h5_rows){.row = pieces[i].row, .count = pieces[i].count, .out = data};
		data += pieces[i].count * grid->cell_bytes;
	}
	esk_status status = esk_h5_read_raw(dataset, pool, grid, moved, piece_count, ret_volatile, err);
	free(moved);
	return status;
}

static esk_status read_and_convert(esk_h5_dataset *dataset, esk_pool *pool, hid_t type,
	const esk_h5_rows *pieces, size_t piece_count, bool *ret_volatile, esk_error *err)
{
	esk_h5_grid grid;
	esk_status status = esk_h5_grid_make(dataset, &grid, err);
	if (status != ESK_OK)
		return status;
	uint64_t memory_bytes = esk_h5_dataset_info(dataset)->column.dtype.size_bytes;
	uint64_t cell_elements = grid.cell_bytes / grid.element_bytes, elements = 0, bytes;
	for (size_t i = 0; i < piece_count; i++)
		if (!esk_add_u64(elements, pieces[i].count * cell_elements, &elements))
			return esk_fail_memory(err, SIZE_MAX, "elements to convert");
	if (!esk_mul_u64(elements, esk_max_u64(grid.element_bytes, memory_bytes), &bytes))
		return esk_fail_memory(err, SIZE_MAX, "elements to convert");
	unsigned char *data = malloc(bytes + 1), *background = calloc(1, bytes + 1);
	if (!data || !background)
		status = esk_fail_memory(err, bytes, "elements to convert");
	else
		status = read_as_stored(dataset, pool, &grid, pieces, piece_count, data, ret_volatile, err);
	if (status == ESK_OK)
		status = convert(dataset, type, elements, data, background, err);
	const unsigned char *at = data;
	for (size_t i = 0; i < piece_count && status == ESK_OK; i++) {
		uint64_t size = pieces[i].count * cell_elements * memory_bytes;
		if (size > 0)
			memcpy(pieces[i].out, at, size);
		at += size;
	}
	free(background);
	free(data);
	return status;
}

esk_status esk_h5_read_converted(esk_h5_dataset *dataset, esk_pool *pool, const esk_h5_rows *pieces,
	size_t piece_count, bool *ret_volatile, esk_error *err)
{
	hid_t type;
	esk_status status = file_type_open(dataset, &type, err);
	if (status != ESK_OK)
		return status;
	status = read_and_convert(dataset, pool, type, pieces, piece_count, ret_volatile, err);
	type_close(type);
	return status;
}
