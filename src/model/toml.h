/* The part of TOML 1.0 that esker.toml is written in, read strictly.
 *
 * Read are: comments, [tables] with bare dotted names, bare and quoted keys, basic and literal strings on one
 * line, decimal integers and floats with underscores, true and false. Everything else is refused with line
 * and column, what TOML has beyond that by its name. Text must be UTF-8. May include: base. */
#ifndef ESK_MODEL_TOML_H
#define ESK_MODEL_TOML_H

#include "base/base.h"

#define ESK_TOML_MAX_BYTES (1u << 20)   /* of a whole file */
#define ESK_TOML_NAME_BYTES 512         /* of a key or a table's whole name */
#define ESK_TOML_TEXT_BYTES (16u << 10) /* of a value */

typedef enum esk_toml_type { ESK_TOML_TEXT, ESK_TOML_INTEGER, ESK_TOML_REAL, ESK_TOML_BOOLEAN } esk_toml_type;

/* `KEY = VALUE` in a table. Texts are borrowed for the duration of the call. */
typedef struct esk_toml_item {
	const char *table; /* "" before the first header */
	const char *key;
	unsigned line;
	esk_toml_type type;
	const char *text;
	int64_t integer;
	double real;
	bool boolean;
} esk_toml_item;

/* Both are called in the file's order; what they return other than ESK_OK ends the reading. */
typedef struct esk_toml_reader {
	esk_status (*table)(void *arg, const char *table, unsigned line, esk_error *err);
	esk_status (*item)(void *arg, const esk_toml_item *item, esk_error *err);
	void *arg;
} esk_toml_reader;

/* Reads `size` bytes; `file` is for messages ("FILE:LINE:COLUMN: …"). Errors: ESK_EINVAL, and what the reader
 * returns. Keeps nothing. */
esk_status esk_toml_read(
	const char *file, const char *text, size_t size, const esk_toml_reader *reader, esk_error *err);

/* A number as a file may have it, alone: type and integer or real of *item. False for any other text. */
bool esk_toml_number(const char *text, esk_toml_item *item);

/* "text", "an integer", "a float", "a boolean": for messages. */
const char *esk_toml_type_text(esk_toml_type type);

#endif
