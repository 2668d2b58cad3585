/* .npz: see npz.h. The numbers are those of PKWARE's APPNOTE.TXT; all are little-endian, as is the machine.
 */
#include "npz.h"

#include "npy.h"

#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#include <stdlib.h>
#include <string.h>

#define LOCAL_HEADER 0x04034b50u
#define DESCRIPTOR 0x08074b50u
#define DIRECTORY 0x02014b50u
#define END64 0x06064b50u
#define LOCATOR64 0x07064b50u
#define END 0x06054b50u
#define VERSION_ZIP64 45           /* 4.5 */
#define FLAGS (1u << 3 | 1u << 11) /* sizes follow; names are UTF-8 */
#define STORED 0
#define DEFLATED 8
#define DOS_DATE 0x21u         /* 1980-01-01: equal content makes equal files */
#define ZIP64_FROM 0xffff0000u /* bytes; deflating adds less than what is left to 2^32 */
#define OUT_BYTES (256u << 10)

typedef struct member {
	char *name;
	uint32_t crc;
	uint64_t size;
	uint64_t stored;
	uint64_t offset; /* of its local header */
	uint64_t begin;  /* of its bytes */
	bool zip64;
} member;

struct cli_npz {
	FILE *out;
	bool compress;
	uint64_t offset; /* bytes written */
	member *members;
	size_t count, room;
	bool open; /* the last member */
	struct isal_zstream stream;
	unsigned char *level;
	unsigned char *deflated;
};

/* ---- bytes ---- */

static void put(cli_npz *npz, const void *data, size_t size)
{
	fwrite(data, 1, size, npz->out);
	npz->offset += size;
}

static void put16(cli_npz *npz, unsigned value)
{
	uint16_t bytes = (uint16_t)value;
	put(npz, &bytes, 2);
}

static void put32(cli_npz *npz, uint32_t value)
{
	put(npz, &value, 4);
}

static void put64(cli_npz *npz, uint64_t value)
{
	put(npz, &value, 8);
}

/* A 32-bit field whose value stands in the zip64 part where it does not fit. */
static uint32_t field32(uint64_t value)
{
	return value < UINT32_MAX ? (uint32_t)value : UINT32_MAX;
}

/* ---- members ---- */

cli_npz *cli_npz_begin(FILE *out, bool compress)
{
	cli_npz *npz = cli_alloc(sizeof *npz);
	*npz = (cli_npz){.out = out, .compress = compress};
	if (compress) {
		npz->level = cli_alloc(ISAL_DEF_LVL1_DEFAULT);
		npz->deflated = cli_alloc(OUT_BYTES);
	}
	return npz;
}

static void put_local_header(cli_npz *npz, const member *m)
{
	put32(npz, LOCAL_HEADER);
	put16(npz, VERSION_ZIP64);
	put16(npz, FLAGS);
	put16(npz, npz->compress ? DEFLATED : STORED);
	put16(npz, 0);
	put16(npz, DOS_DATE);
	put32(npz, 0);
	put32(npz, m->zip64 ? UINT32_MAX : 0);
	put32(npz, m->zip64 ? UINT32_MAX : 0);
	put16(npz, (unsigned)strlen(m->name));
	put16(npz, m->zip64 ? 20 : 0);
	put(npz, m->name, strlen(m->name));
	if (m->zip64) { /* says that the sizes behind the member have 8 bytes */
		put16(npz, 1);
		put16(npz, 16);
		put64(npz, 0);
		put64(npz, 0);
	}
}

static void deflate_some(cli_npz *npz, const void *data, size_t size, bool last)
{
	struct isal_zstream *z = &npz->stream;
	const unsigned char *at = data;
	do {
		uint32_t piece = size < UINT32_MAX / 2 ? (uint32_t)size : UINT32_MAX / 2;
		z->next_in = (uint8_t *)at;
		z->avail_in = piece;
		z->end_of_stream = last && piece == size;
		do {
			z->next_out = npz->deflated;
			z->avail_out = OUT_BYTES;
			isal_deflate(z);
			put(npz, npz->deflated, OUT_BYTES - z->avail_out);
		} while (z->avail_out == 0);
		at += piece;
		size -= piece;
	} while (size > 0);
}

/* Ends the member that is open, if one is. */
static void end_member(cli_npz *npz)
{
	if (!npz->open)
		return;
	member *m = &npz->members[npz->count - 1];
	if (npz->compress)
		deflate_some(npz, "", 0, true);
	m->stored = npz->offset - m->begin;
	put32(npz, DESCRIPTOR);
	put32(npz, m->crc);
	if (m->zip64) {
		put64(npz, m->stored);
		put64(npz, m->size);
	} else {
		put32(npz, (uint32_t)m->stored);
		put32(npz, (uint32_t)m->size);
	}
	npz->open = false;
}

/* The header as bytes, whose checksum the zip needs. */
static bool npy_header(
	esk_dtype dtype, const uint64_t *shape, uint32_t rank, char **ret_text, size_t *ret_size)
{
	FILE *memory = open_memstream(ret_text, ret_size);
	bool known = memory != NULL && cli_npy_write_header(memory, dtype, shape, rank);
	if (memory != NULL)
		fclose(memory);
	if (!known && memory != NULL)
		free(*ret_text);
	return known;
}

static member *add_member(cli_npz *npz)
{
	if (npz->count == npz->room) {
		npz->room = npz->room * 2 + 16;
		member *members = cli_alloc(npz->room * sizeof *members);
		if (npz->count > 0)
			memcpy(members, npz->members, npz->count * sizeof *members);
		free(npz->members);
		npz->members = members;
	}
	return &npz->members[npz->count++];
}

bool cli_npz_array(cli_npz *npz, const char *name, esk_dtype dtype, const uint64_t *shape, uint32_t rank)
{
	char *header;
	size_t header_size;
	if (!npy_header(dtype, shape, rank, &header, &header_size))
		return false;
	end_member(npz);
	uint64_t size = dtype.size_bytes; /* of a selection that was read from a file: no overflow */
	for (uint32_t i = 0; i < rank; i++)
		size *= shape[i];
	size_t name_size = strlen(name) + sizeof ".npy";
	member *m = add_member(npz);
	*m = (member){.name = cli_alloc(name_size),
		.offset = npz->offset,
		.zip64 = size + header_size >= ZIP64_FROM};
	snprintf(m->name, name_size, "%s.npy", name);
	put_local_header(npz, m);
	m->begin = npz->offset;
	if (npz->compress) {
		isal_deflate_init(&npz->stream);
		npz->stream.level = 1;
		npz->stream.level_buf = npz->level;
		npz->stream.level_buf_size = ISAL_DEF_LVL1_DEFAULT;
		npz->stream.flush = NO_FLUSH;
	}
	npz->open = true;
	cli_npz_write(npz, header, header_size);
	free(header);
	return true;
}

void cli_npz_write(cli_npz *npz, const void *data, size_t size)
{
	member *m = &npz->members[npz->count - 1];
	m->crc = crc32_gzip_refl(m->crc, data, size);
	m->size += size;
	if (npz->compress)
		deflate_some(npz, data, size, false);
	else
		put(npz, data, size);
}

/* ---- the directory ---- */

static void put_directory_entry(cli_npz *npz, const member *m)
{
	bool sizes = m->zip64, offset = m->offset >= UINT32_MAX;
	unsigned extra = (sizes ? 16 : 0) + (offset ? 8 : 0);
	put32(npz, DIRECTORY);
	put16(npz, 3u << 8 | VERSION_ZIP64); /* made on Unix */
	put16(npz, VERSION_ZIP64);
	put16(npz, FLAGS);
	put16(npz, npz->compress ? DEFLATED : STORED);
	put16(npz, 0);
	put16(npz, DOS_DATE);
	put32(npz, m->crc);
	put32(npz, sizes ? UINT32_MAX : (uint32_t)m->stored);
	put32(npz, sizes ? UINT32_MAX : (uint32_t)m->size);
	put16(npz, (unsigned)strlen(m->name));
	put16(npz, extra > 0 ? extra + 4 : 0);
	put16(npz, 0);
	put16(npz, 0);
	put16(npz, 0);
	put32(npz, 0100644u << 16);
	put32(npz, field32(m->offset));
	put(npz, m->name, strlen(m->name));
	if (extra == 0)
		return;
	put16(npz, 1);
	put16(npz, extra);
	if (sizes) {
		put64(npz, m->size);
		put64(npz, m->stored);
	}
	if (offset)
		put64(npz, m->offset);
}

static void put_end64(cli_npz *npz, uint64_t begin, uint64_t size)
{
	uint64_t at = npz->offset;
	put32(npz, END64);
	put64(npz, 44);
	put16(npz, 3u << 8 | VERSION_ZIP64);
	put16(npz, VERSION_ZIP64);
	put32(npz, 0);
	put32(npz, 0);
	put64(npz, npz->count);
	put64(npz, npz->count);
	put64(npz, size);
	put64(npz, begin);
	put32(npz, LOCATOR64);
	put32(npz, 0);
	put64(npz, at);
	put32(npz, 1);
}

void cli_npz_end(cli_npz *npz)
{
	end_member(npz);
	uint64_t begin = npz->offset;
	for (size_t i = 0; i < npz->count; i++)
		put_directory_entry(npz, &npz->members[i]);
	uint64_t size = npz->offset - begin;
	if (begin >= UINT32_MAX || size >= UINT32_MAX || npz->count >= UINT16_MAX)
		put_end64(npz, begin, size);
	unsigned count = npz->count < UINT16_MAX ? (unsigned)npz->count : UINT16_MAX;
	put32(npz, END);
	put16(npz, 0);
	put16(npz, 0);
	put16(npz, count);
	put16(npz, count);
	put32(npz, field32(size));
	put32(npz, field32(begin));
	put16(npz, 0);
	cli_npz_discard(npz);
}

void cli_npz_discard(cli_npz *npz)
{
	for (size_t i = 0; i < npz->count; i++)
		free(npz->members[i].name);
	free(npz->members);
	free(npz->level);
	free(npz->deflated);
	free(npz);
}
