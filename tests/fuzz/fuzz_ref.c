/* Any text as a ref: it is refused with a message, or it means the same after format and parse. */
#include "model/model.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(int condition)
{
	if (!condition)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	insist(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	esk_ref ref, again;
	esk_error err = {0};
	esk_status status = esk_ref_parse(text, &ref, &err);
	free(text);
	if (status != ESK_OK) {
		insist(err.code == status && err.message[0] != '\0');
		return 0;
	}
	/* Every byte of run and path may need three. */
	char formatted[3 * (sizeof ref.run + sizeof ref.path) + 64];
	insist(esk_ref_format(&ref, formatted, sizeof formatted) < sizeof formatted);
	insist(esk_ref_parse(formatted, &again, &err) == ESK_OK);
	insist(strcmp(ref.run, again.run) == 0 && strcmp(ref.path, again.path) == 0);
	insist(ref.kind == again.kind && ref.start == again.start && ref.stop == again.stop);
	insist(ref.start <= ref.stop);
	return 0;
}
