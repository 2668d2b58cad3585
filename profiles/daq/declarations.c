/* Declarations in rings of instruments: bytes that other processes wrote. */
#include "rings.h"
#include <esker/profile.h>

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 8u

static size_t schema_offset(size_t name_bytes)
{
	return (sizeof(uint16_t) + name_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

esk_status esk_daq_declaration_parse(
	const void *bytes, size_t size, esk_daq_declaration *ret_declaration, esk_error *err)
{
	uint16_t name_bytes;
	esk_daq_declaration d = {0};
	if (size < sizeof name_bytes)
		return esk_fail(err, ESK_ECORRUPT, "a declaration of %zu bytes: it has no name", size);
	memcpy(&name_bytes, bytes, sizeof name_bytes);
	if (name_bytes > ESK_DAQ_MAX_INSTRUMENT || schema_offset(name_bytes) >= size)
		return esk_fail(err, ESK_ECORRUPT,
			"a declaration of %zu bytes: a name of %u bytes and a schema do not fit", size,
			name_bytes);
	memcpy(d.instrument, (const char *)bytes + sizeof name_bytes, name_bytes);
	if (strlen(d.instrument) != name_bytes)
		return esk_fail(err, ESK_ECORRUPT, "a declaration whose instrument's name has a NUL byte");
	esk_status status = esk_name_check(d.instrument, "declared instrument", err);
	if (status != ESK_OK)
		return status;
	d.schema = (const char *)bytes + schema_offset(name_bytes);
	d.schema_bytes = size - schema_offset(name_bytes);
	*ret_declaration = d;
	return ESK_OK;
}

esk_status esk_daq_check_instrument(const char *name, esk_error *err)
{
	esk_status status = esk_name_check(name, "instrument", err);
	if (status == ESK_OK && strcmp(name, ESK_DAQ_RING_STREAM) == 0)
		status = esk_fail(err, ESK_EINVAL,
			"instrument \"%s\": the name is that of the writer's account; choose another", name);
	return status;
}

esk_status esk_daq_declare(esk_ring *ring, const char *instrument, const void *schema, size_t schema_bytes,
	uint32_t *ret_number, esk_error *err)
{
	const char *name = instrument != NULL ? instrument : ESK_DAQ_DEFAULT_INSTRUMENT;
	esk_status status = esk_daq_check_instrument(name, err);
	if (status != ESK_OK)
		return status;
	uint16_t name_bytes = (uint16_t)strlen(name);
	size_t offset = schema_offset(name_bytes);
	uint8_t *bytes = calloc(1, offset + schema_bytes);
	if (bytes == NULL)
		return esk_fail_memory(err, offset + schema_bytes, "a declaration");
	memcpy(bytes, &name_bytes, sizeof name_bytes);
	memcpy(bytes + sizeof name_bytes, name, name_bytes);
	memcpy(bytes + offset, schema, schema_bytes);
	status = esk_ring_declare(ring, bytes, offset + schema_bytes, ret_number, err);
	free(bytes);
	return status;
}
