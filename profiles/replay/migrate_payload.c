/* Taking payloads apart: see migrate_payload.h. */
#include "migrate_payload.h"

#include "internal.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGE_ELEMENTS 64 /* an array of so many values from 0 to 255 is a picture */

void esk_payload_form_clear(esk_payload_form *form)
{
	free(form->leaves);
	free(form->text);
	*form = (esk_payload_form){0};
}

bool esk_payload_text_add(esk_payload_text *text, const char *data, size_t size)
{
	if (text->capacity - text->size < size) {
		size_t capacity = text->size + size + text->capacity / 2 + 256;
		char *grown = realloc(text->data, capacity);
		if (grown == NULL)
			return false;
		text->data = grown;
		text->capacity = capacity;
	}
	if (size > 0)
		memcpy(text->data + text->size, data, size);
	text->size += size;
	return true;
}

/* ---- the walk over objects ---- */

/* What is done with a value that is no object: moves *at behind it, or leaves it at the byte in the way. */
typedef struct walker walker;
typedef esk_scan_fault (*visit_fn)(walker *w, size_t *at);

struct walker {
	const char *text;
	size_t size;
	char path[ESK_PAYLOAD_PATH];
	size_t path_size;
	visit_fn visit;
	void *arg;
};

/* Puts a key (without quotes) behind the path; returns the path's size before, or SIZE_MAX: too long. */
static size_t enter(walker *w, const char *key, size_t size)
{
	size_t before = w->path_size, slash = before > 0;
	if (size + slash >= sizeof w->path - before)
		return SIZE_MAX;
	if (slash)
		w->path[w->path_size++] = '/';
	memcpy(w->path + w->path_size, key, size);
	w->path_size += size;
	w->path[w->path_size] = '\0';
	return before;
}

static void leave(walker *w, size_t before)
{
	w->path_size = before;
	w->path[before] = '\0';
}

static esk_scan_fault walk_value(walker *w, size_t *at, unsigned depth);

/* "key": value */
static esk_scan_fault walk_member(walker *w, size_t *at, unsigned depth)
{
	size_t key = *at + 1;
	if (*at == w->size || w->text[*at] != '"')
		return ESK_SCAN_SYNTAX;
	esk_scan_fault fault = esk_scan_skip(w->text, w->size, at);
	if (fault != ESK_SCAN_OK)
		return fault;
	size_t key_size = *at - 1 - key;
	esk_scan_blanks(w->text, w->size, at);
	if (*at == w->size || w->text[*at] != ':')
		return ESK_SCAN_SYNTAX;
	++*at;
	size_t before = enter(w, w->text + key, key_size);
	if (before == SIZE_MAX)
		return ESK_SCAN_DEEP;
	fault = walk_value(w, at, depth);
	if (fault == ESK_SCAN_OK) /* else the path says where it is */
		leave(w, before);
	return fault;
}

static esk_scan_fault walk_object(walker *w, size_t *at, unsigned depth)
{
	++*at;
	esk_scan_blanks(w->text, w->size, at);
	if (*at < w->size && w->text[*at] == '}') {
		++*at;
		return ESK_SCAN_OK;
	}
	for (;;) {
		esk_scan_blanks(w->text, w->size, at);
		esk_scan_fault fault = walk_member(w, at, depth);
		if (fault != ESK_SCAN_OK)
			return fault;
		esk_scan_blanks(w->text, w->size, at);
		if (*at == w->size || (w->text[*at] != ',' && w->text[*at] != '}'))
			return ESK_SCAN_SYNTAX;
		if (w->text[(*at)++] == '}')
			return ESK_SCAN_OK;
	}
}

static esk_scan_fault walk_value(walker *w, size_t *at, unsigned depth)
{
	esk_scan_blanks(w->text, w->size, at);
	if (*at < w->size && w->text[*at] == '{' && depth < ESK_PAYLOAD_MAX_DEPTH)
		return walk_object(w, at, depth + 1);
	return w->visit(w, at);
}

/* The whole text; blanks around it are allowed. */
static esk_scan_fault walk(walker *w, size_t *ret_at)
{
	*ret_at = 0;
	esk_scan_fault fault = walk_value(w, ret_at, 0);
	if (fault != ESK_SCAN_OK)
		return fault;
	esk_scan_blanks(w->text, w->size, ret_at);
	return *ret_at == w->size ? ESK_SCAN_OK : ESK_SCAN_SYNTAX;
}

/* ---- survey ---- */

static void merge(esk_scan_form *into, const esk_scan_form *form)
{
	if (form->has_numbers && !into->has_numbers) {
		into->least = form->least;
		into->most = form->most;
	} else if (form->has_numbers) {
		into->least = form->least < into->least ? form->least : into->least;
		into->most = form->most > into->most ? form->most : into->most;
	}
	into->has_numbers |= form->has_numbers;
	into->has_reals |= form->has_reals;
	into->has_flags |= form->has_flags;
	into->wide |= form->wide;
	into->exact_f32 &= form->exact_f32;
}

static bool same_shape(const esk_scan_form *a, const esk_scan_form *b)
{
	return a->rank == b->rank && memcmp(a->shape, b->shape, a->rank * sizeof *a->shape) == 0;
}

static void see(esk_payload_survey *survey, const char *path, const esk_scan_form *form)
{
	for (size_t i = 0; i < survey->seen_count; i++) {
		esk_payload_seen *seen = &survey->seen[i];
		if (strcmp(seen->path, path) == 0 && same_shape(&seen->form, form)) {
			merge(&seen->form, form);
			seen->count++;
			return;
		}
	}
	if (survey->seen_count == ESK_PAYLOAD_MAX_LEAVES)
		return; /* a leaf more is text, which loses nothing */
	esk_payload_seen *seen = &survey->seen[survey->seen_count++];
	strcpy(seen->path, path);
	seen->form = *form;
	seen->count = 1;
}

static esk_scan_fault look_at_value(walker *w, size_t *at)
{
	esk_scan_form form;
	size_t behind = *at;
	if (esk_scan_look(w->text, w->size, &behind, &form) != ESK_SCAN_OK)
		return esk_scan_skip(w->text, w->size, at);
	see(w->arg, w->path, &form);
	*at = behind;
	return ESK_SCAN_OK;
}

void esk_payload_look(esk_payload_survey *survey, const char *text, size_t size)
{
	walker w = {.text = text, .size = size, .visit = look_at_value, .arg = survey};
	size_t at;
	survey->texts++;
	walk(&w, &at);
}

/* ---- choosing ---- */

/* The dtype that the signature names, if it names one alone; 0: none. */
static esk_kind signature_kind(const char *signature)
{
	static const struct {
		const char *name;
		esk_kind kind;
	} names[] = {{"uint8", ESK_U8}, {"float32", ESK_F32}, {"float64", ESK_F64}, {"int64", ESK_I64},
		{"int32", ESK_I64}, {"bool", ESK_BOOL}};
	esk_kind found = (esk_kind)0;
	for (size_t i = 0; signature != NULL && i < sizeof names / sizeof *names; i++) {
		if (strstr(signature, names[i].name) == NULL)
			continue;
		if (found != 0)
			return (esk_kind)0;
		found = names[i].kind;
	}
	return found;
}

/* 0 where no dtype holds the values. */
static esk_kind choose_kind(const esk_scan_form *form, esk_kind told)
{
	if (form->wide || (form->has_flags && form->has_numbers))
		return (esk_kind)0;
	if (form->has_flags)
		return ESK_BOOL;
	if (form->has_reals || told == ESK_F32 || told == ESK_F64)
		return told == ESK_F32 && form->exact_f32 ? ESK_F32 : ESK_F64;
	bool small = form->least >= 0 && form->most <= 255;
	return small && (told == ESK_U8 || form->elements >= LARGE_ELEMENTS) ? ESK_U8 : ESK_I64;
}

static size_t kind_bytes(esk_kind kind)
{
	return kind == ESK_BOOL || kind == ESK_U8 ? 1 : kind == ESK_F32 ? 4 : 8;
}

/* Whether `seen` is what most payloads had at its path. */
static bool is_usual(const esk_payload_survey *survey, const esk_payload_seen *seen)
{
	for (size_t i = 0; i < survey->seen_count; i++) {
		const esk_payload_seen *other = &survey->seen[i];
		if (other != seen && strcmp(other->path, seen->path) == 0 &&
			(other->count > seen->count || (other->count == seen->count && other < seen)))
			return false;
	}
	return true;
}

/* A column's name from a path of keys: what a column spec cannot hold becomes '_'. */
static void make_name(const char *path, char name[ESK_MAX_NAME + 1])
{
	size_t size = strlen(path);
	size = size < 150 ? size : 150;
	while (size > 0 && ((unsigned char)path[size] & 0xC0) == 0x80)
		size--; /* not in the middle of a character */
	for (size_t i = 0; i < size; i++) {
		unsigned char c = (unsigned char)path[i];
		bool kept = c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
			    (c >= 'a' && c <= 'z') || c == '_' || c == '-' ||
			    (c == '.' && i > 0 && path[i - 1] != '/') ||
			    (c == '/' && i > 0 && path[i - 1] != '/' && i + 1 < size);
		name[i] = kept ? (char)c : '_';
	}
	name[size] = '\0';
	/* "x_valid" is where the validity of "x" is kept. */
	if (size >= 6 && strcmp(name + size - 6, "_valid") == 0)
		strcat(name, "_");
}

static void name_leaf(esk_payload_form *form, esk_payload_leaf *leaf)
{
	if (leaf->path[0] == '\0')
		return;
	make_name(leaf->path, leaf->column);
	size_t size = strlen(leaf->column);
	unsigned turn = 2;
	for (const esk_payload_leaf *other = form->leaves; other < leaf; other++) {
		if (strcmp(other->column, leaf->column) != 0)
			continue;
		snprintf(leaf->column + size, sizeof leaf->column - size, "_%u", turn++);
		other = form->leaves - 1; /* the new name may be taken as well */
	}
}

static void add_leaf(esk_payload_form *form, const esk_payload_seen *seen, esk_kind kind)
{
	esk_payload_leaf *leaf = &form->leaves[form->leaf_count];
	*leaf = (esk_payload_leaf){.kind = kind, .rank = seen->form.rank};
	strcpy(leaf->path, seen->path);
	memcpy(leaf->shape, seen->form.shape, sizeof leaf->shape);
	leaf->cell_bytes = seen->form.elements * kind_bytes(kind);
	name_leaf(form, leaf);
	form->leaf_count++;
}

/* Keeps the largest array alone, at the root of the run. */
static void keep_largest(esk_payload_form *form)
{
	size_t best = SIZE_MAX;
	for (size_t i = 0; i < form->leaf_count; i++)
		if (form->leaves[i].rank > 0 &&
			(best == SIZE_MAX || form->leaves[i].cell_bytes > form->leaves[best].cell_bytes))
			best = i;
	form->leaf_count = best != SIZE_MAX;
	if (best == SIZE_MAX)
		return;
	form->leaves[0] = form->leaves[best];
	form->leaves[0].column[0] = '\0';
}

/* Some payloads are an array, others an object: a run has one or the other. */
static void keep_root_or_members(esk_payload_form *form, const esk_payload_survey *survey)
{
	size_t root = 0;
	for (size_t i = 0; i < survey->seen_count; i++)
		root += survey->seen[i].path[0] == '\0' ? survey->seen[i].count : 0;
	bool keep_root = 2 * root > survey->texts;
	size_t kept = 0;
	for (size_t i = 0; i < form->leaf_count; i++)
		if ((form->leaves[i].path[0] == '\0') == keep_root)
			form->leaves[kept++] = form->leaves[i];
	form->leaf_count = kept;
}

esk_status esk_payload_choose(const esk_payload_survey *survey, const esk_payload_wish *wish,
	esk_payload_form *ret_form, esk_error *err)
{
	esk_kind told = signature_kind(wish->signature);
	size_t bytes = (survey->seen_count + 1) * sizeof(esk_payload_leaf);
	*ret_form = (esk_payload_form){.leaves = calloc(1, bytes)};
	if (ret_form->leaves == NULL)
		return esk_fail_memory(err, bytes, "the leaves of a payload");
	for (size_t i = 0; i < survey->seen_count; i++) {
		const esk_payload_seen *seen = &survey->seen[i];
		esk_kind kind = choose_kind(&seen->form, told);
		if (kind != 0 && is_usual(survey, seen) && seen->form.elements < UINT64_C(1) << 36)
			add_leaf(ret_form, seen, kind);
	}
	if (wish->single)
		keep_largest(ret_form);
	else
		keep_root_or_members(ret_form, survey);
	return ESK_OK;
}

/* ---- reading ---- */

typedef struct reading {
	const esk_payload_form *form;
	uint8_t *cells;
	esk_payload_text *text;
	size_t kept; /* bytes of the payload that are in `text`, or cut out of it */
	esk_payload_result *result;
} reading;

static size_t find_leaf(const esk_payload_form *form, const char *path)
{
	for (size_t i = 0; i < form->leaf_count; i++)
		if (strcmp(form->leaves[i].path, path) == 0)
			return i;
	return SIZE_MAX;
}

/* Puts the payload up to `from` into the text, "null" for what stands up to `to`. */
static esk_scan_fault cut(walker *w, reading *r, size_t from, size_t to)
{
	if (!esk_payload_text_add(r->text, w->text + r->kept, from - r->kept) ||
		!esk_payload_text_add(r->text, "null", 4)) {
		r->result->no_memory = true;
		return ESK_SCAN_OTHER;
	}
	r->kept = to;
	return ESK_SCAN_OK;
}

/* A value that is no leaf of the run stays text. Where there are no leaves at all, a ragged array is why. */
static esk_scan_fault keep_value(walker *w, const reading *r, size_t *at)
{
	if (r->form->leaf_count == 0 && !r->form->plain && *at < w->size && w->text[*at] == '[') {
		esk_scan_form form;
		size_t behind = *at;
		if (esk_scan_look(w->text, w->size, &behind, &form) == ESK_SCAN_RAGGED) {
			*at = behind;
			return ESK_SCAN_RAGGED;
		}
	}
	return esk_scan_skip(w->text, w->size, at);
}

static esk_scan_fault read_value(walker *w, size_t *at)
{
	reading *r = w->arg;
	size_t i = find_leaf(r->form, w->path), from = *at;
	if (i == SIZE_MAX)
		return keep_value(w, r, at);
	const esk_payload_leaf *leaf = &r->form->leaves[i];
	if (r->result->has[i])
		return ESK_SCAN_SYNTAX; /* the same key twice */
	if (w->size - from >= 4 && memcmp(w->text + from, "null", 4) == 0) {
		*at = from + 4; /* a cell that is not there */
		return ESK_SCAN_OK;
	}
	esk_scan_fault fault = esk_scan_read(
		w->text, w->size, at, leaf->kind, leaf->rank, leaf->shape, r->cells + leaf->offset);
	if (fault == ESK_SCAN_SHAPE || fault == ESK_SCAN_RAGGED) {
		/* Of another shape, or of none? */
		esk_scan_form form;
		size_t behind = from;
		esk_scan_fault looked = esk_scan_look(w->text, w->size, &behind, &form);
		*at = looked == ESK_SCAN_OK ? from : behind;
		return looked == ESK_SCAN_OK ? ESK_SCAN_SHAPE : looked;
	}
	if (fault != ESK_SCAN_OK)
		return fault;
	r->result->has[i] = 1;
	return cut(w, r, from, *at);
}

static bool refuse(esk_payload_result *result, const char *what, size_t at, size_t size, const char *path)
{
	const char *where = path[0] != '\0' ? path : "the root";
	snprintf(result->fault, sizeof result->fault, "%s at byte %zu of %zu (in %s)", what, at, size, where);
	return false;
}

/* Whether the text around the leaves is JSON: what was cut out of it was looked at by the scanner. */
static bool check_text(const char *text, size_t size, esk_payload_result *result)
{
	json_error_t fault;
	json_t *value = json_loadb(text, size, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &fault);
	if (value == NULL) {
		snprintf(result->fault, sizeof result->fault,
			"no JSON: %s (byte %d of the text without its arrays)", fault.text, fault.position);
		return false;
	}
	json_decref(value);
	return true;
}

bool esk_payload_read(const esk_payload_form *form, const char *json, size_t size, uint8_t *cells,
	esk_payload_text *text, esk_payload_result *ret_result)
{
	size_t begin = text->size, at;
	*ret_result = (esk_payload_result){0};
	reading r = {.form = form, .cells = cells, .text = text, .result = ret_result};
	walker w = {.text = json, .size = size, .visit = read_value, .arg = &r};
	esk_scan_fault fault = walk(&w, &at);
	if (fault == ESK_SCAN_OK && !esk_payload_text_add(text, json + r.kept, size - r.kept))
		ret_result->no_memory = true;
	if (ret_result->no_memory) {
		snprintf(ret_result->fault, sizeof ret_result->fault, "out of memory");
		return false;
	}
	if (fault != ESK_SCAN_OK) {
		text->size = begin;
		return refuse(ret_result, esk_scan_fault_text(fault), at, size, w.path);
	}
	size_t text_size = text->size - begin;
	ret_result->usual = form->text != NULL && form->text_bytes == text_size &&
			    memcmp(form->text, text->data + begin, text_size) == 0;
	return ret_result->usual || form->plain || check_text(text->data + begin, text_size, ret_result);
}
