/* Scanning arrays: see migrate_scan.h.
 *
 * Nearly all of the text is small integers, so that is what is fast: eight bytes are loaded at once, the
 * first that is no digit is found by arithmetic on all eight, and the digits before it become a number
 * without a loop. A number costs about the latency of that chain, whatever its length. Whoever calls the fast
 * way makes sure that eight bytes are there; the last numbers of a text, signs, reals and words take the slow
 * way. */
#include "migrate_scan.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define REPEAT(byte) (UINT64_C(0x0101010101010101) * (byte))

typedef struct cursor {
	const char *at;
	const char *end;
} cursor;

const char *esk_scan_fault_text(esk_scan_fault fault)
{
	static const char *const texts[] = {
		[ESK_SCAN_OK] = "no fault",
		[ESK_SCAN_SYNTAX] = "no JSON",
		[ESK_SCAN_OTHER] = "not a number",
		[ESK_SCAN_EMPTY] = "an empty array",
		[ESK_SCAN_RAGGED] = "rows of different lengths",
		[ESK_SCAN_SHAPE] = "another shape than the run's other rows",
		[ESK_SCAN_VALUE] = "a number that the column's dtype does not hold",
		[ESK_SCAN_DEEP] = "nested too deep",
	};
	return texts[fault];
}

static inline bool is_blank(char c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static inline bool is_digit(char c)
{
	return (unsigned char)(c - '0') < 10;
}

static inline void skip_blanks(cursor *c)
{
	while (c->at < c->end && is_blank(*c->at))
		c->at++;
}

void esk_scan_blanks(const char *text, size_t size, size_t *at)
{
	while (*at < size && is_blank(text[*at]))
		++*at;
}

/* ---- numbers ---- */

typedef enum number_class { INTEGER, REAL, FLAG } number_class;

typedef struct number {
	number_class class;
	bool wide; /* an integer beyond 64 bits; `real` is near it */
	int64_t integer;
	double real;
} number;

static locale_t c_locale;

static void make_c_locale(void)
{
	c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

#define MOST_DIGITS 1000 /* bytes of a number: more are taken for nonsense */

/* What the standard library makes of the number, wherever the short ways below do not do. */
static double convert(const char *digits, size_t size)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	char copy[MOST_DIGITS + 1];
	pthread_once(&once, make_c_locale);
	memcpy(copy, digits, size);
	copy[size] = '\0';
	return c_locale != (locale_t)0 ? strtod_l(copy, NULL, c_locale) : strtod(copy, NULL);
}

/* mantissa * 10^exponent, rounded once to 53 bits; false where that is not certain.
 *
 * Where long double has a significand of 64 bits, the mantissa and powers up to 10^27 = 5^27 * 2^27 (5^27 <
 * 2^63) are exact in it, so one multiplication or division is rounded once, to 64 bits. Rounding that to 53
 * gives what rounding the exact value would, unless the eleven bits cut off are exactly half: only then could
 * the exact value lie on the other side. */
static inline bool scale(uint64_t mantissa, int exponent, double *ret_real)
{
#if LDBL_MANT_DIG == 64
	static const long double powers[] = {1e0L, 1e1L, 1e2L, 1e3L, 1e4L, 1e5L, 1e6L, 1e7L, 1e8L, 1e9L,
		1e10L, 1e11L, 1e12L, 1e13L, 1e14L, 1e15L, 1e16L, 1e17L, 1e18L, 1e19L, 1e20L, 1e21L, 1e22L,
		1e23L, 1e24L, 1e25L, 1e26L, 1e27L};
	if (exponent < -27 || exponent > 27)
		return false;
	long double value = (long double)mantissa;
	value = exponent < 0 ? value / powers[-exponent] : value * powers[exponent];
	uint64_t significand;
	memcpy(&significand, &value, sizeof significand);
	if ((significand & 0x7FF) == 0x400)
		return false;
	*ret_real = (double)value;
	return true;
#else
	/* Both exact in a double: one operation rounds once. */
	static const double powers[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12,
		1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
	if (exponent < -22 || exponent > 22 || mantissa > UINT64_C(1) << 53)
		return false;
	*ret_real = exponent < 0 ? (double)mantissa / powers[-exponent] : (double)mantissa * powers[exponent];
	return true;
#endif
}

/* Digits into `mantissa` as long as it holds them; returns how many were dropped. */
static inline size_t take_digits(cursor *c, uint64_t *mantissa)
{
	size_t dropped = 0;
	for (; c->at < c->end && is_digit(*c->at); c->at++) {
		if (*mantissa < UINT64_C(1000000000000000000))
			*mantissa = *mantissa * 10 + (uint64_t)(*c->at - '0');
		else
			dropped++;
	}
	return dropped;
}

static esk_scan_fault take_exponent(cursor *c, int *exponent)
{
	bool negative = false;
	int value = 0;
	c->at++;
	if (c->at < c->end && (*c->at == '+' || *c->at == '-'))
		negative = *c->at++ == '-';
	if (c->at == c->end || !is_digit(*c->at))
		return ESK_SCAN_SYNTAX;
	for (; c->at < c->end && is_digit(*c->at); c->at++)
		value = value < 10000 ? value * 10 + (*c->at - '0') : value;
	*exponent += negative ? -value : value;
	return ESK_SCAN_OK;
}

static bool take_word(cursor *c, const char *word)
{
	size_t length = strlen(word);
	if ((size_t)(c->end - c->at) < length || memcmp(c->at, word, length) != 0)
		return false;
	c->at += length;
	return true;
}

/* true, false, NaN, Infinity, -Infinity (`negative`: the sign is behind us). */
static esk_scan_fault take_name(cursor *c, bool negative, number *ret)
{
	if (!negative && take_word(c, "true"))
		*ret = (number){.class = FLAG, .integer = 1, .real = 1};
	else if (!negative && take_word(c, "false"))
		*ret = (number){.class = FLAG};
	else if (!negative && take_word(c, "NaN"))
		*ret = (number){.class = REAL, .real = (double)NAN};
	else if (take_word(c, "Infinity"))
		*ret = (number){.class = REAL, .real = negative ? -(double)INFINITY : (double)INFINITY};
	else if (c->at < c->end && strchr("\"{[ntfNI", *c->at) != NULL && *c->at != '\0')
		return ESK_SCAN_OTHER;
	else
		return ESK_SCAN_SYNTAX;
	return ESK_SCAN_OK;
}

static void set_integer(
	number *ret, bool negative, uint64_t mantissa, size_t dropped, const char *from, size_t size)
{
	*ret = (number){.class = INTEGER};
	ret->wide = dropped > 0 || mantissa > (uint64_t)INT64_MAX;
	if (ret->wide) {
		ret->real = convert(from, size);
		ret->real = negative ? -ret->real : ret->real;
	} else {
		ret->integer = negative ? -(int64_t)mantissa : (int64_t)mantissa;
		ret->real = (double)ret->integer;
	}
}

/* Any number, flag or special at the cursor, which moves behind it; on a fault it stays at the byte in the
 * way. */
static esk_scan_fault take_number(cursor *c, number *ret)
{
	bool negative = c->at < c->end && *c->at == '-';
	if (negative)
		c->at++;
	if (c->at == c->end || !is_digit(*c->at))
		return take_name(c, negative, ret);
	const char *from = c->at;
	uint64_t mantissa = 0;
	int exponent = 0;
	if (*c->at == '0' && c->end - c->at > 1 && is_digit(c->at[1]))
		return ESK_SCAN_SYNTAX; /* JSON has no leading zeros */
	size_t dropped = take_digits(c, &mantissa);
	bool real = false;
	if (c->at < c->end && *c->at == '.') {
		const char *point = ++c->at;
		size_t cut = take_digits(c, &mantissa);
		if (c->at == point)
			return ESK_SCAN_SYNTAX;
		real = true;
		exponent -= (int)((size_t)(c->at - point) - cut);
		dropped += cut;
	}
	if (c->at < c->end && (*c->at == 'e' || *c->at == 'E')) {
		esk_scan_fault fault = take_exponent(c, &exponent);
		if (fault != ESK_SCAN_OK)
			return fault;
		real = true;
	}
	if (c->at - from > MOST_DIGITS) {
		c->at = from;
		return ESK_SCAN_VALUE;
	}
	if (!real) {
		set_integer(ret, negative, mantissa, dropped, from, (size_t)(c->at - from));
		return ESK_SCAN_OK;
	}
	*ret = (number){.class = REAL};
	if (mantissa == 0 && dropped == 0)
		ret->real = 0;
	else if (dropped > 0 || !scale(mantissa, exponent, &ret->real))
		ret->real = convert(from, (size_t)(c->at - from));
	ret->real = negative ? -ret->real : ret->real;
	return ESK_SCAN_OK;
}

/* ---- the fast way: integers of one to seven digits ---- */

/* The number of digits at `at`, of which eight bytes can be read, and their value; 0 where there is none or
 * more than seven. */
static inline unsigned take_few_digits(const char *at, uint32_t *ret_value)
{
	uint64_t word;
	memcpy(&word, at, sizeof word);
	word ^= REPEAT(0x30); /* a digit's byte is its value now; any other byte is above 9 */
	/* The high bit of each byte above 9. A carry goes upwards from such a byte only, and only the lowest
	 * one is looked at. */
	uint64_t others = ((word + REPEAT(0x76)) | word) & REPEAT(0x80);
	if (others == 0)
		return 0;
	unsigned digits = (unsigned)__builtin_ctzll(others) >> 3;
	if (digits == 0)
		return 0;
	/* The digits go to the top of the word, zeros below them; then pairs, fours and eights are summed. */
	word <<= 64 - 8 * digits;
	word = (word * 10 + (word >> 8)) & UINT64_C(0x00FF00FF00FF00FF);
	word = (word * 100 + (word >> 16)) & UINT64_C(0x0000FFFF0000FFFF);
	*ret_value = (uint32_t)(word * 10000 + (word >> 32));
	return digits;
}

/* ---- elements ---- */

/* Stores a number as element `i` of `cell`; false where the kind does not hold it. */
static inline bool store(esk_kind kind, void *cell, size_t i, const number *value)
{
	const double exact = 9007199254740992.0; /* 2^53 */
	switch (kind) {
	case ESK_BOOL:
		((uint8_t *)cell)[i] = (uint8_t)value->integer;
		return value->class == FLAG;
	case ESK_U8:
		((uint8_t *)cell)[i] = (uint8_t)value->integer;
		return value->class == INTEGER && !value->wide && value->integer >= 0 &&
		       value->integer <= 255;
	case ESK_I64:
		((int64_t *)cell)[i] = value->integer;
		return value->class == INTEGER && !value->wide;
	case ESK_F32:
		((float *)cell)[i] = (float)value->real;
		return value->class != FLAG &&
		       (isnan(value->real) || (double)(float)value->real == value->real) &&
		       (value->class == REAL || fabs(value->real) <= exact);
	default:
		((double *)cell)[i] = value->real;
		return value->class == REAL || (value->class == INTEGER && fabs(value->real) <= exact);
	}
}

/* A small integer as element `i`; false where the kind does not hold it. */
static inline bool store_small(esk_kind kind, void *cell, size_t i, uint32_t value)
{
	switch (kind) {
	case ESK_BOOL:
		return false;
	case ESK_U8:
		((uint8_t *)cell)[i] = (uint8_t)value;
		return value <= 255;
	case ESK_I64:
		((int64_t *)cell)[i] = value;
		return true;
	case ESK_F32:
		((float *)cell)[i] = (float)value;
		return value <= 1u << 24;
	default:
		((double *)cell)[i] = value;
		return true;
	}
}

static void note(esk_scan_form *form, const number *value)
{
	if (value->class == FLAG) {
		form->has_flags = true;
		return;
	}
	form->has_reals |= value->class == REAL;
	form->wide |= value->wide;
	if (value->class == INTEGER) {
		form->least =
			!form->has_numbers || value->integer < form->least ? value->integer : form->least;
		form->most = !form->has_numbers || value->integer > form->most ? value->integer : form->most;
	}
	form->has_numbers = true;
	form->exact_f32 &= isnan(value->real) || (double)(float)value->real == value->real;
}

/* ---- rows: the innermost level ---- */

/* The small integer at `at` and the comma or bracket behind it, which is returned; '\0' where the fast way
 * does not do. *ret_next is behind that and one blank. */
static inline char take_small(const char *at, const char *end, uint32_t *ret_value, const char **ret_next)
{
	/* Eight bytes for the digits, and what follows them is there without another look. */
	if (end - at < 16)
		return '\0';
	unsigned digits = take_few_digits(at, ret_value);
	const char *behind = at + digits;
	if (digits == 0 || (*behind != ',' && *behind != ']') || (*at == '0' && digits > 1))
		return '\0'; /* no number, a real, a blank, a leading zero */
	*ret_next = behind + 1 + (*behind == ',' && behind[1] == ' ');
	return *behind;
}

/* Any element; `cell` takes it, or `form`. */
static esk_scan_fault take_element(cursor *c, esk_kind kind, void *cell, size_t i, esk_scan_form *form)
{
	number value;
	const char *from = c->at;
	if (c->at < c->end && *c->at == '[')
		return ESK_SCAN_RAGGED; /* the brackets that belong here are behind us */
	esk_scan_fault fault = take_number(c, &value);
	if (fault != ESK_SCAN_OK)
		return fault;
	if (form != NULL) {
		note(form, &value);
	} else if (!store(kind, cell, i, &value)) {
		c->at = from;
		return ESK_SCAN_VALUE;
	}
	return ESK_SCAN_OK;
}

/* Small integers into `cell` from element `i` on, until the row ends, `count` are there, or one needs another
 * way. *ret_behind is what stands behind the last: ']' where the row ended. */
static inline esk_scan_fault take_smalls(
	cursor *c, esk_kind kind, void *cell, size_t *i, size_t count, char *ret_behind)
{
	/* In variables of their own: a store to `cell` might otherwise change the cursor, as the compiler
	 * sees it. */
	const char *at = c->at, *const end = c->end;
	size_t n = *i;
	char behind = ',';
	esk_scan_fault fault = ESK_SCAN_OK;
	while (n < count && behind == ',') {
		uint32_t small;
		const char *next;
		char found = take_small(at, end, &small, &next);
		if (found == '\0')
			break;
		if (!store_small(kind, cell, n, small)) {
			fault = ESK_SCAN_VALUE;
			break;
		}
		n++;
		at = next;
		behind = found;
	}
	c->at = at;
	*i = n;
	*ret_behind = behind;
	return fault;
}

/* Elements up to the ']' that ends the row, behind which the cursor is left. At most `count` go to `cell`
 * from element `first` on; or, where `form` is not NULL, all are noted there. *ret_count is how many there
 * were. */
static inline esk_scan_fault take_row(cursor *c, esk_kind kind, void *cell, size_t first, size_t count,
	esk_scan_form *form, size_t *ret_count)
{
	size_t i = first, stop = form == NULL ? first + count : SIZE_MAX;
	char behind = ',';
	esk_scan_fault fault = ESK_SCAN_OK;
	for (;;) {
		if (form == NULL)
			fault = take_smalls(c, kind, cell, &i, stop, &behind);
		if (fault != ESK_SCAN_OK || behind == ']')
			break;
		skip_blanks(c);
		if (c->at < c->end && *c->at == ']' && i == first)
			return ESK_SCAN_RAGGED; /* that the first row is empty was seen before */
		if (i == stop)
			return ESK_SCAN_SHAPE;
		fault = take_element(c, kind, cell, i, form);
		if (fault != ESK_SCAN_OK)
			return fault;
		i++;
		skip_blanks(c);
		if (c->at == c->end || (*c->at != ',' && *c->at != ']'))
			return ESK_SCAN_SYNTAX;
		behind = *c->at++;
		if (behind == ']')
			break;
	}
	*ret_count = i - first;
	return fault;
}

/* ---- levels ---- */

/* Opening brackets at the cursor, at most `most`. */
static uint32_t take_openings(cursor *c, uint32_t most)
{
	uint32_t count = 0;
	for (skip_blanks(c); count < most && c->at < c->end && *c->at == '['; skip_blanks(c)) {
		c->at++;
		count++;
	}
	return count;
}

/* The state of a walk over the rows of an array: how many elements of each level are complete. */
typedef struct levels {
	uint32_t rank;
	uint64_t done[ESK_MAX_RANK];
	uint64_t shape[ESK_MAX_RANK]; /* 0: not known yet (a level's first element is being looked at) */
} levels;

/* Level `i` is complete with `count` elements. */
static bool settle(levels *l, uint32_t i, uint64_t count)
{
	if (l->shape[i] == 0)
		l->shape[i] = count;
	return l->shape[i] == count;
}

/* Behind a row: closes the levels that end here and opens the next row. *ret_end is true behind the last. */
static inline esk_scan_fault next_row(cursor *c, levels *l, bool *ret_end)
{
	uint32_t level = l->rank - 1; /* the levels that are open */
	for (;;) {
		if (level == 0) {
			*ret_end = true;
			return ESK_SCAN_OK;
		}
		l->done[level - 1]++;
		skip_blanks(c);
		if (c->at == c->end || (*c->at != ']' && *c->at != ','))
			return ESK_SCAN_SYNTAX;
		if (*c->at == ',')
			break;
		level--;
		if (!settle(l, level, l->done[level]))
			return ESK_SCAN_RAGGED;
		l->done[level] = 0;
		c->at++;
	}
	c->at++;
	if (l->shape[level - 1] != 0 && l->done[level - 1] >= l->shape[level - 1])
		return ESK_SCAN_RAGGED;
	uint32_t wanted = l->rank - level;
	if (take_openings(c, wanted) != wanted) {
		const char *at = c->at;
		number value;
		esk_scan_fault fault = take_number(c, &value); /* a number where a row should be? */
		c->at = at;
		return fault == ESK_SCAN_OK ? ESK_SCAN_RAGGED : fault;
	}
	return ESK_SCAN_OK;
}

static size_t kind_bytes(esk_kind kind)
{
	return kind == ESK_BOOL || kind == ESK_U8 ? 1 : kind == ESK_F32 ? 4 : 8;
}

/* Pictures have areas of one colour: the text of a short row, with the brackets up to the next, is there
 * again and again. Rows that read like the one before `c->at` (of `text_bytes`, with `count` elements that
 * end at element `element`) are copied instead of read. The last row of a level is none of them, as other
 * brackets follow it. Returns the number of elements. */
static inline uint64_t take_repeats(
	cursor *c, levels *l, esk_kind kind, char *cell, uint64_t element, size_t count, size_t text_bytes)
{
	uint64_t done = l->done[l->rank - 2], most = l->shape[l->rank - 2];
	size_t bytes = count * kind_bytes(kind);
	uint64_t copied = 0;
	char *to = cell + element * kind_bytes(kind);
	while (done + 1 < most && (size_t)(c->end - c->at) >= text_bytes &&
		memcmp(c->at, c->at - text_bytes, sizeof(uint64_t)) == 0 &&
		memcmp(c->at, c->at - text_bytes, text_bytes) == 0) {
		memcpy(to, to - bytes, bytes);
		to += bytes;
		copied += count;
		c->at += text_bytes;
		done++;
	}
	l->done[l->rank - 2] = done;
	return copied;
}

/* All rows. Inlined for each kind, so that storing is a single instruction. */
static inline esk_scan_fault take_rows(cursor *c, levels *l, esk_kind kind, void *cell, esk_scan_form *form)
{
	uint64_t element = 0;
	bool end = false;
	while (!end) {
		size_t count, most = form != NULL ? SIZE_MAX : l->shape[l->rank - 1];
		const char *row = c->at;
		esk_scan_fault fault = take_row(c, kind, cell, element, most, form, &count);
		if (fault != ESK_SCAN_OK)
			return fault;
		if (!settle(l, l->rank - 1, count)) {
			c->at--;
			return form != NULL ? ESK_SCAN_RAGGED : ESK_SCAN_SHAPE;
		}
		element += count;
		fault = next_row(c, l, &end);
		if (fault != ESK_SCAN_OK)
			return fault;
		size_t bytes = (size_t)(c->at - row);
		if (!end && form == NULL && bytes >= sizeof(uint64_t) && bytes <= 64 &&
			l->done[l->rank - 2] > 0)
			element += take_repeats(c, l, kind, cell, element, count, bytes);
	}
	return ESK_SCAN_OK;
}

static esk_scan_fault take_rows_of(cursor *c, levels *l, esk_kind kind, void *cell)
{
	switch (kind) {
	case ESK_BOOL:
		return take_rows(c, l, ESK_BOOL, cell, NULL);
	case ESK_U8:
		return take_rows(c, l, ESK_U8, cell, NULL);
	case ESK_I64:
		return take_rows(c, l, ESK_I64, cell, NULL);
	case ESK_F32:
		return take_rows(c, l, ESK_F32, cell, NULL);
	default:
		return take_rows(c, l, ESK_F64, cell, NULL);
	}
}

static esk_scan_fault read_at(cursor *c, esk_kind kind, uint32_t rank, const uint64_t *shape, void *cell)
{
	levels l = {.rank = rank};
	uint32_t openings = take_openings(c, ESK_MAX_RANK + 1);
	if (openings != rank)
		return ESK_SCAN_SHAPE;
	if (rank > 0) {
		memcpy(l.shape, shape, rank * sizeof *shape);
		if (c->at < c->end && *c->at == ']')
			return ESK_SCAN_EMPTY;
		/* Every level but the last is settled by the walk; a ragged array of the expected outer shape
		 * is told from one of another shape by nobody: both are refused. */
		return take_rows_of(c, &l, kind, cell);
	}
	number value;
	const char *from = c->at;
	esk_scan_fault fault = take_number(c, &value);
	if (fault == ESK_SCAN_OK && !store(kind, cell, 0, &value)) {
		c->at = from;
		return ESK_SCAN_VALUE;
	}
	return fault;
}

esk_scan_fault esk_scan_read(const char *text, size_t size, size_t *at, esk_kind kind, uint32_t rank,
	const uint64_t *shape, void *cell)
{
	cursor c = {text + *at, text + size};
	esk_scan_fault fault = read_at(&c, kind, rank, shape, cell);
	*at = (size_t)(c.at - text);
	return fault;
}

/* ---- looking ---- */

static esk_scan_fault look_at(cursor *c, esk_scan_form *form)
{
	form->rank = take_openings(c, ESK_MAX_RANK + 1);
	form->elements = 1;
	if (form->rank > ESK_MAX_RANK)
		return ESK_SCAN_DEEP;
	if (form->rank == 0) {
		number value;
		esk_scan_fault fault = take_number(c, &value);
		if (fault == ESK_SCAN_OK)
			note(form, &value);
		return fault;
	}
	if (c->at < c->end && *c->at == ']')
		return ESK_SCAN_EMPTY;
	levels l = {.rank = form->rank};
	esk_scan_fault fault = take_rows(c, &l, ESK_F64, NULL, form);
	if (fault != ESK_SCAN_OK)
		return fault;
	memcpy(form->shape, l.shape, sizeof l.shape);
	for (uint32_t i = 0; i < form->rank; i++)
		if (__builtin_mul_overflow(form->elements, form->shape[i], &form->elements))
			return ESK_SCAN_SHAPE;
	return ESK_SCAN_OK;
}

esk_scan_fault esk_scan_look(const char *text, size_t size, size_t *at, esk_scan_form *ret_form)
{
	cursor c = {text + *at, text + size};
	*ret_form = (esk_scan_form){.exact_f32 = true};
	esk_scan_fault fault = look_at(&c, ret_form);
	*at = (size_t)(c.at - text);
	return fault;
}

/* ---- anything else ---- */

/* Behind the string at the cursor. */
static bool skip_string(cursor *c)
{
	for (c->at++; c->at < c->end; c->at++) {
		if (*c->at == '\\')
			c->at++;
		else if (*c->at == '"') {
			c->at++;
			return true;
		}
	}
	c->at = c->end;
	return false;
}

esk_scan_fault esk_scan_skip(const char *text, size_t size, size_t *at)
{
	cursor c = {text + *at, text + size};
	size_t depth = 0;
	bool whole = c.at < c.end && *c.at != '\0' && strchr(",:]}", *c.at) == NULL;
	if (whole && strchr("\"[{", *c.at) == NULL) {
		while (c.at < c.end && *c.at != '\0' && strchr(",:]}\"[{ \n\r\t", *c.at) == NULL)
			c.at++;
	} else if (whole) {
		do {
			depth += *c.at == '[' || *c.at == '{';
			depth -= *c.at == ']' || *c.at == '}';
			if (*c.at == '"')
				whole = skip_string(&c);
			else
				c.at++;
		} while (depth > 0 && c.at < c.end);
	}
	bool moved = c.at > text + *at;
	*at = (size_t)(c.at - text);
	return whole && moved && depth == 0 ? ESK_SCAN_OK : ESK_SCAN_SYNTAX;
}
