/* Instruments' rings: making and finding them, and writing raw bytes and record batches into them. */
#include "rings.h"
#include <esker/profile.h>

#include <esker/arrow_encode.h>
#include <esker/arrow_store.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MIB (1ull << 20)
#define SHM_DIRECTORY "/dev/shm"
#define CONSUMERS 32u
#define DECLARATIONS_BYTES MIB

/* ---- making ---- */

static esk_status make_options(uint64_t capacity_mb, const esk_ring_options *overrides,
	esk_ring_options *ret_options, esk_error *err)
{
	esk_ring_options options = ESK_RING_OPTIONS_INIT;
	if (capacity_mb == 0 || capacity_mb > ESK_DAQ_MAX_CAPACITY_MB)
		return esk_fail(err, ESK_ERANGE, "a ring of %llu MiB: expected 1 to %u",
			(unsigned long long)capacity_mb, ESK_DAQ_MAX_CAPACITY_MB);
	if (overrides != NULL)
		esk_struct_take(&options, sizeof options, overrides);
	options.struct_size = sizeof options;
	options.capacity_bytes = capacity_mb * MIB;
	if (options.consumers == 0)
		options.consumers = CONSUMERS;
	if (options.declarations_bytes == 0)
		options.declarations_bytes = DECLARATIONS_BYTES;
	*ret_options = options;
	return ESK_OK;
}

esk_status esk_daq_ring_create(const char *path, uint64_t capacity_mb, const esk_ring_options *overrides,
	esk_ring **ret_ring, esk_error *err)
{
	esk_ring_options options;
	esk_status status = make_options(capacity_mb, overrides, &options, err);
	return status == ESK_OK ? esk_ring_create(path, &options, ret_ring, err) : status;
}

esk_status esk_daq_ring_open(const char *path, esk_ring **ret_ring, esk_error *err)
{
	return esk_ring_attach(path, ret_ring, err);
}

esk_status esk_daq_ring_path(
	const char *store_path, const char *name, char *buf, size_t buf_bytes, esk_error *err)
{
	esk_status status = esk_name_check(name, "ring", err);
	if (status != ESK_OK)
		return status;
	if (snprintf(buf, buf_bytes, "%s/spool/daq/%s.ring", store_path, name) >= (int)buf_bytes)
		return esk_fail(
			err, ESK_ERANGE, "the path of ring \"%s\" in %s is too long", name, store_path);
	return ESK_OK;
}

/* ---- in a store ---- */

static esk_status make_folder(const char *store_path, esk_error *err)
{
	char path[ESK_DAQ_PATH_BYTES];
	struct stat info;
	if (snprintf(path, sizeof path, "%s/esker.db", store_path) >= (int)sizeof path ||
		stat(path, &info) != 0)
		return esk_fail(err, ESK_ENOTFOUND, "%s is no store (it has no esker.db)", store_path);
	snprintf(path, sizeof path, "%s/spool/daq", store_path);
	if (mkdir(path, 0700) != 0 && errno != EEXIST)
		return esk_fail_errno(err, errno, "cannot make %s", path);
	return ESK_OK;
}

/* Whether shared memory takes the ring and leaves as much again for others. */
static bool shm_has_room(uint64_t bytes)
{
	struct statvfs room;
	return statvfs(SHM_DIRECTORY, &room) == 0 && (uint64_t)room.f_bavail * room.f_frsize / 2 > bytes;
}

/* Where the link `path` leads; "" if it is no link. */
static void read_link(const char *path, char *target, size_t target_bytes)
{
	ssize_t size = readlink(path, target, target_bytes - 1);
	target[size > 0 ? size : 0] = '\0';
}

/* Makes the link first, then the ring: no ring is ever lost sight of. A link to nothing is what a death in
 * between, or another boot, left: its place is taken. Who comes second meets ESK_EEXIST, here or in
 * esk_ring_create. */
static esk_status link_to_shm(
	const char *path, const char *name, char *ret_target, size_t target_bytes, esk_error *err)
{
	uint64_t number = (uint64_t)getpid();
	struct stat info;
	FILE *random = fopen("/dev/urandom", "rb");
	if (random != NULL) {
		(void)!fread(&number, sizeof number, 1, random);
		fclose(random);
	}
	snprintf(ret_target, target_bytes, SHM_DIRECTORY "/esker-daq-%016llx.ring",
		(unsigned long long)number);
	if (symlink(ret_target, path) == 0)
		return ESK_OK;
	if (errno != EEXIST)
		return esk_fail_errno(err, errno, "cannot make the link %s", path);
	if (stat(path, &info) == 0)
		return esk_fail(err, ESK_EEXIST, "there is a ring \"%s\" already: %s", name, path);
	read_link(path, ret_target, target_bytes);
	if (strncmp(ret_target, SHM_DIRECTORY "/esker-daq-", sizeof SHM_DIRECTORY "/esker-daq-" - 1) != 0)
		return esk_fail(err, ESK_EEXIST, "%s is there, and is no link to a ring", path);
	return ESK_OK;
}

esk_status esk_daq_ring_create_in(const char *store_path, const char *name, uint64_t capacity_mb,
	const esk_ring_options *overrides, esk_ring **ret_ring, esk_error *err)
{
	char path[ESK_DAQ_PATH_BYTES], target[ESK_DAQ_PATH_BYTES];
	esk_ring_options options;
	esk_status status = make_options(capacity_mb, overrides, &options, err);
	if (status == ESK_OK)
		status = esk_daq_ring_path(store_path, name, path, sizeof path, err);
	if (status == ESK_OK)
		status = make_folder(store_path, err);
	if (status != ESK_OK)
		return status;
	if (!shm_has_room(options.capacity_bytes)) {
		struct stat info; /* a link left over, to nothing, gives way to the file */
		if (lstat(path, &info) == 0 && S_ISLNK(info.st_mode) && stat(path, &info) != 0)
			unlink(path);
		return esk_ring_create(path, &options, ret_ring, err);
	}
	status = link_to_shm(path, name, target, sizeof target, err);
	if (status != ESK_OK)
		return status;
	status = esk_ring_create(target, &options, ret_ring, err);
	if (status != ESK_OK && status != ESK_EEXIST)
		unlink(path);
	return status;
}

/* ---- writing ---- */

esk_status esk_daq_write(esk_ring *ring, const void *data, size_t size, esk_error *err)
{
	return esk_ring_write(ring, 0, ESK_DAQ_BYTES, data, size, NULL, err);
}

struct esk_daq_source {
	esk_ring *ring;
	esk_arrow_encoder *encoder;
	uint32_t number;           /* of the declaration */
	struct ArrowSchema schema; /* without release: of a source for one batch */
};

/* What a writer would have to skip is refused here, where somebody can do something about it. */
static esk_status open_source(
	esk_daq_source *source, const char *instrument, const struct ArrowSchema *schema, esk_error *err)
{
	size_t schema_bytes;
	const char *stream = instrument != NULL ? instrument : ESK_DAQ_DEFAULT_INSTRUMENT;
	esk_status status = esk_arrow_encoder_create(schema, 0, &source->encoder, err);
	if (status == ESK_OK)
		status = esk_arrow_storable(stream, schema, err);
	if (status != ESK_OK)
		return status;
	const void *message = esk_arrow_encoder_schema(source->encoder, &schema_bytes);
	return esk_daq_declare(source->ring, instrument, message, schema_bytes, &source->number, err);
}

esk_status esk_daq_source_open(esk_ring *ring, const char *instrument, const struct ArrowSchema *schema,
	esk_daq_source **ret_source, esk_error *err)
{
	esk_daq_source *source = calloc(1, sizeof *source);
	if (source == NULL)
		return esk_fail_memory(err, sizeof *source, "a source");
	source->ring = ring;
	esk_status status = open_source(source, instrument, schema, err);
	if (status == ESK_OK)
		status = esk_arrow_schema_copy(schema, &source->schema, err);
	if (status != ESK_OK) {
		esk_daq_source_close(source);
		return status;
	}
	*ret_source = source;
	return ESK_OK;
}

void esk_daq_source_close(esk_daq_source *source)
{
	if (source == NULL)
		return;
	esk_arrow_encoder_destroy(source->encoder);
	if (source->schema.release != NULL)
		source->schema.release(&source->schema);
	free(source);
}

esk_status esk_daq_source_check(
	const esk_daq_source *source, const struct ArrowSchema *schema, esk_error *err)
{
	return esk_arrow_same_schema(&source->schema, schema, err);
}

esk_status esk_daq_source_write(esk_daq_source *source, const struct ArrowArray *array, esk_error *err)
{
	size_t bytes, used;
	esk_ring_slot slot;
	esk_status status = esk_arrow_encoder_batch_bytes(source->encoder, array, &bytes, err);
	if (status != ESK_OK)
		return status;
	if (bytes > esk_ring_max_payload(source->ring))
		return esk_fail(err, ESK_ERANGE,
			"a batch of %lld rows takes %zu bytes, and ring %s takes %llu in one record: split "
			"it",
			(long long)array->length, bytes, esk_ring_path(source->ring),
			(unsigned long long)esk_ring_max_payload(source->ring));
	status = esk_ring_reserve(source->ring, source->number, ESK_DAQ_BATCH, (uint32_t)bytes, &slot, err);
	if (status != ESK_OK)
		return status;
	status = esk_arrow_encoder_batch(source->encoder, array, slot.payload, bytes, &used, err);
	if (status == ESK_OK)
		esk_ring_publish(source->ring, &slot);
	else
		esk_ring_abandon(source->ring, &slot);
	return status;
}

esk_status esk_daq_write_arrow(esk_ring *ring, const char *instrument, const struct ArrowSchema *schema,
	const struct ArrowArray *array, esk_error *err)
{
	esk_daq_source once = {.ring = ring};
	esk_status status = open_source(&once, instrument, schema, err);
	if (status == ESK_OK)
		status = esk_daq_source_write(&once, array, err);
	esk_arrow_encoder_destroy(once.encoder);
	return status;
}
