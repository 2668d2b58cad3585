/* Printing a JSON value: see json.h. */
#include "json.h"

#include <stdio.h>
#include <stdlib.h>

void cli_print_json(json_t *value)
{
	char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
	for (const char *at = text; at != NULL && *at != '\0'; at++) {
		if (*at == 0x7f)
			fputs("\\u007f", stdout); /* the one control character that jansson leaves as it is */
		else
			fputc(*at, stdout);
	}
	fputc('\n', stdout);
	free(text);
	json_decref(value);
}
