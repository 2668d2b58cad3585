/* What an Arrow format string says: the layout of the type's buffers and its parameters.
 *
 * The format strings are those of the Arrow C data interface. May include: base. */
#ifndef ESK_ARROW_TYPE_H
#define ESK_ARROW_TYPE_H

#include "base/base.h"
#include <esker/arrow.h>

/* How the values of a type lie in memory. */
typedef enum esk_arrow_layout {
	ESK_ARROW_NULL,         /* no buffers */
	ESK_ARROW_BOOL,         /* validity, bits */
	ESK_ARROW_FIXED,        /* validity, values of width_bytes each */
	ESK_ARROW_BINARY,       /* validity, 32-bit offsets, bytes */
	ESK_ARROW_LARGE_BINARY, /* validity, 64-bit offsets, bytes */
	ESK_ARROW_LIST,         /* validity, 32-bit offsets; one child */
	ESK_ARROW_LARGE_LIST,   /* validity, 64-bit offsets; one child */
	ESK_ARROW_MAP,          /* as LIST; the child is a struct of key and value */
	ESK_ARROW_FIXED_LIST,   /* validity; one child, list_size items per row */
	ESK_ARROW_STRUCT,       /* validity; children */
	ESK_ARROW_SPARSE_UNION, /* type ids; children, each as long as the union */
	ESK_ARROW_DENSE_UNION,  /* type ids, 32-bit offsets; children */
	ESK_ARROW_RUN_END,      /* no buffers; children run_ends and values */
} esk_arrow_layout;

typedef enum esk_arrow_kind {
	ESK_ARROW_OTHER,    /* the layout says it all */
	ESK_ARROW_SIGNED,   /* c s i l */
	ESK_ARROW_UNSIGNED, /* C S I L */
	ESK_ARROW_FLOAT,    /* e f g */
	ESK_ARROW_DECIMAL,  /* d: */
	ESK_ARROW_FIXED_BINARY,
	ESK_ARROW_DATE,
	ESK_ARROW_TIME,
	ESK_ARROW_TIMESTAMP,
	ESK_ARROW_DURATION,
	ESK_ARROW_INTERVAL,
	ESK_ARROW_UTF8, /* BINARY and LARGE_BINARY whose bytes are text */
} esk_arrow_kind;

typedef struct esk_arrow_type {
	esk_arrow_layout layout;
	esk_arrow_kind kind;
	uint32_t width_bytes; /* of a FIXED value */
	int32_t precision;    /* of a decimal */
	int32_t scale;
	int32_t list_size; /* of a FIXED_LIST */
	char unit;         /* of what measures time: s m u n; D for days, M for months, of intervals M D n */
	const char *rest;  /* time zone of a timestamp; "I,J,…" of a union: within the format; else NULL */
	uint32_t buffers;  /* how many the C data interface demands */
	bool validity;     /* the first of them is a validity bitmap */
	bool variable_children; /* any number of children; else exactly `children` */
	uint32_t children;
} esk_arrow_type;

/* Errors: ESK_EUNSUPPORTED for what is not in the vocabulary, and for views; the message has the format. */
esk_status esk_arrow_type_parse(const char *format, esk_arrow_type *ret_type, esk_error *err);

/* The type ids of a union: which child each belongs to, -1 for ids that are none of its. Errors:
 * ESK_EUNSUPPORTED where an id is no number of 0..127, occurs twice, or there are not `children` of them. */
esk_status esk_arrow_type_ids(
	const esk_arrow_type *type, int64_t children, int16_t ret_child_of[128], esk_error *err);

/* The type's name as people know it, for messages: "timestamp", "list"; never NULL. */
const char *esk_arrow_format_name(const char *format);

#endif
