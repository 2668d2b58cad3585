/* Making, mapping and describing rings. Uses: base, os (files, mapping). */
#include "ring/inside.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXTENSION_OFFSET (2 * RING_PAGE_BYTES) /* behind the trailer's offset */
#define DEFAULT_BLOCK_TIMEOUT_NS 30000000000u

_Static_assert(sizeof(ring_trailer) <= EXTENSION_OFFSET, "the extension lies behind the trailer");

/* Changes with the offset of anything that two builds must agree on. */
static uint32_t fingerprint_v1(void)
{
	const uint32_t layout[] = {
		sizeof(ring_header),
		sizeof(ring_record),
		sizeof(ring_trailer),
		offsetof(ring_header, reserve),
		offsetof(ring_trailer, tail),
		offsetof(ring_trailer, space),
		offsetof(ring_trailer, drain),
		offsetof(ring_trailer, released),
		offsetof(ring_trailer, producers),
		offsetof(ring_trailer, intents),
		offsetof(ring_trailer, blob),
		RING_PRODUCERS,
		RING_INTENTS,
	};
	return esk_crc32c(0, layout, sizeof layout);
}

static uint32_t fingerprint(uint32_t version)
{
	const uint32_t layout[] = {
		fingerprint_v1(),
		EXTENSION_OFFSET,
		sizeof(ring_extension),
		sizeof(ring_place),
		sizeof(ring_declaration),
		offsetof(ring_extension, declared),
		offsetof(ring_extension, news),
		offsetof(ring_extension, asked),
		offsetof(ring_place, state),
		offsetof(ring_place, first),
		offsetof(ring_place, name),
		offsetof(ring_place, held),
		offsetof(ring_place, account_index),
		offsetof(ring_place, accounts),
		RING_SKIPPED_BITS,
	};
	return version == ESK_RING_VERSION ? fingerprint_v1() : esk_crc32c(0, layout, sizeof layout);
}

static uint64_t trailer_offset(uint64_t capacity)
{
	return esk_round_up(RING_HEADER_BYTES + capacity, RING_PAGE_BYTES);
}

static uint64_t file_bytes(uint32_t version, uint64_t capacity, const ring_config *config)
{
	uint64_t trailer = trailer_offset(capacity);
	if (version == ESK_RING_VERSION)
		return trailer + sizeof(ring_trailer);
	return esk_round_up(trailer + EXTENSION_OFFSET + sizeof(ring_extension) +
				    config->consumers * sizeof(ring_place) + config->declarations_bytes,
		RING_PAGE_BYTES);
}

/* Of everything that never changes after creation. */
static uint32_t constants_check(const ring_header *header, const ring_config *config)
{
	const uint64_t words[] = {ESK_RING_MAGIC, header->capacity_bytes,
		header->schema_len | (uint64_t)header->flags << 32, header->stream_id,
		header->version | (uint64_t)header->fingerprint << 32, header->owner_pid,
		(uint64_t)header->created_ns, header->trailer_offset, config->block_timeout_ns,
		config->boot_id, config->blob_check, config->consumers, config->declarations_bytes};
	/* Version 1 has neither of the last two. */
	size_t size = sizeof words - (header->version == ESK_RING_VERSION ? 2 * sizeof words[0] : 0);
	return esk_crc32c(0, words, size);
}

static esk_status check_options(const char *path, const esk_ring_options *options, esk_error *err)
{
	if (options->capacity_bytes < ESK_RING_MIN_BYTES || options->capacity_bytes > ESK_RING_MAX_BYTES)
		return esk_fail(err, ESK_EINVAL, "ring %s: %llu bytes asked for; a ring has %u to %llu", path,
			(unsigned long long)options->capacity_bytes, ESK_RING_MIN_BYTES,
			(unsigned long long)ESK_RING_MAX_BYTES);
	if (options->blob_bytes > ESK_RING_BLOB_BYTES || (options->blob_bytes > 0 && options->blob == NULL))
		return esk_fail(err, ESK_EINVAL, "ring %s: a blob of %u bytes; it takes up to %u", path,
			options->blob_bytes, ESK_RING_BLOB_BYTES);
	if (options->policy != ESK_BLOCK && options->policy != ESK_OVERWRITE && options->policy != ESK_REJECT)
		return esk_fail(err, ESK_EINVAL, "ring %s: %d is no policy", path, (int)options->policy);
	if (options->consumers > ESK_MAX_CONSUMERS)
		return esk_fail(err, ESK_EINVAL,
			"ring %s: places for %u consumers asked for; a ring has up to %d", path,
			options->consumers, ESK_MAX_CONSUMERS);
	if (options->declarations_bytes > RING_DECLARATIONS_MAX)
		return esk_fail(err, ESK_EINVAL,
			"ring %s: room for %llu bytes of declarations asked for; a ring has up to %llu", path,
			(unsigned long long)options->declarations_bytes, RING_DECLARATIONS_MAX);
	return ESK_OK;
}

static void write_constants(
	unsigned char *base, uint64_t capacity, uint32_t version, const esk_ring_options *options)
{
	ring_header *header = (ring_header *)(void *)base;
	ring_trailer *trailer = (ring_trailer *)(void *)(base + trailer_offset(capacity));
	if (options->blob_bytes > 0)
		memcpy(trailer->blob, options->blob, options->blob_bytes);
	trailer->config = (ring_config){
		.block_timeout_ns =
			options->block_timeout_ns != 0 ? options->block_timeout_ns : DEFAULT_BLOCK_TIMEOUT_NS,
		.consumers = options->consumers,
		.declarations_bytes = esk_round_up(options->declarations_bytes, 8),
		.boot_id = esk_os_posix()->boot_id(esk_os_posix()),
		.blob_check = esk_crc32c(0, trailer->blob, options->blob_bytes),
	};
	header->capacity_bytes = capacity;
	header->schema_len = options->blob_bytes;
	header->flags = (uint32_t)options->policy | (options->payload_checksums ? RING_FLAG_CHECKSUMS : 0);
	header->stream_id = options->stream_id != 0 ? options->stream_id : esk_random_u64() | 1;
	header->version = version;
	header->fingerprint = fingerprint(version);
	header->owner_pid = (uint64_t)getpid();
	header->created_ns = esk_now_ns();
	header->trailer_offset = trailer_offset(capacity);
	atomic_store(&header->reserve.count, 1);
	header->check = constants_check(header, &trailer->config);
	/* Release: who finds the magic finds the rest. */
	__atomic_store_n(&header->magic, ESK_RING_MAGIC, __ATOMIC_RELEASE);
}

static esk_status take_options(
	const char *path, const esk_ring_options *options, esk_ring_options *ret_options, esk_error *err)
{
	esk_ring_options taken = {.struct_size = sizeof taken};
	if (options == NULL || options->struct_size < sizeof options->struct_size)
		return esk_fail(err, ESK_EINVAL,
			"ring %s: its options have no struct_size; start from ESK_RING_OPTIONS_INIT", path);
	esk_struct_take(&taken, sizeof taken, options);
	esk_status status = check_options(path, &taken, err);
	if (status == ESK_OK)
		*ret_options = taken;
	return status;
}

esk_status esk_ring_create(
	const char *path, const esk_ring_options *given, esk_ring **ret_ring, esk_error *err)
{
	esk_ring_options taken;
	esk_status status = take_options(path, given, &taken, err);
	if (status != ESK_OK)
		return status;
	const esk_ring_options *options = &taken;
	const esk_os *os = esk_os_posix();
	uint64_t capacity = esk_round_up(options->capacity_bytes, RING_PAGE_BYTES);
	uint32_t version = options->consumers > 0 || options->declarations_bytes > 0
				   ? ESK_RING_VERSION_CONSUMERS
				   : ESK_RING_VERSION;
	uint64_t size = file_bytes(version, capacity,
		&(ring_config){.consumers = options->consumers,
			.declarations_bytes = esk_round_up(options->declarations_bytes, 8)});
	int fd;
	void *base = NULL;
	status = esk_os_open(os, path, O_RDWR | O_CREAT | O_EXCL, 0600, &fd, err);
	if (status != ESK_OK)
		return status;
	status = esk_os_allocate(fd, path, size, err);
	if (status != ESK_OK)
		goto file;
	status = esk_os_map(fd, path, (size_t)size, true, &base, err);
	if (status != ESK_OK)
		goto file;
	write_constants(base, capacity, version, options);
	esk_os_unmap(base, (size_t)size);
	status = esk_ring_map(path, true, ret_ring, err);
	if (status != ESK_OK)
		goto file;
	if (options->prefault)
		esk_os_prefault((*ret_ring)->header, (*ret_ring)->mapped_bytes);
	os->close(os, fd);
	return ESK_OK;

file:
	os->close(os, fd);
	esk_os_unlink(os, path, NULL);
	return status;
}

/* ---- attaching ---- */

static esk_status check_header(const char *path, const ring_header *header, esk_error *err)
{
	if (header->magic != ESK_RING_MAGIC)
		return esk_fail(err, ESK_ECORRUPT,
			"%s is not a ring: it starts with %016llx instead of %016llx", path,
			(unsigned long long)header->magic, (unsigned long long)ESK_RING_MAGIC);
	if (header->version != ESK_RING_VERSION && header->version != ESK_RING_VERSION_CONSUMERS)
		return esk_fail(err, ESK_EVERSION,
			"ring %s is of version %u and this Esker knows versions %u and %u; use the Esker "
			"that made it",
			path, header->version, ESK_RING_VERSION, ESK_RING_VERSION_CONSUMERS);
	if (header->fingerprint != fingerprint(header->version))
		return esk_fail(err, ESK_EVERSION,
			"ring %s has layout %08x and this Esker has %08x; use the Esker that made it", path,
			header->fingerprint, fingerprint(header->version));
	uint64_t capacity = header->capacity_bytes;
	if (capacity < ESK_RING_MIN_BYTES || capacity > ESK_RING_MAX_BYTES || capacity % RING_PAGE_BYTES != 0)
		return esk_fail(err, ESK_ECORRUPT,
			"ring %s: its header says a capacity of %llu bytes, which no ring has", path,
			(unsigned long long)capacity);
	if (header->trailer_offset != trailer_offset(capacity))
		return esk_fail(err, ESK_ECORRUPT,
			"ring %s: its header says the trailer is at %llu; expected %llu", path,
			(unsigned long long)header->trailer_offset,
			(unsigned long long)trailer_offset(capacity));
	if (header->schema_len > ESK_RING_BLOB_BYTES)
		return esk_fail(err, ESK_ECORRUPT,
			"ring %s: its header says a blob of %u bytes; at most %u fit", path,
			header->schema_len, ESK_RING_BLOB_BYTES);
	if ((header->flags & RING_FLAG_POLICY) > ESK_REJECT)
		return esk_fail(err, ESK_ECORRUPT, "ring %s: its header says policy %u, which is none", path,
			header->flags & RING_FLAG_POLICY);
	return ESK_OK;
}

/* The rest of the sizes, which stand in the trailer of a file that has at least that. */
static esk_status check_size(
	const char *path, const ring_header *header, const ring_config *config, uint64_t size, esk_error *err)
{
	bool extended = header->version == ESK_RING_VERSION_CONSUMERS;
	if (extended && (config->consumers > ESK_MAX_CONSUMERS ||
				config->declarations_bytes > RING_DECLARATIONS_MAX ||
				config->declarations_bytes % 8 != 0 ||
				(config->consumers == 0 && config->declarations_bytes == 0)))
		return esk_fail(err, ESK_ECORRUPT,
			"ring %s: its trailer says %u consumers and %llu bytes of declarations, which no "
			"ring has",
			path, config->consumers, (unsigned long long)config->declarations_bytes);
	uint64_t expected = file_bytes(header->version, header->capacity_bytes, config);
	if (size != expected)
		return esk_fail(err, ESK_ECORRUPT,
			"ring %s has %llu bytes; with a capacity of %llu it must have %llu", path,
			(unsigned long long)size, (unsigned long long)header->capacity_bytes,
			(unsigned long long)expected);
	return ESK_OK;
}

/* Reads and checks what the mapping of a file of `size` bytes relies on. */
static esk_status load_constants(int fd, const char *path, uint64_t size, ring_header *ret_header,
	ring_config *ret_config, esk_error *err)
{
	const esk_os *os = esk_os_posix();
	esk_status status = esk_os_read(os, fd, path, ret_header, sizeof *ret_header, 0, err);
	if (status == ESK_OK)
		status = check_header(path, ret_header, err);
	if (status == ESK_OK)
		status = esk_os_read(
			os, fd, path, ret_config, sizeof *ret_config, ret_header->trailer_offset, err);
	if (status == ESK_OK)
		status = check_size(path, ret_header, ret_config, size, err);
	return status;
}

static bool is_boundary(uint64_t position, uint64_t capacity)
{
	return position <= RING_POSITION_MAX && position % 8 == 0 &&
	       capacity - position % capacity >= RING_RECORD_BYTES;
}

static esk_status check_positions(const esk_ring *ring, esk_error *err)
{
	/* The tail first: the head does not fall behind it meanwhile. */
	uint64_t tail = atomic_load(&ring->trailer->tail.position);
	ring_pair_value reserve = ring_pair_load(&ring->header->reserve);
	uint64_t head = reserve.position;
	if (!is_boundary(head, ring->capacity) || !is_boundary(tail, ring->capacity) || tail > head ||
		(head - tail > ring->capacity && atomic_load(&ring->trailer->tail.position) == tail))
		return esk_fail(err, ESK_ECORRUPT,
			"ring %s: head %llu and tail %llu do not bound its records (capacity %llu)",
			ring->path, (unsigned long long)head, (unsigned long long)tail,
			(unsigned long long)ring->capacity);
	uint64_t sequence = reserve.count & ~RING_SEALED;
	if (sequence == 0 || sequence - 1 > head / RING_RECORD_BYTES)
		return esk_fail(err, ESK_ECORRUPT,
			"ring %s: next sequence %llu cannot be, with its head at %llu", ring->path,
			(unsigned long long)sequence, (unsigned long long)head);
	return ESK_OK;
}

static esk_status check_constants(
	const esk_ring *ring, const ring_header *header, const ring_config *config, esk_error *err)
{
	uint32_t check = constants_check(header, config);
	if (check != header->check)
		return esk_fail(err, ESK_ECORRUPT,
			"ring %s: its header has checksum %08x; its fields give %08x", ring->path,
			header->check, check);
	check = esk_crc32c(0, ring->trailer->blob, header->schema_len); /* at most its size: check_header */
	if (check != config->blob_check)
		return esk_fail(err, ESK_ECORRUPT, "ring %s: its blob has checksum %08x; its bytes give %08x",
			ring->path, config->blob_check, check);
	return ESK_OK;
}

static void fill_extension(esk_ring *ring, const ring_config *config)
{
	unsigned char *at = (unsigned char *)ring->trailer + EXTENSION_OFFSET;
	ring->extension = (ring_extension *)(void *)at;
	ring->places = (ring_place *)(void *)(at + sizeof(ring_extension));
	ring->consumers = config->consumers;
	ring->declarations = (unsigned char *)(ring->places + config->consumers);
	ring->declarations_bytes = config->declarations_bytes;
}

static void fill(esk_ring *ring, const ring_header *header, const ring_config *config)
{
	ring->capacity = header->capacity_bytes;
	ring->max_payload = esk_min_u64(
		(ring->capacity / 4 - RING_RECORD_BYTES) & ~(uint64_t)7, UINT32_MAX - RING_PAGE_BYTES);
	ring->stream_id = header->stream_id;
	ring->policy = (esk_policy)(header->flags & RING_FLAG_POLICY);
	ring->checksums = (header->flags & RING_FLAG_CHECKSUMS) != 0;
	ring->data = (unsigned char *)ring->header + RING_HEADER_BYTES;
	ring->trailer = (ring_trailer *)(void *)((unsigned char *)ring->header + header->trailer_offset);
	ring->block_timeout_ns = config->block_timeout_ns;
	ring->boot_id = esk_os_posix()->boot_id(esk_os_posix());
	if (header->version == ESK_RING_VERSION_CONSUMERS)
		fill_extension(ring, config);
}

esk_status esk_ring_map(const char *path, bool writable, esk_ring **ret_ring, esk_error *err)
{
	const esk_os *os = esk_os_posix();
	int fd;
	uint64_t size;
	ring_header header;
	ring_config config;
	void *base = NULL;
	esk_status status = esk_os_open(os, path, writable ? O_RDWR : O_RDONLY, 0, &fd, err);
	if (status != ESK_OK)
		return status;
	esk_ring *ring = aligned_alloc(_Alignof(esk_ring), sizeof *ring);
	char *name = strdup(path);
	if (ring == NULL || name == NULL) {
		status = esk_fail_memory(err, sizeof *ring, "a mapping of a ring");
		goto memory;
	}
	memset(ring, 0, sizeof *ring);
	ring->path = name;
	ring->writable = writable;
	status = esk_os_size(os, fd, path, &size, err);
	if (status == ESK_OK)
		status = load_constants(fd, path, size, &header, &config, err);
	if (status == ESK_OK)
		status = esk_os_map(fd, path, (size_t)size, writable, &base, err);
	if (status != ESK_OK)
		goto memory;
	ring->header = base;
	ring->mapped_bytes = (size_t)size;
	fill(ring, &header, &config);
	status = check_constants(ring, &header, &config, err);
	if (status == ESK_OK)
		status = check_positions(ring, err);
	if (status == ESK_OK && ring->extension != NULL)
		status = esk_ring_check_extension(ring, err);
	if (status != ESK_OK)
		goto mapping;
	os->close(os, fd);
	*ret_ring = ring;
	return ESK_OK;

mapping:
	esk_os_unmap(base, (size_t)size);
memory:
	free(ring);
	free(name);
	os->close(os, fd);
	return status;
}

esk_status esk_ring_attach(const char *path, esk_ring **ret_ring, esk_error *err)
{
	return esk_ring_map(path, true, ret_ring, err);
}

void esk_ring_detach(esk_ring *ring)
{
	if (ring == NULL)
		return;
	esk_ring_drain_end(ring);
	esk_ring_producer_leave(ring);
	esk_os_unmap_aside(ring->header, ring->mapped_bytes);
	free(ring->path);
	free(ring);
}

/* ---- describing ---- */

const char *esk_ring_path(const esk_ring *ring)
{
	return ring->path;
}

void *esk_ring_data(esk_ring *ring, uint64_t *ret_bytes)
{
	*ret_bytes = ring->capacity;
	return ring->data;
}

uint64_t esk_ring_stream_id(const esk_ring *ring)
{
	return ring->stream_id;
}

uint64_t esk_ring_capacity(const esk_ring *ring)
{
	return ring->capacity;
}

const void *esk_ring_blob(const esk_ring *ring, uint32_t *ret_size)
{
	*ret_size = (uint32_t)esk_min_u64(ring->header->schema_len, ESK_RING_BLOB_BYTES);
	return ring->trailer->blob;
}

uint64_t esk_ring_boot_id(const esk_ring *ring)
{
	return ring->trailer->config.boot_id;
}

uint64_t esk_ring_max_payload(const esk_ring *ring)
{
	return ring->max_payload;
}

/* Published records that were evicted behind the drain's back and that it has not come across yet. */
static uint64_t undiscovered(const esk_ring *ring, ring_pair_value tail)
{
	uint64_t published = atomic_load(&ring->trailer->cursor.published);
	ring_pair_value reserve = ring_pair_load(&ring->header->reserve);
	uint64_t sequence = reserve.count & ~RING_SEALED;
	if (tail.position < reserve.position) {
		ring_view view = {.sequence = 0};
		esk_ring_inspect(ring, tail.position, &view);
		if (view.sequence == 0 || view.sequence > sequence)
			return 0; /* not told yet */
		sequence = view.sequence;
	}
	uint64_t passed = sequence - 1 - ring_skipped(tail);
	return published != RING_UNKNOWN && passed > published ? passed - published : 0;
}

/* The account of the consumer that lost most. */
static void worst_loss(const esk_ring *ring, esk_ring_stats *stats)
{
	for (uint32_t i = 0; i < ring->consumers; i++) {
		esk_consumer_info info = {.struct_size = sizeof info};
		if (!esk_ring_consumer_at(ring, i, &info) || info.lost_bytes <= stats->lost_bytes)
			continue;
		stats->lost_records = info.lost_records;
		stats->lost_bytes = info.lost_bytes;
	}
}

static void consumers_stats(const esk_ring *ring, esk_ring_stats *ret_stats)
{
	uint64_t kept_from = esk_ring_kept_from(ring);
	ring_pair_value reserve = ring_pair_load(&ring->header->reserve); /* after: not behind it */
	uint64_t used = reserve.position > kept_from ? reserve.position - kept_from : 0;
	*ret_stats = (esk_ring_stats){
		.capacity_bytes = ring->capacity,
		.used_bytes = used,
		.unread_bytes = used,
		.head_position = reserve.position,
		.tail_position = kept_from,
		.last_sequence = (reserve.count & ~RING_SEALED) - 1,
	};
	worst_loss(ring, ret_stats);
}

void esk_ring_get_stats(const esk_ring *ring, esk_ring_stats *ret_stats)
{
	if (ring->consumers > 0) {
		consumers_stats(ring, ret_stats);
		return;
	}
	ring_trailer *trailer = ring->trailer;
	ring_pair_value tail = ring_pair_load(&trailer->tail);
	ring_pair_value reserve = ring_pair_load(&ring->header->reserve);
	uint64_t cursor = atomic_load(&trailer->cursor.position);
	uint64_t read = esk_max_u64(cursor, tail.position);
	*ret_stats = (esk_ring_stats){
		.capacity_bytes = ring->capacity,
		.used_bytes = reserve.position - tail.position,
		.unread_bytes = reserve.position > read ? reserve.position - read : 0,
		.head_position = reserve.position,
		.tail_position = tail.position,
		.last_sequence = (reserve.count & ~RING_SEALED) - 1,
		.lost_records = atomic_load(&trailer->cursor.lost_records),
		.lost_bytes = atomic_load(&trailer->cursor.lost_bytes),
	};
	if (ring->policy == ESK_OVERWRITE && tail.position > cursor) {
		ret_stats->lost_records += undiscovered(ring, tail);
		ret_stats->lost_bytes += tail.position - cursor;
	}
}
