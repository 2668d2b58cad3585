/* numpy's .npy files: see npy.h. The header is a Python dictionary with the keys descr, fortran_order and
 * shape; numpy/lib/format.py describes it. */
#include "npy.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_MOST_BYTES (1u << 20)

static const char magic[6] = {'\x93', 'N', 'U', 'M', 'P', 'Y'};

/* ---- reading ---- */

typedef struct header {
	const char *path;
	char *text; /* NUL-terminated */
	char *at;
	char descr[64];
	bool have_descr;
	bool have_order;
	bool have_shape;
	bool fortran;
} header;

static int bad_header(const header *h, const char *expected)
{
	return cli_fail("%s: the .npy header is not as numpy writes it: %s was expected at byte %zu of it",
		h->path, expected, (size_t)(h->at - h->text));
}

static void skip_blanks(header *h)
{
	while (*h->at == ' ' || *h->at == '\t' || *h->at == '\n')
		h->at++;
}

static bool take(header *h, char c)
{
	skip_blanks(h);
	if (*h->at != c)
		return false;
	h->at++;
	return true;
}

/* A quoted string without escapes: what numpy writes for keys and simple dtypes. */
static bool take_string(header *h, char *buf, size_t size)
{
	skip_blanks(h);
	char quote = *h->at;
	if (quote != '\'' && quote != '"')
		return false;
	char *end = strchr(h->at + 1, quote);
	if (end == NULL || (size_t)(end - h->at - 1) >= size)
		return false;
	size_t length = (size_t)(end - h->at - 1);
	memcpy(buf, h->at + 1, length);
	buf[length] = '\0';
	h->at = end + 1;
	return true;
}

static bool take_word(header *h, const char *word)
{
	skip_blanks(h);
	size_t length = strlen(word);
	if (strncmp(h->at, word, length) != 0)
		return false;
	h->at += length;
	return true;
}

static int parse_shape(header *h, cli_npy *npy)
{
	if (!take(h, '('))
		return bad_header(h, "the shape, a tuple,");
	while (!take(h, ')')) {
		skip_blanks(h);
		if (*h->at < '0' || *h->at > '9')
			return bad_header(h, "a number of the shape");
		if (npy->rank > ESK_MAX_RANK)
			return cli_fail("%s: an array of more than %d dimensions", h->path, ESK_MAX_RANK + 1);
		errno = 0;
		unsigned long long n = strtoull(h->at, &h->at, 10);
		if (errno != 0 || n > INT64_MAX)
			return cli_fail("%s: dimension %u of the shape is too large", h->path, npy->rank);
		npy->shape[npy->rank++] = n;
		(void)take_word(h, "L"); /* Python 2 wrote 3L */
		if (!take(h, ',')) {
			skip_blanks(h);
			if (*h->at != ')')
				return bad_header(h, "',' or ')'");
		}
	}
	return CLI_OK;
}

static int parse_entry(header *h, cli_npy *npy)
{
	char key[32];
	if (!take_string(h, key, sizeof key) || !take(h, ':'))
		return bad_header(h, "a key and ':'");
	if (strcmp(key, "descr") == 0) {
		skip_blanks(h);
		if (*h->at == '[')
			return cli_fail("%s: a structured dtype; save each field on its own and record them "
					"as columns",
				h->path);
		h->have_descr = take_string(h, h->descr, sizeof h->descr);
		return h->have_descr ? CLI_OK : bad_header(h, "a dtype");
	}
	if (strcmp(key, "fortran_order") == 0) {
		h->fortran = take_word(h, "True");
		h->have_order = h->fortran || take_word(h, "False");
		return h->have_order ? CLI_OK : bad_header(h, "True or False");
	}
	if (strcmp(key, "shape") == 0) {
		h->have_shape = true;
		npy->rank = 0;
		return parse_shape(h, npy);
	}
	return bad_header(h, "'descr', 'fortran_order' or 'shape'");
}

static int parse_header(header *h, cli_npy *npy)
{
	if (!take(h, '{'))
		return bad_header(h, "'{'");
	while (!take(h, '}')) {
		int code = parse_entry(h, npy);
		if (code != CLI_OK)
			return code;
		if (!take(h, ',')) {
			skip_blanks(h);
			if (*h->at != '}')
				return bad_header(h, "',' or '}'");
		}
	}
	skip_blanks(h);
	if (*h->at != '\0')
		return bad_header(h, "the end");
	if (!h->have_descr || !h->have_order || !h->have_shape)
		return bad_header(h, "descr, fortran_order and shape");
	return CLI_OK;
}

/* "<f4", "|u1", "|S12" to a dtype. */
static int parse_descr(const header *h, esk_dtype *ret_dtype)
{
	static const struct {
		const char *code;
		esk_dtype dtype;
	} known[] = {{"b1", {ESK_BOOL, 1}}, {"i1", {ESK_I8, 1}}, {"i2", {ESK_I16, 2}}, {"i4", {ESK_I32, 4}},
		{"i8", {ESK_I64, 8}}, {"u1", {ESK_U8, 1}}, {"u2", {ESK_U16, 2}}, {"u4", {ESK_U32, 4}},
		{"u8", {ESK_U64, 8}}, {"f2", {ESK_F16, 2}}, {"f4", {ESK_F32, 4}}, {"f8", {ESK_F64, 8}},
		{"c8", {ESK_C64, 8}}, {"c16", {ESK_C128, 16}}};
	const char *code = h->descr;
	if (*code == '>')
		return cli_fail(
			"%s: big-endian (%s); save it with .astype('<%s')", h->path, h->descr, code + 1);
	if (*code == '<' || *code == '|' || *code == '=')
		code++;
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		if (strcmp(code, known[i].code) == 0) {
			*ret_dtype = known[i].dtype;
			return CLI_OK;
		}
	}
	uint64_t size;
	if (*code == 'S' && cli_parse_u64(code + 1, &size) && size > 0 && size <= UINT32_MAX) {
		*ret_dtype = (esk_dtype){.kind = ESK_STRING_N, .size_bytes = (uint32_t)size};
		return CLI_OK;
	}
	const char *way = *code == 'U'                   ? "; save it with np.char.encode(array, 'utf-8')"
			  : *code == 'M' || *code == 'm' ? "; save it with .astype('<i8')"
			  : *code == 'O'                 ? "; Python objects cannot be recorded"
							 : "";
	return cli_fail("%s: dtype %s has no counterpart in a column%s", h->path, h->descr, way);
}

/* Reads exactly `size` bytes at `offset`; false (errno, 0 for the end of the file) if it cannot. */
static bool read_at(int fd, void *buf, size_t size, uint64_t offset)
{
	unsigned char *at = buf;
	while (size > 0) {
		ssize_t got = pread(fd, at, size, (off_t)offset);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			if (got == 0)
				errno = 0;
			return false;
		}
		at += got;
		offset += (uint64_t)got;
		size -= (size_t)got;
	}
	return true;
}

static int load_header(cli_npy *npy, header *h)
{
	unsigned char start[12];
	if (!read_at(npy->fd, start, 10, 0) || memcmp(start, magic, sizeof magic) != 0)
		return cli_fail("%s: not a .npy file (it does not begin with \\x93NUMPY)", npy->path);
	uint64_t length = start[8] | (uint64_t)start[9] << 8;
	npy->data_offset = 10;
	if (start[6] == 2 || start[6] == 3) {
		if (!read_at(npy->fd, start + 10, 2, 10))
			return cli_fail("%s: the .npy header is cut off", npy->path);
		length |= (uint64_t)start[10] << 16 | (uint64_t)start[11] << 24;
		npy->data_offset = 12;
	} else if (start[6] != 1) {
		return cli_fail(
			"%s: .npy format version %d.%d; 1, 2 and 3 are known", npy->path, start[6], start[7]);
	}
	if (length > HEADER_MOST_BYTES)
		return cli_fail("%s: a .npy header of %" PRIu64 " bytes; at most %u are taken", npy->path,
			length, HEADER_MOST_BYTES);
	h->text = cli_alloc(length + 1);
	if (!read_at(npy->fd, h->text, length, npy->data_offset))
		return cli_fail("%s: the .npy header is cut off: %" PRIu64 " bytes were announced", npy->path,
			length);
	h->text[length] = '\0';
	h->at = h->text;
	npy->data_offset += length;
	return CLI_OK;
}

static int check_size(cli_npy *npy)
{
	npy->row_bytes = npy->dtype.size_bytes;
	uint64_t total;
	bool overflow = false;
	for (uint32_t i = 1; i < npy->rank; i++) {
		if (npy->shape[i] == 0)
			return cli_fail(
				"%s: dimension %u of the array is 0: its rows hold nothing", npy->path, i);
		overflow |= __builtin_mul_overflow(npy->row_bytes, npy->shape[i], &npy->row_bytes);
	}
	overflow |= __builtin_mul_overflow(npy->row_bytes, npy->shape[0], &total);
	overflow |= __builtin_add_overflow(total, npy->data_offset, &total);
	if (overflow || total > INT64_MAX)
		return cli_fail("%s: the shape in the header is larger than any file", npy->path);
	struct stat st;
	if (fstat(npy->fd, &st) != 0)
		return cli_fail("%s: %s", npy->path, strerror(errno));
	if (S_ISREG(st.st_mode) && (uint64_t)st.st_size != total)
		return cli_fail("%s: the header announces a file of %" PRIu64 " bytes, it has %" PRIu64
				": %s",
			npy->path, total, (uint64_t)st.st_size,
			(uint64_t)st.st_size < total ? "it is cut off" : "something follows the array");
	return CLI_OK;
}

static int load(cli_npy *npy, header *h)
{
	int code = load_header(npy, h);
	if (code == CLI_OK)
		code = parse_header(h, npy);
	if (code == CLI_OK)
		code = parse_descr(h, &npy->dtype);
	if (code != CLI_OK)
		return code;
	if (npy->rank == 0)
		return cli_fail("%s: a single value, not an array of rows", npy->path);
	if (h->fortran && npy->rank > 1)
		return cli_fail("%s: in Fortran order, so its rows do not lie together; save "
				"np.ascontiguousarray(array)",
			npy->path);
	return check_size(npy);
}

int cli_npy_open(const char *path, cli_npy *ret_npy)
{
	*ret_npy = (cli_npy){.fd = open(path, O_RDONLY | O_CLOEXEC)};
	if (ret_npy->fd < 0)
		return cli_fail("%s: %s", path, strerror(errno));
	ret_npy->path = cli_copy(path);
	header h = {.path = path};
	int code = load(ret_npy, &h);
	free(h.text);
	if (code != CLI_OK)
		cli_npy_close(ret_npy);
	return code;
}

void cli_npy_close(cli_npy *npy)
{
	if (npy == NULL || npy->path == NULL)
		return;
	close(npy->fd);
	free(npy->path);
	*npy = (cli_npy){.fd = -1};
}

int cli_npy_read(const cli_npy *npy, uint64_t row, uint64_t rows, void *buf)
{
	uint64_t offset = npy->data_offset + row * npy->row_bytes;
	if (read_at(npy->fd, buf, rows * npy->row_bytes, offset))
		return CLI_OK;
	return cli_fail("%s: reading rows %" PRIu64 ":%" PRIu64 ": %s", npy->path, row, row + rows,
		errno != 0 ? strerror(errno) : "the file was cut off meanwhile");
}

/* ---- writing ---- */

static const char *descr_of(esk_dtype dtype, cli_buf *buf)
{
	static const char *const names[] = {[ESK_BOOL] = "|b1",
		[ESK_I8] = "|i1",
		[ESK_I16] = "<i2",
		[ESK_I32] = "<i4",
		[ESK_I64] = "<i8",
		[ESK_U8] = "|u1",
		[ESK_U16] = "<u2",
		[ESK_U32] = "<u4",
		[ESK_U64] = "<u8",
		[ESK_F16] = "<f2",
		[ESK_F32] = "<f4",
		[ESK_F64] = "<f8",
		[ESK_C64] = "<c8",
		[ESK_C128] = "<c16"};
	if (dtype.kind == ESK_STRING_N) {
		snprintf(buf->text, sizeof buf->text, "|S%" PRIu32, dtype.size_bytes);
		return buf->text;
	}
	return dtype.kind >= ESK_BOOL && dtype.kind <= ESK_C128 ? names[dtype.kind] : NULL;
}

bool cli_npy_write_header(FILE *out, esk_dtype dtype, const uint64_t *shape, uint32_t rank)
{
	cli_buf buf;
	const char *descr = descr_of(dtype, &buf);
	if (descr == NULL)
		return false;
	char text[1024];
	size_t at = (size_t)snprintf(
		text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
	for (uint32_t i = 0; i < rank; i++)
		at += (size_t)snprintf(
			text + at, sizeof text - at, i > 0 ? ", %" PRIu64 : "%" PRIu64, shape[i]);
	at += (size_t)snprintf(text + at, sizeof text - at, rank == 1 ? ",), }" : "), }");
	/* 32 dimensions of 20 digits stay below 800 bytes, so version 1.0 (16-bit length) always fits; data
	 * begins at a multiple of 64. */
	size_t length = (10 + at + 1 + 63) / 64 * 64 - 10;
	fwrite(magic, 1, sizeof magic, out);
	const unsigned char version[4] = {1, 0, (unsigned char)(length & 255), (unsigned char)(length >> 8)};
	fwrite(version, 1, sizeof version, out);
	fwrite(text, 1, at, out);
	fprintf(out, "%*s\n", (int)(length - at - 1), "");
	return true;
}
