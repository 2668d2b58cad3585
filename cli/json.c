/* Printing a JSON value: see json.h. */
#include "json.h"

#include "text.h"

#include <stdlib.h>
#include <string.h>

void cli_print_json(json_t *value)
{
	char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY);
	size_t left = text != NULL ? strlen(text) : 0;
	for (const char *at = text; left > 0;) {
		uint32_t code;
		size_t length = cli_utf8(at, left, &code);
		if (length == 0)
			break; /* jansson gives UTF-8 alone */
		/* Outside strings there is no control character but the line's end. */
		if (cli_steers_terminal(code) && code != '\n')
			printf("\\u%04x", code);
		else
			fwrite(at, 1, length, stdout);
		at += length;
		left -= length;
	}
	fputc('\n', stdout);
	free(text);
	json_decref(value);
}
