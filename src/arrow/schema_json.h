/* What writing and reading schemas as JSON share: the names of the integration form, and base64. */
#ifndef ESK_ARROW_SCHEMA_JSON_H
#define ESK_ARROW_SCHEMA_JSON_H

#include "base/base.h"

/* Units of time by the letter that a format string has: "SECOND" for 's'; NULL where there is none. */
const char *esk_schema_unit_name(char unit);
char esk_schema_unit_letter(const char *name); /* 0: no such unit */

/* Base64 with padding, malloc'ed and terminated; NULL where memory runs out. */
char *esk_base64_encode(const void *data, size_t bytes);
/* Into `to`, which has room for 3/4 of `size` bytes. False where it is no base64. */
bool esk_base64_decode(const char *text, size_t size, uint8_t *to, size_t *ret_bytes);

#endif
