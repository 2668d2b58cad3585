/* h5py's lzf filter (32000). The LZF format is a row of items:
 *
 *     000nnnnn  data                n + 1 bytes as they are, 1 to 32
 *     lllooooo  oooooooo            l + 2 bytes (l = 1 to 6) from o + 1 bytes back, 1 to 8192
 *     111ooooo  llllllll  oooooooo  the same with 7 + that many + 2 bytes, up to 264
 *
 * May use: base. */
#include "codec/stage.h"
#include <stdlib.h>
#include <string.h>

enum {
	LITERAL_MAX = 32,
	DISTANCE_MAX = 8192,
	MATCH_MIN = 3,
	MATCH_MAX = 264,
	TABLE_BITS = 14,
};

esk_status esk_lzf_check(const esk_filter *filter, esk_error *err)
{
	return ESK_OK;
}

static uint32_t hash3(const uint8_t *in)
{
	uint32_t word = (uint32_t)in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16;
	return (word * 2654435761u) >> (32 - TABLE_BITS);
}

/* Appends a run of bytes as literals; NULL when they do not fit. */
static uint8_t *put_literals(uint8_t *to, const uint8_t *to_end, const uint8_t *from, size_t count)
{
	while (count > 0) {
		size_t run = count < LITERAL_MAX ? count : LITERAL_MAX;
		if ((size_t)(to_end - to) < run + 1)
			return NULL;
		*to++ = (uint8_t)(run - 1);
		memcpy(to, from, run);
		to += run;
		from += run;
		count -= run;
	}
	return to;
}

static uint8_t *put_match(uint8_t *to, const uint8_t *to_end, size_t distance, size_t length)
{
	if (to_end - to < 3)
		return NULL;
	size_t back = distance - 1;
	size_t code = length - 2;
	if (code < 7) {
		*to++ = (uint8_t)(code << 5 | back >> 8);
	} else {
		*to++ = (uint8_t)(7 << 5 | back >> 8);
		*to++ = (uint8_t)(code - 7);
	}
	*to++ = (uint8_t)back;
	return to;
}

static size_t match_length(const uint8_t *a, const uint8_t *b, size_t limit)
{
	size_t length = 0;
	while (length + 8 <= limit) {
		uint64_t x, y;
		memcpy(&x, a + length, 8);
		memcpy(&y, b + length, 8);
		if (x != y)
			return length + (size_t)__builtin_ctzll(x ^ y) /
						8; /* little-endian: the lowest byte comes first */
		length += 8;
	}
	while (length < limit && a[length] == b[length])
		length++;
	return length;
}

esk_status esk_lzf_encode(const esk_filter *filter, esk_scratch *scratch, const uint8_t *in, size_t size,
	uint8_t *out, size_t capacity, size_t *ret_size, esk_error *err)
{
	*ret_size = 0;
	if (size > UINT32_MAX)
		return ESK_OK;
	size_t table_bytes = sizeof(uint32_t) << TABLE_BITS;
	if (scratch->lzf_table == NULL && (scratch->lzf_table = malloc(table_bytes)) == NULL)
		return esk_fail_memory(err, table_bytes, "the lzf compressor");
	/* The table holds the last position of each hash. Position 0 stands for "none" as well: a candidate
	 * is always compared, so a wrong one costs time only. */
	uint32_t *table = memset(scratch->lzf_table, 0, table_bytes);

	uint8_t *to = out;
	const uint8_t *to_end = out + capacity;
	size_t position = 1;
	size_t literals_from = 0;
	while (to != NULL && position + MATCH_MIN <= size) {
		uint32_t *entry = &table[hash3(in + position)];
		size_t candidate = *entry;
		*entry = (uint32_t)position;
		size_t distance = position - candidate;
		if (distance > DISTANCE_MAX || memcmp(in + candidate, in + position, MATCH_MIN) != 0) {
			/* The longer nothing matched, the larger the step: noise is passed over quickly. */
			position += 1 + ((position - literals_from) >> 7);
			continue;
		}
		size_t length =
			match_length(in + candidate, in + position, esk_min_u64(size - position, MATCH_MAX));
		to = put_literals(to, to_end, in + literals_from, position - literals_from);
		if (to != NULL)
			to = put_match(to, to_end, distance, length);
		position += length;
		literals_from = position;
		if (position + MATCH_MIN <= size) {
			table[hash3(in + position - 1)] = (uint32_t)(position - 1);
			table[hash3(in + position - 2)] = (uint32_t)(position - 2);
		}
	}
	if (to != NULL)
		to = put_literals(to, to_end, in + literals_from, size - literals_from);
	if (to != NULL)
		*ret_size = (size_t)(to - out);
	return ESK_OK;
}

/* Copies `length` bytes from `distance` back, where the two may overlap. */
static void copy_back(uint8_t *to, size_t distance, size_t length)
{
	const uint8_t *from = to - distance;
	if (distance == 1) {
		memset(to, *from, length);
		return;
	}
	while (length > distance) {
		memcpy(to, from, distance);
		to += distance;
		length -= distance;
		distance *= 2; /* what was copied now repeats itself: the next piece may be twice as long */
	}
	memcpy(to, from, length);
}

esk_status esk_lzf_decode(const esk_filter *filter, esk_scratch *scratch, const uint8_t *in, size_t size,
	uint8_t *out, size_t capacity, size_t limit, size_t *ret_size, esk_error *err)
{
	size_t read = 0;
	size_t written = 0;
	while (read < size && !(capacity < limit && written == capacity)) {
		size_t control = in[read++];
		bool literal = control < LITERAL_MAX;
		size_t length = literal ? control + 1 : (control >> 5) + 2;
		size_t distance = 0;
		if (literal) {
			if (size - read < length)
				return esk_fail(err, ESK_ECORRUPT,
					"lzf: the data end inside a run of %zu bytes", length);
		} else {
			bool is_long = control >> 5 == 7;
			if (size - read < (is_long ? 2u : 1u))
				return esk_fail(
					err, ESK_ECORRUPT, "lzf: the data end inside a back reference");
			if (is_long)
				length += in[read++];
			distance = ((control & 31) << 8) + in[read++] + 1;
			if (distance > written)
				return esk_fail(err, ESK_ECORRUPT,
					"lzf: reference %zu bytes back with only %zu bytes before it",
					distance, written);
		}
		size_t taken = length;
		if (length > capacity - written) {
			if (capacity == limit)
				return esk_fail(err, ESK_ECORRUPT,
					"lzf: %zu bytes decode to more than the expected %zu", size,
					capacity);
			taken = capacity - written;
		}
		if (literal) {
			memcpy(out + written, in + read, taken);
			read += length;
		} else {
			copy_back(out + written, distance, taken);
		}
		written += taken;
	}
	*ret_size = written;
	return ESK_OK;
}
