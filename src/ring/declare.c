/* Declarations: an append-only region of small texts, each known by its number.
 *
 *   | size, check | bytes, to a multiple of 8 | size, check | bytes … |   (unused)
 *                                                            ^ declared = {bytes used, how many}
 *
 * Whoever appends holds the lock and writes behind what is declared; one swap of `declared` makes the new one
 * exist. Who dies before leaves bytes that the next one overwrites (invariants 11 and 12 of shared.h).
 *
 * Uses: base. */
#include "ring/inside.h"

#include <string.h>

/* Calls for each declaration up to `number` and leaves *ret_at at it; ESK_ECORRUPT where one does not fit. */
static esk_status step_to(const esk_ring *ring, uint32_t number, uint64_t *ret_at, esk_error *err)
{
	uint64_t used = ring_pair_load(&ring->extension->declared).position;
	uint64_t at = 0;
	for (uint32_t i = 1;; i++) {
		const ring_declaration *one =
			(const ring_declaration *)(const void *)(ring->declarations + at);
		uint64_t left = used > at ? esk_min_u64(used, ring->declarations_bytes) - at : 0;
		if (left < sizeof *one || one->size_bytes > left - sizeof *one)
			return esk_fail(err, ESK_ECORRUPT,
				"ring %s: declaration %u, at byte %llu, does not fit into the %llu bytes "
				"that are declared",
				ring->path, i, (unsigned long long)at, (unsigned long long)used);
		if (i == number) {
			*ret_at = at;
			return ESK_OK;
		}
		at += sizeof *one + esk_round_up(one->size_bytes, 8);
	}
}

uint32_t esk_ring_declaration_count(const esk_ring *ring)
{
	return ring->extension != NULL ? (uint32_t)ring_pair_load(&ring->extension->declared).count : 0;
}

esk_status esk_ring_declaration(
	const esk_ring *ring, uint32_t number, const void **ret_bytes, size_t *ret_size, esk_error *err)
{
	uint32_t count = esk_ring_declaration_count(ring);
	uint64_t at;
	if (number == 0 || number > count)
		return esk_fail(err, ESK_ENOTFOUND, "ring %s has no declaration %u; it has %u", ring->path,
			number, count);
	esk_status status = step_to(ring, number, &at, err);
	if (status != ESK_OK)
		return status;
	const ring_declaration *one = (const ring_declaration *)(const void *)(ring->declarations + at);
	uint32_t size = one->size_bytes;
	uint32_t check = esk_crc32c(0, one + 1, size);
	if (check != one->check)
		return esk_fail(err, ESK_ECORRUPT,
			"ring %s: declaration %u has checksum %08x; its %u bytes give %08x", ring->path,
			number, one->check, size, check);
	*ret_bytes = one + 1;
	*ret_size = size;
	return ESK_OK;
}

/* The number of the declaration with these bytes; 0 if there is none. */
static uint32_t find(const esk_ring *ring, const void *bytes, size_t size, uint32_t check)
{
	ring_pair_value declared = ring_pair_load(&ring->extension->declared);
	uint64_t used = esk_min_u64(declared.position, ring->declarations_bytes);
	uint64_t at = 0;
	for (uint32_t i = 1; i <= declared.count && used - at >= sizeof(ring_declaration); i++) {
		const ring_declaration *one =
			(const ring_declaration *)(const void *)(ring->declarations + at);
		uint64_t left = used - at - sizeof *one;
		if (one->size_bytes > left)
			return 0;
		if (one->size_bytes == size && one->check == check && memcmp(one + 1, bytes, size) == 0)
			return i;
		at += sizeof *one + esk_min_u64(esk_round_up(one->size_bytes, 8), left);
	}
	return 0;
}

/* Under the lock. */
static esk_status append(
	esk_ring *ring, const void *bytes, size_t size, uint32_t check, uint32_t *ret_number, esk_error *err)
{
	ring_pair_value declared = ring_pair_load(&ring->extension->declared);
	uint64_t whole = sizeof(ring_declaration) + esk_round_up(size, 8);
	if (declared.position > ring->declarations_bytes ||
		whole > ring->declarations_bytes - declared.position)
		return esk_fail(err, ESK_ENOSPC,
			"ring %s: a declaration of %zu bytes does not fit; %llu of %llu bytes are taken by "
			"%llu others; make the ring with larger declarations_bytes",
			ring->path, size, (unsigned long long)declared.position,
			(unsigned long long)ring->declarations_bytes, (unsigned long long)declared.count);
	ring_declaration *one = (ring_declaration *)(void *)(ring->declarations + declared.position);
	*one = (ring_declaration){.size_bytes = (uint32_t)size, .check = check};
	memcpy(one + 1, bytes, size);
	ring_pair_swap(&ring->extension->declared, declared,
		(ring_pair_value){.position = declared.position + whole, .count = declared.count + 1});
	*ret_number = (uint32_t)declared.count + 1;
	return ESK_OK;
}

esk_status esk_ring_declare(
	esk_ring *ring, const void *bytes, size_t size, uint32_t *ret_number, esk_error *err)
{
	if (!ring->writable)
		return esk_fail(err, ESK_EACCES, "ring %s was attached for reading only", ring->path);
	if (size == 0 || bytes == NULL)
		return esk_fail(err, ESK_ERANGE, "ring %s: a declaration has at least one byte", ring->path);
	if (ring->extension == NULL || size > ring->declarations_bytes)
		return esk_fail(err, ESK_ENOSPC,
			"ring %s has room for %llu bytes of declarations, and this one has %zu; make the "
			"ring with larger declarations_bytes",
			ring->path, (unsigned long long)ring->declarations_bytes, size);
	uint32_t check = esk_crc32c(0, bytes, size);
	uint32_t number = find(ring, bytes, size, check); /* without the lock: most are declared already */
	ring_pair_value lock;
	if (number == 0) {
		esk_status status = esk_ring_lock(ring, "declaring", &lock, err);
		if (status != ESK_OK)
			return status;
		number = find(ring, bytes, size, check);
		if (number == 0)
			status = append(ring, bytes, size, check, &number, err);
		esk_ring_unlock(ring, lock);
		if (status != ESK_OK)
			return status;
	}
	*ret_number = number;
	return ESK_OK;
}
