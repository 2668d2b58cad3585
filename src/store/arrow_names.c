/* Names of fields as names of datasets. */
#include "store/arrow_map.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_escape(const char *s)
{
	return s[0] == '%' && isxdigit((unsigned char)s[1]) && isxdigit((unsigned char)s[2]);
}

/* True where the byte cannot stand in a dataset's name, or would read as an escape. */
static bool is_escaped(const char *name, size_t i)
{
	unsigned char c = (unsigned char)name[i];
	bool control = c < 0x20 || c == 0x7F || (c == 0xC2 && (unsigned char)name[i + 1] < 0xA0) ||
		       (i > 0 && (unsigned char)name[i - 1] == 0xC2 && c >= 0x80 && c < 0xA0);
	return control || c == '/' || c == '\\' || c == ':' || (c == '.' && i == 0) || is_escape(name + i);
}

esk_status esk_map_escape(const char *name, char **ret_name, esk_error *err)
{
	if (name == NULL || *name == '\0')
		return esk_fail(err, ESK_EINVAL, "a column has no name");
	size_t size = strlen(name), at = 0;
	if (esk_text_sound_bytes(name, size) != size)
		return esk_fail(err, ESK_EINVAL, "the name of a column is not UTF-8 at byte %zu",
			esk_text_sound_bytes(name, size));
	char *escaped = malloc(3 * size + 1);
	if (escaped == NULL)
		return esk_fail_memory(err, 3 * size + 1, "a column's name");
	for (size_t i = 0; i < size; i++)
		if (is_escaped(name, i))
			at += (size_t)sprintf(escaped + at, "%%%02X", (unsigned char)name[i]);
		else
			escaped[at++] = name[i];
	escaped[at] = '\0';
	esk_status status = esk_name_check(escaped, "column", err);
	if (status != ESK_OK) {
		free(escaped);
		return status;
	}
	*ret_name = escaped;
	return ESK_OK;
}

char *esk_map_unescape(const char *name)
{
	char *plain = malloc(strlen(name) + 1);
	size_t at = 0;
	if (plain == NULL)
		return NULL;
	for (const char *s = name; *s != '\0'; s++) {
		if (is_escape(s)) {
			char digits[3] = {s[1], s[2], '\0'};
			plain[at++] = (char)strtoul(digits, NULL, 16);
			s += 2;
		} else {
			plain[at++] = *s;
		}
	}
	plain[at] = '\0';
	return plain;
}

char *esk_map_join(const char *below, const char *name)
{
	char *path = malloc(strlen(below) + strlen(name) + 2);
	if (path != NULL)
		sprintf(path, "%s%s%s", below, *below != '\0' && *name != '\0' ? "/" : "", name);
	return path;
}

/* ---- one dataset, one column ---- */

typedef struct place {
	char *dataset; /* path */
	const esk_map_table *table;
	const char *column;
} place;

static int by_dataset(const void *a, const void *b)
{
	return strcmp(((const place *)a)->dataset, ((const place *)b)->dataset);
}

static bool add_place(
	place *places, size_t *count, const esk_map_table *table, const esk_column *column, bool valid)
{
	char name[ESK_MAX_NAME + 16];
	snprintf(name, sizeof name, "%s%s", column->name, valid ? "_valid" : "");
	places[*count] = (place){esk_map_join(table->below, name), table, column->name};
	return places[*count].dataset != NULL && (++*count, true);
}

static esk_status find_twice(const place *places, size_t count, esk_error *err)
{
	for (size_t i = 1; i < count; i++) {
		const place *a = &places[i - 1], *b = &places[i];
		if (strcmp(a->dataset, b->dataset) != 0)
			continue;
		if (a->table == b->table && strcmp(a->column, b->column) == 0)
			return esk_fail(err, ESK_EINVAL, "column \"%s\" is there twice", a->dataset);
		return esk_fail(err, ESK_EINVAL,
			"columns \"%s\" and \"%s\" would both make the dataset \"%s\": give one of them "
			"another name",
			a->column, b->column, a->dataset);
	}
	return ESK_OK;
}

esk_status esk_map_check_apart(const esk_map *map, esk_error *err)
{
	size_t count = 0;
	bool enough = true;
	place *places = calloc(2 * map->column_count + 1, sizeof *places);
	for (size_t t = 0; t < map->table_count && places != NULL; t++) {
		const esk_map_table *table = &map->tables[t];
		for (size_t c = 0; c < table->count && enough; c++) {
			enough = add_place(places, &count, table, &table->columns[c], false);
			if (enough && table->columns[c].nullable)
				enough = add_place(places, &count, table, &table->columns[c], true);
		}
	}
	esk_status status = ESK_OK;
	if (places == NULL || !enough) {
		status = esk_fail_memory(err, 2 * map->column_count * sizeof *places, "names of columns");
	} else {
		qsort(places, count, sizeof *places, by_dataset);
		status = find_twice(places, count, err);
	}
	for (size_t i = 0; i < count; i++)
		free(places[i].dataset);
	free(places);
	return status;
}
