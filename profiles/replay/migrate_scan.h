/* Nested arrays of numbers in JSON text, straight into a typed buffer.
 *
 * An array is regular when every element of a level has the same length; then it has a shape, and its numbers
 * in the order of the text are its C-contiguous bytes. Anything else is refused with the position of the
 * first byte that is in the way. NaN, Infinity and -Infinity are numbers, as Python's json module writes
 * them.
 *
 * The text needs no terminator and no padding: nothing outside [text, text + size) is read. */
#ifndef ESK_REPLAY_MIGRATE_SCAN_H
#define ESK_REPLAY_MIGRATE_SCAN_H

#include <esker/column.h>

typedef enum esk_scan_fault {
	ESK_SCAN_OK = 0,
	ESK_SCAN_SYNTAX, /* no JSON here: a bracket, comma or digit is missing */
	ESK_SCAN_OTHER,  /* something that is no number: text, an object, null */
	ESK_SCAN_EMPTY,  /* an array without elements, which no dataset can hold */
	ESK_SCAN_RAGGED, /* an element of another length, or deeper or flatter, than those before it */
	ESK_SCAN_SHAPE,  /* regular, but not of the shape expected */
	ESK_SCAN_VALUE,  /* a number that the dtype does not hold exactly */
	ESK_SCAN_DEEP    /* more levels than a dataset has dimensions */
} esk_scan_fault;

/* A plain phrase for a fault: "rows of different lengths". */
const char *esk_scan_fault_text(esk_scan_fault fault);

/* What an array is: its shape and what its values are like. A single number has rank 0. */
typedef struct esk_scan_form {
	uint32_t rank;
	uint64_t shape[ESK_MAX_RANK];
	uint64_t elements;
	bool has_reals;   /* a number with a point, an exponent, NaN or Infinity */
	bool has_flags;   /* true or false */
	bool has_numbers; /* anything but true and false */
	bool wide;        /* an integer beyond 64 bits */
	int64_t least;    /* of the integers */
	int64_t most;
	bool exact_f32; /* every number is a 32-bit float */
} esk_scan_form;

/* Looks at the value at text[*at] (a number, true, false, or an array of them) without keeping it. *at moves
 * behind it; on a fault, to the byte in the way. */
esk_scan_fault esk_scan_look(const char *text, size_t size, size_t *at, esk_scan_form *ret_form);

/* Reads the value at text[*at], which must be of the form expected (rank and shape), as elements of `kind`
 * (ESK_BOOL, ESK_U8, ESK_I64, ESK_F32, ESK_F64) into `cell`, which has room for its elements. Every value
 * must come out exactly: no integer outside the range, no real in an integer, no f32 that rounds. Integers
 * become reals where 53 bits hold them. *at as above. */
esk_scan_fault esk_scan_read(const char *text, size_t size, size_t *at, esk_kind kind, uint32_t rank,
	const uint64_t *shape, void *cell);

/* Moves *at behind the JSON value there, whatever it is: strings and brackets are looked at, not more. */
esk_scan_fault esk_scan_skip(const char *text, size_t size, size_t *at);

/* Moves *at to the next byte that is no blank. */
void esk_scan_blanks(const char *text, size_t size, size_t *at);

#endif
