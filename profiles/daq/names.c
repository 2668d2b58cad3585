/* Names of instruments and rings, and declarations: bytes that other processes wrote. */
#include "internal.h"
#include "rings.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 8u

/* Bytes of the UTF-8 character at `text`, 0 if there is none that is sound. */
static size_t character_bytes(const unsigned char *text)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t size = text[0] < 0x80 ? 1 : text[0] < 0xC2 ? 0 : text[0] < 0xE0 ? 2 : text[0] < 0xF0 ? 3 : 4;
	if (size <= 1 || text[0] > 0xF4)
		return text[0] > 0xF4 ? 0 : size;
	uint32_t value = text[0] & (0xFFu >> (size + 1));
	for (size_t i = 1; i < size; i++) {
		if ((text[i] & 0xC0) != 0x80)
			return 0;
		value = value << 6 | (text[i] & 0x3F);
	}
	return value < least[size] || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000) ? 0 : size;
}

esk_status esk_daq_check_name(const char *what, const char *name, esk_error *err)
{
	size_t size = strnlen(name, ESK_DAQ_MAX_INSTRUMENT + 1);
	if (size == 0)
		return esk_fail(err, ESK_EINVAL, "%s without a name", what);
	if (size > ESK_DAQ_MAX_INSTRUMENT)
		return esk_fail(err, ESK_EINVAL, "%s \"%.32s…\": its name has more than %d bytes", what, name,
			ESK_DAQ_MAX_INSTRUMENT);
	if (name[0] == '.')
		return esk_fail(err, ESK_EINVAL, "%s \"%s\": a name does not begin with '.'", what, name);
	for (size_t at = 0; at < size;) {
		const unsigned char *c = (const unsigned char *)name + at;
		size_t step = character_bytes(c);
		if (step == 0)
			return esk_fail(err, ESK_EINVAL, "%s: byte %zu of its name is not UTF-8", what, at);
		if (*c < 0x20 || *c == 0x7F || *c == '/' || *c == '\\' || *c == ':')
			return esk_fail(err, ESK_EINVAL,
				"%s: byte %zu of its name is 0x%02x; control characters and / \\ : are not "
				"allowed",
				what, at, *c);
		at += step;
	}
	return ESK_OK;
}

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
	esk_status status = esk_daq_check_name("a declared instrument", d.instrument, err);
	if (status != ESK_OK)
		return status;
	d.schema = (const char *)bytes + schema_offset(name_bytes);
	d.schema_bytes = size - schema_offset(name_bytes);
	*ret_declaration = d;
	return ESK_OK;
}

esk_status esk_daq_declare(esk_ring *ring, const char *instrument, const void *schema, size_t schema_bytes,
	uint32_t *ret_number, esk_error *err)
{
	const char *name = instrument != NULL ? instrument : ESK_DAQ_DEFAULT_INSTRUMENT;
	esk_status status = esk_daq_check_name("instrument", name, err);
	if (status != ESK_OK)
		return status;
	if (strcmp(name, ESK_DAQ_RING_STREAM) == 0)
		return esk_fail(err, ESK_EINVAL,
			"instrument \"%s\": the name is that of the writer's account; choose another", name);
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
