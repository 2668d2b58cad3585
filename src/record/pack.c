/* Attributes in a record of the ring: what docs/FORMAT.md says of kinds 3 and 4.
 *
 *   | u32 kind | u32 name bytes | u64 integer, bits of a real, or text bytes | name | text | (to 8) | … */
#include "record/internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct packed_attribute {
	uint32_t kind; /* esk_h5_scalar_kind */
	uint32_t name_bytes;
	uint64_t value;
} packed_attribute;

static uint64_t text_bytes(const esk_attribute *attribute)
{
	return attribute->value.kind == ESK_H5_TEXT ? strlen(attribute->value.text) : 0;
}

uint64_t esk_attributes_packed_bytes(const esk_attribute *attributes, size_t count)
{
	uint64_t bytes = 0;
	for (size_t i = 0; i < count; i++)
		bytes += esk_round_up(
			sizeof(packed_attribute) + strlen(attributes[i].name) + text_bytes(&attributes[i]),
			8);
	return bytes;
}

uint8_t *esk_attributes_pack(uint8_t *to, const esk_attribute *attributes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const esk_attribute *attribute = &attributes[i];
		packed_attribute head = {.kind = (uint32_t)attribute->value.kind,
			.name_bytes = (uint32_t)strlen(attribute->name),
			.value = (uint64_t)attribute->value.integer};
		uint64_t text = text_bytes(attribute);
		uint64_t bytes = sizeof head + head.name_bytes + text;
		if (attribute->value.kind == ESK_H5_REAL)
			memcpy(&head.value, &attribute->value.real, sizeof head.value);
		else if (attribute->value.kind == ESK_H5_TEXT)
			head.value = text;
		memcpy(to, &head, sizeof head);
		memcpy(to + sizeof head, attribute->name, head.name_bytes);
		if (text > 0)
			memcpy(to + sizeof head + head.name_bytes, attribute->value.text, text);
		memset(to + bytes, 0, esk_round_up(bytes, 8) - bytes);
		to += esk_round_up(bytes, 8);
	}
	return to;
}

/* ESK_ECORRUPT where it is none, ESK_ENOMEM. */
static esk_status unpack_one(
	const uint8_t **at, const uint8_t *end, const char *object, esk_attribute *attribute, esk_error *err)
{
	packed_attribute head;
	if ((size_t)(end - *at) < sizeof head)
		return ESK_ECORRUPT;
	memcpy(&head, *at, sizeof head);
	uint64_t room = (uint64_t)(end - *at) - sizeof head;
	uint64_t text = head.kind == ESK_H5_TEXT ? head.value : 0;
	if (head.kind > ESK_H5_TEXT || head.name_bytes > ESK_MAX_NAME || head.name_bytes > room ||
		text > room - head.name_bytes)
		return ESK_ECORRUPT;
	const char *name = (const char *)*at + sizeof head;
	memcpy(attribute->name, name, head.name_bytes);
	attribute->name[head.name_bytes] = '\0';
	attribute->value =
		(esk_h5_scalar){.kind = (esk_h5_scalar_kind)head.kind, .integer = (int64_t)head.value};
	memcpy(&attribute->value.real, &head.value, sizeof head.value);
	if (esk_attribute_check(object, attribute->name, NULL) != ESK_OK)
		return ESK_ECORRUPT;
	if (head.kind == ESK_H5_TEXT) {
		attribute->value.text = strndup(name + head.name_bytes, text);
		if (attribute->value.text == NULL)
			return esk_fail_memory(err, text, "attributes");
	}
	uint64_t bytes = esk_round_up(sizeof head + head.name_bytes + text, 8);
	*at = bytes < (uint64_t)(end - *at) ? *at + bytes : end;
	return ESK_OK;
}

esk_status esk_attributes_unpack(const uint8_t **at, const uint8_t *end, uint64_t count, const char *object,
	esk_attribute **ret_attributes, esk_error *err)
{
	if (count > (uint64_t)(end - *at) / sizeof(packed_attribute))
		return ESK_ECORRUPT;
	esk_attribute *attributes = calloc(count + 1, sizeof *attributes);
	if (attributes == NULL)
		return esk_fail_memory(err, count * sizeof *attributes, "attributes");
	esk_status status = ESK_OK;
	for (uint64_t i = 0; i < count && status == ESK_OK; i++)
		status = unpack_one(at, end, object, &attributes[i], err);
	if (status == ESK_OK)
		*ret_attributes = attributes;
	else
		esk_attributes_free(attributes, count);
	return status;
}
