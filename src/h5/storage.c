/* How much room a dataset takes. */
#include "h5/h5_internal.h"

esk_status esk_h5_stored_bytes(esk_h5_dataset *dataset, uint64_t *ret_bytes, esk_error *err)
{
	esk_status status = esk_h5_enter(dataset->file, err);
	if (status != ESK_OK)
		return status;
	if (dataset->id < 0)
		return esk_h5_leave(dataset->file,
			esk_fail(err, ESK_ENOTFOUND, "%s: \"%s\" was deleted", dataset->file->path,
				dataset->info.path),
			err);
	*ret_bytes =
		H5Dget_storage_size(dataset->id); /* 0 means none or failed: either way nothing to count */
	return esk_h5_leave(dataset->file, ESK_OK, err);
}
