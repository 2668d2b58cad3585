/* Any text as column specs: it is refused with a message, or each column passes the check and means the same
 * after format and parse. */
#include "model/model.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(int condition)
{
	if (!condition)
		abort();
}

static void insist_sound(const esk_column *column)
{
	char spec[2048];
	esk_column *again;
	size_t count;
	insist(esk_column_check(column, NULL) == ESK_OK);
	insist(esk_column_cell_bytes(column) >= 1 && esk_column_chunk_rows(column) >= 1);
	insist(esk_column_format(column, spec, sizeof spec) < sizeof spec);
	insist(esk_columns_parse(spec, &again, &count, NULL) == ESK_OK);
	insist(count == 1 && esk_column_match(column, again, NULL) == ESK_OK);
	insist(strcmp(column->codec, again->codec) == 0);
	esk_columns_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	insist(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	esk_column *columns;
	size_t count;
	esk_error err = {0};
	esk_status status = esk_columns_parse(text, &columns, &count, &err);
	free(text);
	if (status != ESK_OK) {
		insist(err.code == status && err.message[0] != '\0');
		return 0;
	}
	insist(count >= 1 && count <= ESK_MAX_COLUMNS);
	for (size_t i = 0; i < count; i++)
		insist_sound(&columns[i]);
	esk_columns_free(columns);
	return 0;
}
